/*
 * load_image: a Produce request made once, whose few changing bytes are patched for every send.
 *
 *      | length | header .. correlation .. | topic | partition, |batch....| partition, |batch....| tags |
 *                     ^ patched                      ^ patched    ^ patched when it is stamped or counted
 *
 * A batch is valid: header, CRC-32C, records. Its CRC is computed again only when something under it has
 * changed: a producer's sequence, or the 24 bytes that `e2e` and `verify` put in front of each value:
 *
 *      | intended start, unix ns u64 | number u64 | producer u32 | record in its batch u32 | filler ...
 *
 * `number` counts the records of one producer in one partition from 0. Filler is the same text for every
 * batch, so that a reader can hold any record against it.
 *
 * Memory: the image's own (malloc), until deinit. One thread at a time.
 */
#ifndef MILLRACE_PERF_LOAD_IMAGE_H
#define MILLRACE_PERF_LOAD_IMAGE_H

#include "load_options.h"
#include "millrace/base/err.h"
#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_LOAD_STAMP_BYTES 24

/* What one producer puts under one partition. */
struct mr_load_stream {
    int32_t  partition;
    int32_t  sequence; /* of the next record, for idempotence      */
    uint64_t number;   /* of the next record, in stamps            */
    uint64_t acked;    /* records of it that were acknowledged     */
};

struct mr_load_place {
    uint32_t index_at; /* of the partition's index, in the image  */
    uint32_t batch_at;
    uint32_t batch_bytes;
};

struct mr_load_image {
    const struct mr_load_options *options;
    uint8_t                      *bytes;
    uint32_t                      len;
    uint32_t                      correlation_at;
    uint32_t                      place_count;
    struct mr_load_place         *places;
    uint32_t                     *values_at; /* of each value, from the batch's beginning */
    uint8_t                      *plain;     /* an uncompressed batch, when stamps must be compressed */
    uint32_t                      plain_bytes;
    uint32_t                      batch_room; /* bytes reserved for each batch */
    uint32_t                      producer;
    int64_t                       producer_id;
    int16_t                       producer_epoch;
    int16_t                       version;
};

struct mr_load_image_params {
    const struct mr_load_options *options;
    struct mr_str                 topic;
    struct mr_str                 transactional_id; /* null: no transactions */
    int16_t                       version; /* of Produce, 3 to 12 */
    uint32_t                      producer;
    int64_t                       producer_id; /* -1: not idempotent */
    int16_t                       producer_epoch;
    int64_t                       now_unix_ms;
};

/* False: out of memory, or the encoder refused (`err` says why). */
bool mr_load_image_init(struct mr_load_image *image, const struct mr_load_image_params *params, enum mr_err *err);
void mr_load_image_deinit(struct mr_load_image *image);

/* Make it the next request: of each stream (as many as options->batches) one batch; their sequences and
 * numbers move on. Bytes [0, len) are then to be sent. False: compression failed. */
bool mr_load_image_fill(struct mr_load_image *image, int32_t correlation, struct mr_load_stream *const *streams,
                        int64_t stamp_unix_ns);

/* The filler of a value and the key of record `index` of a batch; the text stays. */
struct mr_blob mr_load_image_filler(const struct mr_load_options *options, uint32_t index);
void           mr_load_image_key(const struct mr_load_options *options, uint32_t index, uint8_t *key);

/* To be called once before the first image, by the main thread: makes the filler of this seed. */
bool mr_load_image_prepare(const struct mr_load_options *options);

#endif
