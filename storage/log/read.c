/*
 * read: offset -> whole batches, lent from the tail runs; older ones come from files (cold_read.c).
 */
#include "storage_core.h"

#include "log/log_walk.h"

#define COPY_MAX (MR_PAGE_BYTES << MR_PAGE_ORDER_MAX)

#include "millrace/base/bug.h"

/* ---- Walking over the bytes of tail runs ---- */

void mr_walk_copy(const struct mr_storage_core *core, const struct mr_partition *p, const struct mr_page *run,
                  uint32_t pos, void *to, uint32_t len)
{
    uint8_t *out = to;
    while (len > 0) {
        mr_assert(pos >= run->pos);
        if (pos < run->pos + run->used) {
            uint32_t room = run->pos + run->used - pos;
            uint32_t part = len < room ? len : room;
            memcpy(out, mr_page_memory(&core->cache, run) + (pos - run->pos), part);
            out += part;
            pos += part;
            len -= part;
            if (len == 0) {
                return;
            }
        }
        mr_assert(run->link.next != &p->runs);
        run = MR_LIST_ENTRY(run->link.next, struct mr_page, link);
    }
}

void mr_walk_head(const struct mr_storage_core *core, const struct mr_partition *p, const struct mr_page *run,
                  uint32_t pos, struct mr_batch *batch)
{
    uint8_t        scratch[MR_BATCH_HEADER];
    const uint8_t *at = scratch;
    if (pos >= run->pos && pos + MR_BATCH_HEADER <= run->pos + run->used) {
        at = mr_page_memory(&core->cache, run) + (pos - run->pos);
    } else {
        mr_walk_copy(core, p, run, pos, scratch, MR_BATCH_HEADER);
    }
    mr_batch_header_load(at, batch);
}

struct mr_page *mr_walk_run_of(struct mr_partition *p, struct mr_page *run, uint32_t pos)
{
    while (pos >= run->pos + run->used && run->link.next != &p->runs) {
        struct mr_page *next = MR_LIST_ENTRY(run->link.next, struct mr_page, link);
        if (next->segment != run->segment) {
            break;
        }
        run = next;
    }
    return run;
}

struct mr_page *mr_walk_find(struct mr_storage_core *core, struct mr_partition *p, int64_t offset, uint32_t *pos)
{
    for (uint32_t index = 0; index < MR_READ_HINTS; index++) {
        const struct mr_place *hint = &p->hints[index];
        if (hint->offset != offset) {
            continue;
        }
        for (struct mr_list *link = p->runs.prev; link != &p->runs; link = link->prev) {
            struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
            /* Before first_pos is what was read back from the file: no CRC was looked at. */
            if (run->segment->base == hint->base && run->first_offset >= 0 && run->first_pos <= hint->pos &&
                hint->pos < run->pos + run->used) {
                *pos = hint->pos;
                return run;
            }
        }
    }
    for (struct mr_list *link = p->runs.prev; link != &p->runs; link = link->prev) {
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        if (run->first_offset < 0 || run->first_offset > offset) {
            continue;
        }
        *pos = run->first_pos;
        for (;;) {
            struct mr_batch batch;
            run = mr_walk_run_of(p, run, *pos);
            if (*pos >= run->segment->size) {
                return NULL; /* only in a log with a hole at the end of a segment */
            }
            mr_walk_head(core, p, run, *pos, &batch);
            if (mr_batch_last_offset(&batch) >= offset &&
                (batch.base_offset >= offset || !mr_bug("skip-to-next-batch"))) {
                return run;
            }
            *pos += mr_batch_bytes(&batch);
        }
    }
    return NULL;
}

uint32_t mr_walk_limit(const struct mr_partition *p, const struct mr_segment *segment)
{
    if (segment->base < p->high_watermark.base) {
        return segment->size;
    }
    return segment->base == p->high_watermark.base ? p->high_watermark.pos : 0;
}

void mr_walk_hint(struct mr_partition *p, int64_t offset, int64_t base, uint32_t pos)
{
    p->hints[p->hint_next] = (struct mr_place){.offset = offset, .base = base, .pos = pos};
    p->hint_next = (uint8_t)((p->hint_next + 1) % MR_READ_HINTS);
}

/* ---- The operation ---- */

/* The end of the stable part, or of what aborted transactions allow, is not a place but an offset: whole batches
 * before it. */
static uint32_t cut_at_offset(struct mr_storage_core *core, struct mr_partition *p, struct mr_page *run, uint32_t pos,
                              uint32_t end, int64_t limit)
{
    while (pos < end) {
        struct mr_batch batch;
        run = mr_walk_run_of(p, run, pos);
        mr_walk_head(core, p, run, pos, &batch);
        if (batch.base_offset >= limit) {
            break;
        }
        pos += mr_batch_bytes(&batch);
    }
    return pos;
}

