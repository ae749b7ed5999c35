/*
 * consumer_heartbeat: the one request of the new protocol: join, stay, leave.
 *
 *   check > be the member > follow the topics > retarget > reconcile, answer
 *
 * Each step that writes something ends the turn of this function; it runs again on the state that
 * the records made (coord.h: is_again), finds that step done and goes on with the next.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

struct beat {
    const struct mr_group_shard *shard;
    struct mr_request *request;
    struct mr_consumer_group_heartbeat_request *message;
    const struct mr_group *group;      /* NULL: there is none, or an empty one to be replaced */
    struct mr_consumer_member *member; /* NULL: not known */
    const struct mr_parts *owned;      /* NULL: not told */
    struct mr_coord_out *out;
};

/* ---- answers ---- */

static void no_scratch(struct beat *beat)
{
    mr_coord_out_forget_records(beat->out);
    mr_coord_out_refuse(beat->out, beat->request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
}

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

static void answer(struct beat *beat, int32_t epoch, const struct mr_parts *assigned)
{
    struct mr_coord_out *out = beat->out;
    struct mr_consumer_group_heartbeat_response *response =
        MR_COORD_NEW(out, struct mr_consumer_group_heartbeat_response, 1);
    if (response == NULL) {
        no_scratch(beat);
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
            no_scratch(beat);
            return;
        }
    }
    mr_coord_out_answer(out, beat->request, beat->shard->index,
                        mr_bug("answer-heartbeats-early") ? MR_COORD_NOW : MR_COORD_DURABLE,
                        response);
}

static void refuse(struct beat *beat, int16_t error, const char *why)
{
    struct mr_consumer_group_heartbeat_response *response =
        MR_COORD_NEW(beat->out, struct mr_consumer_group_heartbeat_response, 1);
    mr_coord_out_forget_records(beat->out);
    if (response == NULL) {
        mr_coord_out_refuse(beat->out, beat->request, error);
        return;
    }
    MR_DEFAULTS(consumer_group_heartbeat_response, response);
    response->error_code = error;
    response->error_message = mr_str(why);
    mr_coord_out_answer(beat->out, beat->request, beat->shard->index, MR_COORD_NOW, response);
}

static void refuse_pattern(struct beat *beat, struct mr_str text, const char *why)
{
    size_t size = (size_t)text.len + strlen(why) + 64;
    char *message = mr_coord_scratch(beat->out, size);
    if (message != NULL) {
        mr_fmt(message, size, "SubscribedTopicRegex `%.*s` is not a valid regular expression: %s.",
               text.len, text.data, why);
    }
    refuse(beat, MR_KAFKA_INVALID_REGULAR_EXPRESSION, message != NULL ? message : why);
}

/* ---- the form of the request ---- */

static bool is_empty(struct mr_str text)
{
    return text.len == 0;
}

/* What is wrong with it by itself; NULL: nothing. */
static const char *form_error(const struct beat *beat)
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

static bool is_assignor_known(const struct beat *beat)
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
static bool read_owned(struct beat *beat)
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

static int16_t check_epoch(const struct beat *beat, const struct mr_consumer_member *member)
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
static bool find_dynamic(struct beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    beat->member = beat->group == NULL ? NULL : mr_consumer_find(beat->group, m->member_id);
    if (beat->member == NULL) {
        if (m->member_epoch != 0) {
            refuse(beat, MR_KAFKA_UNKNOWN_MEMBER_ID, "The member is not a member of the group.");
        }
        return m->member_epoch == 0;
    }
    if (m->member_epoch > 0 && check_epoch(beat, beat->member) != MR_KAFKA_NONE) {
        refuse(beat, MR_KAFKA_FENCED_MEMBER_EPOCH,
               "The member epoch is neither the member's nor the one before it. The member must "
               "abandon all its partitions and rejoin.");
        return false;
    }
    return true;
}

