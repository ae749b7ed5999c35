#include "log/cleaner.h"

#define LOGS_PER_TURN   1024u
#define CLEAR_SLOTS     (64u << 10) /* of the map in one turn: 1.5 MiB */
#define SMALL_STREAM    (64u << 10)
#define FIRST_LOOK_MS   5000 /* after a start, when the pause is not shorter */
#define LATER_MS        1000 /* a round that had to be given up is tried again after that at the earliest */

/* Input and output hold a batch each; decompressed it may be eight times as long. */
static size_t scratch_bytes(const struct mr_storage_plan *plan)
{
    return 8 * (size_t)plan->clean_io_bytes;
}

size_t mr_cleaner_bytes(const struct mr_storage_plan *plan)
{
    return plan->clean_map_bytes == 0 ? 0
                                      : sizeof(struct mr_cleaner) + mr_clean_txns_bytes() + plan->clean_map_bytes +
                                            2 * (size_t)plan->clean_io_bytes + scratch_bytes(plan) +
                                            (MR_CLEAN_KINDS - 1) * SMALL_STREAM + 8 * MR_PAGE_BYTES;
}

struct mr_cleaner *mr_cleaner_init(struct mr_storage_core *core, struct mr_arena *arena)
{
    const struct mr_storage_plan *plan = &core->plan;
    if (plan->clean_map_bytes == 0) {
        return NULL;
    }
    struct mr_cleaner *c = mr_arena_get(arena, sizeof *c, 64);
    void *map = mr_arena_get_fresh(arena, plan->clean_map_bytes, MR_PAGE_BYTES);
    mr_clean_map_init(&c->map, map, plan->clean_map_bytes, plan->clean_load, mr_prng_next(&core->prng));
    mr_clean_txns_init(&c->txns, arena);
    mr_arena_init(&c->scratch, mr_arena_get_fresh(arena, scratch_bytes(plan), MR_PAGE_BYTES), scratch_bytes(plan));
    c->in_bytes = plan->clean_io_bytes;
    c->in = mr_arena_get_fresh(arena, c->in_bytes, MR_PAGE_BYTES);
    c->intent = mr_arena_get_fresh(arena, MR_PAGE_BYTES, MR_PAGE_BYTES);
    for (uint32_t kind = 0; kind < MR_CLEAN_KINDS; kind++) {
        struct mr_clean_stream *stream = &c->streams[kind];
        stream->size = kind == MR_CLEAN_LOG ? plan->clean_io_bytes : SMALL_STREAM;
        stream->bytes = mr_arena_get_fresh(arena, stream->size, MR_PAGE_BYTES);
        stream->file = MR_DISK_NONE;
    }
    c->source_file = MR_DISK_NONE;
    c->intent_file = MR_DISK_NONE;
    c->dir = MR_DISK_NONE;
    return c;
}

/* ---- Phases ---- */

enum mr_clean_progress mr_cleaner_phase(struct mr_cleaner *c, enum mr_clean_phase phase)
{
    c->phase = phase;
    c->at = 0;
    return MR_CLEAN_ON;
}

enum mr_clean_progress mr_cleaner_undo(struct mr_cleaner *c, bool is_bad)
{
    c->is_bad = is_bad;
    c->is_flushing = false;
    return mr_cleaner_phase(c, MR_CLEAN_UNDO);
}

enum mr_clean_progress mr_cleaner_failed(struct mr_storage_core *core, struct mr_cleaner *c, const char *what)
{
    if (c->io.op.err == MR_ERR_NO_SPACE) {
        mr_log(core->log, MR_LOG_WARN, "no space to compact a log: tried again later dir=%s", c->p->dir_name);
    } else {
        mr_core_fail(core, &c->io.op, what);
    }
    return mr_cleaner_undo(c, false);
}

static enum mr_clean_progress rest(struct mr_storage_core *core, struct mr_cleaner *c, int64_t ms)
{
    c->rest_until_ns = mr_deadline_ms(core->now.mono_ns, ms);
    return mr_cleaner_phase(c, MR_CLEAN_REST);
}

/* ---- Which log ---- */

