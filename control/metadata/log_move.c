#include "metadata/log_move.h"

#include "metadata/image.h"
#include "metadata/log_config.h"
#include "metadata/log_dirs.h"
#include "metadata/stray_logs.h"
#include "millrace/base/bug.h"
#include "millrace/batch.h"

#define ACTIVE_MAX  2u
#define PIECE_BYTES (1u << 20)
#define NEAR_BYTES  (64u << 10) /* so little was missing that the rest may be waited for */
#define SPANS_MAX   64u
#define BATCHES_MAX 128u
#define LINGER_MS   1000 /* the original goes when everybody has the new image */

/* What is read from the original and appended to the copy. */
struct piece {
    struct mr_lent_span    lent[SPANS_MAX];
    struct mr_span         whole[SPANS_MAX];
    struct mr_span         parts[SPANS_MAX + BATCHES_MAX];
    struct mr_append_entry entries[BATCHES_MAX];
};

struct move {
    struct mr_control_op     callback; /* first; of the operation that is under way */
    struct mr_log_dir_assign assign;
    struct mr_list           link;
    struct mr_control_timer  linger;
    struct mr_uuid           topic_id;
    uint32_t                 partition;
    uint32_t                 dir;
    struct mr_log_ref        from, to; /* to.log_id 0: there is no copy */
    int64_t                  log_start;
    int64_t                  next; /* offset to be copied */
    int64_t                  end;  /* of the original, which is held; -1: it is not */
    bool                     is_active;
    bool                     is_cancelled;
    bool                     is_dropped_once; /* what an earlier move had left */
    bool                     is_lingering;
    union {
        struct mr_storage_op   op;
        struct mr_open_op      open;
        struct mr_drop_op      drop;
        struct mr_move_op      move;
        struct mr_configure_op configure;
        struct mr_log_stat_op  stat;
        struct mr_append_op    append;
    } u;
    struct mr_log_stat_entry stat;
    struct mr_log_config     config;
    struct mr_read_op        read;
    struct mr_read_entry     wanted;
    struct piece            *piece; /* while it is active: those that wait are many, and small */
    char                     name[MR_TOPIC_NAME_MAX + 1];
};

typedef void move_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback);

bool mr_log_moves_init(struct mr_control *control)
{
    control->log_moves = MR_HEAP_NEW(&control->heap, struct mr_log_moves);
    if (control->log_moves == NULL) {
        return false;
    }
    mr_list_init(&control->log_moves->list);
    return true;
}

static struct move *move_of(struct mr_control_op *callback)
{
    return (struct move *)(void *)callback;
}

static struct move *find(const struct mr_control *control, const struct mr_uuid *topic_id, uint32_t partition)
{
    MR_LIST_EACH(link, &control->log_moves->list) {
        struct move *move = MR_LIST_ENTRY(link, struct move, link);
        if (move->partition == partition && mr_uuid_equal(&move->topic_id, topic_id) && !move->is_cancelled &&
            !move->is_lingering) {
            return move;
        }
    }
    return NULL;
}

static void submit(struct mr_control *control, struct move *move, uint32_t core, struct mr_storage_op *op,
                   enum mr_storage_kind kind, move_done *done)
{
    move->callback.done = done;
    op->kind = kind;
    mr_control_submit(control, core, op, &move->callback);
}

static void submit_step(struct mr_control *control, struct move *move, struct mr_log_ref log, enum mr_move_step step,
                        move_done *done)
{
    move->u.move = (struct mr_move_op){.log_id = log.log_id, .step = step, .log_start_offset = move->log_start};
    submit(control, move, log.storage_core, &move->u.op, MR_STORAGE_MOVE, done);
}

static void submit_drop(struct mr_control *control, struct move *move, struct mr_log_ref log, move_done *done)
{
    move->u.drop = (struct mr_drop_op){.log_id = log.log_id};
    submit(control, move, log.storage_core, &move->u.op, MR_STORAGE_DROP, done);
}

static struct mr_meta_partition *partition_of(const struct mr_control *control, const struct move *move)
{
    struct mr_meta_topic *topic = mr_meta_topic_by_id(control->meta, &move->topic_id);
    return topic == NULL ? NULL : &topic->partitions[move->partition];
}

