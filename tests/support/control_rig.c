#include "control_rig.h"

#include "config_table.h"
#include "control_private.h"
#include "millrace/batch.h"
#include "test.h"

#include <sys/mman.h>

#define MEMORY_BYTES ((size_t)256 << 20)

/* ---- coordinators: absent ---- */

__attribute__((weak)) bool mr_coord_init(struct mr_control *control)
{
    (void)control;
    return true;
}

__attribute__((weak)) void mr_coord_start(struct mr_control *control, struct mr_now now)
{
    (void)control;
    (void)now;
}

__attribute__((weak)) void mr_coord_image_changed(struct mr_control *control, struct mr_now now,
                                                  bool is_any_deleted)
{
    (void)control;
    (void)now;
    (void)is_any_deleted;
}

__attribute__((weak)) bool mr_coord_turn(struct mr_control *control, struct mr_now now)
{
    (void)control;
    (void)now;
    return false;
}

__attribute__((weak)) uint64_t mr_coord_deadline_ns(const struct mr_control *control)
{
    (void)control;
    return MR_NEVER;
}

__attribute__((weak)) void mr_coord_stop(struct mr_control *control, struct mr_now now)
{
    (void)control;
    (void)now;
}

/* ---- the store ---- */

struct mr_rig_store *mr_rig_store_create(void)
{
    struct mr_rig_store *store = calloc(1, sizeof *store);
    assert_non_null(store);
    store->fs = mr_sim_fs_create(1);
    store->next_id = 100;
    mr_sim_fs_put(store->fs, "/data/__cluster_metadata-0/partition.metadata", "x", 1);
    return store;
}

void mr_rig_store_destroy(struct mr_rig_store *store)
{
    for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
        free(store->logs[index].bytes);
    }
    mr_sim_fs_destroy(store->fs);
    free(store);
}

static struct mr_rig_log *log_by_id(struct mr_rig_store *store, uint64_t id)
{
    for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
        if (store->logs[index].is_used && store->logs[index].log_id == id &&
            store->logs[index].is_open) {
            return &store->logs[index];
        }
    }
    return NULL;
}

const struct mr_rig_log *mr_rig_log(const struct mr_rig_store *store, const char *topic,
                                    int32_t partition)
{
    for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
        const struct mr_rig_log *log = &store->logs[index];
        if (log->is_used && log->partition == partition && strcmp(log->topic, topic) == 0) {
            return log;
        }
    }
    return NULL;
}

const struct mr_rig_log *mr_rig_log_at(const struct mr_rig_store *store, const char *topic,
                                       int32_t partition, uint32_t core)
{
    for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
        const struct mr_rig_log *log = &store->logs[index];
        if (log->is_used && log->partition == partition && log->core == core && strcmp(log->topic, topic) == 0) {
            return log;
        }
    }
    return NULL;
}

