/*
 * demux: tail runs into segment files, behind the journal.
 *
 *   a run that is full and flushed     is written at once: waiting would make it no larger
 *   a log with bytes in the oldest     its whole blocks are written; what is left of less than a block is
 *   journal file                       journaled again (CARRY); a log that was idle since its last CARRY is
 *                                      written to its end and truncated there (parked): no memory, no file
 *   no memory, and nothing may go      logs that are quiet are parked, longest quiet first
 *   a sealed segment                   is written to its end, truncated, synced, before its successor
 *   a clean stop                       writes the rest of a log that has little of it here and now, through the page
 *                                      cache: thousands of small tails in the order of the disk, by one syncfs
 *
 * Only flushed bytes are written (J4: a block that is rewritten is in the live journal as IMAGE, CARRY or APPEND).
 * One write per log at a time. Nothing else touches a segment with live entries (J6).
 */
#include "storage_core.h"

#include "log/scrub.h"

#define DEMUX_IN_FLIGHT 16
#define PAUSE_NS        MR_NS_PER_S /* after a lack of space */
#define STEP_RUNS       8u
#define STEP_ORDER_MIN  4u /* 64 KiB runs: the log has had some hundred KiB since it was idle */
#define REST_BYTES      (32u << 10) /* what a clean stop leaves to mr_demux_rest */
#define DRAINS_PER_TURN 256u /* logs that are not done with the oldest file and are looked at in one turn */

void mr_demux_note_dirty(struct mr_storage_core *core, struct mr_partition *p, uint64_t seq)
{
    if (!mr_list_is_empty(&p->dirty_link)) {
        return;
    }
    p->first_dirty_seq = seq;
    /* By sequence; what comes later is nearly always the largest. */
    struct mr_list *after = core->dirty.prev;
    while (after != &core->dirty &&
           MR_LIST_ENTRY(after, struct mr_partition, dirty_link)->first_dirty_seq > seq) {
        after = after->prev;
    }
    mr_list_add_head(after, &p->dirty_link);
}

/* Flushed bytes of a segment. */
static uint32_t durable_end(const struct mr_partition *p, const struct mr_segment *segment)
{
    if (segment->base < p->durable.base) {
        return segment->size;
    }
    return segment->base == p->durable.base ? p->durable.pos : 0;
}

/* The first run that is not wholly in its file; NULL: none. */
static struct mr_page *first_dirty(const struct mr_partition *p)
{
    struct mr_page *found = NULL;
    for (struct mr_list *link = p->runs.prev; link != &p->runs; link = link->prev) {
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        if (run->used > 0 && run->clean == run->used) {
            break;
        }
        if (run->used > 0) {
            found = run;
        }
    }
    return found;
}

/* The first segment that is sealed but not finished; NULL: none. */
static struct mr_segment *first_unsealed(const struct mr_partition *p)
{
    struct mr_segment *found = NULL;
    for (struct mr_list *link = p->segments.prev; link != &p->segments; link = link->prev) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (segment->is_seal_done) {
            break;
        }
        if (segment->is_sealed) {
            found = segment;
        }
    }
    return found;
}

static bool has_full_run(const struct mr_partition *p)
{
    const struct mr_page *run = first_dirty(p);
    if (run == NULL) {
        return first_unsealed(p) != NULL && durable_end(p, first_unsealed(p)) == first_unsealed(p)->size;
    }
    uint32_t end = durable_end(p, run->segment);
    return (run->used == mr_page_capacity(run) && run->pos + run->used <= end) ||
           (run->segment->is_sealed && end == run->segment->size);
}

void mr_demux_ready(struct mr_storage_core *core, struct mr_partition *p)
{
    if (mr_list_is_empty(&p->demux_link) && !p->is_demuxing && (p->is_draining || has_full_run(p))) {
        mr_list_add_tail(&core->demux_ready, &p->demux_link);
    }
}

/*
 * Space ahead of a fast log, so that its writes do not extend the file: in steps of eight of its runs, none for a slow
 * log. The file is longer than its data then, with zeros behind it, until the segment ends, the log is parked or the
 * broker stops (ruling 18). Not before a write to the end of the log: what is behind it is cleared when that begins.
 */
