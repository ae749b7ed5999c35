/*
 * offsets: commit, fetch, delete and expiry of committed offsets. Steps write records; only
 * mr_offsets_replay changes what is stored.
 *
 * Source: behaviour of Apache Kafka 4.4.
 */
#include "coord/group/group.h"

#include "millrace/base/bug.h"

static struct mr_group_topic *find_topic(const struct mr_group *group, struct mr_str name)
{
    uint64_t hash = mr_hash_str(&group->shard->env->hash_key, name) ^ group->node.hash;
    for (struct mr_table_node *node = mr_table_first(&group->shard->topics, hash); node != NULL;
         node = mr_table_next(node)) {
        struct mr_group_topic *topic = MR_TABLE_ENTRY(node, struct mr_group_topic, node);
        if (topic->group == group && mr_str_equal(topic->name, name)) {
            return topic;
        }
    }
    return NULL;
}

/* Where the partition is, or would be. */
static uint32_t lower_bound(const struct mr_group_topic *topic, int32_t partition)
{
    uint32_t from = 0;
    uint32_t to = topic->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        if (topic->offsets[mid].partition < partition) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return from;
}

static const struct mr_group_offset *find_offset(const struct mr_group_topic *topic,
                                                 int32_t partition)
{
    if (topic == NULL) {
        return NULL;
    }
    uint32_t at = lower_bound(topic, partition);
    return at < topic->count && topic->offsets[at].partition == partition ? &topic->offsets[at]
                                                                          : NULL;
}

/* Whether the offset was committed to an earlier topic of the same name. */
static bool is_of_another(const struct mr_group_offset *offset, const struct mr_image_topic *topic)
{
    return topic != NULL && !mr_uuid_is_zero(&offset->topic_id) &&
           !mr_uuid_equal(&offset->topic_id, &topic->id);
}

/* ---- replay ---- */

static void topic_free(struct mr_group_topic *topic)
{
    struct mr_group *group = topic->group;
    struct mr_heap *heap = group->shard->env->heap;
    for (uint32_t index = 0; index < topic->count; index++) {
        mr_heap_str_free(heap, &topic->offsets[index].metadata);
    }
    MR_HEAP_ARRAY_FREE(heap, topic->offsets, topic->capacity);
    mr_table_remove(&group->shard->topics, &topic->node);
    mr_list_remove(&topic->link);
    group->topic_count--;
    mr_heap_str_free(heap, &topic->name);
    MR_HEAP_DELETE(heap, topic);
}

void mr_offsets_free(struct mr_group *group)
{
    MR_LIST_EACH_SAFE(link, after, &group->topics)
    {
        topic_free(MR_LIST_ENTRY(link, struct mr_group_topic, link));
    }
}

static struct mr_group_topic *topic_make(struct mr_group *group, struct mr_str name)
{
    struct mr_heap *heap = group->shard->env->heap;
    struct mr_group_topic *topic = MR_HEAP_NEW(heap, struct mr_group_topic);
    if (topic == NULL || !mr_heap_str(heap, name, &topic->name)) {
        mr_heap_free(heap, topic, sizeof *topic);
        return NULL;
    }
    topic->group = group;
    mr_list_add_tail(&group->topics, &topic->link);
    group->topic_count++;
    mr_table_add(&group->shard->topics, &topic->node,
                 mr_hash_str(&group->shard->env->hash_key, name) ^ group->node.hash);
    return topic;
}

static void remove_offset(struct mr_group_topic *topic, int32_t partition)
{
    uint32_t at = lower_bound(topic, partition);
    if (at == topic->count || topic->offsets[at].partition != partition) {
        return;
    }
    mr_heap_str_free(topic->group->shard->env->heap, &topic->offsets[at].metadata);
    topic->count--;
    memmove(&topic->offsets[at], &topic->offsets[at + 1],
            sizeof *topic->offsets * (topic->count - at));
    if (topic->count == 0) {
        topic_free(topic);
    }
}

