/*
 * fuzz_meta: a script of metadata records, replayed into the cluster's state; what they add up to becomes an image.
 *
 *   item   kind: which record, who: its version, bytes: its body; or, with the highest bit of kind, the whole value
 *
 * Whatever the log holds: an error or a state, no more memory than the heap has, and an image of it.
 */
#include "boot/config_load.h"
#include "metadata/image.h"
#include "metadata/meta.h"
#include "mutate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAP_BYTES (8u << 20)
#define RAW        0x80u

static struct mr_config config;

/* The n-th kind of metadata record, counted round. */
static const struct mr_msg *pick(uint32_t n)
{
    for (uint32_t index = 0;; index = (index + 1) % mr_msg_count) {
        if (mr_msg_all[index]->sort == MR_MSG_METADATA_RECORD && n-- == 0) {
            return mr_msg_all[index];
        }
    }
}

static int16_t pick_version(const struct mr_msg *msg, uint32_t n)
{
    return (int16_t)(msg->version_min +
                     (int)(n % (uint32_t)(msg->version_max - msg->version_min + 1)));
}

static void draw(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    bool is_new = item->bytes == NULL;
    if (is_new) {
        item->kind = (uint8_t)mr_prng_below(prng, RAW);
        item->who = (uint8_t)mr_prng_next(prng);
    }
    if ((item->kind & RAW) != 0) {
        memcpy(out, item->bytes, item->len < max ? item->len : max);
        item->len = (uint32_t)LLVMFuzzerMutate(out, item->len < max ? item->len : max, max);
        return;
    }
    const struct mr_msg *msg = pick(item->kind);
    item->len = mr_mutate_msg(prng, msg, pick_version(msg, item->who), item->bytes,
                              is_new ? 0 : item->len, out, max);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, draw);
}

static void say(void *user, enum mr_config_say kind, const char *line)
{
    (void)user;
    (void)kind;
    (void)line;
}

static void configure(void)
{
    static struct mr_arena arena;
    mr_arena_init(&arena, malloc(HEAP_BYTES), HEAP_BYTES);
    struct mr_config_load load = {.config = &config, .arena = &arena, .say = say};
    mr_config_load_begin(&load);
    mr_assert(mr_config_load_end(&load));
}

/* The value of a record: frame version, id and version stand before the body. */
static struct mr_blob value_of(const struct mr_script_item *item, uint8_t *bytes)
{
    if ((item->kind & RAW) != 0) {
        return (struct mr_blob){.data = item->bytes, .len = (int32_t)item->len};
    }
    const struct mr_msg *msg = pick(item->kind);
    bytes[0] = 1;
    bytes[1] = (uint8_t)msg->key;
    bytes[2] = (uint8_t)pick_version(msg, item->who);
    memcpy(bytes + 3, item->bytes, item->len);
    return (struct mr_blob){.data = bytes, .len = (int32_t)item->len + 3};
}

static void publish(struct mr_meta *meta)
{
    struct mr_images images;
    mr_images_init(&images, meta->heap, &config, MR_STR("cluster"), 1, 1);
    for (struct mr_meta_topic *topic = NULL; (topic = mr_meta_topic_walk(meta, topic)) != NULL;) {
        for (uint32_t index = 0; index < topic->partition_count; index++) {
            topic->partitions[index].log_state = MR_META_LOG_OPEN;
        }
        mr_assert(mr_meta_topic_by_name(meta, topic->name) == topic);
        mr_assert(mr_meta_topic_by_id(meta, &topic->id) == topic);
    }
    (void)mr_images_publish(&images, meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *memory;
    static uint8_t bytes[UINT16_MAX + 3];
    struct mr_script_item item;
    struct mr_heap heap;
    struct mr_meta meta;
    const uint8_t *at = data;
    const struct mr_hash_key key = {1, 2};
    if (memory == NULL) {
        memory = aligned_alloc(4096, HEAP_BYTES);
        configure();
    }
    mr_heap_init(&heap, memory, HEAP_BYTES);
    mr_assert(mr_meta_init(&meta, &heap, &key));
    for (int64_t offset = 0; mr_script_next(&at, data + size, &item); offset++) {
        if (mr_meta_replay(&meta, offset, value_of(&item, bytes)) != MR_OK) {
            return 0; /* the state is not to be used any more */
        }
    }
    publish(&meta);
    return 0;
}
