#include "millrace/base/bug.h"
#include "millrace/plan.h"

#include "boot/nic_load.h"
#include "boot/transports.h"
#include "config_table.h"
#include "millrace/base/fmt.h"

#define MIB (1024ull * 1024)

/* ---- Cores ---- */

static bool refuse(char *why, uint32_t why_size, const char *key, struct mr_str value,
                   const char *expected)
{
    mr_fmt(why, why_size, "%s=%.*s: expected %s", key, value.len < 0 ? 0 : (int)value.len,
           value.len < 0 ? "" : value.data, expected);
    return false;
}

static bool read_number(struct mr_str text, int32_t *at, uint32_t *number)
{
    int32_t start = *at;
    for (*number = 0; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; (*at)++) {
        *number = *number * 10 + (uint32_t)(text.data[*at] - '0');
        if (*number > 100000) {
            return false;
        }
    }
    return *at > start;
}

/* "0,2-3" -> 0 2 3. Returns the count; 0: not such a list. */
static uint32_t cpu_list(struct mr_str list, int32_t cpus[MR_CORES_MAX])
{
    uint32_t count = 0;
    int32_t at = 0;
    struct mr_str item;
    while (mr_str_list_next(list, &at, &item)) {
        int32_t in = 0;
        uint32_t first = 0;
        if (!read_number(item, &in, &first)) {
            return 0;
        }
        uint32_t last = first;
        if (in < item.len && item.data[in] == '-') {
            in++;
            if (!read_number(item, &in, &last)) {
                return 0;
            }
        }
        if (in != item.len || last < first || last - first >= MR_CORES_MAX - count) {
            return 0;
        }
        for (uint32_t cpu = first; cpu <= last; cpu++) {
            cpus[count++] = (int32_t)cpu;
        }
    }
    return count;
}

/* Every directory has all storage cores that the CPUs give: each of them is one of the plane's. */
static bool plan_dirs(const struct mr_config *config, struct mr_plan *plan, char *why, uint32_t why_size)
{
    struct mr_str dirs[MR_DIRS_MAX];
    uint32_t count = mr_config_log_dirs(config, dirs);
    if (plan->endpoints.storage_count * count > MR_CORES_MAX) {
        return refuse(why, why_size, "log.dirs", config->log_dirs,
                      "fewer directories, or fewer cores: at most 64 storage cores, one per core and directory");
    }
    plan->endpoints.storage_count *= count;
    plan->endpoints.dir_count = count;
    return true;
}

static bool plan_cores(const struct mr_config *config, const struct mr_plan_machine *machine,
                       struct mr_plan *plan, char *why, uint32_t why_size)
{
    bool has_data = !mr_str_is_null(config->millrace_cores_data);
    bool has_storage = !mr_str_is_null(config->millrace_cores_storage);
    if (has_data != has_storage) {
        return refuse(why, why_size, has_data ? "millrace.cores.data" : "millrace.cores.storage",
                      has_data ? config->millrace_cores_data : config->millrace_cores_storage,
                      "both millrace.cores.data and millrace.cores.storage, or neither");
    }
    if (has_data) {
        plan->is_shared = false;
        plan->endpoints.data_count = cpu_list(config->millrace_cores_data, plan->data_cpus);
        plan->endpoints.storage_count =
            cpu_list(config->millrace_cores_storage, plan->storage_cpus);
        if (plan->endpoints.data_count == 0) {
            return refuse(why, why_size, "millrace.cores.data", config->millrace_cores_data,
                          "a list of CPUs like 0,2-3");
        }
        if (plan->endpoints.storage_count == 0) {
            return refuse(why, why_size, "millrace.cores.storage", config->millrace_cores_storage,
                          "a list of CPUs like 1,4");
        }
        if (mr_nic_load_is_wanted(config) && plan->endpoints.data_count > MR_NIC_LANES) {
            return refuse(why, why_size, "millrace.cores.data", config->millrace_cores_data,
                          "at most 16 CPUs with millrace.transport=dpdk");
        }
        plan->thread_count = plan->endpoints.data_count + plan->endpoints.storage_count;
        return true;
    }
    uint32_t count = 0;
    int32_t at = 0;
    bool is_dpdk = mr_nic_load_is_wanted(config);
    if (mr_str_equal(config->millrace_cores, MR_STR("auto"))) {
        /* One CPU is left to the control thread, the kernel and everybody else. */
        count = machine->cpu_count > 1 ? machine->cpu_count - 1 : 1;
        count = is_dpdk ? 1 : count > 8 ? 8 : count; /* a card may have one queue only */
        struct mr_str dirs[MR_DIRS_MAX];
        uint32_t most = MR_CORES_MAX / mr_config_log_dirs(config, dirs);
        count = count > most ? most : count;
    } else if (!read_number(config->millrace_cores, &at, &count) ||
               at != config->millrace_cores.len || count < 1 || count > MR_CORES_MAX) {
        return refuse(why, why_size, "millrace.cores", config->millrace_cores,
                      "auto or a number from 1 to 64");
    }
    if (is_dpdk && count > MR_NIC_LANES) {
        return refuse(why, why_size, "millrace.cores", config->millrace_cores,
                      "auto or at most 16 with millrace.transport=dpdk");
    }
    plan->is_shared = true;
    plan->endpoints = (struct mr_endpoints){.data_count = count, .storage_count = count};
    plan->thread_count = count;
    for (uint32_t core = 0; core < count; core++) {
        plan->data_cpus[core] = MR_PLAN_CPU_ANY;
        plan->storage_cpus[core] = MR_PLAN_CPU_ANY;
    }
    return true;
}

