/*
 * sim_wire: the network between one actor and the broker: two byte streams that are late, cut, half open
 * or read slowly, as the swarm says.
 *
 *   actor.out > up > sim_transport > broker > sim_transport > down > actor.feed
 *
 * TCP lies between the two ends, so bytes are neither lost nor doubled nor out of order within a
 * connection. What loss, duplication and reordering of packets do to a client is delay and resets, and
 * that a request was executed although its answer never came: the actor sends it again.
 *
 * late: a connection that the client gave up with requests on their way may go on by itself: they arrive when
 * the client has long sent them again, and gone on.
 *
 * Memory: malloc. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_WIRE_H
#define MILLRACE_TESTS_SIM_WIRE_H

#include "sim_actor.h"
#include "sim_swarm.h"
#include "sim_transport.h"

struct mr_sim_chunk;

struct mr_sim_pipe {
    struct mr_sim_chunk *first;
    struct mr_sim_chunk *last;
    uint64_t             delay_max_ns;
    uint64_t             closed_until_ns; /* a partition, in this direction */
};

#define MR_SIM_LATE_MAX 3u

/* A connection without a client. */
struct mr_sim_late {
    struct mr_sim_peer  *peer; /* NULL: none */
    struct mr_sim_chunk *chunk; /* on its way; NULL: it has arrived */
};

struct mr_sim_wire {
    struct mr_sim_actor *actor;
    struct mr_sim_swarm *swarm;
    struct mr_sim_peer  *peer; /* NULL: not connected */
    struct mr_sim_pipe   up;
    struct mr_sim_pipe   down;
    uint64_t             connect_ns;
    uint64_t             timeout_ns; /* of requests: then the connection is given up */
    uint32_t             take_max;   /* bytes read at once, less for a slow reader */
    struct mr_sim_late   late[MR_SIM_LATE_MAX];
    uint64_t             resets;
    uint32_t             half_open; /* connections left behind in this life of the broker */
    uint64_t             hash;      /* of everything that arrived */
};

void mr_sim_wire_init(struct mr_sim_wire *wire, struct mr_sim_actor *actor, struct mr_sim_swarm *swarm);

/* Connect when it is time, let the actor have its turn, move bytes. Returns whether anything moved. */
bool mr_sim_wire_step(struct mr_sim_wire *wire, struct mr_sim_net *net, struct mr_now now);

/* When the next step has something to do if nothing arrives. */
uint64_t mr_sim_wire_next_ns(const struct mr_sim_wire *wire, struct mr_now now);

/* The broker is gone, and its end of every connection. */
void mr_sim_wire_broken(struct mr_sim_wire *wire, struct mr_now now);

/* Whether bytes are on their way or a call waits. */
bool mr_sim_wire_is_busy(const struct mr_sim_wire *wire);

/* Close the connection for good. */
void mr_sim_wire_close(struct mr_sim_wire *wire, struct mr_now now);

#endif
