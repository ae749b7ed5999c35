/*
 * metrics: counters of cores become Prometheus' text: a line for each core, one for all, buckets that only grow.
 */
#include "observe/metrics.h"
#include "millrace/kafka/api.h"
#include "test.h"

static struct mr_metrics metrics;
static char buffer[MR_METRICS_TEXT_BYTES];
static struct mr_text text;

static void write_text(void)
{
    mr_text_init(&text, buffer, sizeof buffer);
    mr_metrics_text(&metrics, &text);
    assert_false(text.is_cut);
}

static void assert_line(const char *line)
{
    char whole[200];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    if (strstr(buffer, whole) == NULL) {
        fail_msg("no line \"%s\" in:\n%s", line, buffer);
    }
}

static void begin(uint32_t data_count, uint32_t storage_count)
{
    memset(&metrics, 0, sizeof metrics);
    metrics.data_count = data_count;
    metrics.storage_count = storage_count;
}

static void test_each_core_and_all_of_them(void **state)
{
    (void)state;
    begin(2, 3);
    metrics.data[0].connections = 5;
    metrics.data[1].connections = 7;
    metrics.storage[0].append_records = 1;
    metrics.storage[2].append_records = UINT64_C(10000000000);
    metrics.storage[1].is_full = true;
    metrics.control.topics = 3;
    metrics.control.is_serving = true;
    write_text();
    assert_line("millrace_connections{core=\"0\"} 5");
    assert_line("millrace_connections{core=\"1\"} 7");
    assert_null(strstr(buffer, "millrace_connections{core=\"2\"}"));
    assert_line("kafka_server_socketservermetrics_connection_count 12");
    assert_line("millrace_appended_records_total{core=\"2\"} 10000000000");
    assert_line("kafka_server_brokertopicmetrics_messagesin_total 10000000001");
    assert_line("millrace_log_directory_full{core=\"0\"} 0");
    assert_line("millrace_log_directory_full{core=\"1\"} 1");
    assert_line("kafka_controller_kafkacontroller_globaltopiccount 3");
    assert_line("# TYPE millrace_connections gauge");
    assert_line("# TYPE millrace_appended_records_total counter");
}

static void test_requests_and_their_times(void **state)
{
    (void)state;
    begin(2, 1);
    metrics.data[0].api_requests[MR_API_PRODUCE] = 2;
    metrics.data[1].api_requests[MR_API_PRODUCE] = 3;
    metrics.data[0].times[MR_DATA_TIMED_PRODUCE] = (struct mr_data_times){.counts = {[3] = 2, [MR_DATA_TIME_BUCKETS - 1] = 1}, .sum_us = 90000011};
    metrics.data[1].times[MR_DATA_TIMED_PRODUCE] = (struct mr_data_times){.counts = {[4] = 3}, .sum_us = 40};
    write_text();
    assert_line("kafka_network_requestmetrics_requests_total{request=\"Produce\"} 5");
    assert_null(strstr(buffer, "requests_total{request=\"Fetch\"}"));
    assert_line("millrace_request_seconds_bucket{request=\"Produce\",le=\"0.000004\"} 0");
    assert_line("millrace_request_seconds_bucket{request=\"Produce\",le=\"0.000008\"} 2");
    assert_line("millrace_request_seconds_bucket{request=\"Produce\",le=\"0.000016\"} 5");
    assert_line("millrace_request_seconds_bucket{request=\"Produce\",le=\"8.388608\"} 5");
    assert_line("millrace_request_seconds_bucket{request=\"Produce\",le=\"+Inf\"} 6");
    assert_line("millrace_request_seconds_sum{request=\"Produce\"} 90.000051");
    assert_line("millrace_request_seconds_count{request=\"Produce\"} 6");
}

static void test_the_process(void **state)
{
    (void)state;
    begin(1, 1);
    metrics.process.start_s = 1795487165.5;
    metrics.process.cpu_s = 0.25;
    metrics.process.rss_bytes = 12345;
    metrics.process.descriptors = 26;
    write_text();
    assert_line("process_start_time_seconds 1795487165.500000");
    assert_line("process_cpu_seconds_total 0.250000");
    assert_line("process_resident_memory_bytes 12345");
    assert_line("process_open_fds 26");
}

static void test_all_cores_fit(void **state)
{
    (void)state;
    begin(MR_CORES_MAX, MR_CORES_MAX);
    memset(metrics.data, 0xff, sizeof metrics.data);
    memset(metrics.storage, 0xff, sizeof metrics.storage);
    for (uint32_t core = 0; core < MR_CORES_MAX; core++) { /* a bool is 0 or 1 */
        metrics.storage[core].is_offline = metrics.storage[core].is_full = true;
    }
    write_text();
}

static const char *ready(bool is_ready)
{
    mr_text_init(&text, buffer, sizeof buffer);
    assert_int_equal(mr_metrics_is_ready(&metrics, &text), is_ready);
    return buffer;
}

static void test_ready_or_why_not(void **state)
{
    (void)state;
    begin(1, 2);
    assert_non_null(strstr(ready(false), "starting or stopping"));
    metrics.control.is_serving = true;
    assert_string_equal(ready(true), "ready\n");
    metrics.control.dirs_offline = 1;
    assert_non_null(strstr(ready(true), "but for 1 log directories")); /* the others serve */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_core_and_all_of_them),
        cmocka_unit_test(test_requests_and_their_times),
        cmocka_unit_test(test_the_process),
        cmocka_unit_test(test_all_cores_fit),
        cmocka_unit_test(test_ready_or_why_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
