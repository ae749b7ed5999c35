/*
 * partition: one log's life and its ends: assigned, written, flushed, seen.
 */
#include "storage_core.h"

#include "log/scrub.h"

#include "millrace/base/bug.h"

/* ---- By name ---- */

static uint64_t name_hash(struct mr_str dir_name)
{
    static const struct mr_hash_key key = {.k0 = 0x6d726469, .k1 = 0x6e616d65};
    return mr_hash_str(&key, dir_name);
}

static void name_add(struct mr_storage_core *core, struct mr_partition *p)
{
    uint64_t             hash = name_hash(p->jlog.dir_name);
    struct mr_partition *first = mr_map_find(&core->by_name, hash);
    if (first != NULL) {
        p->same_name = first->same_name;
        first->same_name = p;
        return;
    }
    bool is_added = mr_map_add(&core->by_name, hash, p);
    mr_assert(is_added); /* it has room for as many as the pool */
}

static void name_remove(struct mr_storage_core *core, struct mr_partition *p)
{
    uint64_t             hash = name_hash(p->jlog.dir_name);
    struct mr_partition *at = mr_map_find(&core->by_name, hash);
    if (at == p) {
        mr_map_remove(&core->by_name, hash);
        if (p->same_name != NULL) {
            (void)mr_map_add(&core->by_name, hash, p->same_name);
        }
        return;
    }
    while (at->same_name != p) {
        at = at->same_name;
    }
    at->same_name = p->same_name;
}

struct mr_partition *mr_partition_by_name(struct mr_storage_core *core, struct mr_str dir_name)
{
    struct mr_partition *p = mr_map_find(&core->by_name, name_hash(dir_name));
    while (p != NULL && (p->state == MR_PARTITION_DROPPING || !mr_str_equal(p->jlog.dir_name, dir_name))) {
        p = p->same_name;
    }
    return p;
}

struct mr_partition *mr_partition_new(struct mr_storage_core *core, uint64_t log_id,
                                      const struct mr_uuid *topic_id, int32_t partition,
                                      struct mr_str dir_name)
{
    if (dir_name.len <= 0 || (uint32_t)dir_name.len >= MR_DIR_NAME_BYTES) {
        return NULL;
    }
    struct mr_partition *p = mr_pool_try(&core->partition_pool, MR_FAIL_logs);
    if (p == NULL) {
        return NULL;
    }
    memset(p, 0, sizeof *p);
    memcpy(p->dir_name, dir_name.data, (size_t)dir_name.len);
    p->jlog = (struct mr_journal_log){
        .log_id = log_id,
        .topic_id = *topic_id,
        .partition = partition,
        .dir_name = {.data = p->dir_name, .len = dir_name.len},
    };
    p->state = MR_PARTITION_FOUND;
    p->leader_epoch = -1;
    p->clean_offset = -1;
    p->snapshot_at = -1;
    p->is_clean_on_disk = true;
    mr_list_init(&p->durable_link);
    mr_list_init(&p->dirty_link);
    mr_list_init(&p->demux_link);
    mr_list_init(&p->gone_link);
    mr_list_init(&p->segments);
    mr_list_init(&p->runs);
    mr_list_init(&p->watches);
    mr_producer_set_init(&p->producers, log_id);
    mr_txns_init(&p->txns);
    mr_epoch_cache_init(&p->epochs);
    for (uint32_t index = 0; index < MR_READ_HINTS; index++) {
        p->hints[index].offset = -1;
    }
    if (!mr_map_add(&core->by_log_id, log_id, p)) {
        mr_pool_put(&core->partition_pool, p);
        return NULL;
    }
    name_add(core, p);
    mr_list_add_tail(&core->partitions, &p->link);
    return p;
}

void mr_partition_free(struct mr_storage_core *core, struct mr_partition *p)
{
    mr_assert(p->task_count == 0 && core->part_open != p);
    mr_watch_fire(core, p, true);
    mr_burial_forget(core, p);
    mr_tail_drop(core, p);
    while (!mr_list_is_empty(&p->segments)) {
        mr_segment_free(core, MR_LIST_ENTRY(p->segments.next, struct mr_segment, link));
    }
    mr_producer_set_clear(&core->producers, &p->producers);
    mr_txns_clear(core, p);
    if (p->epoch_page != NULL) {
        mr_page_pool_put(&core->cache, p->epoch_page);
    }
    mr_list_remove(&p->durable_link);
    mr_list_remove(&p->dirty_link);
    mr_list_remove(&p->demux_link);
    if (core->retention_next == &p->link) {
        core->retention_next = p->link.next;
    }
    mr_cleaner_forget(core, p);
    mr_scrub_forget_log(core, p);
    mr_list_remove(&p->link);
    mr_map_remove(&core->by_log_id, p->jlog.log_id);
    name_remove(core, p);
    mr_pool_put(&core->partition_pool, p);
}

void mr_partition_set_epoch_room(struct mr_storage_core *core, struct mr_partition *p)
{
    if (!mr_epoch_cache_is_full(&p->epochs)) {
        return;
    }
    uint32_t        order = p->epoch_page == NULL ? 0 : p->epoch_page->order + 1u;
    struct mr_page *page = order > MR_PAGE_ORDER_MAX ? NULL : mr_tail_page_get(core, order);
    if (page == NULL) {
        return; /* then the oldest entry gives way */
    }
    mr_epoch_cache_grow(&p->epochs, mr_page_memory(&core->cache, page),
                        mr_page_capacity(page) / (uint32_t)sizeof(struct mr_epoch_entry));
    if (p->epoch_page != NULL) {
        mr_page_pool_put(&core->cache, p->epoch_page);
    }
    p->epoch_page = page;
}

