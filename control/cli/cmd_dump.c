/*
 * cmd_dump: files of a log directory as text: which kind a file is, its name says.
 *
 *   N.log, N.index, N.timeindex, N.txnindex, N.snapshot   a partition's
 *   N.mrx                                                 its side-cars (dump_side.c)
 *   N-E.checkpoint                                        snapshots of the metadata log
 *   millrace-journal-R-I, millrace-state-R                the journal's (bytes: docs/FORMATS.md)
 *   everything else                                       small text files, printed as they are
 *
 * --verify checks instead of believing and prints what is wrong; exit code 1 then. Indexes (dump_index.c) are checked
 * against the segment beside them.
 */
#include "boot/memory.h"
#include "cli/cli.h"
#include "cli/dump.h"
#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "millrace/kafka/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "millrace dump [--verify] [--records] FILE...\n"
    "\n"
    "Print files of a log directory as text: segments, indexes, producer snapshots, metadata log "
    "and\n"
    "its checkpoints, journal and state files.\n"
    "\n"
    "  --records              every record of a batch too (metadata and group records always are)\n"
    "  --verify               check checksums, order and bounds, indexes against their segments;\n"
    "                         say what is wrong\n"
    "\n"
    "Exit codes: 0 everything was read, 1 something is wrong, 2 wrong arguments.\n";

#define SCRATCH_BYTES (64ull << 20)

static bool has_records;
static bool is_verifying;
static uint32_t wrong_count;
static struct mr_arena scratch;

void mr_dump_wrong(const struct mr_dump_file *file, const char *format, ...)
{
    va_list args;
    if (mr_bug("blind-verify")) {
        return;
    }
    wrong_count++;
    printf("WRONG %s: ", file->path);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* ---- Records ---- */

static void print_text(struct mr_blob blob)
{
    if (blob.len < 0) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (int32_t at = 0; at < blob.len; at++) {
        uint8_t c = blob.data[at];
        if (c >= ' ' && c < 127 && c != '"' && c != '\\') {
            putchar(c);
        } else {
            printf("\\x%02x", c);
        }
    }
    putchar('"');
}

static bool print_msg(const struct mr_msg *msg, int16_t version, const uint8_t *bytes, uint32_t len)
{
    static char text_bytes[1u << 20];
    struct mr_text text;
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, bytes, len);
    void *out = mr_arena_try(&scratch, msg->root->size, 16);
    if (out == NULL || mr_msg_decode(msg, version, &reader, &scratch, out) != MR_OK) {
        return false;
    }
    mr_text_init(&text, text_bytes, sizeof text_bytes);
    if (mr_msg_print(msg, version, out, &text) != MR_OK) {
        return false;
    }
    printf("%s %d %s", msg->name, version, text_bytes);
    return true;
}

/* Metadata records: uvarint frame version, type, version, message. */
static bool print_metadata(struct mr_blob value)
{
    struct mr_reader reader;
    uint32_t frame = 0;
    uint32_t type = 0;
    uint32_t version = 0;
    if (value.len <= 0) {
        return false;
    }
    mr_reader_init_bytes(&reader, value.data, (uint32_t)value.len);
    if (mr_reader_uvarint(&reader, &frame) != MR_OK || mr_reader_uvarint(&reader, &type) != MR_OK ||
        mr_reader_uvarint(&reader, &version) != MR_OK || type > INT16_MAX || version > INT16_MAX) {
        return false;
    }
    const struct mr_msg *msg = mr_msg_find(MR_MSG_METADATA_RECORD, (int16_t)type);
    uint32_t left = mr_reader_left(&reader);
    return msg != NULL &&
           print_msg(msg, (int16_t)version, value.data + ((uint32_t)value.len - left), left);
}

/* Coordinator records: int16 and then the fields, key and value. */
static bool print_group(const struct mr_record *record)
{
    if (record->key.len < 2) {
        return false;
    }
    int16_t type = (int16_t)mr_load_be16(record->key.data);
    const struct mr_msg *key = mr_msg_find(MR_MSG_COORDINATOR_KEY, type);
    const struct mr_msg *value = mr_msg_find(MR_MSG_COORDINATOR_VALUE, type);
    if (key == NULL || value == NULL ||
        !print_msg(key, 0, record->key.data + 2, (uint32_t)record->key.len - 2)) {
        return false;
    }
    putchar(' ');
    if (record->value.len < 2) {
        fputs("null", stdout);
        return record->value.len < 0;
    }
    int16_t version = (int16_t)mr_load_be16(record->value.data);
    return print_msg(value, version, record->value.data + 2, (uint32_t)record->value.len - 2);
}

