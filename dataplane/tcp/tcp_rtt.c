/*
 * tcp_rtt: the round-trip estimate and the timeout made of it. Source: RFC 6298.
 *
 * Nanoseconds, so that round trips of a few microseconds do not become 0.
 */
#include "tcp/tcp_conn.h"

#define MIN_RTT_PERIOD_NS (10 * MR_NS_PER_S)

/* The smallest of the last one to two periods, so that it follows a path that became longer. */
static void note_min(struct mr_tcp_conn *c, uint64_t rtt_ns, uint64_t now_ns)
{
    if (now_ns - c->min_rtt_turn_ns >= MIN_RTT_PERIOD_NS) {
        c->min_rtt_ns = c->min_rtt_next_ns;
        c->min_rtt_next_ns = MR_NEVER;
        c->min_rtt_turn_ns = now_ns;
    }
    c->min_rtt_next_ns = mr_earlier(c->min_rtt_next_ns, rtt_ns);
    c->min_rtt_ns = mr_earlier(c->min_rtt_ns, c->min_rtt_next_ns);
}

/* RFC 6298 2.2 and 2.3, with alpha 1/8 and beta 1/4. The variance term has a floor of rto_min, as in Linux: a steady
 * path must not bring the timeout down to the round trip itself. */
void mr_tcp_rtt_sample(struct mr_tcp_conn *c, uint64_t rtt_ns, uint64_t now_ns)
{
    rtt_ns = rtt_ns == 0 ? 1 : rtt_ns;
    note_min(c, rtt_ns, now_ns);
    if (c->srtt_ns == 0) {
        c->srtt_ns = rtt_ns;
        c->rttvar_ns = rtt_ns / 2;
    } else {
        uint64_t apart = rtt_ns > c->srtt_ns ? rtt_ns - c->srtt_ns : c->srtt_ns - rtt_ns;
        c->rttvar_ns = (3 * c->rttvar_ns + apart) / 4;
        c->srtt_ns = (7 * c->srtt_ns + rtt_ns) / 8;
        c->srtt_ns = c->srtt_ns == 0 ? 1 : c->srtt_ns;
    }
    uint64_t spread = 4 * c->rttvar_ns;
    c->rto_ns = c->srtt_ns + (spread > c->tcp->params.rto_min_ns ? spread : c->tcp->params.rto_min_ns);
    c->rto_ns = mr_earlier(c->rto_ns, c->tcp->params.rto_max_ns);
}

/* RFC 6298 5.5, 2.5. */
uint64_t mr_tcp_rtt_timeout(const struct mr_tcp_conn *c)
{
    uint32_t shift = c->backoff < 16 ? c->backoff : 16;
    return mr_earlier(c->rto_ns << shift, c->tcp->params.rto_max_ns);
}
