/*
 * ctl_topics: CreateTopics, CreatePartitions, DeleteTopics, and the internal topic of groups:
 * decisions over a const state.
 *
 * Source: Apache Kafka 4.4: ReplicationControlManager and ControllerApis say which refusal comes
 * first; the words are ours.
 */
#include "metadata/controller.h"
#include "metadata/ctl_seen.h"
#include "metadata/log_config.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

static struct mr_ctl_error refuse(int16_t code, struct mr_str message)
{
    return (struct mr_ctl_error){.code = code, .message = message};
}

static const struct mr_ctl_error success = {.code = 0, .message = {.data = NULL, .len = -1}};

struct mr_ctl_error mr_ctl_topics_check_name(struct mr_str name)
{
    if (name.len <= 0) {
        return refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION, MR_STR("The topic name is empty."));
    }
    if (mr_str_equal(name, MR_STR(".")) || mr_str_equal(name, MR_STR(".."))) {
        return refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                      MR_STR("A topic cannot be named '.' or '..'."));
    }
    if (name.len > MR_TOPIC_NAME_MAX) {
        return refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                      MR_STR("The topic name is longer than 249 characters."));
    }
    for (int32_t at = 0; at < name.len; at++) {
        char c = name.data[at];
        bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-';
        if (!is_good) {
            return refuse(
                MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                MR_STR("The topic name has a character other than ASCII letters, digits, '.', "
                       "'_' and '-'."));
        }
    }
    return success;
}

/* ---- placement ---- */

static uint32_t active_count(const struct mr_meta *meta)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        count += !meta->brokers[index].is_fenced && !meta->brokers[index].is_in_shutdown;
    }
    return count;
}

static bool is_active(const struct mr_meta *meta, int32_t id)
{
    const struct mr_meta_broker *broker = mr_meta_broker(meta, id);
    return broker != NULL && !broker->is_fenced && !broker->is_in_shutdown;
}

/* `count` active brokers, in turn from `start`. There are so many. */
static void place(const struct mr_meta *meta, uint32_t start, int32_t *replicas, int32_t count)
{
    int32_t placed = 0;
    for (uint32_t step = 0; placed < count; step++) {
        const struct mr_meta_broker *broker = &meta->brokers[(start + step) % meta->broker_count];
        mr_assert(step < meta->broker_count * 2);
        if (!broker->is_fenced && !broker->is_in_shutdown) {
            replicas[placed++] = broker->id;
        }
    }
}

/* Where a broker with one directory keeps its replicas, else "not yet said". */
static struct mr_uuid directory_of(const struct mr_ctl *ctl, int32_t broker_id)
{
    static const struct mr_uuid  unassigned = {.bytes = {[15] = 1}};
    const struct mr_meta_broker *broker = mr_meta_broker(ctl->meta, broker_id);
    return broker != NULL && broker->directory_count == 1 ? broker->directories[0] : unassigned;
}

static struct mr_ctl_error check_assignment(const struct mr_ctl *ctl, struct mr_request *request,
                                            const int32_t *ids, int32_t count, int32_t expected)
{
    if (count <= 0) {
        return refuse(MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                      MR_STR("The manual partition assignment includes an empty replica list."));
    }
    for (int32_t index = 0; index < count; index++) {
        if (mr_meta_broker(ctl->meta, ids[index]) == NULL) {
            return refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "The manual partition assignment includes broker %d, but no such "
                                "broker is registered.",
                                ids[index]));
        }
        for (int32_t before = 0; before < index; before++) {
            if (ids[before] == ids[index]) {
                return refuse(
                    MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                    mr_request_text(ctl->control, request,
                                    "The manual partition assignment includes the broker %d "
                                    "more than once.",
                                    ids[index]));
            }
        }
    }
    if (expected >= 0 && count != expected) {
        return refuse(
            MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
            mr_request_text(ctl->control, request,
                            "The manual partition assignment includes a partition with %d "
                            "replica(s), but this is not consistent with previous partitions, "
                            "which have %d replica(s).",
                            count, expected));
    }
    return success;
}

/* ---- records ---- */

