/*
 * control_loop: the control thread's turn and the life of the broker. Each phase has one thing it
 * waits for; what comes next is started where that is found to have happened.
 *
 *   RECOVER > LOAD > ELECT > OPEN > LISTEN > SERVING > DRAIN > SETTLE > STOP > STOPPED
 *
 *   RECOVER  each directory's first storage core locks it and replays its journals; the others take their logs over
 *   LOAD     metadata log and quorum-state are read (meta_log.c)
 *   ELECT    the new epoch, activation, registration, the end of the fence are durable
 *   OPEN     every partition of the state is open; then the first image goes out
 *   LISTEN   every data core has bound its listeners
 *   DRAIN    every data core has answered what was open
 *   SETTLE   our own operations have come back
 *   STOP     the storage cores close, core 0 last, with the marker of a clean stop
 */
#include "control_private.h"
#include "metadata/controller.h"
#include "metadata/ctl_brokers.h"
#include "metadata/image.h"
#include "metadata/local_logs.h"
#include "metadata/log_dirs.h"
#include "metadata/log_move.h"
#include "metadata/meta.h"
#include "metadata/meta_checkpoint.h"
#include "metadata/meta_file.h"
#include "metadata/meta_log.h"
#include "metadata/stray_logs.h"
#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"
#include "pieces.h"

#include <stdarg.h>

#define MAIL_PER_TURN 512
#define REAP_PER_TURN 16
#define DUE_PER_TURN  256
#define THINGS_MAX    512

size_t mr_control_bytes(const struct mr_control_plan *plan)
{
    return sizeof(struct mr_control) + 64 + plan->heap_bytes + 64 +
           sizeof(struct mr_timer *) * plan->timers_max + 64;
}

struct mr_control *mr_control_init(const struct mr_control_params *params)
{
    struct mr_control *control = mr_arena_get(params->arena, sizeof *control, 64);
    control->config = params->config;
    control->endpoints = params->endpoints;
    control->port = params->port;
    control->disk = params->disk;
    control->log = params->log;
    control->log_dir = params->log_dir;
    control->cluster_id = params->cluster_id;
    control->directory_id = params->directory_id;
    control->node_id = (int32_t)params->config->node_id;
    mr_heap_init(&control->heap, mr_arena_get_fresh(params->arena, params->plan->heap_bytes, 64),
                 params->plan->heap_bytes);
    mr_timers_init(&control->timers, params->arena, params->plan->timers_max);
    uint64_t words[4];
    memcpy(words, params->random, sizeof words);
    control->hash_key = (struct mr_hash_key){.k0 = words[0] ^ words[3], .k1 = words[1] ^ words[2]};
    control->uuid_keys[0] = (struct mr_hash_key){.k0 = words[0], .k1 = words[1]};
    control->uuid_keys[1] = (struct mr_hash_key){.k0 = words[2], .k1 = words[3]};
    control->uuid_count = params->seed;
    control->phase = MR_PHASE_INIT;
    mr_list_init(&control->pieces);
    control->things_max = THINGS_MAX;

    struct mr_meta   *meta = MR_HEAP_NEW(&control->heap, struct mr_meta);
    struct mr_images *images = MR_HEAP_NEW(&control->heap, struct mr_images);
    bool              has_memory =
        meta != NULL && images != NULL && mr_meta_init(meta, &control->heap, &control->hash_key);
    control->meta = meta;
    control->images = images;
    has_memory = has_memory && mr_log_dirs_init(control, params) && mr_log_moves_init(control) &&
                 mr_meta_log_init(control) && mr_meta_checkpoint_init(control) && mr_local_logs_init(control) &&
                 mr_stray_logs_init(control) && mr_controller_init(control);
    mr_assert(has_memory); /* the plan's least heap is far above what an empty state needs */
    mr_images_init(images, &control->heap, control->config, control->cluster_id, control->node_id,
                   control->endpoints->data_count);
    has_memory = mr_coord_init(control);
    mr_assert(has_memory);
    return control;
}

void mr_control_fail(struct mr_control *control, const char *format, ...)
{
    struct mr_text text;
    va_list        args;
    if (control->phase == MR_PHASE_FAILED ||
        (control->phase == MR_PHASE_DRAIN && control->is_dir_offline)) {
        return; /* the first reason is the reason */
    }
    mr_text_init(&text, control->why, sizeof control->why);
    va_start(args, format);
    mr_text_vfmt(&text, format, args);
    va_end(args);
    control->phase = MR_PHASE_FAILED;
    mr_log(control->log, MR_LOG_ERROR, "%s", control->why);
}