/* ---- Sizes ---- */

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

static uint64_t share(uint64_t total, uint64_t parts)
{
    return (total + parts - 1) / parts;
}

static uint32_t power_of_two(uint64_t least)
{
    uint32_t size = 1024;
    while (size < least && size < (1u << 22)) {
        size *= 2;
    }
    return size;
}

static uint64_t or_auto(int64_t configured, uint64_t automatic)
{
    return configured < 0 ? automatic : (uint64_t)configured;
}

/* Each core has its share of the keys' memory; a batch must fit its buffers, as it came from a client. */
static void plan_cleaner(const struct mr_config *config, uint64_t storage_count, struct mr_storage_plan *plan)
{
    if (!config->log_cleaner_enable) {
        return;
    }
    uint64_t batch_bytes = (uint64_t)config->message_max_bytes + MR_CLEAN_IO_SLACK;
    uint64_t io_bytes = clamp((uint64_t)config->log_cleaner_io_buffer_size, batch_bytes, 64 * MIB);
    double   rate = config->log_cleaner_io_max_bytes_per_second;
    double   load = config->log_cleaner_io_buffer_load_factor;
    plan->clean_io_bytes = (uint32_t)(io_bytes / MR_CLEAN_IO_UNIT * MR_CLEAN_IO_UNIT);
    plan->clean_map_bytes = clamp((uint64_t)config->log_cleaner_dedupe_buffer_size / storage_count, MIB, 4096 * MIB);
    plan->clean_load = load < 0.1 ? 0.1 : load > 0.9 ? 0.9 : load;
    plan->clean_backoff_ms = config->log_cleaner_backoff_ms;
    plan->clean_bytes_per_s = rate >= 1e15 ? 0 : rate < 4096 ? 4096 : (uint64_t)rate;
}

static void plan_scrub(const struct mr_config *config, struct mr_storage_plan *plan)
{
    plan->scrub_bytes_per_s = (uint64_t)config->millrace_scrub_bytes_per_second;
    plan->scrub_interval_ms = config->millrace_scrub_interval_ms;
}

bool mr_plan_make(const struct mr_config *config, const struct mr_plan_machine *machine,
                  struct mr_plan *plan, char *why, uint32_t why_size)
{
    *plan = (struct mr_plan){0};
    if (!plan_cores(config, machine, plan, why, why_size) ||
        !plan_dirs(config, plan, why, why_size)) {
        return false;
    }
    uint64_t data_count = plan->endpoints.data_count;
    uint64_t storage_count = plan->endpoints.storage_count;

    /* Spinning pays only on CPUs that nobody else wants. */
    int64_t spin_us = config->millrace_spin_us >= 0 ? config->millrace_spin_us
                      : plan->is_shared             ? 0
                                                    : 50;
    plan->spin_ns = (uint64_t)spin_us * MR_NS_PER_US;

