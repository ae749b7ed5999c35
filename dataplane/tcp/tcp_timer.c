/*
 * tcp_timer: the deadlines of a connection, and what happens at each.
 *
 * The heap holds one timer per connection, for the earliest deadline. A deadline that moves back is not moved in the heap:
 * the timer comes early, finds nothing due and is set anew, which is cheaper than to move it with every ACK.
 */
#include "tcp/tcp_conn.h"

#define PERSIST_MAX_NS (60 * MR_NS_PER_S)
#define TLP_MIN_NS       (2 * MR_NS_PER_MS) /* more than a scheduler takes: round trips may be shorter (class 8) */
#define TLP_WORST_ACK_NS (40 * MR_NS_PER_MS) /* how long a peer may delay an ACK: RFC 8985 7.2, Linux's 40 ms */

void mr_tcp_timer_reset(struct mr_tcp_conn *c)
{
    c->rto_at = c->tlp_at = c->reorder_at = c->persist_at = MR_NEVER;
    c->ack_at = c->keep_at = c->end_at = c->retry_at = MR_NEVER;
}

static uint64_t earliest(const struct mr_tcp_conn *c)
{
    uint64_t at = mr_earlier(mr_earlier(c->rto_at, c->tlp_at), mr_earlier(c->reorder_at, c->persist_at));
    return mr_earlier(at, mr_earlier(mr_earlier(c->ack_at, c->keep_at), mr_earlier(c->end_at, c->retry_at)));
}

void mr_tcp_timer_update(struct mr_tcp_conn *c)
{
    uint64_t at = earliest(c);
    if (at != MR_NEVER && (c->timer.place == 0 || at < c->timer.deadline_ns)) {
        mr_timer_set(&c->tcp->timers, &c->timer, at);
    }
}

/* RFC 8985 7.2: no probe without SACK, in recovery, or while something is already known to be missing. */
void mr_tcp_timer_probe(struct mr_tcp_conn *c, uint64_t now_ns)
{
    c->tlp_at = MR_NEVER;
    if (!c->has_sack || c->recovery != MR_TCP_OPEN || c->sacked_bytes > 0 || c->lost_bytes > 0 || c->has_tlp || c->pipe == 0) {
        return;
    }
    uint64_t wait_ns = c->srtt_ns == 0 ? MR_NS_PER_S : 2 * c->srtt_ns;
    wait_ns += c->sent_count == 1 ? TLP_WORST_ACK_NS : TLP_MIN_NS;
    if (now_ns + wait_ns < c->rto_at) {
        c->tlp_at = now_ns + wait_ns;
    }
}

static void arm_persist(struct mr_tcp_conn *c, uint64_t now_ns)
{
    c->rto_at = c->tlp_at = c->reorder_at = MR_NEVER;
    if (!mr_tcp_output_is_stalled(c)) {
        c->persist_at = MR_NEVER;
        c->persist_count = 0;
    } else if (c->persist_at == MR_NEVER) {
        c->persist_at = now_ns + mr_tcp_rtt_timeout(c);
        c->progress_ns = now_ns;
    }
}

void mr_tcp_timer_arm(struct mr_tcp_conn *c, uint64_t now_ns, bool is_restarted)
{
    if (c->snd_una == c->snd_nxt) {
        arm_persist(c, now_ns);
        return;
    }
    c->persist_at = MR_NEVER;
    /* RFC 6298 5.1 and 5.3: set when it is not, anew only by what acknowledges something new (class 1). */
    if (c->rto_at == MR_NEVER || is_restarted) {
        c->rto_at = now_ns + mr_tcp_rtt_timeout(c);
    }
    if (is_restarted) {
        mr_tcp_timer_probe(c, now_ns);
    }
}

static bool is_given_up(const struct mr_tcp_conn *c, uint64_t now_ns)
{
    const struct mr_tcp_params *p = &c->tcp->params;
    return now_ns - c->progress_ns >= p->user_timeout_ns ||
           (c->stalled_ns != 0 && now_ns - c->stalled_ns >= p->stalled_timeout_ns);
}

