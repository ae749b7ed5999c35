/*
 * control_private: the inside of the control thread, shared by control/metadata/, control/admin/
 * and control/coord/; nobody else includes it.
 *
 * control_loop.c owns the struct, the mail and the life of the broker. A request from a data core
 * becomes a struct mr_request (its message decoded into memory of its own) and goes to the handler
 * of its API key; the handler answers with mr_control_reply now or in a later turn. Storage
 * operations are sent with a function that runs when the answer is there.
 *
 *   REQUEST > mr_request > handler --> mr_control_append --> done function > mr_control_reply
 *                             \--> parked in a timer, a group, the metadata queue ...
 *
 * Everything here runs on the control thread, inside a turn; nothing blocks.
 */
#ifndef MILLRACE_CONTROL_PRIVATE_H
#define MILLRACE_CONTROL_PRIVATE_H

#include "millrace/base/hash.h"
#include "millrace/base/heap.h"
#include "millrace/base/list.h"
#include "millrace/base/table.h"
#include "millrace/base/timer.h"
#include "millrace/batch.h"
#include "millrace/control.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "millrace/metadata.h"
#include "millrace/storage.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CONTROL_KEYS_MAX 96 /* API keys are below this */

struct mr_coord; /* control/coord/ */
struct mr_meta;  /* control/metadata/ */
struct mr_meta_log;
struct mr_images;
struct mr_local_logs;
struct mr_controller;
struct mr_stray_logs;
struct mr_request;

/* ---- Requests ---- */

/* Begins the work of one request. The message is request->message; ends in mr_control_reply,
 * _silent or _close, exactly one of them, now or later. */
typedef void mr_control_handler(struct mr_control *control, struct mr_now now,
                                struct mr_request *request);

struct mr_request_block; /* memory taken by mr_request_memory */
struct mr_reply_box;     /* an encoded answer */
struct mr_pieces;        /* pieces.h: it is served in windows */

struct mr_request {
    struct mr_list           link; /* whoever parks the request may use it; in no list otherwise */
    struct mr_forward       *forward; /* the data core's: api key and version, client id, host */
    void                    *message; /* struct mr_<api>_request, valid until the answer */
    void                    *user;    /* the handler's */
    struct mr_arena          scratch; /* what the message was decoded into */
    size_t                   scratch_bytes;
    struct mr_request_block *blocks;
    struct mr_reply_box     *reply;     /* prepared */
    bool                     is_broken; /* prepared, but there is no answer: close */
    uint64_t                 number;    /* the metadata queue's: what the answer waits for */
    uint64_t                 arrived_ns;
    struct mr_pieces        *pieces; /* NULL: it is served as a whole */
};

/* Cleared memory that lives until the request is answered; NULL when the heap is exhausted. */
void *mr_request_memory(struct mr_control *control, struct mr_request *request, size_t bytes);

#define MR_REQUEST_NEW(control_, request_, type_, count_) \
    ((type_ *)mr_request_memory((control_), (request_), sizeof(type_) * (size_t)(count_)))

/* Encode `response`, a struct mr_<api>_response, in the request's version and send it. The
 * request and its memory are gone afterwards; the response is not needed any more either. */
void mr_control_reply(struct mr_control *control, struct mr_request *request, const void *response);

/* The same in two steps: the first needs `response` and what it points to, the second needs
 * nothing. */
void mr_control_reply_prepare(struct mr_control *control, struct mr_request *request,
                              const void *response);
void mr_control_reply_send(struct mr_control *control, struct mr_request *request);

/* Text that lives until the request is answered; cut at 512 bytes, null when there is no memory. */
__attribute__((format(printf, 3, 4))) struct mr_str mr_request_text(struct mr_control *control,
                                                                    struct mr_request *request,
                                                                    const char        *format, ...);

/* End a request that gets no answer, or whose connection is to be closed. */
void mr_control_reply_silent(struct mr_control *control, struct mr_request *request);
void mr_control_reply_close(struct mr_control *control, struct mr_request *request);

/* For pieces.c: give the handler's memory back between two windows; room for a joined answer (NULL: no memory). */
void                 mr_request_forget(struct mr_control *control, struct mr_request *request);
struct mr_reply_box *mr_control_box(struct mr_control *control, size_t bytes);
uint8_t             *mr_control_box_bytes(struct mr_reply_box *box);

/* Say who handles an API key; at init only. */
void mr_control_serve(struct mr_control *control, int16_t api_key, mr_control_handler *handler);

/* ---- Storage ---- */

/* Where a log is: from struct mr_image_partition. */
struct mr_log_ref {
    uint64_t log_id;
    uint32_t storage_core;
};

/* The answer to an append: on MR_OK the records are durable by the log's ack mode. */
typedef void mr_control_append_done(struct mr_control *control, struct mr_now now, void *user,
                                    enum mr_err err, int64_t base_offset);

