#include "sim_storage_world.h"

#include "check_index.h"

#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static const char properties[] = "#\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
                                 "node.id=1\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";

static uint64_t draw(struct world *w, uint64_t bound)
{
    return mr_prng_below(&w->prng, bound);
}

static bool chance(struct world *w, uint64_t percent)
{
    return draw(w, 100) < percent;
}

__attribute__((format(printf, 2, 3))) static void fail(struct world *w, const char *format, ...)
{
    if (w->result->why[0] == '\0') {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(w->result->why, sizeof w->result->why, format, arguments);
        va_end(arguments);
        if (w->is_verbose) {
            fprintf(stderr, "!! %s\n", w->result->why);
        }
    }
}

static bool is_failed(const struct world *w)
{
    return w->result->why[0] != '\0';
}

static void note_answer(struct world *w, int64_t value)
{
    w->result->hash = mr_hash_u64(w->result->hash ^ (uint64_t)value) + 1;
}

/* ---- The disk that may lie ---- */


static void liar_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    struct liar *liar = (struct liar *)(void *)disk;
    bool is_skipped = false;
    switch (liar->lie) {
    case MR_SIM_LIE_FLUSH:
        op->flags &= ~(uint32_t)MR_DISK_DSYNC;
        is_skipped = op->kind == MR_DISK_SYNC || op->kind == MR_DISK_SYNC_FS;
        break;
    case MR_SIM_LIE_SYNC_FS:
        is_skipped = op->kind == MR_DISK_SYNC_FS;
        break;
    case MR_SIM_LIE_WRITE:
        is_skipped = op->kind == MR_DISK_WRITE && mr_prng_below(&liar->prng, 200) == 0;
        op->done_bytes = op->len;
        break;
    case MR_SIM_HONEST:
    case MR_SIM_LIE_READ:
    case MR_SIM_LIE_COUNT:
        break;
    }
    disk->in_flight++;
    if (is_skipped) {
        op->err = MR_OK;
        mr_list_add_tail(&liar->unserved, &op->link);
        return;
    }
    mr_disk_submit(liar->honest, op);
    if (liar->world->on_op != NULL) {
        liar->world->on_op(liar->world);
    }
}

static uint32_t liar_reap(struct mr_disk *disk, struct mr_disk_op **done, uint32_t max)
{
    struct liar *liar = (struct liar *)(void *)disk;
    uint32_t     count = 0;
    while (count < max && !mr_list_is_empty(&liar->unserved)) {
        done[count++] = MR_LIST_ENTRY(mr_list_pop(&liar->unserved), struct mr_disk_op, link);
    }
    count += mr_disk_reap(liar->honest, done + count, max - count);
    for (uint32_t index = 0; index < count; index++) {
        if (liar->lie == MR_SIM_LIE_READ && done[index]->kind == MR_DISK_READ && done[index]->done_bytes > 0 &&
            mr_prng_below(&liar->prng, 40) == 0) {
            uint8_t *bytes = done[index]->buffer;
            bytes[mr_prng_below(&liar->prng, done[index]->done_bytes)] ^= 4;
        }
    }
    disk->in_flight -= count;
    return count;
}

static void liar_wait(struct mr_disk *disk)
{
    struct liar *liar = (struct liar *)(void *)disk;
    if (mr_list_is_empty(&liar->unserved)) {
        liar->honest->ops->wait(liar->honest);
    }
}

static const struct mr_disk_ops liar_ops = {
    .name = "liar", .submit = liar_submit, .reap = liar_reap, .wait = liar_wait};

/* ---- A life ---- */

static void say_log(struct world *w)
{
    const struct mr_log_line *line;
    while ((line = mr_log_out(&w->log)) != NULL) {
        if (w->is_verbose) {
            fprintf(stderr, "%12llu %.*s\n", (unsigned long long)w->now.mono_ns, (int)line->len, line->text);
        }
        mr_log_retire(&w->log);
    }
}

