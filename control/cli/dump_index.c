/*
 * dump_index: the entries of a segment's indexes, and with --verify whether they are what the segment beside them says:
 *
 *   .index       (offset, pos): a batch begins at pos, and offset is its last one
 *   .timeindex   (timestamp, offset): the largest timestamp of all batches up to the one that holds the offset, and of
 *                that one
 *
 * Both rise, so one walk over the segment's headers checks all entries.
 */
#include "cli/dump.h"
#include "millrace/base/bytes.h"
#include "millrace/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OFFSET_ENTRY 8u
#define TIME_ENTRY   12u
#define PATH_BYTES   4096u

/* A walk over the batches of a segment. */
struct walk {
    struct mr_dump_file segment;
    bool is_there;
    bool is_over; /* no batch any more */
    size_t pos;   /* of the batch */
    struct mr_batch batch;
    int64_t largest; /* timestamp of the batches up to this one */
};

static int64_t base_of(const struct mr_dump_file *file)
{
    return strtoll(file->name, NULL, 10);
}

/* The batch at walk->pos, if there is a whole one. */
static void look(struct walk *walk)
{
    size_t left = walk->segment.len - walk->pos;
    walk->is_over = walk->is_over || left < MR_BATCH_HEADER;
    if (walk->is_over) {
        return;
    }
    mr_batch_header_load(walk->segment.bytes + walk->pos, &walk->batch);
    walk->is_over = walk->batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
                    (uint64_t)walk->batch.batch_length + MR_BATCH_LENGTH_BIAS > left ||
                    walk->batch.last_offset_delta < 0;
    if (!walk->is_over && walk->batch.max_timestamp > walk->largest && walk->batch.record_count > 0) {
        walk->largest = walk->batch.max_timestamp;
    }
}

static void step(struct walk *walk)
{
    walk->pos += mr_batch_bytes(&walk->batch);
    look(walk);
}

/* The segment of an index; when it is not there, that is what is wrong. */
static void begin(const struct mr_dump_file *file, struct walk *walk)
{
    char path[PATH_BYTES];
    size_t stem = strlen(file->path) - strlen(strrchr(file->path, '.'));
    *walk = (struct walk){.largest = -1};
    if (stem + sizeof ".log" > sizeof path) {
        return;
    }
    snprintf(path, sizeof path, "%.*s.log", (int)stem, file->path);
    walk->is_there = mr_dump_map(path, &walk->segment);
    if (!walk->is_there) {
        mr_dump_wrong(file, "its segment is not there: %s", path);
        return;
    }
    look(walk);
}

static void check_place(const struct mr_dump_file *file, struct walk *walk, size_t at,
                        int64_t offset, int64_t pos)
{
    while (!walk->is_over && (int64_t)walk->pos < pos) {
        step(walk);
    }
    if (walk->is_over) {
        mr_dump_wrong(file, "the entry at byte %zu points to %" PRId64 ", behind the last batch",
                      at, pos);
    } else if ((int64_t)walk->pos != pos) {
        mr_dump_wrong(file, "the entry at byte %zu points to %" PRId64 ", where no batch begins",
                      at, pos);
    } else if (mr_batch_last_offset(&walk->batch) != offset) {
        mr_dump_wrong(file,
                      "the entry at byte %zu says offset %" PRId64 ", the batch at %" PRId64
                      " ends at %" PRId64,
                      at, offset, pos, mr_batch_last_offset(&walk->batch));
    }
}

static void check_time(const struct mr_dump_file *file, struct walk *walk, size_t at,
                       int64_t timestamp, int64_t offset)
{
    while (!walk->is_over && mr_batch_last_offset(&walk->batch) < offset) {
        step(walk);
    }
    if (walk->is_over) {
        mr_dump_wrong(file, "the entry at byte %zu says offset %" PRId64 ", behind the last batch",
                      at, offset);
    } else if (walk->batch.max_timestamp != timestamp) {
        mr_dump_wrong(file,
                      "the entry at byte %zu says timestamp %" PRId64 ", the batch with offset %" PRId64
                      " has %" PRId64,
                      at, timestamp, offset, walk->batch.max_timestamp);
    } else if (walk->largest > timestamp) {
        mr_dump_wrong(file,
                      "the entry at byte %zu says timestamp %" PRId64 ", a batch before offset %" PRId64
                      " has %" PRId64,
                      at, timestamp, offset, walk->largest);
    }
}

/* Whether the rest of the file is space of a broker that runs or was killed. */
static bool is_rest_zero(const struct mr_dump_file *file, size_t at)
{
    if (at == 0 || !mr_dump_is_zero(file->bytes + at, file->len - at)) {
        return false;
    }
    printf("%zu zero bytes behind the last entry\n", file->len - at);
    return true;
}

void mr_dump_index_offset(const struct mr_dump_file *file, bool is_verifying)
{
    struct walk walk = {0};
    int64_t last_offset = -1;
    int64_t last_pos = -1;
    if (is_verifying) {
        begin(file, &walk);
    }
    for (size_t at = 0; at + OFFSET_ENTRY <= file->len && !is_rest_zero(file, at);
         at += OFFSET_ENTRY) {
        int64_t offset = base_of(file) + (int32_t)mr_load_be32(file->bytes + at);
        int64_t pos = (int32_t)mr_load_be32(file->bytes + at + 4);
        printf("offset=%" PRId64 " pos=%" PRId64 "\n", offset, pos);
        if (is_verifying && (offset <= last_offset || pos <= last_pos)) {
            mr_dump_wrong(file, "entries are not in order at byte %zu", at);
        } else if (walk.is_there) {
            check_place(file, &walk, at, offset, pos);
        }
        last_offset = offset;
        last_pos = pos;
    }
    if (file->len % OFFSET_ENTRY != 0) {
        mr_dump_wrong(file, "the size is not a multiple of 8");
    }
    mr_dump_unmap(&walk.segment);
}

void mr_dump_index_time(const struct mr_dump_file *file, bool is_verifying)
{
    struct walk walk = {0};
    int64_t last_timestamp = INT64_MIN;
    int64_t last_offset = -1;
    if (is_verifying) {
        begin(file, &walk);
    }
    for (size_t at = 0; at + TIME_ENTRY <= file->len && !is_rest_zero(file, at); at += TIME_ENTRY) {
        int64_t timestamp = (int64_t)mr_load_be64(file->bytes + at);
        int64_t offset = base_of(file) + (int32_t)mr_load_be32(file->bytes + at + 8);
        printf("timestamp=%" PRId64 " offset=%" PRId64 "\n", timestamp, offset);
        if (is_verifying && (timestamp < last_timestamp || offset < last_offset)) {
            mr_dump_wrong(file, "entries are not in order at byte %zu", at);
        } else if (walk.is_there) {
            check_time(file, &walk, at, timestamp, offset);
        }
        last_timestamp = timestamp;
        last_offset = offset;
    }
    if (file->len % TIME_ENTRY != 0) {
        mr_dump_wrong(file, "the size is not a multiple of 12");
    }
    mr_dump_unmap(&walk.segment);
}
