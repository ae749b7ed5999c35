#include "test.h"

#include "millrace/base/assert.h"

#include <sys/mman.h>

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "panic: %s:%d: %s\n", file, line, what);
    fflush(stderr);
    abort();
}

void *mr_test_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        abort();
    }
    return memory;
}

void mr_test_memory_fresh(void *memory, size_t bytes)
{
    if (madvise(memory, bytes, MADV_DONTNEED) != 0) {
        abort();
    }
}
