/*
 * batch_marker: the control batch that ends a transaction in one log: made by the coordinator, read by storage.
 *
 *   key    version i16 | type i16: 0 abort, 1 commit
 *   value  version i16 | coordinator epoch i32
 */
#include "millrace/batch.h"

#define KEY_BYTES   4
#define VALUE_BYTES 6

uint32_t mr_marker_build(uint8_t out[MR_MARKER_BYTES_MAX], int64_t producer_id, int16_t producer_epoch,
                         const struct mr_marker *marker, int64_t now_unix_ms)
{
    struct mr_batch_builder builder;
    uint8_t                 key[KEY_BYTES];
    uint8_t                 value[VALUE_BYTES];
    mr_store_be16(key, 0);
    mr_store_be16(key + 2, marker->is_commit ? 1 : 0);
    mr_store_be16(value, 0);
    mr_store_be32(value + 2, (uint32_t)marker->coordinator_epoch);
    mr_batch_begin(&builder, out, MR_MARKER_BYTES_MAX, 0, MR_BATCH_TRANSACTIONAL | MR_BATCH_CONTROL);
    builder.batch.producer_id = producer_id;
    builder.batch.producer_epoch = producer_epoch;
    bool is_added = mr_batch_add(&builder, now_unix_ms, (struct mr_blob){.data = key, .len = KEY_BYTES},
                                 (struct mr_blob){.data = value, .len = VALUE_BYTES});
    mr_assert(is_added);
    return mr_batch_end(&builder);
}

bool mr_marker_load(const uint8_t *bytes, uint32_t len, struct mr_marker *marker)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    if (mr_record_iter_init(&iter, bytes, len, NULL) != MR_OK || mr_record_iter_next(&iter, &record) != MR_OK) {
        return false;
    }
    return mr_marker_parse(record.key, record.value, marker);
}

bool mr_marker_parse(struct mr_blob key, struct mr_blob value, struct mr_marker *marker)
{
    if (key.len < KEY_BYTES || value.len < VALUE_BYTES) {
        return false;
    }
    uint16_t type = mr_load_be16(key.data + 2);
    *marker = (struct mr_marker){.is_commit = type == 1, .coordinator_epoch = (int32_t)mr_load_be32(value.data + 2)};
    return type <= 1;
}
