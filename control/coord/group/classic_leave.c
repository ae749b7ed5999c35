/*
 * classic_leave: Heartbeat and LeaveGroup: who is still there.
 */
#include "coord/group/classic.h"
#include "millrace/base/bug.h"

static int16_t heartbeat(const struct mr_group_shard *shard,
                         const struct mr_heartbeat_request *beat, struct mr_now now)
{
    if (beat->group_id.len <= 0) {
        return MR_KAFKA_INVALID_GROUP_ID;
    }
    struct mr_group *group = mr_group_find(shard, beat->group_id);
    if (group == NULL || mr_group_is_empty(group)) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (group->consumer != NULL) {
        return mr_consumer_classic_heartbeat(group, beat, now);
    }
    int16_t error = mr_classic_check_member(group, beat->member_id, beat->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (beat->generation_id != group->classic_part.generation) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    mr_classic_session_again(mr_classic_find(group, beat->member_id), now);
    return group->classic_part.state == MR_CLASSIC_PREPARING && !mr_bug("quiet-heartbeat")
               ? MR_KAFKA_REBALANCE_IN_PROGRESS
               : MR_KAFKA_NONE;
}

void mr_classic_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                          struct mr_coord_out *out)
{
    struct mr_heartbeat_response *response = MR_COORD_NEW(out, struct mr_heartbeat_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(heartbeat_response, response);
        response->error_code = heartbeat(shard, request->message, out->now);
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
}

/* ---- LeaveGroup ---- */

static int16_t leave(struct mr_group *group, struct mr_str member_id, struct mr_str instance_id,
                     struct mr_coord_out *out)
{
    if (group == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (mr_bug("ignore-leave")) {
        return MR_KAFKA_NONE;
    }
    if (group->consumer != NULL) {
        return mr_consumer_classic_leave(group, member_id, instance_id, out);
    }
    struct mr_classic_member *member;
    if (member_id.len <= 0) {
        /* An administrator removes a static member by its instance. */
        member = mr_str_is_null(instance_id) ? NULL : mr_classic_find_instance(group, instance_id);
        if (member == NULL) {
            return MR_KAFKA_UNKNOWN_MEMBER_ID;
        }
    } else {
        member = mr_classic_find_any(group, member_id);
        if (member == NULL || !member->is_pending) {
            int16_t error = mr_classic_check_member(group, member_id, instance_id);
            if (error != MR_KAFKA_NONE) {
                return error;
            }
        }
    }
    mr_log(mr_classic_env(group)->log, MR_LOG_INFO, "group member leaves group=%.*s member=%.*s",
           group->id.len, group->id.data, member->id.len, member->id.data);
    mr_classic_member_remove(member, out);
    return MR_KAFKA_NONE;
}

/* Somebody is gone: the others rebalance. False: no scratch. */
static bool follow(struct mr_group *group, struct mr_coord_out *out)
{
    if (group->consumer != NULL) {
        return mr_bug("ignore-leave") || mr_consumer_classic_left(group, out);
    }
    if (group->classic_part.state != MR_CLASSIC_EMPTY) {
        mr_classic_rebalance_or_complete(group, out, "a member left");
    }
    return true;
}

void mr_classic_leave(const struct mr_group_shard *shard, struct mr_request *request,
                      struct mr_coord_out *out)
{
    const struct mr_leave_group_request *message = request->message;
    bool is_batch = request->forward->api_version >= 3;
    struct mr_leave_group_response *response = MR_COORD_NEW(out, struct mr_leave_group_response, 1);
    if (response == NULL) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    MR_DEFAULTS(leave_group_response, response);
    if (message->group_id.len <= 0) {
        response->error_code = MR_KAFKA_INVALID_GROUP_ID;
        mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
        return;
    }
    struct mr_group *group = mr_group_find(shard, message->group_id);
    bool is_anybody_gone = false;
    if (!is_batch) {
        response->error_code = leave(group, message->member_id, MR_STR_NULL, out);
        is_anybody_gone = response->error_code == MR_KAFKA_NONE;
    } else {
        response->members = MR_COORD_NEW(out, struct mr_leave_group_response_member_response,
                                         message->members_count);
        if (response->members == NULL) {
            mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        for (int32_t index = 0; index < message->members_count; index++) {
            const struct mr_leave_group_request_member_identity *who = &message->members[index];
            int16_t error = leave(group, who->member_id, who->group_instance_id, out);
            is_anybody_gone = is_anybody_gone || error == MR_KAFKA_NONE;
            response->members[response->members_count++] =
                (struct mr_leave_group_response_member_response){
                    .member_id = who->member_id,
                    .group_instance_id = who->group_instance_id,
                    .error_code = error,
                };
        }
    }
    if (is_anybody_gone && !follow(group, out)) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_DURABLE, response);
}
