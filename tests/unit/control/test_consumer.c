/*
 * Consumer groups of the new protocol as pure steps (group_rig.h).
 */
#include "coord/group/consumer.h"
#include "group_rig.h"
#include "test.h"
#include "tsv.h"

static struct mr_group_rig *rig;

static int setup(void **state)
{
    (void)state;
    rig = mr_group_rig_new();
    return 0;
}

/* What a member says in one heartbeat; zero is what it usually says. */
struct words {
    int32_t epoch;
    const char *topics;   /* "tu": both, "": none any more; NULL: not told */
    const char *has;      /* "t0,t3"; "": nothing; NULL: not told */
    const char *instance; /* NULL: dynamic */
    const char *assignor;
    const char *regex;
    bool is_full; /* everything is said: an answer was lost, it wants to be told everything */
};

static struct mr_group_rig_ask *beat(const char *id, struct words words)
{
    struct mr_consumer_group_heartbeat_request *r =
        mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_str *names = mr_arena_get_fresh(&rig->forever, 2 * sizeof *names, 16);
    struct mr_consumer_group_heartbeat_request_topic_partitions *has =
        mr_arena_get_fresh(&rig->forever, 2 * sizeof *has, 16);
    int32_t *numbers = mr_arena_get_fresh(&rig->forever, 2 * 16 * sizeof *numbers, 16);
    MR_DEFAULTS(consumer_group_heartbeat_request, r);
    r->group_id = MR_STR("g");
    r->member_id = mr_str(id);
    r->member_epoch = words.epoch;
    r->instance_id = words.instance == NULL ? MR_STR_NULL : mr_str(words.instance);
    r->server_assignor = words.assignor == NULL ? MR_STR_NULL : mr_str(words.assignor);
    r->subscribed_topic_regex = words.regex == NULL ? MR_STR_NULL : mr_str(words.regex);
    r->rebalance_timeout_ms = words.epoch == 0 || words.is_full ? 60000 : -1;
    if (words.topics != NULL) {
        r->subscribed_topic_names = names;
        r->subscribed_topic_names_count = 0;
        for (const char *at = words.topics; *at != 0; at++) {
            names[r->subscribed_topic_names_count++] = (struct mr_str){.data = at, .len = 1};
        }
    }
    const char *told = words.epoch == 0 ? "" : words.has;
    if (told != NULL) {
        has[0].topic_id.bytes[0] = 7;
        has[1].topic_id.bytes[0] = 8;
        has[0].partitions = numbers;
        has[1].partitions = numbers + 16;
        has[0].partitions_count = has[1].partitions_count = 0;
        for (const char *at = told; *at != 0; at += at[2] == ',' ? 3 : 2) {
            struct mr_consumer_group_heartbeat_request_topic_partitions *topic = &has[at[0] == 'u'];
            topic->partitions[topic->partitions_count++] = at[1] - '0';
        }
        r->topic_partitions = has;
        r->topic_partitions_count = told[0] == 0 ? 0 : 2;
    }
    return mr_group_rig_ask(rig, id, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, r);
}

static void expect(const struct mr_group_rig_ask *ask, int16_t error, int32_t epoch,
                   const char *assignment)
{
    assert_false(ask->is_open);
    assert_int_equal(ask->error, error);
    if (error == MR_KAFKA_NONE) {
        assert_int_equal(ask->generation, epoch);
        assert_string_equal(ask->assignment, assignment);
    }
}

static struct mr_group_rig_ask *join(const char *id)
{
    return beat(id, (struct words){.topics = "t"});
}

