/*
 * sim_link: a path between two hosts that loses, doubles, delays, reorders and changes packets, by seed.
 *
 * Memory: packets are from malloc and counted; a packet is freed when its last reference goes. Thread: one.
 */
#ifndef MILLRACE_TESTS_SIM_LINK_H
#define MILLRACE_TESTS_SIM_LINK_H

#include "millrace/base/list.h"
#include "millrace/base/prng.h"
#include "millrace/base/time.h"

#include <stdbool.h>

/* One direction. Chances are out of 10,000. */
struct mr_sim_link_faults {
    uint64_t delay_ns;
    uint64_t jitter_ns;      /* more for some packets, which so overtake each other */
    uint64_t bytes_per_s;    /* 0: no limit */
    uint32_t queue_bytes;    /* in front of the limit; what does not fit is lost */
    uint32_t mark_bytes;     /* a queue longer than this marks (ECN); 0: never */
    uint32_t loss;
    uint32_t burst_begin;    /* chance that a burst of losses begins (Gilbert) */
    uint32_t burst_end;
    uint32_t duplicate;
    uint32_t reorder;
    uint32_t corrupt;
    uint32_t mtu;            /* larger packets vanish; 0: none does */
};

struct mr_sim_packet {
    struct mr_list link;
    uint64_t at_ns;
    uint64_t order;
    uint32_t to;
    uint32_t len;
    uint8_t ecn;
    uint8_t *bytes;
};

struct mr_sim_link {
    struct mr_prng prng;
    struct mr_sim_link_faults faults[2]; /* towards host 0, towards host 1 */
    uint64_t free_ns[2];                 /* when the limit has let through what is queued */
    bool is_burst[2];
    struct mr_list packets; /* by time */
    uint64_t order;
    uint32_t live; /* packets that are allocated */
    uint64_t sent;
    uint64_t lost;
};

void mr_sim_link_init(struct mr_sim_link *link, uint64_t seed);
/* A packet of `len` bytes for host `to`; `overhead` counts for the limits. */
void mr_sim_link_send(struct mr_sim_link *link, uint64_t now_ns, uint32_t to, uint8_t ecn, const uint8_t *bytes,
                      uint32_t len, uint32_t overhead);
uint64_t mr_sim_link_next_ns(const struct mr_sim_link *link);
/* The next packet that is due, the caller's; NULL: none is. */
struct mr_sim_packet *mr_sim_link_take(struct mr_sim_link *link, uint64_t now_ns);
void mr_sim_link_free(struct mr_sim_link *link, struct mr_sim_packet *packet);
/* Everything on its way is lost. */
void mr_sim_link_clear(struct mr_sim_link *link);

#endif
