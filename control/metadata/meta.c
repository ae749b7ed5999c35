/* meta: tables and lists of the replicated state; what meta_replay.c changes and everybody
 * reads. */
#include "metadata/meta.h"

#include "millrace/base/assert.h"

#define SCRATCH_BYTES (1u << 20) /* the largest record we decode: lists of replicas, endpoints */

/* Names that are equal when '.' is '_': Kafka refuses two such topics, their metrics would
 * collide. */
struct meta_collision {
    struct mr_table_node  node;
    struct mr_meta_topic *topic;
};

static uint64_t name_hash(const struct mr_meta *meta, struct mr_str name)
{
    return mr_hash_str(&meta->hash_key, name);
}

static uint64_t id_hash(const struct mr_meta *meta, const struct mr_uuid *id)
{
    return mr_hash_bytes(&meta->hash_key, id->bytes, sizeof id->bytes);
}

bool mr_meta_init(struct mr_meta *meta, struct mr_heap *heap, const struct mr_hash_key *hash_key)
{
    *meta = (struct mr_meta){.heap = heap, .hash_key = *hash_key, .offset = -1};
    mr_list_init(&meta->held);
    mr_list_init(&meta->changed);
    mr_list_init(&meta->gone);
    meta->scratch_memory = mr_heap_try(heap, SCRATCH_BYTES);
    if (meta->scratch_memory == NULL) {
        return false;
    }
    mr_arena_init(&meta->scratch, meta->scratch_memory, SCRATCH_BYTES);
    return mr_table_init(&meta->topics_by_name, heap) && mr_table_init(&meta->topics_by_id, heap) &&
           mr_table_init(&meta->collisions, heap) && mr_table_init(&meta->resources, heap);
}

/* ---- topics ---- */

struct mr_meta_topic *mr_meta_topic_by_name(const struct mr_meta *meta, struct mr_str name)
{
    for (struct mr_table_node *node = mr_table_first(&meta->topics_by_name, name_hash(meta, name));
         node != NULL; node = mr_table_next(node)) {
        struct mr_meta_topic *topic = MR_TABLE_ENTRY(node, struct mr_meta_topic, by_name);
        if (mr_str_equal(topic->name, name)) {
            return topic;
        }
    }
    return NULL;
}

struct mr_meta_topic *mr_meta_topic_by_id(const struct mr_meta *meta, const struct mr_uuid *id)
{
    for (struct mr_table_node *node = mr_table_first(&meta->topics_by_id, id_hash(meta, id));
         node != NULL; node = mr_table_next(node)) {
        struct mr_meta_topic *topic = MR_TABLE_ENTRY(node, struct mr_meta_topic, by_id);
        if (mr_uuid_equal(&topic->id, id)) {
            return topic;
        }
    }
    return NULL;
}

struct mr_meta_topic *mr_meta_topic_walk(const struct mr_meta *meta, struct mr_meta_topic *topic)
{
    struct mr_table_node *node =
        mr_table_walk(&meta->topics_by_name, topic == NULL ? NULL : &topic->by_name);
    return node == NULL ? NULL : MR_TABLE_ENTRY(node, struct mr_meta_topic, by_name);
}

static bool name_collides(struct mr_str a, struct mr_str b)
{
    if (a.len != b.len) {
        return false;
    }
    for (int32_t at = 0; at < a.len; at++) {
        char left = a.data[at] == '.' ? '_' : a.data[at];
        char right = b.data[at] == '.' ? '_' : b.data[at];
        if (left != right) {
            return false;
        }
    }
    return true;
}

static bool name_has_collision_chars(struct mr_str name)
{
    return name.len > 0 && (memchr(name.data, '.', (size_t)name.len) != NULL ||
                            memchr(name.data, '_', (size_t)name.len) != NULL);
}

/* Over the name with '.' as '_', in pieces, so that a long name needs no copy. */
static uint64_t collision_hash(const struct mr_meta *meta, struct mr_str name)
{
    uint64_t hash = 0;
    char     piece[64];
    for (int32_t at = 0; at < name.len; at += (int32_t)sizeof piece) {
        int32_t len = name.len - at < (int32_t)sizeof piece ? name.len - at : (int32_t)sizeof piece;
        for (int32_t index = 0; index < len; index++) {
            piece[index] = name.data[at + index] == '.' ? '_' : name.data[at + index];
        }
        hash = hash * 31 + mr_hash_bytes(&meta->hash_key, piece, (size_t)len);
    }
    return hash;
}

