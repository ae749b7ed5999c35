#include "metadata/local_logs.h"

#include "metadata/image.h"
#include "metadata/log_dirs.h"

#define LOCAL_OPS 512
#define RETRY_MS  1000
#define SLICE_OPS 256 /* sent per turn at most */

/* Partitions of one topic that are to be opened or configured. */
struct local_work {
    struct mr_list link;
    uint64_t       number;
    struct mr_uuid topic_id;
    uint32_t       cursor;    /* partitions below it have been looked at */
    uint32_t       in_flight; /* of this work */
    bool           is_configure;
};

struct local_drop {
    struct mr_list       link;
    struct mr_table_node by_name;
    uint64_t             number;
    struct mr_meta_gone *gone;
    uint32_t             cursor;
    uint32_t             in_flight;
};

struct local_open {
    struct mr_control_op callback; /* user: the work */
    struct mr_open_op    op;
    struct mr_log_config config;
    struct mr_uuid       topic_id;
    uint32_t             storage_core;
    int32_t              home; /* the directory that the record names, or MR_LOG_DIR_UNSAID or _OTHER */
    uint32_t             looked; /* that many directories have been looked at beside it */
    char                 name[MR_TOPIC_NAME_MAX + 1];
};

struct local_configure {
    struct mr_control_op   callback;
    struct mr_configure_op op;
    struct mr_log_config   config;
};

struct local_drop_op {
    struct mr_control_op callback; /* user: the drop; NULL: nobody waits */
    struct mr_drop_op    op;
    char                 name[MR_TOPIC_NAME_MAX + 1]; /* of a log that is not open */
};

static void retry_fire(struct mr_control *control, struct mr_now now,
                       struct mr_control_timer *timer);

bool mr_local_logs_init(struct mr_control *control)
{
    struct mr_local_logs *logs = MR_HEAP_NEW(&control->heap, struct mr_local_logs);
    if (logs == NULL) {
        return false;
    }
    control->local_logs = logs;
    mr_list_init(&logs->work);
    mr_list_init(&logs->drops);
    logs->retry.fire = retry_fire;
    return mr_table_init(&logs->dropping, &control->heap);
}

/* ---- queueing ---- */

static bool has_replica_here(const struct mr_control        *control,
                             const struct mr_meta_partition *partition)
{
    for (int32_t index = 0; index < partition->replicas.count; index++) {
        if (partition->replicas.ids[index] == control->node_id) {
            return partition->is_present;
        }
    }
    return false;
}

static bool work_add(struct mr_control *control, const struct mr_meta_topic *topic,
                     bool is_configure)
{
    struct mr_local_logs *logs = control->local_logs;
    struct local_work    *work = MR_HEAP_NEW(&control->heap, struct local_work);
    if (work == NULL) {
        return false;
    }
    work->number = ++logs->number;
    work->topic_id = topic->id;
    work->is_configure = is_configure;
    mr_list_add_tail(&logs->work, &work->link);
    return true;
}

static void retry_later(struct mr_control *control)
{
    struct mr_local_logs *logs = control->local_logs;
    if (logs->retry.timer.place == 0 && mr_control_has_timer_room(control) && !logs->is_stopped) {
        mr_timer_set(&control->timers, &logs->retry.timer, mr_deadline_ms(control->now.mono_ns, RETRY_MS));
    }
}

