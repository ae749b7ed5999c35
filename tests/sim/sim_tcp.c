#include "sim_tcp.h"

#include "tcp/tcp_conn.h"
#include "tcp/tcp_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNS_MAX   4u
#define CHUNKS_MAX  64u
#define SEGMENTS    16u
#define EVENTS      16u
#define HOUR_NS     (3600 * MR_NS_PER_S)
#define STEPS_MAX   4000000u
#define PORT        9092u

enum ending {
    FINISH,        /* FIN, and read until the peer's */
    FINISH_BEHIND, /* FIN when the peer's has come */
    CLOSE_BEHIND,  /* likewise, with mr_tcp_close() */
    ABORT,
};

/* A lent piece: poisoned when it comes back. */
struct chunk {
    uint8_t *bytes;
    uint32_t len;
    uint64_t token;
};

struct end {
    struct mr_tcp_conn *conn;
    bool is_open;
    bool is_ended;
    bool is_eof;
    bool is_closed; /* asked for */
    bool is_blocked;
    enum mr_err err;
    enum ending ending;
    uint64_t sent;
    uint64_t total;
    uint64_t got;
    uint64_t unread;
    uint64_t read_at_ns;
    uint64_t salt;
    uint64_t abort_at; /* bytes */
    uint32_t read_pause_us;
    uint64_t token;
    struct chunk chunks[CHUNKS_MAX];
    uint32_t chunk_first;
    uint32_t chunk_count;
};

struct life {
    struct mr_tcp_path path; /* as host 0 sees it */
    uint64_t begin_ns;
    bool is_begun;
    bool is_simultaneous;
    bool is_aborted;
    uint32_t opener;
    struct end ends[2];
};

struct world {
    struct mr_prng prng;
    uint64_t now_ns;
    struct mr_sim_link link;
    struct mr_tcp *stacks[2];
    void *memory[2];
    struct life lives[CONNS_MAX];
    uint32_t life_count;
    uint32_t held; /* packets that an engine has kept */
    bool is_verbose;
    struct mr_sim_tcp_result *result;
};

static uint64_t draw(struct world *w, uint64_t below)
{
    return mr_prng_below(&w->prng, below);
}

static bool one_in(struct world *w, uint64_t n)
{
    return draw(w, n) == 0;
}

static void violation(struct world *w, const char *what)
{
    if (w->result->violation[0] == '\0') {
        snprintf(w->result->violation, sizeof w->result->violation, "%s at %.6f s", what, (double)w->now_ns / 1e9);
    }
}

static uint8_t byte_at(uint64_t salt, uint64_t pos)
{
    return (uint8_t)(mr_hash_u64(salt + pos / 8) >> (pos % 8 * 8));
}

/* ---- the wire ---- */

static void trace(struct world *w, const char *how, uint32_t host, const struct mr_tcp_segment *s)
{
    if (w->is_verbose) {
        printf("%12.6f %u %s %u>%u seq %u ack %u win %u len %u %s%s%s%s%s%s sacks %u", (double)w->now_ns / 1e9, host, how,
               s->path.local_port, s->path.remote_port, s->seq, s->ack, s->window, s->len, s->flags & 2 ? "S" : "",
               s->flags & 1 ? "F" : "", s->flags & 4 ? "R" : "", s->flags & 16 ? "." : "", s->flags & 64 ? "E" : "",
               s->flags & 128 ? "C" : "", s->sack_count);
        for (uint32_t i = 0; i < s->sack_count; i++) {
            printf(" %u-%u", s->sacks[i].start, s->sacks[i].end);
        }
        printf("\n");
    }
}

static void transmit_one(struct world *w, uint32_t from, const struct mr_tcp_segment *s)
{
    static uint8_t bytes[MR_TCP_HEADER_MAX + 65536];
    uint32_t header = mr_tcp_wire_header(s, bytes);
    mr_store_be16(bytes + 16, mr_tcp_wire_checksum(s, bytes, header));
    uint32_t len = header;
    for (uint32_t index = 0; index < s->span_count; index++) {
        memcpy(bytes + len, s->spans[index].data, s->spans[index].len);
        len += s->spans[index].len;
    }
    uint32_t overhead = mr_address_is_ip4(&s->path.remote) ? 20 : 40;
    if (len + overhead > w->stacks[from]->params.mtu) {
        violation(w, "a packet is larger than the MTU");
    }
    trace(w, "->", from, s);
    mr_sim_link_send(&w->link, w->now_ns, 1 - from, s->ecn, bytes, len, overhead);
}

