/*
 * transport_dpdk_conn: the life of a connection between the engine (tcp/tcp.h) and the session.
 *
 *   engine's events > flags of the connection > `ready` > the session's events, in the order of net/transport.h
 *
 * Spans are given back when the peer has acknowledged them AND the card no longer refers to them: an acknowledgement may
 * overtake a retransmission that still lies in the card's ring.
 */
#include "transport/transport_dpdk.h"

#include "millrace/base/bug.h"

#include <arpa/inet.h>

void mr_transport_dpdk_ready(struct mr_dpdk *t, struct mr_dpdk_conn *c)
{
    mr_list_remove(&c->link);
    mr_list_add_tail(&t->ready, &c->link);
}

static struct mr_dpdk *transport_of(struct mr_dpdk_conn *c)
{
    return (struct mr_dpdk *)(void *)c->conn.transport;
}

static void say_peer(struct mr_conn *conn, const struct mr_address *peer)
{
    bool is_ip4 = mr_address_is_ip4(peer);
    (void)inet_ntop(is_ip4 ? AF_INET : AF_INET6, peer->bytes + (is_ip4 ? 12 : 0), conn->peer, sizeof conn->peer);
}

static void open_conn(struct mr_dpdk *t, struct mr_tcp_conn *tcp)
{
    struct mr_dpdk_conn *c = mr_pool_get(&t->conns);
    if (c == NULL) {
        mr_tcp_abort(tcp, MR_ERR_NO_MEMORY);
        return;
    }
    *c = (struct mr_dpdk_conn){.tcp = tcp};
    c->conn.transport = &t->base;
    c->conn.listener = mr_tcp_listener(tcp);
    c->conn.window_bytes = MR_NET_WINDOW;
    say_peer(&c->conn, &mr_tcp_path(tcp)->remote);
    mr_list_init(&c->link);
    mr_tcp_set_user(tcp, c);
    mr_transport_dpdk_ready(t, c);
}

/* Leave the rest to the engine: our FIN, the peer's acknowledgement of it. Nothing of ours is lent to it any more. */
static void orphan(struct mr_dpdk_conn *c)
{
    mr_tcp_set_user(c->tcp, NULL);
    c->tcp = NULL;
}

static void over(struct mr_dpdk *t, struct mr_dpdk_conn *c, enum mr_err why)
{
    if (!c->is_over) {
        c->is_over = true;
        c->why = c->is_closing ? c->why : why;
        c->end_until = t->nic->sent;
    }
}

static void take_data(struct mr_dpdk *t, struct mr_dpdk_conn *c, const struct mr_tcp_event *event)
{
    if (c == NULL || c->is_closing) {
        mr_tcp_consumed(event->conn, event->span.len);
    } else {
        mr_transport_dpdk_store(t, c, event->span);
    }
    t->nic->ops->release(t->nic, event->buffer);
}

static void take_sent(struct mr_dpdk *t, struct mr_dpdk_conn *c, uint64_t token)
{
    struct mr_dpdk_hold *hold = &c->holds[c->holds[0].token != 0];
    *hold = (struct mr_dpdk_hold){.token = token, .until = t->nic->sent};
    c->token_acked = token;
    if (c->is_closing && c->why == MR_OK && token == c->token_queued) {
        orphan(c);
        over(t, c, MR_OK);
    }
}

static void take_end(struct mr_dpdk *t, struct mr_dpdk_conn *c, enum mr_err err)
{
    c->tcp = NULL;
    if (err != MR_OK) {
        mr_transport_dpdk_drop(t, c); /* a reset: nobody waits for the answers */
    }
    over(t, c, err == MR_OK ? MR_ERR_CLOSED : err);
}

void mr_transport_dpdk_take(struct mr_dpdk *t, const struct mr_tcp_event *event)
{
    struct mr_dpdk_conn *c = event->user;
    if (event->kind == MR_TCP_OPENED) {
        open_conn(t, event->conn);
        return;
    }
    if (event->kind == MR_TCP_DATA) {
        take_data(t, c, event);
    }
    if (c == NULL) {
        return;
    }
    if (event->kind == MR_TCP_SENT) {
        take_sent(t, c, event->token);
    } else if (event->kind == MR_TCP_ROOM) {
        c->is_room = true;
    } else if (event->kind == MR_TCP_EOF) {
        c->is_eof = true;
    } else if (event->kind == MR_TCP_END) {
        take_end(t, c, event->err);
    }
    mr_transport_dpdk_ready(t, c);
}

/* ---- telling ---- */

/* A client that has closed its side is gone, for Kafka's protocol: what is still to be sent to it is not. */
static void end_eof(struct mr_dpdk *t, struct mr_dpdk_conn *c)
{
    if (c->tcp == NULL || c->is_closing || c->pending > 0) {
        return;
    }
    if (c->token_acked != c->token_queued) {
        mr_tcp_abort(c->tcp, MR_ERR_CLOSED); /* END follows, and gives the spans back */
        return;
    }
    mr_tcp_close(c->tcp);
    orphan(c);
    over(t, c, MR_ERR_CLOSED);
}

