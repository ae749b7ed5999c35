/*
 * journal: the thin switch: which commit is open, in flight, durable; which file is next.
 *
 *   state of a commit            what ends it
 *   open      entries join       turn: none is in flight -> sealed
 *   writing   with the disk      its completion: written; with DSYNC also durable
 *   syncing   (EARLY only)       the flush: durable
 *
 * One commit is in flight, so `durable` is in order by itself, and a later valid commit proves that every
 * earlier one was flushed (recovery relies on it).
 */
#include "journal_private.h"

#include "journal/guard.h"
#include "millrace/base/bug.h"
#include "millrace/base/fmt.h"

#define COVER_NS (800 * MR_NS_PER_MS) /* "within 1 s", with some room for a sleeping core */

uint64_t mr_journal_draw(struct mr_journal *journal)
{
    uint64_t drawn;
    do {
        drawn = mr_prng_next(&journal->prng);
    } while (drawn == 0);
    return drawn;
}

uint64_t mr_journal_draw_log_id(struct mr_journal *journal)
{
    return mr_journal_draw(journal);
}

/* ---- Birth ---- */

size_t mr_journal_bytes(void)
{
    return sizeof(struct mr_journal) + 2 * (size_t)MR_JOURNAL_COMMIT_MAX +
           2 * MR_COMMIT_PIECES * sizeof(struct mr_commit_piece) + MR_STATE_BLOCK_MAX + MR_JOURNAL_FILL + 2 * MR_JOURNAL_BLOCK + 8 * (size_t)MR_JOURNAL_BLOCK;
}

struct mr_journal *mr_journal_init(struct mr_arena *arena, const struct mr_journal_params *params)
{
    mr_assert(params->file_bytes >= MR_JOURNAL_FILE_BYTES_MIN &&
              params->file_bytes % MR_JOURNAL_BLOCK == 0);
    mr_assert(2 <= params->files_max && params->files_max <= MR_JOURNAL_FILES_MAX);
    mr_assert(params->ring < MR_JOURNAL_RINGS);
    struct mr_journal *journal = MR_ARENA_GET(arena, struct mr_journal, 1);
    journal->params = *params;
    journal->prng.state = params->seed;
    journal->root = MR_DISK_NONE;
    journal->state_handle = MR_DISK_NONE;
    journal->file_bytes = params->file_bytes;
    journal->direct = MR_DISK_DIRECT;
    for (uint32_t index = 0; index < MR_JOURNAL_FILES_MAX; index++) {
        journal->files[index].handle = MR_DISK_NONE;
    }
    for (uint32_t index = 0; index < 2; index++) {
        journal->commits[index].buffer = mr_arena_get_bulk(arena, MR_JOURNAL_COMMIT_MAX);
        journal->commits[index].pieces = MR_ARENA_GET(arena, struct mr_commit_piece, MR_COMMIT_PIECES);
    }
    journal->zeros = mr_arena_get_fresh(arena, MR_JOURNAL_FILL, MR_JOURNAL_BLOCK);
    journal->head_block = mr_arena_get(arena, MR_JOURNAL_BLOCK, MR_JOURNAL_BLOCK);
    journal->recycle_block = mr_arena_get(arena, MR_JOURNAL_BLOCK, MR_JOURNAL_BLOCK);
    journal->state_block = mr_arena_get_fresh(arena, MR_STATE_BLOCK_MAX, MR_JOURNAL_BLOCK);
    journal->open = &journal->commits[0];
    journal->flying = &journal->commits[1];
    journal->cover_at_ns = MR_NEVER;
    mr_list_init(&journal->dirty);
    mr_list_init(&journal->all);
    mr_list_init(&journal->recycle.kept);
    mr_journal_state_name(journal->state_name, params->ring);
    mr_fmt(journal->state_new_name, sizeof journal->state_new_name, "millrace-state-%u-new",
           params->ring);
    return journal;
}

