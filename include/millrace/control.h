/*
 * control: the control thread, opaque: metadata, coordinators, administration; it decides, and owns
 * the truth that is not bytes in a log.
 *
 * The life of a broker as control runs it: RECOVER to storage core 0 > OPEN __cluster_metadata-0 > read
 * and replay it > epoch + 1, LEADER_CHANGE, activation and registration records > OPEN every
 * partition of the image > publish the image > LISTEN > serve > (stop) DRAIN the data cores > STOP the
 * storage cores > stopped.
 */
#ifndef MILLRACE_CONTROL_H
#define MILLRACE_CONTROL_H

#include "millrace/base/arena.h"
#include "millrace/base/log.h"
#include "millrace/base/time.h"
#include "millrace/config.h"
#include "millrace/disk.h"
#include "millrace/plane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_control;

struct mr_control_plan {
    uint64_t heap_bytes; /* tables of control: grows in slabs up to this, refuses beyond */
    uint32_t timers_max;
};

/* A log directory, as meta.properties says. */
struct mr_log_dir {
    const char    *path;
    struct mr_uuid id;         /* zero when it is offline */
    bool           is_offline; /* it could not be read: the others serve */
};

struct mr_control_params {
    const struct mr_control_plan *plan;
    const struct mr_config       *config;
    const struct mr_endpoints    *endpoints;
    struct mr_port               *port;
    struct mr_disk               *disk; /* for quorum-state and snapshots; the thread's own */
    struct mr_log                *log;
    struct mr_arena              *arena;
    const char                   *log_dir;
    struct mr_str                 cluster_id;   /* from meta.properties */
    struct mr_uuid                directory_id; /* likewise */
    const struct mr_log_dir      *dirs; /* all of them, the one above first; NULL: there is only that one */
    uint32_t                      dir_count;
    uint64_t                      seed;
    uint8_t                       random[32]; /* for ids; from the kernel */
};

enum mr_control_state {
    MR_CONTROL_STARTING,
    MR_CONTROL_SERVING,
    MR_CONTROL_STOPPING,
    MR_CONTROL_STOPPED,
    MR_CONTROL_FAILED, /* see mr_control_why */
};

/* Bytes of arena that init takes, and the control thread made in them. */
size_t             mr_control_bytes(const struct mr_control_plan *plan);
struct mr_control *mr_control_init(const struct mr_control_params *params);

/* One turn: mail in, work in slices, timers, mail out. Returns whether there was work. */
bool     mr_control_turn(struct mr_control *control, struct mr_now now);
uint64_t mr_control_deadline_ns(const struct mr_control *control);

/* Begin a clean stop (idempotent). The thread's runner calls it when SIGTERM came. */
void mr_control_stop(struct mr_control *control, struct mr_now now);

/* What the control thread is doing, and the reason once it has failed. */
enum mr_control_state mr_control_state(const struct mr_control *control);
const char           *mr_control_why(const struct mr_control *control); /* of FAILED; "" otherwise */

/* What control counts, for metrics. Cost: the topics are gone through. */
struct mr_control_stats {
    uint64_t topics, partitions, groups;
    uint64_t requests_open, operations_open; /* requests and storage operations that are not answered yet */
    uint64_t heap_used, heap_bytes;
    uint64_t timers, timers_max;
    uint64_t metadata_offset; /* of the last record in the published image */
    uint64_t dirs_offline;    /* log directories that failed */
    bool     is_serving;
};
void mr_control_stats(const struct mr_control *control, struct mr_control_stats *out);

#endif
