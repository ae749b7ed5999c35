/*
 * storage: a storage core, opaque, and the operations that other planes ask of it.
 *
 * An operation is a struct in its sender's memory that travels as MR_PLANE_STORAGE_OP and comes back
 * as MR_PLANE_STORAGE_DONE; from send to answer it belongs to storage, with everything it points
 * at. One operation goes to one core and may concern many logs: each entry has its own result.
 *
 * A log is a partition's replica on this broker. It is named by a 64-bit log id, drawn when its
 * directory is created and never reused (also what journal entries carry).
 *
 * Offsets: `high_watermark` is the end of what may be seen (== durable end on a single replica);
 * `log_end` is the end of what has been assigned.
 */
#ifndef MILLRACE_STORAGE_H
#define MILLRACE_STORAGE_H

#include "millrace/base/err.h"
#include "millrace/base/hash.h"
#include "millrace/base/list.h"
#include "millrace/base/span.h"
#include "millrace/base/str.h"
#include "millrace/base/time.h"
#include "millrace/base/trace.h"
#include "millrace/disk.h"
#include "millrace/plane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_TOPIC_NAME_MAX 249 /* Kafka's limit, in characters of [a-zA-Z0-9._-] */

/* ---- Configuration of one log: topic settings over broker defaults, resolved by control ---- */

enum mr_timestamp_type {
    MR_TIMESTAMP_CREATE_TIME,
    MR_TIMESTAMP_LOG_APPEND_TIME,
};

enum mr_ack_mode {
    MR_ACK_SYNC,  /* answer after the flush */
    MR_ACK_WRITE, /* answer after the write */
};

enum mr_validate {
    MR_VALIDATE_FRAMING, /* header, CRC, counts, record framing of uncompressed batches */
    MR_VALIDATE_HEADER,
    MR_VALIDATE_FULL, /* compressed batches are decoded too */
};

struct mr_log_config {
    int64_t segment_bytes;       /* segment.bytes */
    int64_t segment_ms;          /* segment.ms */
    int64_t segment_jitter_ms;   /* segment.jitter.ms */
    int64_t segment_index_bytes; /* segment.index.bytes */
    int64_t index_interval_bytes;
    int64_t retention_ms;    /* -1: for ever */
    int64_t retention_bytes; /* -1: no limit */
    int64_t file_delete_delay_ms;
    int64_t max_message_bytes;
    int64_t timestamp_before_max_ms; /* message.timestamp.before.max.ms */
    int64_t timestamp_after_max_ms;
    int64_t producer_expiration_ms; /* producer.id.expiration.ms, a broker setting */
    int64_t delete_retention_ms;
    int64_t min_compaction_lag_ms;
    int64_t max_compaction_lag_ms;
    double  min_cleanable_dirty_ratio;
    int32_t min_insync_replicas;
    int8_t  compression_type; /* -1: producer; else the codec number 0..4 */
    int32_t compression_level; /* of that codec */
    enum mr_timestamp_type timestamp_type;
    enum mr_ack_mode       ack;
    enum mr_validate       validate;
    bool                   is_retention_by_append; /* millrace.retention.clock=append: records' own times do not count */
    bool                   is_cleanup_delete;
    bool                   is_cleanup_compact;
};

/* ---- Operations ---- */

enum mr_storage_kind {
    MR_STORAGE_APPEND = 1,     /* struct mr_append_op */
    MR_STORAGE_READ,           /* struct mr_read_op */
    MR_STORAGE_LIST_OFFSETS,   /* struct mr_list_offsets_op */
    MR_STORAGE_EPOCH_END,      /* struct mr_epoch_end_op */
    MR_STORAGE_DELETE_RECORDS, /* struct mr_delete_records_op */
    MR_STORAGE_RECOVER,        /* struct mr_recover_op: control, to core 0 of a directory, first of all */
    MR_STORAGE_OPEN,           /* struct mr_open_op: control */
    MR_STORAGE_CONFIGURE,      /* struct mr_configure_op: control */
    MR_STORAGE_DROP,           /* struct mr_drop_op: control; answered when durable */
    MR_STORAGE_LOG_STAT,       /* struct mr_log_stat_op: DescribeLogDirs */
    MR_STORAGE_STOP,           /* struct mr_stop_op: control, last of all */
    MR_STORAGE_TXN_CHECK,      /* struct mr_txn_check_op: Produce, before the batches of a transaction */
    MR_STORAGE_PRODUCERS,      /* struct mr_producers_op: DescribeProducers */
    MR_STORAGE_MOVE,           /* struct mr_move_op: control, a step of a log's move to another directory */
    MR_STORAGE_OFFLINE,        /* struct mr_storage_op: control; the directory is not served from now on */
};