/* Partitions that need a log and have none yet become QUEUED. */
static void follow_topic(struct mr_control *control, struct mr_meta_topic *topic)
{
    uint32_t queued = 0;
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        struct mr_meta_partition *partition = &topic->partitions[index];
        if ((partition->log_state == MR_META_LOG_CLOSED ||
             partition->log_state == MR_META_LOG_FAILED) &&
            has_replica_here(control, partition)) {
            int32_t home = mr_log_dirs_home(control, partition);
            partition->storage_core = mr_log_dirs_core(control, home > 0 ? (uint32_t)home : 0, topic->name, index);
            partition->log_state = MR_META_LOG_QUEUED;
            queued++;
        }
    }
    if (queued > 0 && !work_add(control, topic, false)) {
        for (uint32_t index = 0; index < topic->partition_count; index++) {
            if (topic->partitions[index].log_state == MR_META_LOG_QUEUED) {
                topic->partitions[index].log_state = MR_META_LOG_FAILED;
            }
        }
        retry_later(control);
        return;
    }
    if (queued > 0 && topic->image == NULL && control->phase == MR_PHASE_SERVING) {
        char id[MR_UUID_TEXT + 1];
        mr_uuid_text(&topic->id, id);
        mr_log(control->log, MR_LOG_INFO, "topic created topic=%.*s partitions=%u id=%s",
               (int)topic->name.len, topic->name.data, topic->partition_count, id);
    }
    topic->opening += queued;
    if (topic->image != NULL) {
        struct mr_log_config config;
        mr_images_log_config(control->images, control->meta, topic, &config);
        if (topic->is_config_due || memcmp(&config, &topic->image->config, sizeof config) != 0) {
            topic->is_config_due = !work_add(control, topic, true);
        }
        if (topic->is_config_due) {
            retry_later(control);
        }
    }
}

static void follow_gone(struct mr_control *control, struct mr_meta_gone *gone)
{
    struct mr_local_logs *logs = control->local_logs;
    struct local_drop    *drop = MR_HEAP_NEW(&control->heap, struct local_drop);
    if (drop == NULL) {
        mr_control_fail(control, "no memory to delete a topic");
        return;
    }
    if (gone->image != NULL) {
        mr_images_remove(control->images, gone->image);
    }
    if (control->phase == MR_PHASE_SERVING) {
        mr_log(control->log, MR_LOG_INFO, "topic deleted topic=%.*s partitions=%u",
               (int)gone->name.len, gone->name.data, gone->partition_count);
    }
    drop->number = ++logs->number;
    drop->gone = gone;
    mr_list_add_tail(&logs->drops, &drop->link);
    mr_table_add(&logs->dropping, &drop->by_name, mr_hash_str(&control->hash_key, gone->name));
}

uint64_t mr_local_logs_follow(struct mr_control *control, struct mr_now now)
{
    struct mr_meta *meta = control->meta;
    struct mr_list *link;
    (void)now;
    if (meta->is_defaults_changed) {
        meta->is_defaults_changed = false;
        mr_images_defaults_changed(control->images);
        for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
             topic = mr_meta_topic_walk(meta, topic)) {
            mr_meta_topic_changed(meta, topic);
        }
    }
    while ((link = mr_list_pop(&meta->gone)) != NULL) {
        follow_gone(control, MR_LIST_ENTRY(link, struct mr_meta_gone, link));
    }
    MR_LIST_EACH(each, &meta->changed)
    {
        follow_topic(control, MR_LIST_ENTRY(each, struct mr_meta_topic, changed));
    }
    return control->local_logs->number;
}

bool mr_local_logs_done_to(const struct mr_local_logs *logs, uint64_t number)
{
    const struct local_work *work = MR_LIST_ENTRY(logs->work.next, struct local_work, link);
    const struct local_drop *drop = MR_LIST_ENTRY(logs->drops.next, struct local_drop, link);
    return (mr_list_is_empty(&logs->work) || work->number > number) &&
           (mr_list_is_empty(&logs->drops) || drop->number > number);
}

void mr_local_logs_stop(struct mr_control *control)
{
    struct mr_local_logs *logs = control->local_logs;
    logs->is_stopped = true;
    mr_timer_cancel(&control->timers, &logs->retry.timer);
}

/* ---- answers ---- */

static void work_answered(struct mr_control *control, struct local_work *work)
{
    struct mr_local_logs *logs = control->local_logs;
    mr_assert(work->in_flight > 0 && logs->in_flight > 0);
    work->in_flight--;
    logs->in_flight--;
}

static bool drop_send(struct mr_control *control, struct local_drop *drop, uint32_t storage_core,
                      uint64_t log_id);
