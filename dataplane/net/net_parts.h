/*
 * net_parts: what the files of dataplane/net/ share. Private to them and their tests.
 */
#ifndef MILLRACE_NET_PARTS_H
#define MILLRACE_NET_PARTS_H

#include "net/checksum.h"
#include "net/net.h"

#define MR_ETHER_HEADER 14u
#define MR_ETHER_IP4    0x0800u
#define MR_ETHER_ARP    0x0806u
#define MR_ETHER_IP6    0x86ddu
#define MR_IP4_HEADER   20u
#define MR_IP6_HEADER   40u
#define MR_IP_ICMP4     1u
#define MR_IP_TCP       6u
#define MR_IP_ICMP6     58u

/* A packet whose IP header was checked: addresses as in struct mr_tcp_path, and what is above. */
struct mr_net_packet {
    struct mr_address to; /* an address of ours, or a multicast address that we listen to */
    struct mr_address from;
    struct mr_net_mac from_mac;
    const uint8_t *bytes;
    uint32_t len;
    uint8_t protocol;
    uint8_t hops;
    uint8_t ecn;
    bool is_verified;
    void *buffer;
};

static inline void mr_net_drop(struct mr_net *n, enum mr_net_drop why)
{
    n->drops[why]++;
}

static inline struct mr_address mr_net_ip4(const uint8_t *bytes)
{
    struct mr_address a = {.bytes = {[10] = 0xff, [11] = 0xff}};
    memcpy(a.bytes + 12, bytes, 4);
    return a;
}

static inline bool mr_net_is_multicast(const struct mr_address *a)
{
    return mr_address_is_ip4(a) ? (a->bytes[12] & 0xf0) == 0xe0 : a->bytes[0] == 0xff;
}

/* ---- net.c ---- */
bool mr_net_is_ours(const struct mr_net *n, const struct mr_address *a);
/* The address of ours to speak from; NULL: none of that family. */
const struct mr_address *mr_net_source(const struct mr_net *n, const struct mr_address *to);
/* A frame of `len` bytes to be filled, Ethernet header included; NULL: too many in this turn. */
uint8_t *mr_net_reply(struct mr_net *n, const struct mr_net_mac *to, uint16_t type, uint32_t len);
bool mr_net_packet_input(struct mr_net *n, const struct mr_net_packet *p);

/* ---- ip4.c, ip6.c ---- */
bool mr_ip4_check(struct mr_net *n, const uint8_t *bytes, uint32_t len, struct mr_net_packet *p);
void mr_ip4_header(uint8_t *out, const struct mr_address *from, const struct mr_address *to, uint8_t protocol, uint8_t ecn,
                   uint32_t len);
bool mr_ip6_check(struct mr_net *n, const uint8_t *bytes, uint32_t len, struct mr_net_packet *p);
void mr_ip6_header(uint8_t *out, const struct mr_address *from, const struct mr_address *to, uint8_t protocol, uint8_t ecn,
                   uint8_t hops, uint32_t len);

/* ---- arp.c, nd.c ---- */
void mr_arp_input(struct mr_net *n, const uint8_t *bytes, uint32_t len);
void mr_arp_ask(struct mr_net *n, const struct mr_address *whom);
void mr_arp_announce(struct mr_net *n, const struct mr_address *ours);
void mr_nd_input(struct mr_net *n, const struct mr_net_packet *p);
/* `mac` NULL: to all that might be it. */
void mr_nd_ask(struct mr_net *n, const struct mr_address *whom, const struct mr_net_mac *mac);
void mr_nd_announce(struct mr_net *n, const struct mr_address *ours);

/* ---- icmp.c ---- */
void mr_icmp4_input(struct mr_net *n, const struct mr_net_packet *p);
void mr_icmp6_input(struct mr_net *n, const struct mr_net_packet *p);

/* ---- neighbour.c ---- */
/* Where a packet for `to` goes next: itself or a gateway. NULL: nowhere. */
const struct mr_address *mr_neighbour_route(const struct mr_net *n, const struct mr_address *to);
struct mr_neighbour *mr_neighbour_find(struct mr_net *n, const struct mr_address *address);
/* The hardware address for the frame. False: it is not known yet, is asked for, and the frame was queued or dropped. */
bool mr_neighbour_resolve(struct mr_net *n, const struct mr_address *to, struct mr_net_frame *frame);
/* The neighbour has told its address. `is_answer`: we had asked, so it is reachable, and not only said to be. */
void mr_neighbour_learn(struct mr_net *n, const struct mr_address *address, const struct mr_net_mac *mac, bool is_answer,
                        bool is_new_welcome);
void mr_neighbour_due(struct mr_net *n);
uint64_t mr_neighbour_deadline_ns(const struct mr_net *n);

#endif
