/*
 * ctl_configs: IncrementalAlterConfigs and AlterConfigs on topics and brokers: decisions over a
 * const state.
 *
 * A resource changes whole or not at all; one that fails does not stop the others. A topic's key
 * must be known and its value accepted; a broker's key must be one that Kafka changes at run time.
 * Topic keys are refused with INVALID_CONFIG, broker keys with INVALID_REQUEST, as in Apache Kafka
 * 4.4 (KAFKA-13609 says that the second is not right, but clients know it so).
 */
#include "metadata/controller.h"
#include "metadata/ctl_seen.h"
#include "metadata/log_config.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

enum config_op {
    CONFIG_SET = 0,
    CONFIG_DELETE = 1,
    CONFIG_APPEND = 2,
    CONFIG_SUBTRACT = 3,
};

static struct mr_ctl_error refuse(int16_t code, struct mr_str message)
{
    return (struct mr_ctl_error){.code = code, .message = message};
}

static const struct mr_ctl_error success = {.code = 0, .message = {.data = NULL, .len = -1}};

/* ---- one value ---- */

/* Records carry strings of at most so many bytes. */
#define STRING_MAX 32767

static struct mr_ctl_error too_long(int16_t code)
{
    return refuse(code, MR_STR("A configuration value is longer than 32767 bytes."));
}

static struct mr_ctl_error bad_value(const struct mr_ctl *ctl, struct mr_request *request,
                                     int16_t code, const struct mr_config_key *key,
                                     struct mr_str value)
{
    char           buffer[256];
    struct mr_text accepts;
    mr_text_init(&accepts, buffer, sizeof buffer);
    mr_config_accepts(key, &accepts);
    return refuse(code, mr_request_text(ctl->control, request,
                                        "Invalid value %.*s for configuration %s: accepted is %s.",
                                        value.len, value.data, key->name, buffer));
}

struct mr_ctl_error mr_ctl_configs_check_topic(const struct mr_ctl *ctl, struct mr_request *request,
                                               struct mr_str name, struct mr_str value)
{
    enum mr_topic_config_id id = mr_topic_config_find(name);
    struct mr_config_value  parsed;
    if (id == MR_TOPIC_CONFIG_none) {
        return refuse(MR_KAFKA_INVALID_CONFIG,
                      mr_request_text(ctl->control, request, "Unknown topic config name: %.*s",
                                      name.len, name.data));
    }
    const struct mr_config_key *key = &mr_topic_config_rows[id].key;
    if (value.len > STRING_MAX) {
        return too_long(MR_KAFKA_INVALID_CONFIG);
    }
    if (mr_config_parse(key, value, &parsed) != MR_OK) {
        return bad_value(ctl, request, MR_KAFKA_INVALID_CONFIG, key, value);
    }
    if (id == MR_TOPIC_CONFIG_compression_type && !mr_str_equal(parsed.text, MR_STR("producer"))) {
        return refuse(
            MR_KAFKA_INVALID_CONFIG,
            MR_STR("compression.type: batches are stored as they were sent; only 'producer' is "
                   "accepted so far."));
    }
    if (id == MR_TOPIC_CONFIG_remote_storage_enable && parsed.boolean) {
        return refuse(
            MR_KAFKA_INVALID_CONFIG,
            MR_STR(
                "remote.storage.enable: tiered storage is not there; only 'false' is accepted."));
    }
    return success;
}

