/*
 * data_rig: storage and control as the test plays them.
 */
#include "data_rig.h"

#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"
#include "sim_transport.h"
#include "test.h"
#include "wire_client.h"

#define LOG_BYTES (1u << 20)

static struct mr_data_rig_log *log_of(struct mr_data_rig *rig, uint64_t log_id)
{
    assert_in_range(log_id, 1, rig->log_count);
    return &rig->logs[log_id - 1];
}

/* Where the oldest append to it that is not seen begins. */
int64_t mr_data_rig_visible_end(const struct mr_data_rig *rig, uint64_t log_id)
{
    for (uint32_t i = 0; i < rig->unseen_count; i++) {
        if (rig->unseen[i].log_id == log_id) {
            return rig->unseen[i].base_offset;
        }
    }
    return rig->logs[log_id - 1].end;
}

static void fire(struct mr_data_rig *rig, uint64_t log_id)
{
    int64_t end = mr_data_rig_visible_end(rig, log_id);
    for (uint32_t i = 0; i < MR_DATA_RIG_WATCHES; i++) {
        struct mr_data_rig_watch *watch = &rig->watches[i];
        if (watch->is_live && watch->log_id == log_id && end > watch->offset) {
            watch->is_live = false;
            struct mr_plane_msg msg = {.kind = MR_PLANE_MOVED, .count = 1};
            msg.u.moved[0].token = watch->token;
            msg.u.moved[0].high_watermark = end;
            rig->moves++;
            mr_port_send(&rig->storage, 0, &msg);
        }
    }
}

/* An append is answered. What it added is seen when those before it are answered too. */
static void see(struct mr_data_rig *rig, const struct mr_storage_op *op)
{
    for (uint32_t i = 0; i < rig->unseen_count; i++) {
        rig->unseen[i].is_answered |= rig->unseen[i].op == op;
    }
    while (rig->unseen_count > 0 && rig->unseen[0].is_answered) {
        uint64_t log_id = rig->unseen[0].log_id;
        rig->unseen_count--;
        memmove(rig->unseen, rig->unseen + 1, rig->unseen_count * sizeof rig->unseen[0]);
        fire(rig, log_id);
    }
}

static void do_append(struct mr_data_rig *rig, struct mr_append_op *op)
{
    for (uint32_t i = 0; i < op->entry_count; i++) {
        struct mr_append_entry *entry = &op->entries[i];
        struct mr_data_rig_log *log = log_of(rig, entry->log_id);
        struct mr_batch batch;
        uint8_t *at = log->bytes + log->len;
        mr_chain_copy(&entry->batch, 0, at, entry->batch.bytes);
        mr_batch_header_load(at, &batch);
        mr_store_be64(at, (uint64_t)log->end);
        assert_true(rig->unseen_count < MR_DATA_RIG_LOGS_MAX);
        rig->unseen[rig->unseen_count++] = (struct mr_data_rig_unseen){
            .log_id = entry->log_id, .base_offset = log->end, .op = &op->op};
        entry->err = MR_OK;
        entry->base_offset = log->end;
        entry->log_start_offset = 0;
        entry->log_append_time_ms = -1;
        log->end += batch.record_count;
        log->len += entry->batch.bytes;
    }
    rig->appends++;
}

