/*
 * segment: one segment of a log: its files, its range, and the index entries that are not in a file yet.
 *
 * Index files are written through the page cache, without O_DIRECT and without padding: their size is
 * always exactly their entries, which is what Kafka expects of a segment that is not being written.
 */
#include "storage_core.h"

#include "log/offset_index.h"
#include "log/scrub.h"
#include "log/side_read.h"
#include "log/time_index.h"

#include "millrace/base/bug.h"

struct mr_segment *mr_segment_make(struct mr_storage_core *core, struct mr_partition *partition, int64_t base)
{
    struct mr_segment *segment = mr_pool_try(&core->segment_pool, MR_FAIL_segments);
    if (segment == NULL) {
        return NULL;
    }
    *segment = (struct mr_segment){
        .partition = partition,
        .base = base,
        .max_timestamp = -1,
        .max_timestamp_offset = -1,
        .first_timestamp = -1,
        .created_ms = core->now.unix_ms,
        .changed_ms = core->now.unix_ms,
        .rest_at = MR_NO_REST,
        .file = MR_DISK_NONE,
        .is_time_known = true,
        .last_relative = -1,
        .last_time_relative = -1,
        .last_time = -1,
    };
    mr_list_init(&segment->by_use);
    mr_list_init(&segment->scrub_link);
    mr_list_init(&segment->aborted);
    return segment;
}

void mr_segment_add(struct mr_segment *segment)
{
    mr_list_add_tail(&segment->partition->segments, &segment->link);
    segment->partition->segment_count++;
}

struct mr_segment *mr_segment_new(struct mr_storage_core *core, struct mr_partition *partition, int64_t base)
{
    struct mr_segment *segment = mr_segment_make(core, partition, base);
    if (segment != NULL) {
        mr_segment_add(segment);
    }
    return segment;
}

void mr_segment_sort(struct mr_segment *segment)
{
    struct mr_list *segments = &segment->partition->segments;
    mr_list_remove(&segment->link);
    struct mr_list *after = segments->prev;
    while (after != segments && MR_LIST_ENTRY(after, struct mr_segment, link)->base > segment->base) {
        after = after->prev;
    }
    mr_list_add_head(after, &segment->link);
}

void mr_segment_copy(struct mr_segment *segment, const struct mr_segment *from)
{
    mr_assert(from->index_page == NULL && from->time_page == NULL && segment->base == from->base);
    segment->max_timestamp = from->max_timestamp;
    segment->max_timestamp_offset = from->max_timestamp_offset;
    segment->claim = from->claim;
    segment->is_time_unproven = from->is_time_unproven;
    segment->first_timestamp = from->first_timestamp;
    segment->created_ms = from->created_ms;
    segment->changed_ms = from->changed_ms;
    segment->size = from->size;
    segment->written = from->written;
    segment->is_sealed = from->is_sealed;
    segment->is_seal_done = from->is_seal_done;
    segment->is_time_known = from->is_time_known;
    segment->has_index_files = from->has_index_files;
    segment->index_bytes = from->index_bytes;
    segment->time_bytes = from->time_bytes;
    segment->since_index = from->since_index;
    segment->last_relative = from->last_relative;
    segment->last_time_relative = from->last_time_relative;
    segment->last_time = from->last_time;
}

void mr_segment_index_drop(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_page **pages[] = {&segment->index_page, &segment->time_page};
    for (uint32_t index = 0; index < 2; index++) {
        if (*pages[index] != NULL) {
            mr_page_pool_put(&core->cache, *pages[index]);
            *pages[index] = NULL;
        }
    }
}

void mr_segment_detach(struct mr_storage_core *core, struct mr_segment *segment)
{
    mr_assert(segment->users == 0 && segment->file_state != MR_FILE_OPENING);
    mr_tail_drop_segment(core, segment);
    mr_scrub_forget(core, segment);
    mr_side_forget(core, segment);
    mr_aborted_clear(core, segment);
    if (segment->file_state == MR_FILE_OPEN) {
        mr_segment_file_close(core, segment);
    }
    mr_segment_index_drop(core, segment);
    mr_list_remove(&segment->link);
    segment->partition->segment_count--;
}

void mr_segment_free(struct mr_storage_core *core, struct mr_segment *segment)
{
    mr_segment_detach(core, segment);
    mr_pool_put(&core->segment_pool, segment);
}

struct mr_segment *mr_segment_next(const struct mr_segment *segment)
{
    return segment->link.next == &segment->partition->segments
               ? NULL
               : MR_LIST_ENTRY(segment->link.next, struct mr_segment, link);
}

