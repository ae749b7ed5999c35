/*
 * net: one interface of ours: Ethernet frames and time in, frames out. Answers ARP, neighbour discovery and pings itself,
 * and gives TCP segments to the engine (tcp/tcp.h).
 *
 *   frame -> mr_net_input() -> ether -+- arp
 *                                     +- ip4 -+- icmp4 --- too big, unreachable ---+
 *                                     +- ip6 -+- icmp6 - nd                        v
 *                                             +- tcp --------------------> mr_tcp_input()
 *
 *   mr_tcp_output() -> ip4, ip6 -> neighbour known? -> mr_net_output() -> frame
 *
 * Bytes are checked before they are believed; what is refused is counted by reason. IP fragments are refused: TCP needs
 * none, and reassembly is a way to be attacked (RFC 8900).
 *
 * Ownership as in tcp.h: a frame's buffer is kept or not; the spans of a written frame are lent by the session.
 * Memory: the struct itself, nothing else. Thread: one.
 */
#ifndef MILLRACE_NET_H
#define MILLRACE_NET_H

#include "tcp/tcp.h"

#define MR_NET_MAC          6u
#define MR_NET_HEADER_MAX   128u /* Ethernet 14, IPv6 40, TCP 60 */
#define MR_NET_NEIGHBOURS   1024u
#define MR_NET_QUEUE        3u   /* frames that wait for a neighbour's address (RFC 4861 7.2.2: a small queue) */
#define MR_NET_REPLIES      32u
#define MR_NET_REPLY_MAX    1514u
#define MR_NET_ADDRESSES    4u

struct mr_net_mac {
    uint8_t bytes[MR_NET_MAC];
};

/* A frame to be sent: header and spans. Longer payloads than cut_bytes are to be cut (segmentation offload), or the
 * engine is told burst_bytes 0. Checksums are complete unless the caller asked for is_checksum_offloaded. */
struct mr_net_frame {
    uint8_t header[MR_NET_HEADER_MAX];
    uint32_t header_len;
    uint32_t l3_at; /* where in the header IP begins, and TCP; 0: none */
    uint32_t l4_at;
    uint32_t len; /* bytes of the spans */
    uint32_t cut_bytes;
    uint32_t span_count;
    struct mr_span spans[MR_TCP_SPANS];
};

struct mr_net_prefix {
    struct mr_network network; /* on-link */
    struct mr_address address; /* ours */
};

struct mr_net_params {
    struct mr_net_mac mac;
    struct mr_net_prefix addresses[MR_NET_ADDRESSES];
    uint32_t address_count;
    struct mr_address gateway4; /* zeros: none */
    struct mr_address gateway6; /* likewise; else a router may advertise itself */
    struct mr_hash_key secret;  /* of the table of neighbours */
    bool is_checksum_offloaded;
};

enum mr_net_drop {
#define DROP(name_, text_) MR_NET_DROP_##name_,
#include "net/net_drops.def"
#undef DROP
    MR_NET_DROPS
};

enum mr_neighbour_state {
    MR_NEIGHBOUR_NONE,
    MR_NEIGHBOUR_ASKED, /* no address yet */
    MR_NEIGHBOUR_KNOWN, /* confirmed a short time ago */
    MR_NEIGHBOUR_STALE, /* to be confirmed when it is used */
    MR_NEIGHBOUR_PROBED,
};

/* Frames without text only: text is TCP's, and comes again. */
struct mr_neighbour_frame {
    uint8_t bytes[MR_NET_HEADER_MAX];
    uint32_t len;
};

struct mr_neighbour {
    struct mr_address address;
    struct mr_net_mac mac;
    enum mr_neighbour_state state;
    uint32_t tries;
    uint64_t until_ns; /* of the state */
    uint64_t used_ns;
    uint32_t queued;
    struct mr_neighbour_frame queue[MR_NET_QUEUE];
};

struct mr_net_reply {
    uint8_t bytes[MR_NET_REPLY_MAX];
    uint32_t len;
};

struct mr_net {
    struct mr_net_params params;
    struct mr_tcp *tcp;
    uint64_t drops[MR_NET_DROPS];
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t echoes;
    uint64_t conflicts; /* somebody else uses an address of ours (RFC 5227, RFC 4862 5.4) */
    struct mr_neighbour neighbours[MR_NET_NEIGHBOURS];
    struct mr_net_reply replies[MR_NET_REPLIES];
    uint32_t reply_first;
    uint32_t reply_count;
    uint64_t neighbour_due_ns;
    uint64_t now_ns;
};

void mr_net_init(struct mr_net *n, const struct mr_net_params *params, struct mr_tcp *tcp);
/* Tell the neighbours who we are: gratuitous ARP (RFC 5227 2.3), unsolicited advertisement (RFC 4861 7.2.6), and ask
 * whether somebody has our IPv6 addresses (RFC 4862 5.4.2) and where a router is. */
void mr_net_announce(struct mr_net *n, uint64_t now_ns);

/* True: the buffer is kept, as mr_tcp_input() says. `is_verified`: the card has checked the checksums. */
bool mr_net_input(struct mr_net *n, const uint8_t *frame, uint32_t len, bool is_verified, void *buffer, uint64_t now_ns);
/* At most `max`; fewer: nothing is left. */
uint32_t mr_net_output(struct mr_net *n, uint64_t now_ns, struct mr_net_frame *frames, uint32_t max);
uint64_t mr_net_deadline_ns(const struct mr_net *n);

const char *mr_net_drop_text(enum mr_net_drop drop);

#endif
