/*
 * load_group: one member of a classic consumer group, on a thread and a connection of its own.
 *
 *   find the coordinator > join > (leader: assign) > sync > heartbeat and commit .. > leave
 *
 * The consumer's own connection only fetches; what it may fetch changes hands under a lock when
 * `assignment` moves. Before it joins again a member revokes and commits, so that no record is taken by
 * the old owner and the new one. Partitions are dealt out in turn to the members in the order of their ids.
 */
#ifndef MILLRACE_PERF_LOAD_GROUP_H
#define MILLRACE_PERF_LOAD_GROUP_H

#include "load_run.h"

struct mr_load_owned {
    int32_t partition;
    int64_t offset;    /* where to go on reading; written by the consumer */
    int64_t committed;
};

struct mr_load_member {
    const struct mr_load_run *run;
    pthread_t                 thread;
    pthread_mutex_t           lock;
    struct mr_load_owned     *owned;
    uint32_t                  owned_count;
    bool                      is_revoked; /* a rebalance is under way: what still arrives is not ours */
    _Atomic uint32_t          assignment; /* counts assignments; 0: none yet */
    _Atomic bool              is_leaving;
    bool                      is_started;
    _Atomic uint64_t          commits;
    char                      error[512];
};

/* Start the thread. */
bool mr_load_member_start(struct mr_load_member *member, const struct mr_load_run *run);

/* Commit, leave the group, end the thread. */
void mr_load_member_stop(struct mr_load_member *member);

#endif