static void store_open(struct mr_rig_store *store, uint32_t core, struct mr_open_op *op)
{
    struct mr_rig_log *log = NULL;
    char               name[MR_TOPIC_NAME_MAX + 1];
    assert_true(op->topic.len > 0 && op->topic.len <= MR_TOPIC_NAME_MAX);
    memcpy(name, op->topic.data, (size_t)op->topic.len);
    name[op->topic.len] = '\0';
    op->op.err = strcmp(name, "__cluster_metadata") == 0 ? MR_OK : store->open_err;
    op->op.err = store->is_offline[core] ? MR_ERR_DIR_OFFLINE : op->op.err;
    if (op->op.err != MR_OK) {
        return;
    }
    for (uint32_t index = 0; index < MR_RIG_LOGS && log == NULL; index++) {
        struct mr_rig_log *each = &store->logs[index];
        bool is_here = store->dir_count < 2 || each->core == core;
        if (each->is_used && is_here && each->partition == op->partition && strcmp(each->topic, name) == 0) {
            log = each;
        }
    }
    /* A directory of another topic of this name must be gone before. */
    if (log != NULL && !mr_uuid_equal(&log->topic_id, &op->topic_id)) {
        assert_true(store->has_stray);
        op->op.err = MR_ERR_EXISTS;
        return;
    }
    assert_true(log == NULL || !log->is_open);
    if (log == NULL && op->is_search) {
        op->op.err = MR_ERR_NOT_FOUND;
        return;
    }
    op->is_created = log == NULL;
    for (uint32_t index = 0; index < MR_RIG_LOGS && log == NULL; index++) {
        if (!store->logs[index].is_used) {
            log = &store->logs[index];
            *log = (struct mr_rig_log){.is_used = true, .log_id = store->next_id++};
            memcpy(log->topic, name, sizeof name);
            log->topic_id = op->topic_id;
            log->partition = op->partition;
            log->end_offset = op->start_offset;
            log->log_start = op->start_offset;
            log->is_unfinished = op->is_copy;
        }
    }
    assert_non_null(log);
    log->is_open = true;
    log->core = core;
    log->config = *op->config;
    log->leader_epoch = op->leader_epoch > log->leader_epoch ? op->leader_epoch : log->leader_epoch;
    op->log_id = log->log_id;
    op->log_start_offset = log->log_start;
    op->log_end_offset = log->end_offset;
    op->is_unfinished = log->is_unfinished;
}

static void store_append(struct mr_rig_store *store, uint32_t core, struct mr_append_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_append_entry *entry = &op->entries[index];
        struct mr_rig_log      *log = log_by_id(store, entry->log_id);
        struct mr_batch         batch;
        entry->err = store->append_err;
        if (log == NULL || log->core != core) {
            entry->err = MR_ERR_UNKNOWN_LOG;
        }
        bool is_copy = entry->origin == MR_APPEND_COPY;
        if (entry->err == MR_OK && log->is_held && !is_copy) {
            entry->err = MR_ERR_NOT_LEADER;
        }
        if (entry->err == MR_OK && store->refused_topic != NULL && strcmp(log->topic, store->refused_topic) == 0) {
            entry->err = MR_ERR_NOT_LEADER;
        }
        if (entry->err != MR_OK) {
            continue;
        }
        if (log->len + entry->batch.bytes > log->size) {
            log->size = (log->len + entry->batch.bytes) * 2;
            log->bytes = realloc(log->bytes, log->size);
            assert_non_null(log->bytes);
        }
        uint8_t *at = log->bytes + log->len;
        mr_chain_copy(&entry->batch, 0, at, entry->batch.bytes);
        mr_batch_header_load(at, &batch);
        assert_int_equal(mr_batch_bytes(&batch), entry->batch.bytes);
        assert_int_equal(mr_crc32c(0, at + 21, entry->batch.bytes - 21), batch.crc);
        assert_true(!is_copy || batch.base_offset >= log->end_offset);
        log->end_offset = is_copy ? batch.base_offset : log->end_offset;
        batch.base_offset = log->end_offset;
        mr_batch_header_store(&batch, at);
        entry->base_offset = log->end_offset;
        log->txn_version = entry->txn_version;
        log->end_offset += batch.last_offset_delta + 1;
        log->len += entry->batch.bytes;
    }
}

/* One batch a time: whoever reads must come again. */
static void store_read(struct mr_rig_store *store, struct mr_read_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_read_entry *entry = &op->entries[index];
        struct mr_rig_log    *log = log_by_id(store, entry->log_id);
        if (log == NULL) {
            entry->err = MR_ERR_UNKNOWN_LOG;
            continue;
        }
        entry->high_watermark = log->end_offset;
        entry->span_first = op->span_count;
        if (store->empty_reads > 0 && entry->offset == 2 && entry->offset < log->end_offset) {
            store->empty_reads--;
            continue;
        }
        for (size_t at = 0; at < log->len;) {
            struct mr_batch batch;
            mr_batch_header_load(log->bytes + at, &batch);
            if (mr_batch_last_offset(&batch) >= entry->offset) {
                entry->bytes = mr_batch_bytes(&batch);
                op->spans[op->span_count++] = (struct mr_lent_span){
                    .span = {.data = log->bytes + at, .len = 10}, .page = MR_PAGE_NONE};
                op->spans[op->span_count++] = (struct mr_lent_span){
                    .span = {.data = log->bytes + at + 10, .len = entry->bytes - 10}, .page = 7};
                entry->span_count = 2;
                break;
            }
            at += mr_batch_bytes(&batch);
        }
    }
}

