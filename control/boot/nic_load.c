#include "boot/nic_load.h"

#include "boot/shared_object.h"
#include "millrace/base/fmt.h"

bool mr_nic_load_is_wanted(const struct mr_config *config)
{
    return mr_str_equal(config->millrace_transport, MR_STR("dpdk"));
}

/* ---- Keys ---- */

static bool refuse(char *why, size_t why_size, const char *key, struct mr_str value, const char *expected)
{
    mr_fmt(why, why_size, "%s=%.*s: expected %s", key, value.len, value.data, expected);
    return false;
}

static bool take_text(const char *key, struct mr_str value, char *out, size_t out_size, char *why, size_t why_size)
{
    if (value.len < 0 || (size_t)value.len >= out_size) {
        return refuse(why, why_size, key, value, "less text");
    }
    mr_fmt(out, out_size, "%.*s", value.len, value.data);
    return true;
}

/* "10.0.0.2/24": an address with its network; the network alone is no address. */
static bool take_addresses(const char *key, struct mr_str list, struct mr_nic_address *out, uint32_t *count, char *why,
                           size_t why_size)
{
    struct mr_str item;
    int32_t at = 0;
    *count = 0;
    while (mr_str_list_next(list, &at, &item)) {
        struct mr_nic_address *address = &out[*count];
        if (*count == MR_NIC_ADDRESSES || memchr(item.data, '/', (size_t)item.len) == NULL ||
            !mr_network_parse(item, &address->network)) {
            return refuse(why, why_size, key, item, "at most 4 addresses with their networks, as 10.0.0.2/24");
        }
        address->address = address->network.address;
        (*count)++;
    }
    return true;
}

static bool take_gateways(struct mr_str list, struct mr_nic_params *params, char *why, size_t why_size)
{
    struct mr_str item;
    int32_t at = 0;
    while (mr_str_list_next(list, &at, &item)) {
        struct mr_address gateway;
        if (!mr_address_parse(item, &gateway)) {
            return refuse(why, why_size, "millrace.dpdk.gateways", item, "an address");
        }
        *(mr_address_is_ip4(&gateway) ? &params->gateway4 : &params->gateway6) = gateway;
    }
    return true;
}

/* "02:00:00:00:00:01", of one host. */
static bool take_mac(struct mr_str text, struct mr_nic_params *params, char *why, size_t why_size)
{
    const int32_t len = 17;
    bool is_good = text.len == len;
    for (int32_t at = 0; is_good && at < len; at++) {
        bool is_colon = at % 3 == 2;
        int digit = mr_address_hex(text.data[at]);
        is_good = is_colon ? text.data[at] == ':' : digit >= 0;
        if (is_good && !is_colon) {
            params->mac[at / 3] = (uint8_t)(params->mac[at / 3] << 4 | digit);
        }
    }
    params->has_mac = true;
    return (is_good && (params->mac[0] & 1) == 0) ||
           refuse(why, why_size, "millrace.dpdk.mac", text, "a station's address, as 02:00:00:00:00:01");
}

bool mr_nic_load_params(const struct mr_config *config, struct mr_nic_params *params, char *why, size_t why_size)
{
    *params = (struct mr_nic_params){.buffers = (uint32_t)config->millrace_dpdk_buffers,
                                     .mtu = (uint16_t)config->millrace_dpdk_mtu,
                                     .vlan = (uint16_t)config->millrace_dpdk_vlan};
    if (!take_text("millrace.dpdk.device", config->millrace_dpdk_device, params->device, sizeof params->device, why,
                   why_size) ||
        !take_text("millrace.dpdk.eal", config->millrace_dpdk_eal, params->eal, sizeof params->eal, why, why_size) ||
        !take_addresses("millrace.dpdk.addresses", config->millrace_dpdk_addresses, params->ours, &params->our_count,
                        why, why_size) ||
        !take_addresses("millrace.dpdk.host.addresses", config->millrace_dpdk_host_addresses, params->host,
                        &params->host_count, why, why_size) ||
        !take_gateways(config->millrace_dpdk_gateways, params, why, why_size)) {
        return false;
    }
    if (!mr_str_is_null(config->millrace_dpdk_mac) && !take_mac(config->millrace_dpdk_mac, params, why, why_size)) {
        return false;
    }
    if (params->our_count == 0) {
        return refuse(why, why_size, "millrace.dpdk.addresses", config->millrace_dpdk_addresses,
                      "the broker's address on the card, as 10.0.0.2/24");
    }
    return true;
}

/* ---- The shared object ---- */

bool mr_nic_load(const struct mr_nic_params *params, struct mr_nic **lanes, char *why, size_t why_size)
{
    static const char absent[] = "millrace.transport=dpdk: this build has no DPDK (no millrace-dpdk.so beside the program); "
                                 "install libdpdk-dev and build again, or use millrace.transport=uring";
    union {
        void *symbol;
        mr_nic_open_fn *open;
    } entry = {.symbol = mr_shared_object("millrace-dpdk.so", MR_NIC_OPEN_SYMBOL, absent, why, why_size)};
    return entry.symbol != NULL && entry.open(params, lanes, why, why_size);
}
