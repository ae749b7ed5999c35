/*
 * sim_client: a Kafka client of the simulation that remembers what it was promised.
 *
 * It speaks the real protocol through the project's codec: creates its topic, gets a producer id, sends
 * idempotent batches with several requests in flight, sends them again in order after a lost
 * connection, and reads what it and the others wrote. Bytes in, bytes out: the world moves them
 * over the simulated network.
 *
 *   world:  is it connected? > mr_sim_client_turn > take bytes out, feed bytes in
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_SIM_CLIENT_H
#define MILLRACE_SIM_CLIENT_H

#include "check_acked.h"

#include "millrace/base/prng.h"
#include "millrace/base/str.h"
#include "millrace/base/time.h"

#define MR_SIM_BATCHES       4 /* unacknowledged batches of one client */
#define MR_SIM_BATCH_RECORDS 8

enum mr_sim_client_phase {
    MR_SIM_CREATE,  /* the topic */
    MR_SIM_IDENTIFY, /* InitProducerId */
    MR_SIM_RUN,
    MR_SIM_QUIET,   /* finish what is open, send nothing new */
    MR_SIM_VERIFY,  /* read every partition from the start to its end */
    MR_SIM_DONE,
};

struct mr_sim_batch {
    bool     is_used;
    bool     is_sent; /* on the present connection */
    uint32_t partition;
    uint32_t count;
    uint64_t value_first;
    int32_t  sequence;
    uint32_t pad_bytes;
    int32_t  correlation;
    uint64_t order; /* batches are sent again in this order */
};

struct mr_sim_client {
    struct mr_check_acked   *check;
    struct mr_prng           prng;
    struct mr_str            topic;
    uint32_t                 partitions;
    enum mr_sim_client_phase phase;
    int64_t                  producer_id;
    int16_t                  producer_epoch;
    int32_t                  sequences[MR_CHECK_PARTITIONS];
    int64_t                  read_offset[MR_CHECK_PARTITIONS];
    struct mr_sim_batch      batches[MR_SIM_BATCHES];
    uint64_t                 order_next;
    uint32_t                 pad_max;

    int32_t  correlation_next;
    int32_t  waiting; /* correlation of the one request that is not a Produce; 0: none */
    int16_t  waiting_key;
    uint32_t waiting_partition;
    uint64_t retry_ns; /* nothing is sent before */

    uint8_t *in;
    uint32_t in_len;
    uint8_t *out;
    uint32_t out_len;
    uint8_t *scratch;

    uint64_t acked_batches, duplicate_answers, errors, reconnects;
    char     why[256]; /* a protocol violation of the broker; "" while there is none */
};

#define MR_SIM_CLIENT_BUFFER (1u << 20)

void mr_sim_client_init(struct mr_sim_client *client, struct mr_arena *arena, struct mr_check_acked *check,
                        uint64_t seed, struct mr_str topic, uint32_t partitions);

/* A new connection stands: everything unanswered will be sent again. */
void mr_sim_client_connected(struct mr_sim_client *client);

/* Bytes from the broker. */
void mr_sim_client_feed(struct mr_sim_client *client, const void *bytes, uint32_t len, struct mr_now now);

/* Decide what to send next; fills client->out, which the world empties. */
void mr_sim_client_turn(struct mr_sim_client *client, struct mr_now now);

/* Whether a Produce of this client is still unanswered. */
bool mr_sim_client_is_idle(const struct mr_sim_client *client);

/* Read everything again from the start, as the final word. */
void mr_sim_client_verify(struct mr_sim_client *client);

#endif
