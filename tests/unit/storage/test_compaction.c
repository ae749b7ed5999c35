/*
 * Compaction: a keyed log on the simulated disk beside a model of all that was ever written. Whatever is read must be in
 * the model at that offset, in order; of each key the newest value must be there; below the part that was compacted
 * nothing else is. The same after stops, kills and a power cut at every operation of a compaction.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"

#define KEYS      40
#define OFFSETS   8192
#define SEGMENT   (16 << 10)
#define BACKOFF   100
#define TOMBSTONE (-1)

static struct mr_core_rig rig;
static uint64_t           log_id;
static uint64_t           random_state;
static uint8_t            bytes[1 << 20];

static struct {
    int64_t end;
    int16_t key[OFFSETS];
    int32_t value[OFFSETS]; /* TOMBSTONE, or a number */
    int64_t newest[KEYS];   /* offset; -1: none */
} model;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

static void prepare(void)
{
    mr_core_rig_init(&rig);
    rig.plan.clean_map_bytes = 1 << 20;
    rig.plan.clean_load = 0.9;
    rig.plan.clean_io_bytes = 256 << 10;
    rig.plan.clean_backoff_ms = BACKOFF;
    rig.config.segment_bytes = SEGMENT;
    rig.config.index_interval_bytes = 1024;
    rig.config.is_cleanup_delete = false;
    rig.config.is_cleanup_compact = true;
    rig.config.delete_retention_ms = 3600000;
    rig.config.min_cleanable_dirty_ratio = 0.01;
    rig.config.file_delete_delay_ms = 1000;
}

static int setup(void **state)
{
    (void)state;
    prepare();
    random_state = 7;
    memset(&model, 0, sizeof model);
    for (int key = 0; key < KEYS; key++) {
        model.newest[key] = -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* ---- Writing ---- */

static struct mr_blob key_blob(int16_t key, char text[16])
{
    mr_fmt(text, 16, "key-%d", key);
    return (struct mr_blob){.data = (const uint8_t *)text, .len = (int32_t)strlen(text)};
}

static enum mr_err put_bytes(const uint8_t *batch, uint32_t len, enum mr_append_origin origin, int64_t *offset)
{
    struct mr_span         span = {.data = batch, .len = len};
    struct mr_append_entry entry = {.log_id = log_id, .origin = origin, .leader_epoch = -1, .txn_version = 1,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = len}};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    if (offset != NULL) {
        *offset = entry.base_offset;
    }
    return entry.err;
}

/* One batch of `count` records of these keys, `first` and on; each value is its own offset. */
static void put(int16_t first, int count, bool is_tombstone)
{
    struct mr_batch_builder builder;
    static uint8_t          value[64];
    int64_t                 offset = 0;
    mr_batch_begin(&builder, rig.bytes, MR_CORE_RIG_BATCH, 0, 0);
    for (int index = 0; index < count; index++) {
        char    text[16];
        int16_t key = (int16_t)((first + index) % KEYS);
        int64_t at = model.end + index;
        mr_fmt((char *)value, sizeof value, "%lld", (long long)at);
        struct mr_blob blob = {.data = value, .len = sizeof value};
        assert_true(mr_batch_add(&builder, rig.now.unix_ms, key_blob(key, text), is_tombstone ? MR_BLOB_NULL : blob));
        model.key[at] = key;
        model.value[at] = is_tombstone ? TOMBSTONE : (int32_t)at;
        model.newest[key] = at;
    }
    assert_int_equal(put_bytes(rig.bytes, mr_batch_end(&builder), MR_APPEND_CLIENT, &offset), MR_OK);
    assert_int_equal(offset, model.end);
    model.end += count;
}

static void put_some(uint32_t batches, uint32_t tombstones_in_100)
{
    for (uint32_t index = 0; index < batches; index++) {
        put((int16_t)draw(KEYS), 1 + (int)draw(6), draw(100) < tombstones_in_100);
    }
}

static void start(void)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log_id = mr_core_rig_open(&rig, "t", 0, false);
}