/* Where whole batches from `pos` end when at most `max` bytes are wanted. */
static uint32_t cut(struct mr_storage_core *core, struct mr_partition *p, struct mr_page *run, uint32_t pos,
                    uint32_t limit, uint32_t max, bool is_first_whole)
{
    if (limit - pos <= max) {
        return limit;
    }
    uint32_t at = pos;
    /* Where a batch begins in a later run is known: jump. */
    for (struct mr_page *next = run; next->link.next != &p->runs;) {
        next = MR_LIST_ENTRY(next->link.next, struct mr_page, link);
        if (next->segment != run->segment || next->first_offset < 0 || next->first_pos - pos > max ||
            next->first_pos > limit) {
            break;
        }
        at = next->first_pos;
    }
    while (at < limit) {
        struct mr_batch batch;
        run = mr_walk_run_of(p, run, at);
        mr_walk_head(core, p, run, at, &batch);
        uint32_t bytes = mr_batch_bytes(&batch);
        if (at + bytes - pos > max && !(is_first_whole && at == pos)) {
            break;
        }
        at += bytes;
        if (at - pos > max) {
            break;
        }
    }
    return at;
}

static uint32_t lend(struct mr_storage_core *core, struct mr_partition *p, struct mr_read_op *op,
                     struct mr_read_entry *entry, struct mr_page *run, uint32_t pos, uint32_t end)
{
    uint32_t bytes = end - pos;
    if (bytes < MR_SMALL_SPAN && op->copy_max - op->copy_used >= bytes && op->span_count < op->span_max) {
        uint8_t *to = op->copy_buffer + op->copy_used;
        mr_walk_copy(core, p, run, pos, to, bytes);
        op->copy_used += bytes;
        op->spans[op->span_count++] =
            (struct mr_lent_span){.span = {.data = to, .len = bytes}, .page = MR_PAGE_NONE};
        entry->span_count++;
        return bytes;
    }
    while (pos < end) {
        mr_assert(op->span_count < op->span_max);
        run = mr_walk_run_of(p, run, pos);
        uint32_t part = run->pos + run->used - pos;
        part = part < end - pos ? part : end - pos;
        op->spans[op->span_count++] = (struct mr_lent_span){
            .span = {.data = mr_page_memory(&core->cache, run) + (pos - run->pos), .len = part},
            .page = mr_tail_pin(core, run),
        };
        entry->span_count++;
        pos += part;
    }
    return bytes;
}

/*
 * The readers hold their share of the cache: the bytes are copied to where cold reads go, so that slow readers cannot
 * take the memory that appends need. Whole batches of at most a page; 0: no memory there either.
 */
static uint32_t lend_copy(struct mr_storage_core *core, struct mr_partition *p, struct mr_read_op *op,
                          struct mr_read_entry *entry, struct mr_page *run, uint32_t pos, uint32_t end)
{
    uint32_t        bytes = end - pos;
    struct mr_page *page = op->span_count < op->span_max ? mr_page_pool_try(&core->cold, mr_page_order(bytes), MR_FAIL_cold_pages) : NULL;
    if (page == NULL) {
        return 0;
    }
    uint8_t *to = mr_page_memory(&core->cold, page);
    mr_walk_copy(core, p, run, pos, to, bytes);
    page->refs = 1;
    page->is_dropped = true; /* freed by the release */
    op->spans[op->span_count++] = (struct mr_lent_span){
        .span = {.data = to, .len = bytes}, .page = mr_page_reference(&core->cold, page) | MR_COLD_REFERENCE};
    entry->span_count++;
    core->stats.copied_bytes += bytes;
    return bytes;
}

/* Spans that [pos, end) takes. */
static uint32_t span_need(struct mr_partition *p, struct mr_page *run, uint32_t pos, uint32_t end,
                          uint32_t max, uint32_t *reach)
{
    uint32_t count = 0;
    *reach = pos;
    while (*reach < end && count < max + 1) {
        run = mr_walk_run_of(p, run, *reach);
        uint32_t to = run->pos + run->used < end ? run->pos + run->used : end;
        if (count == max) {
            return max + 1;
        }
        *reach = to;
        count++;
    }
    return count;
}

