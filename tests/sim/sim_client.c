#include "sim_client.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#define SCRATCH_BYTES (4u << 20)
#define FETCH_BYTES   (256u << 10)

void mr_sim_client_init(struct mr_sim_client *client, struct mr_arena *arena, struct mr_check_acked *check,
                        uint64_t seed, struct mr_str topic, uint32_t partitions)
{
    mr_assert(partitions > 0 && partitions <= MR_CHECK_PARTITIONS);
    *client = (struct mr_sim_client){
        .check = check,
        .prng = {.state = seed},
        .topic = topic,
        .partitions = partitions,
        .producer_id = -1,
        .correlation_next = 1,
        .pad_max = 200,
    };
    client->in = mr_arena_get_fresh(arena, MR_SIM_CLIENT_BUFFER, 64);
    client->out = mr_arena_get_fresh(arena, MR_SIM_CLIENT_BUFFER, 64);
    client->scratch = mr_arena_get_fresh(arena, SCRATCH_BYTES, 64);
}

void mr_sim_client_connected(struct mr_sim_client *client)
{
    client->in_len = 0;
    client->out_len = 0;
    client->waiting = 0;
    client->reconnects++;
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        client->batches[index].is_sent = false;
    }
}

bool mr_sim_client_is_idle(const struct mr_sim_client *client)
{
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        if (client->batches[index].is_used) {
            return false;
        }
    }
    return client->waiting == 0;
}

void mr_sim_client_verify(struct mr_sim_client *client)
{
    client->phase = MR_SIM_VERIFY;
    client->waiting = 0;
    client->waiting_partition = 0;
    memset(client->read_offset, 0, sizeof client->read_offset);
}

/* One request into the out buffer; returns its correlation id. */
static int32_t send_request(struct mr_sim_client *client, int16_t key, int16_t version, const void *request)
{
    struct mr_arena      arena;
    struct mr_span       spans[64];
    struct mr_writer     writer;
    const struct mr_api *api = mr_api_find(key);
    int32_t              correlation = client->correlation_next++;
    mr_assert(api != NULL);
    mr_arena_init(&arena, client->scratch + SCRATCH_BYTES / 2, SCRATCH_BYTES / 2);
    mr_writer_init(&writer, &arena, spans, 64);
    uint8_t *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, api, version, correlation, MR_STR("sim"));
    mr_assert(err == MR_OK);
    err = mr_msg_encode(api->request, version, request, &writer);
    mr_assert(err == MR_OK);
    err = mr_frame_end(&writer, prefix);
    mr_assert(err == MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.bytes <= MR_SIM_CLIENT_BUFFER - client->out_len);
    mr_chain_copy(&chain, 0, client->out + client->out_len, chain.bytes);
    client->out_len += chain.bytes;
    return correlation;
}

static void send_batch(struct mr_sim_client *client, struct mr_sim_batch *batch, struct mr_now now)
{
    struct mr_batch_builder builder;
    uint8_t                *bytes = client->scratch; /* the lower half: the encoder uses the upper one */
    uint8_t                 value[8 + 4096];
    mr_batch_begin(&builder, bytes, SCRATCH_BYTES / 2, 0, 0);
    for (uint32_t index = 0; index < batch->count; index++) {
        mr_store_be64(value, batch->value_first + index);
        memset(value + 8, (int)('a' + index % 26), batch->pad_bytes);
        bool fits = mr_batch_add(&builder, now.unix_ms, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)(8 + batch->pad_bytes)});
        mr_assert(fits);
    }
    builder.batch.producer_id = client->producer_id;
    builder.batch.producer_epoch = client->producer_epoch;
    builder.batch.base_sequence = batch->sequence;
    uint32_t len = mr_batch_end(&builder);

    struct mr_span                                  span = {.data = bytes, .len = len};
    struct mr_produce_request                       request;
    struct mr_produce_request_topic_produce_data    topic;
    struct mr_produce_request_partition_produce_data partition;
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    MR_DEFAULTS(produce_request_partition_produce_data, &partition);
    partition.index = (int32_t)batch->partition;
    partition.records = (struct mr_chain){.spans = &span, .span_count = 1, .bytes = len};
    topic.name = client->topic;
    topic.partition_data = &partition;
    topic.partition_data_count = 1;
    request.acks = -1;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    batch->correlation = send_request(client, MR_API_PRODUCE, 9, &request);
    batch->is_sent = true;
}

