/*
 * sim_transport: the third transport.
 */
#include "sim_transport.h"

#include "millrace/base/list.h"
#include "millrace/base/prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue {
    uint8_t *bytes;
    size_t len;
    size_t at;
    size_t size;
};

/* One delivery; its own allocation, so that a use after release is seen. */
struct buffer {
    struct mr_list link;
    uint8_t data[];
};

struct out_piece {
    const uint8_t *data;
    uint32_t len; /* 0: a token */
    uint64_t token;
};

struct mr_sim_peer {
    struct mr_conn conn; /* first */
    struct mr_list link;
    struct mr_sim_net *net;
    struct queue in; /* to the broker */
    struct out_piece *out;
    uint32_t out_first;
    uint32_t out_count;
    uint32_t out_size;
    uint32_t out_at;
    uint64_t sent_token;
    uint64_t told_token;
    uint64_t delivered;
    uint32_t outstanding;
    bool is_opened;
    bool is_reset;   /* by the peer */
    bool is_closing; /* by the broker */
    bool is_closed;  /* CLOSED was reported */
    bool is_blocked;
    enum mr_err why;
};

struct mr_sim_net {
    struct mr_transport base; /* first */
    struct mr_list peers;
    struct mr_list buffers; /* that the broker holds */
    struct mr_prng prng;
    uint32_t piece_max;
    uint32_t send_limit;
    uint32_t held;
    bool is_random;
    bool is_listening;
};

static struct mr_sim_peer *peer_of(struct mr_conn *conn)
{
    return (struct mr_sim_peer *)(void *)conn;
}

static enum mr_err sim_listen(struct mr_transport *transport)
{
    ((struct mr_sim_net *)(void *)transport)->is_listening = true;
    return MR_OK;
}

static void sim_stop_listening(struct mr_transport *transport)
{
    ((struct mr_sim_net *)(void *)transport)->is_listening = false;
}

static bool can_deliver(const struct mr_sim_peer *peer)
{
    return !peer->is_closing && peer->in.at < peer->in.len &&
           peer->outstanding < peer->conn.window_bytes;
}

static bool is_over(const struct mr_sim_peer *peer)
{
    if (peer->is_closed || !peer->is_opened) {
        return false;
    }
    if (peer->is_reset || (peer->is_closing && peer->why != MR_OK)) {
        return true;
    }
    return peer->is_closing && peer->out_first == peer->out_count;
}

static uint32_t sim_poll(struct mr_transport *transport, uint64_t now_ns,
                         struct mr_net_event *events, uint32_t events_max)
{
    struct mr_sim_net *net = (struct mr_sim_net *)(void *)transport;
    uint32_t count = 0;
    (void)now_ns;
    MR_LIST_EACH(link, &net->peers)
    {
        struct mr_sim_peer *peer = MR_LIST_ENTRY(link, struct mr_sim_peer, link);
        if (count + 6 > events_max) {
            break;
        }
        if (!peer->is_opened) {
            peer->is_opened = true;
            events[count++] = (struct mr_net_event){.kind = MR_NET_OPENED, .conn = &peer->conn};
            continue;
        }
        if (peer->is_closed) {
            continue;
        }
        if (peer->sent_token > peer->told_token && !peer->is_reset) {
            peer->told_token = peer->sent_token;
            events[count++] = (struct mr_net_event){
                .kind = MR_NET_SENT, .conn = &peer->conn, .token = peer->sent_token};
        }
        if (peer->is_blocked && peer->out_first == peer->out_count && !peer->is_closing) {
            peer->is_blocked = false;
            events[count++] = (struct mr_net_event){.kind = MR_NET_ROOM, .conn = &peer->conn};
        }
        if (can_deliver(peer) && !peer->is_reset) {
            size_t len = peer->in.len - peer->in.at;
            size_t max =
                net->is_random ? 1 + mr_prng_below(&net->prng, net->piece_max) : net->piece_max;
            size_t window = peer->conn.window_bytes - peer->outstanding;
            len = len < max ? len : max;
            len = len < window ? len : window;
            struct buffer *buffer = malloc(sizeof *buffer + len);
            mr_list_add_tail(&net->buffers, &buffer->link);
            memcpy(buffer->data, peer->in.bytes + peer->in.at, len);
            peer->in.at += len;
            peer->outstanding += (uint32_t)len;
            peer->delivered += len;
            net->held++;
            events[count++] =
                (struct mr_net_event){.kind = MR_NET_DATA,
                                      .conn = &peer->conn,
                                      .span = {.data = buffer->data, .len = (uint32_t)len},
                                      .buffer = buffer};
        }
        if (is_over(peer)) {
            peer->is_closed = true;
            events[count++] =
                (struct mr_net_event){.kind = MR_NET_CLOSED,
                                      .conn = &peer->conn,
                                      .err = peer->is_reset ? MR_ERR_CLOSED : peer->why};
        }
    }
    return count;
}

