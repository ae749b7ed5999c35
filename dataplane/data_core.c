/*
 * data_core: one turn: poll, mail in, deadlines, sessions, transmit. Nothing else is here.
 *
 *   transport events > sessions marked runnable
 *   mail             > requests resumed, fetches moved, a new image
 *   timers           > idle connections, fetches that have waited long enough
 *   encode           > batches into their topics' codecs, for so much time
 *   runnable         > frames into requests, requests to handlers, replies out
 *   transport again  > one send and one receive per connection that has changed
 */
#include "data_core.h"

#include "broker/dispatch.h"
#include "broker/forward.h"

#define DRAIN_MS      500
#define STARVED_SLICE 64u

/* mr_batch_check's working memory: one decompressed batch. Larger ones are refused. */
#define CHECK_BYTES   (16u << 20)

static uint32_t requests_max(const struct mr_data_plan *plan)
{
    /* Every connection may have one open, or a long poll could keep others from being served. */
    uint32_t least = plan->connections_max + 64;
    return plan->requests_max > least ? plan->requests_max : least;
}

static size_t scratch_bytes(const struct mr_data_plan *plan)
{
    /* Requests that wait hold none, so a few hundred large ones at a time are plenty. */
    size_t bytes = (size_t)plan->requests_max * plan->request_scratch_bytes;
    return bytes < (64u << 20) ? 64u << 20 : bytes > (512u << 20) ? 512u << 20 : bytes;
}

static uint32_t piece_count(const struct mr_data_plan *plan)
{
    return (uint32_t)(plan->receive_bytes / MR_NET_WINDOW * 4) + plan->connections_max + 256;
}

size_t mr_data_core_bytes(const struct mr_data_plan *plan)
{
    return sizeof(struct mr_data_core) + 65536 + CHECK_BYTES + mr_encode_memory() +
           (size_t)requests_max(plan) * MR_REQUEST_BYTES +
           (size_t)plan->connections_max * (sizeof(struct mr_session) + 64) +
           (size_t)piece_count(plan) * (sizeof(struct mr_piece) + 16) +
           (size_t)(plan->connections_max + requests_max(plan) + 16) * sizeof(void *) +
           mr_scratch_memory(scratch_bytes(plan)) + mr_limits_memory(plan->connections_max) +
           mr_fetch_sessions_memory(plan) + mr_purgatory_memory(plan);
}

struct mr_data_core *mr_data_core_init(const struct mr_data_params *params)
{
    struct mr_arena *arena = params->arena;
    struct mr_data_core *core = MR_ARENA_GET(arena, struct mr_data_core, 1);
    core->plan = *params->plan;
    core->config = params->config;
    core->endpoints = params->endpoints;
    core->index = params->core;
    core->port = params->port;
    core->transport = params->transport;
    core->log = params->log;
    core->trace = params->trace;
    core->prng = (struct mr_prng){.state = params->seed};
    mr_list_init(&core->session_list);
    mr_list_init(&core->runnable);
    mr_list_init(&core->starved);
    mr_list_init(&core->creating);
    core->requests_max = requests_max(&core->plan);
    mr_timers_init(&core->timers, arena, core->plan.connections_max + core->requests_max + 16);
    mr_pool_init(&core->requests, arena, MR_REQUEST_BYTES, core->requests_max, 64);
    mr_pool_init(&core->sessions, arena, sizeof(struct mr_session), core->plan.connections_max, 64);
    mr_pool_init(&core->pieces, arena, sizeof(struct mr_piece), piece_count(&core->plan), 16);
    mr_scratch_init(&core->scratch, arena, scratch_bytes(&core->plan));
    mr_arena_init(&core->check, mr_arena_get_fresh(arena, CHECK_BYTES, 4096), CHECK_BYTES);
    mr_encode_init(core, arena);
    core->drain_timer.kind = MR_DATA_TIMER_DRAIN;
    mr_intake_init(core);
    mr_limits_init(core, arena);
    mr_purgatory_init(core, arena);
    mr_relief_init(core);
    mr_fetch_sessions_init(core, arena);
    return core;
}

