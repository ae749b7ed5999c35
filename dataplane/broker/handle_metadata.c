/*
 * handle_metadata: brokers, topics and partitions, from the image; no other plane is asked.
 *
 * A topic that does not exist may be created on the way (auto.create.topics.enable): control is asked
 * with a CreateTopics of our own, and the client is told UNKNOWN_TOPIC_OR_PARTITION meanwhile, as
 * Kafka does; it asks again.
 *
 * Source: Kafka protocol guide, Metadata; behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/forward.h"
#include "broker/metadata_ops.h"
#include "broker/reply.h"
#include "broker/topics.h"
#include "data_core.h"

#include "millrace/base/bug.h"

#define CREATE_MAX 64u /* topics asked for at once; the client asks again for the others */

struct build {
    struct mr_request *request;
    const struct mr_image *image;
    struct mr_metadata_response out;
    struct mr_metadata_response_topic *topics;
    struct mr_metadata_response_partition *partitions;
    bool is_told_operations;
};

/* The wire has int32 arrays; the image's live as long as this answer is being encoded. */
static int32_t *nodes(const int32_t *ids)
{
    union {
        const int32_t *in;
        int32_t *out;
    } pun = {.in = ids};
    return pun.out;
}

static void add_found(struct build *build, const struct mr_image_topic *topic)
{
    struct mr_metadata_response_topic *to = &build->topics[build->out.topics_count++];
    MR_DEFAULTS(metadata_response_topic, to);
    to->name = topic->name;
    to->topic_id = topic->id;
    to->is_internal = topic->is_internal;
    to->partitions = build->partitions;
    to->partitions_count = (int32_t)topic->partition_count;
    if (build->is_told_operations) {
        to->topic_authorized_operations = MR_METADATA_TOPIC_OPS;
    }
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        const struct mr_image_partition *partition = &topic->partitions[index];
        struct mr_metadata_response_partition *out = build->partitions++;
        MR_DEFAULTS(metadata_response_partition, out);
        bool is_open = partition->leader != build->image->node_id || partition->log_id != 0;
        out->partition_index = (int32_t)index;
        out->leader_id = is_open ? partition->leader : -1;
        out->leader_epoch = partition->leader_epoch;
        out->replica_nodes = nodes(partition->replicas);
        out->replica_nodes_count = (int32_t)partition->replica_count;
        out->isr_nodes = nodes(partition->isr);
        out->isr_nodes_count = (int32_t)partition->isr_count;
        if (partition->is_offline) {
            out->offline_replicas = nodes(&build->image->node_id);
            out->offline_replicas_count = 1;
        }
        if (out->leader_id < 0) {
            out->error_code = MR_KAFKA_LEADER_NOT_AVAILABLE;
        }
    }
}

