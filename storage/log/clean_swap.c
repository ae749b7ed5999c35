#include "log/clean_swap.h"

#include "millrace/base/bug.h"

#include "log/cleaner.h"
#include "log/log_files.h"
#include "log/scrub.h"

/* ---- The record: a block, little-endian ---- */

#define MAGIC        0x5041575352414d4dull
#define RECORD_BYTES MR_PAGE_BYTES
#define NAME_AT      40u

struct swap_record {
    int64_t base; /* of the segment that stays */
    int64_t end;  /* the segments between the two go */
    char    dir_name[MR_DIR_NAME_BYTES];
};

static void record_store(uint8_t *out, const struct mr_partition *p, int64_t base, int64_t end)
{
    memset(out, 0, RECORD_BYTES);
    mr_store_le64(out, MAGIC);
    mr_store_le64(out + 16, (uint64_t)base);
    mr_store_le64(out + 24, (uint64_t)end);
    mr_store_le32(out + 32, (uint32_t)p->jlog.dir_name.len);
    memcpy(out + NAME_AT, p->dir_name, (size_t)p->jlog.dir_name.len);
    mr_store_le32(out + 8, mr_crc32c(0, out + 12, RECORD_BYTES - 12));
}

static bool record_load(const uint8_t *bytes, uint32_t len, struct swap_record *record)
{
    if (len < RECORD_BYTES || mr_load_le64(bytes) != MAGIC ||
        mr_load_le32(bytes + 8) != mr_crc32c(0, bytes + 12, RECORD_BYTES - 12)) {
        return false;
    }
    uint32_t name_len = mr_load_le32(bytes + 32);
    record->base = (int64_t)mr_load_le64(bytes + 16);
    record->end = (int64_t)mr_load_le64(bytes + 24);
    if (name_len == 0 || name_len >= MR_DIR_NAME_BYTES) {
        return false;
    }
    mr_fmt(record->dir_name, sizeof record->dir_name, "%.*s", (int)name_len, (const char *)bytes + NAME_AT);
    return true;
}

static void record_name(uint32_t ring, char *name, size_t size)
{
    mr_fmt(name, size, MR_CLEAN_SWAP_NAME "%u", ring);
}

/* ---- In service ---- */

enum swap_at {
    SWAP_BEGIN,
    SWAP_FILE_OPEN,
    SWAP_FILE_SYNCED,
    SWAP_DIR_OPEN,
    SWAP_DIR_SYNCED,
    SWAP_RECORDED,
    SWAP_GATE,
    SWAP_OLD,
    SWAP_NEW,
    SWAP_NEW_AGAIN,
    SWAP_NEW_SYNCED,
    SWAP_DIR_CLOSED,
    SWAP_VOIDED,
};

/* Of an old segment; the producers' snapshot at the base that stays is as good as before. */
static const char *const old_kinds[] = {".index", ".timeindex", ".txnindex", MR_SIDE_SUFFIX, ".log", ".snapshot"};
#define OLD_KINDS (sizeof old_kinds / sizeof old_kinds[0])

static struct mr_segment *first_old(const struct mr_cleaner *c)
{
    return mr_segment_find(c->p, c->group_base);
}

/* Keep them from burial, if none is on its way already. */
static bool claim(const struct mr_cleaner *c)
{
    struct mr_segment *first = first_old(c);
    if (first == NULL || first->base != c->group_base || c->p->state != MR_PARTITION_OPEN) {
        return false;
    }
    for (struct mr_segment *old = first; old->base < c->group_end; old = mr_segment_next(old)) {
        if (old->is_gone || old->is_cleaning) {
            return false;
        }
    }
    for (struct mr_segment *old = first; old->base < c->group_end; old = mr_segment_next(old)) {
        old->is_swapping = true;
    }
    return true;
}

static void unclaim(const struct mr_cleaner *c)
{
    for (struct mr_segment *old = first_old(c); old != NULL && old->base < c->group_end; old = mr_segment_next(old)) {
        old->is_swapping = false;
    }
}

/* Nobody reads the old files any more. */
static bool is_free(const struct mr_cleaner *c)
{
    for (struct mr_segment *old = first_old(c); old->base < c->group_end; old = mr_segment_next(old)) {
        if (old->users > 0 || old->file_state == MR_FILE_OPENING || old->is_index_busy) {
            return false;
        }
    }
    return true;
}

