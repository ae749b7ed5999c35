/*
 * replay: the inside of the journal's recovery, shared by its files and by nobody else.
 *
 *   journal_replay.c  the main line: which rings there are, and the order of the passes
 *   replay_scan.c     a file's runs of valid commits and its damage; files in order
 *   replay_state.c    states found: base, then rings; and the new base
 *   replay_fold.c     the first walk over the entries: what counts of them
 *   replay_redo.c     the second: what survives, log by log
 *
 * One struct mr_replay per recovery, in the caller's frame; everything else in params->scratch.
 */
#ifndef MILLRACE_JOURNAL_REPLAY_H
#define MILLRACE_JOURNAL_REPLAY_H

#include "journal_private.h"

#include "journal/guard.h"
#include "millrace/base/fmt.h"
#include "millrace/base/map.h"

#define MR_REPLAY_WINDOW      (16u << 20)
#define MR_REPLAY_INDEX_MAX   (MR_REPLAY_WINDOW / MR_COMMIT_ENTRY)
#define MR_REPLAY_LIST_BYTES  (4u << 20)
#define MR_REPLAY_NO_ITEM     UINT32_MAX

struct mr_replay_place { /* of an entry, in the order of its ring */
    uint64_t seq;
    uint32_t index;
};

struct mr_replay_cut {
    struct mr_replay_cut  *next;
    struct mr_replay_place at;
    int64_t                segment_base;
    uint32_t               pos;
};

struct mr_replay_sealed {
    struct mr_replay_sealed *next;
    int64_t                  segment_base;
    int64_t                  next_base;
};

struct mr_replay_log { /* one log */
    struct mr_replay_log      *next;
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

    uint32_t                opened_in; /* the file of the last OPEN that is left: 1 + its place in the chain */
    struct mr_replay_place  opened;
    uint32_t                begun_in; /* the file of the last other entry, likewise */
    bool                    has_first;
    struct mr_journal_first first_change;

    struct mr_replay_place   reset;
    bool                     has_reset;
    struct mr_replay_cut    *cuts;
    struct mr_replay_sealed *seals;
    int64_t                  log_start;
    int64_t                  next_offset; /* what the next APPEND must begin with; -1: unknown */
    bool                     is_in_parts;
    struct mr_replay_place   parts_from;

    bool                   is_lost;
    struct mr_replay_place lost_at; /* entries from here on are not redone */
    int64_t                lost_from;
    int64_t                lost_to;
    struct mr_replay_place last; /* the last entry seen */

    uint32_t first_item; /* of the window */
    uint32_t last_item;
};

struct mr_replay_piece { /* of a file */
    struct mr_replay_piece *next;
    uint64_t                pos;
    uint64_t                end;
    bool                    is_damaged;
    bool                    is_told;    /* damaged: every entry of it has a sound head, which tells what is gone */
    uint64_t                before_seq; /* damaged: the last sequence before it */
};

struct mr_replay_file {
    int32_t                 handle;
    uint32_t                index;
    uint64_t                size;
    uint64_t                generation;
    uint64_t                incarnation;
    uint64_t                first_seq; /* 0: no commit */
    uint64_t                last_seq;
    uint32_t                first_prev_crc;
    uint32_t                last_crc;
    struct mr_replay_piece *pieces;
    struct mr_replay_piece *last_piece;
};

struct mr_replay_ring {
    uint32_t               number;
    bool                   is_there;
    struct mr_replay_file  files[MR_JOURNAL_FILES_MAX];
    uint32_t               file_count;
    uint32_t               order[MR_JOURNAL_FILES_MAX]; /* the chain, oldest first */
    uint32_t               order_count;
    struct mr_state_slot   slot;
    bool                   has_slot;
    bool                   has_both_slots;
    uint64_t               start_seq;
    bool                   has_unknown_loss; /* damage that no head explains: any log may have lost its end */
    bool                   has_unknown_logs; /* among what is gone are OPENs: so may be logs without any other entry */
    struct mr_replay_place unknown_at;
};

struct mr_replay_item { /* an entry in the window */
    struct mr_commit_entry entry;
    struct mr_replay_place at;
    uint32_t               next;
    bool                   is_gone;
};

struct mr_replay_walk {
    uint32_t                      order;
    const struct mr_replay_piece *piece;
    bool                          is_begun;
    uint64_t                      pos;        /* in the file: of the next commit or entry */
    uint64_t                      commit_end; /* of the entries of the current commit; 0: between commits */
    uint64_t                      next_commit;
    struct mr_replay_place        at;
    uint32_t                      opened; /* OPENs so far, as far as that is known */
    bool                          knows_opened;
};

