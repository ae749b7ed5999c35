/*
 * transaction_read: what administration sees: ListTransactions, DescribeTransactions, DescribeProducers.
 */
#include "pieces.h"
#include "coord/group/pattern.h"
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"

/* ---- DescribeTransactions ---- */

typedef struct mr_describe_transactions_response_transaction_state described_state;
typedef struct mr_describe_transactions_response_topic_data described_topic;

static bool describe(struct mr_control *control, struct mr_request *request, struct mr_str id,
                     described_state *state)
{
    struct mr_coord_shard *shard = NULL;
    MR_DEFAULTS(describe_transactions_response_transaction_state, state);
    state->transactional_id = id;
    state->error_code = mr_coord_shard_of(control->txn_coord, id, &shard);
    if (shard == NULL) {
        return true;
    }
    const struct mr_transaction *transaction =
        mr_transaction_find(mr_transaction_shard_of(shard), id);
    if (transaction == NULL) {
        state->error_code = MR_KAFKA_TRANSACTIONAL_ID_NOT_FOUND;
        return true;
    }
    const struct mr_transaction_values *now = &transaction->now;
    state->transaction_state = mr_transaction_state_name(now->state);
    state->transaction_timeout_ms = now->timeout_ms;
    state->transaction_start_time_ms = now->start_ms;
    state->producer_id = now->producer_id;
    state->producer_epoch = now->producer_epoch;
    state->topics = MR_REQUEST_NEW(control, request, described_topic, now->topics_count + 1);
    for (int32_t at = 0; state->topics != NULL && at < now->topics_count; at++) {
        state->topics[at].topic = now->topics[at].topic;
        state->topics[at].partitions = now->topics[at].partition_ids;
        state->topics[at].partitions_count = now->topics[at].partition_ids_count;
        state->topics_count++;
    }
    return state->topics != NULL;
}

void mr_transaction_describe(struct mr_control *control, struct mr_now now,
                             struct mr_request *request)
{
    const struct mr_describe_transactions_request *in = request->message;
    struct mr_describe_transactions_response response;
    bool has_memory = true;
    (void)now;
    MR_DEFAULTS(describe_transactions_response, &response);
    request->user = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    response.transaction_states =
        MR_REQUEST_NEW(control, request, described_state, in->transactional_ids_count + 1);
    has_memory = request->user != NULL && response.transaction_states != NULL;
    for (int32_t at = 0; has_memory && at < in->transactional_ids_count; at++) {
        has_memory = describe(control, request, in->transactional_ids[at],
                              &response.transaction_states[at]);
        response.transaction_states_count++;
    }
    if (!has_memory) {
        mr_control_reply_close(control, request);
        return;
    }
    mr_coord_finish_all(control->txn_coord, request, &response);
}

/* ---- ListTransactions ---- */

typedef struct mr_list_transactions_response_transaction_state listed_state;

static bool is_state(struct mr_str name)
{
    for (int state = MR_TRANSACTION_EMPTY; state <= MR_TRANSACTION_DEAD; state++) {
        if (mr_str_equal(name, mr_transaction_state_name((enum mr_transaction_state)state))) {
            return true;
        }
    }
    return mr_str_equal(name, MR_STR("PrepareEpochFence")); /* never written, but a name */
}

static bool is_wanted(const struct mr_transaction *transaction,
                      const struct mr_list_transactions_request *in, int64_t now_ms,
                      const struct mr_pattern *pattern)
{
    const struct mr_transaction_values *now = &transaction->now;
    bool is_one = in->state_filters_count <= 0;
    for (int32_t at = 0; at < in->state_filters_count; at++) {
        is_one |= mr_str_equal(in->state_filters[at], mr_transaction_state_name(now->state));
    }
    bool is_producer = in->producer_id_filters_count <= 0;
    for (int32_t at = 0; at < in->producer_id_filters_count; at++) {
        is_producer |= in->producer_id_filters[at] == now->producer_id;
    }
    bool is_long = in->duration_filter < 0 ||
                   (now->start_ms >= 0 && now_ms - now->start_ms > in->duration_filter);
    return is_one && is_producer && is_long && now->state != MR_TRANSACTION_DEAD &&
           (pattern == NULL || mr_pattern_matches(pattern, transaction->id));
}

