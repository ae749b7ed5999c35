#include "crash_image.h"

#include "sim_storage_world.h"

#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHY_BYTES     sizeof((struct mr_crash_result *)0)->why
#define IN_NESTED     40u /* of so many images one is cut again behind every operation of its recovery */
#define FLIPS         12u /* of one rotten image */
#define FLIP_MAX      512u
#define NAMES_BYTES   8192u
#define JOURNAL_BYTES (2u << 20) /* a journal or state file is smaller */

struct crash;

/* One level of images: the workload's, or those of one recovery. */
struct layer {
    struct crash *crash;
    uint32_t      depth;
    uint64_t      seed;
    uint64_t      first_op; /* operations of the device before this level began */
    uint64_t      last_change;
    uint64_t      points;
};

struct crash {
    const struct mr_crash_params *params;
    struct mr_crash_result       *result;
    struct layer                  layers[MR_CRASH_DEPTH];
    struct mr_crash_place         place[MR_CRASH_DEPTH];
    struct world                 *twins[MR_CRASH_DEPTH + 1]; /* for the images of each level, and the rotten */
    struct mr_sim_storage_result  answers[MR_CRASH_DEPTH + 1];
    uint8_t                      *journal; /* JOURNAL_BYTES */
};

static const char *const kind_names[MR_CRASH_KINDS] = {"drop",   "keep",     "flight",   "tear", "random",
                                                       "drop-one", "keep-one", "reorder", "unwritten", "kill"};

_Static_assert(MR_CRASH_KILL == MR_SIM_CUT_KINDS && MR_CRASH_KINDS == MR_CRASH_KILL + 1, "a name for each kind");

const char *mr_crash_kind_name(uint32_t kind)
{
    return kind_names[kind];
}

bool mr_crash_place_parse(const char *text, struct mr_crash_params *params)
{
    params->depth = 0;
    for (;;) {
        if (params->depth == MR_CRASH_DEPTH) {
            return false;
        }
        struct mr_crash_place *place = &params->place[params->depth++];
        char                  *end;
        place->op = strtoull(text, &end, 10);
        if (end == text || *end != '.') {
            return false;
        }
        size_t len = strcspn(end + 1, "/");
        for (place->kind = 0; place->kind < MR_CRASH_KINDS; place->kind++) {
            const char *name = kind_names[place->kind];
            if (strlen(name) == len && memcmp(name, end + 1, len) == 0) {
                break;
            }
        }
        text = end + 1 + len;
        if (place->kind == MR_CRASH_KINDS || *text == '\0') {
            return place->kind < MR_CRASH_KINDS;
        }
        text++;
    }
}

/* ---- Worlds beside the world ---- */

static void copy_slot(struct slot *to, const struct slot *from)
{
    size_t behind = offsetof(struct mr_model_log, batch_count);
    memcpy(to->model.batches, from->model.batches, from->model.batch_count * sizeof from->model.batches[0]);
    memcpy((uint8_t *)to + behind, (const uint8_t *)from + behind, sizeof *to - behind);
}

/* The world as it is, without its life: what was promised, and a copy of the device. */
static struct world *make_twin(struct crash *crash, const struct world *w, uint32_t depth, uint64_t seed)
{
    struct world *twin = crash->twins[depth];
    if (twin == NULL) {
        twin = crash->twins[depth] = calloc(1, sizeof *twin);
        mr_assert(twin != NULL);
        twin->bytes = malloc(READ_MAX + MR_MODEL_BATCH_MAX);
    }
    crash->answers[depth].why[0] = '\0';
    twin->prng.state = seed;
    twin->result = &crash->answers[depth];
    twin->now = w->now;
    twin->plan = w->plan;
    twin->endpoints = w->endpoints;
    twin->next_token = w->next_token;
    twin->is_faulty = false;
    twin->is_rotten = false;
    twin->is_clean = false;
    twin->is_full = w->is_full;
    twin->traits = w->traits;
    twin->on_op = NULL;
    for (uint32_t index = 0; index < SLOTS; index++) {
        copy_slot(&twin->slots[index], &w->slots[index]);
        twin->slots[index].deletes = 0;
    }
    twin->fs = mr_sim_fs_clone(w->fs);
    return twin;
}