/* The incarnation that recovery has left in the base state; MR_ERR_CORRUPT when there is none. */
static enum mr_err load_incarnation(struct mr_journal *journal)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_READ_ONLY,
                              .dir = journal->root,
                              .name = MR_STATE_BASE};
    enum mr_err       err = mr_disk_run(journal->params.disk, &open);
    if (err != MR_OK) {
        return err == MR_ERR_NOT_FOUND ? MR_ERR_CORRUPT : err;
    }
    struct mr_disk_op read = {.kind = MR_DISK_READ,
                              .file = open.file,
                              .buffer = journal->recycle_block,
                              .len = MR_JOURNAL_BLOCK};
    err = mr_disk_run(journal->params.disk, &read);
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    (void)mr_disk_run(journal->params.disk, &close);
    struct mr_state_slot slot;
    if (err == MR_OK && (read.done_bytes != MR_JOURNAL_BLOCK ||
                         !mr_journal_state_slot_load(journal->recycle_block, &journal->directory_id,
                                                     MR_JOURNAL_RINGS, &slot))) {
        err = MR_ERR_CORRUPT;
    }
    if (err == MR_OK) {
        journal->incarnation = slot.incarnation + 1;
    }
    return err;
}

static void store_slot(struct mr_journal *journal, uint64_t start_seq, uint8_t block[MR_JOURNAL_BLOCK])
{
    struct mr_state_slot slot = {.number = journal->slot_number,
                                 .incarnation = journal->incarnation,
                                 .start_seq = start_seq,
                                 .durable_seq = journal->durable_seq,
                                 .end_pos = journal->state_end,
                                 .files = journal->listed,
                                 .file_bytes = journal->file_bytes};
    mr_journal_state_slot_store(block, &journal->directory_id, journal->params.ring, &slot);
}

uint64_t mr_journal_next_slot(struct mr_journal *journal, uint64_t start_seq, uint8_t block[MR_JOURNAL_BLOCK])
{
    journal->slot_number++;
    store_slot(journal, start_seq, block);
    return (journal->slot_number & 1) * MR_STATE_SLOT_STEP;
}

/*
 * A fresh state file with one slot: durable before the first commit. Under another name until it is whole: a state
 * file without a slot says that states are lost, and those of the base would not be believed either.
 */
static enum mr_err create_state(struct mr_journal *journal)
{
    struct mr_disk *disk = journal->params.disk;
    char            name[MR_JOURNAL_NAME + 8];
    mr_fmt(name, sizeof name, "%s-new", journal->state_name);
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                              .dir = journal->root,
                              .name = name};
    enum mr_err       err = mr_disk_run(disk, &open);
    if (err != MR_OK) {
        return err;
    }
    journal->state_handle = open.file;
    journal->state_end = MR_STATE_DATA;
    journal->state_blocks = 0;
    journal->slot_number = 0;
    store_slot(journal, 1, journal->recycle_block);
    struct mr_disk_op write = {.kind = MR_DISK_WRITE,
                               .file = open.file,
                               .buffer = journal->recycle_block,
                               .len = MR_JOURNAL_BLOCK};
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC, .file = open.file};
    struct mr_disk_op rename = {
        .kind = MR_DISK_RENAME, .dir = journal->root, .name = name, .new_name = journal->state_name};
    struct mr_disk_op sync_dir = {.kind = MR_DISK_SYNC_DIR, .file = journal->root};
    err = mr_disk_run(disk, &write);
    err = err != MR_OK ? err : mr_disk_run(disk, &sync);
    err = err != MR_OK ? err : mr_disk_run(disk, &rename);
    return err != MR_OK ? err : mr_disk_run(disk, &sync_dir);
}

