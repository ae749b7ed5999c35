/*
 * plan: cores from the machine or from CPU lists, shares that add up to the totals, listeners.
 */
#include "config_table.h"
#include "millrace/plan.h"
#include "test.h"

static struct mr_config config;
static struct mr_plan plan;
static char why[512];

static void set(const char *name, const char *text)
{
    struct mr_config_value value;
    enum mr_config_id id = mr_config_find(mr_str(name));
    assert_int_equal(mr_config_parse(&mr_config_rows[id].key, mr_str(text), &value), MR_OK);
    mr_config_set(&config, id, &value);
}

static bool make(uint32_t cpus)
{
    const struct mr_plan_machine machine = {.cpu_count = cpus, .memory_bytes = 8ull << 30};
    return mr_plan_make(&config, &machine, &plan, why, sizeof why);
}

static void test_plan_auto_leaves_one_cpu_and_stops_at_eight_cores(void **state)
{
    static const uint32_t cpus[] = {1, 2, 4, 9, 64};
    static const uint32_t cores[] = {1, 1, 3, 8, 8};
    (void)state;
    mr_config_defaults(&config);
    for (size_t index = 0; index < 5; index++) {
        assert_true(make(cpus[index]));
        assert_int_equal(plan.thread_count, cores[index]);
        assert_true(plan.is_shared);
        assert_int_equal(plan.spin_ns, 0);
        assert_int_equal(plan.data_cpus[0], MR_PLAN_CPU_ANY);
    }
}

static void test_plan_cpu_lists_give_separate_pinned_cores(void **state)
{
    (void)state;
    mr_config_defaults(&config);
    set("millrace.cores.data", "0,2-3");
    assert_false(make(8));
    set("millrace.cores.storage", "5");
    assert_true(make(8));
    assert_false(plan.is_shared);
    assert_int_equal(plan.endpoints.data_count, 3);
    assert_int_equal(plan.endpoints.storage_count, 1);
    assert_int_equal(plan.thread_count, 4);
    assert_int_equal(plan.data_cpus[2], 3);
    assert_int_equal(plan.storage_cpus[0], 5);
    assert_int_equal(plan.spin_ns, 50000);
    set("millrace.cores.storage", "5-");
    assert_false(make(8));
    set("millrace.cores.storage", "0-4000000000");
    assert_false(make(8));
}

static void test_plan_shares_add_up_to_at_least_the_totals(void **state)
{
    (void)state;
    mr_config_defaults(&config);
    for (uint32_t cpus = 2; cpus < 12; cpus++) {
        assert_true(make(cpus));
        uint64_t cores = plan.thread_count;
        assert_true(cores * plan.storage.logs_max >= (uint64_t)config.millrace_partitions_max);
        assert_true(cores * plan.data.connections_max >= (uint64_t)config.millrace_connections_max);
        assert_true(cores * plan.storage.producers_max >= (uint64_t)config.millrace_producers_max);
        assert_true(plan.data.requests_max > plan.data.connections_max);
        assert_true((plan.spill_slots & (plan.spill_slots - 1)) == 0);
        assert_true(plan.storage.cache_bytes * cores <= (1ull << 30) + (16ull << 20) * cores);
    }
}

static void test_plan_gives_every_directory_all_storage_cores(void **state)
{
    (void)state;
    mr_config_defaults(&config);
    set("log.dirs", "/a,/b,/c");
    assert_true(make(5));
    assert_int_equal(plan.thread_count, 4);
    assert_int_equal(plan.endpoints.data_count, 4);
    assert_int_equal(plan.endpoints.storage_count, 12);
    assert_int_equal(mr_endpoint_dir_cores(&plan.endpoints), 4);
    assert_int_equal(mr_endpoint_dir(&plan.endpoints, 7), 1);
    set("millrace.cores", "22");
    assert_false(make(32));
    assert_non_null(strstr(why, "log.dirs"));
    set("millrace.cores", "21");
    assert_true(make(32));
}

static int listeners(const char *text, struct mr_endpoint *out)
{
    mr_config_defaults(&config);
    set("listeners", text);
    return mr_plan_listeners(&config, out, 4, why, sizeof why);
}

static void test_plan_listeners(void **state)
{
    struct mr_endpoint out[4];
    (void)state;
    assert_int_equal(listeners("PLAINTEXT://127.0.0.1:9092,CONTROLLER://[::1]:0", out), 2);
    assert_string_equal(out[0].host, "127.0.0.1");
    assert_int_equal(out[0].port, 9092);
    assert_string_equal(out[1].host, "::1");
    assert_int_equal(out[1].port, 0);
    assert_int_equal(listeners("PLAINTEXT://:1", out), 1);
    assert_string_equal(out[0].host, "");
    assert_int_equal(listeners("SSL://:9093", out), -1);
    assert_non_null(strstr(why, "PLAINTEXT"));
    assert_int_equal(listeners("PLAINTEXT://h:65536", out), -1);
    assert_int_equal(listeners("PLAINTEXT://h", out), -1);
    assert_int_equal(listeners("PLAINTEXT:", out), -1);
    assert_int_equal(listeners("9092", out), -1);
    assert_int_equal(listeners("", out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_auto_leaves_one_cpu_and_stops_at_eight_cores),
        cmocka_unit_test(test_plan_cpu_lists_give_separate_pinned_cores),
        cmocka_unit_test(test_plan_shares_add_up_to_at_least_the_totals),
        cmocka_unit_test(test_plan_gives_every_directory_all_storage_cores),
        cmocka_unit_test(test_plan_listeners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