void mr_control_uuid(struct mr_control *control, struct mr_uuid *id)
{
    do {
        uint64_t count = control->uuid_count++;
        uint64_t high = mr_hash_bytes(&control->uuid_keys[0], &count, sizeof count);
        uint64_t low = mr_hash_bytes(&control->uuid_keys[1], &count, sizeof count);
        mr_store_be64(id->bytes, high);
        mr_store_be64(id->bytes + 8, low);
        id->bytes[6] =
            (uint8_t)((id->bytes[6] & 0x0f) | 0x40); /* a random UUID: version 4, variant 2 */
        id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3f) | 0x80);
        /* 111110 in front is '-', which command lines take for an option. */
    } while (id->bytes[0] >> 2 == 62);
}

const struct mr_image *mr_control_image(const struct mr_control *control)
{
    return control->images->current;
}

/* ---- the start ---- */

struct recover_job {
    struct mr_control_op callback;
    struct mr_recover_op op;
    uint32_t             core;
};

static void elected(struct mr_control *control, struct mr_now now);
static void registered(struct mr_control *control, struct mr_now now);
static void unfenced(struct mr_control *control, struct mr_now now);
static void begin_stop(struct mr_control *control, struct mr_now now);

static void loaded(struct mr_control *control, struct mr_now now)
{
    int16_t version = control->meta->metadata_version;
    if (version != 0 && (version < MR_META_VERSION_MIN || version > MR_META_VERSION_MAX)) {
        mr_control_fail(
            control, "the metadata.version of this directory is not served level=%d from=%d to=%d",
            version, MR_META_VERSION_MIN, MR_META_VERSION_MAX);
        return;
    }
    control->phase = MR_PHASE_ELECT;
    mr_meta_log_lead(control, now, elected);
}

static void recover_send(struct mr_control *control, uint32_t core, struct mr_storage_core *found_by);

/* The disk, as against what we or somebody else have written on it. */
static bool is_disk_error(enum mr_err err)
{
    return err == MR_ERR_IO || err == MR_ERR_DIR_OFFLINE;
}

/*
 * A directory's first core has recovered it; its others take over what they own, and only then is any log opened. A
 * directory whose disk fails is left out, but not the first.
 */
static void recovered(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct recover_job  *job = (struct recover_job *)(void *)callback;
    struct mr_recover_op op = job->op;
    uint32_t             core = job->core;
    uint32_t             cores = mr_endpoint_dir_cores(control->endpoints);
    uint32_t             dir = mr_endpoint_dir(control->endpoints, core);
    MR_HEAP_DELETE(&control->heap, job);
    control->waiting--;
    const char *why = op.why[0] != '\0' ? op.why : mr_err_text(op.op.err);
    if (op.op.err != MR_OK && (dir == 0 || !is_disk_error(op.op.err))) {
        mr_control_fail(control, "%s", why);
        return;
    }
    if (op.op.err != MR_OK) {
        mr_log_dirs_fail(control, dir, why);
    } else if (core % cores == 0) {
        mr_log(control->log, MR_LOG_INFO, "directory recovered dir=%s clean=%d logs=%u redone_bytes=%llu",
               control->log_dirs->dirs[dir].path, op.was_clean, op.log_count, (unsigned long long)op.redone_bytes);
        for (uint32_t other = 1; other < cores; other++) {
            recover_send(control, core + other, op.found_by);
        }
    }
    if (control->waiting == 0 && control->phase == MR_PHASE_RECOVER) {
        control->phase = MR_PHASE_LOAD;
        mr_meta_log_load(control, now, loaded);
    }
}

static void recover_send(struct mr_control *control, uint32_t core, struct mr_storage_core *found_by)
{
    struct recover_job *job = MR_HEAP_NEW(&control->heap, struct recover_job);
    if (job == NULL) {
        mr_control_fail(control, "no memory to begin with limit=millrace.control.bytes");
        return;
    }
    job->callback.done = recovered;
    job->core = core;
    job->op.op.kind = MR_STORAGE_RECOVER;
    job->op.found_by = found_by;
    control->waiting++;
    mr_control_submit(control, core, &job->op.op, &job->callback);
}

