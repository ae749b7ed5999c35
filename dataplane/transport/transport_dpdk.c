/*
 * transport_dpdk: our own TCP/IP (dataplane/tcp, dataplane/net) over a card (include/millrace/net/nic.h).
 *
 *   a turn   frames > mr_net_input() > the engine's events > the session's events
 *            ... the session answers ...
 *            mr_net_output() > frames, until the engine has said all or the card's queue is full
 *
 * Frames go out after every burst that came in, so that acknowledgements and losses are answered while they are news.
 *
 * Memory is bounded by what the engine was given at init: it keeps at most `pieces_max` received frames, which are fewer
 * than the card has buffers, so that data which nobody takes never keeps an ACK from being received. Receive buffers of
 * the session that run out keep events in the engine, whose window then closes.
 *
 * Waiting: a quiet card's descriptor is watched by the core's ring; a card without one is asked every POLL_NS.
 *
 * Memory: the arena given to init. Thread: the data core.
 */
#include "transport/transport_dpdk.h"

#include "millrace/base/bug.h"
#include "millrace/wait.h"

#include <liburing.h>
#include <poll.h>

#define BURSTS_MAX    8u                    /* of one turn: the session must be heard too */
#define POLL_NS       (50 * MR_NS_PER_US)   /* where nothing tells that frames have come, or gone */
#define BUFFERS_SPARE (4u * 512u)           /* of the card's: both of its rings, and what is looked at */
#define WINDOW_MAX    (1u << 20)            /* receive window that autotuning may give a connection */

/* ---- frames ---- */

static void transmit(struct mr_dpdk *t)
{
    struct mr_net_frame frame;
    void *buffer;
    do {
        uint32_t room = t->nic->ops->room(t->nic);
        while (room > 0 && mr_net_output(t->net, t->now_ns, &frame, 1) == 1) {
            t->nic->ops->send(t->nic, &frame);
            room--;
        }
        t->nic->ops->flush(t->nic);
        if (room > 0) {
            break;
        }
    } while (t->nic->ops->room(t->nic) > 0);
    while (mr_tcp_discarded(t->tcp, &buffer)) {
        t->nic->ops->release(t->nic, buffer);
    }
}

/* Whether a frame is for this core, alone or among others; the others get it from here. */
static bool is_for_us(const struct mr_dpdk *t, const struct mr_nic_received *f)
{
    bool is_taken = f->is_handed || mr_bug("dpdk-steer-nowhere");
    uint32_t lane = is_taken ? MR_STEER_HERE : mr_steer_frame(&t->steer, f->bytes, f->len);
    for (uint32_t other = 0; other < t->steer.lanes; other++) {
        if (other != t->nic->lane && (lane == other || lane == MR_STEER_ALL)) {
            t->nic->ops->hand(t->nic, other, f);
        }
    }
    return lane == t->nic->lane || lane == MR_STEER_HERE || lane == MR_STEER_ALL;
}

static void receive(struct mr_dpdk *t)
{
    struct mr_nic_received frames[MR_NIC_BURST];
    uint32_t count = MR_NIC_BURST;
    for (uint32_t burst = 0; burst < BURSTS_MAX && count == MR_NIC_BURST; burst++) {
        count = t->nic->ops->receive(t->nic, frames, MR_NIC_BURST);
        for (uint32_t index = 0; index < count; index++) {
            const struct mr_nic_received *f = &frames[index];
            if (!is_for_us(t, f) ||
                !mr_net_input(t->net, f->bytes, f->len, f->is_verified, f->buffer, t->now_ns)) {
                t->nic->ops->release(t->nic, f->buffer);
            }
        }
        t->is_quiet = burst == 0 && count == 0;
        if (count > 0) {
            t->heard_ns = t->now_ns;
            transmit(t);
        }
    }
}

/* ---- waiting ---- */

/* One poll of the descriptor is under way at a time; its completion ends the wait, and is all it says. */
static void take_completions(struct mr_dpdk *t)
{
    struct mr_completion done;
    while (mr_wait_take(t->params.wait, MR_WAIT_TAG_TRANSPORT, &done, 1) == 1) {
        t->is_armed = false;
    }
}

static bool is_spinning(const struct mr_dpdk *t)
{
    return t->now_ns - t->heard_ns < t->params.spin_ns;
}

static void arm(struct mr_dpdk *t)
{
    if (t->is_armed || !t->is_quiet || is_spinning(t)) {
        return;
    }
    t->is_polled = !t->nic->ops->arm(t->nic);
    if (!t->is_polled) {
        struct io_uring_sqe *sqe = mr_wait_sqe(t->params.wait);
        io_uring_prep_poll_add(sqe, t->nic->wait_fd, POLLIN);
        io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)t | MR_WAIT_TAG_TRANSPORT);
        t->is_armed = true;
    }
}

