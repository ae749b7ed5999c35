/*
 * varint: Kafka's zig-zag variable-length integers inside record batches.
 *
 * A 32-bit one takes at most 5 bytes, a 64-bit one at most 10; longer ones are refused. The fast
 * path reads where at least 10 bytes are left.
 */
#ifndef MILLRACE_STORAGE_VARINT_H
#define MILLRACE_STORAGE_VARINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads at *at, before end; false when the bytes end or the number is too long. */
static inline bool mr_varint_load64(const uint8_t **at, const uint8_t *end, int64_t *value)
{
    uint64_t raw = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (*at == end) {
            return false;
        }
        uint8_t byte = *(*at)++;
        raw |= (uint64_t)(byte & 0x7fu) << shift;
        if (byte < 0x80u) {
            *value = (int64_t)(raw >> 1) ^ -(int64_t)(raw & 1);
            return true;
        }
    }
    return false;
}

static inline bool mr_varint_load32(const uint8_t **at, const uint8_t *end, int32_t *value)
{
    uint32_t raw = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (*at == end) {
            return false;
        }
        uint8_t byte = *(*at)++;
        raw |= (uint32_t)(byte & 0x7fu) << shift;
        if (byte < 0x80u) {
            *value = (int32_t)(raw >> 1) ^ -(int32_t)(raw & 1);
            return true;
        }
    }
    return false;
}

/* Writes at most 10 bytes; returns how many. */
static inline uint32_t mr_varint_store(uint8_t *out, int64_t value)
{
    uint64_t raw = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    uint32_t len = 0;
    while (raw >= 0x80u) {
        out[len++] = (uint8_t)(raw | 0x80u);
        raw >>= 7;
    }
    out[len++] = (uint8_t)raw;
    return len;
}

static inline uint32_t mr_varint_bytes(int64_t value)
{
    uint64_t raw = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    uint32_t len = 1;
    while (raw >= 0x80u) {
        raw >>= 7;
        len++;
    }
    return len;
}

#endif
