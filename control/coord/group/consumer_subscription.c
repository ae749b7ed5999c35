/*
 * consumer_subscription: what members subscribe to, the topics behind it, and their hash.
 */
#include "coord/group/consumer.h"
#include "millrace/base/sort.h"

/* One function of it, and nothing of its own to link. */
#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <xxhash.h>

static bool is_name_before(const void *user, const void *a, const void *b)
{
    (void)user;
    return mr_str_compare(*(const struct mr_str *)a, *(const struct mr_str *)b) < 0;
}

/* Sort, and keep one of each. */
static uint32_t sort_names(struct mr_str *names, uint32_t count)
{
    uint32_t kept = 0;
    mr_sort(names, count, sizeof *names, is_name_before, NULL);
    for (uint32_t at = 0; at < count; at++) {
        if (kept == 0 || !mr_str_equal(names[kept - 1], names[at])) {
            names[kept++] = names[at];
        }
    }
    return kept;
}

struct mr_consumer_names *mr_consumer_names_new(struct mr_heap *heap, const struct mr_str *names,
                                                int32_t count)
{
    size_t bytes = sizeof(struct mr_consumer_names) + sizeof(struct mr_str) * (size_t)count;
    for (int32_t at = 0; at < count; at++) {
        bytes += (size_t)names[at].len;
    }
    struct mr_consumer_names *copy = mr_heap_try(heap, bytes);
    if (copy == NULL) {
        return NULL;
    }
    char *to = (char *)&copy->items[count];
    for (int32_t at = 0; at < count; at++) {
        memcpy(to, names[at].data, (size_t)names[at].len);
        copy->items[at] = (struct mr_str){.data = to, .len = names[at].len};
        to += names[at].len;
    }
    copy->bytes = bytes;
    copy->count = sort_names(copy->items, (uint32_t)count);
    return copy;
}

void mr_consumer_names_free(struct mr_heap *heap, struct mr_consumer_names *names)
{
    if (names != NULL) {
        mr_heap_free(heap, names, names->bytes);
    }
}