static enum mr_clean_progress write_record(struct mr_cleaner *c, enum swap_at then)
{
    c->at = then;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                   .flags = MR_DISK_BACKGROUND | MR_DISK_DSYNC,
                                   .file = c->intent_file,
                                   .buffer = c->intent,
                                   .len = RECORD_BYTES};
    return MR_CLEAN_IO;
}

static enum mr_clean_progress open_dir(struct mr_storage_core *core, struct mr_cleaner *c)
{
    c->at = SWAP_DIR_OPEN;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                   .name = c->p->dir_name};
    return MR_CLEAN_IO;
}

static enum mr_clean_progress sync_dir(struct mr_cleaner *c, int32_t dir, enum swap_at then)
{
    c->at = then;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_SYNC_DIR, .flags = MR_DISK_BACKGROUND, .file = dir};
    return MR_CLEAN_IO;
}

/* The record's file is made once, and its name durable, before it says anything. */
static enum mr_clean_progress begin(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->intent_file != MR_DISK_NONE) {
        return open_dir(core, c);
    }
    record_name(core->params.core, c->name, sizeof c->name);
    c->at = SWAP_FILE_OPEN;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_BACKGROUND,
                                   .dir = core->root, .name = c->name};
    return MR_CLEAN_IO;
}

/* The new files can be found by their names after a crash: now the record may tell of them. */
static enum mr_clean_progress record(struct mr_cleaner *c)
{
    if (!claim(c)) {
        return mr_cleaner_undo(c, false);
    }
    record_store(c->intent, c->p, c->group_base, c->group_end);
    if (mr_bug("swap-half")) { /* what a crash leaves of it is nobody's */
        memset(c->intent, 0, RECORD_BYTES);
    }
    return write_record(c, SWAP_RECORDED);
}

/* ---- The old files ---- */

static enum mr_clean_progress rename_old(struct mr_storage_core *core, struct mr_cleaner *c)
{
    char suffix[24];
    mr_segment_name(c->swap_segment, old_kinds[c->swap_kind], c->name);
    mr_fmt(suffix, sizeof suffix, "%s.deleted", old_kinds[c->swap_kind]);
    mr_segment_name(c->swap_segment, suffix, c->new_name);
    c->at = SWAP_OLD;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .flags = MR_DISK_BACKGROUND, .dir = core->root,
                                   .name = c->name, .new_name = c->new_name};
    return MR_CLEAN_IO;
}

static enum mr_clean_progress rename_new(struct mr_storage_core *core, struct mr_cleaner *c);

static enum mr_clean_progress old_renamed(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_disk_op *op = &c->io.op;
    if (op->kind == MR_DISK_RENAME && op->err == MR_ERR_NO_SPACE) {
        *op = (struct mr_disk_op){
            .kind = MR_DISK_UNLINK, .flags = MR_DISK_BACKGROUND, .dir = core->root, .name = c->name};
        return MR_CLEAN_IO;
    }
    if (op->err != MR_OK && op->err != MR_ERR_NOT_FOUND) {
        mr_core_fail(core, op, "removing a segment that was compacted");
        return MR_CLEAN_WAIT;
    }
    uint32_t kinds = c->swap_segment->base == c->group_base ? OLD_KINDS - 1 : OLD_KINDS;
    if (++c->swap_kind == kinds) {
        c->swap_kind = 0;
        c->swap_segment = mr_segment_next(c->swap_segment);
    }
    return c->swap_segment->base < c->group_end ? rename_old(core, c) : rename_new(core, c);
}

static enum mr_clean_progress gate(struct mr_storage_core *core, struct mr_cleaner *c)
{
    c->at = SWAP_GATE;
    c->is_gated = true;
    if (!is_free(c)) {
        return MR_CLEAN_WAIT;
    }
    c->swap_segment = first_old(c);
    c->swap_kind = 0;
    return rename_old(core, c);
}

/* ---- The new ones, and the segment itself ---- */

static enum mr_clean_progress rename_new(struct mr_storage_core *core, struct mr_cleaner *c)
{
    char suffix[24];
    mr_fmt(suffix, sizeof suffix, "%s.cleaned", mr_clean_suffixes[c->swap_kind]);
    mr_segment_name(c->anew, suffix, c->name);
    mr_segment_name(c->anew, mr_clean_suffixes[c->swap_kind], c->new_name);
    c->at = SWAP_NEW;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .flags = MR_DISK_BACKGROUND, .dir = core->root,
                                   .name = c->name, .new_name = c->new_name};
    return MR_CLEAN_IO;
}

