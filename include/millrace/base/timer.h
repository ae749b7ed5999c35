/*
 * timer: many deadlines, one `next`. A binary heap of intrusive timers.
 *
 * A timer wheel would set in O(1), but it rounds deadlines to ticks and its `next` is a scan; the
 * heap is exact, which a simulation wants, and at 10,000 timers a set costs about 14 comparisons.
 *
 * Thread: one.
 */
#ifndef MILLRACE_BASE_TIMER_H
#define MILLRACE_BASE_TIMER_H

#include "millrace/base/arena.h"
#include "millrace/base/time.h"

#include <stdint.h>

struct mr_timer {
    uint64_t deadline_ns;
    uint32_t place; /* index in the heap + 1; 0: not set */
    uint32_t kind;  /* the owner's */
};

struct mr_timers {
    struct mr_timer **heap;
    uint32_t          count;
    uint32_t          capacity;
};

static inline void mr_timers_init(struct mr_timers *timers, struct mr_arena *arena, uint32_t capacity)
{
    *timers = (struct mr_timers){.capacity = capacity};
    timers->heap = mr_arena_get_fresh(arena, sizeof *timers->heap * capacity, sizeof(void *));
}

static inline void mr_timers_put(struct mr_timers *timers, uint32_t at, struct mr_timer *timer)
{
    timers->heap[at] = timer;
    timer->place = at + 1;
}

static inline void mr_timers_up(struct mr_timers *timers, uint32_t at)
{
    struct mr_timer *timer = timers->heap[at];
    while (at > 0 && timers->heap[(at - 1) / 2]->deadline_ns > timer->deadline_ns) {
        mr_timers_put(timers, at, timers->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    mr_timers_put(timers, at, timer);
}

static inline void mr_timers_down(struct mr_timers *timers, uint32_t at)
{
    struct mr_timer *timer = timers->heap[at];
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= timers->count) {
            break;
        }
        if (child + 1 < timers->count &&
            timers->heap[child + 1]->deadline_ns < timers->heap[child]->deadline_ns) {
            child++;
        }
        if (timers->heap[child]->deadline_ns >= timer->deadline_ns) {
            break;
        }
        mr_timers_put(timers, at, timers->heap[child]);
        at = child;
    }
    mr_timers_put(timers, at, timer);
}

/* Does nothing to a timer that is not set. */
static inline void mr_timer_cancel(struct mr_timers *timers, struct mr_timer *timer)
{
    if (timer->place == 0) {
        return;
    }
    uint32_t at = timer->place - 1;
    mr_assert(at < timers->count && timers->heap[at] == timer);
    timer->place = 0;
    struct mr_timer *last = timers->heap[--timers->count];
    if (last != timer) {
        mr_timers_put(timers, at, last);
        mr_timers_up(timers, at);
        mr_timers_down(timers, last->place - 1);
    }
}

/* Set or move. The plan sizes the heap for every timer there can be (asserted). */
static inline void mr_timer_set(struct mr_timers *timers, struct mr_timer *timer, uint64_t deadline_ns)
{
    timer->deadline_ns = deadline_ns;
    if (timer->place == 0) {
        mr_assert(timers->count < timers->capacity);
        mr_timers_put(timers, timers->count++, timer);
    }
    mr_timers_up(timers, timer->place - 1);
    mr_timers_down(timers, timer->place - 1);
}

static inline uint64_t mr_timers_next_ns(const struct mr_timers *timers)
{
    return timers->count == 0 ? MR_NEVER : timers->heap[0]->deadline_ns;
}

/* One timer that is due, no longer set; NULL when none is. Earliest first. */
static inline struct mr_timer *mr_timers_due(struct mr_timers *timers, uint64_t now_ns)
{
    if (timers->count == 0 || timers->heap[0]->deadline_ns > now_ns) {
        return NULL;
    }
    struct mr_timer *timer = timers->heap[0];
    mr_timer_cancel(timers, timer);
    return timer;
}

#define MR_TIMER_ENTRY(timer_, type_, member_)                                                     \
    ((type_ *)(void *)((char *)(timer_)-offsetof(type_, member_)))

#endif
