#include "load_report.h"

#include "load_consume.h"

#include "millrace/base/time.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define LATE_US   1000 /* a generator that is later than this in 1 of 100 requests ... */
#define LATE_PART 0.1  /* ... and than this part of what it measures is not believed   */

static const struct {
    const char *name;
    double      percent;
} percents[] = {{"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}, {"max", 100}};
#define PERCENT_COUNT (sizeof percents / sizeof percents[0])

/* ---- samples ---- */

/* The text of a small file; empty when it cannot be read. */
static void slurp(const char *path, char *text, size_t size)
{
    FILE  *file = fopen(path, "r");
    size_t len = file == NULL ? 0 : fread(text, 1, size - 1, file);
    text[len] = '\0';
    if (file != NULL) {
        fclose(file);
    }
}

static uint64_t number_after(const char *text, const char *name)
{
    const char *found = strstr(text, name);
    return found == NULL ? 0 : strtoull(found + strlen(name), NULL, 10);
}

static void sample_broker(struct mr_load_sample *sample, uint64_t pid)
{
    char                 path[300];
    char                 text[4096];
    unsigned long long   user = 0;
    unsigned long long   system = 0;
    struct dirent       *entry;
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    slurp(path, text, sizeof text);
    const char *rest = strrchr(text, ')'); /* the name before it may hold blanks */
    if (rest != NULL &&
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2) {
        sample->broker_cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/task", pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        snprintf(path, sizeof path, "/proc/%" PRIu64 "/task/%.20s/status", pid, entry->d_name);
        slurp(path, text, sizeof text);
        sample->broker_switches += number_after(text, "\nvoluntary_ctxt_switches:") +
                                   number_after(text, "nonvoluntary_ctxt_switches:");
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
}

/* First line of /proc/stat: user nice system idle iowait irq softirq steal. */
static void sample_system(struct mr_load_sample *sample)
{
    char               text[512];
    unsigned long long t[8] = {0};
    slurp("/proc/stat", text, sizeof text);
    if (sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
               &t[7]) == 8) {
        double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
        sample->system_busy_s = (double)(t[0] + t[1] + t[2] + t[5] + t[6]) * tick_s;
        sample->system_steal_s = (double)t[7] * tick_s;
    }
}

/* All whole disks together: writes, sectors of 512 bytes, flushes. */
static void sample_disks(struct mr_load_sample *sample)
{
    char  line[512];
    FILE *file = fopen("/proc/diskstats", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char               name[64];
        char               path[128];
        unsigned long long f[16] = {0};
        int got = sscanf(line, "%*u %*u %63s %*u %*u %*u %*u %llu %*u %llu %*u %*u %*u %*u %*u %*u %*u %*u %llu", name,
                         &f[0], &f[1], &f[2]);
        snprintf(path, sizeof path, "/sys/block/%.63s", name);
        if (got >= 3 && access(path, F_OK) == 0 && strncmp(name, "loop", 4) != 0) {
            sample->disk_writes += f[0];
            sample->disk_bytes += f[1] * 512;
            sample->disk_flushes += f[2];
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static void sample_worker(struct mr_load_sample *sample, struct mr_load_worker *worker)
{
    const struct mr_load_counts *c = &worker->counts;
    clockid_t                    clock;
    struct timespec              cpu = {0};
    char                         path[100];
    char                         text[200];
    sample->requests += atomic_load_explicit(&c->requests, memory_order_relaxed);
    sample->records += atomic_load_explicit(&c->records, memory_order_relaxed);
    sample->bytes += atomic_load_explicit(&c->bytes, memory_order_relaxed);
    sample->wire += atomic_load_explicit(&c->wire, memory_order_relaxed);
    sample->fetches += atomic_load_explicit(&c->fetches, memory_order_relaxed);
    sample->fetched_records += atomic_load_explicit(&c->fetched_records, memory_order_relaxed);
    sample->fetched_bytes += atomic_load_explicit(&c->fetched_bytes, memory_order_relaxed);
    sample->fetched_wire += atomic_load_explicit(&c->fetched_wire, memory_order_relaxed);
    sample->connects += atomic_load_explicit(&c->connects, memory_order_relaxed);
    sample->commits += atomic_load_explicit(&c->commits, memory_order_relaxed);
    sample->errors += atomic_load_explicit(&c->errors, memory_order_relaxed);
    sample->lost += atomic_load_explicit(&c->lost, memory_order_relaxed);
    sample->waiting += atomic_load_explicit(&c->waiting, memory_order_relaxed);
    if (worker->has_thread && pthread_getcpuclockid(worker->thread, &clock) == 0 && clock_gettime(clock, &cpu) == 0) {
        double seconds = (double)cpu.tv_sec + (double)cpu.tv_nsec * 1e-9;
        sample->generator_cpu_s += seconds;
        sample->busiest_cpu_s = seconds > sample->busiest_cpu_s ? seconds : sample->busiest_cpu_s;
    }
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", worker->tid);
    slurp(path, text, sizeof text);
    unsigned long long waited = 0;
    if (sscanf(text, "%*u %llu", &waited) == 1) {
        sample->generator_wait_s += (double)waited * 1e-9;
    }
}

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

void mr_load_sample_take(struct mr_load_sample *sample, const struct mr_load_run *run, struct mr_load_worker *workers,
                         uint32_t count)
{
    *sample = (struct mr_load_sample){.at_ns = mono_ns()};
    for (uint32_t at = 0; at < count; at++) {
        sample_worker(sample, &workers[at]);
    }
    sample_system(sample);
    sample_disks(sample);
    if (run->options->pid != 0) {
        sample_broker(sample, run->options->pid);
    }
}

/* ---- judging ---- */

__attribute__((format(printf, 2, 3))) static void reason(struct mr_load_result *result, const char *format, ...)
{
    va_list args;
    if (result->reason_count < 4) {
        va_start(args, format);
        vsnprintf(result->reasons[result->reason_count++], sizeof result->reasons[0], format, args);
        va_end(args);
    }
}

static double seconds_of(const struct mr_load_result *result)
{
    double seconds = (double)(result->to.at_ns - result->from.at_ns) * 1e-9;
    return seconds > 0 ? seconds : 1e-9;
}

static void judge_schedule(struct mr_load_result *result)
{
    const struct mr_load_run *run = result->run;
    double   seconds = seconds_of(result);
    double   rate = (double)(result->to.requests - result->from.requests) / seconds;
    uint64_t late_us = mr_load_hist_percentile_us(&result->lateness, 99);
    double   measured_us = (double)mr_load_hist_percentile_us(&result->produced, 99);
    /* Of random arrivals there may be fewer by chance: three standard deviations. */
    double   slack = run->options->arrivals == MR_LOAD_POISSON ? 3 * sqrt(run->rate_per_s * seconds) : 0;
    double   busiest = (result->to.busiest_cpu_s - result->from.busiest_cpu_s) / seconds;
    if (run->rate_per_s > 0 && late_us > LATE_US && (double)late_us > LATE_PART * measured_us) {
        result->is_valid = false;
        reason(result, "the generator did not keep its schedule: 1 in 100 requests was sent %" PRIu64 " us late", late_us);
    }
    if (run->rate_per_s > 0 && rate * seconds + slack < 0.99 * run->rate_per_s * seconds) {
        result->is_saturated = true;
        reason(result, "%.0f of %.0f requests per second were answered: latencies grow with the length of the run", rate,
               run->rate_per_s);
    }
    if (run->rate_per_s == 0 && busiest > 0.95) {
        result->is_valid = false;
        reason(result, "a generator thread used %.0f %% of its CPU: the rate is the generator's, not the broker's",
               busiest * 100);
    }
}

/* What was answered beside the load, of what was to be asked. */
static void judge_beside(struct mr_load_result *result, const char *what, uint64_t count, double asked_per_s)
{
    double per_s = (double)count / seconds_of(result);
    if (per_s < 0.95 * asked_per_s) {
        result->is_saturated = true;
        reason(result, "%.0f of %.0f %s per second were answered", per_s, asked_per_s, what);
    }
}

static void judge(struct mr_load_result *result)
{
    const struct mr_load_options *options = result->run->options;
    result->is_valid = true;
    if (result->last.errors > 0) {
        result->is_failed = true;
        for (uint32_t at = 0; at < result->worker_count; at++) {
            if (result->workers[at].error[0] != '\0') {
                reason(result, "%" PRIu64 " errors, first: %.250s", result->last.errors, result->workers[at].error);
                break;
            }
        }
    }
    if (result->last.waiting > 0) {
        result->is_failed = true;
        reason(result, "%" PRIu64 " requests were never answered", result->last.waiting);
    }
    if (options->producers > 0 && result->last.requests == result->from.requests) {
        result->is_failed = true;
        reason(result, "nothing was acknowledged in the measured time");
    }
    if (options->committers > 0 && result->last.commits == result->from.commits) {
        result->is_failed = true;
        reason(result, "no commit was acknowledged in the measured time");
    }
    if (options->consumers > 0 && result->last.fetched_records == 0) {
        result->is_failed = true;
        reason(result, "nothing was read");
    }
    judge_schedule(result);
    judge_beside(result, "connections", result->to.connects - result->from.connects, options->storm);
    judge_beside(result, "commits", result->to.commits - result->from.commits, options->committers > 0 ? options->commit_rate : 0);
    if (result->run->verify != NULL && options->consumers > 0) {
        result->is_verified = mr_load_verify_end(result->run->verify);
        result->is_failed = result->is_failed || !result->is_verified;
        for (uint32_t at = 0; !result->is_verified && at < result->run->verify->reader_count; at++) {
            if (result->run->verify->readers[at].first[0] != '\0') {
                reason(result, "verify: %.200s", result->run->verify->readers[at].first);
                break;
            }
        }
    }
    result->is_valid = result->is_valid && !result->is_failed;
}

void mr_load_result_finish(struct mr_load_result *result)
{
    char path[64];
    char text[4096];
    for (uint32_t at = 0; at < result->worker_count; at++) {
        mr_load_hist_add(&result->produced, &result->workers[at].produced);
        mr_load_hist_add(&result->end_to_end, &result->workers[at].end_to_end);
        mr_load_hist_add(&result->fetched, &result->workers[at].fetched);
        mr_load_hist_add(&result->connected, &result->workers[at].connected);
        mr_load_hist_add(&result->committed, &result->workers[at].committed);
        mr_load_hist_add(&result->lateness, &result->workers[at].lateness);
    }
    if (result->run->options->pid != 0) {
        snprintf(path, sizeof path, "/proc/%" PRIu64 "/status", result->run->options->pid);
        slurp(path, text, sizeof text);
        result->broker_rss_kib = number_after(text, "VmRSS:");
    }
    judge(result);
}

/* ---- text ---- */

static void print_hist(FILE *out, const char *name, const struct mr_load_hist *hist)
{
    if (hist->count == 0) {
        return;
    }
    fprintf(out, "  %-12s", name);
    for (size_t at = 0; at < PERCENT_COUNT; at++) {
        fprintf(out, "  %s %" PRIu64, percents[at].name, mr_load_hist_percentile_us(hist, percents[at].percent));
    }
    fprintf(out, " us  (%" PRIu64 ")\n", hist->count);
}

void mr_load_result_print(const struct mr_load_result *result, FILE *out)
{
    const struct mr_load_sample *a = &result->from;
    const struct mr_load_sample *b = &result->to;
    double                       s = seconds_of(result);
    double gb = (double)(b->bytes - a->bytes + b->fetched_bytes - a->fetched_bytes) * 1e-9;
    fprintf(out, "%s%s%.1f s measured: %s\n", result->run->options->title,
            result->run->options->title[0] == '\0' ? "" : ": ", s,
            result->is_failed      ? "FAILED"
            : !result->is_valid    ? "INVALID"
            : result->is_saturated ? "valid, the broker did not keep up"
                                   : "valid");
    for (uint32_t at = 0; at < result->reason_count; at++) {
        fprintf(out, "  %s\n", result->reasons[at]);
    }
    if (b->requests > a->requests) {
        fprintf(out, "  produced      %.0f requests/s, %.0f records/s, %.2f MB/s\n", (double)(b->requests - a->requests) / s,
                (double)(b->records - a->records) / s, (double)(b->bytes - a->bytes) / s * 1e-6);
    }
    if (b->fetches > a->fetches) {
        fprintf(out, "  fetched       %.0f requests/s, %.0f records/s, %.2f MB/s\n", (double)(b->fetches - a->fetches) / s,
                (double)(b->fetched_records - a->fetched_records) / s,
                (double)(b->fetched_bytes - a->fetched_bytes) / s * 1e-6);
    }
    if (b->connects > a->connects) {
        fprintf(out, "  connected     %.0f connections/s\n", (double)(b->connects - a->connects) / s);
    }
    if (b->commits > a->commits) {
        fprintf(out, "  committed     %.0f offsets/s\n", (double)(b->commits - a->commits) / s);
    }
    print_hist(out, "connect", &result->connected);
    print_hist(out, "produce", &result->produced);
    print_hist(out, "end to end", &result->end_to_end);
    print_hist(out, "fetch", &result->fetched);
    print_hist(out, "commit", &result->committed);
    print_hist(out, "lateness", &result->lateness);
    fprintf(out, "  generator     %.2f CPU s, %.3f CPU s/GB\n", b->generator_cpu_s - a->generator_cpu_s,
            gb > 0 ? (b->generator_cpu_s - a->generator_cpu_s) / gb : 0);
    if (result->run->options->pid != 0) {
        fprintf(out, "  broker        %.2f CPU s, %.3f CPU s/GB, %" PRIu64 " MiB\n", b->broker_cpu_s - a->broker_cpu_s,
                gb > 0 ? (b->broker_cpu_s - a->broker_cpu_s) / gb : 0, result->broker_rss_kib / 1024);
    }
    if (result->run->verify != NULL && result->run->options->consumers > 0) {
        for (uint32_t at = 0; at < result->run->verify->reader_count; at++) {
            const struct mr_load_reader *reader = &result->run->verify->readers[at];
            fprintf(out, "  verified      %" PRIu64 " right, %" PRIu64 " missing, %" PRIu64 " repeated, %" PRIu64 " damaged\n",
                    reader->right, reader->missing, reader->repeated, reader->damaged);
        }
    }
}

/* ---- JSON ---- */

static void json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
    }
    fputc('"', out);
}

/* Percentiles and every bucket that is not empty: [largest us, count]. */
static void json_hist(FILE *out, const char *name, const struct mr_load_hist *hist)
{
    fprintf(out, " \"%s\": {\"count\": %" PRIu64 ", \"mean\": %.1f, \"over_60_s\": %" PRIu64, name, hist->count,
            hist->count == 0 ? 0.0 : (double)hist->sum_us / (double)hist->count, hist->over);
    for (size_t at = 0; at < PERCENT_COUNT; at++) {
        fprintf(out, ", \"%s\": %" PRIu64, percents[at].name, mr_load_hist_percentile_us(hist, percents[at].percent));
    }
    fprintf(out, ", \"buckets\": [");
    const char *comma = "";
    for (uint32_t bucket = 0; bucket < MR_LOAD_HIST_BUCKETS; bucket++) {
        if (hist->counts[bucket] != 0) {
            fprintf(out, "%s[%" PRIu64 ",%" PRIu64 "]", comma, mr_load_hist_bucket_us(bucket), hist->counts[bucket]);
            comma = ",";
        }
    }
    fprintf(out, "]},\n");
}

static void json_options(FILE *out, const struct mr_load_options *o)
{
    fprintf(out, " \"options\": {");
    const char *comma = "";
#define JSON_TEXT(key_, name_)   fprintf(out, "%s\"%s\": ", comma, key_); json_text(out, o->name_)
#define JSON_COUNT(key_, name_)  fprintf(out, "%s\"%s\": %" PRIu64, comma, key_, o->name_)
#define JSON_BYTES(key_, name_)  JSON_COUNT(key_, name_)
#define JSON_TIME(key_, name_)   fprintf(out, "%s\"%s\": %.6g", comma, key_, (double)o->name_ * 1e-9)
#define JSON_FLAG(key_, name_)   fprintf(out, "%s\"%s\": %s", comma, key_, o->name_ ? "true" : "false")
#define JSON_RATE(key_, name_)   fprintf(out, "%s\"%s\": %.10g", comma, key_, o->name_)
#define JSON_CHOICE(key_, name_) fprintf(out, "%s\"%s\": %d", comma, key_, o->name_)
#define OPTION(kind_, name_, key_, ...) JSON_##kind_(key_, name_); comma = ", ";
#include "load_options.def"
#undef OPTION
    fprintf(out, "},\n");
}

static void json_rates(FILE *out, const struct mr_load_result *result)
{
    const struct mr_load_sample *a = &result->from;
    const struct mr_load_sample *b = &result->to;
    double                       s = seconds_of(result);
    double made = (double)(b->bytes - a->bytes) * 1e-9;
    double read = (double)(b->fetched_bytes - a->fetched_bytes) * 1e-9;
    double gb = made + read > 0 ? made + read : 1e-12;
    double wire = (double)(b->wire - a->wire + b->fetched_wire - a->fetched_wire) * 1e-9;
    double requests = (double)(b->requests - a->requests + b->fetches - a->fetches + b->commits - a->commits);
    requests = requests > 0 ? requests : 1;
    const struct {
        const char *name;
        double      value;
    } rows[] = {
        {"seconds", s},
        {"requests_per_s", (double)(b->requests - a->requests) / s},
        {"records_per_s", (double)(b->records - a->records) / s},
        {"mb_per_s", made * 1e3 / s},
        {"wire_mb_per_s", (double)(b->wire - a->wire) * 1e-6 / s},
        {"fetches_per_s", (double)(b->fetches - a->fetches) / s},
        {"fetched_records_per_s", (double)(b->fetched_records - a->fetched_records) / s},
        {"fetched_mb_per_s", read * 1e3 / s},
        {"fetched_wire_mb_per_s", (double)(b->fetched_wire - a->fetched_wire) * 1e-6 / s},
        {"commits_per_s", (double)(b->commits - a->commits) / s},
        {"connects_per_s", (double)(b->connects - a->connects) / s},
        {"generator_cpu_s", b->generator_cpu_s - a->generator_cpu_s},
        {"generator_cpu_s_per_gb", (b->generator_cpu_s - a->generator_cpu_s) / gb},
        {"generator_wait_s", b->generator_wait_s - a->generator_wait_s},
        {"broker_cpu_s", b->broker_cpu_s - a->broker_cpu_s},
        {"broker_cpu_s_per_gb", (b->broker_cpu_s - a->broker_cpu_s) / gb},
        {"broker_cpu_s_per_wire_gb", wire > 0 ? (b->broker_cpu_s - a->broker_cpu_s) / wire : 0},
        {"broker_cpu_us_per_request", (b->broker_cpu_s - a->broker_cpu_s) * 1e6 / requests},
        {"broker_switches_per_request", (double)(b->broker_switches - a->broker_switches) / requests},
        {"broker_rss_mib", (double)result->broker_rss_kib / 1024},
        {"system_busy_s", b->system_busy_s - a->system_busy_s},
        {"system_cpu_s_per_gb", (b->system_busy_s - a->system_busy_s) / gb},
        {"system_steal_s", b->system_steal_s - a->system_steal_s},
        {"disk_flushes", (double)(b->disk_flushes - a->disk_flushes)},
        {"disk_writes", (double)(b->disk_writes - a->disk_writes)},
        {"disk_bytes", (double)(b->disk_bytes - a->disk_bytes)},
        {"errors", (double)result->last.errors},
        {"fetched_records", (double)result->last.fetched_records},
        {"lost_connections", (double)result->last.lost},
        {"unanswered", (double)result->last.waiting},
    };
    for (size_t at = 0; at < sizeof rows / sizeof rows[0]; at++) {
        fprintf(out, " \"%s\": %.9g,\n", rows[at].name, rows[at].value);
    }
}

static void json_verify(FILE *out, const struct mr_load_result *result)
{
    const struct mr_load_verify *verify = result->run->verify;
    fprintf(out, " \"verify\": [");
    for (uint32_t at = 0; verify != NULL && result->run->options->consumers > 0 && at < verify->reader_count; at++) {
        const struct mr_load_reader *r = &verify->readers[at];
        fprintf(out, "%s{\"right\": %" PRIu64 ", \"missing\": %" PRIu64 ", \"repeated\": %" PRIu64 ", \"damaged\": %" PRIu64 "}",
                at == 0 ? "" : ", ", r->right, r->missing, r->repeated, r->damaged);
    }
    fprintf(out, "],\n");
}

bool mr_load_result_json(const struct mr_load_result *result, const char *path)
{
    struct utsname kernel = {0};
    FILE          *out = fopen(path, "w");
    if (out == NULL) {
        return false;
    }
    uname(&kernel);
    fprintf(out, "{\n \"millrace_load\": \"" MR_VERSION "\",\n \"kernel\": ");
    json_text(out, kernel.release);
    fprintf(out, ",\n \"valid\": %s,\n \"saturated\": %s,\n \"failed\": %s,\n \"reasons\": [",
            result->is_valid ? "true" : "false", result->is_saturated ? "true" : "false",
            result->is_failed ? "true" : "false");
    for (uint32_t at = 0; at < result->reason_count; at++) {
        fputs(at == 0 ? "" : ", ", out);
        json_text(out, result->reasons[at]);
    }
    fprintf(out, "],\n \"asked_requests_per_s\": %.9g,\n", result->run->rate_per_s);
    json_rates(out, result);
    json_verify(out, result);
    json_hist(out, "produce_us", &result->produced);
    json_hist(out, "e2e_us", &result->end_to_end);
    json_hist(out, "fetch_us", &result->fetched);
    json_hist(out, "connect_us", &result->connected);
    json_hist(out, "commit_us", &result->committed);
    json_hist(out, "lateness_us", &result->lateness);
    json_options(out, result->run->options);
    fprintf(out, " \"end\": true\n}\n");
    return fclose(out) == 0;
}

/* ---- live ---- */

bool mr_load_live_open(struct mr_load_live *live, const struct mr_load_options *options)
{
    *live = (struct mr_load_live){.is_shown = options->live};
    if (options->csv[0] != '\0') {
        live->csv = fopen(options->csv, "w");
        if (live->csv == NULL) {
            return false;
        }
        fprintf(live->csv, "seconds,phase,requests_per_s,mb_per_s,fetched_mb_per_s,p50_us,p99_us,p99.9_us,max_us,"
                           "waiting,errors\n");
    }
    return true;
}

void mr_load_live_tick(struct mr_load_live *live, const struct mr_load_run *run, struct mr_load_worker *workers,
                       uint32_t count)
{
    struct mr_load_sample now;
    mr_load_sample_take(&now, run, workers, count);
    memset(&live->now, 0, sizeof live->now);
    for (uint32_t at = 0; at < count; at++) {
        mr_load_hist_add(&live->now, run->options->e2e         ? &workers[at].end_to_end
                                     : run->options->producers ? &workers[at].produced
                                                               : &workers[at].fetched);
    }
    struct mr_load_hist *all = &live->now;
    struct mr_load_hist  second = *all;
    mr_load_hist_subtract(&second, &live->seen);
    live->seen = *all;
    uint64_t    from_ns = live->before.at_ns == 0 ? run->start_ns : live->before.at_ns;
    double      s = (double)(now.at_ns - from_ns) * 1e-9;
    double      at_s = (double)(now.at_ns - run->start_ns) * 1e-9;
    double      left_s = now.at_ns < run->end_ns ? (double)(run->end_ns - now.at_ns) * 1e-9 : 0;
    const char *phase = now.at_ns < run->measure_ns ? "warm" : now.at_ns < run->end_ns ? "run" : "drain";
    double      rate = (double)(now.requests - live->before.requests + now.fetches - live->before.fetches + now.commits -
                                  live->before.commits) /
                         s;
    double      mb = (double)(now.bytes - live->before.bytes) * 1e-6 / s;
    double      fetched = (double)(now.fetched_bytes - live->before.fetched_bytes) * 1e-6 / s;
    uint64_t    p50 = mr_load_hist_percentile_us(&second, 50);
    uint64_t    p99 = mr_load_hist_percentile_us(&second, 99);
    uint64_t    p999 = mr_load_hist_percentile_us(&second, 99.9);
    if (live->is_shown) {
        fprintf(stderr, "%6.1f s %-5s %9.0f req/s %9.2f MB/s in %9.2f MB/s out  p50 %" PRIu64 " p99 %" PRIu64 " p99.9 %" PRIu64
                        " max %" PRIu64 " us  waiting %" PRIu64 "  errors %" PRIu64 "  %.0f s left\n",
                at_s, phase, rate, mb, fetched, p50, p99, p999, second.max_us, now.waiting, now.errors, left_s);
    }
    if (live->csv != NULL) {
        fprintf(live->csv, "%.3f,%s,%.1f,%.3f,%.3f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", at_s,
                phase, rate, mb, fetched, p50, p99, p999, second.max_us, now.waiting, now.errors);
    }
    live->before = now;
}

void mr_load_live_close(struct mr_load_live *live)
{
    if (live->csv != NULL) {
        fclose(live->csv);
    }
}
