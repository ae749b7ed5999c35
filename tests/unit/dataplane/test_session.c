/*
 * Connections of a data core: frames that lie or never end, the order of answers, readers that do not read,
 * idleness and the end.
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

static void test_error_without_acks_closes_after_the_answers_before_it(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    w->is_storage_held = true;
    mr_data_rig_produce(w, peer, 1, 0);
    mr_data_rig_produce_to(w, peer, 2, 0, MR_STR("nowhere"), 0, 1, 1);
    mr_data_rig_produce(w, peer, 3, 0);
    mr_data_rig_run(w);
    assert_false(mr_sim_peer_is_closed(peer));
    assert_int_equal(w->held_count, 1); /* the third is never served */
    mr_data_rig_storage_release(w, 0);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 1);
    assert_false(mr_data_rig_answer(w, peer, 0, 9, &correlation, &out));
    assert_true(mr_sim_peer_is_closed(peer));
    assert_int_equal(w->appends, 1);
}

static void test_reader_that_does_not_read_is_not_served_further(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_produce_to(w, peer, 1, -1, MR_STR("t"), 0, 1, 400000);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    for (int32_t i = 0; i < 30; i++) {
        mr_data_rig_fetch(
            peer, i, (struct mr_data_rig_fetch){.session_epoch = -1, .count = 1, .min_bytes = 1});
    }
    mr_data_rig_run(w);
    assert_int_equal(w->lent - w->releases, 3); /* 1.2 MB, not 12 */
    for (int32_t i = 0; i < 30; i++) {
        assert_true(mr_data_rig_answer(w, peer, 1, 12, &correlation, &got));
        assert_int_equal(correlation, i);
        assert_int_equal(got.responses[0].partitions[0].records.bytes, w->logs[0].len);
    }
    assert_int_equal(w->lent, w->releases);
}

static void test_request_without_memory_waits_until_there_is_some(void **state)
{
    (void)state;
    int32_t correlation;
    size_t got_bytes;
    void *blocks[4];
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    for (int i = 0; i < 4; i++) {
        blocks[i] =
            mr_scratch_get(&w->core->scratch, mr_scratch_max(&w->core->scratch), &got_bytes);
        assert_non_null(blocks[i]);
    }
    mr_data_rig_fetch(reader, 1,
                      (struct mr_data_rig_fetch){.count = MR_DATA_RIG_LOGS, .min_bytes = 1});
    assert_false(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    for (int i = 0; i < 4; i++) {
        mr_scratch_put(&w->core->scratch, blocks[i]);
    }
    w->core->has_room = true;
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions_count, MR_DATA_RIG_LOGS);
    assert_int_equal(w->core->scratch.used_bytes, 0);
    assert_int_equal(w->core->requests.used, 0);
}

static void expect_closed(const void *data, uint32_t len)
{
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_sim_peer_send(peer, data, len);
    mr_data_rig_run(w);
    assert_true(mr_sim_peer_is_closed(peer));
}

