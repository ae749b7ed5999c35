/*
 * millrace-sim-tcp: lives of connections between two of our stacks.
 *
 *   millrace-sim-tcp [--lives=N] [--from=SEED] [--seed=SEED [--verbose]]
 *
 * The last line says the seed that failed, or what was seen. Exit codes: 0 nothing found, 1 a violation, 2 arguments.
 */
#include "sim_tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    uint64_t lives = 1000;
    uint64_t from = 1;
    uint64_t only = 0;
    bool is_verbose = false;
    for (int index = 1; index < argc; index++) {
        if (strncmp(argv[index], "--lives=", 8) == 0) {
            lives = strtoull(argv[index] + 8, NULL, 10);
        } else if (strncmp(argv[index], "--from=", 7) == 0) {
            from = strtoull(argv[index] + 7, NULL, 10);
        } else if (strncmp(argv[index], "--seed=", 7) == 0) {
            only = strtoull(argv[index] + 7, NULL, 10);
        } else if (strcmp(argv[index], "--verbose") == 0) {
            is_verbose = true;
        } else {
            fprintf(stderr, "millrace-sim-tcp [--lives=N] [--from=SEED] [--seed=SEED [--verbose]]\n");
            return 2;
        }
    }
    struct mr_sim_tcp_result result = {0};
    for (uint64_t seed = only != 0 ? only : from; result.lives < lives; seed++) {
        if (!mr_sim_tcp_run(seed, is_verbose, &result)) {
            printf("FAILED seed=%llu: %s\n", (unsigned long long)seed, result.violation);
            return 1;
        }
        if (only != 0) {
            break;
        }
    }
    printf("%llu lives, %llu bytes, %llu packets, %llu of them lost, trace %016llx: nothing found\n",
           (unsigned long long)result.lives, (unsigned long long)result.bytes, (unsigned long long)result.packets,
           (unsigned long long)result.lost, (unsigned long long)result.hash);
    return 0;
}
