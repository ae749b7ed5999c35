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
#include "journal_private.h"

#include "journal/guard.h"
#include "millrace/base/fmt.h"
#include "millrace/base/map.h"

#define WINDOW      (16u << 20)
#define INDEX_MAX   (WINDOW / MR_COMMIT_ENTRY)
#define LIST_BYTES  (4u << 20)
#define NO_ITEM     UINT32_MAX

struct place { /* of an entry, in the order of its ring */
    uint64_t seq;
    uint32_t index;
};

struct cut {
    struct cut  *next;
    struct place at;
    int64_t      segment_base;
    uint32_t     pos;
};

struct sealed {
    struct sealed *next;
    int64_t        segment_base;
    int64_t        next_base;
};

struct known { /* one log */
    struct known              *next;
    struct mr_journal_log_name name;
    bool                       has_name;
    bool                       is_dropped;
    bool                       is_superseded; /* another log has the directory now */
    bool                       has_state;
    struct mr_state_record     state;
    bool                       is_state_of_ring;
    uint32_t                   ring; /* that had entries */
    uint64_t                   born;   /* the later, the more this log is the directory's owner */
    void                      *user;

    bool                    has_first;
    struct mr_journal_first first_change;

    struct place   reset;
    bool           has_reset;
    struct cut    *cuts;
    struct sealed *seals;
    int64_t        log_start;
    int64_t        next_offset; /* what the next APPEND must begin with; -1: unknown */
    bool           is_in_parts;
    struct place   parts_from;

    bool         is_lost;
    struct place lost_at; /* entries from here on are not redone */
    int64_t      lost_from;
    int64_t      lost_to;
    struct place last; /* the last entry seen */

    uint32_t first_item; /* of the window */
    uint32_t last_item;
};

struct piece { /* of a file */
    struct piece *next;
    uint64_t      pos;
    uint64_t      end;
    bool          is_damaged;
    uint64_t      before_seq; /* damaged: the last sequence before it */
};

struct found_file {
    int32_t       handle;
    uint32_t      index;
    uint64_t      size;
    uint64_t      generation;
    uint64_t      incarnation;
    uint64_t      first_seq; /* 0: no commit */
    uint64_t      last_seq;
    uint32_t      first_prev_crc;
    uint32_t      last_crc;
    struct piece *pieces;
    struct piece *last_piece;
};

struct ring {
    uint32_t             number;
    bool                 is_there;
    struct found_file    files[MR_JOURNAL_FILES_MAX];
    uint32_t             file_count;
    uint32_t             order[MR_JOURNAL_FILES_MAX]; /* the chain, oldest first */
    uint32_t             order_count;
    struct mr_state_slot slot;
    bool                 has_slot;
    bool                 has_both_slots;
    bool                 has_unknown_loss; /* damage that no head explains: any log may have lost its end */
    struct place         unknown_at;
};

struct item { /* an entry in the window */
    struct mr_commit_entry entry;
    struct place           at;
    uint32_t               next;
    bool                   is_gone;
};

struct walk {
    uint32_t                 order;
    const struct piece      *piece;
    bool                     is_begun;
    uint64_t                 pos;        /* in the file: of the next commit or entry */
    uint64_t                 commit_end; /* of the entries of the current commit; 0: between commits */
    uint64_t                 next_commit;
    struct place             at;
};

struct recovery {
    const struct mr_journal_recover_params *params;
    struct mr_journal_recover_result       *result;
    struct mr_uuid                          directory_id;
    int32_t                                 root;
    uint64_t                                base_incarnation;
    uint64_t                                max_incarnation;
    bool                                    is_state_lost;
    struct ring                            *rings;

    struct mr_map  logs;
    struct known  *first;
    struct known **last;
    uint32_t       known_count;
    uint32_t       known_max;

    uint8_t                 *window;
    const struct found_file *window_file;
    uint64_t                 window_pos;
    uint32_t                 window_len;
    struct item             *items; /* redo only */
    uint32_t                 item_count;
    bool                     is_redoing;
    const struct ring       *redo_ring;
    enum mr_err              err; /* the first; ends everything */
};

static bool is_before(struct place a, struct place b)
{
    return a.seq < b.seq || (a.seq == b.seq && a.index < b.index);
}

__attribute__((format(printf, 3, 4))) static enum mr_err fail(struct recovery *r, enum mr_err err,
                                                              const char *format, ...)
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

static void *get(struct recovery *r, size_t bytes)
{
    void *memory = mr_arena_try(r->params->scratch, bytes, 16);
    if (memory == NULL) {
        (void)fail(r, MR_ERR_NO_MEMORY, "recovery needs more memory than %zu bytes", r->params->scratch->size);
        return NULL;
    }
    memset(memory, 0, bytes);
    return memory;
}

static enum mr_err run(struct recovery *r, struct mr_disk_op *op)
{
    return mr_disk_run(r->params->disk, op);
}

static void close_handle(struct recovery *r, int32_t *handle)
{
    if (*handle != MR_DISK_NONE) {
        struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = *handle};
        (void)run(r, &op);
        *handle = MR_DISK_NONE;
    }
}

/* ---- The window ---- */

static void flush_items(struct recovery *r);

/* The bytes [pos, pos + len) of the file, or NULL when it is shorter (or cannot be read: r->err). */
static const uint8_t *view(struct recovery *r, const struct found_file *file, uint64_t pos, uint32_t len)
{
    mr_assert(len <= WINDOW);
    if (r->window_file == file && r->window_pos <= pos && pos + len <= r->window_pos + r->window_len) {
        return r->window + (pos - r->window_pos);
    }
    if (pos + len > file->size) {
        return NULL;
    }
    if (r->is_redoing) {
        flush_items(r); /* they point into the window */
    }
    struct mr_disk_op op = {
        .kind = MR_DISK_READ, .file = file->handle, .buffer = r->window, .pos = pos, .len = WINDOW};
    if (file->size - pos < WINDOW) {
        op.len = (uint32_t)(file->size - pos);
    }
    r->window_file = NULL;
    if (run(r, &op) != MR_OK) {
        (void)fail(r, op.err, "journal file %u cannot be read at %llu: errno %d", file->index,
                   (unsigned long long)pos, op.os_errno);
        return NULL;
    }
    r->window_file = file;
    r->window_pos = pos;
    r->window_len = op.done_bytes;
    return len <= op.done_bytes ? r->window : NULL;
}

