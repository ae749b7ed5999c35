/*
 * coord_runtime: runs the shards of a coordinator's topic: batches, answers that wait, loading. One
 * struct mr_coord for each topic: groups (__consumer_offsets) and transactions (__transaction_state).
 *
 *   ABSENT --image says we lead it--> LOADING --end of the log--> ACTIVE
 *     ^                                  ^                          | an append failed
 *     +------ the topic is gone ---------+--- all appends back --- BROKEN
 */
#ifndef MILLRACE_COORD_RUNTIME_H
#define MILLRACE_COORD_RUNTIME_H

#include "coord/coord.h"
#include "coord/group/group.h"
#include "millrace/batch.h"

enum mr_coord_shard_state {
    MR_COORD_ABSENT,
    MR_COORD_LOADING,
    MR_COORD_ACTIVE,
    MR_COORD_BROKEN,
};

struct mr_coord_shard;

/* A look at all that a shard has, some slices of a table (mr_table_walk_slice) in a turn. */
struct mr_coord_walk {
    bool is_wanted;
    uint32_t at; /* the slice to go on with */
};

/* What differs between coordinators. */
struct mr_coord_kind {
    const char *topic;
    const char *what; /* for log lines: what a shard has */
    bool (*shard_init)(struct mr_coord_shard *shard);
    void (*shard_deinit)(struct mr_coord_shard *shard, struct mr_coord_out *out, int16_t error);
    /* One record of a batch, live or read back. */
    enum mr_err (*replay)(struct mr_coord_shard *shard, const struct mr_batch *batch,
                          struct mr_blob key, struct mr_blob value);
    /* The last record of a load is replayed. */
    void (*loaded)(struct mr_coord_shard *shard, struct mr_coord_out *out);
    /* One more batch of the shard is durable; may be NULL. */
    void (*durable)(struct mr_coord_shard *shard, struct mr_now now);
    /* There is a new image; may be NULL. */
    void (*image)(struct mr_coord *coord);
    /* How many groups or transactional ids an active shard has. */
    uint32_t (*count)(const struct mr_coord_shard *shard);
    /* A slice of what is to be looked through, one shard per turn. Whether there was any. */
    bool (*sweep)(struct mr_coord *coord, struct mr_now now);
};

struct mr_coord_shard {
    struct mr_coord *coord;
    uint32_t index;
    enum mr_coord_shard_state state;
    struct mr_log_ref log;
    int32_t leader_epoch;
    struct mr_group_shard groups; /* of the coordinator of groups */
    void *part;                   /* of any other: its kind's own */

    struct mr_batch_builder builder; /* records of this turn; bytes NULL: none */
    uint64_t sealed;                 /* batches sent */
    uint64_t durable;                /* batches that came back */
    uint32_t pending;                /* what a state before this one began elsewhere: it is loaded when all has come back */
    struct mr_list waiting;          /* struct mr_coord_wait, by sequence */

    uint64_t load_count;
    int64_t load_offset;
    bool is_reading;
    struct mr_coord_walk expiry; /* something may have grown too old */
    struct mr_coord_walk purge;  /* topics were deleted since its offsets were last looked through */
    uint64_t retry_ns; /* when to load again; 0: now */
};

/* Lies in a request's memory. */
struct mr_coord_wait {
    struct mr_coord_answer answer; /* first: request->user points here */
    struct mr_list link;
    uint64_t sequence; /* of the shard's batches */
    uint32_t next;     /* of MR_COORD_ALL: the shard to look at after this one */
};

struct mr_coord {
    struct mr_control *control;
    const struct mr_coord_kind *kind;
    void *part;                /* the kind's own */
    int64_t expiry_ms;         /* how often `expiry` fires */
    uint32_t record_bytes_max; /* of one batch */
    struct mr_group_env env;
    struct mr_arena scratch;
    struct mr_coord_shard **shards; /* as many as the topic has partitions */
    uint32_t shard_count;
    uint32_t shard_capacity;
    uint32_t loading_count; /* reads under way */
    bool is_started;
    bool is_stopped;
    struct mr_control_timer expiry;
};

/* A coordinator without shards. Scratch: a share of the heap, at least so many bytes; `decode` is as much for its
 * replay. NULL: no memory. */
struct mr_coord *mr_coord_new(struct mr_control *control, const struct mr_coord_kind *kind,
                              uint32_t scratch_share, size_t scratch_min,
                              struct mr_arena *decode);

/* coord_load.c */
void mr_coord_load_some(struct mr_coord *coord, struct mr_now now);

/* coord_runtime.c, for the loader and the services */
int16_t mr_coord_apply(struct mr_coord_shard *shard, struct mr_coord_out *out);
void mr_coord_break(struct mr_coord_shard *shard, struct mr_now now, int16_t error);
int16_t mr_coord_shard_of(struct mr_coord *coord, struct mr_str key,
                          struct mr_coord_shard **shard);
void mr_coord_finish(struct mr_coord *coord, struct mr_coord_answer *answer);
/* Go on with the request when what the shard has appended is durable; request->user is a struct mr_coord_wait. */
void mr_coord_then(struct mr_coord_shard *shard, struct mr_request *request,
                   void (*then)(struct mr_control *, struct mr_now, struct mr_request *));
/* Send the records of this turn. */
void mr_coord_flush(struct mr_coord_shard *shard);
/* A batch of the shard came back. */
void mr_coord_append_done(struct mr_control *control, struct mr_now now, struct mr_coord_shard *shard,
                          enum mr_err err, int64_t base_offset);
/* Answer when everything that any shard has appended is durable; request->user is a struct mr_coord_wait. */
void mr_coord_finish_all(struct mr_coord *coord, struct mr_request *request, const void *response);
/* What the active shards have: all, and the one that has most. */
struct mr_coord_counts {
    uint64_t all;
    uint32_t most;
};
struct mr_coord_counts mr_coord_count(const struct mr_coord *coord);

/* Look at one thing: a step, or nothing. False: it has more to be done, and is asked for again. */
typedef bool mr_coord_look(struct mr_coord_shard *shard, struct mr_table_node *node, struct mr_now now);
/* Go on with a walk that is wanted, as far as a turn may. */
void mr_coord_walk_some(struct mr_coord_shard *shard, struct mr_coord_walk *walk,
                        const struct mr_table *table, struct mr_now now, mr_coord_look *look);
/* The partition of a key, among `count`. */
uint32_t mr_coord_partition_of(struct mr_str key, uint32_t count);

/* group/group_service.c: the coordinator of groups. False: no memory. */
bool mr_groups_init(struct mr_control *control);

/* txn/transaction_service.c: the coordinator of transactions. False: no memory. */
bool mr_transactions_init(struct mr_control *control);
/* It has stopped: answer who is parked. */
void mr_transactions_stop(struct mr_control *control, struct mr_now now);

/* txn/transaction_marks.c: groups are loaded now: markers for them need not wait any more. */
void mr_transactions_retry_now(struct mr_control *control, struct mr_now now);

/* coord_service.c: requests of several groups, and the form of errors */
void mr_coord_service_init(struct mr_coord *coord);
void mr_coord_prepare_error(struct mr_coord *coord, struct mr_request *request, int16_t error);

#endif