/*
 * Append one batch (made by mr_batch_end), with acks -1. The bytes are copied. Appends to one log
 * are assigned offsets and answered in the order of the calls.
 *
 *   leader_epoch   of the partition as the image says it; -1: not checked
 *
 * False: no memory, nothing was sent and `done` will not run.
 */
bool mr_control_append(struct mr_control *control, struct mr_log_ref log, const void *batch,
                       uint32_t bytes, int32_t leader_epoch, enum mr_append_origin origin,
                       mr_control_append_done *done, void *user);

/*
 * The same in two steps, so that what was decided can always be written: room for a batch of `size` bytes (`room` not NULL:
 * more room, with what was in it; NULL: no memory, and `room` stays as it was), and the append of the first `bytes` in
 * it, which takes the room and cannot fail.
 */
uint8_t *mr_control_room(struct mr_control *control, uint8_t *room, uint32_t size);
void     mr_control_room_free(struct mr_control *control, uint8_t *room);
void     mr_control_append_room(struct mr_control *control, struct mr_log_ref log, uint8_t *room,
                                uint32_t bytes, int32_t leader_epoch, enum mr_append_origin origin,
                                mr_control_append_done *done, void *user);

/* A marker: the control batch that ends a transaction in one log. */
struct mr_control_marker {
    int64_t          producer_id;
    int16_t          producer_epoch;
    int16_t          txn_version; /* 2: its epoch is newer than that of the batches */
    struct mr_marker marker;
};

bool mr_control_append_marker(struct mr_control *control, struct mr_log_ref log,
                              int32_t leader_epoch, const struct mr_control_marker *marker,
                              struct mr_now now, mr_control_append_done *done, void *user);

/* coord_mark.c: append a marker to a partition; one of __consumer_offsets goes through the coordinator of groups. False: not now,
 * nothing was sent. */
bool mr_control_mark(struct mr_control *control, struct mr_str topic, uint32_t partition,
                     struct mr_log_ref log, int32_t leader_epoch,
                     const struct mr_control_marker *marker, struct mr_now now,
                     mr_control_append_done *done, void *user);

/* What was read: whole batches, in one piece, valid until the function returns. */
struct mr_control_read_result {
    enum mr_err    err;
    const uint8_t *bytes;
    uint32_t       len; /* 0: the end of the log */
    int64_t        high_watermark;
    int64_t        log_start_offset;
};

typedef void mr_control_read_done(struct mr_control *control, struct mr_now now, void *user,
                                  const struct mr_control_read_result *result);

/* Read from `offset` on, at most about bytes_max, at least one batch. False: no memory. */
bool mr_control_read(struct mr_control *control, struct mr_log_ref log, int64_t offset,
                     uint32_t bytes_max, mr_control_read_done *done, void *user);

/* Give back what a read has lent. */
void mr_control_release(struct mr_control *control, uint32_t storage_core, const struct mr_lent_span *spans,
                        uint32_t count);

/*
 * Any other operation: `op` is in the caller's heap memory, embedded first in something of his,
 * with kind filled in; it comes back to `done`, which frees it.
 */
struct mr_control_op {
    void (*done)(struct mr_control *control, struct mr_now now, struct mr_control_op *op);
    void *user;
};
void mr_control_submit(struct mr_control *control, uint32_t storage_core, struct mr_storage_op *op,
                       struct mr_control_op *callback);

/* ---- Timers ---- */

/* A deadline with a function; set with mr_timer_set(&control->timers, &t->timer, deadline_ns),
 * cancelled with mr_timer_cancel. The plan's timers_max bounds how many can be set
 * (mr_control_has_timer_room). */
struct mr_control_timer {
    struct mr_timer timer;
    void (*fire)(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer);
    void *user;
};

/* ---- What the metadata side does for others ---- */

/* For control_loop.c: mail. */
void mr_control_request_in(struct mr_control *control, struct mr_now now,
                           struct mr_forward *forward);
void mr_control_reply_done(struct mr_control *control, void *cookie);
void mr_control_storage_done(struct mr_control *control, struct mr_now now,
                             struct mr_storage_op *op);

/* Create __consumer_offsets when it is absent and nobody does yet (FindCoordinator). Returns at
 * once. */
void mr_control_want_offsets_topic(struct mr_control *control, struct mr_now now);
void mr_control_want_transactions_topic(struct mr_control *control, struct mr_now now);

/* The newest published image; NULL before the first. Valid until the end of the turn. */
const struct mr_image *mr_control_image(const struct mr_control *control);

/* A random UUID whose text does not begin with '-', as Kafka makes them. */
void mr_control_uuid(struct mr_control *control, struct mr_uuid *id);

/* ---- The thread ---- */

