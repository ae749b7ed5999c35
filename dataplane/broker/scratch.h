/*
 * scratch: blocks of working memory for open requests, powers of two from one region (a buddy
 * allocator).
 *
 *      region   [ 16 K | 16 K |   32 K    |            64 K            | ... ]
 *      a block of order n begins at a multiple of its size; two buddies that are both free merge
 *
 * Most requests live in the few KiB of their own struct and never come here; a Metadata answer of
 * ten thousand topics needs megabytes for a moment. What is free is described beside the region, not
 * in it, so memory that was never needed is never touched. A slab per size was considered and
 * dropped: a burst of one size would keep its memory from all others for ever.
 *
 * Memory: the arena given to init, fresh and zero. Thread: the data core.
 */
#ifndef MILLRACE_SCRATCH_H
#define MILLRACE_SCRATCH_H

#include "millrace/base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_SCRATCH_BLOCK  16384u /* the smallest block */
#define MR_SCRATCH_ORDERS 20u

struct mr_scratch_link {
    uint32_t prev;
    uint32_t next;
};

struct mr_scratch {
    uint8_t *base;
    uint8_t *orders; /* per smallest block: order + 1 of a block beginning here, top bit: free */
    struct mr_scratch_link *links; /* of free blocks */
    uint32_t heads[MR_SCRATCH_ORDERS];
    uint32_t block_count; /* a power of two */
    uint32_t order_max;   /* the largest block is 1 / 4 of the region */
    size_t used_bytes;
};

/* What init takes from the arena for a region of `bytes`, which is rounded down to a power of two. */
size_t mr_scratch_memory(size_t bytes);
void mr_scratch_init(struct mr_scratch *scratch, struct mr_arena *arena, size_t bytes);

/* The largest block there can be. */
static inline size_t mr_scratch_max(const struct mr_scratch *scratch)
{
    return (size_t)MR_SCRATCH_BLOCK << scratch->order_max;
}

/* At least `bytes` bytes, not cleared; `got` [out] is the block's size. NULL: not now, or (above
 * mr_scratch_max) never. Cost: O(orders). */
void *mr_scratch_get(struct mr_scratch *scratch, size_t bytes, size_t *got);
void mr_scratch_put(struct mr_scratch *scratch, void *block);

#endif
