/*
 * scrub_scan: through all bytes of a sealed segment, and past what is damaged: which offsets are lost, exactly.
 *
 *   file    [ good ][ good ][ ???????? ][ good ] ...
 *   told                     ^ a range: what follows the batch before, up to the next one that is good
 *
 * A batch is bad when its CRC or header is, when a chunk it lies in is not what its side-car says (mr_scrub_scan_bad), or
 * when its offsets cannot be: base offsets are covered by no CRC, so one is judged by those around it. Behind damage the
 * next batch is looked for at every byte; what poses as one has to have a CRC that is right. Someone who wrote many such
 * into his records makes that long, so the tries are counted, and then the rest of the segment is taken as damaged.
 *
 * Pure; memory is bounded. Used by the scrubber and by `millrace dump --verify`.
 */
#ifndef MILLRACE_SCRUB_SCAN_H
#define MILLRACE_SCRUB_SCAN_H

#include "millrace/log_scan.h"
#include "millrace/side_car.h"

struct mr_scrub_range {
    int64_t  from, to; /* offsets, both included; to < from: none are missing */
    uint32_t from_pos, to_pos;
};

typedef void mr_scrub_damaged(void *context, const struct mr_scrub_range *range);

#define MR_SCRUB_BAD_WORDS (INT32_MAX / MR_SIDE_CHUNK / 64 + 1)

struct mr_scrub_scan {
    struct mr_log_scan scan;
    uint64_t           size;
    int64_t            end;      /* the next segment's base */
    int64_t            expected; /* what follows the last good batch */
    int64_t            before;   /* and the one before that */
    int64_t            last_base;
    uint64_t           last_pos;
    uint64_t           search; /* looked at up to here */
    uint64_t           good_pos; /* what follows the last good batch */
    uint32_t           tries;
    bool               is_searching;
    bool               is_trial; /* the batch at scan.pos was found by searching */
    bool               is_over;
    bool               is_open; /* a damaged range has begun */
    struct mr_scrub_range range;
    mr_scrub_damaged  *damaged;
    void              *context;
    uint64_t           bad[MR_SCRUB_BAD_WORDS]; /* a bit for each chunk */
};

/* Offsets [base, end) are in the segment of `size` bytes. */
void mr_scrub_scan_init(struct mr_scrub_scan *s, int64_t base, int64_t end, uint32_t size, mr_scrub_damaged *damaged,
                        void *context);
/* The side-car says that this chunk is not what it was; told before its bytes are fed. */
void mr_scrub_scan_bad(struct mr_scrub_scan *s, uint32_t chunk);
/* Bytes from here on are wanted next; at least MR_LOG_SCAN_MIN of them, unless the segment ends before. */
uint64_t mr_scrub_scan_at(const struct mr_scrub_scan *s);
/* Bytes from mr_scrub_scan_at on. It may be asked for some of them again. */
void mr_scrub_scan_feed(struct mr_scrub_scan *s, const uint8_t *bytes, uint32_t len);
/* They cannot be read, up to `to`. */
void mr_scrub_scan_unreadable(struct mr_scrub_scan *s, uint64_t to);

#endif