static void do_read(struct mr_data_rig *rig, struct mr_read_op *op)
{
    uint32_t left = op->bytes_max;
    bool is_first = true;
    rig->reads++;
    for (uint32_t i = 0; i < op->entry_count; i++) {
        struct mr_read_entry *entry = &op->entries[i];
        struct mr_data_rig_log *log = log_of(rig, entry->log_id);
        int64_t end = mr_data_rig_visible_end(rig, entry->log_id);
        uint32_t at = 0;
        rig->entries_read++;
        entry->err =
            entry->offset < 0 || entry->offset > log->end ? MR_ERR_OFFSET_OUT_OF_RANGE : MR_OK;
        entry->high_watermark = entry->last_stable_offset = end;
        entry->log_start_offset = 0;
        entry->span_first = op->span_count;
        while (entry->err == MR_OK && at < log->len) {
            struct mr_batch batch;
            mr_batch_header_load(log->bytes + at, &batch);
            uint32_t len = mr_batch_bytes(&batch);
            bool is_forced = is_first && entry->is_first_batch_whole && entry->bytes == 0;
            if (batch.base_offset >= end) {
                break;
            }
            if (mr_batch_last_offset(&batch) >= entry->offset) {
                if (!is_forced && (entry->bytes + len > entry->bytes_max || len > left)) {
                    break;
                }
                assert_true(op->span_count < op->span_max);
                op->spans[op->span_count++] = (struct mr_lent_span){
                    .span = {.data = log->bytes + at, .len = len}, .page = 1000 + rig->lent++};
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

static void storage_answer(struct mr_data_rig *rig, struct mr_storage_op *op)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_DONE, .u.op = op};
    mr_port_send(&rig->storage, 0, &msg);
}

void mr_data_rig_storage_release(struct mr_data_rig *rig, uint32_t index)
{
    assert_true(index < rig->held_count);
    struct mr_storage_op *op = rig->held[index];
    rig->held_count--;
    memmove(rig->held + index, rig->held + index + 1,
            (rig->held_count - index) * sizeof rig->held[0]);
    storage_answer(rig, op);
    see(rig, op);
}

static void do_delete_records(struct mr_data_rig *rig, struct mr_delete_records_op *op)
{
    for (uint32_t i = 0; i < op->entry_count; i++) {
        int64_t end = log_of(rig, op->entries[i].log_id)->end;
        int64_t to = op->entries[i].offset == -1 ? end : op->entries[i].offset;
        op->entries[i].err = to > end ? MR_ERR_OFFSET_OUT_OF_RANGE : MR_OK;
        op->entries[i].low_watermark = to;
    }
}

static void do_epoch_end(struct mr_data_rig *rig, struct mr_epoch_end_op *op)
{
    for (uint32_t i = 0; i < op->entry_count; i++) {
        bool is_fenced = op->entries[i].current_leader_epoch == 2;
        op->entries[i].err = is_fenced ? MR_ERR_FENCED_EPOCH : MR_OK;
        op->entries[i].end_epoch = op->entries[i].leader_epoch;
        op->entries[i].end_offset = log_of(rig, op->entries[i].log_id)->end;
    }
}

static void do_list_offsets(struct mr_data_rig *rig, struct mr_list_offsets_op *op)
{
    for (uint32_t i = 0; i < op->entry_count; i++) {
        int64_t end = mr_data_rig_visible_end(rig, op->entries[i].log_id);
        op->entries[i].err = MR_OK;
        op->entries[i].offset = op->entries[i].timestamp == -2 ? 0 : end;
        op->entries[i].leader_epoch = 3;
    }
}

/* Operations take effect in the order in which they come; only the answer may be late. */
static void storage_take(struct mr_data_rig *rig, struct mr_storage_op *op)
{
    rig->ops++;
    switch (op->kind) {
    case MR_STORAGE_APPEND:
        do_append(rig, (struct mr_append_op *)op);
        return;
    case MR_STORAGE_READ:
        do_read(rig, (struct mr_read_op *)op);
        return;
    case MR_STORAGE_LIST_OFFSETS:
        do_list_offsets(rig, (struct mr_list_offsets_op *)op);
        return;
    case MR_STORAGE_EPOCH_END:
        do_epoch_end(rig, (struct mr_epoch_end_op *)op);
        return;
    case MR_STORAGE_DELETE_RECORDS:
        do_delete_records(rig, (struct mr_delete_records_op *)op);
        return;
    case MR_STORAGE_RECOVER:
    case MR_STORAGE_OPEN:
    case MR_STORAGE_CONFIGURE:
    case MR_STORAGE_DROP:
    case MR_STORAGE_LOG_STAT:
    case MR_STORAGE_STOP:
    case MR_STORAGE_TXN_CHECK:
    case MR_STORAGE_PRODUCERS:
    case MR_STORAGE_MOVE:
    case MR_STORAGE_OFFLINE:
        fail_msg("not asked by a data core");
    }
}

static bool is_unacknowledged(const struct mr_storage_op *op)
{
    return op->kind == MR_STORAGE_APPEND && ((const struct mr_append_op *)op)->acks == 0;
}

void mr_data_rig_play_storage(struct mr_data_rig *rig)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(&rig->storage, &msg)) {
        switch (msg.kind) {
        case MR_PLANE_STORAGE_OP:
            storage_take(rig, msg.u.op);
            rig->held[rig->held_count++] = msg.u.op;
            if (!rig->is_storage_held || is_unacknowledged(msg.u.op)) {
                mr_data_rig_storage_release(rig, rig->held_count - 1);
            }
            assert_true(rig->held_count < MR_DATA_RIG_OPS);
            break;
        case MR_PLANE_RELEASE:
            rig->releases += msg.count;
            break;
        case MR_PLANE_WATCH: {
            uint32_t i = 0;
            while (rig->watches[i].is_live) {
                i++;
            }
            rig->watches[i] = (struct mr_data_rig_watch){.log_id = msg.u.watch.log_id,
                                                         .token = msg.u.watch.token,
                                                         .offset = msg.u.watch.offset,
                                                         .is_live = true};
            fire(rig, msg.u.watch.log_id);
            break;
        }
        case MR_PLANE_UNWATCH:
            rig->unwatches++;
            for (uint32_t i = 0; i < MR_DATA_RIG_WATCHES; i++) {
                if (rig->watches[i].token == msg.u.watch.token) {
                    rig->watches[i].is_live = false;
                }
            }
            break;
        default:
            fail();
        }
    }
}

