/*
 * purgatory: watches and waiting fetches.
 */
#include "broker/purgatory.h"

#include "data_core.h"

#include "millrace/base/bug.h"

static uint32_t watch_count(const struct mr_data_plan *plan)
{
    return plan->fetch_partitions_max + 2 * plan->connections_max;
}

size_t mr_purgatory_memory(const struct mr_data_plan *plan)
{
    return (size_t)watch_count(plan) * sizeof(struct mr_watch) + 4096;
}

void mr_purgatory_init(struct mr_data_core *core, struct mr_arena *arena)
{
    mr_pool_init(&core->purgatory.watches, arena, sizeof(struct mr_watch), watch_count(&core->plan),
                 16);
    mr_list_init(&core->purgatory.waiting);
    mr_list_init(&core->purgatory.moved);
}

static uint64_t token_of(const struct mr_purgatory *purgatory, const struct mr_watch *watch)
{
    size_t place = (size_t)((const uint8_t *)watch - purgatory->watches.base) /
                   purgatory->watches.object_bytes;
    return (uint64_t)watch->generation << 32 | place;
}

bool mr_watch_arm(struct mr_data_core *core, struct mr_fetch_partition *partition, int64_t offset,
                  enum mr_isolation isolation)
{
    mr_assert(partition->log_id != 0);
    if (partition->watch != NULL) {
        return true;
    }
    /* The pool keeps its free list in the first word of an object: the generation survives. */
    struct mr_purgatory *purgatory = &core->purgatory;
    bool is_fresh = purgatory->watches.free_head == NULL;
    struct mr_watch *watch = mr_pool_try(&purgatory->watches, MR_FAIL_watches);
    if (watch == NULL) {
        return false;
    }
    watch->generation = is_fresh ? 1 : watch->generation + 1;
    watch->partition = partition;
    watch->log_id = partition->log_id;
    watch->storage_core = partition->storage_core;
    partition->watch = watch;
    mr_trace(core->trace, MR_EVENT_watch_armed, (uint64_t)offset, token_of(purgatory, watch));
    struct mr_plane_msg msg = {
        .kind = MR_PLANE_WATCH,
        .u.watch = {.log_id = watch->log_id,
                    .offset = offset,
                    .token = token_of(purgatory, watch),
                    .is_committed = isolation == MR_READ_COMMITTED},
    };
    mr_port_send(core->port, mr_endpoint_storage(core->endpoints, watch->storage_core), &msg);
    return true;
}

static void watch_free(struct mr_data_core *core, struct mr_watch *watch)
{
    watch->partition->watch = NULL;
    watch->partition = NULL;
    watch->log_id = 0;
    mr_pool_put(&core->purgatory.watches, watch);
}

void mr_watch_disarm(struct mr_data_core *core, struct mr_fetch_partition *partition)
{
    struct mr_watch *watch = partition->watch;
    if (watch == NULL) {
        return;
    }
    struct mr_plane_msg msg = {
        .kind = MR_PLANE_UNWATCH,
        .u.watch = {.log_id = watch->log_id, .token = token_of(&core->purgatory, watch)},
    };
    mr_port_send(core->port, mr_endpoint_storage(core->endpoints, watch->storage_core), &msg);
    watch_free(core, watch);
}

void mr_purgatory_moved(struct mr_data_core *core, uint64_t token)
{
    struct mr_purgatory *purgatory = &core->purgatory;
    uint32_t place = (uint32_t)token;
    if (place >= purgatory->watches.touched) {
        return;
    }
    struct mr_watch *watch = (struct mr_watch *)(void *)(purgatory->watches.base +
                                                         place * purgatory->watches.object_bytes);
    /* log_id tells a live watch from a free one: the pool writes only the first word */
    if (watch->generation != (uint32_t)(token >> 32) || watch->log_id == 0) {
        return; /* given up in the meantime */
    }
    struct mr_fetch_partition *partition = watch->partition;
    watch_free(core, watch);
    if (mr_bug_nth("stuck-session", 20)) {
        return;
    }
    mr_fetch_partition_dirty(partition);
    struct mr_fetch *fetch = partition->set->user;
    if (fetch != NULL && fetch->timer.place != 0 && !mr_bug("skip-wakeup")) {
        mr_list_remove(&fetch->link);
        mr_list_add_tail(&purgatory->moved, &fetch->link);
    }
}

void mr_purgatory_wait(struct mr_fetch *fetch, uint64_t until_ns)
{
    struct mr_data_core *core = fetch->request->core;
    mr_trace(core->trace, MR_EVENT_fetch_waits, fetch->bytes, fetch->bytes_min);
    mr_list_add_tail(&core->purgatory.waiting, &fetch->link);
    fetch->timer.kind = MR_DATA_TIMER_FETCH;
    mr_timer_set(&core->timers, &fetch->timer, until_ns);
}

void mr_purgatory_leave(struct mr_fetch *fetch)
{
    mr_timer_cancel(&fetch->request->core->timers, &fetch->timer);
    mr_list_remove(&fetch->link);
}

void mr_purgatory_run(struct mr_data_core *core)
{
    struct mr_list *link;
    while ((link = mr_list_pop(&core->purgatory.moved)) != NULL) {
        struct mr_fetch *fetch = MR_LIST_ENTRY(link, struct mr_fetch, link);
        mr_purgatory_leave(fetch);
        mr_fetch_again(fetch);
    }
}

void mr_purgatory_wake_all(struct mr_data_core *core, bool is_over)
{
    struct mr_list *link;
    while ((link = mr_list_pop(&core->purgatory.waiting)) != NULL) {
        struct mr_fetch *fetch = MR_LIST_ENTRY(link, struct mr_fetch, link);
        fetch->is_over |= is_over;
        mr_list_add_tail(&core->purgatory.moved, link);
    }
}
