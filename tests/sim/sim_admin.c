#include "sim_admin.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_many.h"

#define TOPIC_RESOURCE 2

enum {
    UNKNOWN_TOPIC = 3,
    TOPIC_ALREADY_EXISTS = 36,
    INVALID_PARTITIONS = 37,
    OFFSET_OUT_OF_RANGE = 1,
    UNKNOWN_TOPIC_ID = 100,
};

static const struct {
    const char *key;
    const char *values[MR_SIM_ADMIN_VALUES]; /* the first is the default of the site */
} configs[MR_SIM_ADMIN_KEYS] = {
    {"max.message.bytes", {"1048588", "2000000", "3000000"}},
    {"segment.bytes", {"1048576", "1500000", "2097152"}},
};

static struct mr_sim_admin *admin_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_admin *)(void *)actor;
}

static uint64_t draw(struct mr_sim_admin *admin, uint64_t bound)
{
    return mr_prng_below(&admin->actor.prng, bound);
}

static struct mr_sim_made *made_of(struct mr_sim_admin *admin, const struct mr_uuid *id)
{
    for (uint32_t index = 0; index < admin->made_count; index++) {
        if (mr_uuid_equal(&admin->made[index].id, id)) {
            return &admin->made[index];
        }
    }
    return NULL;
}

/* ---- Sending ---- */

static void send_metadata(struct mr_sim_admin *admin, struct mr_now now)
{
    struct mr_metadata_request       request;
    struct mr_metadata_request_topic topics[MR_SIM_TOPICS];
    MR_DEFAULTS(metadata_request, &request);
    for (uint32_t index = 0; index < MR_SIM_TOPICS; index++) {
        MR_DEFAULTS(metadata_request_topic, &topics[index]);
        topics[index].name = mr_sim_topics[index];
    }
    request.topics = topics;
    request.topics_count = MR_SIM_TOPICS;
    request.allow_auto_topic_creation = false;
    mr_sim_actor_send(&admin->actor, MR_API_METADATA, 12, &request, 0, true, now);
}

#define RETAINED_SETTINGS 3

/* Small segments, few bytes kept, and what was dropped leaves the disk soon. */
static void retain(struct mr_create_topics_request_creatable_topic_config settings[RETAINED_SETTINGS])
{
    static const struct {
        const char *name;
        const char *value;
    } rows[RETAINED_SETTINGS] = {{"segment.ms", "50"}, {"retention.bytes", "20000"}, {"file.delete.delay.ms", "1000"}};
    for (uint32_t index = 0; index < RETAINED_SETTINGS; index++) {
        MR_DEFAULTS(create_topics_request_creatable_topic_config, &settings[index]);
        settings[index].name = mr_str(rows[index].name);
        settings[index].value = mr_str(rows[index].value);
    }
}

static void send_create(struct mr_sim_admin *admin, uint32_t topic_index, struct mr_now now)
{
    struct mr_create_topics_request                 request;
    struct mr_create_topics_request_creatable_topic topic;
    struct mr_create_topics_request_creatable_topic_config settings[RETAINED_SETTINGS];
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
    topic.name = mr_sim_topics[topic_index];
    topic.num_partitions = 1 + (int32_t)draw(admin, 3);
    topic.replication_factor = 1;
    if (topic_index == MR_SIM_RETAINED) {
        retain(settings);
        topic.configs = settings;
        topic.configs_count = RETAINED_SETTINGS;
    }
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&admin->actor, MR_API_CREATE_TOPICS, 7, &request, topic_index, true, now);
}

static void send_delete(struct mr_sim_admin *admin, uint32_t topic_index, struct mr_now now)
{
    struct mr_delete_topics_request                    request;
    struct mr_delete_topics_request_delete_topic_state state;
    struct mr_sim_made *made = made_of(admin, &admin->ids[topic_index]);
    MR_DEFAULTS(delete_topics_request, &request);
    MR_DEFAULTS(delete_topics_request_delete_topic_state, &state);
    state.topic_id = admin->ids[topic_index];
    request.topics = &state;
    request.topics_count = 1;
    request.timeout_ms = 30000;
    if (made != NULL) {
        made->is_deletion_asked = true;
    }
    mr_check_acked_topic_deletion_asked(admin->check, &state.topic_id);
    mr_sim_actor_send(&admin->actor, MR_API_DELETE_TOPICS, 6, &request, topic_index, true, now);
}

