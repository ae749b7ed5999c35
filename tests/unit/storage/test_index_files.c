/*
 * the index files of a log over start and recovery: missing, cut and wrong entries are made again or passed by.
 */
#include "storage_rig.h"
#include "test.h"

#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"

#define IMAGE (4u << 20)

static uint8_t image[IMAGE];

static int64_t size_of(const struct storage_rig *rig, const char *path)
{
    return mr_sim_fs_get(rig->fs, path, image, IMAGE);
}

static void test_missing_indexes_are_made_again(void **state)
{
    static const char *const names[] = {RIG_LOG_DIR "/t-0/00000000000000000000.index",
                                        RIG_LOG_DIR "/t-0/00000000000000000000.timeindex"};
    static uint8_t           before[2][4096];
    int64_t                  len[2];
    struct storage_rig      *rig = *state;
    struct rig_log           log;
    rig->config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 60, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    for (uint32_t which = 0; which < 2; which++) {
        len[which] = mr_sim_fs_get(rig->fs, names[which], before[which], sizeof before[which]);
        assert_true(len[which] > 24);
    }
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t which = 0; which < 2; which++) {
            if (round == which || round == 2) {
                mr_sim_fs_remove(rig->fs, names[which]);
            } else if (round == 3) { /* a tail that does not rise */
                memcpy(image, before[which], (size_t)len[which]);
                memset(image + len[which] - 24, 0, 24);
                mr_sim_fs_put(rig->fs, names[which], image, (size_t)len[which]);
            }
        }
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        assert_int_equal(log.end, 120);
        assert_int_equal(rig_stop(rig), MR_OK);
        for (uint32_t which = 0; which < 2; which++) {
            assert_int_equal(size_of(rig, names[which]), len[which]);
            assert_memory_equal(image, before[which], (size_t)len[which]);
        }
    }
}

static void test_missing_index_of_a_sealed_segment_is_made_again(void **state)
{
    static const char   name[] = RIG_LOG_DIR "/t-0/00000000000000000000.index";
    static uint8_t      before[4096];
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 100, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t len = mr_sim_fs_get(rig->fs, name, before, sizeof before);
    assert_true(len > 16);
    mr_sim_fs_remove(rig->fs, name);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_settle(rig);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(size_of(rig, name), len);
    assert_memory_equal(image, before, (size_t)len);
}

/* Change the entry `index` of an index file. */
static void spoil_entry(struct storage_rig *rig, const char *name, uint32_t index, int32_t relative_by, int32_t pos_by)
{
    int64_t  len = size_of(rig, name);
    uint8_t *entry = image + (size_t)8 * index;
    assert_true(len >= 8 * ((int64_t)index + 1));
    mr_store_be32(entry, mr_load_be32(entry) + (uint32_t)relative_by);
    mr_store_be32(entry + 4, mr_load_be32(entry + 4) + (uint32_t)pos_by);
    mr_sim_fs_put(rig->fs, name, image, (size_t)len);
}

/* An entry that rotted and still rises leads into a batch, or behind the offset: no record of the segment is left out. */
static void test_wrong_index_entries_are_passed_by(void **state)
{
    static const struct {
        int32_t relative_by;
        int32_t pos_by;
    } ways[] = {{0, 16}, {0, 1}, {0, 572}, {-2, 0}, {-8, 0}, {8, 0}, {0, 2000}};
    struct storage_rig *rig = *state;
    for (uint32_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        struct rig_log log;
        char           topic[2] = {(char)('a' + way), '\0'};
        char           name[100];
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        rig_fill(rig, &log, 100, 1000);
        assert_int_equal(rig_stop(rig), MR_OK);
        mr_fmt(name, sizeof name, RIG_LOG_DIR "/%s-0/00000000000000000000.index", topic);
        spoil_entry(rig, name, 1, ways[way].relative_by, ways[way].pos_by);
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        for (int64_t offset = 0; offset < log.end; offset++) {
            assert_int_equal(rig_read(rig, &log, offset), offset & ~1);
        }
        assert_int_equal(rig_stop(rig), MR_OK);
    }
}

/* The last entry of the active segment leads to no batch: the log is whole all the same. */
static void test_log_is_whole_although_its_last_index_entry_is_wrong(void **state)
{
    static const char   name[] = RIG_LOG_DIR "/t-0/00000000000000000000.index";
    static uint8_t      before[4096];
    struct storage_rig *rig = *state;
    struct rig_log      log;
    rig->config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 60, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t len = mr_sim_fs_get(rig->fs, name, before, sizeof before);
    spoil_entry(rig, name, (uint32_t)len / 8 - 1, 0, 16);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 120);
    assert_int_equal(rig_read(rig, &log, 119), 118);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(size_of(rig, name), len);
    assert_memory_equal(image, before, (size_t)len);
}

/* An index entry may reach its file before the batch that it names is durable. */
static void test_index_entries_behind_the_recovered_end_are_cut(void **state)
{
    static const char   name[] = RIG_LOG_DIR "/t-0/00000000000000000000.index";
    struct storage_rig *rig = *state;
    struct rig_log      log;
    rig->config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 30, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t len = size_of(rig, name);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 1, 2000);
    rig_kill(rig);
    (void)size_of(rig, name);
    mr_store_be32(image + len, 500); /* within the file as it was preallocated, behind the log's end */
    mr_store_be32(image + len + 4, 40000);
    mr_sim_fs_put(rig->fs, name, image, (size_t)len + 8);
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000000.log") > 0);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/t-0/00000000000000000000.log", image, 50000);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 62);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_true(size_of(rig, name) <= len + 8);
    for (int64_t at = 0; at < size_of(rig, name); at += 8) {
        assert_true(mr_load_be32(image + at) < 62);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_missing_indexes_are_made_again),
        TEST(test_missing_index_of_a_sealed_segment_is_made_again),
        TEST(test_index_entries_behind_the_recovered_end_are_cut),
        TEST(test_wrong_index_entries_are_passed_by),
        TEST(test_log_is_whole_although_its_last_index_entry_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
