/* A capture file is read back by a reader of its own: headers, times, cut frames, pieces; a full buffer counts and goes on. */
#include "net/pcap.h"
#include "test.h"

static uint32_t number(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void test_pcap_is_what_its_readers_expect(void **state)
{
    (void)state;
    struct mr_pcap p;
    uint8_t *bytes = mr_test_memory(200);
    mr_pcap_init(&p, bytes, 200, 10);
    struct mr_span spans[3] = {{(const uint8_t *)"head", 4}, {NULL, 0}, {(const uint8_t *)"and tail", 8}};
    assert_true(mr_pcap_add(&p, 1700000000123456789ull, spans, 3));
    assert_true(mr_pcap_add(&p, 5, spans, 1));
    struct mr_span file = mr_pcap_take(&p);
    assert_int_equal(file.len, 24 + 16 + 10 + 16 + 4);
    assert_int_equal(number(file.data), 0xa1b23c4d);
    assert_int_equal(number(file.data + 4), 4u << 16 | 2);
    assert_int_equal(number(file.data + 16), 10);
    assert_int_equal(number(file.data + 20), 1);
    const uint8_t *record = file.data + 24;
    assert_int_equal(number(record), 1700000000);
    assert_int_equal(number(record + 4), 123456789);
    assert_int_equal(number(record + 8), 10); /* kept */
    assert_int_equal(number(record + 12), 12); /* of */
    assert_memory_equal(record + 16, "headand ta", 10);
    assert_memory_equal(record + 26 + 16, "head", 4);
}

static void test_pcap_that_is_full_counts_until_it_is_taken(void **state)
{
    (void)state;
    struct mr_pcap p;
    static const uint8_t frame[100];
    struct mr_span span = {frame, sizeof frame};
    mr_pcap_init(&p, mr_test_memory(24 + 116 + 115), 24 + 116 + 115, 65535);
    assert_true(mr_pcap_add(&p, 0, &span, 1));
    assert_false(mr_pcap_add(&p, 0, &span, 1)); /* one byte is missing */
    assert_int_equal(p.dropped, 1);
    assert_int_equal(mr_pcap_take(&p).len, 24 + 116);
    assert_true(mr_pcap_add(&p, 0, &span, 1));
    assert_int_equal(mr_pcap_take(&p).len, 116); /* the header comes once */
    assert_int_equal(p.frames, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcap_is_what_its_readers_expect),
        cmocka_unit_test(test_pcap_that_is_full_counts_until_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
