#include "sim_wire.h"

#include "millrace/base/hash.h"

#include <stdlib.h>

#define TAKE_BYTES     65536u
#define HALF_OPEN_MAX  6u
#define TIMEOUT_MAX_NS (30 * MR_NS_PER_S)
#define LATE_MAX_NS    (10 * MR_NS_PER_S)

struct mr_sim_chunk {
    struct mr_sim_chunk *next;
    uint64_t             due_ns;
    uint32_t             len;
    uint8_t              bytes[];
};

static uint64_t lot(struct mr_sim_wire *wire, enum mr_sim_trouble trouble, uint64_t bound)
{
    return mr_sim_swarm_draw(wire->swarm, trouble, bound);
}

/* ---- Pipes ---- */

static void pipe_put(struct mr_sim_wire *wire, struct mr_sim_pipe *pipe, const void *bytes, uint32_t len,
                     struct mr_now now)
{
    struct mr_sim_chunk *chunk = malloc(sizeof *chunk + len);
    mr_assert(chunk != NULL && len > 0);
    uint64_t due_ns = now.mono_ns;
    if (pipe->delay_max_ns > 0 && !wire->swarm->is_calm) {
        due_ns += lot(wire, MR_SIM_TROUBLE_delay, pipe->delay_max_ns);
    }
    if (pipe->last != NULL && pipe->last->due_ns > due_ns) {
        due_ns = pipe->last->due_ns; /* a stream: later bytes come later */
    }
    *chunk = (struct mr_sim_chunk){.due_ns = due_ns, .len = len};
    memcpy(chunk->bytes, bytes, len);
    *(pipe->last != NULL ? &pipe->last->next : &pipe->first) = chunk;
    pipe->last = chunk;
}

static void pipe_drop(struct mr_sim_pipe *pipe)
{
    struct mr_sim_chunk *chunk = pipe->first;
    pipe->first = pipe->first->next;
    pipe->last = pipe->first == NULL ? NULL : pipe->last;
    free(chunk);
}

static void pipe_clear(struct mr_sim_pipe *pipe)
{
    while (pipe->first != NULL) {
        pipe_drop(pipe);
    }
}

static uint64_t pipe_due_ns(const struct mr_sim_pipe *pipe)
{
    if (pipe->first == NULL) {
        return MR_NEVER;
    }
    return pipe->first->due_ns > pipe->closed_until_ns ? pipe->first->due_ns : pipe->closed_until_ns;
}

static bool pipe_is_due(const struct mr_sim_wire *wire, const struct mr_sim_pipe *pipe, struct mr_now now)
{
    return pipe->first != NULL && (wire->swarm->is_calm || pipe_due_ns(pipe) <= now.mono_ns);
}

/* ---- The connection ---- */

void mr_sim_wire_init(struct mr_sim_wire *wire, struct mr_sim_actor *actor, struct mr_sim_swarm *swarm)
{
    *wire = (struct mr_sim_wire){.actor = actor, .swarm = swarm};
}

static void disconnect(struct mr_sim_wire *wire, struct mr_now now)
{
    wire->peer = NULL;
    pipe_clear(&wire->up);
    pipe_clear(&wire->down);
    wire->connect_ns = now.mono_ns + mr_prng_below(&wire->actor->prng, 5 * MR_NS_PER_MS);
    mr_sim_actor_lost(wire->actor);
}

/* ---- Connections without a client ---- */

/* The bytes that the actor has just sent, with their connection, go on by themselves. False: not this time. */
static bool part_from(struct mr_sim_wire *wire, struct mr_now now)
{
    uint32_t at = 0;
    while (at < MR_SIM_LATE_MAX && wire->late[at].peer != NULL) {
        at++;
    }
    if (at == MR_SIM_LATE_MAX || !wire->actor->is_late_harmless || wire->up.first != NULL ||
        !mr_sim_swarm_hits(wire->swarm, MR_SIM_TROUBLE_late, 25)) {
        return false;
    }
    struct mr_sim_pipe pipe = {0};
    pipe_put(wire, &pipe, wire->actor->out, wire->actor->out_len, now);
    pipe.first->due_ns = now.mono_ns + lot(wire, MR_SIM_TROUBLE_late, LATE_MAX_NS);
    wire->late[at] = (struct mr_sim_late){.peer = wire->peer, .chunk = pipe.first};
    disconnect(wire, now);
    return true;
}

static void late_end(struct mr_sim_late *late)
{
    free(late->chunk);
    *late = (struct mr_sim_late){.peer = NULL};
}

