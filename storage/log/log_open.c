/*
 * log_open: OPEN of a log: adopt what recovery found, read what is on disk, or make a directory.
 *
 * Nothing is synced when a directory is made: the journal's OPEN entry makes it again after a crash, and a file is
 * recycled only after a syncfs. A log without state and without entries has had no change since its files
 * were complete, so its files alone tell the truth (as after Kafka's clean stop).
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

#include "log/log_files.h"

enum open_at {
    OPEN_BEGIN,
    OPEN_DIR,
    OPEN_MADE,
    OPEN_MADE_DIR,
    OPEN_META_OPEN,
    OPEN_META_WRITTEN,
    OPEN_META_CLOSED,
    OPEN_FILE_OPEN,
    OPEN_FILE_CLOSED,
};

/* A new log has what Kafka's has from the start: a clean stop finds nothing to make for a log that nobody wrote to. */
static const char *const new_files[] = {".log", ".index", ".timeindex"};
#define NEW_FILES (sizeof new_files / sizeof new_files[0])

/* The next file of a new log; a copy has the mark first of all. False: it has them all. */
static bool next_file(const struct mr_open_op *op, struct mr_task *task)
{
    uint32_t index = task->index++;
    if (op->is_copy && index == 0) {
        mr_fmt(task->name, sizeof task->name, "%s/" MR_COPY_MARK, task->partition->dir_name);
        return true;
    }
    index -= op->is_copy ? 1 : 0;
    if (index < NEW_FILES) {
        mr_segment_name(task->partition->active, new_files[index], task->name);
    }
    return index < NEW_FILES;
}

static void answer(struct mr_storage_core *core, struct mr_open_op *op, struct mr_partition *p, enum mr_err err)
{
    op->op.err = err;
    op->log_id = err == MR_OK ? p->jlog.log_id : 0;
    op->log_start_offset = err == MR_OK ? p->log_start : -1;
    op->log_end_offset = err == MR_OK ? p->end.offset : -1;
    op->is_unfinished = err == MR_OK && p->is_unfinished;
    mr_core_answer(core, &op->op);
}

/* The log is there: what the operation says of it holds from now on. */
static void adopt(struct mr_storage_core *core, struct mr_open_op *op, struct mr_partition *p)
{
    if (p->state == MR_PARTITION_OFFLINE) {
        answer(core, op, p, MR_ERR_DIR_OFFLINE);
        return;
    }
    mr_partition_configure(p, op->config);
    p->is_internal = op->is_internal;
    p->state = MR_PARTITION_OPEN;
    if (p->clean_offset < 0 && !op->is_created) {
        p->clean_offset = mr_checkpoint_find(&core->first->clean_ends, p->jlog.dir_name);
    }
    int32_t latest = mr_epoch_cache_latest(&p->epochs);
    p->leader_epoch = op->leader_epoch;
    if (op->leader_epoch > latest && p->end.offset > 0 && latest >= 0) {
        struct mr_journal_entry entry = {.kind = MR_JOURNAL_EPOCH_START, .offset = p->end.offset,
                                         .segment_base = p->active->base, .pos = p->active->size,
                                         .epoch = op->leader_epoch};
        uint64_t seq = 0;
        if (mr_journal_add(core->journal, &p->jlog, &entry, NULL, &seq) == MR_OK) {
            mr_partition_set_epoch_room(core, p);
            p->is_epoch_dirty |= mr_epoch_cache_assign(&p->epochs, op->leader_epoch, p->end.offset);
            p->is_clean_on_disk = false;
        }
    }
    answer(core, op, p, MR_OK);
}

/* MR_AGAIN: the operation is tried again. Indexes that were made anew may be on their way to their files still. */
static void give_up(struct mr_storage_core *core, struct mr_open_op *op, struct mr_partition *p, enum mr_err err)
{
    if (p->task_count > 0) {
        p->state = MR_PARTITION_OFFLINE;
        p->open_err = err;
        mr_core_again(core, &op->op);
        return;
    }
    if (err == MR_AGAIN) {
        mr_core_again(core, &op->op);
    } else {
        answer(core, op, p, err);
    }
    mr_journal_log_deinit(core->journal, &p->jlog);
    mr_partition_free(core, p);
}

static bool open_failed(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_partition *p = task->partition;
    task->partition = NULL;
    p->task_count--;
    give_up(core, (struct mr_open_op *)(void *)task->op, p, err);
    return false;
}

static bool create_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_open_op   *op = (struct mr_open_op *)(void *)task->op;
    struct mr_partition *p = task->partition;
    struct mr_disk_op   *disk = &task->io.op;
    if (disk->err != MR_OK && !(task->at == OPEN_MADE && disk->err == MR_ERR_EXISTS)) {
        return open_failed(core, task, disk->err);
    }
    switch ((enum open_at)task->at) {
    case OPEN_BEGIN:
    case OPEN_DIR:
        task->at = OPEN_MADE;
        *disk = (struct mr_disk_op){.kind = MR_DISK_MKDIR, .dir = core->root, .name = p->dir_name};
        return true;
    case OPEN_MADE:
    case OPEN_MADE_DIR:
        task->at = OPEN_META_OPEN;
        mr_fmt(task->name, sizeof task->name, "%s/partition.metadata", p->dir_name);
        *disk = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                                    .dir = core->root, .name = task->name};
        return true;
    case OPEN_META_OPEN: {
        char id[MR_UUID_TEXT + 1];
        mr_uuid_text(&op->topic_id, id);
        task->file = disk->file;
        uint32_t len = (uint32_t)mr_fmt(task->new_name, sizeof task->new_name, "version: 0\ntopic_id: %s\n", id);
        task->at = OPEN_META_WRITTEN;
        *disk = (struct mr_disk_op){.kind = MR_DISK_WRITE, .file = task->file, .buffer = task->new_name,
                                    .len = len};
        return true;
    }
    case OPEN_META_WRITTEN:
        task->at = OPEN_META_CLOSED;
        *disk = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case OPEN_META_CLOSED:
    case OPEN_FILE_CLOSED:
        if (!op->is_created || !next_file(op, task)) {
            break;
        }
        task->at = OPEN_FILE_OPEN;
        *disk = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root,
                                    .name = task->name};
        return true;
    case OPEN_FILE_OPEN:
        task->at = OPEN_FILE_CLOSED;
        *disk = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = disk->file};
        return true;
    }
    p->active->has_index_files |= op->is_created;
    adopt(core, op, p);
    return false;
}

