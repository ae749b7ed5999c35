#include "log/offset_index.h"

bool mr_offset_index_find(const uint8_t *entries, uint32_t count, int32_t relative,
                          struct mr_offset_index_entry *entry)
{
    uint32_t from = 0;
    uint32_t to = count;
    while (from < to) { /* entries before `from` are <= relative, from `to` on they are greater */
        uint32_t mid = from + (to - from) / 2;
        if (mr_offset_index_load(entries + (uint64_t)mid * MR_OFFSET_INDEX_ENTRY).relative <= relative) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    if (from == 0) {
        return false;
    }
    *entry = mr_offset_index_load(entries + (uint64_t)(from - 1) * MR_OFFSET_INDEX_ENTRY);
    return true;
}

uint32_t mr_offset_index_check(const uint8_t *entries, uint32_t count, struct mr_offset_index_entry before,
                               int64_t relative_max, uint64_t size)
{
    bool is_first = before.relative < 0;
    for (uint32_t index = 0; index < count; index++) {
        struct mr_offset_index_entry entry =
            mr_offset_index_load(entries + (uint64_t)index * MR_OFFSET_INDEX_ENTRY);
        bool is_zeros = entry.relative == 0 && entry.pos == 0; /* of the first batch there is no entry */
        if (is_zeros || entry.relative <= before.relative || entry.relative > relative_max || entry.pos >= size ||
            (!is_first && entry.pos <= before.pos)) {
            return index;
        }
        before = entry;
        is_first = false;
    }
    return count;
}
