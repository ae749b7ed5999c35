/* check_acked: a checker is trusted only after it has found every kind of lie in hand-made histories. */
#include "test.h"

#include "check_acked.h"

static const struct mr_uuid topic_a = {.bytes = {1}};
static const struct mr_uuid topic_b = {.bytes = {2}};

/* Logs 0 and 1: two partitions of topic_a; 2: topic_b. Values 0 to 9 are producer 0's for log 0, idempotent; 10
 * to 14 the same for log 1; 15 to 19 of a plain producer for log 0. */
static struct mr_check_acked *new_check(void)
{
    static struct mr_arena       arena;
    static struct mr_check_acked check;
    size_t                       bytes = 1 << 20;
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    mr_check_acked_init(&check, &arena, 100, 1000);
    assert_int_equal(mr_check_acked_log(&check, &topic_a, 0), 0);
    assert_int_equal(mr_check_acked_log(&check, &topic_a, 1), 1);
    assert_int_equal(mr_check_acked_log(&check, &topic_b, 0), 2);
    assert_int_equal(mr_check_acked_log(&check, &topic_a, 1), 1);
    for (uint64_t value = 0; value < 20; value++) {
        bool is_plain = value >= 15;
        assert_int_equal(mr_check_acked_new_value(&check, value >= 10 && !is_plain, is_plain, !is_plain, 50),
                         value);
    }
    return &check;
}

static bool finish(struct mr_check_acked *check)
{
    for (uint32_t log = 0; log < 3; log++) {
        mr_check_acked_final(check, log);
    }
    return mr_check_acked_finish(check);
}

static void assert_found(const struct mr_check_acked *check, const char *what)
{
    assert_false(mr_check_acked_is_ok(check));
    if (strstr(check->why, what) == NULL) {
        fail_msg("found \"%s\" instead of \"%s\"", check->why, what);
    }
}

static void test_good_history_passes(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_ack(check, 1, 0, 10);
    mr_check_acked_stored(check, 5);
    mr_check_acked_watermark(check, 0, 0, 1);
    mr_check_acked_watermark(check, 0, 1, 1);
    mr_check_acked_see(check, 0, 0, 0, 3, false);
    mr_check_acked_see(check, 0, 0, 0, 3, true);
    mr_check_acked_see(check, 0, 0, 1, 4, true); /* sent, never acknowledged, but there: fine */
    mr_check_acked_see(check, 0, 0, 2, 5, true);
    mr_check_acked_see(check, 0, 0, 3, 15, true); /* a plain producer's retry: twice is fine */
    mr_check_acked_see(check, 0, 0, 4, 15, true);
    mr_check_acked_see(check, 1, 0, 0, 10, true);
    assert_true(finish(check));
    assert_int_equal(check->acked_count, 2);
}

static void test_lost_acknowledgement_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_ack(check, 0, 1, 4);
    mr_check_acked_see(check, 0, 0, 0, 3, true);
    assert_false(finish(check));
    assert_found(check, "acknowledged and lost: value 4");
}

static void test_lost_stored_value_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_stored(check, 5);
    assert_false(finish(check));
    assert_found(check, "said to be stored, and lost: value 5");
}

static void test_lost_log_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 2, 0, mr_check_acked_new_value(check, 2, 0, true, 50));
    mr_check_acked_final(check, 0);
    mr_check_acked_final(check, 1);
    assert_false(mr_check_acked_finish(check));
    assert_found(check, "the log is gone");
}

static void test_deleted_log_may_be_gone(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 2, 0, mr_check_acked_new_value(check, 2, 0, true, 50));
    mr_check_acked_topic_deletion_asked(check, &topic_b);
    mr_check_acked_final(check, 0);
    mr_check_acked_final(check, 1);
    assert_true(mr_check_acked_finish(check));
}

static void test_two_values_at_one_offset_are_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 7, 3, false);
    mr_check_acked_ack(check, 0, 7, 4);
    assert_found(check, "two values: it was another before 3");
    check = new_check();
    mr_check_acked_ack(check, 0, 7, 4);
    mr_check_acked_see(check, 0, 0, 7, 3, false);
    assert_found(check, "two values: it was another before 4");
    check = new_check();
    mr_check_acked_see(check, 0, 0, 7, 4, false);
    mr_check_acked_see(check, 0, 0, 7, 3, true);
    assert_found(check, "two values");
}

static void test_invented_value_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 0, 999, false);
    assert_found(check, "nobody sent value 999");
}

static void test_value_in_another_log_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 1, 0, 0, 3, false);
    assert_found(check, "sent to another log: value 3");
    check = new_check();
    mr_check_acked_ack(check, 2, 0, 3);
    assert_found(check, "sent to another log: value 3");
}

static void test_impossible_offset_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, -1, 3);
    assert_found(check, "an impossible place");
    check = new_check();
    mr_check_acked_see(check, 0, 0, 100, 3, false);
    assert_found(check, "an impossible place");
}

static void test_duplicate_of_an_idempotent_producer_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 0, 3, true);
    mr_check_acked_see(check, 0, 0, 5, 3, true);
    assert_found(check, "twice in the log: value 3");
}

static void test_order_of_a_producer_is_kept(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 0, 4, true);
    mr_check_acked_see(check, 0, 0, 1, 3, true);
    assert_found(check, "out of the producer's order: value 3");
}

static void test_watermark_backwards_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_watermark(check, 0, 0, 9);
    mr_check_acked_watermark(check, 0, 5, 6); /* asked before 9 was told: fine */
    assert_true(mr_check_acked_is_ok(check));
    assert_int_equal(check->logs[0].watermark, 9);
    mr_check_acked_watermark(check, 0, 9, 8);
    assert_found(check, "the high watermark was here and is now 8");
}

