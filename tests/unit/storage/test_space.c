/*
 * space: a simulated device of a few MB (ruling 16): full is a refusal that ends by itself, a failed write is the
 * end of the directory, and the two are told apart.
 */
#include "test.h"

#include "core_rig.h"

#define RECORD_BYTES 50000u
#define MIB          (1ull << 20)

static struct mr_core_rig rig;
static uint64_t           log_id;
static uint64_t           own; /* an internal log */

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.plan.disk_reserve_bytes = 4 * MIB;
    rig.config.file_delete_delay_ms = 1000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static void start(uint64_t capacity)
{
    mr_sim_fs_capacity(rig.fs, capacity);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log_id = mr_core_rig_open(&rig, "t", 0, false);
    own = mr_core_rig_open(&rig, "__consumer_offsets", 0, true);
}

static enum mr_err append(uint64_t id)
{
    return mr_core_rig_append(&rig, id, 1, RECORD_BYTES, rig.now.unix_ms, NULL);
}

static uint32_t fill(void)
{
    uint32_t    count = 0;
    enum mr_err err;
    while ((err = append(log_id)) == MR_OK) {
        assert_true(++count < 1000);
    }
    assert_int_equal(err, MR_ERR_DIR_FULL);
    return count;
}

static bool is_full(void)
{
    struct mr_storage_stats stats;
    mr_storage_core_stats(rig.core, &stats);
    assert_false(stats.is_offline);
    return stats.is_full;
}

static void expect_readable(uint64_t id, uint32_t count)
{
    for (uint32_t offset = 0; offset < count; offset++) {
        uint32_t bytes = 0;
        assert_int_equal(mr_core_rig_read(&rig, id, offset, 1000, NULL, &bytes), MR_OK);
        assert_true(bytes > RECORD_BYTES);
    }
}

static void test_full_directory_refuses_producers_and_serves_the_rest(void **state)
{
    (void)state;
    start(20 * MIB);
    uint32_t count = fill();
    assert_true(count > 100); /* 20 MiB less the reserve of 4 and two to four journal files of 1 */
    assert_true(mr_sim_fs_used(rig.fs) <= 16 * MIB);
    assert_int_equal(append(own), MR_OK);
    expect_readable(log_id, count);
    struct mr_log_stat_entry stat = mr_core_rig_stat(&rig, log_id, NULL);
    assert_int_equal(stat.log_end_offset, count);
    /* The estimate errs towards full and is put right by the file system; then full at rest stays full. */
    for (uint32_t round = 0; round < 4; round++) {
        mr_core_rig_advance(&rig, 2000);
        (void)fill();
    }
    mr_core_rig_advance(&rig, 20000);
    assert_int_equal(append(log_id), MR_ERR_DIR_FULL);
    assert_int_equal(append(own), MR_OK);
    assert_true(mr_sim_fs_used(rig.fs) <= 16 * MIB + RECORD_BYTES);
}

static void test_full_directory_ends_when_records_are_deleted(void **state)
{
    (void)state;
    start(20 * MIB);
    uint32_t count = fill();
    assert_int_equal(mr_core_rig_delete_records(&rig, log_id, count / 2), MR_OK);
    mr_core_rig_advance(&rig, 10000);
    assert_int_equal(append(log_id), MR_OK);
    assert_true(fill() > count / 4);
}

static void test_full_directory_ends_when_a_log_is_dropped(void **state)
{
    (void)state;
    start(20 * MIB);
    uint32_t count = fill();
    assert_int_equal(mr_core_rig_drop(&rig, log_id), MR_OK);
    mr_core_rig_advance(&rig, 10000);
    log_id = mr_core_rig_open(&rig, "t", 0, false);
    assert_true(fill() > count / 2);
}

