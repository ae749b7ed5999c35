#include "log/clean_batch.h"

#include "batch/compress.h"
#include "batch/varint.h"

#include "millrace/base/bug.h"

#define DELTA_GROWTH 14u /* a time delta from 1 to 10 bytes, and with it the record's length */

/* *plain_bytes: of all records, uncompressed. */
static enum mr_err walk(const uint8_t *bytes, uint32_t len, struct mr_arena *scratch, mr_clean_record_found *found,
                        void *context, uint32_t *plain_bytes)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    size_t                mark = scratch->used;
    enum mr_err           err =
        mr_fail(MR_FAIL_clean_scratch) ? MR_ERR_NO_MEMORY : mr_record_iter_init(&iter, bytes, len, scratch);
    int64_t               least = err == MR_OK ? iter.batch.base_offset : 0;
    *plain_bytes = err == MR_OK ? (uint32_t)(iter.end - iter.at) : 0;
    while (err == MR_OK && (err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        if (record.offset < least || record.offset > mr_batch_last_offset(&iter.batch)) {
            err = MR_ERR_INVALID_RECORD;
        } else if (!found(context, &record)) {
            break;
        }
        least = record.offset + 1;
    }
    scratch->used = mark;
    return err == MR_ERR_NOT_FOUND ? MR_OK : err;
}

enum mr_err mr_clean_batch_walk(const uint8_t *bytes, uint32_t len, struct mr_arena *scratch,
                                mr_clean_record_found *found, void *context)
{
    uint32_t plain_bytes;
    return walk(bytes, len, scratch, found, context, &plain_bytes);
}

/* ---- Which records stay ---- */

struct choice {
    const struct mr_clean_rules *rules;
    const struct mr_clean_batch *known;
    struct mr_batch              batch;
    uint8_t                     *stays; /* a bit for each record */
    int32_t                      index;
    uint32_t                     plain_bytes; /* of all, uncompressed */
    int32_t                      count;       /* of those that stay */
    bool                         is_tombstone; /* one of them is */
    int64_t                      first_timestamp; /* of those that stay */
    int64_t                      max_timestamp;
};

static bool is_horizon_set(const struct mr_batch *batch)
{
    return (batch->attributes & MR_BATCH_DELETE_HORIZON) != 0;
}

static bool does_stay(const struct choice *choice, const struct mr_record *record)
{
    const struct mr_clean_rules *rules = choice->rules;
    if (choice->known->is_discarded) {
        return false;
    }
    if ((choice->batch.attributes & MR_BATCH_CONTROL) != 0 || record->offset >= rules->map_end) {
        return true;
    }
    if (record->key.len < 0 || record->offset < mr_clean_map_get(rules->map, record->key)) {
        return false;
    }
    bool is_over = is_horizon_set(&choice->batch) && rules->now_ms >= choice->batch.base_timestamp;
    return record->value.len >= 0 ? !mr_bug_each("lose-a-newest-value", 20) : !is_over && !mr_bug("drop-tombstones");
}

static bool choose(void *context, const struct mr_record *record)
{
    struct choice *choice = context;
    int32_t        index = choice->index++;
    if (!does_stay(choice, record)) {
        return true;
    }
    choice->stays[index / 8] |= (uint8_t)(1u << (index % 8));
    choice->is_tombstone |= record->value.len < 0 && (choice->batch.attributes & MR_BATCH_CONTROL) == 0;
    if (choice->count++ == 0) {
        choice->first_timestamp = record->timestamp;
        choice->max_timestamp = record->timestamp;
    }
    choice->max_timestamp = record->timestamp > choice->max_timestamp ? record->timestamp : choice->max_timestamp;
    return true;
}

/* ---- The batch made anew ---- */

struct build {
    const struct choice *choice;
    int32_t              index;
    int64_t              base_timestamp;
    uint8_t             *at;
    uint8_t             *end;
    bool                 is_full;
};

