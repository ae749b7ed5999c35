/*
 * The transport over our own TCP/IP, with a card made of arrays, against a second stack of ours as the peer. The card reads
 * what was lent to it when the test lets it: what is given back too early arrives as something else.
 */
#include "boot/wait_uring.h"
#include "millrace/base/list.h"
#include "millrace/dataplane.h"
#include "net/net.h"
#include "test.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PORT    9092
#define FRAMES  4096u
#define EVENTS  64u
#define PEERS   8u
#define STEP_NS MR_NS_PER_MS
#define PERIOD  251u

struct wire_frame {
    struct mr_list link;
    uint32_t len;
    bool is_handed;
    uint8_t bytes[2048];
};

static struct {
    struct mr_nic nic; /* first */
    struct mr_list in;   /* to be received */
    struct mr_list others; /* handed to other lanes */
    struct mr_net_frame lent[FRAMES];
    uint32_t held;       /* buffers that the transport has */
    bool is_slow;        /* nothing is read before card_read() */
} card;

static struct {
    struct mr_arena arena;
    struct mr_net net;
    struct mr_tcp *tcp;
} peer;

struct client { /* the peer's side of a connection */
    struct mr_tcp_conn *conn;
    uint64_t received;
    uint64_t wrong; /* bytes that are not n % PERIOD */
    uint64_t sent_token;
    enum mr_err why;
    bool is_open, is_eof, is_ended;
};

struct side { /* what a session has seen */
    struct mr_conn *conn;
    uint64_t received;
    uint64_t wrong;
    uint64_t token;
    uint32_t held_count;
    void *held[1024];
    enum mr_err why;
    bool is_keeping; /* neither consumes nor releases */
    bool is_closed;
};

static struct mr_arena arena;
static struct mr_arena log_arena;
static struct mr_log test_log;
static struct mr_doorbell bell;
static struct mr_wait *wait_;
static struct mr_transport *transport;
static struct mr_nic_params nic_params;
static struct client clients[PEERS];
static struct side sides[PEERS];
static uint32_t client_count, side_count;
static uint64_t now_ns, spin_ns;
static uint32_t lanes = 1;
static uint8_t pattern[PERIOD * 8192];

static const struct mr_address ours = {{[10] = 0xff, 0xff, 10, 0, 0, 2}};
static const struct mr_address theirs = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};

static uint64_t wrong_bytes(struct mr_span span, uint64_t at)
{
    uint64_t wrong = 0;
    for (uint32_t index = 0; index < span.len; index++) {
        wrong += span.data[index] != (at + index) % PERIOD;
    }
    return wrong;
}

/* ---- the card ---- */

static struct wire_frame *flatten(const struct mr_net_frame *frame)
{
    struct wire_frame *wire = calloc(1, sizeof *wire);
    memcpy(wire->bytes, frame->header, frame->header_len);
    wire->len = frame->header_len;
    for (uint32_t index = 0; index < frame->span_count; index++) {
        assert_true(wire->len + frame->spans[index].len <= sizeof wire->bytes);
        memcpy(wire->bytes + wire->len, frame->spans[index].data, frame->spans[index].len);
        wire->len += frame->spans[index].len;
    }
    return wire;
}

static void peer_input(const struct mr_net_frame *frame)
{
    struct wire_frame *wire = flatten(frame);
    if (!mr_net_input(&peer.net, wire->bytes, wire->len, false, wire, now_ns)) {
        free(wire);
    }
}

/* The frame that was sent first and is not read yet. */
static void card_read(bool is_done)
{
    peer_input(&card.lent[card.nic.done % FRAMES]);
    card.nic.done += is_done;
}

static bool card_attach(struct mr_nic *nic)
{
    (void)nic;
    return true;
}

