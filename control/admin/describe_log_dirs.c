/*
 * describe_log_dirs: DescribeLogDirs: the log directory, its space, and the size of each log in it,
 * as the storage cores count it. One LOG_STAT goes to each core that has logs in question (to the
 * first one in any case, for the space); the last answer ends the request.
 *
 * Source: Apache Kafka 4.4: offset lag of a current log is max(high watermark - log end, 0); what
 * is not here is left out.
 */
#include "admin/admin.h"
#include "metadata/ctl_seen.h"
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
};

struct stat_state {
    struct mr_request *request;
    uint32_t           waiting;
    uint32_t           topic_count;
    topic_out         *topics;
    struct stat_place *places; /* of each partition, in the order of topics */
    struct stat_call  *calls;  /* one per storage core */
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

static void answer(struct mr_control *control, struct stat_state *state)
{
    const struct mr_log_stat_op         *first = &state->calls[0].op;
    result_out                           result;
    struct mr_describe_log_dirs_response out = {0};
    struct stat_place                   *place = state->places;
    MR_DEFAULTS(describe_log_dirs_response_describe_log_dirs_result, &result);
    result.log_dir = mr_str(control->log_dir);
    result.error_code = mr_err_kafka(first->op.err);
    if (first->op.err == MR_OK) {
        result.total_bytes = (int64_t)first->space_total_bytes;
        result.usable_bytes = (int64_t)first->space_free_bytes;
    }
    for (uint32_t index = 0; index < state->topic_count; index++) {
        topic_out *topic = &state->topics[index];
        int32_t    kept = 0;
        for (int32_t at = 0; at < topic->partitions_count; at++, place++) {
            const struct mr_log_stat_entry *entry =
                &state->calls[place->core].op.entries[place->entry];
            int64_t lag = entry->high_watermark - entry->log_end_offset;
            if (entry->err != MR_OK || state->calls[place->core].op.op.err != MR_OK) {
                continue; /* dropped meanwhile */
            }
            topic->partitions[kept++] = (partition_out){
                .partition_index = topic->partitions[at].partition_index,
                .partition_size = entry->size_bytes,
                .offset_lag = lag > 0 ? lag : 0,
            };
        }
        topic->partitions_count = kept;
    }
    result.topics = state->topics;
    result.topics_count = result.error_code == 0 ? (int32_t)state->topic_count : 0;
    out.results = &result;
    out.results_count = 1;
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

/* Count, then fill: the arrays are sized by what is here, not by what the request says. */
static bool collect(struct mr_control *control, struct stat_state *state)
{
    const struct mr_describe_log_dirs_request *in = state->request->message;
    struct mr_meta                            *meta = control->meta;
    uint32_t                                   counts[MR_CORES_MAX] = {0};
    size_t                                     partitions = 0;
    size_t                                     topics = 0;
    struct mr_ctl_seen                         wanted;
    if (!wanted_init(control, state->request, &wanted)) {
        return false;
    }
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        size_t before = partitions;
        for (uint32_t index = 0; index < topic->partition_count; index++) {
            const struct mr_meta_partition *partition = &topic->partitions[index];
            if (partition->log_state == MR_META_LOG_OPEN &&
                is_wanted(in, &wanted, topic->name, (int32_t)index)) {
                counts[partition->storage_core]++;
                partitions++;
            }
        }
        topics += partitions > before;
    }
    state->topics =
        MR_REQUEST_NEW(control, state->request, topic_out, topics + 1); /* one to look at */
    state->places = MR_REQUEST_NEW(control, state->request, struct stat_place, partitions);
    partition_out *outs = MR_REQUEST_NEW(control, state->request, partition_out, partitions);
    if (state->topics == NULL || state->places == NULL || outs == NULL) {
        return false;
    }
    for (uint32_t core = 0; core < control->endpoints->storage_count; core++) {
        state->calls[core].op.entries =
            MR_REQUEST_NEW(control, state->request, struct mr_log_stat_entry, counts[core]);
        if (state->calls[core].op.entries == NULL) {
            return false;
        }
    }
    struct stat_place *place = state->places;
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        topic_out *to = &state->topics[state->topic_count];
        to->partitions = outs;
        for (uint32_t index = 0; index < topic->partition_count; index++) {
            const struct mr_meta_partition *partition = &topic->partitions[index];
            if (partition->log_state != MR_META_LOG_OPEN ||
                !is_wanted(in, &wanted, topic->name, (int32_t)index)) {
                continue;
            }
            struct mr_log_stat_op *op = &state->calls[partition->storage_core].op;
            *place++ =
                (struct stat_place){.core = partition->storage_core, .entry = op->entry_count};
            op->entries[op->entry_count++].log_id = partition->log_id;
            outs->partition_index = (int32_t)index;
            outs++;
            to->partitions_count++;
        }
        if (to->partitions_count > 0) {
            to->name =
                mr_request_text(control, state->request, "%.*s", topic->name.len, topic->name.data);
            if (mr_str_is_null(to->name)) {
                return false;
            }
            state->topic_count++;
        }
    }
    return true;
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
    }
    if (state == NULL || state->calls == NULL || !collect(control, state)) {
        mr_control_reply_close(control, request);
        return;
    }
    for (uint32_t core = 0; core < cores; core++) {
        state->waiting += core == 0 || state->calls[core].op.entry_count > 0;
    }
    for (uint32_t core = 0; core < cores; core++) {
        struct stat_call *call = &state->calls[core];
        if (core == 0 || call->op.entry_count > 0) {
            call->op.op.kind = MR_STORAGE_LOG_STAT;
            call->callback = (struct mr_control_op){.done = stat_done, .user = state};
            mr_control_submit(control, core, &call->op.op, &call->callback);
        }
    }
}
