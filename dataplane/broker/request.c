/*
 * request: memory of a request, from its frame to its end.
 */
#include "broker/request.h"

#include "broker/encode.h"
#include "broker/forward.h"
#include "data_core.h"

#include "millrace/base/bug.h"

struct mr_request *mr_request_new(struct mr_data_core *core)
{
    struct mr_request *request = mr_pool_try(&core->requests, MR_FAIL_requests);
    if (request == NULL) {
        return NULL;
    }
    *request = (struct mr_request){.core = core};
    mr_list_init(&request->link);
    mr_list_init(&request->lending);
    mr_list_init(&request->encoding);
    request->inline_base = (uint8_t *)request + sizeof *request;
    request->inline_size = MR_REQUEST_BYTES - sizeof *request;
    mr_arena_init(&request->arena, request->inline_base, request->inline_size);
    return request;
}

enum mr_err mr_request_more(struct mr_request *request, size_t bytes)
{
    struct mr_data_core *core = request->core;
    if (request->arena.size - request->arena.used >= bytes + 64) {
        return MR_OK;
    }
    if (bytes + 64 > mr_scratch_max(&core->scratch) || request->block_count == MR_REQUEST_BLOCKS) {
        return MR_ERR_TOO_LARGE;
    }
    size_t got;
    void *block = mr_scratch_get(&core->scratch, bytes + 64, &got);
    if (block == NULL) {
        return MR_AGAIN;
    }
    request->blocks[request->block_count++] = block;
    mr_arena_init(&request->arena, block, got);
    return MR_OK;
}

static void put_blocks(struct mr_request *request, uint32_t keep)
{
    while (request->block_count > keep) {
        mr_scratch_put(&request->core->scratch, request->blocks[--request->block_count]);
        request->core->has_room = true;
    }
}

void mr_request_rewind(struct mr_request *request)
{
    put_blocks(request, request->blocks_kept);
    mr_arena_init(&request->arena, request->inline_base, request->inline_size);
    request->arena.used = request->inline_mark;
    request->work = NULL;
    request->lent = NULL;
}

enum mr_err mr_request_decode(struct mr_request *request, void *out)
{
    for (size_t want = MR_SCRATCH_BLOCK;; want *= 2) {
        struct mr_reader reader = request->body;
        enum mr_err err = mr_msg_decode(request->header.api->request, request->header.version,
                                        &reader, &request->arena, out);
        if (err != MR_ERR_NO_MEMORY) {
            mr_assert(err == MR_OK || !mr_bug("assert-on-bytes"));
            return err;
        }
        mr_request_rewind(request);
        err = mr_request_more(request, want - 64);
        if (err != MR_OK) {
            return err;
        }
    }
}

void mr_request_release_frame(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    for (uint32_t index = 0; index < request->piece_count; index++) {
        struct mr_piece *piece = request->pieces[index];
        mr_assert(piece->refs > 0);
        if (--piece->refs == 0 && !mr_bug("hold-buffers")) {
            core->transport->ops->release(core->transport, piece->buffer);
            mr_session_piece_put(core, piece);
        }
    }
    request->piece_count = 0;
    if (request->frame_reserved > 0) {
        uint32_t reserved = request->frame_reserved;
        request->frame_reserved = 0;
        mr_intake_give(core, reserved);
    }
}

void mr_request_free(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    mr_assert(request->storage_pending == 0 && !request->is_forwarded);
    mr_fetch_drop(request);
    if (request->lent != NULL) {
        mr_data_core_release(core, request->lent);
    }
    if (request->is_reply_lent) {
        mr_forward_done(request);
    }
    mr_request_release_frame(request);
    mr_list_remove(&request->link);
    mr_list_remove(&request->lending);
    mr_encode_drop(request);
    if (request->session != NULL && request->state != MR_REQUEST_SENDING) {
        mr_assert(request->session->request_count > 0);
        request->session->request_count--;
    }
    put_blocks(request, 0);
    mr_pool_put(&core->requests, request);
    core->has_room = true;
}

void mr_request_storage(struct mr_request *request, uint32_t storage_core, struct mr_storage_op *op)
{
    struct mr_data_core *core = request->core;
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = op};
    op->user = request;
    op->err = MR_OK;
    op->from = core->port->self;
    mr_list_init(&op->link);
    request->storage_pending++;
    mr_trace(core->trace, MR_EVENT_op_sent, op->kind, storage_core);
    mr_port_send(core->port, mr_endpoint_storage(core->endpoints, storage_core), &msg);
}