/* ---- Reading ---- */

struct seen {
    int64_t  records;
    int64_t  batches;
    int64_t  empty_batches;
    int64_t  first; /* offset of the first record at or after the place asked */
    bool     is_there[OFFSETS];
};

static struct seen seen;

static void see_batch(const uint8_t *at, uint32_t len)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    assert_int_equal(mr_record_iter_init(&iter, at, len, NULL), MR_OK);
    assert_int_equal(mr_crc32c(0, at + 21, len - 21), iter.batch.crc);
    seen.batches++;
    seen.empty_batches += iter.batch.record_count == 0;
    enum mr_err err;
    while ((err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        char text[16];
        assert_in_range(record.offset, iter.batch.base_offset, mr_batch_last_offset(&iter.batch));
        assert_true(record.offset < model.end);
        struct mr_blob key = key_blob(model.key[record.offset], text);
        assert_int_equal(record.key.len, key.len);
        assert_memory_equal(record.key.data, key.data, (size_t)key.len);
        assert_int_equal(record.value.len < 0, model.value[record.offset] == TOMBSTONE);
        if (record.value.len >= 0) {
            int64_t value = strtoll((const char *)record.value.data, NULL, 10);
            assert_int_equal(value, record.offset);
        }
        seen.first = seen.first < 0 ? record.offset : seen.first;
        seen.is_there[record.offset] = true;
        seen.records++;
    }
    assert_int_equal(err, MR_ERR_NOT_FOUND);
}

/* Everything from `offset` to the end, in reads of at most `max` bytes; each must bring something. */
static void read_from(int64_t offset, uint32_t max)
{
    memset(&seen, 0, sizeof seen);
    seen.first = -1;
    while (offset < model.end) {
        uint32_t len = 0;
        assert_int_equal(mr_core_rig_read(&rig, log_id, offset, max, bytes, &len), MR_OK);
        if (len == 0) {
            fail_msg("nothing at %lld of %lld", (long long)offset, (long long)model.end);
        }
        for (uint32_t at = 0; at < len;) {
            struct mr_batch batch;
            mr_batch_header_load(bytes + at, &batch);
            assert_true(mr_batch_last_offset(&batch) >= offset);
            see_batch(bytes + at, mr_batch_bytes(&batch));
            offset = mr_batch_last_offset(&batch) + 1;
            at += mr_batch_bytes(&batch);
        }
    }
}

/* The newest values are there; tombstones may be. Returns how many records are. */
static int64_t check_log(void)
{
    read_from(0, 100000);
    for (int key = 0; key < KEYS; key++) {
        int64_t newest = model.newest[key];
        assert_true(newest < 0 || model.value[newest] == TOMBSTONE || seen.is_there[newest]);
    }
    return seen.records;
}

/* Below `end` nothing but the newest of each key. */
static void check_compact_below(int64_t end)
{
    int64_t newest[KEYS];
    memset(newest, 0xff, sizeof newest);
    for (int64_t at = 0; at < end; at++) {
        newest[model.key[at]] = at;
    }
    for (int64_t at = 0; at < end; at++) {
        assert_true(!seen.is_there[at] || newest[model.key[at]] == at);
    }
}

static uint32_t files_with(const char *part)
{
    char     list[65536];
    uint32_t count = 0;
    size_t   len = mr_sim_fs_names(rig.fs, "/data/t-0", list, sizeof list);
    for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
        count += strstr(list + at, part) != NULL;
    }
    return count;
}

static int64_t active_base(void)
{
    char    list[65536];
    int64_t base = 0;
    size_t  len = mr_sim_fs_names(rig.fs, "/data/t-0", list, sizeof list);
    for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
        const char *name = strrchr(list + at, '/');
        name = name == NULL ? list + at : name + 1;
        size_t name_len = strlen(name);
        if (name_len == 24 && strcmp(name + 20, ".log") == 0 && strtoll(name, NULL, 10) > base) {
            base = strtoll(name, NULL, 10);
        }
    }
    return base;
}

