#include "log/producer_state.h"

#include "millrace/base/bug.h"
static uint32_t bucket_count(uint32_t capacity)
{
    uint32_t count = 16;
    while (count < capacity) {
        count *= 2;
    }
    return count;
}

size_t mr_producers_bytes(uint32_t capacity)
{
    return (sizeof(struct mr_producer) + 16) * capacity + sizeof(void *) * bucket_count(capacity) + 256;
}

void mr_producers_init(struct mr_producers *producers, struct mr_arena *arena, uint32_t capacity)
{
    mr_assert(capacity > 0);
    *producers = (struct mr_producers){.mask = bucket_count(capacity) - 1};
    mr_pool_init(&producers->pool, arena, sizeof(struct mr_producer), capacity, 16);
    producers->buckets = MR_ARENA_GET(arena, struct mr_producer *, bucket_count(capacity));
    mr_list_init(&producers->by_age);
}

void mr_producer_set_init(struct mr_producer_set *set, uint64_t log_id)
{
    mr_list_init(&set->list);
    set->log_id = log_id;
    set->expire_ms = INT64_MAX; /* until the log is opened */
    set->count = 0;
}

static struct mr_producer **bucket_of(const struct mr_producers *producers, uint64_t log_id, int64_t id)
{
    return &producers->buckets[mr_hash_u64(log_id ^ mr_hash_u64((uint64_t)id + 1)) & producers->mask];
}

