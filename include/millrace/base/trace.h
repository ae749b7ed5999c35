/*
 * trace: what a core did last: 32-byte entries in a ring that forgets the oldest.
 *
 * A trace point is a row of events.def. It costs one comparison without a ring and one cache line
 * with one; it never fails, allocates or reads a clock: the entries of a turn carry the turn's
 * time. The ring is read when its thread stands still: by a test, or by a panic.
 *
 * Thread: the core that owns the ring. In a simulation several cores may share one, since they
 * take turns in one thread: then it holds the whole way of a request in order.
 */
#ifndef MILLRACE_BASE_TRACE_H
#define MILLRACE_BASE_TRACE_H

#include "millrace/base/arena.h"
#include "millrace/base/fmt.h"
#include "millrace/base/str.h"

#include <stdint.h>

enum mr_event {
#define EVENT(name_, first_, second_, text_) MR_EVENT_##name_,
#include "millrace/base/events.def"
#undef EVENT
    MR_EVENT_COUNT_
};

struct mr_trace_entry {
    uint64_t mono_ns;
    uint64_t first;
    uint64_t second;
    uint32_t count; /* of the entry since the ring was made */
    uint16_t event;
    uint16_t unused;
};
_Static_assert(sizeof(struct mr_trace_entry) == 32, "two entries share a cache line");

struct mr_trace {
    struct mr_trace_entry *entries;
    uint32_t mask;
    uint32_t count; /* written since the beginning */
    uint64_t mono_ns;
};

/* `entry_count` is a power of two. */
static inline void mr_trace_init(struct mr_trace *trace, struct mr_arena *arena,
                                 uint32_t entry_count)
{
    mr_assert(entry_count > 0 && (entry_count & (entry_count - 1)) == 0);
    *trace = (struct mr_trace){.mask = entry_count - 1};
    trace->entries = mr_arena_get_fresh(arena, sizeof *trace->entries * entry_count, 64);
}

/* A turn begins. `trace` may be NULL, here and below: nothing is kept. */
static inline void mr_trace_turn(struct mr_trace *trace, uint64_t mono_ns)
{
    if (trace != NULL) {
        trace->mono_ns = mono_ns;
    }
}

static inline void mr_trace(struct mr_trace *trace, enum mr_event event, uint64_t first,
                            uint64_t second)
{
    if (trace == NULL) {
        return;
    }
    uint32_t count = trace->count++;
    trace->entries[count & trace->mask] = (struct mr_trace_entry){.mono_ns = trace->mono_ns,
                                                                  .first = first,
                                                                  .second = second,
                                                                  .count = count,
                                                                  .event = (uint16_t)event};
}

/* The entry that was written as number `count`; NULL when it is not there yet or forgotten. */
static inline const struct mr_trace_entry *mr_trace_at(const struct mr_trace *trace, uint32_t count)
{
    bool is_kept = trace->count - count - 1 <= trace->mask;
    return is_kept ? &trace->entries[count & trace->mask] : NULL;
}

static inline const char *mr_event_name(uint16_t event)
{
    static const char *const names[] = {
#define EVENT(name_, first_, second_, text_) #name_,
#include "millrace/base/events.def"
#undef EVENT
    };
    return event < MR_EVENT_COUNT_ ? names[event] : "?";
}

/* One line: microseconds since `origin_ns`, the event, its fields. */
static inline void mr_trace_line(struct mr_text *text, const struct mr_trace_entry *entry,
                                 uint64_t origin_ns)
{
    static const char *const fields[][2] = {
#define EVENT(name_, first_, second_, text_) {#first_, #second_},
#include "millrace/base/events.def"
#undef EVENT
    };
    const uint64_t values[] = {entry->first, entry->second};
    uint64_t       ns = entry->mono_ns - origin_ns;
    mr_text_fmt(text, "%8llu.%llu %s", (unsigned long long)(ns / 1000),
                (unsigned long long)(ns / 100 % 10), mr_event_name(entry->event));
    for (uint32_t at = 0; at < 2 && entry->event < MR_EVENT_COUNT_; at++) {
        const char *field = fields[entry->event][at];
        if (!mr_str_equal(mr_str(field), MR_STR("none"))) {
            mr_text_fmt(text, " %s=%lld", field, (long long)values[at]);
        }
    }
    mr_text_fmt(text, "\n");
}

#endif