static void ripen(struct mr_dpdk *t, struct mr_dpdk_conn *c)
{
    for (int step = 0; step < 2 && c->holds[0].token != 0 && c->holds[0].until <= t->nic->done; step++) {
        c->token_due = c->holds[0].token;
        c->holds[0] = c->holds[1];
        c->holds[1].token = 0;
    }
}

static void tell(struct mr_dpdk_conn *c, enum mr_net_event_kind kind, struct mr_net_event *events, uint32_t *count)
{
    events[(*count)++] = (struct mr_net_event){.kind = kind, .conn = &c->conn, .err = c->why, .token = c->token_due};
}

static void tell_data(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_net_event *events, uint32_t *count)
{
    uint32_t buffer;
    struct mr_span span = mr_transport_dpdk_next(t, c, c->conn.window_bytes - c->outstanding, &buffer);
    c->outstanding += span.len;
    if (c->tcp != NULL && !mr_bug("dpdk-closed-window")) {
        mr_tcp_consumed(c->tcp, span.len); /* as a kernel's socket does: what is delivered is the session's */
    }
    c->conn.rest_bytes -= span.len < c->conn.rest_bytes ? span.len : c->conn.rest_bytes;
    events[(*count)++] = (struct mr_net_event){.kind = MR_NET_DATA,
                                               .conn = &c->conn,
                                               .span = span,
                                               .buffer = (void *)(uintptr_t)buffer};
}

/* One event; false: there is none that can be told now. */
static bool tell_next(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_net_event *events, uint32_t *count)
{
    if (c->is_eof) {
        end_eof(t, c);
    }
    if (!c->is_opened) {
        c->is_opened = true;
        tell(c, MR_NET_OPENED, events, count);
    } else if (c->token_told != c->token_due) {
        c->token_told = c->token_due;
        tell(c, MR_NET_SENT, events, count);
    } else if (c->pending > 0 && c->outstanding < c->conn.window_bytes) {
        tell_data(t, c, events, count);
    } else if (c->is_room && !c->is_over) {
        c->is_room = false;
        tell(c, MR_NET_ROOM, events, count);
    } else if (c->is_over && c->pending == 0 && c->end_until <= t->nic->done) {
        tell(c, MR_NET_CLOSED, events, count);
        mr_transport_dpdk_drop(t, c);
        mr_list_add_tail(&t->freed, &c->link);
        return false;
    } else {
        return false;
    }
    return true;
}

static bool is_held(const struct mr_dpdk_conn *c)
{
    return c->holds[0].token != 0 || (c->is_over && c->pending == 0);
}

bool mr_transport_dpdk_tell(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_net_event *events,
                            uint32_t *count, uint32_t max)
{
    mr_list_remove(&c->link);
    ripen(t, c);
    while (*count < max) {
        if (tell_next(t, c, events, count)) {
            continue;
        }
        if (mr_list_is_empty(&c->link) && is_held(c)) {
            mr_list_add_tail(&t->held, &c->link);
        }
        return true;
    }
    mr_list_add_head(&t->ready, &c->link);
    return false;
}

/* ---- what the session calls ---- */

enum mr_err mr_transport_dpdk_send(struct mr_conn *conn, const struct mr_span *spans, uint32_t span_count,
                                   uint64_t token)
{
    struct mr_dpdk_conn *c = (struct mr_dpdk_conn *)(void *)conn;
    if (c->tcp == NULL || c->is_closing) {
        return MR_ERR_CLOSED;
    }
    enum mr_err err = mr_tcp_send(c->tcp, spans, span_count, token);
    c->token_queued = err == MR_OK ? token : c->token_queued;
    return err;
}

void mr_transport_dpdk_consumed(struct mr_conn *conn, uint32_t len_bytes)
{
    struct mr_dpdk_conn *c = (struct mr_dpdk_conn *)(void *)conn;
    mr_assert(len_bytes <= c->outstanding);
    c->outstanding -= len_bytes;
    if (c->pending > 0) {
        mr_transport_dpdk_ready(transport_of(c), c);
    } else if (c->outstanding == 0) {
        mr_transport_dpdk_drop(transport_of(c), c); /* between requests: hold no buffer while waiting */
    }
}

void mr_transport_dpdk_close(struct mr_conn *conn, enum mr_err why)
{
    struct mr_dpdk_conn *c = (struct mr_dpdk_conn *)(void *)conn;
    struct mr_dpdk *t = transport_of(c);
    if (c->is_closing && (why == MR_OK || c->why != MR_OK)) {
        return;
    }
    c->is_closing = true;
    c->why = why;
    mr_transport_dpdk_drop(t, c);
    if (c->tcp != NULL && why != MR_OK) {
        mr_tcp_abort(c->tcp, why);
    } else if (c->tcp != NULL) {
        mr_tcp_close(c->tcp);
        if (c->token_acked == c->token_queued) {
            orphan(c);
            over(t, c, MR_OK);
        }
    }
    mr_transport_dpdk_ready(t, c);
}
