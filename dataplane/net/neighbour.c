/*
 * neighbour: hardware addresses of the hosts around us, for ARP and neighbour discovery alike.
 *
 *   NONE -> ASKED --answer--> KNOWN --30 s--> STALE --used--> PROBED --answer--> KNOWN
 *             +---3 tries---> NONE                               +----3 tries--> NONE
 *
 * Who tells its address unasked becomes STALE: it is used at once, and confirmed behind that (RFC 4861 7.3.3). The table is
 * bounded; the entry that was used longest ago makes room, but never for somebody who only talks about himself.
 */
#include "net/net_parts.h"

#define PROBES   4u
#define RETRY_NS (1 * MR_NS_PER_S)
#define KNOWN_NS (30 * MR_NS_PER_S)
#define SLOTS    8u /* places that an address may have: the cost of a search */

static uint32_t first_slot(const struct mr_net *n, const struct mr_address *address)
{
    uint64_t hash = mr_hash_bytes(&n->params.secret, address->bytes, sizeof address->bytes);
    return (uint32_t)(hash & (MR_NET_NEIGHBOURS - 1));
}
_Static_assert((MR_NET_NEIGHBOURS & (MR_NET_NEIGHBOURS - 1)) == 0, "a mask");

const struct mr_address *mr_neighbour_route(const struct mr_net *n, const struct mr_address *to)
{
    for (uint32_t index = 0; index < n->params.address_count; index++) {
        if (mr_network_has(&n->params.addresses[index].network, to)) {
            return to;
        }
    }
    const struct mr_address *gateway = mr_address_is_ip4(to) ? &n->params.gateway4 : &n->params.gateway6;
    static const uint8_t link_local[2] = {0xfe, 0x80};
    if (memcmp(to->bytes, link_local, sizeof link_local) == 0) {
        return to;
    }
    return mr_tcp_is_unspecified(gateway) ? NULL : gateway;
}

struct mr_neighbour *mr_neighbour_find(struct mr_net *n, const struct mr_address *address)
{
    uint32_t slot = first_slot(n, address);
    for (uint32_t step = 0; step < SLOTS; step++) {
        struct mr_neighbour *at = &n->neighbours[(slot + step) & (MR_NET_NEIGHBOURS - 1)];
        if (at->state != MR_NEIGHBOUR_NONE && mr_address_equal(&at->address, address)) {
            return at;
        }
    }
    return NULL;
}

/* A free place, or that of the one that nobody has used for longest. `is_wanted`: we want to talk to it. */
static struct mr_neighbour *add(struct mr_net *n, const struct mr_address *address, bool is_wanted)
{
    uint32_t slot = first_slot(n, address);
    struct mr_neighbour *oldest = NULL;
    for (uint32_t step = 0; step < SLOTS; step++) {
        struct mr_neighbour *at = &n->neighbours[(slot + step) & (MR_NET_NEIGHBOURS - 1)];
        if (at->state == MR_NEIGHBOUR_NONE) {
            oldest = at;
            break;
        }
        oldest = oldest == NULL || at->used_ns < oldest->used_ns ? at : oldest;
    }
    if (oldest->state != MR_NEIGHBOUR_NONE && !is_wanted) {
        mr_net_drop(n, MR_NET_DROP_NEIGHBOUR);
        return NULL;
    }
    *oldest = (struct mr_neighbour){.address = *address, .used_ns = n->now_ns, .until_ns = MR_NEVER};
    return oldest;
}

static void ask(struct mr_net *n, struct mr_neighbour *neighbour)
{
    neighbour->tries++;
    neighbour->until_ns = n->now_ns + RETRY_NS;
    n->neighbour_due_ns = mr_earlier(n->neighbour_due_ns, neighbour->until_ns);
    if (mr_address_is_ip4(&neighbour->address)) {
        mr_arp_ask(n, &neighbour->address);
    } else {
        mr_nd_ask(n, &neighbour->address, neighbour->state == MR_NEIGHBOUR_PROBED ? &neighbour->mac : NULL);
    }
}

static void enqueue(struct mr_net *n, struct mr_neighbour *neighbour, const struct mr_net_frame *frame)
{
    if (frame->len > 0 || neighbour->queued == MR_NET_QUEUE) {
        mr_net_drop(n, MR_NET_DROP_NEIGHBOUR);
        return;
    }
    struct mr_neighbour_frame *place = &neighbour->queue[neighbour->queued++];
    place->len = frame->header_len;
    memcpy(place->bytes, frame->header, frame->header_len);
}

