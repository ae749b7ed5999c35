/*
 * recover: lock the directory, put it in order, redo the journal into the segments, set the guard.
 *
 * The log layer's part of mr_journal_recover: logs are made from their state (or their files), bytes go to
 * their positions, ends move. What recovery made is adopted by OPEN.
 *
 * One core recovers the whole directory, whatever rings are in it; then each other core joins: it copies the logs
 * that it owns while the first one does nothing else, and that one drops its copies when the first log is opened.
 */
#include "log/log_files.h"
#include "log/log_repair.h"
#include "log/rescan.h"

#include "millrace/base/bug.h"

struct recovery {
    struct mr_storage_core *core;
    struct mr_arena        *scratch;
    bool                    is_state_lost; /* log/rescan.h */
    struct mr_page         *page; /* neighbouring bytes gathered into one write */
    struct mr_segment      *segment;
    uint32_t                pos;
    uint32_t                len;
};

static enum mr_err flush(struct recovery *r)
{
    struct mr_storage_core *core = r->core;
    if (r->len == 0) {
        return MR_OK;
    }
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(r->segment, ".log", name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_WRITE, .file = file, .buffer = mr_page_memory(&core->cache, r->page),
                             .len = r->len, .pos = r->pos};
    err = mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    uint32_t end = r->pos + r->len;
    r->segment->has_file = true;
    r->segment->allocated = end > r->segment->allocated ? end : r->segment->allocated;
    r->len = 0;
    return err;
}

static enum mr_err put(struct recovery *r, struct mr_segment *segment, uint32_t pos, const uint8_t *bytes, uint32_t len)
{
    while (len > 0) {
        if (r->len > 0 && (r->segment != segment || r->pos + r->len != pos ||
                           r->len == mr_page_capacity(r->page))) {
            enum mr_err err = flush(r);
            if (err != MR_OK) {
                return err;
            }
        }
        if (r->len == 0) {
            r->segment = segment;
            r->pos = pos;
        }
        uint32_t room = mr_page_capacity(r->page) - r->len;
        uint32_t part = len < room ? len : room;
        memcpy(mr_page_memory(&r->core->cache, r->page) + r->len, bytes, part);
        r->len += part;
        pos += part;
        bytes += part;
        len -= part;
    }
    return MR_OK;
}

static struct mr_segment *segment_of(const struct mr_partition *p, int64_t base)
{
    struct mr_segment *segment = mr_segment_find(p, base);
    return segment != NULL && segment->base == base ? segment : NULL;
}

static void load_done(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    (void)core;
    task->err = err;
    *task->load->is_marked = err == MR_OK && task->is_marked;
}

static void copy_producer(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_producer *from)
{
    for (uint32_t at = 0; at < from->batch_count; at++) {
        struct mr_batch batch = {
            .producer_id = from->producer_id,
            .producer_epoch = from->producer_epoch,
            .base_offset = from->batches[at].last_offset - from->batches[at].offset_delta,
            .last_offset_delta = from->batches[at].offset_delta,
            .record_count = from->batches[at].offset_delta + 1,
            .max_timestamp = from->batches[at].timestamp,
            .base_sequence = (int32_t)(((uint32_t)from->batches[at].last_sequence -
                                        (uint32_t)from->batches[at].offset_delta) & 0x7fffffffu),
        };
        mr_producer_update(&core->producers, &p->producers, &batch);
    }
    struct mr_producer *producer = mr_producer_get(&core->producers, &p->producers, from->producer_id);
    producer->epoch = from->producer_epoch;
    producer->coordinator_epoch = from->coordinator_epoch;
    producer->txn_first_offset = from->txn_first_offset;
    producer->last_timestamp = from->last_timestamp;
}

