/* model_answer: whether an answer of the core fits what the model of its log says, and what it says for the future. */
#include "sim_storage_world.h"

#include "millrace/base/hash.h"

static void note_answer(struct world *w, int64_t value)
{
    w->result->hash = mr_hash_u64(w->result->hash ^ (uint64_t)value) + 1;
}

/* A high watermark is never beyond what was sent, nor below what was promised before it was asked for. */
static void check_watermark(struct world *w, const struct note *note, int64_t high_watermark, const char *what)
{
    if (high_watermark < note->floor || high_watermark > note->slot->model.end) {
        fail(w, "%s %s: high watermark %lld, promised %lld, sent %lld", what, note->slot->topic,
             (long long)high_watermark, (long long)note->floor, (long long)note->slot->model.end);
    }
    mr_model_log_see(&note->slot->model, high_watermark);
}

/* An answer that says only that the disk is broken, where it is. */
static bool is_excused(const struct world *w, enum mr_err err)
{
    return w->is_faulty && (err == MR_ERR_DIR_OFFLINE || err == MR_ERR_IO);
}

/* A full directory takes nothing: as if it had not been sent. Nothing else was, meanwhile, to that log. */
static bool is_refused_full(struct world *w, const struct mr_append_entry *entry, const struct note *note)
{
    if (!w->is_full || entry->err != MR_ERR_DIR_FULL) {
        return false;
    }
    if (note->want == MR_OK && !is_stale(note)) {
        if (note->end != note->slot->model.end) {
            fail(w, "append to %s at %lld: refused, but what was sent behind it is not known", note->slot->topic,
                 (long long)note->base);
            return true;
        }
        mr_model_log_drop_last(&note->slot->model);
    }
    w->result->refused_full++;
    return true;
}

static void ask_start(struct mr_model_log *model, int64_t start)
{
    model->start_asked = start > model->start_asked ? start : model->start_asked;
}

void mr_model_answer_retain(struct world *w, struct slot *slot)
{
    struct mr_model_log      *model = &slot->model;
    struct mr_model_retention retention = {.bytes = slot->config.retention_bytes, .ms = slot->config.retention_ms};
    if ((w->traits & MR_SIM_TRAIT_RETENTION) == 0 || !slot->config.is_cleanup_delete) {
        return;
    }
    if (slot->is_keyed && retention.ms >= 0) { /* only what compaction leaves there keeps its segment */
        int64_t since_ms = w->now.unix_ms - retention.ms;
        int64_t young = mr_model_keyed_first(slot, model->start_asked, model->end, since_ms);
        ask_start(model, young < 0 ? model->end : young);
        retention.ms = -1;
    }
    ask_start(model, mr_model_log_start_max(model, &retention, w->now.unix_ms));
}

static void answer_append(struct world *w, struct call *call)
{
    for (uint32_t index = 0; index < call->count; index++) {
        const struct mr_append_entry *entry = &call->e.append[index];
        const struct note            *note = &call->notes[index];
        note_answer(w, entry->base_offset);
        if (is_excused(w, entry->err) || (is_stale(note) && entry->err == MR_ERR_UNKNOWN_LOG)) {
            continue; /* dropped while it waited */
        }
        if (is_refused_full(w, entry, note)) {
            continue;
        }
        bool        is_good = note->want == MR_OK || note->want == MR_ERR_EXISTS;
        enum mr_err want = is_good ? MR_OK : note->want;
        if (entry->err != want) {
            fail(w, "append to %s at %lld: %s, expected %s", note->slot->topic, (long long)note->base,
                 mr_err_text(entry->err), mr_err_text(want));
            return;
        }
        if (!is_good) {
            w->result->refusals++;
            continue;
        }
        if (entry->base_offset != note->base || entry->is_duplicate != (note->want == MR_ERR_EXISTS)) {
            fail(w, "append to %s: offset %lld%s, expected %lld%s", note->slot->topic, (long long)entry->base_offset,
                 entry->is_duplicate ? " (duplicate)" : "", (long long)note->base,
                 note->want == MR_ERR_EXISTS ? " (duplicate)" : "");
            return;
        }
        w->result->duplicates += entry->is_duplicate;
        if (call->u.append.acks != 0 && !is_stale(note)) {
            mr_model_log_see(&note->slot->model, note->end);
        }
    }
}

