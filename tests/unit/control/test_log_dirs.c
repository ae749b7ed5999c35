/* log_dirs, log_move: partitions over two log directories, and from one to the other; a directory that fails, or cannot be read, is offline alone. */
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/log_dirs.h"
#include "metadata/meta.h"

static int setup_two(void **state)
{
    struct fixture *f = fixture_make();
    f->store->dir_count = 2;
    restart(f);
    *state = f;
    return 0;
}

static const struct mr_meta_partition *partition_of(struct fixture *f, const char *topic, uint32_t index)
{
    const struct mr_meta_topic *found = mr_meta_topic_by_name(f->rig->control->meta, mr_str(topic));
    assert_non_null(found);
    assert_true(index < found->partition_count);
    return &found->partitions[index];
}

static bool is_recorded(struct fixture *f, const char *topic, uint32_t index, uint32_t core)
{
    const struct mr_meta_partition *partition = partition_of(f, topic, index);
    struct mr_uuid                  id = mr_rig_dir_id(core);
    return partition->directory_count == 1 && mr_uuid_equal(&partition->directories[0], &id);
}

static void test_partitions_go_where_fewest_are(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 3, -1).error_code, 0);
    assert_int_equal(create(f, "b", 1, -1).error_code, 0);
    uint32_t counts[2] = {0, 0};
    for (int32_t index = 0; index < 3; index++) {
        const struct mr_rig_log *log = mr_rig_log(f->store, "a", index);
        counts[log->core]++;
        assert_true(is_recorded(f, "a", (uint32_t)index, log->core));
    }
    counts[mr_rig_log(f->store, "b", 0)->core]++;
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 2);
    /* Those of a deleted topic count no more: its places are taken again. */
    assert_int_equal(delete_by_name(f, "a"), 0);
    assert_int_equal(create(f, "c", 1, -1).error_code, 0);
    assert_int_not_equal(mr_rig_log(f->store, "c", 0)->core, mr_rig_log(f->store, "b", 0)->core);
}

static void test_registration_names_the_directories_in_order(void **state)
{
    struct fixture              *f = *state;
    const struct mr_meta_broker *self = mr_meta_broker(f->rig->control->meta, f->rig->control->node_id);
    struct mr_uuid               ids[2] = {mr_rig_dir_id(1), mr_rig_dir_id(0)}; /* the second one's is less */
    assert_int_equal(self->directory_count, 2);
    assert_memory_equal(self->directories, ids, sizeof ids);
}

static void describe_dirs(struct fixture *f, struct mr_describe_log_dirs_response *response)
{
    struct mr_describe_log_dirs_request request = {.topics_count = -1};
    mr_rig_call(f->rig, MR_API_DESCRIBE_LOG_DIRS, 5, &request, &f->arena, response);
    assert_int_equal(response->results_count, 2);
    assert_true(mr_str_equal(response->results[0].log_dir, MR_STR("/data")));
    assert_true(mr_str_equal(response->results[1].log_dir, MR_STR("/more")));
}

static void test_describe_log_dirs_tells_each_directory(void **state)
{
    struct fixture                      *f = *state;
    struct mr_describe_log_dirs_response response;
    assert_int_equal(create(f, "a", 5, -1).error_code, 0);
    describe_dirs(f, &response);
    for (uint32_t dir = 0; dir < 2; dir++) {
        assert_int_equal(response.results[dir].error_code, 0);
        assert_int_equal(response.results[dir].total_bytes, 1000000);
        assert_int_equal(response.results[dir].topics_count, 1);
        assert_int_equal(response.results[dir].topics[0].partitions_count, dir == 0 ? 3 : 2);
        for (int32_t at = 0; at < response.results[dir].topics[0].partitions_count; at++) {
            int32_t index = response.results[dir].topics[0].partitions[at].partition_index;
            assert_int_equal(mr_rig_log(f->store, "a", index)->core, dir);
        }
    }
}

