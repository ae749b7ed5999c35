/*
 * journal_state: the state file, what is already in synced segments.
 *
 *   0          64 KiB        128 KiB
 *   [ slot A ] [ slot B ]    [ block ][ block ] ... appended at each recycling; rewritten when it has grown
 *
 * A slot says from where the ring counts and how many bytes of blocks count. They are hints that are
 * checked: the chain must reach slot.durable_seq, or the journal has lost something. A block is a run of
 * records, one per log, the latest of which is the log's state. Layout: docs/FORMATS.md.
 */
#include "journal_private.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"

#define SLOT_MAGIC   0x54504b434852524dull /* "MRRHCKPT" */
#define BLOCK_MAGIC  0x455441545352524dull /* "MRRSTATE" */
#define SLOT_BYTES   96u
#define EPOCH_BYTES  12u
#define PRODUCER_HEAD 40u
#define PRODUCER_BATCH 24u

void mr_journal_state_name(char name[MR_JOURNAL_NAME], uint32_t ring)
{
    mr_fmt(name, MR_JOURNAL_NAME, "millrace-state-%u", ring);
}

void mr_journal_state_slot_store(uint8_t block[MR_JOURNAL_BLOCK], const struct mr_uuid *directory_id,
                                 uint32_t ring, const struct mr_state_slot *slot)
{
    memset(block, 0, MR_JOURNAL_BLOCK);
    mr_store_le64(block, SLOT_MAGIC);
    mr_store_le32(block + 12, ring);
    memcpy(block + 16, directory_id->bytes, 16);
    mr_store_le64(block + 32, slot->number);
    mr_store_le64(block + 40, slot->incarnation);
    mr_store_le64(block + 48, slot->start_seq);
    mr_store_le64(block + 56, slot->durable_seq);
    mr_store_le64(block + 64, slot->end_pos);
    mr_store_le32(block + 72, MR_JOURNAL_VERSION);
    mr_store_le32(block + 76, slot->files);
    mr_store_le64(block + 80, slot->file_bytes);
    mr_store_le32(block + 8, mr_crc32c(0, block + 12, SLOT_BYTES - 12));
}

bool mr_journal_state_slot_load(const uint8_t *block, const struct mr_uuid *directory_id, uint32_t ring,
                                struct mr_state_slot *slot)
{
    if (mr_load_le64(block) != SLOT_MAGIC ||
        mr_load_le32(block + 8) != mr_crc32c(0, block + 12, SLOT_BYTES - 12) ||
        mr_load_le32(block + 12) != ring || memcmp(block + 16, directory_id->bytes, 16) != 0 ||
        mr_load_le32(block + 72) != MR_JOURNAL_VERSION) {
        return false;
    }
    *slot = (struct mr_state_slot){
        .number = mr_load_le64(block + 32),
        .incarnation = mr_load_le64(block + 40),
        .start_seq = mr_load_le64(block + 48),
        .durable_seq = mr_load_le64(block + 56),
        .end_pos = mr_load_le64(block + 64),
        .files = mr_load_le32(block + 76),
        .file_bytes = mr_load_le64(block + 80),
    };
    return slot->end_pos >= MR_STATE_DATA;
}

/* ---- Writing ---- */

void mr_journal_state_begin_block(struct mr_journal_state_out *out, uint8_t *block)
{
    *out = (struct mr_journal_state_out){.block = block, .used = MR_STATE_BLOCK_HEAD};
}

/* `bytes` more of the current record, or NULL when they do not fit. */
static uint8_t *out_get(struct mr_journal_state_out *out, uint32_t bytes)
{
    if (out->is_over || bytes > MR_STATE_BLOCK_MAX - out->used) {
        out->is_over = true;
        return NULL;
    }
    uint8_t *at = out->block + out->used;
    out->used += bytes;
    return at;
}

