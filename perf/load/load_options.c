#include "load_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum kind {
    KIND_TEXT,
    KIND_COUNT,
    KIND_BYTES,
    KIND_TIME,
    KIND_FLAG,
    KIND_RATE,
    KIND_CHOICE,
};

struct row {
    enum kind   kind;
    size_t      offset;
    const char *key;
    const char *value;
    double      least;
    double      most;
    const char *text;
};

static const struct row rows[] = {
#define OPTION(kind_, name_, key_, value_, least_, most_, text_)                                                       \
    {KIND_##kind_, offsetof(struct mr_load_options, name_), key_, value_, least_, most_, text_},
#include "load_options.def"
#undef OPTION
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

struct unit {
    const char *name;
    double      factor;
};

static const struct unit byte_units[] = {
    {"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {0},
};
static const struct unit time_units[] = {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"m", 60e9}, {0}};
static const struct unit count_units[] = {{"", 1}, {0}};

/* "12.5MB" by a list of units. */
static bool parse_number(const char *text, const struct unit *units, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text || !(*value >= 0)) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (strcasecmp(end, units->name) == 0) {
            *value *= units->factor;
            return true;
        }
    }
    return false;
}

static bool parse_flag(const char *text, bool *value)
{
    *value = strcmp(text, "yes") == 0 || strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *value || strcmp(text, "no") == 0 || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

/* The index of `text` among the words of "a|b|c", which may be followed by ": explanation". */
static bool parse_choice(const char *text, const char *words, int *value)
{
    size_t len = strlen(text);
    size_t all = strcspn(words, ":");
    *value = 0;
    for (size_t at = 0; at < all; (*value)++) {
        size_t word = strcspn(words + at, "|:");
        if (word == len && strncmp(words + at, text, len) == 0) {
            return true;
        }
        at += word + 1;
    }
    return false;
}

static bool store(struct mr_load_options *options, const struct row *row, const char *text)
{
    void  *field = (char *)options + row->offset;
    double number;
    switch (row->kind) {
    case KIND_TEXT:
        if (strlen(text) >= MR_LOAD_TEXT_MAX) {
            return false;
        }
        memcpy(field, text, strlen(text) + 1);
        return true;
    case KIND_FLAG:
        return parse_flag(text, field);
    case KIND_CHOICE:
        return parse_choice(text, row->text, field);
    case KIND_COUNT:
    case KIND_BYTES:
    case KIND_TIME:
    case KIND_RATE:
        break;
    }
    const struct unit *units = row->kind == KIND_TIME    ? time_units
                               : row->kind == KIND_COUNT ? count_units
                                                         : byte_units;
    if (!parse_number(text, units, &number) || number < row->least || number > row->most) {
        return false;
    }
    if (row->kind == KIND_RATE) {
        memcpy(field, &number, sizeof number);
        return true;
    }
    uint64_t whole = (uint64_t)number;
    memcpy(field, &whole, sizeof whole);
    return (double)whole == number || row->kind == KIND_TIME;
}

void mr_load_options_init(struct mr_load_options *options)
{
    memset(options, 0, sizeof *options);
    for (size_t index = 0; index < ROW_COUNT; index++) {
        (void)store(options, &rows[index], rows[index].value);
    }
}

static bool refuse(const struct row *row, const char *value, char *why, size_t why_size)
{
    if (row->most > 0) {
        snprintf(why, why_size, "%s=%s: not a number from %.0f to %.0f (%s)", row->key, value, row->least, row->most,
                 row->text);
    } else {
        snprintf(why, why_size, "%s=%s: not a value for it (%s)", row->key, value,
                 row->kind == KIND_FLAG ? "yes or no" : row->text);
    }
    return false;
}

bool mr_load_options_set(struct mr_load_options *options, const char *setting, char *why, size_t why_size)
{
    const char *equals = strchr(setting, '=');
    size_t      len = equals == NULL ? strlen(setting) : (size_t)(equals - setting);
    for (size_t index = 0; index < ROW_COUNT && equals != NULL; index++) {
        if (strlen(rows[index].key) == len && strncmp(rows[index].key, setting, len) == 0) {
            return store(options, &rows[index], equals + 1) || refuse(&rows[index], equals + 1, why, why_size);
        }
    }
    snprintf(why, why_size, "no such key: %.*s (millrace-load --help lists them)", (int)len, setting);
    return false;
}

bool mr_load_options_text(struct mr_load_options *options, const char *name, const char *text, char *why,
                          size_t why_size)
{
    char setting[MR_LOAD_TEXT_MAX * 2];
    char reason[MR_LOAD_TEXT_MAX * 2];
    for (int line = 1; *text != '\0'; line++) {
        size_t len = strcspn(text, "\n");
        size_t used = strcspn(text, "#\n");
        while (used > 0 && (text[used - 1] == ' ' || text[used - 1] == '\t' || text[used - 1] == '\r')) {
            used--;
        }
        if (used > 0 && text[0] != '@') {
            snprintf(setting, sizeof setting, "%.*s", (int)used, text);
            if (!mr_load_options_set(options, setting, reason, sizeof reason)) {
                snprintf(why, why_size, "%s:%d: %s", name, line, reason);
                return false;
            }
        }
        text += len + (text[len] == '\n');
    }
    return true;
}

bool mr_load_options_check(const struct mr_load_options *options, char *why, size_t why_size)
{
    const struct {
        bool        is_wrong;
        const char *text;
    } rules[] = {
        {options->producers + options->consumers + options->idle + options->committers == 0 && options->storm == 0,
         "producers, consumers, committers, idle and storm are all 0: nothing to do"},
        {options->idempotent && options->in_flight > 5, "idempotent=yes allows at most in.flight=5"},
        {options->idempotent && options->acks != MR_LOAD_ACKS_ALL, "idempotent=yes needs acks=all"},
        {options->transactional && (options->in_flight != 1 || options->acks != MR_LOAD_ACKS_ALL),
         "transactional=yes needs in.flight=1 and acks=all"},
        {(options->e2e || options->verify) && options->record_bytes < 24,
         "e2e and verify write 24 bytes into each value: record.bytes must be at least 24"},
        {options->e2e && options->consumers == 0, "e2e=yes needs consumers"},
        {options->verify && options->acks == MR_LOAD_ACKS_NONE,
         "verify=yes needs answers: acks=0 has none"},
        {options->acks == MR_LOAD_ACKS_NONE && options->rate == 0 && options->rate_bytes == 0 &&
             options->producers > 0,
         "acks=0 has no answers to wait for: give it a rate"},
        {options->rate > 0 && options->rate_bytes > 0, "rate and rate.bytes say the same thing: give one"},
        {options->acked_out[0] != '\0' && !options->verify, "acked.out needs verify=yes"},
        {options->acked_in[0] != '\0' && (!options->verify || options->consumers != 1 || options->producers != 0),
         "acked.in needs verify=yes, consumers=1 and producers=0"},
        {options->group[0] != '\0' && options->consumers > 64, "a group has at most 64 members here"},
        {options->batches * options->records * options->record_bytes > 512ull << 20,
         "batches x records x record.bytes is more than 512 MiB"},
    };
    for (size_t index = 0; index < sizeof rules / sizeof rules[0]; index++) {
        if (rules[index].is_wrong) {
            snprintf(why, why_size, "%s", rules[index].text);
            return false;
        }
    }
    return true;
}

double mr_load_options_rate(const struct mr_load_options *options)
{
    uint64_t bytes = options->batches * options->records * options->record_bytes;
    return options->rate_bytes > 0 ? options->rate_bytes / (double)bytes : options->rate;
}

void mr_load_options_help(void)
{
    for (size_t index = 0; index < ROW_COUNT; index++) {
        printf("  %-22s %-16s %s\n", rows[index].key, rows[index].value, rows[index].text);
    }
}
