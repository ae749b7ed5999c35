/*
 * The smaller handlers of a data core, one request each.
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

static void test_versions_asked_lists_exactly_what_is_served(void **state)
{
    (void)state;
    struct mr_api_versions_request in;
    struct mr_api_versions_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(api_versions_request, &in);
    in.client_software_name = MR_STR("test");
    in.client_software_version = MR_STR("1.0");
    mr_data_rig_ask(peer, 18, 4, 5, &in);
    assert_true(mr_data_rig_answer(w, peer, 18, 4, &correlation, &out));
    assert_int_equal(correlation, 5);
    assert_int_equal(out.error_code, 0);
    int32_t served = 0;
    for (uint32_t i = 0; i < mr_api_count; i++) {
        served += mr_api_all[i].is_served;
    }
    assert_int_equal(out.api_keys_count, served);
    assert_int_equal(out.api_keys[0].api_key, 0);
    assert_int_equal(out.api_keys[0].min_version, 0);
    in.node_id = 9;
    mr_data_rig_ask(peer, 18, 5, 6, &in);
    assert_true(mr_data_rig_answer(w, peer, 18, 5, &correlation, &out));
    assert_int_equal(out.error_code, 129);
    /* a version of the future: version 0 and error 35 */
    uint8_t frame[] = {0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 1, 2};
    mr_sim_peer_send(peer, frame, sizeof frame);
    assert_true(mr_data_rig_answer(w, peer, 18, 0, &correlation, &out));
    assert_int_equal(correlation, 7);
    assert_int_equal(out.error_code, 35);
    assert_int_equal(out.api_keys_count, 1);
}

