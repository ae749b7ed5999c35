/*
 * retention and burial: a log of 1 MiB segments on the simulated disk; time is moved, and the files of the
 * directory are looked at by name.
 */
#include "test.h"

#include "core_rig.h"
#include "log/time_index.h"
#include "millrace/base/fmt.h"

#define RECORD_BYTES 100000u
#define PER_SEGMENT  10 /* batches of one such record in a segment of 1 MiB */
#define CHECK_MS     1000

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.plan.retention_check_ms = CHECK_MS;
    rig.config.file_delete_delay_ms = 5000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static void append(uint64_t log_id, uint32_t count)
{
    for (uint32_t index = 0; index < count; index++) {
        assert_int_equal(mr_core_rig_append(&rig, log_id, 1, RECORD_BYTES, rig.now.unix_ms, NULL), MR_OK);
    }
}

static int64_t file(const char *dir, int64_t base, const char *suffix)
{
    char name[128];
    mr_fmt(name, sizeof name, "%s/%020lld%s", dir, (long long)base, suffix);
    return mr_core_rig_file(&rig, name);
}

static uint32_t files_with(const char *part)
{
    char     list[65536];
    uint32_t count = 0;
    size_t   len = mr_sim_fs_names(rig.fs, "/data", list, sizeof list);
    for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
        count += strstr(list + at, part) != NULL;
    }
    return count;
}

static int64_t start_of(uint64_t log_id)
{
    return mr_core_rig_stat(&rig, log_id, NULL).log_start_offset;
}

/* All kinds of files are renamed, then removed after the delay, and not before. */
static void expect_buried(const char *dir, int64_t base)
{
    mr_core_rig_advance(&rig, 3000);
    assert_int_equal(file(dir, base, ".log"), -1);
    assert_int_equal(file(dir, base, ".index"), -1);
    assert_int_equal(file(dir, base, ".timeindex"), -1);
    assert_true(file(dir, base, ".log.deleted") > 0);
    assert_true(file(dir, base, ".index.deleted") >= 0);
    assert_true(file(dir, base, ".timeindex.deleted") >= 0);
    mr_core_rig_advance(&rig, 6000);
    assert_int_equal(file(dir, base, ".log.deleted"), -1);
    assert_int_equal(file(dir, base, ".index.deleted"), -1);
    assert_int_equal(file(dir, base, ".timeindex.deleted"), -1);
}

static void test_retention_by_size_removes_the_oldest_segments(void **state)
{
    (void)state;
    rig.config.retention_bytes = 2 << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, 5 * PER_SEGMENT);
    assert_int_equal(start_of(log), 0);
    assert_int_equal(file("t-0", 0, ".log"), PER_SEGMENT * (RECORD_BYTES + 72));
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    /* 5 segments of 1.0 MB; without the first two 3.0 MB are left, which is more than 2 MiB, without three not. */
    assert_int_equal(start_of(log), 2 * PER_SEGMENT);
    expect_buried("t-0", 0);
    assert_int_equal(file("t-0", PER_SEGMENT, ".log"), -1);
    assert_true(file("t-0", 2 * PER_SEGMENT, ".log") > 0);
    uint32_t bytes = 0;
    assert_int_equal(mr_core_rig_read(&rig, log, PER_SEGMENT, 1000, NULL, &bytes), MR_ERR_OFFSET_OUT_OF_RANGE);
    assert_int_equal(mr_core_rig_read(&rig, log, 2 * PER_SEGMENT, 1000, NULL, &bytes), MR_OK);
    assert_int_equal(bytes, RECORD_BYTES + 72);
}

