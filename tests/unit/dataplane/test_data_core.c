/*
 * The data core between a simulated network and a storage and a control that the test plays. The test
 * owns both ends of every ring, so it decides when an append is durable and when a reply comes.
 */
#include "data_core.h"
#include "millrace/base/bytes.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "millrace/dataplane.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/metadata.h"
#include "sim_transport.h"
#include "test.h"

#define OPS_MAX     64
#define LOGS        4
#define LOG_BYTES   (1u << 20)
#define WATCHES_MAX 64

struct log_model {
    uint8_t *bytes; /* batches, one after the other */
    uint32_t len;
    int64_t end;
};

struct watch_model {
    uint64_t log_id;
    uint64_t token;
    int64_t offset;
    bool is_live;
};

struct world {
    struct mr_arena arena;
    struct mr_endpoints endpoints;
    struct mr_port data;
    struct mr_port storage;
    struct mr_port control;
    struct mr_sim_net *net;
    struct mr_config config;
    struct mr_data_plan plan;
    struct mr_data_core *core;
    struct mr_now now;
    struct mr_image image;
    struct mr_image_topic topic;
    const struct mr_image_topic *topics[1];
    struct mr_image_partition partitions[LOGS];
    struct mr_image_broker broker;
    int32_t nodes[1];

    struct log_model logs[LOGS];
    struct watch_model watches[WATCHES_MAX];
    bool is_storage_held; /* operations are kept, not answered */
    struct mr_storage_op *held[OPS_MAX];
    uint32_t held_count;
    uint32_t appends, reads, entries_read, releases, lent, unwatches;
    struct mr_forward *forwards[OPS_MAX];
    uint32_t forward_count, reply_dones, conn_closes, image_dones, drained;
    uint32_t append_order[256];
    uint32_t append_count;
};

static struct world w;

/* ---- the test's storage ---- */

static struct log_model *log_of(uint64_t log_id)
{
    assert_in_range(log_id, 1, LOGS);
    return &w.logs[log_id - 1];
}

static void fire(uint64_t log_id)
{
    for (uint32_t i = 0; i < WATCHES_MAX; i++) {
        struct watch_model *watch = &w.watches[i];
        if (watch->is_live && watch->log_id == log_id && log_of(log_id)->end > watch->offset) {
            watch->is_live = false;
            struct mr_plane_msg msg = {.kind = MR_PLANE_MOVED, .count = 1};
            msg.u.moved[0].token = watch->token;
            msg.u.moved[0].high_watermark = log_of(log_id)->end;
            mr_port_send(&w.storage, 0, &msg);
        }
    }
}

static void do_append(struct mr_append_op *op)
{
    for (uint32_t i = 0; i < op->entry_count; i++) {
        struct mr_append_entry *entry = &op->entries[i];
        struct log_model *log = log_of(entry->log_id);
        struct mr_batch batch;
        uint8_t *at = log->bytes + log->len;
        mr_chain_copy(&entry->batch, 0, at, entry->batch.bytes);
        mr_batch_header_load(at, &batch);
        mr_store_be64(at, (uint64_t)log->end);
        entry->err = MR_OK;
        entry->base_offset = log->end;
        entry->log_start_offset = 0;
        entry->log_append_time_ms = -1;
        log->end += batch.record_count;
        log->len += entry->batch.bytes;
        w.append_order[w.append_count++ & 255] = (uint32_t)entry->log_id;
        fire(entry->log_id);
    }
    w.appends++;
}

static void do_read(struct mr_read_op *op)
{
    uint32_t left = op->bytes_max;
    bool is_first = true;
    w.reads++;
    for (uint32_t i = 0; i < op->entry_count; i++) {
        struct mr_read_entry *entry = &op->entries[i];
        struct log_model *log = log_of(entry->log_id);
        uint32_t at = 0;
        w.entries_read++;
        entry->err =
            entry->offset < 0 || entry->offset > log->end ? MR_ERR_OFFSET_OUT_OF_RANGE : MR_OK;
        entry->high_watermark = entry->last_stable_offset = log->end;
        entry->log_start_offset = 0;
        entry->span_first = op->span_count;
        while (entry->err == MR_OK && at < log->len) {
            struct mr_batch batch;
            mr_batch_header_load(log->bytes + at, &batch);
            uint32_t len = mr_batch_bytes(&batch);
            bool is_forced = is_first && entry->is_first_batch_whole && entry->bytes == 0;
            if (mr_batch_last_offset(&batch) >= entry->offset) {
                if (!is_forced && (entry->bytes + len > entry->bytes_max || len > left)) {
                    break;
                }
                assert_true(op->span_count < op->span_max);
                op->spans[op->span_count++] = (struct mr_lent_span){
                    .span = {.data = log->bytes + at, .len = len}, .page = 1000 + w.lent++};
                entry->span_count++;
                entry->bytes += len;
                op->bytes += len;
                left = left > len ? left - len : 0;
                is_first = false;
            }
            at += len;
        }
    }
}

static void storage_answer(struct mr_storage_op *op)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_DONE, .u.op = op};
    mr_port_send(&w.storage, 0, &msg);
}

/* Operations take effect in the order in which they come; only the answer may be late. */
static void storage_take(struct mr_storage_op *op)
{
    if (op->kind == MR_STORAGE_APPEND) {
        do_append((struct mr_append_op *)op);
    } else if (op->kind == MR_STORAGE_READ) {
        do_read((struct mr_read_op *)op);
    } else if (op->kind == MR_STORAGE_DELETE_RECORDS) {
        struct mr_delete_records_op *del = (struct mr_delete_records_op *)op;
        for (uint32_t i = 0; i < del->entry_count; i++) {
            int64_t end = log_of(del->entries[i].log_id)->end;
            int64_t to = del->entries[i].offset == -1 ? end : del->entries[i].offset;
            del->entries[i].err = to > end ? MR_ERR_OFFSET_OUT_OF_RANGE : MR_OK;
            del->entries[i].low_watermark = to;
        }
    } else if (op->kind == MR_STORAGE_EPOCH_END) {
        struct mr_epoch_end_op *ends = (struct mr_epoch_end_op *)op;
        for (uint32_t i = 0; i < ends->entry_count; i++) {
            ends->entries[i].err =
                ends->entries[i].current_leader_epoch == 2 ? MR_ERR_FENCED_EPOCH : MR_OK;
            ends->entries[i].end_epoch = ends->entries[i].leader_epoch;
            ends->entries[i].end_offset = log_of(ends->entries[i].log_id)->end;
        }
    } else if (op->kind == MR_STORAGE_LIST_OFFSETS) {
        struct mr_list_offsets_op *list = (struct mr_list_offsets_op *)op;
        for (uint32_t i = 0; i < list->entry_count; i++) {
            list->entries[i].err = MR_OK;
            list->entries[i].offset =
                list->entries[i].timestamp == -2 ? 0 : log_of(list->entries[i].log_id)->end;
            list->entries[i].leader_epoch = 3;
        }
    } else {
        fail();
    }
}

