/*
 * log_repair: putting a log directory in order at the start, before its logs are loaded.
 *
 *   always     directories that are being deleted ("-delete") go; strays and futures are left alone; a swap of a
 *              compacted segment that was interrupted is ended
 *   unclean    neither guarded nor marked as cleanly closed (a Kafka that was killed left it so): every partition
 *              directory is recovered as Kafka would: temporary files, interrupted swaps, batches from the recovery
 *              point on with their CRC, indexes, epochs and producers anew, zeros and torn tails cut
 *   rescan     guarded, but what the journal knew of its logs was lost (log/rescan.h): the directories that no log of
 *              the core has are read from their first batches
 *
 * Blocking. A crash in here repeats it: the directory stays unguarded and unmarked until all of it is done, and each
 * step can be done twice. Source: behaviour of Apache Kafka 4.4 (LogManager, LogLoader, LogSegment.recover).
 */
#ifndef MILLRACE_STORAGE_LOG_REPAIR_H
#define MILLRACE_STORAGE_LOG_REPAIR_H

#include "storage_core.h"

enum mr_log_repair_how {
    MR_LOG_REPAIR_CLOSED,
    MR_LOG_REPAIR_UNCLEAN,
    MR_LOG_REPAIR_RESCAN,
};

struct mr_log_repair_result {
    uint32_t logs;      /* recovered */
    uint64_t cut_bytes; /* behind their last sound batches */
    char     why[200];  /* on an error */
};

enum mr_err mr_log_repair(struct mr_storage_core *core, struct mr_arena *scratch, enum mr_log_repair_how how,
                          struct mr_log_repair_result *result);

/* `found` for each directory that is marked as some topic's, under a new log id. Blocking. */
enum mr_err mr_log_each(struct mr_storage_core *core, struct mr_arena *scratch,
                        void (*found)(void *context, const struct mr_journal_log_name *name), void *context);

/* recover.c: the directory of `p` and its partition.metadata. */
enum mr_err mr_log_make_directory(struct mr_storage_core *core, struct mr_partition *p);

/* The file of a segment ends where the segment does. */
enum mr_err mr_log_cut_file(struct mr_storage_core *core, const struct mr_segment *segment, uint64_t *cut_bytes);

#endif
