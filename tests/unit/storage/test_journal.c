/*
 * journal: a tiny log layer on the simulated disk, power cut before every single operation of a workload that
 * rolls, carries, checkpoints and recycles; and of the recovery itself. After each: what was acknowledged is
 * there, what is there is a prefix of what was appended, and a second recovery finds the same.
 */
#include "test.h"

#include "journal/guard.h"
#include "journal/journal_private.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "sim_disk.h"

#include <stdalign.h>

#define LOGS       3u
#define APPENDS    400u
#define BATCH_MAX  200000u
#define RUN        (128u << 10) /* what is lent lies in runs of this */
#define FILE_BYTES (1u << 20)
#define IMAGE      (16u << 20)

static const char meta[] = "#\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
                           "node.id=1\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";

struct shadow { /* of one log: what was appended, in memory */
    struct mr_journal_log jlog;
    char                  dir[32];
    uint8_t              *bytes; /* the segment as it should be */
    uint32_t              end_pos;
    int64_t               end_offset;
    uint32_t              ends[APPENDS]; /* position behind offset n */
    uint64_t              seqs[APPENDS];
    uint32_t              written_pos;   /* whole blocks in the segment */
    int64_t               acked;         /* offsets below are acknowledged */
    int32_t               handle;
};

struct rig {
    struct mr_sim_fs  *fs;
    struct mr_disk    *disk;
    struct mr_journal *journal;
    struct mr_guard    guard;
    struct mr_arena    arena;
    struct shadow      logs[LOGS];
    struct mr_now      now;
    uint64_t           draining; /* the end sequence that was reported as drained */
    bool               is_offline;
    uint32_t           offline_calls;
    uint32_t           kept; /* pieces that commits are written from */
    uint32_t           kept_ever;
};

/* What recovery found. */
struct found {
    struct mr_sim_fs *fs;
    struct mr_disk   *disk;
    int32_t           root;
    uint32_t          logs;
    struct {
        char                    dir[32];
        int32_t                 handle;
        struct mr_journal_state state;
        bool                    is_lost;
        int64_t                 lost_from, lost_to;
    } log[LOGS + 2];
    uint32_t drops;
};

static uint8_t *memory_of_test;
static uint8_t *scratch_of_test;
static size_t   scratch_bytes;

static uint8_t byte_at(uint32_t log, int64_t offset, uint32_t at)
{
    return (uint8_t)(at * 7u + (uint32_t)offset * 31u + log * 101u + (at >> 8));
}

static enum mr_err run(struct mr_disk *disk, struct mr_disk_op op, int32_t *file)
{
    enum mr_err err = mr_disk_run(disk, &op);
    if (file != NULL) {
        *file = op.file;
    }
    return err;
}

static void store(void *context, struct mr_journal_log *jlog, struct mr_journal_state_out *out)
{
    (void)context;
    struct shadow          *log = MR_LIST_ENTRY(jlog, struct shadow, jlog);
    struct mr_journal_state state = {.end_offset = log->end_offset, .end_pos = log->end_pos};
    mr_journal_state_put(out, &state);
    mr_journal_state_put_epoch(out, &(struct mr_journal_epoch){.epoch = 3, .start_offset = 1});
    mr_journal_state_put_producer(
        out, &(struct mr_journal_producer){.producer_id = 77, .producer_epoch = -1, .batch_count = 1});
}

static void offline(void *context, enum mr_err err, int32_t os_errno, const char *what)
{
    struct rig *rig = context;
    (void)err;
    (void)os_errno;
    (void)what;
    rig->is_offline = true;
    rig->offline_calls++;
}

static void keep(void *context, void *owner)
{
    struct rig *rig = context;
    assert_ptr_equal(owner, rig);
    rig->kept++;
    rig->kept_ever++;
}

static void let_go(void *context, void *owner)
{
    struct rig *rig = context;
    assert_ptr_equal(owner, rig);
    assert_true(rig->kept > 0);
    rig->kept--;
}

static const struct mr_journal_ops ops = {.store = store, .offline = offline, .keep = keep, .let_go = let_go};

