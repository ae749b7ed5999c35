/*
 * coord_out: what a step decides, collected in scratch memory: records encoded as they are written,
 * answers as structs.
 */
#include "coord/coord.h"
#include "millrace/base/bytes.h"

void mr_coord_out_init(struct mr_coord_out *out, struct mr_arena *scratch, struct mr_now now)
{
    *out = (struct mr_coord_out){.scratch = scratch, .now = now};
    out->producer_id = -1;
    out->records_end = &out->records;
    out->answers_end = &out->answers;
}

void *mr_coord_scratch(struct mr_coord_out *out, size_t bytes)
{
    void *memory = mr_arena_try(out->scratch, bytes, 16);
    if (memory != NULL) {
        memset(memory, 0, bytes);
    }
    return memory;
}

/* int16 `prefix` (a record type or a schema version) and the message, in one piece. */
static bool encode(struct mr_arena *scratch, int16_t prefix, const struct mr_msg *msg,
                   int16_t version, const void *in, struct mr_blob *blob)
{
    struct mr_span spans[2];
    struct mr_writer writer;
    mr_writer_init(&writer, scratch, spans, 1);
    if (mr_writer_int16(&writer, prefix) != MR_OK ||
        mr_msg_encode(msg, version, in, &writer) != MR_OK) {
        return false;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.span_count == 1);
    *blob = (struct mr_blob){.data = spans[0].data, .len = (int32_t)spans[0].len};
    return true;
}

bool mr_coord_out_encode(struct mr_coord_out *out, int16_t prefix, const struct mr_msg *msg,
                         int16_t version, const void *message, struct mr_blob *blob)
{
    return encode(out->scratch, prefix, msg, version, message, blob);
}

bool mr_coord_out_record(struct mr_coord_out *out, uint32_t shard, const struct mr_msg *key_msg,
                         const void *key, const struct mr_msg *value_msg, int16_t value_version,
                         const void *value)
{
    struct mr_coord_record *record = MR_COORD_NEW(out, struct mr_coord_record, 1);
    if (record == NULL) {
        return false;
    }
    *record = (struct mr_coord_record){.shard = shard, .value = MR_BLOB_NULL};
    if (!encode(out->scratch, key_msg->key, key_msg, 0, key, &record->key)) {
        return false;
    }
    if (value_msg != NULL &&
        !encode(out->scratch, value_version, value_msg, value_version, value, &record->value)) {
        return false;
    }
    *out->records_end = record;
    out->records_end = &record->next;
    out->record_count++;
    /* Length, attributes, two deltas, two lengths, no headers: 22 bytes at most around a record. */
    out->record_bytes += 22u + (uint32_t)record->key.len;
    out->record_bytes += record->value.len > 0 ? (uint32_t)record->value.len : 0;
    return true;
}

void mr_coord_out_forget_records(struct mr_coord_out *out)
{
    out->records = NULL;
    out->records_end = &out->records;
    out->then = NULL;
    out->record_count = 0;
    out->record_bytes = 0;
}

uint32_t mr_coord_out_bytes(const struct mr_coord_out *out)
{
    return out->record_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)out->record_bytes;
}

static void answer(struct mr_coord_out *out, struct mr_request *request, uint32_t shard,
                   enum mr_coord_when when, const void *response, int16_t error)
{
    /* The answer lies in the request, so that there is always one. */
    struct mr_coord_answer *entry = request->user;
    entry->next = NULL;
    entry->request = request;
    entry->response = response;
    entry->error = error;
    entry->when = when;
    entry->shard = shard;
    *out->answers_end = entry;
    out->answers_end = &entry->next;
}

void mr_coord_out_answer(struct mr_coord_out *out, struct mr_request *request, uint32_t shard,
                         enum mr_coord_when when, const void *response)
{
    answer(out, request, shard, when, response, MR_KAFKA_UNKNOWN_SERVER_ERROR);
}

void mr_coord_out_refuse(struct mr_coord_out *out, struct mr_request *request, int16_t error)
{
    answer(out, request, 0, MR_COORD_NOW, NULL, error);
}
