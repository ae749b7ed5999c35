/*
 * coord: decide, then replay: the contract between coordinators and the runtime that runs them.
 *
 * A coordinator is pure: a step gets a request or a timer that is due, and puts into `out` the
 * records to be written and the answers to be given. The runtime appends the records, hands each
 * of them to replay, and sends the answers:
 *
 *      request, timer --> step --> out: records --> batch --> append ....... durable
 *                          ^            |                                       |
 *                          |            +--> replay --> state at the append     |
 *                          +--- reads ---------------------+                    v
 *                                       answers: at once, or when what they saw is durable
 *
 * What a restart must bring back changes in replay only, and recovery is replay and nothing else.
 * What a restart may forget (who waits for a rebalance, timers) is the conversation; a step may
 * change it. There is no roll-back: when an append fails, the shard is dropped and loaded again.
 *
 * Memory: everything in `out` comes from its scratch and lives until the step has been applied.
 * Threads: control.
 */
#ifndef MILLRACE_COORD_H
#define MILLRACE_COORD_H

#include "control_private.h"
#include "millrace/base/arena.h"
#include "millrace/base/time.h"
#include "millrace/kafka/msg.h"

#include <stdbool.h>
#include <stdint.h>

/* A record to be written: a null value is a tombstone. */
struct mr_coord_record {
    struct mr_coord_record *next;
    uint32_t shard; /* index of the partition */
    struct mr_blob key;
    struct mr_blob value;
};

enum mr_coord_when {
    MR_COORD_NOW,     /* the answer depends on nothing that a crash could take back */
    MR_COORD_DURABLE, /* wait until everything that its shards have appended is durable */
};

/*
 * An answer; it lies where request->user points to, so that there is always one. Response NULL: the
 * runtime makes one from `error`, in the form that the API has for it.
 */
struct mr_coord_answer {
    struct mr_coord_answer *next;
    struct mr_request *request;
    const void *response; /* struct mr_<api>_response */
    int16_t error;
    enum mr_coord_when when;
    uint32_t shard; /* whose state it saw */
    char made_id[MR_UUID_TEXT + 1]; /* a member id made for the request; survives its steps */
    /* Instead of an answer: what comes next with the request. */
    void (*then)(struct mr_control *control, struct mr_now now, struct mr_request *request);
};

#define MR_COORD_ALL UINT32_MAX /* an answer that saw several shards waits for all of them */

/* What a step decides. */
struct mr_coord_out {
    struct mr_arena *scratch;
    struct mr_now now;
    struct mr_coord_record *records; /* in order */
    struct mr_coord_record **records_end;
    uint32_t record_count;
    uint64_t record_bytes;
    struct mr_coord_answer *answers; /* in order */
    struct mr_coord_answer **answers_end;
    uint32_t step;                       /* how often this request has been run before */
    int64_t producer_id;   /* of the transaction that the records belong to; -1: none */
    int16_t producer_epoch;
    bool is_again; /* replay the records, then run the same step again */
    /* Called when the records are replayed; it may change the conversation, but neither writes nor answers. */
    void (*then)(void *then_user, struct mr_coord_out *out);
    void *then_user;
};

void mr_coord_out_init(struct mr_coord_out *out, struct mr_arena *scratch, struct mr_now now);

/*
 * Add a record: `key_msg` names its type; value_msg NULL is a tombstone. False: no scratch left, or
 * a string that the format cannot carry; nothing was added.
 */
bool mr_coord_out_record(struct mr_coord_out *out, uint32_t shard, const struct mr_msg *key_msg,
                         const void *key, const struct mr_msg *value_msg, int16_t value_version,
                         const void *value);

/* `prefix` (a record type, a schema version) and a message, in scratch. False: no scratch. */
bool mr_coord_out_encode(struct mr_coord_out *out, int16_t prefix, const struct mr_msg *msg,
                         int16_t version, const void *message, struct mr_blob *blob);

/* Write nothing after all. */
void mr_coord_out_forget_records(struct mr_coord_out *out);

/* Bytes of the records so far, as they count against the largest batch. */
uint32_t mr_coord_out_bytes(const struct mr_coord_out *out);

/*
 * Answer a request that belongs to `shard`; `response` is in scratch. The request is not to be
 * touched by the coordinator afterwards.
 */
void mr_coord_out_answer(struct mr_coord_out *out, struct mr_request *request, uint32_t shard,
                         enum mr_coord_when when, const void *response);

/* Answer with an error code, in the form that the API has for one. */
void mr_coord_out_refuse(struct mr_coord_out *out, struct mr_request *request, int16_t error);

/* Cleared scratch; NULL when it is used up. */
void *mr_coord_scratch(struct mr_coord_out *out, size_t bytes);
#define MR_COORD_NEW(out_, type_, count_) \
    ((type_ *)mr_coord_scratch((out_), sizeof(type_) * (size_t)(count_)))

#endif
