/*
 * log_files: see the header. In the order of the disk operations:
 *
 *   list the directory -> partition.metadata -> leader-epoch-checkpoint -> .index and .timeindex of the
 *   active segment -> the newest snapshot -> batches, segment by segment, where they are needed
 *
 * Each is an open, reads and a close; what is missing is left out. An index is believed up to the first entry
 * that does not fit what is before it, and is cut there; the batches behind make the rest again.
 */
#include "log/log_load.h"

#include "log/offset_index.h"
#include "millrace/side_car.h"
#include "log/time_index.h"

#define SMALL_ORDER 2 /* 16 KiB */
#define LARGE_ORDER 6

void mr_log_provisional_config(struct mr_partition *p)
{
    p->config.segment_index_bytes = 10 << 20;
    p->config.index_interval_bytes = 4096;
}

/*
 * DeleteRecords may have moved the start into a segment; the checkpoint says so, for a log that is as a clean stop left
 * it. One beyond the end is of an older log of that name: its own start was never above its end. A log with a state
 * has its start there, and the checkpoint may be that of an older log, whatever it says.
 */
static void set_log_start(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    bool                 was_clean = p->is_clean_on_disk;
    bool                 is_state = (mr_log_load_known(task) != NULL && mr_log_load_known(task)->is_state) ||
                    (task->load != NULL && task->load->is_start_known);
    int64_t              offset = mr_checkpoint_find(&core->first->log_starts, p->jlog.dir_name);
    if (!is_state && offset <= p->end.offset) {
        mr_partition_log_start(core, p, offset, 0);
        p->is_clean_on_disk = was_clean; /* nothing that its files do not say */
    }
}

/* ---- Left-over files ---- */

/* Remove the next left-over file that the list names; false: there is none any more. */
static bool tidy_next(struct mr_storage_core *core, struct mr_task *task)
{
    const uint8_t *begin = mr_page_memory(&core->cache, task->page);
    while (task->a < task->c) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)(begin + task->a);
        task->a += entry->entry_bytes;
        if (entry->is_directory == 0 && mr_log_list_is_left_over(task, entry->name)) {
            task->at = MR_LOAD_TIDIED;
            task->io.op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = task->file, .name = entry->name};
            return true;
        }
    }
    return false;
}

/* Believed entries end before the file does: what is behind them must not stand behind new ones. */
static bool cut_index(struct mr_task *task, uint64_t believed)
{
    if (task->index == MR_LOAD_TIME) {
        task->b = 0; /* entries are missing that only the batches can tell */
    }
    task->at = MR_LOAD_FILE_CUT;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = task->file, .pos = believed};
    return true;
}

/* ---- Snapshots of producers ---- */

/* Where it would be, the one before: it lies beside the segment that begins there. -1: there is none. */
static int64_t snapshot_before(const struct mr_partition *p, int64_t offset)
{
    const struct mr_segment *segment = mr_segment_find(p, offset - 1);
    return segment == NULL ? -1 : segment->base;
}

/* The one at hand is lost: the one before is tried, and more batches are read. Its size is not known. */
static void try_older_snapshot(struct mr_task *task)
{
    task->x = snapshot_before(task->partition, task->x);
    task->y = MR_SCRATCH_BYTES;
    task->is_again = task->x >= 0;
}

/* ---- The steps ---- */

static bool load_finish(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_partition *p = task->partition;
    if (task->page != NULL) {
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
        task->page = NULL;
    }
    /* Where the batches end before the file does, the last one's offset may be wrong as well. Without a snapshot the
     * file's size tells: only at a stop or a roll is it cut where a batch ends; what is allocated ahead are whole blocks. */
    bool is_sized = task->scan.size % MR_PAGE_BYTES != 0;
    bool is_untold = task->x >= 0 ? task->x != p->end.offset : is_sized || task->is_proof;
    bool is_cut = task->scan.state == MR_LOG_SCAN_DAMAGED && is_untold;
    if (err == MR_OK && task->load == NULL && (task->x > p->end.offset || is_cut)) {
        /* The journal has nothing of it: it is as a clean stop left it, in this start or one before. Cut here and gone
         * on with, other records would get the offsets of those that were acknowledged. */
        mr_log(core->log, MR_LOG_ERROR, "a log has lost records since it was closed dir=%s end=%lld was=%lld",
               p->dir_name, (long long)p->end.offset, (long long)task->x);
        err = MR_ERR_CORRUPT;
    }
    if (err == MR_OK) {
        if (mr_log_load_known(task) != NULL) {
            p->end.offset = mr_log_load_known(task)->offset;
        }
        if (task->x > p->end.offset) {
            mr_producer_set_clear(&core->producers, &p->producers); /* of records that are not there */
        }
        err = !mr_fail(MR_FAIL_txns_open) && mr_txns_rebuild(core, p) ? MR_OK : MR_ERR_NO_MEMORY;
    }
    if (err == MR_OK) {
        p->end.base = p->active->base;
        p->end.pos = p->active->size;
        p->durable = p->end;
        p->high_watermark = p->end;
        p->active->is_time_known = true;
        p->tail = p->active->size % MR_PAGE_BYTES == 0 ? MR_TAIL_HOT : MR_TAIL_COLD;
        set_log_start(core, task);
    }
    task->loaded(core, task, err);
    return false;
}