/* ---- Scan ---- */

static struct mr_commit_key key_of(const struct recovery *r, const struct ring *ring,
                                   const struct found_file *file)
{
    return (struct mr_commit_key){.directory_id = r->directory_id,
                                  .ring = ring->number,
                                  .generation = file->generation};
}

/* A whole valid commit at `pos`? */
static bool commit_at(struct recovery *r, const struct ring *ring, const struct found_file *file,
                      uint64_t pos, struct mr_commit_head *head)
{
    struct mr_commit_key key = key_of(r, ring, file);
    const uint8_t       *at = view(r, file, pos, MR_JOURNAL_BLOCK);
    if (at == NULL || !mr_commit_head_check(at, file->size - pos, &key, head)) {
        return false;
    }
    at = view(r, file, pos, mr_commit_padded(head->length));
    return at != NULL && mr_commit_body_check(at, head, mr_commit_seed(file->generation));
}

static bool add_piece(struct recovery *r, struct found_file *file, uint64_t pos, uint64_t end,
                      bool is_damaged)
{
    if (file->last_piece != NULL && !is_damaged && !file->last_piece->is_damaged &&
        file->last_piece->end == pos) {
        file->last_piece->end = end;
        return true;
    }
    struct piece *piece = get(r, sizeof *piece);
    if (piece == NULL) {
        return false;
    }
    *piece = (struct piece){.pos = pos, .end = end, .is_damaged = is_damaged, .before_seq = file->last_seq};
    if (file->last_piece != NULL) {
        file->last_piece->next = piece;
    } else {
        file->pieces = piece;
    }
    file->last_piece = piece;
    return true;
}

/* The header is damaged: the latest commit in the file says the generation. */
static void guess_generation(struct recovery *r, const struct ring *ring, struct found_file *file)
{
    uint64_t best_incarnation = 0;
    uint64_t best_seq = 0;
    for (uint64_t pos = MR_JOURNAL_BLOCK; pos + MR_JOURNAL_BLOCK <= file->size; pos += MR_JOURNAL_BLOCK) {
        const uint8_t *at = view(r, file, pos, MR_COMMIT_HEAD);
        if (at == NULL) {
            return;
        }
        struct found_file     guess = {.generation = mr_load_le64(at + 32)};
        struct mr_commit_key  key = key_of(r, ring, &guess);
        struct mr_commit_head head;
        if (mr_commit_head_check(at, file->size - pos, &key, &head) &&
            (head.incarnation > best_incarnation ||
             (head.incarnation == best_incarnation && head.seq > best_seq))) {
            best_incarnation = head.incarnation;
            best_seq = head.seq;
            file->generation = guess.generation;
        }
    }
}

static void scan_file(struct recovery *r, struct ring *ring, struct found_file *file)
{
    const uint8_t *first = view(r, file, 0, MR_JOURNAL_BLOCK);
    if (first == NULL) {
        return; /* shorter than a block: never prepared */
    }
    if (!mr_journal_file_head_check(first, &r->directory_id, ring->number, &file->generation)) {
        file->generation = 0;
        guess_generation(r, ring, file);
        if (file->generation == 0) {
            return;
        }
    } else if (mr_load_le64(first + 40) > r->max_incarnation) {
        r->max_incarnation = mr_load_le64(first + 40);
    }
    for (uint64_t pos = MR_JOURNAL_BLOCK; r->err == MR_OK && pos < file->size;) {
        struct mr_commit_head head;
        uint64_t              at = pos;
        /* Usually the very next block; else damage, if anything valid and later follows at all. */
        while (at < file->size && !(commit_at(r, ring, file, at, &head) && head.seq > file->last_seq)) {
            at += MR_JOURNAL_BLOCK;
        }
        if (at >= file->size) {
            return; /* J8: nothing later proves that what stands at `pos` was ever complete */
        }
        bool is_next = file->first_seq == 0 ||
                       (head.seq == file->last_seq + 1 && head.prev_crc == file->last_crc);
        if ((at > pos || !is_next) && !add_piece(r, file, pos, at, true)) {
            return;
        }
        if (!add_piece(r, file, at, at + mr_commit_padded(head.length), false)) {
            return;
        }
        if (file->first_seq == 0) {
            file->first_seq = head.seq;
            file->first_prev_crc = head.prev_crc;
        }
        file->last_seq = head.seq;
        file->last_crc = head.crc;
        file->incarnation = head.incarnation;
        if (head.incarnation > r->max_incarnation) {
            r->max_incarnation = head.incarnation;
        }
        pos = at + mr_commit_padded(head.length);
    }
}

/* Everything behind the last valid commit of the file is damage after all. */
static void damage_tail(struct recovery *r, struct found_file *file)
{
    uint64_t end = file->last_piece != NULL ? file->last_piece->end : MR_JOURNAL_BLOCK;
    if (end < file->size) {
        (void)add_piece(r, file, end, file->size, true);
    }
}

