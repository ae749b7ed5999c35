/*
 * consumer_heartbeat: the one request of the new protocol: join, stay, leave.
 *
 *   check > be the member > follow the topics > retarget > reconcile, answer
 *
 * consumer_steps.c has what is between the checks and the answer.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

/* ---- answers ---- */

/* NULL: no scratch. */
static struct mr_consumer_group_heartbeat_response_assignment *assignment_of(
    const struct mr_parts *set, struct mr_coord_out *out)
{
    struct mr_consumer_group_heartbeat_response_assignment *assignment =
        MR_COORD_NEW(out, struct mr_consumer_group_heartbeat_response_assignment, 1);
    struct mr_consumer_group_heartbeat_response_topic_partitions *topics =
        MR_COORD_NEW(out, struct mr_consumer_group_heartbeat_response_topic_partitions,
                     mr_parts_topics(set));
    int32_t *numbers = mr_consumer_numbers(set, out);
    if (assignment == NULL || topics == NULL || numbers == NULL) {
        return NULL;
    }
    assignment->topic_partitions = topics;
    for (uint32_t at = 0; at < set->count;) {
        uint32_t end = mr_parts_run(set, at);
        topics[assignment->topic_partitions_count++] =
            (struct mr_consumer_group_heartbeat_response_topic_partitions){
                .topic_id = set->items[at].topic_id,
                .partitions = &numbers[at],
                .partitions_count = (int32_t)(end - at),
            };
        at = end;
    }
    return assignment;
}