/* Not a byte is left, and the log still has to write the end of an index. */
static void test_log_is_dropped_though_its_indexes_find_no_space(void **state)
{
    (void)state;
    rig.plan.retention_check_ms = 1000;
    rig.config.retention_ms = 500;
    start(0);
    assert_int_equal(append(log_id), MR_OK);
    mr_core_rig_settle(&rig);
    mr_sim_fs_capacity(rig.fs, mr_sim_fs_used(rig.fs));
    mr_core_rig_advance(&rig, 5000); /* all of it is too old: a new segment begins */
    assert_int_equal(mr_core_rig_stat(&rig, log_id, NULL).log_start_offset, 1);
    assert_int_equal(mr_core_rig_drop(&rig, log_id), MR_OK);
    assert_true(is_full());
    mr_sim_fs_capacity(rig.fs, 0);
    mr_core_rig_advance(&rig, 3000); /* nobody is left who could find out by writing */
    assert_false(is_full());
}

/* Some space is left, but less than a batch: that is full too, and is looked after. */
static void test_full_for_large_batches_ends_when_there_is_room_for_one(void **state)
{
    (void)state;
    start(20 * MIB);
    while (append(log_id) == MR_OK) {
    }
    while (mr_core_rig_append(&rig, log_id, 1, 1000, 1, NULL) == MR_OK) {
    }
    assert_int_equal(append(log_id), MR_ERR_DIR_FULL);
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_capacity(rig.fs, 20 * MIB + 4 * RECORD_BYTES);
    mr_core_rig_advance(&rig, 10000);
    assert_int_equal(append(log_id), MR_OK);
}

static void test_full_directory_ends_when_others_make_room(void **state)
{
    (void)state;
    start(20 * MIB);
    (void)fill();
    mr_sim_fs_capacity(rig.fs, 30 * MIB);
    mr_core_rig_advance(&rig, 10000);
    assert_false(is_full());
    assert_true(fill() > 100);
}

/* Somebody else takes the reserve: what is journaled waits there, and nothing is lost or given up. */
static void test_no_space_for_segments_waits_in_the_journal(void **state)
{
    (void)state;
    start(40 * MIB);
    for (uint32_t index = 0; index < 25; index++) {
        assert_int_equal(append(log_id), MR_OK);
    }
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_capacity(rig.fs, mr_sim_fs_used(rig.fs));
    uint32_t    count = 25;
    enum mr_err err;
    while ((err = append(log_id)) == MR_OK) {
        assert_true(++count < 1000);
    }
    assert_int_equal(err, MR_ERR_DIR_FULL);
    mr_core_rig_advance(&rig, 5000);
    assert_true(is_full());
    assert_int_equal(append(log_id), MR_ERR_DIR_FULL);
    expect_readable(log_id, count);
    mr_sim_fs_capacity(rig.fs, 40 * MIB);
    mr_core_rig_advance(&rig, 10000);
    assert_false(is_full());
    assert_int_equal(append(log_id), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log_id = mr_core_rig_open(&rig, "t", 0, false);
    expect_readable(log_id, count + 1);
}

/* The same moment at a kill: recovery finds everything that was acknowledged. */
static void test_no_space_for_segments_and_a_kill_loses_nothing(void **state)
{
    (void)state;
    start(40 * MIB);
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_capacity(rig.fs, mr_sim_fs_used(rig.fs));
    uint32_t count = 0;
    while (append(log_id) == MR_OK) {
        count++;
    }
    assert_true(count > 0);
    mr_core_rig_kill(&rig);
    mr_sim_fs_capacity(rig.fs, 0);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log_id = mr_core_rig_open(&rig, "t", 0, false);
    expect_readable(log_id, count);
}

static void expect_offline(void)
{
    struct mr_storage_stats stats;
    uint32_t                bytes = 0;
    mr_storage_core_stats(rig.core, &stats);
    assert_true(stats.is_offline);
    assert_int_equal(append(log_id), MR_ERR_DIR_OFFLINE);
    assert_int_equal(append(own), MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_read(&rig, log_id, 0, 1000, NULL, &bytes), MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_list(&rig, log_id, MR_LIST_LATEST).err, MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_delete_records(&rig, log_id, 0), MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_stat(&rig, log_id, NULL).err, MR_ERR_DIR_OFFLINE);
    assert_non_null(strstr(rig.last_error, "offline"));
    assert_int_equal(rig.offlines, 1); /* control is told, once */
    /* Asleep, for ever. */
    assert_true(mr_storage_core_deadline_ns(rig.core) == MR_NEVER);
}

/* Blocks of the journal were written before: lack of space there is a failed write. Once is enough. */
static void test_no_space_in_the_journal_is_a_failed_write(void **state)
{
    (void)state;
    start(40 * MIB);
    assert_int_equal(append(log_id), MR_OK);
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_NO_SPACE,
                                                  .name_part = "journal"});
    assert_int_equal(append(log_id), MR_ERR_DIR_OFFLINE);
    mr_sim_fs_heal(rig.fs);
    expect_offline();
}

