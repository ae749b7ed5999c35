/*
 * nic_frames: frames through a DPDK queue pair.
 *
 *   frame of ours:  [ header and short spans | mbuf of `headers` ] -> [ lent span | mbuf of `segments` ] -> ...
 *
 * Lent spans are attached, not copied, where the driver reads chains of mbufs by itself. A retransmission makes new
 * mbufs, so the old ones may still be in the ring. The mbufs of one frame share one slot; when the driver has freed
 * all of them the slot is done, and `done` moves over the done slots in front. Slots, headers and queue are sized
 * so that a frame without lent spans, an ACK for example, needs nothing that data could have used up; where segments
 * run out the spans are copied.
 */
#include "net/net.h"
#include "nic_dpdk.h"

#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_tcp.h>

static bool frames_attach(struct mr_nic *nic)
{
    (void)nic;
    return rte_thread_register() == 0; /* its mempool caches */
}

/* ---- in ---- */

/* False: the frame is of another VLAN. Without one of ours tags are left where they are, and refused as no IP. */
static bool take_tag(const struct mr_nic_lane *l, struct rte_mbuf *m)
{
    const uint16_t id = 0xfff; /* of the tag's 16 bits; the others are a priority */
    return l->port->vlan == 0 || (rte_vlan_strip(m) == 0 && (m->vlan_tci & id) == l->port->vlan);
}

static uint32_t frames_receive(struct mr_nic *nic, struct mr_nic_received *frames, uint32_t max)
{
    struct mr_nic_lane *l = (struct mr_nic_lane *)(void *)nic;
    const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    struct rte_mbuf *mbufs[MR_NIC_BURST];
    uint32_t count = nic->lane_count > 1 ? mr_nic_hand_take(l, frames, max / 2) : 0; /* neither starves the other */
    uint16_t burst = max - count < MR_NIC_BURST ? (uint16_t)(max - count) : MR_NIC_BURST;
    uint16_t taken = rte_eth_rx_burst(l->port_id, l->queue_id, mbufs, burst);
    nic->counts.frames_in += taken;
    for (uint16_t index = 0; index < taken; index++) {
        struct rte_mbuf *m = mbufs[index];
        if (m->nb_segs != 1 || !take_tag(l, m)) { /* longer than the MTU allows, or not ours */
            nic->counts.refused++;
            rte_pktmbuf_free(m);
            continue;
        }
        frames[count++] = (struct mr_nic_received){.bytes = rte_pktmbuf_mtod(m, const uint8_t *),
                                                   .len = m->data_len,
                                                   .is_verified = (m->ol_flags & good) == good,
                                                   .buffer = m};
    }
    return count;
}

static void frames_release(struct mr_nic *nic, void *buffer)
{
    (void)nic;
    rte_pktmbuf_free(buffer);
}

/* ---- out ---- */

static uint32_t frames_room(struct mr_nic *nic)
{
    const struct mr_nic_lane *l = (const struct mr_nic_lane *)(const void *)nic;
    uint32_t slots = MR_NIC_SLOTS - (uint32_t)(nic->sent - nic->done);
    uint32_t queue = MR_NIC_QUEUE - l->queued;
    uint32_t room = slots < queue ? slots : queue;
    if (l->headers != l->received && room > 0) { /* a driver's ring may be longer than was asked for */
        uint32_t headers = rte_mempool_avail_count(l->headers);
        room = headers < room ? headers : room;
    }
    return room;
}

static void slot_done(void *bytes, void *slot)
{
    (void)bytes;
    ((struct mr_nic_slot *)slot)->is_done = true;
}

static void copy_span(struct mr_nic_lane *l, struct rte_mbuf *m, const struct mr_span *span)
{
    memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len), span->data, span->len);
    m->data_len = (uint16_t)(m->data_len + span->len);
    l->nic.counts.bytes_copied += span->len;
}

/* A span is a part of one segment's payload, so its length fits. */
static void attach_span(struct mr_nic_lane *l, struct rte_mbuf *m, const struct mr_span *span,
                        struct rte_mbuf_ext_shared_info *info)
{
    union {
        const void *in;
        void *out;
    } pun = {.in = span->data};
    rte_pktmbuf_attach_extbuf(m, pun.out, RTE_BAD_IOVA, (uint16_t)span->len, info);
    m->data_len = (uint16_t)span->len;
    l->nic.counts.bytes_attached += span->len;
}

