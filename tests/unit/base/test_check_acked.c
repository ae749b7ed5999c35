/* check_acked: a checker is trusted only after it has found every kind of lie in hand-made histories. */
#include "test.h"

#include "check_acked.h"

static struct mr_check_acked *new_check(void)
{
    static struct mr_arena arena;
    static struct mr_check_acked check;
    size_t bytes = (size_t)MR_CHECK_PARTITIONS * 2 * 100 * 8 + (1 << 16);
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    mr_check_acked_init(&check, &arena, 100, 1000);
    for (int value = 0; value < 10; value++) {
        assert_int_equal(mr_check_acked_new_value(&check), value);
    }
    return &check;
}

static void test_good_history_passes(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_ack(check, 1, 0, 4);
    mr_check_acked_see(check, 0, 0, 3, false);
    mr_check_acked_see(check, 0, 0, 3, true);
    mr_check_acked_see(check, 0, 1, 5, true); /* sent, never acknowledged, but there: fine */
    mr_check_acked_see(check, 1, 0, 4, true);
    assert_true(mr_check_acked_finish(check));
    assert_int_equal(check->acked_count, 2);
}

static void test_lost_acknowledgement_is_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_ack(check, 0, 0, 3);
    mr_check_acked_ack(check, 0, 1, 4);
    mr_check_acked_see(check, 0, 0, 3, true);
    assert_false(mr_check_acked_finish(check));
}

static void test_two_values_at_one_offset_are_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 3, false);
    mr_check_acked_ack(check, 0, 0, 4);
    assert_false(mr_check_acked_finish(check));
    check = new_check();
    mr_check_acked_ack(check, 0, 0, 4);
    mr_check_acked_see(check, 0, 0, 3, true);
    assert_false(mr_check_acked_finish(check));
}

static void test_duplicate_and_invented_values_are_found(void **state)
{
    (void)state;
    struct mr_check_acked *check = new_check();
    mr_check_acked_see(check, 0, 0, 3, true);
    mr_check_acked_see(check, 0, 1, 3, true);
    assert_false(mr_check_acked_finish(check));
    check = new_check();
    mr_check_acked_see(check, 0, 0, 77, true);
    assert_false(mr_check_acked_finish(check));
    check = new_check();
    mr_check_acked_ack(check, 0, 1000000, 3);
    assert_false(mr_check_acked_finish(check));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_history_passes),
        cmocka_unit_test(test_lost_acknowledgement_is_found),
        cmocka_unit_test(test_two_values_at_one_offset_are_found),
        cmocka_unit_test(test_duplicate_and_invented_values_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
