#include "sim_world.h"

#include "check_acked.h"
#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"
#include "sim_broker.h"
#include "sim_client.h"
#include "sim_swarm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CLIENTS     3u
#define PARTITIONS  4u
#define OFFSETS_MAX (1u << 14)
#define VALUES_MAX  12000u
#define STEPS_START 200000u /* steps in which a start, a stop or the calm phase must be over */
#define STEPS_CALM  400000u
#define TAKE_BYTES  65536u
#define WORLD_BYTES ((size_t)96 << 20)

struct world {
    struct mr_prng         prng; /* of the order of things; trouble has streams of its own */
    struct mr_sim_swarm    swarm;
    struct mr_sim_site     site;
    struct mr_sim_fs      *fs;
    struct mr_now          now;
    struct mr_sim_broker   broker;
    struct mr_check_acked  check;
    struct mr_sim_client   clients[CLIENTS];
    struct mr_sim_peer    *peers[CLIENTS];
    uint64_t               connect_ns[CLIENTS];
    struct mr_sim_result  *result;
    uint8_t               *bytes; /* TAKE_BYTES */
};

static uint64_t draw(struct world *world, uint64_t bound)
{
    return mr_prng_below(&world->prng, bound);
}

static void trace(struct world *world, uint64_t value)
{
    world->result->trace_hash = mr_hash_u64(world->result->trace_hash ^ value) + 1;
}

static bool fail(struct world *world, const char *what, const char *detail)
{
    if (world->result->why[0] == '\0') {
        mr_fmt(world->result->why, sizeof world->result->why, "%s%s%s", what,
               detail[0] == '\0' ? "" : ": ", detail);
    }
    return false;
}

/* ---- A life of the broker ---- */

static bool start(struct world *world)
{
    struct mr_sim_swarm *swarm = &world->swarm;
    world->result->starts++;
    if (!mr_sim_broker_start(&world->broker, &world->site, world->fs, &world->prng)) {
        return fail(world, "a part of the broker cannot be set up", "");
    }
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_pieces)) {
        uint32_t piece_max = 1 + (uint32_t)mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_pieces, 8192);
        mr_sim_net_pieces(world->broker.net, piece_max, true);
    }
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_backlog)) {
        uint32_t pieces = 8 + (uint32_t)mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_backlog, 56);
        mr_sim_net_send_limit(world->broker.net, pieces);
    }
    return true;
}

static void end(struct world *world)
{
    mr_sim_broker_end(&world->broker, world->now);
    memset(world->peers, 0, sizeof world->peers);
}

/* ---- Clients ---- */

static void drop(struct world *world, uint32_t index)
{
    world->peers[index] = NULL;
    world->connect_ns[index] = world->now.mono_ns + draw(world, 5 * MR_NS_PER_MS);
}

static void reset(struct world *world, uint32_t index)
{
    mr_sim_peer_reset(world->peers[index]);
    drop(world, index);
    world->result->resets++;
}

/* Returns whether bytes moved. */
static bool client_step(struct world *world, uint32_t index)
{
    struct mr_sim_client *client = &world->clients[index];
    bool is_moved = false;
    if (world->peers[index] != NULL && mr_sim_peer_is_closed(world->peers[index])) {
        drop(world, index);
    }
    if (world->peers[index] == NULL) {
        if (world->now.mono_ns < world->connect_ns[index]) {
            return false;
        }
        world->peers[index] = mr_sim_net_connect(world->broker.net, NULL);
        if (world->peers[index] == NULL) {
            world->connect_ns[index] = world->now.mono_ns + 2 * MR_NS_PER_MS;
            return false;
        }
        mr_sim_client_connected(client);
        is_moved = true;
    }
    struct mr_sim_peer *peer = world->peers[index];
    bool is_reset = mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_reset, 300);
    uint32_t max = 1 + (uint32_t)draw(world, TAKE_BYTES);
    uint32_t len = mr_sim_peer_take(peer, world->bytes, max);
    if (len > 0) {
        is_moved = true;
        static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
        trace(world, mr_hash_bytes(&key, world->bytes, len) + index);
        mr_sim_client_feed(client, world->bytes, len, world->now);
    }
    mr_sim_client_turn(client, world->now);
    if (client->out_len > 0) {
        uint32_t part = is_reset ? (uint32_t)draw(world, client->out_len + 1ull) : client->out_len;
        is_moved = true;
        mr_sim_peer_send(peer, client->out, part);
        client->out_len = 0;
    }
    if (is_reset) {
        reset(world, index);
    }
    return is_moved;
}

/* ---- Steps ---- */

static uint64_t next_ns(struct world *world)
{
    uint64_t at = mr_sim_broker_next_ns(&world->broker, world->now.mono_ns);
    for (uint32_t index = 0; index < CLIENTS; index++) {
        if (world->peers[index] == NULL) {
            at = mr_earlier(at, world->connect_ns[index]);
        } else if (world->clients[index].retry_ns > world->now.mono_ns) {
            at = mr_earlier(at, world->clients[index].retry_ns);
        }
    }
    return at;
}