static void send_partitions(struct mr_sim_admin *admin, uint32_t topic_index, struct mr_now now)
{
    struct mr_create_partitions_request                         request;
    struct mr_create_partitions_request_create_partitions_topic topic;
    MR_DEFAULTS(create_partitions_request, &request);
    MR_DEFAULTS(create_partitions_request_create_partitions_topic, &topic);
    topic.name = mr_sim_topics[topic_index];
    topic.count = (int32_t)admin->partitions[topic_index] + 1;
    topic.assignments_count = -1;
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&admin->actor, MR_API_CREATE_PARTITIONS, 3, &request,
                      (uint64_t)topic.count << 32 | topic_index, true, now);
}

/* Somewhere below what is known to be there. */
static void send_delete_records(struct mr_sim_admin *admin, struct mr_now now)
{
    struct mr_delete_records_request                          request;
    struct mr_delete_records_request_delete_records_topic     topic;
    struct mr_delete_records_request_delete_records_partition partition;
    uint32_t index = (uint32_t)draw(admin, admin->partitions[0]);
    uint32_t log = mr_check_acked_log(admin->check, &admin->ids[0], index);
    MR_DEFAULTS(delete_records_request, &request);
    MR_DEFAULTS(delete_records_request_delete_records_topic, &topic);
    MR_DEFAULTS(delete_records_request_delete_records_partition, &partition);
    partition.partition_index = (int32_t)index;
    partition.offset = (int64_t)draw(admin, (uint64_t)admin->check->logs[log].watermark + 1);
    topic.name = mr_sim_topics[0];
    topic.partitions = &partition;
    topic.partitions_count = 1;
    request.topics = &topic;
    request.topics_count = 1;
    request.timeout_ms = 30000;
    mr_check_acked_delete_asked(admin->check, log, partition.offset);
    mr_sim_actor_send(&admin->actor, MR_API_DELETE_RECORDS, 2, &request, (uint64_t)partition.offset << 32 | log, true,
                      now);
}

static void send_config(struct mr_sim_admin *admin, struct mr_now now)
{
    struct mr_incremental_alter_configs_request                           request;
    struct mr_incremental_alter_configs_request_alter_configs_resource    resource;
    struct mr_incremental_alter_configs_request_alterable_config          config;
    uint32_t key = (uint32_t)draw(admin, MR_SIM_ADMIN_KEYS);
    uint32_t value = (uint32_t)draw(admin, MR_SIM_ADMIN_VALUES);
    MR_DEFAULTS(incremental_alter_configs_request, &request);
    MR_DEFAULTS(incremental_alter_configs_request_alter_configs_resource, &resource);
    MR_DEFAULTS(incremental_alter_configs_request_alterable_config, &config);
    config.name = mr_str(configs[key].key);
    config.value = mr_str(configs[key].values[value]);
    resource.resource_type = TOPIC_RESOURCE;
    resource.resource_name = mr_sim_topics[0];
    resource.configs = &config;
    resource.configs_count = 1;
    request.resources = &resource;
    request.resources_count = 1;
    admin->possible[key] |= 1u << value;
    mr_sim_actor_send(&admin->actor, MR_API_INCREMENTAL_ALTER_CONFIGS, 1, &request,
                      (uint64_t)key << 8 | value, true, now);
}

static void send_describe(struct mr_sim_admin *admin, struct mr_now now)
{
    struct mr_describe_configs_request                           request;
    struct mr_describe_configs_request_describe_configs_resource resource;
    MR_DEFAULTS(describe_configs_request, &request);
    MR_DEFAULTS(describe_configs_request_describe_configs_resource, &resource);
    resource.resource_type = TOPIC_RESOURCE;
    resource.resource_name = mr_sim_topics[0];
    resource.configuration_keys_count = -1; /* all */
    request.resources = &resource;
    request.resources_count = 1;
    mr_sim_actor_send(&admin->actor, MR_API_DESCRIBE_CONFIGS, 4, &request, 0, true, now);
}

static void send_something(struct mr_sim_admin *admin, struct mr_now now)
{
    uint32_t topic = 1 + (uint32_t)draw(admin, MR_SIM_TOPICS - 1);
    if (draw(admin, 64) == 0) {
        mr_sim_many_send(&admin->actor, (uint32_t)draw(admin, MR_SIM_MANY_KINDS), now);
        return;
    }
    switch (draw(admin, 6)) {
    case 0:
        if (admin->partitions[topic] > 0) {
            send_delete(admin, topic, now);
            return;
        }
        break;
    case 1:
        if (admin->partitions[topic] > 0 && admin->partitions[topic] < MR_SIM_PARTITIONS) {
            send_partitions(admin, topic, now);
            return;
        }
        break;
    case 2:
        if (admin->partitions[0] > 0) {
            send_delete_records(admin, now);
            return;
        }
        break;
    case 3:
        if (admin->partitions[0] > 0) {
            send_config(admin, now);
            return;
        }
        break;
    default:
        break;
    }
    if (admin->partitions[topic] == 0 && admin->made_count < MR_SIM_ADMIN_IDS &&
        admin->check->log_count + 8 < MR_CHECK_LOGS) {
        send_create(admin, topic, now);
    }
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_admin *admin = admin_of(actor);
    if (actor->call_count > 0) {
        return;
    }
    if (admin->is_metadata_due || (actor->is_quiet && admin->verified == 0)) {
        send_metadata(admin, now);
    } else if (actor->is_quiet) {
        if (admin->verified == 1) {
            send_describe(admin, now);
        }
        return;
    } else {
        send_something(admin, now);
    }
    mr_sim_actor_rest(actor, now, 30 * MR_NS_PER_MS);
}

