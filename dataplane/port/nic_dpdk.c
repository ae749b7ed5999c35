/*
 * nic_dpdk: a DPDK port with a queue pair for each data core, opened out of our configuration. Entry of the shared object.
 *
 * Offloads are used where the driver offers them: checksums both ways, chains of mbufs, and receive side scaling with our
 * key. Not the checksums of what net_tap sends: it adds up the mbufs of a chain as if each had an even length (22.11), and
 * others would only do in software what we do. The memory that lent spans lie in is not registered with any card, so
 * they are attached only where software reads them; a card with DMA, and AF_XDP, get copies, made here.
 */
#include "nic_dpdk.h"

#include "millrace/base/fmt.h"
#include "nic_host.h"
#include "nic_veth.h"

#include <rte_dev.h>
#include <string.h>

#define RETA_MAX 512u /* entries of a card's indirection table */

static struct mr_nic_port the_port;
struct mr_nic_lane mr_nic_lanes[MR_NIC_LANES];

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

/* ---- queues ---- */

/* Steering by the card: as mr_steer_frame() does it, as far as the card can. */
static bool is_steering(const struct rte_eth_dev_info *info)
{
    return the_port.lane_count > 1 && !is_software(info->driver_name) && info->reta_size > 0 &&
           info->hash_key_size == sizeof((struct mr_nic_params *)0)->steer_key;
}

static int fill_table(uint16_t port_id, const struct rte_eth_dev_info *info)
{
    struct rte_eth_rss_reta_entry64 table[RETA_MAX / RTE_ETH_RETA_GROUP_SIZE] = {{0}};
    uint16_t size = info->reta_size < RETA_MAX ? info->reta_size : RETA_MAX;
    for (uint16_t way = 0; way < size; way++) {
        struct rte_eth_rss_reta_entry64 *group = &table[way / RTE_ETH_RETA_GROUP_SIZE];
        group->mask |= 1ull << way % RTE_ETH_RETA_GROUP_SIZE;
        group->reta[way % RTE_ETH_RETA_GROUP_SIZE] = (uint16_t)(way % MR_NIC_WAYS % the_port.lane_count);
    }
    return rte_eth_dev_rss_reta_update(port_id, table, size);
}

static int configure_device(uint16_t port_id, uint16_t queues, const struct mr_nic_params *params,
                            const struct rte_eth_dev_info *info)
{
    const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    const uint64_t tx = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | (the_port.is_attaching ? 0 : RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
    uint8_t key[sizeof params->steer_key];
    struct rte_eth_conf conf = {.intr_conf.rxq = 1};
    memcpy(key, params->steer_key, sizeof key);
    conf.rxmode.offloads = info->rx_offload_capa & rx;
    conf.txmode.offloads = the_port.tx_offloads = info->tx_offload_capa & tx;
    if (is_steering(info)) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_key = key;
        conf.rx_adv_conf.rss_conf.rss_key_len = sizeof key;
        conf.rx_adv_conf.rss_conf.rss_hf =
            info->flow_type_rss_offloads & (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP);
    }
    int err = rte_eth_dev_configure(port_id, queues, queues, &conf);
    if (err != 0) { /* a driver without interrupts: it is asked instead */
        conf.intr_conf.rxq = 0;
        err = rte_eth_dev_configure(port_id, queues, queues, &conf);
    }
    return err;
}

static int set_up_queue(struct mr_nic_lane *l, uint16_t rx_ring, uint16_t tx_ring)
{
    const unsigned node = (unsigned)rte_eth_dev_socket_id(l->port_id);
    int err = rte_eth_rx_queue_setup(l->port_id, l->queue_id, rx_ring, node, NULL, l->received);
    return err != 0 ? err : rte_eth_tx_queue_setup(l->port_id, l->queue_id, tx_ring, node, NULL);
}

/* Of the lanes from `first` on, which are the port's queues. 0, or what DPDK says. */
static int configure(struct mr_nic_lane *first, uint32_t lanes, const struct mr_nic_params *params,
                     const struct rte_eth_dev_info *info)
{
    const uint16_t port_id = first->port_id;
    uint16_t rx_ring = MR_NIC_RING;
    uint16_t tx_ring = MR_NIC_RING;
    int err = configure_device(port_id, (uint16_t)lanes, params, info);
    err = err != 0 ? err : rte_eth_dev_adjust_nb_rx_tx_desc(port_id, &rx_ring, &tx_ring);
    for (uint32_t lane = 0; err == 0 && lane < lanes; lane++) {
        err = set_up_queue(first + lane, rx_ring, tx_ring);
    }
    err = err != 0 ? err : rte_eth_dev_set_mtu(port_id, the_port.mtu);
    err = err == -ENOTSUP ? 0 : err; /* net_ring and others have no limit to set */
    err = err != 0 ? err : rte_eth_dev_start(port_id);
    return err == 0 && is_steering(info) ? fill_table(port_id, info) : err;
}

/* ---- lanes ---- */

static int find_fd(const struct mr_nic_lane *l)
{
    return the_port.is_xdp ? mr_nic_veth_socket(l->nic.lane)
                           : rte_eth_dev_rx_intr_ctl_q_get_fd(l->port_id, l->queue_id);
}

