/* controller: topics and partitions: made, extended, deleted, opened, and their directories, against a scripted store. */
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/controller.h"
#include "metadata/image.h"
#include "metadata/local_logs.h"
#include "test.h"

static void test_create_topic_is_published_open_before_it_is_answered(void **state)
{
    struct fixture                                         *f = *state;
    struct mr_create_topics_response_creatable_topic_result result = create(f, "orders", 4, 1);
    assert_int_equal(result.error_code, 0);
    assert_int_equal(result.num_partitions, 4);
    assert_int_equal(result.replication_factor, 1);
    assert_int_equal(result.configs_count, MR_TOPIC_CONFIG_COUNT);
    const struct mr_image_topic *topic = find(f, "orders");
    assert_non_null(topic);
    assert_true(mr_uuid_equal(&topic->id, &result.topic_id));
    assert_ptr_equal(mr_image_topic_by_id(f->rig->image, &topic->id), topic);
    uint32_t per_core[MR_RIG_CORES] = {0};
    for (uint32_t index = 0; index < 4; index++) {
        const struct mr_rig_log *log = mr_rig_log(f->store, "orders", (int32_t)index);
        assert_non_null(log);
        assert_int_equal(topic->partitions[index].log_id, log->log_id);
        assert_int_equal(topic->partitions[index].storage_core, log->core);
        assert_int_equal(topic->partitions[index].isr_count, 1);
        per_core[log->core]++;
    }
    assert_int_equal(per_core[0], 2);
    assert_int_equal(per_core[1], 2);
}

static void test_create_topic_is_not_seen_before_it_is_durable(void **state)
{
    struct fixture                                 *f = *state;
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("later"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request request = {.topics = &topic, .topics_count = 1};
    f->store->is_holding = true;
    int32_t number = mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    assert_null(mr_rig_reply(f->rig, number));
    assert_null(find(f, "later"));
    assert_null(mr_rig_log(f->store, "later", 0));
    mr_rig_release(f->rig);
    mr_rig_run(f->rig);
    assert_non_null(mr_rig_reply(f->rig, number));
    assert_non_null(find(f, "later"));
}

static void test_create_topic_refusals(void **state)
{
    struct fixture *f = *state;
    static char     long_name[251];
    memset(long_name, 'a', 250);
    assert_int_equal(create(f, "a.b", -1, -1).error_code, 0);
    static const struct {
        const char *name;
        int32_t     partitions;
        int16_t     replicas;
        int16_t     error;
    } cases[] = {
        {"a.b", 1, 1, MR_KAFKA_TOPIC_ALREADY_EXISTS},
        {"a_b", 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {"", 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {".", 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {"..", 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {"a b", 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {long_name, 1, 1, MR_KAFKA_INVALID_TOPIC_EXCEPTION},
        {"__cluster_metadata", 1, 1, MR_KAFKA_INVALID_REQUEST},
        {"c", 0, 1, MR_KAFKA_INVALID_PARTITIONS},
        {"c", -2, 1, MR_KAFKA_INVALID_PARTITIONS},
        {"c", 1, 0, MR_KAFKA_INVALID_REPLICATION_FACTOR},
        {"c", 1, 3, MR_KAFKA_INVALID_REPLICATION_FACTOR},
        {"c", 10001, 1, MR_KAFKA_POLICY_VIOLATION},
        {"c", 10000, 1, MR_KAFKA_POLICY_VIOLATION}, /* with its topic record 10,001 */
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_create_topics_response_creatable_topic_result result =
            create(f, cases[index].name, cases[index].partitions, cases[index].replicas);
        assert_int_equal(result.error_code, cases[index].error);
        assert_true(result.error_message.len > 0);
    }
    assert_int_equal(f->rig->image->topic_count, 1);
}

static void test_create_topic_with_manual_assignment(void **state)
{
    struct fixture                                              *f = *state;
    int32_t                                                      here = 1;
    int32_t                                                      elsewhere = 9;
    struct mr_create_topics_request_creatable_replica_assignment assignments[2] = {
        {.partition_index = 1, .broker_ids = &here, .broker_ids_count = 1},
        {.partition_index = 0, .broker_ids = &here, .broker_ids_count = 1},
    };
    struct mr_create_topics_request_creatable_topic topic = {.name = MR_STR("manual"),
                                                             .num_partitions = -1,
                                                             .replication_factor = -1,
                                                             .assignments = assignments,
                                                             .assignments_count = 2};
    struct mr_create_topics_request                 request = {.topics = &topic, .topics_count = 1};
    struct mr_create_topics_response                response;
    assignments[0].partition_index = 2; /* a hole */
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REPLICA_ASSIGNMENT);
    assignments[0].partition_index = 0; /* twice */
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REPLICA_ASSIGNMENT);
    assignments[0].partition_index = 1;
    assignments[0].broker_ids = &elsewhere;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REPLICA_ASSIGNMENT);
    assignments[0].broker_ids = &here;
    topic.num_partitions = 2;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REQUEST);
    topic.num_partitions = -1;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, 0);
    assert_int_equal(find(f, "manual")->partition_count, 2);
}

static void test_create_topics_duplicates_and_validate_only(void **state)
{
    struct fixture                                 *f = *state;
    struct mr_create_topics_request_creatable_topic topics[3] = {
        {.name = MR_STR("two"), .num_partitions = 1, .replication_factor = 1},
        {.name = MR_STR("one"), .num_partitions = 1, .replication_factor = 1},
        {.name = MR_STR("two"), .num_partitions = 1, .replication_factor = 1},
    };
    struct mr_create_topics_request request = {
        .topics = topics, .topics_count = 3, .validate_only = true};
    struct mr_create_topics_response response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, 2);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(response.topics[1].error_code, 0);
    assert_int_equal(f->rig->image->topic_count, 0);
    request.validate_only = false;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(f->rig->image->topic_count, 1);
    assert_non_null(find(f, "one"));
}

