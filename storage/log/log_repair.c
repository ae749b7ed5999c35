#include "log/log_repair.h"

#include "log/clean_swap.h"
#include "log/log_files.h"

#define LIST_BYTES (4u << 20)

struct repair {
    struct mr_storage_core      *core;
    enum mr_log_repair_how       how;
    struct mr_log_repair_result *result;
    struct mr_checkpoint         recovery_points;
    uint8_t                     *root_list;
    uint8_t                     *dir_list;
    uint32_t                     dir_list_bytes;
    struct mr_str                dir_name; /* worked on */
};

static const char *const segment_suffixes[] = {".log", ".index", ".timeindex", ".txnindex", ".snapshot"};

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name);
    size_t end_len = strlen(end);
    return len > end_len && memcmp(name + len - end_len, end, end_len) == 0;
}

static bool begins_with(const char *name, const char *begin)
{
    size_t len = strlen(begin);
    return strlen(name) >= len && memcmp(name, begin, len) == 0;
}

static enum mr_err list(struct mr_storage_core *core, const char *name, uint8_t *buffer, uint32_t *bytes)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root, .name = name};
    enum mr_err       err = name == NULL ? MR_OK : mr_core_disk(core, &open);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op op = {.kind = MR_DISK_LIST, .file = name == NULL ? core->root : open.file,
                            .buffer = buffer, .len = LIST_BYTES};
    err = mr_core_disk(core, &op);
    if (name != NULL) {
        struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
        (void)mr_core_disk(core, &close);
    }
    *bytes = op.done_bytes;
    return err == MR_OK && op.size != 0 ? MR_ERR_TOO_LARGE : err;
}

static const struct mr_disk_list_entry *next(const uint8_t *buffer, uint32_t bytes, uint32_t *at)
{
    if (*at >= bytes) {
        return NULL;
    }
    const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)(buffer + *at);
    *at += entry->entry_bytes;
    return entry;
}

static void file_path(const struct repair *r, const char *file, char path[MR_FILE_NAME_BYTES])
{
    mr_fmt(path, MR_FILE_NAME_BYTES, "%.*s/%s", (int)r->dir_name.len, r->dir_name.data, file);
}

static enum mr_err unlink_file(struct repair *r, const char *file)
{
    char path[MR_FILE_NAME_BYTES];
    file_path(r, file, path);
    struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = r->core->root, .name = path};
    enum mr_err       err = mr_core_disk(r->core, &op);
    return err == MR_ERR_NOT_FOUND ? MR_OK : err;
}

static enum mr_err list_dir(struct repair *r)
{
    char name[MR_FILE_NAME_BYTES];
    mr_fmt(name, sizeof name, "%.*s", (int)r->dir_name.len, r->dir_name.data);
    return list(r->core, name, r->dir_list, &r->dir_list_bytes);
}

/* ---- Directories that are being deleted ---- */

static enum mr_err remove_dir(struct repair *r)
{
    char        name[MR_FILE_NAME_BYTES];
    uint32_t    at = 0;
    enum mr_err err = list_dir(r);
    for (const struct mr_disk_list_entry *entry;
         err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        err = entry->is_directory != 0 ? MR_ERR_INVALID : unlink_file(r, entry->name);
    }
    mr_fmt(name, sizeof name, "%.*s", (int)r->dir_name.len, r->dir_name.data);
    struct mr_disk_op op = {
        .kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY, .dir = r->core->root, .name = name};
    return err == MR_OK ? mr_core_disk(r->core, &op) : err;
}

/* ---- Temporary files and swaps ---- */

/* "00000000000000000042.log.cleaned" and the like: 42. */
static bool parse_temporary(const char *name, const char *end, int64_t *base)
{
    for (uint32_t index = 0; index < sizeof segment_suffixes / sizeof segment_suffixes[0]; index++) {
        char suffix[32];
        mr_fmt(suffix, sizeof suffix, "%s%s", segment_suffixes[index], end);
        if (mr_log_file_parse(name, suffix, base)) {
            return true;
        }
    }
    return false;
}

