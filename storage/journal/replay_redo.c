/*
 * replay_redo: logs are opened; a second walk hands over what survives, grouped by log within a window (J3:
 * physical, so that doing it twice is doing it once).
 */
#include "journal/replay.h"

/* ---- Redo ---- */

/* Whether the entry still means something; its bytes behind a truncation are cut off. */
static bool survives(const struct mr_replay_log *log, struct mr_replay_item *item)
{
    const struct mr_journal_entry *e = &item->entry.entry;
    if (!mr_replay_is_alive(log) || log->user == NULL ||
        (log->is_lost && !mr_replay_is_before(item->at, log->lost_at)) ||
        (log->has_reset && mr_replay_is_before(item->at, log->reset)) || e->kind == MR_JOURNAL_OPEN) {
        return false;
    }
    bool is_append = e->kind == MR_JOURNAL_APPEND;
    if (!is_append && e->kind != MR_JOURNAL_CARRY && e->kind != MR_JOURNAL_IMAGE) {
        return true;
    }
    if (is_append && log->is_in_parts && !mr_replay_is_before(item->at, log->parts_from)) {
        return false; /* a batch without its end */
    }
    for (const struct mr_replay_sealed *seal = log->seals; seal != NULL; seal = seal->next) {
        if (seal->segment_base == e->segment_base && seal->next_base <= log->log_start) {
            item->is_gone = true; /* the segment may be deleted already */
            return is_append;     /* what a batch tells of its producer outlives it */
        }
    }
    for (const struct mr_replay_cut *cut = log->cuts; cut != NULL; cut = cut->next) {
        if (!mr_replay_is_before(item->at, cut->at)) {
            continue;
        }
        if (e->segment_base > cut->segment_base ||
            (e->segment_base == cut->segment_base && e->pos >= cut->pos)) {
            return false;
        }
        if (!is_append && e->segment_base == cut->segment_base &&
            e->pos + item->entry.payload_bytes > cut->pos) {
            item->entry.payload_bytes = cut->pos - e->pos;
        }
    }
    return true;
}

static bool is_in_state(const struct mr_replay *r, const struct mr_replay_log *log, const struct mr_replay_item *item)
{
    struct mr_replay_place stamp = {.seq = log->state.stamp.seq, .index = log->state.stamp.index};
    return !r->is_state_lost && log->has_state && log->is_state_of_ring && mr_replay_is_before(item->at, stamp);
}

/* Hand over what the window holds, log by log. */
void mr_replay_redo_flush(struct mr_replay *r)
{
    for (struct mr_replay_log *log = r->first; log != NULL && r->item_count > 0; log = log->next) {
        for (uint32_t at = log->first_item; at != MR_REPLAY_NO_ITEM && r->err == MR_OK; at = r->items[at].next) {
            struct mr_replay_item           *item = &r->items[at];
            struct mr_journal_redo redo = {.entry = item->entry.entry,
                                           .payload = item->entry.payload,
                                           .payload_bytes = item->entry.payload_bytes,
                                           .seq = item->at.seq,
                                           .is_in_state = is_in_state(r, log, item),
                                           .is_gone = item->is_gone};
            enum mr_err err = r->params->ops->redo(r->params->context, log->user, &redo);
            if (err != MR_OK) {
                (void)mr_replay_fail(r, err, "redo of %.*s failed: %s", (int)log->name.dir_name.len,
                           log->name.dir_name.data, mr_err_text(err));
            }
            r->result->redone_bytes += redo.payload_bytes;
        }
        log->first_item = MR_REPLAY_NO_ITEM;
    }
    r->item_count = 0;
}

void mr_replay_redo_ring(struct mr_replay *r, struct mr_replay_ring *ring)
{
    struct mr_replay_walk walk = {0};
    bool        is_damaged;
    struct mr_replay_item item = {0};
    r->is_redoing = true;
    while (mr_replay_fold_next(r, ring, &walk, &item.entry, &is_damaged)) {
        struct mr_replay_log *log = mr_map_find(&r->logs, item.entry.log_id);
        item.at = mr_replay_entry_place(&walk);
        item.next = MR_REPLAY_NO_ITEM;
        item.is_gone = false;
        if (log == NULL || is_damaged || !survives(log, &item)) {
            continue;
        }
        if (r->item_count == MR_REPLAY_INDEX_MAX) {
            mr_replay_redo_flush(r);
        }
        uint32_t at = r->item_count++;
        r->items[at] = item;
        if (log->first_item == MR_REPLAY_NO_ITEM) {
            log->first_item = at;
        } else {
            r->items[log->last_item].next = at;
        }
        log->last_item = at;
    }
    mr_replay_redo_flush(r);
    r->is_redoing = false;
}

/* What was read is durable from here on, and only then files follow it (J5): a process that was killed may have had a commit
 * under way, which the next power cut would take, and leave what was done for it. */
static void sync_journal(struct mr_replay *r)
{
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        for (uint32_t index = 0; index < r->rings[number].file_count && r->err == MR_OK; index++) {
            struct mr_disk_op op = {.kind = MR_DISK_SYNC, .file = r->rings[number].files[index].handle};
            if (mr_replay_run(r, &op) != MR_OK) {
                (void)mr_replay_fail(r, op.err, "a journal file cannot be flushed: errno %d", op.os_errno);
            }
        }
    }
}

void mr_replay_redo_open(struct mr_replay *r)
{
    const struct mr_journal_recover_ops *ops = r->params->ops;
    void                                *context = r->params->context;
    sync_journal(r);
    for (struct mr_replay_log *log = r->first; log != NULL && r->err == MR_OK; log = log->next) {
        enum mr_err err = MR_OK;
        if (!log->has_name && log->last.seq != 0 && !log->is_dropped) {
            /* Its OPEN was damaged: nobody can say whose entries these are. */
            mr_log(r->params->log, MR_LOG_ERROR, "entries of an unknown log are lost log_id=%llu",
                   (unsigned long long)log->name.log_id);
            r->result->lost_logs++;
            continue;
        }
        if (log->is_dropped && log->has_name) {
            err = ops->drop(context, &log->name);
        } else if (mr_replay_is_alive(log)) {
            err = ops->open(context, &log->name, log->has_state ? &log->state.view : NULL, r->is_state_lost,
                            log->has_first ? &log->first_change : NULL, &log->user);
            r->result->logs++;
        }
        if (err != MR_OK) {
            (void)mr_replay_fail(r, err, "%.*s cannot be opened for recovery: %s", (int)log->name.dir_name.len,
                       log->name.dir_name.data, mr_err_text(err));
        }
        if (r->err == MR_OK && mr_replay_is_alive(log) && log->is_lost && log->user != NULL) {
            mr_log(r->params->log, MR_LOG_ERROR,
                   "journal damage: log stays offline dir=%.*s from=%lld to=%lld",
                   (int)log->name.dir_name.len, log->name.dir_name.data, (long long)log->lost_from,
                   (long long)log->lost_to);
            ops->lost(context, log->user, log->lost_from, log->lost_to);
            r->result->lost_logs++;
        }
    }
}
