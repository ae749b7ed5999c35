/*
 * test_tcp_attacks: what a hostile peer, or somebody who is none, can do to one stack: a test for each kind of attack. Bounds
 * are numbers of replies, pieces, records and connections; what the worst segment costs is counted by perf/count.py
 * (tcp-sack-flood, tcp-ack-all).
 *
 * The peer is the test: it writes segments, and reads what the stack sends.
 */
#include "millrace/base/prng.h"
#include "tcp/tcp_conn.h"
#include "test.h"

#define PORT 9092

static const struct mr_address here = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static uint8_t text[1 << 16];

static struct rig {
    struct mr_tcp *t;
    struct mr_tcp_conn *c;
    uint64_t now_ns;
    uint32_t out; /* segments that left since the last look */
    uint32_t opened;
    uint32_t ended;
    enum mr_err err;
    struct mr_tcp_segment last;
} rig;

static struct mr_tcp_params params_of(void)
{
    struct mr_tcp_params p = mr_tcp_params_default(64);
    p.has_timestamps = false;
    p.secret = (struct mr_hash_key){77, 78};
    return p;
}

static void make(const struct mr_tcp_params *p)
{
    struct mr_arena arena;
    static const struct mr_address any;
    mr_arena_init(&arena, mr_test_memory(mr_tcp_bytes(p)), mr_tcp_bytes(p));
    rig = (struct rig){.t = mr_tcp_init(p, &arena), .now_ns = MR_NS_PER_S};
    assert_int_equal(mr_tcp_listen(rig.t, &any, PORT, 0), MR_OK);
}

static struct mr_tcp_path path_of(uint32_t who, uint16_t port)
{
    struct mr_tcp_path path = {.local = here, .local_port = PORT, .remote_port = port};
    path.remote = (struct mr_address){{[10] = 0xff, 0xff, 11}};
    mr_store_be16(path.remote.bytes + 14, (uint16_t)who);
    return path;
}

/* Everything that is to be sent is, and everything that is to be told. */
static void turn(void)
{
    struct mr_tcp_segment segments[16];
    struct mr_tcp_event event;
    void *buffer;
    uint32_t count;
    do {
        count = mr_tcp_output(rig.t, rig.now_ns, segments, 16);
        rig.out += count;
        rig.last = count > 0 ? segments[count - 1] : rig.last;
    } while (count == 16);
    while (mr_tcp_events(rig.t, &event, 1) == 1) {
        rig.opened += event.kind == MR_TCP_OPENED;
        rig.c = event.kind == MR_TCP_OPENED ? event.conn : rig.c;
        rig.ended += event.kind == MR_TCP_END;
        rig.err = event.kind == MR_TCP_END ? event.err : rig.err;
    }
    while (mr_tcp_discarded(rig.t, &buffer)) {
    }
    assert_null(mr_tcp_check(rig.t));
}

static void give(struct mr_tcp_segment s)
{
    s.span_count = s.len > 0;
    s.spans[0] = (struct mr_span){text, s.len};
    s.buffer = text;
    (void)mr_tcp_input(rig.t, &s, rig.now_ns);
    turn();
}

/* Open from 11.0.0.1:40000; the peer's next number is 1, ours is what comes back. Returns our next number. */
static uint32_t open_as(const struct mr_tcp_path *path, uint16_t mss, uint8_t scale)
{
    give((struct mr_tcp_segment){.path = *path, .flags = MR_TCP_SYN, .window = 65535, .has_mss = true, .mss = mss,
                                 .is_sack_permitted = true, .has_wscale = true, .wscale = scale});
    uint32_t next = rig.last.seq + 1;
    give((struct mr_tcp_segment){.path = *path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 65535});
    return next;
}

static struct mr_tcp_path peer(void)
{
    return path_of(1, 40000);
}

static uint32_t open_one(void)
{
    struct mr_tcp_path path = peer();
    uint32_t next = open_as(&path, 1460, 7);
    assert_int_equal(rig.opened, 1);
    rig.out = 0;
    return next;
}

static void test_syn_flood_holds_no_memory_and_lets_others_in(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    p.half_open_max = 16;
    make(&p);
    struct mr_prng prng = {.state = 1};
    for (uint32_t count = 0; count < 100000; count++) {
        struct mr_tcp_path path = path_of((uint32_t)mr_prng_below(&prng, 65536), (uint16_t)mr_prng_below(&prng, 65536));
        rig.out = 0;
        give((struct mr_tcp_segment){.path = path, .seq = (uint32_t)mr_prng_next(&prng), .flags = MR_TCP_SYN, .window = 1000});
        assert_true(rig.out <= 1); /* an attack is not made larger */
    }
    assert_int_equal(rig.t->half_open, 16);
    assert_int_equal(rig.t->conns.used, 16);
    for (uint16_t port = 1; port <= 40; port++) { /* no slot is free for a half-open one: all of them by a cookie */
        struct mr_tcp_path path = path_of(70000 % 65536, (uint16_t)(1000 + port));
        (void)open_as(&path, 1460, 7);
        assert_int_equal(rig.opened, port);
    }
    assert_int_equal(rig.t->counts.cookies_taken, 40);
}