/* MR_OK: *log goes, or, by its name, nothing is there. */
static enum mr_err log_to_drop(struct mr_rig_store *store, uint32_t core, const struct mr_drop_op *drop,
                               struct mr_rig_log **log)
{
    *log = drop->log_id == 0 ? NULL : log_by_id(store, drop->log_id);
    if (drop->log_id != 0) {
        return *log == NULL ? MR_ERR_UNKNOWN_LOG : MR_OK;
    }
    for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
        struct mr_rig_log *named = &store->logs[index];
        bool is_here = store->dir_count < 2 || named->core == core;
        if (named->is_used && is_here && named->partition == drop->partition && mr_str_equal(mr_str(named->topic), drop->topic)) {
            *log = mr_uuid_equal(&named->topic_id, &drop->topic_id) ? named : *log;
            return *log == NULL ? MR_ERR_EXISTS : MR_OK;
        }
    }
    return MR_OK;
}

static void store_other(struct mr_rig_store *store, uint32_t core, struct mr_storage_op *op)
{
    if (op->kind == MR_STORAGE_OFFLINE) {
        store->is_offline[core] = true;
    } else if (op->kind == MR_STORAGE_CONFIGURE) {
        struct mr_configure_op *configure = (struct mr_configure_op *)(void *)op;
        struct mr_rig_log      *log = log_by_id(store, configure->log_id);
        op->err = log == NULL ? MR_ERR_UNKNOWN_LOG : MR_OK;
        if (log != NULL) {
            log->config = *configure->config;
            log->configured++;
            if (configure->leader_epoch >= 0) {
                log->leader_epoch = configure->leader_epoch;
            }
        }
    } else if (op->kind == MR_STORAGE_DROP) {
        struct mr_drop_op *drop = (struct mr_drop_op *)(void *)op;
        struct mr_rig_log *log;
        op->err = log_to_drop(store, core, drop, &log);
        if (op->err == MR_OK && log != NULL) {
            free(log->bytes);
            memset(log, 0, sizeof *log);
            store->dropped++;
        }
    } else if (op->kind == MR_STORAGE_LOG_STAT) {
        struct mr_log_stat_op *stat = (struct mr_log_stat_op *)(void *)op;
        stat->space_total_bytes = 1000000;
        stat->space_free_bytes = 400000;
        for (uint32_t index = 0; index < stat->entry_count; index++) {
            struct mr_rig_log *log = log_by_id(store, stat->entries[index].log_id);
            stat->entries[index].err = log == NULL ? MR_ERR_UNKNOWN_LOG : MR_OK;
            if (log != NULL) {
                stat->entries[index].size_bytes = (int64_t)log->len;
                stat->entries[index].log_end_offset = log->end_offset;
                stat->entries[index].high_watermark = log->end_offset;
                stat->entries[index].log_start_offset = log->log_start;
            }
        }
    } else if (op->kind == MR_STORAGE_DELETE_RECORDS) {
        struct mr_delete_records_op *cut = (struct mr_delete_records_op *)(void *)op;
        for (uint32_t index = 0; index < cut->entry_count; index++) {
            struct mr_rig_log *log = log_by_id(store, cut->entries[index].log_id);
            assert_non_null(log);
            assert_true(log->config.is_cleanup_delete && cut->entries[index].offset <= log->end_offset);
            log->log_start = cut->entries[index].offset;
            cut->entries[index].low_watermark = log->log_start;
        }
    } else if (op->kind == MR_STORAGE_MOVE) {
        struct mr_move_op *move = (struct mr_move_op *)(void *)op;
        struct mr_rig_log *log = log_by_id(store, move->log_id);
        op->err = log == NULL ? MR_ERR_UNKNOWN_LOG : store->move_err[move->step];
        if (op->err == MR_OK) {
            log->is_held = move->step == MR_MOVE_HOLD || (log->is_held && move->step != MR_MOVE_RELEASE);
            log->is_unfinished &= move->step != MR_MOVE_SETTLE;
            log->log_start = move->step == MR_MOVE_START ? move->log_start_offset : log->log_start;
            move->log_start_offset = log->log_start;
            move->log_end_offset = log->end_offset;
        }
    } else if (op->kind == MR_STORAGE_STOP) {
        struct mr_stop_op *stop = (struct mr_stop_op *)(void *)op;
        store->stopped++;
        store->has_marker = stop->is_last;
        for (uint32_t index = 0; index < MR_RIG_LOGS && stop->is_last; index++) {
            store->logs[index].is_open = false;
        }
    } else {
        assert_int_equal(op->kind, MR_STORAGE_RECOVER);
        op->err = store->recover_err[core];
        store->is_offline[core] = false;
        store->stopped = 0;
        for (uint32_t index = 0; index < MR_RIG_LOGS; index++) {
            store->logs[index].is_open = false;
            store->logs[index].is_held = false;
        }
    }
}

