/*
 * msg_decode: rows + bytes -> struct, and the defaults of a struct.
 *
 * The bytes are a stranger's. Every length is held against the bytes that are left before anything
 * is reserved for it, so a decode costs memory in proportion to what was really sent, and never
 * more than the arena. Recursion follows the rows, which are at most MR_MSG_DEPTH_MAX deep.
 *
 * Where Kafka is lenient and the difference could meet a client, so are we: any negative length of
 * the old encoding is null, tags may come in any order. Where it reads past what a length said, we
 * refuse: a known tagged field must be exactly as long as its size tells.
 *
 * Source: Kafka protocol guide, protocol primitive types; KIP-482 (flexible versions).
 */
#include "kafka/fields.h"
#include "kafka/reader.h"

#include "millrace/base/bytes.h"

struct decode {
    struct mr_reader *reader;
    struct mr_arena  *scratch;
    uint8_t          *copy; /* 16 bytes for a number that straddles spans. One for all numbers: as a
                             * local it would be cleared for each (-ftrivial-auto-var-init)       */
    int16_t           version;
    bool              is_flexible;
};

static enum mr_err decode_struct(const struct decode *ctx, const struct mr_struct *desc,
                                 uint8_t *out, uint32_t depth);

static void field_default(const struct mr_field *field, uint8_t *out)
{
    uint8_t *to = out + field->offset;
    switch ((enum mr_kind)field->kind) {
    case MR_KIND_BOOL:
        *(bool *)to = field->default_value != 0;
        return;
    case MR_KIND_INT8:
        *(int8_t *)to = (int8_t)field->default_value;
        return;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        *(uint16_t *)(void *)to = (uint16_t)field->default_value;
        return;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        *(uint32_t *)(void *)to = (uint32_t)field->default_value;
        return;
    case MR_KIND_INT64:
        *(int64_t *)(void *)to = field->default_value;
        return;
    case MR_KIND_FLOAT64:
        *(double *)(void *)to = 0.0;
        return;
    case MR_KIND_UUID:
        *(struct mr_uuid *)to = (struct mr_uuid){{0}};
        return;
    case MR_KIND_STRING:
        *(struct mr_str *)(void *)to = field->is_null_by_default ? MR_STR_NULL : MR_STR("");
        return;
    case MR_KIND_BYTES:
        *(struct mr_blob *)(void *)to =
            field->is_null_by_default ? MR_BLOB_NULL
                                      : (struct mr_blob){.data = (const uint8_t *)"", .len = 0};
        return;
    case MR_KIND_RECORDS: /* Kafka's default for records is null whatever the row says */
        *(struct mr_chain *)(void *)to = (struct mr_chain){.spans = NULL};
        return;
    case MR_KIND_ARRAY:
        *(void **)(void *)to = NULL;
        *(int32_t *)(void *)(out + field->count_offset) = field->is_null_by_default ? -1 : 0;
        return;
    case MR_KIND_ONE:
        mr_struct_defaults(field->sub, to);
        return;
    case MR_KIND_MAYBE:
        *(void **)(void *)to = NULL;
        return;
    }
}

void mr_struct_defaults(const struct mr_struct *desc, void *out)
{
    for (uint32_t index = 0; index < desc->field_count; index++) {
        field_default(&desc->fields[index], out);
    }
}

/* ---- lengths -------------------------------------------------------------------------------- */

/* Refuse null, or a length that cannot be; `*len` is -1 for null. */
static enum mr_err check_len(const struct decode *ctx, const struct mr_field *field, int64_t read,
                             int32_t *len)
{
    if (read < 0) {
        *len = -1;
        return mr_fields_null_ok(field, ctx->version) ? MR_OK : MR_ERR_MALFORMED;
    }
    if (read > INT32_MAX) {
        return MR_ERR_MALFORMED;
    }
    *len = (int32_t)read;
    return MR_OK;
}

