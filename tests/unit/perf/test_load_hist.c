/* The histogram against a sorted list of the same values, and its buckets against their promise. */
#include "load_hist.h"
#include "test.h"

#include "millrace/base/prng.h"

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Every value lies in a bucket whose largest value is at most 1 in 1024 above it. */
static void test_load_hist_bucket_is_exact_to_three_digits(void **state)
{
    (void)state;
    uint32_t before = 0;
    for (uint64_t us = 0; us <= MR_LOAD_HIST_MAX_US; us += 1 + us / 3000) {
        uint32_t bucket = mr_load_hist_bucket(us);
        uint64_t largest = mr_load_hist_bucket_us(bucket);
        assert_true(bucket < MR_LOAD_HIST_BUCKETS);
        assert_true(bucket >= before);
        assert_true(largest >= us && largest - us <= us / 1024);
        assert_int_equal(mr_load_hist_bucket(largest < MR_LOAD_HIST_MAX_US ? largest : us), bucket);
        before = bucket;
    }
}

static void test_load_hist_percentiles_equal_a_sorted_list(void **state)
{
    (void)state;
    static struct mr_load_hist hist;
    static uint64_t            values[20000];
    static const double        percents[] = {0.1, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
    struct mr_prng             prng = {.state = 7};
    memset(&hist, 0, sizeof hist);
    for (size_t index = 0; index < 20000; index++) {
        values[index] = mr_prng_below(&prng, 1ull << (1 + mr_prng_below(&prng, 25)));
        mr_load_hist_record(&hist, values[index]);
    }
    qsort(values, 20000, sizeof values[0], compare);
    for (size_t index = 0; index < sizeof percents / sizeof percents[0]; index++) {
        size_t   rank = (size_t)(percents[index] * 200 + 0.999999);
        uint64_t wanted = values[rank - 1];
        uint64_t got = mr_load_hist_percentile_us(&hist, percents[index]);
        assert_true(got >= wanted && got - wanted <= wanted / 1024);
    }
    assert_int_equal(hist.count, 20000);
    assert_int_equal(hist.max_us, values[19999]);
}

static void test_load_hist_longer_than_a_minute_counts_as_one(void **state)
{
    (void)state;
    static struct mr_load_hist hist;
    memset(&hist, 0, sizeof hist);
    mr_load_hist_record(&hist, MR_LOAD_HIST_MAX_US + 5);
    assert_int_equal(hist.over, 1);
    assert_int_equal(mr_load_hist_percentile_us(&hist, 100), MR_LOAD_HIST_MAX_US);
}

static void test_load_hist_sum_minus_part_is_the_rest(void **state)
{
    (void)state;
    static struct mr_load_hist part;
    static struct mr_load_hist all;
    memset(&part, 0, sizeof part);
    memset(&all, 0, sizeof all);
    assert_int_equal(mr_load_hist_percentile_us(&all, 99), 0);
    mr_load_hist_record(&part, 100);
    mr_load_hist_record(&part, 900000);
    mr_load_hist_add(&all, &part);
    mr_load_hist_record(&all, 5000);
    mr_load_hist_subtract(&all, &part);
    assert_int_equal(all.count, 1);
    assert_int_equal(all.sum_us, 5000);
    assert_int_equal(mr_load_hist_percentile_us(&all, 50), mr_load_hist_bucket_us(mr_load_hist_bucket(5000)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_hist_bucket_is_exact_to_three_digits),
        cmocka_unit_test(test_load_hist_percentiles_equal_a_sorted_list),
        cmocka_unit_test(test_load_hist_longer_than_a_minute_counts_as_one),
        cmocka_unit_test(test_load_hist_sum_minus_part_is_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
