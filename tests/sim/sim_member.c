#include "sim_member.h"

#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_client.h"

#define GROUP              MR_STR("sim-group")
#define SESSION_TIMEOUT_MS 400
#define ASSIGNMENT_BYTES   8 /* generation, mask */

enum {
    ILLEGAL_GENERATION = 22,
    UNKNOWN_MEMBER_ID = 25,
    REBALANCE_IN_PROGRESS = 27,
    FENCED_INSTANCE_ID = 82,
    MEMBER_ID_REQUIRED = 79,
};

static struct mr_sim_member *member_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_member *)(void *)actor;
}

static uint64_t draw(struct mr_sim_member *member, uint64_t bound)
{
    return mr_prng_below(&member->actor.prng, bound);
}

static struct mr_str instance_of(const struct mr_sim_member *member)
{
    return member->instance[0] == '\0' ? MR_STR_NULL : mr_str(member->instance);
}

/* The process is gone, and another one has its instance id. */
static void restart(struct mr_sim_member *member)
{
    mr_sim_ask_keep(member->former, mr_str(member->id));
    member->former_error = 0;
    member->id[0] = '\0';
    member->owned = 0;
    member->phase = MR_SIM_MEMBER_OUT;
}

/* ---- Sending ---- */

static struct mr_sim_ask_member itself(const struct mr_sim_member *member)
{
    return (struct mr_sim_ask_member){.group = GROUP,
                                      .id = mr_str(member->id),
                                      .instance = instance_of(member),
                                      .generation = member->generation};
}

static void send_join(struct mr_sim_member *member, struct mr_now now)
{
    const struct mr_sim_ask_member who = itself(member);
    const struct mr_sim_ask_terms  terms = {.session_ms = SESSION_TIMEOUT_MS,
                                            .rebalance_ms = SESSION_TIMEOUT_MS,
                                            .type = MR_STR("sim"),
                                            .protocol = MR_STR("one-each"),
                                            .metadata = {.data = (const uint8_t *)"m", .len = 1}};
    mr_sim_ask_join(&member->actor, &who, &terms, now);
}

/* The leader deals the partitions out; the others send nothing. */
static void send_sync(struct mr_sim_member *member, struct mr_now now)
{
    struct mr_sync_group_request            request;
    struct mr_sync_group_request_assignment assignments[MR_SIM_MEMBERS_MAX];
    uint8_t                                 bytes[MR_SIM_MEMBERS_MAX][ASSIGNMENT_BYTES];
    uint32_t                                count = member->is_leader ? member->member_count : 0;
    MR_DEFAULTS(sync_group_request, &request);
    for (uint32_t index = 0; index < count; index++) {
        mr_store_be32(bytes[index], (uint32_t)member->generation);
        mr_store_be32(bytes[index] + 4, mr_sim_ask_share(index, count, MR_CHECK_GROUP_PARTITIONS));
        MR_DEFAULTS(sync_group_request_assignment, &assignments[index]);
        assignments[index].member_id = mr_str(member->members[index]);
        assignments[index].assignment = (struct mr_blob){.data = bytes[index], .len = ASSIGNMENT_BYTES};
    }
    request.group_id = GROUP;
    request.generation_id = member->generation;
    request.member_id = mr_str(member->id);
    request.group_instance_id = instance_of(member);
    request.protocol_type = MR_STR("sim");
    request.protocol_name = MR_STR("one-each");
    request.assignments = assignments;
    request.assignments_count = (int32_t)count;
    mr_sim_actor_send(&member->actor, MR_API_SYNC_GROUP, 5, &request, 0, true, now);
}

static void send_heartbeat(struct mr_sim_member *member, bool is_former, struct mr_now now)
{
    struct mr_sim_ask_member who = itself(member);
    who.id = is_former ? mr_str(member->former) : who.id;
    mr_sim_ask_heartbeat(&member->actor, &who, is_former, now);
}

static void send_leave(struct mr_sim_member *member, struct mr_now now)
{
    const struct mr_sim_ask_member who = itself(member);
    mr_sim_ask_leave(&member->actor, &who, now);
}

