/*
 * Kernel sockets over io_uring, against plain client sockets in the same thread. Nothing sleeps: the
 * ring is asked until what must happen has happened.
 */
#include "boot/wait_uring.h"
#include "millrace/dataplane.h"
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

static struct mr_arena arena;
static struct mr_doorbell bell;
static struct mr_wait *wait_;
static struct mr_transport *transport;
static uint16_t port;

struct side { /* what the broker's side of a connection has seen */
    struct mr_conn *conn;
    uint64_t received;
    uint64_t checksum;
    uint64_t sent_token;
    uint32_t held_count;
    void *held[4096];
    uint32_t deliveries; /* polls that brought bytes */
    bool is_keeping;     /* neither consumes nor releases */
    bool is_closed;
    bool is_room;
};

static struct side sides[64];
static uint32_t side_count;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void step(void)
{
    struct mr_net_event events[EVENTS];
    uint32_t count = transport->ops->poll(transport, now_ns(), events, EVENTS);
    const struct side *before = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct side *side = events[i].conn->user;
        switch (events[i].kind) {
        case MR_NET_OPENED:
            sides[side_count] = (struct side){.conn = events[i].conn};
            events[i].conn->user = &sides[side_count++];
            break;
        case MR_NET_DATA:
            for (uint32_t at = 0; at < events[i].span.len; at++) {
                side->checksum = side->checksum * 31 + events[i].span.data[at];
            }
            side->received += events[i].span.len;
            side->deliveries += side != before;
            before = side;
            if (side->is_keeping) {
                side->held[side->held_count++] = events[i].buffer;
            } else {
                transport->ops->release(transport, events[i].buffer);
                transport->ops->consumed(side->conn, events[i].span.len);
            }
            break;
        case MR_NET_SENT:
            side->sent_token = events[i].token;
            break;
        case MR_NET_ROOM:
            side->is_room = true;
            break;
        case MR_NET_CLOSED:
            side->is_closed = true;
            break;
        }
    }
    transport->ops->poll(transport, now_ns(), NULL, 0);
    mr_wait(wait_, now_ns() + 1000000);
}

#define UNTIL(condition_)                          \
    do {                                           \
        uint64_t until_ = now_ns() + 10000000000u; \
        while (!(condition_)) {                    \
            assert_true(now_ns() < until_);        \
            step();                                \
        }                                          \
    } while (0)

static int setup_with(int32_t receive_buffer_bytes)
{
    static struct mr_endpoint listener;
    int os_errno;
    /* a free port, asked from the kernel */
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(probe, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(probe, (struct sockaddr *)&address, &len), 0);
    port = ntohs(address.sin_port);
    close(probe);
    snprintf(listener.host, sizeof listener.host, "127.0.0.1");
    listener.port = port;
    side_count = 0;
    mr_arena_init(&arena, mr_test_memory(1u << 30), 1u << 30);
    assert_true(mr_doorbell_init(&bell));
    wait_ = mr_wait_uring_init(mr_arena_get(&arena, mr_wait_uring_bytes(256), 64), 256, &bell,
                               &os_errno);
    if (wait_ == NULL) {
        skip();
    }
    const struct mr_transport_uring_params params = {.wait = wait_,
                                                     .arena = &arena,
                                                     .listeners = &listener,
                                                     .listener_count = 1,
                                                     .connections_max = 32,
                                                     .receive_bytes = 4u << 20,
                                                     .socket_send_buffer_bytes = -1,
                                                     .socket_receive_buffer_bytes = receive_buffer_bytes,
                                                     .listen_backlog = 50};
    size_t before = arena.used;
    transport = mr_transport_uring_init(&params);
    assert_true(arena.used - before <= mr_transport_uring_bytes(&params));
    assert_int_equal(transport->ops->listen(transport), MR_OK);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(-1);
}

static int setup_small_socket(void **state)
{
    (void)state;
    return setup_with(8192);
}

static int teardown(void **state)
{
    (void)state;
    transport->ops->stop_listening(transport);
    for (int i = 0; i < 3; i++) {
        step();
    }
    mr_wait_uring_deinit(wait_);
    mr_doorbell_deinit(&bell);
    return 0;
}

static int join(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint32_t before = side_count;
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    UNTIL(side_count > before);
    return fd;
}

