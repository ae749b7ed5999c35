/*
 * transport_uring: what the files of the kernel-socket transport share. Private to dataplane/transport/.
 */
#ifndef MILLRACE_TRANSPORT_URING_H
#define MILLRACE_TRANSPORT_URING_H

#include "millrace/base/list.h"
#include "millrace/base/log.h"
#include "millrace/base/pool.h"
#include "millrace/dataplane.h"
#include "millrace/wait.h"

#include <liburing.h>

#define MR_URING_BUFFER_BYTES  MR_NET_WINDOW
#define MR_URING_PROVIDED_MAX  1024u /* buffers that the kernel may choose from */
#define MR_URING_GROUP         1     /* their buffer group */
#define MR_URING_RECV_BUFFERS  32u   /* of one recvmsg */
#define MR_URING_SEND_PIECES   1024u /* of one sendmsg: IOV_MAX */
#define MR_URING_BLOCK_PIECES  254u
#define MR_URING_LISTENERS_MAX 16u
#define MR_URING_TURN_IOVS     16384u
#define MR_URING_TURN_MSGS     4096u

enum mr_uring_kind {
    MR_URING_ACCEPT,
    MR_URING_RECV,
    MR_URING_SEND,
    MR_URING_CANCEL,
};

/* What user_data points at. */
struct mr_uring_op {
    _Alignas(16) enum mr_uring_kind kind;
    bool is_under_way;
    void *owner;
};

struct mr_uring_buffer {
    uint32_t refs;
    uint32_t next; /* in the free list */
};

/* Queued pieces; len 0: a token. */
struct mr_uring_piece {
    const void *data;
    uint64_t len_or_token;
};

struct mr_uring_block {
    struct mr_uring_block *next;
    uint32_t first;
    uint32_t count;
    struct mr_uring_piece pieces[MR_URING_BLOCK_PIECES];
};

struct mr_uring_conn {
    struct mr_conn conn; /* first */
    struct mr_list link; /* in conns */
    struct mr_list dirty_link;
    struct mr_list marked_link; /* in marked, while the receive under way waits for `mark` bytes */
    uint64_t marked_until_ns;
    uint32_t mark; /* the socket's SO_RCVLOWAT */
    struct mr_uring_op recv;
    struct mr_uring_op send;
    struct mr_uring_op cancel;
    int fd;
    bool is_closing;
    bool is_close_reported;
    bool is_cancelled;
    bool is_eof;
    bool is_blocked; /* send() has answered MR_AGAIN */
    bool is_starved; /* no receive buffer was free */
    enum mr_err why;

    uint32_t outstanding; /* delivered and not consumed */
    uint32_t fill;        /* buffer that is being filled + 1 */
    uint32_t fill_at;
    uint32_t recv_ids[MR_URING_RECV_BUFFERS]; /* of the recvmsg under way */
    uint32_t recv_count;                      /* 0: a provided buffer is selected */
    uint32_t recv_at;                         /* where the first of them is filled from */

    struct mr_uring_block *head;
    struct mr_uring_block *tail;
    uint32_t sent_at; /* bytes of the first piece that are already sent */
};

struct mr_uring {
    struct mr_transport base; /* first */
    struct mr_transport_uring_params params;
    struct mr_wait *wait;
    struct mr_log *log;
    struct mr_pool conns;
    struct mr_pool blocks;
    struct mr_list dirty;
    struct mr_list starved;
    struct mr_list closed; /* ready to be reported */
    struct mr_list marked; /* by marked_until_ns */
    uint64_t now_ns;       /* of this turn */

    uint8_t *memory;
    struct mr_uring_buffer *buffers;
    uint32_t buffer_count;
    uint32_t free_head; /* + 1 */
    uint32_t free_count;
    uint32_t touched;
    uint32_t provided;
    uint32_t provided_max;
    struct io_uring_buf_ring *ring;
    bool is_ring_ready;

    struct mr_uring_op accepts[MR_URING_LISTENERS_MAX];
    int listen_fds[MR_URING_LISTENERS_MAX];
    uint64_t accept_again_ns;
    bool is_listening;
    struct mr_list freed; /* reported as closed, reused from the next turn on */

