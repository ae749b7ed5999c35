/* admin: what is described: configs with their sources and synonyms, log directories, config
 * resources. */
#include "config_table.h"
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/meta.h"
#include "test.h"

static int setup_given(void **state)
{
    struct fixture *f = fixture_make();
    f->rig = mr_rig_create(f->store);
    f->rig->config.num_partitions = 3;
    mr_config_mark_given(&f->rig->config, MR_CONFIG_num_partitions);
    f->rig->config.log_retention_minutes = 7;
    mr_config_mark_given(&f->rig->config, MR_CONFIG_log_retention_minutes);
    f->rig->config.log_retention_ms = 7 * 60000;
    mr_rig_run(f->rig);
    *state = f;
    return 0;
}

static struct mr_describe_configs_response_describe_configs_result describe(
    struct fixture *f, int16_t version, int8_t type, const char *name, const char *key)
{
    struct mr_str keys[1] = {key == NULL ? MR_STR("") : mr_str(key)};
    struct mr_describe_configs_request_describe_configs_resource resource = {
        .resource_type = type,
        .resource_name = mr_str(name),
        .configuration_keys = keys,
        .configuration_keys_count = key == NULL ? -1 : 1,
    };
    struct mr_describe_configs_request  request = {.resources = &resource,
                                                   .resources_count = 1,
                                                   .include_synonyms = true,
                                                   .include_documentation = version >= 3};
    struct mr_describe_configs_response response;
    mr_rig_call(f->rig, MR_API_DESCRIBE_CONFIGS, version, &request, &f->arena, &response);
    assert_int_equal(response.results_count, 1);
    return response.results[0];
}

static void test_describe_topic_lists_every_key_in_every_version(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "t", 1, -1).error_code, 0);
    for (int16_t version = 1; version <= 4; version++) {
        struct mr_describe_configs_response_describe_configs_result result =
            describe(f, version, MR_META_TOPIC, "t", NULL);
        assert_int_equal(result.error_code, 0);
        assert_int_equal(result.configs_count, MR_TOPIC_CONFIG_COUNT);
        for (int32_t index = 0; index < result.configs_count; index++) {
            assert_false(result.configs[index].read_only);
            assert_int_equal(result.configs[index].config_type > 0, version >= 3);
            assert_int_equal(result.configs[index].documentation.len > 0, version >= 3);
        }
    }
}

static void test_describe_topic_says_where_a_value_comes_from(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "t", 1, -1).error_code, 0);
    struct mr_describe_configs_response_describe_configs_result result =
        describe(f, 4, MR_META_TOPIC, "t", "retention.ms");
    assert_int_equal(result.configs_count, 1);
    struct mr_describe_configs_response_describe_configs_resource_result *entry =
        &result.configs[0];
    assert_true(mr_str_equal(entry->value, MR_STR("420000")));
    assert_int_equal(entry->config_source, 5); /* log.retention.ms itself is set nowhere */
    assert_int_equal(entry->synonyms_count, 0);
    assert_int_equal(alter(f, MR_META_BROKER, "", "log.retention.ms", 0, "11"), MR_KAFKA_NONE);
    assert_int_equal(alter(f, MR_META_BROKER, "1", "log.retention.ms", 0, "22"), MR_KAFKA_NONE);
    assert_int_equal(alter(f, MR_META_TOPIC, "t", "retention.ms", 0, "33"), MR_KAFKA_NONE);
    result = describe(f, 4, MR_META_TOPIC, "t", "retention.ms");
    entry = &result.configs[0];
    assert_true(mr_str_equal(entry->value, MR_STR("33")));
    assert_int_equal(entry->config_source, 1);
    static const int8_t sources[] = {1, 2, 3, 4, 5}; /* 4: minutes from the file, 5: hours */
    assert_int_equal(entry->synonyms_count, 5);
    for (int index = 0; index < 5; index++) {
        assert_int_equal(entry->synonyms[index].source, sources[index]);
    }
    result = describe(f, 4, MR_META_TOPIC, "t", "remote.storage.enable");
    assert_int_equal(result.configs[0].config_source, 5);
    assert_int_equal(result.configs[0].synonyms_count, 0);
}

