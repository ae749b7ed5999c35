/*
 * consumer: consumer groups of the new protocol (KIP-848): the broker assigns, members reconcile.
 * The inside: what its files share; group.h has what others call.
 *
 *   group epoch       rises with every change of who subscribes to what
 *   assignment epoch  the group epoch for which the targets were computed
 *   member epoch      the assignment epoch that the member has reached, on its own and in its time
 *
 *                        target changed
 *              +----------------------------------+
 *              v      some must be given back     |
 *        UNREVOKED <------------------------- STABLE <---+
 *              |  given back                     ^       |  all are free
 *              +---------------------------------+--> UNRELEASED: others still have some
 *
 *   consumer.c             groups, members, owners of partitions
 *   consumer_replay.c      records to state: the only place that changes it
 *   consumer_records.c     state to records
 *   consumer_heartbeat.c   the request: checks, and the answer
 *   consumer_classic.c     requests of members that speak the classic protocol in such a group
 *   consumer_steps.c       what both go through, one step after another
 *   consumer_migrate.c     a group with members changes its protocol, up and down
 *   consumer_embedded.c    what classic members carry inside: subscriptions, assignments
 *   consumer_subscription.c  what members subscribe to; the hash of those topics
 *   consumer_regex.c, pattern.c  subscriptions by regular expression
 *   consumer_target.c      targets of all members, by an assignor
 *   consumer_reconcile.c   one member towards its target: a pure function
 *   consumer_read.c        what administration sees
 *
 * A heartbeat is decided in several steps, each a function of the state that the records of the one
 * before have made: the member as it says it is; the group epoch; targets; the member's own part.
 * A crash between two of them leaves what a slower group would have been.
 *
 * Threads: control. Source: KIP-848; behaviour of Apache Kafka 4.4.
 */
#ifndef MILLRACE_CONSUMER_H
#define MILLRACE_CONSUMER_H

#include "coord/group/group.h"
#include "coord/group/parts.h"

#define MR_CONSUMER_LEAVE        (-1)
#define MR_CONSUMER_LEAVE_STATIC (-2)

/* As on disk. */
enum mr_consumer_state {
    MR_CONSUMER_STABLE = 0,
    MR_CONSUMER_UNREVOKED = 1,
    MR_CONSUMER_UNRELEASED = 2,
    MR_CONSUMER_UNKNOWN = 127, /* of a later Kafka */
};

/* Names of topics, sorted; one block with the bytes behind the items. */
struct mr_consumer_names {
    size_t bytes;
    uint32_t count;
    struct mr_str items[];
};

struct mr_consumer_member {
    struct mr_table_node node;
    struct mr_list link; /* in the group's members or shells */
    struct mr_group *group;
    struct mr_str id;

    bool is_member; /* its record of type 5 is there; the others may come first, and go last */
    bool has_target;
    bool has_current;

    struct mr_str instance_id; /* null: a dynamic member */
    struct mr_str rack_id;
    struct mr_str client_id;
    struct mr_str client_host;
    struct mr_str assignor; /* that it asks for, or null */
    struct mr_str regex;    /* null: none */
    struct mr_consumer_names *names;
    int32_t rebalance_ms;
    struct mr_classic_protocols *classic; /* of one that still speaks the old protocol, or NULL */
    int32_t classic_session_ms;

    int32_t epoch;
    int32_t previous_epoch;
    enum mr_consumer_state state;
    struct mr_parts assigned;
    struct mr_parts pending; /* to be given back */
    struct mr_parts target;

    struct mr_control_timer session;
    struct mr_control_timer rebalance; /* to give back what is pending */
};

/* A subscription by regular expression, and what it stands for. */
struct mr_consumer_regex {
    struct mr_list link;
    struct mr_str text;
    struct mr_consumer_names *topics;
    int64_t resolved_ms;
    int64_t checked_ms;     /* since the start; 0: not yet */
    uint64_t image_version; /* whose topics were looked through; 0: none since the start */
};

/* Who has a partition: assigned, or not yet given back. */
struct mr_consumer_owner {
    struct mr_table_node node;
    struct mr_consumer_member *member;
    struct mr_uuid topic_id;
    int32_t partition;
};

