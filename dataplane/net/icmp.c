/*
 * icmp: pings are answered, and what routers say about packets of ours reaches TCP. Nothing else is done, and nothing is
 * ever sent because of an ICMP message.
 *
 * Source: RFC 792, RFC 1191 4, RFC 1122 3.2.2; RFC 4443 3.1, 3.2, 4; RFC 5927 (what may be believed).
 */
#include "net/net_parts.h"

#define ICMP_HEADER 8u

enum icmp4_type {
    ICMP4_ECHO_REPLY = 0,
    ICMP4_UNREACHABLE = 3,
    ICMP4_ECHO = 8,
};

enum icmp6_type {
    ICMP6_UNREACHABLE = 1,
    ICMP6_TOO_BIG = 2,
    ICMP6_ECHO = 128,
    ICMP6_ECHO_REPLY = 129,
    ICMP6_ND_FIRST = 133,
    ICMP6_ND_LAST = 136,
};

#define ICMP4_TOO_BIG_CODE 4u

/* Back where it came from, without asking for the way. */
static uint8_t *begin_echo(struct mr_net *n, const struct mr_net_packet *p, uint32_t ip, uint16_t ether)
{
    if (mr_net_is_multicast(&p->to) || mr_tcp_is_unspecified(&p->from)) {
        mr_net_drop(n, MR_NET_DROP_ICMP);
        return NULL;
    }
    uint8_t *out = mr_net_reply(n, &p->from_mac, ether, MR_ETHER_HEADER + ip + p->len);
    if (out != NULL) {
        memcpy(out + MR_ETHER_HEADER + ip, p->bytes, p->len);
        mr_store_be16(out + MR_ETHER_HEADER + ip + 2, 0);
        n->echoes++;
    }
    return out;
}

/* The start of a packet of ours that an error quotes: the path, and TCP's sequence number. False: not TCP, or not ours. */
static bool read_quote(struct mr_net *n, const uint8_t *bytes, uint32_t len, bool is_ip4, struct mr_tcp_path *path,
                       uint32_t *seq)
{
    uint32_t header = is_ip4 ? MR_IP4_HEADER : MR_IP6_HEADER;
    uint8_t first = is_ip4 ? 0x45 : 0x60;
    if (len < header + 8 || (bytes[0] & (is_ip4 ? 0xff : 0xf0)) != first || bytes[is_ip4 ? 9 : 6] != MR_IP_TCP) {
        mr_net_drop(n, MR_NET_DROP_ICMP);
        return false;
    }
    if (is_ip4) {
        path->local = mr_net_ip4(bytes + 12);
        path->remote = mr_net_ip4(bytes + 16);
    } else {
        memcpy(path->local.bytes, bytes + 8, 16);
        memcpy(path->remote.bytes, bytes + 24, 16);
    }
    path->local_port = mr_load_be16(bytes + header);
    path->remote_port = mr_load_be16(bytes + header + 2);
    *seq = mr_load_be32(bytes + header + 4);
    if (!mr_net_is_ours(n, &path->local)) {
        mr_net_drop(n, MR_NET_DROP_ICMP);
        return false;
    }
    return true;
}

void mr_icmp4_input(struct mr_net *n, const struct mr_net_packet *p)
{
    struct mr_tcp_path path;
    uint32_t seq;
    if (p->len < ICMP_HEADER || mr_checksum_fold(mr_checksum_add(0, p->bytes, p->len)) != 0) {
        mr_net_drop(n, p->len < ICMP_HEADER ? MR_NET_DROP_LENGTH : MR_NET_DROP_CHECKSUM);
        return;
    }
    if (p->bytes[0] == ICMP4_ECHO && p->bytes[1] == 0) {
        uint8_t *out = begin_echo(n, p, MR_IP4_HEADER, MR_ETHER_IP4);
        if (out != NULL) {
            uint8_t *icmp = out + MR_ETHER_HEADER + MR_IP4_HEADER;
            mr_ip4_header(out + MR_ETHER_HEADER, &p->to, &p->from, MR_IP_ICMP4, 0, p->len);
            icmp[0] = ICMP4_ECHO_REPLY;
            mr_store_be16(icmp + 2, mr_checksum_fold(mr_checksum_add(0, icmp, p->len)));
        }
    } else if (p->bytes[0] != ICMP4_UNREACHABLE) {
        mr_net_drop(n, MR_NET_DROP_ICMP);
    } else if (read_quote(n, p->bytes + ICMP_HEADER, p->len - ICMP_HEADER, true, &path, &seq)) {
        if (p->bytes[1] == ICMP4_TOO_BIG_CODE) {
            mr_tcp_packet_too_big(n->tcp, &path, seq, mr_load_be16(p->bytes + 6));
        } else {
            mr_tcp_unreachable(n->tcp, &path, seq);
        }
    }
}

void mr_icmp6_input(struct mr_net *n, const struct mr_net_packet *p)
{
    struct mr_tcp_path path;
    uint32_t seq;
    uint64_t sum = mr_checksum_pseudo(&p->from, &p->to, false, MR_IP_ICMP6, p->len);
    if (p->len < ICMP_HEADER || mr_checksum_fold(mr_checksum_add(sum, p->bytes, p->len)) != 0) {
        mr_net_drop(n, p->len < ICMP_HEADER ? MR_NET_DROP_LENGTH : MR_NET_DROP_CHECKSUM);
        return;
    }
    uint8_t type = p->bytes[0];
    if (type >= ICMP6_ND_FIRST && type <= ICMP6_ND_LAST) {
        mr_nd_input(n, p);
    } else if (type == ICMP6_ECHO && p->bytes[1] == 0) {
        uint8_t *out = begin_echo(n, p, MR_IP6_HEADER, MR_ETHER_IP6);
        if (out != NULL) {
            uint8_t *icmp = out + MR_ETHER_HEADER + MR_IP6_HEADER;
            mr_ip6_header(out + MR_ETHER_HEADER, &p->to, &p->from, MR_IP_ICMP6, 0, 64, p->len);
            icmp[0] = ICMP6_ECHO_REPLY;
            sum = mr_checksum_pseudo(&p->to, &p->from, false, MR_IP_ICMP6, p->len);
            mr_store_be16(icmp + 2, mr_checksum_fold(mr_checksum_add(sum, icmp, p->len)));
        }
    } else if (type != ICMP6_UNREACHABLE && type != ICMP6_TOO_BIG) {
        mr_net_drop(n, MR_NET_DROP_ICMP);
    } else if (read_quote(n, p->bytes + ICMP_HEADER, p->len - ICMP_HEADER, false, &path, &seq)) {
        if (type == ICMP6_TOO_BIG) {
            mr_tcp_packet_too_big(n->tcp, &path, seq, mr_load_be32(p->bytes + 4));
        } else {
            mr_tcp_unreachable(n->tcp, &path, seq);
        }
    }
}
