/*
 * millrace-sim: seeds of the simulated world. The first and the last line of a run say seed, commit and
 * the command that repeats it.
 */
#include "sim_disk.h"
#include "sim_nth.h"
#include "sim_states.h"
#include "sim_swarm.h"
#include "sim_world.h"

#include "millrace/base/bug.h"
#include "millrace/base/fmt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIVES_MAX 8u /* that may go by without a use of something */
#define STEPS_EMPTY 2500u /* of a life in which something is empty: transactions, compaction and a group of each kind are met */

struct options {
    uint64_t    from;
    uint64_t    count;
    uint64_t    only;
    const char *bug;
    bool        is_verbose;
    bool        is_smaller; /* look for less trouble that still fails */
    uint64_t    point;      /* 0: none; otherwise one crash point */
    uint64_t    point_again;
    uint64_t    point_cut;
    uint64_t    steps;      /* of the life with crash points or failures; 0: the usual number */
    uint64_t    points_step; /* 0: none; otherwise every so-many-th crash point of the seed */
    uint64_t    nth_step;    /* 0: none; otherwise every so-many-th use of everything that can fail */
    bool        is_empty;    /* that is, pools and rings; otherwise disk operations */
    uint64_t    nth;         /* 0: none; otherwise this use of this: */
    uint32_t    nth_way;
};

static int usage(void)
{
    fprintf(stderr, "millrace-sim [--seeds=N] [--from=N] [--seed=N] [--only=NAME,...] [--verbose]\n"
                    "\n"
                    "  --seeds=N         so many seeds (default 20)\n"
                    "  --from=N          beginning with this one (default 1)\n"
                    "  --seed=N          one seed\n"
                    "  --only=NAME,...   only this trouble, whatever the seed says; \"nothing\" is none\n"
                    "  --smaller         switch off, one by one, what a failing seed fails without\n"
                    "  --points=N        power cuts at every N-th disk operation of one life of the seed, clean stop\n"
                    "                    and recovery included, each with every kind of cut\n"
                    "  --steps=N         of that life; with some thousands transactions must be met in every state\n"
                    "  --nth=N           every disk operation fails at every N-th of its uses in one life of the seed\n"
                    "  --empty=N         likewise pools, heaps and rings are empty (builds dev and bugs)\n"
                    "  --bug=NAME        a mutant (build bugs): it must be found\n"
                    "  --verbose         the broker's log to stderr\n"
                    "\n"
                    "Trouble:\n");
    for (uint32_t index = 0; index < MR_SIM_TROUBLE_COUNT; index++) {
        fprintf(stderr, "  %-17s %s\n", mr_sim_swarm_name((enum mr_sim_trouble)index),
                mr_sim_swarm_what((enum mr_sim_trouble)index));
    }
    fprintf(stderr, "\nExit codes: 0 nothing found, 1 a violation, 2 wrong arguments.\n");
    return 2;
}

/* The text of "--name=TEXT" or "--name TEXT"; NULL when the argument is another one. */
static const char *value_of(const char *name, int argc, char **argv, int *at)
{
    size_t      len = strlen(name);
    const char *text = argv[*at];
    if (strncmp(text, name, len) != 0 || (text[len] != '\0' && text[len] != '=')) {
        return NULL;
    }
    if (text[len] == '=') {
        return text + len + 1;
    }
    return *at + 1 < argc ? argv[++*at] : "";
}