static void test_failed_segment_write_is_not_tried_again(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(append(log_id), MR_OK);
    mr_sim_fs_fail(rig.fs,
                   &(struct mr_sim_fault){.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO, .name_part = ".log"});
    for (uint32_t index = 0; index < 100 && append(log_id) == MR_OK; index++) {
    }
    mr_sim_fs_heal(rig.fs);
    mr_core_rig_settle(&rig);
    expect_offline();
}

/* A snapshot of producers that is ahead of the log would be taken for the one of the last clean stop. */
static void test_snapshot_waits_until_its_segment_is_durable(void **state)
{
    static const char name[] = "t-0/00000000000000000001.snapshot";
    (void)state;
    rig.config.segment_bytes = 3 * RECORD_BYTES / 2; /* the second record begins a segment */
    start(0);
    assert_int_equal(append(log_id), MR_OK);
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO,
                                                  .name_part = "journal"});
    assert_int_equal(append(log_id), MR_ERR_DIR_OFFLINE);
    mr_core_rig_settle(&rig);
    assert_int_equal(mr_core_rig_file(&rig, name), -1);
    mr_sim_fs_heal(rig.fs);
    mr_core_rig_kill(&rig);
    start(0);
    assert_int_equal(append(log_id), MR_OK);
    mr_core_rig_settle(&rig);
    assert_true(mr_core_rig_file(&rig, name) > 0);
}

/* Every kind of operation fails at every place of a workload with rolls, deletion and recycling: the core stays
 * alive, nothing that was acknowledged is gone after a restart, and an offline directory says so. */
static void test_any_operation_fails_and_acknowledged_records_stay(void **state)
{
    (void)state;
    static const enum mr_err errors[] = {MR_ERR_IO, MR_ERR_NO_SPACE};
    for (uint32_t nth = 0; nth < 90; nth++) {
        mr_core_rig_deinit(&rig);
        (void)setup(state);
        start(0);
        mr_core_rig_advance(&rig, 3000);
        mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = UINT32_MAX & ~(1u << MR_DISK_READ),
                                                      .nth = nth,
                                                      .err = errors[nth % 2],
                                                      .is_sticky = nth % 3 == 0});
        uint32_t acked = 0;
        for (uint32_t index = 0; index < 60; index++) {
            acked += append(log_id) == MR_OK;
        }
        (void)mr_core_rig_delete_records(&rig, log_id, 1);
        mr_core_rig_advance(&rig, 5000);
        mr_sim_fs_heal(rig.fs);
        mr_core_rig_kill(&rig);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        log_id = mr_core_rig_open(&rig, "t", 0, false);
        assert_true(mr_core_rig_stat(&rig, log_id, NULL).log_end_offset >= (int64_t)acked);
        for (uint32_t offset = 1; offset < acked; offset++) {
            uint32_t bytes = 0;
            assert_int_equal(mr_core_rig_read(&rig, log_id, offset, 1000, NULL, &bytes), MR_OK);
        }
    }
}