static int64_t first_dirty_of(const struct mr_partition *p)
{
    bool is_in = p->clean_offset >= p->log_start && p->clean_offset <= p->end.offset;
    return is_in ? p->clean_offset : p->log_start;
}

/* All of it is in its files, and the journal has left it. */
static bool is_settled(const struct mr_storage_core *core, const struct mr_segment *segment)
{
    return segment->is_seal_done && segment->last_seq < mr_journal_start_seq(core->journal) &&
           segment->written == segment->size && segment->index_page == NULL && segment->time_page == NULL &&
           !segment->is_index_busy && !segment->is_aborted_stale &&
           segment->aborted_written == segment->aborted_count;
}

static bool learn_step(struct mr_storage_core *core, struct mr_task *task)
{
    return !task->segment->is_time_known && mr_segment_time_learn(core, task, task->segment, 0);
}

/* Its largest timestamp is min.compaction.lag.ms ago. One from before this start tells it at the next look. */
static bool is_old_enough(struct mr_storage_core *core, struct mr_partition *p, struct mr_segment *segment)
{
    if (p->config.min_compaction_lag_ms <= 0) {
        return true;
    }
    if (!segment->is_time_known) {
        struct mr_task *task = mr_core_task(core, p, learn_step);
        if (task != NULL) {
            task->segment = segment;
            mr_core_task_start(core, task);
        }
        return false;
    }
    return segment->max_timestamp <= core->now.unix_ms - p->config.min_compaction_lag_ms;
}

struct verdict {
    int64_t  upper; /* end of the last segment that may be cleaned */
    int64_t  clean_bytes, dirty_bytes;
    int64_t  oldest_ms;    /* of the dirty part's first batch; INT64_MAX: not known */
    uint64_t unsettled_seq; /* the journal has to leave it first; 0: nothing keeps back the rest */
};

static struct verdict judge(struct mr_storage_core *core, struct mr_partition *p)
{
    struct verdict verdict = {.upper = p->log_start, .oldest_ms = INT64_MAX};
    int64_t        first_dirty = first_dirty_of(p);
    int64_t        stable = mr_txn_stable(p);
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment *next = mr_segment_next(segment);
        if (segment->is_gone) {
            continue;
        }
        if (next == NULL || next->base > stable || !is_old_enough(core, p, segment)) {
            break;
        }
        if (next->base <= first_dirty) {
            verdict.clean_bytes += segment->size;
        } else {
            verdict.dirty_bytes += segment->size;
            int64_t first_ms = segment->first_timestamp >= 0 ? segment->first_timestamp : segment->changed_ms;
            verdict.oldest_ms = first_ms < verdict.oldest_ms ? first_ms : verdict.oldest_ms;
        }
        if (!is_settled(core, segment)) {
            verdict.unsettled_seq = segment->last_seq > verdict.unsettled_seq ? segment->last_seq : verdict.unsettled_seq;
        } else if (verdict.unsettled_seq == 0) {
            verdict.upper = next->base;
        }
    }
    return verdict;
}

static bool is_compacted(const struct mr_partition *p)
{
    return p->state == MR_PARTITION_OPEN && p->config.is_cleanup_compact && !p->is_uncleanable;
}

static void consider(struct mr_storage_core *core, struct mr_cleaner *c, struct mr_partition *p)
{
    if (!is_compacted(p)) {
        return;
    }
    struct verdict verdict = judge(core, p);
    if (verdict.dirty_bytes == 0) {
        return;
    }
    double ratio = (double)verdict.dirty_bytes / (double)(verdict.clean_bytes + verdict.dirty_bytes);
    bool   is_forced = verdict.oldest_ms != INT64_MAX && p->config.max_compaction_lag_ms < INT64_MAX &&
                     core->now.unix_ms - verdict.oldest_ms > p->config.max_compaction_lag_ms;
    if (ratio <= p->config.min_cleanable_dirty_ratio && !is_forced) {
        return;
    }
    if (verdict.unsettled_seq > core->reclaim_seq) {
        core->reclaim_seq = verdict.unsettled_seq; /* nobody else may fill the ring */
    }
    if (verdict.upper > first_dirty_of(p) && (c->best_log_id == 0 || ratio > c->best_ratio)) {
        c->best_log_id = p->jlog.log_id;
        c->best_ratio = ratio;
    }
}