static const char *file_name(struct mr_task *task)
{
    const struct mr_partition *p = task->partition;
    switch ((enum mr_load_file)task->index) {
    case MR_LOAD_ABORTED:
        mr_segment_name(task->segment, ".txnindex", task->name);
        break;
    case MR_LOAD_METADATA:
        mr_fmt(task->name, sizeof task->name, "%s/partition.metadata", p->dir_name);
        break;
    case MR_LOAD_EPOCHS:
        mr_fmt(task->name, sizeof task->name, "%s/leader-epoch-checkpoint", p->dir_name);
        break;
    case MR_LOAD_SNAPSHOT:
        mr_fmt(task->name, sizeof task->name, "%s/%020lld.snapshot", p->dir_name, (long long)task->x);
        break;
    case MR_LOAD_INDEX:
        mr_segment_name(p->active, ".index", task->name);
        break;
    case MR_LOAD_TIME:
        mr_segment_name(p->active, ".timeindex", task->name);
        break;
    case MR_LOAD_WIPE_INDEX:
        mr_segment_name(task->segment, ".index", task->name);
        break;
    case MR_LOAD_WIPE_TIME:
        mr_segment_name(task->segment, ".timeindex", task->name);
        break;
    case MR_LOAD_SEGMENT:
        mr_segment_name(task->segment, ".log", task->name);
        break;
    case MR_LOAD_OVER:
        mr_unreachable("no file");
    }
    return task->name;
}

/* The next segment that has a .txnindex; false: none any more, task->segment is the first again. */
static bool choose_aborted(struct mr_task *task)
{
    while (task->segment != NULL && task->segment->aborted_file == 0) {
        task->segment = mr_segment_next(task->segment);
    }
    if (task->segment == NULL) {
        task->segment = MR_LIST_ENTRY(task->partition->segments.next, struct mr_segment, link);
        return false;
    }
    return true;
}

/* Whether the file is read at all; the batches are chosen by choose_scan. */
static bool is_wanted(struct mr_task *task)
{
    bool is_state = mr_log_load_known(task) != NULL && mr_log_load_known(task)->is_state;
    switch ((enum mr_load_file)task->index) {
    case MR_LOAD_ABORTED:
        return choose_aborted(task);
    case MR_LOAD_METADATA:
        return true;
    case MR_LOAD_EPOCHS:
        return !is_state && task->partition->has_epoch_file;
    case MR_LOAD_INDEX:
        return task->index_bytes > 0 && task->partition->active->has_index_files && !mr_log_load_is_verified(task);
    case MR_LOAD_TIME:
        return task->time_bytes > 0 && task->partition->active->has_index_files && !mr_log_load_is_verified(task);
    case MR_LOAD_SNAPSHOT:
        return task->x >= 0 && task->y > MR_PRODUCER_SNAPSHOT_HEAD && !is_state;
    case MR_LOAD_WIPE_INDEX:
    case MR_LOAD_WIPE_TIME:
    case MR_LOAD_SEGMENT:
    case MR_LOAD_OVER:
        break;
    }
    return true;
}

