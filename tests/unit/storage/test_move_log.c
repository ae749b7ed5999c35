/*
 * move_log, and appends of copies: a copy has the offsets and epochs of its original, gaps too, after kills and power cuts
 * at every operation; the original holds still; the mark of a copy stays until it is settled.
 */
#include "core_rig.h"
#include "test.h"

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static struct mr_open_op open_copy(int64_t start)
{
    struct mr_open_op op = {.op.kind = MR_STORAGE_OPEN,
                            .topic = MR_STR("c"),
                            .config = &rig.config,
                            .leader_epoch = 2, /* the newest that any batch has */
                            .is_copy = true,
                            .start_offset = start};
    memset(op.topic_id.bytes, 0x55, sizeof op.topic_id.bytes);
    op.topic_id.bytes[0] = 'c';
    (void)mr_core_rig_do(&rig, &op.op);
    return op;
}

/* A batch of ten records that was at `offset` of another log. */
static enum mr_err copy_at(uint64_t log_id, int64_t offset, int32_t epoch)
{
    struct mr_batch batch;
    struct mr_span  span = {.data = rig.bytes, .len = mr_core_rig_batch(&rig, 10, 100, 1000 + offset)};
    mr_batch_header_load(rig.bytes, &batch);
    batch.base_offset = offset;
    batch.leader_epoch = epoch;
    mr_batch_header_store(&batch, rig.bytes);
    struct mr_append_entry entry = {.log_id = log_id,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = span.len},
                                    .leader_epoch = -1,
                                    .origin = MR_APPEND_COPY};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    assert_true(entry.err != MR_OK || entry.base_offset == offset);
    return entry.err;
}

static enum mr_err step(uint64_t log_id, enum mr_move_step which, struct mr_move_op *op)
{
    op->op.kind = MR_STORAGE_MOVE;
    op->log_id = log_id;
    op->step = which;
    return mr_core_rig_do(&rig, &op->op);
}

static const int64_t  offsets[] = {100, 117, 127, 500, 510, 100000};
static const uint32_t batches = sizeof offsets / sizeof offsets[0];

/* The first `count` batches are there, each where it was, with its epoch. */
static void check_batches(uint64_t log_id, uint32_t count)
{
    static uint8_t bytes[65536];
    int64_t        next = 0;
    for (uint32_t index = 0; index < count; index++) {
        struct mr_batch batch;
        uint32_t        len = 0;
        int64_t         from = index == 0 ? offsets[0] : next;
        assert_int_equal(mr_core_rig_read(&rig, log_id, from, sizeof bytes, bytes, &len), MR_OK);
        assert_true(len >= MR_BATCH_HEADER);
        mr_batch_header_load(bytes, &batch);
        assert_int_equal(batch.base_offset, offsets[index]);
        assert_int_equal(batch.leader_epoch, index / 2);
        next = mr_batch_last_offset(&batch) + 1;
    }
    assert_true(mr_core_rig_stat(&rig, log_id, NULL).log_end_offset >= next);
}

static void test_copy_keeps_offsets_and_epochs_over_every_end(void **state)
{
    (void)state;
    rig.config.segment_bytes = 3000; /* gaps where segments begin, too */
    struct mr_open_op op = open_copy(offsets[0]);
    assert_int_equal(op.op.err, MR_OK);
    assert_true(op.is_created && op.is_unfinished);
    assert_int_equal(op.log_end_offset, offsets[0]);
    for (uint32_t index = 0; index < batches; index++) {
        assert_int_equal(copy_at(op.log_id, offsets[index], (int32_t)index / 2), MR_OK);
        check_batches(op.log_id, index + 1);
        assert_int_equal(copy_at(op.log_id, offsets[index], 0), MR_ERR_INVALID); /* what is there is not copied again */
        switch (index % 3) {
        case 0:
            mr_core_rig_kill(&rig);
            break;
        case 1:
            mr_core_rig_cut(&rig, MR_SIM_CUT_DROP, index);
            break;
        default:
            assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
            mr_core_rig_kill(&rig);
        }
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        op = open_copy(0);
        assert_int_equal(op.op.err, MR_OK);
        assert_false(op.is_created);
        assert_int_equal(op.log_start_offset, offsets[0]);
        check_batches(op.log_id, index + 1);
    }
}

