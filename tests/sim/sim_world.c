#include "sim_world.h"

#include "check_acked.h"
#include "config_table.h"
#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"
#include "millrace/batch.h"
#include "millrace/control.h"
#include "millrace/dataplane.h"
#include "millrace/kafka/msg.h"
#include "millrace/storage.h"
#include "sim_client.h"
#include "sim_disk.h"
#include "sim_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CLIENTS       3u
#define PARTITIONS    4u
#define OFFSETS_MAX   (1u << 14)
#define VALUES_MAX    12000u
#define LOG_DIR       "/data"
#define CLUSTER_ID    "sim-cluster"
#define RING_SLOTS    64u
#define SPILL_SLOTS   8192u
#define STEPS_START   200000u /* steps in which a start, a stop or the calm phase must be over */
#define STEPS_CALM    400000u
#define TAKE_BYTES    65536u
#define METADATA_LEVEL 33 /* 4.4-IV2 */

/* One life of the broker: everything in it is gone after a crash. */
struct broker {
    void                   *memory;
    size_t                  bytes;
    struct mr_arena         arena;
    struct mr_port         *ports[3];
    struct mr_log           log;
    struct mr_sim_net      *net;
    struct mr_disk         *storage_disk;
    struct mr_disk         *control_disk;
    struct mr_data_core    *data;
    struct mr_storage_core *storage;
    struct mr_control      *control;
    uint64_t                turn_ns[3]; /* when each has its next deadline */
    bool                    is_busy[3];
    _Atomic uint64_t        stop_hurry;
};

struct world {
    struct mr_prng         prng;
    struct mr_sim_fs      *fs;
    struct mr_now          now;
    struct mr_config       config;
    struct mr_data_plan    data_plan;
    struct mr_storage_plan storage_plan;
    struct mr_control_plan control_plan;
    struct mr_endpoints    endpoints;
    struct broker          broker;
    struct mr_check_acked  check;
    struct mr_sim_client   clients[CLIENTS];
    struct mr_sim_peer    *peers[CLIENTS];
    uint64_t               connect_ns[CLIENTS];
    bool                   is_calm; /* no resets */
    bool                   is_verbose;
    struct mr_sim_result  *result;
    uint8_t               *bytes; /* TAKE_BYTES */
};

static uint64_t draw(struct world *world, uint64_t bound)
{
    return mr_prng_below(&world->prng, bound);
}

static void trace(struct world *world, uint64_t value)
{
    world->result->trace_hash = mr_hash_u64(world->result->trace_hash ^ value) + 1;
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mr_assert(memory != MAP_FAILED);
    return memory;
}

static bool fail(struct world *world, const char *what, const char *detail)
{
    if (world->result->why[0] == '\0') {
        mr_fmt(world->result->why, sizeof world->result->why, "%s%s%s", what,
               detail[0] == '\0' ? "" : ": ", detail);
    }
    return false;
}

/* ---- The formatted directory ---- */

static struct mr_chain encode(struct mr_arena *arena, struct mr_span *spans, uint32_t max,
                              const struct mr_msg *msg, const void *message, bool is_record)
{
    struct mr_writer writer;
    enum mr_err err = MR_OK;
    mr_writer_init(&writer, arena, spans, max);
    if (is_record) {
        err = mr_writer_uvarint(&writer, 1); /* the frame around metadata records: version, key, version */
        mr_assert(err == MR_OK);
        err = mr_writer_uvarint(&writer, (uint32_t)msg->key);
        mr_assert(err == MR_OK);
        err = mr_writer_uvarint(&writer, 0);
        mr_assert(err == MR_OK);
    }
    err = mr_msg_encode(msg, 0, message, &writer);
    mr_assert(err == MR_OK);
    return mr_writer_finish(&writer);
}

