/*
 * nic_dpdk: a DPDK port with one queue pair, opened out of our configuration. Entry of the shared object.
 *
 * Offloads are used where the driver offers them: checksums both ways, and chains of mbufs. Not the checksums of what
 * net_tap sends: it adds up the mbufs of a chain as if each had an even length (22.11), and others would only do in
 * software what we do. The memory that lent spans
 * lie in is not registered with any card, so they are attached only where software reads them; a card with DMA, and
 * AF_XDP, get copies, made here.
 *
 * AF_XDP: the pool of received frames is the memory that is shared with the kernel (UMEM), one object behind the other
 * and each of one chunk. What is sent comes out of it too, or the driver would copy it once more. The kernel keeps
 * XDP_RING of them to be filled, and at most as many that are on their way out.
 */
#include "nic_dpdk.h"

#include "millrace/base/fmt.h"
#include "nic_host.h"
#include "nic_veth.h"

#include <rte_dev.h>
#include <string.h>

#define FRAME_OVERHEAD 22u   /* Ethernet's header, a VLAN tag, the checksum that some drivers leave there */
#define XDP_RING       2048u /* descriptors, whatever is asked for */
#define XDP_HEADROOM   256u  /* the kernel's, in front of each frame */
#define CACHE          256u  /* mbufs that a thread may keep to itself */

static struct mr_nic_dpdk the_port;

/* Drivers that read mbufs with the CPU, wherever they lie. */
static bool is_software(const char *driver)
{
    static const char *const names[] = {"net_tap", "net_memif", "net_ring", "net_null", "net_pcap"};
    for (size_t index = 0; index < sizeof names / sizeof names[0]; index++) {
        if (strcmp(driver, names[index]) == 0) {
            return true;
        }
    }
    return false;
}

