/*
 * arp: hardware addresses of IPv4 neighbours. Source: RFC 826; RFC 5227 1.1 and 2.3 (announcements, conflicts).
 *
 * A table is poisoned by those who talk unasked: only who asks us, or answers us, is put into it.
 */
#include "net/net_parts.h"

#define ARP_BYTES    28u
#define ARP_REQUEST  1u
#define ARP_RESPONSE 2u

static const struct mr_net_mac everybody = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static void send(struct mr_net *n, const struct mr_net_mac *to, uint16_t what, const struct mr_address *ours,
                 const struct mr_net_mac *target_mac, const struct mr_address *target)
{
    static const uint8_t fixed[6] = {0, 1, 8, 0, 6, 4}; /* Ethernet, IPv4, their lengths */
    uint8_t *out = mr_net_reply(n, to, MR_ETHER_ARP, MR_ETHER_HEADER + ARP_BYTES);
    if (out == NULL) {
        return;
    }
    uint8_t *arp = out + MR_ETHER_HEADER;
    memcpy(arp, fixed, sizeof fixed);
    mr_store_be16(arp + 6, what);
    memcpy(arp + 8, n->params.mac.bytes, MR_NET_MAC);
    memcpy(arp + 14, ours->bytes + 12, 4);
    memcpy(arp + 18, target_mac->bytes, MR_NET_MAC);
    memcpy(arp + 24, target->bytes + 12, 4);
}

void mr_arp_ask(struct mr_net *n, const struct mr_address *whom)
{
    static const struct mr_net_mac nobody;
    const struct mr_address *ours = mr_net_source(n, whom);
    if (ours != NULL) {
        send(n, &everybody, ARP_REQUEST, ours, &nobody, whom);
    }
}

void mr_arp_announce(struct mr_net *n, const struct mr_address *ours)
{
    static const struct mr_net_mac nobody;
    send(n, &everybody, ARP_REQUEST, ours, &nobody, ours);
}

void mr_arp_input(struct mr_net *n, const uint8_t *bytes, uint32_t len)
{
    static const uint8_t fixed[6] = {0, 1, 8, 0, 6, 4};
    uint16_t what = len < ARP_BYTES ? 0 : mr_load_be16(bytes + 6);
    if ((what != ARP_REQUEST && what != ARP_RESPONSE) || memcmp(bytes, fixed, sizeof fixed) != 0) {
        mr_net_drop(n, MR_NET_DROP_ARP);
        return;
    }
    struct mr_net_mac from_mac;
    memcpy(from_mac.bytes, bytes + 8, MR_NET_MAC);
    struct mr_address from = mr_net_ip4(bytes + 14);
    struct mr_address target = mr_net_ip4(bytes + 24);
    if (mr_net_is_ours(n, &from)) {
        n->conflicts += memcmp(&from_mac, &n->params.mac, sizeof from_mac) != 0;
        return;
    }
    bool is_for_us = mr_net_is_ours(n, &target);
    bool is_near = mr_net_source(n, &from) != NULL && mr_neighbour_route(n, &from) != NULL &&
                   mr_address_equal(mr_neighbour_route(n, &from), &from);
    if (!is_near && !mr_tcp_is_unspecified(&from)) {
        mr_net_drop(n, MR_NET_DROP_ARP);
        return;
    }
    mr_neighbour_learn(n, &from, &from_mac, what == ARP_RESPONSE, is_for_us && what == ARP_REQUEST);
    if (is_for_us && what == ARP_REQUEST) {
        send(n, &from_mac, ARP_RESPONSE, &target, &from_mac, &from);
    }
}
