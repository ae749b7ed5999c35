/*
 * micro: the pure core on fixed work, for counting: perf/count.py runs it under callgrind (instructions)
 * and under DHAT (bytes copied), and reads what it asked of the disk.
 *
 *   millrace-micro CASE TIMES       do the work of CASE so many times; prints the disk's part in it
 *   millrace-micro list             cases, the function that is looked at, what one time is, its record bytes
 *
 * The rigs of the tests play everybody around the core; only what happens inside the named function is
 * collected. The difference between two TIMES is free of warming up.
 */
#include "core_rig.h"
#include "data_rig.h"
#include "net/net_parts.h"
#include "sim_transport.h"
#include "tcp/tcp_conn.h"
#include "tcp/tcp_wire.h"

#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA_TURN    "mr_data_core_turn"
#define STORAGE_TURN "mr_storage_core_turn"
#define PARTITIONS   100
#define LARGE_RECORDS 64u
#define LARGE_BYTES   (61u + LARGE_RECORDS * 1009u) /* the batch that they make */

/* ---- the data core ---- */

/* The rig's storage keeps what it is given in a few megabytes: it forgets before it is full. */
static void forget(struct mr_data_rig *rig)
{
    rig->logs[0].len = 0;
}

static void produce(uint32_t times, uint32_t records, uint32_t value_bytes)
{
    struct mr_data_rig        *rig = mr_data_rig_create();
    struct mr_sim_peer        *peer = mr_data_rig_join(rig);
    struct mr_produce_response response;
    int32_t                    correlation;
    for (uint32_t time = 0; time < times; time++) {
        mr_data_rig_produce_to(rig, peer, (int32_t)time, -1, MR_STR("t"), 0, records, value_bytes);
        if (!mr_data_rig_answer(rig, peer, 0, 9, &correlation, &response) ||
            response.responses[0].partition_responses[0].error_code != 0) {
            fprintf(stderr, "millrace-micro: a produce was not answered\n");
            exit(1);
        }
        forget(rig);
    }
}

static void produce_small(uint32_t times)
{
    produce(times, 1, 100);
}

static void produce_batch(uint32_t times)
{
    produce(times, 100, 100);
}

static void produce_large(uint32_t times)
{
    produce(times, LARGE_RECORDS, 1000);
}

static void fetch_of(uint32_t times, uint32_t records, uint32_t value_bytes)
{
    struct mr_data_rig       *rig = mr_data_rig_create();
    struct mr_sim_peer       *peer = mr_data_rig_join(rig);
    struct mr_produce_response produced;
    struct mr_fetch_response   response;
    int32_t                    correlation;
    mr_data_rig_produce_to(rig, peer, 0, -1, MR_STR("t"), 0, records, value_bytes);
    (void)mr_data_rig_answer(rig, peer, 0, 9, &correlation, &produced);
    for (uint32_t time = 0; time < times; time++) {
        mr_data_rig_fetch(peer, (int32_t)time,
                          (struct mr_data_rig_fetch){.session_epoch = -1, .count = 1, .max_bytes = 1 << 20, .min_bytes = 1});
        if (!mr_data_rig_answer(rig, peer, 1, 12, &correlation, &response) ||
            response.responses[0].partitions[0].records.bytes == 0) {
            fprintf(stderr, "millrace-micro: a fetch was not answered\n");
            exit(1);
        }
    }
}

static void fetch(uint32_t times)
{
    fetch_of(times, 1, 100);
}

static void fetch_large(uint32_t times)
{
    fetch_of(times, LARGE_RECORDS, 1000);
}

/* ---- the storage core ---- */

/* What a core asks of its disk, counted on the way. */
static const struct mr_disk_ops *disk_ops;
static struct {
    uint64_t writes, write_bytes, flushes;
} asked;

static void count_and_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    asked.writes += op->kind == MR_DISK_WRITE;
    asked.write_bytes += op->kind == MR_DISK_WRITE ? op->len : 0;
    asked.flushes += op->kind == MR_DISK_SYNC || (op->flags & MR_DISK_DSYNC) != 0;
    disk_ops->submit(disk, op);
}

