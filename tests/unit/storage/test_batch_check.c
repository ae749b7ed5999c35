/*
 * batch_check: an honest batch passes in every mode, however the bytes are cut into spans; and every
 * lie about it gets the error that Apache Kafka gives, in every mode that promises to look for it.
 *
 * A lie is a number written over a field of an honest batch. The CRC is made right again afterwards
 * (unless the CRC is the subject), because a wrong CRC hides every later check.
 */
#include "test.h"

#include "batch/compress.h"
#include "tsv.h"
#include "millrace/batch.h"
#include "random_msg.h"

#define NOW   2000
#define ROOM  (4u << 20)
#define GOLDEN "tests/golden/storage/batches.tsv"

static struct mr_arena arena;
static struct mr_arena scratch;
static uint8_t         bytes[1u << 16];

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, mr_test_memory(ROOM), ROOM);
    mr_arena_init(&scratch, mr_test_memory(ROOM), ROOM);
    return 0;
}

static struct mr_log_config config_of(enum mr_validate validate)
{
    return (struct mr_log_config){
        .max_message_bytes = 1 << 20,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .compression_type = -1,
        .validate = validate,
    };
}

static struct mr_blob text(const char *zero_terminated)
{
    return (struct mr_blob){.data = (const uint8_t *)zero_terminated, .len = (int32_t)strlen(zero_terminated)};
}

/*
 * Three records at 1000, 1001, 1002; the first begins at 61 and each takes 17 bytes:
 *
 *     61 length=32 | 62 attributes | 63 time delta | 64 offset delta | 65 key length=8 | 66 "key0"
 *     70 value length=12 | 71 "value0" | 77 header count=0
 */
static uint32_t honest(void)
{
    static const char *const keys[] = {"key0", "key1", "key2"};
    static const char *const values[] = {"value0", "value1", "value2"};
    struct mr_batch_builder  builder;
    mr_batch_begin(&builder, bytes, sizeof bytes, 0, 0);
    for (int32_t index = 0; index < 3; index++) {
        assert_true(mr_batch_add(&builder, 1000 + index, text(keys[index]), text(values[index])));
    }
    uint32_t len = mr_batch_end(&builder);
    assert_int_equal(len, 112);
    return len;
}

static void seal(uint32_t len)
{
    mr_store_be32(bytes + 17, mr_crc32c(0, bytes + 21, len - 21));
}

static void put(uint32_t at, uint32_t width, int64_t value)
{
    for (uint32_t index = 0; index < width; index++) {
        bytes[at + index] = (uint8_t)((uint64_t)value >> (8 * (width - 1 - index)));
    }
}

static enum mr_err check_chain(const struct mr_chain *chain, const struct mr_log_config *config,
                               struct mr_batch_refusal *refusal)
{
    struct mr_batch_rules rules = {.config = config, .now_unix_ms = NOW, .produce_version = 12};
    struct mr_batch       batch;
    size_t                before = scratch.used;
    enum mr_err           err = mr_batch_check(chain, &rules, &scratch, &batch, refusal);
    assert_int_equal(err == MR_OK, refusal->message == NULL);
    assert_int_equal(scratch.used, before);
    return err;
}

static enum mr_err check(uint32_t len, const struct mr_log_config *config, struct mr_batch_refusal *refusal)
{
    /* In a block of exactly its size, so that the address sanitizer guards both ends. */
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    struct mr_span  span = {copy, len};
    struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = len};
    enum mr_err     err = check_chain(&chain, config, refusal);
    free(copy);
    return err;
}

static void test_check_honest_batch_passes_in_every_mode(void **state)
{
    (void)state;
    for (int mode = MR_VALIDATE_FRAMING; mode <= MR_VALIDATE_FULL; mode++) {
        struct mr_log_config    config = config_of((enum mr_validate)mode);
        struct mr_batch_refusal refusal;
        assert_int_equal(check(honest(), &config, &refusal), MR_OK);
        config.is_cleanup_compact = true;
        config.timestamp_before_max_ms = 1000;
        config.timestamp_after_max_ms = 0;
        assert_int_equal(check(honest(), &config, &refusal), MR_OK);
    }
}

enum depth { HEADER, FRAMING }; /* the shallowest mode that must see it */