bool mr_neighbour_resolve(struct mr_net *n, const struct mr_address *to, struct mr_net_frame *frame)
{
    const struct mr_address *hop = mr_neighbour_route(n, to);
    if (hop == NULL) {
        mr_net_drop(n, MR_NET_DROP_UNREACHABLE);
        return false;
    }
    struct mr_neighbour *neighbour = mr_neighbour_find(n, hop);
    if (neighbour == NULL) {
        neighbour = add(n, hop, true);
        neighbour->state = MR_NEIGHBOUR_ASKED;
        ask(n, neighbour);
    }
    neighbour->used_ns = n->now_ns;
    if (neighbour->state == MR_NEIGHBOUR_ASKED) {
        enqueue(n, neighbour, frame);
        return false;
    }
    if (neighbour->state == MR_NEIGHBOUR_KNOWN && neighbour->until_ns <= n->now_ns) {
        neighbour->state = MR_NEIGHBOUR_STALE;
    }
    if (neighbour->state == MR_NEIGHBOUR_STALE) {
        neighbour->state = MR_NEIGHBOUR_PROBED;
        neighbour->tries = 0;
        ask(n, neighbour);
    }
    memcpy(frame->header, neighbour->mac.bytes, MR_NET_MAC);
    return true;
}

static void send_queue(struct mr_net *n, struct mr_neighbour *neighbour)
{
    for (uint32_t index = 0; index < neighbour->queued; index++) {
        const struct mr_neighbour_frame *frame = &neighbour->queue[index];
        uint8_t *out = mr_net_reply(n, &neighbour->mac, mr_load_be16(frame->bytes + 12), frame->len);
        if (out != NULL) {
            memcpy(out + MR_ETHER_HEADER, frame->bytes + MR_ETHER_HEADER, frame->len - MR_ETHER_HEADER);
        }
    }
    neighbour->queued = 0;
}

void mr_neighbour_learn(struct mr_net *n, const struct mr_address *address, const struct mr_net_mac *mac, bool is_answer,
                        bool is_new_welcome)
{
    struct mr_neighbour *neighbour = mr_neighbour_find(n, address);
    bool is_known = neighbour != NULL;
    if (mr_tcp_is_unspecified(address) || mr_net_is_multicast(address) || (mac->bytes[0] & 1) != 0 ||
        (!is_known && !is_new_welcome)) {
        return;
    }
    neighbour = is_known ? neighbour : add(n, address, false);
    if (neighbour == NULL) {
        return;
    }
    bool was_asked = is_known && (neighbour->state == MR_NEIGHBOUR_ASKED || neighbour->state == MR_NEIGHBOUR_PROBED);
    bool is_same = is_known && neighbour->state != MR_NEIGHBOUR_ASKED && memcmp(&neighbour->mac, mac, sizeof *mac) == 0;
    if (is_answer && was_asked) {
        neighbour->state = MR_NEIGHBOUR_KNOWN;
        neighbour->until_ns = n->now_ns + KNOWN_NS;
        neighbour->tries = 0;
    } else if (!is_same) {
        neighbour->state = MR_NEIGHBOUR_STALE;
        neighbour->until_ns = MR_NEVER;
    }
    neighbour->mac = *mac;
    send_queue(n, neighbour);
}

void mr_neighbour_due(struct mr_net *n)
{
    if (n->neighbour_due_ns > n->now_ns) {
        return;
    }
    n->neighbour_due_ns = MR_NEVER;
    for (uint32_t index = 0; index < MR_NET_NEIGHBOURS; index++) {
        struct mr_neighbour *at = &n->neighbours[index];
        if (at->state != MR_NEIGHBOUR_ASKED && at->state != MR_NEIGHBOUR_PROBED) {
            continue;
        }
        if (at->until_ns <= n->now_ns) {
            if (at->tries < PROBES) {
                ask(n, at);
                continue;
            }
            for (; at->queued > 0; at->queued--) {
                mr_net_drop(n, MR_NET_DROP_UNREACHABLE);
            }
            at->state = MR_NEIGHBOUR_NONE;
            continue;
        }
        n->neighbour_due_ns = mr_earlier(n->neighbour_due_ns, at->until_ns);
    }
}

uint64_t mr_neighbour_deadline_ns(const struct mr_net *n)
{
    return n->neighbour_due_ns;
}
