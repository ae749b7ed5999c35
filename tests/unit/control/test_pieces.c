/*
 * Requests in pieces: the answer has the bytes of one that is served as a whole, whatever is asked; and however much a request
 * names, no turn does more than its work.
 */
#include "control_fixture.h"
#include "coord/coord_runtime.h"
#include "random_msg.h"

#define NAMES 20000

/* What may be asked at random, of two brokers, and gets the same answer: it looks at nothing else in the request. */
static const int16_t keys[] = {
    MR_API_OFFSET_COMMIT,     MR_API_OFFSET_FETCH,           MR_API_OFFSET_DELETE,         MR_API_TXN_OFFSET_COMMIT,
    MR_API_LEAVE_GROUP,       MR_API_FIND_COORDINATOR,       MR_API_DESCRIBE_GROUPS,       MR_API_CONSUMER_GROUP_DESCRIBE,
    MR_API_DESCRIBE_PRODUCERS, MR_API_DESCRIBE_TRANSACTIONS, MR_API_ADD_PARTITIONS_TO_TXN,
};

static void make_coordinators(struct fixture *f)
{
    for (int8_t type = 0; type < 2; type++) {
        struct mr_str                       key = MR_STR("g");
        struct mr_find_coordinator_request  request;
        struct mr_find_coordinator_response response;
        MR_DEFAULTS(find_coordinator_request, &request);
        request.key_type = type;
        request.coordinator_keys = &key;
        request.coordinator_keys_count = 1;
        mr_rig_call(f->rig, MR_API_FIND_COORDINATOR, 6, &request, &f->arena, &response);
        mr_rig_run(f->rig);
    }
    assert_int_equal(create(f, "t", 2, 1).error_code, MR_KAFKA_NONE);
    mr_rig_forget(f->rig);
}

static struct fixture *make(uint32_t things_max)
{
    struct fixture *f = fixture_make();
    restart(f);
    f->rig->control->things_max = things_max;
    f->rig->config.offsets_topic_num_partitions = 1; /* so that a shard has many */
    make_coordinators(f);
    return f;
}

static void drop(struct fixture *f)
{
    void *state = f;
    (void)teardown(&state);
}

static const struct mr_rig_reply *ask(struct fixture *f, int16_t key, int16_t version, const void *message)
{
    int32_t number = mr_rig_send(f->rig, key, version, message);
    mr_rig_run(f->rig);
    const struct mr_rig_reply *reply = mr_rig_reply(f->rig, number);
    assert_non_null(reply);
    return reply;
}

static uint64_t at_random(struct fixture *whole, struct fixture *cut, int16_t key, int16_t version, uint64_t seed)
{
    const struct mr_msg *msg = mr_api_request_desc(key);
    struct mr_prng       prng = {.state = seed};
    mr_arena_reset(&whole->arena);
    void *message = mr_arena_get(&whole->arena, msg->root->size, 16);
    mr_random_msg(&prng, msg, version, &whole->arena, message);
    const struct mr_rig_reply *a = ask(whole, key, version, message);
    const struct mr_rig_reply *b = ask(cut, key, version, message);
    assert_int_equal(a->is_close, b->is_close);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->bytes, b->bytes, a->len);
    uint64_t bytes = a->len;
    mr_rig_forget(whole->rig);
    mr_rig_forget(cut->rig);
    return bytes;
}

static void test_pieces_answer_the_same_bytes(void **state)
{
    (void)state;
    struct fixture *whole = make(UINT32_MAX);
    struct fixture *cut = make(2);
    for (size_t index = 0; index < sizeof keys / sizeof keys[0]; index++) {
        const struct mr_msg *msg = mr_api_request_desc(keys[index]);
        uint64_t             bytes = 0;
        for (int16_t version = msg->version_min; version <= msg->version_max; version++) {
            for (uint64_t seed = 1; seed <= 40; seed++) {
                bytes += at_random(whole, cut, keys[index], version, seed);
            }
        }
        assert_true(bytes >= 400);
    }
    drop(whole);
    drop(cut);
}

/* ---- many names ---- */

static struct mr_str *names_of(struct fixture *f)
{
    struct mr_str *names = MR_ARENA_GET(&f->arena, struct mr_str, NAMES);
    for (uint32_t index = 0; index < NAMES; index++) {
        char *text = MR_ARENA_GET(&f->arena, char, 12);
        mr_fmt(text, 12, "n%05u", index);
        names[index] = mr_str(text);
    }
    return names;
}

static void many_groups_are_described(struct fixture *f, struct mr_str *names)
{
    struct mr_describe_groups_request  request = {.groups = names, .groups_count = NAMES};
    struct mr_describe_groups_response response;
    mr_rig_call(f->rig, MR_API_DESCRIBE_GROUPS, 5, &request, &f->arena, &response);
    assert_int_equal(response.groups_count, NAMES);
    for (uint32_t index = 0; index < NAMES; index++) {
        assert_true(mr_str_equal(response.groups[index].group_id, names[index]));
    }
}

