#include "storage_rig.h"

#include "millrace/base/fmt.h"
#include "test.h"

#define SHARED_BYTES (16u << 20)
#define CORE_BYTES   (192u << 20)
#define RING_SLOTS 1024
#define TURNS_MAX  2000000

static const char meta[] = "#\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
                           "node.id=1\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";
static uint8_t *memory; /* of one rig at a time */

void rig_init(struct storage_rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->fs = mr_sim_fs_create(7);
    rig->core_count = 1;
    rig->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    rig->seed = 11;
    rig->plan = (struct mr_storage_plan){
        .logs_max = 64,
        .cache_bytes = 32u << 20,
        .cold_bytes = 4u << 20,
        .journal_file_bytes = 1u << 20,
        .journal_files_max = 4,
        .producers_max = 4096,
        .disk_reserve_bytes = 1u << 20,
        .segments_max = 4096,
    };
    rig->config = (struct mr_log_config){
        .segment_bytes = 64 << 10,
        .segment_ms = INT64_MAX,
        .segment_index_bytes = 10 << 20,
        .index_interval_bytes = 4096,
        .retention_ms = -1,
        .retention_bytes = -1,
        .max_message_bytes = 8 << 20,
        .producer_expiration_ms = INT64_MAX,
        .max_compaction_lag_ms = INT64_MAX,
        .min_insync_replicas = 1,
        .compression_type = -1,
        .is_cleanup_delete = true,
    };
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/meta.properties", meta, sizeof meta - 1);
    memory = memory == NULL ? mr_test_memory(SHARED_BYTES + RIG_CORES_MAX * CORE_BYTES) : memory;
}

void rig_deinit(struct storage_rig *rig)
{
    if (rig->disks[0] != NULL) {
        rig_kill(rig);
    }
    mr_sim_fs_destroy(rig->fs);
}

int rig_setup(void **state)
{
    static struct storage_rig rig;
    rig_init(&rig);
    *state = &rig;
    return 0;
}

int rig_teardown(void **state)
{
    rig_deinit(*state);
    return 0;
}

/* ---- Turns ---- */

static void flush(struct mr_port *port)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    (void)mr_port_flush(port, woken);
}

/* What control would hear: that a directory is offline. */
static void forget_mail(struct mr_port *control)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(control, &msg)) {
    }
}

bool rig_turn(struct storage_rig *rig)
{
    bool is_busy = false;
    rig->now.mono_ns += 1000;
    mr_sim_fs_set_clock(rig->fs, rig->now.mono_ns);
    for (uint32_t core = 0; core < rig->core_count; core++) {
        is_busy |= mr_storage_core_turn(rig->cores[core], rig->now);
        flush(rig->ports[1 + core]);
        forget_mail(rig->ports[1 + rig->core_count]);
        is_busy |= rig->disks[core]->in_flight > 0;
    }
    const struct mr_log_line *line;
    while ((line = mr_log_out(&rig->log)) != NULL) {
        if (getenv("RIG_VERBOSE") != NULL) {
            fprintf(stderr, "%.*s\n", (int)line->len, line->text);
        }
        mr_log_retire(&rig->log);
    }
    return is_busy;
}

void rig_settle(struct storage_rig *rig)
{
    for (uint32_t turns = 0, idle = 0; idle < 4; turns++) {
        assert_true(turns < TURNS_MAX);
        idle = rig_turn(rig) ? 0 : idle + 1;
    }
}

void rig_send(struct storage_rig *rig, uint32_t core, struct mr_storage_op *op)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = op};
    op->pending = 0;
    op->user = NULL;
    mr_port_send(rig->ports[0], mr_endpoint_storage(&rig->endpoints, core), &msg);
    flush(rig->ports[0]);
}

void rig_wait(struct storage_rig *rig, const struct mr_storage_op *op)
{
    for (uint32_t turns = 0;; turns++) {
        struct mr_plane_msg msg;
        assert_true(turns < TURNS_MAX);
        (void)rig_turn(rig);
        while (mr_port_receive(rig->ports[0], &msg)) {
            if (msg.kind == MR_PLANE_STORAGE_DONE && msg.u.op == op) {
                return;
            }
        }
    }
}

static enum mr_err ask(struct storage_rig *rig, uint32_t core, struct mr_storage_op *op)
{
    rig_send(rig, core, op);
    rig_wait(rig, op);
    return op->err;
}

/* ---- A life ---- */

