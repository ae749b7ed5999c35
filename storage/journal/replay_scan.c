/*
 * replay_scan: each journal file is cut into runs of valid commits and into damage that later commits prove to be
 * damage (J8); the files are put in the order of their sequences.
 */
#include "journal/replay.h"

/* ---- The window ---- */

/* The bytes [pos, pos + len) of the file, or NULL when it is shorter (or cannot be read: r->err). */
const uint8_t *mr_replay_view(struct mr_replay *r, const struct mr_replay_file *file, uint64_t pos, uint32_t len)
{
    mr_assert(len <= MR_REPLAY_WINDOW - MR_JOURNAL_BLOCK);
    if (r->window_file == file && r->window_pos <= pos && pos + len <= r->window_pos + r->window_len) {
        return r->window + (pos - r->window_pos);
    }
    if (pos + len > file->size) {
        return NULL;
    }
    if (r->is_redoing) {
        mr_replay_redo_flush(r); /* they point into the window */
    }
    uint32_t          skew = (uint32_t)(pos % MR_JOURNAL_BLOCK); /* the file is read in blocks */
    struct mr_disk_op op = {
        .kind = MR_DISK_READ, .file = file->handle, .buffer = r->window, .pos = pos - skew, .len = MR_REPLAY_WINDOW};
    if (file->size - op.pos < MR_REPLAY_WINDOW) {
        op.len = mr_commit_padded((uint32_t)(file->size - op.pos));
    }
    r->window_file = NULL;
    if (mr_replay_run(r, &op) != MR_OK) {
        (void)mr_replay_fail(r, op.err, "journal file %u cannot be read at %llu: errno %d", file->index,
                   (unsigned long long)pos, op.os_errno);
        return NULL;
    }
    r->window_file = file;
    r->window_pos = op.pos;
    r->window_len = op.done_bytes;
    return skew + len <= op.done_bytes ? r->window + skew : NULL;
}

/* ---- Scan ---- */

static struct mr_commit_key key_of(const struct mr_replay *r, const struct mr_replay_ring *ring,
                                   const struct mr_replay_file *file)
{
    return (struct mr_commit_key){.directory_id = r->directory_id,
                                  .ring = ring->number,
                                  .generation = file->generation};
}

bool mr_replay_head_at(struct mr_replay *r, const struct mr_replay_ring *ring, const struct mr_replay_file *file,
                       uint64_t pos, struct mr_commit_head *head)
{
    struct mr_commit_key key = key_of(r, ring, file);
    const uint8_t       *at = mr_replay_view(r, file, pos, MR_JOURNAL_BLOCK);
    return at != NULL && mr_commit_head_check(at, file->size - pos, &key, head);
}

/* A whole valid commit at `pos`? */
bool mr_replay_commit_at(struct mr_replay *r, const struct mr_replay_ring *ring, const struct mr_replay_file *file,
                      uint64_t pos, struct mr_commit_head *head)
{
    const uint8_t *at;
    if (!mr_replay_head_at(r, ring, file, pos, head)) {
        return false;
    }
    at = mr_replay_view(r, file, pos, mr_commit_padded(head->length));
    return at != NULL && mr_commit_body_check(at, head, mr_commit_seed(file->generation));
}

static bool add_piece(struct mr_replay *r, struct mr_replay_file *file, uint64_t pos, uint64_t end,
                      bool is_damaged)
{
    if (file->last_piece != NULL && !is_damaged && !file->last_piece->is_damaged &&
        file->last_piece->end == pos) {
        file->last_piece->end = end;
        return true;
    }
    struct mr_replay_piece *piece = mr_replay_get(r, sizeof *piece);
    if (piece == NULL) {
        return false;
    }
    *piece = (struct mr_replay_piece){.pos = pos, .end = end, .is_damaged = is_damaged, .before_seq = file->last_seq};
    if (file->last_piece != NULL) {
        file->last_piece->next = piece;
    } else {
        file->pieces = piece;
    }
    file->last_piece = piece;
    return true;
}

