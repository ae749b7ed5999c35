/*
 * session: the thin switch of a connection.
 */
#include "broker/session.h"

#include "broker/dispatch.h"
#include "broker/tally.h"
#include "data_core.h"
#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"
#include "millrace/kafka/frame.h"

struct mr_session *mr_session_open(struct mr_data_core *core, struct mr_conn *conn)
{
    struct mr_session *session = mr_pool_try(&core->sessions, MR_FAIL_sessions);
    core->stats.connections_opened++;
    if (session == NULL) {
        core->stats.connections_refused++;
        return NULL;
    }
    *session = (struct mr_session){.core = core, .conn = conn, .id = ++core->next_conn_id};
    session->active_ns = core->now.mono_ns;
    mr_list_init(&session->run_link);
    mr_list_init(&session->intake_link);
    mr_list_init(&session->requests);
    mr_list_init(&session->sending);
    mr_list_add_tail(&core->session_list, &session->link);
    conn->user = session;
    conn->window_bytes = MR_NET_WINDOW;
    core->stats.connections++;
    session->idle.kind = MR_DATA_TIMER_IDLE;
    if (core->config->connections_max_idle_ms >= 0 && !mr_bug("never-idle")) {
        mr_timer_set(&core->timers, &session->idle,
                     mr_deadline_ms(core->now.mono_ns, core->config->connections_max_idle_ms));
    }
    const char *refused =
        core->life == MR_DATA_SERVING ? mr_limits_open(session) : "the broker is stopping";
    if (refused != NULL) {
        core->stats.connections_refused++;
        if (mr_log_may(&core->brake_refuse, core->now.mono_ns, MR_NS_PER_S)) {
            mr_log(core->log, MR_LOG_WARN, "connection refused peer=%s limit=%s", conn->peer,
                   refused);
        }
        mr_session_close(session, MR_ERR_TOO_LARGE);
        return session;
    }
    uint64_t read_ns = mr_limits_open_ns(core);
    if (read_ns > core->now.mono_ns) {
        session->is_early = true;
        mr_timer_set(&core->timers, &session->idle, read_ns);
    }
    return session;
}

void mr_session_wake(struct mr_session *session)
{
    if (!session->is_runnable && !session->is_closing) {
        session->is_runnable = true;
        mr_list_remove(&session->run_link);
        mr_list_add_tail(&session->core->runnable, &session->run_link);
    }
}

/* Its next step needs memory that is not there: again when a request has ended. */
static void session_starve(struct mr_session *session)
{
    mr_list_remove(&session->run_link);
    mr_list_add_tail(&session->core->starved, &session->run_link);
}

void mr_session_piece_put(struct mr_data_core *core, struct mr_piece *piece)
{
    mr_pool_put(&core->pieces, piece);
}

static void piece_unref(struct mr_data_core *core, struct mr_piece *piece)
{
    mr_assert(piece->refs > 0);
    if (--piece->refs == 0 && !mr_bug("hold-buffers")) {
        core->transport->ops->release(core->transport, piece->buffer);
        mr_session_piece_put(core, piece);
    }
}

void mr_session_input(struct mr_session *session, struct mr_span span, void *buffer)
{
    struct mr_data_core *core = session->core;
    core->stats.bytes_in += span.len;
    if (session->is_closing || session->is_refused) {
        core->transport->ops->release(core->transport, buffer);
        core->transport->ops->consumed(session->conn, span.len);
        return;
    }
    session->active_ns = core->now.mono_ns;
    mr_list_remove(&session->link);
    mr_list_add_tail(&core->session_list, &session->link);
    struct mr_piece *last = session->inbox_last;
    if (last != NULL && last->buffer == buffer && last->span.data + last->span.len == span.data) {
        last->span.len += span.len; /* the same buffer filled further: one reference is enough */
        core->transport->ops->release(core->transport, buffer);
    } else {
        struct mr_piece *piece = mr_pool_try(&core->pieces, MR_FAIL_pieces);
        if (piece ==
            NULL) { /* more pieces than buffers: cannot be with a transport that fills them */
            core->transport->ops->release(core->transport, buffer);
            mr_session_close(session, MR_ERR_NO_MEMORY);
            return;
        }
        *piece = (struct mr_piece){.span = span, .buffer = buffer, .refs = 1};
        if (last == NULL) {
            session->inbox_first = piece;
            session->inbox_at = 0;
        } else {
            last->next = piece;
        }
        session->inbox_last = piece;
    }
    session->inbox_bytes += span.len;
    mr_trace(core->trace, MR_EVENT_bytes_in, span.len, session->inbox_bytes);
    mr_session_wake(session);
}