static void drop(struct mr_producers *producers, struct mr_producer *producer)
{
    struct mr_producer **at = bucket_of(producers, producer->set->log_id, producer->id);
    while (*at != producer) {
        mr_assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = producer->next;
    mr_list_remove(&producer->of_log);
    mr_list_remove(&producer->by_age);
    producer->set->count--;
    mr_pool_put(&producers->pool, producer);
}

void mr_producer_set_clear(struct mr_producers *producers, struct mr_producer_set *set)
{
    while (!mr_list_is_empty(&set->list)) {
        drop(producers, MR_LIST_ENTRY(set->list.next, struct mr_producer, of_log));
    }
    mr_assert(set->count == 0);
}

struct mr_producer *mr_producer_find(const struct mr_producers *producers, const struct mr_producer_set *set,
                                     int64_t id)
{
    if (set->count == 0) {
        return NULL;
    }
    struct mr_producer *producer = *bucket_of(producers, set->log_id, id);
    while (producer != NULL && (producer->set != set || producer->id != id)) {
        producer = producer->next;
    }
    return producer;
}

int32_t mr_producer_last_sequence(int32_t base, int32_t count)
{
    return (int32_t)(((uint32_t)base + (uint32_t)count - 1u) & 0x7fffffffu);
}

static int32_t first_sequence(const struct mr_producer_batch *batch)
{
    return (int32_t)(((uint32_t)batch->last_sequence - (uint32_t)batch->offset_delta) & 0x7fffffffu);
}

enum mr_err mr_producer_check(const struct mr_producers *producers, const struct mr_producer_set *set,
                              const struct mr_batch *batch, const struct mr_producer_batch **duplicate)
{
    *duplicate = NULL;
    const struct mr_producer *producer = mr_producer_find(producers, set, batch->producer_id);
    if (producer == NULL) {
        return MR_OK; /* nothing is known: any sequence is accepted */
    }
    int32_t last = mr_producer_last_sequence(batch->base_sequence, batch->record_count);
    if (batch->producer_epoch == producer->epoch) {
        for (uint32_t index = producer->batch_count; index-- > 0;) {
            const struct mr_producer_batch *kept = &producer->batches[index];
            if (kept->last_sequence == last && first_sequence(kept) == batch->base_sequence) {
                *duplicate = kept;
                return MR_OK;
            }
        }
    }
    if (batch->producer_epoch < producer->epoch && !mr_bug("serve-zombies")) {
        return MR_ERR_INVALID_PRODUCER_EPOCH;
    }
    if (batch->producer_epoch > producer->epoch) {
        return batch->base_sequence == 0 || producer->epoch < 0 ? MR_OK : MR_ERR_OUT_OF_ORDER_SEQUENCE;
    }
    if (producer->epoch < 0) {
        return MR_OK; /* nothing of an epoch was ever seen: any sequence is accepted */
    }
    if (producer->txn_first_offset >= 0 && (batch->attributes & MR_BATCH_TRANSACTIONAL) == 0) {
        return MR_ERR_INVALID_TXN_STATE;
    }
    /* After a marker the window is empty, and the epoch begins at 0 (Kafka: NO_SEQUENCE + 1). */
    int32_t stored = producer->batch_count == 0 ? -1 : producer->batches[producer->batch_count - 1].last_sequence;
    int32_t next = (int32_t)(((uint32_t)stored + 1u) & 0x7fffffffu);
    return batch->base_sequence == next ? MR_OK : MR_ERR_OUT_OF_ORDER_SEQUENCE;
}

/* Those with an open transaction are passed over, to the end of the list: there are always others (MR_TXNS_PER_LOG,
 * the pool of open transactions). */
static void evict(struct mr_producers *producers, struct mr_list *list, size_t link_at)
{
    struct mr_producer *victim = NULL;
    for (uint32_t tries = producers->pool.used; tries > 0; tries--) {
        struct mr_list *link = list->next;
        victim = (struct mr_producer *)(void *)((uint8_t *)link - link_at);
        if (victim->txn_first_offset < 0) {
            break;
        }
        mr_list_remove(link);
        mr_list_add_tail(list, link);
    }
    drop(producers, victim);
    producers->evicted++;
}

/* Where the pool is full there is one (above); only a test makes it full before. */
static bool is_any_evictable(const struct mr_producers *producers)
{
    MR_LIST_EACH(link, &producers->by_age) {
        if (MR_LIST_ENTRY(link, struct mr_producer, by_age)->txn_first_offset < 0) {
            return true;
        }
    }
    return false;
}

static struct mr_producer *add(struct mr_producers *producers, struct mr_producer_set *set, int64_t id)
{
    if (set->count == MR_PRODUCERS_PER_LOG) {
        evict(producers, &set->list, offsetof(struct mr_producer, of_log));
    }
    bool                is_full = mr_fail(MR_FAIL_producers) && is_any_evictable(producers);
    struct mr_producer *producer = is_full ? NULL : mr_pool_get(&producers->pool);
    if (producer == NULL) {
        evict(producers, &producers->by_age, offsetof(struct mr_producer, by_age));
        producer = mr_pool_get(&producers->pool);
    }
    *producer = (struct mr_producer){.set = set, .id = id, .epoch = -1, .coordinator_epoch = -1,
                                     .txn_first_offset = -1, .last_timestamp = -1};
    struct mr_producer **bucket = bucket_of(producers, set->log_id, id);
    producer->next = *bucket;
    *bucket = producer;
    mr_list_add_tail(&set->list, &producer->of_log);
    mr_list_add_tail(&producers->by_age, &producer->by_age);
    set->count++;
    return producer;
}

static void window_add(struct mr_producer *producer, struct mr_producer_batch batch)
{
    if (producer->batch_count == MR_PRODUCER_WINDOW) {
        memmove(producer->batches, producer->batches + 1, sizeof batch * (MR_PRODUCER_WINDOW - 1));
        producer->batch_count--;
    }
    producer->batches[producer->batch_count++] = batch;
}

/* It is the last used one from now on. */
static struct mr_producer *touch(struct mr_producers *producers, struct mr_producer_set *set, int64_t id)
{
    struct mr_producer *producer = mr_producer_find(producers, set, id);
    if (producer == NULL) {
        return add(producers, set, id);
    }
    mr_list_remove(&producer->by_age);
    mr_list_add_tail(&producers->by_age, &producer->by_age);
    mr_list_remove(&producer->of_log);
    mr_list_add_tail(&set->list, &producer->of_log);
    return producer;
}

struct mr_producer *mr_producer_get(struct mr_producers *producers, struct mr_producer_set *set, int64_t id)
{
    return touch(producers, set, id);
}

static void set_epoch(struct mr_producer *producer, int16_t epoch)
{
    if (epoch != producer->epoch) {
        producer->epoch = epoch;
        producer->batch_count = 0;
    }
}

void mr_producer_update(struct mr_producers *producers, struct mr_producer_set *set,
                        const struct mr_batch *batch)
{
    struct mr_producer *producer = touch(producers, set, batch->producer_id);
    set_epoch(producer, batch->producer_epoch);
    if (batch->base_sequence >= 0) { /* a coordinator's batches have none */
        window_add(producer,
                   (struct mr_producer_batch){
                       .last_offset = mr_batch_last_offset(batch),
                       .timestamp = batch->max_timestamp,
                       .offset_delta = batch->last_offset_delta,
                       /* Compaction takes records away, not sequences. */
                       .last_sequence =
                           mr_producer_last_sequence(batch->base_sequence, batch->last_offset_delta + 1),
                   });
    }
    if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0 && producer->txn_first_offset < 0) {
        producer->txn_first_offset = batch->base_offset;
    }
    producer->last_timestamp = batch->max_timestamp;
}

