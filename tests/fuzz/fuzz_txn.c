/*
 * fuzz_txn: a script of records of __transaction_state, replayed into one partition of transactional ids, and of what is
 * asked of them in between: InitProducerId, AddPartitionsToTxn, EndTxn, a transaction that took too long, its end.
 *
 *   item   kind: enum step, who: which id (the highest bit: a tombstone),
 *          bytes of a record:  | version u8 | length of the key's body u8 | key's body | value's body |
 *          bytes of a request: | flags u8 | body |
 *
 * Whatever the log holds: skipped or applied. What is decided stays so until its markers are written; an epoch never
 * falls; what was added is in the transaction; what is written of an id and read again is the id; when the shard ends, all
 * memory is back.
 */
#include "coord/txn/transaction.h"
#include "millrace/base/bytes.h"
#include "mutate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAP_BYTES    (16u << 20)
#define SCRATCH_BYTES (4u << 20)
#define TOMBSTONE     0x80u
#define STATUS_AT     14u /* in a value of any version */
#define FRESH_ID      4711
#define STEPS_MAX     200u

enum step {
    STEP_RECORD,
    STEP_FOREIGN, /* a record of a type that nobody has written yet */
    STEP_INIT,
    STEP_ADD,
    STEP_END,
    STEP_LATE,     /* it took too long */
    STEP_COMPLETE, /* its markers are written */
    STEP_LEVEL,    /* transaction.version */
    STEP_COUNT,
};

enum flag { IS_OWNER = 1, IS_ITS_ID = 2, IS_VERIFY = 4, VERSION_SHIFT = 3 };

static struct mr_control control;
static struct mr_transaction_env env;
static struct mr_coord_shard runtime;
static struct mr_transaction_shard shard;
static struct mr_arena scratch, messages;
static const struct mr_config config = {.transaction_max_timeout_ms = 900000};

union request {
    struct mr_init_producer_id_request init;
    struct mr_add_partitions_to_txn_request add;
    struct mr_end_txn_request end;
};

/* ---- The mutator ---- */

static const struct mr_msg *request_msg(uint8_t kind)
{
    switch ((enum step)(kind % STEP_COUNT)) {
    case STEP_INIT:
        return &mr_msg_init_producer_id_request;
    case STEP_ADD:
        return &mr_msg_add_partitions_to_txn_request;
    case STEP_END:
        return &mr_msg_end_txn_request;
    case STEP_RECORD:
    case STEP_FOREIGN:
    case STEP_LATE:
    case STEP_COMPLETE:
    case STEP_LEVEL:
    case STEP_COUNT:
        break;
    }
    return NULL;
}

/* Of AddPartitionsToTxn the form for clients: one transaction. */
static int16_t request_version(const struct mr_msg *msg, uint8_t flags)
{
    int version = msg->version_min + (flags >> VERSION_SHIFT) % (msg->version_max - msg->version_min + 1);
    return msg == &mr_msg_add_partitions_to_txn_request ? 3 : (int16_t)version;
}

static uint32_t draw_record(struct mr_prng *prng, const struct mr_script_item *item, uint8_t *out,
                            uint32_t max)
{
    bool is_old = item->bytes != NULL && item->len > 2 && item->bytes[1] <= item->len - 2;
    uint32_t key_len = is_old ? item->bytes[1] : 0;
    out[0] = (uint8_t)mr_prng_below(prng, 2);
    if (!is_old || mr_prng_below(prng, 4) == 0) {
        out[1] =
            (uint8_t)mr_mutate_msg(prng, &mr_msg_transaction_log_key, 0,
                                   is_old ? item->bytes + 2 : NULL, key_len, out + 2, UINT8_MAX);
    } else {
        out[1] = (uint8_t)key_len;
        memcpy(out + 2, item->bytes + 2, key_len);
    }
    uint32_t at = 2u + out[1];
    uint32_t len = mr_mutate_msg(prng, &mr_msg_transaction_log_value, out[0],
                                 is_old ? item->bytes + 2 + key_len : NULL,
                                 is_old ? item->len - 2 - key_len : 0, out + at, max - at);
    if (len > STATUS_AT && mr_prng_below(prng, 8) != 0) {
        out[at + STATUS_AT] = (uint8_t)mr_prng_below(prng, MR_TRANSACTION_DEAD + 1);
    }
    return at + len;
}

