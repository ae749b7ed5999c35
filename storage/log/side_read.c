#include "log/side_read.h"

#include "log/scrub.h"
#include "millrace/base/bug.h"

#define SLOTS 32u

struct slot {
    const struct mr_segment *segment; /* NULL: free */
    uint32_t                 number;
    bool                     is_busy; /* being read */
    uint64_t                 used;    /* when it was last asked */
    uint8_t                 *block;
};

struct mr_side_cache {
    uint64_t    clock;
    struct slot slots[SLOTS];
};

size_t mr_side_cache_bytes(const struct mr_storage_plan *plan)
{
    return plan->scrub_bytes_per_s == 0 ? 0 : sizeof(struct mr_side_cache) + (SLOTS + 2) * (size_t)MR_SIDE_BLOCK;
}

struct mr_side_cache *mr_side_cache_init(struct mr_storage_core *core, struct mr_arena *arena)
{
    if (core->plan.scrub_bytes_per_s == 0) {
        return NULL;
    }
    struct mr_side_cache *cache = mr_arena_get(arena, sizeof *cache, 64);
    uint8_t              *memory = mr_arena_get_fresh(arena, SLOTS * (size_t)MR_SIDE_BLOCK, MR_SIDE_BLOCK);
    for (uint32_t index = 0; index < SLOTS; index++) {
        cache->slots[index].block = memory + (size_t)index * MR_SIDE_BLOCK;
    }
    return cache;
}

void mr_side_forget(struct mr_storage_core *core, const struct mr_segment *segment)
{
    for (uint32_t index = 0; core->sides != NULL && index < SLOTS; index++) {
        struct slot *slot = &core->sides->slots[index];
        slot->segment = slot->segment == segment ? NULL : slot->segment;
    }
}

static struct slot *find(struct mr_side_cache *cache, const struct mr_segment *segment, uint32_t number)
{
    for (uint32_t index = 0; index < SLOTS; index++) {
        struct slot *slot = &cache->slots[index];
        if (slot->segment == segment && slot->number == number && !slot->is_busy) {
            slot->used = ++cache->clock;
            return slot;
        }
    }
    return NULL;
}

static struct slot *oldest(struct mr_side_cache *cache)
{
    struct slot *best = NULL;
    for (uint32_t index = 0; index < SLOTS; index++) {
        struct slot *slot = &cache->slots[index];
        if (!slot->is_busy && (best == NULL || slot->used < best->used)) {
            best = slot;
        }
    }
    return best;
}

static bool has_sums(const struct mr_storage_core *core, const struct mr_segment *segment)
{
    return core->sides != NULL && segment->is_seal_done &&
           (segment->side == MR_SIDE_UNKNOWN || segment->side == MR_SIDE_GOOD);
}

bool mr_side_take(struct mr_storage_core *core, struct mr_task *task, uint64_t from)
{
    struct mr_segment *segment = task->segment;
    uint32_t           first = (uint32_t)(from / MR_SIDE_CHUNK);
    task->side_count = 0;
    task->side_first = first;
    if (!has_sums(core, segment)) {
        return true;
    }
    uint32_t     end = mr_side_chunks(segment->size);
    struct slot *slot = NULL;
    end = end - first < MR_SIDE_TAKEN ? end : first + MR_SIDE_TAKEN;
    for (uint32_t chunk = first; chunk < end; chunk++) {
        if (slot == NULL || slot->number != chunk / MR_SIDE_SUMS) {
            task->side_block = chunk / MR_SIDE_SUMS;
            slot = segment->side == MR_SIDE_GOOD ? find(core->sides, segment, task->side_block) : NULL;
        }
        if (slot == NULL) {
            return false;
        }
        task->side_sums[chunk - first] = mr_side_block_get(slot->block, chunk % MR_SIDE_SUMS);
    }
    task->side_count = end - first;
    return true;
}

uint64_t mr_side_bad(const struct mr_task *task, const uint8_t *memory, uint64_t from, uint64_t to)
{
    const struct mr_segment *segment = task->segment;
    if (task->side_count == 0 || mr_bug("believe-side-cars")) {
        return to;
    }
    for (uint64_t chunk = from / MR_SIDE_CHUNK; chunk * MR_SIDE_CHUNK < to; chunk++) {
        uint32_t index = (uint32_t)chunk - task->side_first;
        mr_assert(index < task->side_count);
        uint32_t sum = mr_side_sum(segment->side_seed, (uint32_t)chunk, memory + (size_t)index * MR_SIDE_CHUNK,
                                   mr_side_chunk_bytes(segment->size, (uint32_t)chunk));
        if (sum != task->side_sums[index]) {
            return chunk * MR_SIDE_CHUNK > from ? chunk * MR_SIDE_CHUNK : from;
        }
    }
    return to;
}

/* ---- Fetch ---- */

enum fetch_at {
    FETCH_BEGIN,
    FETCH_STATED,
    FETCH_OPENED,
    FETCH_HEAD_READ,
    FETCH_BLOCK_READ,
    FETCH_CLOSED,
};

