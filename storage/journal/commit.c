/*
 * commit: the bytes of a commit and of its entries. Layout: docs/FORMATS.md.
 *
 * At most one pass over the payloads: each entry's head carries the CRC of its payload, the commit's head a
 * CRC over all entry heads, and its own CRC covers that. So sealing costs nothing per byte, and a
 * damaged commit can be taken apart entry by entry. A batch whose own CRC was checked is not even read: its CRC is
 * joined to that of what precedes it.
 *
 * Every CRC starts from the file's generation, 64 random bits that no client ever sees: bytes that a
 * client sent, or that an earlier use of the file left, cannot pose as a commit or an entry.
 */
#include "journal_private.h"

#include "millrace/base/bug.h"
#include "millrace/batch.h"

uint32_t mr_commit_seed(uint64_t generation)
{
    uint8_t bytes[8];
    mr_store_le64(bytes, generation);
    return mr_crc32c(0, bytes, sizeof bytes);
}

uint32_t mr_commit_padded(uint32_t length)
{
    return (length + MR_JOURNAL_BLOCK - 1) & ~(MR_JOURNAL_BLOCK - 1);
}

static uint32_t entry_bytes(uint32_t gap_bytes, uint32_t payload_bytes)
{
    return MR_COMMIT_ENTRY + ((gap_bytes + payload_bytes + 7u) & ~7u);
}

uint32_t mr_commit_entry_room(uint32_t payload_bytes)
{
    return entry_bytes(payload_bytes >= MR_JOURNAL_LEND_MIN ? MR_JOURNAL_BLOCK - 1 : 0, payload_bytes);
}

void mr_journal_payload_copy(const struct mr_journal_payload *payload, uint32_t at, uint8_t *out, uint32_t len)
{
    if (at < payload->prefix_bytes && len > 0) {
        uint32_t part = payload->prefix_bytes - at < len ? payload->prefix_bytes - at : len;
        memcpy(out, payload->prefix + at, part);
        out += part;
        at += part;
        len -= part;
    }
    if (len > 0) {
        mr_assert(payload->chain != NULL);
        mr_chain_copy(payload->chain, at, out, len);
    }
}

/* CRC of the payload from its sources: the buffer may not have all of it, and what is checked is not read. */
static uint32_t payload_crc(const struct mr_journal_payload *payload, uint32_t crc, uint32_t len)
{
    uint32_t at = payload->at;
    mr_assert(payload->checked_bytes <= len);
    len -= payload->checked_bytes;
    if (at < payload->prefix_bytes && len > 0) {
        uint32_t part = payload->prefix_bytes - at < len ? payload->prefix_bytes - at : len;
        crc = mr_crc32c(crc, payload->prefix + at, part);
        at += part;
        len -= part;
    }
    if (len > 0) {
        crc = mr_crc32c_chain(crc, payload->chain, at, len);
    }
    return payload->checked_bytes == 0 ? crc : mr_crc32c_join(crc, payload->checked_crc, payload->checked_bytes);
}

/* The payload at `data_at` of the commit: whole blocks that are lent become pieces, the rest is copied. Returns
 * whether all of it is. */
static bool payload_place(struct mr_commit *commit, const struct mr_journal_payload *payload, uint32_t data_at,
                          uint32_t payload_bytes)
{
    uint32_t copied = 0; /* of the payload, or left to a piece */
    uint32_t run_at = data_at;
    for (uint32_t index = 0; index < payload->lent_count; index++) {
        const struct mr_journal_lent *lent = &payload->lent[index];
        uint32_t from = mr_commit_padded(run_at);
        uint32_t to = (run_at + lent->len) & ~(MR_JOURNAL_BLOCK - 1);
        mr_assert(((uintptr_t)lent->data - run_at) % MR_JOURNAL_BLOCK == 0);
        if (to >= from + MR_COMMIT_PIECE_MIN && commit->piece_count < MR_COMMIT_PIECES) {
            mr_journal_payload_copy(payload, payload->at + copied, commit->buffer + data_at + copied,
                                    from - data_at - copied);
            commit->pieces[commit->piece_count++] = (struct mr_commit_piece){
                .at = from, .len = to - from, .data = lent->data + (from - run_at), .owner = lent->owner};
            copied = to - data_at;
        }
        run_at += lent->len;
    }
    mr_assert(payload->lent_count == 0 || run_at == data_at + payload_bytes);
    mr_journal_payload_copy(payload, payload->at + copied, commit->buffer + data_at + copied,
                            payload_bytes - copied);
    return copied == 0;
}

/* Between head and payload, so that the blocks of lent memory are blocks of the commit. */
static uint32_t gap_before(const struct mr_commit *commit, const struct mr_journal_payload *payload)
{
    if (payload == NULL || payload->lent_count == 0) {
        return 0;
    }
    return ((uint32_t)(uintptr_t)payload->lent->data - commit->used - MR_COMMIT_ENTRY) & (MR_JOURNAL_BLOCK - 1);
}

