/*
 * describe_log_dirs: DescribeLogDirs: the log directories, their space, and the size of each log in them, as the
 * storage cores count it. One LOG_STAT goes to each core that has logs in question (to a directory's first one in any
 * case, for the space); the last answer ends the request. A directory that is offline answers KAFKA_STORAGE_ERROR.
 *
 * Source: Apache Kafka 4.4: offset lag of a current log is max(high watermark - log end, 0); what
 * is not here is left out.
 */
#include "admin/admin.h"
#include "metadata/ctl_seen.h"
#include "metadata/log_dirs.h"
#include "metadata/log_move.h"
#include "metadata/meta.h"
#include "millrace/kafka/messages.h"

typedef struct mr_describe_log_dirs_response_describe_log_dirs_partition partition_out;
typedef struct mr_describe_log_dirs_response_describe_log_dirs_topic     topic_out;
typedef struct mr_describe_log_dirs_response_describe_log_dirs_result    result_out;

struct stat_call {
    struct mr_control_op  callback; /* user: the state */
    struct mr_log_stat_op op;
};

struct stat_place {
    uint32_t core;
    uint32_t entry;
    uint32_t of_core; /* of a copy: its original */
    uint32_t of_entry;
    bool     is_copy;
};

struct stat_state {
    struct mr_request *request;
    uint32_t           waiting;
    result_out        *results; /* one per log directory */
    struct stat_place *places;  /* of each partition, in the order of directories and topics */
    struct stat_call  *calls;   /* one per storage core */
};

/* The partitions that the request names; all when it names no list. */
static bool wanted_init(struct mr_control *control, struct mr_request *request,
                        struct mr_ctl_seen *wanted)
{
    const struct mr_describe_log_dirs_request *in = request->message;
    uint64_t                                   room = 0;
    for (int32_t index = 0; index < in->topics_count; index++) {
        room +=
            (uint64_t)(in->topics[index].partitions_count > 0 ? in->topics[index].partitions_count
                                                              : 0);
    }
    if (!mr_ctl_seen_init(wanted, control, request, room)) {
        return false;
    }
    for (int32_t index = 0; index < in->topics_count; index++) {
        struct mr_str name = in->topics[index].topic;
        for (int32_t at = 0; at < in->topics[index].partitions_count; at++) {
            (void)mr_ctl_seen_add(wanted, in->topics[index].partitions[at], name.data, name.len, 0);
        }
    }
    return true;
}

static bool is_wanted(const struct mr_describe_log_dirs_request *in,
                      const struct mr_ctl_seen *wanted, struct mr_str name, int32_t partition)
{
    return in->topics_count < 0 || mr_ctl_seen_find(wanted, partition, name.data, name.len) != NULL;
}

/* NULL: it is not there any more. */
static const struct mr_log_stat_entry *counted(const struct stat_state *state, uint32_t core, uint32_t entry)
{
    const struct mr_log_stat_op *op = &state->calls[core].op;
    return op->op.err == MR_OK && op->entries[entry].err == MR_OK ? &op->entries[entry] : NULL;
}

/* A copy lags behind the end of its original, a log behind nothing. */
static int64_t lag_of(const struct stat_state *state, const struct stat_place *place,
                      const struct mr_log_stat_entry *entry)
{
    if (!place->is_copy) {
        int64_t lag = entry->high_watermark - entry->log_end_offset;
        return lag > 0 ? lag : 0;
    }
    const struct mr_log_stat_entry *original = counted(state, place->of_core, place->of_entry);
    int64_t lag = original == NULL ? 0 : original->log_end_offset - entry->log_end_offset;
    return lag > 0 ? lag : 0;
}

/* What the cores have counted, behind `*place`; what is not there any more goes out of the lists. */
static void fill(struct stat_state *state, result_out *result, const struct stat_place **place)
{
    for (int32_t index = 0; index < result->topics_count; index++) {
        topic_out *topic = &result->topics[index];
        int32_t    kept = 0;
        for (int32_t at = 0; at < topic->partitions_count; at++, (*place)++) {
            const struct mr_log_stat_entry *entry = counted(state, (*place)->core, (*place)->entry);
            if (entry == NULL) {
                continue;
            }
            topic->partitions[kept++] = (partition_out){
                .partition_index = topic->partitions[at].partition_index,
                .partition_size = entry->size_bytes,
                .offset_lag = lag_of(state, *place, entry),
                .is_future_key = (*place)->is_copy,
            };
        }
        topic->partitions_count = kept;
    }
}

