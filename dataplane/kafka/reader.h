/*
 * reader: the inner steps of mr_reader_* that msg_decode.c wants inlined.
 */
#ifndef MILLRACE_READER_H
#define MILLRACE_READER_H

#include "millrace/kafka/msg.h"

/* The slow road: `len` bytes that straddle spans, copied into `copy`. NULL when fewer are left. */
const uint8_t *mr_reader_gather(struct mr_reader *reader, uint32_t len, uint8_t *copy);

/*
 * The next `len` > 0 bytes in one piece: in place, or in `copy` (room for len) when they straddle.
 * NULL when fewer are left. at..end never reaches beyond what is left, so one comparison is enough.
 */
static inline const uint8_t *mr_reader_take(struct mr_reader *reader, uint32_t len, uint8_t *copy)
{
    if (__builtin_expect((size_t)(reader->end - reader->at) >= len, 1)) {
        const uint8_t *bytes = reader->at;
        reader->at += len;
        reader->left -= len;
        return bytes;
    }
    return mr_reader_gather(reader, len, copy);
}

/* Most lengths, counts and tags are below 128: one byte. */
static inline enum mr_err mr_reader_short_uvarint(struct mr_reader *reader, uint32_t *value)
{
    if (__builtin_expect(reader->at < reader->end && *reader->at < 0x80, 1)) {
        *value = *reader->at++;
        reader->left--;
        return MR_OK;
    }
    return mr_reader_uvarint(reader, value);
}

#endif
