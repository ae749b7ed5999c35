/*
 * journal: what makes an append durable. One ring of pre-written files per storage core and log
 * directory; every change that recovery must know is an entry in it; one write per commit.
 *
 *        millrace-journal-0-0        -0-1                       -0-2
 *      +--+---------+-------+   +--+--------+------+-----+   +--+----------------+
 *      |H | commit  | commit|   |H | commit |commit| ... |   |H |  ready         |
 *      +--+---------+-------+   +--+--------+------+-----+   +--+----------------+
 *       FULL: seq 7 .. 8         ACTIVE: seq 9 .. 11          READY: nothing live
 *
 *      open commit ----seal----> in flight ----flushed----> durable ----drained----> recycled
 *      (mr_journal_add)          (one write)               (de-multiplexed)         (new generation)
 *
 * What is added is copied into the open commit (a 4 MiB buffer), except for whole blocks of large payloads that the
 * log layer lends: those are written from where they lie, at the place that the buffer leaves free for them. When
 * the commit in flight is flushed, the open one is sealed and written with one RWF_DSYNC write. There is no timer.
 * Segments are written behind it by the de-multiplexer (demux.c), which is told how far it must
 * come before the oldest file may be reused.
 *
 * It does not know what a batch is, nor does it touch segments. Bytes on disk: docs/FORMATS.md.
 * Threads: the storage core that owns it, all of it. Memory: from the arena at init, none later.
 * Source: architecture section 4.
 */
#ifndef MILLRACE_JOURNAL_H
#define MILLRACE_JOURNAL_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/base/list.h"
#include "millrace/base/log.h"
#include "millrace/base/span.h"
#include "millrace/base/str.h"
#include "millrace/base/time.h"
#include "millrace/base/trace.h"
#include "millrace/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_JOURNAL_BLOCK         4096u
#define MR_JOURNAL_COMMIT_TARGET (1u << 20) /* an entry may begin below it ... */
#define MR_JOURNAL_COMMIT_MAX    (4u << 20) /* ... and end here at most */
#define MR_JOURNAL_LEND_MIN      (32u << 10) /* payloads below it are copied: lending costs up to a block of padding */
#define MR_JOURNAL_FILES_MAX     16u
#define MR_JOURNAL_FILE_BYTES_MIN (1u << 20)
#define MR_JOURNAL_DIR_NAME_MAX  264u /* topic (249) '-' partition (10), and some room */

/* ---- Entries ---- */

enum mr_journal_kind {
    MR_JOURNAL_OPEN = 1,    /* log id: topic id, partition, directory name; written by the journal itself */
    MR_JOURNAL_APPEND,      /* a batch, or a part of one, at (segment_base, pos) */
    MR_JOURNAL_EPOCH_START, /* epoch begins at offset */
    MR_JOURNAL_TRUNCATE,    /* the log ends at offset == (segment_base, pos); what is behind is gone */
    MR_JOURNAL_LOG_START,   /* the log starts at offset */
    MR_JOURNAL_RESET,       /* the log is emptied and starts at offset */
    MR_JOURNAL_SEAL,        /* segment_base ends at pos; the next segment's base is offset */
    MR_JOURNAL_DROP,        /* the log is deleted */
    MR_JOURNAL_CARRY,       /* raw bytes of a tail block at (segment_base, pos), journaled again */
    MR_JOURNAL_IMAGE,       /* raw bytes of a block of a segment that is about to be rewritten */
    MR_JOURNAL_STATE,       /* the log layer's own bytes for a log */
    MR_JOURNAL_REFERENCE,   /* reserved: a batch written directly into its segment */
    MR_JOURNAL_ABORTED,     /* the marker at last_offset, which follows, aborts what began at offset; its index entry */
    MR_JOURNAL_KIND_COUNT,
};

enum mr_journal_flag {
    MR_JOURNAL_RESERVED = 1, /* may use the ring's reserve (4.2.6): implied for every kind but APPEND */
    MR_JOURNAL_EARLY = 2,    /* somebody waits for written_seq: this commit is written, then flushed */
};

/*
 * An entry's head, without its payload. Which fields mean something depends on the kind; the others
 * are 0. Physical position: byte `pos` of the segment whose base offset is `segment_base`.
 *
 * A batch larger than mr_journal_payload_max() is added as several APPENDs with the same offsets:
 * part_at is where the payload begins in the batch, batch_bytes the whole; pos is the payload's own
 * position. Recovery never delivers some parts without all of them. A whole batch: part_at 0,
 * batch_bytes 0 (or the payload's length).
 */
