/*
 * pattern: regular expressions in the syntax of RE2/J, matched by PCRE2.
 */
#include "coord/group/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TEXT_MAX    4096   /* bytes of a pattern */
#define STEPS_MAX   20000  /* of the matcher, for one name */
#define FRAMES_KIB  128    /* of its memory */
#define NESTING_MAX 250    /* parentheses in each other */
#define REPEAT_MAX  1000   /* as RE2/J */
#define WHY_MAX     128

/* ---- what RE2/J accepts ---- */

struct scan {
    struct mr_str text;
    int32_t at;
};

static char next_at(const struct scan *scan, int32_t ahead)
{
    return scan->at + ahead < scan->text.len ? scan->text.data[scan->at + ahead] : '\0';
}

static bool is_one_of(char c, const char *these)
{
    return c != '\0' && memchr(these, c, strlen(these)) != NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* At a backslash: step over the escape. */
static const char *scan_escape(struct scan *scan)
{
    char c = next_at(scan, 1);
    if (is_digit(c) && c != '0' && !(is_digit(next_at(scan, 2)) && c <= '7')) {
        return "invalid escape sequence: back references are not supported";
    }
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (is_letter && !is_one_of(c, "abBAdDfnpPQrsStvwWxzE")) {
        return "invalid escape sequence";
    }
    if (c == 'Q') {
        scan->at += 2;
        while (scan->at < scan->text.len && !(next_at(scan, 0) == '\\' && next_at(scan, 1) == 'E')) {
            scan->at++;
        }
        scan->at += 2;
        return NULL;
    }
    scan->at += 2;
    return NULL;
}

/* At "[": step over the class. */
static const char *scan_class(struct scan *scan)
{
    scan->at++;
    scan->at += next_at(scan, 0) == '^' ? 1 : 0;
    scan->at += next_at(scan, 0) == ']' ? 1 : 0;
    while (scan->at < scan->text.len && next_at(scan, 0) != ']') {
        if (next_at(scan, 0) == '\\') {
            const char *why = scan_escape(scan);
            if (why != NULL) {
                return why;
            }
        } else if (next_at(scan, 0) == '[' && next_at(scan, 1) == ':') {
            scan->at += 2;
            while (scan->at < scan->text.len && next_at(scan, 0) != ']') {
                scan->at++;
            }
            scan->at++;
        } else {
            scan->at++;
        }
    }
    scan->at++;
    return NULL;
}

/* At "(": what may follow "(?" is a name or flags. */
static const char *scan_group(struct scan *scan)
{
    scan->at++;
    if (next_at(scan, 0) == '*') {
        return "missing argument to repetition operator";
    }
    if (next_at(scan, 0) != '?') {
        return NULL;
    }
    scan->at++;
    bool is_name = (next_at(scan, 0) == 'P' && next_at(scan, 1) == '<') ||
                   (next_at(scan, 0) == '<' && !is_one_of(next_at(scan, 1), "=!"));
    if (is_name) {
        return NULL;
    }
    while (is_one_of(next_at(scan, 0), "imsU-")) {
        scan->at++;
    }
    return is_one_of(next_at(scan, 0), ":)") ? NULL : "invalid or unsupported Perl syntax";
}

/* At "{": whether it is a repetition, and one that is not too large. */
static const char *scan_repeat(struct scan *scan, bool *is_repeat)
{
    uint32_t numbers[2] = {0, 0};
    int32_t at = 1;
    for (uint32_t index = 0; index < 2; index++) {
        while (is_digit(next_at(scan, at))) {
            numbers[index] = numbers[index] * 10 + (uint32_t)(next_at(scan, at++) - '0');
            if (numbers[index] > REPEAT_MAX) {
                return "bad repetition operator: a count is above 1000";
            }
        }
        if (index == 0 && next_at(scan, at) == ',') {
            at++;
        }
    }
    *is_repeat = at > 1 && is_digit(next_at(scan, 1)) && next_at(scan, at) == '}';
    scan->at += *is_repeat ? at + 1 : 1;
    return NULL;
}

/* A repetition operator; one "?" may follow it, and no other. */
static const char *scan_operator(struct scan *scan)
{
    bool is_repeat = true;
    if (next_at(scan, 0) == '{') {
        const char *why = scan_repeat(scan, &is_repeat);
        if (why != NULL || !is_repeat) {
            return why;
        }
    } else {
        scan->at++;
    }
    scan->at += next_at(scan, 0) == '?' ? 1 : 0;
    return is_one_of(next_at(scan, 0), "*+?") ? "invalid nested repetition operator" : NULL;
}

/* NULL: RE2/J would take it, as far as it differs from PCRE2. */
static const char *scan_all(struct mr_str text)
{
    struct scan scan = {.text = text};
    while (scan.at < text.len) {
        const char *why = NULL;
        char c = next_at(&scan, 0);
        if (c == '\0') {
            return "a zero byte";
        }
        if (c == '\\') {
            why = scan_escape(&scan);
        } else if (c == '[') {
            why = scan_class(&scan);
        } else if (c == '(') {
            why = scan_group(&scan);
        } else if (is_one_of(c, "*+?{")) {
            why = scan_operator(&scan);
        } else {
            scan.at++;
        }
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* ---- PCRE2 ---- */

static void *take(PCRE2_SIZE bytes, void *scratch)
{
    return mr_arena_try(scratch, bytes, _Alignof(max_align_t));
}

static void leave(void *memory, void *scratch)
{
    (void)memory;
    (void)scratch;
}

const char *mr_pattern_compile(struct mr_pattern *pattern, struct mr_str text,
                               struct mr_arena *scratch)
{
    int error = 0;
    PCRE2_SIZE offset = 0;
    *pattern = (struct mr_pattern){.scratch = scratch};
    if (text.len > TEXT_MAX) {
        return "the pattern is too long";
    }
    const char *why = scan_all(text);
    if (why != NULL) {
        return why;
    }
    pcre2_general_context *memory = pcre2_general_context_create(take, leave, scratch);
    pcre2_compile_context *compile = memory == NULL ? NULL : pcre2_compile_context_create(memory);
    pcre2_match_context *context = memory == NULL ? NULL : pcre2_match_context_create(memory);
    if (compile == NULL || context == NULL) {
        return "no memory";
    }
    pcre2_set_parens_nest_limit(compile, NESTING_MAX);
    pcre2_set_match_limit(context, STEPS_MAX);
    pcre2_set_heap_limit(context, FRAMES_KIB);
    pattern->memory = memory;
    pattern->context = context;
    pattern->code = pcre2_compile((PCRE2_SPTR)text.data, (PCRE2_SIZE)text.len,
                                  PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED |
                                      PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY,
                                  &error, &offset, compile);
    if (pattern->code == NULL) {
        char *text_of = mr_arena_try(scratch, WHY_MAX, 1);
        if (text_of == NULL ||
            pcre2_get_error_message(error, (PCRE2_UCHAR *)text_of, WHY_MAX) < 0) {
            return "it cannot be compiled";
        }
        return text_of;
    }
    pattern->match = pcre2_match_data_create(1, memory);
    return pattern->match == NULL ? "no memory" : NULL;
}

bool mr_pattern_matches(const struct mr_pattern *pattern, struct mr_str name)
{
    return pcre2_match(pattern->code, (PCRE2_SPTR)name.data, (PCRE2_SIZE)name.len, 0, 0,
                       pattern->match, pattern->context) >= 0;
}