static void new_batch(struct mr_sim_client *client, struct mr_sim_batch *batch)
{
    /* One statement per lot: the order of initialisers is the compiler's. */
    *batch = (struct mr_sim_batch){.is_used = true, .order = client->order_next++};
    batch->partition = (uint32_t)mr_prng_below(&client->prng, client->partitions);
    batch->count = 1 + (uint32_t)mr_prng_below(&client->prng, MR_SIM_BATCH_RECORDS);
    batch->pad_bytes = (uint32_t)mr_prng_below(&client->prng, client->pad_max + 1);
    batch->value_first = mr_check_acked_new_value(client->check);
    for (uint32_t index = 1; index < batch->count; index++) {
        mr_check_acked_new_value(client->check);
    }
    batch->sequence = client->sequences[batch->partition];
    client->sequences[batch->partition] += (int32_t)batch->count;
}

static void send_fetch(struct mr_sim_client *client, uint32_t partition)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     topic;
    struct mr_fetch_request_fetch_partition entry;
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    MR_DEFAULTS(fetch_request_fetch_partition, &entry);
    entry.partition = (int32_t)partition;
    entry.fetch_offset = client->read_offset[partition];
    entry.partition_max_bytes = FETCH_BYTES;
    topic.topic = client->topic;
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.max_wait_ms = client->phase == MR_SIM_VERIFY ? 0 : 50;
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.topics = &topic;
    request.topics_count = 1;
    client->waiting_partition = partition;
    client->waiting_key = MR_API_FETCH;
    client->waiting = send_request(client, MR_API_FETCH, 12, &request);
}

void mr_sim_client_turn(struct mr_sim_client *client, struct mr_now now)
{
    if (now.mono_ns < client->retry_ns || client->out_len > MR_SIM_CLIENT_BUFFER / 2) {
        return;
    }
    switch (client->phase) {
    case MR_SIM_CREATE:
        if (client->waiting == 0) {
            struct mr_create_topics_request                 request;
            struct mr_create_topics_request_creatable_topic topic;
            MR_DEFAULTS(create_topics_request, &request);
            MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
            topic.name = client->topic;
            topic.num_partitions = (int32_t)client->partitions;
            topic.replication_factor = 1;
            request.topics = &topic;
            request.topics_count = 1;
            client->waiting_key = MR_API_CREATE_TOPICS;
            client->waiting = send_request(client, MR_API_CREATE_TOPICS, 7, &request);
        }
        return;
    case MR_SIM_IDENTIFY:
        if (client->waiting == 0) {
            struct mr_init_producer_id_request request;
            MR_DEFAULTS(init_producer_id_request, &request);
            request.transactional_id = MR_STR_NULL;
            client->waiting_key = MR_API_INIT_PRODUCER_ID;
            client->waiting = send_request(client, MR_API_INIT_PRODUCER_ID, 4, &request);
        }
        return;
    case MR_SIM_RUN:
    case MR_SIM_QUIET:
        break;
    case MR_SIM_VERIFY:
        if (client->waiting == 0) {
            send_fetch(client, client->waiting_partition < client->partitions ? client->waiting_partition : 0);
        }
        return;
    case MR_SIM_DONE:
        return;
    }
    /* What was sent before a lost connection goes again, oldest first, before anything new. */
    for (;;) {
        struct mr_sim_batch *oldest = NULL;
        for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
            struct mr_sim_batch *batch = &client->batches[index];
            if (batch->is_used && !batch->is_sent && (oldest == NULL || batch->order < oldest->order)) {
                oldest = batch;
            }
        }
        if (oldest == NULL) {
            break;
        }
        send_batch(client, oldest, now);
    }
    if (client->phase == MR_SIM_RUN && client->check->value_next + MR_SIM_BATCH_RECORDS < client->check->values_max &&
        mr_prng_below(&client->prng, 2) == 0) {
        for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
            if (!client->batches[index].is_used) {
                new_batch(client, &client->batches[index]);
                send_batch(client, &client->batches[index], now);
                break;
            }
        }
    } else if (client->waiting == 0 && client->phase == MR_SIM_RUN) {
        send_fetch(client, (uint32_t)mr_prng_below(&client->prng, client->partitions));
    }
}

