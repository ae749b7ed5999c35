/*
 * Transactions in a log: random histories of producers, markers, deletions, rolls, stops, kills and power cuts against a
 * model that knows of every record whether it is committed, aborted or undecided.
 */
#include "core_rig.h"
#include "log/txn_state.h"
#include "storage_core.h"
#include "test.h"

#define PRODUCERS 5
#define OFFSETS   6000
#define STEPS     400

enum fate { NOTHING, MARKER, COMMITTED, ABORTED, OPEN_RECORD };

static struct mr_core_rig rig;
static uint64_t           log_id;
static struct {
    int64_t   end;
    int64_t   start;
    uint8_t   fate[OFFSETS];
    uint8_t   owner[OFFSETS];
    int64_t   first[PRODUCERS]; /* of the open transaction; -1: none */
    int16_t   epoch[PRODUCERS];
    int32_t   sequence[PRODUCERS];
} model;

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

static int64_t stable(void)
{
    int64_t at = model.end;
    for (int p = 0; p < PRODUCERS; p++) {
        at = model.first[p] >= 0 && model.first[p] < at ? model.first[p] : at;
    }
    return at < model.start ? model.start : at;
}

static enum mr_err append(const uint8_t *bytes, uint32_t len, enum mr_append_origin origin, uint64_t guard,
                          int16_t version, int64_t *offset)
{
    struct mr_span         span = {.data = bytes, .len = len};
    struct mr_append_entry entry = {.log_id = log_id,
                                    .batch = {.spans = &span, .span_count = 1, .bytes = len},
                                    .leader_epoch = -1,
                                    .origin = origin,
                                    .guard = guard,
                                    .txn_version = version};
    struct mr_append_op op = {
        .op = {.kind = MR_STORAGE_APPEND}, .acks = -1, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    *offset = entry.base_offset;
    return entry.err;
}

static struct mr_txn_check_entry check(int p)
{
    struct mr_txn_check_entry entry = {.log_id = log_id,
                                       .producer_id = 100 + p,
                                       .producer_epoch = model.epoch[p],
                                       .base_sequence = model.sequence[p]};
    struct mr_txn_check_op op = {.op = {.kind = MR_STORAGE_TXN_CHECK}, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    return entry;
}

static enum mr_err data(int p, uint32_t count, uint64_t guard, int64_t *offset)
{
    uint32_t        len = mr_core_rig_batch(&rig, count, 200 + draw(800), 1000);
    struct mr_batch batch;
    mr_batch_header_load(rig.bytes, &batch);
    batch.producer_id = 100 + p;
    batch.producer_epoch = model.epoch[p];
    batch.base_sequence = model.sequence[p];
    batch.attributes |= MR_BATCH_TRANSACTIONAL;
    mr_batch_header_store(&batch, rig.bytes);
    batch.crc = mr_crc32c(0, rig.bytes + 21, len - 21);
    mr_store_be32(rig.bytes + 17, batch.crc);
    return append(rig.bytes, len, MR_APPEND_CLIENT, guard, 0, offset);
}

static enum mr_err mark(int p, int16_t epoch, bool is_commit, int64_t *offset)
{
    uint8_t          bytes[MR_MARKER_BYTES_MAX];
    struct mr_marker marker = {.is_commit = is_commit, .coordinator_epoch = 3};
    uint32_t         len = mr_marker_build(bytes, 100 + p, epoch, &marker, 1000);
    return append(bytes, len, MR_APPEND_COORDINATOR, 0, 2, offset);
}

static void step_data(int p)
{
    int64_t                   offset = -1;
    uint32_t                  count = 1 + draw(3);
    struct mr_txn_check_entry allowed = check(p);
    assert_int_equal(allowed.err, MR_OK);
    assert_int_equal(allowed.guard == 0, model.first[p] >= 0);
    assert_int_equal(data(p, count, allowed.guard, &offset), MR_OK);
    assert_int_equal(offset, model.end);
    model.first[p] = model.first[p] < 0 ? offset : model.first[p];
    for (uint32_t at = 0; at < count; at++) {
        model.fate[model.end] = OPEN_RECORD;
        model.owner[model.end++] = (uint8_t)p;
    }
    model.sequence[p] += (int32_t)count;
}

static void step_mark(int p)
{
    int64_t offset = -1;
    bool    is_commit = draw(2) == 0;
    if (model.first[p] >= 0) { /* an epoch that is not newer ends nothing */
        assert_int_equal(mark(p, model.epoch[p], is_commit, &offset), MR_ERR_INVALID_PRODUCER_EPOCH);
    }
    model.epoch[p]++;
    model.sequence[p] = 0;
    assert_int_equal(mark(p, model.epoch[p], is_commit, &offset), MR_OK);
    assert_int_equal(offset, model.end);
    for (int64_t at = model.first[p]; model.first[p] >= 0 && at < model.end; at++) {
        if (model.fate[at] == OPEN_RECORD && model.owner[at] == p) {
            model.fate[at] = is_commit ? COMMITTED : ABORTED;
        }
    }
    model.fate[model.end] = MARKER;
    model.owner[model.end++] = (uint8_t)p;
    model.first[p] = -1;
}

static struct mr_lent_span     spans[64];
static struct mr_aborted_range ranges[MR_ABORTED_ROOM];
static uint8_t                 copies[65536];

/* As Kafka's consumer: of the batches that come, those of aborted producers are left out until their marker. */
static int64_t read_committed(int64_t from, uint32_t max)
{
    struct mr_read_entry entry = {
        .log_id = log_id, .offset = from, .bytes_max = max, .current_leader_epoch = -1, .is_first_batch_whole = true};
    struct mr_read_op op = {.op = {.kind = MR_STORAGE_READ},
                            .bytes_max = max,
                            .isolation = MR_READ_COMMITTED,
                            .entry_count = 1,
                            .entries = &entry,
                            .spans = spans,
                            .span_max = 64,
                            .copy_buffer = copies,
                            .copy_max = sizeof copies,
                            .aborted = ranges,
                            .aborted_max = MR_ABORTED_ROOM};
    (void)mr_core_rig_do(&rig, &op.op);
    assert_int_equal(entry.err, MR_OK);
    assert_int_equal(entry.last_stable_offset, stable());
    uint8_t *bytes = malloc(entry.bytes + 1);
    uint32_t len = 0;
    for (uint32_t at = 0; at < entry.span_count; at++) {
        const struct mr_lent_span *span = &spans[entry.span_first + at];
        memcpy(bytes + len, span->span.data, span->span.len);
        len += span->span.len;
    }
    for (uint32_t at = 0; at < op.span_count; at++) {
        if (spans[at].page != MR_PAGE_NONE) {
            mr_core_rig_release(&rig, spans[at].page);
        }
    }
    bool    is_aborted[PRODUCERS] = {false};
    bool    is_used[MR_ABORTED_ROOM] = {false};
    int64_t next = from;
    for (uint32_t at = 0; at < len;) {
        struct mr_batch batch;
        mr_batch_header_load(bytes + at, &batch);
        int p = (int)batch.producer_id - 100;
        for (uint32_t index = 0; index < entry.aborted_count; index++) {
            const struct mr_aborted_range *range = &ranges[entry.aborted_first + index];
            if (!is_used[index] && range->first_offset <= mr_batch_last_offset(&batch)) {
                is_aborted[range->producer_id - 100] = true;
                is_used[index] = true;
            }
        }
        bool is_marker = (batch.attributes & MR_BATCH_CONTROL) != 0;
        assert_int_equal(is_marker, model.fate[batch.base_offset] == MARKER);
        if (is_marker) {
            is_aborted[p] = false;
        }
        for (int64_t offset = batch.base_offset; !is_marker && offset <= mr_batch_last_offset(&batch); offset++) {
            assert_int_equal(model.fate[offset], is_aborted[p] ? ABORTED : COMMITTED);
        }
        at += mr_batch_bytes(&batch);
        next = mr_batch_last_offset(&batch) + 1;
    }
    assert_true(next <= stable());
    free(bytes);
    return next;
}

static void check_all(void)
{
    int64_t at = model.start;
    while (at < stable()) {
        int64_t next = read_committed(at, 2000 + draw(20000));
        assert_true(next > at);
        at = next;
    }
    assert_int_equal(read_committed(stable(), 1000), stable());
    struct mr_list_offsets_entry entry = {.log_id = log_id,
                                          .timestamp = MR_LIST_LATEST,
                                          .current_leader_epoch = -1,
                                          .isolation = MR_READ_COMMITTED};
    struct mr_list_offsets_op op = {
        .op = {.kind = MR_STORAGE_LIST_OFFSETS}, .entry_count = 1, .entries = &entry};
    (void)mr_core_rig_do(&rig, &op.op);
    assert_int_equal(entry.offset, stable());
}

static void begin_life(void)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    log_id = mr_core_rig_open(&rig, "txn", 0, false);
    assert_true(log_id != 0);
}

static void end_life(uint64_t seed)
{
    switch (draw(3)) {
    case 0:
        assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
        mr_core_rig_kill(&rig);
        break;
    case 1:
        mr_core_rig_kill(&rig);
        mr_sim_fs_process_kill(rig.fs, seed);
        break;
    default:
        mr_core_rig_kill(&rig);
        mr_sim_fs_power_cut(rig.fs, (enum mr_sim_cut)draw(MR_SIM_CUT_COUNT), seed);
        break;
    }
    begin_life();
}

static void history(uint64_t seed)
{
    random_state = seed * 7919 + 1;
    memset(&model, 0, sizeof model);
    for (int p = 0; p < PRODUCERS; p++) {
        model.first[p] = -1;
    }
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 16 << 10;
    begin_life();
    for (uint32_t step = 0; step < STEPS && model.end < OFFSETS - 10; step++) {
        int      p = (int)draw(PRODUCERS);
        uint32_t what = draw(100);
        if (what < 60) {
            step_data(p);
        } else if (what < 90) {
            step_mark(p);
        } else if (what < 93) {
            int64_t to = model.start + draw((uint32_t)(model.end - model.start) + 1) / 4;
            assert_int_equal(mr_core_rig_delete_records(&rig, log_id, to), MR_OK);
            model.start = to;
        } else if (what < 97) {
            end_life(seed + step);
        } else {
            check_all();
        }
    }
    check_all();
    end_life(seed);
    check_all();
    mr_core_rig_deinit(&rig);
}

static void test_random_histories_are_what_committed_readers_see(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        history(seed);
    }
}

