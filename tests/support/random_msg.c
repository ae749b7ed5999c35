/*
 * random_msg: the rows read a third time, now as a generator.
 */
#include "random_msg.h"

struct random {
    struct mr_prng  *prng;
    struct mr_arena *arena;
    int16_t          version;
};

static void random_struct(const struct random *ctx, const struct mr_struct *desc, uint8_t *out,
                          uint32_t depth);

static bool one_in(const struct random *ctx, uint64_t n)
{
    return mr_prng_below(ctx->prng, n) == 0;
}

/* Half of the time near an end or near zero, where signs and lengths go wrong. */
static uint64_t random_bits(const struct random *ctx)
{
    static const uint64_t edges[] = {
        0, 1, 127, 128, 255, 256, INT16_MAX, UINT16_MAX, INT32_MAX, UINT32_MAX, INT64_MAX,
    };
    if (one_in(ctx, 2)) {
        return mr_prng_next(ctx->prng) >> mr_prng_below(ctx->prng, 64);
    }
    uint64_t edge = edges[mr_prng_below(ctx->prng, sizeof edges / sizeof edges[0])];
    return one_in(ctx, 2) ? edge : ~edge;
}

/* Mostly short; sometimes beyond 127, where a compact length takes a second byte. */
static int32_t random_len(const struct random *ctx)
{
    uint64_t sort = mr_prng_below(ctx->prng, 16);
    return (int32_t)(sort == 0 ? 0 : mr_prng_below(ctx->prng, sort == 1 ? 300 : 12));
}

static struct mr_str random_text(const struct random *ctx)
{
    static const char *const characters[] = {
        "a", "Z", "0", "-", ".", "_", "\"", "\\", "/", "\n", "\t", "\b", "\f", "\r",
        "\x01", "\x1f", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x98",
    };
    int32_t count = random_len(ctx);
    char   *text = MR_ARENA_GET(ctx->arena, char, count * 4 + 1);
    int32_t len = 0;
    for (int32_t index = 0; index < count; index++) {
        uint64_t    pick = mr_prng_below(ctx->prng, one_in(ctx, 4) ? 20 : 6);
        const char *character = characters[pick];
        size_t      bytes = strlen(character);
        memcpy(text + len, character, bytes);
        len += (int32_t)bytes;
    }
    return (struct mr_str){.data = text, .len = len};
}

static uint8_t *random_bytes(const struct random *ctx, int32_t len)
{
    uint8_t *bytes = MR_ARENA_GET(ctx->arena, uint8_t, len + 1);
    for (int32_t index = 0; index < len; index++) {
        bytes[index] = (uint8_t)mr_prng_next(ctx->prng);
    }
    return bytes;
}

struct mr_chain mr_random_chain(struct mr_prng *prng, const void *bytes, uint32_t len,
                                struct mr_arena *arena)
{
    uint32_t        count_max = 1 + (uint32_t)mr_prng_below(prng, 8);
    uint32_t        count = 0;
    struct mr_span *spans = MR_ARENA_GET(arena, struct mr_span, count_max);
    const uint8_t  *at = bytes;
    uint32_t        left = len;
    for (; count + 1 < count_max; count++) {
        uint32_t part = (uint32_t)mr_prng_below(prng, (uint64_t)left / 2 + 1);
        spans[count] = (struct mr_span){.data = at, .len = part};
        at += part;
        left -= part;
    }
    spans[count++] = (struct mr_span){.data = at, .len = left};
    return (struct mr_chain){.spans = spans, .span_count = count, .bytes = len};
}

static void random_scalar(const struct random *ctx, enum mr_kind kind, bool may_be_null, void *to)
{
    bool is_null = may_be_null && one_in(ctx, 3);
    switch (kind) {
    case MR_KIND_BOOL:
        *(bool *)to = one_in(ctx, 2);
        return;
    case MR_KIND_INT8:
        *(int8_t *)to = (int8_t)random_bits(ctx);
        return;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        *(uint16_t *)to = (uint16_t)random_bits(ctx);
        return;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        *(uint32_t *)to = (uint32_t)random_bits(ctx);
        return;
    case MR_KIND_INT64:
        *(uint64_t *)to = random_bits(ctx);
        return;
    case MR_KIND_FLOAT64: {
        static const double some[] = {0.0, 1.0, -1.5, 0.001, 9999999.0, 1e7, 1e300, 1048576.0};
        *(double *)to = some[mr_prng_below(ctx->prng, sizeof some / sizeof some[0])];
        if (one_in(ctx, 2)) {
            *(double *)to = (double)mr_prng_next(ctx->prng) / (double)(1 + random_bits(ctx));
        }
        return;
    }
    case MR_KIND_UUID:
        memcpy(to, random_bytes(ctx, 16), 16);
        if (one_in(ctx, 4)) { /* zero, or one that comes again */
            memset(to, 0, 16);
            ((uint8_t *)to)[15] = (uint8_t)mr_prng_below(ctx->prng, 4);
        }
        return;
    case MR_KIND_STRING:
        *(struct mr_str *)to = is_null ? MR_STR_NULL : random_text(ctx);
        return;
    case MR_KIND_BYTES: {
        int32_t len = random_len(ctx);
        *(struct mr_blob *)to =
            is_null ? MR_BLOB_NULL : (struct mr_blob){.data = random_bytes(ctx, len), .len = len};
        return;
    }
    case MR_KIND_RECORDS: {
        int32_t len = random_len(ctx) * 3;
        *(struct mr_chain *)to = is_null ? (struct mr_chain){.spans = NULL}
                                         : mr_random_chain(ctx->prng, random_bytes(ctx, len),
                                                           (uint32_t)len, ctx->arena);
        return;
    }
    case MR_KIND_ARRAY:
    case MR_KIND_ONE:
    case MR_KIND_MAYBE:
        break;
    }
    mr_unreachable("not a scalar");
}

