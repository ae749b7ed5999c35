/* What the bridge counts of text that goes by: new, again, again for nothing; in order, with holes, over the wrap. */
#include "linkem_judge.h"
#include "test.h"

#include "millrace/base/bytes.h"

static struct mr_linkem_judge judge;

static void text(uint32_t seq, uint32_t len, bool is_dropped)
{
    uint8_t frame[2048] = {[12] = 0x08, [14] = 0x45, [23] = 6, [46] = 0x50};
    mr_store_be16(frame + 16, (uint16_t)(40 + len));
    mr_store_be32(frame + 38, seq);
    mr_linkem_judge_frame(&judge, frame, 54 + len, is_dropped);
}

static void expect(uint64_t segments, uint64_t again, uint64_t needless)
{
    assert_int_equal(judge.segments, segments);
    assert_int_equal(judge.again, again);
    assert_int_equal(judge.needless, needless);
}

static void test_linkem_judge_what_was_dropped_is_needed_again(void **state)
{
    (void)state;
    judge = (struct mr_linkem_judge){0};
    text(0xfffffe00, 1000, false); /* the numbers wrap within it */
    text(0xfffffe00 + 1000, 1000, true);
    text(0xfffffe00 + 2000, 1000, false);
    expect(3, 0, 0);
    text(0xfffffe00 + 1000, 1000, false);
    expect(4, 1, 0);
    text(0xfffffe00 + 1000, 1000, false);
    expect(5, 2, 1);
    text(0xfffffe00 + 500, 2000, false); /* across what are three segments */
    expect(6, 3, 2);
    text(0xfffffe00 + 2500, 1000, false); /* half of it is new */
    expect(7, 4, 2);
    assert_int_equal(judge.range_count, 1);
}

static void test_linkem_judge_bare_acks_and_other_frames_are_nothing(void **state)
{
    (void)state;
    judge = (struct mr_linkem_judge){0};
    text(1, 0, false);
    uint8_t arp[60] = {[12] = 0x08, [13] = 0x06};
    mr_linkem_judge_frame(&judge, arp, sizeof arp, false);
    mr_linkem_judge_frame(&judge, arp, 3, false);
    expect(0, 0, 0);
}

/* Many holes, filled in an order of their own, beside a map of bytes. */
static void test_linkem_judge_equals_a_map_of_bytes(void **state)
{
    (void)state;
    static bool map[200000];
    uint64_t needless = 0;
    uint32_t random = 7;
    memset(map, 0, sizeof map);
    judge = (struct mr_linkem_judge){.is_based = true, .base = 5};
    for (uint32_t count = 0; count < 20000; count++) {
        random = random * 1664525 + 1013904223;
        uint32_t len = 1 + (random >> 8) % 300;
        uint32_t at = (uint32_t)((random >> 4) % (judge.end + 400 < sizeof map - 300 ? judge.end + 400 : sizeof map - 300));
        bool is_dropped = random >> 30 == 0;
        bool has_all = true;
        for (uint32_t byte = at; byte < at + len; byte++) {
            has_all = has_all && map[byte];
            map[byte] = map[byte] || !is_dropped;
        }
        needless += has_all;
        text(5 + at, len, is_dropped);
    }
    assert_int_equal(judge.needless, needless);
    assert_true(needless > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linkem_judge_what_was_dropped_is_needed_again),
        cmocka_unit_test(test_linkem_judge_bare_acks_and_other_frames_are_nothing),
        cmocka_unit_test(test_linkem_judge_equals_a_map_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
