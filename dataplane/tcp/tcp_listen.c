/*
 * tcp_listen: listeners, passive opens with and without memory (SYN cookies), initial sequence numbers, ports.
 *
 * SYN cookies (RFC 4987 3.6): when half_open_max opens hold memory, the SYN-ACK itself carries what is needed later:
 *
 *   sequence number   | 29 bits: keyed hash of path, peer's ISN, minute and MSS | 3 bits: which MSS |
 *   timestamp         | clock, a little early | ecn | sack | 4 bits: window scale, 15 is none |
 *
 * Without timestamps such a connection has neither SACK nor window scaling.
 */
#include "tcp/tcp_conn.h"

#define COOKIE_PERIOD_NS (60 * MR_NS_PER_S)
#define COOKIE_TS_BITS   6u
#define COOKIE_NO_SCALE  15u

#define PORT_FIRST 32768u
#define PORT_COUNT 28232u /* to 60999, as Linux */
#define PORT_TRIES 128u

static const uint16_t cookie_mss[8] = {536, 1024, 1220, 1360, 1440, 1460, 4312, 8960};

/* Each use of the secret hashes another first word. */
enum use {
    USE_ISN,
    USE_PORT,
    USE_TS,
    USE_COOKIE,
};

static uint64_t keyed(const struct mr_tcp *t, enum use use, const struct mr_tcp_path *path, uint32_t a, uint32_t b)
{
    uint8_t bytes[12 + sizeof *path];
    mr_store_be32(bytes, (uint32_t)use);
    mr_store_be32(bytes + 4, a);
    mr_store_be32(bytes + 8, b);
    memcpy(bytes + 12, path, sizeof *path);
    return mr_hash_bytes(&t->params.secret, bytes, sizeof bytes);
}

/* RFC 6528 3: a clock of 4 us and a keyed hash of the path. */
uint32_t mr_tcp_listen_isn(const struct mr_tcp *t, const struct mr_tcp_path *path, uint64_t now_ns)
{
    return (uint32_t)(now_ns / 4000) + (uint32_t)keyed(t, USE_ISN, path, 0, 0);
}

/* The same for all ports of a pair of hosts, so that a path that is used again goes on (RFC 7323 5.5). */
uint32_t mr_tcp_listen_ts_offset(const struct mr_tcp *t, const struct mr_tcp_path *path)
{
    struct mr_tcp_path hosts = *path;
    hosts.local_port = hosts.remote_port = 0;
    return (uint32_t)keyed(t, USE_TS, &hosts, 0, 0);
}

/* RFC 6056 3.3.3, algorithm 3. 0: none of the tried ones is free. */
uint16_t mr_tcp_listen_port(struct mr_tcp *t, const struct mr_tcp_path *path)
{
    struct mr_tcp_path full = *path;
    full.local_port = 0;
    uint32_t offset = (uint32_t)keyed(t, USE_PORT, &full, 0, 0);
    for (uint32_t tries = 0; tries < PORT_TRIES; tries++) {
        full.local_port = (uint16_t)(PORT_FIRST + (offset + t->port_count++) % PORT_COUNT);
        if (mr_tcp_find(t, &full) == NULL) {
            return full.local_port;
        }
    }
    return 0;
}

/* ---- listeners ---- */

enum mr_err mr_tcp_listen(struct mr_tcp *t, const struct mr_address *local, uint16_t port, uint32_t listener)
{
    for (uint32_t index = 0; index < t->listener_count; index++) {
        if (t->listeners[index].port == port && mr_address_equal(&t->listeners[index].local, local)) {
            return MR_ERR_EXISTS;
        }
    }
    if (t->listener_count == t->params.listeners_max) {
        return MR_ERR_NO_MEMORY;
    }
    t->listeners[t->listener_count++] = (struct mr_tcp_listener){
        .local = *local, .port = port, .index = listener, .is_any = mr_tcp_is_unspecified(local)};
    return MR_OK;
}

void mr_tcp_stop_listening(struct mr_tcp *t)
{
    t->listener_count = 0;
}

