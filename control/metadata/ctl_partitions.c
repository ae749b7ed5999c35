/*
 * ctl_partitions: where replicas of new partitions go, the records of partitions, and
 * CreatePartitions: decisions over a const state.
 *
 * Source: Apache Kafka 4.4: ReplicationControlManager says which refusal comes first; the words are
 * ours.
 */
#include "metadata/controller.h"
#include "metadata/ctl_seen.h"
#include "metadata/log_dirs.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

/* ---- placement ---- */

static uint32_t active_count(const struct mr_meta *meta)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        count += !meta->brokers[index].is_fenced && !meta->brokers[index].is_in_shutdown;
    }
    return count;
}

bool mr_ctl_partitions_is_active(const struct mr_meta *meta, int32_t id)
{
    const struct mr_meta_broker *broker = mr_meta_broker(meta, id);
    return broker != NULL && !broker->is_fenced && !broker->is_in_shutdown;
}

/* `count` active brokers, in turn from `start`. There are so many. */
static void place(const struct mr_meta *meta, uint32_t start, int32_t *replicas, int32_t count)
{
    int32_t placed = 0;
    for (uint32_t step = 0; placed < count; step++) {
        const struct mr_meta_broker *broker = &meta->brokers[(start + step) % meta->broker_count];
        mr_assert(step < meta->broker_count * 2);
        if (!broker->is_fenced && !broker->is_in_shutdown) {
            replicas[placed++] = broker->id;
        }
    }
}

/* Ours in one of our directories; where another broker with one directory keeps its replicas, else "not yet said". */
static struct mr_uuid directory_of(const struct mr_ctl *ctl, int32_t broker_id)
{
    static const struct mr_uuid unassigned = {.bytes = {[15] = 1}};
    const struct mr_log_dirs *all = ctl->control->log_dirs;
    if (broker_id == ctl->node_id && all->count > 1) {
        return all->dirs[mr_log_dirs_place(ctl->control)].id;
    }
    const struct mr_meta_broker *broker = mr_meta_broker(ctl->meta, broker_id);
    return broker != NULL && broker->directory_count == 1 ? broker->directories[0] : unassigned;
}

struct mr_ctl_error mr_ctl_partitions_check(const struct mr_ctl *ctl, struct mr_request *request,
                                            const int32_t *ids, int32_t count, int32_t expected)
{
    if (count <= 0) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
            MR_STR("The manual partition assignment includes an empty replica list."));
    }
    for (int32_t index = 0; index < count; index++) {
        if (mr_meta_broker(ctl->meta, ids[index]) == NULL) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "The manual partition assignment includes broker %d, but no such "
                                "broker is registered.",
                                ids[index]));
        }
        for (int32_t before = 0; before < index; before++) {
            if (ids[before] == ids[index]) {
                return mr_ctl_refuse(
                    MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                    mr_request_text(ctl->control, request,
                                    "The manual partition assignment includes the broker %d "
                                    "more than once.",
                                    ids[index]));
            }
        }
    }
    if (expected >= 0 && count != expected) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
            mr_request_text(ctl->control, request,
                            "The manual partition assignment includes a partition with %d "
                            "replica(s), but this is not consistent with previous partitions, "
                            "which have %d replica(s).",
                            count, expected));
    }
    return mr_ctl_ok;
}

/* ---- records ---- */

void mr_ctl_partitions_add(const struct mr_ctl *ctl, struct mr_meta_records *records,
                           const struct mr_uuid *topic_id, int32_t partition, int32_t *replicas,
                           int32_t count)
{
    int32_t isr[MR_CTL_REPLICAS_MAX];
    struct mr_uuid directories[MR_CTL_REPLICAS_MAX];
    int32_t isr_count = 0;
    mr_assert(count > 0 && count <= MR_CTL_REPLICAS_MAX);
    for (int32_t index = 0; index < count; index++) {
        directories[index] = directory_of(ctl, replicas[index]);
        if (mr_ctl_partitions_is_active(ctl->meta, replicas[index])) {
            isr[isr_count++] = replicas[index];
        }
    }
    mr_assert(isr_count > 0);
    int16_t version = mr_meta_partition_record_version(ctl->meta->metadata_version);
    struct mr_partition_record record;
    mr_msg_defaults(&mr_msg_partition_record, &record);
    record.partition_id = partition;
    record.topic_id = *topic_id;
    record.replicas = replicas;
    record.replicas_count = count;
    record.isr = isr;
    record.isr_count = isr_count;
    record.leader = isr[0];
    record.leader_epoch = 0;
    record.partition_epoch = 0;
    if (version >= 1) {
        record.directories = directories;
        record.directories_count = count;
    }
    mr_meta_records_add(records, &mr_msg_partition_record, version, &record);
}

