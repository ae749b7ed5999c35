/*
 * time: sums and differences that do not fit.
 */
#include "millrace/base/time.h"
#include "test.h"

static void test_age_of_any_timestamp_saturates(void **state)
{
    (void)state;
    assert_int_equal(mr_age_ms(1700000000000, 1699999999000), 1000);
    assert_int_equal(mr_age_ms(0, 5), -5);
    assert_int_equal(mr_age_ms(1700000000000, INT64_MIN), INT64_MAX);
    assert_int_equal(mr_age_ms(-2, INT64_MAX), INT64_MIN);
    assert_int_equal(mr_age_ms(INT64_MAX, INT64_MAX), 0);
}

static void test_deadline_of_any_wait_is_not_never(void **state)
{
    (void)state;
    assert_int_equal(mr_deadline_ms(7, 2), 7 + 2 * MR_NS_PER_MS);
    assert_int_equal(mr_deadline_ms(7, -5), 7);
    assert_true(mr_deadline_ms(7, INT64_MAX) == MR_NEVER - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_age_of_any_timestamp_saturates),
        cmocka_unit_test(test_deadline_of_any_wait_is_not_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
