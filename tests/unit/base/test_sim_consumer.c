/* sim_consumer: hand-made histories of a KIP-848 group; the bad ones are found, the good ones pass. */
#include "test.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_consumer.h"

static struct mr_sim_consumers group;
static struct mr_arena         arena;

static int setup(void **state)
{
    (void)state;
    size_t bytes = 64u << 20;
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    mr_sim_consumers_init(&group, &arena, 1);
    return 0;
}

static struct mr_now at_ms(uint64_t ms)
{
    return (struct mr_now){.mono_ns = ms * MR_NS_PER_MS, .unix_ms = (int64_t)ms};
}

static void answered(uint32_t member, int16_t key, uint64_t user, uint64_t sent_ms, uint64_t now_ms, const void *response)
{
    struct mr_sim_actor      *actor = &group.members[member].actor;
    const struct mr_sim_call call = {.key = key, .user = user, .sent_ns = sent_ms * MR_NS_PER_MS};
    actor->ops->answer(actor, &call, response, &arena, at_ms(now_ms));
}

/* A heartbeat of `sent_ms` is answered at `now_ms` with the partitions of the mask. */
static void beat(uint32_t member, uint64_t sent_ms, uint64_t now_ms, uint32_t mask)
{
    struct mr_consumer_group_heartbeat_response                  response;
    struct mr_consumer_group_heartbeat_response_assignment       assignment;
    struct mr_consumer_group_heartbeat_response_topic_partitions topic;
    int32_t                                                      partitions[MR_CHECK_GROUP_PARTITIONS];
    MR_DEFAULTS(consumer_group_heartbeat_response, &response);
    MR_DEFAULTS(consumer_group_heartbeat_response_assignment, &assignment);
    MR_DEFAULTS(consumer_group_heartbeat_response_topic_partitions, &topic);
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        if ((mask >> partition & 1u) != 0) {
            partitions[topic.partitions_count++] = (int32_t)partition;
        }
    }
    topic.partitions = partitions;
    assignment.topic_partitions = &topic;
    assignment.topic_partitions_count = mask == 0 ? 0 : 1;
    response.member_epoch = 1;
    response.assignment = &assignment;
    answered(member, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, sent_ms, now_ms, &response);
}

static void refused(uint32_t member, uint64_t now_ms, int16_t error)
{
    struct mr_consumer_group_heartbeat_response response;
    MR_DEFAULTS(consumer_group_heartbeat_response, &response);
    response.error_code = error;
    answered(member, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, now_ms, now_ms, &response);
}

static void assert_found(uint32_t member, const char *what)
{
    if (strstr(group.members[member].actor.why, what) == NULL) {
        fail_msg("found \"%s\" instead of \"%s\"", group.members[member].actor.why, what);
    }
}

static void test_partitions_that_are_given_back_first_may_be_given_on(void **state)
{
    (void)state;
    beat(0, 0, 1, 0xf);
    beat(0, 10, 11, 0x3); /* asked to give two back, */
    beat(0, 20, 21, 0x3); /* and it did */
    beat(1, 30, 31, 0xc);
    refused(0, 40, MR_KAFKA_FENCED_MEMBER_EPOCH);
    beat(1, 50, 51, 0xf);
    assert_found(0, "");
    assert_found(1, "");
}

static void test_two_owners_are_found(void **state)
{
    (void)state;
    beat(0, 0, 1, 0x3);
    beat(1, 10, 11, 0x6);
    assert_found(1, "two members have a partition (1)");
}

static void test_silent_member_owns_until_its_session_ends(void **state)
{
    (void)state;
    beat(0, 0, 1, 0x1);
    beat(1, MR_SIM_SESSION_MS, MR_SIM_SESSION_MS + 1, 0x1);
    assert_found(1, "");
    beat(2, 2 * MR_SIM_SESSION_MS - 50, 2 * MR_SIM_SESSION_MS - 49, 0x1);
    assert_found(2, "two members have a partition (0)");
}

static void test_member_that_does_not_give_back_loses_everything_in_time(void **state)
{
    (void)state;
    beat(0, 0, 1, 0x3);
    beat(0, 100, 101, 0x1); /* what it reports of this is lost, over and over */
    beat(1, MR_SIM_SESSION_MS, MR_SIM_SESSION_MS + 1, 0x3);
    assert_found(1, "");
}