static void note_batch(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    (void)pos;
    (void)control;
    *(int64_t *)context = mr_batch_last_offset(batch) + 1;
}

/* What follows the last batch of a segment's file; its base when there is none. */
static enum mr_err find_end(struct repair *r, const char *file, uint64_t size, int64_t base, int64_t *end)
{
    struct mr_storage_core *core = r->core;
    struct mr_log_scan      scan;
    char                    path[MR_FILE_NAME_BYTES];
    file_path(r, file, path);
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = path};
    enum mr_err err = mr_core_disk(core, &open);
    if (err != MR_OK) {
        return err;
    }
    *end = base;
    mr_log_scan_init(&scan, 0, size, base, false);
    while (err == MR_OK && scan.state == MR_LOG_SCAN_GOING) {
        struct mr_disk_op read = {.kind = MR_DISK_READ, .file = open.file, .buffer = core->scratch,
                                  .len = MR_SCRATCH_BYTES, .pos = scan.at};
        err = mr_core_disk(core, &read);
        if (err == MR_OK) {
            (void)mr_log_scan_feed(&scan, core->scratch, read.done_bytes, note_batch, end);
        }
    }
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    (void)mr_core_disk(core, &close);
    return err;
}

/* A swap file takes its place: the compaction or split that made it was complete. */
static enum mr_err rename_swap(struct repair *r, const char *file)
{
    char from[MR_FILE_NAME_BYTES];
    char to[MR_FILE_NAME_BYTES];
    file_path(r, file, from);
    mr_fmt(to, sizeof to, "%.*s", (int)(strlen(from) - strlen(".swap")), from);
    struct mr_disk_op op = {.kind = MR_DISK_RENAME, .dir = r->core->root, .name = from, .new_name = to};
    return mr_core_disk(r->core, &op);
}

/*
 * What Kafka does with left-overs: .cleaned files go (.deleted ones when the log is loaded); so do swaps at or above the first .cleaned
 * (a split that was not complete); the other swaps replace the segments that they cover.
 */
static enum mr_err tidy(struct repair *r)
{
    const struct mr_disk_list_entry *entry;
    int64_t     base = 0;
    int64_t     cleaned_from = INT64_MAX;
    int64_t     swap_from = INT64_MAX;
    int64_t     swap_to = INT64_MIN;
    enum mr_err err = list_dir(r);
    for (uint32_t at = 0; err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        if (parse_temporary(entry->name, ".cleaned", &base)) {
            cleaned_from = base < cleaned_from ? base : cleaned_from;
            err = unlink_file(r, entry->name);
        }
    }
    for (uint32_t at = 0; err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        int64_t end = 0;
        if (!parse_temporary(entry->name, ".swap", &base)) {
            continue;
        }
        if (base >= cleaned_from) {
            err = unlink_file(r, entry->name);
        } else if (mr_log_file_parse(entry->name, ".log.swap", &base)) {
            err = find_end(r, entry->name, entry->size, base, &end);
            swap_from = base < swap_from ? base : swap_from;
            swap_to = end > swap_to ? end : swap_to;
        }
    }
    for (uint32_t at = 0; err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        if (parse_temporary(entry->name, "", &base) && base >= swap_from && base < swap_to) {
            err = unlink_file(r, entry->name);
        }
    }
    for (uint32_t at = 0; err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        if (parse_temporary(entry->name, ".swap", &base) && base < cleaned_from) {
            err = rename_swap(r, entry->name);
        }
    }
    return err;
}

