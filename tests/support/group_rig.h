/*
 * group_rig: a shard of groups as pure steps: requests and due timers in, records and answers out,
 * time in the margin.
 *
 * After every step the written records are folded into a second shard, which must equal the first
 * one in all that is settled: recovery is replay and nothing else. Golden conversations lie in
 * tests/golden/group; MR_UPDATE=1 writes them anew.
 */
#ifndef MILLRACE_TESTS_GROUP_RIG_H
#define MILLRACE_TESTS_GROUP_RIG_H

#include "coord/group/group.h"

#define MR_GROUP_RIG_LOG_MAX  20000
#define MR_GROUP_RIG_OPEN_MAX 64

struct mr_group_rig_record {
    struct mr_blob key;
    struct mr_blob value;
};

/* A request and what became of it. */
struct mr_group_rig_ask {
    struct mr_request request; /* first: an answer's request leads back here */
    struct mr_coord_answer answer;
    struct mr_forward forward;
    char who[32];
    bool is_open;
    int16_t error;      /* of the answer */
    int32_t generation; /* likewise; the member epoch in the new protocol */
    char member_id[80]; /* likewise */
    char leader[80];
    char assignment[160]; /* in the new protocol "-", or topic:partition,... */
    char words[120];      /* the error's, in the new protocol */
};

struct mr_group_rig {
    struct mr_heap heap;
    struct mr_heap fold_heap;
    struct mr_timers timers;
    struct mr_timers fold_timers;
    struct mr_group_env env;
    struct mr_group_env fold_env;
    struct mr_group_shard shard;
    struct mr_arena scratch;
    struct mr_arena forever; /* what a test makes and never frees */
    struct mr_now now;
    struct mr_group_rig_record log[MR_GROUP_RIG_LOG_MAX];
    uint32_t log_count;
    struct mr_group_rig_ask asks[MR_GROUP_RIG_OPEN_MAX];
    struct mr_log warnings;
    struct mr_text trace;
    char text[1 << 18];
    uint32_t uuids;
    struct mr_image image; /* topics "t" and "u" with 4 partitions each, ids 07.. and 08.. */
    struct mr_image_topic topic[2];
    const struct mr_image_topic *topics[2];
};

/* A fresh one, in memory that is never given back. */
struct mr_group_rig *mr_group_rig_new(void);

/* Run a request to its end; it stays open while it waits. */
struct mr_group_rig_ask *mr_group_rig_ask(struct mr_group_rig *rig, const char *who, int16_t key,
                                          int16_t version, void *message);

/* Whether a warning since the last call has this text in it. */
bool mr_group_rig_has_warned(struct mr_group_rig *rig, const char *text);

/* Time passes; what is due happens in its order. */
void mr_group_rig_pass(struct mr_group_rig *rig, uint64_t ms);

/* Write, replay and answer what a step decided. */
void mr_group_rig_apply(struct mr_group_rig *rig, struct mr_coord_out *out);

/* Drop the state and load it from the log, as a restart does. */
void mr_group_rig_restart(struct mr_group_rig *rig);

/* The committed offset of a partition of "t" in group "g". */
int64_t mr_group_rig_fetched(struct mr_group_rig *rig, int32_t partition);

/* The conversation so far is the one in tests/golden/group/NAME.trace. */
void mr_group_rig_golden(struct mr_group_rig *rig, const char *name);

#endif
