/*
 * batch_recode: a batch in any codec becomes one in any other, with the same records at the same offsets and times.
 */
#include "test.h"

#include "batch/compress.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "random_msg.h"

#define ROOM    (64u << 20)
#define BYTES   (3u << 20)
#define RECORDS 3000

static struct mr_arena scratch, other, spans;
static uint8_t        *plain;
static uint8_t        *sent;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&scratch, mr_test_memory(ROOM), ROOM);
    mr_arena_init(&other, mr_test_memory(ROOM), ROOM);
    mr_arena_init(&spans, mr_test_memory(BYTES), BYTES);
    plain = mr_test_memory(BYTES);
    sent = mr_test_memory(2 * BYTES);
    return 0;
}

static struct mr_chain one(struct mr_span *span)
{
    return (struct mr_chain){.spans = span, .span_count = 1, .bytes = span->len};
}

/* A batch of `count` records with everything in its header that a producer may set. */
static struct mr_span make(struct mr_prng *prng, int32_t count)
{
    struct mr_batch_builder builder;
    char                    key[16];
    char                    value[400];
    mr_batch_begin(&builder, plain, BYTES, 0, MR_BATCH_TRANSACTIONAL);
    for (int32_t index = 0; index < count; index++) {
        int key_len = snprintf(key, sizeof key, "key-%d", index);
        int value_len = snprintf(value, sizeof value, "%0*d", 20 + (int)mr_prng_below(prng, 300), index);
        assert_true(mr_batch_add(&builder, 1700000000000 + (int64_t)mr_prng_below(prng, 100000),
                                 (struct mr_blob){.data = (uint8_t *)key, .len = index % 5 == 0 ? -1 : key_len},
                                 (struct mr_blob){.data = (uint8_t *)value, .len = index % 7 == 0 ? -1 : value_len}));
    }
    builder.batch.producer_id = 77;
    builder.batch.producer_epoch = 3;
    builder.batch.base_sequence = 11;
    return (struct mr_span){.data = plain, .len = mr_batch_end(&builder)};
}

static struct mr_log_config wish(int codec, int level)
{
    return (struct mr_log_config){.compression_type = (int8_t)codec, .compression_level = level};
}

static void assert_same(struct mr_span have, struct mr_span want, int codec)
{
    struct mr_record_iter a, b;
    struct mr_record      x, y;
    struct mr_batch       head;
    mr_arena_reset(&other);
    mr_batch_header_load(have.data, &head);
    assert_int_equal(mr_batch_bytes(&head), have.len);
    assert_int_equal(head.crc, mr_crc32c(0, have.data + MR_BATCH_CHECKED_AT, have.len - MR_BATCH_CHECKED_AT));
    assert_int_equal(head.attributes, MR_BATCH_TRANSACTIONAL | codec);
    assert_memory_equal(have.data + 23, want.data + 23, MR_BATCH_HEADER - 23); /* times, producer, counts */
    assert_int_equal(mr_record_iter_init(&a, have.data, have.len, &other), MR_OK);
    assert_int_equal(mr_record_iter_init(&b, want.data, want.len, &other), MR_OK);
    enum mr_err err;
    while ((err = mr_record_iter_next(&a, &x)) == MR_OK) {
        assert_int_equal(mr_record_iter_next(&b, &y), MR_OK);
        assert_int_equal(x.offset, y.offset);
        assert_int_equal(x.timestamp, y.timestamp);
        assert_int_equal(x.key.len, y.key.len);
        assert_int_equal(x.value.len, y.value.len);
        assert_true(x.value.len <= 0 || memcmp(x.value.data, y.value.data, (size_t)x.value.len) == 0);
    }
    assert_int_equal(err, MR_ERR_NOT_FOUND);
    assert_int_equal(mr_record_iter_next(&b, &y), MR_ERR_NOT_FOUND);
}

