/*
 * tcp_seq: sequence numbers and timestamps of TCP. They wrap, so that "before" means by less than half
 * of the circle; nothing else in the engine compares them.
 *
 * Source: RFC 9293 3.4; RFC 7323 5.2 compares timestamps in the same way.
 */
#ifndef MILLRACE_TCP_SEQ_H
#define MILLRACE_TCP_SEQ_H

#include <stdbool.h>
#include <stdint.h>

static inline bool mr_tcp_seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline bool mr_tcp_seq_le(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}

static inline uint32_t mr_tcp_seq_max(uint32_t a, uint32_t b)
{
    return mr_tcp_seq_lt(a, b) ? b : a;
}

static inline uint32_t mr_tcp_seq_min(uint32_t a, uint32_t b)
{
    return mr_tcp_seq_lt(a, b) ? a : b;
}

/* start <= seq < end. */
static inline bool mr_tcp_seq_within(uint32_t seq, uint32_t start, uint32_t end)
{
    return seq - start < end - start;
}

#endif
