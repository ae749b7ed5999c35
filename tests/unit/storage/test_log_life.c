/*
 * a log's files over start, recovery and stop: storage cores on the simulated disk; files are damaged, removed and
 * made up between two lives of the broker.
 */
#include "storage_rig.h"
#include "test.h"

#include "storage_core.h"

#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"

#define IMAGE (4u << 20)

static uint8_t image[IMAGE];

static const struct rig_batch small = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = -1};

static int64_t size_of(const struct storage_rig *rig, const char *path)
{
    return mr_sim_fs_get(rig->fs, path, image, IMAGE);
}

/* ---- DeleteRecords ---- */

static void test_log_start_inside_a_segment_survives_a_clean_stop(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 20, 1000);
    assert_int_equal(rig_delete_records(rig, &log, 17), MR_OK);
    assert_int_equal(rig_stop(rig), MR_OK);

    for (uint32_t life = 0; life < 3; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        assert_int_equal(log.start, 17);
        assert_int_equal(log.end, 40);
        if (life == 1) {
            rig_kill(rig); /* untouched: its files and the checkpoint still tell the truth */
        } else {
            assert_int_equal(rig_stop(rig), MR_OK);
        }
    }
}

/* A stop may come before the start has opened everything. */
static void test_log_starts_survive_a_stop_before_anything_is_opened(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    struct rig_log      dropped;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(rig_open(rig, "gone", 0, &dropped), MR_OK);
    rig_fill(rig, &log, 20, 1000);
    rig_fill(rig, &dropped, 20, 1000);
    assert_int_equal(rig_delete_records(rig, &log, 17), MR_OK);
    assert_int_equal(rig_delete_records(rig, &dropped, 17), MR_OK);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "gone", 0, &dropped), MR_OK);
    struct mr_drop_op drop = {.op.kind = MR_STORAGE_DROP, .log_id = dropped.log_id};
    rig_send(rig, dropped.core, &drop.op);
    rig_wait(rig, &drop.op);
    assert_int_equal(rig_stop(rig), MR_OK);

    /* What was dropped has no line: it would be the next log's of that name. */
    static const char text[] = "0\n1\nt 0 17\n";
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/log-start-offset-checkpoint"), sizeof text - 1);
    assert_memory_equal(image, text, sizeof text - 1);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.start, 17);
    assert_int_equal(log.end, 40);
}

static void test_checkpointed_start_beyond_the_end_is_of_an_older_log(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    static const char   text[] = "0\n1\nt 0 100\n";
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 4, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/log-start-offset-checkpoint", text, sizeof text - 1);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.start, 0);
    assert_int_equal(log.end, 8);
}

/* ---- The end of a log without a state ---- */

/* Whole blocks of the segment are written behind the journal; then they rot, as a torn write leaves them. */
static void test_log_without_a_state_ends_where_its_files_were_complete(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 3, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t before = size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000000.log");

    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 2, 2000);
    rig_kill(rig);
    /* Framing that fits behind the old end, content that nobody wrote: the journal has the truth. */
    struct rig_batch forged = {.records = 9, .bytes = 700, .timestamp = 5000, .producer_id = -1};
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000000.log") >= before);
    uint32_t len = rig_batch_bytes(&forged, 6, image + before, IMAGE / 2);
    image[before + 100] ^= 0xff;
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/t-0/00000000000000000000.log", image, (size_t)before + len);

    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 10);
    assert_int_equal(rig_read(rig, &log, 6), 6);
    assert_int_equal(rig_read(rig, &log, 9), 8);
    assert_int_equal(rig_stop(rig), MR_OK);
}

/* ---- Directories that nobody closed ---- */

static void put_segment(struct storage_rig *rig, const char *dir, int64_t base, uint32_t batches, uint32_t zeros)
{
    char             path[200];
    uint32_t         len = 0;
    struct rig_batch batch = small;
    for (uint32_t index = 0; index < batches; index++) {
        batch.timestamp = 1000 + base + 2 * index;
        batch.producer_id = 77;
        batch.sequence = (int32_t)(base + 2 * index);
        len += rig_batch_bytes(&batch, base + 2 * index, image + len, IMAGE - len);
    }
    memset(image + len, 0, zeros);
    mr_fmt(path, sizeof path, RIG_LOG_DIR "/%s/%020lld.log", dir, (long long)base);
    mr_sim_fs_put(rig->fs, path, image, len + zeros);
}

