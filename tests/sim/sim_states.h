/*
 * sim_states: in which states the transactions of a broker stand, so that a run over crash points can say that it met each.
 *
 * Thread: the simulation's. Nothing is changed.
 */
#ifndef MILLRACE_TESTS_SIM_STATES_H
#define MILLRACE_TESTS_SIM_STATES_H

#include "millrace/control.h"

#include <stdint.h>

#define MR_SIM_STATES 6u /* Empty to CompleteAbort, in Kafka's order */

/* A bit for each state that a transactional id of the broker is in. */
uint32_t mr_sim_states_of(const struct mr_control *control);

const char *mr_sim_states_name(uint32_t state);

#endif