static void lose_power(struct world *w, uint32_t kind)
{
    uint64_t seed = mr_prng_next(&w->prng);
    w->is_clean = false;
    if (kind == MR_CRASH_KILL) {
        mr_sim_fs_process_kill(w->fs, seed);
        return;
    }
    mr_sim_fs_power_cut(w->fs, (enum mr_sim_cut)kind, seed);
    mr_sim_storage_forget_unflushed(w);
}

static bool is_good(const struct world *w)
{
    return w->result->why[0] == '\0';
}

/* Recover, open, read everything, and look things up. Ends in a life, good or not. */
static bool come_up(struct world *w)
{
    if (w->is_full) { /* as full as it is, whatever that gives, and then with space again */
        if (mr_sim_storage_start(w)) {
            mr_sim_storage_look(w, 8);
        }
        if (!is_good(w)) {
            return false;
        }
        mr_sim_life_end(w);
        mr_sim_fs_process_kill(w->fs, mr_prng_next(&w->prng));
        mr_sim_fs_capacity(w->fs, 0);
        w->is_full = false;
    }
    if (mr_sim_storage_start(w)) {
        mr_sim_storage_look(w, 8);
    }
    return is_good(w);
}

/* ---- What follows an image. Each begins and ends in a life. ---- */

static bool serve_and_crash_again(struct world *w)
{
    mr_sim_storage_live(w, 10 + mr_prng_below(&w->prng, 40));
    if (!is_good(w)) {
        return false;
    }
    mr_sim_life_end(w);
    lose_power(w, (uint32_t)mr_prng_below(&w->prng, MR_CRASH_KINDS));
    return come_up(w);
}

static bool stop_and_cut(struct world *w)
{
    bool is_stopped = mr_sim_storage_stop(w);
    if (!is_good(w)) {
        return false;
    }
    mr_sim_life_end(w);
    mr_sim_fs_process_kill(w->fs, 0);
    mr_sim_fs_power_cut(w->fs, MR_SIM_CUT_DROP, 0);
    w->is_clean = is_stopped;
    if (!is_stopped) { /* for lack of space */
        mr_sim_storage_forget_unflushed(w);
    }
    for (uint32_t index = 0; is_stopped && index < SLOTS; index++) {
        w->slots[index].model.floor = w->slots[index].model.end;
    }
    return come_up(w);
}

/* A journal or state file of the device, by lot: its path, and its bytes in crash->journal. */
static uint32_t choose_file(struct crash *crash, struct world *w, char *path, uint32_t size)
{
    char     names[NAMES_BYTES];
    size_t   len = mr_sim_fs_names(w->fs, LOG_DIR, names, sizeof names);
    uint64_t seen = 0;
    path[0] = '\0';
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        bool is_ours = strncmp(names + at, "millrace-journal-", 17) == 0 || strncmp(names + at, "millrace-state-", 15) == 0;
        if (is_ours && mr_prng_below(&w->prng, ++seen) == 0) {
            mr_fmt(path, size, "%s/%s", LOG_DIR, names + at);
        }
    }
    int64_t bytes = path[0] != '\0' ? mr_sim_fs_get(w->fs, path, crash->journal, JOURNAL_BYTES) : 0;
    mr_assert(bytes >= 0 && bytes <= (int64_t)JOURNAL_BYTES);
    return (uint32_t)bytes;
}