/* The shards, once to count and once to fill in; a shard that is being loaded is not passed over. */
static int32_t list_all(struct mr_control *control, const struct mr_request *request,
                        int64_t now_ms, const struct mr_pattern *pattern, listed_state *listed,
                        bool *is_loading)
{
    const struct mr_list_transactions_request *in = request->message;
    const struct mr_coord *coord = control->txn_coord;
    int32_t count = 0;
    struct mr_parts parts = mr_pieces_parts(request, coord->shard_count);
    for (uint32_t part = parts.begin; part < parts.end; part++) {
        const struct mr_coord_shard *shard = coord->shards[part / parts.slices];
        uint32_t slice = part % parts.slices;
        *is_loading |= shard != NULL && shard->state == MR_COORD_LOADING;
        if (shard == NULL || shard->state != MR_COORD_ACTIVE) {
            continue;
        }
        const struct mr_table *ids = &mr_transaction_shard_of(shard)->ids;
        for (struct mr_table_node *node = mr_table_walk_slice(ids, slice, parts.slices, NULL);
             node != NULL; node = mr_table_walk_slice(ids, slice, parts.slices, node)) {
            const struct mr_transaction *transaction =
                MR_TABLE_ENTRY(node, struct mr_transaction, node);
            if (!is_wanted(transaction, in, now_ms, pattern) || mr_bug("list-nothing")) {
                continue;
            }
            if (listed != NULL) {
                listed[count] = (listed_state){
                    .transactional_id = transaction->id,
                    .producer_id = transaction->now.producer_id,
                    .transaction_state = mr_transaction_state_name(transaction->now.state),
                };
            }
            count++;
        }
    }
    return count;
}

void mr_transaction_list(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_list_transactions_request *in = request->message;
    struct mr_list_transactions_response response;
    struct mr_pattern pattern;
    bool is_pattern = in->transactional_id_pattern.len > 0;
    bool is_loading = false;
    MR_DEFAULTS(list_transactions_response, &response);
    mr_arena_reset(&control->txn_coord->scratch);
    request->user = MR_REQUEST_NEW(control, request, struct mr_coord_wait, 1);
    response.unknown_state_filters =
        MR_REQUEST_NEW(control, request, struct mr_str, in->state_filters_count + 1);
    bool has_memory = request->user != NULL && response.unknown_state_filters != NULL;
    for (int32_t at = 0; has_memory && at < in->state_filters_count; at++) {
        if (!is_state(in->state_filters[at])) {
            response.unknown_state_filters[response.unknown_state_filters_count++] =
                in->state_filters[at];
        }
    }
    if (is_pattern && mr_pattern_compile(&pattern, in->transactional_id_pattern,
                                         &control->txn_coord->scratch) != NULL) {
        response.error_code = MR_KAFKA_INVALID_REGULAR_EXPRESSION;
    } else if (has_memory) {
        const struct mr_pattern *used = is_pattern ? &pattern : NULL;
        int32_t count = list_all(control, request, now.unix_ms, used, NULL, &is_loading);
        response.transaction_states = MR_REQUEST_NEW(control, request, listed_state, count + 1);
        has_memory = response.transaction_states != NULL;
        if (has_memory) {
            response.transaction_states_count = list_all(
                control, request, now.unix_ms, used, response.transaction_states, &is_loading);
        }
    }
    if (!has_memory) {
        mr_control_reply_close(control, request);
        return;
    }
    if (is_loading && response.error_code == MR_KAFKA_NONE) {
        response.error_code = MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
        response.transaction_states_count = 0;
    }
    mr_coord_finish_all(control->txn_coord, request, &response);
}

/* ---- DescribeProducers ---- */

typedef struct mr_describe_producers_response_topic_response producers_topic;
typedef struct mr_describe_producers_response_partition_response producers_partition;
typedef struct mr_describe_producers_response_producer_state producers_state;

#define INFOS_MAX 4500u /* a log remembers no more */

struct asking {
    struct mr_request *request;
    struct mr_describe_producers_response response;
    uint32_t open;
    bool is_broken;
};

