/*
 * classic_member: members of a classic group: finding them, their sessions, coming and going.
 *
 * A request that waits (join, sync) belongs to its member and is answered exactly once: when the
 * phase ends, when the member is replaced, removed or asks again, or when the shard is dropped.
 */
#include "coord/group/classic.h"
#include "millrace/base/bug.h"

uint64_t mr_classic_member_hash(const struct mr_group *group, struct mr_str id)
{
    return mr_hash_str(&mr_classic_env(group)->hash_key, id) ^ group->node.hash;
}

/* A member or a pending id; NULL when absent. */
struct mr_classic_member *mr_classic_find_any(const struct mr_group *group, struct mr_str id)
{
    for (struct mr_table_node *node =
             mr_table_first(&group->shard->members, mr_classic_member_hash(group, id));
         node != NULL; node = mr_table_next(node)) {
        struct mr_classic_member *member = MR_TABLE_ENTRY(node, struct mr_classic_member, node);
        if (member->group == group && mr_str_equal(member->id, id)) {
            return member;
        }
    }
    return NULL;
}

struct mr_classic_member *mr_classic_find(const struct mr_group *group, struct mr_str id)
{
    struct mr_classic_member *member = mr_classic_find_any(group, id);
    return member == NULL || member->is_pending ? NULL : member;
}

struct mr_classic_member *mr_classic_find_instance(const struct mr_group *group,
                                                   struct mr_str instance_id)
{
    const struct mr_classic *classic = &group->classic_part;
    if (classic->static_count == 0) {
        return NULL;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (!mr_str_is_null(member->instance_id) &&
            mr_str_equal(member->instance_id, instance_id)) {
            return member;
        }
    }
    return NULL;
}

bool mr_classic_leads(const struct mr_group *group, const struct mr_classic_member *member)
{
    return mr_str_equal(group->classic_part.leader, member->id);
}

int16_t mr_classic_check_member(const struct mr_group *group, struct mr_str member_id,
                                struct mr_str instance_id)
{
    const struct mr_classic_member *member = mr_classic_find(group, member_id);
    if (!mr_str_is_null(instance_id)) {
        if (member != NULL && mr_str_equal(member->instance_id, instance_id)) {
            return MR_KAFKA_NONE;
        }
        return mr_classic_find_instance(group, instance_id) == NULL || mr_bug("no-fencing")
                   ? MR_KAFKA_UNKNOWN_MEMBER_ID
                   : MR_KAFKA_FENCED_INSTANCE_ID;
    }
    return member == NULL ? MR_KAFKA_UNKNOWN_MEMBER_ID : MR_KAFKA_NONE;
}

/* ---- timers ---- */

void mr_classic_session_begin(struct mr_classic_member *member, int64_t ms, struct mr_now now)
{
    mr_timer_set(mr_classic_env(member->group)->timers, &member->session.timer,
                 mr_deadline_ms(now.mono_ns, ms));
}

void mr_classic_session_again(struct mr_classic_member *member, struct mr_now now)
{
    mr_classic_session_begin(member, member->session_ms, now);
}

void mr_classic_touch(const struct mr_group *group, struct mr_str member_id, struct mr_now now)
{
    struct mr_classic_member *member = mr_classic_find(group, member_id);
    if (member != NULL) {
        mr_classic_session_again(member, now);
    }
}

void mr_classic_rebalance_timer(struct mr_group *group, int64_t ms, struct mr_now now)
{
    mr_timer_set(mr_classic_env(group)->timers, &group->classic_part.rebalance.timer,
                 mr_deadline_ms(now.mono_ns, ms));
}

void mr_classic_rebalance_timer_off(struct mr_group *group)
{
    mr_timer_cancel(mr_classic_env(group)->timers, &group->classic_part.rebalance.timer);
}

int32_t mr_classic_rebalance_ms(const struct mr_classic *classic)
{
    int32_t longest = 0;
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        longest = member->rebalance_ms > longest ? member->rebalance_ms : longest;
    }
    return longest;
}

/* ---- coming and going ---- */

bool mr_classic_set_str(struct mr_group *group, struct mr_str *at, struct mr_str value)
{
    struct mr_str copy;
    if (!mr_heap_str(mr_classic_env(group)->heap, value, &copy)) {
        return false;
    }
    mr_heap_str_free(mr_classic_env(group)->heap, at);
    *at = copy;
    return true;
}

