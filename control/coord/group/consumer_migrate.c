/*
 * consumer_migrate: a group with members changes its protocol: to the new one when the first member
 * comes that speaks it, back to the classic one when the last of those goes. Members stay where they are.
 *
 *   classic  -- tombstone, members, epoch = generation, targets, current assignments --> consumer
 *   consumer -- tombstones, a generation = epoch with what each member has ------------> classic
 *
 * Source: behaviour of Apache Kafka 4.4; group.consumer.migration.policy.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

/* ---- after the replay ---- */

struct changed {
    const struct mr_group_shard *shard;
    struct mr_str id;
    bool is_rebalance;
};

/* The records have made the other kind of group: its sessions run; all classic members are to join. */
static void group_changed(void *user, struct mr_coord_out *out)
{
    const struct changed *changed = user;
    struct mr_group *group = mr_group_find(changed->shard, changed->id);
    if (group == NULL) {
        return;
    }
    mr_log(changed->shard->env->log, MR_LOG_INFO, "group changes its protocol group=%.*s to=%s",
           group->id.len, group->id.data, group->consumer != NULL ? "consumer" : "classic");
    if (group->consumer != NULL) {
        mr_consumer_loaded(group, out);
        return;
    }
    mr_classic_loaded(group, out);
    if (changed->is_rebalance && group->classic_part.state == MR_CLASSIC_STABLE) {
        mr_classic_prepare_rebalance(group, out, "the last member of the new protocol is gone");
    }
}

/* False: no scratch. */
static bool then_changed(const struct mr_group *group, bool is_rebalance, struct mr_coord_out *out)
{
    struct changed *changed = MR_COORD_NEW(out, struct changed, 1);
    char *id = mr_coord_scratch(out, (size_t)group->id.len);
    if (changed == NULL || id == NULL) {
        return false;
    }
    memcpy(id, group->id.data, (size_t)group->id.len);
    *changed = (struct changed){
        .shard = group->shard,
        .id = {.data = id, .len = group->id.len},
        .is_rebalance = is_rebalance,
    };
    out->then = group_changed;
    out->then_user = changed;
    return true;
}

/* ---- up ---- */

/* A classic member as one of the new protocol. */
struct convert {
    struct mr_consumer_profile profile;
    struct mr_parts assigned;
};

static struct mr_blob metadata_of(const struct mr_classic_member *member)
{
    /* Before its first generation the group has chosen nothing yet. */
    struct mr_str protocol = member->group->classic_part.protocol;
    return mr_str_is_null(protocol) ? member->protocols->items[0].metadata
                                    : mr_classic_metadata(member, protocol);
}

static const char *read_member(const struct mr_classic_member *member, struct mr_arena *scratch,
                               struct convert *convert)
{
    const struct mr_image *image = member->group->shard->env->image;
    struct mr_consumer_subscription subscription;
    if (mr_consumer_read_subscription(image, metadata_of(member), scratch, &subscription) !=
        MR_CONSUMER_FINE) {
        return "The group is not a consumer group: a member's subscription cannot be read.";
    }
    switch (mr_consumer_read_assignment(image, member->assignment, scratch, &convert->assigned)) {
    case MR_CONSUMER_FINE:
        break;
    case MR_CONSUMER_MALFORMED:
        return "The group is not a consumer group: a member's assignment cannot be read.";
    case MR_CONSUMER_WITH_USER_DATA:
        return "The group is not a consumer group: its assignor keeps data of its own.";
    }
    convert->assigned.count = mr_bug("migrate-empty") ? 0 : convert->assigned.count;
    for (uint32_t at = 0; at < convert->assigned.count; at++) {
        convert->assigned.items[at].epoch = member->group->classic_part.generation;
    }
    convert->profile = (struct mr_consumer_profile){
        .id = member->id,
        .instance_id = member->instance_id,
        .rack_id = subscription.rack_id,
        .client_id = member->client_id,
        .client_host = member->client_host,
        .assignor = MR_STR_NULL,
        .wish = {.names = subscription.topics,
                 .count = (uint32_t)subscription.topic_count,
                 .regex = MR_STR_NULL},
        .rebalance_ms = member->rebalance_ms,
        .classic = member->protocols,
        .classic_session_ms = member->session_ms,
    };
    return NULL;
}

