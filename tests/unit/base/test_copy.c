/* copy: every alignment and length around a cache line, against memcpy; nothing beside it is touched. */
#include "test.h"

#include "millrace/base/copy.h"
#include "millrace/base/prng.h"

#define ROOM 400u

static uint8_t source[ROOM];
static uint8_t wanted[ROOM];
static uint8_t target[ROOM];

static void fill(struct mr_prng *prng)
{
    for (uint32_t at = 0; at < ROOM; at++) {
        source[at] = (uint8_t)mr_prng_below(prng, 256);
        target[at] = wanted[at] = (uint8_t)mr_prng_below(prng, 256);
    }
}

static void test_past_caches_is_memcpy(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 1};
    for (uint32_t to = 0; to < 66; to++) {
        for (uint32_t len = 0; len < 260; len++) {
            uint32_t from = (uint32_t)mr_prng_below(&prng, 66);
            fill(&prng);
            memcpy(wanted + to, source + from, len);
            mr_copy_past_caches(target + to, source + from, len);
            assert_memory_equal(target, wanted, ROOM);
        }
    }
}

static void test_a_chain_is_copied_from_anywhere(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 2};
    const struct mr_span spans[] = {{source, 100}, {source + 100, 0}, {source + 100, 1}, {source + 101, 199}};
    const struct mr_chain chain = {.spans = spans, .span_count = 4, .bytes = 300};
    for (uint32_t at = 0; at <= 300; at++) {
        uint32_t len = (uint32_t)mr_prng_below(&prng, 301 - at);
        fill(&prng);
        memcpy(wanted + 7, source + at, len);
        mr_chain_copy_past_caches(&chain, at, target + 7, len);
        assert_memory_equal(target, wanted, ROOM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_past_caches_is_memcpy),
        cmocka_unit_test(test_a_chain_is_copied_from_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
