/*
 * transport_uring: kernel sockets on the core's io_uring.
 *
 *   listening   one multishot accept per socket and data core
 *   receiving   one receive per connection. A connection between frames selects a provided buffer, so
 *               it holds none while it waits; one in the middle of a frame goes on filling its last
 *               buffer and takes more of them, up to its window, in one recvmsg. When much of the frame
 *               is to come it waits in the kernel for a good part of that (transport_receive.c).
 *   sending     one sendmsg per connection at a time, with everything that was queued when it was
 *               made (up to 1024 pieces); the rest follows when it completes. Prepared at the end of
 *               the turn, so the replies of one turn leave together.
 *
 * Operations are tagged with their place in the connection; a connection is reused, and its
 * descriptor closed, only when none is under way: no completion can meet a stranger.
 *
 * Memory: the arena given to init. Thread: the data core. Edge: sockets, io_uring.
 */
#include "transport/transport_uring.h"

#define TAKE_MAX    16u
#define EVENTS_EACH (MR_URING_RECV_BUFFERS + 4u) /* events that one completion can make */

struct msghdr *mr_transport_uring_msg(struct mr_uring *t, struct iovec *iovs, uint32_t count)
{
    struct msghdr *msg = &t->msgs[t->msg_used++];
    *msg = (struct msghdr){.msg_iov = iovs, .msg_iovlen = count};
    t->iov_used += count;
    return msg;
}

static bool turn_has_room(const struct mr_uring *t)
{
    return t->msg_used < MR_URING_TURN_MSGS &&
           t->iov_used + MR_URING_SEND_PIECES <= MR_URING_TURN_IOVS;
}

static enum mr_err uring_connect(struct mr_transport *transport, const struct mr_endpoint *peer,
                                 void *user, struct mr_conn **conn_out)
{
    (void)transport;
    (void)peer;
    (void)user;
    (void)conn_out;
    return MR_ERR_INVALID; /* no peers to connect to before clusters are built */
}

static void transmit(struct mr_uring *t)
{
    while (turn_has_room(t)) {
        struct mr_list *link = mr_list_pop(&t->dirty);
        if (link == NULL) {
            return;
        }
        struct mr_uring_conn *c = MR_LIST_ENTRY(link, struct mr_uring_conn, dirty_link);
        mr_transport_send_arm(t, c);
        if (turn_has_room(t)) {
            mr_transport_receive_arm(t, c);
        } else {
            mr_transport_conn_dirty(t, c);
        }
    }
}

static void op_done(struct mr_uring *t, const struct mr_completion *done, uint64_t now_ns,
                    struct mr_net_event *events, uint32_t *count)
{
    struct mr_uring_op *op =
        (struct mr_uring_op *)(uintptr_t)(done->user_data & ~(uint64_t)MR_WAIT_TAG_MASK);
    switch (op->kind) {
    case MR_URING_ACCEPT:
        mr_transport_listen_done(t, op, done->res, done->flags, now_ns, events, count);
        return;
    case MR_URING_RECV:
        op->is_under_way = false;
        mr_transport_receive_done(t, op->owner, done->res, done->flags, events, count);
        return;
    case MR_URING_SEND:
        op->is_under_way = false;
        mr_transport_send_done(t, op->owner, done->res, events, count);
        return;
    case MR_URING_CANCEL:
        op->is_under_way = false;
        mr_transport_conn_finish_if_idle(t, op->owner);
        return;
    }
}

static uint32_t uring_poll(struct mr_transport *transport, uint64_t now_ns,
                           struct mr_net_event *events, uint32_t events_max)
{
    struct mr_uring *t = (struct mr_uring *)(void *)transport;
    uint32_t count = 0;
    struct mr_list *link;
    t->now_ns = now_ns;
    if (events_max == 0) {
        transmit(t);
        return 0;
    }
    if (io_uring_sq_ready(mr_wait_ring(t->wait)) == 0) { /* else some are not submitted yet */
        t->iov_used = 0;
        t->msg_used = 0;
    }
    while ((link = mr_list_pop(&t->freed)) != NULL) {
        mr_pool_put(&t->conns, MR_LIST_ENTRY(link, struct mr_uring_conn, dirty_link));
    }
    if (t->accept_again_ns != 0 && now_ns >= t->accept_again_ns) {
        t->accept_again_ns = 0;
        for (uint32_t index = 0; index < t->params.listener_count; index++) {
            mr_transport_listen_arm(t, index);
        }
    }
    mr_transport_receive_unmark(t);
    while (events_max - count >= EVENTS_EACH) {
        struct mr_completion done[TAKE_MAX];
        uint32_t max = (events_max - count) / EVENTS_EACH;
        uint32_t taken =
            mr_wait_take(t->wait, MR_WAIT_TAG_TRANSPORT, done, max < TAKE_MAX ? max : TAKE_MAX);
        for (uint32_t index = 0; index < taken; index++) {
            op_done(t, &done[index], now_ns, events, &count);
        }
        if (taken == 0) {
            break;
        }
    }
    while (count < events_max && (link = mr_list_pop(&t->closed)) != NULL) {
        struct mr_uring_conn *c = MR_LIST_ENTRY(link, struct mr_uring_conn, dirty_link);
        events[count++] =
            (struct mr_net_event){.kind = MR_NET_CLOSED, .conn = &c->conn, .err = c->why};
        mr_list_add_tail(&t->freed, &c->dirty_link);
    }
    return count;
}