enum mr_err mr_journal_open(struct mr_journal *journal)
{
    struct mr_guard guard;
    enum mr_err     err = mr_guard_open(&guard, journal->params.disk, journal->params.log_dir, false);
    if (err != MR_OK) {
        return err;
    }
    /* J9: nothing is committed into a directory that others could misread. */
    if (!guard.is_guarded || !guard.has_directory_id) {
        mr_guard_close(&guard);
        return MR_ERR_INVALID;
    }
    journal->directory_id = guard.directory_id;
    journal->root = guard.root;
    guard.root = MR_DISK_NONE;
    mr_guard_close(&guard);
    err = load_incarnation(journal);
    for (uint32_t index = 0; err == MR_OK && index < journal->params.files_max; index++) {
        char name[MR_JOURNAL_NAME];
        mr_journal_file_name(name, journal->params.ring, index);
        struct mr_disk_op stat = {.kind = MR_DISK_STAT, .dir = journal->root, .name = name};
        enum mr_err       found = mr_disk_run(journal->params.disk, &stat);
        /* The first exists always; others when they are whole. A file of another size or half prepared
         * is prepared again when it is needed. */
        if (index == 0 || (found == MR_OK && stat.size == journal->file_bytes)) {
            err = mr_journal_file_prepare_now(journal, index);
            journal->listed |= 1u << index;
        }
    }
    if (err == MR_OK) {
        err = create_state(journal);
    }
    if (err != MR_OK) {
        return err;
    }
    journal->active = 0;
    journal->files[0].state = MR_JOURNAL_FILE_ACTIVE;
    journal->files[0].number = ++journal->next_number;
    journal->open->seq = 1;
    journal->start_seq = 1;
    journal->is_opened = true;
    return MR_OK;
}

/* ---- Logs ---- */

void mr_journal_log_init(struct mr_journal *journal, struct mr_journal_log *log)
{
    mr_assert(log->log_id != 0);
    mr_assert(log->dir_name.len > 0 && (uint32_t)log->dir_name.len <= MR_JOURNAL_DIR_NAME_MAX);
    log->opened_in = 0;
    log->first_seq = 0;
    log->last_seq = 0;
    mr_list_init(&log->dirty);
    mr_list_add_tail(&journal->all, &log->all);
}

void mr_journal_log_deinit(struct mr_journal *journal, struct mr_journal_log *log)
{
    if (journal->recycle.next == &log->all) {
        journal->recycle.next = log->all.next;
    }
    mr_list_remove(&log->dirty);
    mr_list_remove(&log->all);
}

/* ---- Files ---- */

uint32_t mr_journal_oldest(const struct mr_journal *journal)
{
    uint32_t oldest = MR_JOURNAL_FILES_MAX;
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        if (journal->files[index].state == MR_JOURNAL_FILE_FULL &&
            (oldest == MR_JOURNAL_FILES_MAX ||
             journal->files[index].number < journal->files[oldest].number)) {
            oldest = index;
        }
    }
    return oldest;
}

uint32_t mr_journal_ready(const struct mr_journal *journal)
{
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        if (journal->files[index].state == MR_JOURNAL_FILE_READY) {
            return index;
        }
    }
    return MR_JOURNAL_FILES_MAX;
}

static uint32_t ready_count(const struct mr_journal *journal)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        count += journal->files[index].state == MR_JOURNAL_FILE_READY;
    }
    return count;
}

/* The next commit goes to another file. Only between commits: a commit never spans files. */
static void next_file(struct mr_journal *journal, uint32_t ready)
{
    struct mr_journal_file *active = &journal->files[journal->active];
    mr_assert(journal->open->entry_count == 0);
    active->state = active->first_seq == 0 ? MR_JOURNAL_FILE_READY : MR_JOURNAL_FILE_FULL;
    journal->active = ready;
    active = &journal->files[ready];
    mr_assert(active->state == MR_JOURNAL_FILE_READY && active->used == MR_JOURNAL_BLOCK);
    active->state = MR_JOURNAL_FILE_ACTIVE;
    active->number = ++journal->next_number;
    active->first_seq = 0;
    active->end_seq = 0;
    journal->is_roll_wanted = false;
}

/* ---- Adding ---- */

