#include "boot/memory.h"

#include "millrace/base/fmt.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

void *mr_memory_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    /* With huge pages one touched byte would cost 2 MiB: an idle broker is small because its tables are
     * touched page by page. */
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

void mr_memory_unmap(void *memory, size_t bytes)
{
    (void)munmap(memory, bytes);
}

bool mr_memory_arena(struct mr_arena *arena, size_t bytes)
{
    void *memory = mr_memory_map(bytes);
    mr_arena_init(arena, memory, memory == NULL ? 0 : bytes);
    return memory != NULL;
}

void mr_memory_huge(const struct mr_arena *arena)
{
    for (uint32_t index = 0; index < arena->bulk_count; index++) {
        (void)madvise(arena->bulk[index].base, arena->bulk[index].bytes, MADV_HUGEPAGE);
    }
}

void mr_memory_give_back(void *base, size_t bytes)
{
    (void)madvise(base, bytes, MADV_DONTNEED);
}

static uint64_t read_limit(const char *path)
{
    char text[32] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    char *end = text;
    unsigned long long limit = len <= 0 ? 0 : strtoull(text, &end, 10);
    return end == text ? UINT64_MAX : limit; /* "max" is no number */
}

void mr_memory_machine(struct mr_plan_machine *machine)
{
    cpu_set_t cpus;
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t limit = read_limit("/sys/fs/cgroup/memory.max");
    *machine = (struct mr_plan_machine){.cpu_count = 1, .memory_bytes = 1ull << 30};
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0) {
        machine->cpu_count = (uint32_t)CPU_COUNT(&cpus);
    }
    if (pages > 0 && page_bytes > 0) {
        machine->memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
    }
    if (limit < machine->memory_bytes) {
        machine->memory_bytes = limit;
    }
}

static uint64_t raise_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) {
        return UINT64_MAX;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(resource, &limit) != 0) {
            return before;
        }
    }
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

void mr_memory_limits(const struct mr_plan *plan, void (*warn)(const char *line))
{
    char line[240];
    uint64_t files = raise_limit(RLIMIT_NOFILE);
    (void)raise_limit(RLIMIT_MEMLOCK);
    /* Segments are opened on demand and closed again: only connections must have a descriptor each. */
    uint64_t connections = (uint64_t)plan->data.connections_max * plan->endpoints.data_count;
    if (files < connections + 1024) {
        mr_fmt(line, sizeof line,
               "the limit on open files is low limit=RLIMIT_NOFILE value=%llu wanted=%llu "
               "effect=connections"
               " beyond it are refused",
               (unsigned long long)files, (unsigned long long)(connections + 1024));
        warn(line);
    }
}

void mr_memory_lock(void (*warn)(const char *line))
{
    char line[240];
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        mr_fmt(line, sizeof line,
               "memory is not locked why=%s limit=RLIMIT_MEMLOCK effect=pages may be swapped out",
               strerror(errno));
        warn(line);
    }
}