#define REPLICAS_MAX 64 /* of one partition: as many brokers as one ever names here */

static void add_partition(const struct mr_ctl *ctl, struct mr_meta_records *records,
                          const struct mr_uuid *topic_id, int32_t partition, int32_t *replicas,
                          int32_t count)
{
    int32_t        isr[REPLICAS_MAX];
    struct mr_uuid directories[REPLICAS_MAX];
    int32_t        isr_count = 0;
    mr_assert(count > 0 && count <= REPLICAS_MAX);
    for (int32_t index = 0; index < count; index++) {
        directories[index] = directory_of(ctl, replicas[index]);
        if (is_active(ctl->meta, replicas[index])) {
            isr[isr_count++] = replicas[index];
        }
    }
    mr_assert(isr_count > 0);
    int16_t version = mr_meta_partition_record_version(ctl->meta->metadata_version);
    struct mr_partition_record record;
    mr_msg_defaults(&mr_msg_partition_record, &record);
    record.partition_id = partition;
    record.topic_id = *topic_id;
    record.replicas = replicas;
    record.replicas_count = count;
    record.isr = isr;
    record.isr_count = isr_count;
    record.leader = isr[0];
    record.leader_epoch = 0;
    record.partition_epoch = 0;
    if (version >= 1) {
        record.directories = directories;
        record.directories_count = count;
    }
    mr_meta_records_add(records, &mr_msg_partition_record, version, &record);
}

static void add_topic(struct mr_meta_records *records, struct mr_str name, const struct mr_uuid *id)
{
    struct mr_topic_record record = {.name = name, .topic_id = *id};
    mr_meta_records_add(records, &mr_msg_topic_record, 0, &record);
}

static void add_config(struct mr_meta_records *records, struct mr_str topic, struct mr_str name,
                       struct mr_str value)
{
    struct mr_config_record record = {
        .resource_type = MR_META_TOPIC, .resource_name = topic, .name = name, .value = value};
    mr_meta_records_add(records, &mr_msg_config_record, 0, &record);
}

/* What Kafka sets on the topic of groups when a broker creates it by itself. */
static void add_offsets_configs(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    struct mr_str name = MR_STR("__consumer_offsets");
    char          segment_bytes[24];
    size_t        len = mr_fmt(segment_bytes, sizeof segment_bytes, "%lld",
                               (long long)ctl->config->offsets_topic_segment_bytes);
    add_config(records, name, MR_STR("cleanup.policy"), MR_STR("compact"));
    add_config(records, name, MR_STR("compression.type"), MR_STR("producer"));
    add_config(records, name, MR_STR("segment.bytes"),
               (struct mr_str){.data = segment_bytes, .len = (int32_t)len});
}

/* A sixteenth of the heap is for what must go on: batches, deletions, answers. */
#define HEAP_RESERVE_SHARE 16

static bool has_memory(const struct mr_ctl *ctl)
{
    const struct mr_heap *heap = &ctl->control->heap;
    return heap->size - heap->bumped > heap->size / HEAP_RESERVE_SHARE;
}

static bool has_partition_room(const struct mr_ctl *ctl, uint64_t more)
{
    return has_memory(ctl) &&
           ctl->meta->partition_count + more <= (uint64_t)ctl->config->millrace_partitions_max;
}

static struct mr_ctl_error no_partition_room(const struct mr_ctl *ctl, struct mr_request *request)
{
    if (!has_memory(ctl)) {
        return refuse(
            MR_KAFKA_POLICY_VIOLATION,
            MR_STR("The broker's memory for metadata is used up (millrace.control.bytes)."));
    }
    return refuse(
        MR_KAFKA_POLICY_VIOLATION,
        mr_request_text(ctl->control, request,
                        "This broker has room for %lld partitions (millrace.partitions.max).",
                        (long long)ctl->config->millrace_partitions_max));
}

/* ---- CreateTopics ---- */

typedef struct mr_create_topics_request_creatable_topic         create_in;
typedef struct mr_create_topics_response_creatable_topic_result create_out;

