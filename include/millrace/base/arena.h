/*
 * arena: bump memory. Filled at start-up and then sealed, or filled per request and then reset.
 *
 *   base                used            size
 *    v                   v               v
 *    [ given out ....... | free ........ ]
 *
 * Memory comes from the caller; an arena never grows. Thread: one at a time.
 */
#ifndef MILLRACE_BASE_ARENA_H
#define MILLRACE_BASE_ARENA_H

#include "millrace/base/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MR_ARENA_BULK_MAX 8

struct mr_arena_range {
    uint8_t *base;
    size_t   bytes;
};

struct mr_arena {
    uint8_t              *base;
    size_t                size;
    size_t                used;
    bool                  is_sealed;
    uint32_t              bulk_count;
    struct mr_arena_range bulk[MR_ARENA_BULK_MAX]; /* what mr_arena_get_bulk gave out */
};

static inline void mr_arena_init(struct mr_arena *arena, void *base, size_t size)
{
    *arena = (struct mr_arena){.base = base, .size = size};
}

/* `align` is a power of two. Returns memory that is NOT cleared, or NULL when there is no room. */
static inline void *mr_arena_try(struct mr_arena *arena, size_t bytes, size_t align)
{
    mr_assert(!arena->is_sealed && align != 0 && (align & (align - 1)) == 0);
    uintptr_t start = ((uintptr_t)arena->base + arena->used + align - 1) & ~(uintptr_t)(align - 1);
    size_t    at = (size_t)(start - (uintptr_t)arena->base);
    if (at > arena->size || bytes > arena->size - at) {
        return NULL;
    }
    arena->used = at + bytes;
    return arena->base + at;
}

/* For start-up, where the plan says that there is room: asserts. The memory is cleared. */
static inline void *mr_arena_get(struct mr_arena *arena, size_t bytes, size_t align)
{
    void *memory = mr_arena_try(arena, bytes, align);
    mr_assert(memory != NULL);
    memset(memory, 0, bytes);
    return memory;
}

/* Like mr_arena_get, for memory known to be fresh from mmap: not touched, so it stays unmapped. */
static inline void *mr_arena_get_fresh(struct mr_arena *arena, size_t bytes, size_t align)
{
    void *memory = mr_arena_try(arena, bytes, align);
    mr_assert(memory != NULL);
    return memory;
}

/* Like mr_arena_get_fresh, for payload that is filled from its start and copied by the megabyte: noted, so
 * that whoever mapped the arena can ask for huge pages behind it. Aligned to 4096. */
static inline void *mr_arena_get_bulk(struct mr_arena *arena, size_t bytes)
{
    void *memory = mr_arena_get_fresh(arena, bytes, 4096);
    mr_assert(arena->bulk_count < MR_ARENA_BULK_MAX);
    arena->bulk[arena->bulk_count++] = (struct mr_arena_range){.base = memory, .bytes = bytes};
    return memory;
}

static inline void mr_arena_reset(struct mr_arena *arena)
{
    mr_assert(!arena->is_sealed);
    arena->used = 0;
}

/* After start-up: any further allocation is a broken invariant. */
static inline void mr_arena_seal(struct mr_arena *arena)
{
    arena->is_sealed = true;
}

#define MR_ARENA_TRY(arena_, type_, count_)                                                        \
    ((type_ *)mr_arena_try((arena_), sizeof(type_) * (size_t)(count_), _Alignof(type_)))
#define MR_ARENA_GET(arena_, type_, count_)                                                        \
    ((type_ *)mr_arena_get((arena_), sizeof(type_) * (size_t)(count_), _Alignof(type_)))

#endif
