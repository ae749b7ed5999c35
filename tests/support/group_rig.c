/*
 * group_rig: a shard of groups as pure steps.
 */
#include "group_rig.h"

#include "coord/group/consumer.h"
#include "golden.h"
#include "test.h"

#define HEAP_BYTES (64u << 20)

static void fire(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    (void)control;
    (void)now;
    (void)timer;
}

static void uuid(void *user, struct mr_uuid *id)
{
    struct mr_group_rig *w = user;
    memset(id, 0, sizeof *id);
    mr_store_be32(id->bytes + 12, ++w->uuids);
}

static int64_t setting(void *user, struct mr_str group, enum mr_group_config_id id)
{
    static const int64_t values[MR_GROUP_CONFIG_COUNT] = {
        [MR_GROUP_CONFIG_session_ms] = 45000,
        [MR_GROUP_CONFIG_heartbeat_ms] = 5000,
        [MR_GROUP_CONFIG_assignment_interval_ms] = 1000,
    };
    (void)user;
    (void)group;
    return values[id];
}

static void env_init(struct mr_group_env *env, struct mr_heap *heap, struct mr_timers *timers,
                     struct mr_arena *arena, struct mr_group_rig *rig)
{
    *env = (struct mr_group_env){
        .min_session_ms = 6000,
        .max_session_ms = 1800000,
        .initial_delay_ms = 3000,
        .size_max = INT32_MAX,
        .setting = setting,
        .consumer_size_max = INT32_MAX,
        .consumer_regex_refresh_ms = 600000,
        .assignors = {MR_STR("uniform"), MR_STR("range")},
        .assignor_count = 2,
        .may_upgrade = true,
        .may_downgrade = true,
        .metadata_bytes_max = 4096,
        .retention_ms = 7ll * 24 * 3600 * 1000,
        .record_bytes_max = 1000000,
        .heap = heap,
        .timers = timers,
        .timers_max = 10000,
        .fire = fire,
        .uuid = uuid,
        .uuid_user = rig,
        .image = &rig->image,
        .log = &rig->warnings,
    };
    mr_arena_init(&env->decode, mr_arena_get_fresh(arena, 1 << 20, 64), 1 << 20);
}

struct mr_group_rig *mr_group_rig_new(void)
{
    struct mr_arena arena;
    size_t bytes = (size_t)3 * HEAP_BYTES + sizeof(struct mr_group_rig) + (32u << 20);
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    struct mr_group_rig *rig = mr_arena_get_fresh(&arena, sizeof *rig, 64);
    mr_heap_init(&rig->heap, mr_arena_get_fresh(&arena, HEAP_BYTES, 64), HEAP_BYTES);
    mr_heap_init(&rig->fold_heap, mr_arena_get_fresh(&arena, HEAP_BYTES, 64), HEAP_BYTES);
    mr_timers_init(&rig->timers, &arena, 20000);
    mr_timers_init(&rig->fold_timers, &arena, 20000);
    mr_arena_init(&rig->scratch, mr_arena_get_fresh(&arena, 8 << 20, 64), 8 << 20);
    mr_arena_init(&rig->forever, mr_arena_get_fresh(&arena, HEAP_BYTES / 2, 64), HEAP_BYTES / 2);
    static const struct mr_str names[] = {{"t", 1}, {"u", 1}};
    for (uint32_t index = 0; index < 2; index++) {
        rig->topic[index] = (struct mr_image_topic){.name = names[index], .partition_count = 4};
        rig->topic[index].id.bytes[0] = (uint8_t)(7 + index);
        rig->topics[index] = &rig->topic[index];
    }
    static const struct mr_image_feature features[] = {{{"group.version", 13}, 1}};
    rig->image = (struct mr_image){
        .version = 1,
        .feature_count = 1,
        .features = features,
        .topic_count = 2,
        .topics = rig->topics,
        .topics_by_id = rig->topics,
    };
    mr_log_init(&rig->warnings, &arena, 64, "control");
    rig->warnings.level_min = MR_LOG_WARN;
    env_init(&rig->env, &rig->heap, &rig->timers, &arena, rig);
    env_init(&rig->fold_env, &rig->fold_heap, &rig->fold_timers, &arena, rig);
    rig->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    mr_text_init(&rig->trace, rig->text, sizeof rig->text);
    assert_true(mr_group_shard_init(&rig->shard, &rig->env, 0));
    return rig;
}