/* Put the files with living commits in order, and find what is missing between them. */
static void order_files(struct recovery *r, struct ring *ring)
{
    uint64_t start = ring->has_slot ? ring->slot.start_seq : 0;
    uint64_t incarnation = ring->has_slot ? ring->slot.incarnation : r->base_incarnation + 1;
    for (uint32_t index = 0; index < ring->file_count; index++) {
        if (ring->files[index].incarnation > incarnation) {
            incarnation = ring->files[index].incarnation;
        }
    }
    if (incarnation <= r->base_incarnation) {
        return; /* the base contains it all */
    }
    for (uint32_t index = 0; index < ring->file_count; index++) {
        const struct found_file *file = &ring->files[index];
        if (file->first_seq == 0 || file->incarnation != incarnation || file->last_seq < start) {
            continue;
        }
        uint32_t at = ring->order_count++;
        while (at > 0 && ring->files[ring->order[at - 1]].first_seq > file->first_seq) {
            ring->order[at] = ring->order[at - 1];
            at--;
        }
        ring->order[at] = index;
    }
    /* Without a slot the ring begins where the unbroken chain that reaches the highest begins. */
    for (uint32_t at = ring->order_count; !ring->has_slot && at-- > 1;) {
        if (ring->files[ring->order[at]].first_seq != ring->files[ring->order[at - 1]].last_seq + 1) {
            ring->order_count -= at;
            memmove(ring->order, ring->order + at, ring->order_count * sizeof ring->order[0]);
            break;
        }
    }
    uint64_t want = ring->has_slot && ring->slot.incarnation == incarnation ? ring->slot.durable_seq : 0;
    if (ring->order_count == 0) {
        if (want >= start && want > 0) {
            (void)fail(r, MR_ERR_CORRUPT,
                       "journal ring %u has lost its commits %llu to %llu: its files hold no chain",
                       ring->number, (unsigned long long)start, (unsigned long long)want);
        }
        return;
    }
    for (uint32_t at = 0; at < ring->order_count; at++) {
        struct found_file       *file = &ring->files[ring->order[at]];
        const struct found_file *before = at > 0 ? &ring->files[ring->order[at - 1]] : NULL;
        bool                     is_gap = before != NULL
                                              ? file->first_seq != before->last_seq + 1 ||
                                    file->first_prev_crc != before->last_crc
                                              : ring->has_both_slots && file->first_seq > start;
        if (is_gap) {
            ring->has_unknown_loss = true;
            ring->unknown_at = (struct place){.seq = file->first_seq};
            if (before != NULL) {
                damage_tail(r, &ring->files[ring->order[at - 1]]);
            }
        }
    }
    struct found_file *last = &ring->files[ring->order[ring->order_count - 1]];
    if (last->last_seq < want) {
        ring->has_unknown_loss = true;
        ring->unknown_at = (struct place){.seq = last->last_seq + 1};
        damage_tail(r, last);
    }
}

/* ---- States ---- */

static struct known *know(struct recovery *r, uint64_t log_id)
{
    struct known *log = mr_map_find(&r->logs, log_id);
    if (log != NULL) {
        return log;
    }
    log = log_id != 0 && r->known_count < r->known_max ? get(r, sizeof *log) : NULL;
    if (log == NULL) {
        (void)fail(r, MR_ERR_NO_MEMORY, "the journal and its state know more than %u logs", r->known_max);
        return NULL;
    }
    log->name.log_id = log_id;
    log->next_offset = -1;
    log->log_start = -1;
    log->first_item = NO_ITEM;
    (void)mr_map_add(&r->logs, log_id, log);
    *r->last = log;
    r->last = &log->next;
    r->known_count++;
    return log;
}

static void learn_state(struct recovery *r, const struct mr_state_record *record, bool is_of_ring)
{
    struct known *log = know(r, record->view.log_id);
    if (log == NULL) {
        return;
    }
    log->has_name = true;
    log->name.topic_id = record->view.topic_id;
    log->name.partition = record->view.partition;
    log->name.dir_name = record->view.dir_name;
    log->has_state = (record->flags & MR_STATE_NAME_ONLY) == 0;
    log->is_state_of_ring = is_of_ring;
    log->state = *record;
    if (is_of_ring && record->stamp.seq > log->born) {
        log->born = record->stamp.seq;
    }
    if ((record->flags & MR_STATE_LOST) != 0) {
        log->is_lost = true;
        log->lost_from = record->lost_from;
        log->lost_to = record->lost_to;
        log->lost_at = (struct place){0};
    }
}

/* Slots of a state file: false when it is absent; has_slot says whether one is sound. */
static bool load_slots(struct recovery *r, const char *name, uint32_t ring, int32_t *handle,
                       struct mr_state_slot *slot, uint32_t *sound)
{
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = r->root, .name = name};
    *sound = 0;
    *handle = MR_DISK_NONE;
    if (run(r, &open) != MR_OK) {
        if (open.err != MR_ERR_NOT_FOUND) {
            (void)fail(r, open.err, "%s cannot be opened: errno %d", name, open.os_errno);
        }
        return false;
    }
    *handle = open.file;
    r->window_file = NULL;
    for (uint32_t index = 0; index < 2; index++) {
        struct mr_disk_op    read = {.kind = MR_DISK_READ,
                                     .file = open.file,
                                     .buffer = r->window,
                                     .pos = index * MR_STATE_SLOT_STEP,
                                     .len = MR_JOURNAL_BLOCK};
        struct mr_state_slot one;
        if (run(r, &read) != MR_OK) {
            (void)fail(r, read.err, "%s cannot be read: errno %d", name, read.os_errno);
            return false;
        }
        if (read.done_bytes == MR_JOURNAL_BLOCK &&
            mr_journal_state_slot_load(r->window, &r->directory_id, ring, &one)) {
            if (*sound == 0 || one.number > slot->number) {
                *slot = one;
            }
            ++*sound;
            if (one.incarnation > r->max_incarnation) {
                r->max_incarnation = one.incarnation;
            }
        }
    }
    return true;
}

/* All blocks that count, and valid ones behind them (written, their slot not yet). */
static void load_blocks(struct recovery *r, int32_t handle, const struct mr_state_slot *slot, bool is_of_ring)
{
    uint64_t pos = MR_STATE_DATA;
    for (uint64_t number = 0; r->err == MR_OK; number++) {
        struct mr_disk_op read = {.kind = MR_DISK_READ,
                                  .file = handle,
                                  .buffer = r->window,
                                  .pos = pos,
                                  .len = MR_STATE_BLOCK_MAX};
        if (run(r, &read) != MR_OK) {
            (void)fail(r, read.err, "a state file cannot be read: errno %d", read.os_errno);
            return;
        }
        uint32_t bytes = mr_journal_state_block_check(r->window, read.done_bytes, &r->directory_id,
                                                      slot->incarnation, number);
        if (bytes == 0) {
            if (pos < slot->end_pos) {
                /* Damage. The segments are synced as far as the journal does not hold them: the log layer
                 * finds their ends itself. */
                r->is_state_lost = true;
                mr_log(r->params->log, MR_LOG_ERROR,
                       "journal state is damaged pos=%llu: logs are scanned instead",
                       (unsigned long long)pos);
            }
            return;
        }
        uint8_t *kept = get(r, bytes);
        if (kept == NULL) {
            return;
        }
        memcpy(kept, r->window, bytes);
        struct mr_state_record record;
        for (uint32_t at = 0; mr_journal_state_next(kept, &at, &record);) {
            learn_state(r, &record, is_of_ring);
        }
        pos += bytes;
    }
}