/* A directory whose id is not known could not even be looked at. */
static void recover_all(struct mr_control *control)
{
    static const struct mr_uuid none;
    const struct mr_log_dirs   *all = control->log_dirs;
    for (uint32_t dir = 0; dir < all->count; dir++) {
        if (dir > 0 && mr_uuid_equal(&all->dirs[dir].id, &none)) {
            mr_log_dirs_fail(control, dir, "it could not be read when the broker started");
        } else {
            recover_send(control, dir * mr_endpoint_dir_cores(control->endpoints), NULL);
        }
    }
}

static void begin(struct mr_control *control, struct mr_now now)
{
    control->began_ns = now.mono_ns;
    mr_log(control->log, MR_LOG_INFO,
           "starting version=%s node=%d cluster=%.*s dir=%s dirs=%u data_cores=%u storage_cores=%u",
           MR_VERSION, control->node_id, (int)control->cluster_id.len, control->cluster_id.data,
           control->log_dir, control->log_dirs->count, control->endpoints->data_count,
           control->endpoints->storage_count);
    control->phase = MR_PHASE_RECOVER;
    recover_all(control);
}

/* Records of the broker's own life, one batch. */
static void commit_own(struct mr_control *control, struct mr_now now, bool is_register,
                       mr_meta_log_done *done)
{
    struct mr_meta_records records;
    struct mr_ctl          ctl = mr_controller_ctl(control);
    mr_meta_records_init(&records, &control->heap);
    if (is_register) {
        mr_ctl_brokers_register(&ctl, control->meta_log->next_offset, &records);
    } else {
        mr_ctl_brokers_unfence(&ctl, &records);
    }
    if (records.is_failed) {
        mr_control_fail(
            control, "this broker cannot be registered: no memory, or a listener or rack that no "
                     "record can carry");
    } else if (mr_meta_log_replay(control, &records, (struct mr_meta_mark){0})) {
        mr_meta_log_commit(control, now, &records, done);
    }
    mr_meta_records_deinit(&records);
}

static void elected(struct mr_control *control, struct mr_now now)
{
    commit_own(control, now, true, registered);
}

static void registered(struct mr_control *control, struct mr_now now)
{
    commit_own(control, now, false, unfenced);
}

/* The state is complete: leaders and their epochs are known, logs can be opened. */
static void unfenced(struct mr_control *control, struct mr_now now)
{
    mr_stray_logs_remember(control);
    (void)mr_local_logs_follow(control, now);
    control->phase = MR_PHASE_OPEN;
}

static unsigned long long ms_since_begin(const struct mr_control *control, struct mr_now now)
{
    return (now.mono_ns - control->began_ns) / MR_NS_PER_MS;
}

static void send_to_data_cores(struct mr_control *control, enum mr_plane_kind kind)
{
    for (uint32_t core = 0; core < control->endpoints->data_count; core++) {
        mr_port_send(control->port, mr_endpoint_data(control->endpoints, core),
                     &(struct mr_plane_msg){.kind = (uint16_t)kind});
    }
    control->waiting = control->endpoints->data_count;
}

static void publish(struct mr_control *control, struct mr_now now)
{
    struct mr_images      *images = control->images;
    const struct mr_image *image = mr_images_publish(images, control->meta);
    if (image == NULL) {
        return;
    }
    for (uint32_t core = 0; core < control->endpoints->data_count; core++) {
        struct mr_plane_msg msg = {.kind = MR_PLANE_IMAGE};
        msg.u.image.image = image;
        msg.u.image.version = image->version;
        mr_port_send(control->port, mr_endpoint_data(control->endpoints, core), &msg);
    }
    if (image->version > 1) {
        mr_coord_image_changed(control, now, images->is_any_deleted);
    }
    images->is_any_deleted = false;
}

/* Every log is open: the cluster can be seen and served. */
static void opened(struct mr_control *control, struct mr_now now)
{
    for (volatile uint32_t spin = 0; mr_bug("slow-start") && spin < 1000000000; spin++) {
    }
    publish(control, now);
    if (control->images->current == NULL) {
        mr_control_fail(control,
                        "no memory for the first image of the cluster (millrace.control.bytes)");
        return;
    }
    mr_coord_start(control, now);
    control->phase = MR_PHASE_LISTEN;
    send_to_data_cores(control, MR_PLANE_LISTEN);
}

