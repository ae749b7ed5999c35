/* Many cold reads that come back at once: a turn takes 256 KiB and one read more, in the order of coming, and all end. */
#include "test.h"

#include "core_rig.h"

#define READERS 12u

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 1 << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    for (uint32_t index = 0; index < 300; index++) {
        assert_int_equal(mr_core_rig_append(&rig, id, 1, 10000, 1000, NULL), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static uint64_t cold_bytes(void)
{
    struct mr_storage_stats stats;
    mr_storage_core_stats(rig.core, &stats);
    return stats.cold_bytes;
}

static void test_one_turn_takes_one_read(void **state)
{
    (void)state;
    struct mr_read_op    ops[READERS];
    struct mr_read_entry entries[READERS];
    struct mr_lent_span  spans[READERS][8];
    uint8_t              copies[READERS][64];
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    uint32_t answers = rig.answers;
    for (uint32_t index = 0; index < READERS; index++) {
        entries[index] = (struct mr_read_entry){.log_id = id, .offset = index * 20, .bytes_max = 50000,
                                                .current_leader_epoch = -1, .is_first_batch_whole = true};
        ops[index] = (struct mr_read_op){.op.kind = MR_STORAGE_READ, .bytes_max = 50000, .entry_count = 1,
                                         .entries = &entries[index], .spans = spans[index], .span_max = 8,
                                         .copy_buffer = copies[index], .copy_max = sizeof copies[index]};
        mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &ops[index].op);
    }
    uint64_t before = cold_bytes();
    uint32_t turns = 0;
    for (uint32_t idle = 0; rig.answers < answers + READERS; idle++) {
        assert_true(idle < 1000);
        (void)mr_core_rig_turn(&rig);
        assert_true(cold_bytes() - before < 512u << 10); /* one that is short, and one more */
        turns += cold_bytes() > before;
        before = cold_bytes();
        rig.now.mono_ns += MR_NS_PER_MS;
    }
    assert_in_range(turns, READERS / 2, READERS);
    for (uint32_t index = 0; index < READERS; index++) {
        assert_int_equal(entries[index].err, MR_OK);
        assert_in_range(entries[index].bytes, 40000, 50000);
        mr_core_rig_release(&rig, spans[index][0].page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_turn_takes_one_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
