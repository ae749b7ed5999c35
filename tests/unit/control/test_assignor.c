/*
 * Assignors: exact examples, and what must hold for any group: every partition has one owner that
 * subscribes to it, loads differ by one at most, and who need not lose a partition does not.
 */
#include "coord/group/assignor.h"
#include "millrace/base/prng.h"
#include "test.h"
#include "tsv.h"

#define MEMBERS_MAX    12
#define TOPICS_MAX     6
#define PARTITIONS_MAX 120

struct fixture {
    struct mr_assignor_spec spec;
    struct mr_assignor_member members[MEMBERS_MAX];
    struct mr_assignor_topic topics[TOPICS_MAX];
    uint32_t subscribed[MEMBERS_MAX][TOPICS_MAX];
    uint32_t owned[MEMBERS_MAX][PARTITIONS_MAX];
    char ids[MEMBERS_MAX][8];
    uint32_t owners[PARTITIONS_MAX];
    struct mr_arena scratch;
};

static struct fixture f;

static int setup(void **state)
{
    (void)state;
    static uint8_t memory[1 << 20];
    memset(&f, 0, sizeof f);
    mr_arena_init(&f.scratch, memory, sizeof memory);
    return 0;
}

static void begin(uint32_t member_count, const uint32_t *partitions, uint32_t topic_count)
{
    f.spec = (struct mr_assignor_spec){
        .members = f.members,
        .member_count = member_count,
        .topics = f.topics,
        .topic_count = topic_count,
    };
    for (uint32_t topic = 0; topic < topic_count; topic++) {
        f.topics[topic] = (struct mr_assignor_topic){.first = f.spec.partition_count,
                                                     .partition_count = partitions[topic]};
        f.spec.partition_count += partitions[topic];
    }
    assert_true(f.spec.partition_count <= PARTITIONS_MAX);
    for (uint32_t at = 0; at < member_count; at++) {
        f.ids[at][0] = (char)('a' + at);
        f.members[at] = (struct mr_assignor_member){
            .id = mr_str(f.ids[at]),
            .instance_id = MR_STR_NULL,
            .topics = f.subscribed[at],
            .owned = f.owned[at],
        };
    }
}

static void subscribe(uint32_t member, uint32_t topic)
{
    f.subscribed[member][f.members[member].topic_count++] = topic;
}

static void subscribe_all(void)
{
    for (uint32_t at = 0; at < f.spec.member_count; at++) {
        for (uint32_t topic = 0; topic < f.spec.topic_count; topic++) {
            subscribe(at, topic);
        }
    }
}

static void assign(mr_assignor *assignor)
{
    mr_arena_reset(&f.scratch);
    memset(f.owners, 0x55, sizeof f.owners);
    assert_true(assignor(&f.spec, &f.scratch, f.owners));
}

/* What was assigned is what is owned next time. */
static void settle(void)
{
    for (uint32_t at = 0; at < f.spec.member_count; at++) {
        f.members[at].owned_count = 0;
    }
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        struct mr_assignor_member *owner = &f.members[f.owners[partition]];
        f.owned[f.owners[partition]][owner->owned_count++] = partition;
    }
}

static void expect(const char *want)
{
    char got[PARTITIONS_MAX + 1];
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        got[partition] = f.owners[partition] == MR_ASSIGNOR_NOBODY
                             ? '-'
                             : (char)('a' + (char)f.owners[partition]);
    }
    got[f.spec.partition_count] = 0;
    assert_string_equal(got, want);
}

static void test_assignor_range_cuts_each_topic_alike(void **state)
{
    const uint32_t partitions[] = {5, 5, 2};
    (void)state;
    begin(3, partitions, 3);
    subscribe_all();
    assign(mr_assignor_range);
    expect("aabbc"
           "aabbc"
           "ab");
}

static void test_assignor_range_static_members_come_first(void **state)
{
    const uint32_t partitions[] = {4};
    (void)state;
    begin(3, partitions, 1);
    subscribe_all();
    f.members[2].instance_id = MR_STR("1");
    f.members[1].instance_id = MR_STR("2");
    assign(mr_assignor_range);
    expect("ccba");
}