static struct mr_ctl_error check_broker_key(const struct mr_ctl *ctl, struct mr_request *request,
                                            struct mr_str resource, struct mr_str name,
                                            struct mr_str value)
{
    enum mr_config_id      id = mr_config_find(name);
    struct mr_config_value parsed;
    if (name.len > STRING_MAX || value.len > STRING_MAX) {
        return too_long(MR_KAFKA_INVALID_REQUEST);
    }
    if (id == MR_CONFIG_none) {
        return success; /* Kafka keeps keys that it does not know: they may be a plugin's */
    }
    const struct mr_config_row *row = &mr_config_rows[id];
    if (row->dynamic == MR_CONFIG_READ_ONLY) {
        return refuse(MR_KAFKA_INVALID_REQUEST,
                      mr_request_text(ctl->control, request,
                                      "Cannot update these configs dynamically: %s",
                                      row->key.name));
    }
    if (row->dynamic == MR_CONFIG_PER_BROKER && resource.len == 0) {
        return refuse(MR_KAFKA_INVALID_REQUEST,
                      mr_request_text(ctl->control, request,
                                      "Cannot update these configs at default cluster level: %s",
                                      row->key.name));
    }
    if (!mr_str_is_null(value) && mr_config_parse(&row->key, value, &parsed) != MR_OK) {
        return bad_value(ctl, request, MR_KAFKA_INVALID_REQUEST, &row->key, value);
    }
    if (id == MR_CONFIG_compression_type && !mr_str_is_null(value) &&
        !mr_str_equal(parsed.text, MR_STR("producer"))) {
        return refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("compression.type: batches are stored as they were sent; only 'producer' is "
                   "accepted so far."));
    }
    return success;
}

/* Two settings that contradict each other, after the change. */
static struct mr_ctl_error check_together(const struct mr_ctl *ctl, struct mr_request *request,
                                          const struct mr_log_config_values *values)
{
    int64_t least = values->of[MR_TOPIC_CONFIG_min_compaction_lag_ms].value.number;
    int64_t most = values->of[MR_TOPIC_CONFIG_max_compaction_lag_ms].value.number;
    if (least > most) {
        return refuse(
            MR_KAFKA_INVALID_CONFIG,
            mr_request_text(ctl->control, request,
                            "conflict topic config setting min.compaction.lag.ms (%lld) > "
                            "max.compaction.lag.ms (%lld)",
                            (long long)least, (long long)most));
    }
    return success;
}

/* ---- one resource ---- */

static struct mr_ctl_error check_resource(const struct mr_ctl *ctl, struct mr_request *request,
                                          int8_t type, struct mr_str name)
{
    struct mr_log_config_node node;
    if (type == MR_META_TOPIC) {
        if (name.len == 0) {
            return refuse(MR_KAFKA_INVALID_REQUEST,
                          MR_STR("Default topic resources are not allowed."));
        }
        struct mr_ctl_error error = mr_ctl_topics_check_name(name);
        if (error.code != 0) {
            return error;
        }
        if (mr_meta_topic_by_name(ctl->meta, name) == NULL) {
            return refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                          mr_request_text(ctl->control, request, "The topic '%.*s' does not exist.",
                                          name.len, name.data));
        }
        return success;
    }
    if (type == MR_META_BROKER) {
        if (name.len > 0 && !mr_str_equal(name, mr_log_config_node_name(ctl->node_id, &node))) {
            return refuse(MR_KAFKA_INVALID_REQUEST,
                          mr_request_text(ctl->control, request,
                                          "Unexpected broker id, expected %d, but received %.*s",
                                          ctl->node_id, name.len, name.data));
        }
        return success;
    }
    return refuse(MR_KAFKA_INVALID_REQUEST,
                  mr_request_text(ctl->control, request,
                                  "Configs of resource type %d cannot be changed here.", type));
}

static uint64_t list_items(struct mr_str list)
{
    struct mr_str item;
    int32_t       at = 0;
    uint64_t      count = 0;
    while (mr_str_list_next(list, &at, &item)) {
        count++;
    }
    return count;
}

/* The list with the items of `change` added (once each) or taken away, in the request's memory;
 * null: no memory. */
static struct mr_str list_change(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_str list, struct mr_str change, enum config_op op)
{
    size_t size =
        (size_t)(list.len > 0 ? list.len : 0) + (size_t)(change.len > 0 ? change.len : 0) + 2;
    char              *buffer = mr_request_memory(ctl->control, request, size);
    struct mr_ctl_seen seen;
    struct mr_text     text;
    struct mr_str      item;
    int32_t            at = 0;
    if (buffer == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, list_items(list) + list_items(change))) {
        return MR_STR_NULL;
    }
    mr_text_init(&text, buffer, size);
    while (op == CONFIG_SUBTRACT && mr_str_list_next(change, &at, &item)) {
        (void)mr_ctl_seen_add(&seen, 0, item.data, item.len, 0);
    }
    at = 0;
    while (mr_str_list_next(list, &at, &item)) {
        if (op == CONFIG_APPEND) {
            (void)mr_ctl_seen_add(&seen, 0, item.data, item.len, 0);
        } else if (mr_ctl_seen_find(&seen, 0, item.data, item.len) != NULL) {
            continue;
        }
        mr_text_fmt(&text, "%s%.*s", text.len == 0 ? "" : ",", item.len, item.data);
    }
    at = 0;
    while (op == CONFIG_APPEND && mr_str_list_next(change, &at, &item)) {
        if (mr_ctl_seen_add(&seen, 0, item.data, item.len, 0)->times == 1) {
            mr_text_fmt(&text, "%s%.*s", text.len == 0 ? "" : ",", item.len, item.data);
        }
    }
    return (struct mr_str){.data = buffer, .len = (int32_t)text.len};
}