static enum mr_clean_progress round_begin(struct mr_storage_core *core, struct mr_cleaner *c, struct mr_partition *p)
{
    c->p = p;
    p->task_count++;
    c->first_dirty = first_dirty_of(p);
    c->upper = judge(core, p).upper;
    c->now_ms = core->now.unix_ms;
    c->bytes_before = 0;
    c->bytes_after = 0;
    c->anew = NULL;
    mr_clean_txns_clear(&c->txns);
    return mr_cleaner_phase(c, MR_CLEAN_CLEAR);
}

static enum mr_clean_progress look(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->look_next == NULL) {
        c->look_next = core->partitions.next;
        c->best_log_id = 0;
    }
    for (uint32_t count = 0; count < LOGS_PER_TURN && c->look_next != &core->partitions; count++) {
        struct mr_partition *p = MR_LIST_ENTRY(c->look_next, struct mr_partition, link);
        c->look_next = c->look_next->next;
        consider(core, c, p);
    }
    if (c->look_next != &core->partitions) {
        return MR_CLEAN_WAIT;
    }
    c->look_next = NULL;
    struct mr_partition *p = mr_core_find(core, c->best_log_id);
    return p != NULL && is_compacted(p) && !mr_space_is_full(core) ? round_begin(core, c, p)
                                                                   : rest(core, c, core->plan.clean_backoff_ms);
}

void mr_cleaner_forget(struct mr_storage_core *core, const struct mr_partition *p)
{
    if (core->cleaner != NULL && core->cleaner->look_next == &p->link) {
        core->cleaner->look_next = p->link.next;
    }
}

/* ---- The source: a segment's batches, one after the other ---- */

enum source_at {
    SOURCE_CLOSED,
    SOURCE_OPENING,
    SOURCE_OPEN,
    SOURCE_READING,
};

enum source_got {
    SOURCE_BATCH, /* whole, with a right CRC */
    SOURCE_END,
    SOURCE_IO,
    SOURCE_BAD,
};

/* False: the segment is below the log's start by now, its file may be going. */
static bool source_begin(struct mr_cleaner *c, struct mr_segment *segment)
{
    if (segment == NULL || segment->is_gone) {
        return false;
    }
    c->source = segment;
    c->source->users++;
    c->source_at = SOURCE_CLOSED;
    c->pos = 0;
    c->have = 0;
    c->is_known = false;
    return true;
}

/* False: its file is being closed first. */
static bool source_end(struct mr_cleaner *c)
{
    if (c->source == NULL) {
        return true;
    }
    if (c->source_file != MR_DISK_NONE) {
        c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = c->source_file};
        c->source_file = MR_DISK_NONE;
        return false;
    }
    c->source->users--;
    c->source = NULL;
    return true;
}

static enum source_got source_bad(struct mr_storage_core *core, const struct mr_cleaner *c, const char *what)
{
    mr_log(core->log, MR_LOG_ERROR, "not compacted any more until the next start: %s dir=%s segment=%lld pos=%llu", what,
           c->p->dir_name, (long long)c->source->base, (unsigned long long)c->pos);
    return SOURCE_BAD;
}

static enum source_got source_open(struct mr_storage_core *core, struct mr_cleaner *c)
{
    c->source_at = SOURCE_OPENING;
    mr_segment_name(c->source, ".log", c->name);
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                   .flags = MR_DISK_READ_ONLY | (core->is_buffered ? 0u : (uint32_t)MR_DISK_DIRECT),
                                   .dir = core->root,
                                   .name = c->name};
    return SOURCE_IO;
}

