/*
 * Groups with members of both protocols as pure steps (group_rig.h): up when the first member of the new
 * protocol comes, down when the last one goes.
 */
#include "coord/group/consumer.h"
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

static const struct mr_group *group(void)
{
    return mr_group_find(&rig->shard, MR_STR("g"));
}

static void expect_group(const char *type, const char *state)
{
    char text[64];
    struct mr_str a = mr_group_type_name(group());
    struct mr_str b = mr_group_state_name(group());
    char want[64];
    mr_fmt(text, sizeof text, "%.*s %.*s", a.len, a.data, b.len, b.data);
    mr_fmt(want, sizeof want, "%s %s", type, state);
    assert_string_equal(text, want);
}

/* ---- what classic consumers say ---- */

static void put16(uint8_t **at, uint32_t value)
{
    *(*at)++ = (uint8_t)(value >> 8);
    *(*at)++ = (uint8_t)value;
}

static void put32(uint8_t **at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at, value & 0xffff);
}

/* Topic "t" with these partitions, "t0,t3"; the count of topics before it. */
static void put_parts(uint8_t **at, const char *parts)
{
    put32(at, parts[0] == 0 ? 0 : 1);
    if (parts[0] == 0) {
        return;
    }
    uint32_t count = 1;
    for (const char *c = parts; *c != 0; c++) {
        count += *c == ',';
    }
    put16(at, 1);
    *(*at)++ = 't';
    put32(at, count);
    for (uint32_t index = 0; index < count; index++) {
        put32(at, (uint32_t)(parts[index * 3 + 1] - '0'));
    }
}

/* A subscription to "t" in version 1, with what is still owned. */
static struct mr_blob subscription(const char *owned)
{
    uint8_t *bytes = mr_arena_get_fresh(&rig->forever, 128, 1);
    uint8_t *at = bytes;
    put16(&at, 1);
    put32(&at, 1);
    put16(&at, 1);
    *at++ = 't';
    put32(&at, UINT32_MAX);
    put_parts(&at, owned);
    return (struct mr_blob){.data = bytes, .len = (int32_t)(at - bytes)};
}

static struct mr_blob assignment(const char *parts, uint32_t user_bytes)
{
    uint8_t *bytes = mr_arena_get_fresh(&rig->forever, 128, 1);
    uint8_t *at = bytes;
    put16(&at, 1);
    put_parts(&at, parts);
    put32(&at, user_bytes > 0 ? user_bytes : UINT32_MAX);
    for (uint32_t index = 0; index < user_bytes; index++) {
        *at++ = 7;
    }
    return (struct mr_blob){.data = bytes, .len = (int32_t)(at - bytes)};
}

struct words {
    const char *instance;
    const char *owned;
    struct mr_blob metadata; /* instead of a subscription */
    int16_t version;
    const char *protocol;
};

static struct mr_str keep(const char *text)
{
    char *copy = mr_arena_get_fresh(&rig->forever, 80, 1);
    mr_fmt(copy, 80, "%s", text);
    return mr_str(copy);
}

static struct mr_group_rig_ask *join(const char *member, struct words words)
{
    struct mr_join_group_request *r = mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_join_group_request_protocol *p =
        mr_arena_get_fresh(&rig->forever, 2 * sizeof *p, 16);
    MR_DEFAULTS(join_group_request, r);
    p[0].name = mr_str(words.protocol == NULL ? "range" : words.protocol);
    p[1].name = MR_STR("sticky");
    p[0].metadata = words.metadata.len > 0 ? words.metadata
                                           : subscription(words.owned == NULL ? "" : words.owned);
    p[1].metadata = p[0].metadata;
    r->group_id = MR_STR("g");
    r->session_timeout_ms = 10000;
    r->rebalance_timeout_ms = 60000;
    r->member_id = keep(member);
    r->group_instance_id = words.instance == NULL ? MR_STR_NULL : mr_str(words.instance);
    r->protocol_type = MR_STR("consumer");
    r->protocols = p;
    r->protocols_count = words.protocol == NULL ? 2 : 1;
    return mr_group_rig_ask(rig, member, MR_API_JOIN_GROUP, words.version > 0 ? words.version : 9,
                            r);
}

