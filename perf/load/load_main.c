/* load_main: millrace-load: arguments > topic > threads > measured time > drain > result. */
#include "load_produce.h"
#include "load_report.h"
#include "load_topic.h"
#include "load_verify.h"
#include "load_worker.h"

#include "millrace/base/assert.h"
#include "millrace/base/time.h"
#include "millrace/kafka/api.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    EXIT_GOOD = 0,
    EXIT_FAILED = 1,  /* errors, unanswered requests, records not as written */
    EXIT_USAGE = 2,   /* refused before anything was sent */
    EXIT_INVALID = 3, /* the generator could not do what was asked */
};

#define SCENARIO_MAX (64u << 10)
#define STEP_US      2000
#define ASK_NS       (100 * MR_NS_PER_MS) /* leaders are asked for no more often */

static volatile sig_atomic_t is_interrupted;

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "millrace-load: broken invariant: %s:%d: %s\n", file, line, what);
    abort();
}

static int refuse(const char *why)
{
    fprintf(stderr, "millrace-load: %s\n", why);
    return EXIT_USAGE;
}

static void usage(void)
{
    puts("millrace-load [SCENARIO-FILE...] [KEY=VALUE...]: load on a Kafka-compatible broker, and what came of it\n");
    puts("  --verify is verify=yes. Exit: 0 valid, 1 errors or wrong records, 2 refused, 3 the generator was too slow.\n");
    puts("  key                    built-in         meaning");
    mr_load_options_help();
}

static bool read_scenario(struct mr_load_options *options, const char *path, char *why, size_t why_size)
{
    char *text = calloc(1, SCENARIO_MAX);
    FILE *file = fopen(path, "r");
    bool  is_read = false;
    if (file == NULL || text == NULL) {
        snprintf(why, why_size, "%.200s is neither KEY=VALUE nor a scenario file: %s", path, strerror(errno));
    } else {
        text[fread(text, 1, SCENARIO_MAX - 1, file)] = '\0';
        is_read = mr_load_options_text(options, path, text, why, why_size);
    }
    if (file != NULL) {
        fclose(file);
    }
    free(text);
    return is_read;
}

static bool read_arguments(struct mr_load_options *options, int argc, char **argv, char *why, size_t why_size)
{
    mr_load_options_init(options);
    for (int at = 1; at < argc; at++) {
        const char *argument = strcmp(argv[at], "--verify") == 0 ? "verify=yes" : argv[at];
        bool        is_taken = strchr(argument, '=') != NULL ? mr_load_options_set(options, argument, why, why_size)
                                                             : read_scenario(options, argument, why, why_size);
        if (!is_taken) {
            return false;
        }
    }
    if (options->acked_in[0] != '\0') {
        options->from = MR_LOAD_EARLIEST;
        options->warmup_ns = 0;
    }
    return mr_load_options_check(options, why, why_size);
}

static void on_signal(int number)
{
    (void)number;
    is_interrupted = 1;
}

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- a run ---- */

static bool open_verify(struct mr_load_run *run, struct mr_load_verify *verify, char *why, size_t why_size)
{
    const struct mr_load_options *options = run->options;
    uint32_t readers = options->group[0] != '\0' ? 1 : (uint32_t)options->consumers;
    if (!options->verify) {
        return true;
    }
    run->verify = verify;
    if (options->acked_in[0] != '\0') {
        return mr_load_verify_load(verify, options, run->topic->partition_count, options->acked_in, why, why_size);
    }
    snprintf(why, why_size, "verify needs too much memory: producers x partitions x (consumers + 1) is over 2^26");
    return mr_load_verify_init(verify, options, (uint32_t)options->producers, run->topic->partition_count, readers);
}

/* Threads connect; all of them, or none begins. */
static bool start_workers(const struct mr_load_run *run, struct mr_load_worker *workers, uint32_t count, char *why,
                          size_t why_size)
{
    bool is_ready = true;
    for (uint32_t at = 0; at < count; at++) {
        if (!mr_load_worker_start(&workers[at], run, at)) {
            snprintf(why, why_size, "cannot start a thread");
            return false;
        }
    }
    for (uint32_t at = 0; at < count; at++) {
        while (atomic_load(&workers[at].state) == MR_LOAD_WORKER_OPENING) {
            usleep(STEP_US);
        }
        if (atomic_load(&workers[at].state) == MR_LOAD_WORKER_FAILED && is_ready) {
            snprintf(why, why_size, "%s", workers[at].error);
            is_ready = false;
        }
    }
    return is_ready;
}

