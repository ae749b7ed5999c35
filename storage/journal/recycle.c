/*
 * recycle: the oldest file has been de-multiplexed; what must be on disk before it is used again.
 *
 *   1 settle      what was added so far (CARRY entries among it) is durable
 *   2 syncfs      every segment byte that the file holds is durable in its segment
 *   3 state       a record for each log with an entry in the file, each written only when all it tells is
 *                 durable itself
 *   4 slot        the ring starts behind the file; the slot not used last time
 *   5 header      a new generation: from here on nothing in the file can be taken for a commit
 *
 * Crash between any two: the file's commits are found again and redone, to the same bytes; records that
 * are newer than the chain's start say so by their stamp.
 *
 * When the state file has grown to four times what it was after its last rewriting, step 3 writes the
 * records of all logs into a new file, which takes its place by rename before step 4 counts.
 *
 * Nothing here is on the commit path, so all of it is MR_DISK_BACKGROUND.
 */
#include "journal_private.h"

#include "millrace/base/bug.h"
#define REWRITE_MIN (4u << 20)

static void submit(struct mr_journal *journal, enum mr_recycle_step step, struct mr_disk_op op)
{
    struct mr_recycle *recycle = &journal->recycle;
    recycle->step = step;
    op.user = journal;
    op.flags |= MR_DISK_BACKGROUND;
    recycle->op = op;
    recycle->is_busy = true;
    mr_disk_submit(journal->params.disk, &recycle->op);
}

void mr_recycle_start(struct mr_journal *journal, uint32_t file)
{
    struct mr_recycle *recycle = &journal->recycle;
    mr_assert(recycle->step == MR_RECYCLE_IDLE && mr_list_is_empty(&recycle->kept));
    mr_assert(journal->files[file].state == MR_JOURNAL_FILE_FULL);
    recycle->file = file;
    recycle->end_seq = journal->files[file].end_seq;
    recycle->wait_seq = mr_journal_added_seq(journal);
    recycle->is_gathered = false;
    recycle->is_rewriting = journal->state_end - MR_STATE_DATA > REWRITE_MIN + 4 * journal->state_live;
    recycle->next = journal->all.next;
    recycle->step = MR_RECYCLE_SETTLE;
    journal->state_blocks = recycle->is_rewriting ? 0 : journal->state_blocks;
    if (recycle->is_rewriting) {
        journal->state_end = MR_STATE_DATA;
    }
}

/* The next log to be recorded, or NULL. */
static struct mr_journal_log *next_log(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    struct mr_list    *link = recycle->is_rewriting ? recycle->next : journal->dirty.next;
    if (recycle->is_rewriting) {
        return link == &journal->all ? NULL : MR_LIST_ENTRY(link, struct mr_journal_log, all);
    }
    if (link == &journal->dirty) {
        return NULL;
    }
    struct mr_journal_log *log = MR_LIST_ENTRY(link, struct mr_journal_log, dirty);
    return log->first_seq <= recycle->end_seq ? log : NULL;
}

/* `log` is recorded: what it still needs is a record for its entries above the file. */
static void recorded(struct mr_journal *journal, struct mr_journal_log *log)
{
    struct mr_recycle *recycle = &journal->recycle;
    if (recycle->is_rewriting) {
        recycle->next = log->all.next;
    }
    if (mr_list_is_empty(&log->dirty) || log->first_seq > recycle->end_seq) {
        return;
    }
    mr_list_remove(&log->dirty);
    if (log->last_seq > recycle->end_seq) {
        log->first_seq = recycle->end_seq + 1;
        mr_list_add_tail(&recycle->kept, &log->dirty);
    }
}

