/*
 * A storage core against a model (tests/sim/sim_storage.h), seed after seed.
 *
 *   MR_SEED=n build/dev/test_model_log      one seed, with everything that the core logs
 *   MR_FULL=1                               thousands of seeds instead of a few hundred
 *   MR_MODEL=1                              all of them: not a gate yet, some seeds still find something
 */
#include "test.h"

#include "sim_storage.h"

#define SEEDS      200u
#define SEEDS_FULL 5000u

static void add(struct mr_sim_storage_result *sum, const struct mr_sim_storage_result *one)
{
    sum->lives += one->lives;
    sum->clean_stops += one->clean_stops;
    sum->kills += one->kills;
    sum->power_cuts += one->power_cuts;
    sum->deaths += one->deaths;
    sum->faults += one->faults;
    sum->appends += one->appends;
    sum->refusals += one->refusals;
    sum->duplicates += one->duplicates;
    sum->reads += one->reads;
    sum->cold_reads += one->cold_reads;
    sum->deletes += one->deletes;
    sum->drops += one->drops;
    sum->watches += one->watches;
    sum->lookups += one->lookups;
    sum->bytes += one->bytes;
    sum->commits += one->commits;
    sum->recycled_files += one->recycled_files;
}

static void test_model_agrees_with_the_core_for_every_seed(void **state)
{
    (void)state;
    struct mr_sim_storage_result sum = {0};
    const char                  *only = getenv("MR_SEED");
    uint64_t                     first = only != NULL ? strtoull(only, NULL, 10) : 1;
    uint64_t                     count = only != NULL ? 1 : getenv("MR_FULL") != NULL ? SEEDS_FULL : SEEDS;
    uint32_t                     failed = 0;
    if (only == NULL && getenv("MR_MODEL") == NULL) {
        skip();
    }
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct mr_sim_storage_result result;
        mr_sim_storage_run(seed, MR_SIM_HONEST, only != NULL, &result);
        if (result.why[0] != '\0') {
            failed++;
            fprintf(stderr, "MR_SEED=%llu: %s\n", (unsigned long long)seed, result.why);
        }
        add(&sum, &result);
    }
    printf("%u lives, %u stops, %u kills, %u cuts, %u deaths, %u faults; %u appends, %u refused, %u duplicates, "
           "%u reads, %u cold, %u deletes, %u drops, %u watches, %u lookups; %llu bytes, %llu commits, %llu recycled\n",
           sum.lives, sum.clean_stops, sum.kills, sum.power_cuts, sum.deaths, sum.faults, sum.appends, sum.refusals,
           sum.duplicates, sum.reads, sum.cold_reads, sum.deletes, sum.drops, sum.watches, sum.lookups,
           (unsigned long long)sum.bytes, (unsigned long long)sum.commits, (unsigned long long)sum.recycled_files);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_agrees_with_the_core_for_every_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
