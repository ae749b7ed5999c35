/*
 * chores: the thread for work that blocks. It writes log lines; it owns no truth.
 *
 * Threads: start and stop belong to the main thread, poke to any.
 */
#ifndef MILLRACE_CONTROL_CHORES_H
#define MILLRACE_CONTROL_CHORES_H

#include <stdbool.h>

bool mr_chores_start(void);

/* There is something to write. Cheap while the thread is awake. */
void mr_chores_poke(void);

/* Write what is there and end the thread. */
void mr_chores_stop(void);

#endif
