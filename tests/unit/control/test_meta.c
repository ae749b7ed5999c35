/*
 * meta: records replayed one by one, transactions, damaged records, and what Kafka's own format
 * tool leaves (the two arrays were written by kafka-storage 4.3.1, `format --standalone`).
 */
#include "control_private.h"
#include "control_rig.h"
#include "metadata/meta.h"
#include "metadata/meta_log.h"
#include "metadata/meta_snapshot.h"
#include "millrace/batch.h"
#include "test.h"

/* clang-format off */
static const uint8_t kafka_checkpoint[] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x19, 0x66, 0x8b, 0xe5, 0x00, 0x20, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x01, 0xa2, 0x07,
    0xee, 0x17, 0x80, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x03, 0x2a, 0x00, 0x00,
    0x00, 0x08, 0x00, 0x00, 0x00, 0x03, 0x16, 0x00, 0x00, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17,
    0x74, 0x00, 0x00, 0x1e, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x05, 0x0a, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x82, 0x01, 0x00, 0x00, 0x04, 0x08, 0x00, 0x00, 0x00, 0x06, 0x6e, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x01, 0x68, 0x6b, 0xef, 0x0a, 0xd9, 0x4e, 0x4a, 0x45, 0x86, 0x62, 0xe7,
    0x57, 0x9c, 0x0b, 0x7a, 0xd1, 0x02, 0x0b, 0x43, 0x4f, 0x4e, 0x54, 0x52, 0x4f, 0x4c, 0x4c, 0x45,
    0x52, 0x0a, 0x31, 0x32, 0x37, 0x2e, 0x30, 0x2e, 0x30, 0x2e, 0x31, 0x71, 0xa5, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00,
    0x00, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x02, 0x8f, 0x08, 0xfe, 0x63, 0x00, 0x20, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17, 0x88, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17,
    0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
    0x00, 0x00, 0x01, 0x1a, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x04, 0x06, 0x00, 0x00, 0x00,
    0x00,
};

static const uint8_t kafka_bootstrap[] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x47, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x01, 0x69, 0xfd, 0xce, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xa2, 0x07,
    0xee, 0x17, 0x4c, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17, 0x4c, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x2a, 0x00, 0x00,
    0x00, 0x08, 0x00, 0x00, 0x00, 0x03, 0x16, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0xf1, 0x00,
    0x00, 0x00, 0x00, 0x02, 0xec, 0x73, 0x24, 0x55, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00,
    0x01, 0xa2, 0x07, 0xee, 0x17, 0x66, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17, 0x66, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x06,
    0x3a, 0x00, 0x00, 0x00, 0x01, 0x2e, 0x01, 0x0c, 0x00, 0x11, 0x6d, 0x65, 0x74, 0x61, 0x64, 0x61,
    0x74, 0x61, 0x2e, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x00, 0x1e, 0x00, 0x00, 0x5a, 0x00,
    0x00, 0x02, 0x01, 0x4e, 0x01, 0x0c, 0x00, 0x21, 0x65, 0x6c, 0x69, 0x67, 0x69, 0x62, 0x6c, 0x65,
    0x2e, 0x6c, 0x65, 0x61, 0x64, 0x65, 0x72, 0x2e, 0x72, 0x65, 0x70, 0x6c, 0x69, 0x63, 0x61, 0x73,
    0x2e, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x00, 0x01, 0x00, 0x00, 0x34, 0x00, 0x00, 0x04,
    0x01, 0x28, 0x01, 0x0c, 0x00, 0x0e, 0x67, 0x72, 0x6f, 0x75, 0x70, 0x2e, 0x76, 0x65, 0x72, 0x73,
    0x69, 0x6f, 0x6e, 0x00, 0x01, 0x00, 0x00, 0x34, 0x00, 0x00, 0x06, 0x01, 0x28, 0x01, 0x0c, 0x00,
    0x0e, 0x73, 0x68, 0x61, 0x72, 0x65, 0x2e, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x00, 0x01,
    0x00, 0x00, 0x38, 0x00, 0x00, 0x08, 0x01, 0x2c, 0x01, 0x0c, 0x00, 0x10, 0x73, 0x74, 0x72, 0x65,
    0x61, 0x6d, 0x73, 0x2e, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x00, 0x01, 0x00, 0x00, 0x40,
    0x00, 0x00, 0x0a, 0x01, 0x34, 0x01, 0x0c, 0x00, 0x14, 0x74, 0x72, 0x61, 0x6e, 0x73, 0x61, 0x63,
    0x74, 0x69, 0x6f, 0x6e, 0x2e, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x00, 0x02, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x00, 0x00,
    0x02, 0xdb, 0x2e, 0xf5, 0x57, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xa2, 0x07,
    0xee, 0x17, 0x68, 0x00, 0x00, 0x01, 0xa2, 0x07, 0xee, 0x17, 0x68, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x1a, 0x00, 0x00,
    0x00, 0x08, 0x00, 0x00, 0x00, 0x04, 0x06, 0x00, 0x00, 0x00, 0x00,
};
/* clang-format on */

