/*
 * wall_clock: whether the wall clock may be believed when something is to be deleted for its age.
 *
 *   wall time - monotonic time = lead     stands still while nobody sets the clock
 *
 * A lead that moves by more than five minutes (and one part in a hundred of the time since it was last confirmed, which
 * no oscillator exceeds) is a clock that somebody set, or that was wrong: it is doubted until the new lead has held for
 * an hour, or the old one is back. Nothing is deleted for its age meanwhile: late is harmless, early is not.
 *
 * Pure; times in mr_now's units. Source: reliability C6 (retention and wall clock jumps). The first look of a life
 * believes: what the clock did before, nobody knows.
 */
#ifndef MILLRACE_STORAGE_WALL_CLOCK_H
#define MILLRACE_STORAGE_WALL_CLOCK_H

#include "millrace/base/time.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_WALL_CLOCK_JUMP_MS 300000  /* more is a jump */
#define MR_WALL_CLOCK_HOLD_MS 3600000 /* a new lead that holds so long is believed */

enum mr_wall_clock_news {
    MR_WALL_CLOCK_SAME,
    MR_WALL_CLOCK_DOUBTED,  /* from now on */
    MR_WALL_CLOCK_BELIEVED, /* again */
};

struct mr_wall_clock { /* zeroed: nothing seen yet */
    bool     is_seen;
    bool     is_doubted;
    int64_t  lead_ms;    /* believed */
    int64_t  seen_ms;    /* monotonic: when it was confirmed */
    int64_t  new_lead_ms; /* doubted: since new_ms */
    int64_t  new_ms;
    int64_t  jump_ms; /* of the newest doubt */
};

/* Look at the clock; as often as one likes. */
enum mr_wall_clock_news mr_wall_clock_look(struct mr_wall_clock *clock, struct mr_now now);

#endif
