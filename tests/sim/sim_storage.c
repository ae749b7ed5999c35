#include "sim_storage_world.h"

#include "check_index.h"

#include "millrace/base/fmt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char properties[] = "#\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
                                 "node.id=1\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";

void mr_sim_storage_fail(struct world *w, const char *format, ...)
{
    if (w->result->why[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(w->result->why, sizeof w->result->why, format, arguments);
        va_end(arguments);
        if (w->is_verbose) {
            fprintf(stderr, "!! %s\n", w->result->why);
        }
    }
}

/* A watch whose offset was passed has fired by now. */
static void check_watches(struct world *w)
{
    (void)mr_sim_life_step(w); /* one that was sent last is taken now, */
    (void)mr_sim_life_step(w); /* and has fired then */
    for (uint32_t index = 0; index < WATCHES; index++) {
        const struct watch *watch = &w->watches[index];
        struct note         note = {.slot = watch->slot, .generation = watch->generation};
        if (watch->token != 0 && !w->is_faulty && !is_stale(&note) && watch->offset < watch->slot->model.floor) {
            fail(w, "a watch of %s at %lld did not fire at %lld", watch->slot->topic, (long long)watch->offset,
                 (long long)watch->slot->model.floor);
        }
    }
}

/* ---- Start and end ---- */

static struct call *system_call(struct world *w, uint32_t core)
{
    struct call *call = mr_sim_life_free_call(w);
    call->count = 0;
    call->core = core;
    return call;
}

/* Core 0 recovers, the others take over what is theirs. */
static bool recover(struct world *w)
{
    struct mr_storage_core *found_by = NULL;
    for (uint32_t core = 0; core < w->endpoints.storage_count; core++) {
        struct call *call = system_call(w, core);
        call->u.recover = (struct mr_recover_op){.found_by = found_by};
        mr_sim_life_send(w, call, MR_STORAGE_RECOVER);
        enum mr_err err = mr_sim_life_finish(w, call);
        if (err != MR_OK) {
            if (!w->is_faulty && !w->is_rotten && !w->is_full) {
                fail(w, "recovery: %s: %s", mr_err_text(err), call->u.recover.why);
            }
            return false;
        }
        if (core == 0 && w->is_clean && !call->u.recover.was_clean) {
            fail(w, "the marker of a clean stop is gone");
        }
        found_by = call->u.recover.found_by;
    }
    return true;
}

/* Everything there is, from the first batch to the last. */
static void read_all(struct world *w, struct slot *slot)
{
    int64_t offset = slot->model.start;
    memset(slot->newest, 0xff, sizeof slot->newest);
    while (offset < slot->model.end && !is_failed(w) && !w->is_faulty) {
        struct call *call = mr_sim_life_free_call(w);
        w->read_end = offset;
        mr_model_send_read(w, call, slot, offset, 100000);
        mr_sim_life_settle(w);
        if (w->read_end == offset) { /* retention took it, or compaction, and nothing follows */
            uint32_t index = mr_model_log_find(&slot->model, offset);
            w->read_end = slot->model.batches[index].base + slot->model.batches[index].count;
        }
        offset = w->read_end;
    }
    if (slot->is_keyed && !is_failed(w) && !w->is_faulty) {
        mr_model_keyed_folded(w, slot);
    }
}

/* The directory is at rest: its indexes are what its segments say. Behind rot they are not asked: a log that lost entries
 * stays as it is, without the ends of its indexes, and which one did is told by OPEN only. */
static void check_indexes(struct world *w)
{
    for (uint32_t index = 0; index < SLOTS && !w->is_faulty && !w->is_rotten && w->lie == MR_SIM_HONEST; index++) {
        struct slot *slot = &w->slots[index];
        char         dir[64];
        char         why[256];
        mr_model_answer_retain(w, slot);
        mr_fmt(dir, sizeof dir, LOG_DIR "/%s-0", slot->topic);
        if (slot->is_there && !mr_check_index_dir(w->fs, dir, slot->model.start_asked, why, sizeof why)) {
            fail(w, "%s", why);
        }
    }
}

bool mr_sim_storage_start(struct world *w)
{
    if ((w->traits & MR_SIM_TRAIT_CORES) != 0) {
        w->endpoints.storage_count = 1 + (uint32_t)draw(w, CORES_MAX);
    }
    w->is_serving = false;
    mr_sim_life_begin(w);
    if (!recover(w)) {
        return false;
    }
    check_indexes(w);
    for (uint32_t index = 0; index < SLOTS; index++) {
        struct slot *slot = &w->slots[index];
        if (slot->is_there || slot->is_dropping) {
            mr_model_send_open(w, mr_sim_life_free_call(w), slot);
        }
    }
    mr_sim_life_settle(w);
    w->is_serving = true;
    for (uint32_t index = 0; index < SLOTS && !w->is_faulty; index++) {
        if (w->slots[index].is_doomed) {
            mr_model_send_drop(w, mr_sim_life_free_call(w), &w->slots[index]);
        }
    }
    mr_sim_life_settle(w);
    for (uint32_t index = 0; index < SLOTS && !is_failed(w); index++) {
        if (w->slots[index].is_there && !w->slots[index].is_dropping) {
            read_all(w, &w->slots[index]);
        }
    }
    return !is_failed(w);
}

/* The disk has room for so much more only, perhaps for nothing. */
static void fill(struct world *w)
{
    mr_sim_life_settle(w);
    mr_sim_fs_capacity(w->fs, mr_sim_fs_used(w->fs) + draw(w, chance(w, 50) ? 64u << 10 : 3u << 20));
    w->is_full = true;
    w->result->full++;
    mr_sim_storage_rest(w, draw(w, 1500 * MR_NS_PER_MS)); /* it is asked once in a while */
}

void mr_sim_storage_unfill(struct world *w)
{
    mr_sim_life_settle(w);
    mr_sim_fs_capacity(w->fs, 0);
    mr_sim_storage_rest(w, 3 * MR_NS_PER_S);
    for (uint32_t index = 0; index < SLOTS; index++) {
        mr_model_send_stat(w, &w->slots[index]); /* a core that was idle asks for this only */
        mr_sim_life_settle(w);
    }
    w->is_full = mr_sim_fs_is_dead(w->fs); /* then nobody can find it out */
}

/* What time brings: retention and compaction, a full disk and its end. */
static void live_on(struct world *w)
{
    if ((w->traits & (MR_SIM_TRAIT_RETENTION | MR_SIM_TRAIT_KEYED)) != 0 && chance(w, 3)) {
        mr_sim_storage_rest(w, draw(w, 4 * MR_NS_PER_S));
    }
    if ((w->traits & MR_SIM_TRAIT_FULL) != 0 && !w->is_full && chance(w, 2)) {
        fill(w);
    } else if (w->is_full && chance(w, 5)) {
        mr_sim_storage_unfill(w);
    }
    if (w->is_full) { /* one after the other: which of them is refused is not known before */
        mr_sim_life_settle(w);
    }
}

void mr_sim_storage_live(struct world *w, uint64_t steps)
{
    for (; steps > 0 && !is_failed(w); steps--) {
        live_on(w);
        mr_model_send_any(w);
        for (uint64_t turns = draw(w, 4); turns > 0; turns--) {
            (void)mr_sim_life_step(w);
        }
        if (chance(w, 2)) {
            mr_sim_life_settle(w);
            check_watches(w);
        }
    }
}

void mr_sim_storage_look(struct world *w, uint32_t count)
{
    for (; count > 0 && !is_failed(w); count--) {
        mr_model_send_look(w);
        mr_sim_life_settle(w);
    }
}

void mr_sim_storage_rest(struct world *w, uint64_t ns)
{
    mr_sim_life_settle(w);
    for (uint64_t until_ns = w->now.mono_ns + ns; w->now.mono_ns < until_ns && !is_failed(w);) {
        if (!mr_sim_life_step(w)) {
            mr_sim_life_pass(w, until_ns);
        }
    }
}

/* Which trouble this life has. */
enum fate { FATE_STOP, FATE_KILL, FATE_CUT, FATE_DIE, FATE_FAULT, FATE_COUNT };

static void arrange(struct world *w, enum fate fate)
{
    if (fate == FATE_DIE) {
        mr_sim_fs_die_at(w->fs, mr_sim_fs_op_count(w->fs) + 1 + draw(w, chance(w, 50) ? 60 : 600));
        w->is_faulty = true;
        w->result->deaths++;
    } else if (fate == FATE_FAULT) {
        struct mr_sim_fault fault = {
            .kinds = 1u << (chance(w, 60) ? MR_DISK_WRITE : MR_DISK_SYNC_FS),
            .nth = draw(w, 200),
            .err = MR_ERR_IO,
            .is_sticky = chance(w, 50),
        };
        mr_sim_fs_fail(w->fs, &fault);
        w->is_faulty = true;
        w->result->faults++;
    }
}

bool mr_sim_storage_stop(struct world *w)
{
    mr_sim_life_settle(w);
    check_watches(w);
    enum mr_err err = MR_OK;
    w->is_serving = false;
    for (uint32_t core = w->endpoints.storage_count; core-- > 0 && err == MR_OK;) {
        struct call *call = system_call(w, core);
        call->u.stop = (struct mr_stop_op){.is_last = core == 0, .broker_epoch = 7};
        mr_sim_life_send(w, call, MR_STORAGE_STOP);
        err = mr_sim_life_finish(w, call);
    }
    if (err != MR_OK && !w->is_faulty && !w->is_full) {
        fail(w, "clean stop: %s", mr_err_text(err));
    }
    if (err == MR_OK) {
        check_indexes(w);
    }
    for (uint32_t index = 0; index < SLOTS && err == MR_OK && !w->is_faulty && !w->is_rotten; index++) {
        if (w->slots[index].is_there && !w->slots[index].is_dropping) {
            mr_check_epochs(w, &w->slots[index]);
        }
    }
    return err == MR_OK;
}

void mr_sim_storage_forget_unflushed(struct world *w)
{
    for (uint32_t index = 0; index < SLOTS; index++) {
        if (w->slots[index].config.ack == MR_ACK_WRITE) {
            w->slots[index].model.floor = w->slots[index].model.start;
        }
    }
}

static void crash(struct world *w, enum fate fate)
{
    mr_sim_life_end(w);
    w->is_clean = false;
    if (fate == FATE_KILL || (fate == FATE_FAULT && chance(w, 50))) {
        mr_sim_fs_process_kill(w->fs, mr_prng_next(&w->prng));
        w->result->kills++;
    } else {
        mr_sim_fs_power_cut(w->fs, (enum mr_sim_cut)draw(w, MR_SIM_CUT_COUNT), mr_prng_next(&w->prng));
        w->result->power_cuts++;
        mr_sim_storage_forget_unflushed(w);
    }
    mr_sim_fs_heal(w->fs);
    w->is_faulty = false;
    mr_sim_fs_capacity(w->fs, 0);
    w->is_full = false;
}

static void life(struct world *w)
{
    enum fate fate = (enum fate)draw(w, FATE_COUNT);
    arrange(w, fate);
    if (w->is_verbose) {
        fprintf(stderr, "-- life %u, fate %d\n", w->result->lives, (int)fate);
    }
    bool is_started = mr_sim_storage_start(w);
    if (is_started) {
        mr_sim_storage_live(w, 20 + draw(w, 200));
    }
    if (is_failed(w)) {
        mr_sim_life_end(w);
        return;
    }
    if (is_started && (fate == FATE_STOP || (w->is_faulty && chance(w, 30)))) {
        if (mr_sim_storage_stop(w)) {
            w->result->clean_stops++;
            w->is_clean = true;
            for (uint32_t index = 0; index < SLOTS; index++) {
                mr_model_log_see(&w->slots[index].model, w->slots[index].model.end);
            }
            mr_sim_life_end(w);
            mr_sim_fs_process_kill(w->fs, 0);
            mr_sim_fs_heal(w->fs);
            w->is_faulty = false;
            mr_sim_fs_capacity(w->fs, 0);
            w->is_full = false;
            if (chance(w, 50)) {
                mr_sim_fs_power_cut(w->fs, MR_SIM_CUT_DROP, 0);
            }
            return;
        }
        if (is_failed(w)) {
            mr_sim_life_end(w);
            return;
        }
    }
    crash(w, fate);
}

struct world *mr_sim_storage_create(uint64_t seed, enum mr_sim_lie lie, uint32_t traits, bool is_verbose,
                                    struct mr_sim_storage_result *result)
{
    struct world *w = calloc(1, sizeof *w);
    mr_assert(w != NULL);
    *result = (struct mr_sim_storage_result){.hash = seed};
    w->prng.state = seed;
    w->result = result;
    w->lie = lie;
    w->traits = traits;
    w->is_verbose = is_verbose;
    w->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    w->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    w->bytes = malloc(READ_MAX + MR_MODEL_BATCH_MAX);
    w->plan = (struct mr_storage_plan){
        .logs_max = 16,
        .cache_bytes = chance(w, 50) ? 2u << 20 : 8u << 20,
        .cold_bytes = 2u << 20,
        .journal_file_bytes = 1u << 20,
        .journal_files_max = 2 + (uint32_t)draw(w, 3),
        .producers_max = 64,
        .disk_reserve_bytes = 1u << 20,
        .segments_max = 2048,
        .retention_check_ms = 300000,
        .first_check_ms = 30000,
        .producer_check_ms = 600000,
        .scrub_bytes_per_s = chance(w, 50) ? 64u << 20 : 0,
        .scrub_interval_ms = 1000,
    };
    if ((traits & MR_SIM_TRAIT_RETENTION) != 0) {
        w->plan.retention_check_ms = 500 + (int64_t)draw(w, 3000);
    }
    if ((traits & MR_SIM_TRAIT_KEYED) != 0) {
        w->plan.clean_map_bytes = 64 << 10;
        w->plan.clean_load = 0.9;
        w->plan.clean_io_bytes = 256 << 10;
        w->plan.clean_backoff_ms = 100 + (int64_t)draw(w, 1000);
    }
    w->fs = mr_sim_fs_create(mr_prng_next(&w->prng));
    mr_sim_fs_set_clock(w->fs, w->now.mono_ns);
    mr_sim_fs_put(w->fs, LOG_DIR "/meta.properties", properties, sizeof properties - 1);
    if (chance(w, 75)) {
        mr_sim_fs_latency(w->fs, 1000, 1000 + draw(w, 3 * MR_NS_PER_MS), chance(w, 50));
    }
    for (uint32_t index = 0; index < SLOTS; index++) {
        mr_fmt(w->slots[index].topic, sizeof w->slots[index].topic, "%c", (int)('a' + index));
        mr_model_send_new_slot(w, &w->slots[index]);
        w->slots[index].is_dropping = index < SLOTS - 1; /* opened by the first life */
    }
    return w;
}

void mr_sim_storage_lives(struct world *w)
{
    for (uint64_t lives = 2 + draw(w, 4); lives > 0 && !is_failed(w); lives--) {
        life(w);
    }
    /* And a last one without trouble: everything is still there. */
    if (!is_failed(w)) {
        if (mr_sim_storage_start(w)) {
            (void)mr_sim_storage_stop(w);
        }
        mr_sim_life_end(w);
    }
}

void mr_sim_storage_destroy(struct world *w)
{
    mr_sim_fs_destroy(w->fs);
    mr_sim_life_free(w);
    free(w->bytes);
    free(w);
}

void mr_sim_storage_run(uint64_t seed, enum mr_sim_lie lie, uint32_t traits, bool is_verbose,
                        struct mr_sim_storage_result *result)
{
    struct world *w = mr_sim_storage_create(seed, lie, traits, is_verbose, result);
    mr_sim_storage_lives(w);
    mr_sim_storage_destroy(w);
}