/* The assignment as "t0,t1", or "error N". */
static const char *sync(const char *member, int32_t generation, const char *first,
                        struct mr_blob for_first, const char *second, struct mr_blob for_second)
{
    static char text[64];
    struct mr_sync_group_request *r = mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_sync_group_request_assignment *a =
        mr_arena_get_fresh(&rig->forever, 2 * sizeof *a, 16);
    MR_DEFAULTS(sync_group_request, r);
    r->group_id = MR_STR("g");
    r->generation_id = generation;
    r->member_id = keep(member);
    r->protocol_type = MR_STR("consumer");
    r->protocol_name = MR_STR("range");
    r->assignments = a;
    if (first != NULL) {
        a[r->assignments_count++] = (struct mr_sync_group_request_assignment){
            .member_id = keep(first), .assignment = for_first};
    }
    if (second != NULL) {
        a[r->assignments_count++] = (struct mr_sync_group_request_assignment){
            .member_id = keep(second), .assignment = for_second};
    }
    struct mr_group_rig_ask *ask = mr_group_rig_ask(rig, member, MR_API_SYNC_GROUP, 5, r);
    if (ask->is_open) {
        return "open";
    }
    if (ask->error != 0) {
        mr_fmt(text, sizeof text, "error %d", ask->error);
        return text;
    }
    const struct mr_sync_group_response *response = ask->answer.response;
    struct mr_parts set;
    assert_int_not_equal(mr_consumer_read_assignment(&rig->image, response->assignment,
                                                     &rig->forever, &set),
                         MR_CONSUMER_MALFORMED);
    uint32_t len = 0;
    text[0] = 0;
    for (uint32_t at = 0; at < set.count; at++) {
        len += (uint32_t)mr_fmt(text + len, sizeof text - len, "%st%d", at > 0 ? "," : "",
                                set.items[at].partition);
    }
    return text;
}

static const char *synced(const char *member, int32_t generation)
{
    return sync(member, generation, NULL, MR_BLOB_NULL, NULL, MR_BLOB_NULL);
}

static int16_t heartbeat(const char *member, int32_t generation)
{
    struct mr_heartbeat_request r;
    MR_DEFAULTS(heartbeat_request, &r);
    r.group_id = MR_STR("g");
    r.generation_id = generation;
    r.member_id = mr_str(member);
    r.group_instance_id = MR_STR_NULL;
    return mr_group_rig_ask(rig, member, MR_API_HEARTBEAT, 4, &r)->error;
}

static int16_t leave(const char *member, const char *instance)
{
    struct mr_leave_group_request r;
    struct mr_leave_group_request_member_identity m = {
        .member_id = mr_str(member),
        .group_instance_id = instance == NULL ? MR_STR_NULL : mr_str(instance),
        .reason = MR_STR_NULL};
    MR_DEFAULTS(leave_group_request, &r);
    r.group_id = MR_STR("g");
    r.members = &m;
    r.members_count = 1;
    return mr_group_rig_ask(rig, member, MR_API_LEAVE_GROUP, 5, &r)->error;
}

/* ---- a heartbeat of the new protocol ---- */