static void play_storage(void)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(&w.storage, &msg)) {
        switch (msg.kind) {
        case MR_PLANE_STORAGE_OP:
            storage_take(msg.u.op);
            if (w.is_storage_held) {
                w.held[w.held_count++] = msg.u.op;
            } else {
                storage_answer(msg.u.op);
            }
            break;
        case MR_PLANE_RELEASE:
            w.releases += msg.count;
            break;
        case MR_PLANE_WATCH: {
            uint32_t i = 0;
            while (w.watches[i].is_live) {
                i++;
            }
            w.watches[i] = (struct watch_model){.log_id = msg.u.watch.log_id,
                                                .token = msg.u.watch.token,
                                                .offset = msg.u.watch.offset,
                                                .is_live = true};
            fire(msg.u.watch.log_id);
            break;
        }
        case MR_PLANE_UNWATCH:
            w.unwatches++;
            for (uint32_t i = 0; i < WATCHES_MAX; i++) {
                if (w.watches[i].token == msg.u.watch.token) {
                    w.watches[i].is_live = false;
                }
            }
            break;
        default:
            fail();
        }
    }
}

static void play_control(void)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(&w.control, &msg)) {
        switch (msg.kind) {
        case MR_PLANE_REQUEST:
            w.forwards[w.forward_count++] = msg.u.forward;
            break;
        case MR_PLANE_REPLY_DONE:
            w.reply_dones++;
            break;
        case MR_PLANE_CONN_CLOSED:
            w.conn_closes++;
            break;
        case MR_PLANE_IMAGE_DONE:
            w.image_dones++;
            break;
        case MR_PLANE_DRAINED:
            w.drained++;
            break;
        case MR_PLANE_LISTENING:
            assert_int_equal(msg.u.err, MR_OK);
            break;
        default:
            fail();
        }
    }
}

static uint32_t live_watches(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < WATCHES_MAX; i++) {
        count += w.watches[i].is_live;
    }
    return count;
}

/* Everybody takes turns until nothing moves. */
static void run(void)
{
    for (int quiet = 0; quiet < 3;) {
        uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
        bool is_work = mr_data_core_turn(w.core, w.now);
        is_work |= mr_port_flush(&w.data, woken);
        play_storage();
        play_control();
        is_work |= mr_port_flush(&w.storage, woken);
        is_work |= mr_port_flush(&w.control, woken);
        quiet = is_work || mr_sim_net_has_work(w.net) ? 0 : quiet + 1;
    }
}

static void pass_ms(uint64_t ms)
{
    w.now.mono_ns += ms * MR_NS_PER_MS;
    w.now.unix_ms += (int64_t)ms;
    run();
}

static void send_image(void)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_IMAGE};
    w.image.version++;
    msg.u.image.image = &w.image;
    msg.u.image.version = w.image.version;
    mr_port_send(&w.control, 0, &msg);
    run();
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    mr_arena_init(&w.arena, mr_test_memory(1ull << 31), 1ull << 31);
    w.endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    struct mr_port *ports[] = {&w.data, &w.storage, &w.control};
    for (uint32_t i = 0; i < 3; i++) {
        ports[i]->self = i;
        ports[i]->endpoint_count = 3;
    }
    mr_port_connect(&w.data, &w.storage, &w.arena, 64, 1024);
    mr_port_connect(&w.storage, &w.data, &w.arena, 64, 1024);
    mr_port_connect(&w.data, &w.control, &w.arena, 64, 1024);
    mr_port_connect(&w.control, &w.data, &w.arena, 64, 1024);
    w.net = mr_sim_net_create(7);
    w.config.connections_max_idle_ms = 600000;
    w.config.max_connections = INT32_MAX;
    w.config.max_connections_per_ip = 3;
    w.config.millrace_connections_unproven_per_ip = 2;
    w.config.millrace_trusted_networks = MR_STR("10.9.0.0/16");
    w.config.fetch_max_bytes = 57671680;
    w.config.max_request_partition_size_limit = 2000;
    w.plan = (struct mr_data_plan){.connections_max = 64,
                                   .requests_max = 128,
                                   .request_scratch_bytes = 65536,
                                   .receive_bytes = 4u << 20,
                                   .fetch_sessions_max = 4,
                                   .fetch_partitions_max = 64,
                                   .frame_bytes_max = 1u << 20};
    w.now = (struct mr_now){.mono_ns = 1000 * MR_NS_PER_S, .unix_ms = 1700000000000};
    const struct mr_data_params params = {.plan = &w.plan,
                                          .config = &w.config,
                                          .endpoints = &w.endpoints,
                                          .port = &w.data,
                                          .transport = mr_sim_net_transport(w.net),
                                          .arena = &w.arena,
                                          .seed = 1};
    w.core = mr_data_core_init(&params);
    for (uint32_t i = 0; i < LOGS; i++) {
        w.logs[i].bytes = mr_test_memory(LOG_BYTES);
        w.partitions[i] = (struct mr_image_partition){.leader = 1,
                                                      .leader_epoch = 3,
                                                      .replica_count = 1,
                                                      .isr_count = 1,
                                                      .replicas = w.nodes,
                                                      .isr = w.nodes,
                                                      .log_id = i + 1};
    }
    w.nodes[0] = 1;
    w.topic = (struct mr_image_topic){.name = MR_STR("t"),
                                      .id = {{1, 2, 3}},
                                      .partition_count = LOGS,
                                      .partitions = w.partitions};
    w.topic.config = (struct mr_log_config){.segment_bytes = 1 << 30,
                                            .max_message_bytes = 1 << 20,
                                            .timestamp_before_max_ms = INT64_MAX,
                                            .timestamp_after_max_ms = 3600000,
                                            .min_insync_replicas = 1,
                                            .compression_type = -1,
                                            .is_cleanup_delete = true};
    w.topics[0] = &w.topic;
    w.broker = (struct mr_image_broker){
        .id = 1, .host = MR_STR("localhost"), .port = 9092, .rack = MR_STR_NULL};
    w.image = (struct mr_image){.cluster_id = MR_STR("cluster"),
                                .node_id = 1,
                                .controller_id = 1,
                                .broker_count = 1,
                                .brokers = &w.broker,
                                .topic_count = 1,
                                .topics = w.topics,
                                .topics_by_id = w.topics,
                                .is_auto_create = true};
    send_image();
    struct mr_plane_msg msg = {.kind = MR_PLANE_LISTEN};
    mr_port_send(&w.control, 0, &msg);
    run();
    assert_int_equal(w.image_dones, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_sim_net_destroy(w.net);
    return 0;
}

/* ---- the test's client ---- */

static uint8_t bytes[3u << 20];
static uint8_t memory[4u << 20];

