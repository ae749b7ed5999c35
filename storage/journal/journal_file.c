/*
 * journal_file: one file of the ring: its header block, and how it is prepared.
 *
 * A file is written through with zeros once and recycled for ever, so that a commit overwrites
 * written extents inside the file's size: no allocation, no metadata, one device flush. Preparing runs in
 * the background, a piece at a time, not on the ring that carries commits; lack of space can occur only here.
 *
 *   space > open > fill ... fill > sync > sync directory > header (durable) > slot (durable) = READY
 *
 * The slot says that the file is in use before any commit is in it: without that a file which is gone, or whose header
 * is, would look like one that was never finished (J8).
 */
#include "journal_private.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"

#define HEAD_MAGIC   0x454c49464a52524dull /* "MRRJFILE" */
#define HEAD_BYTES   96u
#define FILL_GAP_NS  (2 * MR_NS_PER_MS) /* 256 KiB each 2 ms: 128 MB/s at most */
#define RETRY_NS     MR_NS_PER_S

void mr_journal_file_name(char name[MR_JOURNAL_NAME], uint32_t ring, uint32_t index)
{
    mr_fmt(name, MR_JOURNAL_NAME, "millrace-journal-%u-%u", ring, index);
}

void mr_journal_file_head(uint8_t block[MR_JOURNAL_BLOCK], const struct mr_commit_key *key,
                          uint64_t incarnation)
{
    memset(block, 0, MR_JOURNAL_BLOCK);
    mr_store_le64(block, HEAD_MAGIC);
    mr_store_le32(block + 12, key->ring);
    memcpy(block + 16, key->directory_id.bytes, 16);
    mr_store_le64(block + 32, key->generation);
    mr_store_le64(block + 40, incarnation);
    mr_store_le32(block + 48, MR_JOURNAL_VERSION);
    mr_store_le32(block + 8, mr_crc32c(0, block + 12, HEAD_BYTES - 12));
}

bool mr_journal_file_head_check(const uint8_t *block, const struct mr_uuid *directory_id, uint32_t ring,
                                uint64_t *generation)
{
    if (mr_load_le64(block) != HEAD_MAGIC ||
        mr_load_le32(block + 8) != mr_crc32c(0, block + 12, HEAD_BYTES - 12) ||
        mr_load_le32(block + 12) != ring || memcmp(block + 16, directory_id->bytes, 16) != 0 ||
        mr_load_le32(block + 48) != MR_JOURNAL_VERSION) {
        return false;
    }
    *generation = mr_load_le64(block + 32);
    return true;
}

static void set_head(struct mr_journal *journal, uint8_t *block, struct mr_journal_file *file)
{
    file->generation = mr_journal_draw(journal);
    struct mr_commit_key key = {.directory_id = journal->directory_id,
                                .ring = journal->params.ring,
                                .generation = file->generation};
    mr_journal_file_head(block, &key, journal->incarnation);
}

static void set_ready(struct mr_journal_file *file)
{
    file->state = MR_JOURNAL_FILE_READY;
    file->used = MR_JOURNAL_BLOCK;
    file->first_seq = 0;
    file->end_seq = 0;
    file->number = 0;
}

/* ---- In the background ---- */

static uint32_t absent(const struct mr_journal *journal)
{
    uint32_t index = 0;
    while (index < journal->params.files_max &&
           journal->files[index].state != MR_JOURNAL_FILE_ABSENT) {
        index++;
    }
    return index;
}

/* One file is always ready ahead: at first without haste, then when half of the active one is used. Another one when an
 * entry needs it and the reserve beside it. */
static bool is_wanted(const struct mr_journal *journal)
{
    const struct mr_journal_file *active = &journal->files[journal->active];
    bool is_none_ready = mr_journal_ready(journal) == MR_JOURNAL_FILES_MAX;
    bool is_soon_needed = journal->stats.files < 2 || active->used > journal->file_bytes / 2;
    return absent(journal) < journal->params.files_max &&
           (journal->is_starved || (is_none_ready && is_soon_needed));
}

static void submit(struct mr_journal *journal, struct mr_disk_op op)
{
    struct mr_prepare *prepare = &journal->prepare;
    op.user = journal;
    op.flags |= MR_DISK_BACKGROUND;
    prepare->op = op;
    prepare->is_busy = true;
    mr_disk_submit(journal->params.disk, &prepare->op);
}