/* One batch with one record; control_type -1: a metadata record. Returns the bytes. */
static uint32_t add(uint8_t *bytes, uint32_t size, int64_t offset, int control_type,
                    const struct mr_msg *msg, const void *message, int64_t now_ms)
{
    static uint8_t memory[8192];
    const uint8_t key[4] = {0, 0, 0, (uint8_t)control_type};
    uint8_t value[256];
    struct mr_arena arena;
    struct mr_span spans[8];
    struct mr_batch_builder builder;
    bool is_record = control_type < 0;
    mr_arena_init(&arena, memory, sizeof memory);
    struct mr_chain chain = encode(&arena, spans, 8, msg, message, is_record);
    mr_assert(chain.bytes <= sizeof value);
    mr_chain_copy(&chain, 0, value, chain.bytes);
    mr_batch_begin(&builder, bytes, size, offset, is_record ? 0 : MR_BATCH_CONTROL);
    builder.batch.leader_epoch = 0;
    bool fits =
        mr_batch_add(&builder, now_ms,
                     is_record ? MR_BLOB_NULL : (struct mr_blob){.data = key, .len = sizeof key},
                     (struct mr_blob){.data = value, .len = (int32_t)chain.bytes});
    mr_assert(fits);
    return mr_batch_end(&builder);
}

/* What `millrace format` leaves (control/cli/cmd_format.c). */
static void format(struct world *world)
{
    uint8_t bytes[4096];
    char text[256];
    struct mr_snapshot_header_record header;
    struct mr_snapshot_footer_record footer;
    struct mr_feature_level_record level;
    MR_DEFAULTS(snapshot_header_record, &header);
    MR_DEFAULTS(snapshot_footer_record, &footer);
    MR_DEFAULTS(feature_level_record, &level);
    level.name = MR_STR("metadata.version");
    level.feature_level = METADATA_LEVEL;
    int64_t now_ms = world->now.unix_ms;
    uint32_t used = add(bytes, sizeof bytes, 0, 3, &mr_msg_snapshot_header_record, &header, now_ms);
    used += add(bytes + used, (uint32_t)sizeof bytes - used, 1, -1, &mr_msg_feature_level_record,
                &level, now_ms);
    used += add(bytes + used, (uint32_t)sizeof bytes - used, 2, 4, &mr_msg_snapshot_footer_record,
                &footer, now_ms);
    mr_sim_fs_put(world->fs,
                  LOG_DIR "/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint", bytes,
                  used);
    size_t len = mr_fmt(text, sizeof text,
                        "#\ncluster.id=" CLUSTER_ID
                        "\ndirectory.id=AAAAAAAAQACAAAAAAAAAAQ\nnode.id=%lld\nversion=1\n",
                        (long long)world->config.node_id);
    mr_sim_fs_put(world->fs, LOG_DIR "/meta.properties", text, len);
}

/* ---- Configuration and plan: small, so that every limit is near ---- */

static void set(struct world *world, enum mr_config_id id, const char *text)
{
    struct mr_config_value value;
    enum mr_err err = mr_config_parse(&mr_config_rows[id].key, mr_str(text), &value);
    mr_assert(err == MR_OK);
    mr_config_set(&world->config, id, &value);
}

static void plan(struct world *world)
{
    mr_config_defaults(&world->config);
    set(world, MR_CONFIG_log_dirs, LOG_DIR);
    set(world, MR_CONFIG_log_segment_bytes, "1048576"); /* the least that is accepted */
    mr_config_derive(&world->config);
    world->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    world->data_plan = (struct mr_data_plan){
        .connections_max = 32,
        .requests_max = 64,
        .request_scratch_bytes = 1u << 20,
        .receive_bytes = 16u << 20,
        .fetch_sessions_max = 16,
        .fetch_partitions_max = 256,
        .frame_bytes_max = 4u << 20,
    };
    world->storage_plan = (struct mr_storage_plan){
        .logs_max = 64,
        .cache_bytes = 16u << 20,
        .cold_bytes = 4u << 20,
        .journal_file_bytes = 1u << 20,
        .journal_files_max = 4,
        .producers_max = 256,
        .disk_reserve_bytes = 1u << 20,
        .segments_max = 2048,
        .retention_check_ms = 300000,
        .producer_check_ms = 600000,
    };
    world->control_plan = (struct mr_control_plan){.heap_bytes = 32u << 20, .timers_max = 4096};
}

