/*
 * log_files: see the header. In the order of the disk operations:
 *
 *   list the directory -> partition.metadata -> leader-epoch-checkpoint -> .index and .timeindex of the
 *   active segment -> the newest snapshot -> batches, segment by segment, where they are needed
 *
 * Each is an open, reads and a close; what is missing is left out. An index is believed up to the first entry
 * that does not fit what is before it, and is cut there; the batches behind make the rest again.
 */
#include "log/log_files.h"

#include "millrace/base/bug.h"

#include "log/offset_index.h"
#include "log/time_index.h"

enum load_at {
    LOAD_BEGIN,
    LOAD_DIR_OPEN,
    LOAD_LISTED,
    LOAD_TIDIED, /* a left-over file is gone */
    LOAD_FILE_OPEN,
    LOAD_FIRST_READ, /* of a segment that is not read from its start: its first batch's header */
    LOAD_FILE_READ,
    LOAD_FILE_CUT,
    LOAD_FILE_CLOSED,
};

enum load_file {
    LOAD_ABORTED, /* .txnindex, of task->segment */
    LOAD_METADATA,
    LOAD_EPOCHS,
    LOAD_INDEX,
    LOAD_TIME,
    LOAD_SNAPSHOT,
    LOAD_WIPE_INDEX, /* of a segment whose indexes are made anew */
    LOAD_WIPE_TIME,
    LOAD_SEGMENT,
    LOAD_OVER,
};

/* Task fields: index: enum load_file; a: read position; b: where the active segment's batches are read from; y: size of
 * the newest snapshot; c: bytes of the list; x: its offset, -1: none; segment: read now, or next; scan; page: to read into, larger when that
 * is too small for the list, the snapshot, or many batches. */

#define SMALL_ORDER 2 /* 16 KiB */
#define LARGE_ORDER 6

static const struct mr_log_known *known_of(const struct mr_task *task)
{
    return task->load == NULL ? NULL : task->load->known;
}

static bool is_verified(const struct mr_task *task)
{
    return task->load != NULL && task->load->is_verified;
}

bool mr_log_file_parse(const char *name, const char *suffix, int64_t *base)
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

bool mr_log_dir_parse(struct mr_str name, struct mr_str *topic, int32_t *partition)
{
    int32_t dash = name.len - 1;
    int64_t number = 0;
    while (dash > 0 && name.data[dash] != '-') {
        dash--;
    }
    if (dash <= 0 || dash + 1 == name.len || name.len - dash > 11 || dash > MR_TOPIC_NAME_MAX) {
        return false;
    }
    for (int32_t at = dash + 1; at < name.len; at++) {
        if (name.data[at] < '0' || name.data[at] > '9') {
            return false;
        }
        number = number * 10 + (name.data[at] - '0');
    }
    *topic = (struct mr_str){.data = name.data, .len = dash};
    *partition = (int32_t)number;
    return number <= INT32_MAX;
}

void mr_log_provisional_config(struct mr_partition *p)
{
    p->config.segment_index_bytes = 10 << 20;
    p->config.index_interval_bytes = 4096;
}

/* ---- What the directory lists ---- */

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
    segment->allocated = (uint32_t)size;
    segment->is_time_known = false;
    mr_segment_sort(segment);
    return MR_OK;
}

static struct mr_segment *segment_of(const struct mr_partition *p, int64_t base)
{
    struct mr_segment *segment = mr_segment_find(p, base);
    return segment != NULL && segment->base == base ? segment : NULL;
}

static enum mr_err list_name(struct mr_storage_core *core, struct mr_task *task,
                             const struct mr_disk_list_entry *entry)
{
    struct mr_partition       *p = task->partition;
    const struct mr_log_known *known = known_of(task);
    int64_t                    base = 0;
    if (mr_log_file_parse(entry->name, ".log", &base)) {
        enum mr_err err = add_segment(core, p, base, entry->size);
        if (err == MR_OK) {
            segment_of(p, base)->has_file = true;
        }
        return err;
    }
    if (mr_log_file_parse(entry->name, ".snapshot", &base) && base > task->x &&
        entry->size >= MR_PRODUCER_SNAPSHOT_HEAD && /* not one that was cut */
        (known == NULL || base <= known->offset) &&
        (!is_verified(task) || base <= task->load->recovery_point)) {
        task->x = base;
        task->y = (int64_t)entry->size;
    }
    p->has_epoch_file |= mr_str_equal(mr_str(entry->name), MR_STR("leader-epoch-checkpoint"));
    return MR_OK;
}

