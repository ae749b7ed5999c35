#include "log/clean_map.h"

#include "millrace/base/assert.h"
#include "millrace/base/prng.h"

#define SLOTS_MIN 64u

void mr_clean_map_init(struct mr_clean_map *map, void *memory, uint64_t bytes, double load, uint64_t seed)
{
    struct mr_prng prng = {.state = seed};
    *map = (struct mr_clean_map){.slots = memory, .slot_max = bytes / sizeof(struct mr_clean_slot), .load = load};
    mr_assert(map->slot_max >= SLOTS_MIN);
    for (uint32_t index = 0; index < 2; index++) {
        map->keys[index].k0 = mr_prng_next(&prng);
        map->keys[index].k1 = mr_prng_next(&prng);
    }
}

bool mr_clean_map_clear(struct mr_clean_map *map, uint64_t max)
{
    uint64_t part = map->dirty < max ? map->dirty : max;
    map->dirty -= part;
    memset(map->slots + map->dirty, 0, part * sizeof *map->slots);
    map->used = 0;
    return map->dirty == 0;
}

void mr_clean_map_begin(struct mr_clean_map *map, uint64_t key_count)
{
    mr_assert(map->dirty == 0);
    uint64_t most = (uint64_t)((double)map->slot_max * map->load);
    uint64_t keys = key_count < most ? key_count : most;
    uint64_t slots = (uint64_t)((double)keys / map->load) + SLOTS_MIN;
    map->slot_count = slots < map->slot_max ? slots : map->slot_max;
    map->used_max = (uint64_t)((double)map->slot_count * map->load);
    map->used = 0;
    map->dirty = map->slot_count;
}

/* The slot that has the key, or the free one where it would be. */
static struct mr_clean_slot *find(const struct mr_clean_map *map, struct mr_blob key, uint64_t hash[2])
{
    for (uint32_t index = 0; index < 2; index++) {
        hash[index] = mr_hash_bytes(&map->keys[index], key.data, (size_t)key.len);
    }
    uint64_t at = hash[0] % map->slot_count;
    while (map->slots[at].offset_1 != 0 &&
           (map->slots[at].hash[0] != hash[0] || map->slots[at].hash[1] != hash[1])) {
        at = at + 1 == map->slot_count ? 0 : at + 1;
    }
    return &map->slots[at];
}

bool mr_clean_map_put(struct mr_clean_map *map, struct mr_blob key, int64_t offset)
{
    uint64_t              hash[2];
    struct mr_clean_slot *slot = find(map, key, hash);
    if (slot->offset_1 == 0) {
        if (map->used >= map->used_max) {
            return false;
        }
        map->used++;
        slot->hash[0] = hash[0];
        slot->hash[1] = hash[1];
    }
    slot->offset_1 = offset + 1;
    return true;
}

int64_t mr_clean_map_get(const struct mr_clean_map *map, struct mr_blob key)
{
    uint64_t hash[2];
    return map->slot_count == 0 ? -1 : find(map, key, hash)->offset_1 - 1;
}
