/*
 * tap_host: our TCP/IP behind a TAP device, as a host that the Linux stack can talk to.
 *
 *   tap_host DEVICE MTU [no-sack] [no-ts] [no-scale] [ecn] [loss=N]      N of 10,000 frames are lost each way
 *   tap_host fd:N MTU ...                                                an open socket instead, a frame per message
 *   ... pcap=FILE                                                        what is read and written, for tcpdump
 *
 * 10.77.0.2/24 and fd77::2/64. Port 7001 takes bytes until EOF and answers "COUNT BAD\n"; 7002 reads a number and a newline and sends
 * that many bytes; 7003 sends back what comes; 7004 reads a port and connects to 10.77.0.1 there, as a client of 7003's kind.
 * Byte number n of every stream is n % 251. Prints "ready"; ends with its standard input, printing a line of counters.
 */
#include "millrace/base/prng.h"
#include "net/net.h"
#include "net/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PERIOD  251u
#define PATTERN (PERIOD * 1024u)
#define CONNS   2048u

enum service {
    SINK,
    SOURCE,
    ECHO,
    DIAL,
};

struct copy {
    struct copy *next;
    uint64_t token;
    uint8_t bytes[];
};

struct session {
    struct mr_tcp_conn *conn;
    enum service service;
    uint64_t got;
    uint64_t bad;
    uint64_t to_send;
    uint64_t sent;
    uint64_t token;
    struct copy *copies;
    struct copy **copies_end;
    char line[32];
    uint32_t line_len;
    char answer[64];
};

static uint8_t pattern[PATTERN];
static struct mr_net net;
static struct mr_tcp *tcp;
static int tap;
static uint64_t mismatches;
static uint32_t loss;
static struct mr_prng prng = {.state = 77};
static FILE *capture; /* NULL: none */
static struct mr_pcap pcap;

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void open_tap(const char *name)
{
    if (strncmp(name, "fd:", 3) == 0) {
        tap = atoi(name + 3);
        (void)fcntl(tap, F_SETFL, O_NONBLOCK);
        return;
    }
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request) != 0) {
        perror("/dev/net/tun");
        exit(2);
    }
}

static void answer(struct session *s, const char *text)
{
    snprintf(s->answer, sizeof s->answer, "%s", text);
    struct mr_span span = {(const uint8_t *)s->answer, (uint32_t)strlen(s->answer)};
    (void)mr_tcp_send(s->conn, &span, 1, ++s->token);
}

/* Keeps queued what a long path holds. */
static void feed(struct session *s)
{
    while (s->service == SOURCE && s->sent < s->to_send) {
        struct mr_tcp_info info;
        mr_tcp_info(s->conn, &info);
        if (s->sent - info.bytes_acked > 8u << 20) {
            return;
        }
        uint32_t at = (uint32_t)(s->sent % PERIOD);
        uint64_t left = s->to_send - s->sent;
        uint32_t len = left < PATTERN - at ? (uint32_t)left : PATTERN - at;
        if (mr_tcp_send(s->conn, &(struct mr_span){pattern + at, len}, 1, ++s->token) != MR_OK) {
            return;
        }
        s->sent += len;
        if (s->sent == s->to_send) {
            mr_tcp_finish(s->conn);
        }
    }
}

static void echo(struct session *s, const struct mr_span *span)
{
    struct copy *copy = malloc(sizeof *copy + span->len);
    *copy = (struct copy){.token = ++s->token};
    memcpy(copy->bytes, span->data, span->len);
    if (mr_tcp_send(s->conn, &(struct mr_span){copy->bytes, span->len}, 1, copy->token) != MR_OK) {
        free(copy);
        mr_tcp_abort(s->conn, MR_ERR_NO_MEMORY);
        return;
    }
    *s->copies_end = copy;
    s->copies_end = &copy->next;
}

static void free_copies(struct session *s, uint64_t token)
{
    while (s->copies != NULL && s->copies->token <= token) {
        struct copy *done = s->copies;
        s->copies = done->next;
        s->copies_end = s->copies == NULL ? &s->copies : s->copies_end;
        free(done);
    }
}

static struct session *new_session(enum service service)
{
    struct session *s = calloc(1, sizeof *s);
    s->service = service;
    s->copies_end = &s->copies;
    return s;
}

