/*
 * coord_runtime: applies what steps decide: records into batches, batches into logs, answers out
 * when what they saw is durable.
 *
 * A shard's records of a turn form one batch. A failed append makes the shard BROKEN: who waits
 * is told, the state is thrown away, and when its last append has come back it is loaded again.
 * Nothing is undone, so nothing can be undone wrongly.
 */
#include "coord/coord_runtime.h"

#define BATCH_BYTES_FIRST 4096
#define BATCH_BYTES_MAX   (8u << 20)
#define SCRATCH_MAX       (32u << 20)
#define RETRY_MS          1000

/* Of a walk: so that no slice is long in a shard of millions, and how many things a turn looks at, about. */
#define SLICES     4096u
#define LOOKED_MAX 256u

/* ---- answers ---- */

static bool is_dirty(const struct mr_coord_shard *shard)
{
    return shard != NULL && shard->state == MR_COORD_ACTIVE &&
           (shard->durable < shard->sealed || shard->builder.bytes != NULL);
}

static void wait_on(struct mr_coord_shard *shard, struct mr_coord_wait *wait)
{
    wait->sequence = shard->sealed + (shard->builder.bytes != NULL ? 1 : 0);
    mr_list_add_tail(&shard->waiting, &wait->link);
}

/* Send a prepared answer, or park it on the (next) shard that it must wait for. */
void mr_coord_finish(struct mr_coord *coord, struct mr_coord_answer *answer)
{
    struct mr_coord_wait *wait = (struct mr_coord_wait *)(void *)answer;
    if (answer->when == MR_COORD_DURABLE) {
        if (answer->shard != MR_COORD_ALL) {
            struct mr_coord_shard *shard = coord->shards[answer->shard];
            if (wait->next == 0 && is_dirty(shard)) {
                wait->next = 1;
                wait_on(shard, wait);
                return;
            }
        } else {
            while (wait->next < coord->shard_count) {
                struct mr_coord_shard *shard = coord->shards[wait->next++];
                if (is_dirty(shard)) {
                    wait_on(shard, wait);
                    return;
                }
            }
        }
    }
    if (answer->then != NULL) {
        answer->then(coord->control, coord->control->now, answer->request);
        return;
    }
    mr_control_reply_send(coord->control, answer->request);
}

void mr_coord_then(struct mr_coord_shard *shard, struct mr_request *request,
                   void (*then)(struct mr_control *, struct mr_now, struct mr_request *))
{
    struct mr_coord_wait *wait = request->user;
    *wait = (struct mr_coord_wait){.answer = {.request = request,
                                              .when = MR_COORD_DURABLE,
                                              .shard = shard->index,
                                              .then = then}};
    mr_coord_finish(shard->coord, &wait->answer);
}

static void prepare(struct mr_coord *coord, struct mr_coord_answer *answer)
{
    if (answer->response == NULL) {
        mr_coord_prepare_error(coord, answer->request, answer->error);
        answer->when = MR_COORD_NOW;
    } else {
        mr_control_reply_prepare(coord->control, answer->request, answer->response);
    }
}

/* ---- appends ---- */

static int16_t append_error(enum mr_err err)
{
    int16_t code = mr_err_kafka(err);
    switch (code) {
    case MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
    case MR_KAFKA_NOT_ENOUGH_REPLICAS:
    case MR_KAFKA_REQUEST_TIMED_OUT:
        return MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    case MR_KAFKA_NOT_LEADER_OR_FOLLOWER:
    case MR_KAFKA_KAFKA_STORAGE_ERROR:
        return MR_KAFKA_NOT_COORDINATOR;
    case MR_KAFKA_MESSAGE_TOO_LARGE:
    case MR_KAFKA_RECORD_LIST_TOO_LARGE:
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    default:
        return code;
    }
}