static void test_assignor_range_counts_only_subscribers(void **state)
{
    const uint32_t partitions[] = {4, 3};
    (void)state;
    begin(3, partitions, 2);
    subscribe(0, 0);
    subscribe(1, 0);
    subscribe(1, 1);
    subscribe(2, 1);
    assign(mr_assignor_range);
    expect("aabb"
           "bbc");
}

static void test_assignor_uniform_deals_out_evenly(void **state)
{
    const uint32_t partitions[] = {5, 3};
    (void)state;
    begin(3, partitions, 2);
    subscribe_all();
    assign(mr_assignor_uniform);
    expect("aabbb" /* the longer shares come last: nobody has anything to keep */
           "ccc");
}

static void test_assignor_uniform_newcomer_takes_only_its_share(void **state)
{
    const uint32_t partitions[] = {9};
    (void)state;
    begin(2, partitions, 1);
    subscribe_all();
    assign(mr_assignor_uniform);
    expect("aaaabbbbb");
    settle();
    begin(3, partitions, 1);
    subscribe_all();
    f.members[0].owned_count = 4;
    f.members[1].owned_count = 5;
    assign(mr_assignor_uniform);
    expect("aaacbbbcc");
}

/* One with the extra partition keeps it, although it is not the first. */
static void test_assignor_uniform_extra_stays_where_it_is(void **state)
{
    const uint32_t partitions[] = {3};
    (void)state;
    begin(2, partitions, 1);
    subscribe_all();
    f.members[0].owned_count = 1;
    f.owned[0][0] = 0;
    f.members[1].owned_count = 2;
    f.owned[1][0] = 1;
    f.owned[1][1] = 2;
    assign(mr_assignor_uniform);
    expect("abb");
}

static void test_assignor_uniform_mixed_prefers_the_less_loaded(void **state)
{
    const uint32_t partitions[] = {4, 2};
    (void)state;
    begin(2, partitions, 2);
    subscribe(0, 0);
    subscribe(1, 0);
    subscribe(1, 1);
    assign(mr_assignor_uniform);
    /* t1 is b's alone; of t0 a gets more. */
    uint32_t load_a = 0;
    for (uint32_t partition = 0; partition < 6; partition++) {
        load_a += f.owners[partition] == 0 ? 1 : 0;
    }
    assert_int_equal(load_a, 3);
    assert_int_equal(f.owners[4], 1);
    assert_int_equal(f.owners[5], 1);
}

/* ---- what must hold for any group ---- */

static bool is_subscribed(uint32_t member, uint32_t partition)
{
    for (uint32_t index = 0; index < f.members[member].topic_count; index++) {
        const struct mr_assignor_topic *topic = &f.topics[f.members[member].topics[index]];
        if (partition >= topic->first && partition < topic->first + topic->partition_count) {
            return true;
        }
    }
    return false;
}

static void loads(uint32_t *of)
{
    memset(of, 0, sizeof *of * MEMBERS_MAX);
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        of[f.owners[partition]]++;
    }
}

static void check_owners(void)
{
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        assert_true(f.owners[partition] < f.spec.member_count);
        assert_true(is_subscribed(f.owners[partition], partition));
    }
}

/* No partition could go to one of its subscribers that has two less. */
static void check_balance(void)
{
    uint32_t load[MEMBERS_MAX];
    loads(load);
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        for (uint32_t at = 0; at < f.spec.member_count; at++) {
            assert_false(is_subscribed(at, partition) && load[f.owners[partition]] > load[at] + 1);
        }
    }
}

