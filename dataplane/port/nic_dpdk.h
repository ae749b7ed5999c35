/*
 * nic_dpdk: what the files of the shared object share. The only code that includes rte_*.
 */
#ifndef MILLRACE_NIC_DPDK_H
#define MILLRACE_NIC_DPDK_H

#include "millrace/net/nic.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <stdatomic.h>

#define MR_NIC_RING      512u  /* descriptors of each queue */
#define MR_NIC_QUEUE     64u   /* frames that were made and not yet taken by the driver */
#define MR_NIC_SLOTS     1024u /* frames whose end is watched; more than ring and queue hold */
#define MR_NIC_SEGMENTS  8192u /* mbufs that refer to lent spans */
#define MR_NIC_COPY_MAX  256u  /* spans up to this are copied behind the header: cheaper than an mbuf of their own */
#define MR_NIC_HANDED    512u  /* frames that other lanes have handed over and this one has not taken */

/* A frame on its way out. */
struct mr_nic_slot {
    struct rte_mbuf_ext_shared_info info;
    bool is_done;
};

/* The card as all lanes see it. */
struct mr_nic_port {
    uint16_t mtu;
    uint16_t vlan; /* 0: none */
    uint32_t lane_count;
    uint64_t tx_offloads; /* in use */
    bool is_xdp;
    bool is_attaching; /* the driver takes chains of mbufs, and reads them itself: no card's DMA is involved */
};

/* A data core's queue pair, with its pools: what one core keeps or wastes, no other lacks. Of one DPDK port, except with
 * AF_XDP, where each has a port of its own: net_af_xdp does not see the queues of veth. */
struct mr_nic_lane {
    struct mr_nic nic; /* first */
    const struct mr_nic_port *port;
    uint16_t port_id;
    uint16_t queue_id; /* 0 or nic.lane */
    int queue_fd;      /* readable when frames are in the queue; -1: none */
    struct rte_mempool *received;
    struct rte_mempool *headers; /* with AF_XDP `received` too: what the kernel shares with us is one pool */
    struct rte_mempool *segments;
    struct rte_mbuf *queue[MR_NIC_QUEUE];
    uint32_t queued;
    struct mr_nic_slot slots[MR_NIC_SLOTS];

    /* What the others hand over; unused where there are none. */
    struct rte_ring *handed;
    int bell_fd;            /* an eventfd */
    atomic_bool is_waiting; /* for wait_fd: who hands something over rings */
};

extern struct mr_nic_lane mr_nic_lanes[MR_NIC_LANES];

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

/* ---- nic_pools.c ---- */

/* The lane's memory. False: there is not so much. */
bool mr_nic_pools_make(struct mr_nic_lane *l, uint32_t buffers);

/* ---- nic_hand.c ---- */

/* What a lane among several needs: its ring, and a descriptor for both that and its queue. False: errno. */
bool mr_nic_hand_init(struct mr_nic_lane *l);
/* Frames that others have handed over, at most `max`. */
uint32_t mr_nic_hand_take(struct mr_nic_lane *l, struct mr_nic_received *frames, uint32_t max);
/* mr_nic_ops.hand */
void mr_nic_hand(struct mr_nic *nic, uint32_t lane, const struct mr_nic_received *frame);
/* From now on whoever hands over rings the bell; it rings at once if something is there already. */
void mr_nic_hand_arm(struct mr_nic_lane *l);

/* ---- nic_frames.c ---- */

extern const struct mr_nic_ops mr_nic_frames_ops;

/* The shared object's entry. */
mr_nic_open_fn mr_nic_dpdk_open;

#endif