static void test_retention_by_time_takes_the_active_segment_too(void **state)
{
    (void)state;
    rig.config.retention_ms = 10000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, 2 * PER_SEGMENT + 3);
    mr_core_rig_advance(&rig, 9000);
    assert_int_equal(start_of(log), 0);
    mr_core_rig_advance(&rig, 3000);
    /* A new segment began, so that all old ones could go. */
    assert_int_equal(start_of(log), 2 * PER_SEGMENT + 3);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).size_bytes, 0);
    mr_core_rig_advance(&rig, 10000);
    assert_int_equal(file("t-0", 2 * PER_SEGMENT, ".log"), -1);
    /* An empty active segment stays, for ever. */
    append(log, 1);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 2 * PER_SEGMENT + 4);
    assert_true(mr_core_rig_stat(&rig, log, NULL).size_bytes > 0);
    mr_core_rig_advance(&rig, 40000);
    assert_int_equal(start_of(log), 2 * PER_SEGMENT + 4);
}

/* A quiet log whose tail was carried or parked for an earlier deletion is deleted to the end as well. */
static void test_retention_again_of_a_quiet_log_removes_the_rest(void **state)
{
    (void)state;
    rig.plan.journal_file_bytes = 32u << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    uint64_t other = mr_core_rig_open(&rig, "o", 0, false);
    append(log, 7 * PER_SEGMENT + 3);
    append(other, 1);
    rig.config.retention_bytes = 3000000;
    assert_int_equal(mr_core_rig_configure(&rig, log), MR_OK);
    mr_core_rig_advance(&rig, 9000);
    assert_int_equal(start_of(log), 4 * PER_SEGMENT);
    assert_int_equal(file("t-0", 0, ".log.deleted"), -1);
    rig.config.retention_ms = 1000;
    assert_int_equal(mr_core_rig_configure(&rig, log), MR_OK);
    mr_core_rig_advance(&rig, 20000);
    assert_int_equal(start_of(log), 7 * PER_SEGMENT + 3);
    for (int64_t base = 0; base <= 7 * PER_SEGMENT; base += PER_SEGMENT) {
        assert_int_equal(file("t-0", base, ".log"), -1);
        assert_int_equal(file("t-0", base, ".log.deleted"), -1);
    }
    /* Nothing but the name of an empty segment tells where the log ends. */
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 7 * PER_SEGMENT + 3);
    append(log, 1);
}

static void test_retention_of_a_quiet_log_after_a_restart_goes_by_the_time_index(void **state)
{
    (void)state;
    rig.config.retention_ms = 60000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT);
    mr_core_rig_advance(&rig, 30000);
    append(log, 2 * PER_SEGMENT);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    rig.now.unix_ms += 31000; /* the first segment is 61 s old, the others 31 s */
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    assert_int_equal(start_of(log), PER_SEGMENT);
    expect_buried("t-0", 0);
}

static void test_retention_goes_by_the_time_of_the_last_change_without_a_time_index(void **state)
{
    (void)state;
    rig.config.retention_ms = 60000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT);
    mr_core_rig_advance(&rig, 30000);
    append(log, 2 * PER_SEGMENT);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    mr_sim_fs_remove(rig.fs, "/data/t-0/00000000000000000000.timeindex");
    rig.now.unix_ms += 31000; /* the first file was written 61 s ago, the others 31 s */
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    assert_int_equal(start_of(log), PER_SEGMENT);
}

#define TIMES      "/data/t-0/00000000000000000000.timeindex"
#define TIMES_ROOM 64u

/* The last entry of the first segment's time index is moved, or it and all but the first are cut off. */
static void lie_of_time(int64_t time_add, int32_t offset_add, bool is_cut)
{
    uint8_t bytes[TIMES_ROOM * MR_TIME_INDEX_ENTRY];
    int64_t len = mr_sim_fs_get(rig.fs, TIMES, bytes, sizeof bytes);
    assert_in_range(len, 2 * MR_TIME_INDEX_ENTRY, sizeof bytes);
    uint8_t                   *last = bytes + len - MR_TIME_INDEX_ENTRY;
    struct mr_time_index_entry entry = mr_time_index_load(last);
    entry.timestamp += time_add;
    entry.relative += offset_add;
    mr_time_index_store(last, entry);
    mr_sim_fs_put(rig.fs, TIMES, bytes, is_cut ? MR_TIME_INDEX_ENTRY : (size_t)len);
}