void mr_coord_append_done(struct mr_control *control, struct mr_now now, struct mr_coord_shard *shard,
                          enum mr_err err, int64_t base_offset)
{
    (void)base_offset;
    shard->durable++;
    if (err != MR_OK && shard->state == MR_COORD_ACTIVE) {
        mr_log(control->log, MR_LOG_ERROR,
               "an append to a coordinator's log failed topic=%s partition=%u error=\"%s\"",
               shard->coord->kind->topic, shard->index, mr_err_text(err));
        shard->retry_ns = mr_deadline_ms(now.mono_ns, RETRY_MS);
        mr_coord_break(shard, now, append_error(err));
        return;
    }
    while (!mr_list_is_empty(&shard->waiting)) {
        struct mr_coord_wait *wait = MR_LIST_ENTRY(shard->waiting.next, struct mr_coord_wait, link);
        if (wait->sequence > shard->durable) {
            break;
        }
        mr_list_remove(&wait->link);
        mr_coord_finish(shard->coord, &wait->answer);
    }
    if (shard->state == MR_COORD_ACTIVE && shard->coord->kind->durable != NULL) {
        shard->coord->kind->durable(shard, now);
    }
}

static void append_done(struct mr_control *control, struct mr_now now, void *user, enum mr_err err,
                        int64_t base_offset)
{
    mr_coord_append_done(control, now, user, err, base_offset);
}

void mr_coord_flush(struct mr_coord_shard *shard)
{
    if (shard->builder.bytes == NULL) {
        return;
    }
    uint32_t bytes = mr_batch_end(&shard->builder);
    mr_control_append_room(shard->coord->control, shard->log, shard->builder.bytes, bytes,
                           shard->leader_epoch, MR_APPEND_COORDINATOR, append_done, shard);
    shard->builder.bytes = NULL;
    shard->sealed++;
}

/* Room for the records of one step in the batch of this turn. False: no memory. */
static bool make_room(struct mr_coord_shard *shard, uint64_t bytes)
{
    struct mr_batch_builder *builder = &shard->builder;
    struct mr_control *control = shard->coord->control;
    if (builder->bytes != NULL && builder->used + bytes > shard->coord->record_bytes_max) {
        mr_coord_flush(shard);
    }
    if (builder->bytes == NULL) {
        uint64_t size = bytes + MR_BATCH_HEADER > BATCH_BYTES_FIRST ? bytes + MR_BATCH_HEADER
                                                                    : BATCH_BYTES_FIRST;
        uint8_t *room = mr_control_room(control, NULL, (uint32_t)size);
        if (room != NULL) {
            mr_batch_begin(builder, room, (uint32_t)size, 0, 0);
        }
        return room != NULL;
    }
    if (builder->size - builder->used < bytes) {
        uint32_t size = builder->size * 2 > builder->used + (uint32_t)bytes
                            ? builder->size * 2
                            : builder->used + (uint32_t)bytes;
        uint8_t *room = mr_control_room(control, builder->bytes, size);
        if (room == NULL) {
            return false;
        }
        builder->bytes = room;
        builder->size = size;
    }
    return true;
}

/* Records of a transaction have a batch of their own. */
static bool make_txn_room(struct mr_coord_shard *shard, const struct mr_coord_out *out)
{
    mr_coord_flush(shard);
    if (!make_room(shard, out->record_bytes)) {
        return false;
    }
    shard->builder.batch.producer_id = out->producer_id;
    shard->builder.batch.producer_epoch = out->producer_epoch;
    shard->builder.batch.attributes |= MR_BATCH_TRANSACTIONAL;
    return true;
}

/* Throw the state away; it is loaded again when every append has come back. */
void mr_coord_break(struct mr_coord_shard *shard, struct mr_now now, int16_t error)
{
    struct mr_coord *coord = shard->coord;
    struct mr_coord_out out;
    shard->state = MR_COORD_BROKEN;
    if (shard->builder.bytes != NULL) {
        mr_control_room_free(coord->control, shard->builder.bytes);
        shard->builder.bytes = NULL;
    }
    mr_arena_reset(&coord->scratch);
    mr_coord_out_init(&out, &coord->scratch, now);
    coord->kind->shard_deinit(shard, &out, error);
    while (!mr_list_is_empty(&shard->waiting)) {
        struct mr_coord_wait *wait = MR_LIST_ENTRY(shard->waiting.next, struct mr_coord_wait, link);
        mr_list_remove(&wait->link);
        mr_coord_out_refuse(&out, wait->answer.request, error);
    }
    for (struct mr_coord_answer *answer = out.answers; answer != NULL;) {
        struct mr_coord_answer *next = answer->next; /* gone with its request */
        mr_coord_prepare_error(coord, answer->request, answer->error);
        mr_control_reply_send(coord->control, answer->request);
        answer = next;
    }
}

