/*
 * test_tcp_states: 11 states x 64 flag sets x 9 edges of the window: what is answered and which state follows, compared
 * with expect(), which is RFC 9293 3.10.7 written down once more, as a function of the three.
 */
#include "tcp/tcp_conn.h"
#include "test.h"

enum { F = MR_TCP_FIN, S = MR_TCP_SYN, R = MR_TCP_RST, A = MR_TCP_ACK };

enum answer {
    NOTHING,
    ACK,
    RESET,
    SYN_ACK,
};

struct outcome {
    enum answer answer;
    enum mr_tcp_state state;
};

/* Where the segment begins, from rcv_nxt (`is_right`: from the right edge), and its text. */
struct edge {
    bool is_right;
    int32_t at;
    uint32_t len;
};

static const struct edge edges[9] = {{false, -1, 0}, {false, 0, 0}, {false, 1, 0}, {true, -1, 0}, {true, 0, 0},
                                     {true, 1, 0},   {false, 0, 1}, {false, -1, 2}, {true, -1, 2}};

#define PEER_ISN 1000000u
#define PORT     9092

static const struct mr_tcp_path path = {.local = {{[10] = 0xff, 0xff, 10, 0, 0, 1}},
                                        .remote = {{[10] = 0xff, 0xff, 10, 0, 0, 2}},
                                        .local_port = PORT,
                                        .remote_port = 40000};

struct rig {
    struct mr_tcp *t;
    struct mr_tcp_conn *c;
    uint64_t now_ns;
    uint32_t rcv_nxt;
    uint32_t window;
    uint32_t snd_nxt;
};

static void input(struct rig *r, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
    static const uint8_t text[16] = "text";
    struct mr_tcp_segment s = {.path = path, .seq = seq, .ack = ack, .flags = flags, .window = 8000, .len = len};
    s.span_count = len > 0;
    s.spans[0] = (struct mr_span){text, len};
    (void)mr_tcp_input(r->t, &s, r->now_ns);
}

static enum answer output(struct rig *r)
{
    struct mr_tcp_segment out[8];
    uint32_t count = mr_tcp_output(r->t, r->now_ns, out, 8);
    assert_in_range(count, 0, 1); /* one segment is answered by one at most */
    return count == 0                                                         ? NOTHING
           : (out[0].flags & R) != 0                                          ? RESET
           : (out[0].flags & (S | A)) == (S | A)                              ? SYN_ACK
           : (out[0].flags & A) != 0                                          ? ACK
                                                                              : NOTHING;
}

static void events(struct rig *r)
{
    struct mr_tcp_event event;
    while (mr_tcp_events(r->t, &event, 1) == 1) {
        if (event.kind == MR_TCP_OPENED) {
            r->c = event.conn;
        }
    }
}

static void note(struct rig *r)
{
    r->c = mr_tcp_find(r->t, &path);
    if (r->c != NULL) {
        r->rcv_nxt = r->c->rcv_nxt;
        r->window = r->c->rcv_adv - r->c->rcv_nxt;
        r->snd_nxt = r->c->snd_nxt;
    }
}

static void establish(struct rig *r)
{
    input(r, S, PEER_ISN, 0, 0);
    assert_int_equal(output(r), SYN_ACK);
    note(r);
    input(r, A, PEER_ISN + 1, r->snd_nxt, 0);
    events(r);
}

static void finish(struct rig *r)
{
    mr_tcp_finish(r->c);
    assert_int_equal(output(r), ACK);
}

