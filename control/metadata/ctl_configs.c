/*
 * ctl_configs: IncrementalAlterConfigs and AlterConfigs on topics, brokers and groups: decisions over a
 * const state.
 *
 *   the request > one resource: a list of changes > check each (ctl_config_check.c) > records
 *
 * AlterConfigs is the same with SET only, and what it does not name loses its value. A resource
 * changes whole or not at all; one that fails does not stop the others.
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

/* One key of a request. */
struct change {
    struct mr_str name;
    struct mr_str value;
    int8_t op; /* as it came: perhaps none of the above */
};

/* One resource of a request. */
struct target {
    int8_t type;
    struct mr_str name;
    const struct change *changes;
    int32_t count;
    bool is_whole; /* keys that are not named lose their values */
};

/* What a resource is decided with. */
struct decision {
    const struct mr_ctl *ctl;
    struct mr_request *request;
    const struct target *target;
    const struct mr_meta_resource *before; /* NULL: nothing is set */
    struct mr_ctl_seen seen;               /* names in the request */
    struct mr_log_config_values after;     /* of a topic */
    struct mr_meta_records *records;
};

/* ---- lists ---- */

static uint64_t list_items(struct mr_str list)
{
    struct mr_str item;
    int32_t at = 0;
    uint64_t count = 0;
    while (mr_str_list_next(list, &at, &item)) {
        count++;
    }
    return count;
}

/* The list with the items of `change` added (once each) or taken away, in the request's memory;
 * null: no memory. */
static struct mr_str list_change(const struct decision *d, struct mr_str list, struct mr_str change,
                                 enum config_op op)
{
    size_t size =
        (size_t)(list.len > 0 ? list.len : 0) + (size_t)(change.len > 0 ? change.len : 0) + 2;
    char *buffer = mr_request_memory(d->ctl->control, d->request, size);
    struct mr_ctl_seen seen;
    struct mr_text text;
    struct mr_str item;
    int32_t at = 0;
    if (buffer == NULL || !mr_ctl_seen_init(&seen, d->ctl->control, d->request,
                                            list_items(list) + list_items(change))) {
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

/* What a list key holds now, from which APPEND and SUBTRACT start: its value, else the built-in
 * one, as in Kafka. False: the key is no list. */
static bool list_now(const struct decision *d, struct mr_str name, struct mr_str *list)
{
    const struct mr_config_key *key = NULL;
    if (d->target->type == MR_META_TOPIC) {
        enum mr_topic_config_id id = mr_topic_config_find(name);
        key = id == MR_TOPIC_CONFIG_none ? NULL : &mr_topic_config_rows[id].key;
    } else {
        enum mr_config_id id = mr_config_find(name);
        key = id == MR_CONFIG_none ? NULL : &mr_config_rows[id].key;
    }
    if (key == NULL || key->type != MR_CONFIG_TYPE_LIST) {
        return false;
    }
    *list = mr_meta_config(d->before, name);
    if (mr_str_is_null(*list) && key->default_text != NULL) {
        *list = mr_str(key->default_text);
    }
    return true;
}

/* ---- one change ---- */

static void add_record(const struct decision *d, struct mr_str name, struct mr_str value)
{
    struct mr_config_record record = {.resource_type = d->target->type,
                                      .resource_name = d->target->name,
                                      .name = name,
                                      .value = value};
    mr_meta_records_add(d->records, &mr_msg_config_record, 0, &record);
}

/* The value that the key will have; null: none. */
static struct mr_ctl_error resolve(struct decision *d, const struct change *change,
                                   struct mr_str *value)
{
    struct mr_str list;
    *value = change->value;
    switch (change->op) {
    case CONFIG_SET:
        return mr_ctl_ok;
    case CONFIG_DELETE:
        *value = MR_STR_NULL;
        return mr_ctl_ok;
    case CONFIG_APPEND:
    case CONFIG_SUBTRACT:
        if (!list_now(d, change->name, &list)) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_CONFIG,
                mr_request_text(d->ctl->control, d->request,
                                "Can't %s to key %.*s because its type is not LIST.",
                                change->op == CONFIG_APPEND ? "APPEND" : "SUBTRACT",
                                change->name.len, change->name.data));
        }
        *value = list_change(d, list, change->value, (enum config_op)change->op);
        d->records->is_failed = d->records->is_failed || mr_str_is_null(*value);
        return mr_ctl_ok;
    default:
        return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                             mr_request_text(d->ctl->control, d->request,
                                             "Unknown config operation %d", change->op));
    }
}

/* Back to what the topic has when it does not set the key. */
static void values_reset(struct decision *d, struct mr_str name)
{
    enum mr_topic_config_id id = mr_topic_config_find(name);
    struct mr_log_config_values defaults;
    if (id != MR_TOPIC_CONFIG_none) {
        mr_log_config_defaults(d->ctl->meta, d->ctl->config, d->ctl->node_id, &defaults);
        d->after.of[id] = defaults.of[id];
    }
}