static void test_frames_that_lie_close_the_connection(void **state)
{
    (void)state;
    expect_closed("GET / HTTP/1.1\r\n\r\n", 18);
    expect_closed("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
    expect_closed("\x00\x00\x00\x00\x00\x00\x00\x00", 8);
    expect_closed("\xff\xff\xff\xff\x00\x00\x00\x00", 8);
    expect_closed("\x00\x00\x00\x10\x03\xe7\x00\x00", 8); /* unknown key, before it is whole */
    expect_closed("\x00\x00\x00\x0a\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00", 14); /* Produce v2 */
    expect_closed("\x00\x20\x00\x01\x00\x00\x00\x09", 8); /* above socket.request.max.bytes */
    assert_int_equal(mr_sim_net_held(w->net), 0);
}

static void test_frames_cut_at_every_byte_do_no_harm(void **state)
{
    (void)state;
    struct mr_sim_peer *probe = mr_data_rig_join(w);
    uint32_t len;
    uint8_t frame[1024];
    const uint8_t *bytes =
        mr_wire_produce(1, -1, MR_STR("t"), 0, mr_wire_batch(2, 20, w->now.unix_ms), &len);
    assert_in_range(len, 1, sizeof frame);
    memcpy(frame, bytes, len);
    mr_sim_peer_send(probe, frame, len);
    for (uint32_t cut = 0; cut < len; cut++) {
        struct mr_sim_peer *peer = mr_data_rig_join(w);
        mr_sim_peer_send(peer, frame, cut);
        mr_data_rig_run(w);
        mr_sim_peer_reset(peer);
        mr_data_rig_run(w);
        assert_true(mr_sim_peer_is_closed(peer));
        mr_sim_peer_free(peer);
    }
    /* and one byte wrong at every place: an answer or a closed connection */
    for (uint32_t at = 4; at < len; at++) {
        struct mr_sim_peer *peer = mr_data_rig_join(w);
        frame[at] ^= 0xff;
        mr_sim_peer_send(peer, frame, len);
        mr_data_rig_run(w);
        frame[at] ^= 0xff;
        mr_sim_peer_reset(peer);
        mr_data_rig_run(w);
        mr_sim_peer_free(peer);
    }
    assert_int_equal(mr_sim_net_held(w->net), 0);
    struct mr_data_stats stats;
    mr_data_core_stats(w->core, &stats);
    assert_int_equal(stats.connections, 1);
}

static void test_transport_is_told_what_a_frame_lacks(void **state)
{
    (void)state;
    uint32_t len;
    const uint8_t *frame =
        mr_wire_produce(1, -1, MR_STR("t"), 0, mr_wire_batch(900, 100, w->now.unix_ms), &len);
    assert_in_range(len, 5 * MR_NET_WINDOW, UINT32_MAX);
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    mr_data_rig_run(w);
    const struct mr_session *session =
        MR_LIST_ENTRY(w->core->session_list.prev, const struct mr_session, link);
    assert_int_equal(session->conn->rest_bytes, 0);
    mr_sim_peer_send(peer, frame, 4); /* its length, and not yet what it is */
    mr_data_rig_run(w);
    assert_int_equal(session->conn->rest_bytes, 0);
    mr_sim_peer_send(peer, frame + 4, MR_NET_WINDOW);
    mr_data_rig_run(w);
    assert_int_equal(session->conn->rest_bytes, len - 4 - MR_NET_WINDOW);
    mr_sim_peer_send(peer, frame + 4 + MR_NET_WINDOW, len - 4 - MR_NET_WINDOW);
    mr_sim_peer_send(peer, frame, MR_NET_WINDOW); /* a part of the next one comes with it */
    mr_data_rig_run(w);
    assert_int_equal(session->conn->rest_bytes, len - MR_NET_WINDOW);
    mr_sim_peer_send(peer, frame + MR_NET_WINDOW, len - MR_NET_WINDOW);
    mr_data_rig_run(w);
    assert_int_equal(session->conn->rest_bytes, 0);
}

static void test_large_frames_that_never_end_do_not_lock_out_others(void **state)
{
    (void)state;
    static uint8_t head[900000] = {0, 0x0f, 0, 0, 0, 0, 0, 9};
    struct mr_sim_peer *slow[16];
    for (int i = 0; i < 16; i++) {
        slow[i] = mr_data_rig_join(w);
        mr_sim_peer_send(slow[i], head, sizeof head); /* of 983,044 announced */
    }
    mr_data_rig_run(w);
    uint64_t taken = 0;
    for (int i = 0; i < 16; i++) {
        taken += mr_sim_peer_delivered(slow[i]);
    }
    assert_true(taken <= (4u << 20)); /* never more than there is memory */
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    struct mr_produce_response made;
    int32_t correlation;
    mr_data_rig_produce(w, peer, 1, 0); /* small ones go on */
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    for (int i = 0; i < 400; i++) { /* the stalled are closed, one after the other */
        mr_data_rig_pass_ms(w, 1000);
    }
    mr_data_rig_produce_to(w, peer, 2, -1, MR_STR("t"), 0, 1, 400000); /* and then large ones too */
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
}

static void test_idle_connection_is_closed_a_waiting_one_is_not(void **state)
{
    (void)state;
    w->config.connections_max_idle_ms = 5000;
    struct mr_sim_peer *idle = mr_data_rig_join(w);
    struct mr_sim_peer *busy = mr_data_rig_join(w);
    mr_data_rig_fetch(busy, 1,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 1, .min_bytes = 1, .max_wait_ms = 60000});
    mr_data_rig_run(w);
    mr_data_rig_pass_ms(w, 4999);
    assert_false(mr_sim_peer_is_closed(idle));
    mr_data_rig_pass_ms(w, 2);
    assert_true(mr_sim_peer_is_closed(idle));
    assert_false(mr_sim_peer_is_closed(busy));
}

