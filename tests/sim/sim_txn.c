#include "sim_txn.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#define PARTITIONS  MR_CHECK_TXN_PARTITIONS
#define ALL         ((1u << PARTITIONS) - 1u)
#define BATCH_MAX   4u
#define ROUNDS_MAX  3u
#define GOING       2u /* this one, alone under its id, may go for good with an open transaction */
#define FETCH_BYTES (16 << 10) /* of the pipeline: some batches */

static struct mr_sim_txn *txn_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_txn *)(void *)actor;
}

static uint64_t draw(struct mr_sim_txn *t, uint64_t bound)
{
    return mr_prng_below(&t->actor.prng, bound);
}

/* ---- The steps ---- */

/* Without a transaction, as somebody else or with the next epoch. */
static void begin_anew(struct mr_sim_txn *t, bool is_known)
{
    t->step = MR_SIM_TXN_INIT;
    t->producer_id = is_known ? t->producer_id : -1;
    t->txn = MR_CHECK_NO_TXN;
    t->is_last = false;
    t->is_troubled = false;
    t->polled = 0;
    memset(t->parts, 0, sizeof t->parts);
}

/* Somebody else has the id, or the coordinator has ended the transaction. */
static void fenced(struct mr_sim_txn *t, struct mr_now now)
{
    bool is_unsure = t->step == MR_SIM_TXN_END && t->is_commit && t->end_sent > 1;
    if (t->txn != MR_CHECK_NO_TXN && !is_unsure) {
        mr_check_txn_over(&t->all->check, t->txn);
    }
    begin_anew(t, false);
    mr_sim_actor_rest(&t->actor, now, MR_NS_PER_S);
}

/* The first step of a transaction, or of its next round of records. */
static enum mr_sim_txn_step first_step(const struct mr_sim_txn *t)
{
    return t->is_version_2 ? MR_SIM_TXN_PRODUCE : MR_SIM_TXN_ADD;
}

static enum mr_sim_txn_step after_produce(const struct mr_sim_txn *t)
{
    return t->is_pipe ? MR_SIM_TXN_COMMIT : MR_SIM_TXN_END;
}

static bool begin(struct mr_sim_txn *t)
{
    t->txn = mr_check_txn_begin(&t->all->check, t->id, t->number);
    if (t->txn == MR_CHECK_NO_TXN) {
        return false;
    }
    t->is_commit = t->is_last || draw(t, 4) != 0;
    t->end_sent = 0;
    t->was_stable = false;
    t->step = first_step(t);
    return true;
}

/* Records of a producer: for one partition or both. */
static void draw_records(struct mr_sim_txn *t)
{
    uint32_t which = 1 + (uint32_t)draw(t, ALL);
    t->rounds--;
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        struct mr_sim_txn_part *part = &t->parts[partition];
        *part = (struct mr_sim_txn_part){.is_acked = false};
        part->count = (which >> partition & 1u) != 0 ? 1 + (uint32_t)draw(t, BATCH_MAX) : 0;
        for (uint32_t index = 0; index < part->count; index++) {
            part->values[index] = mr_check_txn_value(&t->all->check);
            mr_check_txn_record(&t->all->check, t->txn);
        }
    }
}

static bool is_produced(const struct mr_sim_txn *t)
{
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        if (t->parts[partition].count > 0 && !t->parts[partition].is_acked) {
            return false;
        }
    }
    return true;
}

static uint32_t gathered(const struct mr_sim_txn *t)
{
    uint32_t count = 0;
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        count += t->parts[partition].count;
    }
    return count;
}

/* When everybody of a kind is done. */
static void is_done(struct mr_sim_txn *t, struct mr_now now)
{
    bool is_all = true;
    t->is_done = true;
    for (uint32_t index = 0; index < MR_SIM_TXN_ACTORS; index++) {
        const struct mr_sim_txn *other = &t->all->actors[index];
        is_all &= other->is_pipe != t->is_pipe || other->is_done;
    }
    if (is_all) {
        t->all->rested_ns[t->is_pipe] = now.mono_ns;
    }
}