#define HEAP_BYTES ((size_t)32 << 20)

struct fixture {
    struct mr_heap         heap;
    struct mr_meta         meta;
    struct mr_meta_records records;
    int64_t                offset;
};

static int setup(void **state)
{
    struct fixture    *f = calloc(1, sizeof *f);
    struct mr_hash_key key = {1, 2};
    mr_heap_init(&f->heap, mr_test_memory(HEAP_BYTES), HEAP_BYTES);
    assert_true(mr_meta_init(&f->meta, &f->heap, &key));
    mr_meta_records_init(&f->records, &f->heap);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* Encode one record and replay it. */
static enum mr_err replay(struct fixture *f, const struct mr_msg *msg, int16_t version,
                          const void *record)
{
    struct mr_meta_mark mark = {0};
    struct mr_blob      value;
    size_t              at = 0;
    mr_meta_records_rewind(&f->records, mark);
    mr_meta_records_add(&f->records, msg, version, record);
    assert_false(f->records.is_failed);
    assert_true(mr_meta_records_next(&f->records, &at, &value));
    return mr_meta_replay(&f->meta, f->offset++, value);
}

static enum mr_err topic(struct fixture *f, const char *name, uint8_t id)
{
    struct mr_topic_record record = {.name = mr_str(name), .topic_id = {.bytes = {id}}};
    return replay(f, &mr_msg_topic_record, 0, &record);
}

static enum mr_err partition(struct fixture *f, uint8_t id, int32_t index)
{
    int32_t                    replicas[2] = {1, 2};
    struct mr_partition_record record;
    mr_msg_defaults(&mr_msg_partition_record, &record);
    record.topic_id = (struct mr_uuid){.bytes = {id}};
    record.partition_id = index;
    record.replicas = replicas;
    record.replicas_count = 2;
    record.isr = replicas;
    record.isr_count = 2;
    record.leader = 1;
    record.leader_epoch = 5;
    record.partition_epoch = 7;
    return replay(f, &mr_msg_partition_record, 2, &record);
}

static enum mr_err config(struct fixture *f, int8_t type, const char *resource, const char *name,
                          const char *value)
{
    struct mr_config_record record = {
        .resource_type = type,
        .resource_name = mr_str(resource),
        .name = mr_str(name),
        .value = value == NULL ? MR_STR_NULL : mr_str(value),
    };
    return replay(f, &mr_msg_config_record, 0, &record);
}

static void test_topic_partitions_in_any_order_and_removal(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(topic(f, "a", 1), MR_OK);
    assert_int_equal(topic(f, "a", 2), MR_ERR_CORRUPT);
    assert_int_equal(topic(f, "b", 1), MR_ERR_CORRUPT);
    assert_int_equal(partition(f, 1, 2), MR_OK);
    assert_int_equal(partition(f, 1, 0), MR_OK);
    assert_int_equal(partition(f, 9, 0), MR_ERR_CORRUPT);
    assert_int_equal(partition(f, 1, -1), MR_ERR_CORRUPT);
    assert_int_equal(partition(f, 1, 2000000000), MR_ERR_CORRUPT);
    struct mr_meta_topic *a = mr_meta_topic_by_name(&f->meta, MR_STR("a"));
    assert_int_equal(a->partition_count, 3);
    assert_false(a->partitions[1].is_present);
    assert_int_equal(a->partitions[2].leader_epoch, 5);
    assert_int_equal(f->meta.partition_count, 2);
    assert_int_equal(config(f, MR_META_TOPIC, "a", "retention.ms", "1"), MR_OK);
    struct mr_remove_topic_record remove = {.topic_id = {.bytes = {1}}};
    assert_int_equal(replay(f, &mr_msg_remove_topic_record, 0, &remove), MR_OK);
    assert_null(mr_meta_topic_by_name(&f->meta, MR_STR("a")));
    assert_null(mr_meta_resource(&f->meta, MR_META_TOPIC, MR_STR("a")));
    assert_int_equal(f->meta.partition_count, 0);
    assert_int_equal(replay(f, &mr_msg_remove_topic_record, 0, &remove), MR_ERR_CORRUPT);
    assert_int_equal(topic(f, "a", 3), MR_OK);
}

static void test_partition_change_merges(void **state)
{
    struct fixture *f = *state;
    topic(f, "a", 1);
    partition(f, 1, 0);
    struct mr_meta_partition *p = &mr_meta_topic_by_name(&f->meta, MR_STR("a"))->partitions[0];
    struct mr_partition_change_record record;
    int32_t                           two = 2;
    mr_msg_defaults(&mr_msg_partition_change_record, &record);
    record.topic_id = (struct mr_uuid){.bytes = {1}};
    record.partition_id = 0;
    assert_int_equal(replay(f, &mr_msg_partition_change_record, 2, &record), MR_OK);
    assert_int_equal(p->partition_epoch, 8); /* always */
    assert_int_equal(p->leader_epoch, 5);
    assert_int_equal(p->isr.count, 2);
    record.leader = 1; /* the same one begins an epoch too */
    record.isr = &two;
    record.isr_count = 1;
    assert_int_equal(replay(f, &mr_msg_partition_change_record, 2, &record), MR_OK);
    assert_int_equal(p->leader_epoch, 6);
    assert_int_equal(p->isr.count, 1);
    assert_int_equal(p->isr.ids[0], 2);
    assert_int_equal(p->replicas.count, 2);
    p->leader_epoch = p->partition_epoch = INT32_MAX;
    assert_int_equal(replay(f, &mr_msg_partition_change_record, 2, &record), MR_OK);
    assert_int_equal(p->leader_epoch, INT32_MAX);
    assert_int_equal(p->partition_epoch, INT32_MAX);
    record.partition_id = 1;
    assert_int_equal(replay(f, &mr_msg_partition_change_record, 2, &record), MR_ERR_CORRUPT);
}

static void test_configs_of_one_resource_are_sorted_and_removed_by_null(void **state)
{
    struct fixture          *f = *state;
    static const char *const names[] = {"m", "a", "z", "k", "b"};
    for (int index = 0; index < 5; index++) {
        assert_int_equal(config(f, MR_META_BROKER, "", names[index], names[index]), MR_OK);
    }
    const struct mr_meta_resource *resource =
        mr_meta_resource(&f->meta, MR_META_BROKER, MR_STR(""));
    for (uint32_t index = 1; index < resource->count; index++) {
        assert_true(
            mr_str_compare(resource->entries[index - 1].name, resource->entries[index].name) < 0);
    }
    config(f, MR_META_BROKER, "", "k", "other");
    assert_true(mr_str_equal(mr_meta_config(resource, MR_STR("k")), MR_STR("other")));
    assert_true(mr_str_is_null(mr_meta_config(resource, MR_STR("c"))));
    for (int index = 0; index < 5; index++) {
        config(f, MR_META_BROKER, "", names[index], NULL);
    }
    assert_null(mr_meta_resource(&f->meta, MR_META_BROKER, MR_STR("")));
    assert_int_equal(config(f, MR_META_BROKER, "", "never", NULL), MR_OK);
}

static void test_collision_is_by_dot_and_underscore_only(void **state)
{
    struct fixture *f = *state;
    topic(f, "a.b_c", 1);
    topic(f, "plain", 2);
    assert_non_null(mr_meta_topic_collision(&f->meta, MR_STR("a_b.c")));
    assert_non_null(mr_meta_topic_collision(&f->meta, MR_STR("a.b.c")));
    assert_null(mr_meta_topic_collision(&f->meta, MR_STR("a.b-c")));
    assert_null(mr_meta_topic_collision(&f->meta, MR_STR("plain")));
    struct mr_remove_topic_record remove = {.topic_id = {.bytes = {1}}};
    replay(f, &mr_msg_remove_topic_record, 0, &remove);
    assert_null(mr_meta_topic_collision(&f->meta, MR_STR("a_b.c")));
}

static void test_transaction_takes_effect_at_its_end_or_never(void **state)
{
    struct fixture                    *f = *state;
    struct mr_begin_transaction_record begin = {.name = MR_STR("x")};
    struct mr_end_transaction_record   end = {0};
    struct mr_abort_transaction_record abort_ = {.reason = MR_STR_NULL};
    assert_int_equal(replay(f, &mr_msg_end_transaction_record, 0, &end), MR_ERR_CORRUPT);
    assert_int_equal(replay(f, &mr_msg_begin_transaction_record, 0, &begin), MR_OK);
    assert_int_equal(replay(f, &mr_msg_begin_transaction_record, 0, &begin), MR_ERR_CORRUPT);
    topic(f, "kept", 1);
    partition(f, 1, 0);
    assert_null(mr_meta_topic_by_name(&f->meta, MR_STR("kept")));
    assert_int_equal(replay(f, &mr_msg_end_transaction_record, 0, &end), MR_OK);
    assert_int_equal(mr_meta_topic_by_name(&f->meta, MR_STR("kept"))->partition_count, 1);
    size_t used = f->heap.used_bytes;
    replay(f, &mr_msg_begin_transaction_record, 0, &begin);
    topic(f, "dropped", 2);
    assert_int_equal(replay(f, &mr_msg_abort_transaction_record, 0, &abort_), MR_OK);
    assert_null(mr_meta_topic_by_name(&f->meta, MR_STR("dropped")));
    assert_int_equal(f->heap.used_bytes, used);
    assert_false(f->meta.is_in_transaction);
}

static void test_every_truncation_of_a_record_is_refused(void **state)
{
    struct fixture *f = *state;
    topic(f, "a", 1);
    partition(f, 1, 0);
    struct mr_blob value;
    size_t         at = 0;
    assert_true(mr_meta_records_next(&f->records, &at, &value));
    for (int32_t len = 0; len < value.len; len++) {
        uint8_t *copy = malloc((size_t)len + 1);
        memcpy(copy, value.data, (size_t)len);
        enum mr_err err = mr_meta_replay(&f->meta, 99, (struct mr_blob){.data = copy, .len = len});
        assert_true(err == MR_ERR_TRUNCATED || err == MR_ERR_MALFORMED || err == MR_ERR_NO_MEMORY);
        free(copy);
    }
}

static void test_unknown_records_and_versions_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t bytes[6];
        int32_t len;
    } cases[] = {{{2, 2, 0}, 3}, {{1, 6, 0}, 3}, {{1, 100, 0}, 3}, {{1, 2, 9, 0, 0}, 5}};
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        assert_int_equal(
            mr_meta_replay(&f->meta, 0,
                           (struct mr_blob){.data = cases[index].bytes, .len = cases[index].len}),
            MR_ERR_UNSUPPORTED_VERSION);
    }
    assert_int_equal(mr_meta_replay(&f->meta, 0, MR_BLOB_NULL), MR_ERR_MALFORMED);
}

