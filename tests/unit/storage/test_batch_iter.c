/*
 * batch_iter and batch_build: what Kafka's producer wrote is read back record by record, in every
 * codec; what we build is read back the same; damaged batches end in an error, never beyond the bytes.
 */
#include "test.h"

#include "tsv.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"

#define ROOM (1u << 20)

static struct mr_arena scratch;
static uint8_t         bytes[1u << 16];

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&scratch, mr_test_memory(ROOM), ROOM);
    return 0;
}

static struct mr_blob text(const char *zero_terminated)
{
    return (struct mr_blob){.data = (const uint8_t *)zero_terminated, .len = (int32_t)strlen(zero_terminated)};
}

static void assert_blob(struct mr_blob have, const char *want)
{
    if (want == NULL) {
        assert_int_equal(have.len, -1);
        return;
    }
    assert_int_equal(have.len, strlen(want));
    assert_memory_equal(have.data, want, strlen(want));
}

/* RecordStorage.records: the rule that all golden batches follow. */
static void assert_golden_record(const struct mr_record *record, int32_t index, const struct mr_batch *batch)
{
    char key[32];
    char value[256] = "value-";
    snprintf(key, sizeof key, "key-%d", index);
    for (int32_t repeat = 0; repeat < index * index % 40; repeat++) {
        strcat(value, "abc");
    }
    snprintf(value + strlen(value), 32, "-%d", index);
    assert_blob(record->key, index % 5 == 4 ? NULL : key);
    assert_blob(record->value, index % 7 == 6 ? NULL : value);
    assert_int_equal(record->header_count, index % 3 == 2 ? 2 : 0);
    assert_int_equal(record->offset, batch->base_offset + index);
    bool is_append_time = (batch->attributes & MR_BATCH_LOG_APPEND_TIME) != 0;
    assert_int_equal(record->timestamp, is_append_time ? batch->max_timestamp
                                                       : 1700000000000 + (index % 2 == 0 ? index : -index) * 1000);
}

static void test_iter_golden_batches_hold_the_records_that_kafka_put_in(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    uint32_t         count = 0;
    mr_tsv_open(&tsv, "tests/golden/storage/batches.tsv");
    while (mr_tsv_next(&tsv)) {
        uint32_t              len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
        struct mr_record_iter iter;
        struct mr_record      record;
        int32_t               records = 0;
        mr_arena_reset(&scratch);
        assert_int_equal(mr_record_iter_init(&iter, bytes, len, &scratch), MR_OK);
        enum mr_err err;
        while ((err = mr_record_iter_next(&iter, &record)) == MR_OK) {
            assert_golden_record(&record, records++, &iter.batch);
        }
        assert_int_equal(err, MR_ERR_NOT_FOUND);
        assert_int_equal(records, strtol(strrchr(tsv.fields[0], '-') + 1, NULL, 10));
        assert_int_equal(mr_batch_last_offset(&iter.batch), iter.batch.base_offset + records - 1);
        count++;
    }
    assert_int_equal(count, 17);
}

/* The bytes of `mr_batch_build` are what Kafka writes for the same records, bit for bit. */
static void test_build_writes_what_kafka_writes(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    uint8_t          again[4096];
    mr_tsv_open(&tsv, "tests/golden/storage/batches.tsv");
    assert_true(mr_tsv_next(&tsv));
    assert_string_equal(tsv.fields[0], "none-1");
    uint32_t                len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
    struct mr_batch_builder builder;
    mr_batch_begin(&builder, again, sizeof again, 0, 0);
    assert_true(mr_batch_add(&builder, 1700000000000, text("key-0"), text("value--0")));
    assert_int_equal(mr_batch_end(&builder), len);
    mr_store_be32(bytes + 12, UINT32_MAX); /* the leader epoch is not under the CRC; ours is "none" */
    assert_memory_equal(again, bytes, len);
    while (mr_tsv_next(&tsv)) {
    }
}

