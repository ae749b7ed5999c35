/* check_keyed: hand-made bad histories of a compacted log are found, good ones pass. */
#include "test.h"

#include "check_keyed.h"

#define RETENTION 100
#define NONE      MR_CHECK_KEYED_NONE

static struct mr_check_keyed check;

static int setup(void **state)
{
    static struct mr_arena arena;
    (void)state;
    mr_arena_init(&arena, mr_test_memory(1 << 20), 1 << 20);
    mr_check_keyed_init(&check, &arena, RETENTION);
    return 0;
}

static uint32_t put(uint32_t key, bool is_tombstone, int64_t offset, int64_t at_ms)
{
    uint32_t write = mr_check_keyed_send(&check, key, is_tombstone, at_ms);
    if (offset >= 0) {
        mr_check_keyed_acked(&check, write, offset);
    }
    return write;
}

static void assert_found(const char *what)
{
    if (what == NULL ? check.why[0] != '\0' : strstr(check.why, what) == NULL) {
        fail_msg("found \"%s\" instead of \"%s\"", check.why, what == NULL ? "" : what);
    }
}

static void test_what_is_there_and_what_is_superseded_passes(void **state)
{
    (void)state;
    uint32_t a = put(1, false, 0, 0);
    uint32_t b = put(1, false, 1, 0);
    uint32_t c = put(2, false, 2, 0);
    uint32_t unheard = put(2, false, -1, 0);
    mr_check_keyed_begin(&check);
    mr_check_keyed_see(&check, a, 1, 0);
    mr_check_keyed_see(&check, b, 1, 1);
    mr_check_keyed_see(&check, c, 2, 2);
    mr_check_keyed_end(&check, 10);
    assert_int_equal(check.missing, 0);
    mr_check_keyed_begin(&check); /* compacted; and what was not acknowledged came to be */
    mr_check_keyed_see(&check, b, 1, 1);
    mr_check_keyed_see(&check, unheard, 2, 3);
    mr_check_keyed_end(&check, 20);
    assert_int_equal(check.missing, 2);
    mr_check_keyed_begin(&check); /* by now it is the one that counts */
    mr_check_keyed_see(&check, b, 1, 1);
    assert_found(NULL);
    mr_check_keyed_end(&check, 30);
    assert_found("the newest value is gone (key 2, offset 3)");
}

static void test_the_newest_value_must_stay(void **state)
{
    (void)state;
    uint32_t a = put(1, false, 0, 0);
    (void)put(1, false, 1, 0);
    mr_check_keyed_begin(&check);
    mr_check_keyed_see(&check, a, 1, 0);
    mr_check_keyed_end(&check, 1000);
    assert_found("the newest value is gone (key 1, offset 1)");
}

static void test_a_newer_one_that_came_meanwhile_will_do(void **state)
{
    (void)state;
    (void)put(1, false, 0, 0);
    mr_check_keyed_begin(&check);
    uint32_t b = put(1, false, 1, 0);
    mr_check_keyed_see(&check, b, 1, 1);
    mr_check_keyed_end(&check, 10);
    assert_found(NULL);
}

/* A tombstone may go when its time is over, and not early. */
static void test_tombstones_stay_for_their_time(void **state)
{
    (void)state;
    static const struct {
        int64_t     end_ms;
        bool        is_doubted;
        const char *what;
    } cases[] = {
        {10 + RETENTION, false, NULL},
        {9 + RETENTION, false, "a tombstone is gone too early"},
        {9 + RETENTION, true, NULL},
    };
    for (uint32_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        (void)setup(state);
        (void)put(1, false, 0, 0);
        (void)put(1, true, 1, 10);
        check.is_time_doubted = cases[index].is_doubted;
        mr_check_keyed_begin(&check);
        mr_check_keyed_end(&check, cases[index].end_ms);
        assert_found(cases[index].what);
    }
}

/* It went behind a slow reader, and what it deleted before it; the next one does not see that any more. */
static void test_what_was_deleted_stays_so(void **state)
{
    (void)state;
    uint32_t a = put(1, false, 0, 0);
    (void)put(1, true, 1, 10);
    mr_check_keyed_begin(&check);
    mr_check_keyed_see(&check, a, 1, 0);
    mr_check_keyed_end(&check, 10 + RETENTION);
    assert_found(NULL);
    mr_check_keyed_begin(&check);
    mr_check_keyed_see(&check, a, 1, 0);
    assert_found("what was deleted is there again");
}

/* A value is gone because a tombstone, sent behind it and perhaps not heard of, deleted it. */
static void test_a_tombstone_nobody_heard_of_deletes_too(void **state)
{
    (void)state;
    (void)put(1, false, 0, 0);
    (void)put(1, true, -1, 10);
    mr_check_keyed_begin(&check);
    mr_check_keyed_end(&check, 10 + RETENTION);
    assert_found(NULL);
    mr_check_keyed_begin(&check);
    mr_check_keyed_see(&check, NONE, 1, 1); /* there it is */
    mr_check_keyed_end(&check, 200);
    assert_found(NULL);
    assert_int_equal(check.writes[1].offset, 1);
}

static void test_records_stay_in_their_places(void **state)
{
    (void)state;
    uint32_t a = put(1, false, 0, 0);
    mr_check_keyed_see(&check, a, 1, 1);
    assert_found("a record is at another offset than before");
    (void)setup(state);
    (void)put(1, false, 0, 0);
    (void)put(1, false, 0, 0);
    assert_found("an offset has another record than before");
    (void)setup(state);
    a = put(1, false, 0, 0);
    mr_check_keyed_see(&check, a, 2, 0);
    assert_found("a record that nobody sent");
    (void)setup(state);
    a = put(1, false, 0, 0);
    mr_check_keyed_see(&check, NONE, 1, 0);
    assert_found("a record that nobody sent");
    (void)setup(state);
    mr_check_keyed_see(&check, 0, 1, 0);
    assert_found("a record that nobody sent");
    (void)setup(state);
    a = put(1, false, 0, 0);
    uint32_t b = put(1, false, 1, 0);
    mr_check_keyed_see(&check, b, 1, 1);
    mr_check_keyed_see(&check, a, 1, 0);
    assert_found("a reader goes backwards");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_is_there_and_what_is_superseded_passes, setup),
        cmocka_unit_test_setup(test_the_newest_value_must_stay, setup),
        cmocka_unit_test_setup(test_a_newer_one_that_came_meanwhile_will_do, setup),
        cmocka_unit_test_setup(test_tombstones_stay_for_their_time, setup),
        cmocka_unit_test_setup(test_what_was_deleted_stays_so, setup),
        cmocka_unit_test_setup(test_a_tombstone_nobody_heard_of_deletes_too, setup),
        cmocka_unit_test_setup(test_records_stay_in_their_places, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
