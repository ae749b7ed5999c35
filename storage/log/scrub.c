#include "log/scrub.h"

#include "millrace/base/bug.h"

#define READ_ORDER   6u /* 256 KiB */
#define FIRST_NS     (60 * MR_NS_PER_S) /* from the start to the first pass, unless the interval is shorter */
#define PATIENCE_NS  MR_NS_PER_S        /* how long appends may keep it waiting */
#define AGAIN_NS     (10 * MR_NS_PER_MS)
#define DAMAGES_MAX  64u

enum scrub_at {
    SCRUB_REST,
    SCRUB_CHOOSE,
    SCRUB_FILE,
    SCRUB_STATED,
    SCRUB_SIDE_OPENED,
    SCRUB_HEAD_READ,
    SCRUB_CREATE,
    SCRUB_CREATED,
    SCRUB_BLOCK,
    SCRUB_BLOCK_READ,
    SCRUB_DATA,
    SCRUB_DATA_READ,
    SCRUB_BLOCK_WRITTEN,
    SCRUB_STAT_AGAIN,
    SCRUB_STATED_AGAIN,
    SCRUB_HEAD_WRITTEN,
    SCRUB_LEAVE, /* the side-car is closed, and goes when it is of no use */
    SCRUB_LEFT,
    SCRUB_UNLINKED,
};

enum progress {
    SCRUB_ON,
    SCRUB_IO,   /* io.op is prepared: go on when it is done */
    SCRUB_WAIT, /* go on in a later turn */
};

struct damage {
    const struct mr_segment *segment;
    struct mr_scrub_range    range;
};

struct mr_scrub {
    struct mr_io        io;
    bool                is_io;
    bool                is_stopping;
    enum scrub_at       at;
    uint64_t            paced_until_ns;
    uint64_t            pass_at_ns; /* 0: not yet thought of */
    struct mr_list      fresh;      /* segments, by scrub_link */
    struct mr_partition *pass;      /* the log that the pass is in; NULL: none is under way */
    int64_t             pass_base;  /* its segments from here on are to come */
    uint64_t            pass_bytes;
    uint64_t            pass_damaged;
    uint32_t            pass_segments;

    /* The segment that is read. */
    struct mr_segment   *segment; /* NULL: it is gone */
    struct mr_segment   *held;    /* during an operation */
    int32_t              side_file;
    bool                 is_verifying; /* its side-car fits; else it gets one */
    bool                 is_confirming; /* the second time */
    bool                 is_useless;    /* the side-car goes */
    uint32_t             damaged; /* ranges found this time */
    uint32_t             block;   /* number of the one in `sums`; UINT32_MAX: none */
    uint32_t             next_chunk; /* of the first that was not summed up */
    uint64_t             from;       /* the bytes being read */
    struct mr_page      *page;
    struct mr_side_id    id;
    uint32_t             seed;
    uint8_t             *sums; /* MR_SIDE_BLOCK */
    char                 name[MR_FILE_NAME_BYTES];
    struct mr_scrub_scan scan;

    struct damage damages[DAMAGES_MAX];
    uint32_t      damage_count;
};

size_t mr_scrub_bytes(const struct mr_storage_plan *plan)
{
    return plan->scrub_bytes_per_s == 0 ? 0 : sizeof(struct mr_scrub) + MR_SIDE_BLOCK + 2 * MR_PAGE_BYTES;
}

struct mr_scrub *mr_scrub_init(struct mr_storage_core *core, struct mr_arena *arena)
{
    if (core->plan.scrub_bytes_per_s == 0) {
        return NULL;
    }
    struct mr_scrub *s = mr_arena_get(arena, sizeof *s, 64);
    s->sums = mr_arena_get(arena, MR_SIDE_BLOCK, MR_PAGE_BYTES);
    s->side_file = MR_DISK_NONE;
    mr_list_init(&s->fresh);
    return s;
}

/* ---- What is known to be damaged ---- */

