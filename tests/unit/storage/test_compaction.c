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
#define MARKER    (-2)

static struct mr_core_rig rig;
static uint64_t           log_id;
static uint64_t           random_state;
static uint8_t            bytes[1 << 20];
static uint8_t            room[4 << 20];
static int                codec; /* of the batches that are put */

static struct {
    int64_t end;
    int16_t key[OFFSETS];
    int32_t value[OFFSETS]; /* TOMBSTONE, MARKER, or a number */
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
    codec = 0;
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

static enum mr_err put_bytes(const uint8_t *batch, uint32_t len, enum mr_append_origin origin, uint64_t guard,
                             int64_t *offset)
{
    struct mr_span         span = {.data = batch, .len = len};
    struct mr_append_entry entry = {.log_id = log_id, .origin = origin, .leader_epoch = -1, .guard = guard,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = len}};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    if (offset != NULL) {
        *offset = entry.base_offset;
    }
    return entry.err;
}

/* The batch in rig.bytes as a producer with compression.type would have made it. */
static uint32_t compress(uint32_t len)
{
    static uint8_t  plain[65536];
    struct mr_batch batch;
    struct mr_arena scratch;
    uint32_t        packed = 0;
    if (codec == 0) {
        return len;
    }
    mr_arena_init(&scratch, room, sizeof room);
    memcpy(plain, rig.bytes + MR_BATCH_HEADER, len - MR_BATCH_HEADER);
    assert_int_equal(mr_compress(codec, MR_LEVEL_DEFAULT, plain, len - MR_BATCH_HEADER, rig.bytes + MR_BATCH_HEADER,
                                 1 << 20, &packed, &scratch),
                     MR_OK);
    len = MR_BATCH_HEADER + packed;
    mr_batch_header_load(rig.bytes, &batch);
    batch.attributes |= (int16_t)codec;
    batch.batch_length = (int32_t)(len - MR_BATCH_LENGTH_BIAS);
    mr_batch_header_store(&batch, rig.bytes);
    mr_store_be32(rig.bytes + 17, mr_crc32c(0, rig.bytes + 21, len - 21));
    return len;
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
    assert_int_equal(put_bytes(rig.bytes, compress(mr_batch_end(&builder)), MR_APPEND_CLIENT, 0, &offset), MR_OK);
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
    int64_t  plain_batches;
    bool     is_there[OFFSETS];
};

static struct seen seen;

static void see_batch(const uint8_t *at, uint32_t len)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    struct mr_arena scratch;
    mr_arena_init(&scratch, room, sizeof room);
    assert_int_equal(mr_record_iter_init(&iter, at, len, &scratch), MR_OK);
    assert_int_equal(mr_crc32c(0, at + 21, len - 21), iter.batch.crc);
    seen.batches++;
    seen.empty_batches += iter.batch.record_count == 0;
    seen.plain_batches += iter.batch.record_count > 0 && (iter.batch.attributes & MR_BATCH_CODEC_MASK) == 0;
    enum mr_err err;
    while ((err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        char text[16];
        assert_in_range(record.offset, iter.batch.base_offset, mr_batch_last_offset(&iter.batch));
        assert_true(record.offset < model.end);
        seen.is_there[record.offset] = true;
        seen.records++;
        if (model.value[record.offset] == MARKER) {
            assert_true((iter.batch.attributes & MR_BATCH_CONTROL) != 0);
            continue;
        }
        struct mr_blob key = key_blob(model.key[record.offset], text);
        assert_int_equal(record.key.len, key.len);
        assert_memory_equal(record.key.data, key.data, (size_t)key.len);
        assert_int_equal(record.value.len < 0, model.value[record.offset] == TOMBSTONE);
        if (record.value.len >= 0) {
            int64_t value = strtoll((const char *)record.value.data, NULL, 10);
            assert_int_equal(value, record.offset);
        }
    }
    assert_int_equal(err, MR_ERR_NOT_FOUND);
}