/* As a network card cuts: FIN and PSH on the last, CWR on the first only. */
static void transmit(struct world *w, uint32_t from, const struct mr_tcp_segment *s)
{
    static uint8_t payload[65536];
    if (s->len <= s->cut_bytes || s->cut_bytes == 0) {
        transmit_one(w, from, s);
        return;
    }
    uint32_t len = 0;
    for (uint32_t index = 0; index < s->span_count; index++) {
        memcpy(payload + len, s->spans[index].data, s->spans[index].len);
        len += s->spans[index].len;
    }
    for (uint32_t at = 0; at < len; at += s->cut_bytes) {
        struct mr_tcp_segment part = *s;
        bool is_last = at + s->cut_bytes >= len;
        part.seq += at;
        part.len = is_last ? len - at : s->cut_bytes;
        part.span_count = 1;
        part.spans[0] = (struct mr_span){.data = payload + at, .len = part.len};
        part.flags = (uint8_t)(part.flags & ~(is_last ? 0 : MR_TCP_FIN | MR_TCP_PSH) & ~(at > 0 ? MR_TCP_CWR : 0));
        transmit_one(w, from, &part);
    }
}

static void receive(struct world *w, struct mr_sim_packet *packet)
{
    uint32_t host = packet->to;
    const struct mr_tcp_path *path = &w->lives[0].path;
    struct mr_tcp_segment s = {.ecn = packet->ecn, .buffer = packet};
    s.path.local = host == 0 ? path->local : path->remote;
    s.path.remote = host == 0 ? path->remote : path->local;
    enum mr_tcp_drop why;
    if (!mr_tcp_wire_parse(packet->bytes, packet->len, false, &s, &why)) {
        mr_sim_link_free(&w->link, packet);
        return;
    }
    trace(w, "<-", host, &s);
    w->result->hash = mr_hash_u64(w->result->hash ^ s.seq ^ ((uint64_t)s.ack << 32) ^ w->now_ns);
    if (mr_tcp_input(w->stacks[host], &s, w->now_ns)) {
        w->held++;
    } else {
        mr_sim_link_free(&w->link, packet);
    }
}

static void release(struct world *w, void *buffer)
{
    w->held--;
    mr_sim_link_free(&w->link, buffer);
}

/* ---- the application ---- */

static struct end *end_of(struct world *w, uint32_t host, const struct mr_tcp_conn *c)
{
    for (uint32_t index = 0; index < w->life_count; index++) {
        if (w->lives[index].ends[host].conn == c) {
            return &w->lives[index].ends[host];
        }
    }
    return NULL;
}

static void free_chunks(struct end *e, uint64_t token)
{
    while (e->chunk_first < e->chunk_count && e->chunks[e->chunk_first % CHUNKS_MAX].token <= token) {
        struct chunk *chunk = &e->chunks[e->chunk_first++ % CHUNKS_MAX];
        memset(chunk->bytes, 0xee, chunk->len);
        free(chunk->bytes);
    }
}

static void send_some(struct world *w, struct end *e)
{
    while (e->is_open && !e->is_ended && !e->is_closed && !e->is_blocked && e->sent < e->total &&
           e->chunk_count - e->chunk_first < CHUNKS_MAX) {
        uint64_t size = one_in(w, 3) ? 1 + draw(w, 40000) : 1 + draw(w, 1000);
        uint32_t len = (uint32_t)(size < e->total - e->sent ? size : e->total - e->sent);
        struct chunk chunk = {.bytes = malloc(len), .len = len, .token = e->token + 1};
        for (uint32_t at = 0; at < len; at++) {
            chunk.bytes[at] = byte_at(e->salt, e->sent + at);
        }
        uint32_t cut = (uint32_t)draw(w, len);
        struct mr_span spans[2] = {{chunk.bytes, cut}, {chunk.bytes + cut, len - cut}};
        enum mr_err err = mr_tcp_send(e->conn, spans, 2, chunk.token);
        if (err != MR_OK) {
            free(chunk.bytes);
            e->is_blocked = err == MR_AGAIN;
            if (err != MR_AGAIN && err != MR_ERR_TOO_LARGE) { /* others hold all blocks: tried again in the next turn */
                violation(w, mr_err_text(err));
            }
            return;
        }
        e->token++;
        e->sent += len;
        e->chunks[e->chunk_count++ % CHUNKS_MAX] = chunk;
    }
}

