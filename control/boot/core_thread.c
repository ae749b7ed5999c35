/* core_thread: a thread with the data role, storage cores, or both: its parts, its loop, its end. */
#include "boot/threads_private.h"

#include "boot/memory.h"
#include "boot/transports.h"

static void sample_core(struct mr_core_thread *core)
{
    struct mr_metrics *metrics = &mr_broker.sampler.metrics;
    core->thread.sampled = mr_sampler_asked(&mr_broker.sampler);
    if (core->data != NULL) {
        mr_data_core_stats(core->data, &metrics->data[core->data_core]);
    }
    for (uint32_t index = 0; index < core->shard_count; index++) {
        const struct mr_shard *shard = &core->shards[index];
        mr_storage_core_stats(shard->storage, &metrics->storage[shard->number]);
    }
    mr_sampler_done(&mr_broker.sampler, core->index, core->thread.sampled);
}

static bool core_mail(const void *who)
{
    const struct mr_core_thread *core = who;
    bool has_mail = core->data_port != NULL && mr_port_has_mail(core->data_port);
    for (uint32_t index = 0; index < core->shard_count && !has_mail; index++) {
        has_mail = mr_port_has_mail(core->shards[index].port);
    }
    return has_mail;
}

/* Completions that wait in the ring, or that one directory's disk has taken for another's. */
static bool core_has_completions(const struct mr_core_thread *core)
{
    bool has_any = mr_thread_has_completions(&core->thread);
    for (uint32_t index = 0; index < core->shard_count && !has_any; index++) {
        has_any = mr_disk_uring_is_ready(core->shards[index].disk);
    }
    return has_any;
}

static uint64_t core_deadline_ns(const struct mr_core_thread *core, uint64_t now_ns)
{
    uint64_t deadline_ns = MR_NEVER;
    if (core->data != NULL) {
        deadline_ns = mr_data_core_deadline_ns(core->data);
        if (mr_port_has_spill(core->data_port)) {
            deadline_ns = mr_earlier(deadline_ns, now_ns + MR_THREAD_SPILL_NS);
        }
    }
    for (uint32_t index = 0; index < core->shard_count; index++) {
        const struct mr_shard *shard = &core->shards[index];
        deadline_ns = mr_earlier(deadline_ns, mr_storage_core_deadline_ns(shard->storage));
        if (mr_port_has_spill(shard->port)) {
            deadline_ns = mr_earlier(deadline_ns, now_ns + MR_THREAD_SPILL_NS);
        }
    }
    return deadline_ns;
}

