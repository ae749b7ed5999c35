/*
 * transport_uring: kernel sockets on the core's io_uring.
 *
 *   listening   one multishot accept per socket and data core
 *   receiving   one receive per connection. A connection between frames selects a provided buffer, so
 *               it holds none while it waits; one in the middle of a frame goes on filling its last
 *               buffer and takes more of them, up to its window, in one recvmsg.
 *   sending     one sendmsg per connection at a time, with everything that was queued when it was
 *               made (up to 1024 pieces); the rest follows when it completes. Prepared at the end of
 *               the turn, so the replies of one turn leave together.
 *
 * Operations are tagged with their place in the connection; a connection is reused, and its
 * descriptor closed, only when none is under way: no completion can meet a stranger.
 *
 * Memory: the arena given to init. Thread: the data core. Edge: sockets, io_uring.
 */
#include "millrace/base/list.h"
#include "millrace/base/log.h"
#include "millrace/base/pool.h"
#include "millrace/dataplane.h"
#include "millrace/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES  MR_NET_WINDOW
#define PROVIDED_MAX  1024u /* buffers that the kernel may choose from */
#define GROUP         1     /* their buffer group */
#define RECV_BUFFERS  32u   /* of one recvmsg */
#define SEND_PIECES   1024u /* of one sendmsg: IOV_MAX */
#define BLOCK_PIECES  254u
#define LISTENERS_MAX 16u
#define TAKE_MAX      16u
#define EVENTS_EACH   (RECV_BUFFERS + 4u) /* events that one completion can make */
#define TURN_IOVS     16384u
#define TURN_MSGS     4096u
#define BIND_TRIES    100                  /* ten milliseconds apart */
#define ACCEPT_PAUSE  (100 * MR_NS_PER_MS) /* after running out of descriptors */

enum op_kind {
    OP_ACCEPT,
    OP_RECV,
    OP_SEND,
    OP_CANCEL,
};

/* What user_data points at. */
struct op {
    _Alignas(16) enum op_kind kind;
    bool is_under_way;
    void *owner;
};

struct buffer {
    uint32_t refs;
    uint32_t next; /* in the free list */
};

/* Queued pieces; len 0: a token. */
struct piece {
    const void *data;
    uint64_t len_or_token;
};

struct block {
    struct block *next;
    uint32_t first;
    uint32_t count;
    struct piece pieces[BLOCK_PIECES];
};

struct uring_conn {
    struct mr_conn conn; /* first */
    struct mr_list link; /* in conns */
    struct mr_list dirty_link;
    struct op recv;
    struct op send;
    struct op cancel;
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
    uint32_t recv_ids[RECV_BUFFERS]; /* of the recvmsg under way */
    uint32_t recv_count;             /* 0: a provided buffer is selected */
    uint32_t recv_at;                /* where the first of them is filled from */

    struct block *head;
    struct block *tail;
    uint32_t sent_at; /* bytes of the first piece that are already sent */
};

struct uring_transport {
    struct mr_transport base; /* first */
    struct mr_transport_uring_params params;
    struct mr_wait *wait;
    struct mr_log *log;
    struct mr_pool conns;
    struct mr_pool blocks;
    struct mr_list dirty;
    struct mr_list starved;
    struct mr_list closed; /* ready to be reported */

    uint8_t *memory;
    struct buffer *buffers;
    uint32_t buffer_count;
    uint32_t free_head; /* + 1 */
    uint32_t free_count;
    uint32_t touched;
    uint32_t provided;
    uint32_t provided_max;
    struct io_uring_buf_ring *ring;
    bool is_ring_ready;