/* How the operation before went. SOURCE_END: well. */
static enum source_got source_done(struct mr_storage_core *core, struct mr_cleaner *c)
{
    const struct mr_disk_op *op = &c->io.op;
    if (c->source_at == SOURCE_OPENING) {
        if (op->err == MR_ERR_INVALID && (op->flags & MR_DISK_DIRECT) != 0) {
            core->is_buffered = true;
            return source_open(core, c);
        }
        c->source_at = SOURCE_OPEN;
        c->source_file = op->file;
    } else if (c->source_at == SOURCE_READING) {
        c->source_at = SOURCE_OPEN;
        c->have = op->done_bytes;
    }
    if (op->err != MR_OK) {
        c->source_file = c->source_file == op->file ? c->source_file : MR_DISK_NONE;
        if (op->err == MR_ERR_NOT_FOUND) {
            return source_bad(core, c, "a segment has no file");
        }
        mr_core_fail(core, op, "reading a segment to compact it");
        return SOURCE_BAD;
    }
    return SOURCE_END;
}

static enum source_got source_read(struct mr_storage_core *core, struct mr_cleaner *c, uint64_t need)
{
    c->from = c->pos & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint64_t end = ((uint64_t)c->source->size + MR_PAGE_BYTES - 1) & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint32_t len = end - c->from < c->in_bytes ? (uint32_t)(end - c->from) : c->in_bytes;
    if (c->pos - c->from + need > len) {
        return source_bad(core, c, "a batch is larger than log.cleaner.io.buffer.size");
    }
    c->source_at = SOURCE_READING;
    c->io.op = (struct mr_disk_op){
        .kind = MR_DISK_READ, .file = c->source_file, .buffer = c->in, .len = len, .pos = c->from};
    return SOURCE_IO;
}

static bool is_batch(const struct mr_cleaner *c, const struct mr_batch *batch)
{
    return batch->magic == 2 && batch->batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS &&
           batch->last_offset_delta >= 0 && batch->base_offset >= c->source->base &&
           c->pos + mr_batch_bytes(batch) <= c->source->size;
}

/* The batch at pos. */
static enum source_got source_get(struct mr_storage_core *core, struct mr_cleaner *c, const uint8_t **bytes,
                                  struct mr_batch *batch)
{
    if (c->source_at == SOURCE_CLOSED) {
        return source_open(core, c);
    }
    bool was_read = c->source_at == SOURCE_READING;
    if (c->source_at != SOURCE_OPEN) {
        enum source_got got = source_done(core, c);
        if (got != SOURCE_END) {
            return got;
        }
    }
    if (c->pos >= c->source->size) {
        return SOURCE_END;
    }
    uint64_t end = c->from + c->have;
    uint64_t need = MR_BATCH_HEADER;
    if (c->have > 0 && c->pos >= c->from && c->pos + MR_BATCH_HEADER <= end) {
        *bytes = c->in + (c->pos - c->from);
        mr_batch_header_load(*bytes, batch);
        if (!is_batch(c, batch)) {
            return source_bad(core, c, "what is there is no batch");
        }
        need = mr_batch_bytes(batch);
        if (c->pos + need <= end) {
            bool is_right = c->is_known || mr_crc32c(0, *bytes + MR_BATCH_CHECKED_AT,
                                                     (size_t)need - MR_BATCH_CHECKED_AT) == batch->crc;
            return is_right ? SOURCE_BATCH : source_bad(core, c, "bad CRC");
        }
    }
    if (was_read && (c->pos & ~(uint64_t)(MR_PAGE_BYTES - 1)) == c->from && need <= c->in_bytes - MR_PAGE_BYTES) {
        return source_bad(core, c, "the file ends before its segment");
    }
    return source_read(core, c, need);
}

static void source_took(struct mr_cleaner *c, const struct mr_batch *batch)
{
    uint64_t bytes = mr_batch_bytes(batch);
    c->pos += bytes;
    c->is_known = false;
    c->budget -= bytes < c->budget ? bytes : c->budget;
}

/* ---- MAP ---- */

struct put {
    struct mr_cleaner *c;
    bool               is_full;
};

static bool put_record(void *context, const struct mr_record *record)
{
    struct put *put = context;
    if (record->offset >= put->c->first_dirty && record->key.len >= 0 &&
        !mr_clean_map_put(&put->c->map, record->key, record->offset)) {
        put->c->end = record->offset;
        put->is_full = true;
        return false;
    }
    return true;
}

