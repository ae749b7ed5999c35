/*
 * storage_core: the inside of a storage core, for the files under storage/ only.
 *
 *   mail -> append.c  --> journal (open commit) + tail runs --> acks when durable
 *           read.c    --> spans of tail runs, or cold_read.c --> segment files
 *           others    --> a task: a few disk operations, one after the other
 *   demux.c: tail runs -> segment files, behind the journal
 *
 * One thread owns all of it. Memory comes from the arena at init; nothing blocks inside a turn but
 * MR_STORAGE_RECOVER and MR_STORAGE_STOP, before and after service.
 */
#ifndef MILLRACE_STORAGE_CORE_H
#define MILLRACE_STORAGE_CORE_H

#include "cache/page_pool.h"
#include "journal/guard.h"
#include "journal/journal.h"
#include "log/checkpoint.h"
#include "log/epoch_cache.h"
#include "log/producer_state.h"
#include "log/txn_state.h"
#include "log/wall_clock.h"

#include "millrace/base/log.h"
#include "millrace/base/map.h"
#include "millrace/base/pool.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "millrace/log_scan.h"
#include "millrace/storage.h"

#define MR_DIR_NAME_BYTES 264 /* topic (249), '-', partition (10), zero, rounded */
#define MR_FILE_NAME_MAX   255 /* of the file system */
#define MR_FILE_NAME_BYTES 352 /* a directory name with suffixes, '/', a file name */
#define MR_TASKS_MAX     256
#define MR_PENDING_MAX   4   /* commits that are not flushed and touch one log */
#define MR_READ_HINTS    2   /* places remembered for readers that come back where they stopped */
#define MR_OPEN_FILES_MAX 1024
#define MR_SIDE_TAKEN    64u /* chunks of a side-car in the largest read */
#define MR_COPY_MARK     "millrace-copy" /* file in the directory of an unfinished copy */
#define MR_SMALL_SPAN    2048u /* spans below are copied into the reader's memory */

struct mr_storage_core;
struct mr_task;
struct mr_log_load;

/* A disk operation and who wants to hear of it. */
struct mr_io {
    struct mr_disk_op op;
    void (*done)(struct mr_storage_core *core, struct mr_io *io);
};

/* Where an offset is: byte `pos` of the segment whose base offset is `base`. */
struct mr_place {
    int64_t  offset;
    int64_t  base;
    uint32_t pos;
};

enum mr_file_state {
    MR_FILE_CLOSED,
    MR_FILE_OPENING,
    MR_FILE_OPEN,
};

enum mr_side_state { /* of a segment's side-car */
    MR_SIDE_UNKNOWN, /* nobody has looked for it */
    MR_SIDE_NONE,
    MR_SIDE_GOOD,
    MR_SIDE_WRONG, /* it says that the segment is another log's: nothing of it is read */
};

/* What waits to be unlinked: a segment whose files are *.deleted, or a directory that is *-delete. */
struct mr_grave {
    struct mr_list link; /* in core->graves, by due_ns */
    uint64_t       due_ns;
    const char    *name; /* of the directory; NULL: a segment */
};

struct mr_dir_grave {
    struct mr_grave grave;
    char            text[MR_DIR_NAME_BYTES];
};

#define MR_NO_REST UINT32_MAX /* larger than any segment */

struct mr_segment {
    struct mr_list       link;   /* in partition->segments, by base */
    struct mr_list       by_use; /* in core->open_files while the file is open */
    struct mr_partition *partition;
    int64_t              base;
    int64_t              max_timestamp; /* -1: none yet */
    int64_t              max_timestamp_offset;
    struct {
        int64_t timestamp;
        int64_t offset;
    } claim; /* what a time index in a file said of the largest; newer batches do not make it true */
    int64_t              first_timestamp; /* of the first batch: rolling by time */
    int64_t              created_ms;
    int64_t              changed_ms; /* last append, or change of its file: its age when records' timestamps do not count */
    struct mr_grave      grave;
    uint64_t             last_seq; /* journal sequence of its last entry */
    uint32_t             rest_at;  /* recovery: no entries yet of batches from here on (mr_index_rest); MR_NO_REST: none */
    uint32_t             size;     /* assigned */
    uint32_t             written;  /* bytes from the start that are in the file */
    uint32_t             allocated; /* file size on disk, when larger than written */
    int32_t              file;
    uint16_t             users; /* operations and tasks that use `file` */
    uint8_t              file_state;
    uint8_t              side;      /* enum mr_side_state */
    uint32_t             side_seed; /* of its sums, when that is good */
    struct mr_list       scrub_link; /* it is read soon (log/scrub.h) */
    bool                 is_sealed;       /* a successor exists */
    bool                 is_seal_done;    /* everything of it is in files, truncated and synced */
    bool                 is_time_known;   /* max_timestamp is what memory or the time index say */
    bool                 is_time_scanned; /* no index said it, and all headers have been read */
    bool                 is_time_unproven; /* what `claim` says has not been held against its batch */
    bool                 is_gone;         /* below the log start: files go when the journal lets them */
    bool                 has_file;        /* recovery: its .log was listed, or written; `allocated` is its size */
    bool                 has_index_files; /* .index and .timeindex exist and are continued */
    bool                 is_mend_due;     /* recovery: its indexes are made when all its bytes are in the file */
    bool                 is_index_busy;   /* chunks are being written */
    bool                 is_cleaning;     /* its files are being removed */
    bool                 is_swapping;     /* its files give way to a compacted segment's */
    bool                 is_aborted_stale; /* its .txnindex has what the list does not: it is written anew */
    bool                 is_aborted_lost;  /* recovery: its .txnindex was damaged; its batches tell when all are in the file */

