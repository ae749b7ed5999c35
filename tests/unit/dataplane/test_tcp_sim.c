/*
 * test_tcp_sim: two of our TCP stacks over a bad path (tests/sim/sim_tcp.h), 600 seeds under the sanitizers;
 * millrace-sim-tcp runs more. The same seed is the same run. What a bulk transfer reaches is a golden table.
 */
#include "golden.h"
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

/* 100 Mbit/s, a queue of 100 ms: Mbit/s over loss and round trip, median of three seeds, as a golden table. */
static void test_goodput_over_loss_and_delay(void **state)
{
    (void)state;
    static const uint32_t losses[] = {0, 10, 100, 500}; /* of 10,000 */
    static const uint64_t trips_ms[] = {1, 10, 40, 80};
    char text[2048];
    size_t len = (size_t)snprintf(text, sizeof text, "loss%%\trtt 1 ms\t10 ms\t40 ms\t80 ms\n");
    for (uint32_t row = 0; row < 4; row++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%.1f", losses[row] / 100.0);
        for (uint32_t column = 0; column < 4; column++) {
            double rates[3];
            for (uint32_t seed = 0; seed < 3; seed++) {
                struct mr_sim_link_faults faults = {.delay_ns = trips_ms[column] * MR_NS_PER_MS / 2, .loss = losses[row]};
                struct mr_sim_tcp_result result = {0};
                faults.bytes_per_s = 12500000;
                faults.queue_bytes = 1250000;
                rates[seed] = mr_sim_tcp_goodput(seed + 1, &faults, 2000000, &result) * 8 / 1e6;
                if (result.violation[0] != '\0') {
                    fail_msg("%s", result.violation);
                }
            }
            double low = rates[0] < rates[1] ? rates[0] : rates[1];
            double high = rates[0] < rates[1] ? rates[1] : rates[0];
            double median = rates[2] < low ? low : rates[2] > high ? high : rates[2];
            len += (size_t)snprintf(text + len, sizeof text - len, "\t%.1f", median);
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "\n");
    }
    mr_golden_check("tcp/goodput.tsv", text, len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_stacks_over_bad_paths_keep_the_stream),
        cmocka_unit_test(test_the_same_seed_is_the_same_run),
        cmocka_unit_test(test_goodput_over_loss_and_delay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
