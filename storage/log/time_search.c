/*
 * time_search: the first record at or after a time, or the first with the largest one, wherever it lies.
 *
 *   choose   the first segment whose largest timestamp reaches the time; of segments from before this start it is
 *            learnt from the file (segment_time.c), and where no index tells it, by a scan of the headers
 *   place    time index -> offset -> offset index -> position
 *   scan     headers from there on, in files 256 KiB at a time, in tail runs in place; the one batch that can
 *            answer is opened
 *
 * An entry of a time index in a file says: up to this offset nothing is newer than this, and the batch of the offset is
 * as new. Batches that the scan meets up to there must fit, or the entry before it is asked; likewise the largest
 * timestamp of a segment, before the segment is passed over for it.
 *
 * Before retention by time deletes a segment from before this start, the largest timestamp is proven likewise, and that
 * nothing behind it is newer: an index that lies or ends early would have it deleted before its time.
 *
 * Only below the high watermark and at or above the log start. A batch whose header lied about its largest
 * timestamp is passed over. Source: Kafka's UnifiedLog.fetchOffsetByTimestamp, LogSegment.findOffsetByTimestamp.
 */
#include "log/log_walk.h"

#include "millrace/base/bug.h"

#define CHUNK_ORDER      6u    /* 256 KiB */
#define BATCHES_PER_TURN 4096u /* of tail runs */
#define TRIES_MAX        8u    /* entries that are not true: then the scan begins with the segment */

enum search_at {
    SEARCH_CHOOSE,
    SEARCH_TIMED,
    SEARCH_PLACED,
    SEARCH_SCAN,
    SEARCH_READ,
};

enum search_goal {
    GOAL_FIRST, /* the first record that is not older */
    GOAL_MAX,   /* the first record with timestamp y */
    GOAL_LEARN, /* the segment's largest timestamp */
    GOAL_PROVE, /* that the segment's largest timestamp is what its time index says */
    GOAL_AGE,   /* likewise, and that nothing behind that batch is newer: there is no operation, retention asks */
    GOAL_REST,  /* the largest timestamp of whole batches above the log start, where the segment's is below it */
};

/* Task fields: op; index: enum search_goal; segment: in use by us while set; a: position of the scan; b, c: the page
 * holds these bytes of the file; x: base of the segment tried last, -1: none; y: the largest timestamp, wanted or so
 * far; GOAL_AGE: 0 until the batch was seen that the claim names. */

static struct mr_list_offsets_entry *entry_of(const struct mr_task *task)
{
    struct mr_list_offsets_op *op = (struct mr_list_offsets_op *)(void *)task->op;
    return &op->entries[op->op.pending];
}

/* Nothing of the file is held any more. */
static void drop_page(struct mr_storage_core *core, struct mr_task *task)
{
    if (task->page != NULL) {
        task->page->is_busy = false;
        mr_page_pool_put(&core->cold, task->page);
        task->page = NULL;
    }
    task->c = 0;
}

/* A batch that makes no sense proves nothing. An error of the device says nothing: it is asked again at the next check. */
static bool finish_age(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    if (err == MR_ERR_CORRUPT) {
        task->segment->max_timestamp = -1;
        task->segment->is_time_unproven = false;
    }
    mr_retention_proved(core, task->partition, task->segment->is_time_unproven);
    return false;
}

static bool finish(struct mr_storage_core *core, struct mr_task *task, enum mr_err err)
{
    drop_page(core, task);
    if (task->segment != NULL) {
        task->segment->users--;
    }
    if (task->op == NULL) {
        return finish_age(core, task, err);
    }
    mr_list_offsets_found(task->partition, entry_of(task), err);
    task->op->pending++;
    task->is_op_due = true;
    return false;
}

static bool choose(struct mr_storage_core *core, struct mr_task *task);

/* ---- Whether an index is true ---- */

enum fit {
    FITS,
    FITS_WHOLE, /* the batch is the one that was named: all is true */
    FITS_NOT,
};

/* A batch against what is said: up to `offset` nothing is newer than `timestamp`, and the batch there is as new. */
static enum fit fit(const struct mr_batch *batch, int64_t offset, int64_t timestamp)
{
    if (mr_batch_last_offset(batch) < offset) {
        return batch->max_timestamp <= timestamp ? FITS : FITS_NOT;
    }
    return batch->base_offset <= offset && batch->max_timestamp == timestamp ? FITS_WHOLE : FITS_NOT;
}