struct mr_segment *mr_segment_find(const struct mr_partition *partition, int64_t offset)
{
    for (struct mr_list *link = partition->segments.prev; link != &partition->segments; link = link->prev) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (segment->base <= offset) {
            return segment;
        }
    }
    return NULL;
}

void mr_segment_name(const struct mr_segment *segment, const char *suffix, char name[MR_FILE_NAME_BYTES])
{
    mr_fmt(name, MR_FILE_NAME_BYTES, "%s/%020lld%s", segment->partition->dir_name,
           (long long)segment->base, suffix);
}

/* ---- The open file ---- */

static void close_done(struct mr_storage_core *core, struct mr_io *io)
{
    mr_pool_put(&core->task_pool, MR_LIST_ENTRY(io, struct mr_task, io));
}

void mr_segment_file_close(struct mr_storage_core *core, struct mr_segment *segment)
{
    mr_assert(segment->file_state == MR_FILE_OPEN && segment->users == 0);
    struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = segment->file};
    segment->file_state = MR_FILE_CLOSED;
    segment->file = MR_DISK_NONE;
    mr_list_remove(&segment->by_use);
    core->open_file_count--;
    if (core->disk->in_flight == 0) {
        mr_disk_run(core->disk, &op);
        return;
    }
    struct mr_task *task = mr_core_task(core, NULL, NULL);
    mr_assert(task != NULL); /* some are kept for this */
    task->io.op = op;
    task->io.done = close_done;
    mr_core_submit(core, &task->io);
}

static bool open_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    /* Several opens may be under way when the first of them hears of it: each has to try again. */
    bool is_direct_refused =
        task->at == 1 && op->err == MR_ERR_INVALID && (op->flags & MR_DISK_DIRECT) != 0;
    if (task->at == 0 || is_direct_refused) {
        if (is_direct_refused && !core->is_buffered) {
            core->is_buffered = true;
            mr_log(core->log, MR_LOG_WARN,
                   "the log directory refuses O_DIRECT; segments go through the page cache");
        }
        task->at++;
        mr_segment_name(segment, ".log", task->name);
        *op = (struct mr_disk_op){
            .kind = MR_DISK_OPEN,
            .flags = MR_DISK_CREATE | (core->is_buffered ? 0u : (uint32_t)MR_DISK_DIRECT),
            .dir = core->root,
            .name = task->name,
        };
        return true;
    }
    segment->users--;
    if (op->err != MR_OK) {
        segment->file_state = MR_FILE_CLOSED;
        if (op->err == MR_ERR_NO_SPACE && !core->is_blocking) {
            mr_demux_pause(core); /* the file is not there yet, and its name needs a block */
        } else {
            mr_core_fail(core, op, "opening a segment");
        }
        return false;
    }
    segment->file = op->file;
    segment->file_state = MR_FILE_OPEN;
    mr_list_add_tail(&core->open_files, &segment->by_use);
    core->open_file_count++;
    return false;
}

static void close_longest_unused(struct mr_storage_core *core)
{
    MR_LIST_EACH(link, &core->open_files) {
        struct mr_segment *old = MR_LIST_ENTRY(link, struct mr_segment, by_use);
        if (old->users == 0) {
            mr_segment_file_close(core, old);
            return;
        }
    }
}

bool mr_segment_file_ready(struct mr_storage_core *core, struct mr_segment *segment)
{
    if (segment->file_state == MR_FILE_OPEN) {
        mr_list_remove(&segment->by_use);
        mr_list_add_tail(&core->open_files, &segment->by_use);
        return true;
    }
    if (segment->file_state == MR_FILE_OPENING) {
        return false;
    }
    /* The task first: closing takes one too, of those that are kept, and must not take more than are opened. */
    struct mr_task *task = mr_core_task(core, segment->partition, open_step);
    if (task == NULL) {
        return false;
    }
    if (core->open_file_count >= MR_OPEN_FILES_MAX) {
        close_longest_unused(core);
    }
    task->segment = segment;
    segment->users++;
    segment->file_state = MR_FILE_OPENING;
    mr_core_task_start(core, task);
    return segment->file_state == MR_FILE_OPEN;
}

/* ---- Indexes ---- */

bool mr_segment_is_index_full(const struct mr_segment *segment)
{
    int64_t max = segment->partition->config.segment_index_bytes;
    int64_t index = segment->index_bytes + (segment->index_page == NULL ? 0 : segment->index_page->used);
    int64_t time = segment->time_bytes + (segment->time_page == NULL ? 0 : segment->time_page->used);
    /* One slot of the time index is kept free for the entry at the end, as Kafka does. */
    return index + MR_OFFSET_INDEX_ENTRY > max || time + 2 * MR_TIME_INDEX_ENTRY > max;
}

