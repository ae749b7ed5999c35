/*
 * consumer_classic: members of the classic protocol in a group of the new one: their JoinGroup, SyncGroup,
 * Heartbeat and LeaveGroup. The broker assigns to them as to all others; a generation is the member's epoch.
 *
 *   JoinGroup   the member says what it wants and still has, and is one step further (consumer_steps.c)
 *   SyncGroup   what it has been assigned, in the bytes that classic assignors use
 *   Heartbeat   REBALANCE_IN_PROGRESS when another JoinGroup would bring it further
 *
 * The member's rebalance timer runs while it is to join, to sync, or to give partitions back.
 *
 * Source: behaviour of Apache Kafka 4.4.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

#define PROTOCOLS_MAX 100 /* names in one JoinGroup; clients send below 10 */

/* ---- who it is ---- */

/* Member and instance of a request against the group: 0, UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID. */
static int16_t find_classic(const struct mr_group *group, struct mr_str member_id,
                            struct mr_str instance_id, struct mr_consumer_member **member)
{
    *member = mr_str_is_null(instance_id) ? mr_consumer_find(group, member_id)
                                          : mr_consumer_find_instance(group, instance_id);
    if (*member == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (!mr_str_equal((*member)->id, member_id) && !mr_bug("no-fencing")) {
        return MR_KAFKA_FENCED_INSTANCE_ID;
    }
    return (*member)->classic == NULL ? MR_KAFKA_UNKNOWN_MEMBER_ID : MR_KAFKA_NONE;
}

static struct mr_timers *timers_of(const struct mr_consumer_member *member)
{
    return member->group->shard->env->timers;
}

/* It has to join again; the time for it runs from when it was first told. */
static void is_to_join(struct mr_consumer_member *member, struct mr_now now)
{
    if (member->rebalance.timer.place == 0) {
        mr_consumer_rebalance_timer(member, true, now);
    }
}

/* ---- JoinGroup ---- */

/* What the request says that the member supports, in scratch; NULL: no room, or too many. */
static const struct mr_classic_protocols *protocols_of(const struct mr_join_group_request *join,
                                                       struct mr_coord_out *out)
{
    if (join->protocols_count > PROTOCOLS_MAX) {
        return NULL;
    }
    struct mr_classic_protocols *protocols =
        mr_coord_scratch(out, sizeof *protocols + sizeof protocols->items[0] *
                                                      (size_t)join->protocols_count);
    for (int32_t index = 0; protocols != NULL && index < join->protocols_count; index++) {
        if (!mr_classic_protocols_has(protocols, join->protocols[index].name)) {
            protocols->items[protocols->count++] = (struct mr_classic_protocol){
                .name = join->protocols[index].name,
                .metadata = join->protocols[index].metadata,
            };
        }
    }
    return protocols;
}

/* Whether every classic member supports one of these, so that the group could be classic again. */
static bool is_supported(const struct mr_group *group, const struct mr_join_group_request *join,
                         const struct mr_classic_protocols *protocols)
{
    if (!mr_str_equal(join->protocol_type, MR_STR("consumer"))) {
        return false;
    }
    for (uint32_t index = 0; index < protocols->count; index++) {
        bool is_common = true;
        MR_LIST_EACH(link, &group->consumer->members)
        {
            const struct mr_consumer_member *member =
                MR_LIST_ENTRY(link, struct mr_consumer_member, link);
            if (member->classic != NULL &&
                !mr_classic_protocols_has(member->classic, protocols->items[index].name)) {
                is_common = false;
                break;
            }
        }
        if (is_common) {
            return true;
        }
    }
    return false;
}

static void answer_join(const struct mr_consumer_beat *beat, int32_t epoch)
{
    struct mr_join_group_response *response =
        MR_COORD_NEW(beat->out, struct mr_join_group_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(join_group_response, response);
        response->generation_id = epoch;
        response->protocol_type = MR_STR("consumer");
        response->protocol_name = beat->classic->items[0].name;
        response->member_id = beat->message->member_id;
    }
    mr_coord_out_answer(beat->out, beat->request, beat->shard->index, MR_COORD_DURABLE, response);
}

/* The request as one of the new protocol; NULL: no scratch. */
static struct mr_consumer_group_heartbeat_request *as_heartbeat(
    const struct mr_request *request, const struct mr_consumer_subscription *subscription,
    struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_consumer_group_heartbeat_request *message =
        MR_COORD_NEW(out, struct mr_consumer_group_heartbeat_request, 1);
    if (message == NULL) {
        return NULL;
    }
    MR_DEFAULTS(consumer_group_heartbeat_request, message);
    message->group_id = join->group_id;
    message->member_id = join->member_id;
    message->instance_id = join->group_instance_id;
    message->rack_id = subscription->rack_id;
    message->server_assignor = MR_STR_NULL;
    message->rebalance_timeout_ms = mr_classic_join_rebalance_ms(request);
    message->subscribed_topic_names = subscription->topics;
    message->subscribed_topic_names_count = subscription->topic_count;
    message->subscribed_topic_regex = MR_STR(""); /* none, whatever a member before it had */
    return message;
}

/* Finds beat->member, or says why not. A static member that comes without its id is a new one in the old
 * one's place. */
static int16_t find_joining(struct mr_consumer_beat *beat)
{
    const struct mr_join_group_request *join = beat->request->message;
    bool is_static = !mr_str_is_null(join->group_instance_id);
    beat->member = is_static ? mr_consumer_find_instance(beat->group, join->group_instance_id)
                             : mr_consumer_find(beat->group, join->member_id);
    if (!is_static || join->member_id.len == 0) {
        return MR_KAFKA_NONE;
    }
    if (beat->member == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    return mr_str_equal(beat->member->id, join->member_id) || mr_bug("no-fencing")
               ? MR_KAFKA_NONE
               : MR_KAFKA_FENCED_INSTANCE_ID;
}

/* The last member of the new protocol is replaced by a classic one: the group is classic again, and the
 * request goes on there. */
static bool replaces_the_last(const struct mr_consumer_beat *beat)
{
    return beat->member != NULL &&
           !mr_str_equal(beat->member->id, beat->message->member_id) &&
           mr_consumer_may_downgrade(beat->group, beat->member, true);
}

static enum mr_consumer_step join_steps(struct mr_consumer_beat *beat,
                                        struct mr_consumer_current *next)
{
    if (replaces_the_last(beat)) {
        struct mr_consumer_profile joining = mr_consumer_wished_profile(beat);
        if (!mr_consumer_downgrade(beat->group, beat->member, &joining, beat->out)) {
            return mr_consumer_no_scratch(beat);
        }
        beat->out->is_again = true;
        return MR_CONSUMER_WROTE;
    }
    enum mr_consumer_step done = mr_consumer_steps(beat);
    return done == MR_CONSUMER_DONE ? mr_consumer_step_on(beat, next) : done;
}

static void join_as(struct mr_consumer_beat *beat)
{
    struct mr_consumer_current next;
    int16_t error = find_joining(beat);
    if (error == MR_KAFKA_NONE) {
        switch (join_steps(beat, &next)) {
        case MR_CONSUMER_WROTE:
            return;
        case MR_CONSUMER_DONE:
            mr_consumer_rebalance_timer(beat->member, true, beat->out->now);
            answer_join(beat, next.epoch);
            return;
        case MR_CONSUMER_REFUSED:
            error = beat->error;
        }
    }
    mr_coord_out_forget_records(beat->out);
    mr_classic_answer_join_error(beat->out, beat->shard, beat->request, beat->message->member_id,
                                 error);
}

void mr_consumer_classic_join(const struct mr_group *group, struct mr_request *request,
                              struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    const struct mr_group_env *env = group->shard->env;
    struct mr_consumer_subscription subscription;
    struct mr_consumer_beat beat = {
        .shard = group->shard, .request = request, .group = group, .out = out};
    bool is_unknown = join->member_id.len == 0;
    int16_t error = MR_KAFKA_NONE;
    beat.classic = protocols_of(join, out);
    beat.classic_session_ms = join->session_timeout_ms;
    if (group->consumer->member_count >= env->consumer_size_max &&
        mr_consumer_find(group, join->member_id) == NULL) {
        error = MR_KAFKA_GROUP_MAX_SIZE_REACHED;
    } else if (beat.classic == NULL || !is_supported(group, join, beat.classic)) {
        error = MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    } else if (mr_consumer_read_subscription(env->image, beat.classic->items[0].metadata,
                                             out->scratch, &subscription) != MR_CONSUMER_FINE ||
               (beat.message = as_heartbeat(request, &subscription, out)) == NULL) {
        error = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    if (error != MR_KAFKA_NONE) {
        mr_classic_answer_join_error(out, group->shard, request, join->member_id, error);
        return;
    }
    beat.owned = &subscription.owned;
    if (is_unknown) {
        beat.message->member_id = mr_consumer_made_id(&beat);
    }
    if (is_unknown && mr_str_is_null(join->group_instance_id) &&
        request->forward->api_version >= 4) {
        mr_classic_answer_join_error(out, group->shard, request, beat.message->member_id,
                                     MR_KAFKA_MEMBER_ID_REQUIRED);
        return;
    }
    join_as(&beat);
}

/* ---- SyncGroup ---- */

static int16_t check_sync(const struct mr_consumer_member *member,
                          const struct mr_sync_group_request *sync, struct mr_now now)
{
    const struct mr_consumer *consumer = member->group->consumer;
    if (sync->generation_id != member->epoch) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    if ((!mr_str_is_null(sync->protocol_type) &&
         !mr_str_equal(sync->protocol_type, MR_STR("consumer"))) ||
        (!mr_str_is_null(sync->protocol_name) &&
         !mr_str_equal(sync->protocol_name, member->classic->items[0].name))) {
        return MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    }
    if (consumer->epoch > member->epoch && member->state != MR_CONSUMER_UNREVOKED) {
        is_to_join((struct mr_consumer_member *)(uintptr_t)member, now);
        return MR_KAFKA_REBALANCE_IN_PROGRESS;
    }
    return MR_KAFKA_NONE;
}

int16_t mr_consumer_classic_sync(const struct mr_group *group, struct mr_request *request,
                                 struct mr_coord_out *out)
{
    const struct mr_sync_group_request *sync = request->message;
    struct mr_consumer_member *member;
    int16_t error = find_classic(group, sync->member_id, sync->group_instance_id, &member);
    error = error == MR_KAFKA_NONE ? check_sync(member, sync, out->now) : error;
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    struct mr_sync_group_response *response = MR_COORD_NEW(out, struct mr_sync_group_response, 1);
    struct mr_blob assignment;
    if (response == NULL ||
        !mr_consumer_write_assignment(group,
                                      mr_bug("sync-the-target") ? &member->target
                                                                : &member->assigned,
                                      member->classic->items[0].metadata, out, &assignment)) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    MR_DEFAULTS(sync_group_response, response);
    response->protocol_type = sync->protocol_type;
    response->protocol_name = sync->protocol_name;
    response->assignment = assignment;
    mr_consumer_session_again(member, out->now);
    if (member->state != MR_CONSUMER_UNREVOKED) {
        mr_timer_cancel(timers_of(member), &member->rebalance.timer);
    }
    mr_coord_out_answer(out, request, group->shard->index, MR_COORD_DURABLE, response);
    return MR_KAFKA_NONE;
}

/* ---- Heartbeat ---- */

/* Whether the partitions that it waits for are still somebody else's. */
static bool is_waiting(const struct mr_consumer_member *member)
{
    for (uint32_t at = 0; at < member->target.count; at++) {
        const struct mr_part *part = &member->target.items[at];
        if (!mr_parts_has(&member->assigned, part) &&
            mr_consumer_owner(member->group, part) != NULL) {
            return true;
        }
    }
    return false;
}

int16_t mr_consumer_classic_heartbeat(const struct mr_group *group,
                                      const struct mr_heartbeat_request *beat, struct mr_now now)
{
    struct mr_consumer_member *member;
    int16_t error = find_classic(group, beat->member_id, beat->group_instance_id, &member);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (beat->generation_id != member->epoch) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    mr_consumer_session_again(member, now);
    bool is_behind = member->epoch < group->consumer->epoch ||
                     member->state == MR_CONSUMER_UNREVOKED ||
                     (member->state == MR_CONSUMER_UNRELEASED && !is_waiting(member));
    if (!is_behind || mr_bug("quiet-heartbeat")) {
        return MR_KAFKA_NONE;
    }
    is_to_join(member, now);
    return MR_KAFKA_REBALANCE_IN_PROGRESS;
}

/* ---- LeaveGroup ---- */

static int16_t find_leaving(const struct mr_group *group, struct mr_str member_id,
                            struct mr_str instance_id, struct mr_consumer_member **member)
{
    if (mr_str_is_null(instance_id) || member_id.len > 0) {
        return find_classic(group, member_id, instance_id, member);
    }
    /* An administrator removes a static member by its instance. */
    *member = mr_consumer_find_instance(group, instance_id);
    return *member == NULL || (*member)->classic == NULL ? MR_KAFKA_UNKNOWN_MEMBER_ID
                                                         : MR_KAFKA_NONE;
}

int16_t mr_consumer_classic_leave(const struct mr_group *group, struct mr_str member_id,
                                  struct mr_str instance_id, struct mr_coord_out *out)
{
    struct mr_consumer_member *member;
    int16_t error = find_leaving(group, member_id, instance_id, &member);
    if (error == MR_KAFKA_NONE && !mr_consumer_record_left(member, out)) {
        error = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    return error;
}

/* The hash is still of all: when nobody else has the topics of those who left, the next heartbeat sees the
 * difference (consumer_steps.c: follow_topics). */
bool mr_consumer_classic_left(const struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_consumer *consumer = group->consumer;
    consumer->image_version = 0;
    return mr_consumer_record_epoch(group->shard->index, group->id, mr_group_next_epoch(consumer->epoch),
                                    consumer->metadata_hash, out);
}