static struct mr_ctl_error create_manual(const struct mr_ctl *ctl, struct mr_request *request,
                                         const create_in *in, const struct mr_uuid *id,
                                         struct mr_meta_records *records)
{
    int32_t replica_count = -1;
    if (in->replication_factor != -1) {
        return refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("A manual partition assignment was specified, but replication factor was "
                   "not set to -1."));
    }
    if (in->num_partitions != -1) {
        return refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("A manual partition assignment was specified, but numPartitions was not set "
                   "to -1."));
    }
    /* Which assignment is whose: partitions in any order, each once, without a hole. */
    int32_t *of = MR_REQUEST_NEW(ctl->control, request, int32_t, in->assignments_count);
    if (of == NULL) {
        records->is_failed = true;
        return success;
    }
    for (int32_t index = 0; index < in->assignments_count; index++) {
        int32_t partition = in->assignments[index].partition_index;
        if (partition < 0 || partition >= in->assignments_count) {
            return refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                MR_STR("Partitions should be a consecutive sequence of integers from 0 on."));
        }
        if (of[partition] != 0) {
            return refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "Found multiple manual partition assignments for partition %d",
                                partition));
        }
        of[partition] = index + 1;
        struct mr_ctl_error error =
            check_assignment(ctl, request, in->assignments[index].broker_ids,
                             in->assignments[index].broker_ids_count, replica_count);
        if (error.code != 0) {
            return error;
        }
        replica_count = in->assignments[index].broker_ids_count;
        bool is_any = false;
        for (int32_t at = 0; at < replica_count; at++) {
            is_any = is_any || is_active(ctl->meta, in->assignments[index].broker_ids[at]);
        }
        if (!is_any || replica_count > REPLICAS_MAX) {
            return refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "All brokers specified in the manual partition assignment for "
                                "partition %d are fenced or in controlled shutdown.",
                                partition));
        }
    }
    for (int32_t partition = 0; partition < in->assignments_count; partition++) {
        const struct mr_create_topics_request_creatable_replica_assignment *assignment =
            &in->assignments[of[partition] - 1];
        add_partition(ctl, records, id, partition, assignment->broker_ids,
                      assignment->broker_ids_count);
    }
    return success;
}

/* Partitions placed in turn; the counts are resolved. */
static struct mr_ctl_error create_placed(const struct mr_ctl *ctl, struct mr_request *request,
                                         int32_t first, int32_t count, int32_t replica_count,
                                         const struct mr_uuid *id, struct mr_meta_records *records)
{
    int32_t  replicas[REPLICAS_MAX];
    uint32_t active = active_count(ctl->meta);
    if (active < (uint32_t)replica_count || replica_count > REPLICAS_MAX) {
        return refuse(
            MR_KAFKA_INVALID_REPLICATION_FACTOR,
            request == NULL
                ? MR_STR("too few brokers")
                : mr_request_text(ctl->control, request,
                                  "Unable to replicate the partition %d time(s): The target "
                                  "replication factor of %d cannot be reached because only %u "
                                  "broker(s) are registered.",
                                  replica_count, replica_count, active));
    }
    for (int32_t partition = first; partition < first + count && !records->is_failed; partition++) {
        place(ctl->meta, (uint32_t)partition, replicas, replica_count);
        add_partition(ctl, records, id, partition, replicas, replica_count);
    }
    return success;
}

/* What the configs of the new topic will be. */
static void values_of(const struct mr_ctl *ctl, const create_in *in,
                      struct mr_log_config_values *values)
{
    mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, values);
    for (int32_t index = 0; index < in->configs_count; index++) {
        mr_log_config_override(values, in->configs[index].name, in->configs[index].value);
    }
}

