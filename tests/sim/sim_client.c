#include "sim_client.h"

#include "millrace/batch.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"

#define FETCH_BYTES (256u << 10)

/* Error codes that mean something to a client; the rest are retriable or a violation. */
enum {
    OFFSET_OUT_OF_RANGE = 1,
    CORRUPT_MESSAGE = 2,
    STORAGE_ERROR = 56,
    TOPIC_ALREADY_EXISTS = 36,
    INVALID_TIMESTAMP = 32,
    OUT_OF_ORDER_SEQUENCE = 45,
    DUPLICATE_SEQUENCE = 46,
    UNKNOWN_TOPIC = 3,
    UNKNOWN_TOPIC_ID = 100,
    INCONSISTENT_TOPIC_ID = 103,
};

const struct mr_str mr_sim_topics[MR_SIM_TOPICS] = {
    {.data = "sim-0", .len = 5}, {.data = "sim-1", .len = 5}, {.data = "sim-2", .len = 5}};

static struct mr_sim_client *client_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_client *)(void *)actor;
}

static uint64_t draw(struct mr_sim_client *client, uint64_t bound)
{
    return mr_prng_below(&client->actor.prng, bound);
}

/* ---- Sending ---- */

static void send_metadata(struct mr_sim_client *client, struct mr_now now)
{
    struct mr_metadata_request       request;
    struct mr_metadata_request_topic topics[MR_SIM_TOPICS];
    MR_DEFAULTS(metadata_request, &request);
    for (uint32_t index = 0; index < MR_SIM_TOPICS; index++) {
        MR_DEFAULTS(metadata_request_topic, &topics[index]);
        topics[index].name = mr_sim_topics[index];
    }
    request.topics = topics;
    request.topics_count = MR_SIM_TOPICS;
    request.allow_auto_topic_creation = false;
    mr_sim_actor_send(&client->actor, MR_API_METADATA, 12, &request, 0, true, now);
}

static void send_create(struct mr_sim_client *client, struct mr_now now)
{
    struct mr_create_topics_request                 request;
    struct mr_create_topics_request_creatable_topic topic;
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
    topic.name = mr_sim_topics[0];
    topic.num_partitions = MR_SIM_PARTITIONS;
    topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&client->actor, MR_API_CREATE_TOPICS, 7, &request, 0, true, now);
}

static void send_identify(struct mr_sim_client *client, struct mr_now now)
{
    struct mr_init_producer_id_request request;
    MR_DEFAULTS(init_producer_id_request, &request);
    request.transactional_id = MR_STR_NULL;
    mr_sim_actor_send(&client->actor, MR_API_INIT_PRODUCER_ID, 4, &request, 0, true, now);
}

/* The bytes of a batch into the lower half of the scratch; returns their number. */
static uint32_t build(struct mr_sim_client *client, const struct mr_sim_batch *batch, struct mr_now now)
{
    struct mr_batch_builder builder;
    uint8_t                 value[8 + MR_SIM_PAD_LARGE];
    mr_batch_begin(&builder, client->actor.scratch, MR_SIM_ACTOR_HALF, 0, 0);
    for (uint32_t index = 0; index < batch->count; index++) {
        mr_store_be64(value, batch->value_first + index);
        memset(value + 8, (int)('a' + index % 26), batch->pad_bytes);
        bool fits = mr_batch_add(&builder, now.unix_ms, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)(8 + batch->pad_bytes)});
        mr_assert(fits);
    }
    if (client->habits.is_idempotent) {
        builder.batch.producer_id = client->producer_id;
        builder.batch.producer_epoch = client->producer_epoch;
        builder.batch.base_sequence = batch->sequence;
    }
    return mr_batch_end(&builder);
}

