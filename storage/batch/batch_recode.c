/*
 * batch_recode: a producer's batch in the codec that its topic wants. The records stay byte for byte what they were, with
 * the deltas to the header's first offset and time; Kafka writes them anew, with the same meaning.
 */
#include "batch/compress.h"

#include "millrace/batch.h"

#define SLACK 4096u

bool mr_batch_recode_is_due(const struct mr_log_config *config, const struct mr_chain *chain)
{
    uint8_t scratch;
    if (config->compression_type < 0 || chain->bytes < MR_BATCH_HEADER) {
        return false;
    }
    const uint8_t *low = mr_chain_view(chain, MR_BATCH_CHECKED_AT + 1, 1, &scratch);
    return (*low & MR_BATCH_CODEC_MASK) != config->compression_type;
}

struct mr_chain mr_batch_records(const struct mr_chain *batch, struct mr_span *spans)
{
    struct mr_chain records = {.spans = spans, .bytes = batch->bytes - MR_BATCH_HEADER};
    uint32_t        skip = MR_BATCH_HEADER;
    for (uint32_t index = 0; index < batch->span_count; index++) {
        struct mr_span span = batch->spans[index];
        uint32_t       part = span.len < skip ? span.len : skip;
        skip -= part;
        if (span.len > part) {
            spans[records.span_count++] = (struct mr_span){.data = span.data + part, .len = span.len - part};
        }
    }
    return records;
}

/* The records uncompressed and in one piece. */
static enum mr_err unpack(int codec, const struct mr_chain *chain, struct mr_arena *scratch, struct mr_span *plain)
{
    struct mr_span *spans = MR_ARENA_TRY(scratch, struct mr_span, chain->span_count);
    if (spans == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    const struct mr_chain records = mr_batch_records(chain, spans);
    if (codec != MR_CODEC_NONE) {
        enum mr_err err = mr_decompress_all(codec, &records, scratch, plain);
        return err == MR_ERR_TOO_LARGE ? MR_ERR_NO_MEMORY : err;
    }
    uint8_t *copy = records.span_count == 1 ? NULL : mr_arena_try(scratch, records.bytes, 1);
    if (records.span_count == 1) {
        *plain = records.spans[0];
    } else if (copy != NULL) {
        mr_chain_copy(&records, 0, copy, records.bytes);
        *plain = (struct mr_span){.data = copy, .len = records.bytes};
    }
    return records.span_count == 1 || copy != NULL ? MR_OK : MR_ERR_NO_MEMORY;
}

/* The level that was asked for, or the next lower one whose state fits: a batch of many megabytes at zstd's last levels. */
static enum mr_err pack(const struct mr_log_config *config, const struct mr_span *plain, uint8_t *out, uint32_t room,
                        uint32_t *len, struct mr_arena *scratch)
{
    if (config->compression_type == MR_CODEC_NONE) {
        memcpy(out, plain->data, plain->len);
        *len = plain->len;
        return MR_OK;
    }
    enum mr_err err = MR_ERR_NO_MEMORY;
    for (int level = config->compression_level; err == MR_ERR_NO_MEMORY; level--) {
        err = mr_compress(config->compression_type, level, plain->data, plain->len, out, room, len, scratch);
        if (config->compression_type != MR_CODEC_ZSTD || level <= 1) {
            break;
        }
    }
    return err;
}

enum mr_err mr_batch_recode(const struct mr_log_config *config, const struct mr_chain *chain, struct mr_arena *scratch,
                            struct mr_span *out)
{
    uint8_t         header[MR_BATCH_HEADER];
    struct mr_batch batch;
    struct mr_span  plain = {0};
    uint32_t        len = 0;
    mr_batch_header_load(mr_chain_view(chain, 0, MR_BATCH_HEADER, header), &batch);
    enum mr_err err = unpack(batch.attributes & MR_BATCH_CODEC_MASK, chain, scratch, &plain);
    if (err != MR_OK) {
        return err;
    }
    uint64_t room = plain.len + (uint64_t)plain.len / 4 + SLACK; /* more than any codec adds */
    uint8_t *bytes = room > INT32_MAX ? NULL : mr_arena_try(scratch, MR_BATCH_HEADER + room, 1);
    if (bytes == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    err = pack(config, &plain, bytes + MR_BATCH_HEADER, (uint32_t)room, &len, scratch);
    if (err != MR_OK) {
        return err;
    }
    batch.attributes = (int16_t)((batch.attributes & ~MR_BATCH_CODEC_MASK) | config->compression_type);
    mr_batch_seal(&batch, bytes, MR_BATCH_HEADER + len);
    *out = (struct mr_span){.data = bytes, .len = MR_BATCH_HEADER + len};
    return MR_OK;
}
