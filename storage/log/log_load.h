/*
 * log_load: what the parts of a task that loads a log (log_files.h) share. For log_files.c, log_list.c, log_small.c and
 * log_batches.c only.
 *
 * Task fields: index: enum mr_load_file; a: read position; b: where the active segment's batches are read from; y: size of
 * the newest snapshot; c: bytes of the list; x: its offset, -1: none; segment: read now, or next; scan; page: to read into,
 * larger when that is too small for the list, the snapshot, or many batches.
 */
#ifndef MILLRACE_STORAGE_LOG_LOAD_H
#define MILLRACE_STORAGE_LOG_LOAD_H

#include "log/log_files.h"

enum mr_load_at {
    MR_LOAD_BEGIN,
    MR_LOAD_DIR_OPEN,
    MR_LOAD_LISTED,
    MR_LOAD_TIDIED, /* a left-over file is gone */
    MR_LOAD_FILE_OPEN,
    MR_LOAD_FIRST_READ, /* of a segment that is not read from its start: its first batch's header */
    MR_LOAD_FILE_READ,
    MR_LOAD_FILE_CUT,
    MR_LOAD_FILE_CLOSED,
};

enum mr_load_file {
    MR_LOAD_ABORTED, /* .txnindex, of task->segment */
    MR_LOAD_METADATA,
    MR_LOAD_EPOCHS,
    MR_LOAD_INDEX,
    MR_LOAD_TIME,
    MR_LOAD_SNAPSHOT,
    MR_LOAD_WIPE_INDEX, /* of a segment whose indexes are made anew */
    MR_LOAD_WIPE_TIME,
    MR_LOAD_SEGMENT,
    MR_LOAD_OVER,
};

static inline const struct mr_log_known *mr_log_load_known(const struct mr_task *task)
{
    return task->load == NULL ? NULL : task->load->known;
}

static inline bool mr_log_load_is_verified(const struct mr_task *task)
{
    return task->load != NULL && task->load->is_verified;
}

/* ---- log_list.c ---- */
/* The listed segment with this base; NULL: there is none. */
struct mr_segment *mr_log_list_segment(const struct mr_partition *p, int64_t base);
/* task->page holds the whole list: makes the segments, chooses the active one and the newest snapshot. */
enum mr_err mr_log_list_take(struct mr_storage_core *core, struct mr_task *task);
/* Whether the directory should not have this file any more. */
bool mr_log_list_is_left_over(const struct mr_task *task, const char *name);

/* ---- log_small.c: what files beside the segments say ---- */
enum mr_err mr_log_small_epochs(struct mr_storage_core *core, struct mr_partition *p, const uint8_t *at, uint32_t len);
enum mr_err mr_log_small_metadata(struct mr_task *task, const uint8_t *at, uint32_t len);
/* Entries of the active segment's indexes; both return how many of the bytes are believed. */
uint32_t mr_log_small_index(struct mr_task *task, const uint8_t *at, uint32_t len);
uint32_t mr_log_small_times(struct mr_task *task, const uint8_t *at, uint32_t len);

/* ---- log_batches.c: what only the batches tell ---- */
/* The next segment from task->segment on whose batches are to be read; sets task->index. */
void mr_log_batches_choose(struct mr_task *task);
void mr_log_batches_begin(struct mr_storage_core *core, struct mr_task *task);
/* Of mr_log_scan_feed; the context is the task. */
void mr_log_batches_found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control);
/* The batches of task->segment have been read. */
void mr_log_batches_end(struct mr_storage_core *core, struct mr_task *task);

#endif
