#include "boot/shared_object.h"

#include "millrace/base/fmt.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <unistd.h>

static bool object_path(const char *name, char *out, size_t size)
{
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program);
    if (len <= 0 || (size_t)len >= sizeof program) {
        return false;
    }
    while (len > 0 && program[len - 1] != '/') {
        len--;
    }
    mr_fmt(out, size, "%.*s%s", (int)len, program, name);
    return access(out, R_OK) == 0;
}

void *mr_shared_object(const char *name, const char *symbol, const char *absent, char *why, size_t why_size)
{
    char path[PATH_MAX + 64];
    if (!object_path(name, path, sizeof path)) {
        mr_fmt(why, why_size, "%s", absent);
        return NULL;
    }
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *entry = object == NULL ? NULL : dlsym(object, symbol);
    if (entry == NULL) {
        mr_fmt(why, why_size, "%s cannot be loaded: %s", name, dlerror());
    }
    return entry;
}