/* What the state says and the files do not. The end is in its place already. */
static void apply_state(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_state_view *view)
{
    const struct mr_journal_state *state = &view->state;
    struct mr_segment             *active = p->active;
    active->max_timestamp = state->max_timestamp;
    active->max_timestamp_offset = state->max_timestamp_offset;
    active->first_timestamp = state->first_timestamp;
    active->created_ms = state->created_ms;
    mr_partition_log_start(core, p, state->log_start, 0);
    for (uint32_t index = 0; index < state->epoch_count; index++) {
        struct mr_journal_epoch epoch;
        mr_journal_state_get_epoch(view, index, &epoch);
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, epoch.epoch, epoch.start_offset);
    }
    uint32_t cursor = 0;
    for (uint32_t index = 0; index < state->producer_count; index++) {
        struct mr_journal_producer from;
        mr_journal_state_get_producer(view, &cursor, &from);
        copy_producer(core, p, &from);
    }
}

enum mr_err mr_log_make_directory(struct mr_storage_core *core, struct mr_partition *p)
{
    char              name[MR_FILE_NAME_BYTES];
    char              text[64];
    char              id[MR_UUID_TEXT + 1];
    struct mr_disk_op op = {.kind = MR_DISK_MKDIR, .dir = core->root, .name = p->dir_name};
    enum mr_err       err = mr_core_disk(core, &op);
    if (err != MR_OK && err != MR_ERR_EXISTS) {
        return err;
    }
    mr_fmt(name, sizeof name, "%s/partition.metadata", p->dir_name);
    op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_TRUNC, .dir = core->root,
                             .name = name};
    err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    mr_uuid_text(&p->jlog.topic_id, id);
    uint32_t len = (uint32_t)mr_fmt(text, sizeof text, "version: 0\ntopic_id: %s\n", id);
    int32_t  file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_WRITE, .file = file, .buffer = text, .len = len};
    err = mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    return err;
}

/* A log without a directory: it was made shortly before the crash, and its end is known. */
static enum mr_err make_log(struct mr_storage_core *core, struct mr_partition *p, const struct mr_log_known *known)
{
    enum mr_err err = mr_log_make_directory(core, p);
    p->active = err == MR_OK ? mr_segment_new(core, p, known->base) : NULL;
    if (p->active == NULL) {
        return err != MR_OK ? err : MR_ERR_NO_MEMORY;
    }
    p->active->size = known->pos;
    p->active->written = known->pos;
    p->log_start = known->base;
    p->end = (struct mr_place){.offset = known->offset, .base = known->base, .pos = known->pos};
    return MR_OK;
}

/*
 * A state is written after the log's directory and its partition.metadata are durable (OPEN and recovery write one that
 * is not). When the directory is not there any more, or is not marked as this topic's, the log was dropped, and the
 * DROP has left the journal with the file that held it: so has everything before the DROP. What is there is a later
 * log's.
 */
static bool is_forgotten(enum mr_log_mark mark, enum mr_err err, const struct mr_journal_first *first)
{
    bool is_read = err == MR_OK || err == MR_ERR_NOT_FOUND;
    return mark == MR_LOG_MARK_OTHER || (mark != MR_LOG_MARK_SAME && is_read && first == NULL);
}

