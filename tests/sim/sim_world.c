#include "sim_world.h"

#include "check_acked.h"
#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"
#include "millrace/kafka/api.h"
#include "check_group.h"
#include "check_kept.h"
#include "sim_admin.h"
#include "sim_auditor.h"
#include "sim_broker.h"
#include "sim_client.h"
#include "sim_follower.h"
#include "sim_idle.h"
#include "sim_keyed.h"
#include "sim_consumer.h"
#include "sim_member.h"
#include "sim_nth.h"
#include "sim_states.h"
#include "sim_rot.h"
#include "sim_swarm.h"
#include "sim_txn.h"
#include "sim_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CLIENTS_MAX 4u
#define MEMBERS     3u
#define ACTORS_MAX \
    (CLIENTS_MAX + MEMBERS + MR_SIM_CONSUMERS + MR_SIM_TXN_ACTORS + 5u) /* and the admin, the keyed one and three who read */
#define OFFSETS_MAX (1u << 14)
#define VALUES_MAX  12000u
#define STEPS_STOP  200000u /* steps in which a stop must be over; */
#define STOP_NS     (90 * MR_NS_PER_S) /* but a disk may be stuck for a while, and steps are short */
#define PRODUCE_NS  (80 * MR_NS_PER_MS) /* in which a Produce is answered while nothing disturbs */
#define LARGE_NS    (240 * MR_NS_PER_MS) /* likewise, where every second batch fills a journal file */
#define STEPS_POINT 700u    /* of the life in which power goes at every operation */
#define STEPS_CALM  100000u
#define STEPS_REST  200u
#define WORLD_BYTES ((size_t)192 << 20)

struct world {
    struct mr_prng        prng; /* of the order of things; trouble has streams of its own */
    struct mr_sim_swarm   swarm;
    struct mr_sim_site    site;
    struct mr_sim_fs     *fs;
    struct mr_now         now;
    struct mr_sim_broker  broker;
    struct mr_check_acked check;
    struct mr_sim_client  clients[CLIENTS_MAX];
    struct mr_check_group group;
    struct mr_sim_member  members[MEMBERS];
    struct mr_sim_consumers consumers;
    struct mr_sim_txns    txns;
    struct mr_sim_admin   admin;
    struct mr_sim_keyed   keyed;
    struct mr_sim_follower follower;
    struct mr_sim_auditor auditor;
    struct mr_sim_wire    wires[ACTORS_MAX];
    uint32_t              actor_count;
    uint64_t              latency_ns;  /* of disk operations, at most */
    uint64_t              disk_full_until_ns; /* 0: the disk has no limit */
    bool                  has_error; /* a disk operation of this life was made to fail */
    bool                  was_full;  /* the disk was, in this life */
    bool                  is_short;  /* something is made to be empty: it may keep a start from succeeding */
    bool                  has_served; /* this life has come so far */
    bool                  is_stopping;
    uint64_t              undisturbed_ns; /* since then; the follower knows whether it is */
    const struct mr_sim_params *params;
    struct mr_sim_result       *result;
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
    world->has_error = false;
    world->was_full = world->disk_full_until_ns != 0;
    world->has_served = false;
    world->is_stopping = false;
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_cores)) {
        world->site.endpoints.storage_count = 1 + (uint32_t)mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_cores, MR_SIM_STORAGE_MAX);
    }
    mr_sim_fs_heal(world->fs);
    if (!mr_sim_broker_start(&world->broker, &world->site, world->fs, &world->prng)) {
        return fail(world, "a part of the broker cannot be set up", "");
    }
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_pieces) && !swarm->is_calm) {
        uint32_t piece_max = 1 + (uint32_t)mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_pieces, 8192);
        mr_sim_net_pieces(world->broker.net, piece_max, true);
    }
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_backlog) && !swarm->is_calm) {
        uint32_t pieces = 8 + (uint32_t)mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_backlog, 56);
        mr_sim_net_send_limit(world->broker.net, pieces);
    }
    return true;
}

static void end(struct world *world)
{
    mr_sim_broker_end(&world->broker, world->now);
    for (uint32_t index = 0; index < world->actor_count; index++) {
        mr_sim_wire_broken(&world->wires[index], world->now);
    }
}

/* ---- Steps ---- */

