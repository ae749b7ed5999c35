/*
 * watch: one-shot wake-ups for readers at the end of a log. They fire when the high watermark passes their
 * offset, once per commit, up to three in a message.
 */
#include "storage_core.h"

static struct mr_watch **bucket_of(struct mr_storage_core *core, uint32_t from, uint64_t token)
{
    return &core->watch_buckets[mr_hash_u64(token * 131u + from) & core->watch_mask];
}

static void remove_watch(struct mr_storage_core *core, struct mr_watch *watch)
{
    struct mr_watch **at = bucket_of(core, watch->from, watch->token);
    while (*at != watch) {
        mr_assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = watch->next;
    mr_list_remove(&watch->link);
    mr_pool_put(&core->watch_pool, watch);
}

static void moved(struct mr_storage_core *core, uint32_t to, uint64_t token, int64_t high_watermark)
{
    struct mr_plane_msg *msg = &core->moved[to].msg;
    mr_trace(core->params.trace, MR_EVENT_moved, token, (uint64_t)high_watermark);
    msg->kind = MR_PLANE_MOVED;
    msg->u.moved[msg->count].token = token;
    msg->u.moved[msg->count].high_watermark = high_watermark;
    core->moved_dirty[to / 64] |= 1ull << (to % 64);
    if (++msg->count == 3) {
        mr_port_send(core->port, to, msg);
        msg->count = 0;
    }
}

void mr_watch_flush(struct mr_storage_core *core)
{
    for (uint32_t word = 0; word < (MR_ENDPOINTS_MAX + 63) / 64; word++) {
        while (core->moved_dirty[word] != 0) {
            uint32_t to = word * 64 + (uint32_t)__builtin_ctzll(core->moved_dirty[word]);
            core->moved_dirty[word] &= core->moved_dirty[word] - 1;
            if (core->moved[to].msg.count > 0) {
                mr_port_send(core->port, to, &core->moved[to].msg);
                core->moved[to].msg.count = 0;
            }
        }
    }
}

/* The end that a watcher waits for. */
static int64_t end_for(const struct mr_partition *p, bool is_committed)
{
    return is_committed ? mr_txn_stable(p) : p->high_watermark.offset;
}

void mr_watch_fire(struct mr_storage_core *core, struct mr_partition *p, bool is_all)
{
    MR_LIST_EACH_SAFE(link, after, &p->watches) {
        struct mr_watch *watch = MR_LIST_ENTRY(link, struct mr_watch, link);
        if (is_all || watch->offset < end_for(p, watch->is_committed)) {
            moved(core, watch->from, watch->token, p->high_watermark.offset);
            remove_watch(core, watch);
        }
    }
}

void mr_watch_add(struct mr_storage_core *core, const struct mr_plane_msg *msg)
{
    struct mr_partition *p = mr_core_find(core, msg->u.watch.log_id);
    /* What has happened already fires at once; so does a watch that cannot be kept: the reader looks again. */
    if (p == NULL || p->state != MR_PARTITION_OPEN || core->is_offline ||
        msg->u.watch.offset < end_for(p, msg->u.watch.is_committed)) {
        moved(core, msg->from, msg->u.watch.token, p == NULL ? -1 : p->high_watermark.offset);
        return;
    }
    struct mr_watch *watch = mr_pool_try(&core->watch_pool, MR_FAIL_log_watches);
    if (watch == NULL) {
        moved(core, msg->from, msg->u.watch.token, p->high_watermark.offset);
        return;
    }
    struct mr_watch **bucket = bucket_of(core, msg->from, msg->u.watch.token);
    *watch = (struct mr_watch){.partition = p, .offset = msg->u.watch.offset, .token = msg->u.watch.token,
                               .from = msg->from, .is_committed = msg->u.watch.is_committed, .next = *bucket};
    *bucket = watch;
    mr_list_init(&watch->link);
    mr_list_add_tail(&p->watches, &watch->link);
}

void mr_watch_remove(struct mr_storage_core *core, const struct mr_plane_msg *msg)
{
    for (struct mr_watch *watch = *bucket_of(core, msg->from, msg->u.watch.token); watch != NULL;
         watch = watch->next) {
        if (watch->from == msg->from && watch->token == msg->u.watch.token) {
            remove_watch(core, watch);
            return;
        }
    }
}
