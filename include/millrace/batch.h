/*
 * batch: Kafka's record batch v2: where its fields are, whether it may be believed, what is in it.
 *
 *     0 base_offset i64        not under the CRC: the broker sets it
 *     8 batch_length i32       bytes after this field
 *    12 partition_leader_epoch i32   likewise set by the broker
 *    16 magic i8 = 2
 *    17 crc u32                CRC-32C of everything from byte 21
 *    21 attributes i16         0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
 *    23 last_offset_delta i32
 *    27 base_timestamp i64
 *    35 max_timestamp i64
 *    43 producer_id i64
 *    51 producer_epoch i16
 *    53 base_sequence i32
 *    57 record_count i32
 *    61 records
 *
 * Pure (storage/batch/), part of mr_wire, used by every plane. Source: Kafka's documentation of the
 * message format; behaviour of Apache Kafka 4.4.
 */
#ifndef MILLRACE_BATCH_H
#define MILLRACE_BATCH_H

#include "millrace/base/bytes.h"
#include "millrace/base/err.h"
#include "millrace/base/span.h"
#include "millrace/base/str.h"
#include "millrace/storage.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_BATCH_HEADER      61
#define MR_BATCH_CRC_AT      17
#define MR_BATCH_CHECKED_AT  21 /* its CRC covers everything from its attributes on */
#define MR_BATCH_LENGTH_BIAS 12 /* whole size = batch_length + this */

#define MR_BATCH_CODEC_MASK      0x07
#define MR_BATCH_LOG_APPEND_TIME 0x08
#define MR_BATCH_TRANSACTIONAL   0x10
#define MR_BATCH_CONTROL         0x20
#define MR_BATCH_DELETE_HORIZON  0x40

/* A decoded header. */
struct mr_batch {
    int64_t  base_offset;
    int32_t  batch_length;
    int32_t  leader_epoch;
    int8_t   magic;
    uint32_t crc;
    int16_t  attributes;
    int32_t  last_offset_delta;
    int64_t  base_timestamp;
    int64_t  max_timestamp;
    int64_t  producer_id;
    int16_t  producer_epoch;
    int32_t  base_sequence;
    int32_t  record_count;
};

static inline uint32_t mr_batch_bytes(const struct mr_batch *batch)
{
    return (uint32_t)batch->batch_length + MR_BATCH_LENGTH_BIAS;
}

static inline int64_t mr_batch_last_offset(const struct mr_batch *batch)
{
    return batch->base_offset + batch->last_offset_delta;
}

/* Decode 61 bytes; believes nothing. */
void mr_batch_header_load(const uint8_t header[MR_BATCH_HEADER], struct mr_batch *batch);
void mr_batch_header_store(const struct mr_batch *batch, uint8_t header[MR_BATCH_HEADER]);
/* Header, length and CRC of a batch of `len` bytes in all whose records are in their place. */
void mr_batch_seal(struct mr_batch *batch, uint8_t *bytes, uint32_t len);

/* CRC-32C (Castagnoli) of the bytes, continuing from `crc` (0 at the start). */
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t mr_crc32c_chain(uint32_t crc, const struct mr_chain *chain, uint32_t at, uint32_t len);
/* The CRC of two pieces, from the CRC up to the end of the first and that of the second alone, `len` bytes: about
 * 1 us whatever the length. */
uint32_t mr_crc32c_join(uint32_t first, uint32_t second, uint32_t len);

/* What a producer's batch is checked against. */
struct mr_batch_rules {
    const struct mr_log_config *config;
    int64_t                     now_unix_ms;
    int16_t                     produce_version; /* zstd needs 7 */
};

#define MR_BATCH_RECORD_ERRORS 16 /* per-record errors reported at most */

/* Why a batch is refused, in Kafka's terms. */
struct mr_batch_refusal {
    const char *message; /* a constant sentence for the client (Produce v8+), or NULL */
    uint32_t    record_error_count;
    struct {
        int32_t     batch_index;
        const char *message;
    } record_errors[MR_BATCH_RECORD_ERRORS];
};

/*
 * Whether the chain is exactly one batch that a broker may append: everything of coordinators.md 8
 * ("Produce validation"), as far as config->validate asks for. The bytes are not changed.
 *
 *   batch     [out] its header
 *   scratch   for decompression and straddling records; bounded, reset by the caller
 *   refusal   [out] details when the result is not MR_OK
 *
 * Cost: one CRC over the bytes; framing walks the records. Thread: any.
 */
