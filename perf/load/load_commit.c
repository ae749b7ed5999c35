#include "load_commit.h"

#include "load_wire.h"

#include "millrace/base/time.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <unistd.h>

#define COMMIT_VERSION 8
#define READY_TRIES    6000
#define PAUSE_US       10000

/* A request with what it points to. */
struct commit {
    struct mr_offset_commit_request           request;
    struct mr_offset_commit_request_topic     topic;
    struct mr_offset_commit_request_partition partition;
};

static void build(struct commit *commit, const struct mr_load_worker *worker, const struct mr_load_committer *committer)
{
    const struct mr_load_topic *topic = worker->run->topic;
    MR_DEFAULTS(offset_commit_request, &commit->request);
    MR_DEFAULTS(offset_commit_request_topic, &commit->topic);
    MR_DEFAULTS(offset_commit_request_partition, &commit->partition);
    commit->partition.partition_index = (int32_t)(committer->index % topic->partition_count);
    commit->partition.committed_offset = committer->offset;
    commit->topic.name = mr_str(topic->name);
    commit->topic.partitions = &commit->partition;
    commit->topic.partitions_count = 1;
    commit->request.group_id = mr_str(committer->group);
    commit->request.generation_id_or_member_epoch = -1;
    commit->request.topics = &commit->topic;
    commit->request.topics_count = 1;
}

static int16_t code_of(const struct mr_offset_commit_response *response)
{
    bool is_one = response->topics_count == 1 && response->topics[0].partitions_count == 1;
    return is_one ? response->topics[0].partitions[0].error_code : MR_KAFKA_UNKNOWN_SERVER_ERROR;
}

/* The first commit, until the coordinator is ready for it. */
static bool commit_first(struct mr_load_wire *wire, const struct mr_load_worker *worker,
                         const struct mr_load_committer *committer)
{
    struct mr_offset_commit_response response;
    struct commit                    commit;
    int16_t                          code = MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (mr_load_wire_version(wire, MR_API_OFFSET_COMMIT, COMMIT_VERSION) != COMMIT_VERSION) {
        return mr_load_wire_refused(wire, "OffsetCommit 8", MR_KAFKA_UNSUPPORTED_VERSION);
    }
    for (int tries = 0; tries < READY_TRIES && mr_errors_is_retriable(code); tries++) {
        build(&commit, worker, committer);
        if (!mr_load_wire_call(wire, MR_API_OFFSET_COMMIT, COMMIT_VERSION, &commit.request, &response)) {
            return false;
        }
        code = code_of(&response);
        usleep(code == 0 ? 0 : PAUSE_US);
    }
    return code == 0 || mr_load_wire_refused(wire, "first commit", code);
}

static void set_due(struct mr_load_committer *committer)
{
    const struct mr_load_worker *worker = committer->caller.worker;
    bool is_able = !committer->caller.link.is_closing &&
                   !atomic_load_explicit(&worker->run->is_stopping, memory_order_relaxed);
    committer->due_ns = is_able ? mr_load_schedule_due_ns(&committer->schedule, worker->loop.now_ns) : MR_NEVER;
}

static void on_committed(struct mr_load_caller *caller, const void *answer)
{
    struct mr_load_committer               *committer = caller->user;
    struct mr_load_worker                  *worker = caller->worker;
    const struct mr_load_run               *run = worker->run;
    char                                    what[120];
    int16_t                                 code = code_of(answer);
    if (code != 0) {
        snprintf(what, sizeof what, "commit of %s: %s", committer->group, mr_errors_name(code));
        mr_load_worker_fail(worker, what);
    } else {
        mr_load_count(&worker->counts.commits, 1);
        if (committer->intended_ns >= run->measure_ns && committer->intended_ns < run->end_ns) {
            mr_load_hist_record(&worker->committed, (worker->loop.now_ns - committer->intended_ns) / MR_NS_PER_US);
        }
    }
    set_due(committer);
}

bool mr_load_committer_open(struct mr_load_committer *committer, struct mr_load_worker *worker, uint32_t index)
{
    struct mr_load_wire wire;
    *committer = (struct mr_load_committer){.index = index, .due_ns = MR_NEVER};
    committer->caller.what = "commit";
    committer->caller.user = committer;
    committer->caller.answered = on_committed;
    snprintf(committer->group, sizeof committer->group, "load-commits-%u", index);
    bool is_open = mr_load_wire_coordinator(&wire, worker->run->options->broker, MR_LOAD_COORDINATOR_GROUP,
                                            mr_str(committer->group));
    is_open = is_open && commit_first(&wire, worker, committer);
    if (!is_open) {
        snprintf(worker->error, sizeof worker->error, "%s", wire.error);
    }
    is_open = is_open && mr_load_caller_open(&committer->caller, worker, wire.address);
    mr_load_wire_close(&wire);
    return is_open;
}

void mr_load_committer_start(struct mr_load_committer *committer)
{
    const struct mr_load_run     *run = committer->caller.worker->run;
    const struct mr_load_options *options = run->options;
    mr_load_schedule_init(&committer->schedule, run->start_ns, options->commit_rate, committer->index,
                          (uint32_t)options->committers, options->arrivals == MR_LOAD_POISSON, options->seed);
    committer->due_ns = mr_load_schedule_due_ns(&committer->schedule, run->start_ns);
}

uint64_t mr_load_committer_turn(struct mr_load_committer *committer)
{
    struct commit commit;
    if (committer->due_ns <= committer->caller.worker->loop.now_ns) {
        committer->intended_ns = committer->due_ns;
        committer->due_ns = MR_NEVER;
        committer->offset++;
        build(&commit, committer->caller.worker, committer);
        mr_load_caller_ask(&committer->caller, MR_API_OFFSET_COMMIT, COMMIT_VERSION, &commit.request);
        mr_load_schedule_next(&committer->schedule);
    }
    return committer->due_ns;
}

void mr_load_committer_close(struct mr_load_committer *committer)
{
    mr_load_caller_close(&committer->caller);
}
