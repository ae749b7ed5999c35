/*
 * index_find: where a search in a segment begins, by its offset index or its time index: the entries in memory
 * first, then the file, a page of entries at a time.
 *
 * What the file says is only a hint: an index that cannot be read, or makes no sense, means the start of the
 * segment, and the reader scans more.
 */
#include "storage_core.h"

#include "log/offset_index.h"
#include "log/time_index.h"

enum find_at {
    FIND_BEGIN,
    FIND_OPENED,
    FIND_READ,
    FIND_CLOSED,
};

static uint32_t entry_bytes(const struct mr_index_search *search)
{
    return search->kind == MR_INDEX_OFFSET ? MR_OFFSET_INDEX_ENTRY : MR_TIME_INDEX_ENTRY;
}

/* Search `count` entries; true: the result is set. *is_last: the entry is the last of them. */
static bool find_in(const struct mr_segment *segment, struct mr_index_search *search, const uint8_t *entries,
                    uint32_t count, bool *is_last)
{
    if (search->kind == MR_INDEX_TIME) {
        struct mr_time_index_entry entry;
        count = mr_time_index_check(entries, count, (struct mr_time_index_entry){.timestamp = -1, .relative = -1},
                                    INT32_MAX);
        if (!mr_time_index_find_before(entries, count, search->key, &entry)) {
            return false;
        }
        search->result = segment->base + entry.relative;
        *is_last = count > 0 && mr_time_index_load(entries + (size_t)(count - 1) * MR_TIME_INDEX_ENTRY).relative ==
                                    entry.relative;
        return true;
    }
    struct mr_offset_index_entry entry;
    int64_t                      relative = search->key - segment->base;
    count = mr_offset_index_check(entries, count, (struct mr_offset_index_entry){.relative = -1}, INT32_MAX,
                                  segment->size);
    if (!mr_offset_index_find(entries, count, relative > INT32_MAX ? INT32_MAX : (int32_t)relative, &entry)) {
        return false;
    }
    search->result = entry.pos;
    search->named = segment->base + entry.relative;
    *is_last = mr_offset_index_load(entries + (size_t)(count - 1) * MR_OFFSET_INDEX_ENTRY).relative ==
               entry.relative;
    return true;
}

static bool find_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_index_search *search = &task->find;
    struct mr_disk_op      *op = &task->io.op;
    switch ((enum find_at)task->at) {
    case FIND_BEGIN:
        mr_segment_name(task->segment, search->kind == MR_INDEX_OFFSET ? ".index" : ".timeindex", task->name);
        task->at = FIND_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root,
                                  .name = task->name};
        return true;
    case FIND_OPENED:
        if (op->err != MR_OK) {
            break;
        }
        task->file = op->file;
        task->page = mr_page_pool_get(&core->cold, mr_page_order(search->file_bytes));
        if (task->page == NULL) {
            task->at = FIND_CLOSED;
            *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
            return true;
        }
        task->page->is_busy = true;
        task->at = FIND_READ;
        *op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                  .buffer = mr_page_memory(&core->cold, task->page),
                                  .len = mr_page_capacity(task->page) / entry_bytes(search) * entry_bytes(search)};
        return true;
    case FIND_READ: {
        bool     is_last = false;
        uint32_t count = op->err == MR_OK ? op->done_bytes / entry_bytes(search) : 0;
        bool     is_found = find_in(task->segment, search, op->buffer, count, &is_last);
        if (is_found && is_last && op->done_bytes == op->len) { /* all of these come before: the file goes on */
            *op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file, .buffer = op->buffer,
                                      .len = op->len, .pos = op->pos + op->len};
            return true;
        }
        task->page->is_busy = false;
        mr_page_pool_put(&core->cold, task->page);
        task->page = NULL;
        task->at = FIND_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    }
    case FIND_CLOSED:
        break;
    }
    return mr_task_return(core, task);
}

bool mr_index_find(struct mr_storage_core *core, struct mr_task *task, enum mr_index_kind kind, int64_t key,
                   uint32_t back_at)
{
    struct mr_segment     *segment = task->segment;
    const struct mr_page  *page = kind == MR_INDEX_OFFSET ? segment->index_page : segment->time_page;
    bool                   is_last = false;
    task->find = (struct mr_index_search){
        .kind = kind,
        .key = key,
        .result = kind == MR_INDEX_OFFSET ? 0 : segment->base,
        .named = segment->base - 1,
        .file_bytes = kind == MR_INDEX_OFFSET ? segment->index_bytes : segment->time_bytes,
    };
    /* A sealed segment that was here before this start: the size of its index is the file's. */
    bool is_unread = segment->is_sealed && segment->index_page == NULL && segment->has_index_files;
    bool is_file = task->find.file_bytes > 0 || is_unread;
    if (task->find.file_bytes == 0) {
        task->find.file_bytes = MR_PAGE_BYTES << MR_PAGE_ORDER_MAX;
    }
    bool is_found = page != NULL && page->used > 0 &&
                    find_in(segment, &task->find, mr_page_memory(&core->cache, page),
                            page->used / entry_bytes(&task->find), &is_last);
    if (is_found || !is_file) {
        task->at = back_at;
        return task->step(core, task);
    }
    return mr_task_call(core, task, find_step, back_at);
}
