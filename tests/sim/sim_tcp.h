/*
 * sim_tcp: two of our TCP stacks and a bad path between them, in simulated time.
 *
 * A seed draws the path, the settings of both stacks and some connections: who opens (or both at once), how much each side
 * sends in which pieces, how slowly it reads, how it ends. Checked after every event: the invariants of mr_tcp_check();
 * every received byte is the one that was sent, in order; a span is not touched by us until it is reported as sent and is
 * poisoned then. At the end: everything arrived where nobody aborted, both sides know, and no memory is held.
 */
#ifndef MILLRACE_TESTS_SIM_TCP_H
#define MILLRACE_TESTS_SIM_TCP_H

#include "sim_link.h"
#include "tcp/tcp.h"

struct mr_sim_tcp_result {
    uint64_t lives; /* connections, from open to the end of both sides */
    uint64_t bytes;
    uint64_t packets;
    uint64_t lost;
    uint64_t retransmits;
    uint64_t hash; /* of all that happened */
    char violation[256]; /* empty: none */
};

/* One seed. False: result->violation says what is broken. */
bool mr_sim_tcp_run(uint64_t seed, bool is_verbose, struct mr_sim_tcp_result *result);

/* A bulk transfer over the given path with the default settings: goodput in bytes per second, 0 if it fails. */
double mr_sim_tcp_goodput(uint64_t seed, const struct mr_sim_link_faults *faults, uint32_t bytes,
                          struct mr_sim_tcp_result *result);

#endif
