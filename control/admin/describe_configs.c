/*
 * describe_configs: DescribeConfigs of topics, brokers and groups: every key with its value, where it comes
 * from, its synonyms, type and documentation.
 *
 * Source: Apache Kafka 4.4, ConfigHelper: order of sources, which keys are synonyms of which.
 */
#include "admin/admin.h"
#include "metadata/controller.h"
#include "metadata/group_config.h"
#include "metadata/log_config.h"
#include "millrace/kafka/messages.h"

typedef struct mr_describe_configs_response_describe_configs_resource_result entry_type;
typedef struct mr_describe_configs_response_describe_configs_synonym         synonym_type;
typedef struct mr_describe_configs_response_describe_configs_result          result_type;
typedef struct mr_describe_configs_request_describe_configs_resource         resource_type;

/* Broker keys that say the same in other units, the strongest first. The scheduler's interval is the
 * default of the flush interval, but not the other way round. */
#define UNITS 3
static const enum mr_config_id units[][UNITS] = {
    {MR_CONFIG_log_retention_ms, MR_CONFIG_log_retention_minutes, MR_CONFIG_log_retention_hours},
    {MR_CONFIG_log_roll_ms, MR_CONFIG_log_roll_hours, MR_CONFIG_none},
    {MR_CONFIG_log_roll_jitter_ms, MR_CONFIG_log_roll_jitter_hours, MR_CONFIG_none},
};
static const enum mr_config_id flush_interval[UNITS] = {
    MR_CONFIG_log_flush_interval_ms,
    MR_CONFIG_log_flush_scheduler_interval_ms,
    MR_CONFIG_none,
};

#define SYNONYMS_MAX (1 + UNITS * 4)