static void refuse(struct mr_sim_client *client, const char *what, int64_t detail)
{
    if (client->why[0] == '\0') {
        mr_fmt(client->why, sizeof client->why, "%s (%lld)", what, (long long)detail);
    }
}

/* Back off: the broker is starting, a topic is not there yet. */
static void later(struct mr_sim_client *client, struct mr_now now)
{
    client->errors++;
    client->retry_ns = now.mono_ns + 20 * MR_NS_PER_MS;
}

static void take_produce(struct mr_sim_client *client, struct mr_sim_batch *batch,
                         const struct mr_produce_response *response, struct mr_now now)
{
    if (response->responses_count != 1 || response->responses[0].partition_responses_count != 1) {
        refuse(client, "Produce answered for another number of partitions", response->responses_count);
        return;
    }
    const struct mr_produce_response_partition_produce_response *result =
        &response->responses[0].partition_responses[0];
    if (result->error_code == 46) { /* DUPLICATE_SEQUENCE_NUMBER: stored, the offset is not known any more */
        client->duplicate_answers++;
        batch->is_used = false;
        return;
    }
    if (result->error_code != 0) {
        if (result->error_code == 45 || result->error_code == 47) {
            refuse(client, "an idempotent producer lost its sequence", result->error_code);
        }
        /* Everything after it on this connection would be out of order: send all of it again. */
        for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
            if (client->batches[index].is_used && client->batches[index].order >= batch->order) {
                client->batches[index].is_sent = client->batches[index].order != batch->order &&
                                                 client->batches[index].is_sent;
            }
        }
        later(client, now);
        return;
    }
    for (uint32_t index = 0; index < batch->count; index++) {
        mr_check_acked_ack(client->check, batch->partition, result->base_offset + index,
                           batch->value_first + index);
    }
    client->acked_batches++;
    batch->is_used = false;
}

static void take_fetch(struct mr_sim_client *client, const struct mr_fetch_response *response,
                       struct mr_arena *arena, struct mr_now now)
{
    uint32_t partition = client->waiting_partition;
    if (response->error_code != 0 || response->responses_count != 1 ||
        response->responses[0].partitions_count != 1 || response->responses[0].partitions[0].error_code != 0) {
        later(client, now);
        return;
    }
    const struct mr_fetch_response_partition_data *data = &response->responses[0].partitions[0];
    int64_t before = client->read_offset[partition];
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
        if (mr_crc32c(0, whole + 21, bytes - 21) != batch.crc) {
            refuse(client, "a delivered batch fails its CRC", batch.base_offset);
            return;
        }
        struct mr_record_iter iter;
        struct mr_record      record;
        if (mr_record_iter_init(&iter, whole, bytes, arena) != MR_OK) {
            refuse(client, "a delivered batch cannot be read", batch.base_offset);
            return;
        }
        while (mr_record_iter_next(&iter, &record) == MR_OK) {
            if (record.offset < client->read_offset[partition]) {
                continue; /* the batch begins before what was asked for */
            }
            if (record.value.len < 8) {
                refuse(client, "a delivered record is not ours", record.offset);
                return;
            }
            if (record.offset >= data->high_watermark) {
                refuse(client, "a record beyond the high watermark was delivered", record.offset);
                return;
            }
            mr_check_acked_see(client->check, partition, record.offset, mr_load_be64(record.value.data),
                               client->phase == MR_SIM_VERIFY);
            client->read_offset[partition] = record.offset + 1;
        }
        at += bytes;
    }
    if (client->phase == MR_SIM_VERIFY && client->read_offset[partition] == before) {
        if (before < data->high_watermark) {
            refuse(client, "nothing delivered below the high watermark", before);
        }
        if (partition + 1 == client->partitions) {
            client->phase = MR_SIM_DONE;
        }
        client->waiting_partition = partition + 1;
    }
}