static bool drop_send_by_name(struct mr_control *control, struct local_drop *drop, uint32_t storage_core,
                              struct mr_str name, const struct mr_uuid *topic_id, uint32_t partition);
static void open_submit(struct mr_control *control, struct local_open *open, uint32_t dir);

/* The record names no directory that is served, or the log lies in none of those that are. */
static void open_offline(struct mr_control *control, struct mr_meta_topic *topic, struct mr_meta_partition *partition,
                         int32_t home)
{
    bool is_here = home >= 0;
    partition->log_state = MR_META_LOG_OFFLINE;
    partition->log_id = is_here ? UINT64_MAX : 0; /* no log's: the core is offline and does not look */
    topic->opening--;
    mr_meta_topic_changed(control->meta, topic);
    mr_log(control->log, MR_LOG_ERROR, "a log is not served topic=%.*s partition=%u why=%s", (int)topic->name.len,
           topic->name.data, (uint32_t)(partition - topic->partitions),
           is_here ? "its log directory is offline"
                   : "its record names a log directory that is not one of log.dirs, and no other has it");
}

/* The log is not in the directory that was asked: the next one, or where it is to be made. False: nowhere. */
static bool open_elsewhere(struct mr_control *control, struct local_open *open)
{
    const struct mr_log_dirs *all = control->log_dirs;
    while (open->looked < all->count) {
        uint32_t dir = open->looked++;
        if (!all->dirs[dir].is_offline && (int32_t)dir != open->home) {
            open_submit(control, open, dir);
            return true;
        }
    }
    if (open->home == MR_LOG_DIR_OTHER) {
        return false;
    }
    open->op.is_search = false;
    open_submit(control, open, open->home >= 0 ? (uint32_t)open->home : mr_log_dirs_place(control));
    return true;
}

struct local_settle {
    struct mr_control_op callback;
    struct mr_move_op    op;
};

static void settle_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct local_settle *settle = (struct local_settle *)(void *)callback;
    (void)now;
    MR_HEAP_DELETE(&control->heap, settle);
}

/* Without memory the mark stays until the next start: it is only looked at when the record names another directory. */
static void settle_send(struct mr_control *control, uint32_t storage_core, uint64_t log_id)
{
    struct local_settle *settle = MR_HEAP_NEW(&control->heap, struct local_settle);
    if (settle != NULL) {
        settle->callback.done = settle_done;
        settle->op = (struct mr_move_op){.op.kind = MR_STORAGE_MOVE, .log_id = log_id, .step = MR_MOVE_SETTLE};
        mr_control_submit(control, storage_core, &settle->op.op, &settle->callback);
    }
}

static void open_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct mr_local_logs *logs = control->local_logs;
    struct local_open    *open = (struct local_open *)(void *)callback;
    struct mr_meta_topic *topic = mr_meta_topic_by_id(control->meta, &open->topic_id);
    enum mr_err           err = open->op.op.err;
    uint32_t              index = (uint32_t)open->op.partition;
    int32_t               dir = (int32_t)mr_endpoint_dir(control->endpoints, open->storage_core);
    /* In another directory than its own, what is there may be a deleted topic's of that name, or an unfinished copy. */
    bool is_anothers = dir != open->home && (err == MR_ERR_EXISTS || (err == MR_OK && open->op.is_unfinished));
    bool is_missing = open->op.is_search && (err == MR_ERR_NOT_FOUND || is_anothers);
    (void)now;
    if (topic != NULL && is_missing && open_elsewhere(control, open)) {
        return;
    }
    work_answered(control, callback->user);
    if (topic == NULL) {
        /* Removed meanwhile: its log, or as much as there is of it, has nobody who would drop it. */
        if (err == MR_OK) {
            (void)drop_send(control, NULL, open->storage_core, open->op.log_id);
        } else {
            (void)drop_send_by_name(control, NULL, open->storage_core, mr_str(open->name), &open->topic_id, index);
        }
    } else if (is_missing) {
        open_offline(control, topic, &topic->partitions[index], open->home);
    } else {
        struct mr_meta_partition *partition = &topic->partitions[index];
        mr_assert(topic->opening > 0 && partition->log_state == MR_META_LOG_OPENING);
        topic->opening--;
        mr_meta_topic_changed(control->meta, topic);
        if (err == MR_OK) {
            partition->log_state = MR_META_LOG_OPEN;
            partition->log_id = open->op.log_id;
            partition->storage_core = open->storage_core;
            if (dir != open->home) {
                (void)mr_log_dirs_assign(control, &topic->id, index, (uint32_t)dir);
            } else if (open->op.is_unfinished) { /* a move was decided, and we ended */
                settle_send(control, open->storage_core, open->op.log_id);
            }
        } else {
            partition->log_state = MR_META_LOG_FAILED;
            logs->failed++;
            mr_log(control->log, MR_LOG_ERROR,
                   "a log cannot be opened, it is tried again topic=%.*s partition=%u why=%s",
                   (int)topic->name.len, topic->name.data, index, mr_err_text(err));
            retry_later(control);
        }
    }
    MR_HEAP_DELETE(&control->heap, open);
}

