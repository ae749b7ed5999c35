/*
 * The coordinator runtime inside the control thread: answers wait for durable records, a failed
 * append drops the state, and a restart brings back what was acknowledged.
 */
#include "control_rig.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "test.h"

static struct mr_rig_store *store;
static struct mr_rig *rig;
static struct mr_arena arena;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, mr_test_memory(16u << 20), 16u << 20);
    store = mr_rig_store_create();
    rig = mr_rig_create(store);
    rig->config.group_initial_rebalance_delay_ms = 0;
    mr_rig_run(rig);
    assert_true(rig->is_listening);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_rig_destroy(rig);
    mr_rig_store_destroy(store);
    return 0;
}

static int16_t find(int8_t key_type, struct mr_str *message)
{
    struct mr_find_coordinator_request request;
    struct mr_find_coordinator_response response;
    struct mr_str key = MR_STR("g");
    MR_DEFAULTS(find_coordinator_request, &request);
    request.key_type = key_type;
    request.coordinator_keys = &key;
    request.coordinator_keys_count = 1;
    mr_rig_call(rig, MR_API_FIND_COORDINATOR, 6, &request, &arena, &response);
    assert_int_equal(response.coordinators_count, 1);
    if (message != NULL) {
        *message = response.coordinators[0].error_message;
    }
    if (response.coordinators[0].error_code == MR_KAFKA_NONE) {
        assert_int_equal(response.coordinators[0].node_id, rig->config.node_id);
    }
    return response.coordinators[0].error_code;
}

/* As a client: until there is a coordinator. */
static void find_until_there(void)
{
    int16_t error = find(0, NULL);
    for (uint32_t tries = 0; error == MR_KAFKA_COORDINATOR_NOT_AVAILABLE && tries < 10; tries++) {
        mr_rig_run(rig);
        error = find(0, NULL);
    }
    assert_int_equal(error, MR_KAFKA_NONE);
    mr_rig_run(rig);
}

static void make_topic(void)
{
    struct mr_create_topics_request request;
    struct mr_create_topics_response response;
    struct mr_create_topics_request_creatable_topic topic;
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
    topic.name = MR_STR("t");
    topic.num_partitions = 2;
    topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    request.timeout_ms = 1000;
    mr_rig_call(rig, MR_API_CREATE_TOPICS, 7, &request, &arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_NONE);
    mr_rig_run(rig);
}

static struct mr_offset_commit_request_partition partition;
static struct mr_offset_commit_request_topic topic;
static struct mr_offset_commit_request commit;

static int32_t send_commit(int64_t offset)
{
    MR_DEFAULTS(offset_commit_request, &commit);
    MR_DEFAULTS(offset_commit_request_partition, &partition);
    partition.partition_index = 1;
    partition.committed_offset = offset;
    partition.committed_leader_epoch = 5;
    partition.committed_metadata = MR_STR("note");
    topic = (struct mr_offset_commit_request_topic){
        .name = MR_STR("t"), .partitions = &partition, .partitions_count = 1};
    commit.group_id = MR_STR("g");
    commit.topics = &topic;
    commit.topics_count = 1;
    return mr_rig_send(rig, MR_API_OFFSET_COMMIT, 9, &commit);
}

static int16_t commit_error(int32_t number)
{
    struct mr_offset_commit_response response;
    struct mr_reader reader;
    const struct mr_rig_reply *reply = mr_rig_reply(rig, number);
    assert_non_null(reply);
    mr_reader_init_bytes(&reader, reply->bytes, reply->len);
    assert_int_equal(mr_msg_decode(&mr_msg_offset_commit_response, 9, &reader, &arena, &response),
                     MR_OK);
    return response.topics[0].partitions[0].error_code;
}

