/*
 * list_offsets: the ends of a log, and the first record at or after a time.
 *
 * By time: the batches that lie in tail runs are walked by their headers, then the records of the one batch
 * that can answer. What lies in files only is not searched yet: then the answer is the first batch in memory
 * that qualifies.
 */
#include "log/log_walk.h"

#include "millrace/base/bug.h"

/* The first record of the batch with a timestamp >= (or, is_exact, ==) the one asked for. */
static bool in_batch(struct mr_storage_core *core, struct mr_partition *p, struct mr_page *run, uint32_t pos,
                     const struct mr_batch *batch, int64_t timestamp, struct mr_list_offsets_entry *entry)
{
    struct mr_arena scratch;
    uint32_t        bytes = mr_batch_bytes(batch);
    mr_arena_init(&scratch, core->scratch, MR_SCRATCH_BYTES);
    uint8_t              *copy = mr_arena_try(&scratch, bytes, 16);
    struct mr_record_iter iter;
    struct mr_record      record;
    if (copy != NULL && !mr_bug("time-of-batch")) {
        mr_walk_copy(core, p, run, pos, copy, bytes);
        if (mr_record_iter_init(&iter, copy, bytes, &scratch) == MR_OK) {
            while (mr_record_iter_next(&iter, &record) == MR_OK) {
                if (record.timestamp >= timestamp && record.offset >= p->log_start) {
                    entry->offset = record.offset;
                    entry->offset_timestamp = record.timestamp;
                    return true;
                }
            }
            return false;
        }
    }
    /* Too large to open here: the batch itself is the answer. */
    entry->offset = batch->base_offset;
    entry->offset_timestamp = batch->max_timestamp;
    return true;
}

static void by_time(struct mr_storage_core *core, struct mr_partition *p, struct mr_list_offsets_entry *entry,
                    bool is_max)
{
    int64_t         timestamp = entry->timestamp;
    struct mr_page *best_run = NULL;
    uint32_t        best_pos = 0;
    struct mr_batch best = {.max_timestamp = -1};
    if (mr_list_is_empty(&p->runs)) {
        return;
    }
    struct mr_page *run = NULL;
    MR_LIST_EACH(link, &p->runs) {
        run = MR_LIST_ENTRY(link, struct mr_page, link);
        if (run->first_offset >= 0) {
            break;
        }
    }
    if (run->first_offset < 0) {
        return;
    }
    for (uint32_t pos = run->first_pos;;) {
        struct mr_batch batch;
        if (pos >= mr_walk_limit(p, run->segment)) {
            struct mr_list *link = run->link.next;
            while (link != &p->runs && MR_LIST_ENTRY(link, struct mr_page, link)->segment == run->segment) {
                link = link->next;
            }
            if (link == &p->runs || MR_LIST_ENTRY(link, struct mr_page, link)->used == 0) {
                break;
            }
            run = MR_LIST_ENTRY(link, struct mr_page, link);
            pos = 0;
            if (mr_walk_limit(p, run->segment) == 0) {
                break;
            }
        }
        run = mr_walk_run_of(p, run, pos);
        mr_walk_head(core, p, run, pos, &batch);
        if (is_max) {
            if (batch.max_timestamp > best.max_timestamp) {
                best = batch;
                best_run = run;
                best_pos = pos;
            }
        } else if (batch.max_timestamp >= timestamp && mr_batch_last_offset(&batch) >= p->log_start &&
                   in_batch(core, p, run, pos, &batch, timestamp, entry)) {
            return;
        }
        pos += mr_batch_bytes(&batch);
    }
    if (best_run != NULL) {
        (void)in_batch(core, p, best_run, best_pos, &best, best.max_timestamp, entry);
    }
}

void mr_list_offsets_start(struct mr_storage_core *core, struct mr_list_offsets_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_list_offsets_entry *entry = &op->entries[index];
        struct mr_partition          *p = mr_core_find(core, entry->log_id);
        entry->offset = -1;
        entry->offset_timestamp = -1;
        entry->leader_epoch = -1;
        if (core->is_offline || (p != NULL && p->state == MR_PARTITION_OFFLINE)) {
            entry->err = MR_ERR_DIR_OFFLINE;
            continue;
        }
        if (p == NULL || p->state != MR_PARTITION_OPEN) {
            entry->err = MR_ERR_UNKNOWN_LOG;
            continue;
        }
        entry->err = mr_read_epoch_check(p, entry->current_leader_epoch);
        if (entry->err != MR_OK) {
            continue;
        }
        switch (entry->timestamp) {
        case -1:
            entry->offset = p->high_watermark.offset;
            entry->leader_epoch = mr_epoch_cache_latest(&p->epochs);
            continue;
        case -2:
        case -4:
            entry->offset = p->log_start;
            break;
        case -3:
            by_time(core, p, entry, true);
            break;
        case -5:
        case -6:
            break; /* no tiered storage: nothing */
        default:
            by_time(core, p, entry, false);
            break;
        }
        if (entry->offset >= 0) {
            entry->leader_epoch = mr_epoch_cache_at(&p->epochs, entry->offset);
        }
    }
    mr_core_answer(core, &op->op);
}
