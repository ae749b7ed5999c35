/*
 * map: 64-bit keys of our own making to pointers; open addressing, fixed capacity.
 *
 * Linear probing with backward-shift deletion, at most 3/4 full, so a miss stays short and nothing
 * is ever rehashed. For keys that strangers choose use table.h with a keyed hash.
 */
#ifndef MILLRACE_BASE_MAP_H
#define MILLRACE_BASE_MAP_H

#include "millrace/base/arena.h"
#include "millrace/base/hash.h"

#include <stdint.h>

struct mr_map_slot {
    uint64_t key;
    void    *value; /* NULL: free */
};

struct mr_map {
    struct mr_map_slot *slots;
    uint32_t            mask;
    uint32_t            used;
    uint32_t            capacity; /* entries at most */
};

static inline void mr_map_init(struct mr_map *map, struct mr_arena *arena, uint32_t capacity)
{
    uint32_t slot_count = 8;
    while (slot_count / 4 * 3 < capacity) {
        slot_count *= 2;
    }
    *map = (struct mr_map){.mask = slot_count - 1, .capacity = capacity};
    map->slots = mr_arena_get(arena, sizeof *map->slots * slot_count, _Alignof(struct mr_map_slot));
}

/* NULL when absent. Cost: about one cache line. */
static inline void *mr_map_find(const struct mr_map *map, uint64_t key)
{
    for (uint32_t at = (uint32_t)mr_hash_u64(key) & map->mask;; at = (at + 1) & map->mask) {
        if (map->slots[at].value == NULL) {
            return NULL;
        }
        if (map->slots[at].key == key) {
            return map->slots[at].value;
        }
    }
}

/* The key must be absent and value not NULL (asserted). False when the map is full. */
static inline bool mr_map_add(struct mr_map *map, uint64_t key, void *value)
{
    mr_assert(value != NULL);
    if (map->used == map->capacity) {
        return false;
    }
    uint32_t at = (uint32_t)mr_hash_u64(key) & map->mask;
    while (map->slots[at].value != NULL) {
        mr_assert(map->slots[at].key != key);
        at = (at + 1) & map->mask;
    }
    map->slots[at] = (struct mr_map_slot){.key = key, .value = value};
    map->used++;
    return true;
}

/* The removed value, or NULL when it was absent. */
static inline void *mr_map_remove(struct mr_map *map, uint64_t key)
{
    uint32_t at = (uint32_t)mr_hash_u64(key) & map->mask;
    while (map->slots[at].value != NULL && map->slots[at].key != key) {
        at = (at + 1) & map->mask;
    }
    void *value = map->slots[at].value;
    if (value == NULL) {
        return NULL;
    }
    /* Close the gap: move back every follower whose home is not between the gap and itself. */
    uint32_t gap = at;
    for (uint32_t next = (gap + 1) & map->mask; map->slots[next].value != NULL;
         next = (next + 1) & map->mask) {
        uint32_t home = (uint32_t)mr_hash_u64(map->slots[next].key) & map->mask;
        if (((next - home) & map->mask) >= ((next - gap) & map->mask)) {
            map->slots[gap] = map->slots[next];
            gap = next;
        }
    }
    map->slots[gap].value = NULL;
    map->used--;
    return value;
}

#endif
