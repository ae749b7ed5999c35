/* control_thread: the thread of the control plane: its parts, its loop, its end, which is the broker's. */
#include "boot/threads_private.h"

#include "millrace/base/assert.h"

#include <sys/random.h>
#include <unistd.h>

#define LONG_TURN_MS 100u /* what an operator should hear of */
#define LONG_TURN_EVERY_NS (10 * MR_NS_PER_S)

static void sample_control(struct mr_thread *thread)
{
    thread->sampled = mr_sampler_asked(&mr_broker.sampler);
    mr_control_stats(mr_broker.control, &mr_broker.sampler.metrics.control);
    mr_sampler_done(&mr_broker.sampler, mr_broker.plan->thread_count, thread->sampled);
}

static bool control_mail(const void *who)
{
    (void)who;
    return mr_port_has_mail(mr_broker.ports[mr_endpoint_control(&mr_broker.plan->endpoints)]);
}

static bool is_ended(enum mr_control_state state)
{
    return state == MR_CONTROL_STOPPED || state == MR_CONTROL_FAILED;
}

/* Turns have budgets; one that takes so long makes heartbeats and every other request wait. */
static void tell_long_turn(struct mr_thread *thread, uint64_t began_ns)
{
    static struct mr_log_brake brake;
    uint64_t now_ns = mr_thread_clocks().mono_ns;
    if (now_ns - began_ns >= LONG_TURN_MS * MR_NS_PER_MS &&
        mr_log_may(&brake, now_ns, LONG_TURN_EVERY_NS)) {
        mr_log(&thread->log, MR_LOG_WARN,
                       "a turn of the control thread took long ms=%llu",
                       (unsigned long long)((now_ns - began_ns) / MR_NS_PER_MS));
    }
}

static void control_loop(struct mr_port *port)
{
    struct mr_thread *thread = &mr_broker.control_thread;
    while (!is_ended(mr_control_state(mr_broker.control))) {
        struct mr_now now = mr_thread_clocks();
        thread->log.unix_ms = now.unix_ms;
        if (!thread->is_told &&
            atomic_load_explicit(&mr_broker.is_stop_wanted, memory_order_acquire)) {
            thread->is_told = true;
            mr_control_stop(mr_broker.control, now);
        }
        if (mr_thread_is_sample_wanted(thread)) {
            sample_control(thread);
        }
        bool is_busy = mr_control_turn(mr_broker.control, now);
        tell_long_turn(thread, now.mono_ns);
        mr_thread_flush(port, &thread->bell);
        mr_thread_poke_log(thread);
        if (is_busy || mr_port_has_mail(port) || mr_thread_has_completions(thread)) {
            mr_wait(thread->wait, 0);
            continue;
        }
        uint64_t deadline_ns = mr_control_deadline_ns(mr_broker.control);
        if (mr_port_has_spill(port)) {
            deadline_ns = mr_earlier(deadline_ns, now.mono_ns + MR_THREAD_SPILL_NS);
        }
        if (deadline_ns <= now.mono_ns || is_ended(mr_control_state(mr_broker.control))) {
            mr_wait(thread->wait, 0);
            continue;
        }
        mr_thread_idle(thread, now.mono_ns, deadline_ns, control_mail, NULL);
    }
}

static void end_all(int exit_code)
{
    uint64_t one = 1;
    atomic_store(&mr_broker.exit_code, exit_code);
    atomic_store(&mr_broker.is_over, true);
    mr_thread_wake_all();
    ssize_t len = write(mr_broker.over_fd, &one, sizeof one);
    (void)len;
}

void *mr_control_thread_main(void *unused)
{
    struct mr_thread *thread = &mr_broker.control_thread;
    struct mr_port *port = mr_broker.ports[mr_endpoint_control(&mr_broker.plan->endpoints)];
    struct mr_disk *disk = NULL;
    (void)unused;
    mr_thread_begin(thread, MR_PLAN_CPU_ANY);
    if (thread->wait != NULL) {
        disk = mr_thread_disk(thread);
        struct mr_control_params params = {
            .plan = &mr_broker.plan->control,
            .config = mr_broker.params->config,
            .endpoints = &mr_broker.plan->endpoints,
            .port = port,
            .disk = disk,
            .log = &thread->log,
            .arena = &thread->arena,
            .log_dir = mr_broker.params->dirs[0].path,
            .cluster_id = mr_broker.params->cluster_id,
            .directory_id = mr_broker.params->dirs[0].id,
            .dirs = mr_broker.params->dirs,
            .dir_count = mr_broker.params->dir_count,
            .seed = mr_thread_seed(),
        };
        ssize_t len = getrandom(params.random, sizeof params.random, 0);
        mr_assert(len == (ssize_t)sizeof params.random);
        mr_broker.control = mr_control_init(&params);
    }
    if (mr_broker.control == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "control cannot be set up");
        atomic_fetch_add(&mr_broker.init_failures, 1);
    }
    mr_thread_poke_log(thread);
    pthread_barrier_wait(&mr_broker.ready);
    if (atomic_load(&mr_broker.init_failures) != 0) {
        end_all(1);
        return NULL;
    }
    atomic_store(&mr_broker.is_running, true);
    control_loop(port);
    atomic_store(&mr_broker.is_running, false);
    bool is_failed = mr_control_state(mr_broker.control) == MR_CONTROL_FAILED;
    if (is_failed) {
        mr_log(&thread->log, MR_LOG_ERROR, "stopped after a failure, see above");
    }
    mr_thread_poke_log(thread);
    end_all(is_failed ? 1 : 0);
    if (disk != NULL && disk->in_flight == 0) {
        mr_disk_uring_deinit(disk);
    }
    return NULL;
}
