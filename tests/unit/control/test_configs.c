/* controller: configs of topics and of the broker: how they are changed, refused, and reach image and storage. */
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/controller.h"
#include "metadata/image.h"
#include "test.h"

static void test_topic_config_reaches_image_storage_and_restart(void **state)
{
    struct fixture *f = *state;
    create(f, "c", 2, 1);
    assert_int_equal(find(f, "c")->config.retention_ms, 604800000);
    assert_int_equal(alter(f, MR_META_TOPIC, "c", "retention.ms", 0, "1234"), 0);
    assert_int_equal(find(f, "c")->config.retention_ms, 1234);
    assert_int_equal(mr_rig_log(f->store, "c", 0)->config.retention_ms, 1234);
    assert_int_equal(mr_rig_log(f->store, "c", 1)->config.retention_ms, 1234);
    restart(f);
    assert_int_equal(find(f, "c")->config.retention_ms, 1234);
    assert_int_equal(alter(f, MR_META_TOPIC, "c", "retention.ms", 1, NULL), 0);
    assert_int_equal(mr_rig_log(f->store, "c", 0)->config.retention_ms, 604800000);
}

static void test_topic_config_list_operations(void **state)
{
    struct fixture *f = *state;
    create(f, "c", 1, 1);
    assert_int_equal(alter(f, MR_META_TOPIC, "c", "cleanup.policy", 2, "compact"), 0);
    assert_true(find(f, "c")->config.is_cleanup_delete && find(f, "c")->config.is_cleanup_compact);
    assert_int_equal(alter(f, MR_META_TOPIC, "c", "cleanup.policy", 3, "delete"), 0);
    assert_true(!find(f, "c")->config.is_cleanup_delete && find(f, "c")->config.is_cleanup_compact);
    assert_int_equal(alter(f, MR_META_TOPIC, "c", "retention.ms", 2, "1"), MR_KAFKA_INVALID_CONFIG);
}

static void test_config_refusals(void **state)
{
    struct fixture *f = *state;
    create(f, "c", 1, 1);
    static const struct {
        int8_t      type;
        const char *resource;
        const char *name;
        int8_t      op;
        const char *value;
        int16_t     error;
    } cases[] = {
        {MR_META_TOPIC, "c", "no.such.key", 0, "1", MR_KAFKA_INVALID_CONFIG},
        {MR_META_TOPIC, "c", "retention.ms", 0, "soon", MR_KAFKA_INVALID_CONFIG},
        {MR_META_TOPIC, "c", "retention.ms", 0, NULL, MR_KAFKA_INVALID_REQUEST},
        {MR_META_TOPIC, "c", "retention.ms", 7, "1", MR_KAFKA_INVALID_REQUEST},
        {MR_META_TOPIC, "c", "compression.type", 0, "brotli", MR_KAFKA_INVALID_CONFIG},
        {MR_META_TOPIC, "c", "max.compaction.lag.ms", 0, "0", MR_KAFKA_INVALID_CONFIG},
        {MR_META_TOPIC, "d", "retention.ms", 0, "1", MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION},
        {MR_META_TOPIC, "", "retention.ms", 0, "1", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "num.partitions", 0, "3", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "2", "log.retention.ms", 0, "3", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "", "log.retention.ms", 0, "x", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "", "listeners", 0, "PLAINTEXT://:1", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "listeners", 0, "PLAINTEXT://:1", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "ssl.keystore.location", 0, "/x", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "num.io.threads", 0, "17", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "num.io.threads", 0, "3", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "log.cleaner.threads", 0, "0", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "max.connections.per.ip.overrides", 0, "x", MR_KAFKA_INVALID_REQUEST},
        {MR_META_BROKER, "1", "max.connections.per.ip.overrides", 0, "10.0.0.1:", 42},
        {MR_META_TOPIC, "c", "compression.gzip.level", 0, "0", MR_KAFKA_INVALID_CONFIG},
        {MR_META_TOPIC, "c", "leader.replication.throttled.replicas", 0, "x", 40},
        {MR_META_TOPIC, "c", "leader.replication.throttled.replicas", 0, "0:1,1", 40},
        {3, "c", "retention.ms", 0, "1", MR_KAFKA_INVALID_REQUEST},
        /* and these pass */
        {MR_META_BROKER, "1", "num.io.threads", 0, "16", 0},
        {MR_META_BROKER, "1", "num.partitions", 1, NULL, 0},
        {MR_META_BROKER, "1", "max.connections.per.ip.overrides", 0, "10.0.0.1:5,::1:7", 0},
        {MR_META_TOPIC, "c", "compression.gzip.level", 0, "-1", 0},
        {MR_META_TOPIC, "c", "leader.replication.throttled.replicas", 0, "*", 0},
        {MR_META_TOPIC, "c", "leader.replication.throttled.replicas", 0, "0:1,1:1", 0},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        assert_int_equal(alter(f, cases[index].type, cases[index].resource, cases[index].name,
                               cases[index].op, cases[index].value),
                         cases[index].error);
    }
    assert_int_equal(find(f, "c")->config.retention_ms, 604800000);
}