static void begin_life(struct world *w)
{
    w->memory_bytes = mr_storage_core_bytes(&w->plan) + 4 * (SPILL_SLOTS + RING_SLOTS) * 64 + (4u << 20);
    w->memory = mmap(NULL, w->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
    mr_assert(w->memory != MAP_FAILED);
    struct mr_arena arena;
    mr_arena_init(&arena, w->memory, w->memory_bytes);
    mr_log_init(&w->log, &arena, 256, "storage");
    for (uint32_t index = 0; index < 3; index++) {
        w->ports[index] = mr_arena_get(&arena, sizeof(struct mr_port), 64);
        w->ports[index]->self = index;
        w->ports[index]->endpoint_count = 3;
    }
    mr_port_connect(w->ports[DATA], w->ports[STORAGE], &arena, RING_SLOTS, SPILL_SLOTS);
    mr_port_connect(w->ports[STORAGE], w->ports[DATA], &arena, RING_SLOTS, SPILL_SLOTS);
    mr_port_connect(w->ports[STORAGE], w->ports[CONTROL], &arena, RING_SLOTS, SPILL_SLOTS);
    w->liar = (struct liar){.disk.ops = &liar_ops, .world = w, .honest = mr_sim_disk_create(w->fs), .lie = w->lie};
    w->liar.prng.state = mr_prng_next(&w->prng);
    mr_list_init(&w->liar.unserved);
    struct mr_storage_params params = {
        .plan = &w->plan,
        .endpoints = &w->endpoints,
        .port = w->ports[STORAGE],
        .disk = &w->liar.disk,
        .log = &w->log,
        .arena = &arena,
        .log_dir = LOG_DIR,
        .node_id = 1,
        .seed = mr_prng_next(&w->prng),
    };
    w->core = mr_storage_core_init(&params);
    memset(w->held, 0, sizeof w->held);
    memset(w->watches, 0, sizeof w->watches);
    for (uint32_t index = 0; index < CALLS; index++) {
        w->calls[index].is_used = false;
    }
    w->result->lives++;
}

void mr_sim_storage_end_life(struct world *w)
{
    struct mr_storage_stats stats;
    mr_storage_core_stats(w->core, &stats);
    w->result->commits += stats.commits;
    w->result->recycled_files += stats.recycled_files;
    w->result->cold_reads += (uint32_t)stats.cold_reads;
    say_log(w);
    mr_sim_disk_destroy(w->liar.honest);
    munmap(w->memory, w->memory_bytes);
    for (uint32_t index = 0; index < SLOTS; index++) {
        w->slots[index].deletes = 0;
    }
}

/* ---- Answers ---- */

static bool is_stale(const struct note *note)
{
    return note->generation != note->slot->generation || note->slot->is_dropping || !note->slot->is_there;
}

static void seen(struct slot *slot, int64_t offset)
{
    slot->model.floor = offset > slot->model.floor ? offset : slot->model.floor;
}

/* A high watermark is never beyond what was sent, nor below what was promised before it was asked for. */
static void check_watermark(struct world *w, const struct note *note, int64_t high_watermark, const char *what)
{
    if (high_watermark < note->floor || high_watermark > note->slot->model.end) {
        fail(w, "%s %s: high watermark %lld, promised %lld, sent %lld", what, note->slot->topic,
             (long long)high_watermark, (long long)note->floor, (long long)note->slot->model.end);
    }
    seen(note->slot, high_watermark);
}

/* An answer that says only that the disk is broken, where it is. */
static bool is_excused(const struct world *w, enum mr_err err)
{
    return w->is_faulty && (err == MR_ERR_DIR_OFFLINE || err == MR_ERR_IO);
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
            seen(note->slot, note->end);
        }
    }
}