void mr_partition_pending_add(struct mr_storage_core *core, struct mr_partition *p, uint64_t first_seq, uint64_t seq)
{
    if (p->pending_count > 0 && (p->pending[p->pending_count - 1].seq == seq ||
                                 p->pending_count == MR_PENDING_MAX)) {
        /* All slots taken: the last one waits for the later commit too, which is merely later. */
        p->pending[p->pending_count - 1].seq = seq;
        p->pending[p->pending_count - 1].end = p->end;
        return;
    }
    p->pending[p->pending_count].first_seq = first_seq;
    p->pending[p->pending_count].seq = seq;
    p->pending[p->pending_count].end = p->end;
    if (p->pending_count++ == 0) {
        mr_list_add_tail(&core->undurable, &p->durable_link);
    }
}

static void see(struct mr_storage_core *core, struct mr_partition *p, const struct mr_place *end)
{
    if (end->offset > p->high_watermark.offset) {
        p->high_watermark = *end;
        if (p->txns.undecided_count > 0) {
            mr_txn_seen(core, p);
        }
        mr_watch_fire(core, p, false);
    }
}

void mr_partition_commits(struct mr_storage_core *core, uint64_t written_seq, uint64_t durable_seq)
{
    MR_LIST_EACH_SAFE(link, after, &core->undurable) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, durable_link);
        if (p->config.ack == MR_ACK_WRITE) {
            for (uint32_t index = p->pending_count; index-- > 0;) {
                if (p->pending[index].seq <= written_seq) {
                    see(core, p, &p->pending[index].end);
                    break;
                }
            }
        }
        if (mr_bug("see-before-flush")) {
            see(core, p, &p->pending[p->pending_count - 1].end);
        }
        uint32_t flushed = 0;
        while (flushed < p->pending_count && p->pending[flushed].seq <= durable_seq) {
            flushed++;
        }
        if (flushed == 0) {
            continue;
        }
        p->durable = p->pending[flushed - 1].end;
        see(core, p, &p->durable);
        p->pending_count = (uint8_t)(p->pending_count - flushed);
        memmove(p->pending, p->pending + flushed, sizeof p->pending[0] * p->pending_count);
        if (p->pending_count == 0) {
            mr_list_remove(&p->durable_link);
        }
        mr_demux_ready(core, p);
    }
}

void mr_partition_store(struct mr_partition *p, struct mr_journal_state_out *out)
{
    mr_assert(p->part_of == NULL); /* no checkpoint in the middle of a batch */
    const struct mr_segment *active = p->active;
    struct mr_journal_state  state = {
         .segment_base = active->base,
         .end_offset = p->end.offset,
         .end_pos = active->size,
         .log_start = p->log_start,
         .high_watermark = p->high_watermark.offset,
         .max_timestamp = active->max_timestamp,
         .max_timestamp_offset = active->max_timestamp_offset,
         .first_timestamp = active->first_timestamp,
         .created_ms = active->created_ms,
    };
    mr_journal_state_put(out, &state);
    for (uint32_t index = 0; index < p->epochs.count; index++) {
        struct mr_journal_epoch epoch = {.epoch = p->epochs.entries[index].epoch,
                                         .start_offset = p->epochs.entries[index].start_offset};
        mr_journal_state_put_epoch(out, &epoch);
    }
    MR_LIST_EACH(link, &p->producers.list) {
        const struct mr_producer  *from = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        struct mr_journal_producer to = {
            .producer_id = from->id,
            .producer_epoch = from->epoch,
            .coordinator_epoch = from->coordinator_epoch,
            .txn_first_offset = from->txn_first_offset,
            .last_timestamp = from->last_timestamp,
            .batch_count = from->batch_count,
        };
        for (uint32_t index = 0; index < from->batch_count; index++) {
            to.batches[index].last_sequence = from->batches[index].last_sequence;
            to.batches[index].offset_delta = from->batches[index].offset_delta;
            to.batches[index].last_offset = from->batches[index].last_offset;
            to.batches[index].timestamp = from->batches[index].timestamp;
        }
        mr_journal_state_put_producer(out, &to);
    }
}

void mr_partition_configure(struct mr_partition *p, const struct mr_log_config *config)
{
    p->config = *config;
    p->producers.expire_ms = config->producer_expiration_ms;
}

int64_t mr_partition_bytes(const struct mr_partition *p)
{
    int64_t bytes = 0;
    MR_LIST_EACH(link, &p->segments) {
        const struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        bytes += segment->is_gone ? 0 : segment->size;
    }
    return bytes;
}

void mr_partition_mark_gone(struct mr_storage_core *core, struct mr_partition *p)
{
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment *next = mr_segment_next(segment);
        if (next == NULL || next->base > p->log_start) {
            return;
        }
        segment->is_gone = true;
        mr_burial_note(core, p);
    }
}

void mr_partition_log_start(struct mr_storage_core *core, struct mr_partition *p, int64_t offset, uint64_t seq)
{
    if (offset <= p->log_start) {
        return;
    }
    p->log_start = offset;
    p->log_start_seq = seq;
    p->is_clean_on_disk = false;
    p->is_epoch_dirty |= mr_epoch_cache_trim_start(&p->epochs, offset);
    if (p->txns.undecided_count > 0) {
        mr_watch_fire(core, p, false); /* the stable part may have moved with it */
    }
    /* Whole segments below it are gone for readers; their files follow when the journal allows. */
    mr_partition_mark_gone(core, p);
}
