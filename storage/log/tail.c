/*
 * tail: the runs of memory that mirror the end of a log's segments.
 *
 *   segment   |........written........|.... not in the file yet ....|
 *   runs              [ clean ][ clean, dirty ][ dirty ][ dirty   ..|  ]
 *
 * Runs of a log are contiguous and reach its end; each begins at a multiple of 4096 of the file, so
 * they are written without gathering. The next run is twice as large as the last one while a log is
 * busy: a slow log holds 4 KiB, a fast one 1 MiB pieces that are one write and one span; where many are busy, less, for the
 * last run of a log stays in memory until it is full. Where that is still too much, those that have been quiet longest write
 * theirs and let it go (demux.c).
 */
#include "storage_core.h"

#include "millrace/base/bug.h"
#include "millrace/base/copy.h"
#include "millrace/batch.h"

#define EVICTION_LOOKS 64 /* runs that may not go and are passed over for one page */

static void put_run(struct mr_storage_core *core, struct mr_partition *p, struct mr_page *run)
{
    core->tail_logs += mr_list_is_empty(&p->runs);
    mr_list_add_tail(&p->runs, &run->link);
}

static void take_run(struct mr_storage_core *core, struct mr_page *run)
{
    mr_list_remove(&run->link);
    core->tail_logs -= mr_list_is_empty(&run->partition->runs);
}

/* The log does not have the run any more; memory that is lent goes when it comes back. */
static void drop_run(struct mr_storage_core *core, struct mr_page *run)
{
    take_run(core, run);
    mr_list_remove(&run->by_age);
    core->dirty_bytes -= run->used - run->clean;
    run->partition = NULL;
    run->segment = NULL;
    if (run->refs > 0 || run->holds > 0) {
        run->is_dropped = true;
    } else {
        mr_page_pool_put(&core->cache, run);
    }
}

/* Where the last batch that begins in the run, or goes through it, ends. */
static uint32_t last_batch_end(const struct mr_page *run)
{
    for (struct mr_list *link = run->link.next; link != &run->partition->runs; link = link->next) {
        const struct mr_page *next = MR_LIST_ENTRY(link, struct mr_page, link);
        if (next->segment != run->segment) {
            break;
        }
        if (next->first_offset >= 0) {
            return next->first_pos;
        }
    }
    return run->segment->size;
}

/*
 * The longest clean run that may go. One whose last batch ends in a later run stays until that end is in the file:
 * a reader of the batch would find neither memory nor a file that has all of it.
 */
static struct mr_page *evictable(struct mr_storage_core *core)
{
    uint32_t looked_at = 0;
    MR_LIST_EACH(link, &core->clean_runs) {
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, by_age);
        if (last_batch_end(run) <= run->segment->written) {
            return run;
        }
        if (++looked_at == EVICTION_LOOKS) {
            break;
        }
    }
    return NULL;
}

struct mr_page *mr_tail_page_get(struct mr_storage_core *core, uint32_t order)
{
    struct mr_page *page;
    while ((page = mr_page_pool_try(&core->cache, order, MR_FAIL_tail_pages)) == NULL) {
        /* Everything of this log up to the longest clean run goes, so that its runs stay contiguous. */
        struct mr_page *oldest = evictable(core);
        if (oldest == NULL) {
            core->is_page_wanted |= order == 0;
            return NULL;
        }
        struct mr_partition *p = oldest->partition;
        struct mr_page      *run;
        do {
            run = MR_LIST_ENTRY(p->runs.next, struct mr_page, link);
            mr_assert(run->clean == run->used && !run->is_busy);
            drop_run(core, run);
        } while (run != oldest);
        /* The active segment may have begun just now, perhaps for the very append that wants the page. */
        if (mr_list_is_empty(&p->runs) && p->active->size % MR_PAGE_BYTES != 0) {
            p->tail = MR_TAIL_COLD;
        }
    }
    return page;
}

static struct mr_page *last_run(const struct mr_partition *p)
{
    return mr_list_is_empty(&p->runs) ? NULL : MR_LIST_ENTRY(p->runs.prev, struct mr_page, link);
}

/* A new last run at `pos` of the active segment. */
static struct mr_page *add_run(struct mr_storage_core *core, struct mr_partition *p, uint32_t pos, uint32_t order)
{
    struct mr_page *run = NULL;
    for (;; order--) {
        run = mr_tail_page_get(core, order);
        if (run != NULL || order == 0) {
            break;
        }
    }
    if (run != NULL) {
        run->partition = p;
        run->segment = p->active;
        run->pos = pos;
        put_run(core, p, run);
    }
    return run;
}

