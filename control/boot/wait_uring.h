/*
 * wait_uring: the real wait (wait.h) on an io_uring of its own, and the ringing of doorbells.
 *
 * Threads: init in the thread that will use the wait (the ring accepts submissions from no other);
 * mr_doorbell_ring from any.
 */
#ifndef MILLRACE_CONTROL_WAIT_URING_H
#define MILLRACE_CONTROL_WAIT_URING_H

#include "millrace/wait.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens the event descriptor. False when the process has none left. */
bool mr_doorbell_init(struct mr_doorbell *bell);
void mr_doorbell_deinit(struct mr_doorbell *bell);

/* Wake the sleeper, if it sleeps: a system call only then. */
void mr_doorbell_ring(struct mr_doorbell *bell);

/*
 * The sleeper's side: after it the owner re-checks its mail and may then mr_wait(); awake ends it.
 */
void mr_doorbell_sleep(struct mr_doorbell *bell);
void mr_doorbell_awake(struct mr_doorbell *bell);

size_t mr_wait_uring_bytes(uint32_t entries);

/*
 *   memory    mr_wait_uring_bytes(entries), cleared, 64-byte aligned
 *   entries   submissions that may be queued, a power of two
 *   os_errno  [out] why, when NULL is returned
 */
struct mr_wait *mr_wait_uring_init(void *memory, uint32_t entries, struct mr_doorbell *bell,
                                   int *os_errno);
void mr_wait_uring_deinit(struct mr_wait *wait);

/*
 * Whether this process may use io_uring, and the operations we need. False: `why` says what forbids it
 * and what to do about it, for Docker, Podman and systemd.
 */
bool mr_wait_uring_probe(char *why, size_t why_size);

#endif
