#include "load_consume.h"

#include "load_image.h"

#include "millrace/base/bytes.h"
#include "millrace/base/time.h"
#include "millrace/batch.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MAX      (1u << 30)
#define POSITION_BYTES 512u /* of scratch per partition: decoded answer and request */
#define UNPACK_BYTES   (8u << 20)

/* ---- sources ---- */

static void on_frame(struct mr_load_link *link, const uint8_t *body, uint32_t len);
static void on_closed(struct mr_load_link *link, int err);

static const struct mr_load_link_calls calls = {.frame = on_frame, .closed = on_closed};

/* Connect; blocks for as long as that takes. */
static bool connect_source(struct mr_load_source *source, char *why, size_t why_size)
{
    struct mr_load_worker        *worker = source->consumer->worker;
    const struct mr_load_options *options = worker->run->options;
    const char                   *address = mr_load_topic_address(worker->run->topic, source->node);
    uint32_t                      in_size = (uint32_t)(options->fetch_bytes + options->fetch_part) + 65536;
    snprintf(why, why_size, "broker %d is not known", source->node);
    int fd = address == NULL ? -1 : mr_load_wire_connect(address, why, why_size);
    if (fd < 0) {
        return false;
    }
    mr_load_link_free(&source->link);
    source->is_lost = !mr_load_link_open(&source->link, &worker->loop, fd, in_size, FRAME_MAX, 2, &calls, source);
    source->is_waiting = false;
    source->layout++; /* sessions belong to connections that are gone */
    return !source->is_lost;
}

/* The connection to a node, made anew if need be; NULL: it cannot be had. */
static struct mr_load_source *find_source(struct mr_load_consumer *consumer, int32_t node, char *why, size_t why_size)
{
    struct mr_load_source *source = NULL;
    for (uint32_t at = 0; at < consumer->source_count && source == NULL; at++) {
        source = consumer->sources[at]->node == node ? consumer->sources[at] : NULL;
    }
    if (source == NULL && consumer->source_count < MR_LOAD_NODES_MAX && (source = calloc(1, sizeof *source)) != NULL) {
        *source = (struct mr_load_source){.consumer = consumer, .node = node, .is_lost = true, .link.fd = -1};
        source->out_size = 4096 + consumer->worker->run->topic->partition_count * 64;
        source->out = malloc(source->out_size);
        consumer->sources[consumer->source_count++] = source;
    }
    return source == NULL || source->out == NULL || (source->is_lost && !connect_source(source, why, why_size)) ? NULL
                                                                                                                : source;
}

/* ---- positions and who leads them ---- */

static void move(struct mr_load_position *position, struct mr_load_source *source)
{
    if (position->source != NULL) {
        position->source->held--;
        position->source->layout++;
    }
    position->source = source;
    if (source != NULL) {
        source->held++;
        source->layout++;
    }
}

/* The leader has changed, or cannot be reached. */
static void leave(struct mr_load_consumer *consumer, struct mr_load_position *position)
{
    move(position, NULL);
    atomic_store(&consumer->worker->wants_leaders, true);
}

/* Positions go to the sources of their leaders; false: one of them cannot be had, and `why` says why. */
static bool place(struct mr_load_consumer *consumer, char *why, size_t why_size)
{
    const struct mr_load_topic *topic = consumer->worker->run->topic;
    int32_t                     unreachable = -1; /* one try for all of its partitions */
    consumer->leaders_version = atomic_load_explicit(&topic->version, memory_order_acquire);
    for (uint32_t at = 0; at < consumer->position_count; at++) {
        struct mr_load_position *position = &consumer->positions[at];
        int32_t                  node = topic->leaders[position->partition];
        struct mr_load_source   *source =
            node == unreachable ? NULL : find_source(consumer, node, why, why_size);
        if (source == NULL) {
            unreachable = node;
            leave(consumer, position);
        } else if (source != position->source) {
            move(position, source);
        }
    }
    return unreachable == -1;
}

static void drop_positions(struct mr_load_consumer *consumer)
{
    for (uint32_t at = 0; at < consumer->position_count; at++) {
        move(&consumer->positions[at], NULL);
    }
    consumer->position_count = 0;
}

