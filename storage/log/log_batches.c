/*
 * log_batches: which segments of a log that is loaded are read from their batches, and what is learned of each: indexes,
 * epochs, producers, the end.
 */
#include "log/log_load.h"

#include "millrace/base/bug.h"

/* Whether nothing but the producers of these batches is asked for. */
static bool is_for_producers(const struct mr_task *task, const struct mr_segment *segment)
{
    return segment != task->partition->active && segment->has_index_files && !mr_log_load_is_verified(task);
}

/*
 * Where the journal knows the end, the block that holds it may have been torn when it was rewritten, and is put back by redo:
 * of a head that reaches into it nothing is believed yet.
 */
static bool is_head_torn_perhaps(const struct mr_task *task, uint64_t pos)
{
    const struct mr_log_known *known = mr_log_load_known(task);
    return known != NULL && !known->is_state && task->segment == task->partition->active &&
           pos + MR_BATCH_HEADER > known->pos / MR_PAGE_BYTES * MR_PAGE_BYTES;
}

static void leave_rest(struct mr_segment *segment, uint64_t pos)
{
    segment->rest_at = pos < segment->rest_at ? (uint32_t)pos : segment->rest_at;
}

void mr_log_batches_found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    struct mr_task         *task = context;
    struct mr_partition    *p = task->partition;
    struct mr_storage_core *core = task->core;
    if (task->is_proof) {
        return;
    }
    bool                    is_all = !is_for_producers(task, task->segment);
    if (is_head_torn_perhaps(task, pos)) {
        leave_rest(task->segment, pos);
    } else if (is_all) {
        mr_segment_index(core, task->segment, batch, pos, mr_batch_bytes(batch));
    }
    if (mr_log_load_is_verified(task)) {
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, batch->leader_epoch, batch->base_offset);
    }
    struct mr_aborted aborted;
    if (batch->producer_id >= 0 && batch->base_offset >= task->x && mr_txn_replay(core, p, batch, control, &aborted) &&
        is_all && mr_aborted_add(core, task->segment, &aborted) != MR_OK) {
        task->err = MR_ERR_NO_MEMORY;
    }
    if (task->segment == p->active) {
        p->end.offset = mr_batch_last_offset(batch) + 1;
        p->end.pos = pos; /* of the last one, until all are read */
    }
}

/* Whether this segment's batches are to be read. */
static bool is_scan_due(const struct mr_task *task, const struct mr_segment *segment)
{
    const struct mr_partition *p = task->partition;
    const struct mr_segment   *next = mr_segment_next(segment);
    if (mr_log_load_is_verified(task)) {
        int64_t point = task->load->recovery_point;
        return next == NULL || next->base > (task->x >= 0 && task->x < point ? task->x : point);
    }
    bool is_state = mr_log_load_known(task) != NULL && mr_log_load_known(task)->is_state;
    if (segment == p->active && !is_state) {
        return true;
    }
    /* Batches behind the snapshot of producers, of which the newest was lost. */
    bool is_replayed = !is_state && segment->base < p->active->base && next->base > task->x &&
                       !mr_bug("trust-in-snapshots");
    return segment->base <= p->active->base && (!segment->has_index_files || is_replayed);
}

static bool is_wipe_due(const struct mr_task *task)
{
    return !task->segment->has_index_files || (mr_log_load_is_verified(task));
}

/* The next segment from task->segment on; sets task->index. */
void mr_log_batches_choose(struct mr_task *task)
{
    while (task->segment != NULL && !is_scan_due(task, task->segment)) {
        task->segment = mr_segment_next(task->segment);
    }
    task->index = task->segment == NULL ? MR_LOAD_OVER : is_wipe_due(task) ? MR_LOAD_WIPE_INDEX : MR_LOAD_SEGMENT;
    const struct mr_segment *active = task->partition->active;
    bool is_replayed = task->x <= active->base + active->last_relative && (task->x >= 0 || !mr_bug("trust-in-snapshots"));
    if (task->index != MR_LOAD_SEGMENT || task->segment != active || is_replayed) {
        task->b = 0; /* from its start: the snapshot of producers is older than the last index entry, or lost */
    }
}