static enum mr_err found_open(void *context, const struct mr_journal_log_name *name,
                              const struct mr_journal_state_view *state, bool is_state_lost,
                              const struct mr_journal_first *first, void **log_out)
{
    (void)first;
    (void)is_state_lost;
    struct found *found = context;
    uint32_t      index = found->logs++;
    assert_true(index < LOGS + 2);
    memset(&found->log[index], 0, sizeof found->log[index]);
    memcpy(found->log[index].dir, name->dir_name.data, (size_t)name->dir_name.len);
    if (state != NULL) {
        found->log[index].state = state->state;
        if (state->state.producer_count > 0) {
            struct mr_journal_producer producer;
            struct mr_journal_epoch    epoch;
            uint32_t                   cursor = 0;
            mr_journal_state_get_producer(state, &cursor, &producer);
            mr_journal_state_get_epoch(state, 0, &epoch);
            assert_int_equal(producer.producer_id, 77);
            assert_int_equal(producer.producer_epoch, -1);
            assert_int_equal(epoch.epoch, 3);
        }
    }
    (void)run(found->disk,
              (struct mr_disk_op){.kind = MR_DISK_MKDIR, .dir = found->root, .name = found->log[index].dir},
              NULL);
    char path[64];
    mr_fmt(path, sizeof path, "%s/0.log", found->log[index].dir);
    *log_out = &found->log[index];
    return run(found->disk,
               (struct mr_disk_op){
                   .kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = found->root, .name = path},
               &found->log[index].handle);
}

static enum mr_err found_redo(void *context, void *log, const struct mr_journal_redo *redo)
{
    struct found *found = context;
    uint32_t      index = 0;
    while (log != &found->log[index]) {
        index++;
    }
    const struct mr_journal_entry *e = &redo->entry;
    union {
        const uint8_t *in;
        void          *out;
    } pun = {.in = redo->payload};
    if (e->kind == MR_JOURNAL_TRUNCATE && !redo->is_in_state) {
        found->log[index].state.end_offset = e->offset;
        found->log[index].state.end_pos = e->pos;
    }
    if (e->kind != MR_JOURNAL_APPEND && e->kind != MR_JOURNAL_CARRY && e->kind != MR_JOURNAL_IMAGE) {
        return MR_OK;
    }
    if (e->kind == MR_JOURNAL_APPEND && !redo->is_in_state) {
        found->log[index].state.end_offset = e->last_offset + 1;
        found->log[index].state.end_pos = e->pos + redo->payload_bytes;
    }
    return run(found->disk,
               (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                   .file = found->log[index].handle,
                                   .buffer = pun.out,
                                   .pos = e->pos,
                                   .len = redo->payload_bytes},
               NULL);
}

static enum mr_err found_drop(void *context, const struct mr_journal_log_name *name)
{
    (void)name;
    ((struct found *)context)->drops++;
    return MR_OK;
}

static void found_lost(void *context, void *log, int64_t from, int64_t to)
{
    struct found *found = context;
    for (uint32_t index = 0; index < found->logs; index++) {
        if (log == &found->log[index]) {
            found->log[index].is_lost = true;
            found->log[index].lost_from = from;
            found->log[index].lost_to = to;
        }
    }
}

