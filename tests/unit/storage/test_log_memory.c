/*
 * what a log remembers beside its batches: leader epochs, when their checkpoint is damaged; the sequences of its
 * producers, also of batches that a segment had already when the broker died.
 */
#include "storage_rig.h"
#include "test.h"

#include "millrace/base/fmt.h"

#define EPOCHS RIG_LOG_DIR "/t-0/leader-epoch-checkpoint"

static const struct rig_batch plain = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = -1};

/* ---- Epochs ---- */

static void test_damaged_epoch_checkpoint_does_not_keep_a_log_down(void **state)
{
    static const struct {
        const char *about;
        const char *text;
        uint32_t    len;
    } cases[] = {
        {"empty", "", 0},
        {"zeros, as after a rename without data", "\0\0\0\0\0\0\0\0", 8},
        {"another version", "1\n1\n3 0\n", 8},
        {"fewer lines than it says", "0\n4\n3 0\n", 8},
        {"a count beyond everything", "0\n99999999999999999999\n3 0\n", 27},
        {"no number", "0\n1\nx y\n", 8},
        {"an epoch too large", "0\n1\n3000000000 0\n", 17},
        {"binary", "\xff\xfe\x00\x01garbage", 11},
    };
    struct storage_rig *rig = *state;
    struct rig_log      log;
    int64_t             end = 4;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    (void)rig_append(rig, &log, &plain);
    (void)rig_append(rig, &log, &plain);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(mr_sim_fs_get(rig->fs, EPOCHS, NULL, 0), (int64_t)strlen("0\n1\n3 0\n"));
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        char     found[64] = "";
        char     wanted[64];
        uint32_t len = (uint32_t)mr_fmt(wanted, sizeof wanted, "0\n1\n3 %lld\n", (long long)end);
        mr_sim_fs_put(rig->fs, EPOCHS, cases[index].text, cases[index].len);
        if (rig_start(rig) != MR_OK || rig_open(rig, "t", 0, &log) != MR_OK || log.end != end) {
            fail_msg("%s: ends at %lld", cases[index].about, (long long)log.end);
        }
        assert_int_equal(rig_append(rig, &log, &plain), end);
        assert_int_equal(rig_read(rig, &log, 0), 0);
        end += 2;
        assert_int_equal(rig_stop(rig), MR_OK);
        assert_int_equal(mr_sim_fs_get(rig->fs, EPOCHS, found, sizeof found), len);
        assert_memory_equal(found, wanted, len); /* what is known of it, whole again */
    }
}

/* ---- Sequences ---- */

static void produce(struct storage_rig *rig, const struct rig_log *log, int64_t first, int64_t count)
{
    struct rig_batch batch = plain;
    batch.producer_id = 7;
    for (int64_t index = first; index < first + count; index++) {
        batch.sequence = (int32_t)(2 * index);
        assert_int_equal(rig_append(rig, log, &batch), 2 * index);
    }
}

/* The batches that are in the segment's file (and of them those that recovery wrote) count like those in the journal. */
static void check_window(struct storage_rig *rig, const struct rig_log *log, int64_t count)
{
    struct mr_append_entry entry;
    struct rig_batch       batch = plain;
    batch.producer_id = 7;
    for (int64_t index = count - 5; index < count; index++) {
        batch.sequence = (int32_t)(2 * index);
        assert_int_equal(rig_try_append(rig, log, &batch, &entry), MR_OK);
        assert_true(entry.is_duplicate);
        assert_int_equal(entry.base_offset, 2 * index);
    }
    batch.sequence = (int32_t)(2 * count + 2);
    assert_int_equal(rig_try_append(rig, log, &batch, &entry), MR_ERR_OUT_OF_ORDER_SEQUENCE);
}

static void test_sequences_survive_crash_after_crash(void **state)
{
    static const enum mr_sim_cut cuts[] = {MR_SIM_CUT_DROP, MR_SIM_CUT_KEEP, MR_SIM_CUT_RANDOM};
    struct storage_rig          *rig = *state;
    struct rig_log               log;
    int64_t                      count = 0;
    for (uint32_t life = 0; life < 9; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        assert_int_equal(log.end, 2 * count);
        if (count > 0) {
            check_window(rig, &log, count);
        }
        if (life % 4 != 3) { /* and a life in which nothing is sent */
            produce(rig, &log, count, 30); /* half a segment: some of it is written behind the journal */
            count += 30;
        }
        if (life % 2 == 0) {
            rig_kill(rig);
        } else {
            rig_cut(rig, cuts[life / 2 % 3]);
        }
    }
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_damaged_epoch_checkpoint_does_not_keep_a_log_down),
        TEST(test_sequences_survive_crash_after_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