/* The answer to the one open request that is not a Produce. */
static void take_other(struct mr_sim_client *client, const void *response, struct mr_arena *arena,
                       struct mr_now now)
{
    client->waiting = 0;
    if (client->waiting_key == MR_API_FETCH) {
        take_fetch(client, response, arena, now);
    } else if (client->waiting_key == MR_API_CREATE_TOPICS) {
        const struct mr_create_topics_response *created = response;
        int16_t error = created->topics_count == 1 ? created->topics[0].error_code : -1;
        if (error == 0 || error == 36) { /* TOPIC_ALREADY_EXISTS: another client was first */
            client->phase = MR_SIM_IDENTIFY;
        } else {
            later(client, now);
        }
    } else {
        const struct mr_init_producer_id_response *identity = response;
        if (identity->error_code != 0) {
            later(client, now);
            return;
        }
        client->producer_id = identity->producer_id;
        client->producer_epoch = identity->producer_epoch;
        client->phase = MR_SIM_RUN;
    }
}

/* One whole answer. */
static void take_frame(struct mr_sim_client *client, const uint8_t *bytes, uint32_t len, struct mr_now now)
{
    struct mr_reader     reader;
    struct mr_arena      arena;
    int32_t              correlation;
    struct mr_sim_batch *batch = NULL;
    mr_arena_init(&arena, client->scratch, SCRATCH_BYTES / 2);
    mr_reader_init_bytes(&reader, bytes, len);
    if (mr_reader_int32(&reader, &correlation) != MR_OK) {
        refuse(client, "an answer without a correlation id", len);
        return;
    }
    for (uint32_t index = 0; index < MR_SIM_BATCHES; index++) {
        if (client->batches[index].is_used && client->batches[index].is_sent &&
            client->batches[index].correlation == correlation) {
            batch = &client->batches[index];
        }
    }
    if (batch == NULL && correlation != client->waiting) {
        refuse(client, "an answer to nothing", correlation);
        return;
    }
    int16_t key = batch != NULL ? (int16_t)MR_API_PRODUCE : client->waiting_key;
    int16_t version = key == MR_API_PRODUCE ? 9 : key == MR_API_FETCH ? 12 : key == MR_API_CREATE_TOPICS ? 7 : 4;
    const struct mr_api *api = mr_api_find(key);
    uint32_t             tags;
    void                *response = mr_arena_try(&arena, 256, 16);
    if (mr_reader_uvarint(&reader, &tags) != MR_OK || tags != 0 ||
        mr_msg_decode(api->response, version, &reader, &arena, response) != MR_OK || mr_reader_left(&reader) != 0) {
        refuse(client, "an answer that cannot be decoded", key);
        return;
    }
    if (batch != NULL) {
        take_produce(client, batch, response, now);
    } else {
        take_other(client, response, &arena, now);
    }
}

void mr_sim_client_feed(struct mr_sim_client *client, const void *bytes, uint32_t len, struct mr_now now)
{
    mr_assert(len <= MR_SIM_CLIENT_BUFFER - client->in_len);
    memcpy(client->in + client->in_len, bytes, len);
    client->in_len += len;
    uint32_t at = 0;
    while (client->in_len - at >= 4) {
        uint32_t frame = mr_load_be32(client->in + at);
        if (frame > MR_SIM_CLIENT_BUFFER - 4) {
            refuse(client, "an answer larger than anything asked for", frame);
            return;
        }
        if (client->in_len - at - 4 < frame) {
            break;
        }
        take_frame(client, client->in + at + 4, frame, now);
        at += 4 + frame;
    }
    memmove(client->in, client->in + at, client->in_len - at);
    client->in_len -= at;
}
