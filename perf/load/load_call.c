#include "load_call.h"

#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <string.h>

#define IN_BYTES   4096u
#define ANSWER_MAX (64u << 10)
#define SPANS      16u

static void on_frame(struct mr_load_link *link, const uint8_t *body, uint32_t len)
{
    struct mr_load_caller *caller = link->user;
    struct mr_reader       reader;
    struct mr_arena        arena;
    int32_t                correlation = -1;
    char                   what[100];
    mr_arena_init(&arena, caller->worker->scratch, MR_LOAD_SCRATCH);
    mr_reader_init_bytes(&reader, body, len);
    enum mr_err err = mr_reader_int32(&reader, &correlation);
    if (!caller->is_waiting || correlation != caller->correlation) {
        err = MR_ERR_MALFORMED;
    }
    if (err == MR_OK && mr_header_response_version(caller->api, caller->version) > 0) {
        err = mr_reader_skip(&reader, 1); /* no tagged fields are known in it */
    }
    void *response = err == MR_OK ? mr_arena_try(&arena, caller->api->response->root->size, 16) : NULL;
    if (response == NULL || mr_msg_decode(caller->api->response, caller->version, &reader, &arena, response) != MR_OK) {
        snprintf(what, sizeof what, "%s: an answer that does not belong to the request", caller->what);
        mr_load_worker_fail(caller->worker, what);
        mr_load_link_close(link);
        return;
    }
    caller->is_waiting = false;
    caller->answered(caller, response);
}

static void on_closed(struct mr_load_link *link, int err)
{
    struct mr_load_caller *caller = link->user;
    char                   what[200];
    if (!atomic_load_explicit(&caller->worker->run->is_ended, memory_order_relaxed)) {
        snprintf(what, sizeof what, "%s: connection %s", caller->what, err == 0 ? "closed by the broker" : strerror(err));
        mr_load_count(&caller->worker->counts.lost, 1);
        mr_load_worker_fail(caller->worker, what);
    }
}

static const struct mr_load_link_calls calls = {.frame = on_frame, .closed = on_closed};

bool mr_load_caller_open(struct mr_load_caller *caller, struct mr_load_worker *worker, const char *address)
{
    caller->worker = worker;
    int fd = mr_load_wire_connect(address, worker->error, sizeof worker->error);
    return fd >= 0 && mr_load_link_open(&caller->link, &worker->loop, fd, IN_BYTES, ANSWER_MAX, 2, &calls, caller);
}

static enum mr_err encode(struct mr_load_caller *caller, const void *request, uint32_t *len)
{
    struct mr_span   spans[SPANS];
    struct mr_arena  arena;
    struct mr_writer writer;
    mr_arena_init(&arena, caller->worker->scratch, MR_LOAD_SCRATCH);
    mr_writer_init(&writer, &arena, spans, SPANS);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, caller->api, caller->version, caller->correlation,
                                               MR_STR("millrace-load"));
    err = err != MR_OK ? err : mr_msg_encode(caller->api->request, caller->version, request, &writer);
    err = err != MR_OK ? err : mr_frame_end(&writer, prefix);
    if (err == MR_OK) {
        struct mr_chain chain = mr_writer_finish(&writer);
        *len = (uint32_t)chain.bytes;
        if (chain.bytes > sizeof caller->request) {
            return MR_ERR_TOO_LARGE;
        }
        mr_chain_copy(&chain, 0, caller->request, *len);
    }
    return err;
}

void mr_load_caller_ask(struct mr_load_caller *caller, int16_t key, int16_t version, const void *request)
{
    uint32_t len = 0;
    if (caller->link.is_closing) {
        return;
    }
    caller->api = mr_api_find_row(key);
    caller->version = version;
    caller->correlation = (int32_t)(((uint32_t)caller->correlation + 1) & INT32_MAX);
    if (encode(caller, request, &len) != MR_OK) {
        mr_load_worker_fail(caller->worker, "a request that cannot be encoded");
        return;
    }
    caller->is_waiting = true;
    (void)mr_load_link_send(&caller->link, caller->request, len); /* the one that there is room for */
    mr_load_link_flush(&caller->link);
}

void mr_load_caller_close(struct mr_load_caller *caller)
{
    mr_load_link_free(&caller->link);
}
