/*
 * The transaction state machine, in tables: what each request of a producer is answered in each state, which state and
 * epoch come of it; fencing, repeated requests, exhausted epochs; timeouts, expiry, loading, limits.
 *
 * States are not reached but loaded: each row has a transactional id of its own, whose record lies in __transaction_state
 * before the coordinator starts. Markers cannot be written while the row is asked, so that what is decided stays so.
 */
#include "coord_fixture.h"
#include "millrace/base/fmt.h"
#include "millrace/batch.h"

#define PRODUCER   77
#define EPOCH      5
#define TIMEOUT_MS 60000

enum state { EMPTY, ONGOING, PREPARE_COMMIT, PREPARE_ABORT, COMPLETE_COMMIT, COMPLETE_ABORT, STATES };

static const char *const state_names[STATES] = {"Empty",        "Ongoing",        "PrepareCommit",
                                                "PrepareAbort", "CompleteCommit", "CompleteAbort"};

/* Time passes, and what is due happens. */
static void pass(int64_t ms)
{
    rig->now.mono_ns += (uint64_t)ms * MR_NS_PER_MS;
    rig->now.unix_ms += ms;
    mr_rig_run(rig);
}

static void take_answer(int32_t number, int16_t key, int16_t version, void *response)
{
    const struct mr_rig_reply *reply = mr_rig_reply(rig, number);
    struct mr_reader reader;
    assert_non_null(reply);
    mr_reader_init_bytes(&reader, reply->bytes, reply->len);
    assert_int_equal(mr_msg_decode(mr_api_find(key)->response, version, &reader, &arena, response), MR_OK);
}

static void call(int16_t key, int16_t version, const void *request, void *response)
{
    mr_rig_forget(rig); /* the answer before this one */
    int32_t number = mr_rig_send(rig, key, version, request);
    mr_rig_run(rig);
    for (int tries = 0; mr_rig_reply(rig, number) == NULL && tries < 3; tries++) {
        pass(150); /* parked until the transaction before is complete, for a moment */
    }
    take_answer(number, key, version, response);
}

/* As a directory has it that was made today: the epoch rises with each transaction. */
static void finalize_version_2(void)
{
    struct mr_update_features_request request;
    struct mr_update_features_response response;
    struct mr_update_features_request_feature_update_key update;
    MR_DEFAULTS(update_features_request, &request);
    MR_DEFAULTS(update_features_request_feature_update_key, &update);
    update.feature = MR_STR("transaction.version");
    update.max_version_level = 2;
    update.upgrade_type = 1;
    request.feature_updates = &update;
    request.feature_updates_count = 1;
    call(MR_API_UPDATE_FEATURES, 1, &request, &response);
    assert_int_equal(response.error_code, MR_KAFKA_NONE);
}

static int setup_transactions(void **state)
{
    (void)setup(state);
    make_topic();
    finalize_version_2();
    find_until_there(0);
    find_until_there(1);
    return 0;
}

/* ---- Records ---- */

/* The log of __transaction_state that has the id. */
static struct mr_rig_log *log_of(const char *id)
{
    int32_t partition = (int32_t)mr_coord_partition_of(mr_str(id), 50);
    struct mr_rig_log *log = NULL;
    for (uint32_t index = 0; index < MR_RIG_LOGS && log == NULL; index++) {
        struct mr_rig_log *each = &store->logs[index];
        bool is_it = each->is_used && each->partition == partition && strcmp(each->topic, "__transaction_state") == 0;
        log = is_it ? each : NULL;
    }
    assert_non_null(log);
    return log;
}

