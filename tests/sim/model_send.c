/* model_send: what the clients of a storage core ask of it, drawn, with what the model expects of the answer. */
#include "sim_storage_world.h"

#include <stdio.h>

static struct note note_of(struct slot *slot)
{
    return (struct note){.slot = slot, .generation = slot->generation, .floor = slot->model.floor,
                         .start = slot->model.start};
}

static struct slot *some_slot(struct world *w)
{
    struct slot *slot = &w->slots[draw(w, SLOTS)];
    return slot->is_there && !slot->is_dropping ? slot : NULL;
}

static int64_t some_offset(struct world *w, const struct mr_model_log *model)
{
    uint64_t where = draw(w, 10);
    if (where == 0) {
        return model->end + (int64_t)draw(w, 3);
    }
    if (where == 1 && model->start > 0) {
        return model->start - 1;
    }
    return model->start + (int64_t)draw(w, (uint64_t)(model->end - model->start) + 1);
}

/* A producer's next batch, or one of the wrong ones. */
static void choose_sequence(struct world *w, const struct mr_model_log *model, struct mr_model_batch *batch)
{
    uint32_t    mine[MR_MODEL_BATCHES];
    uint32_t    count = 0;
    batch->producer_id = 100 + (int64_t)draw(w, 3);
    for (uint32_t index = 0; index < model->batch_count; index++) {
        if (model->batches[index].producer_id == batch->producer_id) {
            mine[count++] = index;
        }
    }
    batch->producer_epoch = 0;
    batch->sequence = chance(w, 70) ? 0 : INT32_MAX - 2;
    if (count == 0) {
        return;
    }
    const struct mr_model_batch *last = &model->batches[mine[count - 1]];
    batch->producer_epoch = last->producer_epoch;
    batch->sequence = (int32_t)(((uint32_t)last->sequence + (uint32_t)last->count) & INT32_MAX);
    uint64_t what = draw(w, 20);
    if (what < 5) { /* again */
        uint32_t                     back = (uint32_t)draw(w, 7);
        const struct mr_model_batch *old = &model->batches[mine[back < count ? count - 1 - back : 0]];
        int64_t                      base = batch->base;
        int32_t                      epoch = batch->epoch;
        *batch = *old;
        batch->base = base;
        batch->epoch = epoch;
    } else if (what == 5) {
        batch->sequence = batch->sequence == INT32_MAX ? 0 : batch->sequence + 1;
    } else if (what == 6) {
        batch->producer_epoch++;
        batch->sequence = chance(w, 70) ? 0 : 3;
    } else if (what == 7 && batch->producer_epoch > 0) {
        batch->producer_epoch--;
    }
}

static struct mr_model_batch some_batch(struct world *w, const struct slot *slot)
{
    static const uint32_t sizes[] = {20, 60, 200, 700, 3000, 9000, 20000};
    struct mr_model_batch batch = {
        .base = slot->model.end,
        .epoch = slot->leader_epoch,
        .seed = mr_prng_next(&w->prng),
        .timestamp = w->now.unix_ms - 500 + (int64_t)draw(w, 1000),
        .producer_id = -1,
        .producer_epoch = -1,
        .sequence = -1,
        .count = 1 + (int32_t)draw(w, 3),
        .value_bytes = (uint32_t)draw(w, sizes[draw(w, sizeof sizes / sizeof sizes[0])]),
    };
    if (slot->is_keyed) {
        batch.keys = slot->keys;
        batch.has_tombstones = slot->has_tombstones;
        batch.value_bytes /= 4;
    }
    if (chance(w, 40) && !slot->is_internal) {
        choose_sequence(w, &slot->model, &batch);
    }
    return batch;
}