static uint32_t card_receive(struct mr_nic *nic, struct mr_nic_received *frames, uint32_t max)
{
    uint32_t count = 0;
    struct mr_list *link;
    (void)nic;
    while (count < max && (link = mr_list_pop(&card.in)) != NULL) {
        struct wire_frame *wire = MR_LIST_ENTRY(link, struct wire_frame, link);
        frames[count++] = (struct mr_nic_received){.bytes = wire->bytes, .len = wire->len, .is_handed = wire->is_handed, .buffer = wire};
        card.held++;
    }
    return count;
}

static void card_release(struct mr_nic *nic, void *buffer)
{
    (void)nic;
    card.held--;
    free(buffer);
}

static uint32_t card_room(struct mr_nic *nic)
{
    return FRAMES - (uint32_t)(nic->sent - nic->done);
}

static void card_send(struct mr_nic *nic, const struct mr_net_frame *frame)
{
    card.lent[nic->sent++ % FRAMES] = *frame;
}

static void card_flush(struct mr_nic *nic)
{
    while (!card.is_slow && nic->done < nic->sent) {
        card_read(true);
    }
}

static bool card_arm(struct mr_nic *nic)
{
    return nic->wait_fd >= 0;
}

static void card_hand(struct mr_nic *nic, uint32_t lane, const struct mr_nic_received *frame)
{
    struct wire_frame *copy = calloc(1, sizeof *copy);
    assert_int_not_equal(lane, nic->lane);
    memcpy(copy->bytes, frame->bytes, frame->len);
    copy->len = frame->len;
    copy->is_handed = true;
    mr_list_add_tail(&card.others, &copy->link);
}

static const struct mr_nic_ops card_ops = {
    .name = "arrays", .attach = card_attach, .receive = card_receive, .release = card_release,
    .room = card_room, .send = card_send,    .flush = card_flush,     .arm = card_arm,
    .hand = card_hand,
};

/* ---- both sides ---- */

static void take_client_event(const struct mr_tcp_event *event)
{
    struct client *c = event->user;
    if (event->kind == MR_TCP_OPENED) {
        c->is_open = true;
    } else if (event->kind == MR_TCP_DATA) {
        c->wrong += wrong_bytes(event->span, c->received);
        c->received += event->span.len;
        mr_tcp_consumed(event->conn, event->span.len);
        free(event->buffer);
    } else if (event->kind == MR_TCP_SENT) {
        c->sent_token = event->token;
    } else if (event->kind == MR_TCP_EOF) {
        c->is_eof = true;
    } else if (event->kind == MR_TCP_END) {
        c->is_ended = true;
        c->why = event->err;
    }
}

static void peer_turn(void)
{
    struct mr_tcp_event event;
    struct mr_net_frame frame;
    void *buffer;
    while (mr_tcp_events(peer.tcp, &event, 1) == 1) {
        take_client_event(&event);
    }
    while (mr_net_output(&peer.net, now_ns, &frame, 1) == 1) {
        mr_list_add_tail(&card.in, &flatten(&frame)->link);
    }
    while (mr_tcp_discarded(peer.tcp, &buffer)) {
        free(buffer);
    }
}

static void take_data(struct side *side, const struct mr_net_event *event)
{
    side->wrong += wrong_bytes(event->span, side->received);
    side->received += event->span.len;
    if (side->is_keeping) {
        assert_true(side->held_count < 1024);
        side->held[side->held_count++] = event->buffer;
        return;
    }
    transport->ops->release(transport, event->buffer);
    transport->ops->consumed(event->conn, event->span.len);
}

static void take_event(const struct mr_net_event *event)
{
    struct side *side = event->conn->user;
    if (event->kind == MR_NET_OPENED) {
        side = &sides[side_count++];
        *side = (struct side){.conn = event->conn};
        event->conn->user = side;
    } else if (event->kind == MR_NET_DATA) {
        take_data(side, event);
    } else if (event->kind == MR_NET_SENT) {
        assert_true(event->token > side->token);
        side->token = event->token;
    } else if (event->kind == MR_NET_CLOSED) {
        assert_false(side->is_closed);
        side->is_closed = true;
        side->why = event->err;
    }
}

