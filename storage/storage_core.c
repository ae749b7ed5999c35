/*
 * storage_core: one turn of a storage core: mail in, completions, journal, background slice, mail out.
 */
#include "storage_core.h"

#include "log/cleaner.h"
#include "log/scrub.h"
#include "log/side_read.h"

#include "millrace/base/bug.h"

#define REAP_MAX  64
#define MAIL_MAX  256
#define TASKS_KEPT 32 /* for closing files, whatever happens */
#define READ_FAILED_EVERY_NS (10 * MR_NS_PER_S)
#define PARKED_NS (20 * MR_NS_PER_MS) /* room comes with a completion; the clock is for what has none */

static uint32_t watch_count(const struct mr_storage_plan *plan)
{
    uint32_t count = 1024;
    while (count < plan->logs_max * 4 && count < (1u << 20)) {
        count *= 2;
    }
    return count;
}

static uint64_t cold_bytes(const struct mr_storage_plan *plan)
{
    /* Also the scratch of recovery, which needs it for 10,000 logs. */
    uint64_t need = mr_journal_recover_bytes(plan->logs_max);
    return plan->cold_bytes > need ? plan->cold_bytes : need;
}

size_t mr_storage_core_bytes(const struct mr_storage_plan *plan)
{
    uint32_t segments = plan->segments_max < plan->logs_max ? plan->logs_max : plan->segments_max;
    return sizeof(struct mr_storage_core) + mr_page_pool_bytes(plan->cache_bytes) +
           mr_page_pool_bytes(cold_bytes(plan)) +
           (sizeof(struct mr_partition) + 16) * (size_t)plan->logs_max +
           (sizeof(struct mr_segment) + 16) * (size_t)segments +
           (sizeof(struct mr_watch) + 16 + sizeof(void *)) * (size_t)watch_count(plan) +
           (sizeof(struct mr_task) + 64) * (size_t)MR_TASKS_MAX +
           (sizeof(struct mr_dir_grave) + 16) * (size_t)plan->logs_max +
           2 * sizeof(struct mr_map_slot) * 4 * (size_t)(plan->logs_max + 8) +
           2 * mr_checkpoint_bytes(plan->logs_max) + mr_cleaner_bytes(plan) + mr_scrub_bytes(plan) +
           mr_side_cache_bytes(plan) + mr_producers_bytes(plan->producers_max) +
           mr_txn_pools_bytes(plan) + mr_journal_bytes() + MR_SCRATCH_BYTES + (64u << 10);
}

static void store_cb(void *context, struct mr_journal_log *log, struct mr_journal_state_out *out)
{
    (void)context;
    mr_partition_store(MR_LIST_ENTRY(log, struct mr_partition, jlog), out);
}

static void keep_cb(void *context, void *owner)
{
    (void)context;
    mr_tail_keep(owner);
}

static void let_go_cb(void *context, void *owner)
{
    mr_tail_let_go(context, owner);
}

static void fail_ack(struct mr_storage_core *core, struct mr_storage_op *op)
{
    op->err = MR_ERR_DIR_OFFLINE;
    if (op->kind == MR_STORAGE_APPEND) {
        struct mr_append_op *append = (struct mr_append_op *)(void *)op;
        for (uint32_t index = 0; index < append->entry_count; index++) {
            struct mr_append_entry *entry = &append->entries[index];
            if (entry->err == MR_OK || entry->err == MR_AGAIN) {
                entry->err = MR_ERR_DIR_OFFLINE;
                entry->base_offset = -1;
            }
        }
    } else if (op->kind == MR_STORAGE_DELETE_RECORDS) {
        struct mr_delete_records_op *deletes = (struct mr_delete_records_op *)(void *)op;
        for (uint32_t index = 0; index < deletes->entry_count; index++) {
            struct mr_delete_records_entry *entry = &deletes->entries[index];
            if (entry->err == MR_OK || entry->err == MR_AGAIN) {
                entry->err = MR_ERR_DIR_OFFLINE;
                entry->low_watermark = -1;
            }
        }
    }
    mr_core_answer(core, op);
}

