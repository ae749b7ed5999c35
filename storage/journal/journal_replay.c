/*
 * journal_replay: after a crash: find each ring's chain, fold it, redo what survives, start anew.
 *
 *   scan     each file is cut into runs of valid commits and into damage that later commits prove to be
 *            damage (J8); files are put in the order of their sequences
 *   states   base, then rings: the newest record of each log
 *   fold     one walk over all entries: names, truncations, resets, drops, seals, unfinished parts
 *   redo     a second walk hands over what survives, grouped by log within a window (J3: physical, so
 *            that doing it twice is doing it once)
 *   finish   the log layer's, syncfs, a new base state by rename
 *
 * The rename is the moment at which the rings are empty: the base carries a higher incarnation than any
 * commit, and commits of an incarnation that is not above the base's count for nothing. A crash before it
 * repeats the recovery from the same chain; after it there is nothing to repeat.
 *
 * Blocking, at start only. Memory: params->scratch.
 */
#include "journal/replay.h"

#include "millrace/base/bug.h"
#include "millrace/base/fail.h"

enum mr_err mr_replay_fail(struct mr_replay *r, enum mr_err err, const char *format, ...)
{
    if (r->err == MR_OK) {
        struct mr_text text;
        va_list        args;
        r->err = err;
        mr_text_init(&text, r->result->why, sizeof r->result->why);
        va_start(args, format);
        mr_text_vfmt(&text, format, args);
        va_end(args);
    }
    return r->err;
}

void *mr_replay_get(struct mr_replay *r, size_t bytes)
{
    void *memory = mr_fail(MR_FAIL_recovery_scratch) ? NULL : mr_arena_try(r->params->scratch, bytes, 16);
    if (memory == NULL) {
        (void)mr_replay_fail(r, MR_ERR_NO_MEMORY, "recovery needs more memory than %zu bytes",
                             r->params->scratch->size);
        return NULL;
    }
    memset(memory, 0, bytes);
    return memory;
}

enum mr_err mr_replay_run(struct mr_replay *r, struct mr_disk_op *op)
{
    return mr_disk_run(r->params->disk, op);
}

void mr_replay_close(struct mr_replay *r, int32_t *handle)
{
    if (*handle != MR_DISK_NONE) {
        struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = *handle};
        (void)mr_replay_run(r, &op);
        *handle = MR_DISK_NONE;
    }
}

/* A number of at most three digits, with `end` behind it; NULL: something else. */
static const char *parse_number(const char *at, char end, uint32_t *number)
{
    uint32_t digits = 0;
    *number = 0;
    for (; *at >= '0' && *at <= '9' && digits < 3; at++, digits++) {
        *number = *number * 10 + (uint32_t)(*at - '0');
    }
    return digits > 0 && *at == end ? at + 1 : NULL;
}

static const char *behind(const char *name, const char *prefix)
{
    size_t len = strlen(prefix);
    return strlen(name) > len && memcmp(name, prefix, len) == 0 ? name + len : NULL;
}

/* "millrace-journal-<ring>-<file>" */
static bool parse_journal(const char *name, uint32_t *ring, uint32_t *file)
{
    const char *at = behind(name, "millrace-journal-");
    at = at != NULL ? parse_number(at, '-', ring) : NULL;
    at = at != NULL ? parse_number(at, '\0', file) : NULL;
    return at != NULL && *ring < MR_JOURNAL_RINGS && *file < MR_JOURNAL_FILES_MAX;
}

/* "millrace-state-<ring>": the ring was there, even if all its files are gone. */
static bool parse_state(const char *name, uint32_t *ring)
{
    const char *at = behind(name, "millrace-state-");
    return at != NULL && parse_number(at, '\0', ring) != NULL && *ring < MR_JOURNAL_RINGS;
}

static void find_file(struct mr_replay *r, const struct mr_disk_list_entry *entry, struct mr_replay_ring *ring,
                      uint32_t index)
{
    struct mr_replay_file *file = &ring->files[ring->file_count++];
    *file = (struct mr_replay_file){.handle = MR_DISK_NONE, .index = index, .size = entry->size};
    /* Past the page cache, as it was written: pages that a read leaves there send each later direct write of them to a worker
     * thread, because it cannot drop them without waiting. */
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY | MR_DISK_DIRECT, .dir = r->root, .name = entry->name};
    enum mr_err err = mr_replay_run(r, &open);
    if (err == MR_ERR_INVALID) {
        open.flags = MR_DISK_READ_ONLY; /* this file system refuses O_DIRECT */
        err = mr_replay_run(r, &open);
    }
    if (err != MR_OK) {
        (void)mr_replay_fail(r, open.err, "%s cannot be opened: errno %d", entry->name, open.os_errno);
        return;
    }
    file->handle = open.file;
}

