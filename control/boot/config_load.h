/*
 * config_load: property files and KEY=VALUE arguments into struct mr_config, with good messages.
 *
 * Files are Java properties: # and ! comments, `=`, `:` or blanks between key and value, backslash
 * escapes and continued lines. Sources apply in the order given; a later one wins.
 *
 * Thread: start-up.
 */
#ifndef MILLRACE_CONTROL_CONFIG_LOAD_H
#define MILLRACE_CONTROL_CONFIG_LOAD_H

#include "millrace/base/arena.h"
#include "millrace/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_CONFIG_FILE_MAX (1u << 20) /* bytes of one file */
#define MR_CONFIG_LINE_MAX 1024       /* of one message */

/* Told line by line, without a final newline. A refusal ends the load. */
enum mr_config_say {
    MR_CONFIG_SAY_WARNING,
    MR_CONFIG_SAY_REFUSAL,
};
typedef void mr_config_say_fn(void *user, enum mr_config_say kind, const char *line);

struct mr_config_load {
    struct mr_config *config;
    struct mr_arena *arena; /* keeps the texts of values: lives as long as the config */
    mr_config_say_fn *say;
    void *user;
};

/* Built-in values; the load may begin. */
void mr_config_load_begin(struct mr_config_load *load);

/* The text of a file, called `name` in messages. False: refused, and said why. */
bool mr_config_load_text(struct mr_config_load *load, const char *name, const char *text,
                         size_t len);

/* A file by its path. */
bool mr_config_load_file(struct mr_config_load *load, const char *path);

/* One KEY=VALUE argument. */
bool mr_config_load_set(struct mr_config_load *load, const char *argument);

/* Derived values and what keys must be true of together. */
bool mr_config_load_end(struct mr_config_load *load);

/* One key and value of properties text: moves *at behind the entry; false at the end. Escapes are
 * resolved into `out`, which must have as many bytes as the text. *line counts lines from 1. */
struct mr_properties {
    const char *text;
    size_t len;
    size_t at;
    uint32_t line;       /* of the next entry to be read */
    uint32_t entry_line; /* of the last one that was */
    char *out;
};
bool mr_properties_next(struct mr_properties *properties, struct mr_str *key, struct mr_str *value);

#endif
