/*
 * batch_check: everything a broker verifies before it believes a producer's batch, in the order in
 * which Apache Kafka 4.4 does it, so that the first error is the same.
 *
 * How deep it looks is config->validate (ruling 6 of the design): the header, the framing of
 * uncompressed records (default), or everything, which compacted topics always get because a
 * record without a key would poison them.
 */
#include "batch/compress.h"
#include "batch/varint.h"

#include "millrace/base/bug.h"
#include "millrace/batch.h"

static enum mr_err refuse(struct mr_batch_refusal *refusal, enum mr_err err, const char *message)
{
    refusal->message = message;
    return err;
}

static void note_record(struct mr_batch_refusal *refusal, int32_t index, const char *message)
{
    if (refusal->record_error_count < MR_BATCH_RECORD_ERRORS) {
        refusal->record_errors[refusal->record_error_count].batch_index = index;
        refusal->record_errors[refusal->record_error_count].message = message;
        refusal->record_error_count++;
    }
}

/* Whether CreateTime `timestamp` lies in the window that the topic accepts. -1 is "none" and passes. */
static bool is_timestamp_in_window(const struct mr_batch_rules *rules, int64_t timestamp)
{
    const struct mr_log_config *config = rules->config;
    if (timestamp == -1) {
        return true;
    }
    if (timestamp < rules->now_unix_ms) {
        /* The difference of two arbitrary int64 may not fit: compare in unsigned. */
        uint64_t age = (uint64_t)rules->now_unix_ms - (uint64_t)timestamp;
        return age <= (uint64_t)config->timestamp_before_max_ms;
    }
    return (uint64_t)timestamp - (uint64_t)rules->now_unix_ms <= (uint64_t)config->timestamp_after_max_ms;
}

static bool is_window_open(const struct mr_log_config *config)
{
    return config->timestamp_before_max_ms == INT64_MAX && config->timestamp_after_max_ms == INT64_MAX;
}

static const char out_of_window[] = "Timestamp of the record is out of the range that "
                                    "message.timestamp.before.max.ms and message.timestamp.after.max.ms allow.";
static const char no_key[] = "Compacted topic cannot accept message without key.";
static const char bad_records[] = "The records do not match the batch's length or count.";

/* A record's place in a span chain: whole records are looked at in place while they lie in one span. */
struct walk {
    const struct mr_chain *chain;
    uint32_t               index; /* span */
    const uint8_t         *at;
    const uint8_t         *end; /* of the span */
    uint32_t               left; /* bytes of records from `at` on, over all spans */
};

static void walk_settle(struct walk *walk)
{
    while (walk->at == walk->end && walk->left > 0) {
        walk->index++;
        walk->at = walk->chain->spans[walk->index].data;
        walk->end = walk->at + walk->chain->spans[walk->index].len;
    }
}

static void walk_begin(struct walk *walk, const struct mr_chain *chain, uint32_t skip)
{
    *walk = (struct walk){.chain = chain, .left = chain->bytes};
    walk->at = chain->spans[0].data;
    walk->end = walk->at + chain->spans[0].len;
    while (skip > 0) {
        walk_settle(walk);
        uint32_t part = (uint32_t)(walk->end - walk->at) < skip ? (uint32_t)(walk->end - walk->at) : skip;
        walk->at += part;
        walk->left -= part;
        skip -= part;
    }
    walk_settle(walk);
}

static void walk_take(struct walk *walk, uint8_t *out, uint32_t len)
{
    while (len > 0) {
        walk_settle(walk);
        uint32_t part = (uint32_t)(walk->end - walk->at) < len ? (uint32_t)(walk->end - walk->at) : len;
        if (out != NULL) {
            memcpy(out, walk->at, part);
            out += part;
        }
        walk->at += part;
        walk->left -= part;
        len -= part;
    }
    walk_settle(walk);
}

/* The fields of a record's framing that the rules look at. */
struct framing {
    int64_t timestamp_delta;
    int32_t offset_delta;
    bool    has_key;
};

static bool skip_blob(const uint8_t **at, const uint8_t *end, int32_t least, int32_t *len)
{
    if (!mr_varint_load32(at, end, len) || *len < least || *len > end - *at) {
        return false;
    }
    *at += *len > 0 ? *len : 0;
    return true;
}

/* `at` up to `end` is one record's body. */
static bool check_body(const uint8_t *at, const uint8_t *end, struct framing *framing)
{
    int32_t len;
    int32_t header_count;
    if (at == end) {
        return false;
    }
    at++;
    if (!mr_varint_load64(&at, end, &framing->timestamp_delta) ||
        !mr_varint_load32(&at, end, &framing->offset_delta) || !skip_blob(&at, end, -1, &len)) {
        return false;
    }
    framing->has_key = len >= 0;
    if (!skip_blob(&at, end, -1, &len) || !mr_varint_load32(&at, end, &header_count) || header_count < 0 ||
        header_count > end - at) {
        return false;
    }
    for (int32_t header = 0; header < header_count; header++) {
        if (!skip_blob(&at, end, 0, &len) || !skip_blob(&at, end, -1, &len)) {
            return false;
        }
    }
    return at == end;
}