static uint32_t item_size(const struct mr_field *field)
{
    static const uint32_t sizes[] = {
        [MR_KIND_BOOL] = 1,
        [MR_KIND_INT8] = 1,
        [MR_KIND_INT16] = 2,
        [MR_KIND_UINT16] = 2,
        [MR_KIND_INT32] = 4,
        [MR_KIND_UINT32] = 4,
        [MR_KIND_INT64] = 8,
        [MR_KIND_FLOAT64] = 8,
        [MR_KIND_UUID] = sizeof(struct mr_uuid),
        [MR_KIND_STRING] = sizeof(struct mr_str),
        [MR_KIND_BYTES] = sizeof(struct mr_blob),
        [MR_KIND_MAYBE] = 0,
    };
    return field->item_kind == MR_KIND_ONE ? field->sub->size : sizes[field->item_kind];
}

static void random_array(const struct random *ctx, const struct mr_field *field, bool may_be_null,
                         uint8_t *out, uint32_t depth)
{
    int32_t *count = (int32_t *)(void *)(out + field->count_offset);
    void   **items = (void **)(void *)(out + field->offset);
    *items = NULL;
    *count = -1;
    if (may_be_null && one_in(ctx, 4)) {
        return;
    }
    bool is_struct = field->item_kind == MR_KIND_ONE;
    *count = (int32_t)mr_prng_below(ctx->prng, is_struct ? depth < 2 ? 4 : 3 : 5);
    if (!is_struct && one_in(ctx, 64)) {
        *count += 127; /* a compact count of two bytes */
    }
    uint32_t size = item_size(field);
    uint8_t *item = mr_arena_get(ctx->arena, (size_t)size * (size_t)*count + 1, 16);
    *items = item;
    for (int32_t index = 0; index < *count; index++, item += size) {
        if (is_struct) {
            random_struct(ctx, field->sub, item, depth + 1);
        } else {
            random_scalar(ctx, (enum mr_kind)field->item_kind, false, item);
        }
    }
}

static bool is_present(const struct random *ctx, const struct mr_field *field)
{
    return field->since <= ctx->version && ctx->version <= field->until;
}

static void random_field(const struct random *ctx, const struct mr_field *field, uint8_t *out,
                         uint32_t depth)
{
    bool may_be_null = field->is_nullable && field->nullable_since <= ctx->version;
    if (field->kind == MR_KIND_ARRAY) {
        random_array(ctx, field, may_be_null, out, depth);
    } else if (field->kind == MR_KIND_ONE) {
        random_struct(ctx, field->sub, out + field->offset, depth + 1);
    } else if (field->kind == MR_KIND_MAYBE) {
        void **to = (void **)(void *)(out + field->offset);
        *to = NULL;
        if (one_in(ctx, 2)) {
            *to = mr_arena_get(ctx->arena, field->sub->size, 16);
            random_struct(ctx, field->sub, *to, depth + 1);
        }
    } else {
        random_scalar(ctx, (enum mr_kind)field->kind, may_be_null, out + field->offset);
    }
}

static void random_struct(const struct random *ctx, const struct mr_struct *desc, uint8_t *out,
                          uint32_t depth)
{
    mr_struct_defaults(desc, out);
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (is_present(ctx, field) && !(field->is_tagged && one_in(ctx, 3))) {
            random_field(ctx, field, out, depth);
        }
    }
}

/* A struct inside this field; NULL: it has none. */
static uint8_t *random_inner(const struct random *ctx, const struct mr_field *field, uint8_t *out)
{
    if (field->kind == MR_KIND_ONE) {
        return out + field->offset;
    }
    uint8_t *inner = *(uint8_t **)(void *)(out + field->offset);
    if (field->kind == MR_KIND_ARRAY) {
        int32_t count = *(int32_t *)(void *)(out + field->count_offset);
        return count <= 0 ? NULL : inner + mr_prng_below(ctx->prng, (uint64_t)count) * field->sub->size;
    }
    return inner;
}

static void change_struct(const struct random *ctx, const struct mr_struct *desc, uint8_t *out,
                          uint32_t depth)
{
    if (desc->field_count == 0) {
        return;
    }
    const struct mr_field *field = &desc->fields[mr_prng_below(ctx->prng, desc->field_count)];
    if (!is_present(ctx, field)) {
        return;
    }
    uint8_t *inner = field->sub != NULL ? random_inner(ctx, field, out) : NULL;
    if (inner != NULL && !one_in(ctx, 4)) {
        change_struct(ctx, field->sub, inner, depth + 1);
    } else {
        random_field(ctx, field, out, depth);
    }
}

void mr_random_change(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                      struct mr_arena *arena, void *inout)
{
    const struct random ctx = {.prng = prng, .arena = arena, .version = version};
    change_struct(&ctx, msg->root, inout, 1);
}

void mr_random_msg(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                   struct mr_arena *arena, void *out)
{
    mr_assert(mr_msg_has_version(msg, version));
    const struct random ctx = {.prng = prng, .arena = arena, .version = version};
    random_struct(&ctx, msg->root, out, 1);
}
