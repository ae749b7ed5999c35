/*
 * writer: collects what is written into spans: small values into pieces of an arena, chains as they
 * are.
 *
 *      spans     [ piece | chain ........ | piece ]     the last span is open while it is a piece;
 *      arena     [ piece |        piece | at   end ]    its length is set when it closes
 */
#include "kafka/writer.h"

#include "millrace/base/bytes.h"

/* Enough for most answers in one piece, and little to ask for; the rest is given back. */
#define PIECE_BYTES 512

void mr_writer_init(struct mr_writer *writer, struct mr_arena *scratch, struct mr_span *spans,
                    uint32_t span_max)
{
    *writer = (struct mr_writer){.scratch = scratch, .spans = spans, .span_max = span_max};
}

/* Close the open piece. What it did not use goes back, unless others took from the arena since. */
static void writer_close(struct mr_writer *writer)
{
    if (!writer->is_open) {
        return;
    }
    struct mr_span  *span = &writer->spans[writer->span_count - 1];
    struct mr_arena *arena = writer->scratch;
    span->len = (uint32_t)(writer->at - span->data);
    if (writer->end == arena->base + arena->used) {
        arena->used -= (size_t)(writer->end - writer->at);
    }
    if (span->len == 0) {
        writer->span_count--;
    }
    writer->at = writer->end = NULL;
    writer->is_open = false;
}

uint8_t *mr_writer_more(struct mr_writer *writer, uint32_t len)
{
    if (writer->is_counting) {
        mr_assert(len <= sizeof writer->sink);
        writer->bytes += len;
        return writer->sink;
    }
    struct mr_arena *arena = writer->scratch;
    if (writer->is_open && writer->end == arena->base + arena->used) {
        /* Nobody took in between: the piece grows where it is. */
        uint32_t need = len - (uint32_t)(writer->end - writer->at);
        uint32_t step = need > PIECE_BYTES ? need : PIECE_BYTES;
        if (mr_arena_try(arena, step, 1) == NULL) {
            step = need;
            if (mr_arena_try(arena, step, 1) == NULL) {
                return NULL;
            }
        }
        writer->end += step;
    } else {
        writer_close(writer);
        uint32_t step = len > PIECE_BYTES ? len : PIECE_BYTES;
        uint8_t *piece = mr_arena_try(arena, step, 1);
        if (piece == NULL) {
            step = len;
            piece = mr_arena_try(arena, step, 1);
        }
        if (piece == NULL || writer->span_count == writer->span_max) {
            return NULL;
        }
        writer->spans[writer->span_count++] = (struct mr_span){.data = piece};
        writer->at = piece;
        writer->end = piece + step;
        writer->is_open = true;
    }
    uint8_t *room = writer->at;
    writer->at += len;
    writer->bytes += len;
    return room;
}

struct mr_chain mr_writer_finish(struct mr_writer *writer)
{
    mr_assert(!writer->is_counting && writer->bytes <= UINT32_MAX);
    writer_close(writer);
    return (struct mr_chain){
        .spans = writer->spans,
        .span_count = writer->span_count,
        .bytes = (uint32_t)writer->bytes,
    };
}

uint8_t *mr_writer_reserve(struct mr_writer *writer, uint32_t len)
{
    return mr_writer_room(writer, len);
}

enum mr_err mr_writer_int16(struct mr_writer *writer, int16_t value)
{
    uint8_t *to = mr_writer_room(writer, 2);
    if (to == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_store_be16(to, (uint16_t)value);
    return MR_OK;
}

enum mr_err mr_writer_int32(struct mr_writer *writer, int32_t value)
{
    uint8_t *to = mr_writer_room(writer, 4);
    if (to == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_store_be32(to, (uint32_t)value);
    return MR_OK;
}

enum mr_err mr_writer_uvarint(struct mr_writer *writer, uint32_t value)
{
    uint8_t  bytes[5];
    uint32_t len = 0;
    while (value >= 0x80) {
        bytes[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (uint8_t)value;
    uint8_t *to = mr_writer_room(writer, len);
    if (to == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    memcpy(to, bytes, len);
    return MR_OK;
}

enum mr_err mr_writer_bytes(struct mr_writer *writer, const void *data, uint32_t len)
{
    if (writer->is_counting) {
        writer->bytes += len;
        return MR_OK;
    }
    if (len == 0) {
        return MR_OK;
    }
    uint8_t *to = mr_writer_room(writer, len);
    if (to == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    memcpy(to, data, len);
    return MR_OK;
}

enum mr_err mr_writer_chain(struct mr_writer *writer, const struct mr_chain *chain)
{
    if (writer->is_counting) {
        writer->bytes += chain->bytes;
        return MR_OK;
    }
    if (chain->bytes == 0) {
        return MR_OK;
    }
    writer_close(writer);
    uint32_t bytes = 0;
    for (uint32_t index = 0; index < chain->span_count; index++) {
        if (chain->spans[index].len == 0) {
            continue;
        }
        if (writer->span_count == writer->span_max) {
            return MR_ERR_NO_MEMORY;
        }
        writer->spans[writer->span_count++] = chain->spans[index];
        bytes += chain->spans[index].len;
    }
    mr_assert(bytes == chain->bytes);
    writer->bytes += bytes;
    return MR_OK;
}
