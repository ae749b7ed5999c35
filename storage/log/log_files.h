/*
 * log_files: reading a partition directory whose files are complete. For files under log/ only.
 */
#ifndef MILLRACE_STORAGE_LOG_FILES_H
#define MILLRACE_STORAGE_LOG_FILES_H

#include "storage_core.h"

/*
 * A task that fills `p` (new, without segments) from its directory, then calls `loaded`: MR_OK;
 * MR_ERR_NOT_FOUND when there is no such directory; MR_ERR_EXISTS when it is another topic's; MR_ERR_CORRUPT.
 * NULL: no task is free. The caller sets task->op and starts it.
 */
struct mr_task *mr_log_load_task(struct mr_storage_core *core, struct mr_partition *p,
                                 const struct mr_uuid *topic_id,
                                 void (*loaded)(struct mr_storage_core *, struct mr_task *, enum mr_err));

#endif
