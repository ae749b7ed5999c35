/*
 * log_files: reading a partition directory. For files under log/ only.
 *
 *   complete    a clean stop left it, or recovery did: metadata, epochs, the newest snapshot; of the active segment
 *               the indexes, and the batches behind their last entries. A segment without indexes gets them.
 *   known       the journal says where the log ended: nothing beyond counts, whatever the files hold
 *   verified    nobody closed it: from the recovery point on every batch is read and summed up, and indexes,
 *               epochs and producers come from the batches
 */
#ifndef MILLRACE_STORAGE_LOG_FILES_H
#define MILLRACE_STORAGE_LOG_FILES_H

#include "storage_core.h"

/* The end of a log: `offset` is what follows its last batch, byte `pos` of segment `base` where that begins. */
struct mr_log_known {
    int64_t  base;
    int64_t  offset;
    uint32_t pos;
    bool     is_state; /* epochs, producers and times are known from a state too */
};

/* How to read; lives as long as the task. */
struct mr_log_load {
    const struct mr_log_known *known; /* NULL: the files tell */
    bool                       is_verified;
    int64_t                    recovery_point; /* is_verified: below it batches are believed */
    bool                       is_start_known; /* the checkpoint of log starts is not asked */
    int64_t                   *snapshot_end; /* raised, unless NULL, to where the newest snapshot of producers is, believed or not */
    bool                      *is_marked; /* told, unless NULL: its partition.metadata is there and names its topic */
};

/*
 * A task that fills `p` (new, without segments) from its directory, then calls `loaded`: MR_OK;
 * MR_ERR_NOT_FOUND when there is no such directory; MR_ERR_EXISTS when it is another topic's; MR_ERR_CORRUPT.
 * NULL: no task is free. The caller sets task->op and starts it. `how` NULL: a complete directory.
 *
 * Segments that known or verified cut off stay in p->segments behind p->active, for the caller to remove.
 */
struct mr_task *mr_log_load_task(struct mr_storage_core *core, struct mr_partition *p, const struct mr_log_load *how,
                                 void (*loaded)(struct mr_storage_core *, struct mr_task *, enum mr_err));

/* Until control says what holds: Kafka's defaults, as far as indexes need them. */
void mr_log_provisional_config(struct mr_partition *p);

/* "00000000000000000042.log" with suffix ".log": 42. */
bool mr_log_file_parse(const char *name, const char *suffix, int64_t *base);

/* "topic-7": both parts; false for any other name. */
bool mr_log_dir_parse(struct mr_str name, struct mr_str *topic, int32_t *partition);

/* Blocking: remove the files of the segments behind p->active, and the segments. */
enum mr_err mr_log_cut_segments(struct mr_storage_core *core, struct mr_partition *p);

#endif