/* Embedded first in each operation. */
struct mr_storage_op {
    enum mr_storage_kind kind;
    enum mr_err          err; /* of the whole operation; entries have their own */
    uint32_t             from; /* endpoint that gets the answer; set by storage on receipt */
    uint32_t             pending; /* storage's */
    uint64_t             seq;     /* storage's */
    struct mr_list       link;    /* storage's while it has the operation; the sender's otherwise */
    void                *user;    /* the sender's; storage never looks at it */
};

enum mr_append_origin {
    MR_APPEND_CLIENT,      /* producer checks apply */
    MR_APPEND_COORDINATOR, /* our own records: sequences are not checked */
    MR_APPEND_CONTROLLER,  /* metadata log: control batches allowed, epoch as given */
    MR_APPEND_COPY,        /* of another log's batch: it keeps its offsets and its epoch */
};

/* One record batch for one log. */
struct mr_append_entry {
    uint64_t              log_id;
    struct mr_chain       batch; /* exactly one batch v2, checked by mr_batch_check */
    int32_t               leader_epoch; /* expected, -1: not checked */
    enum mr_append_origin origin;
    int16_t               txn_version; /* of a marker: which rule its epoch follows */
    uint64_t              guard;       /* of a transaction's batch: from TXN_CHECK; 0: none */

    /* results */
    enum mr_err err;
    bool        is_duplicate;       /* base_offset is that of the batch stored before */
    int64_t     base_offset;        /* -1 on error */
    int64_t     log_append_time_ms; /* -1 with CreateTime */
    int64_t     log_start_offset;
    uint64_t    seq; /* storage's */
};

/* Answered when every entry is durable by its log's ack mode (acks 0: when offsets are assigned). */
struct mr_append_op {
    struct mr_storage_op    op;
    int16_t                 acks; /* -1, 0, 1 */
    uint32_t                entry_count;
    struct mr_append_entry *entries;
};

#define MR_PAGE_NONE 0ull /* a span that was copied into the reader's memory: nothing to release */

/* Bytes lent by a read: valid until the page is released (one RELEASE per span with a page). */
struct mr_lent_span {
    struct mr_span span;
    uint64_t       page;
};

enum mr_isolation {
    MR_READ_UNCOMMITTED = 0,
    MR_READ_COMMITTED = 1,
};

/* An aborted transaction, as a reader must know it. */
struct mr_aborted_range {
    int64_t producer_id;
    int64_t first_offset;
};

struct mr_read_entry {
    uint64_t log_id;
    int64_t  offset;
    uint32_t bytes_max;
    int32_t  current_leader_epoch; /* -1: not checked */
    bool     is_first_batch_whole; /* return the first batch even when it is larger than bytes_max */

    /* results */
    enum mr_err err;
    int64_t     high_watermark;
    int64_t     last_stable_offset;
    int64_t     log_start_offset;
    uint32_t    span_first; /* in the operation's spans */
    uint32_t    span_count;
    uint32_t    bytes; /* whole batches; 0 at the end of the log */
    uint32_t    aborted_first; /* in the operation's list, with records among those read */
    uint32_t    aborted_count;
    int64_t     limit; /* storage's: batches from here on are not read */
    int64_t     from;  /* storage's: where the first batch is looked for, when offsets are missing */
};

/* Room for aborted transactions that a read of committed records must bring, or it may get nowhere. */
#define MR_ABORTED_ROOM 1024u

/*
 * Whole batches from many logs, in the order of the entries, up to bytes_max in all: when an entry has
 * returned something, is_first_batch_whole of the later ones is void (KIP-74). Small spans are
 * copied into copy_buffer while it has room. Answered at once from memory, later from disk.
 */
