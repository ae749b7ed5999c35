/*
 * checkpoint: Kafka's offset checkpoints in the root of a log directory.
 *
 *     0                      version
 *     2                      entries
 *     orders 0 1000          topic, partition, offset
 *     orders 1 23
 *
 * Read whole at the start into memory of the caller's, looked up by directory name ("orders-0"). A file that is
 * damaged counts for nothing, as with Kafka. Blocking. Source: Kafka's OffsetCheckpointFile.
 */
#ifndef MILLRACE_STORAGE_CHECKPOINT_H
#define MILLRACE_STORAGE_CHECKPOINT_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/base/map.h"
#include "millrace/base/str.h"
#include "millrace/disk.h"

#define MR_CHECKPOINT_RECOVERY  "recovery-point-offset-checkpoint"
#define MR_CHECKPOINT_HIGH      "replication-offset-checkpoint"
#define MR_CHECKPOINT_LOG_START "log-start-offset-checkpoint"
#define MR_CHECKPOINT_CLEANER   "cleaner-offset-checkpoint"

struct mr_checkpoint_entry {
    struct mr_str               dir_name;
    int64_t                     offset;
    struct mr_checkpoint_entry *next; /* with the same hash */
};

struct mr_checkpoint {
    struct mr_map               by_name;
    struct mr_checkpoint_entry *entries;
    uint32_t                    entry_count;
    uint32_t                    entry_max;
    char                       *text;
    uint32_t                    text_max;
};

/* Bytes of arena that init takes (untouched until a file is loaded). */
size_t mr_checkpoint_bytes(uint32_t entry_max);
void   mr_checkpoint_init(struct mr_checkpoint *checkpoint, struct mr_arena *arena, uint32_t entry_max);

/* Read `name` in directory `root`. MR_ERR_NOT_FOUND, MR_ERR_CORRUPT, MR_ERR_TOO_LARGE (more than entry_max), MR_ERR_IO
 * leave it empty. Called once. */
enum mr_err mr_checkpoint_load(struct mr_checkpoint *checkpoint, struct mr_disk *disk, int32_t root,
                               const char *name);

/* As if there were no file. */
void mr_checkpoint_forget(struct mr_checkpoint *checkpoint);

/* -1: there is none. */
int64_t mr_checkpoint_find(const struct mr_checkpoint *checkpoint, struct mr_str dir_name);

#endif
