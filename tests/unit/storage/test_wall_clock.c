/*
 * wall_clock: steps of a clock, and what is believed after each; and that retention deletes nothing for its age while
 * the clock is doubted.
 */
#include "test.h"

#include "core_rig.h"
#include "log/wall_clock.h"

#define MINUTE_MS 60000ll
#define HOUR_MS   (60 * MINUTE_MS)
#define YEAR_MS   (365 * 24 * HOUR_MS)

struct step {
    int64_t mono_ms; /* passes */
    int64_t wall_ms; /* is what the wall clock goes on by meanwhile */
    bool    is_doubted;
};

static const struct {
    const char *about;
    struct step steps[6];
} cases[] = {
    {"in step", {{MINUTE_MS, MINUTE_MS, false}, {9 * HOUR_MS, 9 * HOUR_MS, false}}},
    {"a correction of four minutes", {{MINUTE_MS, 5 * MINUTE_MS, false}, {MINUTE_MS, -3 * MINUTE_MS, false}}},
    {"one part in a hundred fast, for days", {{48 * HOUR_MS, 48 * HOUR_MS / 100 * 101, false}}},
    {"ten years forward, for good",
     {{1, 10 * YEAR_MS, true}, {HOUR_MS - 2, HOUR_MS - 2, true}, {2, 2, false}, {HOUR_MS, HOUR_MS, false}}},
    {"forward and back", {{1, YEAR_MS, true}, {MINUTE_MS, MINUTE_MS - YEAR_MS, false}}},
    {"back to 1970 and forward", {{1, -50 * YEAR_MS, true}, {1, 50 * YEAR_MS, false}}},
    {"a step every half hour is never believed",
     {{HOUR_MS / 2, HOUR_MS, true}, {HOUR_MS / 2, HOUR_MS, true}, {HOUR_MS / 2, HOUR_MS, true},
      {HOUR_MS / 2, HOUR_MS, true}, {HOUR_MS, HOUR_MS, false}}},
    {"four minutes again and again", {{1, 4 * MINUTE_MS, false}, {1, 4 * MINUTE_MS, true}}},
};

static void test_clock_that_jumps_is_doubted_until_it_holds(void **state)
{
    (void)state;
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        struct mr_wall_clock clock = {0};
        struct mr_now        now = {.mono_ns = 7 * MR_NS_PER_S, .unix_ms = 1700000000000};
        assert_int_equal(mr_wall_clock_look(&clock, now), MR_WALL_CLOCK_SAME);
        for (const struct step *step = cases[index].steps; step->mono_ms > 0; step++) {
            bool was_doubted = clock.is_doubted;
            now.mono_ns += (uint64_t)step->mono_ms * MR_NS_PER_MS;
            now.unix_ms += step->wall_ms;
            enum mr_wall_clock_news news = mr_wall_clock_look(&clock, now);
            if (clock.is_doubted != step->is_doubted) {
                fail_msg("%s, step %d", cases[index].about, (int)(step - cases[index].steps));
            }
            assert_int_equal(news, clock.is_doubted == was_doubted ? MR_WALL_CLOCK_SAME
                                   : was_doubted                   ? MR_WALL_CLOCK_BELIEVED
                                                                   : MR_WALL_CLOCK_DOUBTED);
        }
    }
}

/* ---- Retention ---- */

static struct mr_core_rig rig;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.plan.retention_check_ms = 1000;
    rig.config.retention_ms = 7 * 24 * HOUR_MS;
    rig.config.segment_bytes = 4096;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static int64_t log_start(uint64_t log_id)
{
    return mr_core_rig_stat(&rig, log_id, NULL).log_start_offset;
}

static void test_retention_rests_while_the_clock_is_doubted(void **state)
{
    (void)state;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    for (uint32_t index = 0; index < 10; index++) {
        assert_int_equal(mr_core_rig_append(&rig, log, 1, 3000, rig.now.unix_ms, NULL), MR_OK);
    }
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(log_start(log), 0);
    rig.now.unix_ms += 10 * YEAR_MS;
    mr_core_rig_advance(&rig, 10 * MINUTE_MS);
    assert_int_equal(log_start(log), 0);
    rig.now.unix_ms -= 10 * YEAR_MS; /* somebody saw it */
    mr_core_rig_advance(&rig, 2 * HOUR_MS);
    assert_int_equal(log_start(log), 0);
    rig.now.unix_ms += 10 * YEAR_MS; /* nobody did: the clock is right, for all that can be known */
    mr_core_rig_advance(&rig, HOUR_MS / 2);
    assert_int_equal(log_start(log), 0);
    mr_core_rig_advance(&rig, HOUR_MS);
    assert_int_equal(log_start(log), 10);
}

static void test_retention_by_size_goes_on_while_the_clock_is_doubted(void **state)
{
    (void)state;
    rig.config.retention_bytes = 4000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t log = mr_core_rig_open(&rig, "t", 0, false);
    rig.now.unix_ms += 10 * YEAR_MS;
    for (uint32_t index = 0; index < 10; index++) {
        assert_int_equal(mr_core_rig_append(&rig, log, 1, 3000, rig.now.unix_ms, NULL), MR_OK);
    }
    mr_core_rig_advance(&rig, 5000);
    assert_int_equal(log_start(log), 8);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_that_jumps_is_doubted_until_it_holds),
        TEST(test_retention_rests_while_the_clock_is_doubted),
        TEST(test_retention_by_size_goes_on_while_the_clock_is_doubted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