static void test_unclean_directory_is_read_from_the_recovery_point(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    static const char   points[] = "0\n1\nk 0 40\n";
    put_segment(rig, "k-0", 0, 20, 0);
    put_segment(rig, "k-0", 40, 20, 10000); /* zeros behind the last batch: preallocated */
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/recovery-point-offset-checkpoint", points, sizeof points - 1);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000040.index", "garbage!", 8);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000000.log.deleted", "x", 1);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000400.snapshot", "x", 1);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/gone-0.0123456789abcdef-delete/00000000000000000000.log", "x", 1);

    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig->recovered.log_count, 1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000000.log.deleted"), -1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000400.snapshot"), -1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/gone-0.0123456789abcdef-delete/00000000000000000000.log"), -1);
    int64_t index_bytes = size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000040.index");
    assert_true(index_bytes >= 8 && index_bytes % 8 == 0);
    assert_int_equal(mr_load_be32(image) > 0 && mr_load_be32(image) < 40, true);
    assert_int_equal(rig_open(rig, "k", 0, &log), MR_OK);
    assert_int_equal(log.end, 80);
    assert_int_equal(rig_read(rig, &log, 79), 78);
    assert_int_equal(rig_read(rig, &log, 41), 40);
    /* Its producer is known again: a retry of its last batch is a duplicate. */
    struct mr_append_entry entry;
    struct rig_batch retry = {.records = 2, .bytes = 500, .timestamp = 1000, .producer_id = 77, .sequence = 78};
    assert_int_equal(rig_try_append(rig, &log, &retry, &entry), MR_OK);
    assert_true(entry.is_duplicate);
    assert_int_equal(entry.base_offset, 78);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t size = size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000040.log");
    assert_true(size > 0 && image[size - 2] != 0 && mr_load_be64(image) == 40);
}

static void test_unclean_directory_is_cut_at_the_first_bad_batch(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    put_segment(rig, "k-0", 0, 20, 0);
    put_segment(rig, "k-0", 40, 20, 0);
    put_segment(rig, "k-0", 80, 20, 0);
    int64_t size = size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000040.log");
    mr_sim_fs_rot(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000040.log", (uint64_t)size / 2 + 200, 1, 0x40);

    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "k", 0, &log), MR_OK);
    assert_int_equal(log.end, 60);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000080.log"), -1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000040.log"), size / 2);
    assert_int_equal(rig_append(rig, &log, &small), 60);
    assert_int_equal(rig_read(rig, &log, 59), 58);
}

static void test_segments_below_the_recovery_point_are_believed(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    static const char   points[] = "0\n1\nk 0 40\n";
    put_segment(rig, "k-0", 0, 20, 0);
    put_segment(rig, "k-0", 40, 20, 0);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000000.index", "", 0);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000040.snapshot", "x", 1);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/recovery-point-offset-checkpoint", points, sizeof points - 1);
    mr_sim_fs_rot(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000000.log", 300, 1, 0x40);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "k", 0, &log), MR_OK);
    assert_int_equal(log.end, 80);
}

static void test_interrupted_swap_takes_its_place(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    put_segment(rig, "k-0", 0, 30, 0); /* what a compaction made of 0 and 40: it ends at 60 */
    int64_t swap_bytes = size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000000.log");
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000000.log.swap", image, (size_t)swap_bytes);
    put_segment(rig, "k-0", 0, 20, 0);
    put_segment(rig, "k-0", 40, 10, 0);
    put_segment(rig, "k-0", 60, 10, 0);
    mr_sim_fs_put(rig->fs, RIG_LOG_DIR "/k-0/00000000000000000060.log.cleaned", "x", 1);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000000.log"), swap_bytes);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000000.log.swap"), -1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000040.log"), -1);
    assert_int_equal(size_of(rig, RIG_LOG_DIR "/k-0/00000000000000000060.log.cleaned"), -1);
    assert_int_equal(rig_open(rig, "k", 0, &log), MR_OK);
    assert_int_equal(log.end, 80);
}

/* ---- More than one core ---- */