static void dump_blob(struct mr_text *text, struct mr_blob blob)
{
    mr_text_fmt(text, "%.*s", blob.len > 0 ? blob.len : 0, (const char *)blob.data);
}

static void dump_parts(struct mr_text *text, const char *what, const struct mr_parts *set)
{
    mr_text_fmt(text, " %s=", what);
    for (uint32_t at = 0; at < set->count; at++) {
        mr_text_fmt(text, "%u:%d@%d,", set->items[at].topic_id.bytes[0], set->items[at].partition,
                    set->items[at].epoch);
    }
}

/* All of a group of the new protocol is settled. */
static void dump_consumer(const struct mr_group *group, struct mr_text *text)
{
    const struct mr_consumer *c = group->consumer;
    mr_text_fmt(text, " epoch=%d hash=%llx assignment=%d at=%lld owners=%u", c->epoch,
                (unsigned long long)c->metadata_hash, c->assignment_epoch,
                (long long)c->assignment_ms, c->owners.used);
    MR_LIST_EACH(link, &c->members)
    {
        const struct mr_consumer_member *m = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        struct mr_consumer_profile p = mr_consumer_profile(m);
        mr_text_fmt(text, "\n  %.*s instance=%.*s rack=%.*s client=%.*s host=%.*s assignor=%.*s "
                          "regex=%.*s %d epoch=%d<%d state=%d names=",
                    p.id.len, p.id.data, p.instance_id.len, p.instance_id.data, p.rack_id.len,
                    p.rack_id.data, p.client_id.len, p.client_id.data, p.client_host.len,
                    p.client_host.data, p.assignor.len, p.assignor.data, p.wish.regex.len,
                    p.wish.regex.data, p.rebalance_ms, m->epoch, m->previous_epoch, (int)m->state);
        for (uint32_t at = 0; at < p.wish.count; at++) {
            mr_text_fmt(text, "%.*s,", p.wish.names[at].len, p.wish.names[at].data);
        }
        dump_parts(text, "assigned", &m->assigned);
        dump_parts(text, "pending", &m->pending);
        dump_parts(text, "target", &m->target);
    }
}

static void dump_group(const struct mr_group *group, struct mr_text *text, bool is_settled)
{
    const struct mr_classic *c = &group->classic_part;
    mr_text_fmt(text, "group %.*s", group->id.len, group->id.data);
    if (group->consumer != NULL) {
        dump_consumer(group, text);
    } else if (is_settled) {
        mr_text_fmt(text, " %d generation=%d type=%.*s protocol=%.*s leader=%.*s", (int)c->state,
                    c->generation, c->protocol_type.len, c->protocol_type.data, c->protocol.len,
                    c->protocol.data, c->leader.len, c->leader.data);
        MR_LIST_EACH(link, &c->members)
        {
            const struct mr_classic_member *m = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            mr_text_fmt(text, "\n  %.*s instance=%.*s client=%.*s host=%.*s %d %d ", m->id.len,
                        m->id.data, m->instance_id.len, m->instance_id.data, m->client_id.len,
                        m->client_id.data, m->client_host.len, m->client_host.data, m->session_ms,
                        m->rebalance_ms);
            dump_blob(text, mr_classic_metadata(m, c->protocol));
            mr_text_fmt(text, " -> ");
            dump_blob(text, m->assignment);
        }
    }
    for (int32_t partition = 0; partition < 4; partition++) {
        MR_LIST_EACH(link, &group->topics)
        {
            const struct mr_group_topic *t = MR_LIST_ENTRY(link, struct mr_group_topic, link);
            for (uint32_t index = 0; index < t->count; index++) {
                if (t->offsets[index].partition == partition) {
                    mr_text_fmt(text, "\n  %.*s-%d=%lld %.*s", t->name.len, t->name.data, partition,
                                (long long)t->offsets[index].offset, t->offsets[index].metadata.len,
                                t->offsets[index].metadata.data);
                }
            }
        }
    }
    mr_text_fmt(text, "\n");
}

