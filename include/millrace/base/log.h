/*
 * log: a line for the operator into a ring; the chore thread writes it out. No I/O here.
 *
 * Logs are state changes and trouble, constant text plus key=value, rate-limited at the call site,
 * never per request. A full ring drops the line and counts it; the writer prints the count.
 *
 * Threads: one producer (the thread that owns the mr_log), one consumer (the log writer).
 */
#ifndef MILLRACE_BASE_LOG_H
#define MILLRACE_BASE_LOG_H

#include "millrace/base/arena.h"
#include "millrace/base/fmt.h"
#include "millrace/base/time.h"

#include <stdalign.h>
#include <stdatomic.h>

enum mr_log_level {
    MR_LOG_DEBUG,
    MR_LOG_INFO,
    MR_LOG_WARN,
    MR_LOG_ERROR,
};

#define MR_LOG_TEXT 488

struct mr_log_line {
    int64_t           unix_ms;
    enum mr_log_level level;
    uint32_t          len;
    char              text[MR_LOG_TEXT];
};

struct mr_log {
    struct mr_log_line *lines;
    uint32_t            mask;
    enum mr_log_level   level_min;
    const char         *name; /* of the thread, in each line */
    int64_t             unix_ms; /* the owner sets it at the start of each turn */

    alignas(64) _Atomic uint32_t tail; /* producer */
    uint32_t         dropped;
    alignas(64) _Atomic uint32_t head; /* consumer */
};

/* line_count is a power of two. */
static inline void mr_log_init(struct mr_log *log, struct mr_arena *arena, uint32_t line_count,
                               const char *name)
{
    *log = (struct mr_log){.mask = line_count - 1, .level_min = MR_LOG_INFO, .name = name};
    log->lines = mr_arena_get_fresh(arena, sizeof *log->lines * line_count, 64);
}

/* `log` may be NULL (tests): nothing happens. */
__attribute__((format(printf, 3, 4))) static inline void mr_log(struct mr_log *log,
                                                                enum mr_log_level level,
                                                                const char *format, ...)
{
    if (log == NULL || level < log->level_min) {
        return;
    }
    uint32_t tail = atomic_load_explicit(&log->tail, memory_order_relaxed);
    /* Pairs with the release in mr_log_retire. */
    if (tail - atomic_load_explicit(&log->head, memory_order_acquire) > log->mask) {
        log->dropped++;
        return;
    }
    struct mr_log_line *line = &log->lines[tail & log->mask];
    struct mr_text      text;
    va_list             args;
    line->unix_ms = log->unix_ms;
    line->level = level;
    mr_text_init(&text, line->text, sizeof line->text);
    va_start(args, format);
    mr_text_vfmt(&text, format, args);
    va_end(args);
    line->len = (uint32_t)text.len;
    /* Pairs with the acquire in mr_log_out. */
    atomic_store_explicit(&log->tail, tail + 1, memory_order_release);
}

/* The oldest line not yet written, or NULL. Consumer; valid until mr_log_retire. */
static inline const struct mr_log_line *mr_log_out(struct mr_log *log)
{
    uint32_t head = atomic_load_explicit(&log->head, memory_order_relaxed);
    return atomic_load_explicit(&log->tail, memory_order_acquire) == head ? NULL
                                                                          : &log->lines[head & log->mask];
}

static inline void mr_log_retire(struct mr_log *log)
{
    uint32_t head = atomic_load_explicit(&log->head, memory_order_relaxed);
    atomic_store_explicit(&log->head, head + 1, memory_order_release);
}

/* A call site's own brake: at most one line per `every_ns`. */
struct mr_log_brake {
    uint64_t next_ns;
    uint32_t held_back; /* lines not written since the last one */
};

static inline bool mr_log_may(struct mr_log_brake *brake, uint64_t now_ns, uint64_t every_ns)
{
    if (now_ns < brake->next_ns) {
        brake->held_back++;
        return false;
    }
    brake->next_ns = now_ns + every_ns;
    return true;
}

#endif