static enum mr_err found_finish(void *context, bool is_state_lost)
{
    (void)is_state_lost;
    struct found *found = context;
    for (uint32_t index = 0; index < found->logs; index++) {
        enum mr_err err = run(found->disk,
                              (struct mr_disk_op){.kind = MR_DISK_TRUNCATE,
                                                  .file = found->log[index].handle,
                                                  .pos = (uint64_t)found->log[index].state.end_pos},
                              NULL);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

static bool found_store(void *context, void *log, struct mr_journal_state_out *out)
{
    struct found *found = context;
    for (uint32_t index = 0; index < found->logs; index++) {
        if (log == &found->log[index] && !found->log[index].is_lost) {
            mr_journal_state_put(out, &found->log[index].state);
            return true;
        }
    }
    return false;
}

/* No log of these tests has a directory. */
static enum mr_err found_each(void *context, void (*found)(void *replay, const struct mr_journal_log_name *name),
                              void *replay)
{
    (void)context;
    (void)found;
    (void)replay;
    return MR_OK;
}

static const struct mr_journal_recover_ops recover_ops = {
    .each = found_each,
    .open = found_open,
    .redo = found_redo,
    .drop = found_drop,
    .lost = found_lost,
    .finish = found_finish,
    .store = found_store,
};

static enum mr_err recover(struct mr_sim_fs *fs, struct found *found, bool is_discarding,
                           struct mr_journal_recover_result *result)
{
    struct mr_arena arena;
    mr_arena_init(&arena, scratch_of_test, scratch_bytes);
    memset(found, 0, sizeof *found);
    found->fs = fs;
    found->disk = mr_sim_disk_create(fs);
    struct mr_journal_recover_params params = {.disk = found->disk,
                                               .log_dir = "/data",
                                               .ops = &recover_ops,
                                               .context = found,
                                               .scratch = &arena,
                                               .logs_max = 16,
                                               .seed = 5};
    enum mr_err                      err = run(found->disk,
                                               (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                                                   .flags = MR_DISK_DIRECTORY,
                                                                   .dir = MR_DISK_ROOT,
                                                                   .name = "/data"},
                                               &found->root);
    if (err == MR_OK) {
        err = is_discarding ? mr_journal_discard(&params, result) : mr_journal_recover(&params, result);
    }
    mr_sim_disk_destroy(found->disk);
    return err;
}

/* A formatted directory. */
static struct mr_sim_fs *fresh_fs(void)
{
    struct mr_sim_fs *fs = mr_sim_fs_create(11);
    mr_sim_fs_put(fs, "/data/meta.properties", meta, sizeof meta - 1);
    return fs;
}

/* Start service on it; false when power went meanwhile. */
static bool rig_start(struct rig *rig, struct mr_sim_fs *fs)
{
    memset(rig, 0, sizeof *rig);
    rig->fs = fs;
    rig->now.mono_ns = 1000;
    struct found                     found;
    struct mr_journal_recover_result result;
    enum mr_err                      err = recover(fs, &found, true, &result);
    rig->disk = mr_sim_disk_create(fs);
    if (err == MR_OK) {
        err = mr_guard_open(&rig->guard, rig->disk, "/data", true);
    }
    if (err == MR_OK) {
        err = mr_guard_set(&rig->guard);
    }
    mr_arena_init(&rig->arena, memory_of_test, mr_journal_bytes() + (1 << 20));
    struct mr_journal_params params = {.disk = rig->disk,
                                       .ops = &ops,
                                       .context = rig,
                                       .log_dir = "/data",
                                       .file_bytes = FILE_BYTES,
                                       .files_max = 4,
                                       .seed = 9};
    rig->journal = mr_journal_init(&rig->arena, &params);
    if (err == MR_OK) {
        err = mr_journal_open(rig->journal);
    }
    for (uint32_t index = 0; err == MR_OK && index < LOGS; index++) {
        struct shadow *log = &rig->logs[index];
        mr_fmt(log->dir, sizeof log->dir, "t-%u", index);
        uintptr_t images = (uintptr_t)memory_of_test + mr_journal_bytes() + (1 << 20);
        log->bytes = memory_of_test + ((images + RUN - 1) / RUN * RUN - (uintptr_t)memory_of_test) +
                     (size_t)index * IMAGE;
        log->jlog = (struct mr_journal_log){.log_id = mr_journal_draw_log_id(rig->journal),
                                            .topic_id = {{(uint8_t)(index + 1)}},
                                            .partition = (int32_t)index,
                                            .dir_name = mr_str(log->dir)};
        char path[64];
        mr_fmt(path, sizeof path, "/data/%s", log->dir);
        err = run(rig->disk,
                  (struct mr_disk_op){.kind = MR_DISK_MKDIR, .dir = MR_DISK_ROOT, .name = path}, NULL);
        mr_fmt(path, sizeof path, "/data/%s/0.log", log->dir);
        if (err == MR_OK) {
            err = run(rig->disk,
                      (struct mr_disk_op){
                          .kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = MR_DISK_ROOT, .name = path},
                      &log->handle);
        }
        if (err == MR_OK) {
            mr_journal_log_init(rig->journal, &log->jlog);
        }
    }
    return err == MR_OK;
}

/* Reap, turn, note what is acknowledged. */
static void rig_turn(struct rig *rig)
{
    struct mr_disk_op *done[16];
    mr_sim_fs_set_clock(rig->fs, rig->now.mono_ns);
    uint32_t           count = mr_disk_reap(rig->disk, done, 16);
    for (uint32_t index = 0; index < count; index++) {
        mr_journal_done(rig->journal, done[index]);
    }
    rig->now.mono_ns += 3 * MR_NS_PER_MS;
    for (uint32_t index = 0; index < LOGS; index++) {
        struct shadow *log = &rig->logs[index];
        while (log->acked < log->end_offset &&
               log->seqs[log->acked] <= mr_journal_durable_seq(rig->journal)) {
            log->acked++;
        }
    }
    mr_journal_turn(rig->journal, rig->now);
}

static void settle(struct rig *rig)
{
    for (int turn = 0; turn < 4; turn++) {
        rig_turn(rig);
    }
}

/* Write whole blocks of every log to its segment and carry the tails. False: not now. */
static bool demux(struct rig *rig)
{
    for (uint32_t index = 0; index < LOGS; index++) {
        struct shadow *log = &rig->logs[index];
        uint32_t       end = log->end_pos & ~4095u;
        if (end > log->written_pos) {
            struct mr_disk_op  write = {.kind = MR_DISK_WRITE,
                                        .file = log->handle,
                                        .buffer = log->bytes + log->written_pos,
                                        .pos = log->written_pos,
                                        .len = end - log->written_pos};
            struct mr_disk_op *done = NULL;
            mr_disk_submit(rig->disk, &write);
            while (done != &write) {
                if (mr_disk_reap(rig->disk, &done, 1) == 0) {
                    rig->disk->ops->wait(rig->disk);
                } else if (done != &write) {
                    mr_journal_done(rig->journal, done);
                }
            }
            if (write.err != MR_OK) {
                mr_journal_fail(rig->journal, write.err, 5, "segment");
                return false;
            }
            log->written_pos = end;
        }
        struct mr_journal_entry   carry = {.kind = MR_JOURNAL_CARRY, .pos = end};
        struct mr_journal_payload tail = {.prefix = log->bytes + end,
                                          .prefix_bytes = log->end_pos - end,
                                          .bytes = UINT32_MAX};
        if (log->end_pos > end &&
            mr_journal_add(rig->journal, &log->jlog, &carry, &tail, NULL) != MR_OK) {
            return false;
        }
    }
    return true;
}

static void recycle(struct rig *rig)
{
    struct mr_journal_pressure pressure;
    mr_journal_pressure(rig->journal, &pressure);
    if (pressure.oldest_end_seq != 0 && !pressure.is_recycling && !rig->is_offline &&
        mr_journal_durable_seq(rig->journal) >= pressure.oldest_end_seq && demux(rig)) {
        mr_journal_drained(rig->journal, pressure.oldest_end_seq);
    }
}

/* Where the next bytes of the log will lie: nothing is there yet. */
static uint32_t lend(struct rig *rig, struct shadow *log, uint32_t bytes, struct mr_journal_lent *out)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < bytes; count++) {
        uint32_t room = RUN - (log->end_pos + at) % RUN;
        uint32_t len = bytes - at < room ? bytes - at : room;
        out[count] = (struct mr_journal_lent){.data = log->bytes + log->end_pos + at, .len = len, .owner = rig};
        at += len;
    }
    return count;
}

