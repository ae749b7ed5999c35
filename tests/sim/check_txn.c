#include "check_txn.h"

#include "millrace/base/fmt.h"

void mr_check_txn_init(struct mr_check_txn *check, struct mr_arena *arena)
{
    *check = (struct mr_check_txn){.value_next = 1};
    check->txns = MR_ARENA_GET(arena, struct mr_check_txn_one, MR_CHECK_TXN_MAX);
    for (uint32_t log = 0; log < MR_CHECK_TXN_LOGS; log++) {
        check->logs[log].seen = MR_ARENA_GET(arena, uint64_t, MR_CHECK_TXN_OFFSETS);
        check->logs[log].final = MR_ARENA_GET(arena, uint64_t, MR_CHECK_TXN_OFFSETS);
        check->logs[log].final_offsets = MR_ARENA_GET(arena, int64_t, MR_CHECK_TXN_OFFSETS);
    }
}

static void found(struct mr_check_txn *check, const char *what, int64_t a, int64_t b)
{
    if (mr_check_txn_is_ok(check)) {
        mr_fmt(check->why, sizeof check->why, "transactions: %s (%lld, %lld)", what, (long long)a, (long long)b);
    }
}

/* ---- Who writes ---- */

uint32_t mr_check_txn_begin(struct mr_check_txn *check, uint32_t id, uint32_t actor)
{
    if (check->txn_count == MR_CHECK_TXN_MAX) {
        return MR_CHECK_NO_TXN;
    }
    check->txns[check->txn_count] = (struct mr_check_txn_one){.id = id, .actor = actor};
    return check->txn_count++;
}

void mr_check_txn_record(struct mr_check_txn *check, uint32_t txn)
{
    check->txns[txn].records++;
}

uint64_t mr_check_txn_value(struct mr_check_txn *check)
{
    return check->value_next++;
}

void mr_check_txn_commit_asked(struct mr_check_txn *check, uint32_t txn)
{
    struct mr_check_txn_one *one = &check->txns[txn];
    one->fate = one->fate == MR_CHECK_TXN_OPEN ? MR_CHECK_TXN_ASKED : one->fate;
}

void mr_check_txn_committed(struct mr_check_txn *check, uint32_t txn)
{
    struct mr_check_txn_one *one = &check->txns[txn];
    if (one->fate != MR_CHECK_TXN_ASKED && one->fate != MR_CHECK_TXN_COMMITTED) {
        found(check, "one that was over is committed", txn, one->fate);
    }
    check->committed_count += one->fate == MR_CHECK_TXN_ASKED;
    one->fate = MR_CHECK_TXN_COMMITTED;
}

void mr_check_txn_over(struct mr_check_txn *check, uint32_t txn)
{
    struct mr_check_txn_one *one = &check->txns[txn];
    if (one->is_seen) {
        found(check, "a record was seen of one that is not committed", txn, one->fate);
    }
    one->fate = MR_CHECK_TXN_OVER;
}

void mr_check_txn_taken_over(struct mr_check_txn *check, uint32_t id, uint32_t before)
{
    for (uint32_t txn = 0; txn < before; txn++) {
        if (check->txns[txn].id == id && check->txns[txn].fate == MR_CHECK_TXN_OPEN) {
            mr_check_txn_over(check, txn);
        }
    }
}

/* ---- Who reads ---- */

static void see_final(struct mr_check_txn *check, uint32_t number, int64_t offset, uint64_t value, uint32_t txn)
{
    struct mr_check_txn_log *log = &check->logs[number];
    uint64_t                *last = &log->last_value[check->txns[txn].actor];
    if (log->final_count == MR_CHECK_TXN_OFFSETS) {
        found(check, "more records than offsets", number, offset);
        return;
    }
    if (number < MR_CHECK_TXN_PARTITIONS && value + 1 <= *last) { /* "out" has the order of "in" */
        found(check, "a producer's records are out of order, or twice", (int64_t)value, offset);
    }
    *last = value + 1;
    log->final[log->final_count] = value;
    log->final_offsets[log->final_count++] = offset;
    check->txns[txn].final_records++;
}

