#include "sim_broker.h"

#include "config_table.h"
#include "sim_idle.h"

#include <stdio.h>
#include <sys/mman.h>

#define RING_SLOTS  64u
#define SPILL_SLOTS 8192u

void mr_sim_site_set(struct mr_sim_site *site, enum mr_config_id id, const char *text)
{
    struct mr_config_value value;
    enum mr_err err = mr_config_parse(&mr_config_rows[id].key, mr_str(text), &value);
    mr_assert(err == MR_OK);
    mr_config_set(&site->config, id, &value);
    mr_config_derive(&site->config);
}

void mr_sim_site_init(struct mr_sim_site *site)
{
    *site = (struct mr_sim_site){.is_verbose = false};
    mr_config_defaults(&site->config);
    mr_sim_site_set(site, MR_CONFIG_log_dirs, MR_SIM_LOG_DIR);
    mr_sim_site_set(site, MR_CONFIG_log_segment_bytes, "1048576"); /* the least that is accepted */
    mr_sim_site_set(site, MR_CONFIG_offsets_topic_num_partitions, "3");
    mr_sim_site_set(site, MR_CONFIG_transaction_state_log_num_partitions, "2");
    mr_sim_site_set(site, MR_CONFIG_transaction_abort_timed_out_transaction_cleanup_interval_ms,
                    "1000"); /* MR_SIM_TXN_SCAN_MS */
    mr_sim_site_set(site, MR_CONFIG_group_initial_rebalance_delay_ms, "0");
    mr_sim_site_set(site, MR_CONFIG_group_min_session_timeout_ms, "100");
    mr_sim_site_set(site, MR_CONFIG_group_consumer_session_timeout_ms, "400"); /* MR_SIM_SESSION_MS */
    mr_sim_site_set(site, MR_CONFIG_group_consumer_assignment_interval_ms, "50");
    mr_sim_site_set(site, MR_CONFIG_metadata_log_max_record_bytes_between_snapshots, "3000");
    site->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    site->data_plan = (struct mr_data_plan){
        .connections_max = 32,
        .requests_max = 64,
        .request_scratch_bytes = 1u << 20,
        .receive_bytes = 16u << 20,
        .fetch_sessions_max = 16,
        .fetch_partitions_max = 256,
        .frame_bytes_max = 4u << 20,
    };
    site->storage_plan = (struct mr_storage_plan){
        .logs_max = 128,
        .cache_bytes = 16u << 20,
        .cold_bytes = 4u << 20,
        .journal_file_bytes = 1u << 20,
        .journal_files_max = 4,
        .producers_max = 256,
        .disk_reserve_bytes = MR_SIM_RESERVE_BYTES,
        .segments_max = 2048,
        .retention_check_ms = 2000,
        .first_check_ms = 30000,
        .producer_check_ms = 600000,
        .clean_map_bytes = 1536, /* fewer keys than a topic has */
        .clean_load = 0.9,
        .clean_io_bytes = 2u << 20,
        .clean_backoff_ms = 60,
        .scrub_bytes_per_s = 8u << 20,
        .scrub_interval_ms = 5000,
    };
    site->control_plan = (struct mr_control_plan){.heap_bytes = 32u << 20, .timers_max = 4096};
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mr_assert(memory != MAP_FAILED);
    return memory;
}

static void connect_ports(struct mr_sim_broker *broker)
{
    for (uint32_t index = 0; index < broker->threads; index++) {
        broker->ports[index] = mr_arena_get(&broker->arena, sizeof(struct mr_port), 64);
        broker->ports[index]->self = index;
        broker->ports[index]->endpoint_count = broker->threads;
    }
    for (uint32_t from = 0; from < broker->threads; from++) {
        for (uint32_t to = 0; to < broker->threads; to++) {
            if (from != to) {
                mr_port_connect(broker->ports[from], broker->ports[to], &broker->arena, RING_SLOTS,
                                SPILL_SLOTS);
            }
        }
    }
}

