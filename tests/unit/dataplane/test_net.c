/*
 * test_net: frames through one interface: what is answered, what is refused and counted, and two interfaces that find each
 * other by ARP and neighbour discovery and carry a connection.
 */
#include "net/net_parts.h"
#include "tcp/tcp_wire.h"
#include "test.h"

static const struct mr_net_mac mac_a = {{2, 0, 0, 0, 0, 1}};
static const struct mr_net_mac mac_b = {{2, 0, 0, 0, 0, 2}};
static const struct mr_address a4 = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static const struct mr_address b4 = {{[10] = 0xff, 0xff, 10, 0, 0, 2}};
static const struct mr_address a6 = {{0xfd, [15] = 1}};
static const struct mr_address b6 = {{0xfd, [15] = 2}};
static uint64_t now_ns = MR_NS_PER_S;

static struct mr_net *make(const struct mr_net_mac *mac, const struct mr_address *ip4, const struct mr_address *ip6)
{
    struct mr_tcp_params tcp = mr_tcp_params_default(64);
    struct mr_arena arena;
    mr_arena_init(&arena, mr_test_memory(mr_tcp_bytes(&tcp)), mr_tcp_bytes(&tcp));
    struct mr_net_params params = {.mac = *mac, .address_count = 2};
    params.addresses[0] = (struct mr_net_prefix){.network = {.address = *ip4, .bits = 96 + 24}, .address = *ip4};
    params.addresses[1] = (struct mr_net_prefix){.network = {.address = *ip6, .bits = 64}, .address = *ip6};
    struct mr_net *n = mr_test_memory(sizeof *n);
    mr_net_init(n, &params, mr_tcp_init(&tcp, &arena));
    return n;
}

static uint32_t flatten(const struct mr_net_frame *frame, uint8_t *out)
{
    memcpy(out, frame->header, frame->header_len);
    uint32_t len = frame->header_len;
    for (uint32_t index = 0; index < frame->span_count; index++) {
        memcpy(out + len, frame->spans[index].data, frame->spans[index].len);
        len += frame->spans[index].len;
    }
    return len;
}

/* Everything that one has to say goes to the other. Returns the frames. */
static uint32_t carry(struct mr_net *from, struct mr_net *to)
{
    struct mr_net_frame frame;
    uint32_t count = 0;
    static uint8_t frames[256][2048]; /* kept: the engine holds them */
    static uint32_t next;
    while (mr_net_output(from, now_ns, &frame, 1) == 1) {
        uint8_t *bytes = frames[next++ % 256];
        uint32_t len = flatten(&frame, bytes);
        (void)mr_net_input(to, bytes, len, false, bytes, now_ns);
        count++;
    }
    return count;
}

static void settle(struct mr_net *x, struct mr_net *y)
{
    while (carry(x, y) + carry(y, x) > 0) {
    }
}

static void connect_and_talk(const struct mr_address *from, const struct mr_address *to)
{
    struct mr_net *a = make(&mac_a, &a4, &a6);
    struct mr_net *b = make(&mac_b, &b4, &b6);
    struct mr_tcp_path path = {.local = *from, .remote = *to, .remote_port = 9092};
    struct mr_address any = {{0}};
    struct mr_tcp_conn *c;
    struct mr_tcp_event event;
    assert_int_equal(mr_tcp_listen(b->tcp, &any, 9092, 3), MR_OK);
    assert_int_equal(mr_tcp_connect(a->tcp, &path, NULL, now_ns, &c), MR_OK);
    settle(a, b); /* the SYN waits for the neighbour, and is not lost */
    assert_int_equal(mr_tcp_events(a->tcp, &event, 1), 1);
    assert_int_equal(event.kind, MR_TCP_OPENED);
    assert_int_equal(mr_tcp_send(c, &(struct mr_span){(const uint8_t *)"hello", 5}, 1, 1), MR_OK);
    settle(a, b);
    assert_int_equal(mr_tcp_events(b->tcp, &event, 1), 1);
    assert_int_equal(event.kind, MR_TCP_OPENED);
    assert_int_equal(mr_tcp_listener(event.conn), 3);
    assert_int_equal(mr_tcp_events(b->tcp, &event, 1), 1);
    assert_int_equal(event.kind, MR_TCP_DATA);
    assert_memory_equal(event.span.data, "hello", 5);
    for (uint32_t drop = 0; drop < MR_NET_DROPS; drop++) {
        assert_int_equal(a->drops[drop] + b->drops[drop], 0);
    }
}