/* Between the permission and the batch a marker comes: the batch is refused, and no transaction hangs. */
static void test_marker_takes_the_permission_back(void **state)
{
    (void)state;
    int64_t offset = -1;
    memset(&model, 0, sizeof model);
    model.first[0] = -1;
    mr_core_rig_init(&rig);
    begin_life();
    struct mr_txn_check_entry allowed = check(0);
    assert_true(allowed.guard != 0);
    assert_int_equal(mark(0, 0, false, &offset), MR_OK);
    assert_int_equal(data(0, 1, allowed.guard, &offset), MR_ERR_INVALID_TXN_STATE);
    assert_int_equal(data(0, 1, 0, &offset), MR_ERR_INVALID_TXN_STATE);
    allowed = check(0);
    assert_int_equal(data(0, 1, allowed.guard, &offset), MR_OK);
    mr_core_rig_deinit(&rig);
}

/* A transaction of producer `p`, by a fresh epoch; its error when it may not begin. */
static enum mr_err transaction(int p, uint32_t count, bool is_commit)
{
    int64_t                   offset = -1;
    struct mr_txn_check_entry allowed = check(p);
    if (allowed.err != MR_OK) {
        return allowed.err;
    }
    assert_int_equal(data(p, count, allowed.guard, &offset), MR_OK);
    model.epoch[p]++;
    assert_int_equal(mark(p, model.epoch[p], is_commit, &offset), MR_OK);
    return MR_OK;
}