    /* Connections are spread by the kernel's hash: a core may get twice its share, and with one core all. */
    uint64_t connections = (uint64_t)config->millrace_connections_max;
    uint64_t per_core = share(connections, data_count) * 2;
    plan->data.connections_max = (uint32_t)(per_core < connections ? per_core : connections);

    /* Every connection may have one long poll open, and queued.max.requests wait for control. */
    plan->data.requests_max = plan->data.connections_max +
                              (uint32_t)clamp((uint64_t)config->queued_max_requests, 16, 100000);
    plan->data.request_scratch_bytes = (uint32_t)MIB;
    uint64_t receive_auto = clamp(machine->memory_bytes / 8, 64 * MIB, 2048 * MIB);
    plan->data.receive_bytes = clamp(
        or_auto(config->millrace_receive_bytes, receive_auto) / data_count, 16 * MIB, UINT64_MAX);
    plan->data.fetch_sessions_max =
        (uint32_t)share((uint64_t)config->max_incremental_fetch_session_cache_slots, data_count);
    plan->data.fetch_partitions_max =
        (uint32_t)share((uint64_t)config->millrace_fetch_partitions_max, data_count);
    plan->data.frame_bytes_max = (uint32_t)config->socket_request_max_bytes;

    /* Each core has room for all: core 0 recovers all, and names decide which core gets how many. What is not used
     * is not touched. */
    uint64_t partitions = (uint64_t)config->millrace_partitions_max;
    plan->storage.logs_max = (uint32_t)(partitions + 64);
    uint64_t cache_auto = clamp(machine->memory_bytes / 8, 64 * MIB, 1024 * MIB);
    uint64_t cache_bytes = or_auto(config->millrace_cache_bytes, cache_auto);
    plan->storage.cache_bytes = clamp(cache_bytes / storage_count, 16 * MIB, UINT64_MAX);
    plan->storage.cold_bytes = clamp(
        or_auto(config->millrace_cold_bytes, cache_bytes / 4) / storage_count, 4 * MIB, UINT64_MAX);
    plan->storage.journal_file_bytes = (uint32_t)config->millrace_journal_file_bytes;
    plan->storage.journal_files_max = (uint32_t)config->millrace_journal_files;
    plan->storage.producers_max = (uint32_t)config->millrace_producers_max;
    plan->storage.txns_open_max = (uint32_t)config->millrace_transactions_open_max;
    plan->storage.aborted_max = (uint32_t)config->millrace_transactions_aborted_max;
    plan->storage.disk_reserve_bytes = (uint64_t)config->millrace_disk_reserve_bytes;
    plan->storage.segments_max = (uint32_t)config->millrace_segments_max + plan->storage.logs_max;

    plan->storage.retention_check_ms = config->log_retention_check_interval_ms;
    plan->storage.first_check_ms = config->log_initial_task_delay_ms;
    plan->storage.producer_check_ms = config->producer_id_expiration_check_interval_ms;

    plan_cleaner(config, storage_count, &plan->storage);
    plan_scrub(config, &plan->storage);

    plan->control.heap_bytes = (uint64_t)config->millrace_control_bytes;
    /* Two of each member, and a quarter for all else (mr_coord_init). */
    plan->control.timers_max = (uint32_t)config->millrace_group_members_max * 8 / 3 + 8;

    /* A message may be under way for every open request, partition (open, configure, watch) and page. */
    plan->ring_slots = 1024;
    plan->spill_slots = power_of_two(4ull * plan->data.requests_max + 4 * partitions +
                                     plan->data.fetch_partitions_max + 65536);
    plan->wait_entries = 1024;
    plan->log_lines = 256;
    plan->trace_entries = 4096; /* about the last 300 requests */
    plan->journal_disk_bytes = storage_count * plan->storage.journal_files_max *
                               (uint64_t)plan->storage.journal_file_bytes;
    /* A socket per connection; three files per active segment are opened on demand. */
    plan->files_max = connections + 3 * partitions + 256;
    return true;
}

