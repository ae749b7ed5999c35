#include "boot/threads.h"

#include "boot/answers.h"
#include "boot/memory.h"
#include "boot/panic.h"
#include "boot/threads_private.h"
#include "chores.h"
#include "millrace/base/bug.h"
#include "observe/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define PANIC_EVENTS 64u /* of each core, told when an invariant is broken */

/* ---- Building ---- */

uint64_t mr_threads_wait_bytes(const struct mr_plan *plan)
{
    return mr_wait_uring_bytes(plan->wait_entries) + 64;
}

static enum mr_log_level log_level(const struct mr_config *config)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int level = MR_LOG_DEBUG; level <= MR_LOG_ERROR; level++) {
        if (mr_str_equal(config->millrace_log_level, mr_str(names[level]))) {
            return (enum mr_log_level)level;
        }
    }
    return MR_LOG_INFO;
}

static bool thread_prepare(struct mr_thread *thread, const char *name, uint32_t number, uint64_t bytes)
{
    if (number == UINT32_MAX) {
        mr_fmt(thread->name, sizeof thread->name, "%s", name);
    } else {
        mr_fmt(thread->name, sizeof thread->name, "%s-%u", name, number);
    }
    uint64_t size = bytes + mr_broker.plan->wait_bytes + mr_broker.plan->log_bytes + (1u << 20);
    if (!mr_doorbell_init(&thread->bell) || !mr_memory_arena(&thread->arena, size)) {
        return false;
    }
    thread->spin_ns = mr_broker.plan->spin_ns;
    mr_log_init(&thread->log, &thread->arena, mr_broker.plan->log_lines, thread->name);
    thread->log.level_min = log_level(mr_broker.params->config);
    mr_log_writer_add(&thread->log);
    return true;
}

/* One storage core of each directory; the first ones, which recover the directories, in different threads. */
static void shards_place(struct mr_core_thread *core)
{
    const struct mr_endpoints *endpoints = &mr_broker.plan->endpoints;
    uint32_t cores = mr_endpoint_dir_cores(endpoints);
    for (uint32_t dir = 0; dir < mr_endpoint_dirs(endpoints); dir++) {
        struct mr_shard *shard = &core->shards[core->shard_count++];
        shard->number = dir * cores + ((uint32_t)core->storage_thread + cores - dir % cores) % cores;
        uint32_t endpoint = mr_endpoint_storage(endpoints, shard->number);
        shard->port = mr_broker.ports[endpoint];
        mr_broker.bells[endpoint] = &core->thread.bell;
    }
}

static bool prepare_core(uint32_t index)
{
    const struct mr_plan *plan = mr_broker.plan;
    const struct mr_endpoints *endpoints = &plan->endpoints;
    struct mr_core_thread *core = &mr_broker.cores[index];
    bool is_data = index < endpoints->data_count;
    core->index = index;
    core->data_core = is_data ? (int32_t)index : -1;
    core->storage_thread = plan->is_shared ? (int32_t)index
                           : is_data       ? -1
                                           : (int32_t)(index - endpoints->data_count);
    core->cpu = is_data ? plan->data_cpus[index] : plan->storage_cpus[core->storage_thread];
    uint64_t bytes = 0;
    if (core->data_core >= 0) {
        bytes += plan->data_core_bytes + plan->transport_bytes;
        uint32_t endpoint = mr_endpoint_data(endpoints, (uint32_t)core->data_core);
        core->data_port = mr_broker.ports[endpoint];
        mr_broker.bells[endpoint] = &core->thread.bell;
    }
    if (core->storage_thread >= 0) {
        shards_place(core);
        bytes += core->shard_count * (plan->storage_core_bytes + plan->disk_bytes);
    }
    const char *name = plan->is_shared ? "core" : is_data ? "data" : "storage";
    if (!thread_prepare(&core->thread, name, is_data ? index : (uint32_t)core->storage_thread,
                        bytes + plan->trace_bytes)) {
        return false;
    }
    mr_trace_init(&core->thread.trace, &core->thread.arena, plan->trace_entries);
    return true;
}

