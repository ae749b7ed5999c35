/*
 * load_link: many TCP connections on one io_uring, each a stream of frames in and of buffers out.
 *
 *   in    one receive at a time into the link's own buffer; whole frames are shown in place
 *   out   one send at a time of everything queued; buffers stay with the caller until their answer
 *
 * Used by the generator and by the null server, so that both ends cost the same few lines. One thread.
 */
#ifndef MILLRACE_PERF_LOAD_LINK_H
#define MILLRACE_PERF_LOAD_LINK_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define MR_LOAD_LINK_PIECES 64u

struct mr_load_link;

struct mr_load_link_calls {
    /* A whole frame, its length not included; the bytes are gone afterwards. */
    void (*frame)(struct mr_load_link *link, const uint8_t *body, uint32_t len);
    /* Everything queued so far has been sent. May be NULL. */
    void (*sent)(struct mr_load_link *link);
    /* The last event: `err` is an errno, 0 when the peer closed. */
    void (*closed)(struct mr_load_link *link, int err);
};

/* The ring and what it counted. */
struct mr_load_loop {
    struct io_uring ring;
    uint64_t        now_ns; /* CLOCK_MONOTONIC, read once per turn */
    int64_t         unix_ns;
    uint64_t        enters;
    uint64_t        completions;
    uint32_t        open_links;
};

enum mr_load_op_kind {
    MR_LOAD_OP_RECV,
    MR_LOAD_OP_SEND,
    MR_LOAD_OP_OTHER, /* the owner's own operation: `done` is called */
};

/* What user_data points at. */
struct mr_load_op {
    enum mr_load_op_kind kind;
    void                *owner; /* struct mr_load_link, or the owner's */
    void (*done)(struct mr_load_op *op, int result);
};

struct mr_load_link {
    struct mr_load_loop             *loop;
    const struct mr_load_link_calls *calls;
    void                            *user;
    int                              fd;
    bool                             is_receiving;
    bool                             is_sending;
    bool                             is_closing;
    bool                             is_paused; /* complete frames stay in the buffer */

    uint8_t *in;
    uint32_t in_size;
    uint32_t in_len;
    uint32_t frame_max;

    struct iovec *out; /* ring of queued buffers */
    uint32_t      out_size;
    uint32_t      out_head;
    uint32_t      out_count;
    struct iovec  pieces[MR_LOAD_LINK_PIECES];
    struct msghdr message;

    struct mr_load_op recv_op;
    struct mr_load_op send_op;
};

/* False: errno says why. */
bool mr_load_loop_init(struct mr_load_loop *loop, uint32_t entries);
void mr_load_loop_deinit(struct mr_load_loop *loop);

/* Submit what was prepared, wait until something completes or `until_ns` is reached (0: do not wait), and
 * call back. Both clocks are read after the wait. */
void mr_load_loop_turn(struct mr_load_loop *loop, uint64_t until_ns);
void mr_load_loop_clock(struct mr_load_loop *loop);

/* For operations of the owner's: never NULL, submits when the ring is full. */
struct io_uring_sqe *mr_load_loop_sqe(struct mr_load_loop *loop);

/* Take over a connected socket. `out_size` buffers may be queued at most, `in_size` bytes are received at
 * once; the buffer grows up to frame_max + 4. False: out of memory. */
bool mr_load_link_open(struct mr_load_link *link, struct mr_load_loop *loop, int fd, uint32_t in_size,
                       uint32_t frame_max, uint32_t out_size, const struct mr_load_link_calls *calls, void *user);

/* Queue a buffer; mr_load_link_flush() sends what is queued. False: the queue is full. */
bool mr_load_link_send(struct mr_load_link *link, const void *data, uint32_t len);
void mr_load_link_flush(struct mr_load_link *link);

/* Show frames again after is_paused was set and cleared. */
void mr_load_link_resume(struct mr_load_link *link);

/* Shut down; `closed` follows when no operation is under way. */
void mr_load_link_close(struct mr_load_link *link);

/* After `closed`, or at the end of the program. */
void mr_load_link_free(struct mr_load_link *link);

#endif