static void test_guessed_cookies_open_nothing(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    p.half_open_max = 0;
    make(&p);
    struct mr_tcp_path path = peer();
    struct mr_prng prng = {.state = 2};
    give((struct mr_tcp_segment){.path = path, .flags = MR_TCP_SYN, .window = 1000}); /* cookies are out from now on */
    for (uint32_t count = 0; count < 100000; count++) {
        give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = (uint32_t)mr_prng_next(&prng), .flags = MR_TCP_ACK});
    }
    assert_int_equal(rig.opened, 0);
    assert_int_equal(rig.t->conns.used, 0);
    assert_int_equal(rig.t->counts.drops[MR_TCP_DROP_COOKIE], 100000);
}

/* RFC 6528: paths beside each other begin anywhere; one path goes on with the clock. */
static void test_initial_numbers_cannot_be_guessed_from_others(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    uint32_t buckets[16] = {0};
    for (uint16_t port = 0; port < 16000; port++) {
        struct mr_tcp_path one = path_of(1, port);
        struct mr_tcp_path next = path_of(1, (uint16_t)(port + 1));
        buckets[(mr_tcp_listen_isn(rig.t, &next, 0) - mr_tcp_listen_isn(rig.t, &one, 0)) >> 28]++;
    }
    for (uint32_t bucket = 0; bucket < 16; bucket++) {
        assert_in_range(buckets[bucket], 850, 1150); /* five deviations around 1000 */
    }
    struct mr_tcp_path path = peer();
    assert_int_equal(mr_tcp_listen_isn(rig.t, &path, 4000 * 100) - mr_tcp_listen_isn(rig.t, &path, 0), 100);
}

/* RFC 5961: numbers in the window, but not the exact ones. */
static void test_blind_resets_syns_and_text_do_nothing(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    uint32_t next = open_one();
    struct mr_prng prng = {.state = 3};
    for (uint32_t count = 0; count < 30000; count++) {
        static const uint8_t flags[3] = {MR_TCP_RST, MR_TCP_SYN, MR_TCP_ACK};
        uint32_t seq = 2 + (uint32_t)mr_prng_below(&prng, 60000);
        uint32_t ack = next + 70000 + (uint32_t)mr_prng_below(&prng, 4000000000u);
        give((struct mr_tcp_segment){.path = path, .seq = seq, .ack = ack, .flags = flags[count % 3],
                                     .len = flags[count % 3] == MR_TCP_ACK ? 10 : 0});
        rig.now_ns += MR_NS_PER_MS;
    }
    assert_int_equal(rig.ended, 0);
    assert_int_equal(rig.c->rcv_pos, 0);
    assert_int_equal(rig.c->disorder_count, 0);
    assert_in_range(rig.out, 1, 61); /* a challenge in half a second, of this connection */
    give((struct mr_tcp_segment){.path = path, .seq = 1, .flags = MR_TCP_RST});
    assert_int_equal(rig.ended, 1);
}

/* Two stacks that each hold the other's numbers for wrong: without a limit each answer is answered. */
static void test_two_ends_that_disagree_do_not_storm(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    (void)open_one();
    struct rig left = rig;
    make(&p);
    (void)open_one();
    struct rig right = rig;
    right.c->rcv_nxt += 1000000; /* they lost each other */
    right.c->rcv_adv += 1000000;
    right.c->last_ack += 1000000;
    struct mr_tcp_segment s = {.path = path, .seq = 500000, .ack = 1, .flags = MR_TCP_ACK};
    uint64_t packets = 0;
    for (uint32_t round = 0; round < 10000; round++) { /* ten seconds */
        struct rig *to = round % 2 == 0 ? &left : &right;
        rig = *to;
        rig.out = 0;
        rig.now_ns = (1000 + round) * MR_NS_PER_MS;
        give(s);
        packets += rig.out;
        s.seq = rig.out > 0 ? rig.last.seq : s.seq; /* the answer, or the last thing said once more */
        s.ack = rig.out > 0 ? rig.last.ack : s.ack;
        *to = rig;
    }
    assert_in_range(packets, 2, 2 * 21);
}