static void retry_later(struct mr_journal *journal)
{
    journal->prepare.step = MR_PREPARE_IDLE;
    journal->prepare.not_before_ns = journal->now.mono_ns + RETRY_NS;
    if (!journal->is_growth_short) {
        mr_log(journal->params.log, MR_LOG_WARN,
               "no space for another journal file ring=%u files=%u",
               journal->params.ring, journal->stats.files);
    }
    journal->is_growth_short = true;
}

bool mr_journal_file_turn(struct mr_journal *journal)
{
    struct mr_prepare *prepare = &journal->prepare;
    if (prepare->is_busy || journal->is_offline) {
        return false;
    }
    if (journal->now.mono_ns < prepare->not_before_ns && !(journal->is_starved && !journal->is_growth_short)) {
        return false;
    }
    if (prepare->step == MR_PREPARE_IDLE) {
        if (!is_wanted(journal)) {
            journal->is_growth_short = false;
            return false;
        }
        prepare->file = absent(journal);
        prepare->filled = 0;
        prepare->step = MR_PREPARE_SPACE;
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_STAT, .file = journal->root});
        return true;
    }
    if (prepare->step == MR_PREPARE_SETTLE && journal->recycle.step == MR_RECYCLE_IDLE) {
        prepare->step = MR_PREPARE_LIST;
        journal->listed |= 1u << prepare->file;
        uint64_t pos = mr_journal_next_slot(journal, journal->start_seq, journal->head_block);
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                            .flags = MR_DISK_DSYNC,
                                            .file = journal->state_handle,
                                            .buffer = journal->head_block,
                                            .pos = pos,
                                            .len = MR_JOURNAL_BLOCK});
        return true;
    }
    if (prepare->step == MR_PREPARE_FILL) {
        struct mr_journal_file *file = &journal->files[prepare->file];
        uint64_t                left = journal->file_bytes - prepare->filled;
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                            .file = file->handle,
                                            .buffer = journal->zeros,
                                            .pos = prepare->filled,
                                            .len = left < MR_JOURNAL_FILL ? (uint32_t)left
                                                                          : MR_JOURNAL_FILL});
        return true;
    }
    return false;
}

uint64_t mr_journal_file_deadline_ns(const struct mr_journal *journal)
{
    const struct mr_prepare *prepare = &journal->prepare;
    if (prepare->is_busy || journal->is_offline ||
        (prepare->step == MR_PREPARE_IDLE && !is_wanted(journal)) ||
        (prepare->step == MR_PREPARE_SETTLE && journal->recycle.step != MR_RECYCLE_IDLE)) {
        return MR_NEVER;
    }
    return prepare->not_before_ns > journal->now.mono_ns ? prepare->not_before_ns : 0;
}

/* One step has been done. */
void mr_journal_file_done(struct mr_journal *journal)
{
    struct mr_prepare      *prepare = &journal->prepare;
    struct mr_disk_op      *op = &prepare->op;
    struct mr_journal_file *file = &journal->files[prepare->file];
    prepare->is_busy = false;
    if (op->err == MR_ERR_NO_SPACE &&
        (prepare->step == MR_PREPARE_OPEN || prepare->step == MR_PREPARE_FILL ||
         prepare->step == MR_PREPARE_SYNC)) {
        /* Nothing depends on this file yet: lack of space is no failure (ruling 16). */
        if (prepare->step == MR_PREPARE_OPEN) {
            retry_later(journal);
            return;
        }
        prepare->step = MR_PREPARE_UNDO_CLOSE;
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file->handle});
        return;
    }
    if (op->err == MR_ERR_NO_SPACE && prepare->step == MR_PREPARE_LIST) {
        /* The place of a slot is allocated when it is written first. */
        journal->is_growth_short = true;
        prepare->step = MR_PREPARE_SETTLE;
        prepare->not_before_ns = journal->now.mono_ns + RETRY_NS;
        return;
    }
    if (op->err != MR_OK && prepare->step != MR_PREPARE_UNDO && prepare->step != MR_PREPARE_UNDO_CLOSE) {
        mr_journal_fail(journal, op->err, op->os_errno, "preparing a journal file");
        return;
    }
    switch (prepare->step) {
    case MR_PREPARE_IDLE:
    case MR_PREPARE_SETTLE:
        break;
    case MR_PREPARE_SPACE:
        if (op->space_free_bytes < journal->params.reserve_bytes + journal->file_bytes) {
            retry_later(journal);
            return;
        }
        file->state = MR_JOURNAL_FILE_PREPARING;
        mr_journal_file_name(prepare->name, journal->params.ring, prepare->file);
        prepare->step = MR_PREPARE_OPEN;
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                            .flags = MR_DISK_CREATE | journal->direct,
                                            .dir = journal->root,
                                            .name = prepare->name});
        return;
    case MR_PREPARE_OPEN:
        file->handle = op->file;
        prepare->step = MR_PREPARE_FILL;
        return;
    case MR_PREPARE_FILL:
        prepare->filled += op->len;
        prepare->not_before_ns = journal->now.mono_ns + FILL_GAP_NS;
        if (prepare->filled == journal->file_bytes) {
            prepare->step = MR_PREPARE_SYNC;
            submit(journal, (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = file->handle});
        }
        return;
    case MR_PREPARE_SYNC:
        prepare->step = MR_PREPARE_SYNC_DIR;
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_SYNC_DIR, .file = journal->root});
        return;
    case MR_PREPARE_SYNC_DIR:
        prepare->step = MR_PREPARE_HEAD;
        set_head(journal, journal->head_block, file);
        submit(journal, (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                            .flags = MR_DISK_DSYNC,
                                            .file = file->handle,
                                            .buffer = journal->head_block,
                                            .len = MR_JOURNAL_BLOCK});
        return;
    case MR_PREPARE_HEAD:
        prepare->step = MR_PREPARE_SETTLE;
        return;
    case MR_PREPARE_LIST:
        set_ready(file);
        journal->stats.files++;
        journal->is_growth_short = false;
        journal->is_starved = false; /* whoever was refused asks again */
        prepare->step = MR_PREPARE_IDLE;
        return;
    case MR_PREPARE_UNDO_CLOSE:
        prepare->step = MR_PREPARE_UNDO;
        submit(journal,
               (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = journal->root, .name = prepare->name});
        return;
    case MR_PREPARE_UNDO:
        file->state = MR_JOURNAL_FILE_ABSENT;
        file->handle = MR_DISK_NONE;
        retry_later(journal);
        return;
    }
}

