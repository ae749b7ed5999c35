/*
 * nic_host: the kernel's end of a virtual device. Thread: main; in the namespace that the thread is in.
 */
#ifndef MILLRACE_NIC_HOST_H
#define MILLRACE_NIC_HOST_H

#include "millrace/net/nic.h"

#include <net/if.h>

/* What the device's arguments say behind "iface="; "": nothing. */
void mr_nic_host_name(const char *device, char out[IF_NAMESIZE]);
/* Whether nobody else has a device of this name. False: `why`. */
bool mr_nic_host_vacant(const char *name, char *why, size_t why_size);
/* Give it the addresses that the configuration has for it. False: `why`. */
bool mr_nic_host_addresses(const char *name, const struct mr_nic_params *params, char *why, size_t why_size);
/* False: errno says why. */
bool mr_nic_host_up(const char *name);
/* The kernel completes the checksums of what it sends itself: there is no card behind it that would. */
bool mr_nic_host_checksums(const char *name);

#endif
