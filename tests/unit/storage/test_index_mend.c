/*
 * index_mend: whatever a crash left of the indexes of a segment that the journal still seals, recovery leaves them as
 * an undisturbed life does, byte for byte.
 */
#include "storage_rig.h"
#include "test.h"

#include "millrace/base/bytes.h"

#define SEGMENT     RIG_LOG_DIR "/t-0/00000000000000000000"
#define INDEX_ENTRY 8
#define TIME_ENTRY  12
#define BATCHES     100u /* of about a kilobyte: one and a half segments of 64 KiB */

#define STATE       20u  /* batches that a first life appends */

enum which { INDEX, TIME, WHICH_COUNT };

static const char *const names[WHICH_COUNT] = {SEGMENT ".index", SEGMENT ".timeindex"};

struct files {
    uint8_t bytes[WHICH_COUNT][4096];
    int64_t len[WHICH_COUNT];
};

static void load(const struct storage_rig *rig, struct files *files)
{
    for (int which = 0; which < WHICH_COUNT; which++) {
        files->len[which] = mr_sim_fs_get(rig->fs, names[which], files->bytes[which], sizeof files->bytes[which]);
    }
}

/* A life that appends the batches [from, to). Timestamps rise, fall, and have their largest one where `peak` says. */
static void fill(struct storage_rig *rig, uint32_t from, uint32_t to, uint32_t peak)
{
    struct rig_log log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    for (uint32_t index = from; index < to; index++) {
        struct rig_batch batch = {.records = 1, .bytes = 1000, .producer_id = -1,
                                  .timestamp = index == peak ? 5000 : 1000 + index - index % 3 * 7};
        (void)rig_append(rig, &log, &batch);
    }
    rig_settle(rig);
}

/* What is left of one file: its first entries, and what stands behind them. */
struct damage {
    const char *about;
    int         entries[WHICH_COUNT]; /* negative: without that many of the last; WHOLE, REMOVED */
    uint32_t    tail_bytes;
    const char *tail;
};
#define WHOLE   1000
#define REMOVED 1001

static const struct damage damages[] = {
    {"nothing", {WHOLE, WHOLE}, 0, ""},
    {"both removed", {REMOVED, REMOVED}, 0, ""},
    {"no .index", {REMOVED, WHOLE}, 0, ""},
    {"no .timeindex", {WHOLE, REMOVED}, 0, ""},
    {"both empty", {0, 0}, 0, ""},
    {"the last time is missing", {WHOLE, -1}, 0, ""},
    {"half of each", {6, 6}, 0, ""},
    {"places end before times", {3, -1}, 0, ""},
    {"times end before places", {WHOLE, 3}, 0, ""},
    {"zeros where entries were", {5, 5}, 12, "\0\0\0\0\0\0\0\0\0\0\0\0"},
    {"half an entry", {5, 5}, 5, "\0\0\0\0\0"},
    {"a place that rises, of no batch", {4, WHOLE}, 8, "\x00\x00\x00\x12\x00\x00\x45\x01"},
};

static void harm(struct storage_rig *rig, const struct damage *damage, const struct files *whole)
{
    for (int which = 0; which < WHICH_COUNT; which++) {
        int     entry = which == INDEX ? INDEX_ENTRY : TIME_ENTRY;
        int     count = damage->entries[which];
        uint8_t bytes[4096];
        mr_sim_fs_remove(rig->fs, names[which]);
        if (count == REMOVED) {
            continue;
        }
        int64_t all = whole->len[which] / entry;
        int64_t len = (count == WHOLE ? all : count < 0 ? all + count : count) * entry;
        assert_true(len >= 0 && len <= whole->len[which]);
        memcpy(bytes, whole->bytes[which], (size_t)len);
        memcpy(bytes + len, damage->tail, damage->tail_bytes);
        mr_sim_fs_put(rig->fs, names[which], bytes, (size_t)len + damage->tail_bytes);
    }
}

static void check(uint32_t peak)
{
    struct storage_rig rig;
    struct files       whole;
    rig_init(&rig);
    fill(&rig, 0, BATCHES, peak);
    assert_int_equal(rig_stop(&rig), MR_OK);
    load(&rig, &whole);
    rig_deinit(&rig);
    assert_true(whole.len[INDEX] >= 10 * INDEX_ENTRY && whole.len[TIME] >= TIME_ENTRY);
    for (size_t index = 0; index < sizeof damages / sizeof damages[0]; index++) {
        struct files mended;
        rig_init(&rig);
        fill(&rig, 0, STATE, peak);
        rig_kill(&rig);
        fill(&rig, STATE, BATCHES, peak); /* the log has a state from here on: its files are not read again */
        rig_kill(&rig);
        if (whole.len[TIME] > 6 * TIME_ENTRY || damages[index].entries[TIME] >= WHOLE) {
            harm(&rig, &damages[index], &whole);
        }
        assert_int_equal(rig_start(&rig), MR_OK);
        load(&rig, &mended);
        for (int which = 0; which < WHICH_COUNT; which++) {
            if (mended.len[which] != whole.len[which] ||
                memcmp(mended.bytes[which], whole.bytes[which], (size_t)whole.len[which]) != 0) {
                fail_msg("%s, peak %u: %s has %lld bytes of %lld, or others", damages[index].about, peak,
                         names[which], (long long)mended.len[which], (long long)whole.len[which]);
            }
        }
        rig_deinit(&rig);
    }
}

