/*
 * pattern: regular expressions as consumers send them, in the syntax of RE2/J, for names of topics.
 *
 * Matched by PCRE2. What PCRE2 has beyond RE2/J (back references, lookaround, possessive and atomic
 * groups, verbs, recursion ...) is refused before it sees it, so that a pattern means the same as
 * with Apache Kafka; a pattern that would take too long for a name matches nothing.
 *
 * Memory: a step's scratch, nothing is given back. Threads: any.
 */
#ifndef MILLRACE_PATTERN_H
#define MILLRACE_PATTERN_H

#include "millrace/base/arena.h"
#include "millrace/base/str.h"

struct mr_pattern {
    struct mr_arena *scratch;
    void *memory;  /* pcre2_general_context */
    void *code;    /* pcre2_code */
    void *context; /* pcre2_match_context */
    void *match;   /* pcre2_match_data */
};

/* NULL: compiled. Else what is wrong, in scratch or constant. */
const char *mr_pattern_compile(struct mr_pattern *pattern, struct mr_str text,
                               struct mr_arena *scratch);

/* Whether the whole name matches. */
bool mr_pattern_matches(const struct mr_pattern *pattern, struct mr_str name);

#endif