static bool set_positions(struct mr_load_consumer *consumer, const struct mr_load_owned *owned, uint32_t count,
                          char *why, size_t why_size)
{
    const struct mr_load_run *run = consumer->worker->run;
    drop_positions(consumer);
    memset(consumer->place_of, 0, run->topic->partition_count * sizeof *consumer->place_of);
    consumer->position_count = count;
    for (uint32_t at = 0; at < count; at++) {
        int32_t partition = owned == NULL ? (int32_t)at : owned[at].partition;
        int64_t offset = owned != NULL                              ? owned[at].offset
                         : run->options->from == MR_LOAD_EARLIEST ? run->topic->starts[partition]
                                                                    : run->topic->ends[partition];
        consumer->positions[at] = (struct mr_load_position){.partition = partition, .offset = offset, .is_changed = true};
        consumer->place_of[partition] = at + 1;
    }
    return place(consumer, why, why_size);
}

/* Under the member's lock: whether the positions are still ours; a new assignment is taken over. */
static bool is_still_ours(struct mr_load_consumer *consumer)
{
    struct mr_load_member *member = &consumer->member;
    uint32_t               assignment = atomic_load(&member->assignment);
    bool                   is_ours = !member->is_revoked && assignment == consumer->assignment;
    char                   why[200];
    if (member->is_revoked) {
        drop_positions(consumer);
    } else if (!is_ours) {
        consumer->assignment = assignment;
        (void)set_positions(consumer, member->owned, member->owned_count, why, sizeof why);
    }
    return is_ours;
}

/* ---- records ---- */

static void take_record(struct mr_load_consumer *consumer, uint32_t partition, const struct mr_record *record)
{
    struct mr_load_worker    *worker = consumer->worker;
    const struct mr_load_run *run = worker->run;
    if (consumer->reader != NULL) {
        mr_load_verify_record(run->verify, consumer->reader, partition, record->offset, record->key, record->value);
    }
    if (run->options->e2e && record->value.len >= MR_LOAD_STAMP_BYTES) {
        int64_t  since_ns = worker->loop.unix_ns - (int64_t)mr_load_be64(record->value.data);
        uint64_t late_ns = since_ns > 0 ? (uint64_t)since_ns : 0;
        uint64_t intended_ns = worker->loop.now_ns - late_ns;
        if (late_ns < worker->loop.now_ns && intended_ns >= run->measure_ns && intended_ns < run->end_ns) {
            mr_load_hist_record(&worker->end_to_end, late_ns / MR_NS_PER_US);
        }
    }
}

/* `rest` is the scratch behind the decoded answer. */
static void take_records(struct mr_load_consumer *consumer, struct mr_load_position *position, const uint8_t *bytes,
                         uint32_t len, struct mr_arena rest)
{
    const struct mr_load_options *options = consumer->worker->run->options;
    struct mr_record_iter         iter;
    struct mr_record              record;
    bool                          is_checked = consumer->reader != NULL;
    if (is_checked && mr_crc32c(0, bytes + 21, len - 21) != mr_load_be32(bytes + 17)) {
        consumer->reader->damaged++;
        return;
    }
    if (mr_record_iter_init(&iter, bytes, len, &rest) != MR_OK) {
        mr_load_worker_fail(consumer->worker, "fetch: records that cannot be read");
        return;
    }
    while (mr_record_iter_next(&iter, &record) == MR_OK) {
        if (record.offset >= position->offset) {
            take_record(consumer, (uint32_t)position->partition, &record);
        }
        if (!is_checked && options->e2e) {
            break; /* all records of a batch have the stamp of the first */
        }
    }
}

static void take_batch(struct mr_load_consumer *consumer, struct mr_load_position *position, const uint8_t *bytes,
                       const struct mr_batch *batch, struct mr_arena rest)
{
    struct mr_load_worker        *worker = consumer->worker;
    const struct mr_load_options *options = worker->run->options;
    int64_t                       end_offset = mr_batch_last_offset(batch) + 1;
    uint64_t skipped = position->offset > batch->base_offset ? (uint64_t)(position->offset - batch->base_offset) : 0;
    uint64_t count = (uint64_t)batch->record_count > skipped ? (uint64_t)batch->record_count - skipped : 0;
    if (end_offset <= position->offset) {
        return;
    }
    if (consumer->reader != NULL && batch->base_offset > position->offset && position->offset > 0) {
        consumer->reader->missing += (uint64_t)(batch->base_offset - position->offset);
    }
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        count = 0; /* the end of a transaction is nobody's record */
    } else if (options->e2e || consumer->reader != NULL) {
        take_records(consumer, position, bytes, mr_batch_bytes(batch), rest);
    }
    mr_load_count(&worker->counts.fetched_records, count);
    mr_load_count(&worker->counts.fetched_bytes, count * (options->record_bytes + options->key_bytes));
    mr_load_count(&worker->counts.fetched_wire, mr_batch_bytes(batch));
    position->offset = end_offset;
    position->is_changed = true;
}

