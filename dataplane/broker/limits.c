/*
 * limits: connections in all, per address and per second.
 */
#include "broker/limits.h"

#include "data_core.h"

/* A connection without traffic for so long may be closed to make room for a new one. */
#define IDLE_ENOUGH_MS 10000
#define LOOK_AT_MAX    64u

struct peer {
    uint64_t hash;
    uint32_t count;
    uint32_t unproven;
};

size_t mr_limits_memory(uint32_t connections_max)
{
    return connections_max * (sizeof(struct peer) + 16 + 3 * sizeof(struct mr_map_slot)) + 8192;
}

static uint32_t share(int64_t limit, uint32_t cores)
{
    int64_t part = limit / cores + (limit % cores != 0);
    return part > UINT32_MAX ? UINT32_MAX : (uint32_t)part;
}

static void add_networks(struct mr_data_core *core, struct mr_str list)
{
    struct mr_limits *limits = &core->limits;
    struct mr_str item;
    for (int32_t at = 0; mr_str_list_next(list, &at, &item);) {
        struct mr_network *to = &limits->networks[limits->network_count];
        if (limits->network_count == MR_LIMITS_NETWORKS || !mr_network_parse(item, to)) {
            mr_log(core->log, MR_LOG_WARN, "millrace.trusted.networks: ignored network=%.*s",
                   (int)item.len, item.data);
            continue;
        }
        limits->network_count++;
    }
}

static void add_overrides(struct mr_data_core *core, struct mr_str list)
{
    struct mr_limits *limits = &core->limits;
    struct mr_str item;
    for (int32_t at = 0; mr_str_list_next(list, &at, &item);) {
        struct mr_limits_override *to = &limits->overrides[limits->override_count];
        if (limits->override_count == MR_LIMITS_OVERRIDES ||
            !mr_address_limit_parse(item, &to->address, &to->per_ip)) {
            mr_log(core->log, MR_LOG_WARN, "max.connections.per.ip.overrides: ignored value=%.*s",
                   (int)item.len, item.data);
            continue;
        }
        to->per_ip = share(to->per_ip, core->endpoints->data_count);
        limits->override_count++;
    }
}

static uint64_t hash_of(const struct mr_limits *limits, const struct mr_image_limits *told)
{
    int64_t numbers[] = {told->connections, told->per_ip, told->rate};
    return mr_hash_bytes(&limits->key, numbers, sizeof numbers) ^
           mr_hash_str(&limits->key, told->overrides);
}

static void set(struct mr_data_core *core, const struct mr_image_limits *now)
{
    struct mr_limits *limits = &core->limits;
    uint32_t cores = core->endpoints->data_count;
    limits->per_ip = share(now->per_ip, cores);
    limits->connections = share(now->connections, cores);
    limits->is_closed = now->rate == 0;
    limits->open_every_ns =
        now->rate > 0 && now->rate < INT32_MAX ? MR_NS_PER_S * cores / (uint64_t)now->rate : 0;
    limits->told = hash_of(limits, now);
    limits->override_count = 0;
    add_overrides(core, now->overrides);
}

void mr_limits_follow(struct mr_data_core *core)
{
    const struct mr_image_limits *now = core->image->limits;
    if (now != NULL && hash_of(&core->limits, now) != core->limits.told) {
        set(core, now);
    }
}

void mr_limits_init(struct mr_data_core *core, struct mr_arena *arena)
{
    struct mr_limits *limits = &core->limits;
    const struct mr_config *config = core->config;
    mr_map_init(&limits->peers, arena, core->plan.connections_max);
    mr_pool_init(&limits->pool, arena, sizeof(struct peer), core->plan.connections_max, 16);
    limits->key = (struct mr_hash_key){mr_prng_next(&core->prng), mr_prng_next(&core->prng)};
    limits->unproven_per_ip =
        share(config->millrace_connections_unproven_per_ip, core->endpoints->data_count);
    add_networks(core, config->millrace_trusted_networks);
    set(core, &(struct mr_image_limits){.connections = config->max_connections,
                                        .per_ip = config->max_connections_per_ip,
                                        .rate = config->max_connection_creation_rate,
                                        .overrides = config->max_connections_per_ip_overrides});
}

