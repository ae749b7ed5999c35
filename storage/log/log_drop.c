/*
 * log_drop: DROP of a log: journaled; when that is durable (J5) the directory is renamed and the operation
 * answered; the files go later (burial.c). A log that is not open is read first, only to see whose the directory is:
 * with what its files lack it is dropped all the same.
 */
#include "storage_core.h"

#include "log/log_files.h"

enum mr_log_mark mr_log_directory_topic(struct mr_storage_core *core, struct mr_str dir_name, struct mr_uuid *topic_id)
{
    static const char key[] = "topic_id: ";
    char              name[MR_FILE_NAME_BYTES];
    mr_fmt(name, sizeof name, "%.*s/partition.metadata", dir_name.len, dir_name.data);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = name};
    if (mr_core_disk(core, &op) != MR_OK) {
        return MR_LOG_MARK_NONE;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = file, .buffer = core->scratch, .len = 4096};
    uint32_t len = mr_core_disk(core, &op) == MR_OK ? op.done_bytes : 0;
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    for (uint32_t at = 0; at + sizeof key - 1 + MR_UUID_TEXT <= len; at++) {
        struct mr_str text = {.data = (const char *)core->scratch + at + sizeof key - 1, .len = MR_UUID_TEXT};
        if (memcmp(core->scratch + at, key, sizeof key - 1) == 0 && mr_uuid_parse(text, topic_id)) {
            return MR_LOG_MARK_SAME;
        }
    }
    return MR_LOG_MARK_TORN;
}

enum mr_log_mark mr_log_directory_mark(struct mr_storage_core *core, struct mr_str dir_name,
                                       const struct mr_uuid *topic_id)
{
    struct mr_uuid   id;
    enum mr_log_mark mark = mr_log_directory_topic(core, dir_name, &id);
    return mark == MR_LOG_MARK_SAME && !mr_uuid_equal(&id, topic_id) ? MR_LOG_MARK_OTHER : mark;
}

/* Blocking: at start only. The directory goes when it is not another topic's. */
enum mr_err mr_log_remove_directory(struct mr_storage_core *core, struct mr_str dir_name, const struct mr_uuid *topic_id)
{
    char name[MR_FILE_NAME_BYTES];
    if (mr_log_directory_mark(core, dir_name, topic_id) == MR_LOG_MARK_OTHER) {
        return MR_OK;
    }
    mr_fmt(name, sizeof name, "%.*s", dir_name.len, dir_name.data);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &op);
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

/* ---- A log that is not open ---- */

static void unopened_end(struct mr_storage_core *core, struct mr_partition *p, struct mr_drop_op *op, enum mr_err err)
{
    mr_journal_log_deinit(core->journal, &p->jlog);
    mr_partition_free(core, p);
    op->op.err = err;
    if (err == MR_AGAIN) {
        mr_core_again(core, &op->op);
    } else {
        mr_core_answer(core, &op->op);
    }
}

/* Its directory has been read as far as that went. */
static void unopened_read(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_drop_op   *op = (struct mr_drop_op *)(void *)task->op;
    struct mr_partition *p = task->partition;
    bool is_unread = err == MR_ERR_EXISTS || (!task->is_marked && err != MR_ERR_NOT_FOUND && err != MR_ERR_CORRUPT);
    if (p->active == NULL) {
        p->active = mr_segment_new(core, p, 0);
        err = p->active == NULL ? MR_AGAIN : err;
    }
    if (err == MR_AGAIN || (err != MR_OK && is_unread)) {
        task->partition = NULL;
        p->task_count--;
        unopened_end(core, p, op, err);
        return;
    }
    p->state = MR_PARTITION_OFFLINE; /* nobody is to do anything else with it */
    op->log_id = p->jlog.log_id;
    mr_log_drop_start(core, op);
}

static void unopened_drop(struct mr_storage_core *core, struct mr_drop_op *op)
{
    char name[MR_DIR_NAME_BYTES];
    if (core->is_giving) {
        mr_recover_give(core);
    }
    uint32_t len = (uint32_t)mr_fmt(name, sizeof name, "%.*s-%d", (int)op->topic.len, op->topic.data, op->partition);
    struct mr_str        dir_name = {.data = name, .len = (int32_t)len};
    struct mr_partition *p = mr_partition_by_name(core, dir_name);
    if (mr_log_is_renaming(core, dir_name) ||
        (p != NULL && (p->state == MR_PARTITION_OPENING || p->state == MR_PARTITION_DROPPING || p->open_err != MR_OK))) {
        mr_core_again(core, &op->op); /* whose it is will be seen */
        return;
    }
    if (p != NULL && !mr_uuid_equal(&p->jlog.topic_id, &op->topic_id)) {
        op->op.err = MR_ERR_EXISTS;
        mr_core_answer(core, &op->op);
        return;
    }
    if (p != NULL) {
        op->log_id = p->jlog.log_id;
        mr_log_drop_start(core, op);
        return;
    }
    p = mr_log_new(core, &op->topic_id, op->partition, dir_name);
    struct mr_task *task = p == NULL ? NULL : mr_log_load_task(core, p, NULL, unopened_read);
    if (p == NULL) {
        op->op.err = MR_ERR_NO_MEMORY;
        mr_core_answer(core, &op->op);
    } else if (task == NULL) {
        unopened_end(core, p, op, MR_AGAIN);
    } else {
        task->op = &op->op;
        mr_core_task_start(core, task);
    }
}

