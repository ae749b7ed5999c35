/*
 * floor_commit: ways to make a commit of some logs durable, beside each other: what the journal's design stands on.
 *
 *   journal   all of it in one durable write to a pre-written file; the segments are written behind it, without a flush
 *   two       the same, with the next commit's write under way before this one's flush has ended
 *   direct    each log's part straight into its segment (allocated, never written before), durably, and a block that refers
 *             to them into the journal, all at once: every byte is written once
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
#define SEGMENT_BYTES (1u << 30) /* of all logs of a run together */
#define PART_MAX      (4u << 20)
#define LOGS_MAX      16u
#define BLOCK         4096u
#define BEHIND_MAX    64u /* segment writes that nobody waits for */

enum way {
    WAY_JOURNAL,
    WAY_TWO,
    WAY_DIRECT,
};
static const char *const names[] = {"journal", "two", "direct"};

enum {
    TAG_BEHIND = 100, /* below it: number of the commit's place */
};

struct place {
    uint64_t from_ns;
    uint32_t open; /* operations that it waits for; 0: free */
};

struct commits {
    struct io_uring ring;
    struct place    places[2];
    int             journal;
    int             segments[LOGS_MAX];
    uint8_t        *buffer;
    uint32_t        logs;
    uint32_t        part; /* bytes of a log in a commit */
    uint64_t        journal_at;
    uint64_t        segment_at;
    uint32_t        behind;
    int             err;
};

static struct mr_load_hist hist;

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage); /* with the kernel's workers of the ring */
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void put(struct commits *c, int fd, uint32_t bytes, uint64_t at, bool is_durable, uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
    io_uring_prep_write(sqe, fd, c->buffer, bytes, at);
    sqe->rw_flags = is_durable ? RWF_DSYNC : 0;
    io_uring_sqe_set_data64(sqe, tag);
}

static void begin(struct commits *c, enum way way, uint64_t tag)
{
    struct place *place = &c->places[tag];
    uint32_t      bytes = way == WAY_DIRECT ? BLOCK : c->logs * c->part + BLOCK;
    if (c->journal_at + bytes > JOURNAL_BYTES) {
        c->journal_at = 0;
    }
    *place = (struct place){.from_ns = mr_floors_now_ns(), .open = 1};
    put(c, c->journal, bytes, c->journal_at, true, tag);
    c->journal_at += bytes;
    for (uint32_t log = 0; way == WAY_DIRECT && log < c->logs; log++) {
        put(c, c->segments[log], c->part, c->segment_at, true, tag);
        place->open++;
    }
}

static void write_behind(struct commits *c)
{
    for (uint32_t log = 0; log < c->logs; log++) {
        put(c, c->segments[log], c->part, c->segment_at, false, TAG_BEHIND);
        c->behind++;
    }
}

/* At least one completion; true: a commit became durable. */
static bool take(struct commits *c, enum way way)
{
    struct io_uring_cqe *cqe;
    unsigned             head;
    unsigned             count = 0;
    bool                 is_any = false;
    io_uring_submit_and_wait(&c->ring, 1);
    io_uring_for_each_cqe(&c->ring, head, cqe)
    {
        count++;
        c->err = cqe->res < 0 ? -cqe->res : c->err;
        if (cqe->user_data == TAG_BEHIND) {
            c->behind--;
            continue;
        }
        struct place *place = &c->places[cqe->user_data];
        if (--place->open == 0) {
            mr_load_hist_record(&hist, (mr_floors_now_ns() - place->from_ns) / 1000);
            is_any = true;
        }
    }
    io_uring_cq_advance(&c->ring, count);
    if (is_any && way != WAY_DIRECT) {
        write_behind(c);
    }
    return is_any;
}

/* Files as they are in service: the journal's blocks written, the segments' only allocated. */
static bool prepare(struct commits *c, const char *directory)
{
    char path[600];
    c->err = 0;
    for (uint32_t log = 0; log < c->logs; log++) {
        snprintf(path, sizeof path, "%.500s/millrace-floors.segment", directory);
        c->segments[log] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
        unlink(path);
        if (c->segments[log] < 0 || fallocate(c->segments[log], 0, 0, SEGMENT_BYTES / c->logs) != 0 ||
            fsync(c->segments[log]) != 0) {
            return false;
        }
    }
    return true;
}