    struct op accepts[LISTENERS_MAX];
    int listen_fds[LISTENERS_MAX];
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

/* ---- receive buffers ---- */

static uint32_t buffer_total(uint64_t bytes)
{
    uint64_t count = bytes / BUFFER_BYTES;
    return count < 64 ? 64 : count > (1u << 20) ? 1u << 20 : (uint32_t)count;
}

static uint8_t *buffer_data(struct uring_transport *t, uint32_t id)
{
    return t->memory + (size_t)id * BUFFER_BYTES;
}

static bool buffer_get(struct uring_transport *t, uint32_t *id)
{
    if (t->free_head != 0) { /* last returned first: its bytes are still in the cache */
        *id = t->free_head - 1;
        t->free_head = t->buffers[*id].next;
    } else if (t->touched < t->buffer_count) {
        *id = t->touched++;
    } else {
        return false;
    }
    t->buffers[*id].refs = 1;
    return true;
}

static void conn_dirty(struct uring_transport *t, struct uring_conn *c)
{
    if (mr_list_is_empty(&c->dirty_link)) {
        mr_list_add_tail(&t->dirty, &c->dirty_link);
    }
}

static void buffer_put(struct uring_transport *t, uint32_t id)
{
    mr_assert(t->buffers[id].refs > 0);
    if (--t->buffers[id].refs > 0) {
        return;
    }
    t->buffers[id].next = t->free_head;
    t->free_head = id + 1;
    struct mr_list *link = mr_list_pop(&t->starved);
    if (link != NULL) {
        struct uring_conn *c = MR_LIST_ENTRY(link, struct uring_conn, dirty_link);
        c->is_starved = false;
        conn_dirty(t, c);
    }
}

static void provide(struct uring_transport *t)
{
    uint32_t added = 0;
    int mask = io_uring_buf_ring_mask(t->provided_max);
    uint32_t id;
    while (t->provided + added < t->provided_max && buffer_get(t, &id)) {
        io_uring_buf_ring_add(t->ring, buffer_data(t, id), BUFFER_BYTES, (unsigned short)id, mask,
                              (int)added);
        added++;
    }
    if (added > 0) {
        io_uring_buf_ring_advance(t->ring, (int)added);
        t->provided += added;
    }
}

/* ---- connections ---- */

static struct io_uring_sqe *sqe_for(struct uring_transport *t, struct op *op)
{
    struct io_uring_sqe *sqe = mr_wait_sqe(t->wait);
    op->is_under_way = true;
    return sqe;
}

static void sqe_tag(struct io_uring_sqe *sqe, struct op *op)
{
    sqe->user_data = (uint64_t)(uintptr_t)op | MR_WAIT_TAG_TRANSPORT;
}

static void drop_queue(struct uring_transport *t, struct uring_conn *c)
{
    while (c->head != NULL) {
        struct block *block = c->head;
        c->head = block->next;
        mr_pool_put(&t->blocks, block);
    }
    c->tail = NULL;
    c->sent_at = 0;
}

static void conn_finish_if_idle(struct uring_transport *t, struct uring_conn *c)
{
    if (!c->is_closing || c->recv.is_under_way || c->send.is_under_way || c->cancel.is_under_way ||
        c->is_close_reported) {
        return;
    }
    if (c->why == MR_OK && c->head != NULL && !c->is_cancelled) {
        return; /* what is queued is still sent */
    }
    c->is_close_reported = true;
    if (c->why != MR_OK && !c->is_eof) {
        struct linger linger = {.l_onoff = 1};
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    (void)close(c->fd);
    c->fd = -1;
    drop_queue(t, c);
    if (c->fill != 0) {
        buffer_put(t, c->fill - 1);
        c->fill = 0;
    }
    mr_list_remove(&c->dirty_link);
    mr_list_add_tail(&t->closed, &c->dirty_link);
}

static void conn_cancel(struct uring_transport *t, struct uring_conn *c)
{
    if (c->is_cancelled) {
        return;
    }
    c->is_cancelled = true;
    if (c->recv.is_under_way || c->send.is_under_way) {
        struct io_uring_sqe *sqe = sqe_for(t, &c->cancel);
        io_uring_prep_cancel_fd(sqe, c->fd, IORING_ASYNC_CANCEL_ALL);
        sqe_tag(sqe, &c->cancel);
    }
}

static void conn_fail(struct uring_transport *t, struct uring_conn *c, enum mr_err why)
{
    if (!c->is_closing) {
        c->is_closing = true;
        c->why = why;
    }
    conn_cancel(t, c);
    conn_finish_if_idle(t, c);
}

static struct uring_conn *conn_open(struct uring_transport *t, int fd, uint32_t listener)
{
    struct uring_conn *c = mr_pool_get(&t->conns);
    if (c == NULL) {
        return NULL;
    }
    *c = (struct uring_conn){.fd = fd};
    c->conn.transport = &t->base;
    c->conn.listener = listener;
    c->conn.window_bytes = MR_NET_WINDOW;
    c->recv = (struct op){.kind = OP_RECV, .owner = c};
    c->send = (struct op){.kind = OP_SEND, .owner = c};
    c->cancel = (struct op){.kind = OP_CANCEL, .owner = c};
    mr_list_init(&c->dirty_link);
    mr_list_init(&c->link);
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &len) == 0) {
        if (address.ss_family == AF_INET) {
            const struct sockaddr_in *in = (const void *)&address;
            (void)inet_ntop(AF_INET, &in->sin_addr, c->conn.peer, sizeof c->conn.peer);
            c->conn.is_loopback = (ntohl(in->sin_addr.s_addr) >> 24) == 127;
        } else if (address.ss_family == AF_INET6) {
            const struct sockaddr_in6 *in = (const void *)&address;
            if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
                (void)inet_ntop(AF_INET, in->sin6_addr.s6_addr + 12, c->conn.peer,
                                sizeof c->conn.peer);
                c->conn.is_loopback = in->sin6_addr.s6_addr[12] == 127;
            } else {
                (void)inet_ntop(AF_INET6, &in->sin6_addr, c->conn.peer, sizeof c->conn.peer);
                c->conn.is_loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
            }
        }
    }
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return c;
}

