#include "metadata/stray_logs.h"

#include "metadata/local_logs.h"
#include "metadata/log_dirs.h"
#include "metadata/meta.h"
#include "metadata/meta_file.h"

#define STRAY_OPS 16 /* with storage at a time: this is not urgent */

enum stray_step {
    STRAY_WAITING, /* for the first turn of a serving broker */
    STRAY_LISTING,
    STRAY_DROPPING,
    STRAY_DONE,
};

struct stray_removed {
    struct mr_table_node node;
    struct mr_str        name;
    struct mr_uuid       id;
};

struct stray_dir {
    const struct stray_removed *topic;
    int32_t                     partition;
    uint32_t                    dir; /* the log directory it lies in */
};

struct stray_job {
    struct mr_control_op        callback;
    struct mr_drop_op           drop;
    const struct stray_removed *topic; /* whose directory it is taken for */
    uint32_t                    storage_core;
    char                        name[MR_TOPIC_NAME_MAX];
};

struct mr_stray_logs {
    struct mr_meta_file file;
    enum stray_step     step;
    struct mr_table     removed;
    struct stray_dir   *dirs; /* to be dropped */
    uint32_t            dir_count;
    uint32_t            dir_room;
    uint32_t            next;
    uint32_t            in_flight;
    uint32_t            dir; /* that is looked at */
    int32_t             handle;
};

bool mr_stray_logs_init(struct mr_control *control)
{
    struct mr_stray_logs *stray = MR_HEAP_NEW(&control->heap, struct mr_stray_logs);
    if (stray == NULL || !mr_table_init(&stray->removed, &control->heap)) {
        return false;
    }
    control->stray_logs = stray;
    return true;
}

/* ---- what was removed ---- */

/* A removed topic of this name, or the next one after `before`; NULL: no more. */
static const struct stray_removed *removed_find(struct mr_control *control, struct mr_str name,
                                                const struct stray_removed *before)
{
    struct mr_table_node *node;
    if (before == NULL) {
        node = mr_table_first(&control->stray_logs->removed, mr_hash_str(&control->hash_key, name));
    } else {
        node = mr_table_next((struct mr_table_node *)(uintptr_t)&before->node);
    }
    for (; node != NULL; node = mr_table_next(node)) {
        const struct stray_removed *removed = MR_TABLE_ENTRY(node, struct stray_removed, node);
        if (mr_str_equal(removed->name, name)) {
            return removed;
        }
    }
    return NULL;
}

/* Best effort: what is not remembered stays on disk until the next start. NULL: no memory. */
static const struct stray_removed *removed_add(struct mr_control *control, struct mr_str name, const struct mr_uuid *id)
{
    struct stray_removed *removed = MR_HEAP_NEW(&control->heap, struct stray_removed);
    if (removed == NULL || !mr_heap_str(&control->heap, name, &removed->name)) {
        MR_HEAP_DELETE(&control->heap, removed);
        return NULL;
    }
    removed->id = *id;
    mr_table_add(&control->stray_logs->removed, &removed->node, mr_hash_str(&control->hash_key, removed->name));
    return removed;
}

void mr_stray_logs_remember(struct mr_control *control)
{
    MR_LIST_EACH(link, &control->meta->gone)
    {
        const struct mr_meta_gone *gone = MR_LIST_ENTRY(link, struct mr_meta_gone, link);
        if (removed_add(control, gone->name, &gone->id) == NULL) {
            return;
        }
    }
}

static void removed_free(struct mr_control *control)
{
    struct mr_stray_logs *stray = control->stray_logs;
    struct mr_table_node *node = mr_table_walk(&stray->removed, NULL);
    while (node != NULL) {
        struct mr_table_node *after = mr_table_walk(&stray->removed, node);
        struct stray_removed *removed = MR_TABLE_ENTRY(node, struct stray_removed, node);
        mr_table_remove(&stray->removed, node);
        mr_heap_str_free(&control->heap, &removed->name);
        MR_HEAP_DELETE(&control->heap, removed);
        node = after;
    }
}

/* ---- the directory ---- */

