/*
 * group: the life of a shard and of a group in it; the switches over requests, timers and records.
 */
#include "coord/group/group.h"

/* Below this much free memory no group, member or offset is added: what there is goes on to work.
 */
#define HEAP_FLOOR_SHARE 16

bool mr_group_shard_init(struct mr_group_shard *shard, struct mr_group_env *env, uint32_t index)
{
    *shard = (struct mr_group_shard){.env = env, .index = index};
    mr_list_init(&shard->pending);
    if (mr_table_init(&shard->groups, env->heap) && mr_table_init(&shard->topics, env->heap) &&
        mr_table_init(&shard->members, env->heap) && mr_table_init(&shard->consumers, env->heap) &&
        mr_table_init(&shard->pending_keys, env->heap) &&
        mr_table_init(&shard->pending_groups, env->heap)) {
        return true;
    }
    mr_group_shard_deinit(shard, NULL, 0);
    return false;
}

const char *mr_group_limit(struct mr_group_env *env, bool is_member, struct mr_now now)
{
    const struct mr_heap *heap = env->heap;
    const char *limit = NULL;
    if (heap->used_bytes >= heap->size - heap->size / HEAP_FLOOR_SHARE) {
        limit = "millrace.control.bytes";
    } else if (is_member && (env->timers_reserved + 2 > env->timers_max || mr_fail(MR_FAIL_timers))) {
        limit = "millrace.group.members.max";
    }
    if (limit != NULL && mr_log_may(&env->full_brake, now.mono_ns, MR_NS_PER_S)) {
        mr_log(env->log, MR_LOG_WARN, "no room for more groups, members or offsets limit=%s", limit);
    }
    return limit;
}

struct mr_group *mr_group_find(const struct mr_group_shard *shard, struct mr_str id)
{
    uint64_t hash = mr_hash_str(&shard->env->hash_key, id);
    for (struct mr_table_node *node = mr_table_first(&shard->groups, hash); node != NULL;
         node = mr_table_next(node)) {
        struct mr_group *group = MR_TABLE_ENTRY(node, struct mr_group, node);
        if (mr_str_equal(group->id, id)) {
            return group;
        }
    }
    return NULL;
}

static void classic_init(struct mr_group *group)
{
    group->classic_part = (struct mr_classic){0};
    mr_classic_init(&group->classic_part);
    group->classic_part.rebalance.timer.kind = MR_GROUP_TIMER_REBALANCE;
    group->classic_part.rebalance.fire = group->shard->env->fire;
    group->classic_part.rebalance.user = group;
}

struct mr_group *mr_group_get_or_make(struct mr_group_shard *shard, struct mr_str id)
{
    struct mr_group *group = mr_group_find(shard, id);
    if (group != NULL) {
        return group;
    }
    group = MR_HEAP_NEW(shard->env->heap, struct mr_group);
    if (group == NULL || !mr_heap_str(shard->env->heap, id, &group->id)) {
        mr_heap_free(shard->env->heap, group, sizeof *group);
        return NULL;
    }
    group->shard = shard;
    mr_list_init(&group->topics);
    classic_init(group);
    mr_table_add(&shard->groups, &group->node, mr_hash_str(&shard->env->hash_key, id));
    return group;
}

static void group_free(struct mr_group *group, struct mr_coord_out *out, int16_t error)
{
    struct mr_group_shard *shard = group->shard;
    mr_consumer_deinit(group);
    mr_classic_deinit(group, out, error);
    mr_offsets_free(group);
    mr_table_remove(&shard->groups, &group->node);
    mr_heap_str_free(shard->env->heap, &group->id);
    MR_HEAP_DELETE(shard->env->heap, group);
}

void mr_group_forget_classic(struct mr_group *group)
{
    mr_classic_deinit(group, NULL, 0);
    classic_init(group);
}

void mr_group_forget_if_empty(struct mr_group *group)
{
    if (group->consumer == NULL && mr_list_is_empty(&group->topics)) {
        group_free(group, NULL, 0);
    }
}

void mr_group_shard_deinit(struct mr_group_shard *shard, struct mr_coord_out *out, int16_t error)
{
    if (shard->pending.next != NULL) {
        mr_offsets_pending_clear(shard);
    }
    if (shard->groups.buckets != NULL) {
        struct mr_table_node *node;
        while ((node = mr_table_walk(&shard->groups, NULL)) != NULL) {
            group_free(MR_TABLE_ENTRY(node, struct mr_group, node), out, error);
        }
        mr_table_deinit(&shard->groups);
    }
    struct mr_table *const tables[] = {&shard->topics, &shard->members, &shard->consumers,
                                       &shard->pending_keys, &shard->pending_groups};
    for (uint32_t index = 0; index < sizeof tables / sizeof tables[0]; index++) {
        if (tables[index]->buckets != NULL) {
            mr_table_deinit(tables[index]);
        }
    }
}

