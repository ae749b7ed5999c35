/*
 * checksum: the Internet checksum, where the network card does not do it.
 *
 * A sum is of big-endian 16-bit words, not folded yet, so that the parts of a packet can be added one after the
 * other; only the last part may have an odd length.
 *
 * Source: RFC 1071; the pseudo headers of RFC 9293 3.1 and RFC 8200 8.1.
 */
#ifndef MILLRACE_CHECKSUM_H
#define MILLRACE_CHECKSUM_H

#include "millrace/base/bytes.h"
#include "millrace/net/address.h"

#include <stddef.h>

static inline uint64_t mr_checksum_add(uint64_t sum, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (; len >= 4; at += 4, len -= 4) {
        sum += mr_load_be32(at); /* 2^16 is 1 in this arithmetic, so that words of 32 bits add up alike */
    }
    if (len >= 2) {
        sum += mr_load_be16(at);
        at += 2;
        len -= 2;
    }
    return len > 0 ? sum + ((uint64_t)at[0] << 8) : sum;
}

/* What the header field holds; over a packet that includes a right checksum it is 0. */
static inline uint16_t mr_checksum_fold(uint64_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

/* IPv4-mapped addresses sum up as their last four bytes, if the prefix is left out. */
static inline uint64_t mr_checksum_pseudo(const struct mr_address *a, const struct mr_address *b, bool is_ip4,
                                          uint8_t protocol, uint32_t len)
{
    size_t skip = is_ip4 ? 12 : 0;
    uint64_t sum = mr_checksum_add(protocol, a->bytes + skip, 16 - skip);
    return mr_checksum_add(sum + len, b->bytes + skip, 16 - skip);
}

#endif
