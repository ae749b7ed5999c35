/*
 * fuzz_recover: recovery of a directory whose private files somebody has edited. It may refuse or take logs
 * offline; it must end, within its memory, and hand over nothing that points outside.
 *
 * The input: one byte that chooses the file, then edits {position u16 x 8 bytes, XOR u8}; from the 200th byte
 * on it is written over the file at 4,096 as it is.
 */
#include "journal/journal_private.h"
#include "sim_disk.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES (1u << 18)

static const char meta[] = "version=1-millrace-journal-not-empty\ncluster.id=c\nnode.id=1\n"
                           "directory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";
static uint64_t sum;

static enum mr_err on_open(void *context, const struct mr_journal_log_name *name,
                           const struct mr_journal_state_view *state, bool is_state_lost,
                              const struct mr_journal_first *first, void **log_out)
{
    (void)first;
    (void)is_state_lost;
    for (int32_t at = 0; at < name->dir_name.len; at++) {
        sum += (uint8_t)name->dir_name.data[at];
    }
    for (uint32_t index = 0, cursor = 0; state != NULL && index < state->state.producer_count; index++) {
        struct mr_journal_producer producer;
        mr_journal_state_get_producer(state, &cursor, &producer);
        sum += (uint64_t)producer.producer_id;
    }
    *log_out = context;
    return MR_OK;
}

static enum mr_err on_redo(void *context, void *log, const struct mr_journal_redo *redo)
{
    (void)context;
    (void)log;
    for (uint32_t at = 0; at < redo->payload_bytes; at++) {
        sum += redo->payload[at];
    }
    return MR_OK;
}

static enum mr_err on_drop(void *context, const struct mr_journal_log_name *name)
{
    (void)context;
    sum += name->log_id;
    return MR_OK;
}

static void on_lost(void *context, void *log, int64_t from, int64_t to)
{
    (void)context;
    (void)log;
    sum += (uint64_t)(from ^ to);
}

static enum mr_err on_finish(void *context, bool is_state_lost)
{
    (void)is_state_lost;
    (void)context;
    return MR_OK;
}

static bool on_store(void *context, void *log, struct mr_journal_state_out *out)
{
    (void)context;
    (void)log;
    mr_journal_state_put(out, &(struct mr_journal_state){.end_offset = 1});
    return true;
}

static enum mr_err on_each(void *context, void (*found)(void *replay, const struct mr_journal_log_name *name),
                           void *replay)
{
    (void)context;
    struct mr_journal_log_name name = {.log_id = 77, .dir_name = mr_str("unheard-of-0")};
    found(replay, &name);
    return MR_OK;
}

static const struct mr_journal_recover_ops ops = {.open = on_open,
                                                  .each = on_each,
                                                  .redo = on_redo,
                                                  .drop = on_drop,
                                                  .lost = on_lost,
                                                  .finish = on_finish,
                                                  .store = on_store};

#define LENT_BYTES 40000u

/* A commit as it is written: what the buffer has, and in between what was lent. */
static uint32_t put_commit(uint8_t *to, const struct mr_commit *commit)
{
    struct mr_disk_piece pieces[MR_COMMIT_WRITES];
    uint32_t             at = 0;
    uint32_t             count = mr_commit_writes(commit, pieces);
    for (uint32_t index = 0; index < count; index++) {
        memcpy(to + at, pieces[index].data, pieces[index].len);
        at += (uint32_t)pieces[index].len;
    }
    return at;
}

