#include "load_worker.h"

#include "load_commit.h"
#include "load_consume.h"
#include "load_produce.h"
#include "load_storm.h"

#include "millrace/base/time.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_ENTRIES 4096u
#define NAP_NS       (50 * MR_NS_PER_MS) /* the longest sleep: flags of the run are seen in time */

void mr_load_worker_fail(struct mr_load_worker *worker, const char *what)
{
    mr_load_count(&worker->counts.errors, 1);
    if (worker->error[0] == '\0') {
        snprintf(worker->error, sizeof worker->error, "%s", what);
    }
}

/* How many of `total` things belong to worker `index` of `of`: those whose number is index modulo of. */
static uint32_t share_of(uint64_t total, uint32_t index, uint32_t of)
{
    return (uint32_t)((total + of - 1 - index) / of);
}

static bool open_idle(struct mr_load_worker *worker, uint32_t count)
{
    worker->idle_fds = calloc(count + 1, sizeof *worker->idle_fds);
    for (; worker->idle_fds != NULL && worker->idle_count < count; worker->idle_count++) {
        int fd = mr_load_wire_connect(worker->run->options->broker, worker->error, sizeof worker->error);
        if (fd < 0) {
            return false;
        }
        worker->idle_fds[worker->idle_count] = fd;
    }
    return worker->idle_fds != NULL;
}

static bool open_committers(struct mr_load_worker *worker, uint32_t count)
{
    uint32_t of = (uint32_t)worker->run->options->threads;
    worker->committers = calloc(count + 1, sizeof *worker->committers);
    for (; worker->committers != NULL && worker->committer_count < count; worker->committer_count++) {
        if (!mr_load_committer_open(&worker->committers[worker->committer_count], worker,
                                    worker->committer_count * of + worker->index)) {
            return false;
        }
    }
    return worker->committers != NULL;
}

static bool open_all(struct mr_load_worker *worker)
{
    const struct mr_load_run     *run = worker->run;
    const struct mr_load_options *options = run->options;
    uint32_t                      index = worker->index;
    uint32_t                      of = (uint32_t)options->threads;
    uint32_t producers = share_of(options->producers, index, of);
    uint32_t consumers = share_of(options->consumers, index, of);
    worker->producers = calloc(producers + 1, sizeof *worker->producers);
    worker->consumers = calloc(consumers + 1, sizeof *worker->consumers);
    worker->due_ns = malloc((producers + 1) * sizeof *worker->due_ns);
    worker->scratch = malloc(MR_LOAD_SCRATCH);
    if (worker->producers == NULL || worker->consumers == NULL || worker->due_ns == NULL || worker->scratch == NULL) {
        snprintf(worker->error, sizeof worker->error, "out of memory");
        return false;
    }
    memset(worker->due_ns, 0xff, (producers + 1) * sizeof *worker->due_ns); /* MR_NEVER */
    if (!mr_load_loop_init(&worker->loop, RING_ENTRIES)) {
        snprintf(worker->error, sizeof worker->error, "io_uring: %s (kernel 6.1 or newer, and permission, are needed)",
                 strerror(errno));
        return false;
    }
    for (; worker->producer_count < producers; worker->producer_count++) {
        if (!mr_load_producer_open(&worker->producers[worker->producer_count], worker,
                                   worker->producer_count * of + index, worker->producer_count)) {
            return false;
        }
    }
    for (; worker->consumer_count < consumers; worker->consumer_count++) {
        if (!mr_load_consumer_open(&worker->consumers[worker->consumer_count], worker,
                                   worker->consumer_count * of + index)) {
            return false;
        }
    }
    if (options->storm > 0) {
        worker->storm = mr_load_storm_open(worker, options->storm / of);
        if (worker->storm == NULL) {
            return false;
        }
    }
    return open_committers(worker, share_of(options->committers, index, of)) && open_idle(worker, share_of(options->idle, index, of));
}

