/*
 * sim_auditor: the final word: it finds every topic and reads every log from its start to its end.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_AUDITOR_H
#define MILLRACE_TESTS_SIM_AUDITOR_H

#include "check_acked.h"
#include "sim_actor.h"

struct mr_sim_auditor {
    struct mr_sim_actor    actor; /* first */
    struct mr_check_acked *check;
    bool                   is_begun; /* nothing happens before */
    bool                   is_done;
    bool                   has_topics;
    bool                   has_group; /* the world's: "sim-group" is looked at, too */
    bool                   is_silence_over; /* all have been silent for long enough */
    bool                   is_group_seen;
    uint32_t               logs[MR_CHECK_LOGS]; /* that are there */
    char                   names[MR_CHECK_LOGS][16];
    uint32_t               log_count;
    uint32_t               log_index; /* that is being read */
    int64_t                offset;    /* -1: its start is not known yet */
    uint64_t               records;
};

void mr_sim_auditor_init(struct mr_sim_auditor *auditor, struct mr_arena *arena, struct mr_check_acked *check,
                         uint64_t seed);

#endif