static enum mr_err open_cb(void *context, const struct mr_journal_log_name *name,
                           const struct mr_journal_state_view *state, bool is_state_lost,
                           const struct mr_journal_first *first, void **log_out)
{
    struct recovery        *r = context;
    struct mr_storage_core *core = r->core;
    struct mr_log_known     known = {0};
    bool                    is_marked = false;
    struct mr_log_load      load = {.is_marked = &is_marked};
    struct mr_partition *p = mr_partition_new(core, name->log_id, &name->topic_id, name->partition, name->dir_name);
    if (p == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_log_provisional_config(p);
    r->is_state_lost = is_state_lost;
    if (is_state_lost) {
        enum mr_err err = mr_rescan_open(core, p, state, first);
        *log_out = err == MR_OK ? p : NULL;
        if (err == MR_ERR_NOT_FOUND) {
            mr_partition_free(core, p);
            err = MR_OK;
        }
        return err;
    }
    if (state != NULL) {
        known = (struct mr_log_known){.base = state->state.segment_base, .offset = state->state.end_offset,
                                      .pos = (uint32_t)state->state.end_pos, .is_state = true};
        load.known = &known;
    } else if (first != NULL) {
        known = (struct mr_log_known){.base = first->segment_base, .offset = first->offset, .pos = first->pos};
        load.known = &known;
    }
    struct mr_task *task = mr_log_load_task(core, p, &load, load_done);
    enum mr_err     err = task == NULL ? MR_ERR_NO_MEMORY : mr_core_task_run(core, task);
    enum mr_log_mark mark =
        is_marked ? MR_LOG_MARK_SAME : mr_log_directory_mark(core, name->dir_name, &name->topic_id);
    if (state != NULL && is_forgotten(mark, err, first)) {
        mr_partition_free(core, p);
        *log_out = NULL;
        return MR_OK;
    }
    if (err == MR_ERR_NOT_FOUND) {
        err = make_log(core, p, &known);
    } else if (err == MR_OK && mark != MR_LOG_MARK_SAME) {
        err = mr_log_make_directory(core, p); /* its partition.metadata was not durable yet */
    }
    /* What lies behind the known end was never durable, or it is in the journal and comes back from there. */
    err = err == MR_OK ? mr_log_cut_segments(core, p) : err;
    if (err != MR_OK) {
        return err;
    }
    if (state != NULL) {
        apply_state(core, p, state);
    }
    p->is_clean_on_disk = false;
    p->is_epoch_dirty = true;
    *log_out = p;
    return MR_OK;
}

/* What is aborted, ABORTED entries tell. A batch that the segment had already may have been noted: not twice. */
static void redo_txn(struct recovery *r, struct mr_partition *p, const struct mr_batch *batch,
                     const struct mr_journal_redo *redo)
{
    const struct mr_producer *known = mr_producer_find(&r->core->producers, &p->producers, batch->producer_id);
    struct mr_aborted         aborted;
    bool is_control = (batch->attributes & MR_BATCH_CONTROL) != 0;
    bool is_noted = !is_control && known != NULL && known->batch_count > 0 &&
                    known->batches[known->batch_count - 1].last_offset >= batch->base_offset;
    bool is_whole = redo->payload_bytes == mr_batch_bytes(batch);
    if (!is_noted) {
        (void)mr_txn_replay(r->core, p, batch, is_whole ? redo->payload : NULL, &aborted);
    }
}

/* What only the journal tells, also of batches that the segment has already (written in service, or by a
 * recovery that was interrupted): the files of a log in service are not kept up to date with it. */
static void redo_history(struct recovery *r, struct mr_partition *p, const struct mr_batch *batch,
                         const struct mr_journal_redo *redo)
{
    mr_partition_set_epoch_room(r->core, p);
    if (!mr_bug("forget-leader-epochs")) {
        mr_epoch_cache_assign(&p->epochs, batch->leader_epoch, batch->base_offset);
    }
    if (batch->producer_id < 0 || mr_bug("forget-producer-state")) {
        return;
    }
    if ((batch->attributes & (MR_BATCH_CONTROL | MR_BATCH_TRANSACTIONAL)) != 0) {
        redo_txn(r, p, batch, redo);
        return;
    }
    const struct mr_producer *known = mr_producer_find(&r->core->producers, &p->producers, batch->producer_id);
    if (known == NULL || known->batch_count == 0 ||
        known->batches[known->batch_count - 1].last_offset < batch->base_offset) {
        mr_producer_update(&r->core->producers, &p->producers, batch);
    }
}

/* The segment that an entry's bytes belong to. One before the state's last of which there is no file yet is made
 * again: all of it is in the journal, if not as it was appended then as it was carried. */
static struct mr_segment *segment_for(struct recovery *r, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    int64_t            base = redo->entry.segment_base;
    struct mr_segment *segment = segment_of(p, base);
    if (segment != NULL || !redo->is_in_state || redo->is_gone || base >= p->active->base) {
        return segment;
    }
    segment = mr_segment_new(r->core, p, base);
    if (segment != NULL) {
        mr_segment_sort(segment);
        segment->is_sealed = true;
    }
    return segment;
}

static enum mr_err redo_append(struct recovery *r, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    const struct mr_journal_entry *entry = &redo->entry;
    struct mr_segment             *segment = segment_for(r, p, redo);
    struct mr_batch                batch;
    bool is_head = entry->part_at == 0 && redo->payload_bytes >= MR_BATCH_HEADER;
    if (is_head) {
        mr_batch_header_load(redo->payload, &batch);
    }
    if (is_head && !redo->is_in_state) {
        redo_history(r, p, &batch, redo); /* also of a segment that is deleted: its producers go on */
    }
    if (redo->is_gone || segment == NULL ||
        (!p->is_internal && (mr_bug("lose-redo") || mr_bug_each("redo-with-a-gap", 20)))) {
        return MR_OK;
    }
    enum mr_err err = put(r, segment, entry->pos, redo->payload, redo->payload_bytes);
    if (err != MR_OK) {
        return err;
    }
    bool is_new = !redo->is_in_state && entry->offset >= p->end.offset;
    if (is_head && is_new) {
        segment->size = entry->pos;
        p->end.offset = entry->last_offset + 1;
    }
    if (is_head && is_new && segment->rest_at == MR_NO_REST) {
        mr_segment_index(r->core, segment, &batch, entry->pos, mr_batch_bytes(&batch));
    }
    if (!redo->is_in_state) {
        uint32_t end = entry->pos + redo->payload_bytes;
        segment->size = end > segment->size ? end : segment->size;
        segment->written = segment->size;
    }
    return MR_OK;
}

/* Whatever the state says: the segment's .txnindex may not have it. Its marker may be lost: mr_aborted_cut. */
static enum mr_err redo_aborted(struct recovery *r, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    struct mr_segment *segment = segment_of(p, redo->entry.segment_base);
    struct mr_aborted  aborted;
    if (segment == NULL || redo->payload_bytes < MR_ABORTED_ENTRY) {
        return MR_OK;
    }
    mr_aborted_load(redo->payload, &aborted);
    return mr_aborted_add(r->core, segment, &aborted);
}

/* Bytes only: what they make of the log its segments tell afterwards. */
static enum mr_err redo_bytes(struct recovery *r, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    enum mr_journal_kind kind = redo->entry.kind;
    bool is_bytes = kind == MR_JOURNAL_APPEND || kind == MR_JOURNAL_CARRY || kind == MR_JOURNAL_IMAGE;
    enum mr_err err = mr_rescan_entry(r->core, p, redo);
    if (err != MR_OK || !is_bytes || redo->is_gone) {
        return err;
    }
    struct mr_segment *segment = mr_rescan_segment(r->core, p, redo->entry.segment_base);
    return segment == NULL ? MR_ERR_NO_MEMORY : put(r, segment, redo->entry.pos, redo->payload, redo->payload_bytes);
}

static enum mr_err redo_cb(void *context, void *log, const struct mr_journal_redo *redo)
{
    struct recovery               *r = context;
    struct mr_partition           *p = log;
    const struct mr_journal_entry *entry = &redo->entry;
    struct mr_segment             *segment;
    if (r->is_state_lost) {
        return redo_bytes(r, p, redo);
    }
    switch (entry->kind) {
    case MR_JOURNAL_APPEND:
        return redo_append(r, p, redo);
    case MR_JOURNAL_CARRY:
    case MR_JOURNAL_IMAGE:
        segment = segment_for(r, p, redo);
        return segment == NULL ? MR_OK : put(r, segment, entry->pos, redo->payload, redo->payload_bytes);
    case MR_JOURNAL_SEAL:
        segment = segment_of(p, entry->segment_base);
        if (redo->is_in_state && segment != NULL && segment != p->active) {
            segment->size = entry->pos; /* its file may have been shorter until now, and its indexes */
            segment->written = entry->pos;
            segment->is_seal_done = false;
        }
        if (redo->is_in_state || segment == NULL || segment_of(p, entry->offset) != NULL) {
            return MR_OK;
        }
        segment->size = entry->pos;
        segment->is_sealed = true;
        p->active = mr_segment_new(r->core, p, entry->offset);
        if (p->active == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        p->end.offset = entry->offset > p->end.offset ? entry->offset : p->end.offset;
        return MR_OK;
    case MR_JOURNAL_EPOCH_START:
        if (!redo->is_in_state && !mr_bug("forget-leader-epochs")) {
            mr_partition_set_epoch_room(r->core, p);
            mr_epoch_cache_assign(&p->epochs, entry->epoch, entry->offset);
        }
        return MR_OK;
    case MR_JOURNAL_LOG_START:
        if (!redo->is_in_state && !mr_bug("forget-log-start")) {
            mr_partition_log_start(r->core, p, entry->offset, 0);
        }
        return MR_OK;
    case MR_JOURNAL_ABORTED:
        return redo_aborted(r, p, redo);
    case MR_JOURNAL_OPEN:
    case MR_JOURNAL_TRUNCATE:
    case MR_JOURNAL_RESET:
    case MR_JOURNAL_DROP:
    case MR_JOURNAL_STATE:
    case MR_JOURNAL_REFERENCE:
    case MR_JOURNAL_KIND_COUNT:
        return MR_OK; /* not written by this version of the log layer */
    }
    return MR_OK;
}

static enum mr_err drop_cb(void *context, const struct mr_journal_log_name *name)
{
    struct recovery *r = context;
    return mr_log_remove_directory(r->core, name->dir_name, &name->topic_id);
}

static void lost_cb(void *context, void *log, int64_t from, int64_t to)
{
    struct recovery     *r = context;
    struct mr_partition *p = log;
    p->state = MR_PARTITION_OFFLINE;
    mr_log(r->core->log, MR_LOG_ERROR, "log offline: corruption took offsets dir=%s from=%lld to=%lld",
           p->dir_name, (long long)from, (long long)to);
}

/* Its file is there and ends where the segment does. Nearly all do: most logs were idle. */
static enum mr_err end_file(struct mr_storage_core *core, struct mr_segment *segment)
{
    if (segment->has_file && segment->allocated == segment->size) {
        return MR_OK;
    }
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(segment, ".log", name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = segment->size};
    err = mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    segment->allocated = segment->size;
    return err;
}

/* A segment with entries in the journal: its file ends where they say, and its indexes tell of all of it. */
static enum mr_err end_segment(struct mr_storage_core *core, struct mr_segment *segment)
{
    enum mr_err err = end_file(core, segment);
    segment->written = segment->size;
    segment->is_seal_done = segment->is_sealed;
    if (err == MR_OK && (segment->is_sealed || segment->is_mend_due)) {
        return mr_index_mend(core, segment);
    }
    if (err == MR_OK && segment->rest_at != MR_NO_REST) {
        err = mr_index_rest(core, segment);
    }
    if (segment->index_page != NULL || segment->time_page != NULL) {
        mr_segment_index_flush(core, segment);
    }
    return err;
}

/* Of segments that nobody serves any more, whoever owns the log. */
static void drop_indexes(struct mr_storage_core *core, struct mr_partition *p)
{
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (p->state == MR_PARTITION_OFFLINE || segment->is_gone) {
            mr_segment_index_drop(core, segment);
        }
    }
}

/* Where logs begin that nothing else names: of which of them an older log of their name is meant, only states told. */
static enum mr_err forget_log_starts(struct mr_storage_core *core)
{
    mr_checkpoint_forget(&core->log_starts);
    struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = core->root, .name = MR_CHECKPOINT_LOG_START};
    enum mr_err       err = mr_core_disk(core, &op);
    return err == MR_ERR_NOT_FOUND ? MR_OK : err;
}