static void hold(struct world *w, const struct mr_lent_span *lent, uint32_t core)
{
    struct held        *held = &w->held[draw(w, HELD)];
    struct mr_plane_msg msg = {.kind = MR_PLANE_RELEASE, .count = 1};
    if (held->page != 0) {
        if (mr_crc32c(0, held->span.data, held->span.len) != held->crc) {
            fail(w, "lent bytes changed before they were released");
        }
        msg.u.pages[0] = held->page;
        mr_port_send(w->ports[DATA], mr_endpoint_storage(&w->endpoints, held->core), &msg);
    }
    *held = (struct held){.span = lent->span, .page = lent->page, .core = core,
                          .crc = mr_crc32c(0, lent->span.data, lent->span.len)};
}

/* The bytes of the batches from the one that holds `offset` on, as far as they go. */
static void check_batches(struct world *w, const struct note *note, const struct mr_read_entry *entry,
                          const uint8_t *got)
{
    struct mr_model_log *model = &note->slot->model;
    uint8_t             *want = w->bytes + READ_MAX;
    uint32_t             at = 0;
    for (uint32_t index = mr_model_log_find(model, entry->offset); at < entry->bytes; index++) {
        if (index == model->batch_count) {
            fail(w, "read of %s at %lld: %u bytes too many", note->slot->topic, (long long)entry->offset,
                 entry->bytes - at);
            return;
        }
        struct mr_model_batch *batch = &model->batches[index];
        uint32_t               bytes = mr_model_batch_make(batch, want);
        if (bytes > entry->bytes - at || memcmp(got + at, want, bytes) != 0) {
            fail(w, "read of %s at %lld: batch %lld of %u bytes is %s", note->slot->topic, (long long)entry->offset,
                 (long long)batch->base, bytes, bytes > entry->bytes - at ? "cut" : "another");
            return;
        }
        if (batch->base + batch->count > entry->high_watermark) {
            fail(w, "read of %s at %lld: batch %lld is beyond the high watermark %lld", note->slot->topic,
                 (long long)entry->offset, (long long)batch->base, (long long)entry->high_watermark);
            return;
        }
        at += bytes;
        w->read_end = batch->base + batch->count;
    }
}

/* `before`: bytes that the entries before this one got; then KIP-74 makes no exception for its first batch. */
static void check_read(struct world *w, const struct call *call, uint32_t index, uint32_t before, const uint8_t *got)
{
    const struct mr_read_entry *entry = &call->e.read[index];
    const struct note          *note = &call->notes[index];
    struct mr_model_log        *model = &note->slot->model;
    if (is_stale(note) || is_excused(w, entry->err)) {
        return;
    }
    if (entry->err == MR_ERR_OFFSET_OUT_OF_RANGE) {
        if (entry->offset >= model->start_asked && entry->offset <= note->floor) {
            fail(w, "read of %s at %lld: out of range, but [%lld, %lld] is there", note->slot->topic,
                 (long long)entry->offset, (long long)model->start_asked, (long long)note->floor);
        }
        return;
    }
    if (entry->err != MR_OK) {
        fail(w, "read of %s at %lld: %s", note->slot->topic, (long long)entry->offset, mr_err_text(entry->err));
        return;
    }
    if (entry->offset < note->start || entry->offset > model->end) {
        fail(w, "read of %s at %lld: ok, but only [%lld, %lld] is there", note->slot->topic, (long long)entry->offset,
             (long long)note->start, (long long)model->end);
        return;
    }
    check_watermark(w, note, entry->high_watermark, "read of");
    uint32_t first = 0;
    uint32_t at = mr_model_log_find(model, entry->offset);
    if (at < model->batch_count) {
        first = mr_model_batch_make(&model->batches[at], w->bytes + READ_MAX);
    }
    bool is_keyed = note->slot->is_keyed;
    bool is_first_whole = entry->is_first_batch_whole && before == 0;
    if (entry->bytes > entry->bytes_max && !(is_first_whole && (is_keyed || entry->bytes == first))) {
        fail(w, "read of %s at %lld: %u bytes, at most %u wanted%s, the first batch has %u", note->slot->topic,
             (long long)entry->offset, entry->bytes, entry->bytes_max, is_first_whole ? " and the first" : "", first);
    }
    bool has_any = is_keyed ? mr_model_keyed_first(note->slot, entry->offset, note->floor, INT64_MIN) >= 0
                            : entry->offset < note->floor;
    if (entry->bytes == 0 && has_any && is_first_whole && call->u.read.span_max == SPANS) {
        fail(w, "read of %s at %lld: nothing, but [%lld, %lld] is there", note->slot->topic, (long long)entry->offset,
             (long long)note->start, (long long)note->floor);
    }
    if (is_keyed) {
        mr_model_keyed_read(w, note, entry, got);
    } else {
        check_batches(w, note, entry, got);
    }
}

