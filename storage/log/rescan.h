/*
 * rescan: logs whose states were damaged: their segments tell where they end.
 *
 * A record of state may be missing for any log then, so no record's end is believed. The journal's entries are redone
 * physically, whatever states said of them; then every batch of every segment is read. What the journal knows and what
 * cannot be lost for that reason is compared: a log that ends below its last entry, or is damaged before its last
 * segment, is offline. Where it starts is at least what an old record or a LOG_START tells; a DeleteRecords known to
 * the missing record alone is undone. The log-start-offset-checkpoint may be of an older log of that name: it is not
 * asked, and removed, for nobody can ask it for the logs that nothing names either.
 *
 * Blocking, at start only. Source: architecture.md 4.4, reliability.md S4.
 */
#ifndef MILLRACE_STORAGE_RESCAN_H
#define MILLRACE_STORAGE_RESCAN_H

#include "storage_core.h"

/* Before its entries: `p` is new; its directory is made if it is not there. MR_ERR_NOT_FOUND: the log was dropped. */
enum mr_err mr_rescan_open(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_state_view *state,
                           const struct mr_journal_first *first);

/* An entry's effect on what is expected of the log (end, start, sealed segments). */
enum mr_err mr_rescan_entry(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_redo *redo);

/* Of an entry's bytes: made when it is not known yet. NULL: no memory. */
struct mr_segment *mr_rescan_segment(struct mr_storage_core *core, struct mr_partition *p, int64_t base);

/* All entries are redone: `p` is read. MR_PARTITION_OFFLINE when something of it is missing. */
enum mr_err mr_rescan_finish(struct mr_storage_core *core, struct mr_partition *p);

#endif