/* Everything that is due; the earliest that will be. */
static uint64_t send_due(struct mr_load_worker *worker)
{
    uint64_t next_ns = MR_NEVER;
    for (uint32_t at = 0; at < worker->producer_count; at++) {
        if (worker->due_ns[at] <= worker->loop.now_ns) {
            mr_load_producer_turn(&worker->producers[at]);
        }
        next_ns = mr_earlier(next_ns, worker->due_ns[at]);
    }
    for (uint32_t at = 0; at < worker->committer_count; at++) {
        next_ns = mr_earlier(next_ns, mr_load_committer_turn(&worker->committers[at]));
    }
    return worker->storm == NULL ? next_ns : mr_earlier(next_ns, mr_load_storm_turn(worker->storm));
}

static void count_waiting(struct mr_load_worker *worker)
{
    uint64_t waiting = 0;
    for (uint32_t at = 0; at < worker->producer_count; at++) {
        waiting += worker->producers[at].open;
    }
    for (uint32_t at = 0; at < worker->committer_count; at++) {
        waiting += worker->committers[at].caller.is_waiting ? 1u : 0u;
    }
    atomic_store_explicit(&worker->counts.waiting, waiting, memory_order_relaxed);
}

static void generate(struct mr_load_worker *worker)
{
    const struct mr_load_run *run = worker->run;
    struct mr_load_loop      *loop = &worker->loop;
    bool                      is_stopping = false;
    for (uint32_t at = 0; at < worker->producer_count; at++) {
        mr_load_producer_start(&worker->producers[at]);
    }
    for (uint32_t at = 0; at < worker->committer_count; at++) {
        mr_load_committer_start(&worker->committers[at]);
    }
    if (worker->storm != NULL) {
        mr_load_storm_start(worker->storm);
    }
    while (!atomic_load_explicit(&run->is_ended, memory_order_relaxed)) {
        if (!is_stopping && atomic_load_explicit(&run->is_stopping, memory_order_relaxed)) {
            is_stopping = true;
            for (uint32_t at = 0; at < worker->producer_count; at++) {
                mr_load_producer_stop(&worker->producers[at]);
            }
        }
        uint64_t until_ns = mr_earlier(send_due(worker), loop->now_ns + NAP_NS);
        for (uint32_t at = 0; at < worker->consumer_count; at++) {
            mr_load_consumer_turn(&worker->consumers[at]);
        }
        count_waiting(worker);
        bool is_near = until_ns <= loop->now_ns + run->options->spin_ns;
        mr_load_loop_turn(loop, is_near ? 0 : until_ns);
    }
}

static void *worker_main(void *argument)
{
    struct mr_load_worker *worker = argument;
    worker->tid = gettid();
    bool is_open = open_all(worker);
    atomic_store(&worker->state, is_open ? MR_LOAD_WORKER_READY : MR_LOAD_WORKER_FAILED);
    while (is_open && !atomic_load(&worker->run->is_started) && !atomic_load(&worker->run->is_ended)) {
        usleep(200);
    }
    if (is_open) {
        generate(worker);
    }
    return NULL;
}

bool mr_load_worker_start(struct mr_load_worker *worker, const struct mr_load_run *run, uint32_t index)
{
    worker->run = run;
    worker->index = index;
    worker->has_thread = pthread_create(&worker->thread, NULL, worker_main, worker) == 0;
    return worker->has_thread;
}

void mr_load_worker_stop(struct mr_load_worker *worker)
{
    if (worker->has_thread) {
        pthread_join(worker->thread, NULL);
    }
    for (uint32_t at = 0; at < worker->producer_count; at++) {
        mr_load_producer_close(&worker->producers[at]);
    }
    for (uint32_t at = 0; at < worker->consumer_count; at++) {
        mr_load_consumer_close(&worker->consumers[at]);
    }
    for (uint32_t at = 0; at < worker->idle_count; at++) {
        close(worker->idle_fds[at]);
    }
    if (worker->loop.ring.ring_fd > 0) {
        mr_load_loop_deinit(&worker->loop);
    }
    for (uint32_t at = 0; at < worker->committer_count; at++) {
        mr_load_committer_close(&worker->committers[at]);
    }
    free(worker->committers);
    mr_load_storm_close(worker->storm);
    free(worker->producers);
    free(worker->consumers);
    free(worker->idle_fds);
    free(worker->due_ns);
    free(worker->scratch);
}
