/*
 * transaction_marks: markers into the logs of a prepared transaction.
 *
 *   Prepare is durable --> one marker per partition --> all durable --> Complete record
 *                              ^        |
 *                              +--------+ what failed, RETRY_MS later or when groups that it is for are loaded, for as
 *                                         long as the partition exists
 *
 * A partition that is not in the image any more was deleted: there is nothing to end in it. The marks of a decision
 * are one block, which outlives the transaction, void, while storage has some of them.
 */
#include "coord/txn/transaction.h"

#include "millrace/base/bug.h"
#include "millrace/batch.h"

#define RETRY_MS   100 /* also how long a request is parked at most */
#define PARKED_MAX 256

struct mr_transaction_mark {
    struct mr_list link; /* in env->retries while it waits */
    struct mr_transaction_env *env;
    struct mr_transaction *transaction; /* NULL: void */
    struct mr_transaction_block *block;
    struct mr_str topic; /* the transaction's */
    int32_t partition;
    bool is_done;
};

/* The marks of one decision. */
struct mr_transaction_block {
    uint32_t count;
    uint32_t sent; /* with storage now */
    struct mr_coord_shard *forgot; /* whose state was thrown away meanwhile; NULL: it goes on */
    struct mr_transaction_mark marks[];
};

static struct mr_transaction_block *block_of(const struct mr_transaction *transaction)
{
    return transaction->marks[0].block;
}

static void block_free(struct mr_transaction_env *env, struct mr_transaction_block *block)
{
    mr_heap_free(&env->control->heap, block,
                 sizeof *block + sizeof block->marks[0] * (size_t)block->count);
}

static void retry_set(struct mr_transaction_env *env, struct mr_now now)
{
    if (env->retry.timer.place == 0) {
        mr_timer_set(&env->control->timers, &env->retry.timer, mr_deadline_ms(now.mono_ns, RETRY_MS));
    }
}

bool mr_transaction_park(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    struct mr_transaction_env *env = control->txn_coord->part;
    bool is_late = now.mono_ns >= mr_deadline_ms(request->arrived_ns, RETRY_MS);
    if (is_late || env->parked_count == PARKED_MAX) {
        return false;
    }
    mr_list_add_tail(&env->parked, &request->link);
    env->parked_count++;
    retry_set(env, now);
    return true;
}

void mr_transaction_unpark(struct mr_transaction_env *env, struct mr_now now)
{
    env->is_unpark_wanted = false;
    for (uint32_t count = env->parked_count; count > 0; count--) { /* not those that are parked again */
        struct mr_request *request =
            MR_LIST_ENTRY(mr_list_pop(&env->parked), struct mr_request, link);
        env->parked_count--;
        env->control->handlers[request->forward->api_key](env->control, now, request);
    }
}

static void mark_late(struct mr_transaction_shard *shard, struct mr_now now)
{
    shard->is_marking_late = true;
    retry_set(shard->env, now);
}

static void complete(struct mr_transaction *transaction, struct mr_now now)
{
    struct mr_transaction_shard *shard = transaction->shard;
    struct mr_coord_shard *runtime = transaction->shard->runtime;
    struct mr_transaction_env *env = transaction->shard->env;
    struct mr_coord_out out;
    if (transaction->marks != NULL) {
        struct mr_transaction_block *block = block_of(transaction);
        transaction->marks = NULL;
        block_free(env, block);
    }
    mr_arena_reset(&env->coord->scratch);
    mr_coord_out_init(&out, &env->coord->scratch, now);
    if (!mr_transaction_complete(transaction, &out) || mr_coord_apply(runtime, &out) != MR_KAFKA_NONE) {
        mark_late(shard, now);
    }
    env->is_unpark_wanted = true;
}

static void one_done(struct mr_transaction_mark *mark, struct mr_now now)
{
    struct mr_transaction *transaction = mark->transaction;
    mark->is_done = true;
    if (--transaction->marks_open == 0) {
        complete(transaction, now);
    }
}

static void retry_later(struct mr_transaction_mark *mark, struct mr_now now)
{
    struct mr_transaction_env *env = mark->env;
    mr_list_add_tail(&env->retries, &mark->link);
    retry_set(env, now);
}

/* Whether the log has spoken the last word, if not the one that was hoped for. */
static bool is_settled(enum mr_err err)
{
    return err == MR_OK || err == MR_ERR_INVALID_PRODUCER_EPOCH || err == MR_ERR_COORDINATOR_FENCED;
}

static void mark_written(struct mr_control *control, struct mr_now now, void *user, enum mr_err err,
                         int64_t base_offset)
{
    struct mr_transaction_mark *mark = user;
    struct mr_transaction_block *block = mark->block;
    (void)base_offset;
    block->sent--;
    if (block->forgot != NULL) {
        block->forgot->pending--;
        if (block->sent == 0) {
            block_free(mark->env, block);
        }
        return;
    }
    if (!is_settled(err)) {
        retry_later(mark, now);
        return;
    }
    if (err != MR_OK) {
        mr_log(control->log, MR_LOG_WARN,
               "a marker was refused transaction=%.*s topic=%.*s partition=%d error=\"%s\"",
               (int)mark->transaction->id.len, mark->transaction->id.data, (int)mark->topic.len,
               mark->topic.data, mark->partition, mr_err_text(err));
    }
    one_done(mark, now);
}