/* ---- A life of the broker ---- */

static void say_log(struct world *world)
{
    const struct mr_log_line *line;
    while ((line = mr_log_out(&world->broker.log)) != NULL) {
        if (world->is_verbose) {
            fprintf(stderr, "%llu.%06llu %.*s\n",
                    (unsigned long long)(world->now.mono_ns / MR_NS_PER_S),
                    (unsigned long long)(world->now.mono_ns / 1000 % 1000000), (int)line->len,
                    line->text);
        }
        mr_log_retire(&world->broker.log);
    }
}

static bool start(struct world *world)
{
    struct broker *broker = &world->broker;
    memset(broker, 0, sizeof *broker);
    broker->bytes = mr_data_core_bytes(&world->data_plan) +
                    mr_storage_core_bytes(&world->storage_plan) +
                    mr_control_bytes(&world->control_plan) +
                    6 * (size_t)(SPILL_SLOTS + RING_SLOTS) * 64 + (4u << 20);
    broker->memory = map(broker->bytes);
    mr_arena_init(&broker->arena, broker->memory, broker->bytes);
    mr_log_init(&broker->log, &broker->arena, 256, "sim");
    for (uint32_t index = 0; index < 3; index++) {
        broker->ports[index] = mr_arena_get(&broker->arena, sizeof(struct mr_port), 64);
        broker->ports[index]->self = index;
        broker->ports[index]->endpoint_count = 3;
        broker->is_busy[index] = true;
    }
    for (uint32_t from = 0; from < 3; from++) {
        for (uint32_t to = 0; to < 3; to++) {
            if (from != to) {
                mr_port_connect(broker->ports[from], broker->ports[to], &broker->arena, RING_SLOTS,
                                SPILL_SLOTS);
            }
        }
    }
    broker->net = mr_sim_net_create(mr_prng_next(&world->prng));
    mr_sim_net_pieces(broker->net, 1 + (uint32_t)draw(world, 8192), true);
    if (draw(world, 2) == 0) {
        mr_sim_net_send_limit(broker->net, 8 + (uint32_t)draw(world, 56));
    }
    broker->storage_disk = mr_sim_disk_create(world->fs);
    broker->control_disk = mr_sim_disk_create(world->fs);
    const struct mr_data_params data = {
        .plan = &world->data_plan,
        .config = &world->config,
        .endpoints = &world->endpoints,
        .port = broker->ports[0],
        .transport = mr_sim_net_transport(broker->net),
        .log = &broker->log,
        .arena = &broker->arena,
        .seed = mr_prng_next(&world->prng),
    };
    const struct mr_storage_params storage = {
        .plan = &world->storage_plan,
        .endpoints = &world->endpoints,
        .port = broker->ports[1],
        .disk = broker->storage_disk,
        .log = &broker->log,
        .arena = &broker->arena,
        .log_dir = LOG_DIR,
        .node_id = (int32_t)world->config.node_id,
        .seed = mr_prng_next(&world->prng),
        .stop_hurry = &broker->stop_hurry,
    };
    struct mr_control_params control = {
        .plan = &world->control_plan,
        .config = &world->config,
        .endpoints = &world->endpoints,
        .port = broker->ports[2],
        .disk = broker->control_disk,
        .log = &broker->log,
        .arena = &broker->arena,
        .log_dir = LOG_DIR,
        .cluster_id = MR_STR(CLUSTER_ID),
        .seed = mr_prng_next(&world->prng),
    };
    control.directory_id.bytes[6] = 0x40;
    control.directory_id.bytes[8] = 0x80;
    control.directory_id.bytes[15] = 1;
    for (uint32_t index = 0; index < sizeof control.random; index++) {
        control.random[index] = (uint8_t)mr_prng_next(&world->prng);
    }
    broker->data = mr_data_core_init(&data);
    broker->storage = mr_storage_core_init(&storage);
    broker->control = mr_control_init(&control);
    world->result->starts++;
    return (broker->data != NULL && broker->storage != NULL && broker->control != NULL) ||
           fail(world, "a part of the broker cannot be set up", "");
}

