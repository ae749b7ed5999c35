/* log_dirs: partitions over two log directories; a directory that fails, or cannot be read, is offline alone. */
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
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