/* Nothing is deleted for what a time index alone says: the segment is as old as its batches, or as its file's last change. */
static void test_retention_does_not_believe_a_time_index(void **state)
{
    (void)state;
    static const struct {
        int64_t time_add;
        int32_t offset_add;
        bool    is_cut;
    } lies[] = {{-50000, 0, false}, {-1, 0, false}, {1 << 30, 0, false}, {0, -3, false}, {-40000, -4, false}, {0, 0, true}};
    rig.config.retention_ms = 60000;
    rig.config.index_interval_bytes = 1;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    for (int index = 0; index < PER_SEGMENT; index++) {
        append(log, 1);
        mr_core_rig_advance(&rig, 5000);
        mr_sim_fs_set_clock(rig.fs, mr_sim_fs_clock(rig.fs) + 5 * MR_NS_PER_S);
    }
    append(log, 2);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    struct mr_sim_fs *whole = rig.fs;
    int64_t           then_ms = rig.now.unix_ms; /* the first segment's newest record is 5 s old, its oldest 50 s */
    for (size_t index = 0; index < sizeof lies / sizeof lies[0]; index++) {
        rig.fs = mr_sim_fs_clone(whole);
        lie_of_time(lies[index].time_add, lies[index].offset_add, lies[index].is_cut);
        rig.now.unix_ms = then_ms + 40000;
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        log = mr_core_rig_open(&rig, "t", 0, false);
        mr_core_rig_advance(&rig, 10 * CHECK_MS);
        if (start_of(log) != 0) {
            fail_msg("deleted too early by lie %zu", index);
        }
        mr_core_rig_advance(&rig, 12 * CHECK_MS);
        /* In time, by the batches or by the file's last change; a lie that makes it younger keeps it. */
        assert_true(lies[index].time_add > 0 ? start_of(log) == 0 : start_of(log) >= PER_SEGMENT);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

static void test_retention_waits_for_a_segment_that_cannot_be_read(void **state)
{
    (void)state;
    rig.config.retention_ms = 60000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT + 1);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    rig.now.unix_ms += 61000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_READ, .err = MR_ERR_IO, .is_sticky = true,
                                 .name_part = "00000000000000000000.log"};
    mr_sim_fs_fail(rig.fs, &fault);
    mr_core_rig_advance(&rig, 5 * CHECK_MS);
    assert_true(mr_sim_fs_faults(rig.fs) > 0);
    assert_int_equal(start_of(log), 0);
    assert_int_equal(rig.offlines, 0);
    mr_sim_fs_heal(rig.fs);
    mr_core_rig_advance(&rig, 2 * CHECK_MS);
    assert_int_equal(start_of(log), PER_SEGMENT + 1);
}

static void test_retention_changed_by_configuration_holds_at_the_next_check(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, 3 * PER_SEGMENT);
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(start_of(log), 0);
    rig.config.retention_bytes = 1;
    assert_int_equal(mr_core_rig_configure(&rig, log), MR_OK);
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    assert_int_equal(start_of(log), 2 * PER_SEGMENT);
}

/* With compact only, segments go only because DeleteRecords or a new log start left them behind. */
#define FUTURE_MS (24 * 3600000ll)

/* Kafka's rule: the newest timestamp counts. What that keeps is told, once a minute. */
static void test_record_from_the_future_keeps_its_segment_and_a_line_says_so(void **state)
{
    (void)state;
    rig.config.retention_ms = 10000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT - 1);
    assert_int_equal(mr_core_rig_append(&rig, log, 1, RECORD_BYTES, rig.now.unix_ms + FUTURE_MS, NULL), MR_OK);
    append(log, PER_SEGMENT);
    mr_core_rig_advance(&rig, 40000);
    assert_int_equal(start_of(log), 0);
    assert_non_null(strstr(rig.last_warning, "a record from the future keeps its segment"));
    assert_non_null(strstr(rig.last_warning, "dir=t-0 segment=0"));
    rig.last_warning[0] = '\0';
    mr_core_rig_advance(&rig, 15000);
    assert_int_equal(rig.last_warning[0], '\0');
    mr_core_rig_advance(&rig, 15000);
    assert_int_not_equal(rig.last_warning[0], '\0');
}

