/*
 * limits: how many connections there may be, how many of one address, and how fast they may come.
 *
 *   max.connections                       in all; a connection that has been idle for a while makes room
 *   max.connections.per.ip, .overrides    of one address; an override counts for its address alone
 *   millrace.connections.unproven.per.ip  of one address, without a valid request so far
 *   max.connection.creation.rate          what comes faster is read later, in its turn
 *
 * Limits per address do not hold for loopback and millrace.trusted.networks (ruling 11), unless an override
 * names the address. With several data cores each counts its own connections and gets its share.
 *
 * Source: behaviour of Apache Kafka's ConnectionQuotas; KIP-402, KIP-612.
 */
#ifndef MILLRACE_LIMITS_H
#define MILLRACE_LIMITS_H

#include "millrace/base/map.h"
#include "millrace/base/pool.h"
#include "millrace/net/address.h"

#include <stdbool.h>

#define MR_LIMITS_NETWORKS  16u
#define MR_LIMITS_OVERRIDES 64u

struct mr_data_core;
struct mr_session;

struct mr_limits_override {
    struct mr_address address;
    uint32_t per_ip;
};

struct mr_limits {
    struct mr_map peers; /* hash of the address -> struct peer */
    struct mr_pool pool;
    struct mr_hash_key key;
    uint32_t connections;
    uint32_t per_ip;
    uint32_t unproven_per_ip;
    uint32_t network_count;
    uint32_t override_count;
    struct mr_network networks[MR_LIMITS_NETWORKS];
    struct mr_limits_override overrides[MR_LIMITS_OVERRIDES];
    uint64_t open_every_ns; /* one over the rate; 0: any */
    bool is_closed;         /* a rate of 0: nobody comes in */
    uint64_t told;          /* hash of what was set last */
    uint64_t open_next_ns;  /* when the next connection is due, if they came at the rate */
};

size_t mr_limits_memory(uint32_t connections_max);
/* Take the limits of the image that was just published: they change at run time. */
void mr_limits_follow(struct mr_data_core *core);
void mr_limits_init(struct mr_data_core *core, struct mr_arena *arena);

/* Whether one more connection of this peer is allowed; counts it if so. NULL: allowed, else the limit. */
const char *mr_limits_open(struct mr_session *session);
void mr_limits_proven(struct mr_session *session);
void mr_limits_closed(struct mr_session *session);

/* When a connection that came now may be read: now, unless too many came before it. */
uint64_t mr_limits_open_ns(struct mr_data_core *core);

#endif