/* A sixteenth of the heap is for what must go on: batches, deletions, answers. */
#define HEAP_RESERVE_SHARE 16

static bool has_memory(const struct mr_ctl *ctl)
{
    const struct mr_heap *heap = &ctl->control->heap;
    return heap->size - heap->bumped > heap->size / HEAP_RESERVE_SHARE;
}

bool mr_ctl_partitions_has_room(const struct mr_ctl *ctl, uint64_t more)
{
    return has_memory(ctl) &&
           ctl->meta->partition_count + more <= (uint64_t)ctl->config->millrace_partitions_max;
}

struct mr_ctl_error mr_ctl_partitions_no_room(const struct mr_ctl *ctl, struct mr_request *request)
{
    if (!has_memory(ctl)) {
        return mr_ctl_refuse(
            MR_KAFKA_POLICY_VIOLATION,
            MR_STR("The broker's memory for metadata is used up (millrace.control.bytes)."));
    }
    return mr_ctl_refuse(
        MR_KAFKA_POLICY_VIOLATION,
        mr_request_text(ctl->control, request,
                        "This broker has room for %lld partitions (millrace.partitions.max).",
                        (long long)ctl->config->millrace_partitions_max));
}

/* Partitions placed in turn; the counts are resolved. */
struct mr_ctl_error mr_ctl_partitions_place(const struct mr_ctl *ctl, struct mr_request *request,
                                            int32_t first, int32_t count, int32_t replica_count,
                                            const struct mr_uuid *id,
                                            struct mr_meta_records *records)
{
    int32_t replicas[MR_CTL_REPLICAS_MAX];
    uint32_t active = active_count(ctl->meta);
    if (active < (uint32_t)replica_count || replica_count > MR_CTL_REPLICAS_MAX) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REPLICATION_FACTOR,
            request == NULL
                ? MR_STR("too few brokers")
                : mr_request_text(ctl->control, request,
                                  "Unable to replicate the partition %d time(s): The target "
                                  "replication factor of %d cannot be reached because only %u "
                                  "broker(s) are registered.",
                                  replica_count, replica_count, active));
    }
    for (int32_t partition = first; partition < first + count && !records->is_failed; partition++) {
        place(ctl->meta, (uint32_t)partition, replicas, replica_count);
        mr_ctl_partitions_add(ctl, records, id, partition, replicas, replica_count);
    }
    return mr_ctl_ok;
}

/* ---- CreatePartitions ---- */

