/*
 * replay_state: the newest record of each log, from the base and then the rings; and the new base, whose rename empties
 * all rings at one moment.
 */
#include "journal/replay.h"

/* ---- States ---- */

struct mr_replay_log *mr_replay_state_log(struct mr_replay *r, uint64_t log_id)
{
    struct mr_replay_log *log = mr_map_find(&r->logs, log_id);
    if (log != NULL) {
        return log;
    }
    log = log_id != 0 && r->known_count < r->known_max ? mr_replay_get(r, sizeof *log) : NULL;
    if (log == NULL) {
        (void)mr_replay_fail(r, MR_ERR_NO_MEMORY, "the journal and its state know more than %u logs", r->known_max);
        return NULL;
    }
    log->name.log_id = log_id;
    log->next_offset = -1;
    log->log_start = -1;
    log->first_item = MR_REPLAY_NO_ITEM;
    (void)mr_map_add(&r->logs, log_id, log);
    *r->last = log;
    r->last = &log->next;
    r->known_count++;
    return log;
}

static void learn_state(struct mr_replay *r, const struct mr_state_record *record, bool is_of_ring)
{
    struct mr_replay_log *log = mr_replay_state_log(r, record->view.log_id);
    if (log == NULL) {
        return;
    }
    log->has_name = true;
    log->name.topic_id = record->view.topic_id;
    log->name.partition = record->view.partition;
    log->name.dir_name = record->view.dir_name;
    log->has_state = (record->flags & MR_STATE_NAME_ONLY) == 0;
    log->is_state_of_ring = is_of_ring;
    log->state = *record;
    if (is_of_ring && record->stamp.seq > log->born) {
        log->born = record->stamp.seq;
    }
    if ((record->flags & MR_STATE_LOST) != 0) {
        log->is_lost = true;
        log->lost_from = record->lost_from;
        log->lost_to = record->lost_to;
        log->lost_at = (struct mr_replay_place){0};
    }
}

/* Slots of a state file: false when it is absent; has_slot says whether one is sound. */
static bool load_slots(struct mr_replay *r, const char *name, uint32_t ring, int32_t *handle,
                       struct mr_state_slot *slot, uint32_t *sound)
{
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = r->root, .name = name};
    *sound = 0;
    *handle = MR_DISK_NONE;
    if (mr_replay_run(r, &open) != MR_OK) {
        if (open.err != MR_ERR_NOT_FOUND) {
            (void)mr_replay_fail(r, open.err, "%s cannot be opened: errno %d", name, open.os_errno);
        }
        return false;
    }
    *handle = open.file;
    r->window_file = NULL;
    for (uint32_t index = 0; index < 2; index++) {
        struct mr_disk_op    read = {.kind = MR_DISK_READ,
                                     .file = open.file,
                                     .buffer = r->window,
                                     .pos = index * MR_STATE_SLOT_STEP,
                                     .len = MR_JOURNAL_BLOCK};
        struct mr_state_slot one;
        if (mr_replay_run(r, &read) != MR_OK) {
            (void)mr_replay_fail(r, read.err, "%s cannot be read: errno %d", name, read.os_errno);
            return false;
        }
        if (read.done_bytes == MR_JOURNAL_BLOCK &&
            mr_journal_state_slot_load(r->window, &r->directory_id, ring, &one)) {
            if (*sound == 0 || one.number > slot->number) {
                *slot = one;
            }
            ++*sound;
            if (one.incarnation > r->max_incarnation) {
                r->max_incarnation = one.incarnation;
            }
        }
    }
    return true;
}