static bool make_room(struct mr_group_topic *topic)
{
    if (topic->count < topic->capacity) {
        return true;
    }
    /* A quarter more: with 100,000 groups a doubling would be a third of their memory. */
    uint32_t capacity = topic->capacity + topic->capacity / 4 + 1;
    void *grown =
        mr_heap_resize(topic->group->shard->env->heap, topic->offsets,
                       sizeof *topic->offsets * topic->capacity, sizeof *topic->offsets * capacity);
    if (grown == NULL) {
        return false;
    }
    topic->offsets = grown;
    topic->capacity = capacity;
    return true;
}

enum mr_err mr_offsets_replay(struct mr_group_shard *shard, const struct mr_offset_commit_key *key,
                              const struct mr_offset_commit_value *value)
{
    if (value == NULL) {
        struct mr_group *gone = mr_group_find(shard, key->group);
        struct mr_group_topic *topic = gone == NULL ? NULL : find_topic(gone, key->topic);
        if (topic != NULL) {
            remove_offset(topic, key->partition);
        }
        return MR_OK;
    }
    struct mr_group *group = mr_group_get_or_make(shard, key->group);
    struct mr_group_topic *topic = group == NULL ? NULL : find_topic(group, key->topic);
    if (group != NULL && topic == NULL) {
        topic = topic_make(group, key->topic);
    }
    struct mr_str metadata;
    if (topic == NULL || !make_room(topic) ||
        !mr_heap_str(shard->env->heap, value->metadata, &metadata)) {
        return MR_ERR_NO_MEMORY;
    }
    uint32_t at = lower_bound(topic, key->partition);
    if (at == topic->count || topic->offsets[at].partition != key->partition) {
        memmove(&topic->offsets[at + 1], &topic->offsets[at],
                sizeof *topic->offsets * (topic->count - at));
        topic->count++;
    } else if (mr_bug("first-commit-wins") ||
               (mr_bug("monotonic-commits") && value->offset < topic->offsets[at].offset)) {
        mr_heap_str_free(shard->env->heap, &metadata);
        return MR_OK;
    } else {
        mr_heap_str_free(shard->env->heap, &topic->offsets[at].metadata);
    }
    topic->offsets[at] = (struct mr_group_offset){
        .partition = key->partition,
        .leader_epoch = value->leader_epoch,
        .offset = value->offset,
        .commit_ms = value->commit_timestamp,
        .expire_ms = value->expire_timestamp,
        .topic_id = value->topic_id,
        .metadata = metadata,
    };
    return MR_OK;
}

/* ---- OffsetCommit ---- */

int16_t mr_offsets_check_commit(const struct mr_group *group, const struct mr_request *request)
{
    const struct mr_offset_commit_request *commit = request->message;
    int32_t generation = commit->generation_id_or_member_epoch;
    if (group == NULL) {
        if (generation < 0) {
            return MR_KAFKA_NONE; /* a simple group: the record makes it */
        }
        return request->forward->api_version >= 9 ? MR_KAFKA_GROUP_ID_NOT_FOUND
                                                  : MR_KAFKA_ILLEGAL_GENERATION;
    }
    if (group->consumer != NULL) {
        return mr_consumer_check_commit(group, request);
    }
    const struct mr_classic *classic = &group->classic_part;
    if ((generation < 0 && classic->state == MR_CLASSIC_EMPTY) || mr_bug("accept-any-commit")) {
        return MR_KAFKA_NONE;
    }
    if (generation >= 0 || commit->member_id.len > 0 ||
        !mr_str_is_null(commit->group_instance_id)) {
        int16_t error =
            mr_classic_check_member(group, commit->member_id, commit->group_instance_id);
        if (error != MR_KAFKA_NONE) {
            return error;
        }
        if (generation != classic->generation) {
            return MR_KAFKA_ILLEGAL_GENERATION;
        }
    } else if (classic->state != MR_CLASSIC_EMPTY) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    return classic->state == MR_CLASSIC_COMPLETING ? MR_KAFKA_REBALANCE_IN_PROGRESS : MR_KAFKA_NONE;
}