static bool append(struct rig *rig, uint32_t index, uint32_t bytes)
{
    static uint8_t batch[BATCH_MAX];
    struct shadow *log = &rig->logs[index];
    for (uint32_t at = 0; at < bytes; at++) {
        batch[at] = byte_at(index, log->end_offset, at);
    }
    const struct mr_span      spans[2] = {{.data = batch, .len = bytes / 3},
                                          {.data = batch + bytes / 3, .len = bytes - bytes / 3}};
    const struct mr_chain     chain = {.spans = spans, .span_count = 2, .bytes = bytes};
    struct mr_journal_lent    lent[BATCH_MAX / RUN + 2];
    struct mr_journal_payload payload = {.prefix = batch,
                                         .prefix_bytes = bytes < 61 ? bytes : 61,
                                         .chain = &chain,
                                         .bytes = UINT32_MAX,
                                         .lent = lent};
    if (bytes >= MR_JOURNAL_LEND_MIN && bytes % 3 != 0) {
        payload.lent_count = lend(rig, log, bytes, lent);
    }
    if (bytes >= MR_JOURNAL_LEND_MIN && bytes % 2 == 0) {
        payload.checked_bytes = bytes - 21;
        payload.checked_crc = mr_crc32c(0, batch + 21, bytes - 21);
    }
    struct mr_journal_entry   entry = {.kind = MR_JOURNAL_APPEND,
                                       .offset = log->end_offset,
                                       .last_offset = log->end_offset,
                                       .pos = log->end_pos,
                                       .flags = bytes % 5 == 0 ? MR_JOURNAL_EARLY : 0};
    bool        has_room = mr_journal_has_room(rig->journal, &log->jlog, bytes);
    enum mr_err err = mr_journal_add(rig->journal, &log->jlog, &entry, &payload,
                                     &log->seqs[log->end_offset]);
    assert_int_equal(err == MR_OK, has_room);
    if (err != MR_OK) {
        return false;
    }
    memcpy(log->bytes + log->end_pos, batch, bytes);
    memset(batch, 0x5a, bytes); /* nobody reads it any more */
    log->end_pos += bytes;
    log->ends[log->end_offset++] = log->end_pos;
    return true;
}

/* The workload, until it is done or power is lost. */
static void work(struct rig *rig)
{
    struct mr_prng prng = {.state = 3};
    uint32_t       done = 0;
    for (uint32_t turn = 0; turn < 3000 && !rig->is_offline; turn++) {
        uint32_t wanted = (uint32_t)mr_prng_below(&prng, 5);
        while (wanted-- > 0 && done < APPENDS) {
            uint64_t bytes = mr_prng_below(&prng, 4) == 0 ? BATCH_MAX : 700;
            if (!append(rig, (uint32_t)mr_prng_below(&prng, LOGS), 1 + (uint32_t)mr_prng_below(&prng, bytes))) {
                break;
            }
            done++;
        }
        rig_turn(rig);
        recycle(rig);
        if (done == APPENDS && turn > 400) {
            break;
        }
    }
}

