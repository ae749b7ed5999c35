#include "core_rig.h"

#include "test.h"

#include "millrace/base/fmt.h"

#include <sys/mman.h>

#define TURNS_MAX   200000u /* an answer that takes longer never comes */
#define RING_SLOTS  64u
#define SPILL_SLOTS 4096u
#define SPANS_MAX   64u

const char mr_core_rig_properties[] = "#\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
                                      "node.id=1\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";

static void defaults(struct mr_core_rig *rig)
{
    *rig = (struct mr_core_rig){
        .plan = {.logs_max = 64,
                 .cache_bytes = 16u << 20,
                 .cold_bytes = 4u << 20,
                 .journal_file_bytes = 1u << 20,
                 .journal_files_max = 4,
                 .producers_max = 64,
                 .disk_reserve_bytes = 1u << 20,
                 .segments_max = 1024,
                 .retention_check_ms = 300000,
                 .first_check_ms = 30000,
                 .producer_check_ms = 600000},
        .config = {.segment_bytes = 1 << 20,
                   .segment_ms = 604800000,
                   .segment_index_bytes = 10 << 20,
                   .index_interval_bytes = 4096,
                   .retention_ms = -1,
                   .retention_bytes = -1,
                   .file_delete_delay_ms = 60000,
                   .producer_expiration_ms = 86400000,
                   .max_message_bytes = 1 << 20,
                   .timestamp_before_max_ms = INT64_MAX,
                   .timestamp_after_max_ms = INT64_MAX,
                   .max_compaction_lag_ms = INT64_MAX,
                   .min_insync_replicas = 1,
                   .compression_type = -1,
                   .is_cleanup_delete = true},
        .endpoints = {.data_count = 1, .storage_count = 1},
        .now = {.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000},
        .bytes = mr_test_memory(MR_CORE_RIG_BATCH),
        .log_dir = "/data",
    };
}

void mr_core_rig_init(struct mr_core_rig *rig)
{
    defaults(rig);
    rig->fs = mr_sim_fs_create(1);
    mr_sim_fs_put(rig->fs, "/data/meta.properties", mr_core_rig_properties, strlen(mr_core_rig_properties));
}

void mr_core_rig_init_on(struct mr_core_rig *rig, struct mr_disk *disk, const char *log_dir)
{
    defaults(rig);
    rig->disk = disk;
    rig->log_dir = log_dir;
}

/* The core is gone; its simulated disk too. */
static void end(struct mr_core_rig *rig)
{
    if (rig->fs != NULL) {
        mr_sim_disk_destroy(rig->disk);
        rig->disk = NULL;
    }
    munmap(rig->memory, rig->memory_bytes);
    rig->memory = NULL;
    rig->core = NULL;
}

void mr_core_rig_kill(struct mr_core_rig *rig)
{
    if (rig->memory == NULL) {
        return;
    }
    end(rig);
    if (rig->fs != NULL) {
        mr_sim_fs_process_kill(rig->fs, rig->now.mono_ns);
    }
}

void mr_core_rig_cut(struct mr_core_rig *rig, enum mr_sim_cut cut, uint64_t seed)
{
    end(rig);
    mr_sim_fs_power_cut(rig->fs, cut, seed);
}

void mr_core_rig_deinit(struct mr_core_rig *rig)
{
    mr_core_rig_kill(rig);
    if (rig->fs != NULL) {
        mr_sim_fs_destroy(rig->fs);
    }
}

