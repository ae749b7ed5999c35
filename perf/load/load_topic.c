#include "load_topic.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READY_TRIES   12000 /* 5 ms apart: a minute */
#define PAUSE_US      5000
#define CONFIGS_MAX   16
#define METADATA_MOST 12
#define CREATE_MOST   9000u /* partitions at once: brokers refuse operations of more than 10,000 records */

/* With the broker's own words, where it has some. */
static bool create_refused(struct mr_load_wire *wire, const struct mr_load_options *options,
                           const struct mr_create_topics_response *response, int16_t code)
{
    char          what[MR_LOAD_TEXT_MAX + 220];
    struct mr_str text = response->topics_count == 1 ? response->topics[0].error_message : MR_STR_NULL;
    int           len = text.len < 0 ? 0 : text.len > 200 ? 200 : text.len;
    snprintf(what, sizeof what, "create topic %.200s%s%.*s%s", options->topic, len > 0 ? " (" : "", len,
             len > 0 ? text.data : "", len > 0 ? ")" : "");
    return mr_load_wire_refused(wire, what, code);
}

/* The partitions beyond what one operation may create. */
static bool grow(struct mr_load_wire *wire, const struct mr_load_options *options)
{
    for (uint64_t count = CREATE_MOST; count < options->partitions;) {
        struct mr_create_partitions_request                         request;
        struct mr_create_partitions_response                        response;
        struct mr_create_partitions_request_create_partitions_topic topic;
        count = options->partitions - count < CREATE_MOST ? options->partitions : count + CREATE_MOST;
        MR_DEFAULTS(create_partitions_request, &request);
        MR_DEFAULTS(create_partitions_request_create_partitions_topic, &topic);
        topic.name = mr_str(options->topic);
        topic.count = (int32_t)count;
        topic.assignments_count = -1;
        request.topics = &topic;
        request.topics_count = 1;
        request.timeout_ms = 60000;
        if (!mr_load_wire_call(wire, MR_API_CREATE_PARTITIONS, 3, &request, &response)) {
            return false;
        }
        int16_t code = response.results_count == 1 ? response.results[0].error_code : -1;
        if (code != 0) {
            return mr_load_wire_refused(wire, "create partitions", code);
        }
    }
    return true;
}

static bool create(struct mr_load_wire *wire, const struct mr_load_options *options)
{
    struct mr_create_topics_request                        request;
    struct mr_create_topics_response                       response;
    struct mr_create_topics_request_creatable_topic        topic;
    struct mr_create_topics_request_creatable_topic_config configs[CONFIGS_MAX];
    char                                                   text[MR_LOAD_TEXT_MAX];
    int32_t                                                count = 0;
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
    memcpy(text, options->topic_config, sizeof text);
    char *rest = text;
    for (char *pair; count < CONFIGS_MAX && (pair = strsep(&rest, ",")) != NULL;) {
        char *value = pair;
        char *key = strsep(&value, "=");
        if (value != NULL) {
            MR_DEFAULTS(create_topics_request_creatable_topic_config, &configs[count]);
            configs[count].name = mr_str(key);
            configs[count++].value = mr_str(value);
        }
    }
    topic.name = mr_str(options->topic);
    topic.num_partitions = (int32_t)(options->partitions < CREATE_MOST ? options->partitions : CREATE_MOST);
    topic.replication_factor = -1;
    if (mr_load_wire_version(wire, MR_API_CREATE_TOPICS, 7) < 4) {
        topic.replication_factor = 1; /* -1, the broker's default, came with version 4 */
    }
    topic.configs = configs;
    topic.configs_count = count;
    request.topics = &topic;
    request.topics_count = 1;
    for (int tries = 0; tries < READY_TRIES; tries++) {
        if (!mr_load_wire_call(wire, MR_API_CREATE_TOPICS, 7, &request, &response)) {
            return false;
        }
        int16_t code = response.topics_count == 1 ? response.topics[0].error_code : -1;
        if (code == 0) {
            return grow(wire, options);
        }
        if (code != MR_KAFKA_TOPIC_ALREADY_EXISTS) {
            return create_refused(wire, options, &response, code);
        }
        if (tries == 0 && !mr_load_topic_delete(wire, options->topic)) {
            return false;
        }
        usleep(PAUSE_US); /* an old one is still being deleted */
    }
    return mr_load_wire_refused(wire, "create topic", MR_KAFKA_TOPIC_ALREADY_EXISTS);
}

bool mr_load_topic_delete(struct mr_load_wire *wire, const char *name)
{
    struct mr_delete_topics_request            request;
    struct mr_delete_topics_response           response;
    struct mr_str                              names[1] = {mr_str(name)};
    MR_DEFAULTS(delete_topics_request, &request);
    request.topic_names = names;
    request.topic_names_count = 1;
    request.timeout_ms = 30000;
    if (!mr_load_wire_call(wire, MR_API_DELETE_TOPICS, 5, &request, &response)) {
        return false;
    }
    int16_t code = response.responses_count == 1 ? response.responses[0].error_code : -1;
    return code == 0 || code == MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION ||
           mr_load_wire_refused(wire, "delete topic", code);
}