static void play_control(struct mr_data_rig *rig)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(&rig->control, &msg)) {
        switch (msg.kind) {
        case MR_PLANE_REQUEST:
            rig->forwards[rig->forward_count++] = msg.u.forward;
            break;
        case MR_PLANE_REPLY_DONE:
            rig->reply_dones++;
            break;
        case MR_PLANE_CONN_CLOSED:
            rig->conn_closes++;
            break;
        case MR_PLANE_IMAGE_DONE:
            rig->image_dones++;
            break;
        case MR_PLANE_DRAINED:
            rig->drained++;
            break;
        case MR_PLANE_LISTENING:
            assert_int_equal(msg.u.err, MR_OK);
            break;
        default:
            fail();
        }
    }
}

uint32_t mr_data_rig_live_watches(const struct mr_data_rig *rig)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MR_DATA_RIG_WATCHES; i++) {
        count += rig->watches[i].is_live;
    }
    return count;
}

/* Everybody takes turns until nothing moves. */
void mr_data_rig_run(struct mr_data_rig *rig)
{
    for (int quiet = 0; quiet < 3;) {
        uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
        bool is_work = mr_data_core_turn(rig->core, rig->now);
        is_work |= mr_port_flush(&rig->data, woken);
        mr_data_rig_play_storage(rig);
        play_control(rig);
        is_work |= mr_port_flush(&rig->storage, woken);
        is_work |= mr_port_flush(&rig->control, woken);
        quiet = is_work || mr_sim_net_has_work(rig->net) ? 0 : quiet + 1;
    }
}

void mr_data_rig_pass_ms(struct mr_data_rig *rig, uint64_t ms)
{
    rig->now.mono_ns += ms * MR_NS_PER_MS;
    rig->now.unix_ms += (int64_t)ms;
    mr_data_rig_run(rig);
}

void mr_data_rig_reply(struct mr_data_rig *rig, struct mr_forward *forward)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_REPLY, .u.forward = forward};
    mr_port_send(&rig->control, 0, &msg);
}

