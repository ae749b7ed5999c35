#include "broker/fetch_steps.h"
#include "broker/reply.h"
#include "broker/topics.h"
#include "data_core.h"
#include "millrace/base/bug.h"

static void fill_aborted(struct mr_fetch *fetch, const struct mr_read_op *op,
                         const struct mr_read_entry *entry,
                         struct mr_fetch_response_partition_data *out)
{
    if (entry->aborted_count == 0) {
        return;
    }
    out->aborted_transactions = MR_ARENA_TRY(
        &fetch->arena, struct mr_fetch_response_aborted_transaction, entry->aborted_count);
    mr_assert(out->aborted_transactions != NULL);
    for (uint32_t at = 0; at < entry->aborted_count; at++) {
        const struct mr_aborted_range *range = &op->aborted[entry->aborted_first + at];
        out->aborted_transactions[at] = (struct mr_fetch_response_aborted_transaction){
            .producer_id = range->producer_id, .first_offset = range->first_offset};
    }
    out->aborted_transactions_count = (int32_t)entry->aborted_count;
}

static void fill(struct mr_fetch *fetch, const struct mr_fetch_partition *partition,
                 struct mr_fetch_response_partition_data *out, uint32_t *record_bytes,
                 uint32_t *record_spans)
{
    struct mr_request *request = fetch->request;
    const struct mr_read_entry *entry = partition->entry;
    static const struct mr_span no_span;
    MR_DEFAULTS(fetch_response_partition_data, out);
    out->partition_index = partition->index;
    out->high_watermark = -1;
    out->records = (struct mr_chain){.spans = &no_span};
    out->error_code = partition->error;
    if (entry != NULL && entry->err != MR_OK) {
        out->error_code = mr_err_kafka(entry->err);
    }
    if (mr_bug("wrong-error-code") && out->error_code != 0) {
        out->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    if (out->error_code != MR_KAFKA_NONE) {
        bool is_moved = out->error_code == MR_KAFKA_NOT_LEADER_OR_FOLLOWER ||
                        out->error_code == MR_KAFKA_FENCED_LEADER_EPOCH;
        const struct mr_image_partition *now =
            mr_topics_partition(request->core, fetch->set->is_by_id, partition->topic->name,
                                &partition->topic->id, partition->index);
        if (is_moved && now != NULL && request->header.version >= 12) {
            out->current_leader.leader_id = now->leader;
            out->current_leader.leader_epoch = now->leader_epoch;
        }
        return;
    }
    out->high_watermark = partition->high_watermark;
    out->last_stable_offset = partition->last_stable_offset;
    out->log_start_offset = partition->log_start;
    if (fetch->isolation == MR_READ_UNCOMMITTED) {
        out->aborted_transactions_count = -1;
    }
    if (entry == NULL || entry->bytes == 0) {
        return;
    }
    struct mr_span *spans = MR_ARENA_TRY(&fetch->arena, struct mr_span, entry->span_count);
    mr_assert(spans != NULL);
    const struct mr_read_op *op = &fetch->ops[partition->storage_core];
    fill_aborted(fetch, op, entry, out);
    for (uint32_t at = 0; at < entry->span_count; at++) {
        spans[at] = op->spans[entry->span_first + at].span;
    }
    out->records =
        (struct mr_chain){.spans = spans, .span_count = entry->span_count, .bytes = entry->bytes};
    *record_bytes += entry->bytes;
    *record_spans += entry->span_count;
}

static bool is_told(const struct mr_fetch *fetch, const struct mr_fetch_partition *partition)
{
    const struct mr_read_entry *entry = partition->entry;
    return fetch->is_full || partition->error != MR_KAFKA_NONE ||
           (entry != NULL && (entry->err != MR_OK || entry->bytes > 0)) || mr_fetch_is_unsaid(partition);
}

struct gather {
    struct mr_fetch_response out;
    struct mr_fetch_response_partition_data *partitions;
    uint32_t count;
    const struct mr_fetch_topic *topic;
    uint32_t record_bytes;
    uint32_t record_spans;
};

static void gather_one(struct mr_fetch *fetch, struct gather *gather,
                       struct mr_fetch_partition *partition)
{
    fetch->request->core->stats.fetch_visits++;
    if (!is_told(fetch, partition)) {
        return;
    }
    struct mr_fetch_response_partition_data *to = &gather->partitions[gather->count++];
    if (gather->topic != partition->topic) {
        struct mr_fetch_response_fetchable_topic_response *topic =
            &gather->out.responses[gather->out.responses_count++];
        MR_DEFAULTS(fetch_response_fetchable_topic_response, topic);
        topic->topic = partition->topic->name;
        topic->topic_id = partition->topic->id;
        topic->partitions = to;
        gather->topic = partition->topic;
    }
    gather->out.responses[gather->out.responses_count - 1].partitions_count++;
    fill(fetch, partition, to, &gather->record_bytes, &gather->record_spans);
    partition->told_high_watermark = partition->high_watermark;
    partition->told_log_start = partition->log_start;
}

static void add_nodes(struct mr_fetch *fetch, struct gather *gather)
{
    struct mr_request *request = fetch->request;
    for (uint32_t at = 0; request->header.version >= 16 && at < gather->count; at++) {
        int32_t leader = gather->partitions[at].current_leader.leader_id;
        const struct mr_image_broker *broker =
            leader < 0 ? NULL : mr_topics_broker(request->core, leader);
        if (broker == NULL) {
            continue;
        }
        struct mr_fetch_response_node_endpoint *node =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_node_endpoint, 1);
        if (node != NULL) {
            *node = (struct mr_fetch_response_node_endpoint){.node_id = broker->id,
                                                             .host = broker->host,
                                                             .port = broker->port,
                                                             .rack = broker->rack};
            gather->out.node_endpoints = node;
            gather->out.node_endpoints_count = 1;
        }
        return; /* one broker: there is at most one to tell */
    }
}

void mr_fetch_answer(struct mr_fetch *fetch)
{
    struct mr_request *request = fetch->request;
    struct gather gather = {0};
    MR_DEFAULTS(fetch_response, &gather.out);
    gather.out.session_id = fetch->session_id;
    uint32_t count = fetch->is_full ? fetch->set->count : 0;
    if (!fetch->is_full) {
        MR_LIST_EACH(link, &fetch->set->dirty)
        {
            count++;
        }
    }
    if (fetch->block != NULL) {
        request->lent = fetch->lents;
        fetch->lents = NULL;
        gather.partitions =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_partition_data, count);
        gather.out.responses =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_fetchable_topic_response, count);
        mr_assert(gather.partitions != NULL && gather.out.responses != NULL);
        if (fetch->is_full) {
            MR_LIST_EACH(link, &fetch->set->order)
            {
                gather_one(fetch, &gather, MR_LIST_ENTRY(link, struct mr_fetch_partition, link));
            }
        } else {
            MR_LIST_EACH(link, &fetch->set->dirty)
            {
                gather_one(fetch, &gather,
                           MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link));
            }
        }
        add_nodes(fetch, &gather);
        request->arena = fetch->arena;
    }
    enum mr_err err =
        mr_reply_message(request, &gather.out, gather.record_bytes, gather.record_spans);
    if (fetch->set->is_session) {
        /* What is at its end leaves the dirty ones now: its watch is armed from here. */
        if (fetch->block != NULL) {
            mr_fetch_watch_all(fetch);
        }
        mr_fetch_rotate(fetch->set);
    }
    mr_fetch_leave_set(fetch);
    mr_request_release_frame(request);
    if (err != MR_OK && request->session != NULL) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}
