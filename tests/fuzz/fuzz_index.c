/*
 * fuzz_index: any bytes as the small files beside a segment: .index and .timeindex, a snapshot of producers, an offset
 * checkpoint, and as log bytes to be scanned in pieces.
 *
 *   | which u8 | key u32 | bytes ... |
 *
 * Entries that an index's check believes rise, and a search in them finds what looking at each would find. A snapshot
 * that loads is stored again and loads to the same. A scan ends, and finds the same batches in pieces as in one.
 */
#include "log/checkpoint.h"
#include "millrace/log_scan.h"
#include "log/offset_index.h"
#include "log/producer_state.h"
#include "log/time_index.h"
#include "millrace/base/bytes.h"
#include "sim_disk.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD      5u
#define FILE_MAX  (1u << 16)
#define PRODUCERS 2000u

static void offset_index(const uint8_t *bytes, uint32_t len, uint32_t key)
{
    const struct mr_offset_index_entry before = {.relative = -1};
    struct mr_offset_index_entry found = before;
    struct mr_offset_index_entry last = before;
    uint32_t count =
        mr_offset_index_check(bytes, len / MR_OFFSET_INDEX_ENTRY, before, INT32_MAX, UINT32_MAX);
    bool is_there = false;
    mr_assert(count <= len / MR_OFFSET_INDEX_ENTRY);
    for (uint32_t at = 0; at < count; at++) {
        struct mr_offset_index_entry entry =
            mr_offset_index_load(bytes + (size_t)at * MR_OFFSET_INDEX_ENTRY);
        mr_assert(entry.relative > last.relative && (at == 0 || entry.pos > last.pos));
        last = entry;
        if (entry.relative <= (int32_t)key) {
            found = entry;
            is_there = true;
        }
    }
    struct mr_offset_index_entry entry;
    mr_assert(mr_offset_index_find(bytes, count, (int32_t)key, &entry) == is_there);
    mr_assert(!is_there || (entry.relative == found.relative && entry.pos == found.pos));
}

static void time_index(const uint8_t *bytes, uint32_t len, uint32_t key)
{
    const struct mr_time_index_entry before = {.timestamp = -1, .relative = -1};
    struct mr_time_index_entry found = before;
    uint32_t count = mr_time_index_check(bytes, len / MR_TIME_INDEX_ENTRY, before, INT32_MAX);
    bool is_there = false;
    mr_assert(count <= len / MR_TIME_INDEX_ENTRY);
    for (uint32_t at = 0; at < count; at++) {
        struct mr_time_index_entry entry =
            mr_time_index_load(bytes + (size_t)at * MR_TIME_INDEX_ENTRY);
        if (entry.timestamp < (int64_t)key) {
            found = entry;
            is_there = true;
        }
    }
    struct mr_time_index_entry entry;
    mr_assert(mr_time_index_find_before(bytes, count, key, &entry) == is_there);
    mr_assert(!is_there ||
              (entry.timestamp == found.timestamp && entry.relative == found.relative));
}

/* With `is_sealed` the CRC is made right, or nothing behind it would be reached. */
static void snapshot(uint8_t *bytes, uint32_t len, bool is_sealed)
{
    static struct mr_arena arena;
    static struct mr_producers producers;
    static uint8_t stored[MR_PRODUCER_SNAPSHOT_HEAD + PRODUCERS * 5 * MR_PRODUCER_SNAPSHOT_ENTRY];
    struct mr_producer_set set;
    if (arena.base == NULL) {
        size_t room = mr_producers_bytes(PRODUCERS) + 4096;
        mr_arena_init(&arena, malloc(room), room);
        mr_producers_init(&producers, &arena, PRODUCERS);
    }
    if (is_sealed && len > 6) {
        mr_store_be16(bytes, 1);
        mr_store_be32(bytes + 2, mr_crc32c(0, bytes + 6, len - 6));
    }
    mr_producer_set_init(&set, 7);
    if (mr_producer_snapshot_load(&producers, &set, bytes, len) == MR_OK) {
        mr_assert(mr_producer_snapshot_bytes(&set) <= sizeof stored);
        uint32_t stored_len = mr_producer_snapshot_store(&set, stored);
        uint32_t count = set.count;
        mr_producer_set_clear(&producers, &set);
        mr_assert(mr_producer_snapshot_load(&producers, &set, stored, stored_len) == MR_OK);
        mr_assert(set.count == count);
    } else {
        mr_assert(set.count == 0);
    }
    mr_producer_set_clear(&producers, &set);
    mr_assert(producers.pool.used == 0);
}