static uint64_t rounds(void)
{
    struct mr_storage_stats stats;
    mr_storage_core_stats(rig.core, &stats);
    return stats.clean_rounds;
}

/* ---- The tests ---- */

static void test_newest_value_of_each_key_stays(void **state)
{
    (void)state;
    start();
    put_some(1200, 0);
    int64_t all = check_log();
    assert_int_equal(all, model.end);
    uint32_t before = files_with(".log");
    mr_core_rig_advance(&rig, 5000);
    assert_true(rounds() > 0);
    assert_true(check_log() < all / 4);
    check_compact_below(active_base());
    assert_true(files_with(".log") < before / 2);
    assert_int_equal(files_with(".cleaned"), 0);
    assert_int_equal(files_with(".deleted"), 0);
}

static void test_readers_begin_anywhere(void **state)
{
    (void)state;
    start();
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    check_log();
    static bool is_there[OFFSETS];
    memcpy(is_there, seen.is_there, sizeof is_there);
    for (int64_t offset = 0; offset < model.end; offset += 1 + (int64_t)draw(7)) {
        read_from(offset, 700 + draw(3000));
        for (int64_t at = offset; at < model.end; at++) {
            assert_int_equal(seen.is_there[at], is_there[at]);
        }
    }
}

static void test_compaction_survives_stop_kill_and_restart(void **state)
{
    (void)state;
    start();
    for (int life = 0; life < 8; life++) {
        put_some(200, 10);
        mr_core_rig_advance(&rig, life % 3 == 0 ? 150 : 3000);
        check_log();
        if (life % 2 == 0) {
            assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
            assert_int_equal(files_with(".cleaned"), 0);
            assert_int_equal(mr_core_rig_file(&rig, "millrace-clean-0"), -1);
        }
        mr_core_rig_kill(&rig);
        start();
        check_log();
    }
    mr_core_rig_advance(&rig, 5000);
    check_log();
    check_compact_below(active_base());
}

/* What a clean stop wrote says up to where the log is compacted: it is not done again. */
static void test_compacted_log_is_left_alone_after_a_clean_stop(void **state)
{
    (void)state;
    start();
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    int64_t end = active_base();
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    char text[256] = "";
    char expected[256];
    assert_true(mr_sim_fs_get(rig.fs, "/data/cleaner-offset-checkpoint", text, sizeof text - 1) > 0);
    mr_fmt(expected, sizeof expected, "0\n1\nt 0 %lld\n", (long long)end);
    assert_string_equal(text, expected);
    mr_core_rig_kill(&rig);
    start();
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(rounds(), 0);
    put_some(300, 0);
    mr_core_rig_advance(&rig, 5000);
    assert_true(rounds() > 0);
    check_log();
    check_compact_below(active_base());
}

/* A tombstone stays for delete.retention.ms from the compaction that first met it, then it goes. */
static void test_tombstones_leave_after_their_horizon(void **state)
{
    (void)state;
    start();
    for (int16_t key = 0; key < KEYS; key++) {
        put(key, 1, false);
    }
    put(3, 1, true);
    int64_t tombstone = model.end - 1;
    for (int round = 0; round < 60; round++) {
        put(20, 6, false);
    }
    mr_core_rig_advance(&rig, 3000);
    check_log();
    assert_true(seen.is_there[tombstone]);
    assert_false(seen.is_there[3]);
    mr_core_rig_advance(&rig, 3590000);
    for (int round = 0; round < 60; round++) {
        put(20, 6, false);
    }
    mr_core_rig_advance(&rig, 3000);
    check_log();
    assert_true(seen.is_there[tombstone]); /* 3596 s: not yet */
    mr_core_rig_advance(&rig, 20000);
    for (int round = 0; round < 60; round++) {
        put(20, 6, false);
    }
    mr_core_rig_advance(&rig, 3000);
    check_log();
    assert_false(seen.is_there[tombstone]);
    assert_false(seen.is_there[3]);
}