void mr_log_batches_begin(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    if (task->index == MR_LOAD_SEGMENT && mr_log_load_is_verified(task)) {
        mr_aborted_clear(core, segment); /* the batches tell, from the snapshot of producers on */
        segment->is_aborted_stale = segment->aborted_file > 0;
    }
    if (task->index == MR_LOAD_SEGMENT && is_wipe_due(task)) {
        segment->index_bytes = 0;
        segment->time_bytes = 0;
        segment->since_index = 0;
        segment->last_relative = -1;
        segment->last_time_relative = -1;
        segment->last_time = -1;
        segment->max_timestamp = -1;
        segment->is_time_unproven = false;
    }
    mr_log_scan_init(&task->scan, task->b, segment->size, segment->base,
                     mr_log_load_is_verified(task) || task->is_proof);
    if (mr_log_load_is_verified(task)) {
        task->partition->end.offset = segment->base;
    }
}

/*
 * Whether nothing but the head of the last batch says where the log ends, because the snapshot that a clean stop left there
 * is lost: then that batch is read once more, with its CRC. Of others a wrong body harms nobody but who reads it.
 */
static bool is_proof_due(const struct mr_task *task)
{
    const struct mr_partition *p = task->partition;
    return task->load == NULL && task->segment == p->active && task->x != p->end.offset && task->scan.size > 0 &&
           task->scan.state == MR_LOG_SCAN_ENDED;
}

/* The batches of task->segment have been read. */
void mr_log_batches_end(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    struct mr_segment   *segment = task->segment;
    if (task->is_proof) {
        task->index = MR_LOAD_OVER;
        return;
    }
    if (task->scan.state == MR_LOG_SCAN_DAMAGED && task->b > 0 && mr_log_load_known(task) == NULL) {
        /* Not where the index says, or not any more: the index is made from the segment, which is asked from its start. */
        mr_log(core->log, MR_LOG_WARN, "an index is not believed and made anew dir=%s segment=%lld", p->dir_name,
               (long long)segment->base);
        mr_producer_set_clear(&core->producers, &p->producers);
        mr_segment_index_drop(core, segment);
        segment->has_index_files = false;
        task->index = MR_LOAD_SNAPSHOT;
        return;
    }
    if (is_for_producers(task, segment)) {
        task->segment = mr_segment_next(segment);
        mr_log_batches_choose(task);
        return;
    }
    segment->is_time_known = true;
    if (task->scan.state == MR_LOG_SCAN_DAMAGED && is_head_torn_perhaps(task, task->scan.pos)) {
        leave_rest(segment, task->scan.pos);
    }
    /* Where the journal knows the end, missing bytes are still to be redone. */
    if (task->scan.state == MR_LOG_SCAN_DAMAGED &&
        (mr_log_load_is_verified(task) || (segment == p->active && mr_log_load_known(task) == NULL))) {
        mr_log(core->log, MR_LOG_WARN, "a log ends before its file does dir=%s segment=%lld size=%u end=%llu",
               p->dir_name, (long long)segment->base, segment->size, (unsigned long long)task->scan.pos);
        segment->size = (uint32_t)task->scan.pos; /* zeros or a torn tail */
        segment->written = segment->size;
    }
    if (mr_log_load_is_verified(task)) {
        p->end.offset = task->scan.next_offset;
        if (task->scan.state == MR_LOG_SCAN_DAMAGED) {
            p->active = segment; /* what follows it is no part of the log any more */
        }
    }
    if (segment != p->active) {
        mr_segment_index_end(core, segment);
    }
    if (is_wipe_due(task) && segment == p->active && mr_log_load_known(task) != NULL) {
        /* Its last block may be in the journal only: what was seen of a batch that reaches into it was not its head. */
        mr_segment_index_drop(core, segment);
        segment->is_mend_due = true;
    } else if (is_wipe_due(task)) {
        mr_segment_index_flush(core, segment);
    }
    segment->has_index_files |= is_wipe_due(task);
    if (is_proof_due(task)) {
        task->is_proof = true;
        task->b = p->end.pos;
        return; /* the same segment again */
    }
    task->segment = segment == p->active ? NULL : mr_segment_next(segment);
    mr_log_batches_choose(task);
}