/* What a card that computes checksums wants to find: the sum of the pseudo header. */
static void offload_checksums(const struct mr_nic_lane *l, struct rte_mbuf *m, const struct mr_net_frame *frame)
{
    if (frame->l4_at == 0 || !l->nic.is_checksum_offloaded) {
        return;
    }
    bool is_ip4 = frame->l4_at - frame->l3_at == sizeof(struct rte_ipv4_hdr);
    void *ip = rte_pktmbuf_mtod_offset(m, void *, frame->l3_at);
    struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, frame->l4_at);
    m->tx_offload = rte_mbuf_tx_offload(frame->l3_at, frame->l4_at - frame->l3_at, frame->header_len - frame->l4_at,
                                        0, 0, 0, 0);
    m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | (is_ip4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
    tcp->cksum = is_ip4 ? rte_ipv4_phdr_cksum(ip, m->ol_flags) : rte_ipv6_phdr_cksum(ip, m->ol_flags);
}

static void frames_send(struct mr_nic *nic, const struct mr_net_frame *frame)
{
    struct mr_nic_lane *l = (struct mr_nic_lane *)(void *)nic;
    struct mr_nic_slot *slot = &l->slots[nic->sent++ % MR_NIC_SLOTS];
    struct rte_mbuf *head = rte_pktmbuf_alloc(l->headers);
    struct rte_mbuf *rest[MR_TCP_SPANS];
    slot->is_done = true;
    if (head == NULL) { /* cannot be: room() counts; a lost frame comes again */
        return;
    }
    memcpy(rte_pktmbuf_mtod(head, uint8_t *), frame->header, frame->header_len);
    head->data_len = (uint16_t)frame->header_len;
    uint32_t copied = 0;
    while (copied < frame->span_count && frame->spans[copied].len <= MR_NIC_COPY_MAX) {
        copy_span(l, head, &frame->spans[copied++]);
    }
    uint32_t attached = frame->span_count - copied;
    if (!l->port->is_attaching || attached == 0 || rte_pktmbuf_alloc_bulk(l->segments, rest, attached) != 0) {
        attached = 0;
    }
    for (; copied + attached < frame->span_count; copied++) {
        copy_span(l, head, &frame->spans[copied]);
    }
    struct rte_mbuf *last = head;
    for (uint32_t index = 0; index < attached; index++) {
        attach_span(l, rest[index], &frame->spans[copied + index], &slot->info);
        last->next = rest[index];
        last = rest[index];
    }
    slot->is_done = attached == 0;
    slot->info.free_cb = slot_done;
    slot->info.fcb_opaque = slot;
    rte_mbuf_ext_refcnt_set(&slot->info, (uint16_t)attached);
    head->nb_segs = (uint16_t)(attached + 1);
    head->pkt_len = frame->header_len + frame->len;
    offload_checksums(l, head, frame);
    if (l->port->vlan != 0) {
        head->vlan_tci = l->port->vlan;
        (void)rte_vlan_insert(&head); /* there is headroom */
    }
    l->queue[l->queued++] = head;
}

static void frames_flush(struct mr_nic *nic)
{
    struct mr_nic_lane *l = (struct mr_nic_lane *)(void *)nic;
    if (l->queued > 0) {
        uint16_t taken = rte_eth_tx_burst(l->port_id, l->queue_id, l->queue, (uint16_t)l->queued);
        nic->counts.frames_out += taken;
        l->queued -= taken;
        memmove(l->queue, l->queue + taken, l->queued * sizeof l->queue[0]);
    }
    while (nic->done + l->queued < nic->sent && l->slots[nic->done % MR_NIC_SLOTS].is_done) {
        nic->done++;
    }
    if (nic->done < nic->sent && l->queued == 0) {
        (void)rte_eth_tx_done_cleanup(l->port_id, l->queue_id, 0); /* a lazy driver keeps them until its ring is full */
    }
}

/* ---- waiting ---- */

static bool frames_arm(struct mr_nic *nic)
{
    struct mr_nic_lane *l = (struct mr_nic_lane *)(void *)nic;
    if (nic->wait_fd < 0) {
        return false;
    }
    if (nic->lane_count > 1) {
        mr_nic_hand_arm(l);
    }
    int err = rte_eth_dev_rx_intr_enable(l->port_id, l->queue_id);
    return err == 0 || err == -ENOTSUP; /* a TAP's descriptor is readable anyway */
}

const struct mr_nic_ops mr_nic_frames_ops = {
    .name = "dpdk",
    .attach = frames_attach,
    .receive = frames_receive,
    .release = frames_release,
    .room = frames_room,
    .send = frames_send,
    .flush = frames_flush,
    .arm = frames_arm,
    .hand = mr_nic_hand,
};
