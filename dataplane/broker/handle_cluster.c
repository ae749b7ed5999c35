/*
 * handle_cluster: DescribeCluster, and DescribeTopicPartitions in pages.
 *
 * Source: Kafka protocol guide; KIP-966 (paged description); behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/metadata_ops.h"
#include "broker/reply.h"
#include "broker/topics.h"
#include "data_core.h"

#define ENDPOINT_BROKERS     1
#define ENDPOINT_CONTROLLERS 2

enum mr_err mr_handle_cluster(struct mr_request *request)
{
    const struct mr_image *image = request->core->image;
    struct mr_describe_cluster_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    err = mr_request_more(request,
                          image->broker_count *
                              sizeof(struct mr_describe_cluster_response_describe_cluster_broker));
    if (err != MR_OK) {
        return err;
    }
    struct mr_describe_cluster_response out;
    MR_DEFAULTS(describe_cluster_response, &out);
    if (in.endpoint_type != ENDPOINT_BROKERS) {
        bool is_other = in.endpoint_type == ENDPOINT_CONTROLLERS;
        out.error_code =
            is_other ? MR_KAFKA_MISMATCHED_ENDPOINT_TYPE : MR_KAFKA_UNSUPPORTED_ENDPOINT_TYPE;
        out.error_message = is_other ? MR_STR("this listener is for brokers, not for controllers")
                                     : MR_STR("unknown endpoint type");
        return mr_reply_message(request, &out, 0, 0);
    }
    out.endpoint_type = ENDPOINT_BROKERS;
    out.cluster_id = image->cluster_id;
    out.controller_id = image->controller_id;
    out.brokers =
        MR_ARENA_TRY(&request->arena, struct mr_describe_cluster_response_describe_cluster_broker,
                     image->broker_count);
    mr_assert(out.brokers != NULL);
    for (uint32_t index = 0; index < image->broker_count; index++) {
        const struct mr_image_broker *broker = &image->brokers[index];
        bool is_asked = request->header.version >= 2 && in.include_fenced_brokers;
        if (broker->is_fenced && !is_asked) {
            continue;
        }
        out.brokers[out.brokers_count++] =
            (struct mr_describe_cluster_response_describe_cluster_broker){
                .broker_id = broker->id,
                .host = broker->host,
                .port = broker->port,
                .rack = broker->rack,
                .is_fenced = request->header.version >= 2 && broker->is_fenced};
    }
    if (in.include_cluster_authorized_operations) {
        out.cluster_authorized_operations = MR_METADATA_CLUSTER_OPS;
    }
    return mr_reply_message(request, &out, 0, 0);
}

/* ---- DescribeTopicPartitions ---- */

struct page {
    struct mr_request *request;
    struct mr_describe_topic_partitions_response out;
    struct mr_describe_topic_partitions_response_cursor next;
    struct mr_describe_topic_partitions_response_partition *partitions;
    uint32_t left; /* partitions that still fit */
};

static int32_t *nodes(const int32_t *ids)
{
    union {
        const int32_t *in;
        int32_t *out;
    } pun = {.in = ids};
    return pun.out;
}

static void add_partition(struct page *page, const struct mr_image_partition *from, uint32_t index)
{
    struct mr_describe_topic_partitions_response_partition *to = page->partitions++;
    MR_DEFAULTS(describe_topic_partitions_response_partition, to);
    bool is_open = from->leader != page->request->core->image->node_id || from->log_id != 0;
    to->partition_index = (int32_t)index;
    to->leader_id = is_open ? from->leader : -1;
    to->leader_epoch = from->leader_epoch;
    to->replica_nodes = nodes(from->replicas);
    to->replica_nodes_count = (int32_t)from->replica_count;
    to->isr_nodes = nodes(from->isr);
    to->isr_nodes_count = (int32_t)from->isr_count;
    if (from->is_offline) {
        to->offline_replicas = nodes(&page->request->core->image->node_id);
        to->offline_replicas_count = 1;
    }
    to->eligible_leader_replicas_count = 0;
    to->last_known_elr_count = 0;
    to->error_code = to->leader_id < 0 ? MR_KAFKA_LEADER_NOT_AVAILABLE : MR_KAFKA_NONE;
}

/* The next page begins with this partition. */
static void end_page(struct page *page, struct mr_str topic, uint32_t partition)
{
    page->next = (struct mr_describe_topic_partitions_response_cursor){
        .topic_name = topic, .partition_index = (int32_t)partition};
    page->out.next_cursor = &page->next;
}