static void fail_acks(struct mr_storage_core *core, struct mr_list *list)
{
    struct mr_list *link;
    while ((link = mr_list_pop(list)) != NULL) {
        fail_ack(core, MR_LIST_ENTRY(link, struct mr_storage_op, link));
    }
}

static void offline_cb(void *context, enum mr_err err, int32_t os_errno, const char *what)
{
    struct mr_storage_core *core = context;
    struct mr_plane_msg     msg = {.kind = MR_PLANE_OFFLINE, .u.err = (int32_t)err};
    (void)os_errno; /* the journal has said it, with the directory */
    (void)what;
    core->is_offline = true;
    /* Before the answers that fail for it, so that control knows the reason first. */
    mr_port_send(core->port, mr_endpoint_control(core->params.endpoints), &msg);
    /* J7: nothing is acknowledged after the first error. */
    fail_acks(core, &core->acks_durable);
    fail_acks(core, &core->acks_written);
    fail_acks(core, &core->parked);
    core->part_open = NULL;
    MR_LIST_EACH(link, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        p->part_of = NULL;
        mr_watch_fire(core, p, true);
    }
}

struct mr_storage_core *mr_storage_core_init(const struct mr_storage_params *params)
{
    struct mr_arena               *arena = params->arena;
    const struct mr_storage_plan  *plan = params->plan;
    struct mr_storage_core        *core = mr_arena_get(arena, sizeof *core, 64);
    core->params = *params;
    core->plan = *plan;
    core->params.plan = &core->plan;
    core->disk = params->disk;
    core->port = params->port;
    core->log = params->log;
    core->root = MR_DISK_NONE;
    core->first = core;
    core->retry_at_ns = MR_NEVER;
    core->prng.state = params->seed;
    mr_page_pool_init(&core->cache, arena, plan->cache_bytes);
    mr_page_pool_init(&core->cold, arena, cold_bytes(plan));
    mr_pool_init(&core->partition_pool, arena, sizeof(struct mr_partition), plan->logs_max, 16);
    mr_pool_init(&core->segment_pool, arena, sizeof(struct mr_segment),
                 plan->segments_max < plan->logs_max ? plan->logs_max : plan->segments_max, 16);
    mr_pool_init(&core->watch_pool, arena, sizeof(struct mr_watch), watch_count(plan), 16);
    mr_pool_init(&core->grave_pool, arena, sizeof(struct mr_dir_grave), plan->logs_max, 16);
    mr_pool_init(&core->task_pool, arena, sizeof(struct mr_task), MR_TASKS_MAX, 16);
    mr_map_init(&core->by_log_id, arena, plan->logs_max);
    mr_map_init(&core->by_name, arena, plan->logs_max);
    mr_checkpoint_init(&core->log_starts, arena, plan->logs_max);
    mr_checkpoint_init(&core->clean_ends, arena, plan->logs_max);
    core->cleaner = mr_cleaner_init(core, arena);
    core->scrub = mr_scrub_init(core, arena);
    core->sides = mr_side_cache_init(core, arena);
    mr_producers_init(&core->producers, arena, plan->producers_max);
    mr_txn_pools_init(&core->txns, arena, plan);
    core->watch_mask = watch_count(plan) - 1;
    core->watch_buckets = MR_ARENA_GET(arena, struct mr_watch *, watch_count(plan));
    mr_list_init(&core->partitions);
    mr_list_init(&core->acks_durable);
    mr_list_init(&core->acks_written);
    mr_list_init(&core->parked);
    mr_list_init(&core->again);
    mr_list_init(&core->undurable);
    mr_list_init(&core->dirty);
    mr_list_init(&core->demux_ready);
    mr_list_init(&core->clean_runs);
    mr_list_init(&core->open_files);
    mr_list_init(&core->retry_tasks);
    mr_list_init(&core->cold_tasks);
    mr_list_init(&core->renaming);
    mr_list_init(&core->stat_waiting);
    mr_list_init(&core->gone);
    mr_list_init(&core->graves);
    core->scratch = mr_arena_get_fresh(arena, MR_SCRATCH_BYTES, MR_PAGE_BYTES);
    static const struct mr_journal_ops ops = {
        .store = store_cb, .offline = offline_cb, .keep = keep_cb, .let_go = let_go_cb};
    struct mr_journal_params           journal = {
                  .disk = core->disk,
                  .log = core->log,
                  .trace = params->trace,
                  .ops = &ops,
                  .context = core,
                  .log_dir = params->log_dir,
                  .ring = params->core,
                  .file_bytes = plan->journal_file_bytes,
                  .files_max = plan->journal_files_max,
                  .reserve_bytes = plan->disk_reserve_bytes,
                  .seed = params->seed,
    };
    core->journal = mr_journal_init(arena, &journal);
    return core;
}

