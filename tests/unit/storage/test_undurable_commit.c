/*
 * a commit that was under way when the process was killed: the next recovery reads it, as the disk has taken it, but it is not
 * durable. Whatever recovery does for it must not outlive it.
 */
#include "test.h"

#include "core_rig.h"

#define BATCHES 6u
#define FROM    25u /* operations of a recovery after which power goes: files are written then, and not yet synced */
#define POINTS  16u
#define SEEDS   48u

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* A log without records; its first batches are on their way to the journal. */
static void killed_while_appending(void)
{
    uint64_t               log = mr_core_rig_open(&rig, "t", 0, false);
    struct mr_span         span = {.data = rig.bytes, .len = mr_core_rig_batch(&rig, 1, 700, 1000)};
    struct mr_append_entry entries[BATCHES];
    struct mr_append_op    ops[BATCHES];
    uint32_t answers = rig.answers;
    mr_core_rig_settle(&rig);
    mr_sim_fs_latency(rig.fs, 50 * MR_NS_PER_MS, 50 * MR_NS_PER_MS, false);
    for (uint32_t index = 0; index < BATCHES; index++) {
        entries[index] = (struct mr_append_entry){.log_id = log, .leader_epoch = -1,
                                                  .batch = {.spans = &span, .span_count = 1, .bytes = span.len}};
        ops[index] = (struct mr_append_op){
            .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entries[index]};
        mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &ops[index].op);
    }
    for (uint32_t turns = 0; turns < 3; turns++) {
        (void)mr_core_rig_turn(&rig);
    }
    assert_true(rig.disk->in_flight > 0 && rig.answers == answers);
    mr_core_rig_kill(&rig);
    mr_sim_fs_latency(rig.fs, 0, 0, false);
}

/* Power goes while the next start recovers: the whole commit is there then, or nothing of it. */
static void test_recovery_of_what_is_not_durable(void **state)
{
    uint32_t whole = 0;
    uint32_t gone = 0;
    for (uint32_t at = 0; at < POINTS; at++) {
        for (uint32_t seed = 0; seed < SEEDS; seed++) {
            (void)teardown(state);
            (void)setup(state);
            rig.now.mono_ns += seed; /* by which the kill's lot is drawn: whether the disk has the commit */
            assert_int_equal(mr_core_rig_start(&rig), MR_OK);
            killed_while_appending();
            mr_sim_fs_die_at(rig.fs, mr_sim_fs_op_count(rig.fs) + FROM + at);
            (void)mr_core_rig_start(&rig);
            mr_core_rig_cut(&rig, MR_SIM_CUT_RANDOM, seed);
            assert_int_equal(mr_core_rig_start(&rig), MR_OK);
            uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
            int64_t  end = mr_core_rig_stat(&rig, log, NULL).log_end_offset;
            uint32_t bytes = 0;
            whole += end == BATCHES;
            gone += end == 0;
            assert_true(end == 0 || mr_core_rig_read(&rig, log, 0, 1 << 20, NULL, &bytes) == MR_OK);
        }
    }
    assert_int_equal(whole + gone, POINTS * SEEDS);
    assert_true(whole > 0 && gone > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_recovery_of_what_is_not_durable, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
