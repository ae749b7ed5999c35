/*
 * crash_image: every image that a crash may leave, recovered and compared with what was promised.
 *
 * A seed's workload (tests/sim/sim_storage.h) runs on the simulated disk. Behind each disk operation that lets a cut leave
 * something else, the device is copied, power is cut in the copy in every way (enum mr_sim_cut; and SIGKILL), and
 * a core with the production code starts on it: each log must be a prefix of what was sent that holds
 * everything acknowledged, read back byte by byte, found by offset and by time. From there by lot:
 *
 *   nested    power goes again behind every operation of the recovery
 *   onward    the core serves for a while, acknowledges, and power goes again
 *   stopped   a clean stop, then a power cut: nothing may be missing
 *   rotten    bytes of journal and state files are turned over first: all of it is there, or what is not
 *             is refused by name; never a log that is silently shorter
 *
 * Everything follows from the seed; a place is named by its way there, "1234.drop" or "1234.kill/57.random": after that
 * operation of the seed, that image, and after so many operations of its recovery, the next.
 *
 * Thread: one. Source: reliability.md 2.4, S1, S4.
 */
#ifndef MILLRACE_TESTS_CRASH_IMAGE_H
#define MILLRACE_TESTS_CRASH_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define MR_CRASH_DEPTH 2u
#define MR_CRASH_KILL  9u /* behind the cuts of enum mr_sim_cut */
#define MR_CRASH_KINDS 10u

struct mr_crash_place {
    uint64_t op;
    uint32_t kind;
};

struct mr_crash_params {
    uint64_t              seed;
    uint64_t              images_max; /* no new image when there are so many */
    uint32_t              traits;     /* enum mr_sim_trait that seeds may have */
    uint32_t              stride;     /* every so-many-th point of the workload; 1: all */
    bool                  is_verbose;
    uint32_t              depth; /* 0: all images; otherwise only the one at this place */
    struct mr_crash_place place[MR_CRASH_DEPTH];
};

struct mr_crash_result {
    char                  why[640]; /* "": no violation */
    uint32_t              depth;    /* where it was */
    struct mr_crash_place place[MR_CRASH_DEPTH];
    uint64_t              points, images, nested, onward, stopped, rotten;
    uint64_t              refused; /* of the rotten: what was said to be lost */
    uint64_t              clean_rounds, retained, full, refused_full; /* of the workloads */
};

const char *mr_crash_kind_name(uint32_t kind);

/* "1234.drop/57.random" into params; false: not a place. */
bool mr_crash_place_parse(const char *text, struct mr_crash_params *params);

/* All images of one seed, added to the result; ends at the first violation. */
void mr_crash_run(const struct mr_crash_params *params, struct mr_crash_result *result);

#endif