/* ---- Walking over entries ---- */

/* The next entry of the ring's chain that is sound; false at the end. Damaged heads are told to `damage`. */
static bool next_entry(struct recovery *r, struct ring *ring, struct walk *walk, struct mr_commit_entry *entry,
                       bool *is_damaged)
{
    for (; walk->order < ring->order_count && r->err == MR_OK; walk->order++, walk->is_begun = false) {
        struct found_file *file = &ring->files[ring->order[walk->order]];
        uint32_t           seed = mr_commit_seed(file->generation);
        if (!walk->is_begun) {
            walk->is_begun = true;
            walk->piece = file->pieces;
            walk->pos = walk->piece != NULL ? walk->piece->pos : 0;
            walk->commit_end = 0;
        }
        while (walk->piece != NULL && r->err == MR_OK) {
            const struct piece *piece = walk->piece;
            uint32_t            bytes = 0;
            if (piece->is_damaged) {
                /* Entries that are still whole, wherever they stand. */
                if (walk->at.seq <= piece->before_seq) {
                    walk->at = (struct place){.seq = piece->before_seq + 1};
                }
                while (walk->pos + MR_COMMIT_ENTRY <= piece->end) {
                    uint64_t       room = piece->end - walk->pos;
                    const uint8_t *at = view(r, file, walk->pos, MR_COMMIT_ENTRY);
                    if (at == NULL) {
                        return false;
                    }
                    bool is_sound = mr_commit_entry_check(at, MR_COMMIT_ENTRY, seed, entry, &bytes);
                    if (bytes > MR_COMMIT_ENTRY && bytes <= room) {
                        at = view(r, file, walk->pos, bytes);
                        if (at == NULL) {
                            return false;
                        }
                        is_sound = mr_commit_entry_check(at, bytes, seed, entry, &bytes);
                    }
                    walk->pos += bytes > 0 ? bytes : 8;
                    if (bytes > 0) {
                        walk->at.index++;
                        *is_damaged = !is_sound;
                        return true;
                    }
                }
            } else {
                while (walk->commit_end != 0 || walk->pos < piece->end) {
                    if (walk->commit_end == 0) {
                        struct mr_commit_head head;
                        if (!commit_at(r, ring, file, walk->pos, &head)) {
                            (void)fail(r, MR_ERR_CORRUPT, "journal file %u reads differently than before",
                                       file->index);
                            return false;
                        }
                        walk->at = (struct place){.seq = head.seq};
                        walk->commit_end = walk->pos + head.length;
                        walk->next_commit = walk->pos + mr_commit_padded(head.length);
                        walk->pos += MR_COMMIT_HEAD;
                        if (!r->is_redoing) {
                            r->result->commits++;
                        }
                    }
                    if (walk->pos == walk->commit_end) {
                        walk->pos = walk->next_commit;
                        walk->commit_end = 0;
                        continue;
                    }
                    uint32_t       room = (uint32_t)(walk->commit_end - walk->pos);
                    const uint8_t *at = view(r, file, walk->pos, room);
                    bool is_sound = at != NULL && mr_commit_entry_check(at, room, seed, entry, &bytes);
                    if (!is_sound) {
                        (void)fail(r, MR_ERR_CORRUPT, "journal file %u reads differently than before",
                                   file->index);
                        return false;
                    }
                    walk->pos += bytes;
                    walk->at.index++;
                    *is_damaged = false;
                    return true;
                }
            }
            walk->piece = piece->next;
            walk->commit_end = 0;
            walk->pos = walk->piece != NULL ? walk->piece->pos : 0;
        }
    }
    return false;
}

/* walk.at counts from 1 behind the entry: its own place. */
static struct place entry_place(const struct walk *walk)
{
    return (struct place){.seq = walk->at.seq, .index = walk->at.index - 1};
}

/* ---- Fold ---- */

static void lose(struct known *log, struct place at, int64_t from, int64_t to)
{
    if (!log->is_lost) {
        log->is_lost = true;
        log->lost_at = at;
        log->lost_from = from;
        log->lost_to = to;
    }
}

static bool is_part(const struct mr_commit_entry *entry)
{
    return entry->entry.batch_bytes != 0 &&
           (entry->entry.part_at != 0 || entry->payload_bytes < entry->entry.batch_bytes);
}

static void fold_append(struct known *log, const struct mr_commit_entry *entry, struct place at)
{
    const struct mr_journal_entry *e = &entry->entry;
    if (log->next_offset >= 0 && e->part_at == 0 && e->offset > log->next_offset) {
        lose(log, at, log->next_offset, e->offset);
    }
    if (is_part(entry)) {
        if (e->part_at == 0) {
            log->is_in_parts = true;
            log->parts_from = at;
        }
        /* Entries of one log are in order, so the last part is behind all others. */
        if (e->part_at + entry->payload_bytes == e->batch_bytes) {
            log->is_in_parts = false;
        }
    } else {
        log->is_in_parts = false;
    }
    log->next_offset = e->last_offset + 1;
}

/* The first entry that moves the log's end tells where that was before. */
static void note_first(struct known *log, const struct mr_journal_entry *e)
{
    bool is_change = e->kind == MR_JOURNAL_APPEND || e->kind == MR_JOURNAL_SEAL ||
                     e->kind == MR_JOURNAL_EPOCH_START || e->kind == MR_JOURNAL_TRUNCATE;
    if (is_change && !log->has_first) {
        log->has_first = true;
        log->first_change = (struct mr_journal_first){
            .offset = e->offset, .segment_base = e->segment_base, .pos = e->pos};
    }
}