static const struct lie {
    const char *about;
    uint32_t    at;
    uint32_t    width;
    int64_t     value;
    enum mr_err err;
    enum depth  depth;
    bool        is_crc_left;
} lies[] = {
    {"the batch does not begin at 0", 0, 8, 1, MR_ERR_INVALID_RECORD, HEADER, false},
    {"length: shorter than its header", 8, 4, 48, MR_ERR_CORRUPT, HEADER, false},
    {"length: negative", 8, 4, -1, MR_ERR_CORRUPT, HEADER, false},
    {"length: the smallest number", 8, 4, INT32_MIN, MR_ERR_CORRUPT, HEADER, false},
    {"length: one less than sent", 8, 4, 99, MR_ERR_INVALID_RECORD, HEADER, false},
    {"length: one more than sent", 8, 4, 101, MR_ERR_INVALID_RECORD, HEADER, false},
    {"length: the largest number", 8, 4, INT32_MAX, MR_ERR_INVALID_RECORD, HEADER, false},
    {"magic 0", 16, 1, 0, MR_ERR_INVALID_RECORD, HEADER, false},
    {"magic 1", 16, 1, 1, MR_ERR_INVALID_RECORD, HEADER, false},
    {"magic 3", 16, 1, 3, MR_ERR_INVALID_RECORD, HEADER, false},
    {"crc", 17, 4, 0, MR_ERR_CORRUPT, HEADER, true},
    {"a value's byte, under the old crc", 71, 1, 'V', MR_ERR_CORRUPT, HEADER, true},
    {"codec 5", 21, 2, 5, MR_ERR_INVALID_RECORD, HEADER, false},
    {"codec 7", 21, 2, 7, MR_ERR_INVALID_RECORD, HEADER, false},
    {"log append time", 21, 2, 0x08, MR_ERR_INVALID_TIMESTAMP, HEADER, false},
    {"a control batch", 21, 2, 0x20, MR_ERR_INVALID_RECORD, HEADER, false},
    {"a delete horizon", 21, 2, 0x40, MR_ERR_INVALID_RECORD, HEADER, false},
    {"last offset delta: one short", 23, 4, 1, MR_ERR_INVALID_RECORD, HEADER, false},
    {"last offset delta: one over", 23, 4, 3, MR_ERR_INVALID_RECORD, HEADER, false},
    {"last offset delta: negative", 23, 4, -1, MR_ERR_INVALID_RECORD, HEADER, false},
    {"last offset delta: the largest", 23, 4, INT32_MAX, MR_ERR_INVALID_RECORD, HEADER, false},
    {"count 0", 57, 4, 0, MR_ERR_INVALID_RECORD, HEADER, false},
    {"count negative", 57, 4, -1, MR_ERR_INVALID_RECORD, HEADER, false},
    {"count the smallest", 57, 4, INT32_MIN, MR_ERR_INVALID_RECORD, HEADER, false},
    {"count one over", 57, 4, 4, MR_ERR_INVALID_RECORD, HEADER, false},
    {"count and delta one over", 23, 4, 3, MR_ERR_INVALID_RECORD, HEADER, false},
    {"max timestamp -2", 35, 8, -2, MR_ERR_INVALID_TIMESTAMP, HEADER, false},
    {"max timestamp the smallest", 35, 8, INT64_MIN, MR_ERR_INVALID_TIMESTAMP, HEADER, false},
    {"a producer id without a sequence", 43, 8, 7, MR_ERR_INVALID_RECORD, HEADER, false},
    {"record: length one short", 61, 1, 30, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length one over", 61, 1, 34, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length 0", 61, 1, 0, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length -1", 61, 1, 1, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length beyond the batch", 61, 2, 0xff7f, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length without an end", 61, 6, -1, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: length near 2^31", 61, 5, 0xfeffffff0f, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: offset delta twice", 81, 1, 0, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: offset delta ahead", 81, 1, 4, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"record: offset delta negative", 64, 1, 1, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"key: length one over", 65, 1, 10, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"key: length beyond the record", 65, 1, 64, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"key: length -2", 65, 1, 3, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"value: length one short", 70, 1, 10, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"value: length one over", 70, 1, 14, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"value: length near 2^31", 70, 5, 0xfeffffff0f, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"header count 1 without a header", 77, 1, 2, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"header count -1", 77, 1, 1, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"last record: length one over", 95, 1, 34, MR_ERR_INVALID_RECORD, FRAMING, false},
    {"last record: header count 1", 111, 1, 2, MR_ERR_INVALID_RECORD, FRAMING, false},
};