/* The second round, when all segments are there. Indexes without entries are not read. */
static void list_index(struct mr_task *task, const struct mr_disk_list_entry *entry)
{
    const struct mr_partition *p = task->partition;
    struct mr_segment         *segment = NULL;
    int64_t                    base = 0;
    if (mr_log_file_parse(entry->name, ".index", &base) && (segment = segment_of(p, base)) != NULL) {
        segment->has_index_files |= entry->size % MR_OFFSET_INDEX_ENTRY == 0;
        if (segment == p->active) {
            task->index_bytes = (uint32_t)entry->size;
        }
    } else if (mr_log_file_parse(entry->name, ".timeindex", &base) && base == p->active->base) {
        task->time_bytes = (uint32_t)entry->size;
    } else if (mr_log_file_parse(entry->name, ".txnindex", &base) && (segment = segment_of(p, base)) != NULL) {
        segment->aborted_file = entry->size < UINT32_MAX ? (uint32_t)entry->size : UINT32_MAX;
    }
}

/* The active segment is the last one, or the one in which the log is known to end. */
static enum mr_err choose_active(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition       *p = task->partition;
    const struct mr_log_known *known = known_of(task);
    if (known != NULL && segment_of(p, known->base) == NULL) {
        enum mr_err err = add_segment(core, p, known->base, known->pos); /* all of it is in the journal */
        if (err != MR_OK) {
            return err;
        }
    }
    if (mr_list_is_empty(&p->segments)) {
        return MR_ERR_NOT_FOUND;
    }
    p->active = MR_LIST_ENTRY(p->segments.prev, struct mr_segment, link);
    if (known != NULL) {
        p->active = segment_of(p, known->base);
        p->active->size = known->pos;
        p->active->written = known->pos;
    }
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        segment->is_sealed = segment->base < p->active->base;
        segment->is_seal_done = segment->is_sealed;
    }
    p->log_start = MR_LIST_ENTRY(p->segments.next, struct mr_segment, link)->base;
    p->end = (struct mr_place){.offset = p->active->base, .base = p->active->base};
    return MR_OK;
}

/*
 * Files of segments that were being deleted or made by compaction when the broker went away, indexes whose segment is gone, and snapshots of
 * earlier stops: as Kafka, the newest one and those of segments stay.
 */
static bool is_left_over(const struct mr_task *task, const char *name)
{
    const struct mr_partition *p = task->partition;
    static const char *const kinds[] = {".log", ".index", ".timeindex", ".txnindex", ".snapshot"};
    int64_t                  base = 0;
    for (uint32_t index = 0; index < sizeof kinds / sizeof kinds[0]; index++) {
        char deleted[24];
        char cleaned[24];
        mr_fmt(deleted, sizeof deleted, "%s.deleted", kinds[index]);
        mr_fmt(cleaned, sizeof cleaned, "%s.cleaned", kinds[index]);
        if (mr_log_file_parse(name, deleted, &base) || mr_log_file_parse(name, cleaned, &base)) {
            return true;
        }
        bool is_index = index >= 1 && index <= 3;
        if (is_index && mr_log_file_parse(name, kinds[index], &base) && segment_of(p, base) == NULL) {
            return true;
        }
    }
    return mr_log_file_parse(name, ".snapshot", &base) && base != task->x && segment_of(p, base) == NULL;
}

