#include "load_produce.h"

#include "millrace/base/bytes.h"
#include "millrace/base/time.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_BYTES     16384u
#define ANSWER_MAX   (16u << 20)

/* ---- answers ---- */

/* The stream that an answer is about; NULL when the request had no batch of it. Brokers need not answer in
 * the order of the request. */
static struct mr_load_stream *find_stream(const struct mr_load_producer *producer, const struct mr_load_request *request,
                                          int32_t partition)
{
    uint32_t partitions = producer->worker->run->topic->partition_count;
    uint32_t at = partition < 0 || (uint32_t)partition >= partitions ? 0 : producer->stream_of[partition];
    if (at == 0 || (at - 1 + producer->stream_count - request->cursor) % producer->stream_count >= request->image.place_count) {
        return NULL;
    }
    return &producer->streams[at - 1];
}

static void take_partition(struct mr_load_producer *producer, const struct mr_load_request *request,
                           const struct mr_produce_response_partition_produce_response *answer)
{
    struct mr_load_worker        *worker = producer->worker;
    const struct mr_load_options *options = worker->run->options;
    struct mr_load_stream        *stream = find_stream(producer, request, answer->index);
    if (answer->error_code == 0 && stream != NULL) {
        stream->acked += options->records;
        mr_load_count(&worker->counts.records, options->records);
        mr_load_count(&worker->counts.bytes, options->records * (options->record_bytes + options->key_bytes));
        return;
    }
    char what[300];
    int  len = answer->error_message.len > 0 ? answer->error_message.len : 0;
    snprintf(what, sizeof what, "produce to partition %d: %s%s%.*s", answer->index,
             stream == NULL ? "it was not in the request" : mr_errors_name(answer->error_code), len > 0 ? ": " : "", len,
             len > 0 ? answer->error_message.data : "");
    mr_load_worker_fail(worker, what);
}

static enum mr_err decode(struct mr_load_worker *worker, int32_t correlation, const uint8_t *body, uint32_t len,
                          struct mr_produce_response *response)
{
    struct mr_reader reader;
    struct mr_arena  arena;
    int32_t          got;
    int16_t          version = worker->run->produce_version;
    mr_arena_init(&arena, worker->scratch, MR_LOAD_SCRATCH);
    mr_reader_init_bytes(&reader, body, len);
    enum mr_err err = mr_reader_int32(&reader, &got);
    if (err == MR_OK && got != correlation) {
        return MR_ERR_MALFORMED;
    }
    if (err == MR_OK && version >= 9) {
        err = mr_reader_skip(&reader, 1);
    }
    return err != MR_OK ? err : mr_msg_decode(&mr_msg_produce_response, version, &reader, &arena, response);
}

static void set_due(struct mr_load_producer *producer)
{
    struct mr_load_worker *worker = producer->worker;
    bool is_able = producer->open < producer->request_count && !producer->link.is_closing &&
                   !atomic_load_explicit(&worker->run->is_stopping, memory_order_relaxed);
    worker->due_ns[producer->place] =
        is_able ? mr_load_schedule_due_ns(&producer->schedule, worker->loop.now_ns) : MR_NEVER;
}

/* The oldest request is done with. */
static void finish(struct mr_load_producer *producer)
{
    struct mr_load_worker    *worker = producer->worker;
    const struct mr_load_run *run = worker->run;
    struct mr_load_request   *request = &producer->requests[producer->first];
    uint64_t                  now_ns = worker->loop.now_ns;
    if (request->intended_ns >= run->measure_ns && request->intended_ns < run->end_ns) {
        mr_load_hist_record(&worker->produced, (now_ns - request->intended_ns) / MR_NS_PER_US);
    }
    mr_load_count(&worker->counts.requests, 1);
    mr_load_count(&worker->counts.wire, request->image.len);
    producer->first = (producer->first + 1) % producer->request_count;
    if (producer->open-- == producer->request_count) {
        producer->free_ns = now_ns;
    }
    set_due(producer);
}