static void append_entry(struct world *w, struct call *call, struct slot *slot)
{
    uint32_t                index = call->count;
    struct mr_append_entry *entry = &call->e.append[index];
    struct note            *note = &call->notes[index];
    struct mr_model_batch   batch = some_batch(w, slot);
    if (slot->model.batch_count == MR_MODEL_BATCHES) {
        return;
    }
    *note = note_of(slot);
    uint32_t bytes = mr_model_batch_make(&batch, call->batches[index]);
    /* What a producer sends knows neither offset nor epoch: the CRC does not cover them. */
    mr_store_be64(call->batches[index], 0);
    mr_store_be32(call->batches[index] + 12, UINT32_MAX);
    uint32_t part = chance(w, 30) ? (uint32_t)draw(w, bytes + 1) : bytes;
    call->batch_spans[index][0] = (struct mr_span){call->batches[index], part};
    call->batch_spans[index][1] = (struct mr_span){call->batches[index] + part, bytes - part};
    *entry = (struct mr_append_entry){
        .log_id = slot->log_id,
        .batch = {.spans = call->batch_spans[index], .span_count = part < bytes ? 2 : 1, .bytes = bytes},
        .leader_epoch = chance(w, 80) ? -1 : slot->leader_epoch,
        .origin = slot->is_internal ? MR_APPEND_COORDINATOR : MR_APPEND_CLIENT,
    };
    if (chance(w, 3)) {
        bool is_old = chance(w, 50) && slot->leader_epoch > 0;
        entry->leader_epoch = slot->leader_epoch + (is_old ? -1 : 1);
        note->want = is_old ? MR_ERR_FENCED_EPOCH : MR_ERR_UNKNOWN_EPOCH;
    } else if (bytes > slot->config.segment_bytes) {
        note->want = MR_ERR_RECORD_LIST_TOO_LARGE;
    } else {
        note->want = mr_model_log_judge(&slot->model, &batch, &note->base);
        note->end = note->base + batch.count;
        if (note->want == MR_OK) {
            mr_model_log_add(&slot->model, &batch);
        }
    }
    w->result->bytes += bytes;
    call->count++;
    if (w->is_verbose) {
        fprintf(stderr, "             . %s %lld+%d, %u bytes, producer %lld.%d from %d: %s\n", slot->topic,
                (long long)note->base, batch.count, bytes, (long long)batch.producer_id, batch.producer_epoch,
                batch.sequence, mr_err_text(note->want));
    }
}

static void send_append(struct world *w, struct call *call)
{
    uint32_t first = (uint32_t)draw(w, SLOTS);
    uint32_t most = 1 + (uint32_t)draw(w, ENTRIES);
    call->count = 0;
    for (uint32_t index = 0; index < SLOTS && call->count < most; index++) {
        struct slot *slot = &w->slots[(first + index) % SLOTS];
        bool         is_elsewhere = call->count > 0 && core_of(w, slot) != core_of(w, call->notes[0].slot);
        if (slot->is_there && !slot->is_dropping && !is_elsewhere) {
            append_entry(w, call, slot);
        }
    }
    if (call->count == 0) {
        return;
    }
    call->u.append = (struct mr_append_op){
        .acks = (int16_t)(chance(w, 80) ? -1 : (int)draw(w, 2)),
        .entry_count = call->count,
        .entries = call->e.append,
    };
    w->result->appends++;
    mr_sim_life_send(w, call, MR_STORAGE_APPEND);
}

void mr_model_send_read(struct world *w, struct call *call, struct slot *only, int64_t offset, uint32_t bytes_max)
{
    call->count = 0;
    for (uint32_t tries = only == NULL ? 1 + (uint32_t)draw(w, ENTRIES) : 1; tries > 0; tries--) {
        struct slot *slot = only != NULL ? only : some_slot(w);
        if (slot == NULL || (call->count > 0 && core_of(w, slot) != core_of(w, call->notes[0].slot))) {
            continue;
        }
        call->notes[call->count] = note_of(slot);
        call->e.read[call->count++] = (struct mr_read_entry){
            .log_id = slot->log_id,
            .offset = only != NULL ? offset : some_offset(w, &slot->model),
            .bytes_max = only != NULL ? bytes_max : 1 + (uint32_t)draw(w, chance(w, 50) ? 2000 : 200000),
            .current_leader_epoch = -1,
            .is_first_batch_whole = only != NULL || chance(w, 80),
        };
    }
    if (call->count == 0) {
        return;
    }
    call->u.read = (struct mr_read_op){
        .bytes_max = only != NULL ? bytes_max : 1 + (uint32_t)draw(w, 300000),
        .entry_count = call->count,
        .entries = call->e.read,
        .spans = call->spans,
        .span_max = only != NULL || chance(w, 70) ? SPANS : ENTRIES + (uint32_t)draw(w, 8),
        .copy_buffer = call->copy,
        .copy_max = (uint32_t)draw(w, COPY_BYTES + 1),
    };
    w->result->reads++;
    mr_sim_life_send(w, call, MR_STORAGE_READ);
}

