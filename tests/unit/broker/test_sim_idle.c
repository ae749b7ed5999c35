/* sim_idle: the judge of a broker at rest finds each thing that is held, one at a time. */
#include "test.h"

#include "sim_idle.h"

static void test_nothing_held_is_fine(void **state)
{
    (void)state;
    struct mr_sim_idle idle = {.storage_cores = 1, .files = 10};
    struct mr_sim_work work = {.storage_ops = 100, .control_ops = 5, .data_requests = 16};
    assert_null(mr_sim_idle_judge(&idle));
    assert_null(mr_sim_idle_judge_work(&work));
}

static void test_each_thing_that_is_held_is_found(void **state)
{
    (void)state;
    const struct {
        struct mr_sim_idle idle;
        const char        *what;
    } rows[] = {
        {{.requests = 1}, "requests of the data core"},  {{.net_buffers = 1}, "received buffers"},
        {{.control_requests = 1}, "requests of control"}, {{.control_ops = 1}, "operations of control"},
        {{.tasks = 1}, "tasks of a storage core"},        {{.parked = 1}, "operations wait"},
        {{.pinned_bytes = 4096}, "pages are lent"},       {{.cold_pages = 1}, "pages of cold reads"},
        {{.storage_cores = 1, .files = 1000}, "files are open"},
    };
    for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        const char *what = mr_sim_idle_judge(&rows[index].idle);
        assert_non_null(what);
        assert_non_null(strstr(what, rows[index].what));
    }
}

static void test_turns_without_a_bound_are_found(void **state)
{
    (void)state;
    struct mr_sim_work storage = {.storage_ops = 100000};
    struct mr_sim_work control = {.control_ops = 100000};
    struct mr_sim_work data = {.data_requests = 100000};
    assert_non_null(strstr(mr_sim_idle_judge_work(&storage), "storage core"));
    assert_non_null(strstr(mr_sim_idle_judge_work(&control), "control"));
    assert_non_null(strstr(mr_sim_idle_judge_work(&data), "data core"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_held_is_fine),
        cmocka_unit_test(test_each_thing_that_is_held_is_found),
        cmocka_unit_test(test_turns_without_a_bound_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
