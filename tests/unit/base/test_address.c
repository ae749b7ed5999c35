/*
 * address: tables of texts; and all addresses that inet_ntop writes are read again.
 */
#include "millrace/base/prng.h"
#include "millrace/net/address.h"
#include "test.h"

#include <arpa/inet.h>

static void test_network_has_addresses_by_prefix(void **state)
{
    static const struct {
        const char *network;
        const char *address;
        bool is_in;
    } cases[] = {
        {"10.0.0.0/8", "10.255.1.2", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true},
        {"10.128.0.0/9", "10.127.255.255", false},
        {"10.128.0.0/9", "10.128.0.0", true},
        {"192.168.1.7", "192.168.1.7", true},
        {"192.168.1.7", "192.168.1.8", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "fe80::1", false},
        {"::/0", "fe80::1", true},
        {"fd00::/8", "fd12:3::4", true},
        {"fd00::/8", "fe00::1", false},
        {"2001:db8:0:0:0:0:0:1", "2001:db8::1", true},
    };
    (void)state;
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_network network;
        struct mr_address address;
        assert_true(mr_network_parse(mr_str(cases[index].network), &network));
        assert_true(mr_address_parse(mr_str(cases[index].address), &address));
        assert_int_equal(mr_network_has(&network, &address), cases[index].is_in);
    }
}

static void test_text_that_is_no_address_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "junk",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4 ",
        "1..2.3",
        "1::2::3",
        "1:2:3:4:5:6:7",
        ":1",
        "1:",
        "12345::",
        "1:2:3:4:5:6:7:8:9",
        "g::",
        "::1.2.3",
        "1:2:3:4:5:6:7:1.2.3.4",
    };
    static const char *const networks[] = {"10.0.0.0/33", "fd00::/129", "10.0.0.0/", "/8", "10/8"};
    static const char *const limits[] = {"10.0.0.1", "10.0.0.1:", "host:3", "10.0.0.1:-1", ":3"};
    (void)state;
    for (size_t index = 0; index < sizeof texts / sizeof texts[0]; index++) {
        struct mr_address address;
        assert_false(mr_address_parse(mr_str(texts[index]), &address));
    }
    for (size_t index = 0; index < sizeof networks / sizeof networks[0]; index++) {
        struct mr_network network;
        assert_false(mr_network_parse(mr_str(networks[index]), &network));
    }
    for (size_t index = 0; index < sizeof limits / sizeof limits[0]; index++) {
        struct mr_address address;
        uint32_t limit;
        assert_false(mr_address_limit_parse(mr_str(limits[index]), &address, &limit));
    }
}

static void test_limit_of_an_address_has_a_count_behind_the_last_colon(void **state)
{
    struct mr_address address;
    struct mr_address expected;
    uint32_t limit;
    (void)state;
    assert_true(mr_address_limit_parse(MR_STR("10.0.0.1:25"), &address, &limit));
    assert_int_equal(limit, 25);
    assert_true(mr_address_limit_parse(MR_STR("[fd00::1]:7"), &address, &limit));
    assert_true(mr_address_parse(MR_STR("fd00::1"), &expected));
    assert_true(mr_address_equal(&address, &expected));
    assert_true(mr_address_limit_parse(MR_STR("fd00::1:7"), &address, &limit));
    assert_true(mr_address_equal(&address, &expected));
    assert_int_equal(limit, 7);
}

static void test_every_text_of_inet_ntop_is_read_again(void **state)
{
    struct mr_prng prng = {.state = 1};
    (void)state;
    for (uint32_t round = 0; round < 20000; round++) {
        struct mr_address address;
        struct mr_address again;
        char text[INET6_ADDRSTRLEN];
        for (uint32_t at = 0; at < 16; at += 2) { /* many zeros, so that all gaps occur */
            bool is_zero = mr_prng_below(&prng, 2) == 0;
            address.bytes[at] = is_zero ? 0 : (uint8_t)mr_prng_next(&prng);
            address.bytes[at + 1] = is_zero ? 0 : (uint8_t)mr_prng_next(&prng);
        }
        assert_non_null(inet_ntop(AF_INET6, address.bytes, text, sizeof text));
        if (!mr_address_parse(mr_str(text), &again) || !mr_address_equal(&address, &again)) {
            fail_msg("%s", text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_has_addresses_by_prefix),
        cmocka_unit_test(test_text_that_is_no_address_is_refused),
        cmocka_unit_test(test_limit_of_an_address_has_a_count_behind_the_last_colon),
        cmocka_unit_test(test_every_text_of_inet_ntop_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
