/*
 * page_pool: the memory that fetch lends and the de-multiplexer writes: runs of 4 KiB to 1 MiB.
 *
 *   memory   |  run, order 2  | run, 0 | free, 0 |     free, order 3      | ...
 *   pages    [ d ][.][.][.]     [ d ]                                          one descriptor per 4 KiB
 *
 * A buddy allocator whose bookkeeping lies beside the memory, so memory that was never needed is never
 * touched. The descriptor of a run's first page is the run: who has it, what it holds, how often it is
 * lent. A reference that travels to other planes is the run's page number + 1 (storage.h, MR_PAGE_NONE = 0).
 *
 * Threads: the storage core that owns it; only it counts references.
 */
#ifndef MILLRACE_STORAGE_PAGE_POOL_H
#define MILLRACE_STORAGE_PAGE_POOL_H

#include "millrace/base/arena.h"
#include "millrace/base/fail.h"
#include "millrace/base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_PAGE_BYTES     4096u
#define MR_PAGE_ORDER_MAX 8u /* 1 MiB: a lent span or a segment write is at most that long */

struct mr_segment;
struct mr_partition;

/*
 * A run, while it is in use. For a tail run: bytes [pos, pos + used) of the segment; pos is a multiple of
 * 4096, so that memory and file are aligned alike.
 */
struct mr_page {
    struct mr_list       link;      /* in the partition's runs, oldest first; or a free list; or a reader's */
    struct mr_list       by_age;    /* in the core's list of runs that may be evicted */
    struct mr_partition *partition; /* NULL: not a tail run */
    struct mr_segment   *segment;
    int64_t              first_offset; /* base offset of the first batch that begins in here; -1: none does */
    uint32_t             first_pos;    /* and its file position */
    uint32_t             pos;
    uint32_t             used;
    uint32_t             clean; /* bytes from the start that are in the file */
    uint32_t             refs;  /* spans lent */
    uint32_t             holds; /* pieces of commits that are written from here */
    uint8_t              order;
    uint8_t              state; /* enum mr_page_state */
    bool                 is_busy; /* a disk operation uses the bytes */
    bool                 is_dropped; /* free it when the last reference goes */
};

enum mr_page_state {
    MR_PAGE_INSIDE, /* not the first page of anything */
    MR_PAGE_FREE,
    MR_PAGE_USED,
};

struct mr_page_pool {
    uint8_t        *memory;
    struct mr_page *pages;
    uint32_t        page_count;
    uint32_t        free_pages;
    uint32_t        touched; /* pages of memory that were ever part of a free list or a run */
    struct mr_list  free[MR_PAGE_ORDER_MAX + 1];
};

size_t mr_page_pool_bytes(uint64_t memory_bytes);
void   mr_page_pool_init(struct mr_page_pool *pool, struct mr_arena *arena, uint64_t memory_bytes);

/* A run of 4096 << order bytes, its fields cleared; NULL when there is none. */
struct mr_page *mr_page_pool_get(struct mr_page_pool *pool, uint32_t order);

/* mr_page_pool_get, where a test may make the pool empty (millrace/base/fail.h). */
static inline struct mr_page *mr_page_pool_try(struct mr_page_pool *pool, uint32_t order, enum mr_fail_site site)
{
    return mr_fail(site) ? NULL : mr_page_pool_get(pool, order);
}
void            mr_page_pool_put(struct mr_page_pool *pool, struct mr_page *page);

static inline uint8_t *mr_page_memory(const struct mr_page_pool *pool, const struct mr_page *page)
{
    return pool->memory + (size_t)(page - pool->pages) * MR_PAGE_BYTES;
}

static inline uint32_t mr_page_capacity(const struct mr_page *page)
{
    return MR_PAGE_BYTES << page->order;
}

/* The smallest order whose run holds `bytes`, at most the largest there is. */
static inline uint32_t mr_page_order(uint64_t bytes)
{
    uint32_t order = 0;
    while (order < MR_PAGE_ORDER_MAX && ((uint64_t)MR_PAGE_BYTES << order) < bytes) {
        order++;
    }
    return order;
}

static inline uint64_t mr_page_reference(const struct mr_page_pool *pool, const struct mr_page *page)
{
    return (uint64_t)(page - pool->pages) + 1;
}

static inline struct mr_page *mr_page_find(const struct mr_page_pool *pool, uint64_t reference)
{
    mr_assert(reference > 0 && reference <= pool->page_count);
    struct mr_page *page = &pool->pages[reference - 1];
    mr_assert(page->state == MR_PAGE_USED);
    return page;
}

#endif
