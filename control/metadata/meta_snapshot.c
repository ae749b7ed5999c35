#include "metadata/meta_snapshot.h"

#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "millrace/kafka/messages.h"

#define DECOMPRESS_BYTES (4u << 20)
#define CONTROL_BYTES    512u /* of one message that we write */

static bool digits(struct mr_str text, int32_t at, int32_t len, int64_t *number)
{
    int64_t value = 0;
    for (int32_t index = 0; index < len; index++) {
        char c = text.data[at + index];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, c - '0', &value)) {
            return false;
        }
    }
    *number = value;
    return true;
}

bool mr_meta_snapshot_name_parse(struct mr_str name, int64_t *end_offset, int32_t *epoch)
{
    int64_t number = 0;
    if (name.len != 42 || name.data[20] != '-' || memcmp(name.data + 31, ".checkpoint", 11) != 0 ||
        !digits(name, 0, 20, end_offset) || !digits(name, 21, 10, &number) || number > INT32_MAX) {
        return false;
    }
    *epoch = (int32_t)number;
    return true;
}

bool mr_meta_control_add_value(struct mr_batch_builder *builder, int64_t timestamp_ms,
                               enum mr_meta_control_type type, struct mr_blob value)
{
    uint8_t key[4];
    mr_store_be16(key, 0);
    mr_store_be16(key + 2, (uint16_t)type);
    return mr_batch_add(builder, timestamp_ms, (struct mr_blob){.data = key, .len = 4}, value);
}

bool mr_meta_control_add(struct mr_batch_builder *builder, int64_t timestamp_ms,
                         enum mr_meta_control_type type, const struct mr_msg *msg,
                         const void *message)
{
    uint8_t          bytes[CONTROL_BYTES];
    struct mr_arena  arena;
    struct mr_span   spans[2];
    struct mr_writer writer;
    mr_arena_init(&arena, bytes, sizeof bytes);
    mr_writer_init(&writer, &arena, spans, 2);
    enum mr_err err = mr_msg_encode(msg, 0, message, &writer);
    mr_assert(err == MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.span_count == 1);
    return mr_meta_control_add_value(
        builder, timestamp_ms, type,
        (struct mr_blob){.data = chain.spans[0].data, .len = (int32_t)chain.bytes});
}

static enum mr_err control_record(struct mr_heap *heap, const struct mr_record *record,
                                  struct mr_meta_kraft *kraft)
{
    if (record->key.len < 4 || record->value.len < 2) {
        return MR_ERR_INVALID_RECORD;
    }
    switch ((int16_t)mr_load_be16(record->key.data + 2)) {
    case MR_META_CONTROL_KRAFT_VERSION:
        if (record->value.len < 4) {
            return MR_ERR_INVALID_RECORD;
        }
        kraft->version = (int16_t)mr_load_be16(record->value.data + 2);
        return MR_OK;
    case MR_META_CONTROL_VOTERS: {
        uint8_t *copy = mr_heap_try(heap, (size_t)record->value.len);
        if (copy == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        memcpy(copy, record->value.data, (size_t)record->value.len);
        mr_heap_free(heap, kraft->voters, (size_t)kraft->voters_len);
        kraft->voters = copy;
        kraft->voters_len = record->value.len;
        return MR_OK;
    }
    case MR_META_CONTROL_SNAPSHOT_FOOTER:
        kraft->has_footer = true;
        return MR_OK;
    default:
        return MR_OK; /* leader changes, headers, and what is not known: offsets and nothing more */
    }
}

static enum mr_err walk_batch(struct mr_heap *heap, const uint8_t *bytes, uint32_t len,
                              const struct mr_batch *batch, int64_t offset_min,
                              struct mr_meta_kraft *kraft, mr_meta_record_fn *fn, void *user)
{
    struct mr_arena       scratch = {0};
    size_t                scratch_bytes = 0;
    struct mr_record_iter iter;
    struct mr_record      record;
    if ((batch->attributes & MR_BATCH_CODEC_MASK) != 0) {
        scratch_bytes = DECOMPRESS_BYTES;
        void *memory = mr_heap_try(heap, scratch_bytes);
        if (memory == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        mr_arena_init(&scratch, memory, scratch_bytes);
    }
    enum mr_err err = mr_record_iter_init(&iter, bytes, len, &scratch);
    while (err == MR_OK) {
        err = mr_record_iter_next(&iter, &record);
        if (err != MR_OK) {
            break;
        }
        if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
            err = control_record(heap, &record, kraft);
        } else if (record.offset >= offset_min) {
            err = fn(user, record.offset, record.value);
        }
    }
    if (scratch_bytes > 0) {
        mr_heap_free(heap, scratch.base, scratch_bytes);
    }
    return err == MR_ERR_NOT_FOUND ? MR_OK : err;
}

enum mr_err mr_meta_snapshot_walk(struct mr_heap *heap, const uint8_t *bytes, size_t len,
                                  int64_t offset_min, struct mr_meta_kraft *kraft,
                                  int32_t *last_epoch, int64_t *next_offset, mr_meta_record_fn *fn,
                                  void *user)
{
    size_t at = 0;
    while (at < len) {
        struct mr_batch batch;
        if (len - at < MR_BATCH_HEADER) {
            return MR_ERR_TRUNCATED;
        }
        mr_batch_header_load(bytes + at, &batch);
        if (batch.magic != 2 || batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
            batch.last_offset_delta < 0 || batch.base_offset < 0 ||
            batch.base_offset > INT64_MAX - INT32_MAX) {
            return MR_ERR_CORRUPT;
        }
        uint64_t whole = (uint64_t)(uint32_t)batch.batch_length + MR_BATCH_LENGTH_BIAS;
        if (whole > len - at) {
            return MR_ERR_TRUNCATED;
        }
        if (mr_crc32c(0, bytes + at + 21, (size_t)whole - 21) != batch.crc) {
            return MR_ERR_CORRUPT;
        }
        if (batch.leader_epoch > *last_epoch) {
            *last_epoch = batch.leader_epoch;
        }
        if (mr_batch_last_offset(&batch) >= offset_min) {
            enum mr_err err =
                walk_batch(heap, bytes + at, (uint32_t)whole, &batch, offset_min, kraft, fn, user);
            if (err != MR_OK) {
                return err;
            }
        }
        *next_offset = mr_batch_last_offset(&batch) + 1;
        at += (size_t)whole;
    }
    return MR_OK;
}
