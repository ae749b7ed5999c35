/*
 * copy: bytes that are copied to where no CPU will look for them soon.
 *
 * A memcpy into memory that is in no cache reads every line of it before it overwrites it, and throws out of the
 * caches what was of use there. Past them it costs a third (perf/SKETCHES.md). What reads the bytes at once
 * pays for that, so this is for large pieces that a device reads first.
 */
#ifndef MILLRACE_BASE_COPY_H
#define MILLRACE_BASE_COPY_H

#include "millrace/base/span.h"

#if defined(__SSE2__)
#include <emmintrin.h>

#define MR_COPY_LINE 64u

/* Like memcpy. In order with what this thread writes afterwards, also as other threads and devices see it. */
static inline void mr_copy_past_caches(uint8_t *to, const uint8_t *from, uint32_t len)
{
    uint32_t head = (uint32_t)(-(uintptr_t)to % MR_COPY_LINE);
    if (len < head + MR_COPY_LINE) {
        memcpy(to, from, len);
        return;
    }
    memcpy(to, from, head);
    uint32_t at = head;
    for (; len - at >= MR_COPY_LINE; at += MR_COPY_LINE) {
        const __m128i *in = (const void *)(from + at);
        __m128i       *out = (void *)(to + at);
        __m128i        a = _mm_loadu_si128(in);
        __m128i        b = _mm_loadu_si128(in + 1);
        __m128i        c = _mm_loadu_si128(in + 2);
        __m128i        d = _mm_loadu_si128(in + 3);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    memcpy(to + at, from + at, len - at);
    _mm_sfence();
}
#else
static inline void mr_copy_past_caches(uint8_t *to, const uint8_t *from, uint32_t len)
{
    memcpy(to, from, len);
}
#endif

/* Like mr_chain_copy. */
static inline void mr_chain_copy_past_caches(const struct mr_chain *chain, uint32_t at, uint8_t *to, uint32_t len)
{
    mr_assert(at <= chain->bytes && len <= chain->bytes - at);
    for (const struct mr_span *span = chain->spans; len > 0; span++) {
        if (at >= span->len) {
            at -= span->len;
            continue;
        }
        uint32_t part = span->len - at < len ? span->len - at : len;
        mr_copy_past_caches(to, span->data + at, part);
        to += part;
        len -= part;
        at = 0;
    }
}

#endif