struct mr_read_op {
    struct mr_storage_op  op;
    uint32_t              bytes_max;
    enum mr_isolation     isolation;
    uint32_t              entry_count;
    struct mr_read_entry *entries;
    struct mr_lent_span  *spans;
    uint32_t              span_max;
    uint32_t              span_count; /* [out] */
    uint8_t              *copy_buffer;
    uint32_t              copy_max;
    uint32_t              copy_used; /* [out] */
    uint32_t              bytes;     /* [out] in all */
    struct mr_aborted_range *aborted; /* of committed reads: all partitions together */
    uint32_t              aborted_max;
    uint32_t              aborted_count; /* [out] */
};

enum mr_list_timestamp { /* Kafka's special timestamps */
    MR_LIST_LATEST = -1,
    MR_LIST_EARLIEST = -2,
    MR_LIST_MAX_TIMESTAMP = -3,
    MR_LIST_EARLIEST_LOCAL = -4,
    MR_LIST_LATEST_TIERED = -5,
    MR_LIST_EARLIEST_PENDING = -6,
};

struct mr_list_offsets_entry {
    uint64_t          log_id;
    int64_t           timestamp; /* or one of the above */
    int32_t           current_leader_epoch;
    enum mr_isolation isolation;

    enum mr_err err;
    int64_t     offset;           /* -1: none */
    int64_t     offset_timestamp; /* -1: none */
    int32_t     leader_epoch;
};

struct mr_list_offsets_op {
    struct mr_storage_op          op;
    uint32_t                      entry_count;
    struct mr_list_offsets_entry *entries;
};

/* Whether the first batch of a transaction may come: before the coordinator is asked for it. */
struct mr_txn_check_entry {
    uint64_t log_id;
    int64_t  producer_id;
    int32_t  base_sequence;
    int16_t  producer_epoch;
    bool     is_strict; /* transaction version 2: a producer that is not known begins at sequence 0 */

    enum mr_err err;
    uint64_t    guard; /* 0: the transaction is open here, there is nothing to ask */
};

struct mr_txn_check_op {
    struct mr_storage_op       op;
    uint32_t                   entry_count;
    struct mr_txn_check_entry *entries;
};

struct mr_producer_info {
    int64_t producer_id;
    int64_t last_timestamp;
    int64_t txn_first_offset; /* -1: no open transaction */
    int32_t last_sequence;    /* -1: none */
    int32_t coordinator_epoch;
    int16_t producer_epoch;
};

/* The producers that one log remembers. */
struct mr_producers_op {
    struct mr_storage_op     op;
    uint64_t                 log_id;
    struct mr_producer_info *infos;
    uint32_t                 info_max;
    uint32_t                 info_count; /* [out] */
};

struct mr_epoch_end_entry {
    uint64_t log_id;
    int32_t  current_leader_epoch;
    int32_t  leader_epoch;

    enum mr_err err;
    int32_t     end_epoch;  /* -1: unknown */
    int64_t     end_offset; /* -1: unknown */
};

struct mr_epoch_end_op {
    struct mr_storage_op       op;
    uint32_t                   entry_count;
    struct mr_epoch_end_entry *entries;
};

struct mr_delete_records_entry {
    uint64_t log_id;
    int64_t  offset; /* -1: the high watermark */

    enum mr_err err;
    int64_t     low_watermark; /* the log start offset after it */
};

/* Answered when the new log start is durable. */
struct mr_delete_records_op {
    struct mr_storage_op            op;
    uint32_t                        entry_count;
    struct mr_delete_records_entry *entries;
};

/*
 * A directory's core 0, first of all: lock and recover it: every journal ring found in it is replayed into the
 * segments, the guard is set, the first journal files exist.
 *
 * Then each other core of that directory, with `found_by` as core 0 answered it, and nothing else sent to core 0
 * meanwhile: it takes over the logs that it owns. After all answers OPEN is possible, on the core that owns the log.
 */
struct mr_recover_op {
    struct mr_storage_op op;
    struct mr_storage_core *found_by; /* [in] NULL for core 0; [out] the core that recovered */
    bool                 was_clean;   /* [out] .kafka_cleanshutdown was there */
    uint32_t             log_count;   /* [out] partition directories found */
    uint64_t             redone_bytes; /* [out] from the journal */
    char                 why[256];    /* [out] on an error: what, where and what to do about it */
};

/*
 * Which of its directory's cores owns a log: a topic's partitions in turn, so that every topic is spread over all of
 * them. Nothing is recorded: the rings are empty when a start computes it anew, so the number of cores may change.
 * Control opens the metadata log first and alone: it is core 0's.
 */