/* The largest run that a log takes ahead of its need: all tails together keep a quarter of the cache at most. */
static uint32_t run_order_max(const struct mr_storage_core *core)
{
    uint32_t order = MR_PAGE_ORDER_MAX;
    while (order > 0 && ((uint64_t)MR_PAGE_BYTES << order) * core->tail_logs > core->plan.cache_bytes / 4) {
        order--;
    }
    return order;
}

bool mr_tail_reserve(struct mr_storage_core *core, struct mr_partition *p, uint32_t bytes)
{
    struct mr_page *run = last_run(p);
    uint32_t        end = p->active->size; /* of the memory that there is */
    if (run != NULL && run->segment == p->active) {
        end = run->pos + mr_page_capacity(run);
        mr_list_remove(&run->by_age); /* it is about to be filled */
    } else {
        mr_assert(p->active->size % MR_PAGE_BYTES == 0);
    }
    uint32_t want = p->active->size + bytes;
    uint32_t order_max = run_order_max(core);
    while (end < want) {
        uint32_t order = mr_page_order(want - end);
        p->run_order = p->run_order < order_max ? p->run_order : (uint8_t)order_max;
        order = order < p->run_order ? p->run_order : order;
        run = add_run(core, p, end, order);
        if (run == NULL) {
            return false; /* what there is stays, for the next try */
        }
        end += mr_page_capacity(run);
        p->run_order = (uint8_t)(p->run_order + (p->run_order < MR_PAGE_ORDER_MAX));
    }
    return true;
}

/* Where the next byte goes: the first run that is not full. Walks back over empty ones. */
static struct mr_list *first_with_room(const struct mr_partition *p)
{
    struct mr_list *link = p->runs.prev;
    while (link->prev != &p->runs) {
        const struct mr_page *before = MR_LIST_ENTRY(link->prev, struct mr_page, link);
        if (before->segment != p->active || before->used == mr_page_capacity(before)) {
            break;
        }
        link = link->prev;
    }
    return link;
}

uint32_t mr_tail_lend(struct mr_storage_core *core, const struct mr_partition *p, uint32_t bytes,
                      struct mr_journal_lent *out, uint32_t max)
{
    uint32_t count = 0;
    for (struct mr_list *link = first_with_room(p); bytes > 0; link = link->next) {
        mr_assert(link != &p->runs);
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        uint32_t        room = mr_page_capacity(run) - run->used;
        uint32_t        part = bytes < room ? bytes : room;
        if (count == max) {
            return 0;
        }
        out[count++] = (struct mr_journal_lent){
            .data = mr_page_memory(&core->cache, run) + run->used, .len = part, .owner = run};
        bytes -= part;
    }
    return count;
}

/* Of a batch that is lent to a commit the disk is the first reader. */
static void copy_in(const struct mr_journal_payload *payload, uint32_t at, uint8_t *out, uint32_t len)
{
    uint32_t head = payload->lent_count == 0 ? len : at < payload->prefix_bytes ? payload->prefix_bytes - at : 0;
    head = head < len ? head : len;
    mr_journal_payload_copy(payload, at, out, head);
    if (len > head) {
        mr_chain_copy_past_caches(payload->chain, at + head, out + head, len - head);
    }
}

void mr_tail_append(struct mr_storage_core *core, struct mr_partition *p, const struct mr_journal_payload *payload,
                    int64_t batch_offset, uint64_t seq)
{
    struct mr_segment *segment = p->active;
    struct mr_list    *link = first_with_room(p);
    uint32_t           at = payload->at;
    uint32_t           len = payload->bytes;
    segment->last_seq = seq;
    core->dirty_bytes += len;
    while (len > 0) {
        mr_assert(link != &p->runs);
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        uint32_t        room = mr_page_capacity(run) - run->used;
        uint32_t        part = len < room ? len : room;
        mr_assert(run->segment == segment && run->pos + run->used == segment->size);
        if (batch_offset >= 0 && run->first_offset < 0) {
            run->first_offset = batch_offset;
            run->first_pos = segment->size;
        }
        batch_offset = -1; /* it begins in one run only */
        copy_in(payload, at, mr_page_memory(&core->cache, run) + run->used, part);
        run->used += part;
        mr_list_remove(&run->by_age); /* not clean any more */
        segment->size += part;
        at += part;
        len -= part;
        link = link->next;
    }
    p->end.base = segment->base;
    p->end.pos = segment->size;
}

#define HYDRATE_TRIES 32u

/*
 * The block is read twice, and again until it is the same twice in a row: what is read here is written again, and a read
 * that went wrong once would spoil acknowledged records for ever. Not the same in any two of three: a lie may be the same
 * each time, as old bytes are. Task fields: page: what was read last; crc: of it.
 */
