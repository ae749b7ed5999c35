/*
 * sim_broker: one life of a broker in one thread: data core, storage cores and control on the simulated
 * network and disk, with real rings between them. When it ends, cleanly or not, only the disk remains.
 *
 * Each of them is a thread of the real broker: `who` is its endpoint (plane.h). What a turn does is counted, and
 * what is idle is looked at (sim_idle.c).
 *
 * Memory: address space of its own, given back at the end. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_BROKER_H
#define MILLRACE_TESTS_SIM_BROKER_H

#include "millrace/base/prng.h"
#include "millrace/config.h"
#include "millrace/control.h"
#include "millrace/dataplane.h"
#include "millrace/base/log.h"
#include "millrace/plane.h"
#include "millrace/storage.h"
#include "sim_disk.h"
#include "sim_transport.h"

#define MR_SIM_LOG_DIR    "/data"
#define MR_SIM_CLUSTER_ID "sim-cluster"

#define MR_SIM_STORAGE_MAX 3u
#define MR_SIM_RESERVE_BYTES (1u << 20) /* millrace.disk.reserve.bytes */
#define MR_SIM_THREADS_MAX (2u + MR_SIM_STORAGE_MAX)

/* What all lives have in common: small, so that every limit is near. */
struct mr_sim_site {
    struct mr_config       config;
    struct mr_data_plan    data_plan;
    struct mr_storage_plan storage_plan;
    struct mr_control_plan control_plan;
    struct mr_endpoints    endpoints;
    bool                   is_verbose; /* the broker's log to stderr */
};

void mr_sim_site_init(struct mr_sim_site *site);

/* Change one setting; asserts that the text is valid. */
void mr_sim_site_set(struct mr_sim_site *site, enum mr_config_id id, const char *text);

/* sim_format.c: what `millrace format` leaves in the log directory. */
void mr_sim_format(const struct mr_sim_site *site, struct mr_sim_fs *fs, int64_t now_unix_ms);

/* The most that one turn of a serving broker has done. */
struct mr_sim_work {
    uint64_t storage_ops;  /* disk operations submitted by a storage core */
    uint64_t control_ops;  /* and by control */
    uint64_t control_bytes; /* of answers and records that control made */
    uint64_t data_requests; /* requests begun by the data core */
};

struct mr_sim_broker {
    const struct mr_sim_site *site;
    struct mr_sim_fs         *fs;
    void                     *memory; /* NULL: no life */
    size_t                    bytes;
    struct mr_arena           arena;
    struct mr_arena           storage_arenas[MR_SIM_STORAGE_MAX];
    struct mr_port           *ports[MR_SIM_THREADS_MAX];
    struct mr_log             log;
    struct mr_sim_net        *net;
    uint32_t                  threads; /* endpoints: data core, storage cores, control */
    struct mr_disk           *storage_disks[MR_SIM_STORAGE_MAX];
    struct mr_disk           *control_disk;
    struct mr_data_core      *data;
    struct mr_storage_core   *storage[MR_SIM_STORAGE_MAX];
    struct mr_control        *control;
    _Atomic uint64_t          stop_hurry;
    struct mr_sim_work        work;
};

/* Begin a life of the site's endpoints on what the disk holds; false: a part of the broker refused its memory. */
bool mr_sim_broker_start(struct mr_sim_broker *broker, const struct mr_sim_site *site, struct mr_sim_fs *fs,
                         struct mr_prng *prng);

/* Leave no trace but the disk; the caller then says what happened to it (sim_disk.h, Power). */
void mr_sim_broker_end(struct mr_sim_broker *broker, struct mr_now now);

/* One turn of one thread. Blocking disk operations move the clock, also *now. Returns whether it was busy. */
bool mr_sim_broker_turn(struct mr_sim_broker *broker, uint32_t who, struct mr_now *now);

/* The next thing that is due without anybody's doing; MR_NEVER: nothing. */
uint64_t mr_sim_broker_next_ns(const struct mr_sim_broker *broker, uint64_t now_ns);

/* Whether somebody has mail or the network has events. */
bool mr_sim_broker_has_work(const struct mr_sim_broker *broker);

/* The log lines of this moment, to stderr when the site is verbose. */
void mr_sim_broker_log(struct mr_sim_broker *broker, struct mr_now now);

/* Move both clocks. */
void mr_sim_clock_to(struct mr_now *now, uint64_t mono_ns);

#endif