static uint64_t allocation_step(const struct mr_storage_core *core, const struct mr_task *task, uint64_t end)
{
    const struct mr_segment *segment = task->segment;
    uint64_t segment_max = ((uint64_t)segment->partition->config.segment_bytes + MR_PAGE_BYTES - 1) &
                           ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint64_t from = task->a > segment->allocated ? task->a : segment->allocated;
    uint64_t to = from + STEP_RUNS * (uint64_t)mr_page_capacity(task->page);
    to = to < segment_max ? to : segment_max;
    if (task->x != 0 || segment->is_sealed || task->page->order < STEP_ORDER_MIN || core->is_allocate_refused ||
        !mr_space_has(core, (uint32_t)(STEP_RUNS * mr_page_capacity(task->page))) || to <= end) {
        return 0;
    }
    return to - from;
}

/* A write or an open that needed space did not get it: nothing is lost, the journal has the bytes. */
void mr_demux_pause(struct mr_storage_core *core)
{
    core->demux_paused_ns = core->now.mono_ns + PAUSE_NS;
    mr_space_short(core, true);
}

enum demux_at {
    DEMUX_BEGIN,
    DEMUX_ALLOCATED,
    DEMUX_WRITTEN,
    DEMUX_TRUNCATED,
    DEMUX_SYNCED,
    DEMUX_INDEXED,
};

static void demux_end(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    task->segment->users--;
    p->is_demuxing = false;
    core->demux_in_flight--;
    mr_list_remove(&p->demux_link);
    mr_demux_ready(core, p);
}

static bool write_run(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_page    *run = task->page;
    uint32_t           len = (uint32_t)(task->b - task->a);
    uint32_t           whole = (len + MR_PAGE_BYTES - 1) & ~(MR_PAGE_BYTES - 1);
    uint8_t           *from = mr_page_memory(&core->cache, run) + (task->a - run->pos);
    if (whole != len) {
        memset(from + len, 0, whole - len); /* behind `used`: nobody reads it, appends overwrite it */
    }
    task->at = DEMUX_WRITTEN;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                      .flags = task->a + whole > segment->allocated ? (uint32_t)MR_DISK_BACKGROUND : 0u,
                                      .file = segment->file,
                                      .buffer = from,
                                      .len = whole,
                                      .pos = task->a};
    return true;
}

/* Nothing comes into the run, or what comes finds another: all of the log may go. */
static bool is_at_rest(const struct mr_page *run)
{
    const struct mr_partition *p = run->partition;
    bool                       is_end = p->runs.prev == &run->link && p->part_of == NULL;
    return run->used == mr_page_capacity(run) || run->segment->is_sealed || is_end;
}

/* Task: page: the run; a: position written from; b: to (multiples of a block, or the end); x: 1 when the segment's
 * end was written. */
