/*
 * crc32c: Castagnoli's CRC by isa-l, in the usual convention: start at 0, and the CRC of "123456789"
 * is e3069283. isa-l's crc32_iscsi is the bare register, so both ends are inverted here.
 */
#include "millrace/batch.h"

#include <isa-l/crc.h>

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len)
{
    /* isa-l's prototype lacks the const and counts in int. */
    union {
        const void    *in;
        unsigned char *out;
    } at = {.in = data};
    uint32_t bare = ~crc;
    while (len > 0) {
        int part = len > (1u << 30) ? 1 << 30 : (int)len;
        bare = crc32_iscsi(at.out, part, bare);
        at.out += part;
        len -= (size_t)part;
    }
    return ~bare;
}

uint32_t mr_crc32c_chain(uint32_t crc, const struct mr_chain *chain, uint32_t at, uint32_t len)
{
    mr_assert(at <= chain->bytes && len <= chain->bytes - at);
    for (uint32_t index = 0; len > 0; index++) {
        const struct mr_span *span = &chain->spans[index];
        if (at >= span->len) {
            at -= span->len;
            continue;
        }
        uint32_t part = span->len - at < len ? span->len - at : len;
        crc = mr_crc32c(crc, span->data + at, part);
        len -= part;
        at = 0;
    }
    return crc;
}

/*
 * A CRC is a remainder of polynomials over GF(2), so `len` more bytes behind a piece multiply its CRC by x^(8 * len),
 * and what those bytes are is added. Bits are reflected: bit 31 is x^0.
 */
#define POLYNOMIAL 0x82f63b78u

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; a != 0; a <<= 1) {
        product ^= (a & 0x80000000u) != 0 ? b : 0;
        b = (b >> 1) ^ ((b & 1) != 0 ? POLYNOMIAL : 0);
    }
    return product;
}

uint32_t mr_crc32c_join(uint32_t first, uint32_t second, uint32_t len)
{
    /* x^(8 * 2^n) modulo the polynomial */
    static const uint32_t powers[32] = {
        0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
        0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
        0xfe7740e6, 0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915, 0x734d5309, 0xbc1ac763, 0x7d0722cc,
        0xd289cabe, 0xe94ca9bc, 0x05b74f3f, 0xa51e1f42, 0x40000000, 0x20000000, 0x08000000, 0x00800000,
    };
    for (uint32_t bit = 0; len != 0; bit++, len >>= 1) {
        if ((len & 1) != 0) {
            first = multiply(first, powers[bit]);
        }
    }
    return first ^ second;
}
