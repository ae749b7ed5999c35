/*
 * check_acked: what clients were promised, and whether the log keeps it.
 *
 * Every record a simulated producer sends carries a value unique in the run. The checker remembers which
 * values were sent, which (partition, offset, value) were acknowledged and what consumers have seen.
 * It finds: an acknowledged record that is gone or elsewhere, two values at one (partition,
 * offset) over the life of the log, a value nobody sent, and one value twice where the producer
 * is idempotent.
 *
 * Memory: the caller's arena; a run is bounded. Thread: the simulation's one.
 */
#ifndef MILLRACE_SIM_CHECK_ACKED_H
#define MILLRACE_SIM_CHECK_ACKED_H

#include "millrace/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CHECK_PARTITIONS 64

struct mr_check_acked {
    uint64_t *seen[MR_CHECK_PARTITIONS];  /* by offset: the value ever seen there + 1; 0: none */
    uint64_t *acked[MR_CHECK_PARTITIONS]; /* by offset: the value acknowledged there + 1 */
    uint8_t  *final_count;                /* by value: times in the final read */
    uint64_t  offsets_max;
    uint64_t  values_max;
    uint64_t  value_next;
    uint64_t  acked_count;
    int64_t   acked_end[MR_CHECK_PARTITIONS]; /* highest acknowledged offset + 1 */
    char      why[256];                       /* the first violation; "" while there is none */
};

void mr_check_acked_init(struct mr_check_acked *check, struct mr_arena *arena, uint64_t offsets_max,
                         uint64_t values_max);

/* A value to send: unique; the producer sends it until it knows. */
uint64_t mr_check_acked_new_value(struct mr_check_acked *check);

/* The broker acknowledged `value` at `offset`. */
void mr_check_acked_ack(struct mr_check_acked *check, uint32_t partition, int64_t offset, uint64_t value);

/* A consumer was given `value` at `offset`. */
void mr_check_acked_see(struct mr_check_acked *check, uint32_t partition, int64_t offset, uint64_t value,
                        bool is_final);

/* After the final read of everything: every acknowledgement was seen, nothing twice. */
bool mr_check_acked_finish(struct mr_check_acked *check);

static inline bool mr_check_acked_is_ok(const struct mr_check_acked *check)
{
    return check->why[0] == '\0';
}

#endif