static struct mr_ctl_error change_one(struct decision *d, const struct change *change)
{
    const struct target *target = d->target;
    struct mr_str value;
    struct mr_ctl_error error = resolve(d, change, &value);
    if (error.code != 0 || d->records->is_failed) {
        return error;
    }
    if (target->type == MR_META_GROUP) {
        error = mr_ctl_config_check_group(d->ctl, d->request, change->name, value);
    } else if (target->type == MR_META_BROKER) {
        error = mr_ctl_config_check_broker(d->ctl, d->request, target->name, change->name, value);
    } else if (mr_str_is_null(value)) {
        values_reset(d, change->name);
    } else {
        error = mr_ctl_config_check_topic(d->ctl, d->request, change->name, value);
        mr_log_config_override(&d->after, change->name, value);
    }
    /* Brokers load again what did not change (KAFKA-14136); for topics it would only be noise. */
    bool is_new = !mr_str_equal(mr_meta_config(d->before, change->name), value);
    if (error.code == 0 && (is_new || target->type == MR_META_BROKER)) {
        add_record(d, change->name, value);
    }
    return error;
}

/* ---- one resource ---- */

static struct mr_ctl_error check_topic(const struct decision *d)
{
    struct mr_str name = d->target->name;
    if (name.len == 0) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                             MR_STR("Default topic resources are not allowed."));
    }
    struct mr_ctl_error error = mr_ctl_topics_check_name(name);
    if (error.code == 0 && mr_meta_topic_by_name(d->ctl->meta, name) == NULL) {
        return mr_ctl_refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                             mr_request_text(d->ctl->control, d->request,
                                             "The topic '%.*s' does not exist.", name.len,
                                             name.data));
    }
    return error;
}

static struct mr_ctl_error check_resource(const struct decision *d)
{
    struct mr_log_config_node node;
    struct mr_str name = d->target->name;
    if (d->target->type == MR_META_TOPIC) {
        return check_topic(d);
    }
    if (d->target->type == MR_META_GROUP) {
        return name.len > 0 ? mr_ctl_ok
                            : mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                                            MR_STR("Default group resources are not allowed."));
    }
    if (d->target->type != MR_META_BROKER) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                             mr_request_text(d->ctl->control, d->request,
                                             "Configs of resource type %d cannot be changed here.",
                                             d->target->type));
    }
    if (name.len > 0 && !mr_str_equal(name, mr_log_config_node_name(d->ctl->node_id, &node))) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                             mr_request_text(d->ctl->control, d->request,
                                             "Unexpected broker id, expected %d, but received %.*s",
                                             d->ctl->node_id, name.len, name.data));
    }
    return mr_ctl_ok;
}

/* What is wrong with the list of changes itself. */
static struct mr_ctl_error check_names(struct decision *d)
{
    for (int32_t index = 0; index < d->target->count; index++) {
        const struct change *change = &d->target->changes[index];
        if (mr_ctl_seen_add(&d->seen, 0, change->name.data, change->name.len, index)->times > 1) {
            return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                                 MR_STR("Error due to duplicate config keys"));
        }
        if (change->op != CONFIG_DELETE && mr_str_is_null(change->value)) {
            return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                                 mr_request_text(d->ctl->control, d->request,
                                                 "Null value not supported for : %.*s",
                                                 change->name.len, change->name.data));
        }
    }
    return mr_ctl_ok;
}

/* AlterConfigs: what is set and not named goes. */
static void delete_others(struct decision *d)
{
    for (uint32_t index = 0; d->before != NULL && index < d->before->count; index++) {
        struct mr_str name = d->before->entries[index].name;
        if (mr_ctl_seen_find(&d->seen, 0, name.data, name.len) == NULL) {
            add_record(d, name, MR_STR_NULL);
        }
    }
}

static struct mr_ctl_error alter_one(const struct mr_ctl *ctl, struct mr_request *request,
                                     const struct target *target, struct mr_meta_records *records)
{
    struct decision d = {
        .ctl = ctl,
        .request = request,
        .target = target,
        .before = mr_meta_resource(ctl->meta, target->type, target->name),
        .records = records,
    };
    struct mr_ctl_error error = check_resource(&d);
    if (error.code != 0) {
        return error;
    }
    if (!mr_ctl_seen_init(&d.seen, ctl->control, request, (uint64_t)target->count)) {
        records->is_failed = true;
        return mr_ctl_ok;
    }
    mr_log_config_defaults(ctl->meta, ctl->config, ctl->node_id, &d.after);
    if (target->type == MR_META_TOPIC && !target->is_whole) {
        mr_log_config_topic(ctl->meta, target->name, &d.after);
    }
    error = check_names(&d);
    for (int32_t index = 0; index < target->count && error.code == 0; index++) {
        error = change_one(&d, &target->changes[index]);
    }
    if (error.code == 0 && target->is_whole) {
        delete_others(&d);
    }
    if (error.code == 0 && target->type == MR_META_TOPIC) {
        error = mr_ctl_config_check_together(ctl, request, &d.after);
    }
    return error;
}