static void send_list(struct world *w, struct call *call, struct slot *slot)
{
    int64_t timestamp = -1 - (int64_t)draw(w, 2);
    if (chance(w, 60)) {
        timestamp = w->now.unix_ms - (int64_t)draw(w, 3000);
    }
    call->e.list[0] = (struct mr_list_offsets_entry){
        .log_id = slot->log_id, .timestamp = timestamp, .current_leader_epoch = -1};
    call->u.list = (struct mr_list_offsets_op){.entry_count = 1, .entries = call->e.list};
    mr_sim_life_send(w, call, MR_STORAGE_LIST_OFFSETS);
}

static void send_delete(struct world *w, struct call *call, struct slot *slot)
{
    int64_t offset = chance(w, 20) ? -1 : some_offset(w, &slot->model);
    int64_t asked = offset == -1 ? slot->model.end : offset;
    if (asked > slot->model.start_asked && asked <= slot->model.end) {
        slot->model.start_asked = asked;
    }
    slot->deletes++;
    w->result->deletes++;
    call->e.delete[0] = (struct mr_delete_records_entry){.log_id = slot->log_id, .offset = offset};
    call->u.delete = (struct mr_delete_records_op){.entry_count = 1, .entries = call->e.delete};
    mr_sim_life_send(w, call, MR_STORAGE_DELETE_RECORDS);
}

void mr_model_send_open(struct world *w, struct call *call, struct slot *slot)
{
    call->count = 1;
    call->notes[0] = note_of(slot);
    slot->leader_epoch += chance(w, 30); /* decided before it is sent: it never falls, whether it arrives or not */
    call->u.open = (struct mr_open_op){
        .topic = mr_str(slot->topic),
        .partition = 0,
        .leader_epoch = slot->leader_epoch,
        .config = &slot->config,
        .is_internal = slot->is_internal,
    };
    call->u.open.topic_id.bytes[0] = (uint8_t)slot->topic[0];
    call->u.open.topic_id.bytes[15] = (uint8_t)slot->generation;
    mr_sim_life_send(w, call, MR_STORAGE_OPEN);
}

static void choose_retention(struct world *w, struct slot *slot)
{
    static const int32_t bytes[] = {0, 4000, 20000, 80000};
    static const int32_t ms[] = {1500, 6000, 20000};
    if (chance(w, 60)) {
        slot->config.retention_bytes = bytes[draw(w, sizeof bytes / sizeof bytes[0])];
    }
    if (chance(w, 40)) {
        slot->config.retention_ms = ms[draw(w, sizeof ms / sizeof ms[0])];
    }
}

static void choose_keys(struct world *w, struct slot *slot)
{
    slot->is_keyed = true;
    slot->is_internal = chance(w, 50);
    slot->keys = 2 + (uint32_t)draw(w, KEYS_MAX - 1);
    slot->has_tombstones = chance(w, 50);
    slot->config.segment_bytes = chance(w, 50) ? 6000 : 15000;
    slot->config.is_cleanup_compact = true;
    slot->config.is_cleanup_delete = chance(w, 30);
    slot->config.min_cleanable_dirty_ratio = 0.01;
    slot->config.delete_retention_ms = chance(w, 50) ? 0 : 3600000;
}

void mr_model_send_new_slot(struct world *w, struct slot *slot)
{
    static const uint32_t segments[] = {5000, 20000, 60000, 300000};
    slot->generation++;
    slot->leader_epoch = (int32_t)draw(w, 3);
    mr_model_log_init(&slot->model);
    slot->config = (struct mr_log_config){
        .segment_bytes = segments[draw(w, sizeof segments / sizeof segments[0])],
        .segment_ms = INT64_MAX,
        .segment_index_bytes = chance(w, 20) ? 80 : 1 << 20,
        .index_interval_bytes = chance(w, 50) ? 4096 : 200,
        .retention_ms = -1,
        .retention_bytes = -1,
        .file_delete_delay_ms = (int64_t)draw(w, 5),
        .producer_expiration_ms = 86400000,
        .max_message_bytes = 1 << 20,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .max_compaction_lag_ms = INT64_MAX,
        .min_insync_replicas = 1,
        .compression_type = -1,
        .ack = chance(w, 15) ? MR_ACK_WRITE : MR_ACK_SYNC,
        .is_cleanup_delete = true,
    };
    slot->is_keyed = false;
    slot->is_internal = false;
    if ((w->traits & MR_SIM_TRAIT_RETENTION) != 0) {
        choose_retention(w, slot);
    }
    if ((w->traits & MR_SIM_TRAIT_KEYED) != 0 && chance(w, 50)) {
        choose_keys(w, slot);
    }
}