static inline uint32_t mr_storage_owner(struct mr_str topic, int32_t partition, uint32_t core_count)
{
    static const struct mr_hash_key key = {.k0 = 0x6f776e6572, .k1 = 0x636f7265};
    return mr_str_equal(topic, MR_STR("__cluster_metadata"))
               ? 0
               : (uint32_t)((mr_hash_str(&key, topic) + (uint32_t)partition) % core_count);
}

/* Open the log of (topic, partition); create its directory when absent. */
struct mr_open_op {
    struct mr_storage_op        op;
    struct mr_str               topic; /* copied */
    struct mr_uuid              topic_id;
    int32_t                     partition;
    int32_t                     leader_epoch; /* an EPOCH_START is journaled when it is newer */
    const struct mr_log_config *config;       /* copied */
    bool                        is_internal;  /* metadata and coordinator logs: append admission uses the reserve */
    bool                        is_copy;      /* it is made as an unfinished copy of another log, and marked as such */
    int64_t                     start_offset; /* where it begins when it is made */
    bool                        is_search;    /* only if it is there: else MR_ERR_NOT_FOUND, and nothing is made */
    bool                        may_block;    /* nobody is served yet: read its files here and now, which is quicker */

    uint64_t log_id; /* [out] */
    int64_t  log_start_offset;
    int64_t  log_end_offset;
    bool     is_created;
    bool     is_unfinished; /* it has the mark of a copy */
};

/*
 * A log's move to another directory, in the hands of control (control/metadata/log_move.h). The copy is a log as any
 * other, with a mark in its directory until it is the one that counts.
 */
enum mr_move_step {
    MR_MOVE_HOLD,    /* the original takes no more appends (MR_ERR_NOT_LEADER); answered when all that it has is durable */
    MR_MOVE_RELEASE, /* it does again */
    MR_MOVE_START,   /* the copy starts at log_start_offset; answered when that is durable */
    MR_MOVE_SETTLE,  /* the copy's mark goes */
};

struct mr_move_op {
    struct mr_storage_op op;
    uint64_t             log_id;
    enum mr_move_step    step;
    int64_t              log_start_offset; /* [in] of START; [out] of HOLD */
    int64_t              log_end_offset;   /* [out] of HOLD */
};

struct mr_configure_op {
    struct mr_storage_op        op;
    uint64_t                    log_id;
    const struct mr_log_config *config; /* copied */
    int32_t                     leader_epoch; /* -1: as it was */
};

/*
 * log_id 0: of a log that could not be opened, or that nobody asked for, by its name. What is in its directory goes,
 * whatever it is like, unless that is another topic's: MR_ERR_EXISTS.
 */
struct mr_drop_op {
    struct mr_storage_op op;
    uint64_t             log_id;
    struct mr_str        topic; /* as in mr_open_op */
    int32_t              partition;
    struct mr_uuid       topic_id;
};

struct mr_log_stat_entry {
    uint64_t    log_id;
    enum mr_err err;
    int64_t     size_bytes; /* of all segments */
    int64_t     log_start_offset;
    int64_t     log_end_offset;
    int64_t     high_watermark;
};

struct mr_log_stat_op {
    struct mr_storage_op      op;
    uint32_t                  entry_count;
    struct mr_log_stat_entry *entries;
    uint64_t                  space_total_bytes; /* [out] of the directory's file system */
    uint64_t                  space_free_bytes;
};

/* Drain the journal into the segments, leave what Kafka's clean stop leaves, close everything. The last
 * core of a directory to be stopped is core 0 (is_last): it writes checkpoints of all, removes the guard, leaves the marker. */
struct mr_stop_op {
    struct mr_storage_op op;
    bool                 is_last;
    int64_t              broker_epoch; /* for the marker: {"version":0,"brokerEpoch":...}; -1: none */
    /* Logs of which corruption took entries: the guard stays for their sake, so that no start forgets it. Accepted: the
     * next start opens them with what is left. */
    bool     is_loss_accepted;
    uint32_t lost_logs; /* [out] */
};

/* ---- The core ---- */

struct mr_log;
struct mr_storage_core;

#define MR_CLEAN_IO_UNIT  4096u
#define MR_CLEAN_IO_SLACK (256u << 10) /* beyond the largest batch: blocks of a codec that do not shrink */

