/*
 * Produce on a data core; the test plays storage and decides when an append is durable.
 */
#include "data_rig.h"
#include "millrace/base/bytes.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_transport.h"
#include "test.h"
#include "wire_client.h"

static struct mr_data_rig *w;

static int setup(void **state)
{
    (void)state;
    w = mr_data_rig_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_data_rig_destroy(w);
    return 0;
}

static void test_produce_errors_are_told_per_partition(void **state)
{
    (void)state;
    struct mr_produce_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce_to(w, peer, 1, -1, MR_STR("nowhere"), 0, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 3);
    mr_data_rig_produce(w, peer, 2, MR_DATA_RIG_LOGS);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 3);
    mr_data_rig_produce_to(w, peer, 3, 5, MR_STR("t"), 0, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 21);
    w->topic.config.min_insync_replicas = 2;
    mr_data_rig_produce(w, peer, 4, 0);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 19);
    mr_data_rig_produce_to(w, peer, 5, 1, MR_STR("t"), 0, 1,
                           1); /* acks=1 does not ask for replicas */
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 0);
    w->topic.config.min_insync_replicas = 1;
    w->topic.is_internal = true;
    mr_data_rig_produce(w, peer, 6, 0);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 17);
    w->topic.is_internal = false;
    w->partitions[0].leader = 2;
    mr_data_rig_produce(w, peer, 7, 0);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 6);
    assert_int_equal(w->appends, 1);
}

static void test_produce_without_acks_is_not_answered_and_closes_on_error(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce_to(w, peer, 1, 0, MR_STR("t"), 0, 1, 1);
    mr_data_rig_produce(w, peer, 2, 0);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 2);
    assert_int_equal(out.responses[0].partition_responses[0].base_offset, 1);
    mr_data_rig_produce_to(w, peer, 3, 0, MR_STR("nowhere"), 0, 1, 1);
    assert_false(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_true(mr_sim_peer_is_closed(peer));
}

static void test_topics_by_id_in_the_versions_that_ask_for_it(void **state)
{
    (void)state;
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topics[2];
    struct mr_fetch_request_fetch_partition partition;
    struct mr_fetch_response got;
    struct mr_produce_request pin;
    struct mr_produce_request_topic_produce_data one;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    struct mr_produce_request_partition_produce_data data = {
        .index = 0, .records = mr_wire_batch(1, 5, w->now.unix_ms)};
    MR_DEFAULTS(produce_request, &pin);
    MR_DEFAULTS(produce_request_topic_produce_data, &one);
    one.topic_id = w->topic.id;
    one.partition_data = &data;
    one.partition_data_count = 1;
    pin.acks = -1;
    pin.topic_data = &one;
    pin.topic_data_count = 1;
    mr_data_rig_ask(peer, 0, 13, 1, &pin);
    assert_true(mr_data_rig_answer(w, peer, 0, 13, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
    assert_true(mr_uuid_equal(&made.responses[0].topic_id, &w->topic.id));
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_partition, &partition);
    partition.partition_max_bytes = 1000;
    for (int i = 0; i < 2; i++) {
        MR_DEFAULTS(fetch_request_fetch_topic, &topics[i]);
        topics[i].partitions = &partition;
        topics[i].partitions_count = 1;
    }
    topics[0].topic_id = w->topic.id;
    topics[1].topic_id = (struct mr_uuid){{9}};
    in.topics = topics;
    in.topics_count = 2;
    in.session_epoch = -1;
    mr_data_rig_ask(peer, 1, 18, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 1, 18, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 0);
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_int_equal(got.responses[1].partitions[0].error_code, MR_KAFKA_UNKNOWN_TOPIC_ID);
    w->partitions[0].leader = 2;
    mr_data_rig_ask(peer, 0, 13, 3, &pin);
    assert_true(mr_data_rig_answer(w, peer, 0, 13, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 6);
    assert_int_equal(made.responses[0].partition_responses[0].current_leader.leader_id, 2);
}

static void test_produces_overlap_and_are_answered_in_order(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    w->is_storage_held = true;
    for (int32_t i = 0; i < 5; i++) {
        mr_data_rig_produce(w, peer, i, 0);
    }
    mr_data_rig_fetch(peer, 5,
                      (struct mr_data_rig_fetch){.session_epoch = -1, .count = 1, .min_bytes = 1});
    mr_data_rig_run(w);
    assert_int_equal(w->held_count, 5); /* the fetch waits for their answers */
    for (uint32_t i = 0; i < 5; i++) {
        mr_data_rig_storage_release(w, (uint32_t)(4 - i)); /* answered in the wrong order */
    }
    for (int32_t i = 0; i < 5; i++) {
        assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
        assert_int_equal(correlation, i);
    }
    assert_int_equal(w->held_count, 1);
}

#define PARTS 8

/* One request with a batch of 64 KiB for each of 8 partitions. */
static void produce_to_all(struct mr_sim_peer *peer, int32_t correlation)
{
    struct mr_produce_request in;
    struct mr_produce_request_topic_produce_data topic;
    struct mr_produce_request_partition_produce_data parts[PARTS];
    MR_DEFAULTS(produce_request, &in);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    for (int32_t i = 0; i < PARTS; i++) {
        parts[i] = (struct mr_produce_request_partition_produce_data){
            .index = i, .records = mr_wire_batch(1, 65536, w->now.unix_ms)};
    }
    topic.name = MR_STR("t");
    topic.partition_data = parts;
    topic.partition_data_count = PARTS;
    in.acks = -1;
    in.topic_data = &topic;
    in.topic_data_count = 1;
    mr_data_rig_ask(peer, 0, 9, correlation, &in);
}

static void more_logs(struct mr_data_rig *rig)
{
    rig->log_count = PARTS;
}

static int setup_encode(void **state)
{
    (void)state;
    w = mr_data_rig_create_with(more_logs);
    w->topic.config.compression_type = 1;
    w->topic.config.compression_level = 9;
    return 0;
}

/* Turns at whose end a request waited for the next one. */
static uint32_t waits_until(uint32_t appends)
{
    uint32_t waits = 0;
    for (uint32_t turn = 0; w->appends < appends && turn < 1000; turn++) {
        uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
        bool is_work = mr_data_core_turn(w->core, w->now);
        if (!mr_list_is_empty(&w->core->encode.waiting)) {
            waits++;
            assert_true(is_work);
            assert_int_equal(mr_data_core_deadline_ns(w->core), 0);
        }
        (void)mr_port_flush(&w->data, woken);
        mr_data_rig_play_storage(w);
        (void)mr_port_flush(&w->storage, woken);
    }
    return waits;
}

/* What the topic wants takes more time than a turn has: the request goes on over several, others are served meanwhile,
 * and what came behind it on its connection stays behind it. */
static void test_batches_are_encoded_over_several_turns(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_api_versions_request ask;
    struct mr_api_versions_response versions;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    struct mr_sim_peer *other = mr_data_rig_join(w);
    mr_data_rig_run(w);
    size_t used = w->core->scratch.used_bytes;
    produce_to_all(peer, 1);
    mr_data_rig_produce(w, peer, 2, 0);
    MR_DEFAULTS(api_versions_request, &ask);
    ask.client_software_name = MR_STR("x");
    ask.client_software_version = MR_STR("1");
    mr_data_rig_ask(other, 18, 3, 3, &ask);
    assert_in_range(waits_until(1), PARTS - 1, PARTS); /* one batch is more than a turn's time */
    assert_true(mr_data_rig_answer(w, other, 18, 3, &correlation, &versions));
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 1);
    for (int i = 0; i < PARTS; i++) {
        struct mr_batch batch;
        assert_int_equal(out.responses[0].partition_responses[i].error_code, 0);
        assert_int_equal(out.responses[0].partition_responses[i].base_offset, 0);
        mr_batch_header_load(w->logs[i].bytes, &batch);
        assert_int_equal(batch.attributes, 1);
        assert_true(mr_batch_bytes(&batch) < 1000);
    }
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 2);
    assert_int_equal(out.responses[0].partition_responses[0].base_offset, 1);
    mr_data_rig_run(w);
    assert_int_equal(w->core->scratch.used_bytes, used);
}

