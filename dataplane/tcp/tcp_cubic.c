/*
 * tcp_cubic: the congestion window. Source: RFC 9438, RFC 6928 (initial window), RFC 3465 (bytes are counted, not
 * acknowledgements), RFC 9406 (HyStart++), RFC 7661 in spirit: a window that is not used does not grow.
 *
 * Integers only: milliseconds and bytes; C = 0.4, beta = 0.7.
 */
#include "tcp/tcp_conn.h"

#define OFFSET_MAX_MS 100000 /* 0.4 x 100 s cubed, times any MSS, is below 2^63 */

#define HYSTART_SAMPLES   8u
#define HYSTART_MIN_NS    (4 * MR_NS_PER_MS)
#define HYSTART_MAX_NS    (16 * MR_NS_PER_MS)
#define HYSTART_ROUNDS    5u
#define HYSTART_SLOWER    4u
#define TRAIN_GAP_NS      (2 * MR_NS_PER_MS) /* between ACKs of one train */
#define TRAIN_SLACK_NS    MR_NS_PER_MS       /* peers and hosts gather ACKs for about so long: round trips may be shorter */
#define TRAIN_SEGMENTS    16u
#define SLOW_START_LIMIT  8u /* segments per acknowledgement: RFC 9406 4.2 without pacing */

void mr_tcp_cubic_init(struct mr_tcp_conn *c)
{
    uint32_t ten = 10u * c->mss;
    uint32_t two = 2u * c->mss;
    c->cwnd = ten < 14600 ? ten : two > 14600 ? two : 14600; /* RFC 6928 2 */
    c->cubic = (struct mr_tcp_cubic){.round_min_ns = MR_NEVER, .last_min_ns = MR_NEVER};
}

/* The largest x with x^3 <= value. */
static uint64_t cube_root(uint64_t value)
{
    uint64_t low = 0;
    uint64_t high = 2642245; /* its cube is the last below 2^64 */
    while (low < high) {
        uint64_t middle = (low + high + 1) / 2;
        if (middle * middle * middle <= value) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* RFC 9438 4.6 and 4.7 (fast convergence). */
uint32_t mr_tcp_cubic_reduce(struct mr_tcp_conn *c)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    uint32_t flight = mr_tcp_in_flight(c);
    uint32_t window = c->cwnd < flight || flight == 0 ? c->cwnd : flight;
    cubic->w_max = window < cubic->w_max ? (uint32_t)((uint64_t)window * 17 / 20) : window;
    cubic->epoch_ns = 0;
    cubic->css_rounds = 0;
    uint32_t reduced = (uint32_t)((uint64_t)window * 7 / 10);
    return reduced > 2u * c->mss ? reduced : 2u * c->mss;
}

static void begin_epoch(struct mr_tcp_conn *c, uint64_t now_ns)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    cubic->epoch_ns = now_ns;
    cubic->w_est = c->cwnd;
    cubic->acked = cubic->w_est_acked = 0;
    if (cubic->w_max > c->cwnd) { /* 4.2, figure 2: K = cbrt((W_max - cwnd) / C) in seconds, of segments */
        cubic->k_ms = cube_root((uint64_t)(cubic->w_max - c->cwnd) * 2500000000u / c->mss);
    } else {
        cubic->k_ms = 0;
        cubic->w_max = c->cwnd;
    }
}

/* 4.2, figure 1: W_cubic(t) = C (t - K)^3 + W_max. */
static uint64_t window_at(const struct mr_tcp_conn *c, uint64_t now_ns)
{
    const struct mr_tcp_cubic *cubic = &c->cubic;
    int64_t offset = (int64_t)((now_ns - cubic->epoch_ns) / MR_NS_PER_MS) - (int64_t)cubic->k_ms;
    offset = offset > OFFSET_MAX_MS ? OFFSET_MAX_MS : offset < -OFFSET_MAX_MS ? -OFFSET_MAX_MS : offset;
    int64_t change = offset * offset / 1000 * offset / 1000 * 4 / 10 * c->mss / 1000;
    int64_t window = (int64_t)cubic->w_max + change;
    return window > c->mss ? (uint64_t)window : c->mss;
}

/* 4.3: as fast as Reno at least; alpha is 3 (1 - beta) / (1 + beta) = 9/17 until W_max is reached again. */
static void estimate_reno(struct mr_tcp_conn *c, uint32_t bytes)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    cubic->w_est_acked += bytes;
    uint64_t alpha_17 = cubic->w_est < cubic->w_max ? 9 : 17;
    uint64_t step = (uint64_t)cubic->w_est_acked * c->mss * alpha_17 / 17 / cubic->w_est;
    if (step >= c->mss) {
        cubic->w_est += c->mss;
        cubic->w_est_acked = 0;
    }
}