/* "<topic>-<partition>"; false for anything else. */
static bool dir_parse(struct mr_str name, struct mr_str *topic, int32_t *partition)
{
    int32_t dash = name.len - 1;
    int64_t number = 0;
    while (dash > 0 && name.data[dash] != '-') {
        dash--;
    }
    if (dash <= 0 || dash + 1 == name.len || name.len - dash > 10 || dash > MR_TOPIC_NAME_MAX) {
        return false;
    }
    for (int32_t at = dash + 1; at < name.len; at++) {
        if (name.data[at] < '0' || name.data[at] > '9') {
            return false;
        }
        number = number * 10 + (name.data[at] - '0');
    }
    *topic = (struct mr_str){.data = name.data, .len = dash};
    *partition = (int32_t)number;
    return number <= INT32_MAX;
}

static bool dirs_add(struct mr_control *control, const struct stray_removed *topic,
                     int32_t partition)
{
    struct mr_stray_logs *stray = control->stray_logs;
    if (stray->dir_count == stray->dir_room) {
        uint32_t          room = stray->dir_room * 2 + 16;
        struct stray_dir *more = mr_heap_resize(
            &control->heap, stray->dirs, sizeof *more * stray->dir_room, sizeof *more * room);
        if (more == NULL) {
            return false;
        }
        stray->dirs = more;
        stray->dir_room = room;
    }
    stray->dirs[stray->dir_count++] =
        (struct stray_dir){.topic = topic, .partition = partition, .dir = stray->dir};
    return true;
}

static void finish(struct mr_control *control)
{
    struct mr_stray_logs *stray = control->stray_logs;
    mr_heap_free(&control->heap, stray->dirs, sizeof *stray->dirs * stray->dir_room);
    stray->dirs = NULL;
    stray->dir_room = 0;
    removed_free(control);
    stray->step = STRAY_DONE;
}

static void opened(struct mr_control *control, struct mr_now now, struct mr_meta_file *file, enum mr_err err);

/* The next log directory that is served; after the last one what was found is dropped. */
static void look(struct mr_control *control, uint32_t dir)
{
    struct mr_stray_logs     *stray = control->stray_logs;
    const struct mr_log_dirs *all = control->log_dirs;
    while (dir < all->count && all->dirs[dir].is_offline) {
        dir++;
    }
    stray->dir = dir;
    stray->step = dir < all->count ? STRAY_LISTING : STRAY_DROPPING;
    if (dir < all->count) {
        mr_meta_file_open_dir(control, &stray->file, all->dirs[dir].path, opened);
        return;
    }
    if (stray->dir_count > 0) {
        mr_log(control->log, MR_LOG_INFO, "dropping what deleted topics left behind logs=%u",
               stray->dir_count);
    }
}

static void closed(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                   enum mr_err err)
{
    (void)now;
    (void)file;
    (void)err;
    look(control, control->stray_logs->dir + 1);
}

/*
 * Whose directory it is when it has to go: a removed topic's, or a partition's that is open in another log directory (a
 * copy that became superfluous, or is unfinished). NULL: it stays; *is_unknown: nobody's.
 */
static const struct stray_removed *owner_of(struct mr_control *control, struct mr_str topic, int32_t partition,
                                            bool *is_unknown)
{
    const struct mr_meta_topic *known = mr_meta_topic_by_name(control->meta, topic);
    bool is_open = known != NULL && (uint32_t)partition < known->partition_count &&
                   known->partitions[partition].log_state == MR_META_LOG_OPEN;
    *is_unknown = false;
    if (!is_open) { /* of one that is being opened it is not known yet whether this stands in its way */
        const struct stray_removed *removed = removed_find(control, topic, NULL);
        *is_unknown = removed == NULL;
        return removed;
    }
    uint32_t core = known->partitions[partition].storage_core;
    if (mr_endpoint_dir(control->endpoints, core) == control->stray_logs->dir) {
        return NULL;
    }
    const struct stray_removed *moved = removed_find(control, topic, NULL);
    while (moved != NULL && !mr_uuid_equal(&moved->id, &known->id)) {
        moved = removed_find(control, topic, moved);
    }
    return moved != NULL ? moved : removed_add(control, topic, &known->id);
}