static uint64_t uring_deadline_ns(const struct mr_transport *transport)
{
    const struct mr_uring *t = (const struct mr_uring *)(const void *)transport;
    if (!mr_list_is_empty(&t->dirty) || !mr_list_is_empty(&t->closed) ||
        mr_wait_ready(t->wait, MR_WAIT_TAG_TRANSPORT) > 0) {
        return 0;
    }
    uint64_t deadline_ns = t->accept_again_ns != 0 ? t->accept_again_ns : MR_NEVER;
    if (!mr_list_is_empty(&t->marked)) {
        const struct mr_uring_conn *c =
            MR_LIST_ENTRY(t->marked.next, const struct mr_uring_conn, marked_link);
        deadline_ns = c->marked_until_ns < deadline_ns ? c->marked_until_ns : deadline_ns;
    }
    return deadline_ns;
}

static uint32_t buffer_total(uint64_t bytes)
{
    uint64_t count = bytes / MR_URING_BUFFER_BYTES;
    return count < 64 ? 64 : count > (1u << 20) ? 1u << 20 : (uint32_t)count;
}

static uint32_t block_total(const struct mr_transport_uring_params *params)
{
    return params->connections_max + 2048;
}

size_t mr_transport_uring_bytes(const struct mr_transport_uring_params *params)
{
    size_t buffers = buffer_total(params->receive_bytes);
    return sizeof(struct mr_uring) + 65536 +
           buffers * (MR_URING_BUFFER_BYTES + sizeof(struct mr_uring_buffer)) +
           MR_URING_PROVIDED_MAX * sizeof(struct io_uring_buf) +
           (size_t)params->connections_max * (sizeof(struct mr_uring_conn) + 64) +
           (size_t)block_total(params) * (sizeof(struct mr_uring_block) + 16) +
           MR_URING_TURN_IOVS * sizeof(struct iovec) + MR_URING_TURN_MSGS * sizeof(struct msghdr);
}

struct mr_transport *mr_transport_uring_init(const struct mr_transport_uring_params *params)
{
    static const struct mr_transport_ops ops = {
        .name = "uring",
        .listen = mr_transport_listen,
        .stop_listening = mr_transport_listen_stop,
        .poll = uring_poll,
        .deadline_ns = uring_deadline_ns,
        .send = mr_transport_send,
        .consumed = mr_transport_receive_consumed,
        .release = mr_transport_receive_release,
        .connect = uring_connect,
        .close = mr_transport_conn_close,
    };
    struct mr_arena *arena = params->arena;
    struct mr_uring *t = MR_ARENA_GET(arena, struct mr_uring, 1);
    t->base.ops = &ops;
    t->params = *params;
    t->wait = params->wait;
    t->log = params->log;
    t->buffer_count = buffer_total(params->receive_bytes);
    if (t->buffer_count > 65536) {
        t->buffer_count = 65536; /* the kernel names a provided buffer in 16 bits */
    }
    t->provided_max = MR_URING_PROVIDED_MAX;
    while (t->provided_max > t->buffer_count / 4) {
        t->provided_max /= 2;
    }
    mr_pool_init(&t->conns, arena, sizeof(struct mr_uring_conn), params->connections_max, 64);
    mr_pool_init(&t->blocks, arena, sizeof(struct mr_uring_block), block_total(params), 64);
    mr_list_init(&t->dirty);
    mr_list_init(&t->starved);
    mr_list_init(&t->closed);
    mr_list_init(&t->freed);
    mr_list_init(&t->marked);
    t->memory = mr_arena_get_bulk(arena, (size_t)t->buffer_count * MR_URING_BUFFER_BYTES);
    t->buffers = mr_arena_get_fresh(arena, sizeof *t->buffers * t->buffer_count, 64);
    t->ring = mr_arena_get(arena, t->provided_max * sizeof(struct io_uring_buf), 4096);
    t->iovs = mr_arena_get_fresh(arena, MR_URING_TURN_IOVS * sizeof(struct iovec), 64);
    t->msgs = mr_arena_get_fresh(arena, MR_URING_TURN_MSGS * sizeof(struct msghdr), 64);
    for (uint32_t index = 0; index < MR_URING_LISTENERS_MAX; index++) {
        t->accepts[index] = (struct mr_uring_op){.kind = MR_URING_ACCEPT, .owner = t};
        t->listen_fds[index] = -1;
    }
    return &t->base;
}