enum mr_err mr_core_rig_start(struct mr_core_rig *rig)
{
    rig->memory_bytes = mr_storage_core_bytes(&rig->plan) + 9 * (size_t)(SPILL_SLOTS + RING_SLOTS) * 64 + (4u << 20);
    rig->memory = mmap(NULL, rig->memory_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(rig->memory, MAP_FAILED);
    mr_arena_init(&rig->arena, rig->memory, rig->memory_bytes);
    mr_log_init(&rig->log, &rig->arena, 256, "rig");
    for (uint32_t index = 0; index < 3; index++) {
        rig->ports[index] = mr_arena_get(&rig->arena, sizeof(struct mr_port), 64);
        rig->ports[index]->self = index;
        rig->ports[index]->endpoint_count = 3;
    }
    for (uint32_t other = 0; other < 3; other += 2) {
        mr_port_connect(rig->ports[other], rig->ports[1], &rig->arena, RING_SLOTS, SPILL_SLOTS);
        mr_port_connect(rig->ports[1], rig->ports[other], &rig->arena, RING_SLOTS, SPILL_SLOTS);
    }
    if (rig->fs != NULL) {
        rig->disk = mr_sim_disk_create(rig->fs);
    }
    struct mr_storage_params params = {
        .plan = &rig->plan,
        .endpoints = &rig->endpoints,
        .port = rig->ports[1],
        .disk = rig->disk,
        .log = &rig->log,
        .arena = &rig->arena,
        .log_dir = rig->log_dir,
        .node_id = 1,
        .seed = rig->now.mono_ns + rig->lives++, /* what a journal draws is never drawn again */
    };
    rig->core = mr_storage_core_init(&params);
    rig->answers = 0;
    rig->offlines = 0;
    rig->answered = NULL;
    struct mr_recover_op recover = {.op.kind = MR_STORAGE_RECOVER};
    return mr_core_rig_do(rig, &recover.op);
}

static void take_log(struct mr_core_rig *rig)
{
    const struct mr_log_line *line;
    while ((line = mr_log_out(&rig->log)) != NULL) {
        if (rig->is_log_shown) {
            fprintf(stderr, "%llu ms: %.*s\n", (unsigned long long)(rig->now.mono_ns / MR_NS_PER_MS),
                    (int)line->len, line->text);
        }
        if (line->level == MR_LOG_ERROR) {
            memcpy(rig->error_before, rig->last_error, sizeof rig->error_before);
            mr_fmt(rig->last_error, sizeof rig->last_error, "%.*s", (int)line->len, line->text);
        }
        if (line->level == MR_LOG_WARN) {
            mr_fmt(rig->last_warning, sizeof rig->last_warning, "%.*s", (int)line->len, line->text);
        }
        mr_log_retire(&rig->log);
    }
}

static void take_mail(struct mr_core_rig *rig, struct mr_port *port)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(port, &msg)) {
        switch (msg.kind) {
        case MR_PLANE_STORAGE_DONE:
            rig->answered = msg.u.op;
            rig->answers++;
            break;
        case MR_PLANE_MOVED:
            rig->moved += msg.count;
            rig->moved_to = msg.u.moved[msg.count - 1].high_watermark;
            break;
        case MR_PLANE_OFFLINE:
            rig->offlines++;
            break;
        default:
            fail_msg("the storage core sent a message that it never sends: %u", msg.kind);
        }
    }
}

static void publish(struct mr_port *port)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    (void)mr_port_flush(port, woken);
}

bool mr_core_rig_turn(struct mr_core_rig *rig)
{
    publish(rig->ports[MR_CORE_RIG_DATA]);
    publish(rig->ports[MR_CORE_RIG_CONTROL]);
    bool is_busy = mr_storage_core_turn(rig->core, rig->now);
    publish(rig->ports[MR_CORE_RIG_STORAGE]);
    take_mail(rig, rig->ports[MR_CORE_RIG_DATA]);
    take_mail(rig, rig->ports[MR_CORE_RIG_CONTROL]);
    take_log(rig);
    return is_busy;
}