static uint32_t commit_max(const struct mr_journal *journal)
{
    uint64_t file = journal->file_bytes - MR_JOURNAL_BLOCK;
    return file < MR_JOURNAL_COMMIT_MAX ? (uint32_t)file : MR_JOURNAL_COMMIT_MAX;
}

uint32_t mr_journal_payload_max(const struct mr_journal *journal)
{
    return commit_max(journal) - MR_COMMIT_HEAD - mr_commit_entry_room(MR_COMMIT_OPEN_MAX) -
           MR_COMMIT_ENTRY - MR_JOURNAL_BLOCK - 8;
}

/* Entries of the largest kind that fit into one file, each perhaps in a commit of its own. */
static uint64_t parts_per_file(const struct mr_journal *journal)
{
    uint64_t part = mr_commit_padded(MR_COMMIT_HEAD + mr_commit_entry_room(MR_COMMIT_OPEN_MAX) +
                                     mr_commit_entry_room(mr_journal_payload_max(journal)));
    return (journal->file_bytes - MR_JOURNAL_BLOCK) / part;
}

/* One file is active, one is kept for what may use the reserve. */
uint64_t mr_journal_batch_max(const struct mr_journal *journal)
{
    uint64_t one = mr_journal_payload_max(journal);
    return journal->params.files_max <= 3 ? one : one * parts_per_file(journal) * (journal->params.files_max - 2);
}

bool mr_journal_fits_parts(struct mr_journal *journal, uint64_t bytes)
{
    uint64_t per_file = parts_per_file(journal) * mr_journal_payload_max(journal);
    uint64_t files = (bytes + per_file - 1) / per_file;
    uint32_t absent = 0;
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        absent += journal->files[index].state == MR_JOURNAL_FILE_ABSENT ||
                  journal->files[index].state == MR_JOURNAL_FILE_PREPARING;
    }
    uint64_t available = ready_count(journal) + (journal->is_growth_short ? 0 : absent);
    if (journal->recycle.step == MR_RECYCLE_IDLE && files < available) {
        return true;
    }
    journal->is_starved |= files >= available;
    return false;
}

static uint32_t need_bytes(const struct mr_journal_log *log, uint64_t file_number, uint32_t payload_bytes)
{
    uint32_t open = log->opened_in == file_number
                        ? 0
                        : mr_commit_entry_room(24 + (uint32_t)log->dir_name.len);
    return open + mr_commit_entry_room(payload_bytes);
}

enum placing {
    PLACE_HERE,
    PLACE_NEXT_FILE,
    PLACE_LATER,   /* the commit is full, its successor will take it */
    PLACE_STARVED, /* the ring is */
};

/*
 * Where an entry would go now. Ordinary appends leave 1/16 of the ring free, so that carried tails,
 * deletions and metadata always find room and the ring can be recycled (4.2.6).
 */
static enum placing place(const struct mr_journal *journal, const struct mr_journal_log *log,
                          uint32_t payload_bytes, bool is_ordinary)
{
    const struct mr_journal_file *active = &journal->files[journal->active];
    const struct mr_commit       *open = journal->open;
    uint64_t capacity = journal->file_bytes - MR_JOURNAL_BLOCK;
    uint64_t reserve = is_ordinary ? journal->stats.files * journal->file_bytes / 16 : 0;
    uint64_t left = journal->file_bytes - active->used;
    uint32_t used = open->entry_count == 0 ? MR_COMMIT_HEAD : open->used;
    uint32_t size = mr_commit_padded(used + need_bytes(log, active->number, payload_bytes));
    uint32_t ready = ready_count(journal);
    bool     is_moving = open->entry_count == 0 && journal->is_roll_wanted && ready > 0;
    if (open->entry_count > 0 &&
        (open->used >= MR_JOURNAL_COMMIT_TARGET || (journal->is_roll_wanted && ready > 0))) {
        return PLACE_LATER;
    }
    if (size <= MR_JOURNAL_COMMIT_MAX && size <= left && !is_moving) {
        return left - size + ready * capacity >= reserve ? PLACE_HERE : PLACE_STARVED;
    }
    if (open->entry_count > 0) {
        return PLACE_LATER;
    }
    if (ready == 0) {
        return PLACE_STARVED;
    }
    size = mr_commit_padded(MR_COMMIT_HEAD + need_bytes(log, 0, payload_bytes));
    return ready * capacity - size >= reserve ? PLACE_NEXT_FILE : PLACE_STARVED;
}