static void damages_drop(struct mr_scrub *s, const struct mr_segment *segment)
{
    uint32_t kept = 0;
    for (uint32_t index = 0; index < s->damage_count; index++) {
        if (s->damages[index].segment != segment) {
            s->damages[kept++] = s->damages[index];
        }
    }
    s->damage_count = kept;
}

static void damage_add(struct mr_storage_core *core, struct mr_scrub *s, const struct mr_scrub_range *range,
                       const char *why)
{
    core->stats.scrub_damaged++;
    s->pass_damaged++;
    mr_log(core->log, MR_LOG_ERROR, "damaged: these offsets are lost here dir=%s segment=%lld from=%lld to=%lld pos=%u..%u why=%s",
           s->segment->partition->dir_name, (long long)s->segment->base, (long long)range->from, (long long)range->to,
           range->from_pos, range->to_pos, why);
    if (range->to >= range->from && s->damage_count < DAMAGES_MAX) {
        s->damages[s->damage_count++] = (struct damage){.segment = s->segment, .range = *range};
    }
}

const struct mr_scrub_range *mr_scrub_find(const struct mr_storage_core *core, const struct mr_segment *segment,
                                           int64_t offset)
{
    const struct mr_scrub *s = core->scrub;
    for (uint32_t index = 0; s != NULL && index < s->damage_count; index++) {
        const struct damage *damage = &s->damages[index];
        if (damage->segment == segment && damage->range.from <= offset && offset <= damage->range.to) {
            return &damage->range;
        }
    }
    return NULL;
}

bool mr_scrub_skip(const struct mr_storage_core *core, const struct mr_segment *segment, int64_t offset, uint64_t *pos)
{
    const struct mr_scrub *s = core->scrub;
    bool                   is_skipped = false;
    for (uint32_t index = 0; s != NULL && index < s->damage_count; index++) {
        const struct damage *damage = &s->damages[index];
        if (damage->segment == segment && damage->range.to < offset && *pos < damage->range.to_pos) {
            *pos = damage->range.to_pos;
            is_skipped = true;
        }
    }
    return is_skipped;
}

static void found_damage(void *context, const struct mr_scrub_range *range)
{
    struct mr_storage_core *core = context;
    struct mr_scrub        *s = core->scrub;
    s->damaged++;
    if (s->is_confirming && !mr_bug("blind-scrubber")) {
        damage_add(core, s, range, s->is_verifying ? "side-car" : "batches");
    }
}

/* ---- Which segment ---- */

void mr_scrub_want(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_scrub *s = core->scrub;
    if (s != NULL && segment != s->segment && mr_list_is_empty(&segment->scrub_link)) {
        mr_list_add_tail(&s->fresh, &segment->scrub_link);
    }
}

void mr_scrub_forget(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_scrub *s = core->scrub;
    mr_list_remove(&segment->scrub_link);
    if (s == NULL) {
        return;
    }
    damages_drop(s, segment);
    if (s->segment == segment) {
        s->segment = NULL;
    }
}

void mr_scrub_forget_log(struct mr_storage_core *core, const struct mr_partition *p)
{
    struct mr_scrub *s = core->scrub;
    if (s != NULL && s->pass == p) {
        s->pass = p->link.next == &core->partitions ? NULL : MR_LIST_ENTRY(p->link.next, struct mr_partition, link);
        s->pass_base = 0;
    }
}

/* What it says of a segment is of no account until it is all in its file. */
static bool is_readable(const struct mr_segment *segment)
{
    return segment->is_seal_done && !segment->is_gone && !segment->is_cleaning && !segment->is_swapping &&
           segment->written == segment->size && segment->size > 0 && segment->partition->state == MR_PARTITION_OPEN &&
           mr_segment_next(segment) != NULL;
}

static void pass_begin(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->pass = mr_list_is_empty(&core->partitions)
                  ? NULL
                  : MR_LIST_ENTRY(core->partitions.next, struct mr_partition, link);
    s->pass_base = 0;
    s->pass_bytes = 0;
    s->pass_segments = 0;
    s->pass_damaged = 0;
    s->pass_at_ns = mr_deadline_ms(core->now.mono_ns, core->plan.scrub_interval_ms);
}

