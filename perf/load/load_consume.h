/*
 * load_consume: one connection that fetches: all partitions, or those that its group gave it.
 *
 * One fetch is under way at any time, within a fetch session, so that a request names only what moved.
 * Headers of batches are read; records only where stamps are measured or verified.
 */
#ifndef MILLRACE_PERF_LOAD_CONSUME_H
#define MILLRACE_PERF_LOAD_CONSUME_H

#include "load_group.h"
#include "load_verify.h"
#include "load_worker.h"

struct mr_load_position {
    int32_t partition;
    bool    is_changed; /* since the last request */
    int64_t offset;
};

struct mr_load_consumer {
    struct mr_load_link      link;
    struct mr_load_worker   *worker;
    uint32_t                 index; /* among all consumers of the run */
    struct mr_load_position *positions;
    uint32_t                *place_of; /* partition -> place in positions + 1 */
    uint32_t                 position_count;
    struct mr_load_member    member; /* of a group */
    uint32_t                 assignment;
    struct mr_load_reader   *reader; /* NULL: nothing is verified */
    uint8_t                 *out;
    uint32_t                 out_size;
    int32_t                  correlation;
    int32_t                  session_id;
    int32_t                  session_epoch;
    uint64_t                 sent_ns;
    bool                     is_waiting; /* for an answer */
    void                    *scratch;
    size_t                   scratch_size;
};

bool mr_load_consumer_open(struct mr_load_consumer *consumer, struct mr_load_worker *worker, uint32_t index);

/* Send a fetch if none is under way and there is something to fetch. */
void mr_load_consumer_turn(struct mr_load_consumer *consumer);

void mr_load_consumer_close(struct mr_load_consumer *consumer);

#endif