/* Run-time sizes, from the plan. */
struct mr_storage_plan {
    uint32_t logs_max;
    uint64_t cache_bytes;        /* tail pages and hot segments */
    uint64_t cold_bytes;         /* pages for cold reads */
    uint32_t journal_file_bytes; /* millrace.journal.file.bytes */
    uint32_t journal_files_max;
    uint32_t producers_max; /* producer ids with state, per core */
    uint32_t txns_open_max; /* transactions open in one log; 0: 1,000 */
    uint32_t aborted_max;   /* aborted transactions in segments, per core; 0: 65,536 */
    uint64_t disk_reserve_bytes;
    uint32_t segments_max; /* segments of all logs of this core */
    int64_t  retention_check_ms; /* log.retention.check.interval.ms */
    int64_t  first_check_ms;     /* log.initial.task.delay.ms: after a start, when the interval is not shorter */
    int64_t  producer_check_ms;  /* producer.id.expiration.check.interval.ms */
    /* Compaction, log.cleaner.*: */
    uint64_t clean_map_bytes;   /* of the keys; 0: logs are not compacted */
    double   clean_load;        /* how full the map may become */
    uint32_t clean_io_bytes;    /* a batch fits; a multiple of MR_CLEAN_IO_UNIT */
    int64_t  clean_backoff_ms;  /* between two looks when nothing is to be done */
    uint64_t clean_bytes_per_s; /* read and written; 0: no limit */
    /* millrace.scrub.*: */
    uint64_t scrub_bytes_per_s; /* 0: segments are not scrubbed */
    int64_t  scrub_interval_ms; /* between the beginnings of two passes over all of them */
};

struct mr_storage_params {
    const struct mr_storage_plan  *plan;
    const struct mr_endpoints     *endpoints;
    uint32_t                       core; /* which of its directory's storage cores: also the number of its journal */
    struct mr_port                *port;
    struct mr_disk                *disk;
    struct mr_log                 *log;
    struct mr_trace               *trace; /* may be NULL */
    struct mr_arena               *arena; /* everything comes out of it, at init */
    const char                    *log_dir;
    int32_t                        node_id;
    uint64_t                       seed; /* for generations and log ids */
    const _Atomic uint64_t        *stop_hurry; /* non-zero: a second SIGTERM came */
};

struct mr_memory {
    void *base;
    size_t bytes;
};

/* Bytes of arena that init takes (most of them untouched). */
size_t mr_storage_core_bytes(const struct mr_storage_plan *plan);

/* Make a core in its arena; what the params point at outlives it. */
struct mr_storage_core *mr_storage_core_init(const struct mr_storage_params *params);

/* One turn: mail in, completions, journal, background slice, mail out. Returns whether there was work. */
bool mr_storage_core_turn(struct mr_storage_core *core, struct mr_now now);

/* Memory that only recovery has used, once it is done and before anything else uses it; no bytes: none. Its contents may go. */
struct mr_memory mr_storage_core_spent(const struct mr_storage_core *core);

/* When the next turn has something to do if nothing arrives; MR_NEVER: never. */
uint64_t mr_storage_core_deadline_ns(const struct mr_storage_core *core);

/* Counters of one core, for logs, tests and `millrace` metrics. */
struct mr_storage_stats {
    uint64_t appends, append_records, append_bytes, commits, commit_bytes, commit_entries;
    uint64_t reads, read_bytes, cold_reads, cold_bytes, copied_bytes;
    uint64_t demux_bytes, recycled_files;
    uint64_t clean_rounds, clean_bytes; /* logs compacted, bytes looked at */
    uint64_t scrub_segments, scrub_bytes, scrub_damaged, side_cars; /* read whole, ranges that are lost, written */
    uint32_t logs;
    bool     is_offline, is_full;
};
void mr_storage_core_stats(const struct mr_storage_core *core, struct mr_storage_stats *out);

/* The real disk on a thread's ring (edge: storage/disk/disk_uring.c). */
struct mr_wait;
size_t          mr_disk_uring_bytes(void);
struct mr_disk *mr_disk_uring_init(void *memory, struct mr_wait *wait);
/* Whether it can be reaped without new completions: another disk on the same ring has taken this one's. */
bool mr_disk_uring_is_ready(const struct mr_disk *disk);
/* Nothing may be in flight. Ends the helper thread; the memory is the caller's again. */
void mr_disk_uring_deinit(struct mr_disk *disk);

#endif
