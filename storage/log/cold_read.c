/*
 * cold_read: batches that are in files only, by O_DIRECT into pages of a pool of their own, so that a
 * backfill does not push the tail out of memory.
 *
 *   place    a remembered place, or the offset index -> where to begin; when that is no batch, or not the
 *            one that the entry tells of, the index is wrong there: the entry before it is asked
 *   data     256 KiB to 1 MiB from there; the batch with the offset is looked for; more pages while the first
 *            batch is not whole
 *   checks   lengths hold; what is lent is what the segment's side-car says (side_read.h), or where it has none every
 *            batch's CRC is right: what is not is MR_ERR_CORRUPT. Where that is so, or offsets are missing, the file is
 *            read again, a device may have answered with another place. Damage that the scrubber knows is not read
 *   offsets  no CRC covers the base offset: it must lie between the batch before and the one behind. A batch that
 *            neither of them joins is looked at again from further ahead, where the one before is known
 *
 * One turn looks at MR_COLD_TURN_BYTES of what has come, and one read more: the rest waits for the next turn, and with
 * it the answers that are sent, so that many backfills together do not make a turn long for those at the tail.
 *
 * The device has one read of these at a time while an append waits to be durable: what it has taken comes before the
 * commit's flush. One is enough to keep a device busy that is quick; eight of a megabyte made the tail 30 times slower.
 *
 * What the device cannot read is this reader's error (MR_ERR_IO) and no other's: the directory stays, for nothing that was
 * acknowledged depends on it, and the scrubber finds out how much of the segment is lost.
 *
 * Nothing above segment->written is read from a file: what is not there yet is in the runs.
 */
#include "log/log_walk.h"
#include "log/scrub.h"
#include "log/side_read.h"
#include "millrace/base/bug.h"

#define COLD_READ_BYTES   (256u << 10)
#define READS_MAX         16u
#define READS_BESIDE_TAIL 1u

enum cold_at {
    COLD_BEGIN,
    COLD_PLACED,
    COLD_DATA,
    COLD_DATA_READ,
};

/* Task fields: index: of the entry; x: the offset looked for; y: what follows the batch before the scan, -1: not known,
 * and at last what follows the last batch that is lent; a: file position where the scan goes on; b: where the page's
 * bytes begin; op: the read. */

static struct mr_read_entry *entry_of(struct mr_task *task)
{
    return &((struct mr_read_op *)(void *)task->op)->entries[task->index];
}

static bool finish(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    struct mr_read_op *op = (struct mr_read_op *)(void *)task->op;
    if (task->page != NULL) {
        task->page->is_busy = false;
        if (task->page->refs == 0) {
            mr_page_pool_put(&core->cold, task->page);
        } else {
            task->page->is_dropped = true;
        }
    }
    if (task->page2 != NULL) {
        task->page2->is_busy = false;
        if (task->page2->refs == 0) {
            mr_page_pool_put(&core->cold, task->page2);
        } else {
            task->page2->is_dropped = true;
        }
    }
    entry_of(task)->err = err;
    /* What was read is bounded by the high watermark of now, not of when the read began. */
    entry_of(task)->high_watermark = task->partition->high_watermark.offset;
    entry_of(task)->last_stable_offset = mr_txn_stable(task->partition);
    if (op->isolation == MR_READ_COMMITTED && entry_of(task)->bytes > 0) {
        mr_txn_list_aborted(task->partition, op, entry_of(task), task->y);
    }
    task->segment->users--;
    op->op.pending++;
    core->stats.cold_reads++;
    task->is_op_due = true; /* the operation goes on when the task is gone */
    return false;
}

static bool gather(struct mr_storage_core *core, struct mr_task *task, uint64_t from);

/* The last offsets of the segment were compacted away: the entry is asked again, from the next segment on. */
static bool go_on_behind(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_read_entry *entry = entry_of(task);
    entry->from = mr_segment_next(task->segment)->base;
    finish(core, task, MR_OK);
    task->op->pending--; /* not done with */
    return false;
}

/* Nothing of the file is held any more. */
static void drop_page(struct mr_storage_core *core, struct mr_task *task)
{
    task->page->is_busy = false;
    mr_page_pool_put(&core->cold, task->page);
    task->page = NULL;
}

