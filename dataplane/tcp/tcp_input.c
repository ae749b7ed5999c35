/*
 * tcp_input: a segment of a connection, in the order of RFC 9293 3.10.7: one function per step.
 *
 * Where we differ from its letter, and with whom we agree:
 *   - with a window of zero a segment at rcv_nxt has its ACK and RST taken and its text refused (the "special allowance"
 *     of 3.10.7.4, first), and a bare FIN there is taken;
 *   - a segment without text right at the edge of the window is acceptable (Linux): a peer that has filled our window
 *     acknowledges from there;
 *   - the SYN of a passive open that comes again has its SYN-ACK again.
 */
#include "tcp/tcp_conn.h"

#define PAWS_AGE_NS (24ull * 24 * 3600 * MR_NS_PER_S) /* RFC 7323 5.5: an older ts_recent proves nothing */

void mr_tcp_input_challenge(struct mr_tcp_conn *c, uint64_t now_ns)
{
    if (c->limited_ns != 0 && now_ns - c->limited_ns < MR_TCP_LIMIT_NS) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_LIMITED);
        return;
    }
    c->limited_ns = now_ns;
    c->tcp->counts.challenges++;
    c->is_ack_due = true;
    mr_tcp_dirty(c);
}

void mr_tcp_input_window(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    uint32_t window = (uint32_t)s->window << ((s->flags & MR_TCP_SYN) != 0 ? 0 : c->snd_scale);
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    c->snd_wnd = window;
    c->snd_wnd_max = window > c->snd_wnd_max ? window : c->snd_wnd_max;
    c->snd_right = mr_tcp_seq_max(c->snd_right, s->ack + window);
    if (window > 0) {
        c->stalled_ns = 0;
    } else if (c->stalled_ns == 0) {
        c->stalled_ns = now_ns;
    }
}

void mr_tcp_input_opened(struct mr_tcp_conn *c, uint64_t now_ns)
{
    mr_tcp_set_state(c, MR_TCP_ESTABLISHED);
    c->is_syn_due = false;
    c->rto_at = MR_NEVER;
    c->backoff = 0;
    c->progress_ns = now_ns;
    c->keep_at = c->tcp->params.keepalive_idle_ns == 0 ? MR_NEVER : now_ns + c->tcp->params.keepalive_idle_ns;
    c->is_owned = true;
    c->is_open_due = true;
    c->tcp->counts.opened++;
    if (c->syn_tries == 1) {
        mr_tcp_rtt_sample(c, now_ns - c->syn_ns, now_ns);
    } else if (c->syn_tries > 1) {
        c->cwnd = c->mss; /* RFC 5681 3.1: a SYN was lost */
    }
    mr_tcp_eventful(c);
}

/* ---- SYN-SENT: 3.10.7.3 ---- */

static bool input_syn_sent(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    bool has_ack = (s->flags & MR_TCP_ACK) != 0;
    if (has_ack && (s->ack != c->snd_nxt || c->snd_nxt == c->iss)) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_ACK);
        mr_tcp_reply_reset(c->tcp, s);
        return false;
    }
    if ((s->flags & MR_TCP_RST) != 0) {
        if (has_ack) {
            c->tcp->counts.resets_taken++;
            mr_tcp_end(c, MR_ERR_CLOSED);
        }
        return false;
    }
    if ((s->flags & MR_TCP_SYN) == 0) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_NO_ACK);
        return false;
    }
    mr_tcp_listen_agree(c, s, now_ns);
    uint8_t ecn = s->flags & (MR_TCP_ECE | MR_TCP_CWR);
    c->has_ecn = c->tcp->params.has_ecn && !c->was_ecn_refused &&
                 ecn == (has_ack ? MR_TCP_ECE : MR_TCP_ECE | MR_TCP_CWR);
    mr_tcp_input_window(c, s, now_ns);
    mr_tcp_dirty(c);
    if (!has_ack) { /* both opened at once */
        mr_tcp_set_state(c, MR_TCP_SYN_RECEIVED);
        c->snd_nxt = c->iss; /* the SYN goes out once more, with an ACK */
        c->is_syn_due = true;
        return false;
    }
    c->snd_una = s->ack;
    c->snd_right = s->ack + c->snd_wnd;
    mr_tcp_input_opened(c, now_ns);
    c->is_ack_due = true;
    return false; /* text on a SYN-ACK, which hardly anybody sends, comes again */
}

