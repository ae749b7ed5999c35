/*
 * floor_logs: a commit of 1 KiB for each of many logs: one journal for all of them, or a file for each.
 *
 *   journal   all of it in one durable write to a pre-written file; every 16 KiB of a log are written to its file behind it
 *   files     a block of each log into its pre-written file, and when all are done one flush of the device
 *
 * The second is the best that a broker without a journal can do: nothing is allocated, and no file has a flush of its own.
 *
 * And what recycling a journal takes: every log's file has got a piece; then one syncfs, or an fdatasync of each file.
 */
#include "floors.h"
#include "load_hist.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define JOURNAL_BYTES (128u << 20)
#define LOG_BYTES     (128u << 10) /* of a log's file, which is written round and round */
#define LOGS_MAX      1000u
#define BLOCK         4096u
#define RECORD        1024u
#define CHUNK         (16u << 10)
#define RING_ENTRIES  1024u

struct logs {
    struct io_uring ring;
    int             journal;
    int             files[LOGS_MAX];
    uint8_t        *buffer;
    uint32_t        count;
    uint32_t        open; /* operations under way */
    int             err;
};

static struct mr_load_hist hist;

static void take(struct logs *l, uint32_t until)
{
    struct io_uring_cqe *cqe;
    while (l->open > until) {
        unsigned head;
        unsigned count = 0;
        io_uring_submit_and_wait(&l->ring, 1);
        io_uring_for_each_cqe(&l->ring, head, cqe)
        {
            l->err = cqe->res < 0 ? -cqe->res : l->err;
            count++;
        }
        io_uring_cq_advance(&l->ring, count);
        l->open -= count;
    }
}

static void put(struct logs *l, int fd, uint32_t bytes, uint64_t at, bool is_durable)
{
    take(l, RING_ENTRIES - 1);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
    io_uring_prep_write(sqe, fd, l->buffer, bytes, at);
    sqe->rw_flags = is_durable ? RWF_DSYNC : 0;
    l->open++;
}

static void put_all(struct logs *l, uint32_t bytes, uint64_t at)
{
    for (uint32_t log = 0; log < l->count; log++) {
        put(l, l->files[log], bytes, at, false);
    }
}

static void commit_journal(struct logs *l, uint64_t number)
{
    uint32_t bytes = (l->count * RECORD + 2 * BLOCK - 1) & ~(BLOCK - 1);
    put(l, l->journal, bytes, number * bytes % (JOURNAL_BYTES - LOGS_MAX * RECORD - 2 * BLOCK) & ~(uint64_t)(BLOCK - 1), true);
    take(l, 0);
    if ((number + 1) % (CHUNK / RECORD) == 0) {
        put_all(l, CHUNK, number * RECORD % LOG_BYTES & ~(uint64_t)(CHUNK - 1));
    }
}

static void commit_files(struct logs *l, uint64_t number)
{
    put_all(l, BLOCK, number * RECORD % LOG_BYTES & ~(uint64_t)(BLOCK - 1));
    take(l, 0);
    l->err = fdatasync(l->files[0]) != 0 ? errno : l->err;
}

static bool measure(struct logs *l, bool is_journal, const struct mr_floors_options *options, const char *comma)
{
    struct rusage before;
    struct rusage after;
    uint64_t      commits = 0;
    memset(&hist, 0, sizeof hist);
    uint64_t from_ns = mr_floors_now_ns();
    uint64_t end_ns = from_ns + (uint64_t)(options->seconds * 1e9);
    getrusage(RUSAGE_SELF, &before);
    for (uint64_t now_ns = from_ns; l->err == 0 && now_ns < end_ns; commits++) {
        (is_journal ? commit_journal : commit_files)(l, commits);
        uint64_t then_ns = mr_floors_now_ns();
        mr_load_hist_record(&hist, (then_ns - now_ns) / 1000);
        now_ns = then_ns;
    }
    take(l, 0);
    double seconds = (double)(mr_floors_now_ns() - from_ns) * 1e-9;
    getrusage(RUSAGE_SELF, &after);
    double used_s = (double)(after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) +
                    (double)(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec) * 1e-6;
    double records = (double)commits * l->count;
    printf("%s{\"way\": \"%s\", \"logs\": %u, \"records_per_s\": %.0f, \"p50_us\": %lu, \"p99_us\": %lu, \"cpu_us_per_record\": %.2f}", comma,
           is_journal ? "journal" : "files", l->count, records / seconds, mr_load_hist_percentile_us(&hist, 50),
           mr_load_hist_percentile_us(&hist, 99), used_s * 1e6 / records);
    errno = l->err;
    return l->err == 0;
}

