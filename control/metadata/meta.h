/*
 * meta: the replicated state of the cluster: what the records of __cluster_metadata add up to.
 *
 * Only mr_meta_replay (meta_replay.c) changes it; the ctl_*.c files read it through a const pointer
 * and write records. What belongs to this process and not to the log -- which logs are open, what
 * is published -- stands apart in each partition and topic, under "here".
 *
 *   mr_meta --> topics (by name, by id) --> partitions
 *           --> resources: configs of (type, name), each a sorted list
 *           --> brokers, features, next producer id
 *
 * Memory: a heap. Thread: control. Source: kraft-broker facts about KRaft records, Apache Kafka
 * 4.4.
 */
#ifndef MILLRACE_CONTROL_META_H
#define MILLRACE_CONTROL_META_H

#include "millrace/base/heap.h"
#include "millrace/base/list.h"
#include "millrace/base/table.h"
#include "millrace/kafka/msg.h"
#include "millrace/metadata.h"

#include <stdbool.h>
#include <stdint.h>

/* Levels of metadata.version at which what we write changes its form. */
#define MR_META_VERSION_MIN         7  /* 3.3-IV3, the oldest that Kafka 4.x reads */
#define MR_META_VERSION_TXN         13 /* 3.6-IV1: Begin, End, AbortTransaction */
#define MR_META_VERSION_CONTROLLERS 15 /* 3.7-IV0: RegisterController */
#define MR_META_VERSION_DIRECTORIES 17 /* 3.7-IV2: directory ids */
#define MR_META_VERSION_ELR         23 /* 4.0-IV1: Partition and PartitionChange version 2 */
#define MR_META_VERSION_CORDONED    30 /* 4.3-IV0 */
#define MR_META_VERSION_MAX         33 /* 4.4-IV2 */

/* Kafka's resource types in ConfigRecord. */
enum mr_meta_resource_type {
    MR_META_TOPIC = 2,
    MR_META_BROKER = 4,
    MR_META_BROKER_LOGGER = 8,
    MR_META_CLIENT_METRICS = 16,
    MR_META_GROUP = 32,
};

struct mr_meta_ids {
    int32_t *ids;
    int32_t  count;
};

enum mr_meta_log_state {
    MR_META_LOG_CLOSED, /* not asked for */
    MR_META_LOG_QUEUED, /* waits for its turn to be opened */
    MR_META_LOG_OPENING,
    MR_META_LOG_OPEN,
    MR_META_LOG_FAILED, /* tried again by a timer */
    MR_META_LOG_OFFLINE, /* its directory is: storage_core refuses what is asked of it */
};

struct mr_meta_partition {
    bool               is_present; /* false: a hole, its PartitionRecord has not come */
    int8_t             recovery_state;
    int32_t            leader;
    int32_t            leader_epoch;
    int32_t            partition_epoch;
    struct mr_meta_ids replicas;
    struct mr_meta_ids isr;
    struct mr_meta_ids removing;
    struct mr_meta_ids adding;
    struct mr_meta_ids eligible; /* replicas that may lead though not in the ISR (KIP-966) */
    struct mr_meta_ids last_known;
    struct mr_uuid    *directories;
    int32_t            directory_count;

    /* here */
    enum mr_meta_log_state log_state;
    uint32_t               storage_core;
    uint64_t               log_id;
};

struct mr_meta_topic {
    struct mr_table_node      by_name;
    struct mr_table_node      by_id;
    struct mr_str             name;
    struct mr_uuid            id;
    uint32_t                  partition_count;
    uint32_t                  partition_room;
    struct mr_meta_partition *partitions;

    /* here */
    struct mr_list         changed; /* in mr_meta.changed: its image is not what it should be */
    struct mr_image_topic *image;   /* the newest one made; NULL: not published */
    size_t                 image_bytes;
    uint32_t               opening; /* partitions QUEUED or OPENING */
    bool                   is_config_due; /* there was no memory to tell its logs */
};

struct mr_meta_config {
    struct mr_str name;
    struct mr_str value;
};

/* The configs that were set for one topic, broker, ...; entries are sorted by name. */
struct mr_meta_resource {
    struct mr_table_node   node;
    int8_t                 type;
    struct mr_str          name;
    struct mr_meta_config *entries;
    uint32_t               count;
    uint32_t               room;
};

