/* sim_life: the storage cores of one life, their memory, their mail and their time (sim_storage_world.h). */
#define _DEFAULT_SOURCE /* mincore */
#include "sim_storage_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE      4096u
#define KEEP_MAX  4096u             /* pages that are cleared for the next life; more are given back */
#define ENDPOINTS (CORES_MAX + 2u) /* at most: memory for as many, so that the next life can have it whatever its cores */

/* ---- Memory ---- */

static void unmap(struct shard *shard)
{
    if (shard->memory != NULL) {
        munmap(shard->memory, shard->memory_bytes);
        shard->memory = NULL;
    }
}

static void map(struct shard *shard, size_t bytes)
{
    if (shard->memory != NULL && shard->memory_bytes == bytes) {
        return;
    }
    unmap(shard);
    shard->memory_bytes = bytes;
    shard->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mr_assert(shard->memory != MAP_FAILED);
}

/* As fresh from the kernel, without asking it for the same pages again and again: a life touches a few hundred. */
static void clear(struct shard *shard)
{
    size_t   pages = (shard->memory_bytes + PAGE - 1) / PAGE;
    uint8_t *is_there = malloc(pages);
    uint32_t count = 0;
    mr_assert(is_there != NULL && mincore(shard->memory, shard->memory_bytes, is_there) == 0);
    for (size_t page = 0; page < pages; page++) {
        count += is_there[page] & 1u;
    }
    for (size_t page = 0; page < pages && count <= KEEP_MAX; page++) {
        if ((is_there[page] & 1u) != 0) {
            size_t left = shard->memory_bytes - page * PAGE;
            memset(shard->memory + page * PAGE, 0, left < PAGE ? left : PAGE);
        }
    }
    free(is_there);
    if (count > KEEP_MAX) {
        unmap(shard);
    }
}

/* ---- A life ---- */

static void say_log(struct world *w)
{
    const struct mr_log_line *line;
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        while ((line = mr_log_out(&w->shards[core].log)) != NULL) {
            if (w->is_verbose) {
                fprintf(stderr, "%12llu %.*s\n", (unsigned long long)w->now.mono_ns, (int)line->len, line->text);
            }
            mr_log_retire(&w->shards[core].log);
        }
    }
}

/* Who asks, the cores, and control, which only listens. */
static void connect(struct world *w, struct mr_arena *arena)
{
    uint32_t count = mr_endpoint_count(&w->endpoints);
    uint32_t control = mr_endpoint_control(&w->endpoints);
    for (uint32_t index = 0; index < count; index++) {
        w->ports[index] = mr_arena_get(arena, sizeof(struct mr_port), 64);
        w->ports[index]->self = index;
        w->ports[index]->endpoint_count = count;
    }
    for (uint32_t from = 0; from < control; from++) {
        for (uint32_t to = 0; to < count; to++) {
            if (from != to && !(from == DATA && to == control)) {
                mr_port_connect(w->ports[from], w->ports[to], arena, RING_SLOTS, SPILL_SLOTS);
            }
        }
    }
}

void mr_sim_life_begin(struct world *w)
{
    struct mr_arena arenas[CORES_MAX];
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        size_t rings = core == 0 ? (size_t)ENDPOINTS * ENDPOINTS * (SPILL_SLOTS + RING_SLOTS) * 64 : 0;
        map(&w->shards[core], mr_storage_core_bytes(&w->plan) + rings + (4u << 20));
        mr_arena_init(&arenas[core], w->shards[core].memory, w->shards[core].memory_bytes);
    }
    connect(w, &arenas[0]);
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        struct shard *shard = &w->shards[core];
        mr_log_init(&shard->log, &arenas[core], 256, "storage");
        mr_sim_liar_init(&shard->liar, w);
        struct mr_storage_params params = {
            .plan = &w->plan,
            .endpoints = &w->endpoints,
            .core = core,
            .port = w->ports[mr_endpoint_storage(&w->endpoints, core)],
            .disk = &shard->liar.disk,
            .log = &shard->log,
            .arena = &arenas[core],
            .log_dir = LOG_DIR,
            .node_id = 1,
            .seed = mr_prng_next(&w->prng),
        };
        shard->core = mr_storage_core_init(&params);
    }
    memset(w->held, 0, sizeof w->held);
    memset(w->watches, 0, sizeof w->watches);
    for (uint32_t index = 0; index < CALLS; index++) {
        w->calls[index].is_used = false;
    }
    w->result->lives++;
}

void mr_sim_life_end(struct world *w)
{
    say_log(w);
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        struct mr_storage_stats stats;
        struct shard           *shard = &w->shards[core];
        mr_storage_core_stats(shard->core, &stats);
        w->result->commits += stats.commits;
        w->result->recycled_files += stats.recycled_files;
        w->result->cold_reads += (uint32_t)stats.cold_reads;
        w->result->clean_rounds += stats.clean_rounds;
        mr_sim_disk_destroy(shard->liar.honest);
        clear(shard);
    }
    for (uint32_t index = 0; index < SLOTS; index++) {
        w->slots[index].deletes = 0;
    }
}

