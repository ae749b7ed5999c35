#include "check_kept.h"

#include "millrace/base/fmt.h"

#include <string.h>

#define NAMES_MAX 65536u
#define PATH_BYTES 512u

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    return len >= strlen(end) && strcmp(text + len - strlen(end), end) == 0;
}

/* "<topic>-<number>", and not what is being deleted. */
static bool is_of(const char *name, const char *topic)
{
    size_t len = strlen(topic);
    return strncmp(name, topic, len) == 0 && name[len] == '-' && strspn(name + len + 1, "0123456789") == strlen(name + len + 1);
}

static bool check_partition(const struct mr_sim_fs *fs, const char *dir, int64_t retention_bytes, char *why, size_t why_size)
{
    static char names[NAMES_MAX];
    size_t      len = mr_sim_fs_names(fs, dir, names, sizeof names);
    const char *first = NULL; /* names of segments are of equal length: they sort by offset */
    int64_t     first_bytes = 0;
    int64_t     bytes = 0;
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        char path[PATH_BYTES];
        if (!ends_with(name, ".log")) {
            continue;
        }
        mr_fmt(path, sizeof path, "%s/%s", dir, name);
        int64_t size = mr_sim_fs_get(fs, path, NULL, 0);
        bytes += size;
        if (first == NULL || strcmp(name, first) < 0) {
            first = name;
            first_bytes = size;
        }
    }
    if (bytes > first_bytes && bytes - first_bytes >= retention_bytes) {
        mr_fmt(why, why_size, "retention left %lld bytes in %s, of which %lld in the first segment", (long long)bytes, dir,
               (long long)first_bytes);
        return false;
    }
    return true;
}

bool mr_check_kept_topic(const struct mr_sim_fs *fs, const char *log_dir, const char *topic, int64_t retention_bytes,
                         char *why, size_t why_size)
{
    static char names[NAMES_MAX];
    size_t      len = mr_sim_fs_names(fs, log_dir, names, sizeof names);
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        char dir[PATH_BYTES];
        mr_fmt(dir, sizeof dir, "%s/%s", log_dir, name);
        if (is_of(name, topic) && !check_partition(fs, dir, retention_bytes, why, why_size)) {
            return false;
        }
    }
    return true;
}
