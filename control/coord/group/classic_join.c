/*
 * classic_join: JoinGroup.
 */
#include "coord/group/classic.h"

int32_t mr_classic_join_rebalance_ms(const struct mr_request *request)
{
    const struct mr_join_group_request *join = request->message;
    return request->forward->api_version == 0 || join->rebalance_timeout_ms < 0
               ? join->session_timeout_ms
               : join->rebalance_timeout_ms;
}

/* `<prefix>-<uuid>`; null when there is no scratch or the id would be too long for a record. */
static struct mr_str new_member_id(const struct mr_group *group, const struct mr_request *request,
                                   struct mr_coord_out *out)
{
    static const char digits[] = "0123456789abcdef";
    const struct mr_join_group_request *join = request->message;
    struct mr_str prefix = mr_str_is_null(join->group_instance_id) ? request->forward->client_id
                                                                   : join->group_instance_id;
    size_t prefix_bytes = prefix.len > 0 ? (size_t)prefix.len : 0;
    char *text = mr_coord_scratch(out, prefix_bytes + 37);
    if (text == NULL || prefix_bytes + 37 > INT16_MAX) {
        return MR_STR_NULL;
    }
    struct mr_uuid id;
    mr_classic_env(group)->uuid(mr_classic_env(group)->uuid_user, &id);
    if (prefix_bytes > 0) {
        memcpy(text, prefix.data, prefix_bytes);
    }
    char *at = text + prefix_bytes;
    *at++ = '-';
    for (uint32_t index = 0; index < sizeof id.bytes; index++) {
        if (index == 4 || index == 6 || index == 8 || index == 10) {
            *at++ = '-';
        }
        *at++ = digits[id.bytes[index] >> 4];
        *at++ = digits[id.bytes[index] & 15];
    }
    return (struct mr_str){.data = text, .len = (int32_t)(at - text)};
}

static bool is_accepted(const struct mr_group *group, struct mr_str member_id)
{
    const struct mr_classic *classic = &group->classic_part;
    const struct mr_classic_member *member = mr_classic_find(group, member_id);
    int64_t max = mr_classic_env(group)->size_max;
    switch (classic->state) {
    case MR_CLASSIC_EMPTY:
        return true;
    case MR_CLASSIC_PREPARING:
        return (member != NULL && member->join != NULL) || classic->joined_count < max;
    case MR_CLASSIC_COMPLETING:
    case MR_CLASSIC_STABLE:
        return member != NULL || classic->member_count < max;
    }
    mr_unreachable("no such state");
}