static int16_t commit(const char *id, int32_t epoch, int32_t partition, int64_t offset)
{
    struct mr_offset_commit_request r;
    struct mr_offset_commit_request_topic t = {.name = MR_STR("t"), .partitions_count = 1};
    struct mr_offset_commit_request_partition p = {.partition_index = partition,
                                                   .committed_offset = offset,
                                                   .committed_leader_epoch = -1,
                                                   .committed_metadata = MR_STR_NULL};
    MR_DEFAULTS(offset_commit_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id_or_member_epoch = epoch;
    r.member_id = mr_str(id);
    t.partitions = &p;
    r.topics = &t;
    r.topics_count = 1;
    return mr_group_rig_ask(rig, id, MR_API_OFFSET_COMMIT, 9, &r)->error;
}

static const struct mr_group *group(void)
{
    return mr_group_find(&rig->shard, MR_STR("g"));
}

static void expect_state(const char *want)
{
    struct mr_str state = mr_group_state_name(group());
    char text[16];
    mr_fmt(text, sizeof text, "%.*s", state.len, state.data);
    assert_string_equal(text, want);
}

/* a has all, b comes: a gives back first, only then b gets. */
static void test_consumer_partitions_are_given_back_before_they_are_taken(void **state)
{
    (void)state;
    expect(join("a"), 0, 1, "t0,t1,t2,t3");
    expect_state("Stable");
    mr_group_rig_pass(rig, 1000);
    expect(join("b"), 0, 2, "");
    expect_state("Reconciling");
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"}), 0, 1, "t0,t1");
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "-");
    expect(beat("a", (struct words){.epoch = 1}), 0, 1, "-"); /* silent about what it has */
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "-");
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1"}), 0, 2, "-");
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "t2,t3");
    expect_state("Stable");
    mr_group_rig_golden(rig, "consumer_two_members");
}

/* Members that come within the interval are assigned together. */
static void test_consumer_targets_wait_for_the_interval(void **state)
{
    (void)state;
    expect(join("a"), 0, 1, "t0,t1,t2,t3");
    mr_group_rig_pass(rig, 400);
    expect(join("b"), 0, 1, "");
    expect_state("Assigning");
    mr_group_rig_pass(rig, 599);
    expect(beat("a", (struct words){.epoch = 1}), 0, 1, "-");
    mr_group_rig_pass(rig, 1);
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"}), 0, 1, "t0,t1");
}

static void test_consumer_leave_and_silence_free_partitions(void **state)
{
    (void)state;
    join("a");
    mr_group_rig_pass(rig, 1000);
    join("b");
    mr_group_rig_pass(rig, 1000);
    beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"});
    beat("a", (struct words){.epoch = 1, .has = "t0,t1"});
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "t2,t3");
    expect(beat("b", (struct words){.epoch = -1}), 0, -1, "-");
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 2}), 0, 3, "t0,t1,t2,t3");
    mr_group_rig_pass(rig, 44999);
    assert_false(mr_group_is_empty(group()));
    mr_group_rig_pass(rig, 1);
    assert_true(mr_group_is_empty(group()));
    expect_state("Empty");
    expect(beat("a", (struct words){.epoch = 3}), MR_KAFKA_UNKNOWN_MEMBER_ID, 0, NULL);
}

static void test_consumer_who_does_not_give_back_in_time_is_out(void **state)
{
    (void)state;
    join("a");
    mr_group_rig_pass(rig, 1000);
    join("b");
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"}), 0, 1, "t0,t1");
    for (uint32_t second = 0; second < 59; second++) {
        mr_group_rig_pass(rig, 1000);
        expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"}), 0, 1, "-");
        expect(beat("b", (struct words){.epoch = 2}), 0, 2, "-");
    }
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 1}), MR_KAFKA_UNKNOWN_MEMBER_ID, 0, NULL);
    expect(beat("b", (struct words){.epoch = 2}), 0, 3, "t0,t1,t2,t3");
}