bool mr_journal_has_room(const struct mr_journal *journal, const struct mr_journal_log *log,
                         uint32_t payload_bytes)
{
    if (journal->is_offline || payload_bytes > mr_journal_payload_max(journal)) {
        return false;
    }
    enum placing where = place(journal, log, payload_bytes, true);
    return where == PLACE_HERE || where == PLACE_NEXT_FILE;
}

static void begin_commit(struct mr_journal *journal)
{
    struct mr_commit       *open = journal->open;
    struct mr_journal_file *active = &journal->files[journal->active];
    open->used = MR_COMMIT_HEAD;
    open->heads_crc = 0;
    open->seed = mr_commit_seed(active->generation);
    open->pos = active->used;
    open->opened = journal->opened;
    open->is_early = false;
    if (active->first_seq == 0) {
        active->first_seq = open->seq;
    }
    active->end_seq = open->seq;
}

static void touch(struct mr_journal *journal, struct mr_journal_log *log)
{
    log->last_seq = journal->open->seq;
    if (mr_list_is_empty(&log->dirty)) {
        log->first_seq = journal->open->seq;
        mr_list_add_tail(&journal->dirty, &log->dirty);
    }
}

enum mr_err mr_journal_add(struct mr_journal *journal, struct mr_journal_log *log,
                           const struct mr_journal_entry   *entry,
                           const struct mr_journal_payload *payload, uint64_t *seq_out)
{
    mr_assert(journal->is_opened && entry->kind != MR_JOURNAL_OPEN);
    uint32_t bytes = 0;
    if (payload != NULL) {
        uint32_t whole = payload->prefix_bytes;
        if (payload->chain != NULL && payload->chain->bytes > whole) {
            whole = payload->chain->bytes;
        }
        mr_assert(payload->at <= whole);
        bytes = payload->bytes < whole - payload->at ? payload->bytes : whole - payload->at;
    }
    if (journal->is_offline) {
        return MR_ERR_DIR_OFFLINE;
    }
    if (bytes > mr_journal_payload_max(journal)) {
        return MR_ERR_TOO_LARGE;
    }
    bool is_ordinary = entry->kind == MR_JOURNAL_APPEND && (entry->flags & MR_JOURNAL_RESERVED) == 0;
    switch (place(journal, log, bytes, is_ordinary)) {
    case PLACE_HERE:
        break;
    case PLACE_NEXT_FILE:
        next_file(journal, mr_journal_ready(journal));
        break;
    case PLACE_STARVED:
        journal->is_starved = true;
        return MR_AGAIN;
    case PLACE_LATER:
        return MR_AGAIN;
    }
    struct mr_commit *open = journal->open;
    if (open->entry_count == 0) {
        begin_commit(journal);
    }
    uint64_t number = journal->files[journal->active].number;
    if (log->opened_in != number) {
        uint8_t                   name[MR_COMMIT_OPEN_MAX];
        struct mr_journal_entry   binding = {.kind = MR_JOURNAL_OPEN};
        struct mr_journal_payload body = {.prefix = name};
        body.prefix_bytes = mr_commit_open_store(name, log);
        mr_commit_add(open, log->log_id, &binding, &body, body.prefix_bytes);
        log->opened_in = number;
        journal->opened++;
        journal->stats.entries++;
    }
    uint32_t pieces = open->piece_count;
    mr_commit_add(open, log->log_id, entry, payload, bytes);
    for (; pieces < open->piece_count; pieces++) {
        journal->params.ops->keep(journal->params.context, open->pieces[pieces].owner);
    }
    journal->stats.entries++;
    open->is_early = open->is_early || (entry->flags & MR_JOURNAL_EARLY) != 0;
    touch(journal, log);
    if (seq_out != NULL) {
        *seq_out = open->seq;
    }
    return MR_OK;
}

