/*
 * consumer: groups of the new protocol, their members, and who owns which partition.
 */
#include "coord/group/classic.h"
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

static struct mr_group_env *env_of(const struct mr_group *group)
{
    return group->shard->env;
}

/* ---- groups ---- */

bool mr_consumer_is_enabled(const struct mr_group_env *env)
{
    return env->image != NULL &&
           mr_image_feature_level(env->image, MR_STR("group.version")) >= 1;
}

struct mr_consumer *mr_consumer_make(struct mr_group *group)
{
    if (group->consumer != NULL) {
        return group->consumer;
    }
    struct mr_heap *heap = env_of(group)->heap;
    struct mr_consumer *consumer = MR_HEAP_NEW(heap, struct mr_consumer);
    if (consumer == NULL || !mr_table_init(&consumer->owners, heap)) {
        mr_heap_free(heap, consumer, sizeof *consumer);
        return NULL;
    }
    mr_list_init(&consumer->members);
    mr_list_init(&consumer->shells);
    mr_list_init(&consumer->regexes);
    mr_group_forget_classic(group);
    group->consumer = consumer;
    return consumer;
}

void mr_consumer_deinit(struct mr_group *group)
{
    struct mr_consumer *consumer = group->consumer;
    if (consumer == NULL) {
        return;
    }
    MR_LIST_EACH_SAFE(link, after, &consumer->members)
    {
        mr_consumer_member_free(MR_LIST_ENTRY(link, struct mr_consumer_member, link));
    }
    MR_LIST_EACH_SAFE(link, after, &consumer->shells)
    {
        mr_consumer_member_free(MR_LIST_ENTRY(link, struct mr_consumer_member, link));
    }
    mr_consumer_regex_free_all(group);
    mr_assert(consumer->owners.used == 0);
    mr_table_deinit(&consumer->owners);
    MR_HEAP_DELETE(env_of(group)->heap, consumer);
    group->consumer = NULL;
}

int64_t mr_consumer_setting(const struct mr_group *group, enum mr_group_config_id id)
{
    const struct mr_group_env *env = env_of(group);
    return env->setting(env->setting_user, group->id, id);
}

struct mr_str mr_consumer_state_name(const struct mr_group *group)
{
    const struct mr_consumer *consumer = group->consumer;
    if (consumer->member_count == 0) {
        return MR_STR("Empty");
    }
    if (consumer->epoch > consumer->assignment_epoch) {
        return MR_STR("Assigning");
    }
    MR_LIST_EACH(link, &consumer->members)
    {
        const struct mr_consumer_member *member =
            MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (member->state != MR_CONSUMER_STABLE || member->epoch != consumer->assignment_epoch) {
            return MR_STR("Reconciling");
        }
    }
    return MR_STR("Stable");
}

bool mr_consumer_is_empty(const struct mr_group *group)
{
    return group->consumer->member_count == 0;
}

/* ---- members ---- */

static uint64_t member_hash(const struct mr_group *group, struct mr_str id)
{
    return mr_hash_str(&env_of(group)->hash_key, id) ^ group->node.hash;
}

struct mr_consumer_member *mr_consumer_find_any(const struct mr_group *group, struct mr_str id)
{
    for (struct mr_table_node *node =
             mr_table_first(&group->shard->consumers, member_hash(group, id));
         node != NULL; node = mr_table_next(node)) {
        struct mr_consumer_member *member = MR_TABLE_ENTRY(node, struct mr_consumer_member, node);
        if (member->group == group && mr_str_equal(member->id, id)) {
            return member;
        }
    }
    return NULL;
}

struct mr_consumer_member *mr_consumer_find(const struct mr_group *group, struct mr_str id)
{
    struct mr_consumer_member *member = mr_consumer_find_any(group, id);
    return member == NULL || !member->is_member ? NULL : member;
}