/*
 *   0 record_bytes u32, epoch_count u32, producer_count u32, flags u32
 *  16 log_id, topic_id (16), partition u32, name length u32
 *  48 stamp seq u64, stamp index u32, the log layer's flags u32
 *  64 segment_base, end_offset, end_pos, log_start, high_watermark, max_timestamp, its offset,
 *     first_timestamp, created_ms (9 x i64)
 * 136 lost_from, lost_to
 * 192 name, padded to 8; epochs; producers; padded to 8
 */
void mr_journal_state_begin(struct mr_journal_state_out *out, const struct mr_journal_log_name *name,
                            struct mr_state_stamp stamp)
{
    out->record = out->used;
    out->is_over = false;
    uint32_t name_bytes = ((uint32_t)name->dir_name.len + 7u) & ~7u;
    uint8_t *at = out_get(out, MR_STATE_RECORD_HEAD + name_bytes);
    if (at == NULL) {
        return;
    }
    memset(at, 0, MR_STATE_RECORD_HEAD + name_bytes);
    mr_store_le64(at + 16, name->log_id);
    memcpy(at + 24, name->topic_id.bytes, 16);
    mr_store_le32(at + 40, (uint32_t)name->partition);
    mr_store_le32(at + 44, (uint32_t)name->dir_name.len);
    mr_store_le64(at + 48, stamp.seq);
    mr_store_le32(at + 56, stamp.index);
    memcpy(at + MR_STATE_RECORD_HEAD, name->dir_name.data, (size_t)name->dir_name.len);
}

void mr_journal_state_put(struct mr_journal_state_out *out, const struct mr_journal_state *state)
{
    if (out->is_over) {
        return;
    }
    uint8_t      *at = out->block + out->record;
    const int64_t values[9] = {state->segment_base,   state->end_offset,    state->end_pos,
                               state->log_start,      state->high_watermark, state->max_timestamp,
                               state->max_timestamp_offset, state->first_timestamp, state->created_ms};
    mr_store_le32(at + 60, state->flags);
    for (uint32_t index = 0; index < 9; index++) {
        mr_store_le64(at + 64 + 8 * index, (uint64_t)values[index]);
    }
}

void mr_journal_state_set_lost(struct mr_journal_state_out *out, uint32_t flags, int64_t from, int64_t to)
{
    if (!out->is_over) {
        uint8_t *at = out->block + out->record;
        mr_store_le32(at + 12, flags);
        mr_store_le64(at + 136, (uint64_t)from);
        mr_store_le64(at + 144, (uint64_t)to);
    }
}

void mr_journal_state_lost(struct mr_journal_state_out *out, int64_t from, int64_t to)
{
    mr_journal_state_set_lost(out, MR_STATE_LOST, from, to);
}

static void count_up(struct mr_journal_state_out *out, uint32_t field)
{
    uint8_t *at = out->block + out->record + field;
    mr_store_le32(at, mr_load_le32(at) + 1);
}

void mr_journal_state_put_epoch(struct mr_journal_state_out *out, const struct mr_journal_epoch *epoch)
{
    uint8_t *at = out_get(out, EPOCH_BYTES);
    if (at != NULL) {
        /* Epochs come before producers: the reader finds the latter behind them. */
        mr_assert(mr_load_le32(out->block + out->record + 8) == 0);
        mr_store_le32(at, (uint32_t)epoch->epoch);
        mr_store_le64(at + 4, (uint64_t)epoch->start_offset);
        count_up(out, 4);
    }
}

void mr_journal_state_put_producer(struct mr_journal_state_out       *out,
                                   const struct mr_journal_producer *producer)
{
    mr_assert(producer->batch_count <= MR_JOURNAL_PRODUCER_BATCHES);
    uint8_t *at = out_get(out, PRODUCER_HEAD + PRODUCER_BATCH * producer->batch_count);
    if (at == NULL) {
        return;
    }
    memset(at, 0, PRODUCER_HEAD);
    mr_store_le64(at, (uint64_t)producer->producer_id);
    mr_store_le32(at + 8, (uint32_t)(int32_t)producer->producer_epoch);
    mr_store_le32(at + 12, (uint32_t)producer->coordinator_epoch);
    mr_store_le64(at + 16, (uint64_t)producer->txn_first_offset);
    mr_store_le64(at + 24, (uint64_t)producer->last_timestamp);
    mr_store_le32(at + 32, producer->batch_count);
    at += PRODUCER_HEAD;
    for (uint32_t index = 0; index < producer->batch_count; index++, at += PRODUCER_BATCH) {
        mr_store_le32(at, (uint32_t)producer->batches[index].last_sequence);
        mr_store_le32(at + 4, (uint32_t)producer->batches[index].offset_delta);
        mr_store_le64(at + 8, (uint64_t)producer->batches[index].last_offset);
        mr_store_le64(at + 16, (uint64_t)producer->batches[index].timestamp);
    }
    count_up(out, 8);
}