/* Fill one block with records; returns whether it holds any. */
static bool gather(struct mr_journal *journal)
{
    struct mr_recycle    *recycle = &journal->recycle;
    struct mr_state_stamp stamp = {.seq = journal->open->seq, .index = journal->open->entry_count};
    mr_journal_state_begin_block(&recycle->out, journal->state_block);
    for (;;) {
        struct mr_journal_log *log = next_log(journal);
        if (log == NULL) {
            recycle->is_gathered = true;
            break;
        }
        struct mr_journal_log_name name = {.log_id = log->log_id,
                                           .topic_id = log->topic_id,
                                           .partition = log->partition,
                                           .dir_name = log->dir_name};
        mr_journal_state_begin(&recycle->out, &name, stamp);
        journal->params.ops->store(journal->params.context, log, &recycle->out);
        if (!mr_journal_state_end(&recycle->out)) {
            if (recycle->out.count > 0) {
                break; /* in the next block */
            }
            /* One log with more producers than a block holds (23,000 of them): the record would never fit.
             * Without it the file cannot go; the ring grows to its maximum and then refuses appends. */
            mr_journal_fail(journal, MR_ERR_TOO_LARGE, 0, "the state of one log does not fit a block");
            return false;
        }
        recorded(journal, log);
    }
    recycle->wait_seq = mr_journal_added_seq(journal);
    return recycle->out.count > 0;
}

static void submit_slot(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    uint64_t           pos = mr_journal_next_slot(journal, recycle->end_seq + 1, journal->recycle_block);
    submit(journal, MR_RECYCLE_SLOT,
           (struct mr_disk_op){.kind = MR_DISK_WRITE,
                               .flags = MR_DISK_DSYNC,
                               .file = recycle->is_rewriting ? recycle->new_handle : journal->state_handle,
                               .buffer = journal->recycle_block,
                               .pos = pos,
                               .len = MR_JOURNAL_BLOCK});
}

static void submit_head(struct mr_journal *journal)
{
    struct mr_recycle      *recycle = &journal->recycle;
    struct mr_journal_file *file = &journal->files[recycle->file];
    recycle->generation = mr_journal_draw(journal);
    struct mr_commit_key key = {.directory_id = journal->directory_id,
                                .ring = journal->params.ring,
                                .generation = recycle->generation};
    mr_journal_file_head(journal->recycle_block, &key, journal->incarnation);
    submit(journal, MR_RECYCLE_HEAD,
           (struct mr_disk_op){.kind = MR_DISK_WRITE,
                               .flags = MR_DISK_DSYNC,
                               .file = file->handle,
                               .buffer = journal->recycle_block,
                               .len = MR_JOURNAL_BLOCK});
}

static void finish(struct mr_journal *journal)
{
    struct mr_recycle      *recycle = &journal->recycle;
    struct mr_journal_file *file = &journal->files[recycle->file];
    file->generation = recycle->generation;
    file->state = MR_JOURNAL_FILE_READY;
    file->used = MR_JOURNAL_BLOCK;
    file->number = 0;
    journal->start_seq = recycle->end_seq + 1;
    journal->stats.recycled_files++;
    recycle->step = MR_RECYCLE_IDLE;
    /* They come first again: everything else in `dirty` began later. */
    while (!mr_list_is_empty(&recycle->kept)) {
        struct mr_list *link = recycle->kept.prev;
        mr_list_remove(link);
        mr_list_add_head(&journal->dirty, link);
    }
}

static void write_block(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    recycle->block_bytes = mr_journal_state_end_block(&recycle->out, &journal->directory_id,
                                                      journal->incarnation, journal->state_blocks);
    submit(journal, MR_RECYCLE_WRITE,
           (struct mr_disk_op){.kind = MR_DISK_WRITE,
                               .file = recycle->is_rewriting ? recycle->new_handle : journal->state_handle,
                               .buffer = journal->state_block,
                               .pos = journal->state_end,
                               .len = recycle->block_bytes});
}

static void gather_or_sync(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    if (!recycle->is_gathered && gather(journal)) {
        recycle->step = MR_RECYCLE_GATHER;
        return;
    }
    if (!journal->is_offline) {
        submit(journal, MR_RECYCLE_SYNC,
               (struct mr_disk_op){.kind = MR_DISK_SYNC,
                                   .file = recycle->is_rewriting ? recycle->new_handle
                                                                 : journal->state_handle});
    }
}