static void fold_entry(struct recovery *r, struct ring *ring, const struct mr_commit_entry *entry,
                       struct place at, bool is_damaged)
{
    struct known *log = know(r, entry->log_id);
    if (log == NULL) {
        return;
    }
    const struct mr_journal_entry *e = &entry->entry;
    r->result->entries++;
    log->ring = ring->number;
    log->last = at;
    note_first(log, e);
    if (is_damaged) {
        /* Its head is sound: exactly these are gone. */
        lose(log, at, e->kind == MR_JOURNAL_APPEND ? e->offset : log->next_offset,
             e->kind == MR_JOURNAL_APPEND ? e->last_offset + 1 : -1);
        return;
    }
    switch (e->kind) {
    case MR_JOURNAL_OPEN: {
        struct mr_journal_log_name name = log->name;
        if (!mr_commit_open_load(entry->payload, entry->payload_bytes, &name)) {
            (void)fail(r, MR_ERR_CORRUPT, "an OPEN entry of log %llu is malformed",
                       (unsigned long long)entry->log_id);
            return;
        }
        if (!log->has_name) {
            char *text = get(r, (size_t)name.dir_name.len);
            if (text == NULL) {
                return;
            }
            memcpy(text, name.dir_name.data, (size_t)name.dir_name.len);
            name.dir_name.data = text;
            log->name = name;
            log->has_name = true;
        }
        if (at.seq > log->born) {
            log->born = at.seq;
        }
        return;
    }
    case MR_JOURNAL_APPEND:
        fold_append(log, entry, at);
        return;
    case MR_JOURNAL_TRUNCATE: {
        struct cut *cut = get(r, sizeof *cut);
        if (cut != NULL) {
            *cut = (struct cut){.next = log->cuts, .at = at, .segment_base = e->segment_base, .pos = e->pos};
            log->cuts = cut;
            log->next_offset = e->offset;
            log->is_in_parts = false;
        }
        return;
    }
    case MR_JOURNAL_RESET:
        log->has_reset = true;
        log->reset = at;
        log->cuts = NULL;
        log->seals = NULL;
        log->next_offset = e->offset;
        log->is_in_parts = false;
        return;
    case MR_JOURNAL_LOG_START:
        log->log_start = e->offset > log->log_start ? e->offset : log->log_start;
        return;
    case MR_JOURNAL_SEAL: {
        struct sealed *seal = get(r, sizeof *seal);
        if (seal != NULL) {
            *seal = (struct sealed){
                .next = log->seals, .segment_base = e->segment_base, .next_base = e->offset};
            log->seals = seal;
        }
        return;
    }
    case MR_JOURNAL_DROP:
        log->is_dropped = true;
        return;
    case MR_JOURNAL_EPOCH_START:
    case MR_JOURNAL_CARRY:
    case MR_JOURNAL_IMAGE:
    case MR_JOURNAL_STATE:
        return;
    case MR_JOURNAL_REFERENCE:
    case MR_JOURNAL_KIND_COUNT:
        (void)fail(r, MR_ERR_CORRUPT, "an entry of kind %d is not known to this version", (int)e->kind);
        return;
    }
}

static void fold_ring(struct recovery *r, struct ring *ring)
{
    struct walk            walk = {0};
    struct mr_commit_entry entry;
    bool                   is_damaged;
    for (uint32_t at = 0; at < ring->order_count; at++) {
        for (const struct piece *piece = ring->files[ring->order[at]].pieces; piece != NULL;
             piece = piece->next) {
            if (piece->is_damaged) {
                ring->has_unknown_loss = true;
                ring->unknown_at = (struct place){.seq = piece->before_seq + 1};
            }
        }
    }
    while (next_entry(r, ring, &walk, &entry, &is_damaged)) {
        fold_entry(r, ring, &entry, entry_place(&walk), is_damaged);
    }
    for (struct known *log = r->first; log != NULL; log = log->next) {
        /* Heads may be gone without a trace. A log whose later entries connect has lost nothing; of the
         * others nobody knows where they ended. */
        if (ring->has_unknown_loss && log->ring == ring->number && !log->is_lost && log->last.seq != 0 &&
            is_before(log->last, ring->unknown_at)) {
            lose(log, ring->unknown_at, log->next_offset, -1);
        }
    }
}

/* Of several logs with one directory the last born has it; the others' deletion has been forgotten. */
static void settle_names(struct recovery *r)
{
    static const struct mr_hash_key key = {.k0 = 0x6d72, .k1 = 0x6469};
    uint32_t                        slot_count = 64;
    while (slot_count < 2 * r->known_count) {
        slot_count *= 2;
    }
    struct known **slots = get(r, slot_count * sizeof *slots);
    for (struct known *log = r->first; slots != NULL && log != NULL; log = log->next) {
        if (!log->has_name || log->is_dropped) {
            continue;
        }
        uint64_t at = mr_hash_str(&key, log->name.dir_name) & (slot_count - 1);
        while (slots[at] != NULL && !mr_str_equal(slots[at]->name.dir_name, log->name.dir_name)) {
            at = (at + 1) & (slot_count - 1);
        }
        if (slots[at] == NULL) {
            slots[at] = log;
            continue;
        }
        bool is_newer = log->born >= slots[at]->born;
        (is_newer ? slots[at] : log)->is_superseded = true;
        slots[at] = is_newer ? log : slots[at];
    }
}

static bool is_alive(const struct known *log)
{
    return log->has_name && !log->is_dropped && !log->is_superseded;
}

/* ---- Redo ---- */