/* *is_full: the map has no room for all of it; c->end is where the first record without room is. */
static enum mr_err map_batch(struct mr_cleaner *c, const struct mr_batch *batch, const uint8_t *bytes, bool *is_full)
{
    struct put put = {.c = c};
    bool       is_aborted = false;
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        const struct mr_aborted *aborted;
        (void)mr_clean_txn_marker(&c->txns, c->source, batch, bytes, &aborted);
        return MR_OK;
    }
    if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        enum mr_err err = mr_clean_txn_data(&c->txns, c->source, batch, &is_aborted);
        if (err != MR_OK) {
            return err;
        }
    }
    if (is_aborted || mr_batch_last_offset(batch) < c->first_dirty) {
        return MR_OK;
    }
    enum mr_err err = mr_clean_batch_walk(bytes, mr_batch_bytes(batch), &c->scratch, put_record, &put);
    *is_full = put.is_full;
    return err;
}

static enum mr_clean_progress map_done(struct mr_cleaner *c)
{
    if (!source_end(c)) {
        return MR_CLEAN_IO;
    }
    mr_clean_txns_clear(&c->txns);
    const struct mr_segment *first = mr_segment_find(c->p, c->p->log_start);
    c->group_base = first->base;
    return mr_cleaner_phase(c, MR_CLEAN_GROUP);
}

static enum mr_clean_progress clear(struct mr_cleaner *c)
{
    if (!mr_clean_map_clear(&c->map, CLEAR_SLOTS)) {
        return MR_CLEAN_WAIT;
    }
    mr_clean_map_begin(&c->map, (uint64_t)(c->upper - c->first_dirty));
    c->end = c->upper;
    bool is_begun = source_begin(c, mr_segment_find(c->p, c->first_dirty));
    return is_begun ? mr_cleaner_phase(c, MR_CLEAN_MAP) : mr_cleaner_undo(c, false);
}

enum map_at {
    MAP_READ,
    MAP_NEXT,
    MAP_OVER,
};

static enum mr_clean_progress map(struct mr_storage_core *core, struct mr_cleaner *c)
{
    const uint8_t  *bytes = NULL;
    struct mr_batch batch;
    bool            is_full = false;
    if (c->at == MAP_OVER) {
        return map_done(c);
    }
    if (c->at == MAP_NEXT) {
        struct mr_segment *next = mr_segment_next(c->source);
        if (next->base >= c->upper) {
            c->at = MAP_OVER;
            return MR_CLEAN_ON;
        }
        if (!source_end(c)) {
            return MR_CLEAN_IO;
        }
        if (!source_begin(c, next)) {
            return mr_cleaner_undo(c, false);
        }
        c->at = MAP_READ;
    }
    switch (source_get(core, c, &bytes, &batch)) {
    case SOURCE_IO:
        return MR_CLEAN_IO;
    case SOURCE_BAD:
        return mr_cleaner_undo(c, true);
    case SOURCE_END:
        c->at = MAP_NEXT;
        return MR_CLEAN_ON;
    case SOURCE_BATCH:
        break;
    }
    if (map_batch(c, &batch, bytes, &is_full) != MR_OK) {
        (void)source_bad(core, c, "a batch cannot be read");
        return mr_cleaner_undo(c, true);
    }
    source_took(c, &batch);
    c->at = is_full ? MAP_OVER : MAP_READ;
    return MR_CLEAN_ON;
}

/* ---- GROUP ---- */

static enum mr_clean_progress round_end(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_partition *p = c->p;
    p->clean_offset = c->end;
    mr_log(core->log, MR_LOG_INFO, "compacted dir=%s up_to=%lld keys=%llu bytes=%llu left=%llu", p->dir_name,
           (long long)c->end, (unsigned long long)c->map.used, (unsigned long long)c->bytes_before,
           (unsigned long long)c->bytes_after);
    core->stats.clean_rounds++;
    p->task_count--;
    c->p = NULL;
    return mr_cleaner_phase(c, MR_CLEAN_LOOK);
}