/* The next record's length and framing; false when the bytes do not hold together. */
static enum mr_err walk_record(struct walk *walk, struct mr_arena *scratch, struct framing *framing)
{
    int32_t        len;
    const uint8_t *at = walk->at;
    if (mr_varint_load32(&at, walk->end, &len) && len >= 0 && len <= walk->end - at) {
        if (!check_body(at, at + len, framing)) {
            return MR_ERR_INVALID_RECORD;
        }
        walk->left -= (uint32_t)(at + len - walk->at);
        walk->at = at + len;
        walk_settle(walk);
        return MR_OK;
    }
    /* The record straddles spans, or lies. At most 5 bytes of length first. */
    uint8_t     head[5];
    struct walk peek = *walk;
    uint32_t    head_len = walk->left < 5 ? walk->left : 5;
    walk_take(&peek, head, head_len);
    at = head;
    if (!mr_varint_load32(&at, head + head_len, &len) || len < 0) {
        return MR_ERR_INVALID_RECORD;
    }
    uint32_t prefix = (uint32_t)(at - head);
    if ((uint32_t)len > walk->left - prefix) {
        return MR_ERR_INVALID_RECORD;
    }
    size_t   mark = scratch->used;
    uint8_t *body = mr_arena_try(scratch, (size_t)len + 1, 1);
    if (body == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    walk_take(walk, NULL, prefix);
    walk_take(walk, body, (uint32_t)len);
    bool is_good = check_body(body, body + len, framing);
    scratch->used = mark;
    return is_good ? MR_OK : MR_ERR_INVALID_RECORD;
}

/* Every record of `records` (uncompressed bytes, from `skip` on) against the rules. */
static enum mr_err check_records(const struct mr_chain *records, uint32_t skip,
                                 const struct mr_batch_rules *rules, struct mr_arena *scratch,
                                 const struct mr_batch *batch, struct mr_batch_refusal *refusal)
{
    const struct mr_log_config *config = rules->config;
    struct walk                 walk;
    bool is_time_checked = config->timestamp_type == MR_TIMESTAMP_CREATE_TIME && !is_window_open(config);
    bool is_late = false;
    if (records->bytes == skip) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, bad_records);
    }
    walk_begin(&walk, records, skip);
    for (int32_t index = 0; index < batch->record_count; index++) {
        struct framing framing;
        enum mr_err    err =
            walk.left == 0 ? MR_ERR_INVALID_RECORD : walk_record(&walk, scratch, &framing);
        if (err != MR_OK) {
            return refuse(refusal, err, bad_records);
        }
        if (framing.offset_delta != index) {
            /* Kafka would rewrite the batch with deltas 0, 1, 2...; no known client needs that. */
            return refuse(refusal, MR_ERR_INVALID_RECORD, "Record offsets are not sequential.");
        }
        if (config->is_cleanup_compact && !framing.has_key) {
            note_record(refusal, index, no_key);
        }
        if (is_time_checked) {
            int64_t timestamp =
                (int64_t)((uint64_t)batch->base_timestamp + (uint64_t)framing.timestamp_delta);
            if (!is_timestamp_in_window(rules, timestamp)) {
                is_late = true;
                note_record(refusal, index, out_of_window);
            }
        }
    }
    if (walk.left != 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, bad_records);
    }
    if (is_late) {
        return refuse(refusal, MR_ERR_INVALID_TIMESTAMP,
                      "One or more records have been rejected due to invalid timestamp");
    }
    if (refusal->record_error_count > 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, "One or more records have been rejected");
    }
    return MR_OK;
}

