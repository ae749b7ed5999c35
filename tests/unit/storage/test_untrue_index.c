/*
 * index entries that rot turned over: every record of the good segment beside them is read and found as before.
 */
#include "test.h"

#include "core_rig.h"
#include "log/offset_index.h"
#include "log/time_index.h"

#define RECORDS 120u /* one in each batch */
#define TIME    1000 /* of the first */
#define INDEX   "/data/a-0/00000000000000000000.index"
#define TIMES   "/data/a-0/00000000000000000000.timeindex"
#define ENTRIES 64u

static struct mr_core_rig rig;

struct lie {
    const char *about;
    uint32_t    first;      /* the entries from here on ... */
    uint32_t    count;      /* ... so many */
    int32_t     offset_add; /* what they are wrong by */
    int32_t     pos_add;
};

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 30000; /* the first holds most of it and is sealed */
    rig.config.index_interval_bytes = 1000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    for (uint32_t index = 0; index < RECORDS; index++) {
        assert_int_equal(mr_core_rig_append(&rig, id, 1, 200 + index % 7 * 30, TIME + index, NULL), MR_OK);
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

static void tell(const struct lie *lie)
{
    uint8_t bytes[ENTRIES * MR_OFFSET_INDEX_ENTRY];
    int64_t len = mr_sim_fs_get(rig.fs, INDEX, bytes, sizeof bytes);
    assert_true(len >= (int64_t)((lie->first + lie->count) * MR_OFFSET_INDEX_ENTRY) && len <= (int64_t)sizeof bytes);
    for (uint32_t index = lie->first; index < lie->first + lie->count; index++) {
        uint8_t                     *at = bytes + (size_t)index * MR_OFFSET_INDEX_ENTRY;
        struct mr_offset_index_entry entry = mr_offset_index_load(at);
        entry.relative += lie->offset_add;
        entry.pos += (uint32_t)lie->pos_add;
        mr_offset_index_store(at, entry);
    }
    mr_sim_fs_put(rig.fs, INDEX, bytes, (size_t)len);
}

/* The same of the time index, `pos_add` is milliseconds. first UINT32_MAX: the last entry, which tells the segment's. */
static void tell_time(const struct lie *lie)
{
    uint8_t  bytes[ENTRIES * MR_TIME_INDEX_ENTRY];
    int64_t  len = mr_sim_fs_get(rig.fs, TIMES, bytes, sizeof bytes);
    uint32_t entries = (uint32_t)len / MR_TIME_INDEX_ENTRY;
    uint32_t first = lie->first == UINT32_MAX ? entries - 1 : lie->first;
    assert_true(len <= (int64_t)sizeof bytes && first + lie->count <= entries);
    for (uint32_t index = first; index < first + lie->count; index++) {
        uint8_t                   *at = bytes + (size_t)index * MR_TIME_INDEX_ENTRY;
        struct mr_time_index_entry entry = mr_time_index_load(at);
        entry.relative += lie->offset_add;
        entry.timestamp += lie->pos_add;
        mr_time_index_store(at, entry);
    }
    mr_sim_fs_put(rig.fs, TIMES, bytes, (size_t)len);
}

/* In falling order, so that no read begins where the one before ended. */
static void check(const char *about)
{
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    for (int64_t offset = RECORDS - 1; offset >= 0; offset--) {
        uint8_t         got[MR_BATCH_HEADER];
        uint32_t        bytes = 0;
        struct mr_batch batch;
        enum mr_err     err = mr_core_rig_read(&rig, id, offset, sizeof got, got, &bytes);
        if (err != MR_OK || bytes < sizeof got) {
            fail_msg("%s: read at %lld: %s", about, (long long)offset, mr_err_text(err));
        }
        mr_batch_header_load(got, &batch);
        if (batch.base_offset != offset) {
            fail_msg("%s: read at %lld: batch %lld", about, (long long)offset, (long long)batch.base_offset);
        }
        struct mr_list_offsets_entry found = mr_core_rig_list(&rig, id, TIME + offset);
        if (found.err != MR_OK || found.offset != offset) {
            fail_msg("%s: time %lld: %lld, %s", about, (long long)(TIME + offset), (long long)found.offset,
                     mr_err_text(found.err));
        }
    }
}

static void test_untrue_entries_are_not_followed(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"true", 0, 0, 0, 0},
        {"inside a batch", 5, 1, 0, 8},
        {"the one behind", 5, 1, 0, 1000},
        {"offset too low", 5, 1, -2, 0},
        {"offset too high", 5, 1, 1, 0},
        {"before its batch", 5, 1, 0, -100},
        {"two of them", 5, 2, 0, 64},
        {"more than are tried", 2, 16, 0, 1},
        {"the first", 0, 1, 0, 16},
    };
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t index = 0; index < sizeof lies / sizeof lies[0]; index++) {
        rig.fs = mr_sim_fs_clone(whole);
        tell(&lies[index]);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        check(lies[index].about);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

static void test_untrue_times_are_not_followed(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"true", 0, 0, 0, 0},
        {"a little older", 5, 1, 0, -1},
        {"older", 5, 1, 0, -3},
        {"newer", 5, 1, 0, 3},
        {"far newer", 5, 1, 0, 1 << 30},
        {"one offset on", 5, 1, 1, 0},
        {"further on", 5, 1, 3, 0},
        {"back", 5, 1, -2, 0},
        {"two of them", 5, 2, 3, 0},
        {"more than are tried", 2, 12, 2, 0},
        {"the segment is older", UINT32_MAX, 1, 0, -3},
        {"much older", UINT32_MAX, 1, 0, -900},
        {"newer than it is", UINT32_MAX, 1, 0, 1 << 20},
        {"its newest is elsewhere", UINT32_MAX, 1, -2, 0},
    };
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t index = 0; index < sizeof lies / sizeof lies[0]; index++) {
        rig.fs = mr_sim_fs_clone(whole);
        tell_time(&lies[index]);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        check(lies[index].about);
        struct mr_list_offsets_entry newest = mr_core_rig_list(&rig, mr_core_rig_open(&rig, "a", 0, false), MR_LIST_MAX_TIMESTAMP);
        assert_int_equal(newest.offset, RECORDS - 1);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

/* The index is right when the search begins, and turned over before its n-th turn. */
static void test_time_index_that_rots_during_a_search(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {"older", 5, 1, 0, -3},      {"far newer", 5, 1, 0, 1 << 30}, {"further on", 5, 1, 3, 0},
        {"back", 5, 1, -2, 0},       {"many", 2, 12, 2, 0},           {"the last is older", UINT32_MAX, 1, 0, -900},
        {"the last is elsewhere", UINT32_MAX, 1, -2, 0},
    };
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t index = 0; index < sizeof lies / sizeof lies[0] * 12; index++) {
        const struct lie *lie = &lies[index % (sizeof lies / sizeof lies[0])];
        uint32_t          turns = index / (uint32_t)(sizeof lies / sizeof lies[0]);
        rig.fs = mr_sim_fs_clone(whole);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        uint64_t                     id = mr_core_rig_open(&rig, "a", 0, false);
        struct mr_list_offsets_entry entry = {.log_id = id, .timestamp = TIME + 60, .current_leader_epoch = -1};
        struct mr_list_offsets_op    op = {.op.kind = MR_STORAGE_LIST_OFFSETS, .entry_count = 1, .entries = &entry};
        uint32_t                     answers = rig.answers;
        mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &op.op);
        for (uint32_t turn = 0; turn < turns; turn++) {
            (void)mr_core_rig_turn(&rig);
        }
        tell_time(lie);
        for (uint32_t turn = 0; rig.answers == answers && turn < 1000; turn++) {
            (void)mr_core_rig_turn(&rig);
        }
        if (entry.err != MR_OK || entry.offset != 60) {
            fail_msg("%s after %u turns: %lld, %s", lie->about, turns, (long long)entry.offset, mr_err_text(entry.err));
        }
        check(lie->about);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

