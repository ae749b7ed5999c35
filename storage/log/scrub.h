/*
 * scrub: sealed segments are read when there is nothing better to do, so that damage is known before a consumer or a
 * recovery meets it. For files under log/ only.
 *
 *   sealed just now   read back from the device, every batch checked; its side-car is written (side_car.h)
 *   all the others    once in millrace.scrub.interval.ms: compared with their side-cars, or given one
 *
 * One segment at a time, at most millrace.scrub.bytes.per.second; while appends wait to be durable it waits too, for at
 * most a second. What looks damaged is read once more from the start: a device may answer wrongly once. What is damaged
 * then is a line in the log with the exact offsets, is counted, and is not asked of the file any more: a read of those
 * offsets gets MR_ERR_CORRUPT, one of what is behind them does not come across them (mr_scrub_skip).
 *
 * Nothing is held between two disk operations: segments are deleted, compacted and moved as if nobody read them.
 */
#ifndef MILLRACE_STORAGE_SCRUB_H
#define MILLRACE_STORAGE_SCRUB_H

#include "millrace/scrub_scan.h"
#include "storage_core.h"

struct mr_scrub;

/* Nothing is needed, and mr_scrub_init is NULL, when the plan's rate is 0. */
size_t           mr_scrub_bytes(const struct mr_storage_plan *plan);
struct mr_scrub *mr_scrub_init(struct mr_storage_core *core, struct mr_arena *arena);

/* A step. Returns whether there was work. */
bool     mr_scrub_turn(struct mr_storage_core *core);
uint64_t mr_scrub_deadline_ns(const struct mr_storage_core *core);
/* Clean stop, every turn: true when nothing is under way any more. */
bool mr_scrub_stop(struct mr_storage_core *core);

/* All of the segment is in its file and synced: it is read soon. Likewise one whose side-car was found to be none. */
void mr_scrub_want(struct mr_storage_core *core, struct mr_segment *segment);
/* The segment ends; the log does. */
void mr_scrub_forget(struct mr_storage_core *core, struct mr_segment *segment);
void mr_scrub_forget_log(struct mr_storage_core *core, const struct mr_partition *partition);

/* The range of known damage that holds the offset; NULL: none does. */
const struct mr_scrub_range *mr_scrub_find(const struct mr_storage_core *core, const struct mr_segment *segment,
                                           int64_t offset);
/* Looking for `offset` from `*pos` on: if damage that ends before it is in the way, *pos moves behind it, and true. */
bool mr_scrub_skip(const struct mr_storage_core *core, const struct mr_segment *segment, int64_t offset, uint64_t *pos);

#endif