/* As few partitions move as can be: a member gives up only what is above the fair share. */
static void check_sticky(const uint32_t *before)
{
    uint32_t least = f.spec.partition_count / f.spec.member_count;
    uint32_t extra = f.spec.partition_count % f.spec.member_count;
    uint32_t kept_max = 0;
    uint32_t kept = 0;
    uint32_t had[MEMBERS_MAX] = {0};
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        if (before[partition] != MR_ASSIGNOR_NOBODY) {
            had[before[partition]]++;
            kept += before[partition] == f.owners[partition] ? 1 : 0;
        }
    }
    for (uint32_t at = 0; at < f.spec.member_count; at++) {
        uint32_t quota = least;
        if (had[at] > least && extra > 0) {
            quota++;
            extra--;
        }
        kept_max += had[at] < quota ? had[at] : quota;
    }
    assert_int_equal(kept, kept_max);
}

static void random_group(struct mr_prng *prng, bool is_mixed)
{
    uint32_t partitions[TOPICS_MAX];
    uint32_t member_count = 1 + (uint32_t)mr_prng_below(prng, MEMBERS_MAX);
    uint32_t topic_count = 1 + (uint32_t)mr_prng_below(prng, TOPICS_MAX);
    for (uint32_t topic = 0; topic < topic_count; topic++) {
        partitions[topic] = 1 + (uint32_t)mr_prng_below(prng, PARTITIONS_MAX / TOPICS_MAX);
    }
    begin(member_count, partitions, topic_count);
    if (!is_mixed) {
        subscribe_all();
        return;
    }
    for (uint32_t topic = 0; topic < topic_count; topic++) {
        uint32_t sure = (uint32_t)mr_prng_below(prng, member_count);
        for (uint32_t at = 0; at < member_count; at++) {
            if (at == sure || mr_prng_below(prng, 2) == 0) {
                subscribe(at, topic);
            }
        }
    }
}

/* Some partitions have owners from before, valid or not any more. */
static void random_past(struct mr_prng *prng, uint32_t *before)
{
    for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
        uint32_t at = (uint32_t)mr_prng_below(prng, f.spec.member_count + 1u);
        before[partition] = MR_ASSIGNOR_NOBODY;
        if (at < f.spec.member_count) {
            f.owned[at][f.members[at].owned_count++] = partition;
            before[partition] = at;
        }
    }
}

static void test_assignor_uniform_any_group_is_balanced_and_sticky(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        uint32_t before[PARTITIONS_MAX];
        struct mr_prng prng = {.state = seed};
        setup(NULL);
        random_group(&prng, false);
        random_past(&prng, before);
        assign(mr_assignor_uniform);
        check_owners();
        check_balance();
        check_sticky(before);
    }
}

static void test_assignor_uniform_any_mixed_group_is_owned_and_settles(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        uint32_t before[PARTITIONS_MAX];
        struct mr_prng prng = {.state = seed};
        setup(NULL);
        random_group(&prng, true);
        random_past(&prng, before);
        assign(mr_assignor_uniform);
        check_owners();
        check_balance();
        /* Without a change nothing moves. */
        uint32_t first[PARTITIONS_MAX];
        memcpy(first, f.owners, sizeof first);
        settle();
        assign(mr_assignor_uniform);
        assert_memory_equal(first, f.owners, sizeof *first * f.spec.partition_count);
    }
}

static void test_assignor_range_any_group_has_one_range_each(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct mr_prng prng = {.state = seed};
        setup(NULL);
        random_group(&prng, seed % 2 == 0);
        assign(mr_assignor_range);
        check_owners();
        for (uint32_t topic = 0; topic < f.spec.topic_count; topic++) {
            uint32_t longest = 0;
            uint32_t shortest = UINT32_MAX;
            for (uint32_t at = 0; at < f.spec.member_count; at++) {
                uint32_t runs = 0;
                uint32_t count = 0;
                for (uint32_t p = 0; p < f.topics[topic].partition_count; p++) {
                    uint32_t here = f.topics[topic].first + p;
                    bool is_its = f.owners[here] == at;
                    count += is_its ? 1 : 0;
                    runs += is_its && (p == 0 || f.owners[here - 1] != at) ? 1 : 0;
                }
                assert_true(runs <= 1);
                if (is_subscribed(at, f.topics[topic].first)) {
                    longest = count > longest ? count : longest;
                    shortest = count < shortest ? count : shortest;
                }
            }
            assert_true(longest - shortest <= 1);
        }
    }
}