void mr_local_logs_again(struct mr_control *control)
{
    struct mr_meta *meta = control->meta;
    control->local_logs->failed = 0;
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        bool is_due = topic->is_config_due;
        for (uint32_t index = 0; !is_due && index < topic->partition_count; index++) {
            is_due = topic->partitions[index].log_state == MR_META_LOG_FAILED;
        }
        if (is_due) {
            mr_meta_topic_changed(meta, topic);
            follow_topic(control, topic);
        }
    }
}

static void retry_fire(struct mr_control *control, struct mr_now now,
                       struct mr_control_timer *timer)
{
    (void)now;
    (void)timer;
    mr_local_logs_again(control);
}

static void configure_done(struct mr_control *control, struct mr_now now,
                           struct mr_control_op *callback)
{
    struct local_configure *configure = (struct local_configure *)(void *)callback;
    (void)now;
    if (configure->op.op.err != MR_OK && configure->op.op.err != MR_ERR_UNKNOWN_LOG) {
        mr_log(control->log, MR_LOG_ERROR, "a log does not take its new config log=%llx why=%s",
               (unsigned long long)configure->op.log_id, mr_err_text(configure->op.op.err));
    }
    work_answered(control, callback->user);
    MR_HEAP_DELETE(&control->heap, configure);
}

static void drop_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct local_drop_op *op = (struct local_drop_op *)(void *)callback;
    struct local_drop    *drop = callback->user;
    (void)now;
    bool is_anothers = op->name[0] != '\0' && op->op.op.err == MR_ERR_EXISTS; /* that is why it could not be opened */
    if (op->op.op.err != MR_OK && !is_anothers) {
        mr_log(control->log, MR_LOG_ERROR, "a log cannot be deleted topic=%s log=%llx why=%s", op->name,
               (unsigned long long)op->op.log_id, mr_err_text(op->op.op.err));
    }
    control->local_logs->in_flight--;
    if (drop != NULL) {
        drop->in_flight--;
    }
    MR_HEAP_DELETE(&control->heap, op);
}

/* ---- sending ---- */

static bool open_send(struct mr_control *control, struct local_work *work,
                      struct mr_meta_topic *topic, uint32_t index)
{
    struct mr_local_logs     *logs = control->local_logs;
    struct mr_meta_partition *partition = &topic->partitions[index];
    int32_t                   home = mr_log_dirs_home(control, partition);
    if (home >= 0 && control->log_dirs->dirs[home].is_offline) {
        open_offline(control, topic, partition, home);
        return true;
    }
    struct local_open *open = MR_HEAP_NEW(&control->heap, struct local_open);
    if (open == NULL) {
        return false;
    }
    mr_assert(topic->name.len <= MR_TOPIC_NAME_MAX);
    open->callback = (struct mr_control_op){.done = open_done, .user = work};
    open->topic_id = topic->id;
    open->home = home;
    memcpy(open->name, topic->name.data, (size_t)topic->name.len);
    mr_images_log_config(control->images, control->meta, topic, &open->config);
    open->op = (struct mr_open_op){
        .op.kind = MR_STORAGE_OPEN,
        .topic = {.data = open->name, .len = topic->name.len},
        .topic_id = topic->id,
        .partition = (int32_t)index,
        .leader_epoch = partition->leader_epoch,
        .config = &open->config,
        .is_internal = mr_log_config_is_internal(topic->name),
        .is_search = control->log_dirs->count > 1,
        .may_block = control->phase == MR_PHASE_OPEN,
    };
    partition->log_state = MR_META_LOG_OPENING;
    logs->in_flight++;
    work->in_flight++;
    if (home >= 0) {
        open_submit(control, open, (uint32_t)home);
    } else if (!open_elsewhere(control, open)) {
        mr_unreachable("a search that has not begun has the first directory to look at");
    }
    return true;
}

