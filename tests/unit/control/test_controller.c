/*
 * controller: a broker's life and its decisions against a scripted data core and store: start,
 * topics, partitions, configs, producer ids, deletion, restart, stop. What a restart shows is what
 * replay makes.
 */
#include "control_private.h"
#include "control_rig.h"
#include "metadata/controller.h"
#include "metadata/image.h"
#include "metadata/local_logs.h"
#include "metadata/meta_log.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "random_msg.h"
#include "test.h"

struct fixture {
    struct mr_rig_store *store;
    struct mr_rig       *rig;
    struct mr_arena      arena;
};

static void restart(struct fixture *f)
{
    if (f->rig != NULL) {
        mr_rig_destroy(f->rig);
    }
    f->rig = mr_rig_create(f->store);
    mr_rig_run(f->rig);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->store = mr_rig_store_create();
    mr_arena_init(&f->arena, mr_test_memory(64 << 20), 64 << 20);
    restart(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mr_rig_destroy(f->rig);
    mr_rig_store_destroy(f->store);
    free(f);
    return 0;
}

static struct mr_create_topics_response_creatable_topic_result create(struct fixture *f,
                                                                      const char     *name,
                                                                      int32_t         partitions,
                                                                      int16_t         replicas)
{
    struct mr_create_topics_request_creatable_topic topic = {
        .name = mr_str(name), .num_partitions = partitions, .replication_factor = replicas};
    struct mr_create_topics_request request = {
        .topics = &topic, .topics_count = 1, .timeout_ms = 1000};
    struct mr_create_topics_response response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, 1);
    return response.topics[0];
}

static const struct mr_image_topic *find(struct fixture *f, const char *name)
{
    return mr_image_topic_by_name(f->rig->image, mr_str(name));
}

/* ---- start and stop ---- */

static void test_start_empty_directory_serves_as_its_own_controller(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    assert_true(f->rig->is_listening);
    const struct mr_image *image = f->rig->image;
    assert_int_equal(image->broker_count, 1);
    assert_false(image->brokers[0].is_fenced);
    assert_int_equal(image->brokers[0].port, 9092);
    assert_true(mr_str_equal(image->brokers[0].host, MR_STR("127.0.0.1")));
    assert_int_equal(image->controller_id, 1);
    assert_int_equal(image->feature_count, 1);
    assert_int_equal(image->features[0].level, 33);
    char    line[512] = "";
    int64_t len = mr_sim_fs_get(f->store->fs, "/data/__cluster_metadata-0/quorum-state", line,
                                sizeof line - 1);
    assert_true(len > 0);
    assert_string_equal(
        line, "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,"
              "\"appliedOffset\":0,\"currentVoters\":[{\"voterId\":1}],\"data_version\":0}");
}

/* LEADER_CHANGE; Begin, FeatureLevel, End; RegisterController, RegisterBroker; unfence. */
static void test_start_empty_directory_writes_the_records_of_a_controller(void **state)
{
    struct fixture          *f = *state;
    const struct mr_rig_log *log = mr_rig_log(f->store, "__cluster_metadata", 0);
    static const int16_t     expected[] = {-2,
                                           MR_KEY_begin_transaction_record,
                                           MR_KEY_feature_level_record,
                                           MR_KEY_end_transaction_record,
                                           MR_KEY_register_controller_record,
                                           MR_KEY_register_broker_record,
                                           MR_KEY_broker_registration_change_record};
    size_t                   index = 0;
    for (size_t at = 0; at < log->len;) {
        struct mr_batch       batch;
        struct mr_record_iter iter;
        struct mr_record      record;
        mr_batch_header_load(log->bytes + at, &batch);
        assert_int_equal(batch.leader_epoch, 1);
        assert_int_equal(
            mr_record_iter_init(&iter, log->bytes + at, mr_batch_bytes(&batch), &f->arena), MR_OK);
        while (mr_record_iter_next(&iter, &record) == MR_OK) {
            int16_t id = record.value.data[1];
            if ((batch.attributes & MR_BATCH_CONTROL) != 0) {
                id = (int16_t)-record.key.data[3];
                assert_int_equal(record.key.len, 4);
            }
            assert_true(index < sizeof expected / sizeof expected[0]);
            assert_int_equal(id, expected[index]);
            assert_int_equal(record.offset, index);
            index++;
        }
        at += mr_batch_bytes(&batch);
    }
    assert_int_equal(index, sizeof expected / sizeof expected[0]);
    assert_int_equal(f->rig->control->meta->brokers[0].epoch, 5);
}

