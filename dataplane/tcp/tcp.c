/*
 * tcp: the stack around the connections: memory, the table of paths, births and deaths, turns, events.
 */
#include "tcp/tcp.h"

#include "tcp/tcp_conn.h"

struct mr_tcp_params mr_tcp_params_default(uint32_t conns_max)
{
    return (struct mr_tcp_params){
        .conns_max = conns_max,
        .half_open_max = conns_max < 1024 ? conns_max / 4 + 1 : 256,
        .time_wait_max = conns_max / 4 + 1,
        .sent_max = conns_max * 8 + 4096,
        .pieces_max = conns_max * 4 + 4096,
        .blocks_max = conns_max * 2 + 64,
        .listeners_max = 16,
        .window_initial = 65535,
        .window_max = 4u << 20,
        .disorder_bytes_max = 64u << 20,
        .mtu = 1500,
        .has_sack = true,
        .has_timestamps = true,
        .has_wscale = true,
        .rto_min_ns = 200 * MR_NS_PER_MS,
        .rto_max_ns = 60 * MR_NS_PER_S,
        .delayed_ack_ns = 40 * MR_NS_PER_MS,
        .user_timeout_ns = 120 * MR_NS_PER_S,
        .stalled_timeout_ns = 600 * MR_NS_PER_S,
        .keepalive_idle_ns = 60 * MR_NS_PER_S,
        .keepalive_interval_ns = 10 * MR_NS_PER_S,
        .keepalive_probes = 6,
        .time_wait_ns = 60 * MR_NS_PER_S,
    };
}

static uint32_t bucket_count(uint32_t conns_max)
{
    uint32_t count = 16;
    while (count < conns_max) {
        count *= 2;
    }
    return count;
}

size_t mr_tcp_bytes(const struct mr_tcp_params *p)
{
    size_t bytes = sizeof(struct mr_tcp);
    bytes += (sizeof(struct mr_tcp_conn) + sizeof(struct mr_timer *) + 16) * p->conns_max;
    bytes += (sizeof(struct mr_tcp_sent) + 16) * p->sent_max;
    bytes += (sizeof(struct mr_tcp_piece) + 16) * p->pieces_max;
    bytes += (sizeof(struct mr_tcp_block) + 16) * p->blocks_max;
    bytes += sizeof(struct mr_tcp_listener) * p->listeners_max;
    bytes += sizeof(struct mr_tcp_segment) * MR_TCP_REPLIES;
    bytes += sizeof(struct mr_tcp_conn *) * bucket_count(p->conns_max);
    return bytes + 4096; /* alignment */
}

struct mr_tcp *mr_tcp_init(const struct mr_tcp_params *params, struct mr_arena *arena)
{
    struct mr_tcp *t = MR_ARENA_GET(arena, struct mr_tcp, 1);
    t->params = *params;
    mr_pool_init(&t->conns, arena, sizeof(struct mr_tcp_conn), params->conns_max, 16);
    mr_pool_init(&t->sents, arena, sizeof(struct mr_tcp_sent), params->sent_max, 16);
    mr_pool_init(&t->pieces, arena, sizeof(struct mr_tcp_piece), params->pieces_max, 16);
    mr_pool_init(&t->blocks, arena, sizeof(struct mr_tcp_block), params->blocks_max, 16);
    mr_timers_init(&t->timers, arena, params->conns_max);
    t->listeners = MR_ARENA_GET(arena, struct mr_tcp_listener, params->listeners_max);
    t->replies = MR_ARENA_GET(arena, struct mr_tcp_segment, MR_TCP_REPLIES);
    t->bucket_count = bucket_count(params->conns_max);
    t->buckets = MR_ARENA_GET(arena, struct mr_tcp_conn *, t->bucket_count);
    mr_list_init(&t->dirty);
    mr_list_init(&t->eventful);
    mr_list_init(&t->time_wait);
    mr_list_init(&t->discarded);
    return t;
}

