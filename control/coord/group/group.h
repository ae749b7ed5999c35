/*
 * group: the groups of one partition of __consumer_offsets: members, generations, offsets.
 *
 *      shard --- groups by id --- group --- classic     state, members, generation, who waits
 *        |                          |     or consumer   the new protocol: epochs, targets
 *        +--- topics by (group, name) --- offsets       sorted by partition
 *
 * A step (mr_group_handle, mr_group_fire) reads a const shard and says in `out` which records are
 * to be written and what is to be answered. Offsets and the group's settled state (Empty, Stable)
 * change in mr_group_replay only. The classic part is also the conversation of a rebalance under
 * way, which Kafka does not write down: a step changes it, and a restart begins again at the last
 * settled generation.
 *
 * Memory: the heap of control; an id or a blob in a struct here is the struct's own copy.
 * Source: behaviour of Apache Kafka 4.4; KIP-62, 134, 211, 345, 394, 429, 559, 814, 848.
 */
#ifndef MILLRACE_GROUP_H
#define MILLRACE_GROUP_H

#include "coord/coord.h"
#include "metadata/group_config.h"
#include "millrace/base/prng.h"

#define MR_GROUP_ASSIGNORS_MAX 4

/* From the configuration, and what the shards of a broker share. */
struct mr_group_env {
    int32_t min_session_ms;
    int32_t max_session_ms;
    int32_t initial_delay_ms;
    int64_t size_max;
    /* What is set for the group, or for the broker. */
    int64_t (*setting)(void *setting_user, struct mr_str group, enum mr_group_config_id id);
    void *setting_user;
    uint32_t consumer_size_max;
    bool may_upgrade; /* group.consumer.migration.policy: a classic group with members */
    bool may_downgrade;
    int64_t consumer_regex_refresh_ms;
    struct mr_str assignors[MR_GROUP_ASSIGNORS_MAX]; /* to be asked for; the first is the default */
    uint32_t assignor_count;
    int32_t metadata_bytes_max;
    int64_t retention_ms;
    uint32_t record_bytes_max; /* records of one step, in one batch */

    struct mr_heap *heap;
    struct mr_timers *timers;
    struct mr_hash_key hash_key;
    struct mr_log *log;
    uint32_t timers_reserved; /* two for each member: its session, its group's rebalance */
    uint32_t timers_max;
    struct mr_arena decode; /* for replay; reset by each */
    struct mr_log_brake skipped_brake;
    struct mr_log_brake full_brake;

    void (*fire)(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer);
    void (*uuid)(void *uuid_user, struct mr_uuid *id);
    void *uuid_user;

    /* The newest image, for names and ids of topics; may be NULL. */
    const struct mr_image *image;
};

struct mr_group_shard {
    struct mr_group_env *env;
    uint32_t index;          /* of the partition */
    struct mr_table groups;  /* struct mr_group */
    struct mr_table topics;  /* struct mr_group_topic, of all groups */
    struct mr_table members; /* struct mr_classic_member, of all groups */
    struct mr_table consumers; /* struct mr_consumer_member, of all groups */
    struct mr_list pending;    /* offsets of transactions that are not decided, oldest first */
    struct mr_table pending_keys;   /* the same by partition */
    struct mr_table pending_groups; /* groups that have any */
    uint64_t pending_order;         /* of the latest */
};

struct mr_group_offset {
    int32_t partition;
    int32_t leader_epoch; /* -1: unknown */
    int64_t offset;
    int64_t commit_ms;
    int64_t expire_ms;       /* -1: by the broker's retention */
    struct mr_uuid topic_id; /* zero: unknown */
    struct mr_str metadata;
};

struct mr_group_topic {
    struct mr_table_node node;
    struct mr_list link; /* in the group's topics, oldest first */
    struct mr_group *group;
    struct mr_str name;
    uint32_t count;
    uint32_t capacity;
    struct mr_group_offset *offsets; /* sorted by partition */
};

