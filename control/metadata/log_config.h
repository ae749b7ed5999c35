/*
 * log_config: which value of each topic config holds for a topic, where it comes from, and the
 * struct that storage works by.
 *
 *   the topic's own > this broker's dynamic > every broker's dynamic > the file's > built in
 *
 * Pure; reads the state and the configuration. Source: Apache Kafka 4.4, the order of its config
 * synonyms.
 */
#ifndef MILLRACE_CONTROL_LOG_CONFIG_H
#define MILLRACE_CONTROL_LOG_CONFIG_H

#include "config_table.h"
#include "metadata/meta.h"

/* Kafka's config sources, as DescribeConfigs answers them. */
enum mr_config_source {
    MR_SOURCE_UNKNOWN = 0,
    MR_SOURCE_TOPIC = 1,
    MR_SOURCE_BROKER = 2,         /* dynamic, of one broker */
    MR_SOURCE_BROKER_DEFAULT = 3, /* dynamic, of all */
    MR_SOURCE_STATIC = 4,
    MR_SOURCE_DEFAULT = 5,
    MR_SOURCE_GROUP = 8,
};

struct mr_log_config_value {
    struct mr_config_value value;
    enum mr_config_source  source;
};

struct mr_log_config_values {
    struct mr_log_config_value of[MR_TOPIC_CONFIG_COUNT];
};

/* The number of a broker as the name of its config resource. */
struct mr_log_config_node {
    char text[12];
};
struct mr_str mr_log_config_node_name(int32_t node_id, struct mr_log_config_node *name);

/* The value of a broker key now: dynamic ones included. */
struct mr_log_config_value mr_log_config_broker(const struct mr_meta   *meta,
                                                const struct mr_config *config, int32_t node_id,
                                                enum mr_config_id id);

/* What a topic has that sets nothing. */
void mr_log_config_defaults(const struct mr_meta *meta, const struct mr_config *config,
                            int32_t node_id, struct mr_log_config_values *values);

/* Put one setting of a topic over it; unknown names and bad values (from another version) are
 * left out. */
void mr_log_config_override(struct mr_log_config_values *values, struct mr_str name,
                            struct mr_str text);

/* All settings of a topic. */
void mr_log_config_topic(const struct mr_meta *meta, struct mr_str topic,
                         struct mr_log_config_values *values);

/* The struct that storage works by. Internal topics are answered after the flush unless the
 * topic itself says otherwise (ruling 15). Every byte of `out` is set, so two results can be
 * compared as memory. */
void mr_log_config_make(const struct mr_log_config_values *values, bool is_internal,
                        struct mr_log_config *out);

/* __consumer_offsets, __transaction_state, __share_group_state. */
bool mr_log_config_is_internal(struct mr_str topic);

#endif
