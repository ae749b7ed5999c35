/*
 * transport_send: queues of pieces, and one sendmsg per connection at a time.
 */
#include "transport/transport_uring.h"

#include <errno.h>
#include <sys/socket.h>

void mr_transport_send_drop(struct mr_uring *t, struct mr_uring_conn *c)
{
    while (c->head != NULL) {
        struct mr_uring_block *block = c->head;
        c->head = block->next;
        mr_pool_put(&t->blocks, block);
    }
    c->tail = NULL;
    c->sent_at = 0;
}

void mr_transport_send_arm(struct mr_uring *t, struct mr_uring_conn *c)
{
    if (c->send.is_under_way || c->head == NULL || c->is_cancelled) {
        return;
    }
    struct iovec *iovs = t->iovs + t->iov_used;
    uint32_t count = 0;
    uint32_t skip = c->sent_at;
    for (const struct mr_uring_block *block = c->head;
         block != NULL && count < MR_URING_SEND_PIECES; block = block->next) {
        for (uint32_t index = block->first; index < block->count && count < MR_URING_SEND_PIECES;
             index++) {
            const struct mr_uring_piece *piece = &block->pieces[index];
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
    struct io_uring_sqe *sqe = mr_transport_conn_sqe(t, &c->send);
    if (count == 1) {
        io_uring_prep_send(sqe, c->fd, iovs[0].iov_base, iovs[0].iov_len,
                           MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        io_uring_prep_sendmsg(sqe, c->fd, mr_transport_uring_msg(t, iovs, count),
                              MSG_NOSIGNAL | MSG_WAITALL);
    }
    mr_transport_conn_tag(sqe, &c->send);
}

void mr_transport_send_done(struct mr_uring *t, struct mr_uring_conn *c, int32_t res,
                            struct mr_net_event *events, uint32_t *count)
{
    if (res < 0 && res != -EAGAIN && res != -EINTR) {
        if (res != -ECANCELED) {
            mr_transport_conn_fail(t, c, MR_ERR_CLOSED);
        }
        mr_transport_conn_finish_if_idle(t, c);
        return;
    }
    uint64_t left = (res > 0 ? (uint64_t)res : 0) + c->sent_at;
    uint64_t token = 0;
    while (c->head != NULL) {
        struct mr_uring_block *block = c->head;
        while (block->first < block->count) {
            const struct mr_uring_piece *piece = &block->pieces[block->first];
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
        mr_transport_conn_cancel(t, c);
    } else if (c->head != NULL && !c->is_cancelled) {
        mr_transport_conn_dirty(t, c);
    }
    mr_transport_conn_finish_if_idle(t, c); /* also when it was cancelled after a part was sent */
}

enum mr_err mr_transport_send(struct mr_conn *conn, const struct mr_span *spans,
                              uint32_t span_count, uint64_t token)
{
    struct mr_uring_conn *c = (struct mr_uring_conn *)(void *)conn;
    struct mr_uring *t = (struct mr_uring *)(void *)conn->transport;
    mr_assert(token != 0);
    if (c->is_closing) {
        return MR_ERR_CLOSED;
    }
    uint32_t room = c->tail == NULL ? 0 : MR_URING_BLOCK_PIECES - c->tail->count;
    uint32_t need = span_count + 1 > room ? (span_count + 1 - room + MR_URING_BLOCK_PIECES - 1) /
                                                MR_URING_BLOCK_PIECES
                                          : 0;
    if (t->blocks.capacity - t->blocks.used < need) {
        if (c->head == NULL) {
            return MR_ERR_TOO_LARGE; /* nothing of its own will make room */
        }
        c->is_blocked = true;
        return MR_AGAIN;
    }
    for (uint32_t index = 0; index <= span_count; index++) {
        struct mr_uring_piece piece = {.data = NULL, .len_or_token = token};
        if (index < span_count) {
            if (spans[index].len == 0) {
                continue;
            }
            piece = (struct mr_uring_piece){.data = spans[index].data,
                                            .len_or_token = spans[index].len};
        }
        if (c->tail == NULL || c->tail->count == MR_URING_BLOCK_PIECES) {
            struct mr_uring_block *block = mr_pool_get(&t->blocks);
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
    mr_transport_conn_dirty(t, c);
    return MR_OK;
}
