/*
 * floor_receive: ways of io_uring to receive requests: 64 connections that ask and wait, and one that sends 100 KB at a time.
 *
 *   plain      a receive for each answer, into a buffer that the connection has for good
 *   ring       a receive for each answer, into a buffer that the kernel takes from a ring when there is something
 *   multishot  one receive for ever, likewise
 *   bundle     one receive for ever, into as many bytes of large buffers as have come (incremental, in bundles; Linux 6.12)
 */
#include "floors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS  64u
#define BUFFERS      256u
#define BUFFER_BYTES (64u << 10)
#define GROUP        1
#define ANSWER_BYTES 16u
#define RECV_BUNDLE  (1u << 4) /* IORING_RECVSEND_BUNDLE; the library's header is older */
#define BUFFERS_INC  2u        /* IOU_PBUF_RING_INC */
#define MORE_OF_IT   (1u << 4) /* IORING_CQE_F_BUF_MORE */

enum way {
    WAY_PLAIN,
    WAY_RING,
    WAY_MULTISHOT,
    WAY_BUNDLE,
    WAY_COUNT,
};
static const char *const names[] = {"plain", "ring", "multishot", "bundle"};

struct server {
    enum way                  way;
    uint32_t                  count;
    uint32_t                  request; /* bytes */
    bool                      is_answering;
    int                       fds[CONNECTIONS];
    uint32_t                  got[CONNECTIONS]; /* of the current request */
    struct io_uring           ring;
    struct io_uring_buf_ring *buffers;
    uint8_t                  *memory;
    uint32_t                  filling; /* bundles: the buffer that bytes go to */
    uint64_t                  bytes;
    uint64_t                  requests;
    uint64_t                  cpu_ns;
    int                       err;
};

/* The other end: asks on all connections, then takes all answers; or only sends. */
struct client {
    pthread_t       thread;
    struct server  *server;
    int             fds[CONNECTIONS];
    uint64_t        end_ns;
};

static void *ask(void *argument)
{
    struct client *c = argument;
    uint8_t       *request = calloc(1, c->server->request);
    uint8_t        answer[ANSWER_BYTES];
    while (request != NULL && mr_floors_now_ns() < c->end_ns) {
        for (uint32_t index = 0; index < c->server->count; index++) {
            (void)send(c->fds[index], request, c->server->request, MSG_NOSIGNAL);
        }
        for (uint32_t index = 0; c->server->is_answering && index < c->server->count; index++) {
            (void)recv(c->fds[index], answer, ANSWER_BYTES, MSG_WAITALL);
        }
    }
    for (uint32_t index = 0; index < c->server->count; index++) {
        shutdown(c->fds[index], SHUT_WR);
    }
    free(request);
    return NULL;
}

static void arm(struct server *s, uint32_t index)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
    if (s->way == WAY_PLAIN) {
        io_uring_prep_recv(sqe, s->fds[index], s->memory + (size_t)index * BUFFER_BYTES, BUFFER_BYTES, 0);
    } else {
        io_uring_prep_recv(sqe, s->fds[index], NULL, s->way == WAY_RING ? BUFFER_BYTES : 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = GROUP;
    }
    if (s->way >= WAY_MULTISHOT) {
        sqe->ioprio |= IORING_RECV_MULTISHOT | (s->way == WAY_BUNDLE ? RECV_BUNDLE : 0);
    }
    io_uring_sqe_set_data64(sqe, index);
}

static void provide(struct server *s, uint32_t id)
{
    io_uring_buf_ring_add(s->buffers, s->memory + (size_t)id * BUFFER_BYTES, BUFFER_BYTES, (unsigned short)id,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(s->buffers, 1);
}

static void answer(struct server *s, uint32_t index)
{
    static const uint8_t bytes[ANSWER_BYTES];
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
    io_uring_prep_send(sqe, s->fds[index], bytes, ANSWER_BYTES, MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, CONNECTIONS);
}

/* Buffers that were used up go back. Bundles fill one behind the other, whosever the bytes are, and say when one is full. */
static void give_back(struct server *s, const struct io_uring_cqe *cqe)
{
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if ((cqe->flags & IORING_CQE_F_BUFFER) == 0) {
        return;
    }
    if (s->way != WAY_BUNDLE) {
        provide(s, id);
        return;
    }
    uint32_t end = (cqe->flags & MORE_OF_IT) != 0 ? id : (id + 1) % BUFFERS;
    for (; s->filling != end; s->filling = (s->filling + 1) % BUFFERS) {
        provide(s, s->filling);
    }
}

/* False: the connection has ended. */
static bool took(struct server *s, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)cqe->user_data;
    if (index >= CONNECTIONS) {
        return true;
    }
    bool is_armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res <= 0 && cqe->res != -ENOBUFS) {
        s->err = -cqe->res;
        return false;
    }
    if (cqe->res > 0) {
        give_back(s, cqe);
        s->bytes += (uint64_t)cqe->res;
        s->got[index] += (uint32_t)cqe->res;
    }
    for (; s->got[index] >= s->request; s->got[index] -= s->request) {
        s->requests++;
        if (s->is_answering) {
            answer(s, index);
        }
    }
    if (!is_armed) {
        arm(s, index);
    }
    return true;
}