static bool open_next(struct mr_storage_core *core, struct mr_task *task)
{
    while (task->index <= MR_LOAD_SNAPSHOT && !is_wanted(task)) {
        task->b = task->index == MR_LOAD_TIME ? 0 : task->b; /* its entries are missing, only the batches can tell */
        task->index++;
        if (task->index == MR_LOAD_WIPE_INDEX) {
            mr_log_batches_choose(task);
        }
    }
    while (task->index == MR_LOAD_SEGMENT) {
        mr_log_batches_begin(core, task);
        if (task->scan.state == MR_LOG_SCAN_GOING) {
            break;
        }
        mr_log_batches_end(core, task); /* it is empty */
    }
    if (task->index == MR_LOAD_OVER) {
        return load_finish(core, task, MR_OK);
    }
    uint32_t flags = MR_DISK_READ_ONLY;
    if (task->index == MR_LOAD_INDEX || task->index == MR_LOAD_TIME) {
        flags = 0; /* it may have to be cut */
    } else if (task->index == MR_LOAD_WIPE_INDEX || task->index == MR_LOAD_WIPE_TIME) {
        flags = MR_DISK_CREATE | MR_DISK_TRUNC;
    }
    task->a = task->index == MR_LOAD_SEGMENT ? task->scan.at : 0;
    task->at = MR_LOAD_FILE_OPEN;
    task->io.op = (struct mr_disk_op){
        .kind = MR_DISK_OPEN, .flags = flags, .dir = core->root, .name = file_name(task)};
    return true;
}

/* Bytes of the file at hand behind what has been read; without a listed size more than there may be. */
static uint64_t bytes_left(const struct mr_task *task)
{
    switch ((enum mr_load_file)task->index) {
    case MR_LOAD_ABORTED:
        return task->segment->aborted_file - task->a;
    case MR_LOAD_INDEX:
        return task->index_bytes - task->a;
    case MR_LOAD_TIME:
        return task->time_bytes - task->a;
    case MR_LOAD_SNAPSHOT:
        return (uint64_t)task->y - task->a;
    case MR_LOAD_SEGMENT:
        return task->scan.size - task->a;
    case MR_LOAD_METADATA:
    case MR_LOAD_EPOCHS:
    case MR_LOAD_WIPE_INDEX:
    case MR_LOAD_WIPE_TIME:
    case MR_LOAD_OVER:
        break;
    }
    return UINT32_MAX;
}

/* Not beyond the end where that is known: a read that is short is tried once more. */
static bool read_next(struct mr_storage_core *core, struct mr_task *task)
{
    uint32_t len = mr_page_capacity(task->page);
    uint64_t left = bytes_left(task);
    if (task->index == MR_LOAD_TIME) {
        len -= len % MR_TIME_INDEX_ENTRY;
    } else if (task->index == MR_LOAD_ABORTED) {
        len -= len % MR_ABORTED_ENTRY;
    }
    len = left < len ? (uint32_t)left : len;
    task->at = MR_LOAD_FILE_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page), .len = len,
                                      .pos = task->a};
    return true;
}

static bool read_first(struct mr_storage_core *core, struct mr_task *task)
{
    task->at = MR_LOAD_FIRST_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page),
                                      .len = MR_BATCH_HEADER};
    return true;
}

static bool close_file(struct mr_task *task)
{
    task->at = MR_LOAD_FILE_CLOSED;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
    return true;
}

/* A page of at least this order; false: no memory now, what there was is kept. */
static bool set_page(struct mr_storage_core *core, struct mr_task *task, uint32_t order)
{
    if (task->page != NULL && task->page->order >= order) {
        return true;
    }
    struct mr_page *page = mr_tail_page_get(core, order);
    if (page == NULL) {
        return false;
    }
    if (task->page != NULL) {
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
    }
    task->page = page;
    page->is_busy = true;
    return true;
}

static uint32_t page_order(const struct mr_task *task)
{
    if (task->index == MR_LOAD_SNAPSHOT) {
        return mr_page_order((uint64_t)task->y);
    }
    bool is_long = task->index == MR_LOAD_INDEX || task->index == MR_LOAD_TIME
                       ? task->partition->active->size > (16u << 20)
                       : task->index == MR_LOAD_SEGMENT && task->scan.size - task->scan.at > (16u << 10);
    return is_long ? LARGE_ORDER : SMALL_ORDER;
}

static bool list_dir(struct mr_storage_core *core, struct mr_task *task)
{
    task->at = MR_LOAD_LISTED;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_LIST, .flags = MR_DISK_NUMBERED, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page),
                                      .len = mr_page_capacity(task->page)};
    return true;
}

static void next_file(struct mr_task *task)
{
    if (task->index == MR_LOAD_ABORTED) {
        task->segment = mr_segment_next(task->segment);
        return;
    }
    if (task->index == MR_LOAD_SNAPSHOT && task->is_again) {
        task->is_again = false;
        return;
    }
    task->index++;
    if (task->index == MR_LOAD_WIPE_INDEX) {
        mr_log_batches_choose(task);
    }
}