void mr_group_loaded(const struct mr_group_shard *shard, struct mr_coord_out *out)
{
    for (struct mr_table_node *node = mr_table_walk(&shard->groups, NULL); node != NULL;
         node = mr_table_walk(&shard->groups, node)) {
        struct mr_group *group = MR_TABLE_ENTRY(node, struct mr_group, node);
        if (group->consumer != NULL) {
            mr_consumer_loaded(group, out);
        } else {
            mr_classic_loaded(group, out);
        }
    }
}

/* ---- records ---- */

static enum mr_err decode(struct mr_arena *scratch, const struct mr_msg *msg, int16_t version,
                          const struct mr_blob *bytes, void *out)
{
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, bytes->data + 2, (uint32_t)bytes->len - 2);
    return mr_msg_decode(msg, version, &reader, scratch, out);
}

/* A record of a later Kafka, or of a kind that is not served here: it stays in the log, unread. */
static enum mr_err skip(struct mr_group_shard *shard, const char *what, int16_t number)
{
    /* No clock here: one line per thousand. */
    if (shard->env->skipped_brake.held_back++ % 1000 == 0) {
        mr_log(shard->env->log, MR_LOG_WARN,
               "a record of __consumer_offsets is skipped partition=%u %s=%d", shard->index, what,
               number);
    }
    return MR_OK;
}