enum mr_classic_state {
    MR_CLASSIC_EMPTY,      /* no members; perhaps offsets */
    MR_CLASSIC_PREPARING,  /* waits until every member has joined */
    MR_CLASSIC_COMPLETING, /* has a generation, waits for the leader's assignment */
    MR_CLASSIC_STABLE,
};

struct mr_classic_protocol {
    struct mr_str name;
    struct mr_blob metadata;
};

/* What a member supports, in its order of preference; one block with the bytes behind the items. */
struct mr_classic_protocols {
    size_t bytes;
    uint32_t count;
    struct mr_classic_protocol items[];
};

struct mr_classic_member {
    struct mr_table_node node;
    struct mr_list link; /* in members or pending, in order of arrival */
    struct mr_group *group;
    struct mr_str id;
    struct mr_str instance_id; /* null: a dynamic member */
    struct mr_str client_id;
    struct mr_str client_host;
    int32_t session_ms;
    int32_t rebalance_ms;
    struct mr_classic_protocols *protocols; /* NULL while pending */
    struct mr_blob assignment;              /* of the settled generation */
    struct mr_blob given;                   /* in the leader's Sync, while that is decided */
    struct mr_request *join;                /* waits for the generation */
    struct mr_request *sync;                /* waits for the assignment */
    struct mr_control_timer session;
    bool is_pending;      /* was given an id and has not joined with it yet */
    bool is_new;          /* has not been in a generation yet: expires even while it waits */
    bool is_sync_pending; /* has not sent SyncGroup in this generation */
};

/* How many members support a protocol. */
struct mr_classic_name {
    struct mr_list link;
    struct mr_str name;
    uint32_t count;
};

struct mr_classic {
    enum mr_classic_state state;
    bool is_initial;     /* Preparing, coming from Empty: only time completes it */
    bool has_new_member; /* joined during the initial delay */
    int32_t generation;
    struct mr_str protocol_type; /* null: a simple group */
    struct mr_str protocol;      /* null: not chosen */
    struct mr_str leader;        /* member id, or null */
    int64_t state_ms;            /* -1: unknown */

    struct mr_list members;
    uint32_t member_count;
    uint32_t joined_count; /* members whose join waits */
    uint32_t static_count;
    struct mr_list pending;
    uint32_t pending_count;
    struct mr_list names;

    struct mr_control_timer rebalance; /* Preparing: the join phase ends; else: Syncs are due */
    int32_t delay_ms;
    int32_t delay_left_ms;
};

struct mr_consumer;        /* consumer.h */
struct mr_consumer_member; /* likewise */

struct mr_group {
    struct mr_table_node node;
    struct mr_group_shard *shard;
    struct mr_str id;
    struct mr_list topics; /* struct mr_group_topic */
    uint32_t topic_count;
    struct mr_classic classic_part; /* steps reach it through mr_group_classic */
    struct mr_consumer *consumer;   /* a group of the new protocol: then the classic part is empty */
};

enum mr_group_timer_kind {
    MR_GROUP_TIMER_SESSION = 1,
    MR_GROUP_TIMER_REBALANCE,
    MR_GROUP_TIMER_CONSUMER_SESSION,
    MR_GROUP_TIMER_CONSUMER_REBALANCE,
};

/* The next generation or epoch: they stop at the end of their range, where only a record that lies brings them. */
static inline int32_t mr_group_next_epoch(int32_t epoch)
{
    return epoch + (epoch < INT32_MAX);
}

/* The conversation of a group, which a step may change (see above). */
static inline struct mr_classic *mr_group_classic(const struct mr_group *group)
{
    return &((struct mr_group *)(uintptr_t)group)->classic_part;
}

/* ---- group.c: life of a shard, the switch ---- */

/* False: no memory. */
bool mr_group_shard_init(struct mr_group_shard *shard, struct mr_group_env *env, uint32_t index);

/* Free everything. Requests that wait are refused with `error` into `out`, which may be NULL when
 * none can. */
void mr_group_shard_deinit(struct mr_group_shard *shard, struct mr_coord_out *out, int16_t error);

/* After the last record of a load: sessions begin to run. */
void mr_group_loaded(const struct mr_group_shard *shard, struct mr_coord_out *out);