static void test_a_failed_directory_is_offline_alone(void **state)
{
    struct fixture                      *f = *state;
    struct mr_describe_log_dirs_response response;
    assert_int_equal(create(f, "a", 4, -1).error_code, 0);
    mr_rig_fail(f->rig, 1);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    for (uint32_t index = 0; index < 4; index++) {
        const struct mr_image_partition *partition = &find(f, "a")->partitions[index];
        const struct mr_rig_log         *log = mr_rig_log(f->store, "a", (int32_t)index);
        /* Whoever asks is sent to the core that refuses. */
        assert_int_equal(partition->log_id, log->log_id);
        assert_int_equal(partition->storage_core, log->core);
        assert_int_equal(partition->is_offline, log->core == 1);
    }
    describe_dirs(f, &response);
    assert_int_equal(response.results[0].error_code, 0);
    assert_int_equal(response.results[0].topics[0].partitions_count, 2);
    assert_int_equal(response.results[1].error_code, MR_KAFKA_KAFKA_STORAGE_ERROR);
    assert_int_equal(response.results[1].topics_count, 0);
    const struct mr_meta_broker *self = mr_meta_broker(f->rig->control->meta, f->rig->control->node_id);
    struct mr_uuid               first = mr_rig_dir_id(0);
    assert_int_equal(self->directory_count, 1);
    assert_true(mr_uuid_equal(&self->directories[0], &first));
    /* New partitions go where they can be served. */
    assert_int_equal(create(f, "b", 3, -1).error_code, 0);
    for (int32_t index = 0; index < 3; index++) {
        assert_int_equal(mr_rig_log(f->store, "b", index)->core, 0);
    }
    /* It is not waited for at the end. */
    mr_control_stop(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_STOPPED);
    assert_int_equal(f->store->stopped, 1);
}

static void test_the_first_directory_ends_the_broker(void **state)
{
    struct fixture *f = *state;
    mr_rig_fail(f->rig, 0);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_FAILED);
}

/* What was in it stays refused, and is not made anew elsewhere. */
static void still_offline(struct fixture *f)
{
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    for (uint32_t index = 0; index < 4; index++) {
        const struct mr_image_partition *partition = &find(f, "a")->partitions[index];
        bool                             is_there = mr_rig_log(f->store, "a", (int32_t)index)->core == 0;
        assert_int_equal(partition->is_offline, !is_there);
        assert_true(is_there == (partition->log_id != 0 && partition->log_id != UINT64_MAX));
    }
}

static void test_a_directory_that_fails_in_recovery_is_offline(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 4, -1).error_code, 0);
    f->store->recover_err[1] = MR_ERR_IO;
    restart(f);
    still_offline(f);
    f->store->recover_err[1] = MR_OK;
    restart(f);
    for (uint32_t index = 0; index < 4; index++) {
        assert_false(find(f, "a")->partitions[index].is_offline);
    }
}

static void test_a_directory_that_cannot_be_read_is_offline(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 4, -1).error_code, 0);
    f->store->is_unread[1] = true;
    restart(f);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
    for (uint32_t index = 0; index < 4; index++) {
        assert_int_equal(find(f, "a")->partitions[index].is_offline,
                         mr_rig_log(f->store, "a", (int32_t)index)->core == 1);
    }
}

static void test_damage_is_not_a_failed_disk(void **state)
{
    struct fixture *f = *state;
    f->store->recover_err[1] = MR_ERR_CORRUPT;
    restart(f);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_FAILED);
}

static void test_a_log_is_found_where_somebody_put_it(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 2, -1).error_code, 0);
    struct mr_rig_log *log = (struct mr_rig_log *)(uintptr_t)mr_rig_log(f->store, "a", 0);
    uint64_t           id = log->log_id;
    uint32_t           other = 1 - log->core;
    log->core = other;
    restart(f);
    assert_int_equal(mr_rig_log(f->store, "a", 0)->log_id, id);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, other);
    assert_int_equal(find(f, "a")->partitions[0].log_id, id);
    assert_true(is_recorded(f, "a", 0, other));
}

/* ---- moves ---- */

static int16_t move_to(struct fixture *f, const char *path, const char *name, int32_t partition)
{
    struct mr_alter_replica_log_dirs_request_alter_replica_log_dir_topic topic = {
        .name = mr_str(name), .partitions = &partition, .partitions_count = 1};
    struct mr_alter_replica_log_dirs_request_alter_replica_log_dir dir = {
        .path = mr_str(path), .topics = &topic, .topics_count = 1};
    struct mr_alter_replica_log_dirs_request  request = {.dirs = &dir, .dirs_count = 1};
    struct mr_alter_replica_log_dirs_response response;
    mr_rig_call(f->rig, MR_API_ALTER_REPLICA_LOG_DIRS, 2, &request, &f->arena, &response);
    assert_int_equal(response.results_count, 1);
    assert_int_equal(response.results[0].partitions_count, 1);
    assert_int_equal(response.results[0].partitions[0].partition_index, partition);
    return response.results[0].partitions[0].error_code;
}