/* ---- receiving ---- */

static struct msghdr *turn_msg(struct uring_transport *t, struct iovec *iovs, uint32_t count)
{
    struct msghdr *msg = &t->msgs[t->msg_used++];
    *msg = (struct msghdr){.msg_iov = iovs, .msg_iovlen = count};
    t->iov_used += count;
    return msg;
}

static bool turn_has_room(const struct uring_transport *t)
{
    return t->msg_used < TURN_MSGS && t->iov_used + SEND_PIECES <= TURN_IOVS;
}

static void starve(struct uring_transport *t, struct uring_conn *c)
{
    c->is_starved = true;
    mr_list_remove(&c->dirty_link);
    mr_list_add_tail(&t->starved, &c->dirty_link);
}

static void fill_drop(struct uring_transport *t, struct uring_conn *c)
{
    if (c->fill != 0) {
        buffer_put(t, c->fill - 1);
        c->fill = 0;
    }
}

/* In the middle of a frame: go on in the last buffer, then in new ones, up to the window. */
static void recv_more(struct uring_transport *t, struct uring_conn *c)
{
    uint32_t want = c->conn.window_bytes - c->outstanding;
    uint32_t count = 0;
    uint32_t room = 0;
    struct iovec *iovs = t->iovs + t->iov_used;
    c->recv_at = 0;
    if (c->fill != 0 && c->fill_at < BUFFER_BYTES) {
        room = BUFFER_BYTES - c->fill_at;
        iovs[0] =
            (struct iovec){.iov_base = buffer_data(t, c->fill - 1) + c->fill_at, .iov_len = room};
        c->recv_at = c->fill_at;
        c->recv_ids[count++] = c->fill - 1; /* the reference moves with it */
        c->fill = 0;
    }
    fill_drop(t, c);
    uint32_t id;
    while (room < want && count < RECV_BUFFERS && buffer_get(t, &id)) {
        iovs[count] = (struct iovec){.iov_base = buffer_data(t, id), .iov_len = BUFFER_BYTES};
        c->recv_ids[count++] = id;
        room += BUFFER_BYTES;
    }
    if (count == 0) {
        starve(t, c);
        return;
    }
    c->recv_count = count;
    struct io_uring_sqe *sqe = sqe_for(t, &c->recv);
    if (count == 1) {
        io_uring_prep_recv(sqe, c->fd, iovs[0].iov_base, iovs[0].iov_len, 0);
    } else {
        io_uring_prep_recvmsg(sqe, c->fd, turn_msg(t, iovs, count), 0);
    }
    sqe_tag(sqe, &c->recv);
}