/* CVE-2019-11477 to 11479: the smallest segments that a peer can make us send. */
static void test_tiny_mss_is_not_obeyed(void **state)
{
    (void)state;
    for (uint16_t mss = 0; mss <= 600; mss = (uint16_t)(mss + 100)) {
        struct mr_tcp_params p = params_of();
        make(&p);
        struct mr_tcp_path path = peer();
        (void)open_as(&path, mss, 7);
        assert_true(mr_tcp_payload_max(rig.c) >= MR_TCP_MSS_FLOOR_IP4);
        mr_tcp_packet_too_big(rig.t, &path, rig.c->snd_una, 68);
        assert_true(mr_tcp_payload_max(rig.c) >= MR_TCP_MSS_FLOOR_IP4);
    }
}

static uint32_t fill_flight(uint32_t bytes)
{
    struct mr_tcp_params p = params_of();
    p.sent_max = 2 * MR_TCP_SENT_MAX;
    p.burst_bytes = 1 << 16;
    make(&p);
    struct mr_tcp_path path = peer();
    uint32_t next = open_as(&path, 1460, 14);
    rig.c->cwnd = 1u << 30;
    for (uint64_t token = 1; bytes > 0; token++) {
        uint32_t len = bytes < sizeof text ? bytes : (uint32_t)sizeof text;
        assert_int_equal(mr_tcp_send(rig.c, &(struct mr_span){text, len}, 1, token), MR_OK);
        bytes -= len;
        turn();
    }
    return next;
}

/* SACK blocks of single bytes cut what was sent into thousands of pieces: one connection's records stay bounded, and
 * others still get some. */
static void test_sack_flood_is_bounded(void **state)
{
    (void)state;
    uint32_t next = fill_flight(60 * 65536);
    struct mr_tcp_path path = peer();
    for (uint32_t at = 2; at < 60 * 65536 - 100; at += 80) {
        struct mr_tcp_segment s = {.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 65535, .sack_count = 4};
        for (uint32_t index = 0; index < 4; index++) {
            s.sacks[index] = (struct mr_tcp_sack){next + at + 20 * index, next + at + 20 * index + 1};
        }
        give(s);
        rig.now_ns += MR_NS_PER_US;
        assert_true(rig.c->sent_count <= MR_TCP_SENT_MAX);
    }
    assert_int_equal(rig.c->sent_count, MR_TCP_SENT_MAX);
    give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = rig.c->snd_nxt, .flags = MR_TCP_ACK, .window = 65535});
    assert_int_equal(rig.c->sent_count, 0);
}

/* RFC 3465: what an acknowledgement is worth is the bytes in it, and it cannot be given for what was not sent. */
static void test_split_and_optimistic_acks_earn_nothing(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    uint32_t next = open_one();
    uint32_t cwnd = rig.c->cwnd;
    assert_int_equal(mr_tcp_send(rig.c, &(struct mr_span){text, 60000}, 1, 1), MR_OK);
    turn();
    for (uint32_t at = 1; at <= 1460; at++) {
        give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next + at, .flags = MR_TCP_ACK, .window = 65535});
    }
    assert_in_range(rig.c->cwnd, cwnd, cwnd + 1460);
    uint32_t una = rig.c->snd_una;
    give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = rig.c->snd_nxt + 1, .flags = MR_TCP_ACK, .window = 65535});
    assert_int_equal(rig.c->snd_una, una);
    assert_int_equal(rig.t->counts.drops[MR_TCP_DROP_ACK], 1);
}

/* CVE-2018-5390: pieces of one byte with holes between them. */
static void test_reassembly_is_bounded_and_what_is_in_order_still_passes(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    (void)open_one();
    uint32_t next = rig.c->snd_nxt;
    struct mr_prng prng = {.state = 4};
    for (uint32_t count = 0; count < 50000; count++) {
        uint32_t at = 3 + 2 * (uint32_t)mr_prng_below(&prng, 30000);
        give((struct mr_tcp_segment){.path = path, .seq = at, .ack = next, .flags = MR_TCP_ACK, .window = 65535, .len = 1});
        assert_true(rig.c->disorder_ranges <= MR_TCP_RANGES_MAX && rig.c->disorder_count <= MR_TCP_DISORDER_MAX);
    }
    assert_int_equal(rig.c->disorder_ranges, MR_TCP_RANGES_MAX);
    assert_true(rig.t->counts.drops[MR_TCP_DROP_PIECES] > 1000);
    give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 65535, .len = 1000});
    assert_true(rig.c->rcv_pos >= 1000);
}

