/* heap, table, map, timer: random operations against models so simple that they are right. */
#include "test.h"

#include "millrace/base/heap.h"
#include "millrace/base/map.h"
#include "millrace/base/prng.h"
#include "millrace/base/table.h"
#include "millrace/base/timer.h"

static void test_heap_classes_cover_every_size_without_overlap(void **state)
{
    (void)state;
    size_t   before = 0;
    uint32_t index_before = 0;
    for (size_t bytes = 1; bytes < 100000; bytes++) {
        size_t   class_bytes;
        uint32_t index = mr_heap_class(bytes, &class_bytes);
        assert_true(class_bytes >= bytes && class_bytes % 16 == 0);
        assert_true(class_bytes - bytes <= 16 || class_bytes - bytes <= bytes / 3);
        assert_true(index == index_before || index == index_before + 1);
        assert_true(index != index_before || class_bytes == before || before == 0);
        before = class_bytes;
        index_before = index;
    }
}

static void test_heap_random_objects_keep_their_bytes(void **state)
{
    (void)state;
    enum { OBJECTS = 300 };
    static struct {
        uint8_t *at;
        size_t   bytes;
    } objects[OBJECTS];
    struct mr_heap heap;
    struct mr_prng prng = {.state = 7};
    mr_heap_init(&heap, mr_test_memory(64 << 20), 64 << 20);
    for (int step = 0; step < 200000; step++) {
        size_t which = (size_t)mr_prng_below(&prng, OBJECTS);
        if (objects[which].at != NULL) {
            for (size_t at = 0; at < objects[which].bytes; at += 97) {
                assert_int_equal(objects[which].at[at], (uint8_t)(which + at));
            }
        }
        if (objects[which].at != NULL && mr_prng_below(&prng, 3) == 0) {
            mr_heap_free(&heap, objects[which].at, objects[which].bytes);
            objects[which].at = NULL;
            continue;
        }
        size_t bytes = 1 + (size_t)mr_prng_below(&prng, 1u << mr_prng_below(&prng, 13));
        objects[which].at = mr_heap_resize(&heap, objects[which].at, objects[which].bytes, bytes);
        assert_non_null(objects[which].at);
        objects[which].bytes = bytes;
        for (size_t at = 0; at < bytes; at += 97) {
            objects[which].at[at] = (uint8_t)(which + at);
        }
    }
    for (size_t which = 0; which < OBJECTS; which++) {
        mr_heap_free(&heap, objects[which].at, objects[which].bytes);
    }
    assert_int_equal(heap.used_bytes, 0);
}

static void test_heap_exhausted_refuses_and_serves_again_after_free(void **state)
{
    (void)state;
    struct mr_heap heap;
    mr_heap_init(&heap, mr_test_memory(1 << 16), 1 << 16);
    void *large = mr_heap_try(&heap, 40000);
    assert_non_null(large);
    assert_null(mr_heap_try(&heap, 40000));
    mr_heap_free(&heap, large, 40000);
    assert_ptr_equal(mr_heap_try(&heap, 40000), large);
}

static void test_map_random_operations_match_an_array(void **state)
{
    (void)state;
    enum { KEYS = 200 };
    static int      values[KEYS];
    static bool     is_in[KEYS];
    struct mr_arena arena;
    struct mr_map   map;
    struct mr_prng  prng = {.state = 3};
    mr_arena_init(&arena, mr_test_memory(1 << 20), 1 << 20);
    mr_map_init(&map, &arena, KEYS);
    for (int step = 0; step < 200000; step++) {
        uint64_t key = mr_prng_below(&prng, KEYS);
        assert_ptr_equal(mr_map_find(&map, key), is_in[key] ? &values[key] : NULL);
        if (is_in[key]) {
            assert_ptr_equal(mr_map_remove(&map, key), &values[key]);
        } else {
            assert_null(mr_map_remove(&map, key));
            assert_true(mr_map_add(&map, key, &values[key]));
        }
        is_in[key] = !is_in[key];
    }
}