struct mr_arena;
enum mr_err mr_batch_check(const struct mr_chain *chain, const struct mr_batch_rules *rules,
                           struct mr_arena *scratch, struct mr_batch *batch,
                           struct mr_batch_refusal *refusal);

/* Whether the topic wants the batch in another codec than it came with (compression.type). */
bool mr_batch_recode_is_due(const struct mr_log_config *config, const struct mr_chain *chain);

/*
 * A batch that mr_batch_check accepted, in the topic's codec: records, offsets and times as they were, a new CRC. *out lies in
 * scratch. MR_ERR_NO_MEMORY: scratch is too small. Cost: mr_compress_cost_ns, and decompression.
 */
enum mr_err mr_batch_recode(const struct mr_log_config *config, const struct mr_chain *chain, struct mr_arena *scratch,
                            struct mr_span *out);

/* One record, pointing into the bytes it was read from. */
struct mr_record_header {
    struct mr_str  key;
    struct mr_blob value;
};

struct mr_record {
    int64_t        offset;
    int64_t        timestamp;
    struct mr_blob key;
    struct mr_blob value;
    int32_t        header_count;
    struct mr_blob headers; /* undecoded */
};

/* Walks the records of one batch whose bytes are contiguous and uncompressed. */
struct mr_record_iter {
    const uint8_t  *at;
    const uint8_t  *end;
    struct mr_batch batch;
    int32_t         index;
};

/* `bytes` is a whole batch. Compressed ones are decompressed into scratch (MR_ERR_NO_MEMORY: too big). */
enum mr_err mr_record_iter_init(struct mr_record_iter *iter, const uint8_t *bytes, uint32_t len,
                                struct mr_arena *scratch);
/* MR_OK with a record, MR_ERR_NOT_FOUND at the end, MR_ERR_INVALID_RECORD on lies. */
enum mr_err mr_record_iter_next(struct mr_record_iter *iter, struct mr_record *record);

/*
 * Build one uncompressed batch into a caller's buffer: begin, add records, end. The base offset is
 * `base_offset` (0 where storage assigns it), timestamps are CreateTime.
 */
struct mr_batch_builder {
    uint8_t        *bytes;
    uint32_t        size;
    uint32_t        used;
    struct mr_batch batch;
    bool            is_full; /* a record did not fit: nothing of it was written */
};

/* Begin a batch in `bytes`; records follow by mr_batch_add, the header at the end. Cannot fail. */
void mr_batch_begin(struct mr_batch_builder *builder, void *bytes, uint32_t size, int64_t base_offset,
                    int16_t attributes);
/* False when it does not fit. Key and value may be null. */
bool mr_batch_add(struct mr_batch_builder *builder, int64_t timestamp, struct mr_blob key,
                  struct mr_blob value);
/* Writes header and CRC; returns the whole size. At least one record was added (asserted). */
uint32_t mr_batch_end(struct mr_batch_builder *builder);

/* The control batch that ends a transaction in one log. */
#define MR_MARKER_BYTES_MAX 128u

struct mr_marker {
    bool    is_commit;
    int32_t coordinator_epoch;
};

/* Returns its bytes. */
uint32_t mr_marker_build(uint8_t out[MR_MARKER_BYTES_MAX], int64_t producer_id, int16_t producer_epoch,
                         const struct mr_marker *marker, int64_t now_unix_ms);

/* Of a whole control batch, or of its record; false: it is none that ends a transaction. */
bool mr_marker_load(const uint8_t *bytes, uint32_t len, struct mr_marker *marker);
bool mr_marker_parse(struct mr_blob key, struct mr_blob value, struct mr_marker *marker);

/* Compression codecs, one call: 0 none, 1 gzip, 2 snappy (xerial and raw), 3 lz4 frame, 4 zstd. Output is
 * bounded by out_size; MR_ERR_TOO_LARGE beyond, MR_ERR_INVALID_RECORD on damage. */
enum mr_err mr_decompress(int codec, const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                          uint32_t *out_len, struct mr_arena *scratch);

/* The other way, in one piece and as Kafka's producers do it; `level` is Kafka's for the codec. MR_ERR_TOO_LARGE: it does
 * not fit; MR_ERR_NO_MEMORY: the codec's state not into scratch; codec 0 is none. */
#define MR_LEVEL_DEFAULT INT32_MIN
enum mr_err mr_compress(int codec, int level, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                        uint32_t *out_len, struct mr_arena *scratch);

/* What compressing takes of a CPU, about: for budgets, never for anything else. */
uint64_t mr_compress_cost_ns(int codec, int level, uint32_t bytes);

#endif