/* What the active segment's index says is too low, and a batch comes that is newer than that but not the newest. */
static void test_newer_batch_does_not_make_a_claim_true(void **state)
{
    (void)state;
    static const char times[] = "/data/b-0/00000000000000000000.timeindex";
    uint8_t           bytes[ENTRIES * MR_TIME_INDEX_ENTRY];
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "b", 0, false);
    for (uint32_t index = 0; index < 30; index++) {
        assert_int_equal(mr_core_rig_append(&rig, id, 1, 300, index == 10 ? 6000 : TIME + index, NULL), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    int64_t  len = mr_sim_fs_get(rig.fs, times, bytes, sizeof bytes);
    uint8_t *last = bytes + len - MR_TIME_INDEX_ENTRY;
    struct mr_time_index_entry entry = mr_time_index_load(last);
    assert_int_equal(entry.timestamp, 6000);
    entry.timestamp = TIME + 100;
    mr_time_index_store(last, entry);
    mr_sim_fs_put(rig.fs, times, bytes, (size_t)len);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    id = mr_core_rig_open(&rig, "b", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, id, 1, 300, TIME + 200, NULL), MR_OK);
    assert_int_equal(mr_core_rig_list(&rig, id, MR_LIST_MAX_TIMESTAMP).offset, 10);
    assert_int_equal(mr_core_rig_list(&rig, id, TIME + 29).offset, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_untrue_times_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_index_that_rots_during_a_search, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_batch_does_not_make_a_claim_true, setup, teardown),
        cmocka_unit_test_setup_teardown(test_untrue_entries_are_not_followed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
