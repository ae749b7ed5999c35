/*
 * tcp: our TCP. Segments and time in, segments and events out; no packet buffer, clock or allocation.
 *
 *   wire --> mr_tcp_input() --+                       +--> mr_tcp_output() --> wire
 *                             |   struct mr_tcp       |
 *   mr_tcp_send(), _consumed()+-> connections, pools -+--> mr_tcp_events() --> session
 *                             |   one heap of timers  |
 *   time -----------------> mr_tcp_output()           +--> mr_tcp_deadline_ns()
 *
 * Ownership. Sent spans are lent: they stay untouched until MR_TCP_SENT with their token, or MR_TCP_CLOSED.
 * Received bytes lie in the caller's packet buffers: mr_tcp_input() says whether it kept the buffer; a kept one
 * comes back once, in an MR_TCP_DATA event or from mr_tcp_discarded().
 *
 * Memory: everything is taken from an arena at init; what is exhausted degrades (docs/decisions/0007).
 * Thread: one. Time: nanoseconds of one monotonic clock, which never goes back.
 * Source: RFC 9293, and the RFC named beside each part.
 */
#ifndef MILLRACE_TCP_H
#define MILLRACE_TCP_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/base/hash.h"
#include "millrace/base/span.h"
#include "millrace/base/time.h"
#include "millrace/net/address.h"

#define MR_TCP_SACKS 4u  /* blocks in one segment: what 40 bytes of options hold */
#define MR_TCP_SPANS 16u /* pieces of payload in one segment */

enum mr_tcp_flag {
    MR_TCP_FIN = 0x01,
    MR_TCP_SYN = 0x02,
    MR_TCP_RST = 0x04,
    MR_TCP_PSH = 0x08,
    MR_TCP_ACK = 0x10,
    MR_TCP_URG = 0x20,
    MR_TCP_ECE = 0x40,
    MR_TCP_CWR = 0x80,
};

/* The codepoints of RFC 3168 5, as in the IP header. */
enum mr_tcp_ecn {
    MR_TCP_NOT_ECT = 0,
    MR_TCP_ECT1 = 1,
    MR_TCP_ECT0 = 2,
    MR_TCP_CE = 3,
};

/* "local" is this side, in both directions. IPv4 as IPv4-mapped IPv6. */
struct mr_tcp_path {
    struct mr_address local;
    struct mr_address remote;
    uint16_t local_port;
    uint16_t remote_port;
};

struct mr_tcp_sack {
    uint32_t start;
    uint32_t end;
};

/* A header with its options, checked, and where its payload lies. */
struct mr_tcp_segment {
    struct mr_tcp_path path;
    uint32_t seq;
    uint32_t ack;
    uint16_t window; /* as on the wire, not scaled */
    uint8_t flags;
    uint8_t ecn; /* enum mr_tcp_ecn */

    bool has_mss;
    bool has_wscale;
    bool has_ts;
    bool is_sack_permitted;
    uint8_t wscale;
    uint8_t sack_count;
    uint16_t mss;
    uint32_t ts_value;
    uint32_t ts_echo;
    struct mr_tcp_sack sacks[MR_TCP_SACKS];

    uint32_t len;       /* payload bytes: the sum of the spans */
    uint32_t cut_bytes; /* out: payload longer than this is to be cut there (segmentation offload) */
    uint32_t span_count;
    struct mr_span spans[MR_TCP_SPANS]; /* in: one at most */
    void *buffer;                       /* in: the packet buffer that holds the payload */
};

enum mr_tcp_state {
    MR_TCP_CLOSED,
    MR_TCP_LISTEN, /* never a connection's: listeners are not connections */
    MR_TCP_SYN_SENT,
    MR_TCP_SYN_RECEIVED,
    MR_TCP_ESTABLISHED,
    MR_TCP_FIN_WAIT_1,
    MR_TCP_FIN_WAIT_2,
    MR_TCP_CLOSE_WAIT,
    MR_TCP_CLOSING,
    MR_TCP_LAST_ACK,
    MR_TCP_TIME_WAIT,
};