static bool demux_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    if (task->at == DEMUX_ALLOCATED && (op->err == MR_ERR_NO_SPACE || op->err == MR_ERR_INVALID)) {
        /* Without it the write extends the file. */
        core->is_allocate_refused |= op->err == MR_ERR_INVALID;
        op->err = MR_OK;
        op->len64 = 0;
    }
    if (task->at != DEMUX_BEGIN && op->err != MR_OK) {
        if (task->page != NULL) {
            task->page->is_busy = false;
        }
        /* Lack of space in a block that was there before is a failed write (ruling 16). */
        if (op->err == MR_ERR_NO_SPACE && op->kind == MR_DISK_WRITE && op->pos + op->len > segment->allocated) {
            mr_demux_pause(core);
        } else {
            mr_core_fail(core, op, "writing a segment");
        }
        demux_end(core, task);
        return false;
    }
    switch ((enum demux_at)task->at) {
    case DEMUX_BEGIN: {
        if (task->page == NULL) {
            task->at = DEMUX_TRUNCATED;
            *op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = segment->file, .pos = segment->size};
            return true;
        }
        uint64_t end = (task->b + MR_PAGE_BYTES - 1) & ~(uint64_t)(MR_PAGE_BYTES - 1);
        uint64_t step = end > segment->allocated ? allocation_step(core, task, end) : 0;
        if (step == 0) {
            return write_run(core, task);
        }
        task->at = DEMUX_ALLOCATED;
        *op = (struct mr_disk_op){.kind = MR_DISK_ALLOCATE,
                                  .flags = MR_DISK_BACKGROUND,
                                  .file = segment->file,
                                  .pos = task->a > segment->allocated ? task->a : segment->allocated,
                                  .len64 = step};
        return true;
    }
    case DEMUX_ALLOCATED:
        if (op->len64 > 0) {
            segment->allocated = (uint32_t)(op->pos + op->len64);
            mr_space_take(core, op->len64);
        }
        return write_run(core, task);
    case DEMUX_WRITTEN: {
        struct mr_page *run = task->page;
        uint32_t        clean = (uint32_t)(task->b - run->pos);
        run->is_busy = false;
        core->dirty_bytes -= clean > run->clean ? clean - run->clean : 0;
        core->stats.demux_bytes += op->len;
        run->clean = clean > run->clean ? clean : run->clean;
        if (core->is_space_short) {
            mr_space_short(core, false);
        }
        segment->written = (uint32_t)task->b > segment->written ? (uint32_t)task->b : segment->written;
        segment->allocated = (uint32_t)op->pos + op->len > segment->allocated ? (uint32_t)op->pos + op->len
                                                                              : segment->allocated;
        if (run->clean == run->used && is_at_rest(run)) {
            mr_list_add_tail(&core->clean_runs, &run->by_age);
        }
        if (task->x == 0) {
            demux_end(core, task);
            return false;
        }
        task->page = NULL;
        task->at = DEMUX_TRUNCATED;
        *op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = segment->file, .pos = task->b};
        return true;
    }
    case DEMUX_TRUNCATED:
        segment->allocated = (uint32_t)op->pos;
        if (!segment->is_sealed) {
            demux_end(core, task);
            return false;
        }
        task->at = DEMUX_SYNCED;
        *op = (struct mr_disk_op){.kind = MR_DISK_SYNC, .flags = MR_DISK_BACKGROUND, .file = segment->file};
        return true;
    case DEMUX_SYNCED:
        if (!segment->is_index_busy) {
            return mr_segment_index_flush_call(core, task, DEMUX_INDEXED);
        }
        demux_end(core, task); /* once more, with what its index has in memory */
        return false;
    case DEMUX_INDEXED: /* all of it is in files, before the syncfs of a recycling that takes it for done */
        segment->is_seal_done = true;
        mr_scrub_want(core, segment);
        demux_end(core, task);
        return false;
    }
    mr_unreachable("demux");
}

/* Start the next write of a log. Returns whether there was one to start (or to wait for). */
static bool demux(struct mr_storage_core *core, struct mr_partition *p, bool is_to_the_end)
{
    struct mr_page    *run = first_dirty(p);
    struct mr_segment *unsealed = first_unsealed(p);
    struct mr_segment *segment = run == NULL ? unsealed : run->segment;
    if (unsealed != NULL && run != NULL && unsealed->base < segment->base) {
        segment = unsealed; /* everything of it is written; it is not finished */
        run = NULL;
    }
    if (segment == NULL && is_to_the_end && p->active->allocated > p->active->size) {
        segment = p->active; /* all is written, the space ahead goes */
    }
    if (segment == NULL) {
        return false;
    }
    uint32_t durable = durable_end(p, segment);
    uint32_t from = 0;
    uint32_t to = 0;
    bool     is_end = false;
    if (run != NULL) {
        from = (run->pos + run->clean) & ~(MR_PAGE_BYTES - 1);
        to = run->pos + run->used < durable ? run->pos + run->used : durable;
        is_end = to == segment->size && (segment->is_sealed || is_to_the_end);
        to = is_end ? to : to & ~(MR_PAGE_BYTES - 1);
        if (to <= run->pos + run->clean) {
            return false;
        }
    } else if (durable != segment->size) {
        return false;
    }
    if (!mr_segment_file_ready(core, segment)) {
        return true;
    }
    struct mr_task *task = mr_core_task(core, p, demux_step);
    if (task == NULL) {
        return true;
    }
    task->segment = segment;
    task->page = run;
    task->a = from;
    task->b = to;
    task->x = is_end ? 1 : 0;
    if (run != NULL) {
        run->is_busy = true;
    }
    segment->users++;
    p->is_demuxing = true;
    core->demux_in_flight++;
    mr_core_task_start(core, task);
    return true;
}

/*
 * The flushed bytes that are less than a block go into the journal again: what the oldest file holds is among
 * them, or in the segment. What is not flushed yet has its entries in a later file. MR_AGAIN: no room now.
 */