static void check_fold(struct mr_group_rig *rig)
{
    static char live_text[1 << 16];
    static char fold_text[1 << 16];
    struct mr_group_shard fold;
    assert_true(mr_group_shard_init(&fold, &rig->fold_env, 0));
    for (uint32_t index = 0; index < rig->log_count; index++) {
        assert_int_equal(mr_group_replay(&fold, rig->log[index].key, rig->log[index].value),
                         MR_OK);
    }
    assert_int_equal(fold.groups.used, rig->shard.groups.used);
    for (struct mr_table_node *node = mr_table_walk(&rig->shard.groups, NULL); node != NULL;
         node = mr_table_walk(&rig->shard.groups, node)) {
        const struct mr_group *live = MR_TABLE_ENTRY(node, struct mr_group, node);
        const struct mr_group *folded = mr_group_find(&fold, live->id);
        bool is_settled = live->classic_part.state == MR_CLASSIC_EMPTY ||
                          live->classic_part.state == MR_CLASSIC_STABLE;
        struct mr_text a;
        struct mr_text b;
        assert_non_null(folded);
        mr_text_init(&a, live_text, sizeof live_text);
        mr_text_init(&b, fold_text, sizeof fold_text);
        dump_group(live, &a, is_settled);
        dump_group(folded, &b, is_settled);
        assert_string_equal(live_text, fold_text);
        assert_true(folded->classic_part.generation <= live->classic_part.generation);
    }
    mr_group_shard_deinit(&fold, NULL, 0);
    assert_int_equal(rig->fold_timers.count, 0);
    assert_int_equal(rig->fold_env.timers_reserved, 0);
}

static struct mr_blob keep(struct mr_group_rig *rig, struct mr_blob blob)
{
    if (blob.len <= 0) {
        return blob;
    }
    uint8_t *copy = mr_arena_get_fresh(&rig->forever, (size_t)blob.len, 1);
    memcpy(copy, blob.data, (size_t)blob.len);
    return (struct mr_blob){.data = copy, .len = blob.len};
}

static void margin(struct mr_group_rig *rig, char mark, const char *who)
{
    uint64_t ms = (rig->now.mono_ns - MR_NS_PER_S) / MR_NS_PER_MS;
    mr_text_fmt(&rig->trace, "%6llu.%03llu %c %s ", (unsigned long long)(ms / 1000),
                (unsigned long long)(ms % 1000), mark, who);
}

static void note_heartbeat(struct mr_group_rig_ask *ask,
                           const struct mr_consumer_group_heartbeat_response *beat)
{
    mr_fmt(ask->words, sizeof ask->words, "%.*s", beat->error_message.len > 0 ? beat->error_message.len : 0,
           beat->error_message.data);
    ask->error = beat->error_code;
    ask->generation = beat->member_epoch;
    mr_fmt(ask->assignment, sizeof ask->assignment, "-");
    struct mr_text text;
    if (beat->assignment == NULL) {
        return;
    }
    mr_text_init(&text, ask->assignment, sizeof ask->assignment);
    for (int32_t at = 0; at < beat->assignment->topic_partitions_count; at++) {
        const struct mr_consumer_group_heartbeat_response_topic_partitions *topic =
            &beat->assignment->topic_partitions[at];
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            mr_text_fmt(&text, "%s%c%d", text.len > 0 ? "," : "",
                        topic->topic_id.bytes[0] == 7 ? 't' : 'u', topic->partitions[index]);
        }
    }
    mr_text_fmt(&text, "%c", 0);
}