enum mr_tcp_event_kind {
    MR_TCP_OPENED, /* accepted or connected                                                        */
    MR_TCP_DATA,   /* the next bytes in order, in `buffer`, which is the caller's from now on      */
    MR_TCP_SENT,   /* everything up to `token` is acknowledged by the peer                         */
    MR_TCP_ROOM,   /* mr_tcp_send() had answered MR_AGAIN; it is worth asking again                */
    MR_TCP_EOF,    /* the peer has closed its side; behind all its data                            */
    MR_TCP_END,    /* last event: `err` says why; the connection is the engine's again. Spans that were
                      not reported as sent are given back                                          */
};

struct mr_tcp_conn;

struct mr_tcp_event {
    enum mr_tcp_event_kind kind;
    enum mr_err err;
    struct mr_tcp_conn *conn;
    void *user;
    struct mr_span span;
    void *buffer;
    uint64_t token;
};

struct mr_tcp_params {
    uint32_t conns_max;
    uint32_t half_open_max; /* passive opens that may hold memory: beyond it SYN cookies */
    uint32_t time_wait_max; /* beyond it the oldest ends early */
    uint32_t sent_max;      /* segments in flight of all connections */
    uint32_t pieces_max;    /* received pieces of all connections */
    uint32_t blocks_max;    /* of queued spans, of all connections */
    uint32_t listeners_max;

    uint32_t window_initial; /* receive window */
    uint32_t window_max;     /* what autotuning may make of it */
    uint32_t disorder_bytes_max; /* out of order, of all connections */
    uint32_t burst_bytes;    /* payload of one output segment at most: 0 is one MSS, 64 KiB with offload */
    uint16_t mtu;

    bool has_sack;
    bool has_timestamps;
    bool has_wscale;
    bool has_ecn; /* asked for in active opens; always accepted when it is asked for */

    uint64_t rto_min_ns;
    uint64_t rto_max_ns;
    uint64_t delayed_ack_ns;
    uint64_t user_timeout_ns;    /* data, a FIN or probes unanswered for that long */
    uint64_t stalled_timeout_ns; /* a window closed for that long, though probes are answered */
    uint64_t keepalive_idle_ns;  /* 0: none */
    uint64_t keepalive_interval_ns;
    uint32_t keepalive_probes;
    uint64_t time_wait_ns; /* 2 MSL */
    struct mr_hash_key secret; /* of this boot: sequence numbers, ports, cookies */
};

/* What a connection can tell about itself. */
struct mr_tcp_info {
    enum mr_tcp_state state;
    uint32_t mss;
    uint32_t cwnd;
    uint32_t ssthresh;
    uint32_t in_flight;
    uint32_t send_window;
    uint32_t receive_window;
    uint64_t srtt_ns;
    uint64_t rttvar_ns;
    uint64_t rto_ns;
    uint64_t min_rtt_ns;
    uint64_t bytes_acked;
    uint64_t bytes_received;
    uint64_t segments_in;
    uint64_t segments_out;
    uint64_t retransmits;
    uint64_t retransmit_bytes;
    uint64_t timeouts;
    uint64_t probes;
    uint64_t spurious; /* recoveries and timeouts that were undone */
    uint64_t duplicate_bytes; /* received twice */
};

enum mr_tcp_drop {
#define DROP(name_, text_) MR_TCP_DROP_##name_,
#include "tcp/tcp_drops.def"
#undef DROP
    MR_TCP_DROPS
};

struct mr_tcp_counts {
    uint64_t segments_in;
    uint64_t segments_out;
    uint64_t opened;
    uint64_t resets_sent;
    uint64_t resets_taken;
    uint64_t cookies_sent;
    uint64_t cookies_taken;
    uint64_t challenges;
    uint64_t drops[MR_TCP_DROPS];
};

struct mr_tcp;

/* :: or 0.0.0.0. */
static inline bool mr_tcp_is_unspecified(const struct mr_address *a)
{
    static const struct mr_address none;
    uint32_t skip = mr_address_is_ip4(a) ? MR_ADDRESS_IP4_BITS / 8 : 0;
    return memcmp(a->bytes + skip, none.bytes, sizeof none.bytes - skip) == 0;
}

/* Sensible values for a broker on Ethernet; pools for `conns_max` connections. The secret is the caller's. */
struct mr_tcp_params mr_tcp_params_default(uint32_t conns_max);

