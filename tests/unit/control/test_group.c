/*
 * Classic groups as pure steps (group_rig.h).
 */
#include "group_rig.h"
#include "test.h"

static struct mr_group_rig *rig;

static int setup(void **state)
{
    (void)state;
    rig = mr_group_rig_new();
    return 0;
}

static void pass(uint64_t ms)
{
    mr_group_rig_pass(rig, ms);
}

static void restart(void)
{
    mr_group_rig_restart(rig);
}

static int64_t fetched(int32_t partition)
{
    return mr_group_rig_fetched(rig, partition);
}

static void golden(const char *name)
{
    mr_group_rig_golden(rig, name);
}

static struct mr_group_rig_ask *join(const char *who, const char *member, const char *instance,
                                     int16_t version)
{
    struct mr_join_group_request *r = mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_join_group_request_protocol *p =
        mr_arena_get_fresh(&rig->forever, 2 * sizeof *p, 16);
    MR_DEFAULTS(join_group_request, r);
    p[0] = (struct mr_join_group_request_protocol){
        .name = MR_STR("range"), .metadata = {.data = (const uint8_t *)"m", .len = 1}};
    p[1] = (struct mr_join_group_request_protocol){
        .name = MR_STR("sticky"), .metadata = {.data = (const uint8_t *)"n", .len = 1}};
    r->group_id = MR_STR("g");
    r->session_timeout_ms = 10000;
    r->rebalance_timeout_ms = 60000;
    char *id = mr_arena_get_fresh(&rig->forever, 80, 1);
    mr_fmt(id, 80, "%s", member);
    r->member_id = mr_str(id);
    r->group_instance_id = instance == NULL ? MR_STR_NULL : mr_str(instance);
    r->protocol_type = MR_STR("consumer");
    r->protocols = p;
    r->protocols_count = 2;
    return mr_group_rig_ask(rig, who, MR_API_JOIN_GROUP, version, r);
}

static struct mr_group_rig_ask *sync(const char *who, const char *member, int32_t generation,
                                     const char *first, const char *second)
{
    struct mr_sync_group_request *r = mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_sync_group_request_assignment *a =
        mr_arena_get_fresh(&rig->forever, 2 * sizeof *a, 16);
    const char *ids[] = {first, second};
    MR_DEFAULTS(sync_group_request, r);
    r->group_id = MR_STR("g");
    r->generation_id = generation;
    char *id = mr_arena_get_fresh(&rig->forever, 80, 1);
    mr_fmt(id, 80, "%s", member);
    r->member_id = mr_str(id);
    r->protocol_type = MR_STR("consumer");
    r->protocol_name = MR_STR("range");
    for (int32_t index = 0; index < 2 && ids[index] != NULL; index++) {
        char *to = mr_arena_get_fresh(&rig->forever, 80, 1);
        mr_fmt(to, 80, "%s", ids[index]);
        a[index].member_id = mr_str(to);
        a[index].assignment = (struct mr_blob){
            .data = (const uint8_t *)(index == 0 ? "zero" : "one"), .len = index == 0 ? 4 : 3};
        r->assignments_count++;
    }
    r->assignments = a;
    return mr_group_rig_ask(rig, who, MR_API_SYNC_GROUP, 5, r);
}

