/*
 * batch_iter: the records inside one batch. Every length is checked against the bytes that are
 * there before it is used, so any bytes may be walked.
 */
#include "batch/compress.h"
#include "batch/varint.h"

#include "millrace/batch.h"

enum mr_err mr_record_iter_init(struct mr_record_iter *iter, const uint8_t *bytes, uint32_t len,
                                struct mr_arena *scratch)
{
    *iter = (struct mr_record_iter){0};
    if (len < MR_BATCH_HEADER) {
        return MR_ERR_INVALID_RECORD;
    }
    mr_batch_header_load(bytes, &iter->batch);
    if (iter->batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
        mr_batch_bytes(&iter->batch) != len || iter->batch.magic != 2) {
        return MR_ERR_INVALID_RECORD;
    }
    iter->at = bytes + MR_BATCH_HEADER;
    iter->end = bytes + len;
    int codec = iter->batch.attributes & MR_BATCH_CODEC_MASK;
    if (codec == MR_CODEC_NONE) {
        return MR_OK;
    }
    struct mr_span  span = {.data = iter->at, .len = len - MR_BATCH_HEADER};
    struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = span.len};
    struct mr_span  plain;
    enum mr_err     err = scratch == NULL ? MR_ERR_NO_MEMORY : mr_decompress_all(codec, &chain, scratch, &plain);
    if (err != MR_OK) {
        return err == MR_ERR_TOO_LARGE ? MR_ERR_NO_MEMORY : err;
    }
    iter->at = plain.data;
    iter->end = plain.data + plain.len;
    return MR_OK;
}

/* A length-prefixed byte string; -1 is null where `may_be_null`. */
static bool load_blob(const uint8_t **at, const uint8_t *end, bool may_be_null, struct mr_blob *blob)
{
    int32_t len;
    if (!mr_varint_load32(at, end, &len)) {
        return false;
    }
    if (len < 0) {
        *blob = MR_BLOB_NULL;
        return may_be_null && len == -1;
    }
    if (len > end - *at) {
        return false;
    }
    *blob = (struct mr_blob){.data = *at, .len = len};
    *at += len;
    return true;
}

enum mr_err mr_record_iter_next(struct mr_record_iter *iter, struct mr_record *record)
{
    if (iter->index == iter->batch.record_count) {
        return iter->at == iter->end ? MR_ERR_NOT_FOUND : MR_ERR_INVALID_RECORD;
    }
    const uint8_t *at = iter->at;
    int32_t        len;
    int64_t        timestamp_delta;
    int32_t        offset_delta;
    int32_t        header_count;
    if (!mr_varint_load32(&at, iter->end, &len) || len < 0 || len > iter->end - at) {
        return MR_ERR_INVALID_RECORD;
    }
    const uint8_t *end = at + len;
    if (at == end) {
        return MR_ERR_INVALID_RECORD;
    }
    at++; /* attributes: no bit has a meaning yet, and Kafka does not look */
    if (!mr_varint_load64(&at, end, &timestamp_delta) || !mr_varint_load32(&at, end, &offset_delta) ||
        !load_blob(&at, end, true, &record->key) || !load_blob(&at, end, true, &record->value) ||
        !mr_varint_load32(&at, end, &header_count) || header_count < 0 || header_count > end - at) {
        return MR_ERR_INVALID_RECORD;
    }
    record->header_count = header_count;
    record->headers = (struct mr_blob){.data = at, .len = (int32_t)(end - at)};
    for (int32_t header = 0; header < header_count; header++) {
        struct mr_blob ignored;
        if (!load_blob(&at, end, false, &ignored) || !load_blob(&at, end, true, &ignored)) {
            return MR_ERR_INVALID_RECORD;
        }
    }
    if (at != end) {
        return MR_ERR_INVALID_RECORD;
    }
    record->offset = (int64_t)((uint64_t)iter->batch.base_offset + (uint64_t)(int64_t)offset_delta);
    /* With LogAppendTime every record has the batch's time. */
    record->timestamp =
        (iter->batch.attributes & MR_BATCH_LOG_APPEND_TIME) != 0
            ? iter->batch.max_timestamp
            : (int64_t)((uint64_t)iter->batch.base_timestamp + (uint64_t)timestamp_delta);
    iter->at = end;
    iter->index++;
    return MR_OK;
}
