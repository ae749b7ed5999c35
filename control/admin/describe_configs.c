/*
 * describe_configs: DescribeConfigs of topics and brokers: every key with its value, where it comes
 * from, its synonyms, type and documentation.
 *
 * Source: Apache Kafka 4.4, ConfigHelper: order of sources, which keys are synonyms of which.
 */
#include "admin/admin.h"
#include "metadata/controller.h"
#include "metadata/log_config.h"
#include "millrace/kafka/messages.h"

typedef struct mr_describe_configs_response_describe_configs_resource_result entry_type;
typedef struct mr_describe_configs_response_describe_configs_synonym         synonym_type;
typedef struct mr_describe_configs_response_describe_configs_result          result_type;
typedef struct mr_describe_configs_request_describe_configs_resource         resource_type;

/* Broker keys that say the same in other units, the stronger one first. */
static const enum mr_config_id units[][3] = {
    {MR_CONFIG_log_retention_ms, MR_CONFIG_log_retention_minutes, MR_CONFIG_log_retention_hours},
    {MR_CONFIG_log_roll_ms, MR_CONFIG_log_roll_hours, MR_CONFIG_none},
    {MR_CONFIG_log_roll_jitter_ms, MR_CONFIG_log_roll_jitter_hours, MR_CONFIG_none},
    {MR_CONFIG_log_flush_interval_ms, MR_CONFIG_log_flush_scheduler_interval_ms, MR_CONFIG_none},
};

#define UNITS        3
#define SYNONYMS_MAX (1 + UNITS * 4)

struct describe {
    struct mr_ctl      ctl;
    struct mr_request *request;
    bool               has_synonyms;
    bool               has_documentation;
    bool               is_failed; /* no memory */
};

/* Kafka's numbers of config types. */
static int8_t type_number(enum mr_config_type type)
{
    switch (type) {
    case MR_CONFIG_TYPE_BOOL:
        return 1;
    case MR_CONFIG_TYPE_STRING:
        return 2;
    case MR_CONFIG_TYPE_INT:
        return 3;
    case MR_CONFIG_TYPE_SHORT:
        return 4;
    case MR_CONFIG_TYPE_LONG:
        return 5;
    case MR_CONFIG_TYPE_DOUBLE:
        return 6;
    case MR_CONFIG_TYPE_LIST:
        return 7;
    }
    mr_unreachable("config type");
}

static struct mr_str value_text(struct describe *d, const struct mr_config_key *key,
                                const struct mr_config_value *value)
{
    char           buffer[64];
    struct mr_text text;
    if (value->is_null) {
        return MR_STR_NULL;
    }
    if (key->type == MR_CONFIG_TYPE_STRING || key->type == MR_CONFIG_TYPE_LIST) {
        return value->text;
    }
    mr_text_init(&text, buffer, sizeof buffer);
    (void)mr_config_print(key, value, &text);
    struct mr_str copy = mr_request_text(d->ctl.control, d->request, "%s", buffer);
    d->is_failed = d->is_failed || mr_str_is_null(copy);
    return copy;
}

/* ---- synonyms ---- */

static void synonym_add(synonym_type *synonyms, int32_t *count, const char *name,
                        struct mr_str value, enum mr_config_source source)
{
    if (!mr_str_is_null(value)) {
        synonyms[(*count)++] =
            (synonym_type){.name = mr_str(name), .value = value, .source = (int8_t)source};
    }
}

/* Where a broker key and its relatives are set, the strongest first. is_default_only: only the
 * dynamic defaults of all brokers. */
static void broker_synonyms(struct describe *d, enum mr_config_id id, bool is_default_only,
                            synonym_type *synonyms, int32_t *count)
{
    struct mr_log_config_node      node;
    const struct mr_meta_resource *own = mr_meta_resource(
        d->ctl.meta, MR_META_BROKER, mr_log_config_node_name(d->ctl.node_id, &node));
    const struct mr_meta_resource *all = mr_meta_resource(d->ctl.meta, MR_META_BROKER, MR_STR(""));
    enum mr_config_id              ids[UNITS] = {id, MR_CONFIG_none, MR_CONFIG_none};
    for (size_t row = 0; row < sizeof units / sizeof units[0]; row++) {
        for (size_t unit = 0; unit < UNITS; unit++) {
            if (units[row][unit] == id) {
                memcpy(ids, units[row], sizeof ids);
            }
        }
    }
    for (size_t unit = 0; unit < UNITS && ids[unit] != MR_CONFIG_none; unit++) {
        const struct mr_config_key *key = &mr_config_rows[ids[unit]].key;
        struct mr_str               name = mr_str(key->name);
        if (!is_default_only) {
            synonym_add(synonyms, count, key->name, mr_meta_config(own, name), MR_SOURCE_BROKER);
        }
        synonym_add(synonyms, count, key->name, mr_meta_config(all, name),
                    MR_SOURCE_BROKER_DEFAULT);
        if (is_default_only) {
            continue;
        }
        if (mr_config_is_given(d->ctl.config, ids[unit])) {
            struct mr_config_value value = mr_config_get(d->ctl.config, ids[unit]);
            synonym_add(synonyms, count, key->name, value_text(d, key, &value), MR_SOURCE_STATIC);
        }
        if (key->default_text != NULL) {
            synonym_add(synonyms, count, key->name, mr_str(key->default_text), MR_SOURCE_DEFAULT);
        }
    }
}

