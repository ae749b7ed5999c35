/*
 * log_files: reading a partition directory whose files are complete.
 *
 *   list the directory -> partition.metadata -> leader-epoch-checkpoint -> .index and .timeindex of the
 *   active segment -> its batches from the last index entry on -> the newest snapshot
 *
 * Each is an open, reads and a close; what is missing is left out.
 */
#include "log/log_files.h"

#include "log/offset_index.h"
#include "log/time_index.h"

enum load_at {
    LOAD_BEGIN,
    LOAD_DIR_OPEN,
    LOAD_LISTED,
    LOAD_FILE_OPEN,
    LOAD_FILE_READ,
    LOAD_FILE_CLOSED,
};

enum load_file {
    LOAD_METADATA,
    LOAD_EPOCHS,
    LOAD_INDEX,
    LOAD_TIME,
    LOAD_BATCHES,
    LOAD_SNAPSHOT,
    LOAD_FILE_COUNT,
};

/* Task fields: index: enum load_file; a: read position; b: where the scan of batches stands; x: base of the newest
 * snapshot or -1; page: 256 KiB to read into. */

static bool parse_name(const char *name, const char *suffix, int64_t *base)
{
    uint64_t value = 0;
    for (int at = 0; at < 20; at++) {
        if (name[at] < '0' || name[at] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(name[at] - '0');
    }
    *base = (int64_t)value;
    return value <= INT64_MAX && strlen(name + 20) == strlen(suffix) &&
           memcmp(name + 20, suffix, strlen(suffix)) == 0;
}

/* Segments come in any order from LIST: insert by base. */
static enum mr_err add_segment(struct mr_storage_core *core, struct mr_partition *p, int64_t base, uint64_t size)
{
    if (size > INT32_MAX) {
        return MR_ERR_CORRUPT;
    }
    struct mr_segment *segment = mr_segment_new(core, p, base);
    if (segment == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    segment->size = (uint32_t)size;
    segment->written = (uint32_t)size;
    segment->is_time_known = false;
    segment->has_index_files = true;
    mr_list_remove(&segment->link);
    struct mr_list *after = p->segments.prev;
    while (after != &p->segments && MR_LIST_ENTRY(after, struct mr_segment, link)->base > base) {
        after = after->prev;
    }
    mr_list_add_head(after, &segment->link);
    return MR_OK;
}

static enum mr_err listed(struct mr_storage_core *core, struct mr_task *task)
{
    const uint8_t *at = mr_page_memory(&core->cache, task->page);
    const uint8_t *end = at + task->io.op.done_bytes;
    task->x = -1;
    if (task->io.op.size != 0) {
        return MR_ERR_TOO_LARGE; /* names that did not fit */
    }
    while (at < end) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        int64_t base = 0;
        if (entry->is_directory == 0 && parse_name(entry->name, ".log", &base)) {
            enum mr_err err = add_segment(core, task->partition, base, entry->size);
            if (err != MR_OK) {
                return err;
            }
        } else if (entry->is_directory == 0 && parse_name(entry->name, ".snapshot", &base)) {
            task->x = base > task->x ? base : task->x;
        }
        at += entry->entry_bytes;
    }
    struct mr_partition *p = task->partition;
    if (mr_list_is_empty(&p->segments)) {
        return MR_ERR_NOT_FOUND;
    }
    p->active = MR_LIST_ENTRY(p->segments.prev, struct mr_segment, link);
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        segment->is_sealed = segment != p->active;
        segment->is_seal_done = segment->is_sealed;
    }
    p->log_start = MR_LIST_ENTRY(p->segments.next, struct mr_segment, link)->base;
    p->end = (struct mr_place){.offset = p->active->base, .base = p->active->base};
    return MR_OK;
}

static bool parse_number(const uint8_t **at, const uint8_t *end, int64_t *value)
{
    uint64_t number = 0;
    bool     is_any = false;
    while (*at < end && **at >= '0' && **at <= '9' && number < (uint64_t)INT64_MAX / 10 - 10) {
        number = number * 10 + (uint64_t)(*(*at)++ - '0');
        is_any = true;
    }
    while (*at < end && (**at == ' ' || **at == '\n' || **at == '\r')) {
        (*at)++;
    }
    *value = (int64_t)number;
    return is_any;
}