static enum mr_err decode_len(const struct decode *ctx, const struct mr_field *field,
                              bool is_short, int32_t *len)
{
    enum mr_err err;
    if (ctx->is_flexible && !field->is_never_compact) {
        uint32_t plus_one;
        err = mr_reader_short_uvarint(ctx->reader, &plus_one);
        return err != MR_OK ? err : check_len(ctx, field, (int64_t)plus_one - 1, len);
    }
    if (is_short) {
        int16_t read;
        err = mr_reader_int16(ctx->reader, &read);
        return err != MR_OK ? err : check_len(ctx, field, read, len);
    }
    int32_t read;
    err = mr_reader_int32(ctx->reader, &read);
    return err != MR_OK ? err : check_len(ctx, field, read, len);
}

/* The fewest bytes that one value can take on the wire: what a count is held against. */
static uint32_t kind_bytes_min(enum mr_kind kind, const struct mr_struct *sub,
                               const struct decode *ctx, uint32_t depth)
{
    mr_assert(depth <= MR_MSG_DEPTH_MAX);
    switch (kind) {
    case MR_KIND_BOOL:
    case MR_KIND_INT8:
    case MR_KIND_MAYBE:
        return 1;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        return 2;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        return 4;
    case MR_KIND_INT64:
    case MR_KIND_FLOAT64:
        return 8;
    case MR_KIND_UUID:
        return 16;
    case MR_KIND_STRING:
        return ctx->is_flexible ? 1 : 2;
    case MR_KIND_BYTES:
    case MR_KIND_RECORDS:
    case MR_KIND_ARRAY:
        return ctx->is_flexible ? 1 : 4;
    case MR_KIND_ONE:
        break;
    }
    uint32_t sum = ctx->is_flexible ? 1 : 0;
    for (uint32_t index = 0; index < sub->field_count; index++) {
        const struct mr_field *field = &sub->fields[index];
        if (mr_fields_has(field, ctx->version) && !field->is_tagged) {
            sum += kind_bytes_min((enum mr_kind)field->kind, field->sub, ctx, depth + 1);
        }
    }
    return sum > 0 ? sum : 1;
}

/* ---- values --------------------------------------------------------------------------------- */

static enum mr_err decode_text(const struct decode *ctx, const struct mr_field *field,
                               bool is_string, const uint8_t **data, int32_t *len)
{
    enum mr_err err = decode_len(ctx, field, is_string, len);
    if (err != MR_OK) {
        return err;
    }
    if (is_string && *len > INT16_MAX) {
        return MR_ERR_MALFORMED;
    }
    if (*len <= 0) {
        *data = *len < 0 ? NULL : (const uint8_t *)"";
        return MR_OK;
    }
    uint32_t want = (uint32_t)*len;
    if (want > mr_reader_left(ctx->reader)) {
        return MR_ERR_TRUNCATED;
    }
    uint8_t *copy = NULL;
    if ((size_t)(ctx->reader->end - ctx->reader->at) < want) {
        copy = mr_arena_try(ctx->scratch, want, 1);
        if (copy == NULL) {
            return MR_ERR_NO_MEMORY;
        }
    }
    *data = mr_reader_take(ctx->reader, want, copy);
    mr_assert(*data != NULL);
    return MR_OK;
}

static enum mr_err decode_string(const struct decode *ctx, const struct mr_field *field,
                                 struct mr_str *str)
{
    const uint8_t *data = NULL;
    enum mr_err    err = decode_text(ctx, field, true, &data, &str->len);
    str->data = (const char *)data;
    return err;
}

static enum mr_err decode_records(const struct decode *ctx, const struct mr_field *field,
                                  struct mr_chain *to)
{
    int32_t     len;
    enum mr_err err = decode_len(ctx, field, false, &len);
    if (err != MR_OK) {
        return err;
    }
    if (len < 0) {
        *to = (struct mr_chain){.spans = NULL};
        return MR_OK;
    }
    return mr_reader_chain(ctx->reader, (uint32_t)len, ctx->scratch, to);
}

