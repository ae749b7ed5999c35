/*
 * a log of which corruption took entries: it stays offline over clean stops and crashes, alone, until somebody accepts
 * the loss or deletes it; then nobody serves a byte that is not what it was.
 */
#include "test.h"

#include "core_rig.h"

#define JOURNAL "/data/millrace-journal-0-0"
#define BATCHES 4u

static struct mr_core_rig rig;

static uint8_t journal[2 << 20];

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static enum mr_err open_log(const char *topic, struct mr_open_op *op)
{
    *op = (struct mr_open_op){.op.kind = MR_STORAGE_OPEN, .topic = mr_str(topic), .config = &rig.config};
    memset(op->topic_id.bytes, 0x55, sizeof op->topic_id.bytes);
    op->topic_id.bytes[0] = (uint8_t)topic[0];
    return mr_core_rig_do(&rig, &op->op);
}

/* A bit of the payload of the batch whose value bytes are `value`, in the journal. */
static void rot(uint8_t value)
{
    int64_t len = mr_sim_fs_get(rig.fs, JOURNAL, journal, sizeof journal);
    for (int64_t at = 0; at + 64 < len; at++) {
        uint32_t same = 0;
        while (same < 64 && journal[at + same] == value) {
            same++;
        }
        if (same == 64) {
            mr_sim_fs_rot(rig.fs, JOURNAL, (uint64_t)at, 1, 0x20);
            return;
        }
    }
    fail_msg("the batch is not in the journal");
}

/* A bit in the head of the nth entry of that kind: the entry leaves no trace. */
static void rot_head(uint8_t kind, uint32_t nth)
{
    int64_t len = mr_sim_fs_get(rig.fs, JOURNAL, journal, sizeof journal);
    for (int64_t block = 4096; block + 96 < len; block += 4096) {
        bool     is_commit = memcmp(journal + block, "MRCOMMIT", 8) == 0;
        uint32_t end = is_commit ? mr_load_le32(journal + block + 68) : 0;
        for (uint32_t at = 96; at + 64 <= end;) {
            const uint8_t *head = journal + block + at;
            if (head[4] == kind && nth-- == 0) {
                mr_sim_fs_rot(rig.fs, JOURNAL, (uint64_t)(block + at), 1, 4);
                return;
            }
            at = (at + 64 + mr_load_le16(head + 6) + mr_load_le32(head + 36) + 7) & ~7u;
        }
    }
    fail_msg("the entry is not in the journal");
}

/* "a" has lost its second batch, of `value` records ('a' + count), and knows it; "b" is whole. */
static int setup(void **state)
{
    (void)state;
    struct mr_open_op op;
    mr_core_rig_init(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t a = mr_core_rig_open(&rig, "a", 0, false);
    uint64_t b = mr_core_rig_open(&rig, "b", 0, false);
    for (uint32_t count = 1; count <= BATCHES; count++) {
        assert_int_equal(mr_core_rig_append(&rig, a, count, 300, 1000, NULL), MR_OK);
        assert_int_equal(mr_core_rig_append(&rig, b, 1, 300, 1000, NULL), MR_OK);
    }
    mr_core_rig_kill(&rig);
    rot('a' + 2);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(open_log("a", &op), MR_ERR_DIR_OFFLINE);
    return 0;
}

static void check_b(void)
{
    struct mr_open_op op;
    assert_int_equal(open_log("b", &op), MR_OK);
    assert_int_equal(op.log_end_offset, BATCHES);
    for (int64_t offset = 0; offset < (int64_t)BATCHES; offset++) {
        uint32_t bytes = 0;
        assert_int_equal(mr_core_rig_read(&rig, op.log_id, offset, 100, NULL, &bytes), MR_OK);
        assert_true(bytes > 300);
    }
}

static uint32_t stop(bool is_loss_accepted)
{
    struct mr_stop_op op = {
        .op.kind = MR_STORAGE_STOP, .is_last = true, .broker_epoch = 1, .is_loss_accepted = is_loss_accepted};
    assert_int_equal(mr_core_rig_do(&rig, &op.op), MR_OK);
    mr_core_rig_kill(&rig);
    return op.lost_logs;
}

static void test_loss_is_not_forgotten(void **state)
{
    (void)state;
    struct mr_open_op op;
    check_b();
    for (uint32_t life = 0; life < 4; life++) {
        if (life % 2 == 0) {
            assert_int_equal(stop(false), 1);
            assert_int_equal(mr_core_rig_file(&rig, ".kafka_cleanshutdown"), -1);
        } else {
            mr_core_rig_kill(&rig);
        }
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        assert_int_equal(open_log("a", &op), MR_ERR_DIR_OFFLINE);
        check_b();
    }
}

static void test_accepted_loss_opens_what_is_left(void **state)
{
    (void)state;
    struct mr_open_op op;
    assert_int_equal(stop(true), 1);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(open_log("a", &op), MR_OK);
    assert_int_equal(op.log_end_offset, 1); /* the first batch; nothing behind the hole was redone */
    uint32_t bytes = 0;
    assert_int_equal(mr_core_rig_read(&rig, op.log_id, 0, 100, NULL, &bytes), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, op.log_id, 1, 300, 1000, NULL), MR_OK);
    check_b();
    assert_int_equal(stop(false), 0);
    assert_true(mr_core_rig_file(&rig, ".kafka_cleanshutdown") > 0);
}