static void recv_arm(struct uring_transport *t, struct uring_conn *c)
{
    if (c->recv.is_under_way || c->is_closing || c->is_starved ||
        c->outstanding >= c->conn.window_bytes) {
        return;
    }
    if (c->outstanding > 0) {
        recv_more(t, c);
        return;
    }
    fill_drop(t, c); /* between frames: hold no buffer while waiting */
    provide(t);
    if (t->provided == 0) {
        starve(t, c);
        return;
    }
    struct io_uring_sqe *sqe = sqe_for(t, &c->recv);
    io_uring_prep_recv(sqe, c->fd, NULL, BUFFER_BYTES, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    sqe_tag(sqe, &c->recv);
    c->recv_count = 0;
}

static void emit_data(struct uring_conn *c, uint32_t id, const uint8_t *data, uint32_t len,
                      struct mr_net_event *events, uint32_t *count)
{
    events[(*count)++] = (struct mr_net_event){
        .kind = MR_NET_DATA,
        .conn = &c->conn,
        .span = {.data = data, .len = len},
        .buffer = (void *)(uintptr_t)(id + 1),
    };
    c->outstanding += len;
}

static void recv_done(struct uring_transport *t, struct uring_conn *c, int32_t res, uint32_t flags,
                      struct mr_net_event *events, uint32_t *count)
{
    uint32_t left = res > 0 ? (uint32_t)res : 0;
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
        mr_assert(t->provided > 0 && id < t->buffer_count);
        t->provided--;
        if (left == 0 || c->is_closing) {
            buffer_put(t, id);
        } else {
            t->buffers[id].refs++; /* one for the event, one to go on filling */
            c->fill = id + 1;
            c->fill_at = left;
            emit_data(c, id, buffer_data(t, id), left, events, count);
        }
    }
    uint32_t at = c->recv_at;
    for (uint32_t index = 0; index < c->recv_count; index++, at = 0) {
        uint32_t id = c->recv_ids[index];
        uint32_t part = BUFFER_BYTES - at < left ? BUFFER_BYTES - at : left;
        bool is_first = index == 0 && c->recv_at > 0;
        if (c->is_closing || (part == 0 && !is_first)) {
            buffer_put(t, id);
            continue;
        }
        left -= part;
        if (part > 0) {
            t->buffers[id].refs++;
            emit_data(c, id, buffer_data(t, id) + at, part, events, count);
        }
        fill_drop(t, c);
        c->fill = id + 1;
        c->fill_at = at + part;
    }
    c->recv_count = 0;
    if (res == -ENOBUFS) {
        starve(t, c);
    } else if (res == 0 || (res < 0 && res != -EAGAIN && res != -EINTR && res != -ECANCELED)) {
        c->is_eof = res == 0;
        if (!c->is_closing) {
            conn_fail(t, c, MR_ERR_CLOSED);
        }
    }
    if (!c->is_starved && !c->is_closing) {
        conn_dirty(t, c);
    }
    conn_finish_if_idle(t, c);
}

/* ---- sending ---- */

