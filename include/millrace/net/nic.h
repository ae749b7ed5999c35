/*
 * nic: a network card as our TCP/IP sees it: frames in, frames out, and a descriptor to wait for. It is made by
 * DPDK (dataplane/port/, a shared object that is loaded when it is asked for), or by a test.
 *
 * Ownership. A received frame's `buffer` is the caller's until release(). The spans of a frame given to send() are
 * lent until `done` has reached the value that `sent` had behind it: a card reads them when it likes.
 *
 * A card has a lane for each data core: a queue pair. What a lane receives and another core is meant by goes there by
 * hand().
 *
 * Thread: open() in the main thread; everything else in the one that has called attach() for the lane.
 */
#ifndef MILLRACE_NET_NIC_H
#define MILLRACE_NET_NIC_H

#include "millrace/net/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_NIC_BURST     32u /* frames of one receive() at most */
#define MR_NIC_ADDRESSES 4u
#define MR_NIC_LANES     16u
#define MR_NIC_WAYS      128u /* entry n of a card's indirection table is lane n % lanes */

/* An address of ours, and who is reached without a gateway. */
struct mr_nic_address {
    struct mr_address address;
    struct mr_network network;
};

/* What the millrace.dpdk.* keys say, checked. */
struct mr_nic_params {
    char device[128];  /* a PCI address, or a virtual device with its arguments: "net_tap0,iface=x" */
    char eal[512];     /* arguments of DPDK's environment, separated by blanks */
    uint32_t lanes;    /* data cores, at most MR_NIC_LANES */
    uint32_t buffers;  /* received frames that may be held, by each */
    uint16_t mtu;
    uint16_t vlan;     /* 0: frames have no tag */
    bool has_mac;
    uint8_t mac[6];
    struct mr_nic_address ours[MR_NIC_ADDRESSES];
    uint32_t our_count;
    struct mr_nic_address host[MR_NIC_ADDRESSES]; /* of the kernel's end, where there is one */
    uint32_t host_count;
    struct mr_address gateway4; /* zeros: none */
    struct mr_address gateway6;
    uint8_t steer_key[40]; /* random: of the Toeplitz hash that says whose a connection is */
};

struct mr_nic_received {
    const uint8_t *bytes;
    uint32_t len;
    bool is_verified; /* the card has found the checksums right */
    bool is_handed;   /* another lane has found that it is ours */
    void *buffer;
};

struct mr_nic_counts {
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t bytes_attached; /* sent out of lent spans */
    uint64_t bytes_copied;   /* sent out of copies of lent spans */
    uint64_t handed;         /* given to other lanes */
    uint64_t refused;        /* received in pieces, or of another VLAN, or for a lane that was full: dropped */
};

struct mr_nic;
struct mr_net_frame; /* dataplane/net/net.h */

struct mr_nic_ops {
    const char *name; /* "dpdk", for logs */

    /* The calling thread is the one that uses the card from now on. False: it cannot be. */
    bool (*attach)(struct mr_nic *nic);

    /* Frames that have arrived, at most `max` and MR_NIC_BURST. */
    uint32_t (*receive)(struct mr_nic *nic, struct mr_nic_received *frames, uint32_t max);
    void (*release)(struct mr_nic *nic, void *buffer);

    /* How many frames send() takes now. */
    uint32_t (*room)(struct mr_nic *nic);
    void (*send)(struct mr_nic *nic, const struct mr_net_frame *frame);
    /* Hand over what was sent, and see what is done with. */
    void (*flush)(struct mr_nic *nic);

    /* From now on wait_fd is readable when frames are there, also those that came before. False: it says nothing
     * of that, and the card must be asked. */
    bool (*arm)(struct mr_nic *nic);

    /* Give a copy of a received frame to another lane, whose receive() returns it; lost when that is full. */
    void (*hand)(struct mr_nic *nic, uint32_t lane, const struct mr_nic_received *frame);
};

/* Embedded first in each implementation. */
struct mr_nic {
    const struct mr_nic_ops *ops;
    uint32_t lane;
    uint32_t lane_count;
    uint8_t mac[6];
    bool is_checksum_offloaded; /* of what is sent */
    int wait_fd;                /* -1: none */
    uint64_t sent;              /* frames that send() has taken */
    uint64_t done;              /* the first so many of them no longer refer to lent spans */
    struct mr_nic_counts counts;
};

/* What the shared object has: the card, started, its lanes in `lanes`; or false and why, in one line. There is one per
 * process. */
typedef bool mr_nic_open_fn(const struct mr_nic_params *params, struct mr_nic **lanes, char *why, size_t why_size);
#define MR_NIC_OPEN_SYMBOL "mr_nic_dpdk_open"

#endif
