#include "boot/transports.h"

#include "boot/nic_load.h"

static struct mr_transport_uring_params uring_params(const struct mr_transports_ask *ask)
{
    return (struct mr_transport_uring_params){
        .wait = ask->wait,
        .log = ask->log,
        .arena = ask->arena,
        .listeners = ask->listeners,
        .listener_count = ask->listener_count,
        .is_port_shared = ask->plan->endpoints.data_count > 1,
        .connections_max = ask->plan->data.connections_max,
        .receive_bytes = ask->plan->data.receive_bytes,
        .socket_send_buffer_bytes = (int32_t)ask->config->socket_send_buffer_bytes,
        .socket_receive_buffer_bytes = (int32_t)ask->config->socket_receive_buffer_bytes,
        .listen_backlog = (int32_t)ask->config->socket_listen_backlog_size,
    };
}

static struct mr_transport_dpdk_params dpdk_params(const struct mr_transports_ask *ask)
{
    return (struct mr_transport_dpdk_params){
        .wait = ask->wait,
        .log = ask->log,
        .arena = ask->arena,
        .nic = ask->nic,
        .nic_params = ask->nic_params,
        .listeners = ask->listeners,
        .listener_count = ask->listener_count,
        .connections_max = ask->plan->data.connections_max,
        .receive_bytes = ask->plan->data.receive_bytes,
        .spin_ns = ask->plan->spin_ns,
        .secret = ask->secret,
    };
}

uint64_t mr_transports_bytes(const struct mr_config *config, const struct mr_plan *plan)
{
    const struct mr_nic_params card = {.buffers = (uint32_t)config->millrace_dpdk_buffers,
                                       .mtu = (uint16_t)config->millrace_dpdk_mtu};
    const struct mr_transports_ask ask = {.config = config, .plan = plan, .nic_params = &card};
    const struct mr_transport_uring_params uring = uring_params(&ask);
    const struct mr_transport_dpdk_params dpdk = dpdk_params(&ask);
    return mr_nic_load_is_wanted(config) ? mr_transport_dpdk_bytes(&dpdk) : mr_transport_uring_bytes(&uring);
}

struct mr_transport *mr_transports_make(const struct mr_transports_ask *ask)
{
    if (ask->nic != NULL) {
        const struct mr_transport_dpdk_params dpdk = dpdk_params(ask);
        return mr_transport_dpdk_init(&dpdk);
    }
    const struct mr_transport_uring_params uring = uring_params(ask);
    return mr_transport_uring_init(&uring);
}