/* A peer that lives and never reads (sockstress): the connection ends, and the probes do not hurry. */
static void test_window_closed_for_ever_ends_the_connection(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    p.keepalive_idle_ns = 0;
    make(&p);
    struct mr_tcp_path path = peer();
    uint32_t next = open_one();
    give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 0});
    assert_int_equal(mr_tcp_send(rig.c, &(struct mr_span){text, 5000}, 1, 1), MR_OK);
    uint64_t began_ns = rig.now_ns;
    uint32_t probes = 0;
    turn();
    while (rig.ended == 0 && rig.now_ns - began_ns < 2 * p.stalled_timeout_ns) {
        rig.now_ns = mr_tcp_deadline_ns(rig.t) > rig.now_ns ? mr_tcp_deadline_ns(rig.t) : rig.now_ns + 1;
        rig.out = 0;
        turn();
        if (rig.out > 0 && rig.ended == 0) {
            probes += rig.out;
            give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 0});
        }
    }
    assert_int_equal(rig.err, MR_ERR_TIMED_OUT);
    assert_in_range((rig.now_ns - began_ns) / MR_NS_PER_S, p.stalled_timeout_ns / MR_NS_PER_S, p.stalled_timeout_ns / MR_NS_PER_S + 61);
    assert_in_range(probes, 10, 40);
}

/* Silly windows: the peer opens one byte after the other. */
static void test_window_of_a_byte_does_not_make_segments_of_a_byte(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    uint32_t next = open_one();
    give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = 0});
    assert_int_equal(mr_tcp_send(rig.c, &(struct mr_span){text, 5000}, 1, 1), MR_OK);
    turn();
    rig.out = 0;
    rig.c->snd_scale = 0;
    for (uint16_t window = 1; window <= 1000; window++) {
        give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next, .flags = MR_TCP_ACK, .window = window});
    }
    assert_int_equal(rig.out, 0);
}

static void test_forged_icmp_changes_nothing(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    make(&p);
    struct mr_tcp_path path = peer();
    (void)open_one();
    assert_int_equal(mr_tcp_send(rig.c, &(struct mr_span){text, 5000}, 1, 1), MR_OK);
    turn();
    struct mr_prng prng = {.state = 5};
    uint32_t flight = rig.c->snd_nxt - rig.c->snd_una;
    for (uint32_t count = 0; count < 10000; count++) {
        uint32_t seq = rig.c->snd_nxt + (uint32_t)mr_prng_below(&prng, 4294967295u - flight);
        mr_tcp_packet_too_big(rig.t, &path, seq, 600);
        mr_tcp_unreachable(rig.t, &path, seq);
    }
    mr_tcp_unreachable(rig.t, &path, rig.c->snd_una); /* a true one is a soft error */
    turn();
    assert_int_equal(mr_tcp_payload_max(rig.c), 1460);
    assert_int_equal(rig.ended, 0);
    assert_int_equal(rig.t->counts.drops[MR_TCP_DROP_ICMP], 20000);
}

/* Whoever makes us close first leaves TIME-WAIT behind: bounded, the oldest goes. */
static void test_time_wait_is_bounded(void **state)
{
    (void)state;
    struct mr_tcp_params p = params_of();
    p.time_wait_max = 10;
    make(&p);
    for (uint16_t port = 1; port <= 200; port++) {
        struct mr_tcp_path path = path_of(2, port);
        uint32_t next = open_as(&path, 1460, 7);
        mr_tcp_close(rig.c);
        turn();
        give((struct mr_tcp_segment){.path = path, .seq = 1, .ack = next + 1, .flags = MR_TCP_ACK | MR_TCP_FIN, .window = 100});
        assert_true(rig.t->conns.used <= 11 && rig.t->time_wait_count <= 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syn_flood_holds_no_memory_and_lets_others_in),
        cmocka_unit_test(test_guessed_cookies_open_nothing),
        cmocka_unit_test(test_initial_numbers_cannot_be_guessed_from_others),
        cmocka_unit_test(test_blind_resets_syns_and_text_do_nothing),
        cmocka_unit_test(test_two_ends_that_disagree_do_not_storm),
        cmocka_unit_test(test_tiny_mss_is_not_obeyed),
        cmocka_unit_test(test_sack_flood_is_bounded),
        cmocka_unit_test(test_split_and_optimistic_acks_earn_nothing),
        cmocka_unit_test(test_reassembly_is_bounded_and_what_is_in_order_still_passes),
        cmocka_unit_test(test_window_closed_for_ever_ends_the_connection),
        cmocka_unit_test(test_window_of_a_byte_does_not_make_segments_of_a_byte),
        cmocka_unit_test(test_forged_icmp_changes_nothing),
        cmocka_unit_test(test_time_wait_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