/* A value that is no array and no struct, to the address `to` of its C type. */
static enum mr_err decode_scalar(const struct decode *ctx, const struct mr_field *field,
                                 enum mr_kind kind, void *to)
{
    uint8_t       *copy = ctx->copy;
    const uint8_t *at;
    switch (kind) {
    case MR_KIND_BOOL:
        at = mr_reader_take(ctx->reader, 1, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        *(bool *)to = *at != 0;
        return MR_OK;
    case MR_KIND_INT8:
        at = mr_reader_take(ctx->reader, 1, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        *(int8_t *)to = (int8_t)*at;
        return MR_OK;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        at = mr_reader_take(ctx->reader, 2, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        *(uint16_t *)to = mr_load_be16(at);
        return MR_OK;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        at = mr_reader_take(ctx->reader, 4, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        *(uint32_t *)to = mr_load_be32(at);
        return MR_OK;
    case MR_KIND_INT64:
        at = mr_reader_take(ctx->reader, 8, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        *(int64_t *)to = (int64_t)mr_load_be64(at);
        return MR_OK;
    case MR_KIND_FLOAT64: {
        at = mr_reader_take(ctx->reader, 8, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        const union {
            uint64_t bits;
            double   value;
        } number = {.bits = mr_load_be64(at)};
        *(double *)to = number.value;
        return MR_OK;
    }
    case MR_KIND_UUID:
        at = mr_reader_take(ctx->reader, 16, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        memcpy(to, at, 16);
        return MR_OK;
    case MR_KIND_STRING:
        return decode_string(ctx, field, to);
    case MR_KIND_BYTES: {
        struct mr_blob *blob = to;
        return decode_text(ctx, field, false, &blob->data, &blob->len);
    }
    case MR_KIND_RECORDS:
        return decode_records(ctx, field, to);
    case MR_KIND_ARRAY:
    case MR_KIND_ONE:
    case MR_KIND_MAYBE:
        break;
    }
    mr_unreachable("not a scalar");
}

static enum mr_err decode_array(const struct decode *ctx, const struct mr_field *field,
                                uint8_t *out, uint32_t depth)
{
    int32_t     count;
    enum mr_err err = decode_len(ctx, field, false, &count);
    if (err != MR_OK) {
        return err;
    }
    *(void **)(void *)(out + field->offset) = NULL;
    *(int32_t *)(void *)(out + field->count_offset) = count;
    if (count <= 0) {
        return MR_OK;
    }
    /* A handful of items cannot hurt; beyond that the exact minimum, so that a request can make us
     * reserve at most (struct size / wire size) times its own length. */
    enum mr_kind kind = (enum mr_kind)field->item_kind;
    uint32_t     least = count <= 8 ? 1 : kind_bytes_min(kind, field->sub, ctx, depth + 1);
    if ((uint32_t)count > mr_reader_left(ctx->reader) / least) {
        return MR_ERR_TRUNCATED;
    }
    size_t   size = mr_fields_item_size(field);
    uint8_t *items = mr_arena_try(ctx->scratch, size * (size_t)count, _Alignof(max_align_t));
    if (items == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    *(void **)(void *)(out + field->offset) = items;
    size_t here = (size_t)(ctx->reader->end - ctx->reader->at);
    if (kind == MR_KIND_INT32 && size * (size_t)count <= here) {
        /* Replicas, partitions: by far the most frequent arrays of numbers, mostly in one piece. */
        const uint8_t *at = mr_reader_take(ctx->reader, (uint32_t)(size * (size_t)count), NULL);
        for (int32_t index = 0; index < count; index++, at += size, items += size) {
            *(uint32_t *)(void *)items = mr_load_be32(at);
        }
        return MR_OK;
    }
    for (int32_t index = 0; index < count && err == MR_OK; index++, items += size) {
        err = kind == MR_KIND_ONE ? decode_struct(ctx, field->sub, items, depth + 1)
                                  : decode_scalar(ctx, field, kind, items);
    }
    return err;
}

static enum mr_err decode_maybe(const struct decode *ctx, const struct mr_field *field,
                                uint8_t *out, uint32_t depth)
{
    const uint8_t *marker = mr_reader_take(ctx->reader, 1, ctx->copy);
    if (marker == NULL) {
        return MR_ERR_TRUNCATED;
    }
    void **to = (void **)(void *)(out + field->offset);
    *to = NULL;
    if (mr_fields_is_empty_by_default(field) ? *marker == 0 : (int8_t)*marker < 0) {
        return MR_OK;
    }
    *to = mr_arena_try(ctx->scratch, field->sub->size, _Alignof(max_align_t));
    return *to == NULL ? MR_ERR_NO_MEMORY : decode_struct(ctx, field->sub, *to, depth + 1);
}

/* The tagged structs that were not there. */
static enum mr_err make_empty(const struct decode *ctx, const struct mr_field *field, uint8_t *out)
{
    void **to = (void **)(void *)(out + field->offset);
    *to = mr_arena_try(ctx->scratch, field->sub->size, _Alignof(max_align_t));
    if (*to == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_struct_defaults(field->sub, *to);
    return MR_OK;
}

static enum mr_err decode_field(const struct decode *ctx, const struct mr_field *field,
                                uint8_t *out, uint32_t depth)
{
    enum mr_kind kind = (enum mr_kind)field->kind;
    if (kind == MR_KIND_ARRAY) {
        return decode_array(ctx, field, out, depth);
    }
    if (kind == MR_KIND_ONE) {
        return decode_struct(ctx, field->sub, out + field->offset, depth + 1);
    }
    if (kind == MR_KIND_MAYBE) {
        return decode_maybe(ctx, field, out, depth);
    }
    return decode_scalar(ctx, field, kind, out + field->offset);
}

static const struct mr_field *find_tag(const struct decode *ctx, const struct mr_struct *desc,
                                       uint32_t tag)
{
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (field->is_tagged && (uint32_t)field->tag == tag &&
            mr_fields_has(field, ctx->version)) {
            return field;
        }
    }
    return NULL;
}

static enum mr_err decode_tags(const struct decode *ctx, const struct mr_struct *desc,
                               uint8_t *out, uint32_t depth)
{
    uint32_t    count;
    enum mr_err err = mr_reader_short_uvarint(ctx->reader, &count);
    /* Every tag takes two bytes at least, so a lie about the count ends the loop early. */
    for (; err == MR_OK && count > 0; count--) {
        uint32_t tag = 0;
        uint32_t size = 0;
        err = mr_reader_short_uvarint(ctx->reader, &tag);
        if (err == MR_OK) {
            err = mr_reader_short_uvarint(ctx->reader, &size);
        }
        if (err != MR_OK) {
            return err;
        }
        uint32_t left = mr_reader_left(ctx->reader);
        if (size > left) {
            return MR_ERR_TRUNCATED;
        }
        const struct mr_field *field = find_tag(ctx, desc, tag);
        if (field == NULL) {
            err = mr_reader_skip(ctx->reader, size);
            continue;
        }
        err = decode_field(ctx, field, out, depth);
        if (err == MR_OK && left - mr_reader_left(ctx->reader) != size) {
            err = MR_ERR_MALFORMED;
        }
    }
    return err;
}

static enum mr_err decode_struct(const struct decode *ctx, const struct mr_struct *desc,
                                 uint8_t *out, uint32_t depth)
{
    mr_assert(depth <= MR_MSG_DEPTH_MAX);
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        bool        is_absent = field->is_tagged || !mr_fields_has(field, ctx->version);
        enum mr_err err = MR_OK;
        if (!is_absent) {
            err = decode_field(ctx, field, out, depth);
        } else if (mr_fields_is_empty_by_default(field)) {
            err = make_empty(ctx, field, out);
        } else {
            field_default(field, out);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    return ctx->is_flexible ? decode_tags(ctx, desc, out, depth) : MR_OK;
}

enum mr_err mr_msg_decode(const struct mr_msg *msg, int16_t version, struct mr_reader *reader,
                          struct mr_arena *scratch, void *out)
{
    if (!mr_msg_has_version(msg, version)) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    uint8_t             copy[16];
    const struct decode ctx = {
        .reader = reader,
        .scratch = scratch,
        .copy = copy,
        .version = version,
        .is_flexible = mr_msg_is_flexible(msg, version),
    };
    return decode_struct(&ctx, msg->root, out, 1);
}