static void test_broker_registration_fence_and_epoch(void **state)
{
    struct fixture                                  *f = *state;
    struct mr_register_broker_record_broker_endpoint end = {
        .name = MR_STR("P"), .host = MR_STR("h"), .port = 65535};
    struct mr_register_broker_record record;
    mr_msg_defaults(&mr_msg_register_broker_record, &record);
    record.broker_id = 4;
    record.broker_epoch = 77;
    record.end_points = &end;
    record.end_points_count = 1;
    assert_int_equal(replay(f, &mr_msg_register_broker_record, 4, &record), MR_OK);
    record.broker_id = 2;
    assert_int_equal(replay(f, &mr_msg_register_broker_record, 4, &record), MR_OK);
    assert_int_equal(f->meta.broker_count, 2);
    assert_int_equal(f->meta.brokers[0].id, 2);
    assert_true(mr_meta_broker(&f->meta, 4)->is_fenced);
    assert_int_equal(mr_meta_broker(&f->meta, 4)->endpoints[0].port, 65535);
    struct mr_broker_registration_change_record change;
    mr_msg_defaults(&mr_msg_broker_registration_change_record, &change);
    change.broker_id = 4;
    change.broker_epoch = 76;
    change.fenced = -1;
    assert_int_equal(replay(f, &mr_msg_broker_registration_change_record, 3, &change),
                     MR_ERR_CORRUPT);
    change.broker_epoch = 77;
    assert_int_equal(replay(f, &mr_msg_broker_registration_change_record, 3, &change), MR_OK);
    assert_false(mr_meta_broker(&f->meta, 4)->is_fenced);
    struct mr_unregister_broker_record gone = {.broker_id = 2, .broker_epoch = 77};
    assert_int_equal(replay(f, &mr_msg_unregister_broker_record, 0, &gone), MR_OK);
    assert_int_equal(f->meta.broker_count, 1);
}