static struct mr_group_rig_ask *beat(const char *id, int32_t epoch, const char *instance,
                                     const char *has)
{
    struct mr_consumer_group_heartbeat_request *r =
        mr_arena_get_fresh(&rig->forever, sizeof *r, 16);
    struct mr_consumer_group_heartbeat_request_topic_partitions *topic =
        mr_arena_get_fresh(&rig->forever, sizeof *topic, 16);
    int32_t *numbers = mr_arena_get_fresh(&rig->forever, 4 * sizeof *numbers, 16);
    static struct mr_str names[] = {{"t", 1}};
    MR_DEFAULTS(consumer_group_heartbeat_request, r);
    r->group_id = MR_STR("g");
    r->member_id = mr_str(id);
    r->member_epoch = epoch;
    r->instance_id = instance == NULL ? MR_STR_NULL : mr_str(instance);
    r->server_assignor = r->rack_id = r->subscribed_topic_regex = MR_STR_NULL;
    r->rebalance_timeout_ms = epoch == 0 ? 60000 : -1;
    if (epoch == 0) {
        r->subscribed_topic_names = names;
        r->subscribed_topic_names_count = 1;
        has = "";
    }
    if (has != NULL) {
        topic->topic_id.bytes[0] = 7;
        topic->partitions = numbers;
        for (const char *at = has; *at != 0; at += at[2] == ',' ? 3 : 2) {
            numbers[topic->partitions_count++] = at[1] - '0';
        }
        r->topic_partitions = topic;
        r->topic_partitions_count = has[0] == 0 ? 0 : 1;
    }
    return mr_group_rig_ask(rig, id, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, r);
}

static void expect(const struct mr_group_rig_ask *ask, int16_t error, int32_t epoch,
                   const char *assigned)
{
    assert_false(ask->is_open);
    assert_int_equal(ask->error, error);
    if (error == MR_KAFKA_NONE) {
        assert_int_equal(ask->generation, epoch);
        assert_string_equal(ask->assignment, assigned);
    }
}

/* ---- conversations ---- */

/* Two classic members at generation 1, with two partitions each. */
static void two_classic(char a[80], char b[80], const char *a_instance)
{
    struct words words = {.instance = a_instance};
    if (a_instance == NULL) {
        mr_fmt(a, 80, "%s", join("", words)->member_id);
        (void)join(a, words);
    } else {
        (void)join("", words);
    }
    mr_fmt(b, 80, "%s", join("", (struct words){0})->member_id);
    struct mr_group_rig_ask *joined = join(b, (struct words){0});
    pass(6000);
    assert_false(joined->is_open);
    assert_int_equal(joined->generation, 1);
    mr_fmt(a, 80, "%s", joined->leader);
    assert_string_equal(synced(b, 1), "open");
    assert_string_equal(
        sync(a, 1, a, assignment("t0,t1", 0), b, assignment("t2,t3", 0)), "t0,t1");
    expect_group("classic", "Stable");
}