/* ---- Services for the files under log/ ---- */

void mr_core_submit(struct mr_storage_core *core, struct mr_io *io)
{
    io->op.user = io;
    mr_disk_submit(core->disk, &io->op);
}

void mr_core_answer(struct mr_storage_core *core, struct mr_storage_op *op)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_DONE, .u.op = op};
    if (op->kind == MR_STORAGE_APPEND && mr_bug_each("forget-an-answer", 40)) {
        return;
    }
    mr_trace(core->params.trace, MR_EVENT_op_done, op->kind, op->err);
    mr_port_send(core->port, op->from, &msg);
}

struct mr_partition *mr_core_find(struct mr_storage_core *core, uint64_t log_id)
{
    return log_id == 0 ? NULL : mr_map_find(&core->by_log_id, log_id);
}

void mr_core_ack_later(struct mr_storage_core *core, struct mr_storage_op *op, uint64_t seq,
                       bool is_written_enough)
{
    struct mr_list *acks = is_written_enough ? &core->acks_written : &core->acks_durable;
    uint64_t        done = is_written_enough ? mr_journal_written_seq(core->journal)
                                             : mr_journal_durable_seq(core->journal);
    op->seq = seq;
    if (seq <= done && op->kind != MR_STORAGE_DROP) {
        mr_core_answer(core, op); /* a duplicate of something flushed long ago: no completion will come for it */
        return;
    }
    if (core->is_offline) { /* since a part of it got its place: that commit never ends */
        fail_ack(core, op);
        return;
    }
    /* Almost always the last; what concerns something older goes further to the front. */
    struct mr_list *after = acks->prev;
    while (after != acks && MR_LIST_ENTRY(after, struct mr_storage_op, link)->seq > seq) {
        after = after->prev;
    }
    mr_list_add_head(after, &op->link);
}

enum mr_err mr_core_disk(struct mr_storage_core *core, struct mr_disk_op *op)
{
    return mr_disk_run(core->disk, op);
}

void mr_core_fail(struct mr_storage_core *core, const struct mr_disk_op *op, const char *what)
{
    mr_journal_fail(core->journal, op->err, op->os_errno, what);
    core->is_offline = true;
}

void mr_core_read_failed(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_disk_op *op)
{
    if (mr_log_may(&core->brake_unread, core->now.mono_ns, READ_FAILED_EVERY_NS)) {
        mr_log(core->log, MR_LOG_ERROR, "a segment cannot be read dir=%s segment=%lld pos=%llu bytes=%u errno=%d",
               segment->partition->dir_name, (long long)segment->base, (unsigned long long)op->pos, op->len, op->os_errno);
    }
    if (segment->is_seal_done) {
        mr_scrub_want(core, segment);
    }
}