static bool is_moved(int16_t code)
{
    return code == MR_KAFKA_NOT_LEADER_OR_FOLLOWER || code == MR_KAFKA_LEADER_NOT_AVAILABLE ||
           code == MR_KAFKA_REPLICA_NOT_AVAILABLE || code == MR_KAFKA_FENCED_LEADER_EPOCH ||
           code == MR_KAFKA_UNKNOWN_LEADER_EPOCH;
}

static void take_partition(struct mr_load_consumer *consumer, const struct mr_fetch_response_partition_data *data,
                           struct mr_arena rest)
{
    char     what[200];
    uint32_t partitions = consumer->worker->run->topic->partition_count;
    uint32_t place = data->partition_index < 0 || (uint32_t)data->partition_index >= partitions
                         ? 0
                         : consumer->place_of[data->partition_index];
    if (place != 0 && is_moved(data->error_code)) {
        leave(consumer, &consumer->positions[place - 1]);
        return;
    }
    if (data->error_code != 0 || place == 0) {
        snprintf(what, sizeof what, "fetch of partition %d: %s", data->partition_index,
                 place == 0 ? "was not asked for" : mr_errors_name(data->error_code));
        mr_load_worker_fail(consumer->worker, what);
        return;
    }
    struct mr_load_position *position = &consumer->positions[place - 1];
    const uint8_t           *at = data->records.span_count == 0 ? NULL : data->records.spans[0].data;
    uint32_t                 left = data->records.bytes;
    while (left >= MR_BATCH_HEADER) {
        struct mr_batch batch;
        mr_batch_header_load(at, &batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS || mr_batch_bytes(&batch) > left) {
            return; /* the rest of it comes with the next fetch */
        }
        take_batch(consumer, position, at, &batch, rest);
        at += mr_batch_bytes(&batch);
        left -= mr_batch_bytes(&batch);
    }
}

/* ---- answers ---- */

static enum mr_err decode(const struct mr_load_source *source, const uint8_t *body, uint32_t len,
                          struct mr_arena *arena, struct mr_fetch_response *response)
{
    struct mr_reader reader;
    int32_t          correlation;
    int16_t          version = source->consumer->worker->run->fetch_version;
    mr_reader_init_bytes(&reader, body, len);
    enum mr_err err = mr_reader_int32(&reader, &correlation);
    if (err == MR_OK && correlation != source->correlation) {
        return MR_ERR_MALFORMED;
    }
    if (err == MR_OK && version >= 12) {
        err = mr_reader_skip(&reader, 1);
    }
    return err != MR_OK ? err : mr_msg_decode(&mr_msg_fetch_response, version, &reader, arena, response);
}

static bool is_session_lost(int16_t code)
{
    return code == MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND || code == MR_KAFKA_INVALID_FETCH_SESSION_EPOCH;
}

static void take_response(struct mr_load_source *source, const struct mr_fetch_response *response, struct mr_arena rest)
{
    struct mr_load_consumer *consumer = source->consumer;
    if (source->asked_layout != source->layout) {
        return;
    }
    if (is_session_lost(response->error_code)) {
        source->session_id = 0;
        source->session_epoch = 0;
        return;
    }
    if (response->error_code != 0) {
        mr_load_worker_fail(consumer->worker, mr_errors_name(response->error_code));
        return;
    }
    source->session_id = response->session_id;
    source->session_epoch = response->session_id == 0             ? 0
                            : source->session_epoch == INT32_MAX ? 1
                                                                  : source->session_epoch + 1;
    for (int32_t topic = 0; topic < response->responses_count; topic++) {
        for (int32_t at = 0; at < response->responses[topic].partitions_count; at++) {
            take_partition(consumer, &response->responses[topic].partitions[at], rest);
        }
    }
}