void mr_plan_measure(const struct mr_config *config, struct mr_plan *plan)
{
    uint64_t data_count = plan->endpoints.data_count;
    uint64_t storage_count = plan->endpoints.storage_count;
    uint64_t rings = 2 * data_count * storage_count + 2 * data_count + 2 * storage_count;
    uint64_t disks = storage_count + 1;
    plan->data_core_bytes = mr_data_core_bytes(&plan->data);
    plan->transport_bytes = mr_transports_bytes(config, plan);
    plan->storage_core_bytes = mr_storage_core_bytes(&plan->storage);
    plan->disk_bytes = mr_disk_uring_bytes();
    plan->control_bytes = mr_control_bytes(&plan->control);
    plan->plane_bytes =
        rings * (sizeof(struct mr_ring) + 64 + (uint64_t)plan->ring_slots * MR_RING_SLOT +
                 (uint64_t)plan->spill_slots * sizeof(struct mr_plane_msg) + 64) +
        (data_count + storage_count + 1) * (sizeof(struct mr_port) + 64);
    plan->log_bytes = (uint64_t)plan->log_lines * sizeof(struct mr_log_line) + 64;
    plan->trace_bytes = (uint64_t)plan->trace_entries * sizeof(struct mr_trace_entry) + 64;
    uint64_t threads = plan->thread_count + 1;
    plan->total_bytes = data_count * (plan->data_core_bytes + plan->transport_bytes) +
                        storage_count * plan->storage_core_bytes + disks * plan->disk_bytes +
                        plan->control_bytes + threads * (plan->wait_bytes + plan->log_bytes) +
                        plan->thread_count * plan->trace_bytes + plan->plane_bytes;
}

/* ---- Printing ---- */

static void say_term(void (*say)(void *user, const char *line), void *user, uint64_t each,
                     uint64_t count, const char *what)
{
    char line[200];
    uint64_t total = each * count;
    mr_fmt(line, sizeof line, "%12llu KiB  = %3llu x %10llu KiB  %s",
           (unsigned long long)(total / 1024), (unsigned long long)count,
           (unsigned long long)(each / 1024), what);
    say(user, line);
}

void mr_plan_print(const struct mr_config *config, const struct mr_plan *plan,
                   void (*say)(void *user, const char *line), void *user)
{
    char line[240];
    uint64_t data_count = plan->endpoints.data_count;
    uint64_t storage_count = plan->endpoints.storage_count;
    mr_fmt(line, sizeof line, "cores      %u thread%s, %u data, %u storage%s, spin %llu us",
           plan->thread_count, plan->thread_count == 1 ? "" : "s", plan->endpoints.data_count,
           plan->endpoints.storage_count, plan->is_shared ? " (each thread has both roles)" : "",
           (unsigned long long)(plan->spin_ns / MR_NS_PER_US));
    say(user, line);
    mr_fmt(line, sizeof line,
           "data core  connections %u, requests %u (connections + queued.max.requests), fetch "
           "sessions %u"
           " with %u partitions",
           plan->data.connections_max, plan->data.requests_max, plan->data.fetch_sessions_max,
           plan->data.fetch_partitions_max);
    say(user, line);
    mr_fmt(line, sizeof line,
           "storage    logs %u, segments %u, producers %u, journal %u files of %u KiB",
           plan->storage.logs_max, plan->storage.segments_max, plan->storage.producers_max,
           plan->storage.journal_files_max, plan->storage.journal_file_bytes / 1024);
    say(user, line);
    say(user, "memory, as address space: a page costs something when it is first used");
    say_term(say, user, plan->data_core_bytes, data_count,
             "sessions, requests and their scratch (data cores)");
    say_term(say, user, plan->transport_bytes, data_count,
             "connections and millrace.receive.bytes (transports)");
    say_term(say, user, plan->storage_core_bytes, storage_count,
             "millrace.cache.bytes, millrace.cold.bytes, logs, segments, producers, commits "
             "(storage cores)");
    say_term(say, user, plan->disk_bytes, storage_count + 1,
             "disk operations (storage cores, control)");
    say_term(say, user, plan->control_bytes, 1,
             "millrace.control.bytes: metadata, groups (control)");
    say_term(say, user, plan->wait_bytes, plan->thread_count + 1, "completion queues (threads)");
    say_term(say, user, plan->log_bytes, plan->thread_count + 1,
             "log lines not yet written (threads)");
    say_term(say, user, plan->trace_bytes, plan->thread_count,
             "trace of what a core did last (cores)");
    say_term(say, user, plan->plane_bytes, 1, "rings between planes and their overflow");
    mr_fmt(line, sizeof line, "%12llu KiB  in all", (unsigned long long)((mr_bug("lower-plan") ? plan->total_bytes / 2 : plan->total_bytes) / 1024));
    say(user, line);
    mr_fmt(line, sizeof line, "disk       %llu KiB journal at most, %llu KiB kept free in %s%.*s",
           (unsigned long long)(plan->journal_disk_bytes / 1024),
           (unsigned long long)(plan->storage.disk_reserve_bytes / 1024),
           plan->endpoints.dir_count > 1 ? "each of " : "", (int)config->log_dirs.len,
           config->log_dirs.data);
    say(user, line);
    mr_fmt(line, sizeof line,
           "files      %llu descriptors at most (connections + 3 per partition + 256)",
           (unsigned long long)plan->files_max);
    say(user, line);
}