/* The configs in the request: known, valid, not null; their records follow the topic's. */
static struct mr_ctl_error create_configs(const struct mr_ctl *ctl, struct mr_request *request,
                                          const create_in *in, struct mr_meta_records *records)
{
    for (int32_t index = 0; index < in->configs_count; index++) {
        if (mr_str_is_null(in->configs[index].value)) {
            return refuse(MR_KAFKA_INVALID_CONFIG,
                          mr_request_text(ctl->control, request,
                                          "Null value not supported for topic configs: %.*s",
                                          in->configs[index].name.len,
                                          in->configs[index].name.data));
        }
    }
    struct mr_ctl_seen seen;
    if (!mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->configs_count)) {
        records->is_failed = true;
        return success;
    }
    for (int32_t index = 0; index < in->configs_count; index++) {
        struct mr_str       name = in->configs[index].name;
        struct mr_ctl_error error =
            mr_ctl_config_check_topic(ctl, request, name, in->configs[index].value);
        if (error.code != 0) {
            return error;
        }
        (void)mr_ctl_seen_add(&seen, 0, name.data, name.len, index);
    }
    struct mr_log_config_values values;
    values_of(ctl, in, &values);
    struct mr_ctl_error error = mr_ctl_config_check_together(ctl, request, &values);
    if (error.code != 0) {
        return error;
    }
    for (uint32_t index = 0; index < seen.count; index++) {
        /* Of a name given twice the last one counts. */
        const struct mr_create_topics_request_creatable_topic_config *config =
            &in->configs[seen.keys[index].last];
        add_config(records, in->name, config->name, config->value);
    }
    return success;
}

/* What the request says for a key; the last time counts. */
static struct mr_str given_text(const create_in *in, struct mr_str name)
{
    for (int32_t index = in->configs_count; index-- > 0;) {
        if (mr_str_equal(in->configs[index].name, name)) {
            return in->configs[index].value;
        }
    }
    return MR_STR_NULL;
}

/* What the new topic's configs will be, for versions that tell it. */
static void describe_created(const struct mr_ctl *ctl, struct mr_request *request,
                             const create_in *in, create_out *out)
{
    struct mr_log_config_values values;
    out->configs = MR_REQUEST_NEW(ctl->control, request,
                                  struct mr_create_topics_response_creatable_topic_configs,
                                  MR_TOPIC_CONFIG_COUNT);
    if (out->configs == NULL) {
        out->configs_count = -1;
        return;
    }
    values_of(ctl, in, &values);
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        struct mr_create_topics_response_creatable_topic_configs *entry =
            &out->configs[out->configs_count++];
        char           buffer[64];
        struct mr_text text;
        entry->name = mr_str(mr_topic_config_rows[id].key.name);
        entry->config_source = (int8_t)values.of[id].source;
        const struct mr_config_value *value = &values.of[id].value;
        if (values.of[id].source == MR_SOURCE_TOPIC) {
            entry->value = given_text(in, entry->name); /* as it came, like Kafka: " 5 ", "TRUE" */
        } else if (value->is_null) {
            entry->value = MR_STR_NULL;
        } else if (mr_config_is_text(mr_topic_config_rows[id].key.type)) {
            entry->value = value->text;
        } else {
            mr_text_init(&text, buffer, sizeof buffer);
            (void)mr_config_print(&mr_topic_config_rows[id].key, value, &text);
            entry->value = mr_request_text(ctl->control, request, "%s", buffer);
        }
    }
}