struct item {
    struct mr_table_node node;
    uint32_t             key;
    bool                 is_in;
};

static void test_table_random_operations_match_flags(void **state)
{
    (void)state;
    enum { KEYS = 500 };
    static struct item items[KEYS];
    struct mr_heap     heap;
    struct mr_table    table;
    struct mr_prng     prng = {.state = 5};
    uint32_t           used = 0;
    mr_heap_init(&heap, mr_test_memory(1 << 20), 1 << 20);
    assert_true(mr_table_init(&table, &heap));
    for (int step = 0; step < 100000; step++) {
        uint32_t     key = (uint32_t)mr_prng_below(&prng, KEYS);
        uint64_t     hash = key % 91; /* many share a hash on purpose */
        struct item *item = &items[key];
        bool         found = false;
        for (struct mr_table_node *n = mr_table_first(&table, hash); n != NULL; n = mr_table_next(n)) {
            found = found || MR_TABLE_ENTRY(n, struct item, node) == item;
        }
        assert_int_equal(found, item->is_in);
        if (item->is_in) {
            mr_table_remove(&table, &item->node);
            used--;
        } else {
            mr_table_add(&table, &item->node, hash);
            used++;
        }
        item->is_in = !item->is_in;
        assert_int_equal(table.used, used);
    }
    uint32_t walked = 0;
    for (struct mr_table_node *n = mr_table_walk(&table, NULL); n != NULL; n = mr_table_walk(&table, n)) {
        walked++;
    }
    assert_int_equal(walked, used);
    /* Slices, fewer and more than buckets: each node once. */
    for (uint32_t slices = 1; slices <= 4096; slices *= 8) {
        walked = 0;
        for (uint32_t slice = 0; slice < slices; slice++) {
            for (struct mr_table_node *n = mr_table_walk_slice(&table, slice, slices, NULL); n != NULL;
                 n = mr_table_walk_slice(&table, slice, slices, n)) {
                assert_int_equal(n->hash % slices, slice);
                walked++;
            }
        }
        assert_int_equal(walked, used);
    }
}

static void test_timers_come_out_in_order_of_deadline(void **state)
{
    (void)state;
    enum { TIMERS = 64 };
    static struct mr_timer timers[TIMERS];
    struct mr_arena        arena;
    struct mr_timers       heap;
    struct mr_prng         prng = {.state = 11};
    uint64_t               now = 0;
    mr_arena_init(&arena, mr_test_memory(1 << 16), 1 << 16);
    mr_timers_init(&heap, &arena, TIMERS);
    for (int step = 0; step < 100000; step++) {
        struct mr_timer *timer = &timers[mr_prng_below(&prng, TIMERS)];
        switch (mr_prng_below(&prng, 3)) {
        case 0:
            mr_timer_set(&heap, timer, now + mr_prng_below(&prng, 1000));
            break;
        case 1:
            mr_timer_cancel(&heap, timer);
            break;
        default:
            now += mr_prng_below(&prng, 100);
            uint64_t least = MR_NEVER;
            for (int index = 0; index < TIMERS; index++) {
                if (timers[index].place != 0 && timers[index].deadline_ns < least) {
                    least = timers[index].deadline_ns;
                }
            }
            assert_int_equal(mr_timers_next_ns(&heap), least);
            for (struct mr_timer *due = mr_timers_due(&heap, now); due != NULL;
                 due = mr_timers_due(&heap, now)) {
                assert_true(due->deadline_ns >= least && due->deadline_ns <= now);
                least = due->deadline_ns;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_classes_cover_every_size_without_overlap),
        cmocka_unit_test(test_heap_random_objects_keep_their_bytes),
        cmocka_unit_test(test_heap_exhausted_refuses_and_serves_again_after_free),
        cmocka_unit_test(test_map_random_operations_match_an_array),
        cmocka_unit_test(test_table_random_operations_match_flags),
        cmocka_unit_test(test_timers_come_out_in_order_of_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
