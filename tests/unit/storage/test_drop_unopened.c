/*
 * a log that could not be opened, or that nobody opened, is dropped by its name: its directory is not in the way of the
 * next topic of that name, in this life and in the next. Another topic's directory is left alone.
 */
#include "test.h"

#include "core_rig.h"

#define SEGMENT "/data/t-0/00000000000000000000.log"

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

static struct mr_uuid id_of(uint8_t topic)
{
    struct mr_uuid id;
    memset(id.bytes, topic, sizeof id.bytes);
    return id;
}

static enum mr_err open_log(uint8_t topic, struct mr_open_op *op)
{
    *op = (struct mr_open_op){
        .op.kind = MR_STORAGE_OPEN, .topic = MR_STR("t"), .topic_id = id_of(topic), .config = &rig.config};
    return mr_core_rig_do(&rig, &op->op);
}

static enum mr_err drop(uint8_t topic)
{
    struct mr_drop_op op = {.op.kind = MR_STORAGE_DROP, .topic = MR_STR("t"), .topic_id = id_of(topic)};
    return mr_core_rig_do(&rig, &op.op);
}

static void restart(bool is_clean)
{
    if (is_clean) {
        assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
        mr_core_rig_kill(&rig);
    } else {
        mr_core_rig_cut(&rig, MR_SIM_CUT_DROP, 1);
    }
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
}

/* Every operation of the OPEN fails once. */
static void test_failed_open_leaves_nothing_in_the_way(void **state)
{
    (void)state;
    struct mr_open_op op;
    enum mr_err       err = MR_ERR_IO;
    uint32_t          failures = 0;
    for (uint64_t nth = 0; err != MR_OK; nth++) {
        mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = UINT32_MAX, .nth = nth, .err = MR_ERR_IO, .name_part = "t-0"});
        err = open_log(1, &op);
        failures += err != MR_OK;
        mr_sim_fs_heal(rig.fs);
        assert_int_equal(drop(1), MR_OK);
        if (nth % 2 == 1) {
            restart(nth % 4 == 1);
        }
        assert_int_equal(open_log(2, &op), MR_OK);
        assert_int_equal(op.log_end_offset, 0);
        assert_int_equal(drop(2), MR_OK); /* by name, too, an open log goes */
    }
    assert_true(failures > 3);
}

/* A log that is refused because it has lost records: what was acknowledged is in the way, and is to go. */
static void test_damaged_log_is_dropped(void **state)
{
    (void)state;
    struct mr_open_op op;
    assert_int_equal(open_log(1, &op), MR_OK);
    for (uint32_t count = 0; count < 5; count++) {
        assert_int_equal(mr_core_rig_append(&rig, op.log_id, 1, 3000, 1000, NULL), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    static uint8_t bytes[4096];
    assert_true(mr_sim_fs_get(rig.fs, SEGMENT, bytes, sizeof bytes) > (int64_t)sizeof bytes);
    mr_sim_fs_put(rig.fs, SEGMENT, bytes, sizeof bytes);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(open_log(1, &op), MR_ERR_CORRUPT);
    assert_int_equal(open_log(2, &op), MR_ERR_EXISTS);
    assert_int_equal(drop(1), MR_OK);
    assert_int_equal(open_log(2, &op), MR_OK);
    assert_int_equal(op.log_end_offset, 0);
    restart(false);
    assert_int_equal(open_log(2, &op), MR_OK);
}

static void test_anothers_directory_is_left_alone(void **state)
{
    (void)state;
    struct mr_open_op op;
    assert_int_equal(drop(2), MR_OK); /* nothing is there */
    assert_int_equal(open_log(1, &op), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, op.log_id, 3, 300, 1000, NULL), MR_OK);
    assert_int_equal(drop(2), MR_ERR_EXISTS);
    restart(true);
    assert_int_equal(drop(2), MR_ERR_EXISTS);
    assert_int_equal(open_log(1, &op), MR_OK);
    assert_int_equal(op.log_end_offset, 3);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_failed_open_leaves_nothing_in_the_way),
        TEST(test_damaged_log_is_dropped),
        TEST(test_anothers_directory_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