struct mr_meta_endpoint {
    struct mr_str name;
    struct mr_str host;
    uint16_t      port;
    int16_t       security_protocol;
};

/* The levels of a feature that a broker can serve. */
struct mr_meta_range {
    struct mr_str name;
    int16_t       min;
    int16_t       max;
};

struct mr_meta_broker {
    int32_t                  id;
    int64_t                  epoch;
    struct mr_uuid           incarnation;
    bool                     is_fenced;
    bool                     is_in_shutdown;
    struct mr_str            rack;
    struct mr_meta_endpoint *endpoints;
    int32_t                  endpoint_count;
    struct mr_meta_range    *ranges;
    int32_t                  range_count;
    struct mr_uuid          *directories;
    int32_t                  directory_count;
};

struct mr_meta_feature {
    struct mr_str name;
    int16_t       level;
};

/* A record of an open metadata transaction, kept until it ends. */
struct mr_meta_held {
    struct mr_list link;
    int64_t        offset;
    int32_t        len;
    uint8_t        bytes[];
};

struct mr_meta {
    struct mr_heap    *heap;
    struct mr_hash_key hash_key;

    struct mr_table topics_by_name;
    struct mr_table topics_by_id;
    struct mr_table collisions; /* topics with '.' or '_' in their name */
    struct mr_table resources;

    struct mr_meta_broker  *brokers; /* sorted by id */
    uint32_t                broker_count;
    uint32_t                broker_room;
    struct mr_meta_feature *features; /* level > 0, sorted by name */
    uint32_t                feature_count;
    uint32_t                feature_room;

    int16_t  metadata_version; /* 0: no FeatureLevel record yet */
    int64_t  next_producer_id; /* the first of no block */
    int64_t  offset;           /* of the last record replayed, -1: none */
    uint64_t partition_count;
    struct {
        struct mr_uuid id;
        uint64_t       partitions; /* whose records name it */
    } dirs[MR_DIRS_MAX]; /* of this broker, when it has several log directories */
    uint32_t dir_count;
    uint64_t ignored; /* records of kinds that this broker does not use yet */

    bool           is_in_transaction;
    struct mr_list held; /* struct mr_meta_held, in order */

    /* here: what changed since it was last looked at */
    struct mr_list changed;            /* topics, by mr_meta_topic.changed */
    struct mr_list gone;               /* struct mr_meta_gone: topics that were removed */
    bool           is_brokers_changed; /* brokers, features or settings of brokers */
    bool is_defaults_changed; /* a broker-level config: every topic may resolve differently */

    struct mr_arena scratch; /* one record is decoded at a time */
    void           *scratch_memory;
};

/* What is left of a removed topic until its logs are dropped and its image retired. */
struct mr_meta_gone {
    struct mr_list         link;
    struct mr_str          name;
    struct mr_uuid         id;
    struct mr_image_topic *image;
    size_t                 image_bytes;
    uint32_t               partition_count;
    struct {
        enum mr_meta_log_state log_state;
        uint32_t               storage_core;
        uint64_t               log_id;
    } logs[];
};

/* ---- State (meta.c) ---- */

bool mr_meta_init(struct mr_meta *meta, struct mr_heap *heap, const struct mr_hash_key *hash_key);

struct mr_meta_topic *mr_meta_topic_by_name(const struct mr_meta *meta, struct mr_str name);
struct mr_meta_topic *mr_meta_topic_by_id(const struct mr_meta *meta, const struct mr_uuid *id);

/* A topic whose name differs from `name` only in '.' and '_', or NULL. */
const struct mr_meta_topic *mr_meta_topic_collision(const struct mr_meta *meta, struct mr_str name);

/* Any topic, in no order; start with NULL. */
struct mr_meta_topic *mr_meta_topic_walk(const struct mr_meta *meta, struct mr_meta_topic *topic);

const struct mr_meta_resource *mr_meta_resource(const struct mr_meta *meta, int8_t type,
                                                struct mr_str name);
const struct mr_meta_resource *mr_meta_resource_walk(const struct mr_meta          *meta,
                                                     const struct mr_meta_resource *resource);

