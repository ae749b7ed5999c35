/*
 * classic_settle: replay of a generation's record, and what follows a load.
 */
#include "coord/group/classic.h"

static enum mr_err settle_member(struct mr_group *group,
                                 const struct mr_group_metadata_value *value,
                                 const struct mr_group_metadata_value_member_metadata *from)
{
    struct mr_classic_member *member = mr_classic_find(group, from->member_id);
    if (member == NULL) {
        /* Only on loading, with the one protocol that was chosen. */
        struct mr_join_group_request_protocol protocol = {
            .name = mr_str_is_null(value->protocol) ? MR_STR("") : value->protocol,
            .metadata = from->subscription,
        };
        member = mr_classic_member_new(group, from->member_id, from->group_instance_id,
                                       from->client_id, from->client_host);
        if (member == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        member->protocols = mr_classic_protocols_new(mr_classic_env(group)->heap, 1, &protocol);
        if (member->protocols == NULL || !mr_classic_member_enter(member, value->protocol_type)) {
            mr_table_remove(&group->shard->members, &member->node);
            mr_classic_member_free(member);
            return MR_ERR_NO_MEMORY;
        }
        member->session_ms = from->session_timeout;
        member->rebalance_ms =
            from->rebalance_timeout < 0 ? from->session_timeout : from->rebalance_timeout;
    }
    return mr_classic_member_set_assignment(member, from->assignment) ? MR_OK : MR_ERR_NO_MEMORY;
}

static bool is_in(const struct mr_group_metadata_value *value,
                  const struct mr_classic_member *member)
{
    for (int32_t index = 0; index < value->members_count; index++) {
        if (mr_str_equal(value->members[index].member_id, member->id)) {
            return true;
        }
    }
    return false;
}

/* Whether the record is of exactly those who are members, in their order: so it is when it is our
 * own. */
static bool is_of_members(const struct mr_classic *classic,
                          const struct mr_group_metadata_value *value)
{
    int32_t at = 0;
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (at == value->members_count || !mr_str_equal(value->members[at].member_id, member->id)) {
            return false;
        }
        at++;
    }
    return at == value->members_count;
}

enum mr_err mr_classic_settle(struct mr_group *group, const struct mr_group_metadata_value *value)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_str type = value->protocol_type.len <= 0 ? MR_STR_NULL : value->protocol_type;
    bool is_same = is_of_members(classic, value);
    if (!is_same) {
        MR_LIST_EACH_SAFE(link, after, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            if (!is_in(value, member)) {
                mr_classic_member_remove(member, NULL);
            }
        }
    }
    for (int32_t index = 0; index < value->members_count; index++) {
        enum mr_err err = settle_member(group, value, &value->members[index]);
        if (err != MR_OK) {
            return err;
        }
        if (!is_same) { /* in the record's order, whoever was there before */
            struct mr_classic_member *member = mr_classic_find(group, value->members[index].member_id);
            mr_list_remove(&member->link);
            mr_list_add_tail(&classic->members, &member->link);
        }
    }
    if (!mr_classic_set_str(group, &classic->protocol_type, type) ||
        !mr_classic_set_str(group, &classic->protocol, value->protocol) ||
        !mr_classic_set_str(group, &classic->leader, value->leader)) {
        return MR_ERR_NO_MEMORY;
    }
    classic->generation = value->generation;
    classic->state_ms = value->current_state_timestamp;
    classic->is_initial = false;
    classic->state = classic->member_count == 0 ? MR_CLASSIC_EMPTY : MR_CLASSIC_STABLE;
    return MR_OK;
}

void mr_classic_loaded(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    MR_LIST_EACH(link, &classic->members)
    {
        mr_classic_session_again(MR_LIST_ENTRY(link, struct mr_classic_member, link), out->now);
    }
    if (classic->member_count > mr_classic_env(group)->size_max) {
        mr_classic_prepare_rebalance(group, out, "more members than group.max.size");
    }
}
