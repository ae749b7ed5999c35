/*
 * load_topic: the topic of a run: created, found, ready, deleted; where its partitions are led.
 *
 * Written by the main thread. While the run goes on it may look for leaders again; the other threads read
 * leaders, and nodes, which are only ever added.
 */
#ifndef MILLRACE_PERF_LOAD_TOPIC_H
#define MILLRACE_PERF_LOAD_TOPIC_H

#include "load_options.h"
#include "load_wire.h"

#include <stdatomic.h>

#define MR_LOAD_NODES_MAX 64u

struct mr_load_topic {
    char             name[MR_LOAD_TEXT_MAX];
    uint32_t         partition_count;
    _Atomic int32_t *leaders; /* node of each partition */
    int64_t         *ends;    /* log end of each partition when the run began */
    int64_t         *starts;  /* log start                                    */
    _Atomic uint32_t version; /* how often leaders were looked for            */
    _Atomic uint32_t node_count;
    struct {
        int32_t id;
        char    address[300];
    } nodes[MR_LOAD_NODES_MAX];
};

/* Create it if asked, wait until every partition has a leader that answers, and learn the offsets. */
bool mr_load_topic_open(struct mr_load_topic *topic, struct mr_load_wire *wire,
                        const struct mr_load_options *options);
void mr_load_topic_free(struct mr_load_topic *topic);

/* Ask any node that answers who leads now; the version moves on even if nobody could say. */
void mr_load_topic_refresh(struct mr_load_topic *topic);

/* Delete it on the broker. */
bool mr_load_topic_delete(struct mr_load_wire *wire, const char *name);

/* HOST:PORT of a node, as it was said last; NULL: unknown. */
const char *mr_load_topic_address(const struct mr_load_topic *topic, int32_t node);

/* Both ends of every partition that `wire`'s node leads; false: some are not ready yet (error says which). */
bool mr_load_topic_offsets(const struct mr_load_topic *topic, struct mr_load_wire *wire, int32_t node,
                           int64_t timestamp, int64_t *offsets);

#endif
