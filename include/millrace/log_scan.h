/*
 * log_scan: from batch to batch through a segment's bytes, as they come from its file.
 *
 *   file   [ batch ][ batch ][ batch ][ torn or zero ]
 *                            ^ pos: everything before it is sound
 *
 * The caller reads from `at` and feeds what it got; each sound batch is handed to a function. The scan ends at
 * the end of the file, or where what stands there is no batch: a length that does not fit, an offset that does
 * not rise, with is_crc also a CRC that is wrong. Memory is bounded whatever a length says: a batch's body is
 * passed over (or summed up) piece by piece.
 *
 * Pure. Source: Kafka's record batch format, version 2; behaviour of its log recovery.
 */
#ifndef MILLRACE_LOG_SCAN_H
#define MILLRACE_LOG_SCAN_H

#include "millrace/batch.h"

enum mr_log_scan_state {
    MR_LOG_SCAN_GOING,
    MR_LOG_SCAN_ENDED,   /* pos == size */
    MR_LOG_SCAN_DAMAGED, /* what stands at pos is no batch */
};

struct mr_log_scan {
    uint64_t               pos;         /* of the batch looked at */
    uint64_t               at;          /* the next byte wanted */
    uint64_t               size;        /* of the segment */
    int64_t                next_offset; /* the least base offset that the next batch may have */
    struct mr_batch        batch;       /* the one at pos, while its body is being summed up */
    uint32_t               crc;
    bool                   is_crc;
    bool                   is_in_body;
    enum mr_log_scan_state state;
};

/* `control`: the whole bytes of a control batch, NULL of any other (and of one that is far too large). */
typedef void mr_log_scan_found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control);

/* From the batch at `pos` to `size`. */
void mr_log_scan_init(struct mr_log_scan *scan, uint64_t pos, uint64_t size, int64_t next_offset, bool is_crc);

/* File bytes from scan->at on; fewer than asked for mean that the file ends there. Returns the state. */
enum mr_log_scan_state mr_log_scan_feed(struct mr_log_scan *scan, const uint8_t *bytes, uint32_t len,
                                        mr_log_scan_found *found, void *context);

/* Bytes that one feed must offer at least, unless the file ends before. */
#define MR_LOG_SCAN_MIN 4096u
#define MR_LOG_SCAN_CONTROL_MAX 1024u /* bytes of a control batch that is handed over */

#endif
