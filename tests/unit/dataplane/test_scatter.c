/*
 * scatter: random partitions over random cores: every entry is found again by its number, and those of one
 * core are neighbours in the order in which they were put.
 */
#include "broker/scatter.h"
#include "millrace/base/prng.h"
#include "test.h"

#define PARTITIONS_MAX 60u
#define CORES_MAX      5u

struct entry {
    uint32_t number;
    uint32_t core;
    uint8_t bulk[40];
};

static void test_scatter_groups_by_core_and_finds_every_entry_again(void **state)
{
    static uint8_t memory[1u << 16];
    struct mr_prng prng = {.state = 3};
    (void)state;
    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t count = (uint32_t)mr_prng_below(&prng, PARTITIONS_MAX + 1);
        uint32_t core_count = 1 + (uint32_t)mr_prng_below(&prng, CORES_MAX);
        uint32_t cores[PARTITIONS_MAX];
        struct mr_arena arena;
        struct mr_scatter scatter;
        mr_arena_init(&arena, memory + mr_prng_below(&prng, 64),
                      mr_scatter_room(count, core_count, sizeof(struct entry)));
        mr_scatter_init(&scatter, &arena, count, core_count, sizeof(struct entry));
        for (uint32_t at = 0; at < count; at++) {
            cores[at] = (uint32_t)mr_prng_below(&prng, core_count + 1);
            if (cores[at] == core_count) {
                mr_scatter_refuse(&scatter, (int16_t)at);
            } else {
                struct entry *entry = mr_scatter_put(&scatter, cores[at]);
                *entry = (struct entry){.number = at, .core = cores[at]};
            }
        }
        mr_scatter_group(&scatter);
        for (uint32_t at = 0; at < count; at++) {
            const struct entry *entry = mr_scatter_entry(&scatter, at);
            assert_int_equal(entry == NULL, cores[at] == core_count);
            assert_int_equal(scatter.errors[at], entry == NULL ? at : 0);
            assert_int_equal(entry == NULL ? at : entry->number, at);
        }
        const struct entry *entries = (const struct entry *)(const void *)scatter.entries;
        assert_int_equal(scatter.firsts[0], 0);
        assert_int_equal(scatter.firsts[core_count], scatter.entry_count);
        for (uint32_t core = 0; core < core_count; core++) {
            for (uint32_t at = scatter.firsts[core]; at < scatter.firsts[core + 1]; at++) {
                bool is_first = at == scatter.firsts[core];
                assert_int_equal(entries[at].core, core);
                assert_true(is_first || entries[at - 1].number < entries[at].number);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scatter_groups_by_core_and_finds_every_entry_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