void mr_tcp_drop(struct mr_tcp *t, enum mr_tcp_drop why)
{
    t->counts.drops[why]++;
}

void mr_tcp_dirty(struct mr_tcp_conn *c)
{
    if (mr_list_is_empty(&c->dirty)) {
        mr_list_add_tail(&c->tcp->dirty, &c->dirty);
    }
}

void mr_tcp_eventful(struct mr_tcp_conn *c)
{
    if (c->is_owned && mr_list_is_empty(&c->eventful)) {
        mr_list_add_tail(&c->tcp->eventful, &c->eventful);
    }
}

/* ---- the table of paths: keyed, because peers choose their ports ---- */

static uint64_t path_hash(const struct mr_tcp *t, const struct mr_tcp_path *path)
{
    return mr_hash_bytes(&t->params.secret, path, sizeof *path);
}
_Static_assert(sizeof(struct mr_tcp_path) == 36, "hashed as bytes: no padding");

struct mr_tcp_conn *mr_tcp_find(struct mr_tcp *t, const struct mr_tcp_path *path)
{
    struct mr_tcp_conn *c = t->buckets[path_hash(t, path) & (t->bucket_count - 1)];
    while (c != NULL && memcmp(&c->path, path, sizeof *path) != 0) {
        c = c->next;
    }
    return c;
}

