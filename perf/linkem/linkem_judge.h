/*
 * linkem_judge: what a bridge sees of the TCP text that goes one way: how much of it, how much again, and how much of
 * that for nothing. It knows which segments it has dropped, so that it judges both stacks by the same facts and none by
 * what it says of itself.
 *
 * One connection. Memory: the struct. Thread: one.
 */
#ifndef MILLRACE_PERF_LINKEM_JUDGE_H
#define MILLRACE_PERF_LINKEM_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#define MR_LINKEM_RANGES 4096u

/* [start, end) went through; numbers from the first byte seen. */
struct mr_linkem_range {
    uint64_t start;
    uint64_t end;
};

struct mr_linkem_judge {
    uint32_t base; /* sequence number of the first byte */
    bool is_based;
    uint64_t end; /* highest seen */
    uint32_t range_count;
    struct mr_linkem_range ranges[MR_LINKEM_RANGES]; /* sorted, apart */
    uint64_t segments; /* with text */
    uint64_t bytes;
    uint64_t again;     /* segments below the highest byte seen */
    uint64_t needless;  /* of them: every byte had gone through before */
};

/* A frame as it came: Ethernet, IPv4, TCP. `is_dropped`: it does not go on. Others are passed over. */
void mr_linkem_judge_frame(struct mr_linkem_judge *j, const uint8_t *frame, uint32_t len, bool is_dropped);

/* Whether the frame is IPv4 with TCP in it. */
bool mr_linkem_judge_is_tcp(const uint8_t *frame, uint32_t len);

#endif
