/*
 * nic_load: the millrace.dpdk.* keys, and the card that they ask for, out of the shared object that knows DPDK.
 *
 * DPDK is loaded only when it is asked for: its libraries cost a start 20 MiB and 140 ms (docs/decisions/0010).
 *
 * Thread: main, before the others are started.
 */
#ifndef MILLRACE_CONTROL_NIC_LOAD_H
#define MILLRACE_CONTROL_NIC_LOAD_H

#include "millrace/config.h"
#include "millrace/net/nic.h"

/* Whether millrace.transport says dpdk. */
bool mr_nic_load_is_wanted(const struct mr_config *config);

/* False: `why` names the key and what is wrong with it. */
bool mr_nic_load_params(const struct mr_config *config, struct mr_nic_params *params, char *why, size_t why_size);

/* The card, started: params->lanes lanes. False: `why`, in one line. */
bool mr_nic_load(const struct mr_nic_params *params, struct mr_nic **lanes, char *why, size_t why_size);

#endif
