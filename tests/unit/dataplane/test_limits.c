/*
 * How many connections one address, and all together, may have.
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

static void test_connections_of_one_address_are_limited_but_not_trusted_ones(void **state)
{
    (void)state;
    struct mr_sim_peer *peers[6];
    for (int i = 0; i < 6; i++) {
        peers[i] = mr_sim_net_connect(w->net, "192.0.2.1");
        mr_data_rig_run(w);
    }
    assert_false(mr_sim_peer_is_closed(peers[1]));
    assert_true(mr_sim_peer_is_closed(peers[2])); /* two that have proven nothing */
    mr_data_rig_produce(w, peers[0], 1, 0);
    mr_data_rig_run(w);
    struct mr_sim_peer *third = mr_sim_net_connect(w->net, "192.0.2.1");
    mr_data_rig_run(w);
    assert_false(mr_sim_peer_is_closed(third));
    mr_data_rig_produce(w, peers[1], 1, 0);
    mr_data_rig_produce(w, third, 1, 0);
    mr_data_rig_run(w);
    struct mr_sim_peer *fourth = mr_sim_net_connect(w->net, "192.0.2.1");
    mr_data_rig_run(w);
    assert_true(mr_sim_peer_is_closed(fourth)); /* max.connections.per.ip = 3 */
    for (int i = 0; i < 8; i++) {
        struct mr_sim_peer *trusted = mr_sim_net_connect(w->net, "10.9.8.7");
        mr_data_rig_run(w);
        assert_false(mr_sim_peer_is_closed(trusted));
    }
}

static struct mr_sim_peer *come(const char *address)
{
    struct mr_sim_peer *peer = mr_sim_net_connect(w->net, address);
    assert_non_null(peer);
    mr_data_rig_run(w);
    return peer;
}

static void limit_one_address(struct mr_data_rig *rig)
{
    rig->config.millrace_connections_unproven_per_ip = INT32_MAX;
    rig->config.max_connections_per_ip_overrides =
        MR_STR("192.0.2.7:1, 127.0.0.1:2, [2001:db8::5]:0");
}

static void test_override_is_the_limit_of_its_address_alone(void **state)
{
    static const struct {
        const char *address;
        uint32_t fit;
    } cases[] = {
        {"192.0.2.7", 1},   {"192.0.2.8", 3},   {"127.0.0.1", 2},
        {"2001:db8::5", 0}, {"2001:db8::6", 3},
    };
    (void)state;
    mr_data_rig_destroy(w);
    w = mr_data_rig_create_with(limit_one_address);
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_sim_peer *first = NULL;
        for (uint32_t count = 0; count < cases[index].fit; count++) {
            first = come(cases[index].address);
            assert_false(mr_sim_peer_is_closed(first));
        }
        assert_true(mr_sim_peer_is_closed(come(cases[index].address)));
        if (first != NULL) { /* one that leaves makes room */
            mr_sim_peer_reset(first);
            mr_data_rig_run(w);
            assert_false(mr_sim_peer_is_closed(come(cases[index].address)));
        }
    }
}

static void limit_all(struct mr_data_rig *rig)
{
    rig->config.max_connections = 3;
}

static void test_connections_full_an_idle_one_makes_room_and_a_busy_one_does_not(void **state)
{
    (void)state;
    mr_data_rig_destroy(w);
    w = mr_data_rig_create_with(limit_all);
    struct mr_sim_peer *waiting = come(NULL);
    mr_data_rig_fetch(waiting, 1,
                      (struct mr_data_rig_fetch){
                          .session_epoch = -1, .count = 1, .min_bytes = 1, .max_wait_ms = 60000});
    struct mr_sim_peer *idle = come(NULL);
    struct mr_sim_peer *other = come(NULL);
    assert_true(mr_sim_peer_is_closed(come(NULL))); /* nobody has been idle for long enough */
    mr_data_rig_pass_ms(w, 10001);
    mr_data_rig_produce(w, other, 1, 0);
    mr_data_rig_run(w);
    assert_false(mr_sim_peer_is_closed(come(NULL)));
    assert_true(mr_sim_peer_is_closed(idle));
    assert_false(mr_sim_peer_is_closed(waiting));
    assert_true(mr_sim_peer_is_closed(come(NULL))); /* the others are in use */
    struct mr_data_stats stats;
    mr_data_core_stats(w->core, &stats);
    assert_int_equal(stats.connections, 3);
    assert_int_equal(stats.connections_refused, 2);
}

