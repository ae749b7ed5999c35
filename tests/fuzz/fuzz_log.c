/*
 * fuzz_log: a storage core on a directory that somebody has damaged: segments, indexes, snapshots, checkpoints, journal
 * and state together, between operations, stops, kills and cuts. It may refuse to start, take logs offline, or refuse
 * what is spoiled; it must go on, and what it hands out are whole batches with their CRC. The last log is compacted:
 * the cleaner reads batches that lie under a right CRC too.
 *
 * The input is a script (mutate.h) of enum step. It begins with the directory of a core that was stopped cleanly.
 */
#include "batch/compress.h"
#include "mutate.h"
#include "storage_rig.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOGS      3u
#define KEYED     2u /* the compacted one */
#define FILES_MAX 128u
#define PATH_ROOM 128u
#define FILE_ROOM (2u << 20)
#define STEPS_MAX 40u

enum step {
    STEP_KILLED, /* the directory of a core that was killed instead, without what was damaged so far */
    STEP_FLIP,   /* file, {position u16, XOR u8}... */
    STEP_WRITE,  /* file, position u16, bytes */
    STEP_CUT,    /* file, its new size u16 */
    STEP_GROW,   /* file, bytes */
    STEP_REMOVE, /* file */
    STEP_COPY,   /* file, which other becomes its content */
    STEP_READ,   /* log, offset u16, bytes_max u16 */
    STEP_LIST,   /* log, timestamp u16 behind that of the first batch */
    STEP_APPEND, /* log, sequence u8, producer u8 */
    STEP_DELETE, /* log, offset u16 */
    STEP_END,    /* stop, kill or cut */
    STEP_PUT,    /* codec, {key u8, bytes of the value u8, 0: none}...: to the compacted log */
    STEP_CLEAN,  /* turns u16 of a compaction that may begin, 0: all of it */
    STEP_LIE,    /* file, which batch of it u16, {position u16, XOR u8}..., and a CRC that agrees */
    STEP_COUNT,
};

struct broker {
    struct storage_rig rig;
    bool is_up;
    struct rig_log logs[LOGS];
    enum mr_err opened[LOGS];
};

static struct broker broker;
static struct mr_sim_fs *stopped, *killed; /* the directories that scripts begin with */
static char files[FILES_MAX][PATH_ROOM];

static const char *const topics[LOGS] = {"a", "b", "c"};
static const char *const directories[] = {RIG_LOG_DIR, RIG_LOG_DIR "/a-0", RIG_LOG_DIR "/b-0",
                                          RIG_LOG_DIR "/c-0"};

static uint32_t u16(const struct mr_script_item *item, uint32_t at)
{
    return at + 2 <= item->len ? item->bytes[at] | (uint32_t)item->bytes[at + 1] << 8 : 0;
}

/* ---- A life ---- */

static void init_rig(void)
{
    rig_init(&broker.rig);
    broker.rig.plan.logs_max = 8;
    broker.rig.plan.cache_bytes = 4u << 20;
    broker.rig.plan.cold_bytes = 1u << 20;
    broker.rig.plan.journal_files_max = 2;
    broker.rig.plan.producers_max = 64;
    broker.rig.plan.segments_max = 256;
    broker.rig.config.segment_bytes = 8 << 10;
    broker.rig.config.index_interval_bytes = 512;
    broker.rig.plan.clean_map_bytes = 64u << 10;
    broker.rig.plan.clean_load = 0.9;
    broker.rig.plan.clean_io_bytes = 256u << 10;
    broker.rig.plan.clean_backoff_ms = 100;
    broker.rig.config.delete_retention_ms = 1000;
    broker.rig.config.file_delete_delay_ms = 1000;
    broker.rig.config.min_cleanable_dirty_ratio = 0.01;
}

