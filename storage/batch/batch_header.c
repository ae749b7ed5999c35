/*
 * batch_header: the fields of a record batch v2 at their places. Drawing: include/millrace/batch.h.
 */
#include "millrace/batch.h"

void mr_batch_header_load(const uint8_t header[MR_BATCH_HEADER], struct mr_batch *batch)
{
    *batch = (struct mr_batch){
        .base_offset = (int64_t)mr_load_be64(header),
        .batch_length = (int32_t)mr_load_be32(header + 8),
        .leader_epoch = (int32_t)mr_load_be32(header + 12),
        .magic = (int8_t)header[16],
        .crc = mr_load_be32(header + 17),
        .attributes = (int16_t)mr_load_be16(header + 21),
        .last_offset_delta = (int32_t)mr_load_be32(header + 23),
        .base_timestamp = (int64_t)mr_load_be64(header + 27),
        .max_timestamp = (int64_t)mr_load_be64(header + 35),
        .producer_id = (int64_t)mr_load_be64(header + 43),
        .producer_epoch = (int16_t)mr_load_be16(header + 51),
        .base_sequence = (int32_t)mr_load_be32(header + 53),
        .record_count = (int32_t)mr_load_be32(header + 57),
    };
}

void mr_batch_header_store(const struct mr_batch *batch, uint8_t header[MR_BATCH_HEADER])
{
    mr_store_be64(header, (uint64_t)batch->base_offset);
    mr_store_be32(header + 8, (uint32_t)batch->batch_length);
    mr_store_be32(header + 12, (uint32_t)batch->leader_epoch);
    header[16] = (uint8_t)batch->magic;
    mr_store_be32(header + 17, batch->crc);
    mr_store_be16(header + 21, (uint16_t)batch->attributes);
    mr_store_be32(header + 23, (uint32_t)batch->last_offset_delta);
    mr_store_be64(header + 27, (uint64_t)batch->base_timestamp);
    mr_store_be64(header + 35, (uint64_t)batch->max_timestamp);
    mr_store_be64(header + 43, (uint64_t)batch->producer_id);
    mr_store_be16(header + 51, (uint16_t)batch->producer_epoch);
    mr_store_be32(header + 53, (uint32_t)batch->base_sequence);
    mr_store_be32(header + 57, (uint32_t)batch->record_count);
}

void mr_batch_seal(struct mr_batch *batch, uint8_t *bytes, uint32_t len)
{
    batch->batch_length = (int32_t)(len - MR_BATCH_LENGTH_BIAS);
    mr_batch_header_store(batch, bytes);
    batch->crc = mr_crc32c(0, bytes + MR_BATCH_CHECKED_AT, len - MR_BATCH_CHECKED_AT);
    mr_store_be32(bytes + MR_BATCH_CRC_AT, batch->crc);
}