/* ---- the stop ---- */

void mr_control_stop(struct mr_control *control, struct mr_now now)
{
    (void)now;
    control->is_stop_wanted = true;
}

/* Whether nothing of a start is half done. */
static bool may_stop(const struct mr_control *control)
{
    return control->phase == MR_PHASE_SERVING ||
           (control->phase == MR_PHASE_OPEN && !mr_meta_log_is_busy(control->meta_log));
}

static void begin_stop(struct mr_control *control, struct mr_now now)
{
    bool was_serving = control->phase == MR_PHASE_SERVING;
    control->began_ns = now.mono_ns;
    mr_log(control->log, MR_LOG_INFO, "stopping requests_open=%u", control->requests_open);
    if (was_serving) {
        control->phase = MR_PHASE_DRAIN;
        mr_coord_stop(control, now);
        send_to_data_cores(control, MR_PLANE_DRAIN);
    } else {
        control->phase = MR_PHASE_SETTLE;
    }
}

struct stop_job {
    struct mr_control_op callback;
    struct mr_stop_op    op;
    uint32_t             core;
};

static void stop_wave(struct mr_control *control, bool is_last);

static void stop_done(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct stop_job *job = (struct stop_job *)(void *)callback;
    bool             is_last = job->op.is_last;
    uint32_t         dir = mr_endpoint_dir(control->endpoints, job->core);
    enum mr_err      err = job->op.op.err;
    MR_HEAP_DELETE(&control->heap, job);
    if (err != MR_OK && dir > 0 && is_disk_error(err)) {
        mr_log_dirs_fail(control, dir, mr_err_text(err)); /* the others still stop cleanly */
    } else if (err != MR_OK) {
        mr_control_fail(control, "a storage core did not stop cleanly why=%s", mr_err_text(err));
    }
    if (control->phase != MR_PHASE_STOP || --control->waiting > 0) {
        return;
    }
    if (!is_last) {
        stop_wave(control, true);
        return;
    }
    control->phase = MR_PHASE_STOPPED;
    mr_log(control->log, MR_LOG_INFO, "stopped cleanly partitions=%llu after_ms=%llu",
           (unsigned long long)control->meta->partition_count, ms_since_begin(control, now));
}

static void stop_send(struct mr_control *control, uint32_t core, bool is_last)
{
    struct stop_job *job = MR_HEAP_NEW(&control->heap, struct stop_job);
    if (job == NULL) {
        mr_control_fail(control, "no memory to stop cleanly limit=millrace.control.bytes");
        return;
    }
    job->callback.done = stop_done;
    job->core = core;
    job->op.op.kind = MR_STORAGE_STOP;
    job->op.is_last = is_last;
    const struct mr_meta_broker *self = mr_meta_broker(control->meta, control->node_id);
    job->op.broker_epoch = self == NULL ? -1 : self->epoch;
    mr_control_submit(control, core, &job->op.op, &job->callback);
}

/* The first cores of the directories that are served, or (not is_last) all their others. */
static void stop_wave(struct mr_control *control, bool is_last)
{
    for (uint32_t core = 0; core < control->endpoints->storage_count; core++) {
        bool is_first = core % mr_endpoint_dir_cores(control->endpoints) == 0;
        uint32_t dir = mr_endpoint_dir(control->endpoints, core);
        if (is_first == is_last && !control->log_dirs->dirs[dir].is_offline) {
            control->waiting++;
            stop_send(control, core, is_last);
        }
    }
}

/* A directory's first core has the lock and leaves the marker: when all others have answered. */
static void stop_storage(struct mr_control *control)
{
    control->phase = MR_PHASE_STOP;
    control->waiting = 0;
    stop_wave(control, false);
    if (control->waiting == 0) {
        stop_wave(control, true);
    }
}

/* ---- phases ---- */

