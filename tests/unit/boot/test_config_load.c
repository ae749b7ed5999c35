/*
 * config_load, config_table: properties text as Java reads it, messages that name file, line, value and
 * range, the nearest key, effective values, networks; and every row against its own check.
 */
#include "boot/config_load.h"
#include "config_table.h"
#include "test.h"

#include <unistd.h>

static char said[4096];
static int warnings;
static int refusals;
static struct mr_config config;
static struct mr_arena arena;
static char memory[1 << 20];

static void say(void *user, enum mr_config_say kind, const char *line)
{
    (void)user;
    warnings += kind == MR_CONFIG_SAY_WARNING;
    refusals += kind == MR_CONFIG_SAY_REFUSAL;
    snprintf(said, sizeof said, "%s", line);
}

static struct mr_config_load load_begin(void)
{
    struct mr_config_load load = {.config = &config, .arena = &arena, .say = say};
    mr_arena_init(&arena, memory, sizeof memory);
    said[0] = '\0';
    warnings = 0;
    refusals = 0;
    mr_config_load_begin(&load);
    return load;
}

static bool load_text(const char *text)
{
    struct mr_config_load load = load_begin();
    return mr_config_load_text(&load, "server.properties", text, strlen(text)) &&
           mr_config_load_end(&load);
}

static void assert_str(struct mr_str got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.data, expected, strlen(expected));
}

static void test_config_built_in_values_are_those_of_the_issue(void **state)
{
    (void)state;
    assert_true(load_text(""));
    assert_int_equal(config.node_id, 1);
    assert_str(config.listeners, "PLAINTEXT://127.0.0.1:9092");
    assert_str(config.advertised_listeners, "PLAINTEXT://127.0.0.1:9092");
    assert_str(config.log_dirs, "./data");
    assert_int_equal(config.offsets_topic_replication_factor, 1);
    assert_int_equal(config.transaction_state_log_replication_factor, 1);
    assert_int_equal(config.transaction_state_log_min_isr, 1);
    assert_int_equal(config.share_coordinator_state_topic_replication_factor, 1);
    assert_int_equal(config.share_coordinator_state_topic_min_isr, 1);
    assert_int_equal(config.log_retention_ms, 604800000);
    assert_int_equal(config.log_roll_ms, 604800000);
    assert_int_equal(config.log_flush_interval_ms, INT64_MAX);
    assert_false(mr_config_is_given(&config, MR_CONFIG_node_id));
}

static void test_config_every_default_is_accepted_by_its_row(void **state)
{
    (void)state;
    assert_true(load_text(""));
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        char bytes[256];
        struct mr_text text;
        struct mr_config_value value =
            mr_topic_config_default(&config, (enum mr_topic_config_id)id);
        struct mr_config_value again;
        mr_text_init(&text, bytes, sizeof bytes);
        if (mr_config_print(&mr_topic_config_rows[id].key, &value, &text)) {
            assert_int_equal(mr_config_parse(&mr_topic_config_rows[id].key, mr_str(bytes), &again),
                             MR_OK);
            assert_int_equal(again.number, value.number);
        }
    }
}

static void test_config_defaults_print_as_the_rows_say(void **state)
{
    (void)state;
    mr_config_defaults(&config);
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        char bytes[256];
        struct mr_text text;
        struct mr_config_value value = mr_config_get(&config, (enum mr_config_id)id);
        mr_text_init(&text, bytes, sizeof bytes);
        bool is_there = mr_config_print(&mr_config_rows[id].key, &value, &text);
        assert_int_equal(is_there, mr_config_rows[id].key.default_text != NULL);
        if (is_there) {
            assert_string_equal(bytes, mr_config_rows[id].key.default_text);
        }
    }
}