static void inbox_drop(struct mr_session *session)
{
    while (session->inbox_first != NULL) {
        struct mr_piece *piece = session->inbox_first;
        session->inbox_first = piece->next;
        piece_unref(session->core, piece);
    }
    session->inbox_last = NULL;
    session->inbox_bytes = 0;
    session->frame_bytes = 0;
}

/* Copy the first `len` bytes of the inbox; they are there. */
static void inbox_peek(const struct mr_session *session, uint8_t *to, uint32_t len)
{
    const struct mr_piece *piece = session->inbox_first;
    uint32_t at = session->inbox_at;
    while (len > 0) {
        uint32_t part = piece->span.len - at < len ? piece->span.len - at : len;
        memcpy(to, piece->span.data + at, part);
        to += part;
        len -= part;
        piece = piece->next;
        at = 0;
    }
}

/* Nothing after this can be understood: answer what was asked before, then close. */
static void session_refuse(struct mr_session *session, const char *why, uint32_t what)
{
    struct mr_data_core *core = session->core;
    core->stats.frames_refused++;
    session->is_refused = true;
    if (mr_log_may(&core->brake_frame, core->now.mono_ns, MR_NS_PER_S)) {
        mr_log(core->log, MR_LOG_WARN, "request refused, connection closed peer=%s why=%s value=%u",
               session->conn->peer, why, what);
    }
    mr_intake_give(core, mr_intake_take(session));
    inbox_drop(session);
}

/* Whether a whole frame is there. Its size is known from its first bytes, its API soon after. */
static bool frame_is_whole(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    if (session->frame_bytes == 0) {
        if (session->inbox_bytes < MR_FRAME_PREFIX + 4) {
            return false; /* wait for the API key as well: no request is shorter */
        }
        uint8_t head[MR_FRAME_PREFIX + 4];
        inbox_peek(session, head, sizeof head);
        const struct mr_span span = {.data = head, .len = sizeof head};
        const struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = sizeof head};
        uint32_t body;
        uint32_t bytes_max = mr_bug("any-frame") ? INT32_MAX : core->intake.frame_bytes_max;
        enum mr_err err = mr_frame_check(&chain, bytes_max, &body);
        if (err != MR_OK && err != MR_AGAIN) {
            session_refuse(session, err == MR_ERR_TOO_LARGE ? "too large" : "not a frame",
                           mr_load_be32(head));
            return false;
        }
        if (body < 8) {
            session_refuse(session, "shorter than a request header", body);
            return false;
        }
        if (mr_api_find((int16_t)mr_load_be16(head + MR_FRAME_PREFIX)) == NULL) {
            session_refuse(session, "unknown API key", mr_load_be16(head + MR_FRAME_PREFIX));
            return false;
        }
        session->frame_bytes = MR_FRAME_PREFIX + body;
    }
    return session->inbox_bytes >= session->frame_bytes;
}

/* The frame at the front of the inbox becomes the body of `request`. False: no memory now. */
static bool frame_take(struct mr_session *session, struct mr_request *request)
{
    uint32_t count = 0;
    uint32_t left = session->frame_bytes;
    uint32_t at = session->inbox_at;
    for (struct mr_piece *piece = session->inbox_first; left > 0; piece = piece->next, at = 0) {
        uint32_t part = piece->span.len - at < left ? piece->span.len - at : left;
        left -= part;
        count++;
    }
    size_t bytes = count * (sizeof(struct mr_span) + sizeof(struct mr_piece *)) + 32;
    if (request->arena.size - request->arena.used < bytes + 1024) {
        if (mr_request_more(request, bytes + 1024) != MR_OK) {
            return false;
        }
    }
    struct mr_span *spans = MR_ARENA_TRY(&request->arena, struct mr_span, count);
    request->pieces = MR_ARENA_TRY(&request->arena, struct mr_piece *, count);
    mr_assert(spans != NULL && request->pieces != NULL);
    left = session->frame_bytes;
    for (uint32_t index = 0; index < count; index++) {
        struct mr_piece *piece = session->inbox_first;
        uint32_t room = piece->span.len - session->inbox_at;
        uint32_t part = room < left ? room : left;
        spans[index] = (struct mr_span){.data = piece->span.data + session->inbox_at, .len = part};
        request->pieces[index] = piece;
        piece->refs++;
        left -= part;
        session->inbox_at += part;
        if (part == room) {
            session->inbox_first = piece->next;
            session->inbox_at = 0;
            if (piece->next == NULL) {
                session->inbox_last = NULL;
            }
            piece_unref(session->core, piece);
        }
    }
    request->piece_count = count;
    mr_trace(session->core->trace, MR_EVENT_frame_in, session->frame_bytes, count);
    const struct mr_chain chain = {
        .spans = spans, .span_count = count, .bytes = session->frame_bytes};
    mr_frame_reader(&chain, session->frame_bytes - MR_FRAME_PREFIX, &request->body);
    session->inbox_bytes -= session->frame_bytes;
    request->frame_reserved = mr_intake_take(session);
    session->core->transport->ops->consumed(session->conn, session->frame_bytes);
    session->frame_bytes = 0;
    return true;
}

