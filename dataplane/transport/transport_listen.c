/*
 * transport_listen: sockets that listen, one multishot accept each.
 */
#include "transport/transport_uring.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIND_TRIES   100                  /* ten milliseconds apart */
#define ACCEPT_PAUSE (100 * MR_NS_PER_MS) /* after running out of descriptors */

void mr_transport_listen_arm(struct mr_uring *t, uint32_t listener)
{
    struct mr_uring_op *op = &t->accepts[listener];
    if (op->is_under_way || !t->is_listening) {
        return;
    }
    struct io_uring_sqe *sqe = mr_transport_conn_sqe(t, op);
    io_uring_prep_multishot_accept(sqe, t->listen_fds[listener], NULL, NULL, SOCK_CLOEXEC);
    mr_transport_conn_tag(sqe, op);
}

void mr_transport_listen_done(struct mr_uring *t, struct mr_uring_op *op, int32_t res,
                              uint32_t flags, uint64_t now_ns, struct mr_net_event *events,
                              uint32_t *count)
{
    uint32_t listener = (uint32_t)(op - t->accepts);
    op->is_under_way = (flags & IORING_CQE_F_MORE) != 0;
    if (res >= 0) {
        struct mr_uring_conn *c = t->is_listening ? mr_transport_conn_open(t, res, listener) : NULL;
        if (c == NULL) {
            (void)close(res);
        } else {
            events[(*count)++] = (struct mr_net_event){.kind = MR_NET_OPENED, .conn = &c->conn};
            mr_transport_conn_dirty(t, c);
        }
    } else if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS) {
        mr_log(t->log, MR_LOG_WARN, "no descriptor or memory for a new connection errno=%d", -res);
        t->accept_again_ns = now_ns + ACCEPT_PAUSE;
        return;
    }
    if (!op->is_under_way) {
        mr_transport_listen_arm(t, listener);
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

static enum mr_err listen_one(struct mr_uring *t, const struct mr_endpoint *endpoint, int *out)
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

static enum mr_err ring_ready(struct mr_uring *t)
{
    if (t->is_ring_ready) {
        return MR_OK;
    }
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)t->ring,
                                   .ring_entries = t->provided_max,
                                   .bgid = MR_URING_GROUP};
    int res = io_uring_register_buf_ring(mr_wait_ring(t->wait), &reg, 0);
    if (res != 0) {
        mr_log(t->log, MR_LOG_ERROR, "receive buffers are refused by io_uring errno=%d", -res);
        return MR_ERR_INVALID;
    }
    io_uring_buf_ring_init(t->ring);
    t->is_ring_ready = true;
    return MR_OK;
}

void mr_transport_listen_stop(struct mr_transport *transport)
{
    struct mr_uring *t = (struct mr_uring *)(void *)transport;
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

enum mr_err mr_transport_listen(struct mr_transport *transport)
{
    struct mr_uring *t = (struct mr_uring *)(void *)transport;
    enum mr_err err = ring_ready(t);
    if (err != MR_OK) {
        return err;
    }
    mr_assert(t->params.listener_count <= MR_URING_LISTENERS_MAX);
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
        mr_transport_listen_arm(t, index);
    }
    return MR_OK;
}