/* Recovery reads the journal through 16 MiB that an idle broker need not keep. */
static void trim(struct mr_core_thread *core)
{
    for (uint32_t index = 0; index < core->shard_count; index++) {
        struct mr_shard *shard = &core->shards[index];
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

static bool shards_turn(struct mr_core_thread *core, struct mr_now now)
{
    bool is_busy = false;
    for (uint32_t index = 0; index < core->shard_count; index++) {
        struct mr_shard *shard = &core->shards[index];
        is_busy = mr_storage_core_turn(shard->storage, now) || is_busy;
        mr_thread_flush(shard->port, &core->thread.bell);
    }
    return is_busy;
}

/*
 * What a turn has prepared is not handed to the kernel before the next ones have seen their mail: a write
 * completes, storage answers, the data role replies, and one call submits the send, the next receive and
 * waits. Not for ever, as what is prepared grows older.
 */
#define TURNS_MAX 4u

static void core_loop(struct mr_core_thread *core)
{
    struct mr_thread *thread = &core->thread;
    uint32_t turns = 0; /* since the kernel was last asked */
    while (!atomic_load_explicit(&mr_broker.is_over, memory_order_relaxed)) {
        struct mr_now now = mr_thread_clocks();
        bool is_busy = false;
        thread->log.unix_ms = now.unix_ms;
        if (mr_thread_is_sample_wanted(thread)) {
            sample_core(core);
        }
        if (core->data != NULL) {
            is_busy = mr_data_core_turn(core->data, now);
            mr_thread_flush(core->data_port, &thread->bell);
        }
        is_busy = shards_turn(core, now) || is_busy;
        mr_thread_poke_log(thread);
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
        mr_thread_idle(thread, now.mono_ns, deadline_ns, core_mail, core);
    }
}

static void core_init_data(struct mr_core_thread *core)
{
    struct mr_thread *thread = &core->thread;
    const struct mr_config *config = mr_broker.params->config;
    const struct mr_transports_ask ask = {
        .config = config,
        .plan = mr_broker.plan,
        .wait = thread->wait,
        .log = &thread->log,
        .arena = &thread->arena,
        .nic = mr_broker.params->lanes[core->data_core],
        .nic_params = mr_broker.params->nic_params,
        .listeners = mr_broker.params->listeners,
        .listener_count = mr_broker.params->listener_count,
        .secret = {mr_thread_seed(), mr_thread_seed()},
    };
    core->transport = mr_transports_make(&ask);
    const struct mr_data_params params = {
        .plan = &mr_broker.plan->data,
        .config = config,
        .endpoints = &mr_broker.plan->endpoints,
        .core = (uint32_t)core->data_core,
        .port = core->data_port,
        .transport = core->transport,
        .log = &thread->log,
        .trace = &thread->trace,
        .arena = &thread->arena,
        .seed = mr_thread_seed(),
    };
    core->data = core->transport == NULL ? NULL : mr_data_core_init(&params);
    if (core->data == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "the data core cannot be set up");
        atomic_fetch_add(&mr_broker.init_failures, 1);
    }
}

static void shard_init(struct mr_core_thread *core, struct mr_shard *shard)
{
    struct mr_thread *thread = &core->thread;
    const struct mr_endpoints *endpoints = &mr_broker.plan->endpoints;
    shard->disk = mr_thread_disk(thread);
    mr_arena_init(&shard->arena, mr_arena_get_fresh(&thread->arena, mr_broker.plan->storage_core_bytes, 4096),
                  mr_broker.plan->storage_core_bytes);
    const struct mr_storage_params params = {
        .plan = &mr_broker.plan->storage,
        .endpoints = endpoints,
        .core = shard->number % mr_endpoint_dir_cores(endpoints),
        .port = shard->port,
        .disk = shard->disk,
        .log = &thread->log,
        .trace = &thread->trace,
        .arena = &shard->arena,
        .log_dir = mr_broker.params->dirs[mr_endpoint_dir(endpoints, shard->number)].path,
        .node_id = (int32_t)mr_broker.params->config->node_id,
        .seed = mr_thread_seed(),
        .stop_hurry = &mr_broker.stop_hurry,
    };
    shard->storage = shard->disk == NULL ? NULL : mr_storage_core_init(&params);
    if (shard->storage == NULL) {
        mr_log(&thread->log, MR_LOG_ERROR, "the storage core cannot be set up");
        atomic_fetch_add(&mr_broker.init_failures, 1);
    }
    mr_arena_seal(&shard->arena);
    mr_memory_huge(&shard->arena);
}

void *mr_core_thread_main(void *argument)
{
    struct mr_core_thread *core = argument;
    mr_thread_begin(&core->thread, core->cpu);
    if (core->thread.wait != NULL && core->data_core >= 0) {
        core_init_data(core);
    }
    for (uint32_t index = 0; core->thread.wait != NULL && index < core->shard_count; index++) {
        shard_init(core, &core->shards[index]);
    }
    /* What a data or storage core has after this point is all that it will ever have. */
    mr_arena_seal(&core->thread.arena);
    mr_memory_huge(&core->thread.arena);
    mr_thread_poke_log(&core->thread);
    pthread_barrier_wait(&mr_broker.ready);
    if (atomic_load(&mr_broker.init_failures) == 0) {
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