/* Where something was written, mostly: most of a journal file is zeros. */
static uint32_t choose_byte(const struct crash *crash, struct world *w, uint32_t bytes)
{
    uint32_t pos = 0;
    for (uint32_t tries = 0; tries < 64; tries++) {
        pos = (uint32_t)mr_prng_below(&w->prng, bytes);
        if (crash->journal[pos] != 0) {
            break;
        }
    }
    return pos;
}


static bool flip_and_start(struct crash *crash, struct world *w)
{
    char          path[128];
    struct world *twin = make_twin(crash, w, MR_CRASH_DEPTH, mr_prng_next(&w->prng));
    uint32_t      bytes = choose_file(crash, twin, path, sizeof path);
    if (bytes > 0) {
        uint32_t pos = choose_byte(crash, twin, bytes);
        uint32_t len = mr_prng_below(&twin->prng, 4) == 0 ? 1 + (uint32_t)mr_prng_below(&twin->prng, FLIP_MAX) : 1;
        uint8_t  with = (uint8_t)(mr_prng_below(&twin->prng, 2) == 0 ? 1u << mr_prng_below(&twin->prng, 8)
                                                                     : 1 + mr_prng_below(&twin->prng, 255));
        len = len <= bytes - pos ? len : bytes - pos;
        mr_sim_fs_rot(twin->fs, path, pos, len, with);
        twin->is_rotten = true;
        twin->is_verbose = w->is_verbose;
        bool is_up = come_up(twin);
        bool is_refused = !is_up;
        for (uint32_t index = 0; index < SLOTS; index++) {
            is_refused |= twin->slots[index].is_dropping && !w->slots[index].is_dropping;
        }
        crash->result->rotten++;
        crash->result->refused += is_refused && is_good(twin);
        mr_sim_life_end(twin);
        if (!is_good(twin)) {
            mr_fmt(w->result->why, sizeof w->result->why, "rot of %u bytes at %u of %s by %u: %s", len, pos, path, with,
                   twin->result->why);
        }
    }
    mr_sim_fs_destroy(twin->fs);
    return is_good(w);
}

/* Everything acknowledged is followed by another commit then: what is damaged behind it is no torn tail. */
static bool rot(struct crash *crash, struct world *w)
{
    mr_sim_storage_live(w, 5 + mr_prng_below(&w->prng, 20));
    mr_sim_storage_rest(w, 3 * MR_NS_PER_S);
    if (!is_good(w)) {
        return false;
    }
    mr_sim_life_end(w);
    mr_sim_fs_process_kill(w->fs, 0);
    for (uint32_t index = 0; is_good(w) && index < FLIPS; index++) {
        (void)flip_and_start(crash, w);
    }
    return come_up(w);
}

static void go_on(struct crash *crash, struct world *w)
{
    switch (mr_prng_below(&w->prng, 8)) {
    case 0:
    case 1:
        crash->result->onward++;
        (void)serve_and_crash_again(w);
        return;
    case 2:
        crash->result->stopped++;
        (void)stop_and_cut(w);
        return;
    case 3:
        if (mr_prng_below(&w->prng, 4) == 0) {
            (void)rot(crash, w);
        }
        return;
    default:
        return;
    }
}

/* ---- Images ---- */

static void at_operation(struct world *w);

static void watch(struct crash *crash, struct world *w, uint32_t depth, uint64_t seed)
{
    struct layer *layer = &crash->layers[depth];
    *layer = (struct layer){.crash = crash, .depth = depth, .seed = seed, .first_op = mr_sim_fs_op_count(w->fs)};
    w->on_op = at_operation;
    w->on_op_user = layer;
}

static void violation(struct crash *crash, uint32_t depth, const char *why)
{
    struct mr_crash_result *result = crash->result;
    if (result->why[0] == '\0') {
        mr_fmt(result->why, WHY_BYTES, "%s", why);
        result->depth = depth;
        memcpy(result->place, crash->place, sizeof result->place);
    }
}

