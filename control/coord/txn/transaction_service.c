/*
 * transaction_service: the requests of producers, the timer that looks for what took too long, and what the runtime
 * asks of transactions.
 */
#include "coord/txn/transaction.h"

#include "metadata/controller.h"
#include "millrace/base/bug.h"

#define SCRATCH_SHARE 64u /* of the heap */
#define SCRATCH_MIN   (64u << 10)

struct mr_transaction_shard *mr_transaction_shard_of(const struct mr_coord_shard *shard)
{
    return shard->part;
}

static struct mr_transaction_env *env_of(const struct mr_control *control)
{
    return control->txn_coord->part;
}

const void *mr_transaction_error(struct mr_control *control, struct mr_request *request, int16_t error)
{
    if (request->forward->api_key == MR_API_END_TXN) {
        struct mr_end_txn_response *response =
            MR_REQUEST_NEW(control, request, struct mr_end_txn_response, 1);
        if (response != NULL) {
            MR_DEFAULTS(end_txn_response, response);
            response->error_code = error;
        }
        return response;
    }
    if (request->forward->api_key == MR_API_INIT_PRODUCER_ID) {
        struct mr_init_producer_id_response *response =
            MR_REQUEST_NEW(control, request, struct mr_init_producer_id_response, 1);
        if (response != NULL) {
            MR_DEFAULTS(init_producer_id_response, response);
            response->error_code = error;
            response->producer_id = -1;
            response->producer_epoch = -1;
        }
        return response;
    }
    return request->forward->api_key == MR_API_TXN_OFFSET_COMMIT
               ? mr_transaction_offsets_error(control, request, error)
               : NULL;
}

/* ---- requests of one id that are answered when their record is durable ---- */

typedef void step(const struct mr_transaction_shard *shard, struct mr_request *request,
                  int64_t fresh_id, bool *is_used, struct mr_coord_out *out);