static void send(struct mr_transaction_mark *mark, struct mr_now now)
{
    struct mr_transaction *transaction = mark->transaction;
    struct mr_control *control = mark->env->control;
    const struct mr_image *image = mr_control_image(control);
    const struct mr_image_topic *topic = mr_image_topic_by_name(image, mark->topic);
    bool is_left_out = mr_bug("one-marker") && mark != mark->block->marks;
    if (is_left_out || topic == NULL || mark->partition < 0 ||
        (uint32_t)mark->partition >= topic->partition_count) {
        one_done(mark, now);
        return;
    }
    const struct mr_image_partition *partition = &topic->partitions[mark->partition];
    struct mr_control_marker marker = {
        .producer_id = transaction->now.producer_id,
        .producer_epoch = transaction->now.producer_epoch,
        .txn_version = transaction->now.client_version,
        .marker = {.is_commit = transaction->now.state == MR_TRANSACTION_PREPARE_COMMIT &&
                                !(mr_bug("half-commit") && mark->partition == 1),
                   .coordinator_epoch = transaction->shard->runtime->leader_epoch},
    };
    mark->block->sent++;
    struct mr_log_ref log = {.log_id = partition->log_id, .storage_core = partition->storage_core};
    if (partition->log_id == 0 || !mr_control_mark(control, mark->topic, (uint32_t)mark->partition, log,
                                                   partition->leader_epoch, &marker, now,
                                                   mark_written, mark)) {
        mark->block->sent--;
        retry_later(mark, now);
    }
}

static bool begin(struct mr_transaction *transaction, struct mr_now now)
{
    struct mr_transaction_env *env = transaction->shard->env;
    struct mr_transaction_block *block;
    uint32_t count = 0;
    for (int32_t at = 0; at < transaction->now.topics_count; at++) {
        count += (uint32_t)transaction->now.topics[at].partition_ids_count;
    }
    if (count == 0) {
        complete(transaction, now);
        return true;
    }
    block = mr_heap_zero(&env->control->heap, sizeof *block + sizeof block->marks[0] * (size_t)count);
    if (block == NULL) {
        return false;
    }
    block->count = count;
    transaction->marks = block->marks;
    transaction->mark_count = count;
    transaction->marks_open = count;
    struct mr_transaction_mark *mark = block->marks;
    for (int32_t at = 0; at < transaction->now.topics_count; at++) {
        const mr_transaction_topic *topic = &transaction->now.topics[at];
        for (int32_t index = 0; index < topic->partition_ids_count; index++, mark++) {
            *mark = (struct mr_transaction_mark){.env = env,
                                                 .transaction = transaction,
                                                 .block = block,
                                                 .topic = topic->topic,
                                                 .partition = topic->partition_ids[index]};
            mr_list_init(&mark->link);
        }
    }
    for (uint32_t index = 0; index < count; index++) {
        send(&block->marks[index], now); /* the block may be gone after the last one */
    }
    return true;
}

void mr_transaction_mark_due(struct mr_transaction_shard *shard, struct mr_now now)
{
    shard->is_marking_wanted = false;
    MR_LIST_EACH_SAFE(link, after, &shard->deciding) {
        struct mr_transaction *transaction = MR_LIST_ENTRY(link, struct mr_transaction, deciding);
        bool is_durable = transaction->sequence <= shard->runtime->durable || mr_bug("mark-early");
        if (transaction->marks != NULL || !is_durable) {
            continue;
        }
        if (!begin(transaction, now)) {
            mark_late(shard, now);
            return;
        }
        if (shard->runtime->state != MR_COORD_ACTIVE) {
            return; /* its Complete record could not be written: everything is void */
        }
    }
}

void mr_transaction_marks_forget(struct mr_transaction_shard *shard)
{
    MR_LIST_EACH(link, &shard->deciding) {
        struct mr_transaction *transaction = MR_LIST_ENTRY(link, struct mr_transaction, deciding);
        if (transaction->marks == NULL) {
            continue;
        }
        struct mr_transaction_block *block = block_of(transaction);
        transaction->marks = NULL;
        for (uint32_t index = 0; index < block->count; index++) {
            mr_list_remove(&block->marks[index].link);
        }
        /* One that comes late would end the next transaction of that epoch: nobody begins one before it is back. */
        block->forgot = shard->runtime;
        shard->runtime->pending += block->sent;
        if (block->sent == 0) {
            block_free(shard->env, block);
        }
    }
}

static void retry(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    struct mr_transaction_env *env = timer->user;
    uint32_t count = 0;
    (void)control;
    MR_LIST_EACH(link, &env->retries)
    {
        count++;
    }
    for (; count > 0 && !mr_list_is_empty(&env->retries); count--) { /* not those that fail again */
        send(MR_LIST_ENTRY(mr_list_pop(&env->retries), struct mr_transaction_mark, link), now);
    }
    mr_transaction_unpark(env, now);
    for (uint32_t index = 0; index < env->coord->shard_count; index++) {
        const struct mr_coord_shard *runtime = env->coord->shards[index];
        struct mr_transaction_shard *shard = runtime == NULL ? NULL : runtime->part;
        if (shard != NULL && shard->is_marking_late) {
            shard->is_marking_late = false;
            shard->is_marking_wanted = true; /* seen by the next sweep */
        }
    }
}

void mr_transactions_retry_now(struct mr_control *control, struct mr_now now)
{
    struct mr_transaction_env *env = control->txn_coord->part;
    if (!mr_list_is_empty(&env->retries)) {
        mr_timer_set(&control->timers, &env->retry.timer, now.mono_ns);
    }
}

void mr_transaction_marks_init(struct mr_transaction_env *env)
{
    mr_list_init(&env->retries);
    mr_list_init(&env->parked);
    env->retry.fire = retry;
    env->retry.user = env;
}