static void test_check_every_lie_is_refused_in_every_mode_that_looks(void **state)
{
    (void)state;
    for (size_t index = 0; index < sizeof lies / sizeof lies[0]; index++) {
        const struct lie *lie = &lies[index];
        for (int mode = MR_VALIDATE_FRAMING; mode <= MR_VALIDATE_FULL; mode++) {
            struct mr_log_config    config = config_of((enum mr_validate)mode);
            struct mr_batch_refusal refusal;
            uint32_t                len = honest();
            put(lie->at, lie->width, lie->value);
            if (!lie->is_crc_left) {
                seal(len);
            }
            bool        is_blind = mode == MR_VALIDATE_HEADER && lie->depth == FRAMING;
            enum mr_err err = check(len, &config, &refusal);
            if (err != (is_blind ? MR_OK : lie->err)) {
                fail_msg("%s, mode %d: %s", lie->about, mode, mr_err_text(err));
            }
        }
    }
}

/* Lies that take two fields. */
static void test_check_count_and_delta_agree_but_the_records_do_not(void **state)
{
    (void)state;
    static const int32_t counts[] = {1, 2, 4, 1 << 20, INT32_MAX};
    for (size_t index = 0; index < sizeof counts / sizeof counts[0]; index++) {
        struct mr_log_config    config = config_of(MR_VALIDATE_FRAMING);
        struct mr_batch_refusal refusal;
        uint32_t                len = honest();
        put(23, 4, counts[index] - 1);
        put(57, 4, counts[index]);
        seal(len);
        assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_RECORD);
        config.validate = MR_VALIDATE_HEADER;
        assert_int_equal(check(len, &config, &refusal), MR_OK);
    }
}

static void test_check_a_header_alone_is_no_batch(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_FRAMING);
    struct mr_batch_refusal refusal;
    (void)honest();
    put(8, 4, MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS);
    seal(MR_BATCH_HEADER);
    assert_int_equal(check(MR_BATCH_HEADER, &config, &refusal), MR_ERR_INVALID_RECORD);
}

static void test_check_every_truncation_and_any_tail_is_refused(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_HEADER);
    struct mr_batch_refusal refusal;
    uint32_t                len = honest();
    for (uint32_t cut = 0; cut < len; cut++) {
        assert_int_equal(check(cut, &config, &refusal), MR_ERR_INVALID_RECORD);
    }
    /* Two batches in one request: Kafka refuses, and so does a broker that counts on one. */
    memcpy(bytes + len, bytes, len);
    assert_int_equal(check(2 * len, &config, &refusal), MR_ERR_INVALID_RECORD);
    assert_int_equal(check(len + 1, &config, &refusal), MR_ERR_INVALID_RECORD);
}

static void test_check_max_message_bytes_counts_the_whole_batch(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_FRAMING);
    struct mr_batch_refusal refusal;
    uint32_t                len = honest();
    config.max_message_bytes = len;
    assert_int_equal(check(len, &config, &refusal), MR_OK);
    config.max_message_bytes = len - 1;
    assert_int_equal(check(len, &config, &refusal), MR_ERR_MESSAGE_TOO_LARGE);
    bytes[17] ^= 1; /* the size is looked at first: a CRC over too much is not computed */
    assert_int_equal(check(len, &config, &refusal), MR_ERR_MESSAGE_TOO_LARGE);
}

static void test_check_compacted_topic_names_the_records_without_key(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_HEADER); /* compaction looks all the same */
    struct mr_batch_refusal refusal;
    struct mr_batch_builder builder;
    mr_batch_begin(&builder, bytes, sizeof bytes, 0, 0);
    for (int32_t index = 0; index < 40; index++) {
        assert_true(mr_batch_add(&builder, 1000, index % 2 == 0 ? text("k") : MR_BLOB_NULL, text("v")));
    }
    uint32_t len = mr_batch_end(&builder);
    assert_int_equal(check(len, &config, &refusal), MR_OK);
    config.is_cleanup_compact = true;
    assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_RECORD);
    assert_int_equal(refusal.record_error_count, MR_BATCH_RECORD_ERRORS); /* of the twenty */
    for (int32_t index = 0; index < MR_BATCH_RECORD_ERRORS; index++) {
        assert_int_equal(refusal.record_errors[index].batch_index, 2 * index + 1);
    }
}

