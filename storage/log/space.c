/*
 * space: how much of the file system is left for appends (ruling 16).
 *
 *   |........ used ........| not in files yet |........ left ........|.. reserve ..|
 *                          |<-------------------- free ------------------------->|
 *
 * An append is admitted when its bytes fit into what is left; below the floor (millrace.disk.reserve.bytes) the
 * directory is full and only our own logs, deletions and checkpoints go on. What is appended counts against `left`
 * at once, and while writes turn it from "not in files yet" into "used", left stays as it is; what others do on the
 * file system, and what deletions give back, is seen when the file system is asked again: every second in which
 * something was appended, ten times as often when little is left, and every second while the directory is full.
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

#define ASK_NS      MR_NS_PER_S
#define ASK_NEAR_NS (100 * MR_NS_PER_MS)
#define NEAR_BYTES  (256ll << 20) /* what a fast disk fills in a tenth of a second, and some more */

static void say(struct mr_storage_core *core, bool was_full)
{
    bool is_full = mr_space_is_full(core);
    if (is_full != was_full) {
        mr_log(core->log, is_full ? MR_LOG_WARN : MR_LOG_INFO,
               is_full ? "log directory full: appends are refused until there is space dir=%s free=%llu reserve=%llu"
                       : "log directory has space again dir=%s free=%llu reserve=%llu",
               core->params.log_dir, (unsigned long long)core->space_free,
               (unsigned long long)core->plan.disk_reserve_bytes);
    }
}

static void learn(struct mr_storage_core *core, const struct mr_disk_op *op)
{
    bool was_full = core->is_space_known && mr_space_is_full(core);
    if (op->err == MR_OK) {
        core->space_free = op->space_free_bytes;
        core->space_total = op->space_total_bytes;
        /* Cores do not tell each other what they admit: each may take its share. */
        int64_t above = (int64_t)op->space_free_bytes - (int64_t)core->plan.disk_reserve_bytes;
        core->space_left = above / (int64_t)mr_endpoint_dir_cores(core->params.endpoints) - (int64_t)core->dirty_bytes;
    }
    if (core->space_left >= (int64_t)core->space_refused) {
        core->space_refused = 0;
    }
    /* There is some, and nobody waits to find that out by writing: what was short of it is written, or deleted. */
    bool is_tried = core->now.mono_ns < core->demux_paused_ns || !mr_list_is_empty(&core->retry_tasks);
    if (core->space_left > 0 && !is_tried) {
        core->is_space_short = false;
    }
    core->is_space_known = true;
    core->space_asked_ns = core->now.mono_ns;
    core->is_space_used = false;
    say(core, was_full);
}

static void asked(struct mr_storage_core *core, struct mr_io *io)
{
    struct mr_list *link;
    core->is_space_asked = false;
    learn(core, &io->op);
    core->is_append_due = true;
    while ((link = mr_list_pop(&core->stat_waiting)) != NULL) {
        mr_log_stat_answer(core, (struct mr_log_stat_op *)(void *)MR_LIST_ENTRY(link, struct mr_storage_op, link));
    }
}

static uint64_t ask_at_ns(const struct mr_storage_core *core)
{
    if (core->is_space_asked || (!core->is_space_used && !mr_space_is_full(core))) {
        return MR_NEVER;
    }
    bool is_near = core->space_left < NEAR_BYTES && !mr_space_is_full(core);
    return core->space_asked_ns + (is_near ? ASK_NEAR_NS : ASK_NS);
}

void mr_space_ask(struct mr_storage_core *core)
{
    if (core->is_space_asked) {
        return;
    }
    core->is_space_asked = true;
    core->space_io = (struct mr_io){
        .op = {.kind = MR_DISK_STAT, .flags = MR_DISK_BACKGROUND, .file = core->root}, .done = asked};
    mr_core_submit(core, &core->space_io);
}

enum mr_err mr_space_begin(struct mr_storage_core *core)
{
    struct mr_disk_op op = {.kind = MR_DISK_STAT, .file = core->root};
    enum mr_err       err = mr_core_disk(core, &op);
    struct mr_journal_stats journal;
    mr_journal_stats(core->journal, &journal);
    core->space_files = journal.files;
    learn(core, &op);
    return err;
}

void mr_space_turn(struct mr_storage_core *core)
{
    /* A new journal file takes space too. */
    struct mr_journal_stats journal;
    mr_journal_stats(core->journal, &journal);
    if (journal.files > core->space_files) {
        mr_space_take(core, (journal.files - core->space_files) * core->plan.journal_file_bytes);
        core->space_files = journal.files;
    }
    if (!core->is_offline && core->now.mono_ns >= ask_at_ns(core)) {
        mr_space_ask(core);
    }
}

uint64_t mr_space_deadline_ns(const struct mr_storage_core *core)
{
    return ask_at_ns(core);
}

bool mr_space_has(const struct mr_storage_core *core, uint32_t bytes)
{
    bool is_room = core->space_left >= (int64_t)bytes && !core->is_space_short && !mr_journal_is_full(core->journal);
    return is_room || mr_bug("ignore-the-floor");
}

void mr_space_take(struct mr_storage_core *core, uint64_t bytes)
{
    core->space_left -= (int64_t)bytes;
    core->is_space_used = true;
}

void mr_space_short(struct mr_storage_core *core, bool is_short)
{
    bool was_full = mr_space_is_full(core);
    core->is_space_short = is_short;
    say(core, was_full);
}

bool mr_space_wait(struct mr_storage_core *core, struct mr_task *task)
{
    if (core->is_blocking || task->partition->state == MR_PARTITION_DROPPING) {
        return false;
    }
    task->is_again = true;
    mr_space_short(core, true);
    return mr_core_task_wait(core, task, 1000);
}

void mr_space_refuse(struct mr_storage_core *core, uint32_t bytes)
{
    bool was_full = mr_space_is_full(core);
    core->space_refused = bytes;
    say(core, was_full);
}

bool mr_space_is_full(const struct mr_storage_core *core)
{
    return core->space_left <= 0 || core->space_refused > 0 || core->is_space_short || mr_journal_is_full(core->journal);
}
