/*
 * group_service: the requests of one group, timers, what is looked through from time to time, and what the runtime asks of
 * groups.
 */
#include "coord/coord_runtime.h"

#include "millrace/base/bug.h"

#define STEPS_MAX     8
#define SCRATCH_SHARE 32u        /* of the heap */
#define SCRATCH_MIN   (1u << 20)

/* ---- requests, timers ---- */

/* The group of a request that concerns one. */
static struct mr_str group_of(const struct mr_request *request)
{
    switch (request->forward->api_key) {
    case MR_API_JOIN_GROUP:
        return ((const struct mr_join_group_request *)request->message)->group_id;
    case MR_API_SYNC_GROUP:
        return ((const struct mr_sync_group_request *)request->message)->group_id;
    case MR_API_HEARTBEAT:
        return ((const struct mr_heartbeat_request *)request->message)->group_id;
    case MR_API_LEAVE_GROUP:
        return ((const struct mr_leave_group_request *)request->message)->group_id;
    case MR_API_OFFSET_COMMIT:
        return ((const struct mr_offset_commit_request *)request->message)->group_id;
    case MR_API_OFFSET_DELETE:
        return ((const struct mr_offset_delete_request *)request->message)->group_id;
    case MR_API_CONSUMER_GROUP_HEARTBEAT:
        return ((const struct mr_consumer_group_heartbeat_request *)request->message)->group_id;
    default:
        mr_unreachable("not a request of one group");
    }
}

static void group_request(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    struct mr_coord *coord = control->coord;
    struct mr_coord_wait *wait = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    struct mr_coord_shard *shard;
    if (wait == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    request->user = wait;
    mr_arena_reset(&coord->scratch);
    int16_t error = mr_coord_shard_of(coord, group_of(request), &shard);
    if (error == MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS &&
        request->forward->api_key == MR_API_HEARTBEAT) {
        error = MR_KAFKA_NONE; /* as Kafka: members need not worry about a restart */
    }
    if (shard == NULL) {
        mr_coord_prepare_error(coord, request, error);
        mr_control_reply_send(control, request);
        return;
    }
    for (uint32_t step = 0; step < STEPS_MAX && shard->state == MR_COORD_ACTIVE; step++) {
        struct mr_coord_out out;
        mr_arena_reset(&coord->scratch);
        mr_coord_out_init(&out, &coord->scratch, now);
        out.step = step;
        coord->env.image = mr_control_image(control);
        mr_group_handle(&shard->groups, request, &out);
        if (mr_bug("forget-offsets") &&
            request->forward->api_key == MR_API_OFFSET_COMMIT) {
            mr_coord_out_forget_records(&out);
        }
        bool is_again = out.is_again;
        mr_coord_apply(shard, &out);
        if (!is_again) {
            return;
        }
        bool is_broken = shard->state != MR_COORD_ACTIVE; /* then there is nothing to look into */
        if (is_broken || out.records == NULL || mr_group_find(&shard->groups, group_of(request)) == NULL) {
            break; /* what was decided could not be written */
        }
    }
    mr_arena_reset(&coord->scratch);
    mr_coord_prepare_error(coord, request, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
    mr_control_reply_send(control, request);
}

static void group_timer(struct mr_control *control, struct mr_now now,
                        struct mr_control_timer *timer)
{
    struct mr_coord *coord = control->coord;
    struct mr_coord_shard *shard = coord->shards[mr_group_timer_shard(timer)->index];
    struct mr_coord_out out;
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(&out, &coord->scratch, now);
    coord->env.image = mr_control_image(control);
    mr_group_fire(timer, &out);
    mr_coord_apply(shard, &out);
}

/* It is time to look for old offsets, and for what could not be written when its topic was deleted. */
static void expire(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    struct mr_coord *coord = control->coord;
    mr_timer_set(&control->timers, &timer->timer,
                 mr_deadline_ms(now.mono_ns, control->config->offsets_retention_check_interval_ms));
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        if (coord->shards[index] != NULL) {
            coord->shards[index]->expiry.is_wanted = true;
            coord->shards[index]->purge.is_wanted = true;
        }
    }
}

static void step_begin(struct mr_coord *coord, struct mr_coord_out *out, struct mr_now now)
{
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(out, &coord->scratch, now);
}

/* Old offsets of a group. */
static bool expire_group(struct mr_coord_shard *shard, struct mr_table_node *node, struct mr_now now)
{
    struct mr_coord_out out;
    step_begin(shard->coord, &out, now);
    bool is_all = mr_offsets_expire(MR_TABLE_ENTRY(node, struct mr_group, node), &out);
    return mr_coord_apply(shard, &out) != MR_KAFKA_NONE || is_all; /* no memory: at the next look */
}

/* Offsets of a deleted topic. */
static bool purge_topic(struct mr_coord_shard *shard, struct mr_table_node *node, struct mr_now now)
{
    struct mr_coord_out out;
    step_begin(shard->coord, &out, now);
    bool is_all =
        mr_offsets_purge(&shard->groups, MR_TABLE_ENTRY(node, struct mr_group_topic, node), &out);
    return mr_coord_apply(shard, &out) != MR_KAFKA_NONE || is_all;
}

/* The same of open transactions, before those that are committed. */
static void purge_some(struct mr_coord_shard *shard, struct mr_now now)
{
    struct mr_coord_out out;
    bool is_all = true;
    if (shard->purge.at == 0) {
        step_begin(shard->coord, &out, now);
        is_all = mr_offsets_pending_purge(&shard->groups, &out);
        is_all = mr_coord_apply(shard, &out) != MR_KAFKA_NONE || is_all;
    }
    if (is_all) {
        mr_coord_walk_some(shard, &shard->purge, &shard->groups.topics, now, purge_topic);
    }
}

/* What is to be looked through, some of one shard per turn. */
static bool group_sweep(struct mr_coord *coord, struct mr_now now)
{
    coord->env.image = mr_control_image(coord->control);
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        if (shard == NULL || shard->state != MR_COORD_ACTIVE) {
            continue;
        }
        if (shard->purge.is_wanted) {
            purge_some(shard, now);
            return true;
        }
        if (shard->expiry.is_wanted) {
            mr_coord_walk_some(shard, &shard->expiry, &shard->groups.groups, now, expire_group);
            return true;
        }
    }
    return false;
}

