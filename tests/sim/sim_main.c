/*
 * millrace-sim: seeds of the simulated world; each line says how to repeat it.
 */
#include "sim_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fprintf(stderr, "millrace-sim [--seeds=N | --seed=N] [--verbose]\n"
                    "\n"
                    "  --seeds=N   run the seeds 1 to N (default 20)\n"
                    "  --seed=N    run one seed\n"
                    "  --verbose   the broker's log to stderr\n"
                    "\n"
                    "Exit codes: 0 nothing found, 1 a violation, 2 wrong arguments.\n");
    return 2;
}

/* The number of "--name=N" or "--name N"; false when the argument is another one. */
static bool number_of(const char *name, int argc, char **argv, int *at, uint64_t *number, bool *is_bad)
{
    size_t len = strlen(name);
    const char *text = argv[*at];
    if (strncmp(text, name, len) != 0 || (text[len] != '\0' && text[len] != '=')) {
        return false;
    }
    if (text[len] == '=') {
        text += len + 1;
    } else if (*at + 1 < argc) {
        text = argv[++*at];
    } else {
        text = "";
    }
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    *is_bad = text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0;
    return true;
}

static bool run(uint64_t seed, bool is_verbose)
{
    static struct mr_sim_result result;
    printf("seed=%llu repeat: ./dev sim --seed=%llu\n", (unsigned long long)seed,
           (unsigned long long)seed);
    fflush(stdout);
    mr_sim_world_run(seed, is_verbose, &result);
    printf("  %s trace=%016llx steps=%llu acked=%llu starts=%u cuts=%u kills=%u stops=%u resets=%llu\n",
           result.is_ok ? "ok" : "VIOLATION", (unsigned long long)result.trace_hash,
           (unsigned long long)result.steps, (unsigned long long)result.acked, result.starts,
           result.power_cuts, result.kills, result.clean_stops, (unsigned long long)result.resets);
    if (!result.is_ok) {
        printf("  %s\n", result.why);
    }
    return result.is_ok;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 20;
    uint64_t seed = 0;
    bool is_one = false;
    bool is_verbose = false;
    for (int at = 1; at < argc; at++) {
        bool is_bad = false;
        if (strcmp(argv[at], "--verbose") == 0) {
            is_verbose = true;
        } else if (number_of("--seeds", argc, argv, &at, &seeds, &is_bad)) {
            is_one = false;
        } else if (number_of("--seed", argc, argv, &at, &seed, &is_bad)) {
            is_one = true;
        } else {
            return usage();
        }
        if (is_bad) {
            return usage();
        }
    }
    uint64_t first = is_one ? seed : 1;
    uint64_t count = is_one ? 1 : seeds;
    for (uint64_t index = 0; index < count; index++) {
        seed = first + index;
        if (!run(seed, is_verbose)) {
            printf("seed=%llu failed; repeat: ./dev sim --seed=%llu\n", (unsigned long long)seed,
                   (unsigned long long)seed);
            return 1;
        }
    }
    printf("seed=%llu was the last of %llu, all ok; repeat: ./dev sim --seed=%llu\n",
           (unsigned long long)seed, (unsigned long long)count, (unsigned long long)seed);
    return 0;
}
