#include "load_link.h"

#include "millrace/base/bytes.h"
#include "millrace/base/time.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WHOLE_FROM 65536u /* rests of frames from here on are waited for in one piece */

/* ---- the loop ---- */

bool mr_load_loop_init(struct mr_load_loop *loop, uint32_t entries)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_CQSIZE,
                                     .cq_entries = entries * 4};
    *loop = (struct mr_load_loop){0};
    int err = io_uring_queue_init_params(entries, &loop->ring, &params);
    errno = -err;
    mr_load_loop_clock(loop);
    return err == 0;
}

void mr_load_loop_deinit(struct mr_load_loop *loop)
{
    io_uring_queue_exit(&loop->ring);
}

void mr_load_loop_clock(struct mr_load_loop *loop)
{
    struct timespec mono;
    struct timespec unix_time;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &unix_time);
    loop->now_ns = (uint64_t)mono.tv_sec * MR_NS_PER_S + (uint64_t)mono.tv_nsec;
    loop->unix_ns = unix_time.tv_sec * (int64_t)MR_NS_PER_S + unix_time.tv_nsec;
}

struct io_uring_sqe *mr_load_loop_sqe(struct mr_load_loop *loop)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    while (sqe == NULL) {
        io_uring_submit(&loop->ring);
        loop->enters++;
        sqe = io_uring_get_sqe(&loop->ring);
    }
    return sqe;
}

/* ---- receiving ---- */

static void settle(struct mr_load_link *link, int err)
{
    link->is_closing = true;
    if (link->fd >= 0) {
        shutdown(link->fd, SHUT_RDWR);
    }
    if (link->is_receiving || link->is_sending || link->fd < 0) {
        return;
    }
    close(link->fd);
    link->fd = -1;
    link->loop->open_links--;
    link->calls->closed(link, err);
}

/* Bytes of the frame that is being received, its length included; 4 while that is unknown. */
static uint32_t frame_bytes(const struct mr_load_link *link)
{
    return link->in_len < 4 ? 4 : mr_load_be32(link->in) + 4;
}

static bool make_room(struct mr_load_link *link, uint32_t bytes)
{
    if (bytes <= link->in_size) {
        return true;
    }
    uint8_t *grown = bytes > link->frame_max + 4 ? NULL : realloc(link->in, bytes);
    if (grown != NULL) {
        link->in = grown;
        link->in_size = bytes;
    }
    return grown != NULL;
}

static void receive(struct mr_load_link *link)
{
    if (link->is_receiving || link->is_closing || link->is_paused) {
        return;
    }
    uint32_t wanted = frame_bytes(link);
    if (wanted < 4 || !make_room(link, wanted)) {
        settle(link, EMSGSIZE);
        return;
    }
    uint32_t             missing = wanted - link->in_len;
    bool                 is_large = link->in_len >= 4 && missing >= WHOLE_FROM;
    struct io_uring_sqe *sqe = mr_load_loop_sqe(link->loop);
    io_uring_prep_recv(sqe, link->fd, link->in + link->in_len, is_large ? missing : link->in_size - link->in_len,
                       is_large ? MSG_WAITALL : 0);
    io_uring_sqe_set_data(sqe, &link->recv_op);
    link->is_receiving = true;
}

static void show_frames(struct mr_load_link *link)
{
    uint32_t at = 0;
    while (!link->is_paused && !link->is_closing && link->in_len - at >= 4) {
        uint32_t len = mr_load_be32(link->in + at);
        if (len > link->in_len - at - 4) {
            break;
        }
        link->calls->frame(link, link->in + at + 4, len);
        at += 4 + len;
    }
    if (at > 0) {
        memmove(link->in, link->in + at, link->in_len - at);
        link->in_len -= at;
    }
}

static void on_received(struct mr_load_link *link, int result)
{
    link->is_receiving = false;
    if (result <= 0 || link->is_closing) {
        settle(link, result < 0 ? -result : 0);
        return;
    }
    link->in_len += (uint32_t)result;
    show_frames(link);
    receive(link);
}

void mr_load_link_resume(struct mr_load_link *link)
{
    show_frames(link);
    receive(link);
}

/* ---- sending ---- */

