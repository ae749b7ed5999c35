/*
 * limits: how many connections one address may have. Loopback and millrace.trusted.networks are
 * exempt (ruling 11). A connection is unproven until it has sent one valid request.
 *
 * With several data cores each counts its own connections and gets its share of the limit.
 */
#ifndef MILLRACE_LIMITS_H
#define MILLRACE_LIMITS_H

#include "millrace/base/map.h"
#include "millrace/base/pool.h"

#include <stdbool.h>

#define MR_LIMITS_NETWORKS 16

struct mr_data_core;
struct mr_session;

struct mr_limits {
    struct mr_map peers; /* hash of the address -> struct peer */
    struct mr_pool pool;
    struct mr_hash_key key;
    uint32_t per_ip;
    uint32_t unproven_per_ip;
    uint32_t connections;
    uint32_t network_count;
    uint32_t networks[MR_LIMITS_NETWORKS]; /* IPv4 */
    uint32_t masks[MR_LIMITS_NETWORKS];
};

size_t mr_limits_memory(uint32_t connections_max);
void mr_limits_init(struct mr_data_core *core, struct mr_arena *arena);

/* Whether one more connection of this peer is allowed; counts it if so. NULL: allowed. */
const char *mr_limits_open(struct mr_session *session);
void mr_limits_proven(struct mr_session *session);
void mr_limits_closed(struct mr_session *session);

#endif
