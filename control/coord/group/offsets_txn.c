/*
 * offsets_txn: offsets that belong to a transaction: written with it, pending until its marker, then committed or gone.
 *
 * They are kept as the records that they are, in the order in which they came, and found by partition; a commit replays them
 * like any other. A batch number of the shard tells those that came before a marker from those of the next transaction.
 * The latest record wins, not the latest marker: a commit that came behind a pending one overtakes it, and a tombstone
 * takes it away.
 */
#include "coord/group/group.h"

#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"

/* How many are pending in a group. */
struct pending_group {
    struct mr_table_node node;
    struct mr_str id;
    uint32_t count;
};

struct mr_pending_offset {
    struct mr_list link;       /* in the shard's list, oldest first */
    struct mr_table_node node; /* in the shard's table, by the three of `key` */
    struct pending_group *group;
    int64_t producer_id;
    uint64_t sequence;
    uint64_t order; /* its place in the list */
    struct mr_offset_commit_key key; /* its names point into the bytes */
    uint32_t key_len;
    uint32_t value_len;
    bool is_overtaken; /* by a commit of the same partition that came later */
    uint8_t bytes[];
};

static struct mr_blob key_of(const struct mr_pending_offset *pending)
{
    return (struct mr_blob){.data = pending->bytes, .len = (int32_t)pending->key_len};
}

static struct mr_blob value_of(const struct mr_pending_offset *pending)
{
    return (struct mr_blob){.data = pending->bytes + pending->key_len,
                            .len = (int32_t)pending->value_len};
}

/* ---- by partition, by group ---- */

static uint64_t hash_of(const struct mr_group_shard *shard, const struct mr_offset_commit_key *key)
{
    uint64_t group = mr_hash_str(&shard->env->hash_key, key->group);
    uint64_t topic = mr_hash_str(&shard->env->hash_key, key->topic);
    return mr_hash_u64(group ^ mr_hash_u64(topic ^ (uint32_t)key->partition));
}

/* This one or the next in its chain that is of the partition. */
static struct mr_pending_offset *of_partition(struct mr_table_node *node,
                                              const struct mr_offset_commit_key *key)
{
    for (; node != NULL; node = mr_table_next(node)) {
        struct mr_pending_offset *pending = MR_TABLE_ENTRY(node, struct mr_pending_offset, node);
        if (pending->key.partition == key->partition && mr_str_equal(pending->key.topic, key->topic) &&
            mr_str_equal(pending->key.group, key->group)) {
            return pending;
        }
    }
    return NULL;
}

static struct mr_pending_offset *first_of(const struct mr_group_shard *shard,
                                          const struct mr_offset_commit_key *key)
{
    return of_partition(mr_table_first(&shard->pending_keys, hash_of(shard, key)), key);
}

static struct pending_group *group_find(const struct mr_group_shard *shard, struct mr_str id)
{
    uint64_t hash = mr_hash_str(&shard->env->hash_key, id);
    for (struct mr_table_node *node = mr_table_first(&shard->pending_groups, hash); node != NULL;
         node = mr_table_next(node)) {
        struct pending_group *group = MR_TABLE_ENTRY(node, struct pending_group, node);
        if (mr_str_equal(group->id, id)) {
            return group;
        }
    }
    return NULL;
}

/* NULL: no memory. */
static struct pending_group *group_get_or_make(struct mr_group_shard *shard, struct mr_str id)
{
    struct mr_heap *heap = shard->env->heap;
    struct pending_group *group = group_find(shard, id);
    if (group != NULL) {
        return group;
    }
    group = MR_HEAP_NEW(heap, struct pending_group);
    if (group == NULL || !mr_heap_str(heap, id, &group->id)) {
        mr_heap_free(heap, group, sizeof *group);
        return NULL;
    }
    mr_table_add(&shard->pending_groups, &group->node, mr_hash_str(&shard->env->hash_key, id));
    return group;
}

static void group_drop_one(struct mr_group_shard *shard, struct pending_group *group)
{
    if (--group->count == 0) {
        mr_table_remove(&shard->pending_groups, &group->node);
        mr_heap_str_free(shard->env->heap, &group->id);
        MR_HEAP_DELETE(shard->env->heap, group);
    }
}

/* ---- one of them ---- */

