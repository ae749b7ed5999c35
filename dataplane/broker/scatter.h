/*
 * scatter: entries of one request over the storage cores that own their logs.
 *
 *      entries   [ of core 0 | of core 1 | ... ]   one array, neighbours belong to one core
 *      places    request order -> entry            NO_PLACE: refused here, nothing to ask
 */
#ifndef MILLRACE_SCATTER_H
#define MILLRACE_SCATTER_H

#include "millrace/base/arena.h"

#include <stdint.h>

#define MR_SCATTER_NONE UINT32_MAX

struct mr_scatter {
    uint32_t *cores;  /* in request order: storage core, or MR_SCATTER_NONE */
    uint32_t *places; /* in request order: index into the entries */
    uint32_t *firsts; /* per core: where its entries begin; one more at the end */
    uint32_t count;
    uint32_t core_count;
};

static inline size_t mr_scatter_room(uint32_t count, uint32_t core_count)
{
    return sizeof(uint32_t) * (2 * (size_t)count + core_count + 8);
}

static inline void mr_scatter_init(struct mr_scatter *scatter, struct mr_arena *arena,
                                   uint32_t count, uint32_t core_count)
{
    *scatter = (struct mr_scatter){.count = count, .core_count = core_count};
    scatter->cores = MR_ARENA_TRY(arena, uint32_t, count);
    scatter->places = MR_ARENA_TRY(arena, uint32_t, count);
    scatter->firsts = MR_ARENA_TRY(arena, uint32_t, core_count + 1);
    mr_assert(scatter->cores != NULL && scatter->places != NULL && scatter->firsts != NULL);
}

/* cores[] is filled: give every entry its place. */
static inline void mr_scatter_place(struct mr_scatter *scatter)
{
    uint32_t at = 0;
    for (uint32_t core = 0; core < scatter->core_count; core++) {
        scatter->firsts[core] = at;
        for (uint32_t index = 0; index < scatter->count; index++) {
            if (scatter->cores[index] == core) {
                scatter->places[index] = at++;
            }
        }
    }
    scatter->firsts[scatter->core_count] = at;
}

#endif