void mr_load_link_flush(struct mr_load_link *link)
{
    if (link->is_sending || link->is_closing || link->out_count == 0) {
        return;
    }
    uint32_t count = link->out_count < MR_LOAD_LINK_PIECES ? link->out_count : MR_LOAD_LINK_PIECES;
    for (uint32_t index = 0; index < count; index++) {
        link->pieces[index] = link->out[(link->out_head + index) % link->out_size];
    }
    link->message = (struct msghdr){.msg_iov = link->pieces, .msg_iovlen = count};
    struct io_uring_sqe *sqe = mr_load_loop_sqe(link->loop);
    io_uring_prep_sendmsg(sqe, link->fd, &link->message, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data(sqe, &link->send_op);
    link->is_sending = true;
}

static void on_sent(struct mr_load_link *link, int result)
{
    link->is_sending = false;
    if (result < 0 || link->is_closing) {
        settle(link, result < 0 ? -result : 0);
        return;
    }
    for (size_t left = (size_t)result; left > 0;) {
        struct iovec *piece = &link->out[link->out_head];
        if (left < piece->iov_len) {
            piece->iov_base = (uint8_t *)piece->iov_base + left;
            piece->iov_len -= left;
            break;
        }
        left -= piece->iov_len;
        link->out_head = (link->out_head + 1) % link->out_size;
        link->out_count--;
    }
    if (link->out_count == 0 && link->calls->sent != NULL) {
        link->calls->sent(link);
    }
    mr_load_link_flush(link);
}

bool mr_load_link_send(struct mr_load_link *link, const void *data, uint32_t len)
{
    if (link->out_count == link->out_size) {
        return false;
    }
    struct iovec *piece = &link->out[(link->out_head + link->out_count) % link->out_size];
    memcpy(&piece->iov_base, &data, sizeof piece->iov_base); /* iovec has no const */
    piece->iov_len = len;
    link->out_count++;
    return true;
}

/* ---- links ---- */

bool mr_load_link_open(struct mr_load_link *link, struct mr_load_loop *loop, int fd, uint32_t in_size,
                       uint32_t frame_max, uint32_t out_size, const struct mr_load_link_calls *calls, void *user)
{
    *link = (struct mr_load_link){
        .loop = loop, .calls = calls, .user = user, .fd = fd, .in_size = in_size, .frame_max = frame_max,
        .out_size = out_size};
    link->recv_op = (struct mr_load_op){.kind = MR_LOAD_OP_RECV, .owner = link};
    link->send_op = (struct mr_load_op){.kind = MR_LOAD_OP_SEND, .owner = link};
    link->in = malloc(in_size);
    link->out = calloc(out_size, sizeof *link->out);
    if (link->in == NULL || link->out == NULL) {
        return false;
    }
    loop->open_links++;
    receive(link);
    return true;
}

void mr_load_link_close(struct mr_load_link *link)
{
    if (!link->is_closing) {
        settle(link, 0);
    }
}

void mr_load_link_free(struct mr_load_link *link)
{
    free(link->in);
    free(link->out);
    link->in = NULL;
    link->out = NULL;
}

/* ---- turns ---- */

static void complete(struct mr_load_op *op, int result)
{
    if (op == NULL) {
        return;
    }
    switch (op->kind) {
    case MR_LOAD_OP_RECV:
        on_received(op->owner, result);
        break;
    case MR_LOAD_OP_SEND:
        on_sent(op->owner, result);
        break;
    case MR_LOAD_OP_OTHER:
        op->done(op, result);
        break;
    }
}

void mr_load_loop_turn(struct mr_load_loop *loop, uint64_t until_ns)
{
    struct io_uring_cqe *cqe;
    unsigned             head;
    unsigned             count = 0;
    loop->enters++;
    if (until_ns <= loop->now_ns) {
        io_uring_submit_and_get_events(&loop->ring);
    } else {
        uint64_t                 wait_ns = until_ns - loop->now_ns;
        struct __kernel_timespec timeout = {.tv_sec = (long long)(wait_ns / MR_NS_PER_S),
                                            .tv_nsec = (long long)(wait_ns % MR_NS_PER_S)};
        (void)io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &timeout, NULL);
    }
    mr_load_loop_clock(loop);
    io_uring_for_each_cqe(&loop->ring, head, cqe)
    {
        count++;
        complete(io_uring_cqe_get_data(cqe), cqe->res);
    }
    io_uring_cq_advance(&loop->ring, count);
    loop->completions += count;
}