/* ---- the ends ---- */

static void end(struct mr_control *control, struct move *move)
{
    mr_list_remove(&move->link);
    control->log_moves->active -= move->is_active;
    MR_HEAP_DELETE(&control->heap, move->piece);
    MR_HEAP_DELETE(&control->heap, move);
}

static void ended(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    (void)now;
    end(control, move_of(callback));
}

static void released(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    if (move->to.log_id == 0) {
        ended(control, now, callback);
        return;
    }
    submit_drop(control, move, move->to, ended);
}

/* Nothing is decided: the original goes on as if nothing had been. */
static void give_up(struct mr_control *control, struct mr_now now, struct move *move, enum mr_err why)
{
    mr_log(control->log, MR_LOG_WARN, "a log stays where it is topic=%s partition=%u to=%s why=%s", move->name,
           move->partition, control->log_dirs->dirs[move->dir].path,
           move->is_cancelled ? "given up" : mr_err_text(why));
    if (move->end >= 0) {
        submit_step(control, move, move->from, MR_MOVE_RELEASE, released);
    } else {
        released(control, now, &move->callback);
    }
}

/* ---- the original goes ---- */

static void linger_end(struct mr_control *control, struct move *move)
{
    move->is_lingering = false;
    mr_timer_cancel(&control->timers, &move->linger.timer);
    submit_drop(control, move, move->from, ended);
}

static void linger_fire(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    (void)now;
    linger_end(control, timer->user);
}

/* Readers may be at the original until they have the new image; it has all that they may see. */
static void linger(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    move->linger = (struct mr_control_timer){.fire = linger_fire, .user = move};
    if (control->phase == MR_PHASE_SERVING && mr_control_has_timer_room(control)) {
        move->is_lingering = true;
        mr_timer_set(&control->timers, &move->linger.timer, mr_deadline_ms(now.mono_ns, LINGER_MS));
    } else {
        submit_drop(control, move, move->from, ended);
    }
}

/* Settings that changed meanwhile went to the original. */
static void settled(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move          *move = move_of(callback);
    struct mr_meta_topic *topic = mr_meta_topic_by_id(control->meta, &move->topic_id);
    if (topic == NULL) { /* deleted: so is the copy, by what the state said of the partition */
        linger(control, now, callback);
        return;
    }
    mr_images_log_config(control->images, control->meta, topic, &move->config);
    move->u.configure =
        (struct mr_configure_op){.log_id = move->to.log_id, .config = &move->config, .leader_epoch = -1};
    submit(control, move, move->to.storage_core, &move->u.op, MR_STORAGE_CONFIGURE, linger);
}

/* The record is durable. */
static void decided(struct mr_control *control, struct mr_now now, struct mr_log_dir_assign *assign)
{
    struct move              *move = MR_LIST_ENTRY(assign, struct move, assign);
    struct mr_meta_partition *partition = partition_of(control, move);
    bool                      is_lost = control->log_dirs->dirs[move->dir].is_offline;
    if (partition == NULL || is_lost) {
        /* Deleted, with the original; or the other directory has failed just now: the original is complete, too. */
        if (partition != NULL) {
            (void)mr_log_dirs_assign(control, &move->topic_id, move->partition,
                                     mr_endpoint_dir(control->endpoints, move->from.storage_core));
        }
        give_up(control, now, move, is_lost ? MR_ERR_DIR_OFFLINE : MR_ERR_UNKNOWN_LOG);
        return;
    }
    partition->storage_core = move->to.storage_core;
    partition->log_id = move->to.log_id;
    partition->log_state = MR_META_LOG_OPEN;
    mr_meta_topic_changed(control->meta, mr_meta_topic_by_id(control->meta, &move->topic_id));
    mr_log(control->log, MR_LOG_INFO, "a log has moved topic=%s partition=%u to=%s end=%lld", move->name, move->partition,
           control->log_dirs->dirs[move->dir].path, (long long)move->end);
    submit_step(control, move, move->to, MR_MOVE_SETTLE, settled);
}