struct mr_journal_entry {
    enum mr_journal_kind kind;
    uint32_t             flags;
    int64_t              offset;      /* APPEND: base offset; see the kinds */
    int64_t              last_offset; /* APPEND */
    int64_t              segment_base;
    uint32_t             pos;
    int32_t              epoch;
    uint32_t             part_at;
    uint32_t             batch_bytes;
};

/*
 * What the journal keeps about a log: embedded in the log layer's struct. Set up by
 * mr_journal_log_init; `dir_name` must live as long as the log is attached.
 */
struct mr_journal_log {
    uint64_t       log_id;
    struct mr_uuid topic_id;
    int32_t        partition;
    struct mr_str  dir_name; /* "topic-0" */

    /* the journal's */
    uint64_t       opened_in; /* number of the journal file with its latest OPEN entry */
    uint64_t       first_seq; /* lowest sequence that is not covered by a state record; in `dirty` */
    uint64_t       last_seq;  /* commit of its latest entry; 0: none */
    struct mr_list dirty;     /* in the journal's list, by first_seq, while there is such an entry */
    struct mr_list all;       /* in the journal's list of attached logs */
};

/* ---- State: what a checkpoint says about one log ---- */

#define MR_JOURNAL_PRODUCER_BATCHES 5

struct mr_journal_epoch {
    int32_t epoch;
    int64_t start_offset;
};

struct mr_journal_producer {
    int64_t  producer_id;
    int16_t  producer_epoch;
    int32_t  coordinator_epoch;      /* -1: none */
    int64_t  txn_first_offset;       /* -1: no open transaction */
    int64_t  last_timestamp;
    uint32_t batch_count;            /* newest last */
    struct {
        int32_t last_sequence;
        int32_t offset_delta; /* last - first */
        int64_t last_offset;
        int64_t timestamp;
    } batches[MR_JOURNAL_PRODUCER_BATCHES];
};

struct mr_journal_state {
    int64_t segment_base; /* of the active segment */
    int64_t end_offset;   /* what follows the last batch, and its place in the active segment */
    int64_t end_pos;
    int64_t log_start;
    int64_t high_watermark;
    int64_t max_timestamp; /* of the active segment, and where; -1: none */
    int64_t max_timestamp_offset;
    int64_t first_timestamp; /* of the active segment's first batch, -1: none: rolls by time */
    int64_t created_ms;      /* of the active segment */
    uint32_t flags;          /* the log layer's own */
    uint32_t epoch_count;    /* counted by the journal: set on reading */
    uint32_t producer_count;
};

/* Where a log's state is written: first the fixed part, then any number of epochs, then of producers. */
struct mr_journal_state_out;
void mr_journal_state_put(struct mr_journal_state_out *out, const struct mr_journal_state *state);
void mr_journal_state_put_epoch(struct mr_journal_state_out *out, const struct mr_journal_epoch *epoch);
void mr_journal_state_put_producer(struct mr_journal_state_out       *out,
                                   const struct mr_journal_producer *producer);
/* The log stays offline at the next starts too: offsets [from, to) are gone (to -1: unknown). */
void mr_journal_state_lost(struct mr_journal_state_out *out, int64_t from, int64_t to);

/* A log's state as it was found. The lists are read with the two functions, index < count. */
struct mr_journal_state_view {
    uint64_t                log_id;
    struct mr_uuid          topic_id;
    int32_t                 partition;
    struct mr_str           dir_name; /* valid until the recovery ends */
    struct mr_journal_state state;
    const uint8_t          *epochs;
    const uint8_t          *producers;
};
void mr_journal_state_get_epoch(const struct mr_journal_state_view *view, uint32_t index,
                                struct mr_journal_epoch *epoch);
/* Producers are of unequal length: start with *cursor = 0 and ask producer_count times. */
void mr_journal_state_get_producer(const struct mr_journal_state_view *view, uint32_t *cursor,
                                   struct mr_journal_producer *producer);

/* ---- The journal in service ---- */

struct mr_journal;

struct mr_journal_ops {
    /*
     * Write the log's state: everything added to the journal so far, with the end as assigned, not
     * as flushed (the journal writes the record only when all of it is durable). Called during a
     * recycling, from mr_journal_turn or mr_journal_done, for every log with an entry in the file.
     */
    void (*store)(void *context, struct mr_journal_log *log, struct mr_journal_state_out *out);

