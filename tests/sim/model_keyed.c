/*
 * model_keyed: a compacted log has lost what a newer record of the same key stands for, and nothing else.
 *
 * The batches that are left have their offsets, epochs and producers; of their records some may be missing, each of
 * which has a newer one of its key below the high watermark. So the newest of each key is always there, however often
 * the log was compacted and whatever a crash took from its end. A tombstone may go when its time is over.
 */
#include "sim_storage_world.h"

struct reading {
    struct world                *w;
    struct slot                 *slot;
    const struct mr_read_entry  *entry;
    int64_t                      newest[KEYS_MAX]; /* of each key below the high watermark; -1: none */
    int64_t                      next;             /* what was looked at so far ends here */
};

static void find_newest(const struct slot *slot, int64_t end, int64_t newest[KEYS_MAX])
{
    const struct mr_model_log *model = &slot->model;
    for (uint32_t key = 0; key < KEYS_MAX; key++) {
        newest[key] = -1;
    }
    for (uint32_t index = 0; index < model->batch_count; index++) {
        const struct mr_model_batch *batch = &model->batches[index];
        for (int32_t at = 0; at < batch->count && batch->base + at < end; at++) {
            newest[mr_model_batch_key(batch, at)] = batch->base + at;
        }
    }
}

/* Whether a record must be there, given the newest of each key. */
static bool must_be(const struct slot *slot, const struct mr_model_batch *batch, int32_t at, const int64_t newest[KEYS_MAX])
{
    bool may_expire = mr_model_batch_is_tombstone(batch, at) && slot->config.delete_retention_ms == 0;
    return newest[mr_model_batch_key(batch, at)] == batch->base + at && !may_expire;
}

static int64_t first_of(const struct slot *slot, int64_t from, int64_t to, int64_t timestamp, const int64_t newest[KEYS_MAX])
{
    const struct mr_model_log *model = &slot->model;
    for (uint32_t index = mr_model_log_find(model, from); index < model->batch_count; index++) {
        const struct mr_model_batch *batch = &model->batches[index];
        for (int32_t at = 0; at < batch->count && batch->base + at < to; at++) {
            if (batch->base + at >= from && mr_model_batch_time(batch, at) >= timestamp &&
                must_be(slot, batch, at, newest)) {
                return batch->base + at;
            }
        }
    }
    return -1;
}

int64_t mr_model_keyed_first(const struct slot *slot, int64_t from, int64_t to, int64_t timestamp)
{
    int64_t newest[KEYS_MAX];
    find_newest(slot, slot->model.end, newest);
    return first_of(slot, from, to, timestamp, newest);
}

static bool wrong(const struct reading *reading, int64_t offset, const char *what)
{
    fail(reading->w, "read of %s at %lld: the record or batch at %lld %s", reading->slot->topic,
         (long long)reading->entry->offset, (long long)offset, what);
    return false;
}

/* Nothing between what was looked at and `offset` had to be there. */
static bool pass(struct reading *reading, int64_t offset)
{
    int64_t missing = first_of(reading->slot, reading->next, offset, INT64_MIN, reading->newest);
    reading->next = offset > reading->next ? offset : reading->next;
    return missing < 0 || wrong(reading, missing, "is the newest of its key, and gone");
}

static bool is_same_record(const struct mr_model_batch *batch, int32_t at, const struct mr_record *record,
                           const uint8_t *value)
{
    bool    is_tombstone = mr_model_batch_is_tombstone(batch, at);
    uint8_t key = (uint8_t)('a' + mr_model_batch_key(batch, at));
    return record->timestamp == mr_model_batch_time(batch, at) && record->key.len == 1 && record->key.data[0] == key &&
           record->value.len == (is_tombstone ? -1 : (int32_t)batch->value_bytes) &&
           (is_tombstone || memcmp(record->value.data, value, batch->value_bytes) == 0);
}