static void add_missing(struct build *build, struct mr_str name, const struct mr_uuid *id,
                        int16_t error)
{
    struct mr_metadata_response_topic *to = &build->topics[build->out.topics_count++];
    MR_DEFAULTS(metadata_response_topic, to);
    to->name = name;
    to->topic_id = *id;
    to->error_code = error;
    if (build->is_told_operations && !mr_str_is_null(name)) {
        to->topic_authorized_operations = MR_METADATA_TOPIC_OPS;
    }
    if (mr_str_is_null(name) && build->request->header.version < 12) {
        to->name = MR_STR("");
    }
    if (mr_bug("wrong-error-code")) {
        to->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
}

static void add_brokers(struct build *build)
{
    const struct mr_image *image = build->image;
    build->out.brokers = MR_ARENA_TRY(&build->request->arena, struct mr_metadata_response_broker,
                                      image->broker_count);
    mr_assert(build->out.brokers != NULL);
    for (uint32_t index = 0; index < image->broker_count; index++) {
        const struct mr_image_broker *broker = &image->brokers[index];
        if (broker->is_fenced) {
            continue;
        }
        build->out.brokers[build->out.brokers_count++] =
            (struct mr_metadata_response_broker){.node_id = broker->id,
                                                 .host = broker->host,
                                                 .port = broker->port,
                                                 .rack = broker->rack};
    }
}

/* Topics that are named, each once however often it is named; then those asked for by id. */
struct asked {
    struct mr_str *names;
    uint32_t name_count;
    const struct mr_metadata_request_topic **others; /* by id, or by nothing */
    uint32_t other_count;
};

static bool sort_asked(struct mr_request *request, const struct mr_metadata_request *in,
                       struct asked *asked)
{
    size_t count = in->topics_count > 0 ? (size_t)in->topics_count : 0;
    asked->names = MR_ARENA_TRY(&request->arena, struct mr_str, count);
    asked->others = MR_ARENA_TRY(&request->arena, const struct mr_metadata_request_topic *, count);
    if (asked->names == NULL || asked->others == NULL) {
        return false;
    }
    for (size_t index = 0; index < count; index++) {
        const struct mr_metadata_request_topic *topic = &in->topics[index];
        if (mr_uuid_is_zero(&topic->topic_id) && !mr_str_is_null(topic->name)) {
            asked->names[asked->name_count++] = topic->name;
        } else {
            asked->others[asked->other_count++] = topic;
        }
    }
    asked->name_count = mr_topics_sort_names(asked->names, asked->name_count);
    return true;
}

static size_t partitions_of(const struct mr_image_topic *topic)
{
    return topic == NULL ? 0 : topic->partition_count;
}

static size_t count_partitions(const struct mr_image *image, const struct asked *asked, bool is_all)
{
    size_t count = 0;
    for (uint32_t index = 0; is_all && index < image->topic_count; index++) {
        count += partitions_of(image->topics[index]);
    }
    for (uint32_t index = 0; !is_all && index < asked->name_count; index++) {
        count += partitions_of(mr_image_topic_by_name(image, asked->names[index]));
    }
    for (uint32_t index = 0; !is_all && index < asked->other_count; index++) {
        count += partitions_of(mr_image_topic_by_id(image, &asked->others[index]->topic_id));
    }
    return count;
}

/* False: a topic of that name may be created. */
static bool add_named(struct build *build, struct mr_str name)
{
    static const struct mr_uuid no_id;
    const struct mr_image_topic *topic = mr_image_topic_by_name(build->image, name);
    if (topic != NULL) {
        add_found(build, topic);
        return true;
    }
    bool is_name = mr_topics_is_name(name);
    add_missing(build, name, &no_id,
                is_name ? MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION : MR_KAFKA_INVALID_TOPIC_EXCEPTION);
    return !is_name;
}

static void add_by_id(struct build *build, const struct mr_metadata_request_topic *asked)
{
    const struct mr_image_topic *topic = mr_image_topic_by_id(build->image, &asked->topic_id);
    if (build->request->header.version < 12) {
        add_missing(build, asked->name, &asked->topic_id, MR_KAFKA_INVALID_REQUEST);
    } else if (topic != NULL) {
        add_found(build, topic);
    } else {
        add_missing(build, MR_STR_NULL, &asked->topic_id, MR_KAFKA_UNKNOWN_TOPIC_ID);
    }
}

enum mr_err mr_handle_metadata(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    const struct mr_image *image = core->image;
    int16_t version = request->header.version;
    struct mr_metadata_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    bool is_all = in.topics_count < 0 || (version == 0 && in.topics_count == 0);
    size_t topic_count = is_all ? image->topic_count : (size_t)in.topics_count;
    if (is_all && topic_count > 2 && mr_bug("hide-topics")) {
        topic_count = 2;
    }
    struct asked asked = {0};
    err = mr_request_more(request, topic_count * (sizeof(struct mr_str) + sizeof(void *)) + 64);
    if (err != MR_OK || !sort_asked(request, &in, &asked)) {
        return err != MR_OK ? err : MR_ERR_NO_MEMORY;
    }
    size_t partition_count = count_partitions(image, &asked, is_all);
    err = mr_request_more(
        request, topic_count * sizeof(struct mr_metadata_response_topic) +
                     partition_count * sizeof(struct mr_metadata_response_partition) +
                     image->broker_count * sizeof(struct mr_metadata_response_broker) + 256);
    if (err != MR_OK) {
        return err;
    }
    struct build build = {.request = request, .image = image};
    MR_DEFAULTS(metadata_response, &build.out);
    build.topics = MR_ARENA_TRY(&request->arena, struct mr_metadata_response_topic, topic_count);
    build.partitions =
        MR_ARENA_TRY(&request->arena, struct mr_metadata_response_partition, partition_count);
    mr_assert(build.topics != NULL && build.partitions != NULL);
    build.is_told_operations = version >= 8 && in.include_topic_authorized_operations;
    build.out.topics = build.topics;
    build.out.cluster_id = image->cluster_id;
    build.out.controller_id = image->controller_id;
    if (version >= 8 && version <= 10 && in.include_cluster_authorized_operations) {
        build.out.cluster_authorized_operations = MR_METADATA_CLUSTER_OPS;
    }
    add_brokers(&build);

    struct mr_str create[CREATE_MAX];
    uint32_t create_count = 0;
    bool may_create =
        (in.allow_auto_topic_creation || mr_bug("create-always")) && image->is_auto_create;
    for (uint32_t index = 0; is_all && index < topic_count; index++) {
        for (volatile uint32_t spin = 0; mr_bug("slow-metadata") && spin < 100000; spin++) {
        }
        add_found(&build, image->topics[index]);
    }
    for (uint32_t index = 0; !is_all && index < asked.name_count; index++) {
        if (!add_named(&build, asked.names[index]) && may_create && create_count < CREATE_MAX) {
            create[create_count++] = asked.names[index];
        }
    }
    for (uint32_t index = 0; !is_all && index < asked.other_count; index++) {
        add_by_id(&build, asked.others[index]);
    }
    err = mr_reply_message(request, &build.out, 0, 0);
    if (err == MR_OK && create_count > 0) {
        mr_forward_create_topics(core, create, create_count);
    }
    return err;
}
