#include "metadata/image.h"

#include "millrace/base/assert.h"
#include "millrace/base/bug.h"

/* Stands before every object that other threads may read. */
struct image_box {
    struct mr_list link;
    uint64_t       retired_at; /* the first version without it */
    size_t         bytes;      /* of box and object */
};
_Static_assert(sizeof(struct image_box) % 16 == 0, "objects behind a box stay aligned");

static void *box_new(struct mr_images *images, size_t bytes)
{
    struct image_box *box = mr_heap_zero(images->heap, sizeof *box + bytes);
    if (box == NULL) {
        return NULL;
    }
    mr_list_init(&box->link);
    box->bytes = sizeof *box + bytes;
    return box + 1;
}

static void box_retire(struct mr_images *images, void *object)
{
    struct image_box *box = (struct image_box *)object - 1;
    box->retired_at = images->version + 1;
    mr_list_add_tail(&images->retired, &box->link);
}

static void *writable(const struct mr_image *image)
{
    union {
        const void *in;
        void       *out;
    } pun = {.in = image};
    return pun.out;
}

void mr_images_init(struct mr_images *images, struct mr_heap *heap, const struct mr_config *config,
                    struct mr_str cluster_id, int32_t node_id, uint32_t data_count)
{
    *images = (struct mr_images){
        .heap = heap,
        .config = config,
        .cluster_id = cluster_id,
        .node_id = node_id,
        .data_count = data_count,
    };
    mr_list_init(&images->retired);
}

void mr_images_defaults_changed(struct mr_images *images)
{
    images->has_defaults = false;
}

void mr_images_log_config(struct mr_images *images, const struct mr_meta *meta,
                          const struct mr_meta_topic *topic, struct mr_log_config *out)
{
    if (!images->has_defaults) {
        mr_log_config_defaults(meta, images->config, images->node_id, &images->defaults);
        images->has_defaults = true;
    }
    struct mr_log_config_values values = images->defaults;
    mr_log_config_topic(meta, topic->name, &values);
    mr_log_config_make(&values, mr_log_config_is_internal(topic->name), out);
    out->producer_expiration_ms =
        mr_log_config_broker(meta, images->config, images->node_id, MR_CONFIG_producer_id_expiration_ms)
            .value.number;
}

/* ---- one topic ---- */

/* One piece: the struct, its partitions, their replica lists, the name. */
static struct mr_image_topic *topic_make(struct mr_images *images, const struct mr_meta *meta,
                                         const struct mr_meta_topic *topic)
{
    size_t id_count = 0;
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        id_count +=
            (size_t)(topic->partitions[index].replicas.count + topic->partitions[index].isr.count);
    }
    size_t bytes = sizeof(struct mr_image_topic) +
                   sizeof(struct mr_image_partition) * topic->partition_count +
                   sizeof(int32_t) * id_count + (size_t)topic->name.len;
    struct mr_image_topic *made = box_new(images, bytes);
    if (made == NULL) {
        return NULL;
    }
    struct mr_image_partition *partitions = (struct mr_image_partition *)(void *)(made + 1);
    int32_t                   *ids = (int32_t *)(void *)(partitions + topic->partition_count);
    char                      *name = (char *)(ids + id_count);
    for (uint32_t index = 0; index < topic->partition_count; index++) {
        const struct mr_meta_partition *from = &topic->partitions[index];
        struct mr_image_partition      *to = &partitions[index];
        to->leader = from->is_present ? from->leader : -1;
        to->leader_epoch = from->leader_epoch;
        to->partition_epoch = from->partition_epoch;
        to->replica_count = (uint32_t)from->replicas.count;
        to->isr_count = (uint32_t)from->isr.count;
        to->replicas = ids;
        if (from->replicas.count > 0) {
            memcpy(ids, from->replicas.ids, sizeof *ids * to->replica_count);
        }
        ids += to->replica_count;
        to->isr = ids;
        if (from->isr.count > 0) {
            memcpy(ids, from->isr.ids, sizeof *ids * to->isr_count);
        }
        ids += to->isr_count;
        to->is_offline = from->log_state == MR_META_LOG_OFFLINE;
        to->log_id = from->log_state == MR_META_LOG_OPEN || to->is_offline ? from->log_id : 0;
        to->storage_core = from->storage_core;
    }
    memcpy(name, topic->name.data, (size_t)topic->name.len);
    made->name = (struct mr_str){.data = name, .len = topic->name.len};
    made->id = topic->id;
    made->is_internal = mr_log_config_is_internal(topic->name);
    made->partition_count = topic->partition_count;
    made->partitions = partitions;
    mr_images_log_config(images, meta, topic, &made->config);
    return made;
}