static void pass_end(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->pass = NULL;
    if (s->pass_segments > 0) {
        mr_log(core->log, MR_LOG_INFO, "sealed segments have been read segments=%u bytes=%llu damaged=%llu",
               s->pass_segments, (unsigned long long)s->pass_bytes, (unsigned long long)s->pass_damaged);
    }
}

/* The next segment of the pass, in a slice of logs; NULL: not among these. */
static struct mr_segment *pass_next(struct mr_storage_core *core, struct mr_scrub *s)
{
    for (uint32_t logs = 0; s->pass != NULL && logs < 64; logs++) {
        MR_LIST_EACH(link, &s->pass->segments) {
            struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
            if (segment->base >= s->pass_base && is_readable(segment)) {
                s->pass_base = segment->base + 1;
                return segment;
            }
        }
        mr_scrub_forget_log(core, s->pass);
        if (s->pass == NULL) {
            pass_end(core, s);
        }
    }
    return NULL;
}

static struct mr_segment *choose(struct mr_storage_core *core, struct mr_scrub *s)
{
    while (!mr_list_is_empty(&s->fresh)) {
        struct mr_segment *segment = MR_LIST_ENTRY(mr_list_pop(&s->fresh), struct mr_segment, scrub_link);
        if (is_readable(segment)) {
            return segment;
        }
    }
    return pass_next(core, s);
}

/* ---- Steps: each looks at how the last operation went and prepares the next ---- */

static void go(struct mr_scrub *s, enum scrub_at at, struct mr_disk_op op)
{
    s->at = at;
    s->io.op = op;
}

static enum progress leave(struct mr_scrub *s)
{
    s->at = SCRUB_LEFT;
    if (s->side_file == MR_DISK_NONE) {
        s->at = SCRUB_CHOOSE;
        return SCRUB_ON;
    }
    go(s, SCRUB_LEFT, (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = s->side_file});
    s->side_file = MR_DISK_NONE;
    return SCRUB_IO;
}

static enum progress left(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->at = SCRUB_CHOOSE;
    if (!s->is_useless || s->segment == NULL) {
        return SCRUB_ON;
    }
    mr_segment_name(s->segment, MR_SIDE_SUFFIX, s->name);
    go(s, SCRUB_UNLINKED, (struct mr_disk_op){
                              .kind = MR_DISK_UNLINK, .flags = MR_DISK_BACKGROUND, .dir = core->root, .name = s->name});
    return SCRUB_IO;
}

/* From the segment's first byte. */
static void scan_begin(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->damaged = 0;
    s->block = UINT32_MAX;
    s->next_chunk = 0;
    mr_scrub_scan_init(&s->scan, s->segment->base, mr_segment_next(s->segment)->base, s->segment->size, found_damage, core);
    s->at = SCRUB_BLOCK;
}

static enum progress segment_begin(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (!mr_segment_file_ready(core, s->segment)) {
        return SCRUB_WAIT;
    }
    go(s, SCRUB_STATED, (struct mr_disk_op){.kind = MR_DISK_STAT, .file = s->segment->file});
    return SCRUB_IO;
}

static enum progress stated(struct mr_storage_core *core, struct mr_scrub *s)
{
    const struct mr_partition *p = s->segment->partition;
    if (s->io.op.err != MR_OK || s->io.op.size != s->segment->size) {
        return leave(s);
    }
    s->id = (struct mr_side_id){.topic_id = p->jlog.topic_id, .partition = (uint32_t)p->jlog.partition,
                                .size = s->segment->size, .base = s->segment->base,
                                .changed_ns = s->io.op.changed_ns};
    s->seed = mr_side_seed(&s->id);
    mr_segment_name(s->segment, MR_SIDE_SUFFIX, s->name);
    go(s, SCRUB_SIDE_OPENED,
       (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root, .name = s->name});
    return SCRUB_IO;
}