    struct mr_list aborted;         /* struct mr_aborted, by the offset of the marker */
    uint32_t       aborted_count;
    uint32_t       aborted_written; /* of them in the .txnindex file */
    uint32_t       aborted_file;    /* bytes of that file when it was listed */

    /* Index entries of an active segment: in memory until a chunk is full. */
    struct mr_page *index_page;
    struct mr_page *time_page;
    uint32_t        index_bytes; /* in the .index file */
    uint32_t        time_bytes;
    uint32_t        since_index; /* log bytes since the last entry */
    int32_t         last_relative; /* of the last offset index entry, -1: none */
    int32_t         last_time_relative;
    int64_t         last_time; /* of the last time index entry */
};

enum mr_partition_state {
    MR_PARTITION_FOUND, /* recovery made it; nobody opened it yet */
    MR_PARTITION_OPENING,
    MR_PARTITION_OPEN,
    MR_PARTITION_OFFLINE, /* lost entries: refused until a human looks */
    MR_PARTITION_DROPPING,
};

enum mr_tail_state {
    MR_TAIL_HOT,     /* runs hold the segment's last block, or that is empty */
    MR_TAIL_COLD,    /* the last block is in the file only */
    MR_TAIL_READING, /* and is being read */
};

struct mr_partition {
    struct mr_journal_log jlog;
    struct mr_list        link; /* in core->partitions */
    struct mr_partition  *same_name; /* the next one whose directory's name has the same hash */
    uint8_t               state;
    uint8_t               tail;
    bool                  is_internal;
    bool                  is_carried;   /* the tail block was carried and nothing came since */
    bool                  is_park_wanted; /* its tail found no room to be carried: it is written instead */
    bool                  is_image_due; /* the tail block is in the file: IMAGE before it is rewritten */
    bool                  is_demuxing;  /* a write of demux.c is under way */
    bool                  is_draining;  /* for the oldest journal file */
    bool                  is_sealing;
    bool                  is_passed;    /* during one pass over parked appends: one waits for this log */
    bool                  is_clean_on_disk; /* nothing changed since its files were complete */
    bool                  is_epoch_dirty;   /* leader-epoch-checkpoint on disk is older */
    bool                  has_epoch_file;   /* there is one */
    bool                  is_retaining;     /* retention learns the age of a segment */
    bool                  is_held;          /* it is being moved away: no appends */
    bool                  is_unfinished;    /* it is a copy, and its directory has the mark */
    bool                  is_uncleanable;   /* compaction met what it cannot read: not tried again in this life */
    uint8_t               run_order;    /* of the next run */
    uint8_t               pending_count;
    uint8_t               hint_next;
    int32_t               leader_epoch;
    int64_t               snapshot_at; /* its producers there were read from a snapshot; -1: none */
    int64_t               clean_offset; /* compacted up to here; -1: not known */
    int64_t               log_start;
    uint64_t              log_start_seq; /* journal sequence of its LOG_START: files go after it */
    struct mr_place       end;     /* assigned */
    struct mr_place       durable; /* flushed */
    struct mr_place       high_watermark;
    struct mr_place       hints[MR_READ_HINTS];
    struct {
        uint64_t        first_seq; /* of its first part */
        uint64_t        seq;
        struct mr_place end;
    } pending[MR_PENDING_MAX];
    struct mr_list         durable_link; /* in core->undurable, while pending_count > 0 */
    struct mr_list         dirty_link;   /* in core->dirty, by first_dirty_seq */
    uint64_t               first_dirty_seq;
    struct mr_list         demux_link; /* in core->demux_ready */
    struct mr_list         gone_link;  /* in core->gone, while segments wait to be buried */
    uint32_t               grave_count; /* segments of it that wait to be unlinked */
    struct mr_list         segments;   /* by base; the last one is active */
    struct mr_segment     *active;
    uint32_t               segment_count;
    uint32_t               part_at; /* progress of a batch that is journaled in parts */
    uint64_t               first_part_seq;
    const struct mr_append_entry *part_of;
    struct mr_list         runs; /* tail runs, oldest first, contiguous up to the end */
    struct mr_list         watches;
    uint32_t               task_count; /* tasks that hold the log */
    enum mr_err            open_err;   /* it cannot be opened, and is freed when its tasks have ended */
    struct mr_producer_set producers;
    struct mr_txns         txns;
    struct mr_epoch_cache  epochs;
    struct mr_page        *epoch_page; /* memory of `epochs` beyond the inline ones */
    struct mr_log_config   config;
    char                   dir_name[MR_DIR_NAME_BYTES];
};