static struct mr_ctl_error create_one(const struct mr_ctl *ctl, struct mr_request *request,
                                      const create_in *in, struct mr_meta_records *records,
                                      create_out *out)
{
    struct mr_ctl_error error = mr_ctl_topics_check_name(in->name);
    if (error.code != 0) {
        return error;
    }
    if (mr_meta_topic_by_name(ctl->meta, in->name) != NULL) {
        return refuse(mr_bug("wrong-error-code") ? MR_KAFKA_INVALID_REQUEST
                                                 : MR_KAFKA_TOPIC_ALREADY_EXISTS,
                      mr_request_text(ctl->control, request, "Topic '%.*s' already exists.",
                                      in->name.len, in->name.data));
    }
    const struct mr_meta_topic *collision = mr_meta_topic_collision(ctl->meta, in->name);
    if (collision != NULL) {
        return refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                      mr_request_text(
                          ctl->control, request, "Topic '%.*s' collides with existing topic: %.*s",
                          in->name.len, in->name.data, collision->name.len, collision->name.data));
    }
    struct mr_uuid id;
    mr_control_uuid(ctl->control, &id);
    if (mr_bug("same-topic-id")) {
        uint64_t hash = mr_hash_str(&ctl->control->hash_key, in->name);
        memset(id.bytes, 1, sizeof id.bytes);
        memcpy(id.bytes, &hash, sizeof hash);
    }
    add_topic(records, in->name, &id);
    error = create_configs(ctl, request, in, records);
    if (error.code != 0) {
        return error;
    }
    int32_t partitions =
        in->num_partitions == -1 ? (int32_t)ctl->config->num_partitions : in->num_partitions;
    int32_t replicas = in->replication_factor == -1
                           ? (int32_t)ctl->config->default_replication_factor
                           : in->replication_factor;
    if (mr_str_equal(in->name, MR_STR("__consumer_offsets")) && in->num_partitions == -1 &&
        in->replication_factor == -1 && in->assignments_count <= 0 && in->configs_count <= 0) {
        add_offsets_configs(ctl, records);
        partitions = (int32_t)ctl->config->offsets_topic_num_partitions;
        replicas = (int32_t)ctl->config->offsets_topic_replication_factor;
    }
    if (in->assignments_count > 0) {
        partitions = in->assignments_count;
        replicas = in->assignments[0].broker_ids_count;
        if (!has_partition_room(ctl, (uint64_t)partitions)) {
            return no_partition_room(ctl, request);
        }
        error = create_manual(ctl, request, in, &id, records);
    } else if (in->replication_factor < -1 || in->replication_factor == 0) {
        error = refuse(
            MR_KAFKA_INVALID_REPLICATION_FACTOR,
            MR_STR("Replication factor must be larger than 0, or -1 to use the default value."));
    } else if (in->num_partitions < -1 || in->num_partitions == 0) {
        error = refuse(MR_KAFKA_INVALID_PARTITIONS,
                       MR_STR("Number of partitions was set to an invalid non-positive value."));
    } else if (partitions > MR_META_RECORDS_MAX) {
        error = refuse(MR_KAFKA_POLICY_VIOLATION,
                       MR_STR("Unable to perform excessively large batch operation."));
    } else if (!has_partition_room(ctl, (uint64_t)partitions)) {
        error = no_partition_room(ctl, request);
    } else {
        error = create_placed(ctl, request, 0, partitions, replicas, &id, records);
    }
    if (error.code != 0) {
        return error;
    }
    out->topic_id = id;
    out->num_partitions = partitions;
    out->replication_factor = (int16_t)replicas;
    if (request->forward->api_version >= 5) {
        describe_created(ctl, request, in, out);
    }
    return success;
}

const void *mr_ctl_topics_create(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    const struct mr_create_topics_request *in = request->message;
    struct mr_create_topics_response      *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_create_topics_response, 1);
    create_out *results = MR_REQUEST_NEW(ctl->control, request, create_out, in->topics_count);
    struct mr_ctl_seen seen;
    if (out == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->topics_count)) {
        return NULL;
    }
    for (int32_t index = in->topics_count - 1; index >= 0; index--) {
        struct mr_str name = in->topics[index].name;
        (void)mr_ctl_seen_add(&seen, 0, name.data, name.len, index); /* last tag: the first place */
    }
    struct mr_meta_mark start = mr_meta_records_mark(records);
    uint64_t            partitions = 0;
    out->topics = results;
    for (int32_t index = 0; index < in->topics_count; index++) {
        create_out                   *result = &results[out->topics_count];
        struct mr_meta_mark           mark = mr_meta_records_mark(records);
        struct mr_ctl_error           error = success;
        struct mr_str                 name = in->topics[index].name;
        const struct mr_ctl_seen_key *key = mr_ctl_seen_find(&seen, 0, name.data, name.len);
        MR_DEFAULTS(create_topics_response_creatable_topic_result, result);
        result->name = name;
        if (key->times > 1) {
            if (key->last != index) {
                continue; /* one answer for all of them */
            }
            error = refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Duplicate topic name."));
        } else if (mr_str_equal(result->name, MR_STR("__cluster_metadata"))) {
            error = refuse(MR_KAFKA_INVALID_REQUEST,
                           MR_STR("Creation of internal topic __cluster_metadata is prohibited."));
        } else {
            error = create_one(ctl, request, &in->topics[index], records, result);
            if (error.code == 0 &&
                !has_partition_room(ctl, partitions + (uint64_t)result->num_partitions)) {
                error = no_partition_room(ctl, request);
            }
        }
        out->topics_count++;
        result->error_code = error.code;
        result->error_message = error.message;
        if (error.code != 0) {
            mr_meta_records_rewind(records, mark);
            result->topic_id = (struct mr_uuid){0};
            result->num_partitions = -1;
            result->replication_factor = -1;
            result->configs = NULL;
            result->configs_count = 0;
        } else {
            partitions += (uint64_t)result->num_partitions;
        }
    }
    if (records->count - start.count > MR_META_RECORDS_MAX) {
        mr_meta_records_rewind(records, start);
        for (int32_t index = 0; index < out->topics_count; index++) {
            struct mr_str topic = results[index].name;
            MR_DEFAULTS(create_topics_response_creatable_topic_result, &results[index]);
            results[index].name = topic;
            results[index].error_code = MR_KAFKA_POLICY_VIOLATION;
            results[index].error_message =
                MR_STR("Unable to perform excessively large batch operation.");
        }
    }
    if (in->validate_only) {
        mr_meta_records_rewind(records, start);
    }
    return out;
}

