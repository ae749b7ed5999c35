/*
 * writer: the inner step of mr_writer_* that msg_encode.c wants inlined.
 */
#ifndef MILLRACE_WRITER_H
#define MILLRACE_WRITER_H

#include "millrace/kafka/msg.h"

/* The slow road: open or extend a piece, or count. NULL when scratch or spans are used up. */
uint8_t *mr_writer_more(struct mr_writer *writer, uint32_t len);

/* Room for `len` bytes, at most sizeof writer->sink when it only counts. NULL when scratch or spans
 * are used up. */
static inline uint8_t *mr_writer_room(struct mr_writer *writer, uint32_t len)
{
    if (__builtin_expect((size_t)(writer->end - writer->at) >= len, 1)) {
        uint8_t *room = writer->at;
        writer->at += len;
        writer->bytes += len;
        return room;
    }
    return mr_writer_more(writer, len);
}

/* Most lengths, counts and tags are below 128: one byte. */
static inline enum mr_err mr_writer_short_uvarint(struct mr_writer *writer, uint32_t value)
{
    if (__builtin_expect(value < 0x80 && writer->at < writer->end, 1)) {
        *writer->at++ = (uint8_t)value;
        writer->bytes++;
        return MR_OK;
    }
    return mr_writer_uvarint(writer, value);
}

#endif
