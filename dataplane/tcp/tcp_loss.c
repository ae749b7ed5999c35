/*
 * tcp_loss: what an acknowledgement, a timeout or a congestion mark does to the sending rate.
 *
 *   OPEN --losses found--> RECOVERY --all of then acknowledged--> OPEN      window by PRR
 *   OPEN --ECE-----------> REDUCING --all of then acknowledged--> OPEN      window by PRR
 *   any  --timeout-------> LOSS     --all of then acknowledged--> OPEN      slow start from one segment
 *
 * Source: RFC 5681, RFC 6675 5, RFC 8985 (RACK-TLP), RFC 6937 (PRR), RFC 6582 (without SACK), RFC 3168 6.1.2,
 * RFC 3522 and RFC 3708 (undoing what was needless).
 */
#include "tcp/tcp_conn.h"

#define DUP_ACKS 3u

static void begin(struct mr_tcp_conn *c, enum mr_tcp_recovery recovery)
{
    c->undo_cwnd = c->cwnd;
    c->undo_ssthresh = c->ssthresh;
    c->undo_bytes = 0;
    c->has_undo_ts = false;
    c->ssthresh = mr_tcp_cubic_reduce(c);
    c->recovery = recovery;
    c->recovery_point = c->snd_nxt;
    c->prr_delivered = c->prr_out = 0;
    c->prr_flight = mr_tcp_in_flight(c) > 0 ? mr_tcp_in_flight(c) : 1;
}

static void leave(struct mr_tcp_conn *c)
{
    if (c->recovery != MR_TCP_LOSS) {
        c->cwnd = c->ssthresh;
    }
    if (c->rack.reorder_persist > 0 && c->recovery == MR_TCP_RECOVERY && --c->rack.reorder_persist == 0) {
        c->rack.reorder_mult = 1;
    }
    c->recovery = MR_TCP_OPEN;
    c->undo_cwnd = 0;
    c->dup_acks = 0;
}

/* What was taken for lost was late. */
static void undo(struct mr_tcp_conn *c)
{
    c->cwnd = c->cwnd > c->undo_cwnd ? c->cwnd : c->undo_cwnd;
    c->ssthresh = c->undo_ssthresh;
    c->stats.spurious++;
    while (!mr_list_is_empty(&c->lost)) {
        mr_tcp_sent_mark(c, MR_LIST_ENTRY(c->lost.next, struct mr_tcp_sent, queue), MR_TCP_IN_FLIGHT);
    }
    c->recovery = MR_TCP_OPEN;
    c->undo_cwnd = 0;
    c->backoff = 0;
}

/* Eifel (RFC 3522 3.2): the acknowledgement of what was sent again echoes a time before that. D-SACK (RFC 3708): everything
 * that was sent again had arrived before. */
static bool is_needless(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, const struct mr_tcp_acked *acked)
{
    if (c->undo_cwnd == 0 || c->recovery == MR_TCP_REDUCING) {
        return false;
    }
    bool is_covered = mr_tcp_seq_lt(c->undo_seq, s->ack) && mr_tcp_seq_le(acked->una_before, c->undo_seq);
    if (c->has_undo_ts && acked->is_una_new && acked->has_ts_echo && is_covered) {
        c->has_undo_ts = false;
        return mr_tcp_seq_lt(acked->ts_echo, c->undo_ts);
    }
    if (acked->has_dsack && c->undo_bytes > 0) {
        c->undo_bytes -= acked->dsack_bytes < c->undo_bytes ? acked->dsack_bytes : c->undo_bytes;
        return c->undo_bytes == 0;
    }
    return false;
}

/* RFC 6937 3.1, with the rule of RFC 9937 for its two bounds: grow only while nothing more is lost. */
static void reduce_in_proportion(struct mr_tcp_conn *c, const struct mr_tcp_acked *acked)
{
    uint64_t send;
    c->prr_delivered += acked->delivered;
    if (c->pipe > c->ssthresh) {
        uint64_t wanted = ((uint64_t)c->prr_delivered * c->ssthresh + c->prr_flight - 1) / c->prr_flight;
        send = wanted > c->prr_out ? wanted - c->prr_out : 0;
    } else {
        uint32_t behind = c->prr_delivered > c->prr_out ? c->prr_delivered - c->prr_out : 0;
        bool is_good = acked->is_una_new && !acked->is_lost_news;
        uint32_t bound = is_good && acked->delivered > behind ? acked->delivered : behind;
        bound += is_good ? c->mss : 0;
        send = c->ssthresh - c->pipe < bound ? c->ssthresh - c->pipe : bound;
    }
    if (c->prr_out == 0 && c->lost_bytes > 0 && send < c->mss) {
        send = c->mss; /* the first retransmission goes at once */
    }
    c->cwnd = c->pipe + (uint32_t)send;
}