    /*
     * The directory is offline from now on: the first failed write or flush. Called at most once, inside
     * mr_journal_done or mr_journal_fail, before any later completion is looked at.
     */
    void (*offline)(void *context, enum mr_err err, int32_t os_errno, const char *what);

    /*
     * Lent memory is used by the open commit: it stays as it is, whatever becomes of its log, until it is let go, when
     * the commit is written. Once for each piece; after the first error nothing is let go any more.
     */
    void (*keep)(void *context, void *owner);
    void (*let_go)(void *context, void *owner);
};

struct mr_journal_params {
    struct mr_disk              *disk;
    struct mr_log               *log; /* may be NULL */
    struct mr_trace             *trace; /* likewise */
    const struct mr_journal_ops *ops;
    void                        *context;
    const char                  *log_dir;
    uint32_t                     ring; /* index of the storage core */
    uint32_t                     file_bytes; /* multiple of 4 KiB, MR_JOURNAL_FILE_BYTES_MIN and more */
    uint32_t                     files_max;  /* 2 .. MR_JOURNAL_FILES_MAX */
    uint64_t                     reserve_bytes; /* millrace.disk.reserve.bytes: no growth below */
    uint64_t                     seed; /* generations and log ids; truly random in service */
};

/* Bytes of arena that mr_journal_init takes; the buffers among them stay untouched until used. */
size_t             mr_journal_bytes(void);
struct mr_journal *mr_journal_init(struct mr_arena *arena, const struct mr_journal_params *params);

/*
 * Start of service: open the ring's state file and files, prepare the first one if there is none.
 * Blocks. The directory has been recovered (mr_journal_recover) and guarded in this process before.
 */
enum mr_err mr_journal_open(struct mr_journal *journal);

/* A new log id: 64 random bits, never 0. The caller checks that it has none of that number. */
uint64_t mr_journal_draw_log_id(struct mr_journal *journal);

/* Attach a log. A log that was never attached since the last recovery costs nothing. */
void mr_journal_log_init(struct mr_journal *journal, struct mr_journal_log *log);
/* Detach: after its DROP has been added, or at stop. Later checkpoints do not ask for it. */
void mr_journal_log_deinit(struct mr_journal *journal, struct mr_journal_log *log);

/*
 * Add an entry to the open commit, with an OPEN before it when this file has none for the log.
 *
 *   prefix     the first bytes of the payload, in place of the chain's (a batch header with offset, epoch
 *              and perhaps time set); may be NULL with prefix_bytes 0
 *   payload    its bytes from `prefix_bytes` on follow the prefix; NULL: the prefix is all
 *   payload_at, payload_bytes   the range of (prefix + rest) to journal: a part; whole: 0, UINT32_MAX
 *   checked    how many of its last bytes have a CRC that was checked already, and that CRC: they are not read again
 *   lent       memory that will hold that range before the next call of mr_journal_turn, in one or more runs of which
 *              all but the first begin, and all but the last end, at a block; 0 runs: everything is copied
 *   seq_out    [out] sequence of the commit it is in; may be NULL
 *
 * MR_AGAIN: the buffer or the ring is full; nothing was added; ask again in a later turn (and see
 * mr_journal_pressure). MR_ERR_TOO_LARGE: never fits: use parts. MR_ERR_DIR_OFFLINE. Cost: one CRC of the payload that is
 * not checked, one copy of what is not lent.
 */
struct mr_journal_lent {
    uint8_t *data;
    uint32_t len;
    void    *owner; /* for keep and let_go */
};
struct mr_journal_payload {
    const uint8_t                *prefix;
    uint32_t                      prefix_bytes;
    const struct mr_chain        *chain;
    uint32_t                      at;
    uint32_t                      bytes;
    uint32_t                      checked_bytes;
    uint32_t                      checked_crc;
    uint32_t                      lent_count;
    const struct mr_journal_lent *lent;
};
enum mr_err mr_journal_add(struct mr_journal *journal, struct mr_journal_log *log,
                           const struct mr_journal_entry   *entry,
                           const struct mr_journal_payload *payload, uint64_t *seq_out);

/* The bytes [at, at + len) of prefix + chain. */
void mr_journal_payload_copy(const struct mr_journal_payload *payload, uint32_t at, uint8_t *out, uint32_t len);

/* The largest payload that one entry can carry with this file size. */
uint32_t mr_journal_payload_max(const struct mr_journal *journal);

/* The largest batch that the ring takes in parts, once it has grown. */
uint64_t mr_journal_batch_max(const struct mr_journal *journal);

