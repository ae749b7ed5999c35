/*
 * meta_log: the log __cluster_metadata-0 as its only voter writes it: loaded at start, then led.
 *
 *   load    newest checkpoint > log > last epoch and state as of its end
 *   lead    epoch + 1 into quorum-state (durable) > LEADER_CHANGE > activation records
 *   commit  the records of decisions as one batch: replayed at once, done when durable
 *
 * One batch is in flight at a time, and nothing is decided meanwhile: so whenever a decision is
 * made or an image is published, the state is the durable state. Batches are acknowledged by the
 * journal's flush, so the single voter's high watermark is its log end.
 *
 * Thread: control. Source: Apache Kafka 4.4, KRaft (KIP-595, 630, 853); kraft-broker facts 1, 4,
 * 16.
 */
#ifndef MILLRACE_CONTROL_META_LOG_H
#define MILLRACE_CONTROL_META_LOG_H

#include "control_private.h"
#include "metadata/meta_file.h"
#include "metadata/meta_snapshot.h"

typedef void mr_meta_log_done(struct mr_control *control, struct mr_now now);

struct mr_meta_log {
    struct mr_meta_file  file;
    struct mr_log_ref    log;
    struct mr_log_config config;
    int32_t              dir; /* handle of the partition's directory */
    char                 path[512];

    int64_t log_start;
    int64_t next_offset; /* the base offset of the next batch */
    int64_t load_offset; /* read up to here */
    int64_t load_end;
    int64_t snapshot_offset; /* of the newest checkpoint, 0: only the bootstrap one */
    int32_t snapshot_epoch;
    int32_t saved_epoch; /* of quorum-state */
    int32_t last_epoch;  /* of the log */
    int32_t epoch;       /* ours, once elected */

    uint64_t since_bytes; /* in the log behind the newest checkpoint */
    uint64_t since_ns;    /* when the first of them were written, by this process */
    int64_t  last_append_ms;

    struct mr_meta_kraft   kraft;
    struct mr_meta_records bootstrap; /* data records of the checkpoint at 0 */
    bool                   is_loading;
    bool                   is_appending;
    bool                   is_checkpointing; /* the state is being written: nothing changes it */

    mr_meta_log_done *done; /* of load or of the batch in flight */
    mr_meta_log_done *lead_done;
};

bool mr_meta_log_init(struct mr_control *control);

/* Open, read and replay; then `done`. Failures end in mr_control_fail, also below. */
void mr_meta_log_load(struct mr_control *control, struct mr_now now, mr_meta_log_done *done);

/* Begin a new epoch: `done` when the first batches of it are durable. */
void mr_meta_log_lead(struct mr_control *control, struct mr_now now, mr_meta_log_done *done);

/* Replay the records after `from`, those that the next commit will write there. False: failed. */
bool mr_meta_log_replay(struct mr_control *control, const struct mr_meta_records *records,
                        struct mr_meta_mark from);

/* Write at least one record, all replayed; `done` runs when they are durable. */
void mr_meta_log_commit(struct mr_control *control, struct mr_now now,
                        struct mr_meta_records *records, mr_meta_log_done *done);

static inline bool mr_meta_log_is_busy(const struct mr_meta_log *log)
{
    return log->is_appending || log->is_loading || log->is_checkpointing;
}

#endif
