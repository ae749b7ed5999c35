/*
 * The way of one Produce and of one Fetch through a data core and a storage core, on the simulated network
 * and disk: the events of the trace, in order, are golden, and docs/paths/ names the same events
 * in the same order beside the files. Control is played by the test.
 */
#include "golden.h"
#include "millrace/dataplane.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"
#include "millrace/metadata.h"
#include "millrace/storage.h"
#include "sim_disk.h"
#include "sim_transport.h"
#include "test.h"
#include "wire_client.h"

#define DIRECTORY "/data"
#define DISK_NS   (100 * MR_NS_PER_US)
#define ENTRIES   1024u
#define EVENTS    64u
#define VALUE     100u

struct world {
    struct mr_arena arena;
    struct mr_trace trace;
    struct mr_now now;
    struct mr_port ports[3]; /* data, storage, control */
    struct mr_endpoints endpoints;
    struct mr_config config;
    struct mr_data_plan data_plan;
    struct mr_storage_plan storage_plan;
    struct mr_sim_net *net;
    struct mr_sim_fs *fs;
    struct mr_disk *disk;
    struct mr_data_core *data;
    struct mr_storage_core *storage;
    struct mr_log_config log_config;
    struct mr_image image;
    struct mr_image_topic topic;
    const struct mr_image_topic *topics[1];
    struct mr_image_partition partition;
    struct mr_image_broker broker;
    int32_t nodes[1];
    struct mr_storage_op *answered;
    char text[1u << 16];
    struct mr_text out;
};

static struct world *w;

/* ---- the world ---- */

static bool take_control_mail(void)
{
    struct mr_plane_msg msg;
    bool is_any = false;
    while (mr_port_receive(&w->ports[2], &msg)) {
        is_any = true;
        if (msg.kind == MR_PLANE_STORAGE_DONE) {
            w->answered = msg.u.op;
        }
    }
    return is_any;
}

static bool turn(void)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    bool is_work = mr_data_core_turn(w->data, w->now);
    is_work |= mr_port_flush(&w->ports[0], woken);
    is_work |= mr_storage_core_turn(w->storage, w->now);
    is_work |= mr_port_flush(&w->ports[1], woken);
    is_work |= take_control_mail();
    is_work |= mr_port_flush(&w->ports[2], woken);
    return is_work || mr_sim_net_has_work(w->net);
}

/* Until nothing moves and the disk is idle. Timers that lie in the future stay there. */
static void run(void)
{
    for (;;) {
        for (int quiet = 0; quiet < 3;) {
            quiet = turn() ? 0 : quiet + 1;
        }
        uint64_t next_ns = mr_sim_disk_next_ns(w->disk);
        if (next_ns == MR_NEVER) {
            return;
        }
        w->now.unix_ms += (int64_t)(next_ns / MR_NS_PER_MS - w->now.mono_ns / MR_NS_PER_MS);
        w->now.mono_ns = next_ns;
        mr_sim_fs_set_clock(w->fs, next_ns);
    }
}

static void ask_storage(struct mr_storage_op *op, enum mr_storage_kind kind)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = op};
    op->kind = kind;
    w->answered = NULL;
    mr_port_send(&w->ports[2], 1, &msg);
    run();
    assert_ptr_equal(w->answered, op);
    assert_int_equal(op->err, MR_OK);
}

static void tell_data(struct mr_plane_msg msg)
{
    mr_port_send(&w->ports[2], 0, &msg);
    run();
}

