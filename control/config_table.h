/*
 * config_table: the rows of config.def as a table: find a key, parse and check a value, say what would
 * have been accepted, write a value as text. What DescribeConfigs, IncrementalAlterConfigs, the loader
 * and docs/CONFIG.md have in common.
 *
 * Pure: no files, no memory of its own; texts of values point where the caller's text points.
 * Source: Apache Kafka 4.4, ConfigDef: numbers are trimmed, booleans are case-insensitive, lists are
 * split at commas.
 */
#ifndef MILLRACE_CONTROL_CONFIG_TABLE_H
#define MILLRACE_CONTROL_CONFIG_TABLE_H

#include "millrace/base/err.h"
#include "millrace/base/fmt.h"
#include "millrace/base/str.h"
#include "millrace/config.h"
#include "millrace/plane.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_config_type {
    MR_CONFIG_TYPE_INT, /* 32 bits */
    MR_CONFIG_TYPE_LONG,
    MR_CONFIG_TYPE_SHORT,
    MR_CONFIG_TYPE_DOUBLE,
    MR_CONFIG_TYPE_BOOL,
    MR_CONFIG_TYPE_STRING,
    MR_CONFIG_TYPE_CLASS, /* a string that Kafka takes for the name of a Java class */
    MR_CONFIG_TYPE_LIST,
};

enum mr_config_check_kind {
    MR_CONFIG_CHECK_ANY,
    MR_CONFIG_CHECK_RANGE,
    MR_CONFIG_CHECK_RANGE_OR, /* a range, or one value below it */
    MR_CONFIG_CHECK_ONE_OF,
    MR_CONFIG_CHECK_EACH_OF,
    MR_CONFIG_CHECK_REPLICAS, /* "*" or partition:broker,partition:broker,... */
};

enum mr_config_dynamic {
    MR_CONFIG_READ_ONLY,
    MR_CONFIG_PER_BROKER,
    MR_CONFIG_CLUSTER_WIDE,
};

#define MR_CONFIG_CHOICES 6

struct mr_config_check {
    enum mr_config_check_kind kind;
    int64_t min;
    int64_t max;
    int64_t other; /* of RANGE_OR */
    const char *choices[MR_CONFIG_CHOICES + 1]; /* ends with NULL */
};

/* What broker and topic keys have in common. */
struct mr_config_key {
    const char *name;
    const char *default_text; /* NULL: none */
    const char *text;
    enum mr_config_type type;
    struct mr_config_check check;
};

struct mr_config_row {
    struct mr_config_key key;
    enum mr_config_dynamic dynamic;
    const char *differs; /* from Kafka, why; "" where it does not */
    uint32_t offset;     /* of the field in struct mr_config */
};

struct mr_topic_config_row {
    struct mr_config_key key;
    enum mr_config_id broker; /* whose value is the default; none: default_text */
};

extern const struct mr_config_row mr_config_rows[MR_CONFIG_COUNT];
extern const struct mr_topic_config_row mr_topic_config_rows[MR_TOPIC_CONFIG_COUNT];

/* A parsed value; which member holds it is by the key's type. */
struct mr_config_value {
    bool is_null;
    int64_t number; /* INT LONG SHORT */
    double real;    /* DOUBLE */
    bool boolean;
    struct mr_str text; /* STRING CLASS LIST: trimmed, points into the text that was parsed */
};

/* none when there is no such key. Cost: O(rows). */
enum mr_config_id mr_config_find(struct mr_str name);
enum mr_topic_config_id mr_topic_config_find(struct mr_str name);

/* The key whose name needs the fewest edits to become `name`; none when even that is not alike. */
enum mr_config_id mr_config_nearest(struct mr_str name);

/*
 * Parse and check one value. MR_ERR_INVALID: not of the type, or not accepted; mr_config_accepts()
 * then says what would be. A null text is a null value.
 */
enum mr_err mr_config_parse(const struct mr_config_key *key, struct mr_str text,
                            struct mr_config_value *value);

/* Whether values of the type are texts: they are kept, and printed, as they were given. */
static inline bool mr_config_is_text(enum mr_config_type type)
{
    return type == MR_CONFIG_TYPE_STRING || type == MR_CONFIG_TYPE_CLASS ||
           type == MR_CONFIG_TYPE_LIST;
}

/* Append what the key accepts: "a number from 1 to 2147483647", "sync or write". */
void mr_config_accepts(const struct mr_config_key *key, struct mr_text *text);

/* Fill the struct with the built-in values; nothing is given. */
void mr_config_defaults(struct mr_config *config);

/* Read or write the field of a key. Strings are not copied. */
struct mr_config_value mr_config_get(const struct mr_config *config, enum mr_config_id id);
void mr_config_set(struct mr_config *config, enum mr_config_id id,
                   const struct mr_config_value *value);

/* Mark a key as given by the operator. */
void mr_config_mark_given(struct mr_config *config, enum mr_config_id id);

/* Give every field that another one decides its effective value (config.h says which). */
void mr_config_derive(struct mr_config *config);

/*
 * Append a value as Kafka prints it. False when the value is null (nothing is appended: the answer
 * carries a null string). Derived values are printed as they are in effect.
 */
bool mr_config_print(const struct mr_config_key *key, const struct mr_config_value *value,
                     struct mr_text *text);

/*
 * The value that a topic has when it sets nothing: its broker key's value, else the row's own default.
 */
struct mr_config_value mr_topic_config_default(const struct mr_config *config,
                                               enum mr_topic_config_id id);

/* ---- log.dirs ---- */

#define MR_CONFIG_DIR_MAX 400 /* bytes of one path */

/* The directories of log.dirs, that of the metadata log first; how many there are. */
uint32_t mr_config_log_dirs(const struct mr_config *config, struct mr_str dirs[MR_DIRS_MAX]);

#endif
