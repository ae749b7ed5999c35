/* check_txn: hand-made bad histories of transactions are found, good ones pass. */
#include "test.h"

#include "check_txn.h"

#define IN  0u
#define OUT MR_CHECK_TXN_PARTITIONS

static struct mr_check_txn *new_check(void)
{
    static struct mr_arena     arena;
    static struct mr_check_txn check;
    size_t                     bytes = 4 << 20;
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    mr_check_txn_init(&check, &arena);
    return &check;
}

static void assert_found(const struct mr_check_txn *check, const char *what)
{
    if (strstr(check->why, what) == NULL) {
        fail_msg("found \"%s\" instead of \"%s\"", check->why, what);
    }
}

/* A transaction of one id with so many records, whose commit was asked for; its values begin at *first. */
static uint32_t asked(struct mr_check_txn *check, uint32_t id, uint32_t records, uint64_t *first)
{
    uint32_t txn = mr_check_txn_begin(check, id, id);
    *first = check->value_next;
    for (uint32_t index = 0; index < records; index++) {
        (void)mr_check_txn_value(check);
        mr_check_txn_record(check, txn);
    }
    mr_check_txn_commit_asked(check, txn);
    return txn;
}

static uint32_t committed(struct mr_check_txn *check, uint32_t id, uint32_t records, uint64_t *first)
{
    uint32_t txn = asked(check, id, records, first);
    mr_check_txn_committed(check, txn);
    return txn;
}

/* A record moved from "in" to "out", at the same offset. */
static void move(struct mr_check_txn *check, uint64_t value, int64_t offset)
{
    uint32_t txn = mr_check_txn_begin(check, 7, 7);
    mr_check_txn_record(check, txn);
    mr_check_txn_commit_asked(check, txn);
    mr_check_txn_committed(check, txn);
    mr_check_txn_see(check, OUT, offset, value, txn, true);
}

static void test_good_history_passes(void **state)
{
    (void)state;
    struct mr_check_txn *check = new_check();
    uint64_t a = 0;
    uint64_t b = 0;
    uint32_t first = committed(check, 1, 2, &a);
    uint32_t second = asked(check, 2, 1, &b); /* nobody heard of its end: it did not happen */
    mr_check_txn_see(check, IN, 0, a, first, false);
    mr_check_txn_see(check, IN, 0, a, first, true);
    mr_check_txn_see(check, IN, 1, a + 1, first, true);
    move(check, a, 0);
    move(check, a + 1, 1);
    mr_check_txn_taken_over(check, 2, check->txn_count);
    assert_int_equal(check->txns[second].fate, MR_CHECK_TXN_ASKED);
    mr_check_txn_over(check, second);
    mr_check_txn_stable(check, IN, 0, 4, 5);
    mr_check_txn_position(check, 0, 2);
    mr_check_txn_position(check, 0, 4); /* markers lie between */
    mr_check_txn_finish(check);
    assert_string_equal(check->why, "");
}

static void test_half_of_a_transaction_is_found(void **state)
{
    (void)state;
    uint64_t             value = 0;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = committed(check, 1, 2, &value);
    mr_check_txn_see(check, IN, 0, value, txn, true);
    mr_check_txn_finish(check);
    assert_found(check, "records of one that was committed are missing (0, 1)");
    check = new_check();
    txn = asked(check, 1, 2, &value);
    mr_check_txn_see(check, IN, 0, value, txn, true);
    mr_check_txn_finish(check);
    assert_found(check, "half of one is committed (0, 1)");
}

static void test_what_is_not_committed_is_not_seen(void **state)
{
    (void)state;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = mr_check_txn_begin(check, 1, 1);
    uint64_t             value = mr_check_txn_value(check);
    mr_check_txn_see(check, IN, 0, value, txn, false);
    assert_found(check, "a record of one that is open was seen (0, 0)");
    check = new_check();
    txn = mr_check_txn_begin(check, 1, 1);
    value = mr_check_txn_value(check);
    mr_check_txn_over(check, txn);
    mr_check_txn_see(check, IN, 3, value, txn, false);
    assert_found(check, "a record of one that is over was seen (0, 3)");
    check = new_check();
    txn = asked(check, 1, 1, &value);
    mr_check_txn_see(check, IN, 3, value, txn, false); /* it may be committed */
    assert_string_equal(check->why, "");
    mr_check_txn_over(check, txn); /* but it was refused */
    assert_found(check, "a record was seen of one that is not committed");
    check = new_check();
    mr_check_txn_see(check, IN, 0, 5, 0, false);
    assert_found(check, "a record that nobody wrote");
}