static void test_restart_takes_the_next_epoch_and_keeps_topics(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "kept", 3, 1).error_code, 0);
    struct mr_uuid id = find(f, "kept")->id;
    restart(f);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    assert_int_equal(f->rig->control->meta_log->epoch, 2);
    assert_non_null(find(f, "kept"));
    assert_true(mr_uuid_equal(&find(f, "kept")->id, &id));
    assert_int_equal(find(f, "kept")->partition_count, 3);
    for (uint32_t index = 0; index < 3; index++) {
        assert_int_not_equal(find(f, "kept")->partitions[index].log_id, 0);
        assert_int_equal(find(f, "kept")->partitions[index].leader, 1);
    }
}

static void test_epoch_is_above_the_log_when_quorum_state_is_lost(void **state)
{
    struct fixture *f = *state;
    restart(f);
    restart(f);
    assert_int_equal(f->rig->control->meta_log->epoch, 3);
    mr_sim_fs_remove(f->store->fs, "/data/__cluster_metadata-0/quorum-state");
    restart(f);
    assert_int_equal(f->rig->control->meta_log->epoch, 4);
}

static void test_stop_drains_then_closes_the_last_core_with_the_marker(void **state)
{
    struct fixture *f = *state;
    create(f, "t", 1, 1);
    mr_control_stop(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_STOPPED);
    assert_int_equal(f->rig->drains, 1);
    assert_int_equal(f->store->stopped, MR_RIG_CORES);
    assert_true(f->store->has_marker);
}

/* One change is being written and another waits for it: the cores are stopped when both are written. */
static void test_stop_waits_for_changes_that_wait(void **state)
{
    struct fixture                                 *f = *state;
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("first"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request request = {.topics = &topic, .topics_count = 1};
    f->store->is_holding = true;
    (void)mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    topic.name = MR_STR("second");
    (void)mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    mr_control_stop(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    for (uint32_t change = 0; change < 2; change++) {
        assert_int_equal(f->store->stopped, 0);
        assert_int_equal(f->rig->held_count, 1);
        mr_rig_release(f->rig);
        f->store->is_holding = true;
        mr_rig_run(f->rig);
    }
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_STOPPED);
    assert_true(f->store->has_marker);
}

static void test_metadata_write_failure_ends_the_broker(void **state)
{
    struct fixture *f = *state;
    f->store->append_err = MR_ERR_IO;
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("x"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request request = {.topics = &topic, .topics_count = 1};
    int32_t                         number = mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    assert_true(mr_rig_reply(f->rig, number)->is_close);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_FAILED);
    assert_true(strlen(mr_control_why(f->rig->control)) > 0);
    assert_null(find(f, "x"));
}

/* A log directory that cannot be written: what is open is answered first, then the broker ends with a reason. */
static void test_offline_directory_drains_then_ends_the_broker(void **state)
{
    struct fixture     *f = *state;
    struct mr_plane_msg msg = {.kind = MR_PLANE_OFFLINE, .u.err = MR_ERR_IO};
    f->store->append_err = MR_ERR_DIR_OFFLINE;
    mr_port_send(&f->rig->storage_ports[0], mr_endpoint_control(&f->rig->endpoints), &msg);
    mr_rig_run(f->rig);
    assert_int_equal(f->rig->drains, 1);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_FAILED);
    assert_non_null(strstr(mr_control_why(f->rig->control), "offline"));
    assert_int_equal(f->store->stopped, 0); /* no marker, no clean stop */
}

/* The core says that it is offline, then answers what it could not write: clients are still served for a moment. */
static void test_change_that_was_not_written_is_not_published(void **state)
{
    struct fixture                                 *f = *state;
    struct mr_plane_msg                             msg = {.kind = MR_PLANE_OFFLINE, .u.err = MR_ERR_IO};
    struct mr_create_topics_request_creatable_topic topic = {
        .name = MR_STR("x"), .num_partitions = 1, .replication_factor = 1};
    struct mr_create_topics_request request = {.topics = &topic, .topics_count = 1};
    f->store->append_err = MR_ERR_DIR_OFFLINE;
    f->store->is_holding = true;
    (void)mr_rig_send(f->rig, MR_API_CREATE_TOPICS, 7, &request);
    mr_rig_run(f->rig);
    mr_port_send(&f->rig->storage_ports[0], mr_endpoint_control(&f->rig->endpoints), &msg);
    mr_rig_release(f->rig);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_FAILED);
    assert_null(find(f, "x"));
}