static bool phase_turn(struct mr_control *control, struct mr_now now)
{
    enum mr_control_phase before = control->phase;
    if (control->is_stop_wanted && may_stop(control)) {
        begin_stop(control, now);
    }
    switch (control->phase) {
    case MR_PHASE_INIT:
        begin(control, now);
        break;
    case MR_PHASE_OPEN:
        if (!mr_meta_log_is_busy(control->meta_log) &&
            mr_local_logs_done_to(control->local_logs, control->local_logs->number)) {
            opened(control, now);
        }
        break;
    case MR_PHASE_SETTLE:
        mr_local_logs_stop(control);
        mr_log_moves_stop(control);
        if (control->ops_open == 0 && control->disk->in_flight == 0) {
            stop_storage(control);
        }
        break;
    case MR_PHASE_RECOVER:
    case MR_PHASE_LOAD:
    case MR_PHASE_ELECT:
    case MR_PHASE_LISTEN:
    case MR_PHASE_SERVING:
    case MR_PHASE_DRAIN:
    case MR_PHASE_STOP:
    case MR_PHASE_STOPPED:
    case MR_PHASE_FAILED:
        break;
    }
    return control->phase != before;
}

/*
 * A storage core cannot write any more: its directory is offline. The others go on, but not without the first, which
 * has the metadata log: what is open gets its KAFKA_STORAGE_ERROR from storage or is closed, then the broker ends.
 */
static void offline(struct mr_control *control, struct mr_now now, uint32_t dir)
{
    bool is_starting = control->phase == MR_PHASE_INIT || control->phase == MR_PHASE_RECOVER;
    if (dir > 0 && !is_starting && !mr_bug("fail-together")) {
        mr_log_dirs_fail(control, dir, "a write or a flush has failed");
        return;
    }
    switch (control->phase) {
    case MR_PHASE_LOAD:
    case MR_PHASE_ELECT:
    case MR_PHASE_OPEN:
    case MR_PHASE_LISTEN:
        mr_control_fail(control, "the log directory went offline dir=%s", control->log_dir);
        return;
    case MR_PHASE_SERVING:
        control->is_dir_offline = true;
        begin_stop(control, now);
        return;
    case MR_PHASE_DRAIN:
        control->is_dir_offline = true;
        return;
    case MR_PHASE_INIT:
    case MR_PHASE_RECOVER:
    case MR_PHASE_SETTLE:
    case MR_PHASE_STOP:
    case MR_PHASE_STOPPED:
    case MR_PHASE_FAILED:
        return; /* the operation under way says it */
    }
}

static void drained(struct mr_control *control)
{
    if (control->phase != MR_PHASE_DRAIN || --control->waiting > 0) {
        return;
    }
    control->phase = MR_PHASE_SETTLE;
    if (control->is_dir_offline) {
        mr_control_fail(control, "the log directory is offline, nothing can be served dir=%s", control->log_dir);
    }
}

/* ---- mail ---- */

static void mail(struct mr_control *control, struct mr_now now, const struct mr_plane_msg *msg)
{
    switch ((enum mr_plane_kind)msg->kind) {
    case MR_PLANE_STORAGE_DONE:
        mr_control_storage_done(control, now, msg->u.op);
        return;
    case MR_PLANE_REQUEST:
        mr_control_request_in(control, now, msg->u.forward);
        return;
    case MR_PLANE_REPLY_DONE:
        mr_control_reply_done(control, msg->u.cookie);
        return;
    case MR_PLANE_CONN_CLOSED:
        return; /* nothing here belongs to a connection: members live by their sessions */
    case MR_PLANE_IMAGE_DONE:
        mr_images_used(control->images, msg->from, msg->u.image.version);
        return;
    case MR_PLANE_LISTENING:
        if (msg->u.err != MR_OK) {
            mr_control_fail(control, "a listener cannot be opened core=%u why=%s", msg->from,
                            mr_err_text((enum mr_err)msg->u.err));
        } else if (control->phase == MR_PHASE_LISTEN && --control->waiting == 0) {
            control->phase = MR_PHASE_SERVING;
            mr_log(control->log, MR_LOG_INFO,
                   "serving listeners=%.*s topics=%u partitions=%llu epoch=%d offset=%lld "
                   "after_ms=%llu",
                   (int)control->config->advertised_listeners.len,
                   control->config->advertised_listeners.data, control->images->topic_count,
                   (unsigned long long)control->meta->partition_count, control->meta_log->epoch,
                   (long long)control->meta->offset, ms_since_begin(control, now));
        }
        return;
    case MR_PLANE_DRAINED:
        drained(control);
        return;
    case MR_PLANE_OFFLINE:
        offline(control, now, mr_endpoint_dir(control->endpoints, msg->from - mr_endpoint_storage(control->endpoints, 0)));
        return;
    case MR_PLANE_STORAGE_OP:
    case MR_PLANE_RELEASE:
    case MR_PLANE_WATCH:
    case MR_PLANE_UNWATCH:
    case MR_PLANE_MOVED:
    case MR_PLANE_REPLY:
    case MR_PLANE_IMAGE:
    case MR_PLANE_LISTEN:
    case MR_PLANE_DRAIN:
        break;
    }
    mr_unreachable("a message that is not for control");
}

