#include "model_log.h"

#include "millrace/base/hash.h"
#include "millrace/base/prng.h"

#include <string.h>

#define WINDOW 5u

void mr_model_log_init(struct mr_model_log *log)
{
    log->batch_count = 0;
    log->end = 0;
    log->floor = 0;
    log->start = 0;
    log->start_asked = 0;
}

int64_t mr_model_batch_time(const struct mr_model_batch *batch, int32_t index)
{
    return batch->timestamp + index * 7919 % 50;
}

static uint64_t lot(const struct mr_model_batch *batch, int32_t index, uint64_t salt)
{
    return mr_hash_u64(batch->seed + (uint64_t)index * 2 + salt);
}

uint32_t mr_model_batch_key(const struct mr_model_batch *batch, int32_t index)
{
    return (uint32_t)(lot(batch, index, 0) % batch->keys);
}

bool mr_model_batch_is_tombstone(const struct mr_model_batch *batch, int32_t index)
{
    return batch->has_tombstones && lot(batch, index, 1) % 6 == 0;
}

void mr_model_batch_value(const struct mr_model_batch *batch, uint8_t *value)
{
    struct mr_prng prng = {.state = batch->seed};
    mr_assert(batch->value_bytes < MR_MODEL_BATCH_MAX);
    for (uint32_t at = 0; at < batch->value_bytes; at += 8) {
        mr_store_be64(value + at, mr_prng_next(&prng));
    }
}

uint32_t mr_model_batch_make(struct mr_model_batch *batch, uint8_t *out)
{
    static uint8_t          value[MR_MODEL_BATCH_MAX];
    struct mr_batch_builder builder;
    mr_model_batch_value(batch, value);
    mr_batch_begin(&builder, out, MR_MODEL_BATCH_MAX, batch->base, 0);
    builder.batch.leader_epoch = batch->epoch;
    builder.batch.producer_id = batch->producer_id;
    builder.batch.producer_epoch = batch->producer_epoch;
    builder.batch.base_sequence = batch->sequence;
    for (int32_t index = 0; index < batch->count; index++) {
        struct mr_blob blob = {.data = value, .len = (int32_t)batch->value_bytes};
        struct mr_blob key = MR_BLOB_NULL;
        uint8_t        name = 0;
        if (batch->keys > 0) {
            name = (uint8_t)('a' + mr_model_batch_key(batch, index));
            key = (struct mr_blob){.data = &name, .len = 1};
            blob = mr_model_batch_is_tombstone(batch, index) ? MR_BLOB_NULL : blob;
        }
        bool fits = mr_batch_add(&builder, mr_model_batch_time(batch, index), key, blob);
        mr_assert(fits);
    }
    batch->bytes = mr_batch_end(&builder);
    return batch->bytes;
}

static int32_t sequence_after(int32_t sequence, int32_t count)
{
    return (int32_t)(((int64_t)sequence + count) % ((int64_t)INT32_MAX + 1));
}

enum mr_err mr_model_log_judge(const struct mr_model_log *log, const struct mr_model_batch *batch, int64_t *base)
{
    *base = log->end;
    if (batch->producer_id < 0) {
        return MR_OK;
    }
    const struct mr_model_batch *last = NULL;
    uint32_t                     seen = 0;
    for (uint32_t index = log->batch_count; index-- > 0;) {
        const struct mr_model_batch *old = &log->batches[index];
        if (old->producer_id != batch->producer_id) {
            continue;
        }
        last = last == NULL ? old : last;
        if (old->producer_epoch != last->producer_epoch || seen++ == WINDOW) {
            break;
        }
        if (old->producer_epoch == batch->producer_epoch && old->sequence == batch->sequence &&
            old->count == batch->count) {
            *base = old->base;
            return MR_ERR_EXISTS;
        }
    }
    if (last == NULL) {
        return MR_OK;
    }
    if (batch->producer_epoch < last->producer_epoch) {
        return MR_ERR_INVALID_PRODUCER_EPOCH;
    }
    int32_t next = batch->producer_epoch > last->producer_epoch ? 0 : sequence_after(last->sequence, last->count);
    return batch->sequence == next ? MR_OK : MR_ERR_OUT_OF_ORDER_SEQUENCE;
}

void mr_model_log_see(struct mr_model_log *log, int64_t offset)
{
    log->floor = offset > log->floor ? offset : log->floor;
}

void mr_model_log_add(struct mr_model_log *log, const struct mr_model_batch *batch)
{
    mr_assert(log->batch_count < MR_MODEL_BATCHES);
    log->batches[log->batch_count++] = *batch;
    log->end = batch->base + batch->count;
}

uint32_t mr_model_log_find(const struct mr_model_log *log, int64_t offset)
{
    uint32_t index = 0;
    while (index < log->batch_count && log->batches[index].base + log->batches[index].count <= offset) {
        index++;
    }
    return index;
}

bool mr_model_log_cut(struct mr_model_log *log, int64_t end)
{
    if (end < log->floor || end > log->end) {
        return false;
    }
    uint32_t index = mr_model_log_find(log, end);
    if (index < log->batch_count && log->batches[index].base != end) {
        return false;
    }
    log->batch_count = index;
    log->end = end;
    return true;
}

int64_t mr_model_log_at_time(const struct mr_model_log *log, int64_t from, int64_t to, int64_t timestamp,
                             int64_t *found)
{
    for (uint32_t index = 0; index < log->batch_count; index++) {
        const struct mr_model_batch *batch = &log->batches[index];
        for (int32_t at = 0; at < batch->count; at++) {
            int64_t offset = batch->base + at;
            *found = mr_model_batch_time(batch, at);
            if (offset >= from && offset < to && *found >= timestamp) {
                return offset;
            }
        }
    }
    *found = -1;
    return -1;
}

void mr_model_log_drop_last(struct mr_model_log *log)
{
    mr_assert(log->batch_count > 0);
    log->end = log->batches[--log->batch_count].base;
}

/* ---- Retention ---- */

/* From this batch on there are at least so many bytes, the last such; 0: not even all of them have them. */
static uint32_t last_with(const struct mr_model_log *log, uint32_t end, int64_t bytes)
{
    uint32_t index = end;
    for (int64_t sum = 0; sum < bytes; index--) {
        if (index == 0) {
            return 0;
        }
        sum += log->batches[index - 1].bytes;
    }
    return index;
}

static int64_t base_of(const struct mr_model_log *log, uint32_t index)
{
    return index < log->batch_count ? log->batches[index].base : log->end;
}

static int64_t newest_time(const struct mr_model_batch *batch)
{
    int64_t newest = mr_model_batch_time(batch, 0);
    for (int32_t index = 1; index < batch->count; index++) {
        int64_t time = mr_model_batch_time(batch, index);
        newest = time > newest ? time : newest;
    }
    return newest;
}

/* The first batch that is not older than `ms`, of those that may not have been deleted before. */
static uint32_t first_young(const struct mr_model_log *log, int64_t ms, int64_t now_ms)
{
    uint32_t index = mr_model_log_find(log, log->start_asked);
    while (index < log->batch_count && now_ms - newest_time(&log->batches[index]) > ms) {
        index++;
    }
    return index;
}

int64_t mr_model_log_start_max(struct mr_model_log *log, const struct mr_model_retention *retention, int64_t now_ms)
{
    uint32_t too_much = retention->bytes < 0 ? 0 : last_with(log, log->batch_count, retention->bytes);
    uint32_t too_old = retention->ms < 0 ? 0 : first_young(log, retention->ms, now_ms);
    return base_of(log, too_much > too_old ? too_much : too_old);
}
