/*
 * nic_pools: the mbufs of a lane.
 *
 *   received   frames that have come in: the driver's ring, and what the engine keeps. It keeps fewer than there are
 *              (transport_dpdk.c), so that data which nobody takes never keeps an ACK from being received
 *   headers    one for each frame on its way out, ACKs among them: where they run out the engine waits
 *   segments   one for each lent span; where they run out spans are copied behind the header
 *
 * AF_XDP: `received` is the memory that is shared with the kernel (UMEM), one object behind the other and each of one
 * chunk. What is sent comes out of it too, or the driver would copy it once more. The kernel keeps XDP_RING of them to be
 * filled, and at most as many that are on their way out; they come on top.
 */
#include "nic_dpdk.h"

#include "millrace/base/fmt.h"

#define FRAME_OVERHEAD 22u   /* Ethernet's header, a VLAN tag, the checksum that some drivers leave there */
#define XDP_RING       2048u /* descriptors, whatever is asked for */
#define XDP_HEADROOM   256u  /* the kernel's, in front of each frame */
#define CACHE          256u  /* mbufs that a thread may keep to itself */

/* Of objects that may lie across pages, so that they follow one another without gaps. */
static struct rte_mempool *make_umem(const char *name, uint32_t count, uint16_t room)
{
    struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = room};
    struct rte_mempool *pool =
        rte_mempool_create_empty(name, count, (unsigned)sizeof(struct rte_mbuf) + room, CACHE, sizeof private,
                                 SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    if (pool == NULL || rte_mempool_set_ops_byname(pool, "ring_mp_mc", NULL) != 0) {
        return NULL;
    }
    rte_pktmbuf_pool_init(pool, &private);
    if (rte_mempool_populate_default(pool) < 0) {
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool->nb_mem_chunks == 1 ? pool : NULL;
}

static struct rte_mempool *make(const struct mr_nic_lane *l, const char *what, uint32_t count, uint32_t cache,
                                uint16_t room)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    mr_fmt(name, sizeof name, "mr_%s_%u", what, l->nic.lane);
    return rte_pktmbuf_pool_create(name, count, cache, 0, room, SOCKET_ID_ANY);
}

bool mr_nic_pools_make(struct mr_nic_lane *l, uint32_t buffers)
{
    uint16_t room = (uint16_t)(l->port->mtu + FRAME_OVERHEAD + RTE_PKTMBUF_HEADROOM);
    if (l->port->is_xdp) {
        char name[RTE_MEMPOOL_NAMESIZE];
        mr_fmt(name, sizeof name, "mr_umem_%u", l->nic.lane);
        l->received = make_umem(name, buffers + 2 * XDP_RING + 2 * CACHE, (uint16_t)(room + XDP_HEADROOM));
        l->headers = l->received;
        return l->received != NULL;
    }
    l->received = make(l, "received", buffers, CACHE, room);
    l->headers = make(l, "headers", MR_NIC_RING + 2 * MR_NIC_QUEUE, 0, room);
    l->segments = make(l, "segments", MR_NIC_SEGMENTS, CACHE, 0);
    return l->received != NULL && l->headers != NULL && l->segments != NULL;
}