/* False: the connection has ended. */
static bool retransmit_due(struct mr_tcp_conn *c, uint64_t now_ns)
{
    c->rto_at = MR_NEVER;
    if (mr_tcp_is_synchronized(c)) {
        if (is_given_up(c, now_ns)) {
            mr_tcp_end(c, MR_ERR_TIMED_OUT);
            return false;
        }
        mr_tcp_loss_timeout(c, now_ns);
        return true;
    }
    if (c->syn_tries > MR_TCP_SYN_RETRIES) {
        mr_tcp_end(c, MR_ERR_TIMED_OUT);
        return false;
    }
    c->backoff++;
    c->was_ecn_refused = c->syn_tries > 1; /* RFC 3168 6.1.1.1: some middle box may not like it */
    c->is_syn_due = true;
    mr_tcp_dirty(c);
    return true;
}

static bool persist_due(struct mr_tcp_conn *c, uint64_t now_ns)
{
    if (is_given_up(c, now_ns)) {
        mr_tcp_end(c, MR_ERR_TIMED_OUT);
        return false;
    }
    bool has_room = mr_tcp_seq_lt(c->snd_nxt, c->snd_una + c->snd_wnd);
    c->is_override_due = has_room; /* RFC 9293 3.8.6.2.1 (4) */
    c->is_probe_due = !has_room;
    uint32_t shift = c->persist_count < 10 ? ++c->persist_count : c->persist_count;
    c->persist_at = now_ns + mr_earlier(mr_tcp_rtt_timeout(c) << shift, PERSIST_MAX_NS);
    mr_tcp_dirty(c);
    return true;
}

/* RFC 9293 3.8.4. */
static bool keepalive_due(struct mr_tcp_conn *c, uint64_t now_ns)
{
    const struct mr_tcp_params *p = &c->tcp->params;
    c->keep_at = now_ns + p->keepalive_idle_ns;
    if (c->snd_una != c->snd_nxt || c->persist_at != MR_NEVER || c->state == MR_TCP_TIME_WAIT) {
        return true; /* other timers watch over it */
    }
    if (now_ns - c->heard_ns < p->keepalive_idle_ns) {
        c->keep_at = c->heard_ns + p->keepalive_idle_ns;
        return true;
    }
    if (c->keep_count++ >= p->keepalive_probes) {
        mr_tcp_end(c, MR_ERR_TIMED_OUT);
        return false;
    }
    c->keep_at = now_ns + p->keepalive_interval_ns;
    c->is_probe_due = true;
    mr_tcp_dirty(c);
    return true;
}

void mr_tcp_timer_due(struct mr_tcp_conn *c, uint64_t now_ns)
{
    if (c->end_at <= now_ns) {
        mr_tcp_end(c, MR_OK);
        return;
    }
    if (c->reorder_at <= now_ns) {
        c->reorder_at = MR_NEVER;
        mr_tcp_loss_reorder_timeout(c, now_ns);
    }
    if (c->rto_at <= now_ns && !retransmit_due(c, now_ns)) {
        return;
    }
    if (c->tlp_at <= now_ns) {
        c->tlp_at = MR_NEVER;
        c->is_tail_probe_due = true;
        mr_tcp_dirty(c);
    }
    if ((c->persist_at <= now_ns && !persist_due(c, now_ns)) || (c->keep_at <= now_ns && !keepalive_due(c, now_ns))) {
        return;
    }
    if (c->ack_at <= now_ns) {
        c->ack_at = MR_NEVER;
        c->is_ack_due = true;
        mr_tcp_dirty(c);
    }
    if (c->retry_at <= now_ns) {
        c->retry_at = MR_NEVER;
        mr_tcp_dirty(c);
    }
    mr_tcp_timer_update(c);
}
