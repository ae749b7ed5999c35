#include "metadata/meta_checkpoint.h"

#include "metadata/meta.h"
#include "metadata/meta_log.h"
#include "millrace/batch.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

#define RECORDS_PER_TURN 500u
#define CONTROL_BYTES    1024u /* of a batch of control records, besides the voters */
#define SUFFIX           ".checkpoint"

bool mr_meta_checkpoint_init(struct mr_control *control)
{
    control->checkpoint = MR_HEAP_NEW(&control->heap, struct mr_meta_checkpoint);
    return control->checkpoint != NULL;
}

/* ---- When ---- */

static uint64_t due_ns(const struct mr_control *control)
{
    const struct mr_meta_log *log = control->meta_log;
    int64_t                   interval_ms = control->config->metadata_log_max_snapshot_interval_ms;
    if (log->since_bytes == 0 || control->meta->is_in_transaction || control->meta->ignored > 0) {
        return MR_NEVER;
    }
    if (log->since_bytes >= (uint64_t)control->config->metadata_log_max_record_bytes_between_snapshots) {
        return 0;
    }
    return interval_ms == 0 ? MR_NEVER : mr_deadline_ms(log->since_ns, interval_ms);
}

static void tell_refusal(struct mr_control *control)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    if (control->meta->ignored > 0 && !checkpoint->is_refusal_told) {
        checkpoint->is_refusal_told = true;
        mr_log(control->log, MR_LOG_WARN,
               "the metadata log is not shortened: it has records that this broker does not use and must not lose count=%llu",
               (unsigned long long)control->meta->ignored);
    }
}

uint64_t mr_meta_checkpoint_deadline_ns(const struct mr_control *control)
{
    if (control->phase != MR_PHASE_SERVING || control->checkpoint->step == MR_META_CHECKPOINT_STORING) {
        return MR_NEVER; /* what it waits for wakes it */
    }
    if (control->checkpoint->step == MR_META_CHECKPOINT_WRITING) {
        return 0;
    }
    return mr_meta_log_is_busy(control->meta_log) ? MR_NEVER : due_ns(control);
}

/* ---- The bytes ---- */

static void reset(struct mr_control *control)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    mr_heap_free(&control->heap, checkpoint->bytes, checkpoint->size);
    checkpoint->bytes = NULL;
    checkpoint->size = 0;
    checkpoint->used = 0;
    checkpoint->step = MR_META_CHECKPOINT_IDLE;
    control->meta_log->is_checkpointing = false;
}

/* It is tried again when as much has been written, or as long has passed, as if it had been made. */
static void give_up(struct mr_control *control, struct mr_now now, const char *what, enum mr_err err)
{
    mr_log(control->log, MR_LOG_ERROR, "no checkpoint of the metadata: %s dir=%s why=%s", what, control->meta_log->path,
           mr_err_text(err));
    control->meta_log->since_bytes = 1;
    control->meta_log->since_ns = now.mono_ns;
    reset(control);
}

/* Room for `bytes` more; NULL: no memory. */
static uint8_t *room(struct mr_control *control, size_t bytes)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    if (bytes > checkpoint->size - checkpoint->used) {
        size_t size = checkpoint->size * 2 + bytes;
        uint8_t *more = mr_heap_resize(&control->heap, checkpoint->bytes, checkpoint->size, size);
        if (more == NULL) {
            return NULL;
        }
        checkpoint->bytes = more;
        checkpoint->size = size;
    }
    return checkpoint->bytes + checkpoint->used;
}

/* The first batch: header, and the voters of a log that has them. */
static bool put_header(struct mr_control *control)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    const struct mr_meta_log  *log = control->meta_log;
    size_t                     size = CONTROL_BYTES + (size_t)log->kraft.voters_len;
    uint8_t                   *bytes = room(control, size);
    if (bytes == NULL) {
        return false;
    }
    struct mr_snapshot_header_record header = {.last_contained_log_timestamp = log->last_append_ms};
    struct mr_kraft_version_record   version = {.k_raft_version = log->kraft.version};
    struct mr_batch_builder          builder;
    mr_batch_begin(&builder, bytes, (uint32_t)size, 0, MR_BATCH_CONTROL);
    builder.batch.leader_epoch = checkpoint->epoch;
    bool is_added = mr_meta_control_add(&builder, log->last_append_ms, MR_META_CONTROL_SNAPSHOT_HEADER,
                                        &mr_msg_snapshot_header_record, &header);
    checkpoint->next_offset = 1;
    if (log->kraft.version > 0 && log->kraft.voters != NULL) {
        is_added = is_added &&
                   mr_meta_control_add(&builder, log->last_append_ms, MR_META_CONTROL_KRAFT_VERSION,
                                       &mr_msg_kraft_version_record, &version) &&
                   mr_meta_control_add_value(&builder, log->last_append_ms, MR_META_CONTROL_VOTERS,
                                             (struct mr_blob){.data = log->kraft.voters, .len = log->kraft.voters_len});
        checkpoint->next_offset = 3;
    }
    mr_assert(is_added);
    checkpoint->used += mr_batch_end(&builder);
    return true;
}

