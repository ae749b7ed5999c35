#include "tcp_script.h"

#include "golden.h"
#include "tcp/tcp_conn.h"
#include "test.h"

#define PEER_ISN 5000u
#define TEXT_MAX 65536u
#define SENT_MAX 1000000u

struct script {
    struct mr_tcp *t;
    struct mr_tcp_conn *c;
    struct mr_tcp_params params;
    struct mr_tcp_path path;
    uint64_t start_ns;
    uint64_t now_ns;
    uint32_t iss;
    uint64_t token;
    char *out;
    size_t len;
};

static void say(struct script *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct script *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int written = vsnprintf(s->out + s->len, TEXT_MAX - s->len, format, args);
    va_end(args);
    assert_in_range(written, 0, TEXT_MAX - s->len - 1);
    s->len += (size_t)written;
}

static const char flag_names[] = "FSRP.UEC";

static void say_segment(struct script *s, const struct mr_tcp_segment *seg)
{
    if ((seg->flags & MR_TCP_SYN) != 0) {
        s->iss = seg->seq;
    }
    char flags[9] = {0};
    for (uint32_t bit = 0, at = 0; bit < 8; bit++) {
        if ((seg->flags >> bit & 1) != 0) {
            flags[at++] = flag_names[bit];
        }
    }
    say(s, "> %8.3f %s %u:%u", (double)(s->now_ns - s->start_ns) / 1e6, flags, seg->seq - s->iss, seg->len);
    if ((seg->flags & MR_TCP_ACK) != 0) {
        say(s, " ack %u", seg->ack - PEER_ISN);
    }
    say(s, " win %u", seg->window);
    if (seg->has_mss) {
        say(s, " mss %u", seg->mss);
    }
    if (seg->has_wscale) {
        say(s, " scale %u", seg->wscale);
    }
    if (seg->is_sack_permitted) {
        say(s, " permit");
    }
    if (seg->has_ts) {
        say(s, " ts %u %u", seg->ts_value - mr_tcp_listen_ts_offset(s->t, &s->path), seg->ts_echo);
    }
    for (uint32_t index = 0; index < seg->sack_count; index++) {
        say(s, " sack %u-%u", seg->sacks[index].start - PEER_ISN, seg->sacks[index].end - PEER_ISN);
    }
    say(s, "%s\n", seg->ecn != 0 ? " ect" : "");
}

static void say_events(struct script *s)
{
    struct mr_tcp_event e;
    while (mr_tcp_events(s->t, &e, 1) == 1) {
        switch (e.kind) {
        case MR_TCP_OPENED:
            s->c = e.conn;
            say(s, "* opened\n");
            break;
        case MR_TCP_DATA:
            say(s, "* data %u\n", e.span.len);
            break;
        case MR_TCP_SENT:
            say(s, "* sent %llu\n", (unsigned long long)e.token);
            break;
        case MR_TCP_ROOM:
            say(s, "* room\n");
            break;
        case MR_TCP_EOF:
            say(s, "* eof\n");
            break;
        case MR_TCP_END:
            say(s, "* end: %s\n", mr_err_text(e.err));
            s->c = NULL;
            break;
        }
    }
}

static void turn(struct script *s)
{
    struct mr_tcp_segment seg;
    void *buffer;
    say_events(s);
    while (mr_tcp_output(s->t, s->now_ns, &seg, 1) == 1) {
        say_segment(s, &seg);
    }
    say_events(s);
    while (mr_tcp_discarded(s->t, &buffer)) {
    }
    const char *broken = mr_tcp_check(s->t);
    if (broken != NULL) {
        fail_msg("%s, behind:\n%s", broken, s->out);
    }
}

static void start(struct script *s, bool is_listening)
{
    struct mr_arena arena;
    mr_arena_init(&arena, mr_test_memory(mr_tcp_bytes(&s->params)), mr_tcp_bytes(&s->params));
    s->t = mr_tcp_init(&s->params, &arena);
    if (is_listening) {
        assert_int_equal(mr_tcp_listen(s->t, &s->path.local, s->path.local_port, 0), MR_OK);
        return;
    }
    assert_int_equal(mr_tcp_connect(s->t, &s->path, NULL, s->now_ns, &s->c), MR_OK);
    turn(s);
}