static uint64_t next_ns(struct world *world)
{
    uint64_t at = mr_sim_broker_next_ns(&world->broker, world->now.mono_ns);
    for (uint32_t index = 0; index < world->actor_count; index++) {
        at = mr_earlier(at, mr_sim_wire_next_ns(&world->wires[index], world->now));
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
    uint32_t order[MR_SIM_THREADS_MAX];
    for (uint32_t index = 0; index < world->broker.threads; index++) {
        uint32_t at = (uint32_t)draw(world, index + 1ull);
        order[index] = order[at];
        order[at] = index;
    }
    for (uint32_t index = 0; index < world->broker.threads; index++) {
        if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_starve, 8)) {
            *is_any = true; /* it will have its turn later */
            continue;
        }
        *is_any |= mr_sim_broker_turn(&world->broker, order[index], &world->now);
        if (mr_sim_fs_is_dead(world->fs)) {
            return false;
        }
    }
    return true;
}

/* ---- Trouble between two steps ---- */

static uint64_t lot(struct world *world, enum mr_sim_trouble trouble, uint64_t bound)
{
    return mr_sim_swarm_draw(&world->swarm, trouble, bound);
}

/* Operations that fail. One rule in a life: what the broker must do then is the same for all. */
static void trouble_error(struct world *world)
{
    static const struct {
        enum mr_sim_trouble trouble;
        uint32_t            kinds;
    } rows[] = {
        {MR_SIM_TROUBLE_write_error, 1u << MR_DISK_WRITE},
        {MR_SIM_TROUBLE_flush_error, 1u << MR_DISK_SYNC | 1u << MR_DISK_SYNC_FS},
        {MR_SIM_TROUBLE_disk_error, UINT32_MAX},
    };
    for (uint32_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        enum mr_sim_trouble trouble = rows[index].trouble;
        if (world->has_error || !mr_sim_swarm_hits(&world->swarm, trouble, 2000)) {
            continue;
        }
        struct mr_sim_fault fault = {.err = MR_ERR_IO, .kinds = rows[index].kinds};
        fault.nth = lot(world, trouble, 20);
        fault.short_bytes = (uint32_t)lot(world, trouble, 8192);
        fault.is_sticky = lot(world, trouble, 2) == 0;
        mr_sim_fs_fail(world->fs, &fault);
        world->has_error = true;
    }
}

/* Reads that lie while the broker serves, and bytes that change. */
static void trouble_bytes(struct world *world)
{
    struct mr_sim_swarm  *swarm = &world->swarm;
    struct mr_sim_misread misread = {.name_part = ".log", .one_in = 0, .kinds = (1u << MR_SIM_WRONG_COUNT) - 1};
    bool is_serving = mr_control_state(world->broker.control) == MR_CONTROL_SERVING;
    if (is_serving && !swarm->is_calm && mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_misread)) {
        misread.one_in = 20;
    }
    mr_sim_fs_misread(world->fs, &misread);
    if (mr_sim_swarm_hits(swarm, MR_SIM_TROUBLE_rot, 1500)) {
        world->result->rots += mr_sim_rot_segment(world->fs, swarm, &world->check);
    }
    if (mr_sim_swarm_hits(swarm, MR_SIM_TROUBLE_misplace, 1500)) {
        world->result->rots += mr_sim_rot_misplace(world->fs, swarm, &world->check);
    }
}

static void trouble_disk(struct world *world)
{
    struct mr_sim_swarm *swarm = &world->swarm;
    bool is_stuck = mr_sim_swarm_hits(swarm, MR_SIM_TROUBLE_stuck_disk, 1000);
    uint64_t latency_ns = is_stuck ? lot(world, MR_SIM_TROUBLE_stuck_disk, 30 * MR_NS_PER_S) : world->latency_ns;
    mr_sim_fs_latency(world->fs, latency_ns == 0 ? 0 : 1000, latency_ns == 0 ? 0 : 1000 + latency_ns,
                      mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_shuffle));
    if (world->disk_full_until_ns != 0 && (swarm->is_calm || world->now.mono_ns >= world->disk_full_until_ns)) {
        world->disk_full_until_ns = 0;
        mr_sim_fs_capacity(world->fs, 0);
    } else if (mr_sim_swarm_hits(swarm, MR_SIM_TROUBLE_disk_full, 3000)) {
        uint64_t room = lot(world, MR_SIM_TROUBLE_disk_full, 3u << 20);
        world->disk_full_until_ns = world->now.mono_ns + lot(world, MR_SIM_TROUBLE_disk_full, 20 * MR_NS_PER_S);
        mr_sim_fs_capacity(world->fs, mr_sim_fs_used(world->fs) + room);
        world->was_full = true;
    }
    trouble_error(world);
    trouble_bytes(world);
}