/* Apply a record. Unknown types and versions are skipped and counted. Errors: NO_MEMORY,
 * MALFORMED. */
enum mr_err mr_group_replay(struct mr_group_shard *shard, struct mr_blob key, struct mr_blob value);

/* A request whose group is in this shard: JoinGroup, SyncGroup, Heartbeat, LeaveGroup,
 * ConsumerGroupHeartbeat, OffsetCommit, OffsetDelete. */
void mr_group_handle(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out);

/* A timer of a member or a group is due. */
void mr_group_fire(struct mr_control_timer *timer, struct mr_coord_out *out);
struct mr_group_shard *mr_group_timer_shard(struct mr_control_timer *timer);

struct mr_group *mr_group_find(const struct mr_group_shard *shard, struct mr_str id);

/* For replay: the group, made when absent. NULL: no memory. */
struct mr_group *mr_group_get_or_make(struct mr_group_shard *shard, struct mr_str id);

/* What keeps one more group, offset or, when `is_member`, member out: the key of the limit, which the log says too. NULL:
 * there is room. */
const char *mr_group_limit(struct mr_group_env *env, bool is_member, struct mr_now now);

/* For replay: the classic part as of a new group; the whole group, when nothing is left of it. */
void mr_group_forget_classic(struct mr_group *group);
void mr_group_forget_if_empty(struct mr_group *group);

/* "/" and the client's address, as Kafka writes it down. */
struct mr_str mr_group_client_host(const struct mr_request *request, struct mr_coord_out *out);

/* Kafka's name of the group's state, "Stable" and so on; of its type, "classic" or "consumer". */
struct mr_str mr_group_state_name(const struct mr_group *group);
struct mr_str mr_group_type_name(const struct mr_group *group);

bool mr_group_is_empty(const struct mr_group *group);
bool mr_group_is_subscribed(const struct mr_group *group, struct mr_str topic,
                            struct mr_coord_out *out);

/* ---- group_read.c: what administration sees ---- */

/* READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: what there is to allow on a group. */
#define MR_GROUP_OPERATIONS ((1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11))

/* Fill in one group of a DescribeGroups answer; strings point into the group. */
void mr_group_describe(const struct mr_group_shard *shard, struct mr_str id, int16_t version,
                       bool is_operations_wanted, struct mr_coord_out *out,
                       struct mr_describe_groups_response_described_group *described);

/* How many groups of a slice (mr_table_walk_slice) pass the filters; with `listed`, fill them in. */
uint32_t mr_group_list(const struct mr_group_shard *shard, uint32_t slice, uint32_t slices,
                       const struct mr_list_groups_request *request,
                       struct mr_list_groups_response_listed_group *listed, uint32_t listed_max);

/* Tombstones for a group and its offsets; Kafka's error code when it cannot be deleted. */
int16_t mr_group_delete(const struct mr_group_shard *shard, struct mr_str id,
                        struct mr_coord_out *out);

/* ---- classic_*.c: join, sync, heartbeat, leave ---- */

bool mr_classic_init(struct mr_classic *classic);
void mr_classic_deinit(struct mr_group *group, struct mr_coord_out *out, int16_t error);
void mr_classic_join(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out);
/* The form of a refused JoinGroup. */
void mr_classic_join_error(const struct mr_request *request, int16_t error,
                           struct mr_join_group_response *response);
void mr_classic_sync(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out);
void mr_classic_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                          struct mr_coord_out *out);
void mr_classic_leave(const struct mr_group_shard *shard, struct mr_request *request,
                      struct mr_coord_out *out);
void mr_classic_loaded(struct mr_group *group, struct mr_coord_out *out);
void mr_classic_session_expired(struct mr_classic_member *member, struct mr_coord_out *out);
void mr_classic_rebalance_due(struct mr_group *group, struct mr_coord_out *out);

/* Replay of a settled generation. */
enum mr_err mr_classic_settle(struct mr_group *group, const struct mr_group_metadata_value *value);