static void test_log_start_is_what_was_asked_for(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_delete_asked(check, 0, 1);
    mr_check_acked_start(check, 0, 0);
    mr_check_acked_start(check, 0, 1);
    mr_check_acked_delete_done(check, 0, 1, 1);
    assert_true(finish(check)); /* value 3 may be gone */
    mr_check_acked_start(check, 0, 0);
    assert_found(check, "before what DeleteRecords was answered with");
    check = new_check();
    mr_check_acked_delete_asked(check, 0, 1);
    mr_check_acked_start(check, 0, 2);
    assert_found(check, "later than anybody asked for");
    check = new_check();
    mr_check_acked_delete_asked(check, 0, 5);
    mr_check_acked_delete_done(check, 0, 5, 5);
    mr_check_acked_see(check, 0, 0, 4, 3, false); /* asked for before DeleteRecords was answered: fine */
    assert_true(mr_check_acked_is_ok(check));
    mr_check_acked_see(check, 0, 5, 4, 3, false);
    assert_found(check, "seen although DeleteRecords was answered");
    check = new_check();
    mr_check_acked_delete_asked(check, 0, 5);
    mr_check_acked_delete_done(check, 0, 5, 4);
    assert_found(check, "DeleteRecords up to here was answered with 4");
}

static void test_retention_keeps_its_bytes(void **state)
{
    (void)state;
    for (int64_t kept = 3; kept <= 4; kept++) {
        struct mr_check_acked *check = new_check();
        mr_check_acked_retention(check, 0, 100 + 4 * 100 - 1); /* a record of 50 bytes takes 150 at most */
        for (int64_t offset = 0; offset < 6; offset++) {
            mr_check_acked_ack(check, 0, offset, (uint64_t)offset);
        }
        mr_check_acked_watermark(check, 0, 0, 6);
        mr_check_acked_start(check, 0, 6 - kept);
        for (int64_t offset = 6 - kept; offset < 6; offset++) {
            mr_check_acked_see(check, 0, 0, offset, (uint64_t)offset, true);
        }
        if (kept == 4) {
            assert_true(finish(check)); /* what went was not lost */
        } else {
            assert_false(finish(check));
            assert_found(check, "retention.bytes are not left");
        }
    }
}

static void test_only_what_was_damaged_is_excused(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    for (int64_t offset = 0; offset < 6; offset++) {
        mr_check_acked_ack(check, 0, offset, (uint64_t)offset);
        if (offset < 2 || offset > 3) {
            mr_check_acked_see(check, 0, 0, offset, (uint64_t)offset, true);
        }
    }
    mr_check_acked_damage(check, 0, 2, 4);
    assert_true(mr_check_acked_is_damaged(check, 0));
    assert_false(mr_check_acked_is_damaged(check, 1));
    assert_int_equal(mr_check_acked_error(check, 0, 2, 2), 4);
    assert_int_equal(mr_check_acked_error(check, 0, 3, 56), 4);
    assert_true(finish(check));
    assert_int_equal(mr_check_acked_error(check, 0, 4, 2), -1);
    assert_found(check, "nothing is damaged here");
    check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_damage(check, 0, 1, INT64_MAX);
    assert_false(finish(check));
    assert_found(check, "acknowledged and lost: value 3");
}

/* The disk is below its floor from 10 s on: of appends that were sent then one gets in, and those close behind it. */
static void test_appends_below_the_floor_are_found(void **state)
{
    (void)state;
    static const uint64_t s = 1000000000;
    struct mr_check_acked *check = new_check();
    mr_check_acked_appended(check, 0, 1 * s, 2 * s);
    mr_check_acked_floor(check, true, 10 * s);
    mr_check_acked_floor(check, true, 11 * s);
    mr_check_acked_appended(check, 0, 9 * s, 15 * s); /* admitted before */
    mr_check_acked_appended(check, 0, 16 * s, 17 * s);
    mr_check_acked_appended(check, 0, 18 * s, 19 * s);
    mr_check_acked_appended(check, 1, 20 * s, 21 * s); /* of another core, maybe */
    mr_check_acked_floor(check, false, 22 * s);
    mr_check_acked_appended(check, 0, 23 * s, 24 * s);
    mr_check_acked_floor(check, true, 25 * s);
    mr_check_acked_appended(check, 0, 26 * s, 27 * s);
    assert_true(mr_check_acked_is_ok(check));
    mr_check_acked_appended(check, 0, 30 * s, 31 * s);
    assert_found(check, "below its floor for ms: 5000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_history_passes),
        cmocka_unit_test(test_lost_acknowledgement_is_found),
        cmocka_unit_test(test_lost_stored_value_is_found),
        cmocka_unit_test(test_lost_log_is_found),
        cmocka_unit_test(test_deleted_log_may_be_gone),
        cmocka_unit_test(test_two_values_at_one_offset_are_found),
        cmocka_unit_test(test_invented_value_is_found),
        cmocka_unit_test(test_value_in_another_log_is_found),
        cmocka_unit_test(test_impossible_offset_is_found),
        cmocka_unit_test(test_duplicate_of_an_idempotent_producer_is_found),
        cmocka_unit_test(test_order_of_a_producer_is_kept),
        cmocka_unit_test(test_watermark_backwards_is_found),
        cmocka_unit_test(test_log_start_is_what_was_asked_for),
        cmocka_unit_test(test_retention_keeps_its_bytes),
        cmocka_unit_test(test_only_what_was_damaged_is_excused),
        cmocka_unit_test(test_appends_below_the_floor_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
