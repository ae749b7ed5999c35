/*
 * transaction: the transactional ids of one partition of __transaction_state: who owns each, and where its transaction
 * stands.
 *
 *   Empty --> Ongoing --> PrepareCommit --> CompleteCommit --> Ongoing, Empty ...
 *     |          \-----> PrepareAbort ----> CompleteAbort -/
 *     \-- version 2: abort --^
 *
 * A step (coord.h) reads a const shard and writes one record, the whole of what is known of an id; replay sets it.
 * When a Prepare record is durable the markers go out (transaction_marks.c); when all of them are durable the Complete
 * record follows. After a restart the markers of what is prepared go out again: each may be written twice.
 *
 * In memory only: last_epoch, with which a repeated InitProducerId is told from a fenced one. A step leaves it in
 * given_last_epoch, replay takes it from there.
 *
 * Memory: the heap of control. Threads: control.
 * Source: behaviour of Apache Kafka 4.4; KIP-98, 360, 588, 664, 890.
 */
#ifndef MILLRACE_TRANSACTION_H
#define MILLRACE_TRANSACTION_H

#include "coord/coord_runtime.h"

enum mr_transaction_state {
    MR_TRANSACTION_EMPTY = 0, /* Kafka's numbers */
    MR_TRANSACTION_ONGOING = 1,
    MR_TRANSACTION_PREPARE_COMMIT = 2,
    MR_TRANSACTION_PREPARE_ABORT = 3,
    MR_TRANSACTION_COMPLETE_COMMIT = 4,
    MR_TRANSACTION_COMPLETE_ABORT = 5,
    MR_TRANSACTION_DEAD = 6,
};

#define MR_TRANSACTION_EPOCH_LAST 32766 /* the largest that a client is given */

typedef struct mr_transaction_log_value_partitions_schema mr_transaction_topic;

/* What a record says. */
struct mr_transaction_values {
    enum mr_transaction_state state;
    int64_t producer_id;
    int64_t previous_producer_id; /* -1: none */
    int64_t next_producer_id;     /* that the id has when the transaction is complete; -1: the same */
    int16_t producer_epoch;
    int16_t client_version; /* of the protocol: 2 with epoch bumps */
    int32_t timeout_ms;
    int64_t start_ms; /* -1: no transaction */
    int64_t update_ms;
    const mr_transaction_topic *topics;
    int32_t topics_count;
};

struct mr_transaction {
    struct mr_table_node node;
    struct mr_list deciding; /* in the shard's list, while it is prepared */
    struct mr_transaction_shard *shard;
    struct mr_str id;
    struct mr_transaction_values now; /* its topics are our own */
    void *topics_block;               /* their memory */
    size_t topics_bytes;
    int16_t last_epoch; /* -1: none */
    int16_t given_last_epoch;
    uint64_t sequence; /* the shard's batch with its latest record */
    uint64_t begun_ns; /* when its transaction began, or was loaded: the wall clock may go back */

    struct mr_transaction_mark *marks; /* NULL: none is under way */
    uint32_t mark_count;
    uint32_t marks_open;
};

struct mr_transaction_env {
    struct mr_control *control;
    struct mr_coord *coord;
    struct mr_arena decode; /* for replay; reset by each */
    struct mr_control_timer retry; /* markers that could not be written */
    struct mr_list retries;        /* struct mr_transaction_mark */
    struct mr_list parked;         /* requests that wait until a transaction before theirs is complete */
    uint32_t parked_count;
    bool is_unpark_wanted;         /* one is */
    int16_t version;               /* transaction.version, finalized */
    struct mr_log_brake full_brake;
};

struct mr_transaction_shard {
    struct mr_transaction_env *env;
    struct mr_coord_shard *runtime;
    uint32_t index;
    struct mr_table ids; /* struct mr_transaction */
    struct mr_list deciding;
    bool is_marking_wanted; /* some may be marked */
    bool is_marking_late;   /* likewise, when the retry timer fires: they found no memory */
};

/* ---- transaction.c: the shard, replay ---- */

bool mr_transaction_shard_init(struct mr_transaction_shard *shard, struct mr_transaction_env *env,
                               struct mr_coord_shard *runtime);