/* ---- Kafka's own assignors ---- */

/* "1,2,3": appended to `to`. */
static uint32_t read_numbers(const char **at, uint32_t *to)
{
    uint32_t count = 0;
    while (**at >= '0' && **at <= '9') {
        uint32_t number = 0;
        while (**at >= '0' && **at <= '9') {
            number = number * 10 + (uint32_t)(*(*at)++ - '0');
        }
        to[count++] = number;
        *at += **at == ',' ? 1 : 0;
    }
    return count;
}

/* A member: topics ; partitions it had ; instance. */
static void read_member(uint32_t at, const char **text)
{
    struct mr_assignor_member *member = &f.members[at];
    member->topic_count = read_numbers(text, f.subscribed[at]);
    *text += 1;
    member->owned_count = read_numbers(text, f.owned[at]);
    *text += 1;
    size_t len = strcspn(*text, "/");
    if (len > 0) {
        member->instance_id = (struct mr_str){.data = *text, .len = (int32_t)len};
    }
    *text += len;
    *text += **text == '/' ? 1 : 0;
}

/* Recorded from Apache Kafka 4.4's classes by tests/interop/codec/AssignorOracle.java. */
static void test_assignor_agrees_with_kafka(void **state)
{
    (void)state;
    struct mr_tsv tsv;
    uint32_t lines = 0;
    mr_tsv_open(&tsv, "tests/golden/group/assignors.tsv");
    while (mr_tsv_next(&tsv)) {
        uint32_t partitions[TOPICS_MAX];
        uint32_t want[PARTITIONS_MAX];
        mr_assignor *assignor = mr_assignor_find(mr_str(tsv.fields[0]));
        if (assignor == NULL) {
            continue; /* a hash */
        }
        const char *at = tsv.fields[1];
        uint32_t topics = read_numbers(&at, partitions);
        uint32_t members = 1;
        for (const char *c = tsv.fields[2]; *c != 0; c++) {
            members += *c == '/' ? 1 : 0;
        }
        setup(NULL);
        begin(members, partitions, topics);
        at = tsv.fields[2];
        for (uint32_t index = 0; index < members; index++) {
            read_member(index, &at);
        }
        assign(assignor);
        at = tsv.fields[3];
        assert_int_equal(read_numbers(&at, want), f.spec.partition_count);
        for (uint32_t partition = 0; partition < f.spec.partition_count; partition++) {
            if (want[partition] != f.owners[partition]) {
                fail_msg("%s of %s among %s: partition %u", tsv.fields[0], tsv.fields[1],
                         tsv.fields[2], partition);
            }
        }
        lines++;
    }
    assert_int_equal(lines, 450);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_assignor_range_cuts_each_topic_alike, setup),
        cmocka_unit_test_setup(test_assignor_range_static_members_come_first, setup),
        cmocka_unit_test_setup(test_assignor_range_counts_only_subscribers, setup),
        cmocka_unit_test_setup(test_assignor_uniform_deals_out_evenly, setup),
        cmocka_unit_test_setup(test_assignor_uniform_newcomer_takes_only_its_share, setup),
        cmocka_unit_test_setup(test_assignor_uniform_extra_stays_where_it_is, setup),
        cmocka_unit_test_setup(test_assignor_uniform_mixed_prefers_the_less_loaded, setup),
        cmocka_unit_test_setup(test_assignor_uniform_any_group_is_balanced_and_sticky, setup),
        cmocka_unit_test_setup(test_assignor_uniform_any_mixed_group_is_owned_and_settles, setup),
        cmocka_unit_test_setup(test_assignor_range_any_group_has_one_range_each, setup),
        cmocka_unit_test_setup(test_assignor_agrees_with_kafka, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