static void bytes_free(struct mr_group_shard *shard, struct mr_pending_offset *pending)
{
    mr_heap_free(shard->env->heap, pending,
                 sizeof *pending + pending->key_len + pending->value_len);
}

static void pending_free(struct mr_group_shard *shard, struct mr_pending_offset *pending)
{
    mr_list_remove(&pending->link);
    mr_table_remove(&shard->pending_keys, &pending->node);
    group_drop_one(shard, pending->group);
    bytes_free(shard, pending);
}

/* What a record of this partition overtakes of those that came before place `order`. */
static void overtake(struct mr_group_shard *shard, const struct mr_offset_commit_key *key, uint64_t order)
{
    for (struct mr_pending_offset *pending = first_of(shard, key); pending != NULL;
         pending = of_partition(mr_table_next(&pending->node), key)) {
        pending->is_overtaken = pending->is_overtaken || pending->order < order;
    }
}

/* Names that point into the bytes of the key. */
static enum mr_err read_names(struct mr_group_shard *shard, struct mr_blob bytes,
                              struct mr_offset_commit_key *key)
{
    struct mr_reader reader;
    mr_arena_reset(&shard->env->decode);
    mr_reader_init_bytes(&reader, bytes.data + 2, (uint32_t)bytes.len - 2);
    return mr_msg_decode(&mr_msg_offset_commit_key, 0, &reader, &shard->env->decode, key);
}

void mr_offsets_pending_overtake(struct mr_group_shard *shard, struct mr_blob bytes, bool is_tombstone)
{
    struct mr_offset_commit_key key;
    if (mr_list_is_empty(&shard->pending) || bytes.len < 2 || mr_load_be16(bytes.data) > 1 ||
        read_names(shard, bytes, &key) != MR_OK) {
        return;
    }
    if (!is_tombstone) {
        overtake(shard, &key, UINT64_MAX);
        return;
    }
    struct mr_pending_offset *pending;
    while ((pending = first_of(shard, &key)) != NULL) {
        pending_free(shard, pending);
    }
}

static bool write_tombstone(const struct mr_group_shard *shard,
                            const struct mr_pending_offset *pending, struct mr_coord_out *out)
{
    return mr_coord_out_record(out, shard->index, &mr_msg_offset_commit_key, &pending->key, NULL, 0,
                               NULL);
}

bool mr_offsets_pending_purge(const struct mr_group_shard *shard, struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &shard->pending)
    {
        const struct mr_pending_offset *pending =
            MR_LIST_ENTRY(link, struct mr_pending_offset, link);
        if (mr_image_topic_by_name(shard->env->image, pending->key.topic) != NULL) {
            continue;
        }
        if (mr_coord_out_bytes(out) > shard->env->record_bytes_max / 2 ||
            mr_coord_out_bytes(out) > MR_CONTROL_WORK / 2 ||
            !write_tombstone(shard, pending, out)) {
            return false;
        }
    }
    return true;
}

bool mr_offsets_pending_delete(const struct mr_group_shard *shard, struct mr_str group,
                               struct mr_coord_out *out)
{
    MR_LIST_EACH(link, &shard->pending)
    {
        const struct mr_pending_offset *pending =
            MR_LIST_ENTRY(link, struct mr_pending_offset, link);
        if (mr_str_equal(pending->key.group, group) &&
            !write_tombstone(shard, pending, out)) {
            return false;
        }
    }
    return true;
}

