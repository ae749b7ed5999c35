#include "chores.h"

#include "boot/wait_uring.h"
#include "observe/log_writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static struct mr_doorbell bell = {.event_fd = -1};
static _Atomic bool is_stopping;
static pthread_t thread;
static bool is_running;

static void *chores_main(void *unused)
{
    (void)unused;
    (void)pthread_setname_np(pthread_self(), "chores");
    for (;;) {
        uint64_t rings;
        (void)mr_log_writer_drain();
        if (atomic_load(&is_stopping)) {
            return NULL;
        }
        mr_doorbell_sleep(&bell);
        if (!mr_log_writer_has_lines() && !atomic_load(&is_stopping)) {
            ssize_t len = read(bell.event_fd, &rings, sizeof rings); /* sleeps */
            (void)len;
        }
        mr_doorbell_awake(&bell);
    }
}

bool mr_chores_start(void)
{
    sigset_t all;
    sigset_t before;
    if (!mr_doorbell_init(&bell)) {
        return false;
    }
    sigfillset(&all); /* signals are the main thread's */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    is_running = pthread_create(&thread, NULL, chores_main, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_running;
}

void mr_chores_poke(void)
{
    if (bell.event_fd >= 0) {
        mr_doorbell_ring(&bell);
    }
}

void mr_chores_stop(void)
{
    if (is_running) {
        atomic_store(&is_stopping, true);
        mr_chores_poke();
        (void)pthread_join(thread, NULL);
        is_running = false;
    }
    (void)mr_log_writer_drain();
    mr_doorbell_deinit(&bell);
}