/* Task fields: side_block: the number of the block; side_slot: where it goes; side_changed_ns: of the segment's file;
 * file: the side-car. */

static struct slot *slot_of(struct mr_storage_core *core, const struct mr_task *task)
{
    return &core->sides->slots[task->side_slot];
}

static bool fetch_end(struct mr_storage_core *core, struct mr_task *task)
{
    slot_of(core, task)->is_busy = false;
    if (task->file == MR_DISK_NONE) {
        return mr_task_return(core, task);
    }
    task->at = FETCH_CLOSED;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
    return true;
}

/* There is nothing to compare with; the scrubber sees to it. */
static bool fetch_none(struct mr_storage_core *core, struct mr_task *task)
{
    task->segment->side = MR_SIDE_NONE;
    mr_scrub_want(core, task->segment);
    return fetch_end(core, task);
}

static bool read_block(struct mr_storage_core *core, struct mr_task *task, uint64_t pos, enum fetch_at at)
{
    task->at = at;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = task->file, .buffer = slot_of(core, task)->block,
                                      .len = MR_SIDE_BLOCK, .pos = pos};
    return true;
}

static bool fetch_head(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment         *segment = task->segment;
    const struct mr_partition *p = task->partition;
    const struct mr_disk_op   *op = &task->io.op;
    struct mr_side_id id = {.topic_id = p->jlog.topic_id, .partition = (uint32_t)p->jlog.partition,
                            .size = segment->size, .base = segment->base, .changed_ns = task->side_changed_ns};
    switch (mr_side_head_fits(op->buffer, op->err == MR_OK ? op->done_bytes : 0, &id)) {
    case MR_SIDE_FITS:
        segment->side = MR_SIDE_GOOD;
        segment->side_seed = mr_side_seed(&id);
        return read_block(core, task, mr_side_block_pos(task->side_block), FETCH_BLOCK_READ);
    case MR_SIDE_FOREIGN:
        mr_log(core->log, MR_LOG_ERROR, "a segment is another log's dir=%s segment=%lld", p->dir_name,
               (long long)segment->base);
        fetch_none(core, task);
        segment->side = MR_SIDE_WRONG;
        return true;
    case MR_SIDE_STALE:
        break;
    }
    return fetch_none(core, task);
}

static bool open_side(struct mr_storage_core *core, struct mr_task *task)
{
    mr_segment_name(task->segment, MR_SIDE_SUFFIX, task->name);
    task->at = FETCH_OPENED;
    task->io.op = (struct mr_disk_op){
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = task->name};
    return true;
}

static bool fetch_begin(struct mr_storage_core *core, struct mr_task *task)
{
    struct slot *slot = oldest(core->sides);
    if (slot == NULL || !mr_segment_file_ready(core, task->segment)) {
        return mr_core_task_wait(core, task, 0);
    }
    slot->is_busy = true;
    slot->segment = NULL;
    slot->number = task->side_block;
    slot->used = ++core->sides->clock;
    task->side_slot = (uint32_t)(slot - core->sides->slots);
    task->file = MR_DISK_NONE;
    if (task->segment->side != MR_SIDE_UNKNOWN) {
        return open_side(core, task);
    }
    task->at = FETCH_STATED;
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_STAT, .file = task->segment->file};
    return true;
}

static bool fetch_step(struct mr_storage_core *core, struct mr_task *task)
{
    const struct mr_disk_op *op = &task->io.op;
    switch ((enum fetch_at)task->at) {
    case FETCH_BEGIN:
        return fetch_begin(core, task);
    case FETCH_STATED:
        if (op->err != MR_OK || op->size != task->segment->size) {
            return fetch_none(core, task);
        }
        task->side_changed_ns = op->changed_ns;
        return open_side(core, task);
    case FETCH_OPENED:
        if (op->err != MR_OK) {
            return fetch_none(core, task);
        }
        task->file = op->file;
        return task->segment->side == MR_SIDE_UNKNOWN
                   ? read_block(core, task, 0, FETCH_HEAD_READ)
                   : read_block(core, task, mr_side_block_pos(task->side_block), FETCH_BLOCK_READ);
    case FETCH_HEAD_READ:
        return fetch_head(core, task);
    case FETCH_BLOCK_READ:
        if (!mr_side_block_is_whole(task->segment->side_seed, task->side_block, op->buffer,
                                    op->err == MR_OK ? op->done_bytes : 0)) {
            return fetch_none(core, task);
        }
        slot_of(core, task)->segment = task->segment;
        return fetch_end(core, task);
    case FETCH_CLOSED:
        return mr_task_return(core, task);
    }
    mr_unreachable("fetch of sums");
}

bool mr_side_fetch(struct mr_storage_core *core, struct mr_task *task, uint32_t back_at)
{
    return mr_task_call(core, task, fetch_step, back_at);
}