/* A null string when it is not set there. */
struct mr_str mr_meta_config(const struct mr_meta_resource *resource, struct mr_str name);

const struct mr_meta_broker *mr_meta_broker(const struct mr_meta *meta, int32_t id);
int16_t mr_meta_feature(const struct mr_meta *meta, struct mr_str name); /* 0: not finalized */

/* Mark a topic for the next publication. */
void mr_meta_topic_changed(struct mr_meta *meta, struct mr_meta_topic *topic);

/* For meta_replay.c: the changes of one record. They return false when the heap is exhausted. */
struct mr_meta_topic     *mr_meta_topic_add(struct mr_meta *meta, struct mr_str name,
                                            const struct mr_uuid *id);
bool                      mr_meta_topic_remove(struct mr_meta *meta, struct mr_meta_topic *topic);
struct mr_meta_partition *mr_meta_partition_make(struct mr_meta *meta, struct mr_meta_topic *topic,
                                                 int32_t partition);
bool mr_meta_ids_set(struct mr_meta *meta, struct mr_meta_ids *ids, const int32_t *from,
                     int32_t count);
bool mr_meta_directories_set(struct mr_meta *meta, struct mr_meta_partition *partition,
                             const struct mr_uuid *from, int32_t count);
bool mr_meta_config_set(struct mr_meta *meta, int8_t type, struct mr_str resource,
                        struct mr_str name, struct mr_str value);
void mr_meta_resource_remove(struct mr_meta *meta, int8_t type, struct mr_str name);
bool mr_meta_feature_set(struct mr_meta *meta, struct mr_str name, int16_t level);
struct mr_meta_broker *mr_meta_broker_make(struct mr_meta *meta, int32_t id);
void                   mr_meta_broker_remove(struct mr_meta *meta, int32_t id);

/* ---- Replay (meta_replay.c) ---- */

/*
 * Apply the value of one data record. Inside a metadata transaction records are held until its end.
 *
 * Errors: MALFORMED, TRUNCATED (not a record), UNSUPPORTED_VERSION (an id or a version we do not
 * know), CORRUPT (it contradicts the state), NO_MEMORY. The state is then not to be used any more.
 */
enum mr_err mr_meta_replay(struct mr_meta *meta, int64_t offset, struct mr_blob value);

/* ---- Records of one operation (meta_records.c) ---- */

/* Values of records back to back, each behind its length; written by decide, then one batch. */
struct mr_meta_records {
    struct mr_heap *heap;
    uint8_t        *bytes;
    size_t          size;
    size_t          used;
    uint32_t        count;
    bool            is_failed; /* no memory, or a record that cannot be encoded: commit nothing */
};

#define MR_META_RECORDS_MAX 10000 /* of one request, as in Kafka */

void mr_meta_records_init(struct mr_meta_records *records, struct mr_heap *heap);
void mr_meta_records_deinit(struct mr_meta_records *records);

/* Add one record; remembers a failure in is_failed. */
void mr_meta_records_add(struct mr_meta_records *records, const struct mr_msg *msg, int16_t version,
                         const void *record);

/* A record whose value is already encoded (from a bootstrap snapshot). */
void mr_meta_records_add_value(struct mr_meta_records *records, struct mr_blob value);

/* Back to a place remembered before (count and used): an operation that was refused leaves
 * nothing. */
struct mr_meta_mark {
    size_t   used;
    uint32_t count;
};
struct mr_meta_mark mr_meta_records_mark(const struct mr_meta_records *records);
void mr_meta_records_rewind(struct mr_meta_records *records, struct mr_meta_mark mark);

/* Each value in turn; start with *at == 0; false at the end. */
bool mr_meta_records_next(const struct mr_meta_records *records, size_t *at, struct mr_blob *value);

/* One batch of all of them, in heap memory of *size bytes; NULL: no memory. */
uint8_t *mr_meta_records_batch(const struct mr_meta_records *records, int64_t base_offset,
                               int64_t timestamp_ms, int32_t epoch, size_t *size, uint32_t *len);

/* The form of records at the finalized metadata.version. */
int16_t mr_meta_partition_record_version(int16_t metadata_version);
int16_t mr_meta_register_broker_version(int16_t metadata_version);
int16_t mr_meta_registration_change_version(int16_t metadata_version);

#endif