static uint32_t build(int16_t key, int16_t version, int32_t correlation, const void *in)
{
    struct mr_arena arena;
    struct mr_span spans[256];
    struct mr_writer writer;
    mr_arena_init(&arena, memory, sizeof memory);
    mr_writer_init(&writer, &arena, spans, 256);
    uint8_t *prefix = mr_frame_begin(&writer);
    assert_int_equal(
        mr_header_encode_request(&writer, mr_api_find(key), version, correlation, MR_STR("c")),
        MR_OK);
    assert_int_equal(mr_msg_encode(mr_api_find(key)->request, version, in, &writer), MR_OK);
    assert_int_equal(mr_frame_end(&writer, prefix), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    return chain.bytes;
}

static void ask(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t correlation,
                const void *in)
{
    uint32_t len = build(key, version, correlation, in);
    mr_sim_peer_send(peer, bytes, len);
}

/* The next answer, decoded; false when there is none. */
static bool answer(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t *correlation,
                   void *out)
{
    static struct mr_arena arena;
    uint8_t prefix[4];
    run();
    if (mr_sim_peer_take(peer, prefix, 4) == 0) {
        return false;
    }
    uint32_t len = mr_load_be32(prefix);
    assert_in_range(len, 4, sizeof bytes);
    for (uint32_t at = 0; at < len;) {
        uint32_t got = mr_sim_peer_take(peer, bytes + at, len - at);
        assert_true(got > 0);
        at += got;
    }
    run();
    struct mr_reader reader;
    struct mr_response_header header;
    mr_arena_init(&arena, memory, sizeof memory);
    mr_reader_init_bytes(&reader, bytes, len);
    assert_int_equal(mr_msg_decode(&mr_msg_response_header,
                                   mr_header_response_version(mr_api_find(key), version), &reader,
                                   &arena, &header),
                     MR_OK);
    assert_int_equal(mr_msg_decode(mr_api_find(key)->response, version, &reader, &arena, out),
                     MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);
    *correlation = header.correlation_id;
    return true;
}

static uint8_t batch_bytes[600000];
static struct mr_span batch_span;

static struct mr_chain batch_of(uint32_t records, uint32_t value_bytes)
{
    static uint8_t value[500000];
    struct mr_batch_builder builder;
    mr_batch_begin(&builder, batch_bytes, sizeof batch_bytes, 0, 0);
    for (uint32_t i = 0; i < records; i++) {
        assert_true(mr_batch_add(&builder, w.now.unix_ms, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)value_bytes}));
    }
    batch_span = (struct mr_span){.data = batch_bytes, .len = mr_batch_end(&builder)};
    return (struct mr_chain){.spans = &batch_span, .span_count = 1, .bytes = batch_span.len};
}

static void produce_to(struct mr_sim_peer *peer, int32_t correlation, int16_t acks,
                       struct mr_str topic, int32_t partition, uint32_t records,
                       uint32_t value_bytes)
{
    struct mr_produce_request in;
    struct mr_produce_request_topic_produce_data one;
    struct mr_produce_request_partition_produce_data data = {
        .index = partition, .records = batch_of(records, value_bytes)};
    MR_DEFAULTS(produce_request, &in);
    MR_DEFAULTS(produce_request_topic_produce_data, &one);
    one.name = topic;
    one.partition_data = &data;
    one.partition_data_count = 1;
    in.acks = acks;
    in.timeout_ms = 1000;
    in.topic_data = &one;
    in.topic_data_count = 1;
    ask(peer, 0, 9, correlation, &in);
}

static void produce(struct mr_sim_peer *peer, int32_t correlation, int32_t partition)
{
    produce_to(peer, correlation, -1, MR_STR("t"), partition, 1, 10);
}

struct fetch_ask {
    int32_t session_id, session_epoch, max_wait_ms, min_bytes, max_bytes;
    uint32_t first, count; /* partitions named */
    int64_t offset;
};

static void fetch(struct mr_sim_peer *peer, int32_t correlation, struct fetch_ask ask_)
{
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topic;
    struct mr_fetch_request_fetch_partition partitions[LOGS];
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    for (uint32_t i = 0; i < ask_.count; i++) {
        MR_DEFAULTS(fetch_request_fetch_partition, &partitions[i]);
        partitions[i].partition = (int32_t)(ask_.first + i);
        partitions[i].fetch_offset = ask_.offset;
        partitions[i].partition_max_bytes = 1 << 20;
    }
    topic.topic = MR_STR("t");
    topic.partitions = partitions;
    topic.partitions_count = (int32_t)ask_.count;
    in.topics = &topic;
    in.topics_count = ask_.count > 0;
    in.max_wait_ms = ask_.max_wait_ms;
    in.min_bytes = ask_.min_bytes;
    in.max_bytes = ask_.max_bytes == 0 ? 1 << 20 : ask_.max_bytes;
    in.session_id = ask_.session_id;
    in.session_epoch = ask_.session_epoch;
    ask(peer, 1, 12, correlation, &in);
}

static struct mr_sim_peer *join(void)
{
    struct mr_sim_peer *peer = mr_sim_net_connect(w.net, NULL);
    assert_non_null(peer);
    return peer;
}

/* ---- tests ---- */

static void test_versions_asked_lists_exactly_what_is_served(void **state)
{
    (void)state;
    struct mr_api_versions_request in;
    struct mr_api_versions_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    MR_DEFAULTS(api_versions_request, &in);
    in.client_software_name = MR_STR("test");
    in.client_software_version = MR_STR("1.0");
    ask(peer, 18, 4, 5, &in);
    assert_true(answer(peer, 18, 4, &correlation, &out));
    assert_int_equal(correlation, 5);
    assert_int_equal(out.error_code, 0);
    int32_t served = 0;
    for (uint32_t i = 0; i < mr_api_count; i++) {
        served += mr_api_all[i].is_served;
    }
    assert_int_equal(out.api_keys_count, served);
    assert_int_equal(out.api_keys[0].api_key, 0);
    assert_int_equal(out.api_keys[0].min_version, 0);
    in.node_id = 9;
    ask(peer, 18, 5, 6, &in);
    assert_true(answer(peer, 18, 5, &correlation, &out));
    assert_int_equal(out.error_code, 129);
    /* a version of the future: version 0 and error 35 */
    uint8_t frame[] = {0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 1, 2};
    mr_sim_peer_send(peer, frame, sizeof frame);
    assert_true(answer(peer, 18, 0, &correlation, &out));
    assert_int_equal(correlation, 7);
    assert_int_equal(out.error_code, 35);
    assert_int_equal(out.api_keys_count, 1);
}

static void test_produce_then_fetch_returns_the_same_bytes(void **state)
{
    (void)state;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    mr_sim_net_pieces(w.net, 7, true);
    produce_to(peer, 1, -1, MR_STR("t"), 2, 3, 100);
    assert_true(answer(peer, 0, 9, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
    assert_int_equal(made.responses[0].partition_responses[0].base_offset, 0);
    fetch(peer, 2, (struct fetch_ask){.session_epoch = -1, .first = 2, .count = 1, .min_bytes = 1});
    assert_true(answer(peer, 1, 12, &correlation, &got));
    assert_int_equal(correlation, 2);
    const struct mr_fetch_response_partition_data *data = &got.responses[0].partitions[0];
    assert_int_equal(data->error_code, 0);
    assert_int_equal(data->high_watermark, 3);
    assert_int_equal(data->records.bytes, w.logs[2].len);
    uint8_t copy[1000];
    mr_chain_copy(&data->records, 0, copy, data->records.bytes);
    assert_memory_equal(copy, w.logs[2].bytes, w.logs[2].len);
    assert_int_equal(w.lent, w.releases);
    assert_int_equal(mr_sim_net_held(w.net), 0);
}

static void test_fetch_of_a_slow_reader_keeps_its_pages_until_it_has_read(void **state)
{
    (void)state;
    struct mr_fetch_response got;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    produce(peer, 1, 0);
    struct mr_produce_response made;
    assert_true(answer(peer, 0, 9, &correlation, &made));
    fetch(peer, 2, (struct fetch_ask){.session_epoch = -1, .count = 1, .min_bytes = 1});
    run();
    assert_int_equal(w.lent, 1);
    assert_int_equal(w.releases, 0);
    assert_true(answer(peer, 1, 12, &correlation, &got));
    assert_int_equal(w.releases, 1);
}

static void test_produce_errors_are_told_per_partition(void **state)
{
    (void)state;
    struct mr_produce_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    produce_to(peer, 1, -1, MR_STR("nowhere"), 0, 1, 1);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 3);
    produce(peer, 2, LOGS);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 3);
    produce_to(peer, 3, 5, MR_STR("t"), 0, 1, 1);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 21);
    w.topic.config.min_insync_replicas = 2;
    produce(peer, 4, 0);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 19);
    produce_to(peer, 5, 1, MR_STR("t"), 0, 1, 1); /* acks=1 does not ask for replicas */
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 0);
    w.topic.config.min_insync_replicas = 1;
    w.topic.is_internal = true;
    produce(peer, 6, 0);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 17);
    w.topic.is_internal = false;
    w.partitions[0].leader = 2;
    produce(peer, 7, 0);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(out.responses[0].partition_responses[0].error_code, 6);
    assert_int_equal(w.append_count, 1);
}

