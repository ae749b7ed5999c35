/*
 * controller: decides about the cluster's metadata: the thin switch between requests and decisions.
 *
 *   request > queue > decide (reads state, writes records) > replay > batch > durable
 *                        |                                 > local logs > image > answer
 *                        +--> nothing to write: the answer at once
 *
 * Decisions of several requests share a batch while it is small; each request's records are in one
 * batch, so they are atomic. While a batch is in flight the queue waits, so what a decision reads
 * is durable or in its own batch.
 *
 * Thread: control.
 */
#ifndef MILLRACE_CONTROL_CONTROLLER_H
#define MILLRACE_CONTROL_CONTROLLER_H

#include "control_private.h"
#include "metadata/log_config.h"
#include "metadata/meta.h"

/* What a decision may look at; it changes nothing but `records`, the request's memory and the
 * ids drawn. */
struct mr_ctl {
    const struct mr_meta *meta;
    const struct mr_config *config;
    int32_t node_id;
    struct mr_control *control; /* memory of requests, random ids; nothing else */
};

/* Decide one request: add records, return the response (a struct in the request's memory); NULL: no
 * memory. Response strings may point into the state: they are encoded before it changes. */
typedef const void *mr_ctl_decide(const struct mr_ctl *ctl, struct mr_request *request,
                                  struct mr_meta_records *records);

mr_ctl_decide mr_ctl_topics_create;
mr_ctl_decide mr_ctl_topics_delete;
mr_ctl_decide mr_ctl_partitions_create;
mr_ctl_decide mr_ctl_configs_alter;
mr_ctl_decide mr_ctl_configs_alter_incremental;
mr_ctl_decide mr_ctl_features_update;

/* Topics of our own, with the broker's settings for them. */
enum mr_ctl_internal {
    MR_CTL_OFFSETS,      /* __consumer_offsets */
    MR_CTL_TRANSACTIONS, /* __transaction_state */
    MR_CTL_INTERNAL_COUNT,
};
void mr_ctl_topics_create_internal(const struct mr_ctl *ctl, enum mr_ctl_internal which,
                                   struct mr_meta_records *records);

/* A refusal: Kafka's code and our words; code 0 is success. */
struct mr_ctl_error {
    int16_t code;
    struct mr_str message; /* null with code 0 */
};

static const struct mr_ctl_error mr_ctl_ok = {.code = 0, .message = {.data = NULL, .len = -1}};

static inline struct mr_ctl_error mr_ctl_refuse(int16_t code, struct mr_str message)
{
    return (struct mr_ctl_error){.code = code, .message = message};
}

/* ---- ctl_partitions.c: new partitions ---- */

#define MR_CTL_REPLICAS_MAX 64 /* of one partition: as many brokers as one ever names here */

/* Whether a broker may lead: registered, not fenced, not shutting down. */
bool mr_ctl_partitions_is_active(const struct mr_meta *meta, int32_t id);

/* The replicas that a client asks for; `expected`: how many there must be, -1: any number. */
struct mr_ctl_error mr_ctl_partitions_check(const struct mr_ctl *ctl, struct mr_request *request,
                                            const int32_t *ids, int32_t count, int32_t expected);

/* The record of one partition with these replicas; one of them at least is active. */
void mr_ctl_partitions_add(const struct mr_ctl *ctl, struct mr_meta_records *records,
                           const struct mr_uuid *topic_id, int32_t partition, int32_t *replicas,
                           int32_t count);

/* Partitions placed in turn on the active brokers. Without a request nobody reads the words. */
struct mr_ctl_error mr_ctl_partitions_place(const struct mr_ctl *ctl, struct mr_request *request,
                                            int32_t first, int32_t count, int32_t replica_count,
                                            const struct mr_uuid *id,
                                            struct mr_meta_records *records);

/* Whether so many more partitions are allowed, and the refusal when they are not. */
bool mr_ctl_partitions_has_room(const struct mr_ctl *ctl, uint64_t more);
struct mr_ctl_error mr_ctl_partitions_no_room(const struct mr_ctl *ctl, struct mr_request *request);

/* ---- ctl_topics.c ---- */

/* The name of a new topic, by Kafka's rules. */
struct mr_ctl_error mr_ctl_topics_check_name(struct mr_str name);

/* ---- ctl_config_check.c: what a config may be set to ---- */

/* One setting of a topic; the value is not null. */
struct mr_ctl_error mr_ctl_config_check_group(const struct mr_ctl *ctl, struct mr_request *request,
                                              struct mr_str name, struct mr_str value);
struct mr_ctl_error mr_ctl_config_check_topic(const struct mr_ctl *ctl, struct mr_request *request,
                                              struct mr_str name, struct mr_str value);

/* All settings of a topic, as they will be: those that contradict each other. */
struct mr_ctl_error mr_ctl_config_check_together(const struct mr_ctl *ctl,
                                                 struct mr_request *request,
                                                 const struct mr_log_config_values *values);

/* One setting of the broker, or of all brokers (an empty resource name), at run time. A null value
 * takes it away. */
struct mr_ctl_error mr_ctl_config_check_broker(const struct mr_ctl *ctl, struct mr_request *request,
                                               struct mr_str resource, struct mr_str name,
                                               struct mr_str value);

struct mr_controller {
    struct mr_list queue;    /* requests to be decided */
    struct mr_list decided;  /* their batch is in flight */
    struct mr_list settling; /* durable: local logs and the image follow */
    struct mr_meta_records records;
    int64_t producer_id_next; /* of the block we hold */
    int64_t producer_id_end;
    struct {
        int64_t next; /* durable ones for the coordinator of transactions: [next, end) */
        int64_t end;
        int64_t coming; /* where the block begins whose record is in flight; -1: none */
        bool is_wanted;
    } txn_ids;
    bool is_wanted[MR_CTL_INTERNAL_COUNT];
};

bool mr_controller_init(struct mr_control *control);

/* Decide what is queued. Whether there was work. */
bool mr_controller_turn(struct mr_control *control, struct mr_now now);

/* After local logs and publication: answer what has settled. */
bool mr_controller_settle(struct mr_control *control);

/* The broker has failed: close the connections of everything that waits. */
void mr_controller_abandon(struct mr_control *control);

/* A producer id that nobody has, for a coordinator whose own record will name it; -1: none yet, ask again. Then say
 * that it was taken. */
int64_t mr_controller_producer_id(struct mr_control *control);
void mr_controller_producer_id_taken(struct mr_control *control);

/* Queue a request that reads the state (admin/): its function runs when the state is durable and
 * ends the request. */
void mr_controller_queue(struct mr_control *control, struct mr_now now, struct mr_request *request);

/* What decisions look at. */
struct mr_ctl mr_controller_ctl(struct mr_control *control);

#endif