static bool recycle(struct logs *l, bool is_syncfs, uint32_t piece, const struct mr_floors_options *options, const char *comma)
{
    uint64_t write_ns = 0;
    uint64_t sync_ns = 0;
    uint64_t end_ns = mr_floors_now_ns() + (uint64_t)(options->seconds * 1e9);
    uint32_t rounds = 0;
    for (; l->err == 0 && mr_floors_now_ns() < end_ns; rounds++) {
        uint64_t from_ns = mr_floors_now_ns();
        put_all(l, piece, 0);
        take(l, 0);
        uint64_t written_ns = mr_floors_now_ns();
        if (is_syncfs) {
            l->err = syncfs(l->files[0]) != 0 ? errno : l->err;
        }
        for (uint32_t log = 0; !is_syncfs && log < l->count; log++) {
            take(l, RING_ENTRIES - 1);
            io_uring_prep_fsync(io_uring_get_sqe(&l->ring), l->files[log], IORING_FSYNC_DATASYNC);
            l->open++;
        }
        take(l, 0);
        write_ns += written_ns - from_ns;
        sync_ns += mr_floors_now_ns() - written_ns;
    }
    printf("%s{\"way\": \"%s\", \"logs\": %u, \"piece_kib\": %u, \"write_ms\": %.2f, \"sync_ms\": %.2f}", comma, is_syncfs ? "syncfs" : "fdatasync",
           l->count, piece >> 10, (double)write_ns * 1e-6 / rounds, (double)sync_ns * 1e-6 / rounds);
    errno = l->err;
    return l->err == 0;
}

/* A file whose blocks are all written, and without a name. */
static int open_written(const struct logs *l, const char *directory, uint64_t bytes)
{
    char path[600];
    snprintf(path, sizeof path, "%.500s/millrace-floors.log", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    unlink(path);
    for (uint64_t at = 0; fd >= 0 && at < bytes; at += LOG_BYTES) {
        if (pwrite(fd, l->buffer, LOG_BYTES, (off_t)at) != (ssize_t)LOG_BYTES) {
            return -1;
        }
    }
    return fd;
}

static bool open_all(struct logs *l, const char *directory)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    if (posix_memalign((void **)&l->buffer, BLOCK, LOGS_MAX * RECORD + 2 * BLOCK) != 0) {
        return false;
    }
    memset(l->buffer, 7, LOGS_MAX * RECORD + 2 * BLOCK);
    l->journal = open_written(l, directory, JOURNAL_BYTES);
    bool is_good = l->journal >= 0;
    for (uint32_t log = 0; is_good && log < LOGS_MAX; log++) {
        l->files[log] = open_written(l, directory, LOG_BYTES);
        is_good = l->files[log] >= 0;
    }
    sync();
    errno = is_good ? -io_uring_queue_init_params(RING_ENTRIES, &l->ring, &params) : errno;
    return is_good && errno == 0;
}

int mr_floors_logs(const struct mr_floors_options *options)
{
    static const uint32_t counts[] = {1, 16, 128, LOGS_MAX};
    static struct logs    l;
    const char           *comma = "[";
    bool                  is_good = open_all(&l, options->directory);
    for (size_t at = 0; is_good && at < 2 * sizeof counts / sizeof counts[0]; at++) {
        l.count = counts[at / 2];
        is_good = measure(&l, at % 2 == 0, options, comma);
        comma = ",\n ";
    }
    for (size_t at = 0; is_good && at < 2 * sizeof counts / sizeof counts[0]; at++) {
        l.count = counts[at / 2];
        is_good = recycle(&l, at % 2 == 0, CHUNK, options, comma) && recycle(&l, at % 2 == 0, LOG_BYTES, options, comma);
    }
    if (!is_good) {
        fprintf(stderr, "millrace-floors: logs: %s\n", strerror(errno));
        return 1;
    }
    puts("]");
    return 0;
}
