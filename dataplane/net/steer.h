/*
 * steer: which data core a received frame is for, when several share a card.
 *
 *   TCP             the core that the addresses and ports hash to (Toeplitz, as cards do receive side scaling)
 *   ICMP errors     the core of the connection that they are about
 *   ARP and neighbour discovery that tell something: every core, each has its own table
 *   anything else   whoever has received it: requests are answered once
 *
 * A card that steers by the same key puts almost all frames where they belong; one that steers differently, or not at
 * all, costs a copy per frame and nothing else. Frames are not checked here: a wrong one goes anywhere.
 *
 * Source: Microsoft, "RSS hashing types" (the hash and its test vectors).
 */
#ifndef MILLRACE_NET_STEER_H
#define MILLRACE_NET_STEER_H

#include "millrace/net/nic.h"

#include <stdint.h>

#define MR_STEER_KEY  sizeof((struct mr_nic_params *)0)->steer_key
#define MR_STEER_HERE UINT32_MAX       /* whoever has received it */
#define MR_STEER_ALL  (UINT32_MAX - 1) /* all of them */

struct mr_steer {
    uint8_t key[MR_STEER_KEY];
    uint32_t lanes;
};

/* The hash of `len` bytes, at most MR_STEER_KEY - 4. */
uint32_t mr_steer_hash(const uint8_t key[MR_STEER_KEY], const uint8_t *bytes, uint32_t len);

/* A core's number, or one of the above. */
uint32_t mr_steer_frame(const struct mr_steer *s, const uint8_t *frame, uint32_t len);

#endif
