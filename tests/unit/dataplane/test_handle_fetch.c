/*
 * Fetch on a data core, without sessions: what is returned, when it waits and what wakes it.
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

static void test_produce_then_fetch_returns_the_same_bytes(void **state)
{
    (void)state;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_sim_net_pieces(w->net, 7, true);
    mr_data_rig_produce_to(w, peer, 1, -1, MR_STR("t"), 2, 3, 100);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
    assert_int_equal(made.responses[0].partition_responses[0].base_offset, 0);
    mr_data_rig_fetch(
        peer, 2,
        (struct mr_data_rig_fetch){.session_epoch = -1, .first = 2, .count = 1, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, peer, 1, 12, &correlation, &got));
    assert_int_equal(correlation, 2);
    const struct mr_fetch_response_partition_data *data = &got.responses[0].partitions[0];
    assert_int_equal(data->error_code, 0);
    assert_int_equal(data->high_watermark, 3);
    assert_int_equal(data->records.bytes, w->logs[2].len);
    uint8_t copy[1000];
    mr_chain_copy(&data->records, 0, copy, data->records.bytes);
    assert_memory_equal(copy, w->logs[2].bytes, w->logs[2].len);
    assert_int_equal(w->lent, w->releases);
    assert_int_equal(mr_sim_net_held(w->net), 0);
}

static void test_fetch_of_a_slow_reader_keeps_its_pages_until_it_has_read(void **state)
{
    (void)state;
    struct mr_fetch_response got;
    int32_t correlation;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce(w, peer, 1, 0);
    struct mr_produce_response made;
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    mr_data_rig_fetch(peer, 2,
                      (struct mr_data_rig_fetch){.session_epoch = -1, .count = 1, .min_bytes = 1});
    mr_data_rig_run(w);
    assert_int_equal(w->lent, 1);
    assert_int_equal(w->releases, 0);
    assert_true(mr_data_rig_answer(w, peer, 1, 12, &correlation, &got));
    assert_int_equal(w->releases, 1);
}

static void test_fetch_first_batch_is_returned_even_when_it_is_larger_than_asked(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    for (int32_t i = 0; i < 2; i++) {
        mr_data_rig_produce_to(w, peer, i, -1, MR_STR("t"), i, 1, 3000);
        assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    }
    mr_data_rig_fetch(peer, 3,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 2, .max_bytes = 100, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, peer, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].records.bytes, w->logs[0].len);
    assert_int_equal(got.responses[0].partitions[1].records.bytes, 0);
}

static void test_fetch_waits_for_bytes_and_wakes_once(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    mr_data_rig_fetch(
        reader, 1,
        (struct mr_data_rig_fetch){
            .session_epoch = -1, .count = MR_DATA_RIG_LOGS, .min_bytes = 1, .max_wait_ms = 1000});
    assert_false(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(mr_data_rig_live_watches(w), MR_DATA_RIG_LOGS);
    uint32_t before = w->entries_read;
    mr_data_rig_produce(w, writer, 1, 3);
    assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions_count, MR_DATA_RIG_LOGS);
    assert_true(got.responses[0].partitions[3].records.bytes > 0);
    assert_int_equal(w->entries_read - before, 1); /* only what moved is read again */
    assert_int_equal(mr_data_rig_live_watches(w), 0);
    /* nothing comes: empty at the deadline, not before */
    mr_data_rig_fetch(
        reader, 2,
        (struct mr_data_rig_fetch){
            .session_epoch = -1, .first = 1, .count = 1, .min_bytes = 1, .max_wait_ms = 500});
    mr_data_rig_run(w);
    mr_data_rig_pass_ms(w, 499);
    assert_false(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    mr_data_rig_pass_ms(w, 1);
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].records.bytes, 0);
    assert_int_equal(mr_data_rig_live_watches(w), 0);
}

