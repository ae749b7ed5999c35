/*
 * intake: who may fill receive memory. A peer announces the size of a frame and owes the bytes, so
 * nothing is set aside for an announcement: a connection holds one window (MR_NET_WINDOW) for free
 * and asks for more as bytes really arrive, four times what it has, until the frame is whole.
 *
 * No deadlock: what is asked for beyond the windows stays below `limit`, except for one privileged
 * connection at a time, which may finish a frame of the largest size. Whole frames end by themselves.
 * A holder that sends nothing for MR_INTAKE_STALL_MS while others wait is closed.
 *
 * Thread: the data core.
 */
#ifndef MILLRACE_INTAKE_H
#define MILLRACE_INTAKE_H

#include "millrace/base/list.h"
#include "millrace/base/timer.h"

#include <stdint.h>

#define MR_INTAKE_STALL_MS 10000

struct mr_data_core;
struct mr_session;

struct mr_intake {
    uint64_t used;
    uint64_t limit;
    uint32_t frame_bytes_max; /* socket.request.max.bytes, as far as memory allows */
    struct mr_list waiting;
    struct mr_session *privileged;
    struct mr_timer timer; /* set while somebody waits */
};

void mr_intake_init(struct mr_data_core *core);

/* The session holds a part of a frame: let its window grow, now or when there is memory. */
void mr_intake_grow(struct mr_session *session);

/* The frame is whole, or will never be: returns what was reserved, which the caller gives back. */
uint32_t mr_intake_take(struct mr_session *session);
void mr_intake_give(struct mr_data_core *core, uint32_t reserved);

void mr_intake_timer(struct mr_data_core *core);

#endif
