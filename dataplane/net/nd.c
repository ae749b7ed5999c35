/*
 * nd: neighbour discovery for IPv6: solicitations, advertisements, routers, duplicate addresses.
 *
 * Source: RFC 4861 4, 6, 7; RFC 4862 5.4. Nothing that came through a router is believed: hop limit 255.
 * Addresses are configured; none is made from what a router advertises.
 */
#include "net/net_parts.h"

#define ND_BYTES 24u /* solicitation and advertisement without options */

enum nd_type {
    ND_ROUTER_SOLICITATION = 133,
    ND_ROUTER_ADVERTISEMENT = 134,
    ND_SOLICITATION = 135,
    ND_ADVERTISEMENT = 136,
};

enum nd_option {
    ND_SOURCE_MAC = 1,
    ND_TARGET_MAC = 2,
};

static const struct mr_address all_nodes = {{0xff, 2, [15] = 1}};
static const struct mr_address all_routers = {{0xff, 2, [15] = 2}};

/* RFC 2464 7. */
static struct mr_net_mac group_mac(const struct mr_address *group)
{
    struct mr_net_mac mac = {{0x33, 0x33}};
    memcpy(mac.bytes + 2, group->bytes + 12, 4);
    return mac;
}

static struct mr_address solicited_group(const struct mr_address *a)
{
    struct mr_address group = {{0xff, 2, [11] = 1, [12] = 0xff}};
    memcpy(group.bytes + 13, a->bytes + 13, 3);
    return group;
}

/* `option` 0: none. `target` NULL: a router solicitation, which has none. */
static void send(struct mr_net *n, const struct mr_net_mac *mac, const struct mr_address *from, const struct mr_address *to,
                 enum nd_type type, uint8_t flags, const struct mr_address *target, enum nd_option option)
{
    uint32_t body = target != NULL ? ND_BYTES : 8;
    uint32_t len = body + (option != 0 ? 8 : 0);
    uint8_t *out = mr_net_reply(n, mac, MR_ETHER_IP6, MR_ETHER_HEADER + MR_IP6_HEADER + len);
    if (out == NULL) {
        return;
    }
    uint8_t *icmp = out + MR_ETHER_HEADER + MR_IP6_HEADER;
    mr_ip6_header(out + MR_ETHER_HEADER, from, to, MR_IP_ICMP6, 0, 255, len);
    memset(icmp, 0, len);
    icmp[0] = (uint8_t)type;
    icmp[4] = flags;
    if (target != NULL) {
        memcpy(icmp + 8, target->bytes, 16);
    }
    if (option != 0) {
        icmp[body] = (uint8_t)option;
        icmp[body + 1] = 1;
        memcpy(icmp + body + 2, n->params.mac.bytes, MR_NET_MAC);
    }
    uint64_t sum = mr_checksum_pseudo(from, to, false, MR_IP_ICMP6, len);
    mr_store_be16(icmp + 2, mr_checksum_fold(mr_checksum_add(sum, icmp, len)));
}

void mr_nd_ask(struct mr_net *n, const struct mr_address *whom, const struct mr_net_mac *mac)
{
    const struct mr_address *ours = mr_net_source(n, whom);
    struct mr_address group = solicited_group(whom);
    struct mr_net_mac all = group_mac(&group);
    if (ours != NULL) {
        send(n, mac != NULL ? mac : &all, ours, mac != NULL ? whom : &group, ND_SOLICITATION, 0, whom, ND_SOURCE_MAC);
    }
}

/* Does anybody have this address (RFC 4862 5.4.2)? Here we are (RFC 4861 7.2.6). Is there a router (6.3.7)? */
void mr_nd_announce(struct mr_net *n, const struct mr_address *ours)
{
    static const struct mr_address none;
    struct mr_address group = solicited_group(ours);
    struct mr_net_mac mac = group_mac(&group);
    send(n, &mac, &none, &group, ND_SOLICITATION, 0, ours, 0);
    mac = group_mac(&all_nodes);
    send(n, &mac, ours, &all_nodes, ND_ADVERTISEMENT, 0x20, ours, ND_TARGET_MAC);
    if (mr_tcp_is_unspecified(&n->params.gateway6)) {
        mac = group_mac(&all_routers);
        send(n, &mac, ours, &all_routers, ND_ROUTER_SOLICITATION, 0, NULL, ND_SOURCE_MAC);
    }
}

/* The hardware address among the options; false: there is none. `is_good` becomes false at a malformed one (4.6). */
static bool find_mac(const uint8_t *at, uint32_t len, enum nd_option wanted, struct mr_net_mac *mac, bool *is_good)
{
    bool is_found = false;
    *is_good = true;
    while (len > 0) {
        uint32_t size = len < 8 ? 0 : at[1] * 8u;
        if (size == 0 || size > len) {
            *is_good = false;
            return false;
        }
        if (at[0] == (uint8_t)wanted && size == 8) {
            memcpy(mac->bytes, at + 2, MR_NET_MAC);
            is_found = true;
        }
        at += size;
        len -= size;
    }
    return is_found;
}

