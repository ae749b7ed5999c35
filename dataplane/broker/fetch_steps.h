/*
 * fetch_steps: the parts of a Fetch: its set of partitions, a pass over the storage cores, the answer.
 *
 * handle_fetch.c puts them in order and draws it. All run on the data core that owns the request; a pass begins with all
 * the memory that it and the answer will take, so that nothing after it can fail for want of some.
 */
#ifndef MILLRACE_BROKER_FETCH_STEPS_H
#define MILLRACE_BROKER_FETCH_STEPS_H

#include "broker/purgatory.h"
#include "broker/request.h"

/* ---- the set (fetch_set.c) ---- */

/* Give the fetch the session that the request names, a new one, or a set of its own. A request that no session can serve
 * sets fetch->error, Kafka's code. MR_AGAIN: no memory now; nothing has changed. */
enum mr_err mr_fetch_find_set(struct mr_request *request, struct mr_fetch *fetch,
                              const struct mr_fetch_request *in);

/* What was returned goes to the end, so that the others come first next time. */
void mr_fetch_rotate(struct mr_fetch_set *set);

/* The request is done with its set: a session lives on, an own set's watches end. Twice is fine. */
void mr_fetch_leave_set(struct mr_fetch *fetch);

/* ---- a pass (fetch_pass.c) ---- */

/* Reserve what reading the dirty partitions and answering takes; nothing has been asked yet. MR_AGAIN: no memory now. */
enum mr_err mr_fetch_pass_begin(struct mr_fetch *fetch);

/* Ask the next storage core that has a part in the pass; false: all have answered. */
bool mr_fetch_pass_ask(struct mr_fetch *fetch);

/* Take what the core that was asked last has answered. */
void mr_fetch_pass_take(struct mr_fetch *fetch);

/* Every core has answered: remember what was seen beside the records. */
void mr_fetch_pass_settle(struct mr_fetch *fetch);

/* Pages and memory go back, nothing is answered. */
void mr_fetch_pass_end(struct mr_fetch *fetch);

/* A partition moved while others were being read: it is dirty and was not in the pass. */
bool mr_fetch_is_any_missed(const struct mr_fetch *fetch);

/* Something that could be read found no room beside the others: waiting would add nothing. */
bool mr_fetch_is_any_left_out(const struct mr_fetch *fetch);

/* The client knows less about the partition than was read of it. */
bool mr_fetch_is_unsaid(const struct mr_fetch_partition *partition);

/* Arm what has to wake this fetch. False: a watch is missing, so look again by the clock. */
bool mr_fetch_watch_all(struct mr_fetch *fetch);

/* ---- the answer (fetch_answer.c) ---- */

/* Send what the pass has read, lending its pages to the reply, and leave the set. Without a pass: an empty answer. */
void mr_fetch_answer(struct mr_fetch *fetch);

#endif
