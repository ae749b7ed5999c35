/*
 * append: a batch gets its offset, goes into the open commit and into the tail, and is answered later.
 *
 *   refuse early: unknown, offline, full, wrong epoch, too large, producer
 *   wait:         the log's last block is being read; no room in the journal or the cache
 *   assign:       offset, epoch, time -> header; journal entry; tail; indexes; ends
 *
 * Order per log is the order of arrival, also for what waits: an entry that waits for its own log
 * holds up that log only; one that waits for room holds up everything behind it, or a small batch
 * could overtake a large one of the same producer.
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

enum append_result {
    APPEND_DONE,     /* entry->err says how it ended; entry->seq what it waits for */
    APPEND_LOG_WAIT, /* this log is not ready */
    APPEND_ROOM_WAIT,
    APPEND_ADMITTED, /* it may have its offset */
};

/* The entry is over, with MR_OK too. */
static enum append_result refuse(struct mr_append_entry *entry, enum mr_err err)
{
    entry->err = err;
    return APPEND_DONE;
}

/* With LogAppendTime the broker's clock replaces the producer's, so the CRC changes. */
static void stamp_time(const struct mr_storage_core *core, struct mr_append_entry *entry, struct mr_batch *batch,
                       uint8_t header[MR_BATCH_HEADER])
{
    batch->attributes |= MR_BATCH_LOG_APPEND_TIME;
    batch->max_timestamp = core->now.unix_ms;
    entry->log_append_time_ms = core->now.unix_ms;
    mr_batch_header_store(batch, header);
    uint32_t crc = mr_crc32c(0, header + MR_BATCH_CHECKED_AT, MR_BATCH_HEADER - MR_BATCH_CHECKED_AT);
    uint32_t at = MR_BATCH_HEADER;
    for (uint32_t index = 0; index < entry->batch.span_count; index++) {
        const struct mr_span *span = &entry->batch.spans[index];
        uint32_t skip = at < span->len ? at : span->len;
        crc = mr_crc32c(crc, span->data + skip, span->len - skip);
        at -= skip;
    }
    batch->crc = crc;
}

/* The end of a transaction, as against control batches of the metadata log. */
static bool is_marker(const struct mr_append_entry *entry, const struct mr_batch *batch)
{
    return (batch->attributes & MR_BATCH_CONTROL) != 0 &&
           (entry->origin == MR_APPEND_COORDINATOR || entry->origin == MR_APPEND_COPY);
}