/* The logs that the journal knows, and then what else is in the directory. */
static enum mr_err finish_lost(struct recovery *r)
{
    struct mr_log_repair_result repaired;
    enum mr_err                 err = flush(r);
    MR_LIST_EACH(link, &r->core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        err = err != MR_OK ? err : mr_rescan_finish(r->core, p);
        drop_indexes(r->core, p);
        err = err != MR_OK || p->state == MR_PARTITION_OFFLINE ? err : mr_txn_index_write(r->core, p);
    }
    err = err != MR_OK ? err : mr_log_repair(r->core, r->scratch, MR_LOG_REPAIR_RESCAN, &repaired);
    return err != MR_OK ? err : forget_log_starts(r->core);
}

static enum mr_err finish_known(struct recovery *r)
{
    struct mr_storage_core *core = r->core;
    enum mr_err             err = flush(r);
    MR_LIST_EACH(link, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (err != MR_OK) {
            return err;
        }
        if (p->state == MR_PARTITION_OFFLINE) {
            drop_indexes(core, p);
            continue;
        }
        mr_partition_mark_gone(core, p); /* also what was sealed after the start had moved to its end */
        drop_indexes(core, p);
        mr_aborted_cut(core, p);
        err = mr_txn_mend(core, p);
        err = err == MR_OK && !mr_txns_rebuild(core, p) ? MR_ERR_NO_MEMORY : err;
        err = err == MR_OK ? mr_txn_index_write(core, p) : err;
        if (err != MR_OK) {
            return err;
        }
        MR_LIST_EACH(at, &p->segments) {
            struct mr_segment *segment = MR_LIST_ENTRY(at, struct mr_segment, link);
            if ((segment->is_seal_done || segment->is_gone) && segment != p->active) {
                segment->is_seal_done = true; /* a gone one was not redone: burial.c removes what there is */
                continue;
            }
            err = end_segment(core, segment);
            if (err != MR_OK) {
                return err;
            }
        }
        p->end.base = p->active->base;
        p->end.pos = p->active->size;
        p->durable = p->end;
        p->high_watermark = p->end;
        p->tail = p->active->size % MR_PAGE_BYTES == 0 ? MR_TAIL_HOT : MR_TAIL_COLD;
    }
    return err;
}