static void no_answer(const struct mr_consumer_beat *beat)
{
    mr_coord_out_forget_records(beat->out);
    mr_coord_out_refuse(beat->out, beat->request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
}

static void answer(struct mr_consumer_beat *beat, int32_t epoch, const struct mr_parts *assigned)
{
    struct mr_coord_out *out = beat->out;
    struct mr_consumer_group_heartbeat_response *response =
        MR_COORD_NEW(out, struct mr_consumer_group_heartbeat_response, 1);
    if (response == NULL) {
        no_answer(beat);
        return;
    }
    MR_DEFAULTS(consumer_group_heartbeat_response, response);
    response->member_id = beat->message->member_id;
    response->member_epoch = epoch;
    response->heartbeat_interval_ms =
        epoch > 0 ? (int32_t)mr_consumer_setting(beat->group, MR_GROUP_CONFIG_heartbeat_ms) : 0;
    if (assigned != NULL) {
        response->assignment = assignment_of(assigned, out);
        if (response->assignment == NULL) {
            no_answer(beat);
            return;
        }
    }
    mr_coord_out_answer(out, beat->request, beat->shard->index,
                        mr_bug("answer-heartbeats-early") ? MR_COORD_NOW : MR_COORD_DURABLE,
                        response);
}

static void answer_refusal(const struct mr_consumer_beat *beat)
{
    struct mr_consumer_group_heartbeat_response *response =
        MR_COORD_NEW(beat->out, struct mr_consumer_group_heartbeat_response, 1);
    mr_coord_out_forget_records(beat->out);
    if (response == NULL) {
        mr_coord_out_refuse(beat->out, beat->request, beat->error);
        return;
    }
    MR_DEFAULTS(consumer_group_heartbeat_response, response);
    response->error_code = beat->error;
    response->error_message = mr_str(beat->why);
    mr_coord_out_answer(beat->out, beat->request, beat->shard->index, MR_COORD_NOW, response);
}

/* ---- the form of the request ---- */

static bool is_empty(struct mr_str text)
{
    return text.len == 0;
}

/* What is wrong with it by itself; NULL: nothing. */
static const char *form_error(const struct mr_consumer_beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    bool is_id_needed = beat->request->forward->api_version >= 1 || m->member_epoch != 0;
    if (m->group_id.len <= 0) {
        return "GroupId can't be empty.";
    }
    if (m->member_id.len <= 0 && is_id_needed) {
        return "MemberId can't be empty.";
    }
    if (is_empty(m->instance_id)) {
        return "InstanceId can't be empty.";
    }
    if (is_empty(m->rack_id)) {
        return "RackId can't be empty.";
    }
    if (m->member_epoch == 0) {
        if (m->rebalance_timeout_ms == -1) {
            return "RebalanceTimeoutMs must be provided in first request.";
        }
        if (m->topic_partitions_count != 0) {
            return "TopicPartitions must be empty when (re-)joining.";
        }
        if (m->subscribed_topic_names_count < 0 && mr_str_is_null(m->subscribed_topic_regex)) {
            return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
                   "(re-)joining.";
        }
    }
    if (m->member_epoch == MR_CONSUMER_LEAVE_STATIC && mr_str_is_null(m->instance_id)) {
        return "InstanceId can't be null.";
    }
    return m->member_epoch < MR_CONSUMER_LEAVE_STATIC ? "MemberEpoch is invalid." : NULL;
}

static bool is_assignor_known(const struct mr_consumer_beat *beat)
{
    const struct mr_group_env *env = beat->shard->env;
    if (mr_str_is_null(beat->message->server_assignor)) {
        return true;
    }
    for (uint32_t index = 0; index < env->assignor_count; index++) {
        if (mr_str_equal(env->assignors[index], beat->message->server_assignor)) {
            return true;
        }
    }
    return false;
}

/* The partitions that the member says it has. False: no scratch, or a number that cannot be. */
static bool read_owned(struct mr_consumer_beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    uint32_t count = 0;
    if (m->topic_partitions_count < 0) {
        return true;
    }
    for (int32_t at = 0; at < m->topic_partitions_count; at++) {
        count += (uint32_t)m->topic_partitions[at].partitions_count;
    }
    struct mr_parts *owned = MR_COORD_NEW(beat->out, struct mr_parts, 1);
    if (owned == NULL || !mr_parts_begin(owned, count, beat->out->scratch)) {
        return false;
    }
    for (int32_t at = 0; at < m->topic_partitions_count; at++) {
        for (int32_t index = 0; index < m->topic_partitions[at].partitions_count; index++) {
            owned->items[owned->count++] = (struct mr_part){
                .topic_id = m->topic_partitions[at].topic_id,
                .partition = m->topic_partitions[at].partitions[index],
            };
        }
    }
    mr_parts_settle(owned);
    beat->owned = owned;
    return true;
}

/* ---- the member as it is known ---- */

static int16_t check_epoch(const struct mr_consumer_beat *beat, const struct mr_consumer_member *member)
{
    int32_t told = beat->message->member_epoch;
    if (told == 0 || told == member->epoch) {
        return MR_KAFKA_NONE;
    }
    /* The answer with the newer epoch was lost: what it has must be what it was given. */
    bool is_retry = told < member->epoch && told == member->previous_epoch && beat->owned != NULL &&
                    mr_parts_within(beat->owned, &member->assigned);
    return is_retry ? MR_KAFKA_NONE : MR_KAFKA_FENCED_MEMBER_EPOCH;
}

/* Finds beat->member. Refuses, and says false, when it cannot be. */
static bool find_dynamic(struct mr_consumer_beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    beat->member = beat->group == NULL ? NULL : mr_consumer_find(beat->group, m->member_id);
    if (beat->member == NULL) {
        if (m->member_epoch != 0) {
            (void)mr_consumer_refuse(beat, MR_KAFKA_UNKNOWN_MEMBER_ID, "The member is not a member of the group.");
        }
        return m->member_epoch == 0;
    }
    if (m->member_epoch > 0 && check_epoch(beat, beat->member) != MR_KAFKA_NONE) {
        (void)mr_consumer_refuse(beat, MR_KAFKA_FENCED_MEMBER_EPOCH,
               "The member epoch is neither the member's nor the one before it. The member must "
               "abandon all its partitions and rejoin.");
        return false;
    }
    return true;
}

static bool find_static(struct mr_consumer_beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    struct mr_consumer_member *holder =
        beat->group == NULL ? NULL : mr_consumer_find_instance(beat->group, m->instance_id);
    bool is_holder = holder != NULL && mr_str_equal(holder->id, m->member_id);
    beat->member = holder;
    if (m->member_epoch != 0) {
        if (holder == NULL) {
            (void)mr_consumer_refuse(beat, MR_KAFKA_UNKNOWN_MEMBER_ID, "The instance id is unknown.");
        } else if (!is_holder && !mr_bug("no-fencing")) {
            (void)mr_consumer_refuse(beat, MR_KAFKA_FENCED_INSTANCE_ID,
                   "The instance id is used by another member.");
        } else if (m->member_epoch > 0 && check_epoch(beat, holder) != MR_KAFKA_NONE) {
            (void)mr_consumer_refuse(beat, MR_KAFKA_FENCED_MEMBER_EPOCH,
                   "The member epoch is neither the member's nor the one before it. The member "
                   "must abandon all its partitions and rejoin.");
        } else {
            return true;
        }
        return false;
    }
    if (holder == NULL) {
        beat->member = beat->group == NULL ? NULL : mr_consumer_find(beat->group, m->member_id);
        return true;
    }
    bool is_own_step = is_holder && beat->out->step > 0;
    if (!is_own_step && !mr_bug("no-instances") && holder->classic == NULL && holder->epoch != MR_CONSUMER_LEAVE_STATIC) {
        (void)mr_consumer_refuse(beat, MR_KAFKA_UNRELEASED_INSTANCE_ID,
               "The instance id is still used by another member, which has not left.");
        return false;
    }
    return true;
}

/* A request that says everything is to be told everything. */
static bool is_full(const struct mr_consumer_group_heartbeat_request *m)
{
    return m->member_epoch == 0 ||
           (m->rebalance_timeout_ms != -1 && m->topic_partitions_count >= 0 &&
            (m->subscribed_topic_names_count >= 0 || !mr_str_is_null(m->subscribed_topic_regex)));
}

static void reconcile(struct mr_consumer_beat *beat)
{
    struct mr_consumer_current next;
    if (mr_consumer_step_on(beat, &next) != MR_CONSUMER_DONE) {
        answer_refusal(beat);
        return;
    }
    bool is_moved = !mr_parts_equal(&next.assigned, &beat->member->assigned);
    const struct mr_parts *told =
        mr_bug("answer-the-target") ? &beat->member->target : &next.assigned;
    answer(beat, next.epoch, is_full(beat->message) || is_moved ? told : NULL);
}

/* ---- leaving ---- */

/* A static member will be back: it keeps its place and what it has. */
static bool record_away(const struct mr_consumer_member *member, struct mr_coord_out *out)
{
    struct mr_consumer_current away = {
        .epoch = MR_CONSUMER_LEAVE_STATIC,
        .previous_epoch = member->previous_epoch,
        .state = member->state,
    };
    if (!mr_parts_begin(&away.assigned, member->assigned.count, out->scratch)) {
        return false;
    }
    for (uint32_t at = 0; at < member->assigned.count; at++) {
        away.assigned.items[away.assigned.count] = member->assigned.items[at];
        away.assigned.items[away.assigned.count++].epoch = 0;
    }
    return mr_consumer_record_current(member->group, member->id, &away, out);
}

static void leave(struct mr_consumer_beat *beat)
{
    bool is_written = beat->message->member_epoch == MR_CONSUMER_LEAVE_STATIC
                          ? record_away(beat->member, beat->out)
                          : mr_bug("ignore-new-leave") ||
                                mr_consumer_fence(beat->member, beat->out);
    if (!is_written) {
        no_answer(beat);
        return;
    }
    answer(beat, beat->message->member_epoch, NULL);
}

/* ---- the request ---- */

/* The group, when it is of this protocol or can become so. */
static enum mr_consumer_step find_group(struct mr_consumer_beat *beat)
{
    bool is_join = beat->message->member_epoch == 0;
    beat->group = mr_group_find(beat->shard, beat->message->group_id);
    if (beat->group == NULL) {
        return is_join ? MR_CONSUMER_DONE
                       : mr_consumer_refuse(beat, MR_KAFKA_GROUP_ID_NOT_FOUND,
                                            "The group does not exist.");
    }
    if (beat->group->consumer != NULL) {
        return MR_CONSUMER_DONE;
    }
    if (!is_join) {
        return mr_consumer_refuse(beat, MR_KAFKA_GROUP_ID_NOT_FOUND,
                                  "The group is not a consumer group.");
    }
    if (mr_group_is_empty(beat->group)) {
        bool is_written = mr_group_record_tombstone(beat->group, beat->out);
        beat->group = NULL; /* what comes next makes it anew */
        return is_written ? MR_CONSUMER_DONE : mr_consumer_no_scratch(beat);
    }
    const char *why = mr_consumer_upgrade(beat->group, beat->out);
    if (why != NULL) {
        return why == mr_consumer_no_memory
                   ? mr_consumer_no_scratch(beat)
                   : mr_consumer_refuse(beat, MR_KAFKA_GROUP_ID_NOT_FOUND, why);
    }
    beat->out->is_again = true;
    return MR_CONSUMER_WROTE;
}

static bool is_full_group(const struct mr_consumer_beat *beat)
{
    return beat->group != NULL &&
           beat->group->consumer->member_count >= beat->shard->env->consumer_size_max &&
           mr_consumer_find(beat->group, beat->message->member_id) == NULL;
}

/* The checks; then a member that stays goes one step further. */
static enum mr_consumer_step decide(struct mr_consumer_beat *beat)
{
    const char *error = form_error(beat);
    if (error != NULL) {
        return mr_consumer_refuse(beat, MR_KAFKA_INVALID_REQUEST, error);
    }
    if (!is_assignor_known(beat)) {
        return mr_consumer_refuse(beat, MR_KAFKA_UNSUPPORTED_ASSIGNOR,
                                  "The ServerAssignor is not supported.");
    }
    if (!read_owned(beat)) {
        return mr_consumer_no_scratch(beat);
    }
    if (beat->message->member_id.len <= 0) { /* too old to make one itself */
        beat->message->member_id = mr_consumer_made_id(beat);
    }
    enum mr_consumer_step found = find_group(beat);
    if (found != MR_CONSUMER_DONE) {
        return found;
    }
    bool is_leave = beat->message->member_epoch < 0;
    if (!is_leave && is_full_group(beat)) {
        return mr_consumer_refuse(beat, MR_KAFKA_GROUP_MAX_SIZE_REACHED,
                                  "The consumer group has group.consumer.max.size members.");
    }
    bool is_static = !mr_str_is_null(beat->message->instance_id);
    if (is_static ? !find_static(beat) : !find_dynamic(beat)) {
        return MR_CONSUMER_REFUSED;
    }
    return is_leave ? MR_CONSUMER_DONE : mr_consumer_steps(beat);
}

void mr_consumer_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                           struct mr_coord_out *out)
{
    struct mr_consumer_beat beat = {
        .shard = shard,
        .request = request,
        .message = request->message,
        .out = out,
    };
    if (!mr_consumer_is_enabled(shard->env)) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNSUPPORTED_VERSION);
        return;
    }
    switch (decide(&beat)) {
    case MR_CONSUMER_WROTE:
        return;
    case MR_CONSUMER_REFUSED:
        answer_refusal(&beat);
        return;
    case MR_CONSUMER_DONE:
        if (beat.message->member_epoch < 0) {
            leave(&beat);
        } else {
            reconcile(&beat);
        }
        return;
    }
    mr_unreachable("no such step");
}
