/*
 * producer_state: the same verdicts as Apache Kafka's ProducerStateManager over random walks of three
 * producers (duplicates, gaps, old and new epochs, sequences that wrap), its snapshot files byte
 * for byte, and what a pool that is exhausted or a damaged file do.
 */
#include "test.h"

#include "tsv.h"
#include "log/producer_state.h"

#define ROOM (1u << 20)

static struct mr_arena      arena;
static struct mr_producers  producers;
static struct mr_producer_set set;

static int setup(void **state)
{
    (void)state;
    if (arena.base == NULL) {
        mr_arena_init(&arena, mr_test_memory(ROOM), ROOM);
    }
    mr_arena_reset(&arena);
    mr_producers_init(&producers, &arena, 8);
    assert_true(arena.used <= mr_producers_bytes(8));
    mr_producer_set_init(&set, 17);
    return 0;
}

static struct mr_batch batch_of(int64_t id, int16_t epoch, int32_t first, int32_t count, int64_t offset)
{
    return (struct mr_batch){.base_offset = offset,
                             .last_offset_delta = count - 1,
                             .max_timestamp = offset,
                             .producer_id = id,
                             .producer_epoch = epoch,
                             .base_sequence = first,
                             .record_count = count};
}

static enum mr_err append(int64_t id, int16_t epoch, int32_t first, int32_t count, int64_t offset)
{
    struct mr_batch                 batch = batch_of(id, epoch, first, count, offset);
    const struct mr_producer_batch *duplicate;
    enum mr_err err = mr_producer_check(&producers, &set, &batch, &duplicate);
    if (err == MR_OK && duplicate == NULL) {
        mr_producer_update(&producers, &set, &batch);
    }
    return duplicate != NULL ? MR_ERR_EXISTS : err;
}

static void verdict_of(const struct mr_batch *batch, char text[64])
{
    const struct mr_producer_batch *duplicate;
    enum mr_err err = mr_producer_check(&producers, &set, batch, &duplicate);
    if (err == MR_ERR_OUT_OF_ORDER_SEQUENCE) {
        strcpy(text, "out_of_order");
    } else if (err == MR_ERR_INVALID_PRODUCER_EPOCH) {
        strcpy(text, "invalid_epoch");
    } else if (duplicate != NULL) {
        snprintf(text, 64, "duplicate %ld", (long)(duplicate->last_offset - duplicate->offset_delta));
    } else {
        snprintf(text, 64, "ok %ld", (long)batch->base_offset);
        mr_producer_update(&producers, &set, batch);
    }
}

static void test_producer_verdicts_are_kafkas(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    long             log = -1;
    int64_t          offset = 0;
    uint32_t         line = 0;
    mr_tsv_open(&tsv, "tests/golden/storage/producers.tsv");
    while (mr_tsv_next(&tsv)) {
        line++;
        long number[5];
        for (uint32_t field = 0; field < 5; field++) {
            number[field] = strtol(tsv.fields[field], NULL, 10);
        }
        if (number[0] != log) {
            log = number[0];
            offset = 0;
            mr_producer_set_clear(&producers, &set);
        }
        struct mr_batch batch = batch_of(number[1], (int16_t)number[2], (int32_t)number[3], (int32_t)number[4], offset);
        char            text[64];
        verdict_of(&batch, text);
        if (strcmp(text, tsv.fields[5]) != 0) {
            fail_msg("line %u: %s, Kafka says %s", line, text, tsv.fields[5]);
        }
        offset += strncmp(text, "ok", 2) == 0 ? batch.record_count : 0;
    }
    assert_int_equal(line, 1440);
}