static void make(struct rig *r, enum mr_tcp_state state, void *memory, size_t bytes, const struct mr_tcp_params *params)
{
    struct mr_arena arena;
    struct mr_address any = {{0}};
    mr_arena_init(&arena, memory, bytes);
    *r = (struct rig){.t = mr_tcp_init(params, &arena), .now_ns = MR_NS_PER_S, .rcv_nxt = PEER_ISN, .window = 8000};
    if (state != MR_TCP_CLOSED && state != MR_TCP_SYN_SENT) {
        (void)mr_tcp_listen(r->t, &any, PORT, 0);
    }
    if (state == MR_TCP_SYN_SENT) {
        (void)mr_tcp_connect(r->t, &path, NULL, r->now_ns, &r->c);
        (void)output(r);
        r->snd_nxt = r->c->snd_nxt;
    } else if (state == MR_TCP_SYN_RECEIVED) {
        input(r, S, PEER_ISN, 0, 0);
        (void)output(r);
    } else if (state >= MR_TCP_ESTABLISHED) {
        establish(r);
    }
    switch (state) {
    case MR_TCP_FIN_WAIT_2:
    case MR_TCP_TIME_WAIT:
    case MR_TCP_FIN_WAIT_1:
    case MR_TCP_CLOSING:
        finish(r);
        if (state == MR_TCP_CLOSING) {
            input(r, F | A, PEER_ISN + 1, r->snd_nxt, 0);
        } else if (state != MR_TCP_FIN_WAIT_1) {
            input(r, A | (state == MR_TCP_TIME_WAIT ? F : 0), PEER_ISN + 1, r->snd_nxt + 1, 0);
        }
        break;
    case MR_TCP_CLOSE_WAIT:
    case MR_TCP_LAST_ACK:
        input(r, F | A, PEER_ISN + 1, r->snd_nxt, 0);
        (void)output(r);
        if (state == MR_TCP_LAST_ACK) {
            finish(r);
        }
        break;
    case MR_TCP_CLOSED:
    case MR_TCP_LISTEN:
    case MR_TCP_SYN_SENT:
    case MR_TCP_SYN_RECEIVED:
    case MR_TCP_ESTABLISHED:
        break;
    }
    events(r);
    (void)output(r);
    uint32_t rcv_nxt = r->rcv_nxt;
    note(r);
    if (state == MR_TCP_SYN_SENT) {
        r->rcv_nxt = rcv_nxt;
        r->window = 8000;
    } else if (r->c != NULL) {
        assert_int_equal(r->c->state, state);
    }
}

/* ---- RFC 9293 3.10.7, once more ---- */

static struct outcome go(enum answer answer, enum mr_tcp_state state)
{
    return (struct outcome){.answer = answer, .state = state};
}

/* 3.10.7.1 to 3.10.7.3. The ACK, where there is one, is of our SYN. */
static struct outcome expect_early(enum mr_tcp_state state, uint8_t flags)
{
    if (state == MR_TCP_CLOSED) {
        return go((flags & R) != 0 ? NOTHING : RESET, state);
    }
    if (state == MR_TCP_LISTEN) {
        bool is_open = (flags & (R | A | S | F)) == S;
        return (flags & R) != 0   ? go(NOTHING, state)
               : (flags & A) != 0 ? go(RESET, state)
               : is_open          ? go(SYN_ACK, MR_TCP_SYN_RECEIVED)
                                  : go(NOTHING, state);
    }
    if ((flags & R) != 0) {
        return go(NOTHING, (flags & A) != 0 ? MR_TCP_CLOSED : state);
    }
    return (flags & S) == 0 ? go(NOTHING, state)
           : (flags & A) != 0 ? go(ACK, MR_TCP_ESTABLISHED)
                              : go(SYN_ACK, MR_TCP_SYN_RECEIVED);
}

static enum mr_tcp_state after_ack(enum mr_tcp_state state)
{
    return state == MR_TCP_SYN_RECEIVED ? MR_TCP_ESTABLISHED
           : state == MR_TCP_FIN_WAIT_1 ? MR_TCP_FIN_WAIT_2
           : state == MR_TCP_CLOSING    ? MR_TCP_TIME_WAIT
                                        : state;
}

static enum mr_tcp_state after_fin(enum mr_tcp_state state)
{
    return state == MR_TCP_ESTABLISHED ? MR_TCP_CLOSE_WAIT : state == MR_TCP_FIN_WAIT_2 ? MR_TCP_TIME_WAIT : state;
}