void mr_data_core_release(struct mr_data_core *core, const struct mr_lent *lent)
{
    struct mr_plane_msg msg;
    const uint32_t max = sizeof msg.u.pages / sizeof msg.u.pages[0];
    uint32_t count = 0;
    for (; lent != NULL; lent = lent->next) {
        uint32_t to = mr_endpoint_storage(core->endpoints, lent->storage_core);
        msg = (struct mr_plane_msg){.kind = MR_PLANE_RELEASE};
        for (uint32_t index = 0; index < lent->span_count; index++) {
            if (lent->spans[index].page == MR_PAGE_NONE) {
                continue;
            }
            msg.u.pages[msg.count++] = lent->spans[index].page;
            count++;
            if (msg.count == max) {
                mr_port_send(core->port, to, &msg);
                msg.count = 0;
            }
        }
        if (msg.count > 0) {
            mr_port_send(core->port, to, &msg);
        }
    }
    if (count > 0) {
        mr_trace(core->trace, MR_EVENT_pages_released, count, 0);
    }
}

/* ---- transport ---- */

static void take_event(struct mr_data_core *core, const struct mr_net_event *event)
{
    struct mr_session *session = event->conn->user;
    switch (event->kind) {
    case MR_NET_OPENED:
        if (mr_session_open(core, event->conn) == NULL) {
            core->transport->ops->close(event->conn, MR_ERR_NO_MEMORY);
        }
        return;
    case MR_NET_DATA:
        if (session == NULL) {
            core->transport->ops->release(core->transport, event->buffer);
            return;
        }
        mr_session_input(session, event->span, event->buffer);
        return;
    case MR_NET_SENT:
        if (session != NULL) {
            mr_session_sent(session, event->token);
        }
        return;
    case MR_NET_ROOM:
        if (session != NULL) {
            mr_session_room(session);
        }
        return;
    case MR_NET_CLOSED:
        if (session != NULL) {
            mr_session_closed(session, event->err);
        }
        return;
    }
}

/* ---- mail ---- */

static void take_image(struct mr_data_core *core, const struct mr_plane_msg *msg)
{
    struct mr_plane_msg done = {.kind = MR_PLANE_IMAGE_DONE, .u.image = msg->u.image};
    core->image = msg->u.image.image;
    mr_limits_follow(core);
    mr_port_send(core->port, msg->from, &done);
    mr_purgatory_wake_all(core, false);
}

static void take_listen(struct mr_data_core *core, const struct mr_plane_msg *msg)
{
    struct mr_plane_msg done = {.kind = MR_PLANE_LISTENING};
    enum mr_err err = core->transport->ops->listen(core->transport);
    if (err == MR_OK) {
        core->life = MR_DATA_SERVING;
    }
    done.u.err = (int32_t)err;
    mr_port_send(core->port, msg->from, &done);
}

static void take_drain(struct mr_data_core *core)
{
    if (core->life == MR_DATA_DRAINING || core->life == MR_DATA_DRAINED) {
        return;
    }
    core->life = MR_DATA_DRAINING;
    core->transport->ops->stop_listening(core->transport);
    mr_timer_set(&core->timers, &core->drain_timer, mr_deadline_ms(core->now.mono_ns, DRAIN_MS));
    mr_purgatory_wake_all(core, true);
    MR_LIST_EACH(link, &core->session_list)
    {
        mr_session_wake(MR_LIST_ENTRY(link, struct mr_session, link));
    }
}

static void take_mail(struct mr_data_core *core, const struct mr_plane_msg *msg)
{
    switch ((enum mr_plane_kind)msg->kind) {
    case MR_PLANE_STORAGE_DONE: {
        struct mr_request *request = msg->u.op->user;
        mr_assert(request->storage_pending > 0);
        if (--request->storage_pending == 0) {
            mr_dispatch_resume(request);
        }
        return;
    }
    case MR_PLANE_MOVED:
        for (uint32_t index = 0; index < msg->count; index++) {
            mr_purgatory_moved(core, msg->u.moved[index].token);
        }
        return;
    case MR_PLANE_REPLY:
        mr_forward_reply(core, msg->u.forward);
        return;
    case MR_PLANE_IMAGE:
        take_image(core, msg);
        return;
    case MR_PLANE_LISTEN:
        take_listen(core, msg);
        return;
    case MR_PLANE_DRAIN:
        take_drain(core);
        return;
    case MR_PLANE_STORAGE_OP:
    case MR_PLANE_RELEASE:
    case MR_PLANE_WATCH:
    case MR_PLANE_UNWATCH:
    case MR_PLANE_OFFLINE:
    case MR_PLANE_REQUEST:
    case MR_PLANE_REPLY_DONE:
    case MR_PLANE_CONN_CLOSED:
    case MR_PLANE_IMAGE_DONE:
    case MR_PLANE_LISTENING:
    case MR_PLANE_DRAINED:
        mr_unreachable("not for a data core");
    }
}