static enum mr_err carry(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_page *run = first_dirty(p);
    uint32_t        from = (run->pos + run->clean) & ~(MR_PAGE_BYTES - 1);
    uint32_t        end = run->pos + run->used;
    uint32_t        durable = durable_end(p, run->segment);
    uint64_t        seq = mr_journal_open_seq(core->journal);
    end = durable < end ? durable : end;
    if (end > from) {
        mr_assert(end - from < MR_PAGE_BYTES); /* whole blocks have been written */
        struct mr_journal_entry   entry = {.kind = MR_JOURNAL_CARRY, .offset = p->end.offset,
                                           .segment_base = run->segment->base, .pos = from};
        struct mr_journal_payload payload = {.prefix = mr_page_memory(&core->cache, run) + (from - run->pos),
                                             .prefix_bytes = end - from, .bytes = UINT32_MAX};
        enum mr_err err = mr_journal_add(core->journal, &p->jlog, &entry, &payload, &seq);
        if (err != MR_OK) {
            return err;
        }
        run->segment->last_seq = seq;
    }
    bool is_whole = p->pending_count == 0;
    mr_list_remove(&p->dirty_link);
    mr_demux_note_dirty(core, p, is_whole ? seq : p->pending[0].first_seq);
    p->is_carried = is_whole;
    return MR_OK;
}

/* One log for the oldest file. Returns whether it is done with it. */
static bool drain(struct mr_storage_core *core, struct mr_partition *p)
{
    if (p->state == MR_PARTITION_DROPPING) {
        mr_list_remove(&p->dirty_link); /* of no use any more, and an entry behind its DROP would bring it back */
        return true;
    }
    if (mr_txn_index_flush(core, p)) {
        return false; /* what the oldest file says of aborted transactions must be in theirs */
    }
    bool is_park = (p->is_carried || p->is_park_wanted) && p->pending_count == 0;
    bool is_end = is_park || core->is_stopping || first_dirty(p) == NULL;
    if (p->is_demuxing || demux(core, p, is_end)) {
        return false;
    }
    if (first_dirty(p) == NULL) {
        mr_list_remove(&p->dirty_link);
        if (is_park && !core->is_stopping) {
            mr_segment_index_flush(core, p->active);
            mr_tail_drop(core, p);
            p->tail = p->active->size % MR_PAGE_BYTES == 0 ? MR_TAIL_HOT : MR_TAIL_COLD;
            p->run_order = 0;
        }
        p->is_park_wanted = false;
        return true;
    }
    enum mr_err err = carry(core, p);
    /* With thousands of small logs the carried tails of one file may not fit what is left of the ring: then
     * the tail is written with padding, which needs no room in it. */
    p->is_park_wanted = err == MR_AGAIN && mr_journal_is_starved(core->journal);
    return err == MR_OK;
}

/*
 * All of the cache is ends of tails, each in a run that waits to be full: those that have been quiet longest are written to
 * their end and let go. Whoever wants memory asks again when a write has ended.
 */
static void park_for_memory(struct mr_storage_core *core)
{
    uint32_t looked = 0;
    core->is_page_wanted = false;
    MR_LIST_EACH_SAFE(link, after, &core->dirty) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, dirty_link);
        if (core->demux_in_flight >= DEMUX_IN_FLIGHT || looked++ == DRAINS_PER_TURN) {
            return;
        }
        if (p->state != MR_PARTITION_DROPPING && p->pending_count == 0 && p->part_of == NULL) {
            p->is_park_wanted = true;
            (void)drain(core, p);
        }
    }
}

void mr_demux_turn(struct mr_storage_core *core)
{
    struct mr_journal_pressure pressure;
    if (core->is_offline || core->now.mono_ns < core->demux_paused_ns) {
        return;
    }
    struct mr_list again; /* logs whose file is being opened: not asked twice in one turn */
    mr_list_init(&again);
    while (core->demux_in_flight < DEMUX_IN_FLIGHT && !mr_list_is_empty(&core->demux_ready)) {
        struct mr_partition *p = MR_LIST_ENTRY(mr_list_pop(&core->demux_ready), struct mr_partition, demux_link);
        if (!p->is_demuxing && demux(core, p, false) && !p->is_demuxing) {
            mr_list_add_tail(&again, &p->demux_link);
        }
    }
    while (!mr_list_is_empty(&again)) {
        mr_list_add_tail(&core->demux_ready, mr_list_pop(&again));
    }
    if (core->is_page_wanted) {
        park_for_memory(core);
    }
    mr_journal_pressure(core->journal, &pressure);
    bool is_reclaim = core->reclaim_seq >= mr_journal_start_seq(core->journal);
    if (is_reclaim && pressure.oldest_end_seq == 0) {
        mr_journal_roll(core->journal);
    }
    if (core->part_open != NULL || pressure.oldest_end_seq == 0 || pressure.is_recycling ||
        pressure.oldest_end_seq > mr_journal_durable_seq(core->journal)) {
        return;
    }
    bool is_memory_short = core->dirty_bytes > core->plan.cache_bytes / 2;
    if (!core->is_stopping && !is_reclaim && !pressure.is_starved && !is_memory_short &&
        pressure.free_bytes > pressure.ring_bytes / 2) {
        return;
    }
    uint32_t left = core->drop_count; /* a DROP leaves the journal after its directory has left the place (J5) */
    MR_LIST_EACH_SAFE(link, after, &core->dirty) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, dirty_link);
        if (p->first_dirty_seq > pressure.oldest_end_seq) {
            break;
        }
        if (core->demux_in_flight >= DEMUX_IN_FLIGHT || left >= core->drop_count + DRAINS_PER_TURN) {
            left++;
            break;
        }
        left += !drain(core, p);
    }
    if (left == 0) {
        mr_journal_drained(core->journal, pressure.oldest_end_seq);
    }
}