static void forget_places(struct mr_cleaner *c)
{
    for (uint32_t index = 0; index < MR_READ_HINTS; index++) {
        struct mr_place *hint = &c->p->hints[index];
        if (hint->base >= c->group_base && hint->base < c->group_end) {
            hint->offset = -1;
        }
    }
}

/* Readers see the new segment from here on. */
static void replace(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_segment *old = first_old(c);
    struct mr_segment *anew = c->anew;
    struct mr_list    *before = old->link.prev;
    anew->created_ms = old->created_ms;
    anew->written = anew->size;
    anew->allocated = anew->size;
    anew->is_sealed = true;
    anew->is_seal_done = true;
    anew->has_file = true;
    anew->has_index_files = true;
    while (old->base < c->group_end) {
        struct mr_segment *next = mr_segment_next(old);
        anew->changed_ms = old->changed_ms;
        mr_burial_renamed(core, old);
        old = next;
    }
    forget_places(c);
    mr_list_add_head(before, &anew->link);
    mr_scrub_want(core, anew);
    c->p->segment_count++;
    c->anew = NULL;
    c->is_gated = false;
    mr_partition_mark_gone(core, c->p); /* the log's start may have moved meanwhile */
}

static enum mr_clean_progress new_renamed(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->io.op.err == MR_ERR_NO_SPACE) {
        c->paced_until_ns = mr_deadline_ms(core->now.mono_ns, 1000);
        c->at = SWAP_NEW_AGAIN;
        return MR_CLEAN_WAIT;
    }
    if (c->io.op.err != MR_OK) {
        mr_core_fail(core, &c->io.op, "putting a compacted segment in its place");
        return MR_CLEAN_WAIT;
    }
    if (++c->swap_kind < MR_CLEAN_KINDS) {
        return rename_new(core, c);
    }
    replace(core, c);
    return sync_dir(c, c->dir, SWAP_NEW_SYNCED);
}

/* ---- The end ---- */

static enum mr_clean_progress close_dir(struct mr_cleaner *c)
{
    c->at = SWAP_DIR_CLOSED;
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = c->dir};
    c->dir = MR_DISK_NONE;
    return MR_CLEAN_IO;
}

static enum mr_clean_progress void_record(struct mr_cleaner *c)
{
    memset(c->intent, 0, RECORD_BYTES);
    return write_record(c, SWAP_VOIDED);
}

static enum mr_clean_progress voided(struct mr_cleaner *c)
{
    c->group_base = c->group_end;
    return mr_cleaner_phase(c, MR_CLEAN_GROUP);
}

/* Steps whose failure is the round's end, or from the record on the directory's. */
static bool has_failed(const struct mr_cleaner *c)
{
    bool is_looked_at = c->at == SWAP_BEGIN || c->at == SWAP_GATE || c->at == SWAP_OLD || c->at == SWAP_NEW ||
                        c->at == SWAP_NEW_AGAIN || c->at == SWAP_DIR_CLOSED;
    return !is_looked_at && c->io.op.err != MR_OK;
}

static enum mr_clean_progress failed(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->at >= SWAP_NEW_SYNCED) {
        mr_core_fail(core, &c->io.op, "ending a compaction");
        return MR_CLEAN_WAIT;
    }
    unclaim(c);
    return mr_cleaner_failed(core, c, "beginning the swap of a compacted segment");
}

enum mr_clean_progress mr_clean_swap(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (has_failed(c)) {
        return failed(core, c);
    }
    switch ((enum swap_at)c->at) {
    case SWAP_BEGIN:
        return begin(core, c);
    case SWAP_FILE_OPEN:
        c->intent_file = c->io.op.file;
        return sync_dir(c, core->root, SWAP_FILE_SYNCED);
    case SWAP_FILE_SYNCED:
        return open_dir(core, c);
    case SWAP_DIR_OPEN:
        c->dir = c->io.op.file;
        return sync_dir(c, c->dir, SWAP_DIR_SYNCED);
    case SWAP_DIR_SYNCED:
        return record(c);
    case SWAP_RECORDED:
    case SWAP_GATE:
        return gate(core, c);
    case SWAP_OLD:
        return old_renamed(core, c);
    case SWAP_NEW:
        return new_renamed(core, c);
    case SWAP_NEW_AGAIN:
        return rename_new(core, c);
    case SWAP_NEW_SYNCED:
        return close_dir(c);
    case SWAP_DIR_CLOSED:
        return void_record(c);
    case SWAP_VOIDED:
        return voided(c);
    }
    mr_unreachable("step of a swap");
}