/* Whether a batch in parts could be taken whole without recycling, by what is ready or can be prepared, and nothing is
 * being recycled. False asks for draining, like a refused entry. */
bool mr_journal_fits_parts(struct mr_journal *journal, uint64_t bytes);

/* Whether an APPEND with this many payload bytes would be taken now: asked before an offset is assigned. */
bool mr_journal_has_room(const struct mr_journal *journal, const struct mr_journal_log *log,
                         uint32_t payload_bytes);

/*
 * One turn: seal and submit the open commit when none is in flight, the covering commit, preparation of
 * files, recycling. Call it after everything of this turn has been added. Returns whether it did something.
 */
bool     mr_journal_turn(struct mr_journal *journal, struct mr_now now);
uint64_t mr_journal_deadline_ns(const struct mr_journal *journal);

/* A completion with op->user == journal. In the order of reaping, at once (J7). */
void mr_journal_done(struct mr_journal *journal, struct mr_disk_op *op);

/* A write or flush of the log layer in this directory failed: the directory is offline. */
void mr_journal_fail(struct mr_journal *journal, enum mr_err err, int32_t os_errno, const char *what);
bool mr_journal_is_offline(const struct mr_journal *journal);

/* Whether lack of space keeps the ring from taking more: it cannot grow and needs to, or cannot be recycled. */
bool mr_journal_is_full(const struct mr_journal *journal);

/* Whether an entry found no room in the ring since the last recycling. */
bool mr_journal_is_starved(const struct mr_journal *journal);

/* open: the commit that the next entry joins. written: on the device, perhaps in its cache. durable:
 * flushed, with everything before. durable <= written < open. */
uint64_t mr_journal_open_seq(const struct mr_journal *journal);
uint64_t mr_journal_written_seq(const struct mr_journal *journal);
uint64_t mr_journal_durable_seq(const struct mr_journal *journal);
/* The last sequence with anything in it: that of the open commit, or the one before. What a settling waits for. */
uint64_t mr_journal_added_seq(const struct mr_journal *journal);

/* Lowest sequence that recovery could still see. A segment whose last entry is below it is free for
 * compaction, deletion, moving (J6). */
uint64_t mr_journal_start_seq(const struct mr_journal *journal);

/* ---- Recycling ---- */

/*
 * For the de-multiplexer. Everything with a sequence <= oldest_end_seq must be in segments (written, not
 * necessarily synced) or journaled again (CARRY) before the oldest file can be reused; 0: no file waits.
 * When that is so, say mr_journal_drained(oldest_end_seq). The journal then waits until what was added so
 * far is durable, runs syncfs, writes a state record for every log in the file, the checkpoint, and
 * gives the file a new generation.
 *
 * Pace: `oldest_bytes` must be drained while `free_bytes` are filled; with less than half of the ring free
 * hurry, with is_starved appends are being refused.
 */
struct mr_journal_pressure {
    uint64_t oldest_end_seq;
    uint64_t ring_bytes;   /* of all files that exist */
    uint64_t live_bytes;   /* commits not recycled */
    uint64_t oldest_bytes; /* of them in the oldest file */
    uint64_t free_bytes;   /* that can be written without recycling */
    bool     is_recycling; /* a drained file is on its way; drained() would be refused (asserted) */
    bool     is_starved;
};
void mr_journal_pressure(const struct mr_journal *journal, struct mr_journal_pressure *out);
void mr_journal_drained(struct mr_journal *journal, uint64_t end_seq);

/* Close the active file early, so that what is in it can be drained and recycled (a quiet broker with a
 * segment to delete, a clean stop). No effect while it is empty. */
void mr_journal_roll(struct mr_journal *journal);

/*
 * Clean stop, after everything is in the segments and synced by the caller (nothing in flight, everything
 * added is durable): closes the files. The ring's commits stay and are harmless: removing the guard makes
 * them void, atomically, and a crash before that recovers them. Blocks. MR_ERR_DIR_OFFLINE: not clean.
 */
enum mr_err mr_journal_close(struct mr_journal *journal);

struct mr_journal_stats {
    uint64_t commits, commit_bytes, entries, recycled_files;
    uint32_t files;
};
void mr_journal_stats(const struct mr_journal *journal, struct mr_journal_stats *out);

/* ---- Recovery ---- */

/* An entry that survived the fold, as it is redone. */
struct mr_journal_redo {
    struct mr_journal_entry entry; /* APPEND: always whole parts; see mr_journal_entry */
    const uint8_t          *payload; /* valid during the call */
    uint32_t                payload_bytes;
    uint64_t                seq;
    bool is_in_state; /* the log's state already contains its effect: only bytes are to be redone */
    bool is_gone; /* an APPEND to a segment below the log start: only what it tells counts, not its bytes */
};