/* With millrace.retention.clock=append it goes when it has been there for so long; across a restart too. */
static void test_clock_of_appends_does_not_look_at_records(void **state)
{
    (void)state;
    rig.config.retention_ms = 10000;
    rig.config.is_retention_by_append = true;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_append(&rig, log, 1, RECORD_BYTES, rig.now.unix_ms + FUTURE_MS, NULL), MR_OK);
    mr_core_rig_advance(&rig, 7000);
    assert_int_equal(mr_core_rig_append(&rig, log, 1, RECORD_BYTES, 1000, NULL), MR_OK); /* from 1970 */
    mr_core_rig_advance(&rig, 8000);
    assert_int_equal(start_of(log), 0); /* 8 s after its last append */
    assert_int_equal(rig.last_warning[0], '\0');
    mr_core_rig_advance(&rig, 4000);
    assert_int_equal(start_of(log), 2);
    append(log, PER_SEGMENT - 1);
    assert_int_equal(mr_core_rig_append(&rig, log, 1, RECORD_BYTES, rig.now.unix_ms + FUTURE_MS, NULL), MR_OK);
    append(log, PER_SEGMENT);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    rig.now.unix_ms += 11000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    assert_true(start_of(log) >= 2 + PER_SEGMENT); /* the files' times tell */
}

/* segment.jitter.ms above segment.ms takes no more off than that, or each append would end a segment. */
static void test_jitter_is_less_than_the_age(void **state)
{
    (void)state;
    rig.config.segment_ms = 1000;
    rig.config.segment_jitter_ms = INT64_MAX;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT);
    mr_core_rig_advance(&rig, 1001);
    append(log, 1);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    assert_int_equal(file("t-0", 0, ".log"), PER_SEGMENT * (RECORD_BYTES + 72));
    assert_int_equal(file("t-0", PER_SEGMENT, ".log"), RECORD_BYTES + 72);
}

static void test_delete_records_removes_whole_segments_below(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, 2 * PER_SEGMENT + 5);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, PER_SEGMENT + 1), MR_OK);
    assert_int_equal(start_of(log), PER_SEGMENT + 1);
    expect_buried("t-0", 0);
    assert_true(file("t-0", PER_SEGMENT, ".log") > 0);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, -1), MR_OK);
    assert_int_equal(start_of(log), 2 * PER_SEGMENT + 5);
    expect_buried("t-0", PER_SEGMENT);
    assert_true(mr_core_rig_stat(&rig, log, NULL).size_bytes > 0);
}

/* J5: neither answered nor to be seen in the directory before the entry that says it is flushed. */
static void test_delete_records_waits_for_the_flush(void **state)
{
    (void)state;
    static struct mr_delete_records_entry entry;
    static struct mr_delete_records_op    op;
    static struct mr_drop_op              drop;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    uint64_t other = mr_core_rig_open(&rig, "o", 0, false);
    append(log, 2 * PER_SEGMENT);
    mr_core_rig_advance(&rig, 3000);
    uint64_t hour_ns = 3600 * MR_NS_PER_S;
    mr_sim_fs_latency(rig.fs, hour_ns, hour_ns, false);
    uint32_t answers = rig.answers;
    entry = (struct mr_delete_records_entry){.log_id = log, .offset = PER_SEGMENT + 1};
    op = (struct mr_delete_records_op){.op.kind = MR_STORAGE_DELETE_RECORDS, .entry_count = 1, .entries = &entry};
    drop = (struct mr_drop_op){.op.kind = MR_STORAGE_DROP, .log_id = other};
    mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &op.op);
    mr_core_rig_send(&rig, MR_CORE_RIG_CONTROL, &drop.op);
    for (uint32_t turn = 0; turn < 100; turn++) {
        (void)mr_core_rig_turn(&rig);
    }
    assert_int_equal(rig.answers, answers);
    assert_true(file("t-0", 0, ".log") > 0);
    assert_int_equal(files_with("-delete"), 0);
    /* The flush never came: after a power cut nothing was deleted. */
    mr_sim_disk_destroy(rig.disk);
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 5);
    mr_sim_fs_latency(rig.fs, 0, 0, false);
    rig.disk = mr_sim_disk_create(rig.fs);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(start_of(log), 0);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 2 * PER_SEGMENT);
}