struct mr_consumer_member *mr_consumer_find_instance(const struct mr_group *group,
                                                     struct mr_str instance_id)
{
    if (group->consumer->static_count == 0) {
        return NULL;
    }
    MR_LIST_EACH(link, &group->consumer->members)
    {
        struct mr_consumer_member *member = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (!mr_str_is_null(member->instance_id) &&
            mr_str_equal(member->instance_id, instance_id)) {
            return member;
        }
    }
    return NULL;
}

static void timer_init(struct mr_consumer_member *member, struct mr_control_timer *timer,
                       enum mr_group_timer_kind kind)
{
    timer->timer.kind = kind;
    timer->fire = env_of(member->group)->fire;
    timer->user = member;
}

struct mr_consumer_member *mr_consumer_get_or_make(struct mr_group *group, struct mr_str id)
{
    struct mr_consumer_member *member = mr_consumer_find_any(group, id);
    struct mr_group_env *env = env_of(group);
    if (member != NULL || env->timers_reserved + 2 > env->timers_max || mr_fail(MR_FAIL_timers)) {
        return member;
    }
    member = MR_HEAP_NEW(env->heap, struct mr_consumer_member);
    if (member == NULL || !mr_heap_str(env->heap, id, &member->id)) {
        mr_heap_free(env->heap, member, sizeof *member);
        return NULL;
    }
    env->timers_reserved += 2;
    member->group = group;
    member->instance_id = member->rack_id = member->client_id = member->client_host = MR_STR_NULL;
    member->assignor = member->regex = MR_STR_NULL;
    timer_init(member, &member->session, MR_GROUP_TIMER_CONSUMER_SESSION);
    timer_init(member, &member->rebalance, MR_GROUP_TIMER_CONSUMER_REBALANCE);
    mr_list_add_tail(&group->consumer->shells, &member->link);
    mr_table_add(&group->shard->consumers, &member->node, member_hash(group, id));
    return member;
}

void mr_consumer_member_free(struct mr_consumer_member *member)
{
    struct mr_group *group = member->group;
    struct mr_group_env *env = env_of(group);
    mr_consumer_disown(member);
    mr_consumer_set_member(member, false);
    mr_timer_cancel(env->timers, &member->session.timer);
    mr_timer_cancel(env->timers, &member->rebalance.timer);
    mr_list_remove(&member->link);
    mr_table_remove(&group->shard->consumers, &member->node);
    mr_parts_free(env->heap, &member->assigned);
    mr_parts_free(env->heap, &member->pending);
    mr_parts_free(env->heap, &member->target);
    mr_consumer_names_free(env->heap, member->names);
    mr_classic_protocols_free(env->heap, member->classic);
    mr_heap_str_free(env->heap, &member->id);
    mr_heap_str_free(env->heap, &member->instance_id);
    mr_heap_str_free(env->heap, &member->rack_id);
    mr_heap_str_free(env->heap, &member->client_id);
    mr_heap_str_free(env->heap, &member->client_host);
    mr_heap_str_free(env->heap, &member->assignor);
    mr_heap_str_free(env->heap, &member->regex);
    MR_HEAP_DELETE(env->heap, member);
    env->timers_reserved -= 2;
}

void mr_consumer_set_member(struct mr_consumer_member *member, bool is_member)
{
    struct mr_consumer *consumer = member->group->consumer;
    if (member->is_member == is_member) {
        return;
    }
    member->is_member = is_member;
    mr_list_remove(&member->link);
    mr_list_add_tail(is_member ? &consumer->members : &consumer->shells, &member->link);
    consumer->member_count += is_member ? 1u : -1u;
    if (!mr_str_is_null(member->instance_id)) {
        consumer->static_count += is_member ? 1u : -1u;
    }
}