static void send_arm(struct uring_transport *t, struct uring_conn *c)
{
    if (c->send.is_under_way || c->head == NULL || c->is_cancelled) {
        return;
    }
    struct iovec *iovs = t->iovs + t->iov_used;
    uint32_t count = 0;
    uint32_t skip = c->sent_at;
    for (const struct block *block = c->head; block != NULL && count < SEND_PIECES;
         block = block->next) {
        for (uint32_t index = block->first; index < block->count && count < SEND_PIECES; index++) {
            const struct piece *piece = &block->pieces[index];
            if (piece->data == NULL) {
                continue;
            }
            union {
                const void *in;
                char *out;
            } pun = {.in = piece->data};
            iovs[count++] =
                (struct iovec){.iov_base = pun.out + skip, .iov_len = piece->len_or_token - skip};
            skip = 0;
        }
    }
    mr_assert(count > 0);
    struct io_uring_sqe *sqe = sqe_for(t, &c->send);
    if (count == 1) {
        io_uring_prep_send(sqe, c->fd, iovs[0].iov_base, iovs[0].iov_len,
                           MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        io_uring_prep_sendmsg(sqe, c->fd, turn_msg(t, iovs, count), MSG_NOSIGNAL | MSG_WAITALL);
    }
    sqe_tag(sqe, &c->send);
}

static void send_done(struct uring_transport *t, struct uring_conn *c, int32_t res,
                      struct mr_net_event *events, uint32_t *count)
{
    if (res < 0 && res != -EAGAIN && res != -EINTR) {
        if (res != -ECANCELED) {
            conn_fail(t, c, MR_ERR_CLOSED);
        }
        conn_finish_if_idle(t, c);
        return;
    }
    uint64_t left = (res > 0 ? (uint64_t)res : 0) + c->sent_at;
    uint64_t token = 0;
    while (c->head != NULL) {
        struct block *block = c->head;
        while (block->first < block->count) {
            const struct piece *piece = &block->pieces[block->first];
            if (piece->data == NULL) {
                token = piece->len_or_token;
            } else if (piece->len_or_token <= left) {
                left -= piece->len_or_token;
            } else {
                break;
            }
            block->first++;
        }
        if (block->first < block->count) {
            break;
        }
        c->head = block->next;
        if (c->head == NULL) {
            c->tail = NULL;
        }
        mr_pool_put(&t->blocks, block);
    }
    mr_assert(left <= UINT32_MAX && (c->head != NULL || left == 0));
    c->sent_at = (uint32_t)left;
    if (token != 0 && !c->is_close_reported) {
        events[(*count)++] =
            (struct mr_net_event){.kind = MR_NET_SENT, .conn = &c->conn, .token = token};
    }
    if (c->is_blocked && !c->is_closing) {
        c->is_blocked = false;
        events[(*count)++] = (struct mr_net_event){.kind = MR_NET_ROOM, .conn = &c->conn};
    }
    if (c->head == NULL && c->is_closing) {
        conn_cancel(t, c);
    } else if (c->head != NULL && !c->is_cancelled) {
        conn_dirty(t, c);
    }
    conn_finish_if_idle(t, c); /* also when it was cancelled after a part was sent */
}

static enum mr_err uring_send(struct mr_conn *conn, const struct mr_span *spans,
                              uint32_t span_count, uint64_t token)
{
    struct uring_conn *c = (struct uring_conn *)(void *)conn;
    struct uring_transport *t = (struct uring_transport *)(void *)conn->transport;
    mr_assert(token != 0);
    if (c->is_closing) {
        return MR_ERR_CLOSED;
    }
    uint32_t room = c->tail == NULL ? 0 : BLOCK_PIECES - c->tail->count;
    uint32_t need =
        span_count + 1 > room ? (span_count + 1 - room + BLOCK_PIECES - 1) / BLOCK_PIECES : 0;
    if (t->blocks.capacity - t->blocks.used < need) {
        if (c->head == NULL) {
            return MR_ERR_TOO_LARGE; /* nothing of its own will make room */
        }
        c->is_blocked = true;
        return MR_AGAIN;
    }
    for (uint32_t index = 0; index <= span_count; index++) {
        struct piece piece = {.data = NULL, .len_or_token = token};
        if (index < span_count) {
            if (spans[index].len == 0) {
                continue;
            }
            piece = (struct piece){.data = spans[index].data, .len_or_token = spans[index].len};
        }
        if (c->tail == NULL || c->tail->count == BLOCK_PIECES) {
            struct block *block = mr_pool_get(&t->blocks);
            mr_assert(block != NULL);
            block->next = NULL;
            block->first = block->count = 0;
            if (c->tail == NULL) {
                c->head = block;
            } else {
                c->tail->next = block;
            }
            c->tail = block;
        }
        c->tail->pieces[c->tail->count++] = piece;
    }
    conn_dirty(t, c);
    return MR_OK;
}

static void uring_consumed(struct mr_conn *conn, uint32_t len_bytes)
{
    struct uring_conn *c = (struct uring_conn *)(void *)conn;
    mr_assert(len_bytes <= c->outstanding);
    c->outstanding -= len_bytes;
    if (!c->is_starved && !c->is_closing) {
        conn_dirty((struct uring_transport *)(void *)conn->transport, c);
    }
}

static void uring_release(struct mr_transport *transport, void *buffer)
{
    buffer_put((struct uring_transport *)(void *)transport, (uint32_t)((uintptr_t)buffer - 1));
}

static void uring_close(struct mr_conn *conn, enum mr_err why)
{
    struct uring_conn *c = (struct uring_conn *)(void *)conn;
    struct uring_transport *t = (struct uring_transport *)(void *)conn->transport;
    if (c->is_close_reported) {
        return;
    }
    if (c->is_starved) {
        c->is_starved = false;
        mr_list_remove(&c->dirty_link);
    }
    if (c->is_closing && why == MR_OK) {
        return;
    }
    c->is_closing = true;
    c->why = why;
    if (why != MR_OK || c->head == NULL) {
        conn_cancel(t, c);
    }
    conn_finish_if_idle(t, c);
}

static enum mr_err uring_connect(struct mr_transport *transport, const struct mr_endpoint *peer,
                                 void *user, struct mr_conn **conn_out)
{
    (void)transport;
    (void)peer;
    (void)user;
    (void)conn_out;
    return MR_ERR_INVALID; /* no peers to connect to before clusters are built */
}

/* ---- listening ---- */

static void accept_arm(struct uring_transport *t, uint32_t listener)
{
    struct op *op = &t->accepts[listener];
    if (op->is_under_way || !t->is_listening) {
        return;
    }
    struct io_uring_sqe *sqe = sqe_for(t, op);
    io_uring_prep_multishot_accept(sqe, t->listen_fds[listener], NULL, NULL, SOCK_CLOEXEC);
    sqe_tag(sqe, op);
}

static void accept_done(struct uring_transport *t, struct op *op, int32_t res, uint32_t flags,
                        uint64_t now_ns, struct mr_net_event *events, uint32_t *count)
{
    uint32_t listener = (uint32_t)(op - t->accepts);
    op->is_under_way = (flags & IORING_CQE_F_MORE) != 0;
    if (res >= 0) {
        struct uring_conn *c = t->is_listening ? conn_open(t, res, listener) : NULL;
        if (c == NULL) {
            (void)close(res);
        } else {
            events[(*count)++] = (struct mr_net_event){.kind = MR_NET_OPENED, .conn = &c->conn};
            conn_dirty(t, c);
        }
    } else if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS) {
        mr_log(t->log, MR_LOG_WARN, "no descriptor or memory for a new connection errno=%d", -res);
        t->accept_again_ns = now_ns + ACCEPT_PAUSE;
        return;
    }
    if (!op->is_under_way) {
        accept_arm(t, listener);
    }
}

