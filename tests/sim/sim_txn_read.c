/*
 * sim_txn_read: reading committed records as Kafka's client does, and who reads them all the time.
 */
#include "sim_txn.h"

#include "millrace/batch.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_ask.h"

#define ABORTED_MAX 2048 /* in one answer */
#define FETCH_BYTES (128 << 10)
#define SLACK_MS    1000 /* beyond the timeout and the scan: markers are written, and tried again */

const struct mr_str mr_sim_txn_topics[2] = {{.data = "txn-in", .len = 6}, {.data = "txn-out", .len = 7}};
const struct mr_str mr_sim_txn_group = {.data = "sim-pipe-group", .len = 14};

bool mr_sim_txn_is_late(uint64_t rested_ns, struct mr_now now)
{
    return now.mono_ns > rested_ns + (MR_SIM_TXN_TIMEOUT_MS + MR_SIM_TXN_SCAN_MS + SLACK_MS) * MR_NS_PER_MS;
}

void mr_sim_txn_send_offsets(struct mr_sim_actor *actor, struct mr_now now)
{
    const struct mr_sim_ask_offsets ask = {.group = mr_sim_txn_group,
                                           .topic = mr_sim_txn_topics[0],
                                           .partitions = MR_CHECK_TXN_PARTITIONS,
                                           .version = 8,
                                           .is_stable = true};
    mr_sim_ask_offsets(actor, &ask, now);
}

int16_t mr_sim_txn_take_offsets(const struct mr_offset_fetch_response *response,
                                int64_t positions[MR_CHECK_TXN_PARTITIONS])
{
    const struct mr_offset_fetch_response_group *group = response->groups;
    if (response->groups_count != 1 || group->error_code != 0) {
        return response->groups_count == 1 ? group->error_code : (int16_t)MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    for (int32_t index = 0; group->topics_count == 1 && index < group->topics[0].partitions_count; index++) {
        const struct mr_offset_fetch_response_partitions *partition = &group->topics[0].partitions[index];
        if (partition->error_code != 0) {
            return partition->error_code;
        }
        positions[partition->partition_index] = partition->committed_offset < 0 ? 0 : partition->committed_offset;
    }
    return MR_KAFKA_NONE;
}

void mr_sim_txn_send_fetch(struct mr_sim_actor *actor, uint32_t log, int64_t offset, int32_t bytes, struct mr_now now)
{
    struct mr_fetch_request                 request;
    struct mr_fetch_request_fetch_topic     topic;
    struct mr_fetch_request_fetch_partition entry;
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    MR_DEFAULTS(fetch_request_fetch_partition, &entry);
    entry.partition = (int32_t)(log % MR_CHECK_TXN_PARTITIONS);
    entry.fetch_offset = offset;
    entry.partition_max_bytes = bytes;
    topic.topic = mr_sim_txn_topics[log / MR_CHECK_TXN_PARTITIONS];
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.max_wait_ms = (int32_t)mr_prng_below(&actor->prng, 40);
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.isolation_level = 1;
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(actor, MR_API_FETCH, 12, &request, 0, true, now);
}

/* ---- An answer ---- */

/* Producers whose transactions are being left out. */
struct leaving {
    const struct mr_fetch_response_partition_data *data;
    bool     is_begun[ABORTED_MAX]; /* of its aborted transactions, which come in the order of their ends */
    int64_t  producers[ABORTED_MAX];
    uint32_t count;
};

static uint32_t find(const struct leaving *leaving, int64_t producer_id)
{
    uint32_t at = 0;
    while (at < leaving->count && leaving->producers[at] != producer_id) {
        at++;
    }
    return at;
}

/* Those that begin in this batch or before it. */
static void begin_up_to(struct leaving *leaving, int64_t last_offset)
{
    const struct mr_fetch_response_partition_data *data = leaving->data;
    for (int32_t index = 0; index < data->aborted_transactions_count; index++) {
        const struct mr_fetch_response_aborted_transaction *aborted = &data->aborted_transactions[index];
        if (leaving->is_begun[index] || aborted->first_offset > last_offset) {
            continue;
        }
        leaving->is_begun[index] = true;
        if (find(leaving, aborted->producer_id) == leaving->count) {
            leaving->producers[leaving->count++] = aborted->producer_id;
        }
    }
}

/* Whether the batch is left out: of an aborted transaction, or the marker that ends one. */
static bool is_left_out(struct leaving *leaving, const struct mr_batch *batch, const uint8_t *bytes)
{
    struct mr_marker marker;
    begin_up_to(leaving, mr_batch_last_offset(batch));
    uint32_t at = find(leaving, batch->producer_id);
    if ((batch->attributes & MR_BATCH_CONTROL) == 0) {
        return at < leaving->count;
    }
    if (at < leaving->count && mr_marker_load(bytes, mr_batch_bytes(batch), &marker) && !marker.is_commit) {
        leaving->producers[at] = leaving->producers[--leaving->count];
    }
    return true;
}

static bool take_batch(struct mr_sim_actor *actor, const struct mr_batch *batch, const uint8_t *bytes,
                       struct mr_arena *arena, int64_t *position, mr_sim_txn_take *take, void *user)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    if (mr_record_iter_init(&iter, bytes, mr_batch_bytes(batch), arena) != MR_OK) {
        mr_sim_actor_refuse(actor, "a delivered batch cannot be read", batch->base_offset);
        return false;
    }
    while (mr_record_iter_next(&iter, &record) == MR_OK) {
        if (record.value.len != 16) {
            mr_sim_actor_refuse(actor, "a delivered record is not ours", record.offset);
            return false;
        }
        if (record.offset < *position) {
            continue; /* the batch begins before what was asked for */
        }
        *position = record.offset + 1;
        if (!take(user, mr_load_be64(record.value.data), (uint32_t)mr_load_be64(record.value.data + 8),
                  record.offset)) {
            return false;
        }
    }
    return true;
}