static void test_young_records_are_left_alone(void **state)
{
    (void)state;
    rig.config.min_compaction_lag_ms = 60000;
    start();
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(rounds(), 0);
    assert_int_equal(check_log(), model.end);
    mr_core_rig_advance(&rig, 61000);
    assert_true(rounds() > 0);
    check_log();
    check_compact_below(active_base());
}

/* Little of it is dirty, but for too long. */
static void test_old_records_are_compacted_in_any_case(void **state)
{
    (void)state;
    rig.config.min_cleanable_dirty_ratio = 1;
    start();
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(rounds(), 0);
    rig.config.max_compaction_lag_ms = 60000;
    assert_int_equal(mr_core_rig_configure(&rig, log_id), MR_OK);
    mr_core_rig_advance(&rig, 40000);
    assert_int_equal(rounds(), 0);
    mr_core_rig_advance(&rig, 20000);
    assert_true(rounds() > 0);
    check_log();
}

/* The map holds a part of the keys: more rounds, the same log. */
static void test_map_that_is_too_small_takes_more_rounds(void **state)
{
    (void)state;
    rig.plan.clean_map_bytes = 64 * 24;
    rig.plan.clean_load = 0.3; /* 19 keys of 40 */
    start();
    put_some(800, 5);
    mr_core_rig_advance(&rig, 30000);
    assert_true(rounds() > 5);
    check_log();
    check_compact_below(active_base());
}

static void test_time_search_finds_what_is_left(void **state)
{
    (void)state;
    int64_t began = rig.now.unix_ms;
    start();
    for (int index = 0; index < 500; index++) {
        put_some(1, 0);
        rig.now.unix_ms += 10;
    }
    mr_core_rig_advance(&rig, 5000);
    check_log();
    for (int64_t at = began; at < began + 4900; at += 37) {
        struct mr_list_offsets_entry found = mr_core_rig_list(&rig, log_id, at);
        assert_int_equal(found.err, MR_OK);
        assert_true(found.offset >= 0 && seen.is_there[found.offset] && found.offset_timestamp >= at);
        for (int64_t before = found.offset - 1; before >= 0 && !seen.is_there[before]; before--) {
            assert_true(before >= 0);
        }
    }
}

/* ---- A power cut at every operation ---- */

static void life_before(void)
{
    random_state = 11;
    memset(&model, 0, sizeof model);
    memset(model.newest, 0xff, sizeof model.newest);
    prepare();
    rig.config.file_delete_delay_ms = 0;
    start();
    put_some(220, 10);
}

static void test_power_lost_anywhere_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    life_before();
    uint64_t from = mr_sim_fs_op_count(rig.fs);
    mr_core_rig_advance(&rig, 1500);
    assert_true(rounds() > 0);
    uint64_t to = mr_sim_fs_op_count(rig.fs);
    assert_true(to > from + 60);
    for (uint64_t at = from; at <= to; at++) {
        mr_core_rig_deinit(&rig);
        life_before();
        mr_sim_fs_die_at(rig.fs, at);
        mr_core_rig_advance(&rig, 1500);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_power_cut(rig.fs, (enum mr_sim_cut)(at % MR_SIM_CUT_COUNT), at);
        rig.disk = mr_sim_disk_create(rig.fs); /* for kill to destroy */
        mr_core_rig_kill(&rig);
        start();
        check_log();
        put_some(5, 0);
        mr_core_rig_advance(&rig, 3000);
        check_log();
        check_compact_below(active_base());
        assert_int_equal(files_with(".cleaned"), 0);
    }
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_newest_value_of_each_key_stays),
        TEST(test_readers_begin_anywhere),
        TEST(test_compaction_survives_stop_kill_and_restart),
        TEST(test_compacted_log_is_left_alone_after_a_clean_stop),
        TEST(test_tombstones_leave_after_their_horizon),
        TEST(test_young_records_are_left_alone),
        TEST(test_old_records_are_compacted_in_any_case),
        TEST(test_map_that_is_too_small_takes_more_rounds),
        TEST(test_time_search_finds_what_is_left),
        TEST(test_power_lost_anywhere_leaves_the_old_or_the_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