static void test_recovery_leaves_the_indexes_of_an_undisturbed_life(void **state)
{
    (void)state;
    check(0);            /* every time entry but the first is of something smaller: there is only one */
    check(BATCHES / 3);  /* the last entry is long before the end */
    check(BATCHES - 1);  /* of the next segment */
}

/* Any write of an index fails in a recovery: that recovery fails, and the next one mends what it would have mended. */
static void test_index_that_cannot_be_written_is_mended_by_the_next_recovery(void **state)
{
    (void)state;
    struct storage_rig rig;
    struct files       whole;
    uint64_t           failed = 1;
    rig_init(&rig);
    fill(&rig, 0, BATCHES, 0);
    assert_int_equal(rig_stop(&rig), MR_OK);
    load(&rig, &whole);
    rig_deinit(&rig);
    for (uint64_t nth = 1; failed > 0; nth++) {
        struct mr_sim_fault fault = {
            .kinds = 1u << MR_DISK_WRITE, .nth = nth, .err = MR_ERR_IO, .name_part = "index"};
        struct files mended;
        rig_init(&rig);
        fill(&rig, 0, STATE, 0);
        rig_kill(&rig);
        fill(&rig, STATE, BATCHES, 0);
        rig_kill(&rig);
        mr_sim_fs_remove(rig.fs, names[INDEX]);
        mr_sim_fs_remove(rig.fs, names[TIME]);
        mr_sim_fs_fail(rig.fs, &fault);
        enum mr_err err = rig_start(&rig);
        failed = mr_sim_fs_faults(rig.fs);
        assert_int_equal(err, failed > 0 ? MR_ERR_DIR_OFFLINE : MR_OK);
        assert_true(nth > 1 || failed > 0);
        rig_kill(&rig);
        mr_sim_fs_heal(rig.fs);
        assert_int_equal(rig_start(&rig), MR_OK);
        load(&rig, &mended);
        for (int which = 0; which < WHICH_COUNT; which++) {
            assert_int_equal(mended.len[which], whole.len[which]);
            assert_memory_equal(mended.bytes[which], whole.bytes[which], (size_t)whole.len[which]);
        }
        rig_deinit(&rig);
    }
}

/* The position of the last batch of a file of so many bytes. */
static uint64_t last_batch(const struct storage_rig *rig, int64_t bytes)
{
    static uint8_t  file[128 << 10];
    struct mr_batch batch;
    int64_t         pos = 0;
    assert_true(bytes <= (int64_t)sizeof file && mr_sim_fs_get(rig->fs, SEGMENT ".log", file, sizeof file) >= bytes);
    for (int64_t next = 0; next < bytes; next = pos + mr_batch_bytes(&batch)) {
        pos = next;
        mr_batch_header_load(file + pos, &batch);
    }
    return (uint64_t)pos;
}

/* A clean stop after `from` batches, a crash after a few more; with `is_torn` the block with the clean stop's end is torn.
 * False: no head of a batch is in that. */
static bool crash_behind_a_stop(uint32_t from, bool is_torn, struct files *files)
{
    struct storage_rig rig;
    rig_init(&rig);
    fill(&rig, 0, from, UINT32_MAX);
    assert_int_equal(rig_stop(&rig), MR_OK);
    int64_t  end = mr_sim_fs_get(rig.fs, SEGMENT ".log", NULL, 0);
    uint64_t last = last_batch(&rig, end);
    fill(&rig, from, from + 10, UINT32_MAX);
    rig_kill(&rig);
    if (is_torn) { /* of the last head that was there: a later time, and a batch that is longer */
        mr_sim_fs_spoil(rig.fs, SEGMENT ".log", last + 35, 8, 0x05);
        mr_sim_fs_spoil(rig.fs, SEGMENT ".log", last + 10, 1, 0x01);
    }
    assert_int_equal(rig_start(&rig), MR_OK);
    assert_int_equal(rig_stop(&rig), MR_OK);
    load(&rig, files);
    rig_deinit(&rig);
    return last + MR_BATCH_HEADER > (uint64_t)end / 4096 * 4096;
}

/* What the journal still has to put back is not believed before: neither its times nor where its batches are. */
static void test_block_that_was_torn_leaves_no_trace_in_the_indexes(void **state)
{
    (void)state;
    uint32_t tried = 0;
    for (uint32_t from = 13; from < 25; from++) {
        struct files whole;
        struct files mended;
        if (!crash_behind_a_stop(from, false, &whole)) {
            continue;
        }
        tried++;
        (void)crash_behind_a_stop(from, true, &mended);
        for (int which = 0; which < WHICH_COUNT; which++) {
            assert_true(whole.len[which] > 0);
            assert_int_equal(mended.len[which], whole.len[which]);
            assert_memory_equal(mended.bytes[which], whole.bytes[which], (size_t)whole.len[which]);
        }
    }
    assert_true(tried > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_that_was_torn_leaves_no_trace_in_the_indexes),
        cmocka_unit_test(test_index_that_cannot_be_written_is_mended_by_the_next_recovery),
        cmocka_unit_test(test_recovery_leaves_the_indexes_of_an_undisturbed_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