/* ---- Listeners ---- */

/* The protocol that the map gives a listener name; the name itself where it has none. */
static struct mr_str protocol_of(const struct mr_config *config, struct mr_str name)
{
    struct mr_str item;
    int32_t at = 0;
    while (mr_str_list_next(config->listener_security_protocol_map, &at, &item)) {
        const char *colon = memchr(item.data, ':', (size_t)item.len);
        if (colon != NULL &&
            mr_str_equal((struct mr_str){.data = item.data, .len = (int32_t)(colon - item.data)},
                         name)) {
            int32_t used = (int32_t)(colon - item.data) + 1;
            return (struct mr_str){.data = item.data + used, .len = item.len - used};
        }
    }
    return mr_str_equal(name, MR_STR("CONTROLLER")) ? MR_STR("PLAINTEXT") : name;
}

static bool parse_listener(const struct mr_config *config, struct mr_str item,
                           struct mr_endpoint *out, const char **expected)
{
    int32_t at = 0;
    uint32_t port = 0;
    *expected = "NAME://host:port";
    while (at < item.len && item.data[at] != ':') {
        at++;
    }
    struct mr_str name = {.data = item.data, .len = at};
    if (at == 0 || at + 3 > item.len || memcmp(item.data + at, "://", 3) != 0) {
        return false;
    }
    int32_t host = at + 3;
    int32_t colon = item.len - 1;
    while (colon > host && item.data[colon] != ':') {
        colon--;
    }
    if (colon < host || item.data[colon] != ':') {
        return false;
    }
    int32_t in = colon + 1;
    if (!read_number(item, &in, &port) || in != item.len || port > 65535) {
        *expected = "a port from 0 to 65535 at the end";
        return false;
    }
    int32_t host_len = colon - host;
    if (host_len >= 2 && item.data[host] == '[' && item.data[colon - 1] == ']') {
        host++;
        host_len -= 2;
    }
    if (host_len >= (int32_t)sizeof out->host) {
        *expected = "a shorter host name";
        return false;
    }
    if (!mr_str_equal(protocol_of(config, name), MR_STR("PLAINTEXT"))) {
        *expected = "a listener whose security protocol is PLAINTEXT (others are not served yet)";
        return false;
    }
    *out = (struct mr_endpoint){.port = (uint16_t)port};
    if (host_len > 0) { /* 0.0.0.0 stays what it says: IPv4 only */
        memcpy(out->host, item.data + host, (size_t)host_len);
    }
    return true;
}

int mr_plan_listeners(const struct mr_config *config, struct mr_endpoint *endpoints, uint32_t max,
                      char *why, uint32_t why_size)
{
    struct mr_str item;
    int32_t at = 0;
    uint32_t count = 0;
    const char *expected;
    while (mr_str_list_next(config->listeners, &at, &item)) {
        if (count == max) {
            (void)refuse(why, why_size, "listeners", config->listeners, "fewer listeners");
            return -1;
        }
        if (!parse_listener(config, item, &endpoints[count], &expected)) {
            (void)refuse(why, why_size, "listeners", item, expected);
            return -1;
        }
        count++;
    }
    if (count == 0) {
        (void)refuse(why, why_size, "listeners", config->listeners, "at least one listener");
        return -1;
    }
    return (int)count;
}
