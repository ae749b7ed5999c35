/*
 * coord_service: requests that concern several groups or none: FindCoordinator, OffsetFetch,
 * DescribeGroups, ConsumerGroupDescribe, ListGroups, DeleteGroups; and the form that each API has for an error.
 */
#include "coord/coord_runtime.h"
#include "coord/txn/transaction.h"
#include "metadata/ctl_seen.h"
#include "pieces.h"

#include "millrace/base/bug.h"

/* ---- errors ---- */

static void *response_new(struct mr_coord *coord, struct mr_request *request, size_t bytes)
{
    (void)coord;
    return mr_request_memory(coord->control, request, bytes);
}

#define RESPONSE(coord_, request_, name_) \
    ((struct mr_##name_ *)response_new((coord_), (request_), sizeof(struct mr_##name_)))

static const void *commit_error(struct mr_coord *coord, struct mr_request *request, int16_t error)
{
    const struct mr_offset_commit_request *message = request->message;
    struct mr_offset_commit_response *response = RESPONSE(coord, request, offset_commit_response);
    struct mr_offset_commit_response_topic *topics = MR_REQUEST_NEW(
        coord->control, request, struct mr_offset_commit_response_topic, message->topics_count + 1);
    if (response == NULL || topics == NULL) {
        return NULL;
    }
    for (int32_t at = 0; at < message->topics_count; at++) {
        const struct mr_offset_commit_request_topic *topic = &message->topics[at];
        struct mr_offset_commit_response_partition *partitions =
            MR_REQUEST_NEW(coord->control, request, struct mr_offset_commit_response_partition,
                           topic->partitions_count + 1);
        if (partitions == NULL) {
            return NULL;
        }
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            partitions[index].partition_index = topic->partitions[index].partition_index;
            partitions[index].error_code = error;
        }
        topics[at].name = topic->name;
        topics[at].topic_id = topic->topic_id;
        topics[at].partitions = partitions;
        topics[at].partitions_count = topic->partitions_count;
    }
    response->topics = topics;
    response->topics_count = message->topics_count;
    return response;
}

static const void *error_response(struct mr_coord *coord, struct mr_request *request, int16_t error)
{
    switch (request->forward->api_key) {
    case MR_API_JOIN_GROUP: {
        struct mr_join_group_response *response = RESPONSE(coord, request, join_group_response);
        if (response != NULL) {
            mr_classic_join_error(request, error, response);
            response->member_id =
                ((const struct mr_join_group_request *)request->message)->member_id;
        }
        return response;
    }
    case MR_API_SYNC_GROUP: {
        struct mr_sync_group_response *response = RESPONSE(coord, request, sync_group_response);
        if (response != NULL) {
            MR_DEFAULTS(sync_group_response, response);
            response->error_code = error;
        }
        return response;
    }
    case MR_API_HEARTBEAT: {
        struct mr_heartbeat_response *response = RESPONSE(coord, request, heartbeat_response);
        if (response != NULL) {
            MR_DEFAULTS(heartbeat_response, response);
            response->error_code = error;
        }
        return response;
    }
    case MR_API_LEAVE_GROUP: {
        struct mr_leave_group_response *response = RESPONSE(coord, request, leave_group_response);
        if (response != NULL) {
            MR_DEFAULTS(leave_group_response, response);
            response->error_code = error;
        }
        return response;
    }
    case MR_API_OFFSET_COMMIT:
        return commit_error(coord, request, error);
    case MR_API_OFFSET_DELETE: {
        struct mr_offset_delete_response *response =
            RESPONSE(coord, request, offset_delete_response);
        if (response != NULL) {
            MR_DEFAULTS(offset_delete_response, response);
            response->error_code = error;
        }
        return response;
    }
    case MR_API_CONSUMER_GROUP_HEARTBEAT: {
        struct mr_consumer_group_heartbeat_response *response =
            RESPONSE(coord, request, consumer_group_heartbeat_response);
        if (response != NULL) {
            MR_DEFAULTS(consumer_group_heartbeat_response, response);
            response->error_code = error;
        }
        return response;
    }
    case MR_API_LIST_GROUPS: {
        struct mr_list_groups_response *response = RESPONSE(coord, request, list_groups_response);
        if (response != NULL) {
            MR_DEFAULTS(list_groups_response, response);
            response->error_code = error;
        }
        return response;
    }
    default:
        return mr_transaction_error(coord->control, request, error);
    }
}

void mr_coord_prepare_error(struct mr_coord *coord, struct mr_request *request, int16_t error)
{
    if (request->reply != NULL) {
        /* It was ready and waited for an append that failed. */
        mr_control_reply_done(coord->control, request->reply);
        request->reply = NULL;
    }
    const void *response = error_response(coord, request, error);
    if (response == NULL) {
        /* OffsetFetch, DescribeGroups, DeleteGroups when a shard broke under them, or no memory. */
        request->is_broken = true;
        return;
    }
    mr_control_reply_prepare(coord->control, request, response);
}

/* ---- FindCoordinator ---- */

static void find_one(struct mr_coord *coord, struct mr_now now, int8_t key_type, struct mr_str key,
                     struct mr_find_coordinator_response_coordinator *found)
{
    const struct mr_image *image = mr_control_image(coord->control);
    *found = (struct mr_find_coordinator_response_coordinator){
        .key = key,
        .node_id = -1,
        .host = MR_STR(""),
        .port = -1,
        .error_message = MR_STR_NULL,
    };
    if (key_type != 0 && key_type != 1) {
        found->error_code = MR_KAFKA_INVALID_REQUEST;
        found->error_message = key_type == 2 ? MR_STR("Share groups are not served yet.")
                                             : MR_STR("Unknown coordinator type.");
        return;
    }
    found->error_code = MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    coord = key_type == 0 ? coord : coord->control->txn_coord;
    const struct mr_image_topic *topic =
        image == NULL ? NULL : mr_image_topic_by_name(image, mr_str(coord->kind->topic));
    if (topic == NULL && key_type == 0) {
        mr_control_want_offsets_topic(coord->control, now);
        return;
    }
    if (topic == NULL) {
        mr_control_want_transactions_topic(coord->control, now);
        return;
    }
    const struct mr_image_partition *partition =
        &topic->partitions[mr_coord_partition_of(key, topic->partition_count)];
    if (partition->log_id == 0) {
        return; /* being opened */
    }
    for (uint32_t index = 0; index < image->broker_count; index++) {
        if (image->brokers[index].id == partition->leader && !image->brokers[index].is_fenced) {
            found->error_code = MR_KAFKA_NONE;
            found->node_id = partition->leader;
            found->host = image->brokers[index].host;
            found->port = image->brokers[index].port;
            found->error_message = MR_STR("");
            return;
        }
    }
}

static void find_coordinator(struct mr_control *control, struct mr_now now,
                             struct mr_request *request)
{
    const struct mr_find_coordinator_request *message = request->message;
    struct mr_find_coordinator_response response;
    MR_DEFAULTS(find_coordinator_response, &response);
    if (request->forward->api_version < 4) {
        struct mr_find_coordinator_response_coordinator found;
        find_one(control->coord, now, message->key_type, message->key, &found);
        response.error_code = found.error_code;
        response.error_message =
            found.error_code == MR_KAFKA_NONE ? MR_STR("NONE") : found.error_message;
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
        mr_control_reply(control, request, &response);
        return;
    }
    response.coordinators =
        MR_REQUEST_NEW(control, request, struct mr_find_coordinator_response_coordinator,
                       message->coordinator_keys_count + 1);
    if (response.coordinators == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    for (int32_t index = 0; index < message->coordinator_keys_count; index++) {
        find_one(control->coord, now, message->key_type, message->coordinator_keys[index],
                 &response.coordinators[index]);
    }
    response.coordinators_count = message->coordinator_keys_count;
    mr_control_reply(control, request, &response);
}

/* ---- requests over several shards ---- */

static bool begin(struct mr_control *control, struct mr_now now, struct mr_request *request,
                  struct mr_coord_out *out)
{
    struct mr_coord *coord = control->coord;
    request->user = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    if (request->user == NULL) {
        mr_control_reply_close(control, request);
        return false;
    }
    coord->env.image = mr_control_image(control);
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(out, &coord->scratch, now);
    return true;
}

static void fetch_group(struct mr_coord *coord, const struct mr_offset_fetch_request_group *group,
                        int16_t version, bool is_stable_wanted, struct mr_coord_out *out,
                        struct mr_offset_fetch_response_group *fetched)
{
    struct mr_coord_shard *shard;
    int16_t error = mr_coord_shard_of(coord, group->group_id, &shard);
    MR_DEFAULTS(offset_fetch_response_group, fetched);
    if (shard == NULL) {
        fetched->group_id = group->group_id;
        fetched->error_code = error;
        return;
    }
    mr_offsets_fetch(&shard->groups, group, version, out, fetched);
    if (is_stable_wanted) {
        mr_offsets_hide_pending(&shard->groups, version, fetched);
    }
}

/* Versions 1 to 7 in the form of later ones, and back. */
static bool fetch_old(struct mr_coord *coord, struct mr_request *request, struct mr_coord_out *out,
                      struct mr_offset_fetch_response *response)
{
    const struct mr_offset_fetch_request *message = request->message;
    struct mr_offset_fetch_request_group group = {
        .group_id = message->group_id,
        .member_id = MR_STR_NULL,
        .member_epoch = -1,
        .topics_count = message->topics_count,
    };
    struct mr_offset_fetch_response_group fetched;
    if (message->topics_count >= 0) {
        group.topics =
            MR_COORD_NEW(out, struct mr_offset_fetch_request_topics, message->topics_count);
        if (group.topics == NULL) {
            return false;
        }
        for (int32_t index = 0; index < message->topics_count; index++) {
            group.topics[index].name = message->topics[index].name;
            group.topics[index].partition_indexes = message->topics[index].partition_indexes;
            group.topics[index].partition_indexes_count =
                message->topics[index].partition_indexes_count;
        }
    }
    fetch_group(coord, &group, 7, message->require_stable, out, &fetched);
    response->error_code = fetched.error_code;
    if (fetched.error_code != MR_KAFKA_NONE && request->forward->api_version < 2) {
        /* Version 1 has only the partitions to say it with. */
        fetched.topics =
            MR_COORD_NEW(out, struct mr_offset_fetch_response_topics, message->topics_count);
        fetched.topics_count = fetched.topics == NULL ? 0 : message->topics_count;
        for (int32_t at = 0; at < fetched.topics_count; at++) {
            const struct mr_offset_fetch_request_topic *topic = &message->topics[at];
            fetched.topics[at].name = topic->name;
            fetched.topics[at].partitions = MR_COORD_NEW(
                out, struct mr_offset_fetch_response_partitions, topic->partition_indexes_count);
            if (fetched.topics[at].partitions == NULL) {
                return false;
            }
            fetched.topics[at].partitions_count = topic->partition_indexes_count;
            for (int32_t index = 0; index < topic->partition_indexes_count; index++) {
                fetched.topics[at].partitions[index] = (struct mr_offset_fetch_response_partitions){
                    .partition_index = topic->partition_indexes[index],
                    .committed_offset = -1,
                    .committed_leader_epoch = -1,
                    .metadata = MR_STR(""),
                    .error_code = fetched.error_code,
                };
            }
        }
    }
    response->topics =
        MR_COORD_NEW(out, struct mr_offset_fetch_response_topic, fetched.topics_count);
    if (response->topics == NULL) {
        return false;
    }
    for (int32_t at = 0; at < fetched.topics_count; at++) {
        const struct mr_offset_fetch_response_topics *from = &fetched.topics[at];
        struct mr_offset_fetch_response_topic *to = &response->topics[at];
        to->name = from->name;
        to->partitions_count = from->partitions_count;
        to->partitions =
            MR_COORD_NEW(out, struct mr_offset_fetch_response_partition, from->partitions_count);
        if (to->partitions == NULL) {
            return false;
        }
        for (int32_t index = 0; index < from->partitions_count; index++) {
            to->partitions[index] = (struct mr_offset_fetch_response_partition){
                .partition_index = from->partitions[index].partition_index,
                .committed_offset = from->partitions[index].committed_offset,
                .committed_leader_epoch = from->partitions[index].committed_leader_epoch,
                .metadata = from->partitions[index].metadata,
                .error_code = from->partitions[index].error_code,
            };
        }
    }
    response->topics_count = fetched.topics_count;
    return true;
}

static void offset_fetch(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_offset_fetch_request *message = request->message;
    struct mr_offset_fetch_response response;
    struct mr_coord_out out;
    if (!begin(control, now, request, &out)) {
        return;
    }
    MR_DEFAULTS(offset_fetch_response, &response);
    bool is_good = true;
    if (request->forward->api_version < 8) {
        is_good = fetch_old(control->coord, request, &out, &response);
    } else {
        response.groups =
            MR_COORD_NEW(&out, struct mr_offset_fetch_response_group, message->groups_count);
        is_good = response.groups != NULL;
        for (int32_t index = 0; is_good && index < message->groups_count; index++) {
            fetch_group(control->coord, &message->groups[index], request->forward->api_version,
                        message->require_stable, &out, &response.groups[index]);
            response.groups_count++;
        }
    }
    if (!is_good) {
        mr_control_reply_close(control, request);
        return;
    }
    mr_coord_finish_all(control->coord, request, &response);
}

static void describe_groups(struct mr_control *control, struct mr_now now,
                            struct mr_request *request)
{
    const struct mr_describe_groups_request *message = request->message;
    struct mr_describe_groups_response response;
    struct mr_coord_out out;
    if (!begin(control, now, request, &out)) {
        return;
    }
    MR_DEFAULTS(describe_groups_response, &response);
    response.groups = MR_COORD_NEW(&out, struct mr_describe_groups_response_described_group,
                                   message->groups_count);
    if (response.groups == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    for (int32_t index = 0; index < message->groups_count; index++) {
        struct mr_describe_groups_response_described_group *described = &response.groups[index];
        struct mr_coord_shard *shard;
        int16_t error = mr_coord_shard_of(control->coord, message->groups[index], &shard);
        MR_DEFAULTS(describe_groups_response_described_group, described);
        if (shard == NULL) {
            described->group_id = message->groups[index];
            described->error_code = error;
        } else {
            mr_group_describe(&shard->groups, message->groups[index], request->forward->api_version,
                              message->include_authorized_operations, &out, described);
        }
        response.groups_count++;
    }
    mr_coord_finish_all(control->coord, request, &response);
}

static void consumer_group_describe(struct mr_control *control, struct mr_now now,
                                    struct mr_request *request)
{
    const struct mr_consumer_group_describe_request *message = request->message;
    struct mr_consumer_group_describe_response response;
    struct mr_coord_out out;
    if (!begin(control, now, request, &out)) {
        return;
    }
    MR_DEFAULTS(consumer_group_describe_response, &response);
    response.groups = MR_COORD_NEW(&out, struct mr_consumer_group_describe_response_described_group,
                                   message->group_ids_count);
    if (response.groups == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    for (int32_t index = 0; index < message->group_ids_count; index++) {
        struct mr_consumer_group_describe_response_described_group *described =
            &response.groups[index];
        struct mr_coord_shard *shard;
        int16_t error = mr_coord_shard_of(control->coord, message->group_ids[index], &shard);
        MR_DEFAULTS(consumer_group_describe_response_described_group, described);
        if (shard == NULL) {
            described->group_id = message->group_ids[index];
            described->error_code = error;
        } else {
            mr_consumer_describe(&shard->groups, message->group_ids[index],
                                 message->include_authorized_operations, &out, described);
        }
        response.groups_count++;
    }
    mr_coord_finish_all(control->coord, request, &response);
}

static void list_groups(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_list_groups_request *message = request->message;
    struct mr_coord *coord = control->coord;
    struct mr_list_groups_response response;
    struct mr_coord_out out;
    if (!begin(control, now, request, &out)) {
        return;
    }
    MR_DEFAULTS(list_groups_response, &response);
    uint32_t total = 0;
    struct mr_parts parts = mr_pieces_parts(request, coord->shard_count);
    for (uint32_t part = parts.begin; part < parts.end; part++) {
        struct mr_coord_shard *shard = coord->shards[part / parts.slices];
        if (shard != NULL && shard->state == MR_COORD_LOADING) {
            response.error_code = MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
        } else if (shard != NULL && shard->state == MR_COORD_ACTIVE) {
            total += mr_group_list(&shard->groups, part % parts.slices, parts.slices, message, NULL, 0);
        }
    }
    if (coord->is_stopped) {
        response.error_code = MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
    if (response.error_code == MR_KAFKA_NONE) {
        response.groups = MR_COORD_NEW(&out, struct mr_list_groups_response_listed_group, total);
        if (response.groups == NULL) {
            response.error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
        }
    }
    for (uint32_t part = parts.begin; response.groups != NULL && part < parts.end; part++) {
        struct mr_coord_shard *shard = coord->shards[part / parts.slices];
        if (shard != NULL && shard->state == MR_COORD_ACTIVE) {
            uint32_t at = (uint32_t)response.groups_count;
            response.groups_count +=
                (int32_t)mr_group_list(&shard->groups, part % parts.slices, parts.slices, message,
                                       response.groups + at, total - at);
        }
    }
    mr_coord_finish_all(control->coord, request, &response);
}

static void delete_groups(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_delete_groups_request *message = request->message;
    struct mr_delete_groups_response response;
    struct mr_coord_out out;
    if (!begin(control, now, request, &out)) {
        return;
    }
    MR_DEFAULTS(delete_groups_response, &response);
    struct mr_ctl_seen seen;
    if (!mr_ctl_seen_init(&seen, control, request, (uint64_t)message->groups_names_count)) {
        mr_control_reply_close(control, request);
        return;
    }
    response.results =
        MR_REQUEST_NEW(control, request, struct mr_delete_groups_response_deletable_group_result,
                       message->groups_names_count + 1);
    if (response.results == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    for (int32_t index = 0; index < message->groups_names_count; index++) {
        struct mr_coord_shard *shard;
        struct mr_str name = message->groups_names[index];
        if (mr_ctl_seen_add(&seen, 0, name.data, name.len, index)->times > 1) {
            continue; /* named again: one answer for all of them */
        }
        int16_t error = mr_coord_shard_of(control->coord, name, &shard);
        if (shard != NULL) {
            mr_arena_reset(&control->coord->scratch);
            mr_coord_out_init(&out, &control->coord->scratch, now);
            error = mr_group_delete(&shard->groups, name, &out);
            mr_coord_apply(shard, &out);
        }
        response.results[response.results_count++] =
            (struct mr_delete_groups_response_deletable_group_result){
                .group_id = name,
                .error_code = error,
                .error_message = MR_STR_NULL,
            };
    }
    mr_coord_finish_all(control->coord, request, &response);
}

void mr_coord_service_init(struct mr_coord *coord)
{
    mr_control_serve(coord->control, MR_API_FIND_COORDINATOR, find_coordinator);
    mr_control_serve(coord->control, MR_API_OFFSET_FETCH, offset_fetch);
    mr_control_serve(coord->control, MR_API_DESCRIBE_GROUPS, describe_groups);
    mr_control_serve(coord->control, MR_API_CONSUMER_GROUP_DESCRIBE, consumer_group_describe);
    mr_control_serve(coord->control, MR_API_LIST_GROUPS, list_groups);
    mr_control_serve(coord->control, MR_API_DELETE_GROUPS, delete_groups);
}
