/*
 * nic_hand: frames that one lane has received and another one's connections are meant by.
 *
 * They are copied into the other lane's pool, so that each lane's memory is bounded by what it keeps itself; a ring or
 * pool that is full loses the frame, as a card's does. Many write to a ring, its lane reads.
 *
 * A lane that waits has said so before it looked at its ring for the last time, and who hands over looks after the frame
 * is in the ring: one of the two sees the other (both fences are needed for that). Only who rings takes back that it
 * waits: the lane may look at its ring in between, and its core waits for the descriptor all the same.
 */
#include "nic_dpdk.h"

#include "millrace/base/fmt.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void ring_bell(const struct mr_nic_lane *l)
{
    const uint64_t one = 1;
    (void)!write(l->bell_fd, &one, sizeof one);
}

static bool watch(int both, int file)
{
    struct epoll_event readable = {.events = EPOLLIN};
    return epoll_ctl(both, EPOLL_CTL_ADD, file, &readable) == 0;
}

bool mr_nic_hand_init(struct mr_nic_lane *l)
{
    char name[RTE_RING_NAMESIZE];
    mr_fmt(name, sizeof name, "mr_handed_%u", l->nic.lane);
    l->handed = rte_ring_create(name, MR_NIC_HANDED, SOCKET_ID_ANY, RING_F_SC_DEQ);
    l->bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int both = epoll_create1(EPOLL_CLOEXEC);
    if (l->handed == NULL || l->bell_fd < 0 || both < 0 || !watch(both, l->bell_fd)) {
        return false;
    }
    l->nic.wait_fd = l->queue_fd >= 0 && watch(both, l->queue_fd) ? both : -1;
    return true;
}

void mr_nic_hand(struct mr_nic *nic, uint32_t lane, const struct mr_nic_received *frame)
{
    struct mr_nic_lane *to = &mr_nic_lanes[lane];
    struct rte_mbuf *m = rte_pktmbuf_alloc(to->received);
    if (m == NULL || frame->len > rte_pktmbuf_tailroom(m)) {
        rte_pktmbuf_free(m);
        nic->counts.refused++;
        return;
    }
    memcpy(rte_pktmbuf_mtod(m, uint8_t *), frame->bytes, frame->len);
    m->data_len = (uint16_t)frame->len;
    m->pkt_len = frame->len;
    m->ol_flags |= frame->is_verified ? RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0;
    if (rte_ring_mp_enqueue(to->handed, m) != 0) {
        rte_pktmbuf_free(m);
        nic->counts.refused++;
        return;
    }
    nic->counts.handed++;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&to->is_waiting, memory_order_relaxed) &&
        atomic_exchange_explicit(&to->is_waiting, false, memory_order_relaxed)) {
        ring_bell(to);
    }
}

uint32_t mr_nic_hand_take(struct mr_nic_lane *l, struct mr_nic_received *frames, uint32_t max)
{
    struct rte_mbuf *mbufs[MR_NIC_BURST];
    uint32_t count = rte_ring_sc_dequeue_burst(l->handed, (void **)mbufs, max < MR_NIC_BURST ? max : MR_NIC_BURST, NULL);
    for (uint32_t index = 0; index < count; index++) {
        struct rte_mbuf *m = mbufs[index];
        frames[index] = (struct mr_nic_received){.bytes = rte_pktmbuf_mtod(m, const uint8_t *),
                                                 .len = m->data_len,
                                                 .is_verified = (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_GOOD) != 0,
                                                 .is_handed = true,
                                                 .buffer = m};
    }
    return count;
}

void mr_nic_hand_arm(struct mr_nic_lane *l)
{
    uint64_t rings;
    (void)!read(l->bell_fd, &rings, sizeof rings);
    atomic_store_explicit(&l->is_waiting, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (rte_ring_count(l->handed) > 0) {
        ring_bell(l);
    }
}