/* An exact address goes before every address; :: is both families, 0.0.0.0 only IPv4. */
const struct mr_tcp_listener *mr_tcp_listen_find(const struct mr_tcp *t, const struct mr_tcp_path *path)
{
    const struct mr_tcp_listener *found = NULL;
    for (uint32_t index = 0; index < t->listener_count; index++) {
        const struct mr_tcp_listener *listener = &t->listeners[index];
        if (listener->port != path->local_port) {
            continue;
        }
        if (mr_address_equal(&listener->local, &path->local)) {
            return listener;
        }
        if (listener->is_any && (!mr_address_is_ip4(&listener->local) || mr_address_is_ip4(&path->local))) {
            found = listener;
        }
    }
    return found;
}

/* ---- what the handshake agrees on ---- */

void mr_tcp_listen_agree(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    const struct mr_tcp_params *p = &c->tcp->params;
    uint32_t floor = mr_tcp_mss_floor(c);
    uint32_t mss = s->has_mss ? s->mss : floor; /* RFC 9293 3.7.1: the default is the floor */
    mss = mss > floor ? mss : floor;
    c->mss = (uint16_t)(mss < c->mss ? mss : c->mss);
    c->has_sack = s->is_sack_permitted && p->has_sack;
    c->has_ts = s->has_ts && p->has_timestamps;
    bool has_scale = s->has_wscale && p->has_wscale;
    c->snd_scale = has_scale ? s->wscale : 0;
    c->rcv_scale = has_scale ? mr_tcp_window_scale(p) : 0;
    if (c->has_ts) {
        c->ts_recent = s->ts_value;
        c->ts_recent_ns = now_ns;
    }
    c->irs = s->seq;
    c->rcv_nxt = c->last_ack = s->seq + 1;
    c->rcv_adv = c->rcv_nxt + (c->window < 65535 ? c->window : 65535); /* what the SYN said */
    c->heard_ns = now_ns;
    mr_tcp_cubic_init(c);
}

/* ---- SYN cookies ---- */

static uint32_t cookie_hash(const struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t irs, uint64_t period,
                            uint32_t mss)
{
    return (uint32_t)(keyed(t, USE_COOKIE, path, irs, (uint32_t)(period << 3 | mss)) & ~7u) | mss;
}

static uint32_t cookie_ts(const struct mr_tcp *t, const struct mr_tcp_segment *s, bool has_ecn, uint64_t now_ns)
{
    uint32_t scale = s->has_wscale && t->params.has_wscale ? s->wscale : COOKIE_NO_SCALE;
    uint32_t said = (has_ecn ? 32u : 0u) | (s->is_sack_permitted && t->params.has_sack ? 16u : 0u) | scale;
    uint32_t clock = (uint32_t)(now_ns / MR_NS_PER_MS) + mr_tcp_listen_ts_offset(t, &s->path);
    uint32_t value = (clock & ~((1u << COOKIE_TS_BITS) - 1)) | said;
    /* Never ahead of the clock: what follows would look old (RFC 7323 5). */
    return mr_tcp_seq_lt(clock, value) ? value - (1u << COOKIE_TS_BITS) : value;
}

static void send_cookie(struct mr_tcp *t, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    struct mr_tcp_segment *reply = mr_tcp_reply(t, &s->path);
    if (reply == NULL) {
        return;
    }
    uint32_t index = 0;
    while (index < 7 && s->has_mss && cookie_mss[index + 1] <= s->mss) {
        index++;
    }
    bool has_ecn = (s->flags & (MR_TCP_ECE | MR_TCP_CWR)) == (MR_TCP_ECE | MR_TCP_CWR);
    reply->seq = cookie_hash(t, &s->path, s->seq, now_ns / COOKIE_PERIOD_NS, index);
    reply->ack = s->seq + 1;
    reply->flags = MR_TCP_SYN | MR_TCP_ACK;
    reply->window = (uint16_t)(t->params.window_initial < 65535 ? t->params.window_initial : 65535);
    reply->has_mss = true;
    reply->mss = (uint16_t)(t->params.mtu - mr_tcp_headers(&s->path));
    if (s->has_ts && t->params.has_timestamps) {
        reply->has_ts = true;
        reply->ts_value = cookie_ts(t, s, has_ecn, now_ns);
        reply->ts_echo = s->ts_value;
        reply->is_sack_permitted = s->is_sack_permitted && t->params.has_sack;
        reply->has_wscale = s->has_wscale && t->params.has_wscale;
        reply->wscale = mr_tcp_window_scale(&t->params);
        reply->flags |= has_ecn ? MR_TCP_ECE : 0;
    }
    t->counts.cookies_sent++;
    t->cookies_until_ns = now_ns + 2 * COOKIE_PERIOD_NS;
}

