/*
 * sim_txn: clients that write in transactions: producers, and a pipeline that moves what is committed in "txn-in" to
 * "txn-out" together with its offsets. They speak either protocol (versions 1 and 2), a new one with each beginning.
 *
 *   FIND > CREATE > INIT > (pipe: OFFSETS) > READY > (1: ADD, pipe: ADD_OFFSETS) > PRODUCE > (pipe: COMMIT > LOOK) > END > READY
 *
 * Two of them have each transactional id that counts: whoever begins fences the other one, which goes on with what it
 * has in hand and must be refused. At any step they fall silent, for longer than their timeout too; forget everything
 * and begin anew; or give up a transaction with a request unanswered. A connection that they give up may live on with
 * what was sent (sim_wire.h, `late`), so that any request arrives after the next transaction has begun.
 *
 * Version 1 cannot tell a late request from one of the same epoch, so its clients take a new epoch after any trouble, as
 * Kafka's do after an unanswered Produce.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_TXN_H
#define MILLRACE_TESTS_SIM_TXN_H

#include "check_txn.h"
#include "sim_actor.h"

#define MR_SIM_TXN_ACTORS     5u  /* three producers, two of the pipeline */
#define MR_SIM_TXN_TIMEOUT_MS 2000 /* of transactions, at most */
#define MR_SIM_TXN_SCAN_MS    1000 /* transaction.abort.timed.out.transaction.cleanup.interval.ms of the broker */
#define MR_SIM_TXN_RECORDS    64u /* of one partition in one request */

extern const struct mr_str mr_sim_txn_topics[2]; /* "in", "out" */
extern const struct mr_str mr_sim_txn_group;

enum mr_sim_txn_step {
    MR_SIM_TXN_FIND,
    MR_SIM_TXN_CREATE,
    MR_SIM_TXN_INIT,
    MR_SIM_TXN_OFFSETS,
    MR_SIM_TXN_READY,
    MR_SIM_TXN_ADD,
    MR_SIM_TXN_ADD_OFFSETS,
    MR_SIM_TXN_PRODUCE,
    MR_SIM_TXN_COMMIT,
    MR_SIM_TXN_LOOK, /* at the offsets that it is about to change: they must not be shown as stable */
    MR_SIM_TXN_END,
};

/* What goes to one partition with the next Produce. */
struct mr_sim_txn_part {
    uint32_t count;
    bool     is_acked;
    uint64_t values[MR_SIM_TXN_RECORDS];
};

struct mr_sim_txns;

struct mr_sim_txn {
    struct mr_sim_actor    actor; /* first */
    struct mr_sim_txns    *all;
    uint32_t               number;
    uint32_t               id; /* of the transactional ids */
    bool                   is_pipe;
    bool                   is_done;
    enum mr_sim_txn_step   step;
    int64_t                producer_id; /* -1: begins anew */
    int16_t                producer_epoch;
    bool                   is_version_2;
    int32_t                sequences[MR_CHECK_TXN_PARTITIONS];
    uint32_t               found;   /* coordinators */
    bool                   is_last; /* after this one it stops; of the pipeline: nobody produces any more */

    /* the transaction */
    uint32_t               txn; /* MR_CHECK_NO_TXN: none */
    struct mr_sim_txn_part parts[MR_CHECK_TXN_PARTITIONS];
    uint32_t               rounds; /* of Produce, still to come */
    bool                   is_commit;
    uint32_t               init_floor; /* transactions that had begun when the open InitProducerId was sent */
    bool                   is_troubled; /* some request of it was not answered */
    uint32_t               end_sent;    /* how often its end was asked for */

    /* the pipeline */
    uint32_t               polled; /* partitions, a mask, looked at since the last transaction */
    bool                   was_stable; /* they were, before the end was asked for */
    uint32_t               at_end; /* partitions, a mask, without anything behind what it read */
    int64_t                positions[MR_CHECK_TXN_PARTITIONS];
    int64_t                fetch_floor; /* stable offset known when the open Fetch was sent */
};

/* Who reads what is committed all the time, and everything in the end. */
struct mr_sim_txn_reader {
    struct mr_sim_actor actor; /* first */
    struct mr_sim_txns *all;
    uint32_t            log; /* of the open Fetch */
    int64_t             floor;
    int64_t             positions[MR_CHECK_TXN_LOGS];
    bool                is_final;
    bool                is_done;
};

struct mr_sim_txns {
    struct mr_check_txn      check;
    struct mr_sim_txn        actors[MR_SIM_TXN_ACTORS];
    struct mr_sim_txn_reader reader;
    bool                     is_created; /* the topics */
    uint64_t                 rested_ns[2]; /* when the last producer, and the last of the pipeline, was done; 0: not yet */
};

void mr_sim_txns_init(struct mr_sim_txns *all, struct mr_arena *arena, uint64_t seed);

/* ---- sim_txn_send.c ---- */

void mr_sim_txn_send(struct mr_sim_txn *t, struct mr_now now);

/* ---- sim_txn_read.c ---- */

/* A Fetch of committed records. */
void mr_sim_txn_send_fetch(struct mr_sim_actor *actor, uint32_t log, int64_t offset, int32_t bytes, struct mr_now now);

/* OffsetFetch of the pipeline's group, of what no transaction is about to change. */
void mr_sim_txn_send_offsets(struct mr_sim_actor *actor, struct mr_now now);
struct mr_offset_fetch_response;
int16_t mr_sim_txn_take_offsets(const struct mr_offset_fetch_response *response,
                                int64_t positions[MR_CHECK_TXN_PARTITIONS]);

/* Where committed records go; false: this one, and no more now. */
typedef bool mr_sim_txn_take(void *user, uint64_t value, uint32_t txn, int64_t offset);

/*
 * The answer: what a reader of committed records takes of it, as Kafka's client does: aborted transactions are left out.
 * Its stable offset goes to the checker. *position moves behind what was taken. *is_end: nothing lies behind. The error of
 * the partition, 0: none; a violation is noted in the actor.
 */
struct mr_fetch_response;
int16_t mr_sim_txn_take_fetch(struct mr_sim_actor *actor, struct mr_check_txn *check, uint32_t log, int64_t floor,
                              const struct mr_fetch_response *response, struct mr_arena *arena, int64_t *position,
                              bool *is_end, mr_sim_txn_take *take, void *user);

void mr_sim_txn_reader_init(struct mr_sim_txns *all, struct mr_arena *arena, uint64_t seed);

/* Whether what should have come to rest at `rested_ns` has had its time: no transaction may be open any more. */
bool mr_sim_txn_is_late(uint64_t rested_ns, struct mr_now now);

#endif