static void take_solicitation(struct mr_net *n, const struct mr_net_packet *p, const struct mr_address *target,
                              const struct mr_net_mac *mac)
{
    if (!mr_net_is_ours(n, target)) {
        return;
    }
    if (mr_tcp_is_unspecified(&p->from)) { /* somebody is about to take our address (RFC 4862 5.4.3): it is taken */
        struct mr_net_mac all = group_mac(&all_nodes);
        n->conflicts++;
        send(n, &all, target, &all_nodes, ND_ADVERTISEMENT, 0x20, target, ND_TARGET_MAC);
        return;
    }
    const struct mr_net_mac *to = mac != NULL ? mac : &p->from_mac;
    mr_neighbour_learn(n, &p->from, to, false, true);
    send(n, to, target, &p->from, ND_ADVERTISEMENT, 0x60, target, ND_TARGET_MAC);
}

/* Flags: router, solicited, override (4.4). Without "override" another address than the known one is not taken (7.2.5). */
static void take_advertisement(struct mr_net *n, const struct mr_net_packet *p, const struct mr_address *target,
                               const struct mr_net_mac *mac)
{
    if (mr_net_is_ours(n, target)) {
        n->conflicts++;
        return;
    }
    bool is_solicited = (p->bytes[4] & 0x40) != 0 && !mr_net_is_multicast(&p->to);
    bool is_override = (p->bytes[4] & 0x20) != 0;
    struct mr_neighbour *known = mr_neighbour_find(n, target);
    if (known == NULL) {
        return;
    }
    bool is_other = mac != NULL && known->state != MR_NEIGHBOUR_ASKED && memcmp(&known->mac, mac, sizeof *mac) != 0;
    if ((is_other && !is_override) || (mac == NULL && known->state == MR_NEIGHBOUR_ASKED)) {
        return;
    }
    struct mr_net_mac same = mac != NULL ? *mac : known->mac;
    mr_neighbour_learn(n, target, &same, is_solicited, false);
}

/* 6.1.2, 6.3.4: a router becomes the gateway when none is configured. Lifetime 0 takes it back. */
static void take_router(struct mr_net *n, const struct mr_net_packet *p)
{
    struct mr_net_mac mac;
    bool is_good;
    bool has_mac = p->len >= 16 && find_mac(p->bytes + 16, p->len - 16, ND_SOURCE_MAC, &mac, &is_good);
    if (p->len < 16 || !is_good || p->from.bytes[0] != 0xfe || (p->from.bytes[1] & 0xc0) != 0x80) {
        mr_net_drop(n, MR_NET_DROP_ND);
        return;
    }
    bool is_leaving = mr_load_be16(p->bytes + 6) == 0;
    if (is_leaving && mr_address_equal(&n->params.gateway6, &p->from)) {
        n->params.gateway6 = (struct mr_address){{0}};
    } else if (!is_leaving && mr_tcp_is_unspecified(&n->params.gateway6)) {
        n->params.gateway6 = p->from;
    }
    if (has_mac) {
        mr_neighbour_learn(n, &p->from, &mac, false, true);
    }
}

void mr_nd_input(struct mr_net *n, const struct mr_net_packet *p)
{
    uint8_t type = p->bytes[0];
    if (p->hops != 255 || p->bytes[1] != 0) {
        mr_net_drop(n, MR_NET_DROP_ND);
        return;
    }
    if (type == ND_ROUTER_ADVERTISEMENT) {
        take_router(n, p);
        return;
    }
    if (type == ND_ROUTER_SOLICITATION) {
        return; /* we are none */
    }
    struct mr_net_mac mac;
    bool is_good = false;
    bool is_asking = type == ND_SOLICITATION;
    bool has_mac = p->len >= ND_BYTES &&
                   find_mac(p->bytes + ND_BYTES, p->len - ND_BYTES, is_asking ? ND_SOURCE_MAC : ND_TARGET_MAC, &mac, &is_good);
    struct mr_address target;
    if (!is_good || (is_asking && has_mac && mr_tcp_is_unspecified(&p->from))) {
        mr_net_drop(n, MR_NET_DROP_ND);
        return;
    }
    memcpy(target.bytes, p->bytes + 8, sizeof target.bytes);
    if (mr_net_is_multicast(&target)) {
        mr_net_drop(n, MR_NET_DROP_ND);
    } else if (is_asking) {
        take_solicitation(n, p, &target, has_mac ? &mac : NULL);
    } else {
        take_advertisement(n, p, &target, has_mac ? &mac : NULL);
    }
}
