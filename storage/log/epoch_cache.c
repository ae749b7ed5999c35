#include "log/epoch_cache.h"

#include "millrace/base/assert.h"

#include <string.h>

void mr_epoch_cache_init(struct mr_epoch_cache *cache)
{
    *cache = (struct mr_epoch_cache){.capacity = MR_EPOCH_INLINE};
    cache->entries = cache->few;
}

void *mr_epoch_cache_grow(struct mr_epoch_cache *cache, void *memory, uint32_t capacity)
{
    void *old = cache->entries == cache->few ? NULL : cache->entries;
    mr_assert(capacity > cache->count);
    memcpy(memory, cache->entries, sizeof *cache->entries * cache->count);
    cache->entries = memory;
    cache->capacity = capacity;
    return old;
}

static void remove_first(struct mr_epoch_cache *cache, uint32_t count)
{
    memmove(cache->entries, cache->entries + count, sizeof *cache->entries * (cache->count - count));
    cache->count -= count;
}

bool mr_epoch_cache_assign(struct mr_epoch_cache *cache, int32_t epoch, int64_t start_offset)
{
    if (epoch < 0) {
        return false;
    }
    if (cache->count > 0) {
        const struct mr_epoch_entry *last = &cache->entries[cache->count - 1];
        if (last->epoch == epoch && last->start_offset <= start_offset) {
            return false;
        }
    }
    while (cache->count > 0 && (cache->entries[cache->count - 1].epoch >= epoch ||
                                cache->entries[cache->count - 1].start_offset >= start_offset)) {
        cache->count--;
    }
    if (mr_epoch_cache_is_full(cache)) {
        remove_first(cache, 1);
    }
    cache->entries[cache->count++] = (struct mr_epoch_entry){.start_offset = start_offset, .epoch = epoch};
    return true;
}

int32_t mr_epoch_cache_latest(const struct mr_epoch_cache *cache)
{
    return cache->count == 0 ? -1 : cache->entries[cache->count - 1].epoch;
}

int32_t mr_epoch_cache_at(const struct mr_epoch_cache *cache, int64_t offset)
{
    for (uint32_t index = cache->count; index-- > 0;) {
        if (cache->entries[index].start_offset <= offset) {
            return cache->entries[index].epoch;
        }
    }
    return -1;
}

void mr_epoch_cache_end(const struct mr_epoch_cache *cache, int32_t epoch, int64_t log_end,
                        int32_t *end_epoch, int64_t *end_offset)
{
    *end_epoch = -1;
    *end_offset = -1;
    if (cache->count == 0 || epoch < 0) {
        return;
    }
    if (epoch == mr_epoch_cache_latest(cache)) {
        *end_epoch = epoch;
        *end_offset = log_end;
        return;
    }
    for (uint32_t index = 0; index < cache->count; index++) {
        if (cache->entries[index].epoch > epoch) {
            *end_epoch = index == 0 ? epoch : cache->entries[index - 1].epoch;
            *end_offset = cache->entries[index].start_offset;
            return;
        }
    }
}

bool mr_epoch_cache_trim_start(struct mr_epoch_cache *cache, int64_t offset)
{
    uint32_t whole = 0; /* entries that end at or before `offset` */
    while (whole + 1 < cache->count && cache->entries[whole + 1].start_offset <= offset) {
        whole++;
    }
    bool is_changed = whole > 0;
    if (whole > 0) {
        remove_first(cache, whole);
    }
    if (cache->count > 0 && cache->entries[0].start_offset < offset) {
        cache->entries[0].start_offset = offset;
        is_changed = true;
    }
    return is_changed;
}

bool mr_epoch_cache_trim_end(struct mr_epoch_cache *cache, int64_t offset)
{
    uint32_t before = cache->count;
    while (cache->count > 0 && cache->entries[cache->count - 1].start_offset >= offset) {
        cache->count--;
    }
    return cache->count != before;
}
