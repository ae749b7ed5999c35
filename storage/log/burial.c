/*
 * burial: how files of deleted segments and deleted logs leave the disk.
 *
 *   segment   gone (below the log start) -> no live journal entry, nobody reads it -> renamed to *.deleted
 *             -> file.delete.delay.ms -> unlinked
 *   log       DROP durable -> directory renamed to *-delete -> file.delete.delay.ms -> emptied and unlinked
 *
 * J5: a rename comes after the LOG_START or DROP that explains it is durable. J6: a segment is touched when its
 * last journal sequence is below the ring's start, so that recovery cannot want to write into it. A ring that
 * nobody fills is turned over on purpose (core->reclaim_seq), or a quiet log would keep its files for ever.
 *
 * Big files are cut in slices before they are unlinked: unlinking 1 GiB at once stalled a commit by 50 ms. One
 * burial and one digging are under way at a time; all of it is MR_DISK_BACKGROUND.
 *
 * Power lost between two renames leaves some files of a segment with the suffix and some without: without its
 * .log a segment does not exist, and what is left over is removed at a start.
 */
#include "storage_core.h"

#include "millrace/side_car.h"

#define CUT_BYTES (16u << 20)
#define LOOK_NS   MR_NS_PER_S /* how often segments that could not be buried yet are looked at again */

static const char *const kinds[] = {".log", ".index", ".timeindex", ".txnindex", MR_SIDE_SUFFIX, ".snapshot"};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* ---- The graves, by the time at which they are dug out ---- */

static void bury(struct mr_storage_core *core, struct mr_grave *grave, int64_t delay_ms)
{
    grave->due_ns = mr_deadline_ms(core->now.mono_ns, delay_ms);
    struct mr_list *after = core->graves.prev;
    while (after != &core->graves && MR_LIST_ENTRY(after, struct mr_grave, link)->due_ns > grave->due_ns) {
        after = after->prev;
    }
    mr_list_add_head(after, &grave->link);
}

static struct mr_segment *segment_of(struct mr_grave *grave)
{
    return MR_LIST_ENTRY(grave, struct mr_segment, grave);
}

void mr_burial_forget(struct mr_storage_core *core, struct mr_partition *p)
{
    mr_list_remove(&p->gone_link);
    MR_LIST_EACH_SAFE(link, after, &core->graves) {
        if (p->grave_count == 0) {
            return;
        }
        struct mr_grave *grave = MR_LIST_ENTRY(link, struct mr_grave, link);
        if (grave->name == NULL && segment_of(grave)->partition == p) {
            mr_list_remove(&grave->link);
            p->grave_count--;
            mr_pool_put(&core->segment_pool, segment_of(grave));
        }
    }
    mr_assert(p->grave_count == 0);
}

/* ---- Segments: from gone to *.deleted ---- */

/* The oldest segment, when it may be touched. */
static struct mr_segment *ready_segment(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_segment *segment = MR_LIST_ENTRY(p->segments.next, struct mr_segment, link);
    if (!segment->is_gone) {
        mr_list_remove(&p->gone_link);
        return NULL;
    }
    uint64_t start_seq = mr_journal_start_seq(core->journal);
    if (segment->last_seq >= start_seq) {
        core->reclaim_seq = segment->last_seq > core->reclaim_seq ? segment->last_seq : core->reclaim_seq;
        return NULL;
    }
    bool is_free = segment->is_seal_done && segment->users == 0 && !segment->is_index_busy &&
                   !segment->is_swapping && segment->file_state != MR_FILE_OPENING;
    return is_free && p->log_start_seq <= mr_journal_durable_seq(core->journal) ? segment : NULL;
}

static bool rename_next(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    char               suffix[24];
    mr_segment_name(segment, kinds[task->index], task->name);
    mr_fmt(suffix, sizeof suffix, "%s.deleted", kinds[task->index]);
    mr_segment_name(segment, suffix, task->new_name);
    task->io.op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .flags = MR_DISK_BACKGROUND, .dir = core->root,
                                      .name = task->name, .new_name = task->new_name};
    return true;
}

void mr_burial_renamed(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mr_partition *p = segment->partition;
    mr_segment_detach(core, segment);
    p->grave_count++;
    bury(core, &segment->grave, p->config.file_delete_delay_ms);
}