/* A producer between two transactions. In the end it commits one more, or leaves it open for good. */
static void ready_producer(struct mr_sim_txn *t, struct mr_now now)
{
    if (t->is_last) {
        is_done(t, now);
        return;
    }
    t->is_last = t->actor.is_quiet;
    if (!begin(t)) {
        t->is_last = t->actor.is_quiet; /* a long run */
        mr_sim_actor_rest(&t->actor, now, MR_NS_PER_S);
        return;
    }
    t->rounds = 1 + (uint32_t)draw(t, ROUNDS_MAX);
    draw_records(t);
    mr_sim_txn_send(t, now);
}

/* The pipeline: what is committed in each partition, then a transaction with it. */
static void ready_pipe(struct mr_sim_txn *t, struct mr_now now)
{
    if (!t->is_last && t->all->rested_ns[0] != 0) {
        t->is_last = true;
        t->at_end = 0;
        t->polled = 0;
    }
    if (t->polled == ALL && gathered(t) == 0) {
        t->polled = 0;
        if (t->is_last && t->at_end == ALL) {
            is_done(t, now);
            return;
        }
        mr_sim_actor_rest(&t->actor, now, 20 * MR_NS_PER_MS);
        return;
    }
    if (t->polled == ALL) {
        if (!begin(t)) {
            mr_sim_actor_refuse(&t->actor, "the checker has no room for more transactions", 0);
            return;
        }
        for (uint32_t count = gathered(t); count > 0; count--) {
            mr_check_txn_record(&t->all->check, t->txn);
        }
        mr_sim_txn_send(t, now);
        return;
    }
    uint32_t partition = (t->polled & 1u) != 0 ? 1 : 0;
    t->fetch_floor = t->all->check.logs[partition].stable;
    mr_sim_txn_send_fetch(&t->actor, partition, t->positions[partition], FETCH_BYTES, now);
}

/* Silence, a new life, giving up. Whether this turn is over. */
static bool trouble(struct mr_sim_txn *t, struct mr_now now)
{
    if (draw(t, 60) == 0) {
        mr_sim_actor_rest(&t->actor, now, 2 * MR_SIM_TXN_TIMEOUT_MS * MR_NS_PER_MS); /* for too long, maybe */
        return true;
    }
    if (t->number == GOING && t->txn != MR_CHECK_NO_TXN && draw(t, 100) == 0) {
        is_done(t, now); /* for good: nobody but the coordinator ends its transaction */
        return true;
    }
    if (draw(t, 80) == 0 && t->step > MR_SIM_TXN_INIT) {
        begin_anew(t, false);
    }
    if (t->step == MR_SIM_TXN_PRODUCE && t->is_troubled && draw(t, 3) == 0) {
        t->is_commit = false; /* whatever became of them */
        t->step = MR_SIM_TXN_END;
    }
    return false;
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_txn *t = txn_of(actor);
    if (actor->call_count > 0 || t->is_done) {
        return;
    }
    if (!actor->is_quiet && trouble(t, now)) {
        return;
    }
    if (t->step == MR_SIM_TXN_END && t->is_last && t->number == GOING && t->txn % 2 == 0) {
        is_done(t, now); /* its transaction stays open: the coordinator ends it */
        return;
    }
    if (t->step == MR_SIM_TXN_INIT) {
        t->is_version_2 = draw(t, 2) == 0;
        t->init_floor = t->all->check.txn_count;
    }
    if (t->step != MR_SIM_TXN_READY) {
        mr_sim_txn_send(t, now);
    } else if (t->is_pipe) {
        ready_pipe(t, now);
    } else {
        ready_producer(t, now);
    }
}

/* ---- Answers ---- */

static bool is_fence(int16_t error)
{
    return error == MR_KAFKA_INVALID_PRODUCER_EPOCH || error == MR_KAFKA_PRODUCER_FENCED ||
           error == MR_KAFKA_INVALID_PRODUCER_ID_MAPPING;
}

