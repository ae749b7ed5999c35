#include "sim_keyed.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#define RECORDS_MAX         12u
#define DELETE_RETENTION_MS 1500
#define FETCH_BYTES         (64 << 10)
#define WRITE_REST_NS       (6 * MR_NS_PER_MS)
#define KEY_BYTES           4

static const struct mr_str topic = {.data = "keyed", .len = 5};

static struct mr_sim_keyed *keyed_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_keyed *)(void *)actor;
}

/* ---- Sending ---- */

static void send_create(struct mr_sim_keyed *k, struct mr_now now)
{
    static const char *const configs[][2] = {
        {"cleanup.policy", "compact"}, {"segment.ms", "40"}, {"min.cleanable.dirty.ratio", "0.01"},
        {"delete.retention.ms", "1500"}, {"file.delete.delay.ms", "300"}};
    struct mr_create_topics_request                        request;
    struct mr_create_topics_request_creatable_topic        one;
    struct mr_create_topics_request_creatable_topic_config rows[sizeof configs / sizeof configs[0]];
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &one);
    one.name = topic;
    one.num_partitions = 1;
    one.replication_factor = 1;
    one.configs = rows;
    for (; (size_t)one.configs_count < sizeof rows / sizeof rows[0]; one.configs_count++) {
        rows[one.configs_count].name = mr_str(configs[one.configs_count][0]);
        rows[one.configs_count].value = mr_str(configs[one.configs_count][1]);
    }
    request.topics = &one;
    request.topics_count = 1;
    mr_sim_actor_send(&k->actor, MR_API_CREATE_TOPICS, 7, &request, 0, true, now);
}

/* Few keys get most of the values, so that there is something to compact. */
static uint32_t draw_key(struct mr_sim_keyed *k)
{
    uint64_t keys = mr_prng_below(&k->actor.prng, 4) == 0 ? MR_CHECK_KEYED_KEYS : 8;
    return (uint32_t)mr_prng_below(&k->actor.prng, keys);
}

static void send_produce(struct mr_sim_keyed *k, struct mr_now now)
{
    struct mr_produce_request                                request;
    struct mr_produce_request_topic_produce_data             one;
    struct mr_produce_request_partition_produce_data         part;
    struct mr_batch_builder                                  builder;
    struct mr_span                                           span;
    mr_batch_begin(&builder, k->actor.scratch, MR_SIM_ACTOR_HALF, 0, 0);
    k->first = k->check.count;
    k->count = 1 + (uint32_t)mr_prng_below(&k->actor.prng, RECORDS_MAX);
    for (uint32_t index = 0; index < k->count; index++) {
        uint8_t  key_bytes[KEY_BYTES];
        uint8_t  value[8];
        uint32_t key = draw_key(k);
        bool     is_tombstone = mr_prng_below(&k->actor.prng, 6) == 0;
        uint32_t write = mr_check_keyed_send(&k->check, key, is_tombstone, now.unix_ms);
        mr_store_be32(key_bytes, key);
        mr_store_be64(value, write);
        bool fits = mr_batch_add(&builder, now.unix_ms, (struct mr_blob){.data = key_bytes, .len = KEY_BYTES},
                                 is_tombstone ? MR_BLOB_NULL : (struct mr_blob){.data = value, .len = sizeof value});
        mr_assert(fits);
    }
    span = (struct mr_span){.data = k->actor.scratch, .len = mr_batch_end(&builder)};
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &one);
    part = (struct mr_produce_request_partition_produce_data){
        .records = {.spans = &span, .span_count = 1, .bytes = span.len}};
    one.name = topic;
    one.partition_data = &part;
    one.partition_data_count = 1;
    request.acks = -1;
    request.timeout_ms = 30000;
    request.topic_data = &one;
    request.topic_data_count = 1;
    mr_sim_actor_send(&k->actor, MR_API_PRODUCE, 9, &request, 0, true, now);
}

static void send_fetch(struct mr_sim_keyed *k, struct mr_now now)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     one;
    struct mr_fetch_request_fetch_partition part;
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &one);
    MR_DEFAULTS(fetch_request_fetch_partition, &part);
    part.fetch_offset = k->position;
    part.partition_max_bytes = 256 << mr_prng_below(&k->actor.prng, 9);
    one.topic = topic;
    one.partitions = &part;
    one.partitions_count = 1;
    request.max_wait_ms = 10;
    request.max_bytes = FETCH_BYTES;
    request.topics = &one;
    request.topics_count = 1;
    mr_sim_actor_send(&k->actor, MR_API_FETCH, 12, &request, 0, true, now);
}

static void look_at_clock(struct mr_sim_keyed *k, struct mr_now now)
{
    int64_t skew_ms = now.unix_ms - (int64_t)(now.mono_ns / MR_NS_PER_MS);
    int64_t change = skew_ms - k->skew_ms;
    k->check.is_time_doubted |= k->skew_ms != 0 && (change > 1 || change < -1);
    k->skew_ms = skew_ms;
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_keyed *k = keyed_of(actor);
    look_at_clock(k, now);
    if (actor->call_count > 0 || k->is_done) {
        return;
    }
    if (!k->is_created) {
        send_create(k, now);
        return;
    }
    bool is_over = actor->is_quiet || k->check.count + RECORDS_MAX > MR_CHECK_KEYED_WRITES;
    if (!k->is_reading && (is_over || mr_prng_below(&actor->prng, 8) == 0)) {
        k->is_reading = true;
        k->is_final = is_over && actor->is_quiet;
        k->position = 0;
        mr_check_keyed_begin(&k->check);
    }
    if (k->is_reading && (is_over || mr_prng_below(&actor->prng, 2) == 0)) {
        send_fetch(k, now);
    } else if (!is_over) {
        send_produce(k, now);
    }
}

