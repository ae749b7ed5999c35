#include "observe/metrics.h"

#include "millrace/kafka/api.h"

#include <stddef.h>

enum source {
    SOURCE_DATA,
    SOURCE_STORAGE,
    SOURCE_CONTROL,
};

struct row {
    const char *name;
    const char *type;
    const char *help;
    enum source source;
    bool is_total;
    uint16_t at;   /* of the field */
    uint16_t size; /* of the field: 8, 4 or 1 */
};

#define STATS_DATA      struct mr_data_stats
#define STATS_STORAGE   struct mr_storage_stats
#define STATS_CONTROL   struct mr_control_stats
#define FIELD(stats_, field_) offsetof(stats_, field_), sizeof(((stats_ *)0)->field_)

static const struct row rows[] = {
#define COUNTER "counter"
#define GAUGE   "gauge"
#define PER_CORE(source_, field_, type_, name_, help_) \
    {name_, type_, help_, SOURCE_##source_, false, FIELD(STATS_##source_, field_)},
#define TOTAL(source_, field_, type_, name_, help_) \
    {name_, type_, help_, SOURCE_##source_, true, FIELD(STATS_##source_, field_)},
#include "observe/metrics.def"
#undef PER_CORE
#undef TOTAL
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

static uint64_t load(const void *stats, const struct row *row)
{
    const uint8_t *field = (const uint8_t *)stats + row->at;
    uint64_t whole;
    uint32_t half;
    if (row->size == sizeof whole) {
        memcpy(&whole, field, sizeof whole);
        return whole;
    }
    if (row->size == sizeof half) {
        memcpy(&half, field, sizeof half);
        return half;
    }
    return *field;
}

static uint32_t count_of(const struct mr_metrics *metrics, enum source source)
{
    return source == SOURCE_DATA ? metrics->data_count : source == SOURCE_STORAGE ? metrics->storage_count : 1;
}

static uint64_t value_of(const struct mr_metrics *metrics, const struct row *row, uint32_t core)
{
    switch (row->source) {
    case SOURCE_DATA:
        return load(&metrics->data[core], row);
    case SOURCE_STORAGE:
        return load(&metrics->storage[core], row);
    case SOURCE_CONTROL:
        break;
    }
    return load(&metrics->control, row);
}

static void put_head(struct mr_text *out, const char *name, const char *type, const char *help)
{
    mr_text_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_row(const struct mr_metrics *metrics, const struct row *row, struct mr_text *out)
{
    uint64_t total = 0;
    put_head(out, row->name, row->type, row->help);
    for (uint32_t core = 0; core < count_of(metrics, row->source); core++) {
        uint64_t value = value_of(metrics, row, core);
        total += value;
        if (!row->is_total) {
            mr_text_fmt(out, "%s{core=\"%u\"} %llu\n", row->name, core, (unsigned long long)value);
        }
    }
    if (row->is_total) {
        mr_text_fmt(out, "%s %llu\n", row->name, (unsigned long long)total);
    }
}

/* ---- Requests ---- */

static void put_requests(const struct mr_metrics *metrics, struct mr_text *out)
{
    static const char name[] = "kafka_network_requestmetrics_requests_total";
    put_head(out, name, COUNTER, "Requests that were received.");
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        uint64_t total = 0;
        for (uint32_t core = 0; core < metrics->data_count && api->key < (int16_t)MR_DATA_API_KEYS; core++) {
            total += metrics->data[core].api_requests[api->key];
        }
        if (total > 0) {
            mr_text_fmt(out, "%s{request=\"%s\"} %llu\n", name, api->name, (unsigned long long)total);
        }
    }
}

/* Microseconds as seconds. */
static void put_seconds(struct mr_text *out, uint64_t us)
{
    mr_text_fmt(out, "%llu.%06llu", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

static void put_times(const struct mr_metrics *metrics, struct mr_text *out)
{
    static const char name[] = "millrace_request_seconds";
    static const char *const kinds[] = {"Produce", "Fetch", "other"};
    put_head(out, name, "histogram", "From the last byte of a request to its answer's hand-over to the transport.");
    for (uint32_t kind = 0; kind < MR_DATA_TIMED_COUNT; kind++) {
        uint64_t seen = 0;
        uint64_t sum_us = 0;
        for (uint32_t bucket = 0; bucket < MR_DATA_TIME_BUCKETS; bucket++) {
            for (uint32_t core = 0; core < metrics->data_count; core++) {
                seen += metrics->data[core].times[kind].counts[bucket];
            }
            mr_text_fmt(out, "%s_bucket{request=\"%s\",le=\"", name, kinds[kind]);
            if (bucket + 1 < MR_DATA_TIME_BUCKETS) {
                put_seconds(out, (uint64_t)1 << bucket);
            } else {
                mr_text_fmt(out, "+Inf");
            }
            mr_text_fmt(out, "\"} %llu\n", (unsigned long long)seen);
        }
        for (uint32_t core = 0; core < metrics->data_count; core++) {
            sum_us += metrics->data[core].times[kind].sum_us;
        }
        mr_text_fmt(out, "%s_sum{request=\"%s\"} ", name, kinds[kind]);
        put_seconds(out, sum_us);
        mr_text_fmt(out, "\n%s_count{request=\"%s\"} %llu\n", name, kinds[kind], (unsigned long long)seen);
    }
}

/* ---- The process, under the names that every exporter has ---- */

static void put_process(const struct mr_metrics *metrics, struct mr_text *out)
{
    put_head(out, "process_start_time_seconds", GAUGE, "When the process began, since 1970.");
    mr_text_fmt(out, "process_start_time_seconds ");
    put_seconds(out, (uint64_t)(metrics->process.start_s * 1e6));
    mr_text_fmt(out, "\n");
    put_head(out, "process_cpu_seconds_total", COUNTER, "CPU time of the process, user and system.");
    mr_text_fmt(out, "process_cpu_seconds_total ");
    put_seconds(out, (uint64_t)(metrics->process.cpu_s * 1e6));
    mr_text_fmt(out, "\n");
    put_head(out, "process_resident_memory_bytes", GAUGE, "Memory that is resident.");
    mr_text_fmt(out, "process_resident_memory_bytes %llu\n", (unsigned long long)metrics->process.rss_bytes);
    put_head(out, "process_open_fds", GAUGE, "Descriptors that are open.");
    mr_text_fmt(out, "process_open_fds %llu\n", (unsigned long long)metrics->process.descriptors);
}

void mr_metrics_text(const struct mr_metrics *metrics, struct mr_text *out)
{
    for (size_t index = 0; index < ROW_COUNT; index++) {
        put_row(metrics, &rows[index], out);
    }
    put_requests(metrics, out);
    put_times(metrics, out);
    put_process(metrics, out);
}

bool mr_metrics_is_ready(const struct mr_metrics *metrics, struct mr_text *out)
{
    uint64_t offline = metrics->control.dirs_offline;
    if (!metrics->control.is_serving) {
        mr_text_fmt(out, "not ready: the broker is starting or stopping\n");
    } else if (offline > 0) {
        mr_text_fmt(out, "ready, but for %llu log directories that are offline: the log says why\n", (unsigned long long)offline);
    } else {
        mr_text_fmt(out, "ready\n");
    }
    return metrics->control.is_serving;
}
