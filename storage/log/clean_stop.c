/*
 * clean_stop: drain the journal into the segments and leave what Kafka's clean stop leaves: segments that
 * end where they end, indexes with the forced last time entry, a snapshot at the end, epochs,
 * checkpoints, then no guard, then the marker.
 *
 * In turns, so that it can say how far it is and hear that it is to hurry; nothing else is served any more. A second
 * SIGTERM (stop_hurry) leaves at once: the guard stays, and the next start recovers.
 */
#include "log/clean_swap.h"
#include "log/log_files.h"
#include "log/scrub.h"

#include "millrace/base/bug.h"

#define CLOSE_SLICE 64 /* logs per turn */

static bool is_hurried(const struct mr_storage_core *core)
{
    return core->params.stop_hurry != NULL &&
           atomic_load_explicit(core->params.stop_hurry, memory_order_relaxed) != 0;
}

/* A small file from `scratch`. Of a stop a syncfs follows. */
static enum mr_err write_file(struct mr_storage_core *core, const char *name, uint32_t len, bool is_synced)
{
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_TRUNC, .dir = core->root,
                            .name = name};
    enum mr_err err = mr_core_disk(core, &op);
    if (err != MR_OK) {
        return err;
    }
    int32_t file = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_WRITE, .file = file, .buffer = core->scratch, .len = len};
    err = mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = file};
    err = err == MR_OK && is_synced ? mr_core_disk(core, &op) : err;
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(core, &op);
    return err;
}

static enum mr_err write_snapshot(struct mr_storage_core *core, const struct mr_partition *p)
{
    char name[MR_FILE_NAME_BYTES];
    mr_assert(mr_producer_snapshot_bytes(&p->producers) <= MR_SCRATCH_BYTES); /* MR_PRODUCERS_PER_LOG */
    mr_fmt(name, sizeof name, "%s/%020lld.snapshot", p->dir_name, (long long)p->end.offset);
    return write_file(core, name, mr_producer_snapshot_store(&p->producers, core->scratch), false);
}

/* Under another name when there is an older file: a log that was not written since the last stop has its epochs nowhere
 * but in that. */
static enum mr_err write_epochs(struct mr_storage_core *core, struct mr_partition *p)
{
    char           name[MR_FILE_NAME_BYTES];
    struct mr_text text;
    mr_text_init(&text, (char *)core->scratch, MR_SCRATCH_BYTES);
    mr_text_fmt(&text, "0\n%u\n", p->epochs.count);
    for (uint32_t index = 0; index < p->epochs.count; index++) {
        mr_text_fmt(&text, "%d %lld\n", p->epochs.entries[index].epoch,
                    (long long)p->epochs.entries[index].start_offset);
    }
    mr_fmt(name, sizeof name, "%s/leader-epoch-checkpoint%s", p->dir_name, p->has_epoch_file ? ".tmp" : "");
    enum mr_err err = text.is_cut ? MR_ERR_TOO_LARGE
                                  : write_file(core, name, (uint32_t)text.len, !core->is_stopping);
    p->is_epoch_dirty = err != MR_OK || p->has_epoch_file;
    p->has_epoch_file = true;
    return err;
}

static bool has_new_epochs(const struct mr_partition *p)
{
    return p->is_epoch_dirty && p->epochs.count > 0;
}

enum mr_err mr_log_close_epochs(struct mr_storage_core *core, struct mr_partition *p)
{
    char name[MR_FILE_NAME_BYTES];
    char temporary[MR_FILE_NAME_BYTES + 8];
    if (!has_new_epochs(p)) {
        return MR_OK;
    }
    mr_fmt(name, sizeof name, "%s/leader-epoch-checkpoint", p->dir_name);
    mr_fmt(temporary, sizeof temporary, "%s.tmp", name);
    struct mr_disk_op op = {.kind = MR_DISK_RENAME, .dir = core->root, .name = temporary, .new_name = name};
    enum mr_err       err = mr_core_disk(core, &op);
    p->is_epoch_dirty = err != MR_OK;
    return err;
}