/* What a list key holds now, from which APPEND and SUBTRACT start; false: the key is no list. */
static bool list_now(const struct mr_ctl *ctl, int8_t type, const struct mr_meta_resource *resource,
                     struct mr_str name, struct mr_str *list)
{
    *list = mr_meta_config(resource, name);
    if (type == MR_META_TOPIC) {
        enum mr_topic_config_id id = mr_topic_config_find(name);
        if (id == MR_TOPIC_CONFIG_none ||
            mr_topic_config_rows[id].key.type != MR_CONFIG_TYPE_LIST) {
            return false;
        }
        if (mr_str_is_null(*list)) {
            struct mr_log_config_values values;
            mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, &values);
            *list = values.of[id].value.text;
        }
        return true;
    }
    enum mr_config_id id = mr_config_find(name);
    if (id == MR_CONFIG_none || mr_config_rows[id].key.type != MR_CONFIG_TYPE_LIST) {
        return false;
    }
    if (mr_str_is_null(*list)) {
        *list = mr_config_get(ctl->config, id).text;
    }
    return true;
}

static void add_record(struct mr_meta_records *records, int8_t type, struct mr_str resource,
                       struct mr_str name, struct mr_str value)
{
    struct mr_config_record record = {
        .resource_type = type, .resource_name = resource, .name = name, .value = value};
    mr_meta_records_add(records, &mr_msg_config_record, 0, &record);
}

/* One key of a resource gets a value, or loses it (null). */
static struct mr_ctl_error change_one(const struct mr_ctl *ctl, struct mr_request *request,
                                      int8_t type, struct mr_str resource_name, struct mr_str name,
                                      struct mr_str value, struct mr_log_config_values *after,
                                      struct mr_meta_records *records)
{
    const struct mr_meta_resource *resource = mr_meta_resource(ctl->meta, type, resource_name);
    struct mr_str                  before = mr_meta_config(resource, name);
    struct mr_ctl_error            error = success;
    if (type == MR_META_BROKER) {
        error = check_broker_key(ctl, request, resource_name, name, value);
    } else if (!mr_str_is_null(value)) {
        error = mr_ctl_configs_check_topic(ctl, request, name, value);
        mr_log_config_override(after, name, value);
    }
    if (error.code == 0 && (type == MR_META_BROKER || !mr_str_equal(before, value))) {
        add_record(records, type, resource_name, name, value);
    }
    return error;
}

/* The values of a topic before the change; a broker has none. */
static void values_before(const struct mr_ctl *ctl, int8_t type, struct mr_str name,
                          struct mr_log_config_values *values)
{
    mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, values);
    if (type == MR_META_TOPIC) {
        mr_log_config_topic(ctl->meta, name, values);
    }
}

/* Back to what the topic has when it does not set the key. */
static void values_reset(const struct mr_ctl *ctl, struct mr_log_config_values *values,
                         struct mr_str name)
{
    enum mr_topic_config_id     id = mr_topic_config_find(name);
    struct mr_log_config_values defaults;
    if (id != MR_TOPIC_CONFIG_none) {
        mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, &defaults);
        values->of[id] = defaults.of[id];
    }
}

/* ---- IncrementalAlterConfigs ---- */

typedef struct mr_incremental_alter_configs_request_alter_configs_resource incremental_in;