/* In a group the lock is held while records are taken: a commit sees either none of them or all. */
static void take_response_of_member(struct mr_load_source *source, const struct mr_fetch_response *response,
                                    struct mr_arena rest)
{
    struct mr_load_consumer *consumer = source->consumer;
    struct mr_load_member   *member = &consumer->member;
    pthread_mutex_lock(&member->lock);
    bool is_ours = is_still_ours(consumer);
    take_response(source, response, rest); /* not ours: then neither is its layout */
    for (uint32_t at = 0; is_ours && at < consumer->position_count; at++) {
        member->owned[at].offset = consumer->positions[at].offset;
    }
    pthread_mutex_unlock(&member->lock);
}

static void on_frame(struct mr_load_link *link, const uint8_t *body, uint32_t len)
{
    struct mr_load_source   *source = link->user;
    struct mr_load_consumer *consumer = source->consumer;
    struct mr_load_worker   *worker = consumer->worker;
    struct mr_fetch_response response;
    struct mr_arena          arena;
    mr_arena_init(&arena, consumer->scratch, consumer->scratch_size);
    enum mr_err err = decode(source, body, len, &arena, &response);
    if (err != MR_OK) {
        mr_load_worker_fail(worker, "fetch: an answer that cannot be read");
        mr_load_link_close(link);
        return;
    }
    source->is_waiting = false;
    mr_load_count(&worker->counts.fetches, 1);
    if (worker->loop.now_ns >= worker->run->measure_ns && worker->loop.now_ns < worker->run->end_ns) {
        mr_load_hist_record(&worker->fetched, (worker->loop.now_ns - source->sent_ns) / MR_NS_PER_US);
    }
    if (consumer->member.is_started) {
        take_response_of_member(source, &response, arena);
    } else {
        take_response(source, &response, arena);
    }
    mr_load_consumer_turn(consumer);
}

static void on_closed(struct mr_load_link *link, int err)
{
    struct mr_load_source   *source = link->user;
    struct mr_load_consumer *consumer = source->consumer;
    char                     what[200];
    source->is_lost = true;
    if (atomic_load_explicit(&consumer->worker->run->is_ended, memory_order_relaxed)) {
        return;
    }
    for (uint32_t at = 0; at < consumer->position_count; at++) {
        if (consumer->positions[at].source == source) {
            leave(consumer, &consumer->positions[at]);
        }
    }
    snprintf(what, sizeof what, "connection of consumer %u: %s", consumer->index,
             err == 0 ? "closed by the broker" : strerror(err));
    mr_load_count(&consumer->worker->counts.lost, 1);
    mr_load_worker_fail(consumer->worker, what);
}

/* ---- requests ---- */

/* All positions begin a session; within one only what moved. Returns the frame's bytes, 0: no room. */
static uint32_t encode(struct mr_load_source *source)
{
    struct mr_load_consumer                 *consumer = source->consumer;
    const struct mr_load_run                *run = consumer->worker->run;
    struct mr_fetch_request                  request;
    struct mr_fetch_request_fetch_topic      topic;
    struct mr_fetch_request_fetch_partition *wanted;
    struct mr_arena                          arena;
    struct mr_span                           spans[16];
    struct mr_writer                         writer;
    mr_arena_init(&arena, consumer->scratch, consumer->scratch_size);
    MR_DEFAULTS(fetch_request, &request);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    wanted = MR_ARENA_GET(&arena, struct mr_fetch_request_fetch_partition, source->held);
    topic.topic = mr_str(run->topic->name);
    topic.partitions = wanted;
    for (uint32_t at = 0; at < consumer->position_count; at++) {
        struct mr_load_position *position = &consumer->positions[at];
        if (position->source == source && (source->session_epoch == 0 || position->is_changed)) {
            MR_DEFAULTS(fetch_request_fetch_partition, wanted);
            wanted->partition = position->partition;
            wanted->fetch_offset = position->offset;
            wanted->partition_max_bytes = (int32_t)run->options->fetch_part;
            wanted++;
            topic.partitions_count++;
            position->is_changed = false;
        }
    }
    request.max_wait_ms = (int32_t)run->options->fetch_wait_ms;
    request.isolation_level = (int8_t)run->options->isolation;
    request.min_bytes = (int32_t)run->options->fetch_min;
    request.max_bytes = (int32_t)run->options->fetch_bytes;
    request.session_id = source->session_id;
    request.session_epoch = run->fetch_version >= 7 ? source->session_epoch : -1;
    request.topics = &topic;
    request.topics_count = topic.partitions_count > 0 ? 1 : 0;
    mr_writer_init(&writer, &arena, spans, 16);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, mr_api_find_row(MR_API_FETCH), run->fetch_version,
                                               ++source->correlation, MR_STR("millrace-load"));
    err = err != MR_OK ? err : mr_msg_encode(&mr_msg_fetch_request, run->fetch_version, &request, &writer);
    err = err != MR_OK ? err : mr_frame_end(&writer, prefix);
    if (err != MR_OK) {
        return 0;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    if (chain.bytes > source->out_size) {
        return 0;
    }
    mr_chain_copy(&chain, 0, source->out, chain.bytes);
    return chain.bytes;
}