void mr_check_txn_see(struct mr_check_txn *check, uint32_t log, int64_t offset, uint64_t value, uint32_t txn,
                      bool is_final)
{
    if (txn >= check->txn_count || value == 0 || value >= check->value_next) {
        found(check, "a record that nobody wrote", (int64_t)value, txn);
        return;
    }
    struct mr_check_txn_one *one = &check->txns[txn];
    if (one->fate == MR_CHECK_TXN_OPEN || one->fate == MR_CHECK_TXN_OVER) {
        found(check, one->fate == MR_CHECK_TXN_OPEN ? "a record of one that is open was seen"
                                                    : "a record of one that is over was seen", txn, offset);
    }
    one->is_seen = true;
    if (offset < 0 || offset >= MR_CHECK_TXN_OFFSETS) {
        return; /* a long run */
    }
    uint64_t *seen = &check->logs[log].seen[offset];
    if (*seen != 0 && *seen != value + 1) {
        found(check, "two values at an offset", log, offset);
    }
    *seen = value + 1;
    if (is_final) {
        see_final(check, log, offset, value, txn);
    }
}

void mr_check_txn_stable(struct mr_check_txn *check, uint32_t number, int64_t floor, int64_t stable, int64_t watermark)
{
    struct mr_check_txn_log *log = &check->logs[number];
    if (stable > watermark) {
        found(check, "the stable part ends beyond the high watermark", stable, watermark);
    }
    if (stable < floor) {
        found(check, "the last stable offset moved back", floor, stable);
    }
    log->stable = stable > log->stable ? stable : log->stable;
}

/* ---- The end ---- */

void mr_check_txn_position(struct mr_check_txn *check, uint32_t partition, int64_t offset)
{
    const struct mr_check_txn_log *in = &check->logs[partition];
    int64_t last = in->final_count == 0 ? -1 : in->final_offsets[in->final_count - 1];
    if (offset <= last) {
        found(check, "records were moved that the committed offset is before", offset, last);
    }
    if (offset > in->stable) {
        found(check, "a committed offset beyond the records", offset, in->stable);
    }
}

static void finish_one(struct mr_check_txn *check, uint32_t txn)
{
    const struct mr_check_txn_one *one = &check->txns[txn];
    bool is_all = one->final_records == one->records;
    if (one->fate == MR_CHECK_TXN_COMMITTED && !is_all) {
        found(check, "records of one that was committed are missing", txn, (int64_t)one->records - one->final_records);
    }
    if (one->fate == MR_CHECK_TXN_ASKED && !is_all && one->final_records != 0) {
        found(check, "half of one is committed", txn, (int64_t)one->records - one->final_records);
    }
}

static void finish_pipeline(struct mr_check_txn *check, uint32_t partition)
{
    const struct mr_check_txn_log *in = &check->logs[partition];
    const struct mr_check_txn_log *out = &check->logs[MR_CHECK_TXN_PARTITIONS + partition];
    uint32_t count = in->final_count < out->final_count ? in->final_count : out->final_count;
    for (uint32_t index = 0; index < count; index++) {
        if (in->final[index] != out->final[index]) {
            found(check, "the pipeline left out, doubled or moved a record", partition, index);
            return;
        }
    }
    if (in->final_count != out->final_count) {
        found(check, "the pipeline has another number of records", in->final_count, out->final_count);
    }
}

void mr_check_txn_finish(struct mr_check_txn *check)
{
    for (uint32_t txn = 0; txn < check->txn_count; txn++) {
        finish_one(check, txn);
    }
    for (uint32_t partition = 0; partition < MR_CHECK_TXN_PARTITIONS; partition++) {
        finish_pipeline(check, partition);
    }
}
