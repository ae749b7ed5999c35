/*
 * pieces: a request that names very many things is served a window of them at a time, so that no turn of the control
 * thread is long.
 *
 *   request   topics [ a: 0 1 2 3 | b: 0 1 2 ]                 one message, decoded once
 *   windows          [ a: 0 1 ]  [ a: 2 3 | b: 0 ]  [ b: 1 2 ]  each is a message of its own for the handler
 *   answers          [ a: 0 1 ]  [ a: 2 3 | b: 0 ]  [ b: 1 2 ]  encoded as they come and joined
 *   answer    topics [ a: 0 1 2 3 | b: 0 1 2 ]                 the same bytes as in one piece
 *
 * The handler knows nothing of it: it gets request->message with shorter arrays, and answers; the next window comes in this
 * turn or a later one, when the answer to this one has been given (records of its window are durable then). A request that
 * changes metadata and names something twice is not cut: both are refused.
 *
 * An answer about everything (ListGroups) is made by slices of shards in the same way when there are many things.
 *
 * An error of a whole message or of what stands above the things (error_code beside the array) is that of the first window
 * that has one. Memory: the request's, and buffers of the heap for what is encoded. Thread: control.
 */
#ifndef MILLRACE_CONTROL_PIECES_H
#define MILLRACE_CONTROL_PIECES_H

#include "control_private.h"

/* When the decoded message of a request names many things: how it is cut, and its first window is served. False: it is
 * served as it is, or there is no memory. */
bool mr_pieces_begin(struct mr_control *control, struct mr_now now, struct mr_request *request);

/*
 * For an answer about all that coordinators have (ListGroups, ListTransactions): which parts of it this one is about. Each shard
 * is so many of them, slices of its table (mr_table_walk_slice): part p is slice p % slices of shard p / slices.
 */
struct mr_parts {
    uint32_t begin, end;
    uint32_t slices;
};
struct mr_parts mr_pieces_parts(const struct mr_request *request, uint32_t shard_count);

/* The answer to a window: encoded and kept. */
void mr_pieces_take(struct mr_control *control, struct mr_request *request, const void *response);

/* The answer to a window is given: the next one waits its turn. False: that was the last one. */
bool mr_pieces_next(struct mr_control *control, struct mr_request *request);

/* All bytes of the answer, in a box of mr_control_box; NULL: no memory. */
struct mr_reply_box *mr_pieces_join(struct mr_control *control, struct mr_request *request);

void mr_pieces_end(struct mr_control *control, struct mr_request *request);

/* Windows that wait, while this turn has not worked enough. Whether there was or is any. */
bool mr_pieces_turn(struct mr_control *control, struct mr_now now);

/* Nobody will serve them any more. */
void mr_pieces_abandon(struct mr_control *control);

#endif