struct mr_watch {
    struct mr_list link;
    struct mr_partition *partition;
    int64_t        offset;
    uint64_t       token;
    uint32_t       from;
    bool           is_committed; /* for the end of the stable part, not the high watermark */
    struct mr_watch *next; /* in the bucket by (from, token) */
};

enum mr_index_kind {
    MR_INDEX_OFFSET, /* key: an offset; result: a file position, at or before its batch */
    MR_INDEX_TIME,   /* key: a time; result: an offset, everything before it is older */
};

struct mr_index_search {
    enum mr_index_kind kind;
    int64_t            key;
    int64_t            result;
    uint32_t           file_bytes;
    /* Of a file position from a file: whoever reads there asks mr_index_is_true. */
    bool               is_unproven;
    int64_t            offset;    /* the entry's */
    int64_t            timestamp; /* likewise, of a time index */
    uint32_t           tries;
};

/*
 * A sequence of disk operations. `step` is called at the start and after each completion (task->io.op
 * says how it went): it prepares the next operation in io.op and returns true, or returns false when
 * the task is over. task_start drives it over turns; task_run drives it here and now.
 */
struct mr_task {
    struct mr_io io;
    struct mr_list link; /* waiting for something: core->waiting_tasks, or a free list */
    bool (*step)(struct mr_storage_core *core, struct mr_task *task);
    bool (*then)(struct mr_storage_core *core, struct mr_task *task); /* where a sub-sequence goes back to */
    uint32_t then_at;
    void (*loaded)(struct mr_storage_core *core, struct mr_task *task, enum mr_err err);
    uint32_t              at; /* the step's own program counter */
    bool                  is_blocking;
    bool                  is_waiting;      /* prepared nothing: in core->retry_tasks */
    uint64_t              wait_until_ns;   /* not before; 0: in every turn */
    bool                  is_op_due;       /* at its end the operation goes on with its next entry */
    bool                  is_whole_wanted; /* cold reads */
    bool                  is_data_there;
    bool                  is_reading; /* counted in core->cold_in_flight */
    bool                  is_proof; /* the last batch of a log is read for its CRC */
    bool                  is_again; /* the operation that had no space is submitted again as it was; a cold read: the
                                       second time */
    uint32_t              crc;
    struct mr_partition  *partition;
    struct mr_segment    *segment;
    struct mr_storage_op *op;
    struct mr_page       *page;
    struct mr_page       *page2;
    uint32_t              index; /* free for the step */
    int32_t               file;
    int32_t               dir;
    struct mr_index_search find;
    /* A search by time (time_search.c): up to `offset` nothing is newer than `timestamp`, says an entry of a file. */
    struct {
        int64_t  offset;
        int64_t  timestamp;
        uint32_t tries;
        bool     is_unproven;
    } clue;
    uint64_t              a, b, c;
    int64_t               x, y;
    enum mr_err           err;
    /* Loading a log (log_load.h). */
    struct mr_storage_core   *core;
    const struct mr_log_load *load;
    bool                      is_marked; /* there is a partition.metadata, and it is the topic's */
    uint32_t                  index_bytes; /* of the active segment's .index, as listed */
    uint32_t                  time_bytes;  /* likewise its .timeindex */
    struct mr_log_scan        scan;
    char                  name[MR_FILE_NAME_BYTES];
    char                  new_name[MR_FILE_NAME_BYTES];
    /* What a side-car says of the bytes that are read (side_read.c). */
    uint32_t side_first, side_count; /* chunks; 0: there is nothing to compare with */
    uint32_t side_block, side_slot;
    int64_t  side_changed_ns;
    uint32_t side_sums[MR_SIDE_TAKEN];
};

/* A sub-sequence, one level deep: `step` runs until it returns with mr_task_return; then the task's own step
 * goes on at `back_at`. */
static inline bool mr_task_call(struct mr_storage_core *core, struct mr_task *task,
                                bool (*step)(struct mr_storage_core *, struct mr_task *), uint32_t back_at)
{
    mr_assert(task->then == NULL);
    task->then = task->step;
    task->then_at = back_at;
    task->step = step;
    task->at = 0;
    return step(core, task);
}

static inline bool mr_task_return(struct mr_storage_core *core, struct mr_task *task)
{
    task->step = task->then;
    task->at = task->then_at;
    task->then = NULL;
    return task->step(core, task);
}

struct mr_out_moved {
    uint32_t             count;
    struct mr_plane_msg  msg;
};