/*
 *   address is          named by an override   the limit per address
 *   any                 yes                    the override's
 *   loopback, trusted   no                     none (UINT32_MAX)
 *   any other           no                     max.connections.per.ip
 */
static uint32_t limit_of(const struct mr_limits *limits, const struct mr_conn *conn,
                         bool *is_trusted)
{
    struct mr_address address;
    bool is_numeric = mr_address_parse(mr_str(conn->peer), &address);
    *is_trusted = conn->is_loopback;
    for (uint32_t index = 0; is_numeric && index < limits->network_count; index++) {
        *is_trusted |= mr_network_has(&limits->networks[index], &address);
    }
    for (uint32_t index = 0; is_numeric && index < limits->override_count; index++) {
        if (mr_address_equal(&limits->overrides[index].address, &address)) {
            return limits->overrides[index].per_ip;
        }
    }
    return *is_trusted ? UINT32_MAX : limits->per_ip;
}

/* Nothing asked, nothing on its way, and that for a while. */
static bool is_idle(const struct mr_session *session)
{
    return !session->is_closing && mr_list_is_empty(&session->requests) &&
           mr_list_is_empty(&session->sending) && session->inbox_bytes == 0 &&
           session->core->now.mono_ns - session->active_ns >= IDLE_ENOUGH_MS * MR_NS_PER_MS;
}

/* There is one more than may be: one that nobody uses makes room, if it is among the least recently active
 * ones. It counts until it is closed, which is soon. */
static bool make_room(struct mr_data_core *core)
{
    uint32_t looked_at = 0;
    if (core->stats.connections - core->closing_count <= core->limits.connections) {
        return true;
    }
    MR_LIST_EACH(link, &core->session_list)
    {
        struct mr_session *session = MR_LIST_ENTRY(link, struct mr_session, link);
        if (is_idle(session)) {
            mr_session_close(session, MR_OK);
            return true;
        }
        if (++looked_at == LOOK_AT_MAX) {
            break;
        }
    }
    return false;
}

const char *mr_limits_open(struct mr_session *session)
{
    struct mr_data_core *core = session->core;
    struct mr_limits *limits = &core->limits;
    if (limits->is_closed) {
        return "max.connection.creation.rate";
    }
    if (core->stats.connections > limits->connections && !make_room(core)) {
        return "max.connections";
    }
    bool is_trusted;
    uint32_t per_ip = limit_of(limits, session->conn, &is_trusted);
    if (per_ip == UINT32_MAX) {
        return NULL;
    }
    uint64_t hash = mr_hash_str(&limits->key, mr_str(session->conn->peer));
    struct peer *peer = mr_map_find(&limits->peers, hash);
    if (per_ip == 0 || (peer != NULL && peer->count >= per_ip)) {
        return "max.connections.per.ip";
    }
    if (!is_trusted && peer != NULL && peer->unproven >= limits->unproven_per_ip) {
        return "millrace.connections.unproven.per.ip";
    }
    if (peer == NULL) {
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

/* A second's worth may come at once, as Kafka measures the rate over seconds. */
uint64_t mr_limits_open_ns(struct mr_data_core *core)
{
    struct mr_limits *limits = &core->limits;
    uint64_t now_ns = core->now.mono_ns;
    if (limits->open_every_ns == 0) {
        return now_ns;
    }
    uint64_t least_ns = now_ns > MR_NS_PER_S ? now_ns - MR_NS_PER_S : 0;
    uint64_t due_ns = limits->open_next_ns > least_ns ? limits->open_next_ns : least_ns;
    limits->open_next_ns = due_ns + limits->open_every_ns;
    return due_ns > now_ns ? due_ns : now_ns;
}