static void serve(struct server *s)
{
    uint32_t open = s->count;
    uint64_t before_ns = mr_floors_cpu_ns();
    for (uint32_t index = 0; index < s->count; index++) {
        arm(s, index);
    }
    while (open > 0) {
        struct io_uring_cqe *cqe;
        unsigned             head;
        unsigned             count = 0;
        io_uring_submit_and_wait(&s->ring, 1);
        io_uring_for_each_cqe(&s->ring, head, cqe)
        {
            count++;
            open -= took(s, cqe) ? 0 : 1;
        }
        io_uring_cq_advance(&s->ring, count);
    }
    s->cpu_ns = mr_floors_cpu_ns() - before_ns;
}

static bool open_ring(struct server *s)
{
    struct io_uring_params  params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    struct io_uring_buf_reg reg = {.ring_entries = BUFFERS, .bgid = GROUP};
    errno = -io_uring_queue_init_params(1024, &s->ring, &params);
    if (errno != 0 || posix_memalign((void **)&s->memory, 4096, (size_t)BUFFERS * BUFFER_BYTES) != 0 ||
        posix_memalign((void **)&s->buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)) != 0) {
        return false;
    }
    memset(s->memory, 1, (size_t)BUFFERS * BUFFER_BYTES);
    reg.ring_addr = (uint64_t)(uintptr_t)s->buffers;
    errno = -io_uring_register_buf_ring(&s->ring, &reg, s->way == WAY_BUNDLE ? BUFFERS_INC : 0);
    if (errno != 0) {
        return false;
    }
    io_uring_buf_ring_init(s->buffers);
    for (uint32_t id = 0; id < BUFFERS; id++) {
        provide(s, id);
    }
    return true;
}

static bool connect_all(struct server *s, struct client *c)
{
    for (uint32_t index = 0; index < s->count; index++) {
        int fds[2];
        if (!mr_floors_connect(fds)) {
            return false;
        }
        c->fds[index] = fds[0];
        s->fds[index] = fds[1];
    }
    return true;
}

static bool measure(enum way way, bool is_small, const struct mr_floors_options *options, const char *comma)
{
    struct server s = {.way = way, .count = is_small ? CONNECTIONS : 1, .request = is_small ? 100 : 100000, .is_answering = is_small};
    struct client c = {.server = &s};
    if (!open_ring(&s) || !connect_all(&s, &c)) {
        return false;
    }
    uint64_t from_ns = mr_floors_now_ns();
    c.end_ns = from_ns + (uint64_t)(options->seconds * 1e9);
    pthread_create(&c.thread, NULL, ask, &c);
    serve(&s);
    double seconds = (double)(mr_floors_now_ns() - from_ns) * 1e-9;
    pthread_join(c.thread, NULL);
    printf("%s{\"way\": \"%s\", \"connections\": %u, \"request_bytes\": %u, \"requests_per_s\": %.0f, \"cpu_us_per_request\": %.3f, \"cpu_s_per_gb\": %.4f}",
           comma, names[way], s.count, s.request, (double)s.requests / seconds, (double)s.cpu_ns * 1e-3 / (double)s.requests,
           (double)s.cpu_ns / (double)s.bytes);
    for (uint32_t index = 0; index < s.count; index++) {
        close(s.fds[index]);
        close(c.fds[index]);
    }
    io_uring_queue_exit(&s.ring);
    free(s.memory);
    free(s.buffers);
    errno = s.err;
    return s.err == 0;
}

int mr_floors_receive(const struct mr_floors_options *options)
{
    const char *comma = "[";
    for (int shape = 0; shape < 2; shape++) {
        for (enum way way = WAY_PLAIN; way < WAY_COUNT; way++) {
            if (!measure(way, shape == 0, options, comma)) {
                fprintf(stderr, "\nmillrace-floors: receive, %s: %s\n", names[way], strerror(errno));
                return 1;
            }
            comma = ",\n ";
        }
    }
    puts("]");
    return 0;
}
