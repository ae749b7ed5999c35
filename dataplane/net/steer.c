#include "net/steer.h"

#include "net/net_parts.h"

#define ARP_BYTES       28u
#define ARP_REPLY       2u
#define ICMP_HEADER     8u
#define ND_ROUTER       134u
#define ND_NEIGHBOUR    136u
#define ND_REDIRECT     137u
#define EXTENSIONS_MAX  4u
#define PORTS           4u
#define TUPLE_MAX       36u

/* What is hashed: the address that a packet comes from, the one it goes to, the two ports. */
struct tuple {
    uint8_t bytes[TUPLE_MAX];
    uint32_t len;
};

uint32_t mr_steer_hash(const uint8_t key[MR_STEER_KEY], const uint8_t *bytes, uint32_t len)
{
    uint32_t hash = 0;
    uint32_t window = mr_load_be32(key); /* the 32 bits of the key at the bit of the input that is looked at */
    for (uint32_t at = 0; at < len; at++) {
        for (uint32_t bit = 8; bit-- > 0;) {
            hash ^= (bytes[at] >> bit & 1) != 0 ? window : 0;
            window = window << 1 | (key[at + 4] >> bit & 1u);
        }
    }
    return hash;
}

static uint32_t owner(const struct mr_steer *s, const struct tuple *t)
{
    return mr_steer_hash(s->key, t->bytes, t->len) % MR_NIC_WAYS % s->lanes;
}

/* `is_ours`: the packet is one that we have sent, so what hashes is its mirror image. */
static struct tuple tuple_of(const uint8_t *addresses, uint32_t size, const uint8_t *ports, bool is_ours)
{
    struct tuple t = {.len = 2 * size + PORTS};
    memcpy(t.bytes, addresses + (is_ours ? size : 0), size);
    memcpy(t.bytes + size, addresses + (is_ours ? 0 : size), size);
    memcpy(t.bytes + 2 * size, ports + (is_ours ? 2 : 0), 2);
    memcpy(t.bytes + 2 * size + 2, ports + (is_ours ? 0 : 2), 2);
    return t;
}

static uint32_t steer_arp(const uint8_t *bytes, uint32_t len)
{
    if (len < ARP_BYTES) {
        return MR_STEER_HERE;
    }
    bool is_gratuitous = memcmp(bytes + 14, bytes + 24, 4) == 0; /* sender and target are the same */
    return mr_load_be16(bytes + 6) == ARP_REPLY || is_gratuitous ? MR_STEER_ALL : MR_STEER_HERE;
}

/* `depth` 1: the packet that an ICMP error quotes. */
static uint32_t steer_ip4(const struct mr_steer *s, const uint8_t *bytes, uint32_t len, uint32_t depth)
{
    const uint8_t *above = bytes + MR_IP4_HEADER;
    if (len < MR_IP4_HEADER + ICMP_HEADER || bytes[0] != 0x45) { /* options and fragments are not taken anyway */
        return MR_STEER_HERE;
    }
    if (bytes[9] == MR_IP_TCP) {
        struct tuple t = tuple_of(bytes + 12, 4, above, depth > 0);
        return owner(s, &t);
    }
    bool is_error = bytes[9] == MR_IP_ICMP4 && (above[0] == 3 || above[0] == 11 || above[0] == 12);
    return is_error && depth == 0 ? steer_ip4(s, above + ICMP_HEADER, len - MR_IP4_HEADER - ICMP_HEADER, 1)
                                  : MR_STEER_HERE;
}

static uint32_t steer_ip6(const struct mr_steer *s, const uint8_t *bytes, uint32_t len, uint32_t depth)
{
    uint32_t at = MR_IP6_HEADER;
    if (len < MR_IP6_HEADER + ICMP_HEADER) {
        return MR_STEER_HERE;
    }
    uint8_t protocol = bytes[6];
    for (uint32_t count = 0; count < EXTENSIONS_MAX && (protocol == 0 || protocol == 43 || protocol == 60); count++) {
        protocol = bytes[at];
        at += (bytes[at + 1] + 1u) * 8;
        if (at + ICMP_HEADER > len) {
            return MR_STEER_HERE;
        }
    }
    const uint8_t *above = bytes + at;
    if (protocol == MR_IP_TCP) {
        struct tuple t = tuple_of(bytes + 8, 16, above, depth > 0);
        return owner(s, &t);
    }
    if (protocol != MR_IP_ICMP6 || depth > 0) {
        return MR_STEER_HERE;
    }
    if (above[0] == ND_ROUTER || above[0] == ND_NEIGHBOUR || above[0] == ND_REDIRECT) {
        return MR_STEER_ALL;
    }
    return above[0] < 128 ? steer_ip6(s, above + ICMP_HEADER, len - at - ICMP_HEADER, 1) : MR_STEER_HERE;
}

uint32_t mr_steer_frame(const struct mr_steer *s, const uint8_t *frame, uint32_t len)
{
    if (s->lanes == 1 || len < MR_ETHER_HEADER) {
        return MR_STEER_HERE;
    }
    const uint8_t *bytes = frame + MR_ETHER_HEADER;
    switch (mr_load_be16(frame + 12)) {
    case MR_ETHER_ARP:
        return steer_arp(bytes, len - MR_ETHER_HEADER);
    case MR_ETHER_IP4:
        return steer_ip4(s, bytes, len - MR_ETHER_HEADER, 0);
    case MR_ETHER_IP6:
        return steer_ip6(s, bytes, len - MR_ETHER_HEADER, 0);
    default:
        return MR_STEER_HERE;
    }
}