static void listed(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                   enum mr_err err)
{
    struct mr_stray_logs *stray = control->stray_logs;
    uint32_t              unknown = 0;
    char                  first[MR_TOPIC_NAME_MAX + 16] = "";
    (void)now;
    for (size_t at = 0; err == MR_OK && at < file->len;) {
        struct mr_disk_list_entry entry;
        memcpy(&entry, file->bytes + at, sizeof entry);
        const char   *name = (const char *)file->bytes + at + sizeof entry;
        struct mr_str topic;
        int32_t       partition = 0;
        at += entry.entry_bytes;
        if (entry.is_directory == 0 || !dir_parse(mr_str(name), &topic, &partition) ||
            mr_str_equal(topic, MR_STR("__cluster_metadata"))) {
            continue;
        }
        bool                        is_unknown = false;
        const struct stray_removed *owner = owner_of(control, topic, partition, &is_unknown);
        if (is_unknown) {
            mr_fmt(first, sizeof first, "%s", name);
            unknown++;
        } else if (owner != NULL && !dirs_add(control, owner, partition)) {
            break;
        }
    }
    if (unknown > 0) {
        mr_log(control->log, MR_LOG_WARN,
               "directories of partitions that no topic has are left alone dir=%s count=%u one=%s",
               control->log_dirs->dirs[stray->dir].path, unknown, first);
    }
    mr_meta_file_close(control, &stray->file, stray->handle, closed);
}

static void opened(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                   enum mr_err err)
{
    struct mr_stray_logs *stray = control->stray_logs;
    (void)now;
    if (err != MR_OK) {
        look(control, stray->dir + 1);
        return;
    }
    stray->handle = file->file;
    mr_meta_file_list(control, &stray->file, stray->handle, listed);
}

/* ---- drop ---- */

static void dropped(struct mr_control *control, struct mr_now now, struct mr_control_op *callback);

static void drop_submit(struct mr_control *control, struct stray_job *job)
{
    job->callback.done = dropped;
    job->drop.op = (struct mr_storage_op){.kind = MR_STORAGE_DROP};
    job->drop.log_id = 0;
    job->drop.topic_id = job->topic->id;
    mr_control_submit(control, job->storage_core, &job->drop.op, &job->callback);
}

static void dropped(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct stray_job *job = (struct stray_job *)(void *)callback;
    enum mr_err       err = job->drop.op.err;
    (void)now;
    job->topic = err == MR_ERR_EXISTS ? removed_find(control, job->drop.topic, job->topic) : NULL;
    if (job->topic != NULL) {
        drop_submit(control, job);
        return;
    }
    if (err != MR_OK && err != MR_ERR_EXISTS) {
        mr_log(control->log, MR_LOG_WARN,
               "a deleted topic's log cannot be dropped topic=%.*s why=%s",
               (int)job->drop.topic.len, job->drop.topic.data, mr_err_text(err));
    }
    control->stray_logs->in_flight--;
    MR_HEAP_DELETE(&control->heap, job);
}

static bool job_send(struct mr_control *control, const struct stray_dir *dir)
{
    struct stray_job *job = MR_HEAP_NEW(&control->heap, struct stray_job);
    if (job == NULL) {
        return false;
    }
    memcpy(job->name, dir->topic->name.data, (size_t)dir->topic->name.len);
    job->topic = dir->topic;
    job->drop.topic = (struct mr_str){.data = job->name, .len = dir->topic->name.len};
    job->drop.partition = dir->partition;
    control->stray_logs->in_flight++;
    job->storage_core = mr_log_dirs_core(control, dir->dir, dir->topic->name, (uint32_t)dir->partition);
    drop_submit(control, job);
    return true;
}

bool mr_stray_logs_is_over(const struct mr_control *control)
{
    return control->stray_logs->step == STRAY_DONE;
}

bool mr_stray_logs_turn(struct mr_control *control, struct mr_now now)
{
    struct mr_stray_logs *stray = control->stray_logs;
    bool                  is_any = false;
    (void)now;
    if (stray->step == STRAY_WAITING) {
        look(control, 0);
        return true;
    }
    if (stray->step != STRAY_DROPPING) {
        return false;
    }
    while (stray->next < stray->dir_count && stray->in_flight < STRAY_OPS) {
        const struct stray_dir *dir = &stray->dirs[stray->next];
        /* Until a directory is renamed nobody else may open it. */
        if (mr_local_logs_is_dropping(control, dir->topic->name) || !job_send(control, dir)) {
            break;
        }
        stray->next++;
        is_any = true;
    }
    if (stray->next == stray->dir_count && stray->in_flight == 0) {
        if (stray->dir_count > 0) {
            mr_local_logs_again(control); /* what stood in the way of a log is gone */
        }
        finish(control);
    }
    return is_any;
}