/* Whole frames become queued requests, as many as may run ahead. */
static void session_read(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    while (!session->is_refused && !session->is_closing && !session->is_early &&
           session->request_count + session->sending_count < MR_SESSION_AHEAD &&
           frame_is_whole(session)) {
        /* The last quarter is for connections without a request: running ahead may wait. */
        bool is_first = session->request_count == 0;
        if (!is_first && core->requests.used > core->requests_max / 4 * 3) {
            return; /* its own next answer wakes it */
        }
        struct mr_request *request = mr_request_new(core);
        if (request == NULL) {
            session_starve(session);
            return;
        }
        if (!frame_take(session, request)) {
            mr_request_free(request);
            session_starve(session);
            return;
        }
        request->session = session;
        session->request_count++;
        mr_list_add_tail(&session->requests, &request->link);
        mr_dispatch_header(request);
        request->inline_base = request->arena.base;
        request->inline_size = request->arena.size;
        request->inline_mark = request->arena.used;
        request->blocks_kept = request->block_count;
        mr_tally_arrived(core, request);
    }
    bool is_part = session->frame_bytes > 0 && session->inbox_bytes < session->frame_bytes;
    session->conn->rest_bytes = is_part ? session->frame_bytes - session->inbox_bytes : 0;
    if (is_part) {
        mr_intake_grow(session);
    }
}

/*
 *   this one     all before it are                            may start
 *   any          answered                                     yes
 *   Produce      answered, or Produces that are handed over   yes
 *   other        not all answered                             no
 */
static void session_start(struct mr_session *session)
{
    bool is_all_answered = true;
    MR_LIST_EACH_SAFE(link, after, &session->requests)
    {
        struct mr_request *request = MR_LIST_ENTRY(link, struct mr_request, link);
        if (request->state == MR_REQUEST_QUEUED) {
            bool is_produce = request->header.key == MR_API_PRODUCE && !request->is_refused;
            if (!is_all_answered && !is_produce) {
                return;
            }
            if (session->sending_bytes > MR_SESSION_SENDING_BYTES) {
                return; /* as Kafka: a client that does not read is not served further */
            }
            enum mr_err err = mr_dispatch_start(request);
            if (session->is_closing) {
                return;
            }
            if (err == MR_AGAIN) {
                session_starve(session);
                return;
            }
        }
        if (request->is_close_after) {
            return; /* what follows is never served */
        }
        switch (request->state) {
        case MR_REQUEST_ANSWERED:
            break;
        case MR_REQUEST_HANDED:
            is_all_answered = false;
            break;
        case MR_REQUEST_RUNNING:
            return;
        case MR_REQUEST_QUEUED:
        case MR_REQUEST_SENDING:
            mr_unreachable("a started request runs");
        }
    }
}

/* Replies leave in the order of the requests. */
static void session_write(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    while (!mr_list_is_empty(&session->requests) && !session->is_blocked) {
        struct mr_request *request = MR_LIST_ENTRY(session->requests.next, struct mr_request, link);
        if (request->state != MR_REQUEST_ANSWERED) {
            return;
        }
        if (request->reply.span_count == 0) {
            bool is_last = request->is_close_after;
            mr_request_free(request);
            if (is_last) {
                mr_session_close(session, MR_OK);
                return;
            }
            continue;
        }
        enum mr_err err = core->transport->ops->send(session->conn, request->reply.spans,
                                                     request->reply.span_count, session->token + 1);
        if (err == MR_AGAIN) {
            session->is_blocked = true;
            return;
        }
        if (err != MR_OK) {
            mr_session_close(session, err);
            return;
        }
        mr_trace(core->trace, MR_EVENT_reply_out, request->reply.bytes, request->reply.span_count);
        mr_tally_answered(core, request);
        session->active_ns = core->now.mono_ns;
        request->token = ++session->token;
        request->state = MR_REQUEST_SENDING;
        mr_relief_lending(request);
        session->request_count--;
        session->sending_count++;
        session->sending_bytes += request->reply.bytes;
        mr_list_remove(&request->link);
        mr_list_add_tail(&session->sending, &request->link);
    }
}