/* ---- Answers ---- */

static void take_error(struct mr_sim_admin *admin, int16_t error, const char *what, struct mr_now now)
{
    admin->is_metadata_due = true;
    if (error != UNKNOWN_TOPIC && error != UNKNOWN_TOPIC_ID && !mr_errors_is_retriable(error)) {
        mr_sim_actor_refuse(&admin->actor, what, error);
    }
    mr_sim_actor_rest(&admin->actor, now, 20 * MR_NS_PER_MS);
}

/* At the end: what was answered is so. */
static void verify_topics(struct mr_sim_admin *admin)
{
    for (uint32_t index = 0; index < admin->made_count; index++) {
        const struct mr_sim_made *made = &admin->made[index];
        bool                      is_there = false;
        for (uint32_t topic = 0; topic < MR_SIM_TOPICS; topic++) {
            bool is_this = mr_uuid_equal(&made->id, &admin->ids[topic]);
            is_there |= is_this;
            if (is_this && admin->partitions[topic] < made->partitions) {
                mr_sim_actor_refuse(&admin->actor, "partitions are not there although they were answered", topic);
            }
        }
        if (is_there && made->is_deleted) {
            mr_sim_actor_refuse(&admin->actor, "a topic is there although its deletion was answered", index);
        }
        if (!is_there && !made->is_deletion_asked) {
            mr_sim_actor_refuse(&admin->actor, "a topic is not there although its creation was answered", index);
        }
    }
    admin->verified = 1;
}

static void take_metadata(struct mr_sim_admin *admin, const struct mr_metadata_response *response)
{
    admin->is_metadata_due = false;
    for (uint32_t index = 0; index < MR_SIM_TOPICS && (int32_t)index < response->topics_count; index++) {
        static const struct mr_uuid              none;
        const struct mr_metadata_response_topic *topic = &response->topics[index];
        uint32_t                                 number = 0;
        while (number + 1 < MR_SIM_TOPICS && !mr_str_equal(topic->name, mr_sim_topics[number])) {
            number++;
        }
        if (topic->error_code != 0 && topic->error_code != UNKNOWN_TOPIC) {
            admin->is_metadata_due = true;
            return;
        }
        admin->ids[number] = topic->error_code == 0 ? topic->topic_id : none;
        admin->partitions[number] = topic->error_code == 0 ? (uint32_t)topic->partitions_count : 0;
    }
    if (admin->actor.is_quiet) {
        verify_topics(admin);
    }
}

static void take_created(struct mr_sim_admin *admin, const struct mr_create_topics_response *response,
                         struct mr_now now)
{
    int16_t error = response->topics_count == 1 ? response->topics[0].error_code : -1;
    admin->is_metadata_due = true;
    if (error == 0) {
        if (made_of(admin, &response->topics[0].topic_id) != NULL) {
            mr_sim_actor_refuse(&admin->actor, "a topic id was given twice", admin->made_count);
        }
        admin->made[admin->made_count++] = (struct mr_sim_made){.id = response->topics[0].topic_id};
        admin->done++;
    } else if (error != TOPIC_ALREADY_EXISTS) {
        take_error(admin, error, "CreateTopics failed for good", now);
    }
}

static void take_deleted(struct mr_sim_admin *admin, const struct mr_delete_topics_response *response,
                         struct mr_now now)
{
    int16_t error = response->responses_count == 1 ? response->responses[0].error_code : -1;
    admin->is_metadata_due = true;
    if (error == 0) {
        struct mr_sim_made *made = made_of(admin, &response->responses[0].topic_id);
        if (made != NULL) {
            made->is_deleted = true;
        }
        admin->done++;
    } else {
        take_error(admin, error, "DeleteTopics failed for good", now);
    }
}

