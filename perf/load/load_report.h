/*
 * load_report: what a run found: samples at both ends of the measured time, the live line, CSV, JSON, and
 * whether the figures may be believed.
 */
#ifndef MILLRACE_PERF_LOAD_REPORT_H
#define MILLRACE_PERF_LOAD_REPORT_H

#include "load_verify.h"
#include "load_worker.h"

#include <stdio.h>

/* Everything that is counted, at one moment. Times of CPUs in seconds. */
struct mr_load_sample {
    uint64_t at_ns;
    uint64_t requests;
    uint64_t records;
    uint64_t bytes;
    uint64_t wire;
    uint64_t fetches;
    uint64_t fetched_records;
    uint64_t fetched_bytes;
    uint64_t fetched_wire;
    uint64_t connects;
    uint64_t commits;
    uint64_t errors;
    uint64_t lost;
    uint64_t waiting;
    uint64_t enters;
    double   generator_cpu_s;
    double   busiest_cpu_s; /* of the busiest generator thread */
    double   generator_wait_s; /* runnable without a CPU */
    double   broker_cpu_s;
    uint64_t broker_switches;
    double   system_busy_s;
    double   system_steal_s;
    uint64_t disk_flushes;
    uint64_t disk_writes;
    uint64_t disk_bytes;
};

struct mr_load_result {
    const struct mr_load_run *run;
    struct mr_load_worker    *workers;
    uint32_t                  worker_count;
    struct mr_load_sample     from; /* of the measured time */
    struct mr_load_sample     to;
    struct mr_load_sample     last; /* after draining */
    struct mr_load_hist       produced;
    struct mr_load_hist       end_to_end;
    struct mr_load_hist       fetched;
    struct mr_load_hist       connected;
    struct mr_load_hist       committed;
    struct mr_load_hist       lateness;
    uint64_t                  broker_rss_kib;
    uint64_t                  asked_ns;     /* when leaders were last asked for */
    bool                      is_valid;     /* the generator did what was asked              */
    bool                      is_saturated; /* the broker did not keep up with the rate       */
    bool                      is_failed;    /* errors, lost connections, records not as sent */
    bool                      is_verified;
    char                      reasons[4][300];
    uint32_t                  reason_count;
};

void mr_load_sample_take(struct mr_load_sample *sample, const struct mr_load_run *run, struct mr_load_worker *workers,
                         uint32_t count);

/* Add up the histograms and judge. */
void mr_load_result_finish(struct mr_load_result *result);

void mr_load_result_print(const struct mr_load_result *result, FILE *out);
bool mr_load_result_json(const struct mr_load_result *result, const char *path);

/* The live line and the CSV, once a second; `result->to` is not used. */
struct mr_load_live {
    struct mr_load_sample before;
    struct mr_load_hist   seen;
    struct mr_load_hist   now;
    FILE                 *csv;
    bool                  is_shown;
};
bool mr_load_live_open(struct mr_load_live *live, const struct mr_load_options *options);
void mr_load_live_tick(struct mr_load_live *live, const struct mr_load_run *run, struct mr_load_worker *workers,
                       uint32_t count);
void mr_load_live_close(struct mr_load_live *live);

#endif