static void connect_both(uint32_t a, uint32_t b)
{
    const struct mr_plan *plan = mr_broker.plan;
    mr_port_connect(mr_broker.ports[a], mr_broker.ports[b], &mr_broker.plane_arena, plan->ring_slots,
                    plan->spill_slots);
    mr_port_connect(mr_broker.ports[b], mr_broker.ports[a], &mr_broker.plane_arena, plan->ring_slots,
                    plan->spill_slots);
}

static bool prepare(void)
{
    const struct mr_plan *plan = mr_broker.plan;
    const struct mr_endpoints *endpoints = &plan->endpoints;
    uint32_t control = mr_endpoint_control(endpoints);
    if (!mr_memory_arena(&mr_broker.plane_arena, plan->plane_bytes + (1u << 20)) ||
        !mr_memory_arena(&mr_broker.main_arena, plan->log_bytes + (1u << 16))) {
        return false;
    }
    mr_log_init(&mr_broker.main_log, &mr_broker.main_arena, plan->log_lines, "main");
    mr_log_writer_add(&mr_broker.main_log);
    for (uint32_t endpoint = 0; endpoint < mr_endpoint_count(endpoints); endpoint++) {
        struct mr_port *port = mr_arena_get(&mr_broker.plane_arena, sizeof *port, 64);
        port->self = endpoint;
        port->endpoint_count = mr_endpoint_count(endpoints);
        mr_broker.ports[endpoint] = port;
    }
    for (uint32_t data = 0; data < endpoints->data_count; data++) {
        for (uint32_t storage = 0; storage < endpoints->storage_count; storage++) {
            connect_both(mr_endpoint_data(endpoints, data),
                         mr_endpoint_storage(endpoints, storage));
        }
        connect_both(mr_endpoint_data(endpoints, data), control);
    }
    for (uint32_t storage = 0; storage < endpoints->storage_count; storage++) {
        connect_both(mr_endpoint_storage(endpoints, storage), control);
    }
    for (uint32_t index = 0; index < plan->thread_count; index++) {
        if (!prepare_core(index)) {
            return false;
        }
    }
    mr_broker.bells[control] = &mr_broker.control_thread.bell;
    mr_broker.sampler.metrics.data_count = endpoints->data_count;
    mr_broker.sampler.metrics.storage_count = endpoints->storage_count;
    if (!mr_sampler_init(&mr_broker.sampler, plan->thread_count + 1)) {
        return false;
    }
    return thread_prepare(&mr_broker.control_thread, "control", UINT32_MAX,
                          plan->control_bytes + plan->disk_bytes);
}

static bool start_thread(struct mr_thread *thread, void *(*main)(void *), void *argument)
{
    thread->is_started = pthread_create(&thread->id, NULL, main, argument) == 0;
    return thread->is_started;
}

/* ---- Signals ---- */

/* The main thread says its lines itself: it has no turn in which the time would be set. */
static void say(enum mr_log_level level, const char *text)
{
    mr_broker.main_log.unix_ms = mr_thread_clocks().unix_ms;
    mr_log(&mr_broker.main_log, level, "%s", text);
    mr_chores_poke();
}

static void on_signal(int number)
{
    if (!atomic_load(&mr_broker.is_stop_wanted)) {
        say(MR_LOG_INFO, number == SIGTERM
                             ? "stopping cleanly signal=SIGTERM; a second one leaves at once"
                             : "stopping cleanly signal=SIGINT; a second one leaves at once");
        atomic_store_explicit(&mr_broker.is_stop_wanted, true, memory_order_release);
        mr_doorbell_ring(&mr_broker.control_thread.bell);
        return;
    }
    if (mr_bug("ignore-hurry")) {
        return;
    }
    atomic_store(&mr_broker.stop_hurry, 1);
    say(MR_LOG_WARN,
        "leaving at once: what was acknowledged is in the journal, the next start recovers it");
    (void)mr_log_writer_drain();
    _exit(1);
}

