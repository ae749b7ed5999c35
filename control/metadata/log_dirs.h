/*
 * log_dirs: the log directories of this broker: which of them serve, which one a partition's record names, which one a
 * new partition goes to, and the records that say so.
 *
 *   CreateTopics > mr_log_dirs_place: the directory with the fewest partitions > PartitionRecord.directories
 *   start        > mr_log_dirs_home: what the record names > local_logs looks there first
 *                > found elsewhere: mr_log_dirs_assign > PartitionChangeRecord
 *   a failed one > mr_log_dirs_fail: its storage cores refuse everything, its partitions are OFFLINE,
 *                  the registration names it no longer
 *
 * The first directory has the metadata log: without it the broker ends (control_loop.c), so it never fails here.
 * With one directory nothing of this does anything.
 *
 * Source: Apache Kafka 4.4, LogManager (placement), KIP-858 (directories in the metadata). Thread: control.
 */
#ifndef MILLRACE_CONTROL_LOG_DIRS_H
#define MILLRACE_CONTROL_LOG_DIRS_H

#include "control_private.h"
#include "metadata/controller.h"
#include "metadata/meta.h"

/* That a partition's log is in that directory now; `done` runs when the record is durable, the struct is its again. */
struct mr_log_dir_assign {
    struct mr_list link;
    struct mr_uuid topic_id;
    int32_t        partition;
    uint32_t       dir;
    void (*done)(struct mr_control *control, struct mr_now now, struct mr_log_dir_assign *assign);
};

struct mr_log_dirs {
    uint32_t          count;
    struct mr_log_dir dirs[MR_DIRS_MAX];
    uint32_t          placed[MR_DIRS_MAX]; /* by the decision that is being made */
    bool              is_registration_due; /* it names a directory that has failed since */
    struct mr_list    assigns;             /* to be written */
    struct mr_list    assigning;           /* in the batch that is being written */
};

bool mr_log_dirs_init(struct mr_control *control, const struct mr_control_params *params);

/* The storage core that has a partition's log when it lies in that directory. */
uint32_t mr_log_dirs_core(const struct mr_control *control, uint32_t dir, struct mr_str topic, uint32_t partition);

/* The directory that the partition's record names, or: */
#define MR_LOG_DIR_UNSAID (-1) /* none */
#define MR_LOG_DIR_OTHER  (-2) /* one that is not here, or could not be read when we started */
int32_t mr_log_dirs_home(const struct mr_control *control, const struct mr_meta_partition *partition);

/* Where the next new partition goes. */
uint32_t mr_log_dirs_place(struct mr_control *control);

/* Those that serve, in the order of their ids: for the registration. How many. */
int32_t mr_log_dirs_ids(const struct mr_control *control, struct mr_uuid ids[MR_DIRS_MAX]);

/* How many have failed; the first is not among them. */
uint32_t mr_log_dirs_offline(const struct mr_control *control);

/* A directory, not the first, has failed or could not be read: it is offline until the next start. */
void mr_log_dirs_fail(struct mr_control *control, uint32_t dir, const char *why);

/* Write down where a log is, with the caller's own `assign`, or nobody waiting; false: no memory. */
void mr_log_dirs_decide_soon(struct mr_control *control, struct mr_log_dir_assign *assign);
bool mr_log_dirs_assign(struct mr_control *control, const struct mr_uuid *topic_id, uint32_t partition, uint32_t dir);

/* For the controller: the records that are due, and that they are durable. */
bool mr_log_dirs_is_due(const struct mr_control *control);
void mr_log_dirs_decide(const struct mr_ctl *ctl, struct mr_meta_records *records);
void mr_log_dirs_durable(struct mr_control *control, struct mr_now now);

#endif