void mr_data_rig_send_image(struct mr_data_rig *rig)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_IMAGE};
    rig->image.version++;
    msg.u.image.image = &rig->image;
    msg.u.image.version = rig->image.version;
    mr_port_send(&rig->control, 0, &msg);
    mr_data_rig_run(rig);
}

struct mr_data_rig *mr_data_rig_create(void)
{
    return mr_data_rig_create_with(NULL);
}

struct mr_data_rig *mr_data_rig_create_with(void (*adjust)(struct mr_data_rig *))
{
    struct mr_data_rig *rig = mr_test_memory(sizeof *rig);
    mr_arena_init(&rig->arena, mr_test_memory(1ull << 31), 1ull << 31);
    rig->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    struct mr_port *ports[] = {&rig->data, &rig->storage, &rig->control};
    for (uint32_t i = 0; i < 3; i++) {
        ports[i]->self = i;
        ports[i]->endpoint_count = 3;
    }
    mr_port_connect(&rig->data, &rig->storage, &rig->arena, 256, 4096);
    mr_port_connect(&rig->storage, &rig->data, &rig->arena, 256, 4096);
    mr_port_connect(&rig->data, &rig->control, &rig->arena, 256, 4096);
    mr_port_connect(&rig->control, &rig->data, &rig->arena, 256, 4096);
    rig->net = mr_sim_net_create(7);
    mr_log_init(&rig->log, &rig->arena, 256, "data");
    rig->config.connections_max_idle_ms = 600000;
    rig->config.max_connections = INT32_MAX;
    rig->config.max_connections_per_ip = 3;
    rig->config.max_connection_creation_rate = INT32_MAX;
    rig->config.millrace_connections_unproven_per_ip = 2;
    rig->config.millrace_trusted_networks = MR_STR("10.9.0.0/16");
    rig->config.fetch_max_bytes = 57671680;
    rig->config.max_request_partition_size_limit = 2000;
    rig->plan = (struct mr_data_plan){.connections_max = 64,
                                      .requests_max = 128,
                                      .request_scratch_bytes = 65536,
                                      .receive_bytes = 4u << 20,
                                      .fetch_sessions_max = 4,
                                      .fetch_partitions_max = 64,
                                      .frame_bytes_max = 1u << 20};
    rig->now = (struct mr_now){.mono_ns = 1000 * MR_NS_PER_S, .unix_ms = 1700000000000};
    rig->log_count = MR_DATA_RIG_LOGS;
    if (adjust != NULL) {
        adjust(rig);
    }
    const struct mr_data_params params = {.plan = &rig->plan,
                                          .config = &rig->config,
                                          .endpoints = &rig->endpoints,
                                          .port = &rig->data,
                                          .transport = mr_sim_net_transport(rig->net),
                                          .log = &rig->log,
                                          .arena = &rig->arena,
                                          .seed = 1};
    rig->core = mr_data_core_init(&params);
    for (uint32_t i = 0; i < rig->log_count; i++) {
        rig->logs[i].bytes = mr_test_memory(LOG_BYTES);
        rig->partitions[i] = (struct mr_image_partition){.leader = 1,
                                                         .leader_epoch = 3,
                                                         .replica_count = 1,
                                                         .isr_count = 1,
                                                         .replicas = rig->nodes,
                                                         .isr = rig->nodes,
                                                         .log_id = i + 1};
    }
    rig->nodes[0] = 1;
    rig->topic = (struct mr_image_topic){.name = MR_STR("t"),
                                         .id = {{1, 2, 3}},
                                         .partition_count = rig->log_count,
                                         .partitions = rig->partitions};
    rig->topic.config = (struct mr_log_config){.segment_bytes = 1 << 30,
                                               .max_message_bytes = 1 << 20,
                                               .timestamp_before_max_ms = INT64_MAX,
                                               .timestamp_after_max_ms = 3600000,
                                               .min_insync_replicas = 1,
                                               .compression_type = -1,
                                               .is_cleanup_delete = true};
    rig->topics[0] = &rig->topic;
    rig->broker = (struct mr_image_broker){
        .id = 1, .host = MR_STR("localhost"), .port = 9092, .rack = MR_STR_NULL};
    rig->image = (struct mr_image){.cluster_id = MR_STR("cluster"),
                                   .node_id = 1,
                                   .controller_id = 1,
                                   .broker_count = 1,
                                   .brokers = &rig->broker,
                                   .topic_count = 1,
                                   .topics = rig->topics,
                                   .topics_by_id = rig->topics,
                                   .is_auto_create = true};
    mr_data_rig_send_image(rig);
    struct mr_plane_msg msg = {.kind = MR_PLANE_LISTEN};
    mr_port_send(&rig->control, 0, &msg);
    mr_data_rig_run(rig);
    assert_int_equal(rig->image_dones, 1);
    return rig;
}