/* There and back, the batch cut into spans anywhere. */
static void test_any_codec_becomes_any_other(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 1};
    for (int32_t count = 1; count <= RECORDS; count *= 50) {
        struct mr_span first = make(&prng, count);
        for (int from = MR_CODEC_NONE; from <= MR_CODEC_ZSTD; from++) {
            struct mr_span       packed = first;
            struct mr_chain      chain = one(&packed);
            struct mr_log_config config = wish(from, MR_LEVEL_DEFAULT);
            mr_arena_reset(&scratch);
            assert_int_equal(mr_batch_recode_is_due(&config, &chain), from != MR_CODEC_NONE);
            assert_int_equal(mr_batch_recode(&config, &chain, &scratch, &packed), MR_OK);
            assert_same(packed, first, from);
            memcpy(sent, packed.data, packed.len);
            packed.data = sent;
            for (int to = MR_CODEC_NONE; to <= MR_CODEC_ZSTD; to++) {
                mr_arena_reset(&spans);
                mr_arena_reset(&scratch);
                struct mr_chain cut = mr_random_chain(&prng, sent, packed.len, &spans);
                struct mr_span  out;
                config = wish(to, MR_LEVEL_DEFAULT);
                assert_int_equal(mr_batch_recode_is_due(&config, &cut), from != to);
                assert_int_equal(mr_batch_recode(&config, &cut, &scratch, &out), MR_OK);
                assert_same(out, first, to);
            }
        }
    }
}

static void test_every_level_that_kafka_has(void **state)
{
    (void)state;
    static const struct {
        int codec, first, last;
    } cases[] = {{MR_CODEC_GZIP, -1, 9}, {MR_CODEC_LZ4, 1, 17}, {MR_CODEC_ZSTD, -5, 22}, {MR_CODEC_ZSTD, -131072, -131072}};
    struct mr_prng prng = {.state = 2};
    struct mr_span first = make(&prng, RECORDS);
    for (uint32_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        for (int level = cases[index].first; level <= cases[index].last; level++) {
            struct mr_log_config config = wish(cases[index].codec, level);
            struct mr_chain      chain = one(&first);
            struct mr_span       out;
            mr_arena_reset(&scratch);
            assert_int_equal(mr_batch_recode(&config, &chain, &scratch, &out), MR_OK);
            assert_same(out, first, cases[index].codec);
        }
    }
}

/* zstd's last level wants more memory than there is: a lower one is taken; other codecs say so. */
static void test_a_level_that_does_not_fit_is_lowered(void **state)
{
    (void)state;
    struct mr_prng       prng = {.state = 3};
    struct mr_span       first = make(&prng, RECORDS);
    struct mr_chain      chain = one(&first);
    struct mr_log_config config = wish(MR_CODEC_ZSTD, 22);
    struct mr_span       out;
    struct mr_arena      small;
    mr_arena_init(&small, scratch.base, 5u << 20);
    assert_int_equal(mr_batch_recode(&config, &chain, &small, &out), MR_OK);
    assert_same(out, first, MR_CODEC_ZSTD);
    mr_arena_init(&small, scratch.base, first.len + first.len / 4 + 8192);
    config = wish(MR_CODEC_LZ4, 17);
    assert_int_equal(mr_batch_recode(&config, &chain, &small, &out), MR_ERR_NO_MEMORY);
    mr_arena_init(&small, scratch.base, first.len);
    assert_int_equal(mr_batch_recode(&config, &chain, &small, &out), MR_ERR_NO_MEMORY);
}

static void test_producer_wants_nothing(void **state)
{
    (void)state;
    struct mr_prng       prng = {.state = 4};
    struct mr_span       first = make(&prng, 1);
    struct mr_chain      chain = one(&first);
    struct mr_log_config config = wish(-1, 0);
    assert_false(mr_batch_recode_is_due(&config, &chain));
    config = wish(MR_CODEC_ZSTD, 3);
    assert_true(mr_batch_recode_is_due(&config, &chain));
    chain.bytes = MR_BATCH_HEADER - 1; /* whatever it is, it is no batch */
    assert_false(mr_batch_recode_is_due(&config, &chain));
    assert_false(mr_batch_recode_is_due(&config, &(struct mr_chain){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_codec_becomes_any_other),
        cmocka_unit_test(test_every_level_that_kafka_has),
        cmocka_unit_test(test_a_level_that_does_not_fit_is_lowered),
        cmocka_unit_test(test_producer_wants_nothing),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