struct asking_one {
    struct mr_control_op callback; /* first */
    struct mr_producers_op op;
    struct asking *asking;
    producers_partition *out;
    struct mr_producer_info infos[INFOS_MAX];
};

static void asking_done(struct mr_control *control, struct asking *asking)
{
    if (--asking->open > 0) {
        return;
    }
    if (asking->is_broken) {
        mr_control_reply_close(control, asking->request);
    } else {
        mr_control_reply(control, asking->request, &asking->response);
    }
}

static void told(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct asking_one *one = (struct asking_one *)(void *)callback;
    struct asking *asking = one->asking;
    uint32_t count = one->op.info_count;
    (void)now;
    one->out->error_code = mr_err_kafka(one->op.op.err);
    producers_state *states = MR_REQUEST_NEW(control, asking->request, producers_state, count + 1);
    asking->is_broken |= states == NULL;
    for (uint32_t at = 0; states != NULL && at < count; at++) {
        const struct mr_producer_info *info = &one->infos[at];
        states[at] = (producers_state){
            .producer_id = info->producer_id,
            .producer_epoch = info->producer_epoch,
            .last_sequence = info->last_sequence,
            .last_timestamp = info->last_timestamp,
            .coordinator_epoch = info->coordinator_epoch,
            .current_txn_start_offset = info->txn_first_offset,
        };
    }
    one->out->active_producers = states;
    one->out->active_producers_count = states == NULL ? 0 : (int32_t)count;
    MR_HEAP_DELETE(&control->heap, one);
    asking_done(control, asking);
}

static void ask(struct mr_control *control, struct asking *asking, struct mr_str topic,
                producers_partition *out)
{
    const struct mr_image *image = mr_control_image(control);
    const struct mr_image_topic *found =
        image == NULL ? NULL : mr_image_topic_by_name(image, topic);
    int32_t index = out->partition_index;
    out->error_code = MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    if (found == NULL || index < 0 || (uint32_t)index >= found->partition_count) {
        return;
    }
    const struct mr_image_partition *partition = &found->partitions[index];
    out->error_code = MR_KAFKA_NOT_LEADER_OR_FOLLOWER;
    if (partition->log_id == 0 || partition->leader != control->node_id) {
        return;
    }
    struct asking_one *one = MR_HEAP_NEW(&control->heap, struct asking_one);
    if (one == NULL) {
        asking->is_broken = true;
        return;
    }
    one->callback.done = told;
    one->asking = asking;
    one->out = out;
    one->op.op.kind = MR_STORAGE_PRODUCERS;
    one->op.log_id = partition->log_id;
    one->op.infos = one->infos;
    one->op.info_max = INFOS_MAX;
    asking->open++;
    mr_control_submit(control, partition->storage_core, &one->op.op, &one->callback);
}

void mr_transaction_describe_producers(struct mr_control *control, struct mr_now now,
                                       struct mr_request *request)
{
    const struct mr_describe_producers_request *in = request->message;
    struct asking *asking = MR_REQUEST_NEW(control, request, struct asking, 1);
    producers_topic *topics =
        MR_REQUEST_NEW(control, request, producers_topic, in->topics_count + 1);
    (void)now;
    if (asking == NULL || topics == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    MR_DEFAULTS(describe_producers_response, &asking->response);
    asking->request = request;
    asking->response.topics = topics;
    asking->response.topics_count = in->topics_count;
    asking->open = 1; /* ourselves, until all are asked */
    for (int32_t at = 0; at < in->topics_count; at++) {
        int32_t count = in->topics[at].partition_indexes_count;
        topics[at].name = in->topics[at].name;
        topics[at].partitions = MR_REQUEST_NEW(control, request, producers_partition, count + 1);
        asking->is_broken |= topics[at].partitions == NULL;
        for (int32_t index = 0; topics[at].partitions != NULL && index < count; index++) {
            producers_partition *out = &topics[at].partitions[index];
            MR_DEFAULTS(describe_producers_response_partition_response, out);
            out->partition_index = in->topics[at].partition_indexes[index];
            topics[at].partitions_count++;
            ask(control, asking, topics[at].name, out);
        }
    }
    asking_done(control, asking);
}