/* Who has something to return does not wait for more: readers that hold pages and wait for each other's would wait for
 * ever. What is left out comes with the next fetch. */
static bool may_wait(struct mr_task *task)
{
    const struct mr_read_op *op = (const struct mr_read_op *)(void *)task->op;
    return (op->bytes == 0 && entry_of(task)->is_first_batch_whole) || mr_bug("wait-with-pages");
}

static bool not_read(struct mr_storage_core *core, struct mr_task *task)
{
    mr_core_read_failed(core, task->segment, &task->io.op);
    return finish(core, task, MR_ERR_IO);
}

/* Where a read begins that is to bring the byte at `pos`: side-cars have sums of whole chunks. */
static uint64_t read_from(uint64_t pos)
{
    return pos / MR_SIDE_CHUNK * MR_SIDE_CHUNK;
}

/* False: enough of this turn has gone into cold reads; the task is asked again in the next, in the order of coming. */
static bool is_turn_left(struct mr_storage_core *core, struct mr_task *task)
{
    bool is_next = core->is_cold_turn || mr_list_is_empty(&core->cold_tasks);
    if (core->cold_left == 0 || !is_next) {
        task->is_waiting = true;
        mr_list_add_tail(&core->cold_tasks, &task->link);
        return false;
    }
    uint32_t bytes = task->io.op.done_bytes;
    core->cold_left = bytes < core->cold_left ? core->cold_left - bytes : 0;
    return true;
}

/* Whether the device has as many reads of ours as it may: a commit that is being flushed stands behind all of them. */
static bool is_device_busy(const struct mr_storage_core *core)
{
    bool is_tail_waiting = !mr_list_is_empty(&core->acks_durable) || !mr_list_is_empty(&core->acks_written);
    return core->cold_in_flight >= (is_tail_waiting ? READS_BESIDE_TAIL : READS_MAX);
}

static void read_begin(struct mr_storage_core *core, struct mr_task *task)
{
    core->cold_in_flight++;
    task->is_reading = true;
}

static void read_end(struct mr_storage_core *core, struct mr_task *task)
{
    core->cold_in_flight -= task->is_reading ? 1 : 0;
    task->is_reading = false;
}

static bool read_data(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment    *segment = task->segment;
    struct mr_read_entry *entry = entry_of(task);
    task->at = COLD_DATA; /* who waits in here begins here again */
    if (mr_scrub_skip(core, segment, task->x, &task->a)) {
        task->y = -1;
    }
    uint64_t from = read_from(task->a);
    uint64_t want = (task->a - from) + entry->bytes_max;
    want = want < COLD_READ_BYTES ? COLD_READ_BYTES : want;
    if (task->is_whole_wanted) {
        want = MR_PAGE_BYTES << MR_PAGE_ORDER_MAX;
    }
    if (task->a >= segment->written) {
        bool is_over = task->a >= segment->size && segment->is_sealed;
        return is_over ? go_on_behind(core, task) : finish(core, task, MR_OK);
    }
    if (!mr_segment_file_ready(core, segment)) {
        return core->is_offline ? finish(core, task, MR_ERR_DIR_OFFLINE) : mr_core_task_wait(core, task, 0);
    }
    if (!mr_side_take(core, task, from)) {
        return mr_side_fetch(core, task, COLD_DATA);
    }
    if (segment->side == MR_SIDE_WRONG) {
        return finish(core, task, MR_ERR_CORRUPT);
    }
    if (is_device_busy(core)) {
        return mr_core_task_wait(core, task, 0);
    }
    if (task->page == NULL) {
        task->page = mr_page_pool_try(&core->cold, mr_page_order(want), MR_FAIL_cold_pages);
        if (task->page == NULL) {
            return may_wait(task) ? mr_core_task_wait(core, task, 0) : finish(core, task, MR_OK);
        }
        task->page->is_busy = true;
    }
    uint32_t len = mr_page_capacity(task->page);
    uint64_t end = ((uint64_t)segment->written + MR_PAGE_BYTES - 1) & ~(uint64_t)(MR_PAGE_BYTES - 1);
    len = end - from < len ? (uint32_t)(end - from) : len;
    task->b = from;
    task->at = COLD_DATA_READ;
    read_begin(core, task);
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ,
                                      .file = segment->file,
                                      .buffer = mr_page_memory(&core->cold, task->page),
                                      .len = len,
                                      .pos = from};
    return true;
}