static void dial(struct session *from, uint16_t port)
{
    struct session *s = new_session(ECHO);
    struct mr_tcp_path path = *mr_tcp_path(from->conn);
    path.local_port = 0;
    path.remote_port = port;
    if (mr_tcp_connect(tcp, &path, s, clock_ns(), &s->conn) != MR_OK) {
        free(s);
    }
}

static void take_line(struct session *s, const struct mr_span *span)
{
    for (uint32_t at = 0; at < span->len && s->line_len + 1 < sizeof s->line; at++) {
        s->line[s->line_len++] = (char)span->data[at];
        if (span->data[at] == '\n') {
            uint64_t number = strtoull(s->line, NULL, 10);
            s->to_send = number;
            if (s->service == DIAL) {
                dial(s, (uint16_t)number);
                mr_tcp_finish(s->conn);
            }
            return;
        }
    }
}

static void take_data(struct session *s, const struct mr_tcp_event *e)
{
    if (s->service == SINK) {
        for (uint32_t at = 0; at < e->span.len; at++) {
            s->bad += e->span.data[at] != (s->got + at) % PERIOD;
        }
    } else if (s->service == ECHO) {
        echo(s, &e->span);
    } else {
        take_line(s, &e->span);
    }
    s->got += e->span.len;
    mr_tcp_consumed(s->conn, e->span.len);
    free(e->buffer);
}

static void take_event(const struct mr_tcp_event *e)
{
    struct session *s = e->user;
    char text[64];
    switch (e->kind) {
    case MR_TCP_OPENED:
        if (s == NULL) {
            s = new_session((enum service)mr_tcp_listener(e->conn));
            s->conn = e->conn;
            mr_tcp_set_user(e->conn, s);
        }
        return;
    case MR_TCP_DATA:
        take_data(s, e);
        break;
    case MR_TCP_SENT:
        free_copies(s, e->token);
        break;
    case MR_TCP_EOF:
        if (s->service == SINK) {
            mismatches += s->bad;
            snprintf(text, sizeof text, "%llu %llu\n", (unsigned long long)s->got, (unsigned long long)s->bad);
            answer(s, text);
        }
        mr_tcp_finish(s->conn);
        return;
    case MR_TCP_END:
        free_copies(s, UINT64_MAX);
        free(s);
        return;
    case MR_TCP_ROOM:
        break;
    }
    feed(s);
}

static void note_frame(const struct mr_span *spans, uint32_t count)
{
    if (capture != NULL) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        (void)mr_pcap_add(&pcap, (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec, spans, count);
        struct mr_span bytes = mr_pcap_take(&pcap);
        (void)!fwrite(bytes.data, 1, bytes.len, capture);
    }
}

static void begin_capture(const char *path)
{
    static uint8_t bytes[1 << 17];
    capture = fopen(path, "wb");
    if (capture == NULL) {
        perror(path);
        exit(2);
    }
    mr_pcap_init(&pcap, bytes, sizeof bytes, 65535);
}

static bool is_lost(void)
{
    return loss > 0 && mr_prng_below(&prng, 10000) < loss;
}

static void transmit(void)
{
    struct mr_net_frame frame;
    while (mr_net_output(&net, clock_ns(), &frame, 1) == 1) {
        struct iovec parts[1 + MR_TCP_SPANS] = {{frame.header, frame.header_len}};
        struct mr_span spans[1 + MR_TCP_SPANS] = {{frame.header, frame.header_len}};
        memcpy(spans + 1, frame.spans, sizeof spans[0] * frame.span_count);
        note_frame(spans, 1 + frame.span_count);
        for (uint32_t index = 0; index < frame.span_count; index++) {
            union {
                const uint8_t *in;
                void *out;
            } pun = {.in = frame.spans[index].data};
            parts[1 + index] = (struct iovec){pun.out, frame.spans[index].len};
        }
        if (!is_lost()) {
            (void)!writev(tap, parts, 1 + (int)frame.span_count); /* a full device is a lost packet */
        }
    }
}