static void step(void)
{
    struct mr_net_event events[EVENTS];
    now_ns += STEP_NS;
    uint32_t count = transport->ops->poll(transport, now_ns, events, EVENTS);
    for (uint32_t index = 0; index < count; index++) {
        take_event(&events[index]);
    }
    (void)transport->ops->poll(transport, now_ns, NULL, 0);
    peer_turn();
}

static void run(uint32_t steps)
{
    for (uint32_t index = 0; index < steps; index++) {
        step();
    }
}

static struct client *join(void)
{
    struct client *c = &clients[client_count++];
    const struct mr_tcp_path path = {.local = theirs, .remote = ours, .remote_port = PORT};
    *c = (struct client){0};
    assert_int_equal(mr_tcp_connect(peer.tcp, &path, c, now_ns, &c->conn), MR_OK);
    run(10);
    assert_true(c->is_open);
    return c;
}

static void client_send(struct client *c, uint32_t len)
{
    assert_true(len <= sizeof pattern);
    assert_int_equal(mr_tcp_send(c->conn, &(struct mr_span){pattern, len}, 1, 1), MR_OK);
}

/* ---- making and ending ---- */

static void peer_init(void)
{
    struct mr_tcp_params p = mr_tcp_params_default(64);
    p.secret = (struct mr_hash_key){1, 2};
    size_t bytes = mr_tcp_bytes(&p);
    mr_arena_init(&peer.arena, calloc(1, bytes), bytes);
    peer.tcp = mr_tcp_init(&p, &peer.arena);
    struct mr_net_params net = {.mac = {{2, 0, 0, 0, 0, 1}}, .address_count = 1};
    net.addresses[0] = (struct mr_net_prefix){.network = {theirs, 96 + 24}, .address = theirs};
    mr_net_init(&peer.net, &net, peer.tcp);
}

static int setup(void **state)
{
    static const struct mr_endpoint listener = {.host = "10.0.0.2", .port = PORT};
    int os_errno;
    (void)state;
    mr_arena_init(&log_arena, calloc(1, 65536), 65536);
    mr_log_init(&test_log, &log_arena, 64, "test");
    for (size_t at = 0; at < sizeof pattern; at++) {
        pattern[at] = (uint8_t)(at % PERIOD);
    }
    client_count = side_count = 0;
    now_ns = MR_NS_PER_S;
    card.nic = (struct mr_nic){.ops = &card_ops, .mac = {2, 0, 0, 0, 0, 2}, .wait_fd = eventfd(0, EFD_NONBLOCK)};
    card.nic.lane_count = lanes;
    card.is_slow = false;
    card.held = 0;
    mr_list_init(&card.in);
    mr_list_init(&card.others);
    peer_init();
    nic_params = (struct mr_nic_params){.buffers = 4096, .mtu = 1500, .our_count = 1, .steer_key = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                                         0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0}};
    nic_params.ours[0] = (struct mr_nic_address){.address = ours, .network = {ours, 96 + 24}};
    assert_true(mr_doorbell_init(&bell));
    wait_ = mr_wait_uring_init(calloc(1, mr_wait_uring_bytes(64)), 64, &bell, &os_errno);
    assert_non_null(wait_);
    struct mr_transport_dpdk_params params = {.wait = wait_,
                                              .log = &test_log,
                                              .arena = &arena,
                                              .nic = &card.nic,
                                              .nic_params = &nic_params,
                                              .listeners = &listener,
                                              .listener_count = 1,
                                              .connections_max = 16,
                                              .receive_bytes = 1u << 20,
                                              .spin_ns = spin_ns,
                                              .secret = {3, 4}};
    size_t bytes = mr_transport_dpdk_bytes(&params);
    mr_arena_init(&arena, calloc(1, bytes), bytes);
    transport = mr_transport_dpdk_init(&params);
    assert_int_equal(transport->ops->listen(transport), MR_OK);
    return 0;
}

