/*
 * tcp_icmp: what routers say about a path. Only messages that quote a segment in flight are believed (RFC 5927 4.1), and
 * none of them ends a connection that is open (5.2).
 */
#include "tcp/tcp_conn.h"

static struct mr_tcp_conn *quoted(struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t seq)
{
    struct mr_tcp_conn *c = mr_tcp_find(t, path);
    if (c == NULL || c->is_reset_due || !mr_tcp_seq_within(seq, c->snd_una, c->snd_nxt)) {
        mr_tcp_drop(t, MR_TCP_DROP_ICMP);
        return NULL;
    }
    return c;
}

/* RFC 1191 6, RFC 8201 4. A router that tells no size (before RFC 1191) leaves it to the next smaller one. */
void mr_tcp_packet_too_big(struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t seq, uint32_t mtu)
{
    struct mr_tcp_conn *c = quoted(t, path, seq);
    uint32_t headers = mr_tcp_headers(path);
    if (c != NULL) {
        mr_tcp_loss_smaller_mss(c, mtu > headers ? mtu - headers : 0);
    }
}

void mr_tcp_unreachable(struct mr_tcp *t, const struct mr_tcp_path *path, uint32_t seq)
{
    struct mr_tcp_conn *c = quoted(t, path, seq);
    if (c != NULL && !mr_tcp_is_synchronized(c)) {
        mr_tcp_end(c, MR_ERR_CLOSED);
    }
}