/* ---- Commits ---- */

uint64_t mr_journal_added_seq(const struct mr_journal *journal)
{
    return journal->open->entry_count > 0 ? journal->open->seq : journal->open->seq - 1;
}

static void submit_commit(struct mr_journal *journal, enum mr_disk_kind kind, uint32_t flags, uint32_t len)
{
    journal->commit_op = (struct mr_disk_op){.kind = kind,
                                             .flags = flags,
                                             .file = journal->flying_handle,
                                             .buffer = journal->flying->buffer,
                                             .pos = journal->flying->pos,
                                             .len = len,
                                             .user = journal};
    if (kind == MR_DISK_WRITE && journal->flying->piece_count > 0) {
        journal->commit_op.pieces = journal->commit_writes;
        journal->commit_op.piece_count = mr_commit_writes(journal->flying, journal->commit_writes);
    }
    mr_disk_submit(journal->params.disk, &journal->commit_op);
}

static void seal(struct mr_journal *journal)
{
    struct mr_journal_file *active = &journal->files[journal->active];
    struct mr_commit       *commit = journal->open;
    commit->is_early = commit->is_early || mr_bug("flush-apart");
    struct mr_commit_key    key = {.directory_id = journal->directory_id,
                                   .ring = journal->params.ring,
                                   .generation = active->generation};
    struct mr_commit_head   head = {.flushed_seq = journal->durable_seq,
                                    .prev_crc = journal->last_crc,
                                    .incarnation = journal->incarnation,
                                    .flags = commit->seq == 1 ? MR_COMMIT_FIRST : 0};
    /* J4, J7: one in flight, in order, into space that holds nothing that counts. */
    mr_assert(journal->step == MR_COMMIT_IDLE && journal->durable_seq + 1 == commit->seq);
    mr_assert(commit->pos == active->used && active->state == MR_JOURNAL_FILE_ACTIVE);
    uint32_t padded = mr_commit_padded(commit->used);
    journal->last_crc = mr_commit_seal(commit, &key, &head);
    active->used += padded;
    mr_assert(active->used <= journal->file_bytes);
    journal->stats.commits++;
    journal->stats.commit_bytes += padded;
    journal->is_covered = commit->entry_count == 0;
    journal->cover_at_ns = MR_NEVER;
    journal->open = journal->flying;
    journal->flying = commit;
    *journal->open = (struct mr_commit){
        .buffer = journal->open->buffer, .pieces = journal->open->pieces, .seq = commit->seq + 1};
    journal->step = MR_COMMIT_WRITING;
    /* Kept: the flush of an EARLY commit comes when the active file may be the next one already. */
    journal->flying_handle = active->handle;
    mr_trace(journal->params.trace, MR_EVENT_commit_sent, commit->seq, commit->entry_count);
    submit_commit(journal, MR_DISK_WRITE, commit->is_early ? 0 : MR_DISK_DSYNC, padded);
}

static void commit_durable(struct mr_journal *journal)
{
    journal->step = MR_COMMIT_IDLE;
    journal->written_seq = journal->flying->seq;
    journal->durable_seq = journal->flying->seq;
    mr_trace(journal->params.trace, MR_EVENT_commit_durable, journal->durable_seq, 0);
    if (!journal->is_covered) {
        journal->cover_at_ns = journal->now.mono_ns + COVER_NS;
    }
}

