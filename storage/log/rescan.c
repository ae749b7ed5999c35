#include "log/rescan.h"

#include "log/log_files.h"
#include "log/log_repair.h"

enum mr_err mr_rescan_open(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_state_view *state,
                           const struct mr_journal_first *first)
{
    struct mr_str    dir_name = p->jlog.dir_name;
    enum mr_log_mark mark = mr_log_directory_mark(core, dir_name, &p->jlog.topic_id);
    if (mark == MR_LOG_MARK_OTHER || (mark != MR_LOG_MARK_SAME && state != NULL && first == NULL)) {
        return MR_ERR_NOT_FOUND;
    }
    p->log_start = state != NULL ? state->state.log_start : 0;
    return mark == MR_LOG_MARK_SAME ? MR_OK : mr_log_make_directory(core, p);
}

struct mr_segment *mr_rescan_segment(struct mr_storage_core *core, struct mr_partition *p, int64_t base)
{
    struct mr_segment *segment = mr_segment_find(p, base);
    if (segment != NULL && segment->base == base) {
        return segment;
    }
    segment = mr_segment_new(core, p, base);
    if (segment != NULL) {
        mr_segment_sort(segment);
    }
    return segment;
}

static void expect(struct mr_partition *p, int64_t end)
{
    p->end.offset = end > p->end.offset ? end : p->end.offset;
}

enum mr_err mr_rescan_entry(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_redo *redo)
{
    const struct mr_journal_entry *entry = &redo->entry;
    if (entry->kind == MR_JOURNAL_APPEND) {
        expect(p, entry->last_offset + 1);
    } else if (entry->kind == MR_JOURNAL_LOG_START) {
        p->log_start = entry->offset > p->log_start ? entry->offset : p->log_start;
    } else if (entry->kind == MR_JOURNAL_SEAL) {
        struct mr_segment *old = mr_rescan_segment(core, p, entry->segment_base);
        if (old == NULL || mr_rescan_segment(core, p, entry->offset) == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        old->size = entry->pos;
        old->is_sealed = true;
        expect(p, entry->offset);
    }
    return MR_OK;
}

/* A sealed segment's file ends where SEAL says; the last one has a file, for its name may be what tells the log's end.
 * MR_ERR_CORRUPT: bytes are missing. */
static enum mr_err trim(struct mr_storage_core *core, const struct mr_partition *p, const struct mr_segment *segment)
{
    const struct mr_segment *next = mr_segment_next(segment);
    if (next != NULL && (!segment->is_sealed || next->base <= p->log_start)) {
        return MR_OK;
    }
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(segment, ".log", name);
    struct mr_disk_op op = {
        .kind = MR_DISK_OPEN, .flags = next == NULL ? MR_DISK_CREATE : 0, .dir = core->root, .name = name};
    enum mr_err err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err == MR_ERR_NOT_FOUND ? MR_ERR_CORRUPT : err;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_STAT, .file = file};
    err = mr_core_disk(core, &op);
    if (err == MR_OK && segment->is_sealed && op.size < segment->size) {
        err = MR_ERR_CORRUPT;
    } else if (err == MR_OK && segment->is_sealed) {
        op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = segment->size};
        err = mr_core_disk(core, &op);
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    return err;
}

static enum mr_err trim_all(struct mr_storage_core *core, const struct mr_partition *p)
{
    enum mr_err err = MR_OK;
    MR_LIST_EACH(link, &p->segments) {
        err = err != MR_OK ? err : trim(core, p, MR_LIST_ENTRY(link, struct mr_segment, link));
    }
    return err;
}

static void loaded(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    (void)core;
    task->err = err;
}

/* Only files count from here on; a log without any is new. */
static enum mr_err load(struct mr_storage_core *core, struct mr_partition *p, int64_t *snapshot_end)
{
    struct mr_log_load how = {.is_verified = true, .is_start_known = true, .snapshot_end = snapshot_end};
    while (!mr_list_is_empty(&p->segments)) {
        mr_segment_free(core, MR_LIST_ENTRY(p->segments.next, struct mr_segment, link));
    }
    p->end = (struct mr_place){0};
    struct mr_task *task = mr_log_load_task(core, p, &how, loaded);
    enum mr_err     err = task == NULL ? MR_ERR_NO_MEMORY : mr_core_task_run(core, task);
    if (err != MR_ERR_NOT_FOUND) {
        return err;
    }
    p->active = mr_segment_new(core, p, 0);
    return p->active == NULL ? MR_ERR_NO_MEMORY : MR_OK;
}

enum mr_err mr_rescan_finish(struct mr_storage_core *core, struct mr_partition *p)
{
    int64_t     start = p->log_start;
    int64_t     expected = p->end.offset;
    enum mr_err err = trim_all(core, p);
    bool        is_lost = err == MR_ERR_CORRUPT;
    int64_t snapshot_end = 0; /* the log was as long once: all of it may have been deleted since, with its segments */
    err = err == MR_OK || is_lost ? load(core, p, &snapshot_end) : err;
    expected = snapshot_end > expected ? snapshot_end : expected;
    if (err != MR_OK) {
        return err;
    }
    is_lost |= p->end.offset < expected || p->end.offset < start || mr_segment_next(p->active) != NULL;
    if (is_lost || p->state == MR_PARTITION_OFFLINE) {
        mr_log(core->log, MR_LOG_ERROR, "log offline: its segments end before its journal dir=%s end=%lld known=%lld",
               p->dir_name, (long long)p->end.offset, (long long)(expected > start ? expected : start));
        p->state = MR_PARTITION_OFFLINE;
        return MR_OK;
    }
    uint64_t cut_bytes = 0;
    err = mr_log_cut_file(core, p->active, &cut_bytes);
    mr_partition_log_start(core, p, start, 0);
    (void)mr_epoch_cache_trim_start(&p->epochs, p->log_start);
    mr_partition_mark_gone(core, p);
    p->is_clean_on_disk = false;
    p->is_epoch_dirty = true;
    return err;
}
