/*
 * sim_nth: disk operations, and what is taken from pools, rings and heaps, fail at their n-th use, once or from then on;
 * for n = 1, 2, ... until there are fewer uses.
 *
 * A run with a disk operation is one life of the broker under its clients in which this happens, a power cut that takes
 * everything un-flushed (so that an acknowledgement after a failed flush is a lost record), and a calm life in which
 * everything must be there again. A run in which something is empty (fail.def) is one life: it goes on, and when there is room
 * again everybody must come to rest and everything be given back (sim_world.c).
 *
 * Thread: the simulation's one. Source: reliability.md S2, C10; SQLite's tests.
 */
#ifndef MILLRACE_TESTS_SIM_NTH_H
#define MILLRACE_TESTS_SIM_NTH_H

#include "sim_disk.h"

/* How many ways of failing there are; their names. */
uint32_t    mr_sim_nth_count(void);
const char *mr_sim_nth_name(uint32_t way);

/* The index of a name; mr_sim_nth_count(): none. */
uint32_t mr_sim_nth_find(const char *name);

/* Whether it is a disk operation that fails. */
bool mr_sim_nth_is_disk(uint32_t way);

/* Whether the broker may end for it, saying why: a failed operation, and memory for control's own records, which a share
 * of its heap is kept for. */
bool mr_sim_nth_may_end(uint32_t way);

/* From now on: use number n (from 1) fails. */
void mr_sim_nth_arm(struct mr_sim_fs *fs, uint32_t way, uint64_t n);

/* Nothing fails any more; whether anything did since. */
bool mr_sim_nth_disarm(struct mr_sim_fs *fs);

#endif