static void set_watch(struct world *w, struct slot *slot)
{
    struct watch *watch = &w->watches[draw(w, WATCHES)];
    if (watch->token != 0) {
        return;
    }
    *watch = (struct watch){.slot = slot, .generation = slot->generation, .token = ++w->next_token,
                            .offset = slot->model.end - (int64_t)draw(w, 2) + (int64_t)draw(w, 3)};
    watch->offset = watch->offset < 0 ? 0 : watch->offset;
    struct mr_plane_msg msg = {.kind = MR_PLANE_WATCH,
                               .u.watch = {.log_id = slot->log_id, .offset = watch->offset, .token = watch->token}};
    mr_port_send(w->ports[DATA], mr_endpoint_storage(&w->endpoints, core_of(w, slot)), &msg);
}

void mr_model_send_drop(struct world *w, struct call *call, struct slot *slot)
{
    slot->is_dropping = true;
    slot->is_doomed = true;
    call->count = 1;
    call->notes[0] = note_of(slot);
    call->u.drop = (struct mr_drop_op){.log_id = slot->log_id};
    mr_sim_life_send(w, call, MR_STORAGE_DROP);
}

void mr_model_send_stat(struct world *w, struct slot *slot)
{
    struct call *call = mr_sim_life_free_call(w);
    if (slot->is_there && !slot->is_dropping) {
        call->count = 1;
        call->notes[0] = note_of(slot);
        call->e.stat[0] = (struct mr_log_stat_entry){.log_id = slot->log_id};
        call->u.stat = (struct mr_log_stat_op){.entry_count = 1, .entries = call->e.stat};
        mr_sim_life_send(w, call, MR_STORAGE_LOG_STAT);
    }
}

void mr_model_send_any(struct world *w)
{
    struct call *call = mr_sim_life_free_call(w);
    struct slot *slot = some_slot(w);
    uint64_t     what = draw(w, 100);
    if (call == NULL) {
        return;
    }
    if (what < 50) {
        send_append(w, call);
        return;
    }
    if (what < 72) {
        mr_model_send_read(w, call, NULL, 0, 0);
        return;
    }
    if (slot == NULL) {
        slot = &w->slots[draw(w, SLOTS)];
        if (!slot->is_there && !slot->is_dropping) {
            mr_model_send_new_slot(w, slot);
            mr_model_send_open(w, call, slot);
            slot->is_dropping = true; /* nothing is sent to it before it is open */
        }
        return;
    }
    call->count = 1;
    call->notes[0] = note_of(slot);
    if (what < 80) {
        send_list(w, call, slot);
    } else if (what < 85) {
        set_watch(w, slot);
    } else if (what < 90) {
        mr_model_send_stat(w, slot);
    } else if (what < 94) {
        call->e.epoch[0] = (struct mr_epoch_end_entry){.log_id = slot->log_id, .current_leader_epoch = -1,
                                                       .leader_epoch = (int32_t)draw(w, (uint64_t)slot->leader_epoch + 2)};
        call->u.epoch = (struct mr_epoch_end_op){.entry_count = 1, .entries = call->e.epoch};
        mr_sim_life_send(w, call, MR_STORAGE_EPOCH_END);
    } else if (what < 98) {
        if (slot->config.is_cleanup_delete) {
            send_delete(w, call, slot);
        }
    } else {
        mr_model_send_drop(w, call, slot);
    }
}

void mr_model_send_look(struct world *w)
{
    struct call *call = mr_sim_life_free_call(w);
    struct slot *slot = some_slot(w);
    if (slot == NULL) {
        return;
    }
    if (chance(w, 50)) {
        mr_model_send_read(w, call, slot, some_offset(w, &slot->model), 20000);
    } else {
        call->count = 1;
        call->notes[0] = note_of(slot);
        send_list(w, call, slot);
    }
}
