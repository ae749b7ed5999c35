/* sim_world, sim_swarm: a run is its seed's and nothing else's. */
#include "test.h"

#include "sim_swarm.h"
#include "sim_world.h"

static struct mr_sim_result run(uint64_t seed, uint64_t only)
{
    const struct mr_sim_params params = {.seed = seed, .only = only};
    struct mr_sim_result       result;
    mr_sim_world_run(&params, &result);
    return result;
}

static void test_same_seed_same_trace(void **state)
{
    (void)state;
    struct mr_sim_result first = run(3, MR_SIM_TROUBLE_ANY);
    struct mr_sim_result again = run(3, MR_SIM_TROUBLE_ANY);
    struct mr_sim_result other = run(4, MR_SIM_TROUBLE_ANY);
    assert_true(first.is_ok);
    assert_int_equal(first.trace_hash, again.trace_hash);
    assert_int_equal(first.steps, again.steps);
    assert_int_not_equal(first.trace_hash, other.trace_hash);
}

static void test_only_switches_the_rest_off(void **state)
{
    (void)state;
    struct mr_sim_result none = run(3, 0);
    assert_true(none.is_ok);
    assert_int_equal(none.resets, 0);
    assert_int_equal(none.power_cuts + none.kills, 0);
    assert_int_equal(none.starts, 1);
    struct mr_sim_result cuts = run(3, MR_SIM_TROUBLE_BIT(cut));
    assert_true(cuts.power_cuts > 0);
    assert_int_equal(cuts.kills + cuts.resets, 0);
}

/* The lots of a class do not depend on which others are on. */
static void test_streams_are_apart(void **state)
{
    (void)state;
    struct mr_sim_swarm all;
    struct mr_sim_swarm one;
    mr_sim_swarm_init(&all, 9, MR_SIM_TROUBLE_ALL);
    mr_sim_swarm_init(&one, 9, MR_SIM_TROUBLE_BIT(cut));
    for (int index = 0; index < 100; index++) {
        (void)mr_sim_swarm_hits(&all, MR_SIM_TROUBLE_reset, 2);
        assert_false(mr_sim_swarm_hits(&one, MR_SIM_TROUBLE_reset, 1));
        assert_int_equal(mr_sim_swarm_draw(&all, MR_SIM_TROUBLE_cut, 1000),
                         mr_sim_swarm_draw(&one, MR_SIM_TROUBLE_cut, 1000));
    }
}

static void test_every_class_is_on_in_some_seeds_and_off_in_others(void **state)
{
    (void)state;
    uint64_t ever_on = 0;
    uint64_t ever_off = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct mr_sim_swarm swarm;
        mr_sim_swarm_init(&swarm, seed, MR_SIM_TROUBLE_ANY);
        ever_on |= swarm.on;
        ever_off |= ~swarm.on;
    }
    assert_int_equal(ever_on, MR_SIM_TROUBLE_ALL);
    assert_int_equal(ever_off & ever_on, ever_on);
}

static void test_text_and_parse_are_inverse(void **state)
{
    (void)state;
    char     text[512];
    uint64_t on;
    for (uint64_t set = 0; set <= MR_SIM_TROUBLE_ALL; set += 37 + set / 64) {
        mr_sim_swarm_text(set, text, sizeof text);
        assert_true(mr_sim_swarm_parse(text, &on));
        assert_int_equal(on, set);
    }
    assert_false(mr_sim_swarm_parse("reset,resets", &on));
    assert_false(mr_sim_swarm_parse("", &on));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_trace),
        cmocka_unit_test(test_only_switches_the_rest_off),
        cmocka_unit_test(test_streams_are_apart),
        cmocka_unit_test(test_every_class_is_on_in_some_seeds_and_off_in_others),
        cmocka_unit_test(test_text_and_parse_are_inverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