static void test_drain_answers_what_is_open_and_closes(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *waiting = mr_data_rig_join(w);
    struct mr_sim_peer *writing = mr_data_rig_join(w);
    mr_data_rig_fetch(waiting, 1,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 1, .min_bytes = 1, .max_wait_ms = 60000});
    mr_data_rig_run(w);
    w->is_storage_held = true;
    mr_data_rig_produce(w, writing, 2, 1);
    mr_data_rig_run(w);
    w->is_storage_held = false;
    struct mr_plane_msg msg = {.kind = MR_PLANE_DRAIN};
    mr_port_send(&w->control, 0, &msg);
    assert_true(mr_data_rig_answer(w, waiting, 1, 12, &correlation, &got));
    assert_int_equal(w->drained, 0);
    mr_data_rig_storage_release(w, 0);
    assert_true(mr_data_rig_answer(w, writing, 0, 9, &correlation, &made));
    mr_data_rig_run(w);
    assert_true(mr_sim_peer_is_closed(waiting));
    assert_true(mr_sim_peer_is_closed(writing));
    assert_int_equal(w->drained, 1);
    assert_null(mr_sim_net_connect(w->net, NULL));
}

/* The slow reader's reply lends pages that the other's read might be waiting for. */
static void test_slow_reader_is_given_up_when_another_waits(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    const struct mr_data_rig_fetch all = {.session_epoch = -1, .count = 1, .min_bytes = 1};
    struct mr_sim_peer *slow = mr_data_rig_join(w);
    struct mr_sim_peer *other = mr_data_rig_join(w);
    mr_data_rig_produce_to(w, other, 1, -1, MR_STR("t"), 0, 1, 1000);
    assert_true(mr_data_rig_answer(w, other, 0, 9, &correlation, &made));
    mr_data_rig_fetch(slow, 2, all);
    mr_data_rig_run(w);
    mr_data_rig_pass_ms(w, 5000);
    assert_false(mr_sim_peer_is_closed(slow)); /* nobody waits: it may take its time */
    assert_int_equal(w->lent - w->releases, 1);
    w->is_storage_held = true;
    mr_data_rig_fetch(other, 3, all);
    mr_data_rig_run(w);
    mr_data_rig_pass_ms(w, 900);
    assert_false(mr_sim_peer_is_closed(slow));
    mr_data_rig_pass_ms(w, 1200);
    assert_true(mr_sim_peer_is_closed(slow));
    mr_data_rig_storage_release(w, 0);
    assert_true(mr_data_rig_answer(w, other, 1, 12, &correlation, &got));
    assert_int_equal(w->lent, w->releases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_error_without_acks_closes_after_the_answers_before_it),
        TEST(test_reader_that_does_not_read_is_not_served_further),
        TEST(test_request_without_memory_waits_until_there_is_some),
        TEST(test_frames_that_lie_close_the_connection),
        TEST(test_frames_cut_at_every_byte_do_no_harm),
        TEST(test_transport_is_told_what_a_frame_lacks),
        TEST(test_large_frames_that_never_end_do_not_lock_out_others),
        TEST(test_idle_connection_is_closed_a_waiting_one_is_not),
        TEST(test_slow_reader_is_given_up_when_another_waits),
        TEST(test_drain_answers_what_is_open_and_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