static int setup_spinning(void **state)
{
    spin_ns = 20 * STEP_NS;
    int failed = setup(state);
    spin_ns = 0;
    return failed;
}

static int setup_two_lanes(void **state)
{
    lanes = 2;
    int failed = setup(state);
    lanes = 1;
    return failed;
}

/* Every frame that was received is given back, whatever became of its connection. */
static int teardown(void **state)
{
    (void)state;
    for (uint32_t index = 0; index < side_count; index++) {
        for (uint32_t held = 0; held < sides[index].held_count; held++) {
            transport->ops->release(transport, sides[index].held[held]);
        }
        if (!sides[index].is_closed) {
            transport->ops->close(sides[index].conn, MR_ERR_TIMED_OUT);
        }
    }
    card.is_slow = false;
    run(200);
    assert_int_equal(card.held, 0);
    for (uint32_t index = 0; index < side_count; index++) {
        assert_true(sides[index].is_closed);
    }
    (void)close(card.nic.wait_fd);
    mr_wait_uring_deinit(wait_);
    free(wait_);
    mr_doorbell_deinit(&bell);
    free(log_arena.base);
    free(arena.base);
    free(peer.arena.base);
    return 0;
}

/* ---- tests ---- */

static void test_bytes_arrive_as_they_were_sent_both_ways(void **state)
{
    (void)state;
    struct client *c = join();
    assert_int_equal(side_count, 1);
    assert_string_equal(sides[0].conn->peer, "10.0.0.1");
    client_send(c, 300000);
    const struct mr_span spans[] = {{pattern, 7}, {pattern + 7, 200001}, {pattern + 200008, 1}};
    assert_int_equal(transport->ops->send(sides[0].conn, spans, 3, 5), MR_OK);
    run(300);
    assert_int_equal(sides[0].received, 300000);
    assert_int_equal(sides[0].wrong, 0);
    assert_int_equal(sides[0].token, 5);
    assert_int_equal(c->received, 200009);
    assert_int_equal(c->wrong, 0);
    assert_int_equal(c->sent_token, 1);
}

static void test_no_more_is_delivered_than_the_window_that_was_not_consumed(void **state)
{
    (void)state;
    struct client *c = join();
    sides[0].is_keeping = true;
    client_send(c, 500000);
    run(100);
    assert_int_equal(sides[0].received, MR_NET_WINDOW);
    sides[0].conn->window_bytes = 100000; /* a large frame */
    transport->ops->consumed(sides[0].conn, 0);
    run(100);
    assert_int_equal(sides[0].received, 100000);
    sides[0].is_keeping = false;
    transport->ops->consumed(sides[0].conn, 100000);
    run(300);
    assert_int_equal(sides[0].received, 500000);
    assert_int_equal(sides[0].wrong, 0);
}

/* The peer has acknowledged, but the card may still read: the spans are not given back. */
static void test_spans_stay_lent_while_the_card_refers_to_them(void **state)
{
    (void)state;
    struct client *c = join();
    uint8_t lent[1000];
    memcpy(lent, pattern, sizeof lent);
    card.is_slow = true;
    assert_int_equal(transport->ops->send(sides[0].conn, &(struct mr_span){lent, sizeof lent}, 1, 9), MR_OK);
    step();
    assert_int_equal(card.nic.sent - card.nic.done, 1);
    card_read(false); /* and keeps it: a ring that is not cleaned yet */
    run(20);
    assert_int_equal(c->received, sizeof lent);
    assert_int_equal(sides[0].token, 0);
    assert_true(transport->ops->deadline_ns(transport) <= now_ns + MR_NS_PER_MS);
    card.nic.done = card.nic.sent;
    run(2);
    assert_int_equal(sides[0].token, 9);
}

