/*
 * Offsets of transactions among others: the latest record wins, whenever its marker comes; what a deleted topic had
 * pending goes.
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

static void record_of(const char *topic, int64_t offset, struct mr_blob *key, struct mr_blob *value)
{
    struct mr_offset_commit_key key_msg = {.group = MR_STR("g"), .topic = mr_str(topic), .partition = 1};
    struct mr_offset_commit_value value_msg;
    struct mr_coord_out out;
    mr_coord_out_init(&out, &rig->forever, rig->now);
    MR_DEFAULTS(offset_commit_value, &value_msg);
    value_msg.offset = offset;
    assert_true(mr_coord_out_record(&out, 0, &mr_msg_offset_commit_key, &key_msg,
                                    offset < 0 ? NULL : &mr_msg_offset_commit_value, 3, &value_msg));
    *key = out.records->key;
    *value = out.records->value;
}

/* A commit of partition 1 of "t"; -1: a tombstone. */
static void commit(int64_t offset)
{
    struct mr_blob key;
    struct mr_blob value;
    record_of("t", offset, &key, &value);
    mr_offsets_pending_overtake(&rig->shard, key, value.len < 0);
    assert_int_equal(mr_group_replay(&rig->shard, key, value), MR_OK);
}

static void pend(int64_t producer, const char *topic, int64_t offset)
{
    struct mr_blob key;
    struct mr_blob value;
    record_of(topic, offset, &key, &value);
    assert_int_equal(mr_offsets_pending_add(&rig->shard, producer, 0, key, value), MR_OK);
}

static void mark(int64_t producer, bool is_commit)
{
    assert_int_equal(mr_offsets_pending_end(&rig->shard, producer, UINT64_MAX, is_commit), MR_OK);
}

static void test_offsets_marker_commits_what_came_before_it(void **state)
{
    (void)state;
    commit(10);
    pend(1, "t", 20);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 10);
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 20);
    pend(1, "t", 30);
    mark(1, false);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 20);
}

static void test_offsets_plain_commit_overtakes_a_pending_one(void **state)
{
    (void)state;
    pend(1, "t", 20);
    commit(10);
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 10);
    pend(1, "t", 40); /* behind it again */
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 40);
}

static void test_offsets_latest_of_two_transactions_wins_whatever_the_markers_order(void **state)
{
    (void)state;
    pend(1, "t", 20);
    pend(2, "t", 30);
    mark(2, true);
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 30);
    pend(1, "t", 40);
    pend(2, "t", 50);
    mark(2, false); /* overtakes nothing */
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 40);
    pend(1, "t", 60);
    pend(2, "t", 70);
    mark(1, true);
    mark(2, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), 70);
}

static void test_offsets_tombstone_takes_pending_ones_away(void **state)
{
    (void)state;
    commit(10);
    pend(1, "t", 20);
    commit(-1);
    assert_false(mr_offsets_is_pending(&rig->shard, MR_STR("g"), MR_STR("t"), 1));
    mark(1, true);
    assert_int_equal(mr_group_rig_fetched(rig, 1), -1);
}

static void test_offsets_pending_of_a_deleted_topic_are_purged(void **state)
{
    (void)state;
    struct mr_coord_out out;
    pend(1, "t", 20);
    pend(1, "gone", 20);
    mr_arena_reset(&rig->scratch);
    mr_coord_out_init(&out, &rig->scratch, rig->now);
    assert_true(mr_offsets_pending_purge(&rig->shard, &out));
    assert_int_equal(out.record_count, 1);
    assert_true(out.records->value.len < 0);
    mr_offsets_pending_overtake(&rig->shard, out.records->key, true);
    assert_false(mr_offsets_is_pending(&rig->shard, MR_STR("g"), MR_STR("gone"), 1));
    assert_true(mr_offsets_is_pending(&rig->shard, MR_STR("g"), MR_STR("t"), 1));
}

/* As Kafka: who deletes a group, or an offset of it, means what a transaction has not decided too. */
static void test_offsets_pending_go_with_their_group(void **state)
{
    (void)state;
    struct mr_coord_out out;
    commit(10);
    pend(1, "t", 20);
    mr_arena_reset(&rig->scratch);
    mr_coord_out_init(&out, &rig->scratch, rig->now);
    assert_int_equal(mr_group_delete(&rig->shard, MR_STR("g"), &out), MR_KAFKA_NONE);
    for (struct mr_coord_record *record = out.records; record != NULL; record = record->next) {
        mr_offsets_pending_overtake(&rig->shard, record->key, true);
        assert_int_equal(mr_group_replay(&rig->shard, record->key, record->value), MR_OK);
    }
    mark(1, true);
    assert_null(mr_group_find(&rig->shard, MR_STR("g")));
}

/* Found by partition and by group, not one after the other: as many as a transaction may well have take no time. */
static void test_offsets_many_pending_ones_cost_little_each(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct mr_offset_commit_key key = {.group = MR_STR("g"), .topic = MR_STR("t")};
    struct mr_offset_commit_value value;
    MR_DEFAULTS(offset_commit_value, &value);
    for (int round = 0; round < 2; round++) { /* in the second one each is overtaken */
        for (key.partition = 0; key.partition < COUNT; key.partition++) {
            struct mr_coord_out out;
            mr_arena_reset(&rig->scratch);
            mr_coord_out_init(&out, &rig->scratch, rig->now);
            value.offset = key.partition + round;
            assert_true(mr_coord_out_record(&out, 0, &mr_msg_offset_commit_key, &key,
                                            &mr_msg_offset_commit_value, 3, &value));
            if (round == 1) {
                assert_true(mr_offsets_is_pending(&rig->shard, key.group, key.topic, key.partition));
                mr_offsets_pending_overtake(&rig->shard, out.records->key, false);
                continue;
            }
            assert_int_equal(mr_offsets_pending_add(&rig->shard, 1, 0, out.records->key, out.records->value),
                             MR_OK);
        }
    }
    assert_true(mr_offsets_is_pending(&rig->shard, key.group, MR_STR_NULL, 0));
    mark(1, true);
    assert_false(mr_offsets_is_pending(&rig->shard, key.group, MR_STR_NULL, 0));
    assert_int_equal(mr_group_rig_fetched(rig, 1), -1);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup(name_, setup)
    const struct CMUnitTest tests[] = {
        TEST(test_offsets_marker_commits_what_came_before_it),
        TEST(test_offsets_plain_commit_overtakes_a_pending_one),
        TEST(test_offsets_latest_of_two_transactions_wins_whatever_the_markers_order),
        TEST(test_offsets_tombstone_takes_pending_ones_away),
        TEST(test_offsets_pending_of_a_deleted_topic_are_purged),
        TEST(test_offsets_pending_go_with_their_group),
        TEST(test_offsets_many_pending_ones_cost_little_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