static void end(struct world *world)
{
    struct broker *broker = &world->broker;
    say_log(world);
    mr_sim_disk_destroy(broker->storage_disk);
    mr_sim_disk_destroy(broker->control_disk);
    mr_sim_net_destroy(broker->net);
    munmap(broker->memory, broker->bytes);
    memset(world->peers, 0, sizeof world->peers);
    broker->memory = NULL;
}

/* ---- Clients ---- */

static void drop(struct world *world, uint32_t index)
{
    world->peers[index] = NULL;
    world->connect_ns[index] = world->now.mono_ns + draw(world, 5 * MR_NS_PER_MS);
}

static void reset(struct world *world, uint32_t index)
{
    mr_sim_peer_reset(world->peers[index]);
    drop(world, index);
    world->result->resets++;
}

/* Returns whether bytes moved. */
static bool client_step(struct world *world, uint32_t index)
{
    struct mr_sim_client *client = &world->clients[index];
    bool is_moved = false;
    if (world->peers[index] != NULL && mr_sim_peer_is_closed(world->peers[index])) {
        drop(world, index);
    }
    if (world->peers[index] == NULL) {
        if (world->now.mono_ns < world->connect_ns[index]) {
            return false;
        }
        world->peers[index] = mr_sim_net_connect(world->broker.net, NULL);
        if (world->peers[index] == NULL) {
            world->connect_ns[index] = world->now.mono_ns + 2 * MR_NS_PER_MS;
            return false;
        }
        mr_sim_client_connected(client);
        is_moved = true;
    }
    struct mr_sim_peer *peer = world->peers[index];
    bool is_reset = !world->is_calm && draw(world, 300) == 0;
    uint32_t max = 1 + (uint32_t)draw(world, TAKE_BYTES);
    uint32_t len = mr_sim_peer_take(peer, world->bytes, max);
    if (len > 0) {
        is_moved = true;
        static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
        trace(world, mr_hash_bytes(&key, world->bytes, len) + index);
        mr_sim_client_feed(client, world->bytes, len, world->now);
    }
    mr_sim_client_turn(client, world->now);
    if (client->out_len > 0) {
        uint32_t part = is_reset ? (uint32_t)draw(world, client->out_len + 1ull) : client->out_len;
        is_moved = true;
        mr_sim_peer_send(peer, client->out, part);
        client->out_len = 0;
    }
    if (is_reset) {
        reset(world, index);
    }
    return is_moved;
}

/* ---- Steps ---- */

static bool turn(struct world *world, uint32_t who)
{
    struct broker *broker = &world->broker;
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    bool is_busy = false;
    if (who == 0) {
        is_busy = mr_data_core_turn(broker->data, world->now);
    } else if (who == 1) {
        is_busy = mr_storage_core_turn(broker->storage, world->now);
    } else {
        is_busy = mr_control_turn(broker->control, world->now);
    }
    (void)mr_port_flush(broker->ports[who], woken);
    /* What blocked on the disk has taken its time. */
    uint64_t clock_ns = mr_sim_fs_clock(world->fs);
    if (clock_ns > world->now.mono_ns) {
        world->now.unix_ms +=
            (int64_t)(clock_ns / MR_NS_PER_MS - world->now.mono_ns / MR_NS_PER_MS);
        world->now.mono_ns = clock_ns;
    }
    return is_busy;
}

static void pass(struct world *world, uint64_t to_ns)
{
    world->now.unix_ms += (int64_t)(to_ns / MR_NS_PER_MS - world->now.mono_ns / MR_NS_PER_MS);
    world->now.mono_ns = to_ns;
    mr_sim_fs_set_clock(world->fs, to_ns);
}