static struct mr_ctl_error extend_one(
    const struct mr_ctl *ctl, struct mr_request *request,
    const struct mr_create_partitions_request_create_partitions_topic *in,
    struct mr_meta_records *records)
{
    const struct mr_meta_topic *topic = mr_meta_topic_by_name(ctl->meta, in->name);
    if (topic == NULL) {
        return mr_ctl_refuse(MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION, MR_STR_NULL);
    }
    int32_t count = (int32_t)topic->partition_count;
    if (in->count == count) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_PARTITIONS,
            mr_request_text(ctl->control, request, "Topic already has %d partition(s).", count));
    }
    if (in->count < count) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_PARTITIONS,
            mr_request_text(ctl->control, request,
                            "The topic %.*s currently has %d partition(s); %d would not be an "
                            "increase.",
                            in->name.len, in->name.data, count, in->count));
    }
    int32_t additional = in->count - count;
    int32_t replica_count = count > 0 ? topic->partitions[0].replicas.count : 1;
    if (in->assignments_count >= 0 && in->assignments_count != additional) {
        return mr_ctl_refuse(
            MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
            mr_request_text(ctl->control, request,
                            "Attempted to add %d additional partition(s), but only %d "
                            "assignment(s) were specified.",
                            additional, in->assignments_count));
    }
    if (additional > MR_META_RECORDS_MAX) {
        return mr_ctl_refuse(MR_KAFKA_POLICY_VIOLATION,
                             MR_STR("Unable to perform excessively large batch operation."));
    }
    if (!mr_ctl_partitions_has_room(ctl, (uint64_t)additional)) {
        return mr_ctl_partitions_no_room(ctl, request);
    }
    if (in->assignments_count < 0) {
        return mr_ctl_partitions_place(ctl, request, count, additional, replica_count, &topic->id,
                                       records);
    }
    for (int32_t index = 0; index < additional; index++) {
        int32_t *ids = in->assignments[index].broker_ids;
        int32_t ids_count = in->assignments[index].broker_ids_count;
        bool is_any = false;
        struct mr_ctl_error error =
            mr_ctl_partitions_check(ctl, request, ids, ids_count, replica_count);
        if (error.code != 0) {
            return error;
        }
        for (int32_t at = 0; at < ids_count; at++) {
            is_any = is_any || mr_ctl_partitions_is_active(ctl->meta, ids[at]);
        }
        if (!is_any || ids_count > MR_CTL_REPLICAS_MAX) {
            return mr_ctl_refuse(
                MR_KAFKA_INVALID_REPLICA_ASSIGNMENT,
                mr_request_text(ctl->control, request,
                                "All brokers specified in the manual partition assignment for "
                                "partition %d are fenced or in controlled shutdown.",
                                count + index));
        }
        mr_ctl_partitions_add(ctl, records, &topic->id, count + index, ids, ids_count);
    }
    return mr_ctl_ok;
}

const void *mr_ctl_partitions_create(const struct mr_ctl *ctl, struct mr_request *request,
                                     struct mr_meta_records *records)
{
    typedef struct mr_create_partitions_response_create_partitions_topic_result result_type;
    const struct mr_create_partitions_request *in = request->message;
    struct mr_create_partitions_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_create_partitions_response, 1);
    result_type *results = MR_REQUEST_NEW(ctl->control, request, result_type, in->topics_count);
    struct mr_ctl_seen seen;
    if (out == NULL || results == NULL ||
        !mr_ctl_seen_init(&seen, ctl->control, request, (uint64_t)in->topics_count)) {
        return NULL;
    }
    for (int32_t index = in->topics_count - 1; index >= 0; index--) {
        struct mr_str name = in->topics[index].name;
        (void)mr_ctl_seen_add(&seen, 0, name.data, name.len, index);
    }
    struct mr_meta_mark start = mr_meta_records_mark(records);
    out->results = results;
    for (int32_t index = 0; index < in->topics_count; index++) {
        result_type *result = &results[out->results_count];
        struct mr_meta_mark mark = mr_meta_records_mark(records);
        struct mr_ctl_error error = mr_ctl_ok;
        struct mr_str name = in->topics[index].name;
        const struct mr_ctl_seen_key *key = mr_ctl_seen_find(&seen, 0, name.data, name.len);
        if (key->times > 1 && key->last != index) {
            continue;
        }
        if (key->times > 1) {
            error = mr_ctl_refuse(MR_KAFKA_INVALID_REQUEST, MR_STR("Duplicate topic name."));
        } else {
            error = extend_one(ctl, request, &in->topics[index], records);
        }
        if (error.code != 0) {
            mr_meta_records_rewind(records, mark);
        }
        *result =
            (result_type){.name = name, .error_code = error.code, .error_message = error.message};
        out->results_count++;
    }
    if (records->count - start.count > MR_META_RECORDS_MAX) {
        mr_meta_records_rewind(records, start);
        for (int32_t index = 0; index < out->results_count; index++) {
            results[index].error_code = MR_KAFKA_POLICY_VIOLATION;
            results[index].error_message =
                MR_STR("Unable to perform excessively large batch operation.");
        }
    }
    if (in->validate_only && !mr_bug("validate-changes")) {
        mr_meta_records_rewind(records, start);
    }
    return out;
}