static void answer_read(struct world *w, struct call *call)
{
    struct mr_read_op *op = &call->u.read;
    uint32_t           sum = 0;
    for (uint32_t index = 0; index < call->count; index++) {
        const struct mr_read_entry *entry = &call->e.read[index];
        uint32_t                    bytes = 0;
        note_answer(w, entry->bytes);
        for (uint32_t span = entry->span_first; span < entry->span_first + entry->span_count; span++) {
            const struct mr_lent_span *lent = &op->spans[span];
            mr_assert(bytes + lent->span.len <= READ_MAX);
            memcpy(w->bytes + bytes, lent->span.data, lent->span.len);
            bytes += lent->span.len;
        }
        if (bytes != entry->bytes) {
            fail(w, "read: %u bytes in the spans of an entry of %u", bytes, entry->bytes);
            return;
        }
        check_read(w, call, index, sum, w->bytes);
        sum += bytes;
    }
    if (sum != op->bytes) {
        fail(w, "read: %u bytes in the entries of an operation of %u", sum, op->bytes);
    }
    for (uint32_t span = 0; span < op->span_count; span++) {
        if (op->spans[span].page != MR_PAGE_NONE) {
            hold(w, &op->spans[span], call->core);
        }
    }
}

static void answer_list(struct world *w, struct call *call)
{
    const struct mr_list_offsets_entry *entry = &call->e.list[0];
    const struct note                  *note = &call->notes[0];
    struct mr_model_log                *model = &note->slot->model;
    note_answer(w, entry->offset);
    if (is_stale(note) || is_excused(w, entry->err)) {
        return;
    }
    if (entry->err != MR_OK) {
        fail(w, "offsets of %s: %s", note->slot->topic, mr_err_text(entry->err));
    } else if (entry->timestamp == -1) {
        check_watermark(w, note, entry->offset, "latest offset of");
    } else if (entry->timestamp == -2) {
        if (entry->offset < note->start || entry->offset > model->start_asked) {
            fail(w, "earliest offset of %s: %lld, expected %lld", note->slot->topic, (long long)entry->offset,
                 (long long)model->start);
        }
    } else {
        /* Between what was promised when it was asked, and what is there now, the answer moves. */
        int64_t early;
        int64_t late;
        int64_t first = mr_model_log_at_time(model, note->start, model->end, entry->timestamp, &early);
        int64_t last = note->slot->is_keyed
                           ? mr_model_keyed_first(note->slot, model->start_asked, note->floor, entry->timestamp)
                           : mr_model_log_at_time(model, model->start_asked, note->floor, entry->timestamp, &late);
        bool    is_good = entry->offset == -1 ? last == -1
                                              : entry->offset >= first && (last == -1 || entry->offset <= last);
        if (!is_good) {
            fail(w, "offset of %s at time %lld: %lld, expected %lld to %lld", note->slot->topic,
                 (long long)entry->timestamp, (long long)entry->offset, (long long)first, (long long)last);
        }
        w->result->lookups++;
    }
}