/* The entries say it, not only the operation: whoever asked looks at them alone. */
static void test_delete_records_fails_with_its_flush(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT);
    mr_core_rig_advance(&rig, 3000);
    mr_sim_fs_fail(rig.fs, &(struct mr_sim_fault){.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO, .is_sticky = true});
    assert_int_equal(mr_core_rig_delete_records(&rig, log, 1), MR_ERR_DIR_OFFLINE);
}

/* J6: while the journal could still redo bytes of a segment, its files keep their names. */
static void test_segment_with_live_journal_entries_is_not_touched(void **state)
{
    (void)state;
    rig.plan.journal_files_max = 16;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, PER_SEGMENT + 1);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, -1), MR_OK);
    assert_true(file("t-0", 0, ".log.deleted") == -1);
    /* Killed here, recovery writes into it again and finds the log start. */
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(start_of(log), PER_SEGMENT + 1);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, PER_SEGMENT + 1);
    mr_core_rig_advance(&rig, CHECK_MS + 1);
    expect_buried("t-0", 0);
}

/* Power is lost before each single operation of a burial: afterwards the log is as it was. */
static void test_burial_power_lost_anywhere_keeps_the_log_start(void **state)
{
    (void)state;
    rig.config.file_delete_delay_ms = 0;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    append(log, 2 * PER_SEGMENT + 5);
    assert_int_equal(mr_core_rig_delete_records(&rig, log, PER_SEGMENT + 1), MR_OK);
    const struct mr_storage_plan plan = rig.plan;
    const struct mr_log_config   config = rig.config;
    uint64_t                     from = mr_sim_fs_op_count(rig.fs);
    mr_core_rig_advance(&rig, 3000);
    assert_int_equal(file("t-0", 0, ".log"), -1);
    uint64_t to = mr_sim_fs_op_count(rig.fs);
    mr_core_rig_deinit(&rig);
    assert_true(to > from + 10);
    for (uint64_t at = from; at <= to; at++) {
        mr_core_rig_init(&rig);
        rig.plan = plan;
        rig.config = config;
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        log = mr_core_rig_open(&rig, "t", 0, false);
        append(log, 2 * PER_SEGMENT + 5);
        assert_int_equal(mr_core_rig_delete_records(&rig, log, PER_SEGMENT + 1), MR_OK);
        mr_sim_fs_die_at(rig.fs, at);
        mr_core_rig_advance(&rig, 3000);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_power_cut(rig.fs, (enum mr_sim_cut)(at % MR_SIM_CUT_COUNT), at);
        rig.disk = mr_sim_disk_create(rig.fs); /* for kill to destroy */
        mr_core_rig_kill(&rig);
        assert_int_equal(mr_core_rig_start(&rig), MR_OK);
        log = mr_core_rig_open(&rig, "t", 0, false);
        struct mr_log_stat_entry stat = mr_core_rig_stat(&rig, log, NULL);
        assert_int_equal(stat.log_start_offset, PER_SEGMENT + 1);
        assert_int_equal(stat.log_end_offset, 2 * PER_SEGMENT + 5);
        mr_core_rig_advance(&rig, 5000);
        assert_int_equal(file("t-0", 0, ".log"), -1);
        if (at < to) {
            mr_core_rig_deinit(&rig);
        }
    }
}