/* Whether the entry still means something; its bytes behind a truncation are cut off. */
static bool survives(const struct known *log, struct item *item)
{
    const struct mr_journal_entry *e = &item->entry.entry;
    if (!is_alive(log) || log->user == NULL || (log->is_lost && !is_before(item->at, log->lost_at)) ||
        (log->has_reset && is_before(item->at, log->reset)) || e->kind == MR_JOURNAL_OPEN) {
        return false;
    }
    bool is_append = e->kind == MR_JOURNAL_APPEND;
    if (!is_append && e->kind != MR_JOURNAL_CARRY && e->kind != MR_JOURNAL_IMAGE) {
        return true;
    }
    if (is_append && log->is_in_parts && !is_before(item->at, log->parts_from)) {
        return false; /* a batch without its end */
    }
    for (const struct sealed *seal = log->seals; seal != NULL; seal = seal->next) {
        if (seal->segment_base == e->segment_base && seal->next_base <= log->log_start) {
            item->is_gone = true; /* the segment may be deleted already */
            return is_append;     /* what a batch tells of its producer outlives it */
        }
    }
    for (const struct cut *cut = log->cuts; cut != NULL; cut = cut->next) {
        if (!is_before(item->at, cut->at)) {
            continue;
        }
        if (e->segment_base > cut->segment_base ||
            (e->segment_base == cut->segment_base && e->pos >= cut->pos)) {
            return false;
        }
        if (!is_append && e->segment_base == cut->segment_base &&
            e->pos + item->entry.payload_bytes > cut->pos) {
            item->entry.payload_bytes = cut->pos - e->pos;
        }
    }
    return true;
}

static bool is_in_state(const struct known *log, const struct item *item)
{
    struct place stamp = {.seq = log->state.stamp.seq, .index = log->state.stamp.index};
    return log->has_state && log->is_state_of_ring && is_before(item->at, stamp);
}

/* Hand over what the window holds, log by log. */
static void flush_items(struct recovery *r)
{
    for (struct known *log = r->first; log != NULL && r->item_count > 0; log = log->next) {
        for (uint32_t at = log->first_item; at != NO_ITEM && r->err == MR_OK; at = r->items[at].next) {
            struct item           *item = &r->items[at];
            struct mr_journal_redo redo = {.entry = item->entry.entry,
                                           .payload = item->entry.payload,
                                           .payload_bytes = item->entry.payload_bytes,
                                           .seq = item->at.seq,
                                           .is_in_state = is_in_state(log, item),
                                           .is_gone = item->is_gone};
            enum mr_err err = r->params->ops->redo(r->params->context, log->user, &redo);
            if (err != MR_OK) {
                (void)fail(r, err, "redo of %.*s failed: %s", (int)log->name.dir_name.len,
                           log->name.dir_name.data, mr_err_text(err));
            }
            r->result->redone_bytes += redo.payload_bytes;
        }
        log->first_item = NO_ITEM;
    }
    r->item_count = 0;
}

static void redo_ring(struct recovery *r, struct ring *ring)
{
    struct walk walk = {0};
    bool        is_damaged;
    struct item item = {0};
    r->is_redoing = true;
    while (next_entry(r, ring, &walk, &item.entry, &is_damaged)) {
        struct known *log = mr_map_find(&r->logs, item.entry.log_id);
        item.at = entry_place(&walk);
        item.next = NO_ITEM;
        item.is_gone = false;
        if (log == NULL || is_damaged || !survives(log, &item)) {
            continue;
        }
        if (r->item_count == INDEX_MAX) {
            flush_items(r);
        }
        uint32_t at = r->item_count++;
        r->items[at] = item;
        if (log->first_item == NO_ITEM) {
            log->first_item = at;
        } else {
            r->items[log->last_item].next = at;
        }
        log->last_item = at;
    }
    flush_items(r);
    r->is_redoing = false;
}

static void open_logs(struct recovery *r)
{
    const struct mr_journal_recover_ops *ops = r->params->ops;
    void                                *context = r->params->context;
    for (struct known *log = r->first; log != NULL && r->err == MR_OK; log = log->next) {
        enum mr_err err = MR_OK;
        if (!log->has_name && log->last.seq != 0 && !log->is_dropped) {
            /* Its OPEN was damaged: nobody can say whose entries these are. */
            mr_log(r->params->log, MR_LOG_ERROR, "entries of an unknown log are lost log_id=%llu",
                   (unsigned long long)log->name.log_id);
            r->result->lost_logs++;
            continue;
        }
        if (log->is_dropped && log->has_name) {
            err = ops->drop(context, &log->name);
        } else if (is_alive(log)) {
            bool is_usable = log->has_state && !r->is_state_lost;
            err = ops->open(context, &log->name, is_usable ? &log->state.view : NULL,
                            log->has_first ? &log->first_change : NULL, &log->user);
            r->result->logs++;
        }
        if (err != MR_OK) {
            (void)fail(r, err, "%.*s cannot be opened for recovery: %s", (int)log->name.dir_name.len,
                       log->name.dir_name.data, mr_err_text(err));
        }
        if (r->err == MR_OK && is_alive(log) && log->is_lost && log->user != NULL) {
            mr_log(r->params->log, MR_LOG_ERROR,
                   "journal damage: log stays offline dir=%.*s from=%lld to=%lld",
                   (int)log->name.dir_name.len, log->name.dir_name.data, (long long)log->lost_from,
                   (long long)log->lost_to);
            ops->lost(context, log->user, log->lost_from, log->lost_to);
            r->result->lost_logs++;
        }
    }
}

/* ---- The new base ---- */

struct base {
    int32_t                     handle;
    uint64_t                    pos;
    uint64_t                    number;
    struct mr_journal_state_out out;
};

static enum mr_err base_flush(struct recovery *r, struct base *base)
{
    if (base->out.count == 0) {
        return r->err;
    }
    uint8_t          *block = base->out.block;
    struct mr_disk_op write = {
        .kind = MR_DISK_WRITE, .file = base->handle, .buffer = block, .pos = base->pos};
    write.len = mr_journal_state_end_block(&base->out, &r->directory_id, r->max_incarnation + 1,
                                           base->number);
    if (run(r, &write) != MR_OK) {
        return fail(r, write.err, "the base state cannot be written: errno %d", write.os_errno);
    }
    base->pos += write.len;
    base->number++;
    mr_journal_state_begin_block(&base->out, block);
    return MR_OK;
}

