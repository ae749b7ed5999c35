/*
 * check_keyed: what a compacted log promised, to who wrote into it and to who reads it from its start.
 *
 *   kept       of each key the newest value that was acknowledged or seen before a reader began is there when it has come to
 *              the end, or a newer one; a tombstone too, until delete.retention.ms are over
 *   dead       when a tombstone has gone, what it deleted is never found again
 *   in place   a record is for ever at the offset that it was acknowledged at or first seen at, with its key; offsets rise
 *
 * Records are told apart by numbers, which are their values. A tombstone has none: it is the write that has its offset, so
 * who does not know where a tombstone went cannot tell it from another one of its key.
 *
 * The horizon of a tombstone is set by the first compaction that meets it, so it stays for delete.retention.ms at least from
 * when it was sent on. When the wall clock jumps (is_time_doubted) nobody can say how long that is. A reader that is slower
 * than two compactions may see a deleted value and not its tombstone, as with Kafka; the next one may not.
 *
 * Memory: the caller's arena; a run is bounded. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_CHECK_KEYED_H
#define MILLRACE_TESTS_CHECK_KEYED_H

#include "millrace/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CHECK_KEYED_KEYS   80u
#define MR_CHECK_KEYED_WRITES 8192u
#define MR_CHECK_KEYED_NONE   UINT32_MAX

struct mr_check_keyed_write {
    uint32_t key;
    bool     is_tombstone;
    int64_t  offset; /* -1: not known; of one that was never acknowledged, for ever perhaps */
    int64_t  sent_ms;
};

struct mr_check_keyed {
    struct mr_check_keyed_write *writes;
    uint32_t                     count;
    uint32_t                    *at; /* by offset: the write + 1 */
    int64_t                      delete_retention_ms;
    bool                         is_time_doubted;
    uint32_t                     newest[MR_CHECK_KEYED_KEYS]; /* of those whose offset is known */
    int64_t                      dead[MR_CHECK_KEYED_KEYS];   /* what is here and before is gone for ever; -1: nothing */

    /* A reader on its way from the start to the end. */
    uint32_t wanted[MR_CHECK_KEYED_KEYS]; /* newest when it began */
    int64_t  found[MR_CHECK_KEYED_KEYS];  /* the newest offset that it has seen; -1: none */
    int64_t  last_offset;
    uint64_t missing; /* offsets that it did not find: the log was compacted */

    char why[256];
};

void mr_check_keyed_init(struct mr_check_keyed *check, struct mr_arena *arena, int64_t delete_retention_ms);

static inline bool mr_check_keyed_is_ok(const struct mr_check_keyed *check)
{
    return check->why[0] == '\0';
}

static inline bool mr_check_keyed_is_full(const struct mr_check_keyed *check)
{
    return check->count == MR_CHECK_KEYED_WRITES;
}

/* A record is being sent; its number. */
uint32_t mr_check_keyed_send(struct mr_check_keyed *check, uint32_t key, bool is_tombstone, int64_t now_ms);
void     mr_check_keyed_acked(struct mr_check_keyed *check, uint32_t write, int64_t offset);

void mr_check_keyed_begin(struct mr_check_keyed *check);
/* A record that was read; write MR_CHECK_KEYED_NONE: a tombstone. */
void mr_check_keyed_see(struct mr_check_keyed *check, uint32_t write, uint32_t key, int64_t offset);
void mr_check_keyed_end(struct mr_check_keyed *check, int64_t now_ms);

#endif