/* After these the transaction can only be aborted. */
static bool is_abortable(int16_t error)
{
    return error == MR_KAFKA_INVALID_TXN_STATE || error == MR_KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER ||
           error == MR_KAFKA_TRANSACTION_ABORTABLE || error == MR_KAFKA_UNKNOWN_PRODUCER_ID ||
           error == MR_KAFKA_INVALID_TIMESTAMP /* the clock went back under way */;
}

static void take_error(struct mr_sim_txn *t, int16_t error, struct mr_now now)
{
    static const char *const whats[] = {
        "FindCoordinator failed for good",   "CreateTopics failed for good", "InitProducerId failed for good",
        "OffsetFetch failed for good",       "Fetch failed for good",        "AddPartitionsToTxn failed for good",
        "AddOffsetsToTxn failed for good",   "Produce failed for good",      "TxnOffsetCommit failed for good",
        "OffsetFetch failed for good",       "EndTxn failed for good"};
    if (is_fence(error) || (is_abortable(error) && t->step == MR_SIM_TXN_END)) {
        fenced(t, now);
    } else if (is_abortable(error) && t->step > MR_SIM_TXN_READY) {
        t->is_commit = false;
        t->is_troubled = true;
        t->step = MR_SIM_TXN_END;
    } else {
        if (!mr_errors_is_retriable(error)) {
            mr_sim_actor_refuse(&t->actor, whats[t->step], error);
        }
        mr_sim_actor_rest(&t->actor, now, 20 * MR_NS_PER_MS);
    }
}

static void take_found(struct mr_sim_txn *t)
{
    t->found++;
    if (t->found == (t->is_pipe ? 2u : 1u)) {
        t->step = t->all->is_created ? MR_SIM_TXN_INIT : MR_SIM_TXN_CREATE;
    }
}

static void take_created(struct mr_sim_txn *t, const struct mr_create_topics_response *response, struct mr_now now)
{
    for (int32_t index = 0; index < response->topics_count; index++) {
        int16_t error = response->topics[index].error_code;
        if (error != 0 && error != MR_KAFKA_TOPIC_ALREADY_EXISTS) {
            take_error(t, error, now);
            return;
        }
    }
    t->all->is_created = true;
    t->step = MR_SIM_TXN_INIT;
}

static void take_identity(struct mr_sim_txn *t, int64_t producer_id, int16_t producer_epoch)
{
    t->producer_id = producer_id;
    t->producer_epoch = producer_epoch;
    memset(t->sequences, 0, sizeof t->sequences);
}

static void take_init(struct mr_sim_txn *t, const struct mr_init_producer_id_response *response, struct mr_now now)
{
    if (response->error_code != 0) {
        take_error(t, response->error_code, now);
        return;
    }
    mr_check_txn_taken_over(&t->all->check, t->id, t->init_floor);
    take_identity(t, response->producer_id, response->producer_epoch);
    t->step = t->is_pipe ? MR_SIM_TXN_OFFSETS : MR_SIM_TXN_READY;
}

/* If its end is accepted then the transaction was open until then, and what it commits was not to be told. */
static void take_look(struct mr_sim_txn *t, const struct mr_offset_fetch_response *response)
{
    int64_t ignored[PARTITIONS];
    t->was_stable = mr_sim_txn_take_offsets(response, ignored) == 0;
    t->step = MR_SIM_TXN_END;
}

static void take_offsets(struct mr_sim_txn *t, const struct mr_offset_fetch_response *response, struct mr_now now)
{
    if (t->step != MR_SIM_TXN_OFFSETS) {
        take_look(t, response);
        return;
    }
    int16_t error = mr_sim_txn_take_offsets(response, t->positions);
    if (error != 0) {
        take_error(t, error, now);
        return;
    }
    t->step = MR_SIM_TXN_READY;
}

struct gathering {
    struct mr_sim_txn *t;
    uint32_t           partition;
};

