/*
 * recover: lock the directory, redo the journal into the segments, set the guard.
 *
 * The log layer's part of mr_journal_recover: logs are made from their state (or their files), bytes go to
 * their positions, ends move. What recovery made is adopted by OPEN.
 */
#include "log/log_files.h"

#include "millrace/base/bug.h"

struct recovery {
    struct mr_storage_core *core;
    struct mr_page         *page; /* neighbouring bytes gathered into one write */
    struct mr_segment      *segment;
    uint32_t                pos;
    uint32_t                len;
    bool                    is_load_done;
    enum mr_err             load_err;
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
}

static void apply_state(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_state_view *view)
{
    const struct mr_journal_state *state = &view->state;
    struct mr_segment             *active = segment_of(p, state->segment_base);
    if (active == NULL) {
        active = mr_segment_new(core, p, state->segment_base);
        mr_assert(active != NULL);
    }
    /* Segments behind the one of the state come back by SEAL entries, or were never durable. */
    while (p->segments.prev != &active->link) {
        mr_segment_free(core, MR_LIST_ENTRY(p->segments.prev, struct mr_segment, link));
    }
    p->active = active;
    active->is_sealed = false;
    active->is_seal_done = false;
    active->size = (uint32_t)state->end_pos;
    active->written = active->size;
    active->max_timestamp = state->max_timestamp;
    active->max_timestamp_offset = state->max_timestamp_offset;
    active->first_timestamp = state->first_timestamp;
    active->created_ms = state->created_ms;
    active->is_time_known = true;
    p->log_start = state->log_start;
    p->end = (struct mr_place){.offset = state->end_offset, .base = active->base, .pos = active->size};
    p->epochs.count = 0;
    for (uint32_t index = 0; index < state->epoch_count; index++) {
        struct mr_journal_epoch epoch;
        mr_journal_state_get_epoch(view, index, &epoch);
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, epoch.epoch, epoch.start_offset);
    }
    mr_producer_set_clear(&core->producers, &p->producers);
    uint32_t cursor = 0;
    for (uint32_t index = 0; index < state->producer_count; index++) {
        struct mr_journal_producer from;
        mr_journal_state_get_producer(view, &cursor, &from);
        for (uint32_t at = 0; at < from.batch_count; at++) {
            struct mr_batch batch = {
                .producer_id = from.producer_id,
                .producer_epoch = from.producer_epoch,
                .base_offset = from.batches[at].last_offset - from.batches[at].offset_delta,
                .last_offset_delta = from.batches[at].offset_delta,
                .record_count = from.batches[at].offset_delta + 1,
                .max_timestamp = from.batches[at].timestamp,
                .base_sequence = (int32_t)(((uint32_t)from.batches[at].last_sequence -
                                            (uint32_t)from.batches[at].offset_delta) & 0x7fffffffu),
            };
            mr_producer_update(&core->producers, &p->producers, &batch);
        }
    }
}

static enum mr_err make_directory(struct mr_storage_core *core, struct mr_partition *p)
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