/* RFC 8985 7.4.2: a loss that the tail probe itself repaired is a loss all the same. */
static void judge_probe(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, const struct mr_tcp_acked *acked)
{
    if (!c->has_tlp || mr_tcp_seq_lt(s->ack, c->tlp_end)) {
        return;
    }
    if (!c->is_tlp_retransmit || acked->has_dsack) {
        c->has_tlp = false;
    } else if (mr_tcp_seq_lt(c->tlp_end, s->ack)) {
        c->has_tlp = false;
        if (c->recovery == MR_TCP_OPEN) {
            begin(c, MR_TCP_REDUCING);
        }
    } else if (!acked->is_una_new && s->sack_count == 0 && s->len == 0) {
        c->has_tlp = false;
    }
}

static void detect_without_sack(struct mr_tcp_conn *c, bool is_duplicate, const struct mr_tcp_acked *acked)
{
    if (acked->is_una_new) {
        c->dup_acks = 0;
        mr_tcp_sent_forget(c);
    } else if (is_duplicate) {
        c->dup_acks++;
        mr_tcp_sent_guess(c);
    }
    /* RFC 6582 3.2: three duplicates, or a partial acknowledgement. */
    bool is_partial = acked->is_una_new && c->recovery == MR_TCP_RECOVERY;
    struct mr_tcp_sent *first = mr_tcp_sent_first(c);
    if (first != NULL && first->state == MR_TCP_IN_FLIGHT &&
        (is_partial || (c->dup_acks == DUP_ACKS && c->recovery == MR_TCP_OPEN))) {
        mr_tcp_sent_mark(c, first, MR_TCP_LOST);
    }
}

static void detect(struct mr_tcp_conn *c, bool is_duplicate, struct mr_tcp_acked *acked)
{
    uint32_t lost_before = c->lost_bytes;
    if (c->has_sack) {
        mr_tcp_rack_adapt(c, acked->has_dsack);
        mr_tcp_rack_detect(c, acked->now_ns);
    } else {
        detect_without_sack(c, is_duplicate, acked);
    }
    acked->is_lost_news = c->lost_bytes > lost_before;
    if (acked->is_lost_news && c->recovery != MR_TCP_RECOVERY && c->recovery != MR_TCP_LOSS) {
        begin(c, MR_TCP_RECOVERY);
    }
}

/* What is acknowledged leaves the queue; the FIN is not in it. */
static void advance(struct mr_tcp_conn *c, uint32_t ack, struct mr_tcp_acked *acked)
{
    bool covers_fin = c->is_fin_sent && ack == c->snd_nxt;
    acked->is_una_new = true;
    mr_tcp_sent_ack(c, ack, acked);
    mr_tcp_queue_acked(c, ack - c->snd_una - covers_fin);
    c->snd_una = ack;
    c->backoff = 0;
    c->persist_count = 0;
    c->progress_ns = acked->now_ns;
}

void mr_tcp_loss_acked(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, struct mr_tcp_acked *acked)
{
    /* RFC 5681 2. */
    bool is_duplicate = s->ack == c->snd_una && s->len == 0 && (s->flags & MR_TCP_FIN) == 0 && c->snd_una != c->snd_nxt &&
                        (uint32_t)s->window << c->snd_scale == c->snd_wnd;
    if (c->has_sack) {
        mr_tcp_sent_sack(c, s, acked);
    }
    if (mr_tcp_seq_lt(c->snd_una, s->ack)) {
        advance(c, s->ack, acked);
    }
    if (acked->rtt_ns == 0 && acked->is_una_new && acked->has_ts_echo) { /* sent again: only its timestamp tells (RFC 7323 4.1) */
        uint32_t ms = mr_tcp_ts(c, acked->now_ns) - acked->ts_echo;
        acked->rtt_ns = ms < 3600 * 1000 ? (ms + 1) * MR_NS_PER_MS : 0;
    }
    if (acked->rtt_ns != 0) {
        mr_tcp_rtt_sample(c, acked->rtt_ns, acked->now_ns);
    }
    if (is_needless(c, s, acked)) {
        undo(c);
    }
    if (c->recovery != MR_TCP_OPEN && mr_tcp_seq_le(c->recovery_point, c->snd_una)) {
        leave(c);
    }
    judge_probe(c, s, acked);
    detect(c, is_duplicate, acked);
    if (c->has_ecn && (s->flags & MR_TCP_ECE) != 0 && c->recovery == MR_TCP_OPEN && c->snd_una != c->snd_nxt) {
        begin(c, MR_TCP_REDUCING);
        c->is_cwr_due = true;
    }
    if (c->recovery == MR_TCP_RECOVERY || c->recovery == MR_TCP_REDUCING) {
        reduce_in_proportion(c, acked);
    } else { /* a duplicate lets out what it says has left, and no more (RFC 3042) */
        mr_tcp_cubic_acked(c, acked->is_una_new ? acked->delivered : 0, acked->rtt_ns, acked->now_ns);
    }
}