/* Snapshots of producers beyond the end. */
static enum mr_err remove_snapshots(struct repair *r, const struct mr_partition *p)
{
    const struct mr_disk_list_entry *entry;
    enum mr_err err = list_dir(r);
    for (uint32_t at = 0; err == MR_OK && (entry = next(r->dir_list, r->dir_list_bytes, &at)) != NULL;) {
        int64_t base = 0;
        if (mr_log_file_parse(entry->name, ".snapshot", &base) && base > p->end.offset) {
            err = unlink_file(r, entry->name);
        }
    }
    return err;
}

/* ---- One log ---- */

static void load_done(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    (void)core;
    task->err = err;
}

enum mr_err mr_log_cut_file(struct mr_storage_core *core, const struct mr_segment *segment, uint64_t *cut_bytes)
{
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(segment, ".log", name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_STAT, .file = file};
    err = mr_core_disk(core, &op);
    if (err == MR_OK && op.size > segment->size) {
        *cut_bytes += op.size - segment->size;
        op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = segment->size};
        err = mr_core_disk(core, &op);
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    return err;
}

/* Records were deleted beyond what is left of the log: it goes on, empty, where it was said to begin. */
static enum mr_err begin_anew(struct repair *r, struct mr_partition *p, int64_t offset)
{
    struct mr_storage_core *core = r->core;
    mr_log(core->log, MR_LOG_WARN, "a log ends before its start: emptied dir=%s end=%lld start=%lld", p->dir_name,
           (long long)p->end.offset, (long long)offset);
    struct mr_segment *first = MR_LIST_ENTRY(p->segments.next, struct mr_segment, link);
    struct mr_segment *anew = mr_segment_new(core, p, offset);
    if (anew == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_list_remove(&anew->link);
    mr_list_add_tail(&first->link, &anew->link); /* before all others: they are cut off behind it */
    p->active = anew;
    p->end = (struct mr_place){.offset = offset, .base = offset};
    p->log_start = offset;
    p->epochs.count = 0;
    mr_producer_set_clear(&core->producers, &p->producers);
    return mr_log_cut_segments(core, p);
}

static enum mr_err put_in_order(struct repair *r, struct mr_partition *p)
{
    /* Guarded, it may be the start of an older log of that name. */
    bool        is_asked = r->how == MR_LOG_REPAIR_UNCLEAN;
    int64_t     start = is_asked ? mr_checkpoint_find(&r->core->log_starts, p->jlog.dir_name) : -1;
    enum mr_err err = start > p->end.offset ? begin_anew(r, p, start) : mr_log_cut_segments(r->core, p);
    err = err != MR_OK ? err : mr_log_cut_file(r->core, p->active, &r->result->cut_bytes);
    err = err != MR_OK ? err : remove_snapshots(r, p);
    (void)mr_epoch_cache_trim_end(&p->epochs, p->end.offset);
    (void)mr_epoch_cache_trim_start(&p->epochs, p->log_start);
    p->is_clean_on_disk = false;
    p->is_epoch_dirty = true;
    err = err != MR_OK ? err : mr_log_close_files(r->core, p);
    return err != MR_OK ? err : mr_log_close_epochs(r->core, p);
}

static enum mr_err repair_log(struct repair *r, int32_t partition)
{
    struct mr_storage_core *core = r->core;
    static const struct mr_uuid any;
    enum mr_err                 err = tidy(r);
    if (err != MR_OK) {
        return err;
    }
    int64_t            point = mr_checkpoint_find(&r->recovery_points, r->dir_name);
    struct mr_log_load load = {.is_verified = true,
                               .recovery_point = point < 0 ? 0 : point,
                               .is_start_known = r->how == MR_LOG_REPAIR_RESCAN};
    struct mr_partition *p =
        mr_partition_new(core, mr_prng_next(&core->prng) | 1, &any, partition, r->dir_name);
    if (p == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_log_provisional_config(p);
    struct mr_task *task = mr_log_load_task(core, p, &load, load_done);
    err = task == NULL ? MR_ERR_NO_MEMORY : mr_core_task_run(core, task);
    if (err == MR_OK) {
        err = put_in_order(r, p);
        r->result->logs++;
    }
    mr_partition_free(core, p);
    return err == MR_ERR_NOT_FOUND ? MR_OK : err; /* no segment in there: not a log yet */
}

/* ---- The whole ---- */

static enum mr_err visit(struct repair *r, const struct mr_disk_list_entry *entry)
{
    struct mr_str topic;
    int32_t       partition = 0;
    r->dir_name = mr_str(entry->name);
    if (entry->is_directory == 0 && begins_with(entry->name, MR_CLEAN_SWAP_NAME)) {
        return mr_clean_swap_take(r->core, entry->name);
    }
    if (entry->is_directory == 0 || r->dir_name.len >= (int32_t)MR_DIR_NAME_BYTES) {
        return MR_OK;
    }
    if (ends_with(entry->name, "-delete")) {
        return remove_dir(r);
    }
    bool is_known = r->how == MR_LOG_REPAIR_CLOSED || mr_partition_by_name(r->core, r->dir_name) != NULL;
    return !is_known && mr_log_dir_parse(r->dir_name, &topic, &partition) ? repair_log(r, partition) : MR_OK;
}

enum mr_err mr_log_repair(struct mr_storage_core *core, struct mr_arena *scratch, enum mr_log_repair_how how,
                          struct mr_log_repair_result *result)
{
    struct repair r = {.core = core, .result = result, .how = how};
    uint32_t      bytes = 0;
    *result = (struct mr_log_repair_result){0};
    r.root_list = mr_arena_try(scratch, LIST_BYTES, 16);
    r.dir_list = mr_arena_try(scratch, LIST_BYTES, 16);
    if (r.root_list == NULL || r.dir_list == NULL ||
        scratch->size - scratch->used < mr_checkpoint_bytes(core->plan.logs_max)) {
        return MR_ERR_NO_MEMORY;
    }
    mr_checkpoint_init(&r.recovery_points, scratch, core->plan.logs_max);
    enum mr_err err = how != MR_LOG_REPAIR_UNCLEAN
                          ? MR_OK
                          : mr_checkpoint_load(&r.recovery_points, core->disk, core->root, MR_CHECKPOINT_RECOVERY);
    if (err != MR_OK && err != MR_ERR_NOT_FOUND) {
        mr_log(core->log, MR_LOG_WARN, "%s is not usable: logs are read from their starts", MR_CHECKPOINT_RECOVERY);
    }
    err = list(core, NULL, r.root_list, &bytes);
    uint32_t at = 0;
    for (const struct mr_disk_list_entry *entry; err == MR_OK && (entry = next(r.root_list, bytes, &at)) != NULL;) {
        err = visit(&r, entry);
        if (err != MR_OK) {
            mr_fmt(result->why, sizeof result->why, "%s cannot be put in order: %s", entry->name, mr_err_text(err));
        }
    }
    return err;
}

enum mr_err mr_log_each(struct mr_storage_core *core, struct mr_arena *scratch,
                        void (*found)(void *context, const struct mr_journal_log_name *name), void *context)
{
    const struct mr_disk_list_entry *entry;
    uint32_t                         bytes = 0;
    uint8_t                         *names = mr_arena_try(scratch, LIST_BYTES, 16);
    enum mr_err err = names == NULL ? MR_ERR_NO_MEMORY : list(core, NULL, names, &bytes);
    for (uint32_t at = 0; err == MR_OK && (entry = next(names, bytes, &at)) != NULL;) {
        struct mr_journal_log_name name = {.log_id = mr_prng_next(&core->prng) | 1, .dir_name = mr_str(entry->name)};
        struct mr_str              topic;
        if (entry->is_directory != 0 && mr_log_dir_parse(name.dir_name, &topic, &name.partition) &&
            mr_log_directory_topic(core, name.dir_name, &name.topic_id) == MR_LOG_MARK_SAME) {
            found(context, &name);
        }
    }
    return err;
}