/* ---- the two sorted arrays ---- */

static int order_by_name(const struct mr_image_topic *a, const struct mr_image_topic *b)
{
    return mr_str_compare(a->name, b->name);
}

static int order_by_id(const struct mr_image_topic *a, const struct mr_image_topic *b)
{
    return memcmp(a->id.bytes, b->id.bytes, sizeof a->id.bytes);
}

typedef int image_order(const struct mr_image_topic *, const struct mr_image_topic *);

static uint32_t place_of(const struct mr_image_topic *const *topics, uint32_t count,
                         const struct mr_image_topic *topic, image_order *order)
{
    uint32_t from = 0;
    uint32_t to = count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        if (order(topics[mid], topic) < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return from;
}

static void array_insert(const struct mr_image_topic **topics, uint32_t count,
                         const struct mr_image_topic *topic, image_order *order)
{
    uint32_t place = place_of(topics, count, topic, order);
    memmove(topics + place + 1, topics + place, sizeof *topics * (count - place));
    topics[place] = topic;
}

/* The place of a topic with the same key; it must be there. */
static uint32_t array_get(const struct mr_image_topic *const *topics, uint32_t count,
                          const struct mr_image_topic *topic, image_order *order)
{
    uint32_t place = place_of(topics, count, topic, order);
    mr_assert(place < count && order(topics[place], topic) == 0);
    return place;
}

static bool arrays_room(struct mr_images *images, uint32_t more)
{
    if (images->topic_count + more <= images->topic_room) {
        return true;
    }
    uint32_t room = images->topic_room * 2 + 16;
    while (room < images->topic_count + more) {
        room *= 2;
    }
    size_t old_bytes = sizeof *images->by_name * images->topic_room;
    size_t new_bytes = sizeof *images->by_name * room;
    void  *by_name = mr_heap_try(images->heap, new_bytes);
    void  *by_id = mr_heap_try(images->heap, new_bytes);
    if (by_name == NULL || by_id == NULL) {
        mr_heap_free(images->heap, by_name, new_bytes);
        mr_heap_free(images->heap, by_id, new_bytes);
        return false;
    }
    if (images->topic_count > 0) {
        memcpy(by_name, images->by_name, sizeof *images->by_name * images->topic_count);
        memcpy(by_id, images->by_id, sizeof *images->by_id * images->topic_count);
    }
    mr_heap_free(images->heap, images->by_name, old_bytes);
    mr_heap_free(images->heap, images->by_id, old_bytes);
    images->by_name = by_name;
    images->by_id = by_id;
    images->topic_room = room;
    return true;
}

static void heap_sift(const struct mr_image_topic **topics, uint32_t at, uint32_t count,
                      image_order *order)
{
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= count) {
            return;
        }
        if (child + 1 < count && order(topics[child], topics[child + 1]) < 0) {
            child++;
        }
        if (order(topics[at], topics[child]) >= 0) {
            return;
        }
        const struct mr_image_topic *swap = topics[at];
        topics[at] = topics[child];
        topics[child] = swap;
        at = child;
    }
}

/* Heap sort: in place, n log n at worst, no recursion. */
static void array_sort(const struct mr_image_topic **topics, uint32_t count, image_order *order)
{
    for (uint32_t at = count / 2; at > 0; at--) {
        heap_sift(topics, at - 1, count, order);
    }
    for (uint32_t end = count; end > 1; end--) {
        const struct mr_image_topic *swap = topics[0];
        topics[0] = topics[end - 1];
        topics[end - 1] = swap;
        heap_sift(topics, 0, end - 1, order);
    }
}

/* The first `sorted` are in order, the rest is new: sort that alone and merge. A burst of n new topics
 * comes in many publications; sorting everything in each of them would cost n log n every time. */
static void array_settle(struct mr_images *images, const struct mr_image_topic **topics,
                         uint32_t sorted, uint32_t count, image_order *order)
{
    uint32_t fresh = count - sorted;
    size_t   bytes = sizeof *topics * fresh;
    const struct mr_image_topic **held = sorted > 0 ? mr_heap_try(images->heap, bytes) : NULL;
    if (held == NULL) {
        array_sort(topics, count, order);
        return;
    }
    array_sort(topics + sorted, fresh, order);
    memcpy(held, topics + sorted, bytes);
    for (uint32_t at = count; fresh > 0;) {
        bool is_old = sorted > 0 && order(topics[sorted - 1], held[fresh - 1]) > 0;
        topics[--at] = is_old ? topics[--sorted] : held[--fresh];
    }
    mr_heap_free(images->heap, held, bytes);
}