/* An active segment without bytes may have no file yet, and its name is what tells the log's end. */
static enum mr_err make_file(struct mr_storage_core *core, const struct mr_segment *segment)
{
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(segment, ".log", name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = core->root, .name = name};
    enum mr_err       err = mr_core_disk(core, &op);
    if (err == MR_OK) {
        op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = op.file};
        err = mr_core_disk(core, &op);
    }
    return err;
}

/* Completions of other operations are none here. */
enum mr_err mr_log_close_files(struct mr_storage_core *core, struct mr_partition *p)
{
    enum mr_err err = MR_OK;
    mr_segment_index_end(core, p->active);
    for (volatile uint32_t spin = 0; mr_bug("slow-stop") && spin < 10000000; spin++) {
    }
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (segment->index_page != NULL || segment->time_page != NULL || !segment->has_index_files) {
            mr_segment_index_flush(core, segment);
        }
    }
    err = mr_txn_index_write(core, p);
    if (err == MR_OK && !p->is_clean_on_disk && p->active->size == 0) {
        err = make_file(core, p->active);
    }
    if (err == MR_OK && !p->is_clean_on_disk && p->end.offset > 0 && p->snapshot_at != p->end.offset) {
        err = write_snapshot(core, p);
    }
    if (err == MR_OK && has_new_epochs(p)) {
        err = write_epochs(core, p);
    }
    p->is_clean_on_disk = err == MR_OK;
    return err;
}

/* ---- Checkpoints ---- */

enum checkpoint {
    CHECKPOINT_RECOVERY,
    CHECKPOINT_HIGH,
    CHECKPOINT_LOG_START,
    CHECKPOINT_CLEANER,
    CHECKPOINT_COUNT,
};

/* What a log's line says; -1: it has none. */
static int64_t checkpoint_offset(const struct mr_partition *p, enum checkpoint which)
{
    if (p->state == MR_PARTITION_OFFLINE || p->active == NULL) {
        return -1;
    }
    switch (which) {
    case CHECKPOINT_RECOVERY:
        return p->end.offset;
    case CHECKPOINT_HIGH:
        return p->high_watermark.offset;
    case CHECKPOINT_LOG_START:
        return p->log_start > MR_LIST_ENTRY(p->segments.next, struct mr_segment, link)->base ? p->log_start : -1;
    case CHECKPOINT_CLEANER:
        return p->config.is_cleanup_compact && !mr_bug("forget-where-it-is-clean") ? p->clean_offset : -1;
    case CHECKPOINT_COUNT:
        break;
    }
    mr_unreachable("checkpoint");
}

/* A file written in pieces through `scratch`. */
struct writer {
    struct mr_storage_core *core;
    struct mr_text          text;
    int32_t                 file;
    uint64_t                pos;
    enum mr_err             err;
};

static void writer_flush(struct writer *writer)
{
    struct mr_disk_op op = {.kind = MR_DISK_WRITE, .file = writer->file, .buffer = writer->core->scratch,
                            .len = (uint32_t)writer->text.len, .pos = writer->pos};
    if (writer->err == MR_OK && writer->text.len > 0) {
        writer->err = mr_core_disk(writer->core, &op);
        writer->pos += op.len;
    }
    mr_text_init(&writer->text, (char *)writer->core->scratch, MR_SCRATCH_BYTES);
}

/* NULL: lines are only counted. */
static void writer_line(struct writer *writer, struct mr_str topic, int32_t partition, int64_t offset)
{
    if (writer == NULL) {
        return;
    }
    if (MR_SCRATCH_BYTES - writer->text.len < MR_FILE_NAME_BYTES) {
        writer_flush(writer);
    }
    mr_text_fmt(&writer->text, "%.*s %d %lld\n", (int)topic.len, topic.data, partition, (long long)offset);
}