static void make_cores(void)
{
    w->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    for (uint32_t from = 0; from < 3; from++) {
        w->ports[from].self = from;
        w->ports[from].endpoint_count = 3;
    }
    for (uint32_t from = 0; from < 3; from++) {
        for (uint32_t to = 0; to < 3; to++) {
            if (from != to) {
                mr_port_connect(&w->ports[from], &w->ports[to], &w->arena, 64, 1024);
            }
        }
    }
    w->config.connections_max_idle_ms = -1;
    w->config.max_connections = INT32_MAX;
    w->config.max_connections_per_ip = INT32_MAX;
    w->config.max_connection_creation_rate = INT32_MAX;
    w->config.millrace_connections_unproven_per_ip = INT32_MAX;
    w->config.fetch_max_bytes = 1 << 20;
    w->data_plan = (struct mr_data_plan){.connections_max = 8,
                                         .requests_max = 16,
                                         .request_scratch_bytes = 65536,
                                         .receive_bytes = 4u << 20,
                                         .fetch_sessions_max = 4,
                                         .fetch_partitions_max = 16,
                                         .frame_bytes_max = 1u << 20};
    w->storage_plan = (struct mr_storage_plan){.logs_max = 8,
                                               .cache_bytes = 8u << 20,
                                               .cold_bytes = 1u << 20,
                                               .journal_file_bytes = 1u << 20,
                                               .journal_files_max = 4,
                                               .producers_max = 16,
                                               .segments_max = 64};
    const struct mr_data_params data = {.plan = &w->data_plan,
                                        .config = &w->config,
                                        .endpoints = &w->endpoints,
                                        .port = &w->ports[0],
                                        .transport = mr_sim_net_transport(w->net),
                                        .trace = &w->trace,
                                        .arena = &w->arena,
                                        .seed = 1};
    const struct mr_storage_params storage = {.plan = &w->storage_plan,
                                              .endpoints = &w->endpoints,
                                              .port = &w->ports[1],
                                              .disk = w->disk,
                                              .trace = &w->trace,
                                              .arena = &w->arena,
                                              .log_dir = DIRECTORY,
                                              .node_id = 1,
                                              .seed = 1};
    w->data = mr_data_core_init(&data);
    w->storage = mr_storage_core_init(&storage);
}

static void open_topic(void)
{
    struct mr_recover_op recover = {0};
    struct mr_open_op open = {
        .topic = MR_STR("t"), .topic_id = {{1, 2, 3}}, .leader_epoch = 0, .config = &w->log_config};
    w->log_config = (struct mr_log_config){.segment_bytes = 1 << 24,
                                           .segment_ms = INT64_MAX,
                                           .segment_index_bytes = 1 << 20,
                                           .index_interval_bytes = 4096,
                                           .retention_ms = -1,
                                           .retention_bytes = -1,
                                           .max_message_bytes = 1 << 20,
                                           .timestamp_before_max_ms = INT64_MAX,
                                           .timestamp_after_max_ms = 3600000,
                                           .min_insync_replicas = 1,
                                           .compression_type = -1,
                                           .is_cleanup_delete = true};
    ask_storage(&recover.op, MR_STORAGE_RECOVER);
    ask_storage(&open.op, MR_STORAGE_OPEN);
    w->nodes[0] = 1;
    w->partition = (struct mr_image_partition){.leader = 1,
                                               .replica_count = 1,
                                               .isr_count = 1,
                                               .replicas = w->nodes,
                                               .isr = w->nodes,
                                               .log_id = open.log_id};
    w->topic = (struct mr_image_topic){.name = MR_STR("t"),
                                       .id = {{1, 2, 3}},
                                       .partition_count = 1,
                                       .partitions = &w->partition,
                                       .config = w->log_config};
    w->topics[0] = &w->topic;
    w->broker = (struct mr_image_broker){
        .id = 1, .host = MR_STR("localhost"), .port = 9092, .rack = MR_STR_NULL};
    w->image = (struct mr_image){.version = 1,
                                 .cluster_id = MR_STR("cluster"),
                                 .node_id = 1,
                                 .controller_id = 1,
                                 .broker_count = 1,
                                 .brokers = &w->broker,
                                 .topic_count = 1,
                                 .topics = w->topics,
                                 .topics_by_id = w->topics};
    tell_data((struct mr_plane_msg){.kind = MR_PLANE_IMAGE,
                                    .u.image = {.image = &w->image, .version = 1}});
    tell_data((struct mr_plane_msg){.kind = MR_PLANE_LISTEN});
}

