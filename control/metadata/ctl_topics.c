/*
 * ctl_topics: CreateTopics, and the internal topic of groups: decisions over a const state.
 *
 * Source: Apache Kafka 4.4: ReplicationControlManager and ControllerApis say which refusal comes
 * first; the words are ours.
 */
#include "metadata/controller.h"
#include "metadata/ctl_seen.h"
#include "metadata/log_config.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

struct mr_ctl_error mr_ctl_topics_check_name(struct mr_str name)
{
    if (name.len <= 0) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION, MR_STR("The topic name is empty."));
    }
    if (mr_str_equal(name, MR_STR(".")) || mr_str_equal(name, MR_STR(".."))) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                             MR_STR("A topic cannot be named '.' or '..'."));
    }
    if (name.len > MR_TOPIC_NAME_MAX) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                             MR_STR("The topic name is longer than 249 characters."));
    }
    for (int32_t at = 0; at < name.len; at++) {
        char c = name.data[at];
        bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '_' || c == '-';
        if (!is_good) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                MR_STR("The topic name has a character other than ASCII letters, digits, '.', "
                       "'_' and '-'."));
        }
    }
    return mr_ctl_ok;
}

/* ---- records ---- */

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

static void add_number_config(struct mr_meta_records *records, struct mr_str topic,
                              struct mr_str name, int64_t value)
{
    char text[24];
    size_t len = mr_fmt(text, sizeof text, "%lld", (long long)value);
    add_config(records, topic, name, (struct mr_str){.data = text, .len = (int32_t)len});
}

/* A topic of our own: what Kafka gives it when a broker creates it by itself. */
struct internal {
    const char *name;
    int32_t partitions;
    int32_t replicas;
};

static struct internal internal_of(const struct mr_ctl *ctl, enum mr_ctl_internal which)
{
    const struct mr_config *config = ctl->config;
    switch (which) {
    case MR_CTL_OFFSETS:
        return (struct internal){.name = "__consumer_offsets",
                                 .partitions = (int32_t)config->offsets_topic_num_partitions,
                                 .replicas = (int32_t)config->offsets_topic_replication_factor};
    case MR_CTL_TRANSACTIONS:
        return (struct internal){
            .name = "__transaction_state",
            .partitions = (int32_t)config->transaction_state_log_num_partitions,
            .replicas = (int32_t)config->transaction_state_log_replication_factor};
    case MR_CTL_INTERNAL_COUNT:
        break;
    }
    mr_unreachable("no such topic");
}

static void add_internal_configs(const struct mr_ctl *ctl, enum mr_ctl_internal which,
                                 struct mr_meta_records *records)
{
    const struct mr_config *config = ctl->config;
    struct mr_str name = mr_str(internal_of(ctl, which).name);
    add_config(records, name, MR_STR("cleanup.policy"), MR_STR("compact"));
    if (which == MR_CTL_OFFSETS) {
        add_config(records, name, MR_STR("compression.type"), MR_STR("producer"));
        add_number_config(records, name, MR_STR("segment.bytes"),
                          config->offsets_topic_segment_bytes);
        return;
    }
    add_config(records, name, MR_STR("compression.type"), MR_STR("uncompressed"));
    add_number_config(records, name, MR_STR("segment.bytes"),
                      config->transaction_state_log_segment_bytes);
    add_number_config(records, name, MR_STR("min.insync.replicas"),
                      config->transaction_state_log_min_isr);
    add_config(records, name, MR_STR("unclean.leader.election.enable"), MR_STR("false"));
}

/* ---- CreateTopics ---- */

typedef struct mr_create_topics_request_creatable_topic create_in;
typedef struct mr_create_topics_response_creatable_topic_result create_out;