/* One turn, and where it found nothing to do, a completion or the next deadline within `until_ns`. */
static bool step(struct mr_core_rig *rig, uint64_t until_ns)
{
    if (mr_core_rig_turn(rig)) {
        return true;
    }
    uint64_t at = mr_storage_core_deadline_ns(rig->core);
    if (rig->disk->in_flight > 0) {
        rig->disk->ops->wait(rig->disk);
        return true;
    }
    if (at > until_ns) {
        return false;
    }
    if (at > rig->now.mono_ns) {
        rig->now.unix_ms += (int64_t)((at - rig->now.mono_ns) / MR_NS_PER_MS);
        rig->now.mono_ns = at;
    }
    return true;
}

void mr_core_rig_settle(struct mr_core_rig *rig)
{
    uint32_t turns = 0;
    while (step(rig, rig->now.mono_ns)) {
        assert_true(++turns < TURNS_MAX);
    }
}

void mr_core_rig_advance(struct mr_core_rig *rig, int64_t ms)
{
    uint64_t until_ns = rig->now.mono_ns + (uint64_t)ms * MR_NS_PER_MS;
    int64_t  unix_ms = rig->now.unix_ms + ms;
    uint32_t turns = 0;
    while (step(rig, until_ns)) {
        assert_true(++turns < TURNS_MAX);
    }
    rig->now.mono_ns = until_ns;
    rig->now.unix_ms = unix_ms;
    mr_core_rig_settle(rig);
}

void mr_core_rig_send(struct mr_core_rig *rig, uint32_t endpoint, struct mr_storage_op *op)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = op};
    mr_list_init(&op->link);
    mr_port_send(rig->ports[endpoint], MR_CORE_RIG_STORAGE, &msg);
}

enum mr_err mr_core_rig_do(struct mr_core_rig *rig, struct mr_storage_op *op)
{
    uint32_t turns = 0;
    rig->answered = NULL;
    mr_core_rig_send(rig, MR_CORE_RIG_CONTROL, op);
    while (rig->answered != op) {
        (void)step(rig, MR_NEVER - 1);
        assert_true(++turns < TURNS_MAX);
    }
    return op->err;
}

void mr_core_rig_release(struct mr_core_rig *rig, uint64_t page)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_RELEASE, .count = 1, .u.pages = {page}};
    mr_port_send(rig->ports[MR_CORE_RIG_DATA], MR_CORE_RIG_STORAGE, &msg);
}

enum mr_err mr_core_rig_stop(struct mr_core_rig *rig)
{
    struct mr_stop_op stop = {.op.kind = MR_STORAGE_STOP, .is_last = true, .broker_epoch = 1};
    return mr_core_rig_do(rig, &stop.op);
}

uint64_t mr_core_rig_open(struct mr_core_rig *rig, const char *topic, int32_t partition, bool is_internal)
{
    struct mr_open_op open = {.op.kind = MR_STORAGE_OPEN,
                              .topic = mr_str(topic),
                              .partition = partition,
                              .leader_epoch = 0,
                              .config = &rig->config,
                              .is_internal = is_internal};
    memset(open.topic_id.bytes, 0x55, sizeof open.topic_id.bytes);
    open.topic_id.bytes[0] = (uint8_t)topic[0];
    assert_int_equal(mr_core_rig_do(rig, &open.op), MR_OK);
    return open.log_id;
}

enum mr_err mr_core_rig_configure(struct mr_core_rig *rig, uint64_t log_id)
{
    struct mr_configure_op op = {.op.kind = MR_STORAGE_CONFIGURE,
                                 .log_id = log_id,
                                 .config = &rig->config,
                                 .leader_epoch = -1};
    return mr_core_rig_do(rig, &op.op);
}

enum mr_err mr_core_rig_drop(struct mr_core_rig *rig, uint64_t log_id)
{
    struct mr_drop_op op = {.op.kind = MR_STORAGE_DROP, .log_id = log_id};
    return mr_core_rig_do(rig, &op.op);
}