/* Length as Java counts it: UTF-16 code units. */
static int64_t java_length(struct mr_str text)
{
    int64_t units = 0;
    for (int32_t index = 0; index < text.len; index++) {
        uint8_t byte = (uint8_t)text.data[index];
        units += (byte & 0xc0) == 0x80 ? 0 : byte >= 0xf0 ? 2 : 1;
    }
    return units;
}

struct commit {
    const struct mr_group_shard *shard;
    const struct mr_offset_commit_request *request;
    int16_t version;
    int16_t error; /* of the group */
};

static int16_t commit_partition(const struct commit *commit, const struct mr_image_topic *known,
                                const struct mr_offset_commit_request_partition *partition,
                                struct mr_coord_out *out)
{
    if (known == NULL) {
        return commit->version >= 10 ? MR_KAFKA_UNKNOWN_TOPIC_ID
                                     : MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (partition->partition_index < 0 ||
        (uint32_t)partition->partition_index >= known->partition_count) {
        return MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (commit->error != MR_KAFKA_NONE) {
        return commit->error;
    }
    if (java_length(partition->committed_metadata) > commit->shard->env->metadata_bytes_max) {
        return MR_KAFKA_OFFSET_METADATA_TOO_LARGE;
    }
    int64_t retention = commit->request->retention_time_ms;
    struct mr_group_offset offset = {
        .partition = partition->partition_index,
        .leader_epoch = partition->committed_leader_epoch,
        .offset = partition->committed_offset,
        .commit_ms = out->now.unix_ms,
        .expire_ms = retention < 0 || retention > INT64_MAX - out->now.unix_ms
                         ? -1
                         : out->now.unix_ms + retention,
        .topic_id = known->id, /* also when the client named it: a name may come back */
        .metadata = mr_str_is_null(partition->committed_metadata) || mr_bug("forget-metadata")
                        ? MR_STR("")
                        : partition->committed_metadata,
    };
    return mr_group_record_offset(commit->shard, commit->request->group_id, known->name, &offset,
                                  out)
               ? MR_KAFKA_NONE
               : MR_KAFKA_UNKNOWN_SERVER_ERROR;
}

bool mr_offsets_commit_topics(const struct mr_group_shard *shard,
                              const struct mr_offset_commit_request *message, int16_t version,
                              int16_t error, struct mr_coord_out *out,
                              struct mr_offset_commit_response *response)
{
    const struct mr_image *image = shard->env->image;
    struct mr_offset_commit_response_topic *topics =
        MR_COORD_NEW(out, struct mr_offset_commit_response_topic, message->topics_count);
    struct commit commit = {
        .shard = shard, .request = message, .version = version, .error = error};
    if (topics == NULL) {
        return false;
    }
    MR_DEFAULTS(offset_commit_response, response);
    if (commit.error == MR_KAFKA_NONE && mr_group_limit(shard->env, false, out->now) != NULL) {
        commit.error = MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
    for (int32_t at = 0; at < message->topics_count; at++) {
        const struct mr_offset_commit_request_topic *topic = &message->topics[at];
        const struct mr_image_topic *known = NULL;
        if (image != NULL) {
            known = commit.version >= 10 ? mr_image_topic_by_id(image, &topic->topic_id)
                                         : mr_image_topic_by_name(image, topic->name);
        }
        struct mr_offset_commit_response_partition *partitions =
            MR_COORD_NEW(out, struct mr_offset_commit_response_partition, topic->partitions_count);
        if (partitions == NULL) {
            return false;
        }
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            partitions[index] = (struct mr_offset_commit_response_partition){
                .partition_index = topic->partitions[index].partition_index,
                .error_code =
                    commit_partition(&commit, known, &topic->partitions[index], out),
            };
        }
        if (topic->partitions_count > 0) {
            topics[response->topics_count++] = (struct mr_offset_commit_response_topic){
                .name = topic->name,
                .topic_id = topic->topic_id,
                .partitions = partitions,
                .partitions_count = topic->partitions_count,
            };
        }
    }
    response->topics = topics;
    return true;
}

void mr_offsets_commit(const struct mr_group_shard *shard, struct mr_request *request,
                       struct mr_coord_out *out)
{
    const struct mr_offset_commit_request *message = request->message;
    const struct mr_group *group = mr_group_find(shard, message->group_id);
    struct mr_offset_commit_response *response =
        MR_COORD_NEW(out, struct mr_offset_commit_response, 1);
    int16_t error = mr_offsets_check_commit(group, request);
    if (response == NULL ||
        !mr_offsets_commit_topics(shard, message, request->forward->api_version, error, out,
                                  response)) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    if (group != NULL && error == MR_KAFKA_NONE) {
        mr_classic_touch(group, message->member_id, out->now);
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_DURABLE, response);
}

/* ---- OffsetFetch ---- */

static void fill_partition(const struct mr_group_offset *offset, int32_t partition,
                           struct mr_offset_fetch_response_partitions *fetched)
{
    *fetched = (struct mr_offset_fetch_response_partitions){
        .partition_index = partition,
        .committed_offset = offset == NULL ? -1 : offset->offset,
        .committed_leader_epoch = offset == NULL ? -1 : offset->leader_epoch,
        .metadata = offset == NULL ? MR_STR("") : offset->metadata,
    };
}

static bool fetch_topic(const struct mr_group_shard *shard, const struct mr_group *group,
                        const struct mr_offset_fetch_request_topics *wanted, int16_t version,
                        struct mr_coord_out *out, struct mr_offset_fetch_response_topics *fetched)
{
    const struct mr_image *image = shard->env->image;
    const struct mr_image_topic *known =
        image == NULL    ? NULL
        : version >= 10 ? mr_image_topic_by_id(image, &wanted->topic_id)
                        : mr_image_topic_by_name(image, wanted->name);
    struct mr_str name = version < 10 ? wanted->name : known == NULL ? MR_STR_NULL : known->name;
    const struct mr_group_topic *topic =
        group == NULL || mr_str_is_null(name) ? NULL : find_topic(group, name);
    fetched->name = wanted->name;
    fetched->topic_id = wanted->topic_id;
    fetched->partitions_count = wanted->partition_indexes_count;
    fetched->partitions = MR_COORD_NEW(out, struct mr_offset_fetch_response_partitions,
                                       wanted->partition_indexes_count);
    if (fetched->partitions == NULL) {
        return false;
    }
    for (int32_t index = 0; index < wanted->partition_indexes_count; index++) {
        int32_t partition = wanted->partition_indexes[index];
        const struct mr_group_offset *offset = find_offset(topic, partition);
        if (offset != NULL && is_of_another(offset, known)) {
            offset = NULL;
        }
        fill_partition(offset, partition, &fetched->partitions[index]);
        if (version >= 10 && known == NULL) {
            fetched->partitions[index].error_code = MR_KAFKA_UNKNOWN_TOPIC_ID;
        }
    }
    return true;
}

static bool fetch_all(const struct mr_group_shard *shard, const struct mr_group *group,
                      int16_t version, struct mr_coord_out *out,
                      struct mr_offset_fetch_response_group *fetched)
{
    if (group == NULL) {
        return true;
    }
    fetched->topics = MR_COORD_NEW(out, struct mr_offset_fetch_response_topics, group->topic_count);
    if (fetched->topics == NULL) {
        return false;
    }
    MR_LIST_EACH(link, &group->topics)
    {
        const struct mr_group_topic *topic = MR_LIST_ENTRY(link, struct mr_group_topic, link);
        struct mr_offset_fetch_response_topics *to = &fetched->topics[fetched->topics_count];
        to->name = topic->name;
        if (version >= 10) {
            const struct mr_image_topic *known =
                shard->env->image == NULL ? NULL
                                          : mr_image_topic_by_name(shard->env->image, topic->name);
            if (known == NULL) {
                continue; /* without a topic there is no id to say it by */
            }
            to->topic_id = known->id;
        }
        to->partitions =
            MR_COORD_NEW(out, struct mr_offset_fetch_response_partitions, topic->count);
        if (to->partitions == NULL) {
            return false;
        }
        for (uint32_t index = 0; index < topic->count; index++) {
            fill_partition(&topic->offsets[index], topic->offsets[index].partition,
                           &to->partitions[index]);
        }
        to->partitions_count = (int32_t)topic->count;
        fetched->topics_count++;
    }
    return true;
}

void mr_offsets_fetch(const struct mr_group_shard *shard,
                      const struct mr_offset_fetch_request_group *fetch, int16_t version,
                      struct mr_coord_out *out, struct mr_offset_fetch_response_group *fetched)
{
    const struct mr_group *group = mr_group_find(shard, fetch->group_id);
    fetched->group_id = fetch->group_id;
    if (group != NULL && group->consumer != NULL && version >= 9) {
        fetched->error_code =
            mr_consumer_check_fetch(group, fetch->member_id, fetch->member_epoch);
        if (fetched->error_code != MR_KAFKA_NONE) {
            return;
        }
    }
    if (fetch->topics_count < 0) {
        if (!fetch_all(shard, group, version, out, fetched)) {
            fetched->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
            fetched->topics_count = 0;
        }
        return;
    }
    fetched->topics =
        MR_COORD_NEW(out, struct mr_offset_fetch_response_topics, fetch->topics_count);
    for (int32_t index = 0; fetched->topics != NULL && index < fetch->topics_count; index++) {
        if (!fetch_topic(shard, group, &fetch->topics[index], version, out,
                         &fetched->topics[index])) {
            fetched->topics = NULL;
            break;
        }
    }
    fetched->topics_count = fetched->topics == NULL ? 0 : fetch->topics_count;
    if (fetched->topics == NULL) {
        fetched->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
}

/* ---- OffsetDelete, expiry ---- */

void mr_offsets_delete(const struct mr_group_shard *shard, struct mr_request *request,
                       struct mr_coord_out *out)
{
    const struct mr_offset_delete_request *message = request->message;
    struct mr_offset_delete_response *response =
        MR_COORD_NEW(out, struct mr_offset_delete_response, 1);
    struct mr_offset_delete_response_topic *topics =
        MR_COORD_NEW(out, struct mr_offset_delete_response_topic, message->topics_count);
    if (response == NULL || topics == NULL) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    MR_DEFAULTS(offset_delete_response, response);
    const struct mr_group *group = mr_group_find(shard, message->group_id);
    bool is_consumer =
        group != NULL && (group->consumer != NULL ||
                          mr_str_equal(group->classic_part.protocol_type, MR_STR("consumer")));
    response->error_code = message->group_id.len <= 0                  ? MR_KAFKA_INVALID_GROUP_ID
                           : group == NULL                             ? MR_KAFKA_GROUP_ID_NOT_FOUND
                           : !mr_group_is_empty(group) && !is_consumer ? MR_KAFKA_NON_EMPTY_GROUP
                                                                       : MR_KAFKA_NONE;
    for (int32_t at = 0; response->error_code == 0 && at < message->topics_count; at++) {
        const struct mr_offset_delete_request_topic *topic = &message->topics[at];
        const struct mr_image_topic *known =
            shard->env->image == NULL ? NULL
                                      : mr_image_topic_by_name(shard->env->image, topic->name);
        const struct mr_group_topic *stored = find_topic(group, topic->name);
        bool is_subscribed = mr_group_is_subscribed(group, topic->name, out);
        struct mr_offset_delete_response_partition *partitions =
            MR_COORD_NEW(out, struct mr_offset_delete_response_partition, topic->partitions_count);
        for (int32_t index = 0; partitions != NULL && index < topic->partitions_count; index++) {
            int32_t partition = topic->partitions[index].partition_index;
            bool is_known = known != NULL && partition >= 0 &&
                            (uint32_t)partition < known->partition_count;
            partitions[index].partition_index = partition;
            partitions[index].error_code = !is_known ? MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION
                                           : is_subscribed ? MR_KAFKA_GROUP_SUBSCRIBED_TO_TOPIC
                                                           : 0;
            bool is_there = find_offset(stored, partition) != NULL ||
                            mr_offsets_is_pending(shard, group->id, topic->name, partition);
            if (partitions[index].error_code == 0 && is_there &&
                !mr_group_record_offset_tombstone(group, topic->name, partition, out)) {
                partitions[index].error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
            }
        }
        topics[at].name = topic->name;
        topics[at].partitions = partitions;
        topics[at].partitions_count = partitions == NULL ? 0 : topic->partitions_count;
        response->topics_count++;
    }
    response->topics = topics;
    mr_coord_out_answer(out, request, shard->index, MR_COORD_DURABLE, response);
}

bool mr_offsets_delete_all(const struct mr_group *group, struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &group->topics)
    {
        const struct mr_group_topic *topic = MR_LIST_ENTRY(link, struct mr_group_topic, link);
        for (uint32_t index = 0; index < topic->count; index++) {
            if (!mr_group_record_offset_tombstone(group, topic->name,
                                                  topic->offsets[index].partition, out)) {
                return false;
            }
        }
    }
    return mr_offsets_pending_delete(group->shard, group->id, out);
}

/* Of what can go on in a later step. */
static bool has_written_enough(const struct mr_group_env *env, const struct mr_coord_out *out)
{
    return mr_coord_out_bytes(out) > env->record_bytes_max / 2 ||
           mr_coord_out_bytes(out) > MR_CONTROL_WORK / 2;
}

static bool is_expired(const struct mr_group *group, const struct mr_group_offset *offset,
                       int64_t now_ms)
{
    const struct mr_classic *classic = &group->classic_part; /* empty in the new protocol */
    if (offset->expire_ms >= 0) {
        return now_ms >= offset->expire_ms;
    }
    int64_t base = offset->commit_ms;
    if (!mr_str_is_null(classic->protocol_type) && classic->state == MR_CLASSIC_EMPTY &&
        classic->state_ms >= 0) {
        base = classic->state_ms;
    }
    return mr_age_ms(now_ms, base) >= group->shard->env->retention_ms;
}

bool mr_offsets_expire(const struct mr_group *group, struct mr_coord_out *out)
{
    const struct mr_classic *classic = &group->classic_part;
    bool is_simple = mr_str_is_null(classic->protocol_type);
    bool is_idle = mr_group_is_empty(group);
    bool is_consumer = mr_str_equal(classic->protocol_type, MR_STR("consumer"));
    if (!is_simple && !is_idle && !(is_consumer && classic->state == MR_CLASSIC_STABLE)) {
        return true;
    }
    bool is_all = !mr_bug("keep-offsets");
    MR_LIST_EACH(link, &group->topics)
    {
        const struct mr_group_topic *topic = MR_LIST_ENTRY(link, struct mr_group_topic, link);
        bool is_kept = mr_group_is_subscribed(group, topic->name, out);
        for (uint32_t index = 0; index < topic->count; index++) {
            const struct mr_group_offset *offset = &topic->offsets[index];
            bool is_pending = mr_offsets_is_pending(group->shard, group->id, topic->name, offset->partition);
            if (is_kept || is_pending || !is_expired(group, offset, out->now.unix_ms)) {
                is_all = false;
                continue;
            }
            if (has_written_enough(group->shard->env, out)) {
                return false;
            }
            is_all &= mr_group_record_offset_tombstone(group, topic->name, offset->partition, out);
        }
    }
    bool is_any_pending = mr_offsets_is_pending(group->shard, group->id, MR_STR_NULL, 0);
    if (is_all && is_idle && classic->pending_count == 0 && !is_any_pending) {
        (void)mr_group_record_gone(group, out);
    }
    return true;
}

bool mr_offsets_purge(const struct mr_group_shard *shard, const struct mr_group_topic *topic,
                      struct mr_coord_out *out)
{
    const struct mr_image_topic *known = mr_image_topic_by_name(shard->env->image, topic->name);
    for (uint32_t index = 0; index < topic->count; index++) {
        const struct mr_group_offset *offset = &topic->offsets[index];
        if (known != NULL && !is_of_another(offset, known)) {
            continue;
        }
        if (has_written_enough(shard->env, out) ||
            !mr_group_record_offset_tombstone(topic->group, topic->name, offset->partition, out)) {
            return false;
        }
    }
    return true;
}