/* Remove the next left-over file that the list names; false: there is none any more. */
static bool tidy_next(struct mr_storage_core *core, struct mr_task *task)
{
    const uint8_t *begin = mr_page_memory(&core->cache, task->page);
    while (task->a < task->c) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)(begin + task->a);
        task->a += entry->entry_bytes;
        if (entry->is_directory == 0 && is_left_over(task, entry->name)) {
            task->at = LOAD_TIDIED;
            task->io.op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = task->file, .name = entry->name};
            return true;
        }
    }
    return false;
}

static enum mr_err listed(struct mr_storage_core *core, struct mr_task *task)
{
    const uint8_t *begin = mr_page_memory(&core->cache, task->page);
    const uint8_t *end = begin + task->io.op.done_bytes;
    task->x = -1;
    task->a = 0;
    task->c = task->io.op.done_bytes;
    if (task->io.op.size != 0) {
        return MR_ERR_TOO_LARGE; /* names that did not fit */
    }
    enum mr_err err = MR_OK;
    for (const uint8_t *at = begin; at < end && err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        err = entry->is_directory != 0 ? MR_OK : list_name(core, task, entry);
        at += entry->entry_bytes;
    }
    err = err != MR_OK ? err : choose_active(core, task);
    for (const uint8_t *at = begin; at < end && err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        if (entry->is_directory == 0) {
            list_index(task, entry);
        }
        at += entry->entry_bytes;
    }
    return err;
}

/* ---- Small files ---- */

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

static enum mr_err check_metadata(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    static const char          key[] = "topic_id: ";
    const struct mr_partition *p = task->partition;
    struct mr_uuid             id;
    for (uint32_t pos = 0; pos + sizeof key - 1 + MR_UUID_TEXT <= len; pos++) {
        if (memcmp(at + pos, key, sizeof key - 1) == 0) {
            struct mr_str text = {.data = (const char *)at + pos + sizeof key - 1, .len = MR_UUID_TEXT};
            if (!mr_uuid_parse(text, &id)) {
                return MR_OK; /* its bytes were not durable: as if there were none */
            }
            task->is_marked = mr_uuid_is_zero(&p->jlog.topic_id) || mr_uuid_equal(&id, &p->jlog.topic_id);
            task->is_marked = task->is_marked || mr_bug("adopt-any-directory");
            return task->is_marked ? MR_OK : MR_ERR_EXISTS;
        }
    }
    return MR_OK;
}

/* ---- Indexes of the active segment ---- */

/* The largest relative offset that an entry may name. */
static int64_t relative_max(const struct mr_task *task)
{
    const struct mr_log_known *known = known_of(task);
    return known == NULL ? INT32_MAX : known->offset - 1 - task->partition->active->base;
}

/* Returns how many of the bytes are believed. */
static uint32_t load_index(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *active = task->partition->active;
    uint32_t           count = mr_offset_index_check(
        at, len / MR_OFFSET_INDEX_ENTRY,
        (struct mr_offset_index_entry){.relative = active->last_relative, .pos = (uint32_t)task->b},
        relative_max(task), active->size);
    if (count > 0) {
        struct mr_offset_index_entry last =
            mr_offset_index_load(at + (size_t)(count - 1) * MR_OFFSET_INDEX_ENTRY);
        active->last_relative = last.relative;
        task->b = last.pos; /* the scan begins at this batch */
    }
    active->index_bytes += count * MR_OFFSET_INDEX_ENTRY;
    return count * MR_OFFSET_INDEX_ENTRY;
}

static uint32_t load_time(struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *active = task->partition->active;
    uint32_t           count = mr_time_index_check(
        at, len / MR_TIME_INDEX_ENTRY,
        (struct mr_time_index_entry){.timestamp = active->last_time, .relative = active->last_time_relative},
        relative_max(task));
    if (count > 0) {
        struct mr_time_index_entry last = mr_time_index_load(at + (size_t)(count - 1) * MR_TIME_INDEX_ENTRY);
        active->last_time = last.timestamp;
        active->last_time_relative = last.relative;
        active->max_timestamp = last.timestamp;
        active->max_timestamp_offset = active->base + last.relative;
        active->is_time_unproven = true;
    }
    active->time_bytes += count * MR_TIME_INDEX_ENTRY;
    return count * MR_TIME_INDEX_ENTRY;
}