/* Lend [from, to) of the page. */
static void lend_page(struct mr_storage_core *core, struct mr_read_op *op, struct mr_read_entry *entry,
                      struct mr_page *page, const uint8_t *from, uint32_t len)
{
    op->spans[op->span_count++] =
        (struct mr_lent_span){.span = {.data = from, .len = len},
                              .page = mr_page_reference(&core->cold, page) | MR_COLD_REFERENCE};
    page->refs++;
    entry->span_count++;
}

static bool is_batch(const struct mr_batch *batch, const struct mr_segment *segment, uint64_t at)
{
    return batch->batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS && batch->last_offset_delta >= 0 &&
           at + mr_batch_bytes(batch) <= segment->written;
}

/* The offset behind the segment's last one. */
static int64_t segment_end(const struct mr_segment *segment)
{
    const struct mr_segment *next = mr_segment_next(segment);
    return next != NULL ? next->base : segment->partition->end.offset;
}

/* Where the batch at `at` should begin by the one behind it or the end of the log; -1: that is not in the page. `end`:
 * of the bytes. */
static int64_t offset_at(const struct mr_task *task, const uint8_t *memory, uint64_t at, uint64_t end)
{
    const struct mr_partition *p = task->partition;
    struct mr_batch            batch;
    if (at >= task->segment->size) {
        return segment_end(task->segment);
    }
    if (task->segment->base == p->high_watermark.base && at == p->high_watermark.pos) {
        return p->high_watermark.offset;
    }
    if (at + MR_BATCH_HEADER > end) {
        return -1;
    }
    mr_batch_header_load(memory + (at - task->b), &batch);
    return batch.base_offset;
}

enum base {
    BASE_GOOD,
    BASE_ALONE, /* it joins no neighbour: offsets are missing, or it is wrong by a few */
    BASE_WRONG,
};

/* What its neighbours say of a batch's offsets: `before` is what follows the one before it, `after` where the next one
 * begins; -1: not known. */
static enum base judge_base(const struct mr_task *task, const struct mr_batch *batch, int64_t before, int64_t after)
{
    int64_t next = mr_batch_last_offset(batch) + 1;
    if (batch->base_offset < task->segment->base || batch->base_offset < before ||
        next > segment_end(task->segment) || !mr_partition_had_epoch(task->partition, batch->leader_epoch)) {
        return BASE_WRONG;
    }
    if (batch->base_offset == before || next == after ||
        (before < 0 && next - 1 == task->find.offset && task->find.kind == MR_INDEX_OFFSET && task->find.offset > 0)) {
        return BASE_GOOD;
    }
    return after >= 0 && next > after ? BASE_WRONG : BASE_ALONE;
}

/* Where whole batches from `first` end, at most at `to`; *next_offset: what follows them. */
static uint64_t batches_end(const struct mr_task *task, const uint8_t *memory, uint64_t first, uint64_t to,
                            int64_t *next_offset)
{
    uint64_t at = first;
    for (;;) {
        struct mr_batch batch;
        mr_batch_header_load(memory + (at - task->b), &batch);
        if (at + mr_batch_bytes(&batch) > to) {
            return at;
        }
        at += mr_batch_bytes(&batch);
        *next_offset = mr_batch_last_offset(&batch) + 1;
    }
}

/* The side-car knows other bytes at `pos`: once more, for a device may have answered with another place. */
static bool not_as_it_was(struct mr_storage_core *core, struct mr_task *task, uint64_t pos)
{
    if (!task->is_again) {
        task->is_again = true;
        return read_data(core, task);
    }
    mr_log(core->log, MR_LOG_ERROR, "a segment is not what its side-car says dir=%s segment=%lld pos=%llu",
           task->partition->dir_name, (long long)task->segment->base, (unsigned long long)pos);
    mr_scrub_want(core, task->segment);
    return finish(core, task, MR_ERR_CORRUPT);
}