static void hold(struct world *w, const struct mr_lent_span *lent)
{
    struct held        *held = &w->held[draw(w, HELD)];
    struct mr_plane_msg msg = {.kind = MR_PLANE_RELEASE, .count = 1};
    if (held->page != 0) {
        if (mr_crc32c(0, held->span.data, held->span.len) != held->crc) {
            fail(w, "lent bytes changed before they were released");
        }
        msg.u.pages[0] = held->page;
        mr_port_send(w->ports[DATA], STORAGE, &msg);
    }
    *held = (struct held){.span = lent->span, .page = lent->page,
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
    bool is_first_whole = entry->is_first_batch_whole && before == 0;
    if (entry->bytes > entry->bytes_max && !(is_first_whole && entry->bytes == first)) {
        fail(w, "read of %s at %lld: %u bytes, at most %u wanted%s, the first batch has %u", note->slot->topic,
             (long long)entry->offset, entry->bytes, entry->bytes_max, is_first_whole ? " and the first" : "", first);
    }
    if (entry->bytes == 0 && entry->offset < note->floor && is_first_whole && call->u.read.span_max == SPANS) {
        fail(w, "read of %s at %lld: nothing, but [%lld, %lld] is there", note->slot->topic, (long long)entry->offset,
             (long long)note->start, (long long)note->floor);
    }
    check_batches(w, note, entry, got);
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
            hold(w, &op->spans[span]);
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
        int64_t last = mr_model_log_at_time(model, model->start_asked, note->floor, entry->timestamp, &late);
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
        seen(note->slot, model->start);
    } else if (entry->err != MR_ERR_OFFSET_OUT_OF_RANGE || entry->offset <= note->floor) {
        fail(w, "delete below %lld of %s: %s, %lld was promised", (long long)entry->offset, note->slot->topic,
             mr_err_text(entry->err), (long long)note->floor);
    }
    if (note->slot->deletes == 0) {
        model->start_asked = model->start;
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
    if (entry->err != MR_OK || (end >= 0 && (entry->end_epoch != entry->leader_epoch || entry->end_offset < end)) ||
        entry->end_offset > model->end) {
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
    if (is_excused(w, op->op.err) || (w->is_rotten && op->op.err == MR_ERR_DIR_OFFLINE)) {
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
    slot->leader_epoch = op->leader_epoch;
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
    model->start = op->log_start_offset;
    model->start_asked = model->start;
    seen(slot, model->end);
}

static const char *const kinds[] = {"",     "append",    "read",   "list",     "epoch end", "delete",
                                    "recover", "open", "configure", "drop",   "stat",      "stop"};

static void tell(const struct world *w, const char *what, const struct call *call)
{
    if (!w->is_verbose) {
        return;
    }
    fprintf(stderr, "%12llu %s %s", (unsigned long long)w->now.mono_ns, what, kinds[call->u.op.kind]);
    for (uint32_t index = 0; index < call->count; index++) {
        const struct note *note = &call->notes[index];
        fprintf(stderr, " %s.%u[%lld %lld %lld]", note->slot->topic, note->generation, (long long)note->slot->model.start,
                (long long)note->slot->model.floor, (long long)note->slot->model.end);
    }
    fprintf(stderr, " %s\n", mr_err_text(call->u.op.err));
}

static void answer(struct world *w, struct call *call)
{
    tell(w, "<", call);
    call->is_done = true;
    note_answer(w, call->u.op.err);
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
        return; /* looked at by who waits for it */
    }
    call->is_used = false;
}

static void moved(struct world *w, uint64_t token, int64_t high_watermark)
{
    for (uint32_t index = 0; index < WATCHES; index++) {
        struct watch *watch = &w->watches[index];
        if (watch->token != token) {
            continue;
        }
        watch->token = 0;
        struct note note = {.slot = watch->slot, .generation = watch->generation, .floor = watch->offset + 1};
        if (!is_stale(&note) && !w->is_faulty) {
            check_watermark(w, &note, high_watermark, "watch of");
            w->result->watches++;
        }
        return;
    }
    fail(w, "a watch fired twice, or that was never set");
}

static void take_mail(struct world *w)
{
    struct mr_plane_msg msg;
    while (mr_port_receive(w->ports[CONTROL], &msg)) {
        if (!w->is_faulty && !w->is_rotten) {
            fail(w, "control is told of trouble where there is none: message %u", msg.kind);
        }
    }
    while (mr_port_receive(w->ports[DATA], &msg)) {
        if (msg.kind == MR_PLANE_STORAGE_DONE) {
            answer(w, msg.u.op->user);
            continue;
        }
        for (uint32_t index = 0; msg.kind == MR_PLANE_MOVED && index < msg.count; index++) {
            moved(w, msg.u.moved[index].token, msg.u.moved[index].high_watermark);
        }
    }
}

/* ---- Turns and time ---- */

static void flush(struct mr_port *port)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    (void)mr_port_flush(port, woken);
}

static void pass_to(struct world *w, uint64_t at_ns)
{
    if (at_ns > w->now.mono_ns) {
        w->now.unix_ms += (int64_t)(at_ns / MR_NS_PER_MS - w->now.mono_ns / MR_NS_PER_MS);
        w->now.mono_ns = at_ns;
        mr_sim_fs_set_clock(w->fs, at_ns);
    }
}

/* One turn, and when it had nothing to do, time until something will. False: there never will. */
static bool step(struct world *w)
{
    flush(w->ports[DATA]);
    bool is_busy = mr_storage_core_turn(w->core, w->now);
    flush(w->ports[STORAGE]);
    take_mail(w);
    say_log(w);
    pass_to(w, mr_sim_fs_clock(w->fs)); /* what blocked has taken its time */
    if (is_busy || w->ports[DATA]->dirty[0] != 0) {
        return true;
    }
    uint64_t disk_ns = mr_list_is_empty(&w->liar.unserved) ? mr_sim_disk_next_ns(w->liar.honest) : w->now.mono_ns;
    uint64_t core_ns = mr_storage_core_deadline_ns(w->core);
    uint64_t at_ns = disk_ns < core_ns ? disk_ns : core_ns;
    if (at_ns == MR_NEVER) {
        return false;
    }
    pass_to(w, at_ns);
    return true;
}

static struct call *free_call(struct world *w)
{
    for (uint32_t index = 0; index < CALLS; index++) {
        if (!w->calls[index].is_used) {
            return &w->calls[index];
        }
    }
    return NULL;
}

static void send(struct world *w, struct call *call, enum mr_storage_kind kind)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = &call->u.op};
    call->is_used = true;
    call->is_done = false;
    call->u.op.kind = kind;
    call->u.op.user = call;
    tell(w, ">", call);
    mr_port_send(w->ports[DATA], STORAGE, &msg);
}