static enum mr_err finish_cb(void *context, bool is_state_lost)
{
    struct recovery *r = context;
    r->is_state_lost = is_state_lost;
    enum mr_err err = is_state_lost ? finish_lost(r) : finish_known(r);
    /* Indexes are written by tasks, which tell the core of an error: with a state written now nobody would mend them. */
    return err == MR_OK && r->core->is_offline ? MR_ERR_DIR_OFFLINE : err;
}

static enum mr_err each_cb(void *context, void (*found)(void *replay, const struct mr_journal_log_name *name), void *replay)
{
    struct recovery *r = context;
    return mr_log_each(r->core, r->scratch, found, replay);
}

static bool store_cb(void *context, void *log, struct mr_journal_state_out *out)
{
    const struct recovery *r = context;
    struct mr_partition   *p = log;
    if (p->state == MR_PARTITION_OFFLINE && !r->is_state_lost) {
        return false;
    }
    if (p->state == MR_PARTITION_OFFLINE) {
        mr_journal_state_lost(out, p->end.offset, -1);
    }
    mr_partition_store(p, out);
    return true;
}

static uint32_t owner_of(const struct mr_storage_core *core, const struct mr_partition *p)
{
    struct mr_str topic = MR_STR_NULL;
    int32_t       partition = 0;
    bool          is_name = mr_log_dir_parse(p->jlog.dir_name, &topic, &partition);
    return is_name ? mr_storage_owner(topic, partition, mr_endpoint_dir_cores(core->params.endpoints)) : 0;
}