/* Into the list and the tables. */
static enum mr_err enter(struct mr_group_shard *shard, struct mr_pending_offset *pending)
{
    enum mr_err err = read_names(shard, key_of(pending), &pending->key);
    if (err != MR_OK) {
        return err;
    }
    pending->group = group_get_or_make(shard, pending->key.group);
    if (pending->group == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    pending->group->count++;
    pending->order = ++shard->pending_order;
    mr_list_add_tail(&shard->pending, &pending->link);
    mr_table_add(&shard->pending_keys, &pending->node, hash_of(shard, &pending->key));
    return MR_OK;
}

enum mr_err mr_offsets_pending_add(struct mr_group_shard *shard, int64_t producer_id,
                                   uint64_t sequence, struct mr_blob key, struct mr_blob value)
{
    if (key.len < 2 || value.len < 2 || mr_load_be16(key.data) > 1) {
        return MR_OK; /* nothing else is written inside a transaction */
    }
    size_t bytes = (size_t)key.len + (size_t)value.len;
    struct mr_pending_offset *pending =
        mr_heap_try(shard->env->heap, sizeof(struct mr_pending_offset) + bytes);
    if (pending == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    *pending = (struct mr_pending_offset){.producer_id = producer_id,
                                          .sequence = sequence,
                                          .key_len = (uint32_t)key.len,
                                          .value_len = (uint32_t)value.len};
    mr_list_init(&pending->link);
    memcpy(pending->bytes, key.data, (size_t)key.len);
    memcpy(pending->bytes + key.len, value.data, (size_t)value.len);
    enum mr_err err = enter(shard, pending);
    if (err != MR_OK) {
        bytes_free(shard, pending);
    }
    return err;
}

enum mr_err mr_offsets_pending_end(struct mr_group_shard *shard, int64_t producer_id,
                                   uint64_t sequence, bool is_commit)
{
    enum mr_err err = MR_OK;
    MR_LIST_EACH_SAFE(link, after, &shard->pending)
    {
        struct mr_pending_offset *pending = MR_LIST_ENTRY(link, struct mr_pending_offset, link);
        if (pending->producer_id != producer_id || pending->sequence > sequence) {
            continue;
        }
        bool is_kept = (is_commit && !mr_bug("forget-txn-offsets")) || mr_bug("commit-aborted-offsets");
        if (err == MR_OK && is_kept && !pending->is_overtaken) {
            overtake(shard, &pending->key, pending->order);
            err = mr_group_replay(shard, key_of(pending), value_of(pending));
        }
        pending_free(shard, pending);
    }
    return err;
}

void mr_offsets_pending_clear(struct mr_group_shard *shard)
{
    while (!mr_list_is_empty(&shard->pending)) {
        pending_free(shard, MR_LIST_ENTRY(shard->pending.next, struct mr_pending_offset, link));
    }
}

bool mr_offsets_is_pending(const struct mr_group_shard *shard, struct mr_str group,
                           struct mr_str topic, int32_t partition)
{
    struct mr_offset_commit_key key = {.group = group, .topic = topic, .partition = partition};
    return !mr_list_is_empty(&shard->pending) &&
           (mr_str_is_null(topic) ? group_find(shard, group) != NULL : first_of(shard, &key) != NULL);
}

/* ---- TxnOffsetCommit ---- */

/* Members are checked only when one is named. */
static int16_t check(const struct mr_group *group, struct mr_request *request,
                     struct mr_offset_commit_request *commit)
{
    bool is_named = commit->generation_id_or_member_epoch >= 0 || commit->member_id.len > 0 ||
                    !mr_str_is_null(commit->group_instance_id);
    if (!is_named) {
        return MR_KAFKA_NONE;
    }
    if (group == NULL) {
        return commit->generation_id_or_member_epoch < 0 ? MR_KAFKA_NONE
                                                         : MR_KAFKA_ILLEGAL_GENERATION;
    }
    struct mr_forward forward = *request->forward;
    struct mr_request like = *request;
    forward.api_version = 9; /* of OffsetCommit: the one that knows all of it, without topic ids */
    like.forward = &forward;
    like.message = commit;
    int16_t error = mr_offsets_check_commit(group, &like);
    bool is_old = request->forward->api_version < 6;
    return error == MR_KAFKA_STALE_MEMBER_EPOCH && is_old ? (int16_t)MR_KAFKA_ILLEGAL_GENERATION
                                                          : error;
}

/* The request in the form of an OffsetCommit. False: no scratch. */
static bool convert(const struct mr_txn_offset_commit_request *in,
                    struct mr_offset_commit_request *commit, struct mr_coord_out *out)
{
    MR_DEFAULTS(offset_commit_request, commit);
    commit->group_id = in->group_id;
    commit->generation_id_or_member_epoch = in->generation_id_or_member_epoch;
    commit->member_id = in->member_id;
    commit->group_instance_id = in->group_instance_id;
    commit->topics = MR_COORD_NEW(out, struct mr_offset_commit_request_topic, in->topics_count + 1);
    for (int32_t at = 0; commit->topics != NULL && at < in->topics_count; at++) {
        const struct mr_txn_offset_commit_request_topic *from = &in->topics[at];
        struct mr_offset_commit_request_topic *to = &commit->topics[at];
        to->name = from->name;
        to->topic_id = from->topic_id;
        to->partitions = MR_COORD_NEW(out, struct mr_offset_commit_request_partition,
                                      from->partitions_count + 1);
        if (to->partitions == NULL) {
            return false;
        }
        to->partitions_count = from->partitions_count;
        for (int32_t index = 0; index < from->partitions_count; index++) {
            to->partitions[index] = (struct mr_offset_commit_request_partition){
                .partition_index = from->partitions[index].partition_index,
                .committed_offset = from->partitions[index].committed_offset,
                .committed_leader_epoch = from->partitions[index].committed_leader_epoch,
                .committed_metadata = from->partitions[index].committed_metadata,
            };
        }
    }
    commit->topics_count = in->topics_count;
    return commit->topics != NULL;
}

void mr_offsets_commit_txn(const struct mr_group_shard *shard, struct mr_request *request,
                           struct mr_coord_out *out)
{
    const struct mr_txn_offset_commit_request *in = request->message;
    struct mr_offset_commit_request commit;
    struct mr_offset_commit_response committed;
    struct mr_txn_offset_commit_response *response =
        MR_COORD_NEW(out, struct mr_txn_offset_commit_response, 1);
    if (response == NULL || !convert(in, &commit, out)) {
        mr_coord_out_refuse(out, request, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    const struct mr_group *group = mr_group_find(shard, in->group_id);
    int16_t error = check(group, request, &commit);
    int16_t version = (int16_t)(request->forward->api_version >= 6 ? 10 : 9);
    MR_DEFAULTS(txn_offset_commit_response, response);
    response->topics =
        MR_COORD_NEW(out, struct mr_txn_offset_commit_response_topic, in->topics_count + 1);
    if (response->topics == NULL ||
        !mr_offsets_commit_topics(shard, &commit, version, error, out, &committed)) {
        mr_coord_out_forget_records(out);
        mr_coord_out_refuse(out, request, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    for (int32_t at = 0; at < committed.topics_count; at++) {
        const struct mr_offset_commit_response_topic *from = &committed.topics[at];
        struct mr_txn_offset_commit_response_topic *to = &response->topics[at];
        to->name = from->name;
        to->topic_id = from->topic_id;
        to->partitions = MR_COORD_NEW(out, struct mr_txn_offset_commit_response_partition,
                                      from->partitions_count + 1);
        for (int32_t index = 0; to->partitions != NULL && index < from->partitions_count; index++) {
            to->partitions[index].partition_index = from->partitions[index].partition_index;
            to->partitions[index].error_code = from->partitions[index].error_code;
        }
        to->partitions_count = to->partitions == NULL ? 0 : from->partitions_count;
    }
    response->topics_count = committed.topics_count;
    out->producer_id = in->producer_id;
    out->producer_epoch = in->producer_epoch;
    mr_coord_out_answer(out, request, shard->index, MR_COORD_DURABLE, response);
}

/* ---- OffsetFetch that wants stable offsets ---- */

void mr_offsets_hide_pending(const struct mr_group_shard *shard, int16_t version,
                             struct mr_offset_fetch_response_group *fetched)
{
    if (mr_list_is_empty(&shard->pending) || mr_bug("show-unstable-offsets")) {
        return;
    }
    for (int32_t at = 0; at < fetched->topics_count; at++) {
        struct mr_offset_fetch_response_topics *topic = &fetched->topics[at];
        const struct mr_image_topic *known =
            version >= 10 ? mr_image_topic_by_id(shard->env->image, &topic->topic_id) : NULL;
        struct mr_str name = known != NULL ? known->name : topic->name;
        for (int32_t index = 0; !mr_str_is_null(name) && index < topic->partitions_count; index++) {
            struct mr_offset_fetch_response_partitions *partition = &topic->partitions[index];
            if (mr_offsets_is_pending(shard, fetched->group_id, name, partition->partition_index)) {
                *partition = (struct mr_offset_fetch_response_partitions){
                    .partition_index = partition->partition_index,
                    .committed_offset = -1,
                    .committed_leader_epoch = -1,
                    .metadata = MR_STR(""),
                    .error_code = MR_KAFKA_UNSTABLE_OFFSET_COMMIT,
                };
            }
        }
    }
}