/* ---- the other states: 3.10.7.4 ---- */

/* RFC 7323 5.3, R1; 3.2: without the option a segment is not of this connection. */
static bool check_timestamp(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if (!c->has_ts || (s->flags & MR_TCP_RST) != 0) {
        return true;
    }
    if (!s->has_ts) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_PAWS);
        return false;
    }
    if (!mr_tcp_seq_lt(s->ts_value, c->ts_recent) || now_ns - c->ts_recent_ns > PAWS_AGE_NS) {
        return true;
    }
    mr_tcp_drop(c->tcp, MR_TCP_DROP_PAWS);
    if (s->len > 0) {
        c->is_ack_due = true;
        mr_tcp_dirty(c);
    } else {
        mr_tcp_input_challenge(c, now_ns);
    }
    return false;
}

static bool is_acceptable(const struct mr_tcp_conn *c, const struct mr_tcp_segment *s)
{
    uint32_t len = s->len + ((s->flags & MR_TCP_SYN) != 0) + ((s->flags & MR_TCP_FIN) != 0);
    uint32_t window = c->rcv_adv - c->rcv_nxt;
    uint32_t first = s->seq - c->rcv_nxt; /* 0 is the first byte that is wanted */
    if (len == 0 || window == 0) {
        return first <= window;
    }
    return first < window || first + len - 1 < window;
}

/* A dead connection that comes to life by the answers to its answers would be a storm: what carries no data is answered
 * seldom (performance.md 3.2, class 15). */
static bool check_sequence(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if (is_acceptable(c, s)) {
        return true;
    }
    mr_tcp_drop(c->tcp, MR_TCP_DROP_SEQUENCE);
    if ((s->flags & MR_TCP_RST) != 0) {
        return false;
    }
    bool is_syn = (s->flags & MR_TCP_SYN) != 0;
    if (c->state == MR_TCP_SYN_RECEIVED && is_syn && s->seq == c->irs && (s->flags & MR_TCP_ACK) == 0) {
        if (c->limited_ns == 0 || now_ns - c->limited_ns >= MR_TCP_LIMIT_NS) {
            c->limited_ns = now_ns;
            c->is_syn_due = true;
            mr_tcp_dirty(c);
        }
        return false;
    }
    if (c->state == MR_TCP_TIME_WAIT && (s->flags & MR_TCP_FIN) != 0) {
        c->end_at = now_ns + c->tcp->params.time_wait_ns; /* 3.10.7.4, eighth */
        mr_tcp_timer_update(c);
    }
    if (s->len > 0 && !is_syn) {
        if (mr_tcp_seq_lt(s->seq, c->rcv_nxt) && c->has_sack) {
            c->dsack = (struct mr_tcp_sack){s->seq, mr_tcp_seq_min(s->seq + s->len, c->rcv_nxt)};
            c->has_dsack = true;
            c->stats.duplicate_bytes += s->len;
        }
        c->is_ack_due = true;
        mr_tcp_dirty(c);
    } else {
        mr_tcp_input_challenge(c, now_ns);
    }
    return false;
}

/* RFC 5961 3.2: only the exact number resets. */
static bool check_reset(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if ((s->flags & MR_TCP_RST) == 0) {
        return true;
    }
    if (s->seq != c->rcv_nxt) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_RESET);
        mr_tcp_input_challenge(c, now_ns);
        return false;
    }
    c->tcp->counts.resets_taken++;
    mr_tcp_end(c, MR_ERR_CLOSED);
    return false;
}

