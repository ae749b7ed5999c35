/*
 * check_group: what members of one classic group were promised.
 *
 *   assignments    what SyncGroup answers in one generation gives no partition to two members, and is what
 *                  the leader of that generation sent
 *   fencing        a commit of an older generation, sent when a newer one had been handed out, is refused
 *   commits        a committed offset is a register per partition: a read returns the last commit that was
 *                  acknowledged before it began, or one that overlapped or was never answered, and never
 *                  one that was refused (reliability.md P6)
 *
 * Every commit carries an offset unique in the run, so that a read names the commit it saw. Order in time is a
 * counter of events, not a clock.
 *
 * Memory: the caller's arena. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_CHECK_GROUP_H
#define MILLRACE_TESTS_CHECK_GROUP_H

#include "millrace/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CHECK_GROUP_PARTITIONS  4u
#define MR_CHECK_GROUP_GENERATIONS 4096
#define MR_CHECK_GROUP_COMMITS     8192u

struct mr_check_commit {
    uint32_t partition;
    int32_t  generation;
    bool     is_late; /* sent when a newer generation had been handed out */
    bool     is_acked;
    bool     is_refused;
    uint64_t sent_at;
    uint64_t done_at; /* UINT64_MAX: no answer */
};

/* A generation: the owner of each partition, + 1. */
struct mr_check_generation {
    uint32_t owners[MR_CHECK_GROUP_PARTITIONS];
};

struct mr_check_group {
    struct mr_check_generation *generations;
    int32_t                     newest; /* generation that was handed out; -1: none */
    struct mr_check_commit     *commits; /* number n carries offset n */
    uint32_t                    commit_count;
    uint64_t                    event;
    uint64_t                    acked_count;
    uint64_t                    assigned_count;
    char                        why[256]; /* the first violation; "" while there is none */
};

void mr_check_group_init(struct mr_check_group *check, struct mr_arena *arena);

/* SyncGroup of `generation` gave `member` the partitions of the mask; what it gave was made for `made_for`. */
void mr_check_group_assigned(struct mr_check_group *check, int32_t generation, uint32_t member, uint32_t mask,
                             int32_t made_for);

/* A commit is sent; its offset. UINT32_MAX: there were too many. */
uint32_t mr_check_group_commit(struct mr_check_group *check, int32_t generation, uint32_t partition);
void     mr_check_group_acked(struct mr_check_group *check, uint32_t commit);
void     mr_check_group_refused(struct mr_check_group *check, uint32_t commit);

/* A read is sent (its moment is returned) and answered; offset -1: nothing is committed. */
uint64_t mr_check_group_read(struct mr_check_group *check);
void     mr_check_group_seen(struct mr_check_group *check, uint64_t sent_at, uint32_t partition, int64_t offset);

static inline bool mr_check_group_is_ok(const struct mr_check_group *check)
{
    return check->why[0] == '\0';
}

#endif
