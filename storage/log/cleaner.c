#include "log/cleaner.h"

#define SMALL_STREAM  (64u << 10)
#define FIRST_LOOK_MS 5000 /* after a start, when the pause is not shorter */
#define LATER_MS      1000 /* a round that had to be given up is tried again after that at the earliest */

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

enum mr_clean_progress mr_cleaner_rest(struct mr_storage_core *core, struct mr_cleaner *c, int64_t ms)
{
    c->rest_until_ns = mr_deadline_ms(core->now.mono_ns, ms);
    return mr_cleaner_phase(c, MR_CLEAN_REST);
}

/* ---- UNDO ---- */

static enum mr_clean_progress undo(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (!mr_clean_source_close(c)) {
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
    return mr_cleaner_rest(core, c, c->is_bad || pause_ms < LATER_MS ? LATER_MS : pause_ms);
}

/* ---- The turn ---- */

static enum mr_clean_progress advance(struct mr_storage_core *core, struct mr_cleaner *c)
{
    switch (c->phase) {
    case MR_CLEAN_REST:
        return core->now.mono_ns < c->rest_until_ns ? MR_CLEAN_WAIT : mr_cleaner_phase(c, MR_CLEAN_LOOK);
    case MR_CLEAN_LOOK:
        return mr_clean_look(core, c);
    case MR_CLEAN_CLEAR:
        return mr_clean_clear(c);
    case MR_CLEAN_MAP:
        return mr_clean_keys(core, c);
    case MR_CLEAN_GROUP:
        return mr_clean_group(core, c);
    case MR_CLEAN_OPEN:
        return mr_clean_out_open(core, c);
    case MR_CLEAN_COPY:
        return mr_clean_copy(core, c);
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
    bool is_settled = c->source_at == MR_CLEAN_READY || c->source_at == MR_CLEAN_OVER;
    bool is_between = c->phase == MR_CLEAN_CLEAR || c->phase == MR_CLEAN_GROUP ||
                      ((c->phase == MR_CLEAN_MAP || c->phase == MR_CLEAN_COPY) && is_settled && !c->is_flushing);
    if (is_due && is_between) {
        (void)mr_cleaner_undo(c, false);
    }
}

/* Reading and writing as log.cleaner.io.max.bytes.per.second allows. */
static void pace(struct mr_storage_core *core, struct mr_cleaner *c)
{
    uint64_t rate = core->plan.clean_bytes_per_s;
    if (rate > 0 && c->taken > 0) {
        c->paced_until_ns = core->now.mono_ns + c->taken * 2 * MR_NS_PER_S / rate;
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
        (void)mr_cleaner_rest(core, c, pause_ms < FIRST_LOOK_MS ? pause_ms : FIRST_LOOK_MS);
    }
    bool is_any = false;
    c->budget = MR_CLEAN_SLICE_BYTES;
    c->taken = 0;
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