/* ---- topics ---- */

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

static int16_t delete_by_name(struct fixture *f, const char *name)
{
    struct mr_delete_topics_request_delete_topic_state topic = {.name = mr_str(name)};
    struct mr_delete_topics_request  request = {.topics = &topic, .topics_count = 1};
    struct mr_delete_topics_response response;
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 6, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 1);
    return response.responses[0].error_code;
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

/* ---- configs ---- */

static int16_t alter(struct fixture *f, int8_t type, const char *resource, const char *name,
                     int8_t op, const char *value)
{
    struct mr_incremental_alter_configs_request_alterable_config config = {
        .name = mr_str(name),
        .config_operation = op,
        .value = value == NULL ? MR_STR_NULL : mr_str(value)};
    struct mr_incremental_alter_configs_request_alter_configs_resource target = {
        .resource_type = type,
        .resource_name = mr_str(resource),
        .configs = &config,
        .configs_count = 1};
    struct mr_incremental_alter_configs_request  request = {.resources = &target,
                                                            .resources_count = 1};
    struct mr_incremental_alter_configs_response response;
    mr_rig_call(f->rig, MR_API_INCREMENTAL_ALTER_CONFIGS, 1, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 1);
    return response.responses[0].error_code;
}

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

/* ---- producer ids ---- */

static int64_t producer_id(struct fixture *f)
{
    struct mr_init_producer_id_request request = {
        .transactional_id = MR_STR_NULL, .producer_id = -1, .producer_epoch = -1};
    struct mr_init_producer_id_response response;
    mr_rig_call(f->rig, MR_API_INIT_PRODUCER_ID, 5, &request, &f->arena, &response);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(response.producer_epoch, 0);
    return response.producer_id;
}

static void test_producer_ids_rise_and_are_never_given_twice(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(producer_id(f), 0);
    assert_int_equal(producer_id(f), 1);
    restart(f);
    assert_int_equal(producer_id(f), 1000);
    assert_int_equal(producer_id(f), 1001);
}

static void test_half_a_producer_id_is_refused(void **state)
{
    struct fixture                    *f = *state;
    struct mr_init_producer_id_request request = {
        .transactional_id = MR_STR_NULL, .producer_id = 5, .producer_epoch = -1};
    struct mr_init_producer_id_response response;
    mr_rig_call(f->rig, MR_API_INIT_PRODUCER_ID, 3, &request, &f->arena, &response);
    assert_int_equal(response.error_code, MR_KAFKA_INVALID_REQUEST);
}

/* ---- the rest ---- */