static int64_t fetch(void)
{
    struct mr_offset_fetch_request request;
    struct mr_offset_fetch_response response;
    int32_t index = 1;
    struct mr_offset_fetch_request_topics topics = {
        .name = MR_STR("t"), .partition_indexes = &index, .partition_indexes_count = 1};
    struct mr_offset_fetch_request_group group;
    MR_DEFAULTS(offset_fetch_request, &request);
    MR_DEFAULTS(offset_fetch_request_group, &group);
    group.group_id = MR_STR("g");
    group.topics = &topics;
    group.topics_count = 1;
    request.groups = &group;
    request.groups_count = 1;
    mr_rig_call(rig, MR_API_OFFSET_FETCH, 9, &request, &arena, &response);
    assert_int_equal(response.groups[0].error_code, MR_KAFKA_NONE);
    int64_t offset = response.groups[0].topics[0].partitions[0].committed_offset;
    if (offset >= 0) {
        assert_int_equal(response.groups[0].topics[0].partitions[0].committed_leader_epoch, 5);
    }
    return offset;
}

static void test_coord_find_makes_the_offsets_topic(void **state)
{
    (void)state;
    assert_int_equal(find(0, NULL), MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
    find_until_there();
    assert_non_null(mr_rig_log(store, "__consumer_offsets", 49));
}

static void test_coord_find_transaction_is_refused_with_a_message(void **state)
{
    (void)state;
    struct mr_str message;
    assert_int_equal(find(1, &message), MR_KAFKA_INVALID_REQUEST);
    assert_true(message.len > 0);
}

static void test_coord_commit_is_answered_when_durable(void **state)
{
    (void)state;
    find_until_there();
    make_topic();
    store->is_holding = true;
    int32_t number = send_commit(42);
    mr_rig_run(rig);
    assert_null(mr_rig_reply(rig, number));
    store->is_holding = false;
    mr_rig_release(rig);
    mr_rig_run(rig);
    assert_int_equal(commit_error(number), MR_KAFKA_NONE);
    assert_int_equal(fetch(), 42);
}

static void test_coord_restart_brings_commits_back(void **state)
{
    (void)state;
    find_until_there();
    make_topic();
    for (int64_t offset = 1; offset <= 20; offset++) {
        int32_t number = send_commit(offset);
        mr_rig_run(rig);
        assert_int_equal(commit_error(number), MR_KAFKA_NONE);
    }
    mr_rig_destroy(rig);
    rig = mr_rig_create(store);
    mr_rig_run(rig);
    assert_int_equal(fetch(), 20);
}

static void test_coord_failed_append_takes_nothing_back_and_keeps_nothing(void **state)
{
    (void)state;
    find_until_there();
    make_topic();
    int32_t number = send_commit(7);
    mr_rig_run(rig);
    assert_int_equal(commit_error(number), MR_KAFKA_NONE);
    store->append_err = MR_ERR_NOT_LEADER;
    number = send_commit(8);
    mr_rig_run(rig);
    assert_int_equal(commit_error(number), MR_KAFKA_NOT_COORDINATOR);
    store->append_err = MR_OK;
    rig->now.mono_ns += 2 * MR_NS_PER_S;
    rig->now.unix_ms += 2000;
    mr_rig_run(rig);
    assert_int_equal(fetch(), 7);
}

static void test_coord_stop_answers_who_waits(void **state)
{
    (void)state;
    struct mr_join_group_request join;
    struct mr_join_group_request_protocol protocol = {
        .name = MR_STR("range"), .metadata = {.data = (const uint8_t *)"", .len = 0}};
    rig->config.group_initial_rebalance_delay_ms = 3000;
    find_until_there();
    MR_DEFAULTS(join_group_request, &join);
    join.group_id = MR_STR("g");
    join.session_timeout_ms = 10000;
    join.rebalance_timeout_ms = 60000;
    join.group_instance_id = MR_STR("i");
    join.protocol_type = MR_STR("consumer");
    join.protocols = &protocol;
    join.protocols_count = 1;
    mr_rig_destroy(rig);
    rig = mr_rig_create(store);
    mr_rig_run(rig);
    int32_t number = mr_rig_send(rig, MR_API_JOIN_GROUP, 9, &join);
    mr_rig_run(rig);
    assert_null(mr_rig_reply(rig, number));
    mr_control_stop(rig->control, rig->now);
    mr_rig_run(rig);
    assert_non_null(mr_rig_reply(rig, number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_coord_find_makes_the_offsets_topic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coord_find_transaction_is_refused_with_a_message,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_coord_commit_is_answered_when_durable, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_coord_restart_brings_commits_back, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_coord_failed_append_takes_nothing_back_and_keeps_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coord_stop_answers_who_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