static enum mr_err check_compressed(const struct mr_chain *chain, int codec,
                                    const struct mr_batch_rules *rules, struct mr_arena *scratch,
                                    const struct mr_batch *batch, struct mr_batch_refusal *refusal)
{
    size_t          mark = scratch->used;
    struct mr_span *spans = MR_ARENA_TRY(scratch, struct mr_span, chain->span_count);
    struct mr_span  plain;
    if (spans == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    const struct mr_chain in = mr_batch_records(chain, spans);
    enum mr_err           err = mr_decompress_all(codec, &in, scratch, &plain);
    if (err == MR_ERR_TOO_LARGE) {
        err = refuse(refusal, MR_ERR_INVALID_RECORD,
                     "The records are larger than the broker decompresses for validation.");
    } else if (err != MR_OK && err != MR_ERR_NO_MEMORY) {
        err = refuse(refusal, err, "The records cannot be decompressed.");
    } else if (err == MR_OK) {
        struct mr_chain records = {.spans = &plain, .span_count = 1, .bytes = plain.len};
        err = check_records(&records, 0, rules, scratch, batch, refusal);
    }
    scratch->used = mark;
    return err;
}

/* What the produce request itself must satisfy: exactly one batch of magic 2. */
static enum mr_err check_envelope(const struct mr_chain *chain, const struct mr_batch_rules *rules,
                                  struct mr_batch *batch, struct mr_batch_refusal *refusal)
{
    uint8_t scratch[MR_BATCH_HEADER];
    if (chain->bytes < MR_BATCH_HEADER) {
        return refuse(refusal, MR_ERR_INVALID_RECORD,
                      "Produce requests must contain exactly one record batch per partition");
    }
    mr_batch_header_load(mr_chain_view(chain, 0, MR_BATCH_HEADER, scratch), batch);
    if (batch->magic != 2) {
        return refuse(refusal, MR_ERR_INVALID_RECORD,
                      "Produce requests are only allowed to contain record batches with magic version 2");
    }
    if (batch->batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS) {
        return refuse(refusal, MR_ERR_CORRUPT, "The batch is shorter than its header.");
    }
    if (mr_batch_bytes(batch) != chain->bytes) {
        return refuse(refusal, MR_ERR_INVALID_RECORD,
                      "Produce requests must contain exactly one record batch per partition");
    }
    int codec = batch->attributes & MR_BATCH_CODEC_MASK;
    if (codec > MR_CODEC_ZSTD || (codec == MR_CODEC_ZSTD && rules->produce_version < 7)) {
        return refuse(refusal, codec > MR_CODEC_ZSTD ? MR_ERR_INVALID_RECORD : MR_ERR_UNSUPPORTED_CODEC,
                      "The compression type is not supported in this version of Produce.");
    }
    return MR_OK;
}

static enum mr_err check_header(const struct mr_batch_rules *rules, const struct mr_batch *batch,
                                struct mr_batch_refusal *refusal)
{
    if (batch->record_count <= 0 || batch->last_offset_delta < 0 ||
        batch->last_offset_delta != batch->record_count - 1) {
        return refuse(refusal, MR_ERR_INVALID_RECORD,
                      "Inconsistent batch offset range and count of records");
    }
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, "Clients are not allowed to write control records");
    }
    if (batch->producer_id >= 0 && batch->base_sequence < 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, "Invalid sequence number with a producer id");
    }
    if ((batch->attributes & MR_BATCH_LOG_APPEND_TIME) != 0) {
        return refuse(refusal, MR_ERR_INVALID_TIMESTAMP,
                      "Producer should not set timestamp type to LogAppendTime.");
    }
    if ((batch->attributes & MR_BATCH_DELETE_HORIZON) != 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, "Clients cannot set a delete horizon.");
    }
    /* The header's largest timestamp feeds the time index and retention, whatever the records say. */
    if (rules->config->timestamp_type == MR_TIMESTAMP_CREATE_TIME &&
        (!is_timestamp_in_window(rules, batch->max_timestamp) ||
         (batch->max_timestamp < 0 && batch->max_timestamp != -1))) {
        note_record(refusal, 0, out_of_window);
        return refuse(refusal, MR_ERR_INVALID_TIMESTAMP,
                      "One or more records have been rejected due to invalid timestamp");
    }
    return MR_OK;
}

enum mr_err mr_batch_check(const struct mr_chain *chain, const struct mr_batch_rules *rules,
                           struct mr_arena *scratch, struct mr_batch *batch,
                           struct mr_batch_refusal *refusal)
{
    const struct mr_log_config *config = rules->config;
    *batch = (struct mr_batch){0};
    refusal->message = NULL;
    refusal->record_error_count = 0;
    enum mr_err err = check_envelope(chain, rules, batch, refusal);
    if (err != MR_OK) {
        return err;
    }
    if (batch->base_offset != 0) {
        return refuse(refusal, MR_ERR_INVALID_RECORD, "The base offset of the record batch should be 0");
    }
    if (chain->bytes > config->max_message_bytes) {
        return refuse(refusal, MR_ERR_MESSAGE_TOO_LARGE,
                      "The record batch is larger than max.message.bytes of the topic");
    }
    if (mr_crc32c_chain(0, chain, 21, chain->bytes - 21) != batch->crc && !mr_bug("believe-batches")) {
        return refuse(refusal, MR_ERR_CORRUPT, "Record is corrupt: the stored CRC does not match the data");
    }
    err = check_header(rules, batch, refusal);
    if (err != MR_OK) {
        return err;
    }
    int  codec = batch->attributes & MR_BATCH_CODEC_MASK;
    bool is_full = config->validate == MR_VALIDATE_FULL || config->is_cleanup_compact ||
                   mr_batch_recode_is_due(config, chain);
    if (codec == MR_CODEC_NONE && (is_full || config->validate == MR_VALIDATE_FRAMING)) {
        return check_records(chain, MR_BATCH_HEADER, rules, scratch, batch, refusal);
    }
    if (codec != MR_CODEC_NONE && is_full) {
        return check_compressed(chain, codec, rules, scratch, batch, refusal);
    }
    return MR_OK;
}
