/*
 * txn_index: the aborted transactions of a segment in memory and in its .txnindex file.
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

void mr_aborted_load(const uint8_t entry[MR_ABORTED_ENTRY], struct mr_aborted *aborted)
{
    *aborted = (struct mr_aborted){.producer_id = (int64_t)mr_load_be64(entry + 2),
                                   .first_offset = (int64_t)mr_load_be64(entry + 10),
                                   .last_offset = (int64_t)mr_load_be64(entry + 18),
                                   .stable_offset = (int64_t)mr_load_be64(entry + 26)};
}

void mr_aborted_store(const struct mr_aborted *aborted, uint8_t out[MR_ABORTED_ENTRY])
{
    mr_store_be16(out, 0);
    mr_store_be64(out + 2, (uint64_t)aborted->producer_id);
    mr_store_be64(out + 10, (uint64_t)aborted->first_offset);
    mr_store_be64(out + 18, (uint64_t)aborted->last_offset);
    mr_store_be64(out + 26, (uint64_t)aborted->stable_offset);
}

static struct mr_aborted *last_of(const struct mr_segment *segment)
{
    return mr_list_is_empty(&segment->aborted) ? NULL
                                               : MR_LIST_ENTRY(segment->aborted.prev, struct mr_aborted, link);
}

/* What the file has is not the beginning of the list any more: it is written anew. */
static void rewrite(struct mr_segment *segment)
{
    segment->partition->txns.aborted_unwritten += segment->aborted_written;
    segment->aborted_written = 0;
    segment->is_aborted_stale = true;
}

enum mr_err mr_aborted_add(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_aborted *aborted)
{
    struct mr_list *after = segment->aborted.prev;
    while (after != &segment->aborted &&
           MR_LIST_ENTRY(after, struct mr_aborted, link)->last_offset >= aborted->last_offset) {
        if (MR_LIST_ENTRY(after, struct mr_aborted, link)->last_offset == aborted->last_offset) {
            return MR_OK;
        }
        after = after->prev;
    }
    struct mr_aborted *kept = mr_pool_get(&core->txns.aborted);
    if (kept == NULL) {
        mr_log(core->log, MR_LOG_ERROR,
               "a log's aborted transactions do not fit dir=%s max=%u limit=millrace.transactions.aborted.max",
               segment->partition->dir_name, core->txns.aborted.capacity);
        return MR_ERR_NO_MEMORY;
    }
    if (after != segment->aborted.prev) {
        rewrite(segment);
    }
    *kept = *aborted;
    mr_list_init(&kept->link);
    mr_list_add_head(after, &kept->link);
    segment->aborted_count++;
    segment->partition->txns.aborted_count++;
    segment->partition->txns.aborted_unwritten++;
    return MR_OK;
}

static void drop(struct mr_storage_core *core, struct mr_segment *segment, struct mr_aborted *aborted)
{
    mr_list_remove(&aborted->link);
    mr_pool_put(&core->txns.aborted, aborted);
    segment->aborted_count--;
    segment->partition->txns.aborted_count--;
}

void mr_aborted_clear(struct mr_storage_core *core, struct mr_segment *segment)
{
    segment->partition->txns.aborted_unwritten -= segment->aborted_count - segment->aborted_written;
    segment->aborted_written = 0;
    while (!mr_list_is_empty(&segment->aborted)) {
        drop(core, segment, last_of(segment));
    }
}

void mr_aborted_cut(struct mr_storage_core *core, struct mr_partition *p)
{
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        while (last_of(segment) != NULL && last_of(segment)->last_offset >= p->end.offset) {
            rewrite(segment);
            p->txns.aborted_unwritten--;
            drop(core, segment, last_of(segment));
        }
    }
}

enum mr_err mr_aborted_copy(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_segment *from)
{
    MR_LIST_EACH(link, &from->aborted) {
        enum mr_err err = mr_aborted_add(core, segment, MR_LIST_ENTRY(link, struct mr_aborted, link));
        if (err != MR_OK) {
            return err;
        }
    }
    segment->aborted_written = from->aborted_written;
    segment->partition->txns.aborted_unwritten -= from->aborted_written;
    return MR_OK;
}

static bool is_plausible(const struct mr_segment *segment, const uint8_t *entry, const struct mr_aborted *aborted)
{
    const struct mr_aborted *last = last_of(segment);
    return mr_load_be16(entry) == 0 && aborted->first_offset < aborted->last_offset &&
           aborted->last_offset >= segment->base && aborted->first_offset >= 0 &&
           aborted->stable_offset <= aborted->last_offset + 1 &&
           (last == NULL || last->last_offset < aborted->last_offset);
}

uint32_t mr_aborted_read(struct mr_storage_core *core, struct mr_segment *segment, const uint8_t *bytes, uint32_t len,
                         enum mr_err *err)
{
    uint32_t at = 0;
    *err = MR_OK;
    while (len - at >= MR_ABORTED_ENTRY) {
        struct mr_aborted aborted;
        mr_aborted_load(bytes + at, &aborted);
        if (!is_plausible(segment, bytes + at, &aborted)) {
            break;
        }
        *err = mr_aborted_add(core, segment, &aborted);
        if (*err != MR_OK) {
            break;
        }
        segment->aborted_written++;
        segment->partition->txns.aborted_unwritten--;
        at += MR_ABORTED_ENTRY;
    }
    return at;
}

/* ---- Writing ---- */

