/*
 * admission: a storage core of small memory under readers that never give anything back, a disk that does not
 * answer, and more small logs than a journal file's worth of tails: it goes on with what it can do, and it always
 * takes its mail (J10).
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"

#define RECORD_BYTES 100000u
#define HELD_MAX     200u
#define READERS      1500u

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* A read that its sender forgets: nothing is released. */
struct reader {
    struct mr_read_op    op;
    struct mr_read_entry entry;
    struct mr_lent_span  spans[8];
};

static void read_start(struct reader *reader, uint64_t log_id, int64_t offset)
{
    *reader = (struct reader){
        .entry = {.log_id = log_id,
                  .offset = offset,
                  .bytes_max = 1 << 20,
                  .current_leader_epoch = -1,
                  .is_first_batch_whole = true},
        .op = {.op.kind = MR_STORAGE_READ, .bytes_max = 1 << 20, .entry_count = 1, .span_max = 8}};
    reader->op.entries = &reader->entry;
    reader->op.spans = reader->spans;
    mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &reader->op.op);
}

static bool is_answered(const struct reader *reader)
{
    return reader->entry.bytes > 0;
}

static enum mr_err append(uint64_t log_id)
{
    return mr_core_rig_append(&rig, log_id, 1, RECORD_BYTES, rig.now.unix_ms, NULL);
}

static void test_readers_that_hold_everything_do_not_stop_appends(void **state)
{
    (void)state;
    static struct reader readers[READERS];
    struct mr_storage_stats stats;
    rig.plan.cache_bytes = 4u << 20;
    rig.plan.cold_bytes = 4u << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    uint32_t waiting = 0;
    for (uint32_t index = 0; index < READERS; index++) {
        /* 150 MB through 4 MiB of cache, and each record is held by a reader of the tail. */
        assert_int_equal(append(log), MR_OK);
        read_start(&readers[index], log, index);
        mr_core_rig_settle(&rig);
        waiting += !is_answered(&readers[index]);
    }
    mr_storage_core_stats(rig.core, &stats);
    assert_true(stats.copied_bytes > RECORD_BYTES); /* beyond the share of the cache they got copies */
    assert_true(waiting > 0);                       /* and then nothing */
    assert_true(waiting < READERS - 8);
    /* What was lent has not changed meanwhile. */
    for (uint32_t index = 0; index < READERS; index++) {
        for (uint32_t span = 0; is_answered(&readers[index]) && span < readers[index].op.span_count; span++) {
            const struct mr_span *lent = &readers[index].spans[span].span;
            assert_int_equal(lent->data[lent->len - 2], 'b');
        }
    }
    /* Those that give back let the others go on. */
    for (uint32_t pass = 0; pass < 20 && waiting > 0; pass++) {
        waiting = 0;
        for (uint32_t index = 0; index < READERS; index++) {
            waiting += !is_answered(&readers[index]);
            for (uint32_t span = 0; is_answered(&readers[index]) && span < readers[index].op.span_count; span++) {
                mr_core_rig_release(&rig, readers[index].spans[span].page);
            }
            readers[index].op.span_count = is_answered(&readers[index]) ? 0 : readers[index].op.span_count;
        }
        mr_core_rig_advance(&rig, 10);
    }
    for (uint32_t index = 0; index < READERS; index++) {
        assert_true(is_answered(&readers[index]));
        assert_int_equal(readers[index].entry.err, MR_OK);
    }
}

/* J10: the disk does not answer any more; appends wait for it, and everything that needs no disk is served. */
static void test_core_with_a_stuck_disk_takes_all_its_mail(void **state)
{
    (void)state;
    static struct mr_append_entry entries[HELD_MAX];
    static struct mr_append_op    ops[HELD_MAX];
    static struct reader          reader;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(append(log), MR_OK);
    mr_core_rig_advance(&rig, 3000);
    uint64_t hour_ns = 3600 * MR_NS_PER_S;
    mr_sim_fs_latency(rig.fs, hour_ns, hour_ns, false);
    struct mr_span span = {.data = rig.bytes, .len = mr_core_rig_batch(&rig, 1, RECORD_BYTES, 1)};
    uint32_t       answers = rig.answers;
    for (uint32_t index = 0; index < HELD_MAX; index++) {
        entries[index] = (struct mr_append_entry){
            .log_id = log, .leader_epoch = -1, .batch = {.spans = &span, .span_count = 1, .bytes = span.len}};
        ops[index] = (struct mr_append_op){
            .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &entries[index]};
        mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &ops[index].op);
        (void)mr_core_rig_turn(&rig);
    }
    /* 20 MB of appends before a journal of 4 MiB: most wait inside the core, none in the ring. */
    assert_int_equal(rig.answers, answers);
    assert_false(mr_port_has_mail(rig.ports[MR_CORE_RIG_STORAGE]));
    assert_false(mr_port_has_spill(rig.ports[MR_CORE_RIG_DATA]));
    /* What they wait for comes with a completion: nobody looks at them every millisecond. */
    assert_true(mr_storage_core_deadline_ns(rig.core) >= rig.now.mono_ns + 10 * MR_NS_PER_MS);
    /* A read, its release, a watch and a question get through at once. */
    read_start(&reader, log, 0);
    (void)mr_core_rig_turn(&rig);
    (void)mr_core_rig_turn(&rig);
    assert_true(is_answered(&reader));
    mr_core_rig_release(&rig, reader.spans[0].page);
    struct mr_list_offsets_entry entry = {.log_id = log, .timestamp = MR_LIST_LATEST, .current_leader_epoch = -1};
    struct mr_list_offsets_op    list = {.op.kind = MR_STORAGE_LIST_OFFSETS, .entry_count = 1, .entries = &entry};
    mr_core_rig_send(&rig, MR_CORE_RIG_CONTROL, &list.op);
    (void)mr_core_rig_turn(&rig);
    (void)mr_core_rig_turn(&rig);
    assert_int_equal(rig.answered == &list.op, 1);
    assert_int_equal(entry.offset, 1);
    /* The disk comes back: all of them, in the order in which they came. */
    mr_sim_fs_latency(rig.fs, 0, 0, false);
    for (uint32_t turns = 0; rig.answers < answers + HELD_MAX + 2; turns++) {
        assert_true(turns < 10000);
        mr_core_rig_advance(&rig, 100);
    }
    for (uint32_t index = 0; index < HELD_MAX; index++) {
        assert_int_equal(entries[index].err, MR_OK);
        assert_int_equal(entries[index].base_offset, 1 + index);
    }
}