/* What has had its time arrives; whoever's answers come then is gone. */
static bool move_late(struct mr_sim_wire *wire, struct mr_now now)
{
    bool is_moved = false;
    for (uint32_t at = 0; at < MR_SIM_LATE_MAX; at++) {
        struct mr_sim_late *late = &wire->late[at];
        if (late->peer != NULL && mr_sim_peer_is_closed(late->peer)) {
            late_end(late);
        } else if (late->chunk != NULL && (late->chunk->due_ns <= now.mono_ns || wire->swarm->is_calm)) {
            mr_sim_peer_send(late->peer, late->chunk->bytes, late->chunk->len);
            free(late->chunk);
            late->chunk = NULL;
            is_moved = true;
        }
        uint8_t answer[64];
        if (late->peer != NULL && late->chunk == NULL && mr_sim_peer_take(late->peer, answer, sizeof answer) > 0) {
            mr_sim_peer_reset(late->peer);
            late_end(late);
        }
    }
    return is_moved;
}

void mr_sim_wire_broken(struct mr_sim_wire *wire, struct mr_now now)
{
    for (uint32_t at = 0; at < MR_SIM_LATE_MAX; at++) {
        late_end(&wire->late[at]);
    }
    disconnect(wire, now);
    wire->half_open = 0;
}

void mr_sim_wire_close(struct mr_sim_wire *wire, struct mr_now now)
{
    if (wire->peer != NULL) {
        mr_sim_peer_reset(wire->peer);
    }
    disconnect(wire, now);
    wire->connect_ns = MR_NEVER;
}

static bool connect(struct mr_sim_wire *wire, struct mr_sim_net *net, struct mr_now now)
{
    static const uint64_t delays_ns[] = {100 * MR_NS_PER_US, MR_NS_PER_MS, 50 * MR_NS_PER_MS, 2 * MR_NS_PER_S};
    if (now.mono_ns < wire->connect_ns) {
        return false;
    }
    wire->peer = mr_sim_net_connect(net, NULL);
    if (wire->peer == NULL) {
        wire->connect_ns = now.mono_ns + 2 * MR_NS_PER_MS;
        return false;
    }
    wire->up = (struct mr_sim_pipe){.closed_until_ns = 0};
    wire->down = (struct mr_sim_pipe){.closed_until_ns = 0};
    if (mr_sim_swarm_has(wire->swarm, MR_SIM_TROUBLE_delay)) {
        wire->up.delay_max_ns = delays_ns[lot(wire, MR_SIM_TROUBLE_delay, 4)];
        wire->down.delay_max_ns = delays_ns[lot(wire, MR_SIM_TROUBLE_delay, 4)];
    }
    wire->timeout_ns = MR_NS_PER_S + mr_prng_below(&wire->actor->prng, TIMEOUT_MAX_NS);
    wire->take_max = TAKE_BYTES;
    if (mr_sim_swarm_hits(wire->swarm, MR_SIM_TROUBLE_slow_reader, 3)) {
        wire->take_max = 1 + (uint32_t)lot(wire, MR_SIM_TROUBLE_slow_reader, 2000);
    }
    return true;
}

/* Now and then one or both directions stop. */
static void part(struct mr_sim_wire *wire, struct mr_now now)
{
    if (!mr_sim_swarm_hits(wire->swarm, MR_SIM_TROUBLE_partition, 1500)) {
        return;
    }
    uint64_t until_ns = now.mono_ns + lot(wire, MR_SIM_TROUBLE_partition, 10 * MR_NS_PER_S);
    uint64_t which = lot(wire, MR_SIM_TROUBLE_partition, 3);
    if (which != 0) {
        wire->up.closed_until_ns = until_ns;
    }
    if (which != 1) {
        wire->down.closed_until_ns = until_ns;
    }
}

/* The broker is not told that this end is gone. */
static void leave(struct mr_sim_wire *wire, struct mr_now now)
{
    wire->half_open++;
    disconnect(wire, now);
}

static void reset(struct mr_sim_wire *wire, struct mr_now now)
{
    /* Some of what is on its way still arrives, down to half a byte of a length. */
    if (wire->up.first != NULL) {
        uint32_t len = (uint32_t)lot(wire, MR_SIM_TROUBLE_reset, wire->up.first->len + 1ull);
        mr_sim_peer_send(wire->peer, wire->up.first->bytes, len);
    }
    mr_sim_peer_reset(wire->peer);
    wire->resets++;
    disconnect(wire, now);
}