static uint64_t dpdk_deadline_ns(const struct mr_transport *transport)
{
    const struct mr_dpdk *t = (const struct mr_dpdk *)(const void *)transport;
    if (!t->is_attached) {
        return MR_NEVER;
    }
    if (!mr_list_is_empty(&t->ready) || !t->is_quiet || is_spinning(t)) {
        return 0;
    }
    bool is_stuck = t->nic->done < t->nic->sent || !mr_transport_dpdk_has_buffers(t);
    uint64_t deadline_ns = mr_net_deadline_ns(t->net);
    if (t->is_polled || is_stuck) { /* the engine may have said 0: of what cannot be taken yet */
        uint64_t soon_ns = t->now_ns + POLL_NS;
        return is_stuck ? soon_ns : mr_earlier(deadline_ns, soon_ns);
    }
    return deadline_ns;
}

/* ---- the turn ---- */

static void take_events(struct mr_dpdk *t)
{
    struct mr_tcp_event event; /* one at a time: an END frees what others of a batch would point to */
    while (mr_transport_dpdk_has_buffers(t) && mr_tcp_events(t->tcp, &event, 1) == 1) {
        mr_transport_dpdk_take(t, &event);
    }
    if (t->done != t->nic->done) {
        struct mr_list *link;
        t->done = t->nic->done;
        while ((link = mr_list_pop(&t->held)) != NULL) {
            mr_list_add_tail(&t->ready, link);
        }
    }
}

static uint32_t dpdk_poll(struct mr_transport *transport, uint64_t now_ns, struct mr_net_event *events,
                          uint32_t events_max)
{
    struct mr_dpdk *t = (struct mr_dpdk *)(void *)transport;
    struct mr_list *link;
    uint32_t count = 0;
    t->now_ns = now_ns;
    if (!t->is_attached) {
        return 0;
    }
    if (events_max == 0) {
        transmit(t);
        arm(t);
        return 0;
    }
    while ((link = mr_list_pop(&t->freed)) != NULL) {
        mr_pool_put(&t->conns, MR_LIST_ENTRY(link, struct mr_dpdk_conn, link));
    }
    take_completions(t);
    receive(t);
    take_events(t);
    while (!mr_list_is_empty(&t->ready) &&
           mr_transport_dpdk_tell(t, MR_LIST_ENTRY(t->ready.next, struct mr_dpdk_conn, link), events, &count,
                                  events_max)) {
    }
    return count;
}

static void dpdk_release(struct mr_transport *transport, void *buffer)
{
    mr_transport_dpdk_put((struct mr_dpdk *)(void *)transport, (uint32_t)(uintptr_t)buffer);
}

/* ---- listening ---- */

static enum mr_err listen_one(struct mr_dpdk *t, uint32_t listener)
{
    const struct mr_endpoint *endpoint = &t->params.listeners[listener];
    struct mr_address address = {{0}}; /* no host: every address, of both families */
    if (endpoint->host[0] != '\0' && !mr_address_parse(mr_str(endpoint->host), &address)) {
        mr_log(t->params.log, MR_LOG_ERROR, "a listener over DPDK is an address, not a name host=%s", endpoint->host);
        return MR_ERR_NOT_FOUND;
    }
    return mr_tcp_listen(t->tcp, &address, endpoint->port, listener);
}

static enum mr_err dpdk_listen(struct mr_transport *transport)
{
    struct mr_dpdk *t = (struct mr_dpdk *)(void *)transport;
    if (!t->is_attached && !t->nic->ops->attach(t->nic)) {
        mr_log(t->params.log, MR_LOG_ERROR, "the card cannot be used from this thread");
        return MR_ERR_INVALID;
    }
    t->is_attached = true;
    for (uint32_t index = 0; index < t->params.listener_count; index++) {
        enum mr_err err = listen_one(t, index);
        if (err != MR_OK) {
            mr_tcp_stop_listening(t->tcp);
            return err;
        }
    }
    t->is_listening = true;
    mr_net_announce(t->net, t->now_ns);
    return MR_OK;
}

/* What an operator wants to know of a card afterwards: how much, how, and what was lost where. */
static void say_counts(const struct mr_dpdk *t)
{
    const struct mr_nic_counts *nic = &t->nic->counts;
    const struct mr_tcp_counts *tcp = mr_tcp_counts(t->tcp);
    mr_log(t->params.log, MR_LOG_INFO,
           "card=%s frames_in=%llu frames_out=%llu handed=%llu refused=%llu bytes_attached=%llu bytes_copied=%llu opened=%llu "
           "cookies_sent=%llu cookies_taken=%llu challenges=%llu",
           t->nic->ops->name, (unsigned long long)nic->frames_in, (unsigned long long)nic->frames_out,
           (unsigned long long)nic->handed, (unsigned long long)nic->refused, (unsigned long long)nic->bytes_attached,
           (unsigned long long)nic->bytes_copied, (unsigned long long)tcp->opened,
           (unsigned long long)tcp->cookies_sent, (unsigned long long)tcp->cookies_taken,
           (unsigned long long)tcp->challenges);
    for (uint32_t why = 0; why < MR_NET_DROPS; why++) {
        if (t->net->drops[why] > 0) {
            mr_log(t->params.log, MR_LOG_INFO, "frames dropped count=%llu why=%s",
                   (unsigned long long)t->net->drops[why], mr_net_drop_text((enum mr_net_drop)why));
        }
    }
    for (uint32_t why = 0; why < MR_TCP_DROPS; why++) {
        if (tcp->drops[why] > 0) {
            mr_log(t->params.log, MR_LOG_INFO, "segments dropped count=%llu why=%s",
                   (unsigned long long)tcp->drops[why], mr_tcp_drop_text((enum mr_tcp_drop)why));
        }
    }
}