void mr_load_producer_ended(struct mr_load_producer *producer, int64_t producer_id, int16_t epoch)
{
    struct mr_load_image *image = &producer->requests[0].image;
    if (producer_id >= 0) {
        image->producer_id = producer_id;
        image->producer_epoch = epoch;
    }
    finish(producer);
}

/* The transaction before this one is still being completed. */
static bool is_too_early(const struct mr_load_producer *producer, const struct mr_produce_response_topic_produce_response *topic)
{
    bool is_early = false;
    for (int32_t index = 0; producer->txn != NULL && index < topic->partition_responses_count; index++) {
        is_early = is_early || topic->partition_responses[index].error_code == MR_KAFKA_CONCURRENT_TRANSACTIONS;
    }
    return is_early;
}

static void on_frame(struct mr_load_link *link, const uint8_t *body, uint32_t len)
{
    struct mr_load_producer   *producer = link->user;
    struct mr_load_request    *request = &producer->requests[producer->first];
    struct mr_produce_response response;
    enum mr_err                err = producer->open == 0
                                         ? MR_ERR_MALFORMED
                                         : decode(producer->worker, request->correlation, body, len, &response);
    if (err != MR_OK || response.responses_count != 1 ||
        response.responses[0].partition_responses_count != (int32_t)request->image.place_count) {
        mr_load_worker_fail(producer->worker, "produce: an answer that does not belong to the request");
        mr_load_link_close(link);
        return;
    }
    if (is_too_early(producer, &response.responses[0])) {
        mr_load_txn_wait(producer->txn);
        return;
    }
    for (int32_t index = 0; index < response.responses[0].partition_responses_count; index++) {
        take_partition(producer, request, &response.responses[0].partition_responses[index]);
    }
    if (producer->txn != NULL) {
        mr_load_txn_end(producer->txn);
    } else {
        finish(producer);
    }
}

/* acks=0: nobody answers, the kernel has the bytes. */
static void on_sent(struct mr_load_link *link)
{
    struct mr_load_producer      *producer = link->user;
    const struct mr_load_options *options = producer->worker->run->options;
    uint64_t                      records = options->records * options->batches;
    while (options->acks == MR_LOAD_ACKS_NONE && producer->open > 0) {
        mr_load_count(&producer->worker->counts.records, records);
        mr_load_count(&producer->worker->counts.bytes, records * (options->record_bytes + options->key_bytes));
        finish(producer);
    }
}

static void on_closed(struct mr_load_link *link, int err)
{
    struct mr_load_producer *producer = link->user;
    char                     what[200];
    producer->worker->due_ns[producer->place] = MR_NEVER;
    if (atomic_load_explicit(&producer->worker->run->is_ended, memory_order_relaxed)) {
        return;
    }
    snprintf(what, sizeof what, "connection of producer %u: %s, %u requests without answer", producer->index,
             err == 0 ? "closed by the broker" : strerror(err), producer->open);
    mr_load_count(&producer->worker->counts.lost, 1);
    mr_load_worker_fail(producer->worker, what);
}

static const struct mr_load_link_calls calls = {.frame = on_frame, .sent = on_sent, .closed = on_closed};

/* ---- requests ---- */