/* Where nothing stands still for long the broker finds soon that little is left. */
static void watch_floor(struct world *world)
{
    const struct mr_sim_swarm *swarm = &world->swarm;
    bool is_judged = world->disk_full_until_ns != 0 && !mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_stuck_disk) &&
                     !mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_pause) && !mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_starve);
    mr_check_acked_floor(&world->check, is_judged && mr_sim_fs_free(world->fs) < MR_SIM_RESERVE_BYTES, world->now.mono_ns);
}

static void trouble_time(struct world *world)
{
    if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_pause, 2000)) {
        pass(world, world->now.mono_ns + lot(world, MR_SIM_TROUBLE_pause, 60 * MR_NS_PER_S));
    }
    if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_clock, 1000)) {
        world->now.unix_ms += (int64_t)lot(world, MR_SIM_TROUBLE_clock, 7200000) - 3600000;
    }
}

/* ---- A step ---- */

/*
 * Whether the broker may give up (ruling 16): for an operation that failed. A full disk is none: it may keep a start
 * from what it must write, and a stop from being a clean one, and nothing else.
 */
static bool may_fail(const struct world *world)
{
    return world->has_error || (world->was_full && (!world->has_served || world->is_stopping)) ||
           (world->is_short && (!world->has_served || mr_sim_nth_may_end(world->params->nth_way)));
}

/* Nothing happens that takes time: what the broker does must be done soon. */
static bool is_undisturbed(const struct world *world)
{
    static const enum mr_sim_trouble slow[] = {
        MR_SIM_TROUBLE_reset,       MR_SIM_TROUBLE_delay,       MR_SIM_TROUBLE_partition,  MR_SIM_TROUBLE_half_open,
        MR_SIM_TROUBLE_slow_reader, MR_SIM_TROUBLE_stuck_disk,  MR_SIM_TROUBLE_disk_full,  MR_SIM_TROUBLE_write_error,
        MR_SIM_TROUBLE_flush_error, MR_SIM_TROUBLE_disk_error,  MR_SIM_TROUBLE_misread,    MR_SIM_TROUBLE_rot,
        MR_SIM_TROUBLE_misplace,
        MR_SIM_TROUBLE_pause,       MR_SIM_TROUBLE_starve};
    bool is_slow = false;
    for (uint32_t index = 0; index < sizeof slow / sizeof slow[0]; index++) {
        is_slow |= mr_sim_swarm_has(&world->swarm, slow[index]);
    }
    return (!is_slow || world->swarm.is_calm) && world->params->nth == 0 && world->has_served && !world->is_stopping;
}

/* A Produce that waits for longer than a few commits take. */
static bool is_any_late(const struct world *world)
{
    uint64_t max_ns = mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_large) ? LARGE_NS : PRODUCE_NS;
    for (uint32_t index = 0; index < world->actor_count; index++) {
        const struct mr_sim_actor *actor = world->wires[index].actor;
        for (uint32_t call = 0; call < actor->call_count; call++) {
            uint64_t sent_ns = actor->calls[call].sent_ns;
            uint64_t from_ns = sent_ns > world->undisturbed_ns ? sent_ns : world->undisturbed_ns;
            if (actor->calls[call].key == MR_API_PRODUCE && world->now.mono_ns - from_ns > max_ns) {
                return true;
            }
        }
    }
    return false;
}

static bool judge_times(struct world *world)
{
    bool was_strict = world->follower.is_strict;
    world->follower.is_strict = is_undisturbed(world);
    if (!was_strict) {
        world->undisturbed_ns = world->now.mono_ns;
    }
    return !world->follower.is_strict || !is_any_late(world) ||
           fail(world, "a Produce waits though nothing disturbs", "");
}

/* Whether something has been found. */
static bool judge(struct world *world)
{
    if (!judge_times(world)) {
        return false;
    }
    for (uint32_t index = 0; index < world->actor_count; index++) {
        if (world->wires[index].actor->why[0] != '\0') {
            return fail(world, world->wires[index].actor->why, "");
        }
    }
    if (!mr_check_acked_is_ok(&world->check)) {
        return fail(world, world->check.why, "");
    }
    if (!mr_check_group_is_ok(&world->group)) {
        return fail(world, world->group.why, "");
    }
    if (!mr_check_txn_is_ok(&world->txns.check)) {
        return fail(world, world->txns.check.why, "");
    }
    const char *much = mr_sim_idle_judge_work(&world->broker.work);
    if (much != NULL) {
        return fail(world, much, "");
    }
    world->has_served |= mr_control_state(world->broker.control) == MR_CONTROL_SERVING;
    if (mr_control_state(world->broker.control) == MR_CONTROL_FAILED) {
        return !may_fail(world) && fail(world, "the broker failed", mr_control_why(world->broker.control));
    }
    return true;
}

