/*
 * reader: walks the bytes of a span chain in order.
 */
#include "kafka/reader.h"

#include "millrace/base/bytes.h"

/* Nothing to read is still a place to point to: NULL plus 0 is not defined in C. */
static const uint8_t nothing[1];

/* Enter the next span that is not empty, clipped to what is left. Asserts that there is one. */
static void reader_advance(struct mr_reader *reader)
{
    while (reader->at == reader->end) {
        mr_assert(reader->next_count > 0);
        const struct mr_span *span = reader->next++;
        reader->next_count--;
        if (span->len > 0) {
            uint32_t len = span->len < reader->left ? span->len : reader->left;
            reader->at = span->data;
            reader->end = span->data + len;
        }
    }
}

void mr_reader_init(struct mr_reader *reader, const struct mr_chain *chain)
{
    *reader = (struct mr_reader){
        .at = nothing,
        .end = nothing,
        .next = chain->spans,
        .next_count = chain->span_count,
        .left = chain->bytes,
    };
}

void mr_reader_init_bytes(struct mr_reader *reader, const void *data, uint32_t len)
{
    const uint8_t *at = len > 0 ? data : nothing;
    *reader = (struct mr_reader){.at = at, .end = at + len, .left = len};
}

const uint8_t *mr_reader_gather(struct mr_reader *reader, uint32_t len, uint8_t *copy)
{
    if (len > reader->left) {
        return NULL;
    }
    for (uint32_t done = 0; done < len;) {
        reader_advance(reader);
        uint32_t room = (uint32_t)(reader->end - reader->at);
        uint32_t part = len - done < room ? len - done : room;
        memcpy(copy + done, reader->at, part);
        reader->at += part;
        reader->left -= part;
        done += part;
    }
    return copy;
}

enum mr_err mr_reader_int16(struct mr_reader *reader, int16_t *value)
{
    uint8_t        copy[2];
    const uint8_t *at = mr_reader_take(reader, sizeof copy, copy);
    if (at == NULL) {
        return MR_ERR_TRUNCATED;
    }
    *value = (int16_t)mr_load_be16(at);
    return MR_OK;
}

enum mr_err mr_reader_int32(struct mr_reader *reader, int32_t *value)
{
    uint8_t        copy[4];
    const uint8_t *at = mr_reader_take(reader, sizeof copy, copy);
    if (at == NULL) {
        return MR_ERR_TRUNCATED;
    }
    *value = (int32_t)mr_load_be32(at);
    return MR_OK;
}

/* Seven bits per byte, least significant first; a fifth byte carries four bits and ends it. */
enum mr_err mr_reader_uvarint(struct mr_reader *reader, uint32_t *value)
{
    uint32_t sum = 0;
    for (uint32_t shift = 0; shift < 35; shift += 7) {
        uint8_t        copy[1];
        const uint8_t *at = mr_reader_take(reader, 1, copy);
        if (at == NULL) {
            return MR_ERR_TRUNCATED;
        }
        if (shift == 28 && *at > 0x0f) {
            return MR_ERR_MALFORMED;
        }
        sum |= (uint32_t)(*at & 0x7f) << shift;
        if (*at < 0x80) {
            *value = sum;
            return MR_OK;
        }
    }
    return MR_ERR_MALFORMED;
}

enum mr_err mr_reader_skip(struct mr_reader *reader, uint32_t len)
{
    if (len > reader->left) {
        return MR_ERR_TRUNCATED;
    }
    while (len > 0) {
        reader_advance(reader);
        uint32_t room = (uint32_t)(reader->end - reader->at);
        uint32_t part = len < room ? len : room;
        reader->at += part;
        reader->left -= part;
        len -= part;
    }
    return MR_OK;
}

enum mr_err mr_reader_chain(struct mr_reader *reader, uint32_t len, struct mr_arena *scratch,
                            struct mr_chain *chain)
{
    static const struct mr_span empty = {.data = nothing, .len = 0};
    if (len > reader->left) {
        return MR_ERR_TRUNCATED;
    }
    if (len == 0) {
        *chain = (struct mr_chain){.spans = &empty};
        return MR_OK;
    }
    /* Count on a copy first, so that the list takes exactly what it needs. */
    struct mr_reader ahead = *reader;
    uint32_t         count = 0;
    for (uint32_t need = len; need > 0; count++) {
        reader_advance(&ahead);
        uint32_t room = (uint32_t)(ahead.end - ahead.at);
        uint32_t part = need < room ? need : room;
        ahead.at += part;
        ahead.left -= part;
        need -= part;
    }
    struct mr_span *spans = MR_ARENA_TRY(scratch, struct mr_span, count);
    if (spans == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    uint32_t need = len;
    for (uint32_t index = 0; index < count; index++) {
        reader_advance(reader);
        uint32_t room = (uint32_t)(reader->end - reader->at);
        uint32_t part = need < room ? need : room;
        spans[index] = (struct mr_span){.data = reader->at, .len = part};
        reader->at += part;
        reader->left -= part;
        need -= part;
    }
    *chain = (struct mr_chain){.spans = spans, .span_count = count, .bytes = len};
    return MR_OK;
}
