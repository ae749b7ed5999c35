/*
 * data_core: what the files of a data core share. One turn: poll, sessions, rings in, deadlines,
 * rings out; all protocol work is in broker/.
 */
#ifndef MILLRACE_DATA_CORE_H
#define MILLRACE_DATA_CORE_H

#include "broker/encode.h"
#include "broker/fetch_session.h"
#include "broker/intake.h"
#include "broker/limits.h"
#include "broker/purgatory.h"
#include "broker/relief.h"
#include "broker/scratch.h"
#include "broker/session.h"
#include "millrace/base/pool.h"
#include "millrace/base/prng.h"
#include "millrace/base/timer.h"
#include "millrace/dataplane.h"
#include "millrace/metadata.h"

#define MR_DATA_EVENTS_MAX 256u

enum mr_data_life {
    MR_DATA_QUIET, /* not listening yet */
    MR_DATA_SERVING,
    MR_DATA_DRAINING, /* no new connections, open requests are answered */
    MR_DATA_DRAINED,
};

enum mr_data_timer {
    MR_DATA_TIMER_IDLE,  /* struct mr_session.idle */
    MR_DATA_TIMER_FETCH, /* struct mr_fetch.timer */
    MR_DATA_TIMER_DRAIN,
    MR_DATA_TIMER_INTAKE,
    MR_DATA_TIMER_RELIEF,
};

struct mr_data_core {
    struct mr_data_plan plan;
    const struct mr_config *config;
    const struct mr_endpoints *endpoints;
    uint32_t index;
    struct mr_port *port;
    struct mr_transport *transport;
    struct mr_log *log;
    struct mr_trace *trace; /* NULL: nothing is traced */
    struct mr_prng prng;

    struct mr_now now;
    const struct mr_image *image; /* NULL before the first */
    enum mr_data_life life;
    struct mr_timer drain_timer;
    struct mr_timers timers;

    struct mr_pool sessions;
    struct mr_pool pieces;
    struct mr_list session_list; /* least recently active first */
    struct mr_list runnable;
    struct mr_list starved; /* sessions whose next request waits for memory */
    bool has_room;          /* a request ended: the starved may try again */
    uint64_t next_conn_id;
    uint32_t closing_count; /* sessions that are being closed */

    struct mr_pool requests;
    uint32_t requests_max;
    struct mr_scratch scratch;
    struct mr_arena check; /* mr_batch_check's, reset for each batch */
    struct mr_encode encode;

    struct mr_intake intake;
    struct mr_limits limits;
    struct mr_purgatory purgatory;
    struct mr_relief relief;
    struct mr_fetch_sessions fetch_sessions;
    struct mr_list creating; /* topics under automatic creation (handle_metadata.c) */

    struct mr_log_brake brake_frame;  /* refused frames */
    struct mr_log_brake brake_refuse; /* refused connections */
    struct mr_log_brake brake_memory;

    struct mr_data_stats stats;

    /* Of the turn. Not on the stack, where the compiler clears them: 14 KiB, at every turn. */
    struct mr_net_event events[MR_DATA_EVENTS_MAX];
};

/* Send RELEASE for every page in the list. */
void mr_data_core_release(struct mr_data_core *core, const struct mr_lent *lent);

#endif
