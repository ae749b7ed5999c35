/*
 * panic: what an assertion leaves behind (the handler that base/assert.h declares).
 */
#ifndef MILLRACE_CONTROL_PANIC_H
#define MILLRACE_CONTROL_PANIC_H

typedef void mr_panic_hook(void);

/* Called once before the message, by the thread that panics: writes out the log lines that wait. */
void mr_panic_set_hook(mr_panic_hook *before);

#endif