static bool scan(struct mr_storage_core *core, struct mr_task *task);

static void say_untrue(const struct mr_storage_core *core, const struct mr_task *task, int64_t offset)
{
    mr_log(core->log, MR_LOG_WARN, "an entry of a time index is not true dir=%s segment=%lld offset=%lld",
           task->partition->dir_name, (long long)task->segment->base, (long long)offset);
}

/* The entry that the scan began with is not true: the one before it. */
static bool step_back(struct mr_storage_core *core, struct mr_task *task)
{
    drop_page(core, task);
    say_untrue(core, task, task->clue.offset);
    task->clue.is_unproven = false;
    if (++task->clue.tries == TRIES_MAX) {
        task->a = 0;
        task->find.is_unproven = false;
        return scan(core, task);
    }
    return mr_index_find(core, task, MR_INDEX_TIME, task->clue.timestamp, SEARCH_TIMED);
}

static bool proved(struct mr_storage_core *core, struct mr_task *task, bool is_true)
{
    struct mr_segment *segment = task->segment;
    drop_page(core, task);
    if (!is_true && segment->is_time_unproven) { /* and nobody else has found out meanwhile */
        say_untrue(core, task, segment->claim.offset);
        segment->max_timestamp = -1; /* all headers are read */
    }
    segment->is_time_unproven = false;
    if (task->op == NULL) {
        return finish(core, task, MR_OK);
    }
    segment->users--;
    task->segment = NULL;
    return choose(core, task);
}

/* A batch against the segment's claim. FITS_WHOLE: it is proven; before it nothing is newer, or the index of it is not true. */
static enum fit fit_claim(struct mr_task *task, const struct mr_batch *batch)
{
    const struct mr_segment *segment = task->segment;
    if (task->index == GOAL_AGE && task->y != 0) {
        return batch->max_timestamp <= segment->max_timestamp ? FITS : FITS_NOT;
    }
    enum fit fits = fit(batch, segment->claim.offset, segment->claim.timestamp);
    if (task->index == GOAL_AGE && fits == FITS_WHOLE) {
        task->y = 1;
        return FITS;
    }
    return fits;
}

/* What a batch says of the index that led here. True: *is_going is what the step returns. */
static bool is_index_judged(struct mr_storage_core *core, struct mr_task *task, const struct mr_batch *batch,
                            bool *is_going)
{
    if (task->index == GOAL_PROVE || task->index == GOAL_AGE) {
        enum fit fits = fit_claim(task, batch);
        *is_going = fits != FITS && proved(core, task, fits == FITS_WHOLE);
        return fits != FITS;
    }
    if (!task->clue.is_unproven) {
        return false;
    }
    enum fit fits = fit(batch, task->clue.offset, task->clue.timestamp);
    task->clue.is_unproven = fits == FITS;
    *is_going = fits == FITS_NOT && step_back(core, task);
    return fits == FITS_NOT;
}

/* Nothing more in this segment. */
static bool leave(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    enum search_goal   goal = (enum search_goal)task->index;
    if (goal == GOAL_PROVE || goal == GOAL_AGE) {
        return proved(core, task, goal == GOAL_AGE && task->y != 0);
    }
    if (task->clue.is_unproven) {
        return step_back(core, task);
    }
    drop_page(core, task);
    segment->users--;
    task->segment = NULL;
    if (goal == GOAL_MAX) {
        return finish(core, task, MR_OK);
    }
    if (goal == GOAL_LEARN) {
        segment->is_time_scanned = true;
        segment->max_timestamp = task->y > segment->max_timestamp ? task->y : segment->max_timestamp;
    } else {
        task->x = segment->base;
    }
    return choose(core, task);
}

/*
 * The record that answers, in the batch of which all bytes are at `bytes`. False: none does. A batch that cannot be
 * opened here (over a megabyte when decompressed) answers itself: a reader that begins there misses nothing.
 */