static uint64_t next_ns(struct world *world)
{
    const struct broker *broker = &world->broker;
    uint64_t at = mr_data_core_deadline_ns(broker->data);
    at = mr_earlier(at, mr_storage_core_deadline_ns(broker->storage));
    at = mr_earlier(at, mr_control_deadline_ns(broker->control));
    at = mr_earlier(at, mr_sim_disk_next_ns(broker->storage_disk));
    at = mr_earlier(at, mr_sim_disk_next_ns(broker->control_disk));
    for (uint32_t index = 0; index < 3; index++) {
        if (mr_port_has_spill(broker->ports[index])) {
            at = mr_earlier(at, world->now.mono_ns + 50 * MR_NS_PER_US);
        }
    }
    for (uint32_t index = 0; index < CLIENTS; index++) {
        if (world->peers[index] == NULL) {
            at = mr_earlier(at, world->connect_ns[index]);
        } else if (world->clients[index].retry_ns > world->now.mono_ns) {
            at = mr_earlier(at, world->clients[index].retry_ns);
        }
    }
    return at;
}

/* Everybody once, in an order of the seed; then time. False: a violation, or the power is gone. */
static bool step(struct world *world)
{
    struct broker *broker = &world->broker;
    bool is_any = false;
    uint32_t first = (uint32_t)draw(world, 3);
    uint32_t stride = 1 + (uint32_t)draw(world, 2);
    world->result->steps++;
    broker->log.unix_ms = world->now.unix_ms;
    for (uint32_t index = 0; index < 3; index++) {
        uint32_t who = (first + index * stride) % 3;
        if (draw(world, 8) == 0) {
            is_any = true; /* a thread that does not get its CPU */
            continue;
        }
        is_any |= turn(world, who);
        if (mr_sim_fs_is_dead(world->fs)) {
            return false;
        }
    }
    say_log(world);
    for (uint32_t index = 0; index < CLIENTS; index++) {
        is_any |= client_step(world, index);
        if (world->clients[index].why[0] != '\0') {
            return fail(world, "a client was answered wrongly", world->clients[index].why);
        }
    }
    if (!mr_check_acked_is_ok(&world->check)) {
        return fail(world, world->check.why, "");
    }
    if (mr_control_state(broker->control) == MR_CONTROL_FAILED) {
        return fail(world, "the broker failed", mr_control_why(broker->control));
    }
    for (uint32_t index = 0; index < 3; index++) {
        is_any |= mr_port_has_mail(broker->ports[index]);
    }
    is_any |= mr_sim_net_has_work(broker->net);
    uint64_t soon_ns = world->now.mono_ns + 1 + draw(world, 20 * MR_NS_PER_US);
    uint64_t at_ns = is_any ? soon_ns : next_ns(world);
    if (at_ns == MR_NEVER) {
        at_ns = world->now.mono_ns + MR_NS_PER_S;
    }
    pass(world, at_ns > soon_ns ? at_ns : soon_ns);
    trace(world, world->now.mono_ns);
    return true;
}

static bool is_stopped(const struct world *world)
{
    return mr_control_state(world->broker.control) == MR_CONTROL_STOPPED;
}

/* Stop cleanly and wait for it; false when the power went or something is wrong. */
static bool stop(struct world *world)
{
    mr_control_stop(world->broker.control, world->now);
    for (uint32_t count = 0; count < STEPS_START; count++) {
        if (!step(world)) {
            return false;
        }
        if (is_stopped(world)) {
            world->result->clean_stops++;
            return true;
        }
    }
    return fail(world, "the broker does not stop", "");
}

/* ---- The run ---- */

static void cut(struct world *world)
{
    enum mr_sim_cut how = (enum mr_sim_cut)draw(world, MR_SIM_CUT_COUNT);
    if (world->is_verbose) {
        fprintf(stderr, "-- power cut %d\n", (int)how);
    }
    end(world);
    mr_sim_fs_power_cut(world->fs, how, mr_prng_next(&world->prng));
    world->result->power_cuts++;
}

