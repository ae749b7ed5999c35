/*
 * one damaged byte in the states of the journal: the logs are scanned, and none ends below what was acknowledged.
 */
#include "test.h"

#include "core_rig.h"

#define STATE   "/data/millrace-state-0"
#define BLOCKS  131072 /* of the state file: behind its slots */
#define BUSY    "b"
#define STILL   "s"
#define BATCHES 3u

static struct mr_core_rig rig;

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* Two logs; the journal goes round, so that the still one is in it as a carried tail alone, if at all. */
static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 64 << 10;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t still = mr_core_rig_open(&rig, STILL, 0, false);
    uint64_t busy = mr_core_rig_open(&rig, BUSY, 0, false);
    for (uint32_t count = 0; count < BATCHES; count++) {
        assert_int_equal(mr_core_rig_append(&rig, still, 1, 300, 1000, NULL), MR_OK);
    }
    for (uint32_t count = 0; count < 2000 && mr_core_rig_file(&rig, "millrace-state-0") <= BLOCKS; count++) {
        assert_int_equal(mr_core_rig_append(&rig, busy, 1, 20000, 1000, NULL), MR_OK);
    }
    mr_core_rig_settle(&rig);
    mr_core_rig_advance(&rig, 3000);
    assert_true(mr_core_rig_file(&rig, "millrace-state-0") > BLOCKS);
    return 0;
}

static int64_t end_of(const char *topic)
{
    uint64_t log = mr_core_rig_open(&rig, topic, 0, false);
    return mr_core_rig_stat(&rig, log, NULL).log_end_offset;
}

static void check(uint64_t pos)
{
    int64_t busy = end_of(BUSY);
    assert_int_equal(end_of(STILL), BATCHES);
    mr_core_rig_kill(&rig);
    mr_sim_fs_rot(rig.fs, STATE, pos, 1, 0x10);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(end_of(STILL), BATCHES);
    assert_int_equal(end_of(BUSY), busy);
    /* The next life believes what this one stored. */
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(end_of(STILL), BATCHES);
    assert_int_equal(end_of(BUSY), busy);
}

static void test_rescan_block_head(void **state)
{
    (void)state;
    check(BLOCKS);
}

static void test_rescan_record(void **state)
{
    (void)state;
    check(BLOCKS + 64 + 72);
}

static void test_rescan_log_start_of_the_journal(void **state)
{
    (void)state;
    uint64_t log = mr_core_rig_open(&rig, STILL, 0, false);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, 2), MR_OK);
    check(BLOCKS + 200);
    assert_int_equal(mr_core_rig_stat(&rig, mr_core_rig_open(&rig, STILL, 0, false), NULL).log_start_offset, 2);
}

/* All of a log was too old, and nothing is left of it but where it ended: its offsets are not given again. */
static void test_rescan_log_without_records(void **state)
{
    (void)state;
    rig.config.retention_ms = 1000;
    uint64_t gone = mr_core_rig_open(&rig, "gone", 0, false);
    rig.config.retention_ms = -1;
    for (uint32_t count = 0; count < BATCHES; count++) {
        assert_int_equal(mr_core_rig_append(&rig, gone, 1, 300, 1000, NULL), MR_OK);
    }
    mr_core_rig_advance(&rig, rig.plan.retention_check_ms + 5000);
    assert_int_equal(mr_core_rig_stat(&rig, gone, NULL).log_start_offset, BATCHES);
    int64_t  before = mr_core_rig_file(&rig, "millrace-state-0");
    uint64_t busy = mr_core_rig_open(&rig, BUSY, 0, false);
    for (uint32_t count = 0; count < 4000 && mr_core_rig_file(&rig, "millrace-state-0") < before + 8192; count++) {
        assert_int_equal(mr_core_rig_append(&rig, busy, 1, 20000, 1000, NULL), MR_OK);
    }
    mr_core_rig_kill(&rig);
    static uint8_t file[4 << 20];
    int64_t        len = mr_sim_fs_get(rig.fs, STATE, file, sizeof file);
    for (int64_t pos = BLOCKS; pos < len; pos += 4096) {
        mr_sim_fs_rot(rig.fs, STATE, (uint64_t)pos, 1, 0x10);
    }
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    struct mr_open_op op = {.op.kind = MR_STORAGE_OPEN, .topic = MR_STR("gone"), .config = &rig.config};
    memset(op.topic_id.bytes, 0x55, sizeof op.topic_id.bytes);
    op.topic_id.bytes[0] = 'g';
    enum mr_err err = mr_core_rig_do(&rig, &op.op);
    assert_true(err == MR_ERR_DIR_OFFLINE || err == MR_ERR_CORRUPT || (err == MR_OK && op.log_end_offset == BATCHES));
}

/* The checkpoint of the last stop has a start for the name, which was an older topic's; the younger one is named by no
 * state and no entry. */
static void test_rescan_log_start_of_an_older_topic(void **state)
{
    (void)state;
    uint64_t older = mr_core_rig_open(&rig, "again", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, older, 3, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_delete_records(&rig, older, 2), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);

    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(mr_core_rig_drop(&rig, mr_core_rig_open(&rig, "again", 0, false)), MR_OK);
    mr_core_rig_settle(&rig);
    assert_int_equal(mr_core_rig_append(&rig, mr_core_rig_open(&rig, "again", 0, false), 3, 300, 1000, NULL), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK); /* the journal is empty, the base names the log */
    mr_core_rig_kill(&rig);
    mr_sim_fs_rot(rig.fs, "/data/millrace-state-base", BLOCKS + 72, 1, 0x10);
    for (uint32_t life = 0; life < 2; life++) { /* nor does the next one ask it */
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        mr_core_rig_kill(&rig);
    }
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t younger = mr_core_rig_open(&rig, "again", 0, false);
    assert_int_equal(mr_core_rig_stat(&rig, younger, NULL).log_start_offset, 0);
    assert_int_equal(mr_core_rig_stat(&rig, younger, NULL).log_end_offset, 3);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rescan_block_head),
        TEST(test_rescan_record),
        TEST(test_rescan_log_start_of_the_journal),
        TEST(test_rescan_log_without_records),
        TEST(test_rescan_log_start_of_an_older_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
