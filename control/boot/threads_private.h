/*
 * threads_private: what the broker's threads share: their state, and what each does at the end of a turn.
 *
 *   threads.c         builds everything, starts the threads, waits for signals and for the end
 *   thread_turn.c     clocks, doorbells, sleep: the same for every thread with a loop
 *   core_thread.c     data and storage cores
 *   control_thread.c  control
 *
 * There is one broker in a process: mr_broker. What a thread may touch of it: its own struct mr_thread, and what says so.
 */
#ifndef MILLRACE_BOOT_THREADS_PRIVATE_H
#define MILLRACE_BOOT_THREADS_PRIVATE_H

#include "boot/sampler.h"
#include "boot/threads.h"
#include "boot/wait_uring.h"

#include <pthread.h>
#include <stdatomic.h>

/* What every thread with a loop has. */
struct mr_thread {
    pthread_t id;
    bool is_started;
    char name[12];
    struct mr_doorbell bell;
    struct mr_wait *wait;
    struct mr_log log;
    struct mr_trace trace; /* of a core */
    struct mr_arena arena;
    uint64_t spin_ns; /* halves itself while it does not pay */
    uint32_t vain_spins;
    bool is_told; /* control: that the broker is to stop */
    uint64_t sampled; /* the last number that the sampler asked for and got */
};

/* A storage core: one log directory's in a thread. */
struct mr_shard {
    uint32_t number; /* among all storage cores */
    struct mr_storage_core *storage;
    struct mr_port *port;
    struct mr_disk *disk;
    struct mr_arena arena; /* a part of the thread's */
    bool is_trimmed; /* what recovery took went back */
};

struct mr_core_thread {
    struct mr_thread thread;
    uint32_t index;         /* of the core thread */
    int32_t cpu;            /* to be pinned to */
    int32_t data_core;      /* -1: not its role */
    int32_t storage_thread; /* likewise */
    struct mr_data_core *data;
    struct mr_port *data_port;
    struct mr_transport *transport;
    uint32_t shard_count;
    struct mr_shard shards[MR_DIRS_MAX];
};

struct mr_broker {
    const struct mr_threads_params *params;
    const struct mr_plan *plan;
    struct mr_arena plane_arena;
    struct mr_port *ports[MR_ENDPOINTS_MAX];
    struct mr_doorbell *bells[MR_ENDPOINTS_MAX]; /* of the thread an endpoint lives in */
    struct mr_core_thread cores[MR_CORES_MAX * 2];
    struct mr_thread control_thread;
    struct mr_control *control;
    struct mr_sampler sampler;
    _Atomic bool is_running; /* threads are at their loops: the sampler may ask */
    struct mr_log main_log;
    struct mr_arena main_arena;
    pthread_barrier_t ready; /* all threads have their parts, or failed to */
    _Atomic int init_failures;
    _Atomic bool is_stop_wanted; /* SIGTERM: control begins to stop */
    _Atomic bool is_over;        /* control has ended: cores leave their loops */
    _Atomic int exit_code;
    _Atomic uint64_t stop_hurry;
    int over_fd; /* tells the main thread that control has ended */
};

extern struct mr_broker mr_broker;

/* A port that waits for room in a ring looks again soon: nobody rings when a ring empties. */
#define MR_THREAD_SPILL_NS (50 * MR_NS_PER_US)

struct mr_now mr_thread_clocks(void);

/* From the kernel; it is there before the first thread. */
uint64_t mr_thread_seed(void);

/* Publish a port's messages and wake whoever got one; the own thread's endpoints need no bell. */
void mr_thread_flush(struct mr_port *port, const struct mr_doorbell *own);

/* Wake the writer of log lines when the thread has said something. */
void mr_thread_poke_log(const struct mr_thread *thread);

/* Whether the kernel has completed something that nobody has reaped. */
bool mr_thread_has_completions(const struct mr_thread *thread);

/* Whether somebody wants a copy of what this thread has counted. */
bool mr_thread_is_sample_wanted(const struct mr_thread *thread);

/*
 * Sleep until something happens, after a turn without work. `mail` says whether a message can be
 * received; it is asked again after `sleeping` is set (Dekker, wait.h).
 */
void mr_thread_idle(struct mr_thread *thread, uint64_t now_ns, uint64_t deadline_ns, bool (*mail)(const void *),
                    const void *who);

/* Ring every thread's bell. Any thread. */
void mr_thread_wake_all(void);

/* First in a thread: its name, its CPU (-1: any), its ring. A failure is logged and counted in init_failures. */
void mr_thread_begin(struct mr_thread *thread, int32_t cpu);

/* A disk on the thread's ring, in its arena; NULL: it cannot be had. */
struct mr_disk *mr_thread_disk(struct mr_thread *thread);

/* The threads themselves; `argument`: the struct mr_core_thread, and NULL. */
void *mr_core_thread_main(void *argument);
void *mr_control_thread_main(void *argument);

#endif