static void send_batch(struct mr_sim_client *client, struct mr_sim_batch *batch, struct mr_now now)
{
    struct mr_produce_request                        request;
    struct mr_produce_request_topic_produce_data     topic;
    struct mr_produce_request_partition_produce_data partition;
    struct mr_span span = {.data = client->actor.scratch, .len = build(client, batch, now)};
    bool           is_by_name = client->habits.is_by_name && batch->topic == 0;
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    MR_DEFAULTS(produce_request_partition_produce_data, &partition);
    partition.index = (int32_t)batch->partition;
    partition.records = (struct mr_chain){.spans = &span, .span_count = 1, .bytes = span.len};
    topic.name = mr_sim_topics[batch->topic];
    topic.topic_id = client->check->logs[batch->log].topic;
    topic.partition_data = &partition;
    topic.partition_data_count = 1;
    request.acks = client->habits.is_idempotent ? -1 : client->habits.acks;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    bool is_answered = request.acks != 0;
    mr_sim_actor_send(&client->actor, MR_API_PRODUCE, is_by_name ? 9 : 13, &request, batch->order, is_answered,
                      now);
    batch->is_sent = is_answered;
    batch->is_used = is_answered; /* acks=0: nobody will ever know */
}

/*
 * A log that has never heard of a producer takes any sequence, as in Kafka: when its first batch is refused for a
 * moment and the second is in flight, the second is stored and the first is out of order for ever. So there
 * is one batch on its way until one was acknowledged.
 */
static bool may_send(const struct mr_sim_client *client, uint32_t topic, uint32_t partition)
{
    bool is_first = client->targets[topic].sequences[partition] == 0;
    return !client->habits.is_idempotent || is_first || client->targets[topic].is_known[partition];
}

/* A batch for a log that is there; false: none is. */
static bool new_batch(struct mr_sim_client *client, struct mr_sim_batch *batch)
{
    uint32_t              topic = (uint32_t)draw(client, MR_SIM_TOPICS);
    struct mr_sim_target *target = &client->targets[topic];
    if (target->partitions == 0) {
        return false;
    }
    /* One statement per lot: the order of initialisers is the compiler's. */
    *batch = (struct mr_sim_batch){.is_used = true, .topic = topic, .order = client->order_next++};
    batch->partition = (uint32_t)draw(client, target->partitions);
    if (!may_send(client, topic, batch->partition)) {
        batch->is_used = false;
        return false;
    }
    batch->count = 1 + (uint32_t)draw(client, MR_SIM_BATCH_RECORDS);
    batch->pad_bytes = (uint32_t)draw(client, client->habits.pad_max + 1);
    batch->log = target->logs[batch->partition];
    bool is_idempotent = client->habits.is_idempotent;
    uint32_t bytes = batch->pad_bytes + 8;
    batch->value_first = mr_check_acked_new_value(client->check, batch->log, client->number, is_idempotent, bytes);
    for (uint32_t index = 1; index < batch->count; index++) {
        mr_check_acked_new_value(client->check, batch->log, client->number, is_idempotent, bytes);
    }
    client->values_left -= batch->count;
    batch->sequence = target->sequences[batch->partition];
    target->sequences[batch->partition] += (int32_t)batch->count;
    return true;
}

static void send_fetch(struct mr_sim_client *client, struct mr_now now)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     topic;
    struct mr_fetch_request_fetch_partition entry;
    client->fetch_topic = (uint32_t)draw(client, MR_SIM_TOPICS);
    struct mr_sim_target *target = &client->targets[client->fetch_topic];
    if (target->partitions == 0) {
        return;
    }
    client->fetch_partition = (uint32_t)draw(client, target->partitions);
    client->fetch_log = target->logs[client->fetch_partition];
    client->fetch_floor = client->check->logs[client->fetch_log].watermark;
    client->fetch_start = client->check->logs[client->fetch_log].start_done;
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    MR_DEFAULTS(fetch_request_fetch_partition, &entry);
    entry.partition = (int32_t)client->fetch_partition;
    entry.fetch_offset = target->read_offset[client->fetch_partition];
    entry.partition_max_bytes = 1 + (int32_t)draw(client, FETCH_BYTES);
    topic.topic = mr_sim_topics[client->fetch_topic];
    topic.topic_id = target->id;
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.max_wait_ms = (int32_t)draw(client, 60);
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.isolation_level = (int8_t)draw(client, 2);
    request.topics = &topic;
    request.topics_count = 1;
    bool is_by_name = client->habits.is_by_name && client->fetch_topic == 0;
    mr_sim_actor_send(&client->actor, MR_API_FETCH, is_by_name ? 12 : 17, &request, client->order_next, true, now);
}