static void answer(struct mr_control *control, struct stat_state *state)
{
    struct mr_describe_log_dirs_response out = {0};
    const struct stat_place             *place = state->places;
    uint32_t                             cores = mr_endpoint_dir_cores(control->endpoints);
    for (uint32_t dir = 0; dir < control->log_dirs->count; dir++) {
        result_out                  *result = &state->results[dir];
        const struct mr_log_stat_op *first = &state->calls[dir * cores].op;
        bool                         is_offline = control->log_dirs->dirs[dir].is_offline;
        fill(state, result, &place);
        result->error_code = mr_err_kafka(is_offline ? MR_ERR_DIR_OFFLINE : first->op.err);
        if (result->error_code == 0) {
            result->total_bytes = (int64_t)first->space_total_bytes;
            result->usable_bytes = (int64_t)first->space_free_bytes;
        } else {
            result->topics_count = 0;
        }
    }
    out.results = state->results;
    out.results_count = (int32_t)control->log_dirs->count;
    mr_control_reply(control, state->request, &out);
}

static void stat_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct stat_state *state = callback->user;
    (void)now;
    mr_assert(state->waiting > 0);
    if (--state->waiting == 0) {
        answer(control, state);
    }
}

struct collect {
    struct mr_control        *control;
    struct stat_state        *state;
    const struct mr_ctl_seen *wanted;
    uint32_t                  counts[MR_CORES_MAX]; /* logs that are asked of each storage core */
    size_t                    topics[MR_DIRS_MAX];  /* that have some in each directory */
    size_t                    partitions;
};

/* The partition's log in a directory, or its copy. False: neither, or nobody asks. */
static bool log_in(const struct collect *c, const struct mr_meta_topic *topic, uint32_t index, uint32_t dir,
                   struct mr_log_ref *log, bool *is_copy)
{
    const struct mr_meta_partition *partition = &topic->partitions[index];
    *log = (struct mr_log_ref){.log_id = partition->log_id, .storage_core = partition->storage_core};
    *is_copy = false;
    if (partition->log_state != MR_META_LOG_OPEN ||
        !is_wanted(c->state->request->message, c->wanted, topic->name, (int32_t)index)) {
        return false;
    }
    if (mr_endpoint_dir(c->control->endpoints, partition->storage_core) == dir) {
        return true;
    }
    *is_copy = mr_log_moves_copy(c->control, topic, index, dir, log);
    return *is_copy;
}

static void count_topic(struct collect *c, const struct mr_meta_topic *topic, uint32_t dir)
{
    size_t before = c->partitions;
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        struct mr_log_ref log;
        bool              is_copy = false;
        if (log_in(c, topic, index, dir, &log, &is_copy)) {
            c->counts[log.storage_core]++;
            c->counts[topic->partitions[index].storage_core] += is_copy;
            c->partitions++;
        }
    }
    c->topics[dir] += c->partitions > before;
}

static uint32_t stat_add(struct collect *c, struct mr_log_ref log)
{
    struct mr_log_stat_op *op = &c->state->calls[log.storage_core].op;
    op->entries[op->entry_count].log_id = log.log_id;
    return op->entry_count++;
}

/* The topic's partitions in one directory, at `*outs` and `*place`. False: no memory. */
static bool add_topic(struct collect *c, const struct mr_meta_topic *topic, uint32_t dir, partition_out **outs,
                      struct stat_place **place)
{
    result_out *result = &c->state->results[dir];
    topic_out  *to = &result->topics[result->topics_count];
    to->partitions = *outs;
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        struct mr_log_ref log;
        bool              is_copy = false;
        if (!log_in(c, topic, index, dir, &log, &is_copy)) {
            continue;
        }
        **place = (struct stat_place){.core = log.storage_core, .entry = stat_add(c, log), .is_copy = is_copy};
        if (is_copy) {
            struct mr_log_ref of = {.log_id = topic->partitions[index].log_id,
                                    .storage_core = topic->partitions[index].storage_core};
            (*place)->of_core = of.storage_core;
            (*place)->of_entry = stat_add(c, of);
        }
        (*place)++;
        (*outs)->partition_index = (int32_t)index;
        (*outs)++;
        to->partitions_count++;
    }
    if (to->partitions_count > 0) {
        to->name = mr_request_text(c->control, c->state->request, "%.*s", topic->name.len, topic->name.data);
        result->topics_count++;
    }
    return to->partitions_count == 0 || !mr_str_is_null(to->name);
}

