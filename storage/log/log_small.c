/*
 * log_small: what the files beside a log's segments say: partition.metadata, leader-epoch-checkpoint, .index and .timeindex.
 */
#include "log/log_load.h"

#include "millrace/base/bug.h"

#include "log/offset_index.h"
#include "log/time_index.h"

static bool parse_number(const uint8_t **at, const uint8_t *end, int64_t *value)
{
    uint64_t number = 0;
    bool     is_any = false;
    while (*at < end && **at >= '0' && **at <= '9' && number < (uint64_t)INT64_MAX / 10 - 10) {
        number = number * 10 + (uint64_t)(*(*at)++ - '0');
        is_any = true;
    }
    while (*at < end && (**at == ' ' || **at == '\n' || **at == '\r')) {
        (*at)++;
    }
    *value = (int64_t)number;
    return is_any;
}

enum mr_err mr_log_small_epochs(struct mr_storage_core *core, struct mr_partition *p, const uint8_t *at, uint32_t len)
{
    const uint8_t *end = at + len;
    int64_t        version = 0;
    int64_t        count = 0;
    if (!parse_number(&at, end, &version) || version != 0 || !parse_number(&at, end, &count)) {
        return MR_ERR_CORRUPT;
    }
    while (count-- > 0) {
        int64_t epoch = 0;
        int64_t offset = 0;
        if (!parse_number(&at, end, &epoch) || !parse_number(&at, end, &offset) || epoch > INT32_MAX) {
            return MR_ERR_CORRUPT;
        }
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, (int32_t)epoch, offset);
    }
    return MR_OK;
}

enum mr_err mr_log_small_metadata(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    static const char          key[] = "topic_id: ";
    const struct mr_partition *p = task->partition;
    struct mr_uuid             id;
    for (uint32_t pos = 0; pos + sizeof key - 1 + MR_UUID_TEXT <= len; pos++) {
        if (memcmp(at + pos, key, sizeof key - 1) == 0) {
            struct mr_str text = {.data = (const char *)at + pos + sizeof key - 1, .len = MR_UUID_TEXT};
            if (!mr_uuid_parse(text, &id)) {
                return MR_OK; /* its bytes were not durable: as if there were none */
            }
            task->is_marked = mr_uuid_is_zero(&p->jlog.topic_id) || mr_uuid_equal(&id, &p->jlog.topic_id);
            task->is_marked = task->is_marked || mr_bug("adopt-any-directory");
            return task->is_marked ? MR_OK : MR_ERR_EXISTS;
        }
    }
    return MR_OK;
}

/* ---- Indexes of the active segment ---- */

/* The largest relative offset that an entry may name. */
static int64_t relative_max(const struct mr_task *task)
{
    const struct mr_log_known *known = mr_log_load_known(task);
    return known == NULL ? INT32_MAX : known->offset - 1 - task->partition->active->base;
}

/* Returns how many of the bytes are believed. */
uint32_t mr_log_small_index(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *active = task->partition->active;
    uint32_t           count = mr_offset_index_check(
        at, len / MR_OFFSET_INDEX_ENTRY,
        (struct mr_offset_index_entry){.relative = active->last_relative, .pos = (uint32_t)task->b},
        relative_max(task), active->size);
    if (count > 0) {
        struct mr_offset_index_entry last =
            mr_offset_index_load(at + (size_t)(count - 1) * MR_OFFSET_INDEX_ENTRY);
        active->last_relative = last.relative;
        task->b = last.pos; /* the scan begins at this batch */
    }
    active->index_bytes += count * MR_OFFSET_INDEX_ENTRY;
    return count * MR_OFFSET_INDEX_ENTRY;
}

uint32_t mr_log_small_times(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *active = task->partition->active;
    uint32_t           count = mr_time_index_check(
        at, len / MR_TIME_INDEX_ENTRY,
        (struct mr_time_index_entry){.timestamp = active->last_time, .relative = active->last_time_relative},
        relative_max(task));
    if (count > 0) {
        struct mr_time_index_entry last = mr_time_index_load(at + (size_t)(count - 1) * MR_TIME_INDEX_ENTRY);
        active->last_time = last.timestamp;
        active->last_time_relative = last.relative;
        mr_segment_time_claim(active, last.timestamp, active->base + last.relative);
    }
    active->time_bytes += count * MR_TIME_INDEX_ENTRY;
    return count * MR_TIME_INDEX_ENTRY;
}
