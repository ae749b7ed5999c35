/* floor_probe: the floors without a protocol: disk, CRC, memcpy. */
#include "floors.h"
#include "load_hist.h"

#include "millrace/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES (256u << 20)
#define COLD_BYTES (256u << 20)
#define ALIGN      4096u

static int fail(const char *what)
{
    fprintf(stderr, "millrace-floors: %s: %s\n", what, strerror(errno));
    return 1;
}

/* ---- disk ---- */

enum disk_kind {
    DISK_WRITE,
    DISK_DURABLE,
    DISK_READ,
};

static bool disk_op(enum disk_kind kind, int fd, void *buffer, uint32_t bytes, off_t at)
{
    switch (kind) {
    case DISK_WRITE:
        return pwrite(fd, buffer, bytes, at) == (ssize_t)bytes;
    case DISK_DURABLE:
        return pwrite(fd, buffer, bytes, at) == (ssize_t)bytes && fdatasync(fd) == 0;
    case DISK_READ:
        return pread(fd, buffer, bytes, at) == (ssize_t)bytes;
    }
    return false;
}

/* One operation after the other over a file whose blocks exist. */
static bool disk_curve(const struct mr_floors_options *options, enum disk_kind kind, int fd, void *buffer, uint32_t bytes)
{
    static const char *const   names[] = {"write", "durable", "read"};
    static struct mr_load_hist hist;
    uint64_t                   begin_ns = mr_floors_now_ns();
    uint64_t                   end_ns = begin_ns + (uint64_t)(options->seconds * 1e9);
    uint64_t                   cpu_ns = mr_floors_cpu_ns();
    off_t                      at = 0;
    memset(&hist, 0, sizeof hist);
    for (uint64_t from_ns = begin_ns; from_ns < end_ns;) {
        if (!disk_op(kind, fd, buffer, bytes, at)) {
            return false;
        }
        uint64_t now_ns = mr_floors_now_ns();
        mr_load_hist_record(&hist, (now_ns - from_ns) / 1000);
        from_ns = now_ns;
        at = at + 2 * (off_t)bytes > (off_t)FILE_BYTES ? 0 : at + (off_t)bytes;
    }
    double seconds = (double)(mr_floors_now_ns() - begin_ns) * 1e-9;
    printf("{\"kind\": \"%s\", \"bytes\": %u, \"p50_us\": %lu, \"p99_us\": %lu, \"p99.9_us\": %lu, \"mb_per_s\": %.1f, "
           "\"cpu_us\": %.2f}",
           names[kind], bytes, mr_load_hist_percentile_us(&hist, 50), mr_load_hist_percentile_us(&hist, 99),
           mr_load_hist_percentile_us(&hist, 99.9), (double)bytes * (double)hist.count / seconds * 1e-6,
           (double)(mr_floors_cpu_ns() - cpu_ns) * 1e-3 / (double)hist.count);
    return true;
}

/* Blocks written once: later writes change no metadata. */
static bool prepare_file(int fd, void *buffer)
{
    for (off_t at = 0; at < (off_t)FILE_BYTES; at += 1 << 20) {
        if (pwrite(fd, buffer, 1 << 20, at) != 1 << 20) {
            return false;
        }
    }
    return fsync(fd) == 0;
}

int mr_floors_disk(const struct mr_floors_options *options)
{
    static const uint32_t sizes[] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20};
    char                  path[4096];
    snprintf(path, sizeof path, "%.4000s/floor.XXXXXX", options->directory);
    int   made = mkstemp(path);
    int   fd = made < 0 ? -1 : open(path, O_RDWR | O_DIRECT);
    void *buffer = aligned_alloc(ALIGN, 1 << 20);
    if (fd < 0 || buffer == NULL) {
        return fail(path);
    }
    unlink(path);
    memset(buffer, 0x5a, 1 << 20);
    bool is_done = prepare_file(fd, buffer);
    printf("[");
    for (size_t at = 0; is_done && at < 15; at++) {
        printf(at == 0 ? "" : ",\n ");
        is_done = disk_curve(options, (enum disk_kind)(at / 5), fd, buffer, sizes[at % 5]);
    }
    printf("]\n");
    close(fd);
    close(made);
    free(buffer);
    return is_done ? 0 : fail("disk");
}

/* ---- cpu ---- */

static double crc_gb(const uint8_t *data, size_t bytes, uint8_t *to)
{
    (void)to;
    uint32_t crc = mr_crc32c(0, data, bytes);
    __asm__ volatile("" : : "r"(crc));
    return (double)bytes * 1e-9;
}

static double copy_gb(const uint8_t *data, size_t bytes, uint8_t *to)
{
    memcpy(to, data, bytes);
    __asm__ volatile("" : : "r"(to) : "memory");
    return (double)bytes * 1e-9;
}

int mr_floors_cpu(const struct mr_floors_options *options)
{
    static const struct {
        const char *name;
        size_t      bytes;
        size_t      region; /* walked through, so that it is or is not in the cache */
        double (*run)(const uint8_t *data, size_t bytes, uint8_t *to);
    } rows[] = {
        {"crc32c 1 KiB, cache", 1024, 1024, crc_gb},
        {"crc32c 64 KiB, cache", 65536, 65536, crc_gb},
        {"crc32c 64 KiB, memory", 65536, COLD_BYTES, crc_gb},
        {"memcpy 64 KiB, cache", 65536, 65536, copy_gb},
        {"memcpy 64 KiB, memory", 65536, COLD_BYTES, copy_gb},
    };
    uint8_t *from = malloc(COLD_BYTES);
    uint8_t *to = malloc(COLD_BYTES);
    if (from == NULL || to == NULL) {
        return fail("memory");
    }
    memset(from, 1, COLD_BYTES);
    memset(to, 2, COLD_BYTES);
    printf("[");
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        uint64_t cpu_ns = mr_floors_cpu_ns();
        uint64_t end_ns = mr_floors_now_ns() + (uint64_t)(options->seconds * 1e9);
        double   gb = 0;
        for (size_t at = 0; mr_floors_now_ns() < end_ns; at = (at + rows[row].bytes) % rows[row].region) {
            gb += rows[row].run(from + at, rows[row].bytes, to + at);
        }
        printf("%s{\"name\": \"%s\", \"cpu_s_per_gb\": %.5f}", row == 0 ? "" : ",\n ", rows[row].name,
               (double)(mr_floors_cpu_ns() - cpu_ns) * 1e-9 / gb);
    }
    printf("]\n");
    free(from);
    free(to);
    return 0;
}
