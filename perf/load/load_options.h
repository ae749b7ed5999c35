/*
 * load_options: what a run is to do, from scenario files and KEY=VALUE arguments; later ones win.
 *
 * A scenario file has one KEY=VALUE per line; # begins a comment, @ a line for perf/compare.py. Rows are in
 * load_options.def.
 */
#ifndef MILLRACE_PERF_LOAD_OPTIONS_H
#define MILLRACE_PERF_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mr_load_arrivals {
    MR_LOAD_CONSTANT,
    MR_LOAD_POISSON,
};

enum mr_load_acks {
    MR_LOAD_ACKS_NONE,
    MR_LOAD_ACKS_LEADER,
    MR_LOAD_ACKS_ALL,
};

enum mr_load_from {
    MR_LOAD_LATEST,
    MR_LOAD_EARLIEST,
};

#define MR_LOAD_TEXT_MAX 256

#define MR_LOAD_C_TEXT   char
#define MR_LOAD_C_COUNT  uint64_t
#define MR_LOAD_C_BYTES  uint64_t
#define MR_LOAD_C_TIME   uint64_t
#define MR_LOAD_C_FLAG   bool
#define MR_LOAD_C_RATE   double
#define MR_LOAD_C_CHOICE int

struct mr_load_options {
#define MR_LOAD_MANY_TEXT   [MR_LOAD_TEXT_MAX]
#define MR_LOAD_MANY_COUNT
#define MR_LOAD_MANY_BYTES
#define MR_LOAD_MANY_TIME
#define MR_LOAD_MANY_FLAG
#define MR_LOAD_MANY_RATE
#define MR_LOAD_MANY_CHOICE
#define OPTION(kind_, name_, ...) MR_LOAD_C_##kind_ name_ MR_LOAD_MANY_##kind_;
#include "load_options.def"
#undef OPTION
};

/* Built-in values. */
void mr_load_options_init(struct mr_load_options *options);

/* One KEY=VALUE. False: refused; `why` is a sentence that names key, value and range. */
bool mr_load_options_set(struct mr_load_options *options, const char *setting, char *why, size_t why_size);

/* The text of a scenario file called `name` in messages. */
bool mr_load_options_text(struct mr_load_options *options, const char *name, const char *text, char *why,
                          size_t why_size);

/* What must be true of several values together. */
bool mr_load_options_check(const struct mr_load_options *options, char *why, size_t why_size);

/* Requests per second that `rate` or `rate.bytes` ask for; 0: closed loop. */
double mr_load_options_rate(const struct mr_load_options *options);

/* A table of all keys, on stdout. */
void mr_load_options_help(void);

#endif
