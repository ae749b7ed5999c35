/*
 * Groups as pure steps: requests and due timers in, records and answers out, time in the margin.
 *
 * Golden conversations lie in tests/golden/group; MR_UPDATE=1 writes them anew. After every
 * step the written records are folded into a second shard, which must equal the first one in all
 * that is settled: recovery is replay and nothing else.
 */
#include "coord/group/group.h"
#include "golden.h"
#include "test.h"

#define HEAP_BYTES (64u << 20)
#define LOG_MAX    20000
#define OPEN_MAX   64

struct record {
    struct mr_blob key;
    struct mr_blob value;
};

struct ask {
    struct mr_request request;
    struct mr_coord_answer answer;
    struct mr_forward forward;
    char who[32];
    bool is_open;
    int16_t error;      /* of the answer */
    int32_t generation; /* likewise */
    char member_id[80]; /* likewise */
    char leader[80];
    char assignment[80];
};

struct world {
    struct mr_heap heap;
    struct mr_heap fold_heap;
    struct mr_timers timers;
    struct mr_timers fold_timers;
    struct mr_group_env env;
    struct mr_group_env fold_env;
    struct mr_group_shard shard;
    struct mr_arena scratch;
    struct mr_arena forever;
    struct mr_now now;
    struct record log[LOG_MAX];
    uint32_t log_count;
    struct ask asks[OPEN_MAX];
    struct mr_text trace;
    char text[1 << 18];
    uint32_t uuids;
    struct mr_image image;
    struct mr_image_topic topic;
    const struct mr_image_topic *topics[1];
};

static struct world *world;

static void fire(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    (void)control;
    (void)now;
    (void)timer;
}

static void uuid(void *user, struct mr_uuid *id)
{
    struct world *w = user;
    memset(id, 0, sizeof *id);
    mr_store_be32(id->bytes + 12, ++w->uuids);
}

static void env_init(struct mr_group_env *env, struct mr_heap *heap, struct mr_timers *timers,
                     struct mr_arena *arena)
{
    *env = (struct mr_group_env){
        .min_session_ms = 6000,
        .max_session_ms = 1800000,
        .initial_delay_ms = 3000,
        .size_max = INT32_MAX,
        .metadata_bytes_max = 4096,
        .retention_ms = 7ll * 24 * 3600 * 1000,
        .record_bytes_max = 1000000,
        .heap = heap,
        .timers = timers,
        .timers_max = 10000,
        .fire = fire,
        .uuid = uuid,
        .uuid_user = world,
        .image = &world->image,
    };
    mr_arena_init(&env->decode, mr_arena_get_fresh(arena, 1 << 20, 64), 1 << 20);
}

static int setup(void **state)
{
    struct mr_arena arena;
    (void)state;
    size_t bytes = (size_t)3 * HEAP_BYTES + sizeof(struct world) + (32u << 20);
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    world = mr_arena_get_fresh(&arena, sizeof *world, 64);
    mr_heap_init(&world->heap, mr_arena_get_fresh(&arena, HEAP_BYTES, 64), HEAP_BYTES);
    mr_heap_init(&world->fold_heap, mr_arena_get_fresh(&arena, HEAP_BYTES, 64), HEAP_BYTES);
    mr_timers_init(&world->timers, &arena, 20000);
    mr_timers_init(&world->fold_timers, &arena, 20000);
    mr_arena_init(&world->scratch, mr_arena_get_fresh(&arena, 8 << 20, 64), 8 << 20);
    mr_arena_init(&world->forever, mr_arena_get_fresh(&arena, HEAP_BYTES / 2, 64), HEAP_BYTES / 2);
    world->topic = (struct mr_image_topic){.name = MR_STR("t"), .partition_count = 4};
    world->topic.id.bytes[0] = 7;
    world->topics[0] = &world->topic;
    world->image =
        (struct mr_image){.topic_count = 1, .topics = world->topics, .topics_by_id = world->topics};
    env_init(&world->env, &world->heap, &world->timers, &arena);
    env_init(&world->fold_env, &world->fold_heap, &world->fold_timers, &arena);
    world->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    mr_text_init(&world->trace, world->text, sizeof world->text);
    assert_true(mr_group_shard_init(&world->shard, &world->env, 0));
    return 0;
}

/* ---- the second shard ---- */

