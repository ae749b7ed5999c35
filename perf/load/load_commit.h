/*
 * load_commit: connections that commit offsets: each for a group of its own without members, one partition at a time, as often
 * as their share of commit.rate says, or as fast as answers come.
 *
 * One thread, the worker's.
 */
#ifndef MILLRACE_PERF_LOAD_COMMIT_H
#define MILLRACE_PERF_LOAD_COMMIT_H

#include "load_call.h"

struct mr_load_committer {
    struct mr_load_caller   caller;
    struct mr_load_schedule schedule;
    uint32_t                index; /* among all committers of the run */
    char                    group[40];
    int64_t                 offset;
    uint64_t                intended_ns;
    uint64_t                due_ns; /* MR_NEVER while it waits for an answer */
};

/* Connect to the coordinator of its group. False: worker->error says why. */
bool mr_load_committer_open(struct mr_load_committer *committer, struct mr_load_worker *worker, uint32_t index);

/* The run begins at run->start_ns. */
void mr_load_committer_start(struct mr_load_committer *committer);

/* Commit if that is due; when the next one is. */
uint64_t mr_load_committer_turn(struct mr_load_committer *committer);

void mr_load_committer_close(struct mr_load_committer *committer);

#endif
