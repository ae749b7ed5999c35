/*
 * transport: byte streams to and from peers; six functions, three implementations (kernel sockets
 * over io_uring, our TCP over DPDK, the simulated network).
 *
 * Events are pulled, so no function is re-entered. Received bytes lie in the transport's buffers
 * until mr_transport_ops.release; sent spans stay untouched until MR_NET_SENT says so.
 *
 * Thread: the data core that owns the transport.
 */
#ifndef MILLRACE_NET_TRANSPORT_H
#define MILLRACE_NET_TRANSPORT_H

#include "millrace/base/err.h"
#include "millrace/base/span.h"
#include "millrace/base/time.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_net_event_kind {
    MR_NET_OPENED, /* accepted or connected: `conn` is new, mr_conn.user may be set now                */
    MR_NET_DATA,   /* `span` holds the next bytes in order, in buffer `buffer`: release it when done    */
    MR_NET_SENT,   /* everything up to `token` is done with: reuse its buffers                          */
    MR_NET_ROOM,   /* send() had answered MR_AGAIN; it is worth asking again                            */
    MR_NET_CLOSED, /* last event of `conn`; `err` says why. Tokens not yet reported are done with too   */
};

struct mr_transport;

/* Embedded first in each implementation's connection. */
struct mr_conn {
    struct mr_transport *transport;
    void                *user;     /* the session; the transport never looks at it */
    uint32_t             listener; /* index of the listening endpoint in the configuration */
    char                 peer[48]; /* text for logs and coordinators: "127.0.0.1" */
    bool                 is_loopback;

    /* How many bytes may be delivered and not yet consumed: the session sets it, larger while it
     * collects a large frame. The transport asks for no more; it starts at MR_NET_WINDOW. */
    uint32_t window_bytes;

    /* How many bytes the frame at hand still lacks, 0: none, or not known. The session says it, the
     * transport counts it down. While so many are to come, nobody is helped by the first of them: the
     * transport may keep bytes back until there are more, for MR_NET_KEPT_MS at the most. */
    uint32_t rest_bytes;
};

#define MR_NET_WINDOW  16384u /* also the size of the transport's receive buffers */
#define MR_NET_KEPT_MS 50u

struct mr_net_event {
    enum mr_net_event_kind kind;
    enum mr_err            err;
    struct mr_conn        *conn;
    struct mr_span         span;
    void                  *buffer; /* cookie for release() */
    uint64_t               token;
};

struct mr_endpoint {
    char     host[256]; /* name or address as configured; "" is every address */
    uint16_t port;
};

struct mr_transport_ops {
    const char *name; /* "uring", "dpdk", "sim": for logs and the CLI */

    /* Start to accept on the endpoints given at init. MR_ERR_EXISTS: the address is in use. */
    enum mr_err (*listen)(struct mr_transport *transport);

    /* Stop accepting; open connections go on. */
    void (*stop_listening)(struct mr_transport *transport);

    /* One turn of work: take completions, run what is due. Returns the number of events written, at
     * most `events_max`; the rest stay queued. The core calls it again at the end of its turn with
     * events_max 0: then only what was queued and consumed meanwhile is transmitted and asked for,
     * one send per connection, whatever the number of replies. */
    uint32_t (*poll)(struct mr_transport *transport, uint64_t now_ns, struct mr_net_event *events,
                     uint32_t events_max);

    /* When poll() next has something to do if nothing arrives. MR_NEVER: never. */
    uint64_t (*deadline_ns)(const struct mr_transport *transport);

    /* Queue spans for sending, in order, without copying: they stay untouched until MR_NET_SENT with
     * this token (tokens rise per connection). All or nothing: MR_OK, or MR_AGAIN when the queue
     * cannot take them all. The span array itself may be reused at once. */
    enum mr_err (*send)(struct mr_conn *conn, const struct mr_span *spans, uint32_t span_count,
                        uint64_t token);

    /* Window credit only, in order: the peer may send as many more. The only back-pressure there is:
     * a transport delivers at most its receive window ahead of what was consumed. */
    void (*consumed)(struct mr_conn *conn, uint32_t len_bytes);

    /* Give a receive buffer back, in any order. */
    void (*release)(struct mr_transport *transport, void *buffer);

    enum mr_err (*connect)(struct mr_transport *transport, const struct mr_endpoint *peer, void *user,
                           struct mr_conn **conn_out);

    /* MR_OK: FIN after what is queued; else RST. MR_NET_CLOSED follows. */
    void (*close)(struct mr_conn *conn, enum mr_err why);
};

/* Embedded first in each implementation. */
struct mr_transport {
    const struct mr_transport_ops *ops;
};

#endif
