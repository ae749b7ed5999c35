/*
 * cleaner: compaction of the logs of one storage core, one log at a time. For files under log/ only.
 *
 *   look    every log.cleaner.backoff.ms: of the logs with cleanup.policy compact the dirtiest (clean_pick)
 *   map     its dirty part is read: of each key the newest offset (clean_keys, clean_map)
 *   copy    its segments from the first on, in groups that fit one segment, are read again (clean_copy); what stays of their
 *           batches (clean_batch, clean_txn) goes to <base>.log.cleaned with new indexes (clean_out)
 *   swap    the group's files give way to it (clean_swap)
 *
 * All of it in slices of a turn; one disk operation at a time. Only segments that the journal has left are looked at
 * (J6), so that recovery wants nothing of them. What is under way is nowhere but in here and in *.cleaned files: a crash
 * forgets it, until the swap, which has its own record.
 */
#ifndef MILLRACE_STORAGE_CLEANER_H
#define MILLRACE_STORAGE_CLEANER_H

#include "storage_core.h"

#include "log/clean_batch.h"
#include "log/clean_map.h"
#include "log/clean_txn.h"

#define MR_CLEAN_SLICE_BYTES (128u << 10) /* of plain batches in one turn, about 100 us; compressed ones count for more */

enum mr_clean_phase {
    MR_CLEAN_REST,
    MR_CLEAN_LOOK,
    MR_CLEAN_CLEAR, /* the map */
    MR_CLEAN_MAP,
    MR_CLEAN_GROUP, /* which segments come next */
    MR_CLEAN_OPEN,  /* the files of the new segment */
    MR_CLEAN_COPY,
    MR_CLEAN_FINISH,
    MR_CLEAN_SWAP,
    MR_CLEAN_UNDO, /* what was begun is removed */
};

enum mr_clean_progress {
    MR_CLEAN_ON,   /* go on at once, while the slice lasts */
    MR_CLEAN_IO,   /* io.op is prepared: go on when it is done */
    MR_CLEAN_WAIT, /* go on in a later turn */
};

enum mr_clean_kind { /* files of a segment, in the order in which they take their places */
    MR_CLEAN_INDEX,
    MR_CLEAN_TIME,
    MR_CLEAN_TXN,
    MR_CLEAN_LOG,
    MR_CLEAN_KINDS,
};

enum mr_clean_source {
    MR_CLEAN_CLOSED,
    MR_CLEAN_OPENING,
    MR_CLEAN_READY,
    MR_CLEAN_READING,
    MR_CLEAN_OVER, /* nothing more is wanted of this segment */
};

struct mr_clean_stream {
    int32_t  file;
    uint8_t *bytes; /* not in the file yet */
    uint32_t used;
    uint32_t size;
    uint64_t pos;
};

struct mr_cleaner {
    struct mr_io        io;
    bool                is_io; /* under way */
    enum mr_clean_phase phase;
    uint32_t            at; /* within the phase */
    uint64_t            rest_until_ns;
    uint64_t            budget; /* left of this turn's slice */
    uint64_t            taken;  /* bytes of batches in this turn */
    uint64_t            paced_until_ns;
    bool                is_stopping;
    struct mr_list     *look_next; /* of core->partitions; NULL: a pass begins */
    uint64_t            best_log_id; /* 0: none so far */
    double              best_ratio;

    /* The round. */
    struct mr_partition *p; /* held by its task_count */
    int64_t              first_dirty;
    int64_t              upper; /* end of the last segment that may be cleaned */
    int64_t              end;   /* what the map covers ends here */
    int64_t              now_ms;
    bool                 is_bad; /* UNDO: the log is left alone until the next start */
    uint64_t             bytes_before, bytes_after;
    struct mr_clean_map  map;
    struct mr_clean_txns txns;
    struct mr_arena      scratch; /* decompressed records */

    /* What is read. */
    struct mr_segment   *source; /* held by its users; NULL: none */
    int32_t              source_file;
    enum mr_clean_source source_at;
    int64_t              source_end; /* segments with this base and above are not read */
    uint64_t           pos;  /* of the next batch */
    int64_t            next_offset; /* that batch begins there or behind it */
    uint64_t           from; /* the buffer holds these bytes of the file */
    uint32_t           have;
    uint8_t           *in;
    uint32_t           in_bytes;
    bool               is_known; /* `known` is of the batch at pos */
    struct mr_clean_batch known;