static int16_t heartbeat(const char *who, const char *member, int32_t generation)
{
    struct mr_heartbeat_request r;
    MR_DEFAULTS(heartbeat_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id = generation;
    r.member_id = mr_str(member);
    return mr_group_rig_ask(rig, who, MR_API_HEARTBEAT, 4, &r)->error;
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
    return mr_group_rig_ask(rig, who, MR_API_LEAVE_GROUP, 5, &r)->error;
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
    return mr_group_rig_ask(rig, who, MR_API_OFFSET_COMMIT, 9, &r)->error;
}

/* ---- conversations ---- */

/* Two members join: b comes while a waits. Returns their ids. */
static void two_members(char a[80], char b[80])
{
    struct mr_group_rig_ask *first = join("a", "", NULL, 9);
    assert_int_equal(first->error, MR_KAFKA_MEMBER_ID_REQUIRED);
    mr_fmt(a, 80, "%s", first->member_id);
    struct mr_group_rig_ask *a_join = join("a", a, NULL, 9);
    pass(1000);
    struct mr_group_rig_ask *second = join("b", "", NULL, 9);
    mr_fmt(b, 80, "%s", second->member_id);
    struct mr_group_rig_ask *b_join = join("b", b, NULL, 9);
    assert_true(a_join->is_open && b_join->is_open);
    pass(6000);
    assert_false(a_join->is_open || b_join->is_open);
    assert_int_equal(a_join->generation, 1);
    assert_int_equal(b_join->generation, 1);
    assert_string_equal(a_join->leader, a);
    struct mr_group_rig_ask *b_sync = sync("b", b, 1, NULL, NULL);
    assert_true(b_sync->is_open);
    struct mr_group_rig_ask *a_sync = sync("a", a, 1, a, b);
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
    struct mr_group_rig_ask *again = join("a", a, NULL, 9);
    assert_false(again->is_open);
    assert_int_equal(again->generation, 2);
    sync("a", a, 2, a, NULL);
    pass(10001); /* a is silent */
    assert_int_equal(heartbeat("a", a, 2), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_true(mr_group_is_empty(mr_group_find(&rig->shard, MR_STR("g"))));
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
    struct mr_group_rig_ask *one = join("s", "", "i", 9);
    pass(3000);
    assert_false(one->is_open);
    mr_fmt(old_id, sizeof old_id, "%s", one->member_id);
    sync("s", old_id, 1, old_id, NULL);
    struct mr_group_rig_ask *back = join("s2", "", "i", 9);
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
    assert_int_equal(mr_group_rig_ask(rig, "s", MR_API_HEARTBEAT, 4, &r)->error,
                     MR_KAFKA_FENCED_INSTANCE_ID);
    golden("static_member");
}

static void test_group_static_member_twice_fences_the_older(void **state)
{
    (void)state;
    struct mr_group_rig_ask *older = join("s", "", "i", 9);
    struct mr_group_rig_ask *newer = join("s2", "", "i", 9);
    assert_false(older->is_open);
    assert_int_equal(older->error, MR_KAFKA_FENCED_INSTANCE_ID);
    assert_string_equal(older->member_id, "i-00000000-0000-0000-0000-000000000001");
    pass(3000);
    assert_false(newer->is_open);
    assert_int_equal(newer->error, MR_KAFKA_NONE);
    assert_string_equal(newer->leader, newer->member_id);
    assert_int_equal(mr_group_find(&rig->shard, MR_STR("g"))->classic_part.member_count, 1);
}

static void test_group_follower_leaving_while_it_syncs_is_answered(void **state)
{
    (void)state;
    struct mr_group_rig_ask *one = join("a", "", NULL, 3);
    struct mr_group_rig_ask *two = join("b", "", NULL, 3);
    char b[80];
    pass(6000);
    assert_false(one->is_open || two->is_open);
    mr_fmt(b, sizeof b, "%s", two->member_id);
    struct mr_group_rig_ask *waits = sync("b", b, 1, NULL, NULL);
    assert_true(waits->is_open);
    assert_int_equal(leave("b", b), MR_KAFKA_NONE);
    assert_false(waits->is_open);
    assert_int_equal(waits->error, MR_KAFKA_UNKNOWN_MEMBER_ID);
}

static void test_group_session_timeout_out_of_bounds_is_refused(void **state)
{
    (void)state;
    rig->env.max_session_ms = 9999;
    assert_int_equal(join("a", "", NULL, 9)->error, MR_KAFKA_INVALID_SESSION_TIMEOUT);
    rig->env.max_session_ms = 1800000;
    assert_int_equal(join("a", "nobody", NULL, 9)->error, MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(rig->log_count, 0);
}

static void test_group_full_refuses_one_more(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    rig->env.size_max = 2;
    two_members(a, b);
    assert_false(mr_group_rig_has_warned(rig, "limit="));
    assert_int_equal(join("c", "", NULL, 9)->error, MR_KAFKA_GROUP_MAX_SIZE_REACHED);
    assert_true(mr_group_rig_has_warned(rig, "a group has no room for more members group=g limit=group.max.size"));
}

/* Members of all groups, and memory: what is refused, and by which key. */
static void test_group_limits_are_named(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    rig->env.timers_max = 4;
    two_members(a, b);
    assert_string_equal(mr_group_limit(&rig->env, true, rig->now), "millrace.group.members.max");
    assert_null(mr_group_limit(&rig->env, false, rig->now));
    assert_true(mr_group_rig_has_warned(rig, "limit=millrace.group.members.max"));
    assert_int_equal(join("c", "", NULL, 9)->error, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
    assert_false(mr_group_rig_has_warned(rig, "limit=")); /* a line a second */
    rig->env.timers_max = 6;
    assert_int_equal(join("c", "", NULL, 9)->error, MR_KAFKA_MEMBER_ID_REQUIRED);
    size_t size = rig->heap.size;
    pass(1000);
    rig->heap.size = rig->heap.used_bytes;
    assert_string_equal(mr_group_limit(&rig->env, false, rig->now), "millrace.control.bytes");
    assert_true(mr_group_rig_has_warned(rig, "limit=millrace.control.bytes"));
    rig->heap.size = size;
}

static void test_group_member_without_sync_is_removed(void **state)
{
    (void)state;
    struct mr_group_rig_ask *one = join("a", "", NULL, 3);
    struct mr_group_rig_ask *two = join("b", "", NULL, 3);
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
        struct mr_now then = rig->now;
        then.unix_ms += (int64_t)day * 24 * 3600 * 1000;
        mr_arena_reset(&rig->scratch);
        mr_coord_out_init(&out, &rig->scratch, then);
        assert_true(mr_offsets_expire(mr_group_find(&rig->shard, MR_STR("g")), &out));
        mr_group_rig_apply(rig, &out);
        assert_int_equal(fetched(1), day < 7 ? 5 : -1);
    }
    assert_null(mr_group_find(&rig->shard, MR_STR("g")));
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
    assert_int_equal(mr_group_replay(&rig->shard, unknown, value), MR_OK);
    assert_int_equal(mr_group_replay(&rig->shard, key, value), MR_OK);
    assert_int_equal(mr_group_replay(&rig->shard, key, MR_BLOB_NULL), MR_OK);
    assert_int_equal(rig->shard.groups.used, 0);
    /* Cut short in every place: refused or skipped, never believed. */
    commit("x", "", -1, 1, 5);
    struct mr_group_rig_record whole = rig->log[0];
    for (int32_t len = 0; len < whole.value.len; len++) {
        struct mr_blob cut = {.data = whole.value.data, .len = len};
        assert_int_not_equal(mr_group_replay(&rig->shard, whole.key, cut), MR_OK);
    }
    assert_int_equal(fetched(1), 5);
}

/* ---- any conversation at all ---- */

struct client {
    char id[80];
    int32_t generation;
    struct mr_group_rig_ask *join;
    struct mr_group_rig_ask *sync;
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
        rig->trace.len = 0; /* this one is not golden */
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
        const struct mr_group *group = mr_group_find(&rig->shard, MR_STR("g"));
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
        cmocka_unit_test_setup(test_group_limits_are_named, setup),
        cmocka_unit_test_setup(test_group_member_without_sync_is_removed, setup),
        cmocka_unit_test_setup(test_group_simple_commit_and_expiry, setup),
        cmocka_unit_test_setup(test_group_unknown_records_are_skipped, setup),
        cmocka_unit_test_setup(test_group_random_conversations_keep_the_invariants, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