/* Believed entries end before the file does: what is behind them must not stand behind new ones. */
static bool cut_index(struct mr_task *task, uint64_t believed)
{
    if (task->index == LOAD_TIME) {
        task->b = 0; /* entries are missing that only the batches can tell */
    }
    task->at = LOAD_FILE_CUT;
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

/* ---- Batches ---- */

/* Whether nothing but the producers of these batches is asked for. */
static bool is_for_producers(const struct mr_task *task, const struct mr_segment *segment)
{
    return segment != task->partition->active && segment->has_index_files && !is_verified(task);
}

static void found_batch(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    struct mr_task         *task = context;
    struct mr_partition    *p = task->partition;
    struct mr_storage_core *core = task->core;
    bool                    is_all = !is_for_producers(task, task->segment);
    if (is_all) {
        mr_segment_index(core, task->segment, batch, pos, mr_batch_bytes(batch));
    }
    if (is_verified(task)) {
        mr_partition_set_epoch_room(core, p);
        mr_epoch_cache_assign(&p->epochs, batch->leader_epoch, batch->base_offset);
    }
    struct mr_aborted aborted;
    if (batch->producer_id >= 0 && batch->base_offset >= task->x && mr_txn_replay(core, p, batch, control, &aborted) &&
        is_all && mr_aborted_add(core, task->segment, &aborted) != MR_OK) {
        task->err = MR_ERR_NO_MEMORY;
    }
    if (task->segment == p->active) {
        p->end.offset = mr_batch_last_offset(batch) + 1;
    }
}

/* Whether this segment's batches are to be read. */
static bool is_scan_due(const struct mr_task *task, const struct mr_segment *segment)
{
    const struct mr_partition *p = task->partition;
    const struct mr_segment   *next = mr_segment_next(segment);
    if (is_verified(task)) {
        int64_t point = task->load->recovery_point;
        return next == NULL || next->base > (task->x >= 0 && task->x < point ? task->x : point);
    }
    bool is_state = known_of(task) != NULL && known_of(task)->is_state;
    if (segment == p->active && !is_state) {
        return true;
    }
    /* Batches behind the snapshot of producers, of which the newest was lost. */
    bool is_replayed = !is_state && segment->base < p->active->base && next->base > task->x &&
                       !mr_bug("trust-in-snapshots");
    return segment->base <= p->active->base && (!segment->has_index_files || is_replayed);
}

static bool is_wipe_due(const struct mr_task *task)
{
    return !task->segment->has_index_files || (is_verified(task));
}

/* The next segment from task->segment on; sets task->index. */
static void choose_scan(struct mr_task *task)
{
    while (task->segment != NULL && !is_scan_due(task, task->segment)) {
        task->segment = mr_segment_next(task->segment);
    }
    task->index = task->segment == NULL ? LOAD_OVER : is_wipe_due(task) ? LOAD_WIPE_INDEX : LOAD_SEGMENT;
    const struct mr_segment *active = task->partition->active;
    bool is_replayed = task->x <= active->base + active->last_relative && (task->x >= 0 || !mr_bug("trust-in-snapshots"));
    if (task->index != LOAD_SEGMENT || task->segment != active || is_replayed) {
        task->b = 0; /* from its start: the snapshot of producers is older than the last index entry, or lost */
    }
}

static void scan_begin(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    if (task->index == LOAD_SEGMENT && is_verified(task)) {
        mr_aborted_clear(core, segment); /* the batches tell, from the snapshot of producers on */
        segment->is_aborted_stale = segment->aborted_file > 0;
    }
    if (task->index == LOAD_SEGMENT && is_wipe_due(task)) {
        segment->index_bytes = 0;
        segment->time_bytes = 0;
        segment->since_index = 0;
        segment->last_relative = -1;
        segment->last_time_relative = -1;
        segment->last_time = -1;
        segment->max_timestamp = -1;
    }
    mr_log_scan_init(&task->scan, task->b, segment->size, segment->base,
                     is_verified(task));
    if (is_verified(task)) {
        task->partition->end.offset = segment->base;
    }
}

/* The batches of task->segment have been read. */
static void scan_end(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    struct mr_segment   *segment = task->segment;
    if (task->scan.state == MR_LOG_SCAN_DAMAGED && task->b > 0 && known_of(task) == NULL) {
        /* Not where the index says, or not any more: the index is made from the segment, which is asked from its start. */
        mr_log(core->log, MR_LOG_WARN, "an index is not believed and made anew dir=%s segment=%lld", p->dir_name,
               (long long)segment->base);
        mr_producer_set_clear(&core->producers, &p->producers);
        mr_segment_index_drop(core, segment);
        segment->has_index_files = false;
        task->index = LOAD_SNAPSHOT;
        return;
    }
    if (is_for_producers(task, segment)) {
        task->segment = mr_segment_next(segment);
        choose_scan(task);
        return;
    }
    segment->is_time_known = true;
    /* Where the journal knows the end, missing bytes are still to be redone. */
    if (task->scan.state == MR_LOG_SCAN_DAMAGED &&
        (is_verified(task) || (segment == p->active && known_of(task) == NULL))) {
        mr_log(core->log, MR_LOG_WARN, "a log ends before its file does dir=%s segment=%lld size=%u end=%llu",
               p->dir_name, (long long)segment->base, segment->size, (unsigned long long)task->scan.pos);
        segment->size = (uint32_t)task->scan.pos; /* zeros or a torn tail */
        segment->written = segment->size;
    }
    if (is_verified(task)) {
        p->end.offset = task->scan.next_offset;
        if (task->scan.state == MR_LOG_SCAN_DAMAGED) {
            p->active = segment; /* what follows it is no part of the log any more */
        }
    }
    if (segment != p->active) {
        mr_segment_index_end(core, segment);
    }
    if (is_wipe_due(task)) {
        mr_segment_index_flush(core, segment);
        segment->has_index_files = true;
    }
    task->segment = segment == p->active ? NULL : mr_segment_next(segment);
    choose_scan(task);
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
    bool                 is_state = (known_of(task) != NULL && known_of(task)->is_state) ||
                    (task->load != NULL && task->load->is_start_known);
    int64_t              offset = mr_checkpoint_find(&core->first->log_starts, p->jlog.dir_name);
    if (!is_state && offset <= p->end.offset) {
        mr_partition_log_start(core, p, offset, 0);
        p->is_clean_on_disk = was_clean; /* nothing that its files do not say */
    }
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
    /* Where the batches end before the file does, the last one's offset may be wrong as well. */
    bool is_cut = task->scan.state == MR_LOG_SCAN_DAMAGED && task->x >= 0 && task->x != p->end.offset;
    if (err == MR_OK && task->load == NULL && (task->x > p->end.offset || is_cut)) {
        /* The journal has nothing of it: it is as a clean stop left it, in this start or one before. Cut here and gone
         * on with, other records would get the offsets of those that were acknowledged. */
        mr_log(core->log, MR_LOG_ERROR, "a log has lost records since it was closed dir=%s end=%lld was=%lld",
               p->dir_name, (long long)p->end.offset, (long long)task->x);
        err = MR_ERR_CORRUPT;
    }
    if (err == MR_OK) {
        if (known_of(task) != NULL) {
            p->end.offset = known_of(task)->offset;
        }
        if (task->x > p->end.offset) {
            mr_producer_set_clear(&core->producers, &p->producers); /* of records that are not there */
        }
        err = mr_txns_rebuild(core, p) ? MR_OK : MR_ERR_NO_MEMORY;
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
    switch ((enum load_file)task->index) {
    case LOAD_ABORTED:
        mr_segment_name(task->segment, ".txnindex", task->name);
        break;
    case LOAD_METADATA:
        mr_fmt(task->name, sizeof task->name, "%s/partition.metadata", p->dir_name);
        break;
    case LOAD_EPOCHS:
        mr_fmt(task->name, sizeof task->name, "%s/leader-epoch-checkpoint", p->dir_name);
        break;
    case LOAD_SNAPSHOT:
        mr_fmt(task->name, sizeof task->name, "%s/%020lld.snapshot", p->dir_name, (long long)task->x);
        break;
    case LOAD_INDEX:
        mr_segment_name(p->active, ".index", task->name);
        break;
    case LOAD_TIME:
        mr_segment_name(p->active, ".timeindex", task->name);
        break;
    case LOAD_WIPE_INDEX:
        mr_segment_name(task->segment, ".index", task->name);
        break;
    case LOAD_WIPE_TIME:
        mr_segment_name(task->segment, ".timeindex", task->name);
        break;
    case LOAD_SEGMENT:
        mr_segment_name(task->segment, ".log", task->name);
        break;
    case LOAD_OVER:
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
    bool is_state = known_of(task) != NULL && known_of(task)->is_state;
    switch ((enum load_file)task->index) {
    case LOAD_ABORTED:
        return choose_aborted(task);
    case LOAD_METADATA:
        return true;
    case LOAD_EPOCHS:
        return !is_state && task->partition->has_epoch_file;
    case LOAD_INDEX:
        return task->index_bytes > 0 && task->partition->active->has_index_files && !is_verified(task);
    case LOAD_TIME:
        return task->time_bytes > 0 && task->partition->active->has_index_files && !is_verified(task);
    case LOAD_SNAPSHOT:
        return task->x >= 0 && task->y > MR_PRODUCER_SNAPSHOT_HEAD && !is_state;
    case LOAD_WIPE_INDEX:
    case LOAD_WIPE_TIME:
    case LOAD_SEGMENT:
    case LOAD_OVER:
        break;
    }
    return true;
}

static bool open_next(struct mr_storage_core *core, struct mr_task *task)
{
    while (task->index <= LOAD_SNAPSHOT && !is_wanted(task)) {
        task->b = task->index == LOAD_TIME ? 0 : task->b; /* its entries are missing, only the batches can tell */
        task->index++;
        if (task->index == LOAD_WIPE_INDEX) {
            choose_scan(task);
        }
    }
    while (task->index == LOAD_SEGMENT) {
        scan_begin(core, task);
        if (task->scan.state == MR_LOG_SCAN_GOING) {
            break;
        }
        scan_end(core, task); /* it is empty */
    }
    if (task->index == LOAD_OVER) {
        return load_finish(core, task, MR_OK);
    }
    uint32_t flags = MR_DISK_READ_ONLY;
    if (task->index == LOAD_INDEX || task->index == LOAD_TIME) {
        flags = 0; /* it may have to be cut */
    } else if (task->index == LOAD_WIPE_INDEX || task->index == LOAD_WIPE_TIME) {
        flags = MR_DISK_CREATE | MR_DISK_TRUNC;
    }
    task->a = task->index == LOAD_SEGMENT ? task->scan.at : 0;
    task->at = LOAD_FILE_OPEN;
    task->io.op = (struct mr_disk_op){
        .kind = MR_DISK_OPEN, .flags = flags, .dir = core->root, .name = file_name(task)};
    return true;
}

/* Bytes of the file at hand behind what has been read; without a listed size more than there may be. */
static uint64_t bytes_left(const struct mr_task *task)
{
    switch ((enum load_file)task->index) {
    case LOAD_ABORTED:
        return task->segment->aborted_file - task->a;
    case LOAD_INDEX:
        return task->index_bytes - task->a;
    case LOAD_TIME:
        return task->time_bytes - task->a;
    case LOAD_SNAPSHOT:
        return (uint64_t)task->y - task->a;
    case LOAD_SEGMENT:
        return task->scan.size - task->a;
    case LOAD_METADATA:
    case LOAD_EPOCHS:
    case LOAD_WIPE_INDEX:
    case LOAD_WIPE_TIME:
    case LOAD_OVER:
        break;
    }
    return UINT32_MAX;
}

/* Not beyond the end where that is known: a read that is short is tried once more. */
static bool read_next(struct mr_storage_core *core, struct mr_task *task)
{
    uint32_t len = mr_page_capacity(task->page);
    uint64_t left = bytes_left(task);
    if (task->index == LOAD_TIME) {
        len -= len % MR_TIME_INDEX_ENTRY;
    } else if (task->index == LOAD_ABORTED) {
        len -= len % MR_ABORTED_ENTRY;
    }
    len = left < len ? (uint32_t)left : len;
    task->at = LOAD_FILE_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page), .len = len,
                                      .pos = task->a};
    return true;
}

static bool read_first(struct mr_storage_core *core, struct mr_task *task)
{
    task->at = LOAD_FIRST_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page),
                                      .len = MR_BATCH_HEADER};
    return true;
}