/* Records that consumers still have to read before nothing is left. */
static uint64_t left_to_read(const struct mr_load_run *run, const struct mr_load_sample *now)
{
    const struct mr_load_options *options = run->options;
    uint64_t readers = options->group[0] != '\0' ? 1 : options->consumers;
    uint64_t all = now->records * readers;
    if (!(options->e2e || options->verify) || options->producers == 0) {
        return 0;
    }
    return all > now->fetched_records ? all - now->fetched_records : 0;
}

static uint64_t acked_total(const struct mr_load_verify *verify)
{
    uint64_t total = 0;
    for (uint64_t at = 0; at < (uint64_t)verify->producers * verify->partitions; at++) {
        total += verify->acked[at];
    }
    return total;
}

/* Leaders have moved: the threads that found out wait for us, because asking blocks. */
static void find_leaders(struct mr_load_result *result)
{
    bool is_wanted = false;
    for (uint32_t at = 0; at < result->worker_count && mono_ns() >= result->asked_ns + ASK_NS; at++) {
        is_wanted = atomic_exchange(&result->workers[at].wants_leaders, false) || is_wanted;
    }
    if (is_wanted) {
        mr_load_topic_refresh(result->run->topic);
        result->asked_ns = mono_ns();
    }
}

/* Until `until_ns`, or until enough was read, or Ctrl-C; a live line each second. */
static void watch(struct mr_load_result *result, struct mr_load_live *live, uint64_t until_ns, uint64_t enough)
{
    struct mr_load_sample now;
    for (uint64_t now_ns; (now_ns = mono_ns()) < until_ns && !is_interrupted;) {
        find_leaders(result);
        uint64_t tick_ns = (live->before.at_ns == 0 ? result->run->start_ns : live->before.at_ns) + MR_NS_PER_S;
        if (now_ns >= tick_ns) {
            mr_load_live_tick(live, result->run, result->workers, result->worker_count);
        }
        if (enough > 0) {
            mr_load_sample_take(&now, result->run, result->workers, result->worker_count);
            if (now.fetched_records >= enough || now.lost > 0) {
                return;
            }
        }
        uint64_t left_us = (until_ns - now_ns) / MR_NS_PER_US + 1;
        usleep((useconds_t)(left_us < STEP_US ? left_us : STEP_US));
    }
}

static void drain(struct mr_load_result *result, struct mr_load_live *live)
{
    const struct mr_load_run *run = result->run;
    uint64_t                  until_ns = mono_ns() + run->options->drain_ns;
    do {
        watch(result, live, mr_earlier(until_ns, mono_ns() + 5 * MR_NS_PER_MS), 0);
        mr_load_sample_take(&result->last, run, result->workers, result->worker_count);
        if (result->last.waiting == 0 && left_to_read(run, &result->last) == 0) {
            return;
        }
    } while (mono_ns() < until_ns && result->last.lost == 0 && !is_interrupted);
}

static void measure(struct mr_load_run *run, struct mr_load_result *result, struct mr_load_live *live)
{
    const struct mr_load_options *options = run->options;
    uint64_t enough = options->acked_in[0] != '\0' ? acked_total(run->verify) : options->limit;
    run->start_ns = mono_ns() + MR_NS_PER_MS;
    run->measure_ns = run->start_ns + options->warmup_ns;
    run->end_ns = run->measure_ns + options->duration_ns;
    atomic_store(&run->is_started, true);
    watch(result, live, run->measure_ns, 0);
    mr_load_sample_take(&result->from, run, result->workers, result->worker_count);
    watch(result, live, run->end_ns, enough);
    mr_load_sample_take(&result->to, run, result->workers, result->worker_count);
    atomic_store(&run->is_stopping, true);
    drain(result, live);
}

