/*
 * handle_epochs: OffsetForLeaderEpoch: where a leader epoch ended.
 *
 * Source: Kafka protocol guide, OffsetForLeaderEpoch; KIP-320.
 */
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "broker/scatter.h"
#include "broker/topics.h"
#include "data_core.h"

struct epochs {
    struct mr_offset_for_leader_epoch_request in;
    struct mr_scatter scatter; /* of struct mr_epoch_end_entry */
};

static void put_one(
    const struct mr_data_core *core, struct mr_scatter *scatter, struct mr_str name,
    const struct mr_offset_for_leader_epoch_request_offset_for_leader_partition *one)
{
    const struct mr_image_topic *topic;
    const struct mr_image_partition *partition;
    int16_t error = mr_topics_find(core, false, name, NULL, one->partition, &topic, &partition);
    if (error != MR_KAFKA_NONE) {
        mr_scatter_refuse(scatter, error);
        return;
    }
    struct mr_epoch_end_entry *entry = mr_scatter_put(scatter, partition->storage_core);
    *entry = (struct mr_epoch_end_entry){
        .log_id = partition->log_id,
        .current_leader_epoch = one->current_leader_epoch,
        .leader_epoch = one->leader_epoch,
        .end_epoch = -1,
        .end_offset = -1,
    };
}

enum mr_err mr_handle_epochs(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    uint32_t core_count = core->endpoints->storage_count;
    struct mr_offset_for_leader_epoch_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    uint32_t count = 0;
    size_t names = 0;
    for (int32_t t = 0; t < in.topics_count; t++) {
        count += (uint32_t)in.topics[t].partitions_count;
        names += (size_t)in.topics[t].topic.len + 64 +
                 sizeof(struct mr_offset_for_leader_epoch_response_offset_for_leader_topic_result);
    }
    err = mr_request_more(
        request,
        sizeof(struct epochs) +
            mr_scatter_room(count, core_count, sizeof(struct mr_epoch_end_entry)) + names + 1024 +
            count * (64 + sizeof(struct mr_offset_for_leader_epoch_response_epoch_end_offset)));
    if (err != MR_OK) {
        return err;
    }
    struct epochs *epochs = MR_ARENA_TRY(&request->arena, struct epochs, 1);
    epochs->in = in;
    mr_scatter_init(&epochs->scatter, &request->arena, count, core_count,
                    sizeof(struct mr_epoch_end_entry));
    request->work = epochs;
    for (int32_t t = 0; t < in.topics_count; t++) {
        for (int32_t p = 0; p < in.topics[t].partitions_count; p++) {
            put_one(core, &epochs->scatter, in.topics[t].topic, &in.topics[t].partitions[p]);
        }
    }
    const union mr_scatter_op like = {.op.kind = MR_STORAGE_EPOCH_END};
    mr_scatter_send(&epochs->scatter, request, &like);
    if (request->storage_pending == 0) {
        mr_handle_epochs_done(request);
    }
    return MR_OK;
}

void mr_handle_epochs_done(struct mr_request *request)
{
    struct epochs *epochs = request->work;
    struct mr_offset_for_leader_epoch_response out;
    MR_DEFAULTS(offset_for_leader_epoch_response, &out);
    out.topics = MR_ARENA_TRY(
        &request->arena, struct mr_offset_for_leader_epoch_response_offset_for_leader_topic_result,
        epochs->in.topics_count);
    struct mr_offset_for_leader_epoch_response_epoch_end_offset *partitions =
        MR_ARENA_TRY(&request->arena, struct mr_offset_for_leader_epoch_response_epoch_end_offset,
                     epochs->scatter.count);
    mr_assert(out.topics != NULL && partitions != NULL);
    out.topics_count = epochs->in.topics_count;
    uint32_t at = 0;
    for (int32_t t = 0; t < epochs->in.topics_count; t++) {
        MR_DEFAULTS(offset_for_leader_epoch_response_offset_for_leader_topic_result,
                    &out.topics[t]);
        out.topics[t].topic = epochs->in.topics[t].topic;
        out.topics[t].partitions = partitions + at;
        out.topics[t].partitions_count = epochs->in.topics[t].partitions_count;
        for (int32_t p = 0; p < epochs->in.topics[t].partitions_count; p++, at++) {
            MR_DEFAULTS(offset_for_leader_epoch_response_epoch_end_offset, &partitions[at]);
            partitions[at].partition = epochs->in.topics[t].partitions[p].partition;
            partitions[at].error_code = epochs->scatter.errors[at];
            const struct mr_epoch_end_entry *entry = mr_scatter_entry(&epochs->scatter, at);
            if (entry == NULL) {
                continue;
            }
            partitions[at].error_code = mr_err_kafka(entry->err);
            if (entry->err == MR_OK) {
                partitions[at].leader_epoch = entry->end_epoch;
                partitions[at].end_offset = entry->end_offset;
            }
        }
    }
    if (mr_reply_message(request, &out, 0, 0) != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}
