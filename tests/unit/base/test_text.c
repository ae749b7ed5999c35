/* fmt, str, hash: text against the C library, ids and hashes against known values. */
#include "test.h"

#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"
#include "millrace/base/span.h"
#include "millrace/base/str.h"

static void test_fmt_matches_printf_for_the_supported_formats(void **state)
{
    (void)state;
    char ours[128];
    char theirs[128];
#define SAME(...)                                                                                  \
    do {                                                                                           \
        mr_fmt(ours, sizeof ours, __VA_ARGS__);                                                    \
        snprintf(theirs, sizeof theirs, __VA_ARGS__);                                              \
        assert_string_equal(ours, theirs);                                                         \
    } while (0)
    SAME("%d %d %d", 0, -1, INT32_MIN);
    SAME("%lld %llu", (long long)INT64_MIN, (unsigned long long)UINT64_MAX);
    SAME("%020lld.log", 12345LL);
    SAME("%05d|%5d|%8x", -42, -42, 0xabcu);
    SAME("%s %.*s %c %%", "whole", 3, "cutting", 'x');
    SAME("%zu", (size_t)77);
#undef SAME
}

static void test_fmt_cuts_at_the_end_of_the_buffer(void **state)
{
    (void)state;
    char           buffer[8];
    struct mr_text text;
    mr_text_init(&text, buffer, sizeof buffer);
    mr_text_fmt(&text, "%s", "0123456789");
    assert_string_equal(buffer, "0123456");
    assert_true(text.is_cut);
}

static void test_uuid_text_round_trips(void **state)
{
    (void)state;
    struct mr_uuid id = {.bytes = {0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff}};
    struct mr_uuid back;
    char           text[MR_UUID_TEXT + 1];
    mr_uuid_text(&id, text);
    assert_string_equal(text, "-_8BAgMEBQYHCAkKCwwN_w");
    assert_true(mr_uuid_parse(mr_str(text), &back));
    assert_memory_equal(&id, &back, sizeof id);
    assert_false(mr_uuid_parse(mr_str("too-short"), &back));
    assert_false(mr_uuid_parse(mr_str("-_8BAgMEBQYHCAkKCwwN+w"), &back));
}

static void test_java_hash_known_values(void **state)
{
    (void)state;
    assert_int_equal(mr_hash_java(MR_STR("")), 0);
    assert_int_equal(mr_hash_java(MR_STR("hello")), 99162322);
    assert_int_equal(mr_hash_java(MR_STR("\xc3\xa9")), 0xe9);             /* one code unit */
    assert_int_equal(mr_hash_java(MR_STR("\xf0\x9f\x98\x80")), 0xd83d * 31 + 0xde00); /* a pair */
}

static void test_chain_view_in_place_or_copied(void **state)
{
    (void)state;
    const uint8_t         a[] = {1, 2, 3};
    const uint8_t         b[] = {4, 5, 6, 7};
    const struct mr_span  spans[] = {{a, 3}, {b, 4}};
    const struct mr_chain chain = {.spans = spans, .span_count = 2, .bytes = 7};
    uint8_t               scratch[8];
    assert_ptr_equal(mr_chain_view(&chain, 3, 4, scratch), b);
    assert_ptr_equal(mr_chain_view(&chain, 2, 3, scratch), scratch);
    assert_memory_equal(scratch, ((const uint8_t[]){3, 4, 5}), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fmt_matches_printf_for_the_supported_formats),
        cmocka_unit_test(test_fmt_cuts_at_the_end_of_the_buffer),
        cmocka_unit_test(test_uuid_text_round_trips),
        cmocka_unit_test(test_java_hash_known_values),
        cmocka_unit_test(test_chain_view_in_place_or_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