static void rig_stop(struct rig *rig)
{
    mr_sim_disk_destroy(rig->disk);
}

/* The image after a cut holds a prefix of each log with everything acknowledged in it. */
static void check(const struct rig *rig, struct mr_sim_fs *fs, const struct found *found)
{
    static uint8_t got[IMAGE];
    for (uint32_t index = 0; index < LOGS; index++) {
        const struct shadow *log = &rig->logs[index];
        uint32_t             at = 0;
        while (at < found->logs && strcmp(found->log[at].dir, log->dir) != 0) {
            at++;
        }
        if (at == found->logs) {
            assert_int_equal(log->acked, 0);
            continue;
        }
        assert_false(found->log[at].is_lost);
        int64_t end = found->log[at].state.end_offset;
        assert_true(end >= log->acked);
        assert_true(end <= log->end_offset);
        uint32_t end_pos = end > 0 ? log->ends[end - 1] : 0;
        assert_int_equal(found->log[at].state.end_pos, end_pos);
        char path[64];
        mr_fmt(path, sizeof path, "/data/%s/0.log", log->dir);
        assert_int_equal(mr_sim_fs_get(fs, path, got, sizeof got), end_pos);
        assert_memory_equal(got, log->bytes, end_pos);
    }
}

static void need_memory(void)
{
    if (memory_of_test == NULL) {
        memory_of_test = mr_test_memory(mr_journal_bytes() + (1 << 20) + RUN + LOGS * (size_t)IMAGE);
        scratch_bytes = mr_journal_recover_bytes(16) + (1 << 20);
        scratch_of_test = mr_test_memory(scratch_bytes);
    }
}

static void test_journal_workload_recycles_and_recovers_everything(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    work(&rig);
    struct mr_journal_stats stats;
    mr_journal_stats(rig.journal, &stats);
    assert_true(stats.recycled_files >= 2);
    assert_true(stats.commits > 50);
    assert_true(rig.kept_ever > 20 && rig.kept == 0);
    int64_t total = 0;
    for (uint32_t index = 0; index < LOGS; index++) {
        total += rig.logs[index].acked;
    }
    assert_int_equal(total, APPENDS);
    rig_stop(&rig);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    struct found                     found;
    struct mr_journal_recover_result result;
    assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
    check(&rig, rig.fs, &found);
    assert_int_equal(result.lost_logs, 0);
    /* Again: the rings are empty now, the base says the same. */
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
    assert_int_equal(result.entries, 0);
    check(&rig, rig.fs, &found);
    mr_sim_fs_destroy(rig.fs);
}

/* Cut at operation n of the workload, recover under every kind of cut; and cut the recovery too. */
static void crash_at(uint64_t n, uint64_t *ops_all)
{
    struct rig        rig;
    struct mr_sim_fs *fs = fresh_fs();
    mr_sim_fs_die_at(fs, n);
    if (rig_start(&rig, fs)) {
        rig.now.mono_ns = mr_sim_fs_clock(fs) + 1000;
        if (n % 2 == 1) {
            mr_sim_fs_latency(fs, 0, 60 * MR_NS_PER_MS, true); /* in any order, over several turns */
        }
        work(&rig);
    }
    if (ops_all != NULL) {
        *ops_all = mr_sim_fs_op_count(fs);
    }
    rig_stop(&rig);
    for (int cut = 0; cut < MR_SIM_CUT_COUNT; cut++) {
        struct mr_sim_fs *image = mr_sim_fs_clone(fs);
        mr_sim_fs_latency(image, 0, 0, false);
        mr_sim_fs_power_cut(image, (enum mr_sim_cut)cut, n);
        struct mr_disk *disk = mr_sim_disk_create(image);
        struct mr_guard guard;
        enum mr_err     err = mr_guard_open(&guard, disk, "/data", false);
        assert_int_equal(err, MR_OK);
        bool is_guarded = guard.is_guarded;
        mr_sim_disk_destroy(disk);
        struct found                     found = {0};
        struct mr_journal_recover_result result;
        if (is_guarded) {
            /* First a recovery that is itself cut short, somewhere. */
            struct mr_prng prng = {.state = n * 8 + (uint64_t)cut};
            for (int again = 0; again < 2; again++) {
                uint64_t ops_before = mr_sim_fs_op_count(image);
                mr_sim_fs_die_at(image, ops_before + mr_prng_below(&prng, 60));
                (void)recover(image, &found, false, &result);
                mr_sim_fs_power_cut(image, (enum mr_sim_cut)mr_prng_below(&prng, MR_SIM_CUT_COUNT), n);
            }
            err = recover(image, &found, false, &result);
            if (err != MR_OK) {
                fprintf(stderr, "n=%llu cut=%d: %s\n", (unsigned long long)n, cut, result.why);
            }
            assert_int_equal(err, MR_OK);
        }
        check(&rig, image, &found);
        mr_sim_fs_destroy(image);
    }
    mr_sim_fs_destroy(fs);
}

