/*
 * the power goes while a journal file is recycled: whatever the state of a log says by then, and whatever of its
 * segments is in files, every acknowledged record is there and is found by its time.
 *
 * A small log rolls at every moment of a recycling; a large one fills the journal's file of 1 MiB. Only what was
 * flushed survives.
 */
#include "storage_rig.h"
#include "test.h"

#include "storage_core.h"

#define SMALL_TIME   1000
#define SMALL_COUNT  4u
#define OPERATION_NS 20000 /* of the disk: twenty turns */

static const struct rig_batch filler = {.records = 1, .bytes = 60 << 10, .timestamp = 10, .producer_id = -1};

/* Offset `index` of the small log: a batch of one record, large enough for a segment of its own with the next. */
static void append_small(struct storage_rig *rig, const struct rig_log *log, uint32_t index)
{
    struct rig_batch batch = {.records = 1, .bytes = 3000, .timestamp = SMALL_TIME + index,
                              .producer_id = -1};
    assert_int_equal(rig_append(rig, log, &batch), index);
}

static void check_small(struct storage_rig *rig)
{
    struct rig_log log;
    assert_int_equal(rig_open(rig, "small", 0, &log), MR_OK);
    assert_int_equal(log.end, SMALL_COUNT);
    for (uint32_t index = 0; index < SMALL_COUNT; index++) {
        struct mr_list_offsets_entry found;
        assert_int_equal(rig_read(rig, &log, index), index);
        rig_list_offsets(rig, &log, SMALL_TIME + index, &found);
        assert_int_equal(found.offset, index);
    }
}

static bool is_recycling(const struct storage_rig *rig)
{
    struct mr_journal_pressure pressure;
    mr_journal_pressure(rig->cores[0]->journal, &pressure);
    return pressure.is_recycling;
}

/* The small log rolls `turns` turns after a recycling began (false: that is over by then); the life lasts `wait` turns
 * more. */
static bool live(struct storage_rig *rig, uint32_t turns, uint32_t wait)
{
    struct rig_log small;
    struct rig_log large;
    mr_sim_fs_latency(rig->fs, OPERATION_NS, OPERATION_NS, false);
    rig->plan.journal_files_max = 2;
    rig->config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "large", 0, &large), MR_OK);
    rig->config.segment_bytes = 5000;
    rig->config.index_interval_bytes = 200;
    assert_int_equal(rig_open(rig, "small", 0, &small), MR_OK);
    append_small(rig, &small, 0); /* in the segment whose file OPEN made; the next one has none for a while */
    append_small(rig, &small, 1);
    for (uint32_t count = 0; !is_recycling(rig); count++) {
        (void)rig_append(rig, &large, &filler);
        assert_true(count < 40); /* of one journal file at most, and some */
    }
    while (turns-- > 0) {
        (void)rig_turn(rig);
    }
    bool is_hit = is_recycling(rig);
    append_small(rig, &small, 2);
    append_small(rig, &small, 3);
    while (wait-- > 0) {
        (void)rig_turn(rig);
    }
    return is_hit;
}

static void test_nothing_is_lost_when_a_log_rolls_while_a_file_is_recycled(void **state)
{
    (void)state;
    bool is_hit = true;
    for (uint32_t turns = 0; is_hit; turns += 4) {
        for (uint32_t wait = 0; wait < 100; wait += 8) {
            struct storage_rig rig;
            rig_init(&rig);
            is_hit = live(&rig, turns, wait);
            rig_cut(&rig, MR_SIM_CUT_DROP);
            assert_int_equal(rig_start(&rig), MR_OK);
            check_small(&rig);
            rig_deinit(&rig);
        }
        assert_true(is_hit || turns > 30);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost_when_a_log_rolls_while_a_file_is_recycled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
