/*
 * fuzz_tcp: any bytes as what a peer, the session and time do to one TCP stack with a listener.
 *
 * A script of items; a segment's numbers are relative to the connection's, so that most are near what matters:
 *
 *   0..3  segment   | flags | seq i16 | ack i16 | window u16 | len u8 | options u8 | ts i8 | sack i8 x 4
 *   4     time      | log2 of microseconds
 *   5     send      | len u16
 *   6     consume   | len u16
 *   7     finish, close, abort, too big
 *   8     raw header bytes for the parser, with their own idea of everything
 *
 * Checked after every item: mr_tcp_check(); at the end every buffer is back.
 */
#include "mutate.h"
#include "tcp/tcp_conn.h"
#include "tcp/tcp_wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUFFERS 64u

struct rig {
    struct mr_tcp *t;
    struct mr_tcp_conn *c; /* the session's; NULL: none */
    uint64_t now_ns;
    uint64_t token;
    uint64_t unread;
    int64_t held;
};

static const uint8_t text[65536];
static const struct mr_tcp_path path = {.local = {{[10] = 0xff, 0xff, 10, 0, 0, 1}},
                                        .remote = {{[10] = 0xff, 0xff, 10, 0, 0, 2}},
                                        .local_port = 9092,
                                        .remote_port = 40000};

static void drain(struct rig *r)
{
    struct mr_tcp_segment out[8];
    struct mr_tcp_event e;
    void *buffer;
    for (uint32_t round = 0; round < 1000 && mr_tcp_output(r->t, r->now_ns, out, 8) == 8; round++) {
        for (uint32_t index = 0; index < 8; index++) {
            uint8_t header[MR_TCP_HEADER_MAX];
            mr_assert(mr_tcp_wire_header(&out[index], header) <= MR_TCP_HEADER_MAX);
        }
    }
    while (mr_tcp_events(r->t, &e, 1) == 1) {
        if (e.kind == MR_TCP_OPENED && r->c == NULL) {
            r->c = e.conn;
            r->unread = 0;
        } else if (e.kind == MR_TCP_DATA) {
            r->held--;
            r->unread += e.conn == r->c ? e.span.len : 0;
        } else if (e.kind == MR_TCP_END && e.conn == r->c) {
            r->c = NULL;
        }
    }
    while (mr_tcp_discarded(r->t, &buffer)) {
        r->held--;
    }
    mr_assert(mr_tcp_check(r->t) == NULL);
    mr_assert(r->held >= 0);
}

static uint16_t u16(const struct mr_script_item *item, uint32_t at)
{
    return at + 2 <= item->len ? mr_load_be16(item->bytes + at) : 0;
}

static uint8_t u8(const struct mr_script_item *item, uint32_t at)
{
    return at < item->len ? item->bytes[at] : 0;
}

/* Signed numbers, as distances of sequence numbers. */
static uint32_t s16(const struct mr_script_item *item, uint32_t at)
{
    int32_t value = (int16_t)u16(item, at);
    return (uint32_t)value;
}

static uint32_t s8(const struct mr_script_item *item, uint32_t at, int32_t unit)
{
    int32_t value = (int8_t)u8(item, at) * unit;
    return (uint32_t)value;
}

static void segment(struct rig *r, const struct mr_script_item *item)
{
    const struct mr_tcp_conn *c = mr_tcp_find(r->t, &path);
    struct mr_tcp_segment s = {.path = path, .flags = u8(item, 0), .window = u16(item, 5), .buffer = r};
    uint32_t rcv = c != NULL ? c->rcv_nxt : 77;
    uint32_t una = c != NULL ? c->snd_una : 0;
    uint8_t options = u8(item, 8);
    s.seq = rcv + s16(item, 1);
    s.ack = una + s16(item, 3);
    s.len = u8(item, 7) * ((options & 64) != 0 ? 16u : 1u);
    s.span_count = s.len > 0;
    s.spans[0] = (struct mr_span){text, s.len};
    s.ecn = (uint8_t)(options >> 4 & 3);
    s.has_mss = (s.flags & MR_TCP_SYN) != 0 && (options & 1) != 0;
    s.mss = u16(item, 5);
    s.has_wscale = (s.flags & MR_TCP_SYN) != 0 && (options & 2) != 0;
    s.wscale = u8(item, 9) % 15;
    s.is_sack_permitted = (options & 4) != 0;
    s.has_ts = (options & 8) != 0;
    s.ts_value = (c != NULL ? c->ts_recent : 0) + s8(item, 9, 1);
    s.ts_echo = (uint32_t)(r->now_ns / MR_NS_PER_MS) + (c != NULL ? c->ts_offset : 0) - u8(item, 10);
    for (uint32_t index = 0; (options & 128) != 0 && index < MR_TCP_SACKS && 12 + 2 * index < item->len; index++) {
        s.sacks[s.sack_count].start = una + s8(item, 11 + 2 * index, 100);
        s.sacks[s.sack_count].end = s.sacks[s.sack_count].start + s8(item, 12 + 2 * index, 100);
        s.sack_count++;
    }
    r->held += mr_tcp_input(r->t, &s, r->now_ns);
}