enum mr_control_phase {
    MR_PHASE_INIT,
    MR_PHASE_RECOVER, /* storage core 0 recovers the directory */
    MR_PHASE_LOAD,    /* quorum-state, bootstrap snapshot, __cluster_metadata-0 */
    MR_PHASE_ELECT,   /* the new epoch: quorum-state, LEADER_CHANGE, registration */
    MR_PHASE_OPEN,    /* every partition of the image */
    MR_PHASE_LISTEN,  /* data cores bind their listeners */
    MR_PHASE_SERVING,
    MR_PHASE_DRAIN,  /* data cores answer what is open */
    MR_PHASE_SETTLE, /* our own appends come back */
    MR_PHASE_STOP,   /* storage cores close */
    MR_PHASE_STOPPED,
    MR_PHASE_FAILED,
};

struct mr_control {
    /* given at init */
    const struct mr_config    *config;
    const struct mr_endpoints *endpoints;
    struct mr_port            *port;
    struct mr_disk            *disk;
    struct mr_log             *log;
    const char                *log_dir;
    struct mr_str              cluster_id;
    struct mr_uuid             directory_id; /* of log_dir, which has the metadata log */
    int32_t                    node_id;

    /* for everybody */
    struct mr_heap     heap;
    struct mr_timers   timers;   /* of struct mr_control_timer only */
    struct mr_hash_key hash_key; /* for tables whose keys strangers choose */
    struct mr_now      now;      /* of this turn */

    /* the parts */
    struct mr_meta       *meta;       /* metadata/meta.h: the replicated state */
    struct mr_meta_log   *meta_log;   /* metadata/meta_log.h */
    struct mr_meta_checkpoint *checkpoint; /* metadata/meta_checkpoint.h */
    struct mr_images     *images;     /* metadata/image.h */
    struct mr_local_logs *local_logs; /* metadata/local_logs.h */
    struct mr_controller *controller; /* metadata/controller.h */
    struct mr_stray_logs *stray_logs; /* metadata/stray_logs.h */
    struct mr_log_dirs   *log_dirs;   /* metadata/log_dirs.h */
    struct mr_log_moves  *log_moves;  /* metadata/log_move.h */
    struct mr_coord      *coord;     /* of groups */
    struct mr_coord      *txn_coord; /* of transactions */
    mr_control_handler   *handlers[MR_CONTROL_KEYS_MAX];

    /* control_loop.c's own */
    enum mr_control_phase phase;
    uint64_t              began_ns; /* the start; when it stops: the stop */
    bool                  is_stop_wanted;
    bool                  is_dir_offline; /* the log directory failed: answer what is open, then end */
    char                  why[256];
    struct mr_hash_key    uuid_keys[2];
    uint64_t              uuid_count;
    uint32_t              waiting;  /* data or storage cores whose answer the phase waits for */
    uint32_t              ops_open; /* storage operations not answered */
    uint32_t              requests_open;
    size_t                scratch_open; /* bytes that decoded messages hold */
    uint64_t              work;         /* of this turn, see MR_CONTROL_WORK */
    struct mr_list        pieces;       /* requests whose next window waits for a turn */
    uint32_t              things_max;   /* a request that names more is served in pieces */
    struct mr_arena      *arena;
};

/* Stop everything with a reason (constant text plus key=value); the broker exits 1. */
__attribute__((format(printf, 2, 3))) void mr_control_fail(struct mr_control *control,
                                                           const char        *format, ...);

/*
 * The work of a turn is counted in bytes of answers and of records that it makes. A turn that has made this many leaves mail,
 * timers and windows of long requests (pieces.h) to the next one.
 */
#define MR_CONTROL_WORK (64u << 10)

static inline bool mr_control_has_worked(const struct mr_control *control)
{
    return control->work >= MR_CONTROL_WORK;
}

static inline bool mr_control_has_timer_room(const struct mr_control *control)
{
    return control->timers.count < control->timers.capacity && !mr_fail(MR_FAIL_timers);
}

/* ---- The coordinators (control/coord/): what control_loop.c calls ---- */

/* Makes control->coord and says with mr_control_serve what it handles; nothing is sent. False:
 * no memory. */
bool mr_coord_init(struct mr_control *control);

/* The first image is published: begin to load the partitions of __consumer_offsets that we lead. */
void mr_coord_start(struct mr_control *control, struct mr_now now);

/* After each publication. `is_any_deleted`: topics are not in the image any more. Loads the
 * partitions of __consumer_offsets when they have just been opened. */
void mr_coord_image_changed(struct mr_control *control, struct mr_now now, bool is_any_deleted);

/* A slice of work at the end of each turn (batches of this turn's appends). Whether there was
 * work. */
bool mr_coord_turn(struct mr_control *control, struct mr_now now);

/* When the coordinators want a turn besides timers and mail; MR_NEVER: never. */
uint64_t mr_coord_deadline_ns(const struct mr_control *control);

/* The broker stops: answer everything that is parked (COORDINATOR_NOT_AVAILABLE), and refuse
 * from now on. */
void mr_coord_stop(struct mr_control *control, struct mr_now now);

#endif