/* All records of the new group, each kind for all members: Kafka's order. */
static bool write_consumer(const struct mr_group *group, const struct convert *converts,
                           uint32_t count, struct mr_coord_out *out)
{
    uint32_t shard = group->shard->index;
    int32_t epoch = group->classic_part.generation;
    bool is_written = mr_group_record_tombstone(group, out);
    for (uint32_t at = 0; at < count && is_written; at++) {
        is_written = mr_consumer_record_member(shard, group->id, &converts[at].profile, out);
    }
    is_written = is_written && mr_consumer_record_epoch(shard, group->id, epoch, 0, out);
    for (uint32_t at = 0; at < count && is_written; at++) {
        is_written = mr_consumer_record_target(group, converts[at].profile.id,
                                               &converts[at].assigned, out);
    }
    is_written = is_written && mr_consumer_record_assigned(group, epoch, 0, out);
    for (uint32_t at = 0; at < count && is_written; at++) {
        const struct mr_consumer_current current = {
            .epoch = epoch,
            .previous_epoch = epoch,
            .state = MR_CONSUMER_STABLE,
            .assigned = converts[at].assigned,
        };
        is_written = mr_consumer_record_current(group, converts[at].profile.id, &current, out);
    }
    return is_written;
}

/* Why the group stays as it is; NULL: it may change. */
static const char *why_not_up(const struct mr_group *group)
{
    const struct mr_group_env *env = group->shard->env;
    const struct mr_classic *classic = &group->classic_part;
    if (!env->may_upgrade) {
        return "The group is not a consumer group, and group.consumer.migration.policy does not "
               "allow it to become one.";
    }
    if (!mr_str_equal(classic->protocol_type, MR_STR("consumer"))) {
        return "The group is not a consumer group.";
    }
    if (classic->member_count > env->consumer_size_max) {
        return "The group is not a consumer group, and has more members than "
               "group.consumer.max.size.";
    }
    return NULL;
}

const char *mr_consumer_upgrade(const struct mr_group *group, struct mr_coord_out *out)
{
    const struct mr_classic *classic = mr_group_classic(group);
    const char *why = why_not_up(group);
    uint32_t count = 0;
    if (why != NULL) {
        return why;
    }
    struct convert *converts = MR_COORD_NEW(out, struct convert, classic->member_count);
    if (converts == NULL) {
        return mr_consumer_no_memory;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        why = read_member(MR_LIST_ENTRY(link, struct mr_classic_member, link), out->scratch,
                          &converts[count++]);
        if (why != NULL) {
            return why;
        }
    }
    if (!write_consumer(group, converts, count, out) || !then_changed(group, false, out)) {
        return mr_consumer_no_memory;
    }
    /* Who waits for the generation that will never be joins the new group instead. */
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        mr_classic_member_refuse(member, member->id, MR_KAFKA_REBALANCE_IN_PROGRESS, out);
    }
    return NULL;
}

/* ---- down ---- */

bool mr_consumer_may_downgrade(const struct mr_group *group,
                               const struct mr_consumer_member *leaving, bool is_replaced)
{
    const struct mr_group_env *env = group->shard->env;
    uint32_t left = group->consumer->member_count - (is_replaced ? 0 : 1);
    if (leaving->classic != NULL || left == 0 || !env->may_downgrade || left > env->size_max) {
        return false;
    }
    MR_LIST_EACH(link, &group->consumer->members)
    {
        const struct mr_consumer_member *member =
            MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (member != leaving && member->classic == NULL) {
            return false;
        }
    }
    return true;
}

/* Members of the classic group to be, and what each has. */
struct seats {
    struct mr_consumer_profile *profiles;
    struct mr_parts *owned;
    uint32_t count;
    bool is_settled; /* each has what it is to have */
};

/*
 * What the member may still work with. Kafka writes its target down, which may be another member's
 * yet: when the broker dies before the rebalance, or the group changes its protocol again, both
 * have it.
 */
static bool take_owned(const struct mr_consumer_member *member, struct mr_arena *scratch,
                       struct mr_parts *owned)
{
    const struct mr_parts *kinds[] = {&member->assigned, &member->pending};
    if (!mr_parts_begin(owned, member->assigned.count + member->pending.count, scratch)) {
        return false;
    }
    for (uint32_t kind = 0; kind < 2; kind++) {
        for (uint32_t at = 0; at < kinds[kind]->count; at++) {
            owned->items[owned->count++] = kinds[kind]->items[at];
        }
    }
    mr_parts_settle(owned);
    return true;
}