/* Whether it serves; a log that was refused is left alone. */
static bool bring_up(void)
{
    if (broker.is_up) {
        return true;
    }
    if (rig_start(&broker.rig) != MR_OK) {
        rig_kill(&broker.rig);
        return false;
    }
    broker.is_up = true;
    for (uint32_t log = 0; log < LOGS; log++) {
        broker.rig.config.is_cleanup_compact = log == KEYED;
        broker.rig.config.is_cleanup_delete = log != KEYED;
        broker.opened[log] = rig_open(&broker.rig, topics[log], 0, &broker.logs[log]);
    }
    return true;
}

static void bring_down(uint32_t how)
{
    if (!broker.is_up) {
        return;
    }
    broker.is_up = false;
    if (how % 3 == 0) {
        (void)rig_stop(&broker.rig);
    } else if (how % 3 == 1) {
        rig_kill(&broker.rig);
    } else {
        rig_cut(&broker.rig, (enum mr_sim_cut)(how / 3 % MR_SIM_CUT_COUNT));
    }
}

static void begin_with(const struct mr_sim_fs *fs)
{
    mr_sim_fs_destroy(broker.rig.fs);
    broker.rig.fs = mr_sim_fs_clone(fs);
}

/* ---- Operations ---- */

static void must_be_whole(const uint8_t *bytes, uint32_t len)
{
    for (uint32_t at = 0; at < len;) {
        struct mr_batch batch;
        mr_assert(len - at >= MR_BATCH_HEADER);
        mr_batch_header_load(bytes + at, &batch);
        mr_assert(mr_batch_bytes(&batch) <= len - at);
        mr_assert(mr_crc32c(0, bytes + at + 21, mr_batch_bytes(&batch) - 21) ==
                  mr_load_be32(bytes + at + 17));
        at += mr_batch_bytes(&batch);
    }
}

static void read_log(uint32_t log, int64_t offset, uint32_t bytes_max)
{
    static uint8_t copy[1 << 16];
    static uint8_t all[FILE_ROOM];
    struct mr_lent_span spans[64];
    struct mr_read_entry entry = {.log_id = broker.logs[log].log_id,
                                  .offset = offset,
                                  .bytes_max = bytes_max,
                                  .current_leader_epoch = -1,
                                  .is_first_batch_whole = true};
    struct mr_read_op op = {.op.kind = MR_STORAGE_READ,
                            .bytes_max = bytes_max,
                            .entry_count = 1,
                            .entries = &entry,
                            .spans = spans,
                            .span_max = 64,
                            .copy_buffer = copy,
                            .copy_max = sizeof copy};
    rig_send(&broker.rig, broker.logs[log].core, &op.op);
    rig_wait(&broker.rig, &op.op);
    uint32_t len = 0;
    for (uint32_t at = 0; at < op.span_count; at++) {
        mr_assert(spans[at].span.len <= sizeof all - len);
        memcpy(all + len, spans[at].span.data, spans[at].span.len);
        len += (uint32_t)spans[at].span.len;
        if (spans[at].page != MR_PAGE_NONE) {
            struct mr_plane_msg release = {.kind = MR_PLANE_RELEASE, .count = 1};
            release.u.pages[0] = spans[at].page;
            mr_port_send(broker.rig.ports[0],
                         mr_endpoint_storage(&broker.rig.endpoints, broker.logs[log].core),
                         &release);
        }
    }
    if (op.op.err == MR_OK && entry.err == MR_OK) {
        mr_assert(entry.bytes == len);
        must_be_whole(all, len);
    }
}

static void list(uint32_t log, int64_t timestamp)
{
    struct mr_list_offsets_entry entry = {
        .log_id = broker.logs[log].log_id, .timestamp = timestamp, .current_leader_epoch = -1};
    struct mr_list_offsets_op op = {
        .op.kind = MR_STORAGE_LIST_OFFSETS, .entry_count = 1, .entries = &entry};
    rig_send(&broker.rig, broker.logs[log].core, &op.op);
    rig_wait(&broker.rig, &op.op);
}