static void table_remove(struct mr_tcp *t, struct mr_tcp_conn *c)
{
    struct mr_tcp_conn **at = &t->buckets[c->hash & (t->bucket_count - 1)];
    while (*at != c) {
        mr_assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = c->next;
}

/* ---- births and deaths ---- */

struct mr_tcp_conn *mr_tcp_new(struct mr_tcp *t, const struct mr_tcp_path *path, uint64_t now_ns)
{
    if (t->conns.used == t->conns.capacity && !mr_list_is_empty(&t->time_wait)) {
        mr_tcp_end(MR_LIST_ENTRY(t->time_wait.next, struct mr_tcp_conn, waiting), MR_OK);
    }
    struct mr_tcp_conn *c = mr_pool_get(&t->conns);
    if (c == NULL) {
        mr_tcp_drop(t, MR_TCP_DROP_NO_ROOM);
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->tcp = t;
    c->path = *path;
    c->hash = path_hash(t, path);
    struct mr_tcp_conn **bucket = &t->buckets[c->hash & (t->bucket_count - 1)];
    c->next = *bucket;
    *bucket = c;
    mr_list_init(&c->dirty);
    mr_list_init(&c->eventful);
    mr_list_init(&c->waiting);
    mr_list_init(&c->sent);
    mr_list_init(&c->flying);
    mr_list_init(&c->lost);
    mr_list_init(&c->received);
    mr_list_init(&c->disorder);
    mr_tcp_timer_reset(c);
    c->mss = (uint16_t)(t->params.mtu - mr_tcp_headers(path));
    c->mss_seen = (uint16_t)mr_tcp_mss_floor(c);
    c->window = t->params.window_initial;
    c->quick_acks = MR_TCP_QUICK_ACKS;
    c->rto_ns = MR_NS_PER_S; /* RFC 6298 2.1 */
    c->ssthresh = UINT32_MAX;
    c->min_rtt_ns = c->min_rtt_next_ns = MR_NEVER;
    c->rack.reorder_mult = 1;
    c->heard_ns = c->progress_ns = c->tune_ns = now_ns;
    c->ts_offset = mr_tcp_listen_ts_offset(t, path);
    return c;
}

void mr_tcp_set_state(struct mr_tcp_conn *c, enum mr_tcp_state state)
{
    struct mr_tcp *t = c->tcp;
    if (c->state == MR_TCP_SYN_RECEIVED && c->is_passive) {
        t->half_open--;
    }
    if (state == MR_TCP_SYN_RECEIVED && c->is_passive) {
        t->half_open++;
    }
    if (c->state == MR_TCP_TIME_WAIT) {
        mr_list_remove(&c->waiting);
        t->time_wait_count--;
    }
    c->state = state;
    if (state == MR_TCP_TIME_WAIT) {
        mr_list_add_tail(&t->time_wait, &c->waiting);
        if (++t->time_wait_count > t->params.time_wait_max) {
            mr_tcp_end(MR_LIST_ENTRY(t->time_wait.next, struct mr_tcp_conn, waiting), MR_OK);
        }
    }
}

static void give_up_data(struct mr_tcp_conn *c, bool is_received_kept)
{
    mr_tcp_sent_drop(c);
    mr_tcp_queue_drop(c);
    mr_tcp_reasm_drop(c, is_received_kept);
}

static void free_conn(struct mr_tcp_conn *c)
{
    struct mr_tcp *t = c->tcp;
    mr_list_remove(&c->dirty);
    mr_list_remove(&c->eventful);
    mr_timer_cancel(&t->timers, &c->timer);
    mr_pool_put(&t->conns, c);
}

/* It leaves the table at once, so that its path can be used again; the memory stays until END was told. */
void mr_tcp_end(struct mr_tcp_conn *c, enum mr_err why)
{
    struct mr_tcp *t = c->tcp;
    mr_assert(c->state != MR_TCP_CLOSED);
    mr_tcp_set_state(c, MR_TCP_CLOSED);
    give_up_data(c, why == MR_OK && c->is_owned && !c->is_deaf);
    c->is_eof_due = c->is_eof_due && why == MR_OK;
    table_remove(t, c);
    mr_timer_cancel(&t->timers, &c->timer);
    mr_list_remove(&c->dirty);
    if (!c->is_owned) {
        free_conn(c);
        return;
    }
    if (!c->is_end_due) {
        c->why = why;
        c->is_end_due = true;
    }
    mr_tcp_eventful(c);
}

void mr_tcp_disown(struct mr_tcp_conn *c)
{
    if (c->is_owned && !c->is_end_due) {
        c->is_end_due = true;
        c->why = MR_OK;
        mr_tcp_eventful(c);
    }
}

/* ---- segments without a connection ---- */

struct mr_tcp_segment *mr_tcp_reply(struct mr_tcp *t, const struct mr_tcp_path *path)
{
    if (t->reply_count == MR_TCP_REPLIES) {
        mr_tcp_drop(t, MR_TCP_DROP_REPLIES_FULL);
        return NULL;
    }
    struct mr_tcp_segment *reply = &t->replies[t->reply_count++];
    *reply = (struct mr_tcp_segment){.path = *path};
    return reply;
}

void mr_tcp_reply_reset(struct mr_tcp *t, const struct mr_tcp_segment *s)
{
    if ((s->flags & MR_TCP_RST) != 0) {
        return;
    }
    struct mr_tcp_segment *reply = mr_tcp_reply(t, &s->path);
    if (reply == NULL) {
        return;
    }
    t->counts.resets_sent++;
    if ((s->flags & MR_TCP_ACK) != 0) {
        reply->flags = MR_TCP_RST;
        reply->seq = s->ack;
        return;
    }
    reply->flags = MR_TCP_RST | MR_TCP_ACK;
    reply->ack = s->seq + s->len + ((s->flags & MR_TCP_SYN) != 0) + ((s->flags & MR_TCP_FIN) != 0);
}

/* ---- what the caller calls ---- */

bool mr_tcp_input(struct mr_tcp *t, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    t->now_ns = now_ns;
    t->counts.segments_in++;
    struct mr_tcp_conn *c = mr_tcp_find(t, &s->path);
    if (c != NULL) {
        c->stats.segments_in++;
        return mr_tcp_input_conn(c, s, now_ns);
    }
    const struct mr_tcp_listener *listener = mr_tcp_listen_find(t, &s->path);
    if (listener != NULL) {
        return mr_tcp_listen_input(t, listener, s, now_ns);
    }
    mr_tcp_drop(t, MR_TCP_DROP_NO_CONN);
    mr_tcp_reply_reset(t, s);
    return false;
}

static uint32_t take_replies(struct mr_tcp *t, struct mr_tcp_segment *segments, uint32_t max)
{
    uint32_t count = t->reply_count < max ? t->reply_count : max;
    memcpy(segments, t->replies, sizeof *segments * count);
    memmove(t->replies, t->replies + count, sizeof *segments * (t->reply_count - count));
    t->reply_count -= count;
    return count;
}

uint32_t mr_tcp_output(struct mr_tcp *t, uint64_t now_ns, struct mr_tcp_segment *segments, uint32_t max)
{
    t->now_ns = now_ns;
    for (struct mr_timer *timer; (timer = mr_timers_due(&t->timers, now_ns)) != NULL;) {
        mr_tcp_timer_due(MR_TIMER_ENTRY(timer, struct mr_tcp_conn, timer), now_ns);
    }
    uint32_t count = take_replies(t, segments, max);
    while (count < max && !mr_list_is_empty(&t->dirty)) {
        struct mr_tcp_conn *c = MR_LIST_ENTRY(t->dirty.next, struct mr_tcp_conn, dirty);
        if (mr_tcp_output_next(c, now_ns, &segments[count])) {
            count++;
        } else if (mr_list_is_empty(&c->dirty)) {
            continue; /* it has ended */
        } else {
            mr_list_remove(&c->dirty);
            mr_tcp_timer_update(c);
        }
    }
    t->counts.segments_out += count;
    return count;
}

uint64_t mr_tcp_deadline_ns(const struct mr_tcp *t)
{
    bool is_waiting = !mr_list_is_empty(&t->dirty) || !mr_list_is_empty(&t->eventful) || t->reply_count > 0;
    return is_waiting ? 0 : mr_timers_next_ns(&t->timers);
}

/* One event of the connection; false: there is none. */
static bool next_event(struct mr_tcp_conn *c, struct mr_tcp_event *event)
{
    *event = (struct mr_tcp_event){.conn = c, .user = c->user, .err = MR_OK};
    if (c->is_open_due) {
        c->is_open_due = false;
        event->kind = MR_TCP_OPENED;
    } else if (c->sent_token != 0) {
        event->kind = MR_TCP_SENT;
        event->token = c->sent_token;
        c->sent_token = 0;
    } else if (!mr_list_is_empty(&c->received)) {
        struct mr_tcp_piece *piece = MR_LIST_ENTRY(mr_list_pop(&c->received), struct mr_tcp_piece, link);
        event->kind = MR_TCP_DATA;
        event->span = (struct mr_span){.data = piece->data, .len = piece->len};
        event->buffer = piece->buffer;
        mr_pool_put(&c->tcp->pieces, piece);
    } else if (c->is_eof_due) {
        c->is_eof_due = false;
        event->kind = MR_TCP_EOF;
    } else if (c->is_end_due) {
        event->kind = MR_TCP_END;
        event->err = c->why;
        c->is_owned = false;
    } else if (c->is_room_due) {
        c->is_room_due = false;
        event->kind = MR_TCP_ROOM;
    } else {
        return false;
    }
    return true;
}

uint32_t mr_tcp_events(struct mr_tcp *t, struct mr_tcp_event *events, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && !mr_list_is_empty(&t->eventful)) {
        struct mr_tcp_conn *c = MR_LIST_ENTRY(t->eventful.next, struct mr_tcp_conn, eventful);
        if (!next_event(c, &events[count])) {
            mr_list_remove(&c->eventful);
            continue;
        }
        enum mr_tcp_event_kind kind = events[count++].kind;
        if (kind == MR_TCP_OPENED && c->is_passive) {
            break; /* its other events are to carry the user that is set now */
        }
        if (kind == MR_TCP_END) {
            mr_list_remove(&c->eventful);
            if (c->state == MR_TCP_CLOSED) {
                free_conn(c);
            }
        }
    }
    return count;
}

bool mr_tcp_discarded(struct mr_tcp *t, void **buffer)
{
    struct mr_list *link = mr_list_pop(&t->discarded);
    if (link == NULL) {
        return false;
    }
    struct mr_tcp_piece *piece = MR_LIST_ENTRY(link, struct mr_tcp_piece, link);
    *buffer = piece->buffer;
    mr_pool_put(&t->pieces, piece);
    return true;
}

enum mr_err mr_tcp_connect(struct mr_tcp *t, const struct mr_tcp_path *path, void *user, uint64_t now_ns,
                           struct mr_tcp_conn **out)
{
    struct mr_tcp_path full = *path;
    t->now_ns = now_ns;
    if (full.local_port == 0) {
        full.local_port = mr_tcp_listen_port(t, &full);
    }
    if (full.local_port == 0 || mr_tcp_find(t, &full) != NULL) {
        return MR_ERR_EXISTS;
    }
    struct mr_tcp_conn *c = mr_tcp_new(t, &full, now_ns);
    if (c == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    c->user = user;
    c->is_owned = true;
    c->iss = mr_tcp_listen_isn(t, &full, now_ns);
    c->snd_una = c->snd_nxt = c->iss;
    c->is_syn_due = true;
    mr_tcp_set_state(c, MR_TCP_SYN_SENT);
    mr_tcp_dirty(c);
    *out = c;
    return MR_OK;
}

void mr_tcp_finish(struct mr_tcp_conn *c)
{
    if (c->state == MR_TCP_SYN_SENT) {
        mr_tcp_end(c, MR_ERR_CLOSED);
        return;
    }
    if (c->state != MR_TCP_CLOSED && !c->is_fin_wanted) {
        c->is_fin_wanted = true;
        mr_tcp_dirty(c);
    }
}

void mr_tcp_close(struct mr_tcp_conn *c)
{
    if (!mr_list_is_empty(&c->received) || !mr_list_is_empty(&c->disorder)) {
        mr_tcp_abort(c, MR_OK); /* what was not read is told to the peer as a reset (RFC 2525 2.17) */
        return;
    }
    c->is_deaf = true;
    c->is_eof_due = false;
    mr_tcp_finish(c);
    if (c->state == MR_TCP_TIME_WAIT || c->state == MR_TCP_FIN_WAIT_2) {
        mr_tcp_disown(c);
        c->end_at = c->tcp->now_ns + c->tcp->params.time_wait_ns;
        mr_tcp_timer_update(c);
    }
}

/* RFC 9293 3.10.5: the reset leaves with the next output. */
void mr_tcp_abort(struct mr_tcp_conn *c, enum mr_err why)
{
    if (c->state == MR_TCP_CLOSED || c->is_reset_due) {
        return;
    }
    if (c->state == MR_TCP_SYN_SENT || c->state == MR_TCP_TIME_WAIT || c->state == MR_TCP_CLOSING ||
        c->state == MR_TCP_LAST_ACK) {
        mr_tcp_end(c, why);
        return;
    }
    c->is_reset_due = true;
    c->is_deaf = true;
    if (!c->is_end_due) {
        c->why = why;
    }
    give_up_data(c, false);
    c->is_eof_due = false;
    mr_tcp_dirty(c);
}

void mr_tcp_set_user(struct mr_tcp_conn *c, void *user)
{
    c->user = user;
}

void *mr_tcp_user(const struct mr_tcp_conn *c)
{
    return c->user;
}

uint32_t mr_tcp_listener(const struct mr_tcp_conn *c)
{
    return c->listener;
}

const struct mr_tcp_path *mr_tcp_path(const struct mr_tcp_conn *c)
{
    return &c->path;
}

const struct mr_tcp_counts *mr_tcp_counts(const struct mr_tcp *t)
{
    return &t->counts;
}
