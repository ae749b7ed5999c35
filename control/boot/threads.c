#include "boot/threads.h"

#include "boot/answers.h"
#include "boot/memory.h"
#include "boot/panic.h"
#include "boot/transports.h"
#include "boot/wait_uring.h"
#include "chores.h"
#include "millrace/base/assert.h"
#include "millrace/base/bug.h"
#include "observe/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define LONG_TURN_MS 100u /* what an operator should hear of */
#define LONG_TURN_EVERY_NS (10 * MR_NS_PER_S)
#define PANIC_EVENTS 64u /* of each core, told when an invariant is broken */

/* What every thread with a loop has. */
struct thread {
    pthread_t id;
    bool is_started;
    char name[12];
    struct mr_doorbell bell;
    struct mr_wait *wait;
    struct mr_log log;
    struct mr_trace trace; /* of a core */
    struct mr_arena arena;
    uint64_t spin_ns; /* halves itself while it does not pay */
    uint32_t vain_spins;
    bool is_told; /* control: that the broker is to stop */
    uint64_t sampled; /* the last number that the sampler asked for and got */
};

/* A storage core: one log directory's in a thread. */
struct shard {
    uint32_t number; /* among all storage cores */
    struct mr_storage_core *storage;
    struct mr_port *port;
    struct mr_disk *disk;
    struct mr_arena arena; /* a part of the thread's */
    bool is_trimmed; /* what recovery took went back */
};

struct core {
    struct thread thread;
    uint32_t index;         /* of the core thread */
    int32_t cpu;            /* to be pinned to */
    int32_t data_core;      /* -1: not its role */
    int32_t storage_thread; /* likewise */
    struct mr_data_core *data;
    struct mr_port *data_port;
    struct mr_transport *transport;
    uint32_t shard_count;
    struct shard shards[MR_DIRS_MAX];
};

struct broker {
    const struct mr_threads_params *params;
    const struct mr_plan *plan;
    struct mr_arena plane_arena;
    struct mr_port *ports[MR_ENDPOINTS_MAX];
    struct mr_doorbell *bells[MR_ENDPOINTS_MAX]; /* of the thread an endpoint lives in */
    struct core cores[MR_CORES_MAX * 2];
    struct thread control_thread;
    struct mr_control *control;
    struct mr_sampler sampler;
    _Atomic bool is_running; /* threads are at their loops: the sampler may ask */
    struct mr_log main_log;
    struct mr_arena main_arena;
    pthread_barrier_t ready; /* all threads have their parts, or failed to */
    _Atomic int init_failures;
    _Atomic bool is_stop_wanted; /* SIGTERM: control begins to stop */
    _Atomic bool is_over;        /* control has ended: cores leave their loops */
    _Atomic int exit_code;
    _Atomic uint64_t stop_hurry;
    int over_fd; /* tells the main thread that control has ended */
};

static struct broker broker;

/* ---- Clocks ---- */

static struct mr_now read_clocks(void)
{
    struct timespec mono;
    struct timespec real;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME_COARSE, &real); /* milliseconds are all that it is used for */
    return (struct mr_now){.mono_ns = (uint64_t)mono.tv_sec * MR_NS_PER_S + (uint64_t)mono.tv_nsec,
                           .unix_ms = (int64_t)real.tv_sec * 1000 + real.tv_nsec / 1000000};
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    ssize_t len = getrandom(&seed, sizeof seed, 0);
    mr_assert(len == (ssize_t)sizeof seed);
    return seed;
}

/* ---- The end of a turn ---- */

/* Publish a port's messages and wake whoever got one; the own thread's endpoints need no bell. */
static void flush_port(struct mr_port *port, const struct mr_doorbell *own)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    if (!mr_port_flush(port, woken)) {
        return;
    }
    for (uint32_t word = 0; word < sizeof woken / sizeof woken[0]; word++) {
        for (uint64_t bits = woken[word]; bits != 0; bits &= bits - 1) {
            struct mr_doorbell *bell = broker.bells[word * 64 + (uint32_t)__builtin_ctzll(bits)];
            if (bell != own) {
                mr_doorbell_ring(bell);
            }
        }
    }
}

static void poke_log(const struct thread *thread)
{
    uint32_t head = atomic_load_explicit(&thread->log.head, memory_order_relaxed);
    if (head != atomic_load_explicit(&thread->log.tail, memory_order_relaxed)) {
        mr_chores_poke();
    }
}