static void take_partitions(struct mr_sim_admin *admin, const struct mr_sim_call *call,
                            const struct mr_create_partitions_response *response, struct mr_now now)
{
    int16_t             error = response->results_count == 1 ? response->results[0].error_code : -1;
    struct mr_sim_made *made = made_of(admin, &admin->ids[call->user & 0xff]);
    admin->is_metadata_due = true;
    if (error == 0 && made != NULL) {
        made->partitions = (uint32_t)(call->user >> 32);
        admin->done++;
    }
    if (error != 0 && error != INVALID_PARTITIONS) { /* the one before did it, unanswered */
        take_error(admin, error, "CreatePartitions failed for good", now);
    }
}

static void take_records(struct mr_sim_admin *admin, const struct mr_sim_call *call,
                         const struct mr_delete_records_response *response, struct mr_now now)
{
    if (response->topics_count != 1 || response->topics[0].partitions_count != 1) {
        mr_sim_actor_refuse(&admin->actor, "DeleteRecords answered for something else", response->topics_count);
        return;
    }
    const struct mr_delete_records_response_delete_records_partition_result *result =
        &response->topics[0].partitions[0];
    if (result->error_code == 0) {
        mr_check_acked_delete_done(admin->check, (uint32_t)call->user, (int64_t)(call->user >> 32),
                                   result->low_watermark);
        admin->done++;
    } else if (result->error_code != OFFSET_OUT_OF_RANGE) { /* below what was deleted before */
        take_error(admin, result->error_code, "DeleteRecords failed for good", now);
    }
}

static void take_config(struct mr_sim_admin *admin, const struct mr_sim_call *call,
                        const struct mr_incremental_alter_configs_response *response, struct mr_now now)
{
    int16_t error = response->responses_count == 1 ? response->responses[0].error_code : -1;
    if (error == 0) {
        admin->possible[call->user >> 8] = 1u << (call->user & 0xff) | admin->late[call->user >> 8];
        admin->done++;
    } else {
        take_error(admin, error, "IncrementalAlterConfigs failed for good", now);
    }
}

static void take_described(struct mr_sim_admin *admin, const struct mr_describe_configs_response *response,
                           struct mr_now now)
{
    int16_t error = response->results_count == 1 ? response->results[0].error_code : -1;
    if (error != 0) {
        take_error(admin, error, "DescribeConfigs failed for good", now);
        return;
    }
    for (uint32_t key = 0; key < MR_SIM_ADMIN_KEYS; key++) {
        bool is_right = false;
        for (int32_t index = 0; index < response->results[0].configs_count; index++) {
            const struct mr_describe_configs_response_describe_configs_resource_result *config =
                &response->results[0].configs[index];
            for (uint32_t value = 0; value < MR_SIM_ADMIN_VALUES; value++) {
                is_right |= (admin->possible[key] >> value & 1u) != 0 &&
                            mr_str_equal(config->name, mr_str(configs[key].key)) &&
                            mr_str_equal(config->value, mr_str(configs[key].values[value]));
            }
        }
        if (!is_right) {
            mr_sim_actor_refuse(&admin->actor, "a configuration is not what was answered: key", key);
        }
    }
    admin->verified = 2;
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_admin *admin = admin_of(actor);
    (void)arena;
    if ((call->user & MR_SIM_MANY) != 0) {
        mr_sim_many_answer(actor, call, response);
        return;
    }
    switch (call->key) {
    case MR_API_METADATA:
        take_metadata(admin, response);
        break;
    case MR_API_CREATE_TOPICS:
        take_created(admin, response, now);
        break;
    case MR_API_DELETE_TOPICS:
        take_deleted(admin, response, now);
        break;
    case MR_API_CREATE_PARTITIONS:
        take_partitions(admin, call, response, now);
        break;
    case MR_API_DELETE_RECORDS:
        take_records(admin, call, response, now);
        break;
    case MR_API_INCREMENTAL_ALTER_CONFIGS:
        take_config(admin, call, response, now);
        break;
    default:
        mr_assert(call->key == MR_API_DESCRIBE_CONFIGS);
        take_described(admin, response, now);
        break;
    }
}

static void lost(struct mr_sim_actor *actor, const struct mr_sim_call *call)
{
    struct mr_sim_admin *admin = admin_of(actor);
    admin->is_metadata_due = true;
    if (call->key == MR_API_INCREMENTAL_ALTER_CONFIGS) {
        admin->late[call->user >> 8] |= 1u << (call->user & 0xff);
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_admin *)(const void *)actor)->verified == 2;
}

void mr_sim_admin_init(struct mr_sim_admin *admin, struct mr_arena *arena, struct mr_check_acked *check,
                       uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "admin", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    *admin = (struct mr_sim_admin){.check = check, .is_metadata_due = true};
    for (uint32_t key = 0; key < MR_SIM_ADMIN_KEYS; key++) {
        admin->possible[key] = 1u;
    }
    mr_sim_actor_init(&admin->actor, &ops, arena, seed);
}
