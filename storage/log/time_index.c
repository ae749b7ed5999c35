#include "log/time_index.h"

bool mr_time_index_find_before(const uint8_t *entries, uint32_t count, int64_t timestamp,
                               struct mr_time_index_entry *entry)
{
    uint32_t from = 0;
    uint32_t to = count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        if (mr_time_index_load(entries + (uint64_t)mid * MR_TIME_INDEX_ENTRY).timestamp < timestamp) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    if (from == 0) {
        return false;
    }
    *entry = mr_time_index_load(entries + (uint64_t)(from - 1) * MR_TIME_INDEX_ENTRY);
    return true;
}

uint32_t mr_time_index_check(const uint8_t *entries, uint32_t count, struct mr_time_index_entry before,
                             int64_t relative_max)
{
    for (uint32_t index = 0; index < count; index++) {
        struct mr_time_index_entry entry =
            mr_time_index_load(entries + (uint64_t)index * MR_TIME_INDEX_ENTRY);
        bool is_zeros = entry.timestamp == 0 && entry.relative == 0; /* more likely never written than of 1970 */
        if (is_zeros || entry.timestamp <= before.timestamp || entry.relative <= before.relative ||
            entry.relative > relative_max) {
            return index;
        }
        before = entry;
    }
    return count;
}