static void test_consumer_epochs_fence(void **state)
{
    (void)state;
    expect(beat("a", (struct words){.epoch = 1}), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    join("a");
    expect(beat("x", (struct words){.epoch = 1}), MR_KAFKA_UNKNOWN_MEMBER_ID, 0, NULL);
    expect(beat("a", (struct words){.epoch = 2}), MR_KAFKA_FENCED_MEMBER_EPOCH, 0, NULL);
    mr_group_rig_pass(rig, 1000);
    beat("a", (struct words){.epoch = 1, .topics = "tu"});
    /* The answer with epoch 2 was lost: the same member may say 1 once more, with what it had. */
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1"}), 0, 2, "-");
    expect(beat("a", (struct words){.epoch = 1}), MR_KAFKA_FENCED_MEMBER_EPOCH, 0, NULL);
    /* It knows nothing any more and begins again. */
    expect(beat("a", (struct words){.topics = "tu"}), 0, 2, "t0,t1,t2,t3,u0,u1,u2,u3");
}

static void test_consumer_static_member_keeps_its_place(void **state)
{
    (void)state;
    struct words words = {.topics = "t", .instance = "i"};
    expect(beat("a", words), 0, 1, "t0,t1,t2,t3");
    expect(beat("b", words), MR_KAFKA_UNRELEASED_INSTANCE_ID, 0, NULL);
    expect(beat("a", (struct words){.epoch = -2}), MR_KAFKA_INVALID_REQUEST, 0, NULL);
    expect(beat("a", (struct words){.epoch = -2, .instance = "i"}), 0, -2, "-");
    int32_t epoch = group()->consumer->epoch;
    expect(beat("b", words), 0, 1, "t0,t1,t2,t3");
    assert_int_equal(group()->consumer->epoch, epoch);
    expect(beat("a", (struct words){.epoch = 1, .instance = "i"}), MR_KAFKA_FENCED_INSTANCE_ID, 0,
           NULL);
    expect(beat("b", (struct words){.epoch = 1, .instance = "i"}), 0, 1, "-");
    expect(beat("b", (struct words){.epoch = 1, .instance = "j"}), MR_KAFKA_UNKNOWN_MEMBER_ID, 0,
           NULL);
    mr_group_rig_golden(rig, "consumer_static_member");
}

static void test_consumer_subscriptions_and_topics_move_targets(void **state)
{
    (void)state;
    join("a");
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 1, .topics = "tu"}), 0, 2, "t0,t1,t2,t3,u0,u1,u2,u3");
    /* Within the interval there is no new target, but what is not wanted goes at once. */
    expect(beat("a", (struct words){.epoch = 2, .topics = "u", .has = "t0,u0"}), 0, 2,
           "u0,u1,u2,u3");
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 2, .has = "u0,u1,u2,u3"}), 0, 3, "-");
    rig->topic[1].partition_count = 5;
    rig->image.version++;
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 3}), 0, 4, "u0,u1,u2,u3,u4");
    expect(beat("a", (struct words){.epoch = 4}), 0, 4, "-");
}

static void test_consumer_patterns_stand_for_topics(void **state)
{
    (void)state;
    expect(beat("a", (struct words){.regex = "(t"}), MR_KAFKA_INVALID_REGULAR_EXPRESSION, 0, NULL);
    assert_null(group());
    expect(beat("a", (struct words){.regex = "[tv]"}), 0, 1, "t0,t1,t2,t3");
    mr_group_rig_restart(rig);
    expect(beat("a", (struct words){.epoch = 1}), 0, 1, "-");
    /* A topic that matches now: looked at when ten seconds have passed. */
    rig->topic[1].name = MR_STR("v");
    rig->image.version++;
    expect(beat("a", (struct words){.epoch = 1}), 0, 1, "-");
    mr_group_rig_pass(rig, 10000);
    expect(beat("a", (struct words){.epoch = 1}), 0, 2, "t0,t1,t2,t3,u0,u1,u2,u3");
    /* Another pattern; the old one is forgotten. */
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.epoch = 2, .regex = "v|x", .has = ""}), 0, 3, "u0,u1,u2,u3");
    assert_null(mr_consumer_regex_find(group(), MR_STR("[tv]")));
    assert_non_null(mr_consumer_regex_find(group(), MR_STR("v|x")));
    expect(beat("a", (struct words){.epoch = -1}), 0, -1, "-");
    assert_null(mr_consumer_regex_find(group(), MR_STR("v|x")));
    mr_group_rig_golden(rig, "consumer_patterns");
}

/* Kafka's hash of topics, so that a group that moves to Kafka does not rebalance for it. */
static void test_consumer_hash_of_topics_is_kafkas(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    uint32_t lines = 0;
    mr_tsv_open(&tsv, "tests/golden/group/assignors.tsv");
    memset(&rig->topic[0].id, 0, sizeof rig->topic[0].id);
    rig->topic[0].id.bytes[15] = 7;
    rig->image.topic_count = 1;
    while (mr_tsv_next(&tsv)) {
        if (strcmp(tsv.fields[0], "hash") != 0) {
            continue;
        }
        struct mr_str name = mr_str(tsv.fields[1]);
        const struct mr_consumer_wish wish = {.names = &name, .count = 1, .regex = MR_STR_NULL};
        struct mr_coord_out out;
        int64_t hash;
        rig->topic[0].name = name;
        rig->topic[0].partition_count = (uint32_t)strtoul(tsv.fields[2], NULL, 10);
        mr_arena_reset(&rig->scratch);
        mr_coord_out_init(&out, &rig->scratch, rig->now);
        assert_true(mr_consumer_hash(&rig->shard, NULL, NULL, &wish, &out, &hash));
        assert_int_equal(hash, strtoll(tsv.fields[4], NULL, 10));
        lines++;
    }
    assert_int_equal(lines, 9);
}

