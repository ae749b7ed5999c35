/*
 * assignor: who gets which partition: pure functions from members, topics and what is owned to an
 * owner for each partition.
 *
 * The partitions of all topics are numbered through: those of topic t are first .. first + count.
 *
 *      topics      t0: 3 partitions   t1: 2        owners   [ 0 0 1 | 1 2 ]
 *      flat number  0  1  2            3  4                  member indexes
 *
 * Threads: any. Source: behaviour of Apache Kafka 4.4, its assignors `uniform` and `range`.
 */
#ifndef MILLRACE_ASSIGNOR_H
#define MILLRACE_ASSIGNOR_H

#include "millrace/base/arena.h"
#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_ASSIGNOR_NOBODY UINT32_MAX

struct mr_assignor_topic {
    uint32_t first; /* flat number of its partition 0 */
    uint32_t partition_count;
};

struct mr_assignor_member {
    struct mr_str id;
    struct mr_str instance_id; /* null: a dynamic member */
    const uint32_t *topics;    /* indexes of those it subscribes to, ascending */
    uint32_t topic_count;
    const uint32_t *owned; /* flat numbers of its last target, ascending */
    uint32_t owned_count;
};

struct mr_assignor_spec {
    const struct mr_assignor_member *members;
    uint32_t member_count; /* at least 1 */
    const struct mr_assignor_topic *topics; /* each has a subscriber */
    uint32_t topic_count;
    uint32_t partition_count; /* of all topics */
};

/* Fill in owners[partition_count]. False: no scratch. */
typedef bool mr_assignor(const struct mr_assignor_spec *spec, struct mr_arena *scratch,
                         uint32_t *owners);

/* Equal numbers of partitions for all, and who has one keeps it if that can be. */
mr_assignor mr_assignor_uniform;

/* Uniform when members subscribe to different topics (assignor_mixed.c). */
mr_assignor mr_assignor_mixed;

/* For each topic a contiguous range, so that equal numbers of different topics meet. */
mr_assignor mr_assignor_range;

/* NULL: no such assignor. */
mr_assignor *mr_assignor_find(struct mr_str name);

#endif
