/*
 * consumer_steps: a member on its way, whichever protocol it speaks: one step after another.
 *
 *   be the member > follow the topics > retarget > reconcile
 *
 * Each step that writes something ends the turn of the function that runs them; it runs again on the state
 * that the records made (coord.h: is_again), finds that step done and goes on with the next.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

#define FENCE_AGAIN_MS 1000 /* there was no memory for its records */

/* ---- refusals ---- */

const char mr_consumer_no_memory[] = "There is no memory for this.";

enum mr_consumer_step mr_consumer_refuse(struct mr_consumer_beat *beat, int16_t error,
                                         const char *why)
{
    beat->error = error;
    beat->why = why;
    return MR_CONSUMER_REFUSED;
}

enum mr_consumer_step mr_consumer_no_scratch(struct mr_consumer_beat *beat)
{
    return mr_consumer_refuse(beat, MR_KAFKA_UNKNOWN_SERVER_ERROR, mr_consumer_no_memory);
}

static enum mr_consumer_step refuse_pattern(struct mr_consumer_beat *beat, struct mr_str text,
                                            const char *why)
{
    size_t size = (size_t)text.len + strlen(why) + 64;
    char *message = mr_coord_scratch(beat->out, size);
    if (message != NULL) {
        mr_fmt(message, size, "SubscribedTopicRegex `%.*s` is not a valid regular expression: %s.",
               text.len, text.data, why);
    }
    return mr_consumer_refuse(beat, MR_KAFKA_INVALID_REGULAR_EXPRESSION, message != NULL ? message : why);
}

static enum mr_consumer_step refuse_full(struct mr_consumer_beat *beat, const char *limit)
{
    enum { SIZE = 128 };
    char *message = mr_coord_scratch(beat->out, SIZE);
    if (message == NULL) {
        return mr_consumer_no_scratch(beat);
    }
    mr_fmt(message, SIZE, "There is no room for more members (%s).", limit);
    return mr_consumer_refuse(beat, MR_KAFKA_COORDINATOR_NOT_AVAILABLE, message);
}

/* It must outlive the steps of the request, so it lies in its answer. */
struct mr_str mr_consumer_made_id(const struct mr_consumer_beat *beat)
{
    struct mr_coord_answer *entry = beat->request->user;
    if (beat->out->step == 0) {
        const struct mr_group_env *env = beat->shard->env;
        struct mr_uuid id;
        env->uuid(env->uuid_user, &id);
        mr_uuid_text(&id, entry->made_id);
    }
    return mr_str(entry->made_id);
}

/* ---- the steps ---- */

/* What the pattern of a request stands for is known before anybody subscribes by it. */
static enum mr_consumer_step resolve_wish(struct mr_consumer_beat *beat)
{
    struct mr_str text = beat->message->subscribed_topic_regex;
    const char *why;
    if (text.len <= 0 || mr_consumer_regex_find(beat->group, text) != NULL) {
        return MR_CONSUMER_DONE;
    }
    if (!mr_consumer_regex_resolve(beat->shard, beat->message->group_id, text, beat->out, &why)) {
        return mr_consumer_no_scratch(beat);
    }
    return why != NULL ? refuse_pattern(beat, text, why) : MR_CONSUMER_WROTE;
}

static bool is_in_place(const struct mr_consumer_beat *beat)
{
    return mr_str_equal(beat->member->id, beat->message->member_id) &&
           beat->member->epoch != MR_CONSUMER_LEAVE_STATIC;
}

/* A static member is back, under a new id: it takes the place of the old one. */
static enum mr_consumer_step step_into_place(struct mr_consumer_beat *beat)
{
    const struct mr_consumer_member *member = beat->member;
    if (beat->message->member_epoch != 0 || member == NULL || is_in_place(beat) ||
        mr_str_is_null(beat->message->instance_id) ||
        !mr_str_equal(member->instance_id, beat->message->instance_id)) {
        return MR_CONSUMER_DONE;
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
        return mr_consumer_no_scratch(beat);
    }
    return MR_CONSUMER_WROTE;
}