bool mr_journal_state_end(struct mr_journal_state_out *out)
{
    while (!out->is_over && out->used % 8 != 0) {
        uint8_t *pad = out_get(out, 1);
        if (pad != NULL) {
            *pad = 0;
        }
    }
    if (out->is_over) {
        out->used = out->record;
        return false;
    }
    mr_store_le32(out->block + out->record, out->used - out->record);
    out->count++;
    return true;
}

uint32_t mr_journal_state_end_block(struct mr_journal_state_out *out, const struct mr_uuid *directory_id,
                                    uint64_t incarnation, uint64_t number)
{
    uint8_t *at = out->block;
    uint32_t padded = mr_commit_padded(out->used);
    memset(at, 0, MR_STATE_BLOCK_HEAD);
    memset(at + out->used, 0, padded - out->used);
    mr_store_le64(at, BLOCK_MAGIC);
    mr_store_le32(at + 12, out->used);
    memcpy(at + 16, directory_id->bytes, 16);
    mr_store_le64(at + 32, incarnation);
    mr_store_le64(at + 40, number);
    mr_store_le32(at + 48, out->count);
    mr_store_le32(at + 8, mr_crc32c(0, at + 12, out->used - 12));
    return padded;
}

/* ---- Reading ---- */

uint32_t mr_journal_state_block_check(const uint8_t *bytes, uint64_t room,
                                      const struct mr_uuid *directory_id, uint64_t incarnation,
                                      uint64_t number)
{
    if (room < MR_STATE_BLOCK_HEAD || mr_load_le64(bytes) != BLOCK_MAGIC ||
        memcmp(bytes + 16, directory_id->bytes, 16) != 0 || mr_load_le64(bytes + 32) != incarnation ||
        mr_load_le64(bytes + 40) != number) {
        return 0;
    }
    uint32_t used = mr_load_le32(bytes + 12);
    if (used < MR_STATE_BLOCK_HEAD || used > MR_STATE_BLOCK_MAX || mr_commit_padded(used) > room ||
        mr_load_le32(bytes + 8) != mr_crc32c(0, bytes + 12, used - 12)) {
        return 0;
    }
    return mr_commit_padded(used);
}

static uint32_t producer_bytes(const uint8_t *at, uint32_t room)
{
    if (room < PRODUCER_HEAD) {
        return 0;
    }
    uint32_t count = mr_load_le32(at + 32);
    uint32_t bytes = PRODUCER_HEAD + PRODUCER_BATCH * count;
    return count <= MR_JOURNAL_PRODUCER_BATCHES && bytes <= room ? bytes : 0;
}