static void draw(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    if (item->bytes == NULL) {
        item->kind = (uint8_t)mr_prng_below(prng, STEP_COUNT);
        item->who = (uint8_t)mr_prng_below(prng, mr_prng_below(prng, 8) == 0 ? 256 : 4);
    }
    const struct mr_msg *msg = request_msg(item->kind);
    if (msg == NULL) {
        item->len = item->kind % STEP_COUNT <= STEP_FOREIGN ? draw_record(prng, item, out, max) : 0;
        return;
    }
    bool is_old = item->bytes != NULL && item->len > 0;
    out[0] = is_old && mr_prng_below(prng, 2) == 0
                 ? item->bytes[0]
                 : (uint8_t)(mr_prng_next(prng) | IS_OWNER | IS_ITS_ID);
    if (mr_prng_below(prng, 8) == 0) {
        out[0] ^= (uint8_t)(1u << mr_prng_below(prng, 3));
    }
    item->len =
        1 + mr_mutate_msg(prng, msg, request_version(msg, out[0]), is_old ? item->bytes + 1 : NULL,
                          is_old ? item->len - 1 : 0, out + 1, max - 1);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, draw);
}

/* ---- Steps ---- */

static void start(void)
{
    static struct mr_arena arena;
    size_t bytes = HEAP_BYTES + 3 * SCRATCH_BYTES + (1u << 20);
    mr_arena_init(&arena, aligned_alloc(4096, bytes), bytes);
    control.heap.base = mr_arena_get_fresh(&arena, HEAP_BYTES, 64);
    mr_arena_init(&scratch, mr_arena_get_fresh(&arena, SCRATCH_BYTES, 64), SCRATCH_BYTES);
    mr_arena_init(&messages, mr_arena_get_fresh(&arena, SCRATCH_BYTES, 64), SCRATCH_BYTES);
    mr_arena_init(&env.decode, mr_arena_get_fresh(&arena, SCRATCH_BYTES, 64), SCRATCH_BYTES);
    control.config = &config;
    control.now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    env.control = &control;
    mr_transaction_marks_init(&env);
}

/* The who-th id; NULL: there is none. */
static struct mr_transaction *one_of(uint8_t who)
{
    uint32_t left = who % 4;
    struct mr_table_node *node = mr_table_walk(&shard.ids, NULL);
    struct mr_table_node *next;
    while (node != NULL && left-- > 0 && (next = mr_table_walk(&shard.ids, node)) != NULL) {
        node = next;
    }
    return node == NULL ? NULL : MR_TABLE_ENTRY(node, struct mr_transaction, node);
}

static enum mr_err replay(const struct mr_script_item *item)
{
    static uint8_t key[UINT8_MAX + 2];
    static uint8_t value[UINT16_MAX + 2];
    if (item->len < 2 || item->bytes[1] > item->len - 2) {
        return MR_OK;
    }
    int32_t key_len = item->bytes[1];
    int32_t value_len = (int32_t)item->len - 2 - key_len;
    bool is_foreign = item->kind % STEP_COUNT == STEP_FOREIGN;
    mr_store_be16(key, is_foreign ? 1 : MR_KEY_transaction_log_key);
    memcpy(key + 2, item->bytes + 2, (size_t)key_len);
    mr_store_be16(value, item->bytes[0]);
    memcpy(value + 2, item->bytes + 2 + key_len, (size_t)value_len);
    struct mr_blob bytes = {.data = value, .len = value_len + 2};
    enum mr_err err =
        mr_transaction_replay(&shard, (struct mr_blob){.data = key, .len = key_len + 2},
                              (item->who & TOMBSTONE) != 0 ? MR_BLOB_NULL : bytes);
    mr_assert(err == MR_OK || !is_foreign);
    return err == MR_ERR_NO_MEMORY ? err : MR_OK; /* what is malformed stays unread */
}

static void begin(struct mr_coord_out *out)
{
    mr_arena_reset(&scratch);
    mr_coord_out_init(out, &scratch, control.now);
}