static struct meta_collision *collision_find(const struct mr_meta *meta, struct mr_str name)
{
    for (struct mr_table_node *node = mr_table_first(&meta->collisions, collision_hash(meta, name));
         node != NULL; node = mr_table_next(node)) {
        struct meta_collision *collision = MR_TABLE_ENTRY(node, struct meta_collision, node);
        if (name_collides(collision->topic->name, name)) {
            return collision;
        }
    }
    return NULL;
}

const struct mr_meta_topic *mr_meta_topic_collision(const struct mr_meta *meta, struct mr_str name)
{
    if (!name_has_collision_chars(name)) {
        return NULL;
    }
    struct meta_collision *collision = collision_find(meta, name);
    return collision == NULL ? NULL : collision->topic;
}

void mr_meta_topic_changed(struct mr_meta *meta, struct mr_meta_topic *topic)
{
    if (mr_list_is_empty(&topic->changed)) {
        mr_list_add_tail(&meta->changed, &topic->changed);
    }
}

struct mr_meta_topic *mr_meta_topic_add(struct mr_meta *meta, struct mr_str name,
                                        const struct mr_uuid *id)
{
    struct mr_meta_topic *topic = MR_HEAP_NEW(meta->heap, struct mr_meta_topic);
    if (topic == NULL) {
        return NULL;
    }
    if (!mr_heap_str(meta->heap, name, &topic->name)) {
        MR_HEAP_DELETE(meta->heap, topic);
        return NULL;
    }
    if (name_has_collision_chars(name)) {
        struct meta_collision *collision = MR_HEAP_NEW(meta->heap, struct meta_collision);
        if (collision == NULL) {
            mr_heap_str_free(meta->heap, &topic->name);
            MR_HEAP_DELETE(meta->heap, topic);
            return NULL;
        }
        collision->topic = topic;
        mr_table_add(&meta->collisions, &collision->node, collision_hash(meta, name));
    }
    topic->id = *id;
    mr_list_init(&topic->changed);
    mr_table_add(&meta->topics_by_name, &topic->by_name, name_hash(meta, name));
    mr_table_add(&meta->topics_by_id, &topic->by_id, id_hash(meta, id));
    mr_meta_topic_changed(meta, topic);
    return topic;
}

/* A partition's directories are counted, or no more. */
static void directories_count(struct mr_meta *meta, const struct mr_meta_partition *partition, bool is_more)
{
    for (uint32_t dir = 0; dir < meta->dir_count; dir++) {
        for (int32_t slot = 0; slot < partition->directory_count; slot++) {
            if (mr_uuid_equal(&meta->dirs[dir].id, &partition->directories[slot])) {
                meta->dirs[dir].partitions += is_more ? 1 : UINT64_MAX;
            }
        }
    }
}

bool mr_meta_directories_set(struct mr_meta *meta, struct mr_meta_partition *partition,
                             const struct mr_uuid *from, int32_t count)
{
    struct mr_uuid *copy = NULL;
    if (count > 0) {
        copy = MR_HEAP_ARRAY(meta->heap, struct mr_uuid, count);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, from, sizeof *copy * (size_t)count);
    }
    directories_count(meta, partition, false);
    MR_HEAP_ARRAY_FREE(meta->heap, partition->directories, partition->directory_count);
    partition->directories = copy;
    partition->directory_count = count > 0 ? count : 0;
    directories_count(meta, partition, true);
    return true;
}

static void partition_free(struct mr_meta *meta, struct mr_meta_partition *partition)
{
    (void)mr_meta_ids_set(meta, &partition->replicas, NULL, 0);
    (void)mr_meta_ids_set(meta, &partition->isr, NULL, 0);
    (void)mr_meta_ids_set(meta, &partition->removing, NULL, 0);
    (void)mr_meta_ids_set(meta, &partition->adding, NULL, 0);
    (void)mr_meta_ids_set(meta, &partition->eligible, NULL, 0);
    (void)mr_meta_ids_set(meta, &partition->last_known, NULL, 0);
    (void)mr_meta_directories_set(meta, partition, NULL, 0);
}