void mr_images_remove(struct mr_images *images, struct mr_image_topic *topic)
{
    images->is_any_deleted = true;
    uint32_t by_name = array_get(images->by_name, images->topic_count, topic, order_by_name);
    uint32_t by_id = array_get(images->by_id, images->topic_count, topic, order_by_id);
    images->topic_count--;
    memmove(images->by_name + by_name, images->by_name + by_name + 1,
            sizeof *images->by_name * (images->topic_count - by_name));
    memmove(images->by_id + by_id, images->by_id + by_id + 1,
            sizeof *images->by_id * (images->topic_count - by_id));
    box_retire(images, topic);
}

/* ---- the image ---- */

/* Above so many new topics at once they are merged in: n inserts would cost n^2 moves. */
#define INSERTS_MAX 64

/* A published topic is replaced in place: its keys do not change. */
static bool topic_replace(struct mr_images *images, const struct mr_meta *meta,
                          struct mr_meta_topic *topic)
{
    if (mr_bug("stale-image")) {
        return true;
    }
    struct mr_image_topic *made = topic_make(images, meta, topic);
    if (made == NULL) {
        return false;
    }
    uint32_t by_name = array_get(images->by_name, images->topic_count, made, order_by_name);
    uint32_t by_id = array_get(images->by_id, images->topic_count, made, order_by_id);
    images->by_name[by_name] = made;
    images->by_id[by_id] = made;
    box_retire(images, topic->image);
    topic->image = made;
    return true;
}

static bool topic_insert(struct mr_images *images, const struct mr_meta *meta,
                         struct mr_meta_topic *topic, bool is_sorted_later)
{
    struct mr_image_topic *made = topic_make(images, meta, topic);
    if (made == NULL) {
        return false;
    }
    if (is_sorted_later) {
        images->by_name[images->topic_count] = made;
        images->by_id[images->topic_count] = made;
    } else {
        array_insert(images->by_name, images->topic_count, made, order_by_name);
        array_insert(images->by_id, images->topic_count, made, order_by_id);
    }
    images->topic_count++;
    topic->image = made;
    return true;
}

/* Whether the arrays changed. Without memory the rest stays in meta->changed and is tried again. */
static bool take_changes(struct mr_images *images, struct mr_meta *meta)
{
    uint32_t new_count = 0;
    uint32_t taken = 0;
    bool     has_memory = true;
    MR_LIST_EACH_SAFE(link, after, &meta->changed)
    {
        struct mr_meta_topic *topic = MR_LIST_ENTRY(link, struct mr_meta_topic, changed);
        if (topic->opening > 0 || !has_memory) {
            continue;
        }
        if (topic->image == NULL) {
            new_count++;
            continue;
        }
        has_memory = topic_replace(images, meta, topic);
        if (has_memory) {
            mr_list_remove(link);
            taken++;
        }
    }
    if (new_count == 0 || !has_memory || !arrays_room(images, new_count)) {
        return taken > 0;
    }
    bool     is_sorted_later = new_count > INSERTS_MAX;
    uint32_t sorted = images->topic_count;
    MR_LIST_EACH_SAFE(link, after, &meta->changed)
    {
        struct mr_meta_topic *topic = MR_LIST_ENTRY(link, struct mr_meta_topic, changed);
        if (topic->opening > 0 || !has_memory) {
            continue;
        }
        has_memory = topic_insert(images, meta, topic, is_sorted_later);
        if (has_memory) {
            mr_list_remove(link);
            taken++;
        }
    }
    if (is_sorted_later) {
        array_settle(images, images->by_name, sorted, images->topic_count, order_by_name);
        array_settle(images, images->by_id, sorted, images->topic_count, order_by_id);
    }
    return taken > 0;
}

/* A copy of the string at *text, which moves behind it; null and empty stay what they are. */
static struct mr_str text_keep(char **text, struct mr_str source)
{
    if (source.len > 0) {
        memcpy(*text, source.data, (size_t)source.len);
        source.data = *text;
        *text += source.len;
    }
    return source;
}

static struct mr_config_value broker_value(const struct mr_images *images,
                                           const struct mr_meta *meta, enum mr_config_id id)
{
    return mr_log_config_broker(meta, images->config, images->node_id, id).value;
}

static struct mr_image_limits limits_now(const struct mr_images *images, const struct mr_meta *meta)
{
    return (struct mr_image_limits){
        .connections = broker_value(images, meta, MR_CONFIG_max_connections).number,
        .per_ip = broker_value(images, meta, MR_CONFIG_max_connections_per_ip).number,
        .rate = broker_value(images, meta, MR_CONFIG_max_connection_creation_rate).number,
        .overrides = broker_value(images, meta, MR_CONFIG_max_connections_per_ip_overrides).text,
    };
}

