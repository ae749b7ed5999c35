/*
 * control_rig: the control thread between a scripted data core and scripted storage cores, in one
 * thread: for tests of control/metadata and control/admin.
 *
 * The store keeps batches as they were appended and survives a restart of the control side; it
 * answers every operation at once, unless it is told to fail or to hold answers back. The data core
 * keeps the newest image and the answers. Coordinators are not there (weak stand-ins that do
 * nothing).
 */
#ifndef MILLRACE_TESTS_CONTROL_RIG_H
#define MILLRACE_TESTS_CONTROL_RIG_H

#include "millrace/control.h"
#include "millrace/kafka/messages.h"
#include "millrace/kafka/msg.h"
#include "millrace/metadata.h"
#include "millrace/storage.h"
#include "sim_disk.h"

#define MR_RIG_LOGS    4096
#define MR_RIG_CORES   2
#define MR_RIG_REPLIES 256

struct mr_rig_log {
    bool                 is_used;
    bool                 is_open;
    uint64_t             log_id;
    uint32_t             core;
    char                 topic[MR_TOPIC_NAME_MAX + 1];
    struct mr_uuid       topic_id;
    int32_t              partition;
    int32_t              leader_epoch;
    struct mr_log_config config;
    uint32_t             configured; /* CONFIGUREs so far */
    uint8_t             *bytes;
    size_t               len;
    size_t               size;
    int64_t              end_offset;
    int64_t              log_start;
    int16_t              txn_version; /* that the last append was for */
    bool                 is_held;       /* it is being moved away */
    bool                 is_unfinished; /* it is a copy */
};

/* What outlives a restart: the logs and the files. */
struct mr_rig_store {
    struct mr_sim_fs *fs;
    struct mr_rig_log logs[MR_RIG_LOGS];
    uint64_t          next_id;
    uint32_t          dropped;
    uint32_t          stopped;
    bool              has_marker; /* the last STOP came */

    enum mr_err open_err; /* of OPEN, except the metadata log */
    enum mr_err append_err;
    const char *refused_topic; /* whose appends are refused with NOT_LEADER; NULL: none */
    bool        is_holding; /* answers of APPEND wait */
    bool        is_holding_opens;
    bool        is_holding_loads; /* reads of __consumer_offsets wait */
    uint32_t    empty_reads; /* so many reads of a log with a third batch end before that, without an error */
    uint32_t    dir_count;  /* 2: each core has a directory of its own, "/data" and "/more" */
    bool        is_unread[MR_RIG_CORES];  /* such a directory could not be read by the start */
    enum mr_err recover_err[MR_RIG_CORES]; /* of RECOVER */
    enum mr_err move_err[MR_MOVE_SETTLE + 1]; /* of each step of a move */
    bool        is_offline[MR_RIG_CORES]; /* control has taken it offline */
    bool        has_stray;  /* a log is there whose topic is gone: others of its name are refused */
};

struct mr_rig_reply {
    int16_t  api_key;
    int16_t  api_version;
    int32_t  correlation_id;
    bool     is_silent;
    bool     is_close;
    uint8_t *bytes;
    uint32_t len;
};

struct mr_rig {
    struct mr_rig_store   *store;
    struct mr_disk        *disk;
    struct mr_control     *control;
    struct mr_config       config;
    struct mr_endpoints    endpoints;
    struct mr_port         control_port;
    struct mr_port         data_port;
    struct mr_port         storage_ports[MR_RIG_CORES];
    struct mr_arena        arena;
    void                  *memory;
    size_t                 memory_bytes;
    struct mr_now          now;
    int32_t                sent; /* the latest request */
    const struct mr_image *image;
    uint64_t               images_seen;
    bool                   is_keeping_images; /* no IMAGE_DONE */
    bool                   is_listening;
    uint32_t               drains;
    struct mr_rig_reply    replies[MR_RIG_REPLIES];
    uint32_t               reply_count;
    struct mr_forward     *forwards[MR_RIG_REPLIES]; /* not answered */
    struct mr_storage_op  *held[64];
    uint32_t               held_core[64];
    uint32_t               held_count;
    uint32_t               ops_turn_max; /* storage operations open after the busiest turn */
    uint64_t               work_turn_max; /* bytes of answers and records of the busiest turn */
};

struct mr_rig_store *mr_rig_store_create(void);
void                 mr_rig_store_destroy(struct mr_rig_store *store);

/* A control thread on the store; the config may be changed before mr_rig_run. */
struct mr_rig *mr_rig_create(struct mr_rig_store *store);
struct mr_rig *mr_rig_create_with_heap(struct mr_rig_store *store, size_t heap_bytes);
void           mr_rig_destroy(struct mr_rig *rig);

/* Turns until nothing moves. */
void mr_rig_run(struct mr_rig *rig);

/* Send a request; returns its number. The answer is there after mr_rig_run, unless it waits. */
int32_t mr_rig_send(struct mr_rig *rig, int16_t api_key, int16_t version, const void *message);
void    mr_rig_send_bytes(struct mr_rig *rig, int16_t api_key, int16_t version, const void *bytes,
                          uint32_t len);

/* The answer to request `number`, NULL while there is none. */
const struct mr_rig_reply *mr_rig_reply(const struct mr_rig *rig, int32_t number);

/* Send, run, decode the answer into `response` with memory of `arena`; asserts that there is
 * one. */
void mr_rig_call(struct mr_rig *rig, int16_t api_key, int16_t version, const void *message,
                 struct mr_arena *arena, void *response);

/* Forget the answers so far (at most MR_RIG_REPLIES are kept). */
void mr_rig_forget(struct mr_rig *rig);

/* A write of this core has failed: it says so, and refuses everything. */
void mr_rig_fail(struct mr_rig *rig, uint32_t core);

/* The id of the directory that this core serves, with two of them. */
struct mr_uuid mr_rig_dir_id(uint32_t core);

/* Let the held answers go. */
void mr_rig_release(struct mr_rig *rig);

const struct mr_rig_log *mr_rig_log(const struct mr_rig_store *store, const char *topic,
                                    int32_t partition);
/* The one of that core, with two directories; NULL: none. */
const struct mr_rig_log *mr_rig_log_at(const struct mr_rig_store *store, const char *topic,
                                       int32_t partition, uint32_t core);

#endif