/* False: no memory to lend now; the reader waits. */
static bool read_hot(struct mr_storage_core *core, struct mr_partition *p, struct mr_read_op *op,
                     struct mr_read_entry *entry, struct mr_page *run, uint32_t pos, uint32_t max,
                     bool is_first_whole)
{
    struct mr_segment *segment = run->segment;
    uint32_t           limit = mr_walk_limit(p, segment);
    bool               is_copied = core->pinned_bytes >= mr_tail_pin_max(core);
    if (pos >= limit) {
        return true;
    }
    max = is_copied && max > COPY_MAX ? COPY_MAX : max;
    uint32_t end = cut(core, p, run, pos, limit, max, is_first_whole);
    uint32_t reach = 0;
    uint32_t spans_left = op->span_max - op->span_count;
    if (span_need(p, run, pos, end, spans_left, &reach) > spans_left) {
        end = reach == pos ? pos : cut(core, p, run, pos, limit, reach - pos, false);
    }
    if (entry->limit < p->high_watermark.offset) {
        end = cut_at_offset(core, p, run, pos, end, entry->limit);
    }
    if (end == pos) {
        return true;
    }
    /* A first batch that is larger than a page is lent all the same: there is at most one in an answer. */
    is_copied = is_copied && end - pos >= MR_SMALL_SPAN && end - pos <= COPY_MAX;
    entry->bytes = is_copied ? lend_copy(core, p, op, entry, run, pos, end) : lend(core, p, op, entry, run, pos, end);
    if (entry->bytes == 0) {
        return op->bytes > 0; /* what there is already is an answer */
    }
    mr_trace(core->params.trace, MR_EVENT_pages_lent, entry->span_count, entry->bytes);
    /* A reader that comes back asks for what follows. */
    int64_t next_offset;
    if (end == limit && segment->base == p->high_watermark.base) {
        next_offset = p->high_watermark.offset;
        mr_walk_hint(p, next_offset, segment->base, end);
    } else if (end == segment->size) {
        struct mr_segment *next = mr_segment_next(segment);
        next_offset = next == NULL ? p->end.offset : next->base;
        if (next != NULL) {
            mr_walk_hint(p, next->base, next->base, 0);
        }
    } else {
        struct mr_batch batch;
        mr_walk_head(core, p, mr_walk_run_of(p, run, end), end, &batch);
        next_offset = batch.base_offset;
        mr_walk_hint(p, next_offset, segment->base, end);
    }
    if (op->isolation == MR_READ_COMMITTED) {
        mr_txn_list_aborted(p, op, entry, next_offset);
    }
    return true;
}

enum mr_err mr_read_epoch_check(const struct mr_partition *p, int32_t current_leader_epoch)
{
    if (current_leader_epoch < 0 || current_leader_epoch == p->leader_epoch) {
        return MR_OK;
    }
    return current_leader_epoch < p->leader_epoch ? MR_ERR_FENCED_EPOCH : MR_ERR_UNKNOWN_EPOCH;
}

/* False: the entry is being read from a file or waits for memory, and the operation goes on later. */
static bool read_entry(struct mr_storage_core *core, struct mr_read_op *op, uint32_t index)
{
    struct mr_read_entry *entry = &op->entries[index];
    struct mr_partition  *p = mr_core_find(core, entry->log_id);
    entry->span_first = op->span_count;
    if (core->is_offline || (p != NULL && p->state == MR_PARTITION_OFFLINE)) {
        entry->err = MR_ERR_DIR_OFFLINE;
        return true;
    }
    if (p == NULL || p->state != MR_PARTITION_OPEN) {
        entry->err = MR_ERR_UNKNOWN_LOG;
        return true;
    }
    entry->high_watermark = p->high_watermark.offset;
    entry->last_stable_offset = mr_txn_stable(p);
    entry->log_start_offset = p->log_start;
    entry->err = mr_read_epoch_check(p, entry->current_leader_epoch);
    if (entry->err != MR_OK) {
        return true;
    }
    if (entry->offset < p->log_start || entry->offset > p->end.offset) {
        entry->err = MR_ERR_OFFSET_OUT_OF_RANGE;
        return true;
    }
    uint32_t max = op->bytes_max > op->bytes ? op->bytes_max - op->bytes : 0;
    bool     is_first_whole = entry->is_first_batch_whole && op->bytes == 0 && !mr_bug("strict-limits");
    max = entry->bytes_max < max ? entry->bytes_max : max;
    entry->limit = p->high_watermark.offset;
    if (op->isolation == MR_READ_COMMITTED) {
        entry->limit =
            mr_txn_bound(p, entry->offset, entry->last_stable_offset, op->aborted_max - op->aborted_count);
    }
    if (entry->offset >= entry->limit || (max == 0 && !is_first_whole)) {
        return true;
    }
    uint32_t        pos = 0;
    struct mr_page *run = mr_walk_find(core, p, entry->from, &pos);
    if (run == NULL) {
        mr_cold_read_start(core, op, index);
        return false;
    }
    if (!read_hot(core, p, op, entry, run, pos, max, is_first_whole)) {
        mr_core_again(core, &op->op);
        return false;
    }
    op->bytes += entry->bytes;
    core->stats.read_bytes += entry->bytes;
    return true;
}

/* op->op.pending counts the entries that are done. */
void mr_read_continue(struct mr_storage_core *core, struct mr_read_op *op)
{
    while (op->op.pending < op->entry_count) {
        if (!read_entry(core, op, op->op.pending)) {
            return; /* called again by cold_read.c, which counts it, or when memory may have come back */
        }
        op->op.pending++;
    }
    mr_core_answer(core, &op->op);
}

void mr_read_op_start(struct mr_storage_core *core, struct mr_read_op *op)
{
    op->op.pending = 0;
    op->span_count = 0;
    op->copy_used = 0;
    op->bytes = 0;
    op->aborted_count = 0;
    core->stats.reads++;
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_read_entry *entry = &op->entries[index];
        entry->err = MR_OK;
        entry->high_watermark = -1;
        entry->last_stable_offset = -1;
        entry->log_start_offset = -1;
        entry->span_first = 0;
        entry->span_count = 0;
        entry->bytes = 0;
        entry->aborted_first = 0;
        entry->aborted_count = 0;
        entry->from = entry->offset;
    }
    mr_read_continue(core, op);
}
