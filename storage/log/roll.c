/*
 * roll: when a new segment begins, and how. The rules are Kafka's (4.4): by size, by the time between the
 * segment's first batch and the one that comes, by full indexes, by the width of a relative offset.
 */
#include "storage_core.h"

bool mr_roll_is_due(const struct mr_storage_core *core, const struct mr_partition *p,
                    const struct mr_batch *batch, uint32_t batch_bytes)
{
    const struct mr_segment    *active = p->active;
    const struct mr_log_config *config = &p->config;
    if (active->size == 0) {
        return false;
    }
    if ((int64_t)active->size + batch_bytes > config->segment_bytes) {
        return true;
    }
    int64_t segment_ms = config->segment_ms;
    if (config->is_cleanup_compact && config->max_compaction_lag_ms < segment_ms) {
        segment_ms = config->max_compaction_lag_ms;
    }
    /* The jitter is drawn once per segment, here from its base so that it survives a restart. */
    int64_t jitter_max = config->segment_jitter_ms < config->segment_ms ? config->segment_jitter_ms : config->segment_ms;
    int64_t jitter = jitter_max <= 0 ? 0
                                     : (int64_t)(mr_hash_u64((uint64_t)active->base ^ p->jlog.log_id) %
                                                 (uint64_t)jitter_max);
    int64_t age = active->first_timestamp >= 0 && batch->max_timestamp >= 0
                      ? batch->max_timestamp - active->first_timestamp
                      : core->now.unix_ms - active->created_ms;
    if (age > segment_ms - jitter) {
        return true;
    }
    return mr_segment_is_index_full(active) ||
           p->end.offset + batch->last_offset_delta - active->base > INT32_MAX;
}

/* MR_AGAIN: no room in the journal now; MR_ERR_DIR_FULL: for no more segments. */
enum mr_err mr_roll(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_segment *old = p->active;
    struct mr_segment *next = mr_segment_make(core, p, p->end.offset);
    if (next == NULL) {
        if (mr_log_may(&core->brake_segments, core->now.mono_ns, MR_NS_PER_S)) {
            mr_log(core->log, MR_LOG_WARN, "no room for more segments: producers are refused dir=%s limit=millrace.segments.max",
                   p->dir_name);
        }
        return MR_ERR_DIR_FULL; /* what retention removes makes room, as on a full disk */
    }
    struct mr_journal_entry seal = {.kind = MR_JOURNAL_SEAL,
                                    .offset = p->end.offset,
                                    .segment_base = old->base,
                                    .pos = old->size};
    uint64_t    seq = 0;
    enum mr_err err = mr_journal_add(core->journal, &p->jlog, &seal, NULL, &seq);
    if (err != MR_OK) {
        mr_pool_put(&core->segment_pool, next);
        return err;
    }
    mr_segment_index_end(core, old);
    old->is_sealed = true;
    old->last_seq = seq;
    old->changed_ms = core->now.unix_ms;
    mr_segment_add(next);
    /* Runs behind the old segment's end that were reserved and are empty have no use any more. */
    mr_tail_trim(core, p);
    if (!mr_list_is_empty(&p->runs)) {
        struct mr_page *last = MR_LIST_ENTRY(p->runs.prev, struct mr_page, link);
        if (last->clean == last->used && mr_list_is_empty(&last->by_age)) {
            mr_list_add_tail(&core->clean_runs, &last->by_age); /* nothing more comes into it */
        }
    }
    p->is_image_due = false; /* the block that lies in the file is not rewritten any more */
    p->active = next;
    p->end.base = next->base;
    p->end.pos = 0;
    p->is_clean_on_disk = false;
    mr_partition_mark_gone(core, p); /* the start may have been the end of the old one */
    mr_demux_note_dirty(core, p, seq);
    mr_partition_pending_add(core, p, seq, seq);
    mr_snapshot_write(core, p, seq);
    return MR_OK;
}
