#include "metadata/meta_log.h"

#include "metadata/meta.h"
#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "millrace/kafka/messages.h"

#define READ_BYTES (1u << 20)
#define TOPIC      "__cluster_metadata"

/* Kafka's fixed id of the metadata topic: 1 in the least significant bits. */
static const struct mr_uuid topic_id = {.bytes = {[15] = 1}};

bool mr_meta_log_init(struct mr_control *control)
{
    struct mr_meta_log *log = MR_HEAP_NEW(&control->heap, struct mr_meta_log);
    if (log == NULL) {
        return false;
    }
    control->meta_log = log;
    log->dir = MR_DISK_NONE;
    log->saved_epoch = 0;
    mr_meta_records_init(&log->bootstrap, &control->heap);
    mr_fmt(log->path, sizeof log->path, "%s/" TOPIC "-0", control->log_dir);
    log->config = (struct mr_log_config){
        .segment_bytes = control->config->metadata_log_segment_bytes,
        .segment_ms = control->config->metadata_log_segment_ms,
        .segment_index_bytes = control->config->log_index_size_max_bytes,
        .index_interval_bytes = control->config->log_index_interval_bytes,
        .retention_ms = -1,
        .retention_bytes = -1,
        .is_cleanup_delete = true, /* by checkpoints alone */
        .file_delete_delay_ms = 60000,
        .max_message_bytes = 64 << 20,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .delete_retention_ms = 86400000,
        .max_compaction_lag_ms = INT64_MAX,
        .min_cleanable_dirty_ratio = 0.5,
        .min_insync_replicas = 1,
        .compression_type = -1,
    };
    return true;
}

/* ---- load ---- */

static void load_list(struct mr_control *control, struct mr_now now);
static void load_read(struct mr_control *control);

struct open_job {
    struct mr_control_op callback;
    struct mr_open_op    op;
};

struct configure_job {
    struct mr_control_op   callback;
    struct mr_configure_op op;
};

static void load_opened(struct mr_control *control, struct mr_now now,
                        struct mr_control_op *callback)
{
    struct mr_meta_log *log = control->meta_log;
    struct open_job    *job = (struct open_job *)(void *)callback;
    enum mr_err         err = job->op.op.err;
    log->log = (struct mr_log_ref){.log_id = job->op.log_id, .storage_core = 0};
    log->log_start = job->op.log_start_offset;
    log->load_end = job->op.log_end_offset;
    MR_HEAP_DELETE(&control->heap, job);
    if (err != MR_OK) {
        mr_control_fail(control, "cannot open the metadata log dir=%s why=%s", log->path,
                        mr_err_text(err));
        return;
    }
    load_list(control, now);
}

void mr_meta_log_load(struct mr_control *control, struct mr_now now, mr_meta_log_done *done)
{
    struct mr_meta_log *log = control->meta_log;
    struct open_job    *job = MR_HEAP_NEW(&control->heap, struct open_job);
    (void)now;
    log->done = done;
    log->is_loading = true;
    if (job == NULL) {
        mr_control_fail(control, "no memory to open the metadata log");
        return;
    }
    job->callback.done = load_opened;
    job->op = (struct mr_open_op){
        .op.kind = MR_STORAGE_OPEN,
        .topic = MR_STR(TOPIC),
        .topic_id = topic_id,
        .config = &log->config,
        .is_internal = true,
    };
    mr_control_submit(control, 0, &job->op.op, &job->callback);
}

static enum mr_err replay_record(void *user, int64_t offset, struct mr_blob value)
{
    struct mr_control *control = user;
    if (mr_bug("forget-configs") && value.len > 1 && value.data[1] == MR_KEY_config_record) {
        return MR_OK;
    }
    return mr_meta_replay(control->meta, offset, value);
}

static enum mr_err keep_bootstrap(void *user, int64_t offset, struct mr_blob value)
{
    struct mr_control *control = user;
    (void)offset;
    if (value.len <= 0) {
        return MR_ERR_INVALID_RECORD;
    }
    mr_meta_records_add_value(&control->meta_log->bootstrap, value);
    return control->meta_log->bootstrap.is_failed ? MR_ERR_NO_MEMORY : MR_OK;
}