int64_t mr_producer_end_txn(struct mr_producers *producers, struct mr_producer_set *set, const struct mr_batch *batch,
                            int32_t coordinator_epoch)
{
    struct mr_producer *producer = touch(producers, set, batch->producer_id);
    int64_t             first_offset = producer->txn_first_offset;
    set_epoch(producer, batch->producer_epoch);
    producer->txn_first_offset = -1;
    producer->coordinator_epoch = coordinator_epoch;
    producer->last_timestamp = batch->max_timestamp;
    return first_offset;
}

void mr_producer_set_copy(struct mr_producers *producers, struct mr_producer_set *set,
                          const struct mr_producer_set *from)
{
    MR_LIST_EACH(link, &from->list) {
        const struct mr_producer *old = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        struct mr_producer       *producer = add(producers, set, old->id);
        producer->last_timestamp = old->last_timestamp;
        producer->txn_first_offset = old->txn_first_offset;
        producer->coordinator_epoch = old->coordinator_epoch;
        producer->epoch = old->epoch;
        producer->batch_count = old->batch_count;
        memcpy(producer->batches, old->batches, sizeof producer->batches);
    }
}

bool mr_producers_expire(struct mr_producers *producers, int64_t now_unix_ms, uint32_t max)
{
    bool is_any = false;
    MR_LIST_EACH_SAFE(link, after, &producers->by_age) {
        if (max-- == 0) {
            return is_any;
        }
        struct mr_producer *producer = MR_LIST_ENTRY(link, struct mr_producer, by_age);
        if (producer->txn_first_offset < 0 &&
            mr_age_ms(now_unix_ms, producer->last_timestamp) >= producer->set->expire_ms) {
            drop(producers, producer);
            is_any = true;
        }
    }
    return false;
}

static uint8_t *snapshot_entry(uint8_t *at, const struct mr_producer *producer, const struct mr_producer_batch *batch)
{
    mr_store_be64(at, (uint64_t)producer->id);
    mr_store_be16(at + 8, (uint16_t)producer->epoch);
    mr_store_be32(at + 10, (uint32_t)batch->last_sequence);
    mr_store_be64(at + 14, (uint64_t)batch->last_offset);
    mr_store_be32(at + 22, (uint32_t)batch->offset_delta);
    mr_store_be64(at + 26, (uint64_t)batch->timestamp);
    mr_store_be32(at + 34, (uint32_t)producer->coordinator_epoch);
    mr_store_be64(at + 38, (uint64_t)producer->txn_first_offset);
    return at + MR_PRODUCER_SNAPSHOT_ENTRY;
}

uint32_t mr_producer_snapshot_bytes(const struct mr_producer_set *set)
{
    uint32_t entries = 0;
    MR_LIST_EACH(link, &set->list) {
        const struct mr_producer *producer = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        entries += producer->batch_count == 0 ? 1 : producer->batch_count;
    }
    return MR_PRODUCER_SNAPSHOT_HEAD + entries * MR_PRODUCER_SNAPSHOT_ENTRY;
}

