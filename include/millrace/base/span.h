/*
 * span: bytes in somebody else's buffer. A chain is several spans that are one run of bytes.
 *
 * A span owns nothing; whoever hands one out says until when the bytes live.
 */
#ifndef MILLRACE_BASE_SPAN_H
#define MILLRACE_BASE_SPAN_H

#include "millrace/base/assert.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct mr_span {
    const uint8_t *data;
    uint32_t       len;
};

/* The null chain (Kafka's null RECORDS) has spans == NULL and bytes == 0; an empty one has spans != NULL. */
struct mr_chain {
    const struct mr_span *spans;
    uint32_t              span_count;
    uint32_t              bytes; /* sum of the spans' lengths */
};

/* Copy `len` bytes that begin at `at` out of the chain; at + len <= chain->bytes (asserted). */
static inline void mr_chain_copy(const struct mr_chain *chain, uint32_t at, void *to, uint32_t len)
{
    mr_assert(at <= chain->bytes && len <= chain->bytes - at);
    uint8_t *out = to;
    for (uint32_t index = 0; len > 0; index++) {
        const struct mr_span *span = &chain->spans[index];
        if (at >= span->len) {
            at -= span->len;
            continue;
        }
        uint32_t part = span->len - at < len ? span->len - at : len;
        memcpy(out, span->data + at, part);
        out += part;
        len -= part;
        at = 0;
    }
}

/*
 * The bytes [at, at + len) in one piece: in place when they lie in one span, else copied into
 * `scratch`, which must have room for len bytes.
 */
static inline const uint8_t *mr_chain_view(const struct mr_chain *chain, uint32_t at, uint32_t len,
                                           void *scratch)
{
    mr_assert(at <= chain->bytes && len <= chain->bytes - at);
    uint32_t skip = at;
    for (uint32_t index = 0; index < chain->span_count; index++) {
        const struct mr_span *span = &chain->spans[index];
        if (skip < span->len) {
            if (span->len - skip >= len) {
                return span->data + skip;
            }
            break;
        }
        skip -= span->len;
    }
    mr_chain_copy(chain, at, scratch, len);
    return scratch;
}

#endif