const char *mr_load_topic_address(const struct mr_load_topic *topic, int32_t node)
{
    for (uint32_t index = atomic_load_explicit(&topic->node_count, memory_order_acquire); index > 0; index--) {
        if (topic->nodes[index - 1].id == node) {
            return topic->nodes[index - 1].address;
        }
    }
    return NULL;
}

/* ---- metadata ---- */

/* Nodes that are new, or have moved, are added at the end. */
static void take_nodes(struct mr_load_topic *topic, const struct mr_metadata_response *response)
{
    for (int32_t at = 0; at < response->brokers_count; at++) {
        const struct mr_metadata_response_broker *broker = &response->brokers[at];
        const char                               *known = mr_load_topic_address(topic, broker->node_id);
        uint32_t                                  count = topic->node_count;
        char                                      address[sizeof topic->nodes[0].address];
        snprintf(address, sizeof address, "%.*s:%d", (int)broker->host.len, broker->host.data, broker->port);
        if (count < MR_LOAD_NODES_MAX && (known == NULL || strcmp(known, address) != 0)) {
            topic->nodes[count].id = broker->node_id;
            memcpy(topic->nodes[count].address, address, sizeof address);
            atomic_store_explicit(&topic->node_count, count + 1, memory_order_release);
        }
    }
}

/* False: a partition has none. Partitions beyond those that the run began with are not ours. */
static bool take_leaders(struct mr_load_topic *topic, const struct mr_metadata_response_topic *found)
{
    bool is_complete = true;
    for (int32_t at = 0; at < found->partitions_count; at++) {
        const struct mr_metadata_response_partition *partition = &found->partitions[at];
        uint32_t                                     index = (uint32_t)partition->partition_index;
        if (partition->leader_id < 0) {
            is_complete = false;
        } else if (index < topic->partition_count) {
            atomic_store_explicit(&topic->leaders[index], partition->leader_id, memory_order_relaxed);
        }
    }
    return is_complete;
}

/* What the answer says about the topic; NULL: `code` says why nothing. */
static const struct mr_metadata_response_topic *described(const struct mr_metadata_response *response, int16_t *code)
{
    const struct mr_metadata_response_topic *found = response->topics_count == 1 ? &response->topics[0] : NULL;
    *code = found == NULL || (found->error_code == 0 && found->partitions_count == 0)
                ? (int16_t)MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION
                : found->error_code;
    return *code == 0 ? found : NULL;
}

/* Take over what the metadata say. The result is a Kafka error: not all of it may be there yet. */
static int16_t take_metadata(struct mr_load_topic *topic, const struct mr_metadata_response *response)
{
    int16_t                                  code;
    const struct mr_metadata_response_topic *found = described(response, &code);
    if (found == NULL) {
        return code;
    }
    take_nodes(topic, response);
    free(topic->leaders);
    topic->partition_count = (uint32_t)found->partitions_count;
    topic->leaders = calloc(topic->partition_count, sizeof *topic->leaders);
    return topic->leaders == NULL           ? (int16_t)MR_KAFKA_UNKNOWN_SERVER_ERROR
           : take_leaders(topic, found) ? (int16_t)0
                                            : (int16_t)MR_KAFKA_LEADER_NOT_AVAILABLE;
}

static bool ask_metadata(const struct mr_load_topic *topic, struct mr_load_wire *wire,
                         struct mr_metadata_response *response)
{
    struct mr_metadata_request       request;
    struct mr_metadata_request_topic wanted;
    MR_DEFAULTS(metadata_request, &request);
    MR_DEFAULTS(metadata_request_topic, &wanted);
    wanted.name = mr_str(topic->name);
    request.topics = &wanted;
    request.topics_count = 1;
    request.allow_auto_topic_creation = mr_load_wire_version(wire, MR_API_METADATA, METADATA_MOST) < 4;
    return mr_load_wire_call(wire, MR_API_METADATA, METADATA_MOST, &request, response);
}

void mr_load_topic_refresh(struct mr_load_topic *topic)
{
    struct mr_metadata_response response;
    struct mr_load_wire         wire;
    bool                        is_asked = false;
    for (uint32_t at = 0; at < topic->node_count && !is_asked; at++) {
        is_asked = mr_load_wire_open(&wire, topic->nodes[at].address);
        if (is_asked) {
            int16_t                                  code;
            const struct mr_metadata_response_topic *found =
                ask_metadata(topic, &wire, &response) ? described(&response, &code) : NULL;
            if (found != NULL) {
                take_nodes(topic, &response);
                (void)take_leaders(topic, found);
            }
            mr_load_wire_close(&wire);
        }
    }
    atomic_fetch_add_explicit(&topic->version, 1, memory_order_release);
}

