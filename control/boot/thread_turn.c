#include "boot/threads_private.h"

#include "chores.h"
#include "millrace/base/assert.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct mr_broker mr_broker;

struct mr_now mr_thread_clocks(void)
{
    struct timespec mono;
    struct timespec real;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME_COARSE, &real); /* milliseconds are all that it is used for */
    return (struct mr_now){.mono_ns = (uint64_t)mono.tv_sec * MR_NS_PER_S + (uint64_t)mono.tv_nsec,
                           .unix_ms = (int64_t)real.tv_sec * 1000 + real.tv_nsec / 1000000};
}

uint64_t mr_thread_seed(void)
{
    uint64_t seed = 0;
    ssize_t len = getrandom(&seed, sizeof seed, 0);
    mr_assert(len == (ssize_t)sizeof seed);
    return seed;
}

void mr_thread_flush(struct mr_port *port, const struct mr_doorbell *own)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    if (!mr_port_flush(port, woken)) {
        return;
    }
    for (uint32_t word = 0; word < sizeof woken / sizeof woken[0]; word++) {
        for (uint64_t bits = woken[word]; bits != 0; bits &= bits - 1) {
            struct mr_doorbell *bell = mr_broker.bells[word * 64 + (uint32_t)__builtin_ctzll(bits)];
            if (bell != own) {
                mr_doorbell_ring(bell);
            }
        }
    }
}

void mr_thread_poke_log(const struct mr_thread *thread)
{
    uint32_t head = atomic_load_explicit(&thread->log.head, memory_order_relaxed);
    if (head != atomic_load_explicit(&thread->log.tail, memory_order_relaxed)) {
        mr_chores_poke();
    }
}

bool mr_thread_has_completions(const struct mr_thread *thread)
{
    return mr_wait_ready(thread->wait, MR_WAIT_TAG_TRANSPORT) > 0 ||
           mr_wait_ready(thread->wait, MR_WAIT_TAG_DISK) > 0;
}

bool mr_thread_is_sample_wanted(const struct mr_thread *thread)
{
    return mr_sampler_asked(&mr_broker.sampler) != thread->sampled;
}

void mr_thread_idle(struct mr_thread *thread, uint64_t now_ns, uint64_t deadline_ns,
                 bool (*mail)(const void *), const void *who)
{
    if (thread->spin_ns > 0 && deadline_ns > now_ns + thread->spin_ns) {
        uint64_t until_ns = now_ns + thread->spin_ns;
        do {
            mr_wait(thread->wait, 0);
            if (mail(who) || mr_thread_has_completions(thread)) {
                thread->vain_spins = 0;
                return;
            }
        } while (mr_thread_clocks().mono_ns < until_ns);
        if (++thread->vain_spins >= 3) {
            thread->spin_ns /= 2;
            thread->vain_spins = 0;
        }
    }
    mr_doorbell_sleep(&thread->bell);
    if (mail(who) || mr_thread_is_sample_wanted(thread) || atomic_load(&mr_broker.is_over) ||
        (thread == &mr_broker.control_thread && !thread->is_told &&
         atomic_load(&mr_broker.is_stop_wanted))) {
        deadline_ns = 0;
    }
    mr_wait(thread->wait, deadline_ns);
    mr_doorbell_awake(&thread->bell);
}

void mr_thread_wake_all(void)
{
    for (uint32_t core = 0; core < mr_broker.plan->thread_count; core++) {
        mr_doorbell_ring(&mr_broker.cores[core].thread.bell);
    }
    mr_doorbell_ring(&mr_broker.control_thread.bell);
}

/* ---- The beginning of a thread ---- */

void mr_thread_begin(struct mr_thread *thread, int32_t cpu)
{
    int os_errno = 0;
    (void)pthread_setname_np(pthread_self(), thread->name);
    if (cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((unsigned)cpu, &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
            mr_log(&thread->log, MR_LOG_WARN, "not pinned cpu=%d why=%s", cpu, strerror(errno));
        }
    }
    void *memory =
        mr_arena_get_fresh(&thread->arena, mr_wait_uring_bytes(mr_broker.plan->wait_entries), 64);
    thread->log.unix_ms = mr_thread_clocks().unix_ms;
    thread->wait = mr_wait_uring_init(memory, mr_broker.plan->wait_entries, &thread->bell, &os_errno);
    if (thread->wait == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "io_uring cannot be set up why=%s", strerror(os_errno));
        atomic_fetch_add(&mr_broker.init_failures, 1);
    }
}

struct mr_disk *mr_thread_disk(struct mr_thread *thread)
{
    return mr_disk_uring_init(mr_arena_get(&thread->arena, mr_disk_uring_bytes(), 64),
                              thread->wait);
}