static struct mr_image *image_make(struct mr_images *images, const struct mr_meta *meta)
{
    size_t text_bytes = 0;
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        const struct mr_meta_broker *broker = &meta->brokers[index];
        text_bytes += broker->rack.len > 0 ? (size_t)broker->rack.len : 0;
        text_bytes += broker->endpoint_count > 0 ? (size_t)broker->endpoints[0].host.len : 0;
    }
    for (uint32_t index = 0; index < meta->feature_count; index++) {
        text_bytes += (size_t)meta->features[index].name.len;
    }
    struct mr_image_limits limits = limits_now(images, meta);
    text_bytes += limits.overrides.len > 0 ? (size_t)limits.overrides.len : 0;
    size_t topics_bytes = sizeof(const struct mr_image_topic *) * images->topic_count;
    size_t bytes = sizeof(struct mr_image) + topics_bytes * 2 +
                   sizeof(struct mr_image_broker) * meta->broker_count +
                   sizeof(struct mr_image_feature) * meta->feature_count + sizeof limits +
                   text_bytes;
    struct mr_image *image = box_new(images, bytes);
    if (image == NULL) {
        return NULL;
    }
    const struct mr_image_topic **topics = (const struct mr_image_topic **)(void *)(image + 1);
    const struct mr_image_topic **topics_by_id = topics + images->topic_count;
    struct mr_image_broker       *brokers =
        (struct mr_image_broker *)(void *)(topics_by_id + images->topic_count);
    struct mr_image_feature *features =
        (struct mr_image_feature *)(void *)(brokers + meta->broker_count);
    struct mr_image_limits *kept = (struct mr_image_limits *)(void *)(features + meta->feature_count);
    char *text = (char *)(kept + 1);
    if (images->topic_count > 0) {
        memcpy(topics, images->by_name, topics_bytes);
        memcpy(topics_by_id, images->by_id, topics_bytes);
    }
    for (uint32_t index = 0; index < meta->broker_count; index++) {
        const struct mr_meta_broker *from = &meta->brokers[index];
        struct mr_image_broker      *to = &brokers[index];
        to->id = from->id;
        to->is_fenced = from->is_fenced;
        to->rack = text_keep(&text, from->rack);
        to->host = MR_STR("");
        if (from->endpoint_count > 0) {
            to->host = text_keep(&text, from->endpoints[0].host);
            to->port = from->endpoints[0].port;
        }
    }
    for (uint32_t index = 0; index < meta->feature_count; index++) {
        features[index].name = text_keep(&text, meta->features[index].name);
        features[index].level = meta->features[index].level;
    }
    image->offset = meta->offset;
    image->cluster_id = images->cluster_id;
    image->node_id = images->node_id;
    image->controller_id = images->node_id;
    image->broker_count = meta->broker_count;
    image->brokers = brokers;
    image->feature_count = meta->feature_count;
    image->features = features;
    image->topic_count = images->topic_count;
    image->topics = topics;
    image->topics_by_id = topics_by_id;
    limits.overrides = text_keep(&text, limits.overrides);
    *kept = limits;
    image->limits = kept;
    image->is_auto_create = images->config->auto_create_topics_enable;
    return image;
}

const struct mr_image *mr_images_publish(struct mr_images *images, struct mr_meta *meta)
{
    bool is_changed = take_changes(images, meta) || meta->is_brokers_changed ||
                      images->is_any_deleted || images->current == NULL;
    if (!is_changed) {
        return NULL;
    }
    struct mr_image *image = image_make(images, meta);
    if (image == NULL) {
        meta->is_brokers_changed = true; /* so that the next turn tries again */
        return NULL;
    }
    meta->is_brokers_changed = false;
    if (images->current != NULL) {
        box_retire(images, writable(images->current));
    }
    image->version = ++images->version;
    images->current = image;
    return image;
}

void mr_images_used(struct mr_images *images, uint32_t data_core, uint64_t version)
{
    mr_assert(data_core < images->data_count);
    if (version > images->used[data_core]) {
        images->used[data_core] = version;
    }
    uint64_t least = UINT64_MAX;
    for (uint32_t core = 0; core < images->data_count; core++) {
        least = images->used[core] < least ? images->used[core] : least;
    }
    while (!mr_list_is_empty(&images->retired)) {
        struct image_box *box = MR_LIST_ENTRY(images->retired.next, struct image_box, link);
        if (box->retired_at > least) {
            return;
        }
        mr_list_remove(&box->link);
        mr_heap_free(images->heap, box, box->bytes);
    }
}