static bool bury_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    if (task->at == 0) {
        task->at = 1;
        return rename_next(core, task);
    }
    if (op->kind == MR_DISK_RENAME && op->err == MR_ERR_NO_SPACE) {
        /* A name may need a block that is not there: then the file goes now, which gives some back. */
        *op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_BACKGROUND, .dir = core->root,
                                  .name = task->name};
        return true;
    }
    if (op->err != MR_OK && op->err != MR_ERR_NOT_FOUND) {
        mr_core_fail(core, op, "renaming a deleted segment");
    } else if (++task->index < KIND_COUNT) {
        return rename_next(core, task);
    }
    mr_burial_renamed(core, segment);
    core->is_burying = false;
    core->burial_at_ns = core->now.mono_ns;
    return false;
}

static void bury_segments(struct mr_storage_core *core)
{
    if (core->is_burying || mr_list_is_empty(&core->gone) ||
        (core->now.mono_ns < core->burial_at_ns && mr_journal_start_seq(core->journal) == core->burial_seen_seq)) {
        return;
    }
    core->burial_at_ns = core->now.mono_ns + LOOK_NS;
    core->burial_seen_seq = mr_journal_start_seq(core->journal);
    MR_LIST_EACH_SAFE(link, after, &core->gone) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, gone_link);
        struct mr_segment   *segment = p->state == MR_PARTITION_OPEN ? ready_segment(core, p) : NULL;
        struct mr_task      *task = segment == NULL ? NULL : mr_core_task(core, p, bury_step);
        if (task != NULL) {
            task->segment = segment;
            segment->is_cleaning = true;
            core->is_burying = true;
            mr_core_task_start(core, task);
            return;
        }
    }
}

void mr_burial_note(struct mr_storage_core *core, struct mr_partition *p)
{
    if (mr_list_is_empty(&p->gone_link)) {
        mr_list_add_tail(&core->gone, &p->gone_link);
        core->burial_at_ns = core->now.mono_ns;
    }
}

/* ---- Digging out: a file, in slices when it is large ---- */

enum dig_at {
    DIG_BEGIN,
    DIG_OPENED,
    DIG_CUT,
    DIG_CLOSED,
    DIG_UNLINKED,
};

/* Task fields: name: of the file; c: its size; at, file. Goes on with task->then when the file is gone. */
static bool dig_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum dig_at)task->at) {
    case DIG_BEGIN:
        if (task->c <= CUT_BYTES) {
            break;
        }
        task->at = DIG_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .dir = core->root, .name = task->name};
        return true;
    case DIG_OPENED:
        if (op->err != MR_OK) {
            break;
        }
        task->file = op->file;
        task->at = DIG_CUT;
        /* fallthrough */
    case DIG_CUT:
        if (task->c > CUT_BYTES) {
            task->c -= CUT_BYTES;
            *op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .flags = MR_DISK_BACKGROUND, .file = task->file,
                                      .pos = task->c};
            return true;
        }
        task->at = DIG_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case DIG_CLOSED:
        break;
    case DIG_UNLINKED:
        /* What cannot be removed stays for the next start: nothing depends on it. */
        return mr_task_return(core, task);
    }
    task->at = DIG_UNLINKED;
    *op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_BACKGROUND, .dir = core->root,
                              .name = task->name};
    return true;
}

static bool dig(struct mr_storage_core *core, struct mr_task *task, uint64_t size)
{
    task->c = size;
    return mr_task_call(core, task, dig_step, 0);
}

/* Task: segment; index: of the kind. Called again when each file is gone. */
static bool dig_segment_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    char               suffix[24];
    if (task->index == KIND_COUNT) {
        segment->partition->grave_count--;
        mr_pool_put(&core->segment_pool, segment);
        core->is_digging = false;
        return false;
    }
    mr_fmt(suffix, sizeof suffix, "%s.deleted", kinds[task->index]);
    mr_segment_name(segment, suffix, task->name);
    return dig(core, task, task->index++ == 0 ? segment->size : 0);
}

/* ---- Digging out: a directory ---- */

enum dig_dir_at {
    DIR_BEGIN,
    DIR_OPENED,
    DIR_LISTED,
    DIR_FILES,
    DIR_GONE,
};

