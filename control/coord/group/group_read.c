/*
 * group_read: what administration sees of groups: describe, list, delete.
 */
#include "coord/group/group.h"
#include "millrace/base/bug.h"


void mr_group_describe(const struct mr_group_shard *shard, struct mr_str id, int16_t version,
                       bool is_operations_wanted, struct mr_coord_out *out,
                       struct mr_describe_groups_response_described_group *described)
{
    const struct mr_group *group = mr_group_find(shard, id);
    described->group_id = id;
    described->authorized_operations = is_operations_wanted ? MR_GROUP_OPERATIONS : INT32_MIN;
    if (group == NULL || group->consumer != NULL) {
        described->group_state = MR_STR("Dead");
        if (version >= 6) {
            described->authorized_operations = INT32_MIN;
            described->error_code = MR_KAFKA_GROUP_ID_NOT_FOUND;
            described->error_message = group == NULL ? MR_STR("The group id does not exist.")
                                                     : MR_STR("The group is not a classic group.");
        }
        return;
    }
    const struct mr_classic *classic = &group->classic_part;
    bool is_stable = classic->state == MR_CLASSIC_STABLE;
    described->group_state = mr_group_state_name(group);
    described->protocol_type =
        mr_str_is_null(classic->protocol_type) ? MR_STR("") : classic->protocol_type;
    if (is_stable && !mr_str_is_null(classic->protocol)) {
        described->protocol_data = classic->protocol;
    }
    described->members = MR_COORD_NEW(
        out, struct mr_describe_groups_response_described_group_member, classic->member_count);
    if (described->members == NULL) {
        described->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
        return;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        described->members[described->members_count++] =
            (struct mr_describe_groups_response_described_group_member){
                .member_id = member->id,
                .group_instance_id = member->instance_id,
                .client_id = member->client_id,
                .client_host = member->client_host,
                .member_metadata = is_stable ? mr_classic_metadata(member, classic->protocol)
                                             : (struct mr_blob){.data = (const uint8_t *)""},
                .member_assignment = member->assignment,
            };
    }
}

static bool is_word(struct mr_str a, struct mr_str b)
{
    for (int32_t index = 0; a.len == b.len && index < a.len; index++) {
        char x = a.data[index] >= 'A' && a.data[index] <= 'Z' ? (char)(a.data[index] + 32)
                                                              : a.data[index];
        char y = b.data[index] >= 'A' && b.data[index] <= 'Z' ? (char)(b.data[index] + 32)
                                                              : b.data[index];
        if (x != y) {
            return false;
        }
    }
    return a.len == b.len;
}

static bool passes(const struct mr_str *filter, int32_t count, struct mr_str word)
{
    for (int32_t index = 0; index < count; index++) {
        if (is_word(filter[index], word)) {
            return true;
        }
    }
    return count <= 0;
}

uint32_t mr_group_list(const struct mr_group_shard *shard, uint32_t slice, uint32_t slices,
                       const struct mr_list_groups_request *request,
                       struct mr_list_groups_response_listed_group *listed, uint32_t listed_max)
{
    uint32_t count = 0;
    for (struct mr_table_node *node = mr_table_walk_slice(&shard->groups, slice, slices, NULL);
         node != NULL; node = mr_table_walk_slice(&shard->groups, slice, slices, node)) {
        const struct mr_group *group = MR_TABLE_ENTRY(node, struct mr_group, node);
        struct mr_str state = mr_group_state_name(group);
        struct mr_str type = mr_group_type_name(group);
        struct mr_str protocol =
            group->consumer != NULL ? MR_STR("consumer") : group->classic_part.protocol_type;
        if ((!passes(request->states_filter, request->states_filter_count, state) ||
             !passes(request->types_filter, request->types_filter_count, type)) &&
            !mr_bug("list-every-group")) {
            continue;
        }
        if (listed != NULL && count < listed_max) {
            listed[count] = (struct mr_list_groups_response_listed_group){
                .group_id = group->id,
                .protocol_type = mr_str_is_null(protocol) ? MR_STR("") : protocol,
                .group_state = state,
                .group_type = type,
            };
        }
        count++;
    }
    return count;
}

int16_t mr_group_delete(const struct mr_group_shard *shard, struct mr_str id,
                        struct mr_coord_out *out)
{
    const struct mr_group *group = mr_group_find(shard, id);
    if (group == NULL) {
        return MR_KAFKA_GROUP_ID_NOT_FOUND;
    }
    if (!mr_group_is_empty(group)) {
        return MR_KAFKA_NON_EMPTY_GROUP;
    }
    if (!mr_offsets_delete_all(group, out) || !mr_group_record_gone(group, out) ||
        mr_coord_out_bytes(out) > shard->env->record_bytes_max) {
        mr_coord_out_forget_records(out);
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    return MR_KAFKA_NONE;
}