static void make_core(struct storage_rig *rig, uint32_t core)
{
    rig->disks[core] = mr_sim_disk_create(rig->fs);
    mr_arena_init(&rig->core_arenas[core], memory + SHARED_BYTES + (size_t)core * CORE_BYTES, CORE_BYTES);
    const struct mr_storage_params params = {
        .plan = &rig->plan,
        .endpoints = &rig->endpoints,
        .core = core,
        .port = rig->ports[1 + core],
        .disk = rig->disks[core],
        .log = &rig->log,
        .arena = &rig->core_arenas[core],
        .log_dir = RIG_LOG_DIR,
        .node_id = 1,
        .seed = mr_hash_u64(rig->seed++),
        .stop_hurry = &rig->hurry,
    };
    rig->cores[core] = mr_storage_core_init(&params);
}

enum mr_err rig_start(struct storage_rig *rig)
{
    uint32_t endpoint_count = rig->core_count + 2;
    rig->hurry = 0;
    rig->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = rig->core_count};
    mr_test_memory_fresh(memory, SHARED_BYTES + rig->core_count * CORE_BYTES);
    mr_arena_init(&rig->arena, memory, SHARED_BYTES);
    mr_log_init(&rig->log, &rig->arena, 256, "rig");
    for (uint32_t index = 0; index < endpoint_count; index++) {
        rig->ports[index] = mr_arena_get(&rig->arena, sizeof(struct mr_port), 64);
        rig->ports[index]->self = index;
        rig->ports[index]->endpoint_count = endpoint_count;
    }
    for (uint32_t core = 0; core < rig->core_count; core++) {
        mr_port_connect(rig->ports[0], rig->ports[1 + core], &rig->arena, RING_SLOTS, RING_SLOTS);
        mr_port_connect(rig->ports[1 + core], rig->ports[0], &rig->arena, RING_SLOTS, RING_SLOTS);
        mr_port_connect(rig->ports[1 + core], rig->ports[1 + rig->core_count], &rig->arena, RING_SLOTS, RING_SLOTS);
        make_core(rig, core);
    }
    rig->recovered = (struct mr_recover_op){.op.kind = MR_STORAGE_RECOVER};
    enum mr_err err = ask(rig, 0, &rig->recovered.op);
    for (uint32_t core = 1; core < rig->core_count && err == MR_OK; core++) {
        struct mr_recover_op join = {.op.kind = MR_STORAGE_RECOVER, .found_by = rig->recovered.found_by};
        err = ask(rig, core, &join.op);
    }
    return err;
}

static void end(struct storage_rig *rig)
{
    for (uint32_t core = 0; core < rig->core_count; core++) {
        mr_sim_disk_destroy(rig->disks[core]);
        rig->disks[core] = NULL;
    }
}

enum mr_err rig_stop(struct storage_rig *rig)
{
    enum mr_err err = MR_OK;
    for (uint32_t core = rig->core_count; core-- > 0 && err == MR_OK;) {
        struct mr_stop_op stop = {.op.kind = MR_STORAGE_STOP, .is_last = core == 0, .broker_epoch = 5};
        err = ask(rig, core, &stop.op);
    }
    end(rig);
    return err;
}

void rig_kill(struct storage_rig *rig)
{
    end(rig);
    mr_sim_fs_process_kill(rig->fs, rig->seed++);
}

void rig_cut(struct storage_rig *rig, enum mr_sim_cut cut)
{
    end(rig);
    mr_sim_fs_power_cut(rig->fs, cut, rig->seed++);
}

/* ---- Operations ---- */

enum mr_err rig_open(struct storage_rig *rig, const char *topic, int32_t partition, struct rig_log *log)
{
    struct mr_open_op op = {.op.kind = MR_STORAGE_OPEN,
                            .topic = mr_str(topic),
                            .partition = partition,
                            .leader_epoch = 3,
                            .config = &rig->config};
    mr_fmt((char *)op.topic_id.bytes, sizeof op.topic_id.bytes, "%s", topic);
    log->core = mr_storage_owner(op.topic, partition, rig->core_count);
    enum mr_err err = ask(rig, log->core, &op.op);
    log->log_id = op.log_id;
    log->start = op.log_start_offset;
    log->end = op.log_end_offset;
    log->is_created = op.is_created;
    return err;
}