static int setup(void **state)
{
    static const char properties[] = "#\ncluster.id=c\ndirectory.id=AAAAAAAAQACAAAAAAAAAAQ\n"
                                     "node.id=1\nversion=1\n";
    (void)state;
    w = mr_test_memory(sizeof *w);
    mr_arena_init(&w->arena, mr_test_memory(1ull << 30), 1ull << 30);
    mr_trace_init(&w->trace, &w->arena, ENTRIES);
    mr_text_init(&w->out, w->text, sizeof w->text);
    w->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    w->net = mr_sim_net_create(1);
    w->fs = mr_sim_fs_create(1);
    mr_sim_fs_put(w->fs, DIRECTORY "/meta.properties", properties, sizeof properties - 1);
    mr_sim_fs_latency(w->fs, DISK_NS, DISK_NS, false);
    mr_sim_fs_set_clock(w->fs, w->now.mono_ns);
    w->disk = mr_sim_disk_create(w->fs);
    make_cores();
    open_topic();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_sim_disk_destroy(w->disk);
    mr_sim_fs_destroy(w->fs);
    mr_sim_net_destroy(w->net);
    return 0;
}

/* ---- one request ---- */

static struct mr_sim_peer *join(void)
{
    struct mr_sim_peer *peer = mr_sim_net_connect(w->net, NULL);
    assert_non_null(peer);
    run();
    return peer;
}

static void send_produce(struct mr_sim_peer *peer)
{
    struct mr_chain batch = mr_wire_batch(1, VALUE, w->now.unix_ms);
    uint32_t len;
    const uint8_t *bytes = mr_wire_produce(1, -1, MR_STR("t"), 0, batch, &len);
    mr_sim_peer_send(peer, bytes, len);
}

static void send_fetch(struct mr_sim_peer *peer)
{
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topic;
    struct mr_fetch_request_fetch_partition partition;
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    MR_DEFAULTS(fetch_request_fetch_partition, &partition);
    partition.partition_max_bytes = 1 << 20;
    topic.topic = MR_STR("t");
    topic.partitions = &partition;
    topic.partitions_count = 1;
    in.topics = &topic;
    in.topics_count = 1;
    in.max_wait_ms = 60000;
    in.min_bytes = 1;
    in.max_bytes = 1 << 20;
    in.session_epoch = -1;
    uint32_t len;
    const uint8_t *bytes = mr_wire_request(MR_API_FETCH, 12, 1, &in, &len);
    mr_sim_peer_send(peer, bytes, len);
}

/* An append of somebody else, large enough that a read lends its page. */
static void append(void)
{
    struct mr_append_entry entry = {.log_id = w->partition.log_id,
                                    .batch = mr_wire_batch(1, 4000, w->now.unix_ms),
                                    .leader_epoch = 0,
                                    .origin = MR_APPEND_CLIENT};
    struct mr_append_op op = {.acks = -1, .entry_count = 1, .entries = &entry};
    ask_storage(&op.op, MR_STORAGE_APPEND);
    assert_int_equal(entry.err, MR_OK);
}

/* ---- the trace, as text and against the document ---- */

static void print_trace(uint32_t from, const char *title)
{
    w->out.len = 0;
    mr_text_fmt(&w->out, "# %s\n", title);
    uint64_t origin_ns = mr_trace_at(&w->trace, from)->mono_ns;
    for (uint32_t at = from; at < w->trace.count; at++) {
        mr_trace_line(&w->out, mr_trace_at(&w->trace, at), origin_ns);
    }
    assert_false(w->out.is_cut);
}

