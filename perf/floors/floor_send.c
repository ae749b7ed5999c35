/*
 * floor_send: loopback: a plain send loop, and other ways of sending what a cache holds.
 *
 *   send      copies into the socket
 *   send_zc   io_uring's SEND_ZC: the kernel refers to the pages; over loopback it copies them when they are delivered
 *   sendfile  from a file in memory (memfd), page by page
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
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define CACHE_BYTES (256u << 20)
#define UNDER_WAY   8u /* sends of send_zc whose pages are not let go yet */

static int fail(const char *what)
{
    fprintf(stderr, "millrace-floors: %s: %s\n", what, strerror(errno));
    return 1;
}

struct receiver {
    pthread_t thread;
    int       fd;
    uint32_t  bytes;
    uint64_t  got;
    uint64_t  cpu_ns;
};

static void *receive_all(void *argument)
{
    struct receiver *receiver = argument;
    uint64_t         before_ns = mr_floors_cpu_ns();
    uint8_t         *buffer = malloc(receiver->bytes);
    ssize_t          got = 0;
    while (buffer != NULL && (got = recv(receiver->fd, buffer, receiver->bytes, 0)) > 0) {
        receiver->got += (uint64_t)got;
    }
    receiver->cpu_ns = mr_floors_cpu_ns() - before_ns;
    free(buffer);
    return NULL;
}

bool mr_floors_connect(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          len = sizeof address;
    int                listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    bool is_done = listener >= 0 && fds[0] >= 0 && bind(listener, (struct sockaddr *)&address, len) == 0 &&
                   listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
                   connect(fds[0], (struct sockaddr *)&address, len) == 0;
    fds[1] = is_done ? accept(listener, NULL, NULL) : -1;
    close(listener);
    return fds[1] >= 0;
}

/* What is sent: memory, which is also a file. */
struct cache {
    int             memfd;
    uint8_t        *data;
    uint32_t        bytes;
    struct io_uring ring;
    uint32_t        under_way;
};

typedef ssize_t send_way(struct cache *cache, int fd, off_t at, uint32_t bytes);

static ssize_t by_send(struct cache *cache, int fd, off_t at, uint32_t bytes)
{
    return send(fd, cache->data + at, bytes, MSG_NOSIGNAL);
}

static ssize_t by_sendfile(struct cache *cache, int fd, off_t at, uint32_t bytes)
{
    return sendfile(fd, cache->memfd, &at, bytes);
}

/* The result of the send; notifications that pages are free again are counted on the way. */
static ssize_t by_send_zc(struct cache *cache, int fd, off_t at, uint32_t bytes)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&cache->ring);
    ssize_t              sent = 0;
    bool                 is_sent = false;
    io_uring_prep_send_zc(sqe, fd, cache->data + at, bytes, MSG_NOSIGNAL, 0);
    cache->under_way++;
    while (!is_sent || cache->under_way > UNDER_WAY) {
        struct io_uring_cqe *cqe;
        if (io_uring_submit_and_wait(&cache->ring, 1) < 0 || io_uring_peek_cqe(&cache->ring, &cqe) != 0) {
            continue;
        }
        if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
            cache->under_way--;
        } else {
            sent = cqe->res;
            is_sent = true;
            cache->under_way -= (cqe->flags & IORING_CQE_F_MORE) != 0 ? 0u : 1u;
        }
        io_uring_cqe_seen(&cache->ring, cqe);
    }
    errno = sent < 0 ? (int)-sent : 0;
    return sent;
}

struct sending {
    double gb;
    double seconds;
    double cpu_s;
    double receiver_cpu_s;
};

