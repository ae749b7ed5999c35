/* producer_state: what a snapshot file keeps of the window of each producer. */
#include "test.h"

#include "log/producer_state.h"

#define BATCHES 7

static struct mr_producers    *producers;
static struct mr_producer_set *set;
static struct mr_arena         arena;

/* Batch number `n` of producer `id`: two records, its own time. */
static struct mr_batch batch_of(int64_t id, int n)
{
    return (struct mr_batch){
        .producer_id = id,
        .producer_epoch = 3,
        .base_sequence = n * 2,
        .record_count = 2,
        .last_offset_delta = 1,
        .base_offset = 100 + n * 10 + id,
        .max_timestamp = 1000 + n,
    };
}

static struct mr_producer_set *new_set(void)
{
    size_t bytes = 1 << 20;
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    producers = MR_ARENA_GET(&arena, struct mr_producers, 1);
    set = MR_ARENA_GET(&arena, struct mr_producer_set, 1);
    mr_producers_init(producers, &arena, 16);
    mr_producer_set_init(set, 77);
    return set;
}

static void append(int64_t id, int first, int count)
{
    for (int n = first; n < first + count; n++) {
        struct mr_batch batch = batch_of(id, n);
        mr_producer_update(producers, set, &batch);
    }
}

static void assert_duplicate(int64_t id, int n)
{
    const struct mr_producer_batch *duplicate = NULL;
    struct mr_batch                 batch = batch_of(id, n);
    assert_int_equal(mr_producer_check(producers, set, &batch, &duplicate), MR_OK);
    assert_non_null(duplicate);
    assert_int_equal(duplicate->last_offset, batch.base_offset + 1);
    assert_int_equal(duplicate->timestamp, batch.max_timestamp);
}

static void assert_check(int64_t id, int n, enum mr_err expected)
{
    const struct mr_producer_batch *duplicate = NULL;
    struct mr_batch                 batch = batch_of(id, n);
    assert_int_equal(mr_producer_check(producers, set, &batch, &duplicate), expected);
    assert_null(duplicate);
}

/* Retries of all batches in flight are known after a clean stop, as they were before it. */
static void test_snapshot_keeps_the_whole_window(void **state)
{
    (void)state;
    uint8_t file[4096];
    new_set();
    append(5, 0, BATCHES);
    append(6, 0, 2);
    uint32_t len = mr_producer_snapshot_store(set, file);
    assert_int_equal(len, mr_producer_snapshot_bytes(set));
    assert_int_equal(len, MR_PRODUCER_SNAPSHOT_HEAD + (5 + 2) * MR_PRODUCER_SNAPSHOT_ENTRY);
    new_set();
    assert_int_equal(mr_producer_snapshot_load(producers, set, file, len), MR_OK);
    assert_int_equal(set->count, 2);
    for (int n = BATCHES - MR_PRODUCER_WINDOW; n < BATCHES; n++) {
        assert_duplicate(5, n);
    }
    assert_check(5, BATCHES - MR_PRODUCER_WINDOW - 1, MR_ERR_OUT_OF_ORDER_SEQUENCE);
    assert_check(5, BATCHES, MR_OK);
    assert_duplicate(6, 0);
    assert_duplicate(6, 1);
}

/* Kafka reads entries into a map by id: the last one of an id must be its last batch. */
static void test_snapshot_last_entry_of_an_id_is_its_last_batch(void **state)
{
    (void)state;
    uint8_t file[4096];
    new_set();
    append(5, 0, BATCHES);
    uint32_t       len = mr_producer_snapshot_store(set, file);
    const uint8_t *last = file + len - MR_PRODUCER_SNAPSHOT_ENTRY;
    struct mr_batch batch = batch_of(5, BATCHES - 1);
    assert_int_equal(mr_load_be32(last + 10), batch.base_sequence + 1);
    assert_int_equal(mr_load_be64(last + 14), batch.base_offset + 1);
    assert_int_equal(mr_load_be64(last + 26), batch.max_timestamp);
}

/* The end of the log was scanned first: the snapshot adds what is before it, and nothing is there twice. */
static void test_snapshot_joins_what_the_log_told(void **state)
{
    (void)state;
    uint8_t file[4096];
    for (int scanned = 0; scanned <= MR_PRODUCER_WINDOW; scanned++) {
        for (int behind = 0; behind <= MR_PRODUCER_WINDOW; behind++) {
            int end = MR_PRODUCER_WINDOW + behind; /* the snapshot is `behind` batches before the end of the log */
            new_set();
            append(5, 0, MR_PRODUCER_WINDOW);
            uint32_t len = mr_producer_snapshot_store(set, file);
            new_set();
            if (scanned < behind) {
                continue; /* everything behind a snapshot is always scanned */
            }
            append(5, end - scanned, scanned);
            assert_int_equal(mr_producer_snapshot_load(producers, set, file, len), MR_OK);
            for (int n = end - MR_PRODUCER_WINDOW; n < end; n++) {
                assert_duplicate(5, n);
            }
            assert_check(5, end, MR_OK);
            assert_int_equal(mr_producer_find(producers, set, 5)->batch_count, MR_PRODUCER_WINDOW);
        }
    }
}

static void test_snapshot_damaged_changes_nothing(void **state)
{
    (void)state;
    uint8_t file[4096];
    new_set();
    append(5, 0, 3);
    uint32_t len = mr_producer_snapshot_store(set, file);
    new_set();
    for (uint32_t at = 0; at < len; at++) {
        file[at] ^= 0x40;
        assert_int_equal(mr_producer_snapshot_load(producers, set, file, len), MR_ERR_CORRUPT);
        file[at] ^= 0x40;
        assert_int_equal(mr_producer_snapshot_load(producers, set, file, at), MR_ERR_CORRUPT);
    }
    assert_int_equal(set->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_keeps_the_whole_window),
        cmocka_unit_test(test_snapshot_last_entry_of_an_id_is_its_last_batch),
        cmocka_unit_test(test_snapshot_joins_what_the_log_told),
        cmocka_unit_test(test_snapshot_damaged_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