static struct mr_ctl_error incremental_one(const struct mr_ctl *ctl, struct mr_request *request,
                                           const incremental_in   *in,
                                           struct mr_meta_records *records)
{
    struct mr_ctl_error error = check_resource(ctl, request, in->resource_type, in->resource_name);
    struct mr_ctl_seen  seen;
    if (!mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->configs_count)) {
        records->is_failed = true;
        return success;
    }
    for (int32_t index = 0; index < in->configs_count && error.code == 0; index++) {
        struct mr_str name = in->configs[index].name;
        if (mr_ctl_seen_add(&seen, 0, name.data, name.len, index)->times > 1) {
            return refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Error due to duplicate config keys"));
        }
        if (in->configs[index].config_operation != CONFIG_DELETE &&
            mr_str_is_null(in->configs[index].value)) {
            return refuse(
                MR_KAFKA_INVALID_REQUEST,
                mr_request_text(ctl->control, request, "Null value not supported for : %.*s",
                                in->configs[index].name.len, in->configs[index].name.data));
        }
    }
    struct mr_log_config_values after;
    values_before(ctl, in->resource_type, in->resource_name, &after);
    const struct mr_meta_resource *resource =
        mr_meta_resource(ctl->meta, in->resource_type, in->resource_name);
    for (int32_t index = 0; index < in->configs_count && error.code == 0; index++) {
        struct mr_str name = in->configs[index].name;
        struct mr_str value = in->configs[index].value;
        struct mr_str list;
        switch (in->configs[index].config_operation) {
        case CONFIG_SET:
            break;
        case CONFIG_DELETE:
            value = MR_STR_NULL;
            values_reset(ctl, &after, name);
            break;
        case CONFIG_APPEND:
        case CONFIG_SUBTRACT:
            if (!list_now(ctl, in->resource_type, resource, name, &list)) {
                return refuse(MR_KAFKA_INVALID_CONFIG,
                              mr_request_text(ctl->control, request,
                                              "Can't %s to key %.*s because its type is not LIST.",
                                              in->configs[index].config_operation == CONFIG_APPEND
                                                  ? "APPEND"
                                                  : "SUBTRACT",
                                              name.len, name.data));
            }
            value = list_change(ctl, request, list, value,
                                (enum config_op)in->configs[index].config_operation);
            if (mr_str_is_null(value)) {
                records->is_failed = true;
                return success;
            }
            break;
        default:
            return refuse(MR_KAFKA_INVALID_REQUEST,
                          mr_request_text(ctl->control, request, "Unknown config operation %d",
                                          in->configs[index].config_operation));
        }
        error = change_one(ctl, request, in->resource_type, in->resource_name, name, value, &after,
                           records);
    }
    if (error.code == 0 && in->resource_type == MR_META_TOPIC) {
        error = check_together(ctl, request, &after);
    }
    return error;
}

const void *mr_ctl_configs_alter_incremental(const struct mr_ctl *ctl, struct mr_request *request,
                                             struct mr_meta_records *records)
{
    typedef struct mr_incremental_alter_configs_response_alter_configs_resource_response
                                                       result_type;
    const struct mr_incremental_alter_configs_request *in = request->message;
    struct mr_incremental_alter_configs_response      *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_incremental_alter_configs_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, in->resources_count);
    struct mr_ctl_seen seen;
    if (out == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->resources_count)) {
        return NULL;
    }
    for (int32_t index = in->resources_count - 1; index >= 0; index--) {
        (void)mr_ctl_seen_add(&seen, in->resources[index].resource_type,
                              in->resources[index].resource_name.data,
                              in->resources[index].resource_name.len, index);
    }
    struct mr_meta_mark start = mr_meta_records_mark(records);
    out->responses = results;
    for (int32_t index = 0; index < in->resources_count; index++) {
        const incremental_in         *resource = &in->resources[index];
        struct mr_meta_mark           mark = mr_meta_records_mark(records);
        struct mr_ctl_error           error = success;
        const struct mr_ctl_seen_key *key =
            mr_ctl_seen_find(&seen, resource->resource_type, resource->resource_name.data,
                             resource->resource_name.len);
        if (key->times > 1) {
            if (key->last != index) {
                continue; /* one answer for all of them */
            }
            error =
                refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Each resource must appear at most once."));
        } else {
            error = incremental_one(ctl, request, resource, records);
        }
        if (error.code != 0) {
            mr_meta_records_rewind(records, mark);
        }
        results[out->responses_count++] = (result_type){
            .error_code = error.code,
            .error_message = error.message,
            .resource_type = resource->resource_type,
            .resource_name = resource->resource_name,
        };
    }
    if (in->validate_only || mr_bug("ignore-configs")) {
        mr_meta_records_rewind(records, start);
    }
    return out;
}