static void test_described_topics_come_in_pages(void **state)
{
    (void)state;
    struct mr_describe_topic_partitions_request in;
    struct mr_describe_topic_partitions_request_cursor cursor;
    struct mr_describe_topic_partitions_response out;
    struct mr_describe_cluster_request cluster;
    struct mr_describe_cluster_response told;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(describe_topic_partitions_request, &in);
    in.response_partition_limit = 3;
    mr_data_rig_ask(peer, 75, 0, 1, &in);
    assert_true(mr_data_rig_answer(w, peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics_count, 1);
    assert_int_equal(out.topics[0].partitions_count, 3);
    assert_non_null(out.next_cursor);
    assert_int_equal(out.next_cursor->partition_index, 3);
    MR_DEFAULTS(describe_topic_partitions_request_cursor, &cursor);
    cursor.topic_name = MR_STR("t");
    cursor.partition_index = 3;
    in.cursor = &cursor;
    mr_data_rig_ask(peer, 75, 0, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics[0].partitions_count, MR_DATA_RIG_LOGS - 3);
    assert_int_equal(out.topics[0].partitions[0].partition_index, 3);
    assert_null(out.next_cursor);
    MR_DEFAULTS(describe_cluster_request, &cluster);
    mr_data_rig_ask(peer, 60, 2, 3, &cluster);
    assert_true(mr_data_rig_answer(w, peer, 60, 2, &correlation, &told));
    assert_int_equal(told.brokers_count, 1);
    assert_int_equal(told.controller_id, 1);
    cluster.endpoint_type = 2;
    mr_data_rig_ask(peer, 60, 2, 4, &cluster);
    assert_true(mr_data_rig_answer(w, peer, 60, 2, &correlation, &told));
    assert_int_equal(told.error_code, MR_KAFKA_MISMATCHED_ENDPOINT_TYPE);
}

static void test_pages_of_described_topics_end_at_unknown_ones_too(void **state)
{
    (void)state;
    struct mr_describe_topic_partitions_request in;
    struct mr_describe_topic_partitions_request_topic_request topics[2];
    struct mr_describe_topic_partitions_request_cursor cursor = {.topic_name = MR_STR("s")};
    struct mr_describe_topic_partitions_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(describe_topic_partitions_request, &in);
    topics[0].name = MR_STR("unknown");
    topics[1].name = MR_STR("t");
    in.topics = topics;
    in.topics_count = 2;
    in.response_partition_limit = MR_DATA_RIG_LOGS;
    mr_data_rig_ask(peer, 75, 0, 1, &in);
    assert_true(mr_data_rig_answer(w, peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics_count, 1);
    assert_non_null(out.next_cursor);
    assert_true(mr_str_equal(out.next_cursor->topic_name, MR_STR("unknown")));
    in.response_partition_limit++;
    mr_data_rig_ask(peer, 75, 0, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics_count, 2);
    assert_int_not_equal(out.topics[1].topic_authorized_operations, INT32_MIN);
    /* a cursor that is none of the topics asked for */
    in.cursor = &cursor;
    mr_data_rig_ask(peer, 75, 0, 3, &in);
    assert_true(mr_data_rig_answer(w, peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics_count, 2);
    assert_int_equal(out.topics[0].error_code, MR_KAFKA_INVALID_REQUEST);
}

static void test_metadata_names_a_topic_once(void **state)
{
    (void)state;
    struct mr_metadata_request in;
    struct mr_metadata_request_topic topics[4];
    struct mr_metadata_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(metadata_request, &in);
    for (int index = 0; index < 4; index++) {
        MR_DEFAULTS(metadata_request_topic, &topics[index]);
        topics[index].name = index % 2 == 0 ? MR_STR("unknown") : MR_STR("t");
    }
    in.topics = topics;
    in.topics_count = 4;
    in.include_topic_authorized_operations = true;
    mr_data_rig_ask(peer, 3, 12, 1, &in);
    assert_true(mr_data_rig_answer(w, peer, 3, 12, &correlation, &out));
    assert_int_equal(out.topics_count, 2);
    assert_int_equal(out.topics[1].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(out.topics[0].topic_authorized_operations,
                     out.topics[1].topic_authorized_operations);
    assert_int_equal(w->forward_count, 1);
}

static void test_versions_tell_features_at_level_0_to_those_who_know(void **state)
{
    (void)state;
    struct mr_api_versions_request in;
    struct mr_api_versions_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(api_versions_request, &in);
    in.client_software_name = in.client_software_version = MR_STR("1");
    mr_data_rig_ask(peer, 18, 3, 1, &in);
    assert_true(mr_data_rig_answer(w, peer, 18, 3, &correlation, &out));
    assert_int_equal(out.supported_features_count, 3);
    assert_int_equal(out.supported_features[0].min_version, 1); /* group.version */
    assert_int_equal(out.supported_features[2].min_version, 1); /* transaction.version */
    mr_data_rig_ask(peer, 18, 4, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 18, 4, &correlation, &out));
    assert_int_equal(out.supported_features_count, 7);
    for (int32_t index = 0; index < 7; index++) {
        struct mr_str name = out.supported_features[index].name;
        bool is_metadata = mr_str_equal(name, MR_STR("metadata.version"));
        int16_t max = is_metadata                                         ? 33
                      : mr_str_equal(name, MR_STR("group.version"))       ? 1
                      : mr_str_equal(name, MR_STR("transaction.version")) ? 2
                                                                          : 0;
        assert_int_equal(out.supported_features[index].min_version, is_metadata ? 7 : 0);
        assert_int_equal(out.supported_features[index].max_version, max);
    }
}

static void test_metadata_of_a_missing_topic_asks_control_to_create_it_once(void **state)
{
    (void)state;
    struct mr_metadata_request in;
    struct mr_metadata_request_topic topic;
    struct mr_metadata_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(metadata_request, &in);
    MR_DEFAULTS(metadata_request_topic, &topic);
    topic.name = MR_STR("new");
    in.topics = &topic;
    in.topics_count = 1;
    for (int32_t i = 0; i < 3; i++) {
        mr_data_rig_ask(peer, 3, 12, i, &in);
        assert_true(mr_data_rig_answer(w, peer, 3, 12, &correlation, &out));
        assert_int_equal(out.topics[0].error_code, 3);
    }
    assert_int_equal(w->forward_count, 1);
    assert_int_equal(w->forwards[0]->api_key, 19);
    mr_data_rig_reply(w, w->forwards[0]);
    mr_data_rig_run(w);
    assert_int_equal(w->reply_dones, 1);
    topic.name = MR_STR("bad name");
    mr_data_rig_ask(peer, 3, 12, 5, &in);
    assert_true(mr_data_rig_answer(w, peer, 3, 12, &correlation, &out));
    assert_int_equal(out.topics[0].error_code, 17);
    in.topics = NULL;
    in.topics_count = -1;
    mr_data_rig_ask(peer, 3, 12, 6, &in);
    assert_true(mr_data_rig_answer(w, peer, 3, 12, &correlation, &out));
    assert_int_equal(out.topics_count, 1);
    assert_int_equal(out.topics[0].partitions_count, MR_DATA_RIG_LOGS);
    assert_int_equal(out.brokers_count, 1);
    assert_int_equal(w->forward_count, 1);
}

static void test_forwarded_request_returns_controls_bytes(void **state)
{
    (void)state;
    struct mr_heartbeat_request in;
    struct mr_heartbeat_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    MR_DEFAULTS(heartbeat_request, &in);
    in.group_id = MR_STR("g");
    mr_data_rig_ask(peer, 12, 4, 77, &in);
    mr_data_rig_run(w);
    assert_int_equal(w->forward_count, 1);
    assert_int_equal(w->forwards[0]->body.bytes > 0, true);
    static const uint8_t body[] = {0, 0, 0, 0, 0, 27, 0}; /* throttle, error 27, no tags */
    struct mr_span span = {.data = body, .len = sizeof body};
    w->forwards[0]->reply =
        (struct mr_chain){.spans = &span, .span_count = 1, .bytes = sizeof body};
    mr_data_rig_reply(w, w->forwards[0]);
    assert_true(mr_data_rig_answer(w, peer, 12, 4, &correlation, &out));
    assert_int_equal(correlation, 77);
    assert_int_equal(out.error_code, 27);
    assert_int_equal(w->reply_dones, 1);
    /* a client that leaves while control thinks: its request lives on until the answer */
    mr_data_rig_ask(peer, 12, 4, 78, &in);
    mr_data_rig_run(w);
    mr_sim_peer_reset(peer);
    mr_data_rig_run(w);
    assert_int_equal(w->conn_closes, 1);
    mr_data_rig_reply(w, w->forwards[1]);
    mr_data_rig_run(w);
    assert_int_equal(w->reply_dones, 2);
    assert_int_equal(mr_sim_net_held(w->net), 0);
}

static void test_list_offsets_by_special_times(void **state)
{
    (void)state;
    struct mr_list_offsets_request in;
    struct mr_list_offsets_request_list_offsets_topic topic;
    struct mr_list_offsets_request_list_offsets_partition parts[3];
    struct mr_list_offsets_response out;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce(w, peer, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    MR_DEFAULTS(list_offsets_request, &in);
    MR_DEFAULTS(list_offsets_request_list_offsets_topic, &topic);
    for (int i = 0; i < 3; i++) {
        MR_DEFAULTS(list_offsets_request_list_offsets_partition, &parts[i]);
        parts[i].partition_index = i;
        parts[i].timestamp = i == 2 ? -6 : -1; /* -6 is of version 11 */
    }
    topic.name = MR_STR("t");
    topic.partitions = parts;
    topic.partitions_count = 3;
    in.replica_id = -1;
    in.topics = &topic;
    in.topics_count = 1;
    mr_data_rig_ask(peer, 2, 7, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 2, 7, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[0].offset, 0);
    assert_int_equal(out.topics[0].partitions[1].offset, 1);
    assert_int_equal(out.topics[0].partitions[1].leader_epoch, 3);
    assert_int_equal(out.topics[0].partitions[2].error_code, 35);
}

static void test_delete_records_and_epochs_are_told_per_partition(void **state)
{
    (void)state;
    struct mr_delete_records_request in;
    struct mr_delete_records_request_delete_records_topic topic;
    struct mr_delete_records_request_delete_records_partition parts[3];
    struct mr_delete_records_response out;
    struct mr_offset_for_leader_epoch_request ein;
    struct mr_offset_for_leader_epoch_request_offset_for_leader_topic etopic;
    struct mr_offset_for_leader_epoch_request_offset_for_leader_partition eparts[2];
    struct mr_offset_for_leader_epoch_response eout;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce(w, peer, 1, 1);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    MR_DEFAULTS(delete_records_request, &in);
    MR_DEFAULTS(delete_records_request_delete_records_topic, &topic);
    for (int i = 0; i < 3; i++) {
        MR_DEFAULTS(delete_records_request_delete_records_partition, &parts[i]);
        parts[i].partition_index = i == 2 ? 99 : i;
        parts[i].offset = i == 0 ? 5 : -1;
    }
    topic.name = MR_STR("t");
    topic.partitions = parts;
    topic.partitions_count = 3;
    in.topics = &topic;
    in.topics_count = 1;
    mr_data_rig_ask(peer, 21, 2, 2, &in);
    assert_true(mr_data_rig_answer(w, peer, 21, 2, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[0].error_code, MR_KAFKA_OFFSET_OUT_OF_RANGE);
    assert_int_equal(out.topics[0].partitions[1].low_watermark, 1);
    assert_int_equal(out.topics[0].partitions[2].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    w->topic.config.is_cleanup_delete = false;
    mr_data_rig_ask(peer, 21, 2, 3, &in);
    assert_true(mr_data_rig_answer(w, peer, 21, 2, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[1].error_code, MR_KAFKA_POLICY_VIOLATION);
    MR_DEFAULTS(offset_for_leader_epoch_request, &ein);
    MR_DEFAULTS(offset_for_leader_epoch_request_offset_for_leader_topic, &etopic);
    for (int i = 0; i < 2; i++) {
        MR_DEFAULTS(offset_for_leader_epoch_request_offset_for_leader_partition, &eparts[i]);
        eparts[i].partition = i;
        eparts[i].current_leader_epoch = i == 0 ? 2 : 3;
        eparts[i].leader_epoch = 3;
    }
    etopic.topic = MR_STR("t");
    etopic.partitions = eparts;
    etopic.partitions_count = 2;
    ein.topics = &etopic;
    ein.topics_count = 1;
    mr_data_rig_ask(peer, 23, 4, 4, &ein);
    assert_true(mr_data_rig_answer(w, peer, 23, 4, &correlation, &eout));
    assert_int_equal(eout.topics[0].partitions[0].error_code, MR_KAFKA_FENCED_LEADER_EPOCH);
    assert_int_equal(eout.topics[0].partitions[1].end_offset, 1);
    assert_int_equal(eout.topics[0].partitions[1].leader_epoch, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_versions_asked_lists_exactly_what_is_served),
        TEST(test_described_topics_come_in_pages),
        TEST(test_metadata_of_a_missing_topic_asks_control_to_create_it_once),
        TEST(test_versions_tell_features_at_level_0_to_those_who_know),
        TEST(test_metadata_names_a_topic_once),
        TEST(test_pages_of_described_topics_end_at_unknown_ones_too),
        TEST(test_forwarded_request_returns_controls_bytes),
        TEST(test_list_offsets_by_special_times),
        TEST(test_delete_records_and_epochs_are_told_per_partition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
