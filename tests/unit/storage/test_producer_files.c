/*
 * the snapshots of a log's producers over start, recovery and stop: whichever is missing or old, what is in the log still tells.
 */
#include "storage_rig.h"
#include "test.h"

#include "log/producer_state.h"
#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"

#define IMAGE (4u << 20)

static uint8_t image[IMAGE];

static const struct rig_batch small = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = -1};

static int64_t size_of(const struct storage_rig *rig, const char *path)
{
    return mr_sim_fs_get(rig->fs, path, image, IMAGE);
}

/* The snapshot of a clean stop is lost or damaged: what is in the log still tells. */
static void test_producers_are_known_without_their_snapshot(void **state)
{
    struct storage_rig *rig = *state;
    for (uint32_t way = 0; way < 3; way++) {
        struct rig_log         log;
        struct mr_append_entry entry;
        char                   topic[8] = {(char)('a' + way), '\0'};
        char                   path[100];
        struct rig_batch       batch = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = 77};
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        for (batch.sequence = 0; batch.sequence < 40; batch.sequence += 2) {
            (void)rig_append(rig, &log, &batch);
        }
        assert_int_equal(rig_stop(rig), MR_OK);
        mr_fmt(path, sizeof path, RIG_LOG_DIR "/%s-0/00000000000000000040.snapshot", topic);
        assert_true(size_of(rig, path) > 20);
        if (way == 0) {
            mr_sim_fs_remove(rig->fs, path);
        } else if (way == 1) {
            mr_sim_fs_rot(rig->fs, path, 15, 1, 1);
        } else {
            mr_sim_fs_put(rig->fs, path, image, 5);
        }
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        batch.sequence = 36; /* sent before, and sent again */
        assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
        assert_true(entry.is_duplicate);
        assert_int_equal(entry.base_offset, 36);
        assert_int_equal(rig_stop(rig), MR_OK);
    }
}

/* Likewise of a producer whose batches are in segments before the last one. */
static void test_producers_of_earlier_segments_are_known_without_snapshots(void **state)
{
    struct storage_rig *rig = *state;
    for (uint32_t way = 0; way < 4; way++) { /* lost or spoiled; and the ones beside segments too */
        struct rig_log         log;
        struct mr_append_entry entry;
        char                   topic[2] = {(char)('a' + way), '\0'};
        char                   path[100];
        struct rig_batch       batch = small;
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        batch.producer_id = 77;
        int64_t offset = rig_append(rig, &log, &batch);
        rig_fill(rig, &log, 300, 2000);
        rig_settle(rig);
        assert_int_equal(rig_stop(rig), MR_OK);
        uint32_t files = 0;
        for (int64_t at = 2; at <= 602; at += 2) {
            mr_fmt(path, sizeof path, RIG_LOG_DIR "/%s-0/%020lld.snapshot", topic, (long long)at);
            if (size_of(rig, path) < 0 || (way < 2 && at < 602)) {
                continue;
            }
            files++;
            if (way % 2 == 0) {
                mr_sim_fs_remove(rig->fs, path);
            } else {
                mr_sim_fs_rot(rig->fs, path, 15, 1, 1);
            }
        }
        assert_true(files > (way < 2 ? 0u : 2u));
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        assert_int_equal(log.end, 602);
        assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
        assert_true(entry.is_duplicate);
        assert_int_equal(entry.base_offset, offset);
        assert_int_equal(rig_stop(rig), MR_OK);
    }
}

static void test_snapshot_is_written_where_a_segment_begins(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    struct rig_batch    batch = small;
    int64_t             base = 0;
    char                path[200];
    batch.producer_id = 5;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    for (int32_t index = 0; base == 0 && index < 100; index++) {
        batch.sequence = 2 * index;
        (void)rig_append(rig, &log, &batch);
        rig_settle(rig);
        mr_fmt(path, sizeof path, RIG_LOG_DIR "/t-0/%020d.snapshot", 2 * index);
        base = size_of(rig, path) > 0 ? 2 * index : 0;
    }
    assert_true(base > 40);
    assert_int_equal(size_of(rig, path), mr_sim_fs_get(rig->fs, path, image, IMAGE));
    assert_int_equal(mr_load_be64(image + 10), 5); /* the producer, with its last batch before that segment */
    assert_int_equal(rig_stop(rig), MR_OK);
    mr_fmt(path, sizeof path, RIG_LOG_DIR "/t-0/%020lld.log", (long long)base);
    assert_true(size_of(rig, path) > 0);
}

/* The power may go before it is flushed, and recovery needs what the stop wrote. */
static void test_snapshot_of_a_clean_stop_is_not_written_again_by_a_roll(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    struct rig_batch batch = small;
    batch.producer_id = 7;
    (void)rig_append(rig, &log, &batch);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO, .is_sticky = true,
                                 .name_part = "00000000000000000002.snapshot"};
    mr_sim_fs_fail(rig->fs, &fault);
    batch = (struct rig_batch){.records = 1, .timestamp = 3000, .producer_id = -1};
    batch.bytes = (uint32_t)rig->config.segment_bytes - 200; /* a segment of its own */
    (void)rig_append(rig, &log, &batch);
    rig_fill(rig, &log, 1, 4000);
    assert_int_equal(rig_stop(rig), MR_OK);
}

static void test_snapshots_of_earlier_stops_are_removed(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    for (uint32_t life = 0; life < 3; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        rig_fill(rig, &log, 3, 1000);
        assert_int_equal(rig_stop(rig), MR_OK);
    }
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000006.snapshot"), -1);
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000012.snapshot") > 0); /* found by the last start */
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000018.snapshot") > 0);
}

/* Thousands of producers: the log's state fits its block, its snapshot is written, the newest are known again. */
static void test_log_remembers_a_bounded_number_of_producers(void **state)
{
    enum { PRODUCERS = MR_PRODUCERS_PER_LOG + 100 };
    struct storage_rig    *rig = *state;
    struct rig_log         log;
    struct rig_batch       batch = {.records = 1, .bytes = 10, .timestamp = 1000};
    struct mr_append_entry entry;
    rig->plan.producers_max = 2 * PRODUCERS;
    rig->config.segment_bytes = 8 << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    for (int32_t index = 0; index < PRODUCERS; index++) {
        batch.producer_id = index;
        (void)rig_append(rig, &log, &batch);
    }
    for (uint32_t life = 0; life < 2; life++) {
        for (uint32_t which = 0; which < 2; which++) {
            batch.producer_id = which == 0 ? PRODUCERS - 1 : 120;
            assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
            assert_true(entry.is_duplicate);
        }
        if (life == 0) {
            rig_kill(rig);
        } else {
            assert_int_equal(rig_stop(rig), MR_OK);
        }
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        assert_int_equal(log.end, PRODUCERS);
    }
    batch.producer_id = 120;
    assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
    assert_true(entry.is_duplicate);
    batch.producer_id = 1; /* longest unused: forgotten, so accepted like a new one */
    assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
    assert_false(entry.is_duplicate);
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000004600.snapshot") > 46 * (int64_t)MR_PRODUCERS_PER_LOG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_producers_are_known_without_their_snapshot),
        TEST(test_producers_of_earlier_segments_are_known_without_snapshots),
        TEST(test_snapshot_is_written_where_a_segment_begins),
        TEST(test_snapshot_of_a_clean_stop_is_not_written_again_by_a_roll),
        TEST(test_snapshots_of_earlier_stops_are_removed),
        TEST(test_log_remembers_a_bounded_number_of_producers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
