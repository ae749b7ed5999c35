#include "metadata/log_config.h"

#include "millrace/base/fmt.h"

struct mr_str mr_log_config_node_name(int32_t node_id, struct mr_log_config_node *name)
{
    size_t len = mr_fmt(name->text, sizeof name->text, "%d", node_id);
    return (struct mr_str){.data = name->text, .len = (int32_t)len};
}

bool mr_log_config_is_internal(struct mr_str topic)
{
    return mr_str_equal(topic, MR_STR("__consumer_offsets")) ||
           mr_str_equal(topic, MR_STR("__transaction_state")) ||
           mr_str_equal(topic, MR_STR("__share_group_state"));
}

/* The value of a key in a resource; false when it is not set there, or not to be believed. */
static bool dynamic_value(const struct mr_meta_resource *resource, const struct mr_config_key *key,
                          struct mr_config_value *value)
{
    struct mr_str text = mr_meta_config(resource, mr_str(key->name));
    return !mr_str_is_null(text) && mr_config_parse(key, text, value) == MR_OK;
}

struct mr_log_config_value mr_log_config_broker(const struct mr_meta   *meta,
                                                const struct mr_config *config, int32_t node_id,
                                                enum mr_config_id id)
{
    struct mr_log_config_node   node;
    const struct mr_config_row *row = &mr_config_rows[id];
    struct mr_log_config_value  found = {.source = MR_SOURCE_DEFAULT};
    if (row->dynamic != MR_CONFIG_READ_ONLY) {
        if (dynamic_value(
                mr_meta_resource(meta, MR_META_BROKER, mr_log_config_node_name(node_id, &node)),
                &row->key, &found.value)) {
            found.source = MR_SOURCE_BROKER;
            return found;
        }
        if (dynamic_value(mr_meta_resource(meta, MR_META_BROKER, MR_STR("")), &row->key,
                          &found.value)) {
            found.source = MR_SOURCE_BROKER_DEFAULT;
            return found;
        }
    }
    found.value = mr_config_get(config, id);
    found.source = mr_config_is_given(config, id) ? MR_SOURCE_STATIC : MR_SOURCE_DEFAULT;
    return found;
}

void mr_log_config_defaults(const struct mr_meta *meta, const struct mr_config *config,
                            int32_t node_id, struct mr_log_config_values *values)
{
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        enum mr_config_id broker = mr_topic_config_rows[id].broker;
        if (broker != MR_CONFIG_none) {
            values->of[id] = mr_log_config_broker(meta, config, node_id, broker);
        } else {
            values->of[id].value = mr_topic_config_default(config, (enum mr_topic_config_id)id);
            values->of[id].source = MR_SOURCE_DEFAULT;
        }
    }
}

void mr_log_config_override(struct mr_log_config_values *values, struct mr_str name,
                            struct mr_str text)
{
    enum mr_topic_config_id id = mr_topic_config_find(name);
    struct mr_config_value  value;
    if (id == MR_TOPIC_CONFIG_none || mr_str_is_null(text) ||
        mr_config_parse(&mr_topic_config_rows[id].key, text, &value) != MR_OK) {
        return;
    }
    values->of[id] = (struct mr_log_config_value){.value = value, .source = MR_SOURCE_TOPIC};
}

void mr_log_config_topic(const struct mr_meta *meta, struct mr_str topic,
                         struct mr_log_config_values *values)
{
    const struct mr_meta_resource *resource = mr_meta_resource(meta, MR_META_TOPIC, topic);
    for (uint32_t index = 0; resource != NULL && index < resource->count; index++) {
        mr_log_config_override(values, resource->entries[index].name,
                               resource->entries[index].value);
    }
}

static bool list_has(struct mr_str list, const char *word)
{
    struct mr_str item;
    int32_t       at = 0;
    while (mr_str_list_next(list, &at, &item)) {
        if (mr_str_equal(item, mr_str(word))) {
            return true;
        }
    }
    return false;
}