static void test_dropped_log_keeps_its_directory_for_the_delay(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    char name[250];
    memset(name, 'n', 249);
    name[249] = '\0';
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    uint64_t named = mr_core_rig_open(&rig, name, 7, false);
    append(log, PER_SEGMENT + 1);
    assert_int_equal(mr_core_rig_drop(&rig, log), MR_OK);
    assert_int_equal(mr_core_rig_drop(&rig, named), MR_OK);
    assert_int_equal(file("t-0", 0, ".log"), -1);
    assert_int_equal(files_with("-delete"), 2);
    /* Kafka reads the partition's number out of the name. */
    assert_int_equal(files_with("n-7."), 1);
    /* The name is free at once. */
    log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 0);
    mr_core_rig_advance(&rig, 4000);
    assert_int_equal(files_with("-delete"), 2);
    mr_core_rig_advance(&rig, 2000);
    assert_int_equal(files_with("-delete"), 0);
    assert_true(file("t-0", 0, ".log") >= 0);
}

/* More logs are dropped within the delay than there are graves: the oldest go early, none stays. */
static void test_drops_beyond_the_plan_remove_the_oldest_early(void **state)
{
    (void)state;
    rig.plan.logs_max = 8;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (int32_t index = 0; index < 30; index++) {
        uint64_t log = mr_core_rig_open(&rig, "t", index, false);
        assert_int_equal(mr_core_rig_drop(&rig, log), MR_OK);
    }
    assert_true(files_with("-delete") <= 9);
    mr_core_rig_advance(&rig, 6000);
    assert_int_equal(files_with("-delete"), 0);
}

static enum mr_err append_as(uint64_t log_id, int64_t producer, int32_t sequence)
{
    struct mr_batch batch;
    uint32_t        len = mr_core_rig_batch(&rig, 1, 10, rig.now.unix_ms);
    mr_batch_header_load(rig.bytes, &batch);
    batch.producer_id = producer;
    batch.producer_epoch = 0;
    batch.base_sequence = sequence;
    mr_batch_header_store(&batch, rig.bytes);
    batch.crc = mr_crc32c(0, rig.bytes + 21, len - 21);
    mr_batch_header_store(&batch, rig.bytes);
    struct mr_span         span = {.data = rig.bytes, .len = len};
    struct mr_append_entry entry = {.log_id = log_id,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = len},
                                    .leader_epoch = -1};
    struct mr_append_op    op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    return entry.err;
}

static void test_producer_is_forgotten_after_its_configured_time(void **state)
{
    (void)state;
    rig.plan.producer_check_ms = 1000;
    rig.config.producer_expiration_ms = 20000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(append_as(log, 77, 0), MR_OK);
    assert_int_equal(append_as(log, 77, 5), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    mr_core_rig_advance(&rig, 19000);
    assert_int_equal(append_as(log, 77, 5), MR_ERR_OUT_OF_ORDER_SEQUENCE);
    mr_core_rig_advance(&rig, 3000);
    assert_int_equal(append_as(log, 77, 5), MR_OK); /* unknown: any first sequence is taken */
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_retention_by_size_removes_the_oldest_segments),
        TEST(test_retention_by_time_takes_the_active_segment_too),
        TEST(test_retention_again_of_a_quiet_log_removes_the_rest),
        TEST(test_retention_of_a_quiet_log_after_a_restart_goes_by_the_time_index),
        TEST(test_retention_goes_by_the_time_of_the_last_change_without_a_time_index),
        TEST(test_retention_does_not_believe_a_time_index),
        TEST(test_retention_waits_for_a_segment_that_cannot_be_read),
        TEST(test_retention_changed_by_configuration_holds_at_the_next_check),
        TEST(test_record_from_the_future_keeps_its_segment_and_a_line_says_so),
        TEST(test_clock_of_appends_does_not_look_at_records),
        TEST(test_jitter_is_less_than_the_age),
        TEST(test_delete_records_removes_whole_segments_below),
        TEST(test_delete_records_waits_for_the_flush),
        TEST(test_delete_records_fails_with_its_flush),
        TEST(test_segment_with_live_journal_entries_is_not_touched),
        TEST(test_burial_power_lost_anywhere_keeps_the_log_start),
        TEST(test_dropped_log_keeps_its_directory_for_the_delay),
        TEST(test_drops_beyond_the_plan_remove_the_oldest_early),
        TEST(test_producer_is_forgotten_after_its_configured_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
