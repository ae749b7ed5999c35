/*
 * pool: fixed-size objects with a planned count, out of one piece of memory.
 *
 * Objects are handed out lowest address first while the pool has never been full, so memory that
 * was never needed is never touched. Thread: one.
 */
#ifndef MILLRACE_BASE_POOL_H
#define MILLRACE_BASE_POOL_H

#include "millrace/base/arena.h"
#include "millrace/base/assert.h"
#include "millrace/base/fail.h"

#include <stdint.h>

struct mr_pool {
    uint8_t *base;
    void    *free_head; /* first word of a free object is the next one */
    size_t   object_bytes;
    uint32_t capacity;
    uint32_t touched; /* objects that have been handed out at least once */
    uint32_t used;
};

/* object_bytes is rounded up to a multiple of 16. The memory is taken from the arena untouched. */
static inline void mr_pool_init(struct mr_pool *pool, struct mr_arena *arena, size_t object_bytes,
                                uint32_t capacity, size_t align)
{
    object_bytes = (object_bytes + (align < 16 ? 15 : align - 1)) & ~(align < 16 ? (size_t)15 : align - 1);
    *pool = (struct mr_pool){.object_bytes = object_bytes, .capacity = capacity};
    pool->base = mr_arena_get_fresh(arena, object_bytes * capacity, align < 16 ? 16 : align);
}

/* NULL when the pool is empty. The object's bytes are not cleared. */
static inline void *mr_pool_get(struct mr_pool *pool)
{
    void *object = pool->free_head;
    if (object != NULL) {
        memcpy(&pool->free_head, object, sizeof pool->free_head);
    } else if (pool->touched < pool->capacity) {
        object = pool->base + pool->object_bytes * pool->touched++;
    } else {
        return NULL;
    }
    pool->used++;
    return object;
}

/* mr_pool_get, for a pool that a test may empty at this place (fail.h). */
static inline void *mr_pool_try(struct mr_pool *pool, enum mr_fail_site site)
{
    return pool->used > 0 && mr_fail(site) ? NULL : mr_pool_get(pool);
}

static inline void mr_pool_put(struct mr_pool *pool, void *object)
{
    size_t at = (size_t)((uint8_t *)object - pool->base);
    mr_assert(at < pool->object_bytes * pool->capacity && at % pool->object_bytes == 0);
    mr_assert(pool->used > 0);
    memcpy(object, &pool->free_head, sizeof pool->free_head);
    pool->free_head = object;
    pool->used--;
}

#endif
