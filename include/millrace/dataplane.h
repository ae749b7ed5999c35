/*
 * dataplane: a data core, opaque: client sessions over a transport, answers from the image and from
 * storage, everything else forwarded to control.
 */
#ifndef MILLRACE_DATAPLANE_H
#define MILLRACE_DATAPLANE_H

#include "millrace/base/arena.h"
#include "millrace/base/hash.h"
#include "millrace/base/log.h"
#include "millrace/base/time.h"
#include "millrace/base/trace.h"
#include "millrace/config.h"
#include "millrace/net/nic.h"
#include "millrace/net/transport.h"
#include "millrace/plane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Run-time sizes, from the plan. */
struct mr_data_plan {
    uint32_t connections_max;
    uint32_t requests_max;       /* open at once, all connections of the core */
    uint32_t request_scratch_bytes; /* arena of one open request */
    uint64_t receive_bytes;      /* buffers for bytes that arrived and are not consumed */
    uint32_t fetch_sessions_max; /* max.incremental.fetch.session.cache.slots */
    uint32_t fetch_partitions_max; /* partitions in all fetch sessions */
    uint32_t frame_bytes_max;    /* socket.request.max.bytes */
};

struct mr_data_core;

struct mr_data_params {
    const struct mr_data_plan *plan;
    const struct mr_config    *config;
    const struct mr_endpoints *endpoints;
    uint32_t                   core; /* index of the data core */
    struct mr_port            *port;
    struct mr_transport       *transport;
    struct mr_log             *log;
    struct mr_trace           *trace; /* may be NULL */
    struct mr_arena           *arena; /* everything comes out of it, at init; fresh, zero memory */
    uint64_t                   seed;
};

/* Bytes of arena that init takes, and the core made in them. */
size_t               mr_data_core_bytes(const struct mr_data_plan *plan);
struct mr_data_core *mr_data_core_init(const struct mr_data_params *params);

/* One turn: poll, sessions, mail in, deadlines, mail out. Returns whether there was work. */
bool     mr_data_core_turn(struct mr_data_core *core, struct mr_now now);
uint64_t mr_data_core_deadline_ns(const struct mr_data_core *core);

#define MR_DATA_API_KEYS     96u /* API keys are below it */
#define MR_DATA_TIME_BUCKETS 25u /* bucket n: below 2^n microseconds; the last one: any */

enum mr_data_timed {
    MR_DATA_TIMED_PRODUCE,
    MR_DATA_TIMED_FETCH,
    MR_DATA_TIMED_OTHER,
    MR_DATA_TIMED_COUNT,
};
struct mr_data_times {
    uint64_t counts[MR_DATA_TIME_BUCKETS];
    uint64_t sum_us;
};

struct mr_data_stats {
    uint64_t requests, bytes_in, bytes_out, connections_opened, connections_refused, frames_refused;
    uint64_t fetch_visits; /* partitions that fetches have looked at */
    uint32_t connections;
    uint64_t api_requests[MR_DATA_API_KEYS];
    struct mr_data_times times[MR_DATA_TIMED_COUNT];
};
/* A copy of the counters. Thread: the data core. */
void mr_data_core_stats(const struct mr_data_core *core, struct mr_data_stats *out);

/* Kernel sockets over io_uring (edge: dataplane/transport/transport_uring.c). */
struct mr_wait;
struct mr_transport_uring_params {
    struct mr_wait           *wait;
    struct mr_log            *log;
    struct mr_arena          *arena;
    const struct mr_endpoint *listeners;
    uint32_t                  listener_count;
    bool                      is_port_shared; /* SO_REUSEPORT: several data cores listen */
    uint32_t                  connections_max;
    uint64_t                  receive_bytes;
    int32_t                   socket_send_buffer_bytes; /* -1: the kernel's */
    int32_t                   socket_receive_buffer_bytes;
    int32_t                   listen_backlog;
};
size_t               mr_transport_uring_bytes(const struct mr_transport_uring_params *params);
struct mr_transport *mr_transport_uring_init(const struct mr_transport_uring_params *params);

/* Our own TCP/IP over a card (edge: dataplane/transport/transport_dpdk.c). */
struct mr_transport_dpdk_params {
    struct mr_wait             *wait;
    struct mr_log              *log;
    struct mr_arena            *arena;
    struct mr_nic              *nic;
    const struct mr_nic_params *nic_params;
    const struct mr_endpoint   *listeners;
    uint32_t                    listener_count;
    uint32_t                    connections_max;
    uint64_t                    receive_bytes;
    uint64_t                    spin_ns; /* how long a card that has become quiet is still asked */
    struct mr_hash_key          secret;  /* of this boot: sequence numbers, cookies */
};
size_t               mr_transport_dpdk_bytes(const struct mr_transport_dpdk_params *params);
struct mr_transport *mr_transport_dpdk_init(const struct mr_transport_dpdk_params *params);

#endif