static bool put_footer(struct mr_control *control)
{
    struct mr_meta_checkpoint       *checkpoint = control->checkpoint;
    struct mr_snapshot_footer_record footer = {0};
    struct mr_batch_builder          builder;
    uint8_t                         *bytes = room(control, CONTROL_BYTES);
    if (bytes == NULL) {
        return false;
    }
    mr_batch_begin(&builder, bytes, CONTROL_BYTES, checkpoint->next_offset, MR_BATCH_CONTROL);
    builder.batch.leader_epoch = checkpoint->epoch;
    bool is_added = mr_meta_control_add(&builder, control->meta_log->last_append_ms, MR_META_CONTROL_SNAPSHOT_FOOTER,
                                        &mr_msg_snapshot_footer_record, &footer);
    mr_assert(is_added);
    checkpoint->used += mr_batch_end(&builder);
    return true;
}

/* One batch of data. *is_more: others follow. */
static bool put_slice(struct mr_control *control, bool *is_more)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    struct mr_meta_records     records;
    size_t                     size = 0;
    uint32_t                   len = 0;
    mr_meta_records_init(&records, &control->heap);
    *is_more = mr_meta_write(control->meta, &checkpoint->cursor, RECORDS_PER_TURN, &records);
    bool     is_good = !records.is_failed;
    uint8_t *batch = is_good && records.count > 0
                         ? mr_meta_records_batch(&records, checkpoint->next_offset, control->meta_log->last_append_ms,
                                                 checkpoint->epoch, &size, &len)
                         : NULL;
    uint8_t *bytes = batch == NULL ? NULL : room(control, len);
    is_good = is_good && (records.count == 0 || bytes != NULL);
    if (bytes != NULL) {
        memcpy(bytes, batch, len);
        checkpoint->used += len;
        checkpoint->next_offset += records.count;
    }
    mr_heap_free(&control->heap, batch, size);
    mr_meta_records_deinit(&records);
    return is_good;
}

/* ---- What is older goes ---- */

static void list_old(struct mr_control *control);

static void unlinked(struct mr_control *control, struct mr_now now, struct mr_meta_file *file, enum mr_err err)
{
    (void)now;
    if (err != MR_OK) {
        mr_log(control->log, MR_LOG_WARN, "an old checkpoint stays dir=%s name=%s why=%s", control->meta_log->path,
               file->name, mr_err_text(err));
        reset(control);
        return;
    }
    list_old(control);
}

/* A checkpoint before the one that is kept, or what a crash left of one. */
static bool is_old(const struct mr_meta_checkpoint *checkpoint, struct mr_str name)
{
    int64_t       offset = 0;
    int32_t       epoch = 0;
    struct mr_str stem = {.data = name.data, .len = name.len - 4};
    if (name.len > 4 && memcmp(name.data + stem.len, ".tmp", 4) == 0) {
        return mr_meta_snapshot_name_parse(stem, &offset, &epoch);
    }
    return mr_meta_snapshot_name_parse(name, &offset, &epoch) && offset < checkpoint->keep_offset;
}

static void listed(struct mr_control *control, struct mr_now now, struct mr_meta_file *file, enum mr_err err)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    char                       old[MR_META_FILE_NAME] = "";
    (void)now;
    for (size_t at = 0; err == MR_OK && at < file->len && old[0] == '\0';) {
        struct mr_str name;
        at = mr_meta_file_entry(file, at, &name);
        if (is_old(checkpoint, name)) {
            memcpy(old, name.data, (size_t)name.len);
            old[name.len] = '\0';
        }
    }
    if (old[0] == '\0' || control->phase != MR_PHASE_SERVING) {
        reset(control);
        return;
    }
    mr_meta_file_unlink(control, &checkpoint->file, control->meta_log->dir, old, unlinked);
}

static void list_old(struct mr_control *control)
{
    mr_meta_file_list(control, &control->checkpoint->file, control->meta_log->dir, listed);
}

