/*
 * fuzz_net: any bytes as frames on the wire: Ethernet, ARP, IPv4, IPv6, ICMP, neighbour discovery, TCP headers.
 *
 * A script of items, each a frame. An even `kind` has its checksums made right, so that what is behind them is reached;
 * `who` is the time that goes by before it, as a power of two in microseconds.
 */
#include "mutate.h"
#include "net/net_parts.h"
#include "net/steer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mr_steer steer = {.key = {0x6d, 0x5a, 0x56}, .lanes = 3};
static const struct mr_net_mac mac = {{2, 0, 0, 0, 0, 1}};

static void put_sum(uint8_t *at, uint64_t sum, const uint8_t *bytes, uint32_t len)
{
    mr_store_be16(at, 0);
    mr_store_be16(at, mr_checksum_fold(mr_checksum_add(sum, bytes, len)));
}

/* Addresses and checksums as they should be, wherever the frame is long enough for them. */
static void make_right(uint8_t *frame, uint32_t len)
{
    memcpy(frame, mac.bytes, sizeof mac);
    frame[6] = (uint8_t)(frame[6] & 0xfe);
    uint8_t *ip = frame + 14;
    if (mr_load_be16(frame + 12) == MR_ETHER_IP4 && len >= 34) {
        uint32_t rest = len - 34;
        struct mr_address from = mr_net_ip4(ip + 12);
        struct mr_address to = mr_net_ip4(ip + 16);
        mr_store_be16(ip + 2, (uint16_t)(len - 14));
        put_sum(ip + 10, 0, ip, 20);
        if (ip[9] == MR_IP_ICMP4 && rest >= 8) {
            put_sum(ip + 22, 0, ip + 20, rest);
        } else if (ip[9] == MR_IP_TCP && rest >= 20) {
            put_sum(ip + 36, mr_checksum_pseudo(&from, &to, true, MR_IP_TCP, rest), ip + 20, rest);
        }
    } else if (mr_load_be16(frame + 12) == MR_ETHER_IP6 && len >= 54) {
        uint32_t rest = len - 54;
        struct mr_address from;
        struct mr_address to;
        memcpy(from.bytes, ip + 8, 16);
        memcpy(to.bytes, ip + 24, 16);
        mr_store_be16(ip + 4, (uint16_t)rest);
        if (ip[6] == MR_IP_ICMP6 && rest >= 8) {
            put_sum(ip + 42, mr_checksum_pseudo(&from, &to, false, MR_IP_ICMP6, rest), ip + 40, rest);
        } else if (ip[6] == MR_IP_TCP && rest >= 20) {
            put_sum(ip + 56, mr_checksum_pseudo(&from, &to, false, MR_IP_TCP, rest), ip + 40, rest);
        }
    }
}

static void drain(struct mr_net *n, uint64_t now_ns)
{
    struct mr_net_frame frame;
    struct mr_tcp_event event;
    void *buffer;
    for (uint32_t count = 0; count < 1000 && mr_net_output(n, now_ns, &frame, 1) == 1; count++) {
        uint32_t len = 0;
        for (uint32_t index = 0; index < frame.span_count; index++) {
            len += frame.spans[index].len;
        }
        mr_assert(len == frame.len && frame.header_len >= MR_ETHER_HEADER && frame.header_len <= MR_NET_HEADER_MAX);
    }
    while (mr_tcp_events(n->tcp, &event, 1) == 1) {
        if (event.kind == MR_TCP_DATA) {
            free(event.buffer);
        }
    }
    while (mr_tcp_discarded(n->tcp, &buffer)) {
        free(buffer);
    }
    mr_assert(mr_tcp_check(n->tcp) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *memory;
    static struct mr_net n;
    struct mr_tcp_params tcp = mr_tcp_params_default(4);
    struct mr_address any = {{0}};
    struct mr_arena arena;
    struct mr_net_params params = {.mac = mac, .address_count = 2};
    params.addresses[0].address = (struct mr_address){{[10] = 0xff, 0xff, 10, 0, 0, 1}};
    params.addresses[0].network = (struct mr_network){params.addresses[0].address, 120};
    params.addresses[1].address = (struct mr_address){{0xfd, [15] = 1}};
    params.addresses[1].network = (struct mr_network){params.addresses[1].address, 64};
    if (memory == NULL) {
        memory = malloc(mr_tcp_bytes(&tcp));
    }
    mr_arena_init(&arena, memory, mr_tcp_bytes(&tcp));
    mr_net_init(&n, &params, mr_tcp_init(&tcp, &arena));
    (void)mr_tcp_listen(n.tcp, &any, 9092, 0);
    uint64_t now_ns = MR_NS_PER_S;
    const uint8_t *end = data + size;
    struct mr_script_item item;
    for (uint32_t count = 0; count < 200 && mr_script_next(&data, end, &item); count++) {
        uint8_t *frame = malloc(item.len + 1);
        memcpy(frame, item.bytes, item.len);
        if (item.kind % 2 == 0 && item.len >= 14) {
            make_right(frame, item.len);
        }
        now_ns += 1000ull << (item.who % 28);
        uint32_t whose = mr_steer_frame(&steer, frame, item.len);
        mr_assert(whose < steer.lanes || whose == MR_STEER_HERE || whose == MR_STEER_ALL);
        if (!mr_net_input(&n, frame, item.len, false, frame, now_ns)) {
            free(frame);
        }
        drain(&n, now_ns);
    }
    for (uint32_t tries = 0; tries < 64 && mr_net_deadline_ns(&n) != MR_NEVER; tries++) { /* what is kept comes back */
        now_ns = mr_net_deadline_ns(&n) > now_ns ? mr_net_deadline_ns(&n) : now_ns + MR_NS_PER_S;
        drain(&n, now_ns + 1000 * MR_NS_PER_S);
    }
    return 0;
}

static void mutate_item(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    if (item->bytes == NULL) {
        item->kind = 0;
        item->who = (uint8_t)mr_prng_below(prng, 28);
        item->len = 60 < max ? 60 : max;
        for (uint32_t at = 0; at < item->len; at++) {
            out[at] = (uint8_t)mr_prng_next(prng);
        }
        return;
    }
    memcpy(out, item->bytes, item->len);
    for (uint32_t count = 1 + (uint32_t)mr_prng_below(prng, 3); count > 0 && item->len > 0; count--) {
        uint32_t at = (uint32_t)mr_prng_below(prng, item->len);
        out[at] = mr_prng_below(prng, 2) == 0 ? (uint8_t)mr_prng_next(prng) : (uint8_t)(out[at] ^ 0x10);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, mutate_item);
}
