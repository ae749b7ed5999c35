#include "millrace/log_scan.h"

#include "millrace/base/assert.h"

#define CRC_FROM 21u /* the CRC covers what follows its own field */

void mr_log_scan_init(struct mr_log_scan *scan, uint64_t pos, uint64_t size, int64_t next_offset, bool is_crc)
{
    *scan = (struct mr_log_scan){
        .pos = pos, .at = pos, .size = size, .next_offset = next_offset, .is_crc = is_crc};
    scan->state = pos == size ? MR_LOG_SCAN_ENDED : MR_LOG_SCAN_GOING;
}

static bool is_plausible(const struct mr_log_scan *scan, const struct mr_batch *batch)
{
    return batch->magic == 2 && batch->batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS &&
           batch->last_offset_delta >= 0 && batch->base_offset >= scan->next_offset &&
           batch->base_offset <= INT64_MAX - batch->last_offset_delta - 1 &&
           mr_batch_bytes(batch) <= scan->size - scan->pos;
}

static void accept(struct mr_log_scan *scan, const uint8_t *control, mr_log_scan_found *found, void *context)
{
    scan->next_offset = mr_batch_last_offset(&scan->batch) + 1;
    found(context, &scan->batch, (uint32_t)scan->pos, control);
    scan->pos += mr_batch_bytes(&scan->batch);
    scan->at = scan->pos;
    scan->is_in_body = false;
    if (scan->pos == scan->size) {
        scan->state = MR_LOG_SCAN_ENDED;
    }
}

static bool is_control(const struct mr_batch *batch)
{
    return (batch->attributes & MR_BATCH_CONTROL) != 0 && mr_batch_bytes(batch) <= MR_LOG_SCAN_CONTROL_MAX;
}

/* A small batch whose bytes are looked at as one. */
static void whole(struct mr_log_scan *scan, const uint8_t *bytes, mr_log_scan_found *found, void *context)
{
    uint32_t len = mr_batch_bytes(&scan->batch);
    if (scan->is_crc && mr_crc32c(0, bytes + CRC_FROM, len - CRC_FROM) != scan->batch.crc) {
        scan->state = MR_LOG_SCAN_DAMAGED;
        return;
    }
    accept(scan, bytes, found, context);
}

/* The header of the batch at pos, which is in the bytes; `len` of them from there on. False: more are wanted. */
static bool head(struct mr_log_scan *scan, const uint8_t *bytes, uint64_t len, mr_log_scan_found *found, void *context)
{
    mr_batch_header_load(bytes, &scan->batch);
    if (!is_plausible(scan, &scan->batch)) {
        scan->state = MR_LOG_SCAN_DAMAGED;
        return true;
    }
    if (is_control(&scan->batch)) {
        if (len < mr_batch_bytes(&scan->batch)) {
            return false;
        }
        whole(scan, bytes, found, context);
        return true;
    }
    if (!scan->is_crc) {
        accept(scan, NULL, found, context);
        return true;
    }
    scan->is_in_body = true;
    scan->crc = 0;
    scan->at = scan->pos + CRC_FROM;
    return true;
}

static void body(struct mr_log_scan *scan, const uint8_t *bytes, uint64_t len, mr_log_scan_found *found,
                 void *context)
{
    uint64_t end = scan->pos + mr_batch_bytes(&scan->batch);
    uint64_t take = end - scan->at < len ? end - scan->at : len;
    scan->crc = mr_crc32c(scan->crc, bytes, (size_t)take);
    scan->at += take;
    if (scan->at < end) {
        return;
    }
    if (scan->crc == scan->batch.crc) {
        accept(scan, NULL, found, context);
    } else {
        scan->state = MR_LOG_SCAN_DAMAGED;
    }
}

enum mr_log_scan_state mr_log_scan_feed(struct mr_log_scan *scan, const uint8_t *bytes, uint32_t len,
                                        mr_log_scan_found *found, void *context)
{
    uint64_t from = scan->at;
    uint64_t end = from + len;
    bool     is_file_over = len < MR_LOG_SCAN_MIN;
    while (scan->state == MR_LOG_SCAN_GOING && scan->at < end) {
        if (scan->is_in_body) {
            body(scan, bytes + (scan->at - from), end - scan->at, found, context);
        } else if (end - scan->pos >= MR_BATCH_HEADER &&
                   head(scan, bytes + (scan->pos - from), end - scan->pos, found, context)) {
            continue;
        } else if (is_file_over || scan->size - scan->pos < MR_BATCH_HEADER) {
            scan->state = MR_LOG_SCAN_DAMAGED;
        } else {
            break; /* the rest of the header comes with the next bytes */
        }
    }
    if (scan->state == MR_LOG_SCAN_GOING && is_file_over && end < scan->size) {
        scan->state = MR_LOG_SCAN_DAMAGED; /* the file is shorter than it was said to be */
    }
    return scan->state;
}
