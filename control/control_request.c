/*
 * control_request: a forwarded request from its arrival to its answer: decode, memory, encode.
 *
 * The message is decoded into one piece of the heap whose size follows the bytes that came, never a
 * length that they declare: a try with a small piece, and again with twice as much while the codec
 * says that it was too small. Answers are measured first, so each is one piece too.
 */
#include "pieces.h"

#include <stdarg.h>

#define SCRATCH_LEAST      1024
#define SCRATCH_FACTOR     64 /* no message decodes into more than this many times its bytes */
#define TEXT_BYTES         512

/* Parts of the heap: one message at most, and all open ones. */
#define SCRATCH_SHARE      16
#define SCRATCH_OPEN_SHARE 4

struct mr_request_block {
    struct mr_request_block *next;
    size_t                   bytes;
    _Alignas(16) uint8_t data[];
};

struct mr_reply_box {
    size_t         bytes; /* of the whole box */
    struct mr_span span;
    uint8_t        data[];
};

void mr_control_serve(struct mr_control *control, int16_t api_key, mr_control_handler *handler)
{
    mr_assert(0 <= api_key && api_key < MR_CONTROL_KEYS_MAX && control->handlers[api_key] == NULL);
    control->handlers[api_key] = handler;
}

void *mr_request_memory(struct mr_control *control, struct mr_request *request, size_t bytes)
{
    size_t                   whole = sizeof(struct mr_request_block) + bytes;
    struct mr_request_block *block = mr_heap_zero(&control->heap, whole);
    if (block == NULL) {
        return NULL;
    }
    block->bytes = whole;
    block->next = request->blocks;
    request->blocks = block;
    return block->data;
}

struct mr_str mr_request_text(struct mr_control *control, struct mr_request *request,
                              const char *format, ...)
{
    char           buffer[TEXT_BYTES];
    struct mr_text text;
    va_list        args;
    mr_text_init(&text, buffer, sizeof buffer);
    va_start(args, format);
    mr_text_vfmt(&text, format, args);
    va_end(args);
    char *copy = mr_request_memory(control, request, text.len + 1);
    if (copy == NULL) {
        return MR_STR_NULL;
    }
    memcpy(copy, buffer, text.len);
    return (struct mr_str){.data = copy, .len = (int32_t)text.len};
}

void mr_request_forget(struct mr_control *control, struct mr_request *request)
{
    while (request->blocks != NULL) {
        struct mr_request_block *block = request->blocks;
        request->blocks = block->next;
        mr_heap_free(&control->heap, block, block->bytes);
    }
    request->user = NULL;
    request->number = 0;
}

/* ---- in ---- */