static enum mr_err apply(const struct mr_coord_out *out)
{
    for (const struct mr_coord_record *record = out->records; record != NULL;
         record = record->next) {
        enum mr_err err = mr_transaction_replay(&shard, record->key, record->value);
        mr_assert(err == MR_OK || err == MR_ERR_NO_MEMORY); /* we can read what we write */
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

/* What a producer may never see: its epoch falls. */
static void must_not_fall(const struct mr_transaction_values *before,
                          const struct mr_transaction *after)
{
    mr_assert(after->now.producer_id != before->producer_id ||
              after->now.producer_epoch >= before->producer_epoch);
}

static void must_have(const struct mr_transaction *transaction,
                      const struct mr_transaction_add *add)
{
    mr_assert(transaction->now.state == MR_TRANSACTION_ONGOING);
    for (int32_t at = 0; at < add->topics_count; at++) {
        for (int32_t index = 0; index < add->topics[at].partition_ids_count; index++) {
            mr_assert(mr_transaction_has(transaction, add->topics[at].topic,
                                         add->topics[at].partition_ids[index]));
        }
    }
}

static struct mr_transaction_add add_of(const struct mr_add_partitions_to_txn_request *in,
                                        uint8_t flags)
{
    int32_t count = in->v3_and_below_topics_count;
    mr_transaction_topic *topics = mr_arena_get(&messages, sizeof *topics * ((size_t)count + 1), 8);
    mr_assert(topics != NULL);
    for (int32_t at = 0; at < count; at++) {
        topics[at] = (mr_transaction_topic){.topic = in->v3_and_below_topics[at].name,
                                            .partition_ids = in->v3_and_below_topics[at].partitions,
                                            .partition_ids_count =
                                                in->v3_and_below_topics[at].partitions_count};
    }
    return (struct mr_transaction_add){.id = in->v3_and_below_transactional_id,
                                       .producer_id = in->v3_and_below_producer_id,
                                       .producer_epoch = in->v3_and_below_producer_epoch,
                                       .client_version =
                                           (flags & (1u << VERSION_SHIFT)) != 0 ? 2 : 0,
                                       .is_verify = (flags & IS_VERIFY) != 0,
                                       .topics = topics,
                                       .topics_count = count};
}

/* By the id, and with what its owner knows of it, as the flags say. */
static void address(uint8_t kind, uint8_t flags, const struct mr_transaction *transaction,
                    union request *in)
{
    struct mr_str *id = kind == STEP_INIT  ? &in->init.transactional_id
                        : kind == STEP_ADD ? &in->add.v3_and_below_transactional_id
                                           : &in->end.transactional_id;
    int64_t *producer_id = kind == STEP_INIT  ? &in->init.producer_id
                           : kind == STEP_ADD ? &in->add.v3_and_below_producer_id
                                              : &in->end.producer_id;
    int16_t *epoch = kind == STEP_INIT  ? &in->init.producer_epoch
                     : kind == STEP_ADD ? &in->add.v3_and_below_producer_epoch
                                        : &in->end.producer_epoch;
    if (transaction != NULL && (flags & IS_ITS_ID) != 0) {
        *id = transaction->id;
    }
    if (transaction != NULL && (flags & IS_OWNER) != 0) {
        *producer_id = transaction->now.producer_id;
        *epoch = transaction->now.producer_epoch;
    }
    if (kind == STEP_INIT && in->init.transaction_timeout_ms <= 0) {
        in->init.transaction_timeout_ms = 1;
    }
}

static enum mr_err ask(const struct mr_script_item *item)
{
    uint8_t kind = item->kind % STEP_COUNT;
    const struct mr_msg *msg = request_msg(kind);
    union request in;
    struct mr_reader reader;
    mr_arena_reset(&messages);
    if (item->len == 0) {
        return MR_OK;
    }
    uint8_t flags = item->bytes[0];
    int16_t version = request_version(msg, flags);
    mr_reader_init_bytes(&reader, item->bytes + 1, item->len - 1);
    if (mr_msg_decode(msg, version, &reader, &messages, &in) != MR_OK) {
        return MR_OK;
    }
    const struct mr_transaction *transaction = one_of(item->who);
    address(kind, flags, transaction, &in);
    struct mr_forward forward = {.api_version = version};
    struct mr_coord_answer answer = {.request = NULL};
    struct mr_request request = {.forward = &forward, .message = &in, .user = &answer};
    struct mr_str id = kind == STEP_INIT  ? in.init.transactional_id
                       : kind == STEP_ADD ? in.add.v3_and_below_transactional_id
                                          : in.end.transactional_id;
    transaction = mr_transaction_find(&shard, id);
    struct mr_transaction_values before =
        transaction == NULL ? (struct mr_transaction_values){.producer_id = -2} : transaction->now;
    bool is_decided = transaction != NULL && mr_transaction_is_prepared(transaction);
    struct mr_coord_out out;
    struct mr_transaction_add add = {.is_verify = true};
    int16_t error = MR_KAFKA_NONE;
    bool is_used;
    begin(&out);
    if (kind == STEP_INIT) {
        mr_transaction_init(&shard, &request, FRESH_ID, &is_used, &out);
    } else if (kind == STEP_END) {
        mr_transaction_end(&shard, &request, FRESH_ID, &is_used, &out);
    } else {
        add = add_of(&in.add, flags);
        error = mr_transaction_add(&shard, &add, &out);
    }
    mr_assert(!is_decided || out.record_count == 0);
    enum mr_err err = apply(&out);
    transaction = mr_transaction_find(&shard, id);
    if (err == MR_OK && transaction != NULL) {
        must_not_fall(&before, transaction);
        if (error == MR_KAFKA_NONE && !add.is_verify) {
            must_have(transaction, &add);
        }
    }
    return err;
}

static enum mr_err late(const struct mr_transaction *transaction)
{
    struct mr_coord_out out;
    bool is_used = false;
    struct mr_transaction_values before = transaction->now;
    if (before.state != MR_TRANSACTION_ONGOING) {
        return MR_OK;
    }
    begin(&out);
    int16_t error = mr_transaction_fence(transaction, FRESH_ID, &is_used, &out);
    enum mr_err err = apply(&out);
    if (err == MR_OK && error == MR_KAFKA_NONE) {
        mr_assert(transaction->now.state == MR_TRANSACTION_PREPARE_ABORT);
        must_not_fall(&before, transaction);
    }
    return err;
}

static enum mr_err complete(const struct mr_transaction *transaction)
{
    struct mr_coord_out out;
    enum mr_transaction_state state = transaction->now.state;
    if (!mr_transaction_is_prepared(transaction)) {
        return MR_OK;
    }
    begin(&out);
    bool is_written = mr_transaction_complete(transaction, &out);
    enum mr_err err = apply(&out);
    if (err == MR_OK && is_written) {
        mr_assert(transaction->now.state == (state == MR_TRANSACTION_PREPARE_COMMIT
                                                 ? MR_TRANSACTION_COMPLETE_COMMIT
                                                 : MR_TRANSACTION_COMPLETE_ABORT));
        mr_assert(transaction->now.topics_count == 0);
    }
    return err;
}

static enum mr_err take(const struct mr_script_item *item)
{
    const struct mr_transaction *transaction = one_of(item->who);
    switch ((enum step)(item->kind % STEP_COUNT)) {
    case STEP_RECORD:
    case STEP_FOREIGN:
        return replay(item);
    case STEP_INIT:
    case STEP_ADD:
    case STEP_END:
        return ask(item);
    case STEP_LATE:
        return transaction == NULL ? MR_OK : late(transaction);
    case STEP_COMPLETE:
        return transaction == NULL ? MR_OK : complete(transaction);
    case STEP_LEVEL:
        env.version = item->who % 3;
        break;
    case STEP_COUNT:
        break;
    }
    return MR_OK;
}

/* ---- The end ---- */

static bool is_same_topics(const struct mr_transaction_values *a, const struct mr_transaction *b)
{
    for (int32_t at = 0; at < a->topics_count; at++) {
        for (int32_t index = 0; index < a->topics[at].partition_ids_count; index++) {
            if (!mr_transaction_has(b, a->topics[at].topic, a->topics[at].partition_ids[index])) {
                return false;
            }
        }
    }
    return a->topics_count == b->now.topics_count;
}

/* An id as its record says it, read into a shard of its own. */
static void write_and_read(const struct mr_transaction *transaction)
{
    struct mr_coord_out out;
    struct mr_transaction_shard other;
    const struct mr_transaction_values *now = &transaction->now;
    mr_assert(mr_transaction_shard_init(&other, &env, &runtime));
    begin(&out);
    if (mr_transaction_record(&shard, transaction->id, now, &out) &&
        mr_transaction_replay(&other, out.records->key, out.records->value) == MR_OK) {
        const struct mr_transaction *again = mr_transaction_find(&other, transaction->id);
        mr_assert(again != NULL);
        mr_assert(again->now.state == now->state && again->now.producer_id == now->producer_id &&
                  again->now.producer_epoch == now->producer_epoch &&
                  again->now.previous_producer_id == now->previous_producer_id &&
                  again->now.next_producer_id == now->next_producer_id &&
                  again->now.client_version == now->client_version &&
                  again->now.timeout_ms == now->timeout_ms &&
                  again->now.start_ms == now->start_ms && again->now.update_ms == now->update_ms);
        mr_assert(now->state == MR_TRANSACTION_EMPTY || is_same_topics(now, again));
    }
    mr_transaction_shard_deinit(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_script_item item;
    const uint8_t *at = data;
    enum mr_err err = MR_OK;
    if (control.heap.base == NULL) {
        start();
    }
    mr_heap_init(&control.heap, control.heap.base, HEAP_BYTES);
    env.version = 2;
    mr_assert(mr_transaction_shard_init(&shard, &env, &runtime));
    for (uint32_t steps = 0;
         err == MR_OK && steps < STEPS_MAX && mr_script_next(&at, data + size, &item); steps++) {
        err = take(&item);
    }
    env.version = 2; /* with it everything is recorded */
    for (struct mr_table_node *node = mr_table_walk(&shard.ids, NULL); err == MR_OK && node != NULL;
         node = mr_table_walk(&shard.ids, node)) {
        write_and_read(MR_TABLE_ENTRY(node, struct mr_transaction, node));
    }
    mr_transaction_shard_deinit(&shard);
    mr_assert(control.heap.used_bytes == 0);
    return 0;
}