bool mr_meta_topic_remove(struct mr_meta *meta, struct mr_meta_topic *topic)
{
    struct mr_meta_gone *gone =
        mr_heap_zero(meta->heap, sizeof *gone + sizeof gone->logs[0] * topic->partition_count);
    if (gone == NULL) {
        return false;
    }
    gone->id = topic->id;
    gone->image = topic->image;
    gone->image_bytes = topic->image_bytes;
    gone->partition_count = topic->partition_count;
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        struct mr_meta_partition *partition = &topic->partitions[index];
        gone->logs[index].log_state = partition->log_state;
        gone->logs[index].storage_core = partition->storage_core;
        gone->logs[index].log_id = partition->log_id;
        if (partition->is_present) {
            meta->partition_count--;
        }
        partition_free(meta, partition);
    }
    mr_list_add_tail(&meta->gone, &gone->link);
    if (name_has_collision_chars(topic->name)) {
        for (struct mr_table_node *node =
                 mr_table_first(&meta->collisions, collision_hash(meta, topic->name));
             node != NULL; node = mr_table_next(node)) {
            struct meta_collision *collision = MR_TABLE_ENTRY(node, struct meta_collision, node);
            if (collision->topic == topic) {
                mr_table_remove(&meta->collisions, node);
                MR_HEAP_DELETE(meta->heap, collision);
                break;
            }
        }
    }
    mr_meta_resource_remove(meta, MR_META_TOPIC, topic->name);
    mr_list_remove(&topic->changed);
    mr_table_remove(&meta->topics_by_name, &topic->by_name);
    mr_table_remove(&meta->topics_by_id, &topic->by_id);
    MR_HEAP_ARRAY_FREE(meta->heap, topic->partitions, topic->partition_room);
    gone->name = topic->name; /* moves */
    MR_HEAP_DELETE(meta->heap, topic);
    return true;
}

struct mr_meta_partition *mr_meta_partition_make(struct mr_meta *meta, struct mr_meta_topic *topic,
                                                 int32_t partition)
{
    uint32_t index = (uint32_t)partition;
    if (index >= topic->partition_room) {
        uint32_t room = topic->partition_room == 0 ? 1 : topic->partition_room * 2;
        if (room <= index) {
            room = index + 1;
        }
        struct mr_meta_partition *partitions =
            mr_heap_resize(meta->heap, topic->partitions,
                           sizeof *partitions * topic->partition_room, sizeof *partitions * room);
        if (partitions == NULL) {
            return NULL;
        }
        memset(partitions + topic->partition_room, 0,
               sizeof *partitions * (room - topic->partition_room));
        topic->partitions = partitions;
        topic->partition_room = room;
    }
    if (index >= topic->partition_count) {
        topic->partition_count = index + 1;
    }
    return &topic->partitions[index];
}

bool mr_meta_ids_set(struct mr_meta *meta, struct mr_meta_ids *ids, const int32_t *from,
                     int32_t count)
{
    int32_t *copy = NULL;
    if (count > 0) {
        copy = MR_HEAP_ARRAY(meta->heap, int32_t, count);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, from, sizeof *copy * (size_t)count);
    }
    if (ids->count > 0) {
        MR_HEAP_ARRAY_FREE(meta->heap, ids->ids, ids->count);
    }
    ids->ids = copy;
    ids->count = count > 0 ? count : 0;
    return true;
}

/* ---- configs ---- */

static struct mr_meta_resource *resource_find(const struct mr_meta *meta, int8_t type,
                                              struct mr_str name)
{
    for (struct mr_table_node *node = mr_table_first(&meta->resources, name_hash(meta, name));
         node != NULL; node = mr_table_next(node)) {
        struct mr_meta_resource *resource = MR_TABLE_ENTRY(node, struct mr_meta_resource, node);
        if (resource->type == type && mr_str_equal(resource->name, name)) {
            return resource;
        }
    }
    return NULL;
}

const struct mr_meta_resource *mr_meta_resource(const struct mr_meta *meta, int8_t type,
                                                struct mr_str name)
{
    return resource_find(meta, type, name);
}

static struct mr_table_node *resource_node(const struct mr_meta_resource *resource)
{
    union {
        const struct mr_table_node *in;
        struct mr_table_node       *out;
    } pun = {.in = &resource->node};
    return pun.out;
}

const struct mr_meta_resource *mr_meta_resource_walk(const struct mr_meta          *meta,
                                                     const struct mr_meta_resource *resource)
{
    struct mr_table_node *node =
        mr_table_walk(&meta->resources, resource == NULL ? NULL : resource_node(resource));
    return node == NULL ? NULL : MR_TABLE_ENTRY(node, struct mr_meta_resource, node);
}