static void started(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    if (move->u.op.err != MR_OK || move->is_cancelled || control->phase != MR_PHASE_SERVING) {
        give_up(control, now, move, move->u.op.err);
        return;
    }
    move->assign = (struct mr_log_dir_assign){
        .topic_id = move->topic_id, .partition = (int32_t)move->partition, .dir = move->dir, .done = decided};
    mr_list_init(&move->assign.link);
    mr_log_dirs_decide_soon(control, &move->assign);
}

/* ---- copying ---- */

static void read_piece(struct mr_control *control, struct move *move);

static void held(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    if (move->u.op.err != MR_OK) {
        give_up(control, now, move, move->u.op.err);
        return;
    }
    move->end = move->u.move.log_end_offset;
    move->log_start = move->u.move.log_start_offset;
    if (mr_bug("move-without-the-rest")) {
        submit_step(control, move, move->to, MR_MOVE_START, started);
        return;
    }
    read_piece(control, move);
}

/* Once it is held, nothing comes behind its end; what has been read of that is no part of the copy's end. */
static bool is_whole(const struct move *move)
{
    return move->end >= 0 && move->next >= move->end;
}

static void appended(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    enum mr_err  err = move->u.op.err;
    uint32_t     bytes = 0;
    for (uint32_t index = 0; index < move->u.append.entry_count; index++) {
        err = err != MR_OK ? err : move->piece->entries[index].err;
        bytes += move->piece->entries[index].batch.bytes;
    }
    mr_control_release(control, move->from.storage_core, move->piece->lent, move->read.span_count);
    if (err != MR_OK || move->is_cancelled) {
        give_up(control, now, move, err);
    } else if (is_whole(move)) {
        submit_step(control, move, move->to, MR_MOVE_START, started);
    } else if (bytes < NEAR_BYTES && move->end < 0) {
        submit_step(control, move, move->from, MR_MOVE_HOLD, held);
    } else {
        read_piece(control, move);
    }
}

/* The bytes [at, at + len) of what was read, as spans of `parts` from *used on. */
static struct mr_chain slice(struct move *move, uint32_t at, uint32_t len, uint32_t *used)
{
    struct mr_chain chain = {.spans = &move->piece->parts[*used], .bytes = len};
    for (uint32_t index = 0; len > 0; index++) {
        const struct mr_span *span = &move->piece->whole[index];
        if (at >= span->len) {
            at -= span->len;
            continue;
        }
        uint32_t part = span->len - at < len ? span->len - at : len;
        move->piece->parts[(*used)++] = (struct mr_span){.data = span->data + at, .len = part};
        chain.span_count++;
        len -= part;
        at = 0;
    }
    return chain;
}

/* What was read, batch by batch; *first: where it begins. False: it is no batch. */
static bool split(struct move *move, int64_t *first)
{
    uint8_t         scratch[MR_BATCH_HEADER];
    uint32_t        used = 0;
    uint32_t        count = 0;
    struct mr_chain all = {.spans = move->piece->whole, .span_count = move->wanted.span_count, .bytes = move->wanted.bytes};
    for (uint32_t index = 0; index < all.span_count; index++) {
        move->piece->whole[index] = move->piece->lent[move->wanted.span_first + index].span;
    }
    for (uint32_t at = 0; all.bytes - at >= MR_BATCH_HEADER && count < BATCHES_MAX;) {
        struct mr_batch batch;
        mr_batch_header_load(mr_chain_view(&all, at, MR_BATCH_HEADER, scratch), &batch);
        uint32_t bytes = mr_batch_bytes(&batch);
        if (bytes < MR_BATCH_HEADER || bytes > all.bytes - at || batch.last_offset_delta < 0) {
            return false;
        }
        *first = count == 0 ? batch.base_offset : *first;
        move->next = mr_batch_last_offset(&batch) + 1;
        move->piece->entries[count++] = (struct mr_append_entry){.log_id = move->to.log_id,
                                                          .batch = slice(move, at, bytes, &used),
                                                          .leader_epoch = -1,
                                                          .origin = MR_APPEND_COPY,
                                                          .base_offset = -1};
        at += bytes;
    }
    move->u.append = (struct mr_append_op){.acks = -1, .entry_count = count, .entries = move->piece->entries};
    return count > 0;
}

static void open_copy(struct mr_control *control, struct move *move, int64_t start);