static void test_properties_are_read_as_java_reads_them(void **state)
{
    (void)state;
    assert_true(load_text("# comment = 1\n"
                          "  ! another\n"
                          "\n"
                          "num.partitions = 3 \r\n"
                          "log.segment.bytes:2097152\n"
                          "log.dirs /tmp/a\\ b\\u00e9\n"
                          "listeners=PLAINTEXT://:19092,\\\n"
                          "    EXTRA://:19093\n"
                          "node.id=7\nnode.id=8"));
    assert_int_equal(config.num_partitions, 3);
    assert_int_equal(config.log_segment_bytes, 2097152);
    assert_str(config.log_dirs, "/tmp/a b\xc3\xa9");
    assert_str(config.listeners, "PLAINTEXT://:19092,EXTRA://:19093");
    assert_int_equal(config.node_id, 8);
    assert_true(mr_config_is_given(&config, MR_CONFIG_node_id));
    assert_int_equal(warnings, 0);
}

static void test_config_bad_value_names_file_line_value_and_range(void **state)
{
    (void)state;
    assert_false(load_text("node.id=1\n\nlog.segment.bytes=12\n"));
    assert_string_equal(
        said, "server.properties:3: log.segment.bytes=12: expected a whole number from 1048576 "
              "to 2147483647");
    assert_false(load_text("millrace.ack=memory\n"));
    assert_string_equal(said, "server.properties:1: millrace.ack=memory: expected sync or write");
    assert_false(load_text("log.cleanup.policy=delete,burn"));
    assert_string_equal(
        said,
        "server.properties:1: log.cleanup.policy=delete,burn: expected a comma-separated list "
        "of compact or delete");
    assert_false(load_text("auto.create.topics.enable=yes"));
    assert_non_null(strstr(said, "expected true or false"));
    assert_false(load_text("num.partitions=9223372036854775808"));
    assert_false(load_text("num.partitions="));
    assert_false(load_text("log.cleaner.min.cleanable.ratio=1.5"));
}

static void test_config_unknown_key_warns_with_the_nearest_one(void **state)
{
    (void)state;
    assert_true(load_text("log.retension.ms=5\n"));
    assert_int_equal(warnings, 1);
    assert_string_equal(
        said,
        "server.properties:1: log.retension.ms is not a key and has no effect; the nearest one "
        "is log.retention.ms");
    assert_true(load_text("zzzzzzzzzzzzzzzzzzzzzzzzzzz=5\n"));
    assert_string_equal(
        said, "server.properties:1: zzzzzzzzzzzzzzzzzzzzzzzzzzz is not a key and has no effect");
    assert_true(load_text("ssl.keystore.location=/x\n"));
    assert_non_null(strstr(said, "TLS is not served yet"));
}

static void test_config_argument_wins_over_file(void **state)
{
    (void)state;
    struct mr_config_load load = load_begin();
    assert_true(mr_config_load_text(&load, "f", "num.partitions=2", 16));
    assert_true(mr_config_load_set(&load, "num.partitions=4"));
    assert_true(mr_config_load_end(&load));
    assert_int_equal(config.num_partitions, 4);
    load = load_begin();
    assert_false(mr_config_load_set(&load, "num.partitions"));
    assert_false(mr_config_load_set(&load, "num.partitions=x"));
    assert_string_equal(said,
                        "--set num.partitions=x: expected a whole number from 1 to 2147483647");
}

static void test_config_roles_other_than_both_refuse(void **state)
{
    (void)state;
    assert_false(load_text("process.roles=broker"));
    assert_int_equal(refusals, 1);
    assert_false(load_text("process.roles=controller"));
    assert_true(load_text("process.roles=controller, broker"));
}

static void test_config_derived_values_follow_kafka(void **state)
{
    (void)state;
    assert_true(
        load_text("log.retention.minutes=3\nlog.roll.hours=2\nbroker.id=5\nlog.dir=/tmp/q\n"));
    assert_int_equal(config.log_retention_ms, 180000);
    assert_int_equal(config.log_roll_ms, 7200000);
    assert_int_equal(config.node_id, 5);
    assert_str(config.log_dirs, "/tmp/q");
    assert_true(load_text("log.retention.hours=-1\n"));
    assert_int_equal(config.log_retention_ms, -1);
}