static bool gather(void *user, uint64_t value, uint32_t txn, int64_t offset)
{
    struct gathering       *gathering = user;
    struct mr_sim_txn_part *part = &gathering->t->parts[gathering->partition];
    mr_check_txn_see(&gathering->t->all->check, gathering->partition, offset, value, txn, false);
    part->values[part->count++] = value;
    return part->count < MR_SIM_TXN_RECORDS; /* the rest of this batch is taken the next time */
}

static void take_fetch(struct mr_sim_txn *t, const struct mr_fetch_response *response, struct mr_arena *arena,
                       struct mr_now now)
{
    uint32_t         partition = (t->polled & 1u) != 0 ? 1 : 0;
    struct gathering gathering = {.t = t, .partition = partition};
    int64_t          before = t->positions[partition];
    bool             is_end = false;
    int16_t          error = mr_sim_txn_take_fetch(&t->actor, &t->all->check, partition, t->fetch_floor, response, arena,
                                                   &t->positions[partition], &is_end, gather, &gathering);
    if (error != 0) {
        take_error(t, error, now);
        return;
    }
    t->polled |= 1u << partition;
    t->at_end = is_end ? t->at_end | 1u << partition : t->at_end & ~(1u << partition);
    if (!is_end && t->positions[partition] == before && t->is_last && mr_sim_txn_is_late(t->all->rested_ns[0], now)) {
        mr_sim_actor_refuse(&t->actor, "a transaction hangs in partition", partition);
    }
}

static void take_added(struct mr_sim_txn *t, const struct mr_add_partitions_to_txn_response *response,
                       struct mr_now now)
{
    if (response->results_by_topic_v3_and_below_count != 1) {
        mr_sim_actor_refuse(&t->actor, "AddPartitionsToTxn answered for something else",
                            response->results_by_topic_v3_and_below_count);
        return;
    }
    const struct mr_add_partitions_to_txn_response_add_partitions_to_txn_topic_result *topic =
        &response->results_by_topic_v3_and_below[0];
    for (int32_t index = 0; index < topic->results_by_partition_count; index++) {
        int16_t error = topic->results_by_partition[index].partition_error_code;
        if (error != 0) {
            take_error(t, error, now);
            return;
        }
    }
    t->step = t->is_pipe ? MR_SIM_TXN_ADD_OFFSETS : MR_SIM_TXN_PRODUCE;
}

/* Each partition by itself; the worst of what went wrong decides what comes next. */
static void take_produce(struct mr_sim_txn *t, const struct mr_produce_response *response, struct mr_now now)
{
    int16_t worst = 0;
    for (int32_t index = 0; response->responses_count == 1 && index < response->responses[0].partition_responses_count;
         index++) {
        const struct mr_produce_response_partition_produce_response *result =
            &response->responses[0].partition_responses[index];
        struct mr_sim_txn_part *part = &t->parts[(uint32_t)result->index % PARTITIONS];
        int16_t                 error = result->error_code;
        if ((error == 0 || error == MR_KAFKA_DUPLICATE_SEQUENCE_NUMBER) && !part->is_acked) {
            part->is_acked = true;
            t->sequences[(uint32_t)result->index % PARTITIONS] += (int32_t)part->count;
        } else if (error != 0 && (worst == 0 || mr_errors_is_retriable(worst))) {
            worst = error;
        }
    }
    if (worst != 0) {
        take_error(t, worst, now);
    } else if (is_produced(t)) {
        if (t->is_pipe || t->rounds == 0) {
            t->step = after_produce(t);
            return;
        }
        draw_records(t);
        t->step = first_step(t);
    }
}

static void take_commit(struct mr_sim_txn *t, const struct mr_txn_offset_commit_response *response, struct mr_now now)
{
    for (int32_t index = 0; response->topics_count == 1 && index < response->topics[0].partitions_count; index++) {
        int16_t error = response->topics[0].partitions[index].error_code;
        if (error != 0) {
            take_error(t, error, now);
            return;
        }
    }
    t->step = draw(t, 2) == 0 ? MR_SIM_TXN_LOOK : MR_SIM_TXN_END;
}

