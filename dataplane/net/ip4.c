/*
 * ip4: headers of IPv4, in and out. Source: RFC 791, RFC 1122 3.2.1, RFC 6864 (identification).
 */
#include "net/net_parts.h"

/* RFC 1122 3.2.1.3: these are no senders. */
static bool is_sender(const uint8_t *a)
{
    return a[0] != 0 && a[0] != 127 && a[0] < 224;
}

bool mr_ip4_check(struct mr_net *n, const uint8_t *bytes, uint32_t len, struct mr_net_packet *p)
{
    uint32_t header = len < MR_IP4_HEADER ? 0 : (bytes[0] & 15u) * 4;
    if (header < MR_IP4_HEADER || header > len || bytes[0] >> 4 != 4) {
        mr_net_drop(n, MR_NET_DROP_IP_HEADER);
        return false;
    }
    uint32_t total = mr_load_be16(bytes + 2);
    if (total < header || total > len || mr_checksum_fold(mr_checksum_add(0, bytes, header)) != 0) {
        mr_net_drop(n, MR_NET_DROP_IP_HEADER);
        return false;
    }
    if (header != MR_IP4_HEADER) {
        mr_net_drop(n, MR_NET_DROP_IP_OPTIONS);
        return false;
    }
    if ((mr_load_be16(bytes + 6) & 0x3fff) != 0) { /* more fragments, or an offset */
        mr_net_drop(n, MR_NET_DROP_FRAGMENT);
        return false;
    }
    p->from = mr_net_ip4(bytes + 12);
    p->to = mr_net_ip4(bytes + 16);
    if (!mr_net_is_ours(n, &p->to)) {
        mr_net_drop(n, MR_NET_DROP_NOT_OURS);
        return false;
    }
    if (!is_sender(bytes + 12) || mr_net_is_ours(n, &p->from)) {
        mr_net_drop(n, MR_NET_DROP_SOURCE);
        return false;
    }
    p->protocol = bytes[9];
    p->hops = bytes[8];
    p->ecn = bytes[1] & 3;
    p->bytes = bytes + header;
    p->len = total - header; /* what follows is Ethernet's padding */
    return true;
}

/* Never fragmented, so that the identification may be anything (RFC 6864 4). */
void mr_ip4_header(uint8_t *out, const struct mr_address *from, const struct mr_address *to, uint8_t protocol, uint8_t ecn,
                   uint32_t len)
{
    memset(out, 0, MR_IP4_HEADER);
    out[0] = 0x45;
    out[1] = ecn;
    mr_store_be16(out + 2, (uint16_t)(MR_IP4_HEADER + len));
    out[6] = 0x40; /* do not fragment */
    out[8] = 64;
    out[9] = protocol;
    memcpy(out + 12, from->bytes + 12, 4);
    memcpy(out + 16, to->bytes + 12, 4);
    mr_store_be16(out + 10, mr_checksum_fold(mr_checksum_add(0, out, MR_IP4_HEADER)));
}