/* ---- the cores ---- */

static void storage_answer(struct mr_rig *rig, uint32_t core, struct mr_storage_op *op)
{
    mr_port_send(&rig->storage_ports[core], mr_endpoint_control(&rig->endpoints),
                 &(struct mr_plane_msg){.kind = MR_PLANE_STORAGE_DONE, .u.op = op});
}

static void hold(struct mr_rig *rig, uint32_t core, struct mr_storage_op *op)
{
    rig->held[rig->held_count] = op;
    rig->held_core[rig->held_count++] = core;
}

static bool is_load(struct mr_rig_store *store, const struct mr_read_op *op)
{
    const struct mr_rig_log *log = log_by_id(store, op->entries[0].log_id);
    return log != NULL && strcmp(log->topic, "__consumer_offsets") == 0;
}

static bool storage_turn(struct mr_rig *rig, uint32_t core)
{
    struct mr_plane_msg msg;
    bool                is_any = false;
    while (mr_port_receive(&rig->storage_ports[core], &msg)) {
        is_any = true;
        if (msg.kind == MR_PLANE_RELEASE) {
            assert_true(msg.count > 0 && msg.u.pages[0] == 7);
            continue;
        }
        assert_int_equal(msg.kind, MR_PLANE_STORAGE_OP);
        struct mr_storage_op *op = msg.u.op;
        op->err = MR_OK;
        if (op->kind == MR_STORAGE_OPEN) {
            store_open(rig->store, core, (struct mr_open_op *)(void *)op);
            if (rig->store->is_holding_opens) {
                hold(rig, core, op);
                continue;
            }
        } else if (op->kind == MR_STORAGE_APPEND) {
            assert_int_equal(rig->store->stopped, 0); /* nothing is written behind a stop */
            store_append(rig->store, core, (struct mr_append_op *)(void *)op);
            if (rig->store->is_holding) {
                hold(rig, core, op);
                continue;
            }
        } else if (op->kind == MR_STORAGE_READ) {
            store_read(rig->store, (struct mr_read_op *)(void *)op);
            if (rig->store->is_holding_loads && is_load(rig->store, (struct mr_read_op *)(void *)op)) {
                hold(rig, core, op);
                continue;
            }
        } else {
            store_other(rig->store, core, op);
        }
        storage_answer(rig, core, op);
    }
    return is_any;
}