static void find_rings(struct mr_replay *r)
{
    uint8_t *buffer = mr_arena_try(r->params->scratch, MR_REPLAY_LIST_BYTES, 16);
    if (buffer == NULL) {
        (void)mr_replay_fail(r, MR_ERR_NO_MEMORY, "recovery has no memory to list the directory");
        return;
    }
    struct mr_disk_op list = {
        .kind = MR_DISK_LIST, .file = r->root, .buffer = buffer, .len = MR_REPLAY_LIST_BYTES};
    if (mr_replay_run(r, &list) != MR_OK || list.size != 0) {
        (void)mr_replay_fail(r, list.err != MR_OK ? list.err : MR_ERR_NO_MEMORY,
                   "the log directory cannot be listed: errno %d", list.os_errno);
        return;
    }
    for (uint32_t at = 0; at < list.done_bytes && r->err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)(buffer + at);
        uint32_t                         number;
        uint32_t                         index;
        at += entry->entry_bytes;
        bool is_journal = entry->is_directory == 0 && parse_journal(entry->name, &number, &index);
        if (!is_journal && (entry->is_directory != 0 || !parse_state(entry->name, &number))) {
            continue;
        }
        struct mr_replay_ring *ring = &r->rings[number];
        r->result->rings += !ring->is_there;
        ring->is_there = true;
        if (is_journal) {
            find_file(r, entry, ring, index);
        }
    }
}

static enum mr_err begin(struct mr_replay *r, const struct mr_journal_recover_params *params,
                         struct mr_journal_recover_result *result)
{
    struct mr_guard guard;
    *r = (struct mr_replay){.params = params, .result = result, .root = MR_DISK_NONE};
    *result = (struct mr_journal_recover_result){0};
    r->last = &r->first;
    r->known_max = 2 * params->logs_max + 64;
    enum mr_err err = mr_guard_open(&guard, params->disk, params->log_dir, false);
    if (err != MR_OK) {
        return mr_replay_fail(r, err, "%s", guard.why);
    }
    r->directory_id = guard.directory_id;
    r->root = guard.root;
    size_t slot_bytes = 128;
    while (slot_bytes / 4 * 3 < r->known_max) {
        slot_bytes *= 2;
    }
    slot_bytes *= sizeof(struct mr_map_slot);
    r->rings = mr_replay_get(r, MR_JOURNAL_RINGS * sizeof *r->rings);
    r->window = mr_arena_try(params->scratch, MR_REPLAY_WINDOW, MR_JOURNAL_BLOCK);
    r->items = mr_arena_try(params->scratch, MR_REPLAY_INDEX_MAX * sizeof *r->items, 16);
    if (r->rings == NULL || r->window == NULL || r->items == NULL ||
        params->scratch->size - params->scratch->used < 2 * slot_bytes) {
        return mr_replay_fail(r, MR_ERR_NO_MEMORY, "recovery needs more memory than %zu bytes", params->scratch->size);
    }
    mr_map_init(&r->logs, params->scratch, r->known_max);
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        r->rings[number].number = number;
    }
    find_rings(r);
    return r->err;
}

static enum mr_err end(struct mr_replay *r)
{
    for (uint32_t number = 0; r->rings != NULL && number < MR_JOURNAL_RINGS; number++) {
        for (uint32_t index = 0; index < r->rings[number].file_count; index++) {
            mr_replay_close(r, &r->rings[number].files[index].handle);
        }
    }
    mr_replay_close(r, &r->root);
    return r->err;
}

static void sync_fs(struct mr_replay *r)
{
    struct mr_disk_op op = {.kind = mr_bug("recover-without-sync") ? MR_DISK_SYNC_DIR : MR_DISK_SYNC_FS,
                            .file = r->root};
    if (r->err == MR_OK && mr_replay_run(r, &op) != MR_OK) {
        (void)mr_replay_fail(r, op.err, "syncfs failed: errno %d", op.os_errno);
    }
}