static void open_submit(struct mr_control *control, struct local_open *open, uint32_t dir)
{
    open->storage_core = mr_log_dirs_core(control, dir, mr_str(open->name), (uint32_t)open->op.partition);
    mr_control_submit(control, open->storage_core, &open->op.op, &open->callback);
}

static bool configure_send(struct mr_control *control, struct local_work *work,
                           struct mr_meta_topic *topic, const struct mr_meta_partition *partition)
{
    struct local_configure *configure = MR_HEAP_NEW(&control->heap, struct local_configure);
    if (configure == NULL) {
        return false;
    }
    configure->callback = (struct mr_control_op){.done = configure_done, .user = work};
    mr_images_log_config(control->images, control->meta, topic, &configure->config);
    configure->op = (struct mr_configure_op){
        .op.kind = MR_STORAGE_CONFIGURE,
        .log_id = partition->log_id,
        .config = &configure->config,
        .leader_epoch = -1,
    };
    control->local_logs->in_flight++;
    work->in_flight++;
    mr_control_submit(control, partition->storage_core, &configure->op.op, &configure->callback);
    return true;
}

static struct local_drop_op *drop_op_new(struct mr_control *control, struct local_drop *drop)
{
    struct local_drop_op *op = MR_HEAP_NEW(&control->heap, struct local_drop_op);
    if (op != NULL) {
        op->callback = (struct mr_control_op){.done = drop_done, .user = drop};
        op->op = (struct mr_drop_op){.op.kind = MR_STORAGE_DROP};
        control->local_logs->in_flight++;
        if (drop != NULL) {
            drop->in_flight++;
        }
    }
    return op;
}

static bool drop_send(struct mr_control *control, struct local_drop *drop, uint32_t storage_core,
                      uint64_t log_id)
{
    struct local_drop_op *op = drop_op_new(control, drop);
    if (op == NULL) {
        return false;
    }
    op->op.log_id = log_id;
    mr_control_submit(control, storage_core, &op->op.op, &op->callback);
    return true;
}

/* A log that could not be opened has no id, but perhaps a directory, which would be in the way of the next topic. */
static bool drop_send_by_name(struct mr_control *control, struct local_drop *drop, uint32_t storage_core,
                              struct mr_str name, const struct mr_uuid *topic_id, uint32_t partition)
{
    struct local_drop_op *op = drop_op_new(control, drop);
    if (op == NULL) {
        return false;
    }
    memcpy(op->name, name.data, (size_t)name.len);
    op->op.topic = (struct mr_str){.data = op->name, .len = name.len};
    op->op.topic_id = *topic_id;
    op->op.partition = (int32_t)partition;
    mr_control_submit(control, storage_core, &op->op.op, &op->callback);
    return true;
}

static bool name_is_dropping(const struct mr_control *control, struct mr_str name, uint64_t before)
{
    uint64_t hash = mr_hash_str(&control->hash_key, name);
    for (struct mr_table_node *node = mr_table_first(&control->local_logs->dropping, hash);
         node != NULL; node = mr_table_next(node)) {
        const struct local_drop *drop = MR_TABLE_ENTRY(node, struct local_drop, by_name);
        if (drop->number < before && mr_str_equal(drop->gone->name, name)) {
            return true;
        }
    }
    return false;
}