static bool number_of(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool parse(int argc, char **argv, struct options *options)
{
    const char *text;
    for (int at = 1; at < argc; at++) {
        bool is_good = true;
        if (strcmp(argv[at], "--verbose") == 0) {
            options->is_verbose = true;
        } else if (strcmp(argv[at], "--smaller") == 0) {
            options->is_smaller = true;
        } else if ((text = value_of("--seeds", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->count);
        } else if ((text = value_of("--seed", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->from);
            options->count = 1;
        } else if ((text = value_of("--from", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->from);
        } else if ((text = value_of("--only", argc, argv, &at)) != NULL) {
            is_good = mr_sim_swarm_parse(text, &options->only);
        } else if ((text = value_of("--points", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->points_step) && options->points_step > 0;
        } else if ((text = value_of("--point-again", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->point_again);
        } else if ((text = value_of("--point-cut", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->point_cut) && options->point_cut < MR_SIM_CUT_COUNT;
        } else if ((text = value_of("--point", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->point);
        } else if ((text = value_of("--steps", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->steps) && options->steps <= UINT32_MAX;
        } else if ((text = value_of("--nth-way", argc, argv, &at)) != NULL) {
            options->nth_way = mr_sim_nth_find(text);
            is_good = options->nth_way < mr_sim_nth_count();
        } else if ((text = value_of("--nth-use", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->nth);
        } else if ((text = value_of("--nth", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->nth_step) && options->nth_step > 0;
        } else if ((text = value_of("--empty", argc, argv, &at)) != NULL) {
            is_good = number_of(text, &options->nth_step) && options->nth_step > 0;
            options->is_empty = true;
        } else if ((text = value_of("--bug", argc, argv, &at)) != NULL) {
            options->bug = text;
#ifndef MR_BUGS
            fprintf(stderr, "--bug is for the test build: ./dev build bugs\n");
            is_good = false;
#endif
        } else {
            is_good = false;
        }
        if (!is_good) {
            return false;
        }
    }
    return true;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static char repeat[1024]; /* the command that repeats what is running */

/* A broker that ends by an assertion takes this process with it: the last line must say the seed all the same. */
static void on_abort(int number)
{
    static const char failed[] = "FAILED ";
    (void)!write(STDOUT_FILENO, failed, sizeof failed - 1);
    (void)!write(STDOUT_FILENO, repeat, strlen(repeat));
    (void)!write(STDOUT_FILENO, "\n", 1);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* "seed=5 commit=1a2b3c4 repeat: ./dev sim --seed=5 ..." */
static void say_seed(uint64_t seed, uint64_t only, const struct options *options, const char *what)
{
    const char *commit = getenv("MR_COMMIT"); /* set by ./dev */
    char        text[512];
    size_t      size = sizeof repeat;
    size_t len = mr_fmt(repeat, size, "seed=%llu commit=%s repeat: ./dev sim --seed=%llu", (unsigned long long)seed,
                        commit != NULL ? commit : "unknown", (unsigned long long)seed);
    if (only != MR_SIM_TROUBLE_ANY) {
        mr_sim_swarm_text(only, text, sizeof text);
        len += mr_fmt(repeat + len, size - len, " --only=%s", text);
    }
    if (options->point != 0) {
        len += mr_fmt(repeat + len, size - len, " --point=%llu --point-cut=%llu --point-again=%llu",
                      (unsigned long long)options->point, (unsigned long long)options->point_cut,
                      (unsigned long long)options->point_again);
    }
    if (options->nth != 0) {
        len += mr_fmt(repeat + len, size - len, " --nth-way=%s --nth-use=%llu", mr_sim_nth_name(options->nth_way),
                      (unsigned long long)options->nth);
    }
    if (options->steps != 0) {
        len += mr_fmt(repeat + len, size - len, " --steps=%llu", (unsigned long long)options->steps);
    }
    if (options->bug != NULL) {
        len += mr_fmt(repeat + len, size - len, " --bug=%s", options->bug);
    }
    printf("%s%s\n", what, repeat);
    fflush(stdout);
}

static void run(uint64_t seed, uint64_t only, const struct options *options, struct mr_sim_result *result)
{
    const struct mr_sim_params params = {
        .seed = seed,
        .only = only,
        .is_verbose = options->is_verbose,
        .point = options->point,
        .point_again = options->point_again,
        .point_cut = (uint32_t)options->point_cut,
        .point_steps = (uint32_t)options->steps,
        .nth = options->nth,
        .nth_way = options->nth_way,
    };
#ifdef MR_BUGS
    mr_bug_name = options->bug;
    mr_bug_calls = 0;
#endif
    mr_sim_world_run(&params, result);
}

static void say_result(const struct mr_sim_result *result)
{
    char on[512];
    mr_sim_swarm_text(result->on, on, sizeof on);
    printf("  %s trace=%016llx steps=%llu simulated_ms=%llu acked=%llu changes=%llu commits=%llu transactions=%llu compacted=%llu generations=%d starts=%u cuts=%u kills=%u stops=%u "
           "resets=%llu rots=%llu with=%s\n",
           result->is_ok ? "ok" : "VIOLATION", (unsigned long long)result->trace_hash,
           (unsigned long long)result->steps, (unsigned long long)(result->simulated_ns / 1000000),
           (unsigned long long)result->acked, (unsigned long long)result->changes,
           (unsigned long long)result->commits, (unsigned long long)result->transactions,
           (unsigned long long)result->compacted, result->generations,
           result->starts, result->power_cuts, result->kills, result->clean_stops, (unsigned long long)result->resets,
           (unsigned long long)result->rots, on);
    if (!result->is_ok) {
        printf("  %s\n", result->why);
    }
}

/* Switch classes off as long as the seed still fails. Returns what is left. */
static uint64_t make_smaller(uint64_t seed, const struct options *options, struct mr_sim_result *result)
{
    static struct mr_sim_result less;
    uint64_t                    on = result->on;
    for (uint32_t index = 0; index < MR_SIM_TROUBLE_COUNT; index++) {
        if ((on >> index & 1u) != 0) {
            run(seed, on & ~(1ull << index), options, &less);
            if (!less.is_ok) {
                on &= ~(1ull << index);
                *result = less;
            }
        }
    }
    return on;
}

/* Who is at work while everything is tried; nothing else disturbs them. */
static const uint64_t everybody = MR_SIM_TROUBLE_BIT(admin) | MR_SIM_TROUBLE_BIT(group) |
                                  MR_SIM_TROUBLE_BIT(transactions) | MR_SIM_TROUBLE_BIT(slow_disk);

/* In which states transactions were when power went. False: a state was never met. */
static bool say_states(const uint64_t met[MR_SIM_STATES])
{
    bool is_all = true;
    printf("  transactions at the cut:");
    for (uint32_t state = 0; state < MR_SIM_STATES; state++) {
        printf(" %s %llu", mr_sim_states_name(state), (unsigned long long)met[state]);
        is_all = is_all && met[state] > 0;
    }
    printf("\n");
    return is_all;
}

/* Power cuts at the disk operations of one life, in every way; and in the recovery after each. */
static int run_points(struct options *options)
{
    static struct mr_sim_result result;
    double         started = seconds_now();
    uint64_t       images = 0;
    uint64_t       met[MR_SIM_STATES] = {0};
    say_seed(options->from, everybody, options, "");
    for (options->point = 1; !result.is_past_end; options->point += options->points_step) {
        for (options->point_cut = 0; options->point_cut < MR_SIM_CUT_COUNT; options->point_cut++) {
            for (uint64_t depth = 0; depth < 2; depth++) {
                /* Recovery has some hundred operations; in the course of the points all of them are met. */
                options->point_again = depth == 0 ? 0 : 1 + (options->point * 7 + options->point_cut) % 120;
                run(options->from, everybody, options, &result);
                images += 1 + depth;
                for (uint32_t state = 0; state < MR_SIM_STATES; state++) {
                    met[state] += result.states_cut >> state & 1u;
                }
                if (!result.is_ok) {
                    say_result(&result);
                    say_seed(options->from, everybody, options, "FAILED ");
                    return 1;
                }
            }
        }
    }
    printf("%llu images at %llu points in %.1f s\n", (unsigned long long)images,
           (unsigned long long)((options->point - 1) / options->points_step), seconds_now() - started);
    options->point = 0;
    bool is_good = say_states(met) || options->steps == 0;
    say_seed(options->from, everybody, options, is_good ? "ok " : "FAILED (a state was not met) ");
    return is_good ? 0 : 1;
}

/* The first seed from `from` on in whose life the way is used at all, with its first run in `result`; 0: none of some. */
static uint64_t find_life(struct options *options, uint64_t only, struct mr_sim_result *result, uint64_t *runs)
{
    for (uint64_t seed = options->from; seed < options->from + LIVES_MAX; seed++) {
        result->is_past_end = false;
        run(seed, only, options, result);
        ++*runs;
        if (!result->is_ok || !result->is_past_end) {
            return seed;
        }
    }
    return 0;
}

/* One way of failing, at its uses in one life. False: a violation, or nobody ever uses it. */
static bool run_way(struct options *options, uint64_t only, struct mr_sim_result *result, uint64_t *runs)
{
    uint64_t before = *runs;
    uint64_t steps = options->steps;
    bool     is_disk = mr_sim_nth_is_disk(options->nth_way);
    options->steps = steps == 0 && !is_disk ? STEPS_EMPTY : steps;
    /* Ways of one disk operation start at different uses of it, or where it is rarer than that, at its first. */
    options->nth = is_disk ? 1 + options->nth_way % options->nth_step : 1;
    uint64_t seed = find_life(options, only, result, runs);
    if (seed == 0 && options->nth > 1) {
        options->nth = 1;
        seed = find_life(options, only, result, runs);
    }
    if (seed == 0) {
        say_seed(options->from, only, options, "FAILED (it is never used) ");
        return false;
    }
    while (result->is_ok && !result->is_past_end) {
        /* A disk operation is one of hundreds, a message or a page one of thousands, and most of these are alike. */
        options->nth += is_disk ? options->nth_step : options->nth_step + options->nth / 32;
        run(seed, only, options, result);
        ++*runs;
    }
    if (!result->is_ok) {
        say_result(result);
        say_seed(seed, only, options, "FAILED ");
        return false;
    }
    printf("  %-22s %llu runs, the last at use %llu\n", mr_sim_nth_name(options->nth_way),
           (unsigned long long)(*runs - before), (unsigned long long)options->nth);
    options->steps = steps;
    return true;
}

/* Everything that can fail; `is_disk`: of disk operations, or of what can be empty. */
static int run_nth(struct options *options, bool is_disk)
{
    static struct mr_sim_result result;
    double   started = seconds_now();
    uint64_t runs = 0;
    uint64_t only = everybody | (is_disk ? MR_SIM_TROUBLE_BIT(large) : MR_SIM_TROUBLE_BIT(keyed));
    say_seed(options->from, only, options, "");
    for (options->nth_way = 0; options->nth_way < mr_sim_nth_count(); options->nth_way++) {
        if (mr_sim_nth_is_disk(options->nth_way) == is_disk && !run_way(options, only, &result, &runs)) {
            return 1;
        }
    }
    printf("%llu failures in %.1f s\n", (unsigned long long)runs, seconds_now() - started);
    options->nth = 0;
    bool is_good = runs > 0;
    say_seed(options->from, only, options, is_good ? "ok " : "FAILED (this build has none: ./dev build dev) ");
    return is_good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct mr_sim_result result;
    struct options options = {.from = 1, .count = 20, .only = MR_SIM_TROUBLE_ANY};
    if (!parse(argc, argv, &options)) {
        return usage();
    }
    (void)signal(SIGABRT, on_abort);
    (void)signal(SIGSEGV, on_abort);
    if (options.points_step > 0) {
        return run_points(&options);
    }
    if (options.nth_step > 0) {
        return run_nth(&options, !options.is_empty);
    }
    double   started = seconds_now();
    double   simulated = 0;
    uint64_t seed = options.from;
    for (uint64_t index = 0; index < options.count; index++) {
        seed = options.from + index;
        say_seed(seed, options.only, &options, "");
        run(seed, options.only, &options, &result);
        say_result(&result);
        if (result.is_past_end) {
            printf("  there were fewer uses\n");
        }
        simulated += (double)result.simulated_ns / 1e9;
        if (!result.is_ok) {
            uint64_t only = options.only;
            if (options.is_smaller) {
                only = make_smaller(seed, &options, &result);
                say_result(&result);
            }
            say_seed(seed, only, &options, "FAILED ");
            return 1;
        }
    }
    double taken = seconds_now() - started;
    printf("%llu seeds, %.1f s simulated in %.1f s: run factor %.2f\n", (unsigned long long)options.count,
           simulated, taken, simulated / taken);
    say_seed(seed, options.only, &options, "ok ");
    return 0;
}