/* Everything is read: the log's epochs and the state are known. */
static void load_end(struct mr_control *control, struct mr_now now)
{
    struct mr_meta_log *log = control->meta_log;
    log->next_offset = log->load_offset;
    log->is_loading = false;
    log->done(control, now);
}

static void load_read_done(struct mr_control *control, struct mr_now now, void *user,
                           const struct mr_control_read_result *result)
{
    struct mr_meta_log *log = control->meta_log;
    enum mr_err         err = result->err;
    int64_t             next = log->load_offset;
    (void)user;
    if (err == MR_OK && result->len == 0) {
        err = MR_ERR_TRUNCATED; /* the log said that it goes on */
    }
    if (err == MR_OK) {
        int64_t  voters_before = log->kraft.voters_len;
        uint8_t *voters = log->kraft.voters;
        err = mr_meta_snapshot_walk(&control->heap, result->bytes, result->len, log->load_offset,
                                    &log->kraft, &log->last_epoch, &next, replay_record, control);
        if (log->kraft.voters != voters || log->kraft.voters_len != voters_before) {
            log->kraft.is_in_log = true;
        }
    }
    if (err != MR_OK || next <= log->load_offset) {
        mr_control_fail(control,
                        "the metadata log cannot be read dir=%s offset=%lld after=%lld why=%s",
                        log->path, (long long)log->load_offset, (long long)control->meta->offset,
                        mr_err_text(err));
        return;
    }
    log->load_offset = next;
    log->since_bytes += result->len;
    if (log->load_offset < log->load_end) {
        load_read(control);
    } else {
        load_end(control, now);
    }
}

static void load_read(struct mr_control *control)
{
    struct mr_meta_log *log = control->meta_log;
    if (!mr_control_read(control, log->log, log->load_offset, READ_BYTES, load_read_done, NULL)) {
        mr_control_fail(control, "no memory to read the metadata log");
    }
}

static void load_log(struct mr_control *control, struct mr_now now)
{
    struct mr_meta_log *log = control->meta_log;
    log->load_offset =
        log->snapshot_offset > log->log_start ? log->snapshot_offset : log->log_start;
    if (log->log_start > log->snapshot_offset) {
        mr_control_fail(
            control,
            "the metadata log begins after its newest checkpoint dir=%s start=%lld checkpoint=%lld",
            log->path, (long long)log->log_start, (long long)log->snapshot_offset);
        return;
    }
    if (log->load_offset < log->load_end) {
        load_read(control);
    } else {
        load_end(control, now);
    }
}

/* ---- quorum-state ---- */

/* The number behind "key": in one-line JSON; false when it is not there. */
static bool json_number(const uint8_t *bytes, size_t len, const char *key, int64_t *number)
{
    size_t key_len = strlen(key);
    for (size_t at = 0; at + key_len + 3 <= len; at++) {
        if (bytes[at] != '"' || memcmp(bytes + at + 1, key, key_len) != 0 ||
            bytes[at + 1 + key_len] != '"') {
            continue;
        }
        size_t  next = at + key_len + 2;
        int64_t value = 0;
        bool    is_negative = false;
        bool    is_any = false;
        while (next < len && (bytes[next] == ':' || bytes[next] == ' ')) {
            next++;
        }
        if (next < len && bytes[next] == '-') {
            is_negative = true;
            next++;
        }
        for (; next < len && bytes[next] >= '0' && bytes[next] <= '9'; next++) {
            is_any = true;
            if (__builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, bytes[next] - '0', &value)) {
                return false;
            }
        }
        *number = is_negative ? -value : value;
        return is_any;
    }
    return false;
}

static void load_quorum_done(struct mr_control *control, struct mr_now now,
                             struct mr_meta_file *file, enum mr_err err)
{
    struct mr_meta_log *log = control->meta_log;
    int64_t             epoch = 0;
    if (err == MR_OK) {
        if (!json_number(file->bytes, file->len, "leaderEpoch", &epoch) || epoch < 0 ||
            epoch >= INT32_MAX) {
            mr_control_fail(control, "quorum-state is not readable dir=%s", log->path);
            return;
        }
        log->saved_epoch = (int32_t)epoch;
    } else if (err != MR_ERR_NOT_FOUND) {
        mr_control_fail(control, "cannot read quorum-state dir=%s why=%s", log->path,
                        mr_err_text(err));
        return;
    }
    load_log(control, now);
}