/* Member and instance of a request against the group: 0, UNKNOWN_MEMBER_ID or
 * FENCED_INSTANCE_ID. */
int16_t mr_classic_check_member(const struct mr_group *group, struct mr_str member_id,
                                struct mr_str instance_id);

/* A sign of life other than a heartbeat. */
void mr_classic_touch(const struct mr_group *group, struct mr_str member_id, struct mr_now now);

/* A member's metadata for the protocol; empty when it has none. */
struct mr_blob mr_classic_metadata(const struct mr_classic_member *member, struct mr_str protocol);

/* ---- consumer_*.c: groups of the new protocol ---- */

void mr_consumer_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                           struct mr_coord_out *out);
void mr_consumer_deinit(struct mr_group *group);
void mr_consumer_loaded(struct mr_group *group, struct mr_coord_out *out);
void mr_consumer_session_expired(struct mr_consumer_member *member, struct mr_coord_out *out);
void mr_consumer_rebalance_due(struct mr_consumer_member *member, struct mr_coord_out *out);
struct mr_group *mr_consumer_group_of(const struct mr_consumer_member *member);

/* Members of the classic protocol in such a group, which is not empty. SyncGroup is answered unless there is an
 * error; a member that may leave is found. */
void mr_consumer_classic_join(const struct mr_group *group, struct mr_request *request,
                              struct mr_coord_out *out);
int16_t mr_consumer_classic_sync(const struct mr_group *group, struct mr_request *request,
                                 struct mr_coord_out *out);
int16_t mr_consumer_classic_heartbeat(const struct mr_group *group,
                                      const struct mr_heartbeat_request *beat, struct mr_now now);
int16_t mr_consumer_classic_leave(const struct mr_group *group, struct mr_str member_id,
                                  struct mr_str instance_id, struct mr_coord_out *out);
/* Somebody left: the new epoch. False: no scratch. */
bool mr_consumer_classic_left(const struct mr_group *group, struct mr_coord_out *out);

/* Replay of a record of types 3 to 8, or 16. */
enum mr_err mr_consumer_replay(struct mr_group_shard *shard, int16_t type, struct mr_blob key,
                               struct mr_blob value);

struct mr_str mr_consumer_state_name(const struct mr_group *group);
bool mr_consumer_is_empty(const struct mr_group *group);
bool mr_consumer_is_subscribed(const struct mr_group *group, struct mr_str topic);

/* Fill in one group of a ConsumerGroupDescribe answer; strings point into the group. */
void mr_consumer_describe(const struct mr_group_shard *shard, struct mr_str id,
                          bool is_operations_wanted, struct mr_coord_out *out,
                          struct mr_consumer_group_describe_response_described_group *described);

/* Whether a member may commit at this epoch what `commit` says: Kafka's error code. */
int16_t mr_consumer_check_commit(const struct mr_group *group, const struct mr_request *request);

/* Likewise fetch. */
int16_t mr_consumer_check_fetch(const struct mr_group *group, struct mr_str member_id,
                                int32_t epoch);

/* Tombstones of everything but the offsets. False: no scratch. */
bool mr_consumer_record_tombstone(const struct mr_group *group, struct mr_coord_out *out);

/* ---- offsets.c ---- */

void mr_offsets_commit(const struct mr_group_shard *shard, struct mr_request *request,
                       struct mr_coord_out *out);
void mr_offsets_delete(const struct mr_group_shard *shard, struct mr_request *request,
                       struct mr_coord_out *out);

/* A commit's members and generation against the group: Kafka's error, or 0. */
int16_t mr_offsets_check_commit(const struct mr_group *group, const struct mr_request *request);

/* Records and answers for the topics of a commit, whose group has been checked (`error`). `version` is one of
 * OffsetCommit. False: no scratch. */
bool mr_offsets_commit_topics(const struct mr_group_shard *shard,
                              const struct mr_offset_commit_request *message, int16_t version,
                              int16_t error, struct mr_coord_out *out,
                              struct mr_offset_commit_response *response);

/* ---- offsets_txn.c: offsets inside transactions ---- */