static bool print_control(const struct mr_record *record)
{
    static const char *const names[] = {
        "AbortTxnMarker",       "EndTxnMarker",       "LeaderChangeMessage", "SnapshotHeaderRecord",
        "SnapshotFooterRecord", "KRaftVersionRecord", "VotersRecord"};
    if (record->key.len < 4 || record->value.len < 2) {
        return false;
    }
    int16_t type = (int16_t)mr_load_be16(record->key.data + 2);
    int16_t version = (int16_t)mr_load_be16(record->value.data);
    if (type < 0 || type > 6) {
        printf("control type=%d", type);
        return true;
    }
    if (type < 2) { /* commit and abort: the version stands before the message */
        printf("%s ", type == 0 ? "abort" : "commit");
        const struct mr_msg *marker = mr_msg_find_name(MR_STR("EndTxnMarker"));
        return marker != NULL &&
               print_msg(marker, 0, record->value.data + 2, (uint32_t)record->value.len - 2);
    }
    const struct mr_msg *msg = mr_msg_find_name(mr_str(names[type]));
    return msg != NULL && print_msg(msg, version, record->value.data, (uint32_t)record->value.len);
}

enum content {
    CONTENT_PLAIN,
    CONTENT_METADATA,
    CONTENT_GROUP,
};

static void dump_records(const struct mr_dump_file *file, const struct mr_batch *batch,
                         const uint8_t *bytes, enum content content)
{
    struct mr_record_iter iter;
    struct mr_record record;
    int32_t count = 0;
    bool is_control = (batch->attributes & MR_BATCH_CONTROL) != 0;
    mr_arena_reset(&scratch);
    enum mr_err err = mr_record_iter_init(&iter, bytes, mr_batch_bytes(batch), &scratch);
    for (; err == MR_OK && (err = mr_record_iter_next(&iter, &record)) == MR_OK; count++) {
        if (!has_records && content == CONTENT_PLAIN && !is_control) {
            continue;
        }
        printf("  | offset=%" PRId64 " timestamp=%" PRId64 " ", record.offset, record.timestamp);
        size_t before = scratch.used;
        bool is_known = is_control                    ? print_control(&record)
                        : content == CONTENT_METADATA ? print_metadata(record.value)
                        : content == CONTENT_GROUP    ? print_group(&record)
                                                      : false;
        scratch.used = before;
        if (!is_known) {
            fputs("key=", stdout);
            print_text(record.key);
            fputs(" value=", stdout);
            print_text(record.value);
            printf(" headers=%d", record.header_count);
        }
        putchar('\n');
    }
    if (err != MR_ERR_NOT_FOUND) {
        mr_dump_wrong(file, "records of the batch at offset %" PRId64 ": %s", batch->base_offset,
              mr_err_text(err));
    } else if (count != batch->record_count) {
        mr_dump_wrong(file, "the batch at offset %" PRId64 " says %d records and has %d",
              batch->base_offset, batch->record_count, count);
    }
}

/* ---- Segments and checkpoints ---- */

static const char *codec_name(int codec)
{
    static const char *const names[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    return codec < 5 ? names[codec] : "?";
}

static void print_batch(const struct mr_batch *batch, size_t pos)
{
    printf(
        "| offset=%" PRId64 "..%" PRId64
        " records=%d epoch=%d pos=%zu bytes=%u codec=%s timestamp=%" PRId64 "..%" PRId64 "%s%s%s",
        batch->base_offset, mr_batch_last_offset(batch), batch->record_count, batch->leader_epoch,
        pos, mr_batch_bytes(batch), codec_name(batch->attributes & MR_BATCH_CODEC_MASK),
        batch->base_timestamp, batch->max_timestamp,
        (batch->attributes & MR_BATCH_LOG_APPEND_TIME) != 0 ? " logAppendTime" : "",
        (batch->attributes & MR_BATCH_TRANSACTIONAL) != 0 ? " transactional" : "",
        (batch->attributes & MR_BATCH_CONTROL) != 0 ? " control" : "");
    if (batch->producer_id >= 0) {
        printf(" producer=%" PRId64 " epoch=%d sequence=%d", batch->producer_id,
               batch->producer_epoch, batch->base_sequence);
    }
    printf(" crc=%08x\n", batch->crc);
}

bool mr_dump_is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        if (bytes[at] != 0) {
            return false;
        }
    }
    return true;
}