static bool has_completions(const struct thread *thread)
{
    return mr_wait_ready(thread->wait, MR_WAIT_TAG_TRANSPORT) > 0 ||
           mr_wait_ready(thread->wait, MR_WAIT_TAG_DISK) > 0;
}

/* Whether somebody wants a copy of what this thread has counted. */
static bool is_sample_wanted(const struct thread *thread)
{
    return mr_sampler_asked(&broker.sampler) != thread->sampled;
}

/* A port that waits for room in a ring looks again soon: nobody rings when a ring empties. */
#define SPILL_NS (50 * MR_NS_PER_US)

/*
 * Sleep until something happens, after a turn without work. `mail` says whether a message can be
 * received; it is asked again after `sleeping` is set (Dekker, wait.h).
 */
static void idle(struct thread *thread, uint64_t now_ns, uint64_t deadline_ns,
                 bool (*mail)(const void *), const void *who)
{
    if (thread->spin_ns > 0 && deadline_ns > now_ns + thread->spin_ns) {
        uint64_t until_ns = now_ns + thread->spin_ns;
        do {
            mr_wait(thread->wait, 0);
            if (mail(who) || has_completions(thread)) {
                thread->vain_spins = 0;
                return;
            }
        } while (read_clocks().mono_ns < until_ns);
        if (++thread->vain_spins >= 3) {
            thread->spin_ns /= 2;
            thread->vain_spins = 0;
        }
    }
    mr_doorbell_sleep(&thread->bell);
    if (mail(who) || is_sample_wanted(thread) || atomic_load(&broker.is_over) ||
        (thread == &broker.control_thread && !thread->is_told &&
         atomic_load(&broker.is_stop_wanted))) {
        deadline_ns = 0;
    }
    mr_wait(thread->wait, deadline_ns);
    mr_doorbell_awake(&thread->bell);
}

/* ---- Counters ---- */

static void sample_core(struct core *core)
{
    struct mr_metrics *metrics = &broker.sampler.metrics;
    core->thread.sampled = mr_sampler_asked(&broker.sampler);
    if (core->data != NULL) {
        mr_data_core_stats(core->data, &metrics->data[core->data_core]);
    }
    for (uint32_t index = 0; index < core->shard_count; index++) {
        const struct shard *shard = &core->shards[index];
        mr_storage_core_stats(shard->storage, &metrics->storage[shard->number]);
    }
    mr_sampler_done(&broker.sampler, core->index, core->thread.sampled);
}

static void wake_all(void)
{
    for (uint32_t core = 0; core < broker.plan->thread_count; core++) {
        mr_doorbell_ring(&broker.cores[core].thread.bell);
    }
    mr_doorbell_ring(&broker.control_thread.bell);
}

static void sample_control(struct thread *thread)
{
    thread->sampled = mr_sampler_asked(&broker.sampler);
    mr_control_stats(broker.control, &broker.sampler.metrics.control);
    mr_sampler_done(&broker.sampler, broker.plan->thread_count, thread->sampled);
}

/* ---- A core ---- */

static bool core_mail(const void *who)
{
    const struct core *core = who;
    bool has_mail = core->data_port != NULL && mr_port_has_mail(core->data_port);
    for (uint32_t index = 0; index < core->shard_count && !has_mail; index++) {
        has_mail = mr_port_has_mail(core->shards[index].port);
    }
    return has_mail;
}

/* Completions that wait in the ring, or that one directory's disk has taken for another's. */
static bool core_has_completions(const struct core *core)
{
    bool has_any = has_completions(&core->thread);
    for (uint32_t index = 0; index < core->shard_count && !has_any; index++) {
        has_any = mr_disk_uring_is_ready(core->shards[index].disk);
    }
    return has_any;
}

static uint64_t core_deadline_ns(const struct core *core, uint64_t now_ns)
{
    uint64_t deadline_ns = MR_NEVER;
    if (core->data != NULL) {
        deadline_ns = mr_data_core_deadline_ns(core->data);
        if (mr_port_has_spill(core->data_port)) {
            deadline_ns = mr_earlier(deadline_ns, now_ns + SPILL_NS);
        }
    }
    for (uint32_t index = 0; index < core->shard_count; index++) {
        const struct shard *shard = &core->shards[index];
        deadline_ns = mr_earlier(deadline_ns, mr_storage_core_deadline_ns(shard->storage));
        if (mr_port_has_spill(shard->port)) {
            deadline_ns = mr_earlier(deadline_ns, now_ns + SPILL_NS);
        }
    }
    return deadline_ns;
}