/* Nothing but the journal knows of the log's first batch, and its entry is gone: the next one says where the log was. */
static void test_first_entry_gone_without_a_trace(void **state)
{
    (void)state;
    struct mr_open_op op;
    uint64_t          c = mr_core_rig_open(&rig, "c", 0, false);
    uint64_t          d = mr_core_rig_open(&rig, "d", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, d, 1, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, c, 3, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, d, 1, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, c, 1, 300, 1000, NULL), MR_OK);
    mr_core_rig_kill(&rig);
    rot_head(2, 1);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(open_log("c", &op), MR_ERR_DIR_OFFLINE);
    assert_int_equal(open_log("d", &op), MR_OK);
    assert_int_equal(op.log_end_offset, 2);
    check_b();
}

/* What is left of the damaged commit is the log's as well, and nothing of it follows: it may have ended there or not. */
static void test_last_entry_gone_without_a_trace(void **state)
{
    (void)state;
    struct mr_open_op op;
    uint64_t          c = mr_core_rig_open(&rig, "c", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, c, 1, 300, 1000, NULL), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t b = mr_core_rig_open(&rig, "b", 0, false);
    c = mr_core_rig_open(&rig, "c", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, b, 1, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, c, 1, 300, 1000, NULL), MR_OK); /* behind the image of its last block */
    assert_int_equal(mr_core_rig_append(&rig, b, 1, 300, 1000, NULL), MR_OK);
    mr_core_rig_kill(&rig);
    rot_head(2, 1);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(open_log("c", &op), MR_ERR_DIR_OFFLINE);
    assert_int_equal(open_log("b", &op), MR_OK);
    assert_int_equal(op.log_end_offset, BATCHES + 2);
}

/* A later topic of a deleted one's name: all that named it in the journal is gone, its directory is there. */
static void test_next_topic_of_a_name_gone_without_a_trace(void **state)
{
    (void)state;
    struct mr_open_op op;
    uint64_t          b = mr_core_rig_open(&rig, "b", 0, false);
    uint64_t          c = mr_core_rig_open(&rig, "c", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, c, 1, 300, 1000, NULL), MR_OK);
    struct mr_drop_op drop = {.op.kind = MR_STORAGE_DROP, .log_id = c};
    assert_int_equal(mr_core_rig_do(&rig, &drop.op), MR_OK);
    op = (struct mr_open_op){.op.kind = MR_STORAGE_OPEN, .topic = MR_STR("c"), .config = &rig.config};
    op.topic_id.bytes[0] = 0x77;
    assert_int_equal(mr_core_rig_do(&rig, &op.op), MR_OK);
    struct mr_open_op again = op;
    assert_int_equal(mr_core_rig_append(&rig, op.log_id, 1, 300, 1000, NULL), MR_OK);
    assert_int_equal(mr_core_rig_append(&rig, b, 1, 300, 1000, NULL), MR_OK);
    mr_core_rig_kill(&rig);
    rot_head(1, 1);
    rot_head(2, 1);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(mr_core_rig_do(&rig, &again.op), MR_ERR_DIR_OFFLINE);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_loss_is_not_forgotten),
        TEST(test_accepted_loss_opens_what_is_left),
        TEST(test_first_entry_gone_without_a_trace),
        TEST(test_last_entry_gone_without_a_trace),
        TEST(test_next_topic_of_a_name_gone_without_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