static bool see_records(struct reading *reading, const struct mr_model_batch *batch, const uint8_t *got, uint32_t len)
{
    static uint8_t        value[MR_MODEL_BATCH_MAX];
    struct mr_record_iter iter;
    struct mr_record      record;
    struct mr_arena       scratch;
    uint8_t               room[64];
    enum mr_err           err;
    mr_arena_init(&scratch, room, sizeof room);
    mr_model_batch_value(batch, value);
    if (mr_record_iter_init(&iter, got, len, &scratch) != MR_OK) {
        return wrong(reading, batch->base, "cannot be walked");
    }
    while ((err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        int64_t at = record.offset - batch->base;
        if (at < 0 || at >= batch->count || (record.offset < reading->next && record.offset >= reading->entry->offset)) {
            return wrong(reading, record.offset, "is out of place");
        }
        if (!is_same_record(batch, (int32_t)at, &record, value)) {
            return wrong(reading, record.offset, "is another");
        }
        if (!pass(reading, record.offset)) {
            return false;
        }
        reading->slot->newest[mr_model_batch_key(batch, (int32_t)at)] = record.offset;
        reading->next = record.offset + 1 > reading->next ? record.offset + 1 : reading->next;
    }
    return err == MR_ERR_NOT_FOUND || wrong(reading, batch->base, "lies about its records");
}

static bool is_same_batch(const struct mr_model_batch *want, const struct mr_batch *got)
{
    return got->base_offset == want->base && mr_batch_last_offset(got) == want->base + want->count - 1 &&
           got->leader_epoch == want->epoch && got->producer_id == want->producer_id &&
           got->producer_epoch == want->producer_epoch && (got->record_count == 0 || got->base_sequence == want->sequence);
}

/* One batch; its bytes, or 0 when something is wrong. */
static uint32_t see_batch(struct reading *reading, const uint8_t *got, uint32_t left)
{
    const struct mr_model_log *model = &reading->slot->model;
    struct mr_batch            batch;
    if (left < MR_BATCH_HEADER) {
        (void)wrong(reading, reading->next, "is cut");
        return 0;
    }
    mr_batch_header_load(got, &batch);
    uint32_t len = mr_batch_bytes(&batch);
    uint32_t index = mr_model_log_find(model, batch.base_offset);
    bool     is_whole = len <= left && mr_crc32c(0, got + 21, len - 21) == batch.crc;
    if (!is_whole || index == model->batch_count || !is_same_batch(&model->batches[index], &batch)) {
        (void)wrong(reading, batch.base_offset, is_whole ? "is another's" : "is cut or damaged");
        return 0;
    }
    const struct mr_model_batch *want = &model->batches[index];
    int64_t                      end = want->base + want->count;
    if (end > reading->entry->high_watermark) {
        (void)wrong(reading, want->base, "is beyond the high watermark");
        return 0;
    }
    bool is_good = pass(reading, want->base) && see_records(reading, want, got, len) && pass(reading, end);
    return is_good ? len : 0;
}

void mr_model_keyed_read(struct world *w, const struct note *note, const struct mr_read_entry *entry, const uint8_t *got)
{
    struct reading reading = {.w = w, .slot = note->slot, .entry = entry, .next = entry->offset};
    find_newest(note->slot, entry->high_watermark, reading.newest);
    for (uint32_t at = 0, len; at < entry->bytes; at += len) {
        len = see_batch(&reading, got + at, entry->bytes - at);
        if (len == 0) {
            return;
        }
    }
    w->read_end = reading.next;
}

void mr_model_keyed_folded(struct world *w, const struct slot *slot)
{
    int64_t newest[KEYS_MAX];
    find_newest(slot, slot->model.end, newest);
    for (uint32_t key = 0; key < slot->keys; key++) {
        bool is_below = newest[key] < slot->model.start_asked;
        if (is_below || newest[key] == slot->newest[key] ||
            first_of(slot, newest[key], newest[key] + 1, INT64_MIN, newest) < 0) {
            continue;
        }
        fail(w, "key %u of %s: its newest record is at %lld, read was one at %lld", key, slot->topic,
             (long long)newest[key], (long long)slot->newest[key]);
    }
}