static void send_one(struct mr_load_producer *producer, uint64_t intended_ns)
{
    struct mr_load_worker  *worker = producer->worker;
    uint64_t                now_ns = worker->loop.now_ns;
    struct mr_load_request *request = &producer->requests[(producer->first + producer->open) % producer->request_count];
    request->intended_ns = intended_ns;
    request->cursor = producer->cursor;
    request->correlation = producer->correlation++ & INT32_MAX;
    if (!mr_load_image_fill(&request->image, request->correlation, producer->order + producer->cursor,
                            worker->loop.unix_ns - (int64_t)(now_ns - intended_ns))) {
        mr_load_worker_fail(worker, "produce: the batch cannot be compressed");
        worker->due_ns[producer->place] = MR_NEVER;
        return;
    }
    producer->cursor = (producer->cursor + request->image.place_count) % producer->stream_count;
    producer->open++;
    (void)mr_load_link_send(&producer->link, request->image.bytes, request->image.len); /* as many places */
    if (worker->run->rate_per_s > 0 && intended_ns >= worker->run->measure_ns) {
        uint64_t possible_ns = intended_ns > producer->free_ns ? intended_ns : producer->free_ns;
        mr_load_hist_record(&worker->lateness, (now_ns - possible_ns) / MR_NS_PER_US);
    }
    mr_load_schedule_next(&producer->schedule);
    set_due(producer);
}

static void send_again(struct mr_load_producer *producer)
{
    producer->worker->due_ns[producer->place] = MR_NEVER;
    if (mr_load_txn_again(producer->txn)) {
        (void)mr_load_link_send(&producer->link, producer->requests[0].image.bytes, producer->requests[0].image.len);
    }
}

void mr_load_producer_turn(struct mr_load_producer *producer)
{
    struct mr_load_worker *worker = producer->worker;
    if (producer->txn != NULL && producer->txn->is_again) {
        send_again(producer);
    }
    while (worker->due_ns[producer->place] <= worker->loop.now_ns) {
        send_one(producer, worker->due_ns[producer->place]);
    }
    mr_load_link_flush(&producer->link);
}

void mr_load_producer_stop(struct mr_load_producer *producer)
{
    if (producer->txn == NULL || !producer->txn->is_again) {
        producer->worker->due_ns[producer->place] = MR_NEVER;
    }
}

void mr_load_producer_start(struct mr_load_producer *producer)
{
    const struct mr_load_run *run = producer->worker->run;
    mr_load_schedule_init(&producer->schedule, run->start_ns, run->rate_per_s, producer->index,
                          (uint32_t)run->options->producers, run->options->arrivals == MR_LOAD_POISSON,
                          run->options->seed);
    producer->free_ns = run->start_ns;
    producer->worker->due_ns[producer->place] = mr_load_schedule_due_ns(&producer->schedule, run->start_ns);
}

/* ---- opening ---- */

/* How many partitions before `end` the node leads. */
static uint32_t led_before(const struct mr_load_topic *topic, int32_t node, uint32_t end)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < end; at++) {
        count += topic->leaders[at] == node ? 1u : 0u;
    }
    return count;
}

/* Producers are dealt out to the leaders by the leaders of the first partitions; those of one leader deal
 * out its partitions among themselves, or share them when there are more producers. */
static int32_t choose_partitions(struct mr_load_producer *producer)
{
    const struct mr_load_run   *run = producer->worker->run;
    const struct mr_load_topic *topic = run->topic;
    uint32_t                    partitions = topic->partition_count;
    int32_t                     node = topic->leaders[producer->index % partitions];
    uint32_t whole = (uint32_t)run->options->producers / partitions; /* rounds of producers over all partitions */
    uint32_t rest = (uint32_t)run->options->producers % partitions;
    uint32_t led = led_before(topic, node, partitions);
    uint32_t peers = whole * led + led_before(topic, node, rest);
    uint32_t place = producer->index / partitions * led + led_before(topic, node, producer->index % partitions);
    uint32_t step = peers < led ? peers : led;
    producer->streams = calloc(partitions, sizeof *producer->streams);
    producer->stream_of = calloc(partitions, sizeof *producer->stream_of);
    if (producer->streams == NULL || producer->stream_of == NULL) {
        return -1;
    }
    for (uint32_t at = 0, nth = 0; at < partitions; at++) {
        if (topic->leaders[at] == node && nth++ % step == place % step) {
            producer->streams[producer->stream_count++] = (struct mr_load_stream){.partition = (int32_t)at};
            producer->stream_of[at] = producer->stream_count;
        }
    }
    producer->order = calloc(producer->stream_count * 2 + 1, sizeof *producer->order);
    for (uint32_t at = 0; producer->order != NULL && at < producer->stream_count * 2; at++) {
        producer->order[at] = &producer->streams[at % producer->stream_count];
    }
    return node;
}