/*
 * A process that was killed leaves its listening socket to its io_uring, which the kernel takes apart
 * a moment after the process is gone (seen: a restart within 50 ms of kill -9 meets EADDRINUSE). So a
 * port in use is asked for again for a second. Nobody is connected yet who could notice the pause.
 */
static int bind_patiently(int fd, const struct addrinfo *at)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int tries = 0;; tries++) {
        if (bind(fd, at->ai_addr, at->ai_addrlen) == 0) {
            return 0;
        }
        if (errno != EADDRINUSE || tries == BIND_TRIES) {
            return -1;
        }
        (void)nanosleep(&pause, NULL);
    }
}

static enum mr_err listen_one(struct uring_transport *t, const struct mr_endpoint *endpoint,
                              int *out)
{
    char port[8];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    bool is_any = endpoint->host[0] == '\0';
    mr_fmt(port, sizeof port, "%u", endpoint->port);
    int failed = getaddrinfo(is_any ? "::" : endpoint->host, port, &hints, &found);
    if (failed != 0 && is_any) {
        failed = getaddrinfo("0.0.0.0", port, &hints, &found);
    }
    if (failed != 0) {
        mr_log(t->log, MR_LOG_ERROR, "listener address not found host=%s why=%s", endpoint->host,
               gai_strerror(failed));
        return MR_ERR_NOT_FOUND;
    }
    enum mr_err err = MR_ERR_INVALID;
    for (const struct addrinfo *at = found; at != NULL && err != MR_OK; at = at->ai_next) {
        int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            continue;
        }
        int one = 1;
        int zero = 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (t->params.is_port_shared) {
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        }
        if (at->ai_family == AF_INET6) {
            (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_any ? &zero : &one, sizeof one);
        }
        /* accepted sockets inherit both */
        if (t->params.socket_send_buffer_bytes > 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &t->params.socket_send_buffer_bytes,
                             sizeof one);
        }
        if (t->params.socket_receive_buffer_bytes > 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &t->params.socket_receive_buffer_bytes,
                             sizeof one);
        }
        int backlog = t->params.listen_backlog > 0 ? t->params.listen_backlog : 50;
        if (bind_patiently(fd, at) != 0 || listen(fd, backlog) != 0) {
            int why = errno;
            err = why == EADDRINUSE ? MR_ERR_EXISTS : MR_ERR_INVALID;
            mr_log(t->log, MR_LOG_ERROR, "cannot listen host=%s port=%u errno=%d%s", endpoint->host,
                   endpoint->port, why, why == EADDRINUSE ? " (the port is in use)" : "");
            (void)close(fd);
            continue;
        }
        *out = fd;
        err = MR_OK;
    }
    freeaddrinfo(found);
    return err;
}