static bool close_file(struct mr_task *task)
{
    task->at = LOAD_FILE_CLOSED;
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
    if (task->index == LOAD_SNAPSHOT) {
        return mr_page_order((uint64_t)task->y);
    }
    bool is_long = task->index == LOAD_INDEX || task->index == LOAD_TIME
                       ? task->partition->active->size > (16u << 20)
                       : task->index == LOAD_SEGMENT && task->scan.size - task->scan.at > (16u << 10);
    return is_long ? LARGE_ORDER : SMALL_ORDER;
}

static bool list_dir(struct mr_storage_core *core, struct mr_task *task)
{
    task->at = LOAD_LISTED;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_LIST, .flags = MR_DISK_NUMBERED, .file = task->file,
                                      .buffer = mr_page_memory(&core->cache, task->page),
                                      .len = mr_page_capacity(task->page)};
    return true;
}

static void next_file(struct mr_task *task)
{
    if (task->index == LOAD_ABORTED) {
        task->segment = mr_segment_next(task->segment);
        return;
    }
    if (task->index == LOAD_SNAPSHOT && task->is_again) {
        task->is_again = false;
        return;
    }
    task->index++;
    if (task->index == LOAD_WIPE_INDEX) {
        choose_scan(task);
    }
}

/* Entries of a .txnindex. What does not fit the log ends it: it is written anew with what is believed. */
static bool use_aborted(struct mr_storage_core *core, struct mr_task *task, const uint8_t *at, uint32_t len)
{
    struct mr_segment *segment = task->segment;
    uint32_t           believed = mr_aborted_read(core, segment, at, len, &task->err);
    if (task->err == MR_OK && believed < len) {
        mr_log(core->log, MR_LOG_WARN, "a .txnindex is damaged dir=%s segment=%lld entries=%u",
               task->partition->dir_name, (long long)segment->base, segment->aborted_count);
        segment->is_aborted_stale = true;
        task->partition->is_clean_on_disk = false;
    }
    task->a += len;
    return task->err == MR_OK && believed == len && task->a < segment->aborted_file && len > 0 &&
           read_next(core, task);
}