/* As many segments as fit one: by their sizes now, for what is left of them is hardly more. */
static void group_choose(struct mr_cleaner *c, struct mr_segment *first)
{
    const struct mr_log_config *config = &c->p->config;
    uint64_t                    size = first->size;
    uint64_t                    index = first->index_bytes;
    uint64_t                    time = first->time_bytes;
    struct mr_segment          *next = mr_segment_next(first);
    while (next->base < c->end) {
        struct mr_segment *after = mr_segment_next(next);
        size += next->size;
        index += next->index_bytes;
        time += next->time_bytes;
        if (size > (uint64_t)config->segment_bytes || index > (uint64_t)config->segment_index_bytes ||
            time > (uint64_t)config->segment_index_bytes || after->base - 1 - first->base > INT32_MAX) {
            break;
        }
        next = after;
    }
    c->group_base = first->base;
    c->group_end = next->base;
}

static enum mr_clean_progress group(struct mr_storage_core *core, struct mr_cleaner *c)
{
    struct mr_segment *first = mr_segment_find(c->p, c->group_base);
    first = first != NULL ? first : MR_LIST_ENTRY(c->p->segments.next, struct mr_segment, link);
    if (first->base >= c->end) {
        return round_end(core, c);
    }
    if (first->is_gone) {
        c->group_base = mr_segment_next(first)->base;
        return MR_CLEAN_ON;
    }
    group_choose(c, first);
    c->anew = mr_segment_make(core, c->p, c->group_base);
    if (c->anew == NULL || !mr_space_has(core, first->size)) {
        return mr_cleaner_undo(c, false);
    }
    (void)source_begin(c, first);
    return mr_cleaner_phase(c, MR_CLEAN_OPEN);
}

/* ---- COPY ---- */

/* The producer's last batch: its sequence must not be forgotten. As a marker, when it has no data in the log. */
static bool is_last_of_producer(const struct mr_storage_core *core, const struct mr_cleaner *c,
                                const struct mr_batch *batch)
{
    const struct mr_producer *producer =
        batch->producer_id < 0 ? NULL : mr_producer_find(&core->producers, &c->p->producers, batch->producer_id);
    if (producer == NULL) {
        return false;
    }
    return producer->batch_count > 0
               ? producer->batches[producer->batch_count - 1].last_offset == mr_batch_last_offset(batch)
               : (batch->attributes & MR_BATCH_CONTROL) != 0 && batch->producer_epoch == producer->epoch;
}

/* What is to be known of a batch before its records are looked at. */
static enum mr_err learn_batch(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_batch *batch,
                               const uint8_t *bytes)
{
    enum mr_err err = MR_OK;
    c->known = (struct mr_clean_batch){0};
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        const struct mr_aborted *aborted;
        bool is_over = mr_clean_txn_marker(&c->txns, c->source, batch, bytes, &aborted);
        bool is_due = (batch->attributes & MR_BATCH_DELETE_HORIZON) != 0 && batch->base_timestamp <= c->now_ms;
        c->known.is_marker_over = is_over;
        c->known.is_discarded = is_over && is_due;
        err = aborted == NULL ? MR_OK : mr_clean_out_aborted(core, c, aborted);
    } else if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        err = mr_clean_txn_data(&c->txns, c->source, batch, &c->known.is_discarded);
    }
    c->known.is_kept = is_last_of_producer(core, c, batch) ||
                       mr_batch_last_offset(batch) + 1 == c->p->high_watermark.offset;
    return err;
}

