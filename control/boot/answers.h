/*
 * answers: what is asked over HTTP: /metrics, /health (are all threads alive?), /ready (does the broker take requests?).
 *
 * Threads: start belongs to the main thread; the rest runs on the HTTP library's, which may wait a second for an answer.
 */
#ifndef MILLRACE_CONTROL_ANSWERS_H
#define MILLRACE_CONTROL_ANSWERS_H

#include "boot/sampler.h"
#include "millrace/config.h"

struct mr_answers_params {
    struct mr_sampler *sampler;
    void (*wake)(void);             /* rings every thread's doorbell */
    const _Atomic bool *is_running; /* threads have reached their loops */
};

/* Listen where the configuration says, if it says so. False: `why` says why not. */
bool mr_answers_start(const struct mr_config *config, const struct mr_answers_params *params, char *why, size_t why_size);

#endif