static void ask(struct mr_load_source *source)
{
    struct mr_load_consumer *consumer = source->consumer;
    if (source->is_waiting || source->is_lost || source->link.is_closing || source->held == 0) {
        return;
    }
    if (source->asked_layout != source->layout) {
        source->session_id = 0;
        source->session_epoch = 0;
    }
    uint32_t len = encode(source);
    if (len == 0 || !mr_load_link_send(&source->link, source->out, len)) {
        mr_load_worker_fail(consumer->worker, "fetch: a request that does not fit");
        mr_load_link_close(&source->link);
        return;
    }
    source->asked_layout = source->layout;
    source->is_waiting = true;
    source->sent_ns = consumer->worker->loop.now_ns;
    mr_load_link_flush(&source->link);
}

void mr_load_consumer_turn(struct mr_load_consumer *consumer)
{
    char     why[200];
    uint32_t version = atomic_load_explicit(&consumer->worker->run->topic->version, memory_order_relaxed);
    if (consumer->member.is_started && consumer->position_count == 0) {
        pthread_mutex_lock(&consumer->member.lock);
        (void)is_still_ours(consumer);
        pthread_mutex_unlock(&consumer->member.lock);
    }
    if (version != consumer->leaders_version) {
        (void)place(consumer, why, sizeof why);
    }
    for (uint32_t at = 0; at < consumer->source_count; at++) {
        ask(consumer->sources[at]);
    }
}

/* ---- opening ---- */

bool mr_load_consumer_open(struct mr_load_consumer *consumer, struct mr_load_worker *worker, uint32_t index)
{
    const struct mr_load_run *run = worker->run;
    uint32_t                  partitions = run->topic->partition_count;
    bool                      is_grouped = run->options->group[0] != '\0';
    *consumer = (struct mr_load_consumer){.worker = worker, .index = index};
    consumer->positions = calloc(partitions, sizeof *consumer->positions);
    consumer->place_of = calloc(partitions, sizeof *consumer->place_of);
    consumer->scratch_size = UNPACK_BYTES + run->options->records * (run->options->record_bytes + 64) * 2 +
                             (size_t)partitions * POSITION_BYTES;
    consumer->scratch = malloc(consumer->scratch_size);
    if (consumer->positions == NULL || consumer->place_of == NULL || consumer->scratch == NULL) {
        snprintf(worker->error, sizeof worker->error, "out of memory");
        return false;
    }
    if (run->verify != NULL) {
        consumer->reader = &run->verify->readers[is_grouped ? 0 : index];
    }
    return is_grouped ? mr_load_member_start(&consumer->member, run)
                      : set_positions(consumer, NULL, partitions, worker->error, sizeof worker->error);
}

void mr_load_consumer_close(struct mr_load_consumer *consumer)
{
    if (consumer->member.is_started) {
        mr_load_member_stop(&consumer->member);
        if (consumer->member.error[0] != '\0') {
            mr_load_worker_fail(consumer->worker, consumer->member.error);
        }
    }
    for (uint32_t at = 0; at < consumer->source_count; at++) {
        mr_load_link_free(&consumer->sources[at]->link);
        free(consumer->sources[at]->out);
        free(consumer->sources[at]);
    }
    free(consumer->positions);
    free(consumer->place_of);
    free(consumer->scratch);
}