static void test_produce_without_acks_is_not_answered_and_closes_on_error(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = join();
    produce_to(peer, 1, 0, MR_STR("t"), 0, 1, 1);
    produce(peer, 2, 0);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 2);
    assert_int_equal(out.responses[0].partition_responses[0].base_offset, 1);
    produce_to(peer, 3, 0, MR_STR("nowhere"), 0, 1, 1);
    assert_false(answer(peer, 0, 9, &correlation, &out));
    assert_true(mr_sim_peer_is_closed(peer));
}

static void test_error_without_acks_closes_after_the_answers_before_it(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = join();
    w.is_storage_held = true;
    produce(peer, 1, 0);
    produce_to(peer, 2, 0, MR_STR("nowhere"), 0, 1, 1);
    produce(peer, 3, 0);
    run();
    assert_false(mr_sim_peer_is_closed(peer));
    assert_int_equal(w.held_count, 1); /* the third is never served */
    storage_answer(w.held[0]);
    assert_true(answer(peer, 0, 9, &correlation, &out));
    assert_int_equal(correlation, 1);
    assert_false(answer(peer, 0, 9, &correlation, &out));
    assert_true(mr_sim_peer_is_closed(peer));
    assert_int_equal(w.append_count, 1);
}

static void test_reader_that_does_not_read_is_not_served_further(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    struct mr_sim_peer *peer = join();
    produce_to(peer, 1, -1, MR_STR("t"), 0, 1, 400000);
    assert_true(answer(peer, 0, 9, &correlation, &made));
    for (int32_t i = 0; i < 30; i++) {
        fetch(peer, i, (struct fetch_ask){.session_epoch = -1, .count = 1, .min_bytes = 1});
    }
    run();
    assert_int_equal(w.lent - w.releases, 3); /* 1.2 MB, not 12 */
    for (int32_t i = 0; i < 30; i++) {
        assert_true(answer(peer, 1, 12, &correlation, &got));
        assert_int_equal(correlation, i);
        assert_int_equal(got.responses[0].partitions[0].records.bytes, w.logs[0].len);
    }
    assert_int_equal(w.lent, w.releases);
}

static void test_fetch_first_batch_is_returned_even_when_it_is_larger_than_asked(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response made;
    struct mr_fetch_response got;
    struct mr_sim_peer *peer = join();
    for (int32_t i = 0; i < 2; i++) {
        produce_to(peer, i, -1, MR_STR("t"), i, 1, 3000);
        assert_true(answer(peer, 0, 9, &correlation, &made));
    }
    fetch(peer, 3,
          (struct fetch_ask){.session_epoch = -1, .count = 2, .max_bytes = 100, .min_bytes = 1});
    assert_true(answer(peer, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].records.bytes, w.logs[0].len);
    assert_int_equal(got.responses[0].partitions[1].records.bytes, 0);
}

