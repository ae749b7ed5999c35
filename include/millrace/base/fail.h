/*
 * fail: in the builds that tests run (dev, bugs) anything of a planned size can be made to be empty on purpose: at its
 * n-th use, once or from then on (docs/TESTING.md, Nth failure; `millrace-sim --nth-way=NAME`). In every other build
 * mr_fail() is a constant and the compiler leaves nothing of it.
 *
 * A row of fail.def is a place that may say no. Where a caller asks for room first and then takes what must be there, the row
 * is at the asking. What gives way only when somebody gives something back is not made to be empty while nobody holds any
 * (mr_pool_try): such an emptiness cannot be, and whoever met it would wait for ever.
 *
 * The variable is weak so that this header is enough. Thread: the simulation's one; nobody else arms it.
 */
#ifndef MILLRACE_BASE_FAIL_H
#define MILLRACE_BASE_FAIL_H

#include <stdbool.h>
#include <stdint.h>

enum mr_fail_site {
#define FAIL(name_) MR_FAIL_##name_,
#include "millrace/base/fail.def"
#undef FAIL
    MR_FAIL_COUNT, /* as a site: nothing fails */
};

#ifdef MR_FAILS

struct mr_fail_plan {
    enum mr_fail_site site;
    bool              is_armed;
    bool              is_sticky; /* the uses after it fail, too */
    uint64_t          nth;       /* from 1 */
    uint64_t          uses;      /* since it was armed */
    uint64_t          failures;
};

__attribute__((weak)) struct mr_fail_plan mr_fail_plan;

/* Whether this use of the site fails. */
static inline bool mr_fail(enum mr_fail_site site)
{
    struct mr_fail_plan *plan = &mr_fail_plan;
    if (!plan->is_armed || plan->site != site) {
        return false;
    }
    plan->uses++;
    bool is_due = plan->uses == plan->nth || (plan->is_sticky && plan->uses > plan->nth);
    plan->failures += is_due;
    return is_due;
}

#else

static inline bool mr_fail(enum mr_fail_site site)
{
    (void)site;
    return false;
}

#endif

#endif