static bool run_way(struct cache *cache, send_way *way, const struct mr_floors_options *options, uint32_t bytes, struct sending *out)
{
    int             fds[2];
    struct receiver receiver = {.bytes = bytes};
    uint64_t        sent = 0;
    off_t           at = 0;
    ssize_t         done = 1;
    if (!mr_floors_connect(fds)) {
        return false;
    }
    receiver.fd = fds[1];
    pthread_create(&receiver.thread, NULL, receive_all, &receiver);
    uint64_t start_ns = mr_floors_now_ns();
    uint64_t cpu_ns = mr_floors_cpu_ns();
    uint64_t end_ns = start_ns + (uint64_t)(options->seconds * 1e9);
    while (done > 0 && mr_floors_now_ns() < end_ns) {
        done = way(cache, fds[0], at, bytes);
        sent += done > 0 ? (uint64_t)done : 0;
        at = at + 2 * (off_t)bytes > (off_t)cache->bytes ? 0 : at + (off_t)bytes;
    }
    cpu_ns = mr_floors_cpu_ns() - cpu_ns;
    *out = (struct sending){.gb = (double)sent * 1e-9, .cpu_s = (double)cpu_ns * 1e-9};
    out->seconds = (double)(mr_floors_now_ns() - start_ns) * 1e-9;
    shutdown(fds[0], SHUT_WR);
    pthread_join(receiver.thread, NULL);
    out->receiver_cpu_s = (double)receiver.cpu_ns * 1e-9;
    close(fds[0]);
    close(fds[1]);
    return done > 0;
}

int mr_floors_send(const struct mr_floors_options *options)
{
    struct cache   cache = {.data = calloc(1, options->bytes), .bytes = options->bytes};
    struct sending sending;
    if (cache.data == NULL || !run_way(&cache, by_send, options, options->bytes, &sending)) {
        return fail("send");
    }
    printf("{\"send_bytes\": %u, \"gb_per_s\": %.3f, \"sender_cpu_s_per_gb\": %.4f, \"receiver_cpu_s_per_gb\": %.4f}\n",
           options->bytes, sending.gb / sending.seconds, sending.cpu_s / sending.gb, sending.receiver_cpu_s / sending.gb);
    free(cache.data);
    return 0;
}

static bool open_cache(struct cache *cache)
{
    *cache = (struct cache){.bytes = CACHE_BYTES, .memfd = memfd_create("floor", MFD_CLOEXEC)};
    if (cache->memfd < 0 || ftruncate(cache->memfd, CACHE_BYTES) != 0) {
        return false;
    }
    cache->data = mmap(NULL, CACHE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, cache->memfd, 0);
    if (cache->data == MAP_FAILED) {
        return false;
    }
    memset(cache->data, 7, CACHE_BYTES);
    errno = -io_uring_queue_init(64, &cache->ring, IORING_SETUP_SINGLE_ISSUER);
    return errno == 0;
}

int mr_floors_sends(const struct mr_floors_options *options)
{
    static const struct {
        const char *name;
        send_way   *way;
    } ways[] = {{"send", by_send}, {"send_zc", by_send_zc}, {"sendfile", by_sendfile}};
    static const uint32_t sizes[] = {16 << 10, 64 << 10, 256 << 10, 1 << 20};
    struct cache          cache;
    struct sending        sending;
    const char           *comma = "[";
    if (!open_cache(&cache)) {
        return fail("sends");
    }
    for (size_t size = 0; size < sizeof sizes / sizeof sizes[0]; size++) {
        for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            if (!run_way(&cache, ways[way].way, options, sizes[size], &sending)) {
                return fail(ways[way].name);
            }
            printf("%s{\"way\": \"%s\", \"bytes\": %u, \"gb_per_s\": %.2f, \"sender_cpu_s_per_gb\": %.3f, \"receiver_cpu_s_per_gb\": %.3f}",
                   comma, ways[way].name, sizes[size], sending.gb / sending.seconds, sending.cpu_s / sending.gb,
                   sending.receiver_cpu_s / sending.gb);
            comma = ",\n ";
        }
    }
    puts("]");
    io_uring_queue_exit(&cache.ring);
    munmap(cache.data, CACHE_BYTES);
    close(cache.memfd);
    return 0;
}