static void answer_delete(struct world *w, struct call *call)
{
    const struct mr_delete_records_entry *entry = &call->e.delete[0];
    const struct note                    *note = &call->notes[0];
    struct mr_model_log                  *model = &note->slot->model;
    note_answer(w, entry->low_watermark);
    if (note->generation != note->slot->generation) {
        return;
    }
    note->slot->deletes--;
    if (is_stale(note) || is_excused(w, entry->err) || is_excused(w, call->u.op.err)) {
        return;
    }
    if (entry->err == MR_OK) {
        bool is_good = entry->low_watermark >= note->start && entry->low_watermark <= model->start_asked &&
                       entry->low_watermark >= entry->offset;
        if (!is_good) {
            fail(w, "delete below %lld of %s: starts at %lld, expected [%lld, %lld]", (long long)entry->offset,
                 note->slot->topic, (long long)entry->low_watermark, (long long)note->start,
                 (long long)model->start_asked);
        }
        model->start = entry->low_watermark > model->start ? entry->low_watermark : model->start;
        mr_model_log_see(&note->slot->model, model->start);
    } else if (entry->err != MR_ERR_OFFSET_OUT_OF_RANGE || entry->offset <= note->floor) {
        fail(w, "delete below %lld of %s: %s, %lld was promised", (long long)entry->offset, note->slot->topic,
             mr_err_text(entry->err), (long long)note->floor);
    }
    if (note->slot->deletes == 0) {
        model->start_asked = model->start;
        mr_model_answer_retain(w, note->slot);
    }
}

static void answer_stat(struct world *w, struct call *call)
{
    const struct mr_log_stat_entry *entry = &call->e.stat[0];
    const struct note              *note = &call->notes[0];
    if (is_stale(note) || is_excused(w, entry->err)) {
        return;
    }
    if (entry->err != MR_OK || entry->log_start_offset < note->start ||
        entry->log_start_offset > note->slot->model.start_asked || entry->log_end_offset < entry->high_watermark ||
        entry->log_end_offset > note->slot->model.end) {
        fail(w, "stat of %s: %s, [%lld, %lld]", note->slot->topic, mr_err_text(entry->err),
             (long long)entry->log_start_offset, (long long)entry->log_end_offset);
        return;
    }
    check_watermark(w, note, entry->high_watermark, "stat of");
}

/* Where an epoch of which batches are left ends: where the next one begins. */
static void answer_epoch(struct world *w, struct call *call)
{
    const struct mr_epoch_end_entry *entry = &call->e.epoch[0];
    const struct note               *note = &call->notes[0];
    const struct mr_model_log       *model = &note->slot->model;
    int64_t                          end = -1;
    note_answer(w, entry->end_offset);
    if (is_stale(note) || is_excused(w, entry->err)) {
        return;
    }
    for (uint32_t index = 0; index < model->batch_count; index++) {
        const struct mr_model_batch *batch = &model->batches[index];
        if (batch->epoch == entry->leader_epoch && batch->base >= model->start_asked &&
            batch->base + batch->count <= note->floor) {
            end = batch->base + batch->count;
        }
    }
    bool is_over = end >= 0 && entry->leader_epoch < note->slot->leader_epoch; /* it ends with its last batch */
    if (entry->err != MR_OK || (end >= 0 && (entry->end_epoch != entry->leader_epoch || entry->end_offset < end)) ||
        (is_over && entry->end_offset != end) || entry->end_offset > model->end) {
        fail(w, "end of epoch %d of %s: %s, epoch %d at %lld, expected at least %lld", entry->leader_epoch,
             note->slot->topic, mr_err_text(entry->err), entry->end_epoch, (long long)entry->end_offset, (long long)end);
    }
}

static void answer_drop(struct world *w, struct call *call)
{
    struct slot *slot = call->notes[0].slot;
    if (call->u.op.err == MR_OK) {
        slot->is_there = false;
        slot->is_dropping = false;
        slot->is_doomed = false;
        w->result->drops++;
    } else if (!is_excused(w, call->u.op.err)) {
        fail(w, "drop of %s: %s", slot->topic, mr_err_text(call->u.op.err));
    }
}

