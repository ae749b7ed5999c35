/*
 * bytes: big-endian integers at unaligned addresses. Kafka is big-endian everywhere.
 *
 * The journal's own formats are little-endian on purpose (they never leave the machine); they use
 * the _le functions, so that a dump is the same on every host.
 */
#ifndef MILLRACE_BASE_BYTES_H
#define MILLRACE_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t mr_load_be16(const void *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap16(value);
}

static inline uint32_t mr_load_be32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}

static inline uint64_t mr_load_be64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap64(value);
}

static inline void mr_store_be16(void *at, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(at, &value, sizeof value);
}

static inline void mr_store_be32(void *at, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(at, &value, sizeof value);
}

static inline void mr_store_be64(void *at, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(at, &value, sizeof value);
}

static inline uint16_t mr_load_le16(const void *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void mr_store_le16(void *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline uint32_t mr_load_le32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t mr_load_le64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void mr_store_le32(void *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void mr_store_le64(void *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ported to little-endian hosts only");

#endif