/* What was sent and not answered goes again, oldest first, before anything new. */
static void send_again(struct mr_sim_client *client, struct mr_now now)
{
    while (mr_sim_actor_has_room(&client->actor)) {
        struct mr_sim_batch *oldest = NULL;
        for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
            struct mr_sim_batch *batch = &client->batches[index];
            if (batch->is_used && !batch->is_sent && (oldest == NULL || batch->order < oldest->order)) {
                oldest = batch;
            }
        }
        if (oldest == NULL) {
            return;
        }
        send_batch(client, oldest, now);
    }
}

static void send_new(struct mr_sim_client *client, struct mr_now now)
{
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        struct mr_sim_batch *batch = &client->batches[index];
        if (!batch->is_used && mr_sim_actor_has_room(&client->actor)) {
            if (new_batch(client, batch)) {
                send_batch(client, batch, now);
            }
            return;
        }
    }
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_client *client = client_of(actor);
    if (!mr_sim_actor_has_room(actor)) {
        return;
    }
    if (client->is_create_due) {
        if (mr_sim_actor_waiting(actor, MR_API_CREATE_TOPICS) == 0) {
            send_create(client, now);
        }
        return;
    }
    if (client->is_metadata_due) {
        if (mr_sim_actor_waiting(actor, MR_API_METADATA) == 0) {
            send_metadata(client, now);
        }
        return;
    }
    if (client->habits.is_idempotent && client->producer_id < 0) {
        if (mr_sim_actor_waiting(actor, MR_API_INIT_PRODUCER_ID) == 0) {
            send_identify(client, now);
        }
        return;
    }
    send_again(client, now);
    if (actor->is_quiet || !mr_sim_actor_has_room(actor)) {
        return;
    }
    if (client->values_left >= MR_SIM_BATCH_RECORDS && draw(client, 2) == 0) {
        send_new(client, now);
    } else if (mr_sim_actor_waiting(actor, MR_API_FETCH) == 0) {
        send_fetch(client, now);
    }
    if (draw(client, 200) == 0) {
        client->is_metadata_due = true;
    }
    if (client->habits.think_max_ns > 0) {
        mr_sim_actor_rest(actor, now, client->habits.think_max_ns);
    }
}

/* ---- Answers ---- */

/* Back off: the broker is starting, a topic is not there yet, the disk is full. */
static void later(struct mr_sim_client *client, struct mr_now now)
{
    client->errors++;
    client->actor.wake_ns = now.mono_ns + 20 * MR_NS_PER_MS;
}

/* A topic id that is not the one we know: another topic, or none. */
static void retarget(struct mr_sim_client *client, uint32_t topic, const struct mr_uuid *id, uint32_t partitions)
{
    struct mr_sim_target *target = &client->targets[topic];
    if (mr_uuid_equal(&target->id, id) && target->partitions == partitions) {
        return;
    }
    if (!mr_uuid_equal(&target->id, id)) {
        for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
            if (client->batches[index].is_used && client->batches[index].topic == topic) {
                client->batches[index].is_used = false; /* nobody waits for them any more */
            }
        }
        *target = (struct mr_sim_target){.id = *id};
    }
    for (uint32_t index = target->partitions; index < partitions; index++) {
        target->logs[index] = mr_check_acked_log(client->check, id, index);
        if (target->logs[index] == MR_CHECK_NO_LOG) {
            return; /* a long run: this topic stays out */
        }
        if (topic == MR_SIM_RETAINED) {
            mr_check_acked_retention(client->check, target->logs[index], MR_SIM_RETENTION_BYTES);
        }
        target->partitions = index + 1;
    }
}

