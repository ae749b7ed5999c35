/*
 * relief: who waits, and who is given up for it.
 */
#include "broker/relief.h"

#include "data_core.h"

#define PATIENCE_NS MR_NS_PER_S

void mr_relief_init(struct mr_data_core *core)
{
    mr_list_init(&core->relief.lending);
    mr_list_init(&core->relief.reading);
    core->relief.timer.kind = MR_DATA_TIMER_RELIEF;
}

void mr_relief_reading(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    fetch->read_since_ns = core->now.mono_ns;
    mr_list_add_tail(&core->relief.reading, &fetch->link);
    if (core->relief.timer.place == 0) {
        mr_timer_set(&core->timers, &core->relief.timer, core->now.mono_ns + PATIENCE_NS);
    }
}

void mr_relief_lending(struct mr_request *request)
{
    if (request->lent != NULL) {
        request->sent_ns = request->core->now.mono_ns;
        mr_list_add_tail(&request->core->relief.lending, &request->lending);
    }
}

static void close_slow(struct mr_data_core *core)
{
    uint32_t count = 0;
    MR_LIST_EACH(link, &core->relief.lending)
    {
        struct mr_request *request = MR_LIST_ENTRY(link, struct mr_request, lending);
        if (core->now.mono_ns - request->sent_ns < PATIENCE_NS || count == MR_RELIEF_SLICE) {
            break;
        }
        if (!request->session->is_closing) {
            count++;
            mr_session_close(request->session, MR_ERR_TIMED_OUT);
        }
    }
    if (count > 0 && mr_log_may(&core->relief.brake, core->now.mono_ns, MR_NS_PER_S)) {
        mr_log(core->log, MR_LOG_WARN, "readers wait for others that do not read: these are closed connections=%u",
               count);
    }
}

void mr_relief_timer(struct mr_data_core *core)
{
    if (mr_list_is_empty(&core->relief.reading)) {
        return; /* the next fetch sets it again */
    }
    const struct mr_fetch *oldest = MR_LIST_ENTRY(core->relief.reading.next, struct mr_fetch, link);
    if (core->now.mono_ns - oldest->read_since_ns >= PATIENCE_NS) {
        close_slow(core);
    }
    mr_timer_set(&core->timers, &core->relief.timer, core->now.mono_ns + PATIENCE_NS);
}