static uint32_t blob_bytes(struct mr_blob blob)
{
    return mr_varint_bytes(blob.len) + (blob.len > 0 ? (uint32_t)blob.len : 0);
}

static uint8_t *blob_store(uint8_t *out, struct mr_blob blob)
{
    out += mr_varint_store(out, blob.len);
    if (blob.len > 0) {
        memcpy(out, blob.data, (size_t)blob.len);
        out += blob.len;
    }
    return out;
}

static bool store_record(void *context, const struct mr_record *record)
{
    struct build        *build = context;
    const struct choice *choice = build->choice;
    int32_t              index = build->index++;
    if ((choice->stays[index / 8] & (1u << (index % 8))) == 0) {
        return true;
    }
    int64_t  delta = (int64_t)((uint64_t)record->timestamp - (uint64_t)build->base_timestamp);
    int64_t  offset = record->offset - choice->batch.base_offset;
    uint64_t body = 1u + mr_varint_bytes(delta) + mr_varint_bytes(offset) + (uint64_t)blob_bytes(record->key) +
                    blob_bytes(record->value) + mr_varint_bytes(record->header_count) + (uint32_t)record->headers.len;
    if (body + mr_varint_bytes((int64_t)body) > (uint64_t)(build->end - build->at)) {
        build->is_full = true;
        return false;
    }
    uint8_t *out = build->at;
    out += mr_varint_store(out, (int64_t)body);
    *out++ = 0;
    out += mr_varint_store(out, delta);
    out += mr_varint_store(out, offset);
    out = blob_store(out, record->key);
    out = blob_store(out, record->value);
    out += mr_varint_store(out, record->header_count);
    if (record->headers.len > 0) {
        memcpy(out, record->headers.data, (size_t)record->headers.len);
        out += record->headers.len;
    }
    build->at = out;
    return true;
}

static enum mr_err store_empty(const struct choice *choice, uint8_t *out, uint32_t room, uint32_t *out_len)
{
    struct mr_batch empty = choice->batch;
    if (room < MR_BATCH_HEADER) {
        return MR_ERR_TOO_LARGE;
    }
    empty.attributes &= (int16_t)~(MR_BATCH_CODEC_MASK | MR_BATCH_DELETE_HORIZON);
    empty.base_timestamp = -1;
    empty.record_count = 0;
    mr_batch_seal(&empty, out, MR_BATCH_HEADER);
    *out_len = MR_BATCH_HEADER;
    return MR_OK;
}

static enum mr_err store_records(const struct choice *choice, int64_t base_timestamp, const uint8_t *bytes,
                                 uint32_t len, struct mr_arena *scratch, uint8_t *out, uint32_t room, uint32_t *out_len)
{
    struct build build = {.choice = choice, .base_timestamp = base_timestamp, .at = out, .end = out + room};
    enum mr_err  err = mr_clean_batch_walk(bytes, len, scratch, store_record, &build);
    *out_len = (uint32_t)(build.at - out);
    return err == MR_OK && build.is_full ? MR_ERR_TOO_LARGE : err;
}