static void add_member(struct mr_group *group, struct mr_str member_id, struct mr_request *request,
                       struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = mr_classic_env(group)->heap;
    struct mr_classic_protocols *protocols =
        mr_classic_protocols_new(heap, join->protocols_count, join->protocols);
    struct mr_str client_id =
        mr_str_is_null(request->forward->client_id) ? MR_STR("") : request->forward->client_id;
    struct mr_classic_member *pending = mr_classic_find_any(group, member_id);
    if (pending != NULL) {
        mr_assert(pending->is_pending);
        member_id = (struct mr_str){.data = mr_coord_scratch(out, (size_t)member_id.len),
                                    .len = member_id.len};
        if (member_id.data != NULL) {
            memcpy((char *)(uintptr_t)member_id.data, pending->id.data, (size_t)member_id.len);
            mr_classic_member_remove(pending, out);
        }
    }
    struct mr_classic_member *member =
        protocols == NULL || member_id.data == NULL
            ? NULL
            : mr_classic_member_new(group, member_id, join->group_instance_id, client_id,
                                    mr_group_client_host(request, out));
    if (member != NULL) {
        member->protocols = protocols;
        member->session_ms = join->session_timeout_ms;
        member->rebalance_ms = mr_classic_join_rebalance_ms(request);
        member->is_new = true;
        if (!mr_classic_member_enter(member, join->protocol_type)) {
            mr_table_remove(&group->shard->members, &member->node);
            mr_classic_member_free(member);
            member = NULL;
            protocols = NULL;
        }
    }
    if (member == NULL) {
        mr_classic_protocols_free(heap, protocols);
        mr_classic_answer_join_error(out, group->shard, request, join->member_id,
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if (classic->state == MR_CLASSIC_PREPARING && classic->is_initial) {
        classic->has_new_member = true;
    }
    mr_classic_await_join(member, request, out);
    mr_classic_session_begin(member, MR_CLASSIC_NEW_MEMBER_MS, out->now);
    mr_classic_rebalance_or_complete(group, out, "a member joined");
}

/* Replace what a member supports, and its timeouts. */
static bool update_member(struct mr_classic_member *member, struct mr_request *request)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_group *group = member->group;
    struct mr_classic_protocols *protocols = mr_classic_protocols_new(
        mr_classic_env(group)->heap, join->protocols_count, join->protocols);
    if (protocols == NULL || !mr_classic_names_add(group, protocols)) {
        mr_classic_protocols_free(mr_classic_env(group)->heap, protocols);
        return false;
    }
    mr_classic_names_drop(group, member->protocols);
    mr_classic_protocols_free(mr_classic_env(group)->heap, member->protocols);
    member->protocols = protocols;
    member->session_ms = join->session_timeout_ms;
    member->rebalance_ms = mr_classic_join_rebalance_ms(request);
    return true;
}

static void rejoin(struct mr_classic_member *member, struct mr_request *request,
                   struct mr_coord_out *out, const char *why)
{
    if (!update_member(member, request)) {
        mr_classic_answer_join_error(out, member->group->shard, request, member->id,
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    mr_classic_await_join(member, request, out);
    mr_classic_rebalance_or_complete(member->group, out, why);
}

/* A static member comes back without its member id: a restart. */
static void replace_static(struct mr_classic_member *member, struct mr_str new_id,
                           struct mr_request *request, struct mr_coord_out *out)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = mr_classic_env(group)->heap;
    struct mr_str old_id = member->id;
    struct mr_str id;
    struct mr_str new_leader = MR_STR_NULL;
    bool was_leader = mr_classic_leads(group, member);
    if (!mr_heap_str(heap, new_id, &id)) {
        mr_classic_answer_join_error(out, group->shard, request, MR_STR(""),
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if ((was_leader && !mr_heap_str(heap, new_id, &new_leader)) ||
        !update_member(member, request)) {
        mr_heap_str_free(heap, &id);
        mr_classic_answer_join_error(out, group->shard, request, MR_STR(""),
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    mr_classic_member_refuse(member, old_id, MR_KAFKA_FENCED_INSTANCE_ID, out);

    /* The old id lives on in answers of this step. */
    char *old_text = mr_coord_scratch(out, (size_t)old_id.len + 1);
    if (old_text != NULL) {
        memcpy(old_text, old_id.data, (size_t)old_id.len);
    }
    struct mr_str old_leader = classic->leader;
    if (was_leader && old_text != NULL) {
        old_leader = (struct mr_str){.data = old_text, .len = old_id.len};
    }
    for (struct mr_coord_answer *answer = out->answers; answer != NULL; answer = answer->next) {
        struct mr_join_group_response *fenced = (void *)(uintptr_t)answer->response;
        if (fenced != NULL && answer->request->forward->api_key == MR_API_JOIN_GROUP &&
            fenced->member_id.data == old_id.data) {
            fenced->member_id =
                (struct mr_str){.data = old_text, .len = old_text == NULL ? -1 : old_id.len};
        }
    }

    mr_table_remove(&group->shard->members, &member->node);
    mr_heap_str_free(heap, &member->id);
    member->id = id;
    mr_table_add(&group->shard->members, &member->node, mr_classic_member_hash(group, id));
    if (was_leader) {
        mr_heap_str_free(heap, &classic->leader);
        classic->leader = new_leader;
    }
    mr_classic_session_again(member, out->now);

    switch (classic->state) {
    case MR_CLASSIC_STABLE: {
        const struct mr_classic_name *chosen = mr_classic_choose(classic);
        if (chosen == NULL || !mr_str_equal(chosen->name, classic->protocol)) {
            mr_classic_await_join(member, request, out);
            mr_classic_prepare_rebalance(group, out,
                                         "a static member came back with other protocols");
            return;
        }
        /* No rebalance: the new id is written down, and the generation goes on. Before version 9 a
         * client that reads its own id as leader would assign anew, so it is told the old one. */
        if (!mr_group_record_metadata(group, classic->generation, out, false)) {
            mr_classic_answer_join_error(out, group->shard, request, MR_STR(""),
                                         MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        if (request->forward->api_version >= 9) {
            bool leads = mr_classic_leads(group, member);
            mr_classic_answer_join(out, member, request, MR_COORD_DURABLE, leads, classic->leader,
                                   leads);
        } else {
            mr_classic_answer_join(out, member, request, MR_COORD_DURABLE, false, old_leader,
                                   false);
        }
        return;
    }
    case MR_CLASSIC_COMPLETING:
        mr_classic_await_join(member, request, out);
        mr_classic_prepare_rebalance(group, out, "a static member came back");
        return;
    case MR_CLASSIC_PREPARING:
        mr_classic_await_join(member, request, out);
        mr_classic_complete_join_if_all(group, out);
        return;
    case MR_CLASSIC_EMPTY:
        break;
    }
    mr_unreachable("a member of an empty group");
}

static void join_new(struct mr_group *group, struct mr_request *request, struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_classic *classic = &group->classic_part;
    bool is_static = !mr_str_is_null(join->group_instance_id);
    struct mr_str id = new_member_id(group, request, out);
    if (mr_str_is_null(id)) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    if (is_static) {
        struct mr_classic_member *member = mr_classic_find_instance(group, join->group_instance_id);
        if (member != NULL) {
            replace_static(member, id, request, out);
        } else {
            add_member(group, id, request, out);
        }
        return;
    }
    if (request->forward->api_version < 4) {
        add_member(group, id, request, out);
        return;
    }
    /* KIP-394: who does not come back with the id does not hold up a rebalance for ever. */
    struct mr_classic_member *pending =
        mr_classic_member_new(group, id, MR_STR_NULL, MR_STR_NULL, MR_STR_NULL);
    if (pending == NULL) {
        mr_classic_answer_join_error(out, group->shard, request, MR_STR(""),
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    pending->is_pending = true;
    mr_list_add_tail(&classic->pending, &pending->link);
    classic->pending_count++;
    mr_classic_session_begin(pending, join->session_timeout_ms, out->now);
    mr_classic_answer_join_error(out, group->shard, request, id, MR_KAFKA_MEMBER_ID_REQUIRED);
}

static void join_known(struct mr_group *group, struct mr_request *request, struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    const struct mr_classic *classic = &group->classic_part;
    struct mr_classic_member *member = mr_classic_find_any(group, join->member_id);
    if (member != NULL && member->is_pending) {
        if (!mr_str_is_null(join->group_instance_id)) {
            mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        add_member(group, join->member_id, request, out);
        return;
    }
    int16_t error = mr_classic_check_member(group, join->member_id, join->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        mr_classic_answer_join_error(out, group->shard, request, join->member_id, error);
        return;
    }
    bool leads = mr_classic_leads(group, member);
    switch (classic->state) {
    case MR_CLASSIC_PREPARING:
        rejoin(member, request, out, "a member joined again");
        return;
    case MR_CLASSIC_COMPLETING:
        /* Its answer was lost, or it has changed its mind. */
        if (mr_classic_is_same_protocols(member->protocols, join)) {
            mr_classic_answer_join(out, member, request, MR_COORD_NOW, leads, classic->leader,
                                   false);
        } else {
            rejoin(member, request, out, "a member changed its metadata");
        }
        return;
    case MR_CLASSIC_STABLE:
        /* A leader joins because it saw a change in the topics. */
        if (leads || !mr_classic_is_same_protocols(member->protocols, join)) {
            rejoin(member, request, out,
                   leads ? "the leader joined again" : "a member changed its metadata");
        } else {
            mr_classic_answer_join(out, member, request, MR_COORD_NOW, false, classic->leader,
                                   false);
        }
        return;
    case MR_CLASSIC_EMPTY:
        mr_classic_answer_join_error(out, group->shard, request, join->member_id,
                                     MR_KAFKA_UNKNOWN_MEMBER_ID);
        return;
    }
}

/* A group of the new protocol: an empty one is replaced. */
static void join_consumer(const struct mr_group *group, struct mr_request *request,
                          struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    if (!mr_group_is_empty(group)) {
        mr_consumer_classic_join(group, request, out);
        return;
    }
    if (join->member_id.len > 0) {
        mr_classic_answer_join_error(out, group->shard, request, join->member_id,
                                     MR_KAFKA_UNKNOWN_MEMBER_ID);
        return;
    }
    if (!mr_consumer_record_tombstone(group, out) ||
        !mr_group_record_created(group->shard, group->id, out)) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    out->is_again = true;
}

void mr_classic_join(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_group_env *env = shard->env;
    if (join->group_id.len <= 0) {
        mr_classic_answer_join_error(out, shard, request, join->member_id,
                                     MR_KAFKA_INVALID_GROUP_ID);
        return;
    }
    if (join->session_timeout_ms < env->min_session_ms ||
        join->session_timeout_ms > env->max_session_ms) {
        mr_classic_answer_join_error(out, shard, request, join->member_id,
                                     MR_KAFKA_INVALID_SESSION_TIMEOUT);
        return;
    }
    bool is_unknown = join->member_id.len == 0;
    struct mr_group *group = mr_group_find(shard, join->group_id);
    if (group == NULL) {
        if (!is_unknown) {
            mr_classic_answer_join_error(out, shard, request, join->member_id,
                                         MR_KAFKA_UNKNOWN_MEMBER_ID);
            return;
        }
        if (join->protocol_type.len <= 0 || join->protocols_count <= 0 ||
            join->protocols_count > MR_CLASSIC_PROTOCOLS_MAX) {
            mr_classic_answer_join_error(out, shard, request, MR_STR(""),
                                         MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL);
            return;
        }
        if (mr_group_limit(env, true, out->now) != NULL ||
            !mr_group_record_created(shard, join->group_id, out)) {
            mr_classic_answer_join_error(out, shard, request, MR_STR(""),
                                         MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
            return;
        }
        out->is_again = true; /* the record makes the group; then join it */
        return;
    }
    if (group->consumer != NULL) {
        join_consumer(group, request, out);
        return;
    }
    if (!is_accepted(group, join->member_id)) {
        /* As Kafka: a member that comes back too late loses its place. */
        struct mr_classic_member *member = mr_classic_find_any(group, join->member_id);
        if (member != NULL) {
            mr_classic_member_remove(member, out);
        }
        if (mr_log_may(&env->full_brake, out->now.mono_ns, MR_NS_PER_S)) {
            mr_log(env->log, MR_LOG_WARN, "a group has no room for more members group=%.*s limit=group.max.size",
                   (int)join->group_id.len, join->group_id.data);
        }
        mr_classic_answer_join_error(out, shard, request, MR_STR(""),
                                     MR_KAFKA_GROUP_MAX_SIZE_REACHED);
        return;
    }
    if (is_unknown && mr_group_limit(env, true, out->now) != NULL) {
        mr_classic_answer_join_error(out, shard, request, MR_STR(""),
                                     MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if (!mr_classic_is_supported(group, join)) {
        mr_classic_answer_join_error(out, shard, request, join->member_id,
                                     MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    if (is_unknown) {
        join_new(group, request, out);
    } else {
        join_known(group, request, out);
    }
}