struct mr_journal_log_name {
    uint64_t       log_id;
    struct mr_uuid topic_id;
    int32_t        partition;
    struct mr_str  dir_name;
};

/* Where a log ended before its first entry in the journal: its files were complete up to there, and what lies
 * behind may be anything. */
struct mr_journal_first {
    int64_t  offset;
    int64_t  segment_base;
    uint32_t pos;
};

/*
 * The log layer's part. Blocking calls (mr_disk_run) are fine. An error ends the recovery with it, and
 * the next start begins again: every callback can be called again after a crash at any moment.
 *
 * Order: open for every log that a state file or the journal knows (dropped ones: drop instead); then the
 * entries, grouped by log within a window of the journal, in the order of the journal for each log; then
 * finish.
 */
struct mr_journal_recover_ops {
    /* state: the newest found, or NULL (a log that was not checkpointed since its files were complete); then
     * `first`, unless nothing of it was appended. is_state_lost: of any log records may be missing, so that `state` may
     * be an old one: where the log ends only its segments tell, when everything is redone. *log_out: handed to the others; NULL when the directory does not
     * exist and the journal has entries: create it instead. */
    enum mr_err (*open)(void *context, const struct mr_journal_log_name *name,
                        const struct mr_journal_state_view *state, bool is_state_lost,
                        const struct mr_journal_first *first, void **log_out);
    /* `found` for each log that has a directory, whatever the journal knows of it: under a log id that is new. */
    enum mr_err (*each)(void *context, void (*found)(void *replay, const struct mr_journal_log_name *name),
                        void *replay);
    /* TRUNCATE, LOG_START, RESET, SEAL, EPOCH_START, APPEND, CARRY, IMAGE, STATE. Bytes go to their
     * position, whatever is there. */
    enum mr_err (*redo)(void *context, void *log, const struct mr_journal_redo *redo);
    /* The log was deleted: so must be its directory, if it is there and still that log's (topic id). */
    enum mr_err (*drop)(void *context, const struct mr_journal_log_name *name);
    /* Corruption took entries of this log: offsets [from, to) are lost (to -1: unknown). The log stays
     * offline; its other entries are not redone from there on. */
    void (*lost)(void *context, void *log, int64_t from, int64_t to);
    /* All entries are redone: truncate the files to their ends and whatever else must be on disk. A
     * syncfs follows. */
    enum mr_err (*finish)(void *context, bool is_state_lost);
    /* After that: the state of a log (as in mr_journal_ops), for the new checkpoint. False: the log does not
     * exist any more (or is offline: its old state is kept then). mr_journal_state_lost in it: the log stays offline. */
    bool (*store)(void *context, void *log, struct mr_journal_state_out *out);
};

struct mr_journal_recover_params {
    struct mr_disk                      *disk;
    struct mr_log                       *log;
    const char                          *log_dir;
    const struct mr_journal_recover_ops *ops;
    void                                *context;
    struct mr_arena                     *scratch; /* everything recovery needs; reset by the caller after */
    uint32_t                             logs_max;
    uint64_t                             seed;
};

struct mr_journal_recover_result {
    uint64_t commits;
    uint64_t entries;
    uint64_t redone_bytes;
    uint32_t rings;
    uint32_t logs;
    uint32_t lost_logs;
    char     why[256];
};

/* Scratch that a recovery with this many logs wants; it works with less than that when the journal is
 * small, and says so (MR_ERR_NO_MEMORY) when it does not. */
size_t mr_journal_recover_bytes(uint32_t logs_max);

/*
 * Replay every ring of a guarded directory, whatever the number of cores, and empty all of them. Afterwards
 * every surviving byte is in the segments, synced, and a new checkpoint (millrace-state-base) says so. Not
 * called for an unguarded directory: then mr_journal_discard.
 */
enum mr_err mr_journal_recover(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result);

/* An unguarded directory: what private files say counts for nothing; empty the rings and forget the states. */
enum mr_err mr_journal_discard(const struct mr_journal_recover_params *params,
                               struct mr_journal_recover_result       *result);

/* `format`: write the first file of ring 0. */
enum mr_err mr_journal_format(struct mr_disk *disk, const char *log_dir, uint32_t file_bytes,
                              uint64_t seed, struct mr_arena *scratch);

#endif