/* Aborted transactions fill the pool: what is open can be aborted all the same, others wait until segments go. */
static void test_room_for_the_aborts_of_what_is_open(void **state)
{
    (void)state;
    int64_t offset = -1;
    memset(&model, 0, sizeof model);
    mr_core_rig_init(&rig);
    begin_life();
    rig.core->txns.aborted.capacity = 4;
    assert_int_equal(transaction(0, 1, false), MR_OK);
    struct mr_txn_check_entry open[4];
    for (int p = 0; p < 4; p++) { /* permissions come before batches: they are held against the room again */
        open[p] = check(p);
        assert_int_equal(open[p].err, MR_OK);
    }
    for (int p = 0; p < 3; p++) {
        assert_int_equal(data(p, 1, open[p].guard, &offset), MR_OK);
    }
    assert_int_equal(data(3, 1, open[3].guard, &offset), MR_ERR_TXN_LIMIT);
    assert_int_equal(check(3).err, MR_ERR_TXN_LIMIT);
    for (int p = 0; p < 3; p++) {
        model.epoch[p]++;
        assert_int_equal(mark(p, model.epoch[p], false, &offset), MR_OK);
    }
    assert_int_equal(rig.core->txns.aborted.used, 4);
    assert_int_equal(transaction(3, 1, true), MR_ERR_TXN_LIMIT);
    rig.core->txns.aborted.capacity = 5; /* as when one has gone with its segment */
    assert_int_equal(transaction(3, 1, true), MR_OK);
    mr_core_rig_deinit(&rig);
}