void mr_transaction_shard_deinit(struct mr_transaction_shard *shard);
struct mr_transaction *mr_transaction_find(const struct mr_transaction_shard *shard,
                                           struct mr_str id);
enum mr_err mr_transaction_replay(struct mr_transaction_shard *shard, struct mr_blob key,
                                  struct mr_blob value);

/* A record with these values. False: no scratch. */
bool mr_transaction_record(const struct mr_transaction_shard *shard, struct mr_str id,
                           const struct mr_transaction_values *values, struct mr_coord_out *out);
bool mr_transaction_record_tombstone(const struct mr_transaction *transaction,
                                     struct mr_coord_out *out);

/* What last_epoch is to be when the record written now is replayed. */
void mr_transaction_give_last_epoch(const struct mr_transaction *transaction, int16_t epoch);

static inline bool mr_transaction_is_prepared(const struct mr_transaction *transaction)
{
    return transaction->now.state == MR_TRANSACTION_PREPARE_COMMIT ||
           transaction->now.state == MR_TRANSACTION_PREPARE_ABORT;
}

struct mr_str mr_transaction_state_name(enum mr_transaction_state state);

/* ---- transaction_init.c ---- */

/* InitProducerId with a transactional id. `fresh_id`: a producer id that nobody has, -1: none is there now; used up
 * when *is_used. */
void mr_transaction_init(const struct mr_transaction_shard *shard, struct mr_request *request,
                         int64_t fresh_id, bool *is_used, struct mr_coord_out *out);

/* ---- transaction_add.c ---- */

/* AddPartitionsToTxn: of one transaction. */
struct mr_transaction_add {
    struct mr_str id;
    int64_t producer_id;
    int16_t producer_epoch;
    int16_t client_version; /* of the protocol, recorded with the transaction */
    bool is_verify;         /* only whether they are there */
    const mr_transaction_topic *topics;
    int32_t topics_count;
};

/* Kafka's error for all of its partitions; 0: added, when `out` is applied, or there. */
int16_t mr_transaction_add(const struct mr_transaction_shard *shard,
                           const struct mr_transaction_add *add, struct mr_coord_out *out);

bool mr_transaction_has(const struct mr_transaction *transaction, struct mr_str topic,
                        int32_t partition);

/* ---- transaction_end.c ---- */

void mr_transaction_end(const struct mr_transaction_shard *shard, struct mr_request *request,
                        int64_t fresh_id, bool *is_used, struct mr_coord_out *out);

/* Fence the producer and abort its transaction: it took too long, or somebody begins anew with the id. */
int16_t mr_transaction_fence(const struct mr_transaction *transaction, int64_t fresh_id,
                             bool *is_used, struct mr_coord_out *out);

/* All markers are written. */
bool mr_transaction_complete(const struct mr_transaction *transaction, struct mr_coord_out *out);

/* ---- transaction_offsets.c ---- */

mr_control_handler mr_transaction_add_offsets;
mr_control_handler mr_transaction_commit_offsets;
const void *mr_transaction_offsets_error(struct mr_control *control, struct mr_request *request, int16_t error);

/* ---- transaction_read.c ---- */

mr_control_handler mr_transaction_describe;
mr_control_handler mr_transaction_list;
mr_control_handler mr_transaction_describe_producers;

/* ---- transaction_marks.c ---- */

/* A request that comes while the transaction before its own is being completed waits for that, for a moment: its
 * handler runs again. False: it has waited long enough. */
bool mr_transaction_park(struct mr_control *control, struct mr_now now, struct mr_request *request);
void mr_transaction_unpark(struct mr_transaction_env *env, struct mr_now now);

/* Markers of what has been prepared durably. */
void mr_transaction_mark_due(struct mr_transaction_shard *shard, struct mr_now now);
void mr_transaction_marks_init(struct mr_transaction_env *env);
/* The marks of the shard that wait for their time are void. */
void mr_transaction_marks_forget(struct mr_transaction_shard *shard);

/* ---- transaction_service.c: requests, timers, the kind of the runtime ---- */

struct mr_transaction_shard *mr_transaction_shard_of(const struct mr_coord_shard *shard);

/* The answer to a request of one id that only says what went wrong; NULL: no memory, or not such a request. */
const void *mr_transaction_error(struct mr_control *control, struct mr_request *request, int16_t error);

#endif
