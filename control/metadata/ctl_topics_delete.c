/*
 * ctl_topics_delete: DeleteTopics by name and by id: decisions over a const state.
 *
 * Source: Apache Kafka 4.4: ControllerApis says which refusal comes first; the words are ours.
 */
#include "metadata/controller.h"
#include "metadata/ctl_seen.h"
#include "millrace/kafka/messages.h"

typedef struct mr_delete_topics_response_deletable_topic_result delete_out;

struct delete_item {
    struct mr_str name; /* null: by id */
    struct mr_uuid id;
};

static const struct mr_meta_topic *item_topic(const struct mr_meta *meta,
                                              const struct delete_item *item)
{
    return mr_str_is_null(item->name) ? mr_meta_topic_by_id(meta, &item->id)
                                      : mr_meta_topic_by_name(meta, item->name);
}

/* By name (number 0) or by id (number 1). */
static struct mr_ctl_seen_key *item_key(const struct mr_ctl_seen *seen,
                                        const struct delete_item *item)
{
    return mr_str_is_null(item->name)
               ? mr_ctl_seen_find(seen, 1, item->id.bytes, (int32_t)sizeof item->id.bytes)
               : mr_ctl_seen_find(seen, 0, item->name.data, item->name.len);
}

/* The refusals that come from the list itself: duplicates, and one topic named in two ways. */
static struct mr_ctl_error check_item(const struct mr_ctl *ctl, const struct mr_ctl_seen *seen,
                                      const struct delete_item *item, int32_t at,
                                      struct mr_uuid *id, bool *is_told)
{
    const struct mr_meta_topic *topic = item_topic(ctl->meta, item);
    const struct mr_ctl_seen_key *key = item_key(seen, item);
    if (key->times > 1) {
        *is_told = key->last != at;
        return mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST, mr_str_is_null(item->name)
                                                           ? MR_STR("Duplicate topic id.")
                                                           : MR_STR("Duplicate topic name."));
    }
    if (topic == NULL) {
        return mr_str_is_null(item->name)
                   ? mr_ctl_refuse(MR_KAFKA_UNKNOWN_TOPIC_ID,
                                   MR_STR("This server does not host this topic ID."))
                   : mr_ctl_refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                                   MR_STR("This server does not host this topic-partition."));
    }
    struct delete_item other = {.name = mr_str_is_null(item->name) ? topic->name : MR_STR_NULL,
                                .id = topic->id};
    if (item_key(seen, &other) != NULL) {
        *is_told = mr_str_is_null(item->name); /* the answer stands at the name, with the id */
        *id = topic->id;
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REQUEST,
            MR_STR("The provided topic name maps to an ID that was already supplied."));
    }
    return mr_ctl_ok;
}

const void *mr_ctl_topics_delete(const struct mr_ctl *ctl, struct mr_request *request,
                                 struct mr_meta_records *records)
{
    const struct mr_delete_topics_request *in = request->message;
    int16_t version = request->forward->api_version;
    int32_t given = version >= 6 ? in->topics_count : in->topic_names_count;
    struct mr_delete_topics_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_delete_topics_response, 1);
    struct delete_item *items = MR_REQUEST_NEW(ctl->control, request, struct delete_item, given);
    delete_out *results = MR_REQUEST_NEW(ctl->control, request, delete_out, given);
    int32_t count = 0;
    struct mr_ctl_seen seen;
    if (out == NULL || items == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)given)) {
        return NULL;
    }
    out->responses = results;
    for (int32_t index = 0; index < given; index++) {
        struct delete_item item = {.name = version >= 6 ? in->topics[index].name
                                                        : in->topic_names[index]};
        item.id = version >= 6 ? in->topics[index].topic_id : (struct mr_uuid){0};
        bool has_id = !mr_uuid_is_zero(&item.id);
        if (!ctl->config->delete_topic_enable) {
            results[out->responses_count++] =
                (delete_out){.name = item.name,
                             .topic_id = item.id,
                             .error_code = version < 3 ? MR_KAFKA_INVALID_REQUEST
                                                       : MR_KAFKA_TOPIC_DELETION_DISABLED,
                             .error_message = MR_STR("Topic deletion is disabled.")};
        } else if (mr_str_is_null(item.name) != has_id) {
            results[out->responses_count++] = (delete_out){
                .name = item.name,
                .topic_id = item.id,
                .error_code = MR_KAFKA_INVALID_REQUEST,
                .error_message = has_id
                                     ? MR_STR("You may not specify both topic name and topic id.")
                                     : MR_STR("Neither topic name nor id were specified.")};
        } else {
            items[count++] = item;
        }
    }
    for (int32_t index = count - 1; index >= 0; index--) {
        bool is_id = mr_str_is_null(items[index].name);
        (void)mr_ctl_seen_add(
            &seen, is_id, is_id ? (const void *)items[index].id.bytes : items[index].name.data,
            is_id ? (int32_t)sizeof items[index].id.bytes : items[index].name.len, index);
    }
    for (int32_t index = 0; index < count; index++) {
        bool is_told = false;
        struct mr_uuid id = items[index].id;
        struct mr_ctl_error error = check_item(ctl, &seen, &items[index], index, &id, &is_told);
        const struct mr_meta_topic *topic = item_topic(ctl->meta, &items[index]);
        if (is_told) {
            continue;
        }
        delete_out *result = &results[out->responses_count++];
        *result = (delete_out){.name = items[index].name,
                               .topic_id = id,
                               .error_code = error.code,
                               .error_message = error.message};
        if (error.code == 0) {
            struct mr_remove_topic_record record = {.topic_id = topic->id};
            result->name = topic->name;
            result->topic_id = topic->id;
            mr_meta_records_add(records, &mr_msg_remove_topic_record, 0, &record);
        }
    }
    return out;
}