static void limit_rate(struct mr_data_rig *rig)
{
    rig->config.max_connection_creation_rate = 4;
}

static void test_connections_faster_than_the_rate_are_read_in_their_turn(void **state)
{
    struct mr_sim_peer *peers[10];
    struct mr_produce_response made;
    int32_t correlation;
    (void)state;
    mr_data_rig_destroy(w);
    w = mr_data_rig_create_with(limit_rate);
    for (int i = 0; i < 10; i++) {
        peers[i] = come(NULL);
        mr_data_rig_produce(w, peers[i], i, 0);
    }
    for (int i = 0; i < 10; i++) { /* a second's worth at once, then one each 250 ms */
        if (i >= 5) {
            assert_false(mr_data_rig_answer(w, peers[i], 0, 9, &correlation, &made));
            mr_data_rig_pass_ms(w, 250);
        }
        assert_true(mr_data_rig_answer(w, peers[i], 0, 9, &correlation, &made));
        assert_int_equal(correlation, i);
    }
}

/* A pipeline that storage does not answer: what is taken of it is bounded, and nothing is lost. */
static void test_slow_disk_bounds_what_is_taken_from_a_connection(void **state)
{
    enum { REQUESTS = 40, BYTES = 20000 };
    struct mr_produce_response made;
    int32_t correlation;
    (void)state;
    struct mr_sim_peer *peer = come(NULL);
    w->is_storage_held = true;
    for (int32_t i = 0; i < REQUESTS; i++) {
        mr_data_rig_produce_to(w, peer, i, 1, MR_STR("t"), 0, 1, BYTES);
    }
    mr_data_rig_run(w);
    assert_int_equal(w->held_count, MR_SESSION_AHEAD);
    assert_true(mr_sim_peer_delivered(peer) <= MR_SESSION_AHEAD * (BYTES + 300) + MR_NET_WINDOW);
    for (int32_t i = 0; i < REQUESTS; i++) {
        mr_data_rig_storage_release(w, 0);
        assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
        assert_int_equal(correlation, i);
        assert_true(w->held_count <= MR_SESSION_AHEAD);
    }
    assert_int_equal(mr_sim_net_held(w->net), 0);
}

/* However many are refused, one line a second says so. */
static void test_refusals_fill_no_log(void **state)
{
    uint32_t lines = 0;
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct mr_sim_peer *liar = come(NULL);
        mr_sim_peer_send(liar, "GET / HTTP/1.1\r\n\r\n", 18);
        struct mr_sim_peer *many = come("198.51.100.1");
        mr_data_rig_pass_ms(w, 10);
        mr_sim_peer_reset(liar);
        if (i > 2) {
            mr_sim_peer_reset(many);
        }
        mr_data_rig_run(w);
    }
    for (; mr_log_out(&w->log) != NULL; lines++) {
        mr_log_retire(&w->log);
    }
    assert_int_equal(w->log.dropped, 0);
    assert_in_range(lines, 4, 6); /* two subjects, two seconds */
}

static void test_limits_of_a_new_image_hold_for_those_who_come_then(void **state)
{
    (void)state;
    struct mr_image_limits none = {.connections = 100, .per_ip = 0, .rate = INT32_MAX};
    struct mr_image_limits one = {.connections = 100,
                                  .per_ip = 0,
                                  .rate = INT32_MAX,
                                  .overrides = MR_STR("192.0.2.7:1")};
    assert_false(mr_sim_peer_is_closed(come("192.0.2.7")));
    w->image.limits = &none;
    mr_data_rig_send_image(w);
    mr_data_rig_run(w);
    assert_true(mr_sim_peer_is_closed(come("192.0.2.8")));
    w->image.limits = &one;
    mr_data_rig_send_image(w);
    mr_data_rig_run(w);
    assert_true(mr_sim_peer_is_closed(come("192.0.2.7"))); /* the first is still there */
    assert_true(mr_sim_peer_is_closed(come("192.0.2.8")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_connections_of_one_address_are_limited_but_not_trusted_ones),
        TEST(test_limits_of_a_new_image_hold_for_those_who_come_then),
        TEST(test_override_is_the_limit_of_its_address_alone),
        TEST(test_connections_full_an_idle_one_makes_room_and_a_busy_one_does_not),
        TEST(test_connections_faster_than_the_rate_are_read_in_their_turn),
        TEST(test_slow_disk_bounds_what_is_taken_from_a_connection),
        TEST(test_refusals_fill_no_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
