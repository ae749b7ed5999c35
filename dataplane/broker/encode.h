/*
 * encode: batches of producers into the codec of their topic (compression.type), before storage gets them.
 *
 *   put_one (handle_produce.c)   a batch whose codec is the topic's goes on as it came, at no cost
 *   mr_encode_batch              another is made anew, in a block of the scratch; mr_request_free gives it back
 *   mr_encode_turn               a turn has so much time for it, by an estimate: the Produces that found none left go on in
 *                                the next one, in their order. A batch is not divided.
 *
 * Memory: the core's own region for what is under way, blocks of the scratch for what is kept. Thread: the data core.
 */
#ifndef MILLRACE_ENCODE_H
#define MILLRACE_ENCODE_H

#include "broker/request.h"

struct mr_encode {
    struct mr_arena arena;
    struct mr_list waiting; /* struct mr_request.encoding */
    uint64_t left_ns;       /* of this turn */
};

size_t mr_encode_memory(void);
void mr_encode_init(struct mr_data_core *core, struct mr_arena *arena);

/* Whether the turn has no time left for a batch that must be made anew. */
bool mr_encode_is_over(const struct mr_data_core *core, const struct mr_log_config *config,
                       const struct mr_chain *batch);

/* The batch, checked, in the topic's codec; *out lives as long as the request. MR_ERR_MESSAGE_TOO_LARGE: it has become so;
 * MR_AGAIN: no memory now; MR_ERR_NO_MEMORY: it is too large to be made anew. */
enum mr_err mr_encode_batch(struct mr_request *request, const struct mr_log_config *config,
                            const struct mr_chain *batch, struct mr_chain *out);

/* The Produce goes on in a later turn (mr_handle_produce_on). */
void mr_encode_wait(struct mr_request *request);
void mr_encode_turn(struct mr_data_core *core);

/* The request ends: its batches go back. */
void mr_encode_drop(struct mr_request *request);

#endif