static uint8_t *chunk_room(struct mr_storage_core *core, struct mr_segment *segment, struct mr_page **page,
                           uint32_t bytes)
{
    if (*page == NULL) {
        *page = mr_tail_page_get(core, 0);
    }
    if (*page != NULL && (*page)->used + bytes > MR_PAGE_BYTES && !segment->is_index_busy) {
        mr_segment_index_flush(core, segment);
        if (*page == NULL) {
            *page = mr_tail_page_get(core, 0);
        }
    }
    /* Without memory an entry is left out: the index is sparse anyhow, a reader scans a little more. */
    return *page == NULL || (*page)->used + bytes > MR_PAGE_BYTES
               ? NULL
               : mr_page_memory(&core->cache, *page) + (*page)->used;
}

/* There is a larger timestamp than the last entry's. */
static bool is_time_due(const struct mr_segment *segment)
{
    int64_t relative = segment->max_timestamp_offset - segment->base;
    return segment->max_timestamp > segment->last_time && relative > segment->last_time_relative &&
           relative <= INT32_MAX;
}

/* The entry of the largest timestamp so far, at `at`. */
static void store_time(struct mr_segment *segment, uint8_t *at)
{
    segment->last_time = segment->max_timestamp;
    segment->last_time_relative = (int32_t)(segment->max_timestamp_offset - segment->base);
    mr_time_index_store(at, (struct mr_time_index_entry){.timestamp = segment->last_time,
                                                         .relative = segment->last_time_relative});
}

static void add_time(struct mr_storage_core *core, struct mr_segment *segment)
{
    if (!is_time_due(segment)) {
        return;
    }
    uint8_t *at = chunk_room(core, segment, &segment->time_page, MR_TIME_INDEX_ENTRY);
    if (at != NULL) {
        store_time(segment, at);
        segment->time_page->used += MR_TIME_INDEX_ENTRY;
    }
}

void mr_segment_index(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_batch *batch,
                      uint32_t pos, uint32_t batch_bytes)
{
    int64_t last_offset = mr_batch_last_offset(batch);
    if (pos == 0) {
        segment->first_timestamp = batch->max_timestamp;
    }
    /* A batch that compaction has emptied keeps its time, but no record has it. */
    if (batch->max_timestamp > segment->max_timestamp && batch->record_count > 0) {
        segment->max_timestamp = batch->max_timestamp;
        segment->max_timestamp_offset = last_offset;
    }
    if (segment->since_index > segment->partition->config.index_interval_bytes) {
        uint8_t *at = chunk_room(core, segment, &segment->index_page, MR_OFFSET_INDEX_ENTRY);
        int64_t  relative = last_offset - segment->base;
        if (at != NULL && relative > segment->last_relative && relative <= INT32_MAX) {
            mr_offset_index_store(at, (struct mr_offset_index_entry){.relative = (int32_t)relative,
                                                                     .pos = mr_bug("wrong-index")     ? 0
                                                                            : mr_bug("index-too-far") ? pos + 61
                                                                                                      : pos});
            segment->index_page->used += MR_OFFSET_INDEX_ENTRY;
            segment->last_relative = (int32_t)relative;
        }
        add_time(core, segment);
        segment->since_index = 0;
    }
    segment->since_index += batch_bytes;
}

void mr_segment_index_end(struct mr_storage_core *core, struct mr_segment *segment)
{
    add_time(core, segment);
}

/*
 * Append the chunks to the files: open, write, close, for one file after the other. The pages belong to the task
 * from the start, so new entries go to new pages. Of a segment that is not the log's last the time index ends with the
 * largest timestamp, or a search by time would pass over what is behind it: an entry for which there was no memory
 * is written by itself.
 */
enum flush_at {
    FLUSH_BEGIN,
    FLUSH_INDEX_OPEN,
    FLUSH_INDEX_WRITTEN,
    FLUSH_INDEX_CLOSED,
    FLUSH_TIME_OPEN,
    FLUSH_TIME_WRITTEN,
    FLUSH_TIME_CLOSED,
};

static void flush_open(struct mr_storage_core *core, struct mr_task *task, const char *suffix)
{
    mr_segment_name(task->segment, suffix, task->name);
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                      .flags = MR_DISK_CREATE | MR_DISK_BACKGROUND,
                                      .dir = core->root,
                                      .name = task->name};
}

/* Entries to add, or a file to make: Kafka rebuilds indexes that are not there. */
static bool is_flush_due(const struct mr_segment *segment, const struct mr_page *page)
{
    return !segment->has_index_files || (page != NULL && page->used > 0);
}