static void take_end(struct mr_sim_txn *t, const struct mr_end_txn_response *response, struct mr_now now)
{
    bool is_last = t->is_last && t->is_commit;
    bool is_moved = t->is_commit;
    bool is_bump_due = !t->is_version_2 && t->is_troubled;
    if (response->error_code != 0) {
        take_error(t, response->error_code, now);
        return;
    }
    if (t->was_stable) {
        mr_sim_actor_refuse(&t->actor, "offsets were shown as stable in the transaction that commits them", t->txn);
    }
    if (t->is_commit) {
        mr_check_txn_committed(&t->all->check, t->txn);
    } else {
        mr_check_txn_over(&t->all->check, t->txn);
    }
    begin_anew(t, true);
    t->is_last = is_last;
    if (t->is_version_2) {
        take_identity(t, response->producer_id, response->producer_epoch);
    }
    if (!is_bump_due) {
        t->step = t->is_pipe && !is_moved ? MR_SIM_TXN_OFFSETS : MR_SIM_TXN_READY;
    }
    mr_sim_actor_rest(&t->actor, now, draw(t, 8) == 0 ? 200 * MR_NS_PER_MS : MR_NS_PER_MS);
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_txn *t = txn_of(actor);
    switch (call->key) {
    case MR_API_FIND_COORDINATOR: {
        int16_t error = ((const struct mr_find_coordinator_response *)response)->error_code;
        if (error != 0) {
            take_error(t, error, now);
        } else {
            take_found(t);
        }
        break;
    }
    case MR_API_CREATE_TOPICS:
        take_created(t, response, now);
        break;
    case MR_API_INIT_PRODUCER_ID:
        take_init(t, response, now);
        break;
    case MR_API_OFFSET_FETCH:
        take_offsets(t, response, now);
        break;
    case MR_API_FETCH:
        take_fetch(t, response, arena, now);
        break;
    case MR_API_ADD_PARTITIONS_TO_TXN:
        take_added(t, response, now);
        break;
    case MR_API_ADD_OFFSETS_TO_TXN: {
        int16_t error = ((const struct mr_add_offsets_to_txn_response *)response)->error_code;
        if (error != 0) {
            take_error(t, error, now);
        } else {
            t->step = MR_SIM_TXN_PRODUCE;
        }
        break;
    }
    case MR_API_PRODUCE:
        take_produce(t, response, now);
        break;
    case MR_API_TXN_OFFSET_COMMIT:
        take_commit(t, response, now);
        break;
    default:
        mr_assert(call->key == MR_API_END_TXN);
        take_end(t, response, now);
        break;
    }
    if (!mr_check_txn_is_ok(&t->all->check)) {
        mr_sim_actor_refuse(actor, t->all->check.why, 0);
    }
}

static void lost(struct mr_sim_actor *actor, const struct mr_sim_call *call)
{
    (void)call;
    txn_of(actor)->is_troubled = true;
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_txn *)(const void *)actor)->is_done;
}

void mr_sim_txns_init(struct mr_sim_txns *all, struct mr_arena *arena, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "producer", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    static const struct mr_sim_actor_ops pipe_ops = {
        .name = "pipeline", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    static const uint32_t ids[MR_SIM_TXN_ACTORS] = {0, 0, 1, 2, 2};
    *all = (struct mr_sim_txns){.is_created = false};
    mr_check_txn_init(&all->check, arena);
    for (uint32_t index = 0; index < MR_SIM_TXN_ACTORS; index++) {
        bool is_pipe = ids[index] == 2;
        all->actors[index] = (struct mr_sim_txn){
            .all = all, .number = index, .id = ids[index], .is_pipe = is_pipe, .producer_id = -1, .txn = MR_CHECK_NO_TXN};
        mr_sim_actor_init(&all->actors[index].actor, is_pipe ? &pipe_ops : &ops, arena, seed + index);
        all->actors[index].actor.is_late_harmless = true;
    }
    mr_sim_txn_reader_init(all, arena, seed + MR_SIM_TXN_ACTORS);
}