static void test_journal_power_cut_at_any_operation_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    need_memory();
    uint64_t ops_all;
    uint64_t ops_shuffled;
    crash_at(UINT64_MAX, &ops_shuffled);
    crash_at(UINT64_MAX - 1, &ops_all);
    assert_true(ops_all > 200 && ops_shuffled > 100);
    ops_all = ops_shuffled > ops_all ? ops_shuffled : ops_all;
    const char *every = getenv("MR_TEST_CRASH_STEP");
    uint64_t    step = every != NULL ? (uint64_t)atoi(every) : 17;
    for (uint64_t n = 0; n < ops_all; n += step) {
        crash_at(n, NULL);
    }
}

static void test_journal_write_fails_directory_goes_offline_once_and_nothing_is_durable_after(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    assert_true(append(&rig, 0, 100));
    settle(&rig);
    assert_int_equal(rig.logs[0].acked, 1);
    struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO, .name_part = "journal-0-0"};
    mr_sim_fs_fail(rig.fs, &fault);
    assert_true(append(&rig, 0, 101));
    rig_turn(&rig);
    for (int turn = 0; turn < 20; turn++) {
        rig_turn(&rig);
    }
    assert_int_equal(rig.offline_calls, 1);
    assert_true(mr_journal_is_offline(rig.journal));
    assert_int_equal(rig.logs[0].acked, 1);
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_DROP};
    assert_int_equal(mr_journal_add(rig.journal, &rig.logs[0].jlog, &entry, NULL, NULL),
                     MR_ERR_DIR_OFFLINE);
    rig_stop(&rig);
    mr_sim_fs_destroy(rig.fs);
}

static void test_journal_covering_commit_follows_within_a_second_and_then_silence(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    assert_true(append(&rig, 1, 100));
    uint64_t begun = rig.now.mono_ns;
    struct mr_journal_stats stats = {0};
    while (stats.commits < 2 && rig.now.mono_ns < begun + 2 * MR_NS_PER_S) {
        rig_turn(&rig);
        mr_journal_stats(rig.journal, &stats);
    }
    assert_int_equal(stats.commits, 2);
    assert_true(rig.now.mono_ns - begun <= MR_NS_PER_S);
    for (int turn = 0; turn < 2000; turn++) {
        rig_turn(&rig);
    }
    mr_journal_stats(rig.journal, &stats);
    assert_int_equal(stats.commits, 2);
    assert_int_equal(stats.files, 2); /* one ready ahead */
    assert_true(mr_journal_deadline_ns(rig.journal) == MR_NEVER);
    rig_stop(&rig);
    mr_sim_fs_destroy(rig.fs);
}

static void test_journal_ring_full_keeps_a_reserve_for_carried_tails(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    uint32_t refused = 0;
    for (uint32_t turn = 0; turn < 1000 && refused < 100; turn++) {
        refused = append(&rig, 0, 50000) ? 0 : refused + 1;
        rig_turn(&rig); /* nobody drains */
    }
    assert_true(refused >= 100);
    struct mr_journal_pressure pressure;
    mr_journal_pressure(rig.journal, &pressure);
    assert_true(pressure.is_starved);
    assert_int_equal(pressure.ring_bytes, 4 * FILE_BYTES);
    struct mr_journal_entry   carry = {.kind = MR_JOURNAL_CARRY};
    struct mr_journal_payload tail = {.prefix = rig.logs[0].bytes, .prefix_bytes = 4095, .bytes = UINT32_MAX};
    for (int count = 0; count < 40; count++) {
        assert_int_equal(mr_journal_add(rig.journal, &rig.logs[0].jlog, &carry, &tail, NULL), MR_OK);
    }
    for (int turn = 0; turn < 300; turn++) {
        rig_turn(&rig);
        recycle(&rig);
    }
    assert_true(append(&rig, 0, 50000));
    rig_stop(&rig);
    mr_sim_fs_destroy(rig.fs);
}