static void load_quorum(struct mr_control *control)
{
    struct mr_meta_log *log = control->meta_log;
    mr_meta_file_load(control, &log->file, log->dir, "quorum-state", load_quorum_done);
}

/* ---- bootstrap.checkpoint: where format of Kafka before 4.4 leaves the first records ---- */

static void load_bootstrap_done(struct mr_control *control, struct mr_now now,
                                struct mr_meta_file *file, enum mr_err err)
{
    struct mr_meta_kraft kraft = {0}; /* what it says of voters does not count */
    int64_t              next = 0;
    int32_t              epoch = 0;
    (void)now;
    if (err == MR_OK) {
        err = mr_meta_snapshot_walk(&control->heap, file->bytes, file->len, 0, &kraft, &epoch,
                                    &next, keep_bootstrap, control);
        if (err == MR_OK && !kraft.has_footer) {
            err = MR_ERR_TRUNCATED;
        }
        mr_heap_free(&control->heap, kraft.voters, (size_t)kraft.voters_len);
    }
    if (err != MR_OK && err != MR_ERR_NOT_FOUND) {
        mr_control_fail(control, "the bootstrap records cannot be read file=%s why=%s", file->name,
                        mr_err_text(err));
        return;
    }
    load_quorum(control);
}

static void load_bootstrap(struct mr_control *control)
{
    struct mr_meta_log *log = control->meta_log;
    char                path[MR_META_FILE_NAME];
    if (log->load_end > 0 || log->bootstrap.count > 0) {
        load_quorum(control);
        return;
    }
    mr_fmt(path, sizeof path, "%s/bootstrap.checkpoint", control->log_dir);
    mr_meta_file_load(control, &log->file, MR_DISK_ROOT, path, load_bootstrap_done);
}

/* ---- checkpoints ---- */

static void load_snapshot_done(struct mr_control *control, struct mr_now now,
                               struct mr_meta_file *file, enum mr_err err)
{
    struct mr_meta_log *log = control->meta_log;
    int64_t             next = 0;
    int32_t             epoch = 0; /* of batches inside a checkpoint: that of its name */
    (void)now;
    if (err == MR_OK) {
        log->kraft.has_footer = false;
        err = mr_meta_snapshot_walk(
            &control->heap, file->bytes, file->len, 0, &log->kraft, &epoch, &next,
            log->snapshot_offset == 0 ? keep_bootstrap : replay_record, control);
        if (err == MR_OK && !log->kraft.has_footer) {
            err = MR_ERR_TRUNCATED;
        }
    }
    if (err != MR_OK) {
        mr_control_fail(control, "a metadata checkpoint cannot be read file=%s/%s why=%s",
                        log->path, file->name, mr_err_text(err));
        return;
    }
    if (log->snapshot_offset > 0) {
        /* The records in it are numbered from 0; what they add up to is the state at its end. */
        control->meta->offset = log->snapshot_offset - 1;
        log->last_epoch = log->snapshot_epoch;
        log->kraft.is_in_log = true;
    }
    load_bootstrap(control);
}

/* Choose the newest checkpoint; a log that was just formatted has the one at offset 0. */
static void load_list_done(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                           enum mr_err err)
{
    struct mr_meta_log *log = control->meta_log;
    char                newest[64] = "";
    int64_t             newest_offset = -1;
    (void)now;
    if (err != MR_OK) {
        mr_control_fail(control, "cannot list the metadata log's directory dir=%s why=%s",
                        log->path, mr_err_text(err));
        return;
    }
    for (size_t at = 0; at < file->len;) {
        struct mr_str name;
        int64_t       offset = 0;
        int32_t       epoch = 0;
        at = mr_meta_file_entry(file, at, &name);
        if (mr_meta_snapshot_name_parse(name, &offset, &epoch) &&
            (offset > newest_offset || (offset == newest_offset && epoch > log->snapshot_epoch))) {
            newest_offset = offset;
            log->snapshot_epoch = epoch;
            memcpy(newest, name.data, (size_t)name.len);
            newest[name.len] = '\0';
        }
    }
    if (newest_offset < 0) {
        load_bootstrap(control);
        return;
    }
    log->snapshot_offset = newest_offset;
    mr_meta_file_load(control, &log->file, log->dir, newest, load_snapshot_done);
}