static void test_check_timestamps_against_the_window(void **state)
{
    (void)state;
    static const struct {
        int64_t     first, second; /* of two records; now is 2000, the window [1900, 2050] */
        enum mr_err err;
        int32_t     index; /* of the first record that is named */
    } cases[] = {
        {1900, 2050, MR_OK, 0},
        {1899, 2000, MR_ERR_INVALID_TIMESTAMP, 0},
        {2000, 1899, MR_ERR_INVALID_TIMESTAMP, 1},
        {2000, 2051, MR_ERR_INVALID_TIMESTAMP, 0}, /* by the header's largest timestamp */
        {-1, -1, MR_OK, 0},
        {2000, INT64_MAX, MR_ERR_INVALID_TIMESTAMP, 0},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_log_config    config = config_of(MR_VALIDATE_FRAMING);
        struct mr_batch_refusal refusal;
        struct mr_batch_builder builder;
        config.timestamp_before_max_ms = 100;
        config.timestamp_after_max_ms = 50;
        mr_batch_begin(&builder, bytes, sizeof bytes, 0, 0);
        assert_true(mr_batch_add(&builder, cases[index].first, text("k"), text("v")));
        assert_true(mr_batch_add(&builder, cases[index].second, text("k"), text("v")));
        uint32_t len = mr_batch_end(&builder);
        assert_int_equal(check(len, &config, &refusal), cases[index].err);
        if (cases[index].err != MR_OK) {
            assert_true(refusal.record_error_count > 0);
            assert_int_equal(refusal.record_errors[0].batch_index, cases[index].index);
        }
        /* With LogAppendTime the producer's times do not matter. */
        config.timestamp_type = MR_TIMESTAMP_LOG_APPEND_TIME;
        assert_int_equal(check(len, &config, &refusal), MR_OK);
    }
}

static void test_check_timestamp_deltas_that_overflow_are_no_accident(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_FULL);
    struct mr_batch_refusal refusal;
    uint32_t                len = honest();
    config.timestamp_before_max_ms = 1000;
    config.timestamp_after_max_ms = 1000;
    put(27, 8, INT64_MIN); /* base timestamp: records lie at INT64_MIN + 0..2 */
    seal(len);
    assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_TIMESTAMP);
    put(27, 8, INT64_MAX);
    seal(len);
    assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_TIMESTAMP);
}

static void test_check_zstd_needs_produce_7(void **state)
{
    (void)state;
    struct mr_log_config    config = config_of(MR_VALIDATE_HEADER);
    struct mr_batch_refusal refusal;
    struct mr_batch         batch;
    uint32_t                len = honest();
    put(21, 2, MR_CODEC_ZSTD);
    seal(len);
    struct mr_span        span = {bytes, len};
    struct mr_chain       chain = {.spans = &span, .span_count = 1, .bytes = len};
    struct mr_batch_rules rules = {.config = &config, .now_unix_ms = NOW, .produce_version = 6};
    assert_int_equal(mr_batch_check(&chain, &rules, &scratch, &batch, &refusal), MR_ERR_UNSUPPORTED_CODEC);
    rules.produce_version = 7;
    assert_int_equal(mr_batch_check(&chain, &rules, &scratch, &batch, &refusal), MR_OK);
}

/* What Kafka's own producer sends, however the network cut it. */
static void test_check_golden_batches_pass_in_full_however_they_are_cut(void **state)
{
    (void)state;
    struct mr_prng          prng = {.state = 5};
    struct mr_tsv           tsv;
    struct mr_batch_refusal refusal;
    uint32_t                count = 0;
    mr_tsv_open(&tsv, GOLDEN);
    while (mr_tsv_next(&tsv)) {
        uint32_t             len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
        struct mr_log_config config = config_of(MR_VALIDATE_FULL);
        bool                 is_append_time = strncmp(tsv.fields[0], "append-time", 11) == 0;
        put(0, 8, 0); /* what a producer sends begins at 0 */
        for (uint32_t round = 0; round < 20; round++) {
            mr_arena_reset(&arena);
            struct mr_chain chain = mr_random_chain(&prng, bytes, len, &arena);
            assert_int_equal(check_chain(&chain, &config, &refusal),
                             is_append_time ? MR_ERR_INVALID_TIMESTAMP : MR_OK);
        }
        count++;
    }
    assert_int_equal(count, 17);
}

