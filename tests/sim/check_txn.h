/*
 * check_txn: what transactions promised: to who wrote in them, and to who reads what is committed.
 *
 *   atomic      of a committed transaction every record is there, of any other none; of one whose end was asked for
 *               and never heard of, all or none
 *   decided     a reader of committed records is given none of a transaction that nobody asked to commit, or that is over
 *   fenced      who was there before another one began with its id has nothing committed that it asks for afterwards
 *   stable      the last stable offset never moves back, and is not beyond the high watermark
 *   order       a producer's records are in the order in which it sent them, one value at an offset for ever
 *   pipeline    each partition of "out" is the same partition of "in": every record once, in its order; the committed
 *               offset of a partition is behind all of its records
 *
 * Records of a log are told apart by values that are unique in the run. A record of "out" has the value of the record of
 * "in" that it was made of, and the number of the transaction that it was written in.
 *
 * Memory: the caller's arena; a run is bounded. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_CHECK_TXN_H
#define MILLRACE_TESTS_CHECK_TXN_H

#include "millrace/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CHECK_TXN_PARTITIONS 2u /* of each of the two topics */
#define MR_CHECK_TXN_LOGS       (2u * MR_CHECK_TXN_PARTITIONS) /* "in" first */
#define MR_CHECK_TXN_OFFSETS    16384
#define MR_CHECK_TXN_MAX        4096u
#define MR_CHECK_TXN_ACTORS     8u
#define MR_CHECK_NO_TXN         UINT32_MAX

enum mr_check_txn_fate {
    MR_CHECK_TXN_OPEN,
    MR_CHECK_TXN_ASKED, /* to commit */
    MR_CHECK_TXN_COMMITTED,
    MR_CHECK_TXN_OVER, /* not committed, for ever */
};

struct mr_check_txn_one {
    uint32_t               id;    /* transactional id */
    uint32_t               actor; /* that writes in it */
    enum mr_check_txn_fate fate;
    bool                   is_seen;
    uint32_t               records; /* sent, each counted once */
    uint32_t               final_records;
};

struct mr_check_txn_log {
    uint64_t *seen;  /* by offset: the value + 1 */
    uint64_t *final; /* values, in their order */
    int64_t  *final_offsets;
    uint32_t  final_count;
    int64_t   stable; /* the highest that anybody was told */
    uint64_t  last_value[MR_CHECK_TXN_ACTORS]; /* in the final read, + 1 */
};

struct mr_check_txn {
    struct mr_check_txn_one *txns;
    uint32_t                 txn_count;
    uint64_t                 value_next;
    uint64_t                 committed_count;
    struct mr_check_txn_log  logs[MR_CHECK_TXN_LOGS];
    char                     why[256]; /* the first violation; "" while there is none */
};

void mr_check_txn_init(struct mr_check_txn *check, struct mr_arena *arena);

/* ---- who writes ---- */

/* The number of a transaction that begins; MR_CHECK_NO_TXN: there were too many. */
uint32_t mr_check_txn_begin(struct mr_check_txn *check, uint32_t id, uint32_t actor);
/* A record of it is sent for the first time. */
void     mr_check_txn_record(struct mr_check_txn *check, uint32_t txn);
uint64_t mr_check_txn_value(struct mr_check_txn *check);
void     mr_check_txn_commit_asked(struct mr_check_txn *check, uint32_t txn);
void     mr_check_txn_committed(struct mr_check_txn *check, uint32_t txn);
/* It is certain that it will never be committed. */
void     mr_check_txn_over(struct mr_check_txn *check, uint32_t txn);
/* Somebody has begun with the id; he asked to when `before` transactions had begun. What nobody has asked to commit of
 * them will never be. */
void     mr_check_txn_taken_over(struct mr_check_txn *check, uint32_t id, uint32_t before);

/* ---- who reads ---- */

void mr_check_txn_see(struct mr_check_txn *check, uint32_t log, int64_t offset, uint64_t value, uint32_t txn,
                      bool is_final);
/* `floor`: of the stable offset, known when it was asked for. */
void mr_check_txn_stable(struct mr_check_txn *check, uint32_t log, int64_t floor, int64_t stable, int64_t watermark);
/* The group's offset in a partition of "in" when everything has come to rest. */
void mr_check_txn_position(struct mr_check_txn *check, uint32_t partition, int64_t offset);
/* Every log was read from its start to its end. */
void mr_check_txn_finish(struct mr_check_txn *check);

static inline bool mr_check_txn_is_ok(const struct mr_check_txn *check)
{
    return check->why[0] == '\0';
}

#endif