static void dump_blob(struct mr_text *text, struct mr_blob blob)
{
    mr_text_fmt(text, "%.*s", blob.len > 0 ? blob.len : 0, (const char *)blob.data);
}

/* One settled group; nothing of a conversation. */
static void dump_group(const struct mr_group *group, struct mr_text *text, bool is_settled)
{
    const struct mr_classic *c = &group->classic_part;
    mr_text_fmt(text, "group %.*s", group->id.len, group->id.data);
    if (is_settled) {
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

static void check_fold(void)
{
    static char live_text[1 << 16];
    static char fold_text[1 << 16];
    struct mr_group_shard fold;
    assert_true(mr_group_shard_init(&fold, &world->fold_env, 0));
    for (uint32_t index = 0; index < world->log_count; index++) {
        assert_int_equal(mr_group_replay(&fold, world->log[index].key, world->log[index].value),
                         MR_OK);
    }
    assert_int_equal(fold.groups.used, world->shard.groups.used);
    for (struct mr_table_node *node = mr_table_walk(&world->shard.groups, NULL); node != NULL;
         node = mr_table_walk(&world->shard.groups, node)) {
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
    assert_int_equal(world->fold_timers.count, 0);
    assert_int_equal(world->fold_env.timers_reserved, 0);
}

/* ---- steps ---- */

static struct mr_blob keep(struct mr_blob blob)
{
    if (blob.len <= 0) {
        return blob;
    }
    uint8_t *copy = mr_arena_get_fresh(&world->forever, (size_t)blob.len, 1);
    memcpy(copy, blob.data, (size_t)blob.len);
    return (struct mr_blob){.data = copy, .len = blob.len};
}

static void margin(char mark, const char *who)
{
    uint64_t ms = (world->now.mono_ns - MR_NS_PER_S) / MR_NS_PER_MS;
    mr_text_fmt(&world->trace, "%6llu.%03llu %c %s ", (unsigned long long)(ms / 1000),
                (unsigned long long)(ms % 1000), mark, who);
}

static void note_answer(struct ask *ask)
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
    margin('>', ask->who);
    assert_int_equal(mr_msg_print(mr_api_response_desc(ask->forward.api_key),
                                  ask->forward.api_version, response, &world->trace),
                     MR_OK);
    mr_text_fmt(&world->trace, "%s\n",
                ask->answer.when == MR_COORD_DURABLE ? "  # when durable" : "");
    assert_true(ask->is_open);
    ask->is_open = false;
}

static void apply(struct mr_coord_out *out)
{
    for (struct mr_coord_answer *answer = out->answers; answer != NULL; answer = answer->next) {
        note_answer(answer->request->link.prev == NULL ? NULL
                                                       : (struct ask *)(void *)answer->request);
    }
    for (struct mr_coord_record *record = out->records; record != NULL; record = record->next) {
        struct record *kept = &world->log[world->log_count++];
        *kept = (struct record){.key = keep(record->key), .value = keep(record->value)};
        margin('=', "record");
        mr_text_fmt(&world->trace, "type=%d version=%d bytes=%d\n", mr_load_be16(kept->key.data),
                    kept->value.len < 0 ? -1 : mr_load_be16(kept->value.data), kept->value.len);
        assert_int_equal(mr_group_replay(&world->shard, kept->key, kept->value), MR_OK);
    }
    check_fold();
}

static struct ask *ask(const char *who, int16_t key, int16_t version, void *message)
{
    struct ask *a = NULL;
    for (uint32_t index = 0; index < OPEN_MAX && a == NULL; index++) {
        a = world->asks[index].is_open ? NULL : &world->asks[index];
    }
    assert_non_null(a);
    *a = (struct ask){.is_open = true};
    mr_fmt(a->who, sizeof a->who, "%s", who);
    mr_list_init(&a->request.link);
    a->forward = (struct mr_forward){.api_key = key,
                                     .api_version = version,
                                     .client_id = MR_STR("c"),
                                     .client_host = MR_STR("127.0.0.1")};
    a->request.forward = &a->forward;
    a->request.message = message;
    a->request.user = &a->answer;
    margin('<', who);
    assert_int_equal(mr_msg_print(mr_api_request_desc(key), version, message, &world->trace),
                     MR_OK);
    mr_text_fmt(&world->trace, "\n");
    for (bool is_again = true; is_again;) {
        struct mr_coord_out out;
        mr_arena_reset(&world->scratch);
        mr_coord_out_init(&out, &world->scratch, world->now);
        mr_group_handle(&world->shard, &a->request, &out);
        is_again = out.is_again;
        apply(&out);
    }
    return a;
}

/* Time passes; what is due happens in its order. */
static void pass(uint64_t ms)
{
    uint64_t end = world->now.mono_ns + ms * MR_NS_PER_MS;
    int64_t end_unix = world->now.unix_ms + (int64_t)ms;
    while (mr_timers_next_ns(&world->timers) <= end) {
        struct mr_timer *timer = mr_timers_due(&world->timers, end);
        if (timer->deadline_ns > world->now.mono_ns) {
            world->now.unix_ms +=
                (int64_t)((timer->deadline_ns - world->now.mono_ns) / MR_NS_PER_MS);
            world->now.mono_ns = timer->deadline_ns;
        }
        struct mr_coord_out out;
        mr_arena_reset(&world->scratch);
        mr_coord_out_init(&out, &world->scratch, world->now);
        mr_group_fire(MR_TIMER_ENTRY(timer, struct mr_control_timer, timer), &out);
        apply(&out);
    }
    world->now = (struct mr_now){.mono_ns = end, .unix_ms = end_unix};
}

static struct ask *join(const char *who, const char *member, const char *instance, int16_t version)
{
    struct mr_join_group_request *r = mr_arena_get_fresh(&world->forever, sizeof *r, 16);
    struct mr_join_group_request_protocol *p =
        mr_arena_get_fresh(&world->forever, 2 * sizeof *p, 16);
    MR_DEFAULTS(join_group_request, r);
    p[0] = (struct mr_join_group_request_protocol){
        .name = MR_STR("range"), .metadata = {.data = (const uint8_t *)"m", .len = 1}};
    p[1] = (struct mr_join_group_request_protocol){
        .name = MR_STR("sticky"), .metadata = {.data = (const uint8_t *)"n", .len = 1}};
    r->group_id = MR_STR("g");
    r->session_timeout_ms = 10000;
    r->rebalance_timeout_ms = 60000;
    char *id = mr_arena_get_fresh(&world->forever, 80, 1);
    mr_fmt(id, 80, "%s", member);
    r->member_id = mr_str(id);
    r->group_instance_id = instance == NULL ? MR_STR_NULL : mr_str(instance);
    r->protocol_type = MR_STR("consumer");
    r->protocols = p;
    r->protocols_count = 2;
    return ask(who, MR_API_JOIN_GROUP, version, r);
}

static struct ask *sync(const char *who, const char *member, int32_t generation, const char *first,
                        const char *second)
{
    struct mr_sync_group_request *r = mr_arena_get_fresh(&world->forever, sizeof *r, 16);
    struct mr_sync_group_request_assignment *a =
        mr_arena_get_fresh(&world->forever, 2 * sizeof *a, 16);
    const char *ids[] = {first, second};
    MR_DEFAULTS(sync_group_request, r);
    r->group_id = MR_STR("g");
    r->generation_id = generation;
    char *id = mr_arena_get_fresh(&world->forever, 80, 1);
    mr_fmt(id, 80, "%s", member);
    r->member_id = mr_str(id);
    r->protocol_type = MR_STR("consumer");
    r->protocol_name = MR_STR("range");
    for (int32_t index = 0; index < 2 && ids[index] != NULL; index++) {
        char *to = mr_arena_get_fresh(&world->forever, 80, 1);
        mr_fmt(to, 80, "%s", ids[index]);
        a[index].member_id = mr_str(to);
        a[index].assignment = (struct mr_blob){
            .data = (const uint8_t *)(index == 0 ? "zero" : "one"), .len = index == 0 ? 4 : 3};
        r->assignments_count++;
    }
    r->assignments = a;
    return ask(who, MR_API_SYNC_GROUP, 5, r);
}

static int16_t heartbeat(const char *who, const char *member, int32_t generation)
{
    struct mr_heartbeat_request r;
    MR_DEFAULTS(heartbeat_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id = generation;
    r.member_id = mr_str(member);
    return ask(who, MR_API_HEARTBEAT, 4, &r)->error;
}

static int16_t leave(const char *who, const char *member)
{
    struct mr_leave_group_request r;
    struct mr_leave_group_request_member_identity m = {
        .member_id = mr_str(member), .group_instance_id = MR_STR_NULL, .reason = MR_STR_NULL};
    MR_DEFAULTS(leave_group_request, &r);
    r.group_id = MR_STR("g");
    r.members = &m;
    r.members_count = 1;
    return ask(who, MR_API_LEAVE_GROUP, 5, &r)->error;
}

static int16_t commit(const char *who, const char *member, int32_t generation, int32_t partition,
                      int64_t offset)
{
    struct mr_offset_commit_request r;
    struct mr_offset_commit_request_topic t = {.name = MR_STR("t"), .partitions_count = 1};
    struct mr_offset_commit_request_partition p = {.partition_index = partition,
                                                   .committed_offset = offset,
                                                   .committed_leader_epoch = 3,
                                                   .committed_metadata = MR_STR("note")};
    MR_DEFAULTS(offset_commit_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id_or_member_epoch = generation;
    r.member_id = mr_str(member);
    t.partitions = &p;
    r.topics = &t;
    r.topics_count = 1;
    return ask(who, MR_API_OFFSET_COMMIT, 9, &r)->error;
}

static int64_t fetched(int32_t partition)
{
    struct mr_offset_fetch_request_topics t = {
        .name = MR_STR("t"), .partition_indexes = &partition, .partition_indexes_count = 1};
    struct mr_offset_fetch_request_group g = {
        .group_id = MR_STR("g"), .topics = &t, .topics_count = 1};
    struct mr_offset_fetch_response_group answer;
    struct mr_coord_out out;
    mr_arena_reset(&world->scratch);
    mr_coord_out_init(&out, &world->scratch, world->now);
    MR_DEFAULTS(offset_fetch_response_group, &answer);
    mr_offsets_fetch(&world->shard, &g, 9, &out, &answer);
    return answer.topics[0].partitions[0].committed_offset;
}

static void golden(const char *name)
{
    char path[128];
    mr_fmt(path, sizeof path, "group/%s.trace", name);
    assert_false(world->trace.is_cut);
    mr_golden_check(path, world->text, world->trace.len);
}

/* Drop the state and load it from the log, as a restart does. */
static void restart(void)
{
    struct mr_coord_out out;
    mr_arena_reset(&world->scratch);
    mr_coord_out_init(&out, &world->scratch, world->now);
    mr_group_shard_deinit(&world->shard, &out, MR_KAFKA_NOT_COORDINATOR);
    assert_int_equal(world->timers.count, 0);
    assert_int_equal(world->heap.used_bytes, 0);
    for (struct mr_coord_answer *answer = out.answers; answer != NULL; answer = answer->next) {
        struct ask *waiting = (struct ask *)(void *)answer->request;
        assert_true(waiting->is_open);
        waiting->is_open = false;
        waiting->error = answer->error;
    }
    assert_true(mr_group_shard_init(&world->shard, &world->env, 0));
    for (uint32_t index = 0; index < world->log_count; index++) {
        assert_int_equal(
            mr_group_replay(&world->shard, world->log[index].key, world->log[index].value), MR_OK);
    }
    mr_coord_out_init(&out, &world->scratch, world->now);
    mr_group_loaded(&world->shard, &out);
    apply(&out);
    margin('=', "restart\n");
}

/* ---- conversations ---- */

/* Two members join: b comes while a waits. Returns their ids. */
static void two_members(char a[80], char b[80])
{
    struct ask *first = join("a", "", NULL, 9);
    assert_int_equal(first->error, MR_KAFKA_MEMBER_ID_REQUIRED);
    mr_fmt(a, 80, "%s", first->member_id);
    struct ask *a_join = join("a", a, NULL, 9);
    pass(1000);
    struct ask *second = join("b", "", NULL, 9);
    mr_fmt(b, 80, "%s", second->member_id);
    struct ask *b_join = join("b", b, NULL, 9);
    assert_true(a_join->is_open && b_join->is_open);
    pass(6000);
    assert_false(a_join->is_open || b_join->is_open);
    assert_int_equal(a_join->generation, 1);
    assert_int_equal(b_join->generation, 1);
    assert_string_equal(a_join->leader, a);
    struct ask *b_sync = sync("b", b, 1, NULL, NULL);
    assert_true(b_sync->is_open);
    struct ask *a_sync = sync("a", a, 1, a, b);
    assert_false(a_sync->is_open || b_sync->is_open);
    assert_string_equal(a_sync->assignment, "zero");
    assert_string_equal(b_sync->assignment, "one");
}

static void test_group_join_sync_leave_crash(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_members(a, b);
    assert_int_equal(heartbeat("a", a, 1), MR_KAFKA_NONE);
    assert_int_equal(heartbeat("b", b, 0), MR_KAFKA_ILLEGAL_GENERATION);
    assert_int_equal(commit("b", b, 1, 0, 42), MR_KAFKA_NONE);
    assert_int_equal(commit("b", b, 0, 0, 43), MR_KAFKA_ILLEGAL_GENERATION);
    assert_int_equal(commit("b", b, 1, 9, 43), MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(fetched(0), 42);
    assert_int_equal(leave("b", b), MR_KAFKA_NONE);
    assert_int_equal(heartbeat("a", a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    struct ask *again = join("a", a, NULL, 9);
    assert_false(again->is_open);
    assert_int_equal(again->generation, 2);
    sync("a", a, 2, a, NULL);
    pass(10001); /* a is silent */
    assert_int_equal(heartbeat("a", a, 2), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_true(mr_group_is_empty(mr_group_find(&world->shard, MR_STR("g"))));
    assert_int_equal(fetched(0), 42);
    golden("join_sync_leave_crash");
}

/* A commit counts while members are awaited, not while their assignments are. */
static void test_group_commits_in_a_rebalance(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_members(a, b);
    assert_int_equal(leave("b", b), MR_KAFKA_NONE);
    assert_int_equal(commit("a", a, 1, 0, 41), MR_KAFKA_NONE);
    assert_int_equal(join("a", a, NULL, 9)->generation, 2);
    assert_int_equal(commit("a", a, 1, 0, 42), MR_KAFKA_ILLEGAL_GENERATION);
    assert_int_equal(commit("a", a, 2, 0, 43), MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(fetched(0), 41);
    sync("a", a, 2, a, NULL);
    assert_int_equal(commit("a", a, 2, 0, 44), MR_KAFKA_NONE);
    assert_int_equal(fetched(0), 44);
}

static void test_group_restart_keeps_generation_and_offsets(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_members(a, b);
    assert_int_equal(commit("a", a, 1, 2, 7), MR_KAFKA_NONE);
    restart();
    assert_int_equal(heartbeat("a", a, 1), MR_KAFKA_NONE);
    assert_int_equal(heartbeat("b", b, 1), MR_KAFKA_NONE);
    assert_int_equal(fetched(2), 7);
    assert_string_equal(sync("b", b, 1, NULL, NULL)->assignment, "one");
    golden("restart");
}

static void test_group_static_member_returns_without_rebalance(void **state)
{
    (void)state;
    char old_id[80];
    struct ask *one = join("s", "", "i", 9);
    pass(3000);
    assert_false(one->is_open);
    mr_fmt(old_id, sizeof old_id, "%s", one->member_id);
    sync("s", old_id, 1, old_id, NULL);
    struct ask *back = join("s2", "", "i", 9);
    assert_int_equal(back->error, MR_KAFKA_NONE);
    assert_int_equal(back->generation, 1);
    assert_string_not_equal(back->member_id, old_id);
    assert_string_equal(sync("s2", back->member_id, 1, NULL, NULL)->assignment, "zero");
    assert_int_equal(heartbeat("s", old_id, 1), MR_KAFKA_UNKNOWN_MEMBER_ID);
    struct mr_heartbeat_request r;
    MR_DEFAULTS(heartbeat_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id = 1;
    r.member_id = mr_str(old_id);
    r.group_instance_id = MR_STR("i");
    assert_int_equal(ask("s", MR_API_HEARTBEAT, 4, &r)->error, MR_KAFKA_FENCED_INSTANCE_ID);
    golden("static_member");
}

static void test_group_static_member_twice_fences_the_older(void **state)
{
    (void)state;
    struct ask *older = join("s", "", "i", 9);
    struct ask *newer = join("s2", "", "i", 9);
    assert_false(older->is_open);
    assert_int_equal(older->error, MR_KAFKA_FENCED_INSTANCE_ID);
    assert_string_equal(older->member_id, "i-00000000-0000-0000-0000-000000000001");
    pass(3000);
    assert_false(newer->is_open);
    assert_int_equal(newer->error, MR_KAFKA_NONE);
    assert_string_equal(newer->leader, newer->member_id);
    assert_int_equal(mr_group_find(&world->shard, MR_STR("g"))->classic_part.member_count, 1);
}

static void test_group_follower_leaving_while_it_syncs_is_answered(void **state)
{
    (void)state;
    struct ask *one = join("a", "", NULL, 3);
    struct ask *two = join("b", "", NULL, 3);
    char b[80];
    pass(6000);
    assert_false(one->is_open || two->is_open);
    mr_fmt(b, sizeof b, "%s", two->member_id);
    struct ask *waits = sync("b", b, 1, NULL, NULL);
    assert_true(waits->is_open);
    assert_int_equal(leave("b", b), MR_KAFKA_NONE);
    assert_false(waits->is_open);
    assert_int_equal(waits->error, MR_KAFKA_UNKNOWN_MEMBER_ID);
}

static void test_group_session_timeout_out_of_bounds_is_refused(void **state)
{
    (void)state;
    world->env.max_session_ms = 9999;
    assert_int_equal(join("a", "", NULL, 9)->error, MR_KAFKA_INVALID_SESSION_TIMEOUT);
    world->env.max_session_ms = 1800000;
    assert_int_equal(join("a", "nobody", NULL, 9)->error, MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(world->log_count, 0);
}

static void test_group_full_refuses_one_more(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    world->env.size_max = 2;
    two_members(a, b);
    assert_int_equal(join("c", "", NULL, 9)->error, MR_KAFKA_GROUP_MAX_SIZE_REACHED);
}

static void test_group_member_without_sync_is_removed(void **state)
{
    (void)state;
    struct ask *one = join("a", "", NULL, 3);
    struct ask *two = join("b", "", NULL, 3);
    pass(6000);
    assert_false(one->is_open || two->is_open);
    char a[80];
    char b[80];
    mr_fmt(a, sizeof a, "%s", one->member_id);
    mr_fmt(b, sizeof b, "%s", two->member_id);
    sync("a", a, 1, a, b);
    for (uint32_t beat = 0; beat < 12; beat++) {
        heartbeat("a", a, 1);
        heartbeat("b", b, 1);
        pass(5001);
    }
    assert_int_equal(heartbeat("b", b, 1), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(heartbeat("a", a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
}

static void test_group_simple_commit_and_expiry(void **state)
{
    (void)state;
    assert_int_equal(commit("x", "", -1, 1, 5), MR_KAFKA_NONE);
    assert_int_equal(fetched(1), 5);
    restart();
    assert_int_equal(fetched(1), 5);
    struct mr_coord_out out;
    for (uint32_t day = 6; day <= 7; day++) {
        struct mr_now then = world->now;
        then.unix_ms += (int64_t)day * 24 * 3600 * 1000;
        mr_arena_reset(&world->scratch);
        mr_coord_out_init(&out, &world->scratch, then);
        mr_offsets_expire(mr_group_find(&world->shard, MR_STR("g")), &out);
        apply(&out);
        assert_int_equal(fetched(1), day < 7 ? 5 : -1);
    }
    assert_null(mr_group_find(&world->shard, MR_STR("g")));
}

static void test_group_unknown_records_are_skipped(void **state)
{
    (void)state;
    static const uint8_t type_99[] = {0, 99, 0, 1, 'g'};
    static const uint8_t version_9[] = {0, 9, 1, 2, 3};
    static const uint8_t offset_key[] = {0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 1};
    struct mr_blob unknown = {.data = type_99, .len = sizeof type_99};
    struct mr_blob value = {.data = version_9, .len = sizeof version_9};
    struct mr_blob key = {.data = offset_key, .len = sizeof offset_key};
    assert_int_equal(mr_group_replay(&world->shard, unknown, value), MR_OK);
    assert_int_equal(mr_group_replay(&world->shard, key, value), MR_OK);
    assert_int_equal(mr_group_replay(&world->shard, key, MR_BLOB_NULL), MR_OK);
    assert_int_equal(world->shard.groups.used, 0);
    /* Cut short in every place: refused or skipped, never believed. */
    commit("x", "", -1, 1, 5);
    struct record whole = world->log[0];
    for (int32_t len = 0; len < whole.value.len; len++) {
        struct mr_blob cut = {.data = whole.value.data, .len = len};
        assert_int_not_equal(mr_group_replay(&world->shard, whole.key, cut), MR_OK);
    }
    assert_int_equal(fetched(1), 5);
}

/* ---- any conversation at all ---- */

struct client {
    char id[80];
    int32_t generation;
    struct ask *join;
    struct ask *sync;
    bool has_assignment;
};

static void test_group_random_conversations_keep_the_invariants(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 20240611};
    struct client clients[5] = {0};
    int64_t committed = -1;
    for (uint32_t step = 0; step < 1500; step++) {
        struct client *c = &clients[mr_prng_below(&prng, 5)];
        char who[8];
        world->trace.len = 0; /* this one is not golden */
        mr_fmt(who, sizeof who, "c%d", (int)(c - clients));
        if (c->join != NULL && !c->join->is_open) {
            if (c->join->error == MR_KAFKA_NONE || c->join->error == MR_KAFKA_MEMBER_ID_REQUIRED) {
                mr_fmt(c->id, sizeof c->id, "%s", c->join->member_id);
                c->generation = c->join->generation;
            } else {
                c->id[0] = '\0';
            }
            c->join = NULL;
        }
        if (c->sync != NULL && !c->sync->is_open) {
            c->sync = NULL;
        }
        switch (mr_prng_below(&prng, 9)) {
        case 0:
        case 1:
            if (c->join == NULL && c->sync == NULL) {
                c->join = join(who, c->id, NULL, mr_prng_below(&prng, 2) == 0 ? 9 : 3);
            }
            break;
        case 2:
        case 3:
            if (c->id[0] != '\0' && c->sync == NULL && c->join == NULL) {
                c->sync = sync(who, c->id, c->generation, clients[0].id, clients[1].id);
            }
            break;
        case 4:
            if (c->id[0] != '\0') {
                (void)heartbeat(who, c->id, c->generation);
            }
            break;
        case 5:
            if (c->id[0] != '\0' && mr_prng_below(&prng, 4) == 0) {
                (void)leave(who, c->id);
            }
            break;
        case 6:
            if (c->id[0] != '\0' && c->join == NULL &&
                commit(who, c->id, c->generation, 0, (int64_t)step) == MR_KAFKA_NONE) {
                committed = step;
            }
            break;
        case 7:
            pass(mr_prng_below(&prng, 4000));
            break;
        default:
            if (mr_prng_below(&prng, 20) == 0) {
                restart();
            }
            break;
        }
        /* No acknowledged commit is lost; a group has one generation and its members agree. */
        assert_int_equal(fetched(0), committed);
        const struct mr_group *group = mr_group_find(&world->shard, MR_STR("g"));
        if (group != NULL) {
            const struct mr_classic *classic = &group->classic_part;
            uint32_t count = 0;
            uint32_t joined = 0;
            MR_LIST_EACH(link, &classic->members)
            {
                const struct mr_classic_member *m =
                    MR_LIST_ENTRY(link, struct mr_classic_member, link);
                count++;
                joined += m->join != NULL ? 1 : 0;
                assert_true(classic->state == MR_CLASSIC_COMPLETING || m->sync == NULL);
                assert_true(classic->state == MR_CLASSIC_PREPARING || m->join == NULL);
            }
            assert_int_equal(count, classic->member_count);
            assert_int_equal(joined, classic->joined_count);
            assert_true((count == 0) <= (classic->state == MR_CLASSIC_EMPTY ||
                                         classic->state == MR_CLASSIC_PREPARING));
        }
    }
    assert_true(committed > 0);
    restart();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_group_join_sync_leave_crash, setup),
        cmocka_unit_test_setup(test_group_commits_in_a_rebalance, setup),
        cmocka_unit_test_setup(test_group_restart_keeps_generation_and_offsets, setup),
        cmocka_unit_test_setup(test_group_static_member_returns_without_rebalance, setup),
        cmocka_unit_test_setup(test_group_static_member_twice_fences_the_older, setup),
        cmocka_unit_test_setup(test_group_follower_leaving_while_it_syncs_is_answered, setup),
        cmocka_unit_test_setup(test_group_session_timeout_out_of_bounds_is_refused, setup),
        cmocka_unit_test_setup(test_group_full_refuses_one_more, setup),
        cmocka_unit_test_setup(test_group_member_without_sync_is_removed, setup),
        cmocka_unit_test_setup(test_group_simple_commit_and_expiry, setup),
        cmocka_unit_test_setup(test_group_unknown_records_are_skipped, setup),
        cmocka_unit_test_setup(test_group_random_conversations_keep_the_invariants, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