static void test_two_cores_share_a_directory_over_crash_and_stop(void **state)
{
    static const uint32_t counts[] = {2, 1, 3, 2};
    struct storage_rig   *rig = *state;
    int64_t               ends[8] = {0};
    for (uint32_t life = 0; life < 8; life++) {
        rig->core_count = counts[life % 4];
        assert_int_equal(rig_start(rig), MR_OK);
        for (int32_t partition = 0; partition < 8; partition++) {
            struct rig_log log;
            assert_int_equal(rig_open(rig, "t", partition, &log), MR_OK);
            assert_int_equal(log.is_created, life == 0);
            assert_int_equal(log.end, ends[partition]);
            struct rig_batch batch = small;
            batch.producer_id = 9;
            batch.sequence = (int32_t)ends[partition];
            struct mr_append_entry entry;
            if (ends[partition] > 0) { /* what the producer sent last before the broker went away */
                batch.sequence -= 2;
                assert_int_equal(rig_try_append(rig, &log, &batch, &entry), MR_OK);
                assert_true(entry.is_duplicate);
                batch.sequence += 2;
            }
            for (int32_t index = 0; index < 40 + partition; index++, batch.sequence += 2) {
                assert_int_equal(rig_append(rig, &log, &batch), ends[partition]);
                ends[partition] += 2;
            }
            assert_int_equal(rig_read(rig, &log, ends[partition] - 1), ends[partition] - 2);
            assert_int_equal(rig_read(rig, &log, 1), 0);
        }
        if (life == 3 || life == 6) {
            assert_int_equal(rig_stop(rig), MR_OK);
            int64_t len = size_of(rig, RIG_LOG_DIR "/recovery-point-offset-checkpoint");
            assert_memory_equal(image, "0\n8\nt ", 6);
            assert_true(len > 30);
        } else {
            rig_kill(rig);
        }
    }
}

/* A bit of the payload that begins so rots in the journal. */
static void rot_in_journal(struct storage_rig *rig, const uint8_t *bytes, uint32_t len)
{
    static const char name[] = RIG_LOG_DIR "/millrace-journal-0-0";
    static uint8_t    journal[IMAGE];
    int64_t           size = mr_sim_fs_get(rig->fs, name, journal, sizeof journal);
    const uint8_t    *at = size < (int64_t)len ? NULL : memmem(journal, (size_t)size, bytes, len);
    assert_non_null(at);
    mr_sim_fs_rot(rig->fs, name, (uint64_t)(at - journal) + len - 1, 1, 0x10);
}

/* What was redone for segments that are deleted, and for logs that lost entries, does not go to another core. */
static void test_logs_that_end_otherwise_go_to_other_cores(void **state)
{
    struct storage_rig *rig = *state;
    for (uint32_t is_rot = 0; is_rot < 2; is_rot++) {
        const char    *topic = is_rot ? "lost" : "gone";
        struct rig_log logs[8];
        rig->core_count = 1;
        assert_int_equal(rig_start(rig), MR_OK);
        for (int32_t partition = 0; partition < 8; partition++) {
            struct rig_batch last = {.records = 1, .bytes = 300, .timestamp = 5000 + partition, .producer_id = -1};
            assert_int_equal(rig_open(rig, topic, partition, &logs[partition]), MR_OK);
            rig_fill(rig, &logs[partition], is_rot ? 20 : 90, 1000);
            (void)rig_append(rig, &logs[partition], &last);
            (void)rig_append(rig, &logs[partition], &last);
            if (is_rot == 0) {
                assert_int_equal(rig_delete_records(rig, &logs[partition], 181), MR_OK);
            }
        }
        rig_kill(rig);
        for (int32_t partition = 0; is_rot && partition < 8; partition++) {
            struct rig_batch last = {.records = 1, .bytes = 300, .timestamp = 5000 + partition, .producer_id = -1};
            uint8_t          bytes[1024];
            (void)rig_batch_bytes(&last, 40, bytes, sizeof bytes);
            rot_in_journal(rig, bytes + MR_BATCH_HEADER - 34, 100); /* from its first time on */
        }
        rig->core_count = 2;
        assert_int_equal(rig_start(rig), MR_OK);
        for (int32_t partition = 0; partition < 8; partition++) {
            assert_int_equal(rig_open(rig, topic, partition, &logs[partition]), is_rot ? MR_ERR_DIR_OFFLINE : MR_OK);
            if (is_rot == 0) {
                assert_int_equal(logs[partition].start, 181);
                assert_int_equal(logs[partition].end, 182);
            }
        }
        rig_kill(rig);
    }
}

/* What nobody opens is closed too: `millrace recover` opens nothing. */
static void test_recovered_logs_that_nobody_opened_are_closed_cleanly(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 5, 1000);
    rig_kill(rig);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_stop(rig), MR_OK);
    assert_true(size_of(rig, RIG_LOG_DIR "/.kafka_cleanshutdown") > 0);
    assert_true(size_of(rig, RIG_LOG_DIR "/t-0/00000000000000000010.snapshot") > 0);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 10);
}

