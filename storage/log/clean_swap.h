/*
 * clean_swap: how a compacted segment takes the place of those that it was made from, so that a crash anywhere leaves
 * either all of the old ones or the new one.
 *
 *   record      millrace-clean-<ring> says which segments of which log give way, durably: from here on it will happen
 *   old files   renamed to *.deleted, removed after file.delete.delay.ms (burial.c)
 *   new files   <base>.*.cleaned get their names, the .log last
 *   over        the directory is synced, the record voided, durably: only then another one is begun
 *
 * A recovery that finds the record does the rest of it again; each step may have been done before. *.cleaned files
 * without a record mean nothing. J5: nothing of this is visible to the journal, which has left these segments (J6).
 */
#ifndef MILLRACE_STORAGE_CLEAN_SWAP_H
#define MILLRACE_STORAGE_CLEAN_SWAP_H

#include "storage_core.h"

#define MR_CLEAN_SWAP_NAME "millrace-clean-" /* and the ring */

/* At the start, before logs are read: a file of that name is in the directory. What its record tells is done, when the
 * directory is guarded, and the file removed. Blocking. */
enum mr_err mr_clean_swap_take(struct mr_storage_core *core, const char *name);
/* Clean stop, nothing is under way: the file goes, which says nothing any more. Blocking. */
void mr_clean_swap_close(struct mr_storage_core *core);

#endif