static void close_if_done(struct end *e)
{
    if (!e->is_open || e->is_ended || e->is_closed) {
        return;
    }
    if (e->ending == ABORT && e->got + e->sent >= e->abort_at) {
        e->is_closed = true;
        mr_tcp_abort(e->conn, MR_ERR_CLOSED);
        return;
    }
    if (e->sent < e->total || (e->ending != FINISH && !e->is_eof)) {
        return;
    }
    e->is_closed = true;
    if (e->ending == CLOSE_BEHIND) {
        mr_tcp_close(e->conn);
    } else {
        mr_tcp_finish(e->conn);
    }
}

static void take_data(struct world *w, struct end *e, const struct mr_tcp_event *event)
{
    for (uint32_t at = 0; at < event->span.len; at++) {
        if (event->span.data[at] != byte_at(~e->salt, e->got + at)) {
            violation(w, "a byte is not the one that was sent");
            break;
        }
    }
    e->got += event->span.len;
    e->unread += event->span.len;
    w->result->bytes += event->span.len;
    if (e->read_at_ns == MR_NEVER) {
        e->read_at_ns = w->now_ns + e->read_pause_us * MR_NS_PER_US;
    }
    release(w, event->buffer);
}

/* A late copy of the ACK of a cookie opens the connection once more (RFC 4987 3.6): nobody waits for it. */
static void *const ghost = &(char){0};

static bool is_ghost(struct world *w, const struct mr_tcp_event *event)
{
    if (event->user != ghost) {
        return false;
    }
    if (event->kind == MR_TCP_DATA) {
        release(w, event->buffer);
    }
    return true;
}

static void take_event(struct world *w, uint32_t host, const struct mr_tcp_event *event)
{
    if (is_ghost(w, event)) {
        return;
    }
    struct end *e = end_of(w, host, event->conn);
    if (event->kind == MR_TCP_OPENED && e == NULL) { /* accepted: by the ports */
        for (uint32_t index = 0; index < w->life_count; index++) {
            struct life *life = &w->lives[index];
            uint16_t port = host == 0 ? life->path.remote_port : life->path.local_port;
            if (mr_tcp_path(event->conn)->remote_port == port && life->ends[host].conn == NULL && !life->ends[host].is_ended) {
                e = &life->ends[host];
                e->conn = event->conn;
            }
        }
    }
    if (e == NULL && event->kind == MR_TCP_OPENED && w->stacks[host]->counts.cookies_taken > 0) {
        mr_tcp_set_user(event->conn, ghost);
        mr_tcp_abort(event->conn, MR_ERR_CLOSED);
        return;
    }
    if (e == NULL || e->is_ended) {
        violation(w, "an event of a connection that nobody knows, or behind its end");
        return;
    }
    switch (event->kind) {
    case MR_TCP_OPENED:
        e->is_open = true;
        break;
    case MR_TCP_DATA:
        take_data(w, e, event);
        return;
    case MR_TCP_SENT:
        free_chunks(e, event->token);
        break;
    case MR_TCP_ROOM:
        e->is_blocked = false;
        break;
    case MR_TCP_EOF:
        e->is_eof = true;
        break;
    case MR_TCP_END:
        e->is_ended = true;
        e->err = event->err;
        e->conn = NULL;
        free_chunks(e, UINT64_MAX);
        break;
    }
}

static void read_some(struct world *w, struct end *e)
{
    if (e->read_at_ns > w->now_ns || e->conn == NULL) {
        return;
    }
    uint64_t part = one_in(w, 3) ? 1 + draw(w, e->unread) : e->unread;
    e->unread -= part;
    e->read_at_ns = e->unread == 0 ? MR_NEVER : w->now_ns + e->read_pause_us * MR_NS_PER_US;
    mr_tcp_consumed(e->conn, (uint32_t)part);
}