/* All blocks that count, and valid ones behind them (written, their slot not yet). */
static void load_blocks(struct mr_replay *r, int32_t handle, const struct mr_state_slot *slot, bool is_of_ring)
{
    uint64_t pos = MR_STATE_DATA;
    for (uint64_t number = 0; r->err == MR_OK; number++) {
        struct mr_disk_op read = {.kind = MR_DISK_READ,
                                  .file = handle,
                                  .buffer = r->window,
                                  .pos = pos,
                                  .len = MR_STATE_BLOCK_MAX};
        if (mr_replay_run(r, &read) != MR_OK) {
            (void)mr_replay_fail(r, read.err, "a state file cannot be read: errno %d", read.os_errno);
            return;
        }
        uint32_t bytes = mr_journal_state_block_check(r->window, read.done_bytes, &r->directory_id,
                                                      slot->incarnation, number);
        if (bytes == 0) {
            if (pos < slot->end_pos) {
                /* Damage. The segments are synced as far as the journal does not hold them: the log layer
                 * finds their ends itself. */
                r->is_state_lost = true;
                mr_log(r->params->log, MR_LOG_ERROR,
                       "journal state is damaged pos=%llu: logs are scanned instead",
                       (unsigned long long)pos);
            }
            return;
        }
        uint8_t *kept = mr_replay_get(r, bytes);
        if (kept == NULL) {
            return;
        }
        memcpy(kept, r->window, bytes);
        struct mr_state_record record;
        for (uint32_t at = 0; mr_journal_state_next(kept, &at, &record);) {
            learn_state(r, &record, is_of_ring);
        }
        pos += bytes;
    }
}

void mr_replay_state_load_base(struct mr_replay *r, bool is_counting)
{
    int32_t              handle;
    struct mr_state_slot slot = {0};
    uint32_t             sound = 0;
    if (load_slots(r, MR_STATE_BASE, MR_JOURNAL_RINGS, &handle, &slot, &sound)) {
        if (sound > 0) {
            r->base_incarnation = slot.incarnation;
            if (is_counting) {
                load_blocks(r, handle, &slot, false);
            }
        } else {
            r->is_state_lost = true;
        }
    }
    mr_replay_close(r, &handle);
}

void mr_replay_state_load_ring(struct mr_replay *r, struct mr_replay_ring *ring, bool is_counting)
{
    char     name[MR_JOURNAL_NAME];
    int32_t  handle;
    uint32_t sound = 0;
    mr_journal_state_name(name, ring->number);
    bool is_there = load_slots(r, name, ring->number, &handle, &ring->slot, &sound);
    ring->has_slot = sound > 0;
    ring->has_both_slots = sound == 2 || (sound == 1 && ring->slot.number == 0);
    if (is_there && sound == 0 && ring->is_there) {
        r->is_state_lost = true;
    }
    if (ring->has_slot && is_counting && ring->slot.incarnation > r->base_incarnation) {
        load_blocks(r, handle, &ring->slot, true);
    }
    mr_replay_close(r, &handle);
}

void mr_replay_state_remove(struct mr_replay *r)
{
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        if (r->rings[number].is_there) {
            char name[MR_JOURNAL_NAME];
            mr_journal_state_name(name, number);
            struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = r->root, .name = name};
            (void)mr_replay_run(r, &op); /* of an incarnation that is over: harmless if it stays */
        }
    }
}

/* ---- The new base ---- */

struct base {
    int32_t                     handle;
    uint64_t                    pos;
    uint64_t                    number;
    struct mr_journal_state_out out;
};

static enum mr_err base_flush(struct mr_replay *r, struct base *base)
{
    if (base->out.count == 0) {
        return r->err;
    }
    uint8_t          *block = base->out.block;
    struct mr_disk_op write = {
        .kind = MR_DISK_WRITE, .file = base->handle, .buffer = block, .pos = base->pos};
    write.len = mr_journal_state_end_block(&base->out, &r->directory_id, r->max_incarnation + 1,
                                           base->number);
    if (mr_replay_run(r, &write) != MR_OK) {
        return mr_replay_fail(r, write.err, "the base state cannot be written: errno %d", write.os_errno);
    }
    base->pos += write.len;
    base->number++;
    mr_journal_state_begin_block(&base->out, block);
    return MR_OK;
}

