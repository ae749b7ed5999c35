#include "sim_follower.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#define WAIT_MS     700 /* less than every wire's patience */
#define SLACK_NS    (300 * MR_NS_PER_MS)
#define FETCH_BYTES (256 << 10)
#define POLLS_MAX   50u /* then the topic may have more partitions */

static struct mr_sim_follower *follower_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_follower *)(void *)actor;
}

/* The session begins anew: everything is told. */
static void session_end(struct mr_sim_follower *f)
{
    f->session = 0;
    f->epoch = 0;
    for (uint32_t index = 0; index < MR_SIM_PARTITIONS; index++) {
        f->told[index] = -1;
        f->behind_ns[index] = 0;
    }
}

/* ---- Time ---- */

/* A Fetch is open: since when has there been a record that it should have brought, and is that too long? */
static void judge(struct mr_sim_follower *f, struct mr_now now)
{
    for (uint32_t index = 0; index < f->partitions; index++) {
        const struct mr_check_log *log = &f->check->logs[f->logs[index]];
        bool is_behind = f->is_strict && f->offsets[index] < log->acked_end && log->damage_count == 0;
        if (!is_behind) {
            f->behind_ns[index] = 0;
        } else if (f->behind_ns[index] == 0) {
            f->behind_ns[index] = now.mono_ns;
        } else if (now.mono_ns - f->behind_ns[index] > SLACK_NS) {
            mr_sim_actor_refuse(&f->actor, "who waits for records is not told in time; partition", index);
        }
    }
}

/* ---- Sending ---- */

static void send_metadata(struct mr_sim_follower *f, struct mr_now now)
{
    struct mr_metadata_request       request;
    struct mr_metadata_request_topic topic;
    MR_DEFAULTS(metadata_request, &request);
    MR_DEFAULTS(metadata_request_topic, &topic);
    topic.name = mr_sim_topics[0];
    request.topics = &topic;
    request.topics_count = 1;
    request.allow_auto_topic_creation = false;
    mr_sim_actor_send(&f->actor, MR_API_METADATA, 12, &request, 0, true, now);
}

/* Only what the session does not know yet. */
static void send_fetch(struct mr_sim_follower *f, struct mr_now now)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     topic;
    struct mr_fetch_request_fetch_partition entries[MR_SIM_PARTITIONS];
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    topic.topic_id = f->topic;
    topic.partitions = entries;
    for (uint32_t index = 0; index < f->partitions; index++) {
        f->starts[index] = f->check->logs[f->logs[index]].start_done;
        if (f->told[index] == f->offsets[index]) {
            continue;
        }
        struct mr_fetch_request_fetch_partition *entry = &entries[topic.partitions_count++];
        MR_DEFAULTS(fetch_request_fetch_partition, entry);
        entry->partition = (int32_t)index;
        entry->fetch_offset = f->offsets[index];
        entry->partition_max_bytes = FETCH_BYTES;
        f->told[index] = f->offsets[index];
    }
    request.session_id = f->session;
    request.session_epoch = f->epoch;
    request.max_wait_ms = WAIT_MS;
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.topics = &topic;
    request.topics_count = topic.partitions_count > 0 ? 1 : 0;
    mr_sim_actor_send(&f->actor, MR_API_FETCH, 17, &request, 0, true, now);
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_follower *f = follower_of(actor);
    if (actor->call_count > 0) {
        if (mr_sim_actor_waiting(actor, MR_API_FETCH) > 0) {
            judge(f, now);
        }
        return;
    }
    if (actor->is_quiet) {
        return;
    }
    if (f->partitions == 0 || f->polls >= POLLS_MAX) {
        send_metadata(f, now);
    } else {
        f->polls++;
        send_fetch(f, now);
    }
}

/* ---- Answers ---- */

static void take_metadata(struct mr_sim_follower *f, const struct mr_metadata_response *response, struct mr_now now)
{
    const struct mr_metadata_response_topic *topic = &response->topics[0];
    f->polls = 0;
    if (response->topics_count != 1 || topic->error_code != 0) {
        mr_sim_actor_rest(&f->actor, now, 40 * MR_NS_PER_MS); /* nobody has made it yet */
        return;
    }
    f->topic = topic->topic_id;
    for (; f->partitions < (uint32_t)topic->partitions_count && f->partitions < MR_SIM_PARTITIONS; f->partitions++) {
        f->logs[f->partitions] = mr_check_acked_log(f->check, &f->topic, f->partitions);
        if (f->logs[f->partitions] == MR_CHECK_NO_LOG) {
            return;
        }
        f->offsets[f->partitions] = f->check->logs[f->logs[f->partitions]].start_asked;
    }
}

static void take_partition(struct mr_sim_follower *f, const struct mr_fetch_response_partition_data *data,
                           struct mr_arena *arena, struct mr_now now)
{
    uint32_t                   index = (uint32_t)data->partition_index;
    const struct mr_check_log *log = &f->check->logs[f->logs[index]];
    int64_t                   *offset = &f->offsets[index];
    if (data->error_code == 0) {
        (void)mr_sim_client_take_records(&f->actor, f->check, f->logs[index], data, f->starts[index], offset, false, arena);
        f->behind_ns[index] = 0;
        return;
    }
    f->told[index] = -1;
    if (data->error_code == MR_KAFKA_OFFSET_OUT_OF_RANGE && *offset < log->start_asked) {
        *offset = log->start_asked; /* DeleteRecords may have come this far */
    } else if (log->damage_count > 0) {
        *offset = log->watermark; /* spoiled: go on behind it */
    } else if (!mr_errors_is_retriable(data->error_code)) {
        mr_sim_actor_refuse(&f->actor, "a follower's Fetch failed for good", data->error_code);
    }
    mr_sim_actor_rest(&f->actor, now, 40 * MR_NS_PER_MS);
}

static void take_fetch(struct mr_sim_follower *f, const struct mr_fetch_response *response, struct mr_arena *arena,
                       struct mr_now now)
{
    judge(f, now);
    if (response->error_code != 0) {
        session_end(f);
        mr_sim_actor_rest(&f->actor, now, 40 * MR_NS_PER_MS);
        return;
    }
    f->session = response->session_id;
    f->epoch = f->session == 0 ? 0 : f->epoch + 1;
    for (int32_t at = 0; at < response->responses_count; at++) {
        const struct mr_fetch_response_fetchable_topic_response *topic = &response->responses[at];
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            if ((uint32_t)topic->partitions[index].partition_index >= f->partitions) {
                mr_sim_actor_refuse(&f->actor, "a session answers for a partition that it does not have",
                                    topic->partitions[index].partition_index);
                return;
            }
            take_partition(f, &topic->partitions[index], arena, now);
        }
    }
    if (f->session == 0) {
        session_end(f); /* there was no room for one */
    }
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    if (call->key == MR_API_METADATA) {
        take_metadata(follower_of(actor), response, now);
    } else {
        take_fetch(follower_of(actor), response, arena, now);
    }
}

static void lost(struct mr_sim_actor *actor, const struct mr_sim_call *call)
{
    (void)call;
    session_end(follower_of(actor));
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return actor->call_count == 0;
}

void mr_sim_follower_init(struct mr_sim_follower *f, struct mr_arena *arena, struct mr_check_acked *check, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "follower", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    *f = (struct mr_sim_follower){.check = check};
    session_end(f);
    mr_sim_actor_init(&f->actor, &ops, arena, seed);
}
