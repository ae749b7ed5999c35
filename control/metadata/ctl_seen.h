/*
 * ctl_seen: a set of (number, bytes) keys in a request's memory, for telling what a request names
 * twice.
 *
 * Requests name as many things as their bytes hold, and comparing each with each would let one
 * client stop the control thread for minutes. The hash is keyed, so names cannot be chosen to
 * collide. Capacity is given at the start. Thread: control.
 */
#ifndef MILLRACE_CONTROL_CTL_SEEN_H
#define MILLRACE_CONTROL_CTL_SEEN_H

#include "control_private.h"

struct mr_ctl_seen_key {
    const void *data;
    int32_t     len;
    int32_t     number;
    uint64_t    hash;
    uint32_t    times; /* how often it was added */
    int32_t     last;  /* the tag of the last time */
};

struct mr_ctl_seen {
    const struct mr_hash_key *hash_key;
    struct mr_ctl_seen_key   *keys; /* in the order of first appearance */
    uint32_t                  count;
    uint32_t                  room;
    uint32_t                 *slots; /* index + 1 into keys */
    uint32_t                  mask;
};

/* False: no memory. */
bool mr_ctl_seen_init(struct mr_ctl_seen *seen, struct mr_control *control,
                      struct mr_request *request, uint64_t room);

/* Add a key; its bytes must stay. Returns its entry, in which `times` counts this time too. */
struct mr_ctl_seen_key *mr_ctl_seen_add(struct mr_ctl_seen *seen, int32_t number, const void *data,
                                        int32_t len, int32_t tag);

/* NULL: never added. */
struct mr_ctl_seen_key *mr_ctl_seen_find(const struct mr_ctl_seen *seen, int32_t number,
                                         const void *data, int32_t len);

#endif