static enum mr_err check_producer(struct mr_storage_core *core, struct mr_partition *p,
                                  struct mr_append_entry *entry, const struct mr_batch *batch)
{
    const struct mr_producer_batch *duplicate = NULL;
    if (entry->origin == MR_APPEND_COPY) {
        return mr_txn_check_copy(core, p, entry, batch);
    }
    if (entry->origin != MR_APPEND_CLIENT) {
        return is_marker(entry, batch) ? mr_txn_check_marker(core, p, entry, batch) : MR_OK;
    }
    if (batch->producer_id < 0 || mr_bug("forget-duplicates")) {
        return MR_OK;
    }
    if (mr_bug("swap-two")) { /* a batch is refused for a moment, and those behind it pass */
        return mr_bug_each("swap-two", 20) ? MR_ERR_NOT_LEADER : MR_OK;
    }
    enum mr_err err = mr_producer_check(&core->producers, &p->producers, batch, &duplicate);
    if (duplicate == NULL && (batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        enum mr_err txn = mr_txn_check_data(core, p, entry, batch);
        err = txn != MR_OK ? txn : err; /* in Kafka's order */
    }
    if (err == MR_OK && duplicate != NULL) {
        entry->is_duplicate = true;
        entry->base_offset = duplicate->last_offset - duplicate->offset_delta;
        entry->log_append_time_ms =
            p->config.timestamp_type == MR_TIMESTAMP_LOG_APPEND_TIME ? duplicate->timestamp : -1;
        /* Not before what it duplicates is durable: that is at latest the log's last entry. */
        entry->seq = p->jlog.last_seq;
    }
    return err;
}

/* The block that holds the end of the log is in the file: it may be rewritten only after it is journaled (J4). */
static enum mr_err journal_image(struct mr_storage_core *core, struct mr_partition *p)
{
    const struct mr_page   *run = MR_LIST_ENTRY(p->runs.prev, struct mr_page, link);
    if (mr_bug("forget-image")) {
        p->is_image_due = false;
        return MR_OK;
    }
    struct mr_journal_entry image = {.kind = MR_JOURNAL_IMAGE,
                                     .offset = p->end.offset,
                                     .segment_base = p->active->base,
                                     .pos = run->pos};
    struct mr_journal_payload payload = {.prefix = mr_page_memory(&core->cache, run),
                                         .prefix_bytes = run->used,
                                         .bytes = UINT32_MAX};
    uint64_t seq = 0;
    enum mr_err err = mr_journal_add(core->journal, &p->jlog, &image, &payload, &seq);
    if (err == MR_OK) {
        p->is_image_due = false;
        mr_demux_note_dirty(core, p, seq);
    }
    return err;
}

#define LENT_RUNS_MAX 8 /* a batch over more runs of the tail is copied */

/* The test that readers see what was sent: the third last byte is another one. */
static void flip_one_byte(struct mr_storage_core *core, struct mr_partition *p)
{
    struct mr_list *link = p->runs.prev;
    while (MR_LIST_ENTRY(link, struct mr_page, link)->used == 0) {
        link = link->prev;
    }
    struct mr_page *run = MR_LIST_ENTRY(link, struct mr_page, link);
    mr_page_memory(&core->cache, run)[run->used - (run->used < 3 ? 1 : 3)] ^= 1;
}

/*
 * `part` bytes of a batch, from p->part_at on, into the journal and to the end of the tail. A large part is copied
 * once: its blocks are written to the journal from the tail, where they will lie when this is over.
 */
static enum mr_err store_part(struct mr_storage_core *core, struct mr_partition *p, struct mr_append_entry *entry,
                              const struct mr_batch *batch, const uint8_t header[MR_BATCH_HEADER], uint32_t part,
                              uint64_t *seq)
{
    uint32_t                bytes = entry->batch.bytes;
    struct mr_journal_entry head = {
        .kind = MR_JOURNAL_APPEND,
        .flags = (p->is_internal ? (uint32_t)MR_JOURNAL_RESERVED : 0u) |
                 (p->config.ack == MR_ACK_WRITE ? (uint32_t)MR_JOURNAL_EARLY : 0u),
        .offset = batch->base_offset,
        .last_offset = mr_batch_last_offset(batch),
        .segment_base = p->active->base,
        .pos = p->active->size,
        .epoch = batch->leader_epoch,
        .part_at = p->part_at,
        .batch_bytes = part == bytes ? 0 : bytes,
    };
    struct mr_journal_lent    lent[LENT_RUNS_MAX];
    struct mr_journal_payload payload = {.prefix = header,
                                         .prefix_bytes = MR_BATCH_HEADER,
                                         .chain = &entry->batch,
                                         .at = p->part_at,
                                         .bytes = part,
                                         .lent = lent};
    if (part >= MR_JOURNAL_LEND_MIN) {
        payload.lent_count = mr_tail_lend(core, p, part, lent, LENT_RUNS_MAX);
        payload.checked_bytes = part == bytes ? bytes - MR_BATCH_CHECKED_AT : 0;
        payload.checked_crc = batch->crc;
    }
    enum mr_err err = mr_journal_add(core->journal, &p->jlog, &head, &payload, seq);
    if (err != MR_OK) {
        return err;
    }
    mr_demux_note_dirty(core, p, *seq);
    p->first_part_seq = p->part_at == 0 ? *seq : p->first_part_seq;
    mr_tail_append(core, p, &payload, p->part_at == 0 ? batch->base_offset : -1, *seq);
    if (entry->origin == MR_APPEND_CLIENT && mr_bug("flip-one-byte")) {
        flip_one_byte(core, p);
    }
    p->part_at += part;
    return MR_OK;
}

/* One batch, in parts when one entry cannot hold it. MR_AGAIN: go on later from p->part_at. */
static enum mr_err store(struct mr_storage_core *core, struct mr_partition *p, struct mr_append_entry *entry,
                         const struct mr_batch *batch, const uint8_t header[MR_BATCH_HEADER], uint64_t *seq)
{
    uint32_t    bytes = entry->batch.bytes;
    uint32_t    part_max = mr_journal_payload_max(core->journal);
    enum mr_err err = MR_OK;
    while (err == MR_OK && p->part_at < bytes) {
        uint32_t left = bytes - p->part_at;
        err = store_part(core, p, entry, batch, header, left < part_max ? left : part_max, seq);
    }
    return err;
}

/*
 * Whether journal and cache take the batch now. One in several parts must be able to end without the oldest file
 * being recycled, because a checkpoint in the middle of it would tear it: it begins only when the ring has or can
 * grow that much, while nothing is being recycled, and until it ends no other batch begins (core->part_open).
 */
static bool has_room(struct mr_storage_core *core, struct mr_partition *p, uint32_t bytes)
{
    bool is_room = bytes <= mr_journal_payload_max(core->journal)
                       ? mr_journal_has_room(core->journal, &p->jlog, bytes)
                       : mr_journal_fits_parts(core->journal, bytes);
    return is_room && !mr_fail(MR_FAIL_journal_room) && mr_tail_reserve(core, p, bytes);
}

/*
 * What is copied has offsets without records, which compaction or a log start have left. The journal takes an append
 * behind the end of a log for a loss, so it is told: the log ends there, and nothing that it has lies behind.
 */
static enum mr_err skip_to(struct mr_storage_core *core, struct mr_partition *p, int64_t offset)
{
    struct mr_journal_entry skip = {.kind = MR_JOURNAL_TRUNCATE,
                                    .offset = offset,
                                    .segment_base = p->active->base,
                                    .pos = p->active->size};
    uint64_t    seq = 0;
    enum mr_err err = mr_journal_add(core->journal, &p->jlog, &skip, NULL, &seq);
    if (err == MR_OK) {
        p->end.offset = offset;
    }
    return err;
}

/* Everything before the batch gets its offset. */
static enum append_result admit(struct mr_storage_core *core, struct mr_partition *p, struct mr_append_entry *entry,
                                const struct mr_batch *batch)
{
    uint32_t bytes = entry->batch.bytes;
    entry->log_start_offset = p->log_start;
    if (entry->leader_epoch >= 0 && entry->origin != MR_APPEND_CONTROLLER && entry->leader_epoch != p->leader_epoch) {
        return refuse(entry, entry->leader_epoch < p->leader_epoch ? MR_ERR_FENCED_EPOCH : MR_ERR_UNKNOWN_EPOCH);
    }
    bool is_copy = entry->origin == MR_APPEND_COPY;
    if (is_copy && batch->base_offset < p->end.offset) {
        return refuse(entry, MR_ERR_INVALID);
    }
    if ((bytes > p->config.segment_bytes && !is_copy) || bytes > mr_journal_batch_max(core->journal)) {
        return refuse(entry, MR_ERR_RECORD_LIST_TOO_LARGE);
    }
    enum mr_err err = check_producer(core, p, entry, batch);
    if (err != MR_OK || entry->is_duplicate) {
        return refuse(entry, err);
    }
    if (entry->origin == MR_APPEND_CLIENT && mr_bug_nth("drop-one-record", 2)) {
        mr_producer_update(&core->producers, &p->producers, batch);
        entry->base_offset = p->end.offset;
        return refuse(entry, MR_OK);
    }
    /* Our own logs go on from the reserve. */
    if (!p->is_internal && !mr_space_has(core, bytes)) {
        mr_space_refuse(core, bytes);
        if (mr_bug("full-is-failed")) {
            mr_journal_fail(core->journal, MR_ERR_NO_SPACE, 28, "a full disk");
        }
        return refuse(entry, MR_ERR_DIR_FULL);
    }
    if (p->tail == MR_TAIL_COLD) {
        mr_tail_hydrate(core, p);
    }
    if (p->tail != MR_TAIL_HOT) {
        return core->is_offline ? refuse(entry, MR_ERR_DIR_OFFLINE) : APPEND_LOG_WAIT;
    }
    if (p->is_image_due && journal_image(core, p) != MR_OK) {
        return core->is_offline ? refuse(entry, MR_ERR_DIR_OFFLINE) : APPEND_ROOM_WAIT;
    }
    if (is_copy && batch->base_offset > p->end.offset && skip_to(core, p, batch->base_offset) != MR_OK) {
        return core->is_offline ? refuse(entry, MR_ERR_DIR_OFFLINE) : APPEND_ROOM_WAIT;
    }
    if (mr_roll_is_due(core, p, batch, bytes)) {
        err = mr_roll(core, p);
        if (err != MR_OK) {
            return err == MR_AGAIN ? APPEND_ROOM_WAIT : refuse(entry, err);
        }
    }
    if (!has_room(core, p, is_marker(entry, batch) ? bytes + 4 * MR_ABORTED_ENTRY : bytes)) {
        return APPEND_ROOM_WAIT;
    }
    mr_space_take(core, bytes);
    p->part_of = entry;
    p->part_at = 0;
    core->part_open = bytes > mr_journal_payload_max(core->journal) ? p : NULL;
    return APPEND_ADMITTED;
}

/* The log, or NULL: the entry is refused. */
static struct mr_partition *find(struct mr_storage_core *core, struct mr_append_entry *entry)
{
    struct mr_partition *p = mr_core_find(core, entry->log_id);
    if (core->is_offline || (p != NULL && p->state == MR_PARTITION_OFFLINE)) {
        (void)refuse(entry, MR_ERR_DIR_OFFLINE);
        return NULL;
    }
    if (p == NULL || p->state != MR_PARTITION_OPEN) {
        (void)refuse(entry, MR_ERR_UNKNOWN_LOG);
        return NULL;
    }
    if (p->is_held && p->part_of != entry) { /* one that has begun ends */
        (void)refuse(entry, MR_ERR_NOT_LEADER);
        return NULL;
    }
    return p;
}

/* Offset, epoch and perhaps time, into the header that is stored. */
static void assign(struct mr_storage_core *core, struct mr_partition *p, struct mr_append_entry *entry,
                   struct mr_batch *batch, uint8_t header[MR_BATCH_HEADER])
{
    batch->base_offset = p->end.offset;
    if (entry->origin != MR_APPEND_COPY) {
        batch->leader_epoch = entry->origin == MR_APPEND_CONTROLLER && entry->leader_epoch >= 0 ? entry->leader_epoch
                                                                                                : p->leader_epoch;
    }
    bool is_stamped = p->config.timestamp_type == MR_TIMESTAMP_LOG_APPEND_TIME;
    if (((is_stamped && !mr_bug("keep-create-time")) || mr_bug("restamp-batches")) &&
        entry->origin == MR_APPEND_CLIENT) {
        if (p->part_at > 0) { /* the same time in all parts */
            batch->max_timestamp = entry->log_append_time_ms;
        } else {
            stamp_time(core, entry, batch, header);
        }
    }
    mr_batch_header_store(batch, header);
}

/* No batch of the log is under way any more. */
static void part_end(struct mr_storage_core *core, struct mr_partition *p)
{
    p->part_of = NULL;
    p->part_at = 0;
    core->part_open = NULL;
}

/* All of the batch is in the journal and at `pos` of the tail: the log ends behind it. */
static void appended(struct mr_storage_core *core, struct mr_partition *p, struct mr_append_entry *entry,
                     const struct mr_batch *batch, uint32_t pos, uint64_t seq)
{
    uint32_t bytes = entry->batch.bytes;
    p->end.offset = batch->base_offset + batch->last_offset_delta + 1;
    p->is_carried = false;
    p->is_clean_on_disk = false;
    p->active->changed_ms = core->now.unix_ms;
    mr_segment_index(core, p->active, batch, pos, bytes);
    if (batch->leader_epoch > mr_epoch_cache_latest(&p->epochs)) {
        mr_partition_set_epoch_room(core, p);
        p->is_epoch_dirty |= mr_epoch_cache_assign(&p->epochs, batch->leader_epoch, batch->base_offset);
    }
    if ((batch->attributes & (MR_BATCH_TRANSACTIONAL | MR_BATCH_CONTROL)) != 0 && batch->producer_id >= 0) {
        mr_txn_appended(core, p, entry, batch);
    } else if (batch->producer_id >= 0) {
        mr_producer_update(&core->producers, &p->producers, batch);
    }
    mr_partition_pending_add(core, p, p->first_part_seq, seq);
    core->stats.appends++;
    core->stats.append_records += mr_bug("count-batches") ? 1 : (uint64_t)batch->record_count;
    core->stats.append_bytes += bytes;
    mr_trace(core->params.trace, MR_EVENT_offset_assigned, (uint64_t)batch->base_offset, bytes);
    entry->base_offset = batch->base_offset;
    entry->log_start_offset = p->log_start;
    entry->seq = seq;
}

static enum append_result append(struct mr_storage_core *core, struct mr_append_entry *entry)
{
    uint8_t              scratch[MR_BATCH_HEADER];
    uint8_t              header[MR_BATCH_HEADER];
    struct mr_batch      batch;
    struct mr_partition *p = find(core, entry);
    if (p == NULL) {
        return APPEND_DONE;
    }
    mr_assert(entry->batch.bytes >= MR_BATCH_HEADER);
    mr_batch_header_load(mr_chain_view(&entry->batch, 0, MR_BATCH_HEADER, scratch), &batch);
    mr_assert(mr_batch_bytes(&batch) == entry->batch.bytes && batch.last_offset_delta >= 0);
    bool is_behind_parts = (core->part_open != NULL && core->part_open != p) ||
                           (p->part_of != NULL && p->part_of != entry);
    if (is_behind_parts) {
        return APPEND_LOG_WAIT;
    }
    if (p->part_of == NULL) {
        enum append_result result = admit(core, p, entry, &batch);
        if (result != APPEND_ADMITTED) {
            return result;
        }
    }
    assign(core, p, entry, &batch, header);
    uint32_t    pos = p->active->size - p->part_at;
    uint64_t    seq = 0;
    enum mr_err err = is_marker(entry, &batch) ? mr_txn_journal(core, p, entry, &batch) : MR_OK;
    err = err != MR_OK ? err : store(core, p, entry, &batch, header, &seq);
    if (err == MR_AGAIN && p->part_at > 0) {
        return APPEND_LOG_WAIT; /* the rest of it, when there is room */
    }
    part_end(core, p);
    if (err == MR_AGAIN) {
        return APPEND_ROOM_WAIT;
    }
    if (err == MR_OK) {
        appended(core, p, entry, &batch, pos, seq);
    }
    return refuse(entry, err);
}

/* Try the entries of `op` that have no offset yet. False: nothing behind it may pass. */
static bool advance(struct mr_storage_core *core, struct mr_append_op *op)
{
    for (uint32_t index = 0; index < op->entry_count && op->op.pending > 0; index++) {
        struct mr_append_entry *entry = &op->entries[index];
        if (entry->err != MR_AGAIN) {
            continue;
        }
        struct mr_partition *p = mr_core_find(core, entry->log_id);
        if (p != NULL && p->is_passed) {
            continue; /* an entry before this one waits for the same log */
        }
        enum append_result result = append(core, entry);
        if (result == APPEND_ROOM_WAIT) {
            return false;
        }
        if (result == APPEND_LOG_WAIT) {
            p->is_passed = true;
            continue;
        }
        op->op.pending--;
    }
    return true;
}

static void assigned(struct mr_storage_core *core, struct mr_append_op *op)
{
    uint64_t seq = 0;
    bool     is_written_enough = true;
    for (uint32_t index = 0; index < op->entry_count; index++) {
        const struct mr_append_entry *entry = &op->entries[index];
        if (entry->err != MR_OK || entry->seq == 0) {
            continue;
        }
        const struct mr_partition *p = mr_core_find(core, entry->log_id);
        is_written_enough &= p != NULL && p->config.ack == MR_ACK_WRITE;
        seq = entry->seq > seq ? entry->seq : seq;
    }
    if (seq == 0 || op->acks == 0 || mr_bug("answer-before-flush")) {
        mr_core_answer(core, &op->op);
        return;
    }
    mr_core_ack_later(core, &op->op, seq, is_written_enough);
}

void mr_append_op_start(struct mr_storage_core *core, struct mr_append_op *op)
{
    op->op.pending = op->entry_count;
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_append_entry *entry = &op->entries[index];
        entry->err = MR_AGAIN;
        entry->is_duplicate = false;
        entry->base_offset = -1;
        entry->log_append_time_ms = -1;
        entry->log_start_offset = -1;
        entry->seq = 0;
    }
    /* A request that the data cores could not wait for may come behind the stop: it would be too late for the files of
     * its log, or for the journal. */
    if (core->is_offline || core->is_stopping) {
        op->op.pending = 0;
        for (uint32_t index = 0; index < op->entry_count; index++) {
            op->entries[index].err = MR_ERR_DIR_OFFLINE;
        }
        mr_core_answer(core, &op->op);
        return;
    }
    /* Behind what waits, always: the retry goes through them in order. */
    if (!mr_list_is_empty(&core->parked)) {
        mr_list_add_tail(&core->parked, &op->op.link);
        core->is_append_due = true;
        return;
    }
    if (!advance(core, op)) {
        core->is_parked_blocked = true;
    }
    if (op->op.pending == 0) {
        assigned(core, op);
    } else {
        mr_list_add_tail(&core->parked, &op->op.link);
    }
    mr_append_passed_reset(core);
}

