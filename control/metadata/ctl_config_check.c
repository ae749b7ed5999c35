/*
 * ctl_config_check: what a config may be set to: one setting of a topic, one of a broker, and
 * settings that contradict each other.
 *
 * Topic keys are refused with INVALID_CONFIG, broker keys with INVALID_REQUEST, as in Apache Kafka
 * 4.4 (KAFKA-13609 says that the second is not right, but clients know it so).
 */
#include "metadata/controller.h"
#include "metadata/group_config.h"
#include "metadata/log_config.h"
#include "millrace/net/address.h"

/* Records carry strings of at most so many bytes. */
#define STRING_MAX 32767

static struct mr_ctl_error too_long(int16_t code)
{
    return mr_ctl_refuse(code, MR_STR("A configuration value is longer than 32767 bytes."));
}

static struct mr_ctl_error bad_value(const struct mr_ctl *ctl, struct mr_request *request,
                                     int16_t code, const struct mr_config_key *key,
                                     struct mr_str value)
{
    char buffer[256];
    struct mr_text accepts;
    mr_text_init(&accepts, buffer, sizeof buffer);
    mr_config_accepts(key, &accepts);
    return mr_ctl_refuse(code,
                         mr_request_text(ctl->control, request,
                                         "Invalid value %.*s for configuration %s: accepted is %s.",
                                         value.len, value.data, key->name, buffer));
}

/* ---- topics ---- */

struct mr_ctl_error mr_ctl_config_check_topic(const struct mr_ctl *ctl, struct mr_request *request,
                                              struct mr_str name, struct mr_str value)
{
    enum mr_topic_config_id id = mr_topic_config_find(name);
    struct mr_config_value parsed;
    if (id == MR_TOPIC_CONFIG_none) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_CONFIG,
                             mr_request_text(ctl->control, request,
                                             "Unknown topic config name: %.*s", name.len,
                                             name.data));
    }
    const struct mr_config_key *key = &mr_topic_config_rows[id].key;
    if (value.len > STRING_MAX) {
        return too_long(MR_KAFKA_INVALID_CONFIG);
    }
    if (mr_config_parse(key, value, &parsed) != MR_OK) {
        return bad_value(ctl, request, MR_KAFKA_INVALID_CONFIG, key, value);
    }
    if (id == MR_TOPIC_CONFIG_remote_storage_enable && parsed.boolean) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_CONFIG,
            MR_STR(
                "remote.storage.enable: tiered storage is not there; only 'false' is accepted."));
    }
    return mr_ctl_ok;
}

struct mr_ctl_error mr_ctl_config_check_together(const struct mr_ctl *ctl,
                                                 struct mr_request *request,
                                                 const struct mr_log_config_values *values)
{
    int64_t least = values->of[MR_TOPIC_CONFIG_min_compaction_lag_ms].value.number;
    int64_t most = values->of[MR_TOPIC_CONFIG_max_compaction_lag_ms].value.number;
    if (least > most) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_CONFIG,
            mr_request_text(ctl->control, request,
                            "conflict topic config setting min.compaction.lag.ms (%lld) > "
                            "max.compaction.lag.ms (%lld)",
                            (long long)least, (long long)most));
    }
    return mr_ctl_ok;
}

/* ---- groups ---- */

struct mr_ctl_error mr_ctl_config_check_group(const struct mr_ctl *ctl, struct mr_request *request,
                                              struct mr_str name, struct mr_str value)
{
    enum mr_group_config_id id = mr_group_config_find(name);
    enum mr_config_id bound;
    if (id == MR_GROUP_CONFIG_none) {
        return mr_ctl_refuse(MR_KAFKA_INVALID_CONFIG,
                             mr_request_text(ctl->control, request,
                                             "Unknown group config name: %.*s", name.len,
                                             name.data));
    }
    if (value.len > STRING_MAX) {
        return too_long(MR_KAFKA_INVALID_CONFIG);
    }
    const char *must_be =
        mr_str_is_null(value) ? NULL : mr_group_config_check(ctl->config, id, value, &bound);
    if (must_be == NULL) {
        return mr_ctl_ok;
    }
    return mr_ctl_refuse(MR_KAFKA_INVALID_CONFIG,
                         mr_request_text(ctl->control, request, "%.*s must be %s %s.", name.len,
                                         name.data, must_be, mr_config_rows[bound].key.name));
}

/* ---- brokers ---- */