/* ---- the two requests ---- */

/* Decide about `count` resources; errors[index] is the answer to each. False: no memory. */
static bool alter_all(const struct mr_ctl *ctl, struct mr_request *request,
                      const struct target *targets, int32_t count, bool is_only_validated,
                      struct mr_ctl_error *errors, struct mr_meta_records *records)
{
    struct mr_meta_mark start = mr_meta_records_mark(records);
    struct mr_ctl_seen seen;
    if (!mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)count)) {
        return false;
    }
    for (int32_t index = 0; index < count; index++) {
        (void)mr_ctl_seen_add(&seen, targets[index].type, targets[index].name.data,
                              targets[index].name.len, index);
    }
    for (int32_t index = 0; index < count; index++) {
        const struct target *target = &targets[index];
        struct mr_meta_mark mark = mr_meta_records_mark(records);
        bool is_twice =
            mr_ctl_seen_find(&seen, target->type, target->name.data, target->name.len)->times > 1;
        errors[index] = is_twice ? mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                                                 MR_STR("Each resource must appear at most once."))
                                 : alter_one(ctl, request, target, records);
        if (errors[index].code != 0) {
            mr_meta_records_rewind(records, mark);
        }
    }
    if (is_only_validated || mr_bug("ignore-configs")) {
        mr_meta_records_rewind(records, start);
    }
    return true;
}

const void *mr_ctl_configs_alter_incremental(const struct mr_ctl *ctl, struct mr_request *request,
                                             struct mr_meta_records *records)
{
    typedef struct mr_incremental_alter_configs_response_alter_configs_resource_response
        result_type;
    const struct mr_incremental_alter_configs_request *in = request->message;
    int32_t count = in->resources_count;
    struct mr_incremental_alter_configs_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_incremental_alter_configs_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, count);
    struct target *targets = MR_REQUEST_NEW(ctl->control, request, struct target, count);
    struct mr_ctl_error *errors = MR_REQUEST_NEW(ctl->control, request, struct mr_ctl_error, count);
    if (out == NULL || results == NULL || targets == NULL || errors == NULL) {
        return NULL;
    }
    for (int32_t index = 0; index < count; index++) {
        int32_t keys = in->resources[index].configs_count;
        struct change *changes = MR_REQUEST_NEW(ctl->control, request, struct change, keys);
        if (changes == NULL) {
            return NULL;
        }
        for (int32_t key = 0; key < keys; key++) {
            changes[key] =
                (struct change){.name = in->resources[index].configs[key].name,
                                .value = in->resources[index].configs[key].value,
                                .op = in->resources[index].configs[key].config_operation};
        }
        targets[index] = (struct target){.type = in->resources[index].resource_type,
                                         .name = in->resources[index].resource_name,
                                         .changes = changes,
                                         .count = keys};
    }
    if (!alter_all(ctl, request, targets, count, in->validate_only, errors, records)) {
        return NULL;
    }
    for (int32_t index = 0; index < count; index++) {
        results[index] = (result_type){.error_code = errors[index].code,
                                       .error_message = errors[index].message,
                                       .resource_type = targets[index].type,
                                       .resource_name = targets[index].name};
    }
    out->responses = results;
    out->responses_count = count;
    return out;
}

const void *mr_ctl_configs_alter(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    typedef struct mr_alter_configs_response_alter_configs_resource_response result_type;
    const struct mr_alter_configs_request *in = request->message;
    int32_t count = in->resources_count;
    struct mr_alter_configs_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_alter_configs_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, count);
    struct target *targets = MR_REQUEST_NEW(ctl->control, request, struct target, count);
    struct mr_ctl_error *errors = MR_REQUEST_NEW(ctl->control, request, struct mr_ctl_error, count);
    if (out == NULL || results == NULL || targets == NULL || errors == NULL) {
        return NULL;
    }
    for (int32_t index = 0; index < count; index++) {
        int32_t keys = in->resources[index].configs_count;
        struct change *changes = MR_REQUEST_NEW(ctl->control, request, struct change, keys);
        if (changes == NULL) {
            return NULL;
        }
        for (int32_t key = 0; key < keys; key++) {
            changes[key] = (struct change){.name = in->resources[index].configs[key].name,
                                           .value = in->resources[index].configs[key].value,
                                           .op = CONFIG_SET};
        }
        targets[index] = (struct target){.type = in->resources[index].resource_type,
                                         .name = in->resources[index].resource_name,
                                         .changes = changes,
                                         .count = keys,
                                         .is_whole = true};
    }
    if (!alter_all(ctl, request, targets, count, in->validate_only, errors, records)) {
        return NULL;
    }
    for (int32_t index = 0; index < count; index++) {
        results[index] = (result_type){.error_code = errors[index].code,
                                       .error_message = errors[index].message,
                                       .resource_type = targets[index].type,
                                       .resource_name = targets[index].name};
    }
    out->responses = results;
    out->responses_count = count;
    return out;
}
