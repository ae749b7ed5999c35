/*
 * offset_index, time_index and epoch_cache: small sorted tables against a linear search; and what
 * may be believed of a file that somebody damaged.
 */
#include "test.h"

#include "log/epoch_cache.h"
#include "log/offset_index.h"
#include "log/time_index.h"
#include "millrace/base/prng.h"

#define ENTRIES 200

static void test_offset_index_find_equals_a_linear_search(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 1};
    uint8_t        bytes[ENTRIES * MR_OFFSET_INDEX_ENTRY];
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t count = (uint32_t)mr_prng_below(&prng, ENTRIES);
        int32_t  relative = 0;
        for (uint32_t index = 0; index < count; index++) {
            relative += 1 + (int32_t)mr_prng_below(&prng, 5);
            mr_offset_index_store(bytes + index * MR_OFFSET_INDEX_ENTRY,
                                  (struct mr_offset_index_entry){.relative = relative, .pos = index * 4096});
        }
        for (int32_t wanted = -1; wanted <= relative + 1; wanted++) {
            struct mr_offset_index_entry found = {.relative = -1};
            int64_t                      best = -1;
            for (uint32_t index = 0; index < count; index++) {
                if (mr_offset_index_load(bytes + index * MR_OFFSET_INDEX_ENTRY).relative <= wanted) {
                    best = index;
                }
            }
            assert_int_equal(mr_offset_index_find(bytes, count, wanted, &found), best >= 0);
            assert_true(best < 0 || found.pos == best * 4096);
        }
    }
}

static void test_time_index_find_equals_a_linear_search(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 2};
    uint8_t        bytes[ENTRIES * MR_TIME_INDEX_ENTRY];
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t count = (uint32_t)mr_prng_below(&prng, ENTRIES);
        int64_t  timestamp = -3;
        for (uint32_t index = 0; index < count; index++) {
            timestamp += 1 + (int64_t)mr_prng_below(&prng, 5);
            mr_time_index_store(bytes + index * MR_TIME_INDEX_ENTRY,
                                (struct mr_time_index_entry){.timestamp = timestamp, .relative = (int32_t)index});
        }
        for (int64_t wanted = -4; wanted <= timestamp + 1; wanted++) {
            struct mr_time_index_entry found = {.relative = -1};
            int64_t                    best = -1;
            for (uint32_t index = 0; index < count; index++) {
                if (mr_time_index_load(bytes + index * MR_TIME_INDEX_ENTRY).timestamp < wanted) {
                    best = index;
                }
            }
            assert_int_equal(mr_time_index_find_before(bytes, count, wanted, &found), best >= 0);
            assert_true(best < 0 || found.relative == best);
        }
    }
}

/* What is on disk is big-endian, as Kafka's. */
static void test_index_entries_have_kafkas_bytes(void **state)
{
    (void)state;
    static const uint8_t offset_bytes[] = {0x01, 0x02, 0x03, 0x04, 0x0a, 0x0b, 0x0c, 0x0d};
    static const uint8_t time_bytes[] = {0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0, 0x01, 0x02, 0x03, 0x04};
    uint8_t              bytes[12];
    mr_offset_index_store(bytes, (struct mr_offset_index_entry){.relative = 0x01020304, .pos = 0x0a0b0c0d});
    assert_memory_equal(bytes, offset_bytes, sizeof offset_bytes);
    mr_time_index_store(bytes, (struct mr_time_index_entry){.timestamp = 1700000000000, .relative = 0x01020304});
    assert_memory_equal(bytes, time_bytes, sizeof time_bytes);
}

static void test_offset_index_check_believes_up_to_the_first_lie(void **state)
{
    (void)state;
    static const struct {
        const char                  *about;
        struct mr_offset_index_entry third;
        uint32_t                     believed;
    } cases[] = {
        {"true", {30, 300}, 4},
        {"offset as before", {20, 300}, 2},
        {"offset falls", {19, 300}, 2},
        {"offset negative", {-30, 300}, 2},
        {"position as before", {30, 200}, 2},
        {"position falls", {30, 0}, 2},
        {"position at the end of the log", {30, 1000}, 2},
        {"position beyond", {30, UINT32_MAX}, 2},
        {"offset beyond the segment", {41, 300}, 2},
        {"the zeros of a preallocated tail", {0, 0}, 2},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        uint8_t bytes[4 * MR_OFFSET_INDEX_ENTRY];
        mr_offset_index_store(bytes, (struct mr_offset_index_entry){10, 100});
        mr_offset_index_store(bytes + 8, (struct mr_offset_index_entry){20, 200});
        mr_offset_index_store(bytes + 16, cases[index].third);
        mr_offset_index_store(bytes + 24, (struct mr_offset_index_entry){40, 400});
        uint32_t believed =
            mr_offset_index_check(bytes, 4, (struct mr_offset_index_entry){.relative = -1}, 40, 1000);
        if (believed != cases[index].believed) {
            fail_msg("%s: %u", cases[index].about, believed);
        }
        /* The same in two pieces, as a file is read. */
        uint32_t first = mr_offset_index_check(bytes, 2, (struct mr_offset_index_entry){.relative = -1}, 40, 1000);
        uint32_t second = mr_offset_index_check(bytes + 16, 2, (struct mr_offset_index_entry){20, 200}, 40, 1000);
        assert_int_equal(first + second, believed);
    }
}