static bool is_cookie(const struct mr_tcp *t, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    uint64_t period = now_ns / COOKIE_PERIOD_NS;
    uint32_t cookie = s->ack - 1;
    return cookie == cookie_hash(t, &s->path, s->seq - 1, period, cookie & 7) ||
           (period > 0 && cookie == cookie_hash(t, &s->path, s->seq - 1, period - 1, cookie & 7));
}

/* The connection as if it had been there since the SYN. */
static struct mr_tcp_conn *open_by_cookie(struct mr_tcp *t, const struct mr_tcp_listener *listener,
                                          const struct mr_tcp_segment *s, uint64_t now_ns)
{
    struct mr_tcp_conn *c = mr_tcp_new(t, &s->path, now_ns);
    if (c == NULL) {
        return NULL;
    }
    uint32_t said = s->ts_echo & ((1u << COOKIE_TS_BITS) - 1);
    struct mr_tcp_segment syn = {.path = s->path, .seq = s->seq - 1, .flags = MR_TCP_SYN, .has_mss = true};
    syn.mss = cookie_mss[(s->ack - 1) & 7];
    if (s->has_ts) {
        syn.has_ts = true;
        syn.ts_value = s->ts_value;
        syn.is_sack_permitted = (said & 16) != 0;
        syn.has_wscale = (said & 15) != COOKIE_NO_SCALE;
        syn.wscale = (uint8_t)(said & 15);
    }
    c->is_passive = true;
    c->listener = listener->index;
    mr_tcp_listen_agree(c, &syn, now_ns);
    c->has_ecn = s->has_ts && (said & 32) != 0;
    c->iss = s->ack - 1;
    c->snd_una = c->iss;
    c->snd_nxt = c->iss + 1;
    mr_tcp_set_state(c, MR_TCP_SYN_RECEIVED);
    t->counts.cookies_taken++;
    return c;
}

/* ---- segments for a listener ---- */

static void take_syn(struct mr_tcp *t, const struct mr_tcp_listener *listener, const struct mr_tcp_segment *s,
                     uint64_t now_ns)
{
    if (t->half_open >= t->params.half_open_max) {
        send_cookie(t, s, now_ns);
        return;
    }
    struct mr_tcp_conn *c = mr_tcp_new(t, &s->path, now_ns);
    if (c == NULL) {
        return;
    }
    c->is_passive = true;
    c->listener = listener->index;
    mr_tcp_listen_agree(c, s, now_ns);
    c->has_ecn = (s->flags & (MR_TCP_ECE | MR_TCP_CWR)) == (MR_TCP_ECE | MR_TCP_CWR);
    c->iss = mr_tcp_listen_isn(t, &s->path, now_ns);
    c->snd_una = c->snd_nxt = c->iss;
    c->snd_wnd = s->window;
    c->is_syn_due = true;
    mr_tcp_set_state(c, MR_TCP_SYN_RECEIVED);
    mr_tcp_dirty(c);
}

bool mr_tcp_listen_input(struct mr_tcp *t, const struct mr_tcp_listener *listener, const struct mr_tcp_segment *s,
                         uint64_t now_ns)
{
    if ((s->flags & MR_TCP_RST) != 0) {
        mr_tcp_drop(t, MR_TCP_DROP_NO_CONN);
        return false;
    }
    if ((s->flags & MR_TCP_ACK) != 0) {
        if ((s->flags & MR_TCP_SYN) != 0 || now_ns >= t->cookies_until_ns) {
            mr_tcp_drop(t, MR_TCP_DROP_NO_CONN);
            mr_tcp_reply_reset(t, s);
            return false;
        }
        if (!is_cookie(t, s, now_ns)) { /* no reset: later text may overtake the first of a peer that we did invite */
            mr_tcp_drop(t, MR_TCP_DROP_COOKIE);
            return false;
        }
        struct mr_tcp_conn *c = open_by_cookie(t, listener, s, now_ns);
        return c != NULL && mr_tcp_input_conn(c, s, now_ns);
    }
    /* A SYN with a FIN opens nothing: no stack sends that (as Linux). */
    if ((s->flags & (MR_TCP_SYN | MR_TCP_FIN)) != MR_TCP_SYN) {
        mr_tcp_drop(t, MR_TCP_DROP_NO_ACK);
        return false;
    }
    take_syn(t, listener, s, now_ns); /* its data, if any, comes again */
    return false;
}
