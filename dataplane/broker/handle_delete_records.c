/*
 * handle_delete_records: DeleteRecords: a new log start, answered when it is durable.
 *
 * Refused here as Kafka does: internal topics (INVALID_TOPIC_EXCEPTION), topics that are only
 * compacted (POLICY_VIOLATION).
 */
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "broker/scatter.h"
#include "broker/topics.h"
#include "data_core.h"

struct deletes {
    struct mr_delete_records_request in;
    struct mr_scatter scatter; /* of struct mr_delete_records_entry */
};

static int16_t check_one(const struct mr_data_core *core, struct mr_str name, int32_t index,
                         const struct mr_image_partition **partition)
{
    const struct mr_image_topic *topic;
    int16_t error = mr_topics_find(core, false, name, NULL, index, &topic, partition);
    if (topic != NULL && topic->is_internal) {
        return MR_KAFKA_INVALID_TOPIC_EXCEPTION;
    }
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    return topic->config.is_cleanup_delete ? MR_KAFKA_NONE : MR_KAFKA_POLICY_VIOLATION;
}

static void put_one(const struct mr_data_core *core, struct mr_scatter *scatter, struct mr_str name,
                    const struct mr_delete_records_request_delete_records_partition *one)
{
    const struct mr_image_partition *partition = NULL;
    int16_t error = check_one(core, name, one->partition_index, &partition);
    if (error != MR_KAFKA_NONE) {
        mr_scatter_refuse(scatter, error);
        return;
    }
    struct mr_delete_records_entry *entry = mr_scatter_put(scatter, partition->storage_core);
    *entry = (struct mr_delete_records_entry){
        .log_id = partition->log_id, .offset = one->offset, .low_watermark = -1};
}

enum mr_err mr_handle_delete_records(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    uint32_t core_count = core->endpoints->storage_count;
    struct mr_delete_records_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    uint32_t count = 0;
    size_t names = 0;
    for (int32_t t = 0; t < in.topics_count; t++) {
        count += (uint32_t)in.topics[t].partitions_count;
        names += (size_t)in.topics[t].name.len + 64 +
                 sizeof(struct mr_delete_records_response_delete_records_topic_result);
    }
    err = mr_request_more(
        request,
        sizeof(struct deletes) +
            mr_scatter_room(count, core_count, sizeof(struct mr_delete_records_entry)) + names +
            1024 +
            count *
                (64 + sizeof(struct mr_delete_records_response_delete_records_partition_result)));
    if (err != MR_OK) {
        return err;
    }
    struct deletes *deletes = MR_ARENA_TRY(&request->arena, struct deletes, 1);
    deletes->in = in;
    mr_scatter_init(&deletes->scatter, &request->arena, count, core_count,
                    sizeof(struct mr_delete_records_entry));
    request->work = deletes;
    for (int32_t t = 0; t < in.topics_count; t++) {
        for (int32_t p = 0; p < in.topics[t].partitions_count; p++) {
            put_one(core, &deletes->scatter, in.topics[t].name, &in.topics[t].partitions[p]);
        }
    }
    const union mr_scatter_op like = {.op.kind = MR_STORAGE_DELETE_RECORDS};
    mr_scatter_send(&deletes->scatter, request, &like);
    if (request->storage_pending == 0) {
        mr_handle_delete_records_done(request);
    }
    return MR_OK;
}

void mr_handle_delete_records_done(struct mr_request *request)
{
    struct deletes *deletes = request->work;
    struct mr_delete_records_response out;
    MR_DEFAULTS(delete_records_response, &out);
    out.topics =
        MR_ARENA_TRY(&request->arena, struct mr_delete_records_response_delete_records_topic_result,
                     deletes->in.topics_count);
    struct mr_delete_records_response_delete_records_partition_result *partitions = MR_ARENA_TRY(
        &request->arena, struct mr_delete_records_response_delete_records_partition_result,
        deletes->scatter.count);
    mr_assert(out.topics != NULL && partitions != NULL);
    out.topics_count = deletes->in.topics_count;
    uint32_t at = 0;
    for (int32_t t = 0; t < deletes->in.topics_count; t++) {
        MR_DEFAULTS(delete_records_response_delete_records_topic_result, &out.topics[t]);
        out.topics[t].name = deletes->in.topics[t].name;
        out.topics[t].partitions = partitions + at;
        out.topics[t].partitions_count = deletes->in.topics[t].partitions_count;
        for (int32_t p = 0; p < deletes->in.topics[t].partitions_count; p++, at++) {
            MR_DEFAULTS(delete_records_response_delete_records_partition_result, &partitions[at]);
            partitions[at].partition_index = deletes->in.topics[t].partitions[p].partition_index;
            partitions[at].low_watermark = -1;
            partitions[at].error_code = deletes->scatter.errors[at];
            const struct mr_delete_records_entry *entry = mr_scatter_entry(&deletes->scatter, at);
            if (entry == NULL) {
                continue;
            }
            partitions[at].error_code = mr_err_kafka(entry->err);
            if (entry->err == MR_OK) {
                partitions[at].low_watermark = entry->low_watermark;
            }
        }
    }
    if (mr_reply_message(request, &out, 0, 0) != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}
