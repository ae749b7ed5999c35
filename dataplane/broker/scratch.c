/*
 * scratch: the buddy allocator behind open requests.
 */
#include "broker/scratch.h"

#include "millrace/base/fail.h"

#define NONE UINT32_MAX
#define FREE 0x80u

static uint32_t region_blocks(size_t bytes)
{
    uint32_t count = 4;
    while ((size_t)count * 2 * MR_SCRATCH_BLOCK <= bytes &&
           count < (1u << (MR_SCRATCH_ORDERS + 1))) {
        count *= 2;
    }
    return count;
}

size_t mr_scratch_memory(size_t bytes)
{
    size_t count = region_blocks(bytes);
    return count * (MR_SCRATCH_BLOCK + 1 + sizeof(struct mr_scratch_link)) + 3 * 4096;
}

static void add(struct mr_scratch *scratch, uint32_t at, uint32_t order)
{
    uint32_t head = scratch->heads[order];
    scratch->orders[at] = (uint8_t)(FREE | (order + 1));
    scratch->links[at] = (struct mr_scratch_link){.prev = NONE, .next = head};
    if (head != NONE) {
        scratch->links[head].prev = at;
    }
    scratch->heads[order] = at;
}

static void take(struct mr_scratch *scratch, uint32_t at, uint32_t order)
{
    struct mr_scratch_link link = scratch->links[at];
    if (link.prev != NONE) {
        scratch->links[link.prev].next = link.next;
    } else {
        mr_assert(scratch->heads[order] == at);
        scratch->heads[order] = link.next;
    }
    if (link.next != NONE) {
        scratch->links[link.next].prev = link.prev;
    }
    scratch->orders[at] = 0;
}

void mr_scratch_init(struct mr_scratch *scratch, struct mr_arena *arena, size_t bytes)
{
    uint32_t count = region_blocks(bytes);
    *scratch = (struct mr_scratch){.block_count = count};
    scratch->base = mr_arena_get_fresh(arena, (size_t)count * MR_SCRATCH_BLOCK, 4096);
    scratch->orders = mr_arena_get_fresh(arena, count, 64);
    scratch->links = mr_arena_get_fresh(arena, sizeof *scratch->links * count, 64);
    while ((4u << scratch->order_max) < count) {
        scratch->order_max++;
    }
    mr_assert(scratch->order_max < MR_SCRATCH_ORDERS);
    for (uint32_t order = 0; order < MR_SCRATCH_ORDERS; order++) {
        scratch->heads[order] = NONE;
    }
    for (uint32_t at = count; at > 0; at -= 1u << scratch->order_max) {
        add(scratch, at - (1u << scratch->order_max),
            scratch->order_max); /* lowest address first */
    }
}

void *mr_scratch_get(struct mr_scratch *scratch, size_t bytes, size_t *got)
{
    uint32_t order = 0;
    while (order <= scratch->order_max && ((size_t)MR_SCRATCH_BLOCK << order) < bytes) {
        order++;
    }
    uint32_t from = order;
    while (from <= scratch->order_max && scratch->heads[from] == NONE) {
        from++;
    }
    if (from > scratch->order_max || (scratch->used_bytes > 0 && mr_fail(MR_FAIL_scratch))) {
        return NULL;
    }
    uint32_t at = scratch->heads[from];
    take(scratch, at, from);
    while (from > order) {
        from--;
        add(scratch, at + (1u << from), from);
    }
    scratch->orders[at] = (uint8_t)(order + 1);
    *got = (size_t)MR_SCRATCH_BLOCK << order;
    scratch->used_bytes += *got;
    return scratch->base + (size_t)at * MR_SCRATCH_BLOCK;
}

void mr_scratch_put(struct mr_scratch *scratch, void *block)
{
    size_t offset = (size_t)((uint8_t *)block - scratch->base);
    mr_assert(offset % MR_SCRATCH_BLOCK == 0 && offset / MR_SCRATCH_BLOCK < scratch->block_count);
    uint32_t at = (uint32_t)(offset / MR_SCRATCH_BLOCK);
    mr_assert(scratch->orders[at] != 0 && (scratch->orders[at] & FREE) == 0);
    uint32_t order = scratch->orders[at] - 1u;
    scratch->orders[at] = 0;
    scratch->used_bytes -= (size_t)MR_SCRATCH_BLOCK << order;
    while (order < scratch->order_max) {
        uint32_t buddy = at ^ (1u << order);
        if (scratch->orders[buddy] != (FREE | (order + 1))) {
            break;
        }
        take(scratch, buddy, order);
        at = at < buddy ? at : buddy;
        order++;
    }
    add(scratch, at, order);
}