/* ---- Answers ---- */

static void try_again(struct mr_sim_keyed *k, int16_t error, const char *what, struct mr_now now)
{
    if (!mr_errors_is_retriable(error)) {
        mr_sim_actor_refuse(&k->actor, what, error);
    }
    mr_sim_actor_rest(&k->actor, now, 40 * MR_NS_PER_MS);
}

static void take_created(struct mr_sim_keyed *k, const struct mr_create_topics_response *response, struct mr_now now)
{
    int16_t error = response->topics_count == 1 ? response->topics[0].error_code : (int16_t)MR_KAFKA_UNKNOWN_SERVER_ERROR;
    if (error != 0 && error != MR_KAFKA_TOPIC_ALREADY_EXISTS) {
        try_again(k, error, "a compacted topic cannot be created", now);
        return;
    }
    k->is_created = true;
}

static void take_produced(struct mr_sim_keyed *k, const struct mr_produce_response *response, struct mr_now now)
{
    const struct mr_produce_response_partition_produce_response *part = &response->responses[0].partition_responses[0];
    if (part->error_code == MR_KAFKA_INVALID_TIMESTAMP && k->check.is_time_doubted) {
        return; /* the clock went back on its way: the records are from the broker's future */
    }
    if (part->error_code != 0) {
        try_again(k, part->error_code, "Produce to a compacted topic failed for good", now);
        return;
    }
    if (part->log_start_offset != 0) {
        mr_sim_actor_refuse(&k->actor, "a compacted log begins later", part->log_start_offset);
    }
    for (uint32_t index = 0; index < k->count; index++) {
        mr_check_keyed_acked(&k->check, k->first + index, part->base_offset + index);
    }
    mr_sim_actor_rest(&k->actor, now, WRITE_REST_NS);
}

/* The records of a batch from the position on. False: what is there is not ours. */
static bool take_batch(struct mr_sim_keyed *k, const uint8_t *bytes, uint32_t len, struct mr_arena *arena)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    enum mr_err           err = mr_record_iter_init(&iter, bytes, len, arena);
    while (err == MR_OK && (err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        if (record.key.len != KEY_BYTES || (record.value.len != 8 && record.value.len != -1)) {
            err = MR_ERR_INVALID_RECORD;
        } else if (record.offset >= k->position) {
            mr_check_keyed_see(&k->check,
                               record.value.len < 0 ? MR_CHECK_KEYED_NONE : (uint32_t)mr_load_be64(record.value.data),
                               mr_load_be32(record.key.data), record.offset);
        }
    }
    return err == MR_ERR_NOT_FOUND;
}

static void take_records(struct mr_sim_keyed *k, const struct mr_chain *records, struct mr_arena *arena)
{
    for (uint32_t at = 0; at + MR_BATCH_HEADER <= records->bytes;) {
        uint8_t         header[MR_BATCH_HEADER];
        struct mr_batch batch;
        mr_chain_copy(records, at, header, sizeof header);
        mr_batch_header_load(header, &batch);
        uint32_t bytes = mr_batch_bytes(&batch);
        uint8_t *whole = bytes > records->bytes - at ? NULL : mr_arena_try(arena, bytes, 8);
        if (whole == NULL) {
            return; /* cut by max bytes */
        }
        mr_chain_copy(records, at, whole, bytes);
        bool is_right = mr_crc32c(0, whole + MR_BATCH_CHECKED_AT, bytes - MR_BATCH_CHECKED_AT) == batch.crc;
        if (!is_right || mr_batch_last_offset(&batch) < k->position || !take_batch(k, whole, bytes, arena)) {
            mr_sim_actor_refuse(&k->actor, "a batch of a compacted log is not what was asked for", batch.base_offset);
            return;
        }
        k->position = mr_batch_last_offset(&batch) + 1;
        at += bytes;
    }
}

static void take_fetched(struct mr_sim_keyed *k, const struct mr_fetch_response *response, struct mr_arena *arena,
                         struct mr_now now)
{
    const struct mr_fetch_response_partition_data *data = NULL;
    int16_t error = response->error_code;
    if (error == 0 && (response->responses_count != 1 || response->responses[0].partitions_count != 1)) {
        error = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    if (error == 0) {
        data = &response->responses[0].partitions[0];
        error = data->error_code;
    }
    if (error != 0) {
        try_again(k, error, "Fetch of a compacted topic failed for good", now);
        return;
    }
    take_records(k, &data->records, arena);
    if (k->position < data->high_watermark) {
        return;
    }
    mr_check_keyed_end(&k->check, now.unix_ms);
    k->compacted += k->check.missing > 0;
    k->is_reading = false;
    k->is_done = k->is_final;
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_keyed *k = keyed_of(actor);
    look_at_clock(k, now);
    if (call->key == MR_API_CREATE_TOPICS) {
        take_created(k, response, now);
    } else if (call->key == MR_API_PRODUCE) {
        take_produced(k, response, now);
    } else {
        take_fetched(k, response, arena, now);
    }
    if (!mr_check_keyed_is_ok(&k->check)) {
        mr_fmt(actor->why, sizeof actor->why, "%s", k->check.why);
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_keyed *)(const void *)actor)->is_done;
}

void mr_sim_keyed_init(struct mr_sim_keyed *keyed, struct mr_arena *arena, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {.name = "keyed", .turn = turn, .answer = answer, .is_idle = is_idle};
    *keyed = (struct mr_sim_keyed){.is_created = false};
    mr_check_keyed_init(&keyed->check, arena, DELETE_RETENTION_MS);
    mr_sim_actor_init(&keyed->actor, &ops, arena, seed);
}