static void run(struct mr_control *control, struct mr_now now, struct mr_request *request,
                struct mr_str id, step *take)
{
    struct mr_coord *coord = control->txn_coord;
    struct mr_coord_wait *wait = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    struct mr_coord_shard *shard = NULL;
    struct mr_coord_out out;
    bool is_used = false;
    if (wait == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    request->user = wait;
    mr_arena_reset(&coord->scratch);
    int16_t error = mr_coord_shard_of(coord, id, &shard);
    if (shard == NULL) {
        mr_coord_prepare_error(coord, request, error);
        mr_control_reply_send(control, request);
        return;
    }
    mr_coord_out_init(&out, &coord->scratch, now);
    take(mr_transaction_shard_of(shard), request, mr_controller_producer_id(control), &is_used, &out);
    if (is_used) {
        mr_controller_producer_id_taken(control);
    }
    mr_coord_apply(shard, &out);
}

static void end_txn(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_end_txn_request *in = request->message;
    run(control, now, request, in->transactional_id, mr_transaction_end);
}

/* Without a transactional id it is the controller's alone. */
static void init_producer_id(struct mr_control *control, struct mr_now now,
                             struct mr_request *request)
{
    const struct mr_init_producer_id_request *in = request->message;
    if (mr_str_is_null(in->transactional_id)) {
        mr_controller_queue(control, now, request);
        return;
    }
    run(control, now, request, in->transactional_id, mr_transaction_init);
}

/* ---- AddPartitionsToTxn ---- */

typedef struct mr_add_partitions_to_txn_request_add_partitions_to_txn_transaction add_in;
typedef struct mr_add_partitions_to_txn_request_add_partitions_to_txn_topic add_topic;
typedef struct mr_add_partitions_to_txn_response_add_partitions_to_txn_result add_out;
typedef struct mr_add_partitions_to_txn_response_add_partitions_to_txn_topic_result add_topic_out;
typedef struct mr_add_partitions_to_txn_response_add_partitions_to_txn_partition_result
    add_partition_out;

static bool is_there(const struct mr_image *image, struct mr_str name, int32_t partition)
{
    const struct mr_image_topic *topic = image == NULL ? NULL : mr_image_topic_by_name(image, name);
    return topic != NULL && partition >= 0 && (uint32_t)partition < topic->partition_count;
}

/* An answer for every partition of the transaction, all with `error`. False: no memory. */
static bool make_results(struct mr_control *control, struct mr_request *request, const add_in *in,
                         int16_t error, add_topic_out **results)
{
    add_topic_out *topics =
        MR_REQUEST_NEW(control, request, add_topic_out, in->topics_count + 1);
    if (topics == NULL) {
        return false;
    }
    for (int32_t at = 0; at < in->topics_count; at++) {
        int32_t count = in->topics[at].partitions_count;
        add_partition_out *partitions =
            MR_REQUEST_NEW(control, request, add_partition_out, count + 1);
        if (partitions == NULL) {
            return false;
        }
        for (int32_t index = 0; index < count; index++) {
            partitions[index].partition_index = in->topics[at].partitions[index];
            partitions[index].partition_error_code = error;
        }
        topics[at].name = in->topics[at].name;
        topics[at].results_by_partition = partitions;
        topics[at].results_by_partition_count = count;
    }
    *results = topics;
    return true;
}

/* What is not there is said so, and then nothing is attempted. Whether all is there. */
static bool check_partitions(const struct mr_image *image, const add_in *in, add_topic_out *results)
{
    bool is_all = true;
    for (int32_t at = 0; at < in->topics_count; at++) {
        for (int32_t index = 0; index < in->topics[at].partitions_count; index++) {
            is_all &= is_there(image, in->topics[at].name, in->topics[at].partitions[index]);
        }
    }
    for (int32_t at = 0; !is_all && at < in->topics_count; at++) {
        for (int32_t index = 0; index < in->topics[at].partitions_count; index++) {
            bool is_good = is_there(image, in->topics[at].name, in->topics[at].partitions[index]);
            results[at].results_by_partition[index].partition_error_code =
                is_good ? MR_KAFKA_OPERATION_NOT_ATTEMPTED : MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        }
    }
    return is_all;
}

static void set_errors(const add_in *in, add_topic_out *results, int16_t error)
{
    for (int32_t at = 0; at < in->topics_count; at++) {
        for (int32_t index = 0; index < in->topics[at].partitions_count; index++) {
            results[at].results_by_partition[index].partition_error_code = error;
        }
    }
}

/* Which partitions are part of the transaction. */
static void verify(const struct mr_transaction *transaction, const add_in *in,
                   add_topic_out *results)
{
    for (int32_t at = 0; at < in->topics_count; at++) {
        for (int32_t index = 0; index < in->topics[at].partitions_count; index++) {
            bool has = mr_transaction_has(transaction, in->topics[at].name,
                                          in->topics[at].partitions[index]);
            results[at].results_by_partition[index].partition_error_code =
                (int16_t)(has ? MR_KAFKA_NONE : MR_KAFKA_TRANSACTION_ABORTABLE);
        }
    }
}

static int16_t add_one(struct mr_control *control, struct mr_now now, const add_in *in,
                       int16_t version, add_topic_out *results)
{
    struct mr_coord *coord = control->txn_coord;
    struct mr_coord_shard *shard = NULL;
    struct mr_coord_out out;
    if (in->transactional_id.len <= 0) {
        return MR_KAFKA_INVALID_REQUEST;
    }
    if (!in->verify_only && !check_partitions(mr_control_image(control), in, results)) {
        return MR_KAFKA_NONE;
    }
    int16_t error = mr_coord_shard_of(coord, in->transactional_id, &shard);
    if (shard == NULL) {
        return error;
    }
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(&out, &coord->scratch, now);
    mr_transaction_topic *topics = MR_COORD_NEW(&out, mr_transaction_topic, in->topics_count + 1);
    if (topics == NULL) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    for (int32_t at = 0; at < in->topics_count; at++) {
        topics[at] = (mr_transaction_topic){.topic = in->topics[at].name,
                                            .partition_ids = in->topics[at].partitions,
                                            .partition_ids_count = in->topics[at].partitions_count};
    }
    const struct mr_transaction_add add = {
        .id = in->transactional_id,
        .producer_id = in->producer_id,
        .producer_epoch = in->producer_epoch,
        .client_version = (int16_t)(version >= 5 ? 2 : 0),
        .is_verify = in->verify_only,
        .topics = topics,
        .topics_count = in->topics_count,
    };
    const struct mr_transaction_shard *part = mr_transaction_shard_of(shard);
    error = mr_transaction_add(part, &add, &out);
    if (error == MR_KAFKA_NONE && in->verify_only) {
        verify(mr_transaction_find(part, in->transactional_id), in, results);
    } else if (error == MR_KAFKA_NONE) {
        error = mr_coord_apply(shard, &out);
    }
    return error == MR_KAFKA_PRODUCER_FENCED && version < 2 ? (int16_t)MR_KAFKA_INVALID_PRODUCER_EPOCH
                                                            : error;
}

static void add_partitions(struct mr_control *control, struct mr_now now,
                           struct mr_request *request)
{
    const struct mr_add_partitions_to_txn_request *in = request->message;
    int16_t version = request->forward->api_version;
    struct mr_add_partitions_to_txn_response response;
    add_in old = {
        .transactional_id = in->v3_and_below_transactional_id,
        .producer_id = in->v3_and_below_producer_id,
        .producer_epoch = in->v3_and_below_producer_epoch,
        .topics = in->v3_and_below_topics,
        .topics_count = in->v3_and_below_topics_count,
    };
    const add_in *all = version < 4 ? &old : in->transactions;
    int32_t count = version < 4 ? 1 : in->transactions_count;
    MR_DEFAULTS(add_partitions_to_txn_response, &response);
    struct mr_coord_wait *wait = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    add_out *results = MR_REQUEST_NEW(control, request, add_out, count + 1);
    bool has_memory = wait != NULL && results != NULL;
    for (int32_t at = 0; has_memory && at < count; at++) {
        has_memory = make_results(control, request, &all[at], MR_KAFKA_NONE,
                                  &results[at].topic_results);
    }
    if (!has_memory) {
        mr_control_reply_close(control, request);
        return;
    }
    for (int32_t at = 0; at < count; at++) {
        int16_t error = add_one(control, now, &all[at], version, results[at].topic_results);
        if (error == MR_KAFKA_CONCURRENT_TRANSACTIONS && count == 1 &&
            mr_transaction_park(control, now, request)) {
            return;
        }
        if (error != MR_KAFKA_NONE) {
            set_errors(&all[at], results[at].topic_results, error);
        }
        results[at].transactional_id = all[at].transactional_id;
        results[at].topic_results_count = all[at].topics_count;
    }
    if (version < 4) {
        response.results_by_topic_v3_and_below = results[0].topic_results;
        response.results_by_topic_v3_and_below_count = results[0].topic_results_count;
    } else {
        response.results_by_transaction = results;
        response.results_by_transaction_count = count;
    }
    request->user = wait;
    mr_coord_finish_all(control->txn_coord, request, &response);
}

/* ---- WriteTxnMarkers ---- */

typedef struct mr_write_txn_markers_request_writable_txn_marker mark_in;
typedef struct mr_write_txn_markers_response_writable_txn_marker_result mark_out;
typedef struct mr_write_txn_markers_response_writable_txn_marker_topic_result mark_topic_out;
typedef struct mr_write_txn_markers_response_writable_txn_marker_partition_result
    mark_partition_out;

struct marking {
    struct mr_request *request;
    struct mr_write_txn_markers_response response;
    uint32_t open;
};

struct marking_one {
    struct marking *marking;
    mark_partition_out *out;
};

static void marking_done(struct mr_control *control, struct marking *marking)
{
    if (--marking->open == 0) {
        mr_control_reply(control, marking->request, &marking->response);
    }
}

static void marked(struct mr_control *control, struct mr_now now, void *user, enum mr_err err,
                   int64_t base_offset)
{
    struct marking_one *one = user;
    (void)now;
    (void)base_offset;
    one->out->error_code = mr_err_kafka(err) == -1 ? (int16_t)MR_KAFKA_KAFKA_STORAGE_ERROR
                                                   : mr_err_kafka(err);
    marking_done(control, one->marking);
}

static void mark_one(struct mr_control *control, struct mr_now now, struct marking *marking,
                     const mark_in *in, struct mr_str name, mark_partition_out *out)
{
    const struct mr_image *image = mr_control_image(control);
    struct marking_one *one = MR_REQUEST_NEW(control, marking->request, struct marking_one, 1);
    out->error_code = MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    if (!is_there(image, name, out->partition_index)) {
        return;
    }
    const struct mr_image_partition *partition =
        &mr_image_topic_by_name(image, name)->partitions[out->partition_index];
    struct mr_control_marker marker = {
        .producer_id = in->producer_id,
        .producer_epoch = in->producer_epoch,
        .txn_version = in->transaction_version,
        .marker = {.is_commit = in->transaction_result, .coordinator_epoch = in->coordinator_epoch},
    };
    struct mr_log_ref log = {.log_id = partition->log_id, .storage_core = partition->storage_core};
    out->error_code = MR_KAFKA_NOT_LEADER_OR_FOLLOWER;
    if (one == NULL || log.log_id == 0) {
        return;
    }
    *one = (struct marking_one){.marking = marking, .out = out};
    marking->open++;
    if (!mr_control_mark(control, name, (uint32_t)out->partition_index, log,
                         partition->leader_epoch, &marker, now, marked, one)) {
        marking->open--;
    }
}

static void write_markers(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_write_txn_markers_request *in = request->message;
    struct marking *marking = MR_REQUEST_NEW(control, request, struct marking, 1);
    mark_out *results = MR_REQUEST_NEW(control, request, mark_out, in->markers_count + 1);
    bool has_memory = marking != NULL && results != NULL;
    for (int32_t at = 0; has_memory && at < in->markers_count; at++) {
        const mark_in *from = &in->markers[at];
        results[at].producer_id = from->producer_id;
        results[at].topics =
            MR_REQUEST_NEW(control, request, mark_topic_out, from->topics_count + 1);
        results[at].topics_count = from->topics_count;
        has_memory = results[at].topics != NULL;
        for (int32_t t = 0; has_memory && t < from->topics_count; t++) {
            int32_t count = from->topics[t].partition_indexes_count;
            mark_topic_out *topic = &results[at].topics[t];
            topic->name = from->topics[t].name;
            topic->partitions = MR_REQUEST_NEW(control, request, mark_partition_out, count + 1);
            topic->partitions_count = count;
            has_memory = topic->partitions != NULL;
            for (int32_t index = 0; has_memory && index < count; index++) {
                topic->partitions[index].partition_index = from->topics[t].partition_indexes[index];
            }
        }
    }
    if (!has_memory) {
        mr_control_reply_close(control, request);
        return;
    }
    MR_DEFAULTS(write_txn_markers_response, &marking->response);
    marking->request = request;
    marking->response.markers = results;
    marking->response.markers_count = in->markers_count;
    marking->open = 1; /* ourselves: nothing is answered before all are on their way */
    for (int32_t at = 0; at < in->markers_count; at++) {
        for (int32_t t = 0; t < results[at].topics_count; t++) {
            mark_topic_out *topic = &results[at].topics[t];
            for (int32_t index = 0; index < topic->partitions_count; index++) {
                mark_one(control, now, marking, &in->markers[at], topic->name,
                         &topic->partitions[index]);
            }
        }
    }
    marking_done(control, marking);
}

/* ---- what took too long ---- */

/* By the time in its record, as every coordinator sees it; or by our own, should the wall clock have gone back. */
static bool is_timed_out(const struct mr_transaction *transaction, struct mr_now now)
{
    const struct mr_transaction_values *values = &transaction->now;
    if (values->state != MR_TRANSACTION_ONGOING || mr_bug("no-txn-timeout")) {
        return false;
    }
    return mr_age_ms(now.unix_ms, values->start_ms) > values->timeout_ms ||
           (now.mono_ns > mr_deadline_ms(transaction->begun_ns, values->timeout_ms) && !mr_bug("wall-clock-timeouts"));
}

static bool is_expired(const struct mr_transaction *transaction, struct mr_now now)
{
    enum mr_transaction_state state = transaction->now.state;
    bool is_idle = state == MR_TRANSACTION_EMPTY || state == MR_TRANSACTION_COMPLETE_COMMIT ||
                   state == MR_TRANSACTION_COMPLETE_ABORT;
    const struct mr_config *config = transaction->shard->env->control->config;
    return is_idle &&
           mr_age_ms(now.unix_ms, transaction->now.update_ms) >= config->transactional_id_expiration_ms;
}

/* A step for an id that has had its time. */
static bool look_at(struct mr_coord_shard *shard, struct mr_table_node *node, struct mr_now now)
{
    struct mr_control *control = shard->coord->control;
    struct mr_transaction *transaction = MR_TABLE_ENTRY(node, struct mr_transaction, node);
    struct mr_coord_out out;
    bool is_late = is_timed_out(transaction, now);
    bool is_used = false;
    if (!is_late && !is_expired(transaction, now)) {
        return true;
    }
    mr_arena_reset(&shard->coord->scratch);
    mr_coord_out_init(&out, &shard->coord->scratch, now);
    if (is_late) {
        mr_log(control->log, MR_LOG_INFO, "a transaction took too long and is aborted id=%.*s",
               (int)transaction->id.len, transaction->id.data);
        (void)mr_transaction_fence(transaction, mr_controller_producer_id(control), &is_used, &out);
    } else {
        (void)mr_transaction_record_tombstone(transaction, &out);
    }
    if (is_used) {
        mr_controller_producer_id_taken(control);
    }
    mr_coord_apply(shard, &out);
    return true;
}

static bool txn_sweep(struct mr_coord *coord, struct mr_now now)
{
    struct mr_transaction_env *env = coord->part;
    if (env->is_unpark_wanted) {
        mr_transaction_unpark(env, now);
        return true;
    }
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        if (shard == NULL || shard->state != MR_COORD_ACTIVE) {
            continue;
        }
        if (mr_transaction_shard_of(shard)->is_marking_wanted) {
            mr_transaction_mark_due(mr_transaction_shard_of(shard), now);
            return true;
        }
        if (shard->expiry.is_wanted) {
            mr_coord_walk_some(shard, &shard->expiry, &mr_transaction_shard_of(shard)->ids, now, look_at);
            return true;
        }
    }
    return false;
}