static bool find(struct mr_load_topic *topic, struct mr_load_wire *wire, bool is_created, uint64_t partitions)
{
    struct mr_metadata_response response;
    int16_t                     code = 0;
    for (int tries = 0; tries < READY_TRIES; tries++) {
        if (!ask_metadata(topic, wire, &response)) {
            return false;
        }
        code = take_metadata(topic, &response);
        if (code == 0 && (!is_created || topic->partition_count >= partitions)) {
            return true;
        }
        if (code == MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION && !is_created) {
            snprintf(wire->error, sizeof wire->error,
                     "%.100s has no topic '%.200s'; create=yes makes one", wire->address, topic->name);
            return false;
        }
        usleep(PAUSE_US);
    }
    return mr_load_wire_refused(wire, "metadata", code);
}

bool mr_load_topic_offsets(const struct mr_load_topic *topic, struct mr_load_wire *wire, int32_t node,
                           int64_t timestamp, int64_t *offsets)
{
    struct mr_list_offsets_request                          request;
    struct mr_list_offsets_response                         response;
    struct mr_list_offsets_request_list_offsets_topic       wanted;
    struct mr_list_offsets_request_list_offsets_partition  *partitions =
        calloc(topic->partition_count, sizeof *partitions);
    int32_t                                                 count = 0;
    MR_DEFAULTS(list_offsets_request, &request);
    MR_DEFAULTS(list_offsets_request_list_offsets_topic, &wanted);
    for (uint32_t index = 0; partitions != NULL && index < topic->partition_count; index++) {
        if (topic->leaders[index] == node) {
            MR_DEFAULTS(list_offsets_request_list_offsets_partition, &partitions[count]);
            partitions[count].partition_index = (int32_t)index;
            partitions[count++].timestamp = timestamp;
        }
    }
    wanted.name = mr_str(topic->name);
    wanted.partitions = partitions;
    wanted.partitions_count = count;
    request.replica_id = -1;
    request.topics = &wanted;
    request.topics_count = 1;
    bool    is_answered = mr_load_wire_call(wire, MR_API_LIST_OFFSETS, 7, &request, &response);
    int16_t code = 0;
    for (int32_t at = 0; is_answered && response.topics_count == 1 && at < response.topics[0].partitions_count; at++) {
        const struct mr_list_offsets_response_list_offsets_partition_response *one =
            &response.topics[0].partitions[at];
        if (one->error_code != 0 || one->partition_index < 0 ||
            (uint32_t)one->partition_index >= topic->partition_count) {
            code = one->error_code;
        } else {
            offsets[one->partition_index] = one->offset;
        }
    }
    free(partitions);
    return is_answered && (code == 0 || mr_load_wire_refused(wire, "offsets", code));
}

/* A leader may be known before it serves its log: asking for the offsets shows it. */
static bool wait_offsets(struct mr_load_topic *topic, const char *address, int32_t node, char *error, size_t error_size)
{
    struct mr_load_wire wire;
    bool                is_done = false;
    if (!mr_load_wire_open(&wire, address)) {
        memcpy(error, wire.error, error_size);
        return false;
    }
    for (int tries = 0; tries < READY_TRIES && !is_done && wire.fd >= 0; tries++) {
        is_done = mr_load_topic_offsets(topic, &wire, node, -1, topic->ends) &&
                  mr_load_topic_offsets(topic, &wire, node, -2, topic->starts);
        if (!is_done) {
            usleep(PAUSE_US);
        }
    }
    memcpy(error, wire.error, error_size);
    mr_load_wire_close(&wire);
    return is_done;
}

bool mr_load_topic_open(struct mr_load_topic *topic, struct mr_load_wire *wire,
                        const struct mr_load_options *options)
{
    *topic = (struct mr_load_topic){0};
    memcpy(topic->name, options->topic, sizeof topic->name);
    if ((options->create && !create(wire, options)) || !find(topic, wire, options->create, options->partitions)) {
        return false;
    }
    topic->ends = calloc(topic->partition_count, sizeof *topic->ends);
    topic->starts = calloc(topic->partition_count, sizeof *topic->starts);
    for (uint32_t index = 0; index < topic->node_count; index++) {
        if (topic->ends == NULL || topic->starts == NULL ||
            !wait_offsets(topic, topic->nodes[index].address, topic->nodes[index].id, wire->error,
                          sizeof wire->error)) {
            return false;
        }
    }
    return true;
}

void mr_load_topic_free(struct mr_load_topic *topic)
{
    free(topic->leaders);
    free(topic->ends);
    free(topic->starts);
}