static void dump_batches(const struct mr_dump_file *file, enum content content)
{
    size_t pos = 0;
    int64_t next_offset = INT64_MIN;
    while (pos < file->len) {
        struct mr_batch batch;
        size_t left = file->len - pos;
        if (mr_dump_is_zero(file->bytes + pos, left < MR_BATCH_HEADER ? left : MR_BATCH_HEADER) &&
            mr_dump_is_zero(file->bytes + pos, left)) {
            printf("| %zu zero bytes behind the last batch (space of a broker that runs or was "
                   "killed)\n",
                   left);
            return;
        }
        if (left < MR_BATCH_HEADER) {
            mr_dump_wrong(file, "%zu bytes at position %zu are no batch", left, pos);
            return;
        }
        mr_batch_header_load(file->bytes + pos, &batch);
        if (batch.magic != 2 || batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
            (uint64_t)batch.batch_length + MR_BATCH_LENGTH_BIAS > left) {
            mr_dump_wrong(file, "no whole batch of magic 2 at position %zu (magic %d, length %d)", pos,
                  batch.magic, batch.batch_length);
            return;
        }
        print_batch(&batch, pos);
        uint32_t len = mr_batch_bytes(&batch);
        if (mr_crc32c(0, file->bytes + pos + 21, len - 21) != batch.crc) {
            mr_dump_wrong(file, "the checksum of the batch at position %zu does not match", pos);
        } else {
            if (batch.base_offset < next_offset) {
                mr_dump_wrong(file,
                      "the batch at position %zu begins at offset %" PRId64 ", after %" PRId64, pos,
                      batch.base_offset, next_offset);
            }
            if (has_records || is_verifying || content != CONTENT_PLAIN ||
                (batch.attributes & MR_BATCH_CONTROL) != 0) {
                dump_records(file, &batch, file->bytes + pos, content);
            }
        }
        next_offset = mr_batch_last_offset(&batch) + 1;
        pos += len;
    }
}

/* ---- Indexes ---- */

static void dump_txn_index(const struct mr_dump_file *file)
{
    for (size_t at = 0; at + 34 <= file->len; at += 34) {
        const uint8_t *entry = file->bytes + at;
        printf("version=%d producer=%" PRId64 " first=%" PRId64 " last=%" PRId64
               " lastStable=%" PRId64 "\n",
               (int16_t)mr_load_be16(entry), (int64_t)mr_load_be64(entry + 2),
               (int64_t)mr_load_be64(entry + 10), (int64_t)mr_load_be64(entry + 18),
               (int64_t)mr_load_be64(entry + 26));
    }
    if (file->len % 34 != 0) {
        mr_dump_wrong(file, "the size is not a multiple of 34");
    }
}

/* int16 version, CRC-32C of what follows it, entries. */
static void dump_snapshot(const struct mr_dump_file *file)
{
    const struct mr_msg *msg = mr_msg_find_name(MR_STR("ProducerSnapshot"));
    if (file->len < 6 || msg == NULL) {
        mr_dump_wrong(file, "too short for a producer snapshot");
        return;
    }
    if (mr_crc32c(0, file->bytes + 6, file->len - 6) != mr_load_be32(file->bytes + 2)) {
        mr_dump_wrong(file, "the checksum does not match");
    }
    mr_arena_reset(&scratch);
    if (!print_msg(msg, (int16_t)mr_load_be16(file->bytes), file->bytes + 2,
                   (uint32_t)file->len - 2)) {
        mr_dump_wrong(file, "not a producer snapshot");
    }
    putchar('\n');
}

/* ---- The journal ---- */

#define BLOCK        4096u
#define FILE_MAGIC   0x454c49464a52524dull /* "MRRJFILE" */
#define COMMIT_MAGIC 0x54494d4d4f43524dull /* "MRCOMMIT" */
#define COMMIT_HEAD  96u
#define COMMIT_ENTRY 64u