/* Source and synonyms of an entry. */
static void entry_synonyms(struct describe *d, entry_type *entry, const synonym_type *synonyms,
                           int32_t count)
{
    entry->config_source = count == 0 ? (int8_t)MR_SOURCE_DEFAULT : synonyms[0].source;
    if (!d->has_synonyms || count == 0) {
        return;
    }
    entry->synonyms = MR_REQUEST_NEW(d->ctl.control, d->request, synonym_type, count);
    if (entry->synonyms == NULL) {
        d->is_failed = true;
        return;
    }
    memcpy(entry->synonyms, synonyms, sizeof *synonyms * (size_t)count);
    entry->synonyms_count = count;
}

static void entry_key(struct describe *d, entry_type *entry, const struct mr_config_key *key)
{
    MR_DEFAULTS(describe_configs_response_describe_configs_resource_result, entry);
    entry->name = mr_str(key->name);
    entry->config_type = type_number(key->type);
    entry->documentation = d->has_documentation ? mr_str(key->text) : MR_STR_NULL;
}

/* Whether the client wants this key: null and an empty list ask for all. */
static bool is_wanted(const resource_type *resource, struct mr_str name)
{
    if (resource->configuration_keys_count <= 0) {
        return true;
    }
    for (int32_t index = 0; index < resource->configuration_keys_count; index++) {
        if (mr_str_equal(resource->configuration_keys[index], name)) {
            return true;
        }
    }
    return false;
}

/* ---- resources ---- */

static void describe_topic(struct describe *d, const resource_type *resource, result_type *result)
{
    struct mr_ctl_error error = mr_ctl_topics_check_name(resource->resource_name);
    if (error.code != 0) {
        result->error_code = error.code;
        result->error_message = error.message;
        return;
    }
    if (mr_meta_topic_by_name(d->ctl.meta, resource->resource_name) == NULL) {
        result->error_code = MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        result->error_message =
            mr_request_text(d->ctl.control, d->request, "The topic '%.*s' does not exist.",
                            resource->resource_name.len, resource->resource_name.data);
        return;
    }
    const struct mr_meta_resource *own =
        mr_meta_resource(d->ctl.meta, MR_META_TOPIC, resource->resource_name);
    struct mr_log_config_values values;
    mr_log_config_defaults(d->ctl.meta, d->ctl.config, d->ctl.node_id, &values);
    mr_log_config_topic(d->ctl.meta, resource->resource_name, &values);
    result->configs = MR_REQUEST_NEW(d->ctl.control, d->request, entry_type, MR_TOPIC_CONFIG_COUNT);
    if (result->configs == NULL) {
        d->is_failed = true;
        return;
    }
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        const struct mr_topic_config_row *row = &mr_topic_config_rows[id];
        synonym_type                      synonyms[SYNONYMS_MAX];
        int32_t                           count = 0;
        if (!is_wanted(resource, mr_str(row->key.name))) {
            continue;
        }
        entry_type *entry = &result->configs[result->configs_count++];
        entry_key(d, entry, &row->key);
        entry->value = value_text(d, &row->key, &values.of[id].value);
        synonym_add(synonyms, &count, row->key.name, mr_meta_config(own, mr_str(row->key.name)),
                    MR_SOURCE_TOPIC);
        if (row->broker != MR_CONFIG_none) {
            broker_synonyms(d, row->broker, false, synonyms, &count);
        }
        entry_synonyms(d, entry, synonyms, count);
    }
}