/* The member as the request would have it. */
struct mr_consumer_profile mr_consumer_wished_profile(const struct mr_consumer_beat *beat)
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
    }
    profile.classic = beat->classic;
    profile.classic_session_ms = beat->classic_session_ms;
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

static bool is_same_classic(const struct mr_consumer_member *member,
                            const struct mr_consumer_profile *profile)
{
    if (member->classic == NULL || profile->classic == NULL) {
        return member->classic == profile->classic;
    }
    return member->classic_session_ms == profile->classic_session_ms &&
           mr_classic_protocols_equal(member->classic, profile->classic);
}

static bool is_same_profile(const struct mr_consumer_member *member,
                            const struct mr_consumer_profile *profile)
{
    return is_same_wish(member, profile) && member->rebalance_ms == profile->rebalance_ms &&
           is_same_classic(member, profile) &&
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
static enum mr_consumer_step be_the_member(struct mr_consumer_beat *beat)
{
    struct mr_consumer_profile profile = mr_consumer_wished_profile(beat);
    const struct mr_consumer_member *member = beat->member;
    if (member != NULL && is_same_profile(member, &profile)) {
        return MR_CONSUMER_DONE;
    }
    const char *limit = member == NULL ? mr_group_limit(beat->shard->env, true, beat->out->now) : NULL;
    if (limit != NULL) {
        return refuse_full(beat, limit);
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
                                                   mr_group_next_epoch(epoch), hash, beat->out))) {
        return mr_consumer_no_scratch(beat);
    }
    return MR_CONSUMER_WROTE;
}

/* Patterns may stand for other topics than before. */
static enum mr_consumer_step refresh_patterns(struct mr_consumer_beat *beat)
{
    if (!mr_consumer_regex_refresh(beat->group, beat->out)) {
        return mr_consumer_no_scratch(beat);
    }
    return beat->out->records != NULL ? MR_CONSUMER_WROTE : MR_CONSUMER_DONE;
}

/* The topics of the group may have changed. */
static enum mr_consumer_step follow_topics(struct mr_consumer_beat *beat)
{
    struct mr_consumer *consumer = beat->group->consumer;
    const struct mr_image *image = beat->shard->env->image;
    int64_t hash;
    if (image == NULL || consumer->image_version == image->version) {
        return MR_CONSUMER_DONE;
    }
    if (!mr_consumer_hash(beat->shard, beat->group, NULL, NULL, beat->out, &hash)) {
        return mr_consumer_no_scratch(beat);
    }
    consumer->image_version = image->version;
    if (hash == consumer->metadata_hash || mr_bug("ignore-new-partitions")) {
        return MR_CONSUMER_DONE;
    }
    if (!mr_consumer_record_epoch(beat->shard->index, beat->group->id,
                                  mr_group_next_epoch(consumer->epoch), hash, beat->out)) {
        return mr_consumer_no_scratch(beat);
    }
    return MR_CONSUMER_WROTE;
}

static enum mr_consumer_step retarget(struct mr_consumer_beat *beat)
{
    const struct mr_consumer *consumer = beat->group->consumer;
    int64_t age_ms = mr_age_ms(beat->out->now.unix_ms, consumer->assignment_ms);
    bool is_recent =
        consumer->assignment_ms > 0 && age_ms >= 0 &&
        age_ms < mr_consumer_setting(beat->group, MR_GROUP_CONFIG_assignment_interval_ms);
    if (consumer->epoch <= consumer->assignment_epoch || is_recent) {
        return MR_CONSUMER_DONE;
    }
    if (!mr_consumer_retarget(beat->group, beat->out)) {
        return mr_consumer_no_scratch(beat);
    }
    return MR_CONSUMER_WROTE;
}

/* ---- all of them ---- */