bool mr_local_logs_is_dropping(const struct mr_control *control, struct mr_str name)
{
    return name_is_dropping(control, name, UINT64_MAX);
}

/* Returns false when no more can be sent now. */
static bool work_send(struct mr_control *control, struct local_work *work, uint32_t *budget)
{
    struct mr_local_logs *logs = control->local_logs;
    struct mr_meta_topic *topic = mr_meta_topic_by_id(control->meta, &work->topic_id);
    if (topic == NULL) {
        work->cursor = UINT32_MAX;
        return true;
    }
    if (name_is_dropping(control, topic->name, work->number)) {
        return true;
    }
    for (; work->cursor < topic->partition_count; work->cursor++) {
        struct mr_meta_partition *partition = &topic->partitions[work->cursor];
        bool is_open = !work->is_configure && partition->log_state == MR_META_LOG_QUEUED;
        bool is_configure = work->is_configure && partition->log_state == MR_META_LOG_OPEN;
        if (!is_open && !is_configure) {
            continue;
        }
        if (*budget == 0 || logs->in_flight >= LOCAL_OPS) {
            return false;
        }
        bool is_sent = is_open ? open_send(control, work, topic, work->cursor)
                               : configure_send(control, work, topic, partition);
        if (!is_sent) {
            return false;
        }
        --*budget;
    }
    work->cursor = UINT32_MAX;
    return true;
}

static bool drop_pump(struct mr_control *control, struct local_drop *drop, uint32_t *budget)
{
    struct mr_local_logs *logs = control->local_logs;
    struct mr_meta_gone  *gone = drop->gone;
    for (; drop->cursor < gone->partition_count; drop->cursor++) {
        enum mr_meta_log_state state = gone->logs[drop->cursor].log_state;
        if (state == MR_META_LOG_CLOSED || state == MR_META_LOG_OPENING || state == MR_META_LOG_OFFLINE) {
            continue; /* its OPEN is under way and drops it when it comes back; or nobody can */
        }
        if (*budget == 0 || logs->in_flight >= LOCAL_OPS) {
            return false;
        }
        bool is_sent = state == MR_META_LOG_OPEN
                           ? drop_send(control, drop, gone->logs[drop->cursor].storage_core, gone->logs[drop->cursor].log_id)
                           : drop_send_by_name(control, drop, gone->logs[drop->cursor].storage_core, gone->name, &gone->id,
                                               drop->cursor);
        if (!is_sent) {
            return false;
        }
        --*budget;
    }
    return true;
}

static void gone_free(struct mr_control *control, struct mr_meta_gone *gone)
{
    mr_heap_str_free(&control->heap, &gone->name);
    mr_heap_free(&control->heap, gone, sizeof *gone + sizeof gone->logs[0] * gone->partition_count);
}

bool mr_local_logs_turn(struct mr_control *control, struct mr_now now)
{
    struct mr_local_logs *logs = control->local_logs;
    uint32_t              budget = SLICE_OPS;
    (void)now;
    if (logs->is_stopped) {
        return false;
    }
    MR_LIST_EACH_SAFE(link, after, &logs->drops)
    {
        struct local_drop *drop = MR_LIST_ENTRY(link, struct local_drop, link);
        if (!drop_pump(control, drop, &budget)) {
            break;
        }
        if (drop->in_flight == 0) {
            mr_list_remove(link);
            mr_table_remove(&logs->dropping, &drop->by_name);
            gone_free(control, drop->gone);
            MR_HEAP_DELETE(&control->heap, drop);
        }
    }
    MR_LIST_EACH_SAFE(link, after, &logs->work)
    {
        struct local_work *work = MR_LIST_ENTRY(link, struct local_work, link);
        if (work->cursor != UINT32_MAX && !work_send(control, work, &budget)) {
            break;
        }
        if (work->cursor == UINT32_MAX && work->in_flight == 0) {
            mr_list_remove(link);
            MR_HEAP_DELETE(&control->heap, work);
        }
    }
    return budget != SLICE_OPS;
}
