/*
 * msg_encode: rows + struct -> bytes.
 *
 * The struct is ours (a handler made it), but its values may have come from clients, so what the
 * version cannot carry is an error and not an assertion. The size of a tagged field stands before
 * it: such fields are written twice, first into a writer that counts. They are small and rare, and
 * the nesting is bounded by the rows.
 *
 * Source: Kafka protocol guide, protocol primitive types; KIP-482 (flexible versions).
 */
#include "kafka/fields.h"
#include "kafka/writer.h"

#include "millrace/base/bytes.h"

struct encode {
    struct mr_writer *writer;
    int16_t           version;
    bool              is_flexible;
};

static enum mr_err encode_struct(const struct encode *ctx, const struct mr_struct *desc,
                                 const uint8_t *in, uint32_t depth);

/* The length before strings, bytes, records and arrays; len < 0 is null. */
static enum mr_err encode_len(const struct encode *ctx, const struct mr_field *field, bool is_short,
                              int32_t len)
{
    if (len < 0) {
        if (!mr_fields_null_ok(field, ctx->version)) {
            return MR_ERR_UNSUPPORTED_FIELD;
        }
        len = -1;
    }
    if (ctx->is_flexible && !field->is_never_compact) {
        return mr_writer_short_uvarint(ctx->writer, (uint32_t)len + 1);
    }
    return is_short ? mr_writer_int16(ctx->writer, (int16_t)len)
                    : mr_writer_int32(ctx->writer, len);
}

static enum mr_err encode_text(const struct encode *ctx, const struct mr_field *field,
                               bool is_string, const void *data, int32_t len)
{
    if (is_string && len > INT16_MAX) {
        return MR_ERR_INVALID;
    }
    enum mr_err err = encode_len(ctx, field, is_string, len);
    return err != MR_OK || len <= 0 ? err : mr_writer_bytes(ctx->writer, data, (uint32_t)len);
}

static enum mr_err encode_records(const struct encode *ctx, const struct mr_field *field,
                                  const struct mr_chain *chain)
{
    if (chain->bytes > INT32_MAX) {
        return MR_ERR_INVALID;
    }
    bool        is_null = chain->spans == NULL && chain->bytes == 0;
    enum mr_err err = encode_len(ctx, field, false, is_null ? -1 : (int32_t)chain->bytes);
    return err != MR_OK || is_null ? err : mr_writer_chain(ctx->writer, chain);
}