struct mr_storage_core {
    struct mr_storage_params params;
    struct mr_storage_plan   plan;
    struct mr_now            now;
    struct mr_disk          *disk;
    struct mr_port          *port;
    struct mr_log           *log;
    struct mr_journal       *journal;
    struct mr_guard          guard;
    struct mr_storage_core  *first; /* that recovered the directory: this one, or core 0 */
    struct mr_storage_core  *peers[MR_CORES_MAX]; /* first core: those that have joined it */
    struct mr_checkpoint     log_starts; /* first core: as found at the start, read-only afterwards */
    struct mr_checkpoint     clean_ends; /* likewise, of a directory that was closed: up to where logs are compacted */
    struct mr_log_brake      brake_future; /* records from the future */
    struct mr_log_brake      brake_unread; /* mr_core_read_failed */
    struct mr_log_brake      brake_segments; /* no room for one more */
    struct mr_cleaner       *cleaner;    /* NULL: logs are not compacted */
    struct mr_scrub         *scrub;      /* NULL: segments are not scrubbed */
    struct mr_side_cache    *sides;      /* NULL: segments have no side-cars */
    bool                     is_giving; /* first core: it still holds logs that it recovered for others */
    int32_t                  root; /* the log directory */
    bool                     is_recovered;
    bool                     is_offline;
    bool                     is_blocking; /* recovery, stop: tasks run here and now */
    bool                     is_buffered; /* O_DIRECT is refused here */
    bool                     is_stopping;
    struct {
        struct mr_stop_op *op;   /* NULL: no stop is under way */
        struct mr_list    *next; /* of core->partitions to be closed; NULL: still draining */
        struct mr_io       sync; /* of the file system, when all are closed */
        bool               is_syncing;
        bool               is_synced;
        uint32_t           closed;
        uint64_t           tell_at_ns;
    } stop;
    bool                     is_stopped;
    uint32_t                 cold_in_flight; /* reads of cold_read.c that the device has */
    uint32_t                 cold_left;   /* of MR_COLD_TURN_BYTES in this turn */
    bool                     is_cold_turn; /* those that waited for this turn go on */
    bool                     is_append_due;     /* parked appends are worth another look */
    bool                     is_parked_blocked; /* the head of `parked` waits for room, so does the rest */

    struct mr_wall_clock wall_clock; /* whether what is old may be deleted */

    struct mr_page_pool cache;
    struct mr_page_pool cold;
    struct mr_pool      partition_pool;
    struct mr_pool      segment_pool;
    struct mr_pool      watch_pool;
    struct mr_pool      task_pool;
    struct mr_pool      grave_pool; /* struct mr_dir_grave */
    struct mr_map       by_log_id;
    struct mr_map       by_name; /* by hash of the directory's name: first of `same_name` */
    struct mr_list      partitions;
    struct mr_producers producers;
    struct mr_txn_pools txns;
    struct mr_watch   **watch_buckets;
    uint32_t            watch_mask;

    struct mr_partition *part_open; /* it has a batch in several parts that is not complete */
    struct mr_list acks_durable; /* append and other ops by op.seq */
    struct mr_list acks_written;
    struct mr_list parked;       /* append ops with entries that wait for room or for their log */
    struct mr_list again;        /* other ops that wait for a task or for room in the journal */
    struct mr_list undurable;    /* partitions with pending commits, in the order of the first one */
    struct mr_list dirty;        /* partitions by first_dirty_seq */
    struct mr_list demux_ready;  /* partitions with a full durable run */
    struct mr_list clean_runs;   /* that may be evicted, longest clean first */
    struct mr_list open_files;   /* segments with an open file, longest unused first */
    struct mr_list cold_tasks;   /* that have read from a file, and wait for a turn (cold_read.c) */
    struct mr_list retry_tasks;  /* that wait for a file, memory or space */
    uint64_t       retry_at_ns;  /* the earliest of them may go on */
    struct mr_list gone;         /* partitions with segments to bury */
    struct mr_list graves;       /* by due_ns */
    uint32_t       open_file_count;
    uint32_t       demux_in_flight;
    uint32_t       drop_count; /* DROPs journaled whose directory has its old name still */
    struct mr_list renaming;   /* tasks that rename the directory of a dropped log: its name is not free yet */
    uint64_t       dirty_bytes; /* in tail runs, not in files */
    uint64_t       pinned_bytes; /* of runs that are lent */
    uint32_t       tail_logs;    /* logs that have runs */
    bool           is_page_wanted; /* the cache is empty and nothing in it may go */
    uint64_t       drain_seq;   /* the oldest file is being drained up to here; 0: no */
    uint32_t       draining;    /* partitions not done with it */
    uint64_t       retention_at_ns;
    struct mr_list *retention_next; /* where a pass over all logs goes on; NULL: none is under way */
    uint64_t       producers_at_ns;
    uint64_t       burial_at_ns;
    uint64_t       burial_seen_seq; /* the ring's start when `gone` was last looked through */
    uint64_t       reclaim_seq;     /* the ring is to be turned over up to here, however quiet it is */
    bool           is_burying;
    bool           is_digging;
    uint64_t       space_free, space_total; /* of the file system, when it was asked last */
    int64_t        space_left;              /* for appends, see space.c */
    uint32_t       space_refused;           /* bytes of an append that did not fit; 0: all have */
    uint64_t       space_asked_ns;
    uint32_t       space_files; /* journal files that are counted in it */
    bool           is_space_known;
    bool           is_space_asked; /* the question is under way */
    bool           is_space_used;  /* something was appended since */
    bool           is_space_short; /* a segment could not grow */
    bool           is_allocate_refused; /* the file system has no fallocate */
    uint64_t       demux_paused_ns;     /* no write of segments before that */
    struct mr_io   space_io;
    struct mr_list stat_waiting; /* LOG_STATs that wait for the answer */
    struct mr_prng prng;

