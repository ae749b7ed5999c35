/*
 * group_config: what one consumer group may set for itself (resource type GROUP): each key stands
 * for a key of the broker, within bounds that the broker's configuration gives.
 *
 * Threads: control. Source: behaviour of Apache Kafka 4.4, GroupConfig.
 */
#ifndef MILLRACE_GROUP_CONFIG_H
#define MILLRACE_GROUP_CONFIG_H

#include "config_table.h"
#include "metadata/meta.h"

enum mr_group_config_id {
    MR_GROUP_CONFIG_none = -1,
    MR_GROUP_CONFIG_session_ms,
    MR_GROUP_CONFIG_heartbeat_ms,
    MR_GROUP_CONFIG_assignment_interval_ms,
    MR_GROUP_CONFIG_COUNT,
};

struct mr_group_config_row {
    struct mr_config_key key;
    enum mr_config_id broker; /* whose value a group has that sets none */
    enum mr_config_id least;
    enum mr_config_id most;
};

extern const struct mr_group_config_row mr_group_config_rows[MR_GROUP_CONFIG_COUNT];

enum mr_group_config_id mr_group_config_find(struct mr_str name);

/* What the group has: its own value within the bounds, else the broker's. */
int64_t mr_group_config_value(const struct mr_meta *meta, const struct mr_config *config,
                              struct mr_str group, enum mr_group_config_id id);

/* NULL: the value may be set; else what it must be, like "at least %s", with *bound the key. */
const char *mr_group_config_check(const struct mr_config *config, enum mr_group_config_id id,
                                  struct mr_str value, enum mr_config_id *bound);

#endif