static void test_consumer_range_is_used_when_asked_for(void **state)
{
    (void)state;
    expect(beat("b", (struct words){.topics = "tu", .assignor = "range"}), 0, 1,
           "t0,t1,t2,t3,u0,u1,u2,u3");
    mr_group_rig_pass(rig, 1000);
    expect(beat("a", (struct words){.topics = "tu", .assignor = "range"}), 0, 2, "");
    expect(beat("b", (struct words){.epoch = 1, .has = "t0,t1,t2,t3,u0,u1,u2,u3"}), 0, 1,
           "t2,t3,u2,u3");
    expect(beat("b", (struct words){.epoch = 1, .assignor = "best"}),
           MR_KAFKA_UNSUPPORTED_ASSIGNOR, 0, NULL);
}

static void test_consumer_commits_are_of_the_epoch_or_of_what_is_held_since(void **state)
{
    (void)state;
    join("a");
    assert_int_equal(commit("a", 1, 0, 10), MR_KAFKA_NONE);
    assert_int_equal(commit("a", 2, 0, 11), MR_KAFKA_STALE_MEMBER_EPOCH);
    assert_int_equal(commit("x", 1, 0, 11), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(commit("", -1, 0, 11), MR_KAFKA_UNKNOWN_MEMBER_ID);
    mr_group_rig_pass(rig, 1000);
    expect(join("b"), 0, 2, "");
    beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"});
    assert_int_equal(commit("a", 1, 3, 20), MR_KAFKA_NONE); /* to be given back, not yet given */
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1"}), 0, 2, "-");
    assert_int_equal(commit("a", 1, 0, 12), MR_KAFKA_NONE); /* sent before the new epoch came */
    assert_int_equal(commit("a", 1, 3, 21), MR_KAFKA_STALE_MEMBER_EPOCH);
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "t2,t3");
    assert_int_equal(commit("b", 1, 3, 21), MR_KAFKA_STALE_MEMBER_EPOCH);
    assert_int_equal(commit("b", 2, 3, 22), MR_KAFKA_NONE);
    assert_int_equal(mr_group_rig_fetched(rig, 0), 12);
    assert_int_equal(mr_group_rig_fetched(rig, 3), 22);
}

static void test_consumer_restart_goes_on_where_it_was(void **state)
{
    (void)state;
    join("a");
    mr_group_rig_pass(rig, 1000);
    join("b");
    beat("a", (struct words){.epoch = 1, .has = "t0,t1,t2,t3"});
    commit("a", 1, 2, 5);
    mr_group_rig_restart(rig);
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "-");
    expect(beat("a", (struct words){.epoch = 1, .has = "t0,t1"}), 0, 2, "-");
    expect(beat("b", (struct words){.epoch = 2}), 0, 2, "t2,t3");
    assert_int_equal(mr_group_rig_fetched(rig, 2), 5);
    mr_group_rig_pass(rig, 45000); /* sessions go on after a restart too */
    assert_true(mr_group_is_empty(group()));
}

static void test_consumer_malformed_requests_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        struct words words;
    } bad[] = {
        {"", {.topics = "t"}},
        {"a", {.epoch = 0}},
        {"a", {.epoch = -3}},
        {"a", {.topics = "t", .instance = ""}},
    };
    for (size_t at = 0; at < sizeof bad / sizeof bad[0]; at++) {
        expect(beat(bad[at].id, bad[at].words), MR_KAFKA_INVALID_REQUEST, 0, NULL);
    }
    assert_int_equal(rig->log_count, 0);
}

static void test_consumer_full_group_refuses_one_more(void **state)
{
    (void)state;
    rig->env.consumer_size_max = 1;
    join("a");
    struct mr_group_rig_ask *refused = join("b");
    expect(refused, MR_KAFKA_GROUP_MAX_SIZE_REACHED, 0, NULL);
    assert_non_null(strstr(refused->words, "group.consumer.max.size"));
    expect(beat("a", (struct words){.epoch = 1}), 0, 1, "-");
}