/* The first entry whose name is not below `name`. */
static uint32_t config_place(const struct mr_meta_resource *resource, struct mr_str name)
{
    uint32_t from = 0;
    uint32_t to = resource->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        if (mr_str_compare(resource->entries[mid].name, name) < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return from;
}

struct mr_str mr_meta_config(const struct mr_meta_resource *resource, struct mr_str name)
{
    if (resource == NULL) {
        return MR_STR_NULL;
    }
    uint32_t place = config_place(resource, name);
    if (place < resource->count && mr_str_equal(resource->entries[place].name, name)) {
        return resource->entries[place].value;
    }
    return MR_STR_NULL;
}

static void resource_free(struct mr_meta *meta, struct mr_meta_resource *resource)
{
    for (uint32_t index = 0; index < resource->count; index++) {
        mr_heap_str_free(meta->heap, &resource->entries[index].name);
        mr_heap_str_free(meta->heap, &resource->entries[index].value);
    }
    MR_HEAP_ARRAY_FREE(meta->heap, resource->entries, resource->room);
    mr_table_remove(&meta->resources, &resource->node);
    mr_heap_str_free(meta->heap, &resource->name);
    MR_HEAP_DELETE(meta->heap, resource);
}

void mr_meta_resource_remove(struct mr_meta *meta, int8_t type, struct mr_str name)
{
    struct mr_meta_resource *resource = resource_find(meta, type, name);
    if (resource != NULL) {
        resource_free(meta, resource);
    }
}

static bool config_add(struct mr_meta *meta, struct mr_meta_resource *resource, uint32_t place,
                       struct mr_str name, struct mr_str value)
{
    if (resource->count == resource->room) {
        uint32_t               room = resource->room == 0 ? 2 : resource->room * 2;
        struct mr_meta_config *entries =
            mr_heap_resize(meta->heap, resource->entries, sizeof *entries * resource->room,
                           sizeof *entries * room);
        if (entries == NULL) {
            return false;
        }
        resource->entries = entries;
        resource->room = room;
    }
    struct mr_meta_config entry = {0};
    if (!mr_heap_str(meta->heap, name, &entry.name)) {
        return false;
    }
    if (!mr_heap_str(meta->heap, value, &entry.value)) {
        mr_heap_str_free(meta->heap, &entry.name);
        return false;
    }
    memmove(resource->entries + place + 1, resource->entries + place,
            sizeof entry * (resource->count - place));
    resource->entries[place] = entry;
    resource->count++;
    return true;
}

bool mr_meta_config_set(struct mr_meta *meta, int8_t type, struct mr_str resource_name,
                        struct mr_str name, struct mr_str value)
{
    struct mr_meta_resource *resource = resource_find(meta, type, resource_name);
    if (resource == NULL) {
        if (mr_str_is_null(value)) {
            return true;
        }
        resource = MR_HEAP_NEW(meta->heap, struct mr_meta_resource);
        if (resource == NULL || !mr_heap_str(meta->heap, resource_name, &resource->name)) {
            MR_HEAP_DELETE(meta->heap, resource);
            return false;
        }
        resource->type = type;
        mr_table_add(&meta->resources, &resource->node, name_hash(meta, resource_name));
    }
    uint32_t place = config_place(resource, name);
    bool is_there = place < resource->count && mr_str_equal(resource->entries[place].name, name);
    if (mr_str_is_null(value)) {
        if (is_there) {
            mr_heap_str_free(meta->heap, &resource->entries[place].name);
            mr_heap_str_free(meta->heap, &resource->entries[place].value);
            resource->count--;
            memmove(resource->entries + place, resource->entries + place + 1,
                    sizeof *resource->entries * (resource->count - place));
        }
        if (resource->count == 0) {
            resource_free(meta, resource);
        }
        return true;
    }
    if (!is_there) {
        return config_add(meta, resource, place, name, value);
    }
    struct mr_str copy;
    if (!mr_heap_str(meta->heap, value, &copy)) {
        return false;
    }
    mr_heap_str_free(meta->heap, &resource->entries[place].value);
    resource->entries[place].value = copy;
    return true;
}

/* ---- features ---- */

static uint32_t feature_place(const struct mr_meta *meta, struct mr_str name)
{
    uint32_t place = 0;
    while (place < meta->feature_count && mr_str_compare(meta->features[place].name, name) < 0) {
        place++;
    }
    return place;
}

int16_t mr_meta_feature(const struct mr_meta *meta, struct mr_str name)
{
    uint32_t place = feature_place(meta, name);
    return place < meta->feature_count && mr_str_equal(meta->features[place].name, name)
               ? meta->features[place].level
               : 0;
}

bool mr_meta_feature_set(struct mr_meta *meta, struct mr_str name, int16_t level)
{
    uint32_t place = feature_place(meta, name);
    bool is_there = place < meta->feature_count && mr_str_equal(meta->features[place].name, name);
    meta->is_brokers_changed = true;
    if (mr_str_equal(name, MR_STR("metadata.version"))) {
        meta->metadata_version = level;
    }
    if (is_there && level > 0) {
        meta->features[place].level = level;
        return true;
    }
    if (is_there) {
        mr_heap_str_free(meta->heap, &meta->features[place].name);
        memmove(meta->features + place, meta->features + place + 1,
                sizeof *meta->features * (meta->feature_count - place - 1));
        meta->feature_count--;
        return true;
    }
    if (level <= 0) {
        return true;
    }
    struct mr_meta_feature  feature = {.level = level};
    struct mr_meta_feature *more = meta->features;
    if (meta->feature_count == meta->feature_room) {
        uint32_t room = meta->feature_room * 2 + 4;
        more = mr_heap_resize(meta->heap, more, sizeof *more * meta->feature_room,
                              sizeof *more * room);
        if (more == NULL) {
            return false;
        }
        meta->features = more;
        meta->feature_room = room;
    }
    if (!mr_heap_str(meta->heap, name, &feature.name)) {
        return false;
    }
    memmove(more + place + 1, more + place, sizeof *more * (meta->feature_count - place));
    more[place] = feature;
    meta->feature_count++;
    return true;
}

/* ---- brokers ---- */

const struct mr_meta_broker *mr_meta_broker(const struct mr_meta *meta, int32_t id)
{
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        if (meta->brokers[index].id == id) {
            return &meta->brokers[index];
        }
    }
    return NULL;
}