static void take_records(struct mr_sim_actor *actor, const struct mr_fetch_response_partition_data *data,
                         struct mr_arena *arena, int64_t *position, mr_sim_txn_take *take, void *user)
{
    static struct leaving leaving; /* within one call only */
    leaving = (struct leaving){.data = data};
    if (data->aborted_transactions_count > ABORTED_MAX) {
        mr_sim_actor_refuse(actor, "more aborted transactions than there can be", data->aborted_transactions_count);
        return;
    }
    for (uint32_t at = 0; at + MR_BATCH_HEADER <= data->records.bytes;) {
        uint8_t         header[MR_BATCH_HEADER];
        struct mr_batch batch;
        mr_chain_copy(&data->records, at, header, sizeof header);
        mr_batch_header_load(header, &batch);
        uint32_t bytes = mr_batch_bytes(&batch);
        uint8_t *whole = bytes > data->records.bytes - at ? NULL : mr_arena_try(arena, bytes, 8);
        if (whole == NULL) {
            return; /* cut by max bytes */
        }
        mr_chain_copy(&data->records, at, whole, bytes);
        if (mr_batch_last_offset(&batch) >= data->last_stable_offset) {
            mr_sim_actor_refuse(actor, "a batch beyond the last stable offset", batch.base_offset);
            return;
        }
        if (!is_left_out(&leaving, &batch, whole) && !take_batch(actor, &batch, whole, arena, position, take, user)) {
            return;
        }
        *position = mr_batch_last_offset(&batch) + 1;
        at += bytes;
    }
}