static uint32_t find_name(const struct mr_consumer_names *names, struct mr_str name)
{
    uint32_t from = 0;
    uint32_t to = names == NULL ? 0 : names->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int order = mr_str_compare(names->items[mid], name);
        if (order == 0) {
            return mid;
        }
        if (order < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return UINT32_MAX;
}

bool mr_consumer_names_same(const struct mr_consumer_names *names, struct mr_str *asked,
                            int32_t count)
{
    if (names == NULL) {
        return count == 0;
    }
    uint32_t kept = sort_names(asked, (uint32_t)count);
    for (uint32_t at = 0; at < kept; at++) {
        if (kept != names->count || !mr_str_equal(names->items[at], asked[at])) {
            return false;
        }
    }
    return kept == names->count;
}

bool mr_consumer_subscribes(const struct mr_consumer_member *member, struct mr_str topic)
{
    const struct mr_consumer_regex *regex = mr_consumer_regex_find(member->group, member->regex);
    return find_name(member->names, topic) != UINT32_MAX ||
           (regex != NULL && find_name(regex->topics, topic) != UINT32_MAX);
}

bool mr_consumer_is_subscribed(const struct mr_group *group, struct mr_str topic)
{
    MR_LIST_EACH(link, &group->consumer->members)
    {
        if (mr_consumer_subscribes(MR_LIST_ENTRY(link, struct mr_consumer_member, link), topic)) {
            return true;
        }
    }
    return false;
}

/* ---- topics ---- */

static bool is_id_before(const void *user, const void *a, const void *b)
{
    (void)user;
    const struct mr_image_topic *const *x = a;
    const struct mr_image_topic *const *y = b;
    return memcmp((*x)->id.bytes, (*y)->id.bytes, sizeof(*x)->id.bytes) < 0;
}

static void add_topics(const struct mr_image *image, const struct mr_consumer_names *names,
                       const struct mr_image_topic **topics, uint32_t *count)
{
    for (uint32_t at = 0; image != NULL && names != NULL && at < names->count; at++) {
        const struct mr_image_topic *topic = mr_image_topic_by_name(image, names->items[at]);
        if (topic != NULL) {
            topics[(*count)++] = topic;
        }
    }
}

bool mr_consumer_topics(const struct mr_consumer_member *member, struct mr_arena *scratch,
                        const struct mr_image_topic ***topics, uint32_t *count)
{
    const struct mr_image *image = member->group->shard->env->image;
    const struct mr_consumer_regex *regex = mr_consumer_regex_find(member->group, member->regex);
    const struct mr_consumer_names *matched = regex == NULL ? NULL : regex->topics;
    uint32_t most = (member->names == NULL ? 0 : member->names->count) +
                    (matched == NULL ? 0 : matched->count);
    uint32_t all = 0;
    *count = 0;
    *topics = MR_ARENA_TRY(scratch, const struct mr_image_topic *, most + 1u);
    if (*topics == NULL) {
        return false;
    }
    add_topics(image, member->names, *topics, &all);
    add_topics(image, matched, *topics, &all);
    mr_sort(*topics, all, sizeof **topics, is_id_before, NULL);
    for (uint32_t at = 0; at < all; at++) {
        if (*count == 0 || (*topics)[*count - 1] != (*topics)[at]) {
            (*topics)[(*count)++] = (*topics)[at];
        }
    }
    return true;
}

/* ---- the hash ---- */

/* Bytes as Kafka feeds them to its hash: little-endian, a string as UTF-16 and then its length. */
struct feed {
    uint8_t *at;
};

static void feed_le(struct feed *feed, uint64_t value, uint32_t bytes)
{
    for (uint32_t index = 0; index < bytes; index++) {
        *feed->at++ = (uint8_t)(value >> (8 * index));
    }
}

/* Names of topics are ASCII: a byte is a UTF-16 unit. */
static void feed_ascii(struct feed *feed, struct mr_str text)
{
    for (int32_t at = 0; at < text.len; at++) {
        feed_le(feed, (uint8_t)text.data[at], 2);
    }
    feed_le(feed, (uint64_t)text.len, 4);
}

/* A topic with the racks of its replicas: one broker has at most one rack. */
static bool topic_hash(const struct mr_image *image, const struct mr_image_topic *topic,
                       struct mr_arena *scratch, int64_t *hash)
{
    struct mr_str rack = MR_STR_NULL;
    for (uint32_t at = 0; at < image->broker_count; at++) {
        if (image->brokers[at].id == image->node_id) {
            rack = image->brokers[at].rack;
        }
    }
    size_t rack_bytes = rack.len > 0 ? (size_t)rack.len * 2 + 8 : 0;
    size_t mark = scratch->used;
    size_t size = 32 + (size_t)topic->name.len * 2 + (4 + rack_bytes) * topic->partition_count;
    uint8_t *bytes = MR_ARENA_TRY(scratch, uint8_t, size);
    if (bytes == NULL) {
        return false;
    }
    struct feed feed = {.at = bytes};
    feed_le(&feed, 0, 1); /* the version of all this */
    feed_le(&feed, mr_load_be64(topic->id.bytes), 8);
    feed_le(&feed, mr_load_be64(topic->id.bytes + 8), 8);
    feed_ascii(&feed, topic->name);
    feed_le(&feed, topic->partition_count, 4);
    for (uint32_t partition = 0; partition < topic->partition_count; partition++) {
        feed_le(&feed, partition, 4);
        if (rack.len > 0) {
            feed_le(&feed, (uint64_t)rack.len, 4);
            feed_ascii(&feed, rack);
        }
    }
    *hash = (int64_t)XXH3_64bits(bytes, (size_t)(feed.at - bytes));
    scratch->used = mark;
    return true;
}

static uint32_t add_names(struct mr_str *to, uint32_t at, const struct mr_str *names,
                          uint32_t count)
{
    if (count > 0) {
        memcpy(&to[at], names, sizeof *names * count);
    }
    return at + count;
}

/* Kafka's hash over topics, sorted by name. */
static bool hash_topics(const struct mr_image *image, const struct mr_str *names, uint32_t count,
                        struct mr_coord_out *out, int64_t *hash)
{
    uint8_t *hashes = MR_COORD_NEW(out, uint8_t, (size_t)count * 8);
    if (hashes == NULL) {
        return false;
    }
    struct feed feed = {.at = hashes};
    for (uint32_t at = 0; at < count; at++) {
        const struct mr_image_topic *topic =
            image == NULL ? NULL : mr_image_topic_by_name(image, names[at]);
        int64_t one = 0; /* of a topic that does not exist */
        if (topic != NULL && !topic_hash(image, topic, out->scratch, &one)) {
            return false;
        }
        feed_le(&feed, (uint64_t)one, 8);
    }
    *hash = count == 0 ? 0 : (int64_t)XXH3_64bits(hashes, (size_t)count * 8);
    return true;
}

/* The topics of patterns that are used when `member` wishes for `wish` instead. */
static uint32_t add_matched(const struct mr_group *group, const struct mr_consumer_member *member,
                            const struct mr_consumer_wish *wish, struct mr_str *names,
                            uint32_t count)
{
    if (group == NULL || group->consumer == NULL) {
        return count;
    }
    MR_LIST_EACH(link, &group->consumer->regexes)
    {
        const struct mr_consumer_regex *regex = MR_LIST_ENTRY(link, struct mr_consumer_regex, link);
        bool is_wished = wish != NULL && wish->regex.len > 0 && mr_str_equal(wish->regex, regex->text);
        if (!is_wished && !mr_consumer_regex_is_used(group, regex->text, member)) {
            continue;
        }
        if (names != NULL) {
            (void)add_names(names, count, regex->topics->items, regex->topics->count);
        }
        count += regex->topics->count;
    }
    return count;
}

bool mr_consumer_hash(const struct mr_group_shard *shard, const struct mr_group *group,
                      const struct mr_consumer_member *member, const struct mr_consumer_wish *wish,
                      struct mr_coord_out *out, int64_t *hash)
{
    static const struct mr_list nobody = {.prev = (struct mr_list *)(uintptr_t)&nobody,
                                          .next = (struct mr_list *)(uintptr_t)&nobody};
    const struct mr_list *members =
        group == NULL || group->consumer == NULL ? &nobody : &group->consumer->members;
    uint32_t most = wish == NULL ? 0 : wish->count;
    MR_LIST_EACH(link, members)
    {
        const struct mr_consumer_member *one = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        most += one == member || one->names == NULL ? 0 : one->names->count;
    }
    most = add_matched(group, member, wish, NULL, most);
    struct mr_str *names = MR_COORD_NEW(out, struct mr_str, most);
    if (names == NULL) {
        return false;
    }
    uint32_t count = wish == NULL ? 0 : add_names(names, 0, wish->names, wish->count);
    MR_LIST_EACH(link, members)
    {
        const struct mr_consumer_member *one = MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (one != member && one->names != NULL) {
            count = add_names(names, count, one->names->items, one->names->count);
        }
    }
    count = add_matched(group, member, wish, names, count);
    return hash_topics(shard->env->image, names, sort_names(names, count), out, hash);
}