static uint32_t encode(const struct mr_msg *msg, int16_t version, const void *value, uint8_t out[512])
{
    struct mr_span spans[8];
    struct mr_writer writer;
    out[0] = (uint8_t)(version >> 8);
    out[1] = (uint8_t)version;
    mr_writer_init(&writer, &arena, spans, 8);
    assert_int_equal(mr_msg_encode(msg, version, value, &writer), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    assert_true(chain.bytes <= 510);
    mr_chain_copy(&chain, 0, out + 2, chain.bytes);
    return chain.bytes + 2;
}

static struct mr_transaction_log_value value_of(enum state state)
{
    static int32_t partition = 0;
    static struct mr_transaction_log_value_partitions_schema topic = {
        .topic = {.data = "t", .len = 1}, .partition_ids = &partition, .partition_ids_count = 1};
    bool has_topics = state == ONGOING || state == PREPARE_COMMIT || state == PREPARE_ABORT;
    struct mr_transaction_log_value value;
    MR_DEFAULTS(transaction_log_value, &value);
    value.producer_id = PRODUCER;
    value.previous_producer_id = PRODUCER;
    value.producer_epoch = EPOCH;
    value.transaction_timeout_ms = TIMEOUT_MS;
    value.transaction_status = (int8_t)state;
    value.transaction_partitions = &topic;
    value.transaction_partitions_count = state == EMPTY ? -1 : has_topics;
    value.transaction_last_update_timestamp_ms = 1700000000000;
    value.transaction_start_timestamp_ms = state == EMPTY ? -1 : 1700000000000;
    value.client_transaction_version = 2;
    return value;
}

/* The id's record, read when the coordinator starts the next time. */
static void put(const char *id, const struct mr_transaction_log_value *value)
{
    struct mr_batch_builder builder;
    struct mr_rig_log *log = log_of(id);
    struct mr_transaction_log_key key = {.transactional_id = mr_str(id)};
    uint8_t key_bytes[512];
    uint8_t value_bytes[512];
    uint8_t batch[2048];
    struct mr_blob key_blob = {.data = key_bytes,
                               .len = (int32_t)encode(&mr_msg_transaction_log_key, 0, &key, key_bytes)};
    struct mr_blob value_blob = {.data = value_bytes,
                                 .len = (int32_t)encode(&mr_msg_transaction_log_value, 1, value, value_bytes)};
    mr_batch_begin(&builder, batch, sizeof batch, log->end_offset, 0);
    assert_true(mr_batch_add(&builder, 1700000000000, key_blob, value_blob));
    uint32_t len = mr_batch_end(&builder);
    if (log->len + len > log->size) {
        log->size = (log->len + len) * 2;
        log->bytes = realloc(log->bytes, log->size);
        assert_non_null(log->bytes);
    }
    memcpy(log->bytes + log->len, batch, len);
    log->len += len;
    log->end_offset++;
}

/* ---- Requests ---- */

struct answer {
    int16_t error;
    int64_t producer_id;
    int16_t epoch;
};

static struct mr_end_txn_request end_request(const char *id, int64_t producer_id, int16_t epoch, bool is_commit)
{
    struct mr_end_txn_request request;
    MR_DEFAULTS(end_txn_request, &request);
    request.transactional_id = mr_str(id);
    request.producer_id = producer_id;
    request.producer_epoch = epoch;
    request.committed = is_commit;
    return request;
}

static struct answer end(const char *id, int16_t version, int64_t producer_id, int16_t epoch, bool is_commit)
{
    const struct mr_end_txn_request request = end_request(id, producer_id, epoch, is_commit);
    struct mr_end_txn_response response;
    call(MR_API_END_TXN, version, &request, &response);
    return (struct answer){response.error_code, response.producer_id, response.producer_epoch};
}

static struct answer init(const char *id, int64_t producer_id, int16_t epoch)
{
    struct mr_init_producer_id_request request;
    struct mr_init_producer_id_response response;
    MR_DEFAULTS(init_producer_id_request, &request);
    request.transactional_id = mr_str(id);
    request.transaction_timeout_ms = TIMEOUT_MS;
    request.producer_id = producer_id;
    request.producer_epoch = epoch;
    call(MR_API_INIT_PRODUCER_ID, 4, &request, &response);
    return (struct answer){response.error_code, response.producer_id, response.producer_epoch};
}

static struct answer add(const char *id, int64_t producer_id, int16_t epoch)
{
    struct mr_add_partitions_to_txn_request request;
    struct mr_add_partitions_to_txn_response response;
    struct mr_add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    int32_t partition = 0;
    MR_DEFAULTS(add_partitions_to_txn_request, &request);
    MR_DEFAULTS(add_partitions_to_txn_request_add_partitions_to_txn_topic, &topic);
    topic.name = MR_STR("t");
    topic.partitions = &partition;
    topic.partitions_count = 1;
    request.v3_and_below_transactional_id = mr_str(id);
    request.v3_and_below_producer_id = producer_id;
    request.v3_and_below_producer_epoch = epoch;
    request.v3_and_below_topics = &topic;
    request.v3_and_below_topics_count = 1;
    call(MR_API_ADD_PARTITIONS_TO_TXN, 3, &request, &response);
    int16_t error = response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
    return (struct answer){error, -1, -1};
}

/* The state's name; "-": there is no such id. */
static const char *state_of(const char *id, int16_t *epoch)
{
    static char name[32];
    struct mr_str ids = mr_str(id);
    struct mr_describe_transactions_request request = {.transactional_ids = &ids, .transactional_ids_count = 1};
    struct mr_describe_transactions_response response;
    call(MR_API_DESCRIBE_TRANSACTIONS, 0, &request, &response);
    const struct mr_describe_transactions_response_transaction_state *one = &response.transaction_states[0];
    if (one->error_code != 0) {
        assert_int_equal(one->error_code, MR_KAFKA_TRANSACTIONAL_ID_NOT_FOUND);
        return "-";
    }
    assert_true(one->transaction_state.len < (int32_t)sizeof name);
    memcpy(name, one->transaction_state.data, (size_t)one->transaction_state.len);
    name[one->transaction_state.len] = '\0';
    *epoch = one->producer_epoch;
    return name;
}

/* ---- Every state and request ---- */

enum request {
    COMMIT_1, /* EndTxn of version 1 of the protocol */
    ABORT_1,
    COMMIT_2,
    ABORT_2,
    ADD,
    INIT_NEW, /* by somebody who knows no epoch */
    INIT_AGAIN,
};

#define FENCED     MR_KAFKA_PRODUCER_FENCED
#define MAPPING    MR_KAFKA_INVALID_PRODUCER_ID_MAPPING
#define CONCURRENT MR_KAFKA_CONCURRENT_TRANSACTIONS
#define NOT_NOW    MR_KAFKA_INVALID_TXN_STATE

/* The error in each state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort. */
static const struct row {
    enum request request;
    int16_t epoch; /* that the client says; the id's is EPOCH */
    int64_t producer_id;
    int16_t errors[STATES];
} rows[] = {
    {COMMIT_1, EPOCH, PRODUCER, {NOT_NOW, 0, CONCURRENT, NOT_NOW, 0, NOT_NOW}},
    {ABORT_1, EPOCH, PRODUCER, {NOT_NOW, 0, NOT_NOW, CONCURRENT, NOT_NOW, 0}},
    {COMMIT_1, EPOCH - 1, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {ABORT_1, EPOCH + 1, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {COMMIT_1, EPOCH, PRODUCER + 1, {MAPPING, MAPPING, MAPPING, MAPPING, MAPPING, MAPPING}},
    {COMMIT_2, EPOCH, PRODUCER, {NOT_NOW, 0, FENCED, FENCED, NOT_NOW, NOT_NOW}},
    {ABORT_2, EPOCH, PRODUCER, {0, 0, FENCED, FENCED, 0, 0}},
    {COMMIT_2, EPOCH - 1, PRODUCER, {FENCED, FENCED, CONCURRENT, NOT_NOW, 0, NOT_NOW}}, /* asked again */
    {ABORT_2, EPOCH - 1, PRODUCER, {FENCED, FENCED, NOT_NOW, CONCURRENT, NOT_NOW, 0}},
    {COMMIT_2, EPOCH - 2, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {ABORT_2, EPOCH + 1, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {ABORT_2, EPOCH, PRODUCER + 1, {MAPPING, MAPPING, MAPPING, MAPPING, MAPPING, MAPPING}},
    {ADD, EPOCH, PRODUCER, {0, 0, CONCURRENT, CONCURRENT, 0, 0}},
    {ADD, EPOCH - 1, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {ADD, EPOCH + 1, PRODUCER, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
    {ADD, EPOCH, PRODUCER + 1, {MAPPING, MAPPING, MAPPING, MAPPING, MAPPING, MAPPING}},
    {INIT_NEW, -1, -1, {0, CONCURRENT, CONCURRENT, CONCURRENT, 0, 0}},
    {INIT_AGAIN, EPOCH, PRODUCER, {0, CONCURRENT, CONCURRENT, CONCURRENT, 0, 0}},
    {INIT_AGAIN, EPOCH - 1, PRODUCER, {FENCED, CONCURRENT, CONCURRENT, CONCURRENT, FENCED, FENCED}},
    {INIT_AGAIN, EPOCH, PRODUCER + 1, {FENCED, FENCED, FENCED, FENCED, FENCED, FENCED}},
};

#define ROWS (sizeof rows / sizeof rows[0])

/* Where a request leads that was accepted; an InitProducerId that was not, in a transaction, ends it. */
static enum state state_after(const struct row *row, enum state before)
{
    int16_t error = row->errors[before];
    bool is_repeated = row->epoch != EPOCH || before == COMPLETE_COMMIT || before == COMPLETE_ABORT;
    switch (row->request) {
    case COMMIT_1:
    case ABORT_1:
        return error != 0 || is_repeated ? before : row->request == COMMIT_1 ? PREPARE_COMMIT : PREPARE_ABORT;
    case COMMIT_2:
        return error != 0 || before == COMPLETE_COMMIT ? before : PREPARE_COMMIT;
    case ABORT_2:
        if (error != 0 || row->epoch != EPOCH) {
            return before;
        }
        return before == ONGOING ? PREPARE_ABORT : COMPLETE_ABORT; /* without partitions it is complete at once */
    case ADD:
        return error != 0 ? before : ONGOING;
    case INIT_NEW:
    case INIT_AGAIN:
        break;
    }
    return error == 0 ? EMPTY : before == ONGOING && error == CONCURRENT ? PREPARE_ABORT : before;
}

static int16_t epoch_after(const struct row *row, enum state before, enum state after)
{
    bool is_moved = after != before || (row->errors[before] == 0 && row->epoch == EPOCH && row->request == ABORT_2);
    if (row->request == COMMIT_2 || row->request == ABORT_2) {
        return (int16_t)(EPOCH + is_moved);
    }
    if (row->request == INIT_NEW || row->request == INIT_AGAIN) {
        /* Whoever is fenced gets none; the abort of what was open takes one more. */
        return (int16_t)(EPOCH + (row->errors[before] == 0 ? 1 : is_moved ? 2 : 0));
    }
    return EPOCH;
}

static struct answer ask(const struct row *row, const char *id)
{
    switch (row->request) {
    case COMMIT_1:
    case ABORT_1:
        return end(id, 4, row->producer_id, row->epoch, row->request == COMMIT_1);
    case COMMIT_2:
    case ABORT_2:
        return end(id, 5, row->producer_id, row->epoch, row->request == COMMIT_2);
    case ADD:
        return add(id, row->producer_id, row->epoch);
    case INIT_NEW:
    case INIT_AGAIN:
        break;
    }
    return init(id, row->producer_id, row->epoch);
}

static const char *id_of(size_t row, enum state state)
{
    static char id[32];
    snprintf(id, sizeof id, "%zu-%s", row, state_names[state]);
    return id;
}

static void test_transaction_every_state_and_request(void **unused)
{
    (void)unused;
    store->refused_topic = "t";
    for (size_t row = 0; row < ROWS; row++) {
        for (enum state state = EMPTY; state < STATES; state++) {
            struct mr_transaction_log_value value = value_of(state);
            put(id_of(row, state), &value);
        }
    }
    restart();
    for (size_t row = 0; row < ROWS; row++) {
        for (enum state state = EMPTY; state < STATES; state++) {
            const char *id = id_of(row, state);
            struct answer answer = ask(&rows[row], id);
            int16_t epoch = -1;
            const char *after = state_of(id, &epoch);
            enum state expected = state_after(&rows[row], state);
            if (answer.error != rows[row].errors[state] || strcmp(after, state_names[expected]) != 0 ||
                epoch != epoch_after(&rows[row], state, expected)) {
                fail_msg("row %zu in %s: %s, then %s with epoch %d; not %s, %s, %d", row, state_names[state],
                         mr_errors_name(answer.error), after, epoch, mr_errors_name(rows[row].errors[state]),
                         state_names[expected], epoch_after(&rows[row], state, expected));
            }
        }
    }
}

/* ---- Epochs ---- */

static void assert_answer(struct answer answer, int16_t error, int64_t producer_id, int16_t epoch)
{
    assert_int_equal(answer.error, error);
    assert_int_equal(answer.producer_id, producer_id);
    assert_int_equal(answer.epoch, epoch);
}

static void test_transaction_init_repeated_after_a_lost_answer(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(EMPTY);
    put("a", &value);
    restart();
    assert_answer(init("a", PRODUCER, EPOCH), 0, PRODUCER, EPOCH + 1);
    assert_answer(init("a", PRODUCER, EPOCH), 0, PRODUCER, EPOCH + 1); /* the same */
    assert_answer(init("a", PRODUCER, EPOCH + 1), 0, PRODUCER, EPOCH + 2);
    assert_answer(init("a", PRODUCER, EPOCH), FENCED, -1, -1);
}

static void test_transaction_epoch_of_version_2_rises_with_each(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(ONGOING);
    put("a", &value);
    restart();
    assert_answer(end("a", 5, PRODUCER, EPOCH, true), 0, PRODUCER, EPOCH + 1);
    assert_answer(end("a", 5, PRODUCER, EPOCH, true), 0, PRODUCER, EPOCH + 1); /* the answer was lost */
    assert_int_equal(add("a", PRODUCER, EPOCH).error, FENCED);
    assert_int_equal(add("a", PRODUCER, EPOCH + 1).error, 0);
    assert_answer(end("a", 5, PRODUCER, EPOCH + 1, false), 0, PRODUCER, EPOCH + 2);
}

/* A fenced client of version 2 repeats its end, after whoever fenced it has ended its transaction by version 1. */
static void test_transaction_end_of_version_1_is_not_repeated_by_version_2(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(COMPLETE_ABORT);
    value.client_transaction_version = 0;
    put("a", &value);
    restart();
    assert_int_equal(end("a", 5, PRODUCER, EPOCH - 1, false).error, FENCED);
    assert_int_equal(end("a", 4, PRODUCER, EPOCH, false).error, 0);
}

/* The markers of a transaction have the epoch that its end gives it: the log must judge them by the end's version. */
static void test_transaction_markers_are_of_the_version_of_the_end(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(ONGOING); /* begun by version 2 */
    put("a", &value);
    put("b", &value);
    restart();
    const struct mr_rig_log *log = mr_rig_log(store, "t", 0);
    assert_int_equal(end("a", 5, PRODUCER, EPOCH, true).error, 0);
    assert_int_equal(log->txn_version, 2);
    assert_int_equal(end("b", 4, PRODUCER, EPOCH, true).error, 0);
    assert_int_equal(log->txn_version, 0);
}

static void test_transaction_exhausted_epoch_takes_a_new_id(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(ONGOING);
    value.producer_epoch = 32766;
    put("a", &value);
    put("b", &value);
    value = value_of(EMPTY);
    value.producer_epoch = 32766;
    put("c", &value);
    restart();
    struct answer next = end("a", 5, PRODUCER, 32766, true);
    assert_int_equal(next.error, 0);
    assert_true(next.producer_id != PRODUCER && next.epoch == 0);
    assert_answer(end("a", 5, PRODUCER, 32766, true), 0, next.producer_id, 0); /* the answer was lost */
    assert_int_equal(add("a", next.producer_id, 0).error, 0);
    assert_int_equal(add("a", PRODUCER, 32766).error, MAPPING);
    /* Version 1 stays; the next beginning has a new id. */
    assert_int_equal(end("b", 4, PRODUCER, 32766, true).error, 0);
    struct answer begun = init("b", PRODUCER, 32766);
    assert_true(begun.error == 0 && begun.producer_id != PRODUCER && begun.epoch == 0);
    assert_answer(init("b", PRODUCER, 32766), 0, begun.producer_id, 0);
    begun = init("c", -1, -1);
    assert_true(begun.error == 0 && begun.producer_id != PRODUCER && begun.epoch == 0);
}

/* ---- Time ---- */

static void assert_state(const char *id, const char *state)
{
    int16_t epoch;
    assert_string_equal(state_of(id, &epoch), state);
}

static void test_transaction_that_takes_too_long_is_aborted_and_fenced(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(ONGOING);
    put("a", &value);
    restart();
    pass(TIMEOUT_MS - 20000);
    assert_state("a", "Ongoing");
    pass(20000);
    pass(10000); /* the next scan */
    assert_state("a", "CompleteAbort");
    assert_int_equal(end("a", 4, PRODUCER, EPOCH, true).error, FENCED);
    assert_int_equal(end("a", 5, PRODUCER, EPOCH, true).error, FENCED);
}

static void test_transaction_times_out_though_the_wall_clock_goes_back(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(COMPLETE_COMMIT);
    put("live", &value);
    value = value_of(ONGOING);
    put("loaded", &value);
    restart();
    assert_int_equal(add("live", PRODUCER, EPOCH).error, 0);
    rig->now.unix_ms -= 3600000;
    pass(TIMEOUT_MS - 20000);
    assert_state("live", "Ongoing");
    assert_state("loaded", "Ongoing");
    pass(25000);
    pass(10000);
    assert_state("live", "CompleteAbort");
    assert_state("loaded", "CompleteAbort");
}

static void test_transaction_impossible_times_do_no_harm(void **unused)
{
    (void)unused;
    static const int64_t times[] = {INT64_MIN, INT64_MAX, -1, 0};
    for (size_t index = 0; index < sizeof times / sizeof times[0]; index++) {
        for (enum state state = EMPTY; state < STATES; state++) {
            struct mr_transaction_log_value value = value_of(state);
            value.transaction_start_timestamp_ms = times[index];
            value.transaction_last_update_timestamp_ms = times[index];
            value.transaction_timeout_ms = index % 2 == 0 ? INT32_MIN : INT32_MAX;
            put(id_of(index, state), &value);
        }
    }
    restart();
    pass(11000);
    assert_state(id_of(0, EMPTY), "-"); /* older than anything */
    assert_state(id_of(1, EMPTY), "Empty");
}

static void test_transaction_idle_ids_expire_and_others_do_not(void **unused)
{
    (void)unused;
    for (enum state state = EMPTY; state < STATES; state++) {
        struct mr_transaction_log_value value = value_of(state);
        put(state_names[state], &value);
    }
    store->refused_topic = "t";
    restart();
    pass((int64_t)rig->config.transactional_id_expiration_ms - 20000);
    assert_state("Empty", "Empty");
    pass(31000);
    assert_state("Empty", "-");
    assert_state("CompleteCommit", "-");
    assert_state("CompleteAbort", "-");
    assert_state("Ongoing", "PrepareAbort");
    assert_state("PrepareCommit", "PrepareCommit");
    assert_state("PrepareAbort", "PrepareAbort");
    assert_int_equal(end("Empty", 4, PRODUCER, EPOCH, true).error, MAPPING);
    restart();
    assert_state("Empty", "-"); /* a tombstone tells */
}

/* ---- Loading and limits ---- */

static void test_transaction_what_was_decided_is_completed_after_a_restart(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(PREPARE_COMMIT);
    put("c", &value);
    value = value_of(PREPARE_ABORT);
    put("a", &value);
    restart();
    pass(0);
    assert_state("c", "CompleteCommit");
    assert_state("a", "CompleteAbort");
    assert_int_equal(mr_rig_log(store, "t", 0)->end_offset, 2); /* their markers */
    restart();
    assert_int_equal(mr_rig_log(store, "t", 0)->end_offset, 2); /* once */
}

/* An id whose records lie beside those of "a". */
static const char *neighbour_of_a(void)
{
    static char id[16];
    uint32_t number = 0;
    do {
        mr_fmt(id, sizeof id, "a%u", number++);
    } while (mr_coord_partition_of(mr_str(id), 50) != mr_coord_partition_of(MR_STR("a"), 50));
    return id;
}

/* A crash may forget what is not durable yet, and no reader may have seen its markers: not even when those of a decision before it,
 * which is durable, are due. */
static void test_transaction_markers_wait_for_the_decision(void **unused)
{
    (void)unused;
    const char *second = neighbour_of_a();
    struct mr_transaction_log_value value = value_of(ONGOING);
    put("a", &value);
    put(second, &value);
    restart();
    const struct mr_end_txn_request ends[] = {end_request("a", PRODUCER, EPOCH, true),
                                              end_request(second, PRODUCER, EPOCH, true)};
    const struct mr_rig_log *log = mr_rig_log(store, "t", 0);
    store->is_holding = true;
    for (int64_t at = 0; at < 2; at++) {
        (void)mr_rig_send(rig, MR_API_END_TXN, 5, &ends[at]);
        mr_rig_run(rig);
    }
    assert_int_equal(log->end_offset, 0);
    assert_int_equal(rig->held_count, 2);
    struct mr_storage_op *second_append = rig->held[1];
    uint32_t              second_core = rig->held_core[1];
    rig->held_count = 1;
    mr_rig_release(rig);
    store->is_holding = true;
    mr_rig_run(rig);
    assert_int_equal(log->end_offset, 1);
    assert_int_equal(rig->held_count, 1); /* the marker's: behind the append that is held back here */
    rig->held[1] = rig->held[0];
    rig->held_core[1] = rig->held_core[0];
    rig->held[0] = second_append;
    rig->held_core[0] = second_core;
    rig->held_count = 2;
    mr_rig_release(rig);
    mr_rig_run(rig);
    assert_int_equal(log->end_offset, 2);
}

/* The group becomes part of the transaction, and before that is durable the transaction ends: offsets behind its marker would wait for
 * ever. */
static void test_transaction_offsets_do_not_come_after_the_end(void **unused)
{
    (void)unused;
    struct mr_transaction_log_value value = value_of(ONGOING);
    put("a", &value);
    restart();
    struct mr_txn_offset_commit_request request;
    struct mr_txn_offset_commit_request_topic topic;
    struct mr_txn_offset_commit_request_partition partition;
    struct mr_txn_offset_commit_response response;
    const struct mr_end_txn_request ending = end_request("a", PRODUCER, EPOCH, true);
    MR_DEFAULTS(txn_offset_commit_request, &request);
    MR_DEFAULTS(txn_offset_commit_request_topic, &topic);
    MR_DEFAULTS(txn_offset_commit_request_partition, &partition);
    partition.committed_offset = 7;
    topic.name = MR_STR("t");
    topic.partitions = &partition;
    topic.partitions_count = 1;
    request.transactional_id = MR_STR("a");
    request.group_id = MR_STR("x");
    request.producer_id = PRODUCER;
    request.producer_epoch = EPOCH;
    request.topics = &topic;
    request.topics_count = 1;
    store->is_holding = true;
    mr_rig_forget(rig);
    int32_t number = mr_rig_send(rig, MR_API_TXN_OFFSET_COMMIT, 5, &request);
    mr_rig_run(rig);
    (void)mr_rig_send(rig, MR_API_END_TXN, 5, &ending);
    mr_rig_run(rig);
    assert_null(mr_rig_reply(rig, number));
    store->is_holding = false;
    mr_rig_release(rig);
    mr_rig_run(rig);
    take_answer(number, MR_API_TXN_OFFSET_COMMIT, 5, &response);
    assert_int_not_equal(response.topics[0].partitions[0].error_code, MR_KAFKA_NONE);
}

static void test_transaction_partition_that_was_deleted_is_passed_by(void **unused)
{
    (void)unused;
    int32_t partitions[] = {1, 9};
    struct mr_transaction_log_value_partitions_schema topics[] = {
        {.topic = MR_STR("gone"), .partition_ids = partitions, .partition_ids_count = 2},
        {.topic = MR_STR("t"), .partition_ids = partitions, .partition_ids_count = 2}};
    struct mr_transaction_log_value value = value_of(PREPARE_COMMIT);
    value.transaction_partitions = topics;
    value.transaction_partitions_count = 2;
    put("a", &value);
    restart();
    pass(0);
    assert_state("a", "CompleteCommit");
    assert_int_equal(mr_rig_log(store, "t", 1)->end_offset, 1);
}

static void test_transaction_requests_that_make_no_sense(void **unused)
{
    (void)unused;
    assert_int_equal(init("", -1, -1).error, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(init("a", 5, -1).error, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(init("a", -1, 5).error, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(end("", 4, 1, 0, true).error, MR_KAFKA_INVALID_REQUEST);
    assert_int_equal(end("nobody", 4, 1, 0, true).error, MAPPING);
    assert_int_equal(add("nobody", 1, 0).error, MAPPING);
    struct mr_init_producer_id_request request;
    struct mr_init_producer_id_response response;
    MR_DEFAULTS(init_producer_id_request, &request);
    request.transactional_id = MR_STR("a");
    request.transaction_timeout_ms = 0;
    call(MR_API_INIT_PRODUCER_ID, 4, &request, &response);
    assert_int_equal(response.error_code, MR_KAFKA_INVALID_TRANSACTION_TIMEOUT);
    request.transaction_timeout_ms = (int32_t)rig->config.transaction_max_timeout_ms + 1;
    call(MR_API_INIT_PRODUCER_ID, 4, &request, &response);
    assert_int_equal(response.error_code, MR_KAFKA_INVALID_TRANSACTION_TIMEOUT);
    assert_state("a", "-");
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup_transactions, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_transaction_every_state_and_request),
        TEST(test_transaction_init_repeated_after_a_lost_answer),
        TEST(test_transaction_epoch_of_version_2_rises_with_each),
        TEST(test_transaction_end_of_version_1_is_not_repeated_by_version_2),
        TEST(test_transaction_markers_are_of_the_version_of_the_end),
        TEST(test_transaction_exhausted_epoch_takes_a_new_id),
        TEST(test_transaction_that_takes_too_long_is_aborted_and_fenced),
        TEST(test_transaction_times_out_though_the_wall_clock_goes_back),
        TEST(test_transaction_impossible_times_do_no_harm),
        TEST(test_transaction_idle_ids_expire_and_others_do_not),
        TEST(test_transaction_what_was_decided_is_completed_after_a_restart),
        TEST(test_transaction_markers_wait_for_the_decision),
        TEST(test_transaction_offsets_do_not_come_after_the_end),
        TEST(test_transaction_partition_that_was_deleted_is_passed_by),
        TEST(test_transaction_requests_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