static void test_topics_by_id_in_the_versions_that_ask_for_it(void **state)
{
    (void)state;
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topics[2];
    struct mr_fetch_request_fetch_partition partition;
    struct mr_fetch_response got;
    struct mr_produce_request pin;
    struct mr_produce_request_topic_produce_data one;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    struct mr_produce_request_partition_produce_data data = {.index = 0, .records = batch_of(1, 5)};
    MR_DEFAULTS(produce_request, &pin);
    MR_DEFAULTS(produce_request_topic_produce_data, &one);
    one.topic_id = w.topic.id;
    one.partition_data = &data;
    one.partition_data_count = 1;
    pin.acks = -1;
    pin.topic_data = &one;
    pin.topic_data_count = 1;
    ask(peer, 0, 13, 1, &pin);
    assert_true(answer(peer, 0, 13, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
    assert_true(mr_uuid_equal(&made.responses[0].topic_id, &w.topic.id));
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_partition, &partition);
    partition.partition_max_bytes = 1000;
    for (int i = 0; i < 2; i++) {
        MR_DEFAULTS(fetch_request_fetch_topic, &topics[i]);
        topics[i].partitions = &partition;
        topics[i].partitions_count = 1;
    }
    topics[0].topic_id = w.topic.id;
    topics[1].topic_id = (struct mr_uuid){{9}};
    in.topics = topics;
    in.topics_count = 2;
    in.session_epoch = -1;
    ask(peer, 1, 18, 2, &in);
    assert_true(answer(peer, 1, 18, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 0);
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_int_equal(got.responses[1].partitions[0].error_code, MR_KAFKA_UNKNOWN_TOPIC_ID);
    w.partitions[0].leader = 2;
    ask(peer, 0, 13, 3, &pin);
    assert_true(answer(peer, 0, 13, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 6);
    assert_int_equal(made.responses[0].partition_responses[0].current_leader.leader_id, 2);
}

static void test_described_topics_come_in_pages(void **state)
{
    (void)state;
    struct mr_describe_topic_partitions_request in;
    struct mr_describe_topic_partitions_request_cursor cursor;
    struct mr_describe_topic_partitions_response out;
    struct mr_describe_cluster_request cluster;
    struct mr_describe_cluster_response told;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    MR_DEFAULTS(describe_topic_partitions_request, &in);
    in.response_partition_limit = 3;
    ask(peer, 75, 0, 1, &in);
    assert_true(answer(peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics_count, 1);
    assert_int_equal(out.topics[0].partitions_count, 3);
    assert_non_null(out.next_cursor);
    assert_int_equal(out.next_cursor->partition_index, 3);
    MR_DEFAULTS(describe_topic_partitions_request_cursor, &cursor);
    cursor.topic_name = MR_STR("t");
    cursor.partition_index = 3;
    in.cursor = &cursor;
    ask(peer, 75, 0, 2, &in);
    assert_true(answer(peer, 75, 0, &correlation, &out));
    assert_int_equal(out.topics[0].partitions_count, LOGS - 3);
    assert_int_equal(out.topics[0].partitions[0].partition_index, 3);
    assert_null(out.next_cursor);
    MR_DEFAULTS(describe_cluster_request, &cluster);
    ask(peer, 60, 2, 3, &cluster);
    assert_true(answer(peer, 60, 2, &correlation, &told));
    assert_int_equal(told.brokers_count, 1);
    assert_int_equal(told.controller_id, 1);
    cluster.endpoint_type = 2;
    ask(peer, 60, 2, 4, &cluster);
    assert_true(answer(peer, 60, 2, &correlation, &told));
    assert_int_equal(told.error_code, MR_KAFKA_MISMATCHED_ENDPOINT_TYPE);
}

static void test_produces_overlap_and_are_answered_in_order(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_produce_response out;
    struct mr_sim_peer *peer = join();
    w.is_storage_held = true;
    for (int32_t i = 0; i < 5; i++) {
        produce(peer, i, 0);
    }
    fetch(peer, 5, (struct fetch_ask){.session_epoch = -1, .count = 1, .min_bytes = 1});
    run();
    assert_int_equal(w.held_count, 5); /* the fetch waits for their answers */
    for (uint32_t i = 0; i < 5; i++) {
        storage_answer(w.held[4 - i]); /* answered in the wrong order */
    }
    for (int32_t i = 0; i < 5; i++) {
        assert_true(answer(peer, 0, 9, &correlation, &out));
        assert_int_equal(correlation, i);
    }
    assert_int_equal(w.held_count, 6);
}

static void test_fetch_waits_for_bytes_and_wakes_once(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    fetch(reader, 1,
          (struct fetch_ask){
              .session_epoch = -1, .count = LOGS, .min_bytes = 1, .max_wait_ms = 1000});
    assert_false(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(live_watches(), LOGS);
    uint32_t before = w.entries_read;
    produce(writer, 1, 3);
    assert_true(answer(writer, 0, 9, &correlation, &made));
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions_count, LOGS);
    assert_true(got.responses[0].partitions[3].records.bytes > 0);
    assert_int_equal(w.entries_read - before, 1); /* only what moved is read again */
    assert_int_equal(live_watches(), 0);
    /* nothing comes: empty at the deadline, not before */
    fetch(reader, 2,
          (struct fetch_ask){
              .session_epoch = -1, .first = 1, .count = 1, .min_bytes = 1, .max_wait_ms = 500});
    run();
    pass_ms(499);
    assert_false(answer(reader, 1, 12, &correlation, &got));
    pass_ms(1);
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].records.bytes, 0);
    assert_int_equal(live_watches(), 0);
}

static void test_fetch_min_bytes_counts_over_all_partitions(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    produce_to(writer, 1, -1, MR_STR("t"), 0, 1, 100);
    assert_true(answer(writer, 0, 9, &correlation, &made));
    fetch(
        reader, 1,
        (struct fetch_ask){.session_epoch = -1, .count = 2, .min_bytes = 300, .max_wait_ms = 1000});
    assert_false(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(w.lent, w.releases); /* a fetch that waits holds no page */
    produce_to(writer, 2, -1, MR_STR("t"), 1, 1, 100);
    assert_true(answer(writer, 0, 9, &correlation, &made));
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_true(got.responses[0].partitions[1].records.bytes > 0);
}

static void test_fetch_moved_while_it_reads_is_read_again(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    struct mr_sim_peer *other = join();
    fetch(reader, 1,
          (struct fetch_ask){
              .session_epoch = -1, .count = 2, .min_bytes = 1000, .max_wait_ms = 60000});
    run();
    w.is_storage_held = true;
    produce_to(writer, 1, -1, MR_STR("t"), 0, 1, 10); /* moves partition 0: it is being read */
    run();
    produce_to(other, 2, -1, MR_STR("t"), 1, 1, 2000); /* and now partition 1 moves */
    run();
    w.is_storage_held = false;
    for (uint32_t i = 0; i < w.held_count; i++) {
        storage_answer(w.held[i]);
    }
    assert_true(answer(reader, 1, 12, &correlation, &got)); /* without waiting for its time */
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_true(got.responses[0].partitions[1].records.bytes > 1000);
    assert_int_equal(live_watches(), 0);
}

static void test_request_without_memory_waits_until_there_is_some(void **state)
{
    (void)state;
    int32_t correlation;
    size_t got_bytes;
    void *blocks[4];
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = join();
    for (int i = 0; i < 4; i++) {
        blocks[i] = mr_scratch_get(&w.core->scratch, mr_scratch_max(&w.core->scratch), &got_bytes);
        assert_non_null(blocks[i]);
    }
    fetch(reader, 1, (struct fetch_ask){.count = LOGS, .min_bytes = 1});
    assert_false(answer(reader, 1, 12, &correlation, &got));
    for (int i = 0; i < 4; i++) {
        mr_scratch_put(&w.core->scratch, blocks[i]);
    }
    w.core->has_room = true;
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions_count, LOGS);
    assert_int_equal(w.core->scratch.used_bytes, 0);
    assert_int_equal(w.core->requests.used, 0);
}

static void test_fetch_waiting_is_freed_when_its_connection_closes(void **state)
{
    (void)state;
    struct mr_sim_peer *reader = join();
    fetch(reader, 1,
          (struct fetch_ask){
              .session_epoch = -1, .count = LOGS, .min_bytes = 1, .max_wait_ms = 100000});
    run();
    assert_int_equal(live_watches(), LOGS);
    mr_sim_peer_reset(reader);
    run();
    struct mr_data_stats stats;
    mr_data_core_stats(w.core, &stats);
    assert_int_equal(live_watches(), 0);
    assert_int_equal(stats.connections, 0);
}

static void test_fetch_session_answers_only_what_changed(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    fetch(reader, 1, (struct fetch_ask){.count = LOGS, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    int32_t id = got.session_id;
    assert_true(id > 0);
    assert_int_equal(got.responses[0].partitions_count, LOGS);
    produce(writer, 1, 2);
    assert_true(answer(writer, 0, 9, &correlation, &made));
    uint32_t before = w.entries_read;
    fetch(reader, 2, (struct fetch_ask){.session_id = id, .session_epoch = 1, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, 0);
    assert_int_equal(got.responses_count, 1);
    assert_int_equal(got.responses[0].partitions_count, 1);
    assert_int_equal(got.responses[0].partitions[0].partition_index, 2);
    assert_int_equal(w.entries_read - before, 1);
    /* the client moves on: nothing is left, nothing is told */
    fetch(reader, 3,
          (struct fetch_ask){.session_id = id,
                             .session_epoch = 2,
                             .first = 2,
                             .count = 1,
                             .offset = 1,
                             .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses_count, 0);
    before = w.entries_read;
    fetch(reader, 4, (struct fetch_ask){.session_id = id, .session_epoch = 3, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(w.entries_read, before); /* a fetch at the end asks nobody */
    fetch(reader, 5, (struct fetch_ask){.session_id = id, .session_epoch = 9, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_INVALID_FETCH_SESSION_EPOCH);
    fetch(reader, 6, (struct fetch_ask){.session_id = id ^ 1, .session_epoch = 4, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    fetch(reader, 7, (struct fetch_ask){.session_id = id, .session_epoch = -1, .count = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.session_id, 0);
    fetch(reader, 8, (struct fetch_ask){.session_id = id, .session_epoch = 4, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND);
}

/* What did not fit is read by the next fetch of the session, although nothing has moved. */
static void test_fetch_session_returns_later_what_did_not_fit(void **state)
{
    (void)state;
    int32_t correlation;
    bool is_seen[LOGS] = {false};
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    for (int32_t i = 0; i < LOGS; i++) {
        produce_to(writer, i, -1, MR_STR("t"), i, 1, 1000);
        assert_true(answer(writer, 0, 9, &correlation, &made));
    }
    struct fetch_ask next = {.count = LOGS, .min_bytes = 1, .max_bytes = 1500};
    for (int32_t i = 0; i < LOGS; i++) {
        fetch(reader, i, next);
        assert_true(answer(reader, 1, 12, &correlation, &got));
        uint32_t with_records = 0;
        next = (struct fetch_ask){.session_id = got.session_id,
                                  .session_epoch = i + 1,
                                  .offset = 1, /* of the one that was read */
                                  .count = 1,
                                  .min_bytes = 1,
                                  .max_bytes = 1500};
        for (int32_t at = 0; got.responses_count > 0 && at < got.responses[0].partitions_count;
             at++) {
            const struct mr_fetch_response_partition_data *data = &got.responses[0].partitions[at];
            if (data->records.bytes > 0) {
                with_records++;
                next.first = (uint32_t)data->partition_index;
            }
        }
        assert_int_equal(with_records, 1);
        assert_false(is_seen[next.first]);
        is_seen[next.first] = true;
    }
}

/* Min bytes that the answer has no room for are not waited for. */
static void test_fetch_without_room_for_more_does_not_wait(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = join();
    struct mr_sim_peer *writer = join();
    for (int32_t i = 0; i < 2; i++) {
        produce_to(writer, i, -1, MR_STR("t"), i, 1, 1000);
        assert_true(answer(writer, 0, 9, &correlation, &made));
    }
    fetch(reader, 1,
          (struct fetch_ask){.session_epoch = -1,
                             .count = 2,
                             .min_bytes = 1500,
                             .max_bytes = 1500,
                             .max_wait_ms = 60000});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_true(got.responses[0].partitions[0].records.bytes > 0);
    assert_int_equal(got.responses[0].partitions[1].records.bytes, 0);
}

static void test_fetch_sessions_full_serves_without_one(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = join();
    for (int32_t i = 0; i < 6; i++) {
        fetch(reader, i, (struct fetch_ask){.count = LOGS, .min_bytes = 1});
        assert_true(answer(reader, 1, 12, &correlation, &got));
        assert_int_equal(got.session_id != 0, i < 4);
        assert_int_equal(got.responses[0].partitions_count, LOGS);
    }
    pass_ms(121000); /* unused for long: evicted for a new one */
    fetch(reader, 9, (struct fetch_ask){.count = LOGS, .min_bytes = 1});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_true(got.session_id != 0);
}

static void test_fetch_errors_are_told_at_once(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = join();
    fetch(reader, 1,
          (struct fetch_ask){
              .session_epoch = -1, .count = 1, .offset = 77, .min_bytes = 1, .max_wait_ms = 1000});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 1);
    w.partitions[0].leader = 2;
    fetch(reader, 2,
          (struct fetch_ask){.session_epoch = -1, .count = 2, .min_bytes = 1, .max_wait_ms = 1000});
    assert_true(answer(reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions[0].error_code, 6);
    assert_int_equal(got.responses[0].partitions[0].current_leader.leader_id, 2);
    assert_int_equal(got.responses[0].partitions[1].error_code, 0);
}

static void test_metadata_of_a_missing_topic_asks_control_to_create_it_once(void **state)
{
    (void)state;
    struct mr_metadata_request in;
    struct mr_metadata_request_topic topic;
    struct mr_metadata_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    MR_DEFAULTS(metadata_request, &in);
    MR_DEFAULTS(metadata_request_topic, &topic);
    topic.name = MR_STR("new");
    in.topics = &topic;
    in.topics_count = 1;
    for (int32_t i = 0; i < 3; i++) {
        ask(peer, 3, 12, i, &in);
        assert_true(answer(peer, 3, 12, &correlation, &out));
        assert_int_equal(out.topics[0].error_code, 3);
    }
    assert_int_equal(w.forward_count, 1);
    assert_int_equal(w.forwards[0]->api_key, 19);
    struct mr_plane_msg reply = {.kind = MR_PLANE_REPLY, .u.forward = w.forwards[0]};
    mr_port_send(&w.control, 0, &reply);
    run();
    assert_int_equal(w.reply_dones, 1);
    topic.name = MR_STR("bad name");
    ask(peer, 3, 12, 5, &in);
    assert_true(answer(peer, 3, 12, &correlation, &out));
    assert_int_equal(out.topics[0].error_code, 17);
    in.topics = NULL;
    in.topics_count = -1;
    ask(peer, 3, 12, 6, &in);
    assert_true(answer(peer, 3, 12, &correlation, &out));
    assert_int_equal(out.topics_count, 1);
    assert_int_equal(out.topics[0].partitions_count, LOGS);
    assert_int_equal(out.brokers_count, 1);
    assert_int_equal(w.forward_count, 1);
}

static void test_forwarded_request_returns_controls_bytes(void **state)
{
    (void)state;
    struct mr_heartbeat_request in;
    struct mr_heartbeat_response out;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    MR_DEFAULTS(heartbeat_request, &in);
    in.group_id = MR_STR("g");
    ask(peer, 12, 4, 77, &in);
    run();
    assert_int_equal(w.forward_count, 1);
    assert_int_equal(w.forwards[0]->body.bytes > 0, true);
    static const uint8_t body[] = {0, 0, 0, 0, 0, 27, 0}; /* throttle, error 27, no tags */
    struct mr_span span = {.data = body, .len = sizeof body};
    w.forwards[0]->reply = (struct mr_chain){.spans = &span, .span_count = 1, .bytes = sizeof body};
    struct mr_plane_msg reply = {.kind = MR_PLANE_REPLY, .u.forward = w.forwards[0]};
    mr_port_send(&w.control, 0, &reply);
    assert_true(answer(peer, 12, 4, &correlation, &out));
    assert_int_equal(correlation, 77);
    assert_int_equal(out.error_code, 27);
    assert_int_equal(w.reply_dones, 1);
    /* a client that leaves while control thinks: its request lives on until the answer */
    ask(peer, 12, 4, 78, &in);
    run();
    mr_sim_peer_reset(peer);
    run();
    assert_int_equal(w.conn_closes, 1);
    reply.u.forward = w.forwards[1];
    mr_port_send(&w.control, 0, &reply);
    run();
    assert_int_equal(w.reply_dones, 2);
    assert_int_equal(mr_sim_net_held(w.net), 0);
}

static void test_list_offsets_by_special_times(void **state)
{
    (void)state;
    struct mr_list_offsets_request in;
    struct mr_list_offsets_request_list_offsets_topic topic;
    struct mr_list_offsets_request_list_offsets_partition parts[3];
    struct mr_list_offsets_response out;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    produce(peer, 1, 1);
    assert_true(answer(peer, 0, 9, &correlation, &made));
    MR_DEFAULTS(list_offsets_request, &in);
    MR_DEFAULTS(list_offsets_request_list_offsets_topic, &topic);
    for (int i = 0; i < 3; i++) {
        MR_DEFAULTS(list_offsets_request_list_offsets_partition, &parts[i]);
        parts[i].partition_index = i;
        parts[i].timestamp = i == 2 ? -6 : -1; /* -6 is of version 11 */
    }
    topic.name = MR_STR("t");
    topic.partitions = parts;
    topic.partitions_count = 3;
    in.replica_id = -1;
    in.topics = &topic;
    in.topics_count = 1;
    ask(peer, 2, 7, 2, &in);
    assert_true(answer(peer, 2, 7, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[0].offset, 0);
    assert_int_equal(out.topics[0].partitions[1].offset, 1);
    assert_int_equal(out.topics[0].partitions[1].leader_epoch, 3);
    assert_int_equal(out.topics[0].partitions[2].error_code, 35);
}

static void test_delete_records_and_epochs_are_told_per_partition(void **state)
{
    (void)state;
    struct mr_delete_records_request in;
    struct mr_delete_records_request_delete_records_topic topic;
    struct mr_delete_records_request_delete_records_partition parts[3];
    struct mr_delete_records_response out;
    struct mr_offset_for_leader_epoch_request ein;
    struct mr_offset_for_leader_epoch_request_offset_for_leader_topic etopic;
    struct mr_offset_for_leader_epoch_request_offset_for_leader_partition eparts[2];
    struct mr_offset_for_leader_epoch_response eout;
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_sim_peer *peer = join();
    produce(peer, 1, 1);
    assert_true(answer(peer, 0, 9, &correlation, &made));
    MR_DEFAULTS(delete_records_request, &in);
    MR_DEFAULTS(delete_records_request_delete_records_topic, &topic);
    for (int i = 0; i < 3; i++) {
        MR_DEFAULTS(delete_records_request_delete_records_partition, &parts[i]);
        parts[i].partition_index = i == 2 ? 99 : i;
        parts[i].offset = i == 0 ? 5 : -1;
    }
    topic.name = MR_STR("t");
    topic.partitions = parts;
    topic.partitions_count = 3;
    in.topics = &topic;
    in.topics_count = 1;
    ask(peer, 21, 2, 2, &in);
    assert_true(answer(peer, 21, 2, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[0].error_code, MR_KAFKA_OFFSET_OUT_OF_RANGE);
    assert_int_equal(out.topics[0].partitions[1].low_watermark, 1);
    assert_int_equal(out.topics[0].partitions[2].error_code, MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    w.topic.config.is_cleanup_delete = false;
    ask(peer, 21, 2, 3, &in);
    assert_true(answer(peer, 21, 2, &correlation, &out));
    assert_int_equal(out.topics[0].partitions[1].error_code, MR_KAFKA_POLICY_VIOLATION);
    MR_DEFAULTS(offset_for_leader_epoch_request, &ein);
    MR_DEFAULTS(offset_for_leader_epoch_request_offset_for_leader_topic, &etopic);
    for (int i = 0; i < 2; i++) {
        MR_DEFAULTS(offset_for_leader_epoch_request_offset_for_leader_partition, &eparts[i]);
        eparts[i].partition = i;
        eparts[i].current_leader_epoch = i == 0 ? 2 : 3;
        eparts[i].leader_epoch = 3;
    }
    etopic.topic = MR_STR("t");
    etopic.partitions = eparts;
    etopic.partitions_count = 2;
    ein.topics = &etopic;
    ein.topics_count = 1;
    ask(peer, 23, 4, 4, &ein);
    assert_true(answer(peer, 23, 4, &correlation, &eout));
    assert_int_equal(eout.topics[0].partitions[0].error_code, MR_KAFKA_FENCED_LEADER_EPOCH);
    assert_int_equal(eout.topics[0].partitions[1].end_offset, 1);
    assert_int_equal(eout.topics[0].partitions[1].leader_epoch, 3);
}

static void expect_closed(const void *data, uint32_t len)
{
    struct mr_sim_peer *peer = join();
    mr_sim_peer_send(peer, data, len);
    run();
    assert_true(mr_sim_peer_is_closed(peer));
}

static void test_frames_that_lie_close_the_connection(void **state)
{
    (void)state;
    expect_closed("GET / HTTP/1.1\r\n\r\n", 18);
    expect_closed("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
    expect_closed("\x00\x00\x00\x00\x00\x00\x00\x00", 8);
    expect_closed("\xff\xff\xff\xff\x00\x00\x00\x00", 8);
    expect_closed("\x00\x00\x00\x10\x03\xe7\x00\x00", 8); /* unknown key, before it is whole */
    expect_closed("\x00\x00\x00\x0a\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00", 14); /* Produce v2 */
    expect_closed("\x00\x20\x00\x01\x00\x00\x00\x09", 8); /* above socket.request.max.bytes */
    assert_int_equal(mr_sim_net_held(w.net), 0);
}

static void test_frames_cut_at_every_byte_do_no_harm(void **state)
{
    (void)state;
    struct mr_sim_peer *probe = join();
    produce_to(probe, 1, -1, MR_STR("t"), 0, 2, 20);
    uint32_t len = mr_load_be32(bytes) + 4;
    uint8_t frame[1024];
    memcpy(frame, bytes, len);
    for (uint32_t cut = 0; cut < len; cut++) {
        struct mr_sim_peer *peer = join();
        mr_sim_peer_send(peer, frame, cut);
        run();
        mr_sim_peer_reset(peer);
        run();
        assert_true(mr_sim_peer_is_closed(peer));
        mr_sim_peer_free(peer);
    }
    /* and one byte wrong at every place: an answer or a closed connection */
    for (uint32_t at = 4; at < len; at++) {
        struct mr_sim_peer *peer = join();
        frame[at] ^= 0xff;
        mr_sim_peer_send(peer, frame, len);
        run();
        frame[at] ^= 0xff;
        mr_sim_peer_reset(peer);
        run();
        mr_sim_peer_free(peer);
    }
    assert_int_equal(mr_sim_net_held(w.net), 0);
    struct mr_data_stats stats;
    mr_data_core_stats(w.core, &stats);
    assert_int_equal(stats.connections, 1);
}

static void test_large_frames_that_never_end_do_not_lock_out_others(void **state)
{
    (void)state;
    static uint8_t head[900000] = {0, 0x0f, 0, 0, 0, 0, 0, 9};
    struct mr_sim_peer *slow[16];
    for (int i = 0; i < 16; i++) {
        slow[i] = join();
        mr_sim_peer_send(slow[i], head, sizeof head); /* of 983,044 announced */
    }
    run();
    uint64_t taken = 0;
    for (int i = 0; i < 16; i++) {
        taken += mr_sim_peer_delivered(slow[i]);
    }
    assert_true(taken <= (4u << 20)); /* never more than there is memory */
    struct mr_sim_peer *peer = join();
    struct mr_produce_response made;
    int32_t correlation;
    produce(peer, 1, 0); /* small ones go on */
    assert_true(answer(peer, 0, 9, &correlation, &made));
    for (int i = 0; i < 400; i++) { /* the stalled are closed, one after the other */
        pass_ms(1000);
    }
    produce_to(peer, 2, -1, MR_STR("t"), 0, 1, 400000); /* and then large ones too */
    assert_true(answer(peer, 0, 9, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[0].error_code, 0);
}

static void test_connections_of_one_address_are_limited_but_not_trusted_ones(void **state)
{
    (void)state;
    struct mr_sim_peer *peers[6];
    for (int i = 0; i < 6; i++) {
        peers[i] = mr_sim_net_connect(w.net, "192.0.2.1");
        run();
    }
    assert_false(mr_sim_peer_is_closed(peers[1]));
    assert_true(mr_sim_peer_is_closed(peers[2])); /* two that have proven nothing */
    produce(peers[0], 1, 0);
    run();
    struct mr_sim_peer *third = mr_sim_net_connect(w.net, "192.0.2.1");
    run();
    assert_false(mr_sim_peer_is_closed(third));
    produce(peers[1], 1, 0);
    produce(third, 1, 0);
    run();
    struct mr_sim_peer *fourth = mr_sim_net_connect(w.net, "192.0.2.1");
    run();
    assert_true(mr_sim_peer_is_closed(fourth)); /* max.connections.per.ip = 3 */
    for (int i = 0; i < 8; i++) {
        struct mr_sim_peer *trusted = mr_sim_net_connect(w.net, "10.9.8.7");
        run();
        assert_false(mr_sim_peer_is_closed(trusted));
    }
}

static void test_idle_connection_is_closed_a_waiting_one_is_not(void **state)
{
    (void)state;
    w.config.connections_max_idle_ms = 5000;
    struct mr_sim_peer *idle = join();
    struct mr_sim_peer *busy = join();
    fetch(
        busy, 1,
        (struct fetch_ask){.session_epoch = -1, .count = 1, .min_bytes = 1, .max_wait_ms = 60000});
    run();
    pass_ms(4999);
    assert_false(mr_sim_peer_is_closed(idle));
    pass_ms(2);
    assert_true(mr_sim_peer_is_closed(idle));
    assert_false(mr_sim_peer_is_closed(busy));
}

static void test_drain_answers_what_is_open_and_closes(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *waiting = join();
    struct mr_sim_peer *writing = join();
    fetch(
        waiting, 1,
        (struct fetch_ask){.session_epoch = -1, .count = 1, .min_bytes = 1, .max_wait_ms = 60000});
    run();
    w.is_storage_held = true;
    produce(writing, 2, 1);
    run();
    w.is_storage_held = false;
    struct mr_plane_msg msg = {.kind = MR_PLANE_DRAIN};
    mr_port_send(&w.control, 0, &msg);
    assert_true(answer(waiting, 1, 12, &correlation, &got));
    assert_int_equal(w.drained, 0);
    storage_answer(w.held[0]);
    assert_true(answer(writing, 0, 9, &correlation, &made));
    run();
    assert_true(mr_sim_peer_is_closed(waiting));
    assert_true(mr_sim_peer_is_closed(writing));
    assert_int_equal(w.drained, 1);
    assert_null(mr_sim_net_connect(w.net, NULL));
}

/* Random pipelines: every answer in the order asked, offsets as one after the other would give. */
static void test_random_pipelines_are_answered_as_if_served_serially(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 42};
    int64_t ends[LOGS] = {0};
    mr_sim_net_pieces(w.net, 300, true);
    struct mr_sim_peer *peer = join();
    for (int round = 0; round < 60; round++) {
        struct {
            int kind;
            int32_t partition;
            int64_t offset;
        } asked[24];
        int count = 1 + (int)mr_prng_below(&prng, 24);
        mr_sim_net_send_limit(w.net, mr_prng_below(&prng, 2) == 0 ? 4 : UINT32_MAX);
        for (int i = 0; i < count; i++) {
            asked[i].kind = (int)mr_prng_below(&prng, 3);
            asked[i].partition = (int32_t)mr_prng_below(&prng, LOGS);
            asked[i].offset = ends[asked[i].partition];
            int32_t correlation = round * 100 + i;
            if (asked[i].kind == 0) { /* a fetch at the end as it is in its turn */
                fetch(peer, correlation,
                      (struct fetch_ask){.session_epoch = -1,
                                         .first = (uint32_t)asked[i].partition,
                                         .count = 1,
                                         .offset = asked[i].offset});
            } else {
                uint32_t records = 1 + (uint32_t)mr_prng_below(&prng, 3);
                produce_to(peer, correlation, asked[i].kind == 1 ? -1 : 1, MR_STR("t"),
                           asked[i].partition, records, 30);
                ends[asked[i].partition] += records;
            }
            if (mr_prng_below(&prng, 4) == 0) {
                w.is_storage_held = !w.is_storage_held;
                run();
            }
        }
        w.is_storage_held = false;
        for (int i = 0; i < count; i++) {
            int32_t correlation;
            do { /* what was held is answered, in the order in which it came */
                run();
                for (uint32_t h = 0; h < w.held_count; h++) {
                    storage_answer(w.held[h]);
                }
                bool was_held = w.held_count > 0;
                w.held_count = 0;
                run();
                if (!was_held) {
                    break;
                }
            } while (true);
            if (asked[i].kind == 0) {
                struct mr_fetch_response got;
                assert_true(answer(peer, 1, 12, &correlation, &got));
                assert_int_equal(got.responses[0].partitions[0].error_code, 0);
                assert_int_equal(got.responses[0].partitions[0].high_watermark, asked[i].offset);
                assert_int_equal(got.responses[0].partitions[0].records.bytes, 0);
            } else {
                struct mr_produce_response made;
                assert_true(answer(peer, 0, 9, &correlation, &made));
                assert_int_equal(made.responses[0].partition_responses[0].base_offset,
                                 asked[i].offset);
            }
            assert_int_equal(correlation, round * 100 + i);
        }
    }
    assert_int_equal(mr_sim_net_held(w.net), 0);
    assert_int_equal(w.lent, w.releases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_versions_asked_lists_exactly_what_is_served),
        TEST(test_produce_then_fetch_returns_the_same_bytes),
        TEST(test_fetch_of_a_slow_reader_keeps_its_pages_until_it_has_read),
        TEST(test_produce_errors_are_told_per_partition),
        TEST(test_produce_without_acks_is_not_answered_and_closes_on_error),
        TEST(test_error_without_acks_closes_after_the_answers_before_it),
        TEST(test_reader_that_does_not_read_is_not_served_further),
        TEST(test_fetch_first_batch_is_returned_even_when_it_is_larger_than_asked),
        TEST(test_topics_by_id_in_the_versions_that_ask_for_it),
        TEST(test_described_topics_come_in_pages),
        TEST(test_produces_overlap_and_are_answered_in_order),
        TEST(test_fetch_waits_for_bytes_and_wakes_once),
        TEST(test_fetch_min_bytes_counts_over_all_partitions),
        TEST(test_fetch_moved_while_it_reads_is_read_again),
        TEST(test_request_without_memory_waits_until_there_is_some),
        TEST(test_fetch_waiting_is_freed_when_its_connection_closes),
        TEST(test_fetch_session_answers_only_what_changed),
        TEST(test_fetch_session_returns_later_what_did_not_fit),
        TEST(test_fetch_without_room_for_more_does_not_wait),
        TEST(test_fetch_sessions_full_serves_without_one),
        TEST(test_fetch_errors_are_told_at_once),
        TEST(test_metadata_of_a_missing_topic_asks_control_to_create_it_once),
        TEST(test_forwarded_request_returns_controls_bytes),
        TEST(test_list_offsets_by_special_times),
        TEST(test_delete_records_and_epochs_are_told_per_partition),
        TEST(test_frames_that_lie_close_the_connection),
        TEST(test_frames_cut_at_every_byte_do_no_harm),
        TEST(test_large_frames_that_never_end_do_not_lock_out_others),
        TEST(test_connections_of_one_address_are_limited_but_not_trusted_ones),
        TEST(test_idle_connection_is_closed_a_waiting_one_is_not),
        TEST(test_drain_answers_what_is_open_and_closes),
        TEST(test_random_pipelines_are_answered_as_if_served_serially),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