/* Until everything that was sent is answered (J10): however the disk behaves, it must be. */
static void settle(struct world *w)
{
    const struct call *open = NULL;
    for (uint32_t steps = 0; steps < STEPS_MAX && !is_failed(w); steps++) {
        open = NULL;
        for (uint32_t index = 0; index < CALLS; index++) {
            open = w->calls[index].is_used && !w->calls[index].is_done ? &w->calls[index] : open;
        }
        if (open == NULL) {
            return;
        }
        (void)step(w);
    }
    fail(w, "%s is never answered", kinds[open == NULL ? 0 : open->u.op.kind]);
}

/* A watch whose offset was passed has fired by now. */
static void check_watches(struct world *w)
{
    (void)step(w); /* one that was sent last is taken now, */
    (void)step(w); /* and has fired then */
    for (uint32_t index = 0; index < WATCHES; index++) {
        const struct watch *watch = &w->watches[index];
        struct note         note = {.slot = watch->slot, .generation = watch->generation};
        if (watch->token != 0 && !w->is_faulty && !is_stale(&note) && watch->offset < watch->slot->model.floor) {
            fail(w, "a watch of %s at %lld did not fire at %lld", watch->slot->topic, (long long)watch->offset,
                 (long long)watch->slot->model.floor);
        }
    }
}

