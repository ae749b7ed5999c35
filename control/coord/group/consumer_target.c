/*
 * consumer_target: targets of all members of a group: the members and topics as the assignors want
 * them, and the answer as records.
 */
#include "coord/group/assignor.h"
#include "coord/group/consumer.h"
#include "millrace/base/sort.h"

struct plan {
    const struct mr_group *group;
    struct mr_coord_out *out;
    const struct mr_consumer_member **members; /* sorted by id: Kafka's order is as good as random */
    const struct mr_image_topic **topics;      /* that somebody subscribes to, sorted by id */
    struct mr_assignor_member *spec_members;
    struct mr_assignor_topic *spec_topics;
    struct mr_assignor_spec spec;
};

static bool is_member_before(const void *user, const void *a, const void *b)
{
    (void)user;
    const struct mr_consumer_member *const *x = a;
    const struct mr_consumer_member *const *y = b;
    return mr_str_compare((*x)->id, (*y)->id) < 0;
}

static bool is_topic_before(const void *user, const void *a, const void *b)
{
    (void)user;
    const struct mr_image_topic *const *x = a;
    const struct mr_image_topic *const *y = b;
    return memcmp((*x)->id.bytes, (*y)->id.bytes, sizeof(*x)->id.bytes) < 0;
}

/* The index of a topic id; UINT32_MAX: nobody subscribes to it. */
static uint32_t find_topic(const struct plan *plan, const struct mr_uuid *id)
{
    uint32_t from = 0;
    uint32_t to = plan->spec.topic_count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int order = memcmp(plan->topics[mid]->id.bytes, id->bytes, sizeof id->bytes);
        if (order == 0) {
            return mid;
        }
        if (order < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return UINT32_MAX;
}

static bool list_members(struct plan *plan)
{
    const struct mr_consumer *consumer = plan->group->consumer;
    uint32_t count = 0;
    plan->members =
        MR_COORD_NEW(plan->out, const struct mr_consumer_member *, consumer->member_count);
    plan->spec_members =
        MR_COORD_NEW(plan->out, struct mr_assignor_member, consumer->member_count);
    if (plan->members == NULL || plan->spec_members == NULL) {
        return false;
    }
    MR_LIST_EACH(link, &consumer->members)
    {
        plan->members[count++] = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
    }
    mr_sort(plan->members, count, sizeof(void *), is_member_before, NULL);
    plan->spec.members = plan->spec_members;
    plan->spec.member_count = count;
    return true;
}

/* A subscription as the plan has it until all topics are known. */
struct subscription {
    const struct mr_image_topic **topics;
    uint32_t count;
};

/* The topics of all, each once, numbered through. */
static bool list_topics(struct plan *plan, struct subscription *subscriptions)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < plan->spec.member_count; at++) {
        if (!mr_consumer_topics(plan->members[at], plan->out->scratch, &subscriptions[at].topics,
                                &subscriptions[at].count)) {
            return false;
        }
        count += subscriptions[at].count;
    }
    plan->topics = MR_COORD_NEW(plan->out, const struct mr_image_topic *, count);
    plan->spec_topics = MR_COORD_NEW(plan->out, struct mr_assignor_topic, count);
    if (plan->topics == NULL || plan->spec_topics == NULL) {
        return false;
    }
    count = 0;
    for (uint32_t at = 0; at < plan->spec.member_count; at++) {
        memcpy(&plan->topics[count], subscriptions[at].topics,
               sizeof(void *) * subscriptions[at].count);
        count += subscriptions[at].count;
    }
    mr_sort(plan->topics, count, sizeof(void *), is_topic_before, NULL);
    for (uint32_t at = 0; at < count; at++) {
        uint32_t kept = plan->spec.topic_count;
        if (kept > 0 && plan->topics[kept - 1] == plan->topics[at]) {
            continue;
        }
        plan->topics[kept] = plan->topics[at];
        plan->spec_topics[kept] = (struct mr_assignor_topic){
            .first = plan->spec.partition_count,
            .partition_count = plan->topics[at]->partition_count,
        };
        plan->spec.partition_count += plan->topics[at]->partition_count;
        plan->spec.topic_count++;
    }
    plan->spec.topics = plan->spec_topics;
    return true;
}