static void load_dir_done(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                          enum mr_err err)
{
    struct mr_meta_log *log = control->meta_log;
    (void)now;
    if (err != MR_OK) {
        mr_control_fail(control, "cannot open the metadata log's directory dir=%s why=%s",
                        log->path, mr_err_text(err));
        return;
    }
    log->dir = file->file;
    mr_meta_file_list(control, &log->file, log->dir, load_list_done);
}

static void load_list(struct mr_control *control, struct mr_now now)
{
    struct mr_meta_log *log = control->meta_log;
    (void)now;
    mr_meta_file_open_dir(control, &log->file, log->path, load_dir_done);
}

/* ---- batches ---- */

static void append_done(struct mr_control *control, struct mr_now now, void *user, enum mr_err err,
                        int64_t base_offset)
{
    struct mr_meta_log *log = control->meta_log;
    int64_t             expected = (int64_t)(uintptr_t)user;
    if (err != MR_OK || base_offset != expected) {
        /* The state has replayed what the log does not have: there is no way back, and the log stays busy, so that
         * nothing of it is published while open requests are answered. */
        mr_control_fail(control, "the metadata log cannot be written dir=%s offset=%lld why=%s",
                        log->path, (long long)expected, mr_err_text(err));
        return;
    }
    log->is_appending = false;
    log->done(control, now);
}

static void append(struct mr_control *control, const uint8_t *batch, uint32_t len,
                   uint32_t record_count, mr_meta_log_done *done)
{
    struct mr_meta_log *log = control->meta_log;
    int64_t             base_offset = log->next_offset;
    mr_assert(!mr_meta_log_is_busy(log));
    log->done = done;
    log->is_appending = true;
    log->next_offset += record_count;
    log->since_ns = log->since_bytes == 0 ? control->now.mono_ns : log->since_ns;
    log->since_bytes += len;
    log->last_append_ms = control->now.unix_ms;
    if (!mr_control_append(control, log->log, batch, len, log->epoch, MR_APPEND_CONTROLLER,
                           append_done, (void *)(uintptr_t)base_offset)) {
        mr_control_fail(control, "no memory to write the metadata log");
    }
}

bool mr_meta_log_replay(struct mr_control *control, const struct mr_meta_records *records,
                        struct mr_meta_mark from)
{
    struct mr_blob value;
    size_t         at = from.used;
    int64_t        offset = control->meta_log->next_offset + from.count;
    mr_assert(!mr_meta_log_is_busy(control->meta_log));
    control->work += records->used - from.used;
    while (mr_meta_records_next(records, &at, &value)) {
        enum mr_err err = mr_meta_replay(control->meta, offset++, value);
        if (err != MR_OK) {
            mr_control_fail(control,
                            "a metadata record of our own cannot be replayed offset=%lld why=%s",
                            (long long)offset - 1, mr_err_text(err));
            return false;
        }
    }
    return true;
}

void mr_meta_log_commit(struct mr_control *control, struct mr_now now,
                        struct mr_meta_records *records, mr_meta_log_done *done)
{
    struct mr_meta_log *log = control->meta_log;
    size_t              size = 0;
    uint32_t            len = 0;
    uint8_t            *batch =
        mr_meta_records_batch(records, log->next_offset, now.unix_ms, log->epoch, &size, &len);
    if (batch == NULL) {
        mr_control_fail(control, "no memory for a batch of metadata records=%u", records->count);
        return;
    }
    append(control, batch, len, records->count, done);
    mr_heap_free(&control->heap, batch, size);
}

/* ---- lead ---- */

/*
 * The first batch of an epoch: LEADER_CHANGE in schema version 0, as Kafka 4.4 writes it; behind it
 * the kraft version and the voters if they stand only in the checkpoint that format left.
 */