int16_t mr_sim_txn_take_fetch(struct mr_sim_actor *actor, struct mr_check_txn *check, uint32_t log, int64_t floor,
                              const struct mr_fetch_response *response, struct mr_arena *arena, int64_t *position,
                              bool *is_end, mr_sim_txn_take *take, void *user)
{
    *is_end = false;
    if (response->error_code != 0 || response->responses_count != 1 || response->responses[0].partitions_count != 1) {
        return response->error_code != 0 ? response->error_code : (int16_t)MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    const struct mr_fetch_response_partition_data *data = &response->responses[0].partitions[0];
    if (data->error_code != 0) {
        return data->error_code;
    }
    mr_check_txn_stable(check, log, floor, data->last_stable_offset, data->high_watermark);
    take_records(actor, data, arena, position, take, user);
    *is_end = *position == data->high_watermark;
    return MR_KAFKA_NONE;
}

/* ---- Who reads all the time ---- */

static struct mr_sim_txn_reader *reader_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_txn_reader *)(void *)actor;
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_txn_reader *reader = reader_of(actor);
    if (actor->call_count > 0 || reader->is_done || !reader->all->is_created) {
        return;
    }
    if (!reader->is_final && reader->all->rested_ns[1] != 0) {
        reader->is_final = true;
        reader->log = 0;
        memset(reader->positions, 0, sizeof reader->positions);
    }
    if (reader->is_final && reader->log == MR_CHECK_TXN_LOGS) {
        mr_sim_txn_send_offsets(actor, now);
        return;
    }
    if (!reader->is_final) {
        reader->log = (uint32_t)mr_prng_below(&actor->prng, MR_CHECK_TXN_LOGS);
        mr_sim_actor_rest(actor, now, 50 * MR_NS_PER_MS);
    }
    reader->floor = reader->all->check.logs[reader->log].stable;
    mr_sim_txn_send_fetch(actor, reader->log, reader->positions[reader->log], FETCH_BYTES, now);
}

static bool take_record(void *user, uint64_t value, uint32_t txn, int64_t offset)
{
    struct mr_sim_txn_reader *reader = user;
    mr_check_txn_see(&reader->all->check, reader->log, offset, value, txn, reader->is_final);
    return true;
}

static void try_again(struct mr_sim_actor *actor, int16_t error, const char *what, struct mr_now now)
{
    if (!mr_errors_is_retriable(error)) {
        mr_sim_actor_refuse(actor, what, error);
    }
    mr_sim_actor_rest(actor, now, 20 * MR_NS_PER_MS);
}

static void take_positions(struct mr_sim_txn_reader *reader, const struct mr_offset_fetch_response *response,
                           struct mr_now now)
{
    int64_t positions[MR_CHECK_TXN_PARTITIONS];
    int16_t error = mr_sim_txn_take_offsets(response, positions);
    if (error != 0) {
        try_again(&reader->actor, error, "OffsetFetch failed for good", now);
        return;
    }
    for (uint32_t partition = 0; partition < MR_CHECK_TXN_PARTITIONS; partition++) {
        mr_check_txn_position(&reader->all->check, partition, positions[partition]);
    }
    mr_check_txn_finish(&reader->all->check);
    reader->is_done = true;
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_txn_reader *reader = reader_of(actor);
    if (call->key == MR_API_OFFSET_FETCH) {
        take_positions(reader, response, now);
        return;
    }
    bool    is_end = false;
    int64_t before = reader->positions[reader->log];
    int16_t error = mr_sim_txn_take_fetch(actor, &reader->all->check, reader->log, reader->floor, response, arena,
                                          &reader->positions[reader->log], &is_end, take_record, reader);
    if (error != 0) {
        try_again(actor, error, "Fetch failed for good", now);
    } else if (reader->is_final && is_end) {
        reader->log++;
    } else if (reader->is_final && reader->positions[reader->log] == before &&
               mr_sim_txn_is_late(reader->all->rested_ns[1], now)) {
        mr_sim_actor_refuse(actor, "a transaction hangs in log", reader->log);
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_txn_reader *)(const void *)actor)->is_done;
}

void mr_sim_txn_reader_init(struct mr_sim_txns *all, struct mr_arena *arena, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "committed-reader", .turn = turn, .answer = answer, .is_idle = is_idle};
    all->reader = (struct mr_sim_txn_reader){.all = all};
    mr_sim_actor_init(&all->reader.actor, &ops, arena, seed);
}