/* The page holds the file's bytes from b on; the scan is at a. */
static bool use_data(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_read_op    *op = (struct mr_read_op *)(void *)task->op;
    struct mr_read_entry *entry = entry_of(task);
    struct mr_segment    *segment = task->segment;
    const uint8_t        *memory = mr_page_memory(&core->cold, task->page);
    uint64_t              end = task->b + task->io.op.done_bytes;
    uint64_t              limit = mr_walk_limit(task->partition, segment);
    uint32_t              max = op->bytes_max > op->bytes ? op->bytes_max - op->bytes : 0;
    bool                  is_first_whole = entry->is_first_batch_whole && op->bytes == 0;
    max = entry->bytes_max < max ? entry->bytes_max : max;
    limit = limit < segment->written ? limit : segment->written;
    end = end < limit ? end : limit;
    core->stats.cold_bytes += task->io.op.done_bytes;

    uint64_t at = task->a;
    uint64_t first = UINT64_MAX; /* where the answer begins */
    int64_t  next_offset = task->y; /* what follows the batch before; -1: not known */
    int64_t  first_before = -1;
    bool     is_max_reached = false;
    while (at + MR_BATCH_HEADER <= end) {
        struct mr_batch batch;
        const uint8_t  *here = memory + (at - task->b);
        mr_batch_header_load(here, &batch);
        if (!is_batch(&batch, segment, at)) {
            if (first != UINT64_MAX) {
                break; /* what came before it is good */
            }
            return finish(core, task, MR_ERR_CORRUPT);
        }
        uint64_t  bytes = mr_batch_bytes(&batch);
        int64_t   after = offset_at(task, memory, at + bytes, end);
        enum base base = judge_base(task, &batch, next_offset, after);
        if (base == BASE_ALONE && at == task->a && next_offset < 0 && task->a > 0 && task->find.result == (int64_t)at) {
            drop_page(core, task);
            return mr_index_find_before(core, task, COLD_PLACED);
        }
        if (base == BASE_WRONG && first == UINT64_MAX && after > task->segment->base && task->x >= after) {
            at += bytes; /* it is not what is looked for */
            next_offset = -1;
            continue;
        }
        if (base == BASE_WRONG && !mr_bug("believe-bases")) {
            if (first != UINT64_MAX) {
                break;
            }
            mr_log(core->log, MR_LOG_ERROR, "wrong base offset dir=%s segment=%lld pos=%llu offset=%lld",
                   task->partition->dir_name, (long long)segment->base, (unsigned long long)at,
                   (long long)batch.base_offset);
            return finish(core, task, MR_ERR_CORRUPT);
        }
        if (first == UINT64_MAX && mr_batch_last_offset(&batch) < task->x) {
            at += bytes;
            next_offset = mr_batch_last_offset(&batch) + 1;
            continue;
        }
        bool is_hole = batch.base_offset > (first == UINT64_MAX ? task->x : next_offset);
        if (is_hole && first != UINT64_MAX && !task->partition->config.is_cleanup_compact) {
            break;
        }
        if (is_hole && !task->is_again) {
            /* Nothing in the batch says whose it is. What is missing the second time too is missing in the file. */
            task->is_again = true;
            return read_data(core, task);
        }
        if (batch.base_offset >= entry->limit) {
            is_max_reached = true;
            break;
        }
        if (first == UINT64_MAX) {
            first = at;
            first_before = next_offset;
        }
        if (at + bytes - first > max && !(is_first_whole && at == first)) {
            is_max_reached = true;
            break;
        }
        if (at + bytes > end) {
            break;
        }
        /* No CRC covers the magic: a batch of another format is none of ours. With sums nothing else is needed. */
        bool is_right = batch.magic == 2 &&
                        (task->side_count > 0 || mr_crc32c(0, here + 21, (size_t)bytes - 21) == batch.crc);
        if (!is_right && !mr_bug("believe-segments")) {
            if (at == first) {
                mr_log(core->log, MR_LOG_ERROR, "bad CRC dir=%s segment=%lld pos=%llu",
                       task->partition->dir_name, (long long)segment->base, (unsigned long long)at);
                return finish(core, task, MR_ERR_CORRUPT);
            }
            break;
        }
        at += bytes;
        next_offset = mr_batch_last_offset(&batch) + 1;
    }
    uint64_t sound = first != UINT64_MAX && at > first ? mr_side_bad(task, memory, first, at) : at;
    if (sound < at) {
        at = batches_end(task, memory, first, sound, &next_offset);
        if (at == first) {
            return not_as_it_was(core, task, sound);
        }
    }
    if (first != UINT64_MAX && at > first) {
        uint32_t len = (uint32_t)(at - first);
        if (op->span_count < op->span_max) {
            lend_page(core, op, entry, task->page, memory + (first - task->b), len);
            entry->bytes = len;
            op->bytes += len;
            core->stats.read_bytes += len;
            mr_walk_hint(task->partition, next_offset, segment->base, (uint32_t)at);
            task->y = next_offset;
        }
        return finish(core, task, MR_OK);
    }
    if (!is_max_reached && at >= segment->size && segment->is_sealed) {
        return go_on_behind(core, task); /* what was asked for is missing, to the segment's end */
    }
    if (is_max_reached || at >= limit) {
        return finish(core, task, MR_OK); /* nothing that fits, or nothing more */
    }
    /* The batch is not whole in this page, or not here: read on from it. */
    uint64_t from = first != UINT64_MAX ? first : at;
    if (from == task->a && task->is_whole_wanted) {
        /* It is larger than a page can hold from its start: gather it. */
        return gather(core, task, from);
    }
    task->is_whole_wanted = from == task->a;
    task->y = first != UINT64_MAX ? first_before : next_offset;
    task->a = from;
    if (mr_page_capacity(task->page) < (MR_PAGE_BYTES << MR_PAGE_ORDER_MAX)) {
        drop_page(core, task);
    }
    return read_data(core, task);
}