static uint64_t sim_deadline_ns(const struct mr_transport *transport)
{
    return mr_sim_net_has_work((const struct mr_sim_net *)(const void *)transport) ? 0 : MR_NEVER;
}

static void out_add(struct mr_sim_peer *peer, struct out_piece piece)
{
    if (peer->out_count == peer->out_size) {
        peer->out_size = peer->out_size == 0 ? 64 : peer->out_size * 2;
        peer->out = realloc(peer->out, sizeof *peer->out * peer->out_size);
    }
    peer->out[peer->out_count++] = piece;
}

static enum mr_err sim_send(struct mr_conn *conn, const struct mr_span *spans, uint32_t span_count,
                            uint64_t token)
{
    struct mr_sim_peer *peer = peer_of(conn);
    if (peer->is_closing || peer->is_closed) {
        return MR_ERR_CLOSED;
    }
    uint32_t queued = peer->out_count - peer->out_first;
    if (queued > 0 && queued + span_count > peer->net->send_limit) {
        peer->is_blocked = true;
        return MR_AGAIN;
    }
    for (uint32_t index = 0; index < span_count; index++) {
        if (spans[index].len > 0) {
            out_add(peer, (struct out_piece){.data = spans[index].data, .len = spans[index].len});
        }
    }
    out_add(peer, (struct out_piece){.token = token});
    return MR_OK;
}

static void sim_consumed(struct mr_conn *conn, uint32_t len_bytes)
{
    struct mr_sim_peer *peer = peer_of(conn);
    if (len_bytes > peer->outstanding) {
        abort(); /* credit for bytes that were never delivered */
    }
    peer->outstanding -= len_bytes;
}

static void sim_release(struct mr_transport *transport, void *buffer)
{
    struct buffer *held = buffer;
    ((struct mr_sim_net *)(void *)transport)->held--;
    mr_list_remove(&held->link);
    free(held);
}

static enum mr_err sim_connect(struct mr_transport *transport, const struct mr_endpoint *peer,
                               void *user, struct mr_conn **conn_out)
{
    (void)transport;
    (void)peer;
    (void)user;
    (void)conn_out;
    return MR_ERR_INVALID;
}

static void sim_close(struct mr_conn *conn, enum mr_err why)
{
    struct mr_sim_peer *peer = peer_of(conn);
    if (!peer->is_closing || why != MR_OK) {
        peer->why = why;
    }
    peer->is_closing = true;
}

struct mr_sim_net *mr_sim_net_create(uint64_t seed)
{
    static const struct mr_transport_ops ops = {
        .name = "sim",
        .listen = sim_listen,
        .stop_listening = sim_stop_listening,
        .poll = sim_poll,
        .deadline_ns = sim_deadline_ns,
        .send = sim_send,
        .consumed = sim_consumed,
        .release = sim_release,
        .connect = sim_connect,
        .close = sim_close,
    };
    struct mr_sim_net *net = calloc(1, sizeof *net);
    net->base.ops = &ops;
    net->prng.state = seed;
    net->piece_max = 4096;
    net->send_limit = UINT32_MAX;
    mr_list_init(&net->peers);
    mr_list_init(&net->buffers);
    return net;
}

