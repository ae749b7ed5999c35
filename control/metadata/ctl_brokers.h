/*
 * ctl_brokers: the records that make this process a controller and a broker of the cluster: what it
 * registers when an epoch begins, and the end of its fence when its logs are open.
 *
 * Source: Apache Kafka 4.4; kraft-broker facts 2, 6.2, 16.
 */
#ifndef MILLRACE_CONTROL_CTL_BROKERS_H
#define MILLRACE_CONTROL_CTL_BROKERS_H

#include "metadata/controller.h"

/* `offset`: of the first record that will be added; the broker's epoch is the offset of its own. */
void mr_ctl_brokers_register(const struct mr_ctl *ctl, int64_t offset,
                             struct mr_meta_records *records);

/* The end of the fence, and leadership of every partition that has no leader and may be led by
 * us: a Kafka broker that was stopped on this directory has given all of them up. */
void mr_ctl_brokers_unfence(const struct mr_ctl *ctl, struct mr_meta_records *records);

/* One item of listeners or advertised.listeners, "NAME://host:port", IPv6 hosts in brackets. */
bool mr_ctl_brokers_listener(struct mr_str item, struct mr_str *name, struct mr_str *host,
                             uint16_t *port);

#endif