/* The tails of 600 logs, carried, are more than what two files of 1 MiB keep free: some are parked instead. */
static void test_tails_that_find_no_room_are_parked(void **state)
{
    (void)state;
    static uint64_t logs[600];
    char            topic[16];
    rig.plan.logs_max = 700;
    rig.plan.journal_files_max = 2;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (uint32_t index = 0; index < 600; index++) {
        mr_fmt(topic, sizeof topic, "t%u", index);
        logs[index] = mr_core_rig_open(&rig, topic, 0, false);
    }
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t index = 0; index < 600; index++) {
            int64_t offset = -1;
            assert_int_equal(mr_core_rig_append(&rig, logs[index], 1, 1500, rig.now.unix_ms, &offset), MR_OK);
            assert_int_equal(offset, round);
        }
    }
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (uint32_t index = 0; index < 600; index += 37) {
        mr_fmt(topic, sizeof topic, "t%u", index);
        uint64_t log = mr_core_rig_open(&rig, topic, 0, false);
        for (uint32_t offset = 0; offset < 5; offset++) {
            uint32_t bytes = 0;
            assert_int_equal(mr_core_rig_read(&rig, log, offset, 100, NULL, &bytes), MR_OK);
            assert_true(bytes > 1500);
        }
    }
}

/*
 * Every log has a last run that is not full, and may not go as long as it is: together they are more than the cache. They are
 * written and let go, longest quiet first, so that all can be written to for ever, and nothing is lost over it.
 */
static void test_tails_of_many_logs_share_a_small_cache(void **state)
{
    (void)state;
    enum { LOGS = 200, ROUNDS = 12, BYTES = 50000 };
    static uint64_t logs[LOGS];
    char            topic[16];
    rig.plan.logs_max = LOGS + 10;
    rig.plan.cache_bytes = 4u << 20; /* 20 KB for each */
    rig.plan.journal_file_bytes = 32u << 20; /* so that nothing is written because its journal file is wanted back */
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (uint32_t index = 0; index < LOGS; index++) {
        mr_fmt(topic, sizeof topic, "t%u", index);
        logs[index] = mr_core_rig_open(&rig, topic, 0, false);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t index = 0; index < LOGS; index++) {
            int64_t offset = -1;
            assert_int_equal(mr_core_rig_append(&rig, logs[index], 1, BYTES + index, rig.now.unix_ms, &offset), MR_OK);
            assert_int_equal(offset, round);
        }
    }
    mr_core_rig_cut(&rig, MR_SIM_CUT_RANDOM, 7);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    for (uint32_t index = 0; index < LOGS; index += 13) {
        mr_fmt(topic, sizeof topic, "t%u", index);
        uint64_t log = mr_core_rig_open(&rig, topic, 0, false);
        for (uint32_t offset = 0; offset < ROUNDS; offset++) {
            uint32_t bytes = 0;
            assert_int_equal(mr_core_rig_read(&rig, log, offset, 100, NULL, &bytes), MR_OK);
            assert_true(bytes > BYTES + index);
        }
    }
}

/* A batch that is journaled in parts and a small ring: carrying takes what is flushed, never a batch in the open commit. */
static void test_large_batches_in_a_small_ring_are_carried_by_the_block(void **state)
{
    (void)state;
    rig.config.segment_bytes = 64 << 20;
    rig.config.max_message_bytes = 4 << 20;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    uint64_t small = mr_core_rig_open(&rig, "s", 0, false);
    for (uint32_t index = 0; index < 40; index++) {
        assert_int_equal(mr_core_rig_append(&rig, log, 1, 1500000, rig.now.unix_ms, NULL), MR_OK);
        assert_int_equal(mr_core_rig_append(&rig, small, 1, 100, rig.now.unix_ms, NULL), MR_OK);
    }
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log = mr_core_rig_open(&rig, "t", 0, false);
    assert_int_equal(mr_core_rig_stat(&rig, log, NULL).log_end_offset, 40);
    uint32_t bytes = 0;
    assert_int_equal(mr_core_rig_read(&rig, log, 39, 100, NULL, &bytes), MR_OK);
    assert_true(bytes > 1500000);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_readers_that_hold_everything_do_not_stop_appends),
        TEST(test_core_with_a_stuck_disk_takes_all_its_mail),
        TEST(test_tails_that_find_no_room_are_parked),
        TEST(test_tails_of_many_logs_share_a_small_cache),
        TEST(test_large_batches_in_a_small_ring_are_carried_by_the_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