static void test_describe_broker(void **state)
{
    struct fixture                                             *f = *state;
    struct mr_describe_configs_response_describe_configs_result result =
        describe(f, 4, MR_META_BROKER, "1", NULL);
    assert_int_equal(result.configs_count, MR_CONFIG_COUNT);
    result = describe(f, 4, MR_META_BROKER, "1", "num.partitions");
    assert_true(mr_str_equal(result.configs[0].value, MR_STR("3")));
    assert_true(result.configs[0].read_only);
    assert_int_equal(result.configs[0].config_source, 4);
    assert_int_equal(describe(f, 4, MR_META_BROKER, "01", "num.partitions").configs_count, 1);
    assert_int_equal(alter(f, MR_META_BROKER, "1", "message.max.bytes", 0, "5000000"), MR_KAFKA_NONE);
    result = describe(f, 4, MR_META_BROKER, "1", "message.max.bytes");
    assert_true(mr_str_equal(result.configs[0].value, MR_STR("5000000")));
    assert_false(result.configs[0].read_only);
    assert_int_equal(result.configs[0].config_source, 2);
    result = describe(f, 4, MR_META_BROKER, "", NULL);
    assert_int_equal(result.configs_count, 0);
    assert_int_equal(alter(f, MR_META_BROKER, "", "message.max.bytes", 0, "6000000"), MR_KAFKA_NONE);
    result = describe(f, 4, MR_META_BROKER, "", NULL);
    assert_int_equal(result.configs_count, 1);
    assert_int_equal(result.configs[0].config_source, 3);
    assert_int_equal(result.configs[0].synonyms_count, 1);
}

static struct mr_describe_configs_response_describe_configs_resource_result describe_key(
    struct fixture *f, const char *key)
{
    struct mr_describe_configs_response_describe_configs_result result =
        describe(f, 4, MR_META_BROKER, "1", key);
    assert_int_equal(result.error_code, 0);
    assert_int_equal(result.error_message.len, 0);
    assert_int_equal(result.configs_count, 1);
    return result.configs[0];
}

static void test_describe_broker_says_what_was_given_not_what_follows_from_it(void **state)
{
    struct fixture                                                      *f = *state;
    struct mr_describe_configs_response_describe_configs_resource_result entry =
        describe_key(f, "log.retention.ms");
    assert_true(mr_str_is_null(entry.value));
    assert_int_equal(entry.synonyms_count, 0);
    entry = describe_key(f, "log.retention.minutes");
    assert_int_equal(entry.config_source, 4);
    assert_int_equal(entry.synonyms_count, 2);
    assert_true(mr_str_equal(entry.synonyms[0].name, MR_STR("log.retention.minutes")));
    assert_true(mr_str_equal(entry.synonyms[1].name, MR_STR("log.retention.hours")));
    entry = describe_key(f, "log.flush.scheduler.interval.ms");
    assert_int_equal(entry.synonyms_count, 1);
    assert_int_equal(describe_key(f, "create.topic.policy.class.name").config_type, 8);
}

static void test_describe_hides_what_nobody_knows(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(alter(f, MR_META_BROKER, "1", "some.plugin.key", 0, "secret"), MR_KAFKA_NONE);
    struct mr_describe_configs_response_describe_configs_resource_result entry =
        describe_key(f, "some.plugin.key");
    assert_true(entry.is_sensitive);
    assert_true(mr_str_is_null(entry.value));
    assert_int_equal(entry.config_source, 2);
    assert_int_equal(entry.synonyms_count, 1);
    assert_true(mr_str_is_null(entry.synonyms[0].value));
}