static enum mr_clean_progress copy_batch(struct mr_storage_core *core, struct mr_cleaner *c,
                                         const struct mr_batch *batch, const uint8_t *bytes)
{
    struct mr_clean_stream *log = &c->streams[MR_CLEAN_LOG];
    uint32_t                len = mr_batch_bytes(batch);
    uint32_t                out_len = 0;
    struct mr_clean_rules   rules = {.map = &c->map,
                                     .map_end = c->end,
                                     .now_ms = c->now_ms,
                                     .delete_retention_ms = c->p->config.delete_retention_ms};
    if (!mr_clean_out_has_room(c, len)) {
        c->is_flushing = true;
        return MR_CLEAN_IO;
    }
    enum mr_err err = c->is_known ? MR_OK : learn_batch(core, c, batch, bytes);
    c->is_known = true;
    if (err == MR_OK) {
        err = mr_clean_batch(&rules, &c->known, bytes, len, &c->scratch, log->bytes + log->used,
                             log->size - log->used, &out_len);
    }
    if (err == MR_ERR_TOO_LARGE && log->used > 0 && !mr_clean_out_has_room(c, log->size)) {
        c->is_flushing = true;
        return MR_CLEAN_IO;
    }
    if (err != MR_OK || (uint64_t)c->anew->size + out_len > INT32_MAX) {
        (void)source_bad(core, c, "a batch cannot be compacted");
        return mr_cleaner_undo(c, true);
    }
    if (out_len > 0) {
        mr_clean_out_add(c, log->bytes + log->used, out_len);
        mr_space_take(core, out_len);
    }
    c->bytes_before += len;
    c->bytes_after += out_len;
    core->stats.clean_bytes += len;
    source_took(c, batch);
    return MR_CLEAN_ON;
}

enum copy_at {
    COPY_READ,
    COPY_NEXT,
    COPY_OVER,
};

static enum mr_clean_progress copy(struct mr_storage_core *core, struct mr_cleaner *c)
{
    const uint8_t  *bytes = NULL;
    struct mr_batch batch;
    if (c->is_flushing) {
        c->is_flushing = false;
        if (c->io.op.err != MR_OK) {
            return mr_cleaner_failed(core, c, "writing a compacted segment");
        }
    }
    if (mr_space_is_full(core)) {
        return mr_cleaner_undo(c, false); /* what is left is for others */
    }
    if (c->at != COPY_READ) {
        struct mr_segment *next = mr_segment_next(c->source);
        bool               is_over = next->base >= c->group_end;
        if (!source_end(c)) {
            return MR_CLEAN_IO;
        }
        if (is_over) {
            return mr_cleaner_phase(c, MR_CLEAN_FINISH);
        }
        if (!source_begin(c, next)) {
            return mr_cleaner_undo(c, false);
        }
        c->at = COPY_READ;
    }
    switch (source_get(core, c, &bytes, &batch)) {
    case SOURCE_IO:
        return MR_CLEAN_IO;
    case SOURCE_BAD:
        return mr_cleaner_undo(c, true);
    case SOURCE_END:
        c->at = COPY_NEXT;
        return MR_CLEAN_ON;
    case SOURCE_BATCH:
        break;
    }
    return copy_batch(core, c, &batch, bytes);
}

/* ---- UNDO ---- */

static enum mr_clean_progress undo(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (!source_end(c)) {
        return MR_CLEAN_IO;
    }
    if (c->dir != MR_DISK_NONE) {
        c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = c->dir};
        c->dir = MR_DISK_NONE;
        return MR_CLEAN_IO;
    }
    enum mr_clean_progress progress = mr_clean_out_undo(core, c);
    if (progress != MR_CLEAN_ON) {
        return progress;
    }
    if (c->anew != NULL) {
        mr_aborted_clear(core, c->anew);
        mr_pool_put(&core->segment_pool, c->anew);
        c->anew = NULL;
    }
    c->p->is_uncleanable |= c->is_bad;
    c->p->task_count--;
    c->p = NULL;
    int64_t pause_ms = core->plan.clean_backoff_ms;
    return rest(core, c, c->is_bad || pause_ms < LATER_MS ? LATER_MS : pause_ms);
}

/* ---- The turn ---- */

static enum mr_clean_progress advance(struct mr_storage_core *core, struct mr_cleaner *c)
{
    switch (c->phase) {
    case MR_CLEAN_REST:
        return core->now.mono_ns < c->rest_until_ns ? MR_CLEAN_WAIT : mr_cleaner_phase(c, MR_CLEAN_LOOK);
    case MR_CLEAN_LOOK:
        return look(core, c);
    case MR_CLEAN_CLEAR:
        return clear(c);
    case MR_CLEAN_MAP:
        return map(core, c);
    case MR_CLEAN_GROUP:
        return group(core, c);
    case MR_CLEAN_OPEN:
        return mr_clean_out_open(core, c);
    case MR_CLEAN_COPY:
        return copy(core, c);
    case MR_CLEAN_FINISH:
        return mr_clean_out_finish(core, c);
    case MR_CLEAN_SWAP:
        return mr_clean_swap(core, c);
    case MR_CLEAN_UNDO:
        return undo(core, c);
    }
    mr_unreachable("phase of the cleaner");
}