/* Task fields: new_name: the directory; y: enum dig_dir_at; page: its listing, b bytes, a: where we are. */
static bool dig_dir_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_disk_op *op = &task->io.op;
    switch ((enum dig_dir_at)task->y) {
    case DIR_BEGIN:
        task->y = DIR_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = core->root,
                                  .name = task->new_name};
        return true;
    case DIR_OPENED:
        task->page = op->err == MR_OK ? mr_tail_page_get(core, 4) : NULL;
        task->y = DIR_LISTED;
        task->dir = op->err == MR_OK ? op->file : MR_DISK_NONE;
        if (task->page == NULL) {
            break; /* it stays for the next start */
        }
        task->page->is_busy = true;
        *op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = task->dir,
                                  .buffer = mr_page_memory(&core->cache, task->page),
                                  .len = mr_page_capacity(task->page)};
        return true;
    case DIR_LISTED:
        task->b = op->err == MR_OK ? op->done_bytes : 0;
        task->a = 0;
        task->x = op->err == MR_OK && op->size > 0; /* more names than the page holds: list again */
        task->y = DIR_FILES;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->dir};
        return true;
    case DIR_FILES: {
        const uint8_t *at = mr_page_memory(&core->cache, task->page) + task->a;
        if (task->a < task->b) {
            const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
            task->a += entry->entry_bytes;
            mr_fmt(task->name, sizeof task->name, "%s/%s", task->new_name, entry->name);
            return dig(core, task, entry->size);
        }
        task->page->is_busy = false;
        mr_page_pool_put(&core->cache, task->page);
        task->page = NULL;
        if (task->x != 0 && task->b > 0) {
            task->y = DIR_BEGIN;
            return dig_dir_step(core, task);
        }
        task->y = DIR_GONE;
        *op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY | MR_DISK_BACKGROUND,
                                  .dir = core->root, .name = task->new_name};
        return true;
    }
    case DIR_GONE:
        core->is_digging = false;
        return false;
    }
    if (task->dir != MR_DISK_NONE) {
        task->y = DIR_GONE;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->dir};
        return true;
    }
    core->is_digging = false;
    return false;
}

bool mr_burial_has_room(struct mr_storage_core *core)
{
    if (core->grave_pool.used < core->grave_pool.capacity && !mr_fail(MR_FAIL_graves)) {
        return true;
    }
    /* As many logs as the plan has at all wait to be removed: the one that is due next goes early. */
    MR_LIST_EACH(link, &core->graves) {
        struct mr_grave *grave = MR_LIST_ENTRY(link, struct mr_grave, link);
        if (grave->name != NULL) {
            grave->due_ns = core->now.mono_ns;
            mr_list_remove(&grave->link);
            mr_list_add_head(&core->graves, &grave->link);
            break;
        }
    }
    return false;
}

void mr_burial_directory(struct mr_storage_core *core, const char *name, int64_t delay_ms)
{
    struct mr_dir_grave *grave = mr_pool_get(&core->grave_pool);
    mr_assert(grave != NULL); /* mr_burial_has_room */
    mr_fmt(grave->text, sizeof grave->text, "%s", name);
    grave->grave.name = grave->text;
    bury(core, &grave->grave, delay_ms);
}

static void dig_next(struct mr_storage_core *core)
{
    if (core->is_digging || mr_list_is_empty(&core->graves)) {
        return;
    }
    struct mr_grave *grave = MR_LIST_ENTRY(core->graves.next, struct mr_grave, link);
    bool             is_directory = grave->name != NULL;
    if (grave->due_ns > core->now.mono_ns) {
        return;
    }
    struct mr_task *task = mr_core_task(core, is_directory ? NULL : segment_of(grave)->partition,
                                        is_directory ? dig_dir_step : dig_segment_step);
    if (task == NULL) {
        return;
    }
    mr_list_remove(&grave->link);
    core->is_digging = true;
    if (is_directory) {
        mr_fmt(task->new_name, sizeof task->new_name, "%s", grave->name);
        mr_pool_put(&core->grave_pool, MR_LIST_ENTRY(grave, struct mr_dir_grave, grave));
    } else {
        task->segment = segment_of(grave);
    }
    mr_core_task_start(core, task);
}

void mr_burial_turn(struct mr_storage_core *core)
{
    if (!core->is_offline) {
        bury_segments(core);
        dig_next(core);
    }
}

uint64_t mr_burial_deadline_ns(const struct mr_storage_core *core)
{
    uint64_t at = MR_NEVER;
    if (!core->is_burying && !mr_list_is_empty(&core->gone)) {
        at = core->burial_at_ns;
    }
    if (!core->is_digging && !mr_list_is_empty(&core->graves)) {
        at = mr_earlier(at, MR_LIST_ENTRY(core->graves.next, struct mr_grave, link)->due_ns);
    }
    return at;
}
