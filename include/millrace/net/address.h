/*
 * address: numeric IP addresses and networks from text. IPv4 is kept as IPv4-mapped IPv6, so there is one
 * kind. No names: nothing is resolved here.
 *
 * Source: RFC 4291 2.2 and 2.3 (text forms, prefixes) and 2.5.5.2 (IPv4-mapped).
 */
#ifndef MILLRACE_NET_ADDRESS_H
#define MILLRACE_NET_ADDRESS_H

#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_address {
    uint8_t bytes[16];
};

struct mr_network {
    struct mr_address address;
    uint32_t          bits; /* that count, 0 to 128 */
};

#define MR_ADDRESS_IP4_BITS 96u /* of the prefix that makes an address IPv4 */

/* A decimal number of at most `digits` digits at the front of `text`, which loses it. */
static inline bool mr_address_number(struct mr_str *text, int32_t digits, uint32_t max, uint32_t *value)
{
    int32_t at = 0;
    *value = 0;
    while (at < text->len && at < digits && text->data[at] >= '0' && text->data[at] <= '9') {
        *value = *value * 10 + (uint32_t)(text->data[at++] - '0');
    }
    text->data += at;
    text->len -= at;
    return at > 0 && *value <= max;
}

static inline bool mr_address_parse_ip4(struct mr_str text, struct mr_address *out)
{
    *out = (struct mr_address){.bytes = {[10] = 0xff, [11] = 0xff}};
    for (int part = 0; part < 4; part++) {
        uint32_t value;
        if (part > 0 && (text.len < 1 || *text.data != '.')) {
            return false;
        }
        text.data += part > 0;
        text.len -= part > 0;
        if (!mr_address_number(&text, 3, 255, &value)) {
            return false;
        }
        out->bytes[12 + part] = (uint8_t)value;
    }
    return text.len == 0;
}

static inline int mr_address_hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Groups of hexadecimal digits; "::" once, for one or more groups of zeros. */
static inline bool mr_address_parse_ip6(struct mr_str text, struct mr_address *out)
{
    uint16_t groups[8] = {0};
    int      count = 0;
    int      gap = -1; /* groups before the "::" */
    int32_t  at = 0;
    if (text.len >= 2 && text.data[0] == ':' && text.data[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < text.len) {
        int32_t  start = at;
        uint32_t value = 0;
        for (; at < text.len && at - start < 4 && mr_address_hex(text.data[at]) >= 0; at++) {
            value = value << 4 | (uint32_t)mr_address_hex(text.data[at]);
        }
        struct mr_address tail; /* the last four bytes in IPv4's form */
        struct mr_str     rest = {.data = text.data + start, .len = text.len - start};
        if (count <= 6 && mr_address_parse_ip4(rest, &tail)) {
            groups[count++] = (uint16_t)(tail.bytes[12] << 8 | tail.bytes[13]);
            groups[count++] = (uint16_t)(tail.bytes[14] << 8 | tail.bytes[15]);
            break;
        }
        if (at == start || count == 8) {
            return false;
        }
        groups[count++] = (uint16_t)value;
        if (at == text.len) {
            break;
        }
        if (text.data[at++] != ':' || at == text.len) {
            return false;
        }
        if (text.data[at] == ':') {
            if (gap >= 0) {
                return false;
            }
            gap = count;
            at++;
        }
    }
    if (gap < 0 ? count != 8 : count > 7) {
        return false;
    }
    *out = (struct mr_address){{0}};
    for (int index = 0; index < count; index++) {
        int to = gap >= 0 && index >= gap ? 8 - count + index : index;
        out->bytes[2 * to] = (uint8_t)(groups[index] >> 8);
        out->bytes[2 * to + 1] = (uint8_t)groups[index];
    }
    return true;
}

static inline bool mr_address_parse(struct mr_str text, struct mr_address *out)
{
    return mr_address_parse_ip4(text, out) || mr_address_parse_ip6(text, out);
}

/* Whether it is an IPv4-mapped address. */
static inline bool mr_address_is_ip4(const struct mr_address *a)
{
    static const struct mr_address mapped = {.bytes = {[10] = 0xff, [11] = 0xff}};
    return memcmp(a->bytes, mapped.bytes, MR_ADDRESS_IP4_BITS / 8) == 0;
}

static inline bool mr_address_equal(const struct mr_address *a, const struct mr_address *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* "10.0.0.0/8", "fd00::/8", or one address. */
static inline bool mr_network_parse(struct mr_str text, struct mr_network *out)
{
    int32_t slash = 0;
    while (slash < text.len && text.data[slash] != '/') {
        slash++;
    }
    struct mr_str address = {.data = text.data, .len = slash};
    bool          is_ip4 = mr_address_parse_ip4(address, &out->address);
    out->bits = 128;
    if (!is_ip4 && !mr_address_parse_ip6(address, &out->address)) {
        return false;
    }
    if (slash == text.len) {
        return true;
    }
    struct mr_str bits = {.data = text.data + slash + 1, .len = text.len - slash - 1};
    if (!mr_address_number(&bits, 3, is_ip4 ? 32 : 128, &out->bits) || bits.len > 0) {
        return false;
    }
    out->bits += is_ip4 ? MR_ADDRESS_IP4_BITS : 0;
    return true;
}

static inline bool mr_network_has(const struct mr_network *network, const struct mr_address *address)
{
    uint32_t whole = network->bits / 8;
    uint32_t rest = network->bits % 8;
    if (memcmp(network->address.bytes, address->bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || (network->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0;
}

/* "address:count", the limit of one address; an IPv6 address may stand in brackets. */
static inline bool mr_address_limit_parse(struct mr_str text, struct mr_address *out, uint32_t *limit)
{
    int32_t colon = text.len - 1;
    while (colon >= 0 && text.data[colon] != ':') {
        colon--;
    }
    if (colon < 0) {
        return false;
    }
    struct mr_str address = {.data = text.data, .len = colon};
    struct mr_str number = {.data = text.data + colon + 1, .len = text.len - colon - 1};
    if (address.len >= 2 && address.data[0] == '[' && address.data[address.len - 1] == ']') {
        address.data++;
        address.len -= 2;
    }
    return mr_address_number(&number, 9, INT32_MAX, limit) && number.len == 0 &&
           mr_address_parse(address, out);
}

#endif
