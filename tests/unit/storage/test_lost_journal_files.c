/*
 * journal files that somebody removed, cut or emptied while they held what was acknowledged, and no checkpoint had
 * counted it yet: recovery refuses when no commit is left, else every log that may have had entries there is offline.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"

#define FILE_BYTES (1u << 20) /* of the journal */
#define BIG        300000u

static struct mr_core_rig rig;

enum damage {
    REMOVED,
    EMPTIED,      /* zeros, as a file that is being prepared */
    CUT_TO_HEAD,
    CUT,          /* behind its first commits */
    DAMAGE_COUNT,
};

static void damage(uint32_t file, enum damage kind)
{
    static uint8_t bytes[FILE_BYTES];
    char           path[64];
    mr_fmt(path, sizeof path, "/data/millrace-journal-0-%u", file);
    assert_int_equal(mr_sim_fs_get(rig.fs, path, bytes, sizeof bytes), FILE_BYTES);
    switch (kind) {
    case REMOVED:
        mr_sim_fs_remove(rig.fs, path);
        return;
    case EMPTIED:
        memset(bytes, 0, sizeof bytes);
        mr_sim_fs_put(rig.fs, path, bytes, sizeof bytes);
        return;
    case CUT_TO_HEAD:
        mr_sim_fs_put(rig.fs, path, bytes, 4096);
        return;
    case CUT:
        mr_sim_fs_put(rig.fs, path, bytes, FILE_BYTES / 2);
        return;
    case DAMAGE_COUNT:
        break;
    }
    fail();
}

static enum mr_err open_log(const char *topic, struct mr_open_op *op)
{
    *op = (struct mr_open_op){.op.kind = MR_STORAGE_OPEN, .topic = mr_str(topic), .config = &rig.config};
    memset(op->topic_id.bytes, 0x55, sizeof op->topic_id.bytes);
    op->topic_id.bytes[0] = (uint8_t)topic[0];
    return mr_core_rig_do(&rig, &op->op);
}

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

static void append(const char *topic, uint32_t bytes)
{
    uint64_t id = mr_core_rig_open(&rig, topic, 0, false);
    assert_int_equal(mr_core_rig_append(&rig, id, 1, bytes, 1000, NULL), MR_OK);
}

static void test_no_commit_left_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append("a", 300);
    mr_core_rig_kill(&rig);
    struct mr_sim_fs *whole = rig.fs;
    for (enum damage kind = 0; kind < CUT; kind++) {
        rig.fs = mr_sim_fs_clone(whole);
        damage(0, kind);
        assert_int_equal(mr_core_rig_start(&rig), MR_ERR_CORRUPT);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
}

/* Of the chain in files 0 and 1: the second is gone, in which "b" had all its entries since the start before. */
static void test_every_log_may_have_been_in_the_file(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append("b", 300);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    mr_core_rig_advance(&rig, 1000); /* the second file is prepared */
    for (uint32_t count = 0; count < 3; count++) {
        append("a", BIG);
    }
    append("b", BIG);
    append("a", BIG);
    mr_core_rig_kill(&rig);
    struct mr_sim_fs *whole = rig.fs;
    for (enum damage kind = 0; kind < DAMAGE_COUNT; kind++) {
        struct mr_open_op op;
        rig.fs = mr_sim_fs_clone(whole);
        damage(1, kind);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        assert_int_equal(open_log("a", &op), MR_ERR_DIR_OFFLINE);
        assert_int_equal(open_log("b", &op), MR_ERR_DIR_OFFLINE);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    struct mr_open_op op;
    assert_int_equal(open_log("a", &op), MR_OK);
    assert_int_equal(op.log_end_offset, 4);
}

/* An answer for each of the logs: all of it, or none. */
static bool is_refused(const char *topic, int64_t end)
{
    struct mr_open_op op;
    enum mr_err       err = open_log(topic, &op);
    assert_true(err == MR_OK || err == MR_ERR_DIR_OFFLINE);
    assert_true(err != MR_OK || op.log_end_offset == end);
    return err != MR_OK;
}

/*
 * Commits of "a", of "b", which nothing else names, and of "a" again; "idle" has only files. Any sector of them rots: "b" is
 * refused, not empty, and stays so; "idle" is refused with it, for it might have been the one, but not for what "a" lost.
 */
static void test_log_that_only_rotten_entries_named_is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[FILE_BYTES];
    uint32_t       refused_b = 0;
    uint32_t       spared = 0;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append("idle", 300);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    append("a", 300);
    append("b", 300);
    append("a", 300);
    append("a", 300);
    mr_core_rig_kill(&rig);
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t at = 4096; at < 4 * 4096; at += 512) { /* the last commit would be the tail */
        rig.fs = mr_sim_fs_clone(whole);
        assert_int_equal(mr_sim_fs_get(rig.fs, "/data/millrace-journal-0-0", bytes, sizeof bytes), FILE_BYTES);
        memset(bytes + at, 0xee, 512);
        mr_sim_fs_put(rig.fs, "/data/millrace-journal-0-0", bytes, FILE_BYTES);
        bool is_first_refused = false;
        for (uint32_t life = 0; life < 2; life++) {
            assert_int_equal(mr_core_rig_start(&rig), MR_OK);
            bool is_a = is_refused("a", 3);
            bool is_b = is_refused("b", 1);
            bool is_idle = is_refused("idle", 1);
            assert_true(!is_idle || is_a || is_b);
            assert_true(life == 0 || is_b == is_first_refused);
            is_first_refused = is_b;
            refused_b += is_b && !is_a;
            spared += is_a && !is_idle;
            mr_core_rig_kill(&rig);
        }
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
    assert_true(refused_b > 0 && spared > 0);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_false(is_refused("a", 3) || is_refused("b", 1) || is_refused("idle", 1));
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_no_commit_left_is_refused),
        TEST(test_every_log_may_have_been_in_the_file),
        TEST(test_log_that_only_rotten_entries_named_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