    /* What is written. */
    int64_t                group_base;
    int64_t                group_end; /* the base of what follows the group */
    struct mr_segment     *anew;      /* in no list yet */
    bool                   is_flushing; /* a stream is being written: how did it go? */
    struct mr_clean_stream streams[MR_CLEAN_KINDS];
    char                   name[MR_FILE_NAME_BYTES];
    char                   new_name[MR_FILE_NAME_BYTES];

    /* The swap. */
    bool               is_gated; /* readers of the group wait */
    int32_t            intent_file;
    uint8_t           *intent; /* a block */
    struct mr_segment *swap_segment;
    uint32_t           swap_kind;
    int32_t            dir;
};

size_t             mr_cleaner_bytes(const struct mr_storage_plan *plan);
struct mr_cleaner *mr_cleaner_init(struct mr_storage_core *core, struct mr_arena *arena);

/* ---- clean_pick.c: phase LOOK ---- */
enum mr_clean_progress mr_clean_look(struct mr_storage_core *core, struct mr_cleaner *c);

/* ---- clean_source.c ---- */
struct mr_clean_pass {
    /* One batch: `bytes` are whole, with a right CRC. mr_clean_source_took when it is done with; until then it comes again. */
    enum mr_clean_progress (*take)(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_batch *batch,
                                   const uint8_t *bytes);
    /* There are no more; nothing is open. */
    enum mr_clean_progress (*over)(struct mr_cleaner *c);
};
/* Segments from this one on, up to the one whose base is `end`. False: it is below the log's start by now, its file may be
 * going. */
bool mr_clean_source_begin(struct mr_cleaner *c, struct mr_segment *segment, int64_t end);
enum mr_clean_progress mr_clean_source_step(struct mr_storage_core *core, struct mr_cleaner *c,
                                            const struct mr_clean_pass *pass);
void mr_clean_source_took(struct mr_cleaner *c, const struct mr_batch *batch);
/* What is read cannot be gone on with: the log is left alone until the next start. */
enum mr_clean_progress mr_clean_source_bad(struct mr_storage_core *core, struct mr_cleaner *c, const char *what);
/* False: its file is being closed first. */
bool mr_clean_source_close(struct mr_cleaner *c);

/* ---- clean_keys.c: phases CLEAR and MAP ---- */
enum mr_clean_progress mr_clean_clear(struct mr_cleaner *c);
enum mr_clean_progress mr_clean_keys(struct mr_storage_core *core, struct mr_cleaner *c);

/* ---- clean_copy.c: phases GROUP and COPY ---- */
enum mr_clean_progress mr_clean_group(struct mr_storage_core *core, struct mr_cleaner *c);
enum mr_clean_progress mr_clean_copy(struct mr_storage_core *core, struct mr_cleaner *c);

/* ---- clean_out.c: phases OPEN and FINISH, and the entries in between ---- */
extern const char *const mr_clean_suffixes[MR_CLEAN_KINDS];
enum mr_clean_progress   mr_clean_out_open(struct mr_storage_core *core, struct mr_cleaner *c);
enum mr_clean_progress   mr_clean_out_finish(struct mr_storage_core *core, struct mr_cleaner *c);
/* Closes and removes what there is of it. */
enum mr_clean_progress mr_clean_out_undo(struct mr_storage_core *core, struct mr_cleaner *c);
/* Whether every stream has room for one more batch of `bytes` in the log and its entries; else it is being written. */
bool mr_clean_out_has_room(struct mr_cleaner *c, uint32_t bytes);
/* `len` bytes at the end of the log's stream are a batch. */
void mr_clean_out_add(struct mr_cleaner *c, const uint8_t *bytes, uint32_t len);
enum mr_err mr_clean_out_aborted(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_aborted *aborted);

/* ---- clean_swap.c: phase SWAP ---- */
enum mr_clean_progress mr_clean_swap(struct mr_storage_core *core, struct mr_cleaner *c);

/* ---- cleaner.c, for the others ---- */
/* The operation could not be done: what does that mean for the round. */
enum mr_clean_progress mr_cleaner_failed(struct mr_storage_core *core, struct mr_cleaner *c, const char *what);
enum mr_clean_progress mr_cleaner_phase(struct mr_cleaner *c, enum mr_clean_phase phase);
enum mr_clean_progress mr_cleaner_undo(struct mr_cleaner *c, bool is_bad);
enum mr_clean_progress mr_cleaner_rest(struct mr_storage_core *core, struct mr_cleaner *c, int64_t ms);

#endif
