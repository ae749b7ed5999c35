#include "broker/fetch_steps.h"
#include "broker/topics.h"
#include "data_core.h"

static void take_values(struct mr_fetch_partition *partition,
                        const struct mr_fetch_request_fetch_partition *in)
{
    partition->bytes_max = in->partition_max_bytes;
    partition->leader_epoch = in->current_leader_epoch;
    partition->last_fetched_epoch = in->last_fetched_epoch;
    partition->offset = in->fetch_offset;
}

/* Add or change what the request names in a session; false: no memory for all of it. */
static bool session_update(struct mr_data_core *core, struct mr_fetch_set *set,
                           const struct mr_fetch_request *in)
{
    for (int32_t t = 0; t < in->topics_count; t++) {
        const struct mr_fetch_request_fetch_topic *topic = &in->topics[t];
        struct mr_fetch_topic *held = NULL;
        for (int32_t p = 0; p < topic->partitions_count; p++) {
            struct mr_fetch_partition *partition = mr_fetch_session_add(
                core, set, &held, topic->topic, &topic->topic_id, topic->partitions[p].partition);
            if (partition == NULL) {
                return false;
            }
            held = partition->topic;
            take_values(partition, &topic->partitions[p]);
            mr_fetch_partition_dirty(partition);
            if (partition->log_id == 0) {
                mr_fetch_partition_resolve(core, partition);
            }
        }
    }
    for (int32_t t = 0; t < in->forgotten_topics_data_count; t++) {
        const struct mr_fetch_request_forgotten_topic *topic = &in->forgotten_topics_data[t];
        for (int32_t p = 0; p < topic->partitions_count; p++) {
            mr_fetch_session_remove(core, set, topic->topic, &topic->topic_id,
                                    topic->partitions[p]);
        }
    }
    return true;
}

static enum mr_err own_set(struct mr_request *request, struct mr_fetch *fetch,
                           const struct mr_fetch_request *in)
{
    uint32_t count = 0;
    for (int32_t t = 0; t < in->topics_count; t++) {
        count += (uint32_t)in->topics[t].partitions_count;
    }
    enum mr_err err =
        mr_request_more(request, (sizeof(struct mr_fetch_topic) + 8) * (size_t)in->topics_count +
                                     sizeof(struct mr_fetch_partition) * count + 64);
    if (err != MR_OK) {
        return err;
    }
    mr_fetch_set_init(&fetch->own, request->header.version >= 13);
    fetch->set = &fetch->own;
    for (int32_t t = 0; t < in->topics_count; t++) {
        struct mr_fetch_topic *topic = MR_ARENA_TRY(&request->arena, struct mr_fetch_topic, 1);
        mr_assert(topic != NULL);
        *topic = (struct mr_fetch_topic){.id = in->topics[t].topic_id, .name = in->topics[t].topic};
        for (int32_t p = 0; p < in->topics[t].partitions_count; p++) {
            struct mr_fetch_partition *partition =
                MR_ARENA_TRY(&request->arena, struct mr_fetch_partition, 1);
            mr_assert(partition != NULL);
            *partition = (struct mr_fetch_partition){
                .topic = topic, .index = in->topics[t].partitions[p].partition};
            mr_fetch_set_add(&fetch->own, partition);
            take_values(partition, &in->topics[t].partitions[p]);
        }
    }
    return MR_OK;
}

/*
 *   session id, epoch   meaning                                    the set
 *   any, -1             close the session, if any                  own
 *   any, 0              close it, then a full fetch asks for one   a new session, or own without a slot
 *   x, e > 0            incremental: only what changed is named    session x
 */
enum mr_err mr_fetch_find_set(struct mr_request *request, struct mr_fetch *fetch,
                              const struct mr_fetch_request *in)
{
    struct mr_data_core *core = request->core;
    bool is_by_id = request->header.version >= 13;
    struct mr_fetch_set *set = NULL;
    fetch->is_full = true;
    if (in->session_id != 0) {
        set = mr_fetch_session_find(core, in->session_id);
    }
    if (in->session_epoch > 0) {
        if (set == NULL) {
            fetch->error = MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND;
        } else if (set->is_by_id != is_by_id) {
            fetch->error = MR_KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
        } else if (set->epoch != in->session_epoch || set->user != NULL) {
            fetch->error = MR_KAFKA_INVALID_FETCH_SESSION_EPOCH;
        } else if (!session_update(core, set, in)) {
            /* the cache cannot hold what was added: the client starts over, then without a session */
            mr_fetch_session_close(core, set);
            fetch->error = MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND;
        } else {
            set->epoch = set->epoch == INT32_MAX ? 1 : set->epoch + 1;
            set->used_ns = core->now.mono_ns;
            mr_list_remove(&set->link);
            mr_list_add_tail(&core->fetch_sessions.used, &set->link);
            fetch->set = set;
            fetch->session_id = set->id;
            fetch->is_full = false;
        }
        return MR_OK;
    }
    if (set != NULL) {
        mr_fetch_session_close(core, set);
    }
    if (in->session_epoch == 0 && request->header.version >= 7 && in->topics_count > 0) {
        set = mr_fetch_session_open(core, is_by_id);
        if (set != NULL && session_update(core, set, in)) {
            fetch->set = set;
            fetch->session_id = set->id;
            return MR_OK;
        }
        if (set != NULL) {
            mr_fetch_session_close(core, set);
        }
    }
    return own_set(request, fetch, in);
}

void mr_fetch_rotate(struct mr_fetch_set *set)
{
    struct mr_list *last = set->dirty.prev;
    bool is_last = mr_list_is_empty(&set->dirty);
    for (struct mr_list *link = set->dirty.next, *after; !is_last; link = after) {
        after = link->next;
        is_last = link == last;
        struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        if (partition->entry != NULL && partition->entry->bytes > 0) {
            mr_list_remove(link);
            mr_list_add_tail(&set->dirty, link);
        }
        partition->entry = NULL;
    }
}

void mr_fetch_leave_set(struct mr_fetch *fetch)
{
    struct mr_fetch_set *set = fetch->set;
    struct mr_data_core *core = fetch->request->core;
    if (set == NULL) {
        return;
    }
    fetch->set = NULL;
    set->user = NULL;
    if (!set->is_session) {
        MR_LIST_EACH(link, &set->order)
        {
            mr_watch_disarm(core, MR_LIST_ENTRY(link, struct mr_fetch_partition, link));
        }
    } else if (set->is_dead) {
        mr_fetch_session_close(core, set);
    }
}