void mr_offsets_commit_txn(const struct mr_group_shard *shard, struct mr_request *request,
                           struct mr_coord_out *out);

/* A record of a transaction's batch; `sequence` is the shard's batch with it. */
enum mr_err mr_offsets_pending_add(struct mr_group_shard *shard, int64_t producer_id,
                                   uint64_t sequence, struct mr_blob key, struct mr_blob value);
/* A marker: what came up to that batch is committed, or gone. */
enum mr_err mr_offsets_pending_end(struct mr_group_shard *shard, int64_t producer_id,
                                   uint64_t sequence, bool is_commit);
/* A record of no transaction is replayed: pending offsets of its partition that came before it lose against it; a
 * tombstone takes them away. */
void mr_offsets_pending_overtake(struct mr_group_shard *shard, struct mr_blob key, bool is_tombstone);
/* Tombstones for those of topics that are gone. False: some are left. */
bool mr_offsets_pending_purge(const struct mr_group_shard *shard, struct mr_coord_out *out);
/* Tombstones for those of one group. False: no scratch. */
bool mr_offsets_pending_delete(const struct mr_group_shard *shard, struct mr_str group,
                               struct mr_coord_out *out);
void mr_offsets_pending_clear(struct mr_group_shard *shard);
/* A null topic: any of the group's. */
bool mr_offsets_is_pending(const struct mr_group_shard *shard, struct mr_str group,
                           struct mr_str topic, int32_t partition);
/* Offsets that a transaction may still change are not told: UNSTABLE_OFFSET_COMMIT. */
void mr_offsets_hide_pending(const struct mr_group_shard *shard, int16_t version,
                             struct mr_offset_fetch_response_group *fetched);

/* One group of an OffsetFetch; `fetch` and the answer in the form of versions 8 and later. */
void mr_offsets_fetch(const struct mr_group_shard *shard,
                      const struct mr_offset_fetch_request_group *fetch, int16_t version,
                      struct mr_coord_out *out, struct mr_offset_fetch_response_group *fetched);

enum mr_err mr_offsets_replay(struct mr_group_shard *shard, const struct mr_offset_commit_key *key,
                              const struct mr_offset_commit_value *value);

/* Tombstones for all offsets of a group, committed and pending. False: no scratch. */
bool mr_offsets_delete_all(const struct mr_group *group, struct mr_coord_out *out);

/* Tombstones for what is too old in one group, and for the group when nothing is left of it. False: there are more than
 * one step should write; once these are replayed, ask again. */
bool mr_offsets_expire(const struct mr_group *group, struct mr_coord_out *out);

/* Tombstones for the offsets of a topic that does not exist any more, or whose name another topic has now. False: as above. */
bool mr_offsets_purge(const struct mr_group_shard *shard, const struct mr_group_topic *topic,
                      struct mr_coord_out *out);

void mr_offsets_free(struct mr_group *group);

/* ---- group_records.c: records of __consumer_offsets ---- */

/* With the assignments that the members are given, or those that they have. */
bool mr_group_record_metadata(const struct mr_group *group, int32_t generation,
                              struct mr_coord_out *out, bool is_given);
bool mr_group_record_created(const struct mr_group_shard *shard, struct mr_str id,
                             struct mr_coord_out *out);
bool mr_group_record_empty(const struct mr_group *group, int32_t generation,
                           struct mr_coord_out *out);
bool mr_group_record_settled(uint32_t shard, struct mr_str id,
                             const struct mr_group_metadata_value *value,
                             struct mr_coord_out *out);
bool mr_group_record_tombstone(const struct mr_group *group, struct mr_coord_out *out);
/* Likewise for a group of either protocol. */
bool mr_group_record_gone(const struct mr_group *group, struct mr_coord_out *out);
bool mr_group_record_offset(const struct mr_group_shard *shard, struct mr_str group,
                            struct mr_str topic, const struct mr_group_offset *offset,
                            struct mr_coord_out *out);
bool mr_group_record_offset_tombstone(const struct mr_group *group, struct mr_str topic,
                                      int32_t partition, struct mr_coord_out *out);

#endif
