/*
 * sim_many: requests that name thousands of things, so that a turn of control which does all of one at once is seen
 * (mr_sim_idle_judge_work). An answer must have an entry for each of them, in order.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_MANY_H
#define MILLRACE_TESTS_SIM_MANY_H

#include "sim_actor.h"

#define MR_SIM_MANY       (1ull << 63) /* in mr_sim_call.user */
#define MR_SIM_MANY_KINDS 5u

void mr_sim_many_send(struct mr_sim_actor *actor, uint32_t kind, struct mr_now now);
void mr_sim_many_answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response);

#endif