static void take_metadata(struct mr_sim_client *client, const struct mr_metadata_response *response,
                          struct mr_now now)
{
    if (response->topics_count != MR_SIM_TOPICS) {
        mr_sim_actor_refuse(&client->actor, "Metadata answered for another number of topics",
                            response->topics_count);
        return;
    }
    client->is_metadata_due = false;
    for (uint32_t index = 0; index < MR_SIM_TOPICS; index++) {
        static const struct mr_uuid                 none;
        const struct mr_metadata_response_topic    *topic = &response->topics[index];
        uint32_t                                    number = 0;
        while (number < MR_SIM_TOPICS && !mr_str_equal(topic->name, mr_sim_topics[number])) {
            number++;
        }
        if (number == MR_SIM_TOPICS || topic->partitions_count > MR_SIM_PARTITIONS) {
            mr_sim_actor_refuse(&client->actor, "Metadata answered with a topic nobody asked for", index);
        } else if (topic->error_code == 0 && topic->partitions_count > 0) {
            retarget(client, number, &topic->topic_id, (uint32_t)topic->partitions_count);
        } else if (topic->error_code == UNKNOWN_TOPIC && number > 0) {
            retarget(client, number, &none, 0);
        } else if (topic->error_code == UNKNOWN_TOPIC) {
            client->is_create_due = client->targets[0].partitions == 0;
            if (!client->is_create_due) {
                mr_sim_actor_refuse(&client->actor, "a topic that nobody deleted is unknown", number);
            }
        } else {
            client->is_metadata_due = true;
            later(client, now);
        }
    }
}

/* Whether an earlier batch of the same log is open: then this one may be out of order. */
static bool has_earlier(const struct mr_sim_client *client, const struct mr_sim_batch *batch)
{
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        const struct mr_sim_batch *other = &client->batches[index];
        if (other->is_used && other->log == batch->log && other->order < batch->order) {
            return true;
        }
    }
    return false;
}

static bool is_topic_error(int16_t error)
{
    return error == UNKNOWN_TOPIC || error == UNKNOWN_TOPIC_ID || error == INCONSISTENT_TOPIC_ID;
}

/* Spoiled records are refused: go on behind them. True: that is what it was. */
static bool skip_damage(struct mr_sim_client *client, uint32_t log, int64_t *offset, int16_t error)
{
    bool is_damage = error == CORRUPT_MESSAGE || error == STORAGE_ERROR;
    if (!is_damage || !mr_check_acked_is_damaged(client->check, log)) {
        return false; /* the device, a full disk or an offline directory: asked again */
    }
    *offset = client->check->logs[log].watermark;
    return true;
}

/* Errors that say nothing about what was done, or that it was not. */
static void try_again(struct mr_sim_client *client, int16_t error, const char *what, struct mr_now now)
{
    if (is_topic_error(error)) {
        client->is_metadata_due = true;
    } else if (error != INVALID_TIMESTAMP /* the clock went back under way */ && !mr_errors_is_retriable(error)) {
        mr_sim_actor_refuse(&client->actor, what, error);
    }
    later(client, now);
}