/* The entries from aborted_written on, as many as fit. */
static uint32_t fill(const struct mr_segment *segment, uint8_t *out, uint32_t size)
{
    uint32_t        len = 0;
    struct mr_list *link = segment->aborted.prev;
    for (uint32_t back = segment->aborted_count - segment->aborted_written; back > 1; back--) {
        link = link->prev;
    }
    for (; link != &segment->aborted && size - len >= MR_ABORTED_ENTRY; link = link->next) {
        mr_aborted_store(MR_LIST_ENTRY(link, struct mr_aborted, link), out + len);
        len += MR_ABORTED_ENTRY;
    }
    return len;
}

static void written(struct mr_segment *segment, uint32_t bytes)
{
    segment->aborted_written += bytes / MR_ABORTED_ENTRY;
    segment->partition->txns.aborted_unwritten -= bytes / MR_ABORTED_ENTRY;
}

static struct mr_segment *unwritten_segment(const struct mr_partition *p)
{
    for (struct mr_list *link = p->segments.prev; p->txns.aborted_unwritten > 0 && link != &p->segments;
         link = link->prev) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (segment->aborted_written < segment->aborted_count && !segment->is_gone) {
            return segment;
        }
    }
    return NULL;
}

static enum mr_err write_segment(struct mr_storage_core *core, struct mr_segment *segment)
{
    char              name[MR_FILE_NAME_BYTES];
    uint32_t          flags = MR_DISK_CREATE | (segment->aborted_written == 0 ? (uint32_t)MR_DISK_TRUNC : 0u);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = flags, .dir = core->root, .name = name};
    mr_segment_name(segment, ".txnindex", name);
    enum mr_err err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    int32_t file = op.file;
    while (err == MR_OK && segment->aborted_written < segment->aborted_count) {
        uint32_t len = fill(segment, core->scratch, MR_SCRATCH_BYTES);
        op = (struct mr_disk_op){.kind = MR_DISK_WRITE, .file = file, .buffer = core->scratch, .len = len,
                                 .pos = (uint64_t)segment->aborted_written * MR_ABORTED_ENTRY};
        err = mr_core_disk(core, &op);
        if (err == MR_OK) {
            written(segment, len);
        }
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    segment->is_aborted_stale = false;
    return err;
}

enum mr_err mr_txn_index_write(struct mr_storage_core *core, struct mr_partition *p)
{
    enum mr_err err = MR_OK;
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        bool is_due = segment->is_aborted_stale || segment->aborted_written < segment->aborted_count;
        if (err == MR_OK && is_due && !segment->is_gone) {
            err = write_segment(core, segment);
        }
    }
    return err;
}

enum write_at {
    WRITE_BEGIN,
    WRITE_OPENED,
    WRITE_WRITTEN,
    WRITE_CLOSED,
};

/* Task fields: segment; page: the entries; file. */
static bool write_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    if (task->is_again) {
        task->is_again = false;
        return true;
    }
    bool is_short = task->at != WRITE_BEGIN && op->err == MR_ERR_NO_SPACE;
    if (is_short && mr_space_wait(core, task)) {
        return true;
    }
    if (is_short && !core->is_blocking) { /* its files go */
        task->at = op->kind == MR_DISK_OPEN ? (uint32_t)WRITE_CLOSED : task->at;
    } else if (task->at != WRITE_BEGIN && op->err != MR_OK) {
        mr_core_fail(core, op, "writing an index of aborted transactions");
        task->at = WRITE_CLOSED;
    }
    switch ((enum write_at)task->at) {
    case WRITE_BEGIN:
        task->at = WRITE_OPENED;
        mr_segment_name(segment, ".txnindex", task->name);
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                  .flags = MR_DISK_CREATE | MR_DISK_BACKGROUND |
                                           (segment->aborted_written == 0 ? (uint32_t)MR_DISK_TRUNC : 0u),
                                  .dir = core->root,
                                  .name = task->name};
        return true;
    case WRITE_OPENED:
        task->file = op->file;
        task->at = WRITE_WRITTEN;
        *op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                  .flags = MR_DISK_BACKGROUND,
                                  .file = task->file,
                                  .buffer = mr_page_memory(&core->cache, task->page),
                                  .len = task->page->used,
                                  .pos = (uint64_t)segment->aborted_written * MR_ABORTED_ENTRY};
        return true;
    case WRITE_WRITTEN:
        written(segment, task->page->used);
        task->at = WRITE_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case WRITE_CLOSED:
        break;
    }
    task->page->is_busy = false;
    mr_page_pool_put(&core->cache, task->page);
    task->page = NULL;
    segment->users--;
    segment->partition->txns.is_index_busy = false;
    return false;
}

bool mr_txn_index_flush(struct mr_storage_core *core, struct mr_partition *p)
{
    if (p->txns.is_index_busy) {
        return true;
    }
    struct mr_segment *segment = unwritten_segment(p);
    if (segment == NULL || core->is_offline) {
        return false;
    }
    struct mr_page *page = mr_tail_page_get(core, 0);
    struct mr_task *task = page == NULL ? NULL : mr_core_task(core, p, write_step);
    if (task == NULL) {
        if (page != NULL) {
            mr_page_pool_put(&core->cache, page);
        }
        return true; /* in a later turn */
    }
    page->is_busy = true;
    page->used = fill(segment, mr_page_memory(&core->cache, page), mr_page_capacity(page));
    task->page = page;
    task->segment = segment;
    segment->users++;
    p->txns.is_index_busy = true;
    mr_core_task_start(core, task);
    return true;
}
