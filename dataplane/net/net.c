#include "net/net.h"

#include "net/net_parts.h"
#include "tcp/tcp_wire.h"

void mr_net_init(struct mr_net *n, const struct mr_net_params *params, struct mr_tcp *tcp)
{
    memset(n, 0, sizeof *n);
    n->params = *params;
    n->tcp = tcp;
    n->neighbour_due_ns = MR_NEVER;
}

const char *mr_net_drop_text(enum mr_net_drop drop)
{
    static const char *const texts[] = {
#define DROP(name_, text_) text_,
#include "net/net_drops.def"
#undef DROP
    };
    return (unsigned)drop < (unsigned)MR_NET_DROPS ? texts[drop] : "unknown";
}

bool mr_net_is_ours(const struct mr_net *n, const struct mr_address *a)
{
    for (uint32_t index = 0; index < n->params.address_count; index++) {
        if (mr_address_equal(&n->params.addresses[index].address, a)) {
            return true;
        }
    }
    return false;
}

/* The one in the same network, else the first of the family. */
const struct mr_address *mr_net_source(const struct mr_net *n, const struct mr_address *to)
{
    const struct mr_address *found = NULL;
    for (uint32_t index = 0; index < n->params.address_count; index++) {
        const struct mr_net_prefix *prefix = &n->params.addresses[index];
        if (mr_network_has(&prefix->network, to)) {
            return &prefix->address;
        }
        if (found == NULL && mr_address_is_ip4(&prefix->address) == mr_address_is_ip4(to)) {
            found = &prefix->address;
        }
    }
    return found;
}

uint8_t *mr_net_reply(struct mr_net *n, const struct mr_net_mac *to, uint16_t type, uint32_t len)
{
    if (n->reply_count == MR_NET_REPLIES || len > MR_NET_REPLY_MAX) {
        mr_net_drop(n, MR_NET_DROP_REPLIES);
        return NULL;
    }
    struct mr_net_reply *reply = &n->replies[(n->reply_first + n->reply_count++) % MR_NET_REPLIES];
    reply->len = len;
    memcpy(reply->bytes, to->bytes, MR_NET_MAC);
    memcpy(reply->bytes + 6, n->params.mac.bytes, MR_NET_MAC);
    mr_store_be16(reply->bytes + 12, type);
    return reply->bytes;
}

void mr_net_announce(struct mr_net *n, uint64_t now_ns)
{
    n->now_ns = now_ns;
    for (uint32_t index = 0; index < n->params.address_count; index++) {
        const struct mr_address *ours = &n->params.addresses[index].address;
        if (mr_address_is_ip4(ours)) {
            mr_arp_announce(n, ours);
        } else {
            mr_nd_announce(n, ours);
        }
    }
}

static bool tcp_input(struct mr_net *n, const struct mr_net_packet *p)
{
    struct mr_tcp_segment s = {.path = {.local = p->to, .remote = p->from}, .ecn = p->ecn, .buffer = p->buffer};
    enum mr_tcp_drop why;
    if (!mr_tcp_wire_parse(p->bytes, p->len, p->is_verified, &s, &why)) {
        mr_net_drop(n, why == MR_TCP_DROP_CHECKSUM ? MR_NET_DROP_CHECKSUM : MR_NET_DROP_LENGTH);
        return false;
    }
    return mr_tcp_input(n->tcp, &s, n->now_ns);
}

bool mr_net_packet_input(struct mr_net *n, const struct mr_net_packet *p)
{
    bool is_ip4 = mr_address_is_ip4(&p->from);
    if (p->protocol == MR_IP_TCP) {
        if (mr_net_is_multicast(&p->to)) { /* RFC 9293 3.9.2.3 */
            mr_net_drop(n, MR_NET_DROP_NOT_OURS);
            return false;
        }
        return tcp_input(n, p);
    }
    if (p->protocol == MR_IP_ICMP4 && is_ip4) {
        mr_icmp4_input(n, p);
    } else if (p->protocol == MR_IP_ICMP6 && !is_ip4) {
        mr_icmp6_input(n, p);
    } else {
        mr_net_drop(n, MR_NET_DROP_PROTOCOL);
    }
    return false;
}