    struct mr_out_moved moved[MR_ENDPOINTS_MAX];
    uint64_t            moved_dirty[(MR_ENDPOINTS_MAX + 63) / 64];

    uint8_t *scratch; /* 64 KiB, 4 KiB-aligned: names, small files while blocking */
    struct mr_storage_stats stats;
    struct mr_log_brake brake;
};

#define MR_SCRATCH_BYTES (1u << 20)

/* ---- storage_core.c ---- */
void            mr_core_submit(struct mr_storage_core *core, struct mr_io *io);
void            mr_core_answer(struct mr_storage_core *core, struct mr_storage_op *op);
struct mr_task *mr_core_task(struct mr_storage_core *core, struct mr_partition *partition,
                             bool (*step)(struct mr_storage_core *, struct mr_task *));
void            mr_core_task_start(struct mr_storage_core *core, struct mr_task *task);
/* The step waits for a file, memory or space: it is called again in the next turn, or `ms` later. */
bool mr_core_task_wait(struct mr_storage_core *core, struct mr_task *task, int64_t ms);
/* Blocking: at start and stop only. Returns task->err. */
enum mr_err mr_core_task_run(struct mr_storage_core *core, struct mr_task *task);
/* Likewise, while other operations may be in flight; by turns where the disk cannot do that. */
void mr_core_task_here(struct mr_storage_core *core, struct mr_task *task);
/* Take completions; also in the loop of a clean stop. */
bool mr_core_reap(struct mr_storage_core *core);
/* A failed write or flush of ours: the directory goes offline. */
void mr_core_fail(struct mr_storage_core *core, const struct mr_disk_op *op, const char *what);
/* A read of a segment that nothing acknowledged waits for has failed: a line, and the scrubber looks at the segment. The
 * directory goes on. */
void mr_core_read_failed(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_disk_op *op);
/* One blocking operation. */
enum mr_err mr_core_disk(struct mr_storage_core *core, struct mr_disk_op *op);
struct mr_partition *mr_core_find(struct mr_storage_core *core, uint64_t log_id);
/* The operation found no task or no room: it is asked again in the next turn. */
void mr_core_again(struct mr_storage_core *core, struct mr_storage_op *op);
/* The answer waits until everything journaled so far for it is durable (or written). */
void mr_core_ack_later(struct mr_storage_core *core, struct mr_storage_op *op, uint64_t seq, bool is_written_enough);

/* ---- log/partition.c ---- */
struct mr_partition *mr_partition_new(struct mr_storage_core *core, uint64_t log_id, const struct mr_uuid *topic_id,
                                      int32_t partition, struct mr_str dir_name);
void mr_partition_free(struct mr_storage_core *core, struct mr_partition *partition);
/* The log in that directory, but not one that is being dropped; NULL: none. */
struct mr_partition *mr_partition_by_name(struct mr_storage_core *core, struct mr_str dir_name);
/* Commits up to these sequences are written and flushed: move ends, high watermarks, watches. */
void mr_partition_commits(struct mr_storage_core *core, uint64_t written_seq, uint64_t durable_seq);
/* What was added in these commits ends where the log ends now. */
void mr_partition_pending_add(struct mr_storage_core *core, struct mr_partition *partition, uint64_t first_seq,
                              uint64_t seq);
void mr_partition_set_epoch_room(struct mr_storage_core *core, struct mr_partition *partition);
/* The journal wants the log's state. */
void mr_partition_store(struct mr_partition *partition, struct mr_journal_state_out *out);
/* The log begins at `offset`; journal sequence `seq` says so (0: durable since long). */
void mr_partition_log_start(struct mr_storage_core *core, struct mr_partition *partition, int64_t offset,
                            uint64_t seq);
/* Whole segments below the log start are for burial. */
void mr_partition_mark_gone(struct mr_storage_core *core, struct mr_partition *partition);
void mr_partition_configure(struct mr_partition *partition, const struct mr_log_config *config);
/* Bytes of all segments that are not gone. */
int64_t mr_partition_bytes(const struct mr_partition *partition);