/* A batch of several records at the very start: its entry may have position 0. */
static void test_offset_index_check_first_position_may_be_0(void **state)
{
    (void)state;
    uint8_t bytes[MR_OFFSET_INDEX_ENTRY];
    mr_offset_index_store(bytes, (struct mr_offset_index_entry){5, 0});
    assert_int_equal(mr_offset_index_check(bytes, 1, (struct mr_offset_index_entry){.relative = -1}, 5, 10), 1);
}

static void test_time_index_check_believes_up_to_the_first_lie(void **state)
{
    (void)state;
    static const struct {
        const char                *about;
        struct mr_time_index_entry third;
        uint32_t                   believed;
    } cases[] = {
        {"true", {3000, 30}, 4},
        {"time as before", {2000, 30}, 2},
        {"time falls", {1999, 30}, 2},
        {"offset as before", {3000, 20}, 2},
        {"offset beyond the segment", {3000, 41}, 2},
        {"the zeros of a preallocated tail", {0, 0}, 2},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        uint8_t bytes[4 * MR_TIME_INDEX_ENTRY];
        mr_time_index_store(bytes, (struct mr_time_index_entry){1000, 10});
        mr_time_index_store(bytes + 12, (struct mr_time_index_entry){2000, 20});
        mr_time_index_store(bytes + 24, cases[index].third);
        mr_time_index_store(bytes + 36, (struct mr_time_index_entry){4000, 40});
        uint32_t believed = mr_time_index_check(
            bytes, 4, (struct mr_time_index_entry){.timestamp = -1, .relative = -1}, 40);
        if (believed != cases[index].believed) {
            fail_msg("%s: %u", cases[index].about, believed);
        }
    }
}

/* What is left of a file whose first block was never written, and whose later ones were. */
static void test_index_checks_do_not_begin_with_zeros(void **state)
{
    (void)state;
    uint8_t times[2 * MR_TIME_INDEX_ENTRY] = {0};
    uint8_t places[2 * MR_OFFSET_INDEX_ENTRY] = {0};
    mr_time_index_store(times + MR_TIME_INDEX_ENTRY, (struct mr_time_index_entry){1000, 10});
    mr_offset_index_store(places + MR_OFFSET_INDEX_ENTRY, (struct mr_offset_index_entry){10, 100});
    assert_int_equal(
        mr_time_index_check(times, 2, (struct mr_time_index_entry){.timestamp = -1, .relative = -1}, 40), 0);
    assert_int_equal(mr_offset_index_check(places, 2, (struct mr_offset_index_entry){.relative = -1}, 40, 1000), 0);
}

/* ---- Epochs ---- */

static struct mr_epoch_entry memory[64];

static void fill(struct mr_epoch_cache *cache)
{
    mr_epoch_cache_init(cache);
    assert_null(mr_epoch_cache_grow(cache, memory, 64));
    assert_true(mr_epoch_cache_assign(cache, 2, 0));
    assert_true(mr_epoch_cache_assign(cache, 4, 10));
    assert_true(mr_epoch_cache_assign(cache, 7, 30));
}

static void test_epochs_where_each_ends(void **state)
{
    (void)state;
    static const struct {
        int32_t epoch, end_epoch;
        int64_t end;
    } cases[] = {
        {-1, -1, -1}, {0, 0, 0},  {1, 1, 0},  {2, 2, 10}, /* older than all: as Kafka, the epoch itself and the start */
        {3, 2, 10},   {4, 4, 30}, {5, 4, 30}, {7, 7, 50}, {8, -1, -1},
    };
    struct mr_epoch_cache cache;
    fill(&cache);
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        int32_t end_epoch;
        int64_t end;
        mr_epoch_cache_end(&cache, cases[index].epoch, 50, &end_epoch, &end);
        if (end_epoch != cases[index].end_epoch || end != cases[index].end) {
            fail_msg("epoch %d: %d, %ld", cases[index].epoch, end_epoch, (long)end);
        }
    }
    mr_epoch_cache_init(&cache);
    int32_t end_epoch;
    int64_t end;
    mr_epoch_cache_end(&cache, 0, 50, &end_epoch, &end);
    assert_true(end_epoch == -1 && end == -1);
}