/* A commit's offset: one of its own, and not larger than the one before. The same again gives the commit. */
static int64_t offset_of(int64_t commit)
{
    return commit ^ (MR_CHECK_GROUP_COMMITS - 1);
}

static const char *metadata_of(int64_t offset, char text[32])
{
    mr_fmt(text, 32, "at-%lld", (long long)offset);
    return text;
}

static void send_commit(struct mr_sim_member *member, uint32_t partition, struct mr_now now)
{
    struct mr_offset_commit_request           request;
    struct mr_offset_commit_request_topic     topic;
    struct mr_offset_commit_request_partition entry;
    char                                      text[32];
    uint32_t commit = mr_check_group_commit(member->check, member->generation, partition);
    if (commit == UINT32_MAX) {
        return;
    }
    MR_DEFAULTS(offset_commit_request, &request);
    MR_DEFAULTS(offset_commit_request_topic, &topic);
    MR_DEFAULTS(offset_commit_request_partition, &entry);
    entry.partition_index = (int32_t)partition;
    entry.committed_offset = offset_of(commit);
    entry.committed_metadata = mr_str(metadata_of(entry.committed_offset, text));
    topic.name = mr_sim_topics[0];
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.group_id = GROUP;
    request.generation_id_or_member_epoch = member->generation;
    request.member_id = mr_str(member->id);
    request.group_instance_id = instance_of(member);
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&member->actor, MR_API_OFFSET_COMMIT, 9, &request, commit, true, now);
}

void mr_sim_member_read(struct mr_sim_actor *actor, struct mr_str group_id, struct mr_now now)
{
    const struct mr_sim_ask_offsets ask = {
        .group = group_id, .topic = mr_sim_topics[0], .partitions = MR_CHECK_GROUP_PARTITIONS, .version = 9};
    mr_sim_ask_offsets(actor, &ask, now);
}

static void send_read(struct mr_sim_member *member, struct mr_now now)
{
    member->read_at = mr_check_group_read(member->check);
    mr_sim_member_read(&member->actor, GROUP, now);
}

/* What a stable member does next. */
static void go_on(struct mr_sim_member *member, struct mr_now now)
{
    uint64_t way = draw(member, 64);
    if (way == 0) {
        mr_sim_actor_rest(&member->actor, now, 2000 * MR_NS_PER_MS); /* silent, maybe for too long */
        return;
    }
    if (way == 2 && member->instance[0] != '\0') {
        restart(member);
        return;
    }
    if (way == 1) {
        send_leave(member, now);
    } else if (way < 30 && member->owned != 0) {
        uint32_t partition = (uint32_t)draw(member, MR_CHECK_GROUP_PARTITIONS);
        while ((member->owned >> partition & 1u) == 0) {
            partition = (partition + 1) % MR_CHECK_GROUP_PARTITIONS;
        }
        send_commit(member, partition, now);
    } else if (way < 34) {
        send_read(member, now);
    } else {
        send_heartbeat(member, member->former[0] != '\0' && member->former_error == 0, now);
    }
    mr_sim_actor_rest(&member->actor, now, 60 * MR_NS_PER_MS);
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_member *member = member_of(actor);
    if (actor->call_count > 0) {
        return;
    }
    if (!member->is_coordinator_known) {
        mr_sim_ask_coordinator(&member->actor, GROUP, 0, now);
        return;
    }
    if (actor->is_quiet && member->phase != MR_SIM_MEMBER_DONE) {
        member->phase = MR_SIM_MEMBER_AUDIT;
    }
    switch (member->phase) {
    case MR_SIM_MEMBER_OUT:
        send_join(member, now);
        break;
    case MR_SIM_MEMBER_JOINED:
        send_sync(member, now);
        break;
    case MR_SIM_MEMBER_STABLE:
        go_on(member, now);
        break;
    case MR_SIM_MEMBER_AUDIT:
        send_read(member, now);
        break;
    case MR_SIM_MEMBER_DONE:
        break;
    }
}

/* ---- Answers ---- */