/* What the member subscribes to and what it was to have, in numbers. */
static bool describe_member(struct plan *plan, uint32_t at, const struct subscription *subscription)
{
    const struct mr_consumer_member *member = plan->members[at];
    uint32_t *topics = MR_COORD_NEW(plan->out, uint32_t, subscription->count);
    uint32_t *owned = MR_COORD_NEW(plan->out, uint32_t, member->target.count);
    uint32_t owned_count = 0;
    if (topics == NULL || owned == NULL) {
        return false;
    }
    for (uint32_t index = 0; index < subscription->count; index++) {
        topics[index] = find_topic(plan, &subscription->topics[index]->id);
    }
    for (uint32_t index = 0; index < member->target.count; index++) {
        const struct mr_part *part = &member->target.items[index];
        uint32_t topic = find_topic(plan, &part->topic_id);
        if (topic != UINT32_MAX &&
            (uint32_t)part->partition < plan->spec_topics[topic].partition_count) {
            owned[owned_count++] = plan->spec_topics[topic].first + (uint32_t)part->partition;
        }
    }
    plan->spec_members[at] = (struct mr_assignor_member){
        .id = member->id,
        .instance_id = member->instance_id,
        .topics = topics,
        .topic_count = subscription->count,
        .owned = owned,
        .owned_count = owned_count,
    };
    return true;
}

static bool describe_group(struct plan *plan)
{
    if (!list_members(plan)) {
        return false;
    }
    struct subscription *subscriptions =
        MR_COORD_NEW(plan->out, struct subscription, plan->spec.member_count);
    if (subscriptions == NULL || !list_topics(plan, subscriptions)) {
        return false;
    }
    for (uint32_t at = 0; at < plan->spec.member_count; at++) {
        if (!describe_member(plan, at, &subscriptions[at])) {
            return false;
        }
    }
    return true;
}

/* Sort the partitions by owner, in one walk: they come in the order of the sets. */
static struct mr_parts *targets_of(const struct plan *plan, const uint32_t *owners)
{
    struct mr_parts *targets = MR_COORD_NEW(plan->out, struct mr_parts, plan->spec.member_count);
    struct mr_part *items = MR_COORD_NEW(plan->out, struct mr_part, plan->spec.partition_count);
    uint32_t *counts = MR_COORD_NEW(plan->out, uint32_t, plan->spec.member_count);
    if (targets == NULL || items == NULL || counts == NULL) {
        return NULL;
    }
    for (uint32_t partition = 0; partition < plan->spec.partition_count; partition++) {
        if (owners[partition] != MR_ASSIGNOR_NOBODY) {
            counts[owners[partition]]++;
        }
    }
    for (uint32_t at = 0; at < plan->spec.member_count; at++) {
        targets[at].items = items;
        items += counts[at];
    }
    for (uint32_t topic = 0; topic < plan->spec.topic_count; topic++) {
        for (uint32_t at = 0; at < plan->spec_topics[topic].partition_count; at++) {
            uint32_t owner = owners[plan->spec_topics[topic].first + at];
            if (owner != MR_ASSIGNOR_NOBODY) {
                targets[owner].items[targets[owner].count++] = (struct mr_part){
                    .topic_id = plan->topics[topic]->id,
                    .partition = (int32_t)at,
                };
            }
        }
    }
    return targets;
}

bool mr_consumer_retarget(const struct mr_group *group, struct mr_coord_out *out)
{
    struct plan plan = {.group = group, .out = out};
    mr_assignor *assignor = mr_assignor_find(mr_consumer_assignor_name(group));
    if (assignor == NULL || !describe_group(&plan)) {
        return false;
    }
    uint32_t *owners = MR_COORD_NEW(out, uint32_t, plan.spec.partition_count);
    if (owners == NULL || !assignor(&plan.spec, out->scratch, owners)) {
        return false;
    }
    const struct mr_parts *targets = targets_of(&plan, owners);
    if (targets == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < plan.spec.member_count; at++) {
        const struct mr_consumer_member *member = plan.members[at];
        if ((!member->has_target || !mr_parts_equal(&member->target, &targets[at])) &&
            !mr_consumer_record_target(group, member->id, &targets[at], out)) {
            return false;
        }
    }
    return mr_consumer_record_assigned(group, group->consumer->epoch, out->now.unix_ms, out);
}

/* ---- which assignor ---- */

/* Asked for by most, by the first of them in the configuration among equals; else the broker's. */
struct mr_str mr_consumer_assignor_name(const struct mr_group *group)
{
    const struct mr_group_env *env = group->shard->env;
    struct mr_str best = env->assignors[0];
    uint32_t best_votes = 0;
    for (uint32_t index = 0; index < env->assignor_count; index++) {
        uint32_t votes = 0;
        MR_LIST_EACH(link, &group->consumer->members)
        {
            votes += mr_str_equal(MR_LIST_ENTRY(link, struct mr_consumer_member, link)->assignor,
                                  env->assignors[index])
                         ? 1u
                         : 0u;
        }
        if (votes > best_votes) {
            best = env->assignors[index];
            best_votes = votes;
        }
    }
    return best;
}
