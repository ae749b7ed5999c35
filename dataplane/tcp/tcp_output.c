/*
 * tcp_output: the next segment of a connection, the most urgent first: reset, SYN, SACK, tail probe, what is lost, what
 * is new, probes, a bare ACK.
 *
 * Nothing is copied: a segment holds references to the lent spans. Nagle's algorithm is off: what a turn has queued is
 * sent together, because output is asked for once per turn.
 *
 * Source: RFC 9293 3.8.6 (windows), 3.10.4 (CLOSE), RFC 5681, RFC 3042, RFC 6675 5, RFC 8985 7.3.
 */
#include "tcp/tcp_conn.h"

uint32_t mr_tcp_output_unsent(const struct mr_tcp_conn *c)
{
    return c->is_fin_sent ? 0 : (uint32_t)(c->end_pos - c->una_pos) - mr_tcp_in_flight(c);
}

static bool is_fin_due(const struct mr_tcp_conn *c)
{
    return c->is_fin_wanted && !c->is_fin_sent;
}

/* Sequence numbers that the peer has room for; a window that was taken back leaves none. */
static uint32_t window_room(const struct mr_tcp_conn *c)
{
    uint32_t right = c->snd_una + c->snd_wnd;
    return mr_tcp_seq_lt(c->snd_nxt, right) ? right - c->snd_nxt : 0;
}

/* RFC 9293 3.8.6.2.1: a full segment, all there is, or half of the largest window ever seen. */
static bool is_worth_sending(const struct mr_tcp_conn *c, uint32_t len, uint32_t unsent)
{
    return len >= mr_tcp_payload_max(c) || (len == unsent && len > 0) || (len > 0 && len >= c->snd_wnd_max / 2) ||
           (len > 0 && c->is_override_due);
}

bool mr_tcp_output_is_stalled(const struct mr_tcp_conn *c)
{
    uint32_t unsent = mr_tcp_output_unsent(c);
    uint32_t room = window_room(c);
    if (!mr_tcp_is_synchronized(c) || (unsent == 0 && !is_fin_due(c))) {
        return false;
    }
    return unsent == 0 ? room == 0 : !is_worth_sending(c, unsent < room ? unsent : room, unsent);
}

/* ---- headers ---- */

/* Never less than was announced, so it is rounded up where the scale hides the lowest bits; see tcp_window.c. */
static uint16_t announce(struct mr_tcp_conn *c, bool is_syn)
{
    uint32_t window = mr_tcp_window(c);
    uint8_t scale = is_syn ? 0 : c->rcv_scale;
    uint32_t announced = c->rcv_adv - c->rcv_nxt;
    uint32_t units = window > announced ? window >> scale : (window + (1u << scale) - 1) >> scale;
    units = units < 65535 ? units : 65535;
    if (mr_tcp_seq_lt(c->rcv_adv, c->rcv_nxt + (units << scale))) {
        c->rcv_adv = c->rcv_nxt + (units << scale);
    }
    return (uint16_t)units;
}

/* Everything but text. What a segment says about received bytes is said now. */
static void make_header(struct mr_tcp_conn *c, uint32_t seq, uint8_t flags, uint64_t now_ns, struct mr_tcp_segment *out)
{
    *out = (struct mr_tcp_segment){.path = c->path, .seq = seq, .flags = flags, .cut_bytes = mr_tcp_payload_max(c)};
    if ((flags & MR_TCP_ACK) != 0) {
        out->ack = c->rcv_nxt;
        c->last_ack = c->rcv_nxt;
        c->is_ack_due = false;
        c->ack_at = MR_NEVER;
        c->unacked_bytes = 0;
    }
    out->window = announce(c, (flags & MR_TCP_SYN) != 0);
    if (c->has_ts && (flags & MR_TCP_SYN) == 0) {
        out->has_ts = true;
        out->ts_value = mr_tcp_ts(c, now_ns);
        out->ts_echo = c->ts_recent;
    }
    if (c->is_ece_due && (flags & MR_TCP_SYN) == 0) {
        out->flags |= MR_TCP_ECE;
    }
    c->stats.segments_out++;
}

static bool send_reset(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    make_header(c, c->snd_nxt, MR_TCP_RST | MR_TCP_ACK, now_ns, out);
    c->tcp->counts.resets_sent++;
    mr_tcp_end(c, c->why);
    return true;
}

