/*
 * log_walk: stepping from batch to batch through a log's tail runs. For files under log/ only.
 */
#ifndef MILLRACE_STORAGE_LOG_WALK_H
#define MILLRACE_STORAGE_LOG_WALK_H

#include "storage_core.h"

/* Copy bytes that begin at `pos`, in `run` or behind it, and lie in this segment's runs. */
void mr_walk_copy(const struct mr_storage_core *core, const struct mr_partition *p, const struct mr_page *run,
                  uint32_t pos, void *to, uint32_t len);
void mr_walk_head(const struct mr_storage_core *core, const struct mr_partition *p, const struct mr_page *run,
                  uint32_t pos, struct mr_batch *batch);
/* The run of the same segment that holds `pos`, from `run` on. */
struct mr_page *mr_walk_run_of(struct mr_partition *p, struct mr_page *run, uint32_t pos);
/* The run and position of the batch with `offset`; NULL: not in memory. */
struct mr_page *mr_walk_find(struct mr_storage_core *core, struct mr_partition *p, int64_t offset, uint32_t *pos);
/* The position in this segment up to which readers see. */
uint32_t mr_walk_limit(const struct mr_partition *p, const struct mr_segment *segment);
/* Remember that the batch at `offset`, or the next one, begins there. */
void mr_walk_hint(struct mr_partition *p, int64_t offset, int64_t base, uint32_t pos);
enum mr_err mr_read_epoch_check(const struct mr_partition *p, int32_t current_leader_epoch);

#endif