/* `gap_bytes`: zeros between head and payload. */
static void dump_entry(const struct mr_dump_file *file, const uint8_t *at, uint32_t gap_bytes, uint32_t payload_bytes,
                       uint32_t seed)
{
    const uint8_t *payload = at + COMMIT_ENTRY + gap_bytes;
    static const char *const kinds[] = {"?",         "OPEN",  "APPEND",   "EPOCH_START", "TRUNCATE",
                                        "LOG_START", "RESET", "SEAL",     "DROP",        "CARRY",
                                        "IMAGE",     "STATE", "REFERENCE"};
    unsigned kind = at[4];
    printf("  | %-11s log=%016" PRIx64 " offset=%" PRId64 "..%" PRId64 " segment=%" PRId64
           " pos=%u epoch=%d bytes=%u",
           kinds[kind < sizeof kinds / sizeof kinds[0] ? kind : 0], mr_load_le64(at + 8),
           (int64_t)mr_load_le64(at + 16), (int64_t)mr_load_le64(at + 56),
           (int64_t)mr_load_le64(at + 24), mr_load_le32(at + 32), (int32_t)mr_load_le32(at + 44),
           payload_bytes);
    if (kind == 1 && payload_bytes > 24) { /* OPEN: topic id, partition, name length, name */
        uint32_t name_len = mr_load_le32(payload + 20);
        if (name_len <= payload_bytes - 24) {
            printf(" directory=%.*s", (int)name_len, (const char *)payload + 24);
        }
    }
    putchar('\n');
    if (mr_crc32c(seed, at + 4, COMMIT_ENTRY - 4) != mr_load_le32(at) ||
        mr_crc32c(seed, payload, payload_bytes) != mr_load_le32(at + 40)) {
        mr_dump_wrong(file, "the checksum of an entry does not match");
    }
}

static void dump_commit(const struct mr_dump_file *file, size_t pos, uint32_t length, uint32_t seed)
{
    const uint8_t *head = file->bytes + pos;
    uint32_t count = mr_load_le32(head + 64);
    printf("| commit seq=%" PRIu64 " flushed=%" PRIu64
           " pos=%zu bytes=%u entries=%u incarnation=%016" PRIx64 "%s\n",
           mr_load_le64(head + 40), mr_load_le64(head + 48), pos, length, count,
           mr_load_le64(head + 72), (mr_load_le32(head + 80) & 1u) != 0 ? " first" : "");
    uint32_t at = COMMIT_HEAD;
    for (uint32_t index = 0; index < count; index++) {
        uint32_t gap = length - at >= COMMIT_ENTRY ? mr_load_le16(head + at + 6) : 0;
        uint32_t payload = length - at >= COMMIT_ENTRY ? mr_load_le32(head + at + 36) : UINT32_MAX;
        if ((uint64_t)gap + payload > length - at - COMMIT_ENTRY) {
            mr_dump_wrong(file, "entry %u of the commit at %zu leaves the commit", index, pos);
            return;
        }
        dump_entry(file, head + at, gap, payload, seed);
        at += COMMIT_ENTRY + ((gap + payload + 7u) & ~7u);
        at = at > length ? length : at;
    }
}

static void dump_journal(const struct mr_dump_file *file)
{
    uint8_t generation_bytes[8];
    char directory[MR_UUID_TEXT + 1];
    if (file->len < BLOCK || mr_load_le64(file->bytes) != FILE_MAGIC ||
        mr_load_le32(file->bytes + 8) != mr_crc32c(0, file->bytes + 12, 84)) {
        mr_dump_wrong(file, "no journal file's header (a file in preparation has none yet)");
        return;
    }
    struct mr_uuid directory_id;
    uint64_t generation = mr_load_le64(file->bytes + 32);
    memcpy(directory_id.bytes, file->bytes + 16, 16);
    mr_uuid_text(&directory_id, directory);
    mr_store_le64(generation_bytes, generation);
    uint32_t seed = mr_crc32c(0, generation_bytes, sizeof generation_bytes);
    printf("journal ring=%u directory.id=%s generation=%016" PRIx64 " incarnation=%016" PRIx64
           " version=%u\n",
           mr_load_le32(file->bytes + 12), directory, generation, mr_load_le64(file->bytes + 40),
           mr_load_le32(file->bytes + 48));
    size_t pos = BLOCK;
    while (pos + COMMIT_HEAD <= file->len) {
        const uint8_t *head = file->bytes + pos;
        uint32_t length = mr_load_le32(head + 68);
        if (mr_load_le64(head) != COMMIT_MAGIC || mr_load_le64(head + 32) != generation) {
            break; /* the end of this use of the file */
        }
        if (length < COMMIT_HEAD || length > file->len - pos ||
            mr_crc32c(seed, head + 12, COMMIT_HEAD - 12) != mr_load_le32(head + 8)) {
            mr_dump_wrong(file, "the commit at %zu is torn or damaged", pos);
            break;
        }
        dump_commit(file, pos, length, seed);
        pos += (length + BLOCK - 1) & ~(size_t)(BLOCK - 1);
    }
    printf("%zu of %zu bytes used\n", pos, file->len);
}

