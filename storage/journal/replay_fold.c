/*
 * replay_fold: one walk over all entries: names, truncations, resets, drops, seals, unfinished parts.
 */
#include "journal/replay.h"

/* ---- Walking over entries ---- */

/*
 * Each commit tells how many OPENs there were before it. When more than were seen, some are lost, and with them perhaps all
 * that named a log.
 */
static void count_opened(struct mr_replay_ring *ring, struct mr_replay_walk *walk, const struct mr_commit_head *head)
{
    bool is_first = (head->flags & MR_COMMIT_FIRST) != 0 || head->seq <= ring->start_seq;
    bool is_same = walk->knows_opened ? walk->opened == head->opened : is_first || !ring->has_unknown_loss;
    ring->has_unknown_logs |= !is_same;
    walk->opened = head->opened;
    walk->knows_opened = true;
}

/* The next entry of the ring's chain that is sound; false at the end. Damaged heads are told to `damage`. */
bool mr_replay_fold_next(struct mr_replay *r, struct mr_replay_ring *ring, struct mr_replay_walk *walk,
                         struct mr_commit_entry *entry, bool *is_damaged)
{
    for (; walk->order < ring->order_count && r->err == MR_OK; walk->order++, walk->is_begun = false) {
        struct mr_replay_file *file = &ring->files[ring->order[walk->order]];
        uint32_t           seed = mr_commit_seed(file->generation);
        if (!walk->is_begun) {
            walk->is_begun = true;
            walk->piece = file->pieces;
            walk->pos = walk->piece != NULL ? walk->piece->pos : 0;
            walk->commit_end = 0;
        }
        while (walk->piece != NULL && r->err == MR_OK) {
            const struct mr_replay_piece *piece = walk->piece;
            uint32_t            bytes = 0;
            if (piece->is_damaged) {
                /* Entries that are still whole, wherever they stand. */
                if (walk->at.seq <= piece->before_seq) {
                    walk->at = (struct mr_replay_place){.seq = piece->before_seq + 1};
                }
                while (walk->pos + MR_COMMIT_ENTRY <= piece->end) {
                    uint64_t       room = piece->end - walk->pos;
                    const uint8_t *at = mr_replay_view(r, file, walk->pos, MR_COMMIT_ENTRY);
                    if (at == NULL) {
                        return false;
                    }
                    bool is_sound = mr_commit_entry_check(at, MR_COMMIT_ENTRY, seed, entry, &bytes);
                    if (bytes > MR_COMMIT_ENTRY && bytes <= room) {
                        at = mr_replay_view(r, file, walk->pos, bytes);
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
                        if (!mr_replay_commit_at(r, ring, file, walk->pos, &head)) {
                            (void)mr_replay_fail(r, MR_ERR_CORRUPT, "journal file %u reads differently than before",
                                       file->index);
                            return false;
                        }
                        walk->at = (struct mr_replay_place){.seq = head.seq};
                        walk->commit_end = walk->pos + head.length;
                        walk->next_commit = walk->pos + mr_commit_padded(head.length);
                        walk->pos += MR_COMMIT_HEAD;
                        if (!r->is_redoing) {
                            r->result->commits++;
                            count_opened(ring, walk, &head);
                        }
                    }
                    if (walk->pos == walk->commit_end) {
                        walk->pos = walk->next_commit;
                        walk->commit_end = 0;
                        continue;
                    }
                    uint32_t       room = (uint32_t)(walk->commit_end - walk->pos);
                    const uint8_t *at = mr_replay_view(r, file, walk->pos, room);
                    bool is_sound = at != NULL && mr_commit_entry_check(at, room, seed, entry, &bytes);
                    if (!is_sound) {
                        (void)mr_replay_fail(r, MR_ERR_CORRUPT, "journal file %u reads differently than before",
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

/* ---- Fold ---- */

static void lose(struct mr_replay_log *log, struct mr_replay_place at, int64_t from, int64_t to)
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

static void fold_append(struct mr_replay_log *log, const struct mr_commit_entry *entry, struct mr_replay_place at)
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

/* Whether heads may be gone without a trace behind `from` and before `to`. */
static bool is_damaged_between(const struct mr_replay_ring *ring, struct mr_replay_place from, struct mr_replay_place to)
{
    for (uint32_t at = 0; at < ring->order_count; at++) {
        for (const struct mr_replay_piece *piece = ring->files[ring->order[at]].pieces; piece != NULL;
             piece = piece->next) {
            uint64_t seq = piece->before_seq + 1;
            if (piece->is_damaged && !piece->is_told && seq >= from.seq && seq <= to.seq) {
                return true;
            }
        }
    }
    return false;
}

/*
 * In each file a log's first entry follows its OPEN. When that is gone, or heads behind it may be, so may be the log's
 * entries: batches, or the only copy of its last block. Nothing is in front of a log's first batch.
 */
static void note_begin(const struct mr_replay_ring *ring, struct mr_replay_log *log, const struct mr_journal_entry *e,
                       struct mr_replay_place at, uint32_t file)
{
    bool is_first = e->kind == MR_JOURNAL_APPEND && e->offset == 0;
    if (log->begun_in == file) {
        return;
    }
    log->begun_in = file;
    if (ring->has_unknown_loss && !is_first && (log->opened_in != file || is_damaged_between(ring, log->opened, at))) {
        lose(log, at, log->next_offset, -1);
    }
}

/* The first entry that moves the log's end tells where that was before. */
static void note_first(struct mr_replay_log *log, const struct mr_journal_entry *e)
{
    bool is_change = e->kind == MR_JOURNAL_APPEND || e->kind == MR_JOURNAL_SEAL ||
                     e->kind == MR_JOURNAL_EPOCH_START || e->kind == MR_JOURNAL_TRUNCATE;
    if (!is_change || log->has_first) {
        return;
    }
    log->has_first = true;
    log->first_change = (struct mr_journal_first){
        .offset = e->offset, .segment_base = e->segment_base, .pos = e->pos};
    log->next_offset = log->next_offset < 0 ? e->offset : log->next_offset;
}

/* These tell where the log ended when they were written: batches of which nothing is left are noticed by that. */
static void note_end(const struct mr_replay_ring *ring, struct mr_replay_log *log, const struct mr_journal_entry *e,
                     struct mr_replay_place at)
{
    bool tells_end = e->kind == MR_JOURNAL_CARRY || e->kind == MR_JOURNAL_IMAGE || e->kind == MR_JOURNAL_SEAL ||
                     e->kind == MR_JOURNAL_EPOCH_START;
    if (tells_end && ring->has_unknown_loss && log->next_offset >= 0 && e->offset > log->next_offset) {
        lose(log, at, log->next_offset, e->offset);
    }
}

static void fold_entry(struct mr_replay *r, struct mr_replay_ring *ring, const struct mr_commit_entry *entry,
                       struct mr_replay_place at, uint32_t file, bool is_damaged)
{
    struct mr_replay_log *log = mr_replay_state_log(r, entry->log_id);
    if (log == NULL) {
        return;
    }
    const struct mr_journal_entry *e = &entry->entry;
    r->result->entries++;
    log->ring = ring->number;
    log->last = at;
    if (e->kind != MR_JOURNAL_OPEN) {
        note_begin(ring, log, e, at, file);
    }
    note_first(log, e);
    note_end(ring, log, e, at);
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
            (void)mr_replay_fail(r, MR_ERR_CORRUPT, "an OPEN entry of log %llu is malformed",
                       (unsigned long long)entry->log_id);
            return;
        }
        if (!log->has_name) {
            char *text = mr_replay_get(r, (size_t)name.dir_name.len);
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
        if (log->opened_in != file) {
            log->opened_in = file;
            log->opened = at;
        }
        return;
    }
    case MR_JOURNAL_APPEND:
        fold_append(log, entry, at);
        return;
    case MR_JOURNAL_TRUNCATE: {
        struct mr_replay_cut *cut = mr_replay_get(r, sizeof *cut);
        if (cut != NULL) {
            *cut = (struct mr_replay_cut){.next = log->cuts, .at = at, .segment_base = e->segment_base, .pos = e->pos};
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
        struct mr_replay_sealed *seal = mr_replay_get(r, sizeof *seal);
        if (seal != NULL) {
            *seal = (struct mr_replay_sealed){
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
    case MR_JOURNAL_ABORTED:
        return;
    case MR_JOURNAL_REFERENCE:
    case MR_JOURNAL_KIND_COUNT:
        (void)mr_replay_fail(r, MR_ERR_CORRUPT, "an entry of kind %d is not known to this version", (int)e->kind);
        return;
    }
}

/* One commit with a sound head, and so many sound heads of entries as that says. */
static bool is_told(struct mr_replay *r, const struct mr_replay_ring *ring, const struct mr_replay_file *file,
                    const struct mr_replay_piece *piece)
{
    struct mr_commit_head  head;
    struct mr_commit_entry entry;
    if (!mr_replay_head_at(r, ring, file, piece->pos, &head) || mr_commit_padded(head.length) != piece->end - piece->pos) {
        return false;
    }
    uint64_t pos = piece->pos + MR_COMMIT_HEAD;
    for (uint32_t count = 0; count < head.entry_count; count++) {
        const uint8_t *at = pos + MR_COMMIT_ENTRY <= piece->end ? mr_replay_view(r, file, pos, MR_COMMIT_ENTRY) : NULL;
        uint32_t       bytes = 0;
        if (at == NULL) {
            return false;
        }
        (void)mr_commit_entry_check(at, MR_COMMIT_ENTRY, mr_commit_seed(file->generation), &entry, &bytes);
        if (bytes == 0) {
            return false;
        }
        pos += bytes;
    }
    return true;
}

/* Damage that no head explains; the last such counts, since what follows earlier ones does not prove more. */
static void find_unknown(struct mr_replay *r, struct mr_replay_ring *ring)
{
    for (uint32_t at = 0; at < ring->order_count; at++) {
        const struct mr_replay_file *file = &ring->files[ring->order[at]];
        for (struct mr_replay_piece *piece = file->pieces; piece != NULL; piece = piece->next) {
            piece->is_told = piece->is_damaged && is_told(r, ring, file, piece);
            if (piece->is_damaged && !piece->is_told) {
                ring->has_unknown_loss = true;
                ring->unknown_at = (struct mr_replay_place){.seq = piece->before_seq + 1};
            }
        }
    }
}

void mr_replay_fold_ring(struct mr_replay *r, struct mr_replay_ring *ring)
{
    struct mr_replay_walk            walk = {0};
    struct mr_commit_entry entry;
    bool                   is_damaged;
    find_unknown(r, ring);
    while (mr_replay_fold_next(r, ring, &walk, &entry, &is_damaged)) {
        walk.opened += entry.entry.kind == MR_JOURNAL_OPEN;
        fold_entry(r, ring, &entry, mr_replay_entry_place(&walk), walk.order + 1, is_damaged);
    }
    ring->has_unknown_logs |= ring->has_unknown_loss && ring->unknown_at.seq >= walk.at.seq; /* no commit follows */
    for (const struct mr_replay_log *log = r->first; log != NULL; log = log->next) {
        ring->has_unknown_logs |= !log->has_name && log->last.seq != 0 && log->ring == ring->number;
    }
    for (struct mr_replay_log *log = r->first; log != NULL; log = log->next) {
        /* Heads may be gone without a trace. A log whose later entries connect has lost nothing; of the
         * others, and of those that are left of the damaged commit itself, nobody knows where they ended. */
        bool is_here = log->ring == ring->number && log->last.seq != 0 && log->last.seq <= ring->unknown_at.seq;
        bool is_perhaps_here = ring->has_unknown_logs && log->last.seq == 0;
        if (ring->has_unknown_loss && !log->is_lost && (is_here || is_perhaps_here)) {
            lose(log, ring->unknown_at, log->next_offset, -1);
        }
    }
}

/* A directory of that name may be a later topic's: the log that the journal knows was deleted before. */
static bool is_named(const struct mr_replay *r, const struct mr_journal_log_name *name)
{
    for (const struct mr_replay_log *log = r->first; log != NULL; log = log->next) {
        if (log->has_name && mr_str_equal(log->name.dir_name, name->dir_name) &&
            mr_uuid_equal(&log->name.topic_id, &name->topic_id)) {
            return true;
        }
    }
    return false;
}

static void found(void *replay, const struct mr_journal_log_name *name)
{
    struct mr_replay *r = replay;
    if (is_named(r, name)) {
        return;
    }
    struct mr_replay_log *log = mr_replay_state_log(r, name->log_id);
    char                 *text = mr_replay_get(r, (size_t)name->dir_name.len);
    if (log == NULL || text == NULL) {
        return;
    }
    memcpy(text, name->dir_name.data, (size_t)name->dir_name.len);
    log->name = *name;
    log->name.dir_name.data = text;
    log->has_name = true;
    log->born = UINT64_MAX; /* the directory says that it is its owner */
    lose(log, (struct mr_replay_place){0}, -1, -1);
}

void mr_replay_fold_unknown(struct mr_replay *r)
{
    bool has_unknown = false;
    for (uint32_t number = 0; number < MR_JOURNAL_RINGS; number++) {
        has_unknown |= r->rings[number].has_unknown_logs;
    }
    if (r->err != MR_OK || r->is_state_lost || !has_unknown) {
        return;
    }
    mr_log(r->params->log, MR_LOG_ERROR, "the journal has lost entries and what says whose they are: "
           "logs that it does not know stay offline");
    enum mr_err err = r->params->ops->each(r->params->context, found, r);
    if (err != MR_OK) {
        (void)mr_replay_fail(r, err, "the logs of the directory cannot be listed: %s", mr_err_text(err));
    }
}

/* Of several logs with one directory the last born has it; the others' deletion has been forgotten. */
void mr_replay_fold_names(struct mr_replay *r)
{
    static const struct mr_hash_key key = {.k0 = 0x6d72, .k1 = 0x6469};
    uint32_t                        slot_count = 64;
    while (slot_count < 2 * r->known_count) {
        slot_count *= 2;
    }
    struct mr_replay_log **slots = mr_replay_get(r, slot_count * sizeof *slots);
    for (struct mr_replay_log *log = r->first; slots != NULL && log != NULL; log = log->next) {
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
