/*
 * classic_answer: the answers to JoinGroup and SyncGroup.
 */
#include "coord/group/classic.h"

void mr_classic_join_error(const struct mr_request *request, int16_t error,
                           struct mr_join_group_response *response)
{
    MR_DEFAULTS(join_group_response, response);
    response->error_code = error;
    if (request->forward->api_version >= 7) {
        response->protocol_name = MR_STR_NULL;
    }
}

void mr_classic_answer_join_error(struct mr_coord_out *out, const struct mr_group_shard *shard,
                                  struct mr_request *request, struct mr_str member_id,
                                  int16_t error)
{
    struct mr_join_group_response *response = MR_COORD_NEW(out, struct mr_join_group_response, 1);
    if (response != NULL) {
        mr_classic_join_error(request, error, response);
        response->member_id = member_id;
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
}

static void fill_members(const struct mr_group *group, struct mr_coord_out *out,
                         struct mr_join_group_response *response)
{
    const struct mr_classic *classic = &group->classic_part;
    response->members =
        MR_COORD_NEW(out, struct mr_join_group_response_member, classic->member_count);
    if (response->members == NULL) {
        return;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        response->members[response->members_count++] = (struct mr_join_group_response_member){
            .member_id = member->id,
            .group_instance_id = member->instance_id,
            .metadata = mr_classic_metadata(member, classic->protocol),
        };
    }
}

/* The generation as it is. */
void mr_classic_answer_join(struct mr_coord_out *out, const struct mr_classic_member *member,
                            struct mr_request *request, enum mr_coord_when when,
                            bool is_with_members, struct mr_str leader, bool is_skip_assignment)
{
    const struct mr_group *group = member->group;
    const struct mr_classic *classic = &group->classic_part;
    struct mr_join_group_response *response = MR_COORD_NEW(out, struct mr_join_group_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(join_group_response, response);
        response->generation_id = classic->generation;
        response->protocol_type = classic->protocol_type;
        response->protocol_name = classic->protocol;
        response->leader = mr_str_is_null(leader) ? MR_STR("") : leader;
        response->skip_assignment = is_skip_assignment;
        response->member_id = member->id;
        if (is_with_members) {
            fill_members(group, out, response);
            response = response->members == NULL ? NULL : response;
        }
    }
    mr_coord_out_answer(out, request, group->shard->index, when, response);
}

void mr_classic_answer_sync(struct mr_coord_out *out, const struct mr_group *group,
                            struct mr_request *request, int16_t error, struct mr_blob assignment)
{
    struct mr_sync_group_response *response = MR_COORD_NEW(out, struct mr_sync_group_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(sync_group_response, response);
        response->error_code = error;
        if (error == MR_KAFKA_NONE) {
            response->protocol_type = group->classic_part.protocol_type;
            response->protocol_name = group->classic_part.protocol;
            response->assignment = assignment;
        }
    }
    mr_coord_out_answer(out, request, group->shard->index,
                        error == MR_KAFKA_NONE ? MR_COORD_DURABLE : MR_COORD_NOW, response);
}

const struct mr_blob mr_classic_no_assignment = {.data = (const uint8_t *)"", .len = 0};
