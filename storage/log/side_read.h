/*
 * side_read: what side-cars say of bytes that a task reads from a sealed segment. For files under log/ only.
 *
 *   take    the sums of the chunks that will be read, from blocks that are at hand -> task->side_sums
 *   fetch   a block that is not: stat of the segment and head of the side-car when nobody looked yet, then the block
 *   bad     the chunks that were read, summed up and compared
 *
 * A segment without a side-car, or with one that does not fit, has nothing to compare: its batches' CRCs are asked then,
 * and the scrubber is told. The blocks at hand are few (a block is 16 MiB of a segment); the longest unused gives way.
 */
#ifndef MILLRACE_STORAGE_SIDE_READ_H
#define MILLRACE_STORAGE_SIDE_READ_H

#include "millrace/side_car.h"
#include "storage_core.h"

struct mr_side_cache;

size_t                mr_side_cache_bytes(const struct mr_storage_plan *plan);
/* NULL: segments have no side-cars here. */
struct mr_side_cache *mr_side_cache_init(struct mr_storage_core *core, struct mr_arena *arena);
/* The segment ends. */
void mr_side_forget(struct mr_storage_core *core, const struct mr_segment *segment);

/* For a read of task->segment from `from` on, a multiple of a chunk, of at most MR_SIDE_TAKEN chunks. False: fetch. */
bool mr_side_take(struct mr_storage_core *core, struct mr_task *task, uint64_t from);
/* Its step goes on at `back_at`, to take again. */
bool mr_side_fetch(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at);

/* `memory` holds the bytes from where the sums were taken on, and all of the chunks that [from, to) lies in: the position
 * of the first chunk that is not as it was; `to` when all are. */
uint64_t mr_side_bad(const struct mr_task *task, const uint8_t *memory, uint64_t from, uint64_t to);

#endif
