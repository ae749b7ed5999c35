/*
 * nic_veth: a pair of virtual devices for AF_XDP, where there is no card.
 *
 *   clients - kernel - [ NAME | namespace of the broker ]====[ NAME | namespace without a name ] - AF_XDP - us
 *
 * Our end lies in a network namespace that only the sockets of AF_XDP hold. It goes with the process, however that ends,
 * and both devices with it; nobody else sees our end or sends through it. The main thread is in that namespace while the
 * device is opened: between make() and leave().
 */
#include "nic_veth.h"

#include "millrace/base/fmt.h"
#include "nic_host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_xdp.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_BYTES 512u

static int home = -1; /* the broker's namespace */

/* ---- netlink (rtnetlink(7)) ---- */

struct message {
    struct nlmsghdr header; /* first */
    uint8_t rest[MESSAGE_BYTES];
};

static void *grow(struct message *m, uint32_t len)
{
    void *at = (uint8_t *)m + NLMSG_ALIGN(m->header.nlmsg_len);
    m->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->header.nlmsg_len) + len);
    return at;
}

static struct rtattr *put(struct message *m, uint16_t type, const void *value, uint32_t len)
{
    struct rtattr *attribute = grow(m, (uint32_t)RTA_LENGTH(len));
    *attribute = (struct rtattr){.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(len)};
    if (len > 0) {
        memcpy(RTA_DATA(attribute), value, len);
    }
    return attribute;
}

/* What was put behind it is its value. */
static void wrap(struct message *m, struct rtattr *attribute)
{
    attribute->rta_len = (uint16_t)((uint8_t *)m + NLMSG_ALIGN(m->header.nlmsg_len) - (uint8_t *)attribute);
}

/* Send it, and wait for the kernel's verdict: 0 or -1 with errno. */
static int exchange(const struct message *m)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr verdict;
        uint8_t rest[MESSAGE_BYTES];
    } answer = {.header = {.nlmsg_len = 0}};
    int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (link < 0 || send(link, m, m->header.nlmsg_len, 0) < 0 || recv(link, &answer, sizeof answer, 0) < 0) {
        answer.verdict.error = -errno;
    }
    if (link >= 0) {
        close(link);
    }
    errno = -answer.verdict.error;
    return answer.verdict.error == 0 ? 0 : -1;
}

static void put_device(struct message *m, const char *name, uint32_t mtu, uint32_t queues)
{
    put(m, IFLA_IFNAME, name, (uint32_t)strlen(name) + 1);
    put(m, IFLA_MTU, &mtu, sizeof mtu);
    put(m, IFLA_NUM_TX_QUEUES, &queues, sizeof queues);
    put(m, IFLA_NUM_RX_QUEUES, &queues, sizeof queues);
}

static int add_pair(const char *name, uint32_t mtu, uint32_t queues)
{
    struct message m = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                                   .nlmsg_type = RTM_NEWLINK,
                                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK}};
    put_device(&m, name, mtu, queues);
    struct rtattr *info = put(&m, IFLA_LINKINFO, NULL, 0);
    put(&m, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = put(&m, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *peer = put(&m, VETH_INFO_PEER, NULL, 0);
    memset(grow(&m, sizeof(struct ifinfomsg)), 0, sizeof(struct ifinfomsg));
    put_device(&m, name, mtu, queues);
    put(&m, IFLA_NET_NS_FD, &home, sizeof home);
    wrap(&m, peer);
    wrap(&m, data);
    wrap(&m, info);
    return exchange(&m);
}

/* ---- */

/* The kernel of our namespace has nothing to say on our end. */
static void hush(void)
{
    int file = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)!write(file, "1", 1);
        close(file);
    }
}

static bool ready_host(const char *name, const struct mr_nic_params *params, char *why, size_t why_size)
{
    if (!mr_nic_host_checksums(name) || !mr_nic_host_up(name)) {
        mr_fmt(why, why_size, "the kernel's end %s cannot be used: %s", name, strerror(errno));
        return false;
    }
    return mr_nic_host_addresses(name, params, why, why_size);
}

bool mr_nic_veth_make(const struct mr_nic_params *params, uint32_t queues, char *why, size_t why_size)
{
    char name[IF_NAMESIZE];
    mr_nic_host_name(params->device, name);
    if (!mr_nic_host_vacant(name, why, why_size)) {
        return false;
    }
    /* libxdp would put a dispatcher in front, and pin it where it outlives us. */
    (void)setenv("LIBXDP_SKIP_DISPATCHER", "1", 1);
    home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || unshare(CLONE_NEWNET) != 0) {
        mr_fmt(why, why_size, "a pair of devices for AF_XDP needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN): %s",
               strerror(errno));
        return false;
    }
    hush();
    if (add_pair(name, params->mtu, queues) != 0 || !mr_nic_host_up(name)) {
        mr_fmt(why, why_size, "no pair of devices %s can be made for AF_XDP: %s", name, strerror(errno));
        mr_nic_veth_leave();
        return false;
    }
    const int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    bool is_good = setns(home, CLONE_NEWNET) == 0 && ready_host(name, params, why, why_size) &&
                   setns(ours, CLONE_NEWNET) == 0;
    close(ours);
    return is_good;
}

void mr_nic_veth_leave(void)
{
    if (home >= 0) {
        (void)setns(home, CLONE_NEWNET);
        close(home);
        home = -1;
    }
}

/* Nothing of them is linked here, and they are not always there. */
void mr_nic_veth_quiet(void)
{
    static const char *const names[][2] = {{"libbpf.so.1", "libbpf_set_print"}, {"libxdp.so.1", "libxdp_set_print"}};
    for (size_t index = 0; index < sizeof names / sizeof names[0]; index++) {
        void *library = dlopen(names[index][0], RTLD_NOW | RTLD_NOLOAD);
        union {
            void *symbol;
            void *(*set_print)(void *print);
        } entry = {.symbol = library == NULL ? NULL : dlsym(library, names[index][1])};
        if (entry.symbol != NULL) {
            (void)entry.set_print(NULL);
        }
    }
}

/* The driver keeps them to itself: they are found by what they are, in the order in which the queues were set up. */
int mr_nic_veth_socket(uint32_t queue)
{
    const int limit = 4096; /* a process that starts has few descriptors */
    for (int file = 0; file < limit; file++) {
        int domain = 0;
        socklen_t len = sizeof domain;
        if (getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP && queue-- == 0) {
            return file;
        }
    }
    return -1;
}
