#include "boot/wait_uring.h"

#include "millrace/base/assert.h"
#include "millrace/base/fmt.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/*
 * Completions leave the kernel's queue into one queue per tag as soon as they are seen, so that the
 * disk's are not behind the transport's. What does not fit stays in the kernel's queue (which keeps
 * everything, IORING_FEAT_NODROP): the consumer of that tag has its turn first.
 */
struct tag_queue {
    struct mr_completion *slots;
    uint32_t mask;
    uint32_t head;
    uint32_t tail;
};

struct mr_wait {
    struct io_uring ring;
    struct mr_doorbell *bell;
    struct tag_queue queues[MR_WAIT_TAG_COUNT];
    uint64_t rings; /* what the event descriptor said; only that it was read matters */
    bool is_bell_armed;
    bool is_deferred; /* completions appear only when the kernel is asked for them */
};

#define BELL_USER_DATA ((uint64_t)MR_WAIT_TAG_WAIT)

/* ---- Doorbell ---- */

bool mr_doorbell_init(struct mr_doorbell *bell)
{
    atomic_store_explicit(&bell->sleeping, 0, memory_order_relaxed);
    bell->event_fd = eventfd(0, EFD_CLOEXEC);
    return bell->event_fd >= 0;
}

void mr_doorbell_deinit(struct mr_doorbell *bell)
{
    if (bell->event_fd >= 0) {
        close(bell->event_fd);
        bell->event_fd = -1;
    }
}

void mr_doorbell_ring(struct mr_doorbell *bell)
{
    /* Dekker: what was published before is visible before `sleeping` is read. Pairs with the fence in
     * mr_doorbell_sleep. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->sleeping, memory_order_relaxed) != 0 &&
        atomic_exchange_explicit(&bell->sleeping, 0, memory_order_relaxed) != 0) {
        uint64_t one = 1;
        ssize_t written = write(bell->event_fd, &one, sizeof one);
        mr_assert(written == (ssize_t)sizeof one); /* the count cannot reach 2^64 */
    }
}

void mr_doorbell_sleep(struct mr_doorbell *bell)
{
    atomic_store_explicit(&bell->sleeping, 1, memory_order_relaxed);
    /* Pairs with the fence in mr_doorbell_ring. */
    atomic_thread_fence(memory_order_seq_cst);
}

void mr_doorbell_awake(struct mr_doorbell *bell)
{
    atomic_store_explicit(&bell->sleeping, 0, memory_order_relaxed);
}

/* ---- The ring ---- */

static uint32_t queue_slots(uint32_t entries)
{
    return entries * 4;
}

size_t mr_wait_uring_bytes(uint32_t entries)
{
    return sizeof(struct mr_wait) +
           MR_WAIT_TAG_COUNT * sizeof(struct mr_completion) * queue_slots(entries) + 64;
}

/*
 * DEFER_TASKRUN (6.1) runs completions when the owner asks, not in the middle of its work; where it
 * is refused, COOP_TASKRUN (5.19) at least sends no interrupts; and a plain ring always works.
 */
static int open_ring(struct io_uring *ring, uint32_t entries, bool *is_deferred)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int err = -EINVAL;
    for (size_t index = 0; index < sizeof flags / sizeof flags[0] && err == -EINVAL; index++) {
        struct io_uring_params params = {.flags = flags[index] | IORING_SETUP_CQSIZE |
                                                  IORING_SETUP_CLAMP,
                                         .cq_entries = entries * 4};
        err = io_uring_queue_init_params(entries, ring, &params);
        *is_deferred = (flags[index] & IORING_SETUP_TASKRUN_FLAG) != 0;
    }
    return err;
}

struct mr_wait *mr_wait_uring_init(void *memory, uint32_t entries, struct mr_doorbell *bell,
                                   int *os_errno)
{
    mr_assert((entries & (entries - 1)) == 0 && entries > 0);
    struct mr_wait *wait = memory;
    memset(wait, 0, sizeof *wait);
    int err = open_ring(&wait->ring, entries, &wait->is_deferred);
    if (err < 0) {
        *os_errno = -err;
        return NULL;
    }
    struct mr_completion *slots =
        (struct mr_completion *)(((uintptr_t)(wait + 1) + 63) & ~(uintptr_t)63);
    for (int tag = 0; tag < MR_WAIT_TAG_COUNT; tag++) {
        wait->queues[tag] = (struct tag_queue){.slots = slots, .mask = queue_slots(entries) - 1};
        slots += queue_slots(entries);
    }
    wait->bell = bell;
    (void)io_uring_register_ring_fd(&wait->ring); /* saves a file look-up per call; optional */
    return wait;
}