/* A log that is opened ends where nothing promised is lost, and starts where it was said to. */
static void answer_open(struct world *w, struct call *call)
{
    const struct mr_open_op *op = &call->u.open;
    struct slot             *slot = call->notes[0].slot;
    struct mr_model_log     *model = &slot->model;
    note_answer(w, op->log_end_offset);
    bool is_short = w->is_full && (op->op.err == MR_ERR_DIR_FULL || op->op.err == MR_ERR_NO_SPACE);
    bool is_lost = w->is_rotten && (op->op.err == MR_ERR_DIR_OFFLINE || op->op.err == MR_ERR_CORRUPT);
    if (is_excused(w, op->op.err) || is_short || is_lost) {
        slot->is_dropping = true; /* of no use in this life */
        return;
    }
    if (op->op.err != MR_OK) {
        fail(w, "open of %s: %s", slot->topic, mr_err_text(op->op.err));
        return;
    }
    if (slot->is_doomed) {
        slot->log_id = op->log_id;
        return; /* there or not, it goes */
    }
    slot->is_dropping = false;
    slot->is_there = true;
    slot->log_id = op->log_id;
    int64_t floor = model->floor;
    int64_t end = model->end;
    if (!mr_model_log_cut(model, op->log_end_offset)) {
        fail(w, "open of %s: ends at %lld, promised %lld, sent %lld", slot->topic, (long long)op->log_end_offset,
             (long long)floor, (long long)end);
    } else if ((op->log_start_offset < model->start && !w->is_rotten) || op->log_start_offset > model->start_asked ||
               op->log_start_offset > op->log_end_offset) {
        fail(w, "open of %s: starts at %lld, expected [%lld, %lld]", slot->topic, (long long)op->log_start_offset,
             (long long)model->start, (long long)model->start_asked);
    }
    w->result->retained += op->log_start_offset > model->start;
    model->start = op->log_start_offset;
    model->start_asked = model->start;
    mr_model_log_see(model, model->end);
    mr_model_answer_retain(w, slot);
}

void mr_model_answer(struct world *w, struct call *call)
{
    call->is_done = true;
    note_answer(w, call->u.op.err);
    for (uint32_t index = 0; index < call->count; index++) {
        mr_model_answer_retain(w, call->notes[index].slot);
    }
    switch (call->u.op.kind) {
    case MR_STORAGE_APPEND:
        answer_append(w, call);
        break;
    case MR_STORAGE_READ:
        answer_read(w, call);
        break;
    case MR_STORAGE_LIST_OFFSETS:
        answer_list(w, call);
        break;
    case MR_STORAGE_DELETE_RECORDS:
        answer_delete(w, call);
        break;
    case MR_STORAGE_LOG_STAT:
        answer_stat(w, call);
        break;
    case MR_STORAGE_EPOCH_END:
        answer_epoch(w, call);
        break;
    case MR_STORAGE_DROP:
        answer_drop(w, call);
        break;
    case MR_STORAGE_OPEN:
        answer_open(w, call);
        break;
    case MR_STORAGE_RECOVER:
    case MR_STORAGE_CONFIGURE:
    case MR_STORAGE_STOP:
    case MR_STORAGE_TXN_CHECK:
    case MR_STORAGE_PRODUCERS:
    case MR_STORAGE_MOVE:
    case MR_STORAGE_OFFLINE:
        return; /* looked at by who waits for it */
    }
    call->is_used = false;
}

void mr_model_answer_moved(struct world *w, uint64_t token, int64_t high_watermark)
{
    for (uint32_t index = 0; index < WATCHES; index++) {
        struct watch *watch = &w->watches[index];
        if (watch->token != token) {
            continue;
        }
        watch->token = 0;
        struct note note = {.slot = watch->slot, .generation = watch->generation, .floor = watch->offset + 1};
        bool is_offline = w->is_faulty || (w->is_full && !w->is_serving); /* then all fire */
        if (!is_stale(&note) && !is_offline) {
            check_watermark(w, &note, high_watermark, "watch of");
            w->result->watches++;
        }
        return;
    }
    fail(w, "a watch fired twice, or that was never set");
}