/* The two steps that wait for commits. */
bool mr_recycle_turn(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    if (recycle->is_busy || journal->is_offline || journal->durable_seq < recycle->wait_seq ||
        journal->now.mono_ns < recycle->not_before_ns) {
        return false;
    }
    if (recycle->step == MR_RECYCLE_SETTLE) {
        if (journal->prepare.step == MR_PREPARE_LIST) {
            return false; /* one slot after the other */
        }
        submit(journal, MR_RECYCLE_SYNC_FS,
               (struct mr_disk_op){.kind = mr_bug("recycle-without-sync") ? MR_DISK_SYNC_DIR : MR_DISK_SYNC_FS,
                                    .file = journal->root});
        return true;
    }
    if (recycle->step == MR_RECYCLE_GATHER) {
        write_block(journal);
        return true;
    }
    return false;
}

void mr_recycle_done(struct mr_journal *journal)
{
    struct mr_recycle *recycle = &journal->recycle;
    struct mr_disk_op *op = &recycle->op;
    recycle->is_busy = false;
    if (op->err == MR_ERR_NO_SPACE && recycle->step == MR_RECYCLE_WRITE) {
        /* The state file grows: a place where space is allocated (ruling 16). The same block, later. */
        journal->is_state_short = true;
        recycle->step = MR_RECYCLE_GATHER;
        recycle->not_before_ns = journal->now.mono_ns + MR_NS_PER_S;
        return;
    }
    if (op->err != MR_OK && recycle->step != MR_RECYCLE_CLOSE) {
        mr_journal_fail(journal, op->err, op->os_errno, "checkpointing the journal");
        return;
    }
    switch (recycle->step) {
    case MR_RECYCLE_IDLE:
    case MR_RECYCLE_SETTLE:
    case MR_RECYCLE_GATHER:
        mr_unreachable("no operation belongs to this step");
    case MR_RECYCLE_SYNC_FS:
        if (recycle->is_rewriting) {
            submit(journal, MR_RECYCLE_CREATE,
                   (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                       .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                                       .dir = journal->root,
                                       .name = journal->state_new_name});
            return;
        }
        gather_or_sync(journal);
        return;
    case MR_RECYCLE_CREATE:
        recycle->new_handle = op->file;
        gather_or_sync(journal);
        return;
    case MR_RECYCLE_WRITE:
        journal->state_end += recycle->block_bytes;
        recycle->not_before_ns = 0;
        journal->is_state_short = false;
        journal->state_blocks++;
        gather_or_sync(journal);
        return;
    case MR_RECYCLE_SYNC:
        submit_slot(journal);
        return;
    case MR_RECYCLE_SLOT:
        if (!recycle->is_rewriting) {
            submit_head(journal);
            return;
        }
        submit(journal, MR_RECYCLE_SYNC_NEW,
               (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = recycle->new_handle});
        return;
    case MR_RECYCLE_SYNC_NEW:
        submit(journal, MR_RECYCLE_RENAME,
               (struct mr_disk_op){.kind = MR_DISK_RENAME,
                                   .dir = journal->root,
                                   .name = journal->state_new_name,
                                   .new_name = journal->state_name});
        return;
    case MR_RECYCLE_RENAME:
        submit(journal, MR_RECYCLE_SYNC_DIR,
               (struct mr_disk_op){.kind = MR_DISK_SYNC_DIR, .file = journal->root});
        return;
    case MR_RECYCLE_SYNC_DIR:
        submit(journal, MR_RECYCLE_CLOSE,
               (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = journal->state_handle});
        return;
    case MR_RECYCLE_CLOSE:
        journal->state_handle = recycle->new_handle;
        journal->state_live = journal->state_end - MR_STATE_DATA;
        submit_head(journal);
        return;
    case MR_RECYCLE_HEAD:
        finish(journal);
        return;
    }
}
