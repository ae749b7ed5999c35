/*
 * snapshot_file: the producers of a log as they were when a segment began, beside that segment, as Kafka does.
 *
 * Nobody waits for it. It is written when the segment's SEAL is durable: recovery then knows the log's end from the
 * journal, and cannot take it for the snapshot of a clean stop. A torn one fails its CRC.
 */
#include "storage_core.h"

enum write_at {
    WRITE_BEGIN,
    WRITE_OPENED,
    WRITE_WRITTEN,
    WRITE_CLOSED,
};

/* Task fields: page: the content; file; a: journal sequence of the SEAL. */
static bool write_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    if (task->at != WRITE_BEGIN && op->err != MR_OK && op->err != MR_ERR_NO_SPACE) {
        mr_core_fail(core, op, "writing a snapshot of producers");
    }
    switch ((enum write_at)task->at) {
    case WRITE_BEGIN:
        if (core->is_offline) {
            break;
        }
        if (mr_journal_durable_seq(core->journal) < task->a) {
            return mr_core_task_wait(core, task, 0);
        }
        task->at = WRITE_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                  .flags = MR_DISK_CREATE | MR_DISK_TRUNC | MR_DISK_BACKGROUND,
                                  .dir = core->root,
                                  .name = task->name};
        return true;
    case WRITE_OPENED:
        if (op->err != MR_OK) {
            break;
        }
        task->file = op->file;
        task->at = WRITE_WRITTEN;
        *op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                  .flags = MR_DISK_BACKGROUND,
                                  .file = task->file,
                                  .buffer = mr_page_memory(&core->cache, task->page),
                                  .len = task->page->used};
        return true;
    case WRITE_WRITTEN:
        task->at = WRITE_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case WRITE_CLOSED:
        break;
    }
    task->page->is_busy = false;
    mr_page_pool_put(&core->cache, task->page);
    return false;
}

void mr_snapshot_write(struct mr_storage_core *core, struct mr_partition *p, uint64_t seal_seq)
{
    if (p->snapshot_at == p->end.offset) {
        return; /* it is there, from a clean stop, and recovery may need it: it is not torn for the same bytes */
    }
    uint32_t        bytes = mr_producer_snapshot_bytes(&p->producers);
    struct mr_page *page = mr_tail_page_get(core, mr_page_order(bytes));
    if (page == NULL || bytes > mr_page_capacity(page)) {
        if (page != NULL) {
            mr_page_pool_put(&core->cache, page);
        }
        return; /* one less to begin from, should somebody have to read the log from its start */
    }
    struct mr_task *task = mr_core_task(core, p, write_step);
    if (task == NULL) {
        mr_page_pool_put(&core->cache, page);
        return;
    }
    page->is_busy = true;
    page->used = mr_producer_snapshot_store(&p->producers, mr_page_memory(&core->cache, page));
    task->page = page;
    task->a = seal_seq;
    mr_fmt(task->name, sizeof task->name, "%s/%020lld.snapshot", p->dir_name, (long long)p->end.offset);
    mr_core_task_start(core, task);
}