struct mr_consumer {
    int32_t epoch;
    int64_t metadata_hash;
    int32_t assignment_epoch;
    int64_t assignment_ms; /* when the targets were computed; 0: never */
    struct mr_list members; /* struct mr_consumer_member, in order of arrival */
    struct mr_list shells;  /* likewise: those that are no members (yet, or any more) */
    uint32_t member_count;
    uint32_t static_count;
    struct mr_table owners; /* struct mr_consumer_owner */
    struct mr_list regexes; /* struct mr_consumer_regex */
    bool has_partition_metadata; /* a record of type 4, as Kafka before 4.1 wrote them */
    uint64_t image_version; /* of the image whose topics are in the hash; 0: unknown */
};

/* ---- consumer.c ---- */

/* Whether the new protocol is spoken: the feature group.version is finalised at 1. */
bool mr_consumer_is_enabled(const struct mr_group_env *env);

/* The consumer part of a group, made when absent: what the group was before is gone. NULL: no
 * memory. */
struct mr_consumer *mr_consumer_make(struct mr_group *group);

/* A member, or what is left of one; NULL when absent. */
struct mr_consumer_member *mr_consumer_find_any(const struct mr_group *group, struct mr_str id);

/* One that is a member. */
struct mr_consumer_member *mr_consumer_find(const struct mr_group *group, struct mr_str id);
struct mr_consumer_member *mr_consumer_find_instance(const struct mr_group *group,
                                                     struct mr_str instance_id);

/* For replay: the member, made when absent. NULL: no memory. */
struct mr_consumer_member *mr_consumer_get_or_make(struct mr_group *group, struct mr_str id);
void mr_consumer_member_free(struct mr_consumer_member *member);

/* The member that has the partition; NULL: it is free. */
const struct mr_consumer_member *mr_consumer_owner(const struct mr_group *group,
                                                   const struct mr_part *part);

/* Take away what the member owns, or enter it. False: no memory. */
void mr_consumer_disown(struct mr_consumer_member *member);
bool mr_consumer_own(struct mr_consumer_member *member);

/* Move it from the shells to the members, or back. */
void mr_consumer_set_member(struct mr_consumer_member *member, bool is_member);

/* The member was heard of: its session begins anew. */
void mr_consumer_session_again(struct mr_consumer_member *member, struct mr_now now);

/* The member has to give partitions back in time; or not (any more). */
void mr_consumer_rebalance_timer(struct mr_consumer_member *member, bool is_on, struct mr_now now);

/* What is set for the group, or for all groups of the broker. */
int64_t mr_consumer_setting(const struct mr_group *group, enum mr_group_config_id id);

/* The assignor that most members ask for, or the broker's first. */
struct mr_str mr_consumer_assignor_name(const struct mr_group *group);

/* ---- consumer_subscription.c ---- */

/* A sorted copy, each name once; NULL: no memory. */
struct mr_consumer_names *mr_consumer_names_new(struct mr_heap *heap, const struct mr_str *names,
                                                int32_t count);
void mr_consumer_names_free(struct mr_heap *heap, struct mr_consumer_names *names);

/* Whether a request names the same topics, in any order and any number of times; it is sorted. */
bool mr_consumer_names_same(const struct mr_consumer_names *names, struct mr_str *asked,
                            int32_t count);

/* What somebody subscribes to, as a request or the group has it. */
struct mr_consumer_wish {
    const struct mr_str *names;
    uint32_t count;
    struct mr_str regex; /* null or empty: none */
};

/* Whether the member subscribes to the topic, by name or by its regular expression. */
bool mr_consumer_subscribes(const struct mr_consumer_member *member, struct mr_str topic);

/* The topics of the image that the member subscribes to, sorted by id. False: no scratch. */
bool mr_consumer_topics(const struct mr_consumer_member *member, struct mr_arena *scratch,
                        const struct mr_image_topic ***topics, uint32_t *count);

/*
 * Kafka's hash over all topics of the group (NULL: a new one), when `member` (NULL: nobody) subscribes to `wish`
 * (NULL: to nothing any more) instead of what it has. False: no scratch.
 */