/* Bytes that mr_tcp_init() takes from the arena at most. */
size_t mr_tcp_bytes(const struct mr_tcp_params *params);
struct mr_tcp *mr_tcp_init(const struct mr_tcp_params *params, struct mr_arena *arena);

/* Accept connections to this address and port; an address of zeros (or IPv4-mapped zeros) is every one of its
 * family, :: of both. MR_ERR_EXISTS: taken. MR_ERR_NO_MEMORY: listeners_max. */
enum mr_err mr_tcp_listen(struct mr_tcp *t, const struct mr_address *local, uint16_t port, uint32_t listener);
void mr_tcp_stop_listening(struct mr_tcp *t);

/* Active open; `local_port` 0 chooses one (RFC 6056). MR_ERR_NO_MEMORY: conns_max. MR_ERR_EXISTS: the path is in use. */
enum mr_err mr_tcp_connect(struct mr_tcp *t, const struct mr_tcp_path *path, void *user, uint64_t now_ns,
                           struct mr_tcp_conn **out);

/* A segment from the wire. True: its buffer is the engine's until it comes back. */
bool mr_tcp_input(struct mr_tcp *t, const struct mr_tcp_segment *segment, uint64_t now_ns);

/* Run what is due and write what is to be sent now, at most `max`; fewer than that: nothing is left. */
uint32_t mr_tcp_output(struct mr_tcp *t, uint64_t now_ns, struct mr_tcp_segment *segments, uint32_t max);

/* When mr_tcp_output() next has something to do if nothing arrives. MR_NEVER: never. It may be early; 0: there is output,
 * or an event, now. */
uint64_t mr_tcp_deadline_ns(const struct mr_tcp *t);

/* What happened, oldest connection first. Returns the number written; 0: nothing is left. An accepted connection's OPENED is
 * the last of its call, so that `user` can be set before the next. */
uint32_t mr_tcp_events(struct mr_tcp *t, struct mr_tcp_event *events, uint32_t max);

/* A buffer that was kept and not delivered; false: none. */
bool mr_tcp_discarded(struct mr_tcp *t, void **buffer);

/* As mr_transport_ops.send. MR_ERR_CLOSED: this side has closed. */
enum mr_err mr_tcp_send(struct mr_tcp_conn *c, const struct mr_span *spans, uint32_t span_count, uint64_t token);
/* Delivered bytes that were used up: the window moves. */
void mr_tcp_consumed(struct mr_tcp_conn *c, uint32_t len_bytes);
/* FIN behind what is queued; what the peer sends is still delivered. */
void mr_tcp_finish(struct mr_tcp_conn *c);
/* Likewise, and nothing is wanted any more: bytes unread or arriving later become RST (RFC 9293 3.10.4, RFC 2525 2.17). */
void mr_tcp_close(struct mr_tcp_conn *c);
void mr_tcp_abort(struct mr_tcp_conn *c, enum mr_err why);

/* ICMP: the path carries packets of that many bytes only. `seq` is from the quoted header (RFC 5927 4.1, 7.2). */
void mr_tcp_packet_too_big(struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t seq, uint32_t mtu);
/* ICMP: destination unreachable. Aborts an open that is under way, otherwise only remembered (RFC 5927 5.2). */
void mr_tcp_unreachable(struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t seq);

void mr_tcp_set_user(struct mr_tcp_conn *c, void *user);
void *mr_tcp_user(const struct mr_tcp_conn *c);
uint32_t mr_tcp_listener(const struct mr_tcp_conn *c);
const struct mr_tcp_path *mr_tcp_path(const struct mr_tcp_conn *c);
void mr_tcp_info(const struct mr_tcp_conn *c, struct mr_tcp_info *info);
const struct mr_tcp_counts *mr_tcp_counts(const struct mr_tcp *t);
const char *mr_tcp_drop_text(enum mr_tcp_drop drop);
const char *mr_tcp_state_name(enum mr_tcp_state state);

/* For tests: broken invariants of one connection, or of all, as a sentence; NULL when there are none. */
const char *mr_tcp_check(const struct mr_tcp *t);

#endif
