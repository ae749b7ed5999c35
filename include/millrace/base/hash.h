/*
 * hash: a keyed hash (SipHash-1-3) for tables that strangers can fill, and Java's string hash, which
 * decides which coordinator partition a group belongs to.
 */
#ifndef MILLRACE_BASE_HASH_H
#define MILLRACE_BASE_HASH_H

#include "millrace/base/bytes.h"
#include "millrace/base/str.h"

#include <stdint.h>

struct mr_hash_key {
    uint64_t k0;
    uint64_t k1;
};

static inline uint64_t mr_hash_rotl(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

#define MR_SIP_ROUND(v0, v1, v2, v3)                                                               \
    do {                                                                                           \
        v0 += v1;                                                                                  \
        v2 += v3;                                                                                  \
        v1 = mr_hash_rotl(v1, 13) ^ v0;                                                            \
        v3 = mr_hash_rotl(v3, 16) ^ v2;                                                            \
        v0 = mr_hash_rotl(v0, 32);                                                                 \
        v2 += v1;                                                                                  \
        v0 += v3;                                                                                  \
        v1 = mr_hash_rotl(v1, 17) ^ v2;                                                            \
        v3 = mr_hash_rotl(v3, 21) ^ v0;                                                            \
        v2 = mr_hash_rotl(v2, 32);                                                                 \
    } while (0)

/* Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF" (2012), 1 and 3 rounds. */
static inline uint64_t mr_hash_bytes(const struct mr_hash_key *key, const void *data, size_t len)
{
    uint64_t       v0 = key->k0 ^ 0x736f6d6570736575ull;
    uint64_t       v1 = key->k1 ^ 0x646f72616e646f6dull;
    uint64_t       v2 = key->k0 ^ 0x6c7967656e657261ull;
    uint64_t       v3 = key->k1 ^ 0x7465646279746573ull;
    const uint8_t *at = data;
    size_t         left = len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word = mr_load_le64(at);
        v3 ^= word;
        MR_SIP_ROUND(v0, v1, v2, v3);
        v0 ^= word;
    }
    uint64_t last = (uint64_t)(len & 0xff) << 56;
    for (size_t index = 0; index < left; index++) {
        last |= (uint64_t)at[index] << (8 * index);
    }
    v3 ^= last;
    MR_SIP_ROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xff;
    for (int round = 0; round < 3; round++) {
        MR_SIP_ROUND(v0, v1, v2, v3);
    }
    return v0 ^ v1 ^ v2 ^ v3;
}

static inline uint64_t mr_hash_str(const struct mr_hash_key *key, struct mr_str s)
{
    return mr_hash_bytes(key, s.data, s.len > 0 ? (size_t)s.len : 0);
}

/* For numbers of our own making only (log ids, indexes): no key. */
static inline uint64_t mr_hash_u64(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
    return x ^ (x >> 32);
}

/*
 * java.lang.String.hashCode of a UTF-8 string: over UTF-16 code units, wrapping at 32 bits.
 * Malformed UTF-8 is hashed byte by byte; Kafka refuses such ids before they get here.
 */
static inline int32_t mr_hash_java(struct mr_str s)
{
    uint32_t hash = 0;
    for (int32_t at = 0; at < s.len;) {
        uint8_t  lead = (uint8_t)s.data[at];
        int32_t  more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
        uint32_t code = lead >= 0xf0 ? lead & 7u : lead >= 0xe0 ? lead & 15u : lead >= 0xc0 ? lead & 31u : lead;
        if (at + more >= s.len) {
            more = 0;
            code = lead;
        }
        for (int32_t index = 1; index <= more; index++) {
            code = (code << 6) | ((uint8_t)s.data[at + index] & 63u);
        }
        at += more + 1;
        if (code >= 0x10000u) {
            hash = hash * 31u + (0xd800u + ((code - 0x10000u) >> 10));
            hash = hash * 31u + (0xdc00u + ((code - 0x10000u) & 0x3ffu));
        } else {
            hash = hash * 31u + code;
        }
    }
    return (int32_t)hash;
}

#endif