static void test_build_random_records_read_back_the_same(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 3};
    static uint8_t body[3000];
    for (uint32_t at = 0; at < sizeof body; at++) {
        body[at] = (uint8_t)mr_prng_next(&prng);
    }
    for (uint32_t round = 0; round < 300; round++) {
        struct mr_batch_builder builder;
        int64_t                 timestamps[50];
        struct mr_blob          keys[50];
        struct mr_blob          values[50];
        int32_t                 count = 0;
        uint32_t                size = 200 + (uint32_t)mr_prng_below(&prng, sizeof bytes - 200);
        int64_t                 base = (int64_t)mr_prng_below(&prng, 1u << 30);
        mr_batch_begin(&builder, bytes, size, base, MR_BATCH_TRANSACTIONAL);
        while (count < 50) {
            timestamps[count] = (int64_t)mr_prng_below(&prng, 1ull << 40);
            keys[count] = mr_prng_below(&prng, 3) == 0
                              ? MR_BLOB_NULL
                              : (struct mr_blob){body, (int32_t)mr_prng_below(&prng, 90)};
            values[count] = mr_prng_below(&prng, 5) == 0
                                ? MR_BLOB_NULL
                                : (struct mr_blob){body, (int32_t)mr_prng_below(&prng, sizeof body)};
            uint32_t before = builder.used;
            if (!mr_batch_add(&builder, timestamps[count], keys[count], values[count])) {
                assert_true(builder.is_full && builder.used == before);
                break;
            }
            count++;
        }
        if (count == 0) {
            continue;
        }
        uint32_t len = mr_batch_end(&builder);
        assert_true(len <= size);
        assert_int_equal(mr_crc32c(0, bytes + 21, len - 21), mr_load_be32(bytes + 17));
        struct mr_record_iter iter;
        assert_int_equal(mr_record_iter_init(&iter, bytes, len, NULL), MR_OK);
        assert_int_equal(iter.batch.attributes, MR_BATCH_TRANSACTIONAL);
        assert_int_equal(iter.batch.record_count, count);
        int64_t largest = INT64_MIN;
        for (int32_t index = 0; index < count; index++) {
            struct mr_record record;
            assert_int_equal(mr_record_iter_next(&iter, &record), MR_OK);
            assert_int_equal(record.offset, base + index);
            assert_int_equal(record.timestamp, timestamps[index]);
            assert_int_equal(record.key.len, keys[index].len);
            assert_int_equal(record.value.len, values[index].len);
            assert_true(record.key.len <= 0 || memcmp(record.key.data, body, (size_t)record.key.len) == 0);
            assert_true(record.value.len <= 0 || memcmp(record.value.data, body, (size_t)record.value.len) == 0);
            largest = timestamps[index] > largest ? timestamps[index] : largest;
        }
        assert_int_equal(iter.batch.max_timestamp, largest);
        assert_int_equal(iter.batch.base_timestamp, timestamps[0]);
        struct mr_record none;
        assert_int_equal(mr_record_iter_next(&iter, &none), MR_ERR_NOT_FOUND);
    }
}

/* Exactly full is full enough, one byte less is not: at every size of the value's length field. */
static void test_build_uses_the_last_byte_and_not_one_more(void **state)
{
    (void)state;
    static uint8_t body[20000];
    static const int32_t lens[] = {0, 1, 50, 55, 56, 57, 58, 63, 64, 120, 128, 8180, 8190, 8192, 16400};
    for (size_t index = 0; index < sizeof lens / sizeof lens[0]; index++) {
        struct mr_batch_builder builder;
        struct mr_blob          value = {body, lens[index]};
        mr_batch_begin(&builder, bytes, sizeof bytes, 0, 0);
        assert_true(mr_batch_add(&builder, 5, MR_BLOB_NULL, value));
        uint32_t len = mr_batch_end(&builder);
        mr_batch_begin(&builder, bytes, len, 0, 0);
        assert_true(mr_batch_add(&builder, 5, MR_BLOB_NULL, value));
        assert_int_equal(mr_batch_end(&builder), len);
        mr_batch_begin(&builder, bytes, len - 1, 0, 0);
        assert_false(mr_batch_add(&builder, 5, MR_BLOB_NULL, value));
        assert_true(builder.is_full);
    }
}

/* Any byte of any golden batch changed: the walk ends, and what it hands out lies inside. */
static void test_iter_damaged_batches_never_lead_outside(void **state)
{
    (void)state;
    struct mr_prng   prng = {.state = 9};
    struct mr_tsv tsv;
    mr_tsv_open(&tsv, "tests/golden/storage/batches.tsv");
    while (mr_tsv_next(&tsv)) {
        uint32_t len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
        for (uint32_t round = 0; round < 300; round++) {
            uint8_t *copy = malloc(len);
            assert_non_null(copy);
            memcpy(copy, bytes, len);
            for (uint64_t flips = 1 + mr_prng_below(&prng, 3); flips > 0; flips--) {
                copy[12 + mr_prng_below(&prng, len - 12)] ^= (uint8_t)(1u << mr_prng_below(&prng, 8));
            }
            struct mr_record_iter iter;
            struct mr_record      record;
            mr_arena_reset(&scratch);
            enum mr_err err = mr_record_iter_init(&iter, copy, len, &scratch);
            uint64_t    sum = 0;
            while (err == MR_OK) {
                err = mr_record_iter_next(&iter, &record);
                for (int32_t at = 0; err == MR_OK && at < record.value.len; at++) {
                    sum += record.value.data[at];
                }
                for (int32_t at = 0; err == MR_OK && at < record.headers.len; at++) {
                    sum += record.headers.data[at];
                }
            }
            (void)sum;
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iter_golden_batches_hold_the_records_that_kafka_put_in),
        cmocka_unit_test(test_build_writes_what_kafka_writes),
        cmocka_unit_test(test_build_random_records_read_back_the_same),
        cmocka_unit_test(test_build_uses_the_last_byte_and_not_one_more),
        cmocka_unit_test(test_iter_damaged_batches_never_lead_outside),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