/* ---- At the start ---- */

/* Files of the segments that the new one stands for; a listing that does not fit is asked for again. */
static enum mr_err remove_between(struct mr_storage_core *core, const struct swap_record *record, int32_t dir)
{
    bool is_more = true;
    while (is_more) {
        struct mr_disk_op list = {.kind = MR_DISK_LIST, .file = dir, .buffer = core->scratch, .len = MR_SCRATCH_BYTES};
        enum mr_err       err = mr_core_disk(core, &list);
        uint32_t          removed = 0;
        for (uint32_t at = 0; err == MR_OK && at < list.done_bytes;) {
            const struct mr_disk_list_entry *entry =
                (const struct mr_disk_list_entry *)(const void *)(core->scratch + at);
            at += entry->entry_bytes;
            for (uint32_t kind = 0; kind < OLD_KINDS && err == MR_OK; kind++) {
                int64_t base = 0;
                if (mr_log_file_parse(entry->name, old_kinds[kind], &base) && base > record->base &&
                    base < record->end) {
                    struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = dir, .name = entry->name};
                    err = mr_core_disk(core, &op);
                    removed++;
                }
            }
        }
        if (err != MR_OK) {
            return err;
        }
        is_more = list.size > 0 && removed > 0;
    }
    return MR_OK;
}

static enum mr_err put_new(struct mr_storage_core *core, const struct swap_record *record, int32_t dir)
{
    enum mr_err err = MR_OK;
    for (uint32_t kind = 0; kind < MR_CLEAN_KINDS && err == MR_OK; kind++) {
        char from[64];
        char to[64];
        mr_fmt(to, sizeof to, "%020lld%s", (long long)record->base, mr_clean_suffixes[kind]);
        mr_fmt(from, sizeof from, "%s.cleaned", to);
        struct mr_disk_op op = {.kind = MR_DISK_RENAME, .dir = dir, .name = from, .new_name = to};
        err = mr_core_disk(core, &op);
        err = err == MR_ERR_NOT_FOUND ? MR_OK : err;
    }
    return err;
}

static enum mr_err redo_record(struct mr_storage_core *core, const struct swap_record *record)
{
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root, .name = record->dir_name};
    enum mr_err err = mr_core_disk(core, &open);
    if (err != MR_OK) {
        return err == MR_ERR_NOT_FOUND ? MR_OK : err;
    }
    mr_log(core->log, MR_LOG_INFO, "a compaction is ended dir=%s from=%lld to=%lld", record->dir_name,
           (long long)record->base, (long long)record->end);
    err = remove_between(core, record, open.file);
    err = err != MR_OK ? err : put_new(core, record, open.file);
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC_DIR, .file = open.file};
    err = err != MR_OK ? err : mr_core_disk(core, &sync);
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    (void)mr_core_disk(core, &close);
    return err;
}

static enum mr_err read_record(struct mr_storage_core *core, const char *name, struct swap_record *record,
                               bool *is_valid)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &open);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op read = {
        .kind = MR_DISK_READ, .file = open.file, .buffer = core->scratch, .len = RECORD_BYTES};
    err = mr_core_disk(core, &read);
    *is_valid = err == MR_OK && record_load(core->scratch, read.done_bytes, record);
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    (void)mr_core_disk(core, &close);
    return err;
}

/* It goes durably: a record that came back would tell of files that a later compaction is making. */
enum mr_err mr_clean_swap_take(struct mr_storage_core *core, const char *name)
{
    struct swap_record record;
    bool               is_valid = false;
    enum mr_err        err = read_record(core, name, &record, &is_valid);
    if (err == MR_OK && is_valid && core->guard.is_guarded) {
        err = redo_record(core, &record);
    }
    struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = core->root, .name = name};
    err = err != MR_OK ? err : mr_core_disk(core, &op);
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC_DIR, .file = core->root};
    return err == MR_OK ? mr_core_disk(core, &sync) : err;
}

void mr_clean_swap_close(struct mr_storage_core *core)
{
    struct mr_cleaner *c = core->cleaner;
    char               name[32];
    if (c == NULL || c->intent_file == MR_DISK_NONE) {
        return;
    }
    struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = c->intent_file};
    (void)mr_core_disk(core, &op);
    record_name(core->params.core, name, sizeof name);
    op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = core->root, .name = name};
    (void)mr_core_disk(core, &op);
    c->intent_file = MR_DISK_NONE;
}
