/*
 * nic_tap: what a TAP device needs beside DPDK's net_tap: permission, and a quiet driver.
 *
 * The driver asks the kernel for a realtime signal per frame, so that it need not look at an empty device. We wait for
 * its descriptor instead, and signals would end every other wait of the broker; it does without when none is free.
 */
#include "millrace/base/fmt.h"
#include "nic_dpdk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

void mr_nic_tap_hide_signals(bool is_hidden)
{
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++) {
        (void)signal(number, is_hidden ? SIG_IGN : SIG_DFL);
    }
}