/* ---- AlterConfigs: what is given replaces everything ---- */

typedef struct mr_alter_configs_request_alter_configs_resource alter_in;

static struct mr_ctl_error alter_one(const struct mr_ctl *ctl, struct mr_request *request,
                                     const alter_in *in, struct mr_meta_records *records)
{
    struct mr_ctl_error error = check_resource(ctl, request, in->resource_type, in->resource_name);
    struct mr_ctl_seen  seen;
    if (!mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->configs_count)) {
        records->is_failed = true;
        return success;
    }
    for (int32_t index = 0; index < in->configs_count && error.code == 0; index++) {
        struct mr_str name = in->configs[index].name;
        if (mr_ctl_seen_add(&seen, 0, name.data, name.len, index)->times > 1) {
            return refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Error due to duplicate config keys"));
        }
        if (mr_str_is_null(in->configs[index].value)) {
            return refuse(
                MR_KAFKA_INVALID_REQUEST,
                mr_request_text(ctl->control, request, "Null value not supported for : %.*s",
                                in->configs[index].name.len, in->configs[index].name.data));
        }
    }
    struct mr_log_config_values after;
    mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, &after);
    for (int32_t index = 0; index < in->configs_count && error.code == 0; index++) {
        error = change_one(ctl, request, in->resource_type, in->resource_name,
                           in->configs[index].name, in->configs[index].value, &after, records);
    }
    const struct mr_meta_resource *resource =
        mr_meta_resource(ctl->meta, in->resource_type, in->resource_name);
    for (uint32_t index = 0; resource != NULL && index < resource->count && error.code == 0;
         index++) {
        struct mr_str name = resource->entries[index].name;
        if (mr_ctl_seen_find(&seen, 0, name.data, name.len) == NULL) {
            add_record(records, in->resource_type, in->resource_name, name, MR_STR_NULL);
        }
    }
    if (error.code == 0 && in->resource_type == MR_META_TOPIC) {
        error = check_together(ctl, request, &after);
    }
    return error;
}

const void *mr_ctl_configs_alter(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    typedef struct mr_alter_configs_response_alter_configs_resource_response result_type;
    const struct mr_alter_configs_request                                   *in = request->message;
    struct mr_alter_configs_response                                        *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_alter_configs_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, in->resources_count);
    struct mr_ctl_seen seen;
    if (out == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->resources_count)) {
        return NULL;
    }
    for (int32_t index = in->resources_count - 1; index >= 0; index--) {
        (void)mr_ctl_seen_add(&seen, in->resources[index].resource_type,
                              in->resources[index].resource_name.data,
                              in->resources[index].resource_name.len, index);
    }
    struct mr_meta_mark start = mr_meta_records_mark(records);
    out->responses = results;
    for (int32_t index = 0; index < in->resources_count; index++) {
        const alter_in               *resource = &in->resources[index];
        struct mr_meta_mark           mark = mr_meta_records_mark(records);
        struct mr_ctl_error           error = success;
        const struct mr_ctl_seen_key *key =
            mr_ctl_seen_find(&seen, resource->resource_type, resource->resource_name.data,
                             resource->resource_name.len);
        if (key->times > 1) {
            if (key->last != index) {
                continue; /* one answer for all of them */
            }
            error =
                refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Each resource must appear at most once."));
        } else {
            error = alter_one(ctl, request, resource, records);
        }
        if (error.code != 0) {
            mr_meta_records_rewind(records, mark);
        }
        results[out->responses_count++] = (result_type){
            .error_code = error.code,
            .error_message = error.message,
            .resource_type = resource->resource_type,
            .resource_name = resource->resource_name,
        };
    }
    if (in->validate_only || mr_bug("ignore-configs")) {
        mr_meta_records_rewind(records, start);
    }
    return out;
}