static bool open_batch(struct mr_storage_core *core, struct mr_task *task, const uint8_t *bytes,
                       const struct mr_batch *batch, struct mr_arena *scratch)
{
    struct mr_list_offsets_entry *entry = entry_of(task);
    struct mr_record_iter         iter;
    struct mr_record              record;
    int64_t                       log_start = task->partition->log_start;
    int64_t                       wanted = task->index == GOAL_MAX ? task->y : entry->timestamp;
    (void)core;
    if (bytes != NULL && !mr_bug("time-of-batch") &&
        mr_record_iter_init(&iter, bytes, mr_batch_bytes(batch), scratch) == MR_OK) {
        while (mr_record_iter_next(&iter, &record) == MR_OK) {
            if (record.timestamp >= wanted && record.offset >= log_start) {
                entry->offset = record.offset;
                entry->offset_timestamp = record.timestamp;
                return true;
            }
        }
        return false;
    }
    entry->offset = batch->base_offset > log_start ? batch->base_offset : log_start;
    entry->offset_timestamp = batch->max_timestamp;
    return true;
}

/* Whether the batch can answer, by its header. */
static bool can_answer(struct mr_task *task, const struct mr_batch *batch)
{
    if (batch->magic != 2 || batch->record_count == 0 || mr_batch_last_offset(batch) < task->partition->log_start) {
        return false;
    }
    switch ((enum search_goal)task->index) {
    case GOAL_FIRST:
        return batch->max_timestamp >= entry_of(task)->timestamp;
    case GOAL_MAX:
        return batch->max_timestamp == task->y;
    case GOAL_REST:
        if (batch->max_timestamp > task->y && batch->base_offset >= task->partition->log_start) {
            task->y = batch->max_timestamp;
        }
        return false;
    case GOAL_LEARN:
        if (batch->max_timestamp > task->y) {
            task->y = batch->max_timestamp;
            task->segment->max_timestamp_offset = mr_batch_last_offset(batch);
        }
        return false;
    case GOAL_PROVE:
    case GOAL_AGE:
        return false;
    }
    return false;
}

/* The tail run in which the batch at `pos` begins; NULL: it is in the file only. */
static struct mr_page *run_at(struct mr_partition *p, const struct mr_segment *segment, uint64_t pos)
{
    for (struct mr_list *link = p->runs.prev; link != &p->runs; link = link->prev) {
        struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
        if (run->segment == segment && run->first_offset >= 0 && run->first_pos <= pos) {
            return mr_walk_run_of(p, run, (uint32_t)pos);
        }
    }
    return NULL;
}

static bool scan_runs(struct mr_storage_core *core, struct mr_task *task, struct mr_page *run, uint32_t limit)
{
    struct mr_partition *p = task->partition;
    for (uint32_t count = 0; count < BATCHES_PER_TURN; count++) {
        struct mr_batch batch;
        uint32_t        pos = (uint32_t)task->a;
        if (pos >= limit) {
            return leave(core, task);
        }
        run = mr_walk_run_of(p, run, pos);
        mr_walk_head(core, p, run, pos, &batch);
        bool is_going;
        if (is_index_judged(core, task, &batch, &is_going)) {
            return is_going;
        }
        if (can_answer(task, &batch)) {
            struct mr_arena scratch;
            mr_arena_init(&scratch, core->scratch, MR_SCRATCH_BYTES);
            uint8_t *copy = mr_arena_try(&scratch, mr_batch_bytes(&batch), 16);
            if (copy != NULL) {
                mr_walk_copy(core, p, run, pos, copy, mr_batch_bytes(&batch));
            }
            if (open_batch(core, task, copy, &batch, &scratch)) {
                return finish(core, task, MR_OK);
            }
        }
        task->a += mr_batch_bytes(&batch);
    }
    return mr_core_task_wait(core, task, 0);
}

/* Read on from the scan's position; a larger piece when the batch there is to be whole. */
static bool read_chunk(struct mr_storage_core *core, struct mr_task *task, uint32_t order)
{
    struct mr_segment *segment = task->segment;
    if (task->page != NULL && task->page->order < order) {
        drop_page(core, task);
    }
    if (!mr_segment_file_ready(core, segment)) {
        return core->is_offline ? finish(core, task, MR_ERR_DIR_OFFLINE) : mr_core_task_wait(core, task, 0);
    }
    if (task->page == NULL) {
        task->page = mr_page_pool_try(&core->cold, order, MR_FAIL_cold_pages);
        if (task->page == NULL) {
            return mr_core_task_wait(core, task, 0);
        }
        task->page->is_busy = true;
    }
    task->c = 0;
    task->b = task->a & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint64_t end = ((uint64_t)segment->written + MR_PAGE_BYTES - 1) & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint32_t len = mr_page_capacity(task->page);
    task->at = SEARCH_READ;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ,
                                      .file = segment->file,
                                      .buffer = mr_page_memory(&core->cold, task->page),
                                      .len = end - task->b < len ? (uint32_t)(end - task->b) : len,
                                      .pos = task->b};
    return true;
}