/* The power goes at each operation of the whole. */
static void test_copy_is_a_prefix_wherever_the_power_goes(void **state)
{
    (void)state;
    bool is_through = false;
    for (uint64_t nth = 1; !is_through; nth += 3) {
        mr_core_rig_deinit(&rig);
        mr_core_rig_init(&rig);
        rig.config.segment_bytes = 3000;
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        uint32_t          done = 0;
        struct mr_open_op op = open_copy(offsets[0]);
        mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = UINT32_MAX, .nth = nth, .err = MR_ERR_IO});
        while (done < batches && copy_at(op.log_id, offsets[done], (int32_t)done / 2) == MR_OK) {
            done++;
        }
        is_through = done == batches;
        mr_sim_fs_heal(rig.fs);
        mr_core_rig_cut(&rig, MR_SIM_CUT_DROP, nth);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        op = open_copy(0);
        assert_int_equal(op.op.err, MR_OK);
        check_batches(op.log_id, done);
    }
}

static void test_held_log_takes_nothing_until_it_is_released(void **state)
{
    (void)state;
    struct mr_move_op op = {0};
    int64_t           offset = -1;
    uint64_t          log = mr_core_rig_open(&rig, "t", 0, false);
    rig.config.is_cleanup_delete = true;
    assert_int_equal(mr_core_rig_configure(&rig, log), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, log, 10, 100, 1, &offset), MR_OK);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, 3), MR_OK);
    assert_int_equal(step(log, MR_MOVE_HOLD, &op), MR_OK);
    assert_int_equal(op.log_start_offset, 3);
    assert_int_equal(op.log_end_offset, 10);
    assert_int_equal(mr_core_rig_append(&rig, log, 10, 100, 1, &offset), MR_ERR_NOT_LEADER);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, 5), MR_ERR_NOT_LEADER);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 10);
    assert_int_equal(step(log, MR_MOVE_RELEASE, &op), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, log, 10, 100, 1, &offset), MR_OK);
    assert_int_equal(offset, 10);
    assert_int_equal(step(log + 1, MR_MOVE_HOLD, &op), MR_ERR_UNKNOWN_LOG);
}

static void test_copy_starts_where_its_original_does_and_loses_its_mark(void **state)
{
    (void)state;
    struct mr_move_op op = {.log_start_offset = 105};
    uint64_t          log = open_copy(100).log_id;
    assert_int_equal(mr_core_rig_file(&rig, "c-0/millrace-copy"), 0);
    assert_int_equal(copy_at(log, 100, 0), MR_OK);
    assert_int_equal(step(log, MR_MOVE_START, &op), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    struct mr_open_op open = open_copy(0);
    assert_true(open.is_unfinished);
    assert_int_equal(open.log_start_offset, 105);
    assert_int_equal(step(open.log_id, MR_MOVE_SETTLE, &op), MR_OK);
    assert_int_equal(mr_core_rig_file(&rig, "c-0/millrace-copy"), -1);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    open = open_copy(0);
    assert_false(open.is_unfinished);
    assert_int_equal(open.log_start_offset, 105);
    check_batches(open.log_id, 0);
    op.log_start_offset = 111; /* behind the end */
    assert_int_equal(step(open.log_id, MR_MOVE_START, &op), MR_ERR_OFFSET_OUT_OF_RANGE);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_copy_keeps_offsets_and_epochs_over_every_end),
        TEST(test_copy_is_a_prefix_wherever_the_power_goes),
        TEST(test_held_log_takes_nothing_until_it_is_released),
        TEST(test_copy_starts_where_its_original_does_and_loses_its_mark),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