/* Nothing is left to be read: all is there, or the original has to be held before that can be said. */
static void read_all(struct mr_control *control, struct mr_now now, struct move *move)
{
    if (move->end < 0) {
        submit_step(control, move, move->from, MR_MOVE_HOLD, held);
    } else if (is_whole(move)) {
        submit_step(control, move, move->to, MR_MOVE_START, started);
    } else {
        give_up(control, now, move, MR_ERR_CORRUPT);
    }
}

static void read_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    enum mr_err  err = move->read.op.err != MR_OK ? move->read.op.err : move->wanted.err;
    int64_t      from = move->next;
    int64_t      first = move->next;
    if (err == MR_ERR_OFFSET_OUT_OF_RANGE && move->wanted.log_start_offset > move->next) {
        move->next = move->wanted.log_start_offset; /* retention was faster */
        read_piece(control, move);
        return;
    }
    if (err == MR_OK && move->wanted.bytes == 0 && move->to.log_id != 0) {
        read_all(control, now, move);
        return;
    }
    bool is_split = err == MR_OK && (move->wanted.bytes == 0 || split(move, &first));
    if (is_split && !move->is_cancelled && move->to.log_id != 0) {
        submit(control, move, move->to.storage_core, &move->u.op, MR_STORAGE_APPEND, appended);
        return;
    }
    mr_control_release(control, move->from.storage_core, move->piece->lent, move->read.span_count);
    if (!is_split || move->is_cancelled) {
        give_up(control, now, move, err == MR_OK ? MR_ERR_CORRUPT : err);
        return;
    }
    move->next = from;
    open_copy(control, move, first); /* it begins where the first batch does, which may be before the log start */
}

static void read_piece(struct mr_control *control, struct move *move)
{
    move->wanted = (struct mr_read_entry){.log_id = move->from.log_id,
                                          .offset = move->next,
                                          .bytes_max = PIECE_BYTES,
                                          .current_leader_epoch = -1,
                                          .is_first_batch_whole = true};
    move->read = (struct mr_read_op){.bytes_max = PIECE_BYTES,
                                     .isolation = MR_READ_UNCOMMITTED,
                                     .entry_count = 1,
                                     .entries = &move->wanted,
                                     .spans = move->piece->lent,
                                     .span_max = SPANS_MAX};
    submit(control, move, move->from.storage_core, &move->read.op, MR_STORAGE_READ, read_done);
}

/* ---- the beginning ---- */

static void leftover_dropped(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    if (move->u.op.err != MR_OK) {
        give_up(control, now, move, move->u.op.err);
        return;
    }
    read_piece(control, move); /* and once more */
}

static void opened(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move      *move = move_of(callback);
    struct mr_log_ref log = {.log_id = move->u.open.log_id, .storage_core = move->to.storage_core};
    if (move->u.op.err != MR_OK) {
        give_up(control, now, move, move->u.op.err);
    } else if (!move->u.open.is_created && !move->is_dropped_once) {
        move->is_dropped_once = true;
        submit_drop(control, move, log, leftover_dropped);
    } else {
        move->to = log;
        read_piece(control, move);
    }
}

static void open_copy(struct mr_control *control, struct move *move, int64_t start)
{
    const struct mr_meta_partition *partition = partition_of(control, move);
    if (partition == NULL) {
        give_up(control, control->now, move, MR_ERR_UNKNOWN_LOG);
        return;
    }
    const struct mr_meta_topic *topic = mr_meta_topic_by_id(control->meta, &move->topic_id);
    mr_images_log_config(control->images, control->meta, topic, &move->config);
    move->u.open = (struct mr_open_op){
        .topic = mr_str(move->name),
        .topic_id = move->topic_id,
        .partition = (int32_t)move->partition,
        .leader_epoch = partition->leader_epoch,
        .config = &move->config,
        .is_internal = mr_log_config_is_internal(topic->name),
        .is_copy = true,
        .start_offset = start,
    };
    submit(control, move, move->to.storage_core, &move->u.op, MR_STORAGE_OPEN, opened);
}

static void measured(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct move *move = move_of(callback);
    enum mr_err  err = move->u.op.err != MR_OK ? move->u.op.err : move->stat.err;
    if (err != MR_OK || move->is_cancelled) {
        give_up(control, now, move, err);
        return;
    }
    move->log_start = move->stat.log_start_offset;
    move->next = move->log_start;
    read_piece(control, move);
}