/* Everything from `offset` to the end, in reads of at most `max` bytes; each must bring something. */
static void read_from(int64_t offset, uint32_t max)
{
    memset(&seen, 0, sizeof seen);
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

/* What is left of a compressed batch has the codec that it came with. */
static void test_compressed_batches_stay_compressed(void **state)
{
    (void)state;
    start();
    for (codec = 1; codec <= 4; codec++) {
        put_some(150, 10);
    }
    for (codec = 1; codec <= 4; codec++) {
        put(0, 30, false); /* of which the next takes most */
        put(5, 30, false);
    }
    codec = 4;
    put_some(60, 0);
    mr_core_rig_advance(&rig, 5000);
    assert_true(rounds() > 0);
    check_log();
    check_compact_below(active_base());
    assert_int_equal(seen.plain_batches, 0);
}

/* A turn takes a slice, and at most one batch more: of compressed ones less, for they are more work. */
static void test_turn_takes_a_slice(void **state)
{
    (void)state;
    static const struct {
        int      codec;
        uint64_t most; /* bytes of batches in a turn */
        uint64_t more; /* and one of them does as much */
    } cases[] = {{0, 128 << 10, 64 << 10}, {1, (128 << 10) / 64, 0}, {4, (128 << 10) / 24, 0}};
    for (uint32_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_storage_stats stats;
        uint64_t                largest = 0;
        if (index > 0) {
            assert_int_equal(teardown(state), 0);
            assert_int_equal(setup(state), 0);
        }
        rig.config.segment_bytes = cases[index].codec == 0 ? 400 << 10 : 24 << 10;
        codec = cases[index].codec;
        start();
        for (int batch = 0; batch < 240; batch++) {
            put((int16_t)draw(KEYS), 30, false);
        }
        for (uint32_t turn = 0; turn < 100000 && rounds() == 0; turn++) {
            mr_storage_core_stats(rig.core, &stats);
            uint64_t before = stats.clean_bytes;
            (void)mr_core_rig_turn(&rig);
            rig.now.mono_ns += MR_NS_PER_MS;
            rig.now.unix_ms++;
            mr_storage_core_stats(rig.core, &stats);
            uint64_t part = stats.clean_bytes - before;
            largest = part > largest ? part : largest;
        }
        assert_true(rounds() > 0);
        assert_true(largest <= cases[index].most + 4096); /* a batch is smaller */
        assert_true(largest >= cases[index].more);
        check_log();
    }
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

/* ---- Producers and transactions ---- */

/* One record of a key by a producer; `attributes` may say that it is transactional. */
static uint32_t build_of(int64_t producer, int32_t sequence, int16_t key, int16_t attributes)
{
    struct mr_batch_builder builder;
    char                    text[16];
    uint8_t                 value[64] = {0};
    mr_fmt((char *)value, sizeof value, "%lld", (long long)model.end);
    mr_batch_begin(&builder, rig.bytes, MR_CORE_RIG_BATCH, 0, attributes);
    builder.batch.producer_id = producer;
    builder.batch.producer_epoch = 0;
    builder.batch.base_sequence = sequence;
    assert_true(mr_batch_add(&builder, rig.now.unix_ms, key_blob(key, text),
                             (struct mr_blob){.data = value, .len = sizeof value}));
    return mr_batch_end(&builder);
}

static void note_record(int16_t key)
{
    model.key[model.end] = key;
    model.value[model.end] = (int32_t)model.end;
    model.newest[key] = model.end++;
}

static void put_of(int64_t producer, int32_t sequence, int16_t key)
{
    int64_t offset = -1;
    assert_int_equal(put_bytes(rig.bytes, build_of(producer, sequence, key, 0), MR_APPEND_CLIENT, 0, &offset), MR_OK);
    assert_int_equal(offset, model.end);
    note_record(key);
}

/* What a producer wrote last is known after its records are compacted away, from the log alone. */
static void test_last_sequence_of_a_producer_is_kept(void **state)
{
    (void)state;
    start();
    for (int32_t sequence = 0; sequence < 30; sequence++) {
        put_of(77, sequence, (int16_t)(sequence % 3));
    }
    int64_t last = model.end - 1;
    put_some(600, 0);
    put(0, KEYS, false);
    mr_core_rig_advance(&rig, 5000);
    check_log();
    assert_false(seen.is_there[last]);
    assert_int_equal(seen.empty_batches, 1);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    char   list[65536];
    size_t len = mr_sim_fs_names(rig.fs, "/data/t-0", list, sizeof list);
    for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
        char path[256];
        mr_fmt(path, sizeof path, "/data/t-0/%s", list + at);
        if (strstr(list + at, ".snapshot") != NULL) {
            mr_sim_fs_remove(rig.fs, path);
        }
    }
    start();
    int64_t offset = -1;
    assert_int_equal(put_bytes(rig.bytes, build_of(77, 29, 2, 0), MR_APPEND_CLIENT, 0, &offset), MR_OK);
    assert_int_equal(offset, last);
    assert_int_equal(put_bytes(rig.bytes, build_of(77, 31, 2, 0), MR_APPEND_CLIENT, 0, &offset),
                     MR_ERR_OUT_OF_ORDER_SEQUENCE);
    put_of(77, 30, 2);
}

static void put_in_txn(int64_t producer, int32_t sequence, int16_t key, bool is_committed)
{
    struct mr_txn_check_entry entry = {.log_id = log_id, .producer_id = producer, .base_sequence = sequence};
    struct mr_txn_check_op    check = {.op.kind = MR_STORAGE_TXN_CHECK, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &check.op);
    assert_int_equal(entry.err, MR_OK);
    int64_t  offset = -1;
    uint32_t len = build_of(producer, sequence, key, MR_BATCH_TRANSACTIONAL);
    assert_int_equal(put_bytes(rig.bytes, len, MR_APPEND_CLIENT, entry.guard, &offset), MR_OK);
    if (is_committed) {
        note_record(key);
    } else {
        model.key[model.end] = key;
        model.value[model.end] = (int32_t)model.end;
        model.end++;
    }
}

static void mark(int64_t producer, bool is_commit)
{
    uint8_t          marker_bytes[MR_MARKER_BYTES_MAX];
    struct mr_marker marker = {.is_commit = is_commit, .coordinator_epoch = 3};
    uint32_t         len = mr_marker_build(marker_bytes, producer, 0, &marker, rig.now.unix_ms);
    int64_t          offset = -1;
    assert_int_equal(put_bytes(marker_bytes, len, MR_APPEND_COORDINATOR, 0, &offset), MR_OK);
    assert_int_equal(offset, model.end);
    model.value[model.end] = MARKER;
    model.end++;
}

/* An aborted value replaces nothing, and goes; its marker, and a committed one's, when nothing of them is left. */
static void test_aborted_records_replace_nothing(void **state)
{
    (void)state;
    rig.config.producer_expiration_ms = 1000000;
    rig.plan.producer_check_ms = 1000;
    start();
    put(0, KEYS, false);
    for (int32_t at = 0; at < 20; at++) {
        put_in_txn(100, at, (int16_t)at, false);
        put_in_txn(200, at, (int16_t)(at + 20), true);
    }
    int64_t aborted_to = model.end;
    mark(100, false);
    mark(200, true);
    int64_t marker = model.end - 2;
    for (int16_t round = 0; round < 60; round++) {
        put(30, 6, false);
    }
    mr_core_rig_advance(&rig, 5000);
    check_log();
    for (int64_t at = 0; at < 20; at++) {
        assert_true(seen.is_there[at]); /* the committed value of that key */
    }
    for (int64_t at = KEYS; at < aborted_to; at += 2) {
        assert_false(seen.is_there[at]);
    }
    assert_true(seen.is_there[marker]);
    for (int again = 0; again < 5; again++) {
        for (int16_t round = 0; round < 60; round++) {
            put(34, 6, false);
        }
        mr_core_rig_advance(&rig, 3700000);
        assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
        mr_core_rig_kill(&rig);
        start();
        check_log();
    }
    /* The producer was forgotten, then its last batch, empty by now, was gone, then the marker had its time. */
    assert_false(seen.is_there[marker]);
    assert_true(seen.is_there[marker + 1]); /* its transaction has data still */
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

/* A base offset or leader epoch that is wrong in the file, or was when it was read, does not come into a compacted segment:
 * no CRC covers them, and nothing would ever tell them from right ones. */
static void test_wrong_offset_or_epoch_is_not_copied(void **state)
{
    (void)state;
    static const char    segment[] = "/data/t-0/00000000000000000000.log";
    static const uint8_t at[] = {0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15};
    for (uint32_t index = 0; index < sizeof at; index++) {
        uint32_t        byte = at[index];
        struct mr_batch batch;
        uint32_t        pos = 0;
        mr_core_rig_deinit(&rig);
        (void)setup(NULL);
        start();
        put_some(600, 0);
        int64_t size = mr_sim_fs_get(rig.fs, segment, bytes, sizeof bytes);
        for (uint32_t passed = draw(30); passed > 0; passed--) {
            mr_batch_header_load(bytes + pos, &batch);
            pos += mr_batch_bytes(&batch);
        }
        assert_true(pos < size);
        uint8_t mask = (uint8_t)(1u << draw(7));
        mr_sim_fs_rot(rig.fs, segment, pos + byte, 1, mask);
        mr_core_rig_advance(&rig, 5000);
        assert_int_equal(rounds(), 0);
        assert_int_equal(files_with(".cleaned"), 0);
        mr_sim_fs_rot(rig.fs, segment, pos + byte, 1, mask);
        mr_core_rig_kill(&rig);
        start();
        mr_core_rig_advance(&rig, 5000);
        assert_true(rounds() > 0);
        check_log();
        check_compact_below(active_base());
    }
}

/* ---- Company: no space, deletion, retention, everything at random ---- */

static void test_full_directory_keeps_the_old_segments(void **state)
{
    (void)state;
    rig.plan.disk_reserve_bytes = 4096;
    start();
    put_some(600, 0);
    mr_sim_fs_capacity(rig.fs, mr_sim_fs_used(rig.fs) + 24000); /* less than the first segment becomes */
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(rig.offlines, 0);
    assert_int_equal(check_log(), model.end);
    assert_int_equal(files_with(".cleaned"), 0);
    mr_sim_fs_capacity(rig.fs, mr_sim_fs_used(rig.fs) + (64 << 20));
    mr_core_rig_advance(&rig, 20000);
    assert_true(rounds() > 0);
    check_log();
    check_compact_below(active_base());
}

/* A log is deleted in the middle of its compaction, wherever that is: it ends, and nothing of it stays. */
static void test_log_is_dropped_at_any_step_of_its_compaction(void **state)
{
    (void)state;
    for (uint32_t turns = 0; turns < 120; turns += 3) {
        mr_core_rig_deinit(&rig);
        prepare();
        memset(&model, 0, sizeof model);
        rig.config.file_delete_delay_ms = 0;
        start();
        put_some(120, 0);
        mr_core_rig_advance(&rig, BACKOFF - 1);
        for (uint32_t turn = 0; turn < turns; turn++) {
            mr_core_rig_advance(&rig, 1);
        }
        assert_int_equal(mr_core_rig_drop(&rig, log_id), MR_OK);
        mr_core_rig_advance(&rig, 3000);
        assert_int_equal(files_with(""), 0);
        log_id = mr_core_rig_open(&rig, "t", 0, false);
        memset(&model, 0, sizeof model);
        memset(model.newest, 0xff, sizeof model.newest);
        put_some(120, 0);
        mr_core_rig_advance(&rig, 3000);
        check_log();
        check_compact_below(active_base());
    }
}

/* compact,delete: what compaction leaves is too much one day as well. */
static void test_compacted_log_is_deleted_from_its_start_too(void **state)
{
    (void)state;
    rig.plan.retention_check_ms = 1000;
    rig.config.is_cleanup_delete = true;
    rig.config.retention_ms = 60000;
    start();
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    assert_true(rounds() > 0);
    check_log();
    mr_core_rig_advance(&rig, 70000);
    assert_int_equal(mr_core_rig_stat(&rig, log_id, NULL).log_start_offset, model.end);
    memset(model.newest, 0xff, sizeof model.newest);
    int64_t from = model.end;
    put_some(600, 0);
    mr_core_rig_advance(&rig, 5000);
    read_from(from, 100000);
    for (int key = 0; key < KEYS; key++) {
        assert_true(model.newest[key] < 0 || seen.is_there[model.newest[key]]);
    }
}

static void check_from_start(void)
{
    int64_t log_start = mr_core_rig_stat(&rig, log_id, NULL).log_start_offset;
    read_from(log_start, 3000 + draw(100000));
    for (int key = 0; key < KEYS; key++) {
        int64_t newest = model.newest[key];
        assert_true(newest < log_start || model.value[newest] == TOMBSTONE || seen.is_there[newest]);
    }
}

static void end_of_life(void)
{
    switch (draw(4)) {
    case 0:
        assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
        mr_core_rig_kill(&rig);
        return;
    case 1:
        mr_core_rig_kill(&rig);
        return;
    default: /* in the middle of something */
        mr_sim_fs_die_at(rig.fs, mr_sim_fs_op_count(rig.fs) + draw(200));
        mr_core_rig_advance(&rig, 1500);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_power_cut(rig.fs, (enum mr_sim_cut)draw(MR_SIM_CUT_COUNT), random_state);
        rig.disk = mr_sim_disk_create(rig.fs); /* for kill to destroy */
        mr_core_rig_kill(&rig);
    }
}

static void swarm(uint64_t seed)
{
    random_state = seed * 7919;
    memset(&model, 0, sizeof model);
    memset(model.newest, 0xff, sizeof model.newest);
    prepare();
    codec = (int)draw(6) > 4 ? 0 : (int)draw(5);
    rig.config.segment_bytes = 4000 + draw(30000);
    rig.config.is_cleanup_delete = draw(2) == 0;
    rig.config.delete_retention_ms = draw(2) == 0 ? 0 : 2000;
    rig.config.min_cleanable_dirty_ratio = draw(2) == 0 ? 0.01 : 0.5;
    rig.config.file_delete_delay_ms = draw(2) * 500;
    rig.plan.clean_map_bytes = draw(2) == 0 ? 64 * 24 : 1 << 20;
    start();
    for (int life = 0; life < 5; life++) {
        for (uint32_t step = 4 + draw(6); step > 0; step--) {
            put_some(10 + draw(40), 15);
            mr_core_rig_advance(&rig, draw(600));
            if (draw(6) == 0 && rig.config.is_cleanup_delete) {
                int64_t least = mr_core_rig_stat(&rig, log_id, NULL).log_start_offset;
                int64_t to = least + (int64_t)draw((uint32_t)(model.end - least) / 3 + 1);
                assert_int_equal(mr_core_rig_delete_records(&rig, log_id, to), MR_OK);
            }
            check_from_start();
        }
        end_of_life();
        start();
        check_from_start();
    }
    mr_core_rig_advance(&rig, 3000);
    check_from_start();
}

static void test_lives_at_random_keep_the_newest(void **state)
{
    (void)state;
    const char *only = getenv("MR_SEED");
    uint64_t    first = only != NULL ? strtoull(only, NULL, 10) : 1;
    uint64_t    count = only != NULL ? 1 : getenv("MR_FULL") != NULL ? 500 : 15;
    for (uint64_t seed = first; seed < first + count; seed++) {
        mr_core_rig_deinit(&rig);
        printf("seed %llu\n", (unsigned long long)seed);
        swarm(seed);
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
        TEST(test_compressed_batches_stay_compressed),
        TEST(test_turn_takes_a_slice),
        TEST(test_time_search_finds_what_is_left),
        TEST(test_last_sequence_of_a_producer_is_kept),
        TEST(test_aborted_records_replace_nothing),
        TEST(test_power_lost_anywhere_leaves_the_old_or_the_new),
        TEST(test_wrong_offset_or_epoch_is_not_copied),
        TEST(test_full_directory_keeps_the_old_segments),
        TEST(test_log_is_dropped_at_any_step_of_its_compaction),
        TEST(test_compacted_log_is_deleted_from_its_start_too),
        TEST(test_lives_at_random_keep_the_newest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
