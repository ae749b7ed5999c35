/*
 * fuzz_frame: any bytes as what a connection sends: frames, request headers, bodies.
 *
 *   | chunk | stream ...       the stream arrives in spans of chunk + 1 bytes
 *
 * Walks the stream as a session does, until something must close the connection.
 */
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"

#include <stdlib.h>

#define ARENA_BYTES (1u << 20)
#define BODY_MAX    (1u << 20)
#define SPAN_MAX    1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mr_arena arena;

/* One request; whether the connection may go on. */
static bool take_request(const struct mr_chain *chain, uint32_t body)
{
    union {
        uint8_t     bytes[1024];
        max_align_t align;
    } request;
    struct mr_reader reader;
    struct mr_header header;
    mr_arena_reset(&arena);
    mr_frame_reader(chain, body, &reader);
    mr_assert(mr_reader_left(&reader) == body);
    if (mr_header_decode(&reader, &arena, &header) != MR_OK) {
        return false;
    }
    mr_assert(header.api != NULL && mr_api_has_version(header.api, header.version));
    mr_assert(header.api->request->root->size <= sizeof request);
    return mr_msg_decode(header.api->request, header.version, &reader, &arena, &request) == MR_OK &&
           mr_reader_left(&reader) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (arena.base == NULL) {
        void *memory = malloc(ARENA_BYTES);
        if (memory == NULL) {
            abort();
        }
        mr_arena_init(&arena, memory, ARENA_BYTES);
    }
    if (size < 1) {
        return 0;
    }
    uint32_t       chunk = (uint32_t)data[0] + 1;
    const uint8_t *at = data + 1;
    size_t         left = size - 1;
    for (;;) {
        struct mr_span  spans[SPAN_MAX];
        struct mr_chain chain = {.spans = spans};
        while (chain.span_count < SPAN_MAX && chain.bytes < left) {
            uint32_t part = left - chain.bytes < chunk ? (uint32_t)(left - chain.bytes) : chunk;
            spans[chain.span_count++] = (struct mr_span){.data = at + chain.bytes, .len = part};
            chain.bytes += part;
        }
        uint32_t body;
        if (mr_frame_check(&chain, BODY_MAX, &body) != MR_OK || !take_request(&chain, body)) {
            return 0;
        }
        at += MR_FRAME_PREFIX + body;
        left -= MR_FRAME_PREFIX + body;
    }
}