void mr_commit_add(struct mr_commit *commit, uint64_t log_id, const struct mr_journal_entry *entry,
                   const struct mr_journal_payload *payload, uint32_t payload_bytes)
{
    uint32_t gap = gap_before(commit, payload);
    uint32_t bytes = entry_bytes(gap, payload_bytes);
    mr_assert(gap == 0 || payload_bytes >= MR_JOURNAL_LEND_MIN);
    mr_assert(commit->used % 8 == 0 && bytes <= MR_JOURNAL_COMMIT_MAX - commit->used);
    uint8_t *head = commit->buffer + commit->used;
    uint8_t *data = head + MR_COMMIT_ENTRY + gap;
    uint32_t crc = commit->seed;
    if (payload_bytes > 0) {
        bool is_whole = payload_place(commit, payload, commit->used + MR_COMMIT_ENTRY + gap, payload_bytes);
        crc = is_whole && payload->checked_bytes == 0 ? mr_crc32c(crc, data, payload_bytes)
                                                      : payload_crc(payload, crc, payload_bytes);
    }
    memset(data + payload_bytes, 0, bytes - MR_COMMIT_ENTRY - gap - payload_bytes);
    memset(head, 0, MR_COMMIT_ENTRY);
    if (gap > 0) {
        memset(head + MR_COMMIT_ENTRY, 0, gap);
    }
    head[4] = (uint8_t)entry->kind;
    mr_store_le16(head + 6, (uint16_t)gap);
    mr_store_le64(head + 8, log_id);
    mr_store_le64(head + 16, (uint64_t)entry->offset);
    mr_store_le64(head + 24, (uint64_t)entry->segment_base);
    mr_store_le32(head + 32, entry->pos);
    mr_store_le32(head + 36, payload_bytes);
    mr_store_le32(head + 40, crc);
    mr_store_le32(head + 44, (uint32_t)entry->epoch);
    mr_store_le32(head + 48, entry->part_at);
    mr_store_le32(head + 52, entry->batch_bytes);
    mr_store_le64(head + 56, (uint64_t)entry->last_offset);
    mr_store_le32(head, mr_crc32c(commit->seed, head + 4, MR_COMMIT_ENTRY - 4));
    commit->heads_crc = mr_crc32c(commit->heads_crc, head, MR_COMMIT_ENTRY);
    commit->used += bytes;
    commit->entry_count++;
}

uint32_t mr_commit_writes(const struct mr_commit *commit, struct mr_disk_piece *out)
{
    uint32_t count = 0;
    uint32_t at = 0;
    for (uint32_t index = 0; index < commit->piece_count; index++) {
        const struct mr_commit_piece *piece = &commit->pieces[index];
        if (piece->at > at) {
            out[count++] = (struct mr_disk_piece){.data = commit->buffer + at, .len = piece->at - at};
        }
        out[count++] = (struct mr_disk_piece){.data = piece->data, .len = piece->len};
        at = piece->at + piece->len;
    }
    uint32_t end = mr_commit_padded(commit->used);
    if (end > at) {
        out[count++] = (struct mr_disk_piece){.data = commit->buffer + at, .len = end - at};
    }
    return count;
}

uint32_t mr_commit_seal(struct mr_commit *commit, const struct mr_commit_key *key,
                        const struct mr_commit_head *head)
{
    uint8_t *at = commit->buffer;
    memset(at, 0, MR_COMMIT_HEAD);
    mr_store_le64(at, MR_COMMIT_MAGIC);
    mr_store_le32(at + 12, commit->heads_crc);
    memcpy(at + 16, key->directory_id.bytes, 16);
    mr_store_le64(at + 32, key->generation);
    mr_store_le64(at + 40, commit->seq);
    mr_store_le64(at + 48, head->flushed_seq);
    mr_store_le32(at + 56, head->prev_crc);
    mr_store_le32(at + 60, key->ring);
    mr_store_le32(at + 64, commit->entry_count);
    mr_store_le32(at + 68, commit->used);
    mr_store_le64(at + 72, head->incarnation);
    mr_store_le32(at + 80, head->flags);
    mr_store_le32(at + 84, MR_JOURNAL_VERSION);
    mr_store_le32(at + 88, commit->opened);
    uint32_t crc = mr_crc32c(commit->seed, at + 12, MR_COMMIT_HEAD - 12);
    mr_store_le32(at + 8, crc);
    memset(at + commit->used, 0, mr_commit_padded(commit->used) - commit->used);
    return crc;
}