/* ---- what the runtime asks of groups ---- */

static bool group_shard_init(struct mr_coord_shard *shard)
{
    return mr_group_shard_init(&shard->groups, &shard->coord->env, shard->index);
}

static void group_shard_deinit(struct mr_coord_shard *shard, struct mr_coord_out *out, int16_t error)
{
    mr_group_shard_deinit(&shard->groups, out, error);
}

static enum mr_err group_replay(struct mr_coord_shard *shard, const struct mr_batch *batch,
                                struct mr_blob key, struct mr_blob value)
{
    struct mr_marker marker;
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        return mr_marker_parse(key, value, &marker)
                   ? mr_offsets_pending_end(&shard->groups, batch->producer_id, UINT64_MAX,
                                            marker.is_commit)
                   : MR_OK;
    }
    if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        uint64_t sequence = shard->state == MR_COORD_ACTIVE ? shard->sealed + 1 : 0;
        return mr_offsets_pending_add(&shard->groups, batch->producer_id, sequence, key, value);
    }
    mr_offsets_pending_overtake(&shard->groups, key, value.len < 0);
    return mr_group_replay(&shard->groups, key, value);
}

static void group_loaded(struct mr_coord_shard *shard, struct mr_coord_out *out)
{
    shard->purge = (struct mr_coord_walk){.is_wanted = true}; /* a crash may have come between a topic's end and theirs */
    mr_group_loaded(&shard->groups, out);
    mr_transactions_retry_now(shard->coord->control, out->now);
}