static enum mr_err load_epochs(struct mr_storage_core *core, struct mr_partition *p, const uint8_t *at, uint32_t len)
{
    const uint8_t *end = at + len;
    int64_t        version = 0;
    int64_t        count = 0;
    if (!parse_number(&at, end, &version) || version != 0 || !parse_number(&at, end, &count)) {
        return MR_ERR_CORRUPT;
    }
    while (count-- > 0) {
        int64_t epoch = 0;
        int64_t offset = 0;
        if (!parse_number(&at, end, &epoch) || !parse_number(&at, end, &offset) || epoch > INT32_MAX) {
            return MR_ERR_CORRUPT;
        }
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, (int32_t)epoch, offset);
    }
    return MR_OK;
}

/* Batches in the page, which holds file bytes [a, a + len). Sets b to where the next one would begin. */
static void scan_batches(struct mr_storage_core *core, struct mr_task *task, const uint8_t *memory, uint32_t len)
{
    struct mr_partition *p = task->partition;
    struct mr_segment   *active = p->active;
    while (task->b + MR_BATCH_HEADER <= task->a + len) {
        struct mr_batch batch;
        mr_batch_header_load(memory + (task->b - task->a), &batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS || batch.last_offset_delta < 0 ||
            batch.base_offset < p->end.offset || task->b + mr_batch_bytes(&batch) > active->size) {
            active->size = (uint32_t)task->b; /* zeros or a torn tail: the log ends before it */
            active->written = active->size;
            return;
        }
        if (task->b == 0) {
            active->first_timestamp = batch.max_timestamp;
        }
        if (batch.max_timestamp > active->max_timestamp) {
            active->max_timestamp = batch.max_timestamp;
            active->max_timestamp_offset = mr_batch_last_offset(&batch);
        }
        p->end.offset = mr_batch_last_offset(&batch) + 1;
        task->b += mr_batch_bytes(&batch);
    }
    (void)core;
}

static enum mr_err use_file(struct mr_storage_core *core, struct mr_task *task, const uint8_t *at, uint32_t len,
                            bool *is_more)
{
    struct mr_partition *p = task->partition;
    struct mr_segment   *active = p->active;
    switch ((enum load_file)task->index) {
    case LOAD_METADATA: {
        static const char key[] = "topic_id: ";
        struct mr_uuid    id;
        for (uint32_t pos = 0; pos + sizeof key - 1 + MR_UUID_TEXT <= len; pos++) {
            if (memcmp(at + pos, key, sizeof key - 1) == 0) {
                struct mr_str text = {.data = (const char *)at + pos + sizeof key - 1, .len = MR_UUID_TEXT};
                if (!mr_uuid_parse(text, &id)) {
                    return MR_ERR_CORRUPT;
                }
                return mr_uuid_equal(&id, &p->jlog.topic_id) ? MR_OK : MR_ERR_EXISTS;
            }
        }
        return MR_OK;
    }
    case LOAD_EPOCHS:
        return load_epochs(core, p, at, len);
    case LOAD_INDEX: {
        uint32_t count = mr_offset_index_check(at, len / MR_OFFSET_INDEX_ENTRY,
                                               (struct mr_offset_index_entry){.relative = active->last_relative,
                                                                              .pos = (uint32_t)task->b},
                                               INT32_MAX, active->size);
        active->index_bytes += count * MR_OFFSET_INDEX_ENTRY;
        if (count > 0) {
            struct mr_offset_index_entry last =
                mr_offset_index_load(at + (size_t)(count - 1) * MR_OFFSET_INDEX_ENTRY);
            active->last_relative = last.relative;
            task->b = last.pos; /* the scan begins at this batch */
        }
        *is_more = len == mr_page_capacity(task->page) && count == len / MR_OFFSET_INDEX_ENTRY;
        return MR_OK;
    }
    case LOAD_TIME: {
        uint32_t count = mr_time_index_check(at, len / MR_TIME_INDEX_ENTRY,
                                             (struct mr_time_index_entry){.timestamp = active->last_time,
                                                                          .relative = active->last_time_relative},
                                             INT32_MAX);
        active->time_bytes += count * MR_TIME_INDEX_ENTRY;
        if (count > 0) {
            struct mr_time_index_entry last =
                mr_time_index_load(at + (size_t)(count - 1) * MR_TIME_INDEX_ENTRY);
            active->last_time = last.timestamp;
            active->last_time_relative = last.relative;
            active->max_timestamp = last.timestamp;
            active->max_timestamp_offset = active->base + last.relative;
        }
        return MR_OK;
    }
    case LOAD_BATCHES:
        scan_batches(core, task, at, len);
        if (len < mr_page_capacity(task->page) && task->b < active->size) {
            active->size = (uint32_t)task->b; /* the file ends within a header: a torn tail */
            active->written = active->size;
        }
        *is_more = task->b < active->size;
        return MR_OK;
    case LOAD_SNAPSHOT:
        (void)mr_producer_snapshot_load(&core->producers, &p->producers, at, len);
        return MR_OK;
    case LOAD_FILE_COUNT:
        break;
    }
    return MR_OK;
}

