/*
 * meta_checkpoint: the state of the cluster as a checkpoint of the metadata log, so that the log does not grow for ever and
 * a start does not read all of it.
 *
 *   due      metadata.log.max.record.bytes.between.snapshots since the last one, or
 *            metadata.log.max.snapshot.interval.ms since the first record after it
 *   write    a slice of records a turn, into memory; nothing is decided meanwhile, so it is one state
 *   store    <end offset>-<epoch>.checkpoint, whole or not at all (meta_file.h)
 *   trim     the log begins where the checkpoint before this one ends, older ones go
 *
 * Two are kept with the log behind the older one: whoever reads the log from there, or finds the newest one damaged, has
 * what he needs. A state with records of kinds that this broker only counts (quotas, access rules) is not written: they
 * would be lost. What fails is told and tried again later; the log has everything.
 *
 * Thread: control. Source: Apache Kafka 4.4, KIP-630: SnapshotWriter, RecordsSnapshotWriter; kraft-broker facts, section 4.
 */
#ifndef MILLRACE_CONTROL_META_CHECKPOINT_H
#define MILLRACE_CONTROL_META_CHECKPOINT_H

#include "control_private.h"
#include "metadata/meta_file.h"
#include "metadata/meta_write.h"

enum mr_meta_checkpoint_step {
    MR_META_CHECKPOINT_IDLE,
    MR_META_CHECKPOINT_WRITING,
    MR_META_CHECKPOINT_STORING, /* and what follows */
};

struct mr_meta_checkpoint {
    enum mr_meta_checkpoint_step step;
    struct mr_meta_file          file;
    struct mr_meta_cursor        cursor;
    uint8_t                     *bytes; /* heap: batches so far */
    size_t                       size;
    size_t                       used;
    int64_t                      next_offset; /* in it */
    int64_t                      end_offset;  /* of the log that it stands for */
    int32_t                      epoch;
    int64_t                      keep_offset; /* of the one before: what is older goes */
    bool                         is_refusal_told;
};

bool mr_meta_checkpoint_init(struct mr_control *control);

/* A slice. Whether there was work. */
bool     mr_meta_checkpoint_turn(struct mr_control *control, struct mr_now now);
uint64_t mr_meta_checkpoint_deadline_ns(const struct mr_control *control);

#endif