/* ---- log/segment.c ---- */
/* One that is in no list yet, which mr_segment_add changes, and at the end of its partition's. NULL: no memory. */
struct mr_segment *mr_segment_make(struct mr_storage_core *core, struct mr_partition *partition, int64_t base);
void               mr_segment_add(struct mr_segment *segment);
struct mr_segment *mr_segment_new(struct mr_storage_core *core, struct mr_partition *partition, int64_t base);
/* To its place by its base: a new one is the last. */
void mr_segment_sort(struct mr_segment *segment);
void mr_segment_free(struct mr_storage_core *core, struct mr_segment *segment);
/* Out of its partition, without file and memory; the struct is the caller's to put back. */
void               mr_segment_detach(struct mr_storage_core *core, struct mr_segment *segment);
/* Forget the entries that are in no file yet. */
void               mr_segment_index_drop(struct mr_storage_core *core, struct mr_segment *segment);
/* What a segment is, without what one core has open and in memory of it. */
void mr_segment_copy(struct mr_segment *segment, const struct mr_segment *from);
struct mr_segment *mr_segment_find(const struct mr_partition *partition, int64_t offset);
/* Whether a batch of the log can have that leader epoch; nobody tracks those of internal logs. */
static inline bool mr_partition_had_epoch(const struct mr_partition *partition, int32_t leader_epoch)
{
    return leader_epoch >= -1 && (partition->is_internal || leader_epoch <= partition->leader_epoch);
}
struct mr_segment *mr_segment_next(const struct mr_segment *segment);
/* "topic-0/00000000000000000000.log" */
void mr_segment_name(const struct mr_segment *segment, const char *suffix, char name[MR_FILE_NAME_BYTES]);
/* Whether the file is open now; else it is being opened and core->retry_tasks are asked again then. */
bool mr_segment_file_ready(struct mr_storage_core *core, struct mr_segment *segment);
void mr_segment_file_close(struct mr_storage_core *core, struct mr_segment *segment);
/* Note a batch in the indexes: called when it is appended, with segment->size before it. */
void mr_segment_index(struct mr_storage_core *core, struct mr_segment *segment, const struct mr_batch *batch,
                      uint32_t pos, uint32_t batch_bytes);
bool mr_segment_is_index_full(const struct mr_segment *segment);
/* Write what is buffered to the index files and free the chunks. Blocking, or by a task. */
void            mr_segment_index_flush(struct mr_storage_core *core, struct mr_segment *segment);
struct mr_task *mr_segment_index_flush_task(struct mr_storage_core *core, struct mr_segment *segment);
/* The same of task->segment by the task itself, which goes on at `back_at`; its index is not busy. */
bool mr_segment_index_flush_call(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at);
/* A segment's indexes as its batches say, in its files; its file is complete. Blocking: recovery. */
enum mr_err mr_index_mend(struct mr_storage_core *core, struct mr_segment *segment);
/* The entries of the active segment's batches from rest_at on, when its file is complete. Likewise. */
enum mr_err mr_index_rest(struct mr_storage_core *core, struct mr_segment *segment);
/* The entry that Kafka forces when a segment ends: the largest timestamp. */
void mr_segment_index_end(struct mr_storage_core *core, struct mr_segment *segment);

/* ---- log/segment_time.c ---- */
/* An entry of a time index says so: nobody has looked at the batch yet. */
void mr_segment_time_claim(struct mr_segment *segment, int64_t timestamp, int64_t offset);
/* The task finds out segment->max_timestamp and changed_ms; its step goes on at `back_at`. */
bool mr_segment_time_learn(struct mr_storage_core *core, struct mr_task *task, struct mr_segment *segment,
                           uint32_t back_at);

/* ---- log/index_find.c ---- */
/* The task searches an index of task->segment; its step goes on at `back_at` with task->find.result. */
bool mr_index_find(struct mr_storage_core *core, struct mr_task *task, enum mr_index_kind kind, int64_t key,
                   uint32_t back_at);
/* The `bytes` at `memory` were read from position task->b on: whether at the place found, task->a, there can be the
 * batch that the entry tells of. Asked once. */
bool mr_index_is_true(struct mr_task *task, const uint8_t *memory, uint64_t bytes);
/* It was not: the search goes on with what stands before that entry, at last with the start of the segment. */
bool mr_index_find_before(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at);

/* ---- log/append.c ---- */
void mr_append_op_start(struct mr_storage_core *core, struct mr_append_op *op);
void mr_append_retry(struct mr_storage_core *core); /* room may have come */
void mr_append_passed_reset(struct mr_storage_core *core);

/* ---- log/roll.c ---- */
bool mr_roll_is_due(const struct mr_storage_core *core, const struct mr_partition *partition,
                    const struct mr_batch *batch, uint32_t batch_bytes);
enum mr_err mr_roll(struct mr_storage_core *core, struct mr_partition *partition);

/* ---- log/snapshot_file.c ---- */
/* Write the log's producers to <end>.snapshot, behind the caller's back and if there is room, when `seal_seq` is
 * durable. */
void mr_snapshot_write(struct mr_storage_core *core, struct mr_partition *partition, uint64_t seal_seq);

/* ---- log/tail.c ---- */
/* Room for `bytes` more in tail runs; false: no memory now. */
bool mr_tail_reserve(struct mr_storage_core *core, struct mr_partition *partition, uint32_t bytes);
/* Where the next `bytes` of the tail will lie, reserved before: in how many runs, 0: in more than `max`. */
uint32_t mr_tail_lend(struct mr_storage_core *core, const struct mr_partition *partition, uint32_t bytes,
                      struct mr_journal_lent *out, uint32_t max);