static void dpdk_stop_listening(struct mr_transport *transport)
{
    struct mr_dpdk *t = (struct mr_dpdk *)(void *)transport;
    if (t->is_listening) {
        t->is_listening = false;
        mr_tcp_stop_listening(t->tcp);
        say_counts(t);
    }
}

static enum mr_err dpdk_connect(struct mr_transport *transport, const struct mr_endpoint *peer, void *user,
                                struct mr_conn **conn_out)
{
    (void)transport;
    (void)peer;
    (void)user;
    (void)conn_out;
    return MR_ERR_INVALID; /* no peers to connect to before clusters are built */
}

/* ---- making ---- */

static struct mr_tcp_params tcp_params(const struct mr_transport_dpdk_params *params)
{
    struct mr_tcp_params p = mr_tcp_params_default(params->connections_max + params->connections_max / 4);
    uint32_t buffers = params->nic_params->buffers;
    p.pieces_max = buffers > 2 * BUFFERS_SPARE ? buffers - BUFFERS_SPARE : buffers / 2;
    p.window_max = WINDOW_MAX;
    p.disorder_bytes_max = p.pieces_max / 2 * params->nic_params->mtu;
    p.mtu = params->nic_params->mtu;
    p.secret = params->secret;
    return p;
}

size_t mr_transport_dpdk_bytes(const struct mr_transport_dpdk_params *params)
{
    struct mr_tcp_params tcp = tcp_params(params);
    size_t buffers = params->receive_bytes / MR_DPDK_BUFFER_BYTES + 64;
    return sizeof(struct mr_dpdk) + sizeof(struct mr_net) + mr_tcp_bytes(&tcp) + 65536 +
           buffers * (MR_DPDK_BUFFER_BYTES + sizeof(struct mr_dpdk_buffer)) +
           (size_t)params->connections_max * (sizeof(struct mr_dpdk_conn) + 64);
}

static void net_init(struct mr_dpdk *t)
{
    const struct mr_nic_params *given = t->params.nic_params;
    struct mr_net_params p = {.address_count = given->our_count,
                              .gateway4 = given->gateway4,
                              .gateway6 = given->gateway6,
                              .secret = t->params.secret,
                              .is_checksum_offloaded = t->nic->is_checksum_offloaded};
    _Static_assert(MR_NIC_ADDRESSES <= MR_NET_ADDRESSES, "all of them");
    memcpy(p.mac.bytes, t->nic->mac, sizeof p.mac.bytes);
    for (uint32_t index = 0; index < given->our_count; index++) {
        p.addresses[index].address = given->ours[index].address;
        p.addresses[index].network = given->ours[index].network;
    }
    mr_net_init(t->net, &p, t->tcp);
}

struct mr_transport *mr_transport_dpdk_init(const struct mr_transport_dpdk_params *params)
{
    static const struct mr_transport_ops ops = {
        .name = "dpdk",
        .listen = dpdk_listen,
        .stop_listening = dpdk_stop_listening,
        .poll = dpdk_poll,
        .deadline_ns = dpdk_deadline_ns,
        .send = mr_transport_dpdk_send,
        .consumed = mr_transport_dpdk_consumed,
        .release = dpdk_release,
        .connect = dpdk_connect,
        .close = mr_transport_dpdk_close,
    };
    struct mr_arena *arena = params->arena;
    struct mr_tcp_params tcp = tcp_params(params);
    struct mr_dpdk *t = MR_ARENA_GET(arena, struct mr_dpdk, 1);
    t->base.ops = &ops;
    t->params = *params;
    t->nic = params->nic;
    t->tcp = mr_tcp_init(&tcp, arena);
    t->net = MR_ARENA_GET(arena, struct mr_net, 1);
    net_init(t);
    t->steer.lanes = t->nic->lane_count;
    memcpy(t->steer.key, params->nic_params->steer_key, sizeof t->steer.key);
    mr_pool_init(&t->conns, arena, sizeof(struct mr_dpdk_conn), params->connections_max, 64);
    mr_transport_dpdk_buffers_init(t, arena);
    mr_list_init(&t->ready);
    mr_list_init(&t->held);
    mr_list_init(&t->freed);
    return &t->base;
}
