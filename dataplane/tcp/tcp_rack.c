/*
 * tcp_rack: losses by time: what was sent long enough before something that has arrived is lost.
 *
 * Source: RFC 8985 6 (RACK). The tail probe is in tcp_output.c and tcp_loss.c. Records in flight lie in the order in
 * which they were sent, so that detection looks only at those that it marks, and one more.
 */
#include "tcp/tcp_conn.h"

#define PERSIST_RECOVERIES 16u /* RFC 8985 6.2, step 4 */

static bool is_sent_after(uint64_t time_ns, uint32_t end, uint64_t other_ns, uint32_t other_end)
{
    return time_ns > other_ns || (time_ns == other_ns && mr_tcp_seq_lt(other_end, end));
}

/* Steps 1 to 3. */
void mr_tcp_rack_delivered(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent, const struct mr_tcp_acked *acked)
{
    struct mr_tcp_rack *rack = &c->rack;
    uint64_t rtt_ns = acked->now_ns - sent->time_ns;
    if (sent->is_retransmitted) { /* does the answer belong to an earlier sending? */
        bool is_older = acked->has_ts_echo && mr_tcp_seq_lt(acked->ts_echo, mr_tcp_ts(c, sent->time_ns));
        if (is_older || (c->min_rtt_ns != MR_NEVER && rtt_ns < c->min_rtt_ns)) {
            return;
        }
    }
    rack->rtt_ns = rtt_ns;
    if (!rack->has_end || is_sent_after(sent->time_ns, sent->end, rack->time_ns, rack->end)) {
        rack->time_ns = sent->time_ns;
        rack->end = sent->end;
    }
    if (!rack->has_end || mr_tcp_seq_lt(rack->fack, sent->end)) {
        rack->fack = sent->end;
    } else if (mr_tcp_seq_lt(sent->end, rack->fack) && !sent->is_retransmitted) {
        rack->has_reordering = true;
    }
    rack->has_end = true;
}

/* Step 4: the window widens with each round in which something was sent again needlessly. That is reordering too, although
 * step 3 does not see it in a record that was sent again: without it the wider window would not be used in recovery. */
void mr_tcp_rack_adapt(struct mr_tcp_conn *c, bool has_dsack)
{
    struct mr_tcp_rack *rack = &c->rack;
    if (rack->has_dsack_round && mr_tcp_seq_le(rack->dsack_round, c->snd_una)) {
        rack->has_dsack_round = false;
    }
    if (has_dsack && !rack->has_dsack_round) {
        rack->has_dsack_round = true;
        rack->has_reordering = true;
        rack->dsack_round = c->snd_nxt;
        rack->reorder_mult++;
        rack->reorder_persist = PERSIST_RECOVERIES;
    }
}

static uint64_t reorder_window(const struct mr_tcp_conn *c)
{
    const struct mr_tcp_rack *rack = &c->rack;
    bool is_sure = c->recovery == MR_TCP_RECOVERY || c->recovery == MR_TCP_LOSS || c->sacked_bytes >= 3u * c->mss;
    if (!rack->has_reordering && is_sure) {
        return 0;
    }
    uint64_t min_ns = c->min_rtt_ns == MR_NEVER ? 0 : c->min_rtt_ns;
    return mr_earlier(rack->reorder_mult * min_ns / 4, c->srtt_ns);
}

/* Step 5. */
void mr_tcp_rack_detect(struct mr_tcp_conn *c, uint64_t now_ns)
{
    struct mr_tcp_rack *rack = &c->rack;
    c->reorder_at = MR_NEVER;
    if (!rack->has_end) {
        return;
    }
    uint64_t patience_ns = rack->rtt_ns + reorder_window(c);
    uint64_t until_ns = 0;
    MR_LIST_EACH_SAFE (link, after, &c->flying) {
        struct mr_tcp_sent *sent = MR_LIST_ENTRY(link, struct mr_tcp_sent, queue);
        if (sent->time_ns > rack->time_ns) {
            break;
        }
        if (!is_sent_after(rack->time_ns, rack->end, sent->time_ns, sent->end)) {
            continue; /* sent at the same time, and behind it */
        }
        if (sent->time_ns + patience_ns <= now_ns) {
            mr_tcp_sent_mark(c, sent, MR_TCP_LOST);
        } else {
            until_ns = sent->time_ns + patience_ns; /* the latest of them */
        }
    }
    c->reorder_at = until_ns == 0 ? MR_NEVER : until_ns;
}

void mr_tcp_rack_timeout(struct mr_tcp_conn *c, uint64_t now_ns)
{
    uint64_t patience_ns = c->rack.rtt_ns + reorder_window(c);
    MR_LIST_EACH (link, &c->sent) {
        struct mr_tcp_sent *sent = MR_LIST_ENTRY(link, struct mr_tcp_sent, link);
        bool is_old = !c->has_sack || sent->seq == c->snd_una || sent->time_ns + patience_ns <= now_ns;
        if (sent->state == MR_TCP_IN_FLIGHT && is_old) {
            mr_tcp_sent_mark(c, sent, MR_TCP_LOST);
        }
    }
}
