/*
 * clean_copy: phases GROUP and COPY of the cleaner: segments that fit one are read again, and what stays of their batches
 * goes into the new one.
 */
#include "log/cleaner.h"

static enum mr_clean_progress round_end(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_partition *p = c->p;
    p->clean_offset = c->end;
    mr_log(core->log, MR_LOG_INFO, "compacted dir=%s up_to=%lld keys=%llu bytes=%llu left=%llu", p->dir_name,
           (long long)c->end, (unsigned long long)c->map.used, (unsigned long long)c->bytes_before,
           (unsigned long long)c->bytes_after);
    core->stats.clean_rounds++;
    p->task_count--;
    c->p = NULL;
    return mr_cleaner_phase(c, MR_CLEAN_LOOK);
}

/* As many segments as fit one: by their sizes now, for what is left of them is hardly more. */
static void group_choose(struct mr_cleaner *c, struct mr_segment *first)
{
    const struct mr_log_config *config = &c->p->config;
    uint64_t                    size = first->size;
    uint64_t                    index = first->index_bytes;
    uint64_t                    time = first->time_bytes;
    struct mr_segment          *next = mr_segment_next(first);
    while (next->base < c->end) {
        struct mr_segment *after = mr_segment_next(next);
        size += next->size;
        index += next->index_bytes;
        time += next->time_bytes;
        if (size > (uint64_t)config->segment_bytes || index > (uint64_t)config->segment_index_bytes ||
            time > (uint64_t)config->segment_index_bytes || after->base - 1 - first->base > INT32_MAX) {
            break;
        }
        next = after;
    }
    c->group_base = first->base;
    c->group_end = next->base;
}

enum mr_clean_progress mr_clean_group(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_segment *first = mr_segment_find(c->p, c->group_base);
    first = first != NULL ? first : MR_LIST_ENTRY(c->p->segments.next, struct mr_segment, link);
    if (first->base >= c->end) {
        return round_end(core, c);
    }
    if (first->is_gone) {
        c->group_base = mr_segment_next(first)->base;
        return MR_CLEAN_ON;
    }
    group_choose(c, first);
    c->anew = mr_segment_make(core, c->p, c->group_base);
    if (c->anew == NULL || !mr_space_has(core, first->size)) {
        return mr_cleaner_undo(c, false);
    }
    (void)mr_clean_source_begin(c, first, c->group_end);
    return mr_cleaner_phase(c, MR_CLEAN_OPEN);
}

/* ---- COPY ---- */

/* The producer's last batch: its sequence must not be forgotten. As a marker, when it has no data in the log. */
static bool is_last_of_producer(const struct mr_storage_core *core, const struct mr_cleaner *c,
                                const struct mr_batch *batch)
{
    const struct mr_producer *producer =
        batch->producer_id < 0 ? NULL : mr_producer_find(&core->producers, &c->p->producers, batch->producer_id);
    if (producer == NULL) {
        return false;
    }
    return producer->batch_count > 0
               ? producer->batches[producer->batch_count - 1].last_offset == mr_batch_last_offset(batch)
               : (batch->attributes & MR_BATCH_CONTROL) != 0 && batch->producer_epoch == producer->epoch;
}

/* What is to be known of a batch before its records are looked at. */
static enum mr_err learn_batch(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_batch *batch,
                               const uint8_t *bytes)
{
    enum mr_err err = MR_OK;
    c->known = (struct mr_clean_batch){0};
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        const struct mr_aborted *aborted;
        bool is_over = mr_clean_txn_marker(&c->txns, c->source, batch, bytes, &aborted);
        bool is_due = (batch->attributes & MR_BATCH_DELETE_HORIZON) != 0 && batch->base_timestamp <= c->now_ms;
        c->known.is_marker_over = is_over;
        c->known.is_discarded = is_over && is_due;
        err = aborted == NULL ? MR_OK : mr_clean_out_aborted(core, c, aborted);
    } else if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        err = mr_clean_txn_data(&c->txns, c->source, batch, &c->known.is_discarded);
    }
    c->known.is_kept = is_last_of_producer(core, c, batch) ||
                       mr_batch_last_offset(batch) + 1 == c->p->high_watermark.offset;
    return err;
}

static enum mr_clean_progress copy_batch(struct mr_storage_core *core, struct mr_cleaner *c,
                                         const struct mr_batch *batch, const uint8_t *bytes)
{
    struct mr_clean_stream *log = &c->streams[MR_CLEAN_LOG];
    uint32_t                len = mr_batch_bytes(batch);
    uint32_t                out_len = 0;
    struct mr_clean_rules   rules = {.map = &c->map,
                                     .map_end = c->end,
                                     .now_ms = c->now_ms,
                                     .delete_retention_ms = c->p->config.delete_retention_ms};
    if (!mr_clean_out_has_room(c, len)) {
        c->is_flushing = true;
        return MR_CLEAN_IO;
    }
    enum mr_err err = c->is_known ? MR_OK : learn_batch(core, c, batch, bytes);
    c->is_known = true;
    if (err == MR_OK) {
        err = mr_clean_batch(&rules, &c->known, bytes, len, &c->scratch, log->bytes + log->used,
                             log->size - log->used, &out_len);
    }
    if (err == MR_ERR_TOO_LARGE && log->used > 0 && !mr_clean_out_has_room(c, log->size)) {
        c->is_flushing = true;
        return MR_CLEAN_IO;
    }
    if (err != MR_OK || (uint64_t)c->anew->size + out_len > INT32_MAX) {
        return mr_clean_source_bad(core, c, "a batch cannot be compacted");
    }
    if (out_len > 0) {
        mr_clean_out_add(c, log->bytes + log->used, out_len);
        mr_space_take(core, out_len);
    }
    c->bytes_before += len;
    c->bytes_after += out_len;
    core->stats.clean_bytes += len;
    mr_clean_source_took(c, batch);
    return MR_CLEAN_ON;
}

static enum mr_clean_progress copy_over(struct mr_cleaner *c)
{
    return mr_cleaner_phase(c, MR_CLEAN_FINISH);
}

enum mr_clean_progress mr_clean_copy(struct mr_storage_core *core, struct mr_cleaner *c)
{
    static const struct mr_clean_pass pass = {.take = copy_batch, .over = copy_over};
    if (c->is_flushing) {
        c->is_flushing = false;
        if (c->io.op.err != MR_OK) {
            return mr_cleaner_failed(core, c, "writing a compacted segment");
        }
    }
    if (mr_space_is_full(core)) {
        return mr_cleaner_undo(c, false); /* what is left is for others */
    }
    return mr_clean_source_step(core, c, &pass);
}