static void set(struct script *s, const char *what, uint64_t value)
{
    struct mr_tcp_params *p = &s->params;
    const struct {
        const char *name;
        uint32_t *number;
        bool *flag;
    } rows[] = {{"no-sack", NULL, &p->has_sack},      {"no-ts", NULL, &p->has_timestamps}, {"no-scale", NULL, &p->has_wscale},
                {"ecn", NULL, &p->has_ecn},           {"window", &p->window_initial, NULL}, {"sent", &p->sent_max, NULL},
                {"pieces", &p->pieces_max, NULL},     {"blocks", &p->blocks_max, NULL},    {"half-open", &p->half_open_max, NULL},
                {"conns", &p->conns_max, NULL}};
    for (uint32_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        if (strcmp(rows[index].name, what) == 0) {
            if (rows[index].flag != NULL) {
                *rows[index].flag = strncmp(what, "no-", 3) != 0;
            } else {
                *rows[index].number = (uint32_t)value;
            }
            return;
        }
    }
    if (strcmp(what, "mtu") == 0) {
        p->mtu = (uint16_t)value;
    } else if (strcmp(what, "time") == 0) {
        s->start_ns = s->now_ns = value * MR_NS_PER_MS;
    } else if (strcmp(what, "user-timeout") == 0) {
        p->user_timeout_ns = value * MR_NS_PER_MS;
    } else if (strcmp(what, "wrap") == 0) { /* our sequence numbers wrap after so many bytes */
        struct mr_tcp t = {.params = *p};
        uint64_t ticks = 0u - mr_tcp_listen_isn(&t, &s->path, 0) - (uint32_t)value;
        s->start_ns = s->now_ns = (uint32_t)ticks * 4000ull;
    } else {
        fail_msg("set %s?", what);
    }
}

static uint8_t read_flags(const char *text)
{
    uint8_t flags = 0;
    for (; *text != '\0' && *text != '-'; text++) {
        flags |= (uint8_t)(1u << (strchr(flag_names, *text) - flag_names));
    }
    return flags;
}

static char *word(char **rest)
{
    return strsep(rest, " \n");
}

static uint32_t number(char **rest)
{
    char *text = word(rest);
    assert_non_null(text);
    return (uint32_t)strtoul(text, NULL, 10);
}

static void arrive(struct script *s, char *rest)
{
    static uint8_t text[65536];
    struct mr_tcp_segment seg = {.path = s->path, .buffer = text};
    seg.flags = read_flags(word(&rest));
    char *at = word(&rest);
    seg.seq = PEER_ISN + (uint32_t)strtoul(strsep(&at, ":"), NULL, 10);
    seg.len = (uint32_t)strtoul(at, NULL, 10);
    seg.span_count = seg.len > 0;
    seg.spans[0] = (struct mr_span){text, seg.len};
    for (char *key; (key = word(&rest)) != NULL && *key != '\0';) {
        if (strcmp(key, "ack") == 0) {
            seg.ack = s->iss + number(&rest);
        } else if (strcmp(key, "win") == 0) {
            seg.window = (uint16_t)number(&rest);
        } else if (strcmp(key, "mss") == 0) {
            seg.has_mss = true;
            seg.mss = (uint16_t)number(&rest);
        } else if (strcmp(key, "scale") == 0) {
            seg.has_wscale = true;
            seg.wscale = (uint8_t)number(&rest);
        } else if (strcmp(key, "ts") == 0) {
            seg.has_ts = true;
            seg.ts_value = number(&rest);
            seg.ts_echo = number(&rest) + mr_tcp_listen_ts_offset(s->t, &s->path);
        } else if (strcmp(key, "permit") == 0) {
            seg.is_sack_permitted = true;
        } else if (strcmp(key, "ce") == 0) {
            seg.ecn = MR_TCP_CE;
        } else if (strcmp(key, "sack") == 0) {
            char *range = word(&rest);
            seg.sacks[seg.sack_count].start = s->iss + (uint32_t)strtoul(strsep(&range, "-"), NULL, 10);
            seg.sacks[seg.sack_count++].end = s->iss + (uint32_t)strtoul(range, NULL, 10);
        } else {
            fail_msg("a segment with %s?", key);
        }
    }
    (void)mr_tcp_input(s->t, &seg, s->now_ns);
    turn(s);
}

