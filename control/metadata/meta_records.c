/* meta_records: the records that one decision writes, and the batch that makes them one atomic
 * change. */
#include "metadata/meta.h"
#include "millrace/base/bytes.h"
#include "millrace/batch.h"

#define FRAME_VERSION 1
#define LENGTH_BYTES  4
#define HEAD_BYTES    15 /* three uvarints at most */
#define RECORD_EXTRA  32 /* varints of a record around its value, at most */

void mr_meta_records_init(struct mr_meta_records *records, struct mr_heap *heap)
{
    *records = (struct mr_meta_records){.heap = heap};
}

void mr_meta_records_deinit(struct mr_meta_records *records)
{
    mr_heap_free(records->heap, records->bytes, records->size);
    *records = (struct mr_meta_records){.heap = records->heap};
}

/* Room for `bytes` more; NULL: is_failed. */
static uint8_t *records_room(struct mr_meta_records *records, size_t bytes)
{
    if (records->is_failed) {
        return NULL;
    }
    if (bytes > records->size - records->used) {
        size_t size = records->size == 0 ? 1024 : records->size * 2;
        while (size - records->used < bytes) {
            size *= 2;
        }
        uint8_t *more = mr_heap_resize(records->heap, records->bytes, records->size, size);
        if (more == NULL) {
            records->is_failed = true;
            return NULL;
        }
        records->bytes = more;
        records->size = size;
    }
    return records->bytes + records->used;
}

void mr_meta_records_add(struct mr_meta_records *records, const struct mr_msg *msg, int16_t version,
                         const void *record)
{
    uint32_t body = 0;
    if (mr_msg_size(msg, version, record, &body) != MR_OK) {
        records->is_failed = true;
        return;
    }
    uint8_t *at = records_room(records, LENGTH_BYTES + HEAD_BYTES + (size_t)body);
    if (at == NULL) {
        return;
    }
    struct mr_arena  arena;
    struct mr_span   spans[2];
    struct mr_writer writer;
    mr_arena_init(&arena, at + LENGTH_BYTES, HEAD_BYTES + (size_t)body);
    mr_writer_init(&writer, &arena, spans, 2);
    if (mr_writer_uvarint(&writer, FRAME_VERSION) != MR_OK ||
        mr_writer_uvarint(&writer, (uint32_t)msg->key) != MR_OK ||
        mr_writer_uvarint(&writer, (uint32_t)version) != MR_OK ||
        mr_msg_encode(msg, version, record, &writer) != MR_OK) {
        records->is_failed = true;
        return;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.span_count == 1 && chain.spans[0].data == at + LENGTH_BYTES);
    mr_store_le32(at, chain.bytes);
    records->used += LENGTH_BYTES + chain.bytes;
    records->count++;
}

void mr_meta_records_add_value(struct mr_meta_records *records, struct mr_blob value)
{
    mr_assert(value.len > 0);
    uint8_t *at = records_room(records, LENGTH_BYTES + (size_t)value.len);
    if (at == NULL) {
        return;
    }
    mr_store_le32(at, (uint32_t)value.len);
    memcpy(at + LENGTH_BYTES, value.data, (size_t)value.len);
    records->used += LENGTH_BYTES + (size_t)value.len;
    records->count++;
}

struct mr_meta_mark mr_meta_records_mark(const struct mr_meta_records *records)
{
    return (struct mr_meta_mark){.used = records->used, .count = records->count};
}

void mr_meta_records_rewind(struct mr_meta_records *records, struct mr_meta_mark mark)
{
    mr_assert(mark.used <= records->used && mark.count <= records->count);
    records->used = mark.used;
    records->count = mark.count;
}

bool mr_meta_records_next(const struct mr_meta_records *records, size_t *at, struct mr_blob *value)
{
    if (*at == records->used) {
        return false;
    }
    mr_assert(*at + LENGTH_BYTES <= records->used);
    uint32_t len = mr_load_le32(records->bytes + *at);
    *value = (struct mr_blob){.data = records->bytes + *at + LENGTH_BYTES, .len = (int32_t)len};
    *at += LENGTH_BYTES + len;
    return true;
}

uint8_t *mr_meta_records_batch(const struct mr_meta_records *records, int64_t base_offset,
                               int64_t timestamp_ms, int32_t epoch, size_t *size, uint32_t *len)
{
    mr_assert(records->count > 0 && !records->is_failed);
    *size = MR_BATCH_HEADER + records->used + (size_t)records->count * RECORD_EXTRA;
    if (*size > INT32_MAX) {
        return NULL;
    }
    uint8_t *bytes = mr_heap_try(records->heap, *size);
    if (bytes == NULL) {
        return NULL;
    }
    struct mr_batch_builder builder;
    struct mr_blob          value;
    size_t                  at = 0;
    mr_batch_begin(&builder, bytes, (uint32_t)*size, base_offset, 0);
    builder.batch.leader_epoch = epoch;
    while (mr_meta_records_next(records, &at, &value)) {
        bool is_added = mr_batch_add(&builder, timestamp_ms, MR_BLOB_NULL, value);
        mr_assert(is_added);
    }
    *len = mr_batch_end(&builder);
    return bytes;
}

int16_t mr_meta_partition_record_version(int16_t metadata_version)
{
    return metadata_version >= MR_META_VERSION_ELR           ? 2
           : metadata_version >= MR_META_VERSION_DIRECTORIES ? 1
                                                             : 0;
}

int16_t mr_meta_register_broker_version(int16_t metadata_version)
{
    return metadata_version >= MR_META_VERSION_CORDONED      ? 4
           : metadata_version >= MR_META_VERSION_DIRECTORIES ? 3
           : metadata_version >= 8                           ? 2
                                                             : 1;
}

int16_t mr_meta_registration_change_version(int16_t metadata_version)
{
    return metadata_version >= MR_META_VERSION_CORDONED      ? 3
           : metadata_version >= MR_META_VERSION_DIRECTORIES ? 2
           : metadata_version >= 6                           ? 1
                                                             : 0;
}