static bool find_static(struct beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    struct mr_consumer_member *holder =
        beat->group == NULL ? NULL : mr_consumer_find_instance(beat->group, m->instance_id);
    bool is_holder = holder != NULL && mr_str_equal(holder->id, m->member_id);
    beat->member = holder;
    if (m->member_epoch != 0) {
        if (holder == NULL) {
            refuse(beat, MR_KAFKA_UNKNOWN_MEMBER_ID, "The instance id is unknown.");
        } else if (!is_holder && !mr_bug("no-fencing")) {
            refuse(beat, MR_KAFKA_FENCED_INSTANCE_ID,
                   "The instance id is used by another member.");
        } else if (m->member_epoch > 0 && check_epoch(beat, holder) != MR_KAFKA_NONE) {
            refuse(beat, MR_KAFKA_FENCED_MEMBER_EPOCH,
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
        refuse(beat, MR_KAFKA_UNRELEASED_INSTANCE_ID,
               "The instance id is still used by another member, which has not left.");
        return false;
    }
    return true;
}

/* ---- the steps ---- */

enum step {
    DONE, /* nothing was to be done: on to the next */
    WROTE,
    FAILED, /* answered */
};

/* What the pattern of a request stands for is known before anybody subscribes by it. */
static enum step resolve_wish(struct beat *beat)
{
    struct mr_str text = beat->message->subscribed_topic_regex;
    const char *why;
    if (text.len <= 0 || mr_consumer_regex_find(beat->group, text) != NULL) {
        return DONE;
    }
    if (!mr_consumer_regex_resolve(beat->shard, beat->message->group_id, text, beat->out, &why)) {
        no_scratch(beat);
        return FAILED;
    }
    if (why != NULL) {
        refuse_pattern(beat, text, why);
        return FAILED;
    }
    return WROTE;
}

static bool is_in_place(const struct beat *beat)
{
    return mr_str_equal(beat->member->id, beat->message->member_id) &&
           beat->member->epoch != MR_CONSUMER_LEAVE_STATIC;
}

/* A static member is back, under a new id: it takes the place of the old one. */
static enum step step_into_place(struct beat *beat)
{
    const struct mr_consumer_member *member = beat->member;
    if (beat->message->member_epoch != 0 || member == NULL || is_in_place(beat) ||
        mr_str_is_null(beat->message->instance_id) ||
        !mr_str_equal(member->instance_id, beat->message->instance_id)) {
        return DONE;
    }
    struct mr_consumer_profile profile = mr_consumer_profile(member);
    const struct mr_consumer_current current = {
        .state = member->state,
        .assigned = member->assigned,
        .pending = member->pending,
    };
    profile.id = beat->message->member_id;
    if (!mr_consumer_record_gone(beat->group, member->id, beat->out) ||
        !mr_consumer_record_member(beat->shard->index, beat->group->id, &profile, beat->out) ||
        !mr_consumer_record_target(beat->group, profile.id, &member->target, beat->out) ||
        !mr_consumer_record_current(beat->group, profile.id, &current, beat->out)) {
        no_scratch(beat);
        return FAILED;
    }
    return WROTE;
}

/* The member as the request would have it. */
static struct mr_consumer_profile wished_profile(const struct beat *beat)
{
    const struct mr_consumer_group_heartbeat_request *m = beat->message;
    struct mr_consumer_profile profile = {
        .id = m->member_id,
        .instance_id = MR_STR_NULL,
        .rack_id = MR_STR_NULL,
        .assignor = MR_STR_NULL,
        .wish = {.regex = MR_STR_NULL},
        .rebalance_ms = -1,
    };
    if (beat->member != NULL) {
        profile = mr_consumer_profile(beat->member);
        profile.classic = NULL;
    }
    if (!mr_str_is_null(m->instance_id)) {
        profile.instance_id = m->instance_id;
    }
    if (!mr_str_is_null(m->rack_id)) {
        profile.rack_id = m->rack_id;
    }
    if (!mr_str_is_null(m->server_assignor)) {
        profile.assignor = m->server_assignor;
    }
    if (m->rebalance_timeout_ms != -1) {
        profile.rebalance_ms = m->rebalance_timeout_ms;
    }
    if (m->subscribed_topic_names_count >= 0) {
        profile.wish.names = m->subscribed_topic_names;
        profile.wish.count = (uint32_t)m->subscribed_topic_names_count;
    }
    if (!mr_str_is_null(m->subscribed_topic_regex)) {
        profile.wish.regex =
            m->subscribed_topic_regex.len == 0 ? MR_STR_NULL : m->subscribed_topic_regex;
    }
    profile.client_id = mr_str_is_null(beat->request->forward->client_id)
                            ? MR_STR("")
                            : beat->request->forward->client_id;
    profile.client_host = mr_group_client_host(beat->request, beat->out);
    return profile;
}

static bool is_same_str(struct mr_str a, struct mr_str b)
{
    return mr_str_is_null(a) == mr_str_is_null(b) && mr_str_equal(a, b);
}

static bool is_same_wish(const struct mr_consumer_member *member,
                         const struct mr_consumer_profile *profile)
{
    return is_same_str(member->regex, profile->wish.regex) &&
           mr_consumer_names_same(member->names, (struct mr_str *)(uintptr_t)profile->wish.names,
                                  (int32_t)profile->wish.count);
}

static bool is_same_profile(const struct mr_consumer_member *member,
                            const struct mr_consumer_profile *profile)
{
    return is_same_wish(member, profile) && member->rebalance_ms == profile->rebalance_ms &&
           member->classic == profile->classic &&
           is_same_str(member->instance_id, profile->instance_id) &&
           is_same_str(member->rack_id, profile->rack_id) &&
           is_same_str(member->assignor, profile->assignor) &&
           is_same_str(member->client_id, profile->client_id) &&
           is_same_str(member->client_host, profile->client_host);
}

/* A pattern that nobody subscribes by any more is forgotten. */
static bool abandon_regex(const struct mr_consumer_member *member, struct mr_str wish,
                          struct mr_coord_out *out)
{
    bool is_left = member != NULL && member->regex.len > 0 && !mr_str_equal(member->regex, wish) &&
                   !mr_consumer_regex_is_used(member->group, member->regex, member);
    return !is_left || mr_consumer_regex_gone(member->group, member->regex, out);
}

/* Join, or say something new about itself; with the group epoch when that changes the targets. */
static enum step be_the_member(struct beat *beat)
{
    struct mr_consumer_profile profile = wished_profile(beat);
    const struct mr_consumer_member *member = beat->member;
    if (member != NULL && is_same_profile(member, &profile)) {
        return DONE;
    }
    if (member == NULL && !mr_group_has_member_room(beat->shard->env)) {
        refuse(beat, MR_KAFKA_COORDINATOR_NOT_AVAILABLE, "There is no memory for more members.");
        return FAILED;
    }
    bool is_rebalance = member == NULL || !is_same_wish(member, &profile) ||
                        !is_same_str(member->assignor, profile.assignor);
    int32_t epoch = beat->group == NULL ? 0 : beat->group->consumer->epoch;
    int64_t hash;
    if (!mr_consumer_record_member(beat->shard->index, beat->message->group_id, &profile,
                                   beat->out) ||
        !abandon_regex(member, profile.wish.regex, beat->out) ||
        !mr_consumer_hash(beat->shard, beat->group, member, &profile.wish, beat->out, &hash) ||
        (is_rebalance && !mr_consumer_record_epoch(beat->shard->index, beat->message->group_id,
                                                   epoch + 1, hash, beat->out))) {
        no_scratch(beat);
        return FAILED;
    }
    return WROTE;
}

/* Patterns may stand for other topics than before. */
static enum step refresh_patterns(struct beat *beat)
{
    if (!mr_consumer_regex_refresh(beat->group, beat->out)) {
        no_scratch(beat);
        return FAILED;
    }
    return beat->out->records != NULL ? WROTE : DONE;
}

/* The topics of the group may have changed. */
static enum step follow_topics(struct beat *beat)
{
    struct mr_consumer *consumer = beat->group->consumer;
    const struct mr_image *image = beat->shard->env->image;
    int64_t hash;
    if (image == NULL || consumer->image_version == image->version) {
        return DONE;
    }
    if (!mr_consumer_hash(beat->shard, beat->group, NULL, NULL, beat->out, &hash)) {
        no_scratch(beat);
        return FAILED;
    }
    consumer->image_version = image->version;
    if (hash == consumer->metadata_hash || mr_bug("ignore-new-partitions")) {
        return DONE;
    }
    if (!mr_consumer_record_epoch(beat->shard->index, beat->group->id, consumer->epoch + 1, hash,
                                  beat->out)) {
        no_scratch(beat);
        return FAILED;
    }
    return WROTE;
}

static enum step retarget(struct beat *beat)
{
    const struct mr_consumer *consumer = beat->group->consumer;
    int64_t due_ms =
        consumer->assignment_ms +
        mr_consumer_setting(beat->group, MR_GROUP_CONFIG_assignment_interval_ms);
    if (consumer->epoch <= consumer->assignment_epoch ||
        (consumer->assignment_ms > 0 && beat->out->now.unix_ms < due_ms &&
         beat->out->now.unix_ms >= consumer->assignment_ms)) {
        return DONE;
    }
    if (!mr_consumer_retarget(beat->group, beat->out)) {
        no_scratch(beat);
        return FAILED;
    }
    return WROTE;
}

/* A request that says everything is to be told everything. */
static bool is_full(const struct mr_consumer_group_heartbeat_request *m)
{
    return m->member_epoch == 0 ||
           (m->rebalance_timeout_ms != -1 && m->topic_partitions_count >= 0 &&
            (m->subscribed_topic_names_count >= 0 || !mr_str_is_null(m->subscribed_topic_regex)));
}

static void reconcile(struct beat *beat)
{
    struct mr_consumer_member *member = beat->member;
    struct mr_consumer_current next;
    int16_t error = mr_consumer_reconcile(member, beat->owned, beat->out->scratch, &next);
    if (error == MR_KAFKA_UNKNOWN_SERVER_ERROR) {
        no_scratch(beat);
        return;
    }
    if (error != MR_KAFKA_NONE) {
        refuse(beat, error, "The member is in a state of a later version. It must abandon all its "
                            "partitions and rejoin.");
        return;
    }
    bool is_moved = !mr_parts_equal(&next.assigned, &member->assigned);
    bool is_changed = is_moved || next.epoch != member->epoch ||
                      next.previous_epoch != member->previous_epoch ||
                      next.state != member->state ||
                      !mr_parts_equal(&next.pending, &member->pending);
    if (is_changed &&
        !mr_consumer_record_current(beat->group, member->id, &next, beat->out)) {
        no_scratch(beat);
        return;
    }
    if (is_changed) {
        mr_consumer_rebalance_timer(member, next.state == MR_CONSUMER_UNREVOKED, beat->out->now);
    }
    const struct mr_parts *told =
        mr_bug("answer-the-target") ? &member->target : &next.assigned;
    answer(beat, next.epoch, is_full(beat->message) || is_moved ? told : NULL);
}

/* ---- leaving ---- */

static bool fence(const struct mr_consumer_member *member, struct mr_coord_out *out)
{
    const struct mr_group *group = member->group;
    int64_t hash;
    return mr_consumer_record_gone(group, member->id, out) &&
           abandon_regex(member, MR_STR_NULL, out) &&
           mr_consumer_hash(group->shard, group, member, NULL, out, &hash) &&
           mr_consumer_record_epoch(group->shard->index, group->id, group->consumer->epoch + 1,
                                    hash, out);
}

static void leave(struct beat *beat)
{
    const struct mr_consumer_member *member = beat->member;
    if (beat->message->member_epoch == MR_CONSUMER_LEAVE_STATIC) {
        struct mr_consumer_current away = {
            .epoch = MR_CONSUMER_LEAVE_STATIC,
            .previous_epoch = member->previous_epoch,
            .state = member->state,
        };
        if (!mr_parts_begin(&away.assigned, member->assigned.count, beat->out->scratch)) {
            no_scratch(beat);
            return;
        }
        for (uint32_t at = 0; at < member->assigned.count; at++) {
            away.assigned.items[away.assigned.count] = member->assigned.items[at];
            away.assigned.items[away.assigned.count++].epoch = 0;
        }
        if (!mr_consumer_record_current(beat->group, member->id, &away, beat->out)) {
            no_scratch(beat);
            return;
        }
    } else if (!fence(member, beat->out)) {
        no_scratch(beat);
        return;
    }
    answer(beat, beat->message->member_epoch, NULL);
}

void mr_consumer_session_expired(struct mr_consumer_member *member, struct mr_coord_out *out)
{
    if (mr_bug("immortal-new-members")) {
        return;
    }
    mr_log(member->group->shard->env->log, MR_LOG_INFO,
           "a member was not heard of in time group=\"%.*s\" member=\"%.*s\"",
           member->group->id.len, member->group->id.data, member->id.len, member->id.data);
    if (!fence(member, out)) {
        mr_coord_out_forget_records(out);
        mr_consumer_session_again(member, out->now);
    }
}

void mr_consumer_rebalance_due(struct mr_consumer_member *member, struct mr_coord_out *out)
{
    if (member->state != MR_CONSUMER_UNREVOKED) {
        return;
    }
    mr_log(member->group->shard->env->log, MR_LOG_INFO,
           "a member did not give its partitions back in time group=\"%.*s\" member=\"%.*s\"",
           member->group->id.len, member->group->id.data, member->id.len, member->id.data);
    if (!fence(member, out)) {
        mr_coord_out_forget_records(out);
        mr_consumer_rebalance_timer(member, true, out->now);
    }
}

/* ---- the request ---- */

/* An id for a member that is too old to make one itself; it must outlive the step. */
static void make_id(struct beat *beat)
{
    if (beat->message->member_id.len <= 0) {
        const struct mr_group_env *env = beat->shard->env;
        struct mr_coord_answer *entry = beat->request->user;
        struct mr_uuid id;
        env->uuid(env->uuid_user, &id);
        mr_uuid_text(&id, entry->made_id);
        beat->message->member_id = mr_str(entry->made_id);
    }
}

/* The group, when it is of this protocol or can become so. Refuses, and says false, when not. */
static bool find_group(struct beat *beat)
{
    bool is_join = beat->message->member_epoch == 0;
    beat->group = mr_group_find(beat->shard, beat->message->group_id);
    if (beat->group != NULL && beat->group->consumer == NULL) {
        if (is_join && mr_group_is_empty(beat->group)) {
            if (!mr_group_record_tombstone(beat->group, beat->out)) {
                no_scratch(beat);
                return false;
            }
            beat->group = NULL; /* what comes next makes it anew */
            return true;
        }
        refuse(beat, MR_KAFKA_GROUP_ID_NOT_FOUND, "The group is not a consumer group.");
        return false;
    }
    if (beat->group == NULL && !is_join) {
        refuse(beat, MR_KAFKA_GROUP_ID_NOT_FOUND, "The group does not exist.");
        return false;
    }
    return true;
}

static bool is_full_group(const struct beat *beat)
{
    return beat->group != NULL &&
           beat->group->consumer->member_count >= beat->shard->env->consumer_size_max &&
           mr_consumer_find(beat->group, beat->message->member_id) == NULL;
}

void mr_consumer_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                           struct mr_coord_out *out)
{
    struct beat beat = {
        .shard = shard,
        .request = request,
        .message = request->message,
        .out = out,
    };
    if (!mr_consumer_is_enabled(shard->env)) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNSUPPORTED_VERSION);
        return;
    }
    const char *error = form_error(&beat);
    if (error != NULL) {
        refuse(&beat, MR_KAFKA_INVALID_REQUEST, error);
        return;
    }
    if (!is_assignor_known(&beat)) {
        refuse(&beat, MR_KAFKA_UNSUPPORTED_ASSIGNOR, "The ServerAssignor is not supported.");
        return;
    }
    if (!read_owned(&beat)) {
        no_scratch(&beat);
        return;
    }
    make_id(&beat);
    if (!find_group(&beat)) {
        return;
    }
    bool is_leave = beat.message->member_epoch < 0;
    if (!is_leave && is_full_group(&beat)) {
        refuse(&beat, MR_KAFKA_GROUP_MAX_SIZE_REACHED,
               "The consumer group has reached its maximum capacity.");
        return;
    }
    bool is_static = !mr_str_is_null(beat.message->instance_id);
    if (is_static ? !find_static(&beat) : !find_dynamic(&beat)) {
        return;
    }
    if (is_leave) {
        leave(&beat);
        return;
    }
    if (beat.member != NULL) {
        mr_consumer_session_again(beat.member, out->now);
    }
    static enum step (*const steps[])(struct beat *) = {
        resolve_wish, step_into_place, be_the_member, refresh_patterns, follow_topics, retarget,
    };
    for (uint32_t index = 0; index < sizeof steps / sizeof steps[0]; index++) {
        enum step done = steps[index](&beat);
        if (done != DONE) {
            out->is_again = done == WROTE;
            return;
        }
    }
    reconcile(&beat);
}