static void take_produce(struct mr_sim_client *client, uint64_t order, uint64_t sent_ns,
                         const struct mr_produce_response *response, struct mr_now now)
{
    struct mr_sim_batch *batch = client->batches;
    while (batch < client->batches + MR_SIM_BATCHES && (!batch->is_used || batch->order != order)) {
        batch++;
    }
    if (batch == client->batches + MR_SIM_BATCHES) {
        return; /* its topic went */
    }
    if (response->responses_count != 1 || response->responses[0].partition_responses_count != 1 ||
        response->responses[0].partition_responses[0].index != (int32_t)batch->partition) {
        mr_sim_actor_refuse(&client->actor, "Produce answered for another partition", response->responses_count);
        return;
    }
    const struct mr_produce_response_partition_produce_response *result =
        &response->responses[0].partition_responses[0];
    batch->is_sent = false;
    if (result->error_code == 0) {
        for (uint32_t index = 0; index < batch->count; index++) {
            mr_check_acked_ack(client->check, batch->log, result->base_offset + index, batch->value_first + index);
        }
        mr_check_acked_appended(client->check, batch->log, sent_ns, now.mono_ns);
        client->targets[batch->topic].is_known[batch->partition] = true;
        client->acked_batches++;
        batch->is_used = false;
    } else if (result->error_code == DUPLICATE_SEQUENCE) {
        for (uint32_t index = 0; index < batch->count; index++) {
            mr_check_acked_stored(client->check, batch->value_first + index);
        }
        client->targets[batch->topic].is_known[batch->partition] = true;
        client->duplicate_answers++;
        batch->is_used = false;
    } else if (client->actor.is_quiet && mr_check_acked_is_damaged(client->check, batch->log)) {
        batch->is_used = false; /* the log is offline for good, or has lost the producer with what rotted */
    } else if (result->error_code == OUT_OF_ORDER_SEQUENCE) {
        if (!has_earlier(client, batch) && !mr_check_acked_is_damaged(client->check, batch->log)) {
            mr_sim_actor_refuse(&client->actor, "an idempotent producer lost its sequence", batch->sequence);
        }
        later(client, now);
    } else {
        try_again(client, result->error_code, "Produce failed for good", now);
    }
}

bool mr_sim_client_take_records(struct mr_sim_actor *actor, struct mr_check_acked *check, uint32_t log,
                                const struct mr_fetch_response_partition_data *data, int64_t start,
                                int64_t *offset, bool is_final, struct mr_arena *arena)
{
    for (uint32_t at = 0; at + MR_BATCH_HEADER <= data->records.bytes;) {
        uint8_t         header[MR_BATCH_HEADER];
        struct mr_batch batch;
        mr_chain_copy(&data->records, at, header, sizeof header);
        mr_batch_header_load(header, &batch);
        uint32_t bytes = mr_batch_bytes(&batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS || bytes > data->records.bytes - at) {
            break; /* cut by max bytes */
        }
        uint8_t *whole = mr_arena_try(arena, bytes, 8);
        if (whole == NULL) {
            break;
        }
        mr_chain_copy(&data->records, at, whole, bytes);
        if (batch.magic != 2 || mr_crc32c(0, whole + 21, bytes - 21) != batch.crc) {
            mr_sim_actor_refuse(actor, "a delivered batch fails its CRC", batch.base_offset);
            return false;
        }
        struct mr_record_iter iter;
        struct mr_record      record;
        if (mr_record_iter_init(&iter, whole, bytes, arena) != MR_OK) {
            mr_sim_actor_refuse(actor, "a delivered batch cannot be read", batch.base_offset);
            return false;
        }
        while (mr_record_iter_next(&iter, &record) == MR_OK) {
            if (record.offset < *offset) {
                continue; /* the batch begins before what was asked for */
            }
            if (record.offset != *offset) {
                mr_sim_actor_refuse(actor, "records were left out before offset", record.offset);
                return false;
            }
            if (record.value.len < 8 || record.offset >= data->high_watermark) {
                mr_sim_actor_refuse(actor,
                                    record.value.len < 8 ? "a delivered record is not ours"
                                                         : "a record beyond the high watermark",
                                    record.offset);
                return false;
            }
            mr_check_acked_see(check, log, start, record.offset, mr_load_be64(record.value.data), is_final);
            *offset = record.offset + 1;
        }
        at += bytes;
    }
    return true;
}

