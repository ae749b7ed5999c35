/*
 * data_rig: a data core between a simulated network and a storage and a control that the test plays, in one
 * thread. Storage keeps four logs as plain bytes and answers at once, unless it is told to hold its answers
 * back; operations take effect in the order in which they come, but what an append adds is seen only when
 * it and those before it are answered (acks=0: at once). Control keeps what is forwarded to it.
 *
 * Memory: mr_test_memory, never given back. The topic is "t", all of its partitions are led here.
 */
#ifndef MILLRACE_TESTS_DATA_RIG_H
#define MILLRACE_TESTS_DATA_RIG_H

#include "data_core.h"

#define MR_DATA_RIG_LOGS     4 /* unless `adjust` sets log_count */
#define MR_DATA_RIG_LOGS_MAX 1024
#define MR_DATA_RIG_OPS      64
#define MR_DATA_RIG_WATCHES  2048

struct mr_sim_net;
struct mr_sim_peer;

struct mr_data_rig_log {
    uint8_t *bytes; /* batches, one after the other */
    uint32_t len;
    int64_t end;
};

struct mr_data_rig_watch {
    uint64_t log_id;
    uint64_t token;
    int64_t offset;
    bool is_live;
};

struct mr_data_rig_unseen {
    uint64_t log_id;
    int64_t base_offset;
    const struct mr_storage_op *op;
    bool is_answered;
};

struct mr_data_rig {
    struct mr_arena arena;
    struct mr_endpoints endpoints;
    struct mr_port data;
    struct mr_port storage;
    struct mr_port control;
    struct mr_sim_net *net;
    struct mr_log log;
    struct mr_config config;
    struct mr_data_plan plan;
    struct mr_data_core *core;
    struct mr_now now;
    struct mr_image image;
    struct mr_image_topic topic;
    const struct mr_image_topic *topics[1];
    struct mr_image_partition partitions[MR_DATA_RIG_LOGS_MAX];
    struct mr_image_broker broker;
    int32_t nodes[1];

    /* what storage does and has seen */
    uint32_t log_count; /* partitions of the topic, each with its log */
    struct mr_data_rig_log logs[MR_DATA_RIG_LOGS_MAX];
    struct mr_data_rig_watch watches[MR_DATA_RIG_WATCHES];
    bool is_storage_held; /* operations are kept, not answered */
    struct mr_storage_op *held[MR_DATA_RIG_OPS];
    uint32_t held_count;
    struct mr_data_rig_unseen unseen[MR_DATA_RIG_LOGS_MAX]; /* appends, in order */
    uint32_t unseen_count;
    uint32_t ops, reads, entries_read, appends, releases, lent, moves, unwatches;

    /* what control has seen */
    struct mr_forward *forwards[MR_DATA_RIG_OPS];
    uint32_t forward_count, reply_dones, conn_closes, image_dones, drained;
};

/* A rig with a core that listens. Before the core is made, `adjust` (may be NULL) may change the rig's
 * configuration and plan. */
struct mr_data_rig *mr_data_rig_create_with(void (*adjust)(struct mr_data_rig *));
struct mr_data_rig *mr_data_rig_create(void);
void mr_data_rig_destroy(struct mr_data_rig *rig);

/* Everybody takes turns until nothing moves. */
void mr_data_rig_run(struct mr_data_rig *rig);
/* Storage's part of it, for who turns the core alone. */
void mr_data_rig_play_storage(struct mr_data_rig *rig);
void mr_data_rig_pass_ms(struct mr_data_rig *rig, uint64_t ms);

/* Control publishes the image, as changed by the test. */
void mr_data_rig_send_image(struct mr_data_rig *rig);
/* Control answers a request that was forwarded. */
void mr_data_rig_reply(struct mr_data_rig *rig, struct mr_forward *forward);

/* Answer the held operation number `index`; those behind it move up. */
void mr_data_rig_storage_release(struct mr_data_rig *rig, uint32_t index);
/* The end of what may be seen of a log. */
int64_t mr_data_rig_visible_end(const struct mr_data_rig *rig, uint64_t log_id);
uint32_t mr_data_rig_live_watches(const struct mr_data_rig *rig);

/* ---- A client ---- */

struct mr_sim_peer *mr_data_rig_join(struct mr_data_rig *rig);
void mr_data_rig_ask(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t correlation,
                     const void *in);
/* Run, then take the next answer, decoded; false when there is none. */
bool mr_data_rig_answer(struct mr_data_rig *rig, struct mr_sim_peer *peer, int16_t key,
                        int16_t version, int32_t *correlation, void *out);

/* Produce v9 of one batch. */
void mr_data_rig_produce_to(struct mr_data_rig *rig, struct mr_sim_peer *peer, int32_t correlation,
                            int16_t acks, struct mr_str topic, int32_t partition, uint32_t records,
                            uint32_t value_bytes);
/* To "t", with acks=-1, one small record. */
void mr_data_rig_produce(struct mr_data_rig *rig, struct mr_sim_peer *peer, int32_t correlation,
                         int32_t partition);

struct mr_data_rig_fetch {
    int32_t session_id, session_epoch, max_wait_ms, min_bytes, max_bytes;
    uint32_t first, count; /* partitions named */
    int64_t offset;
};

/* Fetch v12 from "t". */
void mr_data_rig_fetch(struct mr_sim_peer *peer, int32_t correlation, struct mr_data_rig_fetch ask);

#endif