static void loaded(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_open_op   *op = (struct mr_open_op *)(void *)task->op;
    struct mr_partition *p = task->partition;
    if (err == MR_ERR_NOT_FOUND && op->is_search) {
        open_failed(core, task, err);
        return;
    }
    if (err == MR_ERR_NOT_FOUND) {
        p->active = mr_segment_new(core, p, op->start_offset);
        if (p->active == NULL) {
            open_failed(core, task, MR_ERR_NO_MEMORY);
            return;
        }
        p->active->is_time_known = true;
        p->log_start = op->start_offset;
        p->end = (struct mr_place){.offset = op->start_offset, .base = op->start_offset};
        p->durable = p->end;
        p->high_watermark = p->end;
        p->is_unfinished = op->is_copy;
        op->is_created = true;
    } else if (err != MR_OK) {
        mr_log(core->log, MR_LOG_ERROR, "cannot open a log dir=%s err=%s", p->dir_name, mr_err_text(err));
        open_failed(core, task, err);
        return;
    } else if (task->is_marked) {
        adopt(core, op, p);
        return;
    }
    /* New, or the power went before its partition.metadata was durable: recovery takes a state for this log's by it. */
    struct mr_task *create = mr_core_task(core, p, create_step);
    if (create == NULL) { /* every task is busy, as below */
        open_failed(core, task, MR_AGAIN);
        return;
    }
    create->op = task->op;
    mr_core_task_start(core, create);
}

struct mr_partition *mr_log_new(struct mr_storage_core *core, const struct mr_uuid *topic_id, int32_t partition,
                                struct mr_str dir_name)
{
    uint64_t log_id = 0;
    do {
        log_id = mr_journal_draw_log_id(core->journal);
    } while (mr_core_find(core, log_id) != NULL);
    struct mr_partition *p = mr_partition_new(core, log_id, topic_id, partition, dir_name);
    if (p != NULL) {
        mr_journal_log_init(core->journal, &p->jlog);
        p->state = MR_PARTITION_OPENING;
    }
    return p;
}

void mr_log_open_start(struct mr_storage_core *core, struct mr_open_op *op)
{
    op->is_created = false;
    char name[MR_DIR_NAME_BYTES];
    if (!core->is_recovered || core->is_offline || core->is_stopped) {
        answer(core, op, NULL, MR_ERR_DIR_OFFLINE);
        return;
    }
    if (core->is_giving) {
        mr_recover_give(core);
    }
    if (op->topic.len <= 0 || op->topic.len > MR_TOPIC_NAME_MAX || op->partition < 0) {
        answer(core, op, NULL, MR_ERR_INVALID);
        return;
    }
    uint32_t len = (uint32_t)mr_fmt(name, sizeof name, "%.*s-%d", (int)op->topic.len, op->topic.data,
                                    op->partition);
    struct mr_str        dir_name = {.data = name, .len = (int32_t)len};
    struct mr_partition *p = mr_partition_by_name(core, dir_name);
    if (p != NULL && p->open_err != MR_OK) {
        give_up(core, op, p, p->open_err);
        return;
    }
    if (p != NULL) {
        if (p->state == MR_PARTITION_OPENING) {
            answer(core, op, NULL, MR_ERR_EXISTS);
            return;
        }
        if (!mr_uuid_equal(&p->jlog.topic_id, &op->topic_id) && !mr_bug("adopt-any-directory")) {
            answer(core, op, NULL, MR_ERR_EXISTS); /* another topic's directory: control drops it first */
            return;
        }
        adopt(core, op, p);
        return;
    }
    if (mr_log_is_renaming(core, dir_name)) {
        answer(core, op, NULL, MR_ERR_EXISTS); /* what is there now is a dropped log's */
        return;
    }
    p = mr_log_new(core, &op->topic_id, op->partition, dir_name);
    if (p == NULL) {
        answer(core, op, NULL, MR_ERR_NO_MEMORY);
        return;
    }
    p->config = *op->config;
    struct mr_task *task = mr_log_load_task(core, p, NULL, loaded);
    if (task == NULL) {
        /* Every task is busy: asked again when one is free. */
        mr_journal_log_deinit(core->journal, &p->jlog);
        mr_partition_free(core, p);
        mr_core_again(core, &op->op);
        return;
    }
    task->op = &op->op;
    if (op->may_block) {
        mr_core_task_here(core, task);
    } else {
        mr_core_task_start(core, task);
    }
}