void mr_consumer_session_again(struct mr_consumer_member *member, struct mr_now now)
{
    int64_t ms = member->classic != NULL
                     ? member->classic_session_ms
                     : mr_consumer_setting(member->group, MR_GROUP_CONFIG_session_ms);
    mr_timer_set(env_of(member->group)->timers, &member->session.timer,
                 mr_deadline_ms(now.mono_ns, mr_bug("session-ends-early") ? ms / 4 : ms));
}

void mr_consumer_rebalance_timer(struct mr_consumer_member *member, bool is_on, struct mr_now now)
{
    struct mr_timers *timers = env_of(member->group)->timers;
    if (is_on) {
        mr_timer_set(timers, &member->rebalance.timer,
                     mr_deadline_ms(now.mono_ns, member->rebalance_ms > 0 ? member->rebalance_ms : 0));
    } else {
        mr_timer_cancel(timers, &member->rebalance.timer);
    }
}

void mr_consumer_loaded(struct mr_group *group, struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &group->consumer->members)
    {
        struct mr_consumer_member *member = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        mr_consumer_session_again(member, out->now);
        mr_consumer_rebalance_timer(member, member->state == MR_CONSUMER_UNREVOKED, out->now);
    }
}

/* ---- owners ---- */

static uint64_t owner_hash(const struct mr_group *group, const struct mr_part *part)
{
    return mr_hash_bytes(&env_of(group)->hash_key, part->topic_id.bytes,
                         sizeof part->topic_id.bytes) ^
           mr_hash_u64((uint64_t)(uint32_t)part->partition);
}

static struct mr_consumer_owner *find_owner(const struct mr_group *group,
                                            const struct mr_part *part)
{
    for (struct mr_table_node *node =
             mr_table_first(&group->consumer->owners, owner_hash(group, part));
         node != NULL; node = mr_table_next(node)) {
        struct mr_consumer_owner *owner = MR_TABLE_ENTRY(node, struct mr_consumer_owner, node);
        if (owner->partition == part->partition &&
            mr_uuid_equal(&owner->topic_id, &part->topic_id)) {
            return owner;
        }
    }
    return NULL;
}

const struct mr_consumer_member *mr_consumer_owner(const struct mr_group *group,
                                                   const struct mr_part *part)
{
    const struct mr_consumer_owner *owner = find_owner(group, part);
    return owner == NULL ? NULL : owner->member;
}

static void disown_set(struct mr_consumer_member *member, const struct mr_parts *set)
{
    for (uint32_t at = 0; at < set->count; at++) {
        struct mr_consumer_owner *owner = find_owner(member->group, &set->items[at]);
        if (owner != NULL && owner->member == member) {
            mr_table_remove(&member->group->consumer->owners, &owner->node);
            MR_HEAP_DELETE(env_of(member->group)->heap, owner);
        }
    }
}

/* The newest record wins: a log may have lost the one by which the partition was given back. */
static bool own_set(struct mr_consumer_member *member, const struct mr_parts *set)
{
    for (uint32_t at = 0; at < set->count; at++) {
        struct mr_consumer_owner *owner = find_owner(member->group, &set->items[at]);
        if (owner == NULL) {
            owner = MR_HEAP_NEW(env_of(member->group)->heap, struct mr_consumer_owner);
            if (owner == NULL) {
                return false;
            }
            owner->topic_id = set->items[at].topic_id;
            owner->partition = set->items[at].partition;
            mr_table_add(&member->group->consumer->owners, &owner->node,
                         owner_hash(member->group, &set->items[at]));
        }
        owner->member = member;
    }
    return true;
}

void mr_consumer_disown(struct mr_consumer_member *member)
{
    disown_set(member, &member->assigned);
    disown_set(member, &member->pending);
}

bool mr_consumer_own(struct mr_consumer_member *member)
{
    return mr_bug("nobody-owns") ||
           (own_set(member, &member->assigned) &&
            (mr_bug("pending-is-free") || own_set(member, &member->pending)));
}

struct mr_group *mr_consumer_group_of(const struct mr_consumer_member *member)
{
    return member->group;
}
