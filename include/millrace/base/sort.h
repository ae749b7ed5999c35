/*
 * sort: heap sort of an array in place: n log n at worst, no recursion, no memory.
 *
 * For names and numbers that strangers choose. Not stable: `before` decides ties, or they fall as
 * they may. Elements are at most MR_SORT_ITEM_MAX bytes, moved by memcpy.
 */
#ifndef MILLRACE_BASE_SORT_H
#define MILLRACE_BASE_SORT_H

#include "millrace/base/assert.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MR_SORT_ITEM_MAX 64

/* Whether `a` comes before `b`; `user` is the caller's. */
typedef bool mr_sort_before(const void *user, const void *a, const void *b);

static inline void mr_sort_swap(uint8_t *a, uint8_t *b, size_t size)
{
    uint8_t kept[MR_SORT_ITEM_MAX];
    memcpy(kept, a, size);
    memcpy(a, b, size);
    memcpy(b, kept, size);
}

static inline void mr_sort_sink(uint8_t *items, size_t at, size_t count, size_t size,
                                mr_sort_before *before, const void *user)
{
    for (size_t child; (child = at * 2 + 1) < count; at = child) {
        if (child + 1 < count && before(user, items + child * size, items + (child + 1) * size)) {
            child++;
        }
        if (!before(user, items + at * size, items + child * size)) {
            return;
        }
        mr_sort_swap(items + at * size, items + child * size, size);
    }
}

static inline void mr_sort(void *array, size_t count, size_t size, mr_sort_before *before,
                           const void *user)
{
    uint8_t *items = array;
    mr_assert(size <= MR_SORT_ITEM_MAX);
    for (size_t at = count / 2; at-- > 0;) {
        mr_sort_sink(items, at, count, size, before, user);
    }
    for (size_t left = count; left > 1;) {
        left--;
        mr_sort_swap(items, items + left * size, size);
        mr_sort_sink(items, 0, left, size, before, user);
    }
}

#endif