static void test_feature_levels(void **state)
{
    struct fixture                *f = *state;
    struct mr_feature_level_record record = {.name = MR_STR("metadata.version"),
                                             .feature_level = 30};
    replay(f, &mr_msg_feature_level_record, 0, &record);
    assert_int_equal(f->meta.metadata_version, 30);
    record = (struct mr_feature_level_record){.name = MR_STR("group.version"), .feature_level = 1};
    replay(f, &mr_msg_feature_level_record, 0, &record);
    assert_int_equal(f->meta.feature_count, 2);
    assert_int_equal(mr_meta_feature(&f->meta, MR_STR("group.version")), 1);
    record.feature_level = 0;
    replay(f, &mr_msg_feature_level_record, 0, &record);
    assert_int_equal(f->meta.feature_count, 1);
    assert_int_equal(mr_meta_feature(&f->meta, MR_STR("group.version")), 0);
}

/* ---- checkpoints ---- */

struct counted {
    uint32_t records;
};

static enum mr_err count_record(void *user, int64_t offset, struct mr_blob value)
{
    struct counted *counted = user;
    (void)offset;
    (void)value;
    counted->records++;
    return MR_OK;
}

static void test_kafka_checkpoints_are_understood_and_their_damage_is_seen(void **state)
{
    struct fixture      *f = *state;
    struct mr_meta_kraft kraft = {0};
    struct counted       counted = {0};
    int32_t              epoch = -1;
    int64_t              next = 0;
    assert_int_equal(mr_meta_snapshot_walk(&f->heap, kafka_checkpoint, sizeof kafka_checkpoint, 0,
                                           &kraft, &epoch, &next, count_record, &counted),
                     MR_OK);
    assert_int_equal(kraft.version, 1);
    assert_true(kraft.has_footer && kraft.voters_len == 55);
    assert_int_equal(counted.records, 0);
    kraft.has_footer = false;
    assert_int_equal(mr_meta_snapshot_walk(&f->heap, kafka_bootstrap, sizeof kafka_bootstrap, 0,
                                           &kraft, &epoch, &next, count_record, &counted),
                     MR_OK);
    assert_int_equal(counted.records, 6);
    assert_true(kraft.has_footer);
    for (size_t len = 1; len < sizeof kafka_bootstrap; len++) {
        kraft.has_footer = false;
        enum mr_err err = mr_meta_snapshot_walk(&f->heap, kafka_bootstrap, len, 0, &kraft, &epoch,
                                                &next, count_record, &counted);
        assert_true(err != MR_OK || !kraft.has_footer);
    }
    uint8_t copy[sizeof kafka_bootstrap];
    for (size_t at = 0; at < sizeof copy; at++) {
        memcpy(copy, kafka_bootstrap, sizeof copy);
        copy[at] ^= 0x40;
        kraft.has_footer = false;
        (void)mr_meta_snapshot_walk(&f->heap, copy, sizeof copy, 0, &kraft, &epoch, &next,
                                    count_record, &counted);
    }
    int64_t end_offset = 0;
    assert_true(mr_meta_snapshot_name_parse(MR_STR("00000000000000000123-0000000045.checkpoint"),
                                            &end_offset, &epoch));
    assert_int_equal(end_offset, 123);
    assert_int_equal(epoch, 45);
    assert_false(mr_meta_snapshot_name_parse(
        MR_STR("00000000000000000123-0000000045.checkpoint.part"), &end_offset, &epoch));
    assert_false(mr_meta_snapshot_name_parse(MR_STR("0000000000000000012x-0000000045.checkpoint"),
                                             &end_offset, &epoch));
    assert_false(mr_meta_snapshot_name_parse(MR_STR("99999999999999999999-0000000045.checkpoint"),
                                             &end_offset, &epoch));
}