uint64_t mr_demux_deadline_ns(const struct mr_storage_core *core)
{
    return core->demux_paused_ns > core->now.mono_ns ? core->demux_paused_ns : MR_NEVER;
}

/* ---- A clean stop ---- */

/* Bytes from the first block that is not wholly in the file to the end of the log, all in the active segment. */
static bool is_rest(const struct mr_partition *p)
{
    const struct mr_page *run = first_dirty(p);
    if (p->is_demuxing || first_unsealed(p) != NULL) {
        return false;
    }
    return run == NULL || (run->segment == p->active && p->active->size - run->pos - run->clean <= REST_BYTES);
}

void mr_demux_flush(struct mr_storage_core *core)
{
    uint32_t waiting = 0; /* for their file, or for the journal */
    MR_LIST_EACH_SAFE(link, after, &core->dirty) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, dirty_link);
        if (core->demux_in_flight + waiting >= DEMUX_IN_FLIGHT) {
            return;
        }
        if (!is_rest(p) && (p->is_demuxing || p->pending_count > 0 || demux(core, p, true))) {
            waiting += !p->is_demuxing;
            continue;
        }
        mr_list_remove(&p->dirty_link);
    }
}

/* Only what it holds where the file ends there already; elsewhere whole blocks, or the kernel would read the old one. */
static enum mr_err write_rest(struct mr_storage_core *core, struct mr_segment *segment, struct mr_page *run, int32_t file)
{
    uint32_t from = (run->pos + run->clean) & ~(MR_PAGE_BYTES - 1);
    uint32_t len = run->pos + run->used - from;
    uint32_t whole = (len + MR_PAGE_BYTES - 1) & ~(MR_PAGE_BYTES - 1);
    uint32_t in_file = segment->allocated > segment->written ? segment->allocated : segment->written;
    uint8_t *memory = mr_page_memory(&core->cache, run) + (from - run->pos);
    if (in_file > from) {
        memset(memory + len, 0, whole - len);
        len = whole;
    }
    struct mr_disk_op op = {.kind = MR_DISK_WRITE, .file = file, .buffer = memory, .len = len, .pos = from};
    if (mr_core_disk(core, &op) != MR_OK) {
        return op.err;
    }
    core->dirty_bytes -= run->used - run->clean;
    core->stats.demux_bytes += len;
    run->clean = run->used;
    segment->written = run->pos + run->used;
    segment->allocated = from + len > in_file ? from + len : in_file;
    return MR_OK;
}

enum mr_err mr_demux_rest(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_segment *segment = p->active;
    struct mr_page    *run = first_dirty(p);
    if (run == NULL && segment->allocated <= segment->size) {
        return MR_OK;
    }
    mr_assert(is_rest(p) && p->durable.offset == p->end.offset);
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(segment, ".log", name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
    if (mr_core_disk(core, &op) != MR_OK) {
        return op.err;
    }
    int32_t     file = op.file;
    enum mr_err err = MR_OK;
    for (; run != NULL && err == MR_OK; run = first_dirty(p)) {
        err = write_rest(core, segment, run, file);
    }
    if (err == MR_OK && segment->allocated > segment->size) {
        op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = segment->size};
        err = mr_core_disk(core, &op);
        segment->allocated = segment->size;
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    return err;
}