#define SLOT_MAGIC   0x54504b434852524dull /* "MRRHCKPT" */
#define SLOT_BYTES   96u
#define SLOT_STEP    65536u
#define STATE_DATA   131072u
#define STATE_HEAD   64u
#define STATE_RECORD 192u

static void dump_state_block(const struct mr_dump_file *file, const uint8_t *block, uint32_t used)
{
    uint32_t at = STATE_HEAD;
    for (uint32_t left = mr_load_le32(block + 48); left > 0 && used - at >= STATE_RECORD; left--) {
        const uint8_t *record = block + at;
        uint32_t bytes = mr_load_le32(record);
        uint32_t name_len = mr_load_le32(record + 44);
        if (bytes < STATE_RECORD || bytes > used - at || name_len > bytes - STATE_RECORD) {
            mr_dump_wrong(file, "a state record leaves its block");
            return;
        }
        printf("  | log=%016" PRIx64 " directory=%.*s seq=%" PRIu64 " segment=%" PRId64
               " end=%" PRId64 " pos=%" PRId64 " logStart=%" PRId64 " highWatermark=%" PRId64
               " epochs=%u producers=%u\n",
               mr_load_le64(record + 16), (int)name_len, (const char *)record + STATE_RECORD,
               mr_load_le64(record + 48), (int64_t)mr_load_le64(record + 64),
               (int64_t)mr_load_le64(record + 72), (int64_t)mr_load_le64(record + 80),
               (int64_t)mr_load_le64(record + 88), (int64_t)mr_load_le64(record + 96),
               mr_load_le32(record + 4), mr_load_le32(record + 8));
        at += bytes;
    }
}

