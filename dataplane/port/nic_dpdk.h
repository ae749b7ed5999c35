/*
 * nic_dpdk: what the files of the shared object share. The only code that includes rte_*.
 */
#ifndef MILLRACE_NIC_DPDK_H
#define MILLRACE_NIC_DPDK_H

#include "millrace/net/nic.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define MR_NIC_RING      512u  /* descriptors of each queue */
#define MR_NIC_QUEUE     64u   /* frames that were made and not yet taken by the driver */
#define MR_NIC_SLOTS     1024u /* frames whose end is watched; more than ring and queue hold */
#define MR_NIC_SEGMENTS  8192u /* mbufs that refer to lent spans */
#define MR_NIC_COPY_MAX  256u  /* spans up to this are copied behind the header: cheaper than an mbuf of their own */

/* A frame on its way out. */
struct mr_nic_slot {
    struct rte_mbuf_ext_shared_info info;
    bool is_done;
};

struct mr_nic_dpdk {
    struct mr_nic nic; /* first */
    uint16_t port;
    uint16_t mtu;
    uint64_t tx_offloads; /* in use */
    bool is_attaching;    /* the driver takes chains of mbufs, and reads them itself: no card's DMA is involved */
    struct rte_mempool *received;
    struct rte_mempool *headers; /* with AF_XDP `received` too: what the kernel shares with us is one pool */
    struct rte_mempool *segments;
    struct rte_mbuf *queue[MR_NIC_QUEUE];
    uint32_t queued;
    struct mr_nic_slot slots[MR_NIC_SLOTS];
};

/* ---- nic_eal.c ---- */

/* Start DPDK's environment, once per process. False: `why`, in one line. */
bool mr_nic_eal_start(const struct mr_nic_params *params, char *why, size_t why_size);
/* What DPDK has logged last, as far as it fits, in one line. */
void mr_nic_eal_said(char *out, size_t size);

/* ---- nic_tap.c ---- */

/* Whether this process may make a TAP device. False: `why`. */
bool mr_nic_tap_permitted(char *why, size_t why_size);
/* Before and behind the making of a net_tap: see there. */
void mr_nic_tap_hide_signals(bool is_hidden);

/* ---- nic_frames.c ---- */

extern const struct mr_nic_ops mr_nic_frames_ops;

/* The shared object's entry: mr_nic_open_fn. */
struct mr_nic *mr_nic_dpdk_open(const struct mr_nic_params *params, char *why, size_t why_size);

#endif
