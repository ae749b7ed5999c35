/*
 * controller: a broker's life against a scripted data core and store: start, stop, producer ids, what it does not understand,
 * a full heap; what a restart shows is what replay makes.
 */
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/controller.h"
#include "metadata/image.h"
#include "metadata/meta_log.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "random_msg.h"
#include "test.h"

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
