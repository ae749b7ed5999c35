/*
 * request: one request from its frame to the last byte of its reply.
 *
 *      QUEUED -> RUNNING -> ANSWERED -> SENDING -> gone
 *            \-> HANDED  -/
 *
 * Memory: a request lives in one object of a pool, with a small arena inside that holds most
 * requests whole; mr_request_more() adds blocks from scratch.h for the large ones. Everything goes
 * back at once when the request ends. A request whose connection is gone lives on, without a
 * session, until storage or control have answered what they were asked.
 *
 * Thread: the data core.
 */
#ifndef MILLRACE_REQUEST_H
#define MILLRACE_REQUEST_H

#include "millrace/base/arena.h"
#include "millrace/base/list.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"
#include "millrace/plane.h"
#include "millrace/storage.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_request_state {
    MR_REQUEST_QUEUED, /* its frame is whole; those before it must be answered first               */
    MR_REQUEST_RUNNING, /* its handler has begun                                                    */
    MR_REQUEST_HANDED, /* a Produce whose appends are on their way: the next Produce may start,
                          * because the rings keep the order in which offsets will be assigned       */
    MR_REQUEST_ANSWERED, /* the reply is ready and waits for the replies before it                   */
    MR_REQUEST_SENDING, /* with the transport until MR_NET_SENT                                     */
};

/* A run of received bytes in one buffer of the transport, shared by the frames that lie in it. */
struct mr_piece {
    struct mr_piece *next; /* in the session's inbox */
    struct mr_span span;
    void *buffer;
    uint32_t refs;
};

/* Pages that a read lent to this request, to be released when the reply is sent. */
struct mr_lent {
    struct mr_lent *next;
    struct mr_lent_span *spans;
    uint32_t span_count;
    uint32_t storage_core;
};

#define MR_REQUEST_BYTES  4096u /* of the pool's objects */
#define MR_REQUEST_BLOCKS 6u

struct mr_data_core;
struct mr_session;
struct mr_fetch;

struct mr_request {
    struct mr_list link; /* the session's queue, or its sent ones */
    struct mr_data_core *core;
    struct mr_session *session; /* NULL: the connection is gone, or never was */
    enum mr_request_state state;
    bool is_refused;         /* close the connection when its turn comes */
    bool is_close_after;     /* no answer: close when those before it are answered */
    bool is_version_unknown; /* ApiVersions answers all the same */
    bool is_internal;        /* ours: the answer is only taken */
    bool is_forwarded;       /* with control */
    bool is_reply_lent;      /* control's bytes: REPLY_DONE when sent */

    struct mr_header header;
    struct mr_reader body; /* stands behind the header */

    struct mr_piece **pieces; /* the buffers of the frame, until it is not needed any more */
    uint32_t piece_count;
    uint32_t frame_reserved; /* receive memory reserved for it (intake.h) */

    struct mr_arena arena;
    uint8_t *inline_base; /* where the arena stands when the handler begins */
    size_t inline_size;
    size_t inline_mark;
    void *blocks[MR_REQUEST_BLOCKS];
    uint32_t block_count;
    uint32_t blocks_kept; /* of those, held by the frame's own lists */

    struct mr_list encoding; /* a Produce whose batches are put into another codec over several turns */
    void *encoded;           /* blocks of such batches (encode.h) */

    uint32_t storage_pending; /* operations under way */
    void *work;               /* the handler's own state, in the arena */
    struct mr_fetch *fetch;   /* of a Fetch that reads or waits */

    struct mr_chain reply; /* no spans: none is sent */
    uint64_t token;
    struct mr_lent *lent;
    struct mr_list lending; /* while the reply lends pages and is being sent (relief.h) */
    uint64_t sent_ns;       /* when that began */
    uint64_t arrived_ns;    /* when its last byte was seen */

    struct mr_forward forward;
    char peer[48];
};

/* A fresh request of no connection yet; NULL: not now. */
struct mr_request *mr_request_new(struct mr_data_core *core);

/*
 * At least `bytes` of contiguous room in the arena, with a new block if need be; what was taken
 * before stays. MR_AGAIN: not now; MR_ERR_TOO_LARGE: never. On MR_AGAIN a handler that has had no
 * effect yet returns MR_AGAIN and is started again later, from the beginning.
 */
enum mr_err mr_request_more(struct mr_request *request, size_t bytes);

/* Decode the body into `out`, a struct of the API's request, with as much memory as it takes.
 * MR_AGAIN as above; other errors: the bytes are wrong, close. */
enum mr_err mr_request_decode(struct mr_request *request, void *out);

/* Forget what the handler took, so that it can begin again. */
void mr_request_rewind(struct mr_request *request);

/* The frame's bytes are not needed any more: back to the transport. Idempotent. */
void mr_request_release_frame(struct mr_request *request);

/* The end: everything goes back. */
void mr_request_free(struct mr_request *request);

/* Hand an operation over to a storage core; the answer comes to mr_dispatch_resume. */
void mr_request_storage(struct mr_request *request, uint32_t storage_core,
                        struct mr_storage_op *op);

#endif