/* One broker: all keys with the values in effect. */
static void describe_broker(struct describe *d, const resource_type *resource, result_type *result)
{
    result->configs = MR_REQUEST_NEW(d->ctl.control, d->request, entry_type, MR_CONFIG_COUNT);
    if (result->configs == NULL) {
        d->is_failed = true;
        return;
    }
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        const struct mr_config_row *row = &mr_config_rows[id];
        synonym_type                synonyms[SYNONYMS_MAX];
        int32_t                     count = 0;
        if (!is_wanted(resource, mr_str(row->key.name))) {
            continue;
        }
        entry_type                *entry = &result->configs[result->configs_count++];
        struct mr_log_config_value value =
            mr_log_config_broker(d->ctl.meta, d->ctl.config, d->ctl.node_id, (enum mr_config_id)id);
        entry_key(d, entry, &row->key);
        entry->value = value_text(d, &row->key, &value.value);
        entry->read_only = row->dynamic == MR_CONFIG_READ_ONLY;
        broker_synonyms(d, (enum mr_config_id)id, false, synonyms, &count);
        entry_synonyms(d, entry, synonyms, count);
    }
}

/* What is set for all brokers at run time, and nothing else. */
static void describe_broker_defaults(struct describe *d, const resource_type *resource,
                                     result_type *result)
{
    const struct mr_meta_resource *all = mr_meta_resource(d->ctl.meta, MR_META_BROKER, MR_STR(""));
    if (all == NULL) {
        return;
    }
    result->configs = MR_REQUEST_NEW(d->ctl.control, d->request, entry_type, all->count);
    if (result->configs == NULL) {
        d->is_failed = true;
        return;
    }
    for (uint32_t index = 0; index < all->count; index++) {
        enum mr_config_id id = mr_config_find(all->entries[index].name);
        synonym_type      synonyms[SYNONYMS_MAX];
        int32_t           count = 0;
        if (!is_wanted(resource, all->entries[index].name)) {
            continue;
        }
        entry_type *entry = &result->configs[result->configs_count++];
        if (id != MR_CONFIG_none) {
            entry_key(d, entry, &mr_config_rows[id].key);
            broker_synonyms(d, id, true, synonyms, &count);
        } else {
            MR_DEFAULTS(describe_configs_response_describe_configs_resource_result, entry);
            entry->name = all->entries[index].name;
            entry->documentation = MR_STR_NULL;
            entry->is_sensitive = true; /* who knows what it is */
        }
        entry->value = entry->is_sensitive ? MR_STR_NULL : all->entries[index].value;
        entry_synonyms(d, entry, synonyms, count);
        entry->config_source = (int8_t)MR_SOURCE_BROKER_DEFAULT;
    }
}

static void describe_one(struct describe *d, const resource_type *resource, result_type *result)
{
    struct mr_log_config_node node;
    result->resource_type = resource->resource_type;
    result->resource_name = resource->resource_name;
    result->error_message = MR_STR_NULL;
    if (resource->resource_type == MR_META_TOPIC) {
        describe_topic(d, resource, result);
    } else if (resource->resource_type == MR_META_BROKER && resource->resource_name.len == 0) {
        describe_broker_defaults(d, resource, result);
    } else if (resource->resource_type == MR_META_BROKER &&
               mr_str_equal(resource->resource_name,
                            mr_log_config_node_name(d->ctl.node_id, &node))) {
        describe_broker(d, resource, result);
    } else if (resource->resource_type == MR_META_BROKER) {
        result->error_code = MR_KAFKA_INVALID_REQUEST;
        result->error_message = mr_request_text(
            d->ctl.control, d->request,
            "Unexpected broker id, expected %d or empty string, but received %.*s", d->ctl.node_id,
            resource->resource_name.len, resource->resource_name.data);
    } else {
        result->error_code = MR_KAFKA_INVALID_REQUEST;
        result->error_message = mr_request_text(
            d->ctl.control, d->request, "Unsupported resource type: %d", resource->resource_type);
    }
}

void mr_admin_describe_configs(struct mr_control *control, struct mr_now now,
                               struct mr_request *request)
{
    const struct mr_describe_configs_request *in = request->message;
    struct mr_describe_configs_response      *out =
        MR_REQUEST_NEW(control, request, struct mr_describe_configs_response, 1);
    result_type    *results = MR_REQUEST_NEW(control, request, result_type, in->resources_count);
    struct describe d = {
        .ctl = mr_controller_ctl(control),
        .request = request,
        .has_synonyms = in->include_synonyms,
        .has_documentation = in->include_documentation,
        .is_failed = out == NULL || results == NULL,
    };
    (void)now;
    for (int32_t index = 0; index < in->resources_count && !d.is_failed; index++) {
        describe_one(&d, &in->resources[index], &results[index]);
    }
    if (d.is_failed) {
        mr_control_reply_close(control, request);
        return;
    }
    out->results = results;
    out->results_count = in->resources_count;
    mr_control_reply(control, request, out);
}
