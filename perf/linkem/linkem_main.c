/*
 * millrace-linkem: a bad path between two hosts, for kernels without netem: frames from one port come out of the other as
 * tests/sim/sim_link.h would let them through, in real time, by seed.
 *
 *   millrace-linkem PORT PORT [KEY=VALUE...]
 *
 *   PORT     tap:NETNS:DEVICE   a new TAP device in the network namespace that the file NETNS names
 *            fd:N               a socket that is open, a frame per message (SOCK_SEQPACKET)
 *   KEY      kbit_per_s queue_bytes delay_us jitter_us loss burst_begin burst_end duplicate reorder mtu seed
 *            both ways alike; chances out of 10,000
 *
 * What is not TCP (ARP) is delayed and never lost: its retries would be measured instead of TCP's. Prints "ready", and when its
 * standard input ends what it saw in each direction, and how late it was itself: who measures with it throws away
 * runs in which the machine stood still.
 */
#include "linkem_judge.h"
#include "sim_link.h"

#include "millrace/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 65536u
#define BURST     64u /* frames of one port in a turn */
#define LATE_NS   MR_NS_PER_MS

static struct mr_sim_link path;
static struct mr_linkem_judge judges[2]; /* towards port 0, towards port 1 */
static int ports[2];
static struct mr_sim_link_faults faults;
static uint64_t kbit_per_s;
static uint64_t seed = 1;
static uint64_t late_max_ns;
static uint64_t late_count; /* frames delivered more than LATE_NS late */
static uint64_t delivered;

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "millrace-linkem: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- ports ---- */

static void enter(const char *netns)
{
    int fd = open(netns, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        fail(netns);
    }
    close(fd);
}

static int open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        fail("/dev/net/tun");
    }
    return fd;
}

static int open_port(char *text)
{
    int fd;
    if (strncmp(text, "fd:", 3) == 0) {
        fd = atoi(text + 3);
    } else {
        char *device = strncmp(text, "tap:", 4) == 0 ? strchr(text + 4, ':') : NULL;
        if (device == NULL) {
            errno = EINVAL;
            fail(text);
        }
        *device = '\0';
        enter(text + 4);
        fd = open_tap(device + 1);
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        fail(text);
    }
    return fd;
}

/* ---- options ---- */

static const struct {
    const char *name;
    size_t at;
    uint64_t unit;
    bool is_wide;
} options[] = {
    {"queue_bytes", offsetof(struct mr_sim_link_faults, queue_bytes), 1, false},
    {"delay_us", offsetof(struct mr_sim_link_faults, delay_ns), MR_NS_PER_US, true},
    {"jitter_us", offsetof(struct mr_sim_link_faults, jitter_ns), MR_NS_PER_US, true},
    {"loss", offsetof(struct mr_sim_link_faults, loss), 1, false},
    {"burst_begin", offsetof(struct mr_sim_link_faults, burst_begin), 1, false},
    {"burst_end", offsetof(struct mr_sim_link_faults, burst_end), 1, false},
    {"duplicate", offsetof(struct mr_sim_link_faults, duplicate), 1, false},
    {"reorder", offsetof(struct mr_sim_link_faults, reorder), 1, false},
    {"mtu", offsetof(struct mr_sim_link_faults, mtu), 1, false},
};

static bool set_fault(const char *name, uint64_t value)
{
    for (size_t index = 0; index < sizeof options / sizeof options[0]; index++) {
        if (strcmp(name, options[index].name) != 0) {
            continue;
        }
        uint64_t wide = value * options[index].unit;
        uint32_t narrow = (uint32_t)wide;
        uint8_t *place = (uint8_t *)&faults + options[index].at;
        if (options[index].is_wide) {
            memcpy(place, &wide, sizeof wide);
        } else {
            memcpy(place, &narrow, sizeof narrow);
        }
        return true;
    }
    return false;
}