uint32_t rig_batch_bytes(const struct rig_batch *batch, int64_t base_offset, uint8_t *out, uint32_t size)
{
    static uint8_t          value[1 << 20];
    struct mr_batch_builder builder;
    assert_true(batch->bytes <= sizeof value);
    mr_batch_begin(&builder, out, size, base_offset, 0);
    for (uint32_t record = 0; record < batch->records; record++) {
        memset(value, (int)record + batch->sequence, batch->bytes);
        assert_true(mr_batch_add(&builder, batch->timestamp + record, (struct mr_blob){0},
                                 (struct mr_blob){.data = value, .len = (int32_t)batch->bytes}));
    }
    if (batch->producer_id >= 0) {
        builder.batch.producer_id = batch->producer_id;
        builder.batch.producer_epoch = 0;
        builder.batch.base_sequence = batch->sequence;
    }
    return mr_batch_end(&builder);
}

enum mr_err rig_try_append(struct storage_rig *rig, const struct rig_log *log, const struct rig_batch *batch,
                           struct mr_append_entry *entry)
{
    static uint8_t bytes[4 << 20];
    struct mr_span span = {.data = bytes, .len = rig_batch_bytes(batch, 0, bytes, sizeof bytes)};
    *entry = (struct mr_append_entry){.log_id = log->log_id,
                                      .batch = {.spans = &span, .span_count = 1, .bytes = span.len},
                                      .leader_epoch = -1};
    struct mr_append_op op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = entry};
    enum mr_err         err = ask(rig, log->core, &op.op);
    return err != MR_OK ? err : entry->err;
}

int64_t rig_append(struct storage_rig *rig, const struct rig_log *log, const struct rig_batch *batch)
{
    struct mr_append_entry entry;
    assert_int_equal(rig_try_append(rig, log, batch, &entry), MR_OK);
    return entry.base_offset;
}

void rig_fill(struct storage_rig *rig, const struct rig_log *log, uint32_t count, int64_t timestamp)
{
    struct rig_batch batch = {.records = 2, .bytes = 500, .producer_id = -1};
    for (uint32_t index = 0; index < count; index++) {
        batch.timestamp = timestamp + 2 * index;
        (void)rig_append(rig, log, &batch);
    }
}

int64_t rig_read(struct storage_rig *rig, const struct rig_log *log, int64_t offset)
{
    static uint8_t       copy[1 << 20];
    struct mr_lent_span  spans[64];
    struct mr_read_entry entry = {.log_id = log->log_id, .offset = offset, .bytes_max = 1, .current_leader_epoch = -1,
                                  .is_first_batch_whole = true};
    struct mr_read_op    op = {.op.kind = MR_STORAGE_READ, .bytes_max = 1, .entry_count = 1, .entries = &entry,
                               .spans = spans, .span_max = 64, .copy_buffer = copy, .copy_max = sizeof copy};
    assert_int_equal(ask(rig, log->core, &op.op), MR_OK);
    assert_int_equal(entry.err, MR_OK);
    int64_t             first = -1;
    struct mr_plane_msg release = {.kind = MR_PLANE_RELEASE};
    for (uint32_t index = 0; index < op.span_count; index++) {
        if (index == 0) {
            struct mr_batch batch;
            mr_batch_header_load(spans[0].span.data, &batch);
            first = batch.base_offset;
        }
        if (spans[index].page != MR_PAGE_NONE) {
            release.count = 1;
            release.u.pages[0] = spans[index].page;
            mr_port_send(rig->ports[0], mr_endpoint_storage(&rig->endpoints, log->core), &release);
        }
    }
    flush(rig->ports[0]);
    return first;
}

enum mr_err rig_delete_records(struct storage_rig *rig, const struct rig_log *log, int64_t offset)
{
    struct mr_delete_records_entry entry = {.log_id = log->log_id, .offset = offset};
    struct mr_delete_records_op    op = {
           .op.kind = MR_STORAGE_DELETE_RECORDS, .entry_count = 1, .entries = &entry};
    enum mr_err err = ask(rig, log->core, &op.op);
    return err != MR_OK ? err : entry.err;
}

void rig_list_offsets(struct storage_rig *rig, const struct rig_log *log, int64_t timestamp,
                      struct mr_list_offsets_entry *entry)
{
    *entry = (struct mr_list_offsets_entry){
        .log_id = log->log_id, .timestamp = timestamp, .current_leader_epoch = -1};
    struct mr_list_offsets_op op = {.op.kind = MR_STORAGE_LIST_OFFSETS, .entry_count = 1, .entries = entry};
    assert_int_equal(ask(rig, log->core, &op.op), MR_OK);
    assert_int_equal(entry->err, MR_OK);
}