    /* Vectors of the operations prepared in this turn: the kernel copies them when they are submitted
     * (IORING_FEAT_SUBMIT_STABLE), which is before the next turn. */
    struct iovec *iovs;
    struct msghdr *msgs;
    uint32_t iov_used;
    uint32_t msg_used;
};

static inline void mr_transport_conn_tag(struct io_uring_sqe *sqe, struct mr_uring_op *op)
{
    sqe->user_data = (uint64_t)(uintptr_t)op | MR_WAIT_TAG_TRANSPORT;
}

/* ---- transport_uring.c ---- */

/* A message header of this turn, over `count` of its vectors from t->iov_used on. */
struct msghdr *mr_transport_uring_msg(struct mr_uring *t, struct iovec *iovs, uint32_t count);

/* ---- transport_conn.c ---- */

/* At the end of the turn what it wants is prepared: a send, a receive. */
void mr_transport_conn_dirty(struct mr_uring *t, struct mr_uring_conn *c);
/* A submission for `op`, under way from now on; tag it when it is prepared. */
struct io_uring_sqe *mr_transport_conn_sqe(struct mr_uring *t, struct mr_uring_op *op);
/* A connection that closes and has nothing under way ends here: its descriptor, then the report. */
void mr_transport_conn_finish_if_idle(struct mr_uring *t, struct mr_uring_conn *c);
/* What is under way comes back soon. */
void mr_transport_conn_cancel(struct mr_uring *t, struct mr_uring_conn *c);
/* The peer or the kernel ended it. */
void mr_transport_conn_fail(struct mr_uring *t, struct mr_uring_conn *c, enum mr_err why);
/* NULL: there are as many as may be. */
struct mr_uring_conn *mr_transport_conn_open(struct mr_uring *t, int fd, uint32_t listener);
/* mr_transport_ops.close */
void mr_transport_conn_close(struct mr_conn *conn, enum mr_err why);

/* ---- transport_receive.c ---- */

/* One reference to a receive buffer less. */
void mr_transport_receive_put(struct mr_uring *t, uint32_t id);
/* The connection gives up the buffer that it was filling. */
void mr_transport_receive_drop(struct mr_uring *t, struct mr_uring_conn *c);
/* Ask for more, if the window allows it and none is asked for. */
void mr_transport_receive_arm(struct mr_uring *t, struct mr_uring_conn *c);
/* A completion; at most MR_URING_RECV_BUFFERS + 1 events are added. */
void mr_transport_receive_done(struct mr_uring *t, struct mr_uring_conn *c, int32_t res,
                               uint32_t flags, struct mr_net_event *events, uint32_t *count);
/* Whoever has waited for its mark for too long gets what is there. */
void mr_transport_receive_unmark(struct mr_uring *t);
/* mr_transport_ops.consumed, .release */
void mr_transport_receive_consumed(struct mr_conn *conn, uint32_t len_bytes);
void mr_transport_receive_release(struct mr_transport *transport, void *buffer);

/* ---- transport_send.c ---- */

/* What is queued will not be sent. */
void mr_transport_send_drop(struct mr_uring *t, struct mr_uring_conn *c);
/* Send what is queued, unless a send is under way. */
void mr_transport_send_arm(struct mr_uring *t, struct mr_uring_conn *c);
/* A completion; at most two events are added. */
void mr_transport_send_done(struct mr_uring *t, struct mr_uring_conn *c, int32_t res,
                            struct mr_net_event *events, uint32_t *count);
/* mr_transport_ops.send */
enum mr_err mr_transport_send(struct mr_conn *conn, const struct mr_span *spans,
                              uint32_t span_count, uint64_t token);

/* ---- transport_listen.c ---- */

/* Accept on a listening socket, unless that is under way. */
void mr_transport_listen_arm(struct mr_uring *t, uint32_t listener);
/* A completion; at most one event is added. */
void mr_transport_listen_done(struct mr_uring *t, struct mr_uring_op *op, int32_t res,
                              uint32_t flags, uint64_t now_ns, struct mr_net_event *events,
                              uint32_t *count);
/* mr_transport_ops.stop_listening, .listen */
void mr_transport_listen_stop(struct mr_transport *transport);
enum mr_err mr_transport_listen(struct mr_transport *transport);

#endif
