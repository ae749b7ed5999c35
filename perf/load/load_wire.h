/*
 * load_wire: one blocking connection for what happens before, beside and after the load: versions,
 * metadata, topics, producer ids, offsets, groups.
 *
 * A call sends a request, waits for its answer and decodes it into memory of the connection, valid until
 * the next call. Every failure is a sentence in `error`. One thread at a time.
 */
#ifndef MILLRACE_PERF_LOAD_WIRE_H
#define MILLRACE_PERF_LOAD_WIRE_H

#include "millrace/base/arena.h"
#include "millrace/kafka/messages.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_LOAD_API_MAX 100

struct mr_load_wire {
    int             fd;
    char            address[300];
    int16_t         version_min[MR_LOAD_API_MAX]; /* the broker's; -1: not served */
    int16_t         version_max[MR_LOAD_API_MAX];
    int32_t         correlation;
    uint8_t        *in;
    uint32_t        in_size;
    void           *scratch_memory;
    struct mr_arena scratch;
    char            error[512];
};

/* A TCP connection to "HOST:PORT"; -1: failed, and `why` says so. */
int mr_load_wire_connect(const char *address, char *why, size_t why_size);

/* Connect and ask for the versions. On failure the wire is closed and `error` says why. */
bool mr_load_wire_open(struct mr_load_wire *wire, const char *address);
void mr_load_wire_close(struct mr_load_wire *wire);

/* The highest version of an API that both sides and the caller (`most`) know; -1: none. */
int16_t mr_load_wire_version(const struct mr_load_wire *wire, int16_t key, int16_t most);

/* One request and its answer, in mr_load_wire_version(key, most). */
bool mr_load_wire_call(struct mr_load_wire *wire, int16_t key, int16_t most, const void *request, void *response);

enum mr_load_coordinator {
    MR_LOAD_COORDINATOR_GROUP = 0, /* as FindCoordinator's key_type */
    MR_LOAD_COORDINATOR_TXN = 1,
};

/* Ask `broker` who coordinates `key` until somebody does, and open the wire to that one. */
bool mr_load_wire_coordinator(struct mr_load_wire *wire, const char *broker, enum mr_load_coordinator type, struct mr_str key);

/* A producer id; of a transactional id (null: none) from its coordinator, and then with its time limit. Waits while the
 * broker is still loading what it knows of them. */
bool mr_load_wire_producer_id(struct mr_load_wire *wire, struct mr_str transactional_id, int32_t timeout_ms, int64_t *id,
                              int16_t *epoch);

/* Say in `error` that a broker answered `what` with Kafka's error `code`; false, for returning. */
bool mr_load_wire_refused(struct mr_load_wire *wire, const char *what, int16_t code);

#endif