struct mr_task *mr_core_task(struct mr_storage_core *core, struct mr_partition *partition,
                             bool (*step)(struct mr_storage_core *, struct mr_task *))
{
    if (step != NULL && (core->task_pool.used + TASKS_KEPT > core->task_pool.capacity ||
                         (core->task_pool.used > 0 && mr_fail(MR_FAIL_tasks)))) {
        return NULL;
    }
    struct mr_task *task = mr_pool_get(&core->task_pool);
    if (task != NULL) {
        memset(task, 0, offsetof(struct mr_task, name));
        task->step = step;
        task->partition = partition;
        task->file = MR_DISK_NONE;
        task->dir = MR_DISK_NONE;
        mr_list_init(&task->link);
        if (partition != NULL) {
            partition->task_count++;
        }
    }
    return task;
}

static void task_end(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_storage_op *op = task->is_op_due ? task->op : NULL;
    if (task->partition != NULL) {
        task->partition->task_count--;
    }
    mr_pool_put(&core->task_pool, task);
    core->is_append_due = true;
    if (op != NULL && op->kind == MR_STORAGE_READ) {
        mr_read_continue(core, (struct mr_read_op *)(void *)op);
    } else if (op != NULL) {
        mr_list_offsets_continue(core, (struct mr_list_offsets_op *)(void *)op);
    }
}

static void task_step(struct mr_storage_core *core, struct mr_task *task)
{
    if (!task->step(core, task)) {
        task_end(core, task);
    } else if (!task->is_waiting) {
        mr_core_submit(core, &task->io);
    }
}

static void task_done(struct mr_storage_core *core, struct mr_io *io)
{
    task_step(core, MR_LIST_ENTRY(io, struct mr_task, io));
}

void mr_core_task_start(struct mr_storage_core *core, struct mr_task *task)
{
    task->io.done = task_done;
    if (core->is_blocking) {
        (void)mr_core_task_run(core, task);
        return;
    }
    task_step(core, task);
}

enum mr_err mr_core_task_run(struct mr_storage_core *core, struct mr_task *task)
{
    while (task->step(core, task)) {
        if (task->is_waiting) { /* blocking, there is nothing to wait for but a file, opened meanwhile */
            task->is_waiting = false;
            mr_list_remove(&task->link);
            continue;
        }
        (void)mr_disk_run(core->disk, &task->io.op);
    }
    enum mr_err err = task->err;
    task_end(core, task);
    return err;
}

void mr_core_task_here(struct mr_storage_core *core, struct mr_task *task)
{
    if (core->disk->ops->run == NULL) {
        mr_core_task_start(core, task);
        return;
    }
    while (task->step(core, task)) {
        mr_assert(!task->is_waiting);
        core->disk->ops->run(core->disk, &task->io.op);
    }
    task_end(core, task);
}

bool mr_core_task_wait(struct mr_storage_core *core, struct mr_task *task, int64_t ms)
{
    task->is_waiting = true;
    task->wait_until_ns = ms == 0 ? 0 : mr_deadline_ms(core->now.mono_ns, ms);
    mr_list_add_tail(&core->retry_tasks, &task->link);
    core->retry_at_ns = mr_earlier(core->retry_at_ns, task->wait_until_ns);
    return true;
}

/* Each that waits now once, when its time has come; what has to wait on is behind the mark. */
static void retry_tasks(struct mr_storage_core *core)
{
    struct mr_list mark;
    if (mr_list_is_empty(&core->retry_tasks) || core->now.mono_ns < core->retry_at_ns) {
        return;
    }
    core->retry_at_ns = MR_NEVER;
    mr_list_init(&mark);
    mr_list_add_tail(&core->retry_tasks, &mark);
    while (core->retry_tasks.next != &mark) {
        struct mr_task *task = MR_LIST_ENTRY(mr_list_pop(&core->retry_tasks), struct mr_task, link);
        if (core->now.mono_ns < task->wait_until_ns && !core->is_offline) {
            mr_list_add_tail(&core->retry_tasks, &task->link);
            core->retry_at_ns = mr_earlier(core->retry_at_ns, task->wait_until_ns);
            continue;
        }
        task->is_waiting = false;
        task_step(core, task);
    }
    mr_list_remove(&mark);
}