/* What is appended has an offset behind all that came before it in this life, unless it was there. */
static void append(uint32_t log, int64_t producer_id, int32_t sequence)
{
    struct mr_append_entry entry;
    const struct rig_batch batch = {.records = 2,
                                    .bytes = 300,
                                    .timestamp = 1700000000000 + sequence,
                                    .producer_id = producer_id,
                                    .sequence = sequence};
    if (rig_try_append(&broker.rig, &broker.logs[log], &batch, &entry) == MR_OK &&
        !entry.is_duplicate) {
        mr_assert(entry.base_offset >= broker.logs[log].end);
        broker.logs[log].end = entry.base_offset + 2;
    }
}

/* Records with keys, in a codec of their own. Returns the bytes in `out`. */
static uint32_t keyed_batch(const struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    static const uint8_t value[UINT8_MAX];
    static uint8_t plain[1 << 16], room[1 << 20];
    struct mr_batch_builder builder;
    struct mr_batch batch;
    struct mr_arena scratch;
    uint32_t packed = 0;
    int codec = item->who % (MR_CODEC_ZSTD + 1);
    mr_batch_begin(&builder, plain, sizeof plain, 0, 0);
    for (uint32_t at = 0; at + 2 <= item->len; at += 2) {
        struct mr_blob key = {.data = item->bytes + at, .len = 1};
        struct mr_blob blob = {.data = value, .len = item->bytes[at + 1]};
        mr_assert(mr_batch_add(&builder, broker.rig.now.unix_ms, key,
                               blob.len == 0 ? MR_BLOB_NULL : blob));
    }
    uint32_t len = mr_batch_end(&builder);
    memcpy(out, plain, len);
    mr_arena_init(&scratch, room, sizeof room);
    if (codec != MR_CODEC_NONE &&
        mr_compress(codec, MR_LEVEL_DEFAULT, plain + MR_BATCH_HEADER, len - MR_BATCH_HEADER,
                    out + MR_BATCH_HEADER, max - MR_BATCH_HEADER, &packed, &scratch) == MR_OK) {
        len = MR_BATCH_HEADER + packed;
        mr_batch_header_load(out, &batch);
        batch.attributes |= (int16_t)codec;
        batch.batch_length = (int32_t)(len - MR_BATCH_LENGTH_BIAS);
        mr_batch_header_store(&batch, out);
        mr_store_be32(out + 17, mr_crc32c(0, out + 21, len - 21));
    }
    return len;
}