void mr_tcp_loss_reorder_timeout(struct mr_tcp_conn *c, uint64_t now_ns)
{
    struct mr_tcp_acked nothing = {.now_ns = now_ns};
    detect(c, false, &nothing);
    if (c->recovery == MR_TCP_RECOVERY) {
        reduce_in_proportion(c, &nothing);
    }
    mr_tcp_dirty(c);
}

/* The next smaller size that paths have (RFC 1191 7.1, RFC 4821 7.2), as an MSS. */
static uint32_t smaller_mss(const struct mr_tcp_conn *c)
{
    static const uint16_t plateaus[] = {4352, 2002, 1492, 1280, 1006, 576};
    uint32_t headers = mr_tcp_headers(&c->path);
    for (uint32_t index = 0; index < sizeof plateaus / sizeof plateaus[0]; index++) {
        if (plateaus[index] - headers < c->mss && plateaus[index] - headers >= mr_tcp_mss_floor(c)) {
            return plateaus[index] - headers;
        }
    }
    return mr_tcp_mss_floor(c);
}

void mr_tcp_loss_smaller_mss(struct mr_tcp_conn *c, uint32_t mss)
{
    mss = mss > mr_tcp_mss_floor(c) ? mss : mr_tcp_mss_floor(c);
    if (mss >= c->mss) {
        return;
    }
    c->mss = (uint16_t)mss;
    MR_LIST_EACH (link, &c->sent) {
        struct mr_tcp_sent *sent = MR_LIST_ENTRY(link, struct mr_tcp_sent, link);
        if (sent->state == MR_TCP_IN_FLIGHT && sent->end - sent->seq > mr_tcp_payload_max(c)) {
            mr_tcp_sent_mark(c, sent, MR_TCP_LOST);
        }
    }
    mr_tcp_dirty(c);
}

/* RFC 6298 5.4 to 5.6, RFC 5681 3.1. */
void mr_tcp_loss_timeout(struct mr_tcp_conn *c, uint64_t now_ns)
{
    struct mr_tcp_sent *first = mr_tcp_sent_first(c);
    c->stats.timeouts++;
    c->backoff++;
    if (first != NULL && (!c->has_sack || first->state == MR_TCP_SACKED)) {
        mr_tcp_sent_forget(c); /* the peer has taken back what it said (RFC 2018 8), or never said it */
    }
    if (c->recovery == MR_TCP_OPEN || c->recovery == MR_TCP_REDUCING) {
        begin(c, MR_TCP_LOSS);
    }
    c->recovery = MR_TCP_LOSS;
    c->recovery_point = c->snd_nxt;
    c->dup_acks = 0;
    mr_tcp_rack_timeout(c, now_ns);
    c->cwnd = c->mss;
    c->has_tlp = false;
    c->is_tail_probe_due = false;
    c->tlp_at = c->reorder_at = MR_NEVER;
    if (c->backoff >= MR_TCP_BLACK_HOLE && first != NULL && first->end - first->seq > mr_tcp_mss_floor(c) && c->snd_wnd > 0) {
        mr_tcp_loss_smaller_mss(c, smaller_mss(c)); /* RFC 8899 4.3, RFC 2923 2.1: large packets may vanish silently */
    }
    c->rto_at = now_ns + mr_tcp_rtt_timeout(c);
    mr_tcp_dirty(c);
}