/* Recovery reads the journal through 16 MiB that an idle broker need not keep. */
static void trim(struct core *core)
{
    for (uint32_t index = 0; index < core->shard_count; index++) {
        struct shard *shard = &core->shards[index];
        struct mr_memory spent = {0};
        if (!shard->is_trimmed) {
            spent = mr_storage_core_spent(shard->storage);
        }
        if (spent.bytes > 0) {
            mr_memory_give_back(spent.base, spent.bytes);
            shard->is_trimmed = true;
        }
    }
}

static bool shards_turn(struct core *core, struct mr_now now)
{
    bool is_busy = false;
    for (uint32_t index = 0; index < core->shard_count; index++) {
        struct shard *shard = &core->shards[index];
        is_busy = mr_storage_core_turn(shard->storage, now) || is_busy;
        flush_port(shard->port, &core->thread.bell);
    }
    return is_busy;
}

/*
 * What a turn has prepared is not handed to the kernel before the next ones have seen their mail: a write
 * completes, storage answers, the data role replies, and one call submits the send, the next receive and
 * waits. Not for ever, as what is prepared grows older.
 */
#define TURNS_MAX 4u

static void core_loop(struct core *core)
{
    struct thread *thread = &core->thread;
    uint32_t turns = 0; /* since the kernel was last asked */
    while (!atomic_load_explicit(&broker.is_over, memory_order_relaxed)) {
        struct mr_now now = read_clocks();
        bool is_busy = false;
        thread->log.unix_ms = now.unix_ms;
        if (is_sample_wanted(thread)) {
            sample_core(core);
        }
        if (core->data != NULL) {
            is_busy = mr_data_core_turn(core->data, now);
            flush_port(core->data_port, &thread->bell);
        }
        is_busy = shards_turn(core, now) || is_busy;
        poke_log(thread);
        bool is_more = is_busy || core_mail(core) || core_has_completions(core);
        if (is_more && ++turns < TURNS_MAX) {
            continue;
        }
        turns = 0;
        if (is_more) {
            mr_wait(thread->wait, 0);
            continue;
        }
        trim(core);
        uint64_t deadline_ns = core_deadline_ns(core, now.mono_ns);
        if (deadline_ns <= now.mono_ns) {
            mr_wait(thread->wait, 0);
            continue;
        }
        idle(thread, now.mono_ns, deadline_ns, core_mail, core);
    }
}

static void thread_begin(struct thread *thread, int32_t cpu)
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
        mr_arena_get_fresh(&thread->arena, mr_wait_uring_bytes(broker.plan->wait_entries), 64);
    thread->log.unix_ms = read_clocks().unix_ms;
    thread->wait = mr_wait_uring_init(memory, broker.plan->wait_entries, &thread->bell, &os_errno);
    if (thread->wait == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "io_uring cannot be set up why=%s", strerror(os_errno));
        atomic_fetch_add(&broker.init_failures, 1);
    }
}

static struct mr_disk *make_disk(struct thread *thread)
{
    return mr_disk_uring_init(mr_arena_get(&thread->arena, mr_disk_uring_bytes(), 64),
                              thread->wait);
}

static void core_init_data(struct core *core)
{
    struct thread *thread = &core->thread;
    const struct mr_config *config = broker.params->config;
    const struct mr_transports_ask ask = {
        .config = config,
        .plan = broker.plan,
        .wait = thread->wait,
        .log = &thread->log,
        .arena = &thread->arena,
        .nic = broker.params->lanes[core->data_core],
        .nic_params = broker.params->nic_params,
        .listeners = broker.params->listeners,
        .listener_count = broker.params->listener_count,
        .secret = {random_seed(), random_seed()},
    };
    core->transport = mr_transports_make(&ask);
    const struct mr_data_params params = {
        .plan = &broker.plan->data,
        .config = config,
        .endpoints = &broker.plan->endpoints,
        .core = (uint32_t)core->data_core,
        .port = core->data_port,
        .transport = core->transport,
        .log = &thread->log,
        .trace = &thread->trace,
        .arena = &thread->arena,
        .seed = random_seed(),
    };
    core->data = core->transport == NULL ? NULL : mr_data_core_init(&params);
    if (core->data == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "the data core cannot be set up");
        atomic_fetch_add(&broker.init_failures, 1);
    }
}

