/*
 * sim_admin: creates and deletes topics and makes them again, adds partitions, deletes records, changes
 * configuration, one thing at a time, and looks at the end whether it all holds.
 *
 * What must hold, whatever was lost on the way:
 *   a topic id whose creation was answered is there, unless its deletion was asked for
 *   a topic id whose deletion was answered is not
 *   a configuration has the last value that was answered, or one whose answer never came
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_ADMIN_H
#define MILLRACE_TESTS_SIM_ADMIN_H

#include "check_acked.h"
#include "sim_actor.h"
#include "sim_client.h"

#define MR_SIM_ADMIN_IDS    48u /* topics made in one run */
#define MR_SIM_ADMIN_KEYS   2u  /* configuration keys that are changed */
#define MR_SIM_ADMIN_VALUES 3u  /* values of each */

struct mr_sim_made {
    uint32_t       partitions; /* at least so many were answered; 0: nobody asked */
    struct mr_uuid id;
    bool           is_deletion_asked;
    bool           is_deleted;
};

struct mr_sim_admin {
    struct mr_sim_actor    actor; /* first */
    struct mr_check_acked *check;
    struct mr_uuid         ids[MR_SIM_TOPICS]; /* as Metadata said last; zero: not there */
    uint32_t               partitions[MR_SIM_TOPICS];
    bool                   is_metadata_due;
    struct mr_sim_made     made[MR_SIM_ADMIN_IDS];
    uint32_t               made_count;
    uint32_t               possible[MR_SIM_ADMIN_KEYS]; /* values that a key may have, a mask */
    uint32_t               late[MR_SIM_ADMIN_KEYS];     /* values whose answer never came */
    uint32_t               verified; /* 0 nothing, 1 topics, 2 everything */
    uint64_t               done;
};

void mr_sim_admin_init(struct mr_sim_admin *admin, struct mr_arena *arena, struct mr_check_acked *check,
                       uint64_t seed);

#endif