static void open_lives(struct world *w)
{
    for (uint32_t index = 0; index < w->life_count; index++) {
        struct life *life = &w->lives[index];
        if (life->is_begun || life->begin_ns > w->now_ns) {
            continue;
        }
        life->is_begun = true;
        for (uint32_t host = 0; host < 2; host++) {
            if (host != life->opener && !life->is_simultaneous) {
                continue;
            }
            struct mr_tcp_path path = life->path;
            if (host == 1) {
                path = (struct mr_tcp_path){life->path.remote, life->path.local, life->path.remote_port, life->path.local_port};
            }
            if (mr_tcp_connect(w->stacks[host], &path, NULL, w->now_ns, &life->ends[host].conn) != MR_OK) {
                violation(w, "cannot connect");
            }
        }
    }
}

/* ---- the world ---- */

static void turn(struct world *w)
{
    for (uint32_t host = 0; host < 2; host++) {
        struct mr_tcp *t = w->stacks[host];
        struct mr_tcp_event events[EVENTS];
        uint32_t max = 1 + (uint32_t)draw(w, EVENTS);
        uint32_t count;
        do {
            count = mr_tcp_events(t, events, max);
            for (uint32_t index = 0; index < count; index++) {
                take_event(w, host, &events[index]);
            }
        } while (count > 0);
        for (uint32_t index = 0; index < w->life_count; index++) {
            struct end *e = &w->lives[index].ends[host];
            read_some(w, e);
            send_some(w, e);
            close_if_done(e);
        }
        struct mr_tcp_segment segments[SEGMENTS];
        max = 1 + (uint32_t)draw(w, SEGMENTS);
        do {
            count = mr_tcp_output(t, w->now_ns, segments, max);
            for (uint32_t index = 0; index < count; index++) {
                transmit(w, host, &segments[index]);
            }
        } while (count == max);
        for (void *buffer; mr_tcp_discarded(t, &buffer);) {
            release(w, buffer);
        }
        const char *what = mr_tcp_check(t);
        if (what != NULL) {
            violation(w, what);
        }
    }
}

static bool is_over(const struct world *w)
{
    for (uint32_t index = 0; index < w->life_count; index++) {
        const struct life *life = &w->lives[index];
        for (uint32_t host = 0; host < 2; host++) {
            const struct end *e = &life->ends[host];
            bool never_accepted = e->conn == NULL && !e->is_open && life->ends[1 - host].is_ended;
            if (!e->is_ended && !never_accepted) {
                return false;
            }
        }
    }
    return true;
}

static uint64_t next_ns(const struct world *w)
{
    uint64_t at = mr_sim_link_next_ns(&w->link);
    for (uint32_t host = 0; host < 2; host++) {
        at = mr_earlier(at, mr_tcp_deadline_ns(w->stacks[host]));
    }
    for (uint32_t index = 0; index < w->life_count; index++) {
        const struct life *life = &w->lives[index];
        at = life->is_begun ? at : mr_earlier(at, life->begin_ns);
        for (uint32_t host = 0; host < 2; host++) {
            at = life->ends[host].is_ended ? at : mr_earlier(at, life->ends[host].read_at_ns);
        }
    }
    return at;
}

static void run(struct world *w, uint64_t until_ns)
{
    for (uint32_t step = 0; w->result->violation[0] == '\0'; step++) {
        open_lives(w);
        turn(w);
        if (is_over(w)) {
            return;
        }
        uint64_t at = next_ns(w);
        if (at == MR_NEVER || at > until_ns || step > STEPS_MAX) {
            violation(w, at == MR_NEVER ? "nothing will ever happen again" : "no end in sight");
            return;
        }
        w->now_ns = at > w->now_ns ? at : w->now_ns;
        for (struct mr_sim_packet *packet; (packet = mr_sim_link_take(&w->link, w->now_ns)) != NULL;) {
            receive(w, packet);
            if (one_in(w, 2)) {
                break;
            }
        }
    }
}