/* Compared each with each this would be 10^10 comparisons. */
static void test_create_topics_with_very_many_names(void **state)
{
    struct fixture                                  *f = *state;
    int32_t                                          count = 100000;
    struct mr_create_topics_request_creatable_topic *topics = calloc((size_t)count, sizeof *topics);
    for (int32_t index = 0; index < count; index++) {
        topics[index] = (struct mr_create_topics_request_creatable_topic){
            .name = index % 2 == 0 ? MR_STR("same") : MR_STR("a b"),
            .num_partitions = 1,
            .replication_factor = 1};
    }
    struct mr_create_topics_request  request = {.topics = topics, .topics_count = count};
    struct mr_create_topics_response response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, 2);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(response.topics[1].error_code, MR_KAFKA_INVALID_REQUEST);
    free(topics);
}

static void test_create_topics_oldest_version(void **state)
{
    struct fixture                                 *f = *state;
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("old"), .num_partitions = 2, .replication_factor = 1};
    struct mr_create_topics_request  request = {.topics = &topic, .topics_count = 1};
    struct mr_create_topics_response response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 2, &request, &f->arena, &response);
    assert_int_equal(response.topics[0].error_code, 0);
    assert_int_equal(find(f, "old")->partition_count, 2);
}

static void test_open_failure_is_answered_without_leader_log_and_tried_again(void **state)
{
    struct fixture *f = *state;
    f->store->open_err = MR_ERR_DIR_FULL;
    assert_int_equal(create(f, "full", 2, 1).error_code, 0);
    assert_int_equal(find(f, "full")->partitions[0].log_id, 0);
    f->store->open_err = MR_OK;
    f->rig->now.mono_ns += 2 * MR_NS_PER_S;
    mr_rig_run(f->rig);
    assert_int_not_equal(find(f, "full")->partitions[0].log_id, 0);
    assert_int_not_equal(find(f, "full")->partitions[1].log_id, 0);
}