enum mr_err mr_journal_recover(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result)
{
    struct mr_replay r;
    if (begin(&r, params, result) == MR_OK) {
        mr_replay_state_load_base(&r, true);
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            struct mr_replay_ring *ring = &r.rings[number];
            if (!ring->is_there) {
                continue;
            }
            mr_replay_state_load_ring(&r, ring, true);
            for (uint32_t index = 0; index < ring->file_count && r.err == MR_OK; index++) {
                mr_replay_scan_file(&r, ring, &ring->files[index]);
            }
            mr_replay_scan_order(&r, ring);
        }
        /* Where the states end, the chain goes on. */
        for (struct mr_replay_log *log = r.first; log != NULL; log = log->next) {
            if (log->has_state && !log->is_state_of_ring && !r.is_state_lost) {
                log->next_offset = log->state.view.state.end_offset;
            }
        }
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            mr_replay_fold_ring(&r, &r.rings[number]);
        }
        mr_replay_fold_unknown(&r);
        if (r.err == MR_OK) {
            mr_replay_fold_names(&r);
            mr_replay_redo_open(&r);
        }
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            mr_replay_redo_ring(&r, &r.rings[number]);
        }
        if (r.err == MR_OK) {
            enum mr_err err = params->ops->finish(params->context, r.is_state_lost);
            if (err != MR_OK) {
                (void)mr_replay_fail(&r, err, "finishing the recovery failed: %s", mr_err_text(err));
            }
        }
        sync_fs(&r);
        if (r.err == MR_OK) {
            mr_replay_state_store_base(&r);
        }
        if (r.err == MR_OK) {
            mr_replay_state_remove(&r);
        }
    }
    return end(&r);
}

enum mr_err mr_journal_discard(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result)
{
    struct mr_replay r;
    if (begin(&r, params, result) == MR_OK) {
        mr_replay_state_load_base(&r, false);
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            struct mr_replay_ring *ring = &r.rings[number];
            if (ring->is_there) {
                /* Only for the highest incarnation that anything here carries. */
                mr_replay_state_load_ring(&r, ring, false);
                for (uint32_t index = 0; index < ring->file_count && r.err == MR_OK; index++) {
                    mr_replay_scan_file(&r, ring, &ring->files[index]);
                }
            }
        }
        if (r.err == MR_OK) {
            mr_replay_state_store_base(&r);
        }
        if (r.err == MR_OK) {
            mr_replay_state_remove(&r);
        }
    }
    return end(&r);
}

size_t mr_journal_recover_bytes(uint32_t logs_max)
{
    return MR_REPLAY_WINDOW + MR_REPLAY_INDEX_MAX * sizeof(struct mr_replay_item) + MR_REPLAY_LIST_BYTES + (24u << 20) +
           (size_t)logs_max * (2 * sizeof(struct mr_replay_log) + 4096);
}

enum mr_err mr_journal_format(struct mr_disk *disk, const char *log_dir, uint32_t file_bytes,
                              uint64_t seed, struct mr_arena *scratch)
{
    (void)seed;
    char              name[MR_JOURNAL_NAME];
    uint8_t          *zeros = mr_arena_try(scratch, MR_JOURNAL_FILL, MR_JOURNAL_BLOCK);
    struct mr_disk_op root = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = MR_DISK_ROOT, .name = log_dir};
    if (zeros == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    memset(zeros, 0, MR_JOURNAL_FILL);
    enum mr_err err = mr_disk_run(disk, &root);
    if (err != MR_OK) {
        return err;
    }
    mr_journal_file_name(name, 0, 0);
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                              .dir = root.file,
                              .name = name};
    err = mr_disk_run(disk, &open);
    for (uint64_t at = 0; err == MR_OK && at < file_bytes; at += MR_JOURNAL_FILL) {
        struct mr_disk_op fill = {
            .kind = MR_DISK_WRITE, .file = open.file, .buffer = zeros, .pos = at, .len = MR_JOURNAL_FILL};
        fill.len = file_bytes - at < MR_JOURNAL_FILL ? (uint32_t)(file_bytes - at) : MR_JOURNAL_FILL;
        err = mr_disk_run(disk, &fill);
    }
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC, .file = open.file};
    struct mr_disk_op sync_dir = {.kind = MR_DISK_SYNC_DIR, .file = root.file};
    if (err == MR_OK) {
        err = mr_disk_run(disk, &sync);
    }
    if (err == MR_OK) {
        err = mr_disk_run(disk, &sync_dir);
    }
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    if (open.err == MR_OK) {
        (void)mr_disk_run(disk, &close);
    }
    close.file = root.file;
    (void)mr_disk_run(disk, &close);
    return err;
}