/* Private files and Kafka's: afterwards the files tell the truth about every log that is not in a state. */
static enum mr_err put_in_order(struct mr_storage_core *core, struct recovery *r, struct mr_recover_op *op)
{
    static const struct mr_journal_recover_ops ops = {
        .open = open_cb, .each = each_cb, .redo = redo_cb, .drop = drop_cb, .lost = lost_cb, .finish = finish_cb, .store = store_cb};
    struct mr_guard                 *guard = &core->guard;
    struct mr_log_repair_result      repaired;
    struct mr_journal_recover_result result = {0};
    struct mr_arena                  scratch;
    mr_arena_init(&scratch, core->cold.memory, (size_t)core->cold.page_count * MR_PAGE_BYTES);
    enum mr_err err = mr_checkpoint_load(&core->log_starts, core->disk, core->root, MR_CHECKPOINT_LOG_START);
    if (err != MR_OK && err != MR_ERR_NOT_FOUND) {
        mr_log(core->log, MR_LOG_WARN, "%s is not usable: logs start at their first segments err=%s",
               MR_CHECKPOINT_LOG_START, mr_err_text(err));
    }
    /* Under the guard it is older than what happened since; a topic may have been made anew. */
    if (!guard->is_guarded) {
        (void)mr_checkpoint_load(&core->clean_ends, core->disk, core->root, MR_CHECKPOINT_CLEANER);
    }
    bool is_unclean = !guard->is_guarded && !guard->was_clean;
    err = mr_log_repair(core, &scratch, is_unclean ? MR_LOG_REPAIR_UNCLEAN : MR_LOG_REPAIR_CLOSED, &repaired);
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "%s", repaired.why);
        return err;
    }
    if (repaired.logs > 0) {
        mr_log(core->log, MR_LOG_WARN, "the directory was not closed: logs were read logs=%u cut_bytes=%llu",
               repaired.logs, (unsigned long long)repaired.cut_bytes);
    }
    mr_arena_init(&scratch, core->cold.memory, (size_t)core->cold.page_count * MR_PAGE_BYTES);
    r->scratch = &scratch;
    struct mr_journal_recover_params params = {
        .disk = core->disk, .log = core->log, .log_dir = core->params.log_dir, .ops = &ops, .context = r,
        .scratch = &scratch, .logs_max = core->plan.logs_max, .seed = core->params.seed,
    };
    err = guard->is_guarded ? mr_journal_recover(&params, &result) : mr_journal_discard(&params, &result);
    op->log_count = core->partition_pool.used + repaired.logs;
    op->redone_bytes = result.redone_bytes;
    mr_fmt(op->why, sizeof op->why, "%s", result.why);
    return err;
}