struct mr_uuid mr_rig_dir_id(uint32_t core)
{
    return (struct mr_uuid){.bytes = {(uint8_t)(9 - core), 2, 3}};
}

void mr_rig_fail(struct mr_rig *rig, uint32_t core)
{
    rig->store->is_offline[core] = true;
    mr_port_send(&rig->storage_ports[core], mr_endpoint_control(&rig->endpoints),
                 &(struct mr_plane_msg){.kind = MR_PLANE_OFFLINE, .u.err = MR_ERR_IO});
}

void mr_rig_release(struct mr_rig *rig)
{
    for (uint32_t index = 0; index < rig->held_count; index++) {
        storage_answer(rig, rig->held_core[index], rig->held[index]);
    }
    rig->held_count = 0;
    rig->store->is_holding = false;
    rig->store->is_holding_opens = false;
    rig->store->is_holding_loads = false;
}

static void data_reply(struct mr_rig *rig, struct mr_forward *forward)
{
    assert_true(rig->reply_count < MR_RIG_REPLIES);
    struct mr_rig_reply *reply = &rig->replies[rig->reply_count++];
    *reply = (struct mr_rig_reply){
        .api_key = forward->api_key,
        .api_version = forward->api_version,
        .correlation_id = forward->correlation_id,
        .is_silent = forward->is_silent,
        .is_close = forward->is_close_wanted,
        .len = forward->reply.bytes,
    };
    if (reply->len > 0) {
        reply->bytes = malloc(reply->len);
        assert_non_null(reply->bytes);
        mr_chain_copy(&forward->reply, 0, reply->bytes, reply->len);
    }
    mr_port_send(
        &rig->data_port, mr_endpoint_control(&rig->endpoints),
        &(struct mr_plane_msg){.kind = MR_PLANE_REPLY_DONE, .u.cookie = forward->reply_cookie});
    for (uint32_t index = 0; index < MR_RIG_REPLIES; index++) {
        if (rig->forwards[index] == forward) {
            rig->forwards[index] = NULL;
        }
    }
    free(forward->session);
    free(forward);
}

static bool data_turn(struct mr_rig *rig)
{
    struct mr_plane_msg msg;
    bool                is_any = false;
    uint32_t            control = mr_endpoint_control(&rig->endpoints);
    while (mr_port_receive(&rig->data_port, &msg)) {
        is_any = true;
        if (msg.kind == MR_PLANE_IMAGE) {
            assert_true(rig->image == NULL || rig->image->version < msg.u.image.version);
            rig->image = msg.u.image.image;
            rig->images_seen++;
            if (!rig->is_keeping_images) {
                struct mr_plane_msg done = msg;
                done.kind = MR_PLANE_IMAGE_DONE;
                mr_port_send(&rig->data_port, control, &done);
            }
        } else if (msg.kind == MR_PLANE_LISTEN) {
            rig->is_listening = true;
            mr_port_send(&rig->data_port, control,
                         &(struct mr_plane_msg){.kind = MR_PLANE_LISTENING, .u.err = MR_OK});
        } else if (msg.kind == MR_PLANE_DRAIN) {
            rig->drains++;
            mr_port_send(&rig->data_port, control,
                         &(struct mr_plane_msg){.kind = MR_PLANE_DRAINED});
        } else {
            assert_int_equal(msg.kind, MR_PLANE_REPLY);
            data_reply(rig, msg.u.forward);
        }
    }
    return is_any;
}