static void shard_init(struct core *core, struct shard *shard)
{
    struct thread *thread = &core->thread;
    const struct mr_endpoints *endpoints = &broker.plan->endpoints;
    shard->disk = make_disk(thread);
    mr_arena_init(&shard->arena, mr_arena_get_fresh(&thread->arena, broker.plan->storage_core_bytes, 4096),
                  broker.plan->storage_core_bytes);
    const struct mr_storage_params params = {
        .plan = &broker.plan->storage,
        .endpoints = endpoints,
        .core = shard->number % mr_endpoint_dir_cores(endpoints),
        .port = shard->port,
        .disk = shard->disk,
        .log = &thread->log,
        .trace = &thread->trace,
        .arena = &shard->arena,
        .log_dir = broker.params->dirs[mr_endpoint_dir(endpoints, shard->number)].path,
        .node_id = (int32_t)broker.params->config->node_id,
        .seed = random_seed(),
        .stop_hurry = &broker.stop_hurry,
    };
    shard->storage = shard->disk == NULL ? NULL : mr_storage_core_init(&params);
    if (shard->storage == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "the storage core cannot be set up");
        atomic_fetch_add(&broker.init_failures, 1);
    }
    mr_arena_seal(&shard->arena);
    mr_memory_huge(&shard->arena);
}

static void *core_main(void *argument)
{
    struct core *core = argument;
    thread_begin(&core->thread, core->cpu);
    if (core->thread.wait != NULL && core->data_core >= 0) {
        core_init_data(core);
    }
    for (uint32_t index = 0; core->thread.wait != NULL && index < core->shard_count; index++) {
        shard_init(core, &core->shards[index]);
    }
    /* What a data or storage core has after this point is all that it will ever have. */
    mr_arena_seal(&core->thread.arena);
    mr_memory_huge(&core->thread.arena);
    poke_log(&core->thread);
    pthread_barrier_wait(&broker.ready);
    if (atomic_load(&broker.init_failures) == 0) {
        core_loop(core);
    }
    for (uint32_t index = 0; index < core->shard_count; index++) {
        struct mr_disk *disk = core->shards[index].disk;
        if (disk != NULL && disk->in_flight == 0) {
            mr_disk_uring_deinit(disk);
        }
    }
    return NULL;
}

/* ---- Control ---- */

static bool control_mail(const void *who)
{
    (void)who;
    return mr_port_has_mail(broker.ports[mr_endpoint_control(&broker.plan->endpoints)]);
}

static bool is_ended(enum mr_control_state state)
{
    return state == MR_CONTROL_STOPPED || state == MR_CONTROL_FAILED;
}

/* Turns have budgets; one that takes so long makes heartbeats and every other request wait. */
static void tell_long_turn(struct thread *thread, uint64_t began_ns)
{
    static struct mr_log_brake brake;
    uint64_t now_ns = read_clocks().mono_ns;
    if (now_ns - began_ns >= LONG_TURN_MS * MR_NS_PER_MS &&
        mr_log_may(&brake, now_ns, LONG_TURN_EVERY_NS)) {
        mr_log(&thread->log, MR_LOG_WARN,
                       "a turn of the control thread took long ms=%llu",
                       (unsigned long long)((now_ns - began_ns) / MR_NS_PER_MS));
    }
}

static void control_loop(struct mr_port *port)
{
    struct thread *thread = &broker.control_thread;
    while (!is_ended(mr_control_state(broker.control))) {
        struct mr_now now = read_clocks();
        thread->log.unix_ms = now.unix_ms;
        if (!thread->is_told &&
            atomic_load_explicit(&broker.is_stop_wanted, memory_order_acquire)) {
            thread->is_told = true;
            mr_control_stop(broker.control, now);
        }
        if (is_sample_wanted(thread)) {
            sample_control(thread);
        }
        bool is_busy = mr_control_turn(broker.control, now);
        tell_long_turn(thread, now.mono_ns);
        flush_port(port, &thread->bell);
        poke_log(thread);
        if (is_busy || mr_port_has_mail(port) || has_completions(thread)) {
            mr_wait(thread->wait, 0);
            continue;
        }
        uint64_t deadline_ns = mr_control_deadline_ns(broker.control);
        if (mr_port_has_spill(port)) {
            deadline_ns = mr_earlier(deadline_ns, now.mono_ns + SPILL_NS);
        }
        if (deadline_ns <= now.mono_ns || is_ended(mr_control_state(broker.control))) {
            mr_wait(thread->wait, 0);
            continue;
        }
        idle(thread, now.mono_ns, deadline_ns, control_mail, NULL);
    }
}