static void raw(struct rig *r, const struct mr_script_item *item)
{
    struct mr_tcp_segment s = {.path = path, .buffer = r};
    enum mr_tcp_drop why;
    uint8_t *exact = malloc(item->len + 1); /* the sanitizer guards its end */
    memcpy(exact, item->bytes, item->len);
    if (mr_tcp_wire_parse(exact, item->len, true, &s, &why)) {
        uint8_t header[MR_TCP_HEADER_MAX];
        mr_assert(s.sack_count <= MR_TCP_SACKS && s.len <= item->len);
        if (mr_tcp_wire_options(&s) <= 40) {
            (void)mr_tcp_wire_header(&s, header);
        }
        s.path = path;
        s.spans[0].data = text;
        s.len = s.len > sizeof text ? 0 : s.len;
        r->held += mr_tcp_input(r->t, &s, r->now_ns);
    }
    free(exact);
}

static void act(struct rig *r, const struct mr_script_item *item)
{
    struct mr_tcp_conn *c = r->c;
    if (c == NULL) {
        if (item->kind % 9 == 7 && item->who % 4 == 3) {
            struct mr_tcp_path other = path;
            (void)mr_tcp_connect(r->t, &other, NULL, r->now_ns, &r->c);
            r->unread = 0;
        }
        return;
    }
    uint32_t len = u16(item, 0);
    if (item->kind % 9 == 5) {
        struct mr_span spans[2] = {{text, len / 3}, {text, len}};
        (void)mr_tcp_send(c, spans, 2, ++r->token);
    } else if (item->kind % 9 == 6) {
        len = len < r->unread ? len : (uint32_t)r->unread;
        r->unread -= len;
        mr_tcp_consumed(c, len);
    } else if (item->who % 4 == 0) {
        mr_tcp_finish(c);
    } else if (item->who % 4 == 1) {
        mr_tcp_close(c);
    } else if (item->who % 4 == 2) {
        mr_tcp_abort(c, MR_ERR_CLOSED);
    } else {
        mr_tcp_packet_too_big(r->t, &path, c->snd_una + u8(item, 2), len);
    }
}

static void step(struct rig *r, const struct mr_script_item *item)
{
    switch (item->kind % 9) {
    case 4:
        r->now_ns += 1000ull << (item->who % 32);
        break;
    case 5:
    case 6:
    case 7:
        act(r, item);
        break;
    case 8:
        raw(r, item);
        break;
    default:
        segment(r, item);
        break;
    }
    drain(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *memory;
    struct mr_tcp_params params = mr_tcp_params_default(4);
    params.sent_max = 24;
    params.pieces_max = 24;
    params.blocks_max = 3;
    params.has_ecn = true;
    params.half_open_max = size % 3 == 0 ? 0 : 2;
    params.burst_bytes = size % 2 == 0 ? 20000 : 0;
    if (memory == NULL) {
        memory = malloc(mr_tcp_bytes(&params));
    }
    struct mr_arena arena;
    struct mr_address any = {{0}};
    mr_arena_init(&arena, memory, mr_tcp_bytes(&params));
    struct rig r = {.t = mr_tcp_init(&params, &arena), .now_ns = MR_NS_PER_S};
    (void)mr_tcp_listen(r.t, &any, 9092, 0);
    const uint8_t *end = data + size;
    struct mr_script_item item;
    for (uint32_t count = 0; count < 400 && mr_script_next(&data, end, &item); count++) {
        step(&r, &item);
    }
    for (uint32_t bucket = 0; bucket < r.t->bucket_count; bucket++) {
        while (r.t->buckets[bucket] != NULL) {
            mr_tcp_end(r.t->buckets[bucket], MR_ERR_CLOSED);
        }
    }
    r.c = NULL;
    drain(&r);
    mr_assert(r.held == 0 && r.t->sents.used == 0 && r.t->pieces.used == 0 && r.t->blocks.used == 0 && r.t->conns.used == 0);
    return 0;
}

static void mutate_item(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    static const uint8_t flags[] = {0x10, 0x10, 0x10, 0x18, 0x11, 0x02, 0x12, 0x04, 0x14, 0x50, 0x90};
    if (item->bytes == NULL) {
        item->kind = (uint8_t)mr_prng_below(prng, 9);
        item->who = (uint8_t)mr_prng_below(prng, 32);
        item->len = item->kind == 8 ? 20 + (uint32_t)mr_prng_below(prng, 60) : 19;
        item->len = item->len < max ? item->len : max;
        for (uint32_t at = 0; at < item->len; at++) {
            out[at] = mr_prng_below(prng, 3) != 0 ? 0 : (uint8_t)mr_prng_next(prng);
        }
        if (item->len > 0 && item->kind < 4) {
            out[0] = flags[mr_prng_below(prng, sizeof flags)];
        }
        return;
    }
    memcpy(out, item->bytes, item->len);
    if (item->len > 0) {
        out[mr_prng_below(prng, item->len)] = (uint8_t)mr_prng_next(prng);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, mutate_item);
}