static void dump_state(const struct mr_dump_file *file)
{
    uint64_t end_pos = STATE_DATA;
    for (uint32_t slot = 0; slot < 2 && slot * SLOT_STEP + BLOCK <= file->len; slot++) {
        const uint8_t *block = file->bytes + slot * SLOT_STEP;
        if (mr_dump_is_zero(block, BLOCK)) {
            printf("slot %c is empty\n", 'A' + (int)slot);
            continue;
        }
        if (mr_load_le64(block) != SLOT_MAGIC ||
            mr_crc32c(0, block + 12, SLOT_BYTES - 12) != mr_load_le32(block + 8)) {
            mr_dump_wrong(file, "slot %c is damaged", 'A' + (int)slot);
            continue;
        }
        printf("slot %c number=%" PRIu64 " start=%" PRIu64 " durable=%" PRIu64 " end=%" PRIu64
               " incarnation=%016" PRIx64 "\n",
               'A' + (int)slot, mr_load_le64(block + 32), mr_load_le64(block + 48),
               mr_load_le64(block + 56), mr_load_le64(block + 64), mr_load_le64(block + 40));
        if (mr_load_le64(block + 64) > end_pos) {
            end_pos = mr_load_le64(block + 64);
        }
    }
    for (uint64_t pos = STATE_DATA; pos + STATE_HEAD <= file->len && pos < end_pos;) {
        const uint8_t *block = file->bytes + pos;
        uint32_t used = mr_load_le32(block + 12);
        if (used < STATE_HEAD || used > file->len - pos ||
            mr_crc32c(0, block + 12, used - 12) != mr_load_le32(block + 8)) {
            mr_dump_wrong(file, "the block at %" PRIu64 " is damaged", pos);
            return;
        }
        printf("| block number=%" PRIu64 " pos=%" PRIu64 " bytes=%u records=%u\n",
               mr_load_le64(block + 40), pos, used, mr_load_le32(block + 48));
        dump_state_block(file, block, used);
        pos += (used + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
    }
}

/* ---- The command ---- */

static void dump_text(const struct mr_dump_file *file)
{
    for (size_t at = 0; at < file->len; at++) {
        uint8_t c = file->bytes[at];
        if (c == '\n' || c == '\t' || (c >= ' ' && c != 127)) {
            putchar(c);
        } else {
            printf("\\x%02x", c);
        }
    }
    if (file->len > 0 && file->bytes[file->len - 1] != '\n') {
        putchar('\n');
    }
}

static enum content content_of(const char *path)
{
    return strstr(path, "__cluster_metadata-") != NULL || ends_with(path, ".checkpoint")
               ? CONTENT_METADATA
           : strstr(path, "__consumer_offsets-") != NULL ? CONTENT_GROUP
                                                         : CONTENT_PLAIN;
}

static void dump_file(const struct mr_dump_file *file)
{
    if (ends_with(file->name, ".log") || ends_with(file->name, ".checkpoint") ||
        ends_with(file->name, ".log.deleted")) {
        dump_batches(file, content_of(file->path));
        if (is_verifying && ends_with(file->name, ".log")) {
            mr_dump_side_damage(file);
        }
    } else if (ends_with(file->name, ".mrx")) {
        mr_dump_side(file, is_verifying);
    } else if (ends_with(file->name, ".index")) {
        mr_dump_index_offset(file, is_verifying);
    } else if (ends_with(file->name, ".timeindex")) {
        mr_dump_index_time(file, is_verifying);
    } else if (ends_with(file->name, ".txnindex")) {
        dump_txn_index(file);
    } else if (ends_with(file->name, ".snapshot")) {
        dump_snapshot(file);
    } else if (strncmp(file->name, "millrace-journal-", 17) == 0) {
        dump_journal(file);
    } else if (strncmp(file->name, "millrace-state-", 15) == 0) {
        dump_state(file);
    } else {
        dump_text(file);
    }
}

bool mr_dump_map(const char *path, struct mr_dump_file *file)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_file = fd >= 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
    if (!is_file) {
        errno = fd < 0 ? errno : 0;
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    const char *slash = strrchr(path, '/');
    *file = (struct mr_dump_file){
        .path = path, .name = slash == NULL ? path : slash + 1, .len = (size_t)stat.st_size};
    void *bytes = file->len == 0 ? NULL : mmap(NULL, file->len, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    file->bytes = bytes;
    return bytes != MAP_FAILED;
}

void mr_dump_unmap(struct mr_dump_file *file)
{
    if (file->len > 0) {
        (void)munmap((void *)(uintptr_t)file->bytes, file->len);
    }
}

int mr_cmd_dump(int argc, char **argv)
{
    const struct mr_cli_option options[] = {{.name = "--verify", .flag = &is_verifying},
                                            {.name = "--records", .flag = &has_records},
                                            {.name = NULL}};
    static struct mr_cli cli = {.command = "dump", .rest_max = 64};
    int unread = 0;
    cli.options = options;
    if (mr_cli_is_answered(argc, argv, help)) {
        return MR_CLI_OK;
    }
    if (!mr_cli_read(&cli, argc, argv)) {
        return MR_CLI_USAGE;
    }
    if (cli.rest_count == 0) {
        mr_cli_complain(&cli, "no file given; see millrace dump --help");
        return MR_CLI_USAGE;
    }
    if (!mr_memory_arena(&scratch, SCRATCH_BYTES)) {
        mr_cli_complain(&cli, "no memory: %s", strerror(errno));
        return MR_CLI_FAILED;
    }
    for (int index = 0; index < cli.rest_count; index++) {
        struct mr_dump_file file;
        if (!mr_dump_map(cli.rest[index], &file)) {
            fprintf(stderr, "millrace dump: %s: %s\n", cli.rest[index],
                    errno != 0 ? strerror(errno) : "not a file");
            unread++;
            continue;
        }
        printf("%s (%zu bytes)\n", file.path, file.len);
        dump_file(&file);
        mr_dump_unmap(&file);
    }
    return unread > 0 || wrong_count > 0 ? MR_CLI_FAILED : MR_CLI_OK;
}