/* ---- What is sent ---- */

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
    if (chance(w, 40)) {
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
        if (slot->is_there && !slot->is_dropping) {
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
    send(w, call, MR_STORAGE_APPEND);
}

static void send_read(struct world *w, struct call *call, struct slot *only, int64_t offset, uint32_t bytes_max)
{
    call->count = 0;
    for (uint32_t tries = only == NULL ? 1 + (uint32_t)draw(w, ENTRIES) : 1; tries > 0; tries--) {
        struct slot *slot = only != NULL ? only : some_slot(w);
        if (slot == NULL) {
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
    send(w, call, MR_STORAGE_READ);
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
    send(w, call, MR_STORAGE_LIST_OFFSETS);
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
    send(w, call, MR_STORAGE_DELETE_RECORDS);
}

static void send_open(struct world *w, struct call *call, struct slot *slot)
{
    call->count = 1;
    call->notes[0] = note_of(slot);
    call->u.open = (struct mr_open_op){
        .topic = mr_str(slot->topic),
        .partition = 0,
        .leader_epoch = slot->leader_epoch + (chance(w, 30) ? 1 : 0),
        .config = &slot->config,
    };
    call->u.open.topic_id.bytes[0] = (uint8_t)slot->topic[0];
    call->u.open.topic_id.bytes[15] = (uint8_t)slot->generation;
    send(w, call, MR_STORAGE_OPEN);
}

/* A new topic of an old name. */
static void make_slot(struct world *w, struct slot *slot)
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
    mr_port_send(w->ports[DATA], STORAGE, &msg);
}

static void send_drop(struct world *w, struct call *call, struct slot *slot)
{
    slot->is_dropping = true;
    slot->is_doomed = true;
    call->count = 1;
    call->notes[0] = note_of(slot);
    call->u.drop = (struct mr_drop_op){.log_id = slot->log_id};
    send(w, call, MR_STORAGE_DROP);
}

static void act(struct world *w)
{
    struct call *call = free_call(w);
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
        send_read(w, call, NULL, 0, 0);
        return;
    }
    if (slot == NULL) {
        slot = &w->slots[draw(w, SLOTS)];
        if (!slot->is_there && !slot->is_dropping) {
            make_slot(w, slot);
            send_open(w, call, slot);
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
        call->e.stat[0] = (struct mr_log_stat_entry){.log_id = slot->log_id};
        call->u.stat = (struct mr_log_stat_op){.entry_count = 1, .entries = call->e.stat};
        send(w, call, MR_STORAGE_LOG_STAT);
    } else if (what < 94) {
        call->e.epoch[0] = (struct mr_epoch_end_entry){.log_id = slot->log_id, .current_leader_epoch = -1,
                                                       .leader_epoch = (int32_t)draw(w, (uint64_t)slot->leader_epoch + 2)};
        call->u.epoch = (struct mr_epoch_end_op){.entry_count = 1, .entries = call->e.epoch};
        send(w, call, MR_STORAGE_EPOCH_END);
    } else if (what < 98) {
        send_delete(w, call, slot);
    } else {
        send_drop(w, call, slot);
    }
}

/* ---- Start and end ---- */

/* Wait for an operation that is looked at here. */
static enum mr_err finish(struct world *w, struct call *call)
{
    settle(w);
    call->is_used = false;
    return call->u.op.err;
}

static bool recover(struct world *w)
{
    struct call *call = free_call(w);
    call->count = 0;
    call->u.recover = (struct mr_recover_op){0};
    send(w, call, MR_STORAGE_RECOVER);
    enum mr_err err = finish(w, call);
    if (err != MR_OK && !w->is_faulty && !w->is_rotten) {
        fail(w, "recovery: %s: %s", mr_err_text(err), call->u.recover.why);
    }
    if (err == MR_OK && w->is_clean && !call->u.recover.was_clean) {
        fail(w, "the marker of a clean stop is gone");
    }
    return err == MR_OK;
}

/* Everything there is, from the first batch to the last. */
static void read_all(struct world *w, struct slot *slot)
{
    int64_t offset = slot->model.start;
    while (offset < slot->model.end && !is_failed(w) && !w->is_faulty) {
        struct call *call = free_call(w);
        send_read(w, call, slot, offset, 100000);
        settle(w);
        const struct mr_read_entry *entry = &call->e.read[0];
        uint32_t                    index = mr_model_log_find(&slot->model, offset);
        for (uint32_t at = 0; at < entry->bytes && index < slot->model.batch_count; index++) {
            at += slot->model.batches[index].bytes;
            offset = slot->model.batches[index].base + slot->model.batches[index].count;
        }
    }
}

/* The directory is at rest: its indexes are what its segments say. Behind rot they are not asked: a log that lost entries
 * stays as it is, without the ends of its indexes, and which one did is told by OPEN only. */
static void check_indexes(struct world *w)
{
    for (uint32_t index = 0; index < SLOTS && !w->is_faulty && !w->is_rotten && w->lie == MR_SIM_HONEST; index++) {
        const struct slot *slot = &w->slots[index];
        char               dir[64];
        char               why[256];
        mr_fmt(dir, sizeof dir, LOG_DIR "/%s-0", slot->topic);
        if (slot->is_there && !mr_check_index_dir(w->fs, dir, slot->model.start_asked, why, sizeof why)) {
            fail(w, "%s", why);
        }
    }
}

bool mr_sim_storage_start(struct world *w)
{
    begin_life(w);
    if (!recover(w)) {
        return false;
    }
    check_indexes(w);
    for (uint32_t index = 0; index < SLOTS; index++) {
        struct slot *slot = &w->slots[index];
        if (slot->is_there || slot->is_dropping) {
            send_open(w, free_call(w), slot);
        }
    }
    settle(w);
    for (uint32_t index = 0; index < SLOTS && !w->is_faulty; index++) {
        if (w->slots[index].is_doomed) {
            send_drop(w, free_call(w), &w->slots[index]);
        }
    }
    settle(w);
    for (uint32_t index = 0; index < SLOTS && !is_failed(w); index++) {
        if (w->slots[index].is_there && !w->slots[index].is_dropping) {
            read_all(w, &w->slots[index]);
        }
    }
    return !is_failed(w);
}

void mr_sim_storage_live(struct world *w, uint64_t steps)
{
    for (; steps > 0 && !is_failed(w); steps--) {
        act(w);
        for (uint64_t turns = draw(w, 4); turns > 0; turns--) {
            (void)step(w);
        }
        if (chance(w, 2)) {
            settle(w);
            check_watches(w);
        }
    }
}

void mr_sim_storage_look(struct world *w, uint32_t count)
{
    for (; count > 0 && !is_failed(w); count--) {
        struct call *call = free_call(w);
        struct slot *slot = some_slot(w);
        if (slot == NULL) {
            continue;
        }
        if (chance(w, 50)) {
            send_read(w, call, slot, some_offset(w, &slot->model), 20000);
        } else {
            call->count = 1;
            call->notes[0] = note_of(slot);
            send_list(w, call, slot);
        }
        settle(w);
    }
}

void mr_sim_storage_rest(struct world *w, uint64_t ns)
{
    settle(w);
    for (uint64_t until_ns = w->now.mono_ns + ns; w->now.mono_ns < until_ns && !is_failed(w);) {
        if (!step(w)) {
            pass_to(w, until_ns);
        }
    }
}

/* Which trouble this life has. */
enum fate { FATE_STOP, FATE_KILL, FATE_CUT, FATE_DIE, FATE_FAULT, FATE_COUNT };

static void arrange(struct world *w, enum fate fate)
{
    if (fate == FATE_DIE) {
        mr_sim_fs_die_at(w->fs, mr_sim_fs_op_count(w->fs) + 1 + draw(w, chance(w, 50) ? 60 : 600));
        w->is_faulty = true;
        w->result->deaths++;
    } else if (fate == FATE_FAULT) {
        struct mr_sim_fault fault = {
            .kinds = 1u << (chance(w, 60) ? MR_DISK_WRITE : MR_DISK_SYNC_FS),
            .nth = draw(w, 200),
            .err = MR_ERR_IO,
            .is_sticky = chance(w, 50),
        };
        mr_sim_fs_fail(w->fs, &fault);
        w->is_faulty = true;
        w->result->faults++;
    }
}

bool mr_sim_storage_stop(struct world *w)
{
    settle(w);
    check_watches(w);
    struct call *call = free_call(w);
    call->count = 0;
    call->u.stop = (struct mr_stop_op){.is_last = true, .broker_epoch = 7};
    send(w, call, MR_STORAGE_STOP);
    enum mr_err err = finish(w, call);
    if (err != MR_OK && !w->is_faulty) {
        fail(w, "clean stop: %s", mr_err_text(err));
    }
    if (err == MR_OK) {
        check_indexes(w);
    }
    return err == MR_OK;
}

void mr_sim_storage_forget_unflushed(struct world *w)
{
    for (uint32_t index = 0; index < SLOTS; index++) {
        if (w->slots[index].config.ack == MR_ACK_WRITE) {
            w->slots[index].model.floor = w->slots[index].model.start;
        }
    }
}

static void crash(struct world *w, enum fate fate)
{
    mr_sim_storage_end_life(w);
    w->is_clean = false;
    if (fate == FATE_KILL || (fate == FATE_FAULT && chance(w, 50))) {
        mr_sim_fs_process_kill(w->fs, mr_prng_next(&w->prng));
        w->result->kills++;
    } else {
        mr_sim_fs_power_cut(w->fs, (enum mr_sim_cut)draw(w, MR_SIM_CUT_COUNT), mr_prng_next(&w->prng));
        w->result->power_cuts++;
        mr_sim_storage_forget_unflushed(w);
    }
    mr_sim_fs_heal(w->fs);
    w->is_faulty = false;
}

static void life(struct world *w)
{
    enum fate fate = (enum fate)draw(w, FATE_COUNT);
    arrange(w, fate);
    if (w->is_verbose) {
        fprintf(stderr, "-- life %u, fate %d\n", w->result->lives, (int)fate);
    }
    bool is_started = mr_sim_storage_start(w);
    if (is_started) {
        mr_sim_storage_live(w, 20 + draw(w, 200));
    }
    if (is_failed(w)) {
        mr_sim_storage_end_life(w);
        return;
    }
    if (is_started && (fate == FATE_STOP || (w->is_faulty && chance(w, 30)))) {
        if (mr_sim_storage_stop(w)) {
            w->result->clean_stops++;
            w->is_clean = true;
            for (uint32_t index = 0; index < SLOTS; index++) {
                seen(&w->slots[index], w->slots[index].model.end);
            }
            mr_sim_storage_end_life(w);
            mr_sim_fs_process_kill(w->fs, 0);
            mr_sim_fs_heal(w->fs);
            w->is_faulty = false;
            if (chance(w, 50)) {
                mr_sim_fs_power_cut(w->fs, MR_SIM_CUT_DROP, 0);
            }
            return;
        }
        if (is_failed(w)) {
            mr_sim_storage_end_life(w);
            return;
        }
    }
    crash(w, fate);
}

struct world *mr_sim_storage_create(uint64_t seed, enum mr_sim_lie lie, bool is_verbose,
                                    struct mr_sim_storage_result *result)
{
    struct world *w = calloc(1, sizeof *w);
    mr_assert(w != NULL);
    *result = (struct mr_sim_storage_result){.hash = seed};
    w->prng.state = seed;
    w->result = result;
    w->lie = lie;
    w->is_verbose = is_verbose;
    w->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    w->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    w->bytes = malloc(READ_MAX + MR_MODEL_BATCH_MAX);
    w->plan = (struct mr_storage_plan){
        .logs_max = 16,
        .cache_bytes = chance(w, 50) ? 2u << 20 : 8u << 20,
        .cold_bytes = 2u << 20,
        .journal_file_bytes = 1u << 20,
        .journal_files_max = 2 + (uint32_t)draw(w, 3),
        .producers_max = 64,
        .disk_reserve_bytes = 1u << 20,
        .segments_max = 2048,
        .retention_check_ms = 300000,
        .producer_check_ms = 600000,
    };
    w->fs = mr_sim_fs_create(mr_prng_next(&w->prng));
    mr_sim_fs_set_clock(w->fs, w->now.mono_ns);
    mr_sim_fs_put(w->fs, LOG_DIR "/meta.properties", properties, sizeof properties - 1);
    if (chance(w, 75)) {
        mr_sim_fs_latency(w->fs, 1000, 1000 + draw(w, 3 * MR_NS_PER_MS), chance(w, 50));
    }
    for (uint32_t index = 0; index < SLOTS; index++) {
        mr_fmt(w->slots[index].topic, sizeof w->slots[index].topic, "%c", (int)('a' + index));
        make_slot(w, &w->slots[index]);
        w->slots[index].is_dropping = index < SLOTS - 1; /* opened by the first life */
    }
    return w;
}

void mr_sim_storage_lives(struct world *w)
{
    for (uint64_t lives = 2 + draw(w, 4); lives > 0 && !is_failed(w); lives--) {
        life(w);
    }
    /* And a last one without trouble: everything is still there. */
    if (!is_failed(w)) {
        if (mr_sim_storage_start(w)) {
            (void)mr_sim_storage_stop(w);
        }
        mr_sim_storage_end_life(w);
    }
}

void mr_sim_storage_destroy(struct world *w)
{
    mr_sim_fs_destroy(w->fs);
    free(w->bytes);
    free(w);
}

void mr_sim_storage_run(uint64_t seed, enum mr_sim_lie lie, bool is_verbose, struct mr_sim_storage_result *result)
{
    struct world *w = mr_sim_storage_create(seed, lie, is_verbose, result);
    mr_sim_storage_lives(w);
    mr_sim_storage_destroy(w);
}