void mr_data_rig_destroy(struct mr_data_rig *rig)
{
    mr_sim_net_destroy(rig->net);
}

void mr_data_rig_ask(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t correlation,
                     const void *in)
{
    uint32_t len;
    const uint8_t *bytes = mr_wire_request(key, version, correlation, in, &len);
    mr_sim_peer_send(peer, bytes, len);
}

bool mr_data_rig_answer(struct mr_data_rig *rig, struct mr_sim_peer *peer, int16_t key,
                        int16_t version, int32_t *correlation, void *out)
{
    mr_data_rig_run(rig);
    bool is_there = mr_wire_answer(peer, key, version, correlation, out);
    mr_data_rig_run(rig); /* what was lent for it goes back */
    return is_there;
}

void mr_data_rig_produce_to(struct mr_data_rig *rig, struct mr_sim_peer *peer, int32_t correlation,
                            int16_t acks, struct mr_str topic, int32_t partition, uint32_t records,
                            uint32_t value_bytes)
{
    struct mr_chain batch = mr_wire_batch(records, value_bytes, rig->now.unix_ms);
    uint32_t len;
    const uint8_t *bytes = mr_wire_produce(correlation, acks, topic, partition, batch, &len);
    mr_sim_peer_send(peer, bytes, len);
}

void mr_data_rig_produce(struct mr_data_rig *rig, struct mr_sim_peer *peer, int32_t correlation,
                         int32_t partition)
{
    mr_data_rig_produce_to(rig, peer, correlation, -1, MR_STR("t"), partition, 1, 10);
}

void mr_data_rig_fetch(struct mr_sim_peer *peer, int32_t correlation, struct mr_data_rig_fetch ask)
{
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topic;
    struct mr_fetch_request_fetch_partition partitions[MR_DATA_RIG_LOGS_MAX];
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    for (uint32_t i = 0; i < ask.count; i++) {
        MR_DEFAULTS(fetch_request_fetch_partition, &partitions[i]);
        partitions[i].partition = (int32_t)(ask.first + i);
        partitions[i].fetch_offset = ask.offset;
        partitions[i].partition_max_bytes = 1 << 20;
    }
    topic.topic = MR_STR("t");
    topic.partitions = partitions;
    topic.partitions_count = (int32_t)ask.count;
    in.topics = &topic;
    in.topics_count = ask.count > 0;
    in.max_wait_ms = ask.max_wait_ms;
    in.min_bytes = ask.min_bytes;
    in.max_bytes = ask.max_bytes == 0 ? 1 << 20 : ask.max_bytes;
    in.session_id = ask.session_id;
    in.session_epoch = ask.session_epoch;
    mr_data_rig_ask(peer, 1, 12, correlation, &in);
}

struct mr_sim_peer *mr_data_rig_join(struct mr_data_rig *rig)
{
    struct mr_sim_peer *peer = mr_sim_net_connect(rig->net, NULL);
    assert_non_null(peer);
    return peer;
}