bool mr_net_input(struct mr_net *n, const uint8_t *frame, uint32_t len, bool is_verified, void *buffer, uint64_t now_ns)
{
    n->now_ns = now_ns;
    n->frames_in++;
    if (len < MR_ETHER_HEADER) {
        mr_net_drop(n, MR_NET_DROP_LENGTH);
        return false;
    }
    bool is_group = (frame[0] & 1) != 0;
    if ((!is_group && memcmp(frame, n->params.mac.bytes, MR_NET_MAC) != 0) || (frame[6] & 1) != 0) {
        mr_net_drop(n, MR_NET_DROP_ETHER);
        return false;
    }
    struct mr_net_packet p = {.is_verified = is_verified, .buffer = buffer};
    memcpy(p.from_mac.bytes, frame + 6, MR_NET_MAC);
    const uint8_t *bytes = frame + MR_ETHER_HEADER;
    len -= MR_ETHER_HEADER;
    switch (mr_load_be16(frame + 12)) {
    case MR_ETHER_ARP:
        mr_arp_input(n, bytes, len);
        return false;
    case MR_ETHER_IP4: /* RFC 1122 3.3.6: a unicast packet in a broadcast frame is nobody's */
        if (is_group) {
            mr_net_drop(n, MR_NET_DROP_ETHER);
            return false;
        }
        return mr_ip4_check(n, bytes, len, &p) && mr_net_packet_input(n, &p);
    case MR_ETHER_IP6:
        return mr_ip6_check(n, bytes, len, &p) && mr_net_packet_input(n, &p);
    default: /* VLAN tags too: the card takes them off */
        mr_net_drop(n, MR_NET_DROP_ETHER);
        return false;
    }
}

/* ---- output ---- */

static void take_reply(struct mr_net *n, struct mr_net_frame *frame)
{
    const struct mr_net_reply *reply = &n->replies[n->reply_first];
    n->reply_first = (n->reply_first + 1) % MR_NET_REPLIES;
    n->reply_count--;
    *frame = (struct mr_net_frame){.header_len = reply->len < MR_NET_HEADER_MAX ? reply->len : MR_NET_HEADER_MAX};
    memcpy(frame->header, reply->bytes, frame->header_len);
    if (reply->len > frame->header_len) { /* lent until the place is used again: not in this turn */
        frame->span_count = 1;
        frame->len = reply->len - frame->header_len;
        frame->spans[0] = (struct mr_span){.data = reply->bytes + frame->header_len, .len = frame->len};
    }
}

/* Headers around a segment. A card that cuts computes the checksums itself. */
static void make_frame(struct mr_net *n, const struct mr_tcp_segment *s, struct mr_net_frame *frame)
{
    bool is_ip4 = mr_address_is_ip4(&s->path.remote);
    uint32_t ip = is_ip4 ? MR_IP4_HEADER : MR_IP6_HEADER;
    *frame = (struct mr_net_frame){.l3_at = MR_ETHER_HEADER, .l4_at = MR_ETHER_HEADER + ip, .len = s->len,
                                   .cut_bytes = s->cut_bytes, .span_count = s->span_count};
    memcpy(frame->spans, s->spans, sizeof frame->spans[0] * s->span_count);
    memcpy(frame->header + 6, n->params.mac.bytes, MR_NET_MAC);
    mr_store_be16(frame->header + 12, is_ip4 ? MR_ETHER_IP4 : MR_ETHER_IP6);
    uint8_t *tcp = frame->header + frame->l4_at;
    uint32_t tcp_len = mr_tcp_wire_header(s, tcp);
    frame->header_len = frame->l4_at + tcp_len;
    if (is_ip4) {
        mr_ip4_header(frame->header + frame->l3_at, &s->path.local, &s->path.remote, MR_IP_TCP, s->ecn, tcp_len + s->len);
    } else {
        mr_ip6_header(frame->header + frame->l3_at, &s->path.local, &s->path.remote, MR_IP_TCP, s->ecn, 64, tcp_len + s->len);
    }
    if (!n->params.is_checksum_offloaded) {
        mr_store_be16(tcp + 16, mr_tcp_wire_checksum(s, tcp, tcp_len));
    }
}

uint32_t mr_net_output(struct mr_net *n, uint64_t now_ns, struct mr_net_frame *frames, uint32_t max)
{
    n->now_ns = now_ns;
    mr_neighbour_due(n);
    uint32_t count = 0;
    while (count < max) {
        struct mr_tcp_segment segment;
        if (n->reply_count > 0) {
            take_reply(n, &frames[count++]);
        } else if (mr_tcp_output(n->tcp, now_ns, &segment, 1) == 1) {
            make_frame(n, &segment, &frames[count]);
            count += mr_neighbour_resolve(n, &segment.path.remote, &frames[count]);
        } else {
            break;
        }
    }
    n->frames_out += count;
    return count;
}

uint64_t mr_net_deadline_ns(const struct mr_net *n)
{
    return n->reply_count > 0 ? 0 : mr_earlier(mr_neighbour_deadline_ns(n), mr_tcp_deadline_ns(n->tcp));
}