static bool hydrate_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    struct mr_segment   *segment = task->segment;
    struct mr_disk_op   *op = &task->io.op;
    uint32_t             block = segment->size & ~(MR_PAGE_BYTES - 1);
    uint32_t             used = segment->size - block;
    uint8_t             *bytes = mr_page_memory(&core->cache, task->page);
    bool                 is_read = task->at == 0 || (op->err == MR_OK && op->done_bytes >= used);
    bool                 is_same = false;
    if (is_read && task->at > 0) {
        uint32_t crc = mr_crc32c(0, bytes, used);
        is_same = task->at > 1 && crc == task->crc;
        task->crc = crc;
    }
    if (is_read && !is_same && task->at < HYDRATE_TRIES) {
        task->at++;
        *op = (struct mr_disk_op){
            .kind = MR_DISK_READ, .file = segment->file, .buffer = bytes, .len = MR_PAGE_BYTES, .pos = block};
        return true;
    }
    segment->users--;
    task->page->is_busy = false;
    if (!is_same) {
        op->err = op->err == MR_OK ? MR_ERR_CORRUPT : op->err;
        mr_page_pool_put(&core->cache, task->page);
        p->tail = MR_TAIL_COLD;
        mr_core_fail(core, op, "reading the last block of a segment");
        return false;
    }
    task->page->partition = p;
    task->page->segment = segment;
    task->page->pos = block;
    task->page->used = used;
    task->page->clean = task->page->used;
    put_run(core, p, task->page);
    p->tail = MR_TAIL_HOT;
    p->is_image_due = true;
    return false;
}

void mr_tail_hydrate(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_segment *segment = p->active;
    mr_assert(p->tail == MR_TAIL_COLD);
    if (segment->size % MR_PAGE_BYTES == 0) {
        p->tail = MR_TAIL_HOT;
        return;
    }
    if (!mr_segment_file_ready(core, segment)) {
        return; /* asked again with the parked operations */
    }
    struct mr_page *page = mr_tail_page_get(core, 0);
    struct mr_task *task = page != NULL ? mr_core_task(core, p, hydrate_step) : NULL;
    if (task == NULL) {
        if (page != NULL) {
            mr_page_pool_put(&core->cache, page);
        }
        return;
    }
    mr_tail_drop(core, p);
    task->segment = segment;
    task->page = page;
    page->is_busy = true;
    segment->users++;
    p->tail = MR_TAIL_READING;
    mr_core_task_start(core, task);
}

void mr_tail_trim(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_page *run;
    while ((run = last_run(p)) != NULL && run->used == 0) {
        drop_run(core, run);
    }
}

void mr_tail_drop(struct mr_storage_core *core, struct mr_partition *p)
{
    while (!mr_list_is_empty(&p->runs)) {
        drop_run(core, MR_LIST_ENTRY(p->runs.next, struct mr_page, link));
    }
}

void mr_tail_drop_segment(struct mr_storage_core *core, const struct mr_segment *segment)
{
    MR_LIST_EACH_SAFE(link, after, &segment->partition->runs) {
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        if (run->segment == segment) {
            drop_run(core, run);
        }
    }
}

uint64_t mr_tail_pin(struct mr_storage_core *core, struct mr_page *run)
{
    if (run->refs++ == 0) {
        core->pinned_bytes += mr_page_capacity(run);
    }
    return mr_page_reference(&core->cache, run);
}

void mr_tail_release(struct mr_storage_core *core, uint64_t reference)
{
    bool                 is_cold = (reference & MR_COLD_REFERENCE) != 0;
    struct mr_page_pool *pool = is_cold ? &core->cold : &core->cache;
    struct mr_page      *page = mr_page_find(pool, reference & ~MR_COLD_REFERENCE);
    mr_assert(page->refs > 0);
    if (mr_bug_each("leak-pages", 20)) {
        return;
    }
    page->refs--;
    if (page->refs == 0 && !is_cold) {
        core->pinned_bytes -= mr_page_capacity(page);
    }
    if (page->refs == 0 && page->holds == 0 && page->is_dropped) {
        mr_page_pool_put(pool, page);
    }
}

void mr_tail_keep(struct mr_page *run)
{
    run->holds++;
}

void mr_tail_let_go(struct mr_storage_core *core, struct mr_page *run)
{
    mr_assert(run->holds > 0);
    run->holds--;
    if (run->holds == 0 && run->refs == 0 && run->is_dropped) {
        mr_page_pool_put(&core->cache, run);
    }
}