static bool measure(struct commits *c, enum way way, const struct mr_floors_options *options, const char *comma)
{
    uint64_t commits = 0;
    memset(&hist, 0, sizeof hist);
    c->journal_at = c->segment_at = 0;
    if (!prepare(c, options->directory)) {
        return false;
    }
    uint64_t from_ns = mr_floors_now_ns();
    uint64_t end_ns = from_ns + (uint64_t)(options->seconds * 1e9);
    double   before_s = cpu_s();
    while (c->err == 0 && mr_floors_now_ns() < end_ns && c->segment_at + 2ull * c->part <= SEGMENT_BYTES / c->logs) {
        for (uint64_t tag = 0; tag < (way == WAY_TWO ? 2u : 1u); tag++) {
            if (c->places[tag].open == 0) {
                begin(c, way, tag);
            }
        }
        while (c->err == 0 && (!take(c, way) || c->behind > BEHIND_MAX)) {
        }
        c->segment_at += c->part;
        commits++;
    }
    double seconds = (double)(mr_floors_now_ns() - from_ns) * 1e-9;
    double used_s = cpu_s() - before_s;
    while (c->err == 0 && (c->behind > 0 || c->places[0].open + c->places[1].open > 0)) {
        (void)take(c, WAY_DIRECT);
    }
    for (uint32_t log = 0; log < c->logs; log++) {
        close(c->segments[log]);
    }
    double gb = (double)commits * c->logs * c->part * 1e-9;
    printf("%s{\"way\": \"%s\", \"logs\": %u, \"kib\": %u, \"mb_per_s\": %.0f, \"p50_us\": %lu, \"p99_us\": %lu, \"cpu_s_per_gb\": %.3f}",
           comma, names[way], c->logs, c->part / 1024, gb * 1e3 / seconds, mr_load_hist_percentile_us(&hist, 50),
           mr_load_hist_percentile_us(&hist, 99), used_s / gb);
    errno = c->err;
    return c->err == 0;
}

static bool open_files(struct commits *c, const char *directory)
{
    char                   path[600];
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    if (posix_memalign((void **)&c->buffer, BLOCK, (size_t)PART_MAX * LOGS_MAX + BLOCK) != 0) {
        return false;
    }
    memset(c->buffer, 7, (size_t)PART_MAX * LOGS_MAX + BLOCK);
    snprintf(path, sizeof path, "%.500s/millrace-floors.journal", directory);
    c->journal = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    unlink(path);
    for (uint32_t at = 0; c->journal >= 0 && at < JOURNAL_BYTES; at += PART_MAX) {
        if (pwrite(c->journal, c->buffer, PART_MAX, at) != (ssize_t)PART_MAX) {
            return false;
        }
    }
    errno = c->journal < 0 || fsync(c->journal) != 0 ? errno : -io_uring_queue_init_params(256, &c->ring, &params);
    return errno == 0;
}

int mr_floors_commit(const struct mr_floors_options *options)
{
    static const struct {
        uint32_t logs;
        uint32_t kib;
    } shapes[] = {{1, 4}, {1, 64}, {1, 256}, {1, 1024}, {1, 4096}, {4, 64}, {4, 256}, {4, 1024}, {12, 64}, {12, 128}, {12, 512}};
    struct commits c = {0};
    const char    *comma = "[";
    if (!open_files(&c, options->directory)) {
        fprintf(stderr, "millrace-floors: commit: %s\n", strerror(errno));
        return 1;
    }
    for (size_t at = 0; at < sizeof shapes / sizeof shapes[0]; at++) {
        c.logs = shapes[at].logs;
        c.part = shapes[at].kib << 10;
        for (enum way way = WAY_JOURNAL; way <= WAY_DIRECT; way++) {
            if (!measure(&c, way, options, comma)) {
                fprintf(stderr, "\nmillrace-floors: commit: %s\n", strerror(errno));
                return 1;
            }
            comma = ",\n ";
        }
    }
    puts("]");
    io_uring_queue_exit(&c.ring);
    close(c.journal);
    free(c.buffer);
    return 0;
}