static bool is_timed_out(const struct mr_sim_wire *wire, struct mr_now now)
{
    return wire->actor->call_count > 0 && now.mono_ns - wire->actor->calls[0].sent_ns > wire->timeout_ns;
}

static bool move_up(struct mr_sim_wire *wire, struct mr_now now)
{
    struct mr_sim_actor *actor = wire->actor;
    bool                 is_moved = false;
    if (actor->out_len > 0 && part_from(wire, now)) {
        return true;
    }
    if (actor->out_len > 0) {
        pipe_put(wire, &wire->up, actor->out, actor->out_len, now);
        actor->out_len = 0;
        is_moved = true;
    }
    while (pipe_is_due(wire, &wire->up, now)) {
        mr_sim_peer_send(wire->peer, wire->up.first->bytes, wire->up.first->len);
        pipe_drop(&wire->up);
        is_moved = true;
    }
    return is_moved;
}

static bool move_down(struct mr_sim_wire *wire, struct mr_now now)
{
    static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
    static uint8_t                  bytes[TAKE_BYTES]; /* between two statements only */
    uint32_t max = wire->swarm->is_calm ? TAKE_BYTES : 1 + (uint32_t)mr_prng_below(&wire->actor->prng, wire->take_max);
    uint32_t len = mr_sim_peer_take(wire->peer, bytes, max);
    bool     is_moved = len > 0;
    if (len > 0) {
        pipe_put(wire, &wire->down, bytes, len, now);
    }
    while (pipe_is_due(wire, &wire->down, now)) {
        struct mr_sim_chunk *chunk = wire->down.first;
        wire->hash = mr_hash_u64(wire->hash ^ mr_hash_bytes(&key, chunk->bytes, chunk->len));
        mr_sim_actor_feed(wire->actor, chunk->bytes, chunk->len, now);
        pipe_drop(&wire->down);
        is_moved = true;
    }
    return is_moved;
}

bool mr_sim_wire_step(struct mr_sim_wire *wire, struct mr_sim_net *net, struct mr_now now)
{
    bool is_moved = move_late(wire, now);
    if (wire->peer != NULL && mr_sim_peer_is_closed(wire->peer)) {
        disconnect(wire, now);
    }
    if (wire->peer == NULL && !connect(wire, net, now)) {
        return is_moved;
    }
    part(wire, now);
    is_moved |= move_down(wire, now);
    if (now.mono_ns >= wire->actor->wake_ns) {
        wire->actor->ops->turn(wire->actor, now);
    }
    is_moved |= move_up(wire, now);
    if (wire->peer == NULL) {
        return true; /* it went on without its client */
    }
    if (mr_sim_swarm_hits(wire->swarm, MR_SIM_TROUBLE_reset, 300) || is_timed_out(wire, now)) {
        reset(wire, now);
    } else if (wire->half_open < HALF_OPEN_MAX &&
               mr_sim_swarm_hits(wire->swarm, MR_SIM_TROUBLE_half_open, 1000)) {
        leave(wire, now);
    }
    return is_moved;
}

uint64_t mr_sim_wire_next_ns(const struct mr_sim_wire *wire, struct mr_now now)
{
    uint64_t at = MR_NEVER;
    for (uint32_t index = 0; index < MR_SIM_LATE_MAX; index++) {
        const struct mr_sim_chunk *chunk = wire->late[index].chunk;
        at = chunk != NULL ? mr_earlier(at, chunk->due_ns) : at;
    }
    if (wire->peer == NULL) {
        return mr_earlier(at, wire->connect_ns);
    }
    at = mr_earlier(at, mr_earlier(pipe_due_ns(&wire->up), pipe_due_ns(&wire->down)));
    if (wire->actor->wake_ns > now.mono_ns) {
        at = mr_earlier(at, wire->actor->wake_ns);
    }
    if (wire->actor->call_count > 0) {
        at = mr_earlier(at, wire->actor->calls[0].sent_ns + wire->timeout_ns + 1);
    }
    return at;
}

bool mr_sim_wire_is_busy(const struct mr_sim_wire *wire)
{
    for (uint32_t at = 0; at < MR_SIM_LATE_MAX; at++) {
        if (wire->late[at].peer != NULL) {
            return true;
        }
    }
    return wire->actor->call_count > 0 || wire->actor->out_len > 0 || wire->up.first != NULL ||
           wire->down.first != NULL;
}