static int16_t room_for(struct mr_coord_shard *shard, const struct mr_coord_out *out)
{
    if (out->record_bytes + MR_BATCH_HEADER > shard->coord->record_bytes_max) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    bool is_room = out->producer_id >= 0 ? make_txn_room(shard, out) : make_room(shard, out->record_bytes);
    return is_room ? MR_KAFKA_NONE : MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
}

/*
 * Write the records, replay them, answer. Answers are encoded before the replay, because they point
 * into the state that it changes. Returns a code of Kafka's; when it is not 0 nothing was written: the records are more than
 * a batch may have, or there was no memory for them or for what they say, and then asking again helps.
 */
int16_t mr_coord_apply(struct mr_coord_shard *shard, struct mr_coord_out *out)
{
    struct mr_coord *coord = shard->coord;
    int16_t error = out->records == NULL ? (int16_t)MR_KAFKA_NONE : room_for(shard, out);
    if (error != MR_KAFKA_NONE) {
        mr_coord_out_forget_records(out);
    }
    for (struct mr_coord_answer *answer = out->answers; answer != NULL; answer = answer->next) {
        if (error != MR_KAFKA_NONE) {
            answer->response = NULL;
            answer->error = error;
        }
        prepare(coord, answer);
    }
    coord->control->work += out->record_bytes;
    bool is_broken = false;
    for (struct mr_coord_record *record = out->records; record != NULL; record = record->next) {
        mr_assert(record->shard == shard->index);
        bool is_added = mr_batch_add(&shard->builder, out->now.unix_ms, record->key, record->value);
        mr_assert(is_added);
        if (coord->kind->replay(shard, &shard->builder.batch, record->key, record->value) != MR_OK) {
            is_broken = true;
            break;
        }
    }
    for (struct mr_coord_answer *answer = out->answers; answer != NULL;) {
        struct mr_coord_answer *next = answer->next;
        mr_coord_finish(coord, answer);
        answer = next;
    }
    out->answers = NULL;
    if (out->then != NULL && !is_broken) {
        out->then(out->then_user, out);
    }
    if (out->producer_id >= 0 && !is_broken) {
        mr_coord_flush(shard);
    }
    if (is_broken) {
        error = MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
        shard->retry_ns = mr_deadline_ms(out->now.mono_ns, RETRY_MS);
        mr_coord_break(shard, out->now, error);
    }
    return error;
}

void mr_coord_finish_all(struct mr_coord *coord, struct mr_request *request, const void *response)
{
    struct mr_coord_wait *wait = request->user;
    wait->answer = (struct mr_coord_answer){
        .request = request,
        .response = response,
        .when = MR_COORD_DURABLE,
        .shard = MR_COORD_ALL,
    };
    mr_control_reply_prepare(coord->control, request, response);
    mr_coord_finish(coord, &wait->answer);
}

/* ---- which shard ---- */

struct mr_coord_counts mr_coord_count(const struct mr_coord *coord)
{
    struct mr_coord_counts counts = {0};
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        const struct mr_coord_shard *shard = coord->shards[index];
        bool is_active = shard != NULL && shard->state == MR_COORD_ACTIVE;
        uint32_t count = is_active ? coord->kind->count(shard) : 0;
        counts.all += count;
        counts.most = count > counts.most ? count : counts.most;
    }
    return counts;
}

/* ---- looking at everything ---- */

void mr_coord_walk_some(struct mr_coord_shard *shard, struct mr_coord_walk *walk,
                        const struct mr_table *table, struct mr_now now, mr_coord_look *look)
{
    bool is_over = true;
    uint32_t looked = 0;
    while (is_over && walk->at < SLICES && looked < LOOKED_MAX &&
           !mr_control_has_worked(shard->coord->control)) {
        struct mr_table_node *node = mr_table_walk_slice(table, walk->at, SLICES, NULL);
        while (node != NULL && shard->state == MR_COORD_ACTIVE) {
            struct mr_table_node *after = mr_table_walk_slice(table, walk->at, SLICES, node);
            is_over &= look(shard, node, now); /* it may go */
            node = after;
            looked++;
        }
        if (shard->state != MR_COORD_ACTIVE) {
            return; /* the table is gone; the rest when the shard is there again */
        }
        walk->at += is_over;
    }
    if (walk->at == SLICES) {
        *walk = (struct mr_coord_walk){0};
    }
}