static void commit_done(struct mr_journal *journal)
{
    struct mr_disk_op *op = &journal->commit_op;
    if (op->err != MR_OK && !(op->done_bytes > 0 && mr_bug("believe-short-writes"))) {
        /* Space was allocated before: lack of it here is a failed write as well (ruling 16). */
        mr_journal_fail(journal, op->err, op->os_errno,
                        op->kind == MR_DISK_SYNC ? "flushing the journal" : "writing the journal");
        return;
    }
    for (uint32_t index = 0; op->kind == MR_DISK_WRITE && index < journal->flying->piece_count; index++) {
        journal->params.ops->let_go(journal->params.context, journal->flying->pieces[index].owner);
    }
    if (op->kind == MR_DISK_WRITE && journal->flying->is_early) {
        journal->written_seq = journal->flying->seq;
        journal->step = MR_COMMIT_SYNCING;
        submit_commit(journal, MR_DISK_SYNC, 0, 0);
        return;
    }
    commit_durable(journal);
}

void mr_journal_done(struct mr_journal *journal, struct mr_disk_op *op)
{
    mr_assert(op->user == journal);
    /* J7: after the first error no completion changes anything, whatever it says. */
    if (journal->is_offline) {
        return;
    }
    if (op == &journal->commit_op) {
        commit_done(journal);
    } else if (op == &journal->prepare.op) {
        mr_journal_file_done(journal);
    } else {
        mr_assert(op == &journal->recycle.op);
        mr_recycle_done(journal);
    }
}

void mr_journal_fail(struct mr_journal *journal, enum mr_err err, int32_t os_errno, const char *what)
{
    if (journal->is_offline || mr_bug("believe-writes")) {
        return;
    }
    journal->is_offline = true;
    mr_log(journal->params.log, MR_LOG_ERROR, "log directory offline dir=%s what=%s error=%s errno=%d",
           journal->params.log_dir, what, mr_err_text(err), os_errno);
    journal->params.ops->offline(journal->params.context, err, os_errno, what);
}

static bool commit_turn(struct mr_journal *journal)
{
    struct mr_commit *open = journal->open;
    if (journal->step != MR_COMMIT_IDLE || journal->is_offline) {
        return false;
    }
    if (open->entry_count > 0) {
        seal(journal);
        return true;
    }
    if (journal->is_roll_wanted) {
        uint32_t ready = mr_journal_ready(journal);
        if (journal->files[journal->active].first_seq == 0) {
            journal->is_roll_wanted = false;
        } else if (ready != MR_JOURNAL_FILES_MAX) {
            next_file(journal, ready);
            return true; /* there is a file to drain now */
        }
    }
    if (journal->now.mono_ns < journal->cover_at_ns) {
        return false;
    }
    journal->cover_at_ns = MR_NEVER;
    struct mr_journal_file *active = &journal->files[journal->active];
    if (journal->file_bytes - active->used < MR_JOURNAL_BLOCK) {
        uint32_t ready = mr_journal_ready(journal);
        if (ready == MR_JOURNAL_FILES_MAX) {
            return false; /* a full ring: the next commit will cover it */
        }
        next_file(journal, ready);
    }
    begin_commit(journal);
    seal(journal);
    return true;
}

bool mr_journal_turn(struct mr_journal *journal, struct mr_now now)
{
    if (!journal->is_opened) {
        return false;
    }
    journal->now = now;
    bool is_lazy = mr_bug("lazy-commit") && now.mono_ns / (100 * MR_NS_PER_MS) % 2 == 0;
    bool is_any = !is_lazy && commit_turn(journal);
    is_any = mr_recycle_turn(journal) || is_any;
    is_any = mr_journal_file_turn(journal) || is_any;
    return is_any;
}

uint64_t mr_journal_deadline_ns(const struct mr_journal *journal)
{
    if (!journal->is_opened || journal->is_offline) {
        return MR_NEVER;
    }
    uint64_t deadline = mr_journal_file_deadline_ns(journal);
    if (journal->recycle.not_before_ns != 0 && journal->recycle.step == MR_RECYCLE_GATHER) {
        deadline = mr_earlier(deadline, journal->recycle.not_before_ns);
    }
    if (journal->step == MR_COMMIT_IDLE) {
        deadline = mr_earlier(deadline, journal->cover_at_ns);
        if (journal->open->entry_count > 0) {
            deadline = 0;
        }
    }
    return deadline;
}