static void test_neighbours_find_each_other_and_connect_over_ip4(void **state)
{
    (void)state;
    connect_and_talk(&a4, &b4);
}

static void test_neighbours_find_each_other_and_connect_over_ip6(void **state)
{
    (void)state;
    connect_and_talk(&a6, &b6);
}

static void test_a_neighbour_that_never_answers_is_given_up(void **state)
{
    (void)state;
    struct mr_net *a = make(&mac_a, &a4, &a6);
    struct mr_tcp_path path = {.local = a4, .remote = b4, .remote_port = 9092};
    struct mr_tcp_conn *c;
    struct mr_net_frame frame;
    uint32_t asked = 0;
    uint64_t started_ns = now_ns;
    assert_int_equal(mr_tcp_connect(a->tcp, &path, NULL, now_ns, &c), MR_OK);
    while (now_ns - started_ns < 20 * MR_NS_PER_S && mr_net_deadline_ns(a) != MR_NEVER) {
        now_ns = mr_net_deadline_ns(a) > now_ns ? mr_net_deadline_ns(a) : now_ns;
        for (; mr_net_output(a, now_ns, &frame, 1) == 1; asked++) {
            assert_int_equal(mr_load_be16(frame.header + 12), MR_ETHER_ARP);
        }
    }
    assert_in_range(asked, 4, 20);
    assert_true(a->drops[MR_NET_DROP_UNREACHABLE] > 0);
}

/* A frame to A with an IPv4 packet in it; returns its length. */
static uint32_t packet4(uint8_t *frame, uint8_t protocol, const uint8_t *text, uint32_t len)
{
    memcpy(frame, mac_a.bytes, 6);
    memcpy(frame + 6, mac_b.bytes, 6);
    mr_store_be16(frame + 12, MR_ETHER_IP4);
    mr_ip4_header(frame + 14, &b4, &a4, protocol, 0, len);
    memcpy(frame + 34, text, len);
    return 34 + len;
}

static void resum4(uint8_t *frame)
{
    mr_store_be16(frame + 24, 0);
    mr_store_be16(frame + 24, mr_checksum_fold(mr_checksum_add(0, frame + 14, 20)));
}

static void expect_drop(struct mr_net *n, const uint8_t *frame, uint32_t len, enum mr_net_drop why)
{
    uint64_t before = n->drops[why];
    assert_false(mr_net_input(n, frame, len, false, NULL, now_ns));
    assert_int_equal(n->drops[why], before + 1);
    struct mr_net_frame out;
    assert_int_equal(mr_net_output(n, now_ns, &out, 1), 0);
}

static void test_what_does_not_follow_ip4_is_refused_and_counted(void **state)
{
    (void)state;
    struct mr_net *n = make(&mac_a, &a4, &a6);
    uint8_t frame[128] = {0};
    uint8_t text[20] = {[12] = 0x50};
    uint32_t len = packet4(frame, MR_IP_TCP, text, sizeof text);
    expect_drop(n, frame, 13, MR_NET_DROP_LENGTH);
    expect_drop(n, frame, 30, MR_NET_DROP_IP_HEADER);
    expect_drop(n, frame, len - 1, MR_NET_DROP_IP_HEADER);
    expect_drop(n, frame, len, MR_NET_DROP_CHECKSUM);
    frame[14 + 8]--; /* its checksum is wrong now */
    expect_drop(n, frame, len, MR_NET_DROP_IP_HEADER);
    frame[14 + 6] = 0x20; /* more fragments */
    resum4(frame);
    expect_drop(n, frame, len, MR_NET_DROP_FRAGMENT);
    frame[14 + 6] = 0;
    frame[14 + 7] = 1; /* a later fragment */
    resum4(frame);
    expect_drop(n, frame, len, MR_NET_DROP_FRAGMENT);
    len = packet4(frame, 17, text, sizeof text);
    expect_drop(n, frame, len, MR_NET_DROP_PROTOCOL);
    frame[14 + 19] = 9; /* to somebody else */
    resum4(frame);
    expect_drop(n, frame, len, MR_NET_DROP_NOT_OURS);
    (void)packet4(frame, MR_IP_TCP, text, sizeof text);
    frame[14 + 12] = 224; /* from a group */
    resum4(frame);
    expect_drop(n, frame, len, MR_NET_DROP_SOURCE);
    (void)packet4(frame, MR_IP_TCP, text, sizeof text);
    frame[14] = 0x46;
    mr_store_be16(frame + 24, 0);
    mr_store_be16(frame + 24, mr_checksum_fold(mr_checksum_add(0, frame + 14, 24)));
    expect_drop(n, frame, len, MR_NET_DROP_IP_OPTIONS);
    frame[0] = 0xff; /* unicast in a broadcast frame */
    memset(frame, 0xff, 6);
    expect_drop(n, frame, len, MR_NET_DROP_ETHER);
}