static enum mr_err replay_metadata(struct mr_group_shard *shard, struct mr_blob key_bytes,
                                   struct mr_blob value_bytes, int16_t version)
{
    struct mr_arena *scratch = &shard->env->decode;
    struct mr_group_metadata_key key;
    struct mr_group_metadata_value value;
    enum mr_err err = decode(scratch, &mr_msg_group_metadata_key, 0, &key_bytes, &key);
    if (err != MR_OK) {
        return err;
    }
    if (value_bytes.len < 0) {
        struct mr_group *group = mr_group_find(shard, key.group);
        if (group != NULL && group->consumer == NULL) {
            /* Offsets have tombstones of their own: a group that changes its protocol keeps them. */
            mr_group_forget_classic(group);
            mr_group_forget_if_empty(group);
        }
        return MR_OK;
    }
    err = decode(scratch, &mr_msg_group_metadata_value, version, &value_bytes, &value);
    if (err != MR_OK) {
        return err;
    }
    struct mr_group *group = mr_group_get_or_make(shard, key.group);
    if (group == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_consumer_deinit(group);
    return mr_classic_settle(group, &value);
}

static enum mr_err replay_offset(struct mr_group_shard *shard, struct mr_blob key_bytes,
                                 struct mr_blob value_bytes, int16_t version)
{
    struct mr_arena *scratch = &shard->env->decode;
    struct mr_offset_commit_key key;
    struct mr_offset_commit_value value;
    enum mr_err err = decode(scratch, &mr_msg_offset_commit_key, 0, &key_bytes, &key);
    if (err != MR_OK || value_bytes.len < 0) {
        return err != MR_OK ? err : mr_offsets_replay(shard, &key, NULL);
    }
    err = decode(scratch, &mr_msg_offset_commit_value, version, &value_bytes, &value);
    return err != MR_OK ? err : mr_offsets_replay(shard, &key, &value);
}

enum mr_err mr_group_replay(struct mr_group_shard *shard, struct mr_blob key, struct mr_blob value)
{
    if (key.len < 2 || (value.len >= 0 && value.len < 2)) {
        return MR_ERR_MALFORMED;
    }
    mr_arena_reset(&shard->env->decode);
    int16_t type = (int16_t)mr_load_be16(key.data);
    int16_t version = value.len < 0 ? (int16_t)0 : (int16_t)mr_load_be16(value.data);
    switch (type) {
    case 0: /* an offset commit as Kafka before 0.9 wrote it: the same fields */
    case 1:
        return mr_msg_has_version(&mr_msg_offset_commit_value, version)
                   ? replay_offset(shard, key, value, version)
                   : skip(shard, "offset_version", version);
    case 2:
        return mr_msg_has_version(&mr_msg_group_metadata_value, version)
                   ? replay_metadata(shard, key, value, version)
                   : skip(shard, "metadata_version", version);
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 16:
        return version == 0 ? mr_consumer_replay(shard, type, key, value)
                            : skip(shard, "group_version", version);
    default:
        return skip(shard, "type", type);
    }
}

/* ---- steps ---- */

void mr_group_handle(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out)
{
    switch (request->forward->api_key) {
    case MR_API_JOIN_GROUP:
        mr_classic_join(shard, request, out);
        return;
    case MR_API_SYNC_GROUP:
        mr_classic_sync(shard, request, out);
        return;
    case MR_API_HEARTBEAT:
        mr_classic_heartbeat(shard, request, out);
        return;
    case MR_API_LEAVE_GROUP:
        mr_classic_leave(shard, request, out);
        return;
    case MR_API_CONSUMER_GROUP_HEARTBEAT:
        mr_consumer_heartbeat(shard, request, out);
        return;
    case MR_API_OFFSET_COMMIT:
        mr_offsets_commit(shard, request, out);
        return;
    case MR_API_OFFSET_DELETE:
        mr_offsets_delete(shard, request, out);
        return;
    default:
        mr_unreachable("not a request for one group");
    }
}

struct mr_group_shard *mr_group_timer_shard(struct mr_control_timer *timer)
{
    switch ((enum mr_group_timer_kind)timer->timer.kind) {
    case MR_GROUP_TIMER_SESSION:
        return ((struct mr_classic_member *)timer->user)->group->shard;
    case MR_GROUP_TIMER_REBALANCE:
        return ((struct mr_group *)timer->user)->shard;
    case MR_GROUP_TIMER_CONSUMER_SESSION:
    case MR_GROUP_TIMER_CONSUMER_REBALANCE:
        return mr_consumer_group_of(timer->user)->shard;
    }
    mr_unreachable("no such timer");
}

void mr_group_fire(struct mr_control_timer *timer, struct mr_coord_out *out)
{
    switch ((enum mr_group_timer_kind)timer->timer.kind) {
    case MR_GROUP_TIMER_SESSION:
        mr_classic_session_expired(timer->user, out);
        return;
    case MR_GROUP_TIMER_REBALANCE:
        mr_classic_rebalance_due(timer->user, out);
        return;
    case MR_GROUP_TIMER_CONSUMER_SESSION:
        mr_consumer_session_expired(timer->user, out);
        return;
    case MR_GROUP_TIMER_CONSUMER_REBALANCE:
        mr_consumer_rebalance_due(timer->user, out);
        return;
    }
    mr_unreachable("no such timer");
}

/* ---- small things ---- */

struct mr_str mr_group_client_host(const struct mr_request *request, struct mr_coord_out *out)
{
    struct mr_str host = request->forward->client_host;
    char *text = mr_coord_scratch(out, (size_t)(host.len > 0 ? host.len : 0) + 1);
    if (text == NULL) {
        return MR_STR("/");
    }
    text[0] = '/';
    if (host.len > 0) {
        memcpy(text + 1, host.data, (size_t)host.len);
    }
    return (struct mr_str){.data = text, .len = (host.len > 0 ? host.len : 0) + 1};
}

struct mr_str mr_group_type_name(const struct mr_group *group)
{
    return group->consumer != NULL ? MR_STR("consumer") : MR_STR("classic");
}

struct mr_str mr_group_state_name(const struct mr_group *group)
{
    if (group->consumer != NULL) {
        return mr_consumer_state_name(group);
    }
    switch (group->classic_part.state) {
    case MR_CLASSIC_EMPTY:
        return MR_STR("Empty");
    case MR_CLASSIC_PREPARING:
        return MR_STR("PreparingRebalance");
    case MR_CLASSIC_COMPLETING:
        return MR_STR("CompletingRebalance");
    case MR_CLASSIC_STABLE:
        return MR_STR("Stable");
    }
    mr_unreachable("no such state");
}

bool mr_group_is_empty(const struct mr_group *group)
{
    return group->consumer != NULL ? mr_consumer_is_empty(group)
                                   : group->classic_part.state == MR_CLASSIC_EMPTY;
}

static bool subscribes(struct mr_blob metadata, struct mr_str topic, struct mr_arena *scratch,
                       bool *is_readable)
{
    struct mr_consumer_protocol_subscription subscription;
    struct mr_reader reader;
    int16_t version;
    mr_reader_init_bytes(&reader, metadata.data, metadata.len < 0 ? 0 : (uint32_t)metadata.len);
    /* Later versions only add fields at the end: version 0 reads the topics of all. */
    if (mr_reader_int16(&reader, &version) != MR_OK || version < 0 ||
        mr_msg_decode(&mr_msg_consumer_protocol_subscription, 0, &reader, scratch, &subscription) !=
            MR_OK) {
        *is_readable = false;
        return false;
    }
    for (int32_t index = 0; index < subscription.topics_count; index++) {
        if (mr_str_equal(subscription.topics[index], topic)) {
            return true;
        }
    }
    return false;
}

/* As Kafka: by the metadata of the chosen protocol; when that cannot be read, a consumer group
 * counts as subscribed to everything. */
bool mr_group_is_subscribed(const struct mr_group *group, struct mr_str topic,
                            struct mr_coord_out *out)
{
    const struct mr_classic *classic = &group->classic_part;
    if (group->consumer != NULL) {
        return mr_consumer_is_subscribed(group, topic);
    }
    if (!mr_str_equal(classic->protocol_type, MR_STR("consumer"))) {
        return false;
    }
    if (classic->member_count == 0) {
        return false;
    }
    if (mr_str_is_null(classic->protocol)) {
        return true;
    }
    bool is_readable = true;
    bool is_subscribed = false;
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        size_t mark = out->scratch->used;
        if (subscribes(mr_classic_metadata(member, classic->protocol), topic, out->scratch,
                       &is_readable)) {
            is_subscribed = true;
        }
        out->scratch->used = mark;
    }
    return is_subscribed || !is_readable;
}
