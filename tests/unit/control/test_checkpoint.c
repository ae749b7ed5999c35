/*
 * checkpoint: the state that is written is the state that was; when checkpoints are made, what they leave of the log, and
 * what of them a failing disk can do.
 */
#include "control_fixture.h"
#include "metadata/meta_checkpoint.h"
#include "metadata/meta_log.h"
#include "millrace/base/fmt.h"
#include "millrace/kafka/messages.h"
#include "sim_disk.h"
#include "test.h"

#define DIR        "/data/__cluster_metadata-0"
#define VALUES_MAX 4096

/* ---- The state ---- */

struct values {
    struct mr_meta_records records;
    struct mr_blob         sorted[VALUES_MAX];
    size_t                 count;
};

static int compare(const void *a, const void *b)
{
    const struct mr_blob *left = a;
    const struct mr_blob *right = b;
    int32_t               len = left->len < right->len ? left->len : right->len;
    int                   order = memcmp(left->data, right->data, (size_t)len);
    return order != 0 ? order : left->len - right->len;
}

/* In an order that does not depend on tables; `slice` records at a time. */
static void write_state(const struct mr_meta *meta, uint32_t slice, struct values *values)
{
    struct mr_meta_cursor cursor = {0};
    struct mr_blob        value;
    size_t                at = 0;
    mr_meta_records_init(&values->records, meta->heap);
    for (uint32_t max = slice; mr_meta_write(meta, &cursor, max, &values->records); max += slice) {
        assert_in_range(values->records.count, max, max + 1);
    }
    assert_false(values->records.is_failed);
    for (values->count = 0; mr_meta_records_next(&values->records, &at, &value); values->count++) {
        assert_true(values->count < VALUES_MAX);
        values->sorted[values->count] = value;
    }
    qsort(values->sorted, values->count, sizeof values->sorted[0], compare);
}

static void test_state_that_is_replayed_is_the_one_that_was_written(void **state)
{
    struct fixture       *f = *state;
    const struct mr_meta *meta = f->rig->control->meta;
    struct mr_meta        copy;
    static struct values  was, is;
    struct mr_blob        value;
    size_t                at = 0;
    assert_int_equal(create(f, "many", 700, 1).error_code, 0);
    assert_int_equal(create(f, "few", 3, 1).error_code, 0);
    assert_int_equal(create(f, "gone", 2, 1).error_code, 0);
    assert_int_equal(alter(f, MR_META_TOPIC, "few", "retention.ms", 0, "12345"), 0);
    assert_int_equal(alter(f, MR_META_TOPIC, "few", "segment.bytes", 0, "2000000"), 0);
    assert_int_equal(alter(f, MR_META_BROKER, "", "log.retention.ms", 0, "777"), 0);
    assert_int_equal(delete_by_name(f, "gone"), 0);
    write_state(meta, 7, &was);
    assert_int_equal(was.count, 1 + 1 + 701 + 4 + 3); /* version, broker, topics, configs */
    assert_true(mr_meta_init(&copy, meta->heap, &meta->hash_key));
    for (int64_t offset = 0; mr_meta_records_next(&was.records, &at, &value); offset++) {
        assert_int_equal(mr_meta_replay(&copy, offset, value), MR_OK);
    }
    write_state(&copy, VALUES_MAX, &is);
    assert_int_equal(is.count, was.count);
    for (size_t index = 0; index < was.count; index++) {
        assert_int_equal(compare(&is.sorted[index], &was.sorted[index]), 0);
    }
    assert_int_equal(copy.brokers[0].range_count, meta->brokers[0].range_count);
    assert_int_equal(copy.partition_count, 703);
}

/* ---- Checkpoints ---- */

static void restart_with(struct fixture *f, int64_t bytes, int64_t interval_ms)
{
    if (f->rig != NULL) {
        mr_rig_destroy(f->rig);
    }
    f->rig = mr_rig_create(f->store);
    f->rig->config.metadata_log_max_record_bytes_between_snapshots = bytes;
    f->rig->config.metadata_log_max_snapshot_interval_ms = interval_ms;
    mr_rig_run(f->rig);
    assert_string_equal(mr_control_why(f->rig->control), "");
    assert_int_equal(mr_control_state(f->rig->control), MR_CONTROL_SERVING);
}

/* Names with `part`; the first of them, in order, in *offset when it is a checkpoint's. */
static uint32_t files_with(struct fixture *f, const char *part, int64_t *offset)
{
    char     list[4096];
    uint32_t count = 0;
    int32_t  epoch;
    size_t   len = mr_sim_fs_names(f->store->fs, DIR, list, sizeof list);
    *offset = INT64_MAX;
    for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
        const char *slash = strrchr(list + at, '/');
        int64_t     found = INT64_MAX;
        count += strstr(list + at, part) != NULL;
        if (mr_meta_snapshot_name_parse(mr_str(slash == NULL ? list + at : slash + 1), &found, &epoch)) {
            *offset = found < *offset ? found : *offset;
        }
    }
    return count;
}

