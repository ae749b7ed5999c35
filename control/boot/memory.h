/*
 * memory: address space for the plan's arenas, and the limits of the process. The only place that
 * asks the kernel for memory.
 *
 * Threads: start-up only.
 */
#ifndef MILLRACE_CONTROL_MEMORY_H
#define MILLRACE_CONTROL_MEMORY_H

#include "millrace/base/arena.h"
#include "millrace/plan.h"

#include <stdbool.h>
#include <stddef.h>

/* Cleared pages that cost nothing until they are touched. NULL: refused (errno says why). */
void *mr_memory_map(size_t bytes);
void mr_memory_unmap(void *memory, size_t bytes);

/* The same as an arena. */
bool mr_memory_arena(struct mr_arena *arena, size_t bytes);

/* Ask for huge pages behind the arena's bulk memory: fewer faults, and a DMA or a copy of 1 MiB looks up
 * one translation instead of 256. What the kernel refuses costs only speed. */
void mr_memory_huge(const struct mr_arena *arena);

/* The pages behind [base, base + bytes) go back to the kernel: zeros, which cost nothing until they are touched again. Not
 * those that are locked. */
void mr_memory_give_back(void *base, size_t bytes);

/* CPUs of this process's affinity mask; memory of the machine or the smaller limit of its cgroup. */
void mr_memory_machine(struct mr_plan_machine *machine);

/* Raise RLIMIT_NOFILE and RLIMIT_MEMLOCK to their hard limits; what is still too small is told to `warn`. */
void mr_memory_limits(const struct mr_plan *plan, void (*warn)(const char *line));

/* Lock what is mapped now, page by page as it is touched (millrace.memory.lock). */
void mr_memory_lock(void (*warn)(const char *line));

#endif
