/*
 * mutate: messages and scripts.
 */
#include "mutate.h"

#include "random_msg.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES (8u << 20)
#define SPAN_MAX    8192u
#define ITEMS_MAX   256u

union any {
    uint8_t bytes[1024];
    max_align_t align;
};

struct mr_prng mr_mutate_prng(unsigned seed)
{
    return (struct mr_prng){.state = seed};
}

static struct mr_arena *fresh_arena(void)
{
    static struct mr_arena arena;
    if (arena.base == NULL) {
        mr_arena_init(&arena, malloc(ARENA_BYTES), ARENA_BYTES);
    }
    mr_arena_reset(&arena);
    return &arena;
}

static uint32_t encode(const struct mr_msg *msg, int16_t version, const void *in,
                       struct mr_arena *arena, uint8_t *out, uint32_t max)
{
    static struct mr_span spans[SPAN_MAX];
    struct mr_writer writer;
    mr_writer_init(&writer, arena, spans, SPAN_MAX);
    if (mr_msg_encode(msg, version, in, &writer) != MR_OK) {
        return 0;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    if (chain.bytes > max) {
        return 0;
    }
    mr_chain_copy(&chain, 0, out, chain.bytes);
    return chain.bytes;
}

uint32_t mr_mutate_msg(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                       const uint8_t *bytes, uint32_t len, uint8_t *out, uint32_t max)
{
    struct mr_arena *arena = fresh_arena();
    struct mr_reader reader;
    union any value;
    mr_assert(msg->root->size <= sizeof value);
    mr_reader_init_bytes(&reader, bytes, len);
    if (mr_prng_below(prng, 32) == 0 ||
        mr_msg_decode(msg, version, &reader, arena, &value) != MR_OK) {
        arena = fresh_arena();
        mr_random_msg(prng, msg, version, arena, &value);
    } else {
        for (uint64_t count = 1 + mr_prng_below(prng, 3); count > 0; count--) {
            mr_random_change(prng, msg, version, arena, &value);
        }
    }
    return encode(msg, version, &value, arena, out, max);
}

bool mr_script_next(const uint8_t **at, const uint8_t *end, struct mr_script_item *item)
{
    const uint8_t *head = *at;
    if ((size_t)(end - head) < MR_SCRIPT_HEAD) {
        return false;
    }
    *item = (struct mr_script_item){.kind = head[0],
                                    .who = head[1],
                                    .bytes = head + MR_SCRIPT_HEAD,
                                    .len = head[2] | (uint32_t)head[3] << 8};
    if ((size_t)(end - item->bytes) < item->len) {
        return false;
    }
    *at = item->bytes + item->len;
    return true;
}

static size_t put(uint8_t *out, size_t used, size_t max, const struct mr_script_item *item)
{
    if (max - used < MR_SCRIPT_HEAD + item->len) {
        return used;
    }
    out[used] = item->kind;
    out[used + 1] = item->who;
    out[used + 2] = (uint8_t)item->len;
    out[used + 3] = (uint8_t)(item->len >> 8);
    memcpy(out + used + MR_SCRIPT_HEAD, item->bytes, item->len);
    return used + MR_SCRIPT_HEAD + item->len;
}

static void take_out(struct mr_script_item *items, uint32_t *count, uint32_t at)
{
    (*count)--;
    memmove(items + at, items + at + 1, (*count - at) * sizeof *items);
}

static void put_in(struct mr_script_item *items, uint32_t *count, uint32_t at,
                   struct mr_script_item item)
{
    memmove(items + at + 1, items + at, (*count - at) * sizeof *items);
    items[at] = item;
    (*count)++;
}

size_t mr_mutate_script(struct mr_prng *prng, uint8_t *data, size_t size, size_t size_max,
                        mr_mutate_item_fn *fn)
{
    static struct mr_script_item items[ITEMS_MAX];
    static uint8_t fresh[MR_SCRIPT_ITEM_MAX];
    uint32_t count = 0;
    const uint8_t *at = data;
    if (mr_prng_below(prng, 5) == 0 || size > size_max) {
        return LLVMFuzzerMutate(data, size, size_max);
    }
    while (count + 1 < ITEMS_MAX && mr_script_next(&at, data + size, &items[count])) {
        count++;
    }
    uint32_t one = (uint32_t)mr_prng_below(prng, count + 1);
    struct mr_script_item item = {.bytes = NULL};
    switch (count == 0 ? 0 : mr_prng_below(prng, 6)) {
    case 0: /* a new one */
    case 1:
        fn(prng, &item, fresh, sizeof fresh);
        item.bytes = fresh;
        put_in(items, &count, one, item);
        break;
    case 2: /* once more, elsewhere */
        put_in(items, &count, one, items[mr_prng_below(prng, count)]);
        break;
    case 3:
        take_out(items, &count, one % count);
        break;
    default:
        fn(prng, &items[one % count], fresh, sizeof fresh);
        items[one % count].bytes = fresh;
        break;
    }
    uint8_t *out = malloc(size_max);
    size_t used = 0;
    for (uint32_t index = 0; index < count; index++) {
        used = put(out, used, size_max, &items[index]);
    }
    memcpy(data, out, used);
    free(out);
    return used;
}