static void test_a_resource_named_twice_is_refused_twice(void **state)
{
    struct fixture *f = *state;
    create(f, "c", 1, 1);
    create(f, "d", 1, 1);
    struct mr_incremental_alter_configs_request_alterable_config config = {
        .name = MR_STR("retention.ms"), .value = MR_STR("7")};
    struct mr_incremental_alter_configs_request_alter_configs_resource targets[3] = {
        {.resource_type = MR_META_TOPIC, .resource_name = MR_STR("c")},
        {.resource_type = MR_META_TOPIC, .resource_name = MR_STR("d")},
        {.resource_type = MR_META_TOPIC, .resource_name = MR_STR("c")},
    };
    for (int index = 0; index < 3; index++) {
        targets[index].configs = &config;
        targets[index].configs_count = 1;
    }
    struct mr_incremental_alter_configs_request  request = {.resources = targets,
                                                            .resources_count = 3};
    struct mr_incremental_alter_configs_response response;
    mr_rig_call(f->rig, MR_API_INCREMENTAL_ALTER_CONFIGS, 1, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 3);
    assert_int_equal(response.responses[0].error_code, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(response.responses[1].error_code, 0);
    assert_int_equal(response.responses[2].error_code, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(find(f, "c")->config.retention_ms, 604800000);
    assert_int_equal(find(f, "d")->config.retention_ms, 7);
}

static void test_create_refuses_configs_that_contradict_each_other(void **state)
{
    struct fixture                                        *f = *state;
    struct mr_create_topics_request_creatable_topic_config configs[2] = {
        {.name = MR_STR("min.compaction.lag.ms"), .value = MR_STR("2")},
        {.name = MR_STR("max.compaction.lag.ms"), .value = MR_STR("1")}};
    struct mr_create_topics_request_creatable_topic topic = {.name = MR_STR("x"),
                                                             .num_partitions = 1,
                                                             .replication_factor = 1,
                                                             .configs = configs,
                                                             .configs_count = 2};
    struct mr_create_topics_request                 request = {.topics = &topic, .topics_count = 1};
    struct mr_create_topics_response                response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_CONFIG);
    assert_null(find(f, "x"));
}

static void test_broker_config_is_the_default_of_topics_by_precedence(void **state)
{
    struct fixture *f = *state;
    create(f, "plain", 1, 1);
    create(f, "own", 1, 1);
    alter(f, MR_META_TOPIC, "own", "retention.ms", 0, "5");
    assert_int_equal(alter(f, MR_META_BROKER, "", "log.retention.ms", 0, "100"), 0);
    assert_int_equal(find(f, "plain")->config.retention_ms, 100);
    assert_int_equal(mr_rig_log(f->store, "plain", 0)->config.retention_ms, 100);
    assert_int_equal(find(f, "own")->config.retention_ms, 5);
    assert_int_equal(alter(f, MR_META_BROKER, "1", "log.retention.ms", 0, "200"), 0);
    assert_int_equal(find(f, "plain")->config.retention_ms, 200);
    restart(f);
    assert_int_equal(find(f, "plain")->config.retention_ms, 200);
    assert_int_equal(alter(f, MR_META_BROKER, "1", "log.retention.ms", 1, NULL), 0);
    assert_int_equal(find(f, "plain")->config.retention_ms, 100);
}

/* `count` topics in one request, every third name of those that begin with `first`. */
static void create_many(struct fixture *f, int first, int count)
{
    struct mr_create_topics_request_creatable_topic *topics = calloc((size_t)count, sizeof *topics);
    char (*names)[16] = calloc((size_t)count, sizeof *names);
    struct mr_create_topics_response response;
    for (int index = 0; index < count; index++) {
        (void)snprintf(names[index], sizeof names[index], "many-%05d", first + index * 3);
        topics[index] = (struct mr_create_topics_request_creatable_topic){
            .name = mr_str(names[index]), .num_partitions = 1, .replication_factor = 1};
    }
    struct mr_create_topics_request request = {.topics = topics, .topics_count = count};
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, count);
    for (int index = 0; index < count; index++) {
        assert_int_equal(response.topics[index].error_code, 0);
    }
    free(names);
    free(topics);
}

