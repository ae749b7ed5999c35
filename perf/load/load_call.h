/*
 * load_call: one request at a time over a connection of the generator's ring, and its answer decoded: what is asked beside the
 * load, and counts in it: commits of offsets, ends of transactions.
 *
 * One thread, the worker's.
 */
#ifndef MILLRACE_PERF_LOAD_CALL_H
#define MILLRACE_PERF_LOAD_CALL_H

#include "load_worker.h"

#include "millrace/kafka/api.h"

#define MR_LOAD_CALL_BYTES 1024u /* of a request */

struct mr_load_caller {
    struct mr_load_link    link;
    struct mr_load_worker *worker;
    const char            *what; /* of messages */
    void                  *user;
    /* The answer to the last request; its memory is gone afterwards. */
    void (*answered)(struct mr_load_caller *caller, const void *response);
    const struct mr_api *api;
    int16_t              version;
    bool                 is_waiting;
    int32_t              correlation;
    uint8_t              request[MR_LOAD_CALL_BYTES];
};

/* Connect to `address`; `answered`, `what` and `user` are the caller's. False: worker->error says why. */
bool mr_load_caller_open(struct mr_load_caller *caller, struct mr_load_worker *worker, const char *address);

/* Ask, when nothing is waited for. A request that cannot be encoded is an error of the run. */
void mr_load_caller_ask(struct mr_load_caller *caller, int16_t key, int16_t version, const void *request);

/* After the loop's last turn. */
void mr_load_caller_close(struct mr_load_caller *caller);

#endif