static void test_a_ping_comes_back(void **state)
{
    (void)state;
    struct mr_net *n = make(&mac_a, &a4, &a6);
    uint8_t frame[128];
    uint8_t echo[12] = {8, 0, 0, 0, 1, 2, 3, 4, 'p', 'i', 'n', 'g'};
    mr_store_be16(echo + 2, mr_checksum_fold(mr_checksum_add(0, echo, sizeof echo)));
    uint32_t len = packet4(frame, MR_IP_ICMP4, echo, sizeof echo);
    struct mr_net_frame out;
    assert_false(mr_net_input(n, frame, len, false, NULL, now_ns));
    assert_int_equal(mr_net_output(n, now_ns, &out, 1), 1);
    assert_memory_equal(out.header, mac_b.bytes, 6);
    assert_int_equal(out.header[34], 0);
    assert_memory_equal(out.header + 42, "ping", 4);
    assert_int_equal(mr_checksum_fold(mr_checksum_add(0, out.header + 34, sizeof echo)), 0);
    frame[40] ^= 1;
    expect_drop(n, frame, len, MR_NET_DROP_CHECKSUM);
}

/* ICMP "too big" that quotes a segment in flight lowers the MSS; one that quotes another number does nothing. */
static void test_too_big_is_believed_only_for_a_segment_in_flight(void **state)
{
    (void)state;
    struct mr_net *a = make(&mac_a, &a4, &a6);
    struct mr_net *b = make(&mac_b, &b4, &b6);
    struct mr_tcp_path path = {.local = a4, .remote = b4, .remote_port = 9092};
    struct mr_address any = {{0}};
    struct mr_tcp_conn *c;
    static const uint8_t text[3000];
    (void)mr_tcp_listen(b->tcp, &any, 9092, 0);
    assert_int_equal(mr_tcp_connect(a->tcp, &path, NULL, now_ns, &c), MR_OK);
    settle(a, b);
    assert_int_equal(mr_tcp_send(c, &(struct mr_span){text, sizeof text}, 1, 1), MR_OK);
    struct mr_net_frame out;
    assert_int_equal(mr_net_output(a, now_ns, &out, 1), 1);
    for (uint32_t is_right = 0; is_right < 2; is_right++) {
        uint8_t icmp[8 + 28] = {3, 4, 0, 0, 0, 0, 1300 >> 8, 1300 & 255};
        memcpy(icmp + 8, out.header + 14, 28);
        icmp[8 + 24] ^= is_right ? 0 : 0x40; /* the sequence number */
        mr_store_be16(icmp + 2, mr_checksum_fold(mr_checksum_add(0, icmp, sizeof icmp)));
        uint8_t frame[128];
        uint32_t len = packet4(frame, MR_IP_ICMP4, icmp, sizeof icmp);
        assert_false(mr_net_input(a, frame, len, false, NULL, now_ns));
        struct mr_tcp_info info;
        mr_tcp_info(c, &info);
        assert_int_equal(info.mss, is_right ? 1300 - 52 : 1500 - 52);
    }
    assert_int_equal(mr_tcp_counts(a->tcp)->drops[MR_TCP_DROP_ICMP], 1);
    assert_int_equal(mr_net_output(a, now_ns, &out, 1), 1); /* at once, and smaller */
    assert_int_equal(out.len, 1300 - 52);
}

