/*
 * sim_client: a producer and consumer of the simulation that remembers what it was promised.
 *
 * It finds the ids of its topics, gets a producer id, sends batches with several requests in flight,
 * sends them again in order after a lost connection or an error that allows it, and reads what it
 * and the others wrote. When a topic is made again it begins anew with the new id.
 *
 *   errors of Produce, as Kafka's own client takes them:
 *     none                     acknowledged
 *     DUPLICATE_SEQUENCE       stored, nobody knows where
 *     OUT_OF_ORDER_SEQUENCE    again, when an earlier batch of the partition is still open; else a violation
 *     retriable                again, later
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_CLIENT_H
#define MILLRACE_TESTS_SIM_CLIENT_H

#include "check_acked.h"
#include "sim_actor.h"

#define MR_SIM_BATCHES       4 /* unacknowledged batches of one client: fewer than the window of 5 */
#define MR_SIM_BATCH_RECORDS 8
#define MR_SIM_PAD_LARGE     (64u << 10) /* bytes of a record of a client that sends large batches */
#define MR_SIM_TOPICS        3
#define MR_SIM_PARTITIONS    4 /* of one topic, at most */
#define MR_SIM_RETAINED      2 /* the topic whose oldest records go by themselves */
#define MR_SIM_RETENTION_BYTES 20000

/* "sim-0" is there for ever, the others come and go (sim_admin.c). */
extern const struct mr_str mr_sim_topics[MR_SIM_TOPICS];

struct mr_sim_batch {
    bool     is_used;
    bool     is_sent; /* on the present connection, without an answer */
    uint32_t topic;
    uint32_t partition;
    uint32_t log;
    uint32_t count;
    uint64_t value_first;
    int32_t  sequence;
    uint32_t pad_bytes;
    uint64_t order; /* batches are sent again in this order; never used twice */
};

/* What the client knows of a topic. */
struct mr_sim_target {
    struct mr_uuid id; /* zero: it is not there */
    uint32_t       partitions;
    uint32_t       logs[MR_SIM_PARTITIONS];
    int32_t        sequences[MR_SIM_PARTITIONS];
    int64_t        read_offset[MR_SIM_PARTITIONS];
    bool           is_known[MR_SIM_PARTITIONS]; /* a batch of ours was acknowledged there */
};

/* How a client behaves; by lot. */
struct mr_sim_habits {
    bool     is_idempotent;
    bool     is_by_name; /* the first topic in versions that name it */
    int16_t  acks;       /* of a plain producer */
    uint32_t pad_max;
    uint64_t think_max_ns; /* between two turns */
};

struct mr_sim_client {
    struct mr_sim_actor    actor; /* first */
    struct mr_check_acked *check;
    struct mr_sim_habits   habits;
    uint32_t               number; /* of the producer, to the checker */
    int64_t                producer_id;
    int16_t                producer_epoch;
    bool                   is_metadata_due;
    bool                   is_create_due;
    uint64_t               values_left;
    struct mr_sim_target   targets[MR_SIM_TOPICS];
    struct mr_sim_batch    batches[MR_SIM_BATCHES];
    uint64_t               order_next;
    uint32_t               fetch_topic; /* of the one open Fetch */
    uint32_t               fetch_partition;
    uint32_t               fetch_log;
    int64_t                fetch_floor; /* watermark known when it was sent */
    int64_t                fetch_start; /* and what DeleteRecords had been answered with */
    uint64_t               acked_batches, duplicate_answers, errors;
};

void mr_sim_client_init(struct mr_sim_client *client, struct mr_arena *arena, struct mr_check_acked *check,
                        uint32_t number, uint64_t seed, uint64_t values);

/* The partition data of one Fetch answer: every record to the checker. `start`: of the log, known when it was asked
 * for. `offset` moves behind the last record.
 * False: actor->why says what is wrong. */
struct mr_fetch_response_partition_data;
bool mr_sim_client_take_records(struct mr_sim_actor *actor, struct mr_check_acked *check, uint32_t log,
                                const struct mr_fetch_response_partition_data *data, int64_t start,
                                int64_t *offset, bool is_final, struct mr_arena *arena);

#endif