static bool scan_file(struct mr_storage_core *core, struct mr_task *task, uint64_t limit)
{
    struct mr_segment *segment = task->segment;
    while (task->a + MR_BATCH_HEADER <= limit) {
        struct mr_batch batch;
        bool            is_here = task->a >= task->b && task->a + MR_BATCH_HEADER <= task->b + task->c;
        if (!is_here) {
            return read_chunk(core, task, CHUNK_ORDER);
        }
        const uint8_t *at = mr_page_memory(&core->cold, task->page) + (task->a - task->b);
        mr_batch_header_load(at, &batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS || batch.last_offset_delta < 0 ||
            batch.base_offset < segment->base || task->a + mr_batch_bytes(&batch) > segment->size) {
            return finish(core, task, MR_ERR_CORRUPT);
        }
        bool is_going;
        if (is_index_judged(core, task, &batch, &is_going)) {
            return is_going;
        }
        uint32_t bytes = mr_batch_bytes(&batch);
        if (can_answer(task, &batch)) {
            bool is_whole = task->a + bytes <= task->b + task->c;
            if (!is_whole && (task->a & (MR_PAGE_BYTES - 1)) + bytes <= (MR_PAGE_BYTES << MR_PAGE_ORDER_MAX) &&
                task->a + bytes <= segment->written) {
                return read_chunk(core, task, MR_PAGE_ORDER_MAX);
            }
            if (is_whole && mr_crc32c(0, at + 21, bytes - 21u) != batch.crc) {
                return finish(core, task, MR_ERR_CORRUPT);
            }
            struct mr_arena scratch;
            mr_arena_init(&scratch, core->scratch, MR_SCRATCH_BYTES);
            if (open_batch(core, task, is_whole ? at : NULL, &batch, &scratch)) {
                return finish(core, task, MR_OK);
            }
        }
        task->a += bytes;
    }
    return run_at(task->partition, segment, task->a) == NULL ? leave(core, task) : scan(core, task);
}

static bool scan(struct mr_storage_core *core, struct mr_task *task)
{
    uint32_t        limit = mr_walk_limit(task->partition, task->segment);
    struct mr_page *run = run_at(task->partition, task->segment, task->a);
    task->at = SEARCH_SCAN;
    if (task->a >= limit) {
        return leave(core, task);
    }
    if (run != NULL) {
        return scan_runs(core, task, run, limit);
    }
    /* Up to the first batch that begins in memory; nothing above `written` is in the file. */
    limit = limit < task->segment->written ? limit : task->segment->written;
    MR_LIST_EACH(link, &task->partition->runs) {
        const struct mr_page *first = MR_LIST_ENTRY(link, struct mr_page, link);
        if (first->segment == task->segment && first->first_offset >= 0) {
            limit = limit < first->first_pos ? limit : first->first_pos;
            break;
        }
    }
    return scan_file(core, task, limit);
}

static bool begin(struct mr_storage_core *core, struct mr_task *task, struct mr_segment *segment,
                  enum search_goal goal)
{
    task->segment = segment;
    task->index = goal;
    task->a = 0;
    task->find.is_unproven = false;
    task->clue.is_unproven = false;
    task->clue.tries = 0;
    segment->users++;
    switch (goal) {
    case GOAL_FIRST:
        return mr_index_find(core, task, MR_INDEX_TIME, entry_of(task)->timestamp, SEARCH_TIMED);
    case GOAL_MAX:
        return mr_index_find(core, task, MR_INDEX_OFFSET,
                             segment->max_timestamp_offset < task->partition->log_start
                                 ? task->partition->log_start
                                 : segment->max_timestamp_offset,
                             SEARCH_PLACED);
    case GOAL_REST:
        task->y = -1;
        return mr_index_find(core, task, MR_INDEX_OFFSET, task->partition->log_start, SEARCH_PLACED);
    case GOAL_LEARN:
        task->y = -1;
        return scan(core, task);
    case GOAL_AGE:
        task->y = 0;
        return mr_index_find(core, task, MR_INDEX_OFFSET, segment->claim.offset, SEARCH_PLACED);
    case GOAL_PROVE:
        return mr_index_find(core, task, MR_INDEX_OFFSET, segment->claim.offset, SEARCH_PLACED);
    }
    mr_unreachable("goal of a search by time");
}