void mr_wait_uring_deinit(struct mr_wait *wait)
{
    io_uring_queue_exit(&wait->ring);
}

struct io_uring *mr_wait_ring(struct mr_wait *wait)
{
    return &wait->ring;
}

/* What the kernel has finished goes into the queues, as far as there is room. */
static void collect(struct mr_wait *wait)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned taken = 0;
    io_uring_for_each_cqe(&wait->ring, head, cqe)
    {
        uint64_t tag = cqe->user_data & MR_WAIT_TAG_MASK;
        mr_assert(tag < MR_WAIT_TAG_COUNT);
        if (tag == MR_WAIT_TAG_WAIT) {
            wait->is_bell_armed = false;
            taken++;
            continue;
        }
        struct tag_queue *queue = &wait->queues[tag];
        if (queue->tail - queue->head > queue->mask) {
            break;
        }
        queue->slots[queue->tail++ & queue->mask] = (struct mr_completion){
            .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
        taken++;
    }
    io_uring_cq_advance(&wait->ring, taken);
}

static bool is_kernel_wanted(struct mr_wait *wait)
{
    unsigned flags = IO_URING_READ_ONCE(*wait->ring.sq.kflags);
    return io_uring_sq_ready(&wait->ring) > 0 ||
           (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void submit_and_look(struct mr_wait *wait)
{
    if (is_kernel_wanted(wait)) {
        int err = wait->is_deferred ? io_uring_submit_and_get_events(&wait->ring)
                                    : io_uring_submit(&wait->ring);
        /* EBUSY, EAGAIN: the completions must be taken first; what is queued goes with the next call. */
        mr_assert(err >= 0 || err == -EBUSY || err == -EAGAIN || err == -EINTR);
    }
    collect(wait);
}

struct io_uring_sqe *mr_wait_sqe(struct mr_wait *wait)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&wait->ring);
    for (int tries = 0; sqe == NULL; tries++) {
        mr_assert(tries < 1000000); /* the kernel takes nothing any more */
        submit_and_look(wait);
        sqe = io_uring_get_sqe(&wait->ring);
    }
    return sqe;
}

uint32_t mr_wait_ready(const struct mr_wait *wait, enum mr_wait_tag tag)
{
    return wait->queues[tag].tail - wait->queues[tag].head;
}

uint32_t mr_wait_take(struct mr_wait *wait, enum mr_wait_tag tag, struct mr_completion *out,
                      uint32_t max)
{
    struct tag_queue *queue = &wait->queues[tag];
    uint32_t count = 0;
    if (queue->tail == queue->head) {
        collect(wait);
    }
    for (; count < max && queue->head != queue->tail; count++) {
        out[count] = queue->slots[queue->head++ & queue->mask];
    }
    return count;
}

static bool has_ready(const struct mr_wait *wait)
{
    for (int tag = 0; tag < MR_WAIT_TAG_COUNT; tag++) {
        if (mr_wait_ready(wait, (enum mr_wait_tag)tag) > 0) {
            return true;
        }
    }
    return false;
}

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

void mr_wait(struct mr_wait *wait, uint64_t until_ns)
{
    if (!wait->is_bell_armed && wait->bell != NULL) {
        wait->is_bell_armed = true;
        struct io_uring_sqe *sqe = mr_wait_sqe(wait);
        io_uring_prep_read(sqe, wait->bell->event_fd, &wait->rings, sizeof wait->rings, 0);
        io_uring_sqe_set_data64(sqe, BELL_USER_DATA);
    }
    if (until_ns == 0) {
        submit_and_look(wait);
        return;
    }
    collect(wait);
    uint64_t now_ns = until_ns == MR_NEVER ? 0 : mono_ns();
    if (has_ready(wait) || until_ns <= now_ns || !wait->is_bell_armed) {
        submit_and_look(wait); /* no sleep: there is something to do, or the bell was just heard */
        return;
    }
    struct io_uring_cqe *cqe = NULL;
    uint64_t sleep_ns = until_ns - now_ns;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(sleep_ns / MR_NS_PER_S),
                                        .tv_nsec = (int64_t)(sleep_ns % MR_NS_PER_S)};
    int err = until_ns == MR_NEVER
                  ? io_uring_submit_and_wait(&wait->ring, 1)
                  : io_uring_submit_and_wait_timeout(&wait->ring, &cqe, 1, &timeout, NULL);
    mr_assert(err >= 0 || err == -ETIME || err == -EINTR || err == -EBUSY || err == -EAGAIN);
    collect(wait);
}

