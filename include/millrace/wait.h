/*
 * wait: a thread's one wait, and the doorbell that ends it.
 *
 * Each core owns one io_uring. The transport, the disk and the doorbell get it at init and mark
 * their completions with a tag in the low bits of user_data; wait distributes completions into a
 * queue per tag. mr_wait() submits everything queued and sleeps until a completion, a doorbell or
 * `until_ns`. Edge: control/boot/wait_uring.c; simulated twin: tests/sim/sim_wait.c.
 *
 * The sleep protocol is Dekker's: the consumer sets `sleeping`, fences, re-checks its rings, then
 * waits; the producer publishes, fences, reads `sleeping`, then rings. One of them sees the other.
 */
#ifndef MILLRACE_WAIT_H
#define MILLRACE_WAIT_H

#include "millrace/base/err.h"
#include "millrace/base/time.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* user_data = pointer | tag; the pointers are at least 8-byte aligned. */
enum mr_wait_tag {
    MR_WAIT_TAG_WAIT = 0,
    MR_WAIT_TAG_TRANSPORT = 1,
    MR_WAIT_TAG_DISK = 2,
    MR_WAIT_TAG_COUNT = 3,
};
#define MR_WAIT_TAG_MASK 7u

/* A copy of an io_uring completion, without the ring's header. */
struct mr_completion {
    uint64_t user_data;
    int32_t  res;
    uint32_t flags;
};

/* What another thread needs to wake this one. */
struct mr_doorbell {
    alignas(64) _Atomic uint32_t sleeping;
    int event_fd;
};

struct mr_wait;
struct io_uring;

/* The ring, for preparing submissions (edge files only). NULL in the simulator. */
struct io_uring *mr_wait_ring(struct mr_wait *wait);

/* A submission entry; submits what is queued when the ring is full, so it never returns NULL. */
struct io_uring_sqe;
struct io_uring_sqe *mr_wait_sqe(struct mr_wait *wait);

/* Completions that arrived for `tag`, at most `max`, in order. */
uint32_t mr_wait_take(struct mr_wait *wait, enum mr_wait_tag tag, struct mr_completion *out, uint32_t max);

/* Completions for `tag` that can be taken without a system call. */
uint32_t mr_wait_ready(const struct mr_wait *wait, enum mr_wait_tag tag);

/* Submit everything queued and look for completions; sleeps until one arrives, the doorbell rings
 * or `until_ns` (monotonic) is reached; until_ns == 0 only submits and looks. */
void mr_wait(struct mr_wait *wait, uint64_t until_ns);

#endif