static enum mr_err ring_ready(struct uring_transport *t)
{
    if (t->is_ring_ready) {
        return MR_OK;
    }
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)t->ring, .ring_entries = t->provided_max, .bgid = GROUP};
    int res = io_uring_register_buf_ring(mr_wait_ring(t->wait), &reg, 0);
    if (res != 0) {
        mr_log(t->log, MR_LOG_ERROR, "receive buffers are refused by io_uring errno=%d", -res);
        return MR_ERR_INVALID;
    }
    io_uring_buf_ring_init(t->ring);
    t->is_ring_ready = true;
    return MR_OK;
}

static void uring_stop_listening(struct mr_transport *transport)
{
    struct uring_transport *t = (struct uring_transport *)(void *)transport;
    if (!t->is_listening) {
        return;
    }
    t->is_listening = false;
    t->accept_again_ns = 0;
    for (uint32_t index = 0; index < t->params.listener_count; index++) {
        (void)shutdown(t->listen_fds[index], SHUT_RDWR); /* ends the accept */
        (void)close(t->listen_fds[index]);
    }
}

static enum mr_err uring_listen(struct mr_transport *transport)
{
    struct uring_transport *t = (struct uring_transport *)(void *)transport;
    enum mr_err err = ring_ready(t);
    if (err != MR_OK) {
        return err;
    }
    mr_assert(t->params.listener_count <= LISTENERS_MAX);
    for (uint32_t index = 0; index < t->params.listener_count; index++) {
        err = listen_one(t, &t->params.listeners[index], &t->listen_fds[index]);
        if (err != MR_OK) {
            while (index > 0) {
                (void)close(t->listen_fds[--index]);
            }
            return err;
        }
    }
    t->is_listening = true;
    for (uint32_t index = 0; index < t->params.listener_count; index++) {
        accept_arm(t, index);
    }
    return MR_OK;
}

/* ---- the turn ---- */

static void transmit(struct uring_transport *t)
{
    while (turn_has_room(t)) {
        struct mr_list *link = mr_list_pop(&t->dirty);
        if (link == NULL) {
            return;
        }
        struct uring_conn *c = MR_LIST_ENTRY(link, struct uring_conn, dirty_link);
        send_arm(t, c);
        if (turn_has_room(t)) {
            recv_arm(t, c);
        } else {
            conn_dirty(t, c);
        }
    }
}

static void op_done(struct uring_transport *t, const struct mr_completion *done, uint64_t now_ns,
                    struct mr_net_event *events, uint32_t *count)
{
    struct op *op = (struct op *)(uintptr_t)(done->user_data & ~(uint64_t)MR_WAIT_TAG_MASK);
    switch (op->kind) {
    case OP_ACCEPT:
        accept_done(t, op, done->res, done->flags, now_ns, events, count);
        return;
    case OP_RECV:
        op->is_under_way = false;
        recv_done(t, op->owner, done->res, done->flags, events, count);
        return;
    case OP_SEND:
        op->is_under_way = false;
        send_done(t, op->owner, done->res, events, count);
        return;
    case OP_CANCEL:
        op->is_under_way = false;
        conn_finish_if_idle(t, op->owner);
        return;
    }
}

static uint32_t uring_poll(struct mr_transport *transport, uint64_t now_ns,
                           struct mr_net_event *events, uint32_t events_max)
{
    struct uring_transport *t = (struct uring_transport *)(void *)transport;
    uint32_t count = 0;
    struct mr_list *link;
    if (events_max == 0) {
        transmit(t);
        return 0;
    }
    if (io_uring_sq_ready(mr_wait_ring(t->wait)) == 0) { /* else some are not submitted yet */
        t->iov_used = 0;
        t->msg_used = 0;
    }
    while ((link = mr_list_pop(&t->freed)) != NULL) {
        mr_pool_put(&t->conns, MR_LIST_ENTRY(link, struct uring_conn, dirty_link));
    }
    if (t->accept_again_ns != 0 && now_ns >= t->accept_again_ns) {
        t->accept_again_ns = 0;
        for (uint32_t index = 0; index < t->params.listener_count; index++) {
            accept_arm(t, index);
        }
    }
    while (events_max - count >= EVENTS_EACH) {
        struct mr_completion done[TAKE_MAX];
        uint32_t max = (events_max - count) / EVENTS_EACH;
        uint32_t taken =
            mr_wait_take(t->wait, MR_WAIT_TAG_TRANSPORT, done, max < TAKE_MAX ? max : TAKE_MAX);
        for (uint32_t index = 0; index < taken; index++) {
            op_done(t, &done[index], now_ns, events, &count);
        }
        if (taken == 0) {
            break;
        }
    }
    while (count < events_max && (link = mr_list_pop(&t->closed)) != NULL) {
        struct uring_conn *c = MR_LIST_ENTRY(link, struct uring_conn, dirty_link);
        events[count++] =
            (struct mr_net_event){.kind = MR_NET_CLOSED, .conn = &c->conn, .err = c->why};
        mr_list_add_tail(&t->freed, &c->dirty_link);
    }
    return count;
}

