#include "metadata/ctl_brokers.h"

#include "config_table.h"
#include "metadata/log_dirs.h"
#include "millrace/kafka/messages.h"

#define ENDPOINTS_MAX 16

/*
 * What a 4.4 broker reads and writes. It must name every feature that is finalized, so it names all
 * that Kafka 4.4 has, also where this broker does not serve the feature yet: the records are
 * understood.
 */
static const struct {
    const char *name;
    int16_t     min;
    int16_t     max;
} features[] = {
#define FEATURE(name_, min_, max_, served_, format_level_, format_needs_) {name_, min_, max_},
#include "millrace/features.def"
};
#define FEATURES ((int32_t)(sizeof features / sizeof features[0]))

bool mr_ctl_brokers_listener(struct mr_str item, struct mr_str *name, struct mr_str *host,
                             uint16_t *port)
{
    int32_t at = 0;
    while (at + 2 < item.len && memcmp(item.data + at, "://", 3) != 0) {
        at++;
    }
    if (at + 2 >= item.len) {
        return false;
    }
    *name = (struct mr_str){.data = item.data, .len = at};
    int32_t colon = item.len - 1;
    while (colon > at + 2 && item.data[colon] != ':') {
        colon--;
    }
    if (colon <= at + 2 || colon + 1 == item.len || item.len - colon > 6) {
        return false;
    }
    uint32_t number = 0;
    for (int32_t digit = colon + 1; digit < item.len; digit++) {
        if (item.data[digit] < '0' || item.data[digit] > '9') {
            return false;
        }
        number = number * 10 + (uint32_t)(item.data[digit] - '0');
    }
    *host = (struct mr_str){.data = item.data + at + 3, .len = colon - at - 3};
    if (host->len >= 2 && host->data[0] == '[' && host->data[host->len - 1] == ']') {
        host->data++;
        host->len -= 2;
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

static bool list_has(struct mr_str list, struct mr_str word)
{
    struct mr_str item;
    int32_t       at = 0;
    while (mr_str_list_next(list, &at, &item)) {
        if (mr_str_equal(item, word)) {
            return true;
        }
    }
    return false;
}

struct listener {
    struct mr_str name;
    struct mr_str host;
    uint16_t      port;
};

/* The advertised listeners that are (or are not) the controller's. */
static int32_t listeners(const struct mr_config *config, bool is_controller, struct listener *out)
{
    struct mr_str list = is_controller ? config->listeners : config->advertised_listeners;
    struct mr_str item;
    int32_t       at = 0;
    int32_t       count = 0;
    while (count < ENDPOINTS_MAX && mr_str_list_next(list, &at, &item)) {
        struct listener one;
        if (!mr_ctl_brokers_listener(item, &one.name, &one.host, &one.port) ||
            list_has(config->controller_listener_names, one.name) != is_controller) {
            continue;
        }
        if (one.host.len == 0 || mr_str_equal(one.host, MR_STR("0.0.0.0"))) {
            one.host = MR_STR("localhost"); /* an address to listen on, none to connect to */
        }
        out[count++] = one;
    }
    return count;
}

void mr_ctl_brokers_register(const struct mr_ctl *ctl, int64_t offset,
                             struct mr_meta_records *records)
{
    struct listener ends[ENDPOINTS_MAX];
    struct mr_uuid  incarnation;
    struct mr_uuid  directories[MR_DIRS_MAX];
    int16_t         version = mr_meta_register_broker_version(ctl->meta->metadata_version);
    mr_control_uuid(ctl->control, &incarnation);

    if (ctl->meta->metadata_version >= MR_META_VERSION_CONTROLLERS) {
        struct mr_register_controller_record_controller_endpoint endpoints[ENDPOINTS_MAX];
        struct mr_register_controller_record_controller_feature  ranges[FEATURES];
        struct mr_register_controller_record                     record = {
                                .controller_id = ctl->node_id,
                                .incarnation_id = incarnation,
                                .end_points = endpoints,
                                .end_points_count = listeners(ctl->config, true, ends),
                                .features = ranges,
                                .features_count = FEATURES,
        };
        for (int32_t index = 0; index < record.end_points_count; index++) {
            endpoints[index] = (struct mr_register_controller_record_controller_endpoint){
                .name = ends[index].name, .host = ends[index].host, .port = ends[index].port};
        }
        for (int32_t index = 0; index < FEATURES; index++) {
            ranges[index] = (struct mr_register_controller_record_controller_feature){
                .name = mr_str(features[index].name),
                .min_supported_version = features[index].min,
                .max_supported_version = features[index].max,
            };
        }
        mr_meta_records_add(records, &mr_msg_register_controller_record, 0, &record);
        offset++;
    }

    struct mr_register_broker_record_broker_endpoint endpoints[ENDPOINTS_MAX];
    struct mr_register_broker_record_broker_feature  ranges[FEATURES];
    struct mr_register_broker_record                 record;
    mr_msg_defaults(&mr_msg_register_broker_record, &record);
    record.broker_id = ctl->node_id;
    record.incarnation_id = incarnation;
    record.broker_epoch = offset;
    record.end_points = endpoints;
    record.end_points_count = listeners(ctl->config, false, ends);
    record.features = ranges;
    record.features_count = FEATURES;
    record.rack = ctl->config->broker_rack;
    record.fenced = true;
    if (version >= 3) {
        record.log_dirs = directories;
        record.log_dirs_count = mr_log_dirs_ids(ctl->control, directories);
    }
    for (int32_t index = 0; index < record.end_points_count; index++) {
        endpoints[index] = (struct mr_register_broker_record_broker_endpoint){
            .name = ends[index].name, .host = ends[index].host, .port = ends[index].port};
    }
    for (int32_t index = 0; index < FEATURES; index++) {
        ranges[index] = (struct mr_register_broker_record_broker_feature){
            .name = mr_str(features[index].name),
            .min_supported_version = features[index].min,
            .max_supported_version = features[index].max,
        };
    }
    mr_meta_records_add(records, &mr_msg_register_broker_record, version, &record);
}

static bool ids_have(const struct mr_meta_ids *ids, int32_t id)
{
    for (int32_t index = 0; index < ids->count; index++) {
        if (ids->ids[index] == id) {
            return true;
        }
    }
    return false;
}

/*
 * Who leads a partition without a leader, as Kafka's controller elects:
 *
 *   in the ISR                                   we lead
 *   ISR empty, eligible                          we lead, ISR = us
 *   ISR empty, nobody eligible, the last known   we lead, ISR = us, recovering (unclean)
 *   else                                         nobody
 */
static void elect(const struct mr_ctl *ctl, const struct mr_meta_topic *topic, uint32_t index,
                  struct mr_meta_records *records)
{
    const struct mr_meta_partition *partition = &topic->partitions[index];
    int32_t                         self = ctl->node_id;
    if (!partition->is_present || partition->leader != -1 ||
        !ids_have(&partition->replicas, self)) {
        return;
    }
    struct mr_partition_change_record record;
    mr_msg_defaults(&mr_msg_partition_change_record, &record);
    record.topic_id = topic->id;
    record.partition_id = (int32_t)index;
    record.leader = self;
    if (!ids_have(&partition->isr, self)) {
        bool is_last_known = partition->eligible.count == 0 && partition->last_known.count == 1 &&
                             partition->last_known.ids[0] == self;
        if (partition->isr.count > 0 || (!ids_have(&partition->eligible, self) && !is_last_known)) {
            return;
        }
        record.isr = &self;
        record.isr_count = 1;
        record.eligible_leader_replicas_count = 0;
        record.last_known_elr_count = 0;
        record.leader_recovery_state = is_last_known ? 1 : -1;
    }
    mr_meta_records_add(records, &mr_msg_partition_change_record,
                        mr_meta_partition_record_version(ctl->meta->metadata_version), &record);
}

void mr_ctl_brokers_unfence(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    const struct mr_meta_broker *self = mr_meta_broker(ctl->meta, ctl->node_id);
    mr_assert(self != NULL);
    struct mr_broker_registration_change_record record;
    mr_msg_defaults(&mr_msg_broker_registration_change_record, &record);
    record.broker_id = ctl->node_id;
    record.broker_epoch = self->epoch;
    record.fenced = -1;
    mr_meta_records_add(records, &mr_msg_broker_registration_change_record,
                        mr_meta_registration_change_version(ctl->meta->metadata_version), &record);
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(ctl->meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(ctl->meta, topic)) {
        for (uint32_t index = 0; index < topic->partition_count && !records->is_failed; index++) {
            elect(ctl, topic, index, records);
        }
    }
}