/* With the codec that the batch came with, at that codec's default level. */
static enum mr_err pack_records(const struct choice *choice, int64_t base_timestamp, const uint8_t *bytes, uint32_t len,
                                struct mr_arena *scratch, uint8_t *out, uint32_t room, uint32_t *out_len)
{
    uint64_t most = choice->plain_bytes + (uint64_t)choice->count * DELTA_GROWTH;
    uint8_t *plain = most > INT32_MAX ? NULL : mr_arena_try(scratch, most, 1);
    uint32_t plain_len = 0;
    if (plain == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    enum mr_err err = store_records(choice, base_timestamp, bytes, len, scratch, plain, (uint32_t)most, &plain_len);
    return err != MR_OK ? err
                        : mr_compress(choice->batch.attributes & MR_BATCH_CODEC_MASK, MR_LEVEL_DEFAULT, plain,
                                      plain_len, out, room, out_len, scratch);
}

static enum mr_err store_anew(const struct choice *choice, bool is_horizon_due, const uint8_t *bytes, uint32_t len,
                              struct mr_arena *scratch, uint8_t *out, uint32_t room, uint32_t *out_len)
{
    const struct mr_clean_rules *rules = choice->rules;
    struct mr_batch              anew = choice->batch;
    enum mr_err                  err;
    if (room < MR_BATCH_HEADER) {
        return MR_ERR_TOO_LARGE;
    }
    anew.record_count = choice->count;
    if (is_horizon_due) {
        anew.attributes |= MR_BATCH_DELETE_HORIZON;
        anew.base_timestamp = rules->delete_retention_ms > INT64_MAX - rules->now_ms
                                  ? INT64_MAX
                                  : rules->now_ms + rules->delete_retention_ms;
    } else if (!is_horizon_set(&anew)) {
        anew.base_timestamp = choice->first_timestamp;
    }
    if ((anew.attributes & MR_BATCH_LOG_APPEND_TIME) == 0) {
        anew.max_timestamp = choice->max_timestamp;
    }
    bool     is_packed = (anew.attributes & MR_BATCH_CODEC_MASK) != MR_CODEC_NONE;
    uint32_t body = 0;
    err = is_packed ? pack_records(choice, anew.base_timestamp, bytes, len, scratch, out + MR_BATCH_HEADER,
                                   room - MR_BATCH_HEADER, &body)
                    : store_records(choice, anew.base_timestamp, bytes, len, scratch, out + MR_BATCH_HEADER,
                                    room - MR_BATCH_HEADER, &body);
    if (err == MR_OK) {
        *out_len = MR_BATCH_HEADER + body;
        mr_batch_seal(&anew, out, *out_len);
    }
    return err;
}

static enum mr_err store(const struct choice *choice, const uint8_t *bytes, uint32_t len, struct mr_arena *scratch,
                         uint8_t *out, uint32_t room, uint32_t *out_len)
{
    if (choice->count == 0) {
        return choice->known->is_kept ? store_empty(choice, out, room, out_len) : MR_OK;
    }
    bool is_horizon_due = (choice->is_tombstone || choice->known->is_marker_over) && !is_horizon_set(&choice->batch);
    if (choice->count < choice->batch.record_count || is_horizon_due) {
        return store_anew(choice, is_horizon_due, bytes, len, scratch, out, room, out_len);
    }
    if (room < len) {
        return MR_ERR_TOO_LARGE;
    }
    memcpy(out, bytes, len);
    *out_len = len;
    return MR_OK;
}

enum mr_err mr_clean_batch(const struct mr_clean_rules *rules, const struct mr_clean_batch *known, const uint8_t *bytes,
                           uint32_t len, struct mr_arena *scratch, uint8_t *out, uint32_t room, uint32_t *out_len)
{
    struct choice choice = {.rules = rules, .known = known};
    size_t        mark = scratch->used;
    *out_len = 0;
    mr_batch_header_load(bytes, &choice.batch);
    if (known->is_discarded && !known->is_kept) {
        return MR_OK;
    }
    int64_t count = choice.batch.record_count;
    if (count < 0 || count > (int64_t)choice.batch.last_offset_delta + 1) {
        return MR_ERR_INVALID_RECORD;
    }
    size_t bit_bytes = (size_t)count / 8 + 1;
    choice.stays = mr_arena_try(scratch, bit_bytes, 1);
    if (choice.stays == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    memset(choice.stays, 0, bit_bytes);
    enum mr_err err = walk(bytes, len, scratch, choose, &choice, &choice.plain_bytes);
    err = err == MR_OK ? store(&choice, bytes, len, scratch, out, room, out_len) : err;
    scratch->used = mark;
    return err;
}