/* How far each producer got in each of its partitions; after the threads have stopped sending. */
static void collect_acked(struct mr_load_run *run, struct mr_load_worker *workers, uint32_t count)
{
    for (uint32_t at = 0; at < count && run->verify != NULL; at++) {
        for (uint32_t producer = 0; producer < workers[at].producer_count; producer++) {
            const struct mr_load_producer *p = &workers[at].producers[producer];
            for (uint32_t stream = 0; stream < p->stream_count; stream++) {
                run->verify->acked[(uint64_t)p->index * run->verify->partitions + (uint32_t)p->streams[stream].partition] =
                    p->streams[stream].acked;
            }
        }
    }
}

static int conclude(struct mr_load_result *result, char *why, size_t why_size)
{
    const struct mr_load_options *options = result->run->options;
    mr_load_result_finish(result);
    mr_load_result_print(result, stdout);
    if (options->json[0] != '\0' && !mr_load_result_json(result, options->json)) {
        snprintf(why, why_size, "%.200s: %s", options->json, strerror(errno));
        return refuse(why);
    }
    if (options->acked_out[0] != '\0' && !mr_load_verify_store(result->run->verify, options->acked_out, why, why_size)) {
        return refuse(why);
    }
    return result->is_failed ? EXIT_FAILED : result->is_valid ? EXIT_GOOD : EXIT_INVALID;
}

/* Threads have been asked to end: join, judge, free. */
static int run_workers(struct mr_load_run *run, char *why, size_t why_size)
{
    static struct mr_load_result result; /* histograms are too large for the stack */
    static struct mr_load_live   live;
    uint32_t                     count = (uint32_t)run->options->threads;
    struct mr_load_worker       *workers = calloc(count, sizeof *workers);
    int                          status = EXIT_USAGE;
    result = (struct mr_load_result){.run = run, .workers = workers, .worker_count = count};
    bool is_ready = workers != NULL && mr_load_live_open(&live, run->options) &&
                    start_workers(run, workers, count, why, why_size);
    if (is_ready) {
        measure(run, &result, &live);
        collect_acked(run, workers, count);
    }
    atomic_store(&run->is_ended, true);
    if (is_ready) {
        for (uint32_t at = 0; at < count; at++) {
            pthread_join(workers[at].thread, NULL);
            workers[at].has_thread = false;
        }
        status = conclude(&result, why, why_size);
    } else {
        (void)refuse(why);
    }
    for (uint32_t at = 0; workers != NULL && at < count; at++) {
        mr_load_worker_stop(&workers[at]);
    }
    mr_load_live_close(&live);
    free(workers);
    return status;
}

static int run_all(const struct mr_load_options *options)
{
    struct mr_load_wire   wire;
    struct mr_load_topic  topic;
    struct mr_load_verify verify = {0};
    char                  why[600] = "out of memory";
    struct mr_load_run    run = {.options = options, .topic = &topic, .rate_per_s = mr_load_options_rate(options)};
    if (!mr_load_wire_open(&wire, options->broker)) {
        return refuse(wire.error);
    }
    if (!mr_load_topic_open(&topic, &wire, options)) {
        return refuse(wire.error);
    }
    run.produce_version = mr_load_wire_version(&wire, MR_API_PRODUCE, 12);
    run.fetch_version = mr_load_wire_version(&wire, MR_API_FETCH, 12);
    if (run.produce_version < 3 || run.fetch_version < 4) {
        return refuse("the broker is too old: Produce 3 and Fetch 4 (Kafka 0.11) are needed");
    }
    int status = EXIT_USAGE;
    if (!mr_load_image_prepare(options) || !open_verify(&run, &verify, why, sizeof why)) {
        (void)refuse(why);
    } else {
        status = run_workers(&run, why, sizeof why);
    }
    if (options->cleanup && !mr_load_topic_delete(&wire, topic.name)) {
        fprintf(stderr, "millrace-load: %s\n", wire.error);
    }
    mr_load_verify_free(&verify);
    mr_load_topic_free(&topic);
    mr_load_wire_close(&wire);
    return status;
}

int main(int argc, char **argv)
{
    static struct mr_load_options options;
    struct rlimit                 files;
    char                          why[600];
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage();
        return argc < 2 ? EXIT_USAGE : EXIT_GOOD;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("millrace-load " MR_VERSION);
        return EXIT_GOOD;
    }
    if (!read_arguments(&options, argc, argv, why, sizeof why)) {
        return refuse(why);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGPIPE, SIG_IGN);
    return run_all(&options);
}