static void act(struct script *s, char *rest)
{
    static const uint8_t sent[SENT_MAX];
    char *what = word(&rest);
    if (strcmp(what, "send") == 0) {
        struct mr_span span = {sent, number(&rest)};
        enum mr_err err = mr_tcp_send(s->c, &span, 1, ++s->token);
        if (err != MR_OK) {
            say(s, "* %s\n", mr_err_text(err));
        }
    } else if (strcmp(what, "consume") == 0) {
        mr_tcp_consumed(s->c, number(&rest));
    } else if (strcmp(what, "finish") == 0) {
        mr_tcp_finish(s->c);
    } else if (strcmp(what, "close") == 0) {
        mr_tcp_close(s->c);
    } else if (strcmp(what, "abort") == 0) {
        mr_tcp_abort(s->c, MR_ERR_CLOSED);
    } else if (strcmp(what, "too-big") == 0) {
        uint32_t seq = s->iss + number(&rest);
        mr_tcp_packet_too_big(s->t, &s->path, seq, number(&rest));
    } else if (strcmp(what, "show") == 0) {
        struct mr_tcp_info info;
        mr_tcp_info(s->c, &info);
        say(s, "* %s cwnd %u ssthresh %u in flight %u rto %.3f ms\n", mr_tcp_state_name(info.state), info.cwnd, info.ssthresh,
            info.in_flight, (double)info.rto_ns / 1e6);
    } else if (strcmp(what, "count") == 0) {
        say(s, "* connections %u, half open %u, TIME-WAIT %u\n", s->t->conns.used, s->t->half_open, s->t->time_wait_count);
    } else {
        fail_msg("do %s?", what);
    }
    turn(s);
}

static void wait(struct script *s, const char *text)
{
    uint64_t until_ns = s->now_ns + (uint64_t)(strtod(text, NULL) * 1e6);
    for (uint64_t at; (at = mr_tcp_deadline_ns(s->t)) <= until_ns;) {
        s->now_ns = at > s->now_ns ? at : s->now_ns;
        turn(s);
    }
    s->now_ns = until_ns;
}

static void line(struct script *s, char *text)
{
    if (text[0] == '>' || text[0] == '*') {
        return; /* found out anew */
    }
    say(s, "%s\n", text);
    char *rest = text;
    char *first = text[0] == '#' || text[0] == '\0' ? NULL : word(&rest);
    if (first == NULL) {
        return;
    }
    if (strcmp(first, "set") == 0) {
        char *what = word(&rest);
        set(s, what, rest != NULL && *rest != '\0' ? number(&rest) : 0);
    } else if (strcmp(first, "listen") == 0 || strcmp(first, "connect") == 0) {
        start(s, first[0] == 'l');
    } else if (strcmp(first, "<") == 0) {
        arrive(s, rest);
    } else if (strcmp(first, "!") == 0) {
        act(s, rest);
    } else if (strcmp(first, "+") == 0) {
        wait(s, word(&rest));
    } else {
        fail_msg("%s?", first);
    }
}

void mr_tcp_script_run(const char *name)
{
    char file[256];
    snprintf(file, sizeof file, "tests/golden/tcp/%s.trace", name);
    FILE *in = fopen(file, "r");
    if (in == NULL) {
        fail_msg("no %s", file);
        return;
    }
    struct script s = {.params = mr_tcp_params_default(16), .start_ns = MR_NS_PER_S, .now_ns = MR_NS_PER_S};
    s.path = (struct mr_tcp_path){.local = {{[10] = 0xff, 0xff, 10, 0, 0, 1}}, .remote = {{[10] = 0xff, 0xff, 10, 0, 0, 2}},
                                  .local_port = 9092, .remote_port = 40000};
    s.out = mr_test_memory(TEXT_MAX);
    char text[512];
    while (fgets(text, sizeof text, in) != NULL) {
        text[strcspn(text, "\n")] = '\0';
        line(&s, text);
    }
    fclose(in);
    snprintf(file, sizeof file, "tcp/%s.trace", name);
    mr_golden_check(file, s.out, s.len);
}