#define SEGMENT  RIG_LOG_DIR "/t-0/00000000000000000000.log"

/* A batch's head is spoiled after a clean stop: offsets that were given are not given again. */
static void test_log_that_lost_records_since_it_was_closed_is_refused(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 10, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t size = size_of(rig, SEGMENT);
    mr_sim_fs_rot(rig->fs, SEGMENT, (uint64_t)size / 10 * 9 + 16, 1, 0xff); /* the magic of the last batch */
    for (uint32_t life = 0; life < 2; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_ERR_CORRUPT);
        assert_int_equal(rig_stop(rig), MR_OK);
        assert_int_equal(size_of(rig, SEGMENT), size);
    }
    for (uint32_t life = 0; life < 2; life++) { /* nor when the life before did not end with a stop */
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_ERR_CORRUPT);
        rig_kill(rig);
        assert_int_equal(size_of(rig, SEGMENT), size);
    }
}

/* The snapshot that knew where the log ended is lost too: the file is not cut where its last batch ends. */
static void test_log_that_lost_records_and_its_snapshot_is_refused(void **state)
{
    struct storage_rig *rig = *state;
    for (uint32_t way = 0; way < 2; way++) {
        struct rig_log log;
        char           topic[8] = {(char)('a' + way), '\0'};
        char           segment[100];
        char           snapshot[100];
        mr_fmt(segment, sizeof segment, RIG_LOG_DIR "/%s-0/%020lld.log", topic, 0LL);
        mr_fmt(snapshot, sizeof snapshot, RIG_LOG_DIR "/%s-0/%020lld.snapshot", topic, 20LL);
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, topic, 0, &log), MR_OK);
        rig_fill(rig, &log, 10, 1000);
        assert_int_equal(rig_stop(rig), MR_OK);
        int64_t size = size_of(rig, segment);
        mr_sim_fs_rot(rig->fs, segment, (uint64_t)size / 10 * 9 + 16, 1, 0xff);
        if (way == 0) {
            mr_sim_fs_remove(rig->fs, snapshot);
        } else {
            mr_sim_fs_cut_file(rig->fs, snapshot, 5);
        }
        for (uint32_t life = 0; life < 2; life++) {
            assert_int_equal(rig_start(rig), MR_OK);
            assert_int_equal(rig_open(rig, topic, 0, &log), MR_ERR_CORRUPT);
            assert_int_equal(rig_stop(rig), MR_OK);
        }
    }
}

/* The last batch's head says another last offset, and the snapshot that would say otherwise is lost: the CRC tells. */
static void test_end_of_a_log_is_not_believed_without_a_proof(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 10, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    mr_sim_fs_remove(rig->fs, RIG_LOG_DIR "/t-0/00000000000000000020.snapshot");
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 20);
    assert_int_equal(rig_stop(rig), MR_OK);
    mr_sim_fs_remove(rig->fs, RIG_LOG_DIR "/t-0/00000000000000000020.snapshot");
    uint64_t last = (uint64_t)size_of(rig, SEGMENT) / 10 * 9;
    mr_sim_fs_rot(rig->fs, SEGMENT, last + 23, 1, 0x40); /* the last offset's delta */
    for (uint32_t life = 0; life < 2; life++) {
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_ERR_CORRUPT);
        assert_int_equal(rig_stop(rig), MR_OK);
    }
}
/* ---- Whose directory it is ---- */

/* Between the end of a log and its directory's new name nobody may take the old one. */
static void test_name_is_not_free_while_its_directory_is_renamed(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    struct rig_log      next;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 5, 1000);
    struct mr_drop_op drop = {.op.kind = MR_STORAGE_DROP, .log_id = log.log_id};
    mr_sim_fs_latency(rig->fs, 10 * MR_NS_PER_MS, 10 * MR_NS_PER_MS, false);
    rig_send(rig, log.core, &drop.op);
    for (uint32_t turns = 0; mr_list_is_empty(&rig->cores[0]->renaming); turns++) {
        assert_true(turns < 1000);
        mr_sim_fs_set_clock(rig->fs, mr_sim_fs_clock(rig->fs) + MR_NS_PER_MS);
        (void)rig_turn(rig);
    }
    assert_int_equal(rig_open(rig, "t", 0, &next), MR_ERR_EXISTS);
    mr_sim_fs_latency(rig->fs, 0, 0, false);
    mr_sim_fs_set_clock(rig->fs, mr_sim_fs_clock(rig->fs) + MR_NS_PER_S);
    rig_settle(rig);
    assert_int_equal(rig_open(rig, "t", 0, &next), MR_OK);
    assert_true(next.is_created);
    assert_int_equal(next.end, 0);
}