static void wait_for_the_end(int signal_fd)
{
    struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = mr_broker.over_fd, .events = POLLIN}};
    while (!atomic_load(&mr_broker.is_over)) {
        (void)poll(fds, 2, -1);
        if ((fds[0].revents & POLLIN) != 0) {
            struct signalfd_siginfo info;
            if (read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
                on_signal((int)info.ssi_signo);
            }
        }
    }
}

static void warn_line(const char *line)
{
    say(MR_LOG_WARN, line);
}

/* What a core did last. The others may still run: their newest entries can be torn, no more. */
static void write_trace(const struct mr_thread *thread)
{
    static char buffer[PANIC_EVENTS * 128];
    struct mr_text text;
    const struct mr_trace *trace = &thread->trace;
    uint32_t from = trace->count < PANIC_EVENTS ? 0 : trace->count - PANIC_EVENTS;
    mr_text_init(&text, buffer, sizeof buffer);
    mr_text_fmt(&text, "millrace: the last events of %s, in us:\n", thread->name);
    for (uint32_t at = from; at != trace->count; at++) {
        const struct mr_trace_entry *entry = mr_trace_at(trace, at);
        if (entry != NULL) {
            mr_trace_line(&text, entry, mr_trace_at(trace, from)->mono_ns);
        }
    }
    ssize_t written = write(STDERR_FILENO, buffer, text.len);
    (void)written;
}

static void on_panic(void)
{
    (void)mr_log_writer_drain();
    for (uint32_t index = 0; index < mr_broker.plan->thread_count; index++) {
        write_trace(&mr_broker.cores[index].thread);
    }
}

static int refuse(const char *why)
{
    char line[600];
    size_t len = mr_fmt(line, sizeof line, "millrace start: %s\n", why);
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
    return 1;
}

int mr_threads_run(const struct mr_threads_params *params)
{
    sigset_t signals;
    mr_broker.params = params;
    mr_broker.plan = params->plan;
    struct mr_doorbell over;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals,
                          NULL); /* inherited by every thread: only signalfd sees them */
    (void)signal(SIGPIPE, SIG_IGN);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    char why[512];
    if (signal_fd < 0 || !mr_doorbell_init(&over) || !prepare()) {
        mr_fmt(why, sizeof why, "memory or descriptors cannot be had: %s (see millrace plan)", strerror(errno));
        return refuse(why);
    }
    const struct mr_answers_params answers = {
        .sampler = &mr_broker.sampler, .wake = mr_thread_wake_all, .is_running = &mr_broker.is_running};
    if (!mr_answers_start(params->config, &answers, why, sizeof why)) {
        return refuse(why);
    }
    mr_broker.over_fd = over.event_fd;
    mr_panic_set_hook(on_panic);
    bool is_good = mr_chores_start();
    mr_memory_limits(params->plan, warn_line);
    if (params->config->millrace_memory_lock) {
        mr_memory_lock(warn_line);
    }
    (void)pthread_barrier_init(&mr_broker.ready, NULL, params->plan->thread_count + 1);
    for (uint32_t index = 0; is_good && index < params->plan->thread_count; index++) {
        is_good = start_thread(&mr_broker.cores[index].thread, mr_core_thread_main, &mr_broker.cores[index]);
    }
    is_good = is_good && start_thread(&mr_broker.control_thread, mr_control_thread_main, NULL);
    if (!is_good) {
        say(MR_LOG_ERROR, "a thread cannot be started");
        (void)mr_log_writer_drain();
        _exit(1); /* the others wait at the barrier */
    }
    wait_for_the_end(signal_fd);
    (void)pthread_join(mr_broker.control_thread.id, NULL);
    for (uint32_t index = 0; index < params->plan->thread_count; index++) {
        (void)pthread_join(mr_broker.cores[index].thread.id, NULL);
    }
    mr_chores_stop();
    return atomic_load(&mr_broker.exit_code);
}
