/*
 * load_produce: one connection that produces.
 *
 *   due?  >  a free request among those in flight  >  fill its image  >  send  >  answer: record, free
 *
 * Requests in flight are a ring: Kafka answers in order.
 */
#ifndef MILLRACE_PERF_LOAD_PRODUCE_H
#define MILLRACE_PERF_LOAD_PRODUCE_H

#include "load_txn.h"

struct mr_load_request {
    struct mr_load_image image;
    uint64_t             intended_ns;
    int32_t              correlation;
    uint32_t             cursor; /* of the first of its streams */
};

struct mr_load_producer {
    struct mr_load_link     link;
    struct mr_load_worker  *worker;
    uint32_t                index; /* among all producers of the run */
    uint32_t                place; /* among the worker's             */
    struct mr_load_stream  *streams;
    struct mr_load_stream **order; /* the streams, twice in a row: any `batches` of them are neighbours */
    uint32_t                stream_count;
    uint32_t               *stream_of; /* partition -> place in streams + 1 */
    uint32_t                cursor;
    struct mr_load_request *requests;
    uint32_t                request_count;
    uint32_t                first; /* oldest without answer */
    uint32_t                open;  /* without answer        */
    int32_t                 correlation;
    uint64_t                free_ns; /* when a place last became free */
    struct mr_load_schedule schedule;
    struct mr_load_txn     *txn; /* NULL: no transactions */
};

/* Connect to the leader of its partitions. False: worker->error says why. */
bool mr_load_producer_open(struct mr_load_producer *producer, struct mr_load_worker *worker, uint32_t index,
                           uint32_t place);

/* The run begins at run->start_ns. */
void mr_load_producer_start(struct mr_load_producer *producer);

/* Send everything that is due now. */
void mr_load_producer_turn(struct mr_load_producer *producer);

/* The run is stopping: nothing new is due. */
void mr_load_producer_stop(struct mr_load_producer *producer);

/* The transaction of its request has ended; the next one has this id (-1: the same) and epoch. */
void mr_load_producer_ended(struct mr_load_producer *producer, int64_t producer_id, int16_t epoch);

void mr_load_producer_close(struct mr_load_producer *producer);

#endif
