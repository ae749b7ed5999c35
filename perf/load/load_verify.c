#include "load_verify.h"

#include "load_image.h"

#include "millrace/base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX (1ull << 26)

bool mr_load_verify_init(struct mr_load_verify *verify, const struct mr_load_options *options, uint32_t producers,
                         uint32_t partitions, uint32_t readers)
{
    uint64_t streams = (uint64_t)producers * partitions;
    *verify = (struct mr_load_verify){
        .options = options, .producers = producers, .partitions = partitions, .reader_count = readers};
    if (streams * (readers + 1) > STREAMS_MAX) {
        return false;
    }
    verify->acked = calloc(streams + 1, sizeof *verify->acked);
    verify->readers = calloc(readers + 1, sizeof *verify->readers);
    verify->key = malloc(options->key_bytes + 1);
    bool is_done = verify->acked != NULL && verify->readers != NULL && verify->key != NULL;
    for (uint32_t index = 0; is_done && index < readers; index++) {
        verify->readers[index].next = calloc(streams + 1, sizeof *verify->acked);
        is_done = verify->readers[index].next != NULL;
    }
    return is_done;
}

void mr_load_verify_free(struct mr_load_verify *verify)
{
    for (uint32_t index = 0; verify->readers != NULL && index < verify->reader_count; index++) {
        free(verify->readers[index].next);
    }
    free(verify->readers);
    free(verify->acked);
    free(verify->key);
}

static void wrong(struct mr_load_reader *reader, uint64_t *counter, uint64_t by, const char *what, uint32_t partition,
                  int64_t offset)
{
    *counter += by;
    if (reader->first[0] == '\0') {
        snprintf(reader->first, sizeof reader->first, "partition %u offset %" PRId64 ": %s", partition, offset, what);
    }
}

static bool is_key_right(const struct mr_load_options *options, uint32_t index, struct mr_blob key)
{
    uint8_t wanted[512];
    if (options->key_bytes == 0 || key.len != (int32_t)options->key_bytes) {
        return options->key_bytes == 0 && key.len < 0;
    }
    if (options->key_bytes > sizeof wanted) {
        return true; /* its length was right */
    }
    mr_load_image_key(options, index, wanted);
    return memcmp(wanted, key.data, options->key_bytes) == 0;
}

void mr_load_verify_record(const struct mr_load_verify *verify, struct mr_load_reader *reader, uint32_t partition,
                           int64_t offset, struct mr_blob key, struct mr_blob value)
{
    const struct mr_load_options *options = verify->options;
    if (value.len != (int32_t)options->record_bytes || value.len < MR_LOAD_STAMP_BYTES ||
        partition >= verify->partitions) {
        wrong(reader, &reader->damaged, 1, "a value of another size", partition, offset);
        return;
    }
    uint64_t       number = mr_load_be64(value.data + 8);
    uint32_t       producer = mr_load_be32(value.data + 16);
    uint32_t       index = mr_load_be32(value.data + 20);
    struct mr_blob filler = mr_load_image_filler(options, index);
    if (producer >= verify->producers || index >= options->records || number % options->records != index ||
        !is_key_right(options, index, key) ||
        memcmp(value.data + MR_LOAD_STAMP_BYTES, filler.data + MR_LOAD_STAMP_BYTES,
               (size_t)value.len - MR_LOAD_STAMP_BYTES) != 0) {
        wrong(reader, &reader->damaged, 1, "bytes that were not written", partition, offset);
        return;
    }
    uint64_t *next = &reader->next[(uint64_t)producer * verify->partitions + partition];
    if (number < *next) {
        wrong(reader, &reader->repeated, 1, "a record again, or behind a later one", partition, offset);
        return;
    }
    if (number > *next) {
        wrong(reader, &reader->missing, number - *next, "records before this one are missing", partition, offset);
    }
    *next = number + 1;
    reader->right++;
}

bool mr_load_verify_end(struct mr_load_verify *verify)
{
    bool is_right = true;
    for (uint32_t at = 0; at < verify->reader_count; at++) {
        struct mr_load_reader *reader = &verify->readers[at];
        for (uint64_t stream = 0; stream < (uint64_t)verify->producers * verify->partitions; stream++) {
            if (reader->next[stream] < verify->acked[stream]) {
                wrong(reader, &reader->missing, verify->acked[stream] - reader->next[stream],
                      "acknowledged records from here on were not read", (uint32_t)(stream % verify->partitions), -1);
            }
        }
        is_right = is_right && reader->missing + reader->repeated + reader->damaged == 0;
    }
    return is_right;
}

/* ---- the file ---- */

bool mr_load_verify_store(const struct mr_load_verify *verify, const char *path, char *why, size_t why_size)
{
    FILE *file = fopen(path, "w");
    if (file != NULL) {
        fprintf(file, "millrace-load acked 1: producers %u partitions %u\n", verify->producers, verify->partitions);
        for (uint64_t stream = 0; stream < (uint64_t)verify->producers * verify->partitions; stream++) {
            fprintf(file, "%" PRIu64 "\n", verify->acked[stream]);
        }
    }
    bool is_written = file != NULL && ferror(file) == 0;
    if (file != NULL) {
        is_written = fclose(file) == 0 && is_written;
    }
    if (!is_written) {
        snprintf(why, why_size, "%.200s: %s", path, strerror(errno));
    }
    return is_written;
}

bool mr_load_verify_load(struct mr_load_verify *verify, const struct mr_load_options *options, uint32_t partitions,
                         const char *path, char *why, size_t why_size)
{
    unsigned producers = 0;
    unsigned in_file = 0;
    FILE    *file = fopen(path, "r");
    if (file == NULL) {
        snprintf(why, why_size, "%.200s: %s", path, strerror(errno));
        return false;
    }
    bool is_read = fscanf(file, "millrace-load acked 1: producers %u partitions %u\n", &producers, &in_file) == 2 &&
                   in_file == partitions && producers > 0 && producers <= 100000 &&
                   mr_load_verify_init(verify, options, producers, partitions, 1);
    for (uint64_t stream = 0; is_read && stream < (uint64_t)producers * partitions; stream++) {
        is_read = fscanf(file, "%" SCNu64 "\n", &verify->acked[stream]) == 1;
    }
    fclose(file);
    if (!is_read) {
        snprintf(why, why_size, "%.200s: not what a run with acked.out wrote for %u partitions", path, partitions);
    }
    return is_read;
}
