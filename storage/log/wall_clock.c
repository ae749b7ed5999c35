#include "log/wall_clock.h"

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

static void confirm(struct mr_wall_clock *clock, int64_t lead_ms, int64_t mono_ms)
{
    clock->is_seen = true;
    clock->is_doubted = false;
    clock->lead_ms = lead_ms;
    clock->seen_ms = mono_ms;
}

enum mr_wall_clock_news mr_wall_clock_look(struct mr_wall_clock *clock, struct mr_now now)
{
    int64_t mono_ms = (int64_t)(now.mono_ns / MR_NS_PER_MS);
    int64_t lead_ms = now.unix_ms - mono_ms;
    bool    was_doubted = clock->is_doubted;
    if (!clock->is_seen) {
        confirm(clock, lead_ms, mono_ms);
        return MR_WALL_CLOCK_SAME;
    }
    int64_t drift_ms = (mono_ms - clock->seen_ms) / 100;
    if (distance(lead_ms, clock->lead_ms) <= MR_WALL_CLOCK_JUMP_MS + drift_ms) {
        if (was_doubted || mono_ms - clock->seen_ms >= MR_WALL_CLOCK_HOLD_MS) {
            confirm(clock, lead_ms, mono_ms);
        }
        return was_doubted ? MR_WALL_CLOCK_BELIEVED : MR_WALL_CLOCK_SAME;
    }
    if (!was_doubted || distance(lead_ms, clock->new_lead_ms) > MR_WALL_CLOCK_JUMP_MS) {
        clock->is_doubted = true;
        clock->new_lead_ms = lead_ms;
        clock->new_ms = mono_ms;
        clock->jump_ms = lead_ms - clock->lead_ms;
    }
    if (mono_ms - clock->new_ms < MR_WALL_CLOCK_HOLD_MS) {
        return was_doubted ? MR_WALL_CLOCK_SAME : MR_WALL_CLOCK_DOUBTED;
    }
    confirm(clock, lead_ms, mono_ms);
    return MR_WALL_CLOCK_BELIEVED;
}
