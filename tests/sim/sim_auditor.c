#include "sim_auditor.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"
#include "sim_client.h"

#define FETCH_BYTES (256u << 10)
#define SILENCE_NS  (5 * MR_NS_PER_S) /* several sessions and rebalances of any member, two checks of retention */

enum {
    COORDINATOR_LOADING = 14,
    CORRUPT_MESSAGE = 2,
    NO_LEADER = 5,
    NOT_LEADER = 6,
    STORAGE_ERROR = 56,
};

static struct mr_sim_auditor *auditor_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_auditor *)(void *)actor;
}

static void send_metadata(struct mr_sim_auditor *auditor, struct mr_now now)
{
    struct mr_metadata_request request;
    MR_DEFAULTS(metadata_request, &request);
    request.topics_count = -1; /* all */
    request.allow_auto_topic_creation = false;
    mr_sim_actor_send(&auditor->actor, MR_API_METADATA, 12, &request, 0, true, now);
}

static void send_start(struct mr_sim_auditor *auditor, const struct mr_check_log *log, struct mr_now now)
{
    struct mr_list_offsets_request                        request;
    struct mr_list_offsets_request_list_offsets_topic     topic;
    struct mr_list_offsets_request_list_offsets_partition partition;
    MR_DEFAULTS(list_offsets_request, &request);
    MR_DEFAULTS(list_offsets_request_list_offsets_topic, &topic);
    MR_DEFAULTS(list_offsets_request_list_offsets_partition, &partition);
    partition.partition_index = (int32_t)log->partition;
    partition.timestamp = -2; /* earliest */
    topic.name = mr_str(auditor->names[auditor->log_index]);
    topic.partitions = &partition;
    topic.partitions_count = 1;
    request.replica_id = -1;
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&auditor->actor, MR_API_LIST_OFFSETS, 7, &request, 0, true, now);
}

static void send_fetch(struct mr_sim_auditor *auditor, const struct mr_check_log *log, struct mr_now now)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     topic;
    struct mr_fetch_request_fetch_partition entry;
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    MR_DEFAULTS(fetch_request_fetch_partition, &entry);
    entry.partition = (int32_t)log->partition;
    entry.fetch_offset = auditor->offset;
    entry.partition_max_bytes = FETCH_BYTES;
    topic.topic_id = log->topic;
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&auditor->actor, MR_API_FETCH, 17, &request, 0, true, now);
}

static void send_describe(struct mr_sim_auditor *auditor, struct mr_now now)
{
    struct mr_describe_groups_request request;
    struct mr_str                     group = MR_STR("sim-group");
    MR_DEFAULTS(describe_groups_request, &request);
    request.groups = &group;
    request.groups_count = 1;
    mr_sim_actor_send(&auditor->actor, MR_API_DESCRIBE_GROUPS, 5, &request, 0, true, now);
}

/* Nobody has said anything for a while: the group must have put everybody out. */
static void take_group(struct mr_sim_auditor *auditor, const struct mr_describe_groups_response *response)
{
    bool is_whole = response->groups_count == 1;
    if (is_whole && response->groups[0].error_code == COORDINATOR_LOADING) {
        return;
    }
    if (!is_whole || response->groups[0].error_code != 0) {
        mr_sim_actor_refuse(&auditor->actor, "a group cannot be described in the calm",
                            is_whole ? response->groups[0].error_code : -1);
    } else if (response->groups[0].members_count > 0) {
        mr_sim_actor_refuse(&auditor->actor, "silent members are still in their group", response->groups[0].members_count);
    }
    auditor->is_group_seen = true;
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_auditor *auditor = auditor_of(actor);
    if (!auditor->is_begun || auditor->is_done || actor->call_count > 0) {
        return;
    }
    if (!auditor->is_silence_over) {
        auditor->is_silence_over = true;
        actor->wake_ns = now.mono_ns + SILENCE_NS;
        return;
    }
    if (auditor->has_group && !auditor->is_group_seen) {
        send_describe(auditor, now);
        return;
    }
    if (!auditor->has_topics) {
        send_metadata(auditor, now);
        return;
    }
    if (auditor->log_index == auditor->log_count) {
        auditor->is_done = true;
        return;
    }
    const struct mr_check_log *log = &auditor->check->logs[auditor->logs[auditor->log_index]];
    if (auditor->offset < 0) {
        send_start(auditor, log, now);
    } else {
        send_fetch(auditor, log, now);
    }
}

/* Topics of transactions have a reader of their own. */
static bool is_audited(struct mr_str name)
{
    return name.len >= 4 && memcmp(name.data, "sim-", 4) == 0;
}

