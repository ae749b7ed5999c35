/*
 * stray_logs: directories of topics that were deleted just before a crash.
 *
 * A deletion is durable as a record before its logs are dropped, so a crash between the two leaves
 * partition directories that no topic claims. Once the broker serves, the log directory is listed
 * and every partition directory of a topic that the metadata log says was removed is dropped by name and
 * that topic's id. What no record explains is left alone and named in the log.
 *
 *   load: removed (name, id) > serving: LIST > of a removed topic, no open log: DROP
 *
 * A name may have been removed several times, and may be a topic's again: the directory may be any of
 * those topics', and stands in the way of the new one. So each id is tried until one fits; storage
 * refuses a directory to every other.
 *
 * Thread: control.
 */
#ifndef MILLRACE_CONTROL_STRAY_LOGS_H
#define MILLRACE_CONTROL_STRAY_LOGS_H

#include "control_private.h"

bool mr_stray_logs_init(struct mr_control *control);

/* The log was replayed: remember the topics that it removed, before mr_local_logs_follow takes them
 * out of the state. */
void mr_stray_logs_remember(struct mr_control *control);

/* While serving: a slice of the search. Whether there was work. */
bool mr_stray_logs_turn(struct mr_control *control, struct mr_now now);

/* Whether all that was left behind has been found and dropped. */
bool mr_stray_logs_is_over(const struct mr_control *control);

#endif