/* A commit is written from the run, and is no more. */
void mr_tail_keep(struct mr_page *run);
void mr_tail_let_go(struct mr_storage_core *core, struct mr_page *run);
/* Copy the payload's range to the end of the tail; reserved before. */
void mr_tail_append(struct mr_storage_core *core, struct mr_partition *partition,
                    const struct mr_journal_payload *payload, int64_t batch_offset, uint64_t seq);
/* Start reading the last block of a cold tail. */
void mr_tail_hydrate(struct mr_storage_core *core, struct mr_partition *partition);
/* Drop the runs at the end that are empty. */
void mr_tail_trim(struct mr_storage_core *core, struct mr_partition *partition);
/* Drop all runs of a log (lent ones are freed when they come back). */
void mr_tail_drop(struct mr_storage_core *core, struct mr_partition *partition);
void mr_tail_drop_segment(struct mr_storage_core *core, const struct mr_segment *segment);
struct mr_page *mr_tail_page_get(struct mr_storage_core *core, uint32_t order);
/* Lend the run: the reference that comes back with mr_tail_release. */
uint64_t mr_tail_pin(struct mr_storage_core *core, struct mr_page *run);
void     mr_tail_release(struct mr_storage_core *core, uint64_t reference);
/* How much of the cache readers may hold: the rest is for appends, whatever readers do (architecture 4.3). */
static inline uint64_t mr_tail_pin_max(const struct mr_storage_core *core)
{
    return core->plan.cache_bytes / 8;
}

/* ---- log/read.c ---- */
void mr_read_op_start(struct mr_storage_core *core, struct mr_read_op *op);
void mr_read_continue(struct mr_storage_core *core, struct mr_read_op *op);
/* ---- log/cold_read.c ---- */
void mr_cold_read_start(struct mr_storage_core *core, struct mr_read_op *op, uint32_t index);
#define MR_COLD_REFERENCE (1ull << 63)
#define MR_COLD_TURN_BYTES (256u << 10) /* about 50 us of sums, and what is sent of it */

/* ---- log/watch.c ---- */
void mr_watch_add(struct mr_storage_core *core, const struct mr_plane_msg *msg);
void mr_watch_remove(struct mr_storage_core *core, const struct mr_plane_msg *msg);
void mr_watch_fire(struct mr_storage_core *core, struct mr_partition *partition, bool is_all);
void mr_watch_flush(struct mr_storage_core *core);

/* ---- log/log_open.c, log_drop.c, list_offsets.c, retention.c, recover.c, clean_stop.c ---- */
void mr_log_open_start(struct mr_storage_core *core, struct mr_open_op *op);
/* A partition of a new id that nobody else may open; NULL: no memory. */
struct mr_partition *mr_log_new(struct mr_storage_core *core, const struct mr_uuid *topic_id, int32_t partition,
                                struct mr_str dir_name);
void mr_log_drop_start(struct mr_storage_core *core, struct mr_drop_op *op);
void mr_log_drop_ready(struct mr_storage_core *core, struct mr_drop_op *op);
/* Whether the directory of this name is a dropped log's that is just being renamed. */
bool mr_log_is_renaming(const struct mr_storage_core *core, struct mr_str dir_name);
/* Whose directory it is, by its partition.metadata. Blocking, at start only. */
enum mr_log_mark {
    MR_LOG_MARK_NONE, /* there is no such file */
    MR_LOG_MARK_TORN, /* it was not durable when the power went */
    MR_LOG_MARK_SAME,
    MR_LOG_MARK_OTHER,
};
/* _SAME: *topic_id is what it says. */
enum mr_log_mark mr_log_directory_topic(struct mr_storage_core *core, struct mr_str dir_name, struct mr_uuid *topic_id);
enum mr_log_mark mr_log_directory_mark(struct mr_storage_core *core, struct mr_str dir_name,
                                       const struct mr_uuid *topic_id);
enum mr_err mr_log_remove_directory(struct mr_storage_core *core, struct mr_str dir_name,
                                    const struct mr_uuid *topic_id);
void mr_list_offsets_start(struct mr_storage_core *core, struct mr_list_offsets_op *op);
void mr_list_offsets_continue(struct mr_storage_core *core, struct mr_list_offsets_op *op);
/* A search ended: error, and the epoch of the offset that was found. */
void mr_list_offsets_found(const struct mr_partition *partition, struct mr_list_offsets_entry *entry, enum mr_err err);
/* Search for the operation's current entry; it goes on by itself afterwards. False: no task is free. */
bool mr_time_search_start(struct mr_storage_core *core, struct mr_list_offsets_op *op,
                          struct mr_partition *partition);
/* Ask the batches whether the segment's largest timestamp is as its time index says; then mr_retention_proved. False: no
 * task is free. */