static enum mr_err open_cb(void *context, const struct mr_journal_log_name *name,
                           const struct mr_journal_state_view *state, void **log_out)
{
    struct recovery        *r = context;
    struct mr_storage_core *core = r->core;
    struct mr_partition    *p = mr_partition_new(core, name->log_id, &name->topic_id, name->partition, name->dir_name);
    if (p == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    p->config.segment_index_bytes = 10 << 20;
    p->config.index_interval_bytes = 4096;
    struct mr_task *task = mr_log_load_task(core, p, &name->topic_id, load_done);
    enum mr_err     err = task == NULL ? MR_ERR_NO_MEMORY : mr_core_task_run(core, task);
    if (err == MR_ERR_NOT_FOUND) {
        err = make_directory(core, p);
        if (err == MR_OK && state == NULL) {
            p->active = mr_segment_new(core, p, 0);
            err = p->active == NULL ? MR_ERR_NO_MEMORY : MR_OK;
        }
    } else if (err == MR_OK && state == NULL) {
        /* Never checkpointed: the journal holds everything since the files were complete. What lies
         * in them behind that may not be whole: redo says where the end is. */
    }
    if (err != MR_OK) {
        return err;
    }
    if (state != NULL) {
        apply_state(core, p, state);
    }
    p->is_clean_on_disk = false;
    *log_out = p;
    return MR_OK;
}

/* What only the journal tells, also of batches that the segment has already (written in service, or by a
 * recovery that was interrupted): the files of a log in service are not kept up to date with it. */
static void redo_history(struct recovery *r, struct mr_partition *p, const struct mr_batch *batch)
{
    mr_partition_set_epoch_room(r->core, p);
    mr_epoch_cache_assign(&p->epochs, batch->leader_epoch, batch->base_offset);
    if (batch->producer_id < 0 || (batch->attributes & MR_BATCH_CONTROL) != 0) {
        return;
    }
    const struct mr_producer *known = mr_producer_find(&r->core->producers, &p->producers, batch->producer_id);
    if (known == NULL || known->batch_count == 0 ||
        known->batches[known->batch_count - 1].last_offset < batch->base_offset) {
        mr_producer_update(&r->core->producers, &p->producers, batch);
    }
}

static enum mr_err redo_append(struct recovery *r, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    const struct mr_journal_entry *entry = &redo->entry;
    struct mr_segment             *segment = segment_of(p, entry->segment_base);
    if (segment == NULL || (mr_bug("lose-redo") && !p->is_internal)) {
        return MR_OK; /* deleted since */
    }
    enum mr_err err = put(r, segment, entry->pos, redo->payload, redo->payload_bytes);
    if (err != MR_OK || redo->is_in_state) {
        return err;
    }
    uint32_t end = entry->pos + redo->payload_bytes;
    if (entry->part_at == 0 && redo->payload_bytes >= MR_BATCH_HEADER) {
        struct mr_batch batch;
        mr_batch_header_load(redo->payload, &batch);
        redo_history(r, p, &batch);
        if (entry->offset >= p->end.offset) {
            segment->size = entry->pos;
            mr_segment_index(r->core, segment, &batch, entry->pos, mr_batch_bytes(&batch));
            p->end.offset = entry->last_offset + 1;
        }
    }
    segment->size = end > segment->size ? end : segment->size;
    segment->written = segment->size;
    return MR_OK;
}

static enum mr_err redo_cb(void *context, void *log, const struct mr_journal_redo *redo)
{
    struct recovery               *r = context;
    struct mr_partition           *p = log;
    const struct mr_journal_entry *entry = &redo->entry;
    struct mr_segment             *segment;
    switch (entry->kind) {
    case MR_JOURNAL_APPEND:
        return redo_append(r, p, redo);
    case MR_JOURNAL_CARRY:
    case MR_JOURNAL_IMAGE:
        segment = segment_of(p, entry->segment_base);
        return segment == NULL ? MR_OK : put(r, segment, entry->pos, redo->payload, redo->payload_bytes);
    case MR_JOURNAL_SEAL:
        segment = segment_of(p, entry->segment_base);
        if (redo->is_in_state || segment == NULL || segment_of(p, entry->offset) != NULL) {
            return MR_OK;
        }
        segment->size = entry->pos;
        segment->is_sealed = true;
        mr_segment_index_end(r->core, segment);
        p->active = mr_segment_new(r->core, p, entry->offset);
        if (p->active == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        p->end.offset = entry->offset > p->end.offset ? entry->offset : p->end.offset;
        return MR_OK;
    case MR_JOURNAL_EPOCH_START:
        if (!redo->is_in_state) {
            mr_partition_set_epoch_room(r->core, p);
            mr_epoch_cache_assign(&p->epochs, entry->epoch, entry->offset);
        }
        return MR_OK;
    case MR_JOURNAL_LOG_START:
        if (!redo->is_in_state) {
            mr_partition_log_start(r->core, p, entry->offset, 0);
        }
        return MR_OK;
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

static enum mr_err finish_cb(void *context)
{
    struct recovery        *r = context;
    struct mr_storage_core *core = r->core;
    enum mr_err             err = flush(r);
    MR_LIST_EACH(link, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (err != MR_OK) {
            return err;
        }
        if (p->state == MR_PARTITION_OFFLINE) {
            continue;
        }
        MR_LIST_EACH(at, &p->segments) {
            struct mr_segment *segment = MR_LIST_ENTRY(at, struct mr_segment, link);
            if (segment->is_seal_done && segment != p->active) {
                continue;
            }
            char name[MR_FILE_NAME_BYTES];
            mr_segment_name(segment, ".log", name);
            struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
            err = mr_core_disk(core, &op);
            if (err != MR_OK) {
                return err;
            }
            int32_t file = op.file;
            op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = segment->size};
            err = mr_core_disk(core, &op);
            op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
            (void)mr_core_disk(core, &op);
            segment->written = segment->size;
            segment->is_seal_done = segment->is_sealed;
            if (segment->index_page != NULL || segment->time_page != NULL) {
                mr_segment_index_flush(core, segment);
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

static bool store_cb(void *context, void *log, struct mr_journal_state_out *out)
{
    (void)context;
    struct mr_partition *p = log;
    if (p->state == MR_PARTITION_OFFLINE) {
        return false;
    }
    mr_partition_store(p, out);
    return true;
}

static enum mr_err recover(struct mr_storage_core *core, struct mr_recover_op *op)
{
    static const struct mr_journal_recover_ops ops = {
        .open = open_cb, .redo = redo_cb, .drop = drop_cb, .lost = lost_cb, .finish = finish_cb, .store = store_cb};
    struct mr_guard *guard = &core->guard;
    enum mr_err      err = mr_guard_open(guard, core->disk, core->params.log_dir, true);
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "%s", guard->why);
        return err;
    }
    core->root = guard->root;
    op->was_clean = guard->was_clean;
    struct recovery r = {.core = core, .page = mr_tail_page_get(core, MR_PAGE_ORDER_MAX)};
    struct mr_arena scratch;
    mr_arena_init(&scratch, core->cold.memory, (size_t)core->cold.page_count * MR_PAGE_BYTES);
    struct mr_journal_recover_params params = {
        .disk = core->disk, .log = core->log, .log_dir = core->params.log_dir, .ops = &ops, .context = &r,
        .scratch = &scratch, .logs_max = core->plan.logs_max, .seed = core->params.seed,
    };
    struct mr_journal_recover_result result = {0};
    err = guard->is_guarded ? mr_journal_recover(&params, &result) : mr_journal_discard(&params, &result);
    mr_page_pool_put(&core->cache, r.page);
    op->log_count = core->partition_pool.used;
    op->redone_bytes = result.redone_bytes;
    if (err == MR_OK) {
        err = mr_guard_set(guard);
    }
    if (err == MR_OK) {
        err = mr_guard_unmark(guard);
    }
    if (err == MR_OK) {
        err = mr_journal_open(core->journal);
    }
    if (mr_bug("no-guard")) {
        (void)mr_guard_remove(guard);
    }
    if (err != MR_OK) {
        mr_fmt(op->why, sizeof op->why, "%s", result.why[0] != '\0' ? result.why
                                              : guard->why[0] != '\0' ? guard->why : mr_err_text(err));
        return err;
    }
    MR_LIST_EACH(link, &core->partitions) {
        mr_journal_log_init(core->journal, &MR_LIST_ENTRY(link, struct mr_partition, link)->jlog);
    }
    return MR_OK;
}

void mr_recover_start(struct mr_storage_core *core, struct mr_recover_op *op)
{
    op->why[0] = '\0';
    op->log_count = 0;
    op->redone_bytes = 0;
    core->is_blocking = true;
    op->op.err = recover(core, op);
    core->is_blocking = false;
    core->is_recovered = op->op.err == MR_OK;
    mr_core_answer(core, &op->op);
}
