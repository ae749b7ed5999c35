/*
 * log_repair: putting a log directory in order at the start, before its logs are loaded.
 *
 *   always     directories that are being deleted ("-delete") go; strays and futures are left alone
 *   unclean    neither guarded nor marked as cleanly closed (a Kafka that was killed left it so): every partition
 *              directory is recovered as Kafka would: temporary files, interrupted swaps, batches from the recovery
 *              point on with their CRC, indexes, epochs and producers anew, zeros and torn tails cut
 *
 * Blocking. A crash in here repeats it: the directory stays unguarded and unmarked until all of it is done, and each
 * step can be done twice. Source: behaviour of Apache Kafka 4.4 (LogManager, LogLoader, LogSegment.recover).
 */
#ifndef MILLRACE_STORAGE_LOG_REPAIR_H
#define MILLRACE_STORAGE_LOG_REPAIR_H

#include "storage_core.h"

struct mr_log_repair_result {
    uint32_t logs;      /* recovered */
    uint64_t cut_bytes; /* behind their last sound batches */
    char     why[200];  /* on an error */
};

enum mr_err mr_log_repair(struct mr_storage_core *core, struct mr_arena *scratch, bool is_unclean,
                          struct mr_log_repair_result *result);

#endif
