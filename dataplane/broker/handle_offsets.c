/*
 * handle_offsets: ListOffsets: by time, earliest, latest and the other special times.
 *
 * Source: Kafka protocol guide, ListOffsets; behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "broker/scatter.h"
#include "broker/topics.h"
#include "data_core.h"

struct offsets {
    struct mr_list_offsets_request in;
    uint32_t count;            /* partitions */
    struct mr_scatter scatter; /* of struct mr_list_offsets_entry */
};

/* The lowest version that knows a special time; a plain timestamp is known to all. */
static bool is_time_known(int16_t version, int64_t timestamp)
{
    static const int16_t since[] = {0, 0, 0, 7, 8, 9, 11}; /* of -1, -2, -3, -4, -5, -6 */
    if (timestamp >= 0) {
        return true;
    }
    return timestamp >= -6 && version >= since[-timestamp];
}

static bool is_named_twice(const struct mr_list_offsets_request *in, int32_t topic, int32_t index)
{
    uint32_t seen = 0;
    for (int32_t t = 0; t < in->topics_count; t++) {
        if (t != topic && !mr_str_equal(in->topics[t].name, in->topics[topic].name)) {
            continue;
        }
        for (int32_t p = 0; p < in->topics[t].partitions_count; p++) {
            seen += in->topics[t].partitions[p].partition_index == index;
        }
    }
    return seen > 1;
}

static void put_one(struct mr_request *request, struct offsets *offsets, int32_t topic,
                    const struct mr_list_offsets_request_list_offsets_partition *one)
{
    const struct mr_list_offsets_request *in = &offsets->in;
    const struct mr_image_topic *found;
    const struct mr_image_partition *partition;
    int16_t error = mr_topics_find(request->core, false, in->topics[topic].name, NULL,
                                   one->partition_index, &found, &partition);
    /* quadratic, so only where a stranger cannot make it long */
    if (offsets->count <= 512 && is_named_twice(in, topic, one->partition_index)) {
        error = MR_KAFKA_INVALID_REQUEST;
    } else if (!is_time_known(request->header.version, one->timestamp)) {
        error = MR_KAFKA_UNSUPPORTED_VERSION;
    }
    if (error != MR_KAFKA_NONE) {
        mr_scatter_refuse(&offsets->scatter, error);
        return;
    }
    struct mr_list_offsets_entry *entry =
        mr_scatter_put(&offsets->scatter, partition->storage_core);
    *entry = (struct mr_list_offsets_entry){
        .log_id = partition->log_id,
        .timestamp = one->timestamp,
        .current_leader_epoch = one->current_leader_epoch,
        .isolation = in->isolation_level == 1 ? MR_READ_COMMITTED : MR_READ_UNCOMMITTED,
        .offset = -1,
        .offset_timestamp = -1,
        .leader_epoch = -1,
    };
}

enum mr_err mr_handle_offsets(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    uint32_t core_count = core->endpoints->storage_count;
    struct mr_list_offsets_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    uint32_t count = 0;
    size_t names = 0;
    for (int32_t t = 0; t < in.topics_count; t++) {
        count += (uint32_t)in.topics[t].partitions_count;
        names += (size_t)in.topics[t].name.len + 64 +
                 sizeof(struct mr_list_offsets_response_list_offsets_topic_response);
    }
    err = mr_request_more(
        request,
        sizeof(struct offsets) +
            mr_scatter_room(count, core_count, sizeof(struct mr_list_offsets_entry)) + names +
            1024 +
            count * (64 + sizeof(struct mr_list_offsets_response_list_offsets_partition_response)));
    if (err != MR_OK) {
        return err;
    }
    struct offsets *offsets = MR_ARENA_TRY(&request->arena, struct offsets, 1);
    offsets->in = in;
    offsets->count = count;
    mr_scatter_init(&offsets->scatter, &request->arena, count, core_count,
                    sizeof(struct mr_list_offsets_entry));
    request->work = offsets;
    for (int32_t t = 0; t < in.topics_count; t++) {
        for (int32_t p = 0; p < in.topics[t].partitions_count; p++) {
            put_one(request, offsets, t, &in.topics[t].partitions[p]);
        }
    }
    const union mr_scatter_op like = {.op.kind = MR_STORAGE_LIST_OFFSETS};
    mr_scatter_send(&offsets->scatter, request, &like);
    if (request->storage_pending == 0) {
        mr_handle_offsets_done(request);
    }
    return MR_OK;
}

void mr_handle_offsets_done(struct mr_request *request)
{
    struct offsets *offsets = request->work;
    struct mr_list_offsets_response out;
    MR_DEFAULTS(list_offsets_response, &out);
    out.topics =
        MR_ARENA_TRY(&request->arena, struct mr_list_offsets_response_list_offsets_topic_response,
                     offsets->in.topics_count);
    struct mr_list_offsets_response_list_offsets_partition_response *partitions = MR_ARENA_TRY(
        &request->arena, struct mr_list_offsets_response_list_offsets_partition_response,
        offsets->scatter.count);
    mr_assert(out.topics != NULL && partitions != NULL);
    out.topics_count = offsets->in.topics_count;
    uint32_t at = 0;
    for (int32_t t = 0; t < offsets->in.topics_count; t++) {
        MR_DEFAULTS(list_offsets_response_list_offsets_topic_response, &out.topics[t]);
        out.topics[t].name = offsets->in.topics[t].name;
        out.topics[t].partitions = partitions + at;
        out.topics[t].partitions_count = offsets->in.topics[t].partitions_count;
        for (int32_t p = 0; p < offsets->in.topics[t].partitions_count; p++, at++) {
            MR_DEFAULTS(list_offsets_response_list_offsets_partition_response, &partitions[at]);
            partitions[at].partition_index = offsets->in.topics[t].partitions[p].partition_index;
            partitions[at].error_code = offsets->scatter.errors[at];
            const struct mr_list_offsets_entry *entry = mr_scatter_entry(&offsets->scatter, at);
            if (entry == NULL) {
                continue;
            }
            partitions[at].error_code = mr_err_kafka(entry->err);
            if (entry->err == MR_OK) {
                partitions[at].offset = entry->offset;
                partitions[at].timestamp = entry->offset_timestamp;
                partitions[at].leader_epoch =
                    request->header.version >= 4 ? entry->leader_epoch : -1;
            }
        }
    }
    if (mr_reply_message(request, &out, 0, 0) != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}