static void end_all(int exit_code)
{
    uint64_t one = 1;
    atomic_store(&broker.exit_code, exit_code);
    atomic_store(&broker.is_over, true);
    wake_all();
    ssize_t len = write(broker.over_fd, &one, sizeof one);
    (void)len;
}

static void *control_main(void *unused)
{
    struct thread *thread = &broker.control_thread;
    struct mr_port *port = broker.ports[mr_endpoint_control(&broker.plan->endpoints)];
    struct mr_disk *disk = NULL;
    (void)unused;
    thread_begin(thread, MR_PLAN_CPU_ANY);
    if (thread->wait != NULL) {
        disk = make_disk(thread);
        struct mr_control_params params = {
            .plan = &broker.plan->control,
            .config = broker.params->config,
            .endpoints = &broker.plan->endpoints,
            .port = port,
            .disk = disk,
            .log = &thread->log,
            .arena = &thread->arena,
            .log_dir = broker.params->dirs[0].path,
            .cluster_id = broker.params->cluster_id,
            .directory_id = broker.params->dirs[0].id,
            .dirs = broker.params->dirs,
            .dir_count = broker.params->dir_count,
            .seed = random_seed(),
        };
        ssize_t len = getrandom(params.random, sizeof params.random, 0);
        mr_assert(len == (ssize_t)sizeof params.random);
        broker.control = mr_control_init(&params);
    }
    if (broker.control == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "control cannot be set up");
        atomic_fetch_add(&broker.init_failures, 1);
    }
    poke_log(thread);
    pthread_barrier_wait(&broker.ready);
    if (atomic_load(&broker.init_failures) != 0) {
        end_all(1);
        return NULL;
    }
    atomic_store(&broker.is_running, true);
    control_loop(port);
    atomic_store(&broker.is_running, false);
    bool is_failed = mr_control_state(broker.control) == MR_CONTROL_FAILED;
    if (is_failed) {
        mr_log(&thread->log, MR_LOG_ERROR, "stopped after a failure, see above");
    }
    poke_log(thread);
    end_all(is_failed ? 1 : 0);
    if (disk != NULL && disk->in_flight == 0) {
        mr_disk_uring_deinit(disk);
    }
    return NULL;
}

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

static bool thread_prepare(struct thread *thread, const char *name, uint32_t number, uint64_t bytes)
{
    if (number == UINT32_MAX) {
        mr_fmt(thread->name, sizeof thread->name, "%s", name);
    } else {
        mr_fmt(thread->name, sizeof thread->name, "%s-%u", name, number);
    }
    uint64_t size = bytes + broker.plan->wait_bytes + broker.plan->log_bytes + (1u << 20);
    if (!mr_doorbell_init(&thread->bell) || !mr_memory_arena(&thread->arena, size)) {
        return false;
    }
    thread->spin_ns = broker.plan->spin_ns;
    mr_log_init(&thread->log, &thread->arena, broker.plan->log_lines, thread->name);
    thread->log.level_min = log_level(broker.params->config);
    mr_log_writer_add(&thread->log);
    return true;
}

/* One storage core of each directory; the first ones, which recover the directories, in different threads. */
static void shards_place(struct core *core)
{
    const struct mr_endpoints *endpoints = &broker.plan->endpoints;
    uint32_t cores = mr_endpoint_dir_cores(endpoints);
    for (uint32_t dir = 0; dir < mr_endpoint_dirs(endpoints); dir++) {
        struct shard *shard = &core->shards[core->shard_count++];
        shard->number = dir * cores + ((uint32_t)core->storage_thread + cores - dir % cores) % cores;
        uint32_t endpoint = mr_endpoint_storage(endpoints, shard->number);
        shard->port = broker.ports[endpoint];
        broker.bells[endpoint] = &core->thread.bell;
    }
}

static bool prepare_core(uint32_t index)
{
    const struct mr_plan *plan = broker.plan;
    const struct mr_endpoints *endpoints = &plan->endpoints;
    struct core *core = &broker.cores[index];
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
        core->data_port = broker.ports[endpoint];
        broker.bells[endpoint] = &core->thread.bell;
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
    const struct mr_plan *plan = broker.plan;
    mr_port_connect(broker.ports[a], broker.ports[b], &broker.plane_arena, plan->ring_slots,
                    plan->spill_slots);
    mr_port_connect(broker.ports[b], broker.ports[a], &broker.plane_arena, plan->ring_slots,
                    plan->spill_slots);
}