static void broker_clear(struct mr_meta *meta, struct mr_meta_broker *broker)
{
    for (int32_t index = 0; index < broker->endpoint_count; index++) {
        mr_heap_str_free(meta->heap, &broker->endpoints[index].name);
        mr_heap_str_free(meta->heap, &broker->endpoints[index].host);
    }
    for (int32_t index = 0; index < broker->range_count; index++) {
        mr_heap_str_free(meta->heap, &broker->ranges[index].name);
    }
    MR_HEAP_ARRAY_FREE(meta->heap, broker->endpoints, broker->endpoint_count);
    MR_HEAP_ARRAY_FREE(meta->heap, broker->ranges, broker->range_count);
    MR_HEAP_ARRAY_FREE(meta->heap, broker->directories, broker->directory_count);
    mr_heap_str_free(meta->heap, &broker->rack);
}

/* The broker with this id, emptied; made when absent. */
struct mr_meta_broker *mr_meta_broker_make(struct mr_meta *meta, int32_t id)
{
    uint32_t place = 0;
    while (place < meta->broker_count && meta->brokers[place].id < id) {
        place++;
    }
    meta->is_brokers_changed = true;
    if (place == meta->broker_count || meta->brokers[place].id != id) {
        struct mr_meta_broker *more = meta->brokers;
        if (meta->broker_count == meta->broker_room) {
            uint32_t room = meta->broker_room * 2 + 1;
            more = mr_heap_resize(meta->heap, more, sizeof *more * meta->broker_room,
                                  sizeof *more * room);
            if (more == NULL) {
                return NULL;
            }
            meta->brokers = more;
            meta->broker_room = room;
        }
        memmove(more + place + 1, more + place, sizeof *more * (meta->broker_count - place));
        meta->broker_count++;
    } else {
        broker_clear(meta, &meta->brokers[place]);
    }
    meta->brokers[place] = (struct mr_meta_broker){.id = id, .rack = MR_STR_NULL};
    return &meta->brokers[place];
}

void mr_meta_broker_remove(struct mr_meta *meta, int32_t id)
{
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        if (meta->brokers[index].id == id) {
            broker_clear(meta, &meta->brokers[index]);
            memmove(meta->brokers + index, meta->brokers + index + 1,
                    sizeof *meta->brokers * (meta->broker_count - index - 1));
            meta->broker_count--;
            meta->is_brokers_changed = true;
            return;
        }
    }
}