/* What every group request may be told. */
static void take_error(struct mr_sim_member *member, int16_t error, const char *what, struct mr_now now)
{
    member->phase = MR_SIM_MEMBER_OUT;
    member->owned = 0;
    member->former_error = 0; /* it may have been out when its former life asked */
    if (error == UNKNOWN_MEMBER_ID || (error == FENCED_INSTANCE_ID && member->instance[0] != '\0')) {
        member->id[0] = '\0'; /* fenced: by a JoinGroup of its own, whose answer was lost */
    } else if (error != ILLEGAL_GENERATION && error != REBALANCE_IN_PROGRESS) {
        if (!mr_errors_is_retriable(error)) {
            mr_sim_actor_refuse(&member->actor, what, error);
        }
        mr_sim_actor_rest(&member->actor, now, 20 * MR_NS_PER_MS);
    }
}

static void take_found(struct mr_sim_member *member, const struct mr_find_coordinator_response *response,
                       struct mr_now now)
{
    member->is_coordinator_known = response->error_code == 0;
    if (response->error_code != 0) {
        if (!mr_errors_is_retriable(response->error_code)) {
            mr_sim_actor_refuse(&member->actor, "FindCoordinator failed for good", response->error_code);
        }
        mr_sim_actor_rest(&member->actor, now, 20 * MR_NS_PER_MS);
    }
}

static void take_join(struct mr_sim_member *member, const struct mr_join_group_response *response,
                      struct mr_now now)
{
    if (response->error_code == MEMBER_ID_REQUIRED) {
        mr_sim_ask_keep(member->id, response->member_id);
        return;
    }
    if (response->error_code != 0) {
        take_error(member, response->error_code, "JoinGroup failed for good", now);
        return;
    }
    mr_sim_ask_keep(member->id, response->member_id);
    member->generation = response->generation_id;
    member->is_leader = mr_str_equal(response->leader, response->member_id);
    member->member_count = 0;
    for (int32_t index = 0; index < response->members_count; index++) {
        if (index == (int32_t)MR_SIM_MEMBERS_MAX) {
            break; /* the rest has nothing: there are fewer partitions than members */
        }
        mr_sim_ask_keep(member->members[member->member_count++], response->members[index].member_id);
    }
    if (member->is_leader && member->member_count == 0) {
        mr_sim_actor_refuse(&member->actor, "a leader was not told the members", response->generation_id);
    }
    member->joins++;
    member->phase = MR_SIM_MEMBER_JOINED;
}

static void take_sync(struct mr_sim_member *member, const struct mr_sync_group_response *response,
                      struct mr_now now)
{
    if (response->error_code != 0) {
        take_error(member, response->error_code, "SyncGroup failed for good", now);
        return;
    }
    int32_t made_for = -1;
    member->owned = 0;
    if (response->assignment.len == ASSIGNMENT_BYTES) {
        made_for = (int32_t)mr_load_be32(response->assignment.data);
        member->owned = mr_load_be32(response->assignment.data + 4);
    } else if (response->assignment.len > 0) {
        mr_sim_actor_refuse(&member->actor, "an assignment that nobody made", response->assignment.len);
    }
    mr_check_group_assigned(member->check, member->generation, member->number, member->owned, made_for);
    member->phase = MR_SIM_MEMBER_STABLE;
}

/* Who commits had its instance id since it joined: when its former life was asked after, too, it had to be fenced. */
static void check_fence(struct mr_sim_member *member)
{
    if (member->former_error == 0) {
        return;
    }
    if (member->former_error != FENCED_INSTANCE_ID) {
        mr_sim_actor_refuse(&member->actor, "who was replaced is not fenced", member->former_error);
    }
    member->former[0] = '\0';
    member->former_error = 0;
}

static void take_commit(struct mr_sim_member *member, const struct mr_sim_call *call,
                        const struct mr_offset_commit_response *response, struct mr_now now)
{
    if (response->topics_count != 1 || response->topics[0].partitions_count != 1) {
        mr_sim_actor_refuse(&member->actor, "OffsetCommit answered for something else", response->topics_count);
        return;
    }
    int16_t error = response->topics[0].partitions[0].error_code;
    if (error == 0) {
        mr_check_group_acked(member->check, (uint32_t)call->user);
        check_fence(member);
        member->commits++;
        return;
    }
    if (error == ILLEGAL_GENERATION || error == UNKNOWN_MEMBER_ID || error == FENCED_INSTANCE_ID) {
        mr_check_group_refused(member->check, (uint32_t)call->user);
    }
    if (error != REBALANCE_IN_PROGRESS) { /* which a heartbeat will say too */
        take_error(member, error, "OffsetCommit failed for good", now);
    }
}