/* ---- Questions ---- */

bool mr_journal_is_offline(const struct mr_journal *journal)
{
    return journal->is_offline;
}

bool mr_journal_is_full(const struct mr_journal *journal)
{
    bool is_growth_needed = journal->is_starved || journal->stats.files < 2;
    return journal->is_state_short || (journal->is_growth_short && is_growth_needed);
}

bool mr_journal_is_starved(const struct mr_journal *journal)
{
    return journal->is_starved;
}

uint64_t mr_journal_open_seq(const struct mr_journal *journal)
{
    return journal->open->seq;
}

uint64_t mr_journal_written_seq(const struct mr_journal *journal)
{
    return journal->written_seq;
}

uint64_t mr_journal_durable_seq(const struct mr_journal *journal)
{
    return journal->durable_seq;
}

uint64_t mr_journal_start_seq(const struct mr_journal *journal)
{
    return journal->start_seq;
}

void mr_journal_stats(const struct mr_journal *journal, struct mr_journal_stats *out)
{
    *out = journal->stats;
}

/* ---- Recycling, from outside ---- */

void mr_journal_pressure(const struct mr_journal *journal, struct mr_journal_pressure *out)
{
    uint32_t oldest = mr_journal_oldest(journal);
    *out = (struct mr_journal_pressure){.is_recycling = journal->recycle.step != MR_RECYCLE_IDLE,
                                        .is_starved = journal->is_starved,
                                        .ring_bytes = journal->stats.files * journal->file_bytes};
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        const struct mr_journal_file *file = &journal->files[index];
        if (file->state == MR_JOURNAL_FILE_FULL || file->state == MR_JOURNAL_FILE_ACTIVE) {
            out->live_bytes += file->used - MR_JOURNAL_BLOCK;
        }
        if (file->state == MR_JOURNAL_FILE_READY || file->state == MR_JOURNAL_FILE_ACTIVE) {
            out->free_bytes += journal->file_bytes - file->used;
        }
    }
    if (oldest != MR_JOURNAL_FILES_MAX) {
        out->oldest_end_seq = journal->files[oldest].end_seq;
        out->oldest_bytes = journal->files[oldest].used - MR_JOURNAL_BLOCK;
    }
}

void mr_journal_drained(struct mr_journal *journal, uint64_t end_seq)
{
    uint32_t oldest = mr_journal_oldest(journal);
    mr_assert(oldest != MR_JOURNAL_FILES_MAX && journal->files[oldest].end_seq == end_seq);
    journal->is_starved = false;
    mr_recycle_start(journal, oldest);
}

void mr_journal_roll(struct mr_journal *journal)
{
    if (journal->open->entry_count > 0 || journal->files[journal->active].first_seq != 0) {
        journal->is_roll_wanted = true;
    }
}

enum mr_err mr_journal_close(struct mr_journal *journal)
{
    if (!journal->is_opened) {
        return MR_OK;
    }
    mr_assert(journal->params.disk->in_flight == 0);
    enum mr_err err = journal->is_offline ? MR_ERR_DIR_OFFLINE : MR_OK;
    mr_assert(journal->is_offline || journal->durable_seq == mr_journal_added_seq(journal));
    /*
     * The ring stays as it is: what makes its commits count for nothing is that the guard goes (J9). Emptying
     * it here would leave, after a crash before that, a guarded directory whose checkpoint is old and whose
     * chain is gone.
     */
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE};
    for (uint32_t index = 0; index < journal->params.files_max; index++) {
        close.file = journal->files[index].handle;
        if (close.file != MR_DISK_NONE) {
            (void)mr_disk_run(journal->params.disk, &close);
            journal->files[index].handle = MR_DISK_NONE;
        }
    }
    close.file = journal->state_handle;
    (void)mr_disk_run(journal->params.disk, &close);
    close.file = journal->root;
    (void)mr_disk_run(journal->params.disk, &close);
    journal->root = MR_DISK_NONE;
    journal->is_opened = false;
    return err;
}