struct describe {
    struct mr_ctl      ctl;
    struct mr_request *request;
    bool               has_synonyms;
    bool               has_documentation;
    bool               is_failed; /* no memory */
    const result_type *plain;     /* a topic without configs of its own, whole: all such look the same */
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
    case MR_CONFIG_TYPE_CLASS:
        return 8;
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
    if (mr_config_is_text(key->type)) {
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

static void relatives(enum mr_config_id id, enum mr_config_id ids[UNITS])
{
    ids[0] = id;
    ids[1] = ids[2] = MR_CONFIG_none;
    if (id == MR_CONFIG_log_flush_interval_ms) {
        memcpy(ids, flush_interval, sizeof flush_interval);
    }
    for (size_t row = 0; row < sizeof units / sizeof units[0]; row++) {
        for (size_t unit = 0; unit < UNITS; unit++) {
            if (units[row][unit] == id) {
                memcpy(ids, units[row], sizeof units[row]);
            }
        }
    }
}

/* What one source says about a broker key; null: nothing. */
static struct mr_str said_by(struct describe *d, enum mr_config_source source, enum mr_config_id id)
{
    struct mr_log_config_node   node;
    const struct mr_config_key *key = &mr_config_rows[id].key;
    struct mr_config_value      value;
    switch (source) {
    case MR_SOURCE_BROKER:
        return mr_meta_config(mr_meta_resource(d->ctl.meta, MR_META_BROKER,
                                               mr_log_config_node_name(d->ctl.node_id, &node)),
                              mr_str(key->name));
    case MR_SOURCE_BROKER_DEFAULT:
        return mr_meta_config(mr_meta_resource(d->ctl.meta, MR_META_BROKER, MR_STR("")),
                              mr_str(key->name));
    case MR_SOURCE_STATIC:
        if (!mr_config_is_given(d->ctl.config, id)) {
            return MR_STR_NULL;
        }
        value = mr_config_get(d->ctl.config, id);
        return value_text(d, key, &value);
    case MR_SOURCE_DEFAULT:
        return key->default_text == NULL ? MR_STR_NULL : mr_str(key->default_text);
    case MR_SOURCE_UNKNOWN:
    case MR_SOURCE_TOPIC:
    case MR_SOURCE_GROUP:
        break;
    }
    mr_unreachable("not a source of broker keys");
}

/*
 * Where a broker key and its relatives are set, source by source, as Kafka lists them: not before
 * the first that sets the key itself. So log.retention.ms has no synonym while only
 * log.retention.hours says something.
 */
static void broker_synonyms(struct describe *d, enum mr_config_id id, synonym_type *synonyms,
                            int32_t *count)
{
    static const enum mr_config_source sources[] = {MR_SOURCE_BROKER, MR_SOURCE_BROKER_DEFAULT,
                                                    MR_SOURCE_STATIC, MR_SOURCE_DEFAULT};
    enum mr_config_id                  ids[UNITS];
    bool                               is_found = false;
    relatives(id, ids);
    for (size_t source = 0; source < sizeof sources / sizeof sources[0]; source++) {
        for (size_t unit = 0; unit < UNITS && ids[unit] != MR_CONFIG_none; unit++) {
            struct mr_str value = said_by(d, sources[source], ids[unit]);
            is_found = is_found || (ids[unit] == id && !mr_str_is_null(value));
            if (is_found) {
                synonym_add(synonyms, count, mr_config_rows[ids[unit]].key.name, value,
                            sources[source]);
            }
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
    entry->value = MR_STR_NULL;
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
        result->error_code = MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION; /* without words, as Kafka */
        return;
    }
    const struct mr_meta_resource *own =
        mr_meta_resource(d->ctl.meta, MR_META_TOPIC, resource->resource_name);
    bool is_plain = own == NULL && resource->configuration_keys_count <= 0;
    if (is_plain && d->plain != NULL) {
        result->configs = d->plain->configs;
        result->configs_count = d->plain->configs_count;
        return;
    }
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
        if (!mr_str_is_null(mr_meta_config(own, mr_str(row->key.name)))) {
            synonym_add(synonyms, &count, row->key.name, entry->value, MR_SOURCE_TOPIC);
        }
        if (row->broker != MR_CONFIG_none) {
            broker_synonyms(d, row->broker, synonyms, &count);
        }
        entry_synonyms(d, entry, synonyms, count);
    }
    d->plain = is_plain ? result : d->plain;
}

/* Any group can be asked for, also one that does not exist yet. */
static void describe_group(struct describe *d, const resource_type *resource, result_type *result)
{
    const struct mr_meta_resource *own =
        mr_meta_resource(d->ctl.meta, MR_META_GROUP, resource->resource_name);
    result->configs = MR_REQUEST_NEW(d->ctl.control, d->request, entry_type, MR_GROUP_CONFIG_COUNT);
    if (result->configs == NULL) {
        d->is_failed = true;
        return;
    }
    for (int id = 0; id < MR_GROUP_CONFIG_COUNT; id++) {
        const struct mr_group_config_row *row = &mr_group_config_rows[id];
        struct mr_str                     name = mr_str(row->key.name);
        synonym_type                      synonyms[SYNONYMS_MAX];
        int32_t                           count = 0;
        if (!is_wanted(resource, name)) {
            continue;
        }
        entry_type            *entry = &result->configs[result->configs_count++];
        struct mr_config_value value = {
            .number = mr_group_config_value(d->ctl.meta, d->ctl.config, resource->resource_name,
                                            (enum mr_group_config_id)id),
        };
        entry_key(d, entry, &row->key);
        entry->value = value_text(d, &row->key, &value);
        synonym_add(synonyms, &count, row->key.name, mr_meta_config(own, name), MR_SOURCE_GROUP);
        broker_synonyms(d, row->broker, synonyms, &count);
        entry_synonyms(d, entry, synonyms, count);
    }
}

/* A key that has no row: who knows what it is, so its value stays hidden. */
static void describe_unknown(struct describe *d, struct mr_str name, enum mr_config_source source,
                             entry_type *entry)
{
    synonym_type synonym = {.name = name, .value = MR_STR_NULL, .source = (int8_t)source};
    MR_DEFAULTS(describe_configs_response_describe_configs_resource_result, entry);
    entry->name = name;
    entry->value = MR_STR_NULL;
    entry->documentation = MR_STR_NULL;
    entry->is_sensitive = true;
    entry_synonyms(d, entry, &synonym, 1);
    entry->read_only = true;
}

/* One broker: every key with its value, then what was set at run time without our knowing it. A key
 * that another one decides is described as it was given: Kafka says null for log.retention.ms while
 * log.retention.hours decides. */
static void describe_broker(struct describe *d, const resource_type *resource, result_type *result)
{
    struct mr_log_config_node      node;
    const struct mr_meta_resource *own = mr_meta_resource(
        d->ctl.meta, MR_META_BROKER, mr_log_config_node_name(d->ctl.node_id, &node));
    uint32_t own_count = own == NULL ? 0 : own->count;
    result->configs =
        MR_REQUEST_NEW(d->ctl.control, d->request, entry_type, MR_CONFIG_COUNT + own_count);
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
        if (value.source != MR_SOURCE_DEFAULT) {
            entry->value = value_text(d, &row->key, &value.value);
        } else if (row->key.default_text != NULL) {
            entry->value = mr_str(row->key.default_text);
        }
        entry->read_only = row->dynamic == MR_CONFIG_READ_ONLY;
        broker_synonyms(d, (enum mr_config_id)id, synonyms, &count);
        entry_synonyms(d, entry, synonyms, count);
    }
    for (uint32_t index = 0; index < own_count; index++) {
        struct mr_str name = own->entries[index].name;
        if (mr_config_find(name) == MR_CONFIG_none && is_wanted(resource, name)) {
            describe_unknown(d, name, MR_SOURCE_BROKER, &result->configs[result->configs_count++]);
        }
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
        struct mr_str     name = all->entries[index].name;
        enum mr_config_id id = mr_config_find(name);
        if (!is_wanted(resource, name)) {
            continue;
        }
        entry_type *entry = &result->configs[result->configs_count++];
        if (id == MR_CONFIG_none) {
            describe_unknown(d, name, MR_SOURCE_BROKER_DEFAULT, entry);
            continue;
        }
        synonym_type synonym = {.name = name,
                                .value = all->entries[index].value,
                                .source = (int8_t)MR_SOURCE_BROKER_DEFAULT};
        entry_key(d, entry, &mr_config_rows[id].key);
        entry->value = all->entries[index].value;
        entry->read_only = mr_config_rows[id].dynamic == MR_CONFIG_READ_ONLY;
        entry_synonyms(d, entry, &synonym, 1);
    }
}

/* Whether the name of a broker's resource is this broker's number. */
static bool is_this_broker(const struct describe *d, struct mr_str name)
{
    static const struct mr_config_key number = {.type = MR_CONFIG_TYPE_INT};
    struct mr_config_value            value;
    return mr_config_parse(&number, name, &value) == MR_OK && !value.is_null &&
           value.number == d->ctl.node_id;
}

static void describe_one(struct describe *d, const resource_type *resource, result_type *result)
{
    result->resource_type = resource->resource_type;
    result->resource_name = resource->resource_name;
    result->error_message = MR_STR("");
    if (resource->resource_type == MR_META_TOPIC) {
        describe_topic(d, resource, result);
    } else if (resource->resource_type == MR_META_GROUP && resource->resource_name.len > 0) {
        describe_group(d, resource, result);
    } else if (resource->resource_type == MR_META_BROKER && resource->resource_name.len == 0) {
        describe_broker_defaults(d, resource, result);
    } else if (resource->resource_type == MR_META_BROKER &&
               is_this_broker(d, resource->resource_name)) {
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