/* A value that is no array and no struct, from the address of its C type. */
static enum mr_err encode_scalar(const struct encode *ctx, const struct mr_field *field,
                                 enum mr_kind kind, const void *at)
{
    uint8_t *to;
    switch (kind) {
    case MR_KIND_BOOL:
        to = mr_writer_room(ctx->writer, 1);
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        *to = *(const bool *)at ? 1 : 0;
        return MR_OK;
    case MR_KIND_INT8:
        to = mr_writer_room(ctx->writer, 1);
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        *to = *(const uint8_t *)at;
        return MR_OK;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        to = mr_writer_room(ctx->writer, 2);
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        mr_store_be16(to, *(const uint16_t *)at);
        return MR_OK;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        to = mr_writer_room(ctx->writer, 4);
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        mr_store_be32(to, *(const uint32_t *)at);
        return MR_OK;
    case MR_KIND_INT64:
    case MR_KIND_FLOAT64: {
        uint64_t bits;
        memcpy(&bits, at, sizeof bits);
        to = mr_writer_room(ctx->writer, 8);
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        mr_store_be64(to, bits);
        return MR_OK;
    }
    case MR_KIND_UUID:
        to = mr_writer_room(ctx->writer, sizeof(struct mr_uuid));
        if (to == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        memcpy(to, at, sizeof(struct mr_uuid));
        return MR_OK;
    case MR_KIND_STRING: {
        const struct mr_str *str = at;
        return encode_text(ctx, field, true, str->data, str->len);
    }
    case MR_KIND_BYTES: {
        const struct mr_blob *blob = at;
        return encode_text(ctx, field, false, blob->data, blob->len);
    }
    case MR_KIND_RECORDS:
        return encode_records(ctx, field, at);
    case MR_KIND_ARRAY:
    case MR_KIND_ONE:
    case MR_KIND_MAYBE:
        break;
    }
    mr_unreachable("not a scalar");
}

/* Inlined into the way of every array, which its second caller would end. */
__attribute__((always_inline)) static inline enum mr_err
encode_items(const struct encode *ctx, const struct mr_field *field, const uint8_t *items,
             uint32_t size, int32_t count, uint32_t depth)
{
    enum mr_kind kind = (enum mr_kind)field->item_kind;
    enum mr_err  err = MR_OK;
    for (int32_t index = 0; index < count && err == MR_OK; index++, items += size) {
        err = kind == MR_KIND_ONE ? encode_struct(ctx, field->sub, items, depth + 1)
                                  : encode_scalar(ctx, field, kind, items);
    }
    return err;
}

static enum mr_err encode_array(const struct encode *ctx, const struct mr_field *field,
                                const uint8_t *in, uint32_t depth)
{
    const uint8_t *items = *(const uint8_t *const *)(const void *)(in + field->offset);
    int32_t        count = *(const int32_t *)(const void *)(in + field->count_offset);
    enum mr_kind   kind = (enum mr_kind)field->item_kind;
    uint32_t       size = mr_fields_item_size(field);
    enum mr_err    err = encode_len(ctx, field, false, count);
    if (kind == MR_KIND_INT32 && err == MR_OK && count > 0 && !ctx->writer->is_counting) {
        mr_assert(count <= INT32_MAX / 4);
        uint8_t *to = mr_writer_room(ctx->writer, (uint32_t)count * 4);
        for (int32_t index = 0; index < count && to != NULL; index++, items += size, to += 4) {
            mr_store_be32(to, *(const uint32_t *)(const void *)items);
        }
        return to != NULL ? MR_OK : MR_ERR_NO_MEMORY;
    }
    return err == MR_OK ? encode_items(ctx, field, items, size, count, depth) : err;
}

static enum mr_err encode_maybe(const struct encode *ctx, const struct mr_field *field,
                                const uint8_t *in, uint32_t depth)
{
    const uint8_t *sub = *(const uint8_t *const *)(const void *)(in + field->offset);
    uint8_t       *marker = mr_writer_room(ctx->writer, 1);
    if (marker == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    *marker = sub != NULL ? 1 : mr_fields_is_empty_by_default(field) ? 0 : 0xff;
    return sub == NULL ? MR_OK : encode_struct(ctx, field->sub, sub, depth + 1);
}

static enum mr_err encode_field(const struct encode *ctx, const struct mr_field *field,
                                const uint8_t *in, uint32_t depth)
{
    enum mr_kind kind = (enum mr_kind)field->kind;
    if (kind == MR_KIND_ARRAY) {
        return encode_array(ctx, field, in, depth);
    }
    if (kind == MR_KIND_ONE) {
        return encode_struct(ctx, field->sub, in + field->offset, depth + 1);
    }
    if (kind == MR_KIND_MAYBE) {
        return encode_maybe(ctx, field, in, depth);
    }
    return encode_scalar(ctx, field, kind, in + field->offset);
}

/* The tagged field to be written with the smallest tag above `above`; NULL when there is none. */
static const struct mr_field *next_tag(const struct encode *ctx, const struct mr_struct *desc,
                                       const uint8_t *in, int32_t above)
{
    const struct mr_field *best = NULL;
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (field->is_tagged && field->tag > above && (best == NULL || field->tag < best->tag) &&
            mr_fields_has(field, ctx->version) && !mr_fields_is_default(field, in)) {
            best = field;
        }
    }
    return best;
}

static enum mr_err encode_tags(const struct encode *ctx, const struct mr_struct *desc,
                               const uint8_t *in, uint32_t count, uint32_t depth)
{
    enum mr_err err = mr_writer_short_uvarint(ctx->writer, count);
    int32_t     last = -1;
    for (; err == MR_OK && count > 0; count--) {
        const struct mr_field *field = next_tag(ctx, desc, in, last);
        mr_assert(field != NULL);
        last = field->tag;

        struct mr_writer counter = mr_writer_counter();
        struct encode    measure = *ctx;
        measure.writer = &counter;
        err = encode_field(&measure, field, in, depth);
        if (err == MR_OK && counter.bytes > INT32_MAX) {
            err = MR_ERR_INVALID;
        }
        if (err == MR_OK) {
            err = mr_writer_short_uvarint(ctx->writer, (uint32_t)field->tag);
        }
        if (err == MR_OK) {
            err = mr_writer_short_uvarint(ctx->writer, (uint32_t)counter.bytes);
        }
        uint64_t before = ctx->writer->bytes;
        if (err == MR_OK) {
            err = encode_field(ctx, field, in, depth);
        }
        mr_assert(err != MR_OK || ctx->writer->bytes - before == counter.bytes);
    }
    return err;
}

static enum mr_err encode_struct(const struct encode *ctx, const struct mr_struct *desc,
                                 const uint8_t *in, uint32_t depth)
{
    mr_assert(depth <= MR_MSG_DEPTH_MAX);
    uint32_t tag_count = 0;
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        enum mr_err            err = MR_OK;
        if (!mr_fields_has(field, ctx->version)) {
            err = mr_fields_check_absent(field, in);
        } else if (field->is_tagged) {
            tag_count += mr_fields_is_default(field, in) ? 0 : 1;
        } else {
            err = encode_field(ctx, field, in, depth);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    return ctx->is_flexible ? encode_tags(ctx, desc, in, tag_count, depth) : MR_OK;
}

enum mr_err mr_msg_encode(const struct mr_msg *msg, int16_t version, const void *in,
                          struct mr_writer *writer)
{
    if (!mr_msg_has_version(msg, version)) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    const struct encode ctx = {
        .writer = writer,
        .version = version,
        .is_flexible = mr_msg_is_flexible(msg, version),
    };
    return encode_struct(&ctx, msg->root, in, 1);
}

enum mr_err mr_msg_size(const struct mr_msg *msg, int16_t version, const void *in, uint32_t *bytes)
{
    struct mr_writer counter = mr_writer_counter();
    enum mr_err      err = mr_msg_encode(msg, version, in, &counter);
    if (err == MR_OK && counter.bytes > UINT32_MAX) {
        err = MR_ERR_INVALID;
    }
    *bytes = err == MR_OK ? (uint32_t)counter.bytes : 0;
    return err;
}

/* ---- parts ---- */

static struct encode part_of(const struct mr_msg *msg, int16_t version, struct mr_writer *writer)
{
    mr_assert(mr_msg_has_version(msg, version));
    return (struct encode){
        .writer = writer, .version = version, .is_flexible = mr_msg_is_flexible(msg, version)};
}

/* Fields from..to, tagged ones left out. */
static enum mr_err encode_range(const struct encode *ctx, const struct mr_struct *desc,
                                const uint8_t *in, uint32_t from, uint32_t to)
{
    enum mr_err err = MR_OK;
    for (uint32_t index = from; index < to && err == MR_OK; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (!mr_fields_has(field, ctx->version)) {
            err = mr_fields_check_absent(field, in);
        } else if (!field->is_tagged) {
            err = encode_field(ctx, field, in, 1);
        }
    }
    return err;
}

enum mr_err mr_msg_encode_before(const struct mr_msg *msg, int16_t version,
                                 const struct mr_struct *desc, const struct mr_field *split,
                                 const void *in, struct mr_writer *writer)
{
    const struct encode ctx = part_of(msg, version, writer);
    return encode_range(&ctx, desc, in, 0, (uint32_t)(split - desc->fields));
}

enum mr_err mr_msg_encode_after(const struct mr_msg *msg, int16_t version,
                                const struct mr_struct *desc, const struct mr_field *split,
                                const void *in, struct mr_writer *writer)
{
    const struct encode ctx = part_of(msg, version, writer);
    uint32_t            tag_count = 0;
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (field->is_tagged && mr_fields_has(field, version) && !mr_fields_is_default(field, in)) {
            tag_count++;
        }
    }
    enum mr_err err =
        encode_range(&ctx, desc, in, (uint32_t)(split - desc->fields) + 1, desc->field_count);
    return err == MR_OK && ctx.is_flexible ? encode_tags(&ctx, desc, in, tag_count, 1) : err;
}

enum mr_err mr_msg_encode_count(const struct mr_msg *msg, int16_t version,
                                const struct mr_field *array, int32_t count,
                                struct mr_writer *writer)
{
    const struct encode ctx = part_of(msg, version, writer);
    return encode_len(&ctx, array, false, count);
}

enum mr_err mr_msg_encode_items(const struct mr_msg *msg, int16_t version,
                                const struct mr_field *array, const void *items, int32_t count,
                                struct mr_writer *writer)
{
    const struct encode ctx = part_of(msg, version, writer);
    return encode_items(&ctx, array, items, mr_fields_item_size(array), count, 1);
}
