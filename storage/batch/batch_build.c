/*
 * batch_build: one uncompressed batch into a caller's buffer, for coordinator and metadata records.
 */
#include "batch/varint.h"

#include "millrace/batch.h"

void mr_batch_begin(struct mr_batch_builder *builder, void *bytes, uint32_t size, int64_t base_offset,
                    int16_t attributes)
{
    *builder = (struct mr_batch_builder){.bytes = bytes, .size = size, .used = MR_BATCH_HEADER};
    builder->is_full = size < MR_BATCH_HEADER;
    builder->batch = (struct mr_batch){
        .base_offset = base_offset,
        .leader_epoch = -1,
        .magic = 2,
        .attributes = attributes,
        .max_timestamp = INT64_MIN,
        .producer_id = -1,
        .producer_epoch = -1,
        .base_sequence = -1,
    };
}

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

bool mr_batch_add(struct mr_batch_builder *builder, int64_t timestamp, struct mr_blob key,
                  struct mr_blob value)
{
    struct mr_batch *batch = &builder->batch;
    int64_t base = batch->record_count == 0 ? timestamp : batch->base_timestamp;
    if (builder->is_full || key.len > (1 << 30) || value.len > (1 << 30)) {
        builder->is_full = true;
        return false;
    }
    uint32_t body = 1 + mr_varint_bytes(timestamp - base) + mr_varint_bytes(batch->record_count) +
                    blob_bytes(key) + blob_bytes(value) + 1;
    if (body + 5ull > builder->size - builder->used &&
        body + (uint64_t)mr_varint_bytes(body) > builder->size - builder->used) {
        builder->is_full = true;
        return false;
    }
    uint8_t *out = builder->bytes + builder->used;
    out += mr_varint_store(out, body);
    *out++ = 0;
    out += mr_varint_store(out, timestamp - base);
    out += mr_varint_store(out, batch->record_count);
    out = blob_store(out, key);
    out = blob_store(out, value);
    *out++ = 0; /* no headers */
    builder->used = (uint32_t)(out - builder->bytes);
    batch->base_timestamp = base;
    batch->max_timestamp = timestamp > batch->max_timestamp ? timestamp : batch->max_timestamp;
    batch->record_count++;
    return true;
}

uint32_t mr_batch_end(struct mr_batch_builder *builder)
{
    mr_assert(builder->batch.record_count > 0);
    builder->batch.last_offset_delta = builder->batch.record_count - 1;
    mr_batch_seal(&builder->batch, builder->bytes, builder->used);
    return builder->used;
}