static void test_bytes_arrive_in_order_however_they_were_sent(void **state)
{
    (void)state;
    int fd = join();
    struct side *side = &sides[0];
    uint64_t checksum = 0;
    uint64_t sent = 0;
    uint8_t chunk[100000];
    assert_string_equal(side->conn->peer, "127.0.0.1");
    assert_true(side->conn->is_loopback);
    for (uint32_t round = 0; round < 60; round++) {
        size_t len = 1 + (round * 7919) % sizeof chunk;
        for (size_t i = 0; i < len; i++) {
            chunk[i] = (uint8_t)(i * 13 + round);
            checksum = checksum * 31 + chunk[i];
        }
        for (size_t at = 0; at < len;) {
            ssize_t put = write(fd, chunk + at, len - at);
            at += put > 0 ? (size_t)put : 0;
            step();
        }
        sent += len;
    }
    UNTIL(side->received == sent);
    assert_true(side->checksum == checksum);
    close(fd);
    UNTIL(side->is_closed);
}

static void test_window_bounds_what_is_delivered_and_grows(void **state)
{
    (void)state;
    static uint8_t data[1u << 20];
    int fd = join();
    struct side *side = &sides[0];
    side->is_keeping = true;
    uint64_t checksum = 0;
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i >> 7);
        checksum = checksum * 31 + data[i];
    }
    size_t at = 0;
    for (int i = 0; i < 200; i++) {
        ssize_t put = write(fd, data + at, sizeof data - at);
        at += put > 0 ? (size_t)put : 0;
        step();
    }
    assert_true(side->received >= MR_NET_WINDOW && side->received < 2 * MR_NET_WINDOW);
    side->conn->window_bytes = sizeof data;
    transport->ops->consumed(side->conn, 0);
    uint64_t until = now_ns() + 10000000000u;
    while (side->received < sizeof data) {
        ssize_t put = at < sizeof data ? write(fd, data + at, sizeof data - at) : 0;
        at += put > 0 ? (size_t)put : 0;
        assert_true(now_ns() < until);
        step();
    }
    assert_true(side->checksum == checksum);
    for (uint32_t i = 0; i < side->held_count; i++) {
        transport->ops->release(transport, side->held[i]);
    }
    transport->ops->consumed(side->conn, sizeof data);
    close(fd);
    UNTIL(side->is_closed);
}

/* As a session that has seen the head of a frame: the window is open, and so much is to come. */
static struct side *expect(uint32_t rest)
{
    struct side *side = &sides[0];
    side->is_keeping = true;
    side->conn->window_bytes = 2u << 20;
    side->conn->rest_bytes = rest;
    return side;
}

static void give_back(struct side *side)
{
    for (uint32_t i = 0; i < side->held_count; i++) {
        transport->ops->release(transport, side->held[i]);
    }
    transport->ops->consumed(side->conn, (uint32_t)side->received);
    side->held_count = 0;
    side->is_keeping = false;
}

/* `len` bytes in writes of `each`, with a turn of the broker behind every one. */
static uint64_t write_slowly(int fd, size_t len, size_t each)
{
    static uint8_t data[1u << 20];
    uint64_t checksum = 0;
    assert_true(len <= sizeof data);
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 9));
        checksum = checksum * 31 + data[i];
    }
    for (size_t at = 0; at < len;) {
        ssize_t put = write(fd, data + at, len - at < each ? len - at : each);
        at += put > 0 ? (size_t)put : 0;
        step();
    }
    return checksum;
}

static void test_a_large_frame_comes_in_large_pieces(void **state)
{
    (void)state;
    int fd = join();
    const uint8_t first[16] = {0};
    struct side *side = expect(sizeof first + (1u << 20));
    assert_int_equal(write(fd, first, sizeof first), sizeof first);
    UNTIL(side->received == sizeof first); /* a new frame waits for nothing */
    side->deliveries = 0;
    uint64_t checksum = write_slowly(fd, 1u << 20, 16384);
    UNTIL(side->received == sizeof first + (1u << 20));
    assert_true(side->checksum == checksum);
    assert_int_equal(side->conn->rest_bytes, 0);
    assert_in_range(side->deliveries, 1, 16); /* of 64 writes; a machine that stands still may add some */
    give_back(side);

    /* The frame behind it is small, and is not waited for. */
    side->received = 0;
    assert_int_equal(write(fd, first, sizeof first), sizeof first);
    UNTIL(side->received == sizeof first);
    close(fd);
    UNTIL(side->is_closed);
}

static void test_bytes_are_kept_back_for_a_moment_only(void **state)
{
    (void)state;
    int fd = join();
    struct side *side = expect(500000);
    uint64_t checksum = write_slowly(fd, 50000, 1000);
    UNTIL(side->received == 50000); /* there is no more to come, as far as anybody knows */
    assert_true(side->checksum == checksum);
    assert_int_equal(side->conn->rest_bytes, 450000);
    assert_int_equal(write(fd, "x", 1), 1);
    UNTIL(side->received == 50001);
    give_back(side);
    close(fd);
    UNTIL(side->is_closed);
}

