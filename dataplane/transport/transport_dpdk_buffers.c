/*
 * transport_dpdk_buffers: received bytes, copied out of the card's frames into buffers of 16 KiB.
 *
 * A frame holds 1.4 KB in 2.3 KB of the card's few buffers, and a session cannot say when it gives them back. One copy
 * makes of it what the session is used to from kernel sockets: a few large pieces. A connection between requests holds
 * no buffer.
 *
 *   first -> [ delivered | pending ] -> [ pending ] -> [ pending | free ] <- last
 */
#include "transport/transport_dpdk.h"

static uint32_t buffer_total(uint64_t bytes)
{
    uint64_t count = bytes / MR_DPDK_BUFFER_BYTES;
    return count < 64 ? 64 : count > (1u << 20) ? 1u << 20 : (uint32_t)count;
}

void mr_transport_dpdk_buffers_init(struct mr_dpdk *t, struct mr_arena *arena)
{
    t->buffer_count = t->free_count = buffer_total(t->params.receive_bytes);
    t->memory = mr_arena_get_bulk(arena, (size_t)t->buffer_count * MR_DPDK_BUFFER_BYTES);
    t->buffers = mr_arena_get_fresh(arena, sizeof *t->buffers * t->buffer_count, 64);
}

/* The engine's events are taken only while each of them finds room: a frame fills one buffer and begins another. */
bool mr_transport_dpdk_has_buffers(const struct mr_dpdk *t)
{
    return t->free_count >= 2;
}

static uint32_t buffer_get(struct mr_dpdk *t)
{
    mr_assert(t->free_count > 0);
    t->free_count--;
    uint32_t id = t->free_head;
    if (id != 0) { /* last returned first: its bytes are still in the cache */
        t->free_head = t->buffers[id - 1].next;
    } else {
        id = ++t->touched;
    }
    t->buffers[id - 1] = (struct mr_dpdk_buffer){.refs = 1};
    return id;
}

void mr_transport_dpdk_put(struct mr_dpdk *t, uint32_t buffer)
{
    struct mr_dpdk_buffer *b = &t->buffers[buffer - 1];
    mr_assert(b->refs > 0);
    if (--b->refs == 0) {
        b->next = t->free_head;
        t->free_head = buffer;
        t->free_count++;
    }
}

void mr_transport_dpdk_store(struct mr_dpdk *t, struct mr_dpdk_conn *c, struct mr_span span)
{
    while (span.len > 0) {
        if (c->last == 0 || t->buffers[c->last - 1].len == MR_DPDK_BUFFER_BYTES) {
            uint32_t fresh = buffer_get(t);
            if (c->last == 0) {
                c->first = fresh;
                c->first_at = 0;
            } else {
                t->buffers[c->last - 1].next = fresh;
            }
            c->last = fresh;
        }
        struct mr_dpdk_buffer *b = &t->buffers[c->last - 1];
        uint32_t part = MR_DPDK_BUFFER_BYTES - b->len < span.len ? MR_DPDK_BUFFER_BYTES - b->len : span.len;
        memcpy(t->memory + (size_t)(c->last - 1) * MR_DPDK_BUFFER_BYTES + b->len, span.data, part);
        b->len += part;
        c->pending += part;
        span.data += part;
        span.len -= part;
    }
}

static void first_drop(struct mr_dpdk *t, struct mr_dpdk_conn *c)
{
    uint32_t gone = c->first;
    c->first = gone == c->last ? 0 : t->buffers[gone - 1].next;
    c->last = c->first == 0 ? 0 : c->last;
    c->first_at = 0;
    mr_transport_dpdk_put(t, gone);
}

struct mr_span mr_transport_dpdk_next(struct mr_dpdk *t, struct mr_dpdk_conn *c, uint32_t max, uint32_t *buffer)
{
    mr_assert(c->pending > 0);
    if (c->first_at == MR_DPDK_BUFFER_BYTES) {
        first_drop(t, c);
    }
    struct mr_dpdk_buffer *b = &t->buffers[c->first - 1];
    uint32_t len = b->len - c->first_at < max ? b->len - c->first_at : max;
    struct mr_span span = {.data = t->memory + (size_t)(c->first - 1) * MR_DPDK_BUFFER_BYTES + c->first_at,
                           .len = len};
    *buffer = c->first;
    b->refs++;
    c->first_at += len;
    c->pending -= len;
    return span;
}

void mr_transport_dpdk_drop(struct mr_dpdk *t, struct mr_dpdk_conn *c)
{
    while (c->first != 0) {
        first_drop(t, c);
    }
    c->pending = 0;
}