static void test_a_zombie_is_found(void **state)
{
    (void)state;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = mr_check_txn_begin(check, 1, 1);
    uint32_t             heir = mr_check_txn_begin(check, 1, 2);
    mr_check_txn_taken_over(check, 1, heir);
    mr_check_txn_commit_asked(check, heir); /* began when the other one had asked: perhaps behind it */
    mr_check_txn_committed(check, heir);
    assert_string_equal(check->why, "");
    mr_check_txn_commit_asked(check, txn);
    mr_check_txn_committed(check, txn);
    assert_found(check, "one that was over is committed");
}

static void test_order_and_doubles_are_found(void **state)
{
    (void)state;
    uint64_t             value = 0;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = committed(check, 1, 2, &value);
    mr_check_txn_see(check, IN, 0, value + 1, txn, true);
    mr_check_txn_see(check, IN, 1, value, txn, true);
    assert_found(check, "a producer's records are out of order, or twice");
    check = new_check();
    txn = committed(check, 1, 2, &value);
    mr_check_txn_see(check, IN, 0, value, txn, false);
    mr_check_txn_see(check, IN, 0, value + 1, txn, false);
    assert_found(check, "two values at an offset (0, 0)");
}

static void test_stable_offset_is_judged(void **state)
{
    (void)state;
    struct mr_check_txn *check = new_check();
    mr_check_txn_stable(check, IN, 0, 6, 5);
    assert_found(check, "the stable part ends beyond the high watermark (6, 5)");
    check = new_check();
    mr_check_txn_stable(check, IN, 0, 6, 9);
    mr_check_txn_stable(check, IN, 2, 4, 9); /* an older answer that comes late */
    assert_string_equal(check->why, "");
    mr_check_txn_stable(check, IN, check->logs[IN].stable, 5, 9);
    assert_found(check, "the last stable offset moved back (6, 5)");
}

static void test_pipeline_is_judged(void **state)
{
    (void)state;
    uint64_t             value = 0;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = committed(check, 1, 2, &value);
    mr_check_txn_see(check, IN, 0, value, txn, true);
    mr_check_txn_see(check, IN, 1, value + 1, txn, true);
    move(check, value + 1, 0);
    mr_check_txn_finish(check);
    assert_found(check, "the pipeline left out, doubled or moved a record (0, 0)");
    check = new_check();
    txn = committed(check, 1, 1, &value);
    mr_check_txn_see(check, IN, 0, value, txn, true);
    mr_check_txn_finish(check);
    assert_found(check, "the pipeline has another number of records (1, 0)");
}

static void test_committed_offset_is_judged(void **state)
{
    (void)state;
    uint64_t             value = 0;
    struct mr_check_txn *check = new_check();
    uint32_t             txn = committed(check, 1, 1, &value);
    mr_check_txn_see(check, IN, 4, value, txn, true);
    mr_check_txn_stable(check, IN, 0, 6, 6);
    mr_check_txn_position(check, 0, 5);
    assert_string_equal(check->why, "");
    mr_check_txn_position(check, 0, 7);
    assert_found(check, "a committed offset beyond the records (7, 6)");
    check = new_check();
    txn = committed(check, 1, 1, &value);
    mr_check_txn_see(check, IN, 4, value, txn, true);
    mr_check_txn_position(check, 0, 4);
    assert_found(check, "records were moved that the committed offset is before (4, 4)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_history_passes),
        cmocka_unit_test(test_half_of_a_transaction_is_found),
        cmocka_unit_test(test_what_is_not_committed_is_not_seen),
        cmocka_unit_test(test_a_zombie_is_found),
        cmocka_unit_test(test_order_and_doubles_are_found),
        cmocka_unit_test(test_stable_offset_is_judged),
        cmocka_unit_test(test_pipeline_is_judged),
        cmocka_unit_test(test_committed_offset_is_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
