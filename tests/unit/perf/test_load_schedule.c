/* Schedules: when requests are due does not depend on when they were sent. */
#include "load_schedule.h"
#include "test.h"

/* Four connections share 1000/s: together exactly one request per millisecond. */
static void test_load_schedule_constant_connections_take_turns(void **state)
{
    (void)state;
    struct mr_load_schedule schedules[4];
    for (uint32_t place = 0; place < 4; place++) {
        mr_load_schedule_init(&schedules[place], 5000, 1000, place, 4, false, 1);
    }
    for (uint64_t request = 0; request < 400; request++) {
        struct mr_load_schedule *schedule = &schedules[request % 4];
        assert_int_equal(mr_load_schedule_due_ns(schedule, 0), 5000 + request * 1000000);
        mr_load_schedule_next(schedule);
    }
}

/* Gaps of a Poisson process: their mean is the interval, their standard deviation too. */
static void test_load_schedule_poisson_gaps_are_exponential(void **state)
{
    (void)state;
    struct mr_load_schedule schedule;
    double                  sum = 0;
    double                  squares = 0;
    uint64_t                before = 0;
    mr_load_schedule_init(&schedule, 0, 1000, 0, 1, true, 42);
    for (int index = 0; index < 100000; index++) {
        uint64_t due_ns = mr_load_schedule_due_ns(&schedule, 0);
        double   gap_ms = (double)(due_ns - before) * 1e-6;
        before = due_ns;
        sum += gap_ms;
        squares += gap_ms * gap_ms;
        mr_load_schedule_next(&schedule);
    }
    double mean = sum / 100000;
    double variance = squares / 100000 - mean * mean;
    assert_true(mean > 0.98 && mean < 1.02);
    assert_true(variance > 0.95 && variance < 1.05);
}

static void test_load_schedule_closed_loop_is_due_when_asked(void **state)
{
    (void)state;
    struct mr_load_schedule schedule;
    mr_load_schedule_init(&schedule, 5000, 0, 3, 4, false, 1);
    mr_load_schedule_next(&schedule);
    assert_int_equal(mr_load_schedule_due_ns(&schedule, 777), 777);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_schedule_constant_connections_take_turns),
        cmocka_unit_test(test_load_schedule_poisson_gaps_are_exponential),
        cmocka_unit_test(test_load_schedule_closed_loop_is_due_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