static void test_stat_tells_the_space_of_the_file_system(void **state)
{
    (void)state;
    uint64_t before = 0;
    uint64_t after = 0;
    start(40 * MIB);
    mr_core_rig_advance(&rig, 5000);
    (void)mr_core_rig_stat(&rig, log_id, &before);
    assert_int_equal(before, 40 * MIB - mr_sim_fs_used(rig.fs));
    mr_sim_fs_capacity(rig.fs, 50 * MIB);
    mr_core_rig_advance(&rig, 5000); /* idle: nobody asks until somebody wants to know */
    (void)mr_core_rig_stat(&rig, log_id, &after);
    assert_int_equal(after - before, 10 * MIB);
}

/* Where O_DIRECT is refused everything goes through the page cache, and is flushed all the same: power is lost, and
 * what was acknowledged is there. Many segments are opened at a time. */
static void test_directory_without_direct_io_is_served_with_flushes(void **state)
{
    (void)state;
    uint64_t logs[8];
    mr_sim_fs_refuse_direct(rig.fs);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (int32_t index = 0; index < 8; index++) {
        logs[index] = mr_core_rig_open(&rig, "t", index, false);
    }
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t index = 0; index < 8; index++) {
            assert_int_equal(append(logs[index]), MR_OK);
        }
    }
    struct mr_storage_stats stats;
    mr_storage_core_stats(rig.core, &stats);
    assert_false(stats.is_offline);
    assert_true(stats.demux_bytes > 2 * MIB);
    mr_sim_disk_destroy(rig.disk);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 3);
    rig.disk = mr_sim_disk_create(rig.fs);
    mr_core_rig_kill(&rig);
    mr_sim_fs_refuse_direct(rig.fs);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (int32_t index = 0; index < 8; index++) {
        expect_readable(mr_core_rig_open(&rig, "t", index, false), 20);
    }
}

/* Ruling 18: zeros behind the end only while the broker runs. */
static void test_space_ahead_of_a_fast_log_goes_at_stop(void **state)
{
    (void)state;
    rig.config.segment_bytes = 64 << 20;
    rig.plan.journal_file_bytes = 4u << 20;
    start(0);
    for (uint32_t index = 0; index < 200; index++) {
        assert_int_equal(append(log_id), MR_OK);
    }
    int64_t size = mr_core_rig_stat(&rig, log_id, NULL).size_bytes;
    assert_true(mr_core_rig_file(&rig, "t-0/00000000000000000000.log") > size);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    assert_int_equal(mr_core_rig_file(&rig, "t-0/00000000000000000000.log"), size);
}

/* What the data cores could not wait for (their drain has a deadline) comes behind the stop: it is refused. */
static void test_what_comes_after_the_stop_is_refused(void **state)
{
    (void)state;
    start(0);
    assert_int_equal(append(log_id), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    assert_int_equal(append(log_id), MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_delete_records(&rig, log_id, 0), MR_ERR_DIR_OFFLINE);
    assert_int_equal(mr_core_rig_drop(&rig, log_id), MR_ERR_UNKNOWN_LOG);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_full_directory_refuses_producers_and_serves_the_rest),
        TEST(test_full_directory_ends_when_records_are_deleted),
        TEST(test_full_directory_ends_when_a_log_is_dropped),
        TEST(test_log_is_dropped_though_its_indexes_find_no_space),
        TEST(test_full_directory_ends_when_others_make_room),
        TEST(test_full_for_large_batches_ends_when_there_is_room_for_one),
        TEST(test_directory_without_direct_io_is_served_with_flushes),
        TEST(test_no_space_for_segments_waits_in_the_journal),
        TEST(test_no_space_for_segments_and_a_kill_loses_nothing),
        TEST(test_no_space_in_the_journal_is_a_failed_write),
        TEST(test_failed_segment_write_is_not_tried_again),
        TEST(test_snapshot_waits_until_its_segment_is_durable),
        TEST(test_any_operation_fails_and_acknowledged_records_stay),
        TEST(test_stat_tells_the_space_of_the_file_system),
        TEST(test_space_ahead_of_a_fast_log_goes_at_stop),
        TEST(test_what_comes_after_the_stop_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
