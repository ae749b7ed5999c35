/*
 * transport_dpdk: what the files of the transport over our own TCP/IP share. Private to dataplane/transport/.
 */
#ifndef MILLRACE_TRANSPORT_DPDK_H
#define MILLRACE_TRANSPORT_DPDK_H

#include "millrace/base/list.h"
#include "millrace/base/log.h"
#include "millrace/base/pool.h"
#include "millrace/dataplane.h"
#include "millrace/net/nic.h"
#include "net/net.h"
#include "net/steer.h"

#define MR_DPDK_BUFFER_BYTES MR_NET_WINDOW

/* Received bytes, copied together out of the card's frames, which are small and few. */
struct mr_dpdk_buffer {
    uint32_t refs;
    uint32_t next; /* + 1: in the free list, or in a connection's queue */
    uint32_t len;
};

/* Acknowledged spans that the card may still refer to: `token` may be told when `until` frames are done. */
struct mr_dpdk_hold {
    uint64_t token; /* 0: none */
    uint64_t until;
};

struct mr_dpdk_conn {
    struct mr_conn conn;      /* first */
    struct mr_list link;      /* in ready, held or freed */
    struct mr_tcp_conn *tcp;  /* NULL: it is the engine's alone, or no more */
    uint32_t first;           /* received and not yet delivered: buffers + 1 */
    uint32_t last;
    uint32_t first_at;        /* bytes of the first one that are delivered */
    uint32_t pending;         /* bytes not yet delivered */
    uint32_t outstanding;     /* delivered and not consumed */
    uint64_t token_queued;    /* the last one given to send() */
    uint64_t token_acked;     /* of those, what the peer has acknowledged */
    uint64_t token_due;       /* may be told now */
    uint64_t token_told;
    struct mr_dpdk_hold holds[2]; /* older, newer */
    uint64_t end_until;       /* CLOSED may be told when so many frames are done */
    bool is_opened;           /* OPENED was told */
    bool is_room;             /* ROOM is due */
    bool is_eof;              /* the peer has closed its side */
    bool is_closing;          /* the session has closed ours */
    bool is_over;             /* no span is the engine's any more: CLOSED is due behind what is pending */
    enum mr_err why;
};

struct mr_dpdk {
    struct mr_transport base; /* first */
    struct mr_transport_dpdk_params params;
    struct mr_nic *nic;
    struct mr_tcp *tcp;
    struct mr_net *net;
    struct mr_steer steer;
    struct mr_pool conns;
    struct mr_list ready; /* with something to tell, or to look at */
    struct mr_list held;  /* what they have to tell waits for the card */
    struct mr_list freed; /* reported as closed, reused from the next turn on */

    uint8_t *memory;
    struct mr_dpdk_buffer *buffers;
    uint32_t buffer_count;
    uint32_t free_head; /* + 1 */
    uint32_t free_count; /* those never used included */
    uint32_t touched;

    uint64_t now_ns;   /* of this turn */
    uint64_t heard_ns; /* when the last frame came */
    uint64_t done;     /* frames of the card, when `held` was looked at */
    bool is_quiet;     /* the last look at the card found nothing */
    bool is_armed;     /* the ring watches the card's descriptor */
    bool is_polled;    /* the card cannot tell: it must be asked */
    bool is_attached;
    bool is_listening;
};

/* ---- transport_dpdk_conn.c ---- */

/* It has something to tell, or may have. */
void mr_transport_dpdk_ready(struct mr_dpdk *t, struct mr_dpdk_conn *c);
/* An event of the engine. */
void mr_transport_dpdk_take(struct mr_dpdk *t, const struct mr_tcp_event *event);
/* Tell what is due, into `events`, at most `max` of them; true: all that can be told now was. */
bool mr_transport_dpdk_tell(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_net_event *events,
                            uint32_t *count, uint32_t max);
/* mr_transport_ops */
enum mr_err mr_transport_dpdk_send(struct mr_conn *conn, const struct mr_span *spans, uint32_t span_count,
                                   uint64_t token);
void mr_transport_dpdk_consumed(struct mr_conn *conn, uint32_t len_bytes);
void mr_transport_dpdk_close(struct mr_conn *conn, enum mr_err why);

/* ---- transport_dpdk_buffers.c ---- */

void mr_transport_dpdk_buffers_init(struct mr_dpdk *t, struct mr_arena *arena);
/* Bytes that fit into `len` of received text need so many buffers at most. */
bool mr_transport_dpdk_has_buffers(const struct mr_dpdk *t);
/* Queue received bytes behind those of the connection: a copy. Needs has_buffers(). */
void mr_transport_dpdk_store(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_span span);
/* The next bytes to be delivered, at most `max`; the caller gets a reference to the buffer. */
struct mr_span mr_transport_dpdk_next(struct mr_dpdk *t, struct mr_dpdk_conn *c, uint32_t max, uint32_t *buffer);
/* Give up what is not delivered. */
void mr_transport_dpdk_drop(struct mr_dpdk *t, struct mr_dpdk_conn *c);
/* One reference less. */
void mr_transport_dpdk_put(struct mr_dpdk *t, uint32_t buffer);

#endif