struct trim_job {
    struct mr_control_op           callback;
    struct mr_delete_records_op    op;
    struct mr_delete_records_entry entry;
};

static void trimmed(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct trim_job *job = (struct trim_job *)(void *)callback;
    enum mr_err      err = job->op.op.err != MR_OK ? job->op.op.err : job->entry.err;
    (void)now;
    MR_HEAP_DELETE(&control->heap, job);
    if (err != MR_OK) {
        mr_log(control->log, MR_LOG_WARN, "the metadata log is not cut dir=%s at=%lld why=%s", control->meta_log->path,
               (long long)control->checkpoint->keep_offset, mr_err_text(err));
    }
    if (err != MR_OK || control->phase != MR_PHASE_SERVING) {
        reset(control); /* the next one tries again */
        return;
    }
    list_old(control);
}

/* The log begins where the checkpoint before this one ends. */
static void trim(struct mr_control *control)
{
    const struct mr_meta_log *log = control->meta_log;
    struct trim_job          *job = control->checkpoint->keep_offset > 0 ? MR_HEAP_NEW(&control->heap, struct trim_job) : NULL;
    if (job == NULL || control->phase != MR_PHASE_SERVING) {
        MR_HEAP_DELETE(&control->heap, job);
        reset(control);
        return;
    }
    job->callback.done = trimmed;
    job->entry = (struct mr_delete_records_entry){.log_id = log->log.log_id, .offset = control->checkpoint->keep_offset};
    job->op = (struct mr_delete_records_op){.op.kind = MR_STORAGE_DELETE_RECORDS, .entry_count = 1, .entries = &job->entry};
    mr_control_submit(control, log->log.storage_core, &job->op.op, &job->callback);
}

/* ---- The steps ---- */

static void stored(struct mr_control *control, struct mr_now now, struct mr_meta_file *file, enum mr_err err)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    struct mr_meta_log        *log = control->meta_log;
    if (err != MR_OK) {
        give_up(control, now, "it cannot be stored", err);
        return;
    }
    mr_log(control->log, MR_LOG_INFO, "checkpoint of the metadata name=%s bytes=%zu records=%lld", file->name, file->len,
           (long long)checkpoint->next_offset);
    checkpoint->keep_offset = log->snapshot_offset;
    log->snapshot_offset = checkpoint->end_offset;
    log->snapshot_epoch = checkpoint->epoch;
    trim(control);
}

static void store(struct mr_control *control)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    char                       name[64];
    mr_fmt(name, sizeof name, "%020lld-%010d" SUFFIX, (long long)checkpoint->end_offset, checkpoint->epoch);
    uint8_t *bytes = checkpoint->bytes;
    checkpoint->bytes = NULL; /* they are the file's now */
    checkpoint->step = MR_META_CHECKPOINT_STORING;
    control->meta_log->is_checkpointing = false;
    mr_meta_file_store_heap(control, &checkpoint->file, control->meta_log->dir, name, bytes, checkpoint->size,
                            checkpoint->used, stored);
}

static bool begin(struct mr_control *control)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    struct mr_meta_log        *log = control->meta_log;
    checkpoint->step = MR_META_CHECKPOINT_WRITING;
    checkpoint->cursor = (struct mr_meta_cursor){0};
    checkpoint->end_offset = log->next_offset;
    checkpoint->epoch = log->epoch;
    log->is_checkpointing = true;
    log->since_bytes = 0;
    return put_header(control);
}

bool mr_meta_checkpoint_turn(struct mr_control *control, struct mr_now now)
{
    struct mr_meta_checkpoint *checkpoint = control->checkpoint;
    bool                       is_more = false;
    if (control->phase != MR_PHASE_SERVING) {
        if (checkpoint->step == MR_META_CHECKPOINT_WRITING) {
            reset(control);
        }
        return false;
    }
    tell_refusal(control);
    if (checkpoint->step == MR_META_CHECKPOINT_IDLE &&
        (mr_meta_log_is_busy(control->meta_log) || now.mono_ns < due_ns(control))) {
        return false;
    }
    if (checkpoint->step == MR_META_CHECKPOINT_STORING) {
        return false;
    }
    bool is_good = (checkpoint->step == MR_META_CHECKPOINT_WRITING || begin(control)) && put_slice(control, &is_more) &&
                   (is_more || put_footer(control));
    if (!is_good) {
        give_up(control, now, "the state cannot be written", MR_ERR_NO_MEMORY);
    } else if (!is_more) {
        store(control);
    }
    return true;
}