static enum progress side_opened(struct mr_scrub *s)
{
    if (s->io.op.err == MR_ERR_NOT_FOUND) {
        s->at = SCRUB_CREATE;
        return SCRUB_ON;
    }
    if (s->io.op.err != MR_OK) {
        return leave(s);
    }
    s->side_file = s->io.op.file;
    go(s, SCRUB_HEAD_READ, (struct mr_disk_op){
                               .kind = MR_DISK_READ, .file = s->side_file, .buffer = s->sums, .len = MR_SIDE_BLOCK});
    return SCRUB_IO;
}

/* All of it is another log's, says the side-car of this very file. */
static enum progress foreign(struct mr_storage_core *core, struct mr_scrub *s)
{
    struct mr_scrub_range all = {.from = s->segment->base, .to = mr_segment_next(s->segment)->base - 1,
                                 .to_pos = s->segment->size};
    s->segment->side = MR_SIDE_WRONG;
    damage_add(core, s, &all, "another log's segment");
    return leave(s);
}

static enum progress head_read(struct mr_storage_core *core, struct mr_scrub *s)
{
    uint32_t len = s->io.op.err == MR_OK ? s->io.op.done_bytes : 0;
    switch (mr_side_head_fits(s->sums, len, &s->id)) {
    case MR_SIDE_FITS:
        s->is_verifying = true;
        s->segment->side = MR_SIDE_GOOD;
        s->segment->side_seed = s->seed;
        scan_begin(core, s);
        return SCRUB_ON;
    case MR_SIDE_FOREIGN:
        return foreign(core, s);
    case MR_SIDE_STALE:
        if (mr_bug("stale-is-damage")) {
            return foreign(core, s);
        }
        break;
    }
    go(s, SCRUB_CREATE, (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = s->side_file});
    s->side_file = MR_DISK_NONE;
    return SCRUB_IO;
}

static enum progress create(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->is_verifying = false;
    s->segment->side = MR_SIDE_NONE;
    if (mr_space_is_full(core)) {
        return leave(s); /* what is left is for others */
    }
    mr_segment_name(s->segment, MR_SIDE_SUFFIX, s->name);
    go(s, SCRUB_CREATED, (struct mr_disk_op){
                             .kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_TRUNC, .dir = core->root, .name = s->name});
    return SCRUB_IO;
}

static enum progress created(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (s->io.op.err != MR_OK) {
        return leave(s); /* no space, or no descriptor: the next pass tries again */
    }
    s->side_file = s->io.op.file;
    s->is_useless = true; /* until its head is written */
    scan_begin(core, s);
    return SCRUB_ON;
}

/* The sums that the next bytes are compared with, or gathered in. */
static enum progress block(struct mr_scrub *s)
{
    uint32_t number = s->next_chunk / MR_SIDE_SUMS;
    s->at = SCRUB_DATA;
    if (number == s->block || s->next_chunk == mr_side_chunks(s->segment->size)) {
        return SCRUB_ON;
    }
    s->block = number;
    if (!s->is_verifying) {
        memset(s->sums, 0, MR_SIDE_BLOCK);
        return SCRUB_ON;
    }
    go(s, SCRUB_BLOCK_READ, (struct mr_disk_op){.kind = MR_DISK_READ, .file = s->side_file, .buffer = s->sums,
                                                .len = MR_SIDE_BLOCK, .pos = mr_side_block_pos(number)});
    return SCRUB_IO;
}

static enum progress block_read(struct mr_storage_core *core, struct mr_scrub *s)
{
    uint32_t len = s->io.op.err == MR_OK ? s->io.op.done_bytes : 0;
    if (mr_side_block_is_whole(s->seed, s->block, s->sums, len)) {
        s->at = SCRUB_DATA;
        return SCRUB_ON;
    }
    mr_log(core->log, MR_LOG_WARN, "a side-car is damaged and made again dir=%s segment=%lld",
           s->segment->partition->dir_name, (long long)s->segment->base);
    s->is_confirming = false;
    go(s, SCRUB_CREATE, (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = s->side_file});
    s->side_file = MR_DISK_NONE;
    return SCRUB_IO;
}