/* Records that the original has: `count` batches. */
static void put(struct fixture *f, const char *topic, uint32_t count)
{
    static uint8_t     bytes[4096];
    static const char  value[] = "a record of the log that moves";
    struct mr_rig_log *log = (struct mr_rig_log *)(uintptr_t)mr_rig_log_at(f->store, topic, 0, 0);
    log->bytes = realloc(log->bytes, log->len + count * sizeof bytes);
    for (uint32_t index = 0; index < count; index++) {
        struct mr_batch_builder builder;
        mr_batch_begin(&builder, bytes, sizeof bytes, log->end_offset, 0);
        assert_true(mr_batch_add(&builder, 1000, MR_BLOB_NULL, (struct mr_blob){.data = (const uint8_t *)value, .len = sizeof value}));
        uint32_t len = mr_batch_end(&builder);
        memcpy(log->bytes + log->len, bytes, len);
        log->len += len;
        log->end_offset++;
    }
    log->size = log->len;
}

static void test_a_log_moves_with_all_that_it_has(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    put(f, "a", 9);
    struct mr_rig_log *original = (struct mr_rig_log *)(uintptr_t)mr_rig_log_at(f->store, "a", 0, 0);
    original->log_start = 4;
    uint64_t id = original->log_id;
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    const struct mr_rig_log *copy = mr_rig_log_at(f->store, "a", 0, 1);
    assert_non_null(copy);
    assert_int_equal(copy->end_offset, 9);
    assert_int_equal(copy->log_start, 4);
    assert_false(copy->is_unfinished);
    assert_int_equal(copy->configured, 1);
    assert_true(is_recorded(f, "a", 0, 1));
    assert_int_equal(find(f, "a")->partitions[0].log_id, copy->log_id);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, 1);
    /* Who reads at the original still has it, for a moment, and nobody appends to it. */
    assert_int_equal(mr_rig_log_at(f->store, "a", 0, 0)->log_id, id);
    assert_true(mr_rig_log_at(f->store, "a", 0, 0)->is_held);
    f->rig->now.mono_ns += 2 * MR_NS_PER_S;
    mr_rig_run(f->rig);
    assert_null(mr_rig_log_at(f->store, "a", 0, 0));
    restart(f);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, 1);
    assert_int_equal(mr_rig_log_at(f->store, "a", 0, 1)->end_offset, 9);
    /* Where it is there is nothing to do. */
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    assert_null(mr_rig_log_at(f->store, "a", 0, 0));
}