/* Who talks unasked about somebody is not believed; a solicitation is answered only from the link (hop limit 255). */
static void test_neighbour_lies_change_nothing(void **state)
{
    (void)state;
    struct mr_net *n = make(&mac_a, &a4, &a6);
    uint8_t frame[128] = {0};
    static const uint8_t fixed[8] = {0, 1, 8, 0, 6, 4, 0, 2};
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac_b.bytes, 6);
    mr_store_be16(frame + 12, MR_ETHER_ARP);
    memcpy(frame + 14, fixed, 8);
    memcpy(frame + 22, mac_b.bytes, 6);
    memcpy(frame + 28, b4.bytes + 12, 4);
    memcpy(frame + 38, a4.bytes + 12, 4);
    assert_false(mr_net_input(n, frame, 42, false, NULL, now_ns)); /* an answer that nobody asked for */
    assert_null(mr_neighbour_find(n, &b4));
    frame[21] = 1; /* a question */
    assert_false(mr_net_input(n, frame, 42, false, NULL, now_ns));
    assert_non_null(mr_neighbour_find(n, &b4));
    struct mr_net_frame out;
    assert_int_equal(mr_net_output(n, now_ns, &out, 1), 1);
    assert_int_equal(out.header[21], 2);
    memcpy(frame + 28, a4.bytes + 12, 4); /* somebody says that he is us */
    assert_false(mr_net_input(n, frame, 42, false, NULL, now_ns));
    assert_int_equal(n->conflicts, 1);
    expect_drop(n, frame, 41, MR_NET_DROP_ARP);

    uint8_t nd[14 + 40 + 24] = {0};
    memcpy(nd, mac_a.bytes, 6);
    memcpy(nd + 6, mac_b.bytes, 6);
    mr_store_be16(nd + 12, MR_ETHER_IP6);
    for (uint32_t hops = 64; hops <= 255; hops += 191) {
        mr_ip6_header(nd + 14, &b6, &a6, MR_IP_ICMP6, 0, (uint8_t)hops, 24);
        memset(nd + 54, 0, 24);
        nd[54] = 135;
        memcpy(nd + 62, a6.bytes, 16);
        uint64_t sum = mr_checksum_pseudo(&b6, &a6, false, MR_IP_ICMP6, 24);
        mr_store_be16(nd + 56, mr_checksum_fold(mr_checksum_add(sum, nd + 54, 24)));
        if (hops == 64) {
            expect_drop(n, nd, sizeof nd, MR_NET_DROP_ND);
        }
    }
    assert_false(mr_net_input(n, nd, sizeof nd, false, NULL, now_ns));
    assert_int_equal(mr_net_output(n, now_ns, &out, 1), 1);
    assert_int_equal(out.header[54], 136);
}

static void test_checksum_in_parts_is_that_of_the_whole(void **state)
{
    (void)state;
    uint8_t bytes[64];
    for (uint32_t index = 0; index < sizeof bytes; index++) {
        bytes[index] = (uint8_t)(index * 37 + 11);
    }
    for (uint32_t cut = 1; cut < 44; cut++) {
        struct mr_tcp_segment s = {.path = {.local = a4, .remote = b4}, .len = 44, .span_count = 2};
        s.spans[0] = (struct mr_span){bytes + 20, cut};
        s.spans[1] = (struct mr_span){bytes + 20 + cut, 44 - cut};
        uint64_t sum = mr_checksum_pseudo(&a4, &b4, true, MR_IP_TCP, 64);
        assert_int_equal(mr_tcp_wire_checksum(&s, bytes, 20), mr_checksum_fold(mr_checksum_add(sum, bytes, 64)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_find_each_other_and_connect_over_ip4),
        cmocka_unit_test(test_neighbours_find_each_other_and_connect_over_ip6),
        cmocka_unit_test(test_a_neighbour_that_never_answers_is_given_up),
        cmocka_unit_test(test_what_does_not_follow_ip4_is_refused_and_counted),
        cmocka_unit_test(test_a_ping_comes_back),
        cmocka_unit_test(test_too_big_is_believed_only_for_a_segment_in_flight),
        cmocka_unit_test(test_neighbour_lies_change_nothing),
        cmocka_unit_test(test_checksum_in_parts_is_that_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