/* The names in the last column of the document's table, in order. */
static uint32_t read_document(const char *path, char names[EVENTS][32])
{
    char line[2048];
    uint32_t count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char *end = strrchr(line, '|');
        if (line[0] != '|' || end == line) {
            continue;
        }
        *end = '\0';
        for (char *at = strrchr(line, '|'); (at = strchr(at, '`')) != NULL; at++) {
            char *close = strchr(at + 1, '`');
            assert_non_null(close);
            assert_true(count < EVENTS && close - at - 1 < 32);
            snprintf(names[count++], 32, "%.*s", (int)(close - at - 1), at + 1);
            at = close;
        }
    }
    fclose(file);
    return count;
}

static void expect_document(const char *path, uint32_t from)
{
    char names[EVENTS][32];
    uint32_t count = read_document(path, names);
    for (uint32_t at = 0; from + at < w->trace.count || at < count; at++) {
        const struct mr_trace_entry *entry = mr_trace_at(&w->trace, from + at);
        const char *told = at < count ? names[at] : "(the end)";
        const char *seen = entry != NULL ? mr_event_name(entry->event) : "(the end)";
        if (strcmp(told, seen) != 0) {
            fail_msg("%s: event %u is %s, the document says %s", path, at + 1, seen, told);
        }
    }
}

/* ---- tests ---- */

static void test_produce_goes_the_way_that_its_document_tells(void **state)
{
    struct mr_produce_response out;
    int32_t correlation;
    (void)state;
    struct mr_sim_peer *peer = join();
    uint32_t from = w->trace.count;
    send_produce(peer);
    run();
    assert_true(mr_wire_answer(peer, MR_API_PRODUCE, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 0);
    run();
    print_trace(from,
                "one Produce, acks=-1, one record of 100 bytes; a disk operation takes 100 us");
    mr_golden_check("paths/produce.trace", w->text, w->out.len);
    expect_document("docs/paths/produce.md", from);
}

static void test_fetch_that_waits_goes_the_way_that_its_document_tells(void **state)
{
    struct mr_fetch_response out;
    int32_t correlation;
    (void)state;
    struct mr_sim_peer *peer = join();
    uint32_t from = w->trace.count;
    send_fetch(peer);
    run();
    assert_false(mr_wire_answer(peer, MR_API_FETCH, 12, &correlation, &out));
    append();
    assert_true(mr_wire_answer(peer, MR_API_FETCH, 12, &correlation, &out));
    assert_true(out.responses[0].partitions[0].records.bytes > 4000);
    run();
    print_trace(from, "one Fetch at the end of a log, woken by the append of another; a disk "
                      "operation takes 100 us");
    mr_golden_check("paths/fetch.trace", w->text, w->out.len);
    expect_document("docs/paths/fetch.md", from);
}

static void test_trace_ring_forgets_the_oldest_and_without_one_nothing_is_kept(void **state)
{
    static uint8_t memory[1024];
    struct mr_arena arena;
    struct mr_trace trace;
    (void)state;
    mr_arena_init(&arena, memory, sizeof memory);
    mr_trace_init(&trace, &arena, 8);
    for (uint32_t at = 0; at < 20; at++) {
        mr_trace_turn(&trace, at);
        mr_trace(&trace, MR_EVENT_bytes_in, at, 0);
    }
    assert_null(mr_trace_at(&trace, 11));
    assert_null(mr_trace_at(&trace, 20));
    for (uint32_t at = 12; at < 20; at++) {
        assert_int_equal(mr_trace_at(&trace, at)->first, at);
        assert_int_equal(mr_trace_at(&trace, at)->mono_ns, at);
    }
    mr_trace_turn(NULL, 1);
    mr_trace(NULL, MR_EVENT_bytes_in, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_produce_goes_the_way_that_its_document_tells),
        TEST(test_fetch_that_waits_goes_the_way_that_its_document_tells),
        TEST(test_trace_ring_forgets_the_oldest_and_without_one_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
