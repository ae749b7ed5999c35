/*
 * nic_tap: what a TAP device needs beside DPDK's net_tap: permission, a quiet driver, and addresses for the kernel's end.
 *
 * The driver asks the kernel for a realtime signal per frame, so that it need not look at an empty device. We wait for
 * its descriptor instead, and signals would end every other wait of the broker; it does without when none is free.
 *
 * The device goes with its last descriptor, so nothing is left to be removed, whatever ends the process.
 */
#include "millrace/base/fmt.h"
#include "nic_dpdk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VACANT_TRIES 200 /* ten milliseconds apart */

/* linux/ipv6.h, which does not go together with netinet/in.h. */
struct host_ip6 {
    struct in6_addr address;
    uint32_t bits;
    int if_index;
};

bool mr_nic_tap_permitted(char *why, size_t why_size)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
    int file = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    bool is_good = file >= 0 && ioctl(file, TUNSETIFF, &request) == 0;
    if (!is_good) {
        mr_fmt(why, why_size, "a TAP device needs root (CAP_NET_ADMIN) and /dev/net/tun: %s", strerror(errno));
    }
    if (file >= 0) {
        close(file);
    }
    return is_good;
}

/*
 * A process that was killed leaves its descriptors to its io_uring, which the kernel takes apart a moment after the
 * process is gone; until then its device would take us for one more of its queues. Nobody is connected yet.
 */
bool mr_nic_tap_vacant(const char *device, char *why, size_t why_size)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    char name[IF_NAMESIZE] = "";
    const char *at = strstr(device, "iface=");
    if (at != NULL) {
        mr_fmt(name, sizeof name, "%.*s", (int)strcspn(at + 6, ","), at + 6);
    }
    for (int tries = 0; name[0] != '\0' && if_nametoindex(name) != 0; tries++) {
        if (tries == VACANT_TRIES) {
            mr_fmt(why, why_size, "the device %s exists already: another broker's? (millrace.dpdk.device)", name);
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

void mr_nic_tap_hide_signals(bool is_hidden)
{
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++) {
        (void)signal(number, is_hidden ? SIG_IGN : SIG_DFL);
    }
}

static bool add_ip4(int socket4, const char *name, const struct mr_nic_address *host)
{
    struct ifreq request = {0};
    struct sockaddr_in in = {.sin_family = AF_INET};
    uint32_t bits = host->network.bits - MR_ADDRESS_IP4_BITS;
    memcpy(request.ifr_name, name, sizeof request.ifr_name);
    memcpy(&in.sin_addr, host->address.bytes + 12, 4);
    memcpy(&request.ifr_addr, &in, sizeof in);
    if (ioctl(socket4, SIOCSIFADDR, &request) != 0) {
        return false;
    }
    in.sin_addr.s_addr = bits == 0 ? 0 : htonl(~0u << (32 - bits));
    memcpy(&request.ifr_netmask, &in, sizeof in);
    return ioctl(socket4, SIOCSIFNETMASK, &request) == 0;
}

static bool add_ip6(unsigned if_index, const struct mr_nic_address *host)
{
    struct host_ip6 request = {.bits = host->network.bits, .if_index = (int)if_index};
    memcpy(&request.address, host->address.bytes, sizeof request.address);
    int socket6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_good = socket6 >= 0 && ioctl(socket6, SIOCSIFADDR, &request) == 0;
    int kept = errno;
    if (socket6 >= 0) {
        close(socket6);
    }
    errno = kept;
    return is_good;
}

bool mr_nic_tap_host(unsigned if_index, const struct mr_nic_params *params, char *why, size_t why_size)
{
    char name[IF_NAMESIZE] = "";
    bool is_good = if_indextoname(if_index, name) != NULL;
    int socket4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (uint32_t index = 0; is_good && index < params->host_count; index++) {
        const struct mr_nic_address *host = &params->host[index];
        is_good = mr_address_is_ip4(&host->address) ? add_ip4(socket4, name, host) : add_ip6(if_index, host);
    }
    if (!is_good) {
        mr_fmt(why, why_size, "the kernel's end %s gets no address (millrace.dpdk.host.addresses): %s", name,
               strerror(errno));
    }
    if (socket4 >= 0) {
        close(socket4);
    }
    return is_good;
}