static bool send_syn(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    const struct mr_tcp_params *p = &c->tcp->params;
    bool is_active = c->state == MR_TCP_SYN_SENT;
    if (!c->is_syn_due) {
        return false;
    }
    c->is_syn_due = false;
    make_header(c, c->iss, is_active ? MR_TCP_SYN : MR_TCP_SYN | MR_TCP_ACK, now_ns, out);
    out->window = (uint16_t)(c->window < 65535 ? c->window : 65535);
    out->has_mss = true;
    out->mss = (uint16_t)(p->mtu - mr_tcp_headers(&c->path));
    out->is_sack_permitted = is_active ? p->has_sack : c->has_sack;
    out->has_ts = is_active ? p->has_timestamps : c->has_ts;
    out->ts_value = out->has_ts ? mr_tcp_ts(c, now_ns) : 0;
    out->ts_echo = out->has_ts && !is_active ? c->ts_recent : 0;
    out->has_wscale = is_active ? p->has_wscale : c->rcv_scale > 0 || c->snd_scale > 0;
    out->wscale = mr_tcp_window_scale(p);
    if (is_active && p->has_ecn && !c->was_ecn_refused) {
        out->flags |= MR_TCP_ECE | MR_TCP_CWR;
    } else if (!is_active && c->has_ecn) {
        out->flags |= MR_TCP_ECE;
    }
    c->snd_nxt = c->iss + 1;
    c->syn_ns = now_ns;
    c->syn_tries++;
    c->rto_at = now_ns + mr_tcp_rtt_timeout(c);
    return true;
}

static bool send_ack(struct mr_tcp_conn *c, uint32_t seq, uint64_t now_ns, struct mr_tcp_segment *out)
{
    make_header(c, seq, MR_TCP_ACK, now_ns, out);
    if (c->has_sack) {
        out->sack_count = (uint8_t)mr_tcp_reasm_sacks(c, out->sacks, c->has_ts ? 3 : 4);
        c->has_dsack = false;
    }
    return true;
}

/* ---- text ---- */

/* The text of [seq, seq + len), as many spans as fit: what is not held is to be sent by the next one. */
static void make_text(struct mr_tcp_conn *c, uint32_t len, struct mr_tcp_segment *out)
{
    uint64_t pos = c->una_pos + (out->seq - c->snd_una);
    out->len = mr_tcp_queue_spans(c, pos, len, out->spans, MR_TCP_SPANS, &out->span_count);
    out->flags |= pos + out->len == c->end_pos ? MR_TCP_PSH : 0;
}

static void note_retransmission(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent, uint64_t now_ns)
{
    if (c->undo_cwnd == 0) {
        return;
    }
    c->undo_bytes += sent->end - sent->seq;
    if (!c->has_undo_ts && c->undo_bytes == sent->end - sent->seq) {
        c->has_undo_ts = c->has_ts;
        c->undo_ts = mr_tcp_ts(c, now_ns);
        c->undo_seq = sent->seq;
    }
}

/* One segment of the record again. Where no record is free to cut it, the whole of it counts as sent: what did not go is
 * found lost a little later, so that an empty pool makes us slow and never still (class 7). */
static void send_again(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, uint64_t now_ns, struct mr_tcp_segment *out)
{
    uint32_t max = mr_tcp_payload_max(c);
    uint32_t text = sent->end - sent->seq - sent->has_fin;
    make_header(c, sent->seq, MR_TCP_ACK, now_ns, out);
    make_text(c, text < max ? text : max, out);
    if (out->len < text) {
        (void)mr_tcp_sent_split(c, sent, sent->seq + out->len);
    }
    out->flags |= out->len == text && sent->has_fin ? MR_TCP_FIN : 0;
    mr_tcp_sent_again(c, sent, now_ns);
    note_retransmission(c, sent, now_ns);
    c->prr_out += sent->end - sent->seq;
    mr_tcp_timer_arm(c, now_ns, false);
}

static bool send_lost(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    if (mr_list_is_empty(&c->lost)) {
        return false;
    }
    struct mr_tcp_sent *sent = MR_LIST_ENTRY(c->lost.next, struct mr_tcp_sent, queue);
    uint32_t len = sent->end - sent->seq;
    len = len < mr_tcp_payload_max(c) ? len : mr_tcp_payload_max(c);
    bool is_next_hole = !c->has_sack && sent->seq == c->snd_una; /* at once: RFC 6582 3.2, step 3 */
    if (c->pipe > 0 && c->pipe + len > c->cwnd && !is_next_hole) {
        c->is_window_full = true;
        return false;
    }
    /* A window that was taken back is probed with its first byte only (class 14). */
    bool is_beyond = sent->seq != c->snd_una && !mr_tcp_seq_lt(sent->seq, c->snd_una + c->snd_wnd);
    if (is_beyond) {
        return false;
    }
    send_again(c, sent, now_ns, out);
    return true;
}

/* How much of what is unsent may go now; 0: nothing. `is_free`: the congestion window does not count. */
static uint32_t allowed(struct mr_tcp_conn *c, uint32_t unsent, bool is_free)
{
    uint32_t max = mr_tcp_payload_max(c);
    uint32_t burst = c->tcp->params.burst_bytes > max ? c->tcp->params.burst_bytes / max * max : max;
    uint32_t room = window_room(c);
    uint32_t len = unsent < room ? unsent : room;
    if (!is_worth_sending(c, len, unsent)) {
        return 0;
    }
    len = len < burst ? len : burst;
    len = is_free && len > max ? max : len;
    uint32_t free = c->cwnd > c->pipe ? c->cwnd - c->pipe : 0;
    if (is_free || len <= free) {
        return len;
    }
    c->is_window_full = true;
    return len <= max || free < max ? 0 : free / max * max;
}

