/*
 * tcp_window: how much the peer may send. The right edge never moves back (RFC 9293 3.8.6), small steps are not told
 * (3.8.6.2.2), and the window grows with what the session consumes in a round trip ("dynamic right-sizing", Fisk and
 * Feng, 2001), so that an idle connection costs little.
 */
#include "tcp/tcp_conn.h"

uint8_t mr_tcp_window_scale(const struct mr_tcp_params *params)
{
    uint8_t scale = 0;
    while (scale < 14 && params->window_max >> scale > 65535) {
        scale++;
    }
    return scale;
}

static uint32_t room(const struct mr_tcp_conn *c)
{
    uint64_t held = c->rcv_pos - c->consumed_pos;
    return held < c->window ? (uint32_t)(c->window - held) : 0;
}

static uint32_t worth(const struct mr_tcp_conn *c)
{
    return c->mss_seen < c->window / 2 ? c->mss_seen : c->window / 2;
}

uint32_t mr_tcp_window(const struct mr_tcp_conn *c)
{
    uint32_t announced = c->rcv_adv - c->rcv_nxt;
    uint32_t now = room(c);
    return now > announced && now - announced >= worth(c) ? now : announced;
}

/* Twice what was consumed in a round, since the peer's window may double in the next; what was more than in the round before
 * counts twice more (as in Linux), or a peer in slow start would find the window of the round before in its way. */
static void tune(struct mr_tcp_conn *c, uint64_t now_ns)
{
    uint64_t round_ns = mr_earlier(c->rcv_rtt_ns == 0 ? MR_NEVER : c->rcv_rtt_ns, c->srtt_ns == 0 ? MR_NEVER : c->srtt_ns);
    if (round_ns == MR_NEVER || now_ns - c->tune_ns < round_ns) {
        return;
    }
    uint64_t consumed = c->consumed_pos - c->tune_pos;
    uint64_t more = consumed > c->tune_bytes ? consumed - c->tune_bytes : 0;
    uint64_t wanted = mr_earlier(2 * consumed + 4 * more, c->tcp->params.window_max);
    c->window = wanted > c->window ? (uint32_t)wanted : c->window;
    c->tune_bytes = consumed;
    c->tune_pos = c->consumed_pos;
    c->tune_ns = now_ns;
}

/* A round trip as the receiver sees it: the time in which a window of bytes arrives. */
void mr_tcp_window_arrived(struct mr_tcp_conn *c, uint64_t now_ns)
{
    if (c->rcv_rtt_start_ns == 0) {
        c->rcv_rtt_start_ns = now_ns;
        c->rcv_rtt_seq = c->rcv_adv;
    } else if (mr_tcp_seq_le(c->rcv_rtt_seq, c->rcv_nxt)) {
        uint64_t rtt_ns = now_ns - c->rcv_rtt_start_ns;
        c->rcv_rtt_ns = c->rcv_rtt_ns == 0 ? rtt_ns : (7 * c->rcv_rtt_ns + rtt_ns) / 8;
        c->rcv_rtt_start_ns = 0;
    }
}

void mr_tcp_consumed(struct mr_tcp_conn *c, uint32_t len_bytes)
{
    c->consumed_pos += len_bytes;
    mr_assert(c->consumed_pos <= c->rcv_pos);
    if (c->state == MR_TCP_CLOSED) {
        return;
    }
    tune(c, c->tcp->now_ns);
    uint32_t announced = c->rcv_adv - c->rcv_nxt;
    uint32_t step = 2u * c->mss_seen < c->window / 2 ? 2u * c->mss_seen : c->window / 2;
    if (!c->is_fin_taken && room(c) > announced && room(c) - announced >= step) {
        c->is_ack_due = true; /* a window update: without it a peer that met a full window would wait (class 3) */
        mr_tcp_dirty(c);
    }
}