/* A .txnindex is not what it was: the segment's batches are asked, from the snapshot of producers at its base on. Where the
 * journal tells the producers, after it is redone and apart from them (txn_mend.c). */
static void ask_batches(struct mr_storage_core *core, struct mr_task *task, struct mr_segment *segment)
{
    if (mr_log_load_known(task) != NULL && mr_log_load_known(task)->is_state) {
        segment->is_aborted_lost = true;
        return;
    }
    mr_aborted_clear(core, segment);
    segment->has_index_files = false; /* so that it is read */
    if (task->x > segment->base) {
        task->x = segment->base;
        task->y = MR_SCRATCH_BYTES; /* its size is not known */
    }
}

/* Entries of a .txnindex. What does not fit the log ends it, and it is written anew. */
static bool use_aborted(struct mr_storage_core *core, struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *segment = task->segment;
    uint32_t           believed = mr_aborted_read(core, segment, at, len, &task->err);
    if (task->err == MR_OK && believed < len) {
        mr_log(core->log, MR_LOG_WARN, "a .txnindex is damaged dir=%s segment=%lld entries=%u",
               task->partition->dir_name, (long long)segment->base, segment->aborted_count);
        segment->is_aborted_stale = true;
        task->partition->is_clean_on_disk = false;
        ask_batches(core, task, segment);
    }
    task->a += len;
    return task->err == MR_OK && believed == len && task->a < segment->aborted_file && len > 0 &&
           read_next(core, task);
}

static bool opened(struct mr_storage_core *core, struct mr_task *task)
{
    const struct mr_disk_op *op = &task->io.op;
    if (op->err == MR_ERR_NOT_FOUND && task->index != MR_LOAD_SEGMENT) {
        if (task->index == MR_LOAD_TIME) {
            task->b = 0;
        } else if (task->index == MR_LOAD_SNAPSHOT) {
            try_older_snapshot(task);
        }
        next_file(task);
        return open_next(core, task);
    }
    if (op->err == MR_ERR_NOT_FOUND && task->segment == task->partition->active && mr_log_load_known(task) != NULL) {
        mr_log_batches_end(core, task); /* nothing of it is in a file yet: all of it is in the journal */
        return open_next(core, task);
    }
    if (op->err != MR_OK) {
        return load_finish(core, task, op->err);
    }
    task->file = op->file;
    if (task->index == MR_LOAD_WIPE_INDEX || task->index == MR_LOAD_WIPE_TIME) {
        return close_file(task);
    }
    if (!set_page(core, task, page_order(task))) {
        task->err = MR_ERR_NO_MEMORY;
        return close_file(task);
    }
    return task->index == MR_LOAD_SEGMENT && task->b > 0 && task->segment->first_timestamp < 0
               ? read_first(core, task)
               : read_next(core, task);
}

/* A file's bytes are there. Returns whether the next operation is prepared already. */
static bool use_bytes(struct mr_storage_core *core, struct mr_task *task)
{
    const struct mr_disk_op *op = &task->io.op;
    const uint8_t           *at = op->buffer;
    uint32_t                 len = op->done_bytes;
    uint32_t                 believed;
    switch ((enum mr_load_file)task->index) {
    case MR_LOAD_ABORTED:
        return use_aborted(core, task, at, len);
    case MR_LOAD_METADATA:
        task->err = mr_log_small_metadata(task, at, len);
        return false;
    case MR_LOAD_EPOCHS:
        if (mr_log_small_epochs(core, task->partition, at, len) != MR_OK) {
            /* What is derived from batches is not a reason not to start. */
            mr_log(core->log, MR_LOG_WARN, "a leader-epoch-checkpoint is damaged and left out dir=%s",
                   task->partition->dir_name);
            task->partition->epochs.count = 0;
        }
        return false;
    case MR_LOAD_INDEX:
    case MR_LOAD_TIME:
        believed = task->index == MR_LOAD_INDEX ? mr_log_small_index(task, at, len) : mr_log_small_times(task, at, len);
        if (believed < len) {
            return cut_index(task, op->pos + believed);
        }
        task->a += len;
        return len == op->len && bytes_left(task) > 0 && read_next(core, task);
    case MR_LOAD_SNAPSHOT:
        if (mr_producer_snapshot_load(&core->producers, &task->partition->producers, at, len) != MR_OK) {
            mr_log(core->log, MR_LOG_WARN, "a snapshot of producers is damaged dir=%s offset=%lld",
                   task->partition->dir_name, (long long)task->x);
            try_older_snapshot(task);
            return false;
        }
        task->partition->snapshot_at = task->x;
        return false;
    case MR_LOAD_SEGMENT:
        if (mr_log_scan_feed(&task->scan, at, len, mr_log_batches_found, task) == MR_LOG_SCAN_GOING) {
            task->a = task->scan.at;
            return read_next(core, task);
        }
        return false;
    case MR_LOAD_WIPE_INDEX:
    case MR_LOAD_WIPE_TIME:
    case MR_LOAD_OVER:
        break;
    }
    mr_unreachable("no bytes");
}