static void test_a_closed_connection_waits_for_the_card_too(void **state)
{
    (void)state;
    (void)join();
    card.is_slow = true;
    assert_int_equal(transport->ops->send(sides[0].conn, &(struct mr_span){pattern, 1000}, 1, 9), MR_OK);
    step();
    transport->ops->close(sides[0].conn, MR_ERR_TIMED_OUT);
    run(20);
    assert_false(sides[0].is_closed);
    card.nic.done = card.nic.sent;
    run(2);
    assert_true(sides[0].is_closed);
    assert_int_equal(sides[0].why, MR_ERR_TIMED_OUT);
}

static void test_close_sends_what_is_queued_then_fin(void **state)
{
    (void)state;
    struct client *c = join();
    assert_int_equal(transport->ops->send(sides[0].conn, &(struct mr_span){pattern, 100000}, 1, 2), MR_OK);
    transport->ops->close(sides[0].conn, MR_OK);
    assert_int_equal(transport->ops->send(sides[0].conn, &(struct mr_span){pattern, 1}, 1, 3), MR_ERR_CLOSED);
    run(100);
    assert_int_equal(c->received, 100000);
    assert_true(c->is_eof);
    assert_true(sides[0].is_closed);
    assert_int_equal(sides[0].why, MR_OK);
}

static void test_a_failed_connection_is_reset(void **state)
{
    (void)state;
    struct client *c = join();
    transport->ops->close(sides[0].conn, MR_ERR_MALFORMED);
    run(10);
    assert_true(c->is_ended);
    assert_int_equal(c->why, MR_ERR_CLOSED);
    assert_true(sides[0].is_closed);
    assert_int_equal(sides[0].why, MR_ERR_MALFORMED);
}

static void test_a_peer_that_has_closed_is_gone_behind_its_bytes(void **state)
{
    (void)state;
    struct client *c = join();
    sides[0].is_keeping = true;
    client_send(c, 40000);
    mr_tcp_finish(c->conn);
    run(50);
    assert_int_equal(sides[0].received, MR_NET_WINDOW);
    assert_false(sides[0].is_closed);
    sides[0].is_keeping = false;
    transport->ops->consumed(sides[0].conn, MR_NET_WINDOW);
    run(50);
    assert_int_equal(sides[0].received, 40000);
    assert_true(sides[0].is_closed);
    assert_int_equal(sides[0].why, MR_ERR_CLOSED);
}

static void test_a_reset_closes_and_gives_the_spans_back(void **state)
{
    (void)state;
    struct client *c = join();
    assert_int_equal(transport->ops->send(sides[0].conn, &(struct mr_span){pattern, 500000}, 1, 2), MR_OK);
    step();
    mr_tcp_abort(c->conn, MR_ERR_CLOSED);
    run(20);
    assert_true(sides[0].is_closed);
    assert_int_equal(sides[0].why, MR_ERR_CLOSED);
}

/* 64 receive buffers, and three who keep what they get: the fourth waits, loses nothing, and goes on. */
static void test_receive_buffers_that_run_out_delay_and_lose_nothing(void **state)
{
    (void)state;
    for (uint32_t index = 0; index < 4; index++) {
        (void)join();
        sides[index].is_keeping = index < 3;
        sides[index].conn->window_bytes = index < 3 ? 400000 : MR_NET_WINDOW;
    }
    for (uint32_t index = 0; index < 4; index++) {
        client_send(&clients[index], 600000);
    }
    run(400);
    assert_true(sides[0].received + sides[1].received + sides[2].received >= 900000);
    assert_true(sides[3].received < 600000);
    assert_true(transport->ops->deadline_ns(transport) > now_ns); /* it does not spin */
    for (uint32_t index = 0; index < 3; index++) {
        struct side *side = &sides[index];
        side->is_keeping = false;
        while (side->held_count > 0) {
            transport->ops->release(transport, side->held[--side->held_count]);
        }
        transport->ops->consumed(side->conn, (uint32_t)side->received);
    }
    run(4000);
    for (uint32_t index = 0; index < 4; index++) {
        assert_int_equal(sides[index].received, 600000);
        assert_int_equal(sides[index].wrong, 0);
    }
}

