/*
 * sim_actor: a client of the simulation: it sends requests when it wants to and looks at the answers.
 *
 * Here is what all of them share: frames, correlation ids, the project's codec, and the rule that
 * answers come in the order of the requests (I4). What an actor wants is in sim_client.c, sim_member.c,
 * sim_admin.c and sim_auditor.c; bytes travel in sim_wire.c.
 *
 *   wire:   connected > turn > take `out`, feed what arrives > ... > lost
 *
 * Requests are sent in turn() only: answer() may not, its arena is the memory that batches are built in.
 *
 * Memory: the arena given at init. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_ACTOR_H
#define MILLRACE_TESTS_SIM_ACTOR_H

#include "millrace/base/arena.h"
#include "millrace/base/prng.h"
#include "millrace/base/str.h"
#include "millrace/base/time.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_SIM_CALLS        16u /* requests of one actor without an answer */
#define MR_SIM_ACTOR_BUFFER (1u << 20)
#define MR_SIM_ANSWER_MAX   (640u << 10) /* a batch of the largest, whole, and what is around it */
#define MR_SIM_ACTOR_HALF   (2u << 20) /* of the scratch: batches and answers below, requests above */

struct mr_sim_actor;

/* A request that waits for its answer. */
struct mr_sim_call {
    int32_t  correlation;
    int16_t  key;
    int16_t  version;
    uint64_t user; /* the actor's */
    uint64_t sent_ns;
};

struct mr_sim_actor_ops {
    const char *name;

    /* Send what there is to send, with mr_sim_actor_send. */
    void (*turn)(struct mr_sim_actor *actor, struct mr_now now);

    /* The answer of the oldest call; what it points to lives until the return. */
    void (*answer)(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now);

    /* The connection went with this call unanswered: it happened or not. May be NULL. */
    void (*lost)(struct mr_sim_actor *actor, const struct mr_sim_call *call);

    /* Whether nothing is left to do, once the actor is quiet. */
    bool (*is_idle)(const struct mr_sim_actor *actor);
};

/* Embedded first in each actor. */
struct mr_sim_actor {
    const struct mr_sim_actor_ops *ops;
    struct mr_prng                 prng;
    struct mr_sim_call             calls[MR_SIM_CALLS]; /* oldest first */
    uint32_t                       call_count;
    int32_t                        correlation_next;
    uint64_t                       wake_ns;  /* no turn before */
    bool                           is_quiet; /* finish what is open, begin nothing */
    bool                           is_late_harmless; /* requests of a connection that it gave up may arrive later */
    uint8_t                       *in;
    uint32_t                       in_len;
    uint8_t                       *out;
    uint32_t                       out_len;
    uint8_t                       *scratch;
    char                           why[256]; /* what the broker did wrong; "" while there is nothing */
};

void mr_sim_actor_init(struct mr_sim_actor *actor, const struct mr_sim_actor_ops *ops, struct mr_arena *arena,
                       uint64_t seed);

/* Whether a request of usual size may be sent now. */
bool mr_sim_actor_has_room(const struct mr_sim_actor *actor);

/* Encode a request into the out buffer and remember it as a call, unless it is one without an answer. */
void mr_sim_actor_send(struct mr_sim_actor *actor, int16_t key, int16_t version, const void *request,
                       uint64_t user, bool is_answered, struct mr_now now);

/* Bytes from the broker: answers, in order. */
void mr_sim_actor_feed(struct mr_sim_actor *actor, const void *bytes, uint32_t len, struct mr_now now);

/* The connection is gone, with all calls. */
void mr_sim_actor_lost(struct mr_sim_actor *actor);

/* How many calls of `key` wait. */
uint32_t mr_sim_actor_waiting(const struct mr_sim_actor *actor, int16_t key);

/* Note a violation; only the first counts. */
void mr_sim_actor_refuse(struct mr_sim_actor *actor, const char *what, int64_t detail);

/* Nothing for up to `max_ns`. */
void mr_sim_actor_rest(struct mr_sim_actor *actor, struct mr_now now, uint64_t max_ns);

#endif
