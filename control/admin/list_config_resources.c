/*
 * list_config_resources: ListConfigResources: what can have configs. Version 0 asks for client
 * metrics subscriptions only; there are none. Source: Apache Kafka 4.4, KIP-1142.
 */
#include "admin/admin.h"
#include "metadata/controller.h"
#include "metadata/log_config.h"
#include "millrace/kafka/messages.h"

typedef struct mr_list_config_resources_response_config_resource item_type;

static bool is_wanted(const struct mr_list_config_resources_request *in, int8_t type)
{
    for (int32_t index = 0; index < in->resource_types_count; index++) {
        if (in->resource_types[index] == type) {
            return true;
        }
    }
    return in->resource_types_count == 0;
}

static bool is_supported(int8_t type)
{
    return type == MR_META_TOPIC || type == MR_META_BROKER || type == MR_META_BROKER_LOGGER ||
           type == MR_META_CLIENT_METRICS || type == MR_META_GROUP;
}

void mr_admin_list_config_resources(struct mr_control *control, struct mr_now now,
                                    struct mr_request *request)
{
    const struct mr_list_config_resources_request *in = request->message;
    struct mr_list_config_resources_response       out = {0};
    const struct mr_meta                          *meta = control->meta;
    size_t room = meta->topics_by_name.used + (size_t)meta->broker_count * 2 + meta->resources.used;
    item_type *items = MR_REQUEST_NEW(control, request, item_type, room);
    (void)now;
    if (items == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    out.config_resources = items;
    for (int32_t index = 0; index < in->resource_types_count; index++) {
        if (!is_supported(in->resource_types[index])) {
            out.error_code = MR_KAFKA_UNSUPPORTED_VERSION;
            mr_control_reply(control, request, &out);
            return;
        }
    }
    if (request->forward->api_version > 0) {
        for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL);
             topic != NULL && is_wanted(in, MR_META_TOPIC);
             topic = mr_meta_topic_walk(meta, topic)) {
            items[out.config_resources_count++] =
                (item_type){.resource_name = topic->name, .resource_type = MR_META_TOPIC};
        }
        for (uint32_t index = 0; index < meta->broker_count; index++) {
            struct mr_str name = mr_request_text(control, request, "%d", meta->brokers[index].id);
            if (is_wanted(in, MR_META_BROKER)) {
                items[out.config_resources_count++] =
                    (item_type){.resource_name = name, .resource_type = MR_META_BROKER};
            }
            if (is_wanted(in, MR_META_BROKER_LOGGER)) {
                items[out.config_resources_count++] =
                    (item_type){.resource_name = name, .resource_type = MR_META_BROKER_LOGGER};
            }
        }
    }
    for (const struct mr_meta_resource *resource = mr_meta_resource_walk(meta, NULL);
         resource != NULL; resource = mr_meta_resource_walk(meta, resource)) {
        bool is_listed = resource->type == MR_META_CLIENT_METRICS ||
                         (resource->type == MR_META_GROUP && request->forward->api_version > 0);
        if (is_listed && (request->forward->api_version == 0 || is_wanted(in, resource->type))) {
            items[out.config_resources_count++] =
                (item_type){.resource_name = resource->name, .resource_type = resource->type};
        }
    }
    mr_control_reply(control, request, &out);
}