static enum mr_err request_decode(struct mr_control *control, struct mr_request *request,
                                  const struct mr_msg *msg)
{
    const struct mr_forward *forward = request->forward;
    size_t                   size = SCRATCH_LEAST + msg->root->size + (size_t)forward->body.bytes;
    size_t                   most = size * SCRATCH_FACTOR;
    for (;; size *= 2) {
        /* Pieces are given back to their size class only: a few clients with huge messages must not
         * take the heap apart for everybody else. */
        bool is_modest = size <= control->heap.size / SCRATCH_SHARE &&
                         control->scratch_open + size <= control->heap.size / SCRATCH_OPEN_SHARE;
        void *memory = is_modest ? mr_heap_try(&control->heap, size) : NULL;
        if (memory == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        request->scratch_bytes = size;
        mr_arena_init(&request->scratch, memory, size);
        request->message = mr_arena_get(&request->scratch, msg->root->size, 16);
        struct mr_reader reader;
        mr_reader_init(&reader, &forward->body);
        enum mr_err err =
            mr_msg_decode(msg, forward->api_version, &reader, &request->scratch, request->message);
        if (err == MR_OK && mr_reader_left(&reader) > 0) {
            err = MR_ERR_MALFORMED;
        }
        if (err == MR_OK) {
            control->scratch_open += size;
            return MR_OK;
        }
        mr_heap_free(&control->heap, memory, size);
        request->scratch_bytes = 0;
        if (err != MR_ERR_NO_MEMORY || size >= most) {
            return err;
        }
    }
}

void mr_control_request_in(struct mr_control *control, struct mr_now now,
                           struct mr_forward *forward)
{
    struct mr_request   *request = MR_HEAP_NEW(&control->heap, struct mr_request);
    const struct mr_msg *msg = mr_api_request_desc(forward->api_key);
    mr_control_handler  *handler = forward->api_key >= 0 && forward->api_key < MR_CONTROL_KEYS_MAX
                                       ? control->handlers[forward->api_key]
                                       : NULL;
    control->requests_open++;
    if (request != NULL) {
        mr_list_init(&request->link);
        request->forward = forward;
        request->arrived_ns = now.mono_ns;
        if (msg != NULL && handler != NULL && request_decode(control, request, msg) == MR_OK) {
            if (!mr_pieces_begin(control, now, request)) {
                handler(control, now, request);
            }
            return;
        }
        mr_control_reply_close(control, request);
        return;
    }
    /* Not even memory to remember it: the client tries again elsewhere or later. */
    forward->is_close_wanted = true;
    forward->reply = (struct mr_chain){0};
    forward->reply_cookie = NULL;
    control->requests_open--;
    mr_port_send(control->port, forward->data_endpoint,
                 &(struct mr_plane_msg){.kind = MR_PLANE_REPLY, .u.forward = forward});
}

/* ---- out ---- */

static void request_end(struct mr_control *control, struct mr_request *request)
{
    struct mr_forward *forward = request->forward;
    mr_request_forget(control, request);
    mr_pieces_end(control, request);
    if (request->scratch_bytes > 0) {
        mr_heap_free(&control->heap, request->scratch.base, request->scratch_bytes);
        control->scratch_open -= request->scratch_bytes;
    }
    mr_assert(mr_list_is_empty(&request->link) && control->requests_open > 0);
    MR_HEAP_DELETE(&control->heap, request);
    control->requests_open--;
    mr_port_send(control->port, forward->data_endpoint,
                 &(struct mr_plane_msg){.kind = MR_PLANE_REPLY, .u.forward = forward});
}

struct mr_reply_box *mr_control_box(struct mr_control *control, size_t bytes)
{
    struct mr_reply_box *box = mr_heap_try(&control->heap, sizeof *box + bytes);
    if (box != NULL) {
        box->bytes = sizeof *box + bytes;
        box->span = (struct mr_span){.data = box->data, .len = (uint32_t)bytes};
    }
    return box;
}

uint8_t *mr_control_box_bytes(struct mr_reply_box *box)
{
    return box->data;
}

void mr_control_reply_prepare(struct mr_control *control, struct mr_request *request,
                              const void *response)
{
    const struct mr_forward *forward = request->forward;
    const struct mr_msg     *msg = mr_api_response_desc(forward->api_key);
    uint32_t                 bytes = 0;
    mr_assert(request->reply == NULL && !request->is_broken);
    if (request->pieces != NULL) {
        mr_pieces_take(control, request, response);
        return;
    }
    enum mr_err err = mr_msg_size(msg, forward->api_version, response, &bytes);
    if (err != MR_OK) {
        mr_log(control->log, MR_LOG_ERROR,
               "an answer cannot be encoded, closing api_key=%d version=%d why=%s",
               forward->api_key, forward->api_version, mr_err_text(err));
        request->is_broken = true;
        return;
    }
    struct mr_reply_box *box = mr_control_box(control, bytes);
    if (box == NULL) {
        request->is_broken = true;
        return;
    }
    struct mr_arena  arena;
    struct mr_span   spans[2];
    struct mr_writer writer;
    mr_arena_init(&arena, box->data, bytes);
    mr_writer_init(&writer, &arena, spans, 2);
    err = mr_msg_encode(msg, forward->api_version, response, &writer);
    mr_assert(err == MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.bytes == bytes && (bytes == 0 || chain.spans[0].len == bytes));
    control->work += bytes;
    request->reply = box;
}

void mr_control_reply_send(struct mr_control *control, struct mr_request *request)
{
    struct mr_forward *forward = request->forward;
    if (request->pieces != NULL && mr_pieces_next(control, request)) {
        return;
    }
    if (request->pieces != NULL && !request->is_broken) {
        request->reply = mr_pieces_join(control, request);
    }
    struct mr_reply_box *box = request->reply;
    if (box == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    forward->reply =
        (struct mr_chain){.spans = &box->span, .span_count = 1, .bytes = box->span.len};
    forward->is_silent = false;
    forward->is_close_wanted = false;
    forward->reply_cookie = box;
    request_end(control, request);
}

void mr_control_reply(struct mr_control *control, struct mr_request *request, const void *response)
{
    mr_control_reply_prepare(control, request, response);
    mr_control_reply_send(control, request);
}

static void reply_without_bytes(struct mr_control *control, struct mr_request *request,
                                bool is_close)
{
    struct mr_forward *forward = request->forward;
    if (request->reply != NULL) {
        mr_heap_free(&control->heap, request->reply, request->reply->bytes);
        request->reply = NULL;
    }
    forward->reply = (struct mr_chain){0};
    forward->is_silent = !is_close;
    forward->is_close_wanted = is_close;
    forward->reply_cookie = NULL;
    request_end(control, request);
}

void mr_control_reply_silent(struct mr_control *control, struct mr_request *request)
{
    reply_without_bytes(control, request, false);
}

void mr_control_reply_close(struct mr_control *control, struct mr_request *request)
{
    reply_without_bytes(control, request, true);
}

void mr_control_reply_done(struct mr_control *control, void *cookie)
{
    struct mr_reply_box *box = cookie;
    if (box != NULL) {
        mr_heap_free(&control->heap, box, box->bytes);
    }
}