void mr_rig_run(struct mr_rig *rig)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    uint32_t idle = 0;
    for (int turn = 0; idle < 3; turn++) {
        bool is_any = false;
        assert_true(turn < 100000);
        is_any |= mr_control_turn(rig->control, rig->now);
        if (rig->control->ops_open > rig->ops_turn_max) {
            rig->ops_turn_max = rig->control->ops_open;
        }
        if (rig->control->work > rig->work_turn_max) {
            rig->work_turn_max = rig->control->work;
        }
        is_any |= mr_port_flush(&rig->control_port, woken);
        for (uint32_t core = 0; core < MR_RIG_CORES; core++) {
            is_any |= storage_turn(rig, core);
            is_any |= mr_port_flush(&rig->storage_ports[core], woken);
        }
        is_any |= data_turn(rig);
        is_any |= mr_port_flush(&rig->data_port, woken);
        idle = is_any ? 0 : idle + 1;
    }
}

/* ---- the rig ---- */

struct mr_rig *mr_rig_create(struct mr_rig_store *store)
{
    return mr_rig_create_with_heap(store, (size_t)192 << 20);
}

struct mr_rig *mr_rig_create_with_heap(struct mr_rig_store *store, size_t heap_bytes)
{
    struct mr_rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    rig->store = store;
    rig->now = (struct mr_now){.mono_ns = 1000000, .unix_ms = 1700000000000};
    rig->memory_bytes = MEMORY_BYTES;
    rig->memory = mr_test_memory(rig->memory_bytes);
    mr_arena_init(&rig->arena, rig->memory, rig->memory_bytes);
    rig->endpoints =
        (struct mr_endpoints){.data_count = 1, .storage_count = MR_RIG_CORES, .dir_count = store->dir_count};
    rig->disk = mr_sim_disk_create(store->fs);
    mr_config_defaults(&rig->config);
    mr_config_derive(&rig->config);
    rig->control_port.self = mr_endpoint_control(&rig->endpoints);
    rig->control_port.endpoint_count = mr_endpoint_count(&rig->endpoints);
    rig->data_port.self = mr_endpoint_data(&rig->endpoints, 0);
    rig->data_port.endpoint_count = mr_endpoint_count(&rig->endpoints);
    mr_port_connect(&rig->control_port, &rig->data_port, &rig->arena, 64, 16384);
    mr_port_connect(&rig->data_port, &rig->control_port, &rig->arena, 64, 16384);
    for (uint32_t core = 0; core < MR_RIG_CORES; core++) {
        rig->storage_ports[core].self = mr_endpoint_storage(&rig->endpoints, core);
        rig->storage_ports[core].endpoint_count = mr_endpoint_count(&rig->endpoints);
        mr_port_connect(&rig->control_port, &rig->storage_ports[core], &rig->arena, 64, 16384);
        mr_port_connect(&rig->storage_ports[core], &rig->control_port, &rig->arena, 64, 16384);
    }
    struct mr_control_plan   plan = {.heap_bytes = heap_bytes, .timers_max = 1024};
    struct mr_control_params params = {
        .plan = &plan,
        .config = &rig->config,
        .endpoints = &rig->endpoints,
        .port = &rig->control_port,
        .disk = rig->disk,
        .arena = &rig->arena,
        .log_dir = "/data",
        .cluster_id = MR_STR("MkU3OEVBNTcwNTJENDM2Qk"),
        .directory_id = {.bytes = {1, 2, 3}},
        .seed = store->next_id,
    };
    struct mr_log_dir dirs[MR_RIG_CORES];
    for (uint32_t dir = 0; dir < store->dir_count; dir++) {
        bool is_unread = store->is_unread[dir];
        dirs[dir] = (struct mr_log_dir){.path = dir == 0 ? "/data" : "/more", .is_offline = is_unread};
        dirs[dir].id = is_unread ? dirs[dir].id : mr_rig_dir_id(dir);
    }
    if (store->dir_count > 0) {
        params.dirs = dirs;
        params.dir_count = store->dir_count;
        params.directory_id = dirs[0].id;
    }
    for (size_t index = 0; index < sizeof params.random; index++) {
        params.random[index] = (uint8_t)(index * 7 + store->next_id);
    }
    rig->control = mr_control_init(&params);
    return rig;
}