/* ---- At start, blocking ---- */

static enum mr_err run(struct mr_journal *journal, struct mr_disk_op *op)
{
    return mr_disk_run(journal->params.disk, op);
}

/*
 * Make file `index` READY: one of the right size that exists is taken over with a new generation, anything
 * else is written through anew. The ring holds nothing that counts (recovery has emptied it).
 */
enum mr_err mr_journal_file_prepare_now(struct mr_journal *journal, uint32_t index)
{
    struct mr_journal_file *file = &journal->files[index];
    char                    name[MR_JOURNAL_NAME];
    mr_journal_file_name(name, journal->params.ring, index);
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | journal->direct,
                              .dir = journal->root,
                              .name = name};
    enum mr_err       err = run(journal, &open);
    if (err == MR_ERR_INVALID && journal->direct != 0) {
        mr_log(journal->params.log, MR_LOG_WARN,
               "the log directory refuses O_DIRECT: the journal is written through the page cache");
        journal->direct = 0;
        open.flags = MR_DISK_CREATE;
        err = run(journal, &open);
    }
    if (err != MR_OK) {
        return err;
    }
    file->handle = open.file;
    struct mr_disk_op stat = {.kind = MR_DISK_STAT, .file = file->handle};
    err = run(journal, &stat);
    bool is_whole = err == MR_OK && stat.size == journal->file_bytes;
    if (err == MR_OK && !is_whole) {
        struct mr_disk_op cut = {.kind = MR_DISK_TRUNCATE, .file = file->handle};
        err = run(journal, &cut);
        for (uint64_t at = 0; err == MR_OK && at < journal->file_bytes; at += MR_JOURNAL_FILL) {
            struct mr_disk_op fill = {.kind = MR_DISK_WRITE,
                                      .file = file->handle,
                                      .buffer = journal->zeros,
                                      .pos = at};
            uint64_t          left = journal->file_bytes - at;
            fill.len = left < MR_JOURNAL_FILL ? (uint32_t)left : MR_JOURNAL_FILL;
            err = run(journal, &fill);
        }
    }
    /* Also for one found whole: nobody knows whether it was synced after it was filled. */
    if (err == MR_OK) {
        struct mr_disk_op sync = {.kind = MR_DISK_SYNC, .file = file->handle};
        err = run(journal, &sync);
    }
    if (err == MR_OK) {
        set_head(journal, journal->head_block, file);
        struct mr_disk_op head = {.kind = MR_DISK_WRITE,
                                  .flags = MR_DISK_DSYNC,
                                  .file = file->handle,
                                  .buffer = journal->head_block,
                                  .len = MR_JOURNAL_BLOCK};
        err = run(journal, &head);
    }
    if (err == MR_OK) {
        set_ready(file);
        journal->stats.files++;
    }
    return err;
}