static enum progress data(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (s->scan.is_over) {
        s->at = SCRUB_BLOCK_WRITTEN;
        s->io.op.err = MR_OK;
        return SCRUB_ON;
    }
    if (!mr_segment_file_ready(core, s->segment)) {
        return SCRUB_WAIT;
    }
    s->page = mr_page_pool_try(&core->cold, READ_ORDER, MR_FAIL_cold_pages);
    if (s->page == NULL) {
        s->paced_until_ns = core->now.mono_ns + AGAIN_NS;
        return SCRUB_WAIT;
    }
    s->page->is_busy = true;
    s->from = mr_scrub_scan_at(&s->scan) / MR_SIDE_CHUNK * MR_SIDE_CHUNK;
    uint64_t end = s->from + mr_page_capacity(s->page);
    uint64_t sums_end = (uint64_t)(s->block + 1) * MR_SIDE_SUMS * MR_SIDE_CHUNK;
    uint64_t file_end = ((uint64_t)s->segment->size + MR_PAGE_BYTES - 1) / MR_PAGE_BYTES * MR_PAGE_BYTES;
    end = end < sums_end ? end : sums_end;
    end = end < file_end ? end : file_end;
    go(s, SCRUB_DATA_READ, (struct mr_disk_op){.kind = MR_DISK_READ, .file = s->segment->file,
                                               .buffer = mr_page_memory(&core->cold, s->page),
                                               .len = (uint32_t)(end - s->from), .pos = s->from});
    return SCRUB_IO;
}

/* The chunks in the page that come for the first time. */
static void sum_up(struct mr_scrub *s, const uint8_t *memory, uint64_t end)
{
    while (s->next_chunk < mr_side_chunks(s->segment->size)) {
        uint64_t pos = (uint64_t)s->next_chunk * MR_SIDE_CHUNK;
        uint32_t len = mr_side_chunk_bytes(s->segment->size, s->next_chunk);
        if (pos < s->from || pos + len > end || s->next_chunk / MR_SIDE_SUMS != s->block) {
            return;
        }
        uint32_t sum = mr_side_sum(s->seed, s->next_chunk, memory + (pos - s->from), len);
        uint32_t index = s->next_chunk % MR_SIDE_SUMS;
        if (!s->is_verifying) {
            mr_side_block_set(s->sums, index, sum);
        } else if (mr_side_block_get(s->sums, index) != sum) {
            mr_scrub_scan_bad(&s->scan, s->next_chunk);
        }
        s->next_chunk++;
    }
}

/* A block is full, or the last one complete: it goes to the file. */
static bool is_block_due(const struct mr_scrub *s)
{
    return !s->is_verifying && s->block != UINT32_MAX &&
           (s->next_chunk / MR_SIDE_SUMS != s->block || s->next_chunk == mr_side_chunks(s->segment->size));
}

static void page_put(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->page->is_busy = false;
    mr_page_pool_put(&core->cold, s->page);
    s->page = NULL;
}

static enum progress data_read(struct mr_storage_core *core, struct mr_scrub *s)
{
    const struct mr_disk_op *op = &s->io.op;
    const uint8_t           *memory = mr_page_memory(&core->cold, s->page);
    uint32_t                 chunk = s->next_chunk;
    uint64_t                 at = mr_scrub_scan_at(&s->scan);
    uint64_t                 end = s->from + op->done_bytes;
    s->at = SCRUB_BLOCK;
    if (op->err != MR_OK || end <= at) {
        mr_scrub_scan_unreadable(&s->scan, s->from + op->len);
        uint32_t passed = mr_side_chunks(s->from + op->len);
        s->next_chunk = passed > s->next_chunk ? passed : s->next_chunk;
    } else {
        sum_up(s, memory, end);
        mr_scrub_scan_feed(&s->scan, memory + (at - s->from), (uint32_t)(end - at));
    }
    page_put(core, s);
    core->stats.scrub_bytes += op->done_bytes;
    s->pass_bytes += op->done_bytes;
    s->paced_until_ns = core->now.mono_ns + op->len * MR_NS_PER_S / core->plan.scrub_bytes_per_s;
    if (s->next_chunk == chunk || !is_block_due(s)) {
        return SCRUB_ON;
    }
    mr_side_block_seal(s->seed, s->block, s->sums);
    go(s, SCRUB_BLOCK_WRITTEN,
       (struct mr_disk_op){.kind = MR_DISK_WRITE, .flags = MR_DISK_BACKGROUND, .file = s->side_file, .buffer = s->sums,
                           .len = MR_SIDE_BLOCK, .pos = mr_side_block_pos(s->block)});
    return SCRUB_IO;
}

