/*
 * load_worker: a generator thread: its share of the connections on one io_uring.
 *
 * A producer sends when its schedule says so and a place among its requests in flight is free; a request
 * that was due earlier counts from when it was due. A consumer always has one fetch under way.
 */
#ifndef MILLRACE_PERF_LOAD_WORKER_H
#define MILLRACE_PERF_LOAD_WORKER_H

#include "load_image.h"
#include "load_link.h"
#include "load_run.h"
#include "load_schedule.h"

struct mr_load_producer;
struct mr_load_consumer;
struct mr_load_storm;
struct mr_load_committer;

#define MR_LOAD_SCRATCH (8u << 20) /* bytes of a worker's scratch */

struct mr_load_worker {
    const struct mr_load_run *run;
    uint32_t                  index;
    bool                      has_thread;
    pthread_t                 thread;
    struct mr_load_loop       loop;
    struct mr_load_producer  *producers;
    uint32_t                  producer_count;
    uint64_t                 *due_ns; /* of each producer; MR_NEVER while it has no free place */
    struct mr_load_consumer  *consumers;
    uint32_t                  consumer_count;
    int                      *idle_fds;
    uint32_t                  idle_count;
    struct mr_load_storm     *storm; /* NULL: not asked for */
    struct mr_load_committer *committers;
    uint32_t                  committer_count;
    void                     *scratch; /* for the length of a call */

    struct mr_load_counts counts;
    struct mr_load_hist   produced;  /* answer - intended start         */
    struct mr_load_hist   end_to_end; /* fetched - intended start        */
    struct mr_load_hist   fetched;   /* a fetch and its answer          */
    struct mr_load_hist   connected; /* of a storm: answered - intended start */
    struct mr_load_hist   committed; /* of committers: answer - intended start */
    struct mr_load_hist   lateness;  /* of the generator itself         */
    _Atomic bool          wants_leaders; /* what it knows of them is old: the main thread asks */
    _Atomic int           state;     /* enum mr_load_worker_state */
    pid_t                 tid;
    char                  error[512]; /* the first */
};

enum mr_load_worker_state {
    MR_LOAD_WORKER_OPENING,
    MR_LOAD_WORKER_READY, /* waits for run->is_started */
    MR_LOAD_WORKER_FAILED,
};

/* Start the thread, worker `index` of options->threads: it connects everything and says so in `state`.
 * False: no thread. */
bool mr_load_worker_start(struct mr_load_worker *worker, const struct mr_load_run *run, uint32_t index);

/* An error of the run; the first is kept in words. */
void mr_load_worker_fail(struct mr_load_worker *worker, const char *what);

/* After run->is_ended: join the thread and free what it held. */
void mr_load_worker_stop(struct mr_load_worker *worker);

#endif