static bool opened(struct mr_storage_core *core, struct mr_task *task)
{
    const struct mr_disk_op *op = &task->io.op;
    if (op->err == MR_ERR_NOT_FOUND && task->index != LOAD_SEGMENT) {
        if (task->index == LOAD_TIME) {
            task->b = 0;
        } else if (task->index == LOAD_SNAPSHOT) {
            try_older_snapshot(task);
        }
        next_file(task);
        return open_next(core, task);
    }
    if (op->err == MR_ERR_NOT_FOUND && task->segment == task->partition->active && known_of(task) != NULL) {
        scan_end(core, task); /* nothing of it is in a file yet: all of it is in the journal */
        return open_next(core, task);
    }
    if (op->err != MR_OK) {
        return load_finish(core, task, op->err);
    }
    task->file = op->file;
    if (task->index == LOAD_WIPE_INDEX || task->index == LOAD_WIPE_TIME) {
        return close_file(task);
    }
    if (!set_page(core, task, page_order(task))) {
        task->err = MR_ERR_NO_MEMORY;
        return close_file(task);
    }
    return task->index == LOAD_SEGMENT && task->b > 0 && task->segment->first_timestamp < 0
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
    switch ((enum load_file)task->index) {
    case LOAD_ABORTED:
        return use_aborted(core, task, at, len);
    case LOAD_METADATA:
        task->err = check_metadata(task, at, len);
        return false;
    case LOAD_EPOCHS:
        if (load_epochs(core, task->partition, at, len) != MR_OK) {
            /* A stop that was interrupted renames it before its bytes are durable: not a reason not to start. */
            mr_log(core->log, MR_LOG_WARN, "a leader-epoch-checkpoint is damaged and left out dir=%s",
                   task->partition->dir_name);
            task->partition->epochs.count = 0;
        }
        return false;
    case LOAD_INDEX:
    case LOAD_TIME:
        believed = task->index == LOAD_INDEX ? load_index(task, at, len) : load_time(task, at, len);
        if (believed < len) {
            return cut_index(task, op->pos + believed);
        }
        task->a += len;
        return len == op->len && bytes_left(task) > 0 && read_next(core, task);
    case LOAD_SNAPSHOT:
        if (mr_producer_snapshot_load(&core->producers, &task->partition->producers, at, len) != MR_OK) {
            mr_log(core->log, MR_LOG_WARN, "a snapshot of producers is damaged dir=%s offset=%lld",
                   task->partition->dir_name, (long long)task->x);
            try_older_snapshot(task);
            return false;
        }
        task->partition->snapshot_at = task->x;
        return false;
    case LOAD_SEGMENT:
        if (mr_log_scan_feed(&task->scan, at, len, found_batch, task) == MR_LOG_SCAN_GOING) {
            task->a = task->scan.at;
            return read_next(core, task);
        }
        return false;
    case LOAD_WIPE_INDEX:
    case LOAD_WIPE_TIME:
    case LOAD_OVER:
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
    if (task->index == LOAD_SEGMENT) {
        scan_end(core, task);
        return open_next(core, task);
    }
    if (task->index == LOAD_TIME && task->partition->active->time_bytes == 0) {
        task->b = 0;
    }
    next_file(task);
    return open_next(core, task);
}

static bool load_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum load_at)task->at) {
    case LOAD_BEGIN:
        task->core = core;
        task->at = LOAD_DIR_OPEN;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->partition->dir_name};
        return true;
    case LOAD_DIR_OPEN:
        if (op->err != MR_OK) {
            return load_finish(core, task, op->err);
        }
        task->file = op->file;
        if (!set_page(core, task, SMALL_ORDER)) {
            task->err = MR_ERR_NO_MEMORY;
            return close_file(task);
        }
        return list_dir(core, task);
    case LOAD_LISTED:
        if (op->err == MR_OK && op->size != 0 && task->page->order < MR_PAGE_ORDER_MAX &&
            set_page(core, task, task->page->order + 2u)) {
            return list_dir(core, task); /* many segments */
        }
        task->err = op->err != MR_OK ? op->err : listed(core, task);
        task->segment = task->err != MR_OK ? NULL
                                           : MR_LIST_ENTRY(task->partition->segments.next, struct mr_segment, link);
        task->index = UINT32_MAX; /* the directory: the first file comes next */
        return task->err == MR_OK && tidy_next(core, task) ? true : close_file(task);
    case LOAD_TIDIED:
        return tidy_next(core, task) ? true : close_file(task);
    case LOAD_FILE_OPEN:
        return opened(core, task);
    case LOAD_FIRST_READ:
        if (op->err == MR_OK && op->done_bytes == MR_BATCH_HEADER) {
            struct mr_batch first;
            mr_batch_header_load(op->buffer, &first);
            task->segment->first_timestamp = first.max_timestamp;
        }
        return read_next(core, task);
    case LOAD_FILE_READ:
        task->err = op->err;
        return op->err == MR_OK && use_bytes(core, task) ? true : close_file(task);
    case LOAD_FILE_CUT:
        task->err = op->err;
        return close_file(task);
    case LOAD_FILE_CLOSED:
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
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".txnindex"};
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