static void test_config_log_dirs_are_each_one_directory(void **state)
{
    struct mr_str dirs[MR_DIRS_MAX];
    (void)state;
    assert_true(load_text("log.dirs= /a , /b,/c \n"));
    assert_str(config.log_dirs, "/a,/b,/c");
    assert_str(config.metadata_log_dir, "/a");
    assert_true(load_text("log.dirs=/a,/b,/c\nmetadata.log.dir=/b\n"));
    assert_int_equal(mr_config_log_dirs(&config, dirs), 3);
    assert_str(dirs[0], "/b");
    assert_str(dirs[1], "/a");
    assert_str(dirs[2], "/c");
    assert_false(load_text("log.dirs=/a,/b,/a\n"));
    assert_false(load_text("log.dirs=/a,/b\nmetadata.log.dir=/c\n"));
    assert_false(load_text("log.dirs=,\n"));
}

static void test_config_advertises_what_clients_can_reach(void **state)
{
    char machine[256] = {0};
    char expected[400];
    (void)state;
    assert_int_equal(gethostname(machine, sizeof machine - 1), 0);
    snprintf(expected, sizeof expected, "PLAINTEXT://%s:9092,B://[::1]:7", machine);
    assert_true(load_text("listeners=PLAINTEXT://:9092, B://[::1]:7\n"));
    assert_str(config.advertised_listeners, expected);
    assert_str(config.listeners, "PLAINTEXT://:9092, B://[::1]:7");
    assert_false(load_text("listeners=PLAINTEXT://0.0.0.0:9092\n"));
    assert_true(
        load_text("listeners=PLAINTEXT://0.0.0.0:9092\nadvertised.listeners=PLAINTEXT://h:1\n"));
    assert_str(config.advertised_listeners, "PLAINTEXT://h:1");
}

static void test_config_address_lists_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    assert_true(load_text("millrace.trusted.networks=10.0.0.0/8, fd00::/8\n"
                          "max.connections.per.ip.overrides=10.1.1.1:5, [fd00::1]:6\n"));
    assert_false(load_text("millrace.trusted.networks=10.0.0.0/8,office\n"));
    assert_int_equal(refusals, 1);
    assert_false(load_text("max.connections.per.ip.overrides=10.1.1.1\n"));
    assert_false(load_text("max.connections.per.ip.overrides=host:7\n"));
}

/* Any bytes: the reader ends, and never writes more than it was given room for. */
static void test_properties_random_text_ends(void **state)
{
    (void)state;
    static const char alphabet[] = "ab=: \\u0\n\r#!\t9";
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char text[24];
        char out[24];
        size_t len = (size_t)rand() % sizeof text;
        struct mr_str key;
        struct mr_str value;
        struct mr_properties p = {.text = text, .len = len, .line = 1, .out = out};
        for (size_t at = 0; at < len; at++) {
            text[at] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        }
        while (mr_properties_next(&p, &key, &value)) {
            assert_true((size_t)(p.out - out) <= p.at && p.at <= len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_built_in_values_are_those_of_the_issue),
        cmocka_unit_test(test_config_every_default_is_accepted_by_its_row),
        cmocka_unit_test(test_config_defaults_print_as_the_rows_say),
        cmocka_unit_test(test_properties_are_read_as_java_reads_them),
        cmocka_unit_test(test_config_bad_value_names_file_line_value_and_range),
        cmocka_unit_test(test_config_unknown_key_warns_with_the_nearest_one),
        cmocka_unit_test(test_config_argument_wins_over_file),
        cmocka_unit_test(test_config_roles_other_than_both_refuse),
        cmocka_unit_test(test_config_derived_values_follow_kafka),
        cmocka_unit_test(test_config_log_dirs_are_each_one_directory),
        cmocka_unit_test(test_config_advertises_what_clients_can_reach),
        cmocka_unit_test(test_config_address_lists_that_cannot_be_read_are_refused),
        cmocka_unit_test(test_properties_random_text_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