bool mr_time_prove_start(struct mr_storage_core *core, struct mr_segment *segment);
void mr_txn_check_start(struct mr_storage_core *core, struct mr_txn_check_op *op);
void mr_producers_start(struct mr_storage_core *core, struct mr_producers_op *op);
void mr_epoch_end_start(struct mr_storage_core *core, struct mr_epoch_end_op *op);
void mr_delete_records_start(struct mr_storage_core *core, struct mr_delete_records_op *op);
void mr_delete_records_continue(struct mr_storage_core *core, struct mr_delete_records_op *op);
void mr_log_stat_start(struct mr_storage_core *core, struct mr_log_stat_op *op);
void mr_log_stat_answer(struct mr_storage_core *core, struct mr_log_stat_op *op);
void mr_configure_start(struct mr_storage_core *core, struct mr_configure_op *op);
void mr_move_start(struct mr_storage_core *core, struct mr_move_op *op);
void     mr_retention_turn(struct mr_storage_core *core);
/* is_open: the device did not answer, nothing is proven. */
void mr_retention_proved(struct mr_storage_core *core, struct mr_partition *partition, bool is_open);
uint64_t mr_retention_deadline_ns(const struct mr_storage_core *core);
void mr_recover_start(struct mr_storage_core *core, struct mr_recover_op *op);
/* The other cores have their copies: drop the logs that were recovered for them. */
void mr_recover_give(struct mr_storage_core *core);
void mr_clean_stop_start(struct mr_storage_core *core, struct mr_stop_op *op);
/* While core->stop.op is set, instead of everything else in a turn. Returns whether to come again at once. */
bool mr_clean_stop_turn(struct mr_storage_core *core);
/* Blocking: indexes, snapshot of producers and epochs of a log into its files, so that they alone tell the truth. */
enum mr_err mr_log_close_files(struct mr_storage_core *core, struct mr_partition *partition);
/* Behind that, when what it wrote is durable: the epochs take their old file's place. */
enum mr_err mr_log_close_epochs(struct mr_storage_core *core, struct mr_partition *partition);

/* ---- log/cleaner.c ---- */
/* A slice of compaction. Returns whether there was work. */
bool     mr_cleaner_turn(struct mr_storage_core *core);
uint64_t mr_cleaner_deadline_ns(const struct mr_storage_core *core);
/* Clean stop, every turn: true when nothing is under way any more. */
bool mr_cleaner_stop(struct mr_storage_core *core);
/* The log ends. */
void mr_cleaner_forget(struct mr_storage_core *core, const struct mr_partition *partition);
/* The segment's files are changing places just now: who wants to read them waits. */
bool mr_cleaner_is_gated(const struct mr_storage_core *core, const struct mr_segment *segment);

/* ---- log/space.c ---- */
/* Blocking: ask the file system, before the first append. */
enum mr_err mr_space_begin(struct mr_storage_core *core);
void        mr_space_ask(struct mr_storage_core *core);
void        mr_space_turn(struct mr_storage_core *core);
uint64_t    mr_space_deadline_ns(const struct mr_storage_core *core);
/* Whether an append of so many bytes is admitted; take them when it is made. */
bool mr_space_has(const struct mr_storage_core *core, uint32_t bytes);
void mr_space_take(struct mr_storage_core *core, uint64_t bytes);
/* An append was not admitted: the file system is asked until there is room for one like it. */
void mr_space_refuse(struct mr_storage_core *core, uint32_t bytes);
/* A segment cannot grow, or can again. */
void mr_space_short(struct mr_storage_core *core, bool is_short);
/* A task that writes an index found none: it waits, unless its log is being deleted: that may be what makes some. */
bool mr_space_wait(struct mr_storage_core *core, struct mr_task *task);
bool mr_space_is_full(const struct mr_storage_core *core);

/* ---- log/burial.c ---- */
/* A log has segments that are gone. */
void mr_burial_note(struct mr_storage_core *core, struct mr_partition *partition);
/* The segment's files are renamed: out of the log with it, they are removed after the delay. */
void mr_burial_renamed(struct mr_storage_core *core, struct mr_segment *segment);
/* A log ends: its directory goes as a whole. */
void mr_burial_forget(struct mr_storage_core *core, struct mr_partition *partition);
/* Remove the directory `name` (copied), whose name ends in -delete, after the delay. Room was asked for before. */
void mr_burial_directory(struct mr_storage_core *core, const char *name, int64_t delay_ms);
bool mr_burial_has_room(struct mr_storage_core *core);
void mr_burial_turn(struct mr_storage_core *core);
uint64_t mr_burial_deadline_ns(const struct mr_storage_core *core);

/* ---- journal/demux.c ---- */
void mr_demux_note_dirty(struct mr_storage_core *core, struct mr_partition *partition, uint64_t seq);
/* The log may have something to write: more of it is durable, or memory is wanted. */
void mr_demux_ready(struct mr_storage_core *core, struct mr_partition *partition);
void mr_demux_turn(struct mr_storage_core *core);
uint64_t mr_demux_deadline_ns(const struct mr_storage_core *core);
/* Something that needed space did not get it: segments are written again a second later. */
void mr_demux_pause(struct mr_storage_core *core);
/* Clean stop: start whatever writes are missing, to the end of every log, but for the rest of those with little. */
void mr_demux_flush(struct mr_storage_core *core);
/* Clean stop, blocking, when nothing is in flight: that rest. A syncfs follows. */
enum mr_err mr_demux_rest(struct mr_storage_core *core, struct mr_partition *partition);

#endif
