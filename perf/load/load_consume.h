/*
 * load_consume: one consumer: it fetches all partitions, or those that its group gave it, each from its leader.
 *
 * To each leader it has a connection, a source. One fetch is under way on each at any time, within a fetch
 * session, so that a request names only what moved. A partition that has left its leader belongs to no source
 * until the main thread has asked for the new one. Headers of batches are read; records only where stamps are
 * measured or verified.
 */
#ifndef MILLRACE_PERF_LOAD_CONSUME_H
#define MILLRACE_PERF_LOAD_CONSUME_H

#include "load_group.h"
#include "load_verify.h"
#include "load_worker.h"

struct mr_load_source {
    struct mr_load_link      link;
    struct mr_load_consumer *consumer;
    int32_t                  node;
    bool                     is_lost;    /* its connection */
    bool                     is_waiting; /* for an answer  */
    uint32_t                 held;       /* partitions     */
    uint32_t                 layout;     /* moves on when they change: a session and an answer of before are void */
    uint32_t                 asked_layout;
    int32_t                  correlation;
    int32_t                  session_id;
    int32_t                  session_epoch;
    uint64_t                 sent_ns;
    uint8_t                 *out;
    uint32_t                 out_size;
};

struct mr_load_position {
    int32_t                partition;
    bool                   is_changed; /* since the last request */
    int64_t                offset;
    struct mr_load_source *source; /* NULL: its leader is not known */
};

struct mr_load_consumer {
    struct mr_load_worker   *worker;
    uint32_t                 index; /* among all consumers of the run */
    struct mr_load_source   *sources[MR_LOAD_NODES_MAX];
    uint32_t                 source_count;
    uint32_t                 leaders_version; /* that the positions were placed by */
    struct mr_load_position *positions;
    uint32_t                *place_of; /* partition -> place in positions + 1 */
    uint32_t                 position_count;
    struct mr_load_member    member; /* of a group */
    uint32_t                 assignment;
    struct mr_load_reader   *reader; /* NULL: nothing is verified */
    void                    *scratch;
    size_t                   scratch_size;
};

bool mr_load_consumer_open(struct mr_load_consumer *consumer, struct mr_load_worker *worker, uint32_t index);

/* Send a fetch to each leader where none is under way and there is something to fetch. */
void mr_load_consumer_turn(struct mr_load_consumer *consumer);

void mr_load_consumer_close(struct mr_load_consumer *consumer);

#endif