enum mr_consumer_step mr_consumer_steps(struct mr_consumer_beat *beat)
{
    static enum mr_consumer_step (*const steps[])(struct mr_consumer_beat *) = {
        resolve_wish, step_into_place, be_the_member, refresh_patterns, follow_topics, retarget,
    };
    if (beat->member != NULL) {
        mr_consumer_session_again(beat->member, beat->out->now);
    }
    for (uint32_t index = 0; index < sizeof steps / sizeof steps[0]; index++) {
        enum mr_consumer_step done = steps[index](beat);
        if (done != MR_CONSUMER_DONE) {
            beat->out->is_again = done == MR_CONSUMER_WROTE;
            return done;
        }
    }
    return MR_CONSUMER_DONE;
}

enum mr_consumer_step mr_consumer_step_on(struct mr_consumer_beat *beat,
                                          struct mr_consumer_current *next)
{
    struct mr_consumer_member *member = beat->member;
    int16_t error = mr_consumer_reconcile(member, beat->owned, beat->out->scratch, next);
    if (error == MR_KAFKA_UNKNOWN_SERVER_ERROR) {
        return mr_consumer_no_scratch(beat);
    }
    if (error != MR_KAFKA_NONE) {
        return mr_consumer_refuse(beat, error,
                      "The member is in a state of a later version. It must abandon all its "
                      "partitions and rejoin.");
    }
    bool is_changed = !mr_parts_equal(&next->assigned, &member->assigned) ||
                      next->epoch != member->epoch ||
                      next->previous_epoch != member->previous_epoch ||
                      next->state != member->state ||
                      !mr_parts_equal(&next->pending, &member->pending);
    if (!is_changed) {
        return MR_CONSUMER_DONE;
    }
    if (!mr_consumer_record_current(beat->group, member->id, next, beat->out)) {
        return mr_consumer_no_scratch(beat);
    }
    mr_consumer_rebalance_timer(member, next->state == MR_CONSUMER_UNREVOKED, beat->out->now);
    return MR_CONSUMER_DONE;
}

/* ---- leaving ---- */

bool mr_consumer_record_left(const struct mr_consumer_member *member, struct mr_coord_out *out)
{
    return mr_consumer_record_gone(member->group, member->id, out) &&
           abandon_regex(member, MR_STR_NULL, out);
}

bool mr_consumer_fence(const struct mr_consumer_member *member, struct mr_coord_out *out)
{
    const struct mr_group *group = member->group;
    int64_t hash;
    if (mr_consumer_may_downgrade(group, member, false)) {
        return mr_consumer_downgrade(group, member, NULL, out);
    }
    return mr_consumer_record_left(member, out) &&
           mr_consumer_hash(group->shard, group, member, NULL, out, &hash) &&
           mr_consumer_record_epoch(group->shard->index, group->id, mr_group_next_epoch(group->consumer->epoch),
                                    hash, out);
}

static void fence_or_wait(struct mr_consumer_member *member, struct mr_control_timer *timer,
                          const char *why, struct mr_coord_out *out)
{
    mr_log(member->group->shard->env->log, MR_LOG_INFO,
           "a member is fenced group=\"%.*s\" member=\"%.*s\" why=\"%s\"",
           member->group->id.len, member->group->id.data, member->id.len, member->id.data, why);
    if (!mr_consumer_fence(member, out)) {
        mr_coord_out_forget_records(out);
        mr_timer_set(member->group->shard->env->timers, &timer->timer,
                     mr_deadline_ms(out->now.mono_ns, FENCE_AGAIN_MS));
    }
}

void mr_consumer_session_expired(struct mr_consumer_member *member, struct mr_coord_out *out)
{
    if (!mr_bug("immortal-new-members")) {
        fence_or_wait(member, &member->session, "it was not heard of in time", out);
    }
}

void mr_consumer_rebalance_due(struct mr_consumer_member *member, struct mr_coord_out *out)
{
    if (member->classic != NULL) {
        fence_or_wait(member, &member->rebalance, "it did not join or sync in time", out);
    } else if (member->state == MR_CONSUMER_UNREVOKED) {
        fence_or_wait(member, &member->rebalance, "it did not give its partitions back in time",
                      out);
    }
}
