/*
 * The buddy allocator of open requests against the plainest model: every block is filled with its own
 * number, nobody else's number appears in it, and when all is given back the largest block is there.
 */
#include "broker/scratch.h"
#include "millrace/base/prng.h"
#include "test.h"

#define BLOCKS 64

static void test_random_blocks_never_overlap_and_merge_again(void **state)
{
    (void)state;
    struct mr_arena arena;
    struct mr_scratch scratch;
    size_t bytes = 8u << 20;
    mr_arena_init(&arena, mr_test_memory(mr_scratch_memory(bytes)), mr_scratch_memory(bytes));
    mr_scratch_init(&scratch, &arena, bytes);
    assert_int_equal(mr_scratch_max(&scratch), bytes / 4);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct mr_prng prng = {.state = seed};
        uint8_t *held[BLOCKS] = {0};
        size_t sizes[BLOCKS];
        size_t used = 0;
        for (int step = 0; step < 2000; step++) {
            uint32_t slot = (uint32_t)mr_prng_below(&prng, BLOCKS);
            if (held[slot] != NULL) {
                for (size_t at = 0; at < sizes[slot]; at += 4096) {
                    assert_int_equal(held[slot][at], slot);
                }
                mr_scratch_put(&scratch, held[slot]);
                used -= sizes[slot];
                held[slot] = NULL;
                continue;
            }
            size_t want =
                1 + (size_t)mr_prng_below(&prng, mr_prng_below(&prng, 4) == 0 ? 2u << 20 : 60000);
            held[slot] = mr_scratch_get(&scratch, want, &sizes[slot]);
            if (held[slot] == NULL) {
                continue;
            }
            assert_true(sizes[slot] >= want);
            used += sizes[slot];
            assert_true(used <= bytes);
            assert_int_equal(scratch.used_bytes, used);
            for (size_t at = 0; at < sizes[slot]; at += 4096) {
                held[slot][at] = (uint8_t)slot;
            }
        }
        for (uint32_t slot = 0; slot < BLOCKS; slot++) {
            if (held[slot] != NULL) {
                mr_scratch_put(&scratch, held[slot]);
            }
        }
        assert_int_equal(scratch.used_bytes, 0);
        void *largest[4];
        size_t got;
        for (int i = 0; i < 4; i++) {
            largest[i] = mr_scratch_get(&scratch, bytes / 4, &got);
            assert_non_null(largest[i]);
        }
        assert_null(mr_scratch_get(&scratch, 1, &got));
        for (int i = 0; i < 4; i++) {
            mr_scratch_put(&scratch, largest[i]);
        }
    }
}

static void test_block_larger_than_a_quarter_is_never_given(void **state)
{
    (void)state;
    struct mr_arena arena;
    struct mr_scratch scratch;
    size_t bytes = 1u << 20;
    size_t got;
    mr_arena_init(&arena, mr_test_memory(mr_scratch_memory(bytes)), mr_scratch_memory(bytes));
    mr_scratch_init(&scratch, &arena, bytes);
    assert_null(mr_scratch_get(&scratch, bytes / 4 + 1, &got));
    assert_non_null(mr_scratch_get(&scratch, bytes / 4, &got));
    assert_int_equal(got, bytes / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_blocks_never_overlap_and_merge_again),
        cmocka_unit_test(test_block_larger_than_a_quarter_is_never_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