/* ---- time ---- */

static void close_all(struct mr_data_core *core)
{
    MR_LIST_EACH_SAFE(link, after, &core->session_list)
    {
        struct mr_session *session = MR_LIST_ENTRY(link, struct mr_session, link);
        if (session->is_closing) {
            core->transport->ops->close(session->conn, MR_ERR_TIMED_OUT);
        } else {
            mr_session_close(session, MR_ERR_TIMED_OUT);
        }
    }
}

static void take_timer(struct mr_data_core *core, struct mr_timer *timer)
{
    switch ((enum mr_data_timer)timer->kind) {
    case MR_DATA_TIMER_IDLE:
        mr_session_idle(MR_TIMER_ENTRY(timer, struct mr_session, idle));
        return;
    case MR_DATA_TIMER_FETCH: {
        struct mr_fetch *fetch = MR_TIMER_ENTRY(timer, struct mr_fetch, timer);
        mr_purgatory_leave(fetch);
        mr_fetch_again(fetch);
        return;
    }
    case MR_DATA_TIMER_DRAIN:
        close_all(core);
        return;
    case MR_DATA_TIMER_INTAKE:
        mr_intake_timer(core);
        return;
    case MR_DATA_TIMER_RELIEF:
        mr_relief_timer(core);
        return;
    }
}

/* ---- the turn ---- */

static void run_sessions(struct mr_data_core *core)
{
    struct mr_list *link;
    while ((link = mr_list_pop(&core->runnable)) != NULL) {
        mr_session_run(MR_LIST_ENTRY(link, struct mr_session, run_link));
    }
    if (!core->has_room) {
        return;
    }
    core->has_room = false;
    for (uint32_t index = 0; index < STARVED_SLICE; index++) {
        link = mr_list_pop(&core->starved);
        if (link == NULL) {
            return;
        }
        mr_session_wake(MR_LIST_ENTRY(link, struct mr_session, run_link));
    }
}

static void drain_step(struct mr_data_core *core)
{
    if (core->life == MR_DATA_DRAINING && mr_list_is_empty(&core->session_list)) {
        struct mr_plane_msg msg = {.kind = MR_PLANE_DRAINED};
        mr_timer_cancel(&core->timers, &core->drain_timer);
        core->life = MR_DATA_DRAINED;
        mr_port_send(core->port, mr_endpoint_control(core->endpoints), &msg);
    }
}

static bool is_runnable(const struct mr_data_core *core)
{
    return !mr_list_is_empty(&core->runnable) || !mr_list_is_empty(&core->encode.waiting);
}

bool mr_data_core_turn(struct mr_data_core *core, struct mr_now now)
{
    struct mr_net_event *events = core->events;
    struct mr_plane_msg msg;
    bool is_work = false;
    core->now = now;
    mr_trace_turn(core->trace, now.mono_ns);
    uint32_t count = core->transport->ops->poll(core->transport, now.mono_ns, events, MR_DATA_EVENTS_MAX);
    is_work |= count > 0;
    for (uint32_t index = 0; index < count; index++) {
        take_event(core, &events[index]);
    }
    while (mr_port_receive(core->port, &msg)) {
        take_mail(core, &msg);
        is_work = true;
    }
    struct mr_timer *timer;
    while ((timer = mr_timers_due(&core->timers, now.mono_ns)) != NULL) {
        take_timer(core, timer);
        is_work = true;
    }
    mr_purgatory_run(core);
    mr_encode_turn(core);
    run_sessions(core);
    run_sessions(core); /* what was starved and has room now */
    drain_step(core);
    core->transport->ops->poll(core->transport, now.mono_ns, NULL, 0);
    return is_work || is_runnable(core);
}

uint64_t mr_data_core_deadline_ns(const struct mr_data_core *core)
{
    bool is_retry = core->has_room && !mr_list_is_empty(&core->starved);
    if (is_retry || is_runnable(core)) {
        return 0;
    }
    return mr_earlier(mr_timers_next_ns(&core->timers),
                      core->transport->ops->deadline_ns(core->transport));
}

void mr_data_core_stats(const struct mr_data_core *core, struct mr_data_stats *out)
{
    *out = core->stats;
}