static void receive(void)
{
    static uint8_t frame[65536];
    for (uint32_t burst = 0; burst < 64; burst++) {
        ssize_t len = read(tap, frame, sizeof frame);
        if (len <= 0) {
            return;
        }
        note_frame(&(struct mr_span){frame, (uint32_t)len}, 1);
        if (is_lost()) {
            continue;
        }
        uint8_t *bytes = malloc((size_t)len);
        memcpy(bytes, frame, (size_t)len);
        if (!mr_net_input(&net, bytes, (uint32_t)len, false, bytes, clock_ns())) {
            free(bytes);
        }
    }
}

static void turn(void)
{
    struct mr_tcp_event event;
    void *buffer;
    receive();
    while (mr_tcp_events(tcp, &event, 1) == 1) {
        take_event(&event);
    }
    transmit();
    while (mr_tcp_discarded(tcp, &buffer)) {
        free(buffer);
    }
}

static void init(int argc, char **argv)
{
    struct mr_tcp_params p = mr_tcp_params_default(CONNS);
    p.mtu = (uint16_t)atoi(argv[2]);
    p.time_wait_ns = 5 * MR_NS_PER_S;
    p.secret = (struct mr_hash_key){clock_ns(), (uint64_t)getpid()};
    for (int index = 3; index < argc; index++) {
        p.has_sack = p.has_sack && strcmp(argv[index], "no-sack") != 0;
        p.has_timestamps = p.has_timestamps && strcmp(argv[index], "no-ts") != 0;
        p.has_wscale = p.has_wscale && strcmp(argv[index], "no-scale") != 0;
        p.has_ecn = p.has_ecn || strcmp(argv[index], "ecn") == 0;
        loss = strncmp(argv[index], "loss=", 5) == 0 ? (uint32_t)atoi(argv[index] + 5) : loss;
        if (strncmp(argv[index], "pcap=", 5) == 0) {
            begin_capture(argv[index] + 5);
        }
    }
    struct mr_arena arena;
    mr_arena_init(&arena, calloc(1, mr_tcp_bytes(&p)), mr_tcp_bytes(&p));
    tcp = mr_tcp_init(&p, &arena);
    static const struct mr_address any;
    for (uint16_t service = SINK; service <= DIAL; service++) {
        (void)mr_tcp_listen(tcp, &any, (uint16_t)(7001 + service), service);
    }
    struct mr_net_params params = {.mac = {{2, 0, 0, 0, 0, 77}}, .address_count = 2};
    params.addresses[0].address = (struct mr_address){{[10] = 0xff, 0xff, 10, 77, 0, 2}};
    params.addresses[0].network = (struct mr_network){params.addresses[0].address, 96 + 24};
    params.addresses[1].address = (struct mr_address){{0xfd, 0x77, [15] = 2}};
    params.addresses[1].network = (struct mr_network){params.addresses[1].address, 64};
    mr_net_init(&net, &params, tcp);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "tap_host DEVICE MTU [no-sack] [no-ts] [no-scale] [ecn] [loss=N]\n");
        return 2;
    }
    for (uint32_t at = 0; at < PATTERN; at++) {
        pattern[at] = (uint8_t)(at % PERIOD);
    }
    open_tap(argv[1]);
    init(argc, argv);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[2] = {{.fd = tap, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        uint64_t now_ns = clock_ns();
        uint64_t at_ns = mr_net_deadline_ns(&net);
        uint64_t wait_ns = at_ns <= now_ns ? 0 : mr_earlier(at_ns - now_ns, MR_NS_PER_S);
        struct timespec timeout = {.tv_sec = (time_t)(wait_ns / MR_NS_PER_S), .tv_nsec = (long)(wait_ns % MR_NS_PER_S)};
        (void)ppoll(fds, 2, &timeout, NULL);
        if (fds[1].revents != 0) {
            break;
        }
        turn();
    }
    const struct mr_tcp_counts *counts = mr_tcp_counts(tcp);
    printf("opened %llu in %llu out %llu mismatches %llu drops:", (unsigned long long)counts->opened,
           (unsigned long long)counts->segments_in, (unsigned long long)counts->segments_out, (unsigned long long)mismatches);
    for (uint32_t drop = 0; drop < MR_TCP_DROPS; drop++) {
        if (counts->drops[drop] != 0) {
            printf(" %u:%llu", drop, (unsigned long long)counts->drops[drop]);
        }
    }
    printf("\n");
    if (capture != NULL) {
        (void)fclose(capture);
    }
    return mismatches != 0;
}