static void test_consumer_members_of_all_groups_have_a_limit(void **state)
{
    (void)state;
    rig->env.timers_max = 2;
    join("a");
    struct mr_group_rig_ask *refused = join("b");
    expect(refused, MR_KAFKA_COORDINATOR_NOT_AVAILABLE, 0, NULL);
    assert_non_null(strstr(refused->words, "millrace.group.members.max"));
    assert_true(mr_group_rig_has_warned(rig, "limit=millrace.group.members.max"));
    beat("a", (struct words){.epoch = -1});
    assert_int_equal(join("b")->error, MR_KAFKA_NONE);
}

/* Offsets outlive a change of the protocol of an empty group, in both directions. */
static void test_consumer_empty_group_changes_its_protocol(void **state)
{
    (void)state;
    assert_int_equal(commit("", -1, 0, 7), MR_KAFKA_NONE); /* a simple group */
    join("a");
    assert_non_null(group()->consumer);
    assert_int_equal(mr_group_rig_fetched(rig, 0), 7);
    beat("a", (struct words){.epoch = -1});
    struct mr_join_group_request r;
    struct mr_join_group_request_protocol p = {.name = MR_STR("range"), .metadata = {.len = 0}};
    MR_DEFAULTS(join_group_request, &r);
    r.group_id = MR_STR("g");
    r.session_timeout_ms = 10000;
    r.protocol_type = MR_STR("consumer");
    r.protocols = &p;
    r.protocols_count = 1;
    assert_int_equal(mr_group_rig_ask(rig, "c", MR_API_JOIN_GROUP, 9, &r)->error,
                     MR_KAFKA_MEMBER_ID_REQUIRED);
    assert_null(group()->consumer);
    assert_int_equal(mr_group_rig_fetched(rig, 0), 7);
}

/* ---- any conversation at all ---- */

#define CLIENTS 6

struct client {
    char id[16];
    int32_t epoch; /* 0: not in the group */
    bool is_mixed; /* subscribes to both topics */
    bool has[8];   /* t0..t3, u0..u3: what it believes it owns */
    bool is_told;  /* it has something to report */
    bool is_lost;  /* an answer was */
};

static void say_has(const struct client *c, char *text)
{
    uint32_t len = 0;
    text[0] = 0;
    for (uint32_t part = 0; part < 8; part++) {
        if (c->has[part]) {
            len += (uint32_t)mr_fmt(text + len, 32 - len, "%s%c%d", len > 0 ? "," : "", part < 4 ? 't' : 'u',
                          (int)(part % 4));
        }
    }
}

static void take(struct client *c, const char *assignment)
{
    if (assignment[0] == '-') {
        return;
    }
    memset(c->has, 0, sizeof c->has);
    for (const char *at = assignment; *at != 0; at += at[2] == ',' ? 3 : 2) {
        c->has[(at[0] == 'u' ? 4 : 0) + at[1] - '0'] = true;
    }
    c->is_told = true;
}

/* One owner per partition, in what members believe: a member acts on an answer at once. */
static void check_owners(const struct client *clients)
{
    for (uint32_t part = 0; part < 8; part++) {
        uint32_t owners = 0;
        for (uint32_t at = 0; at < CLIENTS; at++) {
            owners += clients[at].has[part] ? 1 : 0;
        }
        assert_true(owners <= 1);
    }
}

static void client_beat(struct client *c, struct mr_prng *prng)
{
    char has[32];
    say_has(c, has);
    struct words words = {
        .epoch = c->epoch,
        .has = c->is_lost || c->is_told || mr_prng_below(prng, 3) == 0 ? has : NULL,
        .topics = c->epoch == 0 || c->is_lost || mr_prng_below(prng, 6) == 0
                      ? c->is_mixed ? "tu" : "t"
                      : NULL,
        .is_full = c->is_lost,
    };
    const struct mr_group_rig_ask *answer = beat(c->id, words);
    if (answer->error != MR_KAFKA_NONE) {
        memset(c->has, 0, sizeof c->has);
        c->epoch = 0;
        return;
    }
    c->is_lost = mr_prng_below(prng, 12) == 0 && c->epoch != 0;
    if (c->is_lost) {
        return;
    }
    c->epoch = answer->generation;
    c->is_told = false;
    take(c, answer->assignment);
}