static void lead_first_batch(struct mr_control *control, struct mr_now now, mr_meta_log_done *done)
{
    struct mr_meta_log *log = control->meta_log;
    size_t              size = 1024 + (size_t)log->kraft.voters_len;
    uint8_t            *bytes = mr_heap_try(&control->heap, size);
    if (bytes == NULL) {
        mr_control_fail(control, "no memory for the first batch of an epoch");
        return;
    }
    struct mr_leader_change_message_voter voter = {.voter_id = control->node_id};
    struct mr_leader_change_message       change = {
              .leader_id = control->node_id,
              .voters = &voter,
              .voters_count = 1,
              .granting_voters = &voter,
              .granting_voters_count = 1,
    };
    struct mr_batch_builder builder;
    mr_batch_begin(&builder, bytes, (uint32_t)size, log->next_offset, MR_BATCH_CONTROL);
    builder.batch.leader_epoch = log->epoch;
    bool is_added = mr_meta_control_add(&builder, now.unix_ms, MR_META_CONTROL_LEADER_CHANGE,
                                        &mr_msg_leader_change_message, &change);
    uint32_t record_count = 1;
    if (log->kraft.version > 0 && log->kraft.voters != NULL && !log->kraft.is_in_log) {
        struct mr_kraft_version_record version = {.k_raft_version = log->kraft.version};
        is_added =
            is_added &&
            mr_meta_control_add(&builder, now.unix_ms, MR_META_CONTROL_KRAFT_VERSION,
                                &mr_msg_kraft_version_record, &version) &&
            mr_meta_control_add_value(
                &builder, now.unix_ms, MR_META_CONTROL_VOTERS,
                (struct mr_blob){.data = log->kraft.voters, .len = log->kraft.voters_len});
        log->kraft.is_in_log = true;
        record_count = 3;
    }
    mr_assert(is_added);
    append(control, bytes, mr_batch_end(&builder), record_count, done);
    mr_heap_free(&control->heap, bytes, size);
}

/* The metadata.version that the bootstrap records finalize; the newest when there are none. */
static int16_t bootstrap_version(const struct mr_meta_log *log)
{
    struct mr_blob value;
    size_t         at = 0;
    while (mr_meta_records_next(&log->bootstrap, &at, &value)) {
        struct mr_feature_level_record level;
        struct mr_reader               reader;
        struct mr_arena                arena;
        uint8_t                        scratch[256];
        uint32_t                       head[3] = {0};
        mr_arena_init(&arena, scratch, sizeof scratch);
        mr_reader_init_bytes(&reader, value.data, (uint32_t)value.len);
        bool is_good = mr_reader_uvarint(&reader, &head[0]) == MR_OK &&
                       mr_reader_uvarint(&reader, &head[1]) == MR_OK &&
                       mr_reader_uvarint(&reader, &head[2]) == MR_OK;
        if (is_good && head[1] == MR_KEY_feature_level_record &&
            mr_msg_decode(&mr_msg_feature_level_record, 0, &reader, &arena, &level) == MR_OK &&
            mr_str_equal(level.name, MR_STR("metadata.version"))) {
            return level.feature_level;
        }
    }
    return MR_META_VERSION_MAX;
}

static void activate_empty(struct mr_control *control, struct mr_meta_records *records)
{
    struct mr_meta_log                *log = control->meta_log;
    struct mr_feature_level_record     level = {.name = MR_STR("metadata.version"),
                                                .feature_level = MR_META_VERSION_MAX};
    struct mr_begin_transaction_record begin = {.name = MR_STR("Bootstrap records")};
    struct mr_end_transaction_record   end = {0};
    bool                               is_bracketed = bootstrap_version(log) >= MR_META_VERSION_TXN;
    struct mr_blob                     value;
    size_t                             at = 0;
    if (is_bracketed) {
        mr_meta_records_add(records, &mr_msg_begin_transaction_record, 0, &begin);
    }
    if (log->bootstrap.count == 0) {
        mr_meta_records_add(records, &mr_msg_feature_level_record, 0, &level);
    }
    while (mr_meta_records_next(&log->bootstrap, &at, &value)) {
        mr_meta_records_add_value(records, value);
    }
    if (is_bracketed) {
        mr_meta_records_add(records, &mr_msg_end_transaction_record, 0, &end);
    }
}

