/*
 * fetch_session: sets of partitions, and the cache of incremental sessions.
 */
#include "broker/fetch_session.h"

#include "broker/topics.h"
#include "data_core.h"

#define EVICT_MS 120000 /* Kafka's min.incremental.fetch.session.eviction.ms */

size_t mr_fetch_sessions_memory(const struct mr_data_plan *plan)
{
    size_t sets = plan->fetch_sessions_max + 1u;
    size_t partitions = plan->fetch_partitions_max + 1u;
    return sets * (sizeof(struct mr_fetch_set) + 64 + 3 * sizeof(struct mr_map_slot)) +
           partitions * (sizeof(struct mr_fetch_partition) + MR_FETCH_TOPIC_BYTES + 64 +
                         3 * sizeof(struct mr_map_slot)) +
           16384;
}

/* mr_map_init for a large map in fresh, zero memory: clearing it would make 8 MiB resident at the
 * default of 200,000 partitions, on a broker that may never see a session. */
static void map_init_untouched(struct mr_map *map, struct mr_arena *arena, uint32_t capacity)
{
    uint32_t slot_count = 8;
    while (slot_count / 4 * 3 < capacity) {
        slot_count *= 2;
    }
    *map = (struct mr_map){.mask = slot_count - 1, .capacity = capacity};
    map->slots = mr_arena_get_fresh(arena, sizeof *map->slots * slot_count, 64);
}

void mr_fetch_sessions_init(struct mr_data_core *core, struct mr_arena *arena)
{
    struct mr_fetch_sessions *sessions = &core->fetch_sessions;
    sessions->max = core->plan.fetch_sessions_max;
    mr_pool_init(&sessions->sets, arena, sizeof(struct mr_fetch_set), sessions->max + 1, 16);
    mr_pool_init(&sessions->partitions, arena, sizeof(struct mr_fetch_partition),
                 core->plan.fetch_partitions_max + 1, 16);
    mr_pool_init(&sessions->topics, arena, MR_FETCH_TOPIC_BYTES,
                 core->plan.fetch_partitions_max + 1, 16);
    mr_map_init(&sessions->by_id, arena, sessions->max + 1);
    map_init_untouched(&sessions->by_partition, arena, core->plan.fetch_partitions_max + 1);
    mr_list_init(&sessions->used);
}

void mr_fetch_set_init(struct mr_fetch_set *set, bool is_by_id)
{
    *set = (struct mr_fetch_set){.is_by_id = is_by_id};
    mr_list_init(&set->order);
    mr_list_init(&set->dirty);
    mr_list_init(&set->link);
}

void mr_fetch_partition_dirty(struct mr_fetch_partition *partition)
{
    if (mr_list_is_empty(&partition->dirty_link)) {
        mr_list_add_tail(&partition->set->dirty, &partition->dirty_link);
    }
}

void mr_fetch_set_add(struct mr_fetch_set *set, struct mr_fetch_partition *partition)
{
    partition->set = set;
    partition->high_watermark = -1;
    partition->last_stable_offset = -1;
    partition->log_start = -1;
    partition->told_high_watermark = -1;
    partition->told_log_start = -1;
    mr_list_init(&partition->dirty_link);
    mr_list_add_tail(&set->order, &partition->link);
    set->count++;
    mr_fetch_partition_dirty(partition);
}

/* ---- finding a partition of a session ---- */

static uint64_t key_of(const struct mr_data_core *core, const struct mr_fetch_set *set,
                       struct mr_str name, const struct mr_uuid *id, int32_t index)
{
    struct mr_hash_key key = core->limits.key;
    key.k0 ^= (uint64_t)(uint32_t)set->id << 32 | (uint32_t)index;
    /* 64 keyed bits: two partitions of all sessions collide once in 10^8 full caches */
    return set->is_by_id ? mr_hash_bytes(&key, id->bytes, sizeof id->bytes)
                         : mr_hash_str(&key, name);
}

static bool is_same(const struct mr_fetch_set *set, const struct mr_fetch_partition *partition,
                    struct mr_str name, const struct mr_uuid *id, int32_t index)
{
    return partition->set == set && partition->index == index &&
           (set->is_by_id ? mr_uuid_equal(&partition->topic->id, id)
                          : mr_str_equal(partition->topic->name, name));
}

static void topic_unref(struct mr_data_core *core, struct mr_fetch_topic *topic)
{
    if (--topic->refs == 0) {
        mr_pool_put(&core->fetch_sessions.topics, topic);
    }
}

struct mr_fetch_partition *mr_fetch_session_add(struct mr_data_core *core, struct mr_fetch_set *set,
                                                struct mr_fetch_topic **topic, struct mr_str name,
                                                const struct mr_uuid *id, int32_t index)
{
    struct mr_fetch_sessions *sessions = &core->fetch_sessions;
    uint64_t key = key_of(core, set, name, id, index);
    struct mr_fetch_partition *partition = mr_map_find(&sessions->by_partition, key);
    if (partition != NULL) {
        return is_same(set, partition, name, id, index) ? partition : NULL;
    }
    if (name.len > MR_TOPIC_NAME_MAX ||
        sessions->partitions.used >= core->plan.fetch_partitions_max) {
        return NULL;
    }
    if (*topic == NULL) {
        *topic = mr_pool_get(&sessions->topics);
        if (*topic == NULL) {
            return NULL;
        }
        (*topic)->refs = 0;
        (*topic)->id = *id;
        (*topic)->name =
            (struct mr_str){.data = (*topic)->text, .len = name.len > 0 ? name.len : 0};
        if (name.len > 0) {
            memcpy((*topic)->text, name.data, (size_t)name.len);
        }
    }
    partition = mr_pool_try(&sessions->partitions, MR_FAIL_fetch_partitions);
    if (partition == NULL) {
        if ((*topic)->refs == 0) {
            mr_pool_put(&sessions->topics, *topic);
            *topic = NULL;
        }
        return NULL;
    }
    *partition = (struct mr_fetch_partition){.topic = *topic, .index = index};
    (*topic)->refs++;
    mr_fetch_set_add(set, partition);
    bool is_added = mr_map_add(&sessions->by_partition, key, partition);
    mr_assert(is_added);
    return partition;
}

