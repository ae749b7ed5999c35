/*
 * reply: encode and answer.
 */
#include "broker/reply.h"

#include "broker/session.h"
#include "millrace/kafka/frame.h"

/* MR_ERR_NO_MEMORY: the arena is too small, and as it was. */
static enum mr_err encode(struct mr_request *request, const void *response, int16_t version,
                          const struct mr_chain *chain, uint32_t span_max)
{
    size_t mark = request->arena.used;
    struct mr_span *spans = MR_ARENA_TRY(&request->arena, struct mr_span, span_max);
    if (spans == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    struct mr_writer writer;
    mr_writer_init(&writer, &request->arena, spans, span_max);
    uint8_t *prefix = mr_frame_begin(&writer);
    enum mr_err err = prefix == NULL ? MR_ERR_NO_MEMORY : MR_OK;
    if (err == MR_OK) {
        err = mr_header_encode_response(&writer, request->header.api, version,
                                        request->header.correlation_id);
    }
    if (err == MR_OK) {
        err = chain != NULL
                  ? mr_writer_chain(&writer, chain)
                  : mr_msg_encode(request->header.api->response, version, response, &writer);
    }
    if (err == MR_OK) {
        err = mr_frame_end(&writer, prefix);
    }
    if (err == MR_OK) {
        request->reply = mr_writer_finish(&writer);
    } else {
        request->arena.used = mark;
    }
    return err;
}

/* Most answers fit into what their handler has reserved: only one that does not is measured. */
static enum mr_err answer(struct mr_request *request, const void *response, int16_t version,
                          uint32_t record_bytes, uint32_t record_spans)
{
    uint32_t span_max = 2 * record_spans + 8;
    enum mr_err err = encode(request, response, version, NULL, span_max);
    if (err == MR_ERR_NO_MEMORY) {
        uint32_t bytes;
        err = mr_msg_size(request->header.api->response, version, response, &bytes);
        mr_assert(err == MR_OK && bytes >= record_bytes);
        err = mr_request_more(request, mr_reply_room(bytes - record_bytes, record_spans));
        if (err != MR_OK) {
            return err;
        }
        err = encode(request, response, version, NULL, span_max);
    }
    mr_assert(err == MR_OK);
    mr_session_answered(request);
    return MR_OK;
}

enum mr_err mr_reply_message(struct mr_request *request, const void *response,
                             uint32_t record_bytes, uint32_t record_spans)
{
    return answer(request, response, request->header.version, record_bytes, record_spans);
}

enum mr_err mr_reply_version(struct mr_request *request, const void *response, int16_t version)
{
    return answer(request, response, version, 0, 0);
}

enum mr_err mr_reply_chain(struct mr_request *request, const struct mr_chain *body)
{
    enum mr_err err = mr_request_more(request, mr_reply_room(64, body->span_count));
    if (err != MR_OK) {
        return err;
    }
    err = encode(request, NULL, request->header.version, body, body->span_count + 8);
    mr_assert(err == MR_OK);
    mr_session_answered(request);
    return MR_OK;
}