static enum mr_err recover(struct mr_storage_core *core, struct mr_recover_op *op)
{
    struct mr_guard *guard = &core->guard;
    enum mr_err      err = mr_guard_open(guard, core->disk, core->params.log_dir, true);
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "%s", guard->why);
        return err;
    }
    core->root = guard->root;
    op->was_clean = guard->was_clean;
    struct recovery r = {.core = core, .page = mr_page_pool_get(&core->cache, MR_PAGE_ORDER_MAX)}; /* all are free */
    err = put_in_order(core, &r, op);
    mr_page_pool_put(&core->cache, r.page);
    err = err != MR_OK ? err : mr_guard_set(guard);
    err = err != MR_OK ? err : mr_guard_unmark(guard);
    err = err != MR_OK ? err : mr_journal_open(core->journal);
    err = err != MR_OK ? err : mr_space_begin(core);
    if (mr_bug("no-guard")) {
        (void)mr_guard_remove(guard);
    }
    if (err != MR_OK) {
        if (op->why[0] == '\0') {
            mr_fmt(op->why, sizeof op->why, "%s", guard->why[0] != '\0' ? guard->why : mr_err_text(err));
        }
        return err;
    }
    MR_LIST_EACH(link, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (owner_of(core, p) == core->params.core) {
            mr_journal_log_init(core->journal, &p->jlog);
        } else {
            core->is_giving = true;
        }
    }
    return MR_OK;
}