/* What did not fit into the last turn, before what came since. */
static void go_on_cold(struct mr_storage_core *core)
{
    core->cold_left = MR_COLD_TURN_BYTES;
    core->is_cold_turn = true;
    while (core->cold_left > 0 && !mr_list_is_empty(&core->cold_tasks)) {
        struct mr_task *task = MR_LIST_ENTRY(mr_list_pop(&core->cold_tasks), struct mr_task, link);
        task->is_waiting = false;
        task_step(core, task);
    }
    core->is_cold_turn = false;
}

/* ---- The turn ---- */

static void op_start(struct mr_storage_core *core, struct mr_storage_op *op, uint32_t from)
{
    op->from = from;
    op->err = MR_OK;
    mr_trace(core->params.trace, MR_EVENT_op_taken, op->kind, from);
    mr_list_init(&op->link);
    switch (op->kind) {
    case MR_STORAGE_APPEND:
        mr_append_op_start(core, (struct mr_append_op *)(void *)op);
        return;
    case MR_STORAGE_READ:
        mr_read_op_start(core, (struct mr_read_op *)(void *)op);
        return;
    case MR_STORAGE_LIST_OFFSETS:
        mr_list_offsets_start(core, (struct mr_list_offsets_op *)(void *)op);
        return;
    case MR_STORAGE_EPOCH_END:
        mr_epoch_end_start(core, (struct mr_epoch_end_op *)(void *)op);
        return;
    case MR_STORAGE_TXN_CHECK:
        mr_txn_check_start(core, (struct mr_txn_check_op *)(void *)op);
        return;
    case MR_STORAGE_PRODUCERS:
        mr_producers_start(core, (struct mr_producers_op *)(void *)op);
        return;
    case MR_STORAGE_DELETE_RECORDS:
        mr_delete_records_start(core, (struct mr_delete_records_op *)(void *)op);
        return;
    case MR_STORAGE_RECOVER:
        mr_recover_start(core, (struct mr_recover_op *)(void *)op);
        return;
    case MR_STORAGE_OPEN:
        mr_log_open_start(core, (struct mr_open_op *)(void *)op);
        return;
    case MR_STORAGE_CONFIGURE:
        mr_configure_start(core, (struct mr_configure_op *)(void *)op);
        return;
    case MR_STORAGE_DROP:
        mr_log_drop_start(core, (struct mr_drop_op *)(void *)op);
        return;
    case MR_STORAGE_LOG_STAT:
        mr_log_stat_start(core, (struct mr_log_stat_op *)(void *)op);
        return;
    case MR_STORAGE_STOP:
        mr_clean_stop_start(core, (struct mr_stop_op *)(void *)op);
        return;
    case MR_STORAGE_MOVE:
        mr_move_start(core, (struct mr_move_op *)(void *)op);
        return;
    case MR_STORAGE_OFFLINE:
        mr_journal_fail(core->journal, MR_ERR_DIR_OFFLINE, 0, "all of the directory");
        mr_core_answer(core, op);
        return;
    }
    op->err = MR_ERR_INVALID;
    mr_core_answer(core, op);
}

void mr_core_again(struct mr_storage_core *core, struct mr_storage_op *op)
{
    mr_list_add_tail(&core->again, &op->link);
}

