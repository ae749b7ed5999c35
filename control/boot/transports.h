/*
 * transports: which transport a data core gets, by millrace.transport, and how much memory it takes.
 */
#ifndef MILLRACE_CONTROL_TRANSPORTS_H
#define MILLRACE_CONTROL_TRANSPORTS_H

#include "millrace/plan.h"

struct mr_transports_ask {
    const struct mr_config *config;
    const struct mr_plan *plan;
    struct mr_wait *wait;
    struct mr_log *log;
    struct mr_arena *arena;
    struct mr_nic *nic; /* NULL: kernel sockets */
    const struct mr_nic_params *nic_params;
    const struct mr_endpoint *listeners;
    uint32_t listener_count;
    struct mr_hash_key secret; /* of this boot */
};

/* Bytes of arena that the transport of one data core takes. */
uint64_t mr_transports_bytes(const struct mr_config *config, const struct mr_plan *plan);

struct mr_transport *mr_transports_make(const struct mr_transports_ask *ask);

#endif