void mr_append_passed_reset(struct mr_storage_core *core)
{
    MR_LIST_EACH(link, &core->parked) {
        struct mr_append_op *op = (struct mr_append_op *)(void *)MR_LIST_ENTRY(link, struct mr_storage_op, link);
        for (uint32_t index = 0; index < op->entry_count; index++) {
            struct mr_partition *p = mr_core_find(core, op->entries[index].log_id);
            if (p != NULL) {
                p->is_passed = false;
            }
        }
    }
}

void mr_append_retry(struct mr_storage_core *core)
{
    core->is_append_due = false;
    if (mr_bug("forget-the-parked")) {
        return;
    }
    core->is_parked_blocked = false;
    MR_LIST_EACH_SAFE(link, after, &core->parked) {
        struct mr_append_op *op = (struct mr_append_op *)(void *)MR_LIST_ENTRY(link, struct mr_storage_op, link);
        bool may_go_on = advance(core, op);
        if (op->op.pending == 0) {
            mr_list_remove(&op->op.link);
            for (uint32_t index = 0; index < op->entry_count; index++) {
                struct mr_partition *p = mr_core_find(core, op->entries[index].log_id);
                if (p != NULL) {
                    p->is_passed = false;
                }
            }
            assigned(core, op);
        }
        if (!may_go_on) {
            core->is_parked_blocked = true;
            break;
        }
    }
    mr_append_passed_reset(core);
}