static void op_again(struct mr_storage_core *core, struct mr_storage_op *op)
{
    switch (op->kind) {
    case MR_STORAGE_READ:
        mr_read_continue(core, (struct mr_read_op *)(void *)op);
        return;
    case MR_STORAGE_LIST_OFFSETS:
        mr_list_offsets_continue(core, (struct mr_list_offsets_op *)(void *)op);
        return;
    case MR_STORAGE_DELETE_RECORDS:
        mr_delete_records_continue(core, (struct mr_delete_records_op *)(void *)op);
        return;
    case MR_STORAGE_DROP: {
        struct mr_drop_op         *drop = (struct mr_drop_op *)(void *)op;
        const struct mr_partition *p = mr_core_find(core, drop->log_id);
        if (p != NULL && p->state == MR_PARTITION_DROPPING) {
            mr_log_drop_ready(core, drop);
            return;
        }
        break;
    }
    case MR_STORAGE_APPEND:
    case MR_STORAGE_EPOCH_END:
    case MR_STORAGE_TXN_CHECK:
    case MR_STORAGE_PRODUCERS:
    case MR_STORAGE_RECOVER:
    case MR_STORAGE_OPEN:
    case MR_STORAGE_CONFIGURE:
    case MR_STORAGE_LOG_STAT:
    case MR_STORAGE_STOP:
    case MR_STORAGE_MOVE:
    case MR_STORAGE_OFFLINE:
        break;
    }
    op_start(core, op, op->from);
}

/* Each that waits now once; what has to wait on is behind the mark. */
static void retry_ops(struct mr_storage_core *core)
{
    if (mr_list_is_empty(&core->again) || core->task_pool.used + 2 * TASKS_KEPT >= core->task_pool.capacity) {
        return;
    }
    struct mr_list mark;
    mr_list_init(&mark);
    mr_list_add_tail(&core->again, &mark);
    while (core->again.next != &mark) {
        op_again(core, MR_LIST_ENTRY(mr_list_pop(&core->again), struct mr_storage_op, link));
    }
    mr_list_remove(&mark);
}

static bool take_mail(struct mr_storage_core *core)
{
    struct mr_plane_msg msg;
    uint32_t            count = 0;
    while (count < MAIL_MAX && mr_port_receive(core->port, &msg)) {
        count++;
        switch (msg.kind) {
        case MR_PLANE_STORAGE_OP:
            op_start(core, msg.u.op, msg.from);
            break;
        case MR_PLANE_RELEASE:
            for (uint32_t index = 0; index < msg.count; index++) {
                mr_tail_release(core, msg.u.pages[index]);
            }
            break;
        case MR_PLANE_WATCH:
            mr_watch_add(core, &msg);
            break;
        case MR_PLANE_UNWATCH:
            mr_watch_remove(core, &msg);
            break;
        default:
            mr_unreachable("mail that storage does not get");
        }
    }
    return count > 0;
}

static void acknowledge(struct mr_storage_core *core, struct mr_list *list, uint64_t seq)
{
    while (!mr_list_is_empty(list)) {
        struct mr_storage_op *op = MR_LIST_ENTRY(list->next, struct mr_storage_op, link);
        if (op->seq > seq) {
            return;
        }
        mr_list_remove(&op->link);
        if (op->kind == MR_STORAGE_DROP) {
            mr_log_drop_ready(core, (struct mr_drop_op *)(void *)op);
        } else {
            mr_core_answer(core, op);
        }
    }
}

bool mr_core_reap(struct mr_storage_core *core)
{
    struct mr_disk_op *done[REAP_MAX];
    uint32_t           count = mr_disk_reap(core->disk, done, REAP_MAX);
    uint64_t           durable = core->journal == NULL ? 0 : mr_journal_durable_seq(core->journal);
    for (uint32_t index = 0; index < count; index++) {
        if (done[index]->user == core->journal) {
            mr_journal_done(core->journal, done[index]);
            continue;
        }
        struct mr_io *io = done[index]->user;
        io->done(core, io);
    }
    if (count > 0 && !core->is_offline) {
        uint64_t written = mr_journal_written_seq(core->journal);
        uint64_t now_durable = mr_journal_durable_seq(core->journal);
        mr_partition_commits(core, written, now_durable);
        acknowledge(core, &core->acks_written, written);
        acknowledge(core, &core->acks_durable, now_durable);
        core->is_append_due |= now_durable != durable;
    }
    return count > 0;
}