static void create_numbered(struct fixture *f, int from, int to)
{
    for (int index = from; index < to; index++) {
        char name[32];
        mr_fmt(name, sizeof name, "topic-%d", index);
        assert_int_equal(create(f, name, 3, 1).error_code, 0);
        mr_rig_run(f->rig);
        mr_rig_forget(f->rig);
    }
}

static void expect_numbered(struct fixture *f, int count)
{
    for (int index = 0; index < count; index++) {
        char name[32];
        mr_fmt(name, sizeof name, "topic-%d", index);
        const struct mr_image_topic *topic = find(f, name);
        assert_non_null(topic);
        assert_int_equal(topic->partition_count, 3);
    }
}

static void test_two_checkpoints_stay_and_the_log_behind_the_older_one(void **state)
{
    struct fixture *f = *state;
    int64_t         oldest;
    restart_with(f, 3000, 0);
    create_numbered(f, 0, 2);
    assert_int_equal(files_with(f, ".checkpoint", &oldest), 0);
    create_numbered(f, 2, 40);
    assert_int_equal(files_with(f, ".checkpoint", &oldest), 2);
    assert_true(oldest > 0);
    assert_int_equal(mr_rig_log(f->store, "__cluster_metadata", 0)->log_start, oldest);
    assert_int_equal(alter(f, MR_META_TOPIC, "topic-3", "retention.ms", 0, "12345"), 0);
    restart_with(f, 3000, 0);
    assert_true(f->rig->control->meta_log->snapshot_offset > oldest);
    expect_numbered(f, 40);
    create_numbered(f, 40, 60);
    restart_with(f, 3000, 0);
    expect_numbered(f, 60);
    const struct mr_meta_resource *topic = mr_meta_resource(f->rig->control->meta, MR_META_TOPIC, MR_STR("topic-3"));
    assert_true(mr_str_equal(mr_meta_config(topic, MR_STR("retention.ms")), MR_STR("12345")));
}

static void test_checkpoint_by_time_when_something_changed(void **state)
{
    struct fixture *f = *state;
    int64_t         oldest;
    restart_with(f, 1 << 20, 1000);
    create_numbered(f, 0, 1);
    assert_true(mr_control_deadline_ns(f->rig->control) <= f->rig->now.mono_ns + 1000 * MR_NS_PER_MS);
    for (uint32_t round = 0; round < 3; round++) {
        f->rig->now.mono_ns += 1001 * MR_NS_PER_MS;
        mr_rig_run(f->rig);
        assert_int_equal(files_with(f, ".checkpoint", &oldest), 1);
    }
    create_numbered(f, 1, 2);
    f->rig->now.mono_ns += 1001 * MR_NS_PER_MS;
    mr_rig_run(f->rig);
    assert_int_equal(files_with(f, ".checkpoint", &oldest), 2);
}

/* The records would not be in it, so the log stays as it is. */
static void test_no_checkpoint_loses_what_this_broker_does_not_use(void **state)
{
    struct fixture *f = *state;
    int64_t         oldest;
    restart_with(f, 3000, 0);
    f->rig->control->meta->ignored = 1;
    create_numbered(f, 0, 30);
    assert_int_equal(files_with(f, ".checkpoint", &oldest), 0);
    assert_int_equal(mr_rig_log(f->store, "__cluster_metadata", 0)->log_start, 0);
}

static void test_checkpoint_that_fails_anywhere_costs_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t        faults = 1;
    int             topics = 0;
    int64_t         oldest;
    restart_with(f, 3000, 0);
    for (uint64_t nth = 0; faults > 0; nth++) {
        struct mr_sim_fault fault = {.kinds = UINT32_MAX, .nth = nth, .err = MR_ERR_IO};
        mr_sim_fs_fail(f->store->fs, &fault);
        create_numbered(f, topics, topics + 10); /* one checkpoint, or two */
        topics += 10;
        faults = mr_sim_fs_faults(f->store->fs);
        mr_sim_fs_heal(f->store->fs);
        restart_with(f, 3000, 0);
        expect_numbered(f, topics);
        assert_true(nth < 40);
    }
    create_numbered(f, topics, topics + 40);
    assert_int_equal(files_with(f, ".checkpoint", &oldest), 2);
    assert_int_equal(files_with(f, ".tmp", &oldest), 0);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_state_that_is_replayed_is_the_one_that_was_written),
        TEST(test_two_checkpoints_stay_and_the_log_behind_the_older_one),
        TEST(test_checkpoint_by_time_when_something_changed),
        TEST(test_no_checkpoint_loses_what_this_broker_does_not_use),
        TEST(test_checkpoint_that_fails_anywhere_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