static bool identify(struct mr_load_producer *producer, const char *address, struct mr_load_image_params *params)
{
    struct mr_load_worker *worker = producer->worker;
    struct mr_load_wire    wire;
    if (worker->run->options->transactional) {
        producer->txn = calloc(1, sizeof *producer->txn);
        return producer->txn != NULL && mr_load_txn_open(producer->txn, producer, producer->index, params);
    }
    bool is_done = mr_load_wire_open(&wire, address) &&
                   mr_load_wire_producer_id(&wire, MR_STR_NULL, 0, &params->producer_id, &params->producer_epoch);
    if (!is_done) {
        snprintf(worker->error, sizeof worker->error, "%s", wire.error);
    }
    mr_load_wire_close(&wire);
    return is_done;
}

static bool make_requests(struct mr_load_producer *producer, const struct mr_load_image_params *params)
{
    struct mr_load_worker *worker = producer->worker;
    enum mr_err            err = MR_ERR_NO_MEMORY;
    producer->request_count = (uint32_t)worker->run->options->in_flight;
    producer->requests = calloc(producer->request_count, sizeof *producer->requests);
    for (uint32_t at = 0; producer->requests != NULL && at < producer->request_count; at++) {
        if (!mr_load_image_init(&producer->requests[at].image, params, &err)) {
            snprintf(worker->error, sizeof worker->error, "making a request: %s", mr_err_text(err));
            return false;
        }
    }
    return producer->requests != NULL;
}

bool mr_load_producer_open(struct mr_load_producer *producer, struct mr_load_worker *worker, uint32_t index,
                           uint32_t place)
{
    const struct mr_load_run *run = worker->run;
    *producer = (struct mr_load_producer){.worker = worker, .index = index, .place = place};
    int32_t     node = choose_partitions(producer);
    const char *address = mr_load_topic_address(run->topic, node);
    if (producer->order == NULL || address == NULL || producer->stream_count < run->options->batches) {
        snprintf(worker->error, sizeof worker->error,
                 "producer %u has %u partitions of its own, too few for batches=%lu of different ones", index,
                 producer->stream_count, run->options->batches);
        return false;
    }
    struct mr_load_image_params params = {.options = run->options,
                                          .topic = mr_str(run->topic->name),
                                          .transactional_id = MR_STR_NULL,
                                          .version = run->produce_version,
                                          .producer = index,
                                          .producer_id = -1,
                                          .producer_epoch = -1,
                                          .now_unix_ms = worker->loop.unix_ns / (int64_t)MR_NS_PER_MS};
    if ((run->options->idempotent || run->options->transactional) && !identify(producer, address, &params)) {
        return false;
    }
    if (!make_requests(producer, &params)) {
        return false;
    }
    int fd = mr_load_wire_connect(address, worker->error, sizeof worker->error);
    return fd >= 0 && mr_load_link_open(&producer->link, &worker->loop, fd, IN_BYTES, ANSWER_MAX,
                                        producer->request_count, &calls, producer);
}

void mr_load_producer_close(struct mr_load_producer *producer)
{
    for (uint32_t at = 0; producer->requests != NULL && at < producer->request_count; at++) {
        mr_load_image_deinit(&producer->requests[at].image);
    }
    if (producer->txn != NULL) {
        mr_load_txn_close(producer->txn);
        free(producer->txn);
    }
    mr_load_link_free(&producer->link);
    free(producer->requests);
    free(producer->streams);
    free(producer->stream_of);
    free(producer->order);
}