static void test_start_on_what_kafka_formatted(void **state)
{
    (void)state;
    char                 line[512] = "";
    struct mr_rig_store *store = mr_rig_store_create();
    mr_sim_fs_put(store->fs, "/data/bootstrap.checkpoint", kafka_bootstrap, sizeof kafka_bootstrap);
    mr_sim_fs_put(store->fs,
                  "/data/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint",
                  kafka_checkpoint, sizeof kafka_checkpoint);
    struct mr_rig *rig = mr_rig_create(store);
    mr_rig_run(rig);
    assert_int_equal(mr_control_state(rig->control), MR_CONTROL_SERVING);
    assert_int_equal(rig->control->meta->metadata_version, 30);
    assert_int_equal(rig->image->feature_count, 6);
    assert_true(mr_sim_fs_get(store->fs, "/data/__cluster_metadata-0/quorum-state", line,
                              sizeof line - 1) > 0);
    assert_non_null(strstr(line, "\"data_version\":1}"));
    assert_non_null(strstr(line, "\"votedDirectoryId\":\"AQIDAAAAAAAAAAAAAAAAAA\""));
    /* The first batch carries kraft version and voters, once: the second start must not repeat
     * them. */
    int64_t end = mr_rig_log(store, "__cluster_metadata", 0)->end_offset;
    assert_true(rig->control->meta_log->kraft.is_in_log);
    mr_rig_destroy(rig);
    rig = mr_rig_create(store);
    mr_rig_run(rig);
    assert_int_equal(mr_control_state(rig->control), MR_CONTROL_SERVING);
    assert_int_equal(rig->control->meta_log->kraft.version, 1);
    assert_true(rig->control->meta_log->kraft.is_in_log);
    /* LEADER_CHANGE, RegisterController, RegisterBroker, unfence. */
    assert_int_equal(mr_rig_log(store, "__cluster_metadata", 0)->end_offset, end + 4);
    mr_rig_destroy(rig);
    mr_rig_store_destroy(store);
}