/* ---- DROP ---- */

void mr_log_drop_start(struct mr_storage_core *core, struct mr_drop_op *op)
{
    struct mr_partition *p = mr_core_find(core, op->log_id);
    if (op->log_id == 0 && core->is_recovered && !core->is_offline && !core->is_stopped) {
        unopened_drop(core, op);
        return;
    }
    if (core->is_stopped || p == NULL || p->state == MR_PARTITION_OPENING || p->state == MR_PARTITION_DROPPING) {
        op->op.err = MR_ERR_UNKNOWN_LOG;
        mr_core_answer(core, &op->op);
        return;
    }
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_DROP};
    uint64_t                seq = 0;
    op->op.err = mr_journal_add(core->journal, &p->jlog, &entry, NULL, &seq);
    if (op->op.err == MR_AGAIN) {
        mr_core_again(core, &op->op);
        return;
    }
    if (op->op.err != MR_OK) {
        mr_core_answer(core, &op->op);
        return;
    }
    p->state = MR_PARTITION_DROPPING;
    p->part_of = NULL; /* a batch that has begun does not end: the others need not wait for it */
    core->part_open = core->part_open == p ? NULL : core->part_open;
    core->drop_count++;
    mr_watch_fire(core, p, true);
    mr_core_ack_later(core, &op->op, seq, false);
}

/*
 * "topic-0.<32 hex>-delete", which Kafka takes for a directory that it may remove: the partition's number must stand
 * there, so a long topic name is cut, not the end.
 */
static void deleted_name(struct mr_storage_core *core, const struct mr_partition *p, char *name, size_t size)
{
    char    end[64];
    int32_t topic = p->jlog.dir_name.len;
    while (topic > 0 && p->dir_name[topic] != '-') {
        topic--;
    }
    size_t end_len = mr_fmt(end, sizeof end, "-%d.%016llx%016llx-delete", p->jlog.partition,
                            (unsigned long long)p->jlog.log_id, (unsigned long long)mr_prng_next(&core->prng));
    int32_t room = MR_FILE_NAME_MAX - (int32_t)end_len;
    mr_fmt(name, size, "%.*s%s", topic < room ? topic : room, p->dir_name, end);
}

/* The directory has its new name: only now may the old one be used again. */
static bool drop_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    mr_list_remove(&task->link);
    if (op->err == MR_OK) {
        mr_burial_directory(core, task->new_name, (int64_t)task->a);
    } else if (op->err != MR_ERR_NOT_FOUND) {
        mr_core_fail(core, op, "renaming the directory of a deleted log");
    }
    core->drop_count--;
    mr_core_answer(core, task->op);
    task->op = NULL;
    return false;
}

bool mr_log_is_renaming(const struct mr_storage_core *core, struct mr_str dir_name)
{
    MR_LIST_EACH(link, &core->renaming) {
        const struct mr_task *task = MR_LIST_ENTRY(link, struct mr_task, link);
        if (mr_str_equal(mr_str(task->name), dir_name)) {
            return true;
        }
    }
    return false;
}

/* The DROP is durable. Tasks of the log end first; appends that wait for it find it gone. */
static bool drop_wait_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = mr_core_find(core, task->a);
    bool                 is_used = p->task_count > 0 || !mr_burial_has_room(core);
    MR_LIST_EACH(link, &p->segments) {
        is_used |= MR_LIST_ENTRY(link, struct mr_segment, link)->users > 0;
    }
    if (is_used) {
        return mr_core_task_wait(core, task, 0);
    }
    mr_fmt(task->name, sizeof task->name, "%s", p->dir_name);
    deleted_name(core, p, task->new_name, sizeof task->new_name);
    task->a = (uint64_t)p->config.file_delete_delay_ms;
    mr_journal_log_deinit(core->journal, &p->jlog);
    mr_partition_free(core, p);
    mr_list_add_tail(&core->renaming, &task->link);
    task->step = drop_step;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .dir = core->root, .name = task->name,
                                      .new_name = task->new_name};
    return true;
}

void mr_log_drop_ready(struct mr_storage_core *core, struct mr_drop_op *op)
{
    struct mr_task *task = mr_core_task(core, NULL, drop_wait_step);
    if (task == NULL) {
        mr_core_again(core, &op->op); /* when a task is free */
        return;
    }
    task->a = op->log_id;
    task->op = &op->op;
    mr_core_task_start(core, task);
}