/* The state of a log that went offline, as it was. */
static void keep_state(struct mr_journal_state_out *out, const struct known *log)
{
    const struct mr_journal_state_view *view_ = &log->state.view;
    mr_journal_state_put(out, &view_->state);
    for (uint32_t index = 0; index < view_->state.epoch_count; index++) {
        struct mr_journal_epoch epoch;
        mr_journal_state_get_epoch(view_, index, &epoch);
        mr_journal_state_put_epoch(out, &epoch);
    }
    for (uint32_t index = 0, cursor = 0; index < view_->state.producer_count; index++) {
        struct mr_journal_producer producer;
        mr_journal_state_get_producer(view_, &cursor, &producer);
        mr_journal_state_put_producer(out, &producer);
    }
}

static bool base_record(struct recovery *r, struct base *base, struct known *log)
{
    mr_journal_state_begin(&base->out, &log->name, (struct mr_state_stamp){0});
    bool is_there = r->params->ops->store(r->params->context, log->user, &base->out);
    if (!is_there && !log->is_lost) {
        base->out.used = base->out.record;
        base->out.is_over = false;
        return true;
    }
    if (!is_there && log->has_state) {
        keep_state(&base->out, log);
    }
    if (log->is_lost) {
        /* The mark stays as long as the guard does, so that the next start does not overlook the hole. */
        uint32_t name_only = is_there || log->has_state ? 0 : MR_STATE_NAME_ONLY;
        mr_journal_state_set_lost(&base->out, MR_STATE_LOST | name_only, log->lost_from, log->lost_to);
    }
    return mr_journal_state_end(&base->out);
}

static void write_base(struct recovery *r)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                              .dir = r->root,
                              .name = MR_STATE_BASE_NEW};
    struct base       base = {.pos = MR_STATE_DATA};
    if (run(r, &open) != MR_OK) {
        (void)fail(r, open.err, "the base state cannot be created: errno %d", open.os_errno);
        return;
    }
    base.handle = open.file;
    r->window_file = NULL;
    mr_journal_state_begin_block(&base.out, r->window);
    for (struct known *log = r->first; log != NULL && r->err == MR_OK; log = log->next) {
        if (!is_alive(log) || log->user == NULL || base_record(r, &base, log)) {
            continue;
        }
        if (base.out.count == 0 || base_flush(r, &base) != MR_OK || !base_record(r, &base, log)) {
            (void)fail(r, MR_ERR_TOO_LARGE, "the state of %.*s does not fit a block",
                       (int)log->name.dir_name.len, log->name.dir_name.data);
        }
    }
    (void)base_flush(r, &base);
    struct mr_state_slot slot = {.incarnation = r->max_incarnation + 1, .end_pos = base.pos};
    mr_journal_state_slot_store(r->window, &r->directory_id, MR_JOURNAL_RINGS, &slot);
    struct mr_disk_op steps[] = {
        {.kind = MR_DISK_WRITE, .file = base.handle, .buffer = r->window, .len = MR_JOURNAL_BLOCK},
        {.kind = MR_DISK_SYNC, .file = base.handle},
        {.kind = MR_DISK_RENAME, .dir = r->root, .name = MR_STATE_BASE_NEW, .new_name = MR_STATE_BASE},
        {.kind = MR_DISK_SYNC_DIR, .file = r->root},
    };
    for (uint32_t index = 0; index < sizeof steps / sizeof steps[0] && r->err == MR_OK; index++) {
        if (run(r, &steps[index]) != MR_OK) {
            (void)fail(r, steps[index].err, "the base state cannot be put in place: errno %d",
                       steps[index].os_errno);
        }
    }
    close_handle(r, &base.handle);
}

/* ---- The whole ---- */

/* "millrace-journal-<ring>-<file>"; false for any other name. */
static bool parse_name(const char *name, uint32_t *ring, uint32_t *file)
{
    static const char prefix[] = "millrace-journal-";
    if (strlen(name) < sizeof prefix || memcmp(name, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    const char *at = name + sizeof prefix - 1;
    uint32_t    numbers[2] = {0, 0};
    for (uint32_t part = 0; part < 2; part++) {
        uint32_t digits = 0;
        while (*at >= '0' && *at <= '9' && digits < 3) {
            numbers[part] = numbers[part] * 10 + (uint32_t)(*at++ - '0');
            digits++;
        }
        if (digits == 0 || *at != (part == 0 ? '-' : '\0')) {
            return false;
        }
        at++;
    }
    *ring = numbers[0];
    *file = numbers[1];
    return numbers[0] < MR_JOURNAL_RINGS && numbers[1] < MR_JOURNAL_FILES_MAX;
}

static void find_rings(struct recovery *r)
{
    uint8_t *buffer = mr_arena_try(r->params->scratch, LIST_BYTES, 16);
    if (buffer == NULL) {
        (void)fail(r, MR_ERR_NO_MEMORY, "recovery has no memory to list the directory");
        return;
    }
    struct mr_disk_op list = {
        .kind = MR_DISK_LIST, .file = r->root, .buffer = buffer, .len = LIST_BYTES};
    if (run(r, &list) != MR_OK || list.size != 0) {
        (void)fail(r, list.err != MR_OK ? list.err : MR_ERR_NO_MEMORY,
                   "the log directory cannot be listed: errno %d", list.os_errno);
        return;
    }
    for (uint32_t at = 0; at < list.done_bytes && r->err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)(buffer + at);
        uint32_t                         number;
        uint32_t                         index;
        at += entry->entry_bytes;
        if (entry->is_directory != 0 || !parse_name(entry->name, &number, &index)) {
            continue;
        }
        struct ring       *ring = &r->rings[number];
        struct found_file *file = &ring->files[ring->file_count++];
        *file = (struct found_file){.handle = MR_DISK_NONE, .index = index, .size = entry->size};
        struct mr_disk_op open = {
            .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = r->root, .name = entry->name};
        if (run(r, &open) != MR_OK) {
            (void)fail(r, open.err, "%s cannot be opened: errno %d", entry->name, open.os_errno);
        }
        file->handle = open.err == MR_OK ? open.file : MR_DISK_NONE;
        if (!ring->is_there) {
            r->result->rings++;
        }
        ring->is_there = true;
    }
}

static void load_base(struct recovery *r, bool is_counting)
{
    int32_t              handle;
    struct mr_state_slot slot = {0};
    uint32_t             sound = 0;
    if (load_slots(r, MR_STATE_BASE, MR_JOURNAL_RINGS, &handle, &slot, &sound)) {
        if (sound > 0) {
            r->base_incarnation = slot.incarnation;
            if (is_counting) {
                load_blocks(r, handle, &slot, false);
            }
        } else {
            r->is_state_lost = true;
        }
    }
    close_handle(r, &handle);
}

static void load_ring_state(struct recovery *r, struct ring *ring, bool is_counting)
{
    char     name[MR_JOURNAL_NAME];
    int32_t  handle;
    uint32_t sound = 0;
    mr_journal_state_name(name, ring->number);
    bool is_there = load_slots(r, name, ring->number, &handle, &ring->slot, &sound);
    ring->has_slot = sound > 0;
    ring->has_both_slots = sound == 2 || (sound == 1 && ring->slot.number == 0);
    if (is_there && sound == 0 && ring->is_there) {
        r->is_state_lost = true;
    }
    if (ring->has_slot && is_counting && ring->slot.incarnation > r->base_incarnation) {
        load_blocks(r, handle, &ring->slot, true);
    }
    close_handle(r, &handle);
}

static void remove_ring_states(struct recovery *r)
{
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        if (r->rings[number].is_there) {
            char name[MR_JOURNAL_NAME];
            mr_journal_state_name(name, number);
            struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = r->root, .name = name};
            (void)run(r, &op); /* of an incarnation that is over: harmless if it stays */
        }
    }
}

