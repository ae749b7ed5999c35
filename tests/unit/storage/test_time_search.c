/*
 * time_search: logs of several segments with timestamps that jump about, against a plain list of all records:
 * in memory, after a restart in files only, without time indexes, half and half, and with rot.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"
#include "millrace/base/prng.h"

#define BATCHES     600u
#define RECORDS_MAX 4u
#define VALUE_BYTES 5000u
#define EPOCH_MS    1700000000000

static struct mr_core_rig rig;
static struct mr_prng     prng;
static int64_t            times[BATCHES * RECORDS_MAX]; /* by offset */
static int64_t            count;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    prng.state = 7;
    count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* A batch of one to four records, each up to 1,000 ms before or after a clock that moves on slowly. */
static void append(uint64_t log_id)
{
    static const uint8_t    value[VALUE_BYTES];
    struct mr_batch_builder builder;
    uint32_t                records = 1 + (uint32_t)mr_prng_below(&prng, RECORDS_MAX);
    mr_batch_begin(&builder, rig.bytes, MR_CORE_RIG_BATCH, 0, 0);
    for (uint32_t index = 0; index < records; index++) {
        int64_t time = EPOCH_MS + count * 10 + (int64_t)mr_prng_below(&prng, 2000) - 1000;
        assert_true(mr_batch_add(&builder, time, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)VALUE_BYTES}));
        times[count + index] = time;
    }
    struct mr_span         span = {.data = rig.bytes, .len = mr_batch_end(&builder)};
    struct mr_append_entry entry = {.log_id = log_id,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = span.len},
                                    .leader_epoch = -1};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    assert_int_equal(mr_core_rig_do(&rig, &op.op), MR_OK);
    assert_int_equal(entry.err, MR_OK);
    assert_int_equal(entry.base_offset, count);
    count += records;
}

static void expect(uint64_t log_id, int64_t timestamp, int64_t from)
{
    int64_t offset = -1;
    int64_t max = -1;
    for (int64_t at = from; at < count && offset < 0; at++) {
        offset = timestamp >= 0 && times[at] >= timestamp ? at : -1;
    }
    for (int64_t at = from; at < count && timestamp == MR_LIST_MAX_TIMESTAMP; at++) {
        if (times[at] > max) {
            max = times[at];
            offset = at;
        }
    }
    struct mr_list_offsets_entry found = mr_core_rig_list(&rig, log_id, timestamp);
    assert_int_equal(found.err, MR_OK);
    assert_int_equal(found.offset, offset);
    assert_int_equal(found.offset_timestamp, offset < 0 ? -1 : times[offset]);
    assert_int_equal(found.leader_epoch, offset < 0 ? -1 : 0);
}

static void expect_all(uint64_t log_id, int64_t from)
{
    expect(log_id, MR_LIST_MAX_TIMESTAMP, from);
    expect(log_id, 0, from);
    expect(log_id, INT64_MAX, from);
    for (int64_t time = EPOCH_MS - 1100; time < EPOCH_MS + count * 10 + 1100; time += 171) {
        expect(log_id, time, from);
    }
    for (uint32_t index = 0; index < 40; index++) {
        expect(log_id, times[mr_prng_below(&prng, (uint64_t)count)], from);
    }
}

static uint64_t fill(void)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    for (uint32_t index = 0; index < BATCHES; index++) {
        append(log);
    }
    return log;
}

static uint64_t restart(void)
{
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    return mr_core_rig_open(&rig, "t", 0, false);
}

static void test_search_in_memory_finds_what_a_list_finds(void **state)
{
    (void)state;
    expect_all(fill(), 0);
}

static void test_search_in_files_finds_what_a_list_finds(void **state)
{
    (void)state;
    (void)fill();
    expect_all(restart(), 0);
}

/* 7 MB of log and 2 MiB of cache: the beginning is in files, the end in memory, some of it on both sides. */
static void test_search_across_files_and_memory_finds_what_a_list_finds(void **state)
{
    (void)state;
    rig.plan.cache_bytes = 2u << 20;
    uint64_t log = fill();
    expect_all(log, 0);
    for (uint32_t index = 0; index < 30; index++) {
        append(log);
        expect(log, MR_LIST_MAX_TIMESTAMP, 0);
        expect(log, EPOCH_MS + count * 10 - 1500, 0);
    }
}

static void test_search_begins_at_the_log_start(void **state)
{
    (void)state;
    uint64_t log = fill();
    int64_t  from = count * 2 / 3 + 1;
    assert_int_equal(mr_core_rig_delete_records(&rig, log, from), MR_OK);
    expect_all(log, from);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    expect_all(mr_core_rig_open(&rig, "t", 0, false), from);
}

/* The time indexes of whole segments were lost: the headers tell. (The active one's is made again at a start.) */
static void test_search_without_time_indexes_reads_the_headers(void **state)
{
    (void)state;
    char names[8192];
    (void)fill();
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    size_t    len = mr_sim_fs_names(rig.fs, "/data/t-0", names, sizeof names);
    long long newest = 0;
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        long long base = strstr(names + at, ".log") == NULL ? 0 : strtoll(names + at, NULL, 10);
        newest = base > newest ? base : newest;
    }
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        char path[128];
        mr_fmt(path, sizeof path, "/data/t-0/%s", names + at);
        if (strstr(path, ".timeindex") != NULL && strtoll(names + at, NULL, 10) != newest) {
            mr_sim_fs_remove(rig.fs, path);
        }
    }
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    expect_all(mr_core_rig_open(&rig, "t", 0, false), 0);
}

static void test_search_meets_a_damaged_batch_and_says_so(void **state)
{
    (void)state;
    (void)fill();
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    mr_sim_fs_rot(rig.fs, "/data/t-0/00000000000000000000.log", 70, 1, 0x40); /* in the first batch's records */
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_list(&rig, log, 0).err, MR_ERR_CORRUPT);
    expect(log, EPOCH_MS + count * 10 - 2500, 0); /* elsewhere it is right */
}

static void test_search_of_an_empty_log_finds_nothing(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    expect(log, 0, 0);
    expect(log, MR_LIST_MAX_TIMESTAMP, 0);
    assert_int_equal(mr_core_rig_list(&rig, log, MR_LIST_EARLIEST).offset, 0);
    assert_int_equal(mr_core_rig_list(&rig, log, MR_LIST_LATEST).offset, 0);
    assert_int_equal(mr_core_rig_list(&rig, log, MR_LIST_EARLIEST_LOCAL).offset, 0);
    assert_int_equal(mr_core_rig_list(&rig, log, MR_LIST_LATEST_TIERED).offset, -1);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_search_in_memory_finds_what_a_list_finds),
        TEST(test_search_in_files_finds_what_a_list_finds),
        TEST(test_search_across_files_and_memory_finds_what_a_list_finds),
        TEST(test_search_begins_at_the_log_start),
        TEST(test_search_without_time_indexes_reads_the_headers),
        TEST(test_search_meets_a_damaged_batch_and_says_so),
        TEST(test_search_of_an_empty_log_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