static void test_answer_behind_the_session_gives_nothing(void **state)
{
    (void)state;
    beat(0, 0, MR_SIM_SESSION_MS + 1, 0x1);
    assert_int_equal(group.members[0].owned, 0);
    beat(1, MR_SIM_SESSION_MS, MR_SIM_SESSION_MS + 2, 0x1);
    assert_found(1, "");
}

static void test_heartbeat_without_an_assignment_is_found(void **state)
{
    (void)state;
    struct mr_consumer_group_heartbeat_response response;
    MR_DEFAULTS(consumer_group_heartbeat_response, &response);
    response.member_epoch = 1;
    answered(0, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, 0, 1, &response);
    assert_found(0, "is not told everything");
}

static void answer_commit(uint32_t member, uint32_t commit, int16_t error)
{
    struct mr_offset_commit_response           response;
    struct mr_offset_commit_response_topic     topic;
    struct mr_offset_commit_response_partition partition;
    MR_DEFAULTS(offset_commit_response, &response);
    MR_DEFAULTS(offset_commit_response_topic, &topic);
    MR_DEFAULTS(offset_commit_response_partition, &partition);
    partition.error_code = error;
    topic.partitions = &partition;
    topic.partitions_count = 1;
    response.topics = &topic;
    response.topics_count = 1;
    answered(member, MR_API_OFFSET_COMMIT, commit, 0, 1, &response);
}

static void read_commit(uint32_t member, int64_t offset)
{
    struct mr_offset_fetch_response            response;
    struct mr_offset_fetch_response_group      of;
    struct mr_offset_fetch_response_topics     topic;
    struct mr_offset_fetch_response_partitions partition;
    MR_DEFAULTS(offset_fetch_response, &response);
    MR_DEFAULTS(offset_fetch_response_group, &of);
    MR_DEFAULTS(offset_fetch_response_topics, &topic);
    MR_DEFAULTS(offset_fetch_response_partitions, &partition);
    partition.committed_offset = offset;
    topic.partitions = &partition;
    topic.partitions_count = 1;
    of.topics = &topic;
    of.topics_count = 1;
    response.groups = &of;
    response.groups_count = 1;
    group.members[member].read_at = mr_check_group_read(&group.check);
    answered(member, MR_API_OFFSET_FETCH, 0, 0, 1, &response);
}

static void test_commits_are_a_register(void **state)
{
    (void)state;
    uint32_t first = mr_check_group_commit(&group.check, 1, 0);
    answer_commit(0, first, 0);
    read_commit(1, first);
    uint32_t stale = mr_check_group_commit(&group.check, 1, 0);
    answer_commit(0, stale, MR_KAFKA_STALE_MEMBER_EPOCH);
    read_commit(1, first);
    assert_found(0, "");
    assert_found(1, "");
    read_commit(1, stale);
    assert_found(1, "a commit that was refused is visible");
}

static void test_lost_commit_is_found(void **state)
{
    (void)state;
    answer_commit(0, mr_check_group_commit(&group.check, 1, 0), 0);
    read_commit(1, -1);
    assert_found(1, "an acknowledged commit is lost");
}

static void test_commit_of_a_zombie_is_found(void **state)
{
    (void)state;
    answer_commit(0, mr_check_group_commit(&group.check, 0, 0), 0); /* 0: another member has the partition */
    assert_found(0, "a commit of an old generation was accepted");
}

static void test_commit_that_fails_for_good_is_found(void **state)
{
    (void)state;
    answer_commit(0, mr_check_group_commit(&group.check, 1, 0), MR_KAFKA_INVALID_GROUP_ID);
    assert_found(0, "OffsetCommit failed for good");
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup(name_, setup)
    const struct CMUnitTest tests[] = {
        TEST(test_partitions_that_are_given_back_first_may_be_given_on),
        TEST(test_two_owners_are_found),
        TEST(test_silent_member_owns_until_its_session_ends),
        TEST(test_member_that_does_not_give_back_loses_everything_in_time),
        TEST(test_answer_behind_the_session_gives_nothing),
        TEST(test_heartbeat_without_an_assignment_is_found),
        TEST(test_commits_are_a_register),
        TEST(test_lost_commit_is_found),
        TEST(test_commit_of_a_zombie_is_found),
        TEST(test_commit_that_fails_for_good_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