#define METADATA RIG_LOG_DIR "/t-0/partition.metadata"

static void test_open_writes_a_partition_metadata_that_was_not_durable(void **state)
{
    struct storage_rig *rig = *state;
    struct rig_log      log;
    uint8_t             metadata[256];
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 4, 1000);
    assert_int_equal(rig_stop(rig), MR_OK);
    int64_t len = mr_sim_fs_get(rig->fs, METADATA, metadata, sizeof metadata);
    assert_true(len > 0);
    static const struct mr_blob torn[] = {
        {.data = NULL, .len = 0},
        {.data = (const uint8_t *)"\0\0\0\0", .len = 4},
        {.data = (const uint8_t *)"version: 0\ntopic_id: \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", .len = 43},
    };
    for (uint32_t index = 0; index < sizeof torn / sizeof torn[0]; index++) {
        mr_sim_fs_remove(rig->fs, METADATA);
        if (torn[index].data != NULL) {
            mr_sim_fs_put(rig->fs, METADATA, torn[index].data, (size_t)torn[index].len);
        }
        assert_int_equal(rig_start(rig), MR_OK);
        assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
        assert_false(log.is_created);
        assert_int_equal(log.end, 8);
        assert_int_equal(size_of(rig, METADATA), len);
        assert_memory_equal(image, metadata, (size_t)len);
        assert_int_equal(rig_stop(rig), MR_OK);
    }
}

/* The log of a state was dropped, its DROP is recycled, and the power went while its namesake was made. */
static void test_state_of_a_dropped_log_does_not_take_its_namesakes_directory(void **state)
{
    static const char *const files[] = {"00000000000000000000.log", "00000000000000000000.index",
                                        "00000000000000000000.timeindex", "leader-epoch-checkpoint"};
    struct storage_rig      *rig = *state;
    struct rig_log           log;
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    rig_fill(rig, &log, 4, 1000);
    rig_kill(rig);
    assert_int_equal(rig_start(rig), MR_OK); /* the journal is empty now, the log has a state */
    rig_kill(rig);
    for (uint32_t index = 0; index < sizeof files / sizeof files[0]; index++) {
        char path[200];
        mr_fmt(path, sizeof path, RIG_LOG_DIR "/t-0/%s", files[index]);
        if (size_of(rig, path) >= 0) {
            mr_sim_fs_remove(rig->fs, path);
        }
    }
    mr_sim_fs_put(rig->fs, METADATA, "", 0);
    assert_int_equal(rig_start(rig), MR_OK);
    assert_int_equal(rig_open(rig, "t", 0, &log), MR_OK);
    assert_int_equal(log.end, 0);
    rig_fill(rig, &log, 1, 2000);
    assert_int_equal(rig_read(rig, &log, 0), 0);
    assert_int_equal(rig_stop(rig), MR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_log_start_inside_a_segment_survives_a_clean_stop),
        TEST(test_log_starts_survive_a_stop_before_anything_is_opened),
        TEST(test_checkpointed_start_beyond_the_end_is_of_an_older_log),
        TEST(test_log_without_a_state_ends_where_its_files_were_complete),
        TEST(test_unclean_directory_is_read_from_the_recovery_point),
        TEST(test_unclean_directory_is_cut_at_the_first_bad_batch),
        TEST(test_segments_below_the_recovery_point_are_believed),
        TEST(test_interrupted_swap_takes_its_place),
        TEST(test_two_cores_share_a_directory_over_crash_and_stop),
        TEST(test_logs_that_end_otherwise_go_to_other_cores),
        TEST(test_recovered_logs_that_nobody_opened_are_closed_cleanly),
        TEST(test_log_that_lost_records_since_it_was_closed_is_refused),
        TEST(test_end_of_a_log_is_not_believed_without_a_proof),
        TEST(test_log_that_lost_records_and_its_snapshot_is_refused),
        TEST(test_name_is_not_free_while_its_directory_is_renamed),
        TEST(test_open_writes_a_partition_metadata_that_was_not_durable),
        TEST(test_state_of_a_dropped_log_does_not_take_its_namesakes_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