static void note_answer(struct mr_group_rig *rig, struct mr_group_rig_ask *ask)
{
    const void *response = ask->answer.response;
    assert_non_null(response);
    struct mr_str id = MR_STR_NULL;
    struct mr_str leader = MR_STR_NULL;
    if (ask->forward.api_key == MR_API_JOIN_GROUP) {
        const struct mr_join_group_response *join = response;
        ask->error = join->error_code;
        ask->generation = join->generation_id;
        id = join->member_id;
        leader = join->leader;
    } else if (ask->forward.api_key == MR_API_SYNC_GROUP) {
        const struct mr_sync_group_response *sync = response;
        ask->error = sync->error_code;
        mr_fmt(ask->assignment, sizeof ask->assignment, "%.*s", sync->assignment.len,
               (const char *)sync->assignment.data);
    } else if (ask->forward.api_key == MR_API_HEARTBEAT) {
        ask->error = ((const struct mr_heartbeat_response *)response)->error_code;
    } else if (ask->forward.api_key == MR_API_CONSUMER_GROUP_HEARTBEAT) {
        const struct mr_consumer_group_heartbeat_response *beat = response;
        note_heartbeat(ask, beat);
        id = beat->member_id;
    } else if (ask->forward.api_key == MR_API_LEAVE_GROUP) {
        const struct mr_leave_group_response *left = response;
        ask->error = left->members_count > 0 ? left->members[0].error_code : left->error_code;
    } else if (ask->forward.api_key == MR_API_OFFSET_COMMIT) {
        ask->error = ((const struct mr_offset_commit_response *)response)
                         ->topics[0]
                         .partitions[0]
                         .error_code;
    }
    mr_fmt(ask->member_id, sizeof ask->member_id, "%.*s", id.len > 0 ? id.len : 0, id.data);
    mr_fmt(ask->leader, sizeof ask->leader, "%.*s", leader.len > 0 ? leader.len : 0, leader.data);
    margin(rig, '>', ask->who);
    assert_int_equal(mr_msg_print(mr_api_response_desc(ask->forward.api_key),
                                  ask->forward.api_version, response, &rig->trace),
                     MR_OK);
    mr_text_fmt(&rig->trace, "%s\n",
                ask->answer.when == MR_COORD_DURABLE ? "  # when durable" : "");
    assert_true(ask->is_open);
    ask->is_open = false;
}

void mr_group_rig_apply(struct mr_group_rig *rig, struct mr_coord_out *out)
{
    for (struct mr_coord_answer *answer = out->answers; answer != NULL; answer = answer->next) {
        mr_assert(answer->request->link.prev != NULL);
        note_answer(rig, (struct mr_group_rig_ask *)(void *)answer->request);
    }
    for (struct mr_coord_record *record = out->records; record != NULL; record = record->next) {
        struct mr_group_rig_record *kept = &rig->log[rig->log_count++];
        *kept = (struct mr_group_rig_record){.key = keep(rig, record->key),
                                             .value = keep(rig, record->value)};
        margin(rig, '=', "record");
        mr_text_fmt(&rig->trace, "type=%d version=%d bytes=%d\n", mr_load_be16(kept->key.data),
                    kept->value.len < 0 ? -1 : mr_load_be16(kept->value.data), kept->value.len);
        assert_int_equal(mr_group_replay(&rig->shard, kept->key, kept->value), MR_OK);
    }
    check_fold(rig);
    if (out->then != NULL) {
        out->then(out->then_user, out);
    }
}

struct mr_group_rig_ask *mr_group_rig_ask(struct mr_group_rig *rig, const char *who, int16_t key,
                                          int16_t version, void *message)
{
    struct mr_group_rig_ask *a = NULL;
    for (uint32_t index = 0; index < MR_GROUP_RIG_OPEN_MAX && a == NULL; index++) {
        a = rig->asks[index].is_open ? NULL : &rig->asks[index];
    }
    assert_non_null(a);
    *a = (struct mr_group_rig_ask){.is_open = true};
    mr_fmt(a->who, sizeof a->who, "%s", who);
    mr_list_init(&a->request.link);
    a->forward = (struct mr_forward){.api_key = key,
                                     .api_version = version,
                                     .client_id = MR_STR("c"),
                                     .client_host = MR_STR("127.0.0.1")};
    a->request.forward = &a->forward;
    a->request.message = message;
    a->request.user = &a->answer;
    margin(rig, '<', who);
    assert_int_equal(mr_msg_print(mr_api_request_desc(key), version, message, &rig->trace),
                     MR_OK);
    mr_text_fmt(&rig->trace, "\n");
    uint32_t step = 0;
    for (bool is_again = true; is_again; step++) {
        struct mr_coord_out out;
        mr_arena_reset(&rig->scratch);
        mr_coord_out_init(&out, &rig->scratch, rig->now);
        out.step = step;
        mr_group_handle(&rig->shard, &a->request, &out);
        is_again = out.is_again;
        assert_true(step < 8);
        mr_group_rig_apply(rig, &out);
    }
    return a;
}

