/*
 * commit: the bytes of a commit and of its entries. Layout: docs/FORMATS.md.
 *
 * One pass over the payloads: each entry's head carries the CRC of its payload, the commit's head a
 * CRC over all entry heads, and its own CRC covers that. So sealing costs nothing per byte, and a
 * damaged commit can be taken apart entry by entry.
 *
 * Every CRC starts from the file's generation, 64 random bits that no client ever sees: bytes that a
 * client sent, or that an earlier use of the file left, cannot pose as a commit or an entry.
 */
#include "journal_private.h"

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

uint32_t mr_commit_entry_bytes(uint32_t payload_bytes)
{
    return MR_COMMIT_ENTRY + ((payload_bytes + 7u) & ~7u);
}

/* The bytes [at, at + len) of prefix + chain. */
static void payload_copy(const struct mr_journal_payload *payload, uint8_t *out, uint32_t len)
{
    uint32_t at = payload->at;
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

uint8_t *mr_commit_add(struct mr_commit *commit, uint64_t log_id, const struct mr_journal_entry *entry,
                       const struct mr_journal_payload *payload, uint32_t payload_bytes)
{
    uint32_t bytes = mr_commit_entry_bytes(payload_bytes);
    mr_assert(commit->used % 8 == 0 && bytes <= MR_JOURNAL_COMMIT_MAX - commit->used);
    uint8_t *head = commit->buffer + commit->used;
    uint8_t *data = head + MR_COMMIT_ENTRY;
    if (payload_bytes > 0) {
        payload_copy(payload, data, payload_bytes);
    }
    memset(data + payload_bytes, 0, bytes - MR_COMMIT_ENTRY - payload_bytes);
    memset(head, 0, MR_COMMIT_ENTRY);
    head[4] = (uint8_t)entry->kind;
    mr_store_le64(head + 8, log_id);
    mr_store_le64(head + 16, (uint64_t)entry->offset);
    mr_store_le64(head + 24, (uint64_t)entry->segment_base);
    mr_store_le32(head + 32, entry->pos);
    mr_store_le32(head + 36, payload_bytes);
    mr_store_le32(head + 40, mr_crc32c(commit->seed, data, payload_bytes));
    mr_store_le32(head + 44, (uint32_t)entry->epoch);
    mr_store_le32(head + 48, entry->part_at);
    mr_store_le32(head + 52, entry->batch_bytes);
    mr_store_le64(head + 56, (uint64_t)entry->last_offset);
    mr_store_le32(head, mr_crc32c(commit->seed, head + 4, MR_COMMIT_ENTRY - 4));
    commit->heads_crc = mr_crc32c(commit->heads_crc, head, MR_COMMIT_ENTRY);
    commit->used += bytes;
    commit->entry_count++;
    return data;
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
        mr_load_le32(at) != mr_crc32c(seed, at + 4, MR_COMMIT_ENTRY - 4)) {
        return false;
    }
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
        .payload = at + MR_COMMIT_ENTRY,
        .payload_bytes = mr_load_le32(at + 36),
    };
    if (out->payload_bytes > MR_JOURNAL_COMMIT_MAX) {
        return false;
    }
    *bytes = mr_commit_entry_bytes(out->payload_bytes);
    return *bytes <= room &&
           mr_load_le32(at + 40) == mr_crc32c(seed, out->payload, out->payload_bytes);
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
