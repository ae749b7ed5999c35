/*
 * transport_conn: the life of a connection on the ring: open, dirty, cancelled, closed.
 */
#include "transport/transport_uring.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

void mr_transport_conn_dirty(struct mr_uring *t, struct mr_uring_conn *c)
{
    if (mr_list_is_empty(&c->dirty_link)) {
        mr_list_add_tail(&t->dirty, &c->dirty_link);
    }
}

struct io_uring_sqe *mr_transport_conn_sqe(struct mr_uring *t, struct mr_uring_op *op)
{
    struct io_uring_sqe *sqe = mr_wait_sqe(t->wait);
    op->is_under_way = true;
    return sqe;
}

void mr_transport_conn_finish_if_idle(struct mr_uring *t, struct mr_uring_conn *c)
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
    mr_transport_send_drop(t, c);
    if (c->fill != 0) {
        mr_transport_receive_put(t, c->fill - 1);
        c->fill = 0;
    }
    mr_list_remove(&c->dirty_link);
    mr_list_add_tail(&t->closed, &c->dirty_link);
}

void mr_transport_conn_cancel(struct mr_uring *t, struct mr_uring_conn *c)
{
    if (c->is_cancelled) {
        return;
    }
    c->is_cancelled = true;
    if (c->recv.is_under_way || c->send.is_under_way) {
        struct io_uring_sqe *sqe = mr_transport_conn_sqe(t, &c->cancel);
        io_uring_prep_cancel_fd(sqe, c->fd, IORING_ASYNC_CANCEL_ALL);
        mr_transport_conn_tag(sqe, &c->cancel);
    }
}

void mr_transport_conn_fail(struct mr_uring *t, struct mr_uring_conn *c, enum mr_err why)
{
    if (!c->is_closing) {
        c->is_closing = true;
        c->why = why;
    }
    mr_transport_conn_cancel(t, c);
    mr_transport_conn_finish_if_idle(t, c);
}

struct mr_uring_conn *mr_transport_conn_open(struct mr_uring *t, int fd, uint32_t listener)
{
    struct mr_uring_conn *c = mr_pool_get(&t->conns);
    if (c == NULL) {
        return NULL;
    }
    *c = (struct mr_uring_conn){.fd = fd};
    c->conn.transport = &t->base;
    c->conn.listener = listener;
    c->conn.window_bytes = MR_NET_WINDOW;
    c->mark = 1;
    c->recv = (struct mr_uring_op){.kind = MR_URING_RECV, .owner = c};
    c->send = (struct mr_uring_op){.kind = MR_URING_SEND, .owner = c};
    c->cancel = (struct mr_uring_op){.kind = MR_URING_CANCEL, .owner = c};
    mr_list_init(&c->dirty_link);
    mr_list_init(&c->link);
    mr_list_init(&c->marked_link);
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

void mr_transport_conn_close(struct mr_conn *conn, enum mr_err why)
{
    struct mr_uring_conn *c = (struct mr_uring_conn *)(void *)conn;
    struct mr_uring *t = (struct mr_uring *)(void *)conn->transport;
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
        mr_transport_conn_cancel(t, c);
    }
    mr_transport_conn_finish_if_idle(t, c);
}