/* ---- May we? ---- */

static long read_number(const char *path)
{
    char text[32] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    return len <= 0 ? -1 : strtol(text, NULL, 10);
}

static bool is_kernel_too_old(char *release, size_t size)
{
    struct utsname name;
    if (uname(&name) != 0) {
        return false;
    }
    char *end;
    long major = strtol(name.release, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    mr_fmt(release, size, "%s", name.release);
    return major < 6 || (major == 6 && minor < 1);
}

static void explain(int os_errno, char *why, size_t why_size)
{
    char release[128] = "?";
    bool is_old = is_kernel_too_old(release, sizeof release);
    long disabled = read_number("/proc/sys/kernel/io_uring_disabled");
    if (disabled > 0) {
        mr_fmt(why, why_size,
               "io_uring is switched off: kernel.io_uring_disabled=%d\n"
               "  remedy: sysctl -w kernel.io_uring_disabled=0%s\n"
               "  in a container: set it on the host",
               (int)disabled,
               disabled == 1 ? " (or run as a member of the group kernel.io_uring_group names)"
                             : "");
    } else if (is_old || os_errno == ENOSYS) {
        mr_fmt(
            why, why_size,
            "the kernel %s has no io_uring that is new enough (%s); Linux 6.1 or newer is needed\n"
            "  remedy: Debian 12 or newer; under gVisor and similar sandboxes: another runtime",
            release, strerror(os_errno));
    } else if (os_errno == EPERM || os_errno == EACCES) {
        mr_fmt(
            why, why_size,
            "io_uring is not permitted here (%s), probably by a seccomp filter or security module\n"
            "  Docker:  docker run --security-opt seccomp=unconfined ... (or a profile that "
            "allows\n"
            "           io_uring_setup, io_uring_enter and io_uring_register)\n"
            "  Podman:  podman run --security-opt seccomp=unconfined ... (or such a profile)\n"
            "  systemd: add io_uring_setup io_uring_enter io_uring_register to SystemCallFilter=",
            strerror(os_errno));
    } else if (os_errno == ENOMEM) {
        mr_fmt(why, why_size,
               "the kernel has no memory for an io_uring: the limit on locked memory is too small\n"
               "  remedy: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= in systemd, --ulimit "
               "memlock=-1\n"
               "  for Docker and Podman)");
    } else {
        mr_fmt(why, why_size, "io_uring cannot be set up: %s (kernel %s)", strerror(os_errno),
               release);
    }
}

bool mr_wait_uring_probe(char *why, size_t why_size)
{
    static const struct {
        int op;
        const char *name;
    } needed[] = {
        {IORING_OP_READ, "READ"},
        {IORING_OP_WRITE, "WRITE"},
        {IORING_OP_FSYNC, "FSYNC"},
        {IORING_OP_ACCEPT, "ACCEPT"},
        {IORING_OP_RECV, "RECV"},
        {IORING_OP_SENDMSG, "SENDMSG"},
        {IORING_OP_CLOSE, "CLOSE"},
        {IORING_OP_OPENAT, "OPENAT"},
        {IORING_OP_FALLOCATE, "FALLOCATE"},
        {IORING_OP_SEND_ZC, "SEND_ZC"}, /* the youngest one: 6.0 */
    };
    struct io_uring ring;
    bool is_deferred;
    int err = open_ring(&ring, 8, &is_deferred);
    if (err < 0) {
        explain(-err, why, why_size);
        return false;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    bool is_good = probe != NULL;
    if (probe == NULL) {
        explain(ENOSYS, why, why_size);
    }
    for (size_t index = 0; is_good && index < sizeof needed / sizeof needed[0]; index++) {
        if (!io_uring_opcode_supported(probe, needed[index].op)) {
            char release[128] = "?";
            (void)is_kernel_too_old(release, sizeof release);
            mr_fmt(why, why_size,
                   "the kernel %s lacks the io_uring operation %s; Linux 6.1 or newer is needed",
                   release, needed[index].name);
            is_good = false;
        }
    }
    if (probe != NULL) {
        io_uring_free_probe(probe);
    }
    io_uring_queue_exit(&ring);
    return is_good;
}
