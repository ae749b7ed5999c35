/*
 * transport_receive: receive buffers, and one receive per connection.
 */
#include "transport/transport_uring.h"

#include <errno.h>
#include <sys/socket.h>

/*
 * The mark. A frame of a megabyte comes in sixteen segments or a thousand; to be woken up for each of
 * them costs more than the bytes. So while much of a frame is to come, the receive waits in the kernel
 * until MARK_MAX bytes are there, or the window is full, or the frame is whole: SO_RCVLOWAT, with
 * IORING_RECVSEND_POLL_FIRST, because a receive that does not wait takes whatever there is. Below
 * MARK_MIN it is not worth its system call. The kernel wakes us as well when the peer has closed, and
 * when its receive buffer cannot hold more; and after MR_NET_KEPT_MS we look for ourselves.
 */
#define MARK_MIN 65536u
#define MARK_MAX 262144u

static uint8_t *buffer_data(struct mr_uring *t, uint32_t id)
{
    return t->memory + (size_t)id * MR_URING_BUFFER_BYTES;
}

static bool buffer_get(struct mr_uring *t, uint32_t *id)
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

void mr_transport_receive_put(struct mr_uring *t, uint32_t id)
{
    mr_assert(t->buffers[id].refs > 0);
    if (--t->buffers[id].refs > 0) {
        return;
    }
    t->buffers[id].next = t->free_head;
    t->free_head = id + 1;
    struct mr_list *link = mr_list_pop(&t->starved);
    if (link != NULL) {
        struct mr_uring_conn *c = MR_LIST_ENTRY(link, struct mr_uring_conn, dirty_link);
        c->is_starved = false;
        mr_transport_conn_dirty(t, c);
    }
}

static void provide(struct mr_uring *t)
{
    uint32_t added = 0;
    int mask = io_uring_buf_ring_mask(t->provided_max);
    uint32_t id;
    while (t->provided + added < t->provided_max && buffer_get(t, &id)) {
        io_uring_buf_ring_add(t->ring, buffer_data(t, id), MR_URING_BUFFER_BYTES,
                              (unsigned short)id, mask, (int)added);
        added++;
    }
    if (added > 0) {
        io_uring_buf_ring_advance(t->ring, (int)added);
        t->provided += added;
    }
}

static void starve(struct mr_uring *t, struct mr_uring_conn *c)
{
    c->is_starved = true;
    mr_list_remove(&c->dirty_link);
    mr_list_add_tail(&t->starved, &c->dirty_link);
}

void mr_transport_receive_drop(struct mr_uring *t, struct mr_uring_conn *c)
{
    if (c->fill != 0) {
        mr_transport_receive_put(t, c->fill - 1);
        c->fill = 0;
    }
}

