/* ring: filled and emptied across the wrap of its counters, against a plain queue. */
#include "test.h"

#include "millrace/base/prng.h"
#include "millrace/base/ring.h"

static void test_ring_random_operations_match_a_queue(void **state)
{
    (void)state;
    struct mr_arena arena;
    struct mr_ring  ring;
    struct mr_prng  prng = {.state = 1};
    uint32_t        pushed = 0;
    uint32_t        popped = 0;
    mr_arena_init(&arena, mr_test_memory(1 << 16), 1 << 16);
    mr_ring_init(&ring, &arena, 8);
    /* Start close to the wrap of the 32-bit counts. */
    ring.tail = ring.head = ring.tail_local = ring.head_local = ring.head_seen = ring.tail_seen = UINT32_MAX - 20;
    for (int step = 0; step < 100000; step++) {
        if (mr_prng_below(&prng, 2) == 0) {
            uint32_t room = mr_ring_room(&ring);
            assert_int_equal(room > 0, pushed - popped < 8); /* lazily exact: never says full when it is not */
            if (room > 0) {
                memcpy(mr_ring_in(&ring), &pushed, sizeof pushed);
                pushed++;
                mr_ring_publish(&ring);
            }
        } else if (mr_ring_ready(&ring) > 0) {
            uint32_t got;
            memcpy(&got, mr_ring_out(&ring), sizeof got);
            assert_int_equal(got, popped);
            popped++;
            mr_ring_retire(&ring);
        } else {
            assert_int_equal(pushed, popped);
        }
    }
    assert_true(popped > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring_random_operations_match_a_queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