/* A compressed batch whose inside lies: refused in full, and on a compacted topic, where Kafka looks too. */
static void test_check_lies_inside_compressed_batches_are_refused_in_full(void **state)
{
    (void)state;
    struct mr_tsv           tsv;
    struct mr_batch_refusal refusal;
    uint32_t                compressed = 0;
    mr_tsv_open(&tsv, GOLDEN);
    while (mr_tsv_next(&tsv)) {
        uint32_t             len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
        struct mr_log_config config = config_of(MR_VALIDATE_FULL);
        if ((bytes[22] & MR_BATCH_CODEC_MASK) == MR_CODEC_NONE) {
            continue;
        }
        compressed++;
        /* One record more than there is. */
        put(23, 4, mr_load_be32(bytes + 23) + 1);
        put(57, 4, mr_load_be32(bytes + 57) + 1);
        seal(len);
        assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_RECORD);
        config.validate = MR_VALIDATE_FRAMING;
        assert_int_equal(check(len, &config, &refusal), MR_OK); /* ruled so: it harms its readers only */
        config.is_cleanup_compact = true;
        assert_int_equal(check(len, &config, &refusal), MR_ERR_INVALID_RECORD);
    }
    assert_int_equal(compressed, 12);
}

static void test_check_too_little_scratch_is_an_error_and_not_a_crash(void **state)
{
    (void)state;
    struct mr_tsv      tsv;
    struct mr_log_config  config = config_of(MR_VALIDATE_FULL);
    struct mr_batch_rules rules = {.config = &config, .now_unix_ms = NOW, .produce_version = 12};
    mr_tsv_open(&tsv, GOLDEN);
    while (mr_tsv_next(&tsv)) {
        uint32_t len = mr_tsv_bytes(tsv.fields[1], bytes, sizeof bytes);
        put(0, 8, 0);
        if ((bytes[22] & MR_BATCH_CODEC_MASK) == MR_CODEC_NONE) {
            continue;
        }
        struct mr_span  spans[] = {{bytes, 70}, {bytes + 70, len - 70}};
        struct mr_chain chain = {.spans = spans, .span_count = 2, .bytes = len};
        enum mr_err     err = MR_ERR_NO_MEMORY;
        for (size_t room = 0; err != MR_OK; room += room / 2 + 64) {
            struct mr_arena         small;
            struct mr_batch         batch;
            struct mr_batch_refusal refusal;
            assert_true(room < ROOM);
            mr_arena_init(&small, scratch.base, room);
            err = mr_batch_check(&chain, &rules, &small, &batch, &refusal);
            assert_true(err == MR_OK || err == MR_ERR_NO_MEMORY || err == MR_ERR_INVALID_RECORD);
            assert_int_equal(small.used, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_honest_batch_passes_in_every_mode),
        cmocka_unit_test(test_check_every_lie_is_refused_in_every_mode_that_looks),
        cmocka_unit_test(test_check_count_and_delta_agree_but_the_records_do_not),
        cmocka_unit_test(test_check_a_header_alone_is_no_batch),
        cmocka_unit_test(test_check_every_truncation_and_any_tail_is_refused),
        cmocka_unit_test(test_check_max_message_bytes_counts_the_whole_batch),
        cmocka_unit_test(test_check_compacted_topic_names_the_records_without_key),
        cmocka_unit_test(test_check_timestamps_against_the_window),
        cmocka_unit_test(test_check_timestamp_deltas_that_overflow_are_no_accident),
        cmocka_unit_test(test_check_zstd_needs_produce_7),
        cmocka_unit_test(test_check_golden_batches_pass_in_full_however_they_are_cut),
        cmocka_unit_test(test_check_lies_inside_compressed_batches_are_refused_in_full),
        cmocka_unit_test(test_check_too_little_scratch_is_an_error_and_not_a_crash),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
