/*
 * config: the broker's configuration as one struct, read twice from the rows of config.def: once for
 * this struct, once for the table that parses, checks, documents and describes each key.
 *
 * A key's field is its Kafka name with dots as underscores: log.segment.bytes is
 * config->log_segment_bytes. Numbers of every width are int64_t. Strings live as long as the struct.
 *
 * Effective values: after loading, a field that Kafka derives from another key when it is absent holds
 * the derived value (log_retention_ms from minutes or hours, log_roll_ms, log_roll_jitter_ms,
 * log_flush_interval_ms, log_dirs, node_id, advertised_listeners, controller_listener_names,
 * inter_broker_listener_name, metadata_log_dir). What is absent for good is MR_CONFIG_NULL or the null
 * string. mr_config_is_given() says whether the operator wrote a key.
 */
#ifndef MILLRACE_CONFIG_H
#define MILLRACE_CONFIG_H

#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CONFIG_C_INT    int64_t
#define MR_CONFIG_C_LONG   int64_t
#define MR_CONFIG_C_SHORT  int64_t
#define MR_CONFIG_C_DOUBLE double
#define MR_CONFIG_C_BOOL   bool
#define MR_CONFIG_C_STRING struct mr_str
#define MR_CONFIG_C_CLASS  struct mr_str /* of Java; kept and described, never loaded */
#define MR_CONFIG_C_LIST   struct mr_str /* comma separated, as given */

#define MR_CONFIG_NULL INT64_MIN /* a number that has no value */

/* MR_CONFIG_log_segment_bytes: one number per row, in the order of the rows. */
enum mr_config_id {
    MR_CONFIG_none = -1,
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_) MR_CONFIG_##field_,
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_)
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG
    MR_CONFIG_COUNT
};

/* MR_TOPIC_CONFIG_segment_bytes: likewise for the topic rows. */
enum mr_topic_config_id {
    MR_TOPIC_CONFIG_none = -1,
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_)
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_) MR_TOPIC_CONFIG_##field_,
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG
    MR_TOPIC_CONFIG_COUNT
};

struct mr_config {
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_) MR_CONFIG_C_##type_ field_;
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_)
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG

    uint64_t given[(MR_CONFIG_COUNT + 63) / 64]; /* keys that a file or the command line gave */
};

/* Whether file or command line gave the key (Kafka's STATIC_BROKER_CONFIG), else it is built in. */
static inline bool mr_config_is_given(const struct mr_config *config, enum mr_config_id id)
{
    return ((config->given[(unsigned)id / 64] >> ((unsigned)id % 64)) & 1u) != 0;
}

#endif