uint32_t mr_coord_partition_of(struct mr_str key, uint32_t count)
{
    int32_t hash = mr_hash_java(key);
    uint32_t positive = hash == INT32_MIN ? 0 : (uint32_t)(hash < 0 ? -hash : hash);
    return positive % count;
}

int16_t mr_coord_shard_of(struct mr_coord *coord, struct mr_str key, struct mr_coord_shard **shard)
{
    *shard = NULL;
    if (coord->is_stopped) {
        return MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
    if (coord->shard_count == 0) {
        return MR_KAFKA_NOT_COORDINATOR;
    }
    struct mr_coord_shard *found = coord->shards[mr_coord_partition_of(key, coord->shard_count)];
    if (found == NULL) {
        return MR_KAFKA_NOT_COORDINATOR;
    }
    switch (found->state) {
    case MR_COORD_ABSENT:
        return MR_KAFKA_NOT_COORDINATOR;
    case MR_COORD_LOADING:
        return MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
    case MR_COORD_BROKEN:
        return MR_KAFKA_COORDINATOR_NOT_AVAILABLE;
    case MR_COORD_ACTIVE:
        *shard = found;
        return MR_KAFKA_NONE;
    }
    mr_unreachable("no such state");
}

/* ---- the thread's calls ---- */

struct mr_coord *mr_coord_new(struct mr_control *control, const struct mr_coord_kind *kind,
                              uint32_t scratch_share, size_t scratch_min, struct mr_arena *decode)
{
    struct mr_coord *coord = MR_HEAP_NEW(&control->heap, struct mr_coord);
    size_t bytes = control->heap.size / scratch_share;
    bytes = bytes < scratch_min ? scratch_min : bytes;
    bytes = bytes > SCRATCH_MAX ? SCRATCH_MAX : bytes;
    void *scratch = mr_heap_try(&control->heap, bytes);
    void *decoded = mr_heap_try(&control->heap, bytes);
    if (coord == NULL || scratch == NULL || decoded == NULL) {
        return NULL;
    }
    coord->control = control;
    coord->kind = kind;
    coord->record_bytes_max = BATCH_BYTES_FIRST; /* until there is a topic */
    mr_arena_init(&coord->scratch, scratch, bytes);
    mr_arena_init(decode, decoded, bytes);
    return coord;
}

bool mr_coord_init(struct mr_control *control)
{
    return mr_groups_init(control) && mr_transactions_init(control);
}

/* What one batch may have, so that the log does not refuse it. */
static uint32_t batch_bytes_max(int64_t max_message_bytes)
{
    return max_message_bytes > BATCH_BYTES_MAX     ? BATCH_BYTES_MAX
           : max_message_bytes < BATCH_BYTES_FIRST ? BATCH_BYTES_FIRST
                                                   : (uint32_t)max_message_bytes;
}

/* A shard for each partition of the topic that we lead and that is open. */
static void follow_image(struct mr_coord *coord, struct mr_now now)
{
    struct mr_control *control = coord->control;
    const struct mr_image *image = mr_control_image(control);
    const struct mr_image_topic *topic =
        image == NULL ? NULL : mr_image_topic_by_name(image, mr_str(coord->kind->topic));
    uint32_t count = topic == NULL ? 0 : topic->partition_count;
    coord->env.image = image;
    if (coord->kind->image != NULL) {
        coord->kind->image(coord);
    }
    if (topic != NULL) {
        coord->record_bytes_max = batch_bytes_max(topic->config.max_message_bytes);
        coord->env.record_bytes_max = coord->record_bytes_max;
    }
    if (count > coord->shard_capacity) {
        void *grown =
            mr_heap_resize(&control->heap, coord->shards, sizeof(void *) * coord->shard_capacity,
                           sizeof(void *) * count);
        if (grown == NULL) {
            return;
        }
        coord->shards = grown;
        memset(&coord->shards[coord->shard_capacity], 0,
               sizeof(void *) * (count - coord->shard_capacity));
        coord->shard_capacity = count;
    }
    for (uint32_t index = 0; index < coord->shard_capacity; index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        const struct mr_image_partition *partition =
            index < count ? &topic->partitions[index] : NULL;
        bool is_ours =
            partition != NULL && partition->log_id != 0 && partition->leader == control->node_id;
        bool is_here = shard != NULL && shard->state != MR_COORD_ABSENT;
        if (is_here && (!is_ours || shard->log.log_id != partition->log_id)) {
            mr_coord_break(shard, now, MR_KAFKA_NOT_COORDINATOR);
            shard->state = MR_COORD_ABSENT;
            is_here = false;
        }
        if (is_here) {
            shard->leader_epoch = partition->leader_epoch;
        }
        if (!is_ours || is_here) {
            continue;
        }
        if (shard == NULL) {
            shard = MR_HEAP_NEW(&control->heap, struct mr_coord_shard);
            if (shard == NULL) {
                continue;
            }
            mr_list_init(&shard->waiting);
            shard->coord = coord;
            shard->index = index;
            coord->shards[index] = shard;
        }
        shard->log = (struct mr_log_ref){
            .log_id = partition->log_id,
            .storage_core = partition->storage_core,
        };
        shard->leader_epoch = partition->leader_epoch;
        shard->retry_ns = 0;
        shard->state = MR_COORD_BROKEN; /* the loader begins when nothing is under way */
    }
    coord->shard_count = count;
}

static void start(struct mr_coord *coord, struct mr_now now)
{
    coord->is_started = true;
    follow_image(coord, now);
    mr_timer_set(&coord->control->timers, &coord->expiry.timer,
                 mr_deadline_ms(now.mono_ns, coord->expiry_ms));
}

static void image_changed(struct mr_coord *coord, struct mr_now now, bool is_any_deleted)
{
    if (!coord->is_started || coord->is_stopped) {
        return;
    }
    follow_image(coord, now);
    for (uint32_t index = 0; is_any_deleted && index < coord->shard_count; index++) {
        if (coord->shards[index] != NULL) {
            coord->shards[index]->purge = (struct mr_coord_walk){.is_wanted = true};
        }
    }
}

static bool turn(struct mr_coord *coord, struct mr_now now)
{
    bool is_any = false;
    if (coord->is_started && !coord->is_stopped) {
        mr_coord_load_some(coord, now);
        is_any = coord->kind->sweep(coord, now);
    }
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        if (shard != NULL && shard->builder.bytes != NULL) {
            mr_coord_flush(shard);
            is_any = true;
        }
    }
    return is_any;
}