static bool prepare(void)
{
    const struct mr_plan *plan = broker.plan;
    const struct mr_endpoints *endpoints = &plan->endpoints;
    uint32_t control = mr_endpoint_control(endpoints);
    if (!mr_memory_arena(&broker.plane_arena, plan->plane_bytes + (1u << 20)) ||
        !mr_memory_arena(&broker.main_arena, plan->log_bytes + (1u << 16))) {
        return false;
    }
    mr_log_init(&broker.main_log, &broker.main_arena, plan->log_lines, "main");
    mr_log_writer_add(&broker.main_log);
    for (uint32_t endpoint = 0; endpoint < mr_endpoint_count(endpoints); endpoint++) {
        struct mr_port *port = mr_arena_get(&broker.plane_arena, sizeof *port, 64);
        port->self = endpoint;
        port->endpoint_count = mr_endpoint_count(endpoints);
        broker.ports[endpoint] = port;
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
    broker.bells[control] = &broker.control_thread.bell;
    broker.sampler.metrics.data_count = endpoints->data_count;
    broker.sampler.metrics.storage_count = endpoints->storage_count;
    if (!mr_sampler_init(&broker.sampler, plan->thread_count + 1)) {
        return false;
    }
    return thread_prepare(&broker.control_thread, "control", UINT32_MAX,
                          plan->control_bytes + plan->disk_bytes);
}

static bool start_thread(struct thread *thread, void *(*main)(void *), void *argument)
{
    thread->is_started = pthread_create(&thread->id, NULL, main, argument) == 0;
    return thread->is_started;
}

/* ---- Signals ---- */

/* The main thread says its lines itself: it has no turn in which the time would be set. */
static void say(enum mr_log_level level, const char *text)
{
    broker.main_log.unix_ms = read_clocks().unix_ms;
    mr_log(&broker.main_log, level, "%s", text);
    mr_chores_poke();
}

static void on_signal(int number)
{
    if (!atomic_load(&broker.is_stop_wanted)) {
        say(MR_LOG_INFO, number == SIGTERM
                             ? "stopping cleanly signal=SIGTERM; a second one leaves at once"
                             : "stopping cleanly signal=SIGINT; a second one leaves at once");
        atomic_store_explicit(&broker.is_stop_wanted, true, memory_order_release);
        mr_doorbell_ring(&broker.control_thread.bell);
        return;
    }
    if (mr_bug("ignore-hurry")) {
        return;
    }
    atomic_store(&broker.stop_hurry, 1);
    say(MR_LOG_WARN,
        "leaving at once: what was acknowledged is in the journal, the next start recovers it");
    (void)mr_log_writer_drain();
    _exit(1);
}

static void wait_for_the_end(int signal_fd)
{
    struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = broker.over_fd, .events = POLLIN}};
    while (!atomic_load(&broker.is_over)) {
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
static void write_trace(const struct thread *thread)
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
    for (uint32_t index = 0; index < broker.plan->thread_count; index++) {
        write_trace(&broker.cores[index].thread);
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
    broker.params = params;
    broker.plan = params->plan;
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
        .sampler = &broker.sampler, .wake = wake_all, .is_running = &broker.is_running};
    if (!mr_answers_start(params->config, &answers, why, sizeof why)) {
        return refuse(why);
    }
    broker.over_fd = over.event_fd;
    mr_panic_set_hook(on_panic);
    bool is_good = mr_chores_start();
    mr_memory_limits(params->plan, warn_line);
    if (params->config->millrace_memory_lock) {
        mr_memory_lock(warn_line);
    }
    (void)pthread_barrier_init(&broker.ready, NULL, params->plan->thread_count + 1);
    for (uint32_t index = 0; is_good && index < params->plan->thread_count; index++) {
        is_good = start_thread(&broker.cores[index].thread, core_main, &broker.cores[index]);
    }
    is_good = is_good && start_thread(&broker.control_thread, control_main, NULL);
    if (!is_good) {
        say(MR_LOG_ERROR, "a thread cannot be started");
        (void)mr_log_writer_drain();
        _exit(1); /* the others wait at the barrier */
    }
    wait_for_the_end(signal_fd);
    (void)pthread_join(broker.control_thread.id, NULL);
    for (uint32_t index = 0; index < params->plan->thread_count; index++) {
        (void)pthread_join(broker.cores[index].thread.id, NULL);
    }
    mr_chores_stop();
    return atomic_load(&broker.exit_code);
}
