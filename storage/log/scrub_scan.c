#include "millrace/scrub_scan.h"

#include "millrace/base/assert.h"

#define TRIES_MAX 4096u
#define MAGIC_AT  16u

void mr_scrub_scan_init(struct mr_scrub_scan *s, int64_t base, int64_t end, uint32_t size, mr_scrub_damaged *damaged,
                        void *context)
{
    memset(s, 0, sizeof *s);
    s->size = size;
    s->end = end;
    s->expected = base;
    s->before = base;
    s->last_base = base;
    s->damaged = damaged;
    s->context = context;
    s->is_over = size == 0;
    mr_log_scan_init(&s->scan, 0, size, base, true);
}

void mr_scrub_scan_bad(struct mr_scrub_scan *s, uint32_t chunk)
{
    s->bad[chunk / 64] |= 1ull << (chunk % 64);
}

uint64_t mr_scrub_scan_at(const struct mr_scrub_scan *s)
{
    return s->is_searching ? s->search : s->scan.at;
}

/* ---- Ranges ---- */

static void range_begin(struct mr_scrub_scan *s, int64_t offset, uint64_t pos)
{
    if (!s->is_open) {
        s->is_open = true;
        s->range = (struct mr_scrub_range){.from = offset, .from_pos = (uint32_t)pos};
    }
}

static void range_end(struct mr_scrub_scan *s, int64_t offset, uint64_t pos)
{
    if (s->is_open) {
        s->is_open = false;
        s->range.to = offset - 1;
        s->range.to_pos = (uint32_t)pos;
        s->damaged(s->context, &s->range);
    }
}

static void over(struct mr_scrub_scan *s)
{
    s->is_over = true;
    range_end(s, s->end, s->size);
}

/* ---- A batch whose CRC is right ---- */

static bool is_in_bad_chunk(const struct mr_scrub_scan *s, uint64_t pos, uint64_t end)
{
    for (uint64_t chunk = pos / MR_SIDE_CHUNK; chunk * MR_SIDE_CHUNK < end; chunk++) {
        if ((s->bad[chunk / 64] >> (chunk % 64) & 1) != 0) {
            return true;
        }
    }
    return false;
}

static void found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    struct mr_scrub_scan *s = context;
    uint64_t              end = pos + (uint64_t)mr_batch_bytes(batch);
    (void)control;
    s->is_trial = false;
    if (mr_batch_last_offset(batch) >= s->end || is_in_bad_chunk(s, pos, end)) {
        range_begin(s, s->expected, pos);
        s->scan.next_offset = s->expected; /* its offsets mean nothing to what follows */
        return;
    }
    range_end(s, batch->base_offset, pos);
    s->before = s->expected;
    s->last_base = batch->base_offset;
    s->last_pos = pos;
    s->good_pos = end;
    s->expected = mr_batch_last_offset(batch) + 1;
}

/* ---- Behind damage ---- */

static bool is_plausible(const struct mr_scrub_scan *s, const struct mr_batch *batch, uint64_t pos)
{
    return batch->magic == 2 && batch->batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS &&
           batch->last_offset_delta >= 0 && batch->base_offset >= s->expected &&
           batch->base_offset < s->end - batch->last_offset_delta && mr_batch_bytes(batch) <= s->size - pos;
}

static void try_at(struct mr_scrub_scan *s, uint64_t pos, int64_t next_offset)
{
    s->is_searching = false;
    mr_log_scan_init(&s->scan, pos, s->size, next_offset, true);
}

static void search_from(struct mr_scrub_scan *s, uint64_t pos)
{
    range_begin(s, s->expected, s->good_pos);
    s->is_searching = true;
    s->is_trial = false;
    s->search = pos;
}

/* Byte by byte in [s->search, end). */
static void search(struct mr_scrub_scan *s, const uint8_t *bytes, uint64_t from, uint64_t end)
{
    while (s->search + MR_BATCH_HEADER <= end) {
        const uint8_t *at = bytes + (s->search - from);
        const uint8_t *magic = memchr(at + MAGIC_AT, 2, (size_t)(end - s->search - MR_BATCH_HEADER + 1));
        if (magic == NULL) {
            s->search = end - MR_BATCH_HEADER + 1;
            break;
        }
        s->search += (uint64_t)(magic - at) - MAGIC_AT;
        struct mr_batch batch;
        mr_batch_header_load(bytes + (s->search - from), &batch);
        if (is_plausible(s, &batch, s->search)) {
            if (++s->tries > TRIES_MAX) {
                over(s);
                return;
            }
            s->is_trial = true;
            try_at(s, s->search, batch.base_offset);
            return;
        }
        s->search++;
    }
    if (s->search + MR_BATCH_HEADER > s->size) {
        over(s);
    }
}

/*
 * The batch before left a gap, and this one begins where it would be without: that one's base offset was wrong, which
 * no CRC tells. Only its own offsets are lost.
 */
static bool is_before_wrong(struct mr_scrub_scan *s, const uint8_t *bytes, uint64_t from, uint64_t end)
{
    struct mr_batch batch;
    uint64_t        pos = s->scan.pos;
    if (s->is_trial || s->is_open || s->last_base == s->before || pos != s->good_pos || pos < from ||
        pos + MR_BATCH_HEADER > end) {
        return false;
    }
    mr_batch_header_load(bytes + (pos - from), &batch);
    if (batch.magic != 2 || batch.base_offset != s->before + (s->expected - s->last_base)) {
        return false;
    }
    range_begin(s, s->before, s->last_pos);
    s->expected = batch.base_offset;
    s->last_base = s->before;
    try_at(s, pos, batch.base_offset);
    return true;
}

/* What stands at scan.pos is no batch. */
static void damaged(struct mr_scrub_scan *s, const uint8_t *bytes, uint64_t from, uint64_t end)
{
    if (!is_before_wrong(s, bytes, from, end)) {
        search_from(s, s->scan.pos + 1);
    }
}

void mr_scrub_scan_feed(struct mr_scrub_scan *s, const uint8_t *bytes, uint32_t len)
{
    uint64_t from = mr_scrub_scan_at(s);
    uint64_t end = from + len < s->size ? from + len : s->size;
    bool     is_short = end < s->size && len < MR_LOG_SCAN_MIN; /* the file ends before the segment does */
    while (!s->is_over) {
        uint64_t at = mr_scrub_scan_at(s);
        if (at < from || (end < s->size && end - at < MR_LOG_SCAN_MIN && !is_short)) {
            return; /* asked for again */
        }
        if (s->is_searching) {
            search(s, bytes, from, end);
            if (s->is_searching && !s->is_over && is_short) {
                over(s);
            }
            continue;
        }
        switch (mr_log_scan_feed(&s->scan, bytes + (at - from), (uint32_t)(end - at), found, s)) {
        case MR_LOG_SCAN_GOING:
            return;
        case MR_LOG_SCAN_ENDED:
            over(s);
            return;
        case MR_LOG_SCAN_DAMAGED:
            damaged(s, bytes, from, end);
            break;
        }
    }
}

void mr_scrub_scan_unreadable(struct mr_scrub_scan *s, uint64_t to)
{
    if (to >= s->size) {
        range_begin(s, s->expected, s->good_pos);
        over(s);
        return;
    }
    search_from(s, to);
}