static void judge_ends(struct world *w)
{
    for (uint32_t index = 0; index < w->life_count; index++) {
        const struct life *life = &w->lives[index];
        w->result->lives++;
        for (uint32_t host = 0; host < 2 && !life->is_aborted; host++) {
            const struct end *e = &life->ends[host];
            const struct end *peer = &life->ends[1 - host];
            if (w->is_verbose) {
                printf("port %u host %u: %s, got %llu of %llu, sent %llu, ending %u\n", life->path.local_port, host,
                       mr_err_text(e->err), (unsigned long long)e->got, (unsigned long long)peer->total,
                       (unsigned long long)e->sent, e->ending);
            }
            if (!e->is_open || !peer->is_open) {
                if (e->err != MR_OK && w->link.lost == 0) { /* as many SYNs or ACKs may be lost as are ever sent */
                    violation(w, "an open failed, and nothing was lost");
                }
            } else if (e->err != MR_OK) {
                violation(w, "an orderly connection ended with an error");
            } else if (e->got != peer->total || !e->is_eof) {
                violation(w, "not everything arrived");
            }
        }
    }
}

/* The path is quiet and nobody owns anything: after TIME-WAIT nothing may be held. */
static void judge_memory(struct world *w)
{
    mr_sim_link_clear(&w->link);
    for (uint32_t host = 0; host < 2; host++) {
        struct mr_tcp *t = w->stacks[host];
        struct mr_tcp_segment segments[SEGMENTS];
        struct mr_tcp_event events[EVENTS];
        for (uint32_t round = 0; round < 4000 && t->conns.used > 0; round++) {
            w->now_ns = mr_tcp_deadline_ns(t) == MR_NEVER || mr_tcp_deadline_ns(t) < w->now_ns ? w->now_ns : mr_tcp_deadline_ns(t);
            while (mr_tcp_output(t, w->now_ns, segments, SEGMENTS) == SEGMENTS) {
            }
            (void)mr_tcp_events(t, events, EVENTS);
        }
        for (void *buffer; mr_tcp_discarded(t, &buffer);) {
            release(w, buffer);
        }
        if (t->conns.used != 0) {
            violation(w, "a connection is held for ever");
        } else if (t->sents.used != 0 || t->pieces.used != 0 || t->blocks.used != 0 || t->disorder_bytes != 0) {
            violation(w, "a pool is not whole again");
        }
    }
    if (w->held != 0 || w->link.live != 0) {
        violation(w, "a packet was kept and never given back");
    }
    for (uint32_t index = 0; index < w->life_count; index++) {
        free_chunks(&w->lives[index].ends[0], UINT64_MAX);
        free_chunks(&w->lives[index].ends[1], UINT64_MAX);
    }
}

static struct mr_tcp_params draw_params(struct world *w)
{
    static const uint16_t mtus[] = {1500, 1500, 1500, 9000, 1400, 1280};
    struct mr_tcp_params p = mr_tcp_params_default(8);
    p.sent_max = one_in(w, 4) ? 40 : 2048;
    p.pieces_max = one_in(w, 4) ? 60 : 4096;
    p.blocks_max = one_in(w, 4) ? 5 : 256;
    p.mtu = mtus[draw(w, sizeof mtus / sizeof mtus[0])];
    p.has_sack = !one_in(w, 5);
    p.has_timestamps = !one_in(w, 4);
    p.has_wscale = !one_in(w, 4);
    p.has_ecn = one_in(w, 3);
    p.burst_bytes = one_in(w, 3) ? 60000 : 0;
    p.window_initial = one_in(w, 4) ? 3000 + (uint32_t)draw(w, 5000) : 65535;
    p.window_max = p.window_initial + (one_in(w, 2) ? 0 : 1u << 20);
    p.user_timeout_ns = p.stalled_timeout_ns = 24 * HOUR_NS;
    p.keepalive_probes = 10000;
    p.time_wait_max = 8;
    p.rto_max_ns = 10 * MR_NS_PER_S;
    p.time_wait_ns = HOUR_NS; /* a last ACK that is lost again and again must still find it */
    p.half_open_max = one_in(w, 4) ? 0 : 4; /* 0: every open goes by a cookie */
    p.secret = (struct mr_hash_key){mr_prng_next(&w->prng), mr_prng_next(&w->prng)};
    return p;
}

