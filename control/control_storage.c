/*
 * control_storage: storage operations of the control thread: one append, one read, or any operation
 * of a caller, each with the function that runs when it comes back.
 *
 * The operation lives in heap memory from the call to its answer; so do an append's bytes and a
 * read's room. Pages lent by a read are released as soon as its function has returned.
 */
#include "control_private.h"

#define READ_SPANS 128

void mr_control_submit(struct mr_control *control, uint32_t storage_core, struct mr_storage_op *op,
                       struct mr_control_op *callback)
{
    op->user = callback;
    op->err = MR_OK;
    control->ops_open++;
    mr_port_send(control->port, mr_endpoint_storage(control->endpoints, storage_core),
                 &(struct mr_plane_msg){.kind = MR_PLANE_STORAGE_OP, .u.op = op});
}

void mr_control_storage_done(struct mr_control *control, struct mr_now now,
                             struct mr_storage_op *op)
{
    struct mr_control_op *callback = op->user;
    mr_assert(control->ops_open > 0);
    control->ops_open--;
    callback->done(control, now, callback);
}

/* ---- append ---- */

struct append_job {
    struct mr_control_op    callback; /* first: callback.user is the caller's */
    mr_control_append_done *done;
    struct mr_append_op     op;
    struct mr_append_entry  entry;
    struct mr_span          span;
    size_t                  whole;
    uint8_t                 bytes[];
};

static void append_finish(struct mr_control *control, struct mr_now now,
                          struct mr_control_op *callback)
{
    struct append_job      *job = (struct append_job *)(void *)callback;
    enum mr_err             err = job->op.op.err != MR_OK ? job->op.op.err : job->entry.err;
    int64_t                 base_offset = job->entry.base_offset;
    mr_control_append_done *done = job->done;
    void                   *user = callback->user;
    mr_heap_free(&control->heap, job, job->whole);
    done(control, now, user, err, base_offset);
}

static struct append_job *job_of(uint8_t *room)
{
    return room == NULL ? NULL : (struct append_job *)(void *)(room - offsetof(struct append_job, bytes));
}

uint8_t *mr_control_room(struct mr_control *control, uint8_t *room, uint32_t size)
{
    size_t             whole = sizeof(struct append_job) + size;
    struct append_job *old = job_of(room);
    struct append_job *job = mr_heap_resize(&control->heap, old, old == NULL ? 0 : old->whole, whole);
    if (job == NULL) {
        return NULL;
    }
    job->whole = whole;
    return job->bytes;
}

void mr_control_room_free(struct mr_control *control, uint8_t *room)
{
    struct append_job *job = job_of(room);
    mr_heap_free(&control->heap, job, job->whole);
}

static void append(struct mr_control *control, struct mr_log_ref log, uint8_t *room, uint32_t bytes,
                   int32_t leader_epoch, enum mr_append_origin origin, int16_t txn_version,
                   mr_control_append_done *done, void *user)
{
    struct append_job *job = job_of(room);
    *job = (struct append_job){
        .callback = {.done = append_finish, .user = user},
        .done = done,
        .whole = job->whole,
        .span = {.data = job->bytes, .len = bytes},
        .entry = {.log_id = log.log_id,
                  .batch = {.spans = &job->span, .span_count = 1, .bytes = bytes},
                  .leader_epoch = leader_epoch,
                  .origin = origin,
                  .txn_version = txn_version,
                  .base_offset = -1},
        .op = {.op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &job->entry},
    };
    mr_control_submit(control, log.storage_core, &job->op.op, &job->callback);
}

void mr_control_append_room(struct mr_control *control, struct mr_log_ref log, uint8_t *room,
                            uint32_t bytes, int32_t leader_epoch, enum mr_append_origin origin,
                            mr_control_append_done *done, void *user)
{
    append(control, log, room, bytes, leader_epoch, origin, 0, done, user);
}

bool mr_control_append(struct mr_control *control, struct mr_log_ref log, const void *batch,
                       uint32_t bytes, int32_t leader_epoch, enum mr_append_origin origin,
                       mr_control_append_done *done, void *user)
{
    uint8_t *room = mr_control_room(control, NULL, bytes);
    if (room == NULL) {
        return false;
    }
    memcpy(room, batch, bytes);
    append(control, log, room, bytes, leader_epoch, origin, 0, done, user);
    return true;
}