static void test_epochs_of_offsets(void **state)
{
    (void)state;
    struct mr_epoch_cache cache;
    fill(&cache);
    assert_int_equal(mr_epoch_cache_at(&cache, -1), -1);
    assert_int_equal(mr_epoch_cache_at(&cache, 0), 2);
    assert_int_equal(mr_epoch_cache_at(&cache, 9), 2);
    assert_int_equal(mr_epoch_cache_at(&cache, 10), 4);
    assert_int_equal(mr_epoch_cache_at(&cache, 29), 4);
    assert_int_equal(mr_epoch_cache_at(&cache, 1000), 7);
    assert_int_equal(mr_epoch_cache_latest(&cache), 7);
}

static void test_epochs_assigned_again_or_against_what_is_there(void **state)
{
    (void)state;
    struct mr_epoch_cache cache;
    fill(&cache);
    assert_false(mr_epoch_cache_assign(&cache, 7, 40)); /* goes on */
    assert_false(mr_epoch_cache_assign(&cache, -1, 40));
    assert_int_equal(cache.count, 3);
    /* A leader that begins at the same offset: the epoch without records gives way. */
    assert_true(mr_epoch_cache_assign(&cache, 9, 30));
    assert_int_equal(cache.count, 3);
    assert_int_equal(mr_epoch_cache_latest(&cache), 9);
    /* After a truncation below: everything from there on gives way. */
    assert_true(mr_epoch_cache_assign(&cache, 10, 5));
    assert_int_equal(cache.count, 2);
    assert_int_equal(mr_epoch_cache_at(&cache, 6), 10);
}

static void test_epochs_trimmed_at_both_ends(void **state)
{
    (void)state;
    struct mr_epoch_cache cache;
    fill(&cache);
    assert_false(mr_epoch_cache_trim_start(&cache, 0));
    assert_true(mr_epoch_cache_trim_start(&cache, 15)); /* inside epoch 4 */
    assert_int_equal(cache.count, 2);
    assert_true(cache.entries[0].epoch == 4 && cache.entries[0].start_offset == 15);
    assert_true(mr_epoch_cache_trim_start(&cache, 99)); /* behind everything: the latest remains, moved */
    assert_int_equal(cache.count, 1);
    assert_true(cache.entries[0].epoch == 7 && cache.entries[0].start_offset == 99);
    fill(&cache);
    assert_false(mr_epoch_cache_trim_end(&cache, 31));
    assert_true(mr_epoch_cache_trim_end(&cache, 30));
    assert_int_equal(mr_epoch_cache_latest(&cache), 4);
    assert_true(mr_epoch_cache_trim_end(&cache, 0));
    assert_int_equal(mr_epoch_cache_latest(&cache), -1);
}

static void test_epochs_beyond_the_inline_ones_need_memory_or_lose_the_oldest(void **state)
{
    (void)state;
    struct mr_epoch_cache cache;
    mr_epoch_cache_init(&cache);
    for (int32_t epoch = 0; epoch < MR_EPOCH_INLINE; epoch++) {
        assert_false(mr_epoch_cache_is_full(&cache));
        assert_true(mr_epoch_cache_assign(&cache, epoch, epoch * 10));
    }
    assert_true(mr_epoch_cache_is_full(&cache));
    assert_true(mr_epoch_cache_assign(&cache, MR_EPOCH_INLINE, MR_EPOCH_INLINE * 10));
    assert_int_equal(cache.count, MR_EPOCH_INLINE);
    assert_int_equal(cache.entries[0].epoch, 1);
    struct mr_epoch_entry more[32];
    assert_null(mr_epoch_cache_grow(&cache, more, 32));
    assert_ptr_equal(cache.entries, more);
    assert_int_equal(cache.entries[0].epoch, 1);
    assert_ptr_equal(mr_epoch_cache_grow(&cache, memory, 64), more);
    assert_int_equal(cache.count, MR_EPOCH_INLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offset_index_find_equals_a_linear_search),
        cmocka_unit_test(test_time_index_find_equals_a_linear_search),
        cmocka_unit_test(test_index_entries_have_kafkas_bytes),
        cmocka_unit_test(test_offset_index_check_believes_up_to_the_first_lie),
        cmocka_unit_test(test_offset_index_check_first_position_may_be_0),
        cmocka_unit_test(test_time_index_check_believes_up_to_the_first_lie),
        cmocka_unit_test(test_index_checks_do_not_begin_with_zeros),
        cmocka_unit_test(test_epochs_where_each_ends),
        cmocka_unit_test(test_epochs_of_offsets),
        cmocka_unit_test(test_epochs_assigned_again_or_against_what_is_there),
        cmocka_unit_test(test_epochs_trimmed_at_both_ends),
        cmocka_unit_test(test_epochs_beyond_the_inline_ones_need_memory_or_lose_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
