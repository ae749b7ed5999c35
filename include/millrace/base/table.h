/*
 * table: an intrusive hash table with chains, for keys of any kind. Buckets grow out of a heap.
 *
 *   struct group { struct mr_table_node node; struct mr_str id; ... };
 *
 * The owner hashes the key (base/hash.h, keyed where strangers choose it) and compares keys itself
 * while walking the candidates:
 *
 *   for (struct mr_table_node *n = mr_table_first(&t, hash); n != NULL; n = mr_table_next(n)) ...
 *
 * Thread: one.
 */
#ifndef MILLRACE_BASE_TABLE_H
#define MILLRACE_BASE_TABLE_H

#include "millrace/base/heap.h"

#include <stdint.h>

struct mr_table_node {
    struct mr_table_node *next; /* in the bucket */
    uint64_t              hash;
};

struct mr_table {
    struct mr_heap        *heap;
    struct mr_table_node **buckets;
    uint32_t               bucket_count; /* a power of two */
    uint32_t               used;
};

#define MR_TABLE_ENTRY(node_, type_, member_)                                                      \
    ((type_ *)(void *)((char *)(node_)-offsetof(type_, member_)))

/* False when the heap is exhausted. */
static inline bool mr_table_init(struct mr_table *table, struct mr_heap *heap)
{
    *table = (struct mr_table){.heap = heap, .bucket_count = 16};
    table->buckets = MR_HEAP_ARRAY(heap, struct mr_table_node *, table->bucket_count);
    return table->buckets != NULL;
}

static inline void mr_table_deinit(struct mr_table *table)
{
    MR_HEAP_ARRAY_FREE(table->heap, table->buckets, table->bucket_count);
    *table = (struct mr_table){0};
}

/* The next node with the same hash, or NULL. */
static inline struct mr_table_node *mr_table_next(struct mr_table_node *node)
{
    uint64_t hash = node->hash;
    do {
        node = node->next;
    } while (node != NULL && node->hash != hash);
    return node;
}

static inline struct mr_table_node *mr_table_first(const struct mr_table *table, uint64_t hash)
{
    struct mr_table_node *node = table->buckets[hash & (table->bucket_count - 1)];
    while (node != NULL && node->hash != hash) {
        node = node->next;
    }
    return node;
}

/* Growing is best effort: without memory the chains become longer, nothing fails. */
static inline void mr_table_add(struct mr_table *table, struct mr_table_node *node, uint64_t hash)
{
    if (table->used >= table->bucket_count) {
        uint32_t               count = table->bucket_count * 2;
        struct mr_table_node **buckets = MR_HEAP_ARRAY(table->heap, struct mr_table_node *, count);
        if (buckets != NULL) {
            for (uint32_t index = 0; index < table->bucket_count; index++) {
                for (struct mr_table_node *move = table->buckets[index]; move != NULL;) {
                    struct mr_table_node *after = move->next;
                    move->next = buckets[move->hash & (count - 1)];
                    buckets[move->hash & (count - 1)] = move;
                    move = after;
                }
            }
            MR_HEAP_ARRAY_FREE(table->heap, table->buckets, table->bucket_count);
            table->buckets = buckets;
            table->bucket_count = count;
        }
    }
    node->hash = hash;
    node->next = table->buckets[hash & (table->bucket_count - 1)];
    table->buckets[hash & (table->bucket_count - 1)] = node;
    table->used++;
}

/* The node must be in the table (asserted). */
static inline void mr_table_remove(struct mr_table *table, struct mr_table_node *node)
{
    struct mr_table_node **at = &table->buckets[node->hash & (table->bucket_count - 1)];
    while (*at != node) {
        mr_assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    table->used--;
}

/*
 * The nodes of one of `slices` (a power of two) parts, in no order: start with NULL; ends with NULL. A node is always in the same
 * slice, however the table grows, so slices can be walked at different times. Removing the returned node is allowed only after
 * asking for its successor.
 */
static inline struct mr_table_node *mr_table_walk_slice(const struct mr_table *table, uint32_t slice, uint32_t slices,
                                                        struct mr_table_node *node)
{
    uint32_t bucket = (node == NULL ? slice : (uint32_t)node->hash) & (table->bucket_count - 1);
    node = node == NULL ? table->buckets[bucket] : node->next;
    for (;;) {
        while (node != NULL && ((uint32_t)node->hash & (slices - 1)) != slice) {
            node = node->next;
        }
        if (node != NULL || slices >= table->bucket_count || bucket >= table->bucket_count - slices) {
            return node;
        }
        bucket += slices;
        node = table->buckets[bucket];
    }
}

/* Every node. */
static inline struct mr_table_node *mr_table_walk(const struct mr_table *table, struct mr_table_node *node)
{
    return mr_table_walk_slice(table, 0, 1, node);
}

#endif