static enum mr_err begin(struct recovery *r, const struct mr_journal_recover_params *params,
                         struct mr_journal_recover_result *result)
{
    struct mr_guard guard;
    *r = (struct recovery){.params = params, .result = result, .root = MR_DISK_NONE};
    *result = (struct mr_journal_recover_result){0};
    r->last = &r->first;
    r->known_max = 2 * params->logs_max + 64;
    enum mr_err err = mr_guard_open(&guard, params->disk, params->log_dir, false);
    if (err != MR_OK) {
        return fail(r, err, "%s", guard.why);
    }
    r->directory_id = guard.directory_id;
    r->root = guard.root;
    size_t slot_bytes = 128;
    while (slot_bytes / 4 * 3 < r->known_max) {
        slot_bytes *= 2;
    }
    slot_bytes *= sizeof(struct mr_map_slot);
    r->rings = get(r, MR_JOURNAL_RINGS * sizeof *r->rings);
    r->window = mr_arena_try(params->scratch, WINDOW, MR_JOURNAL_BLOCK);
    r->items = mr_arena_try(params->scratch, INDEX_MAX * sizeof *r->items, 16);
    if (r->rings == NULL || r->window == NULL || r->items == NULL ||
        params->scratch->size - params->scratch->used < 2 * slot_bytes) {
        return fail(r, MR_ERR_NO_MEMORY, "recovery needs more memory than %zu bytes", params->scratch->size);
    }
    mr_map_init(&r->logs, params->scratch, r->known_max);
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        r->rings[number].number = number;
    }
    find_rings(r);
    return r->err;
}

static enum mr_err end(struct recovery *r)
{
    for (uint32_t number = 0; r->rings != NULL && number < MR_JOURNAL_RINGS; number++) {
        for (uint32_t index = 0; index < r->rings[number].file_count; index++) {
            close_handle(r, &r->rings[number].files[index].handle);
        }
    }
    close_handle(r, &r->root);
    return r->err;
}

static void sync_fs(struct recovery *r)
{
    struct mr_disk_op op = {.kind = MR_DISK_SYNC_FS, .file = r->root};
    if (r->err == MR_OK && run(r, &op) != MR_OK) {
        (void)fail(r, op.err, "syncfs failed: errno %d", op.os_errno);
    }
}

enum mr_err mr_journal_recover(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result)
{
    struct recovery r;
    if (begin(&r, params, result) == MR_OK) {
        load_base(&r, true);
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            struct ring *ring = &r.rings[number];
            if (!ring->is_there) {
                continue;
            }
            load_ring_state(&r, ring, true);
            for (uint32_t index = 0; index < ring->file_count && r.err == MR_OK; index++) {
                scan_file(&r, ring, &ring->files[index]);
            }
            order_files(&r, ring);
        }
        /* Where the states end, the chain goes on. */
        for (struct known *log = r.first; log != NULL; log = log->next) {
            if (log->has_state && !log->is_state_of_ring && !r.is_state_lost) {
                log->next_offset = log->state.view.state.end_offset;
            }
        }
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            fold_ring(&r, &r.rings[number]);
        }
        if (r.err == MR_OK) {
            settle_names(&r);
            open_logs(&r);
        }
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            redo_ring(&r, &r.rings[number]);
        }
        if (r.err == MR_OK) {
            enum mr_err err = params->ops->finish(params->context);
            if (err != MR_OK) {
                (void)fail(&r, err, "finishing the recovery failed: %s", mr_err_text(err));
            }
        }
        sync_fs(&r);
        if (r.err == MR_OK) {
            write_base(&r);
        }
        if (r.err == MR_OK) {
            remove_ring_states(&r);
        }
    }
    return end(&r);
}

enum mr_err mr_journal_discard(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result)
{
    struct recovery r;
    if (begin(&r, params, result) == MR_OK) {
        load_base(&r, false);
        for (uint32_t number = 0; number < MR_JOURNAL_RINGS && r.err == MR_OK; number++) {
            struct ring *ring = &r.rings[number];
            if (ring->is_there) {
                /* Only for the highest incarnation that anything here carries. */
                load_ring_state(&r, ring, false);
                for (uint32_t index = 0; index < ring->file_count && r.err == MR_OK; index++) {
                    scan_file(&r, ring, &ring->files[index]);
                }
            }
        }
        if (r.err == MR_OK) {
            write_base(&r);
        }
        if (r.err == MR_OK) {
            remove_ring_states(&r);
        }
    }
    return end(&r);
}

size_t mr_journal_recover_bytes(uint32_t logs_max)
{
    return WINDOW + INDEX_MAX * sizeof(struct item) + LIST_BYTES + (24u << 20) +
           (size_t)logs_max * (2 * sizeof(struct known) + 4096);
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