/* Kafka changes these at run time; here they need a restart, and saying so is better than a change
 * that nobody sees. */
static bool is_fixed_here(enum mr_config_id id)
{
    return id == MR_CONFIG_listeners || id == MR_CONFIG_listener_security_protocol_map ||
           id == MR_CONFIG_cordoned_log_dirs;
}

/* Keys of TLS and SASL have no rows yet; Kafka would load key stores and log in. */
static bool is_security(struct mr_str name)
{
    static const char *const prefixes[] = {"ssl.", "sasl.", "listener.name."};
    for (size_t index = 0; index < sizeof prefixes / sizeof prefixes[0]; index++) {
        struct mr_str prefix = mr_str(prefixes[index]);
        if (name.len >= prefix.len && memcmp(name.data, prefix.data, (size_t)prefix.len) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_thread_count(enum mr_config_id id)
{
    static const enum mr_config_id ids[] = {
        MR_CONFIG_num_network_threads,  MR_CONFIG_num_io_threads,
        MR_CONFIG_num_replica_fetchers, MR_CONFIG_num_recovery_threads_per_data_dir,
        MR_CONFIG_background_threads,   MR_CONFIG_log_cleaner_threads,
    };
    for (size_t index = 0; index < sizeof ids / sizeof ids[0]; index++) {
        if (ids[index] == id) {
            return true;
        }
    }
    return false;
}

/* Kafka's pools grow and shrink by a factor of two at most per change. */
static struct mr_ctl_error check_threads(const struct mr_ctl *ctl, struct mr_request *request,
                                         enum mr_config_id id, int64_t wanted)
{
    int64_t now = mr_log_config_broker(ctl->meta, ctl->config, ctl->node_id, id).value.number;
    if (wanted >= 1 && wanted >= now / 2 && wanted <= now * 2) {
        return mr_ctl_ok;
    }
    return mr_ctl_refuse(
        MR_KAFKA_INVALID_REQUEST,
        mr_request_text(ctl->control, request,
                        "%s is %lld: a change must be to at least 1, at least half and "
                        "at most double of that.",
                        mr_config_rows[id].key.name, (long long)now));
}

/* "address:count,address:count" */
static bool is_overrides(struct mr_str list)
{
    struct mr_address address;
    struct mr_str item;
    uint32_t limit;
    int32_t at = 0;
    bool is_good = true;
    while (is_good && mr_str_list_next(list, &at, &item)) {
        is_good = mr_address_limit_parse(item, &address, &limit);
    }
    return is_good;
}

static struct mr_ctl_error cannot(const struct mr_ctl *ctl, struct mr_request *request,
                                  const char *where, struct mr_str name)
{
    return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST,
                         mr_request_text(ctl->control, request,
                                         "Cannot update these configs %s: %.*s", where, name.len,
                                         name.data));
}

struct mr_ctl_error mr_ctl_config_check_broker(const struct mr_ctl *ctl, struct mr_request *request,
                                               struct mr_str resource, struct mr_str name,
                                               struct mr_str value)
{
    enum mr_config_id id = mr_config_find(name);
    struct mr_config_value parsed;
    if (name.len > STRING_MAX || value.len > STRING_MAX) {
        return too_long(MR_KAFKA_INVALID_REQUEST);
    }
    if (mr_str_is_null(value)) {
        return mr_ctl_ok; /* who takes a setting away cannot contradict anything */
    }
    if (id == MR_CONFIG_none) {
        return is_security(name)
                   ? cannot(ctl, request, "dynamically: TLS and SASL are not served yet", name)
                   : mr_ctl_ok; /* Kafka keeps keys that it does not know: a plugin's, perhaps */
    }
    const struct mr_config_row *row = &mr_config_rows[id];
    if (row->dynamic == MR_CONFIG_READ_ONLY || is_fixed_here(id)) {
        return cannot(ctl, request, "dynamically", name);
    }
    if (row->dynamic == MR_CONFIG_PER_BROKER && resource.len == 0) {
        return cannot(ctl, request, "at default cluster level", name);
    }
    bool is_good = mr_config_parse(&row->key, value, &parsed) == MR_OK;
    if (!is_good ||
        (id == MR_CONFIG_max_connections_per_ip_overrides && !is_overrides(parsed.text))) {
        return bad_value(ctl, request, MR_KAFKA_INVALID_REQUEST, &row->key, value);
    }
    return is_thread_count(id) ? check_threads(ctl, request, id, parsed.number) : mr_ctl_ok;
}