void mr_classic_member_free(struct mr_classic_member *member)
{
    struct mr_group_env *env = mr_classic_env(member->group);
    mr_timer_cancel(env->timers, &member->session.timer);
    mr_classic_protocols_free(env->heap, member->protocols);
    mr_heap_str_free(env->heap, &member->id);
    mr_heap_str_free(env->heap, &member->instance_id);
    mr_heap_str_free(env->heap, &member->client_id);
    mr_heap_str_free(env->heap, &member->client_host);
    if (member->assignment.len > 0) {
        mr_heap_free(env->heap, (void *)(uintptr_t)member->assignment.data,
                     (size_t)member->assignment.len);
    }
    MR_HEAP_DELETE(env->heap, member);
    env->timers_reserved -= 2;
}

/* A member in no list yet. NULL: no memory or no room for its timers. */
struct mr_classic_member *mr_classic_member_new(struct mr_group *group, struct mr_str id,
                                                struct mr_str instance_id, struct mr_str client_id,
                                                struct mr_str client_host)
{
    struct mr_group_env *env = mr_classic_env(group);
    if (env->timers_reserved + 2 > env->timers_max || mr_fail(MR_FAIL_timers)) {
        return NULL;
    }
    struct mr_classic_member *member = MR_HEAP_NEW(env->heap, struct mr_classic_member);
    if (member == NULL) {
        return NULL;
    }
    env->timers_reserved += 2;
    member->group = group;
    member->id = member->instance_id = member->client_id = member->client_host = MR_STR_NULL;
    member->assignment = mr_classic_no_assignment;
    mr_list_init(&member->link);
    member->session.timer.kind = MR_GROUP_TIMER_SESSION;
    member->session.fire = env->fire;
    member->session.user = member;
    if (!mr_heap_str(env->heap, id, &member->id) ||
        !mr_heap_str(env->heap, instance_id, &member->instance_id) ||
        !mr_heap_str(env->heap, client_id, &member->client_id) ||
        !mr_heap_str(env->heap, client_host, &member->client_host)) {
        /* What was not copied still points to the caller's bytes. */
        if (member->client_id.data == client_id.data) {
            member->client_id = MR_STR_NULL;
        }
        if (member->client_host.data == client_host.data) {
            member->client_host = MR_STR_NULL;
        }
        if (member->instance_id.data == instance_id.data) {
            member->instance_id = MR_STR_NULL;
        }
        if (member->id.data == id.data) {
            member->id = MR_STR_NULL;
        }
        mr_classic_member_free(member);
        return NULL;
    }
    mr_table_add(&group->shard->members, &member->node, mr_classic_member_hash(group, member->id));
    return member;
}

bool mr_classic_member_set_assignment(struct mr_classic_member *member, struct mr_blob assignment)
{
    struct mr_heap *heap = mr_classic_env(member->group)->heap;
    struct mr_blob copy = mr_classic_no_assignment;
    if (assignment.len > 0) {
        uint8_t *bytes = mr_heap_try(heap, (size_t)assignment.len);
        if (bytes == NULL) {
            return false;
        }
        memcpy(bytes, assignment.data, (size_t)assignment.len);
        copy = (struct mr_blob){.data = bytes, .len = assignment.len};
    }
    if (member->assignment.len > 0) {
        mr_heap_free(heap, (void *)(uintptr_t)member->assignment.data,
                     (size_t)member->assignment.len);
    }
    member->assignment = copy;
    return true;
}

/* Put a member that has its protocols among the members. */
bool mr_classic_member_enter(struct mr_classic_member *member, struct mr_str protocol_type)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    if (classic->member_count == 0 &&
        !mr_classic_set_str(group, &classic->protocol_type, protocol_type)) {
        return false;
    }
    if (mr_str_is_null(classic->leader) &&
        !mr_classic_set_str(group, &classic->leader, member->id)) {
        return false;
    }
    if (!mr_classic_names_add(group, member->protocols)) {
        return false;
    }
    mr_list_add_tail(&classic->members, &member->link);
    classic->member_count++;
    classic->static_count += mr_str_is_null(member->instance_id) ? 0 : 1;
    return true;
}

