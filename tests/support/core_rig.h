/*
 * core_rig: one storage core on a disk of the test's choice, with the two endpoints that talk to it.
 *
 *   test ---- op ----> control or data endpoint -> ring -> storage core -> disk
 *        <--- answer ---
 *
 * The core turns only while the test waits for something, so nothing happens by itself: time moves with
 * mr_core_rig_advance. A crash is mr_core_rig_kill and another start. Thread: one.
 */
#ifndef MILLRACE_TESTS_CORE_RIG_H
#define MILLRACE_TESTS_CORE_RIG_H

#include "millrace/batch.h"
#include "millrace/base/log.h"
#include "millrace/storage.h"
#include "sim_disk.h"

#define MR_CORE_RIG_DATA    0u
#define MR_CORE_RIG_STORAGE 1u
#define MR_CORE_RIG_CONTROL 2u
#define MR_CORE_RIG_BATCH   (2u << 20) /* largest batch that the rig builds */

struct mr_core_rig {
    /* The test may change these between init and start (config also before each open). */
    struct mr_storage_plan plan;
    struct mr_log_config   config;
    const char            *log_dir;
    bool                   is_log_shown; /* the core's log lines go to stderr */

    struct mr_sim_fs       *fs; /* NULL on a disk of the test's own */
    struct mr_disk         *disk;
    struct mr_storage_core *core;
    struct mr_endpoints     endpoints;
    struct mr_port         *ports[3];
    struct mr_arena         arena;
    struct mr_log           log;
    struct mr_now           now;
    uint64_t                lives;
    void                   *memory;
    size_t                  memory_bytes;
    uint8_t                *bytes; /* MR_CORE_RIG_BATCH, for building */
    struct mr_storage_op   *answered;   /* the newest STORAGE_DONE that nobody waited for */
    uint32_t                answers;    /* STORAGE_DONE so far */
    uint32_t                moved;      /* MOVED entries so far */
    uint32_t                offlines;   /* OFFLINE so far */
    int64_t                 moved_to;   /* high watermark of the newest */
    char                    last_error[512]; /* newest line of level ERROR */
    char                    error_before[512];
    char                    last_warning[512]; /* likewise of level WARN */
};

/* Small sizes, every setting far away from triggering, a formatted directory on a new simulated device. */
void mr_core_rig_init(struct mr_core_rig *rig);
/* The same on another disk, whose `log_dir` holds meta.properties already. */
void mr_core_rig_init_on(struct mr_core_rig *rig, struct mr_disk *disk, const char *log_dir);
void mr_core_rig_deinit(struct mr_core_rig *rig);
/* What `millrace format` writes. */
extern const char mr_core_rig_properties[];

/* A new life: core, RECOVER. */
enum mr_err mr_core_rig_start(struct mr_core_rig *rig);
/* The process ends without a word; the device stays. */
void mr_core_rig_kill(struct mr_core_rig *rig);
/* The power goes, on a simulated device. */
void mr_core_rig_cut(struct mr_core_rig *rig, enum mr_sim_cut cut, uint64_t seed);
enum mr_err mr_core_rig_stop(struct mr_core_rig *rig);

/* One turn; whether there was work. */
bool mr_core_rig_turn(struct mr_core_rig *rig);
/* Until there is nothing to do now. */
void mr_core_rig_settle(struct mr_core_rig *rig);
/* `ms` later, in steps of the core's deadlines. */
void mr_core_rig_advance(struct mr_core_rig *rig, int64_t ms);

/* Put an operation into the core's mail without a turn; `endpoint` is data or control. */
void mr_core_rig_send(struct mr_core_rig *rig, uint32_t endpoint, struct mr_storage_op *op);
/* Send and turn until the answer. Returns op->err. */
enum mr_err mr_core_rig_do(struct mr_core_rig *rig, struct mr_storage_op *op);
void mr_core_rig_release(struct mr_core_rig *rig, uint64_t page);

/* Open "topic"-partition with rig->config (is_internal: it may use the reserve); the log id. */
uint64_t mr_core_rig_open(struct mr_core_rig *rig, const char *topic, int32_t partition, bool is_internal);
enum mr_err mr_core_rig_configure(struct mr_core_rig *rig, uint64_t log_id);
enum mr_err mr_core_rig_drop(struct mr_core_rig *rig, uint64_t log_id);

/* Build a batch of `count` records of `value_bytes` in rig->bytes, timestamps from `timestamp` on, 1 apart. */
uint32_t mr_core_rig_batch(struct mr_core_rig *rig, uint32_t count, uint32_t value_bytes, int64_t timestamp);
/* Append such a batch with acks=-1; the result is the entry's, base offset or -1 in *offset (may be NULL). */
enum mr_err mr_core_rig_append(struct mr_core_rig *rig, uint64_t log_id, uint32_t count, uint32_t value_bytes,
                               int64_t timestamp, int64_t *offset);

/* Read whole batches at `offset`, copy at most `max` bytes to `to` (may be NULL), release; *bytes: how many. */
enum mr_err mr_core_rig_read(struct mr_core_rig *rig, uint64_t log_id, int64_t offset, uint32_t max, uint8_t *to,
                             uint32_t *bytes);
struct mr_list_offsets_entry mr_core_rig_list(struct mr_core_rig *rig, uint64_t log_id, int64_t timestamp);
enum mr_err mr_core_rig_delete_records(struct mr_core_rig *rig, uint64_t log_id, int64_t offset);
struct mr_log_stat_entry mr_core_rig_stat(struct mr_core_rig *rig, uint64_t log_id, uint64_t *free_bytes);

/* Size of a file of the log directory on the simulated device; -1: absent. */
int64_t mr_core_rig_file(const struct mr_core_rig *rig, const char *name);

#endif