static void count_disk(struct mr_disk *disk)
{
    static struct mr_disk_ops counting;
    disk_ops = disk->ops;
    counting = *disk_ops;
    counting.submit = count_and_submit;
    disk->ops = &counting;
}

/* `entries` appends in one turn: one commit. */
static void commit(uint32_t times, uint32_t entries, uint32_t records, uint32_t value_bytes)
{
    static struct mr_core_rig     rig;
    static struct mr_append_op    ops[64];
    static struct mr_append_entry appends[64];
    mr_core_rig_init(&rig);
    if (mr_core_rig_start(&rig) != MR_OK) {
        exit(1);
    }
    uint64_t       log_id = mr_core_rig_open(&rig, "t", 0, false);
    struct mr_span span = {.data = rig.bytes,
                           .len = mr_core_rig_batch(&rig, records, value_bytes, rig.now.unix_ms)};
    count_disk(rig.disk);
    for (uint32_t time = 0; time < times; time++) {
        uint32_t answers = rig.answers;
        for (uint32_t at = 0; at < entries; at++) {
            appends[at] = (struct mr_append_entry){
                .log_id = log_id, .batch = {.spans = &span, .span_count = 1, .bytes = span.len}, .leader_epoch = -1};
            ops[at] = (struct mr_append_op){
                .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &appends[at]};
            mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &ops[at].op);
        }
        while (rig.answers < answers + entries) {
            if (!mr_core_rig_turn(&rig)) {
                mr_core_rig_advance(&rig, 1); /* room in the journal may come with time */
            }
        }
        if (appends[0].err != MR_OK) {
            fprintf(stderr, "millrace-micro: an append failed: %s\n", mr_err_text(appends[0].err));
            exit(1);
        }
    }
}

static void commit_one(uint32_t times)
{
    commit(times, 1, 1, 100);
}

static void commit_many(uint32_t times)
{
    commit(times, 64, 1, 100);
}

static void commit_large(uint32_t times)
{
    commit(times, 16, LARGE_RECORDS, 1000);
}

/* ---- the codec ---- */

static uint8_t bytes[1 << 20];
static uint8_t scratch[4 << 20];

