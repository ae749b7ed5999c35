#include "sim_link.h"

#include <stdlib.h>
#include <string.h>

void mr_sim_link_init(struct mr_sim_link *link, uint64_t seed)
{
    *link = (struct mr_sim_link){.prng = {.state = seed}};
    mr_list_init(&link->packets);
}

static bool is_drawn(struct mr_sim_link *link, uint32_t chance)
{
    return chance > 0 && mr_prng_below(&link->prng, 10000) < chance;
}

static bool is_lost(struct mr_sim_link *link, uint32_t to)
{
    const struct mr_sim_link_faults *f = &link->faults[to];
    link->is_burst[to] = link->is_burst[to] ? !is_drawn(link, f->burst_end) : is_drawn(link, f->burst_begin);
    return is_drawn(link, f->loss) || (link->is_burst[to] && is_drawn(link, 7000));
}

static void insert(struct mr_sim_link *link, struct mr_sim_packet *packet)
{
    struct mr_list *at = link->packets.prev;
    while (at != &link->packets && MR_LIST_ENTRY(at, struct mr_sim_packet, link)->at_ns > packet->at_ns) {
        at = at->prev;
    }
    mr_list_add_head(at, &packet->link);
}

static void put(struct mr_sim_link *link, uint64_t at_ns, uint32_t to, uint8_t ecn, const uint8_t *bytes, uint32_t len)
{
    struct mr_sim_packet *packet = malloc(sizeof *packet);
    *packet = (struct mr_sim_packet){.at_ns = at_ns, .to = to, .len = len, .ecn = ecn, .bytes = malloc(len)};
    memcpy(packet->bytes, bytes, len);
    if (is_drawn(link, link->faults[to].corrupt)) { /* one byte: the checksum finds it for certain */
        packet->bytes[mr_prng_below(&link->prng, len)] ^= (uint8_t)(1 + mr_prng_below(&link->prng, 255));
    }
    link->live++;
    insert(link, packet);
}

void mr_sim_link_send(struct mr_sim_link *link, uint64_t now_ns, uint32_t to, uint8_t ecn, const uint8_t *bytes,
                      uint32_t len, uint32_t overhead)
{
    const struct mr_sim_link_faults *f = &link->faults[to];
    uint32_t size = len + overhead;
    uint64_t at_ns = now_ns;
    link->sent++;
    if ((f->mtu != 0 && size > f->mtu) || is_lost(link, to)) {
        link->lost++;
        return;
    }
    if (f->bytes_per_s != 0) {
        uint64_t begin_ns = link->free_ns[to] > now_ns ? link->free_ns[to] : now_ns;
        uint64_t queued = (begin_ns - now_ns) * f->bytes_per_s / MR_NS_PER_S;
        if (queued + size > f->queue_bytes) {
            link->lost++;
            return;
        }
        ecn = f->mark_bytes != 0 && queued > f->mark_bytes && ecn != 0 ? 3 : ecn;
        link->free_ns[to] = begin_ns + size * MR_NS_PER_S / f->bytes_per_s;
        at_ns = link->free_ns[to];
    }
    at_ns += f->delay_ns;
    uint32_t copies = 1 + is_drawn(link, f->duplicate);
    for (uint32_t copy = 0; copy < copies; copy++) {
        bool is_late = f->jitter_ns > 0 && is_drawn(link, f->reorder);
        put(link, at_ns + (is_late ? mr_prng_below(&link->prng, f->jitter_ns) : 0), to, ecn, bytes, len);
    }
}

uint64_t mr_sim_link_next_ns(const struct mr_sim_link *link)
{
    return mr_list_is_empty(&link->packets) ? MR_NEVER : MR_LIST_ENTRY(link->packets.next, struct mr_sim_packet, link)->at_ns;
}

struct mr_sim_packet *mr_sim_link_take(struct mr_sim_link *link, uint64_t now_ns)
{
    if (mr_sim_link_next_ns(link) > now_ns) {
        return NULL;
    }
    return MR_LIST_ENTRY(mr_list_pop(&link->packets), struct mr_sim_packet, link);
}

void mr_sim_link_free(struct mr_sim_link *link, struct mr_sim_packet *packet)
{
    link->live--;
    free(packet->bytes);
    free(packet);
}

void mr_sim_link_clear(struct mr_sim_link *link)
{
    while (!mr_list_is_empty(&link->packets)) {
        mr_sim_link_free(link, MR_LIST_ENTRY(mr_list_pop(&link->packets), struct mr_sim_packet, link));
    }
}
