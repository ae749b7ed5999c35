/*
 * test_steer: whose a frame is: the hash against Microsoft's published vectors, both families, the packets that ICMP errors
 * quote, what everybody has to know, and lengths that end anywhere.
 */
#include "net/net_parts.h"
#include "net/steer.h"
#include "test.h"

#include <stdlib.h>

#define LANES 3u

static const struct mr_steer steer = {
    .key = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa},
    .lanes = LANES};

/* 66.9.149.187:2794 to 161.142.100.80:1766 */
static const uint8_t tuple4[] = {66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255};
static const uint32_t hash4 = 0x51ccc178;
/* 3ffe:2501:200:1fff::7, port 2794, to 3ffe:2501:200:3::1, port 1766 */
static const uint8_t tuple6[] = {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7,
                                 0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1,
                                 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255};
static const uint32_t hash6 = 0x40207d3d;

static uint8_t frame[256];

static uint32_t owner_of(uint32_t hash)
{
    return hash % MR_NIC_WAYS % LANES;
}

static uint8_t *ether(uint16_t type)
{
    memset(frame, 0, sizeof frame);
    mr_store_be16(frame + 12, type);
    return frame + MR_ETHER_HEADER;
}

static uint32_t put_ip4(uint8_t *at, bool is_mirrored)
{
    at[0] = 0x45;
    at[9] = MR_IP_TCP;
    memcpy(at + 12, tuple4 + (is_mirrored ? 4 : 0), 4);
    memcpy(at + 16, tuple4 + (is_mirrored ? 0 : 4), 4);
    memcpy(at + 20, tuple4 + (is_mirrored ? 10 : 8), 2);
    memcpy(at + 22, tuple4 + (is_mirrored ? 8 : 10), 2);
    return 28; /* as much as an ICMP error quotes at least */
}

static uint32_t put_ip6(uint8_t *at, bool is_mirrored)
{
    at[0] = 0x60;
    at[6] = MR_IP_TCP;
    memcpy(at + 8, tuple6 + (is_mirrored ? 16 : 0), 16);
    memcpy(at + 24, tuple6 + (is_mirrored ? 0 : 16), 16);
    memcpy(at + 40, tuple6 + (is_mirrored ? 34 : 32), 2);
    memcpy(at + 42, tuple6 + (is_mirrored ? 32 : 34), 2);
    return 48;
}

static void test_the_hash_is_the_published_one(void **state)
{
    (void)state;
    assert_int_equal(mr_steer_hash(steer.key, tuple4, sizeof tuple4), hash4);
    assert_int_equal(mr_steer_hash(steer.key, tuple4, 8), 0x323e8fc2); /* without ports */
    assert_int_equal(mr_steer_hash(steer.key, tuple6, sizeof tuple6), hash6);
}

static void test_tcp_goes_where_it_hashes_to_and_errors_about_it_too(void **state)
{
    (void)state;
    uint8_t *ip = ether(MR_ETHER_IP4);
    uint32_t len = MR_ETHER_HEADER + put_ip4(ip, false);
    assert_int_equal(mr_steer_frame(&steer, frame, len), owner_of(hash4));
    ip = ether(MR_ETHER_IP4);
    ip[0] = 0x45;
    ip[9] = MR_IP_ICMP4;
    ip[20] = 3;
    len = MR_ETHER_HEADER + 28 + put_ip4(ip + 28, true);
    assert_int_equal(mr_steer_frame(&steer, frame, len), owner_of(hash4));

    ip = ether(MR_ETHER_IP6);
    len = MR_ETHER_HEADER + put_ip6(ip, false);
    assert_int_equal(mr_steer_frame(&steer, frame, len), owner_of(hash6));
    ip = ether(MR_ETHER_IP6);
    ip[6] = MR_IP_ICMP6;
    ip[40] = 2;
    len = MR_ETHER_HEADER + 48 + put_ip6(ip + 48, true);
    assert_int_equal(mr_steer_frame(&steer, frame, len), owner_of(hash6));
    assert_int_not_equal(owner_of(hash4), owner_of(hash6)); /* or the above shows little */
}

static void test_tcp_behind_extension_headers_goes_there_too(void **state)
{
    (void)state;
    uint8_t *ip = ether(MR_ETHER_IP6);
    uint32_t len = MR_ETHER_HEADER + 8 + put_ip6(ip, false);
    memmove(ip + 48, ip + 40, 8);
    memset(ip + 40, 0, 8);
    ip[6] = 60;
    ip[40] = MR_IP_TCP;
    assert_int_equal(mr_steer_frame(&steer, frame, len), owner_of(hash6));
}

static void test_answers_about_neighbours_are_everybodys(void **state)
{
    (void)state;
    uint8_t *arp = ether(MR_ETHER_ARP);
    mr_store_be16(arp + 6, 2);
    assert_int_equal(mr_steer_frame(&steer, frame, 42), MR_STEER_ALL);
    mr_store_be16(arp + 6, 1);
    assert_int_equal(mr_steer_frame(&steer, frame, 42), MR_STEER_ALL); /* gratuitous */
    arp[27] = 1;
    assert_int_equal(mr_steer_frame(&steer, frame, 42), MR_STEER_HERE);
    uint8_t *ip = ether(MR_ETHER_IP6);
    ip[6] = MR_IP_ICMP6;
    ip[40] = 136;
    assert_int_equal(mr_steer_frame(&steer, frame, 86), MR_STEER_ALL);
    ip[40] = 135;
    assert_int_equal(mr_steer_frame(&steer, frame, 86), MR_STEER_HERE);
}

static void test_one_core_has_everything(void **state)
{
    const struct mr_steer alone = {.lanes = 1};
    (void)state;
    uint32_t len = MR_ETHER_HEADER + put_ip4(ether(MR_ETHER_IP4), false);
    assert_int_equal(mr_steer_frame(&alone, frame, len), MR_STEER_HERE);
}

/* Every length of everything, in memory that ends there. */
static void test_frames_that_end_anywhere_are_read_to_their_end_only(void **state)
{
    (void)state;
    static const uint8_t next[] = {MR_IP_TCP, MR_IP_ICMP4, MR_IP_ICMP6, 0, 43, 60};
    static const uint16_t types[] = {MR_ETHER_ARP, MR_ETHER_IP4, MR_ETHER_IP6};
    for (uint32_t kind = 0; kind < sizeof types / sizeof types[0]; kind++) {
        for (uint32_t above = 0; above < sizeof next; above++) {
            for (uint32_t len = 0; len <= 160; len++) {
                uint8_t *ip = ether(types[kind]);
                memset(ip, 3, sizeof frame - MR_ETHER_HEADER);
                ip[0] = 0x45;
                ip[6] = ip[9] = next[above];
                uint8_t *copy = malloc(len);
                memcpy(copy, frame, len);
                uint32_t whose = mr_steer_frame(&steer, copy, len);
                assert_true(whose < LANES || whose >= MR_STEER_ALL);
                free(copy);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hash_is_the_published_one),
        cmocka_unit_test(test_tcp_goes_where_it_hashes_to_and_errors_about_it_too),
        cmocka_unit_test(test_tcp_behind_extension_headers_goes_there_too),
        cmocka_unit_test(test_answers_about_neighbours_are_everybodys),
        cmocka_unit_test(test_one_core_has_everything),
        cmocka_unit_test(test_frames_that_end_anywhere_are_read_to_their_end_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