static void put(const struct mr_script_item *item)
{
    static uint8_t bytes[1 << 17];
    if (item->len < 2 || !bring_up() || broker.opened[KEYED] != MR_OK) {
        return;
    }
    struct rig_log *log = &broker.logs[KEYED];
    struct mr_span span = {.data = bytes, .len = keyed_batch(item, bytes, sizeof bytes)};
    struct mr_append_entry entry = {
        .log_id = log->log_id,
        .leader_epoch = -1,
        .batch = {.spans = &span, .span_count = 1, .bytes = (uint32_t)span.len}};
    struct mr_append_op op = {
        .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    rig_send(&broker.rig, log->core, &op.op);
    rig_wait(&broker.rig, &op.op);
    if (entry.err == MR_OK) {
        mr_assert(entry.base_offset >= log->end);
        log->end = entry.base_offset + item->len / 2;
    }
}

/* A part of a compaction: what comes next may be its end. */
static void clean(uint32_t turns)
{
    for (uint32_t step = 0; step < (turns == 0 ? 20 : 1) && bring_up(); step++) {
        broker.rig.now.mono_ns += 100 * MR_NS_PER_MS;
        broker.rig.now.unix_ms += 100;
        for (uint32_t turn = 0; turn < turns; turn++) {
            (void)rig_turn(&broker.rig);
        }
        if (turns == 0) {
            rig_settle(&broker.rig);
        }
    }
}

static void operate(const struct mr_script_item *item)
{
    uint32_t log = item->who % LOGS;
    if (!bring_up() || broker.opened[log] != MR_OK) {
        return;
    }
    switch (item->kind % STEP_COUNT) {
    case STEP_READ:
        read_log(log, u16(item, 0) % 256, 1 + u16(item, 2));
        break;
    case STEP_LIST:
        list(log,
             u16(item, 0) < 6 ? -1 - (int64_t)u16(item, 0) : 1700000000000 + u16(item, 0) % 256);
        break;
    case STEP_APPEND:
        append(log, (int64_t)(u16(item, 0) >> 8) % 4 - 1, (int32_t)(u16(item, 0) & 0xff));
        break;
    default:
        (void)rig_delete_records(&broker.rig, &broker.logs[log], u16(item, 0) % 256);
        break;
    }
}

/* ---- Damage ---- */

/* All plain files, in the order of their names. */
static uint32_t list_files(void)
{
    static char names[FILES_MAX * 64];
    uint32_t count = 0;
    for (uint32_t dir = 0; dir < sizeof directories / sizeof directories[0]; dir++) {
        size_t len = mr_sim_fs_names(broker.rig.fs, directories[dir], names, sizeof names);
        for (size_t at = 0; at < len && count < FILES_MAX; at += strlen(names + at) + 1) {
            snprintf(files[count], PATH_ROOM, "%s/%s", directories[dir], names + at);
            count += mr_sim_fs_get(broker.rig.fs, files[count], NULL, 0) >= 0;
        }
    }
    return count;
}

/* Over the bytes at `pos`, and behind the end. */
static void write_over(const char *path, size_t pos, const uint8_t *bytes, uint32_t len)
{
    static uint8_t content[FILE_ROOM];
    int64_t have = mr_sim_fs_get(broker.rig.fs, path, content, sizeof content);
    if (have < 0 || pos + len > sizeof content) {
        return;
    }
    memcpy(content + pos, bytes, len);
    mr_sim_fs_put(broker.rig.fs, path, content,
                  pos + len > (size_t)have ? pos + len : (size_t)have);
}

static void copy_file(const char *from, const char *to)
{
    static uint8_t content[FILE_ROOM];
    int64_t have = mr_sim_fs_get(broker.rig.fs, from, content, sizeof content);
    if (have >= 0 && (size_t)have <= sizeof content) {
        mr_sim_fs_put(broker.rig.fs, to, content, (size_t)have);
    }
}

/* Where the number-th batch of a segment begins, as far as its lengths lead; its bytes in *len, 0: there is none. */
static size_t find_batch(const uint8_t *bytes, size_t size, uint32_t number, uint32_t *len)
{
    struct mr_batch batch;
    size_t at = 0;
    for (*len = 0; size - at >= MR_BATCH_HEADER; at += *len) {
        mr_batch_header_load(bytes + at, &batch);
        if (batch.batch_length < (int32_t)(MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS) ||
            mr_batch_bytes(&batch) > size - at) {
            break;
        }
        *len = mr_batch_bytes(&batch);
        if (number-- == 0) {
            return at;
        }
    }
    *len = 0;
    return 0;
}

static void lie(const char *path, const struct mr_script_item *item)
{
    static uint8_t content[FILE_ROOM];
    int64_t have = mr_sim_fs_get(broker.rig.fs, path, content, sizeof content);
    uint32_t len = 0;
    if (have < 0 || (size_t)have > sizeof content) {
        return;
    }
    uint8_t *batch = content + find_batch(content, (size_t)have, u16(item, 0) % 8, &len);
    if (len == 0) {
        return;
    }
    for (uint32_t at = 2; at + 3 <= item->len; at += 3) {
        batch[21 + u16(item, at) % (len - 21)] ^= item->bytes[at + 2];
    }
    mr_store_be32(batch + 17, mr_crc32c(0, batch + 21, len - 21));
    mr_sim_fs_put(broker.rig.fs, path, content, (size_t)have);
}

static void damage(const struct mr_script_item *item)
{
    uint32_t count = list_files();
    if (broker.is_up || count == 0) {
        return;
    }
    const char *path = files[item->who % count];
    uint64_t size = (uint64_t)mr_sim_fs_get(broker.rig.fs, path, NULL, 0);
    switch (item->kind % STEP_COUNT) {
    case STEP_FLIP:
        for (uint32_t at = 0; size > 0 && at + 3 <= item->len; at += 3) {
            mr_sim_fs_rot(broker.rig.fs, path, u16(item, at) % size, 1, item->bytes[at + 2]);
        }
        break;
    case STEP_WRITE:
        if (item->len > 2) {
            write_over(path, size == 0 ? 0 : u16(item, 0) % size, item->bytes + 2, item->len - 2);
        }
        break;
    case STEP_CUT:
        mr_sim_fs_cut_file(broker.rig.fs, path, u16(item, 0) % (size + 1));
        break;
    case STEP_GROW:
        write_over(path, size, item->bytes, item->len);
        break;
    case STEP_LIE:
        lie(path, item);
        break;
    case STEP_REMOVE:
        mr_sim_fs_remove(broker.rig.fs, path);
        break;
    default:
        copy_file(files[u16(item, 0) % count], path);
        break;
    }
}

/* ---- Scripts ---- */

/* Two logs with some segments each, idempotent producers, a moved start; the last batches are in the journal only. */
static void make_directories(void)
{
    init_rig();
    mr_assert(bring_up());
    for (int32_t round = 0; round < 40; round++) {
        append(0, round % 3, round / 3 * 2);
        append(1, -1, round);
        for (uint8_t key = 0; key < 8; key++) {
            const uint8_t records[] = {key, 200, (uint8_t)(round % 5), 100, (uint8_t)round, 0};
            put(&(struct mr_script_item){.who = key, .bytes = records, .len = sizeof records});
        }
    }
    mr_assert(rig_delete_records(&broker.rig, &broker.logs[1], 5) == MR_OK);
    bring_down(0);
    stopped = mr_sim_fs_clone(broker.rig.fs);
    mr_assert(bring_up());
    append(0, 0, 28);
    append(1, -1, 99);
    bring_down(1);
    killed = mr_sim_fs_clone(broker.rig.fs);
}

static void take(const struct mr_script_item *item)
{
    switch (item->kind % STEP_COUNT) {
    case STEP_KILLED:
        bring_down(1);
        begin_with(killed);
        break;
    case STEP_READ:
    case STEP_LIST:
    case STEP_APPEND:
    case STEP_DELETE:
        operate(item);
        break;
    case STEP_END:
        bring_down(item->who);
        break;
    case STEP_PUT:
        put(item);
        break;
    case STEP_CLEAN:
        clean(u16(item, 0) % 512);
        break;
    default:
        damage(item);
        break;
    }
}

static void draw(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    if (item->bytes == NULL || mr_prng_below(prng, 3) == 0) {
        item->kind = (uint8_t)mr_prng_below(prng, STEP_COUNT);
        item->who = (uint8_t)mr_prng_below(prng, 64);
    }
    item->len = (uint32_t)(3 * mr_prng_below(prng, max < 30 ? 1 : 10));
    for (uint32_t at = 0; at < item->len; at++) {
        out[at] = (uint8_t)mr_prng_below(prng, 256);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, draw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *at = data;
    struct mr_script_item item;
    if (stopped == NULL) {
        make_directories();
    }
    begin_with(stopped);
    for (uint32_t steps = 0; steps < STEPS_MAX && mr_script_next(&at, data + size, &item);
         steps++) {
        take(&item);
    }
    /* However it looks by now: once more from the start, and everything that is to be had. */
    bring_down(0);
    for (uint32_t log = 0; log < LOGS && bring_up(); log++) {
        if (broker.opened[log] == MR_OK) {
            read_log(log, broker.logs[log].start, 1 << 20);
            append(log, -1, 0);
        }
    }
    bring_down(0);
    return 0;
}
