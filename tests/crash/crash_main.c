/* millrace-crash: crash points of a storage core (crash_image.h), seed after seed. */
#include "crash_image.h"
#include "sim_storage.h"

#include "millrace/base/bug.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    struct mr_crash_params params;
    uint64_t               from;
    uint64_t               images;
    const char            *place;
};

static int usage(void)
{
    fprintf(stderr, "millrace-crash [--images=N] [--from=SEED] [--stride=N]\n"
                    "millrace-crash --seed=N [--at=PLACE] [--verbose]\n"
                    "\n"
                    "  --images=N    seeds until so many images were recovered (default 20000)\n"
                    "  --from=SEED   beginning with this seed (default 1)\n"
                    "  --stride=N    every N-th point of each seed (default 1: all)\n"
                    "  --traits=N    which of 1 retention, 2 compaction, 4 other numbers of cores, 8 full disks (their sum)\n"
                    "  --seed=N      one seed, all its images\n"
                    "  --at=PLACE    only this one, as the line of a violation names it\n"
                    "  --bug=NAME    a mutant (build bugs): it must be found\n"
                    "  --verbose     what is asked and answered there, and the core's log\n"
                    "\n"
                    "Exit codes: 0 nothing found, 1 a violation, 2 wrong arguments.\n");
    return 2;
}

static bool number_of(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* The text behind "--name="; NULL when the argument is another one. */
static const char *value_of(const char *name, const char *argument)
{
    size_t len = strlen(name);
    return strncmp(argument, name, len) == 0 && argument[len] == '=' ? argument + len + 1 : NULL;
}

static bool parse(int argc, char **argv, struct options *options)
{
    for (int at = 1; at < argc; at++) {
        const char *text;
        uint64_t    number = 0;
        bool        is_good = true;
        if (strcmp(argv[at], "--verbose") == 0) {
            options->params.is_verbose = true;
        } else if ((text = value_of("--images", argv[at])) != NULL) {
            is_good = number_of(text, &options->images);
        } else if ((text = value_of("--from", argv[at])) != NULL) {
            is_good = number_of(text, &options->from);
        } else if ((text = value_of("--stride", argv[at])) != NULL) {
            is_good = number_of(text, &number) && number > 0 && number < 1000000;
            options->params.stride = (uint32_t)number;
        } else if ((text = value_of("--traits", argv[at])) != NULL) {
            is_good = number_of(text, &number) && number <= MR_SIM_TRAITS;
            options->params.traits = (uint32_t)number;
#ifdef MR_BUGS
        } else if ((text = value_of("--bug", argv[at])) != NULL) {
            mr_bug_name = text;
#endif
        } else if ((text = value_of("--seed", argv[at])) != NULL) {
            is_good = number_of(text, &options->params.seed) && options->params.seed > 0;
        } else if ((text = value_of("--at", argv[at])) != NULL) {
            options->place = text;
            is_good = mr_crash_place_parse(text, &options->params);
        } else {
            is_good = false;
        }
        if (!is_good) {
            return false;
        }
    }
    return options->place == NULL || options->params.seed > 0;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* "VIOLATION commit=1a2b3c4 repeat: ./dev crash --seed=5 --at=123.drop: what it was" */
static void say_violation(uint64_t seed, const struct mr_crash_result *result)
{
    const char *commit = getenv("MR_COMMIT"); /* set by ./dev */
    printf("VIOLATION commit=%s repeat: ./dev crash --seed=%llu", commit != NULL ? commit : "unknown",
           (unsigned long long)seed);
    for (uint32_t index = 0; index < result->depth; index++) {
        printf("%s%llu.%s", index == 0 ? " --at=" : "/", (unsigned long long)result->place[index].op,
               mr_crash_kind_name(result->place[index].kind));
    }
    printf(" --verbose: %s\n", result->why);
}

static void say_sum(const struct mr_crash_result *sum, uint64_t seeds, double seconds)
{
    printf("%llu images at %llu points of %llu seeds, %llu nested in recoveries, %llu served on and cut again, %llu stopped; "
           "%llu with rot, %llu refused; %llu compactions, %llu log starts moved by retention, %llu times full with %llu "
           "appends refused; %.1f s\n",
           (unsigned long long)sum->images, (unsigned long long)sum->points, (unsigned long long)seeds,
           (unsigned long long)sum->nested, (unsigned long long)sum->onward, (unsigned long long)sum->stopped,
           (unsigned long long)sum->rotten, (unsigned long long)sum->refused, (unsigned long long)sum->clean_rounds,
           (unsigned long long)sum->retained, (unsigned long long)sum->full, (unsigned long long)sum->refused_full, seconds);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct mr_crash_result result;
    struct options options = {.params = {.stride = 1, .traits = MR_SIM_TRAITS}, .from = 1, .images = 20000};
    if (!parse(argc, argv, &options)) {
        return usage();
    }
    /* A copied device is megabytes that come and go: no fresh pages from the kernel each time. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    double   started = seconds_now();
    bool     is_one = options.params.seed > 0;
    uint64_t seeds = 0;
    options.params.images_max = is_one ? UINT64_MAX : options.images;
    options.params.seed = is_one ? options.params.seed : options.from;
    do {
        mr_crash_run(&options.params, &result);
        seeds++;
        if (result.why[0] != '\0') {
            say_violation(options.params.seed, &result);
            break;
        }
        options.params.seed++;
        if (seeds % 16 == 0) {
            say_sum(&result, seeds, seconds_now() - started);
        }
    } while (!is_one && result.images + result.nested < options.images);
    say_sum(&result, seeds, seconds_now() - started);
    return result.why[0] == '\0' ? 0 : 1;
}