static void make_data(struct mr_sim_broker *broker, struct mr_prng *prng)
{
    const struct mr_sim_site   *site = broker->site;
    const struct mr_data_params params = {
        .plan = &site->data_plan,
        .config = &site->config,
        .endpoints = &site->endpoints,
        .port = broker->ports[mr_endpoint_data(&site->endpoints, 0)],
        .transport = mr_sim_net_transport(broker->net),
        .log = &broker->log,
        .arena = &broker->arena,
        .seed = mr_prng_next(prng),
    };
    broker->data = mr_data_core_init(&params);
}

static void make_storage(struct mr_sim_broker *broker, uint32_t core, struct mr_prng *prng)
{
    const struct mr_sim_site      *site = broker->site;
    const struct mr_storage_params params = {
        .plan = &site->storage_plan,
        .endpoints = &site->endpoints,
        .core = core,
        .port = broker->ports[mr_endpoint_storage(&site->endpoints, core)],
        .disk = broker->storage_disks[core],
        .log = &broker->log,
        .arena = &broker->storage_arenas[core],
        .log_dir = MR_SIM_LOG_DIR,
        .node_id = (int32_t)site->config.node_id,
        .seed = mr_prng_next(prng),
        .stop_hurry = &broker->stop_hurry,
    };
    broker->storage[core] = mr_storage_core_init(&params);
}

static void make_control(struct mr_sim_broker *broker, struct mr_prng *prng)
{
    const struct mr_sim_site *site = broker->site;
    struct mr_control_params params = {
         .plan = &site->control_plan,
         .config = &site->config,
         .endpoints = &site->endpoints,
         .port = broker->ports[mr_endpoint_control(&site->endpoints)],
         .disk = broker->control_disk,
         .log = &broker->log,
         .arena = &broker->arena,
         .log_dir = MR_SIM_LOG_DIR,
         .cluster_id = MR_STR(MR_SIM_CLUSTER_ID),
         .seed = mr_prng_next(prng),
    };
    params.directory_id.bytes[6] = 0x40;
    params.directory_id.bytes[8] = 0x80;
    params.directory_id.bytes[15] = 1;
    for (uint32_t index = 0; index < sizeof params.random; index++) {
        params.random[index] = (uint8_t)mr_prng_next(prng);
    }
    broker->control = mr_control_init(&params);
}

bool mr_sim_broker_start(struct mr_sim_broker *broker, const struct mr_sim_site *site, struct mr_sim_fs *fs,
                         struct mr_prng *prng)
{
    uint32_t cores = site->endpoints.storage_count;
    mr_assert(broker->memory == NULL && cores <= MR_SIM_STORAGE_MAX && site->endpoints.data_count == 1);
    *broker = (struct mr_sim_broker){.site = site, .fs = fs, .threads = mr_endpoint_count(&site->endpoints)};
    broker->bytes = mr_data_core_bytes(&site->data_plan) + cores * mr_storage_core_bytes(&site->storage_plan) +
                    mr_control_bytes(&site->control_plan) +
                    (size_t)broker->threads * broker->threads * (SPILL_SLOTS + RING_SLOTS) * 64 + (4u << 20);
    broker->memory = map(broker->bytes);
    size_t   storage_bytes = mr_storage_core_bytes(&site->storage_plan);
    uint8_t *at = broker->memory;
    for (uint32_t core = 0; core < cores; core++) {
        mr_arena_init(&broker->storage_arenas[core], at, storage_bytes);
        at += storage_bytes;
    }
    mr_arena_init(&broker->arena, at, broker->bytes - cores * storage_bytes);
    mr_log_init(&broker->log, &broker->arena, 256, "sim");
    connect_ports(broker);
    broker->net = mr_sim_net_create(mr_prng_next(prng));
    broker->control_disk = mr_sim_disk_create(fs);
    make_data(broker, prng);
    bool is_whole = broker->data != NULL;
    for (uint32_t core = 0; core < cores; core++) {
        broker->storage_disks[core] = mr_sim_disk_create(fs);
        make_storage(broker, core, prng);
        is_whole &= broker->storage[core] != NULL;
    }
    make_control(broker, prng);
    return is_whole && broker->control != NULL;
}

void mr_sim_broker_end(struct mr_sim_broker *broker, struct mr_now now)
{
    mr_sim_broker_log(broker, now);
    for (uint32_t core = 0; core < broker->site->endpoints.storage_count; core++) {
        mr_sim_disk_destroy(broker->storage_disks[core]);
    }
    mr_sim_disk_destroy(broker->control_disk);
    mr_sim_net_destroy(broker->net);
    munmap(broker->memory, broker->bytes);
    broker->memory = NULL;
}