static enum progress block_written(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->at = SCRUB_BLOCK;
    if (s->io.op.err != MR_OK) {
        return leave(s);
    }
    if (!s->scan.is_over) {
        return SCRUB_ON;
    }
    if (s->damaged > 0 && !s->is_confirming) {
        s->is_confirming = true;
        scan_begin(core, s);
        return SCRUB_ON;
    }
    core->stats.scrub_segments++;
    s->pass_segments++;
    if (s->is_verifying || s->damaged > 0) {
        return leave(s);
    }
    s->at = SCRUB_STAT_AGAIN;
    return SCRUB_ON;
}

/* Nobody has touched the file while it was read: the side-car is of what is there. */
static enum progress stat_again(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (!mr_segment_file_ready(core, s->segment)) {
        return SCRUB_WAIT;
    }
    go(s, SCRUB_STATED_AGAIN, (struct mr_disk_op){.kind = MR_DISK_STAT, .file = s->segment->file});
    return SCRUB_IO;
}

static enum progress stated_again(struct mr_scrub *s)
{
    if (s->io.op.err != MR_OK || s->io.op.changed_ns != s->id.changed_ns || s->io.op.size != s->id.size) {
        return leave(s);
    }
    mr_side_head_store(&s->id, s->sums);
    go(s, SCRUB_HEAD_WRITTEN, (struct mr_disk_op){.kind = MR_DISK_WRITE, .flags = MR_DISK_BACKGROUND,
                                                  .file = s->side_file, .buffer = s->sums, .len = MR_SIDE_BLOCK});
    return SCRUB_IO;
}

static enum progress head_written(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (s->io.op.err == MR_OK) {
        s->is_useless = false;
        s->segment->side = MR_SIDE_GOOD;
        s->segment->side_seed = s->seed;
        core->stats.side_cars++;
    }
    return leave(s);
}

static bool is_due(const struct mr_scrub *s)
{
    return s->pass != NULL || !mr_list_is_empty(&s->fresh);
}

static enum progress rest(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (s->pass_at_ns == 0) {
        uint64_t first = mr_deadline_ms(core->now.mono_ns, core->plan.scrub_interval_ms);
        s->pass_at_ns = mr_earlier(first, core->now.mono_ns + FIRST_NS);
    }
    if (s->pass == NULL && core->now.mono_ns >= s->pass_at_ns) {
        pass_begin(core, s);
    }
    if (s->is_stopping || !is_due(s)) {
        return SCRUB_WAIT;
    }
    s->at = SCRUB_CHOOSE;
    return SCRUB_ON;
}

static enum progress choose_segment(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->segment = s->is_stopping ? NULL : choose(core, s);
    s->is_useless = false;
    s->is_confirming = false;
    if (s->segment == NULL) {
        s->at = SCRUB_REST;
        return SCRUB_WAIT;
    }
    damages_drop(s, s->segment);
    s->at = SCRUB_FILE;
    return SCRUB_ON;
}

/* The segment is going, or the core: what is held of it is let go. Who replaces a segment has seen that nobody uses it, and
 * relies on that: what is still to be closed here is no use of it. */
static void give_up(struct mr_storage_core *core, struct mr_scrub *s)
{
    if (s->segment != NULL && !is_readable(s->segment)) {
        s->segment = NULL;
    }
    if ((s->at == SCRUB_SIDE_OPENED || s->at == SCRUB_CREATED) && s->io.op.err == MR_OK) {
        s->side_file = s->io.op.file;
    }
    if (s->page != NULL) {
        page_put(core, s);
    }
    s->at = SCRUB_LEAVE;
}