static uint32_t group_count(const struct mr_coord_shard *shard)
{
    return shard->groups.groups.used;
}

static const struct mr_coord_kind group_kind = {
    .topic = "__consumer_offsets",
    .what = "groups",
    .shard_init = group_shard_init,
    .shard_deinit = group_shard_deinit,
    .replay = group_replay,
    .loaded = group_loaded,
    .count = group_count,
    .sweep = group_sweep,
};

/* ---- the start ---- */

static void draw_uuid(void *user, struct mr_uuid *id)
{
    mr_control_uuid(user, id);
    id->bytes[6] = (uint8_t)((id->bytes[6] & 0x0f) | 0x40);
    id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3f) | 0x80);
}

static int32_t clamp(int64_t value)
{
    return value > INT32_MAX ? INT32_MAX : (int32_t)value;
}

static int64_t group_setting(void *user, struct mr_str group, enum mr_group_config_id id)
{
    const struct mr_control *control = user;
    return mr_group_config_value(control->meta, control->config, group, id);
}

bool mr_groups_init(struct mr_control *control)
{
    const struct mr_config *config = control->config;
    struct mr_arena decode;
    struct mr_coord *coord = mr_coord_new(control, &group_kind, SCRATCH_SHARE, SCRATCH_MIN, &decode);
    if (coord == NULL) {
        return false;
    }
    coord->env.decode = decode;
    struct mr_group_env *env = &coord->env;
    env->min_session_ms = clamp(config->group_min_session_timeout_ms);
    env->max_session_ms = clamp(config->group_max_session_timeout_ms);
    env->initial_delay_ms = clamp(config->group_initial_rebalance_delay_ms);
    env->size_max = config->group_max_size;
    env->setting = group_setting;
    env->setting_user = control;
    env->consumer_regex_refresh_ms = config->group_consumer_regex_refresh_interval_ms;
    env->consumer_size_max = (uint32_t)clamp(config->group_consumer_max_size);
    struct mr_str assignor;
    for (int32_t at = 0; env->assignor_count < MR_GROUP_ASSIGNORS_MAX &&
                         mr_str_list_next(config->group_consumer_assignors, &at, &assignor);) {
        env->assignors[env->assignor_count++] = assignor;
    }
    if (env->assignor_count == 0) {
        env->assignors[env->assignor_count++] = MR_STR("uniform");
    }
    struct mr_str policy = config->group_consumer_migration_policy;
    bool is_both = mr_str_equal(policy, MR_STR("bidirectional"));
    env->may_upgrade = is_both || mr_str_equal(policy, MR_STR("upgrade"));
    env->may_downgrade = is_both || mr_str_equal(policy, MR_STR("downgrade"));
    env->metadata_bytes_max = clamp(config->offset_metadata_max_bytes);
    env->retention_ms = config->offsets_retention_minutes * 60 * 1000;
    env->record_bytes_max = coord->record_bytes_max;
    env->heap = &control->heap;
    env->timers = &control->timers;
    env->hash_key = control->hash_key;
    env->log = control->log;
    env->timers_max = control->timers.capacity / 4 * 3;
    env->fire = group_timer;
    env->uuid = draw_uuid;
    env->uuid_user = control;
    coord->expiry.fire = expire;
    control->coord = coord;
    mr_control_serve(control, MR_API_JOIN_GROUP, group_request);
    mr_control_serve(control, MR_API_SYNC_GROUP, group_request);
    mr_control_serve(control, MR_API_HEARTBEAT, group_request);
    mr_control_serve(control, MR_API_LEAVE_GROUP, group_request);
    mr_control_serve(control, MR_API_OFFSET_COMMIT, group_request);
    mr_control_serve(control, MR_API_OFFSET_DELETE, group_request);
    mr_control_serve(control, MR_API_CONSUMER_GROUP_HEARTBEAT, group_request);
    mr_coord_service_init(coord);
    coord->expiry_ms = config->offsets_retention_check_interval_ms;
    return true;
}