static void test_connection_lost_while_batches_wait_leaves_nothing(void **state)
{
    (void)state;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    mr_data_rig_run(w);
    size_t used = w->core->scratch.used_bytes;
    produce_to_all(peer, 1);
    for (int turn = 0; turn < 1000 && mr_list_is_empty(&w->core->encode.waiting); turn++) {
        (void)mr_data_core_turn(w->core, w->now);
        (void)mr_port_flush(&w->data, woken);
    }
    assert_false(mr_list_is_empty(&w->core->encode.waiting));
    mr_sim_peer_reset(peer);
    mr_data_rig_run(w);
    assert_true(mr_list_is_empty(&w->core->encode.waiting));
    assert_int_equal(w->core->scratch.used_bytes, used);
    assert_int_equal(w->core->requests.used, 0);
}

/* Too large before it is looked at, and too large when it has become so. */
static void test_size_counts_before_and_after(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    w->topic.config.compression_type = 4;
    w->topic.config.max_message_bytes = 70;
    mr_data_rig_produce_to(w, peer, 1, -1, MR_STR("t"), 0, 1, 1000);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 10);
    w->topic.config.max_message_bytes = 70; /* one byte: zstd only makes it longer */
    mr_data_rig_produce_to(w, peer, 2, -1, MR_STR("t"), 0, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 10);
    assert_non_null(out.responses[0].partition_responses[0].error_message.data);
    w->topic.config.compression_type = 0;
    mr_data_rig_produce_to(w, peer, 3, -1, MR_STR("t"), 0, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_produce_errors_are_told_per_partition),
        TEST(test_produce_without_acks_is_not_answered_and_closes_on_error),
        TEST(test_topics_by_id_in_the_versions_that_ask_for_it),
        TEST(test_produces_overlap_and_are_answered_in_order),
#define ENCODE(name_) cmocka_unit_test_setup_teardown(name_, setup_encode, teardown)
        ENCODE(test_batches_are_encoded_over_several_turns),
        ENCODE(test_connection_lost_while_batches_wait_leaves_nothing),
        ENCODE(test_size_counts_before_and_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