static void partition_free(struct mr_data_core *core, struct mr_fetch_partition *partition)
{
    struct mr_fetch_set *set = partition->set;
    uint64_t key =
        key_of(core, set, partition->topic->name, &partition->topic->id, partition->index);
    mr_map_remove(&core->fetch_sessions.by_partition, key);
    mr_watch_disarm(core, partition);
    mr_list_remove(&partition->link);
    mr_list_remove(&partition->dirty_link);
    set->count--;
    topic_unref(core, partition->topic);
    mr_pool_put(&core->fetch_sessions.partitions, partition);
}

void mr_fetch_session_remove(struct mr_data_core *core, struct mr_fetch_set *set,
                             struct mr_str name, const struct mr_uuid *id, int32_t index)
{
    struct mr_fetch_partition *partition =
        mr_map_find(&core->fetch_sessions.by_partition, key_of(core, set, name, id, index));
    if (partition != NULL && is_same(set, partition, name, id, index)) {
        partition_free(core, partition);
    }
}

/* ---- sessions ---- */

struct mr_fetch_set *mr_fetch_session_open(struct mr_data_core *core, bool is_by_id)
{
    struct mr_fetch_sessions *sessions = &core->fetch_sessions;
    if (sessions->sets.used >= sessions->max && !mr_list_is_empty(&sessions->used)) {
        struct mr_fetch_set *oldest = MR_LIST_ENTRY(sessions->used.next, struct mr_fetch_set, link);
        if (oldest->user == NULL && core->now.mono_ns - oldest->used_ns > EVICT_MS * MR_NS_PER_MS) {
            mr_fetch_session_close(core, oldest);
        }
    }
    if (sessions->sets.used >= sessions->max || mr_fail(MR_FAIL_fetch_sets)) {
        return NULL;
    }
    struct mr_fetch_set *set = mr_pool_get(&sessions->sets);
    mr_assert(set != NULL);
    mr_fetch_set_init(set, is_by_id);
    set->is_session = true;
    do {
        set->id = (int32_t)(mr_prng_next(&core->prng) & INT32_MAX);
    } while (set->id == 0 || mr_map_find(&sessions->by_id, (uint64_t)set->id) != NULL);
    set->epoch = 1;
    set->used_ns = core->now.mono_ns;
    mr_list_add_tail(&sessions->used, &set->link);
    bool is_added = mr_map_add(&sessions->by_id, (uint64_t)set->id, set);
    mr_assert(is_added);
    return set;
}

struct mr_fetch_set *mr_fetch_session_find(struct mr_data_core *core, int32_t id)
{
    return mr_map_find(&core->fetch_sessions.by_id, (uint64_t)(uint32_t)id);
}

void mr_fetch_session_close(struct mr_data_core *core, struct mr_fetch_set *set)
{
    if (!set->is_dead) {
        mr_map_remove(&core->fetch_sessions.by_id, (uint64_t)set->id);
        mr_list_remove(&set->link);
        set->is_dead = true;
    }
    if (set->user != NULL) {
        return; /* its request closes it when it ends */
    }
    while (!mr_list_is_empty(&set->order)) {
        partition_free(core, MR_LIST_ENTRY(set->order.next, struct mr_fetch_partition, link));
    }
    mr_pool_put(&core->fetch_sessions.sets, set);
}

/* ---- the image ---- */

void mr_fetch_partition_resolve(struct mr_data_core *core, struct mr_fetch_partition *partition)
{
    const struct mr_image_topic *topic;
    const struct mr_image_partition *found;
    core->stats.fetch_visits++;
    int16_t error = mr_topics_find(core, partition->set->is_by_id, partition->topic->name,
                                   &partition->topic->id, partition->index, &topic, &found);
    uint64_t log_id = error == MR_KAFKA_NONE ? found->log_id : 0;
    if (log_id != partition->log_id || error != partition->error) {
        mr_watch_disarm(core, partition);
        partition->log_id = log_id;
        partition->storage_core = error == MR_KAFKA_NONE ? found->storage_core : 0;
        partition->error = error;
        mr_fetch_partition_dirty(partition);
    }
}

void mr_fetch_set_resolve(struct mr_data_core *core, struct mr_fetch_set *set)
{
    if (set->image_version == core->image->version) {
        return;
    }
    set->image_version = core->image->version;
    MR_LIST_EACH(link, &set->order)
    {
        mr_fetch_partition_resolve(core, MR_LIST_ENTRY(link, struct mr_fetch_partition, link));
    }
}