static void enter_fin_state(struct mr_tcp_conn *c)
{
    c->is_fin_sent = true;
    if (c->state == MR_TCP_ESTABLISHED) {
        mr_tcp_set_state(c, MR_TCP_FIN_WAIT_1);
    } else if (c->state == MR_TCP_CLOSE_WAIT) {
        mr_tcp_set_state(c, MR_TCP_LAST_ACK);
    }
}

/* New text, with the FIN when it is the last. `is_free` as in allowed(). */
static bool send_new(struct mr_tcp_conn *c, bool is_free, uint64_t now_ns, struct mr_tcp_segment *out)
{
    uint32_t unsent = mr_tcp_output_unsent(c);
    uint32_t room = window_room(c);
    uint32_t len = unsent == 0 ? 0 : allowed(c, unsent, is_free);
    bool has_fin = is_fin_due(c) && len == unsent && room > len;
    if (len == 0 && !has_fin) {
        if (unsent == 0 && 2 * (uint64_t)c->pipe < c->cwnd) {
            c->is_window_full = false; /* the sender has not enough to say */
        }
        return false;
    }
    if (c->sent_count >= MR_TCP_SENT_MAX || c->tcp->sents.used == c->tcp->sents.capacity) {
        c->retry_at = c->sent_count == 0 ? now_ns + MR_TCP_RETRY_NS : c->retry_at;
        return false;
    }
    make_header(c, c->snd_nxt, MR_TCP_ACK, now_ns, out);
    make_text(c, len, out);
    has_fin = has_fin && out->len == len;
    out->flags |= has_fin ? MR_TCP_FIN : 0;
    if (c->has_ecn && out->len > 0) {
        out->ecn = MR_TCP_ECT0;
        out->flags |= c->is_cwr_due ? MR_TCP_CWR : 0;
        c->is_cwr_due = false;
    }
    if (c->snd_una == c->snd_nxt) {
        c->progress_ns = now_ns;
    }
    uint32_t end = c->snd_nxt + out->len + has_fin;
    struct mr_tcp_sent *sent = mr_tcp_sent_add(c, c->snd_nxt, end, has_fin, now_ns);
    mr_assert(sent != NULL);
    c->snd_nxt = end;
    c->prr_out += out->len;
    c->is_override_due = false;
    if (has_fin) {
        enter_fin_state(c);
    }
    mr_tcp_timer_arm(c, now_ns, false);
    mr_tcp_timer_probe(c, now_ns);
    return true;
}

/* RFC 8985 7.3: something new if there is anything, else the last segment again. */
static bool send_tail_probe(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    if (!c->is_tail_probe_due) {
        return false;
    }
    c->is_tail_probe_due = false;
    if (c->snd_una == c->snd_nxt || c->recovery != MR_TCP_OPEN) {
        return false;
    }
    c->has_tlp = true;
    c->is_tlp_retransmit = !send_new(c, true, now_ns, out);
    c->tlp_at = MR_NEVER;
    c->tlp_end = c->snd_nxt;
    c->stats.probes++;
    c->rto_at = now_ns + mr_tcp_rtt_timeout(c);
    if (!c->is_tlp_retransmit) {
        return true;
    }
    struct mr_tcp_sent *last = MR_LIST_ENTRY(c->sent.prev, struct mr_tcp_sent, link);
    uint32_t max = mr_tcp_payload_max(c);
    if (last->end - last->seq - last->has_fin > max) {
        struct mr_tcp_sent *tail = mr_tcp_sent_split(c, last, last->end - last->has_fin - max);
        last = tail == NULL ? last : tail;
    }
    c->has_tlp = last->state == MR_TCP_IN_FLIGHT && mr_tcp_seq_lt(last->seq, c->snd_una + c->snd_wnd);
    if (c->has_tlp) {
        send_again(c, last, now_ns, out);
    }
    return c->has_tlp;
}

/* RFC 9293 3.8.6.1, 3.8.4: a number that the peer has seen already, without text: it must answer, whatever its
 * window. A probe with no text at snd_nxt would be acceptable, and is not answered by Linux (class 2). */
static bool send_probe(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    if (!c->is_probe_due) {
        return false;
    }
    c->is_probe_due = false;
    c->stats.probes++;
    return send_ack(c, c->snd_una - 1, now_ns, out);
}

bool mr_tcp_output_next(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out)
{
    if (c->is_reset_due) {
        return send_reset(c, now_ns, out);
    }
    if (!mr_tcp_is_synchronized(c)) {
        return send_syn(c, now_ns, out) || (c->is_ack_due && send_ack(c, c->snd_nxt, now_ns, out));
    }
    /* What is missing is told at once and alone: the options would not leave room for a full segment. */
    if (c->is_ack_due && (c->disorder_count > 0 || c->has_dsack)) {
        return send_ack(c, c->snd_nxt, now_ns, out);
    }
    if (send_tail_probe(c, now_ns, out) || send_lost(c, now_ns, out) || send_new(c, false, now_ns, out) ||
        send_probe(c, now_ns, out)) {
        return true;
    }
    if (c->is_ack_due) {
        return send_ack(c, c->snd_nxt, now_ns, out);
    }
    mr_tcp_timer_arm(c, now_ns, false);
    return false;
}