/* A turn of everybody, then time. False: a violation, or this life is over. */
static bool step(struct world *world)
{
    bool is_any = false;
    world->result->steps++;
    trouble_disk(world);
    watch_floor(world);
    if (!turns(world, &is_any)) {
        return false;
    }
    mr_sim_broker_log(&world->broker, world->now);
    for (uint32_t index = 0; index < world->actor_count; index++) {
        is_any |= mr_sim_wire_step(&world->wires[index], world->broker.net, world->now);
    }
    if (!judge(world)) {
        return false;
    }
    is_any |= mr_sim_broker_has_work(&world->broker);
    uint64_t soon_ns = world->now.mono_ns + 1 + draw(world, 20 * MR_NS_PER_US);
    uint64_t at_ns = is_any ? soon_ns : next_ns(world);
    if (at_ns == MR_NEVER) {
        at_ns = world->now.mono_ns + MR_NS_PER_S;
    }
    pass(world, at_ns > soon_ns ? at_ns : soon_ns);
    trouble_time(world);
    return true;
}

/* Stop cleanly and wait for it; false when the power went or something is wrong. */
static bool stop(struct world *world)
{
    uint64_t until_ns = world->now.mono_ns + STOP_NS;
    mr_control_stop(world->broker.control, world->now);
    world->is_stopping = true;
    for (uint32_t count = 0; count < STEPS_STOP || world->now.mono_ns < until_ns; count++) {
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

/* What a cut leaves; how far disks and file systems may go is the swarm's. */
static enum mr_sim_cut draw_cut(struct world *world)
{
    static const struct {
        enum mr_sim_trouble trouble;
        enum mr_sim_cut     how;
    } rows[] = {{MR_SIM_TROUBLE_reorder, MR_SIM_CUT_REORDER}, {MR_SIM_TROUBLE_unwritten, MR_SIM_CUT_UNWRITTEN}};
    for (uint32_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        if (mr_sim_swarm_hits(&world->swarm, rows[index].trouble, 3)) {
            return rows[index].how;
        }
    }
    return (enum mr_sim_cut)mr_sim_swarm_draw(&world->swarm, MR_SIM_TROUBLE_cut, MR_SIM_CUT_COUNT);
}

/* The broker is gone; what happens to the disk. */
static void end_life(struct world *world, enum ending ending, bool is_stopped)
{
    end(world);
    if (is_stopped && ending == END_STOP_CUT) {
        cut(world, MR_SIM_CUT_DROP);
    } else if (is_stopped || ending == END_KILL) {
        mr_sim_fs_process_kill(world->fs, draw(world, UINT64_MAX)); /* behind a stop too the process takes its files along */
        world->result->kills += !is_stopped;
    } else {
        cut(world, draw_cut(world));
    }
    if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_rot_derived, 2)) {
        world->result->rots += mr_sim_rot_derived(world->fs, &world->swarm);
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

/* An actor that has something to do; NULL: all are at rest. */
static const struct mr_sim_actor *find_busy(const struct world *world)
{
    for (uint32_t index = 0; index < world->actor_count; index++) {
        const struct mr_sim_wire *wire = &world->wires[index];
        if (mr_sim_wire_is_busy(wire) || !wire->actor->ops->is_idle(wire->actor)) {
            return wire->actor;
        }
    }
    return NULL;
}

/* Nobody waits for anything: everything that was taken has been given back. */
static bool rest(struct world *world)
{
    struct mr_sim_idle idle;
    const char        *held = "";
    for (uint32_t count = 0; count < STEPS_REST && held != NULL; count++) {
        if (!step(world)) {
            return false;
        }
        mr_sim_idle_read(&world->broker, &idle); /* now and then something is under way: it must end */
        held = mr_sim_idle_judge(&idle);
    }
    return held == NULL || fail(world, held, "");
}

/* The calm phase: everything open is finished, then every log is read from start to end. */
static bool verify(struct world *world)
{
    for (uint32_t count = 0; count < STEPS_CALM; count++) {
        if (!step(world)) {
            return false;
        }
        for (uint32_t index = 0; count > 500 && index < world->actor_count; index++) {
            world->wires[index].actor->is_quiet = true;
        }
        if (count > 500 && find_busy(world) == NULL) {
            world->auditor.is_begun = true;
        }
        if (world->auditor.is_done) {
            return rest(world) && (mr_check_acked_finish(&world->check) || fail(world, world->check.why, ""));
        }
    }
    const struct mr_sim_actor *busy = find_busy(world);
    return fail(world, "not everybody comes to rest in the calm", busy != NULL ? busy->ops->name : "auditor");
}

/* What is damaged is left alone by retention, too. */
static bool check_kept(struct world *world)
{
    char why[200];
    return world->result->rots > 0 ||
           mr_check_kept_topic(world->fs, MR_SIM_LOG_DIR, "sim-2", MR_SIM_RETENTION_BYTES, why, sizeof why) || fail(world, why, "");
}

static void make_calm(struct world *world)
{
    world->swarm.is_calm = true;
    world->disk_full_until_ns = 0;
    mr_sim_fs_capacity(world->fs, 0);
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
    make_calm(world);
    bool is_good = start(world) && verify(world) && stop(world) && check_kept(world);
    if (world->broker.memory != NULL) {
        end(world);
    }
    return is_good;
}

static uint32_t steps_of_life(const struct world *world)
{
    return world->params->point_steps != 0 ? world->params->point_steps : STEPS_POINT;
}

/* A life in which power goes at disk operation n from its start; false: a violation. */
static bool live_to_point(struct world *world, uint64_t point, bool is_stopping)
{
    if (!start(world)) {
        return false;
    }
    mr_sim_fs_die_at(world->fs, mr_sim_fs_op_count(world->fs) + point - 1);
    bool is_good = true;
    for (uint32_t count = 0; is_good && count < steps_of_life(world); count++) {
        is_good = step(world);
    }
    world->result->states_cut |= mr_sim_states_of(world->broker.control);
    bool is_stopped = is_good && is_stopping && stop(world);
    end(world);
    if (is_stopped) {
        world->result->is_past_end = true;
    }
    cut(world, (enum mr_sim_cut)world->params->point_cut);
    return world->result->why[0] == '\0';
}

/* A crash point, and what must come after it. */
static bool run_point(struct world *world)
{
    const struct mr_sim_params *params = world->params;
    if (!live_to_point(world, params->point, true) ||
        (params->point_again != 0 && !live_to_point(world, params->point_again, false))) {
        return false;
    }
    make_calm(world);
    bool is_good = start(world) && verify(world) && stop(world) && check_kept(world);
    if (world->broker.memory != NULL) {
        end(world);
    }
    return is_good;
}

/* A life in which something fails at its n-th use: it goes on, or ends as it is declared. Then power goes, so that what
 * was acknowledged without a flush is missing; and everything must be there. */
static bool run_nth(struct world *world)
{
    bool is_good = start(world);
    mr_sim_nth_arm(world->fs, world->params->nth_way, world->params->nth);
    world->has_error = true;
    for (uint32_t count = 0; is_good && count < steps_of_life(world); count++) {
        is_good = step(world);
    }
    world->result->is_past_end = !mr_sim_nth_disarm(world->fs);
    (void)(is_good && stop(world));
    end(world);
    cut(world, MR_SIM_CUT_DROP);
    if (world->result->why[0] != '\0') {
        return false;
    }
    make_calm(world);
    is_good = start(world) && verify(world) && stop(world) && check_kept(world);
    if (world->broker.memory != NULL) {
        end(world);
    }
    return is_good;
}

/* A life behind a kill in which something is empty at its n-th use. It goes on, and when there is room again nobody waits any
 * more; only a start may fail for it, and the next one does not. */
static bool run_empty(struct world *world)
{
    bool is_good = start(world);
    for (uint32_t count = 0; is_good && count < STEPS_POINT; count++) {
        is_good = step(world);
    }
    end(world);
    mr_sim_fs_process_kill(world->fs, draw(world, UINT64_MAX));
    is_good = is_good && start(world);
    mr_sim_nth_arm(world->fs, world->params->nth_way, world->params->nth);
    world->is_short = true;
    for (uint32_t count = 0; is_good && count < steps_of_life(world); count++) {
        is_good = step(world);
    }
    world->result->is_past_end = !mr_sim_nth_disarm(world->fs);
    world->is_short = false;
    make_calm(world);
    if (!is_good && world->result->why[0] == '\0') {
        end(world);
        mr_sim_fs_process_kill(world->fs, draw(world, UINT64_MAX));
        is_good = start(world);
    }
    is_good = is_good && verify(world) && stop(world) && check_kept(world);
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
    if (mr_sim_swarm_has(swarm, MR_SIM_TROUBLE_slow_disk)) {
        world->latency_ns = mr_sim_swarm_draw(swarm, MR_SIM_TROUBLE_slow_disk, 3 * MR_NS_PER_MS);
    }
    mr_sim_format(&world->site, world->fs, world->now.unix_ms);
}

static void add_actor(struct world *world, struct mr_sim_actor *actor)
{
    mr_assert(world->actor_count < ACTORS_MAX);
    mr_sim_wire_init(&world->wires[world->actor_count++], actor, &world->swarm);
}

static void set_up_transactions(struct world *world, struct mr_arena *arena)
{
    mr_sim_txns_init(&world->txns, arena, mr_hash_u64(world->params->seed + 1));
    for (uint32_t index = 0; index < MR_SIM_TXN_ACTORS; index++) {
        add_actor(world, &world->txns.actors[index].actor);
    }
    add_actor(world, &world->txns.reader.actor);
}

static void set_up_actors(struct world *world, struct mr_arena *arena)
{
    uint32_t clients = 1 + (uint32_t)draw(world, CLIENTS_MAX);
    for (uint32_t index = 0; index < clients; index++) {
        mr_sim_client_init(&world->clients[index], arena, &world->check, index, mr_prng_next(&world->prng),
                           VALUES_MAX / clients);
        if (mr_sim_swarm_hits(&world->swarm, MR_SIM_TROUBLE_large, 2)) {
            world->clients[index].habits.pad_max = MR_SIM_PAD_LARGE;
        }
        add_actor(world, &world->clients[index].actor);
    }
    if (mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_admin)) {
        mr_sim_admin_init(&world->admin, arena, &world->check, mr_prng_next(&world->prng));
        add_actor(world, &world->admin.actor);
    }
    mr_check_group_init(&world->group, arena);
    for (uint32_t index = 0; mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_group) && index < MEMBERS; index++) {
        mr_sim_member_init(&world->members[index], arena, &world->group, index, mr_prng_next(&world->prng));
        add_actor(world, &world->members[index].actor);
    }
    /* Seeds of their own: the others do what they did before these came. */
    mr_sim_consumers_init(&world->consumers, arena, mr_hash_u64(world->params->seed));
    for (uint32_t index = 0; mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_group) && index < MR_SIM_CONSUMERS;
         index++) {
        add_actor(world, &world->consumers.members[index].actor);
    }
    if (mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_transactions)) {
        set_up_transactions(world, arena);
    }
    if (mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_keyed)) {
        mr_sim_keyed_init(&world->keyed, arena, mr_hash_u64(world->params->seed + 3));
        add_actor(world, &world->keyed.actor);
    }
    mr_sim_follower_init(&world->follower, arena, &world->check, mr_hash_u64(world->params->seed + 2));
    add_actor(world, &world->follower.actor);
    mr_sim_auditor_init(&world->auditor, arena, &world->check, mr_prng_next(&world->prng));
    world->auditor.has_group = mr_sim_swarm_has(&world->swarm, MR_SIM_TROUBLE_group);
    add_actor(world, &world->auditor.actor);
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
    world->params = params;
    world->result = result;
    world->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    mr_sim_swarm_init(&world->swarm, params->seed, params->only);
    result->on = world->swarm.on;
    mr_sim_site_init(&world->site);
    world->site.is_verbose = params->is_verbose;
    set_up_disk(world);
    mr_check_acked_init(&world->check, &arena, OFFSETS_MAX, VALUES_MAX);
    set_up_actors(world, &arena);
    result->is_ok = params->point != 0                     ? run_point(world)
                    : params->nth == 0                     ? run(world)
                    : mr_sim_nth_is_disk(params->nth_way) ? run_nth(world)
                                                           : run_empty(world);
    trace(world, mr_sim_fs_digest(world->fs));
    for (uint32_t index = 0; index < world->actor_count; index++) {
        trace(world, world->wires[index].hash);
        result->resets += world->wires[index].resets;
    }
    result->acked = world->check.acked_count;
    result->changes = world->admin.done;
    result->commits = world->group.acked_count;
    result->transactions = world->txns.check.committed_count;
    result->compacted = world->keyed.compacted;
    result->generations = world->group.newest + 1;
    result->simulated_ns = world->now.mono_ns - MR_NS_PER_S;
    mr_sim_fs_destroy(world->fs);
    munmap(memory, WORLD_BYTES);
    free(world);
}