void mr_rig_forget(struct mr_rig *rig)
{
    for (uint32_t index = 0; index < rig->reply_count; index++) {
        free(rig->replies[index].bytes);
    }
    rig->reply_count = 0;
}

void mr_rig_destroy(struct mr_rig *rig)
{
    mr_rig_forget(rig);
    for (uint32_t index = 0; index < MR_RIG_REPLIES; index++) {
        if (rig->forwards[index] != NULL) {
            free(rig->forwards[index]->session);
            free(rig->forwards[index]);
        }
    }
    mr_sim_disk_destroy(rig->disk);
    (void)munmap(rig->memory, rig->memory_bytes);
    free(rig);
}

void mr_rig_send_bytes(struct mr_rig *rig, int16_t api_key, int16_t version, const void *bytes,
                       uint32_t len)
{
    static int32_t     next = 1;
    struct mr_forward *forward = calloc(1, sizeof *forward);
    struct mr_span    *span = malloc(sizeof *span + len);
    uint64_t           woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    assert_true(forward != NULL && span != NULL);
    memcpy(span + 1, bytes, len);
    *span = (struct mr_span){.data = (uint8_t *)(span + 1), .len = len};
    forward->conn_id = 1;
    forward->api_key = api_key;
    forward->api_version = version;
    forward->correlation_id = next++;
    forward->client_id = MR_STR("rig");
    forward->client_host = MR_STR("127.0.0.1");
    forward->body = (struct mr_chain){.spans = span, .span_count = 1, .bytes = len};
    forward->session = span;
    for (uint32_t index = 0; index < MR_RIG_REPLIES; index++) {
        if (rig->forwards[index] == NULL) {
            rig->forwards[index] = forward;
            break;
        }
        assert_true(index + 1 < MR_RIG_REPLIES);
    }
    mr_port_send(&rig->data_port, mr_endpoint_control(&rig->endpoints),
                 &(struct mr_plane_msg){.kind = MR_PLANE_REQUEST, .u.forward = forward});
    (void)mr_port_flush(&rig->data_port, woken);
    rig->sent = forward->correlation_id;
    rig->now.mono_ns += MR_NS_PER_MS;
}

int32_t mr_rig_send(struct mr_rig *rig, int16_t api_key, int16_t version, const void *message)
{
    const struct mr_msg *msg = mr_api_request_desc(api_key);
    uint32_t             bytes = 0;
    struct mr_arena      arena;
    struct mr_span       spans[4];
    struct mr_writer     writer;
    assert_int_equal(mr_msg_size(msg, version, message, &bytes), MR_OK);
    uint8_t *memory = malloc(bytes + 1);
    mr_arena_init(&arena, memory, bytes);
    mr_writer_init(&writer, &arena, spans, 4);
    assert_int_equal(mr_msg_encode(msg, version, message, &writer), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    uint8_t        *flat = malloc(bytes + 1);
    mr_chain_copy(&chain, 0, flat, bytes);
    mr_rig_send_bytes(rig, api_key, version, flat, bytes);
    free(flat);
    free(memory);
    return rig->sent;
}

const struct mr_rig_reply *mr_rig_reply(const struct mr_rig *rig, int32_t number)
{
    for (uint32_t index = 0; index < rig->reply_count; index++) {
        if (rig->replies[index].correlation_id == number) {
            return &rig->replies[index];
        }
    }
    return NULL;
}

void mr_rig_call(struct mr_rig *rig, int16_t api_key, int16_t version, const void *message,
                 struct mr_arena *arena, void *response)
{
    int32_t number = mr_rig_send(rig, api_key, version, message);
    mr_rig_run(rig);
    const struct mr_rig_reply *reply = mr_rig_reply(rig, number);
    assert_non_null(reply);
    assert_false(reply->is_close);
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, reply->bytes, reply->len);
    assert_int_equal(
        mr_msg_decode(mr_api_response_desc(api_key), version, &reader, arena, response), MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);
}