bool mr_journal_state_next(const uint8_t *block, uint32_t *at, struct mr_state_record *record)
{
    uint32_t end = mr_load_le32(block + 12);
    if (*at == 0) {
        *at = MR_STATE_BLOCK_HEAD;
    }
    if (end - *at < MR_STATE_RECORD_HEAD) {
        return false;
    }
    const uint8_t *in = block + *at;
    uint32_t       bytes = mr_load_le32(in);
    if (bytes < MR_STATE_RECORD_HEAD || bytes % 8 != 0 || bytes > end - *at) {
        return false;
    }
    uint32_t name_len = mr_load_le32(in + 44);
    uint32_t epoch_count = mr_load_le32(in + 4);
    uint32_t producer_count = mr_load_le32(in + 8);
    if (name_len == 0 || name_len > MR_JOURNAL_DIR_NAME_MAX ||
        ((name_len + 7u) & ~7u) > bytes - MR_STATE_RECORD_HEAD) {
        return false;
    }
    uint32_t       left = bytes - MR_STATE_RECORD_HEAD - ((name_len + 7u) & ~7u);
    const uint8_t *epochs = in + bytes - left;
    if (epoch_count > left / EPOCH_BYTES) {
        return false;
    }
    left -= epoch_count * EPOCH_BYTES;
    const uint8_t *producers = in + bytes - left;
    for (uint32_t index = 0, walk = 0; index < producer_count; index++) {
        uint32_t one = producer_bytes(producers + walk, left - walk);
        if (one == 0) {
            return false;
        }
        walk += one;
    }
    int64_t values[9];
    for (uint32_t index = 0; index < 9; index++) {
        values[index] = (int64_t)mr_load_le64(in + 64 + 8 * index);
    }
    *record = (struct mr_state_record){
        .view = {.log_id = mr_load_le64(in + 16),
                 .partition = (int32_t)mr_load_le32(in + 40),
                 .dir_name = {.data = (const char *)in + MR_STATE_RECORD_HEAD, .len = (int32_t)name_len},
                 .state = {.segment_base = values[0],
                           .end_offset = values[1],
                           .end_pos = values[2],
                           .log_start = values[3],
                           .high_watermark = values[4],
                           .max_timestamp = values[5],
                           .max_timestamp_offset = values[6],
                           .first_timestamp = values[7],
                           .created_ms = values[8],
                           .flags = mr_load_le32(in + 60),
                           .epoch_count = epoch_count,
                           .producer_count = producer_count},
                 .epochs = epochs,
                 .producers = producers},
        .stamp = {.seq = mr_load_le64(in + 48), .index = mr_load_le32(in + 56)},
        .flags = mr_load_le32(in + 12),
        .lost_from = (int64_t)mr_load_le64(in + 136),
        .lost_to = (int64_t)mr_load_le64(in + 144),
    };
    memcpy(record->view.topic_id.bytes, in + 24, 16);
    *at += bytes;
    return mr_commit_name_check(record->view.dir_name);
}

void mr_journal_state_get_epoch(const struct mr_journal_state_view *view, uint32_t index,
                                struct mr_journal_epoch *epoch)
{
    mr_assert(index < view->state.epoch_count);
    epoch->epoch = (int32_t)mr_load_le32(view->epochs + (size_t)index * EPOCH_BYTES);
    epoch->start_offset = (int64_t)mr_load_le64(view->epochs + (size_t)index * EPOCH_BYTES + 4);
}

void mr_journal_state_get_producer(const struct mr_journal_state_view *view, uint32_t *cursor,
                                   struct mr_journal_producer *producer)
{
    const uint8_t *at = view->producers + *cursor;
    uint32_t       count = mr_load_le32(at + 32);
    mr_assert(count <= MR_JOURNAL_PRODUCER_BATCHES);
    *producer = (struct mr_journal_producer){
        .producer_id = (int64_t)mr_load_le64(at),
        .producer_epoch = (int16_t)mr_load_le32(at + 8),
        .coordinator_epoch = (int32_t)mr_load_le32(at + 12),
        .txn_first_offset = (int64_t)mr_load_le64(at + 16),
        .last_timestamp = (int64_t)mr_load_le64(at + 24),
        .batch_count = count,
    };
    *cursor += PRODUCER_HEAD + PRODUCER_BATCH * count;
    at += PRODUCER_HEAD;
    for (uint32_t index = 0; index < count; index++, at += PRODUCER_BATCH) {
        producer->batches[index].last_sequence = (int32_t)mr_load_le32(at);
        producer->batches[index].offset_delta = (int32_t)mr_load_le32(at + 4);
        producer->batches[index].last_offset = (int64_t)mr_load_le64(at + 8);
        producer->batches[index].timestamp = (int64_t)mr_load_le64(at + 16);
    }
}