uint32_t mr_core_rig_batch(struct mr_core_rig *rig, uint32_t count, uint32_t value_bytes, int64_t timestamp)
{
    struct mr_batch_builder builder;
    static uint8_t          value[MR_CORE_RIG_BATCH];
    memset(value, (int)('a' + count % 26), value_bytes);
    mr_batch_begin(&builder, rig->bytes, MR_CORE_RIG_BATCH, 0, 0);
    for (uint32_t index = 0; index < count; index++) {
        assert_true(mr_batch_add(&builder, timestamp + index, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)value_bytes}));
    }
    return mr_batch_end(&builder);
}

enum mr_err mr_core_rig_append(struct mr_core_rig *rig, uint64_t log_id, uint32_t count, uint32_t value_bytes,
                               int64_t timestamp, int64_t *offset)
{
    struct mr_span         span = {.data = rig->bytes,
                                   .len = mr_core_rig_batch(rig, count, value_bytes, timestamp)};
    struct mr_append_entry entry = {.log_id = log_id,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = span.len},
                                    .leader_epoch = -1};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(rig, &op.op);
    if (offset != NULL) {
        *offset = entry.base_offset;
    }
    return entry.err;
}

enum mr_err mr_core_rig_read(struct mr_core_rig *rig, uint64_t log_id, int64_t offset, uint32_t max, uint8_t *to,
                             uint32_t *bytes)
{
    static uint8_t       copy[65536];
    struct mr_lent_span  spans[SPANS_MAX];
    struct mr_read_entry entry = {.log_id = log_id, .offset = offset, .bytes_max = max, .current_leader_epoch = -1,
                                  .is_first_batch_whole = true};
    struct mr_read_op    op = {.op.kind = MR_STORAGE_READ, .bytes_max = max, .entry_count = 1, .entries = &entry,
                               .spans = spans, .span_max = SPANS_MAX, .copy_buffer = copy, .copy_max = sizeof copy};
    uint32_t             got = 0;
    (void)mr_core_rig_do(rig, &op.op);
    for (uint32_t index = 0; index < op.span_count; index++) {
        uint32_t part = got >= max ? 0 : spans[index].span.len < max - got ? spans[index].span.len : max - got;
        if (to != NULL) {
            memcpy(to + got, spans[index].span.data, part);
        }
        got += part;
        if (spans[index].page != MR_PAGE_NONE) {
            mr_core_rig_release(rig, spans[index].page);
        }
    }
    (void)mr_core_rig_turn(rig);
    *bytes = entry.bytes;
    return entry.err;
}

struct mr_list_offsets_entry mr_core_rig_list(struct mr_core_rig *rig, uint64_t log_id, int64_t timestamp)
{
    struct mr_list_offsets_entry entry = {.log_id = log_id, .timestamp = timestamp, .current_leader_epoch = -1};
    struct mr_list_offsets_op    op = {.op.kind = MR_STORAGE_LIST_OFFSETS, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(rig, &op.op);
    return entry;
}

enum mr_err mr_core_rig_delete_records(struct mr_core_rig *rig, uint64_t log_id, int64_t offset)
{
    struct mr_delete_records_entry entry = {.log_id = log_id, .offset = offset};
    struct mr_delete_records_op    op = {.op.kind = MR_STORAGE_DELETE_RECORDS, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(rig, &op.op);
    return entry.err;
}

struct mr_log_stat_entry mr_core_rig_stat(struct mr_core_rig *rig, uint64_t log_id, uint64_t *free_bytes)
{
    struct mr_log_stat_entry entry = {.log_id = log_id};
    struct mr_log_stat_op    op = {.op.kind = MR_STORAGE_LOG_STAT, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(rig, &op.op);
    if (free_bytes != NULL) {
        *free_bytes = op.space_free_bytes;
    }
    return entry;
}

int64_t mr_core_rig_file(const struct mr_core_rig *rig, const char *name)
{
    char path[400];
    mr_fmt(path, sizeof path, "%s/%s", rig->log_dir, name);
    return mr_sim_fs_get(rig->fs, path, NULL, 0);
}