static void look(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    struct mr_coord *coord = control->txn_coord;
    mr_timer_set(&control->timers, &timer->timer,
                 mr_deadline_ms(
                     now.mono_ns,
                     control->config->transaction_abort_timed_out_transaction_cleanup_interval_ms));
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        if (coord->shards[index] != NULL) {
            coord->shards[index]->expiry.is_wanted = true;
        }
    }
}

/* ---- what the runtime asks ---- */

static bool txn_shard_init(struct mr_coord_shard *shard)
{
    struct mr_control *control = shard->coord->control;
    if (shard->part == NULL) {
        shard->part = MR_HEAP_NEW(&control->heap, struct mr_transaction_shard);
    }
    return shard->part != NULL && mr_transaction_shard_init(shard->part, env_of(control), shard);
}

void mr_transactions_stop(struct mr_control *control, struct mr_now now)
{
    mr_transaction_unpark(env_of(control), now); /* refused, because the coordinator has stopped */
}

static void txn_shard_deinit(struct mr_coord_shard *shard, struct mr_coord_out *out, int16_t error)
{
    (void)out;
    (void)error; /* nobody waits inside a shard */
    if (shard->part != NULL) {
        mr_transaction_shard_deinit(shard->part);
    }
}

static enum mr_err txn_replay(struct mr_coord_shard *shard, const struct mr_batch *batch,
                              struct mr_blob key, struct mr_blob value)
{
    return (batch->attributes & MR_BATCH_CONTROL) != 0
               ? MR_OK
               : mr_transaction_replay(shard->part, key, value);
}