static void test_an_idle_card_is_waited_for_by_the_ring(void **state)
{
    (void)state;
    uint64_t one = 1;
    run(5);
    assert_true(transport->ops->deadline_ns(transport) > now_ns);
    mr_wait(wait_, 0);
    assert_int_equal(mr_wait_ready(wait_, MR_WAIT_TAG_TRANSPORT), 0);
    assert_int_equal(write(card.nic.wait_fd, &one, sizeof one), sizeof one);
    mr_wait(wait_, MR_NEVER);
    assert_int_equal(mr_wait_ready(wait_, MR_WAIT_TAG_TRANSPORT), 1);
}

/* Asked for, a card that has become quiet is asked on for a while, and only then waited for. */
static void test_a_quiet_card_is_asked_for_as_long_as_configured(void **state)
{
    (void)state;
    (void)join();
    client_send(&clients[0], 1);
    step();
    for (uint32_t index = 0; index < 15; index++) {
        step();
        assert_int_equal(transport->ops->deadline_ns(transport), 0);
    }
    run(100); /* the last acknowledgement too is long ago */
    assert_true(transport->ops->deadline_ns(transport) > now_ns);
}

/* The other lane is played by this one: what was handed to it comes back as handed over. */
static void test_what_another_core_is_meant_by_is_handed_to_it(void **state)
{
    const struct mr_tcp_path path = {.local = theirs, .remote = ours, .remote_port = PORT};
    struct mr_list *link;
    uint32_t open_count = 0;
    (void)state;
    for (struct client *c = clients; c < clients + PEERS; c++) {
        *c = (struct client){0};
        assert_int_equal(mr_tcp_connect(peer.tcp, &path, c, now_ns, &c->conn), MR_OK);
        run(10);
        open_count += c->is_open;
    }
    client_count = PEERS;
    assert_int_equal(side_count, open_count);
    assert_in_range(open_count, 1, PEERS - 1);
    for (uint32_t turn = 0; turn < 100; turn++) {
        while ((link = mr_list_pop(&card.others)) != NULL) {
            mr_list_add_tail(&card.in, link);
        }
        run(20);
    }
    assert_int_equal(side_count, PEERS);
    for (const struct client *c = clients; c < clients + PEERS; c++) {
        assert_true(c->is_open);
    }
}

static void test_a_listener_is_an_address(void **state)
{
    (void)state;
    assert_int_equal(transport->ops->listen(transport), MR_ERR_EXISTS);
    transport->ops->stop_listening(transport);
    const struct mr_tcp_path path = {.local = theirs, .remote = ours, .remote_port = PORT};
    struct client *c = &clients[client_count++];
    *c = (struct client){0};
    assert_int_equal(mr_tcp_connect(peer.tcp, &path, c, now_ns, &c->conn), MR_OK);
    run(10);
    assert_true(c->is_ended);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bytes_arrive_as_they_were_sent_both_ways),
        TEST(test_no_more_is_delivered_than_the_window_that_was_not_consumed),
        TEST(test_spans_stay_lent_while_the_card_refers_to_them),
        TEST(test_a_closed_connection_waits_for_the_card_too),
        TEST(test_close_sends_what_is_queued_then_fin),
        TEST(test_a_failed_connection_is_reset),
        TEST(test_a_peer_that_has_closed_is_gone_behind_its_bytes),
        TEST(test_a_reset_closes_and_gives_the_spans_back),
        TEST(test_receive_buffers_that_run_out_delay_and_lose_nothing),
        TEST(test_an_idle_card_is_waited_for_by_the_ring),
        cmocka_unit_test_setup_teardown(test_what_another_core_is_meant_by_is_handed_to_it, setup_two_lanes, teardown),
        cmocka_unit_test_setup_teardown(test_a_quiet_card_is_asked_for_as_long_as_configured, setup_spinning, teardown),
        TEST(test_a_listener_is_an_address),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