/* The lines of one core's logs: counted, or with a writer written. */
static uint32_t checkpoint_lines(const struct mr_storage_core *of, enum checkpoint which, struct writer *writer)
{
    uint32_t count = 0;
    MR_LIST_EACH(link, &of->partitions) {
        const struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        int64_t                    offset = checkpoint_offset(p, which);
        struct mr_str              topic;
        int32_t                    partition = 0;
        if (offset < 0 || !mr_log_dir_parse(p->jlog.dir_name, &topic, &partition)) {
            continue;
        }
        count++;
        writer_line(writer, topic, partition, offset);
    }
    return count;
}

/* The directory is there and no core has opened its log. */
static bool is_unopened(struct mr_storage_core *core, struct mr_str dir_name)
{
    char name[MR_DIR_NAME_BYTES];
    bool is_open = mr_partition_by_name(core, dir_name) != NULL;
    for (uint32_t index = 0; index < MR_CORES_MAX; index++) {
        is_open |= core->peers[index] != NULL && mr_partition_by_name(core->peers[index], dir_name) != NULL;
    }
    if (is_open || dir_name.len >= (int32_t)sizeof name) {
        return false;
    }
    mr_fmt(name, sizeof name, "%.*s", dir_name.len, dir_name.data);
    struct mr_disk_op op = {.kind = MR_DISK_STAT, .dir = core->root, .name = name};
    return mr_core_disk(core, &op) == MR_OK;
}

/* A stop during the start: where logs begin that nobody has opened is still what this start found. */
static uint32_t checkpoint_unopened(struct mr_storage_core *core, enum checkpoint which, struct writer *writer)
{
    uint32_t count = 0;
    for (uint32_t index = 0; which == CHECKPOINT_LOG_START && index < core->log_starts.entry_count; index++) {
        const struct mr_checkpoint_entry *entry = &core->log_starts.entries[index];
        struct mr_str                     topic;
        int32_t                           partition = 0;
        if (mr_log_dir_parse(entry->dir_name, &topic, &partition) && is_unopened(core, entry->dir_name)) {
            count++;
            writer_line(writer, topic, partition, entry->offset);
        }
    }
    return count;
}

/* The other cores have stopped, so that their logs can be read here. */
static uint32_t checkpoint_cores(struct mr_storage_core *core, enum checkpoint which, struct writer *writer)
{
    uint32_t count = checkpoint_lines(core, which, writer);
    for (uint32_t index = 0; index < MR_CORES_MAX && !mr_bug("forget-other-cores"); index++) {
        count += core->peers[index] == NULL ? 0 : checkpoint_lines(core->peers[index], which, writer);
    }
    return count + checkpoint_unopened(core, which, writer);
}

static enum mr_err write_checkpoint(struct mr_storage_core *core, enum checkpoint which)
{
    static const char *const names[CHECKPOINT_COUNT] = {MR_CHECKPOINT_RECOVERY, MR_CHECKPOINT_HIGH,
                                                        MR_CHECKPOINT_LOG_START, MR_CHECKPOINT_CLEANER};
    char              temporary[MR_FILE_NAME_BYTES];
    mr_fmt(temporary, sizeof temporary, "%s.tmp", names[which]);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | MR_DISK_TRUNC, .dir = core->root,
                            .name = temporary};
    struct writer     writer = {.core = core, .err = mr_core_disk(core, &op)};
    writer.file = op.file;
    if (writer.err != MR_OK) {
        return writer.err;
    }
    mr_text_init(&writer.text, (char *)core->scratch, MR_SCRATCH_BYTES);
    mr_text_fmt(&writer.text, "0\n%u\n", checkpoint_cores(core, which, NULL));
    (void)checkpoint_cores(core, which, &writer);
    writer_flush(&writer);
    op = (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = writer.file};
    enum mr_err err = writer.err != MR_OK ? writer.err : mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = writer.file};
    (void)mr_core_disk(core, &op);
    op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .dir = core->root, .name = temporary, .new_name = names[which]};
    return err != MR_OK ? err : mr_core_disk(core, &op);
}