static void txn_loaded(struct mr_coord_shard *shard, struct mr_coord_out *out)
{
    struct mr_transaction_shard *part = shard->part;
    for (struct mr_table_node *node = mr_table_walk(&part->ids, NULL); node != NULL;
         node = mr_table_walk(&part->ids, node)) {
        MR_TABLE_ENTRY(node, struct mr_transaction, node)->begun_ns = out->now.mono_ns;
    }
    MR_LIST_EACH(link, &part->deciding) {
        MR_LIST_ENTRY(link, struct mr_transaction, deciding)->sequence = 0; /* durable since long */
    }
    part->is_marking_wanted = !mr_bug("forget-the-decided");
    (void)mr_controller_producer_id(shard->coord->control); /* so that there are some when the first is asked for */
}

static void txn_durable(struct mr_coord_shard *shard, struct mr_now now)
{
    mr_transaction_mark_due(shard->part, now);
}

static void txn_image(struct mr_coord *coord)
{
    struct mr_transaction_env *env = coord->part;
    const struct mr_image *image = mr_control_image(coord->control);
    env->version = 0;
    for (uint32_t index = 0; image != NULL && index < image->feature_count; index++) {
        if (mr_str_equal(image->features[index].name, MR_STR("transaction.version"))) {
            env->version = image->features[index].level;
        }
    }
}

