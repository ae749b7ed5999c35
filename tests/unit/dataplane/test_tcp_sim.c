/*
 * test_tcp_sim: two of our TCP stacks over a bad path (tests/sim/sim_tcp.h), 600 seeds under the sanitizers;
 * millrace-sim-tcp runs more. The same seed is the same run.
 */
#include "sim_tcp.h"
#include "test.h"

static void test_two_stacks_over_bad_paths_keep_the_stream(void **state)
{
    (void)state;
    struct mr_sim_tcp_result result = {0};
    for (uint64_t seed = 1; seed <= 600; seed++) {
        if (!mr_sim_tcp_run(seed, false, &result)) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, result.violation);
        }
    }
    assert_true(result.lives > 1000 && result.lost > 1000 && result.bytes > 1000000);
}

static void test_the_same_seed_is_the_same_run(void **state)
{
    (void)state;
    struct mr_sim_tcp_result first = {0};
    struct mr_sim_tcp_result second = {0};
    assert_true(mr_sim_tcp_run(7, false, &first));
    assert_true(mr_sim_tcp_run(7, false, &second));
    assert_int_equal(first.hash, second.hash);
    assert_int_equal(first.packets, second.packets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_stacks_over_bad_paths_keep_the_stream),
        cmocka_unit_test(test_the_same_seed_is_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