static bool make_room(struct collect *c)
{
    struct mr_control *control = c->control;
    struct stat_state *state = c->state;
    for (uint32_t dir = 0; dir < control->log_dirs->count; dir++) {
        result_out *result = &state->results[dir];
        MR_DEFAULTS(describe_log_dirs_response_describe_log_dirs_result, result);
        result->log_dir = mr_str(control->log_dirs->dirs[dir].path);
        /* One more, to look at. */
        result->topics = MR_REQUEST_NEW(control, state->request, topic_out, c->topics[dir] + 1);
        if (result->topics == NULL) {
            return false;
        }
    }
    for (uint32_t core = 0; core < control->endpoints->storage_count; core++) {
        state->calls[core].op.entries =
            MR_REQUEST_NEW(control, state->request, struct mr_log_stat_entry, c->counts[core]);
        if (state->calls[core].op.entries == NULL) {
            return false;
        }
    }
    state->places = MR_REQUEST_NEW(control, state->request, struct stat_place, c->partitions);
    return state->places != NULL;
}

/* Count, then fill: the arrays are sized by what is here, not by what the request says. */
static bool collect(struct mr_control *control, struct stat_state *state)
{
    struct mr_meta    *meta = control->meta;
    struct mr_ctl_seen wanted;
    struct collect     c = {.control = control, .state = state, .wanted = &wanted};
    if (!wanted_init(control, state->request, &wanted)) {
        return false;
    }
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        for (uint32_t dir = 0; dir < control->log_dirs->count; dir++) {
            count_topic(&c, topic, dir);
        }
    }
    partition_out *outs = MR_REQUEST_NEW(control, state->request, partition_out, c.partitions);
    if (outs == NULL || !make_room(&c)) {
        return false;
    }
    struct stat_place *place = state->places;
    for (uint32_t dir = 0; dir < control->log_dirs->count; dir++) {
        for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
             topic = mr_meta_topic_walk(meta, topic)) {
            if (!add_topic(&c, topic, dir, &outs, &place)) {
                return false;
            }
        }
    }
    return true;
}

/* A directory's first core is asked in any case, for the space; not of one that is offline. */
static bool is_called(const struct mr_control *control, const struct stat_state *state, uint32_t core)
{
    uint32_t dir = mr_endpoint_dir(control->endpoints, core);
    bool     is_first = core % mr_endpoint_dir_cores(control->endpoints) == 0;
    return state->calls[core].op.entry_count > 0 || (is_first && !control->log_dirs->dirs[dir].is_offline);
}

void mr_admin_describe_log_dirs(struct mr_control *control, struct mr_now now,
                                struct mr_request *request)
{
    struct stat_state *state = MR_REQUEST_NEW(control, request, struct stat_state, 1);
    uint32_t           cores = control->endpoints->storage_count;
    (void)now;
    if (state != NULL) {
        state->request = request;
        state->calls = MR_REQUEST_NEW(control, request, struct stat_call, cores);
        state->results = MR_REQUEST_NEW(control, request, result_out, control->log_dirs->count);
    }
    if (state == NULL || state->calls == NULL || state->results == NULL || !collect(control, state)) {
        mr_control_reply_close(control, request);
        return;
    }
    for (uint32_t core = 0; core < cores; core++) {
        state->waiting += is_called(control, state, core);
    }
    for (uint32_t core = 0; core < cores; core++) {
        struct stat_call *call = &state->calls[core];
        if (is_called(control, state, core)) {
            call->op.op.kind = MR_STORAGE_LOG_STAT;
            call->callback = (struct mr_control_op){.done = stat_done, .user = state};
            mr_control_submit(control, core, &call->op.op, &call->callback);
        }
    }
}