static void avoid_congestion(struct mr_tcp_conn *c, uint32_t bytes, uint64_t now_ns)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    if (cubic->epoch_ns == 0) {
        begin_epoch(c, now_ns);
    }
    estimate_reno(c, bytes);
    uint64_t target = window_at(c, now_ns + c->srtt_ns);
    target = target < cubic->w_est ? cubic->w_est : target;
    target = mr_earlier(target, (uint64_t)c->cwnd * 3 / 2); /* 4.4: at most half as much again in a round trip */
    if (target <= c->cwnd) {
        return;
    }
    /* (target - cwnd) / cwnd per acknowledged byte; what is less than a segment is kept. */
    cubic->acked += bytes;
    uint64_t step = (target - c->cwnd) * cubic->acked / c->cwnd;
    if (step >= c->mss) {
        c->cwnd += (uint32_t)step;
        cubic->acked = 0;
    }
}

/* The first half of HyStart (Ha and Rhee 2008; Linux has it, RFC 9406 left it out): a train of ACKs that is longer than half
 * of the round trip says that the next round, twice as long, fills the path. A queue in front of it would tell us a round
 * later, and where it is short a windowful is lost by then. */
static bool is_train_long(struct mr_tcp_conn *c, uint64_t now_ns)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    bool is_close = now_ns - cubic->ack_ns <= TRAIN_GAP_NS;
    if (is_close || cubic->train_ns == now_ns) {
        cubic->ack_ns = now_ns;
    }
    return is_close && c->cwnd >= TRAIN_SEGMENTS * c->mss && c->min_rtt_ns != MR_NEVER &&
           now_ns - cubic->train_ns > c->min_rtt_ns / 2 + TRAIN_SLACK_NS;
}

/* RFC 9406 4.2: a round whose round trips became longer means that a queue is filling: go slower for five rounds, then
 * stop, unless they become shorter again. */
static void hystart(struct mr_tcp_conn *c, uint64_t rtt_ns, uint64_t now_ns)
{
    struct mr_tcp_cubic *cubic = &c->cubic;
    if (mr_tcp_seq_lt(cubic->round_end, c->snd_una) || cubic->last_min_ns == 0) {
        cubic->last_min_ns = cubic->round_min_ns;
        cubic->round_min_ns = MR_NEVER;
        cubic->round_end = c->snd_nxt;
        cubic->round_samples = 0;
        cubic->train_ns = now_ns;
        if (cubic->css_rounds > 0 && ++cubic->css_rounds > HYSTART_ROUNDS) {
            c->ssthresh = c->cwnd;
        }
    }
    if (is_train_long(c, now_ns)) {
        c->ssthresh = c->cwnd;
    }
    if (rtt_ns == 0) {
        return;
    }
    cubic->round_samples++;
    cubic->round_min_ns = mr_earlier(cubic->round_min_ns, rtt_ns);
    if (cubic->round_samples < HYSTART_SAMPLES || cubic->last_min_ns == MR_NEVER) {
        return;
    }
    uint64_t slack = cubic->last_min_ns / 8;
    slack = slack < HYSTART_MIN_NS ? HYSTART_MIN_NS : mr_earlier(slack, HYSTART_MAX_NS);
    if (cubic->css_rounds == 0 && cubic->round_min_ns >= cubic->last_min_ns + slack) {
        cubic->css_base_ns = cubic->round_min_ns;
        cubic->css_rounds = 1;
    } else if (cubic->css_rounds > 0 && cubic->round_min_ns < cubic->css_base_ns) {
        cubic->css_rounds = 0;
    }
}

static uint32_t slow_start(struct mr_tcp_conn *c, uint32_t bytes)
{
    uint32_t limit = SLOW_START_LIMIT * c->mss;
    uint32_t step = bytes < limit ? bytes : limit;
    c->cwnd += c->cubic.css_rounds > 0 ? step / HYSTART_SLOWER : step;
    if (c->cwnd <= c->ssthresh) {
        return 0;
    }
    uint32_t rest = c->cwnd - c->ssthresh;
    c->cwnd = c->ssthresh;
    return rest < bytes ? rest : bytes;
}

void mr_tcp_cubic_acked(struct mr_tcp_conn *c, uint32_t bytes, uint64_t rtt_ns, uint64_t now_ns)
{
    if (!c->is_window_full || c->cwnd >= INT32_MAX / 2) {
        c->cubic.epoch_ns = 0; /* time in which the window was not used does not count (RFC 9438 5.8) */
        return;
    }
    if (c->cwnd < c->ssthresh) {
        if (c->recovery == MR_TCP_OPEN) {
            hystart(c, rtt_ns, now_ns);
        }
        bytes = slow_start(c, bytes);
    }
    if (bytes > 0 && c->cwnd >= c->ssthresh) {
        avoid_congestion(c, bytes, now_ns);
    }
}