bool mr_storage_core_turn(struct mr_storage_core *core, struct mr_now now)
{
    core->now = now;
    mr_trace_turn(core->params.trace, now.mono_ns);
    go_on_cold(core);
    bool was_busy = mr_core_reap(core);
    was_busy |= take_mail(core);
    if (core->stop.op != NULL) {
        if (core->stop.next == NULL) {
            retry_tasks(core); /* a swap waits for readers, and they for files and memory */
        }
        was_busy |= mr_clean_stop_turn(core);
    } else if (core->is_recovered && !core->is_stopped && !core->is_giving) {
        retry_tasks(core);
        if (core->is_append_due && !mr_list_is_empty(&core->parked)) {
            mr_append_retry(core);
        }
        retry_ops(core);
        mr_demux_turn(core);
        mr_retention_turn(core);
        mr_burial_turn(core);
        mr_space_turn(core);
        was_busy |= mr_cleaner_turn(core);
        was_busy |= mr_scrub_turn(core);
        was_busy |= mr_journal_turn(core->journal, now);
        core->is_append_due |= !mr_list_is_empty(&core->parked) && was_busy;
    }
    mr_watch_flush(core);
    return was_busy || !mr_list_is_empty(&core->cold_tasks);
}

struct mr_memory mr_storage_core_spent(const struct mr_storage_core *core)
{
    bool is_spent = core->is_recovered && core->cold.touched == 0;
    return (struct mr_memory){.base = core->cold.memory,
                              .bytes = is_spent ? (size_t)core->cold.page_count * MR_PAGE_BYTES : 0};
}

uint64_t mr_storage_core_deadline_ns(const struct mr_storage_core *core)
{
    if (!core->is_recovered || core->is_stopped || core->is_giving) {
        return MR_NEVER;
    }
    if (core->stop.op != NULL) {
        return core->now.mono_ns + (core->disk->in_flight > 0 ? MR_NS_PER_MS : 0);
    }
    uint64_t at = MR_NEVER;
    if (!core->is_offline) {
        at = mr_journal_deadline_ns(core->journal);
        at = mr_earlier(at, mr_retention_deadline_ns(core));
        at = mr_earlier(at, mr_burial_deadline_ns(core));
        at = mr_earlier(at, mr_cleaner_deadline_ns(core));
        at = mr_earlier(at, mr_scrub_deadline_ns(core));
        at = mr_earlier(at, mr_space_deadline_ns(core));
        at = mr_earlier(at, mr_demux_deadline_ns(core));
    }
    if (!mr_list_is_empty(&core->retry_tasks) && core->retry_at_ns > core->now.mono_ns) {
        at = mr_earlier(at, core->retry_at_ns);
    } else if (!mr_list_is_empty(&core->retry_tasks)) {
        at = mr_earlier(at, core->now.mono_ns + MR_NS_PER_MS);
    }
    if (!mr_list_is_empty(&core->parked)) {
        at = mr_earlier(at, core->now.mono_ns + (core->disk->in_flight > 0 ? PARKED_NS : MR_NS_PER_MS));
    }
    if (!mr_list_is_empty(&core->again)) {
        at = mr_earlier(at, core->now.mono_ns + MR_NS_PER_MS);
    }
    return at;
}

void mr_storage_core_stats(const struct mr_storage_core *core, struct mr_storage_stats *out)
{
    struct mr_journal_stats journal;
    mr_journal_stats(core->journal, &journal);
    *out = core->stats;
    out->commits = journal.commits;
    out->commit_bytes = journal.commit_bytes;
    out->commit_entries = journal.entries;
    out->recycled_files = journal.recycled_files;
    out->logs = core->partition_pool.used;
    out->is_offline = core->is_offline;
    out->is_full = mr_space_is_full(core);
}