static void take(struct layer *layer, struct world *w, uint64_t op, uint32_t kind)
{
    struct crash *crash = layer->crash;
    uint32_t      depth = layer->depth;
    uint64_t      seed = mr_hash_u64(layer->seed ^ mr_hash_u64(op * MR_CRASH_KINDS + kind));
    bool          is_target = crash->params->depth == depth + 1;
    bool          is_way = crash->params->depth > depth + 1;
    struct world *twin = make_twin(crash, w, depth, seed);
    bool          has_nested = depth + 1 < MR_CRASH_DEPTH && mr_prng_below(&twin->prng, IN_NESTED) == 0;
    crash->place[depth] = (struct mr_crash_place){.op = op, .kind = kind};
    twin->is_verbose = is_target && crash->params->is_verbose;
    lose_power(twin, kind);
    if (is_way || (has_nested && !is_target)) {
        watch(crash, twin, depth + 1, seed);
    }
    bool is_up = come_up(twin);
    twin->on_op = NULL;
    crash->result->images += depth == 0;
    crash->result->nested += depth > 0;
    if (is_up && depth == 0) {
        go_on(crash, twin);
    }
    mr_sim_life_end(twin);
    mr_sim_fs_destroy(twin->fs);
    if (!is_good(twin)) {
        violation(crash, depth + 1, twin->result->why);
    }
}

/* Behind each disk operation of a level: is this a new point, and which images of it are asked for? */
static void at_operation(struct world *w)
{
    struct layer                 *layer = w->on_op_user;
    struct crash                 *crash = layer->crash;
    const struct mr_crash_params *params = crash->params;
    uint64_t                      op = mr_sim_fs_op_count(w->fs) - layer->first_op;
    if (crash->result->why[0] != '\0' || mr_sim_fs_is_dead(w->fs)) {
        return;
    }
    if (params->depth > 0) {
        if (layer->depth < params->depth && op == params->place[layer->depth].op) {
            take(layer, w, op, params->place[layer->depth].kind);
        }
        return;
    }
    if (mr_sim_fs_change_count(w->fs) == layer->last_change) {
        return;
    }
    layer->last_change = mr_sim_fs_change_count(w->fs);
    layer->points++;
    if (layer->depth > 0) { /* each kind in its turn: in the course of the images all of them at all points */
        take(layer, w, op, (uint32_t)((layer->points + layer->seed) % MR_CRASH_KINDS));
        return;
    }
    if (layer->points % params->stride != 0) {
        return;
    }
    crash->result->points++;
    for (uint32_t kind = 0; kind < MR_CRASH_KINDS && crash->result->why[0] == '\0'; kind++) {
        if (crash->result->images + crash->result->nested < params->images_max) {
            take(layer, w, op, kind);
        }
    }
}

void mr_crash_run(const struct mr_crash_params *params, struct mr_crash_result *result)
{
    struct crash                 crash = {.params = params, .result = result, .journal = malloc(JOURNAL_BYTES)};
    struct mr_sim_storage_result answers;
    mr_assert(crash.journal != NULL);
    uint32_t      traits = (uint32_t)mr_hash_u64(params->seed) & MR_SIM_TRAITS & params->traits;
    struct world *w = mr_sim_storage_create(params->seed, MR_SIM_HONEST, traits, params->is_verbose, &answers);
    watch(&crash, w, 0, params->seed);
    mr_sim_storage_lives(w);
    result->clean_rounds += answers.clean_rounds;
    result->retained += answers.retained;
    result->full += answers.full;
    result->refused_full += answers.refused_full;
    if (answers.why[0] != '\0') {
        violation(&crash, 0, answers.why);
    }
    mr_sim_storage_destroy(w);
    for (uint32_t index = 0; index <= MR_CRASH_DEPTH; index++) {
        if (crash.twins[index] != NULL) {
            mr_sim_life_free(crash.twins[index]);
            free(crash.twins[index]->bytes);
            free(crash.twins[index]);
        }
    }
    free(crash.journal);
}