static void test_offsets_topic_is_made_once_with_its_configs(void **state)
{
    struct fixture *f = *state;
    mr_control_want_offsets_topic(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    const struct mr_image_topic *topic = find(f, "__consumer_offsets");
    assert_non_null(topic);
    assert_int_equal(topic->partition_count, 50);
    assert_true(topic->is_internal && topic->config.is_cleanup_compact);
    assert_int_equal(topic->config.segment_bytes, 104857600);
    int64_t end = mr_rig_log(f->store, "__cluster_metadata", 0)->end_offset;
    mr_control_want_offsets_topic(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    assert_int_equal(mr_rig_log(f->store, "__cluster_metadata", 0)->end_offset, end);
}

static void test_malformed_request_closes_the_connection(void **state)
{
    struct fixture *f = *state;
    mr_rig_send_bytes(f->rig, MR_API_CREATE_TOPICS, 7, "\xff\xff\xff\xff\x7f", 5);
    mr_rig_run(f->rig);
    assert_true(f->rig->replies[f->rig->reply_count - 1].is_close);
    assert_int_equal(f->rig->control->requests_open, 0);
}

static void test_images_are_kept_until_the_data_core_is_done(void **state)
{
    struct fixture *f = *state;
    create(f, "first", 1, 1);
    f->rig->is_keeping_images = true;
    const struct mr_image       *old = f->rig->image;
    const struct mr_image_topic *topic = find(f, "first");
    assert_int_equal(delete_by_name(f, "first"), 0);
    for (int index = 0; index < 5; index++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", index);
        create(f, name, 1, 1);
    }
    /* Neither the image nor the removed topic was written over. */
    assert_int_equal(old->topic_count, 1);
    assert_ptr_equal(old->topics[0], topic);
    assert_true(mr_str_equal(topic->name, MR_STR("first")));
    assert_int_equal(f->rig->image->topic_count, 5);
}

static void test_many_topics_restart_and_heap_returns(void **state)
{
    struct fixture *f = *state;
    char            name[16];
    for (int index = 0; index < 200; index++) {
        snprintf(name, sizeof name, "topic-%d", (index * 37) % 200);
        assert_int_equal(create(f, name, 2, 1).error_code, 0);
        f->arena.used = 0;
        mr_rig_forget(f->rig);
    }
    restart(f);
    assert_int_equal(f->rig->image->topic_count, 200);
    for (uint32_t index = 1; index < 200; index++) {
        assert_true(mr_str_compare(f->rig->image->topics[index - 1]->name,
                                   f->rig->image->topics[index]->name) < 0);
        assert_true(memcmp(f->rig->image->topics_by_id[index - 1]->id.bytes,
                           f->rig->image->topics_by_id[index]->id.bytes, 16) < 0);
    }
    size_t used = f->rig->control->heap.used_bytes;
    create(f, "extra", 1, 1);
    delete_by_name(f, "extra");
    size_t first = f->rig->control->heap.used_bytes;
    for (int index = 0; index < 20; index++) {
        create(f, "extra", 3, 1);
        delete_by_name(f, "extra");
    }
    /* What stays: tables that grew once; not something per topic. */
    assert_true(first - used < 65536);
    assert_int_equal(f->rig->control->heap.used_bytes, first);
}

/* Anything that the protocol can say gets one answer. */
static void test_random_requests_of_every_kind_are_answered(void **state)
{
    static const int16_t keys[] = {
        MR_API_CREATE_TOPICS,    MR_API_DELETE_TOPICS,     MR_API_CREATE_PARTITIONS,
        MR_API_ALTER_CONFIGS,    MR_API_INIT_PRODUCER_ID,  MR_API_INCREMENTAL_ALTER_CONFIGS,
        MR_API_DESCRIBE_CONFIGS, MR_API_DESCRIBE_LOG_DIRS, MR_API_LIST_CONFIG_RESOURCES,
        MR_API_UPDATE_FEATURES,
    };
    struct fixture *f = *state;
    struct mr_prng  prng = {.state = 7};
    create(f, "a", 2, 1);
    for (int round = 0; round < 1500; round++) {
        int16_t              key = keys[mr_prng_below(&prng, sizeof keys / sizeof keys[0])];
        const struct mr_api *api = mr_api_find(key);
        int16_t              version =
            (int16_t)(api->version_min +
                      (int16_t)mr_prng_below(&prng,
                                             (uint64_t)(api->version_max - api->version_min + 1)));
        f->arena.used = 0;
        void *message = mr_arena_get(&f->arena, api->request->root->size, 16);
        mr_random_msg(&prng, api->request, version, &f->arena, message);
        int32_t number = mr_rig_send(f->rig, key, version, message);
        mr_rig_run(f->rig);
        assert_non_null(mr_rig_reply(f->rig, number));
        assert_false(mr_rig_reply(f->rig, number)->is_close);
        assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
        assert_int_equal(f->rig->control->requests_open, 0);
        mr_rig_forget(f->rig);
    }
    restart(f);
    assert_non_null(f->rig->image);
}

/* Memory runs out in the middle of everything that topics need; what exists goes on. */
static void test_full_heap_refuses_topics_and_serves_the_rest(void **state)
{
    struct fixture *f = *state;
    char            name[16];
    int16_t         error = 0;
    int             made = 0;
    mr_rig_destroy(f->rig);
    f->rig = mr_rig_create_with_heap(f->store, (size_t)4 << 20);
    mr_rig_run(f->rig);
    while (error == 0) {
        assert_true(made < 3000);
        snprintf(name, sizeof name, "n%d", made++);
        error = create(f, name, 1, 1).error_code;
        f->arena.used = 0;
        mr_rig_forget(f->rig);
    }
    assert_int_equal(error, MR_KAFKA_POLICY_VIOLATION);
    assert_true(made > 100);
    for (int round = 0; round < 50; round++) {
        assert_int_equal(create(f, "more", 1, 1).error_code, MR_KAFKA_POLICY_VIOLATION);
        assert_int_equal(alter(f, MR_META_TOPIC, "n0", "retention.ms", 0, round % 2 ? "1" : "2"),
                         0);
        (void)producer_id(f);
    }
    assert_int_equal(delete_by_name(f, "n1"), 0);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    restart(f);
    assert_int_equal(f->rig->image->topic_count, (uint32_t)made - 2);
}

/* ---- replay is the state ---- */

/* The parts of two images that the log decides are equal. */
static void assert_same_cluster(const struct mr_image *a, const struct mr_image *b)
{
    assert_int_equal(a->topic_count, b->topic_count);
    for (uint32_t index = 0; index < a->topic_count; index++) {
        const struct mr_image_topic *left = a->topics[index];
        const struct mr_image_topic *right = b->topics[index];
        assert_true(mr_str_equal(left->name, right->name));
        assert_true(mr_uuid_equal(&left->id, &right->id));
        assert_int_equal(left->partition_count, right->partition_count);
        assert_memory_equal(&left->config, &right->config, sizeof left->config);
        for (uint32_t at = 0; at < left->partition_count; at++) {
            assert_int_equal(left->partitions[at].leader, right->partitions[at].leader);
            assert_int_equal(left->partitions[at].leader_epoch, right->partitions[at].leader_epoch);
            assert_int_equal(left->partitions[at].log_id, right->partitions[at].log_id);
            assert_int_equal(left->partitions[at].isr[0], right->partitions[at].isr[0]);
        }
    }
    assert_int_equal(a->feature_count, b->feature_count);
}

static void random_decision(struct fixture *f, struct mr_prng *prng)
{
    char name[16];
    char value[16];
    snprintf(name, sizeof name, "t%d", (int)mr_prng_below(prng, 12));
    snprintf(value, sizeof value, "%d", (int)mr_prng_below(prng, 1000) + 1);
    static const char *const keys[] = {"retention.ms", "segment.ms", "flush.ms", "millrace.ack"};
    switch (mr_prng_below(prng, 5)) {
    case 0:
        create(f, name, (int32_t)mr_prng_below(prng, 4) + 1, -1);
        return;
    case 1:
        delete_by_name(f, name);
        return;
    case 2: {
        struct mr_create_partitions_request_create_partitions_topic topic = {
            .name = mr_str(name),
            .count = (int32_t)mr_prng_below(prng, 8),
            .assignments_count = -1};
        struct mr_create_partitions_request  request = {.topics = &topic, .topics_count = 1};
        struct mr_create_partitions_response response;
        mr_rig_call(f->rig, MR_API_CREATE_PARTITIONS, 3, &request, &f->arena, &response);
        return;
    }
    case 3:
        alter(f, MR_META_TOPIC, name, keys[mr_prng_below(prng, 4)], (int8_t)mr_prng_below(prng, 2),
              value);
        return;
    default:
        alter(f, MR_META_BROKER, mr_prng_below(prng, 2) == 0 ? "" : "1", "log.retention.ms",
              (int8_t)mr_prng_below(prng, 2), value);
        return;
    }
}

static void test_random_decisions_restart_equals_running(void **state)
{
    struct fixture *f = *state;
    struct mr_prng  prng = {.state = 42};
    for (int round = 0; round < 12; round++) {
        for (int step = 0; step < 25; step++) {
            random_decision(f, &prng);
            f->arena.used = 0;
            mr_rig_forget(f->rig);
        }
        struct mr_rig         *before = f->rig;
        const struct mr_image *image = before->image;
        f->rig = mr_rig_create(f->store);
        mr_rig_run(f->rig);
        assert_same_cluster(image, f->rig->image);
        mr_rig_destroy(before);
    }
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_start_empty_directory_serves_as_its_own_controller),
        TEST(test_start_empty_directory_writes_the_records_of_a_controller),
        TEST(test_restart_takes_the_next_epoch_and_keeps_topics),
        TEST(test_epoch_is_above_the_log_when_quorum_state_is_lost),
        TEST(test_stop_drains_then_closes_the_last_core_with_the_marker),
        TEST(test_stop_waits_for_changes_that_wait),
        TEST(test_metadata_write_failure_ends_the_broker),
        TEST(test_offline_directory_drains_then_ends_the_broker),
        TEST(test_change_that_was_not_written_is_not_published),
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
        TEST(test_producer_ids_rise_and_are_never_given_twice),
        TEST(test_half_a_producer_id_is_refused),
        TEST(test_offsets_topic_is_made_once_with_its_configs),
        TEST(test_malformed_request_closes_the_connection),
        TEST(test_images_are_kept_until_the_data_core_is_done),
        TEST(test_many_topics_restart_and_heap_returns),
        TEST(test_random_requests_of_every_kind_are_answered),
        TEST(test_full_heap_refuses_topics_and_serves_the_rest),
        TEST(test_random_decisions_restart_equals_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