/* A metadata answer with so many partitions: about six values each. */
static uint32_t encode_metadata(struct mr_metadata_response *response)
{
    struct mr_arena  arena;
    struct mr_span   spans[64];
    struct mr_writer writer;
    mr_arena_init(&arena, scratch, sizeof scratch);
    mr_writer_init(&writer, &arena, spans, 64);
    if (mr_msg_encode(&mr_msg_metadata_response, 12, response, &writer) != MR_OK) {
        exit(1);
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    return chain.bytes;
}

static uint32_t make_metadata(struct mr_metadata_response *response)
{
    static struct mr_metadata_response_topic     topic;
    static struct mr_metadata_response_partition partitions[PARTITIONS];
    static int32_t                               nodes[1] = {1};
    MR_DEFAULTS(metadata_response, response);
    MR_DEFAULTS(metadata_response_topic, &topic);
    for (int32_t at = 0; at < PARTITIONS; at++) {
        MR_DEFAULTS(metadata_response_partition, &partitions[at]);
        partitions[at].partition_index = at;
        partitions[at].replica_nodes = partitions[at].isr_nodes = nodes;
        partitions[at].replica_nodes_count = partitions[at].isr_nodes_count = 1;
    }
    topic.name = MR_STR("topic");
    topic.partitions = partitions;
    topic.partitions_count = PARTITIONS;
    response->topics = &topic;
    response->topics_count = 1;
    return encode_metadata(response);
}

static void encode(uint32_t times)
{
    struct mr_metadata_response response;
    for (uint32_t time = 0; time < times; time++) {
        (void)make_metadata(&response);
    }
}

static void decode(uint32_t times)
{
    struct mr_metadata_response response;
    uint32_t                    len = make_metadata(&response);
    for (uint32_t time = 0; time < times; time++) {
        struct mr_arena  arena;
        struct mr_reader reader;
        mr_arena_init(&arena, scratch, sizeof scratch);
        mr_reader_init_bytes(&reader, bytes, len);
        if (mr_msg_decode(&mr_msg_metadata_response, 12, &reader, &arena, &response) != MR_OK) {
            exit(1);
        }
    }
}

/* ---- our TCP/IP: frames of one interface, checksums by the card ---- */

#define TCP_WORK   "tcp_work" /* what is counted: one step of what a core does for a connection */
#define FULL_BYTES 1448u
#define TCP_BURST  32u /* segments in one time */

static struct mr_net tcp_net;
static struct mr_tcp_conn *tcp_conn;
static uint64_t tcp_now_ns = MR_NS_PER_S;
static uint32_t tcp_seq = 1; /* the peer's next number */
static uint32_t tcp_sent;    /* segments with text that left */
static uint64_t tcp_token;
static uint8_t tcp_text[65536];

/* A frame as a card brings it. Returns its length. */
static uint32_t tcp_frame(uint8_t *frame, const struct mr_tcp_segment *s)
{
    static const uint8_t ether[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    uint8_t *ip = frame + sizeof ether;
    uint32_t header = mr_tcp_wire_header(s, ip + 20);
    memcpy(frame, ether, sizeof ether);
    mr_ip4_header(ip, &s->path.local, &s->path.remote, 6, 0, header + s->len);
    memcpy(ip + 20 + header, tcp_text, s->len);
    return (uint32_t)sizeof ether + 20 + header + s->len;
}

/* The frames arrive, the session takes what they brought and says `len` bytes, what is to leave leaves. */
__attribute__((noinline)) static void tcp_work(uint8_t frames[][2048], const uint32_t *lens, uint32_t count, uint32_t len)
{
    struct mr_tcp_event event;
    struct mr_net_frame out;
    void *buffer;
    for (uint32_t at = 0; at < count; at++) {
        (void)mr_net_input(&tcp_net, frames[at], lens[at], true, frames[at], tcp_now_ns);
    }
    while (mr_tcp_events(tcp_net.tcp, &event, 1) == 1) {
        tcp_conn = event.kind == MR_TCP_OPENED ? event.conn : tcp_conn;
        if (event.kind == MR_TCP_DATA) {
            mr_tcp_consumed(event.conn, event.span.len);
        }
    }
    if (len > 0) {
        (void)mr_tcp_send(tcp_conn, &(struct mr_span){tcp_text, len}, 1, ++tcp_token);
    }
    while (mr_net_output(&tcp_net, tcp_now_ns, &out, 1) == 1) {
        tcp_sent += out.len > 0;
    }
    while (mr_tcp_discarded(tcp_net.tcp, &buffer)) {
    }
}

static struct mr_tcp_segment tcp_segment(uint8_t flags, uint32_t len)
{
    struct mr_tcp_segment s = {.seq = tcp_seq, .flags = flags, .window = 65535, .len = len};
    s.path = (struct mr_tcp_path){{{[10] = 0xff, 0xff, 10, 0, 0, 2}}, {{[10] = 0xff, 0xff, 10, 0, 0, 1}}, 40000, 9092};
    s.has_ts = true;
    s.ts_value = (uint32_t)(tcp_now_ns / MR_NS_PER_MS);
    if (tcp_conn != NULL) {
        s.ack = tcp_conn->snd_nxt;
        s.ts_echo = mr_tcp_ts(tcp_conn, tcp_now_ns);
    }
    tcp_seq += len + ((flags & MR_TCP_SYN) != 0);
    return s;
}

static void tcp_give(const struct mr_tcp_segment *s, uint32_t len)
{
    static uint8_t frame[1][2048];
    uint32_t bytes_in = tcp_frame(frame[0], s);
    tcp_now_ns += 10 * MR_NS_PER_US;
    tcp_work(frame, &bytes_in, 1, len);
}

static void tcp_open(void)
{
    struct mr_tcp_params p = mr_tcp_params_default(16);
    struct mr_net_params params = {.mac = {{2, 0, 0, 0, 0, 1}}, .address_count = 1, .is_checksum_offloaded = true};
    struct mr_arena arena;
    static const struct mr_address any;
    params.addresses[0].address = (struct mr_address){{[10] = 0xff, 0xff, 10, 0, 0, 1}};
    params.addresses[0].network = (struct mr_network){params.addresses[0].address, 120};
    p.sent_max = 2 * MR_TCP_SENT_MAX;
    p.blocks_max = MR_TCP_SENT_MAX;
    mr_arena_init(&arena, calloc(1, mr_tcp_bytes(&p)), mr_tcp_bytes(&p));
    mr_net_init(&tcp_net, &params, mr_tcp_init(&p, &arena));
    (void)mr_tcp_listen(tcp_net.tcp, &any, 9092, 0);
    struct mr_tcp_segment s = tcp_segment(MR_TCP_SYN, 0);
    s.has_mss = s.has_wscale = s.is_sack_permitted = true;
    s.mss = 1460;
    s.wscale = 14;
    tcp_give(&s, 0);
    s = tcp_segment(MR_TCP_ACK, 0);
    for (uint32_t bucket = 0; bucket < tcp_net.tcp->bucket_count; bucket++) {
        s.ack = tcp_net.tcp->buckets[bucket] != NULL ? tcp_net.tcp->buckets[bucket]->snd_nxt : s.ack;
    }
    tcp_give(&s, 0);
    if (tcp_conn == NULL) {
        fprintf(stderr, "millrace-micro: no connection\n");
        exit(1);
    }
}

static void tcp_receive(uint32_t times)
{
    static uint8_t frames[TCP_BURST][2048];
    uint32_t lens[TCP_BURST];
    tcp_open();
    for (uint32_t time = 0; time < times; time++) {
        for (uint32_t at = 0; at < TCP_BURST; at++) {
            struct mr_tcp_segment s = tcp_segment(MR_TCP_ACK, FULL_BYTES);
            lens[at] = tcp_frame(frames[at], &s);
        }
        tcp_now_ns += MR_NS_PER_MS;
        tcp_work(frames, lens, TCP_BURST, 0);
    }
}

/* An acknowledgement of two segments lets two go; the window is large and never full. */
static void tcp_send(uint32_t times)
{
    tcp_open();
    for (uint32_t time = 0; time < times * TCP_BURST / 2; time++) {
        struct mr_tcp_segment s = tcp_segment(MR_TCP_ACK, 0);
        tcp_give(&s, 2 * FULL_BYTES);
    }
}

static void tcp_request(uint32_t times)
{
    tcp_open();
    for (uint32_t time = 0; time < times; time++) {
        struct mr_tcp_segment s = tcp_segment(MR_TCP_ACK | MR_TCP_PSH, 100);
        tcp_give(&s, 100);
    }
}

/* As many records in flight as there may be. */
static void tcp_fill(void)
{
    tcp_conn->cwnd = 1u << 30;
    tcp_conn->snd_wnd = 1u << 29;
    while (tcp_conn->sent_count < MR_TCP_SENT_MAX) {
        tcp_work(NULL, NULL, 0, FULL_BYTES);
    }
}

/* The segment that costs a peer least and us most, over and over: the last of them is told to have arrived. */
static void tcp_sack_flood(uint32_t times)
{
    tcp_open();
    tcp_fill();
    uint32_t una = tcp_conn->snd_una;
    uint32_t end = tcp_conn->snd_nxt;
    for (uint32_t time = 0; time < times; time++) {
        struct mr_tcp_segment s = tcp_segment(MR_TCP_ACK, 0);
        s.ack = una;
        s.sack_count = 3;
        for (uint32_t index = 0; index < 3; index++) {
            s.sacks[index] = (struct mr_tcp_sack){end - (index + 1) * FULL_BYTES, end - index * FULL_BYTES};
        }
        tcp_give(&s, 0);
    }
}

/* Everything that is in flight is acknowledged by one segment, of which each time is one. */
static void tcp_ack_all(uint32_t times)
{
    tcp_open();
    for (uint32_t time = 0; time < times; time++) {
        tcp_fill();
        struct mr_tcp_segment s = tcp_segment(MR_TCP_ACK, 0);
        tcp_give(&s, 0);
    }
}

/* ---- the program ---- */

static const struct {
    const char *name;
    const char *function;
    uint32_t    units;       /* that one time is divided by */
    uint32_t    batch_bytes; /* that one time moves; 0: copies are not looked at */
    void (*run)(uint32_t times);
    const char *text;
} cases[] = {
    {"produce-small", DATA_TURN, 1, 0, produce_small, "data core, one Produce of 1 record of 100 B, to its answer"},
    {"produce-batch", DATA_TURN, 1, 0, produce_batch, "data core, one Produce of 100 records of 100 B, framing checked"},
    {"produce-large", DATA_TURN, 1, LARGE_BYTES, produce_large,
     "data core, one Produce of a 64 KB batch, framing checked"},
    {"fetch", DATA_TURN, 1, 0, fetch, "data core, one Fetch of a hot partition, to its answer"},
    {"fetch-large", DATA_TURN, 1, LARGE_BYTES, fetch_large, "data core, one Fetch of a hot 64 KB batch, to its answer"},
    {"commit-1", STORAGE_TURN, 1, 0, commit_one, "storage core, a commit of one append, to its answer"},
    {"commit-64", STORAGE_TURN, 64, 0, commit_many, "storage core, each append of a commit of 64"},
    {"commit-large", STORAGE_TURN, 16, 16 * LARGE_BYTES, commit_large,
     "storage core, each append of a commit of 16 batches of 64 KB, 1 MB"},
    {"encode", "mr_msg_encode", PARTITIONS, 0, encode, "codec, a partition of a Metadata answer (7 values) written"},
    {"decode", "mr_msg_decode", PARTITIONS, 0, decode, "codec, the same read"},
    {"tcp-receive", TCP_WORK, TCP_BURST, 0, tcp_receive, "our TCP/IP, a full segment from its frame to the session, ACKs too"},
    {"tcp-send", TCP_WORK, TCP_BURST, 0, tcp_send, "our TCP/IP, a full segment from the session to its frame, half an ACK for it too"},
    {"tcp-request", TCP_WORK, 1, 0, tcp_request, "our TCP/IP, 100 B in, 100 B out that carry the ACK"},
    {"tcp-sack-flood", "mr_tcp_input", 1, 0, tcp_sack_flood, "our TCP, an ACK with SACK blocks at the end of 2048 segments in flight"},
    {"tcp-ack-all", "mr_tcp_input", 1, 0, tcp_ack_all, "our TCP, one ACK for 2048 segments in flight"},
};
#define CASE_COUNT (sizeof cases / sizeof cases[0])

int main(int argc, char **argv)
{
    for (size_t at = 0; at < CASE_COUNT; at++) {
        if (argc == 2 && strcmp(argv[1], "list") == 0) {
            printf("%s\t%s\t%u\t%u\t%s\n", cases[at].name, cases[at].function, cases[at].units,
                   cases[at].batch_bytes, cases[at].text);
        } else if (argc == 3 && strcmp(argv[1], cases[at].name) == 0) {
            cases[at].run((uint32_t)strtoul(argv[2], NULL, 10));
            printf("writes %llu write_bytes %llu flushes %llu\n", (unsigned long long)asked.writes,
                   (unsigned long long)asked.write_bytes, (unsigned long long)asked.flushes);
            return 0;
        }
    }
    return argc == 2 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