static void io_done(struct mr_storage_core *core, struct mr_io *io)
{
    (void)io;
    core->cleaner->is_io = false;
}

static bool is_idle(const struct mr_cleaner *c)
{
    return c->p == NULL && !c->is_io;
}

/* Nobody waits for a compaction: it gives way to a stop and to the deletion of its log, but for a swap, which ends. */
static void give_way(struct mr_cleaner *c)
{
    bool is_due = c->p != NULL && (c->is_stopping || c->p->state != MR_PARTITION_OPEN);
    /* A file just opened, read or written is noted first. */
    bool is_between = c->phase == MR_CLEAN_CLEAR || c->phase == MR_CLEAN_GROUP ||
                      ((c->phase == MR_CLEAN_MAP || c->phase == MR_CLEAN_COPY) && c->source_at == SOURCE_OPEN &&
                       !c->is_flushing);
    if (is_due && is_between) {
        (void)mr_cleaner_undo(c, false);
    }
}

/* Reading and writing as log.cleaner.io.max.bytes.per.second allows. */
static void pace(struct mr_storage_core *core, struct mr_cleaner *c)
{
    uint64_t rate = core->plan.clean_bytes_per_s;
    uint64_t used = MR_CLEAN_SLICE_BYTES - c->budget;
    if (rate > 0 && used > 0) {
        c->paced_until_ns = core->now.mono_ns + used * 2 * MR_NS_PER_S / rate;
    }
}

/* The directory is offline: nothing is done to files any more, and the log is let go. */
static void let_go(struct mr_cleaner *c)
{
    if (c->source != NULL) {
        c->source->users--;
        c->source = NULL;
    }
    if (c->p != NULL) {
        c->p->task_count--;
        c->p = NULL;
    }
}

bool mr_cleaner_turn(struct mr_storage_core *core)
{
    struct mr_cleaner *c = core->cleaner;
    if (c == NULL || c->is_io || core->now.mono_ns < c->paced_until_ns) {
        return false;
    }
    if (core->is_offline) {
        let_go(c);
        return false;
    }
    if (c->rest_until_ns == 0) {
        int64_t pause_ms = core->plan.clean_backoff_ms;
        (void)rest(core, c, pause_ms < FIRST_LOOK_MS ? pause_ms : FIRST_LOOK_MS);
    }
    bool is_any = false;
    c->budget = MR_CLEAN_SLICE_BYTES;
    while (c->budget > 0) {
        give_way(c);
        enum mr_clean_progress progress = advance(core, c);
        if (core->is_offline || progress == MR_CLEAN_WAIT) {
            break;
        }
        is_any = true;
        if (progress == MR_CLEAN_IO) {
            c->is_io = true;
            c->io.done = io_done;
            mr_core_submit(core, &c->io);
            break;
        }
    }
    pace(core, c);
    return is_any;
}

uint64_t mr_cleaner_deadline_ns(const struct mr_storage_core *core)
{
    const struct mr_cleaner *c = core->cleaner;
    if (c == NULL || c->is_io) {
        return MR_NEVER;
    }
    uint64_t at = c->phase == MR_CLEAN_REST ? c->rest_until_ns : core->now.mono_ns + MR_NS_PER_MS;
    return at > c->paced_until_ns ? at : c->paced_until_ns;
}

bool mr_cleaner_stop(struct mr_storage_core *core)
{
    struct mr_cleaner *c = core->cleaner;
    if (c == NULL || is_idle(c)) {
        return true;
    }
    c->is_stopping = true;
    c->paced_until_ns = 0;
    (void)mr_cleaner_turn(core);
    return is_idle(c);
}

bool mr_cleaner_is_gated(const struct mr_storage_core *core, const struct mr_segment *segment)
{
    return segment->is_swapping && core->cleaner->is_gated;
}