static void mark_set(struct mr_uring_conn *c, uint32_t mark)
{
    if (c->mark != mark) {
        int value = (int)mark;
        (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
        c->mark = mark;
    }
}

static uint32_t mark_for(const struct mr_uring_conn *c, uint32_t room)
{
    uint32_t mark = c->conn.rest_bytes < room ? c->conn.rest_bytes : room;
    mark = mark < MARK_MAX ? mark : MARK_MAX;
    return mark < MARK_MIN ? 1 : mark;
}

void mr_transport_receive_unmark(struct mr_uring *t)
{
    while (!mr_list_is_empty(&t->marked)) {
        struct mr_uring_conn *c = MR_LIST_ENTRY(t->marked.next, struct mr_uring_conn, marked_link);
        if (c->marked_until_ns > t->now_ns) {
            return;
        }
        mr_list_remove(&c->marked_link);
        mark_set(c, 1); /* ends the receive, if anything is there */
    }
}

/* In the middle of a frame: go on in the last buffer, then in new ones, up to the window. */
static void recv_more(struct mr_uring *t, struct mr_uring_conn *c)
{
    uint32_t want = c->conn.window_bytes - c->outstanding;
    uint32_t count = 0;
    uint32_t room = 0;
    struct iovec *iovs = t->iovs + t->iov_used;
    c->recv_at = 0;
    if (c->fill != 0 && c->fill_at < MR_URING_BUFFER_BYTES) {
        room = MR_URING_BUFFER_BYTES - c->fill_at;
        iovs[0] =
            (struct iovec){.iov_base = buffer_data(t, c->fill - 1) + c->fill_at, .iov_len = room};
        c->recv_at = c->fill_at;
        c->recv_ids[count++] = c->fill - 1; /* the reference moves with it */
        c->fill = 0;
    }
    mr_transport_receive_drop(t, c);
    uint32_t id;
    while (room < want && count < MR_URING_RECV_BUFFERS && buffer_get(t, &id)) {
        iovs[count] =
            (struct iovec){.iov_base = buffer_data(t, id), .iov_len = MR_URING_BUFFER_BYTES};
        c->recv_ids[count++] = id;
        room += MR_URING_BUFFER_BYTES;
    }
    if (count == 0) {
        starve(t, c);
        return;
    }
    c->recv_count = count;
    struct io_uring_sqe *sqe = mr_transport_conn_sqe(t, &c->recv);
    if (count == 1) {
        io_uring_prep_recv(sqe, c->fd, iovs[0].iov_base, iovs[0].iov_len, 0);
    } else {
        io_uring_prep_recvmsg(sqe, c->fd, mr_transport_uring_msg(t, iovs, count), 0);
    }
    mark_set(c, mark_for(c, room));
    if (c->mark > 1) {
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
        c->marked_until_ns = t->now_ns + MR_NET_KEPT_MS * MR_NS_PER_MS;
        mr_list_add_tail(&t->marked, &c->marked_link);
    }
    mr_transport_conn_tag(sqe, &c->recv);
}

void mr_transport_receive_arm(struct mr_uring *t, struct mr_uring_conn *c)
{
    if (c->recv.is_under_way || c->is_closing || c->is_starved ||
        c->outstanding >= c->conn.window_bytes) {
        return;
    }
    if (c->outstanding > 0) {
        recv_more(t, c);
        return;
    }
    mr_transport_receive_drop(t, c); /* between frames: hold no buffer while waiting */
    provide(t);
    if (t->provided == 0) {
        starve(t, c);
        return;
    }
    mark_set(c, 1);
    struct io_uring_sqe *sqe = mr_transport_conn_sqe(t, &c->recv);
    io_uring_prep_recv(sqe, c->fd, NULL, MR_URING_BUFFER_BYTES, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = MR_URING_GROUP;
    mr_transport_conn_tag(sqe, &c->recv);
    c->recv_count = 0;
}

static void emit_data(struct mr_uring_conn *c, uint32_t id, const uint8_t *data, uint32_t len,
                      struct mr_net_event *events, uint32_t *count)
{
    events[(*count)++] = (struct mr_net_event){
        .kind = MR_NET_DATA,
        .conn = &c->conn,
        .span = {.data = data, .len = len},
        .buffer = (void *)(uintptr_t)(id + 1),
    };
    c->outstanding += len;
    c->conn.rest_bytes -= len < c->conn.rest_bytes ? len : c->conn.rest_bytes;
}

void mr_transport_receive_done(struct mr_uring *t, struct mr_uring_conn *c, int32_t res,
                               uint32_t flags, struct mr_net_event *events, uint32_t *count)
{
    uint32_t left = res > 0 ? (uint32_t)res : 0;
    mr_list_remove(&c->marked_link);
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
        mr_assert(t->provided > 0 && id < t->buffer_count);
        t->provided--;
        if (left == 0 || c->is_closing) {
            mr_transport_receive_put(t, id);
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
        uint32_t part = MR_URING_BUFFER_BYTES - at < left ? MR_URING_BUFFER_BYTES - at : left;
        bool is_first = index == 0 && c->recv_at > 0;
        if (c->is_closing || (part == 0 && !is_first)) {
            mr_transport_receive_put(t, id);
            continue;
        }
        left -= part;
        if (part > 0) {
            t->buffers[id].refs++;
            emit_data(c, id, buffer_data(t, id) + at, part, events, count);
        }
        mr_transport_receive_drop(t, c);
        c->fill = id + 1;
        c->fill_at = at + part;
    }
    c->recv_count = 0;
    if (res == -ENOBUFS) {
        starve(t, c);
    } else if (res == 0 || (res < 0 && res != -EAGAIN && res != -EINTR && res != -ECANCELED)) {
        c->is_eof = res == 0;
        if (!c->is_closing) {
            mr_transport_conn_fail(t, c, MR_ERR_CLOSED);
        }
    }
    if (!c->is_starved && !c->is_closing) {
        mr_transport_conn_dirty(t, c);
    }
    mr_transport_conn_finish_if_idle(t, c);
}

void mr_transport_receive_consumed(struct mr_conn *conn, uint32_t len_bytes)
{
    struct mr_uring_conn *c = (struct mr_uring_conn *)(void *)conn;
    mr_assert(len_bytes <= c->outstanding);
    c->outstanding -= len_bytes;
    if (!c->is_starved && !c->is_closing) {
        mr_transport_conn_dirty((struct mr_uring *)(void *)conn->transport, c);
    }
}

void mr_transport_receive_release(struct mr_transport *transport, void *buffer)
{
    mr_transport_receive_put((struct mr_uring *)(void *)transport,
                             (uint32_t)((uintptr_t)buffer - 1));
}