/* ---- The other cores ---- */

/* A log as the first core recovered it; its files are complete but for what the state holds. */
static enum mr_err copy_log(struct mr_storage_core *core, const struct mr_partition *from)
{
    struct mr_partition *p = mr_partition_new(core, from->jlog.log_id, &from->jlog.topic_id, from->jlog.partition,
                                              from->jlog.dir_name);
    if (p == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    MR_LIST_EACH(link, &from->segments) {
        const struct mr_segment *old = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment       *segment = mr_segment_new(core, p, old->base);
        if (segment == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        mr_segment_copy(segment, old);
        enum mr_err err = mr_aborted_copy(core, segment, old);
        if (err != MR_OK) {
            return err;
        }
        p->active = segment;
    }
    for (uint32_t index = 0; index < from->epochs.count; index++) {
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, from->epochs.entries[index].epoch, from->epochs.entries[index].start_offset);
    }
    mr_producer_set_copy(&core->producers, &p->producers, &from->producers);
    p->snapshot_at = from->snapshot_at;
    p->state = from->state;
    p->tail = from->tail;
    mr_log_provisional_config(p);
    p->log_start = from->log_start;
    mr_partition_mark_gone(core, p);
    p->end = from->end;
    p->durable = from->durable;
    p->high_watermark = from->high_watermark;
    p->is_clean_on_disk = from->is_clean_on_disk;
    p->is_epoch_dirty = from->is_epoch_dirty;
    p->has_epoch_file = from->has_epoch_file;
    return mr_txns_rebuild(core, p) ? MR_OK : MR_ERR_NO_MEMORY;
}

static enum mr_err join(struct mr_storage_core *core, struct mr_recover_op *op)
{
    struct mr_storage_core *first = op->found_by;
    enum mr_err err = mr_guard_open(&core->guard, core->disk, core->params.log_dir, false);
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "%s", core->guard.why);
        return err;
    }
    core->root = core->guard.root;
    core->first = first;
    MR_LIST_EACH(link, &first->partitions) {
        const struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (err == MR_OK && owner_of(core, p) == core->params.core) {
            err = copy_log(core, p);
        }
    }
    err = err != MR_OK ? err : mr_journal_open(core->journal);
    err = err != MR_OK ? err : mr_space_begin(core);
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "storage core %u cannot join: %s", core->params.core, mr_err_text(err));
        return err;
    }
    MR_LIST_EACH(link, &core->partitions) {
        mr_journal_log_init(core->journal, &MR_LIST_ENTRY(link, struct mr_partition, link)->jlog);
    }
    first->peers[core->params.core] = core;
    return MR_OK;
}

void mr_recover_give(struct mr_storage_core *core)
{
    core->is_giving = false;
    MR_LIST_EACH_SAFE(link, after, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (owner_of(core, p) != core->params.core) {
            mr_partition_free(core, p);
        }
    }
}

void mr_recover_start(struct mr_storage_core *core, struct mr_recover_op *op)
{
    op->why[0] = '\0';
    op->was_clean = false;
    op->log_count = 0;
    op->redone_bytes = 0;
    core->is_blocking = true;
    op->op.err = op->found_by == NULL ? recover(core, op) : join(core, op);
    op->found_by = op->found_by == NULL ? core : op->found_by;
    core->is_blocking = false;
    core->is_recovered = op->op.err == MR_OK;
    mr_core_answer(core, &op->op);
}