static void take_fetch(struct mr_sim_client *client, const struct mr_fetch_response *response,
                       struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_target *target = &client->targets[client->fetch_topic];
    if (target->partitions <= client->fetch_partition ||
        target->logs[client->fetch_partition] != client->fetch_log) {
        return; /* its topic went */
    }
    if (response->error_code != 0) {
        try_again(client, response->error_code, "Fetch failed for good", now);
        return;
    }
    if (response->responses_count != 1 || response->responses[0].partitions_count != 1) {
        mr_sim_actor_refuse(&client->actor, "Fetch answered for another number of partitions",
                            response->responses_count);
        return;
    }
    const struct mr_fetch_response_partition_data *data = &response->responses[0].partitions[0];
    int64_t                                       *offset = &target->read_offset[client->fetch_partition];
    const struct mr_check_log                     *log = &client->check->logs[client->fetch_log];
    if (data->error_code == OFFSET_OUT_OF_RANGE && *offset < log->start_asked) {
        *offset = log->start_asked; /* DeleteRecords may have come this far */
        return;
    }
    if (data->error_code == OFFSET_OUT_OF_RANGE && log->retention_bytes >= 0) {
        *offset = log->watermark > log->acked_end ? log->watermark : log->acked_end; /* and retention any way */
        return;
    }
    if (data->error_code != 0 && skip_damage(client, client->fetch_log, offset, data->error_code)) {
        return;
    }
    if (data->error_code != 0) {
        try_again(client, data->error_code, "Fetch of a partition failed for good", now);
        return;
    }
    mr_check_acked_watermark(client->check, client->fetch_log, client->fetch_floor, data->high_watermark);
    mr_sim_client_take_records(&client->actor, client->check, client->fetch_log, data, client->fetch_start, offset, false,
                              arena);
}

static void take_created(struct mr_sim_client *client, const struct mr_create_topics_response *response,
                         struct mr_now now)
{
    int16_t error = response->topics_count == 1 ? response->topics[0].error_code : -1;
    if (error == 0 || error == TOPIC_ALREADY_EXISTS) { /* another client was first */
        client->is_create_due = false;
        client->is_metadata_due = true;
    } else {
        try_again(client, error, "CreateTopics failed for good", now);
    }
}

static void take_identity(struct mr_sim_client *client, const struct mr_init_producer_id_response *response,
                          struct mr_now now)
{
    if (response->error_code == 0) {
        client->producer_id = response->producer_id;
        client->producer_epoch = response->producer_epoch;
    } else {
        try_again(client, response->error_code, "InitProducerId failed for good", now);
    }
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_client *client = client_of(actor);
    switch (call->key) {
    case MR_API_PRODUCE:
        take_produce(client, call->user, call->sent_ns, response, now);
        break;
    case MR_API_FETCH:
        take_fetch(client, response, arena, now);
        break;
    case MR_API_METADATA:
        take_metadata(client, response, now);
        break;
    case MR_API_CREATE_TOPICS:
        take_created(client, response, now);
        break;
    default:
        mr_assert(call->key == MR_API_INIT_PRODUCER_ID);
        take_identity(client, response, now);
        break;
    }
}

static void lost(struct mr_sim_actor *actor, const struct mr_sim_call *call)
{
    struct mr_sim_client *client = client_of(actor);
    for (uint32_t index = 0; call->key == MR_API_PRODUCE && index < MR_SIM_BATCHES; index++) {
        if (client->batches[index].order == call->user) {
            client->batches[index].is_sent = false;
        }
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    const struct mr_sim_client *client = (const struct mr_sim_client *)(const void *)actor;
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        if (client->batches[index].is_used) {
            return false;
        }
    }
    return true;
}

static void draw_habits(struct mr_sim_client *client)
{
    static const uint32_t pads[] = {200, 200, 3000};
    static const uint64_t thinks_ns[] = {0, 0, 2 * MR_NS_PER_MS, 100 * MR_NS_PER_MS};
    client->habits.is_idempotent = draw(client, 4) != 0;
    client->habits.is_by_name = draw(client, 2) == 0;
    client->habits.acks = (int16_t)((int)draw(client, 3) - 1);
    client->habits.pad_max = pads[draw(client, 3)];
    client->habits.think_max_ns = thinks_ns[draw(client, 4)];
}

void mr_sim_client_init(struct mr_sim_client *client, struct mr_arena *arena, struct mr_check_acked *check,
                        uint32_t number, uint64_t seed, uint64_t values)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "client", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    *client = (struct mr_sim_client){.check = check,
                                     .number = number,
                                     .producer_id = -1,
                                     .is_metadata_due = true,
                                     .values_left = values,
                                     .order_next = 1};
    mr_sim_actor_init(&client->actor, &ops, arena, seed);
    draw_habits(client);
}