void mr_sim_life_free(struct world *w)
{
    for (uint32_t core = 0; core < CORES_MAX; core++) {
        unmap(&w->shards[core]);
    }
}

/* ---- Mail ---- */

static const char *const kinds[] = {"",     "append",    "read",   "list",     "epoch end", "delete",
                                    "recover", "open", "configure", "drop",   "stat",      "stop"};

static void tell(const struct world *w, const char *what, const struct call *call)
{
    if (!w->is_verbose) {
        return;
    }
    fprintf(stderr, "%12llu %s %s", (unsigned long long)w->now.mono_ns, what, kinds[call->u.op.kind]);
    for (uint32_t index = 0; index < call->count; index++) {
        const struct note *note = &call->notes[index];
        fprintf(stderr, " %s.%u[%lld %lld %lld]", note->slot->topic, note->generation, (long long)note->slot->model.start,
                (long long)note->slot->model.floor, (long long)note->slot->model.end);
    }
    fprintf(stderr, " %s\n", mr_err_text(call->u.op.err));
}

static void take_mail(struct world *w)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(w->ports[mr_endpoint_control(&w->endpoints)], &msg)) {
        if (!w->is_faulty && !w->is_rotten && (!w->is_full || w->is_serving)) {
            fail(w, "control is told of trouble where there is none: message %u", msg.kind);
        }
    }
    while (mr_port_receive(w->ports[DATA], &msg)) {
        if (msg.kind == MR_PLANE_STORAGE_DONE) {
            tell(w, "<", msg.u.op->user);
            mr_model_answer(w, msg.u.op->user);
            continue;
        }
        for (uint32_t index = 0; msg.kind == MR_PLANE_MOVED && index < msg.count; index++) {
            mr_model_answer_moved(w, msg.u.moved[index].token, msg.u.moved[index].high_watermark);
        }
    }
}

struct call *mr_sim_life_free_call(struct world *w)
{
    for (uint32_t index = 0; index < CALLS; index++) {
        if (!w->calls[index].is_used) {
            return &w->calls[index];
        }
    }
    return NULL;
}

void mr_sim_life_send(struct world *w, struct call *call, enum mr_storage_kind kind)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = &call->u.op};
    call->is_used = true;
    call->is_done = false;
    call->core = call->count > 0 ? core_of(w, call->notes[0].slot) : call->core;
    call->u.op.kind = kind;
    call->u.op.user = call;
    tell(w, ">", call);
    mr_port_send(w->ports[DATA], mr_endpoint_storage(&w->endpoints, call->core), &msg);
}

/* ---- Turns and time ---- */

static void flush(struct mr_port *port)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    (void)mr_port_flush(port, woken);
}

void mr_sim_life_pass(struct world *w, uint64_t at_ns)
{
    if (at_ns > w->now.mono_ns) {
        w->now.unix_ms += (int64_t)(at_ns / MR_NS_PER_MS - w->now.mono_ns / MR_NS_PER_MS);
        w->now.mono_ns = at_ns;
        mr_sim_fs_set_clock(w->fs, at_ns);
    }
}

bool mr_sim_life_step(struct world *w)
{
    bool     is_busy = false;
    uint64_t at_ns = MR_NEVER;
    flush(w->ports[DATA]);
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        struct shard *shard = &w->shards[core];
        is_busy |= mr_storage_core_turn(shard->core, w->now);
        flush(w->ports[mr_endpoint_storage(&w->endpoints, core)]);
        take_mail(w);
        mr_sim_life_pass(w, mr_sim_fs_clock(w->fs)); /* what blocked has taken its time */
    }
    say_log(w);
    if (is_busy || w->ports[DATA]->dirty[0] != 0) {
        return true;
    }
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        const struct shard *shard = &w->shards[core];
        bool                is_lying = !mr_list_is_empty(&shard->liar.unserved);
        at_ns = mr_earlier(at_ns, is_lying ? w->now.mono_ns : mr_sim_disk_next_ns(shard->liar.honest));
        at_ns = mr_earlier(at_ns, mr_storage_core_deadline_ns(shard->core));
    }
    if (at_ns == MR_NEVER) {
        return false;
    }
    mr_sim_life_pass(w, at_ns);
    return true;
}

void mr_sim_life_settle(struct world *w)
{
    const struct call *open = NULL;
    for (uint32_t steps = 0; steps < STEPS_MAX && !is_failed(w); steps++) {
        open = NULL;
        for (uint32_t index = 0; index < CALLS; index++) {
            open = w->calls[index].is_used && !w->calls[index].is_done ? &w->calls[index] : open;
        }
        if (open == NULL) {
            return;
        }
        (void)mr_sim_life_step(w);
    }
    fail(w, "%s is never answered", kinds[open == NULL ? 0 : open->u.op.kind]);
}

enum mr_err mr_sim_life_finish(struct world *w, struct call *call)
{
    mr_sim_life_settle(w);
    call->is_used = false;
    return call->u.op.err;
}