struct mr_replay {
    const struct mr_journal_recover_params *params;
    struct mr_journal_recover_result       *result;
    struct mr_uuid                          directory_id;
    int32_t                                 root;
    uint64_t                                base_incarnation;
    uint64_t                                max_incarnation;
    bool                                    is_state_lost;
    struct mr_replay_ring                  *rings;

    struct mr_map          logs;
    struct mr_replay_log  *first;
    struct mr_replay_log **last;
    uint32_t               known_count;
    uint32_t               known_max;

    uint8_t                     *window;
    const struct mr_replay_file *window_file;
    uint64_t                     window_pos;
    uint32_t                     window_len;
    struct mr_replay_item       *items; /* redo only */
    uint32_t                     item_count;
    bool                         is_redoing;
    const struct mr_replay_ring *redo_ring;
    enum mr_err                  err; /* the first; ends everything */
};

static inline bool mr_replay_is_before(struct mr_replay_place a, struct mr_replay_place b)
{
    return a.seq < b.seq || (a.seq == b.seq && a.index < b.index);
}

static inline bool mr_replay_is_alive(const struct mr_replay_log *log)
{
    return log->has_name && !log->is_dropped && !log->is_superseded;
}

/* walk.at counts from 1 behind the entry: its own place. */
static inline struct mr_replay_place mr_replay_entry_place(const struct mr_replay_walk *walk)
{
    return (struct mr_replay_place){.seq = walk->at.seq, .index = walk->at.index - 1};
}

/* ---- journal_replay.c ---- */
/* The first error ends the recovery: says why in the result. Returns it. */
enum mr_err mr_replay_fail(struct mr_replay *r, enum mr_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Zeroed memory of the recovery, or NULL and r->err. */
void       *mr_replay_get(struct mr_replay *r, size_t bytes);
enum mr_err mr_replay_run(struct mr_replay *r, struct mr_disk_op *op);
void        mr_replay_close(struct mr_replay *r, int32_t *handle);

/* ---- replay_scan.c ---- */
/* The bytes [pos, pos + len) of the file, or NULL when it is shorter (or cannot be read: r->err). */
const uint8_t *mr_replay_view(struct mr_replay *r, const struct mr_replay_file *file, uint64_t pos, uint32_t len);
/* A whole valid commit at `pos`? */
/* A sound commit head at `pos`, whatever its entries are like. */
bool mr_replay_head_at(struct mr_replay *r, const struct mr_replay_ring *ring, const struct mr_replay_file *file,
                       uint64_t pos, struct mr_commit_head *head);
bool mr_replay_commit_at(struct mr_replay *r, const struct mr_replay_ring *ring, const struct mr_replay_file *file,
                         uint64_t pos, struct mr_commit_head *head);
void mr_replay_scan_file(struct mr_replay *r, struct mr_replay_ring *ring, struct mr_replay_file *file);
void mr_replay_scan_order(struct mr_replay *r, struct mr_replay_ring *ring);

/* ---- replay_state.c ---- */
/* What is known of a log, from now on at least its id. */
struct mr_replay_log *mr_replay_state_log(struct mr_replay *r, uint64_t log_id);
/* is_counting: its records too, not only its incarnation. */
void mr_replay_state_load_base(struct mr_replay *r, bool is_counting);
void mr_replay_state_load_ring(struct mr_replay *r, struct mr_replay_ring *ring, bool is_counting);
void mr_replay_state_store_base(struct mr_replay *r);
void mr_replay_state_remove(struct mr_replay *r);

/* ---- replay_fold.c ---- */
/* The next entry of the ring's chain whose head is sound; false at the end. */
bool mr_replay_fold_next(struct mr_replay *r, struct mr_replay_ring *ring, struct mr_replay_walk *walk,
                         struct mr_commit_entry *entry, bool *is_damaged);
void mr_replay_fold_ring(struct mr_replay *r, struct mr_replay_ring *ring);
/* When a ring has lost logs without a name: every log of the directory that nothing names is one of them. */
void mr_replay_fold_unknown(struct mr_replay *r);
/* Of several logs with one directory the last born has it. */
void mr_replay_fold_names(struct mr_replay *r);

/* ---- replay_redo.c ---- */
void mr_replay_redo_open(struct mr_replay *r);
void mr_replay_redo_ring(struct mr_replay *r, struct mr_replay_ring *ring);
/* Hand over what the window holds, log by log. */
void mr_replay_redo_flush(struct mr_replay *r);

#endif