static void checkpoint(const uint8_t *bytes, uint32_t len)
{
    static struct mr_arena arena;
    struct mr_checkpoint read;
    size_t room = mr_checkpoint_bytes(64) + 4096;
    if (arena.base == NULL) {
        mr_arena_init(&arena, malloc(room), room);
    }
    mr_arena_reset(&arena);
    struct mr_sim_fs *fs = mr_sim_fs_create(1);
    mr_sim_fs_put(fs, "d/" MR_CHECKPOINT_HIGH, bytes, len);
    struct mr_disk *disk = mr_sim_disk_create(fs);
    struct mr_disk_op root = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = MR_DISK_ROOT, .name = "d"};
    mr_assert(mr_disk_run(disk, &root) == MR_OK);
    mr_checkpoint_init(&read, &arena, 64);
    enum mr_err err = mr_checkpoint_load(&read, disk, root.file, MR_CHECKPOINT_HIGH);
    for (uint32_t at = 0; at < read.entry_count; at++) {
        mr_assert(err == MR_OK && mr_checkpoint_find(&read, read.entries[at].dir_name) >= 0);
    }
    mr_sim_disk_destroy(disk);
    mr_sim_fs_destroy(fs);
}

struct seen {
    uint32_t count;
    uint64_t hash;
};

static void found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    struct seen *seen = context;
    seen->count++;
    if (control != NULL) { /* all of its bytes are there */
        seen->hash ^= mr_crc32c(0, control, mr_batch_bytes(batch));
    }
    seen->hash = mr_hash_u64(seen->hash ^ pos ^ (uint64_t)batch->base_offset << 20);
}

static struct seen scan(const uint8_t *bytes, uint32_t len, uint32_t piece)
{
    struct mr_log_scan scan;
    struct seen seen = {0};
    mr_log_scan_init(&scan, 0, len, 0, true);
    for (uint32_t turns = 0; scan.state == MR_LOG_SCAN_GOING; turns++) {
        mr_assert(turns <= len / MR_BATCH_HEADER + len / piece + 2);
        uint32_t left = (uint32_t)(len - scan.at);
        (void)mr_log_scan_feed(&scan, bytes + scan.at, left < piece ? left : piece, found, &seen);
    }
    mr_assert(scan.pos <= len && (scan.state != MR_LOG_SCAN_ENDED || scan.pos == len));
    return seen;
}

static void scans(const uint8_t *bytes, uint32_t len, uint32_t key)
{
    struct seen whole = scan(bytes, len, FILE_MAX);
    struct seen pieces = scan(bytes, len, MR_LOG_SCAN_MIN + key % 4096);
    mr_assert(whole.count == pieces.count && whole.hash == pieces.hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD || size > FILE_MAX) {
        return 0;
    }
    uint32_t len = (uint32_t)size - HEAD;
    uint32_t key = mr_load_be32(data + 1);
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    memcpy(bytes, data + HEAD, len);
    switch (data[0] % 6) {
    case 0:
        offset_index(bytes, len, key);
        break;
    case 1:
        time_index(bytes, len, key);
        break;
    case 2:
    case 3:
        snapshot(bytes, len, data[0] % 6 == 2);
        break;
    case 4:
        checkpoint(bytes, len);
        break;
    default:
        scans(bytes, len, key);
        break;
    }
    free(bytes);
    return 0;
}