/* ---- The stop ---- */

static bool is_dirty(const struct mr_storage_core *core)
{
    /* Not every entry has an operation that waits for it: what is carried has none. */
    bool is_undurable = !mr_list_is_empty(&core->undurable) ||
                        mr_journal_durable_seq(core->journal) != mr_journal_added_seq(core->journal);
    return is_undurable || !mr_list_is_empty(&core->dirty) || core->demux_in_flight > 0 || core->disk->in_flight > 0;
}

static enum mr_err close_log(struct mr_storage_core *core, struct mr_partition *p)
{
    core->stop.closed++;
    enum mr_err err = mr_demux_rest(core, p);
    return err != MR_OK ? err : mr_log_close_files(core, p);
}

/* `what` is done with a slice of the logs; false: with all of them. */
static bool next_slice(struct mr_storage_core *core, enum mr_err (*what)(struct mr_storage_core *, struct mr_partition *),
                       enum mr_err *err)
{
    if (core->stop.next == NULL) {
        core->stop.next = core->partitions.next;
    }
    core->is_blocking = true;
    for (uint32_t count = 0; count < CLOSE_SLICE && *err == MR_OK && core->stop.next != &core->partitions; count++) {
        struct mr_partition *p = MR_LIST_ENTRY(core->stop.next, struct mr_partition, link);
        core->stop.next = core->stop.next->next;
        if (p->state != MR_PARTITION_OFFLINE && p->active != NULL) {
            *err = what(core, p);
        }
    }
    core->is_blocking = false;
    return *err == MR_OK && core->stop.next != &core->partitions;
}

static struct mr_disk_op sync_op(const struct mr_storage_core *core)
{
    return (struct mr_disk_op){.kind = mr_bug("stop-without-sync") ? MR_DISK_SYNC_DIR : MR_DISK_SYNC_FS,
                               .file = core->root};
}

static void synced(struct mr_storage_core *core, struct mr_io *io)
{
    (void)io;
    core->stop.is_syncing = false;
    core->stop.is_synced = true;
    core->stop.next = core->partitions.next; /* once more: what is durable now gets its name */
}

/* What all logs have written takes a while, and may be long. */
static void sync_start(struct mr_storage_core *core)
{
    core->stop.sync = (struct mr_io){.op = sync_op(core), .done = synced};
    core->stop.is_syncing = true;
    mr_core_submit(core, &core->stop.sync);
}

static uint32_t count_lost(const struct mr_storage_core *of)
{
    uint32_t count = 0;
    MR_LIST_EACH(link, &of->partitions) {
        count += MR_LIST_ENTRY(link, struct mr_partition, link)->state == MR_PARTITION_OFFLINE;
    }
    return count;
}

/*
 * The directory is as Kafka's clean stop leaves it. Not with logs of which corruption took entries: what tells that is
 * private and counts only under the guard. When the loss is accepted there is neither guard nor marker, so that whoever
 * starts next, Millrace or Kafka, reads those logs (which have no recovery point) from their beginnings.
 */
static enum mr_err leave(struct mr_storage_core *core, struct mr_stop_op *op)
{
    enum mr_err err = MR_OK;
    op->lost_logs = count_lost(core);
    for (uint32_t index = 0; index < MR_CORES_MAX; index++) {
        op->lost_logs += core->peers[index] == NULL ? 0 : count_lost(core->peers[index]);
    }
    if (op->lost_logs > 0 && !op->is_loss_accepted) {
        mr_log(core->log, MR_LOG_WARN, "logs that lost entries stay offline, and the directory guarded logs=%u",
               op->lost_logs);
    } else {
        /* The marker counts for nothing under the guard: whenever the stop ends, one of the two tells the truth. */
        err = op->lost_logs > 0 ? MR_OK : mr_guard_mark(&core->guard, op->broker_epoch);
        err = err != MR_OK ? err : mr_guard_remove(&core->guard);
    }
    mr_guard_close(&core->guard);
    return err;
}