void mr_sim_clock_to(struct mr_now *now, uint64_t mono_ns)
{
    now->unix_ms += (int64_t)(mono_ns / MR_NS_PER_MS - now->mono_ns / MR_NS_PER_MS);
    now->mono_ns = mono_ns;
}

static uint64_t requests_of(const struct mr_sim_broker *broker)
{
    struct mr_data_stats stats;
    mr_data_core_stats(broker->data, &stats);
    return stats.requests;
}

static void most(uint64_t *max, uint64_t value)
{
    *max = value > *max ? value : *max;
}

/* What the thread is, is the caller's to know. */
static bool run_turn(struct mr_sim_broker *broker, uint32_t who, struct mr_now now)
{
    const struct mr_endpoints *endpoints = &broker->site->endpoints;
    if (who == mr_endpoint_data(endpoints, 0)) {
        return mr_data_core_turn(broker->data, now);
    }
    if (who == mr_endpoint_control(endpoints)) {
        return mr_control_turn(broker->control, now);
    }
    return mr_storage_core_turn(broker->storage[who - mr_endpoint_storage(endpoints, 0)], now);
}

bool mr_sim_broker_turn(struct mr_sim_broker *broker, uint32_t who, struct mr_now *now)
{
    const struct mr_endpoints *endpoints = &broker->site->endpoints;
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    uint64_t ops_before = mr_sim_fs_op_count(broker->fs);
    uint64_t requests_before = requests_of(broker);
    broker->log.unix_ms = now->unix_ms;
    bool is_busy = run_turn(broker, who, *now);
    (void)mr_port_flush(broker->ports[who], woken);
    if (mr_control_state(broker->control) == MR_CONTROL_SERVING) {
        uint64_t ops = mr_sim_fs_op_count(broker->fs) - ops_before;
        most(who == mr_endpoint_control(endpoints) ? &broker->work.control_ops : &broker->work.storage_ops, ops);
        most(&broker->work.control_bytes, mr_sim_idle_control_work(broker->control));
        most(&broker->work.data_requests, requests_of(broker) - requests_before);
    }
    /* What blocked on the disk has taken its time. */
    uint64_t clock_ns = mr_sim_fs_clock(broker->fs);
    if (clock_ns > now->mono_ns) {
        mr_sim_clock_to(now, clock_ns);
    }
    return is_busy;
}

uint64_t mr_sim_broker_next_ns(const struct mr_sim_broker *broker, uint64_t now_ns)
{
    uint64_t at = mr_data_core_deadline_ns(broker->data);
    at = mr_earlier(at, mr_control_deadline_ns(broker->control));
    for (uint32_t core = 0; core < broker->site->endpoints.storage_count; core++) {
        at = mr_earlier(at, mr_storage_core_deadline_ns(broker->storage[core]));
        at = mr_earlier(at, mr_sim_disk_next_ns(broker->storage_disks[core]));
    }
    at = mr_earlier(at, mr_sim_disk_next_ns(broker->control_disk));
    for (uint32_t index = 0; index < broker->threads; index++) {
        if (mr_port_has_spill(broker->ports[index])) {
            at = mr_earlier(at, now_ns + 50 * MR_NS_PER_US);
        }
    }
    return at;
}

bool mr_sim_broker_has_work(const struct mr_sim_broker *broker)
{
    bool has_any = mr_sim_net_has_work(broker->net);
    for (uint32_t index = 0; index < broker->threads; index++) {
        has_any |= mr_port_has_mail(broker->ports[index]);
    }
    return has_any;
}

void mr_sim_broker_log(struct mr_sim_broker *broker, struct mr_now now)
{
    const struct mr_log_line *line;
    while ((line = mr_log_out(&broker->log)) != NULL) {
        if (broker->site->is_verbose) {
            fprintf(stderr, "%llu.%06llu %.*s\n", (unsigned long long)(now.mono_ns / MR_NS_PER_S),
                    (unsigned long long)(now.mono_ns / 1000 % 1000000), (int)line->len, line->text);
        }
        mr_log_retire(&broker->log);
    }
}
