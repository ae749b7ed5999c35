/*
 * parts: sets of partitions, as sorted arrays: what a member of a consumer group has, must give
 * back, or is to get.
 *
 * Ownership: a set in a group is the group's, in the heap; a set of a step lies in its scratch.
 */
#ifndef MILLRACE_PARTS_H
#define MILLRACE_PARTS_H

#include "millrace/base/arena.h"
#include "millrace/base/heap.h"
#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_part {
    struct mr_uuid topic_id;
    int32_t partition;
    int32_t epoch; /* at which it was assigned; no part of the set's identity */
};

struct mr_parts {
    struct mr_part *items; /* by topic id, then partition; each once */
    uint32_t count;
};

int mr_parts_compare(const struct mr_part *a, const struct mr_part *b);

/* NULL when absent. */
const struct mr_part *mr_parts_find(const struct mr_parts *set, const struct mr_part *part);

static inline bool mr_parts_has(const struct mr_parts *set, const struct mr_part *part)
{
    return mr_parts_find(set, part) != NULL;
}

/* An empty set in scratch with room for `capacity`. False: no room. */
bool mr_parts_begin(struct mr_parts *set, uint32_t capacity, struct mr_arena *scratch);

/* Sort what was put in any order; of equal ones one stays. */
void mr_parts_settle(struct mr_parts *set);

/* The same partitions; epochs may differ. */
bool mr_parts_equal(const struct mr_parts *a, const struct mr_parts *b);

/* Every partition of `part` is in `whole`. */
bool mr_parts_within(const struct mr_parts *part, const struct mr_parts *whole);

/* Some partition is in both. */
bool mr_parts_touch(const struct mr_parts *a, const struct mr_parts *b);

/* Replace a set in the heap by a copy of another. False: no memory, nothing changed. */
bool mr_parts_assign(struct mr_heap *heap, struct mr_parts *to, const struct mr_parts *from);
void mr_parts_free(struct mr_heap *heap, struct mr_parts *set);

/* How many topics are in the set; where the run of one topic from `at` on ends. */
uint32_t mr_parts_topics(const struct mr_parts *set);
uint32_t mr_parts_run(const struct mr_parts *set, uint32_t at);

#endif