/* The state of a log that went offline, as it was. */
static void keep_state(struct mr_journal_state_out *out, const struct mr_replay_log *log)
{
    const struct mr_journal_state_view *view_ = &log->state.view;
    mr_journal_state_put(out, &view_->state);
    for (uint32_t index = 0; index < view_->state.epoch_count; index++) {
        struct mr_journal_epoch epoch;
        mr_journal_state_get_epoch(view_, index, &epoch);
        mr_journal_state_put_epoch(out, &epoch);
    }
    for (uint32_t index = 0, cursor = 0; index < view_->state.producer_count; index++) {
        struct mr_journal_producer producer;
        mr_journal_state_get_producer(view_, &cursor, &producer);
        mr_journal_state_put_producer(out, &producer);
    }
}

static bool base_record(struct mr_replay *r, struct base *base, struct mr_replay_log *log)
{
    mr_journal_state_begin(&base->out, &log->name, (struct mr_state_stamp){0});
    bool is_there = r->params->ops->store(r->params->context, log->user, &base->out);
    if (!is_there && !log->is_lost) {
        base->out.used = base->out.record;
        base->out.is_over = false;
        return true;
    }
    if (!is_there && log->has_state) {
        keep_state(&base->out, log);
    }
    if (log->is_lost) {
        /* The mark stays as long as the guard does, so that the next start does not overlook the hole. */
        uint32_t name_only = is_there || log->has_state ? 0 : MR_STATE_NAME_ONLY;
        mr_journal_state_set_lost(&base->out, MR_STATE_LOST | name_only, log->lost_from, log->lost_to);
    }
    return mr_journal_state_end(&base->out);
}

void mr_replay_state_store_base(struct mr_replay *r)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                              .dir = r->root,
                              .name = MR_STATE_BASE_NEW};
    struct base       base = {.pos = MR_STATE_DATA};
    if (mr_replay_run(r, &open) != MR_OK) {
        (void)mr_replay_fail(r, open.err, "the base state cannot be created: errno %d", open.os_errno);
        return;
    }
    base.handle = open.file;
    r->window_file = NULL;
    mr_journal_state_begin_block(&base.out, r->window);
    for (struct mr_replay_log *log = r->first; log != NULL && r->err == MR_OK; log = log->next) {
        if (!mr_replay_is_alive(log) || log->user == NULL || base_record(r, &base, log)) {
            continue;
        }
        if (base.out.count == 0 || base_flush(r, &base) != MR_OK || !base_record(r, &base, log)) {
            (void)mr_replay_fail(r, MR_ERR_TOO_LARGE, "the state of %.*s does not fit a block",
                       (int)log->name.dir_name.len, log->name.dir_name.data);
        }
    }
    (void)base_flush(r, &base);
    struct mr_state_slot slot = {.incarnation = r->max_incarnation + 1, .end_pos = base.pos};
    mr_journal_state_slot_store(r->window, &r->directory_id, MR_JOURNAL_RINGS, &slot);
    struct mr_disk_op steps[] = {
        {.kind = MR_DISK_WRITE, .file = base.handle, .buffer = r->window, .len = MR_JOURNAL_BLOCK},
        {.kind = MR_DISK_WRITE, .file = base.handle, .buffer = r->window, .pos = MR_STATE_SLOT_STEP,
         .len = MR_JOURNAL_BLOCK}, /* without it nobody would know which incarnations are void */
        {.kind = MR_DISK_SYNC, .file = base.handle},
        {.kind = MR_DISK_RENAME, .dir = r->root, .name = MR_STATE_BASE_NEW, .new_name = MR_STATE_BASE},
        {.kind = MR_DISK_SYNC_DIR, .file = r->root},
    };
    for (uint32_t index = 0; index < sizeof steps / sizeof steps[0] && r->err == MR_OK; index++) {
        if (mr_replay_run(r, &steps[index]) != MR_OK) {
            (void)mr_replay_fail(r, steps[index].err, "the base state cannot be put in place: errno %d",
                       steps[index].os_errno);
        }
    }
    mr_replay_close(r, &base.handle);
}
