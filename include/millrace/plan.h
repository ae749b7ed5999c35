/*
 * plan: how much of everything there will be, from the configuration and the machine; printed by
 * `millrace plan`, mapped at start, never exceeded afterwards.
 *
 * Every number is a sum or product with its reason beside it in control/boot/plan.c. Memory is reserved
 * address space: a page costs something when it is first touched.
 */
#ifndef MILLRACE_PLAN_H
#define MILLRACE_PLAN_H

#include "millrace/config.h"
#include "millrace/control.h"
#include "millrace/dataplane.h"
#include "millrace/plane.h"
#include "millrace/storage.h"

#include <stdbool.h>
#include <stdint.h>

/* What the plan needs to know of the machine. */
struct mr_plan_machine {
    uint32_t cpu_count;    /* CPUs that this process may run on */
    uint64_t memory_bytes; /* of the machine, or of the control group when that is less */
};

#define MR_PLAN_CPU_ANY (-1)

struct mr_plan {
    struct mr_endpoints endpoints;
    uint32_t thread_count; /* core threads: data_count when roles are shared, else the sum */
    bool is_shared;        /* each core thread has both roles */
    int32_t data_cpus[MR_CORES_MAX];    /* MR_PLAN_CPU_ANY: not pinned */
    int32_t storage_cpus[MR_CORES_MAX]; /* with separate roles */
    uint64_t spin_ns;

    struct mr_data_plan data;       /* per data core */
    struct mr_storage_plan storage; /* per storage core */
    struct mr_control_plan control;

    uint32_t ring_slots;   /* of each ring between two endpoints */
    uint32_t spill_slots;  /* of each sender's overflow beside it */
    uint32_t wait_entries; /* submissions per io_uring */
    uint32_t log_lines;    /* per thread */
    uint32_t trace_entries; /* per core */

    /* Sizes in bytes, filled by mr_plan_measure. */
    uint64_t data_core_bytes;
    uint64_t transport_bytes; /* per data core */
    uint64_t storage_core_bytes;
    uint64_t disk_bytes; /* per storage core, and control's */
    uint64_t control_bytes;
    uint64_t wait_bytes;  /* per thread */
    uint64_t plane_bytes; /* all rings and spills */
    uint64_t log_bytes;   /* per thread */
    uint64_t trace_bytes; /* per core */
    uint64_t total_bytes;
    uint64_t journal_disk_bytes; /* at most, all cores */
    uint64_t files_max;          /* descriptors at most */
};

/* False: `why` names the key and what is wrong with it. Pure arithmetic. */
bool mr_plan_make(const struct mr_config *config, const struct mr_plan_machine *machine,
                  struct mr_plan *plan, char *why, uint32_t why_size);

/* Ask every part how much memory it takes and add up. */
void mr_plan_measure(const struct mr_config *config, struct mr_plan *plan);

/* The plan as text, a line per term; each line goes to `say`. */
void mr_plan_print(const struct mr_config *config, const struct mr_plan *plan,
                   void (*say)(void *user, const char *line), void *user);

/* The addresses that stand in `listeners`, in order: the index is the listener's number. Only PLAINTEXT is
 * served. Returns the count, at most `max`; -1: `why` says which entry is wrong and how. */
int mr_plan_listeners(const struct mr_config *config, struct mr_endpoint *endpoints, uint32_t max,
                      char *why, uint32_t why_size);

#endif