static enum progress step(struct mr_storage_core *core, struct mr_scrub *s)
{
    bool is_between = s->at == SCRUB_REST || s->at == SCRUB_CHOOSE || s->at == SCRUB_LEFT || s->at == SCRUB_UNLINKED;
    if (!is_between && (s->is_stopping || s->segment == NULL || !is_readable(s->segment))) {
        give_up(core, s);
    }
    switch (s->at) {
    case SCRUB_REST:
        return rest(core, s);
    case SCRUB_CHOOSE:
        return choose_segment(core, s);
    case SCRUB_FILE:
        return segment_begin(core, s);
    case SCRUB_STATED:
        return stated(core, s);
    case SCRUB_SIDE_OPENED:
        return side_opened(s);
    case SCRUB_HEAD_READ:
        return head_read(core, s);
    case SCRUB_CREATE:
        return create(core, s);
    case SCRUB_CREATED:
        return created(core, s);
    case SCRUB_BLOCK:
        return block(s);
    case SCRUB_BLOCK_READ:
        return block_read(core, s);
    case SCRUB_DATA:
        return data(core, s);
    case SCRUB_DATA_READ:
        return data_read(core, s);
    case SCRUB_BLOCK_WRITTEN:
        return block_written(core, s);
    case SCRUB_STAT_AGAIN:
        return stat_again(core, s);
    case SCRUB_STATED_AGAIN:
        return stated_again(s);
    case SCRUB_HEAD_WRITTEN:
        return head_written(core, s);
    case SCRUB_LEAVE:
        return leave(s);
    case SCRUB_LEFT:
        return left(core, s);
    case SCRUB_UNLINKED:
        s->at = SCRUB_CHOOSE;
        return SCRUB_ON;
    }
    mr_unreachable("step of the scrubber");
}

/* ---- The turn ---- */

static void io_done(struct mr_storage_core *core, struct mr_io *io)
{
    struct mr_scrub *s = core->scrub;
    (void)io;
    s->is_io = false;
    if (s->held != NULL) {
        s->held->users--;
        s->held->partition->task_count--;
        s->held = NULL;
    }
}

static void submit(struct mr_storage_core *core, struct mr_scrub *s)
{
    s->is_io = true;
    s->held = s->segment;
    if (s->held != NULL) {
        s->held->users++;
        s->held->partition->task_count++;
    }
    s->io.done = io_done;
    mr_core_submit(core, &s->io);
}

/* Appends come first, but not for ever. */
static bool is_yielding(const struct mr_storage_core *core, const struct mr_scrub *s)
{
    return s->at == SCRUB_DATA && !mr_list_is_empty(&core->acks_durable) &&
           core->now.mono_ns < s->paced_until_ns + PATIENCE_NS;
}

bool mr_scrub_turn(struct mr_storage_core *core)
{
    struct mr_scrub *s = core->scrub;
    if (s == NULL || s->is_io || core->is_offline || core->now.mono_ns < s->paced_until_ns || is_yielding(core, s)) {
        return false;
    }
    bool          is_any = false;
    enum progress progress;
    while ((progress = step(core, s)) == SCRUB_ON) {
        is_any = true;
        if (core->now.mono_ns < s->paced_until_ns || is_yielding(core, s)) {
            return true;
        }
    }
    if (progress == SCRUB_IO) {
        submit(core, s);
    }
    return is_any || progress == SCRUB_IO;
}

uint64_t mr_scrub_deadline_ns(const struct mr_storage_core *core)
{
    const struct mr_scrub *s = core->scrub;
    if (s == NULL || s->is_io) {
        return MR_NEVER;
    }
    if (s->at == SCRUB_REST && !is_due(s)) {
        return s->pass_at_ns;
    }
    uint64_t soon = core->now.mono_ns + MR_NS_PER_MS;
    return soon > s->paced_until_ns ? soon : s->paced_until_ns;
}

bool mr_scrub_stop(struct mr_storage_core *core)
{
    struct mr_scrub *s = core->scrub;
    if (s == NULL) {
        return true;
    }
    s->is_stopping = true;
    s->paced_until_ns = 0;
    (void)mr_scrub_turn(core);
    return !s->is_io && s->at == SCRUB_REST;
}