void mr_ctl_topics_create_offsets(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    struct mr_str       name = MR_STR("__consumer_offsets");
    struct mr_meta_mark mark = mr_meta_records_mark(records);
    struct mr_uuid      id;
    if (mr_meta_topic_by_name(ctl->meta, name) != NULL) {
        return;
    }
    mr_control_uuid(ctl->control, &id);
    add_topic(records, name, &id);
    add_offsets_configs(ctl, records);
    struct mr_ctl_error error =
        create_placed(ctl, NULL, 0, (int32_t)ctl->config->offsets_topic_num_partitions,
                      (int32_t)ctl->config->offsets_topic_replication_factor, &id, records);
    if (error.code != 0) {
        mr_meta_records_rewind(records, mark);
    }
}

/* ---- CreatePartitions ---- */

static struct mr_ctl_error extend_one(
    const struct mr_ctl *ctl, struct mr_request *request,
    const struct mr_create_partitions_request_create_partitions_topic *in,
    struct mr_meta_records                                            *records)
{
    const struct mr_meta_topic *topic = mr_meta_topic_by_name(ctl->meta, in->name);
    if (topic == NULL) {
        return refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION, MR_STR_NULL);
    }
    int32_t count = (int32_t)topic->partition_count;
    if (in->count == count) {
        return refuse(
            MR_KAFKA_INVALID_PARTITIONS,
            mr_request_text(ctl->control, request, "Topic already has %d partition(s).", count));
    }
    if (in->count < count) {
        return refuse(
            MR_KAFKA_INVALID_PARTITIONS,
            mr_request_text(ctl->control, request,
                            "The topic %.*s currently has %d partition(s); %d would not be an "
                            "increase.",
                            in->name.len, in->name.data, count, in->count));
    }
    int32_t additional = in->count - count;
    int32_t replica_count = count > 0 ? topic->partitions[0].replicas.count : 1;
    if (in->assignments_count >= 0 && in->assignments_count != additional) {
        return refuse(MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                      mr_request_text(ctl->control, request,
                                      "Attempted to add %d additional partition(s), but only %d "
                                      "assignment(s) were specified.",
                                      additional, in->assignments_count));
    }
    if (additional > MR_META_RECORDS_MAX) {
        return refuse(MR_KAFKA_POLICY_VIOLATION,
                      MR_STR("Unable to perform excessively large batch operation."));
    }
    if (!has_partition_room(ctl, (uint64_t)additional)) {
        return no_partition_room(ctl, request);
    }
    if (in->assignments_count < 0) {
        return create_placed(ctl, request, count, additional, replica_count, &topic->id, records);
    }
    for (int32_t index = 0; index < additional; index++) {
        int32_t            *ids = in->assignments[index].broker_ids;
        int32_t             ids_count = in->assignments[index].broker_ids_count;
        bool                is_any = false;
        struct mr_ctl_error error = check_assignment(ctl, request, ids, ids_count, replica_count);
        if (error.code != 0) {
            return error;
        }
        for (int32_t at = 0; at < ids_count; at++) {
            is_any = is_any || is_active(ctl->meta, ids[at]);
        }
        if (!is_any || ids_count > REPLICAS_MAX) {
            return refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "All brokers specified in the manual partition assignment for "
                                "partition %d are fenced or in controlled shutdown.",
                                count + index));
        }
        add_partition(ctl, records, &topic->id, count + index, ids, ids_count);
    }
    return success;
}