/* Three commits of two logs, as the journal would write them; the last batch of one lies in lent memory. */
static void build(uint8_t *file, const struct mr_commit_key *key)
{
    static _Alignas(4096) uint8_t buffer[MR_JOURNAL_COMMIT_MAX];
    static _Alignas(4096) uint8_t tail[LENT_BYTES + MR_JOURNAL_BLOCK];
    static struct mr_commit_piece pieces[MR_COMMIT_PIECES];
    uint32_t                      prev = 0;
    uint32_t                      pos = MR_JOURNAL_BLOCK;
    mr_journal_file_head(file, key, 2);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        struct mr_commit commit = {.buffer = buffer,
                                   .pieces = pieces,
                                   .used = MR_COMMIT_HEAD,
                                   .seed = mr_commit_seed(key->generation),
                                   .seq = seq};
        for (uint64_t id = 1; id <= 2; id++) {
            struct mr_journal_log     log = {.log_id = id, .dir_name = id == 1 ? MR_STR("a-0") : MR_STR("b-1")};
            uint8_t                   name[MR_COMMIT_OPEN_MAX];
            struct mr_journal_payload body = {.prefix = name, .bytes = UINT32_MAX};
            body.prefix_bytes = mr_commit_open_store(name, &log);
            struct mr_journal_entry entry = {.kind = MR_JOURNAL_OPEN};
            mr_commit_add(&commit, id, &entry, &body, body.prefix_bytes);
            static const uint8_t text[300] = "some bytes of a batch";
            entry = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND,
                                              .offset = (int64_t)seq - 1,
                                              .last_offset = (int64_t)seq - 1,
                                              .pos = (uint32_t)(seq - 1) * 300};
            body = (struct mr_journal_payload){.prefix = text, .prefix_bytes = 300};
            struct mr_journal_lent lent = {.data = tail + 600, .len = LENT_BYTES};
            if (seq == 3 && id == 2) {
                body = (struct mr_journal_payload){
                    .prefix = lent.data, .prefix_bytes = lent.len, .lent = &lent, .lent_count = 1};
            }
            mr_commit_add(&commit, id, &entry, &body, body.prefix_bytes);
        }
        struct mr_commit_head head = {.flushed_seq = seq - 1, .prev_crc = prev, .incarnation = 2};
        prev = mr_commit_seal(&commit, key, &head);
        pos += put_commit(file + pos, &commit);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t  file[FILE_BYTES];
    static uint8_t  state[MR_STATE_DATA + MR_JOURNAL_BLOCK];
    static uint8_t *scratch;
    size_t          scratch_bytes = mr_journal_recover_bytes(16);
    if (size == 0) {
        return 0;
    }
    if (scratch == NULL) {
        scratch = aligned_alloc(4096, (scratch_bytes + 4095) & ~(size_t)4095);
    }
    struct mr_commit_key key = {
        .directory_id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}, .generation = 99};
    struct mr_state_slot slot = {.incarnation = 2, .start_seq = 1, .end_pos = sizeof state};
    struct mr_journal_state_out out;
    memset(file, 0, sizeof file);
    memset(state, 0, sizeof state);
    build(file, &key);
    static uint8_t block[MR_STATE_BLOCK_MAX];
    mr_journal_state_begin_block(&out, block);
    mr_journal_state_begin(&out, &(struct mr_journal_log_name){.log_id = 1, .dir_name = MR_STR("a-0")},
                           (struct mr_state_stamp){.seq = 2});
    mr_journal_state_put_epoch(&out, &(struct mr_journal_epoch){.epoch = 1});
    mr_journal_state_put_producer(&out, &(struct mr_journal_producer){.producer_id = 5, .batch_count = 2});
    (void)mr_journal_state_end(&out);
    uint32_t block_bytes = mr_journal_state_end_block(&out, &key.directory_id, 2, 0);
    memcpy(state + MR_STATE_DATA, block, block_bytes);
    mr_journal_state_slot_store(state, &key.directory_id, 0, &slot);

    uint8_t *target = (data[0] & 1) != 0 ? state : file;
    size_t   target_bytes = (data[0] & 1) != 0 ? sizeof state : sizeof file;
    for (size_t at = 1; at + 3 <= size && at < 200; at += 3) {
        size_t pos = ((size_t)data[at] | (size_t)data[at + 1] << 8) * 8 + (data[at + 2] >> 5);
        if (pos < target_bytes) {
            target[pos] ^= data[at + 2];
        }
    }
    if (size > 200) {
        size_t part = size - 200 < target_bytes - 4096 ? size - 200 : target_bytes - 4096;
        memcpy(target + 4096, data + 200, part);
    }
    struct mr_sim_fs *fs = mr_sim_fs_create(1);
    mr_sim_fs_put(fs, "/d/meta.properties", meta, sizeof meta - 1);
    mr_sim_fs_put(fs, "/d/millrace-journal-0-0", file, sizeof file);
    mr_sim_fs_put(fs, "/d/millrace-state-0", state, sizeof state);
    struct mr_disk *disk = mr_sim_disk_create(fs);
    struct mr_arena arena;
    mr_arena_init(&arena, scratch, scratch_bytes);
    struct mr_journal_recover_params params = {
        .disk = disk, .log_dir = "/d", .ops = &ops, .context = &arena, .scratch = &arena, .logs_max = 16};
    struct mr_journal_recover_result result;
    (void)mr_journal_recover(&params, &result);
    mr_sim_disk_destroy(disk);
    mr_sim_fs_destroy(fs);
    return 0;
}
