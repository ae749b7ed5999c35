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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_connections_of_one_address_are_limited_but_not_trusted_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
