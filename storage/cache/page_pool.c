#include "cache/page_pool.h"

#define BLOCK_PAGES (1u << MR_PAGE_ORDER_MAX)

static uint32_t block_count(uint64_t memory_bytes)
{
    uint64_t blocks = memory_bytes / ((uint64_t)BLOCK_PAGES * MR_PAGE_BYTES);
    return blocks == 0 ? 1 : (uint32_t)blocks;
}

size_t mr_page_pool_bytes(uint64_t memory_bytes)
{
    size_t pages = (size_t)block_count(memory_bytes) * BLOCK_PAGES;
    return pages * (MR_PAGE_BYTES + sizeof(struct mr_page)) + MR_PAGE_BYTES + 64;
}

void mr_page_pool_init(struct mr_page_pool *pool, struct mr_arena *arena, uint64_t memory_bytes)
{
    *pool = (struct mr_page_pool){.page_count = block_count(memory_bytes) * BLOCK_PAGES};
    pool->memory = mr_arena_get_bulk(arena, (size_t)pool->page_count * MR_PAGE_BYTES);
    pool->pages = mr_arena_get_fresh(arena, (size_t)pool->page_count * sizeof *pool->pages, 64);
    pool->free_pages = pool->page_count;
    for (uint32_t order = 0; order <= MR_PAGE_ORDER_MAX; order++) {
        mr_list_init(&pool->free[order]);
    }
}

static void add_free(struct mr_page_pool *pool, uint32_t index, uint32_t order)
{
    struct mr_page *page = &pool->pages[index];
    page->state = MR_PAGE_FREE;
    page->order = (uint8_t)order;
    mr_list_add_head(&pool->free[order], &page->link);
}

/* A free block of exactly this order, taken off its list; from untouched memory when no list has one. */
static struct mr_page *take(struct mr_page_pool *pool, uint32_t order)
{
    uint32_t from = order;
    while (from <= MR_PAGE_ORDER_MAX && mr_list_is_empty(&pool->free[from])) {
        from++;
    }
    if (from > MR_PAGE_ORDER_MAX) {
        if (pool->touched == pool->page_count) {
            return NULL;
        }
        /* Descriptors come from fresh memory that nobody cleared. */
        memset(&pool->pages[pool->touched], 0, sizeof(struct mr_page) * BLOCK_PAGES);
        add_free(pool, pool->touched, MR_PAGE_ORDER_MAX);
        pool->touched += BLOCK_PAGES;
        from = MR_PAGE_ORDER_MAX;
    }
    struct mr_page *page = MR_LIST_ENTRY(mr_list_pop(&pool->free[from]), struct mr_page, link);
    uint32_t        index = (uint32_t)(page - pool->pages);
    while (from > order) {
        from--;
        add_free(pool, index + (1u << from), from);
    }
    return page;
}

struct mr_page *mr_page_pool_get(struct mr_page_pool *pool, uint32_t order)
{
    mr_assert(order <= MR_PAGE_ORDER_MAX);
    struct mr_page *page = take(pool, order);
    if (page == NULL) {
        return NULL;
    }
    *page = (struct mr_page){.order = (uint8_t)order, .state = MR_PAGE_USED, .first_offset = -1};
    mr_list_init(&page->link);
    mr_list_init(&page->by_age);
    pool->free_pages -= 1u << order;
    return page;
}

void mr_page_pool_put(struct mr_page_pool *pool, struct mr_page *page)
{
    mr_assert(page->state == MR_PAGE_USED && page->refs == 0 && page->holds == 0 && !page->is_busy);
    uint32_t index = (uint32_t)(page - pool->pages);
    uint32_t order = page->order;
    mr_list_remove(&page->link);
    mr_list_remove(&page->by_age);
    pool->free_pages += 1u << order;
    page->state = MR_PAGE_INSIDE;
    /* Join with the buddy as long as that is free and whole. */
    while (order < MR_PAGE_ORDER_MAX) {
        uint32_t        buddy = index ^ (1u << order);
        struct mr_page *other = &pool->pages[buddy];
        if (other->state != MR_PAGE_FREE || other->order != order) {
            break;
        }
        mr_list_remove(&other->link);
        other->state = MR_PAGE_INSIDE;
        index &= ~(1u << order);
        order++;
    }
    add_free(pool, index, order);
}
