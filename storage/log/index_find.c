/*
 * index_find: where a search in a segment begins, by its offset index or its time index: the entries in memory
 * first, then the file, a page of entries at a time.
 *
 * What the file says is only a hint: an index that cannot be read, or makes no sense, means the start of the
 * segment, and the reader scans more. A single entry that is not true is found out by the batch that the reader sees
 * there, without an operation more: then the entry before it is asked. The same holds for entries of a time index
 * (time_search.c).
 */
#include "storage_core.h"

#include "log/offset_index.h"
#include "log/time_index.h"

#define TRIES_MAX 8u /* entries that are not true, in one search: then none of the file is */

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
        search->timestamp = entry.timestamp;
        search->is_unproven = true;
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
    search->offset = segment->base + entry.relative;
    search->is_unproven = true;
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
        task->page = mr_page_pool_try(&core->cold, mr_page_order(search->file_bytes), MR_FAIL_cold_pages);
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

static bool find(struct mr_storage_core *core, struct mr_task *task, enum mr_index_kind kind, int64_t key, uint32_t tries,
                 uint32_t back_at)
{
    struct mr_segment     *segment = task->segment;
    const struct mr_page  *page = kind == MR_INDEX_OFFSET ? segment->index_page : segment->time_page;
    bool                   is_last = false;
    task->find = (struct mr_index_search){
        .kind = kind,
        .key = key,
        .tries = tries,
        .result = kind == MR_INDEX_OFFSET ? 0 : segment->base,
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
        task->find.is_unproven = false; /* the entries in memory are this process's own */
        task->at = back_at;
        return task->step(core, task);
    }
    return mr_task_call(core, task, find_step, back_at);
}

bool mr_index_find(struct mr_storage_core *core, struct mr_task *task, enum mr_index_kind kind, int64_t key,
                   uint32_t back_at)
{
    return find(core, task, kind, key, 0, back_at);
}

bool mr_index_is_true(struct mr_task *task, const uint8_t *memory, uint64_t bytes)
{
    struct mr_batch batch;
    if (!task->find.is_unproven) {
        return true;
    }
    task->find.is_unproven = false;
    uint64_t skip = task->a - task->b;
    if (bytes < skip + MR_BATCH_HEADER) {
        return false;
    }
    mr_batch_header_load(memory + skip, &batch);
    /* Kafka tells of several batches appended at once by the last offset of all and the place of the first. */
    return batch.batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS && batch.last_offset_delta >= 0 &&
           batch.base_offset >= task->segment->base && mr_batch_last_offset(&batch) <= task->find.offset;
}

bool mr_index_find_before(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at)
{
    struct mr_index_search *search = &task->find;
    uint32_t                tries = search->tries + 1;
    int64_t                 before = search->offset - 1;
    mr_log(core->log, MR_LOG_WARN, "an index entry is not true dir=%s segment=%lld offset=%lld pos=%lld",
           task->partition->dir_name, (long long)task->segment->base, (long long)search->offset,
           (long long)search->result);
    if (tries == TRIES_MAX) {
        search->result = 0;
        task->at = back_at;
        return task->step(core, task);
    }
    return find(core, task, search->kind, before, tries, back_at);
}
