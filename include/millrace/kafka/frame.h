/*
 * frame: int32 length, then so many bytes: how everything travels on a Kafka connection.
 *
 *      | length (big-endian) | header | body |      the length does not count itself
 *
 * Pure: looks at chains that the session holds; keeps nothing.
 */
#ifndef MILLRACE_KAFKA_FRAME_H
#define MILLRACE_KAFKA_FRAME_H

#include "millrace/base/err.h"
#include "millrace/base/span.h"
#include "millrace/kafka/msg.h"

#define MR_FRAME_PREFIX 4 /* bytes of the length */

/*
 * Look whether a whole frame stands at the beginning of `chain`.
 *
 *   body_max   socket.request.max.bytes
 *   body       [out] bytes of the body, as soon as the length is known, so that the caller can say
 *              how much it waits for; 0 before
 *
 * MR_OK: bytes [4, 4 + body) of the chain are the frame. MR_AGAIN: more bytes must come. Errors:
 * MALFORMED (negative or zero length), TOO_LARGE: nothing after it can be understood, close.
 */
enum mr_err mr_frame_check(const struct mr_chain *chain, uint32_t body_max, uint32_t *body);

/* A reader over exactly the body of the frame that mr_frame_check() found. */
void mr_frame_reader(const struct mr_chain *chain, uint32_t body, struct mr_reader *reader);

/*
 * Begin a frame in a fresh writer: room for the length, which mr_frame_end() fills in. Returns NULL
 * when the writer has no room.
 */
uint8_t *mr_frame_begin(struct mr_writer *writer);

/* `prefix` is from mr_frame_begin. Errors: TOO_LARGE over 2^31-1 bytes. */
enum mr_err mr_frame_end(struct mr_writer *writer, uint8_t *prefix);

#endif
