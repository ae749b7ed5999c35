#include "boot/panic.h"

#include "millrace/base/assert.h"
#include "millrace/base/fmt.h"

#include <execinfo.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static _Atomic(mr_panic_hook *) hook;

void mr_panic_set_hook(mr_panic_hook *before)
{
    atomic_store(&hook, before);
}

/*
 * A broken invariant: say where, show the way there, leave a core dump. The journal makes this as
 * safe as kill -9: what was acknowledged is durable, the rest was never promised. Weak, so that a
 * test's own handler wins.
 */
__attribute__((weak)) _Noreturn void mr_panic(const char *file, int line, const char *what)
{
    static _Atomic int panics;
    char text[600];
    char thread[17] = "?";
    void *frames[48];
    if (atomic_fetch_add(&panics, 1) != 0) {
        for (;;) { /* another thread is already on its way out */
            pause();
        }
    }
    mr_panic_hook *before = atomic_load(&hook);
    if (before != NULL) {
        before();
    }
    (void)prctl(PR_GET_NAME, thread);
    size_t len =
        mr_fmt(text, sizeof text,
               "millrace: broken invariant in thread %s: %s:%d: %s\n"
               "millrace: stopping at once; everything acknowledged is in the journal and the next"
               " start recovers it\n",
               thread, file, line, what);
    ssize_t ignored = write(STDERR_FILENO, text, len);
    (void)ignored;
    backtrace_symbols_fd(frames, backtrace(frames, 48), STDERR_FILENO);
    abort();
}
