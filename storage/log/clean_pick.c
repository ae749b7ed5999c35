/*
 * clean_pick: phase LOOK of the cleaner: of the logs with cleanup.policy compact the dirtiest, as Kafka's choice is: by
 * the part of it that is dirty, or at once when its oldest dirty batch has waited for max.compaction.lag.ms.
 */
#include "log/cleaner.h"

#define LOGS_PER_TURN 1024u

static int64_t first_dirty_of(const struct mr_partition *p)
{
    bool is_in = p->clean_offset >= p->log_start && p->clean_offset <= p->end.offset;
    return is_in ? p->clean_offset : p->log_start;
}

/* All of it is in its files, and the journal has left it. */
static bool is_settled(const struct mr_storage_core *core, const struct mr_segment *segment)
{
    return segment->is_seal_done && segment->last_seq < mr_journal_start_seq(core->journal) &&
           segment->written == segment->size && segment->index_page == NULL && segment->time_page == NULL &&
           !segment->is_index_busy && !segment->is_aborted_stale &&
           segment->aborted_written == segment->aborted_count;
}

static bool learn_step(struct mr_storage_core *core, struct mr_task *task)
{
    return !task->segment->is_time_known && mr_segment_time_learn(core, task, task->segment, 0);
}

/* Its largest timestamp is min.compaction.lag.ms ago. One from before this start tells it at the next look. */
static bool is_old_enough(struct mr_storage_core *core, struct mr_partition *p, struct mr_segment *segment)
{
    if (p->config.min_compaction_lag_ms <= 0) {
        return true;
    }
    if (!segment->is_time_known) {
        struct mr_task *task = mr_core_task(core, p, learn_step);
        if (task != NULL) {
            task->segment = segment;
            mr_core_task_start(core, task);
        }
        return false;
    }
    return segment->max_timestamp <= core->now.unix_ms - p->config.min_compaction_lag_ms;
}

struct verdict {
    int64_t  upper; /* end of the last segment that may be cleaned */
    int64_t  clean_bytes, dirty_bytes;
    int64_t  oldest_ms;    /* of the dirty part's first batch; INT64_MAX: not known */
    uint64_t unsettled_seq; /* the journal has to leave it first; 0: nothing keeps back the rest */
};

static struct verdict judge(struct mr_storage_core *core, struct mr_partition *p)
{
    struct verdict verdict = {.upper = p->log_start, .oldest_ms = INT64_MAX};
    int64_t        first_dirty = first_dirty_of(p);
    int64_t        stable = mr_txn_stable(p);
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment *next = mr_segment_next(segment);
        if (segment->is_gone) {
            continue;
        }
        if (next == NULL || next->base > stable || !is_old_enough(core, p, segment)) {
            break;
        }
        if (next->base <= first_dirty) {
            verdict.clean_bytes += segment->size;
        } else {
            verdict.dirty_bytes += segment->size;
            int64_t first_ms = segment->first_timestamp >= 0 ? segment->first_timestamp : segment->changed_ms;
            verdict.oldest_ms = first_ms < verdict.oldest_ms ? first_ms : verdict.oldest_ms;
        }
        if (!is_settled(core, segment)) {
            verdict.unsettled_seq = segment->last_seq > verdict.unsettled_seq ? segment->last_seq : verdict.unsettled_seq;
        } else if (verdict.unsettled_seq == 0) {
            verdict.upper = next->base;
        }
    }
    return verdict;
}

static bool is_compacted(const struct mr_partition *p)
{
    return p->state == MR_PARTITION_OPEN && p->config.is_cleanup_compact && !p->is_uncleanable;
}

static void consider(struct mr_storage_core *core, struct mr_cleaner *c, struct mr_partition *p)
{
    if (!is_compacted(p)) {
        return;
    }
    struct verdict verdict = judge(core, p);
    if (verdict.dirty_bytes == 0) {
        return;
    }
    double ratio = (double)verdict.dirty_bytes / (double)(verdict.clean_bytes + verdict.dirty_bytes);
    bool   is_forced = verdict.oldest_ms != INT64_MAX && p->config.max_compaction_lag_ms < INT64_MAX &&
                     core->now.unix_ms - verdict.oldest_ms > p->config.max_compaction_lag_ms;
    if (ratio <= p->config.min_cleanable_dirty_ratio && !is_forced) {
        return;
    }
    if (verdict.unsettled_seq > core->reclaim_seq) {
        core->reclaim_seq = verdict.unsettled_seq; /* nobody else may fill the ring */
    }
    if (verdict.upper > first_dirty_of(p) && (c->best_log_id == 0 || ratio > c->best_ratio)) {
        c->best_log_id = p->jlog.log_id;
        c->best_ratio = ratio;
    }
}

static enum mr_clean_progress round_begin(struct mr_storage_core *core, struct mr_cleaner *c, struct mr_partition *p)
{
    c->p = p;
    p->task_count++;
    c->first_dirty = first_dirty_of(p);
    c->upper = judge(core, p).upper;
    c->now_ms = core->now.unix_ms;
    c->bytes_before = 0;
    c->bytes_after = 0;
    c->anew = NULL;
    mr_clean_txns_clear(&c->txns);
    return mr_cleaner_phase(c, MR_CLEAN_CLEAR);
}

enum mr_clean_progress mr_clean_look(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->look_next == NULL) {
        c->look_next = core->partitions.next;
        c->best_log_id = 0;
    }
    for (uint32_t count = 0; count < LOGS_PER_TURN && c->look_next != &core->partitions; count++) {
        struct mr_partition *p = MR_LIST_ENTRY(c->look_next, struct mr_partition, link);
        c->look_next = c->look_next->next;
        consider(core, c, p);
    }
    if (c->look_next != &core->partitions) {
        return MR_CLEAN_WAIT;
    }
    c->look_next = NULL;
    struct mr_partition *p = mr_core_find(core, c->best_log_id);
    return p != NULL && is_compacted(p) && !mr_space_is_full(core) ? round_begin(core, c, p)
                                                                   : mr_cleaner_rest(core, c, core->plan.clean_backoff_ms);
}

void mr_cleaner_forget(struct mr_storage_core *core, const struct mr_partition *p)
{
    if (core->cleaner != NULL && core->cleaner->look_next == &p->link) {
        core->cleaner->look_next = p->link.next;
    }
}