static void test_a_peer_that_leaves_in_the_middle_of_a_frame_is_noticed(void **state)
{
    (void)state;
    int fd = join();
    struct side *side = expect(900000);
    uint64_t checksum = write_slowly(fd, 200000, 200000);
    uint64_t left_ns = now_ns();
    close(fd);
    UNTIL(side->is_closed);
    assert_true(now_ns() - left_ns < 5000000000u);
    assert_int_equal(side->received, 200000);
    assert_true(side->checksum == checksum);
    give_back(side);
}

/* The kernel's buffer is full long before the mark is reached: it has to wake us then. */
static void test_a_frame_larger_than_the_kernels_buffer_flows(void **state)
{
    (void)state;
    int fd = join();
    struct side *side = expect(1u << 20);
    uint64_t began_ns = now_ns();
    uint64_t checksum = write_slowly(fd, 1u << 20, 65536);
    UNTIL(side->received == 1u << 20);
    assert_true(side->checksum == checksum);
    assert_true(now_ns() - began_ns < 3000000000u); /* 6 s, if every piece waited to be given up */
    give_back(side);
    close(fd);
    UNTIL(side->is_closed);
}

static void test_many_pieces_leave_in_order_and_are_reported_when_done(void **state)
{
    (void)state;
    static uint8_t data[3000][997];
    static struct mr_span spans[3000];
    int fd = join();
    struct side *side = &sides[0];
    for (uint32_t i = 0; i < 3000; i++) {
        memset(data[i], (int)(i % 251), sizeof data[i]);
        spans[i] = (struct mr_span){.data = data[i], .len = sizeof data[i]};
    }
    assert_int_equal(transport->ops->send(side->conn, spans, 2000, 1), MR_OK);
    assert_int_equal(transport->ops->send(side->conn, spans + 2000, 1000, 2), MR_OK);
    transport->ops->close(side->conn, MR_OK); /* after what is queued */
    uint64_t got = 0;
    uint64_t until = now_ns() + 10000000000u;
    for (bool is_end = false; !is_end;) {
        uint8_t buffer[65536];
        ssize_t len = read(fd, buffer, sizeof buffer);
        for (ssize_t i = 0; i < len; i++, got++) {
            assert_int_equal(buffer[i], (got / 997) % 251);
        }
        is_end = len == 0;
        assert_true(len >= 0 || errno == EAGAIN);
        assert_true(now_ns() < until);
        step();
    }
    assert_int_equal(got, 3000 * 997);
    UNTIL(side->is_closed);
    assert_int_equal(side->sent_token, 2);
    close(fd);
}

static void test_connections_come_and_go_without_mixing(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        int fd = join();
        struct side *side = &sides[side_count - 1];
        uint8_t byte = (uint8_t)round;
        assert_int_equal(write(fd, &byte, 1), 1);
        UNTIL(side->received == 1);
        assert_int_equal(side->checksum, byte);
        struct mr_span span = {.data = &byte, .len = 1};
        assert_int_equal(transport->ops->send(side->conn, &span, 1, 1), MR_OK);
        switch (round % 3) {
        case 0: /* the peer leaves at once */
            close(fd);
            fd = -1;
            break;
        case 1:
            transport->ops->close(side->conn, MR_OK);
            break;
        case 2:
            transport->ops->close(side->conn, MR_ERR_TIMED_OUT);
            break;
        }
        UNTIL(side->is_closed);
        assert_int_equal(side->received, 1);
        if (fd >= 0) {
            close(fd);
        }
    }
}

static void test_reader_that_does_not_read_is_cut_by_an_error_close(void **state)
{
    (void)state;
    static uint8_t data[16u << 20];
    int fd = join();
    struct side *side = &sides[0];
    struct mr_span span = {.data = data, .len = sizeof data};
    assert_int_equal(transport->ops->send(side->conn, &span, 1, 1), MR_OK);
    for (int i = 0; i < 20; i++) {
        step();
    }
    assert_int_equal(side->sent_token, 0);
    transport->ops->close(side->conn, MR_ERR_TIMED_OUT);
    UNTIL(side->is_closed);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_bytes_arrive_in_order_however_they_were_sent),
        TEST(test_window_bounds_what_is_delivered_and_grows),
        TEST(test_a_large_frame_comes_in_large_pieces),
        TEST(test_bytes_are_kept_back_for_a_moment_only),
        TEST(test_a_peer_that_leaves_in_the_middle_of_a_frame_is_noticed),
        TEST(test_a_frame_larger_than_the_kernels_buffer_flows),
        cmocka_unit_test_setup_teardown(test_a_frame_larger_than_the_kernels_buffer_flows, setup_small_socket, teardown),
        TEST(test_many_pieces_leave_in_order_and_are_reported_when_done),
        TEST(test_connections_come_and_go_without_mixing),
        TEST(test_reader_that_does_not_read_is_cut_by_an_error_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
