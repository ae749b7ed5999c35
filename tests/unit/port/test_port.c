/*
 * test_port: the card on DPDK's drivers that need neither root nor a card: net_ring (what is sent comes back), net_null,
 * net_pcap. DPDK's environment lives once per process, so each test has a process of its own.
 */
#include "net/net.h"
#include "nic_dpdk.h"
#include "test.h"

#include <sys/wait.h>
#include <unistd.h>

#define FRAME_MAX 2048u

static struct mr_nic *lanes[MR_NIC_LANES];
static uint8_t text[1400];

static void expect(bool is_true, const char *what, int line)
{
    if (!is_true) {
        fprintf(stderr, "test_port.c:%d: %s\n", line, what);
        _exit(1);
    }
}
#define EXPECT(condition_) expect(condition_, #condition_, __LINE__)

static void open_card(const char *device, uint32_t count, uint32_t vlan)
{
    struct mr_nic_params params = {
        .eal = "--no-huge --no-pci", .lanes = count, .buffers = 4096, .mtu = 1500, .vlan = (uint16_t)vlan};
    char why[1024];
    strncpy(params.device, device, sizeof params.device - 1);
    why[0] = '\0';
    bool is_open = mr_nic_dpdk_open(&params, lanes, why, sizeof why);
    if (!is_open) {
        fprintf(stderr, "%s\n", why);
    }
    EXPECT(is_open);
    for (uint32_t lane = 0; lane < count; lane++) {
        EXPECT(lanes[lane]->lane == lane && lanes[lane]->lane_count == count);
    }
    EXPECT(lanes[0]->ops->attach(lanes[0]));
}