static void test_start_refuses_a_damaged_checkpoint(void **state)
{
    (void)state;
    struct mr_rig_store *store = mr_rig_store_create();
    mr_sim_fs_put(store->fs,
                  "/data/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint",
                  kafka_checkpoint, sizeof kafka_checkpoint - 1);
    struct mr_rig *rig = mr_rig_create(store);
    mr_rig_run(rig);
    assert_int_equal(mr_control_state(rig->control), MR_CONTROL_FAILED);
    assert_non_null(strstr(mr_control_why(rig->control), "checkpoint"));
    mr_rig_destroy(rig);
    mr_rig_store_destroy(store);
}

/* A log of a stopped Kafka broker: leaderless partitions, in all the forms in which Kafka leaves
 * them. */
static void test_start_elects_leaderless_partitions_by_kafkas_rules(void **state)
{
    struct fixture      *f = *state;
    struct mr_rig_store *store = mr_rig_store_create();
    struct mr_rig       *rig = mr_rig_create(store);
    mr_rig_run(rig);
    mr_rig_destroy(rig);
    struct {
        int32_t isr[1];
        int32_t isr_count;
        int32_t elr_count;
        int32_t last_count;
        int32_t leader; /* expected */
        int32_t recovery;
    } cases[] = {
        {{1}, 1, 0, 0, 1, 0},  {{0}, 0, 1, 0, 1, 0},  {{0}, 0, 0, 1, 1, 1},
        {{0}, 0, 0, 0, -1, 0}, {{2}, 1, 1, 0, -1, 0},
    };
    int32_t                self = 1;
    struct mr_topic_record named = {.name = MR_STR("t"), .topic_id = {.bytes = {1}}};
    mr_meta_records_add(&f->records, &mr_msg_topic_record, 0, &named);
    for (int32_t index = 0; index < 5; index++) {
        struct mr_partition_record record;
        mr_msg_defaults(&mr_msg_partition_record, &record);
        record.topic_id = named.topic_id;
        record.partition_id = index;
        record.replicas = &self;
        record.replicas_count = 1;
        record.isr = cases[index].isr;
        record.isr_count = cases[index].isr_count;
        record.eligible_leader_replicas = &self;
        record.eligible_leader_replicas_count = cases[index].elr_count;
        record.last_known_elr = &self;
        record.last_known_elr_count = cases[index].last_count;
        record.leader = -1;
        record.leader_epoch = 10;
        record.partition_epoch = 10;
        mr_meta_records_add(&f->records, &mr_msg_partition_record, 2, &record);
    }
    struct mr_rig_log *log = NULL;
    for (uint32_t index = 0; index < MR_RIG_LOGS && log == NULL; index++) {
        log = store->logs[index].is_used ? &store->logs[index] : NULL;
    }
    size_t   size = 0;
    uint32_t len = 0;
    uint8_t *batch = mr_meta_records_batch(&f->records, log->end_offset, 1, 1, &size, &len);
    log->bytes = realloc(log->bytes, log->len + len);
    memcpy(log->bytes + log->len, batch, len);
    log->len += len;
    log->size = log->len;
    log->end_offset += f->records.count;
    rig = mr_rig_create(store);
    mr_rig_run(rig);
    assert_int_equal(mr_control_state(rig->control), MR_CONTROL_SERVING);
    const struct mr_image_topic *topic_ = mr_image_topic_by_name(rig->image, MR_STR("t"));
    const struct mr_meta_topic  *meta = mr_meta_topic_by_name(rig->control->meta, MR_STR("t"));
    for (uint32_t index = 0; index < 5; index++) {
        bool is_led = cases[index].leader == 1;
        assert_int_equal(topic_->partitions[index].leader, cases[index].leader);
        assert_int_equal(topic_->partitions[index].leader_epoch, is_led ? 11 : 10);
        assert_int_equal(meta->partitions[index].recovery_state, cases[index].recovery);
        assert_int_equal(mr_rig_log(store, "t", (int32_t)index)->leader_epoch, is_led ? 11 : 10);
    }
    mr_rig_destroy(rig);
    mr_rig_store_destroy(store);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_topic_partitions_in_any_order_and_removal),
        TEST(test_partition_change_merges),
        TEST(test_configs_of_one_resource_are_sorted_and_removed_by_null),
        TEST(test_collision_is_by_dot_and_underscore_only),
        TEST(test_transaction_takes_effect_at_its_end_or_never),
        TEST(test_every_truncation_of_a_record_is_refused),
        TEST(test_unknown_records_and_versions_are_refused),
        TEST(test_broker_registration_fence_and_epoch),
        TEST(test_feature_levels),
        TEST(test_kafka_checkpoints_are_understood_and_their_damage_is_seen),
        TEST(test_start_on_what_kafka_formatted),
        TEST(test_start_refuses_a_damaged_checkpoint),
        TEST(test_start_elects_leaderless_partitions_by_kafkas_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