static void set_option(char *text)
{
    char *value = strchr(text, '=');
    if (value != NULL) {
        *value++ = '\0';
        uint64_t number = strtoull(value, NULL, 10);
        if (strcmp(text, "seed") == 0) {
            seed = number;
            return;
        }
        if (strcmp(text, "kbit_per_s") == 0) {
            kbit_per_s = number;
            return;
        }
        if (set_fault(text, number)) {
            return;
        }
    }
    errno = EINVAL;
    fail(text);
}

/* ---- frames ---- */

static void take_frame(uint32_t to, const uint8_t *frame, uint32_t len, uint64_t now_ns)
{
    bool is_tcp = mr_linkem_judge_is_tcp(frame, len);
    struct mr_sim_link_faults spared = {.delay_ns = faults.delay_ns};
    path.faults[to] = is_tcp ? faults : spared;
    uint64_t lost = path.lost;
    mr_sim_link_send(&path, now_ns, to, 0, frame, len, 0);
    mr_linkem_judge_frame(&judges[to], frame, len, path.lost > lost);
}

static void receive(uint32_t from)
{
    static uint8_t frame[FRAME_MAX];
    for (uint32_t count = 0; count < BURST; count++) {
        ssize_t len = read(ports[from], frame, sizeof frame);
        if (len <= 0) {
            return;
        }
        take_frame(1 - from, frame, (uint32_t)len, clock_ns());
    }
}

static void deliver(uint64_t now_ns)
{
    for (struct mr_sim_packet *packet; (packet = mr_sim_link_take(&path, now_ns)) != NULL;) {
        uint64_t late_ns = clock_ns() - packet->at_ns;
        late_max_ns = late_ns > late_max_ns ? late_ns : late_max_ns;
        late_count += late_ns > LATE_NS;
        delivered++;
        (void)!write(ports[packet->to], packet->bytes, packet->len); /* a full device is a lost frame */
        mr_sim_link_free(&path, packet);
    }
}

/* Until a frame comes or is due. False: standard input has ended. */
static bool wait(void)
{
    struct pollfd fds[3] = {{.fd = ports[0], .events = POLLIN}, {.fd = ports[1], .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    uint64_t at_ns = mr_sim_link_next_ns(&path);
    uint64_t now_ns = clock_ns();
    uint64_t wait_ns = at_ns == MR_NEVER ? 10 * MR_NS_PER_S : at_ns > now_ns ? at_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / MR_NS_PER_S), .tv_nsec = (long)(wait_ns % MR_NS_PER_S)};
    return ppoll(fds, 3, &timeout, NULL) < 0 || fds[2].revents == 0;
}

static void report(void)
{
    for (uint32_t to = 0; to < 2; to++) {
        const struct mr_linkem_judge *j = &judges[to];
        printf("to %u segments %llu bytes %llu again %llu needless %llu\n", to, (unsigned long long)j->segments,
               (unsigned long long)j->bytes, (unsigned long long)j->again, (unsigned long long)j->needless);
    }
    printf("frames %llu lost %llu delivered %llu late %llu late_max_us %llu\n", (unsigned long long)path.sent,
           (unsigned long long)path.lost, (unsigned long long)delivered, (unsigned long long)late_count,
           (unsigned long long)(late_max_ns / MR_NS_PER_US));
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "millrace-linkem PORT PORT [KEY=VALUE...]\n");
        return 2;
    }
    for (int index = 3; index < argc; index++) {
        set_option(argv[index]);
    }
    faults.bytes_per_s = kbit_per_s * 1000 / 8;
    mr_sim_link_init(&path, seed);
    ports[0] = open_port(argv[1]);
    ports[1] = open_port(argv[2]);
    (void)prctl(PR_SET_TIMERSLACK, 1);
    puts("ready");
    fflush(stdout);
    while (wait()) {
        receive(0);
        receive(1);
        deliver(clock_ns());
    }
    report();
    return 0;
}