static bool load_finish(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_partition *p = task->partition;
    if (task->page != NULL) {
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
        task->page = NULL;
    }
    if (err == MR_OK) {
        p->end.base = p->active->base;
        p->end.pos = p->active->size;
        p->durable = p->end;
        p->high_watermark = p->end;
        p->active->is_time_known = true;
        p->tail = p->active->size % MR_PAGE_BYTES == 0 ? MR_TAIL_HOT : MR_TAIL_COLD;
    }
    task->loaded(core, task, err);
    return false;
}

static bool open_next(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    static const char *const names[] = {"partition.metadata", "leader-epoch-checkpoint"};
    if (task->index == LOAD_FILE_COUNT || (task->index == LOAD_SNAPSHOT && task->x < 0)) {
        return load_finish(core, task, MR_OK);
    }
    if (task->index < LOAD_INDEX) {
        mr_fmt(task->name, sizeof task->name, "%s/%s", p->dir_name, names[task->index]);
    } else if (task->index == LOAD_SNAPSHOT) {
        mr_fmt(task->name, sizeof task->name, "%s/%020lld.snapshot", p->dir_name, (long long)task->x);
    } else {
        mr_segment_name(p->active, task->index == LOAD_INDEX  ? ".index"
                                   : task->index == LOAD_TIME ? ".timeindex"
                                                              : ".log",
                        task->name);
    }
    task->a = task->index == LOAD_BATCHES ? task->b : 0;
    task->at = LOAD_FILE_OPEN;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root,
                                      .name = task->name};
    return true;
}

static bool read_next(struct mr_storage_core *core, struct mr_task *task)
{
    uint32_t len = mr_page_capacity(task->page);
    if (task->index == LOAD_TIME) {
        len -= len % MR_TIME_INDEX_ENTRY;
    }
    task->at = LOAD_FILE_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page), .len = len,
                                      .pos = task->a};
    return true;
}

static bool load_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum load_at)task->at) {
    case LOAD_BEGIN:
        task->at = LOAD_DIR_OPEN;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->partition->dir_name};
        return true;
    case LOAD_DIR_OPEN:
        if (op->err != MR_OK) {
            return load_finish(core, task, op->err);
        }
        task->page = mr_tail_page_get(core, 6);
        task->file = op->file;
        task->at = LOAD_LISTED;
        if (task->page == NULL) {
            *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
            task->err = MR_ERR_NO_MEMORY;
            task->at = LOAD_FILE_CLOSED;
            return true;
        }
        task->page->is_busy = true;
        *op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = task->file,
                                  .buffer = mr_page_memory(&core->cache, task->page),
                                  .len = mr_page_capacity(task->page)};
        return true;
    case LOAD_LISTED:
        task->err = op->err != MR_OK ? op->err : listed(core, task);
        task->at = LOAD_FILE_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case LOAD_FILE_OPEN:
        if (op->err == MR_ERR_NOT_FOUND) {
            task->index++;
            return open_next(core, task);
        }
        if (op->err != MR_OK) {
            return load_finish(core, task, op->err);
        }
        task->file = op->file;
        return read_next(core, task);
    case LOAD_FILE_READ: {
        bool is_more = false;
        task->err = op->err != MR_OK ? op->err
                                     : use_file(core, task, op->buffer, op->done_bytes, &is_more);
        if (task->err == MR_OK && is_more) {
            task->a = task->index == LOAD_BATCHES ? task->b : task->a + op->len;
            return read_next(core, task);
        }
        task->index++;
        task->at = LOAD_FILE_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    }
    case LOAD_FILE_CLOSED:
        if (task->err != MR_OK) {
            return load_finish(core, task, task->err);
        }
        return open_next(core, task);
    }
    mr_unreachable("load");
}

struct mr_task *mr_log_load_task(struct mr_storage_core *core, struct mr_partition *p,
                                 const struct mr_uuid *topic_id,
                                 void (*loaded)(struct mr_storage_core *, struct mr_task *, enum mr_err))
{
    (void)topic_id; /* already in p->jlog */
    struct mr_task *task = mr_core_task(core, p, load_step);
    if (task != NULL) {
        task->loaded = loaded;
    }
    return task;
}
