/*
 * fetch_session: which partitions a consumer reads, and which of them are worth looking at.
 *
 * Every Fetch works on a set of partitions. An incremental session (KIP-227) keeps its set between
 * requests; a request without a session makes one for itself in its own arena. In a set
 *
 *      order   all partitions, in the order in which they take their share of max bytes
 *      dirty   those that may have something: new, changed, with data left, moved, or failed
 *
 * A partition that was read to its end leaves `dirty` and gets a watch; the commit that moves it
 * puts it back. So an incremental fetch does work for what changed, not for what it names.
 *
 * Thread: the data core. Source: KIP-227; behaviour of Apache Kafka 4.4's fetch session cache.
 */
#ifndef MILLRACE_FETCH_SESSION_H
#define MILLRACE_FETCH_SESSION_H

#include "broker/request.h"
#include "millrace/base/map.h"
#include "millrace/base/pool.h"
#include "millrace/base/timer.h"
#include "millrace/dataplane.h"

struct mr_fetch_set;
struct mr_watch;

#define MR_FETCH_TOPIC_BYTES (sizeof(struct mr_fetch_topic) + MR_TOPIC_NAME_MAX + 1)

struct mr_fetch_topic {
    struct mr_uuid id;
    struct mr_str name;
    uint32_t refs;
    char text[]; /* in sessions: the name's bytes */
};

struct mr_fetch_partition {
    struct mr_list link;       /* set->order */
    struct mr_list dirty_link; /* set->dirty, or empty */
    struct mr_fetch_set *set;
    struct mr_fetch_topic *topic;
    struct mr_watch *watch; /* armed, or NULL */
    int32_t index;
    int32_t bytes_max;
    int32_t leader_epoch; /* the client's, -1: none */
    int32_t last_fetched_epoch;
    int64_t offset;
    uint64_t log_id;
    uint32_t storage_core;
    int16_t error;          /* found in the image */
    int64_t high_watermark; /* as last read; -1: never */
    int64_t last_stable_offset;
    int64_t log_start;
    int64_t told_high_watermark; /* in the last answer; -1: never */
    int64_t told_log_start;
    struct mr_read_entry *entry; /* of the pass under way, or its result */
};

struct mr_fetch_set {
    struct mr_list order;
    struct mr_list dirty;
    uint32_t count;
    uint64_t image_version; /* that the partitions were found in */
    bool is_by_id;
    bool is_session;
    bool is_dead;          /* closed while a request used it */
    struct mr_fetch *user; /* the request that works on it */

    /* sessions only */
    int32_t id;
    int32_t epoch; /* expected next */
    uint64_t used_ns;
    struct mr_list link; /* least recently used first */
};

struct mr_fetch_sessions {
    struct mr_pool sets;
    struct mr_pool partitions;
    struct mr_pool topics;
    struct mr_map by_id;
    struct mr_map by_partition; /* hash of set id, topic and index */
    struct mr_list used;
    uint32_t max;
};

size_t mr_fetch_sessions_memory(const struct mr_data_plan *plan);
void mr_fetch_sessions_init(struct mr_data_core *core, struct mr_arena *arena);

void mr_fetch_set_init(struct mr_fetch_set *set, bool is_by_id);

/* A new session with its id; NULL when there is no slot. */
struct mr_fetch_set *mr_fetch_session_open(struct mr_data_core *core, bool is_by_id);
struct mr_fetch_set *mr_fetch_session_find(struct mr_data_core *core, int32_t id);
void mr_fetch_session_close(struct mr_data_core *core, struct mr_fetch_set *set);

/* Find or add a partition of a session; NULL when there is no memory. */
struct mr_fetch_partition *mr_fetch_session_add(struct mr_data_core *core, struct mr_fetch_set *set,
                                                struct mr_fetch_topic **topic, struct mr_str name,
                                                const struct mr_uuid *id, int32_t index);
void mr_fetch_session_remove(struct mr_data_core *core, struct mr_fetch_set *set,
                             struct mr_str name, const struct mr_uuid *id, int32_t index);

/* Put a partition into a set that is not a session; its memory is the caller's. */
void mr_fetch_set_add(struct mr_fetch_set *set, struct mr_fetch_partition *partition);

void mr_fetch_partition_dirty(struct mr_fetch_partition *partition);

/* Look up every partition again in the image of now. */
void mr_fetch_set_resolve(struct mr_data_core *core, struct mr_fetch_set *set);
void mr_fetch_partition_resolve(struct mr_data_core *core, struct mr_fetch_partition *partition);

#endif
