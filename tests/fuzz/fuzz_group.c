/*
 * fuzz_group: a script of records of __consumer_offsets, of both kinds of groups, replayed into the groups of one
 * partition, which then go on: sessions begin, groups are listed and described, sessions end, members join groups that
 * change their protocol for it, offsets expire.
 *
 *   item   kind: the record's type, who: version of its value (the highest bit: a tombstone),
 *          bytes: | length of the key's body u8 | key's body | value's body |
 *
 * Whatever the log holds: skipped or applied; when the shard ends, all memory is back.
 */
#include "coord/group/group.h"
#include "millrace/base/bytes.h"
#include "mutate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAP_BYTES    (16u << 20)
#define SCRATCH_BYTES (4u << 20)
#define TOMBSTONE     0x80u

/* Types of records: those that are read, share groups' and what nobody has written yet are skipped. */
static const uint8_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 99};
#define TYPES ((uint32_t)sizeof types)

static struct mr_timers timers;
static struct mr_heap heap;
static struct mr_group_env env;
static struct mr_arena scratch;
static const struct mr_image_feature features[] = {{{"group.version", 13}, 1}};
static struct mr_image image = {.feature_count = 1, .features = features};

/* A type without messages of its own looks like an offset. */
static const struct mr_msg *message_of(enum mr_msg_sort sort, uint8_t type)
{
    const struct mr_msg *msg = mr_msg_find(sort, type);
    return msg != NULL ? msg : mr_msg_find(sort, 1);
}

static const struct mr_msg *value_msg(uint8_t type)
{
    return message_of(MR_MSG_COORDINATOR_VALUE, type);
}

static int16_t value_version(const struct mr_msg *msg, uint8_t who)
{
    return (int16_t)(msg->version_min +
                     (int)(who % TOMBSTONE) % (msg->version_max - msg->version_min + 1));
}

static void draw(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    bool is_new = item->bytes == NULL || item->len == 0 || item->bytes[0] >= item->len;
    if (item->bytes == NULL) {
        item->kind = types[mr_prng_below(prng, TYPES)];
        item->who = (uint8_t)mr_prng_below(prng, mr_prng_below(prng, 6) == 0 ? 256 : TOMBSTONE);
    }
    const struct mr_msg *key = message_of(MR_MSG_COORDINATOR_KEY, item->kind);
    const struct mr_msg *value = value_msg(item->kind);
    const uint8_t *bytes = is_new ? NULL : item->bytes + 1;
    uint32_t key_len = is_new ? 0 : item->bytes[0];
    uint32_t value_len = is_new ? 0 : item->len - 1 - key_len;
    bool is_key = is_new || mr_prng_below(prng, 4) == 0;
    if (is_key) {
        out[0] = (uint8_t)mr_mutate_msg(prng, key, 0, bytes, key_len, out + 1, UINT8_MAX);
    } else {
        out[0] = (uint8_t)key_len;
        memcpy(out + 1, bytes, key_len);
    }
    uint32_t at = 1u + out[0];
    item->len = at + mr_mutate_msg(prng, value, value_version(value, item->who),
                                   is_new ? NULL : bytes + key_len, value_len, out + at, max - at);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, draw);
}

static void fire(struct mr_control *control, struct mr_now now, struct mr_control_timer *timer)
{
    (void)control;
    (void)now;
    (void)timer;
}

static void uuid(void *user, struct mr_uuid *id)
{
    (void)user;
    *id = (struct mr_uuid){{1}};
}

static int64_t setting(void *user, struct mr_str group, enum mr_group_config_id id)
{
    (void)user;
    (void)group;
    (void)id;
    return 1000;
}

static void start(struct mr_log *log)
{
    static struct mr_arena arena;
    size_t bytes = HEAP_BYTES + 2 * SCRATCH_BYTES + (16u << 20);
    mr_arena_init(&arena, aligned_alloc(4096, bytes), bytes);
    mr_timers_init(&timers, &arena, 20000);
    mr_log_init(log, &arena, 64, "fuzz");
    heap.base = mr_arena_get_fresh(&arena, HEAP_BYTES, 64);
    mr_arena_init(&scratch, mr_arena_get_fresh(&arena, SCRATCH_BYTES, 64), SCRATCH_BYTES);
    env = (struct mr_group_env){.min_session_ms = 6000,
                                .max_session_ms = 1800000,
                                .initial_delay_ms = 3000,
                                .size_max = INT32_MAX,
                                .metadata_bytes_max = 4096,
                                .retention_ms = 1000,
                                .record_bytes_max = 1000000,
                                .heap = &heap,
                                .timers = &timers,
                                .timers_max = 10000,
                                .log = log,
                                .fire = fire,
                                .uuid = uuid,
                                .image = &image,
                                .setting = setting,
                                .consumer_size_max = 1000,
                                .assignors = {MR_STR("uniform")},
                                .assignor_count = 1,
                                .may_upgrade = true,
                                .may_downgrade = true};
    mr_arena_init(&env.decode, mr_arena_get_fresh(&arena, SCRATCH_BYTES, 64), SCRATCH_BYTES);
}

static enum mr_err replay(struct mr_group_shard *shard, const struct mr_script_item *item)
{
    static uint8_t key[UINT8_MAX + 2];
    static uint8_t value[UINT16_MAX + 2];
    uint32_t key_len = item->len == 0 ? 0 : item->bytes[0];
    if (item->len < 1 + key_len) {
        return MR_OK;
    }
    const struct mr_msg *msg = value_msg(item->kind);
    uint32_t value_len = item->len - 1 - key_len;
    mr_store_be16(key, item->kind);
    memcpy(key + 2, item->bytes + 1, key_len);
    mr_store_be16(value, (uint16_t)value_version(msg, item->who));
    memcpy(value + 2, item->bytes + 1 + key_len, value_len);
    bool is_tombstone = (item->who & TOMBSTONE) != 0;
    return mr_group_replay(shard, (struct mr_blob){.data = key, .len = (int32_t)key_len + 2},
                           is_tombstone
                               ? MR_BLOB_NULL
                               : (struct mr_blob){.data = value, .len = (int32_t)value_len + 2});
}

