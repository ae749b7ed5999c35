#include "check_index.h"

#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"
#include "millrace/batch.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX     (8u << 20)
#define NAMES_MAX    65536u
#define OFFSET_ENTRY 8u
#define TIME_ENTRY   12u

struct check {
    const struct mr_sim_fs *fs;
    const char             *dir;
    int64_t                 base;
    bool                    is_last; /* of the log */
    char                   *why;
    size_t                  why_size;
    uint8_t                *segment;
    int64_t                 segment_bytes;
    uint8_t                *index;
};

/* A walk over the batches of the segment. */
struct walk {
    const struct check *check;
    int64_t             pos;
    struct mr_batch     batch;
    int64_t             largest;
    bool                is_over;
};

static void look(struct walk *walk)
{
    int64_t left = walk->check->segment_bytes - walk->pos;
    walk->is_over = left < (int64_t)MR_BATCH_HEADER;
    if (walk->is_over) {
        return;
    }
    mr_batch_header_load(walk->check->segment + walk->pos, &walk->batch);
    walk->is_over = walk->batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
                    mr_batch_bytes(&walk->batch) > left;
    if (!walk->is_over && walk->batch.max_timestamp > walk->largest && walk->batch.record_count > 0) {
        walk->largest = walk->batch.max_timestamp;
    }
}

static struct walk walk_of(const struct check *check)
{
    struct walk walk = {.check = check, .largest = -1};
    look(&walk);
    return walk;
}

static void next(struct walk *walk)
{
    walk->pos += mr_batch_bytes(&walk->batch);
    look(walk);
}

static int64_t load(const struct check *check, const char *suffix, uint8_t *bytes)
{
    char path[256];
    mr_fmt(path, sizeof path, "%s/%020lld%s", check->dir, (long long)check->base, suffix);
    return mr_sim_fs_get(check->fs, path, bytes, FILE_MAX);
}

static bool fail(const struct check *check, const char *suffix, int64_t at, const char *what)
{
    mr_fmt(check->why, check->why_size, "%s/%020lld%s: the entry at byte %lld %s", check->dir, (long long)check->base,
           suffix, (long long)at, what);
    return false;
}

static bool check_offsets(const struct check *check)
{
    int64_t     len = load(check, ".index", check->index);
    struct walk walk = walk_of(check);
    for (int64_t at = 0; at + OFFSET_ENTRY <= len; at += OFFSET_ENTRY) {
        int64_t offset = check->base + (int32_t)mr_load_be32(check->index + at);
        int64_t pos = (int32_t)mr_load_be32(check->index + at + 4);
        while (!walk.is_over && walk.pos < pos) {
            next(&walk);
        }
        if (walk.is_over || walk.pos != pos || mr_batch_last_offset(&walk.batch) != offset) {
            return fail(check, ".index", at, "is of no batch");
        }
    }
    return len <= 0 || len % OFFSET_ENTRY == 0 || fail(check, ".index", len, "is cut");
}

static bool check_times(const struct check *check)
{
    int64_t     len = load(check, ".timeindex", check->index);
    int64_t     last = -1;
    struct walk walk = walk_of(check);
    for (int64_t at = 0; at + TIME_ENTRY <= len; at += TIME_ENTRY) {
        int64_t timestamp = (int64_t)mr_load_be64(check->index + at);
        int64_t offset = check->base + (int32_t)mr_load_be32(check->index + at + 8);
        while (!walk.is_over && mr_batch_last_offset(&walk.batch) < offset) {
            next(&walk);
        }
        if (walk.is_over || walk.batch.max_timestamp != timestamp || walk.largest != timestamp || timestamp <= last) {
            return fail(check, ".timeindex", at, "is not of the largest timestamp so far");
        }
        last = timestamp;
    }
    while (!walk.is_over) {
        next(&walk);
    }
    if (!check->is_last && len >= 0 && walk.largest > last) {
        return fail(check, ".timeindex", len, "is missing: that of the segment's largest timestamp");
    }
    return len <= 0 || len % TIME_ENTRY == 0 || fail(check, ".timeindex", len, "is cut");
}

static bool parse(const char *name, int64_t *base)
{
    char *end = NULL;
    *base = strtoll(name, &end, 10);
    return strlen(name) == 24 && strcmp(end, ".log") == 0;
}

/* The base of the segment behind `base`; INT64_MAX: there is none. */
static int64_t next_base(const char *names, size_t len, int64_t base)
{
    int64_t next = INT64_MAX;
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        int64_t other = 0;
        next = parse(name, &other) && other > base && other < next ? other : next;
    }
    return next;
}

bool mr_check_index_dir(const struct mr_sim_fs *fs, const char *dir, int64_t log_start, char *why, size_t why_size)
{
    static char    names[NAMES_MAX];
    static uint8_t segment[FILE_MAX];
    static uint8_t index[FILE_MAX];
    size_t         len = mr_sim_fs_names(fs, dir, names, sizeof names);
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        struct check check = {.fs = fs, .dir = dir, .why = why, .why_size = why_size, .segment = segment, .index = index};
        if (!parse(name, &check.base)) {
            continue;
        }
        int64_t next = next_base(names, len, check.base);
        check.is_last = next == INT64_MAX;
        check.segment_bytes = load(&check, ".log", segment);
        if (next > log_start && (!check_offsets(&check) || !check_times(&check))) {
            return false;
        }
    }
    return true;
}
