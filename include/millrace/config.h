/*
 * config: the broker's configuration as one struct, read twice from the rows of config.def: once for
 * this struct, once for the table that parses, checks, documents and describes each key.
 *
 * A key's field is its Kafka name with dots as underscores: log.segment.bytes is
 * config->log_segment_bytes. Numbers of every width are int64_t. Strings live as long as the struct.
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
#define MR_CONFIG_C_LIST   struct mr_str /* comma separated, as given */

struct mr_config {
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_) MR_CONFIG_C_##type_ field_;
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_)
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG
};

#endif