static struct mr_ctl_error create_manual(const struct mr_ctl *ctl, struct mr_request *request,
                                         const create_in *in, const struct mr_uuid *id,
                                         struct mr_meta_records *records)
{
    int32_t replica_count = -1;
    if (in->replication_factor != -1) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("A manual partition assignment was specified, but replication factor was "
                   "not set to -1."));
    }
    if (in->num_partitions != -1) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("A manual partition assignment was specified, but numPartitions was not set "
                   "to -1."));
    }
    /* Which assignment is whose: partitions in any order, each once, without a hole. */
    int32_t *of = MR_REQUEST_NEW(ctl->control, request, int32_t, in->assignments_count);
    if (of == NULL) {
        records->is_failed = true;
        return mr_ctl_ok;
    }
    for (int32_t index = 0; index < in->assignments_count; index++) {
        int32_t partition = in->assignments[index].partition_index;
        if (partition < 0 || partition >= in->assignments_count) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                MR_STR("Partitions should be a consecutive sequence of integers from 0 on."));
        }
        if (of[partition] != 0) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "Found multiple manual partition assignments for partition %d",
                                partition));
        }
        of[partition] = index + 1;
        struct mr_ctl_error error =
            mr_ctl_partitions_check(ctl, request, in->assignments[index].broker_ids,
                                    in->assignments[index].broker_ids_count, replica_count);
        if (error.code != 0) {
            return error;
        }
        replica_count = in->assignments[index].broker_ids_count;
        bool is_any = false;
        for (int32_t at = 0; at < replica_count; at++) {
            is_any = is_any ||
                     mr_ctl_partitions_is_active(ctl->meta, in->assignments[index].broker_ids[at]);
        }
        if (!is_any || replica_count > MR_CTL_REPLICAS_MAX) {
            return mr_ctl_refuse(
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
        mr_ctl_partitions_add(ctl, records, id, partition, assignment->broker_ids,
                              assignment->broker_ids_count);
    }
    return mr_ctl_ok;
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
            return mr_ctl_refuse(MR_KAFKA_INVALID_CONFIG,
                                 mr_request_text(ctl->control, request,
                                                 "Null value not supported for topic configs: %.*s",
                                                 in->configs[index].name.len,
                                                 in->configs[index].name.data));
        }
    }
    struct mr_ctl_seen seen;
    if (!mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->configs_count)) {
        records->is_failed = true;
        return mr_ctl_ok;
    }
    for (int32_t index = 0; index < in->configs_count; index++) {
        struct mr_str name = in->configs[index].name;
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
    return mr_ctl_ok;
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
        char buffer[64];
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
        return mr_ctl_refuse(mr_bug("wrong-error-code") ? MR_KAFKA_INVALID_REQUEST
                                                        : MR_KAFKA_TOPIC_ALREADY_EXISTS,
                             mr_request_text(ctl->control, request, "Topic '%.*s' already exists.",
                                             in->name.len, in->name.data));
    }
    const struct mr_meta_topic *collision = mr_meta_topic_collision(ctl->meta, in->name);
    if (collision != NULL) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_TOPIC_EXCEPTION,
                             mr_request_text(ctl->control, request,
                                             "Topic '%.*s' collides with existing topic: %.*s",
                                             in->name.len, in->name.data, collision->name.len,
                                             collision->name.data));
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
    bool is_plain = in->num_partitions == -1 && in->replication_factor == -1 &&
                    in->assignments_count <= 0 && in->configs_count <= 0;
    for (int which = 0; is_plain && which < MR_CTL_INTERNAL_COUNT; which++) {
        struct internal internal = internal_of(ctl, (enum mr_ctl_internal)which);
        if (mr_str_equal(in->name, mr_str(internal.name))) {
            add_internal_configs(ctl, (enum mr_ctl_internal)which, records);
            partitions = internal.partitions;
            replicas = internal.replicas;
        }
    }
    if (in->assignments_count > 0) {
        partitions = in->assignments_count;
        replicas = in->assignments[0].broker_ids_count;
        if (!mr_ctl_partitions_has_room(ctl, (uint64_t)partitions)) {
            return mr_ctl_partitions_no_room(ctl, request);
        }
        error = create_manual(ctl, request, in, &id, records);
    } else if (in->replication_factor < -1 || in->replication_factor == 0) {
        error = mr_ctl_refuse(
            MR_KAFKA_INVALID_REPLICATION_FACTOR,
            MR_STR("Replication factor must be larger than 0, or -1 to use the default value."));
    } else if (in->num_partitions < -1 || in->num_partitions == 0) {
        error =
            mr_ctl_refuse(MR_KAFKA_INVALID_PARTITIONS,
                          MR_STR("Number of partitions was set to an invalid non-positive value."));
    } else if (partitions > MR_META_RECORDS_MAX) {
        error = mr_ctl_refuse(MR_KAFKA_POLICY_VIOLATION,
                              MR_STR("Unable to perform excessively large batch operation."));
    } else if (!mr_ctl_partitions_has_room(ctl, (uint64_t)partitions)) {
        error = mr_ctl_partitions_no_room(ctl, request);
    } else {
        error = mr_ctl_partitions_place(ctl, request, 0, partitions, replicas, &id, records);
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
    return mr_ctl_ok;
}

const void *mr_ctl_topics_create(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    const struct mr_create_topics_request *in = request->message;
    struct mr_create_topics_response *out =
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
    uint64_t partitions = 0;
    out->topics = results;
    for (int32_t index = 0; index < in->topics_count; index++) {
        create_out *result = &results[out->topics_count];
        struct mr_meta_mark mark = mr_meta_records_mark(records);
        struct mr_ctl_error error = mr_ctl_ok;
        struct mr_str name = in->topics[index].name;
        const struct mr_ctl_seen_key *key = mr_ctl_seen_find(&seen, 0, name.data, name.len);
        MR_DEFAULTS(create_topics_response_creatable_topic_result, result);
        result->name = name;
        if (key->times > 1) {
            if (key->last != index) {
                continue; /* one answer for all of them */
            }
            error = mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Duplicate topic name."));
        } else if (mr_str_equal(result->name, MR_STR("__cluster_metadata"))) {
            error = mr_ctl_refuse(
                MR_KAFKA_INVALID_REQUEST,
                MR_STR("Creation of internal topic __cluster_metadata is prohibited."));
        } else {
            error = create_one(ctl, request, &in->topics[index], records, result);
            if (error.code == 0 &&
                !mr_ctl_partitions_has_room(ctl, partitions + (uint64_t)result->num_partitions)) {
                error = mr_ctl_partitions_no_room(ctl, request);
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

void mr_ctl_topics_create_internal(const struct mr_ctl *ctl, enum mr_ctl_internal which,
                                   struct mr_meta_records *records)
{
    struct internal internal = internal_of(ctl, which);
    struct mr_str name = mr_str(internal.name);
    struct mr_meta_mark mark = mr_meta_records_mark(records);
    struct mr_uuid id;
    if (mr_meta_topic_by_name(ctl->meta, name) != NULL) {
        return;
    }
    mr_control_uuid(ctl->control, &id);
    add_topic(records, name, &id);
    add_internal_configs(ctl, which, records);
    struct mr_ctl_error error = mr_ctl_partitions_place(ctl, NULL, 0, internal.partitions,
                                                        internal.replicas, &id, records);
    if (error.code != 0) {
        mr_meta_records_rewind(records, mark);
    }
}
