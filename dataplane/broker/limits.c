/*
 * limits: connections per address.
 */
#include "broker/limits.h"

#include "data_core.h"

struct peer {
    uint64_t hash;
    uint32_t count;
    uint32_t unproven;
};

size_t mr_limits_memory(uint32_t connections_max)
{
    return connections_max * (sizeof(struct peer) + 16 + 3 * sizeof(struct mr_map_slot)) + 8192;
}

/* "10.1.2.3" at the front of `text`; returns the characters used, 0 when it is none. */
static int32_t ip4_parse(struct mr_str text, uint32_t *address)
{
    uint32_t value = 0;
    int32_t at = 0;
    for (int part = 0; part < 4; part++) {
        uint32_t number = 0;
        int32_t start = at;
        while (at < text.len && at - start < 3 && text.data[at] >= '0' && text.data[at] <= '9') {
            number = number * 10 + (uint32_t)(text.data[at++] - '0');
        }
        if (at == start || number > 255) {
            return 0;
        }
        value = value << 8 | number;
        if (part < 3 && (at >= text.len || text.data[at++] != '.')) {
            return 0;
        }
    }
    *address = value;
    return at;
}

static void add_network(struct mr_data_core *core, struct mr_str text)
{
    struct mr_limits *limits = &core->limits;
    uint32_t address;
    uint32_t bits = 0;
    int32_t at = ip4_parse(text, &address);
    bool is_good = at > 0;
    if (is_good && at == text.len) {
        bits = 32;
    } else if (is_good && text.data[at] == '/') {
        int32_t start = ++at;
        while (at < text.len && at - start < 2 && text.data[at] >= '0' && text.data[at] <= '9') {
            bits = bits * 10 + (uint32_t)(text.data[at++] - '0');
        }
        is_good = at > start && at == text.len && bits <= 32;
    } else {
        is_good = false;
    }
    if (!is_good || limits->network_count == MR_LIMITS_NETWORKS) {
        mr_log(core->log, MR_LOG_WARN, "millrace.trusted.networks: ignored network=%.*s",
               (int)text.len, text.data);
        return;
    }
    uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    limits->networks[limits->network_count] = address & mask;
    limits->masks[limits->network_count++] = mask;
}

static uint32_t share(int64_t limit, uint32_t cores)
{
    int64_t part = limit / cores + (limit % cores != 0);
    return part > UINT32_MAX ? UINT32_MAX : (uint32_t)part;
}

void mr_limits_init(struct mr_data_core *core, struct mr_arena *arena)
{
    struct mr_limits *limits = &core->limits;
    uint32_t cores = core->endpoints->data_count;
    mr_map_init(&limits->peers, arena, core->plan.connections_max);
    mr_pool_init(&limits->pool, arena, sizeof(struct peer), core->plan.connections_max, 16);
    limits->key = (struct mr_hash_key){mr_prng_next(&core->prng), mr_prng_next(&core->prng)};
    limits->per_ip = share(core->config->max_connections_per_ip, cores);
    limits->unproven_per_ip = share(core->config->millrace_connections_unproven_per_ip, cores);
    limits->connections = share(core->config->max_connections, cores);
    struct mr_str list = core->config->millrace_trusted_networks;
    for (int32_t at = 0; at < list.len;) {
        int32_t end = at;
        while (end < list.len && list.data[end] != ',') {
            end++;
        }
        struct mr_str one = {.data = list.data + at, .len = end - at};
        while (one.len > 0 && one.data[0] == ' ') {
            one.data++;
            one.len--;
        }
        while (one.len > 0 && one.data[one.len - 1] == ' ') {
            one.len--;
        }
        if (one.len > 0) {
            add_network(core, one);
        }
        at = end + 1;
    }
}

static bool is_exempt(const struct mr_limits *limits, const struct mr_conn *conn)
{
    uint32_t address;
    struct mr_str peer = mr_str(conn->peer);
    if (conn->is_loopback) {
        return true;
    }
    if (ip4_parse(peer, &address) != peer.len) {
        return false;
    }
    for (uint32_t index = 0; index < limits->network_count; index++) {
        if ((address & limits->masks[index]) == limits->networks[index]) {
            return true;
        }
    }
    return false;
}

const char *mr_limits_open(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    struct mr_limits *limits = &core->limits;
    if (core->stats.connections > limits->connections) {
        return "max.connections";
    }
    if (is_exempt(limits, session->conn)) {
        return NULL;
    }
    uint64_t hash = mr_hash_str(&limits->key, mr_str(session->conn->peer));
    struct peer *peer = mr_map_find(&limits->peers, hash);
    if (peer != NULL && peer->count >= limits->per_ip) {
        return "max.connections.per.ip";
    }
    if (peer != NULL && peer->unproven >= limits->unproven_per_ip) {
        return "millrace.connections.unproven.per.ip";
    }
    if (peer == NULL) {
        if (limits->per_ip == 0) {
            return "max.connections.per.ip";
        }
        peer = mr_pool_get(&limits->pool);
        mr_assert(peer != NULL);
        *peer = (struct peer){.hash = hash};
        bool is_added = mr_map_add(&limits->peers, hash, peer);
        mr_assert(is_added);
    }
    peer->count++;
    peer->unproven++;
    session->peer_count = peer;
    return NULL;
}

void mr_limits_proven(struct mr_session *session)
{
    struct peer *peer = session->peer_count;
    if (!session->is_proven && peer != NULL) {
        peer->unproven--;
    }
    session->is_proven = true;
}

void mr_limits_closed(struct mr_session *session)
{
    struct mr_limits *limits = &session->core->limits;
    struct peer *peer = session->peer_count;
    if (peer == NULL) {
        return;
    }
    mr_limits_proven(session);
    session->peer_count = NULL;
    if (--peer->count == 0) {
        mr_map_remove(&limits->peers, peer->hash);
        mr_pool_put(&limits->pool, peer);
    }
}