static void many_groups_are_deleted(struct fixture *f, struct mr_str *names)
{
    struct mr_delete_groups_request  request = {.groups_names = names, .groups_names_count = NAMES};
    struct mr_delete_groups_response response;
    mr_rig_call(f->rig, MR_API_DELETE_GROUPS, 2, &request, &f->arena, &response);
    assert_int_equal(response.results_count, NAMES);
    for (uint32_t index = 0; index < NAMES; index++) {
        assert_true(mr_str_equal(response.results[index].group_id, names[index]));
        assert_int_equal(response.results[index].error_code, MR_KAFKA_GROUP_ID_NOT_FOUND);
    }
}

static void many_topics_are_deleted(struct fixture *f, struct mr_str *names)
{
    struct mr_delete_topics_request  request;
    struct mr_delete_topics_response response;
    MR_DEFAULTS(delete_topics_request, &request);
    request.topic_names = names;
    request.topic_names_count = NAMES;
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 5, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, NAMES);
    assert_int_equal(response.responses[NAMES - 1].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
}

static void many_topics_are_made(struct fixture *f, struct mr_str *names)
{
    enum { TOPICS = 1000 };
    struct mr_create_topics_request                  request;
    struct mr_create_topics_response                 response;
    struct mr_create_topics_request_creatable_topic *topics =
        MR_ARENA_GET(&f->arena, struct mr_create_topics_request_creatable_topic, TOPICS);
    MR_DEFAULTS(create_topics_request, &request);
    for (uint32_t index = 0; index < TOPICS; index++) {
        MR_DEFAULTS(create_topics_request_creatable_topic, &topics[index]);
        topics[index].name = names[index];
        topics[index].num_partitions = 1;
        topics[index].replication_factor = 1;
    }
    request.topics = topics;
    request.topics_count = TOPICS;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, TOPICS);
    for (uint32_t index = 0; index < TOPICS; index++) {
        assert_true(mr_str_equal(response.topics[index].name, names[index]));
        assert_int_equal(response.topics[index].error_code, MR_KAFKA_NONE);
    }
}

static void many_configs_are_described(struct fixture *f, struct mr_str *names)
{
    struct mr_describe_configs_request                            request;
    struct mr_describe_configs_response                           response;
    struct mr_describe_configs_request_describe_configs_resource *resources =
        MR_ARENA_GET(&f->arena, struct mr_describe_configs_request_describe_configs_resource, NAMES);
    MR_DEFAULTS(describe_configs_request, &request);
    for (uint32_t index = 0; index < NAMES; index++) {
        MR_DEFAULTS(describe_configs_request_describe_configs_resource, &resources[index]);
        resources[index].resource_type = 2;
        resources[index].resource_name = names[NAMES - 1 - index];
    }
    request.resources = resources;
    request.resources_count = NAMES;
    mr_rig_call(f->rig, MR_API_DESCRIBE_CONFIGS, 4, &request, &f->arena, &response);
    assert_int_equal(response.results_count, NAMES);
    assert_true(mr_str_equal(response.results[NAMES / 2].resource_name, names[NAMES - 1 - NAMES / 2]));
}

/* Of three topics: the things of one are in many windows, one has none. */
static void many_offsets_are_committed_and_fetched(struct fixture *f, int32_t count)
{
    struct mr_offset_commit_request_partition *partitions =
        MR_ARENA_GET(&f->arena, struct mr_offset_commit_request_partition, count);
    int32_t *indexes = MR_ARENA_GET(&f->arena, int32_t, count);
    for (int32_t index = 0; index < count; index++) {
        MR_DEFAULTS(offset_commit_request_partition, &partitions[index]);
        partitions[index].partition_index = index;
        partitions[index].committed_offset = 7 + index;
        indexes[index] = index;
    }
    struct mr_offset_commit_request_topic in[] = {
        {.name = MR_STR("t"), .partitions = partitions, .partitions_count = count},
        {.name = MR_STR("none")},
        {.name = MR_STR("t2"), .partitions = partitions, .partitions_count = 3},
    };
    struct mr_offset_commit_request  commit;
    struct mr_offset_commit_response committed;
    MR_DEFAULTS(offset_commit_request, &commit);
    commit.group_id = MR_STR("g");
    commit.topics = in;
    commit.topics_count = 3;
    mr_rig_call(f->rig, MR_API_OFFSET_COMMIT, 8, &commit, &f->arena, &committed);
    assert_int_equal(committed.topics_count, 2); /* also as a whole: who names no partition is not answered */
    assert_int_equal(committed.topics[0].partitions_count, count);
    assert_int_equal(committed.topics[1].partitions_count, 3);
    assert_int_equal(committed.topics[0].partitions[1].error_code, MR_KAFKA_NONE);
    assert_int_equal(committed.topics[0].partitions[count - 1].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);

    struct mr_offset_fetch_request_topic wanted = {
        .name = MR_STR("t"), .partition_indexes = indexes, .partition_indexes_count = count};
    struct mr_offset_fetch_request  fetch;
    struct mr_offset_fetch_response fetched;
    MR_DEFAULTS(offset_fetch_request, &fetch);
    fetch.group_id = MR_STR("g");
    fetch.topics = &wanted;
    fetch.topics_count = 1;
    mr_rig_call(f->rig, MR_API_OFFSET_FETCH, 7, &fetch, &f->arena, &fetched);
    assert_int_equal(fetched.topics_count, 1);
    assert_int_equal(fetched.topics[0].partitions_count, count);
    assert_int_equal(fetched.topics[0].partitions[1].committed_offset, 8);
    assert_int_equal(fetched.topics[0].partitions[count - 1].committed_offset, -1);
    assert_int_equal(fetched.topics[0].partitions[count - 1].partition_index, count - 1);
}

