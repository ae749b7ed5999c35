/*
 * move_log: what a log's move to another directory asks of its storage cores: that the original holds still, and that
 * the copy (an ordinary log, filled by appends of MR_APPEND_COPY) begins where the original does and loses its mark.
 */
#include "storage_core.h"

static void answer(struct mr_storage_core *core, struct mr_move_op *op, enum mr_err err)
{
    op->op.err = err;
    mr_core_answer(core, &op->op);
}

/* A batch that is journaled in parts ends first. */
static void hold(struct mr_storage_core *core, struct mr_partition *p, struct mr_move_op *op)
{
    p->is_held = true;
    if (p->part_of != NULL) {
        mr_core_again(core, &op->op);
        return;
    }
    op->log_start_offset = p->log_start;
    op->log_end_offset = p->end.offset;
    mr_core_ack_later(core, &op->op, p->jlog.last_seq, false);
}

static void start(struct mr_storage_core *core, struct mr_partition *p, struct mr_move_op *op)
{
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_LOG_START, .offset = op->log_start_offset};
    uint64_t                seq = 0;
    if (op->log_start_offset > p->end.offset) {
        answer(core, op, MR_ERR_OFFSET_OUT_OF_RANGE);
        return;
    }
    if (op->log_start_offset <= p->log_start) {
        answer(core, op, MR_OK);
        return;
    }
    enum mr_err err = mr_journal_add(core->journal, &p->jlog, &entry, NULL, &seq);
    if (err == MR_AGAIN) {
        mr_core_again(core, &op->op);
    } else if (err != MR_OK) {
        answer(core, op, err);
    } else {
        mr_partition_log_start(core, p, op->log_start_offset, seq);
        mr_core_ack_later(core, &op->op, seq, false);
    }
}

/* When it comes back after a crash it is taken away again: the metadata says which log counts. */
static bool settle_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *disk = &task->io.op;
    if (task->at++ == 0) {
        mr_fmt(task->name, sizeof task->name, "%s/" MR_COPY_MARK, task->partition->dir_name);
        *disk = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = core->root, .name = task->name};
        return true;
    }
    enum mr_err err = disk->err == MR_ERR_NOT_FOUND ? MR_OK : disk->err;
    if (err == MR_OK) {
        task->partition->is_unfinished = false;
    } else {
        mr_core_fail(core, disk, "removing the mark of a copy");
    }
    answer(core, (struct mr_move_op *)(void *)task->op, err);
    return false;
}

static void settle(struct mr_storage_core *core, struct mr_partition *p, struct mr_move_op *op)
{
    struct mr_task *task = mr_core_task(core, p, settle_step);
    if (task == NULL) {
        mr_core_again(core, &op->op);
        return;
    }
    task->op = &op->op;
    mr_core_task_start(core, task);
}

void mr_move_start(struct mr_storage_core *core, struct mr_move_op *op)
{
    struct mr_partition *p = mr_core_find(core, op->log_id);
    if (core->is_offline || core->is_stopping) {
        answer(core, op, MR_ERR_DIR_OFFLINE);
        return;
    }
    if (p == NULL || p->state != MR_PARTITION_OPEN) {
        answer(core, op, MR_ERR_UNKNOWN_LOG);
        return;
    }
    switch (op->step) {
    case MR_MOVE_HOLD:
        hold(core, p, op);
        return;
    case MR_MOVE_RELEASE:
        p->is_held = false;
        answer(core, op, MR_OK);
        return;
    case MR_MOVE_START:
        start(core, p, op);
        return;
    case MR_MOVE_SETTLE:
        settle(core, p, op);
        return;
    }
}