static void test_fetch_min_bytes_counts_over_all_partitions(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    mr_data_rig_produce_to(w, writer, 1, -1, MR_STR("t"), 0, 1, 100);
    assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    mr_data_rig_fetch(reader, 1,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 2, .min_bytes = 300, .max_wait_ms = 1000});
    assert_false(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(w->lent, w->releases); /* a fetch that waits holds no page */
    mr_data_rig_produce_to(w, writer, 2, -1, MR_STR("t"), 1, 1, 100);
    assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_true(got.responses[0].partitions[1].records.bytes > 0);
}

static void test_fetch_moved_while_it_reads_is_read_again(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    struct mr_sim_peer *other = mr_data_rig_join(w);
    mr_data_rig_fetch(
        reader, 1,
        (struct mr_data_rig_fetch){
            .session_epoch = -1, .count = 2, .min_bytes = 1000, .max_wait_ms = 60000});
    mr_data_rig_run(w);
    w->is_storage_held = true;
    mr_data_rig_produce_to(w, writer, 1, -1, MR_STR("t"), 0, 1,
                           10); /* moves partition 0: it is being read */
    mr_data_rig_run(w);
    mr_data_rig_produce_to(w, other, 2, -1, MR_STR("t"), 1, 1,
                           2000); /* and now partition 1 moves */
    mr_data_rig_run(w);
    w->is_storage_held = false;
    while (w->held_count > 0) {
        mr_data_rig_storage_release(w, 0);
    }
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation,
                                   &got)); /* without waiting for its time */
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_true(got.responses[0].partitions[1].records.bytes > 1000);
    assert_int_equal(mr_data_rig_live_watches(w), 0);
}

static void test_fetch_waiting_is_freed_when_its_connection_closes(void **state)
{
    (void)state;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    mr_data_rig_fetch(
        reader, 1,
        (struct mr_data_rig_fetch){
            .session_epoch = -1, .count = MR_DATA_RIG_LOGS, .min_bytes = 1, .max_wait_ms = 100000});
    mr_data_rig_run(w);
    assert_int_equal(mr_data_rig_live_watches(w), MR_DATA_RIG_LOGS);
    mr_sim_peer_reset(reader);
    mr_data_rig_run(w);
    struct mr_data_stats stats;
    mr_data_core_stats(w->core, &stats);
    assert_int_equal(mr_data_rig_live_watches(w), 0);
    assert_int_equal(stats.connections, 0);
}

/* Min bytes that the answer has no room for are not waited for. */
static void test_fetch_without_room_for_more_does_not_wait(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    for (int32_t i = 0; i < 2; i++) {
        mr_data_rig_produce_to(w, writer, i, -1, MR_STR("t"), i, 1, 1000);
        assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    }
    mr_data_rig_fetch(reader, 1,
                      (struct mr_data_rig_fetch){.session_epoch = -1,
                                                 .count = 2,
                                                 .min_bytes = 1500,
                                                 .max_bytes = 1500,
                                                 .max_wait_ms = 60000});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_int_equal(got.responses[0].partitions[1].records.bytes, 0);
}

static void test_fetch_errors_are_told_at_once(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    mr_data_rig_fetch(
        reader, 1,
        (struct mr_data_rig_fetch){
            .session_epoch = -1, .count = 1, .offset = 77, .min_bytes = 1, .max_wait_ms = 1000});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 1);
    w->partitions[0].leader = 2;
    mr_data_rig_fetch(reader, 2,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 2, .min_bytes = 1, .max_wait_ms = 1000});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 6);
    assert_int_equal(got.responses[0].partitions[0].current_leader.leader_id, 2);
    assert_int_equal(got.responses[0].partitions[1].error_code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_produce_then_fetch_returns_the_same_bytes),
        TEST(test_fetch_of_a_slow_reader_keeps_its_pages_until_it_has_read),
        TEST(test_fetch_first_batch_is_returned_even_when_it_is_larger_than_asked),
        TEST(test_fetch_waits_for_bytes_and_wakes_once),
        TEST(test_fetch_min_bytes_counts_over_all_partitions),
        TEST(test_fetch_moved_while_it_reads_is_read_again),
        TEST(test_fetch_waiting_is_freed_when_its_connection_closes),
        TEST(test_fetch_without_room_for_more_does_not_wait),
        TEST(test_fetch_errors_are_told_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