static void test_journal_disk_full_while_growing_is_not_a_failure(void **state)
{
    (void)state;
    need_memory();
    struct rig        rig;
    struct mr_sim_fs *fs = fresh_fs();
    mr_sim_fs_capacity(fs, 2 * FILE_BYTES - 65536);
    assert_true(rig_start(&rig, fs));
    for (int turn = 0; turn < 200; turn++) {
        rig_turn(&rig);
    }
    assert_true(mr_journal_is_full(rig.journal));
    assert_false(mr_journal_is_offline(rig.journal));
    mr_sim_fs_capacity(fs, 0);
    for (int turn = 0; turn < 800; turn++) {
        rig_turn(&rig);
    }
    assert_false(mr_journal_is_full(rig.journal));
    rig_stop(&rig);
    mr_sim_fs_destroy(fs);
}

/* Where the n-th commit of file 0 begins. */
static uint64_t commit_pos(struct mr_sim_fs *fs, uint32_t n)
{
    static uint8_t file[FILE_BYTES];
    mr_sim_fs_get(fs, "/data/millrace-journal-0-0", file, sizeof file);
    uint64_t pos = MR_JOURNAL_BLOCK;
    while (n-- > 0) {
        pos += mr_commit_padded(mr_load_le32(file + pos + 68));
    }
    return pos;
}

static void test_journal_rot_in_the_middle_takes_one_log_offline_with_the_exact_range(void **state)
{
    (void)state;
    need_memory();
    for (int kind = 0; kind < 3; kind++) {
        struct rig rig;
        assert_true(rig_start(&rig, fresh_fs()));
        for (uint32_t count = 0; count < 6; count++) {
            assert_true(append(&rig, 0, 1000));
            assert_true(append(&rig, 1, 1000));
            settle(&rig);
        }
        rig_stop(&rig);
        mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
        uint64_t pos = commit_pos(rig.fs, 2);
        /* the first entry's payload; its head; the commit's head */
        uint64_t at = kind == 0 ? pos + 96 + 64 + 500 : kind == 1 ? pos + 96 + 9 : pos + 42;
        mr_sim_fs_rot(rig.fs, "/data/millrace-journal-0-0", at, 1, 0x10);
        struct found                     found;
        struct mr_journal_recover_result result;
        assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
        assert_int_equal(found.logs, 2);
        bool is_entry_hurt = kind != 2; /* a damaged commit head hides nothing: the entries are whole */
        assert_int_equal(found.log[0].is_lost, is_entry_hurt);
        if (is_entry_hurt) {
            assert_int_equal(found.log[0].lost_from, 2);
            assert_int_equal(found.log[0].lost_to, 3);
            assert_int_equal(found.log[0].state.end_offset, 2);
        }
        assert_false(found.log[1].is_lost);
        assert_int_equal(found.log[1].state.end_offset, 6);
        /* And it is not forgotten at the next start. The base has no state of it from before: but its mark. */
        mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
        assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
        assert_int_equal(result.lost_logs, is_entry_hurt ? 1 : 0);
        mr_sim_fs_destroy(rig.fs);
    }
}

static void test_journal_damaged_last_commit_is_a_torn_tail(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    for (uint32_t count = 0; count < 3; count++) {
        assert_true(append(&rig, 0, 1000));
        settle(&rig);
    }
    rig_stop(&rig);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    mr_sim_fs_rot(rig.fs, "/data/millrace-journal-0-0", commit_pos(rig.fs, 2) + 300, 1, 1);
    struct found                     found;
    struct mr_journal_recover_result result;
    assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
    assert_false(found.log[0].is_lost);
    assert_int_equal(found.log[0].state.end_offset, 2);
    mr_sim_fs_destroy(rig.fs);
}

static void test_journal_files_gone_although_a_slot_says_otherwise_is_an_error(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    work(&rig);
    rig_stop(&rig);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    for (uint32_t index = 0; index < 4; index++) {
        char path[64];
        mr_fmt(path, sizeof path, "/data/millrace-journal-0-%u", index);
        if (mr_sim_fs_get(rig.fs, path, NULL, 0) == FILE_BYTES) {
            static uint8_t zeros[FILE_BYTES];
            mr_sim_fs_put(rig.fs, path, zeros, sizeof zeros);
        }
    }
    struct found                     found;
    struct mr_journal_recover_result result;
    assert_int_equal(recover(rig.fs, &found, false, &result), MR_ERR_CORRUPT);
    assert_true(strstr(result.why, "no chain") != NULL);
    mr_sim_fs_destroy(rig.fs);
}

static enum mr_err add_op(struct rig *rig, uint32_t log, struct mr_journal_entry entry, const char *text)
{
    union {
        const char    *in;
        const uint8_t *out;
    } pun = {.in = text};
    struct mr_journal_payload payload = {
        .prefix = pun.out, .prefix_bytes = text != NULL ? (uint32_t)strlen(text) : 0, .bytes = UINT32_MAX};
    return mr_journal_add(rig->journal, &rig->logs[log].jlog, &entry, &payload, NULL);
}