/* The task's name is free while the file is open. */
static void write_time_end(struct mr_task *task)
{
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                      .flags = MR_DISK_BACKGROUND,
                                      .file = task->file,
                                      .buffer = task->name,
                                      .len = MR_TIME_INDEX_ENTRY,
                                      .pos = (uint64_t)task->segment->time_bytes};
    store_time(task->segment, (uint8_t *)task->name);
    task->segment->time_bytes += MR_TIME_INDEX_ENTRY;
}

static bool is_time_end_due(const struct mr_segment *segment)
{
    return segment != segment->partition->active && is_time_due(segment);
}

static bool flush_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    if (task->is_again) {
        task->is_again = false;
        return true;
    }
    if (op->err == MR_ERR_NO_SPACE && mr_space_wait(core, task)) {
        return true;
    }
    if (op->err == MR_ERR_NO_SPACE && !core->is_blocking) { /* its files go */
        task->at = op->kind == MR_DISK_OPEN ? (uint32_t)FLUSH_TIME_CLOSED : task->at;
    } else if (op->err != MR_OK) {
        mr_core_fail(core, op, "writing an index");
        task->at = FLUSH_TIME_CLOSED;
    }
    switch ((enum flush_at)task->at) {
    case FLUSH_BEGIN:
        if (is_flush_due(segment, task->page)) {
            task->at = FLUSH_INDEX_OPEN;
            flush_open(core, task, ".index");
            return true;
        }
        break;
    case FLUSH_INDEX_OPEN:
    case FLUSH_TIME_OPEN: {
        struct mr_page *page = task->at == FLUSH_INDEX_OPEN ? task->page : task->page2;
        uint32_t        before = (uint32_t)(task->at == FLUSH_INDEX_OPEN ? task->a : task->b);
        task->file = op->file;
        task->at++;
        *op = (struct mr_disk_op){.kind = MR_DISK_WRITE, .flags = MR_DISK_BACKGROUND, .file = task->file,
                                  .pos = before};
        if (page != NULL && page->used > 0) {
            op->buffer = mr_page_memory(&core->cache, page);
            op->len = page->used;
        } else {
            op->kind = MR_DISK_STAT;
            op->flags = 0;
        }
        return true;
    }
    case FLUSH_TIME_WRITTEN:
        if (is_time_end_due(segment)) {
            write_time_end(task);
            return true;
        }
        /* fall through */
    case FLUSH_INDEX_WRITTEN:
        task->at++;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case FLUSH_INDEX_CLOSED:
    case FLUSH_TIME_CLOSED:
        break;
    }
    if (task->at < FLUSH_TIME_OPEN && (is_flush_due(segment, task->page2) || is_time_end_due(segment))) {
        task->at = FLUSH_TIME_OPEN;
        flush_open(core, task, ".timeindex");
        return true;
    }
    if (task->page != NULL) {
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
    }
    if (task->page2 != NULL) {
        task->page2->is_busy = false;
        mr_page_pool_put(&core->cache, task->page2);
    }
    task->page = NULL;
    task->page2 = NULL;
    segment->is_index_busy = false;
    segment->has_index_files = true;
    segment->users--;
    return task->then != NULL && mr_task_return(core, task);
}

/* The chunks are the task's from now on. */
static void flush_take(struct mr_task *task, struct mr_segment *segment)
{
    task->segment = segment;
    task->page = segment->index_page;
    task->page2 = segment->time_page;
    task->a = segment->index_bytes;
    task->b = segment->time_bytes;
    if (task->page != NULL) {
        segment->index_bytes += task->page->used;
        task->page->is_busy = true;
    }
    if (task->page2 != NULL) {
        segment->time_bytes += task->page2->used;
        task->page2->is_busy = true;
    }
    segment->index_page = NULL;
    segment->time_page = NULL;
    segment->is_index_busy = true;
    segment->users++;
}

struct mr_task *mr_segment_index_flush_task(struct mr_storage_core *core, struct mr_segment *segment)
{
    if (segment->is_index_busy) {
        return NULL;
    }
    struct mr_task *task = mr_core_task(core, segment->partition, flush_step);
    if (task == NULL) {
        return NULL;
    }
    flush_take(task, segment);
    return task;
}

bool mr_segment_index_flush_call(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at)
{
    flush_take(task, task->segment);
    return mr_task_call(core, task, flush_step, back_at);
}

void mr_segment_index_flush(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_task *task = mr_segment_index_flush_task(core, segment);
    if (task != NULL) {
        mr_core_task_start(core, task);
    }
}
