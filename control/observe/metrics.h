/*
 * metrics: what the broker counts, as text for Prometheus (exposition format 0.0.4).
 *
 *   cores' plain counters  >  a copy of each, made by its thread  >  struct mr_metrics  >  text
 *
 * Pure; rows in metrics.def. Thread: any, with a struct of its own.
 */
#ifndef MILLRACE_CONTROL_METRICS_H
#define MILLRACE_CONTROL_METRICS_H

#include "millrace/base/fmt.h"
#include "millrace/control.h"
#include "millrace/dataplane.h"
#include "millrace/storage.h"

#define MR_METRICS_TEXT_BYTES (1u << 20) /* more than the rows take with all cores there can be */

struct mr_metrics {
    uint32_t                data_count; /* cores */
    uint32_t                storage_count;
    struct mr_data_stats    data[MR_CORES_MAX];
    struct mr_storage_stats storage[MR_CORES_MAX];
    struct mr_control_stats control;
    struct {
        double   start_s; /* since 1970 */
        double   cpu_s;
        uint64_t rss_bytes;
        uint64_t descriptors;
    } process;
};

/* Everything as text. */
void mr_metrics_text(const struct mr_metrics *metrics, struct mr_text *out);

/* Whether the broker takes requests; if not, `out` says why not. */
bool mr_metrics_is_ready(const struct mr_metrics *metrics, struct mr_text *out);

#endif