static void pass(struct world *world, uint64_t to_ns)
{
    mr_sim_clock_to(&world->now, to_ns);
    mr_sim_fs_set_clock(world->fs, to_ns);
    trace(world, to_ns);
}

/* Everybody once, in an order of the seed. False: the power is gone. */
static bool turns(struct world *world, bool *is_any)
{
    uint32_t first = (uint32_t)draw(world, MR_SIM_THREADS);
    uint32_t stride = 1 + (uint32_t)draw(world, 2);
    for (uint32_t index = 0; index < MR_SIM_THREADS; index++) {
        enum mr_sim_thread who = (enum mr_sim_thread)((first + index * stride) % MR_SIM_THREADS);
        if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_starve, 8)) {
            *is_any = true; /* it will have its turn later */
            continue;
        }
        *is_any |= mr_sim_broker_turn(&world->broker, who, &world->now);
        if (mr_sim_fs_is_dead(world->fs)) {
            return false;
        }
    }
    return true;
}

/* A turn of everybody, then time. False: a violation, or the power is gone. */
static bool step(struct world *world)
{
    bool is_any = false;
    world->result->steps++;
    if (!turns(world, &is_any)) {
        return false;
    }
    mr_sim_broker_log(&world->broker, world->now);
    for (uint32_t index = 0; index < CLIENTS; index++) {
        is_any |= client_step(world, index);
        if (world->clients[index].why[0] != '\0') {
            return fail(world, "a client was answered wrongly", world->clients[index].why);
        }
    }
    if (!mr_check_acked_is_ok(&world->check)) {
        return fail(world, world->check.why, "");
    }
    if (mr_control_state(world->broker.control) == MR_CONTROL_FAILED) {
        return fail(world, "the broker failed", mr_control_why(world->broker.control));
    }
    is_any |= mr_sim_broker_has_work(&world->broker);
    uint64_t soon_ns = world->now.mono_ns + 1 + draw(world, 20 * MR_NS_PER_US);
    uint64_t at_ns = is_any ? soon_ns : next_ns(world);
    if (at_ns == MR_NEVER) {
        at_ns = world->now.mono_ns + MR_NS_PER_S;
    }
    pass(world, at_ns > soon_ns ? at_ns : soon_ns);
    return true;
}

/* Stop cleanly and wait for it; false when the power went or something is wrong. */
static bool stop(struct world *world)
{
    mr_control_stop(world->broker.control, world->now);
    for (uint32_t count = 0; count < STEPS_START; count++) {
        if (!step(world)) {
            return false;
        }
        if (mr_control_state(world->broker.control) == MR_CONTROL_STOPPED) {
            world->result->clean_stops++;
            return true;
        }
    }
    return fail(world, "the broker does not stop", "");
}

/* ---- The run ---- */

/* How a life ends. */
enum ending {
    END_CUT_EARLY, /* power goes at one of the next 200 disk operations: in recovery, often */
    END_CUT_LATE,  /* ... 2000 */
    END_CUT,       /* between two steps */
    END_KILL,
    END_STOP,
    END_STOP_CUT, /* power goes after a clean stop: everything must be durable */
    END_COUNT,
};

static enum ending draw_ending(struct world *world)
{
    static const enum mr_sim_trouble needs[END_COUNT] = {
        [END_CUT_EARLY] = MR_SIM_TROUBLE_cut, [END_CUT_LATE] = MR_SIM_TROUBLE_cut,
        [END_CUT] = MR_SIM_TROUBLE_cut,       [END_KILL] = MR_SIM_TROUBLE_kill,
        [END_STOP] = MR_SIM_TROUBLE_stop,     [END_STOP_CUT] = MR_SIM_TROUBLE_stop,
    };
    uint64_t first = draw(world, END_COUNT);
    for (uint64_t index = 0; index < END_COUNT; index++) {
        enum ending ending = (enum ending)((first + index) % END_COUNT);
        if (mr_sim_swarm_has(&world->swarm, needs[ending])) {
            return ending;
        }
    }
    return END_COUNT; /* nothing ends a life in this run */
}

static void cut(struct world *world, enum mr_sim_cut how)
{
    if (world->site.is_verbose) {
        fprintf(stderr, "-- power cut %d\n", (int)how);
    }
    mr_sim_fs_power_cut(world->fs, how, mr_sim_swarm_draw(&world->swarm, MR_SIM_TROUBLE_cut, UINT64_MAX));
    world->result->power_cuts++;
}

/* The broker is gone; what happens to the disk. */
static void end_life(struct world *world, enum ending ending, bool is_stopped)
{
    end(world);
    if (is_stopped) {
        if (ending == END_STOP_CUT) {
            cut(world, MR_SIM_CUT_DROP);
        }
    } else if (ending == END_KILL) {
        mr_sim_fs_process_kill(world->fs, draw(world, UINT64_MAX));
        world->result->kills++;
    } else {
        cut(world, (enum mr_sim_cut)mr_sim_swarm_draw(&world->swarm, MR_SIM_TROUBLE_cut, MR_SIM_CUT_COUNT));
    }
}

