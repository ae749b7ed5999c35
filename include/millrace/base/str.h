/*
 * str: counted strings, byte strings and 16-byte ids. None of them owns its bytes.
 */
#ifndef MILLRACE_BASE_STR_H
#define MILLRACE_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* len < 0 (data == NULL) is Kafka's null string; not terminated by a zero. */
struct mr_str {
    const char *data;
    int32_t     len;
};

/* len < 0 (data == NULL) is Kafka's null bytes. */
struct mr_blob {
    const uint8_t *data;
    int32_t        len;
};

/* A UUID as on the wire: most significant byte first. */
struct mr_uuid {
    uint8_t bytes[16];
};

#define MR_STR(literal_) ((struct mr_str){.data = (literal_), .len = (int32_t)sizeof(literal_) - 1})
#define MR_STR_NULL      ((struct mr_str){.data = NULL, .len = -1})
#define MR_BLOB_NULL     ((struct mr_blob){.data = NULL, .len = -1})

static inline struct mr_str mr_str(const char *zero_terminated)
{
    return (struct mr_str){.data = zero_terminated, .len = (int32_t)strlen(zero_terminated)};
}

static inline bool mr_str_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* Without blanks at its ends. */
static inline struct mr_str mr_str_trim(struct mr_str s)
{
    while (s.len > 0 && mr_str_is_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && mr_str_is_blank(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

/* The next item of a comma-separated list at *at, trimmed and not empty; false at the end. */
static inline bool mr_str_list_next(struct mr_str list, int32_t *at, struct mr_str *item)
{
    while (*at < list.len) {
        int32_t end = *at;
        while (end < list.len && list.data[end] != ',') {
            end++;
        }
        *item = mr_str_trim((struct mr_str){.data = list.data + *at, .len = end - *at});
        *at = end + 1;
        if (item->len > 0) {
            return true;
        }
    }
    return false;
}

static inline bool mr_str_is_null(struct mr_str s)
{
    return s.len < 0;
}

static inline bool mr_str_equal(struct mr_str a, struct mr_str b)
{
    return a.len == b.len && (a.len <= 0 || memcmp(a.data, b.data, (size_t)a.len) == 0);
}

/* Byte order; a prefix sorts before its extension; null sorts first. */
static inline int mr_str_compare(struct mr_str a, struct mr_str b)
{
    int32_t least = a.len < b.len ? a.len : b.len;
    int     order = least > 0 ? memcmp(a.data, b.data, (size_t)least) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static inline bool mr_uuid_equal(const struct mr_uuid *a, const struct mr_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool mr_uuid_is_zero(const struct mr_uuid *id)
{
    static const struct mr_uuid zero;
    return mr_uuid_equal(id, &zero);
}

#define MR_UUID_TEXT 22 /* characters of Kafka's text form: base64url without padding */

/* Kafka's text form of an id; `text` receives 22 characters and a zero. */
static inline void mr_uuid_text(const struct mr_uuid *id, char text[MR_UUID_TEXT + 1])
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int      bit_count = 0;
    int      at = 0;
    for (int index = 0; index < 16; index++) {
        bits = (bits << 8) | id->bytes[index];
        bit_count += 8;
        while (bit_count >= 6) {
            bit_count -= 6;
            text[at++] = alphabet[(bits >> bit_count) & 63u];
        }
    }
    text[at++] = alphabet[(bits << (6 - bit_count)) & 63u];
    text[at] = '\0';
}

/* The id of a 22-character text; false when it is not one. */
static inline bool mr_uuid_parse(struct mr_str text, struct mr_uuid *id)
{
    if (text.len != MR_UUID_TEXT) {
        return false;
    }
    uint32_t bits = 0;
    int      bit_count = 0;
    int      at = 0;
    for (int index = 0; index < MR_UUID_TEXT; index++) {
        char     c = text.data[index];
        uint32_t value = c >= 'A' && c <= 'Z'   ? (uint32_t)(c - 'A')
                         : c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a') + 26u
                         : c >= '0' && c <= '9' ? (uint32_t)(c - '0') + 52u
                         : c == '-'             ? 62u
                         : c == '_'             ? 63u
                                                : 64u;
        if (value > 63u) {
            return false;
        }
        bits = (bits << 6) | value;
        bit_count += 6;
        if (bit_count >= 8 && at < 16) {
            bit_count -= 8;
            id->bytes[at++] = (uint8_t)(bits >> bit_count);
        }
    }
    return at == 16;
}

#endif