/* One life that ends badly, or cleanly now and then. */
static bool trouble(struct world *world)
{
    uint64_t way = draw(world, 8);
    uint64_t steps = 50 + draw(world, 4000);
    if (!start(world)) {
        return false;
    }
    if (way < 4) { /* at some disk operation: recovery and stop included */
        mr_sim_fs_die_at(world->fs, mr_sim_fs_op_count(world->fs) + 1 + draw(world, way < 2 ? 200 : 2000));
    }
    bool is_good = true;
    for (uint64_t count = 0; is_good && count < steps; count++) {
        is_good = step(world);
    }
    if (is_good && way >= 6) {
        is_good = stop(world);
        if (is_good) {
            end(world);
            /* The power may go after a clean stop too: everything must be durable. */
            if (way == 7) {
                mr_sim_fs_power_cut(world->fs, MR_SIM_CUT_DROP, mr_prng_next(&world->prng));
            }
            return true;
        }
    }
    if (world->result->why[0] != '\0') {
        end(world);
        return false;
    }
    if (is_good && way == 5) {
        end(world);
        mr_sim_fs_process_kill(world->fs, mr_prng_next(&world->prng));
        world->result->kills++;
    } else {
        cut(world);
    }
    return true;
}

static bool are_idle(const struct world *world)
{
    bool are_all = true;
    for (uint32_t index = 0; index < CLIENTS; index++) {
        are_all = are_all && world->clients[index].phase == MR_SIM_QUIET &&
                  mr_sim_client_is_idle(&world->clients[index]);
    }
    return are_all;
}

/* The calm phase: everything open is finished, then the log is read from start to end. */
static bool verify(struct world *world)
{
    bool is_asked = false;
    world->is_calm = true;
    for (uint32_t count = 0; count < STEPS_CALM; count++) {
        if (!step(world)) {
            return false;
        }
        for (uint32_t index = 0; count > 500 && index < CLIENTS; index++) {
            if (world->clients[index].phase == MR_SIM_RUN) {
                world->clients[index].phase = MR_SIM_QUIET;
            }
        }
        if (!is_asked && are_idle(world)) {
            is_asked = true;
            mr_sim_client_verify(&world->clients[0]);
        }
        if (world->clients[0].phase == MR_SIM_DONE) {
            return mr_check_acked_finish(&world->check) || fail(world, world->check.why, "");
        }
    }
    return fail(world, is_asked ? "the final read does not end" : "the clients do not come to rest", "");
}

static void live(struct world *world)
{
    uint64_t lives = 2 + draw(world, 5);
    for (uint64_t life = 0; life < lives; life++) {
        if (!trouble(world)) {
            return;
        }
    }
    if (start(world)) {
        if (verify(world) && stop(world)) {
            world->result->is_ok = true;
        }
        end(world);
    }
}

void mr_sim_world_run(uint64_t seed, bool is_verbose, struct mr_sim_result *result)
{
    struct world *world = calloc(1, sizeof *world);
    size_t bytes = (size_t)96 << 20;
    void *memory = map(bytes);
    struct mr_arena arena;
    mr_assert(world != NULL);
    *result = (struct mr_sim_result){.trace_hash = seed};
    mr_arena_init(&arena, memory, bytes);
    world->prng.state = seed;
    world->result = result;
    world->is_verbose = is_verbose;
    world->now = (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000};
    world->bytes = mr_arena_get_fresh(&arena, TAKE_BYTES, 64);
    world->fs = mr_sim_fs_create(mr_prng_next(&world->prng));
    mr_sim_fs_set_clock(world->fs, world->now.mono_ns);
    if (draw(world, 4) != 0) {
        mr_sim_fs_latency(world->fs, 1000, 1000 + draw(world, 3 * MR_NS_PER_MS), draw(world, 2) == 0);
    }
    plan(world);
    format(world);
    mr_check_acked_init(&world->check, &arena, OFFSETS_MAX, VALUES_MAX);
    for (uint32_t index = 0; index < CLIENTS; index++) {
        mr_sim_client_init(&world->clients[index], &arena, &world->check,
                           mr_prng_next(&world->prng), MR_STR("sim"), PARTITIONS);
    }
    live(world);
    trace(world, mr_sim_fs_digest(world->fs));
    result->acked = world->check.acked_count;
    mr_sim_fs_destroy(world->fs);
    munmap(memory, bytes);
    free(world);
}