const void *mr_ctl_partitions_create(const struct mr_ctl *ctl, struct mr_request *request,
                                     struct mr_meta_records *records)
{
    typedef struct mr_create_partitions_response_create_partitions_topic_result result_type;
    const struct mr_create_partitions_request *in = request->message;
    struct mr_create_partitions_response      *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_create_partitions_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, in->topics_count);
    struct mr_ctl_seen seen;
    if (out == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->topics_count)) {
        return NULL;
    }
    for (int32_t index = in->topics_count - 1; index >= 0; index--) {
        struct mr_str name = in->topics[index].name;
        (void)mr_ctl_seen_add(&seen, 0, name.data, name.len, index);
    }
    struct mr_meta_mark start = mr_meta_records_mark(records);
    out->results = results;
    for (int32_t index = 0; index < in->topics_count; index++) {
        result_type                  *result = &results[out->results_count];
        struct mr_meta_mark           mark = mr_meta_records_mark(records);
        struct mr_ctl_error           error = success;
        struct mr_str                 name = in->topics[index].name;
        const struct mr_ctl_seen_key *key = mr_ctl_seen_find(&seen, 0, name.data, name.len);
        if (key->times > 1 && key->last != index) {
            continue;
        }
        if (key->times > 1) {
            error = refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Duplicate topic name."));
        } else {
            error = extend_one(ctl, request, &in->topics[index], records);
        }
        if (error.code != 0) {
            mr_meta_records_rewind(records, mark);
        }
        *result =
            (result_type){.name = name, .error_code = error.code, .error_message = error.message};
        out->results_count++;
    }
    if (records->count - start.count > MR_META_RECORDS_MAX) {
        mr_meta_records_rewind(records, start);
        for (int32_t index = 0; index < out->results_count; index++) {
            results[index].error_code = MR_KAFKA_POLICY_VIOLATION;
            results[index].error_message =
                MR_STR("Unable to perform excessively large batch operation.");
        }
    }
    if (in->validate_only && !mr_bug("validate-changes")) {
        mr_meta_records_rewind(records, start);
    }
    return out;
}

/* ---- DeleteTopics ---- */

typedef struct mr_delete_topics_response_deletable_topic_result delete_out;

struct delete_item {
    struct mr_str  name; /* null: by id */
    struct mr_uuid id;
};

static const struct mr_meta_topic *item_topic(const struct mr_meta     *meta,
                                              const struct delete_item *item)
{
    return mr_str_is_null(item->name) ? mr_meta_topic_by_id(meta, &item->id)
                                      : mr_meta_topic_by_name(meta, item->name);
}

/* By name (number 0) or by id (number 1). */
static struct mr_ctl_seen_key *item_key(const struct mr_ctl_seen *seen,
                                        const struct delete_item *item)
{
    return mr_str_is_null(item->name)
               ? mr_ctl_seen_find(seen, 1, item->id.bytes, (int32_t)sizeof item->id.bytes)
               : mr_ctl_seen_find(seen, 0, item->name.data, item->name.len);
}