static void test_moves_that_cannot_be_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 2, -1).error_code, 0);
    assert_int_equal(move_to(f, "/elsewhere", "a", 0), MR_KAFKA_LOG_DIR_NOT_FOUND);
    assert_int_equal(move_to(f, "/more", "b", 0), MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(move_to(f, "/more", "a", 2), MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    mr_rig_fail(f->rig, 1);
    mr_rig_run(f->rig);
    assert_int_equal(move_to(f, "/more", "a", 0), MR_KAFKA_KAFKA_STORAGE_ERROR);
    assert_int_equal(move_to(f, "/data", "a", 1), MR_KAFKA_KAFKA_STORAGE_ERROR);
}

/* Whichever step fails, the original goes on, and nothing of the copy is left. */
static void test_a_move_that_fails_leaves_the_original(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    put(f, "a", 3);
    static const enum mr_move_step failing[] = {MR_MOVE_HOLD, MR_MOVE_START};
    for (size_t index = 0; index < sizeof failing / sizeof failing[0]; index++) {
        f->store->move_err[failing[index]] = MR_ERR_IO;
        assert_int_equal(move_to(f, "/more", "a", 0), 0);
        mr_rig_run(f->rig);
        assert_null(mr_rig_log_at(f->store, "a", 0, 1));
        assert_false(mr_rig_log_at(f->store, "a", 0, 0)->is_held);
        assert_true(is_recorded(f, "a", 0, 0));
        f->store->move_err[failing[index]] = MR_OK;
    }
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    assert_true(is_recorded(f, "a", 0, 1));
}

/* The broker ends while the copy is made: the next start has the original. Behind the record it has the copy. */
static void test_a_broker_that_ends_in_a_move_has_one_log(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    put(f, "a", 3);
    f->store->is_holding = true; /* the first append to the copy is not answered */
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    assert_true(mr_rig_log_at(f->store, "a", 0, 1)->is_unfinished);
    mr_sim_fs_put(f->store->fs, "/data/a-0/partition.metadata", "x", 1);
    mr_sim_fs_put(f->store->fs, "/more/a-0/partition.metadata", "x", 1);
    f->store->is_holding = false;
    restart(f);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, 0);
    assert_null(mr_rig_log_at(f->store, "a", 0, 1)); /* it was a stray */
    assert_int_equal(mr_rig_log_at(f->store, "a", 0, 0)->end_offset, 3);

    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    assert_true(is_recorded(f, "a", 0, 1));
    ((struct mr_rig_log *)(uintptr_t)mr_rig_log_at(f->store, "a", 0, 1))->is_unfinished = true; /* it had no time */
    restart(f);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, 1);
    assert_false(mr_rig_log_at(f->store, "a", 0, 1)->is_unfinished);
    assert_null(mr_rig_log_at(f->store, "a", 0, 0));
}

static void test_an_unfinished_copy_is_never_taken_for_a_log(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    struct mr_rig_log *log = (struct mr_rig_log *)(uintptr_t)mr_rig_log_at(f->store, "a", 0, 0);
    log->core = 1;
    log->is_unfinished = true;
    restart(f);
    assert_int_equal(find(f, "a")->partitions[0].storage_core, 0);
}

static void test_a_stop_gives_up_what_is_not_decided(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    put(f, "a", 3);
    f->store->is_holding = true;
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    mr_control_stop(f->rig->control, f->rig->now);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_STOPPING);
    mr_rig_release(f->rig);
    mr_rig_run(f->rig);
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_STOPPED);
    assert_null(mr_rig_log_at(f->store, "a", 0, 1));
}

static void test_describe_log_dirs_tells_the_copy(void **state)
{
    struct fixture                      *f = *state;
    struct mr_describe_log_dirs_response response;
    assert_int_equal(create(f, "a", 1, -1).error_code, 0);
    put(f, "a", 3);
    f->store->is_holding = true;
    assert_int_equal(move_to(f, "/more", "a", 0), 0);
    mr_rig_run(f->rig);
    describe_dirs(f, &response);
    assert_int_equal(response.results[0].topics_count, 1);
    assert_false(response.results[0].topics[0].partitions[0].is_future_key);
    assert_int_equal(response.results[1].topics_count, 1);
    assert_true(response.results[1].topics[0].partitions[0].is_future_key);
    assert_int_equal(response.results[1].topics[0].partitions[0].offset_lag, 2);
    mr_rig_release(f->rig);
    mr_rig_run(f->rig);
    describe_dirs(f, &response);
    assert_int_equal(response.results[0].topics_count, 0);
    assert_false(response.results[1].topics[0].partitions[0].is_future_key);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup_two, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_partitions_go_where_fewest_are),
        TEST(test_registration_names_the_directories_in_order),
        TEST(test_describe_log_dirs_tells_each_directory),
        TEST(test_a_failed_directory_is_offline_alone),
        TEST(test_the_first_directory_ends_the_broker),
        TEST(test_a_directory_that_fails_in_recovery_is_offline),
        TEST(test_a_directory_that_cannot_be_read_is_offline),
        TEST(test_damage_is_not_a_failed_disk),
        TEST(test_a_log_is_found_where_somebody_put_it),
        TEST(test_a_log_moves_with_all_that_it_has),
        TEST(test_moves_that_cannot_be_are_refused),
        TEST(test_a_move_that_fails_leaves_the_original),
        TEST(test_a_broker_that_ends_in_a_move_has_one_log),
        TEST(test_an_unfinished_copy_is_never_taken_for_a_log),
        TEST(test_a_stop_gives_up_what_is_not_decided),
        TEST(test_describe_log_dirs_tells_the_copy),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