/* False when the page is full; the cursor then says where the next one begins. */
static bool add_topic(struct page *page, const struct mr_image_topic *topic, uint32_t from)
{
    struct mr_describe_topic_partitions_response_topic *to =
        &page->out.topics[page->out.topics_count++];
    MR_DEFAULTS(describe_topic_partitions_response_topic, to);
    to->name = topic->name;
    to->topic_id = topic->id;
    to->is_internal = topic->is_internal;
    to->topic_authorized_operations = MR_METADATA_TOPIC_OPS;
    to->partitions = page->partitions;
    for (uint32_t index = from; index < topic->partition_count; index++) {
        if (page->left == 0) {
            end_page(page, topic->name, index);
            return false;
        }
        add_partition(page, &topic->partitions[index], index);
        to->partitions_count++;
        page->left--;
    }
    return true;
}

static void add_unknown(struct page *page, struct mr_str name, int16_t error)
{
    struct mr_describe_topic_partitions_response_topic *to =
        &page->out.topics[page->out.topics_count++];
    MR_DEFAULTS(describe_topic_partitions_response_topic, to);
    to->name = name;
    to->error_code = error;
    if (error != MR_KAFKA_INVALID_REQUEST) {
        to->topic_authorized_operations = MR_METADATA_TOPIC_OPS;
    }
}

static bool add_named(struct page *page, struct mr_str name,
                      const struct mr_describe_topic_partitions_request_cursor *cursor)
{
    const struct mr_image_topic *topic = mr_image_topic_by_name(page->request->core->image, name);
    bool is_cursor = cursor != NULL && mr_str_equal(cursor->topic_name, name);
    if (cursor != NULL && mr_str_compare(name, cursor->topic_name) < 0) {
        return true;
    }
    uint32_t from = is_cursor ? (uint32_t)cursor->partition_index : 0;
    if (page->left == 0) {
        end_page(page, name, from);
        return false;
    }
    if (topic == NULL) {
        add_unknown(page, name,
                    mr_topics_is_name(name) ? (int16_t)MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION
                                            : (int16_t)MR_KAFKA_INVALID_TOPIC_EXCEPTION);
        return true;
    }
    return add_topic(page, topic, from);
}

/* A cursor is one of the topics asked for. */
static bool has_name(const struct mr_str *names, size_t count, struct mr_str name)
{
    size_t at = 0;
    while (at < count && !mr_str_equal(names[at], name)) {
        at++;
    }
    return at < count;
}

enum mr_err mr_handle_topic_partitions(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    const struct mr_image *image = core->image;
    struct mr_describe_topic_partitions_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    int64_t limit = core->config->max_request_partition_size_limit;
    if (in.response_partition_limit < limit) {
        limit = in.response_partition_limit > 0 ? in.response_partition_limit : 1;
    }
    bool is_all = in.topics_count == 0;
    size_t named = is_all ? 0 : (size_t)in.topics_count;
    size_t topics = is_all ? (size_t)limit + 1 : named;
    err = mr_request_more(
        request,
        topics * sizeof(struct mr_describe_topic_partitions_response_topic) +
            named * sizeof(struct mr_str) +
            (size_t)limit * sizeof(struct mr_describe_topic_partitions_response_partition) + 256);
    if (err != MR_OK) {
        return err;
    }
    struct page page = {.request = request, .left = (uint32_t)limit};
    MR_DEFAULTS(describe_topic_partitions_response, &page.out);
    page.out.topics =
        MR_ARENA_TRY(&request->arena, struct mr_describe_topic_partitions_response_topic, topics);
    page.partitions = MR_ARENA_TRY(&request->arena,
                                   struct mr_describe_topic_partitions_response_partition, limit);
    struct mr_str *names = MR_ARENA_TRY(&request->arena, struct mr_str, named);
    mr_assert(page.out.topics != NULL && page.partitions != NULL && names != NULL);
    for (size_t index = 0; index < named; index++) {
        names[index] = in.topics[index].name;
    }
    named = mr_topics_sort_names(names, (uint32_t)named);
    bool is_lost = in.cursor != NULL && named > 0 && !has_name(names, named, in.cursor->topic_name);
    if (in.cursor != NULL && (in.cursor->partition_index < 0 || is_lost)) {
        for (size_t index = 0; index < named; index++) {
            add_unknown(&page, names[index], MR_KAFKA_INVALID_REQUEST);
        }
        return mr_reply_message(request, &page.out, 0, 0);
    }
    if (is_all) {
        /* Topics without room are not copied: each topic has at least one partition. */
        bool is_room = true;
        for (uint32_t index = 0; is_room && index < image->topic_count; index++) {
            is_room = add_named(&page, image->topics[index]->name, in.cursor);
        }
    } else {
        bool is_room = true;
        for (size_t index = 0; is_room && index < named; index++) {
            is_room = add_named(&page, names[index], in.cursor);
        }
    }
    return mr_reply_message(request, &page.out, 0, 0);
}