static void draw_faults(struct world *w, struct mr_sim_link_faults *f)
{
    static const uint64_t delays_us[] = {1, 20, 100, 1000, 10000, 80000};
    static const uint32_t losses[] = {0, 0, 10, 100, 500, 1000, 3000};
    *f = (struct mr_sim_link_faults){.delay_ns = delays_us[draw(w, 6)] * MR_NS_PER_US + draw(w, 1000)};
    f->loss = losses[draw(w, 7)];
    f->duplicate = one_in(w, 4) ? (uint32_t)draw(w, 5000) : 0;
    f->corrupt = one_in(w, 4) ? (uint32_t)draw(w, 300) : 0;
    if (one_in(w, 3)) {
        f->reorder = (uint32_t)draw(w, 5000);
        f->jitter_ns = f->delay_ns * (1 + draw(w, 3));
    }
    if (one_in(w, 5)) {
        f->burst_begin = (uint32_t)draw(w, 200);
        f->burst_end = 500 + (uint32_t)draw(w, 3000);
    }
    if (one_in(w, 3)) {
        f->bytes_per_s = 100000 + draw(w, 10000000);
        f->queue_bytes = 20000 + (uint32_t)draw(w, 200000);
        f->mark_bytes = one_in(w, 2) ? f->queue_bytes / 3 : 0;
    }
    f->mtu = one_in(w, 10) ? 1300 : 0; /* a black hole for what is larger */
}

static void draw_life(struct world *w, struct life *life, uint32_t index, const struct mr_tcp_path *hosts)
{
    life->path = *hosts;
    life->begin_ns = w->now_ns + draw(w, 50 * MR_NS_PER_MS);
    life->opener = (uint32_t)draw(w, 2);
    life->is_simultaneous = one_in(w, 10);
    uint16_t port = (uint16_t)(40000 + index);
    life->path.local_port = life->opener == 0 ? port : PORT;
    life->path.remote_port = life->opener == 0 ? PORT : port;
    if (life->is_simultaneous) { /* nobody listens there */
        life->path.local_port = port;
        life->path.remote_port = (uint16_t)(50000 + index);
    }
    uint64_t salt = mr_prng_next(&w->prng) & ~1ull;
    for (uint32_t host = 0; host < 2; host++) {
        struct end *e = &life->ends[host];
        e->salt = host == 0 ? salt : ~salt;
        e->total = one_in(w, 5) ? 0 : one_in(w, 3) ? draw(w, 120000) : draw(w, 6000);
        if (host == life->opener && e->total == 0) {
            e->total = 1; /* who was let in by a cookie and says nothing is never noticed if its ACK is lost (RFC 4987 3.6) */
        }
        e->read_pause_us = one_in(w, 4) ? (uint32_t)draw(w, 200000) : 0;
        e->read_at_ns = MR_NEVER;
        e->ending = one_in(w, 12) ? ABORT : one_in(w, 2) ? FINISH : one_in(w, 2) ? FINISH_BEHIND : CLOSE_BEHIND;
        e->abort_at = draw(w, 100000);
        if (e->ending == ABORT && e->abort_at > e->total) {
            e->ending = FINISH;
        }
        life->is_aborted = life->is_aborted || e->ending == ABORT;
    }
    if (life->ends[0].ending != FINISH && life->ends[1].ending != FINISH) {
        life->ends[0].ending = FINISH; /* somebody must begin */
    }
}

static void init_world(struct world *w, uint64_t seed, struct mr_sim_tcp_result *result)
{
    *w = (struct world){.prng = {.state = seed * 0x9e3779b97f4a7c15ull}, .result = result};
    mr_sim_link_init(&w->link, mr_prng_next(&w->prng));
}

static void make_stack(struct world *w, uint32_t host, const struct mr_tcp_params *params)
{
    struct mr_arena arena;
    w->memory[host] = calloc(1, mr_tcp_bytes(params));
    mr_assert(w->memory[host] != NULL);
    mr_arena_init(&arena, w->memory[host], mr_tcp_bytes(params));
    w->stacks[host] = mr_tcp_init(params, &arena);
    static const struct mr_address any;
    (void)mr_tcp_listen(w->stacks[host], &any, PORT, 0);
}