static bool take_seats(const struct mr_group *group, const struct mr_consumer_member *leaving,
                       const struct mr_consumer_profile *joining, struct mr_coord_out *out,
                       struct seats *seats)
{
    uint32_t count = group->consumer->member_count;
    seats->profiles = MR_COORD_NEW(out, struct mr_consumer_profile, count);
    seats->owned = MR_COORD_NEW(out, struct mr_parts, count);
    seats->count = 0;
    seats->is_settled = true;
    if (seats->profiles == NULL || seats->owned == NULL) {
        return false;
    }
    MR_LIST_EACH(link, &group->consumer->members)
    {
        const struct mr_consumer_member *member =
            MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (member == leaving && joining == NULL) {
            continue;
        }
        seats->profiles[seats->count] =
            member == leaving ? *joining : mr_consumer_profile(member);
        if (!take_owned(member, out->scratch, &seats->owned[seats->count])) {
            return false;
        }
        const struct mr_parts *owned = &seats->owned[seats->count++];
        seats->is_settled = seats->is_settled && mr_parts_equal(owned, &member->target);
    }
    return true;
}

static bool all_support(const struct seats *seats, struct mr_str name)
{
    for (uint32_t at = 0; at < seats->count; at++) {
        if (!mr_classic_protocols_has(seats->profiles[at].classic, name)) {
            return false;
        }
    }
    return true;
}

/* The protocol that most members like best among those that all support; null: there is none. */
static struct mr_str choose(const struct seats *seats, struct mr_coord_out *out)
{
    const struct mr_classic_protocols *first = seats->profiles[0].classic;
    uint32_t *votes = MR_COORD_NEW(out, uint32_t, first->count);
    bool *is_common = MR_COORD_NEW(out, bool, first->count);
    struct mr_str best = MR_STR_NULL;
    uint32_t best_votes = 0;
    for (uint32_t index = 0; is_common != NULL && index < first->count; index++) {
        is_common[index] = all_support(seats, first->items[index].name);
    }
    for (uint32_t at = 0; votes != NULL && is_common != NULL && at < seats->count; at++) {
        const struct mr_classic_protocols *liked = seats->profiles[at].classic;
        bool has_voted = false;
        for (uint32_t one = 0; one < liked->count && !has_voted; one++) {
            for (uint32_t index = 0; index < first->count && !has_voted; index++) {
                if (is_common[index] &&
                    mr_str_equal(first->items[index].name, liked->items[one].name)) {
                    has_voted = true;
                    votes[index]++;
                    best = votes[index] > best_votes ? first->items[index].name : best;
                    best_votes = votes[index] > best_votes ? votes[index] : best_votes;
                }
            }
        }
    }
    return best;
}

static struct mr_blob metadata_for(const struct mr_classic_protocols *protocols,
                                   struct mr_str name)
{
    for (uint32_t index = 0; index < protocols->count; index++) {
        if (mr_str_equal(protocols->items[index].name, name)) {
            return protocols->items[index].metadata;
        }
    }
    return (struct mr_blob){.data = (const uint8_t *)"", .len = 0};
}

static bool write_classic(const struct mr_group *group, const struct seats *seats,
                          struct mr_coord_out *out)
{
    struct mr_group_metadata_value value;
    MR_DEFAULTS(group_metadata_value, &value);
    value.protocol_type = MR_STR("consumer");
    value.generation = group->consumer->epoch;
    value.protocol = choose(seats, out);
    value.leader = seats->profiles[0].id;
    value.current_state_timestamp = out->now.unix_ms;
    value.members = MR_COORD_NEW(out, struct mr_group_metadata_value_member_metadata, seats->count);
    if (value.members == NULL || mr_str_is_null(value.protocol)) {
        return false;
    }
    for (uint32_t at = 0; at < seats->count; at++) {
        const struct mr_consumer_profile *profile = &seats->profiles[at];
        struct mr_group_metadata_value_member_metadata *member =
            &value.members[value.members_count++];
        *member = (struct mr_group_metadata_value_member_metadata){
            .member_id = profile->id,
            .group_instance_id = profile->instance_id,
            .client_id = profile->client_id,
            .client_host = profile->client_host,
            .rebalance_timeout = profile->rebalance_ms,
            .session_timeout = profile->classic_session_ms,
            .subscription = metadata_for(profile->classic, value.protocol),
        };
        if (!mr_consumer_write_assignment(group, &seats->owned[at], member->subscription, out,
                                          &member->assignment)) {
            return false;
        }
    }
    return mr_group_record_settled(group->shard->index, group->id, &value, out);
}

bool mr_consumer_downgrade(const struct mr_group *group, const struct mr_consumer_member *leaving,
                           const struct mr_consumer_profile *joining, struct mr_coord_out *out)
{
    struct seats seats;
    return take_seats(group, leaving, joining, out, &seats) &&
           mr_consumer_record_tombstone(group, out) && write_classic(group, &seats, out) &&
           then_changed(group, joining == NULL || !seats.is_settled, out);
}