/* One life and its end. False: a violation. */
static bool live(struct world *world, enum ending ending)
{
    uint64_t steps = 50 + draw(world, 4000);
    if (!start(world)) {
        return false;
    }
    if (ending == END_CUT_EARLY || ending == END_CUT_LATE) {
        uint64_t ops = draw(world, ending == END_CUT_EARLY ? 200 : 2000);
        mr_sim_fs_die_at(world->fs, mr_sim_fs_op_count(world->fs) + 1 + ops);
    }
    bool is_good = true;
    for (uint64_t count = 0; is_good && count < steps; count++) {
        is_good = step(world);
    }
    bool is_stopped = is_good && (ending == END_STOP || ending == END_STOP_CUT) && stop(world);
    end_life(world, ending, is_stopped);
    return world->result->why[0] == '\0';
}

static bool are_idle(const struct world *world)
{
    bool are_all = true;
    for (uint32_t index = 0; index < CLIENTS; index++) {
        are_all = are_all && world->clients[index].phase == MR_SIM_QUIET &&
                  mr_sim_client_is_idle(&world->clients[index]);
    }
    return are_all;
}

/* The calm phase: everything open is finished, then the log is read from start to end. */
static bool verify(struct world *world)
{
    bool is_asked = false;
    world->swarm.is_calm = true;
    for (uint32_t count = 0; count < STEPS_CALM; count++) {
        if (!step(world)) {
            return false;
        }
        for (uint32_t index = 0; count > 500 && index < CLIENTS; index++) {
            if (world->clients[index].phase == MR_SIM_RUN) {
                world->clients[index].phase = MR_SIM_QUIET;
            }
        }
        if (!is_asked && are_idle(world)) {
            is_asked = true;
            mr_sim_client_verify(&world->clients[0]);
        }
        if (world->clients[0].phase == MR_SIM_DONE) {
            return mr_check_acked_finish(&world->check) || fail(world, world->check.why, "");
        }
    }
    return fail(world, is_asked ? "the final read does not end" : "the clients do not come to rest", "");
}

/* Lives that end in trouble, a last one that is calm, and a clean stop. */
static bool run(struct world *world)
{
    uint64_t lives = 2 + draw(world, 5);
    for (uint64_t life = 0; life < lives; life++) {
        enum ending ending = draw_ending(world);
        if (ending != END_COUNT && !live(world, ending)) {
            return false;
        }
    }
    bool is_good = start(world) && verify(world) && stop(world);
    if (world->broker.memory != NULL) {
        end(world);
    }
    return is_good;
}

static void set_up_disk(struct world *world)
{
    struct mr_sim_swarm *swarm = &world->swarm;
    world->fs = mr_sim_fs_create(mr_prng_next(&world->prng));
    mr_sim_fs_set_clock(world->fs, world->now.mono_ns);
    uint64_t latency_ns = 0;
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_slow_disk)) {
        latency_ns = 1000 + mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_slow_disk, 3 * MR_NS_PER_MS);
    }
    mr_sim_fs_latency(world->fs, latency_ns == 0 ? 0 : 1000, latency_ns,
                      mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_shuffle));
    mr_sim_format(&world->site, world->fs, world->now.unix_ms);
}

void mr_sim_world_run(const struct mr_sim_params *params, struct mr_sim_result *result)
{
    struct world   *world = calloc(1, sizeof *world);
    struct mr_arena arena;
    void *memory = mmap(NULL, WORLD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mr_assert(world != NULL && memory != MAP_FAILED);
    *result = (struct mr_sim_result){.trace_hash = params->seed};
    mr_arena_init(&arena, memory, WORLD_BYTES);
    world->prng.state = params->seed;
    world->result = result;
    world->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    world->bytes = mr_arena_get_fresh(&arena, TAKE_BYTES, 64);
    mr_sim_swarm_init(&world->swarm, params->seed, params->only);
    result->on = world->swarm.on;
    mr_sim_site_init(&world->site);
    world->site.is_verbose = params->is_verbose;
    set_up_disk(world);
    mr_check_acked_init(&world->check, &arena, OFFSETS_MAX, VALUES_MAX);
    for (uint32_t index = 0; index < CLIENTS; index++) {
        mr_sim_client_init(&world->clients[index], &arena, &world->check,
                           mr_prng_next(&world->prng), MR_STR("sim"), PARTITIONS);
    }
    result->is_ok = run(world);
    trace(world, mr_sim_fs_digest(world->fs));
    result->acked = world->check.acked_count;
    result->simulated_ns = world->now.mono_ns - MR_NS_PER_S;
    mr_sim_fs_destroy(world->fs);
    munmap(memory, WORLD_BYTES);
    free(world);
}