static void finish_world(struct world *w)
{
    if (w->result->violation[0] == '\0') {
        judge_ends(w);
        judge_memory(w);
    }
    w->result->packets += w->link.sent;
    w->result->lost += w->link.lost;
    free(w->memory[0]);
    free(w->memory[1]);
}

static struct mr_tcp_path draw_hosts(bool is_ip4)
{
    struct mr_tcp_path hosts = {.local = {{[10] = 0xff, 0xff, 10, 0, 0, 1}}, .remote = {{[10] = 0xff, 0xff, 10, 0, 0, 2}}};
    if (!is_ip4) {
        hosts.local = (struct mr_address){{0xfd, [15] = 1}};
        hosts.remote = (struct mr_address){{0xfd, [15] = 2}};
    }
    return hosts;
}

/* Many seeds begin just before a number wraps: the opener's sequence numbers, or its clock of timestamps. */
static void draw_start(struct world *w)
{
    struct life *life = &w->lives[0];
    struct mr_tcp_path path = life->path;
    struct mr_tcp *t = w->stacks[life->opener];
    if (life->opener == 1) {
        path = (struct mr_tcp_path){life->path.remote, life->path.local, life->path.remote_port, life->path.local_port};
    }
    uint64_t start_ns = 1 + draw(w, HOUR_NS);
    if (one_in(w, 2)) {
        start_ns = (uint64_t)(0u - mr_tcp_listen_isn(t, &path, 0) - (uint32_t)draw(w, 60000)) * 4000;
    } else if (one_in(w, 2)) {
        start_ns = (uint64_t)(0u - mr_tcp_listen_ts_offset(t, &path) - (uint32_t)draw(w, 500)) * MR_NS_PER_MS;
    }
    w->now_ns += start_ns;
    for (uint32_t index = 0; index < w->life_count; index++) {
        w->lives[index].begin_ns += start_ns;
    }
    life->begin_ns = w->now_ns;
}

bool mr_sim_tcp_run(uint64_t seed, bool is_verbose, struct mr_sim_tcp_result *result)
{
    struct world *w = calloc(1, sizeof *w);
    init_world(w, seed, result);
    w->is_verbose = is_verbose;
    draw_faults(w, &w->link.faults[0]);
    draw_faults(w, &w->link.faults[1]);
    struct mr_tcp_path hosts = draw_hosts(!one_in(w, 3));
    w->life_count = 1 + (uint32_t)draw(w, CONNS_MAX);
    for (uint32_t index = 0; index < w->life_count; index++) {
        draw_life(w, &w->lives[index], index, &hosts);
    }
    for (uint32_t host = 0; host < 2; host++) {
        struct mr_tcp_params params = draw_params(w);
        make_stack(w, host, &params);
    }
    draw_start(w);
    run(w, w->now_ns + 20 * HOUR_NS);
    finish_world(w);
    bool is_good = result->violation[0] == '\0';
    free(w);
    return is_good;
}

double mr_sim_tcp_goodput(uint64_t seed, const struct mr_sim_link_faults *faults, uint32_t bytes,
                          struct mr_sim_tcp_result *result)
{
    struct world *w = calloc(1, sizeof *w);
    init_world(w, seed, result);
    w->link.faults[0] = w->link.faults[1] = *faults;
    w->link.faults[0].loss = 0; /* the way of the acknowledgements */
    w->life_count = 1;
    struct life *life = &w->lives[0];
    life->path = draw_hosts(true);
    life->path.local_port = 40000;
    life->path.remote_port = PORT;
    life->ends[0] = (struct end){.total = bytes, .read_at_ns = MR_NEVER, .ending = FINISH, .salt = 2};
    life->ends[1] = (struct end){.read_at_ns = MR_NEVER, .ending = CLOSE_BEHIND, .salt = ~2ull};
    for (uint32_t host = 0; host < 2; host++) {
        struct mr_tcp_params params = mr_tcp_params_default(8);
        params.secret.k0 = seed;
        make_stack(w, host, &params);
    }
    w->now_ns = life->begin_ns = MR_NS_PER_S;
    run(w, 20 * HOUR_NS);
    double seconds = (double)(w->now_ns - life->begin_ns) / 1e9;
    finish_world(w);
    free(w);
    return result->violation[0] == '\0' ? bytes / seconds : 0;
}