static void test_describe_refusals(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(describe(f, 4, MR_META_TOPIC, "nobody", NULL).error_code,
                     MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(describe(f, 4, MR_META_TOPIC, "a b", NULL).error_code,
                     MR_KAFKA_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(describe(f, 4, MR_META_BROKER, "7", NULL).error_code,
                     MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(describe(f, 4, 99, "7", NULL).error_code, MR_KAFKA_INVALID_REQUEST);
}

static void test_describe_log_dirs_has_every_log_of_every_core(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 3, -1).error_code, 0);
    assert_int_equal(create(f, "b", 2, -1).error_code, 0);
    for (int16_t version = 1; version <= 5; version++) {
        struct mr_describe_log_dirs_request  request = {.topics_count = -1};
        struct mr_describe_log_dirs_response response;
        mr_rig_call(f->rig, MR_API_DESCRIBE_LOG_DIRS, version, &request, &f->arena, &response);
        assert_int_equal(response.results_count, 1);
        assert_true(mr_str_equal(response.results[0].log_dir, MR_STR("/data")));
        assert_int_equal(response.results[0].topics_count, 2);
        assert_int_equal(response.results[0].topics[0].partitions_count +
                             response.results[0].topics[1].partitions_count,
                         5);
        assert_int_equal(response.results[0].total_bytes, version >= 4 ? 1000000 : -1);
        assert_int_equal(response.results[0].usable_bytes, version >= 4 ? 400000 : -1);
    }
    int32_t                                                       partitions[2] = {1, 77};
    struct mr_describe_log_dirs_request_describable_log_dir_topic topic = {
        .topic = MR_STR("a"), .partitions = partitions, .partitions_count = 2};
    struct mr_describe_log_dirs_request  request = {.topics = &topic, .topics_count = 1};
    struct mr_describe_log_dirs_response response;
    mr_rig_call(f->rig, MR_API_DESCRIBE_LOG_DIRS, 5, &request, &f->arena, &response);
    assert_int_equal(response.results[0].topics_count, 1);
    assert_int_equal(response.results[0].topics[0].partitions_count, 1);
    assert_int_equal(response.results[0].topics[0].partitions[0].partition_index, 1);
    request.topics_count = 0;
    mr_rig_call(f->rig, MR_API_DESCRIBE_LOG_DIRS, 5, &request, &f->arena, &response);
    assert_int_equal(response.results[0].topics_count, 0);
}

static void test_list_config_resources(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    struct mr_list_config_resources_request  request = {0};
    struct mr_list_config_resources_response response;
    mr_rig_call(f->rig, MR_API_LIST_CONFIG_RESOURCES, 0, &request, &f->arena, &response);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(response.config_resources_count, 0);
    mr_rig_call(f->rig, MR_API_LIST_CONFIG_RESOURCES, 1, &request, &f->arena, &response);
    assert_int_equal(response.config_resources_count, 3);
    int8_t type = MR_META_TOPIC;
    request = (struct mr_list_config_resources_request){.resource_types = &type,
                                                        .resource_types_count = 1};
    mr_rig_call(f->rig, MR_API_LIST_CONFIG_RESOURCES, 1, &request, &f->arena, &response);
    assert_int_equal(response.config_resources_count, 1);
    assert_true(mr_str_equal(response.config_resources[0].resource_name, MR_STR("a")));
    type = 1;
    mr_rig_call(f->rig, MR_API_LIST_CONFIG_RESOURCES, 1, &request, &f->arena, &response);
    assert_int_equal(response.error_code, MR_KAFKA_UNSUPPORTED_VERSION);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup_given, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_describe_topic_lists_every_key_in_every_version),
        TEST(test_describe_topic_says_where_a_value_comes_from),
        TEST(test_describe_broker),
        TEST(test_describe_broker_says_what_was_given_not_what_follows_from_it),
        TEST(test_describe_hides_what_nobody_knows),
        TEST(test_describe_refusals),
        TEST(test_describe_log_dirs_has_every_log_of_every_core),
        TEST(test_list_config_resources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