void mr_session_run(struct mr_session *session)
{
    session->is_runnable = true; /* what is answered meanwhile is seen by this pass */
    uint32_t before;
    do { /* an answer given at once makes room for the next frame */
        session_read(session);
        before = session->request_count;
        if (!session->is_closing) {
            session_write(session);
        }
        if (!session->is_closing) {
            session_start(session);
        }
        if (!session->is_closing) {
            session_write(session);
        }
    } while (!session->is_closing && session->request_count < before &&
             mr_list_is_empty(&session->run_link));
    session->is_runnable = false;
    if (!session->is_closing && mr_list_is_empty(&session->requests) &&
        (session->is_refused || session->core->life == MR_DATA_DRAINING)) {
        mr_session_close(session, MR_OK);
    }
}

void mr_session_answered(struct mr_request *request)
{
    request->state = MR_REQUEST_ANSWERED;
    if (request->session == NULL) {
        mr_request_free(request);
        return;
    }
    mr_session_wake(request->session);
}

void mr_session_sent(struct mr_session *session, uint64_t token)
{
    while (!mr_list_is_empty(&session->sending)) {
        struct mr_request *request = MR_LIST_ENTRY(session->sending.next, struct mr_request, link);
        if (request->token > token) {
            break;
        }
        mr_trace(session->core->trace, MR_EVENT_reply_sent, request->token, 0);
        session->sending_count--;
        session->sending_bytes -= request->reply.bytes;
        mr_request_free(request);
    }
    session->active_ns = session->core->now.mono_ns;
    if (session->inbox_bytes > 0 || !mr_list_is_empty(&session->requests)) {
        mr_session_wake(session); /* it may have waited for its reader */
    }
}

void mr_session_room(struct mr_session *session)
{
    session->is_blocked = false;
    mr_session_wake(session);
}

void mr_session_close(struct mr_session *session, enum mr_err why)
{
    if (session->is_closing) {
        return;
    }
    session->is_closing = true;
    session->core->closing_count++;
    session->is_runnable = false;
    mr_list_remove(&session->run_link);
    MR_LIST_EACH(link, &session->requests)
    {
        mr_fetch_cancel(MR_LIST_ENTRY(link, struct mr_request, link));
    }
    session->core->transport->ops->close(session->conn, why);
}

void mr_session_closed(struct mr_session *session, enum mr_err why)
{
    struct mr_data_core *core = session->core;
    (void)why;
    core->closing_count -= session->is_closing;
    session->is_closing = true;
    mr_intake_give(core, mr_intake_take(session));
    inbox_drop(session);
    mr_assert(session->request_count < 2 || !mr_bug("assert-on-close"));
    struct mr_list *link;
    while ((link = mr_list_pop(&session->requests)) != NULL) {
        struct mr_request *request = MR_LIST_ENTRY(link, struct mr_request, link);
        mr_fetch_cancel(request);
        request->session = NULL;
        if (request->storage_pending == 0 && !request->is_forwarded) {
            mr_request_free(request);
        }
    }
    while ((link = mr_list_pop(&session->sending)) != NULL) {
        mr_request_free(MR_LIST_ENTRY(link, struct mr_request, link));
    }
    if (session->is_forwarded) {
        struct mr_plane_msg msg = {.kind = MR_PLANE_CONN_CLOSED, .u.conn_id = session->id};
        mr_port_send(core->port, mr_endpoint_control(core->endpoints), &msg);
    }
    mr_timer_cancel(&core->timers, &session->idle);
    mr_limits_closed(session);
    mr_list_remove(&session->run_link);
    mr_list_remove(&session->link);
    core->stats.connections--;
    mr_pool_put(&core->sessions, session);
}

void mr_session_idle(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    if (session->is_closing) {
        return;
    }
    if (session->is_early) { /* its turn to be read has come */
        session->is_early = false;
        mr_session_wake(session);
    }
    if (core->config->connections_max_idle_ms < 0) {
        return;
    }
    uint64_t until = mr_deadline_ms(session->active_ns, core->config->connections_max_idle_ms);
    if (!mr_list_is_empty(&session->requests)) {
        until = mr_deadline_ms(core->now.mono_ns, core->config->connections_max_idle_ms);
    }
    if (until <= core->now.mono_ns) {
        mr_session_close(session, MR_OK);
        return;
    }
    mr_timer_set(&core->timers, &session->idle, until);
}
