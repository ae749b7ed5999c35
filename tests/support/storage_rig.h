/*
 * storage_rig: storage cores on a simulated file system, and an endpoint that plays everybody who asks them.
 *
 *   rig_start     cores are made and the directory is recovered, as control does it
 *   rig_stop      cleanly: core 0 last         rig_kill   the process is gone, data is as it was written
 *   rig_cut       the power goes
 *
 * Operations go to the core that owns the log and are waited for. The clock is the rig's.
 */
#ifndef MILLRACE_TESTS_STORAGE_RIG_H
#define MILLRACE_TESTS_STORAGE_RIG_H

#include "millrace/base/log.h"
#include "millrace/batch.h"
#include "millrace/storage.h"
#include "sim_disk.h"

#define RIG_CORES_MAX 4u
#define RIG_LOG_DIR   "data"

struct storage_rig {
    struct mr_sim_fs       *fs;
    struct mr_storage_plan  plan;
    struct mr_log_config    config;
    uint32_t                core_count;
    struct mr_endpoints     endpoints;
    struct mr_storage_core *cores[RIG_CORES_MAX];
    struct mr_disk         *disks[RIG_CORES_MAX];
    struct mr_port         *ports[2 + RIG_CORES_MAX]; /* data (the asker), cores, control (nobody reads it) */
    struct mr_log           log;
    struct mr_arena         arena;                       /* ports and the log of messages */
    struct mr_arena         core_arenas[RIG_CORES_MAX];
    struct mr_now           now;
    uint64_t                seed;
    struct mr_recover_op    recovered;
    _Atomic uint64_t        hurry;
};

/* A formatted directory on a new file system; small segments, one core. */
void rig_init(struct storage_rig *rig);
void rig_deinit(struct storage_rig *rig);

/* For cmocka: *state is a rig. */
int rig_setup(void **state);
int rig_teardown(void **state);

enum mr_err rig_start(struct storage_rig *rig);
enum mr_err rig_stop(struct storage_rig *rig);
void        rig_kill(struct storage_rig *rig);
void        rig_cut(struct storage_rig *rig, enum mr_sim_cut cut);

/* One turn of all cores; whether there was work. */
bool rig_turn(struct storage_rig *rig);
/* Let all cores turn until nothing is left to do now. */
void rig_settle(struct storage_rig *rig);
/* Send an operation to a core; the answer comes with rig_wait. */
void rig_send(struct storage_rig *rig, uint32_t core, struct mr_storage_op *op);
void rig_wait(struct storage_rig *rig, const struct mr_storage_op *op);

struct rig_log {
    uint64_t log_id;
    uint32_t core;
    int64_t  start, end;
    bool     is_created;
};
/* The topic's id comes from its name. */
enum mr_err rig_open(struct storage_rig *rig, const char *topic, int32_t partition, struct rig_log *log);

/* A batch of `records` records with values of `bytes` bytes and timestamps from `timestamp` on; returns its base
 * offset (asserted OK). producer_id -1: none. */
struct rig_batch {
    uint32_t records, bytes;
    int64_t  timestamp;
    int64_t  producer_id;
    int32_t  sequence;
};
int64_t rig_append(struct storage_rig *rig, const struct rig_log *log, const struct rig_batch *batch);
/* `count` small batches of two records, timestamps from `timestamp` on. */
void rig_fill(struct storage_rig *rig, const struct rig_log *log, uint32_t count, int64_t timestamp);
/* rig_append, with what came of it. */
enum mr_err rig_try_append(struct storage_rig *rig, const struct rig_log *log, const struct rig_batch *batch,
                           struct mr_append_entry *entry);
/* The bytes of such a batch as a client sends it. */
uint32_t rig_batch_bytes(const struct rig_batch *batch, int64_t base_offset, uint8_t *out, uint32_t size);

/* The first offset that a read at `offset` returns; -1: none; asserts MR_OK. */
int64_t rig_read(struct storage_rig *rig, const struct rig_log *log, int64_t offset);
enum mr_err rig_delete_records(struct storage_rig *rig, const struct rig_log *log, int64_t offset);
void rig_list_offsets(struct storage_rig *rig, const struct rig_log *log, int64_t timestamp,
                      struct mr_list_offsets_entry *entry);

#endif
