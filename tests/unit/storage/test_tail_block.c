/*
 * J4: no block that holds acknowledged bytes is rewritten unless the live journal holds those bytes. A log whose last
 * block is in its file goes on and is drained; the power goes at every moment of that, and tears the block that is
 * being rewritten: what was acknowledged before is there, from the IMAGE. And what is written again was read right: where
 * every other read lies, nothing is.
 */
#include "test.h"

#include "core_rig.h"

#define OLD_BATCHES 3u /* in the block before this life */
#define SEEDS       8u

static struct mr_core_rig rig;

static void append(uint64_t log)
{
    assert_int_equal(mr_core_rig_append(&rig, log, 1, 700, 1000, NULL), MR_OK);
}

/* The power goes `steps` turns or completions after the stop has begun; false: that was through by then. */
static bool live_and_cut(uint32_t steps, uint64_t seed)
{
    static struct mr_stop_op stop;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    for (uint32_t count = 0; count < OLD_BATCHES; count++) {
        append(log);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append(mr_core_rig_open(&rig, "t", 0, false));
    mr_sim_fs_latency(rig.fs, 1000, 1000, false); /* so that the cut finds operations in flight */
    stop = (struct mr_stop_op){.op.kind = MR_STORAGE_STOP, .is_last = true, .broker_epoch = 1};
    rig.answered = NULL;
    mr_core_rig_send(&rig, MR_CORE_RIG_CONTROL, &stop.op);
    for (; steps > 0 && rig.answered == NULL; steps--) {
        if (!mr_core_rig_turn(&rig) && rig.disk->in_flight > 0) {
            rig.disk->ops->wait(rig.disk);
        }
    }
    bool is_cut = rig.answered == NULL;
    mr_core_rig_cut(&rig, MR_SIM_CUT_TEAR, seed);
    return is_cut;
}

static void test_torn_rewrite_of_the_last_block_loses_nothing(void **state)
{
    (void)state;
    bool     is_cut = true;
    for (uint32_t steps = 1; is_cut; steps++) {
        is_cut = false;
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            mr_core_rig_init(&rig);
            is_cut |= live_and_cut(steps, seed);
            assert_int_equal(mr_core_rig_start(&rig), MR_OK);
            uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
            assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, OLD_BATCHES + 1);
            for (int64_t offset = 0; offset <= OLD_BATCHES; offset++) {
                uint32_t bytes = 0;
                assert_int_equal(mr_core_rig_read(&rig, log, offset, 100, NULL, &bytes), MR_OK);
                assert_true(bytes > 700); /* and the CRC is right */
            }
            mr_core_rig_deinit(&rig);
        }
    }
}

/* A log with one batch; reads of its last block lie from then on. What appending another one is answered with. */
static enum mr_err append_with_lies(const struct mr_sim_misread *misread)
{
    mr_core_rig_init(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append(mr_core_rig_open(&rig, "t", 0, false));
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    mr_sim_fs_misread(rig.fs, misread);
    enum mr_err err = mr_core_rig_append(&rig, log, 1, 700, 1000, NULL);
    assert_true(mr_sim_fs_misread_count(rig.fs) > 0);
    mr_sim_fs_misread(rig.fs, &(struct mr_sim_misread){.name_part = ".log"});
    return err;
}

/* In the next life so many batches are there, and whole. */
static void assert_batches(int64_t count)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, count);
    for (int64_t offset = 0; offset < count; offset++) {
        uint32_t bytes = 0;
        assert_int_equal(mr_core_rig_read(&rig, log, offset, 100, NULL, &bytes), MR_OK);
        assert_true(bytes > 700);
    }
    mr_core_rig_deinit(&rig);
}

/* Every other read is right, and the one between them wrong in another place each time. */
static void test_last_block_is_not_given_up_soon(void **state)
{
    (void)state;
    const struct mr_sim_misread misread = {.name_part = ".log", .one_in = 1, .kinds = 1u << MR_SIM_WRONG_BIT};
    assert_int_not_equal(append_with_lies(&misread), MR_OK); /* never the same twice in a row */
    assert_true(mr_sim_fs_misread_count(rig.fs) > 8);
    mr_core_rig_cut(&rig, MR_SIM_CUT_DROP, 1);
    assert_batches(1);
}

/* Every other read tells the same lie. */
static void test_last_block_is_not_what_a_repeated_lie_says(void **state)
{
    (void)state;
    const struct mr_sim_misread misread = {.name_part = ".log", .one_in = 1, .kinds = 1u << MR_SIM_WRONG_AGE};
    assert_int_not_equal(append_with_lies(&misread), MR_OK);
    mr_core_rig_cut(&rig, MR_SIM_CUT_DROP, 1);
    assert_batches(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_block_is_not_given_up_soon),
        cmocka_unit_test(test_last_block_is_not_what_a_repeated_lie_says),
        cmocka_unit_test(test_torn_rewrite_of_the_last_block_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
