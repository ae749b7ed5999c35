/*
 * handle_fetch: read from many partitions, gather, wait, lend pages to the reply.
 *
 *   start > pass > answer            enough bytes, an error, or no time to wait
 *               \> wait > pass ...   MOVED, a new image, or the deadline
 *
 * A pass asks one storage core after the other, so that the byte budget of the request is spent in the
 * order of the partitions and no core reads what another has used up. Its memory is one block that
 * also holds the answer; a fetch that waits gives it back and holds no pages.
 *
 * Source: Kafka protocol guide, Fetch; KIP-74 (a first batch larger than the limits is returned),
 * KIP-227 (sessions), KIP-951 (current leader); behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/fetch_steps.h"
#include "broker/reply.h"
#include "data_core.h"
#include "millrace/base/bug.h"

#define POLL_MS 50 /* how often to look when a watch is missing */

/* Without memory nothing is read. A session is told that nothing is new; an answer that has to name every partition waits
 * until there is some, for what its client misses in it is an error to it. */
static void pass(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    if (mr_fetch_pass_begin(fetch) == MR_OK) {
        mr_handle_fetch_done(fetch->request);
    } else if (fetch->is_full) {
        mr_purgatory_wait(fetch, mr_deadline_ms(core->now.mono_ns, POLL_MS));
    } else {
        mr_fetch_answer(fetch);
    }
}

/* ---- start ---- */

enum mr_err mr_handle_fetch(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_fetch_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    err = mr_request_more(request, sizeof(struct mr_fetch) + 1024);
    if (err != MR_OK) {
        return err;
    }
    struct mr_fetch *fetch = MR_ARENA_TRY(&request->arena, struct mr_fetch, 1);
    *fetch = (struct mr_fetch){.request = request};
    mr_list_init(&fetch->link);
    int64_t bytes_max =
        in.max_bytes < core->config->fetch_max_bytes ? in.max_bytes : core->config->fetch_max_bytes;
    fetch->bytes_max = bytes_max > 0 ? (uint32_t)bytes_max : 0;
    fetch->bytes_min = in.min_bytes > 0 ? (uint32_t)in.min_bytes : 0;
    if (mr_bug("ignore-min-bytes") && fetch->bytes_min > 1) {
        fetch->bytes_min = 1;
    }
    if (fetch->bytes_min > fetch->bytes_max) {
        fetch->bytes_min = fetch->bytes_max;
    }
    fetch->isolation = in.isolation_level == 1 ? MR_READ_COMMITTED : MR_READ_UNCOMMITTED;
    fetch->deadline_ns = mr_deadline_ms(core->now.mono_ns, in.max_wait_ms);
    /* A session moves on with its first effect: memory for the first pass is asked for before it. */
    if (core->scratch.used_bytes + mr_scratch_max(&core->scratch) >
        (size_t)core->scratch.block_count * MR_SCRATCH_BLOCK) {
        return MR_AGAIN;
    }
    err = mr_fetch_find_set(request, fetch, &in);
    if (err != MR_OK) {
        return err;
    }
    request->fetch = fetch;
    if (fetch->error != MR_KAFKA_NONE) {
        struct mr_fetch_response out;
        MR_DEFAULTS(fetch_response, &out);
        out.error_code = fetch->error;
        return mr_reply_message(request, &out, 0, 0);
    }
    fetch->set->user = fetch;
    mr_fetch_set_resolve(core, fetch->set);
    fetch->is_over = in.max_wait_ms <= 0 || core->life == MR_DATA_DRAINING;
    pass(fetch);
    return MR_OK;
}

/* ---- passes ---- */

void mr_handle_fetch_done(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_fetch *fetch = request->fetch;
    if (mr_fetch_pass_ask(fetch)) {
        return;
    }
    fetch->is_reading = false;
    mr_list_remove(&fetch->link);
    mr_fetch_pass_settle(fetch);
    bool is_enough = fetch->is_over || fetch->is_any_error || fetch->bytes >= fetch->bytes_min ||
                     fetch->set->count == 0 || core->now.mono_ns >= fetch->deadline_ns ||
                     request->session == NULL || request->session->is_closing ||
                     mr_fetch_is_any_left_out(fetch);
    if (is_enough) {
        mr_fetch_answer(fetch);
        return;
    }
    bool is_missed = mr_fetch_is_any_missed(fetch) || fetch->set->image_version != core->image->version;
    bool is_all = mr_fetch_watch_all(fetch);
    uint64_t until = fetch->deadline_ns;
    mr_fetch_pass_end(fetch);
    if (is_missed) {
        until = core->now.mono_ns; /* read again in the next turn */
    } else if (!is_all) {
        until = mr_earlier(until, mr_deadline_ms(core->now.mono_ns, POLL_MS));
    }
    mr_purgatory_wait(fetch, until);
}

void mr_fetch_again(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    mr_fetch_set_resolve(core, fetch->set);
    if (mr_list_is_empty(&fetch->set->dirty) && core->now.mono_ns < fetch->deadline_ns &&
        !fetch->is_over) {
        mr_purgatory_wait(fetch, fetch->deadline_ns);
        return;
    }
    pass(fetch);
}

/* ---- the end ---- */

void mr_fetch_cancel(struct mr_request *request)
{
    struct mr_fetch *fetch = request->fetch;
    if (fetch == NULL || fetch->set == NULL || fetch->is_reading) {
        return; /* what is being read comes back soon and ends then */
    }
    mr_purgatory_leave(fetch);
    mr_fetch_leave_set(fetch);
}

void mr_fetch_drop(struct mr_request *request)
{
    struct mr_fetch *fetch = request->fetch;
    if (fetch == NULL) {
        return;
    }
    mr_list_remove(&fetch->link);
    if (fetch->is_reading) {
        mr_fetch_pass_take(fetch); /* orphaned: what it was lent goes back */
    }
    if (fetch->lents != NULL) {
        mr_data_core_release(request->core, fetch->lents);
        fetch->lents = NULL;
    }
    if (request->lent != NULL) { /* the list lies in the block */
        mr_data_core_release(request->core, request->lent);
        request->lent = NULL;
    }
    mr_fetch_leave_set(fetch);
    if (fetch->block != NULL) {
        mr_scratch_put(&request->core->scratch, fetch->block);
        fetch->block = NULL;
    }
    request->fetch = NULL;
}