static void take_read(struct mr_sim_member *member, const struct mr_offset_fetch_response *response,
                      struct mr_now now)
{
    if (response->groups_count != 1 || response->groups[0].error_code != 0) {
        int16_t error = response->groups_count == 1 ? response->groups[0].error_code : -1;
        if (!mr_errors_is_retriable(error)) {
            mr_sim_actor_refuse(&member->actor, "OffsetFetch failed for good", error);
        }
        mr_sim_actor_rest(&member->actor, now, 20 * MR_NS_PER_MS);
        return;
    }
    const struct mr_offset_fetch_response_group *group = &response->groups[0];
    if (group->topics_count != 1 || group->topics[0].partitions_count != (int32_t)MR_CHECK_GROUP_PARTITIONS) {
        mr_sim_actor_refuse(&member->actor, "OffsetFetch answered for something else", group->topics_count);
        return;
    }
    for (uint32_t index = 0; index < MR_CHECK_GROUP_PARTITIONS; index++) {
        const struct mr_offset_fetch_response_partitions *partition = &group->topics[0].partitions[index];
        if (partition->error_code == 0) {
            char    text[32];
            int64_t offset = partition->committed_offset;
            if (offset >= 0 && !mr_str_equal(partition->metadata, mr_str(metadata_of(offset, text)))) {
                mr_sim_actor_refuse(&member->actor, "a committed offset without its metadata", offset);
            }
            mr_check_group_seen(member->check, member->read_at, (uint32_t)partition->partition_index,
                                offset < 0 ? offset : offset_of(offset));
        } else if (!mr_errors_is_retriable(partition->error_code)) {
            mr_sim_actor_refuse(&member->actor, "OffsetFetch of a partition failed for good", partition->error_code);
        } else {
            mr_sim_actor_rest(&member->actor, now, 20 * MR_NS_PER_MS);
            return;
        }
    }
    if (member->phase == MR_SIM_MEMBER_AUDIT) {
        member->phase = MR_SIM_MEMBER_DONE;
    }
}

/* A heartbeat, of the member or of its former life. That there is no error says nothing: a broker that loads answers so
 * without looking. */
static void take_heartbeat(struct mr_sim_member *member, bool is_former, int16_t error, struct mr_now now)
{
    if (!is_former && error != 0) {
        take_error(member, error, "Heartbeat failed for good", now);
    } else if (is_former && !mr_errors_is_retriable(error)) {
        member->former_error = error;
    }
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_member *member = member_of(actor);
    (void)arena;
    switch (call->key) {
    case MR_API_FIND_COORDINATOR:
        take_found(member, response, now);
        break;
    case MR_API_JOIN_GROUP:
        take_join(member, response, now);
        break;
    case MR_API_SYNC_GROUP:
        take_sync(member, response, now);
        break;
    case MR_API_HEARTBEAT:
        take_heartbeat(member, call->user != 0, ((const struct mr_heartbeat_response *)response)->error_code, now);
        break;
    case MR_API_OFFSET_COMMIT:
        take_commit(member, call, response, now);
        break;
    case MR_API_OFFSET_FETCH:
        take_read(member, response, now);
        break;
    default:
        mr_assert(call->key == MR_API_LEAVE_GROUP);
        take_error(member, UNKNOWN_MEMBER_ID, "", now); /* whatever it says, we are out */
        break;
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_member *)(const void *)actor)->phase == MR_SIM_MEMBER_DONE;
}

void mr_sim_member_init(struct mr_sim_member *member, struct mr_arena *arena, struct mr_check_group *check,
                        uint32_t number, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "member", .turn = turn, .answer = answer, .is_idle = is_idle};
    *member = (struct mr_sim_member){.check = check, .number = number, .generation = -1};
    if (number > 0) {
        mr_fmt(member->instance, sizeof member->instance, "instance-%u", number);
    }
    mr_sim_actor_init(&member->actor, &ops, arena, seed);
}
