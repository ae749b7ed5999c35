/*
 * ring: a bounded queue from exactly one thread to exactly one other.
 *
 * Everything that crosses from one plane to another crosses in a ring. A ring never allocates,
 * never blocks and never copies: the producer builds its message inside a slot, and the consumer
 * reads it there.
 *
 *      head            tail                 head, tail count slots since the
 *       v               v                   beginning of time and wrap at 2^32;
 *   ----[ ready ........ )[ room ....)---   the slot of count c is c & mask.
 *
 * Threads: room/in/publish belong to the producer, ready/out/retire to the consumer. Nothing else
 * may touch a ring that is in use. Each side keeps its own copy of the other's count and reads
 * the shared one only when the copy says full or empty (two cache lines less per message).
 */
#ifndef MILLRACE_BASE_RING_H
#define MILLRACE_BASE_RING_H

#include "millrace/base/arena.h"
#include "millrace/base/assert.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#define MR_RING_SLOT 64 /* bytes of a slot: one cache line */

struct mr_ring {
    uint8_t *slots;
    uint32_t mask;

    alignas(64) _Atomic uint32_t tail; /* written by the producer */
    uint32_t tail_local;               /* slots filled, published or not */
    uint32_t head_seen;                /* producer's copy of head */

    alignas(64) _Atomic uint32_t head; /* written by the consumer */
    uint32_t head_local;
    uint32_t tail_seen; /* consumer's copy of tail */
};

/* `slot_count` is a power of two. */
static inline void mr_ring_init(struct mr_ring *ring, struct mr_arena *arena, uint32_t slot_count)
{
    mr_assert(slot_count > 0 && (slot_count & (slot_count - 1)) == 0);
    *ring = (struct mr_ring){.mask = slot_count - 1};
    ring->slots = mr_arena_get_fresh(arena, (size_t)slot_count * MR_RING_SLOT, 64);
}

/* Slots that can be filled now. Producer. */
static inline uint32_t mr_ring_room(struct mr_ring *ring)
{
    uint32_t used = ring->tail_local - ring->head_seen;
    if (used > ring->mask) {
        /* Pairs with the release in mr_ring_retire: the consumer has finished with the slots. */
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        used = ring->tail_local - ring->head_seen;
    }
    return ring->mask + 1 - used;
}

/* The next slot to fill; room() > 0 (asserted). Producer. */
static inline void *mr_ring_in(struct mr_ring *ring)
{
    mr_assert(mr_ring_room(ring) > 0);
    return ring->slots + (size_t)(ring->tail_local++ & ring->mask) * MR_RING_SLOT;
}

/* Make everything filled so far visible. Returns the number of slots published. Producer. */
static inline uint32_t mr_ring_publish(struct mr_ring *ring)
{
    uint32_t before = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (before != ring->tail_local) {
        /* Pairs with the acquire in mr_ring_ready. */
        atomic_store_explicit(&ring->tail, ring->tail_local, memory_order_release);
    }
    return ring->tail_local - before;
}

/* Slots that can be read now. Consumer. */
static inline uint32_t mr_ring_ready(struct mr_ring *ring)
{
    if (ring->tail_seen == ring->head_local) {
        /* Pairs with the release in mr_ring_publish: the slots are filled. */
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
    }
    return ring->tail_seen - ring->head_local;
}

/* The oldest slot not yet read; ready() > 0 (asserted). Valid until retire(). Consumer. */
static inline const void *mr_ring_out(struct mr_ring *ring)
{
    mr_assert(ring->tail_seen != ring->head_local);
    return ring->slots + (size_t)(ring->head_local++ & ring->mask) * MR_RING_SLOT;
}

/* Give back every slot read so far. Consumer. */
static inline void mr_ring_retire(struct mr_ring *ring)
{
    /* Pairs with the acquire in mr_ring_room. */
    atomic_store_explicit(&ring->head, ring->head_local, memory_order_release);
}

#endif