/* 3.10.7.4. `at` is from rcv_nxt, which the acceptability test and the order of FIN depend on. */
static struct outcome expect_late(enum mr_tcp_state state, uint8_t flags, int64_t at, uint32_t text, int64_t window)
{
    int64_t len = (int64_t)text + ((flags & S) != 0) + ((flags & F) != 0);
    bool is_acceptable = len == 0 ? at >= 0 && at <= window : (at >= 0 && at < window) || (at + len > 0 && at + len <= window);
    if (state == MR_TCP_TIME_WAIT && (flags & (S | A | R | F)) == S && at > 0) {
        return go(SYN_ACK, MR_TCP_SYN_RECEIVED); /* a new life (RFC 6191) */
    }
    if (!is_acceptable) {
        bool is_again = state == MR_TCP_SYN_RECEIVED && (flags & (S | A)) == S && at == -1;
        return go((flags & R) != 0 ? NOTHING : is_again ? SYN_ACK : ACK, state);
    }
    if ((flags & R) != 0) { /* RFC 5961 3.2 */
        return at == 0 ? go(NOTHING, MR_TCP_CLOSED) : go(ACK, state);
    }
    if ((flags & S) != 0) { /* RFC 5961 4.2; a passive open goes back to LISTEN */
        return state == MR_TCP_SYN_RECEIVED ? go(NOTHING, MR_TCP_CLOSED) : go(ACK, state);
    }
    if ((flags & A) == 0) {
        return go(NOTHING, state);
    }
    if (state == MR_TCP_LAST_ACK) {
        return go(NOTHING, MR_TCP_CLOSED);
    }
    state = after_ack(state);
    if (text == 0 && (flags & F) == 0) {
        return go(NOTHING, state);
    }
    bool is_fin_next = (flags & F) != 0 && at <= 0 && at + text >= 0 && at + text <= window;
    return go(ACK, is_fin_next ? after_fin(state) : state);
}

static const char *const answers[] = {"nothing", "ACK", "RST", "SYN-ACK"};

static void check_cell(enum mr_tcp_state state, uint8_t flags, const struct edge *edge, void *memory, size_t bytes,
                       const struct mr_tcp_params *params)
{
    struct rig r;
    make(&r, state, memory, bytes, params);
    int64_t at = edge->is_right ? (int64_t)r.window + edge->at : edge->at;
    struct outcome want = state < MR_TCP_SYN_RECEIVED ? expect_early(state, flags)
                                                      : expect_late(state, flags, at, edge->len, r.window);
    uint32_t ack = (flags & A) != 0 ? r.snd_nxt : 0;
    input(&r, flags, r.rcv_nxt + (uint32_t)at, ack, edge->len);
    struct outcome got = {.answer = output(&r), .state = MR_TCP_CLOSED};
    note(&r);
    if (r.c != NULL) {
        got.state = r.c->state;
    } else if (state == MR_TCP_LISTEN) {
        got.state = MR_TCP_LISTEN;
    }
    assert_null(mr_tcp_check(r.t));
    if (got.answer != want.answer || got.state != want.state) {
        fail_msg("%s, flags 0x%02x, edge %d: %s, %s; expected %s, %s", mr_tcp_state_name(state), flags, (int)(edge - edges),
                 answers[got.answer], mr_tcp_state_name(got.state), answers[want.answer], mr_tcp_state_name(want.state));
    }
}

static void test_every_state_answers_every_segment_as_the_rfc_says(void **state)
{
    (void)state;
    struct mr_tcp_params params = mr_tcp_params_default(2);
    params.sent_max = params.pieces_max = 8;
    params.blocks_max = 2;
    size_t bytes = mr_tcp_bytes(&params);
    void *memory = mr_test_memory(bytes);
    uint32_t cells = 0;
    for (uint32_t from = MR_TCP_CLOSED; from <= MR_TCP_TIME_WAIT; from++) {
        for (uint32_t flags = 0; flags < 64; flags++) {
            for (uint32_t edge = 0; edge < 9; edge++, cells++) {
                check_cell((enum mr_tcp_state)from, (uint8_t)flags, &edges[edge], memory, bytes, &params);
            }
        }
    }
    assert_int_equal(cells, 11 * 64 * 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_answers_every_segment_as_the_rfc_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
