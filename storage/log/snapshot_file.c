/*
 * snapshot_file: the producers of a log as they were when a segment began, beside that segment, as Kafka does.
 *
 * Nobody waits for it. It may say more than what is durable; but then the segment that it is named after is not
 * durable either, and a start that does not find that segment does not believe it. A torn one fails its CRC.
 */
#include "storage_core.h"

enum write_at {
    WRITE_BEGIN,
    WRITE_OPENED,
    WRITE_WRITTEN,
    WRITE_CLOSED,
};

/* Task fields: page: the content; file. */
static bool write_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    if (task->at != WRITE_BEGIN && op->err != MR_OK && op->err != MR_ERR_NO_SPACE) {
        mr_core_fail(core, op, "writing a snapshot of producers");
    }
    switch ((enum write_at)task->at) {
    case WRITE_BEGIN:
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

void mr_snapshot_write(struct mr_storage_core *core, struct mr_partition *p)
{
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
    mr_fmt(task->name, sizeof task->name, "%s/%020lld.snapshot", p->dir_name, (long long)p->end.offset);
    mr_core_task_start(core, task);
}
