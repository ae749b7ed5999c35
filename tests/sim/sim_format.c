/*
 * sim_format: what `millrace format` leaves (control/cli/cmd_format.c), straight into the simulated disk.
 */
#include "sim_broker.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"
#include "millrace/kafka/msg.h"

#define METADATA_LEVEL 33 /* 4.4-IV2 */

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

static const struct {
    const char *name;
    int16_t level;
    int16_t needs;
} features[] = {
#define FEATURE(name_, min_, max_, served_, format_level_, format_needs_)                          \
    {name_, format_level_, format_needs_},
#include "millrace/features.def"
};

/* What `millrace format` leaves (control/cli/cmd_format.c). */
void mr_sim_format(const struct mr_sim_site *site, struct mr_sim_fs *fs, int64_t now_unix_ms)
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
    uint32_t used = add(bytes, sizeof bytes, 0, 3, &mr_msg_snapshot_header_record, &header, now_unix_ms);
    int64_t offset = 1;
    used += add(bytes + used, (uint32_t)sizeof bytes - used, offset++, -1,
                &mr_msg_feature_level_record, &level, now_unix_ms);
    for (size_t at = 0; at < sizeof features / sizeof features[0]; at++) {
        level.name = mr_str(features[at].name);
        level.feature_level = features[at].level;
        if (level.feature_level > 0 && features[at].needs <= METADATA_LEVEL) {
            used += add(bytes + used, (uint32_t)sizeof bytes - used, offset++, -1,
                        &mr_msg_feature_level_record, &level, now_unix_ms);
        }
    }
    used += add(bytes + used, (uint32_t)sizeof bytes - used, offset, 4, &mr_msg_snapshot_footer_record,
                &footer, now_unix_ms);
    mr_sim_fs_put(fs,
                  MR_SIM_LOG_DIR "/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint", bytes,
                  used);
    size_t len = mr_fmt(text, sizeof text,
                        "#\ncluster.id=" MR_SIM_CLUSTER_ID
                        "\ndirectory.id=AAAAAAAAQACAAAAAAAAAAQ\nnode.id=%lld\nversion=1\n",
                        (long long)site->config.node_id);
    mr_sim_fs_put(fs, MR_SIM_LOG_DIR "/meta.properties", text, len);
}
