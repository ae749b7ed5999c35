/*
 * parts: sets of partitions, as sorted arrays.
 */
#include "coord/group/parts.h"
#include "millrace/base/sort.h"

int mr_parts_compare(const struct mr_part *a, const struct mr_part *b)
{
    int order = memcmp(a->topic_id.bytes, b->topic_id.bytes, sizeof a->topic_id.bytes);
    return order != 0 ? order : (a->partition > b->partition) - (a->partition < b->partition);
}

const struct mr_part *mr_parts_find(const struct mr_parts *set, const struct mr_part *part)
{
    uint32_t from = 0;
    uint32_t to = set->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int order = mr_parts_compare(&set->items[mid], part);
        if (order == 0) {
            return &set->items[mid];
        }
        if (order < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return NULL;
}

bool mr_parts_begin(struct mr_parts *set, uint32_t capacity, struct mr_arena *scratch)
{
    *set = (struct mr_parts){.items = MR_ARENA_TRY(scratch, struct mr_part, capacity + 1u)};
    return set->items != NULL;
}

static bool is_before(const void *user, const void *a, const void *b)
{
    (void)user;
    return mr_parts_compare(a, b) < 0;
}

void mr_parts_settle(struct mr_parts *set)
{
    bool is_sorted = true;
    for (uint32_t at = 1; at < set->count && is_sorted; at++) {
        is_sorted = mr_parts_compare(&set->items[at - 1], &set->items[at]) < 0;
    }
    if (is_sorted) {
        return;
    }
    mr_sort(set->items, set->count, sizeof *set->items, is_before, NULL);
    uint32_t kept = 0;
    for (uint32_t at = 0; at < set->count; at++) {
        if (kept == 0 || mr_parts_compare(&set->items[kept - 1], &set->items[at]) != 0) {
            set->items[kept++] = set->items[at];
        }
    }
    set->count = kept;
}

bool mr_parts_equal(const struct mr_parts *a, const struct mr_parts *b)
{
    return a->count == b->count && mr_parts_within(a, b);
}

bool mr_parts_within(const struct mr_parts *part, const struct mr_parts *whole)
{
    uint32_t at = 0;
    for (uint32_t index = 0; index < part->count; index++) {
        while (at < whole->count && mr_parts_compare(&whole->items[at], &part->items[index]) < 0) {
            at++;
        }
        if (at == whole->count || mr_parts_compare(&whole->items[at], &part->items[index]) != 0) {
            return false;
        }
    }
    return true;
}

bool mr_parts_touch(const struct mr_parts *a, const struct mr_parts *b)
{
    for (uint32_t at_a = 0, at_b = 0; at_a < a->count && at_b < b->count;) {
        int order = mr_parts_compare(&a->items[at_a], &b->items[at_b]);
        if (order == 0) {
            return true;
        }
        at_a += order < 0 ? 1 : 0;
        at_b += order > 0 ? 1 : 0;
    }
    return false;
}

bool mr_parts_assign(struct mr_heap *heap, struct mr_parts *to, const struct mr_parts *from)
{
    struct mr_part *items = NULL;
    if (from->count > 0) {
        items = mr_heap_try(heap, sizeof *items * from->count);
        if (items == NULL) {
            return false;
        }
        memcpy(items, from->items, sizeof *items * from->count);
    }
    mr_parts_free(heap, to);
    *to = (struct mr_parts){.items = items, .count = from->count};
    return true;
}

void mr_parts_free(struct mr_heap *heap, struct mr_parts *set)
{
    MR_HEAP_ARRAY_FREE(heap, set->items, set->count);
    *set = (struct mr_parts){0};
}

uint32_t mr_parts_run(const struct mr_parts *set, uint32_t at)
{
    uint32_t end = at + 1;
    while (end < set->count &&
           mr_uuid_equal(&set->items[end].topic_id, &set->items[at].topic_id)) {
        end++;
    }
    return end;
}

uint32_t mr_parts_topics(const struct mr_parts *set)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < set->count; at = mr_parts_run(set, at)) {
        count++;
    }
    return count;
}