/* Everything that a step decided becomes state; who is answered is not looked at. False: the shard is full. */
static bool apply(struct mr_group_shard *shard, struct mr_coord_out *out)
{
    for (struct mr_coord_record *record = out->records; record != NULL; record = record->next) {
        if (mr_group_replay(shard, record->key, record->value) != MR_OK) {
            return false;
        }
    }
    if (out->then != NULL) {
        out->then(out->then_user, out);
    }
    return true;
}

/* A member of either protocol joins the group, which may change its own for it. */
static bool join(struct mr_group_shard *shard, struct mr_str group, bool is_classic)
{
    static struct mr_coord_answer answer;
    static struct mr_str topic = {"t", 1};
    static const uint8_t subscription[] = {0, 0, 0, 0, 0, 0, 255, 255, 255, 255};
    struct mr_join_group_request_protocol protocol = {
        .name = MR_STR("range"),
        .metadata = {.data = subscription, .len = (int32_t)sizeof subscription}};
    struct mr_join_group_request classic;
    struct mr_consumer_group_heartbeat_request beat;
    struct mr_forward forward = {.api_key = is_classic ? MR_API_JOIN_GROUP
                                                       : MR_API_CONSUMER_GROUP_HEARTBEAT,
                                 .api_version = is_classic ? 3 : 1};
    struct mr_request request = {.forward = &forward, .user = &answer};
    MR_DEFAULTS(join_group_request, &classic);
    MR_DEFAULTS(consumer_group_heartbeat_request, &beat);
    classic.group_id = beat.group_id = group;
    classic.session_timeout_ms = 10000;
    classic.protocol_type = MR_STR("consumer");
    classic.protocols = &protocol;
    classic.protocols_count = 1;
    beat.member_id = MR_STR("m");
    beat.rebalance_timeout_ms = 1000;
    beat.subscribed_topic_names = &topic;
    beat.subscribed_topic_names_count = 1;
    beat.topic_partitions_count = 0;
    request.message = is_classic ? (void *)&classic : (void *)&beat;
    for (uint32_t step = 0; step < 8; step++) {
        struct mr_coord_out out;
        mr_arena_reset(&scratch);
        mr_coord_out_init(&out, &scratch,
                          (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000});
        out.step = step;
        mr_group_handle(shard, &request, &out);
        if (!apply(shard, &out)) {
            return false;
        }
        if (!out.is_again) {
            break;
        }
    }
    return true;
}

/* What a loaded shard does by itself and is asked by administrators. */
static void go_on(struct mr_group_shard *shard)
{
    struct mr_coord_out out;
    struct mr_list_groups_request list;
    struct mr_list_groups_response_listed_group listed[64];
    struct mr_describe_groups_response_described_group described;
    struct mr_consumer_group_describe_response_described_group consumers;
    mr_arena_reset(&scratch);
    mr_coord_out_init(&out, &scratch,
                      (struct mr_now){.mono_ns = MR_NS_PER_S, .unix_ms = 1700000000000});
    mr_group_loaded(shard, &out);
    MR_DEFAULTS(list_groups_request, &list);
    uint32_t count = mr_group_list(shard, 0, 1, &list, NULL, 0);
    count = mr_group_list(shard, 0, 1, &list, listed, 64);
    for (uint32_t index = 0; index < count && index < 64; index++) {
        MR_DEFAULTS(describe_groups_response_described_group, &described);
        MR_DEFAULTS(consumer_group_describe_response_described_group, &consumers);
        mr_group_describe(shard, listed[index].group_id, 6, true, &out, &described);
        mr_consumer_describe(shard, listed[index].group_id, true, &out, &consumers);
        struct mr_group *group = mr_group_find(shard, listed[index].group_id);
        mr_assert(group != NULL);
        (void)mr_offsets_expire(group, &out);
    }
    for (struct mr_table_node *node = mr_table_walk(&shard->topics, NULL); node != NULL;
         node = mr_table_walk(&shard->topics, node)) {
        (void)mr_offsets_purge(shard, MR_TABLE_ENTRY(node, struct mr_group_topic, node), &out);
    }
    struct mr_group *group = NULL;
    if (count > 0 && (group = mr_group_find(shard, listed[0].group_id)) != NULL) {
        static char id[UINT8_MAX + 1];
        struct mr_str name = {.data = id, .len = group->id.len};
        memcpy(id, group->id.data, (size_t)group->id.len);
        (void)(join(shard, name, false) && join(shard, name, true));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_log log;
    struct mr_group_shard shard;
    struct mr_script_item item;
    const uint8_t *at = data;
    enum mr_err err = MR_OK;
    if (heap.base == NULL) {
        start(&log);
    }
    mr_heap_init(&heap, heap.base, HEAP_BYTES);
    mr_assert(mr_group_shard_init(&shard, &env, 0));
    while (err == MR_OK && mr_script_next(&at, data + size, &item)) {
        err = replay(&shard, &item);
    }
    if (err == MR_OK) {
        go_on(&shard);
    }
    struct mr_coord_out out;
    mr_arena_reset(&scratch);
    mr_coord_out_init(&out, &scratch, (struct mr_now){.mono_ns = MR_NS_PER_S});
    mr_group_shard_deinit(&shard, &out, 0);
    mr_assert(heap.used_bytes == 0);
    mr_assert(timers.count == 0 && env.timers_reserved == 0);
    return 0;
}