bool mr_consumer_hash(const struct mr_group_shard *shard, const struct mr_group *group,
                      const struct mr_consumer_member *member, const struct mr_consumer_wish *wish,
                      struct mr_coord_out *out, int64_t *hash);

/* ---- consumer_regex.c ---- */

/* NULL: not resolved. */
struct mr_consumer_regex *mr_consumer_regex_find(const struct mr_group *group, struct mr_str text);

/* Whether a member other than `except` subscribes by it. */
bool mr_consumer_regex_is_used(const struct mr_group *group, struct mr_str text,
                               const struct mr_consumer_member *except);

/* Write down what the pattern stands for; `why` it cannot be, and then nothing. False: no
 * scratch. */
bool mr_consumer_regex_resolve(const struct mr_group_shard *shard, struct mr_str group_id,
                               struct mr_str text, struct mr_coord_out *out, const char **why);
bool mr_consumer_regex_gone(const struct mr_group *group, struct mr_str text,
                            struct mr_coord_out *out);

/* Patterns that may stand for other topics now, a few at a time. False: no scratch. */
bool mr_consumer_regex_refresh(const struct mr_group *group, struct mr_coord_out *out);

/* Value NULL: forget it. */
enum mr_err mr_consumer_regex_replay(
    struct mr_group *group, struct mr_str text,
    const struct mr_consumer_group_regular_expression_value *value);
void mr_consumer_regex_free_all(struct mr_group *group);

/* ---- consumer_target.c ---- */

/* New targets for all members, as records. False: no scratch, or no such assignor; nothing is to be
 * written. */
bool mr_consumer_retarget(const struct mr_group *group, struct mr_coord_out *out);

/* ---- consumer_reconcile.c ---- */

struct mr_consumer_current {
    int32_t epoch;
    int32_t previous_epoch;
    enum mr_consumer_state state;
    struct mr_parts assigned;
    struct mr_parts pending;
};

/*
 * The member's next state. `owned` is what it says that it has, NULL when it says nothing. Sets lie
 * in scratch or in the member. Kafka's error code: UNKNOWN_SERVER_ERROR without scratch,
 * FENCED_MEMBER_EPOCH when it has to begin from nothing.
 */
int16_t mr_consumer_reconcile(const struct mr_consumer_member *member,
                              const struct mr_parts *owned, struct mr_arena *scratch,
                              struct mr_consumer_current *next);

/* ---- consumer_records.c ---- */

/* What a record of type 5 says. */
struct mr_consumer_profile {
    struct mr_str id;
    struct mr_str instance_id;
    struct mr_str rack_id;
    struct mr_str client_id;
    struct mr_str client_host;
    struct mr_str assignor;
    struct mr_consumer_wish wish;
    int32_t rebalance_ms;
    const struct mr_classic_protocols *classic; /* NULL: speaks the new protocol */
    int32_t classic_session_ms;
};

struct mr_consumer_profile mr_consumer_profile(const struct mr_consumer_member *member);

/* The partition numbers of a set in one array, so that each topic's are a piece of it. NULL: no
 * scratch. */
int32_t *mr_consumer_numbers(const struct mr_parts *set, struct mr_coord_out *out);

/* False: no scratch. */
bool mr_consumer_record_epoch(uint32_t shard, struct mr_str group, int32_t epoch, int64_t hash,
                              struct mr_coord_out *out);
bool mr_consumer_record_member(uint32_t shard, struct mr_str group,
                               const struct mr_consumer_profile *profile,
                               struct mr_coord_out *out);
bool mr_consumer_record_target(const struct mr_group *group, struct mr_str member_id,
                               const struct mr_parts *target, struct mr_coord_out *out);
/* The targets are those of the group epoch `epoch`, computed at `when_ms`; 0: never. */
bool mr_consumer_record_assigned(const struct mr_group *group, int32_t epoch, int64_t when_ms,
                                 struct mr_coord_out *out);
bool mr_consumer_record_current(const struct mr_group *group, struct mr_str member_id,
                                const struct mr_consumer_current *current,
                                struct mr_coord_out *out);
bool mr_consumer_record_gone(const struct mr_group *group, struct mr_str member_id,
                             struct mr_coord_out *out);