/* The header is damaged: the latest commit in the file says the generation. */
static void guess_generation(struct mr_replay *r, const struct mr_replay_ring *ring, struct mr_replay_file *file)
{
    uint64_t best_incarnation = 0;
    uint64_t best_seq = 0;
    for (uint64_t pos = MR_JOURNAL_BLOCK; pos + MR_JOURNAL_BLOCK <= file->size; pos += MR_JOURNAL_BLOCK) {
        const uint8_t *at = mr_replay_view(r, file, pos, MR_COMMIT_HEAD);
        if (at == NULL) {
            return;
        }
        struct mr_replay_file     guess = {.generation = mr_load_le64(at + 32)};
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

void mr_replay_scan_file(struct mr_replay *r, struct mr_replay_ring *ring, struct mr_replay_file *file)
{
    const uint8_t *first = mr_replay_view(r, file, 0, MR_JOURNAL_BLOCK);
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
        while (at < file->size && !(mr_replay_commit_at(r, ring, file, at, &head) && head.seq > file->last_seq)) {
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
static void damage_tail(struct mr_replay *r, struct mr_replay_file *file)
{
    uint64_t end = file->last_piece != NULL ? file->last_piece->end : MR_JOURNAL_BLOCK;
    if (end < file->size) {
        (void)add_piece(r, file, end, file->size, true);
    }
}

static bool is_whole(const struct mr_replay_ring *ring, uint32_t index)
{
    for (uint32_t at = 0; at < ring->file_count; at++) {
        const struct mr_replay_file *file = &ring->files[at];
        if (file->index == index) {
            return file->generation != 0 && file->size >= ring->slot.file_bytes;
        }
    }
    return false;
}

/* Files that the slot says are in use, and of which nobody can say what they held: gone, cut, or without a header and
 * any commit that would tell the generation. */
static uint32_t lost_files(const struct mr_replay_ring *ring, uint64_t incarnation)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < MR_JOURNAL_FILES_MAX; index++) {
        bool is_listed = ring->has_slot && ring->slot.incarnation == incarnation && (ring->slot.files >> index & 1) != 0;
        count += is_listed && !is_whole(ring, index);
    }
    return count;
}

/* Put the files with living commits in order, and find what is missing between them. */
void mr_replay_scan_order(struct mr_replay *r, struct mr_replay_ring *ring)
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
        const struct mr_replay_file *file = &ring->files[index];
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
    uint32_t lost = lost_files(ring, incarnation);
    if (ring->order_count == 0) {
        if (want >= start && want > 0) {
            (void)mr_replay_fail(r, MR_ERR_CORRUPT,
                       "journal ring %u has lost its commits %llu to %llu: its files hold no chain",
                       ring->number, (unsigned long long)start, (unsigned long long)want);
        } else if (lost > 0) {
            (void)mr_replay_fail(r, MR_ERR_CORRUPT,
                       "journal ring %u has lost %u of its files, perhaps with commits: the others hold none",
                       ring->number, lost);
        }
        return;
    }
    ring->start_seq = start;
    for (uint32_t at = 0; at < ring->order_count; at++) {
        struct mr_replay_file       *file = &ring->files[ring->order[at]];
        const struct mr_replay_file *before = at > 0 ? &ring->files[ring->order[at - 1]] : NULL;
        bool                     is_gap = before != NULL
                                              ? file->first_seq != before->last_seq + 1 ||
                                    file->first_prev_crc != before->last_crc
                                              : ring->has_both_slots && file->first_seq > start;
        if (is_gap) {
            ring->has_unknown_loss = true;
            lost -= lost > 0;
            ring->unknown_at = (struct mr_replay_place){.seq = file->first_seq};
            if (before != NULL) {
                damage_tail(r, &ring->files[ring->order[at - 1]]);
            }
        }
    }
    struct mr_replay_file *last = &ring->files[ring->order[ring->order_count - 1]];
    if (last->last_seq < want || lost > 0) { /* more files than gaps: the chain went on in one */
        ring->has_unknown_loss = true;
        ring->unknown_at = (struct mr_replay_place){.seq = last->last_seq + 1};
        damage_tail(r, last);
    }
}
