/*
 * http_load: an address and a port, or a sentence that says what was expected.
 */
#include "boot/http_load.h"
#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static struct sockaddr_storage address;
static char why[256];

static bool parse(const char *text)
{
    return mr_http_load_address(mr_str(text), &address, why, sizeof why);
}

static void test_both_families(void **state)
{
    const struct sockaddr_in *ip4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *ip6 = (const struct sockaddr_in6 *)&address;
    (void)state;
    assert_true(parse("127.0.0.1:9404"));
    assert_int_equal(ip4->sin_family, AF_INET);
    assert_int_equal(ntohs(ip4->sin_port), 9404);
    assert_int_equal(ntohl(ip4->sin_addr.s_addr), 0x7f000001);
    assert_true(parse("[::1]:65535"));
    assert_int_equal(ip6->sin6_family, AF_INET6);
    assert_int_equal(ntohs(ip6->sin6_port), 65535);
    assert_int_equal(ip6->sin6_addr.s6_addr[15], 1);
}

static void test_what_is_no_address_is_refused(void **state)
{
    static const char *const texts[] = {"127.0.0.1", ":9404", "9404", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:94o4",
                                        "localhost:9404", "::1:9404", "[127.0.0.1]:9404", "[]:1", "127.0.0.1:99999999999999999999"};
    (void)state;
    for (size_t at = 0; at < sizeof texts / sizeof texts[0]; at++) {
        why[0] = '\0';
        if (parse(texts[at])) {
            fail_msg("%s was taken", texts[at]);
        }
        assert_non_null(strstr(why, texts[at]));
        assert_non_null(strstr(why, "127.0.0.1:9404"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_families),
        cmocka_unit_test(test_what_is_no_address_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
