/*
 * A storage core against a model (tests/sim/sim_storage.h), seed after seed.
 *
 *   MR_SEED=n build/dev/test_model_log      one seed, with everything that the core logs
 *   MR_SEED=n MR_SEEDS=count                that many from n on
 *   MR_FULL=1                               more seeds
 *
 * Planted by hand and found: a tail block rewritten without its IMAGE (J4, after 80 seeds), recovery that forgets
 * producers (the first seed).
 */
#include "test.h"

#include "sim_storage.h"

#include "millrace/base/hash.h"

#define SEEDS      200u
#define SEEDS_FULL 1000u
#define LIE_SEEDS  60u

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
    sum->clean_rounds += one->clean_rounds;
    sum->retained += one->retained;
    sum->full += one->full;
}

/* Half of the seeds are the plain workload; the others have one or more of the traits. */
static uint32_t traits_of(uint64_t seed)
{
    return seed % 2 == 0 ? 0 : (uint32_t)mr_hash_u64(seed) & MR_SIM_TRAITS;
}

static void test_model_agrees_with_the_core_for_every_seed(void **state)
{
    (void)state;
    struct mr_sim_storage_result sum = {0};
    const char                  *only = getenv("MR_SEED");
    const char                  *many = getenv("MR_SEEDS");
    uint64_t                     first = only != NULL ? strtoull(only, NULL, 10) : 1;
    uint64_t                     all = getenv("MR_FULL") != NULL ? SEEDS_FULL : SEEDS;
    uint64_t                     count = many != NULL ? strtoull(many, NULL, 10) : only != NULL ? 1 : all;
    uint32_t                     failed = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct mr_sim_storage_result result;
        mr_sim_storage_run(seed, MR_SIM_HONEST, traits_of(seed), only != NULL && count == 1, &result);
        if (result.why[0] != '\0') {
            failed++;
            fprintf(stderr, "MR_SEED=%llu: %s\n", (unsigned long long)seed, result.why);
        }
        add(&sum, &result);
    }
    printf("%u lives, %u stops, %u kills, %u cuts, %u deaths, %u faults; %u appends, %u refused, %u duplicates, "
           "%u reads, %u cold, %u deletes, %u drops, %u watches, %u lookups; %llu bytes, %llu commits, %llu recycled; %llu compactions, %llu starts moved, %llu "
           "times full\n",
           sum.lives, sum.clean_stops, sum.kills, sum.power_cuts, sum.deaths, sum.faults, sum.appends, sum.refusals,
           sum.duplicates, sum.reads, sum.cold_reads, sum.deletes, sum.drops, sum.watches, sum.lookups,
           (unsigned long long)sum.bytes, (unsigned long long)sum.commits, (unsigned long long)sum.recycled_files,
           (unsigned long long)sum.clean_rounds, (unsigned long long)sum.retained, (unsigned long long)sum.full);
    assert_int_equal(failed, 0);
}

/* Seeds beyond the gate's that have found something, for as long as their course stays what it was: 20349 and 20485, the
 * last entry of a sealed segment's time index, for which there was no memory. */
static void test_seeds_that_found_something(void **state)
{
    (void)state;
    static const uint64_t seeds[] = {204, 398, 820, 5117, 20349, 20485};
    for (size_t at = 0; at < sizeof seeds / sizeof seeds[0] && getenv("MR_SEED") == NULL; at++) {
        struct mr_sim_storage_result result;
        mr_sim_storage_run(seeds[at], MR_SIM_HONEST, 0, false, &result);
        assert_string_equal(result.why, "");
    }
}

/* A model that finds nothing proves nothing: each way of lying is found within a few seeds. */
static void test_model_finds_out_a_disk_that_lies(void **state)
{
    (void)state;
    if (getenv("MR_SEED") != NULL) {
        return; /* asked for something else */
    }
    static const char *const lies[MR_SIM_LIE_COUNT] = {"", "flush", "syncfs", "write", "read"};
    for (int lie = MR_SIM_HONEST + 1; lie < MR_SIM_LIE_COUNT; lie++) {
        struct mr_sim_storage_result result = {0};
        uint64_t                     seed = 0;
        while (result.why[0] == '\0' && seed < LIE_SEEDS) {
            mr_sim_storage_run(++seed, (enum mr_sim_lie)lie, 0, false, &result);
        }
        printf("%-8s seed %llu: %s\n", lies[lie], (unsigned long long)seed, result.why);
        assert_true(result.why[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_finds_out_a_disk_that_lies),
        cmocka_unit_test(test_seeds_that_found_something),
        cmocka_unit_test(test_model_agrees_with_the_core_for_every_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
