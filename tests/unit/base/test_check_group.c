/* check_group: hand-made bad histories of a group are found, good ones pass. */
#include "test.h"

#include "check_group.h"

static struct mr_check_group *new_check(void)
{
    static struct mr_arena       arena;
    static struct mr_check_group check;
    size_t                       bytes = 4 << 20;
    mr_arena_init(&arena, mr_test_memory(bytes), bytes);
    mr_check_group_init(&check, &arena);
    return &check;
}

static void assert_found(const struct mr_check_group *check, const char *what)
{
    if (strstr(check->why, what) == NULL) {
        fail_msg("found \"%s\" instead of \"%s\"", check->why, what);
    }
}

static void test_good_history_passes(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    mr_check_group_assigned(check, 1, 0, 0x3, 1);
    mr_check_group_assigned(check, 1, 1, 0xc, 1);
    mr_check_group_assigned(check, 2, 0, 0xf, 2);
    mr_check_group_assigned(check, 2, 0, 0xf, 2); /* the answer once more */
    uint64_t read = mr_check_group_read(check);
    mr_check_group_seen(check, read, 0, -1);
    uint32_t first = mr_check_group_commit(check, 2, 0);
    mr_check_group_acked(check, first);
    uint32_t second = mr_check_group_commit(check, 2, 0);
    read = mr_check_group_read(check);
    mr_check_group_seen(check, read, 0, first); /* the second is not answered yet: both are right */
    mr_check_group_seen(check, read, 0, second);
    uint32_t other = mr_check_group_commit(check, 2, 1);
    mr_check_group_refused(check, other);
    mr_check_group_seen(check, mr_check_group_read(check), 1, -1);
    assert_true(mr_check_group_is_ok(check));
}

static void test_two_owners_are_found(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    mr_check_group_assigned(check, 1, 0, 0x3, 1);
    mr_check_group_assigned(check, 1, 1, 0x6, 1);
    assert_found(check, "two owners of a partition in generation (1, 1)");
}

static void test_assignment_of_another_generation_is_found(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    mr_check_group_assigned(check, 2, 0, 0x3, 1);
    assert_found(check, "an assignment made for another generation");
}

static void test_commit_of_an_old_generation_is_found(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    mr_check_group_assigned(check, 1, 0, 0x3, 1);
    uint32_t early = mr_check_group_commit(check, 1, 0);
    mr_check_group_assigned(check, 2, 1, 0x3, 2);
    mr_check_group_acked(check, early); /* sent before: fine */
    assert_true(mr_check_group_is_ok(check));
    mr_check_group_acked(check, mr_check_group_commit(check, 1, 0));
    assert_found(check, "a commit of an old generation was accepted (1, 2)");
}

static void test_lost_commit_is_found(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    uint32_t first = mr_check_group_commit(check, 1, 0);
    mr_check_group_acked(check, first);
    mr_check_group_seen(check, mr_check_group_read(check), 0, -1);
    assert_found(check, "an acknowledged commit is lost (0, -1)");
    check = new_check();
    first = mr_check_group_commit(check, 1, 0);
    mr_check_group_acked(check, first);
    uint32_t second = mr_check_group_commit(check, 1, 0);
    uint64_t read = mr_check_group_read(check);
    mr_check_group_acked(check, second);
    mr_check_group_seen(check, read, 0, first); /* asked before the second was acknowledged: fine */
    assert_true(mr_check_group_is_ok(check));
    mr_check_group_seen(check, mr_check_group_read(check), 0, first);
    assert_found(check, "an acknowledged commit is lost (1, 0)");
}

static void test_commit_without_an_answer_may_come_late(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    uint32_t lost = mr_check_group_commit(check, 1, 0);
    mr_check_group_acked(check, mr_check_group_commit(check, 1, 0));
    mr_check_group_seen(check, mr_check_group_read(check), 0, lost);
    assert_true(mr_check_group_is_ok(check));
}

static void test_refused_invented_and_misplaced_offsets_are_found(void **state)
{
    (void)state;
    struct mr_check_group *check = new_check();
    uint32_t refused = mr_check_group_commit(check, 1, 0);
    mr_check_group_refused(check, refused);
    mr_check_group_seen(check, mr_check_group_read(check), 0, refused);
    assert_found(check, "a commit that was refused is visible");
    check = new_check();
    mr_check_group_seen(check, mr_check_group_read(check), 0, 5);
    assert_found(check, "an offset that nobody committed");
    check = new_check();
    mr_check_group_acked(check, mr_check_group_commit(check, 1, 0));
    mr_check_group_seen(check, mr_check_group_read(check), 1, 0);
    assert_found(check, "the offset of another partition");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_history_passes),
        cmocka_unit_test(test_two_owners_are_found),
        cmocka_unit_test(test_assignment_of_another_generation_is_found),
        cmocka_unit_test(test_commit_of_an_old_generation_is_found),
        cmocka_unit_test(test_lost_commit_is_found),
        cmocka_unit_test(test_commit_without_an_answer_may_come_late),
        cmocka_unit_test(test_refused_invented_and_misplaced_offsets_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
