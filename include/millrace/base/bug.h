/*
 * bug: the mutants of the test build. `millrace --bug=NAME COMMAND` of the preset `bugs` is wrong in one
 * known way, and the interop test that stands beside NAME in tests/interop/rows.tsv must notice it:
 * a test that passes against its broken broker proves nothing. In every other build these functions
 * are constants and the compiler leaves nothing of them.
 *
 * The variables are weak so that this header is enough: one of each, whatever is linked.
 * Threads: the name is set before any is started; one mutant counts its calls in one thread.
 */
#ifndef MILLRACE_BASE_BUG_H
#define MILLRACE_BASE_BUG_H

#include <stdbool.h>
#include <stdint.h>

#ifdef MR_BUGS

#include <string.h>

__attribute__((weak)) const char *mr_bug_name;
__attribute__((weak)) uint32_t    mr_bug_calls;

/* Whether this broker carries the mutant `name`. */
static inline bool mr_bug(const char *name)
{
    return mr_bug_name != NULL && strlen(mr_bug_name) == strlen(name) &&
           memcmp(mr_bug_name, name, strlen(name)) == 0;
}

/* Whether it does and this is call number `which` (1 is the first) of all that asked for it. */
static inline bool mr_bug_nth(const char *name, uint32_t which)
{
    return mr_bug(name) && ++mr_bug_calls == which;
}

/* Likewise for every call whose number `step` divides. */
static inline bool mr_bug_each(const char *name, uint32_t step)
{
    return mr_bug(name) && ++mr_bug_calls % step == 0;
}

#else

static inline bool mr_bug(const char *name)
{
    (void)name;
    return false;
}

static inline bool mr_bug_nth(const char *name, uint32_t which)
{
    (void)name;
    (void)which;
    return false;
}

static inline bool mr_bug_each(const char *name, uint32_t step)
{
    (void)name;
    (void)step;
    return false;
}

#endif

#endif