bool mr_control_append_marker(struct mr_control *control, struct mr_log_ref log,
                              int32_t leader_epoch, const struct mr_control_marker *marker,
                              struct mr_now now, mr_control_append_done *done, void *user)
{
    uint8_t *room = mr_control_room(control, NULL, MR_MARKER_BYTES_MAX);
    if (room == NULL) {
        return false;
    }
    uint32_t len = mr_marker_build(room, marker->producer_id, marker->producer_epoch,
                                   &marker->marker, now.unix_ms);
    append(control, log, room, len, leader_epoch, MR_APPEND_COORDINATOR, marker->txn_version, done,
           user);
    return true;
}

/* ---- read ---- */

struct read_job {
    struct mr_control_op  callback;
    mr_control_read_done *done;
    uint32_t              storage_core;
    struct mr_read_op     op;
    struct mr_read_entry  entry;
    struct mr_lent_span   spans[READ_SPANS];
    size_t                copy_bytes; /* 0: no copy buffer */
};

void mr_control_release(struct mr_control *control, uint32_t storage_core, const struct mr_lent_span *spans,
                        uint32_t count)
{
    struct mr_plane_msg msg = {.kind = MR_PLANE_RELEASE};
    uint32_t            to = mr_endpoint_storage(control->endpoints, storage_core);
    for (uint32_t index = 0; index < count; index++) {
        if (spans[index].page == MR_PAGE_NONE) {
            continue;
        }
        msg.u.pages[msg.count++] = spans[index].page;
        if (msg.count == sizeof msg.u.pages / sizeof msg.u.pages[0]) {
            mr_port_send(control->port, to, &msg);
            msg.count = 0;
        }
    }
    if (msg.count > 0) {
        mr_port_send(control->port, to, &msg);
    }
}

static void read_finish(struct mr_control *control, struct mr_now now,
                        struct mr_control_op *callback)
{
    struct read_job              *job = (struct read_job *)(void *)callback;
    struct mr_control_read_result result = {
        .err = job->op.op.err != MR_OK ? job->op.op.err : job->entry.err,
        .len = job->entry.bytes,
        .high_watermark = job->entry.high_watermark,
        .log_start_offset = job->entry.log_start_offset,
    };
    uint8_t *joined = NULL;
    if (result.err != MR_OK) {
        result.len = 0;
    } else if (result.len > 0 && job->entry.span_count == 1) {
        result.bytes = job->spans[job->entry.span_first].span.data;
        mr_assert(job->spans[job->entry.span_first].span.len == result.len);
    } else if (result.len > 0) {
        joined = mr_heap_try(&control->heap, result.len);
        if (joined == NULL) {
            result.err = MR_ERR_NO_MEMORY;
            result.len = 0;
        } else {
            uint32_t at = 0;
            for (uint32_t index = 0; index < job->entry.span_count; index++) {
                const struct mr_span *span = &job->spans[job->entry.span_first + index].span;
                mr_assert(span->len <= result.len - at);
                memcpy(joined + at, span->data, span->len);
                at += span->len;
            }
            mr_assert(at == result.len);
            result.bytes = joined;
        }
    }
    uint32_t joined_bytes = result.len;
    job->done(control, now, callback->user, &result);
    mr_heap_free(&control->heap, joined, joined_bytes);
    mr_control_release(control, job->storage_core, job->spans, job->op.span_count);
    mr_heap_free(&control->heap, job->op.copy_buffer, job->copy_bytes);
    MR_HEAP_DELETE(&control->heap, job);
}

bool mr_control_read(struct mr_control *control, struct mr_log_ref log, int64_t offset,
                     uint32_t bytes_max, mr_control_read_done *done, void *user)
{
    struct read_job *job = MR_HEAP_NEW(&control->heap, struct read_job);
    if (job == NULL) {
        return false;
    }
    /* Small spans are copied here by storage, so that they pin no page; without it they are
     * lent. */
    job->copy_bytes = 64 * 1024;
    job->op.copy_buffer = mr_heap_try(&control->heap, job->copy_bytes);
    if (job->op.copy_buffer == NULL) {
        job->copy_bytes = 0;
    }
    job->callback = (struct mr_control_op){.done = read_finish, .user = user};
    job->done = done;
    job->storage_core = log.storage_core;
    job->entry = (struct mr_read_entry){
        .log_id = log.log_id,
        .offset = offset,
        .bytes_max = bytes_max,
        .current_leader_epoch = -1,
        .is_first_batch_whole = true,
    };
    job->op.op.kind = MR_STORAGE_READ;
    job->op.bytes_max = bytes_max;
    job->op.isolation = MR_READ_UNCOMMITTED;
    job->op.entry_count = 1;
    job->op.entries = &job->entry;
    job->op.spans = job->spans;
    job->op.span_max = READ_SPANS;
    job->op.copy_max = (uint32_t)job->copy_bytes;
    mr_control_submit(control, log.storage_core, &job->op.op, &job->callback);
    return true;
}