/* All logs are closed and synced. The names that they have got since are made durable here, by the last core. */
static enum mr_err finish(struct mr_storage_core *core, struct mr_stop_op *op)
{
    enum mr_err err = MR_OK;
    mr_clean_swap_close(core);
    if (op->is_last) {
        for (uint32_t which = 0; which < CHECKPOINT_COUNT && err == MR_OK; which++) {
            err = write_checkpoint(core, (enum checkpoint)which);
        }
        struct mr_disk_op sync = sync_op(core);
        err = err != MR_OK ? err : mr_core_disk(core, &sync);
    }
    err = err != MR_OK ? err : mr_journal_close(core->journal);
    return err == MR_OK && op->is_last ? leave(core, op) : err;
}

static void answer(struct mr_storage_core *core, struct mr_stop_op *op, enum mr_err err)
{
    op->op.err = err;
    if (err != MR_OK) {
        mr_log(core->log, MR_LOG_WARN, "not a clean stop: %s; the next start recovers", mr_err_text(err));
    }
    core->stop.op = NULL;
    core->is_stopped = true;
    mr_core_answer(core, &op->op);
}

static void tell(struct mr_storage_core *core)
{
    if (core->now.mono_ns >= core->stop.tell_at_ns) {
        core->stop.tell_at_ns = core->now.mono_ns + MR_NS_PER_S;
        mr_log(core->log, MR_LOG_INFO, "stopping logs_closed=%u of=%u dirty_bytes=%llu", core->stop.closed,
               core->partition_pool.used, (unsigned long long)core->dirty_bytes);
    }
}

bool mr_clean_stop_turn(struct mr_storage_core *core)
{
    if (core->stop.is_syncing) {
        tell(core);
        return false;
    }
    struct mr_stop_op *op = core->stop.op;
    enum mr_err        err = is_hurried(core) ? MR_ERR_CLOSED : core->is_offline ? MR_ERR_DIR_OFFLINE : MR_OK;
    if (err == MR_OK && (!mr_cleaner_stop(core) || !mr_scrub_stop(core))) {
        tell(core);
        return core->disk->in_flight == 0; /* a swap that is under way ends */
    }
    bool is_draining = core->stop.next == NULL && is_dirty(core);
    if (err == MR_OK && is_draining && core->is_space_short) {
        err = MR_ERR_NO_SPACE; /* what does not fit into segments waits in the journal for the next start */
    }
    if (err == MR_OK) {
        tell(core);
    }
    if (err == MR_OK && is_draining) {
        mr_journal_roll(core->journal);
        mr_demux_flush(core);
        (void)mr_journal_turn(core->journal, core->now);
        return core->disk->in_flight == 0;
    }
    if (err == MR_OK && !core->stop.is_synced) {
        if (next_slice(core, close_log, &err)) {
            return true;
        }
        if (err == MR_OK) {
            sync_start(core);
            return true;
        }
    }
    if (err == MR_OK) {
        err = core->stop.sync.op.err;
        if (next_slice(core, mr_log_close_epochs, &err)) {
            return true;
        }
    }
    answer(core, op, err == MR_OK ? finish(core, op) : err);
    return true;
}

void mr_clean_stop_start(struct mr_storage_core *core, struct mr_stop_op *op)
{
    if (!core->is_recovered) {
        answer(core, op, MR_OK);
        return;
    }
    if (core->is_giving) {
        mr_recover_give(core);
    }
    core->is_stopping = true;
    core->stop.op = op;
    core->stop.tell_at_ns = core->now.mono_ns + MR_NS_PER_S;
}