/* c comes and wants its share: nobody gets it before a or b gave it back; then all but one go. */
static void test_migrate_up_and_down(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    expect_group("consumer", "Reconciling");
    assert_int_equal(heartbeat(a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(heartbeat(b, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_string_equal(synced(b, 1), "error 27");
    /* Both still have everything; the one who must give back stays at its epoch until it has. */
    struct mr_group_rig_ask *joined = join(b, (struct words){.owned = "t2,t3"});
    assert_int_equal(joined->error, 0);
    int32_t b_epoch = joined->generation;
    assert_string_equal(joined->leader, "");
    joined = join(a, (struct words){.owned = "t0,t1"});
    int32_t a_epoch = joined->generation;
    assert_int_equal(a_epoch + b_epoch, 1 + 2); /* uniform: 2, 1, 1 */
    char *giver = a_epoch == 1 ? a : b;
    char *keeper = a_epoch == 1 ? b : a;
    const char *kept = synced(giver, 1);
    assert_int_equal(strlen(kept), 2);
    char still[8];
    mr_fmt(still, sizeof still, "%s", kept);
    assert_int_equal(strlen(synced(keeper, 2)), 5);
    assert_int_equal(heartbeat(keeper, 2), 0);
    assert_int_equal(heartbeat(giver, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    expect(beat("c", 2, NULL, NULL), 0, 2, "-");
    joined = join(giver, (struct words){.owned = still});
    assert_int_equal(joined->generation, 2);
    assert_string_equal(synced(giver, 2), still);
    struct mr_group_rig_ask *given = beat("c", 2, NULL, NULL);
    assert_int_equal(strlen(given->assignment), 2);
    expect_group("consumer", "Stable");
    assert_int_equal(heartbeat(giver, 2), 0);

    expect(beat("c", -1, NULL, NULL), 0, -1, "-");
    expect_group("classic", "PreparingRebalance");
    assert_int_equal(group()->classic_part.generation, 2);
    assert_int_equal(heartbeat(keeper, 2), MR_KAFKA_REBALANCE_IN_PROGRESS);
    (void)join(keeper, (struct words){0});
    joined = join(giver, (struct words){0});
    assert_int_equal(joined->generation, 3);
    mr_group_rig_golden(rig, "migrate_up_and_down");
}

/* What a restart finds is the same group, and its classic members have sessions of their own. */
static void test_migrate_survives_restart_and_silence(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    mr_group_rig_restart(rig);
    assert_int_equal(heartbeat(a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    pass(9999);
    assert_int_equal(heartbeat(a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    pass(1); /* b is silent for its 10 s */
    assert_int_equal(heartbeat(b, 1), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(group()->consumer->member_count, 2);
    pass(9999); /* and a for its own; c has 45 */
    assert_int_equal(group()->consumer->member_count, 1);
    expect(beat("c", 2, NULL, NULL), 0, 4, "t0,t1,t2,t3");
    mr_group_rig_restart(rig);
    expect(beat("c", 4, NULL, NULL), 0, 4, "-");
}

/* The last one of the new protocol dies: down, with everybody told to join. */
static void test_migrate_down_by_silence(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    (void)join(a, (struct words){0});
    (void)join(b, (struct words){0});
    for (int second = 0; second < 44; second += 4) {
        (void)synced(a, 2);
        (void)synced(b, 2);
        assert_int_equal(heartbeat(a, 2), 0);
        assert_int_equal(heartbeat(b, 2), 0);
        pass(4000);
    }
    expect_group("consumer", "Reconciling");
    pass(1001);
    expect_group("classic", "PreparingRebalance");
    assert_int_equal(heartbeat(a, 2), MR_KAFKA_REBALANCE_IN_PROGRESS);
    mr_group_rig_restart(rig);
    expect_group("classic", "Stable");
}

/* Who is told to join, or has joined and does not sync, has its rebalance timeout for it. */
static void test_migrate_classic_members_are_held_to_their_time(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    (void)join(b, (struct words){0}); /* and never syncs */
    for (uint32_t second = 0; second < 60; second += 5) {
        assert_int_equal(heartbeat(a, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
        assert_int_equal(heartbeat(b, 2), 0);
        (void)beat("c", 2, NULL, NULL);
        pass(5000);
    }
    assert_int_equal(heartbeat(a, 1), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(heartbeat(b, 2), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(group()->consumer->member_count, 1);
}

/* c goes before anybody has given anything back: what a and b have stays theirs, whoever comes next, and when. */
static void test_migrate_down_while_partitions_move(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    expect(beat("c", -1, NULL, NULL), 0, -1, "-");
    expect_group("classic", "PreparingRebalance");
    expect(beat("d", 0, NULL, NULL), 0, 3, "");
    expect(beat("d", -1, NULL, NULL), 0, -1, "-");
    mr_group_rig_restart(rig); /* the rebalance is forgotten */
    assert_string_equal(synced(a, 3), "t0,t1");
    assert_string_equal(synced(b, 3), "t2,t3");
    expect(beat("e", 0, NULL, NULL), 0, 4, "");
}

/* The one that goes is replaced: what it was to have is not its successor's yet, so all join. */
static void test_migrate_replaced_while_partitions_move(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    expect(beat("c", 0, "one", NULL), 0, 2, "");
    struct mr_group_rig_ask *joined = join("", (struct words){.instance = "one"});
    expect_group("classic", "PreparingRebalance");
    (void)join(a, (struct words){0});
    (void)join(b, (struct words){0});
    assert_false(joined->is_open);
    assert_int_equal(joined->error, 0);
    assert_int_equal(joined->generation, 3);
}

/* A group in the middle of a rebalance: who waits is told to begin anew. */
static void test_migrate_in_a_rebalance(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    struct mr_group_rig_ask *waiting = join(a, (struct words){0}); /* the leader rebalances */
    assert_true(waiting->is_open);
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    assert_false(waiting->is_open);
    assert_int_equal(waiting->error, MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(join(a, (struct words){0})->generation, 2);
}

static void test_migrate_policy_and_kinds(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, NULL);
    rig->env.may_upgrade = false;
    expect(beat("c", 0, NULL, NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    rig->env.may_upgrade = true;
    rig->env.consumer_size_max = 1;
    expect(beat("c", 0, NULL, NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    rig->env.consumer_size_max = 1000;
    expect(beat("c", 1, NULL, NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    expect_group("classic", "Stable");
    rig->env.may_downgrade = false;
    expect(beat("c", 0, NULL, NULL), 0, 2, "");
    expect(beat("c", -1, NULL, NULL), 0, -1, "-");
    expect_group("consumer", "Assigning");
}

/* An assignor with data of its own could not be followed; bytes that are no subscription neither. */
static void test_migrate_refuses_what_it_cannot_read(void **state)
{
    (void)state;
    static const uint8_t junk[] = {0, 1, 0, 0, 0, 9, 0};
    struct mr_blob bad = {.data = junk, .len = sizeof junk};
    char a[80];
    mr_fmt(a, 80, "%s", join("", (struct words){0})->member_id);
    (void)join(a, (struct words){0});
    pass(6000);
    assert_string_equal(sync(a, 1, a, assignment("t0", 3), NULL, MR_BLOB_NULL), "t0");
    expect(beat("c", 0, NULL, NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    (void)join(a, (struct words){.metadata = bad});
    assert_string_equal(sync(a, 2, a, assignment("t0", 0), NULL, MR_BLOB_NULL), "t0");
    expect(beat("c", 0, NULL, NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
    (void)join(a, (struct words){0});
    assert_string_equal(sync(a, 3, a, assignment("t0", 0), NULL, MR_BLOB_NULL), "t0");
    expect(beat("c", 0, NULL, NULL), 0, 4, "t1,t2");
    assert_int_equal(join(a, (struct words){.metadata = bad})->error,
                     MR_KAFKA_UNKNOWN_SERVER_ERROR);
    assert_int_equal(join(a, (struct words){.protocol = "roundrobin"})->error,
                     MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL);
    assert_int_equal(heartbeat("c", 4), MR_KAFKA_UNKNOWN_MEMBER_ID); /* of the other protocol */
    assert_int_equal(leave("c", NULL), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(heartbeat(a, 2), MR_KAFKA_ILLEGAL_GENERATION);
}

/* Classic members come to a group of the new protocol and go. */
static void test_migrate_classic_members_join_and_leave(void **state)
{
    (void)state;
    expect(beat("c", 0, NULL, NULL), 0, 1, "t0,t1,t2,t3");
    struct mr_group_rig_ask *asked = join("", (struct words){0});
    assert_int_equal(asked->error, MR_KAFKA_MEMBER_ID_REQUIRED);
    char a[80];
    mr_fmt(a, 80, "%s", asked->member_id);
    assert_int_equal(group()->consumer->member_count, 1);
    pass(1000);
    assert_int_equal(join(a, (struct words){0})->generation, 2);
    assert_string_equal(synced(a, 2), "");
    expect(beat("c", 1, NULL, "t0,t1,t2,t3"), 0, 1, "t0,t1");
    assert_int_equal(heartbeat(a, 2), 0); /* what it waits for is not free */
    expect(beat("c", 1, NULL, "t0,t1"), 0, 2, "-");
    assert_int_equal(heartbeat(a, 2), MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(join(a, (struct words){0})->generation, 2);
    assert_string_equal(synced(a, 2), "t2,t3");
    assert_int_equal(leave(a, NULL), 0);
    pass(1000);
    expect(beat("c", 2, NULL, NULL), 0, 3, "t0,t1,t2,t3");
    expect(beat("c", -1, NULL, NULL), 0, -1, "-");
    assert_true(mr_group_is_empty(group()));
}

/* A static member restarts with the other protocol, up and down; its partitions stay with it. */
static void test_migrate_static_member_changes_its_protocol(void **state)
{
    (void)state;
    char a[80];
    char b[80];
    two_classic(a, b, "one");
    expect(beat("c", 0, "one", NULL), 0, 2, "t0,t1");
    expect_group("consumer", "Reconciling");
    assert_int_equal(group()->consumer->member_count, 2);
    assert_int_equal(heartbeat(a, 1), MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(heartbeat(b, 1), MR_KAFKA_REBALANCE_IN_PROGRESS);
    assert_int_equal(join(b, (struct words){.owned = "t2,t3"})->generation, 2);
    assert_string_equal(synced(b, 2), "t2,t3");
    /* Back: it was the last of the new protocol, so the group is classic, and nobody rebalances. */
    struct mr_group_rig_ask *joined = join("", (struct words){.instance = "one"});
    assert_int_equal(joined->error, 0);
    assert_int_equal(joined->generation, 2);
    mr_fmt(a, 80, "%s", joined->member_id);
    expect_group("classic", "Stable");
    assert_string_equal(synced(a, 2), "t0,t1");
    assert_int_equal(heartbeat(b, 2), 0);
    expect(beat("c", 2, "one", NULL), MR_KAFKA_GROUP_ID_NOT_FOUND, 0, NULL);
}

/* A static classic member in a group of the new protocol is fenced as everywhere; an administrator removes it. */
static void test_migrate_static_classic_members(void **state)
{
    (void)state;
    expect(beat("c", 0, NULL, NULL), 0, 1, "t0,t1,t2,t3");
    pass(1000);
    struct mr_group_rig_ask *joined = join("", (struct words){.instance = "one"});
    assert_int_equal(joined->error, 0);
    char old[80];
    mr_fmt(old, 80, "%s", joined->member_id);
    joined = join("", (struct words){.instance = "one"});
    assert_int_equal(joined->error, 0);
    assert_int_equal(join(old, (struct words){.instance = "one"})->error,
                     MR_KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(join(old, (struct words){.instance = "two"})->error,
                     MR_KAFKA_UNKNOWN_MEMBER_ID);
    assert_int_equal(leave(old, "one"), MR_KAFKA_FENCED_INSTANCE_ID);
    assert_int_equal(leave("", "one"), 0);
    assert_int_equal(group()->consumer->member_count, 1);
    assert_int_equal(leave("", "one"), MR_KAFKA_UNKNOWN_MEMBER_ID);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup(name_, setup)
    const struct CMUnitTest tests[] = {
        TEST(test_migrate_up_and_down),
        TEST(test_migrate_survives_restart_and_silence),
        TEST(test_migrate_down_by_silence),
        TEST(test_migrate_classic_members_are_held_to_their_time),
        TEST(test_migrate_down_while_partitions_move),
        TEST(test_migrate_replaced_while_partitions_move),
        TEST(test_migrate_in_a_rebalance),
        TEST(test_migrate_policy_and_kinds),
        TEST(test_migrate_refuses_what_it_cannot_read),
        TEST(test_migrate_classic_members_join_and_leave),
        TEST(test_migrate_static_member_changes_its_protocol),
        TEST(test_migrate_static_classic_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