static uint32_t txn_count(const struct mr_coord_shard *shard)
{
    return mr_transaction_shard_of(shard)->ids.used;
}

static const struct mr_coord_kind txn_kind = {
    .topic = "__transaction_state",
    .what = "transactions",
    .shard_init = txn_shard_init,
    .shard_deinit = txn_shard_deinit,
    .replay = txn_replay,
    .loaded = txn_loaded,
    .durable = txn_durable,
    .image = txn_image,
    .count = txn_count,
    .sweep = txn_sweep,
};

bool mr_transactions_init(struct mr_control *control)
{
    struct mr_transaction_env *env = MR_HEAP_NEW(&control->heap, struct mr_transaction_env);
    if (env == NULL) {
        return false;
    }
    struct mr_coord *coord = mr_coord_new(control, &txn_kind, SCRATCH_SHARE, SCRATCH_MIN, &env->decode);
    if (coord == NULL) {
        return false;
    }
    env->control = control;
    env->coord = coord;
    coord->part = env;
    coord->expiry.fire = look;
    coord->expiry_ms = control->config->transaction_abort_timed_out_transaction_cleanup_interval_ms;
    control->txn_coord = coord;
    mr_transaction_marks_init(env);
    mr_control_serve(control, MR_API_INIT_PRODUCER_ID, init_producer_id);
    mr_control_serve(control, MR_API_ADD_PARTITIONS_TO_TXN, add_partitions);
    mr_control_serve(control, MR_API_END_TXN, end_txn);
    mr_control_serve(control, MR_API_WRITE_TXN_MARKERS, write_markers);
    mr_control_serve(control, MR_API_DESCRIBE_TRANSACTIONS, mr_transaction_describe);
    mr_control_serve(control, MR_API_LIST_TRANSACTIONS, mr_transaction_list);
    mr_control_serve(control, MR_API_DESCRIBE_PRODUCERS, mr_transaction_describe_producers);
    mr_control_serve(control, MR_API_ADD_OFFSETS_TO_TXN, mr_transaction_add_offsets);
    mr_control_serve(control, MR_API_TXN_OFFSET_COMMIT, mr_transaction_commit_offsets);
    return true;
}