/* ---- the turn ---- */

bool mr_control_turn(struct mr_control *control, struct mr_now now)
{
    struct mr_plane_msg msg;
    struct mr_disk_op  *done[REAP_PER_TURN];
    bool                is_any = false;
    control->now = now;
    control->work = 0;
    for (uint32_t count = 0; count < MAIL_PER_TURN && !mr_control_has_worked(control) &&
                             mr_port_receive(control->port, &msg);
         count++) {
        mail(control, now, &msg);
        is_any = true;
    }
    uint32_t reaped = mr_disk_reap(control->disk, done, REAP_PER_TURN);
    for (uint32_t index = 0; index < reaped; index++) {
        mr_meta_file_reaped(control, now, done[index]);
        is_any = true;
    }
    struct mr_timer *timer = NULL;
    for (uint32_t count = 0;
         count < DUE_PER_TURN && !mr_control_has_worked(control) && (timer = mr_timers_due(&control->timers, now.mono_ns)) != NULL;
         count++) {
        struct mr_control_timer *due = MR_TIMER_ENTRY(timer, struct mr_control_timer, timer);
        due->fire(control, now, due);
        is_any = true;
    }
    if (control->phase == MR_PHASE_FAILED) {
        mr_controller_abandon(control);
        mr_pieces_abandon(control);
        return is_any;
    }
    if (control->phase == MR_PHASE_STOPPED) {
        return is_any;
    }
    is_any |= mr_pieces_turn(control, now);
    /* First what waits for the metadata log: the storage cores are told to stop when nothing of that is left. */
    is_any |= mr_controller_turn(control, now);
    is_any |= mr_meta_checkpoint_turn(control, now);
    is_any |= phase_turn(control, now);
    is_any |= mr_local_logs_turn(control, now);
    if (control->phase >= MR_PHASE_LISTEN && control->phase <= MR_PHASE_DRAIN) {
        if (!mr_meta_log_is_busy(control->meta_log)) {
            publish(control, now);
            is_any |= mr_controller_settle(control);
        }
        if (control->phase == MR_PHASE_SERVING) {
            is_any |= mr_stray_logs_turn(control, now);
            is_any |= mr_log_moves_turn(control);
        }
        is_any |= mr_coord_turn(control, now);
    }
    return is_any;
}

uint64_t mr_control_deadline_ns(const struct mr_control *control)
{
    if (control->phase == MR_PHASE_FAILED || control->phase == MR_PHASE_STOPPED) {
        return MR_NEVER;
    }
    if (control->phase == MR_PHASE_INIT || (control->is_stop_wanted && may_stop(control))) {
        return 0;
    }
    return mr_earlier(mr_earlier(mr_timers_next_ns(&control->timers), mr_coord_deadline_ns(control)),
                      mr_meta_checkpoint_deadline_ns(control));
}

enum mr_control_state mr_control_state(const struct mr_control *control)
{
    switch (control->phase) {
    case MR_PHASE_INIT:
    case MR_PHASE_RECOVER:
    case MR_PHASE_LOAD:
    case MR_PHASE_ELECT:
    case MR_PHASE_OPEN:
    case MR_PHASE_LISTEN:
        return MR_CONTROL_STARTING;
    case MR_PHASE_SERVING:
        return MR_CONTROL_SERVING;
    case MR_PHASE_DRAIN:
    case MR_PHASE_SETTLE:
    case MR_PHASE_STOP:
        return MR_CONTROL_STOPPING;
    case MR_PHASE_STOPPED:
        return MR_CONTROL_STOPPED;
    case MR_PHASE_FAILED:
        return MR_CONTROL_FAILED;
    }
    mr_unreachable("phase");
}

const char *mr_control_why(const struct mr_control *control)
{
    return control->why;
}
