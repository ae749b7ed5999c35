/*
 * msg_print: rows + struct -> one line of JSON, for dumps, traces and the comparison with Kafka.
 *
 * Follows Kafka's generated JsonConverter classes (RECORDS as their size) and Jackson's way of
 * writing text, so that the outputs can be compared byte for byte.
 */
#include "kafka/double_text.h"
#include "kafka/fields.h"

struct print {
    struct mr_text *text;
    int16_t         version;
};

static enum mr_err print_struct(const struct print *ctx, const struct mr_struct *desc,
                                const uint8_t *in, uint32_t depth);

/* snake_case to Kafka's camelCase, quoted; RECORDS print their size and say so, unless null. */
static void print_name(struct mr_text *text, const char *name, bool is_size)
{
    bool up = false;
    mr_text_put(text, "\"", 1);
    for (; *name != '\0'; name++) {
        char c = *name;
        if (c == '_') {
            up = true;
            continue;
        }
        c = up && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        up = false;
        mr_text_put(text, &c, 1);
    }
    mr_text_fmt(text, "%s\":", is_size ? "SizeInBytes" : "");
}

/* How many of the bytes are one well-formed UTF-8 character beyond ASCII; 0 when they are none. */
static uint32_t utf8_len(const uint8_t *at, uint32_t left)
{
    uint32_t len = at[0] >= 0xc2 && at[0] <= 0xdf   ? 2
                   : at[0] >= 0xe0 && at[0] <= 0xef ? 3
                   : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                    : 0;
    if (len == 0 || len > left) {
        return 0;
    }
    for (uint32_t index = 1; index < len; index++) {
        if ((at[index] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool is_beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return is_overlong || is_surrogate || is_beyond ? 0 : len;
}

static void print_text(struct mr_text *text, const struct mr_str *str)
{
    const uint8_t *at = (const uint8_t *)str->data;
    uint32_t       left = (uint32_t)str->len;
    mr_text_put(text, "\"", 1);
    while (left > 0) {
        uint32_t len = 1;
        switch (*at) {
        case '"':
            mr_text_put(text, "\\\"", 2);
            break;
        case '\\':
            mr_text_put(text, "\\\\", 2);
            break;
        case '\b':
            mr_text_put(text, "\\b", 2);
            break;
        case '\f':
            mr_text_put(text, "\\f", 2);
            break;
        case '\n':
            mr_text_put(text, "\\n", 2);
            break;
        case '\r':
            mr_text_put(text, "\\r", 2);
            break;
        case '\t':
            mr_text_put(text, "\\t", 2);
            break;
        default:
            if (*at < 0x20) {
                mr_text_fmt(text, "\\u00%c%c", '0' + (*at >> 4), "0123456789ABCDEF"[*at & 15]);
            } else if (*at < 0x80) {
                mr_text_put(text, (const char *)at, 1);
            } else {
                len = utf8_len(at, left);
                /* What is no character prints as U+FFFD, byte by byte. */
                mr_text_put(text, len > 0 ? (const char *)at : "\xef\xbf\xbd", len > 0 ? len : 3);
                len = len > 0 ? len : 1;
            }
            break;
        }
        at += len;
        left -= len;
    }
    mr_text_put(text, "\"", 1);
}

static void print_base64(struct mr_text *text, const struct mr_blob *blob)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    mr_text_put(text, "\"", 1);
    for (int32_t at = 0; at < blob->len; at += 3) {
        int32_t  left = blob->len - at;
        uint32_t bits = (uint32_t)blob->data[at] << 16;
        bits |= left > 1 ? (uint32_t)blob->data[at + 1] << 8 : 0;
        bits |= left > 2 ? (uint32_t)blob->data[at + 2] : 0;
        const char quad[4] = {
            alphabet[bits >> 18],
            alphabet[bits >> 12 & 63],
            left > 1 ? alphabet[bits >> 6 & 63] : '=',
            left > 2 ? alphabet[bits & 63] : '=',
        };
        mr_text_put(text, quad, sizeof quad);
    }
    mr_text_put(text, "\"", 1);
}

static enum mr_err print_null(const struct print *ctx, const struct mr_field *field)
{
    mr_text_put(ctx->text, "null", 4);
    return mr_fields_null_ok(field, ctx->version) ? MR_OK : MR_ERR_UNSUPPORTED_FIELD;
}

static enum mr_err print_scalar(const struct print *ctx, const struct mr_field *field,
                                enum mr_kind kind, const void *at)
{
    struct mr_text *text = ctx->text;
    switch (kind) {
    case MR_KIND_BOOL:
        mr_text_fmt(text, "%s", *(const bool *)at ? "true" : "false");
        return MR_OK;
    case MR_KIND_INT8:
        mr_text_fmt(text, "%d", *(const int8_t *)at);
        return MR_OK;
    case MR_KIND_INT16:
        mr_text_fmt(text, "%d", *(const int16_t *)at);
        return MR_OK;
    case MR_KIND_UINT16:
        mr_text_fmt(text, "%u", *(const uint16_t *)at);
        return MR_OK;
    case MR_KIND_INT32:
        mr_text_fmt(text, "%d", *(const int32_t *)at);
        return MR_OK;
    case MR_KIND_UINT32:
        mr_text_fmt(text, "%u", *(const uint32_t *)at);
        return MR_OK;
    case MR_KIND_INT64:
        mr_text_fmt(text, "%lld", (long long)*(const int64_t *)at);
        return MR_OK;
    case MR_KIND_FLOAT64: {
        double value = *(const double *)at;
        bool   is_number = value - value < 1.0; /* not for NaN and the infinities */
        mr_text_put(text, "\"", is_number ? 0 : 1);
        mr_double_text(text, value);
        mr_text_put(text, "\"", is_number ? 0 : 1);
        return MR_OK;
    }
    case MR_KIND_UUID: {
        char id[MR_UUID_TEXT + 1];
        mr_uuid_text(at, id);
        mr_text_fmt(text, "\"%s\"", id);
        return MR_OK;
    }
    case MR_KIND_STRING: {
        const struct mr_str *str = at;
        if (str->len < 0) {
            return print_null(ctx, field);
        }
        print_text(text, str);
        return MR_OK;
    }
    case MR_KIND_BYTES: {
        const struct mr_blob *blob = at;
        if (blob->len < 0) {
            return print_null(ctx, field);
        }
        print_base64(text, blob);
        return MR_OK;
    }
    case MR_KIND_RECORDS: {
        const struct mr_chain *chain = at;
        if (chain->spans == NULL) {
            return print_null(ctx, field);
        }
        mr_text_fmt(text, "%u", chain->bytes);
        return MR_OK;
    }
    case MR_KIND_ARRAY:
    case MR_KIND_ONE:
    case MR_KIND_MAYBE:
        break;
    }
    mr_unreachable("not a scalar");
}

static enum mr_err print_array(const struct print *ctx, const struct mr_field *field,
                               const uint8_t *in, uint32_t depth)
{
    const uint8_t *items = *(const uint8_t *const *)(const void *)(in + field->offset);
    int32_t        count = *(const int32_t *)(const void *)(in + field->count_offset);
    enum mr_kind   kind = (enum mr_kind)field->item_kind;
    uint32_t       size = mr_fields_item_size(field);
    enum mr_err    err = MR_OK;
    if (count < 0) {
        return print_null(ctx, field);
    }
    mr_text_put(ctx->text, "[", 1);
    for (int32_t index = 0; index < count && err == MR_OK; index++, items += size) {
        mr_text_put(ctx->text, ",", index > 0 ? 1 : 0);
        err = kind == MR_KIND_ONE ? print_struct(ctx, field->sub, items, depth + 1)
                                  : print_scalar(ctx, field, kind, items);
    }
    mr_text_put(ctx->text, "]", 1);
    return err;
}

static enum mr_err print_field(const struct print *ctx, const struct mr_field *field,
                               const uint8_t *in, uint32_t depth)
{
    enum mr_kind kind = (enum mr_kind)field->kind;
    if (kind == MR_KIND_ARRAY) {
        return print_array(ctx, field, in, depth);
    }
    if (kind == MR_KIND_ONE) {
        return print_struct(ctx, field->sub, in + field->offset, depth + 1);
    }
    if (kind == MR_KIND_MAYBE) {
        const uint8_t *sub = *(const uint8_t *const *)(const void *)(in + field->offset);
        if (sub == NULL) {
            mr_text_put(ctx->text, "null", 4);
            return MR_OK;
        }
        return print_struct(ctx, field->sub, sub, depth + 1);
    }
    return print_scalar(ctx, field, kind, in + field->offset);
}

static enum mr_err print_struct(const struct print *ctx, const struct mr_struct *desc,
                                const uint8_t *in, uint32_t depth)
{
    mr_assert(depth <= MR_MSG_DEPTH_MAX);
    bool is_first = true;
    mr_text_put(ctx->text, "{", 1);
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        enum mr_err            err = MR_OK;
        if (!mr_fields_has(field, ctx->version)) {
            err = mr_fields_check_absent(field, in);
        } else if (!field->is_tagged || !mr_fields_is_default(field, in)) {
            mr_text_put(ctx->text, ",", is_first ? 0 : 1);
            is_first = false;
            print_name(ctx->text, field->name,
                       field->kind == MR_KIND_RECORDS && !mr_fields_is_default(field, in));
            err = print_field(ctx, field, in, depth);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    mr_text_put(ctx->text, "}", 1);
    return MR_OK;
}

enum mr_err mr_msg_print(const struct mr_msg *msg, int16_t version, const void *in,
                         struct mr_text *text)
{
    if (!mr_msg_has_version(msg, version)) {
        return MR_ERR_UNSUPPORTED_VERSION;
    }
    const struct print ctx = {.text = text, .version = version};
    return print_struct(&ctx, msg->root, in, 1);
}
