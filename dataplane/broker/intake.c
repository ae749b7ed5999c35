/*
 * intake: receive memory beyond the first window, by bytes that have really arrived.
 */
#include "broker/intake.h"

#include "data_core.h"

void mr_intake_init(struct mr_data_core *core)
{
    struct mr_intake *intake = &core->intake;
    uint64_t room = core->plan.receive_bytes;
    mr_list_init(&intake->waiting);
    intake->limit = room / 4;
    intake->frame_bytes_max = core->plan.frame_bytes_max;
    if (intake->frame_bytes_max > room / 2) {
        intake->frame_bytes_max = (uint32_t)(room / 2);
        mr_log(
            core->log, MR_LOG_WARN,
            "requests are limited by millrace.receive.bytes bytes=%u socket.request.max.bytes=%u",
            intake->frame_bytes_max, core->plan.frame_bytes_max);
    }
    intake->timer.kind = MR_DATA_TIMER_INTAKE;
}

static bool may_grow(struct mr_intake *intake, const struct mr_session *session, uint32_t more)
{
    if (intake->privileged == session) {
        return true;
    }
    if (intake->used + more <= intake->limit) {
        return true;
    }
    return intake->privileged == NULL;
}

void mr_intake_grow(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    struct mr_intake *intake = &core->intake;
    uint32_t window = MR_NET_WINDOW + session->reserved;
    if (session->frame_bytes <= window || session->inbox_bytes * 2ull <= window) {
        return;
    }
    uint64_t want = session->inbox_bytes * 4ull + 4 * MR_NET_WINDOW;
    if (want > session->frame_bytes) {
        want = session->frame_bytes;
    }
    uint32_t more = (uint32_t)want - window;
    if (!may_grow(intake, session, more)) {
        if (mr_list_is_empty(&session->intake_link)) {
            mr_list_add_tail(&intake->waiting, &session->intake_link);
        }
        if (intake->timer.place == 0) {
            mr_timer_set(&core->timers, &intake->timer, core->now.mono_ns + MR_NS_PER_S);
        }
        return;
    }
    if (intake->used + more > intake->limit) {
        intake->privileged = session;
    }
    mr_list_remove(&session->intake_link);
    intake->used += more;
    session->reserved += more;
    session->intake_since_ns = core->now.mono_ns;
    session->conn->window_bytes = MR_NET_WINDOW + session->reserved;
    core->transport->ops->consumed(session->conn, 0); /* look at the window again */
}

uint32_t mr_intake_take(struct mr_session *session)
{
    uint32_t reserved = session->reserved;
    session->reserved = 0;
    session->conn->window_bytes = MR_NET_WINDOW;
    mr_list_remove(&session->intake_link);
    if (session->core->intake.privileged == session) {
        session->core->intake.privileged = NULL;
    }
    return reserved;
}

void mr_intake_give(struct mr_data_core *core, uint32_t reserved)
{
    struct mr_intake *intake = &core->intake;
    mr_assert(intake->used >= reserved);
    intake->used -= reserved;
    while (!mr_list_is_empty(&intake->waiting)) {
        struct mr_session *first =
            MR_LIST_ENTRY(intake->waiting.next, struct mr_session, intake_link);
        mr_intake_grow(first);
        if (!mr_list_is_empty(&first->intake_link)) {
            break;
        }
    }
}

void mr_intake_timer(struct mr_data_core *core)
{
    struct mr_intake *intake = &core->intake;
    if (mr_list_is_empty(&intake->waiting)) {
        return;
    }
    mr_timer_set(&core->timers, &intake->timer, core->now.mono_ns + MR_NS_PER_S);
    MR_LIST_EACH_SAFE(link, after, &core->session_list)
    {
        struct mr_session *session = MR_LIST_ENTRY(link, struct mr_session, link);
        bool is_stalled =
            session->reserved > 0 && mr_list_is_empty(&session->intake_link) &&
            core->now.mono_ns - session->active_ns > MR_INTAKE_STALL_MS * MR_NS_PER_MS;
        if (is_stalled && !session->is_closing) {
            if (mr_log_may(&core->brake_memory, core->now.mono_ns, MR_NS_PER_S)) {
                mr_log(core->log, MR_LOG_WARN,
                       "closed: holds receive memory and sends nothing peer=%s frame_bytes=%u",
                       session->conn->peer, session->frame_bytes);
            }
            mr_session_close(session, MR_ERR_TIMED_OUT);
        }
    }
}
