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

uint32_t mr_crc32c_chain(const struct mr_chain *chain, uint32_t at, uint32_t len)
{
    mr_assert(at <= chain->bytes && len <= chain->bytes - at);
    uint32_t crc = 0;
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
