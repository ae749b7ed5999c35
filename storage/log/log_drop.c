/*
 * log_drop: DROP of a log: journaled, answered when that is durable, then its files go (J5).
 */
#include "storage_core.h"

/* Blocking: at start only. The directory goes when it is still that topic's. */
enum mr_err mr_log_remove_directory(struct mr_storage_core *core, struct mr_str dir_name, const struct mr_uuid *topic_id)
{
    char name[MR_FILE_NAME_BYTES];
    char id[MR_UUID_TEXT + 1];
    mr_fmt(name, sizeof name, "%.*s/partition.metadata", dir_name.len, dir_name.data);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = name};
    if (mr_core_disk(core, &op) == MR_OK) {
        int32_t file = op.file;
        op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = file, .buffer = core->scratch, .len = 4096};
        (void)mr_core_disk(core, &op);
        uint32_t len = op.err == MR_OK ? op.done_bytes : 0;
        op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
        (void)mr_core_disk(core, &op);
        mr_uuid_text(topic_id, id);
        bool is_same = false;
        for (uint32_t at = 0; at + MR_UUID_TEXT <= len; at++) {
            is_same |= memcmp(core->scratch + at, id, MR_UUID_TEXT) == 0;
        }
        if (!is_same) {
            return MR_OK; /* another topic of that name */
        }
    }
    mr_fmt(name, sizeof name, "%.*s", dir_name.len, dir_name.data);
    op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root, .name = name};
    enum mr_err err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err == MR_ERR_NOT_FOUND ? MR_OK : err;
    }
    int32_t dir = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = dir, .buffer = core->scratch, .len = MR_SCRATCH_BYTES};
    err = mr_core_disk(core, &op);
    const uint8_t *end = core->scratch + op.done_bytes;
    for (const uint8_t *at = core->scratch; err == MR_OK && at < end;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = dir, .name = entry->name};
        err = mr_core_disk(core, &op);
        err = err == MR_ERR_NOT_FOUND ? MR_OK : err;
        at += entry->entry_bytes;
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = dir};
    (void)mr_core_disk(core, &op);
    if (err == MR_OK) {
        op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY, .dir = core->root, .name = name};
        err = mr_core_disk(core, &op);
    }
    return err;
}

void mr_log_drop_start(struct mr_storage_core *core, struct mr_drop_op *op)
{
    struct mr_partition *p = mr_core_find(core, op->log_id);
    if (p == NULL || p->state == MR_PARTITION_OPENING || p->state == MR_PARTITION_DROPPING) {
        op->op.err = MR_ERR_UNKNOWN_LOG;
        mr_core_answer(core, &op->op);
        return;
    }
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_DROP};
    uint64_t                seq = 0;
    op->op.err = mr_journal_add(core->journal, &p->jlog, &entry, NULL, &seq, NULL);
    if (op->op.err != MR_OK) {
        mr_core_answer(core, &op->op);
        return;
    }
    p->state = MR_PARTITION_DROPPING;
    mr_watch_fire(core, p, true);
    mr_core_ack_later(core, &op->op, seq, false);
}

enum drop_at {
    DROP_BEGIN,
    DROP_RENAMED,
    DROP_OPENED,
    DROP_LISTED,
    DROP_UNLINKED,
    DROP_CLOSED,
    DROP_GONE,
};

/* Task: file: the directory; a: position in the listing. */
static bool drop_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum drop_at)task->at) {
    case DROP_BEGIN:
        task->at = DROP_RENAMED;
        *op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .dir = core->root, .name = task->name,
                                  .new_name = task->new_name};
        return true;
    case DROP_RENAMED:
        /* Only now may the name be used again. */
        mr_core_answer(core, task->op);
        task->op = NULL;
        if (op->err != MR_OK) {
            return false;
        }
        task->at = DROP_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->new_name};
        return true;
    case DROP_OPENED:
        task->page = op->err == MR_OK ? mr_tail_page_get(core, 4) : NULL;
        if (task->page == NULL) {
            return false; /* a -delete directory stays for the next start */
        }
        task->page->is_busy = true;
        task->file = op->file;
        task->at = DROP_LISTED;
        *op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = task->file,
                                  .buffer = mr_page_memory(&core->cache, task->page),
                                  .len = mr_page_capacity(task->page)};
        return true;
    case DROP_LISTED:
        task->b = op->err == MR_OK ? op->done_bytes : 0;
        task->a = 0;
        task->at = DROP_UNLINKED;
        /* fallthrough */
    case DROP_UNLINKED: {
        const uint8_t *memory = mr_page_memory(&core->cache, task->page);
        if (task->a < task->b) {
            const struct mr_disk_list_entry *entry =
                (const struct mr_disk_list_entry *)(const void *)(memory + task->a);
            task->a += entry->entry_bytes;
            *op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = task->file, .name = entry->name};
            return true;
        }
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
        task->at = DROP_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    }
    case DROP_CLOSED:
        task->at = DROP_GONE;
        *op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->new_name};
        return true;
    case DROP_GONE:
        return false;
    }
    mr_unreachable("drop");
}

/* The DROP is durable. Tasks and parked appends of the log end first. */
static bool drop_wait_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = mr_core_find(core, task->a);
    bool                 is_used = p->task_count > 0 || p->parked > 0;
    MR_LIST_EACH(link, &p->segments) {
        is_used |= MR_LIST_ENTRY(link, struct mr_segment, link)->users > 0;
    }
    if (is_used) {
        task->is_waiting = true;
        mr_list_add_tail(&core->retry_tasks, &task->link);
        return true;
    }
    mr_fmt(task->name, sizeof task->name, "%s", p->dir_name);
    mr_fmt(task->new_name, sizeof task->new_name, "%.*s.%016llx%016llx-delete",
           p->jlog.dir_name.len > 200 ? 200 : p->jlog.dir_name.len, p->dir_name,
           (unsigned long long)p->jlog.log_id, (unsigned long long)mr_prng_next(&core->prng));
    mr_journal_log_deinit(core->journal, &p->jlog);
    mr_partition_free(core, p);
    task->step = drop_step;
    task->at = DROP_BEGIN;
    return drop_step(core, task);
}

void mr_log_drop_ready(struct mr_storage_core *core, struct mr_drop_op *op)
{
    struct mr_task *task = mr_core_task(core, NULL, drop_wait_step);
    if (task == NULL) {
        mr_list_add_tail(&core->open_waiting, &op->op.link); /* asked again when a task is free */
        return;
    }
    task->a = op->log_id;
    task->op = &op->op;
    mr_core_task_start(core, task);
}