/* The refusals that come from the list itself: duplicates, and one topic named in two ways. */
static struct mr_ctl_error check_item(const struct mr_ctl *ctl, const struct mr_ctl_seen *seen,
                                      const struct delete_item *item, int32_t at,
                                      struct mr_uuid *id, bool *is_told)
{
    const struct mr_meta_topic   *topic = item_topic(ctl->meta, item);
    const struct mr_ctl_seen_key *key = item_key(seen, item);
    if (key->times > 1) {
        *is_told = key->last != at;
        return refuse(MR_KAFKA_INVALID_REQUEST, mr_str_is_null(item->name)
                                                    ? MR_STR("Duplicate topic id.")
                                                    : MR_STR("Duplicate topic name."));
    }
    if (topic == NULL) {
        return mr_str_is_null(item->name)
                   ? refuse(MR_KAFKA_UNKNOWN_TOPIC_ID,
                            MR_STR("This server does not host this topic ID."))
                   : refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                            MR_STR("This server does not host this topic-partition."));
    }
    struct delete_item other = {.name = mr_str_is_null(item->name) ? topic->name : MR_STR_NULL,
                                .id = topic->id};
    if (item_key(seen, &other) != NULL) {
        *is_told = mr_str_is_null(item->name); /* the answer stands at the name, with the id */
        *id = topic->id;
        return refuse(MR_KAFKA_INVALID_REQUEST,
                      MR_STR("The provided topic name maps to an ID that was already supplied."));
    }
    return success;
}

const void *mr_ctl_topics_delete(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    const struct mr_delete_topics_request *in = request->message;
    int16_t                                version = request->forward->api_version;
    int32_t given = version >= 6 ? in->topics_count : in->topic_names_count;
    struct mr_delete_topics_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_delete_topics_response, 1);
    struct delete_item *items = MR_REQUEST_NEW(ctl->control, request, struct delete_item, given);
    delete_out         *results = MR_REQUEST_NEW(ctl->control, request, delete_out, given);
    int32_t             count = 0;
    struct mr_ctl_seen  seen;
    if (out == NULL || items == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)given)) {
        return NULL;
    }
    out->responses = results;
    for (int32_t index = 0; index < given; index++) {
        struct delete_item item = {.name = version >= 6 ? in->topics[index].name
                                                        : in->topic_names[index]};
        item.id = version >= 6 ? in->topics[index].topic_id : (struct mr_uuid){0};
        bool has_id = !mr_uuid_is_zero(&item.id);
        if (!ctl->config->delete_topic_enable) {
            results[out->responses_count++] =
                (delete_out){.name = item.name,
                             .topic_id = item.id,
                             .error_code = version < 3 ? MR_KAFKA_INVALID_REQUEST
                                                       : MR_KAFKA_TOPIC_DELETION_DISABLED,
                             .error_message = MR_STR("Topic deletion is disabled.")};
        } else if (mr_str_is_null(item.name) != has_id) {
            results[out->responses_count++] = (delete_out){
                .name = item.name,
                .topic_id = item.id,
                .error_code = MR_KAFKA_INVALID_REQUEST,
                .error_message = has_id
                                     ? MR_STR("You may not specify both topic name and topic id.")
                                     : MR_STR("Neither topic name nor id were specified.")};
        } else {
            items[count++] = item;
        }
    }
    for (int32_t index = count - 1; index >= 0; index--) {
        bool is_id = mr_str_is_null(items[index].name);
        (void)mr_ctl_seen_add(
            &seen, is_id, is_id ? (const void *)items[index].id.bytes : items[index].name.data,
            is_id ? (int32_t)sizeof items[index].id.bytes : items[index].name.len, index);
    }
    for (int32_t index = 0; index < count; index++) {
        bool                        is_told = false;
        struct mr_uuid              id = items[index].id;
        struct mr_ctl_error         error = check_item(ctl, &seen, &items[index], index, &id, &is_told);
        const struct mr_meta_topic *topic = item_topic(ctl->meta, &items[index]);
        if (is_told) {
            continue;
        }
        delete_out *result = &results[out->responses_count++];
        *result = (delete_out){.name = items[index].name,
                               .topic_id = id,
                               .error_code = error.code,
                               .error_message = error.message};
        if (error.code == 0) {
            struct mr_remove_topic_record record = {.topic_id = topic->id};
            result->name = topic->name;
            result->topic_id = topic->id;
            mr_meta_records_add(records, &mr_msg_remove_topic_record, 0, &record);
        }
    }
    return out;
}
