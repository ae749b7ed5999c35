/*
 * nic_host: the kernel's end of a virtual device, TAP or veth, in the namespace of the broker's clients.
 *
 * The device goes with the process, so nothing is left to be removed, whatever ends it.
 */
#include "nic_host.h"

#include "millrace/base/fmt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
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

void mr_nic_host_name(const char *device, char out[IF_NAMESIZE])
{
    const char *at = strstr(device, "iface=");
    mr_fmt(out, IF_NAMESIZE, "%.*s", at == NULL ? 0 : (int)strcspn(at + 6, ","), at == NULL ? "" : at + 6);
}

/*
 * A process that was killed leaves its descriptors to its io_uring, which the kernel takes apart a moment after the
 * process is gone; until then its device would take us for one more of its queues. Nobody is connected yet.
 */
bool mr_nic_host_vacant(const char *name, char *why, size_t why_size)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int tries = 0; name[0] != '\0' && if_nametoindex(name) != 0; tries++) {
        if (tries == VACANT_TRIES) {
            mr_fmt(why, why_size, "the device %s exists already: another broker's? (millrace.dpdk.device)", name);
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

/* ---- one ioctl each; false: errno ---- */

static bool ask(int family, unsigned long what, void *request)
{
    int control = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_good = control >= 0 && ioctl(control, what, request) == 0;
    int kept = errno;
    if (control >= 0) {
        close(control);
    }
    errno = kept;
    return is_good;
}

static struct ifreq request_for(const char *name)
{
    struct ifreq request = {0};
    mr_fmt(request.ifr_name, sizeof request.ifr_name, "%s", name);
    return request;
}

static bool add_ip4(const char *name, const struct mr_nic_address *host)
{
    struct ifreq request = request_for(name);
    struct sockaddr_in in = {.sin_family = AF_INET};
    uint32_t bits = host->network.bits - MR_ADDRESS_IP4_BITS;
    memcpy(&in.sin_addr, host->address.bytes + 12, 4);
    memcpy(&request.ifr_addr, &in, sizeof in);
    if (!ask(AF_INET, SIOCSIFADDR, &request)) {
        return false;
    }
    in.sin_addr.s_addr = bits == 0 ? 0 : htonl(~0u << (32 - bits));
    memcpy(&request.ifr_netmask, &in, sizeof in);
    return ask(AF_INET, SIOCSIFNETMASK, &request);
}

static bool add_ip6(const char *name, const struct mr_nic_address *host)
{
    struct host_ip6 request = {.bits = host->network.bits, .if_index = (int)if_nametoindex(name)};
    memcpy(&request.address, host->address.bytes, sizeof request.address);
    return ask(AF_INET6, SIOCSIFADDR, &request);
}

bool mr_nic_host_addresses(const char *name, const struct mr_nic_params *params, char *why, size_t why_size)
{
    bool is_good = true;
    for (uint32_t index = 0; is_good && index < params->host_count; index++) {
        const struct mr_nic_address *host = &params->host[index];
        is_good = mr_address_is_ip4(&host->address) ? add_ip4(name, host) : add_ip6(name, host);
    }
    if (!is_good) {
        mr_fmt(why, why_size, "the kernel's end %s gets no address (millrace.dpdk.host.addresses): %s", name,
               strerror(errno));
    }
    return is_good;
}

bool mr_nic_host_up(const char *name)
{
    struct ifreq request = request_for(name);
    if (!ask(AF_INET, SIOCGIFFLAGS, &request)) {
        return false;
    }
    request.ifr_flags |= IFF_UP;
    return ask(AF_INET, SIOCSIFFLAGS, &request);
}

bool mr_nic_host_checksums(const char *name)
{
    struct ethtool_value off = {.cmd = ETHTOOL_STXCSUM, .data = 0};
    struct ifreq request = request_for(name);
    request.ifr_data = (void *)&off;
    return ask(AF_INET, SIOCETHTOOL, &request);
}
