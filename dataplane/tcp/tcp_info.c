/*
 * tcp_info: what a connection tells about itself, names, and its invariants for tests.
 */
#include "tcp/tcp_conn.h"

void mr_tcp_info(const struct mr_tcp_conn *c, struct mr_tcp_info *info)
{
    *info = c->stats;
    info->state = c->state;
    info->mss = mr_tcp_payload_max(c);
    info->cwnd = c->cwnd;
    info->ssthresh = c->ssthresh;
    info->in_flight = c->pipe;
    info->send_window = c->snd_wnd;
    info->receive_window = c->window;
    info->srtt_ns = c->srtt_ns;
    info->rttvar_ns = c->rttvar_ns;
    info->rto_ns = mr_tcp_rtt_timeout(c);
    info->min_rtt_ns = c->min_rtt_ns;
    info->bytes_acked = c->una_pos;
    info->bytes_received = c->rcv_pos;
}

const char *mr_tcp_drop_text(enum mr_tcp_drop drop)
{
    static const char *const texts[] = {
#define DROP(name_, text_) text_,
#include "tcp/tcp_drops.def"
#undef DROP
    };
    return (unsigned)drop < (unsigned)MR_TCP_DROPS ? texts[drop] : "unknown";
}

const char *mr_tcp_state_name(enum mr_tcp_state state)
{
    static const char *const names[] = {"CLOSED",     "LISTEN",     "SYN-SENT",   "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1",
                                        "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING",    "LAST-ACK",     "TIME-WAIT"};
    return (unsigned)state <= MR_TCP_TIME_WAIT ? names[state] : "unknown";
}

/* The records lie in order, without gaps, from snd_una to snd_nxt, and the sums are theirs. */
static const char *check_sent(const struct mr_tcp_conn *c)
{
    uint32_t sums[3] = {0};
    uint32_t count = 0;
    uint32_t flying = 0;
    uint32_t at = c->snd_una;
    MR_LIST_EACH (link, &c->sent) {
        const struct mr_tcp_sent *sent = MR_LIST_ENTRY(link, struct mr_tcp_sent, link);
        if (sent->seq != at || !mr_tcp_seq_lt(sent->seq, sent->end)) {
            return "the records of what was sent have a gap";
        }
        at = sent->end;
        sums[sent->state] += sent->end - sent->seq;
        flying += sent->state == MR_TCP_IN_FLIGHT;
        count++;
    }
    uint64_t time_ns = 0;
    MR_LIST_EACH (link, &c->flying) {
        const struct mr_tcp_sent *sent = MR_LIST_ENTRY(link, struct mr_tcp_sent, queue);
        if (sent->state != MR_TCP_IN_FLIGHT || sent->time_ns < time_ns) {
            return "the records by time are out of order";
        }
        time_ns = sent->time_ns;
        flying--;
    }
    return at != c->snd_nxt            ? "the records end before snd_nxt"
           : flying != 0               ? "a record in flight is not in the list by time"
           : count != c->sent_count    ? "the number of records is wrong"
           : sums[0] != c->pipe        ? "pipe is not the sum of what is in flight"
           : sums[1] != c->sacked_bytes ? "sacked_bytes is wrong"
           : sums[2] != c->lost_bytes   ? "lost_bytes is wrong"
                                        : NULL;
}

static const char *check_received(const struct mr_tcp_conn *c)
{
    uint32_t count = 0;
    uint32_t ranges = 0;
    uint32_t bytes = 0;
    uint32_t at = c->rcv_nxt;
    MR_LIST_EACH (link, &c->disorder) {
        const struct mr_tcp_piece *piece = MR_LIST_ENTRY(link, struct mr_tcp_piece, link);
        if (mr_tcp_seq_lt(piece->seq, at) || piece->len == 0 || (count == 0 && piece->seq == at)) {
            return "pieces out of order overlap, or are in order";
        }
        ranges += count == 0 || piece->seq != at;
        at = piece->seq + piece->len;
        bytes += piece->len;
        count++;
    }
    return count != c->disorder_count || bytes != c->disorder_bytes   ? "the sum of the pieces is wrong"
           : ranges != c->disorder_ranges                             ? "the number of ranges is wrong"
           : mr_tcp_seq_lt(c->rcv_adv, at)                            ? "a piece lies beyond the window"
           : c->consumed_pos > c->rcv_pos                             ? "more was consumed than received"
           : c->rcv_pos - c->consumed_pos > c->tcp->params.window_max ? "more lies here than a window"
                                                                      : NULL;
}

static const char *check_timers(const struct mr_tcp_conn *c)
{
    bool is_sending = c->rto_at != MR_NEVER || c->tlp_at != MR_NEVER || c->reorder_at != MR_NEVER || c->persist_at != MR_NEVER ||
                      c->retry_at != MR_NEVER;
    bool is_dirty = !mr_list_is_empty(&c->dirty);
    bool is_waiting = is_sending || c->keep_at != MR_NEVER || c->end_at != MR_NEVER;
    if (c->snd_una != c->snd_nxt && c->rto_at == MR_NEVER && !is_dirty) {
        return "unacknowledged, and no retransmission timer";
    }
    if (mr_tcp_is_synchronized(c) && mr_tcp_output_unsent(c) > 0 && !is_sending && !is_dirty) {
        return "bytes wait to be sent, and no timer runs";
    }
    if (!is_waiting && !is_dirty && c->state != MR_TCP_ESTABLISHED && c->state != MR_TCP_CLOSE_WAIT && !c->is_owned) {
        return "nobody owns it, and no timer will end it";
    }
    return is_waiting && !is_dirty && c->timer.place == 0 ? "a deadline, and the timer is not set" : NULL;
}

static const char *check_conn(const struct mr_tcp_conn *c)
{
    const char *what = NULL;
    if (c->state == MR_TCP_CLOSED || c->state == MR_TCP_LISTEN) {
        return "a connection in the table is closed";
    }
    if (mr_tcp_is_synchronized(c) && !c->is_reset_due) {
        what = check_sent(c);
        if (what == NULL && mr_tcp_seq_lt(c->snd_right + c->is_fin_sent, c->snd_nxt)) {
            what = "sent beyond the window that was ever offered";
        }
    }
    what = what != NULL || !mr_tcp_is_synchronized(c) ? what : check_received(c);
    return what != NULL || c->is_reset_due ? what : check_timers(c);
}

const char *mr_tcp_check(const struct mr_tcp *t)
{
    uint32_t half_open = 0;
    uint32_t time_wait = 0;
    for (uint32_t bucket = 0; bucket < t->bucket_count; bucket++) {
        for (const struct mr_tcp_conn *c = t->buckets[bucket]; c != NULL; c = c->next) {
            const char *what = check_conn(c);
            if (what != NULL) {
                return what;
            }
            half_open += c->state == MR_TCP_SYN_RECEIVED && c->is_passive;
            time_wait += c->state == MR_TCP_TIME_WAIT;
        }
    }
    return half_open != t->half_open         ? "the number of half-open connections is wrong"
           : time_wait != t->time_wait_count ? "the number in TIME-WAIT is wrong"
                                             : NULL;
}