/* Take the waiting join of a member. */
struct mr_request *mr_classic_take_join(struct mr_classic_member *member)
{
    struct mr_request *request = member->join;
    if (request != NULL) {
        member->join = NULL;
        member->group->classic_part.joined_count--;
    }
    return request;
}

void mr_classic_await_join(struct mr_classic_member *member, struct mr_request *request,
                           struct mr_coord_out *out)
{
    /* An older join of the same member comes from a connection that its client has given up. */
    struct mr_request *older = mr_classic_take_join(member);
    if (older != NULL) {
        mr_classic_answer_join_error(out, member->group->shard, older, member->id,
                                     MR_KAFKA_REBALANCE_IN_PROGRESS);
    }
    member->join = request;
    member->group->classic_part.joined_count++;
}

/* Answer what a member waits for, when it does not get it. */
void mr_classic_member_refuse(struct mr_classic_member *member, struct mr_str join_id,
                              int16_t error, struct mr_coord_out *out)
{
    struct mr_request *join = mr_classic_take_join(member);
    if (join != NULL) {
        mr_classic_answer_join_error(out, member->group->shard, join, join_id, error);
    }
    if (member->sync != NULL) {
        mr_classic_answer_sync(out, member->group, member->sync, error, mr_classic_no_assignment);
        member->sync = NULL;
    }
}

/* Forget a member or a pending id. The leader's place goes to the oldest that is left. */
void mr_classic_member_remove(struct mr_classic_member *member, struct mr_coord_out *out)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    mr_table_remove(&group->shard->members, &member->node);
    mr_list_remove(&member->link);
    if (member->is_pending) {
        classic->pending_count--;
        mr_classic_member_free(member);
        return;
    }
    if (member->join != NULL || member->sync != NULL) {
        mr_assert(out != NULL);
        mr_classic_member_refuse(member, MR_STR(""), MR_KAFKA_UNKNOWN_MEMBER_ID, out);
    }
    mr_classic_names_drop(group, member->protocols);
    classic->member_count--;
    classic->static_count -= mr_str_is_null(member->instance_id) ? 0 : 1;
    if (mr_classic_leads(group, member)) {
        struct mr_str next = MR_STR_NULL;
        if (!mr_list_is_empty(&classic->members)) {
            next = MR_LIST_ENTRY(classic->members.next, struct mr_classic_member, link)->id;
        }
        if (!mr_classic_set_str(group, &classic->leader, next)) {
            mr_heap_str_free(mr_classic_env(group)->heap, &classic->leader);
        }
    }
    mr_classic_member_free(member);
}

bool mr_classic_init(struct mr_classic *classic)
{
    classic->state = MR_CLASSIC_EMPTY;
    classic->state_ms = -1;
    classic->protocol_type = classic->protocol = classic->leader = MR_STR_NULL;
    mr_list_init(&classic->members);
    mr_list_init(&classic->pending);
    mr_list_init(&classic->names);
    return true;
}

void mr_classic_deinit(struct mr_group *group, struct mr_coord_out *out, int16_t error)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = mr_classic_env(group)->heap;
    MR_LIST_EACH_SAFE(link, after, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->join != NULL || member->sync != NULL) {
            /* The step that removes a group has asked everybody to leave; only a drop has waiters.
             */
            mr_assert(out != NULL);
            struct mr_request *join = mr_classic_take_join(member);
            if (join != NULL) {
                mr_coord_out_refuse(out, join, error);
            }
            if (member->sync != NULL) {
                mr_coord_out_refuse(out, member->sync, error);
                member->sync = NULL;
            }
        }
        mr_classic_member_remove(member, out);
    }
    MR_LIST_EACH_SAFE(link, after, &classic->pending)
    {
        mr_classic_member_remove(MR_LIST_ENTRY(link, struct mr_classic_member, link), out);
    }
    mr_classic_rebalance_timer_off(group);
    mr_heap_str_free(heap, &classic->protocol_type);
    mr_heap_str_free(heap, &classic->protocol);
    mr_heap_str_free(heap, &classic->leader);
    mr_assert(mr_list_is_empty(&classic->names));
}