/* ---- consumer_steps.c ---- */

/* A member's request on its way. */
struct mr_consumer_beat {
    const struct mr_group_shard *shard;
    struct mr_request *request;
    struct mr_consumer_group_heartbeat_request *message; /* or a JoinGroup that says the same */
    const struct mr_classic_protocols *classic; /* of a JoinGroup; NULL: the new protocol */
    int32_t classic_session_ms;
    const struct mr_group *group;      /* NULL: there is none, or an empty one to be replaced */
    struct mr_consumer_member *member; /* NULL: not known */
    const struct mr_parts *owned;      /* NULL: not told */
    struct mr_coord_out *out;
    int16_t error; /* refused: Kafka's code, and why */
    const char *why;
};

enum mr_consumer_step {
    MR_CONSUMER_DONE,  /* nothing was to be done: on to the next */
    MR_CONSUMER_WROTE, /* the request is to be run again on what the records make */
    MR_CONSUMER_REFUSED,
};

extern const char mr_consumer_no_memory[];

enum mr_consumer_step mr_consumer_refuse(struct mr_consumer_beat *beat, int16_t error,
                                         const char *why);
enum mr_consumer_step mr_consumer_no_scratch(struct mr_consumer_beat *beat);

/* An id for a member that comes without one: the same in all steps of its request. */
struct mr_str mr_consumer_made_id(const struct mr_consumer_beat *beat);

/* The member as the request would have it. */
struct mr_consumer_profile mr_consumer_wished_profile(const struct mr_consumer_beat *beat);

/* All that comes before the member's own part: its record, the group's epoch, the targets. */
enum mr_consumer_step mr_consumer_steps(struct mr_consumer_beat *beat);

/* The member's own part: its record, when it moves. */
enum mr_consumer_step mr_consumer_step_on(struct mr_consumer_beat *beat,
                                          struct mr_consumer_current *next);

/* The member goes, and perhaps with it the protocol of the group. False: no scratch. */
bool mr_consumer_fence(const struct mr_consumer_member *member, struct mr_coord_out *out);

/* Tombstones for one that goes, without the new epoch. False: no scratch. */
bool mr_consumer_record_left(const struct mr_consumer_member *member, struct mr_coord_out *out);

/* ---- consumer_migrate.c ---- */

/* A classic group with members becomes one of the new protocol: records and refusals of who waits.
 * Why it cannot be; NULL: it is decided. */
const char *mr_consumer_upgrade(const struct mr_group *group, struct mr_coord_out *out);

/* Whether the group is classic again without `leaving`, which goes or is replaced by a classic one. */
bool mr_consumer_may_downgrade(const struct mr_group *group,
                               const struct mr_consumer_member *leaving, bool is_replaced);

/* Make it so; `joining` takes its place, NULL: nobody. False: no scratch. */
bool mr_consumer_downgrade(const struct mr_group *group, const struct mr_consumer_member *leaving,
                           const struct mr_consumer_profile *joining, struct mr_coord_out *out);

/* ---- consumer_embedded.c ---- */

enum mr_consumer_embedded {
    MR_CONSUMER_FINE,
    MR_CONSUMER_MALFORMED, /* or no scratch */
    MR_CONSUMER_WITH_USER_DATA,
};

struct mr_consumer_subscription {
    struct mr_str *topics;
    int32_t topic_count;
    struct mr_str rack_id;
    struct mr_parts owned;
};

/* Topics that do not exist have no partitions. Sets lie in scratch, strings in `metadata`. */
enum mr_consumer_embedded mr_consumer_read_subscription(
    const struct mr_image *image, struct mr_blob metadata, struct mr_arena *scratch,
    struct mr_consumer_subscription *subscription);
enum mr_consumer_embedded mr_consumer_read_assignment(const struct mr_image *image,
                                                      struct mr_blob assignment,
                                                      struct mr_arena *scratch,
                                                      struct mr_parts *set);

/* In the version of `metadata`, a member's subscription. False: no scratch. */
bool mr_consumer_write_assignment(const struct mr_group *group, const struct mr_parts *set,
                                  struct mr_blob metadata, struct mr_coord_out *out,
                                  struct mr_blob *assignment);

#endif