/* The file at hand is done with. */
static bool closed(struct mr_storage_core *core, struct mr_task *task)
{
    if (task->err != MR_OK) {
        return load_finish(core, task, task->err);
    }
    if (task->index == MR_LOAD_SEGMENT) {
        mr_log_batches_end(core, task);
        return open_next(core, task);
    }
    if (task->index == MR_LOAD_TIME && task->partition->active->time_bytes == 0) {
        task->b = 0;
    }
    next_file(task);
    return open_next(core, task);
}

static bool load_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum mr_load_at)task->at) {
    case MR_LOAD_BEGIN:
        task->core = core;
        task->at = MR_LOAD_DIR_OPEN;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->partition->dir_name};
        return true;
    case MR_LOAD_DIR_OPEN:
        if (op->err != MR_OK) {
            return load_finish(core, task, op->err);
        }
        task->file = op->file;
        if (!set_page(core, task, SMALL_ORDER)) {
            task->err = MR_ERR_NO_MEMORY;
            return close_file(task);
        }
        return list_dir(core, task);
    case MR_LOAD_LISTED:
        if (op->err == MR_OK && op->size != 0 && task->page->order < MR_PAGE_ORDER_MAX &&
            set_page(core, task, task->page->order + 2u)) {
            return list_dir(core, task); /* many segments */
        }
        task->err = op->err != MR_OK ? op->err : mr_log_list_take(core, task);
        task->segment = task->err != MR_OK ? NULL
                                           : MR_LIST_ENTRY(task->partition->segments.next, struct mr_segment, link);
        task->index = UINT32_MAX; /* the directory: the first file comes next */
        return task->err == MR_OK && tidy_next(core, task) ? true : close_file(task);
    case MR_LOAD_TIDIED:
        return tidy_next(core, task) ? true : close_file(task);
    case MR_LOAD_FILE_OPEN:
        return opened(core, task);
    case MR_LOAD_FIRST_READ:
        if (op->err == MR_OK && op->done_bytes == MR_BATCH_HEADER) {
            struct mr_batch first;
            mr_batch_header_load(op->buffer, &first);
            task->segment->first_timestamp = first.max_timestamp;
        }
        return read_next(core, task);
    case MR_LOAD_FILE_READ:
        task->err = op->err;
        return op->err == MR_OK && use_bytes(core, task) ? true : close_file(task);
    case MR_LOAD_FILE_CUT:
        task->err = op->err;
        return close_file(task);
    case MR_LOAD_FILE_CLOSED:
        return closed(core, task);
    }
    mr_unreachable("load");
}

struct mr_task *mr_log_load_task(struct mr_storage_core *core, struct mr_partition *p, const struct mr_log_load *how,
                                 void (*loaded)(struct mr_storage_core *, struct mr_task *, enum mr_err))
{
    struct mr_task *task = mr_core_task(core, p, load_step);
    if (task != NULL) {
        task->load = how;
        task->loaded = loaded;
    }
    return task;
}

enum mr_err mr_log_cut_segments(struct mr_storage_core *core, struct mr_partition *p)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".txnindex", MR_SIDE_SUFFIX};
    enum mr_err              err = MR_OK;
    while (err == MR_OK && p->segments.prev != &p->active->link) {
        struct mr_segment *segment = MR_LIST_ENTRY(p->segments.prev, struct mr_segment, link);
        for (uint32_t index = 0; index < sizeof suffixes / sizeof suffixes[0] && err == MR_OK; index++) {
            char name[MR_FILE_NAME_BYTES];
            mr_segment_name(segment, suffixes[index], name);
            struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = core->root, .name = name};
            err = mr_core_disk(core, &op);
            err = err == MR_ERR_NOT_FOUND ? MR_OK : err;
        }
        mr_segment_free(core, segment);
    }
    return err;
}