/* Records that make an empty log a cluster, or close what a crash left open (KIP-868). */
static void lead_activate(struct mr_control *control, struct mr_now now)
{
    struct mr_meta_log    *log = control->meta_log;
    struct mr_meta_records records;
    mr_meta_records_init(&records, &control->heap);
    if (control->meta->is_in_transaction) {
        struct mr_abort_transaction_record abort = {.reason = MR_STR("Controller failover")};
        mr_meta_records_add(&records, &mr_msg_abort_transaction_record, 0, &abort);
    }
    if (control->meta->metadata_version == 0) {
        activate_empty(control, &records);
    }
    mr_meta_records_deinit(&log->bootstrap);
    if (records.is_failed) {
        mr_control_fail(control, "no memory for the activation records");
    } else if (records.count > 0) {
        if (mr_meta_log_replay(control, &records, (struct mr_meta_mark){0})) {
            mr_meta_log_commit(control, now, &records, log->lead_done);
        }
    } else {
        log->lead_done(control, now);
    }
    mr_meta_records_deinit(&records);
}

static void lead_configured(struct mr_control *control, struct mr_now now,
                            struct mr_control_op *callback)
{
    struct configure_job *job = (struct configure_job *)(void *)callback;
    enum mr_err           err = job->op.op.err;
    MR_HEAP_DELETE(&control->heap, job);
    if (err != MR_OK) {
        mr_control_fail(control, "the metadata log does not take its new epoch dir=%s why=%s",
                        control->meta_log->path, mr_err_text(err));
        return;
    }
    lead_first_batch(control, now, lead_activate);
}

static void lead_stored(struct mr_control *control, struct mr_now now, struct mr_meta_file *file,
                        enum mr_err err)
{
    struct mr_meta_log   *log = control->meta_log;
    struct configure_job *job = MR_HEAP_NEW(&control->heap, struct configure_job);
    (void)now;
    if (err != MR_OK || job == NULL) {
        mr_control_fail(control, "cannot write quorum-state dir=%s errno=%d why=%s", log->path,
                        file->os_errno, mr_err_text(err));
        return;
    }
    job->callback.done = lead_configured;
    job->op = (struct mr_configure_op){
        .op.kind = MR_STORAGE_CONFIGURE,
        .log_id = log->log.log_id,
        .config = &log->config,
        .leader_epoch = log->epoch,
    };
    mr_control_submit(control, log->log.storage_core, &job->op.op, &job->callback);
}

/*
 * Our epoch is above every epoch that was saved or written, so that no batch of an older one can
 * pose as ours. quorum-state says so before the first batch is written.
 */
void mr_meta_log_lead(struct mr_control *control, struct mr_now now, mr_meta_log_done *done)
{
    struct mr_meta_log *log = control->meta_log;
    int16_t             version = log->kraft.version > 0 ? 1 : 0;
    char                line[512];
    struct mr_text      text;
    log->since_ns = now.mono_ns;
    log->lead_done = done;
    log->epoch = (log->saved_epoch > log->last_epoch ? log->saved_epoch : log->last_epoch) + 1;
    struct mr_quorum_state_data_voter voter = {.voter_id = control->node_id};
    struct mr_quorum_state_data       state;
    mr_msg_defaults(&mr_msg_quorum_state_data, &state);
    state.leader_id = control->node_id;
    state.leader_epoch = log->epoch;
    state.voted_id = version == 1 ? control->node_id : -1;
    if (version == 1) {
        state.voted_directory_id = control->directory_id;
    } else {
        state.cluster_id = MR_STR("");
        state.current_voters = &voter;
        state.current_voters_count = 1;
    }
    mr_text_init(&text, line, sizeof line);
    enum mr_err err = mr_msg_print(&mr_msg_quorum_state_data, version, &state, &text);
    mr_assert(err == MR_OK && text.len > 1 && text.at[text.len - 1] == '}');
    text.len--;
    mr_text_fmt(&text, ",\"data_version\":%d}", version);
    mr_assert(!text.is_cut);
    mr_meta_file_store(control, &log->file, log->dir, "quorum-state", line, text.len, lead_stored);
}