static uint64_t uring_deadline_ns(const struct mr_transport *transport)
{
    const struct uring_transport *t = (const struct uring_transport *)(const void *)transport;
    if (!mr_list_is_empty(&t->dirty) || !mr_list_is_empty(&t->closed) ||
        mr_wait_ready(t->wait, MR_WAIT_TAG_TRANSPORT) > 0) {
        return 0;
    }
    return t->accept_again_ns != 0 ? t->accept_again_ns : MR_NEVER;
}

/* ---- start ---- */

static uint32_t block_total(const struct mr_transport_uring_params *params)
{
    return params->connections_max + 2048;
}

size_t mr_transport_uring_bytes(const struct mr_transport_uring_params *params)
{
    size_t buffers = buffer_total(params->receive_bytes);
    return sizeof(struct uring_transport) + 65536 +
           buffers * (BUFFER_BYTES + sizeof(struct buffer)) +
           PROVIDED_MAX * sizeof(struct io_uring_buf) +
           (size_t)params->connections_max * (sizeof(struct uring_conn) + 64) +
           (size_t)block_total(params) * (sizeof(struct block) + 16) +
           TURN_IOVS * sizeof(struct iovec) + TURN_MSGS * sizeof(struct msghdr);
}

struct mr_transport *mr_transport_uring_init(const struct mr_transport_uring_params *params)
{
    static const struct mr_transport_ops ops = {
        .name = "uring",
        .listen = uring_listen,
        .stop_listening = uring_stop_listening,
        .poll = uring_poll,
        .deadline_ns = uring_deadline_ns,
        .send = uring_send,
        .consumed = uring_consumed,
        .release = uring_release,
        .connect = uring_connect,
        .close = uring_close,
    };
    struct mr_arena *arena = params->arena;
    struct uring_transport *t = MR_ARENA_GET(arena, struct uring_transport, 1);
    t->base.ops = &ops;
    t->params = *params;
    t->wait = params->wait;
    t->log = params->log;
    t->buffer_count = buffer_total(params->receive_bytes);
    if (t->buffer_count > 65536) {
        t->buffer_count = 65536; /* the kernel names a provided buffer in 16 bits */
    }
    t->provided_max = PROVIDED_MAX;
    while (t->provided_max > t->buffer_count / 4) {
        t->provided_max /= 2;
    }
    mr_pool_init(&t->conns, arena, sizeof(struct uring_conn), params->connections_max, 64);
    mr_pool_init(&t->blocks, arena, sizeof(struct block), block_total(params), 64);
    mr_list_init(&t->dirty);
    mr_list_init(&t->starved);
    mr_list_init(&t->closed);
    mr_list_init(&t->freed);
    t->memory = mr_arena_get_bulk(arena, (size_t)t->buffer_count * BUFFER_BYTES);
    t->buffers = mr_arena_get_fresh(arena, sizeof *t->buffers * t->buffer_count, 64);
    t->ring = mr_arena_get(arena, t->provided_max * sizeof(struct io_uring_buf), 4096);
    t->iovs = mr_arena_get_fresh(arena, TURN_IOVS * sizeof(struct iovec), 64);
    t->msgs = mr_arena_get_fresh(arena, TURN_MSGS * sizeof(struct msghdr), 64);
    for (uint32_t index = 0; index < LISTENERS_MAX; index++) {
        t->accepts[index] = (struct op){.kind = OP_ACCEPT, .owner = t};
        t->listen_fds[index] = -1;
    }
    return &t->base;
}