/* A TAP's address is the kernel's end's: ours is another. */
static int find_mac(struct mr_nic_lane *l, const struct mr_nic_params *params, bool is_tap)
{
    struct rte_ether_addr address;
    int err = rte_eth_macaddr_get(l->port_id, &address);
    memcpy(l->nic.mac, params->has_mac ? params->mac : address.addr_bytes, sizeof l->nic.mac);
    l->nic.mac[5] ^= is_tap && !params->has_mac ? 1 : 0;
    return params->has_mac ? 0 : err;
}

static int start_lane(struct mr_nic_lane *l, const struct mr_nic_params *params, bool is_tap)
{
    l->nic.is_checksum_offloaded = (the_port.tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0;
    l->nic.wait_fd = l->queue_fd = find_fd(l);
    int err = find_mac(l, params, is_tap);
    return err != 0 || the_port.lane_count == 1 || mr_nic_hand_init(l) ? err : -ENOMEM;
}

/* ---- ports ---- */

static int probe(const char *device, uint16_t *port_id)
{
    char name[sizeof((struct mr_nic_params *)0)->device];
    mr_fmt(name, sizeof name, "%.*s", (int)strcspn(device, ","), device);
    int err = rte_dev_probe(device);
    return err != 0 ? err : rte_eth_dev_get_port_by_name(name, port_id);
}

/* A device with a queue for each of the lanes from `first` on. */
static int open_port(const char *device, struct mr_nic_lane *first, uint32_t lanes, const struct mr_nic_params *params,
                     struct rte_eth_dev_info *info)
{
    uint16_t port_id = 0;
    int err = probe(device, &port_id);
    err = err != 0 ? err : rte_eth_dev_info_get(port_id, info);
    if (err != 0 || info->max_rx_queues < lanes || info->max_tx_queues < lanes) {
        return err != 0 ? err : -E2BIG;
    }
    the_port.is_attaching =
        is_software(info->driver_name) && (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
    for (uint32_t lane = 0; lane < lanes; lane++) {
        struct mr_nic_lane *l = first + lane;
        l->port = &the_port;
        l->port_id = port_id;
        l->queue_id = (uint16_t)lane;
        l->nic = (struct mr_nic){.ops = &mr_nic_frames_ops,
                                 .lane = (uint32_t)(l - mr_nic_lanes),
                                 .lane_count = the_port.lane_count};
        if (!mr_nic_pools_make(l, params->buffers)) {
            return -ENOMEM;
        }
    }
    err = configure(first, lanes, params, info);
    for (uint32_t lane = 0; err == 0 && lane < lanes; lane++) {
        err = start_lane(first + lane, params, strcmp(info->driver_name, "net_tap") == 0);
    }
    return err;
}

/* "net_af_xdp0,iface=x" is the first queue's, and "net_af_xdp0_1,iface=x,start_queue=1" the second's. */
static int open_xdp(const struct mr_nic_params *params, struct rte_eth_dev_info *info)
{
    char device[sizeof params->device + 32];
    const int name_len = (int)strcspn(params->device, ",");
    int err = open_port(params->device, mr_nic_lanes, 1, params, info);
    for (uint32_t lane = 1; err == 0 && lane < params->lanes; lane++) {
        mr_fmt(device, sizeof device, "%.*s_%u%s,start_queue=%u", name_len, params->device, lane,
               params->device + name_len, lane);
        err = open_port(device, mr_nic_lanes + lane, 1, params, info);
    }
    return err;
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
    return params->host_count > 0 && the_port.is_xdp;
}

static void explain(const struct mr_nic_params *params, int err, char *why, size_t why_size)
{
    char said[512];
    if (err == -E2BIG) {
        mr_fmt(why, why_size, "the DPDK device %s has fewer queues than there are data cores: %u (millrace.cores)",
               params->device, params->lanes);
        return;
    }
    mr_nic_eal_said(said, sizeof said);
    mr_fmt(why, why_size, "the DPDK device %s cannot be used (millrace.dpdk.device): %s: %s", params->device,
           rte_strerror(-err), said);
}

bool mr_nic_dpdk_open(const struct mr_nic_params *params, struct mr_nic **lanes, char *why, size_t why_size)
{
    struct rte_eth_dev_info info = {0};
    the_port = (struct mr_nic_port){
        .mtu = params->mtu, .vlan = params->vlan, .lane_count = params->lanes, .is_xdp = is_device(params, "net_af_xdp")};
    if (!permit(params, why, why_size) || !mr_nic_eal_start(params, why, why_size) ||
        (needs_veth(params) && !mr_nic_veth_make(params, params->lanes, why, why_size))) {
        return false;
    }
    mr_nic_veth_quiet();
    mr_nic_tap_hide_signals(true);
    int err = the_port.is_xdp ? open_xdp(params, &info)
                              : open_port(params->device, mr_nic_lanes, params->lanes, params, &info);
    mr_nic_tap_hide_signals(false);
    mr_nic_veth_leave();
    if (err != 0) {
        explain(params, err, why, why_size);
        return false;
    }
    char host[IF_NAMESIZE] = "";
    if (params->host_count > 0 && !needs_veth(params) &&
        (if_indextoname(info.if_index, host) == NULL || !mr_nic_host_addresses(host, params, why, why_size))) {
        return false;
    }
    for (uint32_t lane = 0; lane < params->lanes; lane++) {
        lanes[lane] = &mr_nic_lanes[lane].nic;
    }
    return true;
}
