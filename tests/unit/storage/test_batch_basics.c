/*
 * The small parts of the batch code: CRC-32C against published vectors, varints at their edges, the
 * header's fields at their places, a span chain that gives the same CRC however it is cut.
 */
#include "test.h"

#include "batch/varint.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"

static void test_crc32c_gives_the_published_values(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(mr_crc32c(0, "", 0), 0);
    assert_int_equal(mr_crc32c(0, "123456789", 9), 0xe3069283);
    /* RFC 3720, appendix B.4: as little-endian words there. */
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x62a8ab43);
    for (uint8_t at = 0; at < 32; at++) {
        bytes[at] = at;
    }
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x46dd794e);
    for (uint8_t at = 0; at < 32; at++) {
        bytes[at] = (uint8_t)(31 - at);
    }
    assert_int_equal(mr_crc32c(0, bytes, 32), 0x113fdb5c);
}

/* One bit at a time, from the polynomial: slow and right. */
static uint32_t crc_of_model(const uint8_t *data, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t at = 0; at < len; at++) {
        crc ^= data[at];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

static void test_crc32c_equals_the_polynomial_at_any_length_alignment_and_cut(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 1};
    uint8_t        bytes[600];
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t start = (uint32_t)mr_prng_below(&prng, 64);
        uint32_t len = (uint32_t)mr_prng_below(&prng, sizeof bytes - start);
        uint32_t cut = (uint32_t)mr_prng_below(&prng, len + 1);
        for (uint32_t at = 0; at < sizeof bytes; at++) {
            bytes[at] = (uint8_t)mr_prng_next(&prng);
        }
        uint32_t want = crc_of_model(bytes + start, len);
        assert_int_equal(mr_crc32c(0, bytes + start, len), want);
        assert_int_equal(mr_crc32c(mr_crc32c(0, bytes + start, cut), bytes + start + cut, len - cut), want);
        assert_int_equal(mr_crc32c_join(mr_crc32c(0, bytes + start, cut), mr_crc32c(0, bytes + start + cut, len - cut),
                                        len - cut), want);
        /* The same as a chain with an empty span in it, and with bytes before and behind. */
        struct mr_span  spans[] = {{bytes, start + cut}, {bytes, 0}, {bytes + start + cut, 600 - start - cut}};
        struct mr_chain chain = {.spans = spans, .span_count = 3, .bytes = 600};
        assert_int_equal(mr_crc32c_chain(0, &chain, start, len), want);
    }
}

static void test_crc32c_join_equals_one_pass_at_every_power_of_two(void **state)
{
    (void)state;
    static uint8_t bytes[(4u << 20) + 64];
    struct mr_prng prng = {.state = 2};
    for (uint32_t at = 0; at < sizeof bytes; at++) {
        bytes[at] = (uint8_t)mr_prng_next(&prng);
    }
    for (uint32_t len = 1; len <= 4u << 20; len *= 2) {
        for (uint32_t more = 0; more < 3; more++) {
            uint32_t first = mr_crc32c(12345, bytes, 40);
            assert_int_equal(mr_crc32c_join(first, mr_crc32c(0, bytes + 40, len + more), len + more),
                             mr_crc32c(first, bytes + 40, len + more));
        }
    }
}

static void test_varint_round_trips_at_every_length(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 63; bit++) {
        int64_t edge = (int64_t)1 << bit;
        int64_t values[] = {0, edge - 1, edge, -edge, -edge - 1, INT64_MAX, INT64_MIN};
        for (size_t index = 0; index < sizeof values / sizeof values[0]; index++) {
            uint8_t        bytes[10];
            uint32_t       len = mr_varint_store(bytes, values[index]);
            const uint8_t *at = bytes;
            int64_t        value;
            assert_int_equal(len, mr_varint_bytes(values[index]));
            assert_true(mr_varint_load64(&at, bytes + len, &value));
            assert_true(value == values[index] && at == bytes + len);
            at = bytes;
            assert_false(mr_varint_load64(&at, bytes + len - 1, &value)); /* ends too early */
            if (values[index] >= INT32_MIN && values[index] <= INT32_MAX) {
                int32_t small;
                at = bytes;
                assert_true(mr_varint_load32(&at, bytes + len, &small));
                assert_true(small == values[index] && at == bytes + len);
            }
        }
    }
}

static void test_varint_too_long_is_refused(void **state)
{
    (void)state;
    const uint8_t  bytes[12] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00};
    const uint8_t *at = bytes;
    int64_t        wide;
    int32_t        narrow;
    assert_false(mr_varint_load64(&at, bytes + 12, &wide)); /* eleven bytes */
    at = bytes;
    assert_false(mr_varint_load32(&at, bytes + 12, &narrow));
    at = bytes + 5;
    assert_false(mr_varint_load32(&at, bytes + 12, &narrow)); /* six */
    at = bytes + 6;
    assert_true(mr_varint_load32(&at, bytes + 12, &narrow)); /* five */
}

static void test_header_fields_lie_where_the_drawing_says(void **state)
{
    (void)state;
    static const uint8_t bytes[MR_BATCH_HEADER] = {
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /* base offset */
        0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, /* length, leader epoch */
        0x02, 0xf1, 0xf2, 0xf3, 0xf4,                   /* magic, crc */
        0x80, 0x15, 0x31, 0x32, 0x33, 0x34,             /* attributes, last offset delta */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, /* base timestamp */
        0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, /* max timestamp */
        0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, /* producer id */
        0x61, 0x62, 0xff, 0xff, 0xff, 0xff,             /* producer epoch, base sequence */
        0x71, 0x72, 0x73, 0x74,                         /* records */
    };
    struct mr_batch batch;
    uint8_t         again[MR_BATCH_HEADER];
    mr_batch_header_load(bytes, &batch);
    assert_int_equal(batch.base_offset, 0x0102030405060708);
    assert_int_equal(batch.batch_length, 0x11121314);
    assert_int_equal(batch.leader_epoch, 0x21222324);
    assert_int_equal(batch.magic, 2);
    assert_int_equal(batch.crc, 0xf1f2f3f4);
    assert_int_equal(batch.attributes, (int16_t)0x8015);
    assert_int_equal(batch.last_offset_delta, 0x31323334);
    assert_int_equal(batch.base_timestamp, -2);
    assert_int_equal(batch.max_timestamp, 0x4142434445464748);
    assert_int_equal(batch.producer_id, 0x5152535455565758);
    assert_int_equal(batch.producer_epoch, 0x6162);
    assert_int_equal(batch.base_sequence, -1);
    assert_int_equal(batch.record_count, 0x71727374);
    mr_batch_header_store(&batch, again);
    assert_memory_equal(again, bytes, sizeof bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_gives_the_published_values),
        cmocka_unit_test(test_crc32c_equals_the_polynomial_at_any_length_alignment_and_cut),
        cmocka_unit_test(test_crc32c_join_equals_one_pass_at_every_power_of_two),
        cmocka_unit_test(test_varint_round_trips_at_every_length),
        cmocka_unit_test(test_varint_too_long_is_refused),
        cmocka_unit_test(test_header_fields_lie_where_the_drawing_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
