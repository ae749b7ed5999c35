/*
 * stop and start: what a stop does for many logs, for idle ones and in a hurry, and what a start asks about an empty one.
 */
#include "storage_rig.h"
#include "test.h"

#include "millrace/base/fmt.h"

static const struct rig_batch small = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = -1};

static int64_t size_of(const struct storage_rig *rig, const char *path)
{
    return mr_sim_fs_get(rig->fs, path, NULL, 0);
}

/* It goes by turns: the second SIGTERM is heard while logs are being closed. */
static void test_hurried_stop_leaves_the_directory_guarded(void **state)
{
    enum { LOGS = 300 };
    static struct rig_log logs[LOGS];
    struct storage_rig   *rig = *state;
    rig->plan.logs_max = LOGS + 8;
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < LOGS; index++) {
        assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
        (void)rig_append(rig, &logs[index], &small);
    }
    struct mr_stop_op stop = {.op.kind = MR_STORAGE_STOP, .is_last = true, .broker_epoch = 5};
    rig_send(rig, 0, &stop.op);
    while (size_of(rig, RIG_LOG_DIR "/many-0/00000000000000000002.snapshot") < 0) {
        (void)rig_turn(rig);
    }
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/many-299/00000000000000000002.snapshot"), -1);
    rig->hurry = 1;
    rig_wait(rig, &stop.op);
    assert_int_equal(stop.op.err, MR_ERR_CLOSED);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/.kafka_cleanshutdown"), -1);
    rig_kill(rig);
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < LOGS; index++) {
        assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
        assert_int_equal(logs[index].end, 2);
    }
}

/* More logs than files may be open, and than tasks there are to open and close them with. */
static void test_stop_with_thousands_of_dirty_logs_closes_them_all(void **state)
{
    enum { LOGS = 1500 };
    static struct rig_log logs[LOGS];
    struct storage_rig   *rig = *state;
    rig->plan.logs_max = LOGS + 8;
    rig->plan.cache_bytes = 64u << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < LOGS; index++) {
        assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
        (void)rig_append(rig, &logs[index], &small);
    }
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < LOGS; index++) {
        assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
        assert_int_equal(logs[index].end, 2);
    }
}

/* Operations of the disk in one stop of `idle` logs that nobody wrote to since the start, and `busy` with one batch. */
static uint64_t stop_cost(struct storage_rig *rig, int32_t idle, int32_t busy)
{
    struct rig_log log;
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < idle + busy; index++) {
        assert_int_equal(rig_open(rig, "many", index, &log), MR_OK);
        if (index >= idle) {
            (void)rig_append(rig, &log, &small);
        }
    }
    rig_settle(rig);
    uint64_t before = mr_sim_fs_op_count(rig->fs);
    assert_int_equal(rig_stop(rig), MR_OK);
    return mr_sim_fs_op_count(rig->fs) - before;
}

static void test_stop_does_nothing_for_an_idle_log(void **state)
{
    struct storage_rig *rig = *state;
    uint64_t            least = stop_cost(rig, 1, 0);
    assert_int_equal(stop_cost(rig, 12, 0), least); /* new ones */
    assert_int_equal(stop_cost(rig, 12, 0), least); /* and such that were there */
    uint64_t with_first_records = stop_cost(rig, 12, 20) - least;
    assert_in_range(with_first_records, 20, 12 * 20); /* .log, .timeindex, epochs, snapshot: open, write, close each */
    assert_int_equal(stop_cost(rig, 32, 0), least);
}

/* Operations of the disk from the start until `count` logs are open. */
static uint64_t start_cost(struct storage_rig *rig, int32_t count)
{
    struct rig_log log;
    uint64_t       before = mr_sim_fs_op_count(rig->fs);
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < count; index++) {
        assert_int_equal(rig_open(rig, "many", index, &log), MR_OK);
    }
    return mr_sim_fs_op_count(rig->fs) - before;
}

/* Open, list and close its directory; open, read and close its partition.metadata. */
static void test_start_asks_little_about_an_empty_log(void **state)
{
    enum { LOGS = 40, PER_LOG = 6 };
    struct storage_rig *rig = *state;
    (void)start_cost(rig, LOGS);
    assert_int_equal(rig_stop(rig), MR_OK);
    uint64_t few = start_cost(rig, 1);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_in_range(start_cost(rig, LOGS), few, few + (LOGS - 1) * PER_LOG);
    rig_kill(rig);
    uint64_t killed = start_cost(rig, LOGS);
    assert_in_range(killed, LOGS * PER_LOG, few + LOGS * (PER_LOG + 1)); /* each has a state, which is written anew */
    assert_int_equal(rig_stop(rig), MR_OK);
}

/* Some have a little in memory, which goes into the page cache, some much. */
static void test_stop_writes_little_and_much(void **state)
{
    enum { LOGS = 60 };
    static struct rig_log logs[LOGS];
    struct storage_rig   *rig = *state;
    for (int32_t life = 0; life < 3; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        for (int32_t index = 0; index < LOGS; index++) {
            assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
            assert_int_equal(logs[index].end, 2 * life * (1 + index * 2));
            rig_fill(rig, &logs[index], 1 + (uint32_t)index * 2, 1000);
        }
        assert_int_equal(rig_stop(rig), MR_OK);
        for (int32_t index = 0; index < LOGS; index++) {
            uint8_t batch[4096];
            char    path[64];
            mr_fmt(path, sizeof path, RIG_LOG_DIR "/many-%d/00000000000000000000.log", index);
            int64_t bytes = (life + 1) * (1 + index * 2) * (int64_t)rig_batch_bytes(&small, 0, batch, sizeof batch);
            assert_true(bytes > rig->config.segment_bytes || size_of(rig, path) == bytes);
        }
    }
    assert_int_equal(rig_start(rig), MR_OK);
    for (int32_t index = 0; index < LOGS; index++) {
        assert_int_equal(rig_open(rig, "many", index, &logs[index]), MR_OK);
        assert_int_equal(rig_read(rig, &logs[index], logs[index].end - 1), logs[index].end - 2);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hurried_stop_leaves_the_directory_guarded),
        TEST(test_stop_with_thousands_of_dirty_logs_closes_them_all),
        TEST(test_stop_does_nothing_for_an_idle_log),
        TEST(test_stop_writes_little_and_much),
        TEST(test_start_asks_little_about_an_empty_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