/* Of objects that may lie across pages, so that they follow one another without gaps. */
static struct rte_mempool *make_umem(uint32_t count, uint16_t room)
{
    struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = room};
    struct rte_mempool *pool =
        rte_mempool_create_empty("mr_umem", count, (unsigned)sizeof(struct rte_mbuf) + room, CACHE, sizeof private,
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

static bool make_pools(struct mr_nic_dpdk *d, uint32_t buffers, bool is_xdp)
{
    uint16_t room = (uint16_t)(d->mtu + FRAME_OVERHEAD + RTE_PKTMBUF_HEADROOM);
    if (is_xdp) {
        d->received = d->headers = make_umem(buffers + 2 * XDP_RING + 2 * CACHE, (uint16_t)(room + XDP_HEADROOM));
        return d->received != NULL;
    }
    d->received = rte_pktmbuf_pool_create("mr_received", buffers, CACHE, 0, room, SOCKET_ID_ANY);
    d->headers =
        rte_pktmbuf_pool_create("mr_headers", MR_NIC_RING + 2 * MR_NIC_QUEUE, 0, 0, room, SOCKET_ID_ANY);
    d->segments = rte_pktmbuf_pool_create("mr_segments", MR_NIC_SEGMENTS, CACHE, 0, 0, SOCKET_ID_ANY);
    return d->received != NULL && d->headers != NULL && d->segments != NULL;
}

/* 0, or what DPDK says. */
static int configure(struct mr_nic_dpdk *d, const struct rte_eth_dev_info *info)
{
    const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    const uint64_t tx = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | (d->is_attaching ? 0 : RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
    const unsigned node = (unsigned)rte_eth_dev_socket_id(d->port);
    uint16_t rx_ring = MR_NIC_RING;
    uint16_t tx_ring = MR_NIC_RING;
    struct rte_eth_conf conf = {.intr_conf.rxq = 1};
    conf.rxmode.offloads = info->rx_offload_capa & rx;
    conf.txmode.offloads = d->tx_offloads = info->tx_offload_capa & tx;
    int err = rte_eth_dev_configure(d->port, 1, 1, &conf);
    if (err != 0) { /* a driver without interrupts: it is asked instead */
        conf.intr_conf.rxq = 0;
        err = rte_eth_dev_configure(d->port, 1, 1, &conf);
    }
    err = err != 0 ? err : rte_eth_dev_adjust_nb_rx_tx_desc(d->port, &rx_ring, &tx_ring);
    err = err != 0 ? err : rte_eth_rx_queue_setup(d->port, 0, rx_ring, node, NULL, d->received);
    err = err != 0 ? err : rte_eth_tx_queue_setup(d->port, 0, tx_ring, node, NULL);
    err = err != 0 ? err : rte_eth_dev_set_mtu(d->port, d->mtu);
    err = err != 0 ? err : rte_eth_dev_start(d->port);
    d->nic.wait_fd = err == 0 && conf.intr_conf.rxq != 0 ? rte_eth_dev_rx_intr_ctl_q_get_fd(d->port, 0) : -1;
    return err;
}

/* A TAP's address is the kernel's end's: ours is another. */
static int take_mac(struct mr_nic_dpdk *d, const struct mr_nic_params *params, bool is_tap)
{
    struct rte_ether_addr address;
    int err = rte_eth_macaddr_get(d->port, &address);
    if (params->has_mac) {
        memcpy(d->nic.mac, params->mac, sizeof d->nic.mac);
        return 0;
    }
    memcpy(d->nic.mac, address.addr_bytes, sizeof d->nic.mac);
    d->nic.mac[5] ^= is_tap ? 1 : 0;
    return err;
}

static int probe(struct mr_nic_dpdk *d, const char *device)
{
    char name[sizeof((struct mr_nic_params *)0)->device];
    mr_fmt(name, sizeof name, "%.*s", (int)strcspn(device, ","), device);
    int err = rte_dev_probe(device);
    return err != 0 ? err : rte_eth_dev_get_port_by_name(name, &d->port);
}

static int open_port(struct mr_nic_dpdk *d, const struct mr_nic_params *params, struct rte_eth_dev_info *info)
{
    int err = probe(d, params->device);
    err = err != 0 ? err : rte_eth_dev_info_get(d->port, info);
    if (err != 0) {
        return err;
    }
    bool is_xdp = strcmp(info->driver_name, "net_af_xdp") == 0;
    d->is_attaching = is_software(info->driver_name) && (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
    err = make_pools(d, params->buffers, is_xdp) ? configure(d, info) : -ENOMEM;
    d->nic.wait_fd = is_xdp && err == 0 ? mr_nic_veth_socket(0) : d->nic.wait_fd;
    d->nic.is_checksum_offloaded = (d->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0;
    return err != 0 ? err : take_mac(d, params, strcmp(info->driver_name, "net_tap") == 0);
}

static bool is_device(const struct mr_nic_params *params, const char *driver)
{
    return strncmp(params->device, driver, strlen(driver)) == 0;
}

/* What must be right before DPDK is started, which takes a while. */
static bool permit(const struct mr_nic_params *params, char *why, size_t why_size)
{
    char name[IF_NAMESIZE];
    mr_nic_host_name(params->device, name);
    return !is_device(params, "net_tap") ||
           (mr_nic_tap_permitted(why, why_size) && mr_nic_host_vacant(name, why, why_size));
}

/* With addresses for a kernel's end AF_XDP is on a pair of devices that is made for it; else on a card that exists. */
static bool needs_veth(const struct mr_nic_params *params)
{
    return params->host_count > 0 && is_device(params, "net_af_xdp");
}

struct mr_nic *mr_nic_dpdk_open(const struct mr_nic_params *params, char *why, size_t why_size)
{
    struct mr_nic_dpdk *d = &the_port;
    struct rte_eth_dev_info info = {0};
    d->nic.ops = &mr_nic_frames_ops;
    d->mtu = params->mtu;
    if (!permit(params, why, why_size) || !mr_nic_eal_start(params, why, why_size) ||
        (needs_veth(params) && !mr_nic_veth_make(params, 1, why, why_size))) {
        return NULL;
    }
    mr_nic_veth_quiet();
    mr_nic_tap_hide_signals(true);
    int err = open_port(d, params, &info);
    mr_nic_tap_hide_signals(false);
    mr_nic_veth_leave();
    if (err != 0) {
        char said[512];
        mr_nic_eal_said(said, sizeof said);
        mr_fmt(why, why_size, "the DPDK device %s cannot be used (millrace.dpdk.device): %s: %s", params->device,
               rte_strerror(-err), said);
        return NULL;
    }
    char host[IF_NAMESIZE] = "";
    if (params->host_count > 0 && !needs_veth(params) &&
        (if_indextoname(info.if_index, host) == NULL || !mr_nic_host_addresses(host, params, why, why_size))) {
        return NULL;
    }
    return &d->nic;
}