/* A member that was not heard of in time must have stopped by itself. */
static void forget_the_silent(struct client *clients)
{
    for (uint32_t at = 0; at < CLIENTS; at++) {
        if (clients[at].epoch > 0 &&
            (group() == NULL || mr_consumer_find(group(), mr_str(clients[at].id)) == NULL)) {
            memset(clients[at].has, 0, sizeof clients[at].has);
            clients[at].epoch = 0;
        }
    }
}

static void test_consumer_random_conversations_have_one_owner_each(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 20240901};
    struct client clients[CLIENTS] = {0};
    for (uint32_t at = 0; at < CLIENTS; at++) {
        mr_fmt(clients[at].id, sizeof clients[at].id, "m%u", at);
        clients[at].is_mixed = at % 2 == 0;
    }
    for (uint32_t step = 0; step < 1500; step++) {
        struct client *c = &clients[mr_prng_below(&prng, CLIENTS)];
        rig->trace.len = 0;
        switch (mr_prng_below(&prng, 16)) {
        case 0:
            if (c->epoch > 0) {
                beat(c->id, (struct words){.epoch = -1});
                memset(c->has, 0, sizeof c->has);
                c->epoch = 0;
            }
            break;
        case 1:
            mr_group_rig_restart(rig);
            break;
        case 2:
            c->is_mixed = mr_prng_below(&prng, 2) == 0;
            break;
        case 3:
            mr_group_rig_pass(
                rig, mr_prng_below(&prng, mr_prng_below(&prng, 20) == 0 ? 60000 : 3000));
            forget_the_silent(clients);
            break;
        default:
            client_beat(c, &prng);
            break;
        }
        check_owners(clients);
    }
    /* Calm: everybody in the group is told, and all partitions that are wanted are owned. */
    for (uint32_t round = 0; round < 12; round++) {
        rig->trace.len = 0;
        mr_group_rig_pass(rig, 1000);
        for (uint32_t at = 0; at < CLIENTS; at++) {
            clients[at].is_mixed = true;
            clients[at].is_told = true;
            char has[32];
            say_has(&clients[at], has);
            const struct mr_group_rig_ask *answer =
                beat(clients[at].id, (struct words){.epoch = clients[at].epoch,
                                                    .topics = "tu",
                                                    .has = has,
                                                    .is_full = true});
            clients[at].epoch = answer->error == MR_KAFKA_NONE ? answer->generation : 0;
            take(&clients[at], answer->error == MR_KAFKA_NONE ? answer->assignment : "");
            check_owners(clients);
        }
    }
    uint32_t owned = 0;
    for (uint32_t at = 0; at < CLIENTS; at++) {
        for (uint32_t part = 0; part < 8; part++) {
            owned += clients[at].has[part] ? 1 : 0;
        }
    }
    assert_int_equal(owned, 8);
    expect_state("Stable");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_consumer_partitions_are_given_back_before_they_are_taken, setup),
        cmocka_unit_test_setup(test_consumer_targets_wait_for_the_interval, setup),
        cmocka_unit_test_setup(test_consumer_leave_and_silence_free_partitions, setup),
        cmocka_unit_test_setup(test_consumer_who_does_not_give_back_in_time_is_out, setup),
        cmocka_unit_test_setup(test_consumer_epochs_fence, setup),
        cmocka_unit_test_setup(test_consumer_static_member_keeps_its_place, setup),
        cmocka_unit_test_setup(test_consumer_subscriptions_and_topics_move_targets, setup),
        cmocka_unit_test_setup(test_consumer_patterns_stand_for_topics, setup),
        cmocka_unit_test_setup(test_consumer_hash_of_topics_is_kafkas, setup),
        cmocka_unit_test_setup(test_consumer_range_is_used_when_asked_for, setup),
        cmocka_unit_test_setup(test_consumer_commits_are_of_the_epoch_or_of_what_is_held_since, setup),
        cmocka_unit_test_setup(test_consumer_restart_goes_on_where_it_was, setup),
        cmocka_unit_test_setup(test_consumer_malformed_requests_are_refused, setup),
        cmocka_unit_test_setup(test_consumer_full_group_refuses_one_more, setup),
        cmocka_unit_test_setup(test_consumer_members_of_all_groups_have_a_limit, setup),
        cmocka_unit_test_setup(test_consumer_empty_group_changes_its_protocol, setup),
        cmocka_unit_test_setup(test_consumer_random_conversations_have_one_owner_each, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