/* ---- A first batch larger than one page: page by page, each lent as a span ---- */

static bool gather_step(struct mr_storage_core *core, struct mr_task *task)
{
    /* a: start of the batch; b: position of the next byte; c: end of the batch; y: running CRC */
    struct mr_read_op    *op = (struct mr_read_op *)(void *)task->op;
    struct mr_read_entry *entry = entry_of(task);
    struct mr_disk_op    *disk = &task->io.op;
    if (task->is_data_there && !is_turn_left(core, task)) {
        return true;
    }
    if (task->is_data_there) {
        task->is_data_there = false;
        if (disk->err != MR_OK) {
            return not_read(core, task);
        }
        uint64_t       from = read_from(task->b);
        const uint8_t *memory = mr_page_memory(&core->cold, task->page);
        uint64_t       have = from + disk->done_bytes < task->c ? from + disk->done_bytes : task->c;
        uint64_t skip = task->b == task->a ? 21 : 0; /* what the CRC does not cover */
        if (have <= task->b + skip || op->span_count == op->span_max) {
            return finish(core, task, MR_ERR_CORRUPT); /* the file ends before its last batch does */
        }
        if (mr_side_bad(task, memory, task->b, have) < have) {
            mr_scrub_want(core, task->segment);
            return finish(core, task, MR_ERR_CORRUPT);
        }
        uint32_t len = (uint32_t)(have - task->b);
        lend_page(core, op, entry, task->page, memory + (task->b - from), len);
        task->y = (int64_t)mr_crc32c((uint32_t)task->y, memory + (task->b - from) + skip, len - skip);
        task->b = have;
        task->page->is_busy = false;
        task->page->is_dropped = true; /* freed by the last release */
        task->page = NULL;
        if (task->b == task->c) {
            if ((uint32_t)task->y != (uint32_t)task->crc) {
                return finish(core, task, MR_ERR_CORRUPT); /* its spans are of no use but released as any */
            }
            entry->bytes = (uint32_t)(task->c - task->a);
            op->bytes += entry->bytes;
            task->y = entry->limit; /* one batch, where it ends is not known any more: rather more than fewer */
            return finish(core, task, MR_OK);
        }
    }
    if (core->is_offline) {
        return finish(core, task, MR_ERR_DIR_OFFLINE);
    }
    if (mr_segment_file_ready(core, task->segment) && !mr_side_take(core, task, read_from(task->b))) {
        return mr_side_fetch(core, task, 0);
    }
    if (!mr_segment_file_ready(core, task->segment) ||
        (task->page = mr_page_pool_try(&core->cold, MR_PAGE_ORDER_MAX, MR_FAIL_cold_pages)) == NULL) {
        return mr_core_task_wait(core, task, 0);
    }
    task->page->is_busy = true;
    task->is_data_there = true;
    *disk = (struct mr_disk_op){.kind = MR_DISK_READ,
                                .file = task->segment->file,
                                .buffer = mr_page_memory(&core->cold, task->page),
                                .len = mr_page_capacity(task->page),
                                .pos = read_from(task->b)};
    return true;
}