void mr_sim_net_destroy(struct mr_sim_net *net)
{
    while (!mr_list_is_empty(&net->peers)) {
        mr_sim_peer_free(MR_LIST_ENTRY(net->peers.next, struct mr_sim_peer, link));
    }
    struct mr_list *link;
    while ((link = mr_list_pop(&net->buffers)) != NULL) {
        free(MR_LIST_ENTRY(link, struct buffer, link));
    }
    free(net);
}

struct mr_transport *mr_sim_net_transport(struct mr_sim_net *net)
{
    return &net->base;
}

void mr_sim_net_pieces(struct mr_sim_net *net, uint32_t piece_max, bool is_random)
{
    net->piece_max = piece_max;
    net->is_random = is_random;
}

void mr_sim_net_send_limit(struct mr_sim_net *net, uint32_t pieces)
{
    net->send_limit = pieces;
}

struct mr_sim_peer *mr_sim_net_connect(struct mr_sim_net *net, const char *address)
{
    if (!net->is_listening) {
        return NULL;
    }
    struct mr_sim_peer *peer = calloc(1, sizeof *peer);
    peer->net = net;
    peer->conn.transport = &net->base;
    peer->conn.window_bytes = MR_NET_WINDOW;
    peer->conn.is_loopback = address == NULL;
    snprintf(peer->conn.peer, sizeof peer->conn.peer, "%s",
             address == NULL ? "127.0.0.1" : address);
    mr_list_add_tail(&net->peers, &peer->link);
    return peer;
}

/* Only after the broker has seen the end: it refers to the connection until then. */
void mr_sim_peer_free(struct mr_sim_peer *peer)
{
    mr_list_remove(&peer->link);
    free(peer->in.bytes);
    free(peer->out);
    free(peer);
}

void mr_sim_peer_send(struct mr_sim_peer *peer, const void *bytes, uint32_t len)
{
    struct queue *in = &peer->in;
    if (len == 0) {
        return;
    }
    if (in->at == in->len) {
        in->at = in->len = 0;
    }
    if (in->len + len > in->size) {
        in->size = (in->len + len) * 2;
        in->bytes = realloc(in->bytes, in->size);
    }
    memcpy(in->bytes + in->len, bytes, len);
    in->len += len;
}

uint64_t mr_sim_peer_delivered(const struct mr_sim_peer *peer)
{
    return peer->delivered;
}

uint32_t mr_sim_peer_take(struct mr_sim_peer *peer, void *to, uint32_t max)
{
    uint8_t *at = to;
    uint32_t left = max;
    if (peer->is_reset || (peer->is_closed && peer->why != MR_OK)) {
        return 0;
    }
    while (peer->out_first < peer->out_count) {
        struct out_piece *piece = &peer->out[peer->out_first];
        if (piece->len == 0) {
            peer->sent_token = piece->token;
            peer->out_first++;
            continue;
        }
        if (left == 0) {
            break;
        }
        uint32_t part = piece->len - peer->out_at < left ? piece->len - peer->out_at : left;
        memcpy(at, piece->data + peer->out_at, part);
        at += part;
        left -= part;
        peer->out_at += part;
        if (peer->out_at == piece->len) {
            peer->out_at = 0;
            peer->out_first++;
        }
    }
    if (peer->out_first == peer->out_count) {
        peer->out_first = peer->out_count = 0;
    }
    return max - left;
}

void mr_sim_peer_reset(struct mr_sim_peer *peer)
{
    peer->is_reset = true;
}

bool mr_sim_peer_is_closed(const struct mr_sim_peer *peer)
{
    return peer->is_closed;
}

bool mr_sim_net_has_work(const struct mr_sim_net *net)
{
    MR_LIST_EACH(link, &net->peers)
    {
        const struct mr_sim_peer *peer = MR_LIST_ENTRY(link, struct mr_sim_peer, link);
        bool is_sent = peer->sent_token > peer->told_token && !peer->is_reset;
        bool is_room = peer->is_blocked && peer->out_first == peer->out_count && !peer->is_closing;
        if (!peer->is_closed && (!peer->is_opened || is_sent || is_room ||
                                 (can_deliver(peer) && !peer->is_reset) || is_over(peer))) {
            return true;
        }
    }
    return false;
}

uint32_t mr_sim_net_held(const struct mr_sim_net *net)
{
    return net->held;
}