bool mr_commit_head_check(const uint8_t *bytes, uint64_t room, const struct mr_commit_key *key,
                          struct mr_commit_head *head)
{
    if (room < MR_COMMIT_HEAD || mr_load_le64(bytes) != MR_COMMIT_MAGIC ||
        memcmp(bytes + 16, key->directory_id.bytes, 16) != 0 ||
        mr_load_le64(bytes + 32) != key->generation || mr_load_le32(bytes + 60) != key->ring ||
        mr_load_le32(bytes + 84) != MR_JOURNAL_VERSION) {
        return false;
    }
    *head = (struct mr_commit_head){
        .crc = mr_load_le32(bytes + 8),
        .heads_crc = mr_load_le32(bytes + 12),
        .seq = mr_load_le64(bytes + 40),
        .flushed_seq = mr_load_le64(bytes + 48),
        .prev_crc = mr_load_le32(bytes + 56),
        .entry_count = mr_load_le32(bytes + 64),
        .length = mr_load_le32(bytes + 68),
        .incarnation = mr_load_le64(bytes + 72),
        .flags = mr_load_le32(bytes + 80),
        .opened = mr_load_le32(bytes + 88),
    };
    return head->crc == mr_crc32c(mr_commit_seed(key->generation), bytes + 12, MR_COMMIT_HEAD - 12) &&
           head->length >= MR_COMMIT_HEAD && head->length <= MR_JOURNAL_COMMIT_MAX &&
           mr_commit_padded(head->length) <= room && head->seq > 0 && head->flushed_seq < head->seq;
}

bool mr_commit_entry_check(const uint8_t *at, uint64_t room, uint32_t seed, struct mr_commit_entry *out,
                           uint32_t *bytes)
{
    *bytes = 0;
    if (room < MR_COMMIT_ENTRY || at[4] == 0 || at[4] >= MR_JOURNAL_KIND_COUNT ||
        mr_load_le16(at + 6) >= MR_JOURNAL_BLOCK ||
        mr_load_le32(at) != mr_crc32c(seed, at + 4, MR_COMMIT_ENTRY - 4)) {
        return false;
    }
    uint32_t gap = mr_load_le16(at + 6);
    *out = (struct mr_commit_entry){
        .entry = {.kind = (enum mr_journal_kind)at[4],
                  .offset = (int64_t)mr_load_le64(at + 16),
                  .last_offset = (int64_t)mr_load_le64(at + 56),
                  .segment_base = (int64_t)mr_load_le64(at + 24),
                  .pos = mr_load_le32(at + 32),
                  .epoch = (int32_t)mr_load_le32(at + 44),
                  .part_at = mr_load_le32(at + 48),
                  .batch_bytes = mr_load_le32(at + 52)},
        .log_id = mr_load_le64(at + 8),
        .payload = at + MR_COMMIT_ENTRY + gap,
        .payload_bytes = mr_load_le32(at + 36),
    };
    if (out->payload_bytes > MR_JOURNAL_COMMIT_MAX) {
        return false;
    }
    *bytes = entry_bytes(gap, out->payload_bytes);
    return *bytes <= room &&
           (mr_load_le32(at + 40) == mr_crc32c(seed, out->payload, out->payload_bytes) || mr_bug("believe-the-tail"));
}

bool mr_commit_body_check(const uint8_t *bytes, const struct mr_commit_head *head, uint32_t seed)
{
    uint32_t heads_crc = 0;
    uint32_t at = MR_COMMIT_HEAD;
    for (uint32_t index = 0; index < head->entry_count; index++) {
        struct mr_commit_entry entry;
        uint32_t               entry_bytes;
        if (!mr_commit_entry_check(bytes + at, head->length - at, seed, &entry, &entry_bytes)) {
            return false;
        }
        heads_crc = mr_crc32c(heads_crc, bytes + at, MR_COMMIT_ENTRY);
        at += entry_bytes;
    }
    return at == head->length && heads_crc == head->heads_crc;
}

uint32_t mr_commit_open_store(uint8_t *out, const struct mr_journal_log *log)
{
    mr_assert(log->dir_name.len > 0 && (uint32_t)log->dir_name.len <= MR_JOURNAL_DIR_NAME_MAX);
    memcpy(out, log->topic_id.bytes, 16);
    mr_store_le32(out + 16, (uint32_t)log->partition);
    mr_store_le32(out + 20, (uint32_t)log->dir_name.len);
    memcpy(out + 24, log->dir_name.data, (size_t)log->dir_name.len);
    return 24u + (uint32_t)log->dir_name.len;
}

/* A name becomes a path: it must be one component and nothing special. */
bool mr_commit_name_check(struct mr_str name)
{
    size_t len = (size_t)name.len;
    return name.len > 0 && len <= MR_JOURNAL_DIR_NAME_MAX && name.data[0] != '.' &&
           memchr(name.data, '/', len) == NULL && memchr(name.data, '\0', len) == NULL;
}

bool mr_commit_open_load(const uint8_t *payload, uint32_t bytes, struct mr_journal_log_name *name)
{
    if (bytes < 24 || bytes > MR_COMMIT_OPEN_MAX || mr_load_le32(payload + 20) != bytes - 24) {
        return false;
    }
    memcpy(name->topic_id.bytes, payload, 16);
    name->partition = (int32_t)mr_load_le32(payload + 16);
    name->dir_name = (struct mr_str){.data = (const char *)payload + 24, .len = (int32_t)(bytes - 24)};
    return mr_commit_name_check(name->dir_name);
}
