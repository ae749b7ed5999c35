/*
 * tcp_ack: the ACK field (RFC 9293 3.10.7.4, fifth): what it acknowledges, the window, the states that end by it.
 */
#include "tcp/tcp_conn.h"

/* RFC 9293 3.10.7.4: an old segment must not bring back an old window. What acknowledges something new is not old, though
 * its own bytes may be a retransmission: its window counts too (as in Linux), or the edge would move without being told. */
static void take_window(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, bool is_una_new, uint64_t now_ns)
{
    if (is_una_new || mr_tcp_seq_lt(c->snd_wl1, s->seq) || (c->snd_wl1 == s->seq && mr_tcp_seq_le(c->snd_wl2, s->ack))) {
        mr_tcp_input_window(c, s, now_ns);
    }
}

/* RFC 5961 5.2: in [snd_una - the largest window, snd_nxt]. */
static bool check_range(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if (mr_tcp_seq_le(s->ack, c->snd_nxt) && mr_tcp_seq_le(c->snd_una - c->snd_wnd_max, s->ack)) {
        return true;
    }
    mr_tcp_drop(c->tcp, MR_TCP_DROP_ACK);
    mr_tcp_input_challenge(c, now_ns);
    return false;
}

static bool is_in_handshake(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if (!mr_tcp_seq_lt(c->snd_una, s->ack) || !mr_tcp_seq_le(s->ack, c->snd_nxt)) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_ACK);
        mr_tcp_reply_reset(c->tcp, s);
        return true;
    }
    c->snd_una = s->ack;
    mr_tcp_input_window(c, s, now_ns);
    c->snd_right = s->ack + c->snd_wnd;
    mr_tcp_input_opened(c, now_ns);
    return false;
}

/* What the acknowledgement of our FIN does. False: the connection is gone. */
static bool fin_acked(struct mr_tcp_conn *c, uint64_t now_ns)
{
    uint64_t end_at = now_ns + c->tcp->params.time_wait_ns;
    switch (c->state) {
    case MR_TCP_FIN_WAIT_1:
        mr_tcp_set_state(c, MR_TCP_FIN_WAIT_2);
        if (c->is_deaf) { /* nobody will ever know whether the peer closes: no longer than TIME-WAIT */
            mr_tcp_disown(c);
            c->end_at = end_at;
        }
        return true;
    case MR_TCP_CLOSING:
        c->end_at = end_at;
        mr_tcp_disown(c);
        mr_tcp_set_state(c, MR_TCP_TIME_WAIT);
        return true;
    case MR_TCP_LAST_ACK:
        mr_tcp_end(c, MR_OK);
        return false;
    case MR_TCP_CLOSED:
    case MR_TCP_LISTEN:
    case MR_TCP_SYN_SENT:
    case MR_TCP_SYN_RECEIVED:
    case MR_TCP_ESTABLISHED:
    case MR_TCP_FIN_WAIT_2:
    case MR_TCP_CLOSE_WAIT:
    case MR_TCP_TIME_WAIT:
        return true;
    }
    return true;
}

bool mr_tcp_ack(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if (c->state == MR_TCP_SYN_RECEIVED && is_in_handshake(c, s, now_ns)) {
        return false;
    }
    if (!check_range(c, s, now_ns)) {
        return false;
    }
    mr_tcp_dirty(c);
    if (mr_tcp_seq_lt(s->ack, c->snd_una)) {
        return true; /* old, and harmless: its text may be new */
    }
    struct mr_tcp_acked acked = {.now_ns = now_ns,
                                 .una_before = c->snd_una,
                                 .has_ts_echo = c->has_ts && s->has_ts,
                                 .ts_echo = s->ts_echo};
    mr_tcp_loss_acked(c, s, &acked);
    take_window(c, s, acked.is_una_new, now_ns);
    if (c->persist_at != MR_NEVER || c->snd_wnd == 0) {
        c->progress_ns = now_ns; /* a probe was answered: the peer lives, though its window is closed */
    }
    if (c->is_fin_sent && c->snd_una == c->snd_nxt && acked.is_una_new && !fin_acked(c, now_ns)) {
        return false;
    }
    mr_tcp_timer_arm(c, now_ns, acked.is_una_new);
    return true;
}
