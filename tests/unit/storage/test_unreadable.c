/*
 * what a device cannot read of a segment is the error of those who ask for it: the directory, other logs and appends go on,
 * and when the device can read it again, everything is served.
 */
#include "test.h"

#include "core_rig.h"

#define RECORDS 300
#define SECOND  104 /* where log a's second segment begins; log b has one */

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 1 << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t a = mr_core_rig_open(&rig, "a", 0, false);
    uint64_t b = mr_core_rig_open(&rig, "b", 0, false);
    for (int64_t index = 0; index < RECORDS; index++) {
        assert_int_equal(mr_core_rig_append(&rig, a, 1, 10000, 1000 + index, NULL), MR_OK);
        assert_int_equal(mr_core_rig_append(&rig, b, 1, 100, 1000 + index, NULL), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static enum mr_err read_at(uint64_t id, int64_t offset)
{
    uint32_t bytes = 0;
    return mr_core_rig_read(&rig, id, offset, 1000, NULL, &bytes);
}

static void expect_going_on(uint64_t a, uint64_t b)
{
    assert_int_equal(rig.offlines, 0);
    assert_int_equal(read_at(b, 0), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, a, 1, 100, 5000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, b, 1, 100, 5000, NULL), MR_OK);
}

/* `ask` fails while the second segment of log a cannot be read, and is right afterwards. */
static void check(enum mr_err (*ask)(uint64_t id))
{
    uint64_t            a = mr_core_rig_open(&rig, "a", 0, false);
    uint64_t            b = mr_core_rig_open(&rig, "b", 0, false);
    struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_READ, .err = MR_ERR_IO, .is_sticky = true,
                                 .name_part = "00000000000000000104.log"};
    assert_true(mr_core_rig_file(&rig, "a-0/00000000000000000104.log") > 0);
    mr_sim_fs_fail(rig.fs, &fault);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(ask(a), MR_ERR_IO);
        expect_going_on(a, b);
    }
    assert_int_equal(read_at(a, RECORDS - 1), MR_OK); /* another segment */
    mr_sim_fs_heal(rig.fs);
    assert_int_equal(ask(a), MR_OK);
    expect_going_on(a, b);
}

static enum mr_err ask_batch(uint64_t id)
{
    return read_at(id, SECOND + 7);
}

static enum mr_err ask_time(uint64_t id)
{
    struct mr_list_offsets_entry found = mr_core_rig_list(&rig, id, 1000 + SECOND + 7);
    return found.err == MR_OK && found.offset != SECOND + 7 ? MR_ERR_CORRUPT : found.err;
}

static void test_read_that_fails_is_its_readers_error(void **state)
{
    (void)state;
    check(ask_batch);
    assert_non_null(strstr(rig.last_error, "cannot be read dir=a-0 segment=104"));
}

static void test_search_by_time_that_fails_is_its_askers_error(void **state)
{
    (void)state;
    check(ask_time);
}

/* A batch that takes several reads: the second one of them fails. */
static void test_large_batch_that_fails_half_way(void **state)
{
    (void)state;
    rig.config.segment_bytes = 16 << 20;
    rig.config.max_message_bytes = 4 << 20;
    uint64_t id = mr_core_rig_open(&rig, "l", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, id, 1, 1900000, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, id, 1, 100, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    id = mr_core_rig_open(&rig, "l", 0, false);
    uint32_t failed = 0;
    for (uint64_t nth = 0; nth < 6; nth++) {
        struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_READ, .nth = nth, .err = MR_ERR_IO,
                                     .name_part = "00000000000000000000.log"};
        mr_sim_fs_fail(rig.fs, &fault);
        uint32_t    bytes = 0;
        enum mr_err err = mr_core_rig_read(&rig, id, 0, 1, NULL, &bytes);
        assert_int_equal(err, mr_sim_fs_faults(rig.fs) > 0 ? MR_ERR_IO : MR_OK);
        failed += err != MR_OK;
        mr_sim_fs_heal(rig.fs);
        assert_int_equal(rig.offlines, 0);
    }
    assert_in_range(failed, 2, 5); /* several reads, and one that nobody asked for */
    assert_int_equal(read_at(id, 0), MR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_that_fails_is_its_readers_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search_by_time_that_fails_is_its_askers_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_batch_that_fails_half_way, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
