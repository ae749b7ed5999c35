/*
 * sim_storage: one storage core on a simulated disk, driven at random and compared with model_log.
 *
 * A run is a few lives of the core on one device. In each life: recover, open every log, read everything back and
 * compare; then appends (plain and idempotent, to several logs at once), reads, watches, ListOffsets, DeleteRecords,
 * epochs, drops and new logs, many at a time; then an end: a clean stop, SIGKILL, a power cut, a disk that fails or
 * dies at some operation (also inside recovery and stop). Every answer is checked when it comes; after a clean stop
 * and after recovery the indexes in files are, too (check_index.h).
 *
 * Everything follows from the seed. The disk may be made to lie (enum mr_sim_lie): then a run must find it out.
 */
#ifndef MILLRACE_TESTS_SIM_STORAGE_H
#define MILLRACE_TESTS_SIM_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

enum mr_sim_lie {
    MR_SIM_HONEST,
    MR_SIM_LIE_FLUSH,    /* commits are said to be flushed and are not */
    MR_SIM_LIE_SYNC_FS,  /* segments are said to be synced and are not */
    MR_SIM_LIE_WRITE,    /* one write in two hundred goes nowhere */
    MR_SIM_LIE_READ,     /* a bit of what is read from segments is wrong, rarely */
    MR_SIM_LIE_COUNT,
};

/* What a run has beyond the ordinary, each by a bit. */
enum mr_sim_trait {
    MR_SIM_TRAIT_RETENTION = 1, /* logs lose what is too much or too old */
    MR_SIM_TRAIT_KEYED = 2,     /* half of the logs are compacted, half of those as coordinators write them */
    MR_SIM_TRAIT_CORES = 4,     /* each life has another number of storage cores */
    MR_SIM_TRAIT_FULL = 8,      /* the disk fills up, and has space again */
    MR_SIM_TRAITS = 15,
};

struct mr_sim_storage_result {
    char     why[512]; /* "" when all is well */
    uint32_t lives, clean_stops, kills, power_cuts, deaths, faults;
    uint32_t appends, refusals, duplicates, reads, cold_reads, deletes, drops, watches, lookups;
    uint64_t bytes, commits, recycled_files, clean_rounds, retained, full, refused_full;
    uint64_t hash; /* of everything that was answered: equal for equal seeds */
};

/* traits: of enum mr_sim_trait. */
void mr_sim_storage_run(uint64_t seed, enum mr_sim_lie lie, uint32_t traits, bool is_verbose,
                        struct mr_sim_storage_result *result);

#endif
