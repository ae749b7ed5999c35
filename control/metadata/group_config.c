/*
 * group_config: what one consumer group may set for itself.
 */
#include "metadata/group_config.h"

#define ROW(name_, default_, broker_, least_, most_, text_)                                        \
    {                                                                                              \
        .key = {.name = (name_), .type = MR_CONFIG_TYPE_INT, .default_text = (default_),           \
                .text = (text_)},                                                                  \
        .broker = (broker_), .least = (least_), .most = (most_),                                   \
    }

const struct mr_group_config_row mr_group_config_rows[MR_GROUP_CONFIG_COUNT] = {
    [MR_GROUP_CONFIG_session_ms] =
        ROW("consumer.session.timeout.ms", "45000", MR_CONFIG_group_consumer_session_timeout_ms,
            MR_CONFIG_group_consumer_min_session_timeout_ms,
            MR_CONFIG_group_consumer_max_session_timeout_ms,
            "A member that is not heard of for so long is out."),
    [MR_GROUP_CONFIG_heartbeat_ms] =
        ROW("consumer.heartbeat.interval.ms", "5000",
            MR_CONFIG_group_consumer_heartbeat_interval_ms,
            MR_CONFIG_group_consumer_min_heartbeat_interval_ms,
            MR_CONFIG_group_consumer_max_heartbeat_interval_ms,
            "How often members are told to heartbeat."),
    [MR_GROUP_CONFIG_assignment_interval_ms] =
        ROW("consumer.assignment.interval.ms", "1000",
            MR_CONFIG_group_consumer_assignment_interval_ms,
            MR_CONFIG_group_consumer_min_assignment_interval_ms,
            MR_CONFIG_group_consumer_max_assignment_interval_ms,
            "Between two assignments of the group at least."),
};

enum mr_group_config_id mr_group_config_find(struct mr_str name)
{
    for (int id = 0; id < MR_GROUP_CONFIG_COUNT; id++) {
        if (mr_str_equal(mr_str(mr_group_config_rows[id].key.name), name)) {
            return (enum mr_group_config_id)id;
        }
    }
    return MR_GROUP_CONFIG_none;
}

static int64_t number_of(const struct mr_config *config, enum mr_config_id id)
{
    return mr_config_get(config, id).number;
}

int64_t mr_group_config_value(const struct mr_meta *meta, const struct mr_config *config,
                              struct mr_str group, enum mr_group_config_id id)
{
    const struct mr_group_config_row *row = &mr_group_config_rows[id];
    struct mr_config_value value;
    struct mr_str text =
        mr_meta_config(mr_meta_resource(meta, MR_META_GROUP, group), mr_str(row->key.name));
    if (mr_str_is_null(text) || mr_config_parse(&row->key, text, &value) != MR_OK) {
        return number_of(config, row->broker);
    }
    int64_t least = number_of(config, row->least);
    int64_t most = number_of(config, row->most);
    return value.number < least ? least : value.number > most ? most : value.number;
}

const char *mr_group_config_check(const struct mr_config *config, enum mr_group_config_id id,
                                  struct mr_str value, enum mr_config_id *bound)
{
    const struct mr_group_config_row *row = &mr_group_config_rows[id];
    struct mr_config_value parsed;
    *bound = row->broker;
    if (mr_config_parse(&row->key, value, &parsed) != MR_OK || parsed.is_null) {
        return "a whole number, as";
    }
    if (parsed.number < number_of(config, row->least)) {
        *bound = row->least;
        return "at least";
    }
    if (parsed.number > number_of(config, row->most)) {
        *bound = row->most;
        return "at most";
    }
    return NULL;
}