static bool choose(struct mr_storage_core *core, struct mr_task *task)
{
    const struct mr_partition *p = task->partition;
    int64_t                    timestamp = entry_of(task)->timestamp;
    bool                       is_max = timestamp == MR_LIST_MAX_TIMESTAMP;
    struct mr_segment         *newest = NULL;
    int64_t                    newest_time = -1;
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        int64_t            time = segment->max_timestamp;
        if (segment->is_gone || (!is_max && segment->base <= task->x)) {
            continue;
        }
        if (mr_cleaner_is_gated(core, segment)) {
            task->segment = NULL;
            task->at = SEARCH_CHOOSE;
            return core->is_offline ? finish(core, task, MR_ERR_DIR_OFFLINE) : mr_core_task_wait(core, task, 0);
        }
        if (!segment->is_time_known) {
            return mr_segment_time_learn(core, task, segment, SEARCH_CHOOSE);
        }
        if (segment->is_time_unproven) {
            return begin(core, task, segment, GOAL_PROVE);
        }
        if (segment->max_timestamp < 0 && segment->size > 0 && !segment->is_time_scanned) {
            return begin(core, task, segment, GOAL_LEARN);
        }
        if (!is_max && time >= timestamp) {
            return begin(core, task, segment, GOAL_FIRST);
        }
        if (is_max && time >= 0 && segment->max_timestamp_offset < p->log_start) {
            if (task->x != segment->base) {
                return begin(core, task, segment, GOAL_REST);
            }
            time = task->y;
        }
        if (is_max && time > newest_time) {
            newest = segment;
            newest_time = time;
        }
    }
    task->segment = NULL;
    task->y = newest_time;
    return newest == NULL ? finish(core, task, MR_OK) : begin(core, task, newest, GOAL_MAX);
}

static bool search_step(struct mr_storage_core *core, struct mr_task *task)
{
    int64_t log_start = task->partition->log_start;
    switch ((enum search_at)task->at) {
    case SEARCH_CHOOSE:
        return choose(core, task);
    case SEARCH_TIMED:
        /* One below the log start leaves nothing out. */
        task->clue.is_unproven = task->find.is_unproven && task->find.result >= log_start;
        task->clue.offset = task->find.result;
        task->clue.timestamp = task->find.timestamp;
        return mr_index_find(core, task, MR_INDEX_OFFSET,
                             task->find.result > log_start ? task->find.result : log_start, SEARCH_PLACED);
    case SEARCH_PLACED:
        task->a = (uint64_t)task->find.result;
        return scan(core, task);
    case SEARCH_SCAN:
        return scan(core, task);
    case SEARCH_READ:
        if (task->io.op.err != MR_OK) {
            mr_core_read_failed(core, task->segment, &task->io.op);
            return finish(core, task, MR_ERR_IO);
        }
        task->c = task->io.op.done_bytes;
        if (task->a == (uint64_t)task->find.result &&
            !mr_index_is_true(task, mr_page_memory(&core->cold, task->page), task->c)) {
            drop_page(core, task);
            return mr_index_find_before(core, task, SEARCH_PLACED);
        }
        if (task->c < MR_BATCH_HEADER + (task->a - task->b)) {
            return finish(core, task, MR_ERR_CORRUPT); /* the file is shorter than it was */
        }
        return scan(core, task);
    }
    mr_unreachable("search by time");
}

bool mr_time_search_start(struct mr_storage_core *core, struct mr_list_offsets_op *op, struct mr_partition *p)
{
    struct mr_task *task = mr_core_task(core, p, search_step);
    if (task == NULL) {
        return false;
    }
    task->op = &op->op;
    task->x = -1;
    mr_core_task_start(core, task);
    return true;
}

static bool age_step(struct mr_storage_core *core, struct mr_task *task)
{
    task->step = search_step;
    return begin(core, task, task->segment, GOAL_AGE);
}

bool mr_time_prove_start(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_task *task = mr_core_task(core, segment->partition, age_step);
    if (task == NULL) {
        return false;
    }
    task->segment = segment;
    mr_core_task_start(core, task);
    return true;
}
