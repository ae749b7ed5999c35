/*
 * sim_idle: what a broker at rest may hold, and what one turn of it may do (reliability.md P10, P11).
 *
 *   conservation   when nobody waits for an answer, pages, tasks, requests and buffers are back where they came from,
 *                  and no more files are open than segments and the fixed ones; after a clean stop none is
 *   work           a turn of a serving broker begins a bounded number of disk operations and requests, and control makes a
 *                  bounded number of bytes
 *
 * Reading and judging are apart, so that the judge can be shown what is wrong. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_IDLE_H
#define MILLRACE_TESTS_SIM_IDLE_H

#include "sim_broker.h"

/* What is held now. */
struct mr_sim_idle {
    uint32_t storage_cores;
    uint32_t requests;       /* of the data core */
    uint32_t net_buffers;    /* received bytes that nobody gave back */
    uint32_t control_requests, control_ops;
    uint32_t tasks;          /* of all storage cores */
    uint32_t parked;         /* operations that wait for room or a task */
    uint64_t pinned_bytes;   /* tail pages that readers hold */
    uint32_t cold_pages;     /* taken from the pools of cold reads */
    uint32_t files;          /* open, apart from segments */
};

/* Each plane's part is read in a file of its own: the planes do not know each other's insides. */
void mr_sim_idle_storage(const struct mr_storage_core *core, struct mr_sim_idle *idle);
void mr_sim_idle_data(const struct mr_data_core *core, struct mr_sim_idle *idle);
void mr_sim_idle_control(const struct mr_control *control, struct mr_sim_idle *idle);
/* Bytes of answers and records that its last turn made (MR_CONTROL_WORK). */
uint64_t mr_sim_idle_control_work(const struct mr_control *control);

void mr_sim_idle_read(const struct mr_sim_broker *broker, struct mr_sim_idle *idle);

/* NULL: nothing is held that should not be; otherwise what. */
const char *mr_sim_idle_judge(const struct mr_sim_idle *idle);

/* NULL: no turn did too much; otherwise which. */
const char *mr_sim_idle_judge_work(const struct mr_sim_work *work);

#endif