static void test_bursts_of_topics_are_merged_into_the_image_in_order(void **state)
{
    struct fixture *f = *state;
    static const int counts[] = {200, 3, 300, 65};
    uint32_t         total = 0;
    for (int burst = 0; burst < 4; burst++) {
        create_many(f, burst < 3 ? burst : 2000, counts[burst]);
        total += (uint32_t)counts[burst];
        const struct mr_image *image = f->rig->control->images->current;
        assert_int_equal(image->topic_count, total);
        for (uint32_t index = 1; index < total; index++) {
            assert_true(
                mr_str_compare(image->topics[index - 1]->name, image->topics[index]->name) < 0);
            assert_true(memcmp(image->topics_by_id[index - 1]->id.bytes,
                               image->topics_by_id[index]->id.bytes, 16) < 0);
        }
    }
}

/* However many are created or found at a start: about 512 logs are being opened at a time. */
static void test_thousands_of_topics_are_opened_a_slice_at_a_time(void **state)
{
    struct fixture *f = *state;
    f->rig->ops_turn_max = 0;
    create_many(f, 0, 2000);
    assert_in_range(f->rig->ops_turn_max, 1, 520);
    restart(f);
    assert_int_equal(f->rig->control->images->current->topic_count, 2000);
    assert_in_range(f->rig->ops_turn_max, 1, 520);
}

static const struct mr_image_limits *limits_of(struct fixture *f)
{
    return f->rig->control->images->current->limits;
}

static void test_limits_of_connections_change_at_run_time_and_survive_restart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(limits_of(f)->per_ip, INT32_MAX);
    assert_int_equal(alter(f, MR_META_BROKER, "", "max.connections.per.ip", 0, "7"), 0);
    assert_int_equal(limits_of(f)->per_ip, 7);
    assert_int_equal(alter(f, MR_META_BROKER, "1", "max.connections.per.ip", 0, "8"), 0);
    assert_int_equal(
        alter(f, MR_META_BROKER, "1", "max.connections.per.ip.overrides", 0, "10.0.0.1:5"), 0);
    restart(f);
    assert_int_equal(limits_of(f)->per_ip, 8);
    assert_true(mr_str_equal(limits_of(f)->overrides, MR_STR("10.0.0.1:5")));
    assert_int_equal(alter(f, MR_META_BROKER, "1", "max.connections.per.ip", 1, NULL), 0);
    assert_int_equal(limits_of(f)->per_ip, 7);
}

static void test_alter_configs_replaces_everything(void **state)
{
    struct fixture *f = *state;
    create(f, "c", 1, 1);
    alter(f, MR_META_TOPIC, "c", "retention.ms", 0, "5");
    struct mr_alter_configs_request_alterable_config       config = {.name = MR_STR("segment.ms"),
                                                                     .value = MR_STR("77")};
    struct mr_alter_configs_request_alter_configs_resource target = {.resource_type = MR_META_TOPIC,
                                                                     .resource_name = MR_STR("c"),
                                                                     .configs = &config,
                                                                     .configs_count = 1};
    struct mr_alter_configs_request  request = {.resources = &target, .resources_count = 1};
    struct mr_alter_configs_response response;
    mr_rig_call(f->rig, MR_API_ALTER_CONFIGS, 2, &request, &f->arena, &response);
    assert_int_equal(response.responses[0].error_code, 0);
    assert_int_equal(find(f, "c")->config.retention_ms, 604800000);
    assert_int_equal(find(f, "c")->config.segment_ms, 77);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_topic_config_reaches_image_storage_and_restart),
        TEST(test_topic_config_list_operations),
        TEST(test_config_refusals),
        TEST(test_a_resource_named_twice_is_refused_twice),
        TEST(test_create_refuses_configs_that_contradict_each_other),
        TEST(test_broker_config_is_the_default_of_topics_by_precedence),
        TEST(test_bursts_of_topics_are_merged_into_the_image_in_order),
        TEST(test_thousands_of_topics_are_opened_a_slice_at_a_time),
        TEST(test_limits_of_connections_change_at_run_time_and_survive_restart),
        TEST(test_alter_configs_replaces_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