static bool gather(struct mr_storage_core *core, struct mr_task *task, uint64_t from)
{
    struct mr_read_op    *op = (struct mr_read_op *)(void *)task->op;
    struct mr_batch       batch;
    uint64_t              page_from = read_from(from);
    const uint8_t        *memory = mr_page_memory(&core->cold, task->page);
    if (task->b != page_from || op->span_count + 2 > op->span_max) {
        return finish(core, task, MR_OK);
    }
    mr_batch_header_load(memory + (from - page_from), &batch);
    task->a = from;
    task->b = from;
    task->c = from + mr_batch_bytes(&batch);
    task->y = 0;
    task->crc = batch.crc;
    task->step = gather_step;
    drop_page(core, task);
    return gather_step(core, task);
}

static bool cold_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum cold_at)task->at) {
    case COLD_BEGIN:
        if (mr_scrub_find(core, task->segment, task->x) != NULL) {
            return finish(core, task, MR_ERR_CORRUPT);
        }
        for (uint32_t index = 0; index < MR_READ_HINTS; index++) {
            const struct mr_place *hint = &task->partition->hints[index];
            if (hint->offset == task->x && hint->base == task->segment->base) {
                task->a = hint->pos;
                task->y = hint->offset;
                task->at = COLD_DATA;
                return read_data(core, task);
            }
        }
        return mr_index_find(core, task, MR_INDEX_OFFSET, task->x, COLD_PLACED);
    case COLD_PLACED:
        task->a = (uint64_t)task->find.result;
        task->y = task->a == 0 ? task->segment->base : -1;
        task->at = COLD_DATA;
        return read_data(core, task);
    case COLD_DATA:
        return read_data(core, task);
    case COLD_DATA_READ:
        read_end(core, task);
        if (!is_turn_left(core, task)) {
            return true;
        }
        if (op->err != MR_OK) {
            return not_read(core, task);
        }
        if (!mr_index_is_true(task, mr_page_memory(&core->cold, task->page), op->done_bytes)) {
            drop_page(core, task);
            return mr_index_find_before(core, task, COLD_PLACED);
        }
        return use_data(core, task);
    }
    mr_unreachable("cold read");
}

void mr_cold_read_start(struct mr_storage_core *core, struct mr_read_op *op, uint32_t index)
{
    struct mr_read_entry *entry = &op->entries[index];
    struct mr_partition  *p = mr_core_find(core, entry->log_id);
    struct mr_segment    *segment = mr_segment_find(p, entry->from);
    bool                  is_gated = segment != NULL && mr_cleaner_is_gated(core, segment);
    struct mr_task       *task = segment == NULL || is_gated ? NULL : mr_core_task(core, p, cold_step);
    if (segment == NULL) {
        entry->err = MR_ERR_OFFSET_OUT_OF_RANGE;
        op->op.pending++;
        mr_read_continue(core, op);
        return;
    }
    if (is_gated && op->bytes > 0) {
        /* It has an answer, and pages that those may wait for who keep the gate shut. */
        op->op.pending++;
        mr_read_continue(core, op);
        return;
    }
    if (task == NULL) {
        mr_core_again(core, &op->op);
        return;
    }
    task->op = &op->op;
    task->index = index;
    task->segment = segment;
    task->x = entry->from;
    segment->users++;
    mr_core_task_start(core, task);
}
