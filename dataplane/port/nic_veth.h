/*
 * nic_veth: what AF_XDP needs beside DPDK's net_af_xdp. Thread: main.
 */
#ifndef MILLRACE_NIC_VETH_H
#define MILLRACE_NIC_VETH_H

#include "millrace/net/nic.h"

/* A pair of devices, the kernel's end with its addresses; the thread is in the namespace of ours until leave(). */
bool mr_nic_veth_make(const struct mr_nic_params *params, uint32_t queues, char *why, size_t why_size);
/* Back; nothing if make() was not called. */
void mr_nic_veth_leave(void);
/* libbpf and libxdp are told to print nothing; once the driver has loaded them. */
void mr_nic_veth_quiet(void);
/* The socket of the queue that was set up as the queue-th, to be waited for; -1: none. */
int mr_nic_veth_socket(uint32_t queue);

#endif
