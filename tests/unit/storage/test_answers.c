/*
 * answers: everything that was sent to a storage core is answered, whatever happens meanwhile (J10): a write or flush
 * that fails at any point of a burst, a log that is dropped in the middle of a batch that is journaled in parts.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"
#include "storage_core.h"

#define LOGS        6u
#define APPENDS     12u
#define DELETES     2u
#define TURNS_MAX   50000u
#define LARGE_BYTES 1500000u /* takes several parts in files of 1 MiB */

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 64 << 20;
    rig.config.max_message_bytes = 4 << 20;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

struct appending {
    struct mr_append_op    op;
    struct mr_append_entry entries[LOGS];
    struct mr_span         spans[LOGS];
};

struct deleting {
    struct mr_delete_records_op    op;
    struct mr_delete_records_entry entries[400];
};

static uint8_t         *batches[2]; /* a small one, a large one */
static uint32_t         batch_bytes[2];
static struct appending appending[APPENDS];
static struct deleting  deleting[DELETES];

static void make_batches(void)
{
    static const uint32_t sizes[2] = {900, LARGE_BYTES};
    for (uint32_t index = 0; index < 2; index++) {
        batch_bytes[index] = mr_core_rig_batch(&rig, 1, sizes[index], 1000);
        batches[index] = batches[index] == NULL ? malloc(batch_bytes[index]) : batches[index];
        memcpy(batches[index], rig.bytes, batch_bytes[index]);
    }
}

/* One entry for each of the logs from `first` on; the last is large if asked for. */
static void send_append(struct appending *a, const uint64_t *logs, uint32_t first, bool is_large)
{
    uint32_t count = LOGS - first;
    for (uint32_t index = 0; index < count; index++) {
        uint32_t which = is_large && index == count - 1 ? 1 : 0;
        a->spans[index] = (struct mr_span){batches[which], batch_bytes[which]};
        a->entries[index] = (struct mr_append_entry){
            .log_id = logs[first + index],
            .batch = {.spans = &a->spans[index], .span_count = 1, .bytes = batch_bytes[which]},
            .leader_epoch = -1};
    }
    a->op = (struct mr_append_op){
        .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = count, .entries = a->entries};
    mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &a->op.op);
}

/* More LOG_STARTs than a commit takes beside what is in it. */
static void send_deletes(struct deleting *d, const uint64_t *logs, int64_t first)
{
    uint32_t count = sizeof d->entries / sizeof d->entries[0];
    for (uint32_t index = 0; index < count; index++) {
        d->entries[index] = (struct mr_delete_records_entry){.log_id = logs[index % LOGS],
                                                             .offset = first + (int64_t)index / LOGS};
    }
    d->op = (struct mr_delete_records_op){
        .op.kind = MR_STORAGE_DELETE_RECORDS, .entry_count = count, .entries = d->entries};
    mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &d->op.op);
}

static void step(void)
{
    if (!mr_core_rig_turn(&rig) && rig.disk->in_flight > 0) {
        rig.disk->ops->wait(rig.disk);
    }
    rig.now.mono_ns += 100000;
}

static void wait_for_answers(uint32_t count, const char *about, uint64_t nth)
{
    for (uint32_t turns = 0; rig.answers < count; turns++) {
        if (turns == TURNS_MAX) {
            fail_msg("%s %llu: %u of %u answers", about, (unsigned long long)nth, rig.answers, count);
        }
        step();
    }
}

static void start(uint64_t *logs)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    make_batches();
    for (uint32_t index = 0; index < LOGS; index++) {
        char topic[8];
        mr_fmt(topic, sizeof topic, "%c", (int)('a' + index));
        logs[index] = mr_core_rig_open(&rig, topic, 0, false);
        for (uint32_t count = 0; count < 160; count++) {
            assert_int_equal(mr_core_rig_append(&rig, logs[index], 1, 20, 1000, NULL), MR_OK);
        }
    }
}

static void burst(const char *about, uint32_t kinds, uint64_t nth)
{
    uint64_t logs[LOGS];
    start(logs);
    struct mr_sim_fault fault = {.kinds = kinds, .nth = nth, .err = MR_ERR_IO, .is_sticky = true};
    mr_sim_fs_fail(rig.fs, &fault);
    uint32_t before = rig.answers;
    for (uint32_t index = 0; index < APPENDS; index++) {
        send_append(&appending[index], logs, index % LOGS, index % 4 == 1);
        if (index % (APPENDS / DELETES) == 2) {
            send_deletes(&deleting[index / (APPENDS / DELETES)], logs, index * 10);
        }
        if (index % 3 == 2) {
            (void)mr_core_rig_turn(&rig);
        }
    }
    wait_for_answers(before + APPENDS + DELETES, about, nth);
}

static void test_everything_is_answered_wherever_the_disk_fails(void **state)
{
    (void)state;
    static const struct {
        const char *about;
        uint32_t    kinds;
        uint64_t    last;
    } cases[] = {
        {"write", 1u << MR_DISK_WRITE, 24},
        {"syncfs", 1u << MR_DISK_SYNC_FS, 2},
        {"open", 1u << MR_DISK_OPEN, 6},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        for (uint64_t nth = 0; nth <= cases[index].last; nth++) {
            burst(cases[index].about, cases[index].kinds, nth);
            (void)teardown(NULL);
            (void)setup(NULL);
        }
    }
}

static void test_log_dropped_within_a_batch_does_not_hold_up_the_others(void **state)
{
    (void)state;
    uint64_t logs[LOGS];
    start(logs);
    struct mr_drop_op drop = {.op.kind = MR_STORAGE_DROP, .log_id = logs[LOGS - 1]};
    uint32_t          before = rig.answers;
    send_append(&appending[0], logs, LOGS - 1, true);
    for (uint32_t turns = 0; rig.core->part_open == NULL; turns++) { /* until its first part is in a commit */
        assert_true(turns < TURNS_MAX && rig.answers == before);
        step();
    }
    mr_core_rig_send(&rig, MR_CORE_RIG_CONTROL, &drop.op);
    send_append(&appending[1], logs, 0, false);
    wait_for_answers(before + 3, "drop", 0);
    assert_int_equal(drop.op.err, MR_OK);
    assert_int_equal(appending[0].entries[0].err, MR_ERR_UNKNOWN_LOG);
    assert_int_equal(appending[1].entries[0].err, MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(mr_core_rig_stat(&rig, mr_core_rig_open(&rig, "a", 0, false), NULL).log_end_offset, 161);
}

/* The journal adds entries of its own (a CARRY, say) that make no log dirty. */
static void test_stop_waits_for_entries_that_are_in_no_commit_yet(void **state)
{
    (void)state;
    uint64_t logs[LOGS];
    uint64_t seq = 0;
    start(logs);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    logs[0] = mr_core_rig_open(&rig, "a", 0, false);
    mr_core_rig_settle(&rig);
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_LOG_START, .offset = 7};
    assert_int_equal(mr_journal_add(rig.core->journal, &mr_core_find(rig.core, logs[0])->jlog, &entry, NULL, &seq), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    assert_true(mr_journal_durable_seq(rig.core->journal) >= seq);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_everything_is_answered_wherever_the_disk_fails),
        TEST(test_stop_waits_for_entries_that_are_in_no_commit_yet),
        TEST(test_log_dropped_within_a_batch_does_not_hold_up_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
