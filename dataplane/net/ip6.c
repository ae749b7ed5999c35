/*
 * ip6: headers of IPv6, in and out. Source: RFC 8200 3, 4; extension headers that may stand in front of TCP are passed over.
 */
#include "net/net_parts.h"

#define EXTENSIONS_MAX 4u

enum next_header {
    NEXT_HOP_BY_HOP = 0,
    NEXT_ROUTING = 43,
    NEXT_FRAGMENT = 44,
    NEXT_DESTINATION = 60,
};

/* ff02::1, or ff02::1:ffXX:XXXX of an address of ours (RFC 4291 2.7.1). */
static bool is_group_of_ours(const struct mr_net *n, const struct mr_address *a)
{
    static const uint8_t all[16] = {0xff, 2, [15] = 1};
    static const uint8_t solicited[13] = {0xff, 2, [11] = 1, [12] = 0xff};
    if (memcmp(a->bytes, all, sizeof all) == 0) {
        return true;
    }
    for (uint32_t index = 0; index < n->params.address_count; index++) {
        if (memcmp(a->bytes, solicited, sizeof solicited) == 0 &&
            memcmp(a->bytes + 13, n->params.addresses[index].address.bytes + 13, 3) == 0) {
            return true;
        }
    }
    return false;
}

/* False: refused and counted. */
static bool skip_extensions(struct mr_net *n, struct mr_net_packet *p)
{
    for (uint32_t count = 0; count <= EXTENSIONS_MAX; count++) {
        if (p->protocol == NEXT_FRAGMENT) {
            mr_net_drop(n, MR_NET_DROP_FRAGMENT);
            return false;
        }
        bool is_routing = p->protocol == NEXT_ROUTING;
        if (p->protocol != NEXT_HOP_BY_HOP && p->protocol != NEXT_DESTINATION && !is_routing) {
            return true;
        }
        uint32_t len = p->len < 8 ? 0 : (p->bytes[1] + 1u) * 8;
        if (len == 0 || len > p->len || (is_routing && p->bytes[3] != 0)) { /* RFC 5095: segments left */
            break;
        }
        p->protocol = p->bytes[0];
        p->bytes += len;
        p->len -= len;
    }
    mr_net_drop(n, MR_NET_DROP_IP_OPTIONS);
    return false;
}

bool mr_ip6_check(struct mr_net *n, const uint8_t *bytes, uint32_t len, struct mr_net_packet *p)
{
    if (len < MR_IP6_HEADER || bytes[0] >> 4 != 6 || mr_load_be16(bytes + 4) > len - MR_IP6_HEADER) {
        mr_net_drop(n, MR_NET_DROP_IP_HEADER);
        return false;
    }
    memcpy(p->from.bytes, bytes + 8, 16);
    memcpy(p->to.bytes, bytes + 24, 16);
    /* IPv4-mapped addresses never travel (RFC 4291 2.5.5.2): they would pass for IPv4 peers. */
    if (mr_address_is_ip4(&p->to) || (!mr_net_is_ours(n, &p->to) && !is_group_of_ours(n, &p->to))) {
        mr_net_drop(n, MR_NET_DROP_NOT_OURS);
        return false;
    }
    if (mr_address_is_ip4(&p->from) || mr_net_is_multicast(&p->from) || mr_net_is_ours(n, &p->from)) {
        mr_net_drop(n, MR_NET_DROP_SOURCE);
        return false;
    }
    p->protocol = bytes[6];
    p->hops = bytes[7];
    p->ecn = bytes[1] >> 4 & 3;
    p->bytes = bytes + MR_IP6_HEADER;
    p->len = mr_load_be16(bytes + 4);
    if (!skip_extensions(n, p)) {
        return false;
    }
    if (p->protocol == MR_IP_TCP && mr_tcp_is_unspecified(&p->from)) {
        mr_net_drop(n, MR_NET_DROP_SOURCE);
        return false;
    }
    return true;
}

void mr_ip6_header(uint8_t *out, const struct mr_address *from, const struct mr_address *to, uint8_t protocol, uint8_t ecn,
                   uint8_t hops, uint32_t len)
{
    memset(out, 0, MR_IP6_HEADER);
    out[0] = 0x60;
    out[1] = (uint8_t)(ecn << 4);
    mr_store_be16(out + 4, (uint16_t)len);
    out[6] = protocol;
    out[7] = hops;
    memcpy(out + 8, from->bytes, 16);
    memcpy(out + 24, to->bytes, 16);
}