static int8_t compression_number(struct mr_str text)
{
    static const char *const codecs[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    for (int8_t codec = 0; codec < 5; codec++) {
        if (mr_str_equal(text, mr_str(codecs[codec]))) {
            return codec;
        }
    }
    return -1;
}

/* Of a codec without levels: any. */
static int32_t compression_level(const struct mr_log_config_values *values, int8_t codec)
{
    static const enum mr_topic_config_id rows[] = {
        [1] = MR_TOPIC_CONFIG_compression_gzip_level,
        [3] = MR_TOPIC_CONFIG_compression_lz4_level,
        [4] = MR_TOPIC_CONFIG_compression_zstd_level,
    };
    bool has_level = codec == 1 || codec == 3 || codec == 4;
    return has_level ? (int32_t)values->of[rows[codec]].value.number : 0;
}

void mr_log_config_make(const struct mr_log_config_values *values, bool is_internal,
                        struct mr_log_config *out)
{
#define NUMBER(field_) (values->of[MR_TOPIC_CONFIG_##field_].value.number)
#define TEXT(field_)   (values->of[MR_TOPIC_CONFIG_##field_].value.text)
    memset(out, 0, sizeof *out);
    out->segment_bytes = NUMBER(segment_bytes);
    out->segment_ms = NUMBER(segment_ms);
    out->segment_jitter_ms = NUMBER(segment_jitter_ms);
    out->segment_index_bytes = NUMBER(segment_index_bytes);
    out->index_interval_bytes = NUMBER(index_interval_bytes);
    out->retention_ms = NUMBER(retention_ms);
    out->retention_bytes = NUMBER(retention_bytes);
    out->file_delete_delay_ms = NUMBER(file_delete_delay_ms);
    out->max_message_bytes = NUMBER(max_message_bytes);
    out->timestamp_before_max_ms = NUMBER(message_timestamp_before_max_ms);
    out->timestamp_after_max_ms = NUMBER(message_timestamp_after_max_ms);
    out->delete_retention_ms = NUMBER(delete_retention_ms);
    out->min_compaction_lag_ms = NUMBER(min_compaction_lag_ms);
    out->max_compaction_lag_ms = NUMBER(max_compaction_lag_ms);
    out->min_cleanable_dirty_ratio =
        values->of[MR_TOPIC_CONFIG_min_cleanable_dirty_ratio].value.real;
    out->min_insync_replicas = (int32_t)NUMBER(min_insync_replicas);
    out->compression_type = compression_number(TEXT(compression_type));
    out->compression_level = compression_level(values, out->compression_type);
    out->timestamp_type = mr_str_equal(TEXT(message_timestamp_type), MR_STR("LogAppendTime"))
                              ? MR_TIMESTAMP_LOG_APPEND_TIME
                              : MR_TIMESTAMP_CREATE_TIME;
    out->validate = mr_str_equal(TEXT(millrace_validate_records), MR_STR("full")) ? MR_VALIDATE_FULL
                    : mr_str_equal(TEXT(millrace_validate_records), MR_STR("header"))
                        ? MR_VALIDATE_HEADER
                        : MR_VALIDATE_FRAMING;
    out->is_retention_by_append = mr_str_equal(TEXT(millrace_retention_clock), MR_STR("append"));
    out->is_cleanup_delete = list_has(TEXT(cleanup_policy), "delete");
    out->is_cleanup_compact = list_has(TEXT(cleanup_policy), "compact");
    bool is_ack_own = values->of[MR_TOPIC_CONFIG_millrace_ack].source == MR_SOURCE_TOPIC;
    out->ack = mr_str_equal(TEXT(millrace_ack), MR_STR("write")) && (!is_internal || is_ack_own)
                   ? MR_ACK_WRITE
                   : MR_ACK_SYNC;
#undef NUMBER
#undef TEXT
}
