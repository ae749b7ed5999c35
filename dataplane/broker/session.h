/*
 * session: one client connection: frames in, replies out in the order of the requests.
 *
 *   transport -> inbox (pieces) -> frames -> requests (queue) -> replies -> transport (sending)
 *
 * As the client sees it a connection is serial. Decoding runs ahead, bounded; a Produce may start
 * when the Produces before it have been handed over; anything else starts when all before it have
 * been answered (ruling 23). Each event only notes what changed and marks the session runnable; the
 * work is done once per turn in mr_session_run(), so five requests in one receive are one pass.
 *
 * Memory: an idle session is this struct. Thread: the data core.
 */
#ifndef MILLRACE_SESSION_H
#define MILLRACE_SESSION_H

#include "broker/request.h"
#include "millrace/base/timer.h"
#include "millrace/net/transport.h"

/* Frames that may be whole and waiting behind the one that is served: five produces in flight are
 * the most that idempotent clients send. */
#define MR_SESSION_AHEAD         16u

/* Replies that the peer has not taken, above which nothing more is started for it: what they lend from
 * the cache must not grow with the requests of a client that does not read. */
#define MR_SESSION_SENDING_BYTES (1u << 20)

struct mr_session {
    struct mr_list link;     /* all sessions, least recently active first */
    struct mr_list run_link; /* runnable, or waiting for memory */
    struct mr_data_core *core;
    struct mr_conn *conn;
    uint64_t id; /* never reused */

    /* bytes received and not yet part of a request */
    struct mr_piece *inbox_first;
    struct mr_piece *inbox_last;
    uint32_t inbox_at;          /* consumed of the first piece */
    uint32_t inbox_bytes;       /* after inbox_at, all pieces */
    uint32_t frame_bytes;       /* whole size of the next frame; 0: not known yet */
    uint32_t reserved;          /* receive memory beyond MR_NET_WINDOW (intake.h) */
    struct mr_list intake_link; /* waiting for receive memory */
    uint64_t intake_since_ns;   /* when a large frame last grew */

    struct mr_list requests; /* QUEUED .. ANSWERED, in order */
    uint32_t request_count;
    struct mr_list sending;
    uint32_t sending_count;
    uint64_t sending_bytes;
    uint64_t token;

    struct mr_timer idle;
    uint64_t active_ns;
    bool is_runnable;
    bool is_refused;   /* nothing more is read: close when all before is answered */
    bool is_closing;   /* close() has been called */
    bool is_forwarded; /* control knows this connection */
    bool is_blocked;   /* the transport's queue is full: wait for MR_NET_ROOM */
    bool is_proven;    /* has sent a valid request */
    bool is_early;     /* came faster than max.connection.creation.rate: read when `idle` fires */
    void *peer_count;  /* limits.c: connections of this address */
};

struct mr_session *mr_session_open(struct mr_data_core *core, struct mr_conn *conn);
void mr_session_input(struct mr_session *session, struct mr_span span, void *buffer);
void mr_session_sent(struct mr_session *session, uint64_t token);
void mr_session_room(struct mr_session *session);
void mr_session_closed(struct mr_session *session, enum mr_err why);

/* Begin to close: nothing more is read or started. MR_OK: what is queued is still sent. */
void mr_session_close(struct mr_session *session, enum mr_err why);

/* The work of the turn: frames into requests, requests to their handlers, replies out. */
void mr_session_run(struct mr_session *session);
void mr_session_wake(struct mr_session *session);

/* The idle timer fired: it is to be closed, or to be read from now on. */
void mr_session_idle(struct mr_session *session);

void mr_session_piece_put(struct mr_data_core *core, struct mr_piece *piece);

/* A handler is done: the reply is in the request (or there is none). */
void mr_session_answered(struct mr_request *request);

#endif