/* RFC 5961 4.2; a passive open returns to LISTEN (RFC 9293 3.10.7.4, fourth). */
static bool check_syn(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    if ((s->flags & MR_TCP_SYN) == 0) {
        return true;
    }
    if (c->state == MR_TCP_SYN_RECEIVED && !c->is_passive && s->seq + 1 == c->rcv_nxt) {
        return true; /* the SYN-ACK of an open from both sides */
    }
    mr_tcp_drop(c->tcp, MR_TCP_DROP_SYN);
    if (c->state == MR_TCP_SYN_RECEIVED && c->is_passive) {
        mr_tcp_end(c, MR_ERR_CLOSED);
    } else {
        mr_tcp_input_challenge(c, now_ns);
    }
    return false;
}

/* RFC 6191, RFC 9293 3.10.7.4 fourth: a path in TIME-WAIT may begin anew when nothing old can be taken for new. */
static bool is_new_life(const struct mr_tcp_conn *c, const struct mr_tcp_segment *s)
{
    if (c->state != MR_TCP_TIME_WAIT || (s->flags & (MR_TCP_SYN | MR_TCP_ACK | MR_TCP_RST | MR_TCP_FIN)) != MR_TCP_SYN) {
        return false;
    }
    return c->has_ts && s->has_ts ? mr_tcp_seq_lt(c->ts_recent, s->ts_value) : mr_tcp_seq_lt(c->rcv_nxt, s->seq);
}

/* RFC 3168 6.1.3. */
static void note_ecn(struct mr_tcp_conn *c, const struct mr_tcp_segment *s)
{
    if (!c->has_ecn) {
        return;
    }
    if ((s->flags & MR_TCP_CWR) != 0) {
        c->is_ece_due = false;
    }
    if (s->ecn == MR_TCP_CE) {
        c->is_ece_due = true;
        c->is_ack_due = true;
    }
}

bool mr_tcp_input_conn(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    struct mr_tcp *t = c->tcp;
    if (c->is_reset_due) {
        mr_tcp_drop(t, MR_TCP_DROP_AFTER_CLOSE);
        return false;
    }
    if (c->state == MR_TCP_SYN_SENT) {
        return input_syn_sent(c, s, now_ns);
    }
    if (is_new_life(c, s)) {
        mr_tcp_end(c, MR_OK);
        const struct mr_tcp_listener *listener = mr_tcp_listen_find(t, &s->path);
        if (listener != NULL) {
            return mr_tcp_listen_input(t, listener, s, now_ns);
        }
        mr_tcp_reply_reset(t, s);
        return false;
    }
    bool is_both_open = c->state == MR_TCP_SYN_RECEIVED && !c->is_passive && (s->flags & MR_TCP_SYN) != 0 &&
                        (s->flags & MR_TCP_ACK) != 0 && s->seq == c->irs;
    if (!check_timestamp(c, s, now_ns) || (!is_both_open && !check_sequence(c, s, now_ns)) || !check_reset(c, s, now_ns) ||
        !check_syn(c, s, now_ns)) {
        return false;
    }
    if ((s->flags & MR_TCP_ACK) == 0) {
        mr_tcp_drop(t, MR_TCP_DROP_NO_ACK);
        return false;
    }
    c->heard_ns = now_ns;
    c->keep_count = 0;
    /* RFC 7323 4.3 (2): only what advances the left edge may move it, or delayed ACKs would make the peer's round trips
     * look short. */
    if (c->has_ts && s->has_ts && mr_tcp_seq_le(s->seq, c->last_ack) && mr_tcp_seq_le(c->ts_recent, s->ts_value)) {
        c->ts_recent = s->ts_value;
        c->ts_recent_ns = now_ns;
    }
    if (!mr_tcp_ack(c, s, now_ns)) {
        return false;
    }
    note_ecn(c, s);
    bool is_kept = !is_both_open && mr_tcp_reasm_add(c, s, now_ns);
    return is_kept;
}