static int by_name(const void *a, const void *b)
{
    const struct mr_list_groups_response_listed_group *left = a;
    const struct mr_list_groups_response_listed_group *right = b;
    return memcmp(left->group_id.data, right->group_id.data, 6);
}

/* All that there are, by a request that names none. */
static void many_groups_are_listed(struct fixture *f, struct mr_str *names, uint32_t count)
{
    struct mr_offset_commit_request_partition partition;
    struct mr_offset_commit_request_topic     topic = {
        .name = MR_STR("t"), .partitions = &partition, .partitions_count = 1};
    struct mr_offset_commit_request commit;
    struct mr_list_groups_request   request;
    struct mr_list_groups_response  response;
    MR_DEFAULTS(offset_commit_request_partition, &partition);
    MR_DEFAULTS(offset_commit_request, &commit);
    commit.topics = &topic;
    commit.topics_count = 1;
    for (uint32_t index = 0; index < count; index++) {
        struct mr_offset_commit_response committed;
        commit.group_id = names[index];
        mr_rig_call(f->rig, MR_API_OFFSET_COMMIT, 8, &commit, &f->arena, &committed);
        mr_rig_forget(f->rig);
    }
    MR_DEFAULTS(list_groups_request, &request);
    mr_rig_call(f->rig, MR_API_LIST_GROUPS, 5, &request, &f->arena, &response);
    assert_int_equal(response.error_code, MR_KAFKA_NONE);
    assert_int_equal(response.groups_count, count);
    qsort(response.groups, count, sizeof response.groups[0], by_name);
    for (uint32_t index = 0; index < count; index++) {
        assert_true(mr_str_equal(response.groups[index].group_id, names[index]));
    }
}

/* Their offsets are too old: they go, the groups with them. */
static void old_groups_expire(struct fixture *f)
{
    struct mr_list_groups_request  request;
    struct mr_list_groups_response response;
    f->rig->now.unix_ms += (int64_t)8 * 24 * 3600 * 1000;
    f->rig->now.mono_ns += 700 * MR_NS_PER_S; /* when it is looked for them */
    mr_rig_run(f->rig);
    MR_DEFAULTS(list_groups_request, &request);
    mr_rig_call(f->rig, MR_API_LIST_GROUPS, 5, &request, &f->arena, &response);
    assert_int_equal(response.groups_count, 0);
}

static void test_pieces_bound_the_work_of_a_turn(void **state)
{
    (void)state;
    struct fixture *f = make(512);
    struct mr_str  *names = names_of(f);
    many_groups_are_described(f, names);
    many_groups_are_deleted(f, names);
    many_configs_are_described(f, names);
    many_topics_are_deleted(f, names);
    many_topics_are_made(f, names);
    many_groups_are_listed(f, names, 8000);
    old_groups_expire(f);
    many_offsets_are_committed_and_fetched(f, NAMES);
    assert_true(f->rig->work_turn_max > MR_CONTROL_WORK / 2);
    assert_true(f->rig->work_turn_max < 2 * MR_CONTROL_WORK);
    assert_int_equal(f->rig->control->requests_open, 0);
    drop(f);
}

/* An append that fails in the middle of a long request: its connection is closed, and the broker goes on. */
static void test_pieces_of_a_broken_shard_are_closed(void **state)
{
    (void)state;
    struct fixture *f = make(8);
    int32_t         before = 0;
    f->store->append_err = MR_ERR_NOT_LEADER;
    struct mr_offset_commit_request_partition partitions[100];
    for (int32_t index = 0; index < 100; index++) {
        MR_DEFAULTS(offset_commit_request_partition, &partitions[index]);
        partitions[index].partition_index = index % 2;
    }
    struct mr_offset_commit_request_topic topic = {
        .name = MR_STR("t"), .partitions = partitions, .partitions_count = 100};
    struct mr_offset_commit_request commit;
    MR_DEFAULTS(offset_commit_request, &commit);
    commit.group_id = MR_STR("g");
    commit.topics = &topic;
    commit.topics_count = 1;
    before = mr_rig_send(f->rig, MR_API_OFFSET_COMMIT, 8, &commit);
    mr_rig_run(f->rig);
    const struct mr_rig_reply *reply = mr_rig_reply(f->rig, before);
    assert_non_null(reply);
    assert_true(reply->is_close);
    assert_int_equal(f->rig->control->requests_open, 0);
    f->store->append_err = MR_OK;
    drop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_answer_the_same_bytes),
        cmocka_unit_test(test_pieces_bound_the_work_of_a_turn),
        cmocka_unit_test(test_pieces_of_a_broken_shard_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