static uint64_t deadline_ns(const struct mr_coord *coord)
{
    uint64_t deadline = MR_NEVER;
    for (uint32_t index = 0; !coord->is_stopped && index < coord->shard_count; index++) {
        const struct mr_coord_shard *shard = coord->shards[index];
        if (shard != NULL && !shard->is_reading &&
            shard->retry_ns > coord->control->now.mono_ns &&
            (shard->state == MR_COORD_BROKEN || shard->state == MR_COORD_LOADING)) {
            deadline = mr_earlier(deadline, shard->retry_ns);
        }
    }
    return deadline;
}

static void stop(struct mr_coord *coord, struct mr_now now)
{
    coord->is_stopped = true;
    mr_timer_cancel(&coord->control->timers, &coord->expiry.timer);
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        if (shard == NULL || shard->state == MR_COORD_ABSENT) {
            continue;
        }
        /* What was decided in this turn is still written; who waits for it is told to ask again. */
        mr_coord_flush(shard);
        mr_coord_break(shard, now, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
    }
}

void mr_coord_start(struct mr_control *control, struct mr_now now)
{
    start(control->coord, now);
    start(control->txn_coord, now);
}

void mr_coord_image_changed(struct mr_control *control, struct mr_now now, bool is_any_deleted)
{
    image_changed(control->coord, now, is_any_deleted);
    image_changed(control->txn_coord, now, is_any_deleted);
}

bool mr_coord_turn(struct mr_control *control, struct mr_now now)
{
    bool is_any = turn(control->txn_coord, now); /* its markers join the batches of the other */
    return turn(control->coord, now) || is_any;
}

uint64_t mr_coord_deadline_ns(const struct mr_control *control)
{
    return mr_earlier(deadline_ns(control->coord), deadline_ns(control->txn_coord));
}

void mr_coord_stop(struct mr_control *control, struct mr_now now)
{
    if (control->coord == NULL || control->coord->is_stopped) {
        return;
    }
    stop(control->txn_coord, now);
    stop(control->coord, now);
    mr_transactions_stop(control, now);
}