static void begin(struct mr_control *control, struct move *move)
{
    const struct mr_meta_partition *partition = partition_of(control, move);
    if (partition == NULL || move->is_cancelled || partition->log_state != MR_META_LOG_OPEN) {
        end(control, move);
        return;
    }
    move->piece = MR_HEAP_NEW(&control->heap, struct piece);
    if (move->piece == NULL) {
        mr_log(control->log, MR_LOG_WARN, "no memory to move a log topic=%s partition=%u", move->name, move->partition);
        end(control, move);
        return;
    }
    move->is_active = true;
    control->log_moves->active++;
    move->from = (struct mr_log_ref){.log_id = partition->log_id, .storage_core = partition->storage_core};
    move->stat = (struct mr_log_stat_entry){.log_id = partition->log_id};
    move->u.stat = (struct mr_log_stat_op){.entry_count = 1, .entries = &move->stat};
    submit(control, move, move->from.storage_core, &move->u.op, MR_STORAGE_LOG_STAT, measured);
}

enum mr_err mr_log_moves_ask(struct mr_control *control, const struct mr_meta_topic *topic, uint32_t partition,
                             uint32_t dir)
{
    const struct mr_meta_partition *is = &topic->partitions[partition];
    struct move                    *earlier = find(control, &topic->id, partition);
    if (control->log_dirs->dirs[dir].is_offline || is->log_state == MR_META_LOG_OFFLINE) {
        return MR_ERR_DIR_OFFLINE;
    }
    if (earlier != NULL && earlier->dir == dir) {
        return MR_OK;
    }
    if (earlier != NULL) {
        earlier->is_cancelled = true;
    }
    if (mr_endpoint_dir(control->endpoints, is->storage_core) == dir) {
        return MR_OK;
    }
    struct move *move = MR_HEAP_NEW(&control->heap, struct move);
    if (move == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    move->topic_id = topic->id;
    move->partition = partition;
    move->dir = dir;
    move->end = -1;
    memcpy(move->name, topic->name.data, (size_t)topic->name.len);
    move->to.storage_core = mr_log_dirs_core(control, dir, topic->name, partition);
    mr_list_add_tail(&control->log_moves->list, &move->link);
    return MR_OK;
}

bool mr_log_moves_copy(const struct mr_control *control, const struct mr_meta_topic *topic, uint32_t partition,
                       uint32_t dir, struct mr_log_ref *ref)
{
    const struct move *move = find(control, &topic->id, partition);
    if (move == NULL || move->dir != dir || move->to.log_id == 0) {
        return false;
    }
    *ref = move->to;
    return true;
}

/* Whether a move of the same partition is before it in the list: two of them at a time would be in each other's way. */
static bool is_behind_another(const struct mr_control *control, const struct move *move)
{
    MR_LIST_EACH(link, &control->log_moves->list) {
        const struct move *other = MR_LIST_ENTRY(link, struct move, link);
        if (other == move) {
            return false;
        }
        if (other->partition == move->partition && mr_uuid_equal(&other->topic_id, &move->topic_id)) {
            return true;
        }
    }
    return false;
}

bool mr_log_moves_turn(struct mr_control *control)
{
    struct mr_log_moves *moves = control->log_moves;
    bool                 is_any = false;
    if (mr_list_is_empty(&moves->list) || !mr_stray_logs_is_over(control)) {
        return false; /* what earlier moves have left is looked for: a copy would pass for that */
    }
    MR_LIST_EACH_SAFE(link, after, &moves->list) {
        struct move *move = MR_LIST_ENTRY(link, struct move, link);
        if (moves->active < ACTIVE_MAX && !move->is_active && !is_behind_another(control, move)) {
            begin(control, move);
            is_any = true;
        }
    }
    return is_any;
}

void mr_log_moves_stop(struct mr_control *control)
{
    MR_LIST_EACH_SAFE(link, after, &control->log_moves->list) {
        struct move *move = MR_LIST_ENTRY(link, struct move, link);
        move->is_cancelled = true;
        if (!move->is_active) {
            end(control, move);
        } else if (move->is_lingering) {
            linger_end(control, move);
        }
    }
}