static void take_metadata(struct mr_sim_auditor *auditor, const struct mr_metadata_response *response)
{
    auditor->log_count = 0;
    for (int32_t index = 0; index < response->topics_count; index++) {
        const struct mr_metadata_response_topic *topic = &response->topics[index];
        if (topic->is_internal || !is_audited(topic->name)) {
            continue;
        }
        if (topic->error_code != 0 || topic->name.len >= (int32_t)sizeof auditor->names[0]) {
            mr_sim_actor_refuse(&auditor->actor, "a topic with an error in the calm", topic->error_code);
            return;
        }
        for (int32_t partition = 0; partition < topic->partitions_count; partition++) {
            uint32_t log = mr_check_acked_log(auditor->check, &topic->topic_id, (uint32_t)partition);
            if (log != MR_CHECK_NO_LOG && mr_str_equal(topic->name, mr_sim_topics[MR_SIM_RETAINED])) {
                mr_check_acked_retention(auditor->check, log, MR_SIM_RETENTION_BYTES);
            }
            if (log != MR_CHECK_NO_LOG) {
                memcpy(auditor->names[auditor->log_count], topic->name.data, (size_t)topic->name.len);
                auditor->names[auditor->log_count][topic->name.len] = '\0';
                auditor->logs[auditor->log_count++] = log;
            }
        }
    }
    auditor->has_topics = true;
    auditor->log_index = 0;
    auditor->offset = -1;
}

static void log_done(struct mr_sim_auditor *auditor, uint32_t log)
{
    mr_check_acked_final(auditor->check, log);
    auditor->log_index++;
    auditor->offset = -1;
}

static bool is_damage(int16_t error)
{
    return error == CORRUPT_MESSAGE || error == STORAGE_ERROR || error == NOT_LEADER || error == NO_LEADER;
}

static void take_start(struct mr_sim_auditor *auditor, const struct mr_list_offsets_response *response)
{
    uint32_t log = auditor->logs[auditor->log_index];
    bool     is_whole = response->topics_count == 1 && response->topics[0].partitions_count == 1;
    int16_t  error = is_whole ? response->topics[0].partitions[0].error_code : -1;
    if (is_damage(error) && mr_check_acked_is_damaged(auditor->check, log)) {
        mr_check_acked_damage(auditor->check, log, 0, INT64_MAX); /* all of it is refused */
        log_done(auditor, log);
    } else if (error != 0) {
        mr_sim_actor_refuse(&auditor->actor, "no start of a log in the calm", error);
    } else {
        auditor->offset = response->topics[0].partitions[0].offset;
        mr_check_acked_start(auditor->check, log, auditor->offset);
    }
}

/* Some records cannot be read: they are spoiled, and reading goes on behind them. */
static void pass_damage(struct mr_sim_auditor *auditor, uint32_t log, int16_t error)
{
    const struct mr_check_log *it = &auditor->check->logs[log];
    int64_t                    end = mr_check_acked_error(auditor->check, log, auditor->offset, error);
    if (end >= it->watermark && end >= it->acked_end) {
        log_done(auditor, log);
    } else if (end >= 0) {
        auditor->offset = end;
    }
}

static void take_fetch(struct mr_sim_auditor *auditor, const struct mr_fetch_response *response,
                       struct mr_arena *arena)
{
    if (response->error_code != 0 || response->responses_count != 1 ||
        response->responses[0].partitions_count != 1) {
        mr_sim_actor_refuse(&auditor->actor, "a log cannot be read in the calm", response->error_code);
        return;
    }
    const struct mr_fetch_response_partition_data *data = &response->responses[0].partitions[0];
    uint32_t log = auditor->logs[auditor->log_index];
    int64_t  start = auditor->check->logs[log].start_done;
    int64_t  before = auditor->offset;
    if (is_damage(data->error_code)) {
        pass_damage(auditor, log, data->error_code);
        return;
    }
    if (data->error_code != 0) {
        mr_sim_actor_refuse(&auditor->actor, "a log cannot be read in the calm", data->error_code);
        return;
    }
    mr_check_acked_watermark(auditor->check, log, auditor->check->logs[log].watermark, data->high_watermark);
    if (!mr_sim_client_take_records(&auditor->actor, auditor->check, log, data, start, &auditor->offset, true, arena)) {
        return;
    }
    auditor->records += (uint64_t)(auditor->offset - before);
    if (auditor->offset == data->high_watermark) {
        log_done(auditor, log);
    } else if (auditor->offset == before) {
        mr_sim_actor_refuse(&auditor->actor, "nothing delivered below the high watermark", before);
    }
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_auditor *auditor = auditor_of(actor);
    (void)now;
    switch (call->key) {
    case MR_API_METADATA:
        take_metadata(auditor, response);
        break;
    case MR_API_LIST_OFFSETS:
        take_start(auditor, response);
        break;
    case MR_API_DESCRIBE_GROUPS:
        take_group(auditor, response);
        break;
    default:
        mr_assert(call->key == MR_API_FETCH);
        take_fetch(auditor, response, arena);
        break;
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    (void)actor;
    return true; /* it begins when the others are */
}

void mr_sim_auditor_init(struct mr_sim_auditor *auditor, struct mr_arena *arena, struct mr_check_acked *check,
                         uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "auditor", .turn = turn, .answer = answer, .is_idle = is_idle};
    *auditor = (struct mr_sim_auditor){.check = check};
    mr_sim_actor_init(&auditor->actor, &ops, arena, seed);
}