static void test_journal_fold_truncations_resets_drops_and_unfinished_parts(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    char       got[64] = {0};
    assert_true(rig_start(&rig, fresh_fs()));
    struct mr_journal_entry a = {.kind = MR_JOURNAL_APPEND, .offset = 0, .last_offset = 0};
    assert_int_equal(add_op(&rig, 0, a, "AAAA"), MR_OK);
    a = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND, .offset = 1, .last_offset = 1, .pos = 4};
    assert_int_equal(add_op(&rig, 0, a, "dead"), MR_OK);
    settle(&rig);
    struct mr_journal_entry cut = {.kind = MR_JOURNAL_TRUNCATE, .offset = 1, .pos = 4};
    assert_int_equal(add_op(&rig, 0, cut, NULL), MR_OK);
    a = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND, .offset = 1, .last_offset = 1, .pos = 4};
    assert_int_equal(add_op(&rig, 0, a, "BB"), MR_OK);
    /* A batch of which only the first part came. */
    a = (struct mr_journal_entry){
        .kind = MR_JOURNAL_APPEND, .offset = 2, .last_offset = 2, .pos = 6, .batch_bytes = 100};
    assert_int_equal(add_op(&rig, 0, a, "part"), MR_OK);
    /* A batch in two parts, whole. */
    a = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND, .batch_bytes = 4};
    assert_int_equal(add_op(&rig, 1, a, "12"), MR_OK);
    settle(&rig);
    a = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND, .batch_bytes = 4, .part_at = 2, .pos = 2};
    assert_int_equal(add_op(&rig, 1, a, "34"), MR_OK);
    a = (struct mr_journal_entry){.kind = MR_JOURNAL_APPEND};
    assert_int_equal(add_op(&rig, 2, a, "gone"), MR_OK);
    assert_int_equal(add_op(&rig, 2, (struct mr_journal_entry){.kind = MR_JOURNAL_DROP}, NULL), MR_OK);
    settle(&rig);
    rig_stop(&rig);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    struct found                     found;
    struct mr_journal_recover_result result;
    assert_int_equal(recover(rig.fs, &found, false, &result), MR_OK);
    assert_int_equal(found.drops, 1);
    assert_int_equal(found.logs, 2);
    assert_int_equal(mr_sim_fs_get(rig.fs, "/data/t-0/0.log", got, sizeof got), 6);
    assert_string_equal(got, "AAAABB");
    memset(got, 0, sizeof got);
    assert_int_equal(mr_sim_fs_get(rig.fs, "/data/t-1/0.log", got, sizeof got), 4);
    assert_string_equal(got, "1234");
    mr_sim_fs_destroy(rig.fs);
}

static void test_journal_open_unguarded_directory_is_refused(void **state)
{
    (void)state;
    need_memory();
    struct rig rig;
    assert_true(rig_start(&rig, fresh_fs()));
    assert_int_equal(mr_journal_close(rig.journal), MR_OK);
    assert_int_equal(mr_guard_remove(&rig.guard), MR_OK);
    mr_arena_reset(&rig.arena);
    struct mr_journal_params params = {
        .disk = rig.disk, .ops = &ops, .log_dir = "/data", .file_bytes = FILE_BYTES, .files_max = 2};
    rig.journal = mr_journal_init(&rig.arena, &params);
    assert_int_equal(mr_journal_open(rig.journal), MR_ERR_INVALID);
    rig_stop(&rig);
    mr_sim_fs_destroy(rig.fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal_workload_recycles_and_recovers_everything),
        cmocka_unit_test(test_journal_write_fails_directory_goes_offline_once_and_nothing_is_durable_after),
        cmocka_unit_test(test_journal_covering_commit_follows_within_a_second_and_then_silence),
        cmocka_unit_test(test_journal_ring_full_keeps_a_reserve_for_carried_tails),
        cmocka_unit_test(test_journal_disk_full_while_growing_is_not_a_failure),
        cmocka_unit_test(test_journal_rot_in_the_middle_takes_one_log_offline_with_the_exact_range),
        cmocka_unit_test(test_journal_damaged_last_commit_is_a_torn_tail),
        cmocka_unit_test(test_journal_files_gone_although_a_slot_says_otherwise_is_an_error),
        cmocka_unit_test(test_journal_fold_truncations_resets_drops_and_unfinished_parts),
        cmocka_unit_test(test_journal_open_unguarded_directory_is_refused),
        cmocka_unit_test(test_journal_power_cut_at_any_operation_keeps_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
