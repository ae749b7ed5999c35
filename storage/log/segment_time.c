/*
 * segment_time: the largest timestamp of a segment that was there before this start.
 *
 *   size of .timeindex -> its last entry (forced when a segment ends) -> mtime of .log
 *
 * Both look at the batch that the entry names before they believe it: a search by time before the segment is passed over,
 * retention before it is deleted (time_search.c). Compaction believes it.
 *
 * An index that is missing or makes no sense leaves max_timestamp at -1: retention then goes by the time of the
 * last change, as Kafka does, and a search by time scans the segment.
 */
#include "storage_core.h"

#include "log/time_index.h"

enum time_at {
    TIME_BEGIN,
    TIME_OPENED,
    TIME_SIZED,
    TIME_READ,
    TIME_CLOSED,
    TIME_STATTED,
};

/* Task fields: file; new_name: room for the entry that is read. */

static void use_entry(struct mr_segment *segment, const uint8_t *bytes)
{
    struct mr_time_index_entry entry = mr_time_index_load(bytes);
    const struct mr_segment   *next = mr_segment_next(segment);
    if (entry.timestamp < 0 || entry.relative < 0 ||
        (next != NULL && entry.relative >= next->base - segment->base)) {
        return;
    }
    mr_segment_time_claim(segment, entry.timestamp, segment->base + entry.relative);
}

static bool time_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_segment *segment = task->segment;
    struct mr_disk_op *op = &task->io.op;
    switch ((enum time_at)task->at) {
    case TIME_BEGIN:
        mr_segment_name(segment, ".timeindex", task->name);
        task->at = TIME_OPENED;
        *op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = core->root,
                                  .name = task->name};
        return true;
    case TIME_OPENED:
        if (op->err != MR_OK) {
            break;
        }
        task->file = op->file;
        task->at = TIME_SIZED;
        *op = (struct mr_disk_op){.kind = MR_DISK_STAT, .file = task->file};
        return true;
    case TIME_SIZED:
        if (op->err == MR_OK && op->size >= MR_TIME_INDEX_ENTRY) {
            task->at = TIME_READ;
            *op = (struct mr_disk_op){.kind = MR_DISK_READ,
                                      .file = task->file,
                                      .buffer = task->new_name,
                                      .len = MR_TIME_INDEX_ENTRY,
                                      .pos = (op->size / MR_TIME_INDEX_ENTRY - 1) * MR_TIME_INDEX_ENTRY};
            return true;
        }
        task->at = TIME_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case TIME_READ:
        if (op->err == MR_OK && op->done_bytes == MR_TIME_INDEX_ENTRY) {
            use_entry(segment, (const uint8_t *)task->new_name);
        }
        task->at = TIME_CLOSED;
        *op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = task->file};
        return true;
    case TIME_CLOSED:
        break;
    case TIME_STATTED:
        if (op->err == MR_OK) {
            segment->changed_ms = op->mtime_ms;
        }
        segment->is_time_known = true;
        segment->users--;
        return mr_task_return(core, task);
    }
    mr_segment_name(segment, ".log", task->name);
    task->at = TIME_STATTED;
    *op = (struct mr_disk_op){.kind = MR_DISK_STAT, .dir = core->root, .name = task->name};
    return true;
}

void mr_segment_time_claim(struct mr_segment *segment, int64_t timestamp, int64_t offset)
{
    segment->max_timestamp = timestamp;
    segment->max_timestamp_offset = offset;
    segment->claim.timestamp = timestamp;
    segment->claim.offset = offset;
    segment->is_time_unproven = true;
}

bool mr_segment_time_learn(struct mr_storage_core *core, struct mr_task *task, struct mr_segment *segment,
                           uint32_t back_at)
{
    mr_assert(!segment->is_time_known);
    task->segment = segment;
    segment->users++;
    return mr_task_call(core, task, time_step, back_at);
}