static void test_create_partitions(void **state)
{
    struct fixture *f = *state;
    create(f, "grow", 2, 1);
    struct mr_create_partitions_request_create_partitions_topic topic = {
        .name = MR_STR("grow"), .count = 5, .assignments_count = -1};
    struct mr_create_partitions_request  request = {.topics = &topic, .topics_count = 1};
    struct mr_create_partitions_response response;
    mr_rig_call(f->rig, MR_API_CREATE_PARTITIONS, 3, &request, &f->arena, &response);
    assert_int_equal(response.results[0].error_code, 0);
    assert_int_equal(find(f, "grow")->partition_count, 5);
    assert_int_not_equal(find(f, "grow")->partitions[4].log_id, 0);
    mr_rig_call(f->rig, MR_API_CREATE_PARTITIONS, 0, &request, &f->arena, &response);
    assert_int_equal(response.results[0].error_code, MR_KAFKA_INVALID_PARTITIONS);
    topic.count = 4;
    mr_rig_call(f->rig, MR_API_CREATE_PARTITIONS, 3, &request, &f->arena, &response);
    assert_int_equal(response.results[0].error_code, MR_KAFKA_INVALID_PARTITIONS);
    topic.name = MR_STR("nobody");
    mr_rig_call(f->rig, MR_API_CREATE_PARTITIONS, 3, &request, &f->arena, &response);
    assert_int_equal(response.results[0].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
}

static void test_delete_topic_drops_its_logs_and_a_new_one_has_another_id(void **state)
{
    struct fixture *f = *state;
    create(f, "again", 3, 1);
    struct mr_uuid id = find(f, "again")->id;
    assert_int_equal(delete_by_name(f, "again"), 0);
    assert_null(find(f, "again"));
    assert_null(mr_image_topic_by_id(f->rig->image, &id));
    assert_int_equal(f->store->dropped, 3);
    assert_int_equal(delete_by_name(f, "again"), MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(create(f, "again", 1, 1).error_code, 0);
    assert_false(mr_uuid_equal(&find(f, "again")->id, &id));
    restart(f);
    assert_int_equal(f->rig->image->topic_count, 1);
    assert_int_equal(find(f, "again")->partition_count, 1);
}

static void test_delete_and_create_in_one_turn_keeps_the_order(void **state)
{
    struct fixture *f = *state;
    create(f, "flip", 2, 1);
    struct mr_delete_topics_request_delete_topic_state gone = {.name = MR_STR("flip")};
    struct mr_delete_topics_request                 request = {.topics = &gone, .topics_count = 1};
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("flip"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request make = {.topics = &topic, .topics_count = 1};
    int32_t                         first = mr_rig_send(f->rig, MR_API_DELETE_TOPICS, 6, &request);
    int32_t                         second = mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &make);
    mr_rig_run(f->rig);
    assert_non_null(mr_rig_reply(f->rig, first));
    assert_non_null(mr_rig_reply(f->rig, second));
    assert_int_equal(find(f, "flip")->partition_count, 1);
    assert_int_not_equal(find(f, "flip")->partitions[0].log_id, 0);
    assert_int_equal(f->store->dropped, 2);
}

/* The record of the deletion is durable, the drops are not: the next start finishes the work, and
 * touches nothing that no record explains. */
static void test_deletion_cut_short_by_a_crash_is_finished_at_the_next_start(void **state)
{
    struct fixture *f = *state;
    create(f, "cut-short", 2, 1);
    create(f, "stays", 1, 1);
    f->store->is_holding = true;
    struct mr_delete_topics_request_delete_topic_state gone = {.name = MR_STR("cut-short")};
    struct mr_delete_topics_request request = {.topics = &gone, .topics_count = 1};
    (void)mr_rig_send(f->rig, MR_API_DELETE_TOPICS, 6, &request);
    mr_rig_run(f->rig);
    f->store->is_holding = false;
    assert_int_equal(f->store->dropped, 0);
    static const char *const paths[] = {"/data/cut-short-0/x", "/data/cut-short-1/x",
                                        "/data/stays-0/x",     "/data/foreign-0/x",
                                        "/data/stays-7/x",     "/data/no.number/x"};
    for (size_t index = 0; index < sizeof paths / sizeof paths[0]; index++) {
        mr_sim_fs_put(f->store->fs, paths[index], "x", 1);
    }
    restart(f);
    assert_null(find(f, "cut-short"));
    assert_int_equal(f->store->dropped, 2);
    assert_null(mr_rig_log(f->store, "cut-short", 0));
    assert_null(mr_rig_log(f->store, "cut-short", 1));
    assert_non_null(mr_rig_log(f->store, "stays", 0));
    assert_null(mr_rig_log(f->store, "foreign", 0));
}

/* The name was removed twice and made a third time: the directory left behind is the first one's, and in the way. */
static void test_directory_of_an_older_topic_of_the_name_is_dropped(void **state)
{
    struct fixture *f = *state;
    create(f, "again", 1, 1);
    struct mr_rig_log left = *mr_rig_log(f->store, "again", 0);
    assert_int_equal(delete_by_name(f, "again"), 0);
    create(f, "again", 1, 1);
    assert_int_equal(delete_by_name(f, "again"), 0);
    f->store->open_err = MR_ERR_IO; /* the third one has no log yet when power goes */
    create(f, "again", 1, 1);
    f->store->open_err = MR_OK;
    f->store->logs[MR_RIG_LOGS - 1] = left;
    f->store->has_stray = true;
    mr_sim_fs_put(f->store->fs, "/data/again-0/x", "x", 1);
    restart(f);
    f->rig->now.mono_ns += 2 * MR_NS_PER_S; /* the open that failed is tried again */
    mr_rig_run(f->rig);
    const struct mr_rig_log *log = mr_rig_log(f->store, "again", 0);
    assert_non_null(log);
    assert_int_not_equal(log->log_id, left.log_id);
    assert_int_equal(find(f, "again")->partitions[0].log_id, log->log_id);
}

/* Time passes for the disk, which is slow. */
static void disk_passes(struct fixture *f, uint64_t ns)
{
    mr_sim_fs_set_clock(f->store->fs, mr_sim_fs_clock(f->store->fs) + ns);
    mr_rig_run(f->rig);
}

/* What was left behind is looked for while the log of the new topic of that name is being opened, which it is in the way of. */
static void test_directory_in_the_way_of_a_log_being_opened_is_dropped(void **state)
{
    struct fixture *f = *state;
    create(f, "again", 1, 1);
    struct mr_rig_log left = *mr_rig_log(f->store, "again", 0);
    assert_int_equal(delete_by_name(f, "again"), 0);
    f->store->logs[MR_RIG_LOGS - 1] = left;
    f->store->has_stray = true;
    mr_sim_fs_put(f->store->fs, "/data/again-0/x", "x", 1);
    mr_sim_fs_latency(f->store->fs, MR_NS_PER_MS, MR_NS_PER_MS, false);
    restart(f);
    while (mr_control_state(f->rig->control) != MR_CONTROL_SERVING) {
        disk_passes(f, MR_NS_PER_MS);
    }
    f->store->is_holding_opens = true;
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("again"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request request = {.topics = &topic, .topics_count = 1};
    (void)mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    assert_int_equal(f->rig->held_count, 1);
    for (int count = 0; count < 10; count++) {
        disk_passes(f, MR_NS_PER_MS);
    }
    mr_rig_release(f->rig);
    mr_rig_run(f->rig);
    f->rig->now.mono_ns += 2 * MR_NS_PER_S;
    mr_rig_run(f->rig);
    assert_non_null(find(f, "again"));
    assert_int_not_equal(find(f, "again")->partitions[0].log_id, 0);
    assert_int_not_equal(find(f, "again")->partitions[0].log_id, left.log_id);
}

static void test_delete_topics_by_id_and_mistakes(void **state)
{
    struct fixture *f = *state;
    create(f, "byid", 1, 1);
    struct mr_uuid                                     id = find(f, "byid")->id;
    struct mr_delete_topics_request_delete_topic_state topics[5] = {
        {.name = MR_STR_NULL, .topic_id = {.bytes = {9}}},
        {.name = MR_STR_NULL},
        {.name = MR_STR("byid"), .topic_id = id},
        {.name = MR_STR("dup")},
        {.name = MR_STR("dup")},
    };
    struct mr_delete_topics_request  request = {.topics = topics, .topics_count = 5};
    struct mr_delete_topics_response response;
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 6, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 4);
    int16_t codes[] = {MR_KAFKA_INVALID_REQUEST, MR_KAFKA_INVALID_REQUEST,
                       MR_KAFKA_UNKNOWN_TOPIC_ID, MR_KAFKA_INVALID_REQUEST};
    for (int index = 0; index < 4; index++) {
        assert_int_equal(response.responses[index].error_code, codes[index]);
    }
    topics[0] =
        (struct mr_delete_topics_request_delete_topic_state){.name = MR_STR_NULL, .topic_id = id};
    request.topics_count = 1;
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 6, &request, &f->arena, &response);
    assert_int_equal(response.responses[0].error_code, 0);
    assert_true(mr_str_equal(response.responses[0].name, MR_STR("byid")));
    struct mr_str                   name = MR_STR("byid");
    struct mr_delete_topics_request old = {.topic_names = &name, .topic_names_count = 1};
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 1, &old, &f->arena, &response);
    assert_int_equal(response.responses[0].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create_topic_is_published_open_before_it_is_answered),
        TEST(test_create_topic_is_not_seen_before_it_is_durable),
        TEST(test_create_topic_refusals),
        TEST(test_create_topic_with_manual_assignment),
        TEST(test_create_topics_duplicates_and_validate_only),
        TEST(test_create_topics_with_very_many_names),
        TEST(test_create_topics_oldest_version),
        TEST(test_open_failure_is_answered_without_leader_log_and_tried_again),
        TEST(test_create_partitions),
        TEST(test_delete_topic_drops_its_logs_and_a_new_one_has_another_id),
        TEST(test_delete_and_create_in_one_turn_keeps_the_order),
        TEST(test_deletion_cut_short_by_a_crash_is_finished_at_the_next_start),
        TEST(test_directory_of_an_older_topic_of_the_name_is_dropped),
        TEST(test_directory_in_the_way_of_a_log_being_opened_is_dropped),
        TEST(test_delete_topics_by_id_and_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