uint32_t mr_producer_snapshot_store(const struct mr_producer_set *set, uint8_t *out)
{
    uint8_t *at = out + MR_PRODUCER_SNAPSHOT_HEAD;
    MR_LIST_EACH(link, &set->list) {
        const struct mr_producer *producer = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        if (producer->batch_count == 0) {
            const struct mr_producer_batch none = {
                .last_offset = -1, .timestamp = producer->last_timestamp, .last_sequence = -1};
            at = snapshot_entry(at, producer, &none);
        }
        uint32_t first = mr_bug("snapshot-last-only") && producer->batch_count > 0 ? producer->batch_count - 1u : 0;
        for (uint32_t index = first; index < producer->batch_count; index++) {
            at = snapshot_entry(at, producer, &producer->batches[index]);
        }
    }
    uint32_t len = (uint32_t)(at - out);
    mr_store_be16(out, 1);
    mr_store_be32(out + 6, (len - MR_PRODUCER_SNAPSHOT_HEAD) / MR_PRODUCER_SNAPSHOT_ENTRY);
    mr_store_be32(out + 2, mr_crc32c(0, out + 6, len - 6));
    return len;
}

/* By offset, each once, the newest of them: what was scanned from the log may be in the snapshot too. */
static void window_merge(struct mr_producer *producer, struct mr_producer_batch batch)
{
    uint32_t at = producer->batch_count;
    while (at > 0 && batch.last_offset < producer->batches[at - 1].last_offset) {
        at--;
    }
    if ((at > 0 && producer->batches[at - 1].last_offset == batch.last_offset) ||
        (at == 0 && producer->batch_count == MR_PRODUCER_WINDOW)) {
        return;
    }
    if (producer->batch_count == MR_PRODUCER_WINDOW) {
        at--;
        memmove(producer->batches, producer->batches + 1, sizeof batch * at);
    } else {
        memmove(producer->batches + at + 1, producer->batches + at, sizeof batch * (producer->batch_count - at));
        producer->batch_count++;
    }
    producer->batches[at] = batch;
}

static void snapshot_entry_load(struct mr_producers *producers, struct mr_producer_set *set, const uint8_t *at)
{
    int64_t             id = (int64_t)mr_load_be64(at);
    int16_t             epoch = (int16_t)mr_load_be16(at + 8);
    struct mr_producer *producer = mr_producer_find(producers, set, id);
    if (producer == NULL) {
        producer = add(producers, set, id);
        producer->epoch = epoch;
        producer->coordinator_epoch = (int32_t)mr_load_be32(at + 34);
        producer->txn_first_offset = mr_producer_snapshot_txn(at, &id);
    }
    struct mr_producer_batch batch = {
        .last_sequence = (int32_t)mr_load_be32(at + 10),
        .last_offset = (int64_t)mr_load_be64(at + 14),
        .offset_delta = (int32_t)mr_load_be32(at + 22),
        .timestamp = (int64_t)mr_load_be64(at + 26),
    };
    producer->last_timestamp = producer->last_timestamp > batch.timestamp ? producer->last_timestamp : batch.timestamp;
    if (epoch == producer->epoch && batch.last_offset >= 0 && batch.last_sequence >= 0 && batch.offset_delta >= 0) {
        window_merge(producer, batch);
    }
}

bool mr_producer_snapshot_is_whole(const uint8_t *bytes, uint32_t len)
{
    return len >= MR_PRODUCER_SNAPSHOT_HEAD && mr_load_be16(bytes) == 1 &&
           mr_load_be32(bytes + 2) == mr_crc32c(0, bytes + 6, len - 6) &&
           (uint64_t)mr_load_be32(bytes + 6) * MR_PRODUCER_SNAPSHOT_ENTRY + MR_PRODUCER_SNAPSHOT_HEAD == len;
}

int64_t mr_producer_snapshot_txn(const uint8_t entry[MR_PRODUCER_SNAPSHOT_ENTRY], int64_t *producer_id)
{
    *producer_id = (int64_t)mr_load_be64(entry);
    return (int64_t)mr_load_be64(entry + 38);
}

enum mr_err mr_producer_snapshot_load(struct mr_producers *producers, struct mr_producer_set *set,
                                      const uint8_t *bytes, uint32_t len)
{
    if (!mr_producer_snapshot_is_whole(bytes, len)) {
        return MR_ERR_CORRUPT;
    }
    for (const uint8_t *at = bytes + MR_PRODUCER_SNAPSHOT_HEAD; at < bytes + len;
         at += MR_PRODUCER_SNAPSHOT_ENTRY) {
        snapshot_entry_load(producers, set, at);
    }
    return MR_OK;
}