static void in_child(void (*body)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Ethernet, and so much text behind it. */
static struct mr_net_frame make(uint32_t len)
{
    struct mr_net_frame frame = {.header_len = 14, .len = len, .span_count = len > 0, .spans = {{text, len}}};
    for (uint32_t at = 0; at < 12; at++) {
        frame.header[at] = (uint8_t)(at + 1);
    }
    frame.header[12] = 0x88;
    frame.header[13] = 0xb5; /* for experiments */
    for (uint32_t at = 0; at < sizeof text; at++) {
        text[at] = (uint8_t)(at * 7);
    }
    return frame;
}

/* Send one, and see that it comes back; what it looks like. */
static uint32_t come_back(struct mr_nic *nic, const struct mr_net_frame *frame, uint8_t *out)
{
    struct mr_nic_received back;
    nic->ops->send(nic, frame);
    nic->ops->flush(nic);
    if (nic->ops->receive(nic, &back, 1) == 0) {
        return 0;
    }
    uint32_t len = back.len;
    memcpy(out, back.bytes, len);
    nic->ops->release(nic, back.buffer);
    return len;
}

/* ---- net_ring ---- */

static void ring_body(void)
{
    static uint8_t out[FRAME_MAX];
    open_card("net_ring0", 1, 0);
    struct mr_nic *nic = lanes[0];
    struct mr_net_frame frame = make(200);
    EXPECT(come_back(nic, &frame, out) == 214);
    EXPECT(memcmp(out, frame.header, 14) == 0 && memcmp(out + 14, text, 200) == 0);
    EXPECT(nic->counts.bytes_copied == 200 && nic->counts.bytes_attached == 0);
    EXPECT(nic->sent == 1 && nic->done == 1); /* nothing of ours is in the copy */
}

static void test_a_short_span_is_copied_and_comes_out_as_it_went_in(void **state)
{
    (void)state;
    in_child(ring_body);
}

/* The ring holds what is attached; it is done when the other end has given it back, not before. */
static void lent_body(void)
{
    struct mr_nic_received back[MR_NIC_BURST];
    open_card("net_ring0", 1, 0);
    struct mr_nic *nic = lanes[0];
    const struct mr_net_frame frame = make(1400);
    uint32_t room = nic->ops->room(nic);
    EXPECT(room == MR_NIC_QUEUE);
    uint64_t sent = 0;
    for (; nic->ops->room(nic) > 0 && sent < 10000; sent++) {
        nic->ops->send(nic, &frame);
        nic->ops->flush(nic);
    }
    EXPECT(sent > 500 && sent < 10000 && nic->sent == sent); /* it pushes back, and does not grow */
    EXPECT(nic->done == 0 && nic->counts.bytes_attached == sent * 1400);
    for (uint32_t turn = 0; turn < 1000 && nic->done < nic->sent; turn++) {
        EXPECT(nic->ops->receive(nic, back, MR_NIC_BURST) == 0); /* in pieces: refused, and freed */
        nic->ops->flush(nic);
    }
    EXPECT(nic->done == nic->sent && nic->counts.refused == sent);
    EXPECT(nic->ops->room(nic) == room);
}

static void test_a_lent_span_is_done_when_the_driver_gives_it_back(void **state)
{
    (void)state;
    in_child(lent_body);
}

static void hand_body(void)
{
    const uint32_t more = MR_NIC_HANDED + 100;
    struct mr_nic_received back[MR_NIC_BURST];
    open_card("net_ring0", 2, 0);
    const struct mr_nic_received frame = {.bytes = text, .len = 60, .is_verified = true};
    make(0);
    for (uint32_t turn = 0; turn < 20; turn++) { /* each time as many: nothing is lost of the pool */
        uint32_t count = 0;
        uint64_t handed = lanes[0]->counts.handed;
        for (uint32_t index = 0; index < more; index++) {
            lanes[0]->ops->hand(lanes[0], 1, &frame);
        }
        EXPECT(lanes[0]->counts.handed - handed == MR_NIC_HANDED - 1);
        for (uint32_t taken = 1; taken > 0;) {
            taken = lanes[1]->ops->receive(lanes[1], back, MR_NIC_BURST);
            for (uint32_t index = 0; index < taken; index++, count++) {
                EXPECT(back[index].is_handed && back[index].is_verified && back[index].len == 60);
                EXPECT(memcmp(back[index].bytes, text, 60) == 0);
                lanes[1]->ops->release(lanes[1], back[index].buffer);
            }
        }
        EXPECT(count == MR_NIC_HANDED - 1);
    }
    EXPECT(lanes[0]->counts.refused == 20 * (more - MR_NIC_HANDED + 1));
    EXPECT(lanes[0]->ops->receive(lanes[0], back, MR_NIC_BURST) == 0);
}

static void test_a_lane_gets_what_is_handed_to_it_and_no_more_than_it_holds(void **state)
{
    (void)state;
    in_child(hand_body);
}

/* ---- net_null ---- */

static void null_body(void)
{
    struct mr_nic_received back[MR_NIC_BURST];
    open_card("net_null0", 1, 0);
    struct mr_nic *nic = lanes[0];
    const struct mr_net_frame frame = make(1400);
    for (uint32_t index = 0; index < 5000; index++) {
        EXPECT(nic->ops->room(nic) > 0);
        nic->ops->send(nic, &frame);
        nic->ops->flush(nic);
        uint32_t count = nic->ops->receive(nic, back, MR_NIC_BURST);
        while (count > 0) {
            nic->ops->release(nic, back[--count].buffer);
        }
    }
    EXPECT(nic->done == 5000 && nic->counts.frames_out == 5000 && nic->counts.frames_in > 5000);
    EXPECT(nic->wait_fd == -1 && !nic->ops->arm(nic)); /* it must be asked */
}

static void test_a_driver_that_swallows_everything_holds_nothing(void **state)
{
    (void)state;
    in_child(null_body);
}

/* ---- net_pcap ---- */

static void put_packet(FILE *file, int vlan)
{
    uint8_t bytes[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    uint32_t at = 12;
    if (vlan > 0) {
        const uint8_t tag[] = {0x81, 0x00, (uint8_t)(vlan >> 8), (uint8_t)vlan};
        memcpy(bytes + at, tag, sizeof tag);
        at += sizeof tag;
    }
    bytes[at] = 0x88;
    bytes[at + 1] = 0xb5;
    bytes[at + 2] = (uint8_t)(100 + vlan);
    const uint32_t header[] = {0, 0, sizeof bytes, sizeof bytes};
    fwrite(header, sizeof header, 1, file);
    fwrite(bytes, sizeof bytes, 1, file);
}

static void write_packets(const char *path)
{
    const uint32_t header[] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    FILE *file = fopen(path, "wb");
    EXPECT(file != NULL);
    fwrite(header, sizeof header, 1, file);
    put_packet(file, 0);
    put_packet(file, 7);
    put_packet(file, 9);
    fclose(file);
}

static void vlan_body(void)
{
    char directory[] = "/tmp/millrace-port.XXXXXX";
    char device[128];
    char path[64];
    uint8_t out[256] = {0};
    struct mr_nic_received back[MR_NIC_BURST];
    EXPECT(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/in", directory);
    write_packets(path);
    snprintf(device, sizeof device, "net_pcap0,rx_pcap=%s/in,tx_pcap=%s/out", directory, directory);
    open_card(device, 1, 7);
    struct mr_nic *nic = lanes[0];
    EXPECT(nic->ops->receive(nic, back, MR_NIC_BURST) == 1);
    EXPECT(back[0].len == 60 && back[0].bytes[12] == 0x88 && back[0].bytes[14] == 107); /* without its tag */
    EXPECT(nic->counts.refused == 2);
    const struct mr_net_frame frame = make(1400);
    nic->ops->send(nic, &frame);
    nic->ops->flush(nic);
    EXPECT(nic->done == 1 && rte_eth_dev_stop(0) == 0);
    snprintf(path, sizeof path, "%s/out", directory);
    FILE *file = fopen(path, "rb");
    const uint8_t tagged[] = {11, 12, 0x81, 0x00, 0x00, 0x07, 0x88, 0xb5};
    EXPECT(file != NULL && fread(out, 1, sizeof out, file) == sizeof out);
    EXPECT(memcmp(out + 24 + 16 + 10, tagged, sizeof tagged) == 0 && memcmp(out + 24 + 16 + 18, text, 100) == 0);
    fclose(file);
    unlink(path);
    snprintf(path, sizeof path, "%s/in", directory);
    unlink(path);
    rmdir(directory);
}

static void test_a_vlan_is_ours_alone_and_everything_leaves_with_its_tag(void **state)
{
    (void)state;
    in_child(vlan_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_short_span_is_copied_and_comes_out_as_it_went_in),
        cmocka_unit_test(test_a_lent_span_is_done_when_the_driver_gives_it_back),
        cmocka_unit_test(test_a_lane_gets_what_is_handed_to_it_and_no_more_than_it_holds),
        cmocka_unit_test(test_a_driver_that_swallows_everything_holds_nothing),
        cmocka_unit_test(test_a_vlan_is_ours_alone_and_everything_leaves_with_its_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