/* One more than a log may have open waits; the next goes when one has ended. */
static void test_open_transactions_have_a_limit(void **state)
{
    (void)state;
    int64_t offset = -1;
    memset(&model, 0, sizeof model);
    mr_core_rig_init(&rig);
    rig.plan.txns_open_max = 2;
    begin_life();
    for (int p = 0; p < 2; p++) {
        assert_int_equal(data(p, 1, check(p).guard, &offset), MR_OK);
    }
    assert_int_equal(check(2).err, MR_ERR_TXN_LIMIT);
    model.epoch[0]++;
    assert_int_equal(mark(0, model.epoch[0], true, &offset), MR_OK);
    assert_int_equal(check(2).err, MR_OK);
    mr_core_rig_deinit(&rig);
}

/* A directory that has more aborted transactions than the limit: the log is not opened, and the limit is named. */
static void test_aborted_beyond_the_limit_are_refused_by_name(void **state)
{
    (void)state;
    memset(&model, 0, sizeof model);
    mr_core_rig_init(&rig);
    begin_life();
    for (int count = 0; count < 5; count++) {
        assert_int_equal(transaction(0, 1, false), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    rig.plan.aborted_max = 4;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    struct mr_open_op open = {.op.kind = MR_STORAGE_OPEN, .topic = MR_STR("txn"), .config = &rig.config};
    memset(open.topic_id.bytes, 0x55, sizeof open.topic_id.bytes);
    open.topic_id.bytes[0] = 't';
    assert_int_equal(mr_core_rig_do(&rig, &open.op), MR_ERR_NO_MEMORY);
    assert_non_null(strstr(rig.error_before, "millrace.transactions.aborted.max"));
    mr_core_rig_kill(&rig);
    rig.plan.aborted_max = 5;
    begin_life();
    assert_int_equal(rig.core->txns.aborted.used, 5);
    mr_core_rig_deinit(&rig);
}

/* In every .txnindex an entry is not one any more. How many files there were. */
static uint32_t damage_indexes(void)
{
    static uint8_t bytes[64 << 10];
    uint32_t       damaged = 0;
    for (int64_t base = 0; base < model.end; base++) {
        char name[64];
        mr_fmt(name, sizeof name, "/data/txn-0/%020lld.txnindex", (long long)base);
        int64_t len = mr_sim_fs_get(rig.fs, name, bytes, sizeof bytes);
        if (len >= MR_ABORTED_ENTRY) {
            bytes[(uint32_t)len / MR_ABORTED_ENTRY / 2 * MR_ABORTED_ENTRY] ^= 0x40;
            mr_sim_fs_put(rig.fs, name, bytes, (size_t)len);
            damaged++;
        }
    }
    return damaged;
}

static void begin_model(uint64_t seed)
{
    random_state = seed * 104729 + 1;
    memset(&model, 0, sizeof model);
    for (int p = 0; p < PRODUCERS; p++) {
        model.first[p] = -1;
    }
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 16 << 10;
    begin_life();
}

static void some_transactions(void)
{
    for (uint32_t step = 0; step < 200; step++) {
        int p = (int)draw(PRODUCERS);
        if (draw(3) < 2) {
            step_data(p);
        } else {
            step_mark(p);
        }
    }
}

/* What a .txnindex says is in its segment's batches too: damaged between two lives, it is made again. */
static void test_damaged_indexes_are_made_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        begin_model(seed);
        some_transactions();
        for (int life = 0; life < 2; life++) { /* in the second one they are what the first one wrote */
            assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
            mr_core_rig_kill(&rig);
            assert_true(damage_indexes() > 1);
            begin_life();
            check_all();
        }
        mr_core_rig_deinit(&rig);
    }
}

/* Also when the broker did not stop: the producers at the end are the journal's then, those of the segments are not at hand. */
static void test_damaged_indexes_are_made_again_after_a_kill(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        begin_model(seed);
        for (int life = 0; life < 4; life++) { /* from the second one on, a state says where the log ends */
            some_transactions();
            mr_core_rig_kill(&rig);
            mr_sim_fs_process_kill(rig.fs, seed);
            assert_true(life == 0 || damage_indexes() > 1);
            begin_life();
            check_all();
        }
        mr_core_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories_are_what_committed_readers_see),
        cmocka_unit_test(test_marker_takes_the_permission_back),
        cmocka_unit_test(test_room_for_the_aborts_of_what_is_open),
        cmocka_unit_test(test_open_transactions_have_a_limit),
        cmocka_unit_test(test_aborted_beyond_the_limit_are_refused_by_name),
        cmocka_unit_test(test_damaged_indexes_are_made_again),
        cmocka_unit_test(test_damaged_indexes_are_made_again_after_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