static void test_producer_window_of_five_remembers_the_sixth_no_more(void **state)
{
    (void)state;
    for (int32_t index = 0; index < 6; index++) {
        assert_int_equal(append(1, 0, index * 10, 10, 100 + index * 10), MR_OK);
    }
    assert_int_equal(append(1, 0, 0, 10, 200), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    for (int32_t index = 1; index < 6; index++) {
        struct mr_batch                 batch = batch_of(1, 0, index * 10, 10, 200);
        const struct mr_producer_batch *duplicate;
        assert_int_equal(mr_producer_check(&producers, &set, &batch, &duplicate), MR_OK);
        assert_int_equal(duplicate->last_offset, 109 + index * 10);
    }
    /* The same first sequence with another count is another batch. */
    assert_int_equal(append(1, 0, 50, 9, 200), MR_ERR_OUT_OF_ORDER_SEQUENCE);
}

static void test_producer_sequences_wrap_to_0(void **state)
{
    (void)state;
    assert_int_equal(mr_producer_last_sequence(INT32_MAX, 1), INT32_MAX);
    assert_int_equal(mr_producer_last_sequence(INT32_MAX, 2), 0);
    assert_int_equal(mr_producer_last_sequence(INT32_MAX - 3, 10), 5);
    assert_int_equal(append(1, 0, INT32_MAX - 3, 10, 0), MR_OK);
    assert_int_equal(append(1, 0, INT32_MAX - 3, 10, 10), MR_ERR_EXISTS);
    assert_int_equal(append(1, 0, 5, 1, 10), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    assert_int_equal(append(1, 0, 6, 1, 10), MR_OK);
    assert_int_equal(append(1, 0, 7, INT32_MAX - 6, 11), MR_OK); /* to the very end */
    assert_int_equal(append(1, 0, 0, 1, 99), MR_OK);
}

static void test_producer_logs_do_not_know_each_others_producers(void **state)
{
    (void)state;
    struct mr_producer_set other;
    mr_producer_set_init(&other, 18);
    assert_int_equal(append(1, 5, 0, 10, 0), MR_OK);
    assert_null(mr_producer_find(&producers, &other, 1));
    assert_non_null(mr_producer_find(&producers, &set, 1));
    struct mr_batch batch = batch_of(1, 5, 0, 10, 0);
    mr_producer_update(&producers, &other, &batch);
    mr_producer_set_clear(&producers, &set);
    assert_null(mr_producer_find(&producers, &set, 1));
    assert_non_null(mr_producer_find(&producers, &other, 1));
}

static void test_producer_pool_exhausted_forgets_the_longest_unused(void **state)
{
    (void)state;
    for (int64_t id = 1; id <= 8; id++) {
        assert_int_equal(append(id, 0, 0, 1, id), MR_OK);
    }
    assert_int_equal(append(1, 0, 1, 1, 9), MR_OK); /* used again: 2 is the oldest now */
    assert_int_equal(append(9, 0, 0, 1, 10), MR_OK);
    assert_int_equal(producers.evicted, 1);
    assert_int_equal(set.count, 8);
    assert_null(mr_producer_find(&producers, &set, 2));
    assert_non_null(mr_producer_find(&producers, &set, 1));
    assert_int_equal(append(2, 0, 7, 1, 11), MR_OK); /* like a new one */
}

static void test_producer_expiry_spares_the_young_and_open_transactions(void **state)
{
    (void)state;
    for (int64_t id = 1; id <= 4; id++) {
        assert_int_equal(append(id, 0, 0, 1, id * 100), MR_OK); /* last timestamps 100, 200, 300, 400 */
    }
    mr_producer_find(&producers, &set, 1)->txn_first_offset = 5;
    set.expire_ms = 700;
    assert_false(mr_producers_expire(&producers, 1000, 8));
    assert_non_null(mr_producer_find(&producers, &set, 1));
    assert_null(mr_producer_find(&producers, &set, 2));
    assert_null(mr_producer_find(&producers, &set, 3)); /* exactly 700 is over, as in Kafka */
    assert_non_null(mr_producer_find(&producers, &set, 4));
    assert_int_equal(set.count, 2);
    /* It looks at no more than it is told. */
    mr_producer_find(&producers, &set, 1)->txn_first_offset = -1;
    set.expire_ms = 0;
    assert_true(mr_producers_expire(&producers, INT64_MAX, 1)); /* there is more to look at */
    assert_int_equal(set.count, 1);
    assert_non_null(mr_producer_find(&producers, &set, 4));
}

/* ---- Snapshot files ---- */

static uint8_t file[1024];

static void test_snapshot_files_of_kafka_load_and_store_to_the_same_bytes(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    uint32_t         count = 0;
    mr_tsv_open(&tsv, "tests/golden/storage/snapshots.tsv");
    while (mr_tsv_next(&tsv)) {
        uint8_t  again[1024];
        uint32_t len = mr_tsv_bytes(tsv.fields[1], file, sizeof file);
        mr_producer_set_clear(&producers, &set);
        assert_int_equal(mr_producer_snapshot_load(&producers, &set, file, len), MR_OK);
        assert_int_equal(mr_producer_snapshot_bytes(&set), len);
        assert_int_equal(mr_producer_snapshot_store(&set, again), len);
        assert_memory_equal(again, file, len); /* the set keeps the order of the file */
        count++;
    }
    assert_int_equal(count, 3);
    /* What the last one says. */
    const struct mr_producer *one = mr_producer_find(&producers, &set, 1000);
    assert_true(one->epoch == 2 && one->batch_count == 1 && one->txn_first_offset == -1);
    assert_true(one->batches[0].last_sequence == 41 && one->batches[0].last_offset == 99);
    const struct mr_producer *marked = mr_producer_find(&producers, &set, 1002);
    assert_true(marked->epoch == 7 && marked->batch_count == 0 && marked->coordinator_epoch == 5);
    assert_int_equal(mr_producer_find(&producers, &set, 1003)->txn_first_offset, 70);
    /* And what it means: the retry is known, the next sequence is accepted, another is not. */
    assert_int_equal(append(1001, 0, INT32_MAX - 1, 6, 1), MR_ERR_EXISTS);
    assert_int_equal(append(1001, 0, 5, 1, 1), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    assert_int_equal(append(1001, 0, 4, 1, 1), MR_OK);
    /* After a marker nothing of the epoch is known but that it begins at 0. */
    assert_int_equal(append(1002, 7, 3, 1, 1), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    assert_int_equal(append(1002, 7, 0, 1, 1), MR_OK);
}

/* A count that fits no file, under a right CRC. (Other damage: test_producer_snapshot.c.) */
static void test_snapshot_count_that_fits_no_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(append(1, 0, 0, 1, 0), MR_OK);
    uint32_t len = mr_producer_snapshot_store(&set, file);
    mr_producer_set_clear(&producers, &set);
    mr_store_be32(file + 6, UINT32_MAX);
    mr_store_be32(file + 2, mr_crc32c(0, file + 6, len - 6));
    assert_int_equal(mr_producer_snapshot_load(&producers, &set, file, len), MR_ERR_CORRUPT);
    assert_int_equal(set.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_producer_verdicts_are_kafkas, setup),
        cmocka_unit_test_setup(test_producer_window_of_five_remembers_the_sixth_no_more, setup),
        cmocka_unit_test_setup(test_producer_sequences_wrap_to_0, setup),
        cmocka_unit_test_setup(test_producer_logs_do_not_know_each_others_producers, setup),
        cmocka_unit_test_setup(test_producer_pool_exhausted_forgets_the_longest_unused, setup),
        cmocka_unit_test_setup(test_producer_expiry_spares_the_young_and_open_transactions, setup),
        cmocka_unit_test_setup(test_snapshot_files_of_kafka_load_and_store_to_the_same_bytes, setup),
        cmocka_unit_test_setup(test_snapshot_count_that_fits_no_file_is_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
