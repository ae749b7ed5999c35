/*
 * nic_load: a table of keys, taken or refused by name; and that one data core is all a card gets.
 */
#include "boot/nic_load.h"
#include "config_table.h"
#include "millrace/plan.h"
#include "test.h"

static struct mr_config config;
static struct mr_nic_params params;
static char why[512];

static void set(const char *name, const char *text)
{
    struct mr_config_value value;
    enum mr_config_id id = mr_config_find(mr_str(name));
    assert_int_equal(mr_config_parse(&mr_config_rows[id].key, mr_str(text), &value), MR_OK);
    mr_config_set(&config, id, &value);
}

static void begin(void)
{
    mr_config_defaults(&config);
    set("millrace.transport", "dpdk");
    set("millrace.dpdk.addresses", "10.0.0.2/24,fd00::2/64");
}

static void test_keys_become_parameters(void **state)
{
    static const uint8_t mac[] = {2, 0, 0, 0xa, 0xff, 1};
    (void)state;
    begin();
    set("millrace.dpdk.device", "net_tap0,iface=x");
    set("millrace.dpdk.gateways", "10.0.0.254,fd00::1");
    set("millrace.dpdk.host.addresses", "10.0.0.1/24");
    set("millrace.dpdk.mac", "02:00:00:0A:fF:01");
    set("millrace.dpdk.mtu", "9000");
    set("millrace.dpdk.vlan", "7");
    assert_true(mr_nic_load_is_wanted(&config));
    assert_true(mr_nic_load_params(&config, &params, why, sizeof why));
    assert_string_equal(params.device, "net_tap0,iface=x");
    assert_int_equal(params.our_count, 2);
    assert_int_equal(params.ours[0].address.bytes[15], 2);
    assert_int_equal(params.ours[0].network.bits, 96 + 24);
    assert_int_equal(params.ours[1].network.bits, 64);
    assert_int_equal(params.host_count, 1);
    assert_int_equal(params.gateway4.bytes[15], 254);
    assert_int_equal(params.gateway6.bytes[0], 0xfd);
    assert_int_equal(params.mtu, 9000);
    assert_int_equal(params.vlan, 7);
    assert_true(params.has_mac);
    assert_memory_equal(params.mac, mac, sizeof mac);
}

static void test_what_is_wrong_is_refused_by_its_key(void **state)
{
    static const struct {
        const char *key;
        const char *value;
    } rows[] = {
        {"millrace.dpdk.addresses", ""},
        {"millrace.dpdk.addresses", "10.0.0.2"},
        {"millrace.dpdk.addresses", "10.0.0.2/33"},
        {"millrace.dpdk.addresses", "10.0.0.300/24"},
        {"millrace.dpdk.addresses", "10.0.0.1/8,10.0.0.2/8,10.0.0.3/8,10.0.0.4/8,10.0.0.5/8"},
        {"millrace.dpdk.host.addresses", "here/24"},
        {"millrace.dpdk.gateways", "10.0.0.254/24"},
        {"millrace.dpdk.mac", "02:00:00:00:00"},
        {"millrace.dpdk.mac", "02:00:00:00:00:0g"},
        {"millrace.dpdk.mac", "02-00-00-00-00-01"},
        {"millrace.dpdk.mac", "03:00:00:00:00:01"},
    };
    (void)state;
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        begin();
        set(rows[row].key, rows[row].value);
        assert_false(mr_nic_load_params(&config, &params, why, sizeof why));
        assert_memory_equal(why, rows[row].key, strlen(rows[row].key));
    }
}

static void test_a_card_has_one_data_core_unless_told_otherwise(void **state)
{
    const struct mr_plan_machine machine = {.cpu_count = 8, .memory_bytes = 8ull << 30};
    static struct mr_plan plan;
    (void)state;
    begin();
    assert_true(mr_plan_make(&config, &machine, &plan, why, sizeof why));
    assert_int_equal(plan.endpoints.data_count, 1);
    set("millrace.cores", "16");
    assert_true(mr_plan_make(&config, &machine, &plan, why, sizeof why));
    assert_int_equal(plan.endpoints.data_count, MR_NIC_LANES);
    set("millrace.cores", "17");
    assert_false(mr_plan_make(&config, &machine, &plan, why, sizeof why));
    set("millrace.cores.data", "0-16");
    set("millrace.cores.storage", "17");
    assert_false(mr_plan_make(&config, &machine, &plan, why, sizeof why));
    set("millrace.cores.data", "0-1");
    assert_true(mr_plan_make(&config, &machine, &plan, why, sizeof why));
    assert_int_equal(plan.endpoints.data_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_become_parameters),
        cmocka_unit_test(test_what_is_wrong_is_refused_by_its_key),
        cmocka_unit_test(test_a_card_has_one_data_core_unless_told_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