void mr_group_rig_pass(struct mr_group_rig *rig, uint64_t ms)
{
    uint64_t end = rig->now.mono_ns + ms * MR_NS_PER_MS;
    int64_t end_unix = rig->now.unix_ms + (int64_t)ms;
    while (mr_timers_next_ns(&rig->timers) <= end) {
        struct mr_timer *timer = mr_timers_due(&rig->timers, end);
        if (timer->deadline_ns > rig->now.mono_ns) {
            rig->now.unix_ms +=
                (int64_t)((timer->deadline_ns - rig->now.mono_ns) / MR_NS_PER_MS);
            rig->now.mono_ns = timer->deadline_ns;
        }
        struct mr_coord_out out;
        mr_arena_reset(&rig->scratch);
        mr_coord_out_init(&out, &rig->scratch, rig->now);
        mr_group_fire(MR_TIMER_ENTRY(timer, struct mr_control_timer, timer), &out);
        mr_group_rig_apply(rig, &out);
    }
    rig->now = (struct mr_now){.mono_ns = end, .unix_ms = end_unix};
}

bool mr_group_rig_has_warned(struct mr_group_rig *rig, const char *text)
{
    bool has_warned = false;
    const struct mr_log_line *line;
    while ((line = mr_log_out(&rig->warnings)) != NULL) {
        has_warned |= strstr(line->text, text) != NULL;
        mr_log_retire(&rig->warnings);
    }
    return has_warned;
}

int64_t mr_group_rig_fetched(struct mr_group_rig *rig, int32_t partition)
{
    struct mr_offset_fetch_request_topics t = {
        .name = MR_STR("t"), .partition_indexes = &partition, .partition_indexes_count = 1};
    struct mr_offset_fetch_request_group g = {
        .group_id = MR_STR("g"),
        .member_id = MR_STR_NULL,
        .member_epoch = -1,
        .topics = &t,
        .topics_count = 1,
    };
    struct mr_offset_fetch_response_group answer;
    struct mr_coord_out out;
    mr_arena_reset(&rig->scratch);
    mr_coord_out_init(&out, &rig->scratch, rig->now);
    MR_DEFAULTS(offset_fetch_response_group, &answer);
    mr_offsets_fetch(&rig->shard, &g, 9, &out, &answer);
    return answer.topics[0].partitions[0].committed_offset;
}

void mr_group_rig_golden(struct mr_group_rig *rig, const char *name)
{
    char path[128];
    mr_fmt(path, sizeof path, "group/%s.trace", name);
    assert_false(rig->trace.is_cut);
    mr_golden_check(path, rig->text, rig->trace.len);
}

void mr_group_rig_restart(struct mr_group_rig *rig)
{
    struct mr_coord_out out;
    mr_arena_reset(&rig->scratch);
    mr_coord_out_init(&out, &rig->scratch, rig->now);
    mr_group_shard_deinit(&rig->shard, &out, MR_KAFKA_NOT_COORDINATOR);
    assert_int_equal(rig->timers.count, 0);
    assert_int_equal(rig->heap.used_bytes, 0);
    for (struct mr_coord_answer *answer = out.answers; answer != NULL; answer = answer->next) {
        struct mr_group_rig_ask *waiting = (struct mr_group_rig_ask *)(void *)answer->request;
        assert_true(waiting->is_open);
        waiting->is_open = false;
        waiting->error = answer->error;
    }
    assert_true(mr_group_shard_init(&rig->shard, &rig->env, 0));
    for (uint32_t index = 0; index < rig->log_count; index++) {
        assert_int_equal(
            mr_group_replay(&rig->shard, rig->log[index].key, rig->log[index].value), MR_OK);
    }
    mr_coord_out_init(&out, &rig->scratch, rig->now);
    mr_group_loaded(&rig->shard, &out);
    mr_group_rig_apply(rig, &out);
    margin(rig, '=', "restart\n");
}
